"""What the generator itself is like while it runs: processor time, memory, threads, how late its timers are.

Its thread sleeps 10 ms at a time. How much longer that takes is the *lag*: what also happens to every worker
that waits for its moment, and to every answer that waits for its thread. Where it is large, the latencies are
the generator's own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, process_time, sleep
from typing import Final

__all__ = ["Monitor", "Usage", "max_rss"]

_PERIOD: Final = 0.01  # seconds


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used in a while.

    Attributes:
        cpu: share of one core.
        cpu_seconds: since the monitor was made.
        max_rss: largest resident memory so far, bytes; 0 where it is not known.
        threads: the most so far.
        lags: seconds that each sleep took too long.
    """

    cpu: float
    cpu_seconds: float
    max_rss: int
    threads: int
    lags: list[float]


def max_rss() -> int:
    """Largest resident memory of this process in bytes; 0 where the system does not say."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Monitor:
    """Runs ``tick(second)`` at the end of each second of the run, in a thread of its own.

    Args:
        tick: called with the number of the second that is over; must not raise.
    """

    def __init__(self, tick: Callable[[int], None]) -> None:
        self._tick = tick
        self._began = process_time()
        # The monitor's thread; once that has ended, the one that stops it.
        self._lags: list[float] = []
        self._threads = threading.active_count()
        self._last_cpu = self._began
        self._last_time = monotonic()
        self.second: int = 0
        self._stopping = False  # the thread that stops it
        self._thread: threading.Thread | None = None  # the thread that starts and stops it

    def start(self, start: float) -> None:
        """Begin with the second that starts at ``start`` on the monotonic clock."""
        self._last_time, self._last_cpu = monotonic(), process_time()
        self._thread = threading.Thread(
            target=self._run, args=(start,), name="wsclient-load-monitor", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it. ``second`` is then the one that has begun and not been told."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join()

    def usage(self) -> Usage:
        """What was used since this was asked for last. For ``tick``."""
        now, cpu = monotonic(), process_time()
        share = (cpu - self._last_cpu) / max(now - self._last_time, 1e-6)
        lags, self._lags = self._lags, []
        self._last_time, self._last_cpu = now, cpu
        return Usage(share, cpu - self._began, max_rss(), self._threads, lags)

    def _run(self, start: float) -> None:
        while not self._stopping:
            before = monotonic()
            self._threads = max(self._threads, threading.active_count())
            if before >= start:  # until then connections are opened, which is not what is measured
                sleep(_PERIOD)
                self._lags.append(max(monotonic() - before - _PERIOD, 0.0))
            else:
                sleep(min(_PERIOD, start - before))
            if monotonic() >= start + self.second + 1:
                self._tick(self.second)
                self.second += 1
