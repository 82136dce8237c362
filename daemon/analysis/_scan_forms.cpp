// The one spacing of the normal form, and that of signatures.
//
// Between two tokens there is a gap until a rule takes it away or says what stands there. The rules of one step hold
// for all tokens before the next step begins, from left to right; most ask for the gaps that earlier ones have left.

#include "_scan.h"

namespace scan {

namespace {

enum Gap : uint8_t { kNone, kOpen, kSpace, kLine };

class Spacing {
 public:
  explicit Spacing(const Tokens &tokens) : tokens_(tokens), gaps_(tokens.size() + 1, kOpen) {
    gaps_.front() = gaps_.back() = kNone;  // at the very ends there is nothing
    singles_.reserve(tokens.size());
    for (const Text token : tokens) singles_.push_back(token.size() == 1 ? token[0] : token == "::" ? kPath : '\0');
    close_up();
  }

  std::vector<std::string> settled() {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const char c = single(i);
      if ((c == '{' || c == ';' || c == '}') && after(i) == kOpen) after(i) = kLine;
      if (c == '}' && before(i) == kOpen) before(i) = kLine;
    }
    std::vector<std::string> texts = pieces(false);
    for (std::string &text : texts) {
      size_t begin = 0, end = text.size();
      while (begin < end && is_space(text[begin])) ++begin;
      while (end > begin && is_space(text[end - 1])) --end;
      text = text.substr(begin, end - begin);
    }
    return texts;
  }

  std::vector<std::string> settled_layout() {
    for (size_t i = 0; i < tokens_.size(); ++i)
      if (tokens_[i][0] == '\n') before(i) = after(i) = kNone;
    std::vector<std::string> texts = pieces(false);
    for (std::string &text : texts)
      while (!text.empty() && (text.back() == ' ' || text.back() == '\n')) text.pop_back();
    return texts;
  }

  std::vector<std::string> tight() {
    const size_t n = tokens_.size();
    for (size_t i = 1; i < n; ++i)  // a sign: `(-x`, `= *p`, `, ...args`
      if (is_sign(tokens_[i]) && after(i) == kOpen && is_one_of(tokens_[i - 1].back(), "(,=[{"))
        after(i) = kNone;
    for (size_t i = 0; i < n; ++i)
      if (single(i) == '<' && is_open(i)) before(i) = after(i) = kNone;
    for (size_t i = 0; i < n; ++i) {
      const char last = tokens_[i].back();
      if (tokens_[i][0] == '>' && before(i) == kOpen) before(i) = kNone;
      if ((last == '*' || last == '&' || last == '@' || last == '#' || last == '~') && after(i) == kOpen)
        after(i) = kNone;
    }
    for (size_t i = 0; i < n; ++i)
      if (single(i) == '!' && is_open(i)) before(i) = kNone, after(i) = kSpace;
    for (size_t i = 0; i < n; ++i)
      if (tokens_[i] == "..." && is_open(i)) before(i) = kSpace, after(i) = kNone;
    for (size_t i = 0; i < n; ++i)
      if (tokens_[i] == "?:" && is_open(i)) before(i) = kNone, after(i) = kSpace;
    for (size_t i = 0; i + 1 < n; ++i)
      if (single(i) == '?' && is_open(i) && single(i + 1) == '(') before(i) = after(i) = kNone;
    for (size_t i = 0; i < n; ++i)
      if (single(i) == '?' && is_open(i)) before(i) = kNone, after(i) = kSpace;
    return pieces(true);
  }

 private:
  static constexpr char kPath = '\x7f';  // for `::`

  // The sign that a token is, if it is one character; most rules look for that alone.
  char single(size_t i) const { return singles_[i]; }
  uint8_t &before(size_t i) { return gaps_[i]; }
  uint8_t &after(size_t i) { return gaps_[i + 1]; }
  bool is_open(size_t i) const { return gaps_[i] == kOpen && gaps_[i + 1] == kOpen; }

  static bool is_one_of(char c, Text of) { return of.find(c) != Text::npos; }

  static bool is_sign(Text token) {
    if (token.size() == 1) return is_one_of(token[0], "-*&!~+@");
    return token == "**" || token == "...";
  }

  void close_up() {  // what both forms share
    const size_t n = tokens_.size();
    for (size_t i = 0; i < n; ++i)
      if (single(i) == '.' && is_open(i)) before(i) = after(i) = kNone;
    for (size_t i = 0; i < n; ++i) {
      const char c = single(i);
      if (c == ',' || c == ')' || c == ']' || c == ';') before(i) = kNone;
      if (c == '(' || c == '[') after(i) = kNone;
    }
    bool is_taken = false;  // the gap before: by the colon before
    for (size_t i = 0; i < n; ++i) {
      const bool is_colon = single(i) == ':' && is_open(i) && !is_taken;
      if (is_colon) before(i) = kNone;
      is_taken = is_colon;
    }
    for (size_t i = 0; i < n; ++i)
      if (single(i) == kPath && tokens_[i].size() == 2 && is_open(i)) before(i) = after(i) = kNone;
    for (size_t i = 1; i < n; ++i) {  // a call or an index, but for Go's `func (`
      if (before(i) != kOpen || (single(i) != '(' && single(i) != '[')) continue;
      const Text left = tokens_[i - 1];
      const char last = left.back();
      const bool is_callee = is(last, kWord) || is_foreign(last) || last == ']' || last == '>';
      if (is_callee && !is_func(left)) before(i) = kNone;
    }
  }

  static bool is_func(Text token) {
    if (token.size() < 4 || token.substr(token.size() - 4) != "func") return false;
    return token.size() == 4 || !is(token[token.size() - 5], kWord);
  }

  // `is_tight`: a comma before a closing bracket goes, and blanks at the ends of a piece stay where a rule set them.
  std::vector<std::string> pieces(bool is_tight) const {
    std::vector<std::string> texts(1);
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const Text token = tokens_[i];
      if (token[0] == kBreak) {
        texts.emplace_back();
        if (is_tight && gaps_[i + 1] == kSpace) texts.back() += ' ';
        continue;
      }
      std::string &text = texts.back();
      if (is_tight && token == "," && i + 1 < tokens_.size() && single(i + 1) == ')') continue;
      if (token[0] == '\n') {
        text += '\n';
        text.append(4 * (token.size() - 1), ' ');
      } else {
        text += token;
      }
      const uint8_t gap = gaps_[i + 1];
      const bool is_last = i + 1 == tokens_.size() || tokens_[i + 1][0] == kBreak;
      if (gap == kSpace || (gap == kOpen && !is_last)) text += ' ';
      if (gap == kLine && !is_last) text += '\n';
    }
    return texts;
  }

  const Tokens &tokens_;
  std::vector<uint8_t> gaps_;
  std::vector<char> singles_;
};

}  // namespace

std::vector<std::string> normal_texts(const Tokens &tokens, bool is_layout) {
  Spacing spacing(tokens);
  return is_layout ? spacing.settled_layout() : spacing.settled();
}

std::vector<std::string> tight_texts(const Tokens &tokens) { return Spacing(tokens).tight(); }

}  // namespace scan
