"""What a test left behind: connections, threads, sockets."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from wsclient import Connection, State

__all__ = ["Resources"]

_PATIENCE = 5.0  # seconds for threads and sockets that are about to end
_POLL = 0.01  # seconds; the system tells nobody when a socket of another thread is closed
_OWN_THREADS = "wsclient-"


@dataclass(frozen=True)
class Resources:
    """The threads and sockets of this process at one moment. Sockets are seen on Linux only."""

    threads: frozenset[threading.Thread]
    sockets: frozenset[str]

    @classmethod
    def now(cls) -> Resources:
        """Look."""
        return cls(frozenset(threading.enumerate()), _open_sockets())

    def leaked_since(self, patience: float = _PATIENCE) -> list[str]:
        """Say what is there now and was not before, after giving it ``patience`` seconds to end.

        Threads count when they are wsclient's own or not daemons. Objects that only the garbage collector can
        free are collected first.
        """
        deadline = time.monotonic() + patience
        if _await_none(self._leaks, time.monotonic()):
            return []
        gc.collect()
        return [] if _await_none(self._leaks, deadline) else [*_open_connections(self), *self._leaks()]

    def _leaks(self) -> list[str]:
        threads = [thread for thread in threading.enumerate() if self._is_leak(thread)]
        leaks = [f"thread {thread.name!r} is still running" for thread in threads]
        return leaks + sorted(f"{link} is still open" for link in _open_sockets() - self.sockets)

    def _is_leak(self, thread: threading.Thread) -> bool:
        if thread in self.threads or thread is threading.current_thread():
            return False
        return thread.name.startswith(_OWN_THREADS) or not thread.daemon


def _await_none(leaks: Callable[[], list[str]], deadline: float) -> bool:
    while leaks():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True


def _open_sockets() -> frozenset[str]:
    # By inode: a file number may be another socket's by now.
    if not sys.platform.startswith("linux"):
        return frozenset()
    return frozenset(link for link in map(_link, os.listdir("/proc/self/fd")) if link.startswith("socket:"))


def _link(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:  # closed meanwhile, as the file of the listing itself
        return ""


def _open_connections(before: Resources) -> list[str]:
    # A connection of before has its threads among those of before; its name is in theirs.
    known = " ".join(thread.name for thread in before.threads)
    connections = [thing for thing in gc.get_objects() if type(thing) is Connection]
    open_ones = [it for it in connections if it.state not in (State.NEW, State.CLOSED)]
    return [f"{it!r} was not closed" for it in open_ones if repr(it).split()[1] not in known]
