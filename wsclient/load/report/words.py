"""What a result says in words, the same in every report. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from wsclient.load.report.text import count, duration, rate
from wsclient.load.result import Account, Latency, PlanSummary, Result
from wsclient.load.thresholds import Unit, Verdict

__all__ = [
    "ACCOUNT_WORDS",
    "SUMS",
    "expects_answers",
    "limit_and_value",
    "loop",
    "outcome",
    "since",
    "sums",
]

# Each sum of the account: what is on its left, and what it consists of.
SUMS = (
    ("attempted", ("accepted", "refused")),
    ("accepted", ("written", "unsent")),
    ("written", ("confirmed", "in_doubt")),
    ("confirmed", ("answered", "lost")),
    ("received", ("answered", "duplicated", "corrupted", "unexpected")),
)
ACCOUNT_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "attempted": "a worker called send",
        "refused": "and it raised: the queue stayed full, or the connection was gone",
        "accepted": "and it returned: from here on the library answers for the message",
        "unsent": "never fully written; handed back when the connection ended",
        "written": "fully written to the socket",
        "confirmed": "the server has processed it: its answer came, or the pong of a ping behind it",
        "in_doubt": "written, and the connection was lost before either",
        "answered": "its answer came, and is right",
        "lost": "confirmed, and no answer came in time",
        "received": "messages that came, of any sort",
        "duplicated": "the same answer came once more",
        "corrupted": "an answer with the right identity and another content",
        "unexpected": "an answer to nothing that is known",
        "late": "answered, after the time-out for replies",
        "skipped": "due by the schedule, and never attempted",
    }
)
# Digits of what is compared with a limit: "50 ms, the limit is 50 ms" would explain nothing.
_EXACT = 6
_FORMATS: Mapping[Unit, Callable[[float], str]] = MappingProxyType(
    {
        Unit.TIME: lambda seconds: duration(seconds, _EXACT),
        Unit.COUNT: count,
        Unit.RATE: lambda value: f"{value:,.2f}".rstrip("0").rstrip(".") + "/s",
        Unit.SHARE: lambda share: f"{share * 100:.{_EXACT}g} %",
    }
)


def expects_answers(plan: PlanSummary) -> bool:
    """Whether an answer to each message was expected, so that one without is lost."""
    return plan.expect in ("echo", "reply")


def sums(plan: PlanSummary) -> Sequence[tuple[str, Sequence[str]]]:
    """Those of ``SUMS`` that must hold in a run like this."""
    sorted_out = ("confirmed", "received")
    return [(whole, parts) for whole, parts in SUMS if whole not in sorted_out or expects_answers(plan)]


def limit_and_value(verdict: Verdict) -> tuple[str, str]:
    """Both numbers of a threshold, with their unit."""
    as_text = _FORMATS[verdict.unit]
    value = "not measured" if math.isnan(verdict.value) else as_text(verdict.value)
    return as_text(verdict.limit), value


def since(latency: Latency) -> str:
    """From when a latency counts."""
    if latency.since == "intended":
        return "from when the message was due: waiting for a slow server counts (no coordinated omission)"
    return "from when the worker came to send it (closed loop: a slow server is asked less)"


def loop(plan: PlanSummary) -> str:
    """How the pace was set."""
    if plan.rate is None:
        return "closed: each worker sends its next message when it is done with the one before"
    return f"open, {rate(plan.rate)} over all connections"


def outcome(result: Result) -> Iterator[str]:
    """The run in a few lines of text."""
    account, latency = result.account, result.latency
    rates = f"{rate(result.sent_rate)} sent, {rate(result.received_rate)} received"
    yield f"{rates}, for {duration(result.elapsed)}"
    points = [f"p{point.percent:g} {duration(point.seconds)}" for point in latency.percentiles]
    points += [f"max {duration(latency.maximum)}"] if latency.count else []
    yield f"{latency.what} of {count(latency.count)}: {', '.join(points) or 'none'}"
    yield from (_equation(account, whole, parts) for whole, parts in sums(result.plan))
    if not expects_answers(result.plan):
        yield f"received {count(account.received)}"
    yield from (
        f"error: {error.kind} x {count(error.count)}: {_first_line(error.first)}" for error in result.errors
    )
    if result.interrupted:
        yield "ended early"


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def _equation(account: Account, whole: str, parts: Sequence[str]) -> str:
    right = " + ".join(f"{part} {count(getattr(account, part))}" for part in parts)
    return f"{whole} {count(getattr(account, whole))} = {right}"
