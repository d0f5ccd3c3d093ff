"""Our codec against those of websocket-client, websockets and wsproto.

What we encode, each of them reads back. What a server might send, good or bad, each of them judges as we do,
but for the differences listed in ``WEBSOCKETS_DIFFERS`` and ``WSPROTO_DIFFERS``, of which each is shown by an
example.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import websocket
import websockets.protocol
import wsproto.connection
import wsproto.events
from hypothesis import given, settings
from hypothesis import strategies as st

from wsclient.frames import Frame, IntMasking, Masking, NumpyMasking, Opcode, Outgoing, encode_batch
from wsclient.protocol import Close, Failure, Ping, Pong, Protocol

MAX_SIZE = 1000


# ------------------------------------------------------------------------------ what we encode, others read


def read_by_websocket_client(wire: bytes) -> list[tuple[int, bytes]]:
    rest = memoryview(wire)

    def receive(count: int) -> bytes:
        nonlocal rest
        if not rest:
            raise EOFError("the last frame is cut off")  # or websocket-client would ask for ever
        data, rest = bytes(rest[:count]), rest[count:]
        return data

    reader = websocket._abnf.frame_buffer(receive, skip_utf8_validation=False)
    found = []
    while rest:
        received = reader.recv_frame()
        assert isinstance(received.data, bytes)
        found.append((received.opcode | received.fin << 7, received.data))
    return found


def read_by_websockets(wire: bytes) -> list[tuple[int, bytes]]:
    server = websockets.protocol.Protocol(websockets.protocol.SERVER, max_size=None)
    server.receive_data(wire)
    assert server.parser_exc is None
    found = []
    for event in server.events_received():
        assert isinstance(event, websockets.frames.Frame)
        found.append((event.opcode | event.fin << 7, bytes(event.data)))
    return found


def read_by_wsproto(wire: bytes) -> list[tuple[int, bytes]]:
    """Of wsproto a frame comes in pieces, and all of its message's with the opcode of the first."""
    server = wsproto.connection.Connection(wsproto.connection.ConnectionType.SERVER)
    server.receive_data(wire)
    found: list[tuple[int, bytes]] = []
    inside, data = False, b""
    for event in server.events():
        if isinstance(event, wsproto.events.Ping | wsproto.events.Pong):
            kind = Opcode.PING if isinstance(event, wsproto.events.Ping) else Opcode.PONG
            found.append((0x80 | kind, bytes(event.payload)))
            continue
        assert isinstance(event, wsproto.events.Message)
        data += event.data.encode() if isinstance(event.data, str) else event.data
        if event.frame_finished:
            first = Opcode.TEXT if isinstance(event.data, str) else Opcode.BINARY
            opcode = Opcode.CONTINUATION if inside else first
            found.append((opcode | event.message_finished << 7, data))
            inside, data = not event.message_finished, b""
    return found


def as_read(item: Outgoing) -> tuple[int, bytes]:
    if isinstance(item, str):
        return 0x80 | Opcode.TEXT, item.encode()
    if isinstance(item, bytes):
        return 0x80 | Opcode.BINARY, item
    return item.opcode | item.fin << 7, item.payload


