"""Standard input, for somebody who must not be stuck in it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator

__all__ = ["Intake"]

_CHUNK = 64 * 1024
_CHUNKS = 8  # that wait, at most


class Intake:
    """Reads a file on a thread of its own; one consumer takes what it has read, in pieces.

    The thread is a daemon, and uses the file's number: nothing can interrupt a read of a terminal or a pipe,
    and a buffered file would be locked at the end of the interpreter.

    Args:
        number: of the file, open for reading.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._changed = threading.Condition()  # the lock of all below
        self._chunks: deque[bytes] = deque()
        self._ended = False  # nothing more will come
        self._stopped = False  # nothing more is wanted
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="command-input", daemon=True)

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        with self._changed:
            return self._stopped

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Have the consumer go on as if the input had ended. From any thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def chunks(self) -> Iterator[bytes]:
        """What was read, until the input ends or is stopped. Raises ``OSError`` when it can't be read."""
        while (chunk := self._next()) is not None:
            yield chunk

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._ended or self._stopped)
            if self._stopped:
                return None
            if self._chunks:
                self._changed.notify_all()
                return self._chunks.popleft()
            if self._error is not None:
                raise self._error
            return None

    def _run(self) -> None:
        error = None
        try:
            while (chunk := os.read(self._number, _CHUNK)) and self._put(chunk):
                pass
        except OSError as caught:
            error = caught
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def _put(self, chunk: bytes) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: len(self._chunks) < _CHUNKS or self._stopped)
            self._chunks.append(chunk)
            self._changed.notify_all()
            return not self._stopped
