"""Our codec against those of websocket-client, websockets and wsproto.

What we encode, each of them reads back, compressed too, but for websocket-client, which cannot. What a server
might send, good or bad, each of them judges as we do, however it is cut, but for the differences listed in
``WEBSOCKETS_DIFFERS`` and ``WSPROTO_DIFFERS``, of which each is shown by an example.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeAlias

import pytest
import websocket
import websockets.extensions.permessage_deflate
import websockets.protocol
import wsproto.connection
import wsproto.events
import wsproto.extensions
from deflating import TAIL, Server, server_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from wsclient.deflate import Agreement, Deflate
from wsclient.exceptions import ProtocolError
from wsclient.frames import (
    Frame,
    IntMasking,
    Masking,
    NumpyMasking,
    Opcode,
    Outgoing,
    decode_header,
    encode_batch,
)
from wsclient.protocol import Close, Failure, Ping, Pong, Protocol

MAX_SIZE = 1000


@dataclass(frozen=True)
class Agreed:
    """What was agreed on for compression, and how each library is told."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    def ours(self, threshold: int = 0) -> Agreement:
        parts = ["permessage-deflate", f"server_max_window_bits={self.server_max_window_bits}"]
        parts += [f"client_max_window_bits={self.client_max_window_bits}"]
        parts += ["server_no_context_takeover"] * self.server_no_context_takeover
        parts += ["client_no_context_takeover"] * self.client_no_context_takeover
        return Deflate(threshold=threshold, client_max_window_bits=15).agree("; ".join(parts))

    def of_websockets(self, *, is_client: bool) -> websockets.extensions.permessage_deflate.PerMessageDeflate:
        server = (self.server_no_context_takeover, self.server_max_window_bits)
        client = (self.client_no_context_takeover, max(9, self.client_max_window_bits))
        remote, local = (server, client) if is_client else (client, server)
        return websockets.extensions.permessage_deflate.PerMessageDeflate(
            remote[0], local[0], remote[1], local[1]
        )

    def of_wsproto(self) -> wsproto.extensions.PerMessageDeflate:
        extension = wsproto.extensions.PerMessageDeflate(
            client_no_context_takeover=self.client_no_context_takeover,
            client_max_window_bits=max(9, self.client_max_window_bits),
            server_no_context_takeover=self.server_no_context_takeover,
            server_max_window_bits=self.server_max_window_bits,
        )
        extension.finalize("permessage-deflate")
        return extension


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


