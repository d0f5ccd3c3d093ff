"""Decoding: bytes of a server in, events out, however the bytes are cut."""

from __future__ import annotations

import itertools
import os
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from deflating import RSV1, Server, assembled, kind_of, server_frame, server_header
from hypothesis import given
from hypothesis import strategies as st

from wsclient.deflate import Deflate, Inflater
from wsclient.exceptions import MessageTooBig, ProtocolError
from wsclient.protocol import Close, Event, Failure, Fragment, Ping, Pong, Protocol

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MIB = 1 << 20


frame = server_frame
header = server_header


def decode(data: bytes, max_message_size: int = 16 * MIB) -> list[Event]:
    return Protocol(max_message_size).receive_data(data)


def decode_in_pieces(data: bytes, cuts: Sequence[int], protocol: Protocol | None = None) -> list[Event]:
    protocol = protocol or Protocol(16 * MIB)
    events: list[Event] = []
    for start, stop in pairwise([0, *sorted(cuts), len(data)]):
        events += protocol.receive_data(data[start:stop])
    return events


def failure_of(events: list[Event]) -> ProtocolError:
    assert isinstance(events[-1], Failure)
    assert not any(isinstance(event, Failure | Close) for event in events[:-1])
    return events[-1].error


# ------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 300_000, 2 * MIB, 3 * MIB + 1])
def test_message_of_any_length(length: int) -> None:
    payload = bytes(index % 251 for index in range(251)) * (length // 251 + 1)
    payload = payload[:length]
    assert decode(frame(BINARY, payload)) == [payload]
    assert decode(frame(TEXT, b"x" * length)) == ["x" * length]


def test_messages_have_exact_types() -> None:
    types = [type(event) for event in decode(frame(TEXT, b"t") + frame(BINARY, b"b"))]
    assert types == [str, bytes]
    large = decode(frame(TEXT, b"t" * 400_000) + frame(BINARY, b"b" * 400_000))
    assert [type(event) for event in large] == [str, bytes]
    parts = decode(frame(BINARY, b"b", fin=False) + frame(CONTINUATION, b"b"))
    assert [type(event) for event in parts] == [bytes]


def test_many_messages_in_one_buffer() -> None:
    expected: list[Event] = [f"message {index}" for index in range(2000)]
    assert decode(b"".join(frame(TEXT, str(text).encode()) for text in expected)) == expected


def test_text_is_utf8() -> None:
    text = "ünïcödé \N{SNOWMAN} \N{GRINNING FACE}"
    assert decode(frame(TEXT, text.encode())) == [text]
    assert decode(frame(TEXT, text.encode() * 100)) == [text * 100]


def test_large_message_after_small_ones_and_before_small_ones() -> None:
    big = b"B" * (5 * MIB)
    stream = frame(TEXT, b"before") * 10 + frame(BINARY, big) + frame(TEXT, b"after") * 10
    assert decode(stream) == ["before"] * 10 + [big] + ["after"] * 10


def test_receiving_nothing() -> None:
    protocol = Protocol(100)
    assert protocol.receive_data(b"") == []


# ------------------------------------------------------------------------------------------------ fragments


def test_fragments_are_joined() -> None:
    stream = frame(BINARY, b"a", fin=False) + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"b")
    assert decode(stream + frame(TEXT, b"next")) == [b"ab", "next"]


def test_control_frames_between_fragments() -> None:
    stream = frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(PONG) + frame(CONTINUATION, b"b")
    assert decode(stream) == [Ping(b"p"), Pong(b""), "ab"]


def test_close_between_fragments() -> None:
    assert decode(frame(TEXT, b"a", fin=False) + frame(CLOSE, b"\x03\xe9")) == [Close(1001, "")]


def test_character_cut_by_fragments() -> None:
    snowman = "\N{SNOWMAN}".encode()
    stream = (
        frame(TEXT, snowman[:1], fin=False)
        + frame(CONTINUATION, snowman[1:2], fin=False)
        + frame(CONTINUATION, snowman[2:])
    )
    assert decode(stream) == ["\N{SNOWMAN}"]


def test_large_fragments() -> None:
    part = b"x" * (MIB + 5)
    stream = frame(TEXT, part, fin=False) + frame(CONTINUATION, part, fin=False) + frame(CONTINUATION, b"!")
    assert decode(stream) == [(part * 2 + b"!").decode()]


def test_thousands_of_fragments() -> None:
    fragments = [bytes([index % 256]) * 1024 for index in range(8000)]
    stream = (
        frame(BINARY, b"", fin=False)
        + b"".join(frame(CONTINUATION, data, fin=False) for data in fragments)
        + frame(CONTINUATION)
    )
    assert decode(stream) == [b"".join(fragments)]


# -------------------------------------------------------------------------------------------- control frames


