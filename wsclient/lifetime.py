"""What happens to open connections when the process forks or the interpreter exits.

The set of open connections below is the only state of the package that belongs to the process and not to a
connection, because exit and fork are events of the process.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from time import monotonic
from typing import Protocol

__all__ = ["LiveSet", "live"]

EXIT_TIMEOUT = 4.5  # seconds for all connections together to drain and close at interpreter exit
_FORCE_TIMEOUT = 0.4  # seconds more for those that had to be dropped


class Live(Protocol):
    """A connection, as far as exit and fork concern it."""

    def begin_close(self, code: int, reason: str, timeout: float) -> None: ...
    def drop(self) -> None: ...
    def wait_finished(self, timeout: float) -> bool: ...
    def forked(self) -> None: ...


class LiveSet:
    """The open connections of this process. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._members: weakref.WeakSet[Live] = weakref.WeakSet()  # _mutex

    def add(self, member: Live) -> None:
        with self._mutex:
            self._members.add(member)

    def discard(self, member: Live) -> None:
        with self._mutex:
            self._members.discard(member)

    def close_all(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Drain and close every connection, all of them together within ``timeout`` + 0.4 seconds."""
        with self._mutex:
            members = list(self._members)
        deadline = monotonic() + timeout
        for member in members:
            member.begin_close(1001, "interpreter exit", timeout)
        late = [member for member in members if not member.wait_finished(max(deadline - monotonic(), 0))]
        for member in late:
            member.drop()
        deadline = monotonic() + _FORCE_TIMEOUT
        for member in late:
            member.wait_finished(max(deadline - monotonic(), 0))

    def after_fork_in_child(self) -> None:
        """Disown every connection: its threads and its peer belong to the parent."""
        self._mutex = threading.Lock()  # the old one may have been held by a thread that is not here
        members, self._members = list(self._members), weakref.WeakSet()
        for member in members:
            member.forked()


live: LiveSet = LiveSet()
atexit.register(live.close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=live.after_fork_in_child)