whole_messages: st.SearchStrategy[list[Outgoing]] = st.one_of(
    st.text(max_size=140),
    st.binary(max_size=140),
    st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125)),
).map(lambda item: [item])
fragmented_messages: st.SearchStrategy[list[Outgoing]] = st.lists(
    st.binary(max_size=600), min_size=2, max_size=4
).map(
    lambda parts: [
        Frame(Opcode.CONTINUATION if index else Opcode.BINARY, part, fin=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]
)


by_reader = pytest.mark.parametrize("read", [read_by_websocket_client, read_by_websockets, read_by_wsproto])
by_masking = pytest.mark.parametrize("masking", [None, IntMasking(), NumpyMasking()])


@by_reader
@given(
    batch=st.lists(st.one_of(whole_messages, fragmented_messages), max_size=20).map(
        lambda messages: [item for message in messages for item in message]
    ),
    masking=st.sampled_from([None, IntMasking(), NumpyMasking()]),
)
def test_others_read_what_we_encode(
    read: Callable[[bytes], list[tuple[int, bytes]]], batch: list[Outgoing], masking: Masking | None
) -> None:
    assert read(bytes(encode_batch(batch, masking))) == [as_read(item) for item in batch]


@by_reader
@by_masking
@pytest.mark.parametrize("length", [126, 600, 9000, 65_535, 65_536])
def test_others_read_long_messages(
    read: Callable[[bytes], list[tuple[int, bytes]]], masking: Masking | None, length: int
) -> None:
    batch: list[Outgoing] = ["t" * length, "é" * length, bytes(index % 251 for index in range(length)), "end"]
    assert read(bytes(encode_batch(batch, masking))) == [as_read(item) for item in batch]
    assert read(bytes(encode_batch(batch[1:2], masking))) == [as_read(batch[1])]


# ------------------------------------------------------------------------------- what servers send, all judge


@dataclass(frozen=True)
class Verdict:
    """What a decoder makes of a stream: whole messages, pings and pongs, and how it ended, if it did."""

    events: tuple[object, ...]
    close: Close | None = None
    failure: int | None = None  # close code with which to fail the connection
    reason: str = field(default="", compare=False)  # of the failure, in our words


def our_verdict(stream: bytes, max_size: int = MAX_SIZE) -> Verdict:
    events = Protocol(max_size).receive_data(stream)
    last = events[-1] if events else None
    if isinstance(last, Failure):
        return Verdict(tuple(events[:-1]), failure=last.error.code, reason=last.error.reason)
    if isinstance(last, Close):
        return Verdict(tuple(events[:-1]), last)
    return Verdict(tuple(events))


def verdict_of_websockets(stream: bytes, max_size: int = MAX_SIZE) -> Verdict:
    client = websockets.protocol.Protocol(websockets.protocol.CLIENT, max_size=max_size)
    client.receive_data(stream)
    events: list[object] = []
    message = _Assembly(events)
    for frame in client.events_received():
        assert isinstance(frame, websockets.frames.Frame)
        data = bytes(frame.data)
        if frame.opcode is websockets.frames.Opcode.CLOSE:
            assert client.close_rcvd is not None
            return Verdict(tuple(events), Close(client.close_rcvd.code, client.close_rcvd.reason))
        if frame.opcode in (websockets.frames.Opcode.PING, websockets.frames.Opcode.PONG):
            events.append(Ping(data) if frame.opcode is websockets.frames.Opcode.PING else Pong(data))
            continue
        try:
            message.add(frame.opcode, data, frame.fin)
        except UnicodeDecodeError:
            return Verdict(tuple(events), failure=1007)
    failed = client.parser_exc is not None
    return Verdict(tuple(events), failure=client.close_sent.code if failed and client.close_sent else None)


class _Assembly:
    """Joins fragments, which websockets leaves to its users, as it does the check of UTF-8."""

    def __init__(self, events: list[object]) -> None:
        self.events = events
        self.parts: list[Any] = []
        self.decode: Callable[[bytes, bool], Any] = _as_it_is

    def add(self, opcode: int, data: bytes, fin: bool) -> None:
        if opcode == Opcode.TEXT:
            self.decode = codecs.getincrementaldecoder("utf-8")().decode
        elif opcode == Opcode.BINARY:
            self.decode = _as_it_is
        self.parts.append(self.decode(data, fin))
        if fin:
            self.events.append(self.parts[0][:0].join(self.parts))
            self.parts = []


def _as_it_is(data: bytes, fin: bool) -> bytes:
    return data


def verdict_of_wsproto(stream: bytes, max_size: int = MAX_SIZE) -> Verdict:
    client = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
    client.receive_data(stream)
    events: list[object] = []
    parts: list[Any] = []
    for event in client.events():
        if isinstance(event, wsproto.events.CloseConnection):
            if client.state is wsproto.connection.ConnectionState.REMOTE_CLOSING:
                return Verdict(tuple(events), Close(int(event.code), event.reason or ""))
            return Verdict(tuple(events), failure=int(event.code))
        if isinstance(event, wsproto.events.Ping | wsproto.events.Pong):
            kind = Ping if isinstance(event, wsproto.events.Ping) else Pong
            events.append(kind(bytes(event.payload)))
            continue
        assert isinstance(event, wsproto.events.Message)
        parts.append(event.data)
        if event.message_finished:
            events.append(parts[0][:0].join(parts))
            parts = []
    return Verdict(tuple(events))


@dataclass(frozen=True)
class Difference:
    """One thing that we see otherwise on purpose, why, and a stream that shows it."""

    why: str
    example: bytes
    explains: Callable[[Verdict, Verdict], bool]


def _same_events(ours: Verdict, theirs: Verdict) -> bool:
    return ours.events == theirs.events


def _they_read_on(ours: Verdict, theirs: Verdict) -> bool:
    return ours.events == theirs.events[: len(ours.events)]


def _they_wait(ours: Verdict, theirs: Verdict) -> bool:
    return (
        _same_events(ours, theirs)
        and ours.failure in (1002, 1009)
        and theirs.close is None
        and theirs.failure is None
    )


WEBSOCKETS_DIFFERS = [
    Difference(
        "RFC 6455, section 5.2: a length MUST have its shortest form; websockets takes any",
        b"\x82\x7e\x00\x01x",
        lambda ours, theirs: "shortest form" in ours.reason and _they_read_on(ours, theirs),
    ),
    Difference(
        "a control frame with an extended length breaks section 5.2 or 5.5; websockets takes up to 125 bytes",
        b"\x89\x7e\x00\x01x",
        lambda ours, theirs: "extended length" in ours.reason and _they_read_on(ours, theirs),
    ),
    Difference(
        "we judge a header as soon as it is there; websockets waits for the payload",
        b"\xc1\x05",
        _they_wait,
    ),
    Difference(
        "where a frame is wrong and too big, either may be said",
        b"\x80\x7e\xff\xff",
        lambda ours, theirs: _same_events(ours, theirs) and (ours.failure, theirs.failure) == (1002, 1009),
    ),
    Difference(
        "section 5.4 lets control frames stand between fragments; for websockets a close frame may not",
        b"\x01\x01x\x88\x02\x03\xe8",
        lambda ours, theirs: _same_events(ours, theirs) and ours.close is not None and theirs.failure == 1002,
    ),
    Difference(
        "where a close frame has a wrong code and a wrong reason, either may be said",
        b"\x88\x03\x03\xee\xff",
        lambda ours, theirs: "close frame with code" in ours.reason and theirs.failure == 1007,
    ),
]

WSPROTO_DIFFERS = [
    Difference(
        "we judge a header as soon as we have two bytes of it; wsproto waits for its length, or for data",
        b"\xc1\x7e",
        _they_wait,
    ),
    Difference(
        "wsproto checks text before its frame is complete, we do when it is",
        b"\x81\x05\xff",
        lambda ours, theirs: _same_events(ours, theirs) and ours.failure is None and theirs.failure == 1007,
    ),
    Difference(
        "1014 (bad gateway) is registered with IANA; wsproto does not know it",
        b"\x88\x02\x03\xf6",
        lambda ours, theirs: ours.close is not None and ours.close.code == 1014 and theirs.failure == 1002,
    ),
    Difference(
        "so with 1014 it does not come to the reason, where we find bytes that are not UTF-8",
        b"\x88\x03\x03\xf6\xff",
        lambda ours, theirs: ours.reason == "close reason is not UTF-8" and theirs.failure == 1002,
    ),
]

by_peer = pytest.mark.parametrize(
    ("verdict_of_other", "differences", "max_size"),
    [
        pytest.param(verdict_of_websockets, WEBSOCKETS_DIFFERS, MAX_SIZE, id="websockets"),
        pytest.param(verdict_of_wsproto, WSPROTO_DIFFERS, 1 << 64, id="wsproto"),  # it knows no limit
    ],
)


def agree(ours: Verdict, theirs: Verdict, differences: Sequence[Difference]) -> bool:
    return ours == theirs or any(difference.explains(ours, theirs) for difference in differences)


# Frames of a server, mostly good, in an order that is mostly good.
text = st.sampled_from(
    [b"", b"hello", "é\N{SNOWMAN}\N{GRINNING FACE}".encode(), b"\xe2\x98", b"\x83", b"x" * 300]
)
close_payload = st.one_of(
    st.just(b""),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason,
        st.one_of(st.integers(990, 1020), st.sampled_from([0, 2999, 3000, 4999, 5000])),
        st.sampled_from([b"", b"bye", b"\xff"]),
    ),
    st.just(b"\x03"),
)


