// Words of code and prose for the word index: see words.py for what they are.

#include "_scan.h"

namespace scan {

namespace {

constexpr size_t kMaxWord = 64;  // words.MAX_WORD

char lower(char c) { return is(c, kUpper) ? static_cast<char>(c + ('a' - 'A')) : c; }

bool is_letter(char c) { return is(c, kUpper | kLower); }

bool is_alnum(char c) { return is(c, kUpper | kLower | kDigit); }

bool ends_with(Text word, Text ending) {
  return word.size() >= ending.size() && word.substr(word.size() - ending.size()) == ending;
}

struct Ending {
  Text ending, instead;
  size_t least;  // what it must leave
};

constexpr Ending kEndings[] = {{"ies", "y", 3}, {"sses", "ss", 2}, {"ing", "", 4},
                               {"ed", "", 4},   {"es", "", 4},     {"s", "", 3}};

// The next part of an identifier from `at` on: `parse`, `HTTP` (before `Request`), `Request`, `2`; empty at its end.
Text next_part(Text whole, size_t at) {
  while (at < whole.size() && !is_alnum(whole[at])) ++at;
  if (at == whole.size()) return {};
  size_t end = at;
  if (is(whole[at], kDigit)) {
    while (end < whole.size() && is(whole[end], kDigit)) ++end;
    return whole.substr(at, end - at);
  }
  while (end < whole.size() && is(whole[end], kUpper)) ++end;
  const bool is_before_small = end < whole.size() && is(whole[end], kLower);
  if (end - at > 1 && is_before_small) return whole.substr(at, end - 1 - at);
  if (is_before_small)
    while (end < whole.size() && is(whole[end], kLower)) ++end;
  return whole.substr(at, end - at);
}

size_t past(Text whole, Text part) { return static_cast<size_t>(part.data() - whole.data()) + part.size(); }

bool is_word(Py_UCS4 c) { return c == '_' || Py_UNICODE_ISALNUM(c); }

}  // namespace

// A lower-case ASCII word without its English ending.
std::string stem(Text word) {
  std::string found(word);
  if (found.size() < 4) return found;
  for (const char c : found)
    if (!is_letter(c)) return found;
  for (const Ending &one : kEndings) {
    if (!ends_with(found, one.ending) || found.size() - one.ending.size() < one.least) continue;
    if (one.ending == "s" && ends_with(found, "ss")) continue;
    found.replace(found.size() - one.ending.size(), Text::npos, one.instead);
    if (one.ending == "ing" || one.ending == "ed") {
      const char last = found.back();
      if (last == found[found.size() - 2] && last != 'l' && last != 's' && last != 'z') found.pop_back();  // "stopped"
    }
    break;
  }
  if (found.size() > 4 && found.back() == 'e') found.pop_back();
  return found;
}

void Words::begin_prose() {  // there is a blank before it, whether or not code has words
  text_ += ' ';
  is_open_ = false;
}

void Words::add_found(Text words) {
  if (words.empty()) return;
  separate();
  text_ += words;
}

void Words::separate() {
  if (is_open_) text_ += ' ';
  is_open_ = true;
}

void Words::add_identifier(Text token) {
  size_t begin = 0, end = token.size();
  const auto is_edge = [](char c) { return c == '_' || c == '$' || c == '@'; };
  while (begin < end && is_edge(token[begin])) ++begin;
  while (end > begin && is_edge(token[end - 1])) --end;
  if (begin == end || !is_alnum(token[begin])) return;
  const Text whole = token.substr(begin, end - begin < kMaxWord ? end - begin : kMaxWord);
  char low[kMaxWord];
  for (size_t i = 0; i < whole.size(); ++i) low[i] = lower(whole[i]);
  const Text low_whole(low, whole.size());
  const Text first = next_part(whole, 0);
  Text part = next_part(whole, past(whole, first));
  if (part.empty()) return add_found(stem(low_whole));
  add_found(low_whole);
  for (part = first; !part.empty(); part = next_part(whole, past(whole, part)))
    add_found(stem(low_whole.substr(static_cast<size_t>(part.data() - whole.data()), part.size())));
}

void Words::add_foreign(PyObject *token) {
  const Owned found(PyObject_GetItem(foreign_, token));
  Py_ssize_t size = 0;
  const char *const words = PyUnicode_AsUTF8AndSize(found.get(), &size);
  if (words == nullptr) throw PythonError();
  add_found(Text(words, static_cast<size_t>(size)));
}

void Words::add_latin(Text token) {
  if (is_ascii(token)) return add_identifier(token);
  const Owned proper(PyUnicode_DecodeUTF8(token.data(), static_cast<Py_ssize_t>(token.size()), "replace"));
  if (PyUnicode_IsIdentifier(proper.get())) add_foreign(proper.get());
}

// What begins with a letter or a digit, and goes on with these and underscores.
void Words::add_text(PyObject *text) {
  const Py_ssize_t size = PyUnicode_GET_LENGTH(text);
  if (PyUnicode_IS_ASCII(text)) {
    const Text ascii(reinterpret_cast<const char *>(PyUnicode_1BYTE_DATA(text)), static_cast<size_t>(size));
    for (size_t at = 0; at < ascii.size() && !is_full();) {
      if (!is_alnum(ascii[at])) {
        ++at;
        continue;
      }
      const size_t begin = at;
      while (at < ascii.size() && is(ascii[at], kWord)) ++at;
      add_identifier(ascii.substr(begin, at - begin));
    }
    return;
  }
  const auto kind = PyUnicode_KIND(text);
  const void *const data = PyUnicode_DATA(text);
  std::string token;
  for (Py_ssize_t at = 0; at < size && !is_full();) {
    const Py_UCS4 first = PyUnicode_READ(kind, data, at);
    if (first == '_' || !is_word(first)) {
      ++at;
      continue;
    }
    const Py_ssize_t begin = at;
    bool is_plain = true;
    token.clear();
    for (; at < size; ++at) {
      const Py_UCS4 c = PyUnicode_READ(kind, data, at);
      if (!is_word(c)) break;
      is_plain = is_plain && c < 0x80;
      if (is_plain) token += static_cast<char>(c);
    }
    if (is_plain) {
      add_identifier(token);
    } else {
      const Owned foreign(PyUnicode_Substring(text, begin, at));
      add_foreign(foreign.get());
    }
  }
}

}  // namespace scan
