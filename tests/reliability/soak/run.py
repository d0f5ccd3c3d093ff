"""One soak: rounds of traffic and faults, this process sampled meanwhile, and looked through at rest."""

from __future__ import annotations

import logging
import platform
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reliability.journal import Kind
from reliability.proxy import FaultProxy
from reliability.servers import VerifyingServer
from reliability.soak.faults import Faults, cuts_in_frames
from reliability.soak.judge import Balance, Growth, Rest, Sample, balance, growth
from reliability.soak.process import Diary, Leftovers, Tell
from reliability.soak.traffic import Slot, Totals

__all__ = ["ROUNDS", "Soak", "soak"]

ROUNDS = 20
_END_SECONDS = 120.0  # for the last connections: each of their waits is bounded by a fraction of it
_CALLBACK_THREADS = 2


@dataclass(frozen=True)
class Soak:
    """What came of it.

    Attributes:
        samples: one each second or so, while there was traffic.
        rests: one before the first round, and one after each.
        refused: connections that could not be opened.
        faults: what was injected, and how often.
        left: threads and open files at the end, beyond those of the beginning, in words.
    """

    seconds: float
    seed: int
    python: str
    samples: tuple[Sample, ...]
    rests: tuple[Rest, ...]
    balance: Balance
    growth: tuple[Growth, ...]
    refused: int
    faults: dict[str, int]
    left: tuple[str, ...]

    @property
    def complaints(self) -> list[str]:
        """What is not as it must be; empty when all is well."""
        grown = [str(one) for one in self.growth if not one.is_flat]
        return [*grown, *self.left, *self.balance.complaints]


def _quiet(_: Sample) -> None:
    pass


def soak(
    seconds: float,
    seed: int = 1,
    slots: int = 6,
    every: float = 1.0,
    rounds: int = ROUNDS,
    tell: Tell = _quiet,
) -> Soak:
    """Disturb connections for so long, then end everything, and judge.

    Args:
        seconds: of traffic, all rounds together.
        seed: of kinds, sizes and faults; times depend on the machine.
        slots: connections at a time.
        every: seconds between two samples.
        rounds: after each of them all connections are closed, and what is left is counted.
        tell: called with each sample.
    """
    before, totals = Leftovers.now(), Totals()
    with _no_log(), tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        with VerifyingServer(folder, module="reliability.soak.server") as server:
            server.start()
            with FaultProxy(server.port, cuts_in_frames(seed)) as proxy:
                faults = Faults(proxy, server, seed)
                team = [Slot(number, proxy.url, seed, folder, totals) for number in range(slots)]
                diary = Diary(folder / "samples", totals, faults, every, tell)
                rests = [diary.rest()]
                for _ in range(rounds):
                    with _running(team, faults):
                        diary.keep(seconds / rounds)
                    rests.append(diary.rest(rests[0]))
                injected = {fault.name: count for fault, count in proxy.injected.items()} | faults.signals
            server.stop()
            assert not server.errors, server.errors
            records = [record for slot in team for record in slot.records()]
            judged = balance(records, server.arrivals(), server.count(Kind.GARBLED))
        samples = tuple(diary.samples())
    return Soak(
        seconds,
        seed,
        platform.python_version(),
        samples,
        tuple(rests),
        judged,
        tuple(growth(rests)),
        totals.refused,
        injected,
        tuple(before.since()),
    )


@contextmanager
def _no_log() -> Iterator[None]:
    # Callbacks raise, connections are lost; and whoever keeps a record keeps the connection of its traceback.
    log = logging.getLogger("wsclient")
    usual = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(usual)


@contextmanager
def _running(slots: Sequence[Slot], faults: Faults) -> Iterator[None]:
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
