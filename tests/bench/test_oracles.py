"""What the comparisons decide themselves: which tags can be definitions, and what is said where a tool is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # bench/ is run from the checkout and is never installed

from bench import oracles
from bench.checkouts import Checkouts, UnavailableError
from bench.ctags_oracle import Tag, is_definition


@pytest.mark.parametrize(
    ("language", "kind", "name", "scope", "source", "expect"),
    [
        ("csharp", "method", "Find", "Store", "    public Item Find(string key) => items[key];", True),
        ("csharp", "method", "Store", "Acme.Store", "    Store(int size) {", True),
        ("csharp", "method", "Pair", "Store", "    static (int, int) Pair() {", True),
        ("csharp", "method", "Write", "Logger", "    {\n        Write(level, text);", False),
        ("csharp", "method", "lock", "Logger", "        lock (this)", False),
        ("csharp", "method", "Broken", "Store", "    public int Get() => throw new Broken();", False),
        ("csharp", "class", "TKey", "Store", "    where TKey : class", False),
        ("csharp", "struct", "Size", "Acme", "public readonly struct Size", True),
        ("java", "method", "IDENTITY", "Policy", "  IDENTITY() {", False),
        ("java", "method", "get", "Policy", "  public static <T>\n  List<T>\n  get(Class<T> of) {", True),
        ("c", "prototype", "open_it", "", "int open_it(void);", True),
        ("c", "prototype", "open_it", "", "static struct box *\nopen_it(void);", True),
        ("c", "prototype", "close_it", "", "  {\n  close_it(box);", False),
        ("cpp", "prototype", "GUARDED_BY", "", "  Mutex mu GUARDED_BY(x);", False),
        ("cpp", "prototype", "~Box", "Box", "  ~Box();", True),
        ("typescript", "alias", "Plugin", "", "import type {\n  Plugin,", False),
        ("typescript", "alias", "Plugin", "", "export type Plugin<T> = T | false", True),
        ("javascript", "class", "traps", "", "const traps = {", False),
        ("csharp", "method", "IStore.Size", "Store", "    int IStore.Size() => 1;", True),
        ("csharp", "method", "Size", "Store", "    int IStore<Item>.Size() => 1;", True),
        ("csharp", "method", "policy.Execute", "Store", "        policy.Execute(run);", False),
        ("java", "method", "record", "Tape", "  void record() {", True),
        ("java", "method", "try", "Tape", "    try (Tape tape = open()) {", False),
        ("c", "prototype", "MALLOC", "", "extern void *MALLOC(size_t);", True),
        ("c", "prototype", "second", "", "extern double first(double), second(double);", True),
        ("cpp", "prototype", "GUARDED_BY", "Box", "  Status status_ GUARDED_BY(mutex_);", False),
        ("cpp", "prototype", "DB", "leveldb::DB", "  DB() = default;", True),
        ("cpp", "prototype", "operator std::string", "Path", "  operator std::string() const;", True),
        ("typescript", "method", "type", "Node", "  get type(): string {", True),
        ("typescript", "interface", "Options", "", "interface Options\n  extends Base {", True),
        ("javascript", "method", "delete", "pets", "  delete: function(req, res) {", True),
        ("javascript", "class", "View", "", "function View(name) {", True),
        ("javascript", "class", "send", "res", "res.send = function (body) {", True),
        ("go", "func", "Run", "main", "func Run() {", True),
    ],
)
def test_tags_that_can_be_definitions(
    language: str, kind: str, name: str, scope: str, source: str, expect: bool
) -> None:
    lines = source.split("\n")
    assert is_definition(language, Tag("f", name, kind, len(lines), scope), lines) is expect


def test_what_cannot_be_had_is_said_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_report: Any, _checkouts: Checkouts, _home: Path) -> None:
        raise UnavailableError("https://example.org/x: not there")

    def there(report: Any, _checkouts: Checkouts, _home: Path) -> None:
        report.add("found", 1.0, "", target=0.98, at_most=False)

    monkeypatch.setattr(oracles, "PARTS", {"flow": missing, "labels": there})
    assert oracles.main(["--only", "flow", "labels", "--keep", str(tmp_path), "--json", str(tmp_path / "x.json")]) == 0
    said = capsys.readouterr().out
    assert "| flow | -  |  | UnavailableError: https://example.org/x: not there |" in said
    assert "| found | 1  | ≥ 0.98 | met |" in said


def test_a_checkout_that_is_given_is_taken(tmp_path: Path) -> None:
    (tmp_path / "given" / "gson").mkdir(parents=True)
    assert Checkouts(tmp_path / "home", tmp_path / "given").get("gson") == tmp_path / "given" / "gson"
    assert not (tmp_path / "home").exists()
