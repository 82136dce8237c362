// The Python side of `_scan`: its arguments, checked, and its results. What each function does stands in _scan.pyi.

#include <new>
#include <tuple>

#include "_scan.h"
#include "_scan_references.h"
#include "_scan_units.h"

namespace scan {

void bad(const char *message) {
  PyErr_SetString(PyExc_ValueError, message);
  throw PythonError();
}

Text latin(PyObject *text, const char *name) {
  if (!PyUnicode_Check(text)) {
    PyErr_Format(PyExc_TypeError, "%s must be a str, not %.100s", name, Py_TYPE(text)->tp_name);
    throw PythonError();
  }
  if (PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND) {
    PyErr_Format(PyExc_ValueError, "%s must be Latin-1", name);
    throw PythonError();
  }
  return {reinterpret_cast<const char *>(PyUnicode_1BYTE_DATA(text)), static_cast<size_t>(PyUnicode_GET_LENGTH(text))};
}

Py_ssize_t integer(PyObject *number) {
  const Py_ssize_t found = PyLong_AsSsize_t(number);
  if (found == -1 && PyErr_Occurred() != nullptr) throw PythonError();
  return found;
}

Owned fast(PyObject *sequence, const char *message) { return Owned(PySequence_Fast(sequence, message)); }

namespace {

PyObject *item(const Owned &sequence, Py_ssize_t i) { return PySequence_Fast_GET_ITEM(sequence.get(), i); }

Py_ssize_t size_of(const Owned &sequence) { return PySequence_Fast_GET_SIZE(sequence.get()); }

// The items of a tuple of `n`.
PyObject **items(PyObject *tuple, Py_ssize_t n, const char *message) {
  if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != n) bad(message);
  return &PyTuple_GET_ITEM(tuple, 0);
}

Span checked(Py_ssize_t start, Py_ssize_t end, Py_ssize_t limit) {
  if (start < 0 || start > limit || end < 0 || end > limit) bad("a span reaches outside of the text");
  return {start, end};
}

}  // namespace

Span span_of(PyObject *pair, Py_ssize_t limit) {
  PyObject *const *of = items(pair, 2, "a span must be a tuple of two numbers");
  return checked(integer(of[0]), integer(of[1]), limit);
}

std::vector<Span> spans_of(PyObject *sequence, Py_ssize_t limit) {
  const Owned pairs = fast(sequence, "spans must be a sequence");
  std::vector<Span> spans;
  spans.reserve(static_cast<size_t>(size_of(pairs)));
  for (Py_ssize_t i = 0; i < size_of(pairs); ++i) spans.push_back(span_of(item(pairs, i), limit));
  return spans;
}

Owned unicode(Text text) {
  return Owned(PyUnicode_DecodeLatin1(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
}

std::string with_line_ends(std::string text) {
  size_t to = 0;
  for (size_t at = 0; at < text.size(); ++at)
    if (text[at] != '\r' || at + 1 == text.size() || text[at + 1] != '\n') text[to++] = text[at];
  text.resize(to);
  return text;
}

Owned readable(std::string text, bool has_return) {
  if (has_return) text = with_line_ends(std::move(text));
  return Owned(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}

std::string utf8(PyObject *text) {
  if (!PyUnicode_Check(text)) bad("a text must be a str");
  if (PyUnicode_IS_ASCII(text)) return std::string(latin(text, "a text"));
  const Owned encoded(PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass"));
  return {PyBytes_AS_STRING(encoded.get()), static_cast<size_t>(PyBytes_GET_SIZE(encoded.get()))};
}

void append_part(std::string &to, const std::string &part) {
  for (int shift = 0; shift < 64; shift += 8) to += static_cast<char>(static_cast<uint64_t>(part.size()) >> shift);
  to += part;
}

namespace {

// Sorted and disjoint: what `std::lower_bound` relies on.
std::vector<Span> ordered_spans_of(PyObject *sequence, Py_ssize_t limit) {
  std::vector<Span> spans = spans_of(sequence, limit);
  Py_ssize_t position = 0;
  for (const Span span : spans) {
    if (span.start < position || span.end < span.start) bad("literals and comments must be in order");
    position = span.end;
  }
  return spans;
}

Owned list_of(const std::vector<std::string> &texts) {
  Owned list(PyList_New(static_cast<Py_ssize_t>(texts.size())));
  for (size_t i = 0; i < texts.size(); ++i)
    PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), unicode(texts[i]).release());
  return list;
}

Owned list_of(const std::vector<Span> &spans) {
  Owned list(PyList_New(static_cast<Py_ssize_t>(spans.size())));
  for (size_t i = 0; i < spans.size(); ++i)
    PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), Owned(Py_BuildValue("(nn)", spans[i].start, spans[i].end)).release());
  return list;
}

Owned list_of(const std::vector<size_t> &numbers) {
  Owned list(PyList_New(static_cast<Py_ssize_t>(numbers.size())));
  for (size_t i = 0; i < numbers.size(); ++i)
    PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), Owned(PyLong_FromSize_t(numbers[i])).release());
  return list;
}

