"""What one process notes while it runs: times and errors, from all its threads; emptied once a second."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Final

__all__ = ["ErrorNote", "Recorder"]

_MOST_KINDS: Final = 100  # of errors: more, and their names come from the server
_MOST_TEXT: Final = 500  # characters of the example


@dataclass(frozen=True, slots=True)
class ErrorNote:
    """Errors of one kind: how many, what the first said, and when on the monotonic clock."""

    kind: str
    count: int
    first: str
    at: float

    def plus(self, other: ErrorNote) -> ErrorNote:
        """Both together, with the example of the earlier."""
        early = min(self, other, key=lambda note: note.at)
        return ErrorNote(self.kind, self.count + other.count, early.first, early.at)


class Recorder:
    """Thread-safe. ``latencies`` and ``setups`` are times in seconds: append to them, one step of a deque."""

    def __init__(self) -> None:
        self.latencies: deque[float] = deque()  # any thread appends, the monitor takes
        self.setups: deque[float] = deque()  # the same
        self._mutex = threading.Lock()
        self._errors: dict[str, ErrorNote] = {}  # _mutex

    def error(self, kind: str, text: str, count: int = 1) -> None:
        """Note ``count`` errors of a kind."""
        note = ErrorNote(kind, count, text[:_MOST_TEXT], monotonic())
        with self._mutex:
            if kind not in self._errors and len(self._errors) >= _MOST_KINDS:
                note = ErrorNote("other", note.count, f"{kind}: {note.first}"[:_MOST_TEXT], note.at)
            known = self._errors.get(note.kind)
            self._errors[note.kind] = note if known is None else known.plus(note)

    def exception(self, error: BaseException) -> None:
        """Note an exception under the name of its class."""
        self.error(type(error).__name__, str(error) or type(error).__name__)

    def errors(self) -> dict[str, ErrorNote]:
        """All so far."""
        with self._mutex:
            return dict(self._errors)
