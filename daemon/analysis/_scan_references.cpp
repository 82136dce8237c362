// Finds the references of a file: see references.py for what they are.

#include "_scan_references.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

namespace scan {

namespace {

struct Place {
  Span span;
  const Kind *kind;
};

bool is_path_start(char c) { return is(c, kIdentifierStart) && c != '$'; }
bool is_path_part(char c) { return is(c, kWord) || is_foreign(c); }

// The length of the path that stands directly before a name: 3 for the `c` of `a::c`.
Py_ssize_t path_before(Text masked, Py_ssize_t start) {
  const Py_ssize_t limit = start > kMaxSpan ? start - kMaxSpan : 0;
  Py_ssize_t begin = start;
  for (;;) {
    Py_ssize_t at = begin;
    if (at > limit && masked[static_cast<size_t>(at - 1)] == '.') {
      at -= 1;
    } else if (at - 1 > limit && masked.substr(static_cast<size_t>(at - 2), 2) == "::") {
      at -= 2;
    } else {
      break;
    }
    const Py_ssize_t end = at;
    while (at > limit && is_path_part(masked[static_cast<size_t>(at - 1)])) --at;
    Py_ssize_t first = at;  // a number before a name is none of it
    while (first < end && !is_path_start(masked[static_cast<size_t>(first)])) ++first;
    if (first == end) break;
    begin = first;
    if (first != at) break;
  }
  return start - begin;
}

bool is_name(Text text) {
  if (!text.empty() && (text[0] == '#' || text[0] == '~')) text.remove_prefix(1);
  if (text.empty() || !is(text[0], kIdentifierStart)) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return is(c, kIdentifier); });
}

// The class whose object a text makes: `a.B` of `new a.B(x)`.
Text made_in(Text text) {
  size_t at = 3;
  while (at < text.size() && is(text[at], kBlank)) ++at;
  if (at == 3) return {};
  const size_t begin = at;
  while (at < text.size() && (is(text[at], kWord) || text[at] == '.')) ++at;
  const Text name = text.substr(begin, at - begin);
  while (at < text.size() && is(text[at], kBlank)) ++at;
  if (name.empty() || at == text.size() || text[at] != '(') return {};
  const size_t close = text.find_first_of("()", at + 1);
  if (close != text.size() - 1 || text[close] != ')') return {};
  const size_t dot = name.rfind('.');
  const Text last = dot == Text::npos ? name : name.substr(dot + 1);
  return !last.empty() && is(last[0], kUpper) ? name : Text();
}

struct Chained {
  Text name;   // empty: the text is something else
  Text shown;  // the type of the receiver: `A` of `new A(x).b`
};

// The name that is called of the result of another call: `c` of `a.b(x).c`. `is_whole`: that is all of the text.
Chained chained_in(Text text, bool is_whole) {
  if (text.empty() || text[0] == '.' || text[0] == '?' || text[0] == '[') return {};
  if (is_whole && text.find('(') == Text::npos) return {};
  const size_t last = text.find_last_of(".>:");
  if (last == Text::npos) return {};
  Text name = text.substr(last + 1);
  while (!name.empty() && is(name.front(), kBlank)) name.remove_prefix(1);
  while (!name.empty() && is(name.back(), kBlank)) name.remove_suffix(1);
  if (!is_ascii(name) || !is_name(name)) return {};
  const size_t end = text.find_last_not_of(".>:-?! \n\t\r", last);
  const Text before = is_whole && end != Text::npos ? text.substr(0, end + 1) : Text();
  if (before == "super()" || before == "super") return {};
  return {name, before.substr(0, 3) == "new" ? made_in(before) : Text()};
}

// A dotted name with other separators, or with blanks around them, as a dotted name; empty if it is none.
std::string dotted(Text text) {
  std::string found;
  for (size_t at = 0;;) {
    const size_t begin = at;
    if (at < text.size() && (text[at] == '#' || text[at] == '~')) ++at;
    while (at < text.size() && is(text[at], kIdentifier)) ++at;
    const Text name = text.substr(begin, at - begin);
    if (!is_name(name) || (begin > 0 ? name == "template" : name == "global")) return {};
    found += name;
    if (at == text.size()) return found;
    while (at < text.size() && is(text[at], kBlank)) ++at;
    const Text two = text.substr(at, 2);
    if (two == "->" || two == "::" || two == "?." || two == "!.")
      at += 2;
    else if (two.substr(0, 1) == ".")
      at += 1;
    else
      return {};
    while (at < text.size() && is(text[at], kBlank)) ++at;
    found += '.';
  }
}

// The innermost unit around each of a series of ascending positions.
class Places {
 public:
  explicit Places(const std::vector<Named> &units) : units_(units) {}

  Py_ssize_t of(Py_ssize_t position) {
    while (next_ < units_.size() && units_[next_].span.start <= position) {
      if (!units_[next_].is_part) stack_.push_back(next_);  // what stands in a part belongs to the unit that was cut
      ++next_;
    }
    while (!stack_.empty() && units_[stack_.back()].span.end <= position) stack_.pop_back();
    return stack_.empty() ? -1 : static_cast<Py_ssize_t>(stack_.back());
  }

