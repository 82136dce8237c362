"""Search over a real store and real indexes: what is asked, what is found, in which order."""

from __future__ import annotations

from typing import Any

import pytest

from codegraphd.daemon.search.query import Question, search

FILES = {
    "app/config.py": '''
class Config:
    """Holds the settings of the application."""
    path = "app.toml"

    def load(self, path):
        """Read the configuration file and parse its settings."""
        with open(path) as file:
            return parse_settings(file.read())

def parse_settings(text):
    """Split lines of a configuration into keys and values."""
    return dict(line.split("=") for line in text.splitlines())
''',
    "app/network.py": '''
def connect_socket(host, port):
    """Open a connection to a remote machine and return the socket."""
    return socket.create_connection((host, port))

def retry(action, times):
    """Call again after a failure, waiting longer each time."""
    for attempt in range(times):
        try:
            return action()
        except OSError:
            sleep(2 ** attempt)
''',
    "web/page.py": '''
def render_page(template, values):
    """Fill the placeholders of a page."""
    return template.format(**values)
''',
    "docs/guide.md": "# Configuration\n\nThe configuration file holds settings, one a line.\n",
}


def check(shelf: Any, text: str, *, with_vector: bool = True, **options: Any) -> list[dict[str, Any]]:
    question = Question(text, **options)
    vector = shelf.embed([text])[0] if with_vector else None
    results: list[dict[str, Any]] = shelf.ask(
        lambda view: search(view, shelf.words, shelf.vectors, question, vector, shelf.read)
    )
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert len({result["id"] for result in results}) == len(results)
    return results


def names(results: list[dict[str, Any]]) -> list[str]:
    return [result["name"] for result in results]


@pytest.fixture
def full(shelf: Any) -> Any:
    shelf.put(FILES)
    return shelf


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "lexical"])
def test_each_mode_finds_what_the_sentence_says(full: Any, mode: str) -> None:
    results = check(full, "read the configuration file and parse its settings", mode=mode)
    assert results[0]["qualname"] == "Config.load"
    why = results[0]["why"]
    assert (why["words"] is not None) == (mode != "semantic")
    assert (why["meaning"] is not None) == (mode != "lexical")
    assert (why["cosine"] is not None) == (mode != "lexical")


def test_a_hybrid_result_that_only_words_found_still_has_its_cosine(full: Any) -> None:
    results = check(full, "connect_socket")
    assert results[0]["name"] == "connect_socket"
    assert all(-1 <= result["why"]["cosine"] <= 1 for result in results)


def test_without_a_vector_words_answer_alone(full: Any) -> None:
    assert names(check(full, "wait after failure", with_vector=False))[0] == "retry"
    assert check(full, "wait after failure", with_vector=False, mode="semantic") == []


def test_units_without_a_vector_are_found_by_words(shelf: Any) -> None:
    shelf.put(FILES, embedded=False)
    results = check(shelf, "fill the placeholders of a page")
    assert names(results)[0] == "render_page"
    assert results[0]["why"] == {"words": 1, "meaning": None, "cosine": None}


@pytest.mark.parametrize(
    ("options", "expect"),
    [
        ({"languages": frozenset({"markdown"})}, {"docs/guide.md"}),
        ({"kinds": frozenset({"class"})}, {"app/config.py"}),
        ({"kinds": frozenset({"method"})}, {"app/config.py"}),
        ({"paths": ("app",)}, {"app/config.py", "app/network.py"}),
        ({"paths": ("*.md",)}, {"docs/guide.md"}),
        ({"paths": ("app/*.py", "!network*")}, {"app/config.py"}),
        ({"roots": frozenset({2})}, {"other.py"}),
        ({"roots": frozenset()}, set()),
        ({"languages": frozenset({"rust"})}, set()),
    ],
)
def test_filters(full: Any, options: dict[str, Any], expect: set[str]) -> None:
    full.put({"other.py": "def configuration(file):\n    return settings(file)\n"}, root=2)
    for mode in ("hybrid", "semantic", "lexical"):
        results = check(full, "configuration file settings of the page", mode=mode, limit=50, **options)
        if mode == "lexical":
            assert {result["path"] for result in results} <= expect
        else:
            assert {result["path"] for result in results} == expect
        assert all(result["kind"] in options.get("kinds", {result["kind"]}) for result in results)


