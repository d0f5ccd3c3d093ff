"""Messages that go out in several frames (RFC 6455, section 5.4): streams, and large messages in pieces.

The protocol allows one fragmented message at a time, with nothing but control frames between its
fragments. So the queue has one :class:`FragmentLane`. An item that goes out in fragments takes its place in
the queue like any other; once it is at the front it occupies the lane, and other messages wait until its last
fragment is taken. Who sends them has room and time-outs as always; control frames never come here.

All of it works under the mutex of the queue.
"""

from __future__ import annotations

import enum
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from wsclient.doorbell import Doorbell
from wsclient.exceptions import Disconnected
from wsclient.frames import Frame, Opcode
from wsclient.items import Batch, Entry, Item, ends_message, expiry_of, message_of

__all__ = ["FragmentLane", "Outcome", "Phase", "StreamEntry", "StreamSource", "stop_streams"]

_STREAM_BYTES = 1 << 18  # what a stream holds between application and writer, at most


class Source(Protocol):
    """Where the fragments of one message come from."""

    @property
    def item(self) -> Item:
        """What stands for the message in the account of unsent items, until its last fragment is taken."""

    def ready(self) -> bool:
        """Whether there is a fragment to take."""

    def take(self) -> Frame:
        """Take the next fragment; FIN is set on the last one."""


class Pieces:
    """A message that is whole already, cut so that control frames go between its pieces."""

    __slots__ = ("_opcode", "_payload", "_size", "item")

    def __init__(self, item: Item, size: int) -> None:
        self.item: Item = item
        self._size = size
        # Writer thread:
        self._opcode = Opcode.CONTINUATION
        self._payload: memoryview | None = None  # made by the first take: it may need a lot of memory

    def ready(self) -> bool:
        return True

    def take(self) -> Frame:
        if self._payload is None:
            frame = _frame_of(self.item.outgoing if isinstance(self.item, Entry) else self.item)
            self._opcode, self._payload = frame.opcode, memoryview(frame.payload)
        piece, self._payload = self._payload[: self._size], self._payload[self._size :]
        frame = Frame(self._opcode, bytes(piece), fin=not self._payload)
        self._opcode = Opcode.CONTINUATION
        return frame


def _frame_of(outgoing: str | bytes | Frame | None) -> Frame:
    assert outgoing is not None, "a mark has no payload"
    if isinstance(outgoing, str):
        return Frame(Opcode.TEXT, outgoing.encode())
    return Frame(Opcode.BINARY, outgoing) if isinstance(outgoing, bytes) else outgoing


class StreamEntry(Entry):
    """Stands in the queue for a stream that has not begun, and takes the room that it may need."""

    __slots__ = ("source",)
    takes_room = True

    def __init__(self, source: StreamSource, receipt: Future[None]) -> None:
        super().__init__(None, future=receipt)
        self.source: StreamSource = source

    def __len__(self) -> int:
        return self.source.max_bytes


class Phase(enum.Enum):
    """How far a stream has come."""

    OPEN = "open"  # more chunks may come
    ENDED = "ended"  # the application has said that there are no more
    STOPPED = "stopped"  # the connection takes no more


class Outcome(enum.Enum):
    """What came of a chunk."""

    ACCEPTED = "accepted"
    NO_ROOM = "no room"
    ENDED = "ended"
    STOPPED = "stopped"


