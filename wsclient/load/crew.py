"""One process's share of a run: its connections, their workers, and the two threads that look after them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from typing import Final as Constant

from wsclient.load.control import PATIENCE, Control
from wsclient.load.ends import End, MessageEnd, ScenarioEnd
from wsclient.load.line import Line
from wsclient.load.measure import binned, drain
from wsclient.load.messages import Final, Opened, Report, Share, Tick
from wsclient.load.monitor import Monitor
from wsclient.load.recorder import Recorder
from wsclient.load.result import Account
from wsclient.load.scenario import load_scenario

__all__ = ["Crew"]

_DIALLING: Constant = 32  # connections that open at the same time
_CONFIRM: Constant = 1.0  # seconds between two rounds of confirmations, and for each of them


class Crew:
    """A share of a run. ``open``, then ``run``; ``stop`` and ``abort`` from any thread.

    Args:
        share: what to do.
        report: takes ``Opened``, a ``Tick`` each second and at the end ``Final``; called by several threads,
            one at a time.

    Raises:
        ValueError: the scenario cannot be loaded.
    """

    def __init__(self, share: Share, report: Callable[[Report], None]) -> None:
        self._share, self._report = share, report
        self._control = Control()
        self._recorder = Recorder()
        self._monitor = Monitor(self._tick)
        plan = share.plan
        self._scenario = None if plan.scenario is None else load_scenario(plan.scenario)
        self._opened = threading.Semaphore(0)
        dialling = threading.BoundedSemaphore(_DIALLING)
        self._lines = [
            Line(
                *(plan, number, partial(self._make_end, number), dialling),
                *(self._control, self._recorder, self._opened.release),
            )
            for number in share.connections
        ]
        # The thread that opens and runs it.
        self._threads: list[threading.Thread] = []
        # The monitor's thread, then the one that runs it: what the last tick has told.
        self._sent = 0
        self._received = 0
        self._errors: dict[str, int] = {}

    def _make_end(self, number: int) -> End:
        share = self._share
        if self._scenario is not None:
            return ScenarioEnd(share.plan, number, self._scenario, self._recorder)
        return MessageEnd(share.plan, number, share.nonce, share.lines, self._recorder)

    def open(self) -> None:
        """Open the connections that are to be open at the start; returns when each is, or has failed."""
        for line in self._lines:
            thread = threading.Thread(target=line.drive, name="wsclient-load-connection", daemon=True)
            thread.start()
            self._threads.append(thread)
        for _ in self._lines:
            self._opened.acquire()
        self._report(Opened(self._share.index))

    def run(self, start: float) -> None:
        """Start at a moment of the monotonic clock; returns when all is done and told."""
        self._monitor.start(start)
        watch = threading.Thread(target=self._watch, name="wsclient-load-watch", daemon=True)
        watch.start()
        self._control.start(start)
        for thread in self._threads:
            thread.join()
        watch.join()
        self._monitor.stop()
        self._tick(self._monitor.second)
        stops = [line.stopped_at for line in self._lines if line.stopped_at is not None]
        stopped = max(max(stops, default=start) - start, 0.0)
        self._report(Final(process=self._share.index, account=self._account(), stopped=stopped))

    def stop(self) -> None:
        """End early: send nothing new, wait a moment for answers, close."""
        self._control.stop()

    def abort(self) -> None:
        """Drop everything now."""
        self._control.stop()
        for line in self._lines:
            line.abort()

    def _account(self) -> Account:
        return sum((line.running() for line in self._lines), Account())

    # -- the watch ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        # One connection after the other: one that is stuck delays what is known of the others, not them.
        while self._working():
            began = monotonic()
            for line in self._lines:
                if self._working():
                    line.look_after(_CONFIRM)
            while monotonic() < began + _CONFIRM and self._working():
                sleep(PATIENCE)

    def _working(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    # -- once a second --------------------------------------------------------------------------------

    def _tick(self, second: int) -> None:
        usage = self._monitor.usage()
        sent = sum(line.end.sent for line in self._lines)
        received = sum(line.end.received for line in self._lines)
        notes = self._recorder.errors()
        counts = {kind: note.count for kind, note in notes.items()}
        errors = {kind: count - self._errors.get(kind, 0) for kind, count in counts.items()}
        tick = Tick(
            process=self._share.index,
            second=second,
            sent=sent - self._sent,
            received=received - self._received,
            errors={kind: count for kind, count in errors.items() if count},
            notes=notes,
            open_connections=sum(line.is_open for line in self._lines),
            bins=binned(drain(self._recorder.latencies)),
            setups=binned(drain(self._recorder.setups)),
            attempted=sum(line.attempted for line in self._lines),
            opened=sum(line.opened for line in self._lines),
            lags=binned(usage.lags),
            cpu=usage.cpu,
            cpu_seconds=usage.cpu_seconds,
            max_rss=usage.max_rss,
            threads=usage.threads,
            account=self._account(),
            attempts=self._attempts(),
        )
        self._sent, self._received, self._errors = sent, received, counts
        self._report(tick)

    def _attempts(self) -> dict[int, tuple[int, ...]]:
        workers = range(self._share.plan.workers)
        return {line.number: tuple(map(line.end.attempted_by, workers)) for line in self._lines}