def test_a_filter_as_narrow_as_one_of_many_loses_nothing(shelf: Any) -> None:
    shelf.put({f"many/m{n}.py": f"def handle_{n}(event):\n    return dispatch(event, {n})\n" for n in range(300)})
    shelf.put({"rare/one.py": "def handle_rare(event):\n    return dispatch(event, 0)\n"})
    for mode in ("hybrid", "semantic", "lexical"):
        assert names(check(shelf, "handle dispatch event", mode=mode, paths=("rare",))) == ["handle_rare"]


def test_limits(full: Any) -> None:
    for limit in (1, 3, 1000):
        assert len(check(full, "configuration", limit=limit)) == min(limit, len(check(full, "configuration", limit=99)))


def test_units_of_exactly_the_name_come_first(shelf: Any) -> None:
    shelf.put(
        {
            "a.py": "def load_all():\n    load()\n    load()\n    load_more(load)\n    return load, load, load\n",
            "b.py": "def load():\n    x = compute_everything_else()\n    return x + other_things\n",
            "c.py": "class Thing:\n    def load(self):\n        return self.data_of_things\n",
        }
    )
    for text in ("load", "Thing.load", "load()", "Thing::load"):
        for mode in ("hybrid", "lexical"):
            assert set(names(check(shelf, text, mode=mode))[:2]) == {"load"}, (text, mode)
            assert "load_all" in names(check(shelf, text, mode=mode))


def test_a_class_of_one_method_is_one_result_and_a_large_one_is_not(shelf: Any) -> None:
    steps = "\n".join(f"        total += weigh_oranges({n})" for n in range(40))
    shelf.put(
        {
            "one.py": f"class Weigher:\n    def weigh_oranges_of(self):\n{steps}\n",
            "two.py": f"class Scales:\n    def apples(self):\n{steps}\n    def weigh_oranges_twice(self):\n{steps}\n",
        }
    )
    results = check(shelf, "weigh oranges", limit=20)
    assert len([result for result in results if result["path"] == "one.py"]) == 1
    assert {"apples", "weigh_oranges_twice"} <= set(names(results))


def test_deleted_units_are_gone_and_stale_ids_are_dropped(full: Any) -> None:
    question = Question("retry after a failure")
    vector = full.embed([question.text])[0]
    with full.store.snapshot() as before:
        full.delete("app/network.py")
        assert "retry" not in names(check(full, question.text))
        # An index may be ahead of the snapshot that a question reads, or behind it: no error, nothing unknown.
        stale = search(before, full.words, full.vectors, question, vector)
        assert "retry" not in names(stale)

    class Behind:
        def query(self, *_: Any) -> list[tuple[int, float]]:
            return [(999_999, 5.0), (full.unit("web/page.py", "render_page").id, 1.0)]

        def nearest(self, *_: Any) -> list[tuple[int, float]]:
            return [(888_888, 0.9)]

    assert names(full.ask(lambda view: search(view, Behind(), Behind(), question, vector))) == ["render_page"]


def test_a_vector_of_another_model_is_not_compared(full: Any) -> None:
    class Other:
        def nearest(self, *_: Any) -> list[tuple[int, float]]:
            return []

    vector = full.embed(["retry"])[0][:16]
    found = full.ask(lambda view: search(view, full.words, Other(), Question("retry"), vector))
    assert names(found)[0] == "retry"


@pytest.mark.parametrize(
    ("n", "expect"),
    [
        (0, "absent"),
        (1, "def parse_settings(text):"),
        (2, 'def parse_settings(text):\n    """Split lines of a configuration into keys and values."""'),
    ],
)
def test_snippets(full: Any, n: int, expect: str) -> None:
    (first, *_) = check(full, "parse_settings", snippet_lines=n)
    assert first.get("snippet", "absent") == expect


def test_no_snippet_of_a_file_that_has_moved_on(full: Any) -> None:
    full.sources.clear()
    (first, *_) = check(full, "parse_settings", snippet_lines=5)
    assert first["snippet"] is None


@pytest.mark.parametrize("text", ["", " ", "?!", "the", "🙂", "\udcff", "a" * 5000, "x" + "\x00"])
def test_odd_questions_are_answered(full: Any, text: str) -> None:
    for mode in ("hybrid", "lexical", "semantic"):
        assert isinstance(check(full, text, mode=mode), list)