def test_ping_and_pong() -> None:
    stream = frame(PING) + frame(PING, b"p" * 125) + frame(PONG, b"unasked")
    assert decode(stream) == [Ping(b""), Ping(b"p" * 125), Pong(b"unasked")]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", Close(1005, "")),
        (b"\x03\xe8", Close(1000, "")),
        (b"\x0f\xa0gr\xc3\xbc\xc3\x9fe", Close(4000, "grüße")),
    ],
)
def test_close(payload: bytes, expected: Close) -> None:
    assert decode(frame(CLOSE, payload)) == [expected]


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\x03", 1002), (b"\x03\xee", 1002), (b"\x00\x00", 1002), (b"\x03\xe8\xff", 1007)],
)
def test_bad_close(payload: bytes, code: int) -> None:
    assert failure_of(decode(frame(CLOSE, payload))).code == code


def test_everything_after_close_is_ignored() -> None:
    protocol = Protocol(1000)
    stream = frame(TEXT, b"last") + frame(CLOSE) + frame(TEXT, b"late") + b"\xff\xff"
    assert protocol.receive_data(stream) == ["last", Close(1005, "")]
    for _ in range(100):
        assert protocol.receive_data(frame(TEXT, b"later") * 500) == []
        assert len(protocol.get_buffer()) > 0


# ------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("stream", "code", "reason"),
    [
        pytest.param(b"\xc1\x00", 1002, "reserved bits", id="rsv1"),
        pytest.param(b"\xa1\x00", 1002, "reserved bits", id="rsv2"),
        pytest.param(b"\x91\x00", 1002, "reserved bits", id="rsv3"),
        pytest.param(b"\x83\x00", 1002, "reserved opcode", id="reserved data opcode"),
        pytest.param(b"\x8b\x00", 1002, "reserved opcode", id="reserved control opcode"),
        pytest.param(b"\x81\x81\0\0\0\0x", 1002, "masked", id="masked"),
        pytest.param(b"\x81\x80", 1002, "masked", id="masked, seen at its second byte"),
        pytest.param(b"\x09\x00", 1002, "fragmented control", id="fragmented ping"),
        pytest.param(b"\x89\x7e\x00\x7e" + b"p" * 126, 1002, "extended length", id="long ping"),
        pytest.param(b"\x82\x7e\x00\x05hello", 1002, "shortest", id="16-bit length below 126"),
        pytest.param(b"\x82\x7f" + bytes(8), 1002, "shortest", id="64-bit length below 65536"),
        pytest.param(b"\x82\x7f\x80" + bytes(7), 1002, "highest bit", id="64-bit length, top bit"),
        pytest.param(frame(CONTINUATION, b"x"), 1002, "without a message", id="stray continuation"),
        pytest.param(
            frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002, "new message", id="text in fragments"
        ),
        pytest.param(
            frame(TEXT, b"a", fin=False) + frame(BINARY, b"b"), 1002, "new message", id="binary in fragments"
        ),
        pytest.param(
            frame(TEXT, b"a", fin=False) + frame(TEXT, b"b", fin=False),
            1002,
            "new message",
            id="new fragmented message in fragments",
        ),
        pytest.param(frame(TEXT, b"\xff"), 1007, "UTF-8", id="short text"),
        pytest.param(frame(TEXT, b"x" * 400 + b"\xed\xa0\x80"), 1007, "UTF-8", id="surrogate"),
        pytest.param(frame(TEXT, b"x" * 400_000 + b"\xc0\x80"), 1007, "UTF-8", id="large text, overlong"),
        pytest.param(frame(TEXT, b"x\xf4\x90\x80\x80"), 1007, "UTF-8", id="beyond unicode"),
        pytest.param(frame(TEXT, b"x\xe2\x98"), 1007, "UTF-8", id="cut off at the end"),
        pytest.param(frame(TEXT, b"\xff", fin=False), 1007, "UTF-8", id="first fragment"),
        pytest.param(
            frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\xe2", fin=False),
            1007,
            "UTF-8",
            id="a later fragment",
        ),
        pytest.param(
            frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x98"),
            1007,
            "UTF-8",
            id="cut off at the end of the last fragment",
        ),
    ],
)
def test_failure(stream: bytes, code: int, reason: str) -> None:
    for prefix in (b"", frame(TEXT, b"before")):
        events = decode(prefix + stream + frame(TEXT, b"after"))
        assert events[:-1] == ["before"] * bool(prefix)
        error = failure_of(events)
        assert error.code == code
        assert reason in error.reason
        assert len(error.reason.encode()) <= 123, "it has to fit in a close frame"


def test_everything_after_a_failure_is_ignored() -> None:
    protocol = Protocol(1000)
    assert len(protocol.receive_data(b"\xff\x00" + frame(TEXT, b"late"))) == 1
    assert protocol.receive_data(frame(TEXT, b"later")) == []


