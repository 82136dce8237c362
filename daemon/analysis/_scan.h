// What the parts of the compiled module `_scan` share. Each part is told about in _scan.pyi.
//
// All text is Latin-1, as in normal.py: one byte is one character. Nothing here keeps state between calls.

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace scan {

using Text = std::string_view;

constexpr char kPlaceholder = '\x01';  // normal.PLACEHOLDER
constexpr char kBreak = '\x02';        // between the pieces of a file that are normalised together

// Thrown where a Python exception is set already; every entry point turns it into that.
struct PythonError {};

// An owned reference.
class Owned {
 public:
  explicit Owned(PyObject *object) : object_(object) {
    if (object == nullptr) throw PythonError();
  }
  ~Owned() { Py_XDECREF(object_); }
  Owned(const Owned &) = delete;
  Owned &operator=(const Owned &) = delete;
  Owned(Owned &&other) noexcept : object_(other.object_) { other.object_ = nullptr; }
  Owned &operator=(Owned &&other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  PyObject *get() const { return object_; }
  PyObject *release() {
    PyObject *object = object_;
    object_ = nullptr;
    return object;
  }

 private:
  PyObject *object_;
};

struct Span {
  Py_ssize_t start, end;
};

// --- _scan_module.cpp: arguments and results

[[noreturn]] void bad(const char *message);  // ValueError
Text latin(PyObject *text, const char *name);
Py_ssize_t integer(PyObject *number);
Owned fast(PyObject *sequence, const char *message);
Span span_of(PyObject *pair, Py_ssize_t limit);
std::vector<Span> spans_of(PyObject *sequence, Py_ssize_t limit);
Owned unicode(Text text);
std::string with_line_ends(std::string text);  // each one LF
Owned readable(std::string text, bool has_return);

std::string utf8(PyObject *text);
void append_part(std::string &to, const std::string &part);  // as records.digest does: its length and itself

// --- characters

enum : uint8_t { kBlank = 1, kIdentifierStart = 2, kIdentifier = 4, kWord = 8, kDigit = 16, kUpper = 32, kLower = 64 };
extern const uint8_t *const kClasses;  // 256 of them

inline bool is(char c, uint8_t classes) { return (kClasses[static_cast<uint8_t>(c)] & classes) != 0; }
inline bool is_foreign(char c) { return static_cast<uint8_t>(c) >= 0x80; }
inline bool is_space(char c) {  // for `str.strip`
  const auto byte = static_cast<uint8_t>(c);
  return is(c, kBlank) || (byte >= 0x1c && byte <= 0x1f) || byte == 0x85 || byte == 0xa0;
}
bool is_ascii(Text text);

// --- _scan_tokens.cpp

using Tokens = std::vector<Text>;

void append_tokens(Text masked, Tokens &tokens);
void append_layout_tokens(Text masked, Tokens &tokens);  // line ends and indentation are tokens
void append_break(Tokens &tokens);

// --- _scan_forms.cpp

// The texts of the pieces that BREAKs divide; PLACEHOLDERs are still in them.
std::vector<std::string> normal_texts(const Tokens &tokens, bool is_layout);
std::vector<std::string> tight_texts(const Tokens &tokens);

// --- _scan_words.cpp

constexpr size_t kMaxText = 16'000;  // words.MAX_TEXT

class Words {  // joined by blanks
 public:
  // `foreign`: a token that is not all ASCII -> its words. Of a text that is cut anyway, no more than `limit` bytes
  // and one word are found.
  Words(PyObject *foreign, size_t limit) : foreign_(foreign), limit_(limit) {}
  void add_identifier(Text token);  // ASCII
  void add_latin(Text token);       // of code
  void add_text(PyObject *text);    // prose
  void add_found(Text words);
  void begin_prose();
  bool is_full() const { return text_.size() > limit_; }
  const std::string &text() const { return text_; }

 private:
  void add_foreign(PyObject *token);
  void separate();
  PyObject *foreign_;
  size_t limit_;
  std::string text_;  // UTF-8
  bool is_open_ = false;
};

std::string stem(Text word);

// --- _scan_docs.cpp

Owned clean(PyObject *comments);

// --- _scan_macros.cpp

struct MacroStarts {
  std::vector<size_t> classes, leading, inner, tails, locks;
};

MacroStarts macro_starts(Text raw);

struct Conditional {
  size_t start, end;
  Text word;
  Py_ssize_t depth;  // of braces; -1: in the middle of a statement
};

std::vector<Conditional> conditionals(Text raw);

}  // namespace scan
