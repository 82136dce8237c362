"""The configuration: defaults, and one clear line for whatever is wrong."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon import config as configuration
from codegraphd.daemon.config import Config, ConfigError, as_table, as_toml, changed_sections, load, parse

# The keys that the interface promises.
KEYS = {
    "embedding": "model device dtype batch_tokens max_tokens context fallback_models idle_unload_s threads",
    "compression": "dimensions precision sparsity",
    "incremental": "max_cascade_depth max_cascade_units settle_ms",
    "cache": "max_mb ttl_hours",
    "index": "languages exclude max_file_kb text_fallback ann_max_mb",
    "limits": "clients frame_mb reply_mb request_timeout_s memory_mb",
    "log": "level format",
}


def check(text: str, *says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text.encode("utf-8", "surrogateescape"), "/c/config.toml")
    message = str(refused.value)
    assert message.startswith("/c/config.toml: ")
    assert "\n" not in message
    for part in says:
        assert part in message


def test_the_keys_are_those_of_the_interface() -> None:
    assert {section: " ".join(keys) for section, keys in as_table(Config()).items()} == KEYS


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert load(str(tmp_path / "none.toml")) == Config()
    assert parse(b"", "x") == Config()
    assert parse(b"[embedding]\n", "x") == Config()


def test_defaults_that_the_interface_names() -> None:
    assert Config().incremental.max_cascade_depth == 3
    assert Config().incremental.settle_ms == 30
    assert Config().cache.ttl_hours == 0
    assert Config().limits.reply_mb == 256
    assert Config().limits.frame_mb == 4
    assert Config().embedding.idle_unload_s == 600


def test_what_is_given_holds_and_the_rest_stays() -> None:
    text = '[embedding]\ndtype = "float32"\nfallback_models = ["hashing"]\n[index]\nlanguages = ["go", "c"]\n'
    found = parse(text.encode(), "x")
    assert found.embedding == dataclasses.replace(Config().embedding, dtype="float32", fallback_models=("hashing",))
    assert found.index.languages == ("go", "c")
    assert found.limits == Config().limits


def test_unknown_keys_name_the_nearest() -> None:
    check("[incremental]\nsettle_m = 3", "[incremental] settle_m", 'did you mean "settle_ms"?', "max_cascade_depth")
    check("[embeding]\nmodel = 'x'", "[embeding]", 'did you mean "embedding"?', "limits")
    check("[nothing_like_it]", "unknown section", "embedding, compression")
    check("model = 'x'", "write it below [embedding]")
    check("embedding = 3", "is a section")


@pytest.mark.parametrize(
    ("section", "line", "says"),
    [
        ("embedding", 'dtype = "bfloat61"', 'did you mean "bfloat16"?'),
        ("embedding", 'device = "gpu"', 'one of "auto", "cpu", "cuda", "mps"'),
        ("embedding", "model = 3", "a known model"),
        ("embedding", 'model = ""', "a known model"),
        ("embedding", 'fallback_models = "hashing"', "a list"),
        ("embedding", "fallback_models = [1]", "a list"),
        ("embedding", "batch_tokens = 2048.5", "whole number"),
        ("embedding", "threads = -1", "from 0"),
        ("compression", 'precision = "int9"', "int8"),
        ("compression", "sparsity = 1.0", "0.99"),
        ("incremental", "max_cascade_depth = true", "whole number"),
        ("incremental", "settle_ms = nan", "a number from 0"),
        ("incremental", "settle_ms = inf", "a number from 0"),
        ("cache", "max_mb = 0", "from 1"),
        ("index", 'languages = ["pyton"]', 'did you mean "python"?'),
        ("index", 'text_fallback = "yes"', "true or false"),
        ("limits", "clients = 0", "from 1"),
        ("limits", 'clients = "many"', "whole number"),
        ("limits", "request_timeout_s = 0", "from 0.01"),
        ("log", 'level = "verbose"', '"debug"'),
        ("log", "level = 1979-05-27", '"debug"'),
    ],
)
def test_bad_values_say_what_is_allowed(section: str, line: str, says: str) -> None:
    check(f"[{section}]\n{line}", f"[{section}] {line.partition(' ')[0]} = ", says)


@pytest.mark.parametrize("text", ["a =", "[a", "\udcff = 1", "[embedding]\nmodel = '''", "x = " + "[" * 5000])
def test_what_is_no_toml_is_one_line(text: str) -> None:
    check(text)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path))
    if os.geteuid() != 0:
        (tmp_path / "c.toml").touch(mode=0o000)
        with pytest.raises(ConfigError, match="cannot be read"):
            load(str(tmp_path / "c.toml"))


paths = st.text(min_size=1, max_size=20).filter(lambda t: bool(t.strip()) and "\0" not in t)


@given(model=paths, exclude=st.lists(paths, max_size=3), depth=st.integers(0, 100), settle=st.floats(0, 60_000))
def test_what_show_prints_reads_back(model: str, exclude: list[str], depth: int, settle: float) -> None:
    if any(0xD800 <= ord(c) <= 0xDFFF for c in "".join([model, *exclude])):
        return
    made = Config(
        embedding=dataclasses.replace(Config().embedding, model=model),
        index=dataclasses.replace(Config().index, exclude=tuple(exclude)),
        incremental=dataclasses.replace(Config().incremental, max_cascade_depth=depth, settle_ms=settle),
    )
    assert parse(as_toml(made).encode(), "x") == made


values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)


@given(st.sampled_from([(s, k) for s, keys in KEYS.items() for k in keys.split()]), values)
def test_any_value_is_taken_or_refused(place: tuple[str, str], value: Any) -> None:
    section, key = place
    try:
        found = parse(f"[{section}]\n{key} = {configuration.as_toml_value(value)}".encode("utf-8", "replace"), "x")
    except ConfigError as error:
        found = str(error)  # type: ignore[assignment]
    assert isinstance(found, Config) or found.startswith("x: ")


def test_fault_23_a_reload_knows_what_changed() -> None:
    old = Config()
    new = parse(b"[log]\nlevel = 'debug'\n[embedding]\nthreads = 1", "x")
    assert changed_sections(old, new) == ("embedding", "log")
    assert changed_sections(old, Config()) == ()
