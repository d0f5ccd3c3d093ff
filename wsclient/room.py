"""How much more the send queue may accept, in messages and bytes, as tickets.

``max_messages`` tickets share ``max_bytes``. A message of up to ``share = max_bytes // max_messages`` bytes
costs one ticket, which a producer pops from a pool without any lock. What is larger goes through the queue's
mutex, and all large messages together hold as many tickets as their bytes need. So a small message is charged
a full share: the bounds hold exactly as upper bounds, and only a queue of many tiny *and* some large messages
is full a little earlier than its bytes alone would say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

from wsclient.items import Entry, Item, is_message

__all__ = ["Room"]

_FIRST_TICKETS = 24  # in the pool from the start: the others would cost each idle connection 34 KiB


class Room:
    """Tickets: how much more may be accepted. Guarded by ``SendQueue.mutex``, but for pops from ``pool``."""

    __slots__ = (
        "_entries",
        "_held",
        "_is_held_back",
        "_large_bytes",
        "_large_count",
        "_reserve",
        "_slack",
        "_spare",
        "_tickets",
        "pool",
        "share",
    )

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._tickets = min(max_messages, max_bytes)
        self.share: int = max_bytes // self._tickets
        self._slack = max_bytes - self.share * self._tickets
        first = min(self._tickets, _FIRST_TICKETS)
        self.pool: list[None] = [None] * first  # any thread pops, without the mutex
        self._reserve = self._tickets - first  # mutex: tickets that were never needed yet
        self._spare = 0  # mutex: tickets kept from the pool while somebody waits
        self._held = 0  # mutex: tickets that the large messages hold
        self._large_bytes = 0  # mutex
        self._large_count = 0  # mutex
        self._entries = 0  # mutex: entries in the queue
        self._is_held_back = False  # mutex: nobody gets a ticket without it

    @property
    def has_entries(self) -> bool:
        """Whether there is an ``Entry`` in the queue."""
        return self._entries > 0

    @property
    def has_large(self) -> bool:
        return self._large_count > 0

    @property
    def is_scarce(self) -> bool:
        """Whether less than a quarter of the room is free, while somebody waits for some."""
        return self._spare < self._tickets // 4

    def would_hold(self, messages: int, size: int) -> bool:
        """Whether an empty queue had room for so many messages of ``size`` bytes together."""
        return messages <= self._tickets and size <= self.share * self._tickets + self._slack

    def take(self, size: int) -> bool:
        """Make room for one message of ``size`` bytes, or change nothing and return ``False``."""
        if size <= self.share:
            return self._pop(1)
        needed = self._needed(self._large_bytes + size, self._large_count + 1)
        if needed > self._tickets:
            if self._large_count:
                return False
            needed = self._tickets  # larger than all the room: let in alone, that is, for every ticket
        if not self._pop(needed - self._held):
            return False
        self._held = needed
        self._large_bytes += size
        self._large_count += 1
        return True

    def _needed(self, large_bytes: int, large_count: int) -> int:
        return max(large_count, -((self._slack - large_bytes) // self.share))

    def _pop(self, count: int) -> bool:
        if self._reserve and count > self._spare + len(self.pool):
            self.pool.extend(repeat(None, self._reserve))
            self._reserve = 0
        self.withdraw(count)
        if self._spare < count:
            return False
        self._spare -= count
        return True

    def withdraw(self, count: int | None = None) -> None:
        """Take tickets out of the pool, away from the fast path, until ``count`` are spare, or all."""
        try:
            while count is None or self._spare < count:
                self.pool.pop()
                self._spare += 1
        except IndexError:  # the pool is empty, or producers on the fast path were quicker
            pass

    def hold_back(self) -> None:
        """Keep the tickets from the fast path until ``let_go``, whoever publishes them."""
        self._is_held_back = True
        self._spare, self._reserve = self._spare + self._reserve, 0
        self.withdraw()

    def let_go(self) -> None:
        """End what ``hold_back`` began."""
        self._is_held_back = False

    def publish(self) -> None:
        """Give all spare tickets to the pool, that is, to the fast path."""
        if self._is_held_back:
            return
        self.pool.extend(repeat(None, self._spare))
        self._spare = 0

    def entered(self, item: Item) -> None:
        """Note an item that enters the queue through the mutex."""
        if isinstance(item, Entry):
            self._entries += 1

    def left(self, items: Sequence[Item]) -> None:
        """Account for items that have left the queue: the tickets of messages are spare."""
        if self._entries:
            self._entries -= sum(isinstance(item, Entry) for item in items)
            self._give_back(len(item) for item in items if is_message(item))
        elif self._large_count:
            self._give_back(map(len, items))
        else:
            self._spare += len(items)

    def _give_back(self, sizes: Iterable[int]) -> None:
        for size in sizes:
            if size <= self.share:
                self._spare += 1
            else:
                self._large_bytes -= size
                self._large_count -= 1
        needed = (
            min(self._needed(self._large_bytes, self._large_count), self._tickets) if self._large_count else 0
        )
        self._spare += self._held - needed
        self._held = needed
