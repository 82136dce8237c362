"""doctor: each trouble is found, named, and comes with what mends it; nothing is started, nothing changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from codegraphd.daemon import doctor
from codegraphd.daemon.cli import main
from codegraphd.daemon.doctor import FAIL, OK, WARN, Check, allows, examine
from codegraphd.ipc.lock import acquire_lock
from codegraphd.ipc.paths import Paths
from codegraphd.store.env import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('[embedding]\nmodel = "hashing"\n')
    monkeypatch.setenv("CODEGRAPHD_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return home


def found(name: str, verdict: str) -> list[Check]:
    return [check for check in examine() if check.name == name and check.verdict == verdict]


def test_a_sound_installation(home: Path) -> None:
    checks = examine()
    assert [check for check in checks if check.verdict == FAIL] == []
    assert {c.name for c in checks} >= {"python", "packages", "config", "directories", "model", "daemon", "store"}
    assert [path.name for path in home.iterdir()] == ["config.toml"]


def test_the_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    (home / "config.toml").write_text("[embeding]\n")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert 'did you mean "embedding"?' in out
    assert "-> edit the file" in out


def test_every_failure_says_how_to_mend_it(home: Path) -> None:
    (home / "config.toml").write_text('[embedding]\nmodel = "/no/such/model"\n')
    (home / "state").mkdir()
    (home / "state").chmod(0o777)
    failures = [check for check in examine() if check.verdict == FAIL]
    assert {check.name for check in failures} == {"model", "directories"}
    assert all(check.mend for check in failures)
    (model,) = found("model", FAIL)
    assert "/no/such/model" in model.says


def test_a_damaged_store_is_found(home: Path) -> None:
    directory = home / "state" / "index"
    directory.parent.mkdir(mode=0o700)
    Store.open(str(directory)).close()
    assert found("store", OK)
    (directory / "data.mdb").write_bytes(b"not lmdb" * 1000)
    (damaged,) = found("store", FAIL)
    assert str(directory) in damaged.mend


def test_a_daemon_that_holds_the_lock_and_does_not_answer(home: Path) -> None:
    paths = Paths.from_environment()
    lock = acquire_lock(paths)
    lock.record(paths.address)
    (stuck,) = found("daemon", FAIL)
    assert str(os.getpid()) in stuck.says
    assert stuck.mend == "codegraphd restart"
    lock.release()
    assert found("daemon", OK)


def test_a_broken_check_hides_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Paths) -> object:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(doctor, "_disk", broken)
    (check,) = found("disk", FAIL)
    assert "ZeroDivisionError: boom" in check.says
    assert found("daemon", OK)


def test_little_room_is_a_warning(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_FREE_BYTES", 1 << 62)
    (check,) = found("disk", WARN)
    assert "make room" in check.mend


@pytest.mark.skipif(not os.path.exists("/proc/sys/fs/inotify"), reason="inotify is Linux's")
def test_fault_04_small_inotify_limits_name_the_sysctl(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_WATCHES", 1 << 62)
    (check,) = found("limits", WARN)
    assert "sudo sysctl fs.inotify.max_user_watches=524288" in check.mend


@pytest.mark.parametrize(
    ("specifiers", "version", "fits"),
    [
        (">=1.1,<2", "1.1", True),
        (">=1.1,<2", "1.1.0", True),
        (">=1.1,<2", "2.0", False),
        (">=1.1,<2", "1.0.9", False),
        ("==7.1.0", "7.1", True),
        ("==7.1.0", "7.1.1", False),
        (">=2.6,<3", "2.13.0+cpu", True),
        ("", "1", True),
        (">=1; python_version < '4'", "0.9", False),
        ("===odd", "1", True),
    ],
)
def test_versions(specifiers: str, version: str, *, fits: bool) -> None:
    assert allows(specifiers, version) is fits


def test_a_missing_package_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["msgpack>=1.1,<2", "no-such-package>=1", "numpy>=99", "extra-only; extra == 'dev'"]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: needs)
    (check,) = found("packages", FAIL)
    assert "no-such-package is missing" in check.says
    assert "numpy" in check.says
    assert "extra-only" not in check.says
