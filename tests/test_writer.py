"""The writer's loop, once through, into memory: what goes out, what is handed back, when it gives up."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.exceptions import ConnectionClosed
from wsclient.frames import Frame, Opcode
from wsclient.items import Entry, Item, is_message
from wsclient.keepalive import Keepalive
from wsclient.send_queue import SendQueue
from wsclient.writer import DeadlinePassed, PeerStalled, Writer

CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8")
PAST = -math.inf


def refuse() -> NoReturn:
    raise ConnectionClosed(1006)


def unmask(data: bytes) -> list[tuple[int, bytes]]:
    """The frames of a client (RFC 6455, section 5.2): opcode and payload."""
    frames = []
    while data:
        assert data[0] & 0x80, "every frame here is final"
        assert data[1] & 0x80, "a client masks"
        length, start = data[1] & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        key, start = data[start : start + 4], start + 4
        payload = bytes(byte ^ key[index % 4] for index, byte in enumerate(data[start : start + length]))
        frames.append((data[0] & 0x0F, payload))
        data = data[start + length :]
    return frames


Take = int | BaseException | Callable[[], None]


class Memory:
    """A transport that keeps what is written. A script may say what each write does: take at most so many
    bytes, raise, or first do something else; after the script it takes everything."""

    def __init__(self, script: Sequence[Take] = ()) -> None:
        self.script = list(script)
        self.data = bytearray()
        self.timeouts: list[float | None] = []
        self.owner = 0

    def own_writes(self) -> None:
        self.owner = threading.get_ident()

    def send(self, data: memoryview, timeout: float | None) -> int:
        assert data, "there is nothing to write"
        self.timeouts.append(timeout)
        step = self.script.pop(0) if self.script else len(data)
        if isinstance(step, BaseException):
            raise step
        if not isinstance(step, int):
            step()
            return self.send(data, timeout)
        self.data += data[:step]
        return min(step, len(data))


class Desk:
    """A writer with a real queue and a real keepalive, and nobody else."""

    def __init__(
        self,
        *script: Take,
        write_timeout: float | None = 10.0,
        interval: float | None = None,
        ping_timeout: float | None = None,
        max_batch: int = 1 << 18,
    ) -> None:
        self.queue = SendQueue(1000, 1 << 24, refuse=refuse, max_batch=max_batch)
        self.sink = Memory(script)
        self.keepalive = Keepalive(interval, ping_timeout)
        self.end_by = math.inf
        self.silent = True
        self.events: list[str | BaseException] = []
        self.writer = Writer(
            self.queue,
            self.sink,
            self.keepalive,
            write_timeout=write_timeout,
            end_by=lambda: self.end_by,
            peer_silent=lambda: self.silent,
            on_final=lambda: self.events.append("final"),
            on_failure=self.events.append,
        )

    def sent(self) -> list[tuple[int, bytes]]:
        return unmask(bytes(self.sink.data))

    def receipt(self, message: str | bytes) -> Future[None]:
        future: Future[None] = Future()
        self.queue.put_slowly(Entry(message, message=message, future=future), True, 0)
        return future

    def mark(self) -> Future[None]:
        future: Future[None] = Future()
        self.queue.put_mark(Entry(None, future=future))
        return future


# ---------------------------------------------------------------------------------------------- what goes out


def test_a_batch_is_one_write() -> None:
    desk = Desk()
    for item in ("text", b"bytes", Frame(Opcode.TEXT, "ü".encode())):
        desk.queue.put(item)
    assert desk.writer.write_once()
    assert desk.sent() == [(1, b"text"), (2, b"bytes"), (1, "ü".encode())]
    counters = desk.writer.counters
    assert (counters.writes, counters.frames_sent, counters.messages_sent) == (1, 3, 3)
    assert counters.bytes_sent == len(desk.sink.data)
    assert counters.max_frames_per_write == 3
    assert desk.writer.unsent() == []


def test_the_largest_batch_is_remembered() -> None:
    desk = Desk()
    for count in (1, 3, 2):
        for _ in range(count):
            desk.queue.put("x")
        desk.writer.write_once()
    assert desk.writer.counters.max_frames_per_write == 3


def test_a_batch_in_pieces() -> None:
    desk = Desk(1, 0, 5, 1)
    desk.queue.put("hello")
    desk.queue.put("world")
    desk.writer.write_once()
    assert desk.sent() == [(1, b"hello"), (1, b"world")]
    assert desk.writer.counters.writes == 5
    assert desk.sink.timeouts[0] == 0, "the first write does not wait, and needs no clock"
    assert all(timeout is not None and 0 < timeout <= 10 for timeout in desk.sink.timeouts[1:])


def test_control_frames_go_first_and_messages_wait_for_one_batch_at_most() -> None:
    desk = Desk(max_batch=1000)
    desk.keepalive.start(0)
    for _ in range(20):
        desk.queue.put(b"x" * 500)
    desk.writer.write_once()
    before = len(desk.sent())
    desk.queue.control.put_pong(Frame(Opcode.PONG, b"1"))
    desk.queue.control.put_ping(desk.keepalive.ping(b"2")[0])
    desk.writer.write_once()
    desk.writer.write_once()
    opcodes = [opcode for opcode, _ in desk.sent()[before:]]
    assert opcodes[:3] == [10, 9, 2]
    assert before < 20
    assert desk.keepalive.pings_sent == 1


def test_control_frames_are_no_messages() -> None:
    desk = Desk()
    desk.queue.control.put_pong(Frame(Opcode.PONG, b"1"))
    desk.queue.control.put_ping(desk.keepalive.ping(b"2")[0])
    desk.writer.write_once()
    desk.receipt("message")
    desk.queue.put_mark(desk.keepalive.ping(b"3")[0])
    desk.mark()
    desk.writer.write_once()
    desk.queue.close(CLOSE)
    desk.writer.write_once()
    counters = desk.writer.counters
    assert [opcode for opcode, _ in desk.sent()] == [10, 9, 1, 9, 8]
    assert (counters.frames_sent, counters.messages_sent) == (5, 1)


def test_a_mark_alone_writes_nothing() -> None:
    desk = Desk()
    future = desk.mark()
    desk.writer.write_once()
    assert future.done()
    assert desk.sink.timeouts == []
    assert desk.writer.counters.frames_sent == 0


def test_receipts_and_marks_are_resolved_once_written() -> None:
    done_at_write: list[bool] = []
    desk = Desk(lambda: done_at_write.extend(future.done() for future in futures))
    futures = [desk.mark(), desk.receipt("a"), desk.mark(), desk.receipt(b"b")]
    desk.writer.write_once()
    assert done_at_write == [False] * 4
    assert [future.result(0) for future in futures] == [None] * 4


def test_a_pings_time_is_set_before_its_pong_can_come() -> None:
    """The peer may be quicker than the writer thread is in coming back from the write."""
    desk = Desk(lambda: desk.keepalive.acknowledge(b"x", monotonic()))
    entry, trip = desk.keepalive.ping(b"x")
    desk.queue.control.put_ping(entry)
    desk.writer.write_once()
    assert trip.done()
    assert 0 <= trip.result(0) < math.inf


def test_a_cancelled_future_harms_nobody() -> None:
    desk = Desk()
    first, second = desk.mark(), desk.mark()
    first.cancel()
    desk.writer.write_once()
    assert second.done()


def test_a_callback_that_exits_keeps_no_future_waiting() -> None:
    desk = Desk()
    first, second = desk.receipt("a"), desk.receipt("b")

    def leave(_: Future[None]) -> None:
        raise SystemExit

    first.add_done_callback(leave)
    assert desk.writer.write_once()
    assert second.done()


def test_a_future_callback_may_send() -> None:
    desk = Desk()
    desk.queue.own_reads()
    desk.receipt("a").add_done_callback(lambda _: desk.queue.put("b"))
    desk.writer.write_once()
    desk.writer.write_once()
    assert desk.sent() == [(1, b"a"), (1, b"b")]


# ---------------------------------------------------------------------------------------------------- the end


def test_closing_drains_then_says_so_once() -> None:
    desk = Desk()
    desk.queue.put("accepted")
    desk.queue.close(CLOSE)
    desk.writer.write_once()
    assert desk.events == []
    desk.writer.write_once()
    assert desk.events == ["final"]
    desk.queue.control.put_pong(Frame(Opcode.PONG, b""))
    desk.queue.end()
    while desk.writer.write_once():
        pass
    assert desk.sent() == [(1, b"accepted"), (8, CLOSE.payload)]
    assert desk.events == ["final"]
    assert desk.writer.counters.messages_sent == 1


def test_no_ping_is_due_and_no_verdict_comes_after_the_close_frame() -> None:
    """The closing handshake has a deadline of its own; the peer need not answer pings any more."""
    desk = Desk(interval=1, ping_timeout=1)
    desk.keepalive.start(monotonic())
    desk.queue.close(CLOSE)
    desk.writer.write_once()
    assert desk.keepalive.deadline == math.inf
    desk.queue.end()
    desk.writer.write_once()
    assert [opcode for opcode, _ in desk.sent()] == [8]


def test_it_ends_when_there_is_nothing_left_and_will_not_be() -> None:
    desk = Desk()
    desk.queue.end()
    assert not desk.writer.write_once()
    desk.writer.run()
    assert desk.events == []
    assert desk.sink.owner == threading.get_ident()


def test_it_waits_until_there_is_something() -> None:
    desk = Desk()
    thread = threading.Thread(target=desk.writer.run)
    thread.start()
    try:
        future = desk.receipt("hello")
        assert future.result(10) is None
    finally:
        desk.queue.end()
        thread.join(10)
    assert not thread.is_alive()
    assert desk.sent() == [(1, b"hello")]
    assert desk.events == []


def test_a_failure_is_told_once_and_ends_the_loop() -> None:
    error = ConnectionResetError("gone")
    desk = Desk(error)
    desk.queue.put("a")
    desk.queue.put("b")
    desk.writer.run()
    assert desk.events == [error]
    assert desk.writer.unsent() == ["a", "b"]


# -------------------------------------------------------------------------------------------- after a failure


def wire_size(item: Item) -> int:
    outgoing = item.outgoing if isinstance(item, Entry) else item
    if outgoing is None:
        return 0
    length = len(outgoing.encode()) if isinstance(outgoing, str) else len(outgoing)
    return length + (6 if length < 126 else 8 if length < 65_536 else 14)


def unsent_of(items: Sequence[Item], offset: int) -> list[Item]:
    """What is not wholly in the first ``offset`` bytes, and everything behind it."""
    for position, item in enumerate(items):
        offset -= wire_size(item)
        if offset < 0:
            return list(items[position:])
    return []


def fail_after(items: Sequence[Item], pieces: Sequence[int], offset: int) -> Desk:
    """Write one batch of ``items``; the transport takes ``pieces``, up to ``offset`` bytes, then breaks."""
    script: list[Take] = []
    for piece in pieces:
        script.append(min(piece, offset))
        offset -= min(piece, offset)
    desk = Desk(*script, *([offset] if offset else []), ConnectionResetError("gone"), max_batch=1 << 30)
    for item in items:
        if not isinstance(item, Entry):
            desk.queue.put(item)
        elif item.message is None:
            desk.queue.put_mark(item)
        else:
            desk.queue.put_slowly(item, True, 0)
    with pytest.raises(ConnectionResetError):
        desk.writer.write_once()
    return desk


def test_unsent_is_the_tail_at_every_offset() -> None:
    items: list[Item] = ["", "a", b"bc", Frame(Opcode.TEXT, "ü".encode()), "x" * 200, b"end"]
    total = sum(map(wire_size, items))
    for offset in range(total):
        desk = fail_after(items, [], offset)
        assert desk.writer.unsent() == unsent_of(items, offset), offset
        counters = desk.writer.counters
        done = len(items) - len(desk.writer.unsent())
        assert (counters.messages_sent, counters.frames_sent, counters.bytes_sent) == (done, done, offset)


PAYLOADS = st.one_of(st.text("abc", max_size=20), st.binary(max_size=300), st.just(b"x" * 66_000))


def entry_of(kind: str, message: str | bytes) -> Entry:
    future: Future[None] = Future()
    if kind == "receipt":
        return Entry(message, message=message, future=future)
    return Entry(None if kind == "mark" else Frame(Opcode.PING, b"p"), future=future)


ENTRIES = st.builds(entry_of, st.sampled_from(["receipt", "mark", "ping"]), PAYLOADS)


@given(
    st.lists(PAYLOADS | ENTRIES, min_size=1, max_size=12),
    st.lists(st.integers(0, 400), max_size=5),
    st.integers(0, 1_000_000),
)
def test_what_a_failure_leaves(items: list[Item], pieces: list[int], part: int) -> None:
    total = sum(map(wire_size, items))
    if not total:
        return  # only marks: there is no write that could fail
    offset = part % total
    desk = fail_after(items, pieces, offset)
    remaining = unsent_of(items, offset)
    assert desk.writer.unsent() == remaining
    assert desk.writer.unsent() == remaining, "asking changes nothing"
    done = items[: len(items) - len(remaining)]
    assert desk.writer.counters.messages_sent == sum(map(is_message, done))
    # What is written is written: nobody waits in vain for what went out before the failure.
    assert all(item.future is not None and item.future.done() for item in done if isinstance(item, Entry))
    assert not any(
        item.future is not None and item.future.done() for item in remaining if isinstance(item, Entry)
    )


def test_a_batch_that_cannot_be_encoded_is_unsent() -> None:
    desk = Desk()
    desk.queue.put("good")
    desk.queue.put("\ud800")  # to_item() lets none through
    with pytest.raises(UnicodeEncodeError):
        desk.writer.write_once()
    assert desk.writer.unsent() == ["good", "\ud800"]
    assert desk.sink.data == b""


def test_a_pong_that_failed_is_no_unsent_message() -> None:
    desk = Desk(ConnectionResetError())
    desk.queue.control.put_pong(Frame(Opcode.PONG, b"pong"))
    with pytest.raises(ConnectionResetError):
        desk.writer.write_once()
    assert [item for item in desk.writer.unsent() if is_message(item)] == []
    assert desk.writer.counters.messages_sent == 0


# -------------------------------------------------------------------------------------------------- deadlines


def test_a_write_without_progress() -> None:
    desk = Desk(*[TimeoutError() for _ in range(10_000)], write_timeout=1e-9)
    desk.queue.put("stuck")
    with pytest.raises(PeerStalled, match="write timeout"):
        desk.writer.write_once()
    assert desk.writer.unsent() == ["stuck"]


def test_a_write_without_a_limit_waits() -> None:
    desk = Desk(TimeoutError(), TimeoutError(), 3, TimeoutError(), write_timeout=None)
    desk.queue.put("hello")
    desk.writer.write_once()
    assert desk.sent() == [(1, b"hello")]
    assert desk.sink.timeouts == [0, None, None, None, None]


def test_progress_starts_the_write_timeout_anew() -> None:
    desk = Desk(TimeoutError(), *[1] * 10, TimeoutError())
    desk.queue.put("hello")
    desk.writer.write_once()
    assert desk.sent() == [(1, b"hello")]
    assert all(timeout is not None and 9 < timeout <= 10 for timeout in desk.sink.timeouts[1:12])


def test_a_stuck_write_ends_with_the_close() -> None:
    desk = Desk(TimeoutError(), lambda: setattr(desk, "end_by", PAST), TimeoutError())
    desk.queue.put("stuck")
    with pytest.raises(DeadlinePassed, match="not closed in time"):
        desk.writer.write_once()
    assert desk.writer.unsent() == ["stuck"]


def test_nothing_is_taken_once_the_deadline_has_passed() -> None:
    desk = Desk()
    desk.queue.put("kept")
    desk.end_by = PAST
    with pytest.raises(DeadlinePassed):
        desk.writer.write_once()
    desk.queue.cut()
    assert desk.queue.leftover() == ["kept"]


def test_a_deadline_ends_the_wait() -> None:
    desk = Desk()
    desk.end_by = monotonic() + 0.01
    desk.writer.run()
    (error,) = desk.events
    assert isinstance(error, DeadlinePassed)


def test_a_wait_ends_when_a_ping_is_due() -> None:
    desk = Desk(interval=0.01)
    desk.keepalive.start(monotonic())
    while not desk.sink.data:
        assert desk.writer.write_once()
    assert [opcode for opcode, _ in desk.sent()] == [9]


def test_a_due_ping_goes_ahead_of_messages() -> None:
    desk = Desk(interval=100, ping_timeout=100)
    desk.keepalive.start(monotonic() - 100)
    desk.queue.put("message")
    desk.writer.write_once()
    desk.writer.write_once()
    assert [opcode for opcode, _ in desk.sent()] == [9, 1]


def late_for_a_pong(desk: Desk) -> None:
    """Long ago, a ping was due and written; there was no pong."""
    desk.keepalive.start(monotonic() - 10_000)
    entry = desk.keepalive.due(monotonic() - 500)
    assert entry is not None
    assert entry.on_writing is not None
    entry.on_writing(monotonic() - 500)
    desk.keepalive.progressed(monotonic() - 500, whole=True)


@pytest.mark.parametrize("stuck", [True, False])
def test_a_peer_that_answers_no_ping_is_dead(stuck: bool) -> None:
    script: list[Take] = [TimeoutError(), lambda: late_for_a_pong(desk), TimeoutError()]
    desk = Desk(*(script if stuck else []), interval=400, ping_timeout=100)
    if not stuck:
        late_for_a_pong(desk)
    desk.queue.put("message")
    with pytest.raises(PeerStalled, match="ping timeout"):
        desk.writer.write_once()


def test_no_verdict_while_the_reader_is_busy() -> None:
    desk = Desk(interval=600, ping_timeout=100)
    late_for_a_pong(desk)
    desk.silent = False
    desk.queue.put("message")
    desk.writer.write_once()
    assert desk.sent() == [(1, b"message")]
    assert not desk.keepalive.expired(monotonic()), "put off"
    assert desk.keepalive.expired(monotonic() + 1), "for a second"


def test_a_slow_write_puts_the_verdict_off() -> None:
    """The ping waits behind a batch that the peer takes slowly, but takes."""
    desk = Desk(
        TimeoutError(),
        lambda: desk.keepalive.start(monotonic() - 1000),
        TimeoutError(),  # here the ping becomes due, and waits in the control lane
        1,
        write_timeout=1000,
        interval=600,
        ping_timeout=100,
    )
    desk.queue.put("slow")
    assert desk.writer.write_once()
    assert not desk.keepalive.expired(monotonic() + 99)
    assert desk.keepalive.expired(monotonic() + 101)
    desk.writer.write_once()
    assert [opcode for opcode, _ in desk.sent()] == [1, 9]
