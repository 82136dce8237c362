// The text of doc comments and doc strings without their markers: `/** ... */`, `///`, `//!`, `#`, triple quotes, C#'s
// XML tags.

#include <algorithm>

#include "_scan.h"

namespace scan {

namespace {

using Doc = std::u32string;
using Lines = std::vector<Doc>;

constexpr size_t kMaxDoc = 2'000;  // characters
constexpr auto npos = Doc::npos;

bool is_blank(char32_t c) { return Py_UNICODE_ISSPACE(static_cast<Py_UCS4>(c)); }
bool is_letter(char32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

Doc stripped_right(Doc text) {
  while (!text.empty() && is_blank(text.back())) text.pop_back();
  return text;
}

size_t indent_of(const Doc &text) {
  size_t n = 0;
  while (n < text.size() && is_blank(text[n])) ++n;
  return n;
}

Doc stripped(const Doc &text) { return stripped_right(text.substr(indent_of(text))); }

Lines lines_of(const Doc &text) {
  Lines lines;
  for (size_t at = 0;;) {
    const size_t end = text.find(U'\n', at);
    lines.push_back(text.substr(at, end == npos ? npos : end - at));
    if (end == npos) return lines;
    at = end + 1;
  }
}

Doc joined(const Lines &lines) {
  Doc text;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) text += U'\n';
    text += lines[i];
  }
  return text;
}

// Takes away the indentation that all lines from `first` on share, but for empty ones.
void dedent(Lines &lines, size_t first) {
  size_t margin = 1'000;
  for (size_t i = first; i < lines.size(); ++i)
    if (!lines[i].empty()) margin = std::min(margin, indent_of(lines[i]));
  if (margin == 0) return;
  for (size_t i = first; i < lines.size(); ++i) lines[i].erase(0, margin);
}

Doc expanded(const Doc &line) {
  if (line.find(U'\t') == npos) return line;
  Doc text;
  size_t column = 0;
  for (const char32_t c : line) {
    const size_t n = c == '\t' ? 8 - column % 8 : 1;
    text.append(n, c == '\t' ? U' ' : c);
    column = c == '\r' ? 0 : column + n;
  }
  return text;
}

Doc without_block_marks(Doc text) {
  const size_t begin = text.find_first_not_of(U"/*!<");
  text = begin == npos ? Doc() : text.substr(begin);
  if (text.size() >= 2 && text.compare(text.size() - 2, 2, U"*/") == 0) text.resize(text.size() - 2);
  const size_t last = text.find_last_not_of(U"*/ \t");
  text.resize(last == npos ? 0 : last + 1);
  Lines lines = lines_of(text);
  for (size_t i = 0; i < lines.size(); ++i) {
    Doc &line = lines[i];
    const size_t star = line.find_first_not_of(U" \t");
    if (star != npos && line[star] == '*' && line.compare(star + 1, 1, U"/") != 0)
      line.erase(0, star + 1 + (line.compare(star + 1, 1, U" ") == 0));
    line = i == 0 ? stripped(line) : stripped_right(std::move(line));
  }
  dedent(lines, 1);
  return joined(lines);
}

Doc without_line_mark(Doc text) {
  size_t n = 2;
  if (text[0] == '#') {
    n = std::min(text.find_first_not_of(U'#'), text.size());
    n += text.compare(n, 1, U"!") == 0;
  } else if (text[0] == '/') {
    n += text.compare(2, 1, U"/") == 0 || text.compare(2, 1, U"!") == 0;
  }
  n += text.compare(n, 1, U" ") == 0;
  text.erase(0, n);
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n')) text.pop_back();
  return text;
}

// What stands between the quotes of a string.
Doc content_of(const Doc &text) {
  const size_t begin = static_cast<size_t>(std::find_if_not(text.begin(), text.end(), is_letter) - text.begin());
  if (begin < text.size() && (text[begin] == '"' || text[begin] == '\'')) {
    for (const size_t n : {3, 1}) {
      const Doc quotes(n, text[begin]);
      if (text.compare(begin, n, quotes) != 0) continue;
      const size_t end = text.rfind(quotes);
      if (end >= begin + n) return text.substr(begin + n, end - begin - n);
    }
  }
  const Doc marks = U"rRuUbBfF\"'";
  const size_t first = text.find_first_not_of(marks);
  return first == npos ? Doc() : text.substr(first, text.find_last_not_of(marks) + 1 - first);
}

Doc unmarked(const Doc &comment) {
  if (comment.compare(0, 2, U"/*") == 0) return without_block_marks(comment);
  if (comment.compare(0, 2, U"//") == 0 || comment.compare(0, 1, U"#") == 0 || comment.compare(0, 2, U"--") == 0)
    return without_line_mark(comment);
  Lines lines = lines_of(content_of(comment));
  lines[0] = stripped(lines[0]);
  for (size_t i = 1; i < lines.size(); ++i) lines[i] = expanded(stripped_right(std::move(lines[i])));
  dedent(lines, 1);
  return joined(lines);
}

// `<see cref="T:A.B"/>` says A.B. The end of such a tag at `at`, and its name; or `at`.
size_t past_named_tag(const Doc &text, size_t at, Doc &name) {
  size_t begin = npos;
  for (const Doc &of : {Doc(U"<see"), Doc(U"<paramref"), Doc(U"<typeparamref")})
    if (text.compare(at, of.size(), of) == 0) begin = at + of.size();
  if (begin == npos || begin == text.size() || !is_blank(text[begin])) return at;
  for (size_t quote = text.find_first_of(U"<>\"", begin + 1); quote != npos; quote = text.find_first_of(U"<>\"", quote + 1)) {
    if (text[quote] != '"') return at;
    const size_t close = text.find(U'"', quote + 1);
    if (close == npos) return at;
    size_t end = close + 1;
    while (end < text.size() && is_blank(text[end])) ++end;
    end += text.compare(end, 1, U"/") == 0;
    if (text.compare(end, 1, U">") != 0) continue;
    name = text.substr(quote + 1, close - quote - 1);
    if (name.size() >= 2 && name[0] >= 'A' && name[0] <= 'Z' && name[1] == ':') name.erase(0, 2);
    return end + 1;
  }
  return at;
}

Doc without_named_tags(const Doc &text) {
  Doc found, name;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text[at] == '<' ? past_named_tag(text, at, name) : at;
    if (end > at)
      found += name;
    else
      found += text[at];
    at = end > at ? end : at + 1;
  }
  return found;
}

