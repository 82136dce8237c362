"""Maps the top-level folders into the `codegraphd` namespace; all else is in pyproject.toml."""

from setuptools import find_packages, setup

TOP = ("daemon", "ipc", "store")
DATA = ("systemd", "launchd")  # templates of the user service: folders without code
found = find_packages(include=[g for t in TOP for g in (t, f"{t}.*")])
setup(
    packages=[f"codegraphd.{name}" for name in (*found, *DATA)],
    package_dir={f"codegraphd.{t}": t for t in (*TOP, *DATA)},
)
