"""Producers that wait for room in the send queue: first come, first served."""

from __future__ import annotations

import enum
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

from wsclient.items import Item

__all__ = ["Outcome", "Waiter", "WaitingLine"]


class Outcome(enum.Enum):
    """What came of waiting."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class Lookout(Protocol):
    """Where those who wait find room that nobody tells them of."""

    def look(self) -> None:
        """Serve the line. Under the mutex."""

    def due(self) -> float:
        """When (monotonic) that may find something. Without the mutex."""

    def tell_expired(self) -> None:
        """Tell the application what made way. Without the mutex."""


class Waiter:
    """One producer and its item, which the writer thread appends for it when there is room."""

    __slots__ = ("item", "outcome", "size", "wake")

    def __init__(self, item: Item) -> None:
        self.item: Item = item
        self.size: int = len(item)
        self.outcome: Outcome = Outcome.WAITING  # guarded by the queue's mutex
        self.wake: threading.Lock = threading.Lock()  # released under the mutex
        self.wake.acquire()

    def settle(self, outcome: Outcome) -> None:
        """End the wait. The caller holds the mutex."""
        self.outcome = outcome
        self.nudge()

    def nudge(self) -> None:
        """Have the producer look at the outcome and at the clock. The caller holds the mutex."""
        if self.wake.locked():  # else a nudge is on its way already: it will find what is new
            self.wake.release()


class WaitingLine:
    """The waiting producers of one queue, whose mutex guards it: callers hold it, but for ``wait``."""

    __slots__ = ("_mutex", "_waiters")

    def __init__(self, mutex: threading.Lock) -> None:
        self._mutex = mutex
        self._waiters: list[Waiter] = []  # _mutex

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def join(self, item: Item) -> Waiter:
        """Queue up."""
        waiter = Waiter(item)
        self._waiters.append(waiter)
        return waiter

    def serve(self, has_room: Callable[[int], bool], accept: Callable[[Item], None]) -> None:
        """Accept items from the front of the line for as long as there is room for them."""
        while self._waiters and has_room(self._waiters[0].size):
            waiter = self._waiters.pop(0)
            accept(waiter.item)
            waiter.settle(Outcome.ACCEPTED)

    def nudge(self) -> None:
        """Have everybody look at the clock again: room may come free earlier than they know."""
        for waiter in self._waiters:
            waiter.nudge()

    def refuse_all(self) -> None:
        """Send everybody away."""
        while self._waiters:
            self._waiters.pop(0).settle(Outcome.REFUSED)

    def wait(self, waiter: Waiter, timeout: float | None, lookout: Lookout) -> Outcome:
        """Wait at most ``timeout`` seconds, without the mutex."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            while waiter.outcome is Outcome.WAITING and time.monotonic() < deadline:
                if not self._sleep(waiter, min(lookout.due(), deadline)):
                    self._look(waiter, lookout)
                    lookout.tell_expired()
        finally:  # also when Ctrl-C ends the wait
            with self._mutex:
                if waiter.outcome is Outcome.WAITING:
                    lookout.look()
                if waiter.outcome is Outcome.WAITING:
                    self._waiters.remove(waiter)
                    lookout.look()  # it may have held up others, who need less room
        return waiter.outcome

    def _look(self, waiter: Waiter, lookout: Lookout) -> None:
        with self._mutex:
            if waiter.outcome is Outcome.WAITING:  # else the queue may be closed by now
                lookout.look()

    def _sleep(self, waiter: Waiter, until: float) -> bool:
        return waiter.wake.acquire(timeout=-1 if until == math.inf else max(until - time.monotonic(), 0))
