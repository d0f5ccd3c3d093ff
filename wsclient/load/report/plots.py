"""Which numbers of a result become which chart. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from wsclient.load.report.charts import Chart, Column, Series, bar_chart, curve_chart, line_chart
from wsclient.load.report.markup import Markup
from wsclient.load.report.text import count, duration, percent, rate, short
from wsclient.load.result import Latency, Result, Second

__all__ = ["charts", "grouping"]

_MOST_COLUMNS = 240  # more could be neither told apart nor pointed at
_GROUPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_WHOLE = 0.9  # of a second: with less, the rate of the last one would look like a breakdown
_CALM_LAG = 0.010  # seconds; an axis that ends below would make a drama of ordinary lag
_BLUE, _RED, _GREEN, _PURPLE, _AMBER, _GREY = range(6)
# With more kinds of errors, the rarest share the last.
_ERROR_COLOURS = (_RED, _BLUE, _GREEN, _PURPLE, _AMBER, _GREY)

Groups = Sequence[Sequence[Second]]
Combine = Callable[[Sequence[float]], float]


def grouping(result: Result) -> int:
    """How many seconds one place on the time axes stands for."""
    rough = math.ceil(len(result.seconds) / _MOST_COLUMNS)
    return next((size for size in _GROUPS if size >= rough), rough)


def charts(result: Result) -> list[Markup]:
    """All figures of a report, in their order."""
    size = grouping(result)
    groups = [result.seconds[at : at + size] for at in range(0, len(result.seconds), size)]
    columns = [Column(group[0].second, len(group)) for group in groups]
    return [
        _rate(result, groups, columns),
        _percentiles(result, groups, columns),
        _distribution(result.latency, "distribution", f"{_named(result.latency)}: distribution"),
        _errors(result, groups, columns),
        _connections(result, groups, columns),
        _distribution(result.setup.latency, "setup", "Connection set-up: distribution"),
        _cpu(groups, columns),
        _lag(groups, columns),
    ]


def _rate(result: Result, groups: Groups, columns: Sequence[Column]) -> Markup:
    chart = Chart("rate", "Rate", "messages a second", rate, short, "No second was measured")
    whole = [_whole_seconds(group, result.elapsed) or (group if len(groups) == 1 else ()) for group in groups]
    series = [
        Series("sent", [_over(group, _sent, _mean) for group in whole], _BLUE),
        Series("received", [_over(group, _received, _mean) for group in whole], _RED),
    ]
    if result.plan.rate is not None:
        aim = [result.plan.rate if _is_steady(result, column) else None for column in columns]
        series.append(Series("asked for", aim, _GREY))
    return line_chart(chart, columns, series, top=0.0)


def _whole_seconds(group: Sequence[Second], elapsed: float) -> Sequence[Second]:
    return [second for second in group if elapsed - second.second >= _WHOLE]


def _is_steady(result: Result, column: Column) -> bool:
    """Whether the full rate is due in all of it: after the ramp, and while messages are sent."""
    end = column.start + column.seconds
    return column.start >= result.plan.ramp and end <= result.elapsed + 1 - _WHOLE


def _percentiles(result: Result, groups: Groups, columns: Sequence[Column]) -> Markup:
    title = f"{_named(result.latency)}: percentiles over time"
    chart = Chart("percentiles", title, "time", duration, _mark, "No latency was measured")
    series = [
        Series("p50", [_over(group, lambda second: second.p50, max) for group in groups], _BLUE),
        Series("p90", [_over(group, lambda second: second.p90, max) for group in groups], _GREEN),
        Series("p99", [_over(group, lambda second: second.p99, max) for group in groups], _PURPLE),
        Series("max", [_over(group, lambda second: second.maximum, max) for group in groups], _RED),
    ]
    return line_chart(chart, columns, series)


def _distribution(latency: Latency, name: str, title: str) -> Markup:
    chart = Chart(name, title, f"time by percentile of {count(latency.count)}", duration, _mark, "No sample")
    points = [(point.percent, point.seconds) for point in latency.distribution]
    return curve_chart(chart, points, latency.count)


def _errors(result: Result, groups: Groups, columns: Sequence[Column]) -> Markup:
    empty = "No errors in these seconds" if result.errors else "No errors"
    size = grouping(result)
    chart = Chart("errors", "Errors", "a second" if size == 1 else f"in {size} seconds", count, short, empty)
    kinds = [error.kind for error in result.errors]
    if len(kinds) > len(_ERROR_COLOURS):
        kinds = kinds[: len(_ERROR_COLOURS) - 1]
    colours = zip(kinds, _ERROR_COLOURS, strict=False)
    series = [Series(kind, _of_kind(groups, kind), colour) for kind, colour in colours]
    others = [_over(group, lambda second: _of_others(second, kinds), sum) for group in groups]
    if any(others):
        series.append(Series("others", others, _ERROR_COLOURS[-1]))
    return bar_chart(chart, columns, series)


def _of_others(second: Second, kinds: Sequence[str]) -> int:
    return second.errors - sum(number for kind, number in second.error_kinds if kind in kinds)


def _of_kind(groups: Groups, kind: str) -> list[float | None]:
    return [_over(group, lambda second: dict(second.error_kinds).get(kind, 0), sum) for group in groups]


def _connections(result: Result, groups: Groups, columns: Sequence[Column]) -> Markup:
    chart = Chart(
        "connections", "Open connections", "at the end of each second", count, short, "No second was measured"
    )
    series = [
        Series(
            "open", [_over(group, lambda second: second.open_connections, min) for group in groups], _GREEN
        )
    ]
    return line_chart(chart, columns, series, whole=True, top=result.plan.connections)


def _cpu(groups: Groups, columns: Sequence[Column]) -> Markup:
    unit = "share of one core, busiest process"
    chart = Chart("cpu", "Generator: CPU", unit, percent, percent, "No second was measured")
    series = [Series("CPU", [_over(group, lambda second: second.cpu, max) for group in groups], _PURPLE)]
    return line_chart(chart, columns, series, top=1.0)


def _lag(groups: Groups, columns: Sequence[Column]) -> Markup:
    unit = "longest that a timer fired late"
    chart = Chart("lag", "Generator: scheduling lag", unit, duration, _mark, "No second was measured")
    series = [Series("lag", [_over(group, lambda second: second.lag, max) for group in groups], _AMBER)]
    return line_chart(chart, columns, series, top=_CALM_LAG)


def _mark(seconds: float) -> str:
    return duration(seconds) if seconds else "0"


def _named(latency: Latency) -> str:
    return latency.what[:1].upper() + latency.what[1:]


def _over(group: Sequence[Second], of: Callable[[Second], float | None], combine: Combine) -> float | None:
    known = [value for second in group if (value := of(second)) is not None]
    return combine(known) if known else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _sent(second: Second) -> float:
    return second.sent


def _received(second: Second) -> float:
    return second.received
