"""What a ``TestClient`` has received: filled by the reader thread, looked through and emptied by the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Mailbox"]


class Mailbox:
    """Messages in order of arrival, each unread until it is taken. No user code under its lock.

    Args:
        remember: how many of the last messages, and errors, are kept; ``None``: all.
    """

    def __init__(self, remember: int | None = None) -> None:
        self._remember = remember
        self._changed = threading.Condition()
        self._count = 0  # _changed: all messages so far; the next one's index, which names it for good
        self._received: dict[int, Any] = {}  # _changed: by index, in order
        self._unread: dict[int, None] = {}  # _changed: indices, in order
        self._errors: list[BaseException] = []  # _changed
        self._errors_seen = 0  # _changed: how many the test has looked at
        self._end: tuple[int, str] | None = None  # _changed: code and reason, once closed

    # -- the reader thread ----------------------------------------------------------------------------

    def add(self, message: Any) -> None:
        """Put one message in."""
        with self._changed:
            self._unread[self._count] = None
            self._received[self._count] = message
            self._count += 1
            if self._remember is not None and len(self._received) > self._remember:
                self._forget(self._count - self._remember - 1)
            self._changed.notify_all()

    def add_error(self, error: BaseException) -> None:
        """Keep what went wrong."""
        with self._changed:
            self._errors.append(error)
            if self._remember is not None and len(self._errors) > self._remember:
                del self._errors[0]
                self._errors_seen = max(self._errors_seen - 1, 0)
            self._changed.notify_all()

    def close(self, code: int, reason: str) -> None:
        """Nothing more will come. The first time counts."""
        with self._changed:
            self._end = self._end or (code, reason)
            self._changed.notify_all()

    # -- the test: any thread ---------------------------------------------------------------------------

    @property
    def received(self) -> list[Any]:
        """Every message so far, taken or not."""
        with self._changed:
            return list(self._received.values())

    @property
    def unread(self) -> list[Any]:
        """The messages that nobody has taken."""
        with self._changed:
            return [self._received[index] for index in self._unread]

    @property
    def end(self) -> tuple[int, str] | None:
        """Code and reason of the close; ``None`` before it."""
        with self._changed:
            return self._end

    def look_at_errors(self) -> list[BaseException]:
        """Every error so far; they count as seen from now on."""
        with self._changed:
            self._errors_seen = len(self._errors)
            return list(self._errors)

    def unseen_errors(self) -> list[BaseException]:
        """The errors that nobody has looked at."""
        with self._changed:
            return self._errors[self._errors_seen :]

    def drain(self) -> list[Any]:
        """Take everything unread."""
        with self._changed:
            return self._take(len(self._unread))

    def take(self, count: int, timeout: float) -> list[Any] | None:
        """Take the oldest ``count`` unread messages at once; ``None``, and take none, if they do not come."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._unread) >= count or self._end, timeout)
            return self._take(count) if len(self._unread) >= count else None

    def take_match(self, matches: Callable[[Any], bool], timeout: float) -> tuple[Any] | None:
        """Take the oldest unread message that matches, as a tuple of one; ``None`` if there comes none."""
        deadline = time.monotonic() + timeout
        start = 0
        while self._wait_beyond(start, deadline):
            batch, start = self._unread_from(start)
            for index, message in batch:
                if matches(message) and self._claim(index):
                    return (message,)
        return None

    def wait_closed(self, timeout: float) -> bool:
        """Wait until nothing more can come."""
        with self._changed:
            return self._changed.wait_for(lambda: self._end is not None, timeout)

    def wait_noise(self, duration: float) -> bool:
        """Wait until there is anything unread, a further error, or the end; ``False`` if all stays quiet."""
        with self._changed:
            errors = len(self._errors)
            return self._changed.wait_for(
                lambda: bool(self._unread) or len(self._errors) > errors or self._end is not None, duration
            )

    def _forget(self, index: int) -> None:
        del self._received[index]
        self._unread.pop(index, None)

    def _take(self, count: int) -> list[Any]:
        indices = list(self._unread)[:count]
        for index in indices:
            del self._unread[index]
        return [self._received[index] for index in indices]

    def _wait_beyond(self, start: int, deadline: float) -> bool:
        # Whether there is a message at index start, or one comes in time.
        with self._changed:
            remaining = max(0.0, deadline - time.monotonic())
            self._changed.wait_for(lambda: self._count > start or self._end, remaining)
            return self._count > start

    def _unread_from(self, start: int) -> tuple[list[tuple[int, Any]], int]:
        # The unread messages from an index on, and the index to go on from.
        with self._changed:
            end = self._count
            first = max(start, end - len(self._received))
            return [(at, self._received[at]) for at in range(first, end) if at in self._unread], end

    def _claim(self, index: int) -> bool:
        # False when another thread took the message since it was looked at.
        with self._changed:
            return self._unread.pop(index, self) is None
