"""Results for a reader: tables on the terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from benchmarks.goals import Medians, Verdict
from benchmarks.names import BEFORE, OURS, ours_beside, uncompressed
from benchmarks.scenarios import SCENARIOS, Measured, Metric, Scenario

__all__ = ["before_table", "goal_table", "number", "result_table"]


def number(value: float, metric: Metric) -> str:
    """A measured value in the unit of its metric, to three figures."""
    scaled = value * metric.scale
    if scaled >= 1000:
        return f"{float(f'{scaled:.3g}'):,.0f}"
    return f"{scaled:.3g}"


def result_table(medians: Medians) -> str:
    """One line for each scenario, metric and library, with wsclient's ratio to it.

    Like is compared with like: wsclient that compresses with others that do. The last column says what
    compression makes of the number.
    """
    rows: list[tuple[str, ...]] = [("", "", "median", "unit", "wsclient is", "compressing")]
    for name, by_adapter in medians.items():
        scenario = SCENARIOS[name]
        for metric in scenario.metrics:
            rows += _metric_rows(scenario, metric, by_adapter)
    return _align(rows)


def before_table(rounds: Mapping[str, Mapping[str, Sequence[Measured]]]) -> str:
    """One line for each scenario and metric of wsclient that was measured before and now (``--baseline``).

    The ratio is that of the medians; beside it the lowest and the highest of a single round.
    """
    rows: list[tuple[str, ...]] = [("", "", "before", "now", "unit", "now/before", "in the rounds")]
    for name, by_adapter in rounds.items():
        for adapter in by_adapter:
            if before := by_adapter.get(adapter + BEFORE):
                rows += _before_rows(SCENARIOS[name], adapter, before, by_adapter[adapter])
    return _align(rows)


def goal_table(verdicts: Iterable[Verdict]) -> str:
    """One line a goal: what it is, what was measured, met or not."""
    rows = [("goal", "bound", "measured", "")]
    for verdict in verdicts:
        goal = verdict.goal
        metric = next(metric for metric in SCENARIOS[goal.scenario].metrics if metric.key == goal.metric)
        side = ">=" if goal.at_least else "<="
        against = f"x {goal.peer}" if goal.peer else metric.unit
        scale = 1.0 if goal.peer else metric.scale
        value = "-" if verdict.value is None else f"{verdict.value * scale:.3g}"
        met = {True: "met", False: "NOT MET", None: "not measured"}[verdict.met]
        option = goal.ours.removeprefix(OURS).replace("-", ", ")
        title = f"{SCENARIOS[goal.scenario].title}, {goal.metric}{option}"
        rows.append((title, f"{side} {goal.bound * scale:g} {against}", value, met))
    return _align(rows)


def _metric_rows(
    scenario: Scenario, metric: Metric, by_adapter: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, ...]]:
    values = {adapter: measured[metric.key] for adapter, measured in by_adapter.items()}
    rows: list[tuple[str, ...]] = []
    title = _title(scenario, metric)
    for adapter, value in values.items():
        ours, plain = values.get(ours_beside(adapter)), values.get(uncompressed(adapter))
        ratio = "" if adapter == ours_beside(adapter) or ours is None else _times(ours, value, " x this")
        gain = "" if adapter == uncompressed(adapter) or plain is None else _times(value, plain, " x")
        rows.append((title, adapter, number(value, metric), metric.unit, ratio, gain))
        title = ""
    return rows


def _before_rows(
    scenario: Scenario, adapter: str, before: Sequence[Measured], now: Sequence[Measured]
) -> Iterator[tuple[str, ...]]:
    for metric in scenario.metrics:
        olds, news = ([one[metric.key] for one in rounds] for rounds in (before, now))
        old, new = median(olds), median(news)
        ratios = [late / early for early, late in zip(olds, news, strict=False) if early]
        yield (
            _title(scenario, metric),
            adapter,
            number(old, metric),
            number(new, metric),
            metric.unit,
            f"{new / old:.3g}" if old else "-",
            f"{min(ratios):.3g} to {max(ratios):.3g}" if ratios else "-",
        )


def _times(value: float, other: float, what: str) -> str:
    return f"{value / other:.3g}{what}" if other else ""


def _title(scenario: Scenario, metric: Metric) -> str:
    return scenario.title if len(scenario.metrics) == 1 else f"{scenario.title}, {metric.key}"


def _align(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
