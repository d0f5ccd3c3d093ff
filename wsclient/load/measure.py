"""Times into distributions: bins that processes send each other, and the HDR histogram that they end up in.

A bin is a number of microseconds cut to eleven binary digits: just what an HDR histogram of three significant
digits keeps apart, so that nothing is lost on the way, and a second of 100,000 samples is a small dictionary.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from wsclient.load.result import PERCENTILES, DistributionPoint, Latency, Percentile

__all__ = ["Bins", "Distribution", "binned", "drain", "quantiles", "require_histograms"]

Bins: TypeAlias = "dict[int, int]"
"""Microseconds to the number of samples."""

_DIGITS: Final = 3
_LONGEST: Final = 3_600_000_000  # microseconds: an hour
_BITS: Final = 11  # of a bin: more than 2 * 10**_DIGITS
_POINTS_PER_HALVING: Final = 5  # of the distribution: between 50 and 75 percent, 75 and 87.5, ...


def require_histograms() -> Callable[..., Any]:
    """The class of ``hdrhistogram``.

    Raises:
        RuntimeError: it is not installed; the text names the extra.
    """
    try:
        from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise RuntimeError(f"no module {error.name!r}: load runs need pip install 'wsclient[cli]'") from error
    made: Callable[..., Any] = HdrHistogram
    return made


def drain(samples: deque[float]) -> list[float]:
    """Take what is in ``samples`` now, while other threads append."""
    return [samples.popleft() for _ in range(len(samples))]


def binned(samples: Iterable[float]) -> Bins:
    """Sort times in seconds into bins."""
    bins: Bins = {}
    for value, count in Counter([int(sample * 1e6 + 0.5) for sample in samples]).items():
        low = _lowest(max(value, 0))
        bins[low] = bins.get(low, 0) + count
    return bins


def _lowest(value: int) -> int:
    shift = max(value.bit_length() - _BITS, 0)
    return value >> shift << shift


def _highest(value: int) -> int:
    return value + (1 << max(value.bit_length() - _BITS, 0)) - 1


def quantiles(bins: Mapping[int, int], percents: Iterable[float]) -> list[float]:
    """Seconds within which each of these rising percents of the samples lie. Not for empty bins."""
    total, found = sum(bins.values()), []
    values = iter(sorted(bins))
    value, seen = 0, 0
    for percent in percents:
        while seen < max(percent / 100 * total, 1) - 1e-9:
            value = next(values)
            seen += bins[value]
        found.append(_highest(value) / 1e6)
    return found


class Distribution:
    """All samples of a run, one thread's own. Cheap to add to; ``summary`` makes the HDR histogram."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()  # the thread that made it

    def add(self, bins: Mapping[int, int]) -> None:
        """Take in what one process measured in a while."""
        self._bins.update(bins)

    @property
    def count(self) -> int:
        """Samples so far."""
        return self._bins.total()

    def percentiles(self) -> tuple[Percentile, ...]:
        """Those of ``PERCENTILES``; empty without samples."""
        if not self._bins:
            return ()
        return tuple(map(Percentile, PERCENTILES, quantiles(self._bins, PERCENTILES)))

    def summary(self, what: str, since: str) -> Latency:
        """Everything about it.

        Args:
            what, since: see ``Latency``.

        Raises:
            RuntimeError: ``hdrhistogram`` is not installed.
        """
        if not self._bins:
            return Latency(what=what, since=since)
        histogram = self._histogram()
        return Latency(
            what=what,
            since=since,
            count=self.count,
            minimum=min(self._bins) / 1e6,
            mean=histogram.get_mean_value() / 1e6,
            deviation=histogram.get_stddev() / 1e6,
            maximum=_highest(max(self._bins)) / 1e6,
            percentiles=self.percentiles(),
            distribution=_points(histogram),
            overflowed=sum(count for value, count in self._bins.items() if value > _LONGEST),
            histogram=histogram.encode().decode("ascii"),
        )

    def _histogram(self) -> Any:
        histogram = require_histograms()(1, _LONGEST, _DIGITS)
        for value, count in self._bins.items():
            histogram.record_value(min(value, _LONGEST), count)
        return histogram


def _points(histogram: Any) -> tuple[DistributionPoint, ...]:
    points = []
    for item in histogram.get_percentile_iterator(_POINTS_PER_HALVING):
        # Where the iterator stands may be a little above the share of samples that it has counted.
        percent = min(item.percentile, 100.0)
        value = histogram.get_highest_equivalent_value(item.value_iterated_to)
        points.append(DistributionPoint(percent, value / 1e6, item.total_count_to_this_value))
    return tuple(points)
