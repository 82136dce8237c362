"""The units as rendered and installed, with a service manager that is a script, and checked by systemd itself."""

from __future__ import annotations

import configparser
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codegraphd.daemon import service as services
from codegraphd.daemon.cli import main
from codegraphd.ipc.paths import Paths

HOMES = ["", "/data/home", '/data/50% "off" $HOME\\ ü']


def service_of(home: str, platform: str = "linux") -> services.Service:
    env = {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7", "XDG_CONFIG_HOME": "/h/.config"}
    if home:
        env["CODEGRAPHD_HOME"] = home
    found = services.service_of(Paths.from_environment(env, platform=platform), env, platform=platform)
    assert found is not None
    return found


def test_a_unit_is_named_by_its_home() -> None:
    assert service_of("").name == "codegraphd"
    names = [service_of(home).name for home in HOMES]
    assert len(set(names)) == 3
    assert service_of("", "darwin").name == "io.codegraphd.daemon"
    assert service_of("/data/home", "darwin").name.startswith("io.codegraphd.daemon.")
    assert services.service_of(Paths.from_environment({"CODEGRAPHD_HOME": "/x"}), {}, platform="win32") is None


def rendered(service: services.Service) -> dict[str, configparser.ConfigParser]:
    found = {}
    for path, content in services.render(service, {}).items():
        parser = configparser.ConfigParser(interpolation=None, strict=False, comment_prefixes=("#",), delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(content.decode())
        found[path.rpartition(".")[2]] = parser
    return found


def test_the_systemd_units_say_what_they_must() -> None:
    units = rendered(service_of(""))
    unit = units["service"]["Service"]
    assert unit["Type"] == "notify"
    assert int(unit["WatchdogSec"]) > 0
    assert unit["Restart"] == "on-failure"
    assert unit["RestartPreventExitStatus"] == "78"
    assert unit["RestrictAddressFamilies"] == "AF_UNIX"
    assert unit["OOMPolicy"] == "continue"
    assert unit["NoNewPrivileges"] == "yes"
    assert "MemoryDenyWriteExecute" not in unit
    assert unit["ExecStart"] == f'"{sys.executable}" "-m" "codegraphd.daemon" run'
    assert units["socket"]["Socket"]["ListenStream"] == "/run/user/7/codegraphd/daemon.sock"
    assert units["socket"]["Socket"]["SocketMode"] == "0600"
    assert units["service"]["Unit"]["Requires"] == "codegraphd.socket"
    assert "Environment" not in unit


def test_a_homes_environment_is_in_its_unit() -> None:
    units = rendered(service_of("/data/home"))
    assert units["service"]["Service"]["Environment"] == '"CODEGRAPHD_HOME=/data/home"'
    assert units["socket"]["Socket"]["ListenStream"] == "/data/home/daemon.sock"
    odd = rendered(service_of(HOMES[2]))
    assert odd["service"]["Service"]["Environment"] == '"CODEGRAPHD_HOME=/data/50%% \\"off\\" $HOME\\\\ ü"'
    assert odd["socket"]["Socket"]["ListenStream"] == '/data/50%% "off" $HOME\\ ü/daemon.sock'


@pytest.mark.parametrize("home", HOMES)
def test_nothing_stays_unfilled(home: str) -> None:
    for content in services.render(service_of(home), {"XDG_STATE_HOME": "/s@NAME@"}).values():
        assert "@" not in content.decode().replace("s@NAME@", "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("home", HOMES)
def test_systemd_accepts_the_units(home: str, tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    files = []
    for path, content in services.render(service_of(home), {}).items():
        file = tmp_path / Path(path).name
        file.write_bytes(content)
        files.append(str(file))
    env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "HOME": str(tmp_path), "SYSTEMD_LOG_LEVEL": "warning"}
    command = ["systemd-analyze", "--user", "--man=no", "--recursive-errors=no", "verify", *files]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_systemd_would_find_fault_with_a_broken_unit(tmp_path: Path) -> None:
    """The check above can fail."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    (tmp_path / "x.service").write_text("[Service]\nTyp=notify\nExecStart=/nowhere/at/all\n")
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    command = ["systemd-analyze", "--user", "--man=no", "--recursive-errors=no", "verify", str(tmp_path / "x.service")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode != 0 or done.stderr


def test_the_launch_agent_says_what_it_must() -> None:
    service = service_of("/data/home", "darwin")
    (content,) = services.render(service, {"XDG_STATE_HOME": "/s"}).values()
    agent = plistlib.loads(content)
    assert agent["Label"] == service.name
    assert agent["ProgramArguments"] == [sys.executable, "-m", "codegraphd.daemon", "run"]
    assert agent["EnvironmentVariables"] == {"CODEGRAPHD_HOME": "/data/home", "XDG_STATE_HOME": "/s"}
    assert agent["Sockets"]["Listeners"] == {"SockPathName": "/data/home/daemon.sock", "SockPathMode": 0o600}
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["StandardErrorPath"] == "/data/home/log/daemon.log"


# --- installing, with a manager that writes down what it is told ---------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `systemctl` that logs its orders; it fails while the file `down` exists."""
    orders = tmp_path / "orders"
    binary = tmp_path / "bin" / "systemctl"
    binary.parent.mkdir()
    binary.write_text(
        f'#!/bin/sh\necho "$*" >> {orders}\n'
        f"if [ -e {tmp_path}/down ]; then echo 'Failed to connect to bus: No medium found' >&2; exit 1; fi\n"
        'case "$*" in *is-active*) echo inactive; exit 3;; esac\n'
    )
    binary.chmod(0o755)
    (tmp_path / "home").mkdir(mode=0o700)
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CODEGRAPHD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return orders


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_install_and_uninstall(manager: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "install"]) == 0
    units = sorted((tmp_path / "config" / "systemd" / "user").iterdir())
    assert [unit.suffix for unit in units] == [".service", ".socket"]
    name = units[0].stem
    assert manager.read_text().splitlines()[:3] == [
        "--user daemon-reload", f"--user enable {name}.service", f"--user start {name}.socket",
    ]  # fmt: skip
    assert "installed (systemd), socket inactive, service inactive" in capsys.readouterr().out
    assert main(["service"]) == 0
    assert main(["service", "install"]) == 0  # again: the same units
    assert main(["service", "uninstall"]) == 0
    assert f"--user disable --now {name}.socket {name}.service" in manager.read_text()
    assert not list((tmp_path / "config" / "systemd" / "user").iterdir())
    assert main(["service", "uninstall"]) == 0  # what is not there is gone


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_without_a_manager_install_says_so(manager: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "down").touch()
    assert main(["service", "install"]) == 1
    assert "Failed to connect to bus" in capsys.readouterr().err
    assert main(["service", "status"]) == 0
    assert "Failed to connect to bus" in capsys.readouterr().out
    assert main(["service", "uninstall"]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_status_never_wakes_the_manager(manager: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the manager listens on the socket, a mere connection would start the daemon."""
    import socket

    assert main(["service", "install"]) == 0
    with socket.socket(socket.AF_UNIX) as passive:
        passive.bind(os.path.join(os.environ["CODEGRAPHD_HOME"], "daemon.sock"))
        passive.listen()
        passive.setblocking(False)
        assert main(["status"]) == 3
        assert main(["metrics"]) == 3
        assert main(["stop"]) == 0
        with pytest.raises(BlockingIOError):
            passive.accept()
    assert "stop" in manager.read_text()


# --- with a real manager -------------------------------------------------------------------------------------------

_IN_NAMESPACE = """
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/system /run/user/0
chmod 700 /run/user/0
dbus-daemon --session --address=unix:path=/run/user/0/bus --fork
/lib/systemd/systemd --user --log-target=null &
for i in $(seq 100); do test -e /run/user/0/systemd/private && break; sleep 0.1; done
cgd() { "$PYTHON" -m codegraphd.daemon "$@"; }
pid() { systemctl --user show "codegraphd.service" -p MainPID --value; }
set +e
cgd service install > /dev/null; echo "install $?"
cgd status 2> /dev/null; echo "status $?"
cgd watch --wait "$HOME/ws" > /dev/null; echo "watch $?"
first=$(pid)
systemctl --user show codegraphd.service -p StatusText --value
kill -9 "$first"
cgd search --json --root "$HOME/ws" "parse the config" | grep -q parse_config && echo found
cgd status > /dev/null; echo "status $?"
test "$(pid)" != "$first" && echo another
cgd stop > /dev/null; echo "stop $?"
systemctl --user is-active codegraphd.socket codegraphd.service
cgd status 2> /dev/null; echo "status $?"
cgd start > /dev/null; echo "start $?"
cgd service uninstall > /dev/null; echo "uninstall $?"
cgd status 2> /dev/null; echo "status $?"
"""


def _own_cgroup() -> Path | None:
    """A control group in which a manager of its own can be tried; None where that is not possible."""
    needed = ("unshare", "dbus-daemon", "systemctl")
    if os.geteuid() != 0 or not os.path.exists("/lib/systemd/systemd") or not all(map(shutil.which, needed)):
        return None
    made = Path("/sys/fs/cgroup/systemd") / f"codegraphd-test-{os.getpid()}"
    try:
        made.mkdir()
    except OSError:
        return None
    return made


def test_a_real_user_manager_runs_it(tmp_path: Path) -> None:
    """Installed, started by the first client, fed, killed and started again, stopped with its socket, removed.

    In namespaces of its own; needs root and a free systemd hierarchy, so it runs on few machines.
    """
    cgroup = _own_cgroup()
    if cgroup is None:
        pytest.skip("no systemd of one's own can be run here")
    before = set(cgroup.parent.iterdir())
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "a.py").write_text("def parse_config(path):\n    return open(path)\n")
    config = tmp_path / ".config" / "codegraphd" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[embedding]\nmodel = "hashing"\n')
    enter = f'echo $$ > {cgroup}/cgroup.procs; exec unshare -mpf --kill-child --mount-proc bash -c "$0"'
    env = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHON": sys.executable, "XDG_RUNTIME_DIR": "/run/user/0",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/0/bus",
    }  # fmt: skip
    try:
        command = ["bash", "-c", enter, _IN_NAMESPACE]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    finally:
        for group in set(cgroup.parent.iterdir()) - before | {cgroup}:  # the manager makes some beside its own
            for directory, _, _ in os.walk(group, topdown=False):
                os.rmdir(directory)
    assert done.stdout.split("\n")[:-1] == [
        "install 0", "status 3", "watch 0", "watching", "found", "status 0", "another", "stop 0",
        "inactive", "inactive", "status 3", "start 0", "uninstall 0", "status 3",
    ], done.stderr  # fmt: skip
