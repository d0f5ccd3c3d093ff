"""What the application gives becomes items of the queue: messages, receipts, marks, pings."""

from __future__ import annotations

import array
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

import pytest

from wsclient.exceptions import ConnectionClosed, QueueFull, SendTimeout, Timeout, WSClientError
from wsclient.frames import Frame, Opcode
from wsclient.items import Entry, Item, is_message, message_of
from wsclient.keepalive import Keepalive, resolve_future
from wsclient.lifecycle import Lifecycle
from wsclient.options import Overflow
from wsclient.outbox import Outbox, to_item, to_ping_payload
from wsclient.send_queue import SendQueue

BOUND = 10.0  # seconds that nothing here needs
CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8")


class Desk:
    """An outbox with the real things around it."""

    def __init__(self, overflow: Overflow = Overflow.BLOCK, max_messages: int = 3) -> None:
        self.lifecycle = Lifecycle()
        self.lifecycle.begin()
        self.lifecycle.open()
        self.keepalive = Keepalive(None, None)
        self.queue = SendQueue(max_messages, 1 << 20, refuse=self.refuse, overflow=overflow)
        self.dropped: list[str | bytes] = []
        self.outbox = Outbox(
            self.queue, self.keepalive, self.lifecycle, overflow=overflow, on_dropped=self.dropped.append
        )

    def refuse(self) -> NoReturn:
        raise self.lifecycle.error()

    def close(self) -> None:
        self.lifecycle.request_close(1000, "", 0.0)
        self.queue.close(CLOSE)

    def waiting(self) -> list[Item]:
        return list(self.queue.queue)

    def take(self) -> list[Item]:
        batch = self.queue.take()
        return [] if batch is None else batch.items


@pytest.fixture
def desk() -> Desk:
    return Desk()


# ------------------------------------------------------------------------------------------------ messages


class Text(str):
    """A text that is not exactly one."""


class Bytes(bytes):
    """Neither is this."""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("ascii", "ascii"),
        ("", ""),
        (Text("sub"), "sub"),
        ("ü", Frame(Opcode.TEXT, "ü".encode())),
        (Text("\N{GRINNING FACE}"), Frame(Opcode.TEXT, "\N{GRINNING FACE}".encode())),
        (b"bytes", b"bytes"),
        (b"", b""),
        (Bytes(b"sub"), b"sub"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (array.array("H", [258]), array.array("H", [258]).tobytes()),
    ],
)
def test_items(data: object, expected: object) -> None:
    item = to_item(data)
    assert item == expected
    assert type(item) is type(expected)


def test_an_item_does_not_change_any_more() -> None:
    data = bytearray(b"before")
    item = to_item(data)
    data[:] = b"after!"
    assert item == b"before"


@pytest.mark.parametrize(
    ("data", "hint"),
    [({"a": 1}, True), ([1], True), ((1,), True), (1, True), (1.5, True), (None, False), (object(), False)],
)
def test_what_is_no_message(data: object, hint: bool) -> None:
    with pytest.raises(TypeError, match=f"str or bytes-like, not {type(data).__name__}") as raised:
        to_item(data)
    assert ("send_json" in str(raised.value)) == hint


def test_text_that_utf8_cannot_express() -> None:
    with pytest.raises(UnicodeEncodeError):
        to_item("\ud800")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("text", "text"),
        (b"binary", b"binary"),
        (Frame(Opcode.TEXT, "ü".encode()), "ü"),
        (Frame(Opcode.BINARY, b"b"), b"b"),
        (Frame(Opcode.PONG, b"p"), None),
        (Frame(Opcode.PING, b"p"), None),
        (CLOSE, None),
        (Entry("text", message="text"), "text"),
        (Entry("", message=""), ""),
        (Entry(None), None),
        (Entry(Frame(Opcode.PING, b"")), None),
    ],
)
def test_only_messages_are_handed_back(item: Item, message: str | bytes | None) -> None:
    assert message_of(item) == message
    assert is_message(item) == (message is not None)


def test_put_is_the_queues_own(desk: Desk) -> None:
    assert desk.outbox.put == desk.queue.put


def test_put_when_dropping_gives_the_oldest_away() -> None:
    desk = Desk(Overflow.DROP_OLDEST)
    receipt = desk.outbox.put_with_receipt("0", BOUND)
    for item in ("1", Frame(Opcode.TEXT, "ü".encode()), "3", b"4", "5"):
        desk.outbox.put(item, True, BOUND)
    assert desk.dropped == ["0", "1", "ü"]
    assert isinstance(receipt.exception(0), QueueFull)
    assert desk.queue.admission.dropped == 3
    assert desk.take() == ["3", b"4", "5"]


def test_put_when_dropping_ends_with_the_connection() -> None:
    desk = Desk(Overflow.DROP_OLDEST)
    desk.outbox.put("accepted", True, BOUND)
    desk.close()
    with pytest.raises(ConnectionClosed):
        desk.outbox.put("refused", True, BOUND)
    assert desk.dropped == []
    assert desk.take() == ["accepted"]


# ------------------------------------------------------------------------------------------------ receipts


@pytest.mark.parametrize("overflow", list(Overflow))
@pytest.mark.parametrize("item", ["text", b"bytes", Frame(Opcode.TEXT, "ü".encode())])
def test_a_receipt_travels_with_its_message(overflow: Overflow, item: str | bytes | Frame) -> None:
    desk = Desk(overflow)
    future = desk.outbox.put_with_receipt(item, BOUND)
    (entry,) = desk.take()
    assert isinstance(entry, Entry)
    assert (entry.outgoing, entry.message, entry.future) == (item, message_of(item), future)
    assert not future.cancel(), "what was accepted cannot be cancelled"


