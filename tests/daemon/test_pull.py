"""Fetching a model from a hub that is a server on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from codegraphd.daemon.cli import main
from codegraphd.daemon.pull import PullError, pull

SOURCE = "owner/tiny-model"
REVISION = "0123456789abcdef"


class Hub:
    """The files of one model; what is promised of them can be set apart from what is served."""

    def __init__(self) -> None:
        self.files = {
            "config.json": b'{"model_type": "bert"}',
            "model.safetensors": b"weights" * 1000,
            "tokenizer.json": b"{}",
            "1_Pooling/config.json": b"{}",
            "pytorch_model.bin": b"code",
            "README.md": b"words",
        }
        self.asked: list[str] = []
        self.listing: dict[str, Any] = {"sha": REVISION, "siblings": [self.entry(name) for name in self.files]}

    def entry(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        entry: dict[str, Any] = {"rfilename": name, "size": len(content)}
        if name.endswith(".safetensors"):
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        return entry

    def promised(self, name: str) -> dict[str, Any]:
        return next(entry for entry in self.listing["siblings"] if entry["rfilename"] == name)

    def answer(self, path: str) -> bytes | None:
        self.asked.append(path)
        if path == f"/api/models/{SOURCE}?blobs=true":
            return json.dumps(self.listing).encode()
        return self.files.get(path.removeprefix(f"/{SOURCE}/resolve/{REVISION}/"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = made.answer(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def quiet(_file: str, _done: int, _size: int) -> None:
    pass


def refusal(directory: Path, source: str = SOURCE) -> str:
    with pytest.raises(PullError) as refused:
        pull(source, str(directory), quiet)
    assert not directory.with_name("model.partial").exists()
    return str(refused.value)


def test_what_loading_needs_is_fetched_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    target = tmp_path / "model"
    assert pull(SOURCE, str(target), lambda *step: steps.append(step)) == REVISION
    fetched = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert fetched == {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"}
    assert (target / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert ("model.safetensors", 7000, 7000) in steps
    pull(SOURCE, str(target), quiet)  # again: replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_broken_download_leaves_what_was_there(hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / "model"
    pull(SOURCE, str(target), quiet)
    hub.files["model.safetensors"] = b"wrong!!" * 1000
    assert "SHA-256 differs" in refusal(target)
    hub.files["model.safetensors"] = b"short"
    assert "ended after 5 of 7,000 bytes" in refusal(target)
    hub.files["model.safetensors"] = b"longer " * 2000
    assert "longer than the 7,000 bytes" in refusal(target)
    hub.files["model.safetensors"] = b"weights" * 1000
    del hub.files["tokenizer.json"]
    assert "404" in refusal(target)
    assert (target / "model.safetensors").read_bytes() == b"weights" * 1000


def test_weights_that_can_run_code_are_not_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.listing["siblings"] = [e for e in hub.listing["siblings"] if e["rfilename"] != "model.safetensors"]
    assert "no safetensors" in refusal(tmp_path / "model")
    assert len(hub.asked) == 1


@pytest.mark.parametrize("listing", [[], {}, {"sha": "../../x", "siblings": []}, {"sha": REVISION, "siblings": [1]}])
def test_a_server_that_is_no_hub_is_refused(hub: Hub, tmp_path: Path, listing: Any) -> None:
    hub.listing = listing
    assert "does not answer as the hub does" in refusal(tmp_path / "model")


def test_paths_out_of_the_directory_are_not_wanted(hub: Hub, tmp_path: Path) -> None:
    hub.listing["siblings"] += [{"rfilename": "../config.json"}, {"rfilename": "/etc/vocab.txt"}]
    pull(SOURCE, str(tmp_path / "model"), quiet)
    assert not any(".." in path or "etc" in path for path in hub.asked)


@pytest.mark.parametrize("source", ["", "name", "a/b/c", "../b", "a/../b", "a b/c"])
def test_only_models_of_the_hub_are_asked_for(hub: Hub, tmp_path: Path, source: str) -> None:
    assert "is no model of the hub" in refusal(tmp_path / "model", source)
    assert hub.asked == []


def test_only_https_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint in ("http://example.com", "file:///etc", "ftp://localhost"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert "only https" in refusal(tmp_path / "model")


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert "refused" in refusal(tmp_path / "model").lower()


def test_the_command(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEGRAPHD_HOME", str(tmp_path))
    assert main(["model", "pull", SOURCE, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["revision"] == REVISION
    assert (Path(told["directory"]) / "config.json").exists()
    assert main(["model", "pull", "hashing"]) == 1
    assert main(["model", "pull"]) == 2