class StreamSource:
    """A message whose end the application has not told yet: a few chunks between it and the writer.

    Args:
        opcode: ``TEXT`` or ``BINARY``.
        fragment_size: payload bytes of a fragment, at most.
        max_bytes: what it holds at most, but for one larger chunk alone.
        mutex, bell: of the queue.
    """

    def __init__(
        self, opcode: Opcode, fragment_size: int, max_bytes: int, mutex: threading.Lock, bell: Doorbell
    ) -> None:
        self.max_bytes: int = min(max_bytes, _STREAM_BYTES)
        self.receipt: Future[None] = Future()  # resolved once the last fragment is written
        self.receipt.set_running_or_notify_cancel()
        self.item: StreamEntry = StreamEntry(self, self.receipt)
        self._fragment_size = fragment_size
        self._bell = bell
        self._mutex = mutex  # guards what follows
        self._opcode = opcode
        self._chunks: deque[memoryview] = deque()
        self._size = 0
        self._phase = Phase.OPEN
        self._waiters: list[threading.Lock] = []  # each is released once, by whoever takes it off the list

    # -- any thread of the application ----------------------------------------------------------------

    def put(self, chunk: bytes, timeout: float) -> Outcome:
        """Add a chunk, waiting for room at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        in_time = True
        while in_time:
            waiter = threading.Lock()
            waiter.acquire()
            with self._mutex:
                outcome = self._accept(chunk)
                if outcome is not Outcome.NO_ROOM:
                    return outcome
                self._waiters.append(waiter)
            in_time = self._wait(waiter, deadline)
        return Outcome.NO_ROOM

    def _wait(self, waiter: threading.Lock, deadline: float) -> bool:
        woken = False
        try:
            woken = waiter.acquire(timeout=max(deadline - time.monotonic(), 0))
        finally:
            if not woken:  # too late, or Ctrl-C
                with self._mutex:
                    woken = waiter not in self._waiters
                    if not woken:
                        self._waiters.remove(waiter)
        return woken

    def _accept(self, chunk: bytes) -> Outcome:
        if (over := self._over()) is not None:
            return over
        if self._size and self._size + len(chunk) > self.max_bytes:
            return Outcome.NO_ROOM
        self._chunks.append(memoryview(chunk))
        self._size += len(chunk)
        self._bell.ring()
        return Outcome.ACCEPTED

    def _over(self) -> Outcome | None:
        if self._phase is Phase.OPEN:
            return None
        return Outcome.STOPPED if self._phase is Phase.STOPPED else Outcome.ENDED

    def end(self) -> Outcome:
        """Say that the message is complete."""
        with self._mutex:
            if (over := self._over()) is not None:
                return over
            self._chunks.append(memoryview(b""))
            self._phase = Phase.ENDED
            self._bell.ring()
            return Outcome.ACCEPTED

    def withdraw(self) -> None:
        """It was not put: there is nothing to end."""
        self._phase = Phase.STOPPED

    def is_open(self) -> bool:
        """Whether its end has neither been told nor made impossible."""
        return self._phase is Phase.OPEN

    # -- under the mutex ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take no more chunks: the connection has ended."""
        self._phase = Phase.STOPPED
        self._chunks.clear()
        self._wake_all()
        if not self.receipt.done():  # nobody but the stream's owner sees it: no callback runs here
            self.receipt.set_exception(Disconnected("the connection was lost in the middle of the stream"))

    def _wake_all(self) -> None:
        while self._waiters:
            self._waiters.pop().release()

    def ready(self) -> bool:
        return bool(self._chunks)

    def take(self) -> Frame:
        payload = b"".join(self._next_parts())
        self._size -= len(payload)
        self._wake_all()
        frame = Frame(self._opcode, payload, fin=self._phase is Phase.ENDED and not self._chunks)
        self._opcode = Opcode.CONTINUATION
        return frame

    def _next_parts(self) -> list[memoryview]:
        # Views, because cutting a fragment off a large chunk must not copy the rest of it.
        parts: list[memoryview] = []
        left = self._fragment_size
        while self._chunks and (left or not self._chunks[0]):
            chunk = self._chunks.popleft()
            parts.append(chunk[:left])
            if len(chunk) > left:
                self._chunks.appendleft(chunk[left:])
            left -= len(parts[-1])
        return parts


