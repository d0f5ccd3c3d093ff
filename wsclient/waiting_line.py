"""Producers that wait for room in the send queue: first come, first served."""

from __future__ import annotations

import enum
import math
import threading
import time
from collections.abc import Callable

from wsclient.items import Item

__all__ = ["Outcome", "Waiter", "WaitingLine"]


class Outcome(enum.Enum):
    """What came of waiting."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class Waiter:
    """One producer and its item, which the writer thread appends for it when there is room."""

    __slots__ = ("item", "outcome", "size", "wake")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.size = len(item)
        self.outcome = Outcome.WAITING  # guarded by the queue's mutex
        self.wake = threading.Lock()  # released once, under the mutex, by whoever sets the outcome
        self.wake.acquire()

    def settle(self, outcome: Outcome) -> None:
        """End the wait. The caller holds the mutex."""
        self.outcome = outcome
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

    def refuse_all(self) -> None:
        """Send everybody away."""
        while self._waiters:
            self._waiters.pop(0).settle(Outcome.REFUSED)

    def wait(
        self,
        waiter: Waiter,
        timeout: float | None,
        look: Callable[[], None],
        due: Callable[[], float] = lambda: math.inf,
    ) -> Outcome:
        """Wait at most ``timeout`` seconds, without the mutex.

        ``look`` serves the line under it, and ``due`` tells when (monotonic) that may find something.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            while (until := due()) < deadline and not self._sleep(waiter, until):
                with self._mutex:
                    if waiter.outcome is Outcome.WAITING:  # else the queue may be closed by now
                        look()
            if waiter.outcome is Outcome.WAITING:
                self._sleep(waiter, deadline)
        finally:  # also when Ctrl-C ends the wait
            with self._mutex:
                if waiter.outcome is Outcome.WAITING:
                    look()
                if waiter.outcome is Outcome.WAITING:
                    self._waiters.remove(waiter)
                    look()  # it may have held up others, who need less room
        return waiter.outcome

    def _sleep(self, waiter: Waiter, until: float) -> bool:
        return waiter.wake.acquire(timeout=-1 if until == math.inf else max(until - time.monotonic(), 0))
