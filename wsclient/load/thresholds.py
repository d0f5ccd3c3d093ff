"""Conditions under which a run has failed: ``"p99>50ms"``, ``"errors>0"``, ``"rate<1000/s"``. Pure.

``parse_threshold`` reads one, ``judge`` compares all with a ``Result``. A condition says when the run has
*failed*.
"""

from __future__ import annotations

import difflib
import enum
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from wsclient.load.result import Account, Result

__all__ = ["METRICS", "Threshold", "Unit", "Verdict", "judge", "parse_threshold"]


class Unit(enum.Enum):
    """What a metric is counted in."""

    TIME = "a time such as 50ms, 200us or 1.5s"
    COUNT = "a whole number"
    RATE = "a number, or one with /s"
    SHARE = "a share such as 0.1% or 0.001"


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of a result."""

    unit: Unit
    of: Callable[[Result], float]


def _of_account(name: str) -> Metric:
    return Metric(Unit.COUNT, lambda result: float(getattr(result.account, name)))


def _error_rate(result: Result) -> float:
    return result.error_count / max(result.account.attempted, 1) if result.error_count else 0.0


METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "min": Metric(Unit.TIME, lambda result: result.latency.minimum),
        "mean": Metric(Unit.TIME, lambda result: result.latency.mean),
        "max": Metric(Unit.TIME, lambda result: result.latency.maximum),
        "errors": Metric(Unit.COUNT, lambda result: float(result.error_count)),
        "error_rate": Metric(Unit.SHARE, _error_rate),
        "rate": Metric(Unit.RATE, lambda result: result.sent_rate),
        "received_rate": Metric(Unit.RATE, lambda result: result.received_rate),
        "failed_connections": Metric(Unit.COUNT, lambda result: float(result.setup.failed)),
        "connect_p99": Metric(Unit.TIME, lambda result: result.setup.latency.at(99.0)),
        "lag": Metric(Unit.TIME, lambda result: result.resources.lag_p99),
        "cpu": Metric(Unit.SHARE, lambda result: result.resources.cpu_mean),
        "warnings": Metric(Unit.COUNT, lambda result: float(len(result.warnings))),
        **{name: _of_account(name) for name in Account.__dataclass_fields__},
    }
)

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = MappingProxyType(
    {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
)
_FORM: Final = re.compile(
    r"\s*([a-z_]+[0-9.]*)\s*(>=|<=|==|!=|=|>|<)\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*(\S*)\s*"
)
_PERCENTILE: Final = re.compile(r"p([0-9]+(?:\.[0-9]+)?)")
_FACTORS: Final[Mapping[Unit, Mapping[str, float]]] = MappingProxyType(
    {
        Unit.TIME: {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0},
        Unit.COUNT: {"": 1.0},
        Unit.RATE: {"": 1.0, "/s": 1.0},
        Unit.SHARE: {"": 1.0, "%": 0.01},
    }
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """The run fails if ``metric`` ``sign`` ``limit``.

    Attributes:
        text: as it was given.
        metric: ``p99`` (any percentile) or a name in ``METRICS``.
        sign: ``>``, ``>=``, ``<`` or ``<=``.
        limit: in seconds, messages, messages a second, or a share of 1.
        unit: which of these.
    """

    text: str
    metric: str
    sign: str
    limit: float
    unit: Unit


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one threshold.

    Attributes:
        text: the threshold as it was given.
        limit: its limit: seconds, messages, messages a second, or a share of 1, as ``unit`` says.
        value: what the run had; NaN where it has no such number (a latency without samples), which fails.
        passed: the run did not fail by it.
        unit: of ``limit`` and ``value``.
    """

    text: str
    limit: float
    value: float
    passed: bool
    unit: Unit


def parse_threshold(text: str) -> Threshold:
    """Read one condition.

    Raises:
        ValueError: saying what is wrong with it, and what there is.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"threshold {text!r}: must be a metric, >, >=, < or <=, and a number: p99>50ms")
    metric, sign, number, suffix = found.groups()
    if sign not in _OPERATORS:
        raise ValueError(f"threshold {text!r}: compares with >, >=, < or <=, not {sign}")
    unit = _unit_of(text, metric)
    factor = _FACTORS[unit].get(suffix)
    if factor is None:
        given = f"{suffix!r}" if suffix else "no unit"
        raise ValueError(f"threshold {text!r}: {metric} is compared with {unit.value}, not with {given}")
    return Threshold(text.strip(), metric, sign, float(number) * factor, unit)


def _unit_of(text: str, metric: str) -> Unit:
    percentile = _PERCENTILE.fullmatch(metric)
    if percentile is not None:
        if not 0 < float(percentile[1]) <= 100:
            raise ValueError(f"threshold {text!r}: a percentile is over 0 and at most 100: p99, p99.9")
        return Unit.TIME
    if metric not in METRICS:
        near = difflib.get_close_matches(metric, METRICS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        known = f"there are p50, p99.9, ... and {', '.join(METRICS)}"
        raise ValueError(f"threshold {text!r}: no metric {metric!r}; {hint}{known}")
    return METRICS[metric].unit


def judge(thresholds: Iterable[Threshold], result: Result) -> tuple[Verdict, ...]:
    """Compare a result with each threshold, in order."""
    return tuple(_verdict(threshold, _value(threshold.metric, result)) for threshold in thresholds)


def _verdict(threshold: Threshold, value: float) -> Verdict:
    failed = math.isnan(value) or _OPERATORS[threshold.sign](value, threshold.limit)
    return Verdict(threshold.text, threshold.limit, value, not failed, threshold.unit)


def _value(metric: str, result: Result) -> float:
    percentile = _PERCENTILE.fullmatch(metric)
    if (percentile or metric in ("min", "mean", "max")) and not result.latency.count:
        return math.nan  # no answer at all must not pass for a quick one
    if percentile is not None:
        return result.latency.at(float(percentile[1]))
    return METRICS[metric].of(result)
