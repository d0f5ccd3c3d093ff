"""This process, looked at from inside: now and then under load, and at rest."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import wsclient
from benchmarks.limits import resident_bytes
from reliability.soak.faults import Faults
from reliability.soak.judge import Rest, Sample
from reliability.soak.traffic import Totals

__all__ = ["Diary", "Leftovers"]

_REST_SECONDS = 10.0  # for the proxy to notice that its clients have gone, and the like
_POLL_SECONDS = 0.05
Tell = Callable[[Sample], None]


class Diary:
    """Notes, in a file: memory is what is watched. For one thread.

    Args:
        path: of the file.
        every: seconds between two samples.
        tell: called with each sample.
    """

    def __init__(self, path: Path, totals: Totals, faults: Faults, every: float, tell: Tell) -> None:
        self._path = path
        self._totals = totals
        self._faults = faults
        self._every = every
        self._tell = tell
        self._trim = _trimmer()
        self._start = time.monotonic()

    def keep(self, seconds: float) -> None:
        """Take samples for so long."""
        # Waits for nothing but the clock: that is what a sample is a sample of. Never two at once, even
        # when this thread comes late: the picture shows what was done between two.
        end, never = time.monotonic() + seconds, threading.Event()
        with self._path.open("a") as file:
            while (left := end - time.monotonic()) >= self._every:
                never.wait(self._every)
                sample = self._sample()
                file.write(json.dumps(sample) + "\n")
                self._tell(sample)
        never.wait(max(0.0, left))

    def samples(self) -> list[Sample]:
        """All samples so far."""
        return [Sample(*json.loads(line)) for line in self._path.read_text().splitlines()]

    def rest(self, like: Rest | None = None) -> Rest:
        """What there is, with all connections closed.

        Args:
            like: an earlier rest, which this one waits to resemble, though not for ever.
        """
        deadline, never = time.monotonic() + _REST_SECONDS, threading.Event()
        found = self._rest()
        while like and found.exceeds(like) and time.monotonic() < deadline:
            never.wait(_POLL_SECONDS)
            found = self._rest()
        return found

    @property
    def _seconds(self) -> float:
        return round(time.monotonic() - self._start, 3)

    def _sample(self) -> Sample:
        self._trim(0)
        totals = self._totals
        return Sample(
            self._seconds,
            threading.active_count(),
            _count_files(),
            resident_bytes(),
            totals.messages,
            totals.closed,
            totals.open,
            self._faults.count,
        )

    def _rest(self) -> Rest:
        gc.collect()
        alive = sum(type(one) is wsclient.Connection for one in gc.get_objects())
        self._trim(0)
        return Rest(
            self._seconds,
            self._totals.closed,
            threading.active_count(),
            _count_files(),
            alive,
            sys.getallocatedblocks(),
            resident_bytes(),
        )


def _trimmer() -> Callable[[int], object]:
    """Give back to the system what is free: glibc keeps it for long, and for each thread that ever was."""
    found: Callable[[int], object] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found or int


def _count_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@dataclass(frozen=True)
class Leftovers:
    """Threads and open files before a soak, server and proxy included."""

    threads: frozenset[threading.Thread]
    files: int

    @classmethod
    def now(cls) -> Leftovers:
        """Before."""
        return cls(frozenset(threading.enumerate()), _count_files())

    def since(self) -> list[str]:
        """What there is beyond that now, in words."""
        threads = [one.name for one in threading.enumerate() if one not in self.threads]
        files = _count_files() - self.files
        return [f"threads are left: {', '.join(threads)}"] * bool(threads) + [
            f"{files} open files are left"
        ] * (files > 0)
