"""A working day with git, on a real repository under a real daemon: what each act costs, and whether nothing is lost.

    python -m bench.git_life REPOSITORY [--commits 200] [--context faces]

A rebase of many commits, a stash that goes back and forth, an old release checked out and left again, a directory
renamed, a worktree, a clone, and a package manager that fills `node_modules` beside it. After each act the time until
all of it is searchable, by words and by meaning, the inputs that the model computed for it, and the differences to a
fresh build; meanwhile a client asks, and what its questions took is told too. REPOSITORY is cloned, never changed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import Report, describe, machine
from bench.home import Home
from codegraphd.daemon.analysis.languages import grammar_of, language_of
from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import RequestError

STASHED = 50  # files
STASHES = 5  # times back and forth
PACKAGES = 5_000  # files of `node_modules`
ASK_EVERY_S = 0.05
AUTHOR = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0")


class Asker:
    """A client that goes on asking by words: the seconds of each answer, and the errors."""

    def __init__(self, home: Home) -> None:
        self.spent: list[float] = []
        self.errors: list[str] = []
        self._home, self._stop = home, threading.Event()
        self._thread = threading.Thread(target=self._run, name="asker")
        self._thread.start()

    def _run(self) -> None:
        with self._home.client() as client:
            while not self._stop.wait(ASK_EVERY_S):
                begin = time.perf_counter()
                try:
                    answer = client.call("search", query="read the configuration", mode="lexical")
                    if "clock" not in answer or "pending" not in answer:
                        self.errors.append(f"an answer without clock or pending: {sorted(answer)}")
                except RequestError as error:
                    self.errors.append(str(error))
                self.spent.append(time.perf_counter() - begin)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


class Day:
    """The clone, its daemon, and the report."""

    def __init__(self, report: Report, scratch: Path, repository: Path, home: Home, client: Client) -> None:
        self.report, self.scratch, self.home, self.client = report, scratch, home, client
        self.repository, self.root = repository, scratch / "work"

    def git(self, *arguments: str, at: Path | None = None) -> str:
        command = ["git", *AUTHOR, "-C", str(at or self.root), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise RuntimeError(f"git {' '.join(arguments[:2])}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def clone(self, target: Path) -> None:
        self.git("clone", "--quiet", "--no-hardlinks", str(self.repository), str(target), at=self.scratch)

    def code_files(self) -> list[Path]:
        names = self.git("ls-files", "-z").split("\0")
        return [self.root / name for name in names if name and grammar_of(name, language_of(name) or "text")]

    def act(self, name: str, work: Callable[[], object], *, root: Path | None = None, most: int | None = None) -> None:
        """Do it; then wait for words and for meaning, and compare. `most`: inputs that it may embed."""
        root = root or self.root
        embedded = self.home.status()["model"]["embedded"]
        asker = Asker(self.home)
        begin = time.perf_counter()
        try:
            work()
            worked = time.perf_counter()
            self.client.call("sync", root=str(root), timeout_s=600)
            words = time.perf_counter()
            self.client.call("sync", root=str(root), semantic=True, timeout_s=3600)
            meaning = time.perf_counter()
        finally:
            asker.stop()
        add = self.report.add
        self.report.heading(name)
        add(f"{name}: the act itself", worked - begin, "s")
        add(f"{name}: from its end to words", words - worked, "s")
        add(f"{name}: from its end to meaning", meaning - worked, "s")
        now = self.home.status()["model"]["embedded"]
        add(f"{name}: inputs embedded", now - embedded, "", target=most)
        self.report.spread(f"{name}: a question by words meanwhile", asker.spent)
        add(f"{name}: questions that failed", len(asker.errors), "", target=0, note="; ".join(asker.errors[:2]))
        found = self.client.call("verify", root=str(root))
        add(f"{name}: differences to a fresh build", len(found["differences"]), "", target=0)
        for difference in found["differences"][:5]:
            print(f"    {difference}")

    # --- the acts ----------------------------------------------------------------------------------------------------

    def commit_many(self, n_commits: int) -> None:
        """A branch `topic` of that many commits, each of one file, on a base that `main-line` then leaves."""
        self.git("checkout", "--quiet", "-B", "topic")
        files = self.code_files()
        for n in range(n_commits):
            self._edit(files[n % len(files)], n)
            self.git("commit", "--quiet", "--all", "-m", f"step {n}")
        self.git("checkout", "--quiet", "-B", "main-line", f"HEAD~{n_commits}")
        (self.root / "bench_base.py").write_text("def another_base():\n    return 'of all that follows'\n")
        self.git("add", "bench_base.py")
        self.git("commit", "--quiet", "-m", "another base")
        self.git("checkout", "--quiet", "topic")

    def _edit(self, path: Path, n: int) -> None:
        if language_of(path.name) == "python":
            text = f"\n\ndef added_{n}(value):\n    return value + {n}\n"
        else:
            text = f"\n// step {n}\n"
        with path.open("a") as file:
            file.write(text)

    def stash(self) -> None:
        for n, path in enumerate(self.code_files()[:STASHED]):
            self._edit(path, 1000 + n)
        for _ in range(STASHES):
            self.git("stash", "push", "--quiet")
            self.git("stash", "pop", "--quiet")
        self.git("checkout", "--quiet", "--force", "HEAD")

    def rename(self) -> None:
        """The directory with most of the code takes another name."""
        tops = [path.relative_to(self.root).parts[0] for path in self.code_files() if path.parent != self.root]
        top = max(sorted(set(tops)), key=tops.count)
        self.git("mv", top, f"{top}-renamed")

    def packages(self) -> None:
        for n in range(PACKAGES):
            folder = self.root / "node_modules" / f"package-{n % 500}" / "lib"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"index{n}.js").write_text(f"function inner{n}(a) {{ return a + {n}; }}\n")


def measure(report: Report, scratch: Path, repository: Path, *, commits: int, context: str) -> None:
    home = Home(scratch / "home", f'[embedding]\ncontext = "{context}"\n')
    with home.running(), home.client() as client:
        day = Day(report, scratch, repository, home, client)
        day.clone(day.root)
        old = day.git("rev-list", "--first-parent", f"--max-count={commits}", "HEAD").split()[-1]
        new = day.git("rev-parse", "HEAD").strip()
        client.call("watch", root=str(day.root))
        day.act("the first index", lambda: None)
        line = home.workspace(client, day.root)
        report.add("files and units", line["units"], "units", note=f"{line['files']} files")
        day.act(f"{commits} commits", lambda: day.commit_many(commits))
        day.act(f"a rebase of {commits} commits", lambda: day.git("rebase", "--quiet", "main-line"))
        day.act(f"a stash back and forth, {STASHES} times", day.stash)
        day.git("checkout", "--quiet", "--detach", new)
        day.act("an old release checked out", lambda: day.git("checkout", "--quiet", old))
        day.act("and left again", lambda: day.git("checkout", "--quiet", new), most=0)
        day.act("the old release once more", lambda: day.git("checkout", "--quiet", old), most=0)
        day.act("and left once more", lambda: day.git("checkout", "--quiet", new), most=0)
        day.act("a directory renamed", day.rename, most=0 if context == "none" else None)
        day.git("reset", "--quiet", "--hard")

        def beside(target: Path, make: Callable[[], object]) -> None:
            make()
            client.call("watch", root=str(target))

        tree, clone = scratch / "worktree", scratch / "clone"
        day.act(
            "a second worktree",
            lambda: beside(tree, lambda: day.git("worktree", "add", "--quiet", str(tree), new)),
            root=tree, most=0,
        )  # fmt: skip
        day.act("a fresh clone", lambda: beside(clone, lambda: day.clone(clone)), root=clone, most=0)
        spent = home.cpu_s()
        day.act(f"{PACKAGES} files in node_modules", day.packages, most=0)
        report.add("processor time for node_modules, verify included", home.cpu_s() - spent, "s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.git_life", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--context", choices=["faces", "none"], default="none")
    chosen = parser.parse_args()
    report = Report(f"git with {chosen.repository.resolve().parent.name}", machine=machine())
    print(describe(report.machine))
    scratch = Path(tempfile.mkdtemp(prefix="codegraphd-git-"))
    try:
        measure(report, scratch, chosen.repository.resolve(), commits=chosen.commits, context=chosen.context)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"\n{report.table()}\n\nwritten to {report.save()}")
    return 1 if any(figure.is_met is False for figure in report.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
