"""How producers wake the writer, and how they know, without a lock, that they have to."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Doorbell"]


class Doorbell:
    """The sleep of one thread. Works under the mutex of the queue it belongs to.

    ``look`` is the flag of the protocol in ``send_queue``: the writer sets it before it looks for messages a
    last time and sleeps; a producer appends its message and then reads it.
    """

    __slots__ = ("_mutex", "_nudged", "_sleeping", "_wake", "look", "stuck")

    def __init__(self, mutex: threading.Lock) -> None:
        self._mutex = mutex
        self.look: bool = False  # written under _mutex, read by producers without it
        self.stuck: bool = False  # _mutex: `look` stays set, for there is always something to find out
        self._sleeping = False  # _mutex: the writer is in sleep() and nobody has woken it yet
        self._nudged = False  # _mutex: the next sleep() returns at once
        self._wake = threading.Lock()  # released under _mutex by whoever clears _sleeping
        self._wake.acquire()

    def ring(self) -> None:
        """Wake the writer if it sleeps. The caller holds the mutex."""
        if self._sleeping:
            self._awake()
            self._wake.release()

    def nudge(self) -> None:
        """Wake the writer, or keep it from its next sleep. The caller holds the mutex."""
        self._nudged = True
        self.ring()

    def stick(self) -> None:
        """From now on every producer has to look. The caller holds the mutex, or is alone."""
        self.look = self.stuck = True

    def sleep(self, timeout: float | None, ready: Callable[[], bool]) -> None:
        """Sleep until the bell rings, at most ``timeout`` seconds, unless ``ready``. Writer thread only."""
        with self._mutex:
            if self._nudged:
                self._nudged = False
                return
            self._sleeping = self.look = True
        if ready() or not self._wake.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            self._get_up()

    def _get_up(self) -> None:
        with self._mutex:
            if self._sleeping:
                self._awake()
            else:  # somebody has rung in the meantime: take that back
                self._wake.acquire()

    def _awake(self) -> None:
        self._sleeping = False
        self.look = self.stuck
