"""Bytes in, messages out: whole, in pieces of any size, and never an exception."""

from __future__ import annotations

import itertools
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.ipc import frames
from codegraphd.ipc.errors import NOT_A_REQUEST, NOT_MSGPACK, TOO_LARGE
from codegraphd.ipc.frames import Invalid, Notification, Receiver, Request

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
params = st.dictionaries(texts, values, max_size=4)
requests = st.tuples(st.integers(0, 2**32 - 1), texts, params)


def take(receiver: Receiver, data: bytes) -> list[frames.Event]:
    """Every event that these bytes complete."""
    receiver.feed(data)
    return list(iter(receiver.next_event, None))


def feed(data: bytes, cuts: list[int], receiver: Receiver | None = None) -> list[frames.Event]:
    receiver = receiver or Receiver()
    events = []
    places = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        events += take(receiver, data[start:end])
    return events


@given(st.lists(requests, max_size=5), st.lists(st.integers(0, 10_000), max_size=6))
def test_what_is_written_is_read_however_it_is_cut(sent: list[Any], cuts: list[int]) -> None:
    data = b"".join(frames.encode_request(*request) for request in sent)
    assert feed(data, cuts) == [Request(*request) for request in sent]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_fault_36_any_bytes_are_answered_in_one_way_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    whole = feed(data, [])
    assert feed(data, cuts) == whole
    assert all(isinstance(event, Request | Notification | Invalid) for event in whole)
    fatal = [event for event in whole if isinstance(event, Invalid) and event.fatal]
    assert fatal in ([], whole[-1:])  # nothing is read after a fatal one


@given(requests, st.integers(0, 300), st.binary(min_size=1, max_size=3))
def test_fault_36_a_damaged_request_never_raises(request_: Any, place: int, noise: bytes) -> None:
    data = bytearray(frames.encode_request(*request_))
    place %= len(data)
    data[place : place + len(noise)] = noise
    feed(bytes(data), [place])


def test_a_notification_is_read() -> None:
    assert feed(frames.encode_notification("cancel", {"msgid": 3}), []) == [Notification("cancel", {"msgid": 3})]


@pytest.mark.parametrize(
    ("data", "msgid", "code", "fatal"),
    [
        (b"\xc1", None, NOT_MSGPACK, True),
        (b"\x94\x00\x05\xc1", 5, NOT_MSGPACK, True),
        (b"\x94\x00\x05\xa1x\x91" + b"\x91" * 3000, 5, NOT_A_REQUEST, True),
        (b"\x2a", None, NOT_A_REQUEST, True),
        (msgpack.packb([1, 5, None, None]), None, NOT_A_REQUEST, True),
        (msgpack.packb([0, True, "x", []]), None, NOT_A_REQUEST, True),
        (msgpack.packb([0, -1, "x", []]), None, NOT_A_REQUEST, True),
        (msgpack.packb([0, 5, "x"]), 5, NOT_A_REQUEST, False),
        (msgpack.packb([0, 5, "x", [1]]), 5, NOT_A_REQUEST, False),
        (msgpack.packb([2, "x", [1]]), None, NOT_A_REQUEST, False),
        (msgpack.packb([0, 5, "x", [{"a": msgpack.Timestamp(1)}, 1]]), 5, NOT_A_REQUEST, False),
        (msgpack.packb([0, 5, "x", [{"a": [[]] * 70_000}]]), 5, NOT_A_REQUEST, False),
        (msgpack.packb([0, 5, "x", [{"a": [[{}] * 60_000] * 5}]]), 5, NOT_A_REQUEST, False),
        (msgpack.packb([0, 5, "x", [{"a": "b" * 1000}]]), 5, TOO_LARGE, True),
    ],
)
def test_fault_36_what_is_no_request(data: bytes, msgid: int | None, code: int, *, fatal: bool) -> None:
    receiver = Receiver(1000 if code == TOO_LARGE else frames.FRAME_BYTES)
    (event,) = feed(data, [], receiver)
    assert isinstance(event, Invalid)
    assert (event.msgid, event.code, event.fatal) == (msgid, code, fatal)
    if fatal:
        assert take(receiver, frames.encode_request(1, "x", {})) == []
    else:
        assert take(receiver, frames.encode_request(1, "x", {})) == [Request(1, "x", {})]


def test_fault_36_memory_stays_at_the_limit_for_an_endless_frame() -> None:
    receiver = Receiver(100_000)
    head = b"\x94\x00\x07\xa1x\x91\xdb\xff\xff\xff\xff"
    events = take(receiver, head)
    most = 0
    for _ in range(100):
        events += take(receiver, b"a" * 5000)
        most = max(most, receiver.n_buffered)
    assert most <= 100_000 + 5000
    assert [(e.msgid, e.code) for e in events if isinstance(e, Invalid)] == [(7, TOO_LARGE)]
    assert receiver.n_buffered == 0


def test_a_frame_may_be_exactly_as_long_as_the_limit() -> None:
    frame = frames.encode_request(1, "x", {"a": "b" * 500})
    assert len(feed(frame * 3, [7], Receiver(len(frame)))) == 3
    (event,) = feed(frame, [7], Receiver(len(frame) - 1))
    assert isinstance(event, Invalid)


def test_large_frames_follow_each_other() -> None:
    long = frames.encode_request(1, "x", {"a": "b" * 300_000})
    short = frames.encode_request(2, "y", {})
    events = feed((long + short) * 3, [5, 300_000, 300_020])
    assert [event.msgid for event in events if isinstance(event, Request)] == [1, 2] * 3


@given(values)
def test_a_result_is_written_as_msgpack_writes_it(result: Any) -> None:
    assert b"".join(frames.encode_result(9, result)) == msgpack.packb([1, 9, None, result])


def test_long_lists_are_written_in_pieces() -> None:
    result = {"results": [{"name": f"n{i}", "line": i} for i in range(1000)], "clock": "c"}
    pieces = list(frames.encode_result(9, result))
    assert b"".join(pieces) == msgpack.packb([1, 9, None, result])
    assert len(pieces) > 10


@given(st.binary(max_size=30))
def test_fault_15_names_of_any_bytes_make_the_round_trip(raw: bytes) -> None:
    name = raw.decode("utf-8", "surrogateescape")
    (event,) = feed(frames.encode_request(1, "x", {"path": name}), [])
    assert event == Request(1, "x", {"path": name})
    packed = b"".join(frames.encode_result(1, {"path": name}))
    assert raw in packed  # on the wire they are the bytes that the disk has


def test_other_lone_surrogates_do_not_break_an_answer() -> None:
    packed = b"".join(frames.encode_result(1, {"doc": "a\ud800b\udcffc"}))
    assert msgpack.unpackb(packed, raw=True)[3] == {b"doc": b"a?b\xffc"}


@pytest.mark.parametrize("result", [object(), {"a": {1, 2}}, {"a": 2**70}])
def test_what_msgpack_cannot_say_raises(result: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        list(frames.encode_result(1, result))
