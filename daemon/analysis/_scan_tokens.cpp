// Takes masked code apart into tokens.

#include <array>

#include "_scan.h"

namespace scan {

namespace {

std::array<uint8_t, 256> classes() {
  std::array<uint8_t, 256> of{};
  for (const char c : {' ', '\t', '\n', '\r', '\f', '\v'}) of[static_cast<uint8_t>(c)] = kBlank;
  for (int c = 'A'; c <= 'Z'; ++c) of[c] = kIdentifierStart | kIdentifier | kWord | kUpper;
  for (int c = 'a'; c <= 'z'; ++c) of[c] = kIdentifierStart | kIdentifier | kWord | kLower;
  for (int c = '0'; c <= '9'; ++c) of[c] = kIdentifier | kWord | kDigit;
  for (int c = 0x80; c <= 0xff; ++c) of[c] = kIdentifierStart | kIdentifier;
  of['_'] = kIdentifierStart | kIdentifier | kWord;
  of['$'] = kIdentifierStart | kIdentifier;
  return of;
}

const std::array<uint8_t, 256> kTable = classes();

const char *past(const char *at, const char *end, uint8_t of) {
  while (at < end && is(*at, of)) ++at;
  return at;
}

size_t operator_size(const char *at, const char *end) {
  const size_t left = static_cast<size_t>(end - at);
  const char next = left > 1 ? at[1] : '\0';
  const char third = left > 2 ? at[2] : '\0';
  switch (*at) {
    case '-':
      return next == '>' || next == '=' || next == '-' ? 2 : 1;
    case '=':
      return next == '>' || next == '=' ? 2 : 1;
    case ':':
      return next == ':' || next == '=' ? 2 : 1;
    case '&':
    case '|':
    case '+':
      return next == *at || next == '=' ? 2 : 1;
    case '*':
    case '/':
      return next == '=' ? 2 : next == *at ? (third == '=' ? 3 : 2) : 1;
    case '%':
    case '^':
    case '!':
    case '>':
      return next == '=' ? 2 : 1;
    case '<':
      return next == '=' || next == '-' ? 2 : next == '<' ? (third == '=' ? 3 : 2) : 1;
    case '.':
      return next == '.' ? (third == '.' || third == '=' ? 3 : 2) : 1;
    case '?':
      return next == '.' || next == ':' ? 2 : next == '?' ? (third == '=' ? 3 : 2) : 1;
    default:
      return 1;
  }
}

// `has_lifetimes`: an apostrophe before a name is part of it (Rust; elsewhere it begins a literal, which is masked).
void append(const char *at, const char *end, bool has_lifetimes, Tokens &tokens) {
  for (;;) {
    at = past(at, end, kBlank);
    if (at >= end) return;
    const char *next = at;
    if (is(*at, kIdentifierStart)) {
      next = past(at + 1, end, kIdentifier);
    } else if (is(*at, kDigit)) {
      next = past(at + 1, end, kWord);
      if (next + 1 < end && *next == '.' && is(next[1], kDigit)) next = past(next + 2, end, kWord);
    } else if (has_lifetimes && *at == '\'' && at + 1 < end && is(at[1], kWord) && !is(at[1], kDigit)) {
      next = past(at + 2, end, kWord);
    } else {
      next = at + operator_size(at, end);
    }
    tokens.emplace_back(at, static_cast<size_t>(next - at));
    at = next;
  }
}

constexpr size_t kDeepest = 100;  // levels of indentation that are told apart
const std::string kLevels = "\n" + std::string(kDeepest, '\t');
const char kBreakText[] = {kBreak};

size_t width_of(Text indent) {  // len(indent.expandtabs())
  size_t width = 0, column = 0;
  for (const char c : indent) {
    const size_t step = c == '\t' ? 8 - column % 8 : 1;
    width += step;
    column = c == '\r' ? 0 : column + step;
  }
  return width;
}

}  // namespace

const uint8_t *const kClasses = kTable.data();

bool is_ascii(Text text) {
  for (const char c : text)
    if (is_foreign(c)) return false;
  return true;
}

void append_tokens(Text masked, Tokens &tokens) { append(masked.data(), masked.data() + masked.size(), true, tokens); }

void append_break(Tokens &tokens) { tokens.emplace_back(kBreakText, 1); }

// Logical lines: one that is inside of brackets goes on with the line before, empty ones are none.
void append_layout_tokens(Text masked, Tokens &tokens) {
  std::vector<size_t> levels;
  Py_ssize_t depth = 0;  // of open brackets
  for (size_t start = 0; start <= masked.size();) {
    size_t line_end = masked.find('\n', start);
    if (line_end == Text::npos) line_end = masked.size();
    const Text line = masked.substr(start, line_end - start);
    start = line_end + 1;
    size_t begin = 0, end = line.size();
    while (begin < end && is_space(line[begin])) ++begin;
    while (end > begin && is_space(line[end - 1])) --end;
    if (begin == end) continue;
    if (depth == 0) {
      const size_t indent = width_of(line.substr(0, begin));
      while (!levels.empty() && indent < levels.back()) levels.pop_back();
      if (levels.empty() || indent > levels.back()) levels.push_back(indent);
      tokens.emplace_back(kLevels.data(), 1 + (levels.size() < kDeepest ? levels.size() : kDeepest));
    }
    append(line.data() + begin, line.data() + end, false, tokens);
    for (const char c : line) {
      if (c == '(' || c == '[' || c == '{') ++depth;
      if (c == ')' || c == ']' || c == '}') --depth;
    }
    if (depth < 0) depth = 0;
  }
}

}  // namespace scan