 private:
  const std::vector<Named> &units_;
  size_t next_ = 0;
  std::vector<size_t> stack_;
};

class Finder {
 public:
  explicit Finder(const Arguments &arguments) : given_(arguments), places_(arguments.units), counts_(arguments.units.size() + 1) {
    const char *const names[] = {"source", "kind", "name", "scope", "receiver", "line"};
    for (const char *name : names) fields_.emplace_back(PyObject_GetAttrString(given_.reference, name));
    for (const Named &unit : given_.units) own_names_.insert(unit.name);
  }

  Owned find() {
    const Text text = given_.text;
    Py_ssize_t types_end = 0;
    for (const Place &place : ordered()) {
      const auto [start, end] = place.span;
      const Kind &kind = *place.kind;
      if (kind.is_type) {
        if (given_.reads_types) {
          if (start < types_end) continue;  // inside of an annotation that was read as a whole
          types_end = end;
        }
        // The end of a qualified name, which is a reference as a whole.
        if (start >= 2 && text.substr(static_cast<size_t>(start - 2), 2) == "::") continue;
      }
      unit_ = places_.of(start);
      Py_ssize_t &count = counts_[static_cast<size_t>(unit_ + 1)];
      if (count >= kMaxReferences) continue;
      const Text piece = text.substr(static_cast<size_t>(end - start <= kMaxSpan ? start : end - kMaxSpan),
                                     static_cast<size_t>(std::min(end - start, kMaxSpan)));
      const Text whole = text.substr(static_cast<size_t>(start), static_cast<size_t>(end - start));
      const bool is_generic = kind.counts_arguments && (at(text, end) == '<' || whole.find('<') != Text::npos);
      while (line_ < given_.line_starts.size() && given_.line_starts[line_] <= start) ++line_;
      const bool is_whole = end - start <= kMaxSpan;
      if (kind.chained != nullptr) {
        if (const Chained chained = chained_in(piece, is_whole); !chained.name.empty()) {
          const Owned shown = unicode(chained.shown);
          take(look_up(kind.chained, chained.name), shown.get(), count);
          continue;
        }
      }
      PyObject *said = Py_None;
      if (is_generic) {
        // How many arguments there are is for the others to tell.
      } else if (std::all_of(piece.begin(), piece.end(), is_plain)) {
        said = look_up(kind.plain, piece);
      } else if (is_whole && !(kind.is_type && given_.reads_types)) {
        if (const std::string name = dotted(piece); !name.empty()) said = look_up(kind.plain, name);
      }
      if (said != Py_None) {
        take(said, nullptr, count);
        continue;
      }
      const Owned found(PyObject_CallFunction(given_.others, "nnnO", unit_, start, end, kind.name));
      const Owned all = fast(found.get(), "what a span says must be a sequence");
      for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(all.get()); ++i) {
        const Owned pair(Py_NewRef(PySequence_Fast_GET_ITEM(all.get(), i)));
        if (!PyTuple_Check(pair.get()) || PyTuple_GET_SIZE(pair.get()) != 2) bad("what a span says must be pairs");
        take(PyTuple_GET_ITEM(pair.get(), 0), PyTuple_GET_ITEM(pair.get(), 1), count);
      }
    }
    return Owned(PyTuple_Pack(2, references_.get(), bases_.get()));
  }

 private:
  static char at(Text text, Py_ssize_t position) {
    return position < static_cast<Py_ssize_t>(text.size()) ? text[static_cast<size_t>(position)] : '\0';
  }

  static bool is_plain(char c) { return is(c, kIdentifier) || c == '.' || c == '#' || c == '~'; }

  // The spans in order, less what is no reference of its own: a type's name that ends a longer name (the `C` of
  // `a.b.C`) is part of that, as is one that begins what is made (the `Box` of `new Box<T>()`); a definition is no
  // reference.
  std::vector<Place> ordered() const {
    std::vector<Place> all;
    for (const Kind &kind : given_.kinds) {
      for (Span span : kind.spans) {
        if (kind.is_inner) {
          if (at(given_.masked, span.end) != '(') continue;
          span.start -= path_before(given_.masked, span.start);
        }
        all.push_back({span, &kind});
      }
    }
    std::stable_sort(all.begin(), all.end(), [](const Place &a, const Place &b) {
      return a.span.start != b.span.start ? a.span.start < b.span.start : a.span.end < b.span.end;
    });
    std::vector<Place> found;  // of two kinds for one span, the one that was named last
    for (const Place &place : all) {
      if (!found.empty() && found.back().span.start == place.span.start && found.back().span.end == place.span.end)
        found.pop_back();
      found.push_back(place);
    }
    std::unordered_map<Py_ssize_t, Py_ssize_t> longest;  // end -> the smallest start of a name that ends there
    for (const Place &place : found)
      if (!place.kind->is_call) longest.emplace(place.span.end, place.span.start);
    std::unordered_set<Py_ssize_t> made;
    for (const Place &place : found)
      if (place.kind->is_made) made.insert(place.span.start);
    std::vector<Span> definitions = given_.definitions;
    const auto before = [](const Span &a, const Span &b) { return a.start != b.start ? a.start < b.start : a.end < b.end; };
    std::sort(definitions.begin(), definitions.end(), before);
    const auto is_dropped = [&](const Place &place) {
      return (place.kind->is_type &&
              (longest.at(place.span.end) != place.span.start || made.count(place.span.start) != 0)) ||
             std::binary_search(definitions.begin(), definitions.end(), place.span, before);
    };
    found.erase(std::remove_if(found.begin(), found.end(), is_dropped), found.end());
    return found;
  }

  // What a plain name says, or None.
  static PyObject *look_up(PyObject *names, Text piece) {
    const Owned key = unicode(piece);
    PyObject *found = PyDict_GetItemWithError(names, key.get());
    if (found != nullptr) return found;
    if (PyErr_Occurred() != nullptr) throw PythonError();
    const Owned made(PyObject_GetItem(names, key.get()));  // its `__missing__`, which keeps it
    found = PyDict_GetItemWithError(names, key.get());
    if (found == nullptr) bad("a name must be kept");
    return found;
  }

  // Take what a name says, once a unit. `shown`: the type of the receiver that the span itself shows, or null.
  void take(PyObject *object, PyObject *shown, Py_ssize_t &count) {
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != kSaidSize) bad("what a name says must be a tuple");
    PyObject *const *said = &PyTuple_GET_ITEM(object, 0);
    const Text name = latin(said[kName], "a name");
    if (name.empty()) return;
    if (!seen_.emplace(object, unit_).second) return;
    kept_.emplace_back(Py_NewRef(object));
    if (unit_ >= 0 && !latin(said[kBase], "a base").empty()) {
      const Owned pair(Py_BuildValue("(nO)", unit_, said[kBase]));
      if (PyList_Append(bases_.get(), pair.get()) < 0) throw PythonError();
    }
    const Text builtin = latin(said[kBuiltin], "a name");
    if (!builtin.empty() && own_names_.count(builtin) == 0) return;
    if (unit_ >= 0 && !latin(said[kOwn], "a name").empty() && given_.units[static_cast<size_t>(unit_)].name == name) return;
    const Owned receiver = receiver_of(said, shown);
    ++count;
    const Owned unit(PyLong_FromSsize_t(unit_)), line(PyLong_FromSize_t(line_));
    const Owned shown_name = shown_text(said[kName]), scope = shown_text(said[kScope]);
    const Owned shown_receiver = shown_text(receiver.get());
    PyObject *const values[] = {unit.get(), said[kKind], shown_name.get(), scope.get(), shown_receiver.get(), line.get()};
    auto *type = reinterpret_cast<PyTypeObject *>(given_.reference);
    const Owned reference(type->tp_alloc(type, 0));
    for (size_t i = 0; i < fields_.size(); ++i) {  // as its own `__init__` does
      const auto set = Py_TYPE(fields_[i].get())->tp_descr_set;
      if (set == nullptr) bad("a reference must have slots");
      if (set(fields_[i].get(), reference.get(), values[i]) < 0) throw PythonError();
    }
    if (PyList_Append(references_.get(), reference.get()) < 0) throw PythonError();
  }

  Owned receiver_of(PyObject *const *said, PyObject *shown) const {
    if (!latin(said[kMark], "a mark").empty()) return Owned(Py_NewRef(said[kMark]));
    if (shown != nullptr && !latin(shown, "a type").empty()) return Owned(Py_NewRef(shown));
    if (!latin(said[kScope], "a scope").empty()) {
      const int is_typed = PySet_Contains(given_.typed_names, said[kFirst]);
      if (is_typed < 0) throw PythonError();
      if (is_typed) {
        Owned receiver(PyObject_CallFunction(given_.receiver, "nO", unit_, said[kScope]));
        latin(receiver.get(), "a type");
        return receiver;
      }
    }
    return unicode({});
  }

  static Owned shown_text(PyObject *text) {
    if (PyUnicode_IS_ASCII(text)) return Owned(Py_NewRef(text));
    return readable(std::string(latin(text, "a name")), false);
  }

  struct Hash {
    size_t operator()(const std::pair<PyObject *, Py_ssize_t> &of) const {
      return (reinterpret_cast<uintptr_t>(of.first) >> 4) * 31 + static_cast<size_t>(of.second) * 0x9e3779b97f4a7c15u;
    }
  };

  const Arguments &given_;
  Places places_;
  std::vector<Py_ssize_t> counts_;
  std::vector<Owned> fields_;
  std::unordered_set<Text> own_names_;
  std::unordered_set<std::pair<PyObject *, Py_ssize_t>, Hash> seen_;
  std::vector<Owned> kept_;  // so that an address stays that of one object
  Owned references_{PyList_New(0)};
  Owned bases_{PyList_New(0)};
  Py_ssize_t unit_ = -1;
  size_t line_ = 0;
};

}  // namespace

Owned find_references(const Arguments &arguments) { return Finder(arguments).find(); }

}  // namespace scan
