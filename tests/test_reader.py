"""The reader's loop, once through: bytes in, messages and control events out, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from deflating import Server, server_frame
from hypothesis import given
from hypothesis import strategies as st

from wsclient.deflate import Deflate
from wsclient.protocol import Close, Event, Failure, Fragment, Ping, Pong, Protocol
from wsclient.reader import Reader

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


frame = server_frame


class Stream:
    """What the peer sends, in pieces; then the end of the stream, or an error."""

    def __init__(self, pieces: Sequence[bytes], error: OSError | None = None) -> None:
        self.pieces = list(pieces)
        self.error = error
        self.reader: Reader | None = None
        self.waiting: list[bool] = []

    def recv_into(self, buffer: memoryview) -> int:
        assert self.reader is not None
        self.waiting.append(self.reader.waiting)
        if not self.pieces:
            if self.error is not None:
                raise self.error
            return 0
        piece = self.pieces.pop(0)
        if len(piece) > len(buffer):
            self.pieces.insert(0, piece[len(buffer) :])
            piece = piece[: len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


class Log:
    """What was handed over, in order: a list for each delivery, an event for each control."""

    def __init__(self) -> None:
        self.seen: list[list[Any] | Event] = []

    def messages(self) -> list[str | bytes]:
        return [message for batch in self.seen if isinstance(batch, list) for message in batch]


def reading(
    *pieces: bytes, error: OSError | None = None, protocol: Protocol | None = None
) -> tuple[Reader, Log, Stream]:
    log, stream = Log(), Stream(pieces, error)
    protocol = protocol or Protocol(1 << 20)
    reader = Reader(stream, protocol, deliver=log.seen.append, control=log.seen.append)
    stream.reader = reader
    return reader, log, stream


def test_messages_of_one_read_are_handed_over_together() -> None:
    data = frame(TEXT, b"a") + frame(BINARY, b"b") + frame(TEXT, b"c")
    reader, log, _ = reading(data)
    assert reader.read_once()
    assert log.seen == [["a", b"b", "c"]]
    assert reader.counters.messages_received == 3
    assert reader.counters.bytes_received == len(data)


def test_half_a_frame_is_handed_over_to_nobody() -> None:
    reader, log, _ = reading(frame(TEXT, b"hello")[:4], frame(TEXT, b"hello")[4:])
    assert reader.read_once()
    assert log.seen == []
    assert reader.read_once()
    assert log.seen == [["hello"]]


def test_control_events_keep_their_place() -> None:
    reader, log, _ = reading(
        frame(PING, b"1")
        + frame(TEXT, b"a")
        + frame(TEXT, b"b")
        + frame(PONG, b"2")
        + frame(PING, b"3")
        + frame(TEXT, b"c")
        + frame(CLOSE, b"\x03\xe8")
    )
    reader.run()
    assert log.seen == [Ping(b"1"), ["a", "b"], Pong(b"2"), Ping(b"3"), ["c"], Close(1000, "")]
    assert reader.counters.messages_received == 3


def test_a_message_after_the_last_control_event() -> None:
    reader, log, _ = reading(frame(PING, b"") + frame(TEXT, b"a"))
    reader.run()
    assert log.seen == [Ping(b""), ["a"]]


def test_nothing_is_handed_over_after_the_close_frame() -> None:
    reader, log, _ = reading(frame(CLOSE, b"") + frame(TEXT, b"late"), frame(TEXT, b"later"))
    reader.run()
    assert log.seen == [Close(1005, "")]


def test_what_came_before_a_broken_frame_is_handed_over() -> None:
    reader, log, _ = reading(frame(TEXT, b"good") + b"\xf1\x00")
    reader.run()
    assert log.seen[0] == ["good"]
    assert isinstance(log.seen[1], Failure)
    assert len(log.seen) == 2


def test_the_end_of_the_stream_ends_the_loop() -> None:
    reader, log, _ = reading()
    assert not reader.read_once()
    assert not reader.waiting
    assert log.seen == []


def test_a_broken_stream_raises_after_what_came_before() -> None:
    reader, log, _ = reading(frame(TEXT, b"a"), error=ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError, match="gone"):
        reader.run()
    assert log.seen == [["a"]]


def test_it_waits_only_while_it_reads() -> None:
    waiting: list[bool] = []
    stream = Stream([frame(TEXT, b"a"), frame(PING, b"")])
    reader = Reader(
        stream,
        Protocol(100),
        deliver=lambda messages: waiting.append(reader.waiting),
        control=lambda event: waiting.append(reader.waiting),
    )
    stream.reader = reader
    reader.run()
    assert waiting == [False, False], "the writer must not take a busy reader for a silent peer"
    assert stream.waiting == [True, True, True]


def test_pieces_are_handed_over_as_messages_are() -> None:
    reader, log, _ = reading(
        frame(TEXT, b"a", fin=False) + frame(PING, b"1") + frame(CONTINUATION, b"b", fin=False),
        frame(CONTINUATION, b"c") + frame(BINARY, b"d"),
        protocol=Protocol(100, assemble=False),
    )
    assert reader.read_once()
    assert log.seen == [[Fragment("a", False)], Ping(b"1"), [Fragment("b", False)]]
    assert reader.counters.messages_received == 0, "no message is complete"
    assert reader.read_once()
    assert log.seen[3:] == [[Fragment("c", True), Fragment(b"d", True)]]
    assert reader.counters.messages_received == 2


def test_much_that_is_inflated_is_handed_over_before_more_is() -> None:
    server = Server()
    bombs = b"".join(server.frame(BINARY, bytes(300_000)) for _ in range(20))
    inflater = Deflate().agree("permessage-deflate").inflater()
    reader, log, stream = reading(
        frame(PING, b"p" * 125) * 500,  # the buffer has grown after that
        bombs + frame(PING, b"last"),
        protocol=Protocol(1 << 20, inflater=inflater),
    )
    while len(stream.pieces) > 1:
        assert reader.read_once()
    reads = len(stream.waiting)
    for count in range(4, 21, 4):
        assert reader.read_once()
        assert reader.counters.messages_received == count, (
            "1 MiB at a time, and not a byte is read in between"
        )
        assert len(stream.waiting) == reads + 1
    assert reader.read_once()
    assert len(stream.waiting) == reads + 1
    assert log.messages() == [bytes(300_000)] * 20
    assert log.seen[-1] == Ping(b"last")
    assert not reader.read_once()


@given(
    st.lists(st.one_of(st.text(max_size=30), st.binary(max_size=100)), max_size=30),
    st.lists(st.integers(1, 50), max_size=50),
)
def test_however_the_stream_is_cut(messages: list[str | bytes], sizes: list[int]) -> None:
    data = b"".join(
        frame(TEXT, item.encode()) if isinstance(item, str) else frame(BINARY, item) for item in messages
    )
    pieces: list[bytes] = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    reader, log, _ = reading(*(piece for piece in [*pieces, data] if piece))
    reader.run()
    assert log.messages() == messages
    assert reader.counters.messages_received == len(messages)
