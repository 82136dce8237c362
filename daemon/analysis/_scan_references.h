// The arguments of `_scan.references`; see _scan.pyi.

#pragma once

#include "_scan.h"

namespace scan {

constexpr Py_ssize_t kMaxReferences = 2'000;  // of one unit; tables of data call one constructor 50,000 times
constexpr Py_ssize_t kMaxSpan = 200;          // references.MAX_SPAN

// references._Said
enum : Py_ssize_t { kKind, kName, kScope, kFirst, kBase, kBuiltin, kOwn, kMark, kSaidSize };

struct Kind {
  PyObject *name;  // a str
  std::vector<Span> spans;
  PyObject *plain, *chained;  // dicts: text -> _Said or None; the second may be null
  bool is_call, is_type, is_inner, is_made, counts_arguments;
};

struct Named {
  Span span;
  std::string name;
  bool is_part;
};

struct Arguments {
  Text text, masked;
  std::vector<Kind> kinds;
  std::vector<Named> units;
  std::vector<Span> definitions;
  std::vector<Py_ssize_t> line_starts;
  PyObject *reference;    // the class
  PyObject *typed_names;  // a set
  PyObject *receiver, *others;
  bool reads_types;
};

Owned find_references(const Arguments &arguments);

// Matches of a query -> capture name -> nodes, capture name -> spans.
Owned sort_captures(PyObject *matches);

}  // namespace scan
