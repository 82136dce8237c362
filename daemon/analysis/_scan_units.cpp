// What the fingerprints of a file's units are taken of: normal text, shape and words, for all of them at once.

#include "_scan_units.h"

#include <deque>

namespace scan {

namespace {

// The different tokens of a file, and what is known of each.
class Vocabulary {
 public:
  struct Entry {
    Text token;
    Text symbol;  // in a shape; empty for a name
    std::string words;
    size_t unit = 0;  // from 1: the last one in which it was numbered
    size_t number = 0;
    bool has_words = false;
  };

  Vocabulary() : slots_(1 << 10) {}

  void add_keyword(Text keyword) {
    Entry &entry = at(keyword);
    entry.symbol = keyword;
    entry.has_words = true;  // none
  }

  Entry &at(Text token) {
    size_t slot = hash(token) & (slots_.size() - 1);
    while (const size_t index = slots_[slot]) {
      Entry &entry = entries_[index - 1];
      if (entry.token == token) return entry;
      slot = (slot + 1) & (slots_.size() - 1);
    }
    if (2 * entries_.size() >= slots_.size()) {
      grow();
      return at(token);
    }
    entries_.push_back({token, symbol_of(token), {}});
    slots_[slot] = entries_.size();
    return entries_.back();
  }

 private:
  static uint64_t hash(Text token) {  // FNV-1a
    uint64_t found = 14695981039346656037u;
    for (const char c : token) found = (found ^ static_cast<uint8_t>(c)) * 1099511628211u;
    return found ^ (found >> 29);
  }

  static Text symbol_of(Text token) {
    const char first = token[0];
    if (is(first, kIdentifierStart) || first == '\'') return {};
    return is(first, kDigit) ? Text("0") : token;
  }

  void grow() {
    slots_.assign(2 * slots_.size(), 0);
    for (size_t index = 0; index < entries_.size(); ++index) {
      size_t slot = hash(entries_[index].token) & (slots_.size() - 1);
      while (slots_[slot]) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = index + 1;
    }
  }

  std::deque<Entry> entries_;
  std::vector<size_t> slots_;  // index of the entry + 1; 0: free
};

std::string with_values(std::string &text, const std::vector<std::string> &values) {
  if (values.empty()) return std::move(text);
  std::string filled;
  size_t next = 0, at = 0;
  for (size_t found; (found = text.find(kPlaceholder, at)) != Text::npos; at = found + 1) {
    filled.append(text, at, found - at);
    if (next < values.size()) filled += values[next++];
  }
  return filled.append(text, at);
}

class Reader {
 public:
  explicit Reader(const File &file) : file_(file) {
    for (const Text keyword : file.keywords) vocabulary_.add_keyword(keyword);
    for (const Text keyword : file.contextual) vocabulary_.at(keyword).has_words = true;  // none
  }

  Owned read(const std::vector<Unit> &units) {
    std::vector<Tokens> headers(units.size());
    std::vector<size_t> ends;  // of each unit's tokens in `bodies`
    std::vector<std::vector<std::string>> values(units.size());
    Tokens bodies;
    for (size_t i = 0; i < units.size(); ++i) {
      const Unit &unit = units[i];
      if (i > 0) append_break(bodies);
      append_tokens(cut(unit.header), headers[i]);
      const Text body = body_of(unit, values[i]);
      if (file_.is_layout)
        append_layout_tokens(body, bodies);
      else
        append_tokens(body, bodies);
      ends.push_back(bodies.size());
    }
    std::vector<std::string> texts = normal_texts(bodies, file_.is_layout);
    Owned prints(PyList_New(static_cast<Py_ssize_t>(units.size())));
    std::vector<Vocabulary::Entry *> entries;  // of the header and of the body
    for (size_t i = 0; i < units.size(); ++i) {
      entries.clear();
      for (const Text token : headers[i]) entries.push_back(&vocabulary_.at(token));
      for (size_t at = i == 0 ? 0 : ends[i - 1] + 1; at < ends[i]; ++at) entries.push_back(&vocabulary_.at(bodies[at]));
      const Owned print = print_of(units[i], with_values(texts[i], values[i]), entries, i + 1);
      PyList_SET_ITEM(prints.get(), static_cast<Py_ssize_t>(i), Py_NewRef(print.get()));
    }
    return prints;
  }

 private:
  Text cut(Span span) const { return cut(file_.masked, span); }

  static Text cut(Text text, Span span) {
    if (span.end <= span.start) return {};
    return text.substr(static_cast<size_t>(span.start), static_cast<size_t>(span.end - span.start));
  }

  std::string value(Span literal) const {
    std::string text(cut(file_.text, literal));
    return file_.has_return ? with_line_ends(std::move(text)) : text;
  }

  template <typename Take>
  static void each_in(const std::vector<Span> &spans, Span where, Take take) {
    auto at = std::lower_bound(spans.begin(), spans.end(), where.start,
                               [](const Span &span, Py_ssize_t start) { return span.start < start; });
    for (; at != spans.end() && at->start < where.end; ++at) take(*at);
  }