Owned mask(PyObject *const *arguments) {
  const Text text = latin(arguments[0], "the text");
  const auto limit = static_cast<Py_ssize_t>(text.size());
  const Owned given = fast(arguments[1], "atoms must be a sequence");
  std::vector<std::tuple<Py_ssize_t, Py_ssize_t, Py_ssize_t>> atoms;
  atoms.reserve(static_cast<size_t>(size_of(given)));
  for (Py_ssize_t i = 0; i < size_of(given); ++i) {
    PyObject *const *of = items(item(given, i), 3, "an atom must be a tuple of three numbers");
    const Span span = checked(integer(of[0]), integer(of[1]), limit);
    if (span.end < span.start) bad("an atom ends before it begins");
    if (span.start < span.end) atoms.emplace_back(span.start, span.end, integer(of[2]));
  }
  std::sort(atoms.begin(), atoms.end());
  std::string masked(text);
  std::vector<Span> literals, comments;
  Py_ssize_t position = 0;
  for (const auto &[start, end, of] : atoms) {
    if (start < position) continue;  // a literal inside of a literal
    std::memset(&masked[static_cast<size_t>(start)], ' ', static_cast<size_t>(end - start));
    if (of == 2) {
      masked[static_cast<size_t>(start)] = kPlaceholder;
      literals.push_back({start, end});
    } else if (of == 1) {
      comments.push_back({start, end});
    }
    position = end;
  }
  // Lines that go on in the next: in C, in its macros, in Python.
  for (size_t at = masked.find('\\'); at != std::string::npos; at = masked.find('\\', at + 1)) {
    size_t end = at + 1;
    if (end < masked.size() && masked[end] == '\r') ++end;
    if (end < masked.size() && masked[end] == '\n') std::memset(&masked[at], ' ', end + 1 - at);
  }
  const Owned as_text = unicode(masked), of_literals = list_of(literals), of_comments = list_of(comments);
  return Owned(PyTuple_Pack(3, as_text.get(), of_literals.get(), of_comments.get()));
}

Owned tokens(PyObject *const *arguments) {
  Tokens found;
  append_tokens(latin(arguments[0], "the code"), found);
  Owned list(PyList_New(static_cast<Py_ssize_t>(found.size())));
  for (size_t i = 0; i < found.size(); ++i)
    PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), unicode(found[i]).release());
  return list;
}

Owned tight(PyObject *const *arguments) {
  const Owned given = fast(arguments[0], "tokens must be a sequence");
  Tokens found;
  for (Py_ssize_t i = 0; i < size_of(given); ++i) {
    found.push_back(latin(item(given, i), "a token"));
    if (found.back().empty()) bad("a token must not be empty");
    if (found.back()[0] == kBreak) bad("a token must not be a break");
  }
  return unicode(tight_texts(found)[0]);
}

Owned signatures(PyObject *const *arguments) {
  const Text masked = latin(arguments[0], "the code");
  Tokens found;
  bool is_first = true;
  for (const Span span : spans_of(arguments[1], static_cast<Py_ssize_t>(masked.size()))) {
    if (!is_first) append_break(found);
    is_first = false;
    if (span.start < span.end)
      append_tokens(masked.substr(static_cast<size_t>(span.start), static_cast<size_t>(span.end - span.start)), found);
  }
  return is_first ? Owned(PyList_New(0)) : list_of(tight_texts(found));
}

// What the views into the words of a set are part of.
Owned words_of(PyObject *set, std::vector<Text> &words) {
  if (!PyFrozenSet_Check(set)) bad("keywords must be a frozenset");
  Owned kept(PySequence_List(set));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(kept.get()); ++i) {
    words.push_back(latin(PyList_GET_ITEM(kept.get(), i), "a keyword"));
    if (words.back().empty()) bad("a keyword must not be empty");
  }
  return kept;
}