def test_no_receipt_without_room(desk: Desk) -> None:
    for _ in range(3):
        desk.outbox.put_with_receipt("x", BOUND)
    with pytest.raises(SendTimeout):
        desk.outbox.put_with_receipt("x", 0)
    assert len(desk.waiting()) == 3


# --------------------------------------------------------------------------------------------------- marks


def test_flush_waits_for_its_mark(desk: Desk) -> None:
    desk.outbox.put("first", True, BOUND)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(desk.outbox.flush, BOUND)
        entry = next(item for item in taken_until_a_mark(desk) if isinstance(item, Entry))
        assert not done.done()
        assert entry.outgoing is None
        assert entry.future is not None
        resolve_future(entry.future, None)
        done.result(BOUND)


def taken_until_a_mark(desk: Desk) -> list[Item]:
    """As the writer: sleeps until there is something, takes it; until an entry has come."""
    items: list[Item] = []
    while not any(isinstance(item, Entry) for item in items):
        desk.queue.wait(BOUND)
        items += desk.take()
    return items


def test_flush_has_a_bound(desk: Desk) -> None:
    with pytest.raises(Timeout, match="flush was not done within 0 s"):
        desk.outbox.flush(0)


def test_a_full_queue_does_not_keep_a_mark_out(desk: Desk) -> None:
    for _ in range(3):
        desk.outbox.put("x", True, BOUND)
    with pytest.raises(Timeout):
        desk.outbox.flush(0)
    items = desk.take()
    assert items[:3] == ["x"] * 3
    assert isinstance(items[3], Entry)


def test_confirm_is_the_round_trip_of_a_ping_behind_all_that(desk: Desk) -> None:
    desk.outbox.put("first", True, BOUND)
    with ThreadPoolExecutor(1) as pool:
        trip = pool.submit(desk.outbox.confirm, BOUND)
        *before, entry = taken_until_a_mark(desk)
        assert before == ["first"]
        assert isinstance(entry, Entry)
        assert isinstance(entry.outgoing, Frame)
        assert entry.on_writing is not None
        entry.on_writing(2.0)
        desk.keepalive.acknowledge(entry.outgoing.payload, 2.5)
        assert trip.result(BOUND) == 0.5


def test_confirm_has_a_bound_and_leaves_no_ping_under_way(desk: Desk) -> None:
    with pytest.raises(Timeout, match="confirm was not done within 0 s"):
        desk.outbox.confirm(0)
    (entry,) = desk.take()
    assert isinstance(entry, Entry)
    assert isinstance(entry.outgoing, Frame)
    desk.keepalive.ping(entry.outgoing.payload)


@pytest.mark.parametrize("call", ["flush", "confirm"])
def test_marks_are_refused_after_the_close(desk: Desk, call: str) -> None:
    desk.close()
    with pytest.raises(ConnectionClosed):
        getattr(desk.outbox, call)(BOUND)
    assert desk.waiting() == []


@pytest.mark.parametrize("error", [ConnectionClosed(1006, "lost"), TimeoutError("of its own")])
def test_a_wait_ends_with_the_error_of_what_it_waits_for(desk: Desk, error: Exception) -> None:
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(desk.outbox.flush, BOUND)
        (entry,) = taken_until_a_mark(desk)
        assert isinstance(entry, Entry)
        assert entry.future is not None
        entry.future.set_exception(error)
        assert done.exception(BOUND) is error


# --------------------------------------------------------------------------------------------------- pings


def test_a_ping_goes_ahead_of_all_messages(desk: Desk) -> None:
    desk.outbox.put("message", True, BOUND)
    future = desk.outbox.ping(b"hello")
    (entry,) = desk.take()
    assert isinstance(entry, Entry)
    assert entry.outgoing == Frame(Opcode.PING, b"hello")
    assert isinstance(future, Future)
    assert not future.done()
    assert desk.take() == ["message"]


def test_a_ping_needs_an_open_connection(desk: Desk) -> None:
    desk.close()
    with pytest.raises(ConnectionClosed):
        desk.outbox.ping(None)


def test_a_ping_before_the_connection_is_open() -> None:
    desk = Desk()
    desk.outbox = Outbox(
        desk.queue, desk.keepalive, Lifecycle(), overflow=Overflow.BLOCK, on_dropped=desk.dropped.append
    )
    desk.lifecycle = Lifecycle()
    with pytest.raises(WSClientError, match="call open"):
        desk.outbox.ping(None)


def test_a_ping_that_meets_the_end_fails(desk: Desk) -> None:
    """The connection ends, and fails the pings under way, between the ping's look at it and its start."""

    class EndsMeanwhile(Keepalive):
        def ping(self, payload: bytes | None) -> tuple[Entry, Future[float]]:
            desk.lifecycle.lose(ConnectionResetError())
            desk.lifecycle.finish(())
            self.fail(desk.lifecycle.error())
            return super().ping(payload)

    outbox = Outbox(
        desk.queue,
        EndsMeanwhile(None, None),
        desk.lifecycle,
        overflow=Overflow.BLOCK,
        on_dropped=desk.dropped.append,
    )
    assert isinstance(outbox.ping(None).exception(0), ConnectionClosed)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [("ü", "ü".encode()), (b"x" * 125, b"x" * 125), (bytearray(b"a"), b"a"), (memoryview(b"v"), b"v")],
)
def test_ping_payloads(payload: str | bytes, expected: bytes) -> None:
    assert to_ping_payload(payload) == expected


@pytest.mark.parametrize("payload", [b"x" * 126, "ü" * 63])
def test_a_ping_payload_too_long(payload: str | bytes) -> None:
    with pytest.raises(ValueError, match="at most 125 bytes, not 126"):
        to_ping_payload(payload)
