"""What a load run has found: frozen values, made once, for reports, thresholds and JSON. Pure.

Times are seconds, sizes bytes, rates per second, shares 1.0 for one whole core. ``Result.as_dict`` is what
``--json`` prints: plain dictionaries, lists, numbers and strings under the names below, and nothing secret:
URLs are shown without user info and without the values of their query parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

__all__ = [
    "PERCENTILES",
    "Account",
    "DistributionPoint",
    "ErrorKind",
    "Latency",
    "Percentile",
    "PlanSummary",
    "Progress",
    "Resources",
    "Result",
    "Second",
    "SetUp",
]

PERCENTILES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """What was asked for.

    Attributes:
        urls: where to, without secrets.
        connections: over all processes.
        workers: threads that send, for each connection.
        processes: that shared the connections.
        loop: ``"open"``: messages are due at times that do not depend on answers; ``"closed"``: each worker
            sends its next message when it is done with the one before, so that a slow server is asked less.
        rate: messages a second over all connections that an open loop aims at; ``None`` in a closed loop.
        duration: seconds of sending, ``None``: until ``messages`` are sent.
        messages: most messages over all connections; ``None``: no limit but ``duration``.
        ramp: seconds over which connections are opened, and the rate grows.
        payload: in words: ``"64 bytes of text"``, ``"lines of FILE"``; of a scenario its file.
        expect: ``"echo"``, ``"reply"``, ``"none"``; ``"scenario"``: the file decides.
        reply_timeout: seconds after which a message without an answer is lost.
        reconnect: whether lost connections were opened again.
    """

    urls: tuple[str, ...]
    connections: int
    workers: int
    processes: int
    loop: str
    rate: float | None
    duration: float | None
    messages: int | None
    ramp: float
    payload: str
    expect: str
    reply_timeout: float
    reconnect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where every message is. ``problems`` says which of these sums does not hold; none should ever fail::

        attempted = accepted + refused
        accepted  = written + unsent
        written   = confirmed + in_doubt
        confirmed = answered + lost                                 where an answer is expected
        received  = answered + duplicated + corrupted + unexpected  where an answer is expected

    Without expected answers (``expect="none"``, scenarios) what is received is counted and not sorted.

    Attributes:
        attempted: ``send`` was called.
        refused: ... and raised: the queue stayed full, or the connection was gone.
        accepted: ... and returned: from here on the library answers for the message.
        unsent: accepted and never fully written: handed back when the connection ended.
        written: fully written to the socket, at least once.
        confirmed: the server has read it: its answer came, or the pong of a ping behind it.
        in_doubt: written, and the connection was lost before either.
        answered: its answer came, and is right; ``late`` ones, after ``reply_timeout``, among them.
        lost: confirmed, and no answer came in time.
        received: messages that came, of any sort.
        duplicated: the same answer came once more.
        corrupted: it has the identity of a message, and another content.
        unexpected: it answers nothing that is known: of other users, from before, or after too long.
        late: answered after ``reply_timeout``.
        skipped: open loop: due by the schedule, and never attempted, because the connection had ended or the
            run was over first. Not part of ``attempted``.
    """

    attempted: int = 0
    refused: int = 0
    accepted: int = 0
    unsent: int = 0
    written: int = 0
    confirmed: int = 0
    in_doubt: int = 0
    answered: int = 0
    lost: int = 0
    received: int = 0
    duplicated: int = 0
    corrupted: int = 0
    unexpected: int = 0
    late: int = 0
    skipped: int = 0

    def __add__(self, other: Account) -> Account:
        sums = {name.name: getattr(self, name.name) + getattr(other, name.name) for name in fields(Account)}
        return Account(**sums)

    def with_skipped(self, count: int) -> Account:
        """This account, and so many that were never attempted."""
        return replace(self, skipped=count)

    def problems(self, *, answers: bool) -> tuple[str, ...]:
        """The sums that do not hold, in words; empty for a balanced account.

        Args:
            answers: whether an answer to each message was expected.
        """
        arrived = self.answered + self.duplicated + self.corrupted + self.unexpected
        sums = [
            ("attempted", "accepted + refused", self.attempted, self.accepted + self.refused),
            ("accepted", "written + unsent", self.accepted, self.written + self.unsent),
            ("written", "confirmed + in_doubt", self.written, self.confirmed + self.in_doubt),
        ]
        if answers:
            sums += [
                ("confirmed", "answered + lost", self.confirmed, self.answered + self.lost),
                ("received", "answered + duplicated + corrupted + unexpected", self.received, arrived),
            ]
        wrong = [f"{left} is {a}, {right} is {b}" for left, right, a, b in sums if a != b]
        negative = [f"{f.name} is {getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) < 0]
        return (*wrong, *negative)


@dataclass(frozen=True, slots=True)
class Percentile:
    """``percent`` of all samples took at most ``seconds``."""

    percent: float
    seconds: float


@dataclass(frozen=True, slots=True)
class DistributionPoint:
    """A point of the whole curve: ``count`` samples, ``percent`` of all, took at most ``seconds``."""

    percent: float
    seconds: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A distribution of times, from an HDR histogram of microseconds with three significant digits.

    Attributes:
        what: what was measured, for a reader: ``"round trip"``, ``"time to written"``, ``"scenario"``,
            ``"connection set-up"``.
        since: ``"intended"``: from when the message was due (open loop: no coordinated omission);
            ``"sent"``: from when the worker came to send it (closed loop).
        count: samples. With 0 all times are 0 and the tuples are empty.
        minimum, mean, deviation, maximum: seconds.
        percentiles: those of ``PERCENTILES``, in order.
        distribution: points of the whole curve, rising; the last is 100 percent.
        overflowed: samples above the histogram's largest time (an hour), counted as that.
        histogram: the histogram itself as HdrHistogram's base64 text (V2, compressed), in microseconds.
    """

    what: str
    since: str
    count: int = 0
    minimum: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0
    maximum: float = 0.0
    percentiles: tuple[Percentile, ...] = ()
    distribution: tuple[DistributionPoint, ...] = ()
    overflowed: int = 0
    histogram: str = ""

    def at(self, percent: float) -> float:
        """Seconds within which ``percent`` of the samples were done, to the precision of the distribution.

        Exact for ``PERCENTILES`` and 100; between the points of the distribution the next higher one. 0.0
        without samples.
        """
        exact = {point.percent: point.seconds for point in self.distribution}
        exact.update({point.percent: point.seconds for point in self.percentiles})
        if percent in exact:
            return exact[percent]
        above = [point.seconds for point in self.distribution if point.percent >= percent]
        return above[0] if above else self.maximum


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """One second of the run, over all processes.

    Attributes:
        second: 0 for the first after the start.
        sent: messages accepted in it.
        received: messages that came in it.
        errors: errors in it.
        error_kinds: ... by kind: ``(kind, count)``, only those that occurred.
        open_connections: at its end; those that were done, and open until then, among them.
        samples: latencies measured in it; the four times are ``None`` when 0.
        p50, p90, p99, maximum: of these, in seconds.
        cpu: share of one core that the busiest process of the generator used: near 1.0 it is the bottleneck,
            for a Python process runs on one core at a time.
        lag: longest that a timer of the generator fired late, in seconds.
    """

    second: int
    sent: int = 0
    received: int = 0
    errors: int = 0
    error_kinds: tuple[tuple[str, int], ...] = ()
    open_connections: int = 0
    samples: int = 0
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    maximum: float | None = None
    cpu: float = 0.0
    lag: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorKind:
    """Errors of one kind.

    Attributes:
        kind: class of the exception or, for what is none, a short name (``"process ended"``).
        count: how many.
        first: what the first one said.
        first_at: seconds after the start when it happened; negative while connections were opened.
    """

    kind: str
    count: int
    first: str
    first_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """Opening the connections: DNS, TCP, TLS and upgrade.

    Attributes:
        attempted: connections that were tried.
        opened: that came to be.
        failed: that did not.
        latency: of those that did.
    """

    attempted: int
    opened: int
    failed: int
    latency: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the generator itself used.

    Attributes:
        cpu_seconds: of all its processes, user and system.
        cpu_mean: share of one core, mean over the run, of the busiest process.
        cpu_peak: the highest second of any process.
        lag_p99: 99th percentile of how late its timers fired, in seconds.
        lag_maximum: the worst.
        max_rss: largest resident memory of all its processes together, bytes.
        threads: most threads of all its processes together.
        processes: how many processes sent.
    """

    cpu_seconds: float
    cpu_mean: float
    cpu_peak: float
    lag_p99: float
    lag_maximum: float
    max_rss: int
    threads: int
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A whole run.

    Attributes:
        plan: what was asked for.
        started: when sending began, ISO 8601 with time zone.
        elapsed: seconds from then until the last worker stopped; waiting for late answers is not in it.
        account: where every message is.
        latency: the answers' or, with ``expect="none"``, from due to written; of scenarios each whole call.
        seconds: the run second by second, from 0, without holes.
        errors: by kind, most frequent first.
        setup: of the connections.
        resources: of the generator.
        warnings: what a reader must know to judge the numbers: that the generator was the bottleneck, a rate
            that was not reached, that connections were lost, an account that does not balance.
        interrupted: it was ended early, by ``stop`` or Ctrl-C; the numbers are of what was done by then.
    """

    plan: PlanSummary
    started: str
    elapsed: float
    account: Account
    latency: Latency
    seconds: tuple[Second, ...]
    errors: tuple[ErrorKind, ...]
    setup: SetUp
    resources: Resources
    warnings: tuple[str, ...]
    interrupted: bool

    @property
    def error_count(self) -> int:
        """All errors."""
        return sum(error.count for error in self.errors)

    @property
    def sent_rate(self) -> float:
        """Messages accepted a second of ``elapsed``."""
        return self.account.accepted / self.elapsed if self.elapsed else 0.0

    @property
    def received_rate(self) -> float:
        """Messages received a second of ``elapsed``."""
        return self.account.received / self.elapsed if self.elapsed else 0.0

    def as_dict(self) -> Mapping[str, Any]:
        """Everything as what ``json.dumps`` takes, the three derived numbers included."""
        derived = {
            "error_count": self.error_count,
            "sent_rate": self.sent_rate,
            "received_rate": self.received_rate,
        }
        return {**asdict(self), **derived}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a run stands, once a second: what ``run`` gives to ``on_progress``.

    Attributes:
        elapsed: seconds since the start of sending.
        second: the second that is over, over all processes.
        account: so far, to the precision that running threads allow.
        samples: latencies so far.
        percentiles: of all of them, as in ``Latency``; empty without samples.
        errors: all so far.
        opened, failed: connections so far.
    """

    elapsed: float
    second: Second
    account: Account
    samples: int
    percentiles: tuple[Percentile, ...]
    errors: int
    opened: int
    failed: int
