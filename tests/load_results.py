"""Results of load runs that were not run, for the tests of their reports: the same each time."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from wsclient.load.result import (
    PERCENTILES,
    Account,
    DistributionPoint,
    ErrorKind,
    Latency,
    Percentile,
    PlanSummary,
    Resources,
    Result,
    Second,
    SetUp,
)
from wsclient.load.thresholds import Unit, Verdict, judge, parse_threshold

__all__ = ["EMPTY", "HOSTILE", "hostile", "hostile_verdicts", "ordinary", "troubled", "verdicts"]

HOSTILE = (
    "</style></script>"
    "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&amp;]]>\x00\x1b[31m\u202e\ud800"
    " wss://user:hunter2@example.com/?token=s3cr3t#frag ${x} http://evil.example/x.js"
)

_LEAKY = HOSTILE + "\nAuthorization: Bearer abcdef0123456789\n" + "x" * 300

_PLAN = PlanSummary(
    urls=("ws://127.0.0.1:8765/echo?token=...",),
    connections=50,
    workers=8,
    processes=2,
    loop="open",
    rate=2000.0,
    duration=60.0,
    messages=None,
    ramp=5.0,
    payload="64 bytes of text",
    expect="echo",
    reply_timeout=10.0,
    reconnect=False,
)
_RESOURCES = Resources(
    cpu_seconds=31.4,
    cpu_mean=0.262,
    cpu_peak=0.41,
    lag_p99=0.0021,
    lag_maximum=0.0123,
    max_rss=78 * 1024 * 1024,
    threads=906,
    processes=2,
)


def latency(what: str, median: float, samples: int) -> Latency:
    """A distribution with a long tail."""
    if not samples:
        return Latency(what=what, since="intended")
    steps = [100 * (1 - 0.5 ** (step / 4)) for step in range(int(4 * math.log2(samples)) + 1)]
    points = [DistributionPoint(p, _at(median, p), round(samples * p / 100)) for p in steps]
    maximum = _at(median, 100 * (1 - 0.5 / samples))
    return Latency(
        what=what,
        since="intended",
        count=samples,
        minimum=_at(median, 0),
        mean=median * 1.3,
        deviation=median * 0.8,
        maximum=maximum,
        percentiles=tuple(Percentile(p, min(maximum, _at(median, p))) for p in PERCENTILES),
        distribution=(*points, DistributionPoint(100.0, maximum, samples)),
    )


def _at(median: float, percent: float) -> float:
    return median * (0.4 + 0.6 * math.pow(-math.log2(1 - percent / 100), 1.6))


def _error(kind: str, count: int, first: str, first_at: float) -> ErrorKind:
    return ErrorKind(kind=kind, count=count, first=first, first_at=first_at)


def _seconds(count: int) -> tuple[Second, ...]:
    chance = random.Random(6)
    found = []
    for second in range(count):
        share = min(1.0, (second + 0.5) / 5)
        sent = round(2000 * share * chance.uniform(0.995, 1.005))
        p50 = 0.0008 * chance.uniform(0.9, 1.15) * (1.6 if 8 <= second <= 9 else 1)
        p99 = p50 * chance.uniform(3, 4.5)
        found.append(
            Second(
                second=second,
                sent=sent,
                received=sent - chance.randrange(3),
                open_connections=min(50, 10 * (second + 1)),
                samples=sent,
                p50=p50,
                p90=p50 * chance.uniform(1.7, 2.0),
                p99=p99,
                maximum=p99 * chance.uniform(1.5, 3),
                cpu=0.3 * share * chance.uniform(0.9, 1.2),
                lag=0.002 * chance.uniform(0.2, 2),
            )
        )
    return tuple(found)


def _account(sent: int) -> Account:
    return Account(
        attempted=sent, accepted=sent, written=sent, confirmed=sent, answered=sent, received=sent, late=0
    )


def ordinary(count: int = 20) -> Result:
    """A run of so many seconds without trouble."""
    seconds = _seconds(count)
    sent = sum(second.sent for second in seconds)
    return Result(
        plan=_PLAN,
        started="2026-03-01T12:30:00+00:00",
        elapsed=count + 0.02,
        account=_account(sent),
        latency=latency("round trip", 0.0008, sent),
        seconds=seconds,
        errors=(),
        setup=SetUp(attempted=50, opened=50, failed=0, latency=latency("connection set-up", 0.003, 50)),
        resources=_RESOURCES,
        warnings=(),
        interrupted=False,
    )


def troubled() -> Result:
    """A run whose server died after 12 seconds, with hostile texts and a generator that was too slow."""
    calm = ordinary()
    seconds = tuple(_after_the_fall(second) if second.second >= 12 else second for second in calm.seconds)
    sent = sum(second.sent for second in seconds)
    errors = (
        _error("ConnectionClosed", 48, HOSTILE, 12.3),
        _error("HandshakeError", 30, "connection refused", 13.2),
        _error("SendTimeout", 12, "the queue stayed full for 5 s", 16.0),
    )
    account = Account(
        attempted=sent + 12,
        refused=12,
        accepted=sent,
        unsent=203,
        written=sent - 203,
        in_doubt=317,
        confirmed=sent - 520,
        answered=sent - 521,
        lost=1,
        received=sent - 519,
        duplicated=1,
        unexpected=1,
        late=7,
        skipped=4000,
    )
    return replace(
        calm,
        seconds=seconds,
        errors=errors,
        account=account,
        warnings=(
            "The generator was the bottleneck: it used 98 % of a core. Latencies and rates say more about it "
            "than about the server; use more processes.",
            "The rate of 2,000/s was not reached.",
        ),
        interrupted=True,
    )


def _after_the_fall(second: Second) -> Second:
    sent = 900 if second.second == 12 else 0
    kinds = _KINDS_AT.get(second.second, ())
    times = {"p50": 0.4, "p90": 1.5, "p99": 2.1, "maximum": 2.3} if sent else dict.fromkeys(_TIMES)
    return replace(
        second,
        sent=sent,
        received=sent,
        errors=sum(n for _, n in kinds),
        error_kinds=kinds,
        samples=sent,
        open_connections=2,
        cpu=0.98,
        **times,
    )


_KINDS_AT: Mapping[int, tuple[tuple[str, int], ...]] = MappingProxyType(
    {
        12: (("ConnectionClosed", 30),),
        13: (("ConnectionClosed", 18), ("HandshakeError", 10)),
        16: (("HandshakeError", 20), ("SendTimeout", 12)),
    }
)
_TIMES = ("p50", "p90", "p99", "maximum")

EMPTY = Result(
    plan=replace(_PLAN, rate=None, loop="closed", duration=None, messages=10, ramp=0.0),
    started="2026-03-01T12:30:00+00:00",
    elapsed=0.0,
    account=Account(),
    latency=latency("round trip", 1.0, 0),
    seconds=(),
    errors=(_error("HandshakeError", 50, "connection refused", -0.2),),
    setup=SetUp(attempted=50, opened=0, failed=50, latency=latency("connection set-up", 1.0, 0)),
    resources=_RESOURCES,
    warnings=("No connection could be opened.",),
    interrupted=False,
)


def hostile() -> Result:
    """Whatever may be text, is the worst of texts."""
    found = troubled()
    return replace(
        found,
        plan=replace(found.plan, urls=(_LEAKY, _LEAKY), payload=_LEAKY, expect=_LEAKY, loop=_LEAKY),
        latency=replace(found.latency, what=_LEAKY),
        errors=(_error(_LEAKY, 3, _LEAKY, 1.0),),
        seconds=tuple(replace(second, errors=3, error_kinds=((_LEAKY, 3),)) for second in found.seconds),
        warnings=(_LEAKY,),
    )


def hostile_verdicts() -> tuple[Verdict, ...]:
    """A threshold that failed, of the same texts."""
    return (Verdict(_LEAKY, 1.0, 2.0, False, Unit.COUNT),)


def verdicts(result: Result, *texts: str) -> tuple[Verdict, ...]:
    """What comes of some thresholds."""
    return judge([parse_threshold(text) for text in texts], result)