@pytest.mark.parametrize("limit", [0, 5, 125, 126, 1000, 65_536, 300_000])
def test_max_message_size(limit: int) -> None:
    assert decode(frame(BINARY, b"x" * limit), limit) == [b"x" * limit]
    # The header is enough: nothing of the payload has come.
    error = failure_of(decode(header(BINARY, limit + 1), limit))
    assert isinstance(error, MessageTooBig)
    assert error.code == 1009
    assert str(limit) in error.reason


def test_max_message_size_holds_for_the_sum_of_fragments() -> None:
    parts = frame(BINARY, b"x" * 60, fin=False) + frame(CONTINUATION, b"x" * 40, fin=False)
    assert decode(parts + frame(CONTINUATION, b""), 100) == [b"x" * 100]
    assert isinstance(failure_of(decode(parts + header(CONTINUATION, 1), 100)), MessageTooBig)


def test_max_message_size_does_not_hold_for_control_frames() -> None:
    assert decode(frame(PING, b"ping") + frame(CLOSE, b"\x03\xe8"), 0) == [Ping(b"ping"), Close(1000, "")]


def test_declared_length_of_a_tebibyte() -> None:
    assert failure_of(decode(header(BINARY, 1 << 40))).code == 1009


# --------------------------------------------------------------------------------------------------- memory


