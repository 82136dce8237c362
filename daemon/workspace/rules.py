"""What of a workspace is not looked at: the daemon's own defaults, the configuration, and git's rules, in one chain.

Strength, strongest first: `[index] exclude` of the configuration (where "!pattern" includes what is ignored below it);
the defaults; then git's: the `.gitignore` files, deepest first, `info/exclude`, the user's excludes file. A nested
repository has git rules of its own, and those around it do not reach into it.

`WorkspaceRules` is made once for each root and asked by the crawl and by events alike: `top` gives the chain for the
root's own entries, `enter` that of each directory below; the chain is asked about files, `is_ignored` about
directories.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from codegraphd.daemon.workspace.ignore import Ignore, Level, Rules, load_rules
from codegraphd.daemon.workspace.repository import Repository, find_repository, repository_at

DEFAULTS: Final = """
# version control
.git
.hg
.svn
.bzr
.jj
.pijul
_darcs
CVS/
# installed packages, environments, caches of tools
node_modules/
bower_components/
__pycache__/
site-packages/
.venv/
venv/
.tox/
.nox/
.eggs/
*.egg-info/
.mypy_cache/
.pytest_cache/
.ruff_cache/
.hypothesis/
.ipynb_checkpoints/
.cache/
.gradle/
.idea/
.vs/
.settings/
.next/
.nuxt/
.svelte-kit/
.parcel-cache/
.turbo/
.terraform/
.dart_tool/
.bundle/
.stack-work/
.ccls-cache/
.clangd/
# what a build makes; asked only beside the file that says so
target/
# lock files of package managers
package-lock.json
npm-shrinkwrap.json
yarn.lock
pnpm-lock.yaml
bun.lockb
Cargo.lock
poetry.lock
uv.lock
pdm.lock
Pipfile.lock
Gemfile.lock
composer.lock
packages.lock.json
go.sum
flake.lock
# written by tools for tools
*.min.js
*.min.mjs
*.min.css
*.map
# swap, backup and lock files of editors and of atomic saves
*.swp
*.swo
*.swx
*~
.#*
\\#*#
4913
*.tmp
*.temp
*.bak
*.orig
*.rej
*.part
.~lock.*#
*___jb_tmp___
*___jb_old___
.goutputstream-*
.fuse_hidden*
.nfs[0-9a-f]*
.DS_Store
Thumbs.db
"""

# Directories whose name alone says too little: ignored only beside one of these files.
BESIDE: Final[Mapping[str, tuple[str, ...]]] = {"target": ("Cargo.toml", "pom.xml", "build.sbt")}
# Directories ignored by name unless they hold this file: CPython's own package `venv`, say. They are looked into, and
# sealed without it: the file may come later.
UNLESS_HOLDING: Final[Mapping[str, str]] = {"venv": "__init__.py"}
# A directory that holds one of these is a cache or an environment, whatever its name.
MARKERS: Final = frozenset({"CACHEDIR.TAG", "pyvenv.cfg"})
# A change of an entry of one of these names may change what of its directory is ignored.
RULE_NAMES: Final = frozenset({".gitignore", ".git", *MARKERS, *UNLESS_HOLDING.values()}.union(*BESIDE.values()))

_defaults: Final = Rules.from_lines(DEFAULTS.splitlines())


class WorkspaceRules:
    """The rules of one root. Belongs to one thread.

    It remembers what it read outside of the watched tree, so that `is_stale` can tell when that changes.
    """

    def __init__(self, root: str, exclude: Iterable[str] = (), *, environment: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._environment = os.environ if environment is None else environment
        self._config = Rules.from_lines(exclude)
        self._fixed = tuple(Level(0, "", rules) for rules in (self._config, _defaults) if not rules.is_empty())
        self._stats: dict[str, tuple[int, int, int] | None] = {}  # of every file outside that was asked for
        self._repositories: dict[str, tuple[Repository, tuple[Rules | None, ...]]] = {}  # by top
        self._above: dict[str, Rules | None] = {}  # .gitignore files above the root
        self._begun: dict[str, None] = {}  # directories with a .git that is no repository, or not yet: `git init` runs

    def top(self, names: Collection[str]) -> Ignore:
        """The rules for the entries of the root itself; `names` are all its entries. Reads anew what lies outside."""
        for remembered in (self._stats, self._repositories, self._above, self._begun):
            remembered.clear()
        repository = find_repository(self.root, self._environment)
        if ".git" in names and (repository is None or repository.top != self.root):
            self._begun[self.root] = None
        if repository is None:
            return self._with_own(Ignore(self._fixed), "", self.root, names)
        if repository.top == self.root:
            return self._with_own(self._begin(repository, 0, ""), "", self.root, names)
        # The root lies inside a repository: the ignore files from its top down to the root speak, too.
        place, rest = repository.top, os.path.relpath(self.root, repository.top).split(os.sep)
        ignore = self._begin(repository, 0, "/".join(rest) + "/")
        for i, name in enumerate(rest):
            file = os.path.join(place, ".gitignore")
            self._stats[file] = _signature(file)
            found = self._above[file] = load_rules(file, ignore_case=ignore.ignore_case)
            if found is not None:
                ignore = self._add(ignore, Level(0, "/".join(rest[i:]) + "/", found))
            place = os.path.join(place, name)
        return self._with_own(ignore, "", self.root, names)

    def enter(self, parent: Ignore, directory: str, path: str, names: Collection[str]) -> Ignore:
        """The rules for the entries of a directory, from those of its parent.

        `directory` is its path relative to the root, ending in "/"; `path` is absolute; `names` are all its entries.
        """
        if ".git" in names:
            repository = repository_at(path, self._environment)
            if repository is not None:
                return self._with_own(self._begin(repository, len(directory), ""), directory, path, names)
            self._begun[path] = None
        return self._with_own(parent, directory, path, names)

    def is_ignored(self, ignore: Ignore, directory: str, name: str, names: Collection[str] | None = None) -> bool:
        """Is this subdirectory ignored? `names`: the entries beside it, where they are known."""
        ignored = ignore.ignored(directory, name, True)
        if not ignored or (name not in BESIDE and name not in UNLESS_HOLDING):
            return ignored
        # By default, or because somebody said so?
        asked = _said(ignore, directory, name)
        if asked is not None:
            return asked
        if name in UNLESS_HOLDING:
            return False
        if names is not None:
            return any(file in names for file in BESIDE[name])
        path = os.path.join(self.root, directory)
        return any(os.path.lexists(os.path.join(path, file)) for file in BESIDE[name])

    def is_sealed(self, parent: Ignore | None, directory: str, names: Collection[str]) -> bool:
        """Do the entries of this directory mark it as a cache or an environment? `parent`: the rules for the directory
        itself; None for the root, which never is one."""
        if parent is None:
            return False
        above, _, name = directory[:-1].rpartition("/")
        if UNLESS_HOLDING.get(name, "") in names or name not in UNLESS_HOLDING:
            return not MARKERS.isdisjoint(names) and self._config.match(directory[:-1], name, is_dir=True) is not False
        return _said(parent, above and above + "/", name) is None

    def is_stale(self) -> bool:
        """Have rules changed outside of the watched tree since `top` and `enter` read them?

        A few stats as a rule. git writes its configuration often, without changing what concerns us.
        """
        if any(repository_at(path, self._environment) is not None for path in self._begun):
            return True
        changed = {path: now for path, seen in self._stats.items() if (now := _signature(path)) != seen}
        if not changed:
            return False
        for top, (repository, rules) in self._repositories.items():
            again = repository_at(top, self._environment)
            if again != repository or self._outside(again) != rules:
                return True
        fold = any(repository.ignore_case for repository, _ in self._repositories.values() if self._above)
        if any(load_rules(file, ignore_case=fold) is not rules for file, rules in self._above.items()):
            return True
        self._stats.update(changed)
        return False

    def _begin(self, repository: Repository, skip: int, lead: str) -> Ignore:
        """The chain at a repository's top: what is fixed, and git's files outside of the working tree."""
        for source in repository.sources:
            self._stats[source] = _signature(source)
        outside = self._outside(repository)
        self._repositories[repository.top] = repository, outside
        levels = [Level(skip, lead, rules) for rules in outside if rules is not None]
        return Ignore((*self._fixed, *levels), ignore_case=repository.ignore_case)

    def _outside(self, repository: Repository) -> tuple[Rules | None, ...]:
        fold = repository.ignore_case
        return tuple(load_rules(os.path.realpath(file), ignore_case=fold) for file in repository.excludes)

    def _with_own(self, ignore: Ignore, directory: str, path: str, names: Collection[str]) -> Ignore:
        if ".gitignore" not in names:
            return ignore
        own = load_rules(os.path.join(path, ".gitignore"), ignore_case=ignore.ignore_case)
        return ignore if own is None else self._add(ignore, Level(len(directory), "", own))

    def _add(self, ignore: Ignore, level: Level) -> Ignore:
        """The chain with one more level, right below what is fixed."""
        fixed = len(self._fixed)
        return Ignore((*ignore.levels[:fixed], level, *ignore.levels[fixed:]), ignore_case=ignore.ignore_case)


def _said(ignore: Ignore, directory: str, name: str) -> bool | None:
    """Whether somebody asked for this subdirectory to be ignored, our own defaults left out; None: nobody said."""
    return Ignore(level for level in ignore.levels if level.rules is not _defaults).verdict(directory, name, True)


def _signature(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
