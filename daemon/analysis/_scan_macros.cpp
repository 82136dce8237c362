// Where the macros of C and C++ could be that the parser shall not see, and where their conditionals stand: see
// dialects/cpp_macros.py and dialects/cpp_conditionals.py.

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

namespace {

// Reads C and C++ from the beginning for the lines of conditionals and what stands around them.
class Conditionals {
 public:
  explicit Conditionals(Text raw) : raw_(raw) {}

  std::vector<Conditional> find() {
    while (at_ < raw_.size()) {
      const char c = raw_[at_];
      if (c == '\n') {
        is_line_start_ = true;
        ++at_;
      } else if (is(c, kBlank) || (c == '\\' && is(peek(1), kBlank))) {
        ++at_;
      } else if (c == '#' && is_line_start_) {
        take_directive();
      } else if (c == '/' && (peek(1) == '/' || peek(1) == '*')) {
        skip_comment();
      } else {
        take_code(c);
      }
    }
    return std::move(found_);
  }

 private:
  char peek(size_t ahead) const { return at_ + ahead < raw_.size() ? raw_[at_ + ahead] : '\0'; }

  bool is_word(Text word, size_t at) const {
    return raw_.substr(at, word.size()) == word && (at + word.size() == raw_.size() || !is(raw_[at + word.size()], kWord));
  }

  void skip_comment() {
    if (peek(1) == '*') {
      const size_t end = raw_.find("*/", at_ + 2);
      at_ = end == Text::npos ? raw_.size() : end + 2;
      return;
    }
    skip_line();
  }

  // To the end of a line that may go on in the next.
  void skip_line() {
    while (at_ < raw_.size() && raw_[at_] != '\n') {
      if (raw_[at_] == '\\') {
        if (peek(1) == '\r') ++at_;
        if (peek(1) == '\n') ++at_;
      }
      ++at_;
    }
    at_ = std::min(at_, raw_.size());
  }

  void take_directive() {
    size_t start = at_, word = at_ + 1;
    while (start > 0 && (raw_[start - 1] == ' ' || raw_[start - 1] == '\t')) --start;
    while (word < raw_.size() && (raw_[word] == ' ' || raw_[word] == '\t')) ++word;
    skip_line();
    for (const Text of : {"if", "ifdef", "ifndef", "elif", "else", "endif"}) {
      if (!is_word(of, word)) continue;
      const bool is_between = n_open_ == 0 && is_ended_;
      found_.push_back({start, at_, of, is_between ? depth_ : -1});
      if (is_between) ++n_waiting_;
    }
  }

  void take_code(char c) {
    is_line_start_ = false;
    const bool goes_on = !is(c, kWord) && !is_foreign(c) && std::strchr("{}~*(:;[@", c) == nullptr;
    if (n_waiting_ > 0 && (goes_on || is_word("else", at_) || is_word("catch", at_) || is_word("while", at_)))
      for (size_t i = found_.size() - n_waiting_; i < found_.size(); ++i) found_[i].depth = -1;
    n_waiting_ = 0;
    const bool is_first = is_ended_, is_called = call_ == kCalled;
    is_ended_ = c == ';' || c == '{' || c == '}' || c == ':';
    if (c == '"' || (c == '\'' && !(at_ > 0 && is(raw_[at_ - 1], kWord)))) {
      for (++at_; at_ < raw_.size() && raw_[at_] != c && raw_[at_] != '\n'; ++at_)
        if (raw_[at_] == '\\' && at_ + 1 < raw_.size()) ++at_;
      at_ += at_ < raw_.size() && raw_[at_] == c;
      return;
    }
    if (is(c, kWord)) {
      const size_t begin = at_;
      while (at_ < raw_.size() && is(raw_[at_], kWord)) ++at_;
      const Text word = raw_.substr(begin, at_ - begin);
      if (n_open_ == 0) call_ = is_first && std::none_of(word.begin(), word.end(), [](char of) { return is(of, kLower); }) ? kNamed : kNone;
      return;
    }
    if (n_open_ == 0) call_ = c == '(' && call_ == kNamed ? kCalled : kNone;
    if (c == '(' || c == '[') ++n_open_;
    if ((c == ')' || c == ']') && n_open_ > 0) --n_open_;
    if (is_called && n_open_ == 0) is_ended_ = true;
    depth_ += (c == '{') - (c == '}');
    if (depth_ < 0) depth_ = 0;
    ++at_;
  }

  const Text raw_;
  size_t at_ = 0;
  bool is_line_start_ = true;
  bool is_ended_ = true;  // no statement has begun that has not ended; a macro's call that begins one is all of it
  enum { kNone, kNamed, kCalled } call_ = kNone;
  Py_ssize_t n_open_ = 0, depth_ = 0;
  size_t n_waiting_ = 0;  // the last ones that are yet to see what comes after them
  std::vector<Conditional> found_;
};

}  // namespace

std::vector<Conditional> conditionals(Text raw) { return Conditionals(raw).find(); }

}  // namespace scan
