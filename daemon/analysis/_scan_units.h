// The arguments of `_scan.prints`; see _scan.pyi.

#pragma once

#include <algorithm>

#include "_scan.h"

namespace scan {

constexpr size_t kMaxProse = 400;   // characters of one comment or literal that enter the word index
constexpr size_t kMaxOwn = 65'536;  // characters of own text; no model reads that far, and a table may have megabytes

struct Unit {
  Span header;                      // empty where there is none
  std::vector<Span> code;           // what is shown of it beside the header
  std::vector<std::string> nested;  // between these: signatures
  // Readable, in UTF-8:
  std::string before, lead, signature, tail;  // of the own text
  bool has_lead;                              // none: the code stands for itself
  std::string rest;                           // of the doc: what the body's digest has beside the code
  std::string face;                           // what its digest is taken of
};

struct File {
  Text text, masked;
  std::vector<Span> literals, comments;
  std::vector<Text> keywords, contextual;  // the latter are names to a shape
  PyObject *foreign;  // see Words
  bool is_layout, has_return;
};

Owned read_units(const File &file, const std::vector<Unit> &units);

}  // namespace scan
