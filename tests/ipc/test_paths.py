"""Where a home lies, which directories are trusted, the held lock, and the socket itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegraphd.ipc import paths as paths_module
from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import AlreadyRunning, PathError, Unreachable
from codegraphd.ipc.listen import Listener, notify_manager, open_listener, watchdog_interval
from codegraphd.ipc.lock import acquire_lock, is_locked
from codegraphd.ipc.paths import Paths, read_lock, secure_directory
from codegraphd.ipc.peer import may_connect, peer_uid


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def paths_of(home: Path) -> Paths:
    return Paths.from_environment({"CODEGRAPHD_HOME": str(home), "HOME": str(home)})


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    opened: list[Listener] = []
    yield opened
    for listener in opened:
        listener.close()


# --- which paths ---------------------------------------------------------------------------------------------------


def test_a_home_holds_everything() -> None:
    found = Paths.from_environment({"CODEGRAPHD_HOME": "/data/home"})
    assert found == Paths(
        "/data/home", "/data/home/daemon.sock", "/data/home/daemon.sock", "/data/home/state",
        "/data/home/config.toml", "/data/home/log",
    )  # fmt: skip


def test_xdg_directories() -> None:
    env = {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/u", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "relative/is/ignored"}
    found = Paths.from_environment(env, platform="linux")
    assert found.socket == found.address == "/run/u/codegraphd/daemon.sock"
    assert found.state == "/s/codegraphd"
    assert found.config == "/h/.config/codegraphd/config.toml"
    assert found.home == ""


def test_without_a_runtime_directory_the_socket_lies_with_the_state() -> None:
    found = Paths.from_environment({"HOME": "/h"}, platform="linux", uid=987_654)
    assert found.socket == "/h/.local/state/codegraphd/daemon.sock"


def test_apple_directories() -> None:
    found = Paths.from_environment({"HOME": "/Users/u"}, platform="darwin")
    assert found.state == "/Users/u/Library/Application Support/codegraphd"
    assert found.socket.startswith(found.state)
    assert found.log == "/Users/u/Library/Logs/codegraphd"


@pytest.mark.parametrize("env", [{"CODEGRAPHD_HOME": "/a\nb"}, {"HOME": "not/absolute"}])
def test_useless_environments_are_refused(env: dict[str, str]) -> None:
    with pytest.raises(PathError, match="CODEGRAPHD_HOME"):
        Paths.from_environment(env, platform="linux", uid=987_654)


# --- directories ---------------------------------------------------------------------------------------------------


def test_fault_34_a_directory_is_made_for_its_owner_alone(home: Path) -> None:
    made = secure_directory(str(home / "a" / "b"), "the directory")
    assert os.stat(made).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_fault_34_directories_that_others_write_are_refused(home: Path, mode: int) -> None:
    (home / "d").mkdir()
    (home / "d").chmod(mode)
    with pytest.raises(PathError, match="chmod go-w"):
        secure_directory(str(home / "d"), "the directory")


def test_fault_34_a_link_of_our_own_is_followed_and_its_target_checked(home: Path) -> None:
    (home / "real").mkdir(mode=0o700)
    (home / "link").symlink_to(home / "real")
    assert secure_directory(str(home / "link"), "the directory") == str((home / "real").resolve())
    (home / "real").chmod(0o777)
    with pytest.raises(PathError, match="written by others"):
        secure_directory(str(home / "link"), "the directory")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_fault_34_what_belongs_to_another_user_is_refused(home: Path) -> None:
    (home / "theirs").mkdir()
    os.chown(home / "theirs", 65_534, 65_534)
    with pytest.raises(PathError, match="belongs to user 65534"):
        secure_directory(str(home / "theirs"), "the directory")
    (home / "mine").mkdir(mode=0o700)
    (home / "link").symlink_to(home / "mine")
    os.lchown(home / "link", 65_534, 65_534)
    with pytest.raises(PathError, match="link that belongs to another user"):
        secure_directory(str(home / "link"), "the directory")


def test_fault_34_a_file_in_the_way_is_named(home: Path) -> None:
    (home / "f").write_text("")
    with pytest.raises(PathError, match="not a directory"):
        secure_directory(str(home / "f"), "the directory")


# --- the lock ------------------------------------------------------------------------------------------------------


def test_fault_32_the_second_daemon_is_told_who_runs(home: Path) -> None:
    paths = paths_of(home)
    assert not is_locked(paths)
    lock = acquire_lock(paths)
    lock.record(paths.address)
    assert is_locked(paths)
    with pytest.raises(AlreadyRunning) as refused:
        acquire_lock(paths)
    assert refused.value.pid == os.getpid()
    assert str(os.getpid()) in str(refused.value)
    assert paths.address in str(refused.value)
    lock.release()
    assert not is_locked(paths)
    acquire_lock(paths).release()


def test_fault_32_a_number_in_a_file_is_no_lock(home: Path) -> None:
    paths = paths_of(home)
    os.makedirs(paths.state, mode=0o700)
    with open(paths.lock, "w") as file:  # a reused pid: this very process
        file.write(f"pid {os.getpid()}\nversion 9\nsocket /x\n")
    assert not is_locked(paths)
    acquire_lock(paths).release()


def test_fault_33_a_killed_holder_leaves_no_lock(home: Path) -> None:
    paths = paths_of(home)
    code = (
        "from codegraphd.ipc.lock import acquire_lock; from codegraphd.ipc.paths import Paths\n"
        "lock = acquire_lock(Paths.from_environment()); lock.record('/x'); print('held', flush=True)\n"
        "import time; time.sleep(60)"
    )
    env = {**os.environ, "CODEGRAPHD_HOME": str(home)}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning) as refused:
            acquire_lock(paths)
        assert refused.value.pid == holder.pid
        holder.kill()
    acquire_lock(paths).release()


def test_fault_53_a_state_directory_that_takes_no_writing_is_locked_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    paths = paths_of(home)
    os.makedirs(paths.state, mode=0o700)
    real = os.open

    def open_(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", path)
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", open_)
    lock = acquire_lock(paths)
    assert not lock.is_writable
    lock.record("/x")
    assert not os.path.exists(paths.lock)
    with pytest.raises(AlreadyRunning, match="another process"):
        acquire_lock(paths)
    lock.release()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"pid x\n", b"pid 1\nsocket \xff\n", b"socket", b"\0" * 100])
def test_any_lock_file_can_be_read(home: Path, content: bytes) -> None:
    path = home / "daemon.lock"
    path.write_bytes(content)
    pid, socket_path, version = read_lock(str(path))
    assert isinstance(pid, int)
    assert isinstance(socket_path, str)
    assert version == ""
    assert read_lock(str(home / "none")) == (0, "", "")


# --- the socket ----------------------------------------------------------------------------------------------------


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_socket_is_its_owners_alone(home: Path, listeners: list[Listener]) -> None:
    paths = paths_of(home)
    listeners.append(open_listener(paths, {}))
    assert os.stat(paths.address).st_mode & 0o777 == 0o600
    connect(paths.address)
    listeners.pop().close()
    assert not os.path.lexists(paths.address)


def test_fault_33_a_stale_socket_is_replaced(home: Path, listeners: list[Listener]) -> None:
    paths = paths_of(home)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(paths.socket)
    dead.close()
    listeners.append(open_listener(paths, {}))
    connect(paths.address)


def test_a_file_in_the_sockets_place_is_not_removed(home: Path) -> None:
    paths = paths_of(home)
    Path(paths.socket).write_text("precious")
    with pytest.raises(PathError, match="in the way"):
        open_listener(paths, {})
    assert Path(paths.socket).read_text() == "precious"


def test_a_living_daemon_of_another_state_directory_is_not_robbed(home: Path, listeners: list[Listener]) -> None:
    paths = paths_of(home)
    listeners.append(open_listener(paths, {}))
    with pytest.raises(PathError, match="another daemon answers"):
        open_listener(paths, {})
    connect(paths.address)


def test_fault_34_a_long_path_works_by_a_short_one(home: Path, listeners: list[Listener]) -> None:
    long = home / ("d" * 60) / ("e" * 60)
    long.mkdir(parents=True, mode=0o700)
    run = home / "run"
    env = {"CODEGRAPHD_HOME": str(long), "XDG_RUNTIME_DIR": str(run)}
    paths = Paths.from_environment(env)
    assert len(paths.socket) > paths_module.SUN_PATH_BYTES
    assert paths.address.startswith(str(run)) or paths.address.startswith("/tmp/")
    listener = open_listener(paths, env)
    listeners.append(listener)
    connect(listener.address)
    assert os.path.realpath(paths.socket) == os.path.realpath(listener.address)  # the long path leads there
    with Client.connect(paths):
        pass
    listeners.pop().close()
    assert not os.path.lexists(paths.socket)
    assert not os.path.lexists(listener.address)


def test_fault_34_nothing_short_enough_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths_module, "SUN_PATH_BYTES", 20)
    with pytest.raises(PathError, match="set CODEGRAPHD_HOME shorter"):
        Paths.from_environment({"CODEGRAPHD_HOME": "/" + "x" * 200})


def test_a_client_finds_the_socket_that_the_lock_records(home: Path, listeners: list[Listener]) -> None:
    """A client whose environment names another runtime directory than the daemon's did."""
    env = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run1"), "XDG_STATE_HOME": str(home / "state")}
    theirs = Paths.from_environment(env, platform="linux")
    lock = acquire_lock(theirs)
    listeners.append(open_listener(theirs, env))
    lock.record(theirs.address)
    ours = Paths.from_environment({**env, "XDG_RUNTIME_DIR": str(home / "run2")}, platform="linux")
    with Client.connect(ours) as client:
        assert client.address == theirs.address
    lock.release()