@st.composite
def server_streams(draw: st.DrawFn) -> bytes:
    stream = bytearray()
    inside = False
    for _ in range(draw(st.integers(1, 6))):
        opcode = draw(st.sampled_from([0, 0, 0, 9, 8] if inside else [1, 1, 2, 2, 10, 8]))
        fin = opcode >= 8 or draw(st.booleans())
        payload = draw(close_payload if opcode == 8 else text)[: 125 if opcode >= 8 else None]
        stream += bytes([opcode | fin << 7]) + draw(lengths_of(payload)) + payload
        inside = inside if opcode >= 8 else not fin
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255))
    return bytes(stream[: draw(st.one_of(st.none(), st.integers(0, len(stream))))])


def lengths_of(payload: bytes) -> st.SearchStrategy[bytes]:
    two = b"\x7e" + len(payload).to_bytes(2, "big")
    eight = b"\x7f" + len(payload).to_bytes(8, "big")
    if len(payload) > 125:
        return st.sampled_from([two] * 9 + [eight])
    return st.sampled_from([bytes([len(payload)])] * 20 + [two, eight])


@by_peer
@settings(max_examples=400, deadline=None)
@given(stream=server_streams())
def test_others_judge_a_stream_as_we_do(
    verdict_of_other: Callable[[bytes, int], Verdict],
    differences: Sequence[Difference],
    max_size: int,
    stream: bytes,
) -> None:
    ours, theirs = our_verdict(stream, max_size), verdict_of_other(stream, max_size)
    assert agree(ours, theirs, differences), (ours, theirs)