def peak_memory_of(protocol: Protocol, stream: Sequence[bytes]) -> int:
    """Bytes allocated at most while ``protocol`` decodes ``stream``."""
    tracemalloc.start()
    try:
        for data in stream:
            protocol.receive_data(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_idle_connection_is_small() -> None:
    tracemalloc.start()
    try:
        protocols = [Protocol(16 * MIB) for _ in range(10)]
        assert tracemalloc.get_traced_memory()[0] < len(protocols) * 20_000
    finally:
        tracemalloc.stop()


def test_memory_is_not_allocated_on_a_peers_word() -> None:
    assert peak_memory_of(Protocol(1 << 40), [header(BINARY, 1 << 40), b"x" * 1000]) < 2 * MIB


def test_large_message_takes_no_more_than_twice_its_size() -> None:
    size = 12 * MIB
    stream = [header(BINARY, size), *[b"x" * 65_536] * (size // 65_536)]
    assert peak_memory_of(Protocol(size), stream) < 2 * size + MIB


def test_dripping_does_not_copy_what_came_before() -> None:
    protocol = Protocol(16 * MIB)
    protocol.receive_data(frame(BINARY, b"x" * 100) * 10_000)  # the buffer has grown now
    protocol.receive_data(header(BINARY, 200_000) + b"x" * 150_000)
    assert peak_memory_of(protocol, [b"x"] * 100) < 50_000


def test_endless_empty_fragments_take_no_memory() -> None:
    empty = frame(CONTINUATION, fin=False) * 5_000
    protocol = Protocol(16 * MIB)
    protocol.receive_data(frame(TEXT, b"a", fin=False) + empty * 4)  # the buffer has grown now
    assert peak_memory_of(protocol, [empty] * 5) < 100_000
    assert protocol.receive_data(frame(CONTINUATION, b"b")) == ["ab"]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_tiny_fragments_take_little_more_than_their_bytes(opcode: int) -> None:
    tiny = frame(CONTINUATION, b"xy", fin=False) * 10_000
    protocol = Protocol(16 * MIB)
    protocol.receive_data(frame(opcode, fin=False) + tiny)
    assert peak_memory_of(protocol, [tiny] * 2) < 400_000  # 2 million as a list of bytes


# ------------------------------------------------------------------------------------------ buffer and counts


def test_buffer_grows_when_reads_fill_it() -> None:
    protocol = Protocol(16 * MIB)
    first = len(protocol.get_buffer())
    assert first <= 16_384
    protocol.receive_data(frame(BINARY, b"x" * 100) * 10_000)
    assert 200_000 < len(protocol.get_buffer()) <= 262_144


def test_buffer_stays_small_when_reads_are() -> None:
    protocol = Protocol(16 * MIB)
    first = len(protocol.get_buffer())
    for _ in range(1000):
        protocol.receive_data(frame(BINARY, b"x" * 100))
    assert len(protocol.get_buffer()) == first


def test_incomplete_frame_is_kept() -> None:
    protocol = Protocol(16 * MIB)
    room = len(protocol.get_buffer())
    stream = frame(TEXT, b"whole") + frame(TEXT, b"x" * 1000)
    assert protocol.receive_data(stream[:-1]) == ["whole"]
    assert len(protocol.get_buffer()) == room - 1003
    assert protocol.receive_data(stream[-1:]) == ["x" * 1000]


def test_large_payload_is_read_without_anything_behind_it() -> None:
    protocol = Protocol(16 * MIB)
    protocol.receive_data(header(BINARY, 100_000) + b"x" * 1000)
    assert len(protocol.get_buffer()) == 99_000


def test_transport_may_keep_its_view_of_the_buffer() -> None:
    protocol = Protocol(16 * MIB)
    payload = b"x" * 500_000
    stream = frame(BINARY, payload) * 3
    events: list[Event] = []
    views = []
    while stream:
        view = protocol.get_buffer()
        views.append(view)
        count = min(len(view), len(stream))
        view[:count] = stream[:count]
        events += protocol.buffer_updated(count)
        stream = stream[count:]
    assert events == [payload] * 3


# ------------------------------------------------------------------------------------------- cut into pieces


def test_every_single_cut() -> None:
    stream = (
        frame(TEXT, "größe".encode())
        + frame(BINARY, b"x" * 130)
        + frame(TEXT, b"\xe2\x98", fin=False)
        + frame(PING, b"p")
        + frame(CONTINUATION, b"\x83")
        + frame(CLOSE, b"\x03\xe8bye")
    )
    expected = ["größe", b"x" * 130, Ping(b"p"), "\N{SNOWMAN}", Close(1000, "bye")]
    for cut in range(len(stream) + 1):
        assert decode_in_pieces(stream, [cut]) == expected
    assert decode_in_pieces(stream, range(len(stream))) == expected


messages = st.one_of(
    st.text(max_size=150).map(lambda text: [(TEXT, text.encode())]),
    st.binary(max_size=150).map(lambda data: [(BINARY, data)]),
    st.binary(max_size=125).map(lambda data: [(PING, data)]),
    st.binary(max_size=125).map(lambda data: [(PONG, data)]),
    st.lists(st.binary(max_size=40), min_size=2, max_size=5).map(
        lambda parts: [(BINARY if index == 0 else CONTINUATION, part) for index, part in enumerate(parts)]
    ),
)


def frames_of(parts: list[tuple[int, bytes]]) -> bytes:
    last = len(parts) - 1
    return b"".join(frame(opcode, data, fin=index == last) for index, (opcode, data) in enumerate(parts))


def event_of(parts: list[tuple[int, bytes]]) -> Event:
    opcode, payload = parts[0][0], b"".join(data for _, data in parts)
    if opcode in (PING, PONG):
        return Ping(payload) if opcode == PING else Pong(payload)
    return payload.decode() if opcode == TEXT else payload


@given(st.lists(messages, max_size=8), st.data())
def test_any_frames_cut_anywhere(sent: list[list[tuple[int, bytes]]], data: st.DataObject) -> None:
    stream = b"".join(map(frames_of, sent))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert decode_in_pieces(stream, cuts) == list(map(event_of, sent))


@given(st.integers(0, 400_000), st.lists(st.integers(0, 400_000), max_size=20))
def test_large_message_cut_anywhere(length: int, cuts: list[int]) -> None:
    payload = bytes(index % 251 for index in range(251)) * (length // 251)
    stream = frame(BINARY, payload) + frame(TEXT, b"next")
    events = decode_in_pieces(stream, [min(cut, len(stream)) for cut in cuts])
    assert events == [payload, "next"]


@given(st.binary(max_size=60), st.data())
def test_any_bytes_cut_anywhere(stream: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    whole = decode_in_pieces(stream, [])
    assert [comparable(event) for event in decode_in_pieces(stream, cuts)] == list(map(comparable, whole))


def comparable(event: Event) -> object:
    return (event.error.code, event.error.reason) if isinstance(event, Failure) else event


def test_memory_of_a_large_payload_serves_the_next_one() -> None:
    protocol = Protocol(1 << 24)
    size = 300_000
    head = b"\x82\x7f" + size.to_bytes(8, "big")
    messages = [bytes([number]) * size for number in range(3)]
    received = [event for message in messages for event in protocol.receive_data(head + message)]
    assert received == messages  # each a copy of its own
    assert protocol._spare is not None
    protocol.receive_data(b"\x81\x02hi")
    assert protocol._spare is None  # and is not kept for ever


# ----------------------------------------------------------------------------------- compressed (RFC 7692)


def inflater(response: str = "permessage-deflate") -> Inflater:
    return Deflate().agree(response).inflater()


def inflating(max_message_size: int | None = 16 * MIB, *, assemble: bool = True) -> Protocol:
    return Protocol(max_message_size, inflater=inflater(), assemble=assemble)


by_assembly = pytest.mark.parametrize("assemble", [True, False], ids=["whole", "pieces"])


@by_assembly
@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 300_000, 2 * MIB, 3 * MIB + 1])
@pytest.mark.parametrize("compressible", [True, False])
def test_compressed_message_of_any_length(length: int, compressible: bool, assemble: bool) -> None:
    payload = b"x" * length if compressible else os.urandom(length)
    server, protocol = Server(), inflating(assemble=assemble)
    stream = server.frame(BINARY, payload) + server.frame(TEXT, b"x" * length) + frame(TEXT, b"plain")
    assert assembled(protocol.receive_data(stream)) == [payload, "x" * length, "plain"]


def test_compressed_messages_have_exact_types() -> None:
    server = Server()
    parts = server.fragments(BINARY, b"b" * 100, 2)
    stream = server.frame(TEXT, b"t") + server.frame(BINARY, b"b") + b"".join(parts)
    assert [type(event) for event in inflating().receive_data(stream)] == [str, bytes, bytes]


@by_assembly
def test_compressed_fragments(assemble: bool) -> None:
    server, text = Server(), "grüße \N{SNOWMAN} " * 20
    first, second, third = server.fragments(TEXT, text.encode(), 5, 6)
    stream = first + frame(PING, b"p") + second + frame(CONTINUATION, fin=False) + frame(PONG) + third
    events = inflating(assemble=assemble).receive_data(stream + server.frame(TEXT, b"next"))
    pings = [event for event in events if isinstance(event, Ping | Pong)]
    assert pings == [Ping(b"p"), Pong(b"")]
    assert [event for event in assembled(events) if isinstance(event, str)] == [text, "next"]


def test_context_is_kept_past_messages_that_are_not_compressed() -> None:
    server, data = Server(), os.urandom(300)
    stream = server.frame(BINARY, data) + frame(TEXT, b"plain") + server.frame(BINARY, data)
    assert len(stream) < 400
    assert inflating().receive_data(stream) == [data, "plain", data]


def test_context_is_not_kept_when_that_was_agreed() -> None:
    protocol = Protocol(MIB, inflater=inflater("permessage-deflate; server_no_context_takeover"))
    message = Server().frame(TEXT, b"Hello")
    cut = Server().fragments(TEXT, b"Hello", 1, 2)
    assert protocol.receive_data(message * 2 + b"".join(cut) + message) == ["Hello"] * 4
    server, data = Server(), os.urandom(300)
    events = protocol.receive_data(server.frame(BINARY, data) + server.frame(BINARY, data))
    assert events[0] == data
    assert failure_of(events).code == 1007


def test_a_final_block_is_no_end() -> None:
    finished = zlib.compressobj(9, zlib.DEFLATED, -15)
    final = finished.compress(b"Hello") + finished.flush()
    server = Server()
    parts = [final, final + server.payload(b", world"), final + b"\x00"]
    stream = b"".join(frame(TEXT | RSV1, part) for part in parts)
    expected = ["Hello", "Hello, world", "Hello"]
    for cut in range(len(stream)):
        assert decode_in_pieces(stream, [cut], inflating()) == expected


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        pytest.param(b"\xc9\x00", "reserved bits", id="ping"),
        pytest.param(b"\xca\x00", "reserved bits", id="pong"),
        pytest.param(b"\xc8\x00", "reserved bits", id="close"),
        pytest.param(b"\xe1\x00", "reserved bits", id="with rsv2"),
        pytest.param(b"\xd2\x00", "reserved bits", id="with rsv3"),
        pytest.param(b"\xa1\x00", "reserved bits", id="rsv2 alone"),
        pytest.param(b"\x91\x00", "reserved bits", id="rsv3 alone"),
        pytest.param(b"\xc3\x00", "reserved", id="reserved opcode"),
        pytest.param(b"\xc0\x00", "reserved bits", id="stray continuation"),
        pytest.param(b"\x01\x01x\xc0\x00", "reserved bits", id="continuation of a plain message"),
        pytest.param(b"\x41\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc0\x01\x00", "reserved bits", id="continuation"),
        pytest.param(b"\x41\x01\xf2\xc1\x01\x00", "new message", id="new message in fragments"),
        pytest.param(b"\xc1\x81\0\0\0\0\0", "masked", id="masked"),
        pytest.param(b"\xc1\x7e\x00\x01\x00", "shortest", id="length not in its shortest form"),
    ],
)
@by_assembly
def test_where_rsv1_must_not_be(stream: bytes, reason: str, assemble: bool) -> None:
    server = Server()
    events = inflating(assemble=assemble).receive_data(server.frame(TEXT, b"before") + stream)
    error = failure_of(events)
    assert assembled(events[:1]) == ["before"]
    assert error.code == 1002
    assert reason in error.reason


def test_compressed_message_without_compression() -> None:
    assert failure_of(decode(Server().frame(TEXT, b"x"))).code == 1002


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        pytest.param(b"\x07", 1007, "invalid block type", id="damaged"),
        pytest.param(b"\xf2\x48\xcd", 1007, "ends within a block", id="cut off"),
        pytest.param(b"\x00\x00\x00\xff\xff", 1007, "ends within a block", id="the tail not taken off"),
        pytest.param(Server().payload(b"\xff"), 1007, "UTF-8", id="not UTF-8"),
        pytest.param(Server().payload(b"x" * 400_000 + b"\xed\xa0\x80"), 1007, "UTF-8", id="far behind"),
        pytest.param(Server().payload(b"x\xe2\x98"), 1007, "UTF-8", id="cut off within a character"),
    ],
)
@by_assembly
def test_bad_compressed_text(payload: bytes, code: int, reason: str, assemble: bool) -> None:
    stream = frame(TEXT, b"before") + frame(TEXT | RSV1, payload) + frame(TEXT, b"after")
    ways: list[Sequence[int]] = [[], range(len(stream))]
    for cuts in ways:
        events = decode_in_pieces(stream, cuts, inflating(assemble=assemble))
        error = failure_of(events)
        assert assembled(events)[:-1] == ["before"]
        assert error.code == code
        assert reason in error.reason
        assert len(error.reason.encode()) <= 123, "it has to fit in a close frame"