Owned prints(PyObject *const *arguments) {
  File file{};
  file.text = latin(arguments[0], "the text");
  file.masked = latin(arguments[1], "the masked text");
  if (file.text.size() != file.masked.size()) bad("the text and the masked text must be of one length");
  const auto limit = static_cast<Py_ssize_t>(file.text.size());
  file.literals = ordered_spans_of(arguments[2], limit);
  file.comments = ordered_spans_of(arguments[3], limit);
  const Owned given = fast(arguments[4], "units must be a sequence");
  std::vector<Unit> units;
  units.reserve(static_cast<size_t>(size_of(given)));
  for (Py_ssize_t i = 0; i < size_of(given); ++i) {
    PyObject *const *of = items(item(given, i), 9, "a unit must be a tuple of nine");
    Unit unit{};
    unit.header = span_of(of[0], limit);
    unit.code = spans_of(of[1], limit);
    const Owned nested = fast(of[2], "nested signatures must be a sequence");
    for (Py_ssize_t j = 0; j < size_of(nested); ++j) unit.nested.emplace_back(latin(item(nested, j), "a signature"));
    if (unit.code.empty()) bad("a unit must have a span of code");
    if (!unit.nested.empty() && unit.nested.size() + 1 != unit.code.size())
      bad("there must be one signature for each gap in the code");
    unit.before = utf8(of[3]);
    unit.has_lead = of[4] != Py_None;
    if (unit.has_lead) unit.lead = utf8(of[4]);
    unit.signature = utf8(of[5]);
    unit.tail = utf8(of[6]);
    unit.rest = utf8(of[7]);
    const Owned face = fast(of[8], "a face must be a sequence");
    for (Py_ssize_t j = 0; j < size_of(face); ++j) append_part(unit.face, utf8(item(face, j)));
    units.push_back(std::move(unit));
  }
  const Owned keywords = words_of(arguments[5], file.keywords), contextual = words_of(arguments[6], file.contextual);
  file.foreign = arguments[7];
  file.is_layout = PyObject_IsTrue(arguments[8]) == 1;
  file.has_return = PyObject_IsTrue(arguments[9]) == 1;
  return read_units(file, units);
}

Owned references(PyObject *const *arguments) {
  Arguments given{};
  given.text = latin(arguments[0], "the text");
  given.masked = latin(arguments[1], "the masked text");
  if (given.text.size() != given.masked.size()) bad("the text and the masked text must be of one length");
  const auto limit = static_cast<Py_ssize_t>(given.text.size());
  std::vector<Owned> kept;  // what the calls into Python could free
  const Owned kinds = fast(arguments[2], "kinds must be a sequence");
  for (Py_ssize_t i = 0; i < size_of(kinds); ++i) {
    PyObject *const *of = items(item(kinds, i), 5, "a kind must be a tuple of five");
    const Text name = latin(of[0], "a kind");
    kept.emplace_back(Py_NewRef(item(kinds, i)));
    Kind kind{};
    kind.name = of[0];
    kind.spans = spans_of(of[1], limit);
    if (!PyDict_Check(of[2]) || !(of[3] == Py_None || PyDict_Check(of[3]))) bad("names must be dicts");
    kind.plain = of[2];
    kind.chained = of[3] == Py_None ? nullptr : of[3];
    kind.counts_arguments = of[4] == Py_True;
    kind.is_made = name == "instantiate";
    kind.is_inner = name == "inner";
    kind.is_call = kind.is_inner || name == "call";
    kind.is_type = name == "type";
    for (const Span span : kind.spans)
      if (span.end < span.start) bad("a span ends before it begins");
    given.kinds.push_back(std::move(kind));
  }
  const Owned units = fast(arguments[3], "units must be a sequence");
  for (Py_ssize_t i = 0; i < size_of(units); ++i) {
    PyObject *const *of = items(item(units, i), 4, "a unit must be a tuple of four");
    given.units.push_back({checked(integer(of[0]), integer(of[1]), limit), std::string(latin(of[2], "a name")), of[3] == Py_True});
  }
  given.definitions = spans_of(arguments[4], limit);
  const Owned lines = fast(arguments[5], "line starts must be a sequence");
  for (Py_ssize_t i = 0; i < size_of(lines); ++i) given.line_starts.push_back(integer(item(lines, i)));
  if (!PyType_Check(arguments[6])) bad("a class must make the references");
  if (!PyAnySet_Check(arguments[7])) bad("typed names must be a set");
  given.reference = arguments[6];
  given.typed_names = arguments[7];
  given.receiver = arguments[8];
  given.others = arguments[9];
  given.reads_types = arguments[10] == Py_True;
  return find_references(given);
}

Owned captures(PyObject *const *arguments) { return sort_captures(arguments[0]); }

Owned macros(PyObject *const *arguments) {
  if (!PyBytes_Check(arguments[0])) bad("the source must be bytes");
  const Text raw(PyBytes_AS_STRING(arguments[0]), static_cast<size_t>(PyBytes_GET_SIZE(arguments[0])));
  const MacroStarts found = macro_starts(raw);
  const Owned classes = list_of(found.classes), leading = list_of(found.leading), inner = list_of(found.inner);
  const Owned tails = list_of(found.tails), locks = list_of(found.locks);
  return Owned(PyTuple_Pack(5, classes.get(), leading.get(), inner.get(), tails.get(), locks.get()));
}

