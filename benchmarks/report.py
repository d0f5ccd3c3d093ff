"""Results for a reader: tables on the terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.goals import OURS, Medians, Verdict
from benchmarks.scenarios import SCENARIOS, Metric, Scenario

__all__ = ["goal_table", "number", "result_table"]


def number(value: float, metric: Metric) -> str:
    """A measured value in the unit of its metric, to three figures."""
    scaled = value * metric.scale
    if scaled >= 1000:
        return f"{float(f'{scaled:.3g}'):,.0f}"
    return f"{scaled:.3g}"


def result_table(medians: Medians) -> str:
    """One line for each scenario, metric and library, with wsclient's ratio to it."""
    rows: list[tuple[str, ...]] = [("", "", "median", "unit", "wsclient is")]
    for name, by_adapter in medians.items():
        scenario = SCENARIOS[name]
        for metric in scenario.metrics:
            rows += _metric_rows(scenario, metric, by_adapter)
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
        title = f"{SCENARIOS[goal.scenario].title}, {goal.metric}"
        rows.append((title, f"{side} {goal.bound * scale:g} {against}", value, met))
    return _align(rows)


def _metric_rows(
    scenario: Scenario, metric: Metric, by_adapter: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, ...]]:
    ours = by_adapter.get(OURS, {}).get(metric.key)
    rows: list[tuple[str, ...]] = []
    title = scenario.title if len(scenario.metrics) == 1 else f"{scenario.title}, {metric.key}"
    for adapter, measured in by_adapter.items():
        value = measured[metric.key]
        ratio = "" if adapter == OURS or ours is None or not value else f"{ours / value:.3g} x this"
        rows.append((title, adapter, number(value, metric), metric.unit, ratio))
        title = ""
    return rows


def _align(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
