// Where the macros of C and C++ could be that the parser shall not see: see dialects/cpp_macros.py.

#include <algorithm>

#include "_scan.h"

namespace scan {

namespace {

constexpr size_t kMaxGap = 1'000;  // blanks between a keyword and a macro

bool is_capital(char c) { return is(c, kUpper) || c == '_'; }

bool ends_with(Text text, Text ending) {
  return text.size() >= ending.size() && text.substr(text.size() - ending.size()) == ending;
}

template <size_t n>
bool ends_with_any(Text text, const Text (&endings)[n]) {
  return std::any_of(endings, endings + n, [&](Text ending) { return ends_with(text, ending); });
}

constexpr Text kKeywords[] = {"class", "struct", "union", "enum"};
constexpr Text kStorage[] = {"extern", "static", "inline"};
constexpr Text kLockWords[] = {"GUARDED_BY", "LOCK",    "NO_THREAD_SAFETY", "EXCLUDES",  "REQUIRES",
                               "ACQUIRE",    "RELEASE", "ASSERT",           "CAPABILITY"};

// `ABC`, `ABC (x, y)`: whether nothing but blanks is between that and `;` or `{`.
bool is_before_end(Text raw, size_t at) {
  const auto skip = [&](auto is_skipped) {
    while (at < raw.size() && is_skipped(raw[at])) ++at;
  };
  const size_t word_end = at;
  skip([](char c) { return c == ' ' || c == '\t'; });
  if (at < raw.size() && raw[at] == '(') {
    ++at;
    skip([](char c) { return c != ';' && c != '{' && c != '}' && c != '(' && c != ')'; });
    if (at == raw.size() || raw[at] != ')') return false;
    ++at;
  } else {
    at = word_end;
  }
  skip([](char c) { return is(c, kBlank); });
  return at < raw.size() && (raw[at] == ';' || raw[at] == '{');
}

void add(std::vector<size_t> &starts, size_t start) {
  if (starts.empty() || starts.back() < start) starts.push_back(start);
}

}  // namespace

MacroStarts macro_starts(Text raw) {
  MacroStarts found;
  size_t line = 0, line_end = 0, searched = 0;
  bool is_new = true, is_closed = false;  // a bracket closes in the line before the word
  for (size_t at = 0; at < raw.size();) {
    if (!is_capital(raw[at])) {
      ++at;
      continue;
    }
    size_t end = at + 1;
    while (end < raw.size() && (is_capital(raw[end]) || is(raw[end], kDigit))) ++end;
    const size_t begin = at;
    at = end;
    if (end - begin < 4) continue;
    if (begin > 0 && !is(raw[begin - 1], kBlank) && raw[begin - 1] != '*') continue;
    if (is_new || begin > line_end) {
      const size_t before = begin == 0 ? Text::npos : raw.rfind('\n', begin - 1);
      line = before == Text::npos ? 0 : before + 1;
      line_end = std::min(raw.find('\n', begin), raw.size());
      is_new = is_closed = false;
      searched = line;
    }
    is_closed = is_closed || raw.substr(searched, begin - searched).find(')') != Text::npos;
    searched = begin;
    const size_t gap = std::max(line, begin > kMaxGap ? begin - kMaxGap : 0);
    Text before = raw.substr(gap, begin - gap);
    while (!before.empty() && (before.back() == ' ' || before.back() == '\t')) before.remove_suffix(1);
    for (const Text keyword : kKeywords)
      if (ends_with(before, keyword)) found.classes.push_back(gap + before.size() - keyword.size());
    if (before.empty() || ends_with_any(before, kStorage)) add(found.leading, line);
    if (!before.empty() && (is(raw[line], kUpper | kLower) || raw[line] == '_')) add(found.inner, line);
    if (is_before_end(raw, end)) {
      if (is_closed) {
        add(found.tails, line);
      } else if (line == begin) {
        const size_t above = begin < 2 ? Text::npos : raw.rfind('\n', begin - 2);
        add(found.tails, above == Text::npos ? 0 : above + 1);
      }
    }
    size_t blanks = begin;
    while (blanks > 0 && is(raw[blanks - 1], kBlank)) --blanks;
    if (blanks == begin || blanks == 0) continue;
    const char left = raw[blanks - 1];
    if (!is(left, kWord) && left != ')' && left != ']' && left != '>') continue;
    const Text word = raw.substr(begin, end - begin);
    if (std::any_of(std::begin(kLockWords), std::end(kLockWords), [&](Text part) { return word.find(part) != Text::npos; }))
      found.locks.push_back(blanks);
  }
  return found;
}

}  // namespace scan
