"""One soak: traffic and faults, and this process sampled meanwhile."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.limits import resident_bytes
from reliability.journal import Kind
from reliability.proxy import FaultProxy
from reliability.servers import VerifyingServer
from reliability.soak.faults import Faults, cuts_in_frames
from reliability.soak.judge import Balance, Growth, Sample, balance, growth
from reliability.soak.traffic import Slot, Totals

__all__ = ["Soak", "soak"]

_END_SECONDS = 120.0  # for the last connections: each of their waits is bounded by a fraction of it
_CALLBACK_THREADS = 2
Tell = Callable[[Sample], None]


@dataclass(frozen=True)
class Soak:
    """What came of it.

    Attributes:
        refused: connections that could not be opened.
        faults: what was injected, and how often.
        left: threads and open files at the end, beyond those of the beginning, in words.
    """

    seconds: float
    seed: int
    python: str
    samples: tuple[Sample, ...]
    balance: Balance
    growth: tuple[Growth, ...]
    refused: int
    faults: dict[str, int]
    left: tuple[str, ...]

    @property
    def complaints(self) -> list[str]:
        """What is not as it must be; empty when all is well."""
        grown = [
            f"{one.what} grew from {one.before:,.1f} to {one.after:,.1f} (tolerance {one.tolerance:,.1f})"
            for one in self.growth
            if not one.is_flat
        ]
        return [*grown, *self.left, *self.balance.complaints]


def _quiet(_: Sample) -> None:
    pass


def soak(seconds: float, seed: int = 1, slots: int = 6, every: float = 1.0, tell: Tell = _quiet) -> Soak:
    """Disturb connections for so long, then end everything, and judge.

    Args:
        seconds: of traffic.
        seed: of kinds, sizes and faults; times depend on the machine.
        slots: connections at a time.
        every: seconds between two samples.
        tell: called with each sample.
    """
    # The first server, so that imports and the like are not taken for leaks.
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        before, folder, totals = _Files.now(), Path(name), Totals()
        with VerifyingServer(folder, module="reliability.soak.server") as server:
            server.start()
            with FaultProxy(server.port, cuts_in_frames(seed)) as proxy:
                faults = Faults(proxy, server, seed)
                teams = [Slot(number, proxy.url, seed, folder, totals) for number in range(slots)]
                with _running(teams, faults):
                    samples = list(_samples(seconds, every, totals, faults, tell))
                injected = {fault.name: count for fault, count in proxy.injected.items()} | faults.signals
            server.stop()
            left = before.left()
            assert not server.errors, server.errors
            records = [record for team in teams for record in team.records()]
            judged = balance(records, server.arrivals(), server.count(Kind.GARBLED))
    return Soak(
        seconds,
        seed,
        platform.python_version(),
        tuple(samples),
        judged,
        tuple(growth(samples)),
        totals.refused,
        injected,
        tuple(left),
    )


@contextmanager
def _running(slots: list[Slot], faults: Faults) -> Iterator[None]:
    stop, calm = threading.Event(), threading.Event()
    with (
        ThreadPoolExecutor(_CALLBACK_THREADS) as executor,
        ThreadPoolExecutor(1) as injector,
        ThreadPoolExecutor(len(slots)) as pool,
    ):
        teams = [pool.submit(slot.run, executor, stop) for slot in slots]
        harm = injector.submit(faults.run, calm)
        try:
            yield
        finally:
            calm.set()
            stop.set()
        harm.result(_END_SECONDS)
        for team in teams:
            team.result(_END_SECONDS)


def _samples(seconds: float, every: float, totals: Totals, faults: Faults, tell: Tell) -> Iterator[Sample]:
    # Waits for nothing but the clock: that is what a sample is a sample of.
    start, never, trim = time.monotonic(), threading.Event(), _trimmer()
    number = 1
    while (due := number * every) <= seconds:
        never.wait(max(0.0, start + due - time.monotonic()))
        trim(0)
        sample = Sample(
            round(time.monotonic() - start, 3),
            threading.active_count(),
            _count_files(),
            resident_bytes(),
            totals.messages,
            totals.closed,
            totals.open,
            faults.count,
        )
        tell(sample)
        yield sample
        number += 1


def _trimmer() -> Callable[[int], object]:
    """Give back to the system what is free: glibc keeps it for long, and for each thread that ever was."""
    found: Callable[[int], object] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found or int


def _count_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@dataclass(frozen=True)
class _Files:
    threads: frozenset[threading.Thread]
    count: int

    @classmethod
    def now(cls) -> _Files:
        return cls(frozenset(threading.enumerate()), _count_files())

    def left(self) -> list[str]:
        """What there is beyond that now. ``server`` holds its port, so one file more is right."""
        gc.collect()
        threads = [one.name for one in threading.enumerate() if one not in self.threads]
        files = _count_files() - self.count - 1
        return [f"threads are left: {', '.join(threads)}"] * bool(threads) + [
            f"{files} open files are left"
        ] * (files > 0)
