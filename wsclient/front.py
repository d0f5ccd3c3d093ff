"""The front of the send queue: where items leave it, batch by batch. Used under the mutex of the queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import repeat

from wsclient.fragments import FragmentLane
from wsclient.items import Batch, Item
from wsclient.room import Room
from wsclient.waiting_line import WaitingLine

__all__ = ["Front"]

_CHUNK = 64  # messages popped between two looks at a batch's size, at most


class Front:
    """Takes batches off a queue, and lets waiting producers have the room.

    Args:
        waiting: the queue's items.
        room: how much more may enter.
        line: producers that wait for room.
        lane: the message that goes out in fragments.
        enter: appends an item that has got room.
        max_batch: size of a batch in bytes.
    """

    __slots__ = (
        "_chunk",
        "_enter",
        "_lane",
        "_line",
        "_max_batch",
        "_room",
        "_waiting",
        "high_bytes",
        "high_messages",
    )

    def __init__(
        self,
        waiting: deque[Item],
        room: Room,
        line: WaitingLine,
        lane: FragmentLane,
        *,
        enter: Callable[[Item], None],
        max_batch: int,
    ) -> None:
        self._waiting = waiting
        self._room = room
        self._line = line
        self._lane = lane
        self._enter = enter
        self._max_batch = max_batch
        self._chunk = max(1, min(_CHUNK, max_batch // room.share))
        self.high_messages = 0  # writer thread
        self.high_bytes = 0  # writer thread

    def take(self, is_open: bool) -> Batch | None:
        """Return the next batch, or ``None`` when there is none yet."""
        if self._lane:
            return self._lane.take(self._max_batch)
        depth = len(self._waiting)
        items, size = _pop_batch(self._waiting, self._max_batch, 1 if self._room.has_large else self._chunk)
        self._note_depth(depth, size, len(items))
        whole = self._lane.first_of(items)
        if whole < len(items):
            self._put_back(items, max(whole, 1))
        has_entries = self._room.has_entries
        self._room.left(items)
        # Not after each batch: waking a thread costs as much as encoding ten messages.
        if is_open and not (self._line and self._waiting and self._room.is_scarce):
            self.serve_line()
        if whole:
            return Batch(items, entries=has_entries)
        self._lane.begin(items[0])
        return self._lane.take(self._max_batch)

    def _put_back(self, items: list[Item], kept: int) -> None:
        self._waiting.extendleft(reversed(items[kept:]))
        del items[kept:]

    def _note_depth(self, depth: int, size: int, count: int) -> None:
        if depth > self.high_messages or self._room.has_large or size * depth > self.high_bytes * count:
            self.high_messages = max(self.high_messages, depth)
            size += sum(map(len, list(self._waiting)))
        if size > self.high_bytes:
            self.high_bytes = size

    def serve_line(self) -> None:
        """Let producers in who wait for room, or give all of it to those who come."""
        if self._line:
            self._line.serve(self._room.take, self._enter)
        if self._line:
            self._room.withdraw()
        else:
            self._room.publish()


def _pop_batch(waiting: deque[Item], max_size: int, chunk: int) -> tuple[list[Item], int]:
    # `chunk` messages between two looks at the size: many of small ones, one by one of large ones.
    popleft = waiting.popleft
    items: list[Item] = []
    size = 0
    while size < max_size and waiting:
        some = [popleft() for _ in repeat(None, min(chunk, len(waiting)))]
        items += some
        size += sum(map(len, some))
    return items, size
