"""The normal form holds what it promises, on the sources of the case files and on real ones.

Layout and comments change no digest; a name changed throughout leaves `shape` alone; any other token changes `own`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraphd.daemon.analysis import normal, syntax
from codegraphd.daemon.analysis.dialects import dialect
from codegraphd.daemon.analysis.languages import grammar_of, language_of
from codegraphd.daemon.analysis.parse import parse, render
from codegraphd.store.records import Module, digest

DATA = Path(__file__).parents[2] / "data"
EXTENSIONS = {
    "python": "py",
    "javascript": "js",
    "typescript": "ts",
    "java": "java",
    "go": "go",
    "rust": "rs",
    "c": "c",
    "cpp": "cpp",
    "csharp": "cs",
}
# Where a line end means something, or may: there the layout is changed by blanks only.
LINE_BOUND = {"python", "javascript", "typescript", "go", "c", "cpp"}


def case_sources(language: str) -> list[str]:
    texts = [file.read_text("utf-8") for file in sorted((DATA / language).glob("*.txt"))]
    return [
        match
        for text in texts
        for match in re.findall(r"--- source\n(.*?)(?=^--- |\Z)", text, re.DOTALL | re.MULTILINE)
    ]


WHOLE = [
    (language, source)
    for language in EXTENSIONS
    for source in case_sources(language)
    if source.strip()
    and "\\\n" not in source
    and not (language == "csharp" and re.search(r"^\s*#", source, re.MULTILINE))  # a directive is a line
    and not parse(f"a.{EXTENSIONS[language]}", source.encode()).errors
]


def digests(module: Module, *names: str) -> list[tuple[object, ...]]:
    return [(unit.kind, unit.qualname, *(getattr(unit, name) for name in names)) for unit in module.units]


def pieces(path: str, source: bytes) -> Iterator[tuple[str, bool]]:
    """The source in runs of blanks (True) and what stands between them, literals and comments left whole."""
    chosen = dialect(grammar_of(path, language_of(path) or ""))
    _, captures = syntax.capture(source, chosen)
    found = normal.Source(source, syntax.atoms_of(captures))
    spans = sorted([*found.literals, *found.comments, *captures.spans["doc"]])
    position = 0
    for start, end in [*spans, (len(source), len(source))]:
        for run in re.findall(r"[ \t]+|\n[ \t]*|[^\s]+|\s", found.text[position:start]):
            yield run, not run.strip()
        if start < end:
            yield found.text[start:end], False
        position = end


@pytest.mark.parametrize("language", sorted({language for language, _ in WHOLE}))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_layout_changes_nothing(language: str, data: st.DataObject) -> None:
    source = data.draw(st.sampled_from([source for of, source in WHOLE if of == language]))
    path = f"a.{EXTENSIONS[language]}"
    random = data.draw(st.randoms(use_true_random=False))
    changed: list[str] = []
    for text, is_blank in pieces(path, source.encode()):
        if not is_blank:
            changed.append(text)
        elif "\n" in text:
            indent = text[1:] if language == "python" else random.choice(["", " ", "\t\t", text[1:]])
            changed.append(random.choice(["", " ", "\t"]) + "\n" + indent)
        elif changed and changed[-1].endswith("\n"):
            changed.append(text if language == "python" else random.choice(["  ", text]))
        else:
            changed.append(
                random.choice([" ", "  ", "\t", text]) if language in LINE_BOUND else random.choice([" ", "\n", "\t"])
            )
    altered = "".join(changed).encode("latin-1")
    before, after = parse(path, source.encode()), parse(path, altered)
    names = ("own", "face", "body", "shape")
    # A doc comment's inner layout is text; blank lines before it are not changed here.
    assert digests(after, *names) == digests(before, *names), altered.decode()


TRAILING = {"python": "  # note", "c": " /* note */"}


@pytest.mark.parametrize("language", sorted({language for language, _ in WHOLE}))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_comments_change_nothing(language: str, data: st.DataObject) -> None:
    """A comment after code, in its line, is nobody's doc."""
    source = data.draw(st.sampled_from([source for of, source in WHOLE if of == language]))
    path = f"a.{EXTENSIONS[language]}"
    ends = {"python": (")", "1", "self", "pass"), "rust": (";", "}")}.get(language, (";", "}"))
    lines = source.split("\n")
    inside = {line for start, end in literal_lines(path, source.encode()) for line in range(start, end)}
    eligible = [
        i
        for i, line in enumerate(lines)
        if line.rstrip().endswith(ends) and i not in inside and not line.lstrip().startswith(("#", "//", "*", "/"))
    ]
    if not eligible:
        return
    for i in data.draw(st.lists(st.sampled_from(eligible), unique=True)):
        lines[i] += TRAILING.get(language, " // note")
    altered = "\n".join(lines).encode()
    before, after = parse(path, source.encode()), parse(path, altered)
    names = ("own", "face", "body", "shape")
    assert digests(after, *names) == digests(before, *names), altered.decode()