@by_peer
def test_every_listed_difference_is_one(
    verdict_of_other: Callable[[bytes, int], Verdict], differences: Sequence[Difference], max_size: int
) -> None:
    for difference in differences:
        ours = our_verdict(difference.example, max_size)
        theirs = verdict_of_other(difference.example, max_size)
        assert ours != theirs, difference.why
        assert difference.explains(ours, theirs), (difference.why, ours, theirs)


@by_peer
@pytest.mark.parametrize("size", [125, 126, 999, 1000])
def test_others_take_the_sizes_that_we_take(
    verdict_of_other: Callable[[bytes, int], Verdict],
    differences: Sequence[Difference],
    max_size: int,
    size: int,
) -> None:
    for first in (0x81, 0x82):
        frame = websockets.frames.Frame(websockets.frames.Opcode(first & 15), b"x" * size).serialize(
            mask=False
        )
        ours = our_verdict(frame * 3, max_size)
        assert len(ours.events) == 3
        assert ours == verdict_of_other(frame * 3, max_size)


def test_websockets_has_the_same_limit() -> None:
    frame = websockets.frames.Frame(websockets.frames.Opcode.BINARY, b"x" * 1001).serialize(mask=False)
    assert our_verdict(frame) == verdict_of_websockets(frame)
    assert our_verdict(frame).failure == 1009
