"""Who gets into the send queue: room, the line of those who wait for it, and what happens when there is none.

Used under the mutex of the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from time import monotonic

from wsclient.doorbell import Doorbell
from wsclient.exceptions import QueueFull
from wsclient.front import Front
from wsclient.items import Item
from wsclient.options import Overflow
from wsclient.room import Room
from wsclient.waiting_line import Waiter, WaitingLine

__all__ = ["Admission"]


class Admission:
    """Lets items in that come through the mutex: large ones, entries, and all of them once the queue is full.

    Args:
        room: how much more may enter.
        line: producers that wait for room.
        front: where items leave, and which of them go ahead of all others.
        enter: appends an item that has got room.
        bell: wakes the writer.
        overflow: what is done when there is none.
        settle_expired, on_expired: called by ``tell_expired`` with each item, one after the other.
    """

    __slots__ = (
        "_bell",
        "_enter",
        "_expired",
        "_front",
        "_line",
        "_on_expired",
        "_overflow",
        "_room",
        "_settle_expired",
        "_tellers",
        "dropped",
        "expired",
    )

    def __init__(
        self,
        room: Room,
        line: WaitingLine,
        front: Front,
        bell: Doorbell,
        *,
        enter: Callable[[Item], None],
        overflow: Overflow,
        settle_expired: Callable[[Item], None],
        on_expired: Callable[[Item], None],
    ) -> None:
        self._room = room
        self._line = line
        self._front = front
        self._enter = enter
        self._bell = bell
        self._overflow = overflow
        self._settle_expired = settle_expired
        self._on_expired = on_expired
        self._expired: list[Item] = []  # extended under the mutex; any thread takes from it
        self._tellers: set[int] = set()  # each thread its own number
        self.expired: int = 0  # messages that made way because they had expired
        self.dropped: int = 0  # messages given up by overflow="drop_oldest"

    def admit(self, item: Item, may_wait: bool) -> Waiter | None:
        """Let an item in, or have it queue up. Raises ``QueueFull`` when it can do neither."""
        if self._goes_ahead(item) or self._admit_in_turn(item):
            return None
        if self._drop_expired() and self._admit_in_turn(item):
            return None
        if not may_wait or self._overflow is not Overflow.BLOCK:
            if not self._line:
                self._room.publish()
            raise QueueFull(f"the send queue is full: {self._front.waiting} messages are waiting")
        waiter = self._line.join(item)
        self._room.withdraw()  # first come, first served: nobody overtakes on the fast path
        return waiter

    def admit_dropping(self, item: Item) -> list[Item]:
        """Let an item in, giving up the oldest ones for it; return those."""
        dropped: list[Item] = []
        if not self._goes_ahead(item):
            while not self._admit(item):
                dropped.append(self._front.drop_oldest())
            self.dropped += len(dropped)
            self._room.publish()
        return dropped

    def admit_mark(self, item: Item) -> None:
        """Let something in that needs no room."""
        if not self._goes_ahead(item):
            self._enter(item)

    def _goes_ahead(self, item: Item) -> bool:
        if not self._front.is_greeter():
            return False
        self._front.put_ahead(item)
        self._bell.ring()
        return True

    def look(self) -> None:
        """Let in whoever there is room for by now."""
        self._drop_expired()
        self._front.serve_line()

    def due(self) -> float:
        """When (monotonic) that may make room again. Any thread, without the mutex."""
        return self._front.next_expiry

    def _drop_expired(self) -> bool:
        expired = self._front.drop_expired(monotonic())
        if expired:
            self.expired += len(expired)
            self._expired += expired
            self._front.serve_line()
            self._bell.ring()
        return bool(expired)

    def tell_expired(self) -> None:
        """Tell the application what was given up. Without the mutex, on the thread that looked."""
        me = get_ident()
        if not self._expired or me in self._tellers:  # on_dropped sends: the call around it goes on
            return
        self._tellers.add(me)
        try:
            while self._expired:
                self._tell(self._on_expired)
        finally:
            self._tellers.discard(me)

    def tell_rest(self, on_expired: Callable[[Item], None]) -> None:
        """Tell what a Ctrl-C has left to be told, at the end."""
        while self._expired:
            self._tell(on_expired)

    def _tell(self, on_expired: Callable[[Item], None]) -> None:
        try:
            item = self._expired[0]
            self._settle_expired(item)  # before it is taken off: it may be done twice, for a Ctrl-C may come
            self._expired.remove(item)
        except (LookupError, ValueError):  # another thread tells, too
            return
        on_expired(item)

    def _admit_in_turn(self, item: Item) -> bool:
        return not self._line and self._admit(item)

    def _admit(self, item: Item) -> bool:
        if not self._room.take(len(item)):
            return False
        self._enter(item)
        return True