def test_no_daemon_is_unreachable(home: Path) -> None:
    with pytest.raises(Unreachable, match="no daemon answers"):
        Client.connect(paths_of(home))
    with pytest.raises(Unreachable, match="no daemon answers"):
        Client.connect(str(home / "none.sock"))


def test_sockets_are_inherited_from_systemd(home: Path) -> None:
    paths = paths_of(home)
    code = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='x')\n"
        "from codegraphd.ipc.listen import open_listener; from codegraphd.ipc.paths import Paths\n"
        "listener = open_listener(Paths.from_environment())\n"
        "print(listener.is_inherited, listener.address, 'LISTEN_FDS' in os.environ, flush=True)\n"
        "listener.sock.setblocking(True)\n"
        "client, _ = listener.sock.accept()\n"
        "client.sendall(b'hi'); listener.close()\n"
    )
    passive = socket.socket(socket.AF_UNIX)
    passive.bind(paths.socket)
    passive.listen()
    command = [sys.executable, "-c", code, str(passive.fileno())]
    env = {**os.environ, "CODEGRAPHD_HOME": str(home)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdout=pipe, text=True, pass_fds=(passive.fileno(),)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"True {paths.socket} False\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(paths.socket)
            assert client.recv(2) == b"hi"
    assert os.path.exists(paths.socket)  # it is the manager's to remove
    passive.close()


def test_descriptors_meant_for_another_process_are_left_alone(home: Path, listeners: list[Listener]) -> None:
    env = {"LISTEN_PID": "1", "LISTEN_FDS": "3"}
    listeners.append(open_listener(paths_of(home), env))
    assert not listeners[0].is_inherited
    assert env == {}


# --- the manager ---------------------------------------------------------------------------------------------------


def test_the_service_manager_is_told(home: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(home / "notify"))
        assert notify_manager("READY=1\nSTATUS=watching", {"NOTIFY_SOCKET": str(home / "notify")})
        assert manager.recv(100) == b"READY=1\nSTATUS=watching"
    assert not notify_manager("READY=1", {"NOTIFY_SOCKET": str(home / "gone")})
    assert not notify_manager("READY=1", {"NOTIFY_SOCKET": "relative"})
    assert not notify_manager("READY=1", {})


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_the_manager_may_listen_on_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"codegraphd-test-{os.getpid()}"
        manager.bind(f"\0{name}")
        assert notify_manager("WATCHDOG=1", {"NOTIFY_SOCKET": f"@{name}"})
        assert manager.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_fault_47_the_watchdog_is_fed_as_often_as_asked(env: dict[str, str], seconds: float | None) -> None:
    assert watchdog_interval(env) == seconds


# --- who is there --------------------------------------------------------------------------------------------------


def test_fault_35_only_the_same_user_may_connect() -> None:
    a, b = socket.socketpair(socket.AF_UNIX)
    with a, b:
        assert peer_uid(a) == os.geteuid()
    assert may_connect(os.geteuid())
    assert not may_connect(os.geteuid() + 1)
    assert not may_connect(-1)
    with socket.socket(socket.AF_INET) as other:
        assert not may_connect(peer_uid(other))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_fault_35_another_user_is_seen_by_the_kernel(home: Path, listeners: list[Listener]) -> None:
    paths = paths_of(home)
    listeners.append(open_listener(paths, {}))
    os.chmod(paths.address, 0o666)
    home.chmod(0o711)
    directory = os.open(home, os.O_PATH | os.O_DIRECTORY)
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(f'/proc/self/fd/{sys.argv[1]}/daemon.sock'); s.recv(1)"
    )
    listeners[0].sock.settimeout(20)
    command = ["/usr/bin/env", "python3", "-c", code, str(directory)]
    with subprocess.Popen(command, user=65_534, group=65_534, pass_fds=(directory,), cwd="/"):
        accepted, _ = listeners[0].sock.accept()
        with accepted:
            assert peer_uid(accepted) == 65_534
            assert not may_connect(peer_uid(accepted))
    os.close(directory)
