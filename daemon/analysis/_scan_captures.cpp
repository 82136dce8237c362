// Sorts what a query has captured by the names of the captures.

#include <unordered_map>

#include "_scan_references.h"

namespace scan {

namespace {

// Capture name -> list. The names of a query are few, and each comes thousands of times.
class Lists {
 public:
  PyObject *at(PyObject *name) {
    const Text text = latin(name, "a capture's name");
    const auto known = lists_.find(text);
    if (known != lists_.end()) return known->second;
    const Owned list(PyList_New(0));
    if (PyDict_SetItem(dict_.get(), name, list.get()) < 0) throw PythonError();
    kept_.emplace_back(Py_NewRef(name));
    return lists_[text] = list.get();
  }

  PyObject *dict() const { return dict_.get(); }

 private:
  Owned dict_{PyDict_New()};
  std::unordered_map<Text, PyObject *> lists_;
  std::vector<Owned> kept_;  // what the keys of `lists_` are part of
};

class Captures {
 public:
  void add(PyObject *match) {
    if (!PyDict_Check(match)) bad("a match must be a dict");
    PyObject *const ends = PyDict_GetItemWithError(match, end_.get());
    if (ends == nullptr && PyErr_Occurred() != nullptr) throw PythonError();
    const Owned end = ends == nullptr ? Owned(Py_NewRef(Py_None)) : end_of(ends);
    PyObject *name = nullptr, *nodes = nullptr;
    Py_ssize_t position = 0;
    while (PyDict_Next(match, &position, &name, &nodes)) {
      if (!PyList_Check(nodes)) bad("the nodes of a capture must be a list");
      const Owned kept_name(Py_NewRef(name)), kept_nodes(Py_NewRef(nodes));
      const Text text = latin(name, "a capture's name");
      if (text == "end") continue;
      const bool is_unit = text.substr(0, 5) == "unit.";
      PyObject *const list = (is_unit ? units_ : spans_).at(name);
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(nodes); ++i) {
        const Owned node(Py_NewRef(PyList_GET_ITEM(nodes, i)));
        if (is_unit) {
          if (PyList_Append(list, node.get()) < 0) throw PythonError();
          continue;
        }
        Owned span(PyObject_GetAttr(node.get(), byte_range_.get()));
        if (end.get() != Py_None) {
          if (!PyTuple_Check(span.get()) || PyTuple_GET_SIZE(span.get()) != 2) bad("a span must be a pair");
          span = Owned(PyTuple_Pack(2, PyTuple_GET_ITEM(span.get(), 0), end.get()));
        }
        if (PyList_Append(list, span.get()) < 0) throw PythonError();
      }
    }
  }

  static Owned end_of(PyObject *nodes) {
    if (!PyList_Check(nodes) || PyList_GET_SIZE(nodes) == 0) bad("the nodes of a capture must be a list");
    const Owned node(Py_NewRef(PyList_GET_ITEM(nodes, 0)));
    return Owned(PyObject_GetAttrString(node.get(), "end_byte"));
  }

  Owned take() const { return Owned(PyTuple_Pack(2, units_.dict(), spans_.dict())); }

 private:
  Owned end_{PyUnicode_InternFromString("end")};
  Owned byte_range_{PyUnicode_InternFromString("byte_range")};
  Lists units_, spans_;
};

}  // namespace

Owned sort_captures(PyObject *matches) {
  const Owned all = fast(matches, "matches must be a sequence");
  Captures captures;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(all.get()); ++i) {
    const Owned match(Py_NewRef(PySequence_Fast_GET_ITEM(all.get(), i)));
    if (!PyTuple_Check(match.get()) || PyTuple_GET_SIZE(match.get()) != 2) bad("a match must be a pair");
    captures.add(PyTuple_GET_ITEM(match.get(), 1));
  }
  return captures.take();
}

}  // namespace scan
