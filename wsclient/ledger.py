"""What was written and may not have arrived: kept until a pong shows that the peer has read beyond it.

A pong answers a ping and every ping before it (RFC 6455, section 5.5.3), and says that the peer's WebSocket
layer has processed what was written before them. Pings are numbered as they are written; each batch here
knows how many went before it, so that the pong of any later one settles it, whoever sent that ping. The
ledger has pings of its own, *barriers*, so that there is one: one rides along whenever so many bytes were
written, and one follows a moment after a write, however little it was and whatever came after it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from wsclient.exceptions import QueueFull
from wsclient.items import Entry, Item, is_message, is_ping, restored

__all__ = ["Doubt", "Ledger", "size_of"]

_BARRIER_BYTES = 1 << 22  # written since the last barrier before the next one rides along
_ITEM_BYTES = 64  # what a message takes beside its payload, so that empty ones are bounded, too
_MAX_BARRIERS = 64  # under way; a peer that answers no pings shall not pile them up
_LONGEST = 0.1  # seconds that anything written waits for a barrier behind it

Barrier = Callable[[], "tuple[Entry, Future[float]]"]


def size_of(items: Sequence[Item]) -> int:
    """Bytes that some items count for."""
    return sum(map(len, items)) + _ITEM_BYTES * len(items)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Messages that one write has carried; ``greeting``: they are of ``on_reconnect``."""

    pings: int  # written before it: the pong of a later one settles it
    items: Sequence[Item]
    size: int
    greeting: bool


@dataclass(frozen=True, slots=True)
class Doubt:
    """What a lost link leaves in doubt, in order.

    Attributes:
        items: messages of the application.
        greeting: messages of ``on_reconnect``.
        forgotten: how many more there were.
    """

    items: list[Item]
    greeting: list[Item]
    forgotten: int


class Ledger:
    """Written messages of one connection, across its links.

    Args:
        max_bytes: what it holds at most.
        keeps: what does not fit keeps the writer waiting; otherwise the oldest is forgotten, and counted.
        ping: makes a barrier.
        on_room: called on the reader thread when there is room again.
    """

    def __init__(self, max_bytes: int, *, keeps: bool, ping: Barrier, on_room: Callable[[], None]) -> None:
        self._max_bytes = max_bytes
        self._barrier_bytes = min(_BARRIER_BYTES, max(max_bytes // 2, 1))
        self._keeps = keeps
        self._ping = ping
        self._on_room = on_room
        self._mutex = threading.Lock()
        self._batches: deque[_Batch] = deque()  # _mutex
        self._bytes = 0  # _mutex
        self._answered = 0  # _mutex: number of the last ping whose pong has come
        self._barriers = 0  # _mutex: barriers under way
        self._unfenced_bytes = 0  # writer thread
        self.deadline: float = math.inf  # writer thread: when what has no barrier behind it gets one
        self.forgotten: int = 0  # _mutex: messages that found no room; any thread reads it
        self._told = 0  # reader thread: how many of them `clear` has known

    @property
    def is_full(self) -> bool:
        """Whether nothing may be written before a pong comes."""
        return self._keeps and self._bytes >= self._max_bytes

    @property
    def bytes(self) -> int:
        """Bytes in doubt now."""
        return self._bytes

    @property
    def untold(self) -> int:
        """How many messages were forgotten on this link."""
        return self.forgotten - self._told

    # -- the writer thread ----------------------------------------------------------------------------

    def written(
        self, items: Sequence[Item], now: float, *, pings: int, entries: bool = False, greeting: bool = False
    ) -> Entry | None:
        """Note what is written; return a barrier to send behind it, if it is time.

        Args:
            items: of one batch. ``entries``: there may be pings and marks among them.
            now: monotonic time.
            pings: how many were written before the batch.
            greeting: whether this is what ``on_reconnect`` has sent.
        """
        size = 0
        for before, messages in _between_pings(items, pings) if entries else ((pings, items),):
            if messages:
                size += self._keep(_Batch(before, messages, size_of(messages), greeting))
        if not size:
            return None
        self._unfenced_bytes += size
        self.deadline = min(self.deadline, now + _LONGEST)
        is_due = self._unfenced_bytes >= self._barrier_bytes and self._barriers < _MAX_BARRIERS
        return self._barrier() if is_due else None

    def _keep(self, batch: _Batch) -> int:
        with self._mutex:
            if batch.pings < self._answered:  # the pong was quicker than this thread
                return 0
            self._batches.append(batch)
            self._bytes += batch.size
            while not self._keeps and self._bytes > self._max_bytes and len(self._batches) > 1:
                self._forget()
        return batch.size

    def _forget(self) -> None:
        batch = self._batches.popleft()
        self._bytes -= batch.size
        self.forgotten += len(batch.items)

    def due(self, now: float) -> Entry | None:
        """Return the barrier for what has waited for one long enough."""
        if now < self.deadline:
            return None
        if not self._batches:  # another ping was answered meanwhile
            self.deadline = math.inf
            return None
        self.deadline = now + _LONGEST  # to look again: too many are under way, or the last one is lost
        return self._barrier() if self._barriers < _MAX_BARRIERS else None

    def last(self) -> Entry | None:
        """Return a barrier to send before the close frame, if anything is in doubt."""
        return self._barrier() if self._batches and self._barriers < _MAX_BARRIERS else None

    def _barrier(self) -> Entry | None:
        try:
            entry, pong = self._ping()
        except QueueFull:  # the application has thousands of pings under way: later
            return None
        with self._mutex:
            self._barriers += 1
        pong.add_done_callback(self._barrier_done)
        self._unfenced_bytes = 0
        self.deadline = math.inf
        return entry

    # -- the reader thread ----------------------------------------------------------------------------

    def _barrier_done(self, pong: Future[float]) -> None:
        # Answered, or failed because its link is lost.
        with self._mutex:
            self._barriers -= 1

    def settle(self, number: int) -> None:
        """A pong has answered this ping, and the ones before it."""
        with self._mutex:
            self._answered = number
            was_full = self.is_full
            while self._batches and self._batches[0].pings < number:
                self._bytes -= self._batches.popleft().size
            has_room = was_full and not self.is_full
        if has_room:
            self._on_room()

    def peek(self) -> list[Item]:
        """What is in doubt now, in order. Any thread."""
        with self._mutex:
            return [item for batch in self._batches for item in batch.items]

    def doubt(self) -> Doubt:
        """What the lost link leaves in doubt. Once its writer has ended."""
        batches = list(self._batches)
        return Doubt(
            [item for batch in batches if not batch.greeting for item in batch.items],
            [item for batch in batches if batch.greeting for item in batch.items],
            self.untold,
        )

    def clear(self) -> None:
        """Empty it: what ``doubt`` told of has another account now."""
        with self._mutex:
            self._batches.clear()
            self._bytes = 0
        self._told = self.forgotten
        self._unfenced_bytes = 0
        self.deadline = math.inf


def _between_pings(items: Sequence[Item], pings: int) -> Iterator[tuple[int, list[Item]]]:
    # The messages of a batch in groups, each with the number of pings that were written before it.
    messages: list[Item] = []
    for item in items:
        if is_ping(item):
            yield pings, messages
            pings, messages = pings + 1, []
        elif is_message(item) and (whole := restored(item)) is not None:
            messages.append(_timeless(whole))
    yield pings, messages


def _timeless(item: Item) -> Item:
    # Once written it was in time: it is sent again, if at all, whenever that is.
    if isinstance(item, Entry):
        item.expires_at = math.inf
    return item
