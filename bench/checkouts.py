"""Real repositories at fixed commits, for comparisons that need more than what a Python installation has.

A checkout is taken from a directory that is given, where it lies under the repository's name; else that one commit is
fetched with git. What cannot be had raises `UnavailableError`, which says so in one line.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Repository(NamedTuple):
    owner: str
    name: str
    commit: str


class UnavailableError(Exception):
    """Something that a comparison needs and that is not to be had here."""


REPOSITORIES = {
    repository.name: repository
    for repository in (
        Repository("pallets", "flask", "2ac89889f4cc330eabd50f295dcef02828522c69"),
        Repository("expressjs", "express", "a3714473feb3d2908add734d340e7755fd85e0a3"),
        Repository("vitejs", "vite", "a98c8d95d552c6fa98ab66fb810f5b39ad5abf49"),
        Repository("google", "gson", "9835b6f90192f79cdf5300c528fc6212455fb6c1"),
        Repository("spf13", "cobra", "adbc8813901bba65827259daa8e22ff94ec1f30e"),
        Repository("gin-gonic", "gin", "dcaa4296d111981ffb31ac3eba90bb63e1eb5ab9"),
        Repository("BurntSushi", "ripgrep", "3fce3b5bb0236da2df6d99672afb8a719642eca7"),
        Repository("serde-rs", "serde", "1023d077510b4aef36a41ef56fdb7798568a2654"),
        Repository("jqlang", "jq", "579e6f76cffd7643ba4002a2c3618a5ea710589a"),
        Repository("google", "leveldb", "78a352f47ed6c1e9d750545e9b242289185b87e1"),
        Repository("fmtlib", "fmt", "60ccad511fd680cb91d8b60a315759f71c67bef9"),
        Repository("ninja-build", "ninja", "fc6bb98eee5a9710055cb9fe74375a6523831e28"),
        Repository("google", "re2", "972a15cedd008d846f1a39b2e88ce48d7f166cbd"),
        Repository("App-vNext", "Polly", "173d6d1d2e28a4697f1ac1d22da68f77ff19a0c9"),
        Repository("serilog", "serilog", "60935b4d7abad71cf6157b45a10f5c3c65ead527"),
        Repository("FluentValidation", "FluentValidation", "ea299fe59719950018fa240dab86da414190d7f4"),
        Repository("microsoft", "CodeBERT", "c0de43d3aaf38e89290f1efb771f8de845e7a489"),
    )
}

# What of a large repository is enough.
_PARTS = {"CodeBERT": ("GraphCodeBERT/codesearch/parser/DFG.py", "GraphCodeBERT/codesearch/parser/utils.py")}


class Checkouts:
    """Directories of repositories: those that are given, and those fetched so far."""

    def __init__(self, home: Path, given: Path | None = None) -> None:
        self._home, self._given = home, given

    def get(self, name: str) -> Path:
        repository = REPOSITORIES[name]
        if self._given is not None and (self._given / name).is_dir():
            return self._given / name
        target = self._home / name
        if not (target / ".git" / "complete").exists():
            _fetch(repository, target)
            (target / ".git" / "complete").touch()
        return target


def _fetch(repository: Repository, target: Path) -> None:
    url = f"https://github.com/{repository.owner}/{repository.name}"
    target.mkdir(parents=True, exist_ok=True)
    commands = (
        ["init", "--quiet"],
        ["remote", "add", "origin", url],  # who is asked for the files when they are checked out
        ["fetch", "--quiet", "--depth", "1", "--filter=blob:none", "origin", repository.commit],
        ["checkout", "--quiet", "FETCH_HEAD", "--", *_PARTS.get(repository.name, ["."])],
    )
    for command in commands:
        try:
            done = subprocess.run(
                ["git", *command], cwd=target, check=False, capture_output=True, text=True, timeout=600
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"{url}: {error}") from error
        said = done.stderr.strip()
        if done.returncode and "already exists" not in said:
            raise UnavailableError(f"{url}: {said.splitlines()[-1] if said else 'git failed'}")
