"""What was written and may not have arrived: kept until a pong shows that the peer has read beyond it.

A pong answers a ping, and the pings here are *barriers*: they go out behind messages, so that their pongs say
that the peer's WebSocket layer has processed those. One rides along whenever so many bytes were written, and
one follows when the connection has been idle for a moment.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from wsclient.exceptions import QueueFull
from wsclient.items import Entry, Item

__all__ = ["Ledger", "size_of"]

_BARRIER_BYTES = 1 << 18  # written since the last barrier before the next one rides along
_ITEM_BYTES = 64  # what a message takes beside its payload, so that empty ones are bounded, too
_MAX_BARRIERS = 64  # under way; a peer that answers no pings shall not pile them up
_IDLE_SECONDS = 0.1  # ... or since the last write, when nothing follows

Barrier = Callable[[], "tuple[Entry, Future[float]]"]


def size_of(items: Sequence[Item]) -> int:
    """Bytes that some items count for."""
    return sum(map(len, items)) + _ITEM_BYTES * len(items)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Messages that one write has carried; ``greeting``: they are of ``on_reconnect``."""

    number: int
    items: Sequence[Item]
    size: int
    greeting: bool


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
        self._number = 0  # writer thread: batches written so far
        self._barriers = 0  # _mutex: barriers under way
        self._unfenced_bytes = 0  # writer thread
        self.deadline = math.inf  # writer thread: when an idle connection gets its barrier
        self.forgotten = 0  # writer thread: messages that found no room, since the last `take`

    @property
    def is_full(self) -> bool:
        """Whether nothing may be written before a pong comes."""
        return self._keeps and self._bytes >= self._max_bytes

    @property
    def bytes(self) -> int:
        """Bytes in doubt now."""
        return self._bytes

    def written(self, items: Sequence[Item], now: float, *, greeting: bool = False) -> Entry | None:
        """Note a batch that is written; return a barrier to send behind it, if it is time. Writer thread."""
        size = size_of(items)
        with self._mutex:
            self._number += 1
            self._batches.append(_Batch(self._number, items, size, greeting))
            self._bytes += size
            while not self._keeps and self._bytes > self._max_bytes and len(self._batches) > 1:
                self._forget()
        self._unfenced_bytes += size
        if self._unfenced_bytes >= self._barrier_bytes and self._barriers < _MAX_BARRIERS:
            return self._barrier()
        self.deadline = now + _IDLE_SECONDS
        return None

    def _forget(self) -> None:
        batch = self._batches.popleft()
        self._bytes -= batch.size
        self.forgotten += len(batch.items)

    def due(self, now: float) -> Entry | None:
        """Return the barrier for a connection that has become idle. Writer thread."""
        return self._barrier() if now >= self.deadline and self._may_ping(now) else None

    def last(self) -> Entry | None:
        """Return a barrier to send before the close frame, if anything is in doubt. Writer thread."""
        return self._barrier() if self._batches and self._barriers < _MAX_BARRIERS else None

    def _may_ping(self, now: float) -> bool:
        self.deadline = now + _IDLE_SECONDS  # to look again: too many are under way, or the last one is lost
        return self._barriers < _MAX_BARRIERS

    def _barrier(self) -> Entry | None:
        try:
            entry, pong = self._ping()
        except QueueFull:  # the application has thousands of pings under way: later
            return None
        with self._mutex:
            self._barriers += 1
        pong.add_done_callback(partial(self._answered, self._number))
        self._unfenced_bytes = 0
        self.deadline = math.inf
        return entry

    def _answered(self, number: int, pong: Future[float]) -> None:
        # Reader thread. A barrier of a lost link fails instead.
        with self._mutex:
            self._barriers -= 1
            if pong.cancelled() or pong.exception() is not None:
                return
            was_full = self.is_full
            while self._batches and self._batches[0].number <= number:
                self._bytes -= self._batches.popleft().size
            has_room = was_full and not self.is_full
        if has_room:
            self._on_room()

    def peek(self) -> list[Item]:
        """What is in doubt now, in order. Any thread."""
        with self._mutex:
            return [item for batch in self._batches for item in batch.items]

    def take(self) -> tuple[list[Item], list[Item]]:
        """Empty it: return what is in doubt, in order, and apart from that what ``on_reconnect`` had sent.

        Once the writer of the link has ended.
        """
        with self._mutex:
            batches = list(self._batches)
            self._batches.clear()
            self._bytes = 0
        self._unfenced_bytes = self.forgotten = 0
        self.deadline = math.inf
        items = [item for batch in batches if not batch.greeting for item in batch.items]
        return items, [item for batch in batches if batch.greeting for item in batch.items]
