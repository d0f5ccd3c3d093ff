"""What a run did: where in the source, and what depended on what."""

from __future__ import annotations

from collections.abc import Iterable
from types import CodeType, FrameType

__all__ = ["History", "Source"]


class Source:
    """Names lines of the code under test."""

    def __init__(self, codes: Iterable[CodeType]) -> None:
        self._known = frozenset(map(id, codes))

    def line_of(self, frame: FrameType | None) -> str:
        """Name the line that ``frame`` is in, or was called from."""
        while frame is not None and id(frame.f_code) not in self._known:
            frame = frame.f_back
        if frame is None:
            return "?"
        code = frame.f_code
        return f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} {code.co_name}"


class History:
    """The past of each thread: its operations, with what each depends on, and nothing else.

    Two runs in which all threads have the same past are in the same state, in whatever order they ran the
    operations that do not depend on each other (Musuvathi and Qadeer, PLDI 2007).
    """

    def __init__(self, threads: int) -> None:
        # All of these belong to the running thread.
        self.pasts = list(range(threads))
        self._changes: dict[object, int] = {}  # the past of each location and lock, up to its last change
        self._reads: dict[object, int] = {}  # ... and who has read it since, in any order

    def note(self, thread: int, shared: object, *, writes: bool, timed_out: bool = False) -> None:
        """Add the use of something shared."""
        changed = self._changes.get(shared, 0)
        if writes:
            past = hash((self.pasts[thread], changed, self._reads.pop(shared, 0), timed_out))
            self._changes[shared] = past
        else:
            past = hash((self.pasts[thread], changed))
            self._reads[shared] = self._reads.get(shared, 0) ^ past
        self.pasts[thread] = past

    def note_private(self, thread: int) -> None:
        """Add an operation that depends on nothing."""
        self.pasts[thread] = hash((self.pasts[thread], thread))