@by_assembly
def test_text_is_checked_as_it_inflates(assemble: bool) -> None:
    data = os.urandom(20_000).hex().encode() + b"\xff" + os.urandom(20_000).hex().encode()
    stream = Server().frame(TEXT, data)
    protocol = inflating(assemble=assemble)
    events = protocol.receive_data(stream[: len(stream) * 3 // 4])
    assert failure_of(events).code == 1007


def ways_to_send(data: bytes) -> Iterator[bytes]:
    """A compressed message in one frame, and in fragments."""
    size = len(Server().payload(data))
    yield Server().frame(BINARY, data)
    yield b"".join(Server().fragments(BINARY, data, size // 3, size // 2, size // 2))


@by_assembly
@pytest.mark.parametrize("limit", [0, 5, 125, 126, 1000, 65_536, 300_000])
@pytest.mark.parametrize("compressible", [True, False])
def test_max_message_size_is_of_what_is_inflated(limit: int, compressible: bool, assemble: bool) -> None:
    data = b"x" * (limit + 1000) if compressible else os.urandom(limit + 1000)
    for stream in ways_to_send(data[:limit]):
        for cuts in ([], [1], [len(stream) // 2]):
            events = decode_in_pieces(stream, cuts, inflating(limit, assemble=assemble))
            assert assembled(events) == [data[:limit]], "although more may have come over the wire"
    for stream in (*ways_to_send(data[: limit + 1]), *ways_to_send(data)):
        for cuts in ([], [1], [len(stream) // 2]):
            error = failure_of(decode_in_pieces(stream, cuts, inflating(limit, assemble=assemble)))
            assert isinstance(error, MessageTooBig)
            assert error.code == 1009
            assert error.reason == f"message of {limit + 1} bytes or more, max_message_size is {limit}"


@by_assembly
def test_the_limit_is_for_each_message(assemble: bool) -> None:
    server = Server()
    stream = b"".join(
        server.frame(BINARY, b"x" * 1000) + b"".join(server.fragments(BINARY, b"y" * 1000, 3))
        for _ in range(5)
    )
    events = inflating(1000, assemble=assemble).receive_data(stream)
    assert assembled(events) == [b"x" * 1000, b"y" * 1000] * 5


@by_assembly
def test_the_limit_still_holds_on_the_header_of_what_is_not_compressed(assemble: bool) -> None:
    for stream in (header(BINARY, 101), frame(BINARY, b"x" * 60, fin=False) + header(CONTINUATION, 41)):
        error = failure_of(inflating(100, assemble=assemble).receive_data(stream))
        assert isinstance(error, MessageTooBig)


@by_assembly
@pytest.mark.parametrize("limit", [None, 1 << 64])
def test_without_a_limit(limit: int | None, assemble: bool) -> None:
    server, data = Server(), b"x" * (3 * MIB)
    protocol = inflating(limit, assemble=assemble)
    stream = server.frame(TEXT, b"small") + server.frame(BINARY, data) + frame(BINARY, data)
    assert assembled(protocol.receive_data(stream)) == ["small", data, data]
    assert protocol.receive_data(header(BINARY, (1 << 62) - 1)) == []


def bomb_of_a_gibibyte() -> bytes:
    """The payload of a message, 1 MiB of it, of 1 GiB of zeros."""
    context = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = context.compress(bytes(16 * MIB)) + context.flush(zlib.Z_FULL_FLUSH)
    payload = block * 64
    assert len(payload) < 1.1 * MIB
    return payload[:-4]


@by_assembly
@pytest.mark.parametrize("fragments", [1, 100])
def test_a_bomb_costs_no_memory(fragments: int, assemble: bool) -> None:
    payload = bomb_of_a_gibibyte()
    size = -(-len(payload) // fragments)
    parts = [payload[start : start + size] for start in range(0, len(payload), size)]
    stream = [
        frame(CONTINUATION if index else BINARY | RSV1, part, fin=part is parts[-1])
        for index, part in enumerate(parts)
    ]
    protocol = inflating(MIB, assemble=assemble)
    assert peak_memory_of(protocol, stream) < 6 * MIB
    assert protocol.receive_data(frame(PING)) == [], "it has failed"


@pytest.mark.parametrize("cut", [True, False])
def test_many_small_bombs_do_not_pile_up(cut: bool) -> None:
    # Each within the limit, and 200 of them in one read: they would be 200 MiB.
    server = Server()
    bombs = [
        b"".join(server.fragments(BINARY, bytes(MIB), 500)) if cut else server.frame(BINARY, bytes(MIB))
        for _ in range(200)
    ]
    protocol = inflating(MIB)
    protocol.receive_data(frame(PING, b"p" * 125) * 40_000)  # the buffer has grown now
    stream = b"".join(bombs)
    with protocol.get_buffer() as room:
        assert len(room) > len(stream)
        room[: len(stream)] = stream
    tracemalloc.start()
    try:
        received, count = 0, len(stream)
        while True:
            events = protocol.buffer_updated(count)
            assert len(events) <= 1
            received += len(events)
            if not protocol.has_more:
                break
            count = 0
        assert tracemalloc.get_traced_memory()[1] < 6 * MIB
    finally:
        tracemalloc.stop()
    assert received == 200


@by_assembly
def test_what_waits_behind_a_stop_comes_in_order(assemble: bool) -> None:
    server = Server()
    stream = b"".join(
        server.frame(BINARY, bytes([index]) * 700_000) + frame(PING, bytes([index])) + frame(TEXT, b"plain")
        for index in range(10)
    )
    protocol = inflating(assemble=assemble)
    calls, count = [], 0
    for start in range(0, len(stream), 1000):
        data = stream[start : start + 1000]
        with protocol.get_buffer() as room:
            room[: len(data)] = data
        count = len(data)
        while True:
            calls.append(protocol.buffer_updated(count))
            if not protocol.has_more:
                break
            count = 0
    assert len(calls) > 6
    assert assembled(itertools.chain.from_iterable(calls)) == [  # type: ignore[arg-type]
        event for index in range(10) for event in (bytes([index]) * 700_000, Ping(bytes([index])), "plain")
    ]


@by_assembly
def test_a_close_frame_behind_much_ends_it(assemble: bool) -> None:
    server = Server()
    stream = server.frame(BINARY, bytes(2 * MIB)) + frame(CLOSE) + frame(TEXT, b"late")
    protocol = inflating(assemble=assemble)
    assert assembled(protocol.receive_data(stream)) == [bytes(2 * MIB), Close(1005, "")]
    assert not protocol.has_more


# --------------------------------------------------------------------------------- messages piece by piece


def test_a_small_message_is_one_piece() -> None:
    protocol = Protocol(1000, assemble=False)
    stream = frame(TEXT, b"text") + frame(BINARY, b"data") + frame(TEXT)
    assert protocol.receive_data(stream) == [
        Fragment("text", True),
        Fragment(b"data", True),
        Fragment("", True),
    ]


def test_pieces_come_as_they_come() -> None:
    protocol = Protocol(16 * MIB, assemble=False)
    assert protocol.receive_data(header(BINARY, 1_000_000) + b"abc") == [Fragment(b"abc", False)]
    assert protocol.receive_data(b"d") == [Fragment(b"d", False)]
    assert protocol.receive_data(b"") == []
    rest = protocol.receive_data(b"e" * 999_996)
    assert assembled(rest) == [b"e" * 999_996]
    assert protocol.receive_data(frame(TEXT, b"next")) == [Fragment("next", True)]


def test_pieces_of_fragments() -> None:
    stream = (
        frame(TEXT, fin=False)
        + frame(CONTINUATION, b"a", fin=False)
        + frame(PING, b"p")
        + frame(CONTINUATION, fin=False)
        + frame(CONTINUATION, b"b", fin=False)
        + frame(CONTINUATION)
    )
    expected = [Fragment("a", False), Ping(b"p"), Fragment("b", False), Fragment("", True)]
    assert Protocol(100, assemble=False).receive_data(stream) == expected


def test_no_piece_ends_within_a_character() -> None:
    text = "é\N{SNOWMAN}\N{GRINNING FACE}!"
    stream = frame(TEXT, text.encode())
    events = decode_in_pieces(stream, range(len(stream)), Protocol(100, assemble=False))
    assert events == [
        Fragment("é", False),
        Fragment("\N{SNOWMAN}", False),
        Fragment("\N{GRINNING FACE}", False),
        Fragment("!", True),
    ]


def test_a_piece_that_ends_the_message_within_a_character() -> None:
    stream = frame(TEXT, b"a\xe2", fin=False) + frame(CONTINUATION, b"\x98")
    events = Protocol(100, assemble=False).receive_data(stream)
    assert events[:-1] == [Fragment("a", False)]
    assert failure_of(events).code == 1007


def test_nothing_that_has_come_is_kept_inside() -> None:
    payload = Server().payload(bytes(2 * MIB) + os.urandom(100))
    for end in range(1, len(payload), 7):
        protocol = inflating(assemble=False)
        pieces = protocol.receive_data(header(BINARY | RSV1, len(payload)) + payload[:end])
        assert {type(piece) for piece in pieces} <= {Fragment}
        received = b"".join(piece.data for piece in pieces)  # type: ignore[union-attr,misc]
        assert received == zlib.decompressobj(-15).decompress(payload[:end])


def test_pieces_of_what_turns_out_too_big() -> None:
    data = bytes(100_000)
    events = inflating(70_000, assemble=False).receive_data(Server().frame(BINARY, data))
    assert events[:-1] == [Fragment(data[:65_536], False)]
    assert isinstance(failure_of(events), MessageTooBig)


def peak_memory_of_reading(protocol: Protocol, stream: Sequence[bytes]) -> int:
    """As ``peak_memory_of``, for a reader that keeps nothing of what it is handed."""
    tracemalloc.start()
    try:
        for data in stream:
            with protocol.get_buffer() as room:
                room[: len(data)] = data
            protocol.buffer_updated(len(data))
            while protocol.has_more:
                protocol.buffer_updated(0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_pieces_are_not_held(opcode: int) -> None:
    protocol = Protocol(None, assemble=False)
    protocol.receive_data(frame(PING, b"p" * 125) * 40_000)  # the buffer has grown now
    stream = [header(opcode, 40 * MIB), *[b"x" * 65_536] * (40 * MIB // 65_536)]
    assert peak_memory_of_reading(protocol, stream) < MIB


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_pieces_that_inflate_are_not_held(opcode: int) -> None:
    protocol = inflating(1 << 40, assemble=False)
    payload = bomb_of_a_gibibyte()[:100_000]  # a hundred MiB
    stream = header(opcode | RSV1, MIB) + payload
    reads = [stream[start : start + 500] for start in range(0, len(stream), 500)]
    assert peak_memory_of_reading(protocol, reads) < 3 * MIB


# ------------------------------------------------------------------------- compressed, and cut into pieces


def test_every_single_cut_of_what_is_compressed() -> None:
    server = Server()
    stream = (
        server.frame(TEXT, "größe".encode())
        + server.frame(BINARY, b"x" * 130)
        + frame(PING, b"p").join(server.fragments(TEXT, "größe".encode() * 3, 6))
        + frame(TEXT, b"plain")
        + server.frame(BINARY, b"")
        + frame(CLOSE, b"\x03\xe8bye")
    )
    expected = ["größe", b"x" * 130, Ping(b"p"), "größe" * 3, "plain", b"", Close(1000, "bye")]
    for cut in range(len(stream) + 1):
        assert decode_in_pieces(stream, [cut], inflating()) == expected
    assert decode_in_pieces(stream, range(len(stream)), inflating()) == expected
    for cut in range(len(stream) + 1):
        events = decode_in_pieces(stream, [cut], inflating(assemble=False))
        assert sorted(map(repr, assembled(events))) == sorted(map(repr, expected))


@st.composite
def compressed_streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """What a good server sends, some of it compressed, and what it means."""
    server, stream = Server(level=draw(st.integers(0, 9))), b""
    expected: list[Event] = []
    for _ in range(draw(st.integers(0, 6))):
        text = draw(st.text(max_size=40)) * draw(st.sampled_from([1, 1, 1, 50]))
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        if draw(st.booleans()):
            stream += frame(opcode, text.encode())
        else:
            cuts = draw(st.lists(st.integers(0, 40), max_size=3))
            for part in server.fragments(opcode, text.encode(), *cuts):
                stream += part
        expected.append(text if opcode == TEXT else text.encode())
    return stream, expected


@by_assembly
@given(sent=compressed_streams(), data=st.data())
def test_any_compressed_messages_cut_anywhere(
    sent: tuple[bytes, list[Event]], data: st.DataObject, assemble: bool
) -> None:
    stream, expected = sent
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert assembled(decode_in_pieces(stream, cuts, inflating(assemble=assemble))) == expected


@by_assembly
@given(stream=st.binary(max_size=60), damage=st.booleans(), data=st.data())
def test_any_compressed_bytes_cut_anywhere(
    stream: bytes, damage: bool, data: st.DataObject, assemble: bool
) -> None:
    if damage:  # bytes at random are seldom compressed messages
        stream = frame(data.draw(st.sampled_from([TEXT, BINARY])) | RSV1, stream) + stream
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    uncut = assembled(decode_in_pieces(stream, [], inflating(100, assemble=assemble)))
    pieces = assembled(decode_in_pieces(stream, cuts, inflating(100, assemble=assemble)))
    assert list(map(kind_of, pieces)) == list(map(kind_of, uncut))
