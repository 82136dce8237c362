"""Maps the top-level folders into the `codegraphd` namespace, and builds its one compiled module; all else is in
pyproject.toml."""

from glob import glob
from hashlib import sha256

from setuptools import Extension, find_packages, setup

TOP = ("daemon", "ipc", "store")
DATA = ("systemd", "launchd")  # templates of the user service: folders without code
found = find_packages(include=[g for t in TOP for g in (t, f"{t}.*")])

SCAN = sorted(glob("daemon/analysis/_scan*.cpp")), sorted(glob("daemon/analysis/_scan*.h"))
identity = sha256()
for name in (*SCAN[0], *SCAN[1]):
    with open(name, "rb") as file:
        identity.update(file.read())
scan = Extension(
    "codegraphd.daemon.analysis._scan",
    sources=SCAN[0],
    depends=SCAN[1],
    define_macros=[("SCAN_IDENTITY", f'"{identity.hexdigest()}"')],
    extra_compile_args=["-std=c++17", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra"],
    language="c++",
)
setup(
    packages=[f"codegraphd.{name}" for name in (*found, *DATA)],
    package_dir={f"codegraphd.{t}": t for t in (*TOP, *DATA)},
    ext_modules=[scan],
)
