"""How a load run stands, in words: a line a second, or the rows of the live view. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wsclient.load.plan import Plan
from wsclient.load.report.text import count, duration, percent, rate, span
from wsclient.load.report.words import limit_and_value, loop, outcome
from wsclient.load.result import PlanSummary, Progress, Result, Second
from wsclient.load.thresholds import Verdict

__all__ = ["hint", "intent", "line", "rows", "share_done", "summary"]


def intent(plan: PlanSummary) -> str:
    """What the run will do, in one line."""
    workers = f" x {count(plan.workers)} workers" if plan.workers > 1 else ""
    connections = f"{count(plan.connections)} connection{'s' if plan.connections > 1 else ''}"
    until = [span(plan.duration)] if plan.duration is not None else []
    until += [f"{count(plan.messages)} messages"] if plan.messages is not None else []
    kind = plan.payload if plan.expect == "scenario" else f"{plan.payload}, expecting {plan.expect}"
    return f"{', '.join(plan.urls)}: {connections}{workers}, {' or '.join(until)}, {kind}; {loop(plan)}"


def share_done(progress: Progress, plan: Plan) -> float:
    """How much of the run is over, from 0 to 1: the larger of its two limits."""
    shares = [progress.elapsed / plan.duration] if plan.duration else []
    shares += [progress.account.attempted / plan.messages] if plan.messages else []
    return min(max(shares, default=0.0), 1.0)


def hint(ending: bool) -> str:
    """What Ctrl-C does now."""
    if ending:
        return "ending early; Ctrl-C again leaves at once, without a report"
    return "Ctrl-C ends it early, with a full report"


def line(progress: Progress, ending: bool) -> str:
    """One second, in one line."""
    second = progress.second
    parts = (
        f"{second.second + 1:5d} s",
        f"sent {rate(second.sent)}",
        f"received {rate(second.received)}",
        _latencies(second),
        f"open {count(second.open_connections)}",
        f"errors {count(progress.errors)}",
    )
    return "  ".join((*parts, *([f"({hint(ending)})"] if ending else [])))


def rows(progress: Progress) -> Iterator[tuple[str, str]]:
    """The live view: what it is, and how it stands."""
    second, account = progress.second, progress.account
    yield "rate", f"sent {rate(second.sent)}, received {rate(second.received)}"
    yield "this second", _latencies(second)
    points = [f"p{point.percent:g} {duration(point.seconds)}" for point in progress.percentiles]
    yield "so far", "  ".join(points) or "no latency yet"
    yield "connections", f"{count(second.open_connections)} open, {count(progress.failed)} failed"
    answers = f"confirmed {count(account.confirmed)}, received {count(account.received)}"
    yield "messages", f"sent {count(account.accepted)}, {answers}, unsent {count(account.unsent)}"
    yield "errors", count(progress.errors)
    yield "generator", f"CPU {percent(second.cpu)} of a core, late by at most {duration(second.lag)}"


def _latencies(second: Second) -> str:
    points = (("p50", second.p50), ("p99", second.p99), ("max", second.maximum))
    known = [f"{name} {duration(seconds)}" for name, seconds in points if seconds is not None]
    return "  ".join(known) or "no latency"


def summary(result: Result, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """The whole run, in a few lines."""
    yield intent(result.plan)
    yield from outcome(result)
    yield from (f"warning: {warning}" for warning in result.warnings)
    for verdict in verdicts:
        limit, value = limit_and_value(verdict)
        yield f"{'passed' if verdict.passed else 'FAILED'}: {verdict.text} (limit {limit}, found {value})"
