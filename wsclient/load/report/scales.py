"""From numbers to places on an axis, and the round numbers that an axis shows. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "LinearScale",
    "LogScale",
    "PercentileScale",
    "Scale",
    "Tick",
    "TimeScale",
    "linear_to",
    "value_scale",
]

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_TICKS = 4
# With a larger ratio of the largest to the typical value, a linear axis shows a flat line and a spike.
_LOG_FROM = 25.0


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it is, from 0 to 1, and what it says."""

    place: float
    label: str


class Scale(Protocol):
    """An axis."""

    def place(self, value: float) -> float:
        """Where a value is, from 0 (start) to 1 (end)."""

    def ticks(self) -> Sequence[Tick]:
        """Its marks, from start to end."""


@dataclass(frozen=True)
class LinearScale:
    """From 0 to ``steps`` round steps."""

    step: float
    steps: int
    label: Callable[[float], str]

    def place(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        return _clamped(value / (self.step * self.steps))

    def ticks(self) -> list[Tick]:
        """One for each step, with 0."""
        return [Tick(n / self.steps, self.label(n * self.step)) for n in range(self.steps + 1)]


@dataclass(frozen=True)
class LogScale:
    """From ``10**low`` to ``10**high``."""

    low: int
    high: int
    label: Callable[[float], str]

    def place(self, value: float) -> float:
        """Where a value is; 0 for all that is too small, 0 itself included."""
        if value <= 0:
            return 0.0
        return _clamped((math.log10(value) - self.low) / (self.high - self.low))

    def ticks(self) -> list[Tick]:
        """One for each power of ten; some are left out when there are many."""
        every = math.ceil((self.high - self.low) / 6)
        return [
            Tick((power - self.low) / (self.high - self.low), self.label(10.0**power))
            for power in range(self.low, self.high + 1, every)
        ]


@dataclass(frozen=True)
class TimeScale:
    """Seconds from 0 to ``end``."""

    end: float

    def place(self, value: float) -> float:
        """Where a moment is, from 0 to 1."""
        return _clamped(value / self.end)

    def ticks(self) -> list[Tick]:
        """At most about eight, at round times."""
        step = next((step for step in _TIME_STEPS if self.end / step <= 8), _TIME_STEPS[-1])
        step *= max(1, math.ceil(self.end / step / 8))
        return [
            Tick(self.place(moment), clock(moment)) for moment in range(0, math.floor(self.end) + 1, step)
        ]


@dataclass(frozen=True)
class PercentileScale:
    """The axis of HDR plots: each further nine takes the same room.

    Attributes:
        nines: powers of ten between the start (0 %) and the end; at least 1.
    """

    nines: float

    @classmethod
    def of(cls, samples: int) -> PercentileScale:
        """As far as so many samples can tell: one in a hundred needs a hundred."""
        return cls(max(1.0, math.log10(max(1, samples))))

    def place(self, percentile: float) -> float:
        """Where a percentile (0 to 100) is; 100 is at the end."""
        above = 1 - percentile / 100
        return 1.0 if above <= 0 else _clamped(-math.log10(above) / self.nines)

    def ticks(self) -> list[Tick]:
        """50 %, 90 %, 99 % and so on."""
        nines = range(1, math.floor(self.nines + 1e-9) + 1)
        return [Tick(self.place(50), "50 %"), *(Tick(n / self.nines, _nines(n)) for n in nines)]


def _nines(count: int) -> str:
    return f"{100 - 10.0 ** (2 - count):.{max(0, count - 2)}f} %"


def clock(seconds: float) -> str:
    """A moment of the run: ``45 s``, ``1:30``, ``1:00:00``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def linear_to(highest: float, label: Callable[[float], str], *, whole: bool = False) -> LinearScale:
    """An axis from 0 that a value fits on, in round steps; ``whole`` for what is counted."""
    if highest <= 0:
        highest = 1.0
    rough = highest / _TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    round_steps = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(times * size for times in round_steps if times * size >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    return LinearScale(step, max(1, math.ceil(highest / step * (1 - 1e-9))), label)


def value_scale(values: Sequence[float], label: Callable[[float], str]) -> LinearScale | LogScale:
    """A linear axis, or a logarithmic one where the largest value dwarfs the others."""
    positive = sorted(value for value in values if value > 0)
    if not positive or positive[-1] / positive[len(positive) // 2] < _LOG_FROM:
        return linear_to(max(values, default=0.0), label)
    low, high = math.floor(math.log10(positive[0])), math.ceil(math.log10(positive[-1]))
    return LogScale(low, max(high, low + 1), label)


def _clamped(place: float) -> float:
    return min(1.0, max(0.0, place))
