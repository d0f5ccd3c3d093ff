"""Received messages on their way to whoever wants them: bounded, with back-pressure to the reader thread.

The same pattern as in ``send_queue``, with the roles exchanged: the reader thread appends, then looks for
waiting consumers; a consumer registers, then looks for messages once more. So a message is taken with one
``popleft`` and no mutex as long as there is one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from wsclient.exceptions import Timeout

__all__ = ["Inbox", "InboxClosed", "InboxLeft"]

T = TypeVar("T")


class InboxClosed(Exception):
    """Nothing is left, and nothing will come."""


class InboxLeft(Exception):
    """The consumer does not want to wait any more."""


class Inbox(Generic[T]):
    """One producer, the reader thread; any number of consumers.

    Args:
        max_items: bound in items.
        max_bytes: bound in bytes; one item larger than that is accepted alone.
        size: size of an item in bytes.
        notify: called on the reader thread when items have come, for a consumer that does not wait here.
    """

    def __init__(
        self,
        max_items: int,
        max_bytes: int,
        *,
        size: Callable[[T], int],
        notify: Callable[[], None] | None = None,
    ) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._size = size
        self._notify = notify
        self._items: deque[T] = deque()  # appended by the reader thread, popped by consumers
        self._bytes = 0  # reader thread: at least what is in _items
        self._mutex = threading.Lock()
        self._waiters: list[threading.Lock] = []  # _mutex; read without it by the reader thread
        self._paused = False  # _mutex; read without it by consumers
        self._wanted = 0  # reader thread, before it sets _paused: size of the item that found no room
        self._room = threading.Lock()  # released under _mutex by whoever clears _paused
        self._room.acquire()
        self._closed = False  # _mutex: nothing more will come
        self._unlimited = False  # _mutex: nobody is waited for any more; what finds no room is dropped
        self.drops: bool = False  # reader thread: after the first one everything, so that there is no hole
        self.dropped: int = 0  # reader thread
        self.high: int = 0  # reader thread

    def __len__(self) -> int:
        return len(self._items)

    # -- the reader thread ----------------------------------------------------------------------------

    def put_all(self, items: list[T]) -> None:
        """Hand over items in order; blocks while there is no room for them, until ``stop_waiting``."""
        start = 0
        while start < len(items):
            count = 0 if self.drops else self._fitting(items, start)
            if count:
                self._items.extend(items[start : start + count] if count < len(items) else items)
                start += count
                self.high = max(self.high, len(self._items))
                self._wake_consumers(count)
            elif not self._wait_for_room(self._size(items[start])):
                self.drops = True
                self.dropped += len(items) - start
                return

    def put_last(self, item: T) -> None:
        """Hand over one item, room or not; never blocks. For the few that must not be dropped."""
        self._items.append(item)
        self._wake_consumers(1)

    def _fitting(self, items: list[T], start: int) -> int:
        count = min(self._max_items - len(self._items), len(items) - start)
        if count <= 0:
            return 0
        size = sum(map(self._size, items[start : start + count]))
        if self._bytes + size > self._max_bytes:
            self._bytes = sum(map(self._size, list(self._items)))
        if self._bytes + size > self._max_bytes:
            count, size = self._fitting_bytes(items, start)
        self._bytes += size
        return count

    def _fitting_bytes(self, items: list[T], start: int) -> tuple[int, int]:
        count = total = 0
        for position in range(start, min(len(items), start + self._max_items - len(self._items))):
            size = self._size(items[position])
            alone = not self._items and not count
            if self._bytes + total + size > self._max_bytes and not alone:
                break
            total += size
            count += 1
        return count, total

    def _wake_consumers(self, count: int) -> None:
        if self._notify is not None:
            self._notify()
        if self._waiters:
            with self._mutex:
                for _ in range(min(count, len(self._waiters))):
                    self._waiters.pop(0).release()

    def _wait_for_room(self, size: int) -> bool:
        with self._mutex:
            if self._unlimited:
                return False
            self._wanted = size
            self._paused = True
        if self._has_room():
            self._resume()
        self._room.acquire()
        return True

    def _has_room(self) -> bool:
        # Half of it, so that the reader does not wake up for each item, and enough for the next one.
        most = min(self._max_bytes // 2, self._max_bytes - self._wanted)
        return len(self._items) <= self._max_items // 2 and (
            not self._items or sum(map(self._size, list(self._items))) <= most
        )

    # -- consumers: any thread ------------------------------------------------------------------------

    def get(self, timeout: float | None, leaves: Callable[[], bool] = lambda: False) -> T:
        """Take the oldest item, waiting for one at most ``timeout`` seconds.

        Args:
            leaves: tells whether to stop waiting; asked first and whenever somebody calls ``rouse``.

        Raises:
            Timeout: none came.
            InboxClosed: none is left and none will come.
            InboxLeft: none is left, and ``leaves`` says so.
        """
        item = self.poll()
        if item is None:
            item = self._wait_for_item(timeout, leaves)
            if self._paused and self._has_room():
                self._resume()
        return item

    def poll(self) -> T | None:
        """Take the oldest item; ``None`` when there is none now."""
        try:
            item = self._items.popleft()
        except IndexError:
            return None
        if self._paused and self._has_room():
            self._resume()
        return item

    def _wait_for_item(self, timeout: float | None, leaves: Callable[[], bool]) -> T:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            waiter = self._register()
            if self._items or self._closed or leaves():  # the mirror of put_all, close and rouse
                self._leave(waiter)
                woken = True
            else:
                woken = self._wait(waiter, deadline)
            try:
                return self._items.popleft()
            except IndexError:  # another consumer was quicker, or none has come
                if leaves():
                    raise InboxLeft from None
                if not woken:
                    raise Timeout(f"no message within {timeout} s") from None

    def _register(self) -> threading.Lock:
        waiter = threading.Lock()
        waiter.acquire()
        with self._mutex:
            if self._closed and not self._items:
                raise InboxClosed
            self._waiters.append(waiter)
            return waiter

    def _wait(self, waiter: threading.Lock, deadline: float | None) -> bool:
        woken = False
        try:
            woken = waiter.acquire(timeout=-1 if deadline is None else max(deadline - time.monotonic(), 0))
        finally:
            if not woken:  # too late, or Ctrl-C
                self._leave(waiter)
        return woken

    def _leave(self, waiter: threading.Lock) -> None:
        with self._mutex:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif self._items and self._waiters:
                self._waiters.pop(0).release()  # the wake-up was for a message that is still there

    def _resume(self) -> None:
        with self._mutex:
            if self._paused:
                self._paused = False
                self._room.release()

    # -- the end --------------------------------------------------------------------------------------

    def stop_waiting(self) -> None:
        """Do not block the reader any more: it has the end of the stream to find. Thread-safe."""
        with self._mutex:
            self._unlimited = True
        self._resume()

    def wait_again(self) -> None:
        """Have the reader wait for room again: there is another stream. Reader thread."""
        with self._mutex:
            self._unlimited = self.drops = False

    def close(self) -> None:
        """Let consumers have what is left, and then ``InboxClosed``."""
        with self._mutex:
            self._closed = True
        self.rouse()

    def rouse(self) -> None:
        """Have all consumers look again. Any thread."""
        with self._mutex:
            while self._waiters:
                self._waiters.pop(0).release()

    def clear(self) -> None:
        """Forget everything, in a forked child."""
        self._items.clear()
        self._closed = True
