"""Small plays around the real ``SendQueue`` and ``Inbox``, with every account settled at their end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import NoReturn

from interleave.explorer import Play
from wsclient.exceptions import QueueFull, SendTimeout, Timeout
from wsclient.fragments import Outcome as ChunkOutcome
from wsclient.fragments import StreamEntry, StreamSource
from wsclient.frames import Frame, Opcode
from wsclient.inbox import Inbox, InboxClosed
from wsclient.items import Entry, Item, is_message, message_of
from wsclient.options import Overflow
from wsclient.send_queue import QueueState, SendQueue

__all__ = ["InboxStage", "Stage"]

FINAL = Frame(Opcode.CLOSE, b"\x03\xe8")


class Refused(Exception):
    """What the queues here raise for a message that comes after the close."""


def refuse() -> NoReturn:
    raise Refused


@dataclass
class Streamed:
    """A stream, and what its application was told."""

    name: str
    source: StreamSource = field(repr=False)
    accepted: list[str] = field(default_factory=list)
    ended: bool = False

    def put(self, chunk: str, timeout: float) -> None:
        if self.source.put(chunk.encode(), timeout) is ChunkOutcome.ACCEPTED:
            self.accepted.append(chunk)


@dataclass
class Stage:
    """A send queue, and what everybody was told about it.

    Each list belongs to one thread during a run, and to the main thread after it.
    """

    queue: SendQueue
    max_messages: int
    max_bytes: int
    accepted: dict[str, list[Item]] = field(default_factory=dict)
    refused: list[Item] = field(default_factory=list)
    dropped: list[Item] = field(default_factory=list)
    written: list[Item] = field(default_factory=list)
    must_be_written: list[Item] = field(default_factory=list)
    writer_ended: bool = False
    marks: int = 0
    streams: list[Streamed] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        max_messages: int,
        max_bytes: int = 100,
        *,
        kind: type[SendQueue] = SendQueue,
        overflow: Overflow = Overflow.BLOCK,
        max_batch: int = 256 * 1024,
        fragment_size: int | None = None,
    ) -> Stage:
        queue = kind(
            max_messages,
            max_bytes,
            refuse=refuse,
            overflow=overflow,
            max_batch=max_batch,
            fragment_size=fragment_size,
        )
        return cls(queue, max_messages, max_bytes)

    # -- what the threads do --------------------------------------------------------------------------

    def producer(
        self, name: str, *items: Item, block: bool = True, timeout: float | None = None
    ) -> Callable[[], None]:
        """Put items, each until it is accepted or refused."""
        accepted = self.accepted.setdefault(name, [])

        def produce() -> None:
            for item in items:
                try:
                    self.queue.put(item, block, timeout)
                except (Refused, SendTimeout, QueueFull):
                    self.refused.append(item)
                else:
                    accepted.append(item)

        return produce

    def dropper(self, name: str, *items: Item) -> Callable[[], None]:
        """Put items, giving up older ones for them."""
        accepted = self.accepted.setdefault(name, [])

        def produce() -> None:
            for item in items:
                self.dropped += self.queue.put_dropping(item)
                accepted.append(item)

        return produce

    def flusher(self, name: str, item: str) -> Callable[[], None]:
        """Put a message and then a mark, which is written only after it."""
        accepted = self.accepted.setdefault(name, [])
        self.marks += 1

        def produce() -> None:
            self.producer(name, item)()
            mark = Entry(None)
            try:
                self.queue.put_mark(mark)
            except Refused:
                self.refused.append(mark)
            else:
                accepted.append(mark)

        return produce

    def streamer(self, name: str, *chunks: str, timeout: float = 60.0) -> Callable[[], None]:
        """Open a stream, put the chunks, end it. What becomes of each is noted."""
        self.marks += 1

        def stream() -> None:
            try:
                source = self.queue.fragments.new_stream(Opcode.TEXT)
                self.queue.put_slowly(source.item, True, None)
            except Refused:
                return
            streamed = Streamed(name, source)
            self.streams.append(streamed)
            for chunk in chunks:
                streamed.put(chunk, timeout)
            streamed.ended = source.end() is ChunkOutcome.ACCEPTED

        return stream

    def writer(self, *timeouts: float) -> Callable[[], None]:
        """The loop of ``Writer``: take, or wait; the first waits with time-outs."""

        def write() -> None:
            self.queue.own_reads()
            waits: Iterator[float | None] = chain(timeouts, repeat(None))
            while True:
                batch = self.queue.take()
                if batch is not None:
                    self.written += batch.items
                elif self.queue.ended:
                    self.writer_ended = True
                    return
                else:
                    self.queue.wait(next(waits))

        return write

    def play(self, **bodies: Callable[[], None]) -> Play:
        """The writer may be left asleep."""
        return Play(bodies, (self.queue,), self.check, frozenset({"writer"}))

    # -- how it must end ------------------------------------------------------------------------------

    def check(self, resting: frozenset[str]) -> None:
        """Balance the accounts."""
        queue = self.queue
        assert self.writer_ended is queue.ended, "the writer did not end with the queue"
        assert not queue.mutex.locked(), "somebody rests under the mutex"
        assert not queue.queue, f"{list(queue.queue)} was forgotten in the queue while the writer rests"
        self._check_items()
        self._check_streams()
        self._check_order()
        self._check_final()
        self._check_room()

    def _check_streams(self) -> None:
        messages = list(_fragmented(self.written))
        leftover = set(map(id, self.queue.leftover()))
        for streamed in self.streams:
            receipt = streamed.source.receipt
            whole = [message for message in messages if message[-1].future is receipt]
            assert len(whole) + (id(streamed.source.item) in leftover) == 1, f"{streamed}: {whole}"
            if whole:
                frames = [entry.outgoing for entry in whole[0] if isinstance(entry.outgoing, Frame)]
                payload = b"".join(frame.payload for frame in frames).decode()
                assert payload == "".join(streamed.accepted), f"{streamed}: written as {payload}"
                assert streamed.ended, streamed
            else:
                assert self.queue._state is QueueState.CUT, f"{streamed} was forgotten"

    def _check_items(self) -> None:
        leftover = [item for item in self.queue.leftover() if not isinstance(item, StreamEntry)]
        out = list(_accounted(self.written))
        accepted = list(chain(*self.accepted.values()))
        came_to = Counter(map(id, chain(out, leftover, self.dropped)))
        told = Counter(map(id, accepted))
        show = f"written {_names(out)}, left over {_names(leftover)}, dropped {_names(self.dropped)}"
        assert came_to == told, f"accepted {_names(accepted)}; {show}"
        assert not told.keys() & set(map(id, self.refused)), f"refused {_names(self.refused)}; {show}"
        assert self.queue.admission.dropped == len(self.dropped), (
            f"{self.queue.admission.dropped} counted as dropped; {show}"
        )
        missing = [item for item in self.must_be_written if item not in self.written]
        assert not missing, f"{_names(missing)} came before the close and was not written"

    def _check_order(self) -> None:
        # What was left over is the tail of what was accepted: no holes.
        stream = [*_accounted(self.written), *self.queue.leftover()]
        for name, accepted in self.accepted.items():
            ids = set(map(id, accepted)) - set(map(id, self.dropped))
            mine = [item for item in stream if id(item) in ids]
            kept = [item for item in accepted if id(item) in ids]
            assert list(map(id, mine)) == list(map(id, kept)), f"{name}: {_names(kept)} became {_names(mine)}"

    def _check_final(self) -> None:
        finals = [n for n, item in enumerate(self.written) if item is FINAL]
        assert finals in ([], [len(self.written) - 1]), "something follows the close frame"
        assert self.queue._state is not QueueState.DRAINING, "the close frame was never taken"

    def _check_room(self) -> None:
        queue, room = self.queue, self.queue._room
        deepest = self.max_messages + self.marks
        assert queue.front.high_messages <= deepest, f"{queue.front.high_messages} messages queued at once"
        alone = max((len(item) for item in self.written), default=0)
        assert queue.front.high_bytes <= max(self.max_bytes, alone), (
            f"{queue.front.high_bytes} bytes queued at once"
        )
        assert not queue._line, "somebody is still in the waiting line"
        if queue._state is QueueState.OPEN:
            free = len(room.pool) + room._spare + room._reserve
            assert free == room._tickets, f"{free} tickets of {room._tickets} are free in an empty queue"
            assert not room.has_large, "a large message still holds tickets in an empty queue"


def _fragmented(written: Sequence[Item]) -> Iterator[list[Entry]]:
    """The messages in fragments: nothing but control frames may stand in one (RFC 6455, section 5.4)."""
    message: list[Entry] = []
    for item in written:
        frame = item.outgoing if isinstance(item, Entry) else item
        if not isinstance(frame, Frame):
            assert not message or frame is None, f"{item!r} in the middle of another message"
        elif frame.opcode < Opcode.CLOSE:
            assert isinstance(item, Entry)
            assert (frame.opcode is Opcode.CONTINUATION) is bool(message), f"{frame} after {message}"
            message.append(item)
            if frame.fin:
                yield message
                message = []


def _accounted(written: Sequence[Item]) -> Iterator[Item]:
    """What was accepted, as it was: of a message in pieces the whole, when its last one is written."""
    for item in written:
        if isinstance(item, Entry) and isinstance(item.outgoing, Frame) and item.message is not None:
            yield item.message
        elif _is_accounted(item):
            yield item


def _is_accounted(item: Item) -> bool:
    # Messages and marks. The only frames here are control frames, which nobody accepts.
    is_mark = isinstance(item, Entry) and item.outgoing is None
    return is_mark or (is_message(item) and not isinstance(item, Frame))


def _names(items: Sequence[Item]) -> list[str]:
    return [str(message_of(item) or item) for item in items]


@dataclass
class InboxStage:
    """An inbox, and what everybody got of it. Items are strings, whose size is their length."""

    inbox: Inbox[str]
    offered: list[str] = field(default_factory=list)
    taken: dict[str, list[str]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    limit: int = 1

    @classmethod
    def of(cls, max_items: int, max_bytes: int = 100, *, kind: type[Inbox[str]] = Inbox) -> InboxStage:
        return cls(kind(max_items, max_bytes, size=len), limit=max_items)

    def reader(self, *batches: list[str], close: bool = False) -> Callable[[], None]:
        """Put batches, then close."""

        def read() -> None:
            for batch in batches:
                self.offered += batch
                self.inbox.put_all(batch)
            if close:
                self.inbox.close()

        return read

    def consumer(self, name: str, *timeouts: float | None) -> Callable[[], None]:
        """Get one item for each time-out, until the inbox is closed."""
        taken = self.taken.setdefault(name, [])

        def consume() -> None:
            for timeout in timeouts:
                try:
                    taken.append(self.inbox.get(timeout))
                except Timeout:
                    continue
                except InboxClosed:
                    return

        return consume

    def play(self, may_rest: frozenset[str] = frozenset(), **bodies: Callable[[], None]) -> Play:
        return Play(bodies, (self.inbox,), self.check, may_rest)

    def check(self, resting: frozenset[str]) -> None:
        """Balance the accounts: nobody sleeps while there is what it waits for, nothing is lost or twice."""
        inbox = self.inbox
        left = list(inbox._items)
        consumers = resting & self.taken.keys()
        assert not (consumers and left), f"{sorted(consumers)} sleep although there is {left}"
        assert not (consumers and inbox._closed), f"{sorted(consumers)} sleep although the inbox is closed"
        assert inbox.high <= self.limit, f"{inbox.high} items at once"
        if "reader" in resting:
            assert not inbox._has_room(), f"the reader sleeps although there is room: {left}"
            return
        out = [*chain(*self.taken.values()), *left]
        told = f"offered {self.offered}, dropped {inbox.dropped}, out {out}"
        assert len(out) + inbox.dropped == len(self.offered), told
        assert len(set(out)) == len(out), told
        assert set(out) <= set(self.offered), told
        assert inbox._unlimited or not inbox.dropped, told
        for name, taken in self.taken.items():
            assert taken == sorted(taken), f"{name} got {taken}"