def pieces_of(stream: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    for start, stop in pairwise([0, *sorted(cuts), len(stream)]):
        yield stream[start:stop]


def our_verdict(
    stream: bytes, max_size: int = MAX_SIZE, cuts: Sequence[int] = (), agreed: Agreed | None = None
) -> Verdict:
    protocol = Protocol(max_size, inflater=agreed.ours().inflater() if agreed else None)
    events = [event for piece in pieces_of(stream, cuts) for event in protocol.receive_data(piece)]
    last = events[-1] if events else None
    if isinstance(last, Failure):
        return Verdict(tuple(events[:-1]), failure=last.error.code, reason=last.error.reason)
    if isinstance(last, Close):
        return Verdict(tuple(events[:-1]), last)
    return Verdict(tuple(events))


def verdict_of_websockets(
    stream: bytes, max_size: int = MAX_SIZE, cuts: Sequence[int] = (), agreed: Agreed | None = None
) -> Verdict:
    client = websockets.protocol.Protocol(websockets.protocol.CLIENT, max_size=max_size)
    client.extensions = [agreed.of_websockets(is_client=True)] if agreed else []
    for piece in pieces_of(stream, cuts):
        client.receive_data(piece)
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


def verdict_of_wsproto(
    stream: bytes, max_size: int = MAX_SIZE, cuts: Sequence[int] = (), agreed: Agreed | None = None
) -> Verdict:
    client = wsproto.connection.Connection(
        wsproto.connection.ConnectionType.CLIENT, [agreed.of_wsproto()] if agreed else []
    )
    events: list[object] = []
    parts: list[Any] = []
    for event in events_of_wsproto(client, pieces_of(stream, cuts)):
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


def events_of_wsproto(
    connection: wsproto.connection.Connection, pieces: Iterator[bytes]
) -> Iterator[wsproto.events.Event]:
    for piece in pieces:
        connection.receive_data(piece)
        yield from connection.events()


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


def _we_read_on(ours: Verdict, theirs: Verdict) -> bool:
    return len(theirs.events) < len(ours.events) and theirs.events == ours.events[: len(theirs.events)]


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
    Difference(
        "max_message_size is for messages; websockets takes it for the control frames between fragments, too",
        b"\x02\x7e\x03\xe8" + bytes(1000) + b"\x89\x01p" + b"\x80\x00",
        lambda ours, theirs: (
            theirs.failure == 1009
            and _we_read_on(ours, theirs)
            and isinstance(ours.events[len(theirs.events)], Ping | Pong)
        ),
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

Judge: TypeAlias = "Callable[..., Verdict]"

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


def cuts_of(stream: bytes) -> st.SearchStrategy[list[int]]:
    return st.one_of(
        st.just([]), st.lists(st.integers(0, len(stream)), max_size=8), st.just(list(range(len(stream))))
    )


def lengths_of(payload: bytes) -> st.SearchStrategy[bytes]:
    two = b"\x7e" + len(payload).to_bytes(2, "big")
    eight = b"\x7f" + len(payload).to_bytes(8, "big")
    if len(payload) > 125:
        return st.sampled_from([two] * 9 + [eight])
    return st.sampled_from([bytes([len(payload)])] * 20 + [two, eight])


@by_peer
@settings(max_examples=400, deadline=None)
@given(stream=server_streams(), data=st.data())
def test_others_judge_a_stream_as_we_do(
    verdict_of_other: Judge,
    differences: Sequence[Difference],
    max_size: int,
    stream: bytes,
    data: st.DataObject,
) -> None:
    cuts = data.draw(cuts_of(stream))
    ours, theirs = our_verdict(stream, max_size, cuts), verdict_of_other(stream, max_size, cuts)
    assert agree(ours, theirs, differences), (ours, theirs)


@by_peer
def test_every_listed_difference_is_one(
    verdict_of_other: Judge, differences: Sequence[Difference], max_size: int
) -> None:
    for difference in differences:
        ours = our_verdict(difference.example, max_size)
        theirs = verdict_of_other(difference.example, max_size)
        assert ours != theirs, difference.why
        assert difference.explains(ours, theirs), (difference.why, ours, theirs)


@by_peer
@pytest.mark.parametrize("size", [125, 126, 999, 1000])
def test_others_take_the_sizes_that_we_take(
    verdict_of_other: Judge,
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


# ----------------------------------------------------------------------------------------------- compressed


def compressing(agreed: Agreed) -> Server:
    return Server(
        window_bits=agreed.server_max_window_bits, keeps_context=not agreed.server_no_context_takeover
    )


agreements = st.builds(Agreed, st.booleans(), st.booleans(), st.integers(9, 15), st.integers(8, 15))
message_data = st.builds(
    lambda text, times: (text * times)[:1200],
    st.sampled_from([b"", b"hello", "é\N{SNOWMAN}\N{GRINNING FACE}".encode(), b"\xe2\x98", b"0123456789ABC"]),
    st.sampled_from([1, 1, 1, 5, 75, 90]),
)


@st.composite
def compressed_frames(draw: st.DrawFn, agreed: Agreed) -> list[bytes]:
    """Whole frames of a good server."""
    server = compressing(agreed)
    frames = []
    for _ in range(draw(st.integers(1, 5))):
        compresses, data = draw(st.booleans()), draw(message_data)
        payload = server.payload(data) if compresses else data
        parts = list(pieces_of(payload, draw(st.lists(st.integers(0, len(payload)), max_size=3))))
        for index, part in enumerate(parts):
            first = 0 if index else draw(st.sampled_from([1, 2])) | compresses << 6
            frames.append(server_frame(first, part, fin=index == len(parts) - 1))
            if draw(st.integers(0, 3)) == 0:
                frames.append(server_frame(draw(st.sampled_from([Opcode.PING, Opcode.PONG])), b"control"))
    return frames


@st.composite
def damaged(draw: st.DrawFn, frames: Sequence[bytes]) -> bytes:
    """Break something in a stream of frames."""
    broken = list(frames)
    index = draw(st.integers(0, len(broken) - 1))
    frame = bytearray(broken[index])
    payload = frame[4 if frame[1] == 126 else 2 :]
    kind = draw(st.sampled_from(["bit", "payload", "payload", "too short", "any byte", "cut off", "lost"]))
    if kind == "bit":
        frame[0] ^= draw(st.sampled_from([0x40, 0x40, 0x20, 0x10]))
    elif kind == "payload" and payload:
        payload[draw(st.integers(0, len(payload) - 1))] = draw(st.integers(0, 255))
        frame = bytearray(server_frame(frame[0] & 0x7F, payload, fin=frame[0] >= 0x80))
    elif kind == "too short":
        rest = payload[: draw(st.integers(0, len(payload)))]
        frame = bytearray(server_frame(frame[0] & 0x7F, rest, fin=frame[0] >= 0x80))
    elif kind == "any byte":
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    elif kind == "lost":
        frame = bytearray()
    broken[index] = bytes(frame)
    stream = b"".join(broken)
    return stream[: draw(st.integers(0, len(stream)))] if kind == "cut off" else stream


@dataclass
class Compressed:
    """A compressed message of a stream, as far as it came."""

    payload: bytes = b""
    is_interrupted: bool = False  # by a control frame


def compressed_messages(stream: bytes) -> list[Compressed]:
    """Find them by their headers."""
    found: list[Compressed] = []
    is_open, position = False, 0
    while position < len(stream) and (header := _header(stream, position)):
        first, length, start = header
        position = start + length
        if first & 0x48 == 0x40:
            found.append(Compressed())
            is_open = True
        if first & 8:
            found[-1:] = [Compressed(one.payload, one.is_interrupted or is_open) for one in found[-1:]]
        elif is_open:
            found[-1].payload += stream[start:position]
            is_open = first < 0x80
    return found


def _header(stream: bytes, position: int) -> tuple[int, int, int] | None:
    try:
        return decode_header(stream, position, len(stream), compressible=True)
    except ProtocolError:
        return None


def has_final_block(messages: Sequence[Compressed]) -> bool:
    """Whether some message ends the compressed stream (RFC 7692, section 7.2.3.4), and it goes on."""
    context = zlib.decompressobj(-15)
    for message in messages:
        for one in (context, zlib.decompressobj(-15)):
            try:
                one.decompress(message.payload + TAIL)
            except zlib.error:
                continue
            if one.eof:
                return True
    return False


@dataclass(frozen=True)
class CompressedDifference:
    """As ``Difference``; it may take the messages to see whether it is the one."""

    why: str
    example: bytes
    explains: Callable[[Verdict, Verdict, list[Compressed]], bool]
    cuts: tuple[int, ...] = ()  # of the example


def hello(count: int = 1) -> bytes:
    return server_frame(0x41, bytes.fromhex("f248cdc9c90700")) * count


INFLATING_DIFFERS = [
    CompressedDifference(
        "we notice that the data of a message ends too early; the others take it, and are out of step",
        b"\xc1\x03\xf2\x48\xcd" + hello(),
        lambda ours, theirs, messages: "ends within a block" in ours.reason and _they_read_on(ours, theirs),
    ),
    CompressedDifference(
        "RFC 7692, section 7.2.3.4: the data may go on behind a final block; the others ignore what follows",
        server_frame(0x41, bytes.fromhex("f348cdc9c9070000")) + hello(2),
        lambda ours, theirs, messages: has_final_block(messages),
    ),
    CompressedDifference(
        "a payload without a byte is an empty message to us; it gets the inflaters of the others out of step",
        b"\xc1\x00" + hello(),
        lambda ours, theirs, messages: any(not message.payload for message in messages),
    ),
]

INFLATING_WEBSOCKETS_DIFFERS = [
    *INFLATING_DIFFERS,
    CompressedDifference(
        "for data that does not inflate RFC 7692 names no close code: 1007 is ours, 1002 that of websockets",
        b"\xc1\x01\x07",
        lambda ours, theirs, messages: (
            _same_events(ours, theirs) and "compressed message" in ours.reason and theirs.failure == 1002
        ),
    ),
    CompressedDifference(
        "we inflate and check what has come of a frame, websockets when all of it has",
        b"\xc1\x05\x07",
        lambda ours, theirs, messages: (
            _same_events(ours, theirs) and ours.failure in (1007, 1009) and theirs.failure is None
        ),
    ),
    CompressedDifference(
        "max_message_size is for what comes out; websockets takes it for the compressed payload, too",
        server_frame(0x42, bytes.fromhex("00e80317fc") + bytes(1000) + b"\x00"),
        lambda ours, theirs, messages: (
            theirs.failure == 1009
            and ours.failure != 1009
            and (_we_read_on(ours, theirs) or _same_events(ours, theirs))
        ),
    ),
    CompressedDifference(
        "where a message is damaged, too big and not text, any of that may be said",
        b"\xc1\x07" + bytes.fromhex("000100feffff") + b"\x07",
        lambda ours, theirs, messages: (
            _same_events(ours, theirs)
            and ours.failure in (1007, 1009)
            and theirs.failure in (1002, 1007, 1009)
        ),
        cuts=(8,),
    ),
]

INFLATING_WSPROTO_DIFFERS = [
    *INFLATING_DIFFERS,
    CompressedDifference(
        "behind a control frame between fragments wsproto takes the rest of the message for not compressed",
        b"\x41\x03\xf2\x48\xcd\x89\x00\x80\x04\xc9\xc9\x07\x00",
        lambda ours, theirs, messages: any(message.is_interrupted for message in messages),
    ),
    CompressedDifference(
        "wsproto looks into the payload first, then whether the frame may stand there",
        b"\x41\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x01\x07",
        lambda ours, theirs, messages: (
            _same_events(ours, theirs) and ours.failure == 1002 and theirs.failure == 1007
        ),
    ),
]

by_inflating_peer = pytest.mark.parametrize(
    ("verdict_of_other", "plain", "differences", "max_size"),
    [
        pytest.param(
            verdict_of_websockets, WEBSOCKETS_DIFFERS, INFLATING_WEBSOCKETS_DIFFERS, MAX_SIZE, id="websockets"
        ),
        pytest.param(verdict_of_wsproto, WSPROTO_DIFFERS, INFLATING_WSPROTO_DIFFERS, 1 << 64, id="wsproto"),
    ],
)


@by_inflating_peer
@settings(max_examples=300, deadline=None)
@given(agreed=agreements, damage=st.booleans(), data=st.data())
def test_others_judge_compressed_messages_as_we_do(
    verdict_of_other: Judge,
    plain: Sequence[Difference],
    differences: Sequence[CompressedDifference],
    max_size: int,
    agreed: Agreed,
    damage: bool,
    data: st.DataObject,
) -> None:
    if damage:
        # In a smaller window zlib notices that data refers too far back only where it is cut.
        agreed = replace(agreed, server_max_window_bits=15)
    frames = data.draw(compressed_frames(agreed))
    stream = data.draw(damaged(frames)) if damage else b"".join(frames)
    cuts = data.draw(cuts_of(stream))
    ours = our_verdict(stream, max_size, cuts, agreed)
    theirs = verdict_of_other(stream, max_size, cuts, agreed)
    messages = compressed_messages(stream)
    assert agree(ours, theirs, plain) or any(
        difference.explains(ours, theirs, messages) for difference in differences
    ), (ours, theirs)


@by_inflating_peer
def test_every_listed_difference_in_compression_is_one(
    verdict_of_other: Judge,
    plain: Sequence[Difference],
    differences: Sequence[CompressedDifference],
    max_size: int,
) -> None:
    for difference in differences:
        ours = our_verdict(difference.example, max_size, difference.cuts, Agreed())
        theirs = verdict_of_other(difference.example, max_size, difference.cuts, Agreed())
        assert ours != theirs, difference.why
        messages = compressed_messages(difference.example)
        assert difference.explains(ours, theirs, messages), (difference.why, ours, theirs)


# -------------------------------------------------------------------------- what we compress, others inflate


def messages_read_by_websockets(wire: bytes, agreed: Agreed) -> list[object]:
    server = websockets.protocol.Protocol(websockets.protocol.SERVER, max_size=None)
    server.extensions = [agreed.of_websockets(is_client=False)]
    server.receive_data(wire)
    assert server.parser_exc is None
    events: list[object] = []
    message = _Assembly(events)
    for frame in server.events_received():
        assert isinstance(frame, websockets.frames.Frame)
        if frame.opcode is websockets.frames.Opcode.PING:
            events.append(Ping(bytes(frame.data)))
        else:
            message.add(frame.opcode, bytes(frame.data), frame.fin)
    return events


def messages_read_by_wsproto(wire: bytes, agreed: Agreed) -> list[object]:
    server = wsproto.connection.Connection(wsproto.connection.ConnectionType.SERVER, [agreed.of_wsproto()])
    events: list[object] = []
    parts: list[Any] = []
    for event in events_of_wsproto(server, iter([wire])):
        if isinstance(event, wsproto.events.Ping):
            events.append(Ping(bytes(event.payload)))
            continue
        assert isinstance(event, wsproto.events.Message), event
        parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
        if event.message_finished:
            events.append(parts[0][:0].join(parts))
            parts = []
    return events


def messages_of(batch: Sequence[Outgoing]) -> list[object]:
    events: list[object] = []
    message = _Assembly(events)
    for item in batch:
        if isinstance(item, Frame) and item.opcode is Opcode.PING:
            events.append(Ping(item.payload))
        elif isinstance(item, Frame):
            message.add(item.opcode, item.payload, item.fin)
        else:
            events.append(item)
    return events


compressible = st.builds(lambda unit, times: unit * times, st.binary(max_size=20), st.integers(0, 40))
outgoing_messages: st.SearchStrategy[list[list[Outgoing]]] = st.lists(
    st.one_of(
        st.builds(lambda unit, times: [unit * times], st.text(max_size=20), st.integers(0, 40)),
        compressible.map(lambda data: [data]),
        st.lists(compressible, min_size=2, max_size=4).map(
            lambda parts: [
                Frame(Opcode.CONTINUATION if index else Opcode.BINARY, part, fin=index == len(parts) - 1)
                for index, part in enumerate(parts)
            ]
        ),
    ),
    max_size=10,
)
ping: Outgoing = Frame(Opcode.PING, b"ping")


@pytest.mark.parametrize("read", [messages_read_by_websockets, messages_read_by_wsproto])
@settings(deadline=None)
@given(
    agreed=st.builds(Agreed, st.booleans(), st.booleans(), st.integers(9, 15), st.integers(8, 15)),
    threshold=st.sampled_from([0, 1, 50, 1000]),
    messages=outgoing_messages,
    masking=st.sampled_from([None, IntMasking(), NumpyMasking()]),
)
def test_others_read_what_we_compress(
    read: Callable[[bytes, Agreed], list[object]],
    agreed: Agreed,
    threshold: int,
    messages: list[list[Outgoing]],
    masking: Masking | None,
) -> None:
    # A ping between fragments, too; but for wsproto, which is then out of step (see its differences).
    between: list[Outgoing] = [ping] if read is messages_read_by_websockets else []
    batch: list[Outgoing] = []
    for parts in messages:
        batch += [item for part in parts[:-1] for item in (part, *between)]
        batch.append(parts[-1])
    batch.append(ping)
    frames = agreed.ours(threshold).deflater().compress(batch)
    assert read(bytes(encode_batch(frames, masking)), agreed) == messages_of(batch)