class FragmentLane:
    """The one message that is on its way in fragments, if there is one. Guarded by the queue's mutex.

    Args:
        mutex, bell: of the queue.
        fragment_size: messages with a larger payload go out in pieces of that; ``None`` for whole ones.
        max_batch: payload bytes of a stream's fragment, at most, when there is no ``fragment_size``.
        max_bytes: what a stream holds, at most.
    """

    __slots__ = ("_bell", "_max_bytes", "_mutex", "_source", "_stream_size", "fragment_size")

    def __init__(
        self,
        mutex: threading.Lock,
        bell: Doorbell,
        fragment_size: int | None,
        max_batch: int,
        max_bytes: int,
    ) -> None:
        self._mutex = mutex
        self._bell = bell
        self.fragment_size: int | None = fragment_size
        self._stream_size = fragment_size or max_batch
        self._max_bytes = max_bytes
        self._source: Source | None = None  # under the mutex; written by the writer thread but for `drop`

    def __bool__(self) -> bool:
        return self._source is not None

    def new_stream(self, opcode: Opcode) -> StreamSource:
        """Make a message that comes in chunks; its ``item`` is still to be put in the queue. Thread-safe."""
        return StreamSource(opcode, self._stream_size, self._max_bytes, self._mutex, self._bell)

    def ready(self) -> bool:
        """Whether there is a fragment to take."""
        source = self._source  # once: the writer asks without the mutex before it sleeps
        return source is not None and source.ready()

    def first_of(self, items: Sequence[Item]) -> int:
        """Tell where in ``items`` the first one is that goes out in fragments; their number if none does."""
        size = math.inf if self.fragment_size is None else self.fragment_size
        if StreamEntry not in set(map(type, items)) and (size == math.inf or max(map(len, items)) <= size):
            return len(items)
        goes = (isinstance(item, StreamEntry) or self.is_large(item) for item in items)
        return next((index for index, found in enumerate(goes) if found), len(items))

    def is_large(self, item: Item) -> bool:
        """Whether an item is a message that goes out in pieces."""
        size = self.fragment_size
        if size is None or len(item) <= size or message_of(item) is None:
            return False
        # A message that expires may be worthless before its last piece is out: it goes in one, or not at all.
        return expiry_of(item) == math.inf

    def pieces_of(self, item: Item) -> list[Item]:
        """Cut a large message at once."""
        assert self.fragment_size is not None, "is_large has found nothing else"
        return _fragments_of(Pieces(item, self.fragment_size), math.inf)

    def begin(self, item: Item) -> None:
        """Occupy the lane with an item that ``first_of`` has found."""
        if isinstance(item, StreamEntry):
            self._source = item.source
        else:
            assert self.fragment_size is not None, "first_of has found nothing else"
            self._source = Pieces(item, self.fragment_size)

    def take(self, max_bytes: int) -> Batch | None:
        """Take fragments until they have ``max_bytes``, there are no more, or the message is complete."""
        if self._source is None or not (entries := _fragments_of(self._source, max_bytes)):
            return None
        if ends_message(entries[-1]):
            self._source = None
        return Batch(entries, entries=True)

    def holds(self, source: StreamSource) -> bool:
        """Whether this stream is the message under way."""
        return self._source is source

    @property
    def items(self) -> list[Item]:
        """What stands for the message under way, if there is one."""
        return [] if self._source is None else [self._source.item]

    def drop(self) -> None:
        """Give up the message under way."""
        self._source = None


def _fragments_of(source: Source, max_bytes: float) -> list[Item]:
    entries: list[Item] = []
    size, is_last = 0, False
    while size < max_bytes and not is_last and source.ready():
        frame = source.take()
        size, is_last = size + len(frame), frame.fin
        entries.append(_entry(frame, source.item))
    return entries


def _entry(frame: Frame, item: Item) -> Entry:
    # The last fragment stands for the message: once it is written, so is that.
    if not frame.fin:
        return Entry(frame)
    future = item.future if isinstance(item, Entry) else None
    return Entry(frame, message=message_of(item), future=future, origin=item)


def stop_streams(items: Sequence[Item]) -> None:
    """Stop every stream among what was cut off. The caller holds the mutex."""
    for item in items:
        if isinstance(item, StreamEntry):
            item.source.stop()