def literal_lines(path: str, source: bytes) -> list[tuple[int, int]]:
    """Line numbers (from 0) that end inside of a literal, a comment or a macro."""
    chosen = dialect(grammar_of(path, language_of(path) or ""))
    _, captures = syntax.capture(source, chosen)
    spans = [(*span, 0) for name in ("string", "comment", "doc", "import") for span in captures.spans[name]]
    spans += [(*node.byte_range, 1) for node in captures.units.get("unit.macro", ())]
    return [(source.count(b"\n", 0, start), source.count(b"\n", 0, end) + more) for start, end, more in spans]


@pytest.mark.parametrize(("language", "source"), WHOLE[::7])
def test_renaming_leaves_the_shape(language: str, source: str) -> None:
    path = f"a.{EXTENSIONS[language]}"
    before = parse(path, source.encode())
    if re.search(r"\bqq\w*|\$", source):
        return
    for unit in before.units:
        if (
            unit.kind not in {"function", "method"}
            or not unit.name.isidentifier()
            or unit.name.startswith(("test", "__", "default"))
            or unit.name in dialect(grammar_of(path, before.language)).keywords  # `delete(a) {}`
        ):
            continue
        renamed = re.sub(rf"(?<![\w'\"]){re.escape(unit.name)}(?!\w)", "renamedByTest", source)
        after = parse(path, renamed.encode())
        assert [u.shape for u in after.units] == [u.shape for u in before.units]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a.js", "class Box {\n  get(key) { return this.of.get(key) }\n}\n"),
        ("a.ts", "function async(from: Item): Item { return from.type }\n"),
        ("a.cs", "class Box { int get(int value) { return get(value - 1); } }\n"),
        ("A.java", "class Box { int record(int permits) { return record(permits - 1); } }\n"),
        ("a.py", "def match(case):\n    return match(case.type)\n"),
        ("a.rs", "fn union(a: &Set) -> Set { union(a) }\n"),
        ("a.cpp", "int final(int override) { return final(override - 1); }\n"),
    ],
)
def test_renaming_what_is_named_by_a_contextual_keyword_leaves_the_shape(path: str, source: str) -> None:
    words = ("get", "of", "async", "from", "type", "value", "record", "permits", "match", "case", "union", "final")
    renamed = re.sub(rf"\b(?:{'|'.join((*words, 'override'))})\b", lambda match: f"{match[0]}Renamed", source)
    before, after = parse(path, source.encode()), parse(path, renamed.encode())
    assert [unit.shape for unit in after.units] == [unit.shape for unit in before.units]
    assert [unit.own for unit in after.units] != [unit.own for unit in before.units]


@pytest.mark.parametrize("language", sorted({language for language, _ in WHOLE}))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_token_changes_the_own_text(language: str, data: st.DataObject) -> None:
    source = data.draw(st.sampled_from([source for of, source in WHOLE if of == language]))
    path = f"a.{EXTENSIONS[language]}"
    before = parse(path, source.encode())
    numbers = [match.span() for match in re.finditer(r"\b\d+\b", source) if source.isascii()]
    if not numbers or not before.units:
        return
    start, end = data.draw(st.sampled_from(numbers))
    altered = source[:start] + "4711" + source[end:]
    owners = [
        unit for unit in before.units if unit.start_byte <= start < unit.end_byte and not unit.name.endswith("4711")
    ]
    if not owners or source[start:end] == "4711":
        return
    innermost = owners[-1]
    inside = re.search(r"(?:#|//|/\*)[^\n]*\Z", source[innermost.start_byte : start])
    if inside:
        return
    after = {(unit.kind, unit.qualname, unit.ordinal): unit for unit in parse(path, altered.encode()).units}
    found = after.get((innermost.kind, innermost.qualname, innermost.ordinal))
    assert found is None or found.own != innermost.own


