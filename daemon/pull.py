"""Fetching a model's files: the only thing in the program that uses the network, and only when asked by name.

From the Hugging Face hub, or a mirror named by HF_ENDPOINT. All files are of one revision; weights come as safetensors
only, and each file is held to the size and, where the hub has it, the SHA-256 that the hub promised. They are put
together beside their place and moved there whole, so that a broken download is never taken for a model.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

HUB = "https://huggingface.co"
_TIMEOUT_S = 30.0
_BLOCK = 1 << 20
_LISTING_BYTES = 16 << 20
_SOURCE = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[0-9a-f]{6,64}")
# What loading reads; everything else of a repository stays where it is.
_WANTED = re.compile(
    r"(config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|modules|sentence_bert_config"
    r"|config_sentence_transformers|model\.safetensors\.index)\.json|vocab\.txt|merges\.txt"
    r"|model(-\d+-of-\d+)?\.safetensors|1_Pooling/config\.json"
)

Progress = Callable[[str, int, int], None]  # file, bytes done, bytes in all


class PullError(Exception):
    """The model could not be fetched: one line."""


class RemoteFile(NamedTuple):
    path: str
    size: int  # bytes; -1: not told
    sha256: str  # "": not told


def pull(source: str, directory: str, progress: Progress, environment: Mapping[str, str] | None = None) -> str:
    """Fetch the model `owner/name` into `directory`, replacing what is there. -> the revision. Raises PullError."""
    env = os.environ if environment is None else environment
    endpoint = (env.get("HF_ENDPOINT") or HUB).rstrip("/")
    if _SOURCE.fullmatch(source) is None:
        raise PullError(f"'{source}' is no model of the hub: give a known name, or owner/name")
    _check_endpoint(endpoint)
    revision, files = _listing(endpoint, source)
    partial = f"{directory}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for file in files:
            target = os.path.join(partial, *file.path.split("/"))
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            url = f"{endpoint}/{source}/resolve/{revision}/{urllib.parse.quote(file.path)}"
            _fetch(url, file, target, progress)
        shutil.rmtree(directory, ignore_errors=True)
        os.rename(partial, directory)
    except OSError as error:
        raise PullError(f"{error.filename or directory}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return revision


def _check_endpoint(endpoint: str) -> None:
    parts = urllib.parse.urlsplit(endpoint)
    is_here = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not is_here:
        raise PullError(f"HF_ENDPOINT {endpoint}: only https is used")


def _listing(endpoint: str, source: str) -> tuple[str, list[RemoteFile]]:
    """The current revision, and the files of it that loading needs. Raises PullError."""
    with _open(f"{endpoint}/api/models/{source}?blobs=true") as answer:
        raw = answer.read(_LISTING_BYTES)
    try:
        told: dict[str, Any] = json.loads(raw)
        revision = str(told["sha"])
        files = [_remote_file(entry) for entry in told["siblings"] if _WANTED.fullmatch(str(entry["rfilename"]))]
    except (ValueError, KeyError, TypeError) as error:
        raise PullError(f"{endpoint} does not answer as the hub does: {type(error).__name__}: {error}") from None
    if _REVISION.fullmatch(revision) is None:
        raise PullError(f"{endpoint} does not answer as the hub does: revision {revision!r}")
    if not any(file.path.endswith(".safetensors") for file in files):
        raise PullError(
            f"{source} has no safetensors: other formats can run code and are not loaded; convert it to a directory "
            "of your own and name that"
        )
    return revision, files


def _remote_file(entry: Mapping[str, Any]) -> RemoteFile:
    large = entry.get("lfs") or {}
    size = large.get("size", entry.get("size"))
    return RemoteFile(
        str(entry["rfilename"]), int(size) if size is not None else -1, str(large.get("sha256") or "").lower()
    )


def _fetch(url: str, file: RemoteFile, target: str, progress: Progress) -> None:
    digest, done = hashlib.sha256(), 0
    with _open(url) as answer, open(target, "xb") as out:
        while block := answer.read(_BLOCK):
            done += len(block)
            if 0 <= file.size < done:
                raise PullError(f"{url} is longer than the {file.size:,} bytes that were promised")
            digest.update(block)
            out.write(block)
            progress(file.path, done, file.size)
    if 0 <= file.size != done:
        raise PullError(f"{url} ended after {done:,} of {file.size:,} bytes; try again")
    if file.sha256 and digest.hexdigest() != file.sha256:
        raise PullError(f"{url} is not what was promised (its SHA-256 differs)")


def _open(url: str) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "codegraphd"})  # noqa: S310 - https, see above
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        raise PullError(f"{url}: {error.code} {error.reason}") from None
    except (urllib.error.URLError, OSError) as error:
        raise PullError(f"{url}: {getattr(error, 'reason', error)}") from None
