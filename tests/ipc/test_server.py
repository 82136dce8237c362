"""A real server on a real socket, spoken to by the shipped client and by raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest

from codegraphd.ipc import connection as connection_module
from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import (
    BAD_PARAMETERS,
    BUSY,
    INTERNAL,
    NOT_A_REQUEST,
    NOT_MSGPACK,
    NOT_WATCHED,
    TIMEOUT,
    TOO_LARGE,
    UNKNOWN_METHOD,
    DeadlineError,
    Disconnected,
    RemoteError,
    RequestError,
)
from codegraphd.ipc.frames import MIB, encode_notification, encode_request
from codegraphd.ipc.listen import open_listener
from codegraphd.ipc.messages import Params, Search, Subscribe, Symbols, Sync, Watch, hello
from codegraphd.ipc.paths import Paths
from codegraphd.ipc.server import ClientContext, Server


@dataclass
class Limits:
    clients: int = 200
    frame_mb: float = 4.0
    reply_mb: float = 8.0
    request_timeout_s: float = 20.0


@dataclass
class Script:
    """A handler that does what the query says."""

    cancelled: list[str] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)

    async def handle(self, method: str, params: Params, client: ClientContext) -> Any:
        match params:
            case Search(query=query):
                return await self._search(query, params.limit)
            case Symbols(path=path):
                return {"units": [path]}
            case Watch(root=root):
                raise RequestError(NOT_WATCHED, f"{root} is not watched")
            case Subscribe():
                client.on_close(lambda: self.closed.append(client.id))
                for i in range(3):
                    client.notify("codegraphd.progress", {"done": i})
                return {}
            case Sync(timeout_s=seconds):
                await asyncio.sleep(seconds)
                return {"clock": "s:1"}
        if method == "hello":
            return hello()
        if method == "gc":  # floods its client with notifications
            for i in range(100_000):
                client.notify("codegraphd.progress", {"done": i, "text": "x" * 1000})
            return {}
        raise ValueError("boom")

    async def _search(self, query: str, limit: int) -> Any:
        name, _, number = query.partition(" ")
        match name:
            case "sleep":
                self.started.set()
                try:
                    await asyncio.sleep(float(number))
                except asyncio.CancelledError:
                    self.cancelled.append(query)
                    raise
                return {"results": [query]}
            case "big":
                return {"results": ["x" * 1000] * int(number)}
            case "bad":
                return {"results": [object()]}
            case "slow":
                raise TimeoutError("the writer did not answer")
        return {"results": [query] * limit}


@dataclass
class Running:
    server: Server
    script: Script
    paths: Paths
    loop: asyncio.AbstractEventLoop

    def client(self) -> Client:
        return Client.connect(self.paths)

    def raw(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(self.paths.address)
        return sock

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(20)

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not self.call(condition):
            assert time.monotonic() < end, "it never came to be"
            time.sleep(0.01)

    def is_well(self) -> None:
        with self.client() as client:
            assert client.call("search", query="well", limit=1, deadline=20) == {"results": ["well"]}


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory, limits: Limits) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("h")
    home.chmod(0o700)
    paths = Paths.from_environment({"CODEGRAPHD_HOME": str(home)})
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Server:
        server = Server(script, limits)
        await server.start(open_listener(paths))
        return server

    script = Script()
    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    yield Running(server, script, paths, loop)
    asyncio.run_coroutine_threadsafe(server.close(grace_s=0.2), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    left = asyncio.all_tasks(loop)
    loop.close()
    assert not left


def read_all(sock: socket.socket) -> list[Any]:
    """Every message until the server closes."""
    unpacker = msgpack.Unpacker()
    messages = []
    while data := sock.recv(1 << 16):
        unpacker.feed(data)
        messages += list(unpacker)
    return messages


def test_requests_answer(running: Running) -> None:
    with running.client() as client:
        assert client.call("search", query="a", limit=2) == {"results": ["a", "a"]}
        assert client.hello()["protocol"] == 1
        assert client.is_same_version()


@pytest.mark.parametrize(
    ("method", "params", "code", "says"),
    [
        ("serch", {}, UNKNOWN_METHOD, "did you mean 'search'"),
        ("search", {}, BAD_PARAMETERS, "`query`"),
        ("search", {"query": "x", "limt": 1}, BAD_PARAMETERS, "did you mean 'limit'"),
        ("watch", {"root": "/nowhere"}, NOT_WATCHED, "/nowhere is not watched"),
        ("status", {}, INTERNAL, "ValueError: boom"),
        ("search", {"query": "bad"}, INTERNAL, "cannot be encoded"),
        ("search", {"query": "slow"}, TIMEOUT, "the writer did not answer"),
        ("search", {"query": "big 9000"}, TOO_LARGE, "limits.reply_mb"),
    ],
)
def test_refusals_are_code_and_message(
    running: Running, method: str, params: dict[str, Any], code: int, says: str
) -> None:
    with running.client() as client:
        with pytest.raises(RemoteError) as refused:
            client.call(method, **params)
        assert refused.value.code == code
        assert says in refused.value.message
        assert client.call("search", query="on", limit=1) == {"results": ["on"]}  # the connection goes on


def test_errors_are_one_line(running: Running) -> None:
    with running.client() as client:
        with pytest.raises(RemoteError, match=r"^/a\\nb\\x1b\[31m\udcff is not watched$"):
            client.call("watch", root="/a\nb\x1b[31m\udcff")
        with pytest.raises(RemoteError) as refused:
            client.call("watch", root="/" + "x" * 60_000)
        assert len(refused.value.message) < 3000


def test_errors_have_exactly_two_elements(running: Running) -> None:
    with running.raw() as sock:
        sock.sendall(encode_request(7, "nothing", {}))
        message = msgpack.unpackb(sock.recv(65536))
    assert message[:2] == [1, 7]
    assert [type(part) for part in message[2]] == [int, str]
    assert message[3] is None


def test_answers_come_in_any_order(running: Running) -> None:
    with running.client() as client:
        slow = client.send("search", query="sleep 0.3", limit=1)
        fast = [client.send("search", query=f"q{i}", limit=1) for i in range(50)]
        assert [client.wait(msgid)["results"] for msgid in fast] == [[f"q{i}"] for i in range(50)]
        assert running.call(lambda: len(next(iter(running.server._front.connections)).tasks)) == 1
        assert client.wait(slow) == {"results": ["sleep 0.3"]}


def test_cancel_stops_the_work_and_is_answered(running: Running) -> None:
    with running.raw() as sock:
        sock.sendall(encode_request(1, "search", {"query": "sleep 60"}))
        assert running.script.started.wait(20)
        sock.sendall(encode_notification("cancel", {"msgid": 1}))
        assert msgpack.unpackb(sock.recv(65536)) == [1, 1, [TIMEOUT, "cancelled"], None]
    assert running.script.cancelled == ["sleep 60"]


def test_cancel_of_nothing_changes_nothing(running: Running) -> None:
    with running.raw() as sock:
        for params in ({"msgid": 99}, {}, {"msgid": "x"}, {"msgid": None}):
            sock.sendall(encode_notification("cancel", params))
        sock.sendall(encode_request(1, "search", {"query": "q", "limit": 1}))
        assert msgpack.unpackb(sock.recv(65536)) == [1, 1, None, {"results": ["q"]}]


def test_a_notification_is_a_request_without_an_answer(running: Running) -> None:
    with running.raw() as sock:
        sock.sendall(encode_notification("search", {"query": "sleep 0", "limit": 1}))
        assert running.script.started.wait(20)
        for method, params in (("serch", {}), ("search", {}), ("status", {}), ("search", {"query": "bad"})):
            sock.sendall(encode_notification(method, params))
        sock.sendall(encode_request(1, "search", {"query": "q", "limit": 1}))
        assert msgpack.unpackb(sock.recv(65536)) == [1, 1, None, {"results": ["q"]}]
        running.wait(lambda: not any(c.tasks for c in running.server._front.connections))
        sock.sendall(encode_request(2, "search", {"query": "q", "limit": 1}))
        assert msgpack.unpackb(sock.recv(65536)) == [1, 2, None, {"results": ["q"]}]


def test_a_client_deadline_cancels(running: Running) -> None:
    with running.client() as client:
        with pytest.raises(DeadlineError):
            client.call("search", query="sleep 60", deadline=0.2)
        running.wait(lambda: running.script.cancelled == ["sleep 60"])
        assert client.call("search", query="on", limit=1) == {"results": ["on"]}


@pytest.mark.parametrize("limits", [Limits(request_timeout_s=0.1)])
def test_a_request_over_its_time_is_answered(running: Running) -> None:
    with running.client() as client:
        with pytest.raises(RemoteError, match=r"limits\.request_timeout_s") as refused:
            client.call("search", query="sleep 60", wait_ms=0)
        assert refused.value.code == TIMEOUT
        assert client.call("sync", root="/r", timeout_s=0.3) == {"clock": "s:1"}  # has a deadline of its own


def test_notifications_arrive_between_answers(running: Running) -> None:
    with running.client() as client:
        client.call("subscribe", events=["progress"])
        seen = list(client.notifications(timeout=0.2))
        assert seen == [("codegraphd.progress", {"done": i}) for i in range(3)]
    running.wait(lambda: len(running.script.closed) == 1)


def test_a_long_answer_arrives_whole(running: Running) -> None:
    with running.client() as client:
        long = client.send("search", query="big 7000")
        short = client.send("search", query="q", limit=1)
        assert len(client.wait(long)["results"]) == 7000
        assert client.wait(short) == {"results": ["q"]}


def test_a_client_that_only_closed_its_writing_end_is_answered(running: Running) -> None:
    with running.raw() as sock:
        sock.sendall(encode_request(1, "search", {"query": "sleep 0.1"}))
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == [[1, 1, None, {"results": ["sleep 0.1"]}]]


GARBAGE = {
    "text": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", None),
    "never used byte": (b"\xc1\xc1\xc1", None),
    "never used byte inside": (b"\x94\x00\x07\xa1x\x91\x81\xa1q\xc1", (7, NOT_MSGPACK)),
    "nested too deeply": (b"\x94\x00\x07\xa1x" + b"\x91" * 5000, (7, NOT_A_REQUEST)),
    "a map": (msgpack.packb({"method": "search"}), None),
    "an unknown form": (msgpack.packb([9, 1, "search", []]), None),
    "too large": (b"\x94\x00\x07\xa1x\x91\xdb\xff\xff\xff\xff" + b"a" * (5 * MIB), (7, TOO_LARGE)),
    "too large, whole": (encode_request(7, "search", {"query": "a" * (5 * MIB)}), (7, TOO_LARGE)),
    "endless list": (b"\x94\x00\x07\xa1x\xdd\xff\xff\xff\xff" + b"\x01" * (5 * MIB), (7, TOO_LARGE)),
    "endless nothing": (b"\xc0" * (8 * MIB), None),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_fault_36_garbage_ends_that_connection_alone(running: Running, name: str) -> None:
    sent, expect = GARBAGE[name]
    with running.client() as neighbour, running.raw() as sock:
        busy = neighbour.send("search", query="sleep 0.2")
        sock.sendall(sent)
        answers = read_all(sock)
        if expect is None:
            assert answers == []
        else:
            msgid, code = expect
            assert [(a[0], a[1], a[2][0], a[3]) for a in answers] == [(1, msgid, code, None)]
        assert neighbour.wait(busy) == {"results": ["sleep 0.2"]}
    running.is_well()


@pytest.mark.parametrize(
    "frame",
    [
        [0, 5],
        [0, 5, "search"],
        [0, 5, 7, []],
        [0, 5, "search", {"query": "x"}],
        [0, 5, "search", [1]],
        [0, 5, "search", [{}, {}]],
        [0, 5, "search", [{"query": "x"}], "more"],
        [0, 5, "search", [{"query": msgpack.ExtType(4, b"x")}]],
        [0, 5, "search", [{7: "x"}]],
    ],
)
def test_a_wrong_request_with_a_msgid_is_answered_and_the_connection_goes_on(running: Running, frame: Any) -> None:
    with running.raw() as sock:
        sock.sendall(msgpack.packb(frame))
        assert msgpack.unpackb(sock.recv(65536))[:2] == [1, 5]
        sock.sendall(encode_request(6, "search", {"query": "q", "limit": 1}))
        assert msgpack.unpackb(sock.recv(65536)) == [1, 6, None, {"results": ["q"]}]


def test_fault_36_empty_lua_tables_are_maps(running: Running) -> None:
    with running.raw() as sock:
        for msgid, params in enumerate(([], [{}], [[]])):
            sock.sendall(msgpack.packb([0, msgid, "hello", params]))
            assert msgpack.unpackb(sock.recv(65536))[3]["protocol"] == 1


def test_fault_36_half_sent_frames_do_not_stay(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HALF_SENT_S", 0.2)
    with running.raw() as drip, running.raw() as idle:
        drip.sendall(encode_request(1, "search", {"query": "q"})[:-1])
        assert read_all(drip) == []  # closed, although nothing more was sent
        idle.sendall(encode_request(1, "search", {"query": "q", "limit": 1}))  # an idle connection may stay
        assert msgpack.unpackb(idle.recv(65536))[3] == {"results": ["q"]}
    running.is_well()


def test_fault_37_leaving_cancels(running: Running) -> None:
    sock = running.raw()
    sock.sendall(encode_request(1, "search", {"query": "sleep 60"}))
    assert running.script.started.wait(20)
    sock.close()
    running.wait(lambda: running.script.cancelled == ["sleep 60"])
    running.wait(lambda: running.server.statistics()["clients"] == 0)


def test_fault_37_leaving_in_the_middle_of_a_reply(running: Running) -> None:
    for _ in range(5):
        sock = running.raw()
        sock.sendall(encode_request(1, "search", {"query": "big 7000"}))
        sock.recv(10_000)
        sock.close()
    running.wait(lambda: running.server.statistics()["clients"] == 0)
    running.is_well()


def test_fault_37_who_never_reads_answers_is_disconnected(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SLOW_READER_S", 0.3)
    with running.raw() as sock:
        for msgid in range(100):  # 700 MB of answers, were they all held
            sock.sendall(encode_request(msgid, "search", {"query": "big 7000"}))
        running.wait(lambda: running.server.statistics()["slow_readers"] == 1)
        held = running.call(lambda: sum(len(f) for c in running.server._front.connections for f in c._outbox))
        assert held <= 8 * MIB
        running.wait(lambda: running.server.statistics()["clients"] == 0)
    running.is_well()


def test_fault_37_who_never_reads_notifications_is_disconnected(running: Running) -> None:
    with running.raw() as sock:
        sock.sendall(encode_request(1, "gc", {}))
        running.wait(lambda: running.server.statistics()["slow_readers"] == 1)
    running.is_well()


@pytest.mark.parametrize("limits", [Limits(clients=2)])
def test_too_many_clients_are_told_so(running: Running) -> None:
    with running.client() as one, running.client() as two:
        one.hello(), two.hello()
        with running.client() as three, pytest.raises(RemoteError, match=r"limits\.clients") as refused:
            three.hello()
        assert refused.value.code == BUSY
        assert one.call("search", query="on", limit=1) == {"results": ["on"]}
        assert running.server.statistics()["refused"] == 1
    running.wait(lambda: running.server.statistics()["clients"] == 0)
    running.is_well()


def test_requests_in_flight_are_bounded_and_all_answered(running: Running) -> None:
    n = connection_module.IN_FLIGHT * 3
    with running.client() as client:
        sent = [client.send("search", query="sleep 0.05", limit=1) for _ in range(n)]
        most = running.call(lambda: max(len(c.tasks) for c in running.server._front.connections))
        assert 0 < most <= connection_module.IN_FLIGHT
        assert all(client.wait(msgid) == {"results": ["sleep 0.05"]} for msgid in sent)


@pytest.mark.parametrize(
    "frame", [encode_request(1, "x", {}), b"\x94\x00\x01\xa1x\x91\x01", encode_request(1, "watch", {})]
)
def test_fault_37_who_floods_and_never_reads_is_bounded(
    running: Running, frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals alone must not fill the memory: a million wrong requests, none of their answers read."""
    monkeypatch.setattr(connection_module, "SLOW_READER_S", 1.0)
    monkeypatch.setattr(connection_module, "QUEUE_BYTES", MIB // 8)
    most = 0
    with running.raw() as sock:
        sock.settimeout(0.05)
        running.wait(lambda: len(running.server._front.connections) == 1)
        (connection,) = running.server._front.connections
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(400):
                with contextlib.suppress(TimeoutError):
                    sock.send(frame * 5000)
                most = max(
                    most, running.call(lambda: sum(map(len, connection._outbox)) + connection._receiver.n_buffered)
                )
                assert running.call(lambda: len(connection.tasks)) <= connection_module.IN_FLIGHT
        running.wait(lambda: running.server.statistics()["slow_readers"] == 1)
    assert MIB // 8 < most < 2 * MIB
    running.is_well()


def test_a_flood_of_requests_holds_nobody_up(running: Running) -> None:
    """40,000 requests in one read are taken a few at a time; all are answered, another client in between."""
    n = 20_000
    with running.raw() as sock, running.client() as neighbour:
        sender = threading.Thread(target=sock.sendall, args=(encode_request(7, "serch", {}) * n,))
        sender.start()
        assert neighbour.call("search", query="q", limit=1, deadline=20) == {"results": ["q"]}
        unpacker = msgpack.Unpacker()
        seen = 0
        while seen < n:
            unpacker.feed(sock.recv(1 << 16))
            seen += sum(1 for _ in unpacker)
        sender.join(20)


def test_fault_38_a_hundred_clients_at_once(running: Running) -> None:
    import os

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    def talk(number: int) -> None:
        with running.client() as client:
            for i in range(20):
                query = f"c{number}-{i}"
                assert client.call("search", query=query, limit=1, deadline=60) == {"results": [query]}
        answered.append(number)

    running.is_well()
    running.wait(lambda: running.server.statistics()["clients"] == 0)
    before, answered = descriptors(), list[int]()
    threads = [threading.Thread(target=talk, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    running.wait(lambda: running.server.statistics()["clients"] == 0)
    assert sorted(answered) == list(range(100))
    statistics = running.server.statistics()
    assert statistics["requests"] == 2001
    assert 0 < statistics["p50_ms"] <= statistics["p95_ms"] <= statistics["p99_ms"]
    assert descriptors() <= before + 1


def test_fault_39_hello_tells_what_both_know(running: Running) -> None:
    with running.client() as client:
        told = client.hello()
    assert {"version", "protocol", "pid", "methods"} <= told.keys()
    assert "search" in told["methods"]
    assert "wait_ms" in told["params"]["search"]


def test_fault_39_a_newer_client_leaves_out_what_an_older_daemon_does_not_know(running: Running) -> None:
    with running.client() as client:
        with pytest.raises(RemoteError, match="unknown field 'colour'"):
            client.call("search", query="q", limit=1, colour="red")
        client.hello()
        assert client.call("search", query="q", limit=1, colour="red") == {"results": ["q"]}
        with pytest.raises(RemoteError, match="unknown method"):
            client.call("paint", colour="red")


def test_a_request_over_the_limit_is_told_to_the_client_that_sent_it(running: Running) -> None:
    with running.client() as client:
        with pytest.raises(RemoteError, match=r"limits\.frame_mb") as refused:
            client.call("search", query="a" * (6 * MIB))
        assert refused.value.code == TOO_LARGE
        with pytest.raises(Disconnected):
            client.call("search", query="q")
    running.is_well()


def test_names_that_are_not_utf8_travel(running: Running) -> None:
    name = b"caf\xe9.py".decode("utf-8", "surrogateescape")
    with running.client() as client:
        assert client.call("symbols", path=name) == {"units": [name]}


def test_closing_the_server_ends_clients_and_removes_the_socket(running: Running) -> None:
    with running.client() as client:
        client.hello()
        waiting = client.send("search", query="sleep 60")
        assert running.script.started.wait(20)
        asyncio.run_coroutine_threadsafe(running.server.close(grace_s=0.1), running.loop).result(20)
        with pytest.raises(Disconnected):
            client.wait(waiting)
    import os

    assert not os.path.lexists(running.paths.socket)
