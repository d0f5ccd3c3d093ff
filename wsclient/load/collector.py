"""What all processes report, put together: seconds, distributions, errors, and the account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final as Constant

from wsclient.load.measure import Distribution, quantiles
from wsclient.load.messages import Died, Final, Opened, Report, Tick
from wsclient.load.plan import Plan
from wsclient.load.recorder import ErrorNote
from wsclient.load.result import Account, ErrorKind, Latency, Resources, Second, SetUp
from wsclient.load.schedule import schedule_of

__all__ = ["Collector"]

_KEPT: Constant = 30  # seconds for which the bins of a second are kept for processes that are behind
_PERCENTS: Constant = (50.0, 90.0, 99.0, 100.0)


@dataclass(slots=True)
class _Moment:
    """One second, while reports of it come in."""

    second: Second
    bins: Counter[int] = field(default_factory=Counter)
    reports: int = 0

    def add(self, tick: Tick) -> None:
        """Take in what one process says of it."""
        self.reports += 1
        self.bins.update(tick.bins)
        errors = Counter(dict(self.second.error_kinds))
        errors.update(tick.errors)
        p50, p90, p99, maximum = quantiles(self.bins, _PERCENTS) if self.bins else (None,) * 4
        self.second = replace(
            self.second,
            sent=self.second.sent + tick.sent,
            received=self.second.received + tick.received,
            errors=errors.total(),
            error_kinds=tuple(errors.items()),
            open_connections=self.second.open_connections + tick.open_connections,
            samples=self.bins.total(),
            p50=p50,
            p90=p90,
            p99=p99,
            maximum=maximum,
            cpu=max(self.second.cpu, tick.cpu),
            lag=max(self.second.lag, max(tick.lags, default=0) / 1e6),
        )


class Collector:
    """For one thread.

    Args:
        plan: the run.
        processes: how many will report.
    """

    def __init__(self, plan: Plan, processes: int) -> None:
        self._plan, self._processes = plan, processes
        # The thread that uses it.
        self._latencies, self._setups = Distribution(), Distribution()
        self._lags: Counter[int] = Counter()
        self._moments: dict[int, _Moment] = {}
        self._seconds: dict[int, Second] = {}
        self._last: dict[int, Tick] = {}
        self._finals: dict[int, Final] = {}
        self._died: dict[int, Died] = {}
        self._opened: set[int] = set()
        self._peak = 0.0
        self._rss: dict[int, int] = {}

    # -- what comes in --------------------------------------------------------------------------------

    def add(self, report: Report) -> Second | None:
        """Take in a report; return the second that is complete by it, if one is."""
        if isinstance(report, Tick):
            return self._add_tick(report)
        if isinstance(report, Opened):
            self._opened.add(report.process)
        elif isinstance(report, Final):
            self._finals[report.process] = report
        else:
            self._died[report.process] = report
        return None

    @property
    def all_opened(self) -> bool:
        """Whether each process has opened its first connections, or is gone."""
        return len(self._opened | set(self._died)) == self._processes

    @property
    def all_done(self) -> bool:
        """Whether each process is done, or gone."""
        return len(set(self._finals) | set(self._died)) == self._processes

    @property
    def any_left(self) -> bool:
        """Whether a process is left to do anything."""
        return len(self._died) < self._processes

    def _add_tick(self, tick: Tick) -> Second | None:
        self._last[tick.process] = tick
        self._latencies.add(tick.bins)
        self._setups.add(tick.setups)
        self._lags.update(tick.lags)
        self._peak = max(self._peak, tick.cpu)
        moment = self._moments.setdefault(
            tick.second, _Moment(self._seconds.get(tick.second, Second(second=tick.second)))
        )
        moment.add(tick)
        self._seconds[tick.second] = moment.second
        for second in [second for second in self._moments if second < tick.second - _KEPT]:
            del self._moments[second]
        return self._with_done(moment.second) if moment.reports == self._working(tick.second) else None

    def _working(self, second: int) -> int:
        # Processes that report that second.
        done = sum(self._last[process].second < second for process in self._finals if process in self._last)
        return self._processes - len(self._died) - done

    # -- what comes of it -----------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        """Over all processes, of each the latest; ``skipped`` is not in it."""
        accounts = {process: tick.account for process, tick in self._last.items()}
        accounts.update({process: final.account for process, final in self._finals.items()})
        return sum(accounts.values(), Account())

    def skipped(self, until: float) -> int:
        """What was due before ``until``, in seconds from the start, and never attempted."""
        attempts: dict[int, tuple[int, ...]] = {}
        for tick in self._last.values():
            attempts.update(tick.attempts)
        nothing = (0,) * self._plan.workers
        return sum(
            max(schedule_of(self._plan, connection, worker).count(until) - attempted, 0)
            for connection in range(self._plan.connections)
            for worker, attempted in enumerate(attempts.get(connection, nothing))
        )

    @property
    def stopped(self) -> float:
        """Seconds after the start when the last worker stopped; of a process that died its last report."""
        ends = [final.stopped for final in self._finals.values()]
        ends += [self._last[gone].second + 1.0 for gone in self._died if gone in self._last]
        return max(ends, default=0.0)

    @property
    def percentiles(self) -> Distribution:
        """All latencies so far."""
        return self._latencies

    @property
    def connections(self) -> tuple[int, int]:
        """How many were attempted, and opened, so far."""
        ticks = self._last.values()
        return sum(tick.attempted for tick in ticks), sum(tick.opened for tick in ticks)

    def setup(self) -> SetUp:
        """Of the connections."""
        attempted, opened = self.connections
        latency = self._setups.summary("connection set-up", "sent")
        return SetUp(attempted=attempted, opened=opened, failed=attempted - opened, latency=latency)

    def latency(self, what: str, since: str) -> Latency:
        """Of the messages, or calls."""
        return self._latencies.summary(what, since)

    def errors(self, start: float) -> tuple[ErrorKind, ...]:
        """By kind, the most frequent first. ``start``: when the run began, on the monotonic clock."""
        notes: dict[str, ErrorNote] = {}
        for tick in self._last.values():
            for kind, note in tick.notes.items():
                notes[kind] = notes[kind].plus(note) if kind in notes else note
        found = [
            ErrorKind(kind=n.kind, count=n.count, first=n.first, first_at=n.at - start)
            for n in notes.values()
        ]
        if self._died:
            gone = [self._last[one].second + 1.0 if one in self._last else 0.0 for one in self._died]
            first = next(iter(self._died.values()))
            found.append(
                ErrorKind(kind="ProcessEnded", count=len(self._died), first=first.text, first_at=min(gone))
            )
        return tuple(sorted(found, key=lambda error: -error.count))

    def resources(self) -> Resources:
        """What the generator used."""
        ticks = self._last.values()
        p99 = quantiles(self._lags, (99.0,))[0] if self._lags else 0.0
        return Resources(
            cpu_seconds=sum(tick.cpu_seconds for tick in ticks),
            cpu_mean=_busiest_mean(self._seconds),
            cpu_peak=self._peak,
            lag_p99=p99,
            lag_maximum=max(self._lags, default=0) / 1e6,
            max_rss=sum(tick.max_rss for tick in ticks),
            threads=sum(tick.threads for tick in ticks),
            processes=self._processes,
        )

    def seconds(self) -> tuple[Second, ...]:
        """The run second by second, without holes."""
        last = max(self._seconds, default=-1)
        seconds = (self._seconds.get(at, Second(second=at)) for at in range(last + 1))
        return tuple(map(self._with_done, seconds))

    def _with_done(self, second: Second) -> Second:
        # A process that was done in an earlier second than others tells nothing of the later ones.
        done = (self._last[process] for process in self._finals if process in self._last)
        opened = sum(tick.open_connections for tick in done if tick.second < second.second)
        return replace(second, open_connections=second.open_connections + opened)


def _busiest_mean(seconds: Mapping[int, Second]) -> float:
    return sum(second.cpu for second in seconds.values()) / max(len(seconds), 1)