@pytest.mark.parametrize(("language", "source"), WHOLE)
def test_own_is_the_digest_of_what_is_rendered(language: str, source: str) -> None:
    path = f"a.{EXTENSIONS[language]}"
    texts = render(path, source.encode())
    assert [unit.own for unit in parse(path, source.encode()).units] == [digest(text) for text in texts]


def test_line_ends_of_windows_are_line_ends() -> None:
    source = b'def f(a):\n    """Doc\n    two."""\n    x = """a\n  b"""\n    return (x,\n  a)\n'
    windows = parse("a.py", b"\xef\xbb\xbf" + source.replace(b"\n", b"\r\n"))
    names = ("own", "face", "body", "shape", "doc", "start_line", "end_line")
    assert digests(windows, *names) == digests(parse("a.py", source), *names)


def check_unchanged(path: str, before: str, after: str, *names: str) -> None:
    assert digests(parse(path, before.encode()), *names) == digests(parse(path, after.encode()), *names)


def test_reformatting_python() -> None:
    before = "def f(a, b):\n    if a:\n        return g(a, [1, 2])\n    x = {1: 2}\n"
    after = "def f(\n        a,\n        b):\n  # c\n  if a :\n\n    return g( a , [\n1,\n  2\n] )  # d\n  x={ 1:2 }\n"
    check_unchanged("a.py", before, after, "own", "face", "body", "shape")


def test_reformatting_braces() -> None:
    before = "int f(int a) { if (a) { return g(a, 1); } return 0; }"
    after = "int f( int a )\n{\n\tif ( a )\n\t{ // why\n\t\treturn g( a,\n1 );\n\t}\n\n\treturn 0 ;\n}"
    check_unchanged("a.c", before, after, "own", "face", "body", "shape")


def test_blanks_in_literals_count() -> None:
    one, two = parse("a.py", b"def f(): return 'a b'"), parse("a.py", b"def f(): return 'a  b'")
    assert one.units[0].own != two.units[0].own
    assert one.units[0].shape == two.units[0].shape


def test_a_method_body_leaves_its_class_alone() -> None:
    one = parse("a.py", b"class A:\n    x = 1\n    def f(self):\n        return 1\n")
    two = parse("a.py", b"class A:\n    x = 1\n    def f(self):\n        return 2\n")
    assert digests(one, "own", "face", "body")[0] == digests(two, "own", "face", "body")[0]
    assert one.units[1].face == two.units[1].face
    assert one.units[1].body != two.units[1].body


def test_a_signature_is_seen_by_its_class() -> None:
    one = parse("a.py", b"class A:\n    def f(self): pass\n")
    two = parse("a.py", b"class A:\n    def f(self, x): pass\n")
    assert one.units[0].own != two.units[0].own
    assert one.units[0].face == two.units[0].face


def test_the_first_line_of_the_doc_is_face_the_rest_is_body() -> None:
    def unit(doc: str) -> tuple[bytes, bytes]:
        found = parse("a.py", f'def f():\n    """{doc}"""\n    return 1\n'.encode()).units[0]
        return found.face, found.body

    plain = unit("One.\n\n    Two.")
    assert unit("Other.\n\n    Two.")[0] != plain[0]
    assert unit("One.\n\n    Three.")[0] == plain[0]
    assert unit("One.\n\n    Three.")[1] != plain[1]


def test_nested_functions_belong_to_the_text_of_the_outer_one_three_levels_down() -> None:
    source = b"def a():\n def b():\n  def c():\n   def d():\n    return deep()\n   return d\n  return c\n return b\n"
    texts = render("a.py", source)
    assert "def c()" in texts[0]
    assert "deep" not in texts[0]
    assert "deep" in texts[1]
