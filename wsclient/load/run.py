"""``run(plan)``: one load run, from the first connection to the result."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from time import monotonic
from typing import Final

from wsclient.load.collector import Collector
from wsclient.load.log import quiet_log
from wsclient.load.measure import require_histograms
from wsclient.load.messages import Share
from wsclient.load.payload import described, new_nonce, read_lines
from wsclient.load.plan import Expect, Plan
from wsclient.load.processes import Host, ProcessHost, ThreadHost
from wsclient.load.remarks import account_remarks, connection_remarks, generator_remarks, rate_remarks
from wsclient.load.result import Latency, PlanSummary, Progress, Result, Second
from wsclient.load.scenario import load_scenario

__all__ = ["OnProgress", "run", "summary_of"]

OnProgress = Callable[[Progress], None]

_POLL: Final = 0.1  # seconds between two looks at ``stop``
_HEAD_START: Final = 0.1  # seconds from the order to start until it starts, so that all start together


def run(plan: Plan, *, on_progress: OnProgress | None = None, stop: threading.Event | None = None) -> Result:
    """Run a plan and return what it found. Connections that fail are in the result, and raise nothing.

    Ctrl-C (``KeyboardInterrupt`` in the thread that runs this) and ``stop`` end it early: nothing new is
    sent, answers are waited for another second, and the result says ``interrupted``. A second Ctrl-C drops
    everything and is raised. With ``processes`` over 1 a program needs the usual ``if __name__ ==
    "__main__":`` around what it does, for each process imports it.

    Args:
        plan: what to do.
        on_progress: called once a second, in this thread; what it raises ends the run and is passed on.
        stop: set it from any thread to end the run early.

    Raises:
        ValueError: the payload file or the scenario cannot be used.
        RuntimeError: ``hdrhistogram`` is not installed; the text names the extra.
    """
    require_histograms()
    host = _host(plan)
    with quiet_log():
        try:
            return _Run(plan, host, on_progress, stop or threading.Event()).run()
        finally:
            host.close()


def _host(plan: Plan) -> Host:
    lines = () if plan.payload_file is None else read_lines(plan.payload_file)
    nonce = new_nonce()
    shares = [
        Share(
            plan=plan,
            index=index,
            connections=tuple(range(index, plan.connections, plan.processes)),
            nonce=nonce,
            lines=lines,
        )
        for index in range(plan.processes)
    ]
    if len(shares) == 1:
        return ThreadHost(shares[0])
    if plan.scenario is not None:
        load_scenario(plan.scenario)  # here, where its error can be raised
    return ProcessHost(shares)


class _Run:
    """A run under way, in the thread that called ``run``."""

    def __init__(self, plan: Plan, host: Host, on_progress: OnProgress | None, stop: threading.Event) -> None:
        self._plan, self._host, self._on_progress, self._stop = plan, host, on_progress, stop
        self._collector = Collector(plan, plan.processes)
        # The thread that runs it.
        self._start = math.inf
        self._interrupted = False
        self._interrupted_at = math.inf

    def run(self) -> Result:
        """Do it."""
        self._until(lambda: self._collector.all_opened, first=self._host.begin)
        self._start = monotonic() + _HEAD_START
        started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._until(lambda: self._collector.all_done, first=lambda: self._host.start(self._start))
        return self._result(started)

    def _until(self, is_over: Callable[[], bool], first: Callable[[], None]) -> None:
        first()
        while not is_over():
            try:
                self._turn()
            except KeyboardInterrupt:
                if self._interrupted:
                    raise
                self._interrupt()

    def _turn(self) -> None:
        if self._stop.is_set() and not self._interrupted:
            self._interrupt()
        for report in self._host.poll(_POLL):
            second = self._collector.add(report)
            if second is not None and self._on_progress is not None:
                self._on_progress(self._progress(second))

    def _interrupt(self) -> None:
        self._interrupted = True
        self._interrupted_at = monotonic()
        self._host.stop()

    def _progress(self, second: Second) -> Progress:
        attempted, opened = self._collector.connections
        latencies = self._collector.percentiles
        return Progress(
            elapsed=max(monotonic() - self._start, 0.0),
            second=second,
            account=self._collector.account,
            samples=latencies.count,
            percentiles=latencies.percentiles(),
            errors=sum(error.count for error in self._collector.errors(self._start)),
            opened=opened,
            failed=attempted - opened,
        )

    def _result(self, started: str) -> Result:
        plan, collector = self._plan, self._collector
        until = max(self._interrupted_at - self._start, 0.0) if self._interrupted else math.inf
        account = collector.account.with_skipped(collector.skipped(until))
        elapsed, seconds, latency = collector.stopped, collector.seconds(), self._latency()
        setup, resources = collector.setup(), collector.resources()
        warnings = (
            *connection_remarks(plan, setup, seconds),
            *generator_remarks(
                seconds[: max(math.ceil(elapsed), 1)],
                *(resources, latency),
                processes=plan.processes,
                cores=os.cpu_count() or 1,
            ),
            *rate_remarks(plan, seconds, account, elapsed),
            *account_remarks(plan, account),
        )
        return Result(
            plan=summary_of(plan),
            started=started,
            elapsed=elapsed,
            account=account,
            latency=latency,
            seconds=seconds,
            errors=collector.errors(self._start),
            setup=setup,
            resources=resources,
            warnings=warnings,
            interrupted=self._interrupted,
        )

    def _latency(self) -> Latency:
        plan = self._plan
        what = "scenario" if plan.scenario else "round trip" if plan.answers else "time to written"
        return self._collector.latency(what, "sent" if plan.total_rate is None else "intended")


def summary_of(plan: Plan) -> PlanSummary:
    """A plan for readers, without secrets."""
    return PlanSummary(
        urls=plan.shown_urls,
        connections=plan.connections,
        workers=plan.workers,
        processes=plan.processes,
        loop="closed" if plan.total_rate is None else "open",
        rate=plan.total_rate,
        duration=plan.duration,
        messages=plan.messages,
        ramp=plan.ramp,
        payload=described(plan),
        expect="scenario" if plan.scenario else Expect(plan.expect).value,
        reply_timeout=plan.reply_timeout,
        reconnect=bool(plan.options.get("reconnect")),
    )