Owned conditionals_of(PyObject *const *arguments) {
  if (!PyBytes_Check(arguments[0])) bad("the source must be bytes");
  const Text raw(PyBytes_AS_STRING(arguments[0]), static_cast<size_t>(PyBytes_GET_SIZE(arguments[0])));
  Owned list(PyList_New(0));
  for (const Conditional &of : conditionals(raw)) {
    const Owned word = unicode(of.word);
    const Owned line(Py_BuildValue("(nnOn)", static_cast<Py_ssize_t>(of.start), static_cast<Py_ssize_t>(of.end), word.get(), of.depth));
    if (PyList_Append(list.get(), line.get()) < 0) throw PythonError();
  }
  return list;
}

Owned line_starts(PyObject *const *arguments) {
  if (!PyBytes_Check(arguments[0])) bad("the source must be bytes");
  const Text raw(PyBytes_AS_STRING(arguments[0]), static_cast<size_t>(PyBytes_GET_SIZE(arguments[0])));
  std::vector<size_t> starts = {0};
  for (size_t at = raw.find('\n'); at != Text::npos; at = raw.find('\n', at + 1)) starts.push_back(at + 1);
  return list_of(starts);
}

Owned skip(PyObject *const *arguments) {
  const Text masked = latin(arguments[0], "the code");
  const Span span = checked(integer(arguments[1]), 0, static_cast<Py_ssize_t>(masked.size()));
  auto at = static_cast<size_t>(span.start);
  while (at < masked.size() && is(masked[at], kBlank)) ++at;
  return Owned(PyLong_FromSize_t(at));
}

Owned skip_back(PyObject *const *arguments) {
  const Text masked = latin(arguments[0], "the code");
  const Span span = checked(integer(arguments[1]), 0, static_cast<Py_ssize_t>(masked.size()));
  auto at = static_cast<size_t>(span.start);
  while (at > 0 && is(masked[at - 1], kBlank)) --at;
  return Owned(PyLong_FromSize_t(at));
}

Owned clean_of(PyObject *const *arguments) { return clean(arguments[0]); }

Owned words(PyObject *const *arguments) {
  if (!PyUnicode_Check(arguments[0])) bad("the text must be a str");
  Words found(arguments[1], SIZE_MAX);
  found.add_text(arguments[0]);
  return Owned(PyUnicode_DecodeUTF8(found.text().data(), static_cast<Py_ssize_t>(found.text().size()), nullptr));
}

Owned stem_of(PyObject *const *arguments) {
  if (!PyUnicode_Check(arguments[0])) bad("the word must be a str");
  if (!PyUnicode_IS_ASCII(arguments[0])) return Owned(Py_NewRef(arguments[0]));
  return unicode(stem(latin(arguments[0], "the word")));
}

// No C++ exception reaches Python.
template <Owned (*function)(PyObject *const *), Py_ssize_t n_arguments>
PyObject *call(PyObject *, PyObject *const *arguments, Py_ssize_t n_given) {
  if (n_given != n_arguments) return PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", n_arguments, n_given);
  try {
    return function(arguments).release();
  } catch (const PythonError &) {
    return nullptr;
  } catch (const std::bad_alloc &) {
    return PyErr_NoMemory();
  } catch (const std::exception &error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
}

template <Owned (*function)(PyObject *const *), Py_ssize_t n_arguments>
PyMethodDef method(const char *name) {
  // The way over void* is what a cast between function types takes.
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void *>(&call<function, n_arguments>)), METH_FASTCALL, nullptr};
}

PyMethodDef methods[] = {
    method<mask, 2>("mask"),       method<tokens, 1>("tokens"), method<tight, 1>("tight"), method<signatures, 2>("signatures"),
    method<prints, 10>("prints"),   method<references, 11>("references"), method<captures, 1>("captures"), method<macros, 1>("macros"), method<conditionals_of, 1>("conditionals"), method<line_starts, 1>("line_starts"), method<skip, 2>("skip"), method<skip_back, 2>("skip_back"), method<words, 2>("words"), method<clean_of, 1>("clean"),   method<stem_of, 1>("stem"), {nullptr, nullptr, 0, nullptr},
};

int fill(PyObject *module) { return PyModule_AddStringConstant(module, "identity", SCAN_IDENTITY); }

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void *>(&fill)},
    {0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_scan", "The compiled part of the analysis; see _scan.pyi.", 0, methods, slots, nullptr, nullptr, nullptr,
};

}  // namespace

}  // namespace scan

PyMODINIT_FUNC PyInit__scan() { return PyModuleDef_Init(&scan::definition); }