Doc without_tags(const Doc &text) {
  Doc found;
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '<') {
      const size_t name = at + 1 + (text.compare(at + 1, 1, U"/") == 0);
      if (name < text.size() && is_letter(text[name])) {
        const size_t end = text.find_first_of(U"<>", name);
        if (end != npos && text[end] == '>') {
          found += U' ';
          at = end + 1;
          continue;
        }
      }
    }
    found += text[at++];
  }
  return found;
}

Doc squeezed(const Doc &line) {  // " ".join(line.split())
  Doc found;
  for (size_t at = 0; at < line.size();) {
    if (is_blank(line[at])) {
      ++at;
      continue;
    }
    if (!found.empty()) found += U' ';
    while (at < line.size() && !is_blank(line[at])) found += line[at++];
  }
  return found;
}

bool is_ornament(const Doc &line) {
  constexpr std::u32string_view marks = U"*=-_#/~+.";
  if (line.empty() || (line[0] != ' ' && marks.find(line[0]) == npos)) return false;
  return std::all_of(line.begin(), line.end(), [&](char32_t c) { return is_blank(c) || marks.find(c) != npos; });
}

Doc unicode_of(PyObject *text) {
  if (!PyUnicode_Check(text)) bad("a comment must be a str");
  const Py_ssize_t size = std::min(PyUnicode_GET_LENGTH(text), static_cast<Py_ssize_t>(4 * kMaxDoc));
  Doc found(static_cast<size_t>(size), U' ');
  const auto kind = PyUnicode_KIND(text);
  const void *const data = PyUnicode_DATA(text);
  for (Py_ssize_t i = 0; i < size; ++i) found[static_cast<size_t>(i)] = PyUnicode_READ(kind, data, i);
  return found;
}

}  // namespace

Owned clean(PyObject *comments) {
  const Owned given = fast(comments, "comments must be a sequence");
  Lines all;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(given.get()); ++i)
    all.push_back(unmarked(unicode_of(PySequence_Fast_GET_ITEM(given.get(), i))));
  Doc text = joined(all);
  if (text.find(U"</") != npos || text.find(U"/>") != npos) {
    text = without_tags(without_named_tags(text));
    Lines lines = lines_of(text);
    for (Doc &line : lines) line = squeezed(line);
    text = joined(lines);
  }
  Lines lines = lines_of(text);
  for (Doc &line : lines) line = stripped_right(std::move(line));
  dedent(lines, 0);
  for (Doc &line : lines)
    if (is_ornament(line)) line.clear();
  text = stripped(joined(lines));
  for (size_t at = text.find(U"\n\n\n"); at != npos; at = text.find(U"\n\n\n", at)) {
    const size_t end = std::min(text.find_first_not_of(U'\n', at), text.size());
    text.erase(at + 2, end - at - 2);
  }
  if (text.size() > kMaxDoc) text.resize(kMaxDoc);
  text = stripped_right(std::move(text));
  return Owned(PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, text.data(), static_cast<Py_ssize_t>(text.size())));
}

}  // namespace scan