  // The code of a unit, a PLACEHOLDER for each literal and each nested unit that is shown by its signature.
  Text body_of(const Unit &unit, std::vector<std::string> &values) {
    std::string joined;
    for (size_t i = 0; i < unit.code.size(); ++i) {
      each_in(file_.literals, unit.code[i], [&](Span literal) { values.push_back(value(literal)); });
      if (unit.code.size() == 1) return cut(unit.code[0]);
      joined += cut(unit.code[i]);
      if (i < unit.nested.size()) {
        const auto end = static_cast<size_t>(unit.code[i + 1].start);  // of the nested unit
        joined += kPlaceholder;
        if (!file_.is_layout && (end >= file_.masked.size() || file_.masked[end] != ';')) joined += ';';
        values.push_back(unit.nested[i]);
      }
    }
    return made_.emplace_back(std::move(joined));
  }

  // The own text, its words, and what the digests of face, body, own text and shape are taken of.
  Owned print_of(const Unit &unit, std::string text, const std::vector<Vocabulary::Entry *> &entries, size_t number) {
    if (file_.has_return) text = with_line_ends(std::move(text));
    if (!is_ascii(text)) {  // what is no UTF-8 becomes U+FFFD
      const Owned proper = readable(std::move(text), false);
      text = utf8(proper.get());
    }
    std::string own = unit.before;
    add_line(own, unit.has_lead ? (text.empty() ? unit.signature : unit.lead + text) : file_.is_layout ? dedented(text) : text);
    add_line(own, unit.tail);
    cut_characters(own, kMaxOwn);
    std::string of_body, of_own, of_shape;
    append_part(of_body, text);
    append_part(of_body, unit.rest);
    append_part(of_own, own);
    append_part(of_shape, shape_of(entries, number));
    const Owned own_text(PyUnicode_DecodeUTF8(own.data(), static_cast<Py_ssize_t>(own.size()), "surrogatepass"));
    const Owned words = words_of(unit, entries), face = bytes(unit.face), body = bytes(of_body);
    const Owned own_bytes = bytes(of_own), shape = bytes(of_shape);
    return Owned(PyTuple_Pack(6, own_text.get(), words.get(), face.get(), body.get(), own_bytes.get(), shape.get()));
  }

  static Owned bytes(const std::string &of) {
    return Owned(PyBytes_FromStringAndSize(of.data(), static_cast<Py_ssize_t>(of.size())));
  }

  static void add_line(std::string &text, const std::string &line) {
    if (line.empty()) return;
    if (!text.empty()) text += '\n';
    text += line;
  }

  static void cut_characters(std::string &text, size_t most) {
    if (text.size() <= most) return;
    size_t n = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      if ((static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) continue;
      if (n++ == most) {
        text.resize(at);
        return;
      }
    }
  }

  // Code that stands for itself begins at the left.
  static std::string dedented(const std::string &text) {
    std::string found;
    for (size_t at = 0; at < text.size(); ++at) {
      found += text[at];
      if (text[at] == '\n' && text.compare(at + 1, 4, "    ") == 0) at += 4;
    }
    const size_t begin = found.find_first_not_of('\n'), end = found.find_last_not_of('\n');
    return begin == std::string::npos ? std::string() : found.substr(begin, end + 1 - begin);
  }

  // Names are numbered by first appearance, literals abstracted to their kind.
  static std::string shape_of(const std::vector<Vocabulary::Entry *> &entries, size_t unit) {
    std::string shape;
    shape.reserve(4 * entries.size());
    size_t n_names = 0;
    for (Vocabulary::Entry *const entry : entries) {
      if (!shape.empty()) shape += ' ';
      if (!entry->symbol.empty()) {
        shape += entry->symbol;
        continue;
      }
      if (entry->unit != unit) {
        entry->unit = unit;
        entry->number = n_names++;
      }
      shape += '$';
      if (entry->number < 10)
        shape += static_cast<char>('0' + entry->number);
      else
        shape += std::to_string(entry->number);
    }
    return shape;
  }

  // Words of identifiers, then of literals and comments.
  Owned words_of(const Unit &unit, const std::vector<Vocabulary::Entry *> &entries) {
    Words words(file_.foreign, 4 * kMaxText);  // of up to four bytes a character
    for (size_t i = 0; i < entries.size() && i < kMaxText && !words.is_full(); ++i) {
      Vocabulary::Entry &entry = *entries[i];
      if (!entry.has_words) {
        Words own(file_.foreign, kMaxText);
        own.add_latin(entry.token);
        entry.words = own.text();
        entry.has_words = true;
      }
      words.add_found(entry.words);
    }
    std::string prose;
    bool has_prose = false;
    const auto add = [&](Text piece) {
      if (has_prose) prose += ' ';
      prose += piece.substr(0, kMaxProse);
      has_prose = true;
    };
    for (size_t i = 0; i < unit.code.size(); ++i) {
      const Span span = {i == 0 ? unit.header.start : unit.code[i].start, unit.code[i].end};
      each_in(file_.literals, span, [&](Span literal) { add(value(literal)); });
      each_in(file_.comments, span, [&](Span comment) { add(cut(file_.text, comment)); });
    }
    if (has_prose) {
      words.begin_prose();
      if (prose.size() > kMaxText) prose.resize(kMaxText);
      const Owned text = readable(std::move(prose), file_.has_return);
      words.add_text(text.get());
    }
    return Owned(PyUnicode_DecodeUTF8(words.text().data(), static_cast<Py_ssize_t>(words.text().size()), nullptr));
  }

  const File &file_;
  Vocabulary vocabulary_;
  std::deque<std::string> made_;  // code that stands so in no source; tokens point into it
};

}  // namespace

Owned read_units(const File &file, const std::vector<Unit> &units) { return Reader(file).read(units); }

}  // namespace scan
