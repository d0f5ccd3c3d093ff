"""The picture of a soak: memory, threads and open files, and the rate, over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figure import COLOUR, OTHER_COLOUR, new_figure, save
from reliability.soak.judge import Sample
from reliability.soak.run import Soak

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "make_figure"]

_MIB = 1024 * 1024


def draw(soak: Soak, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``.

    Raises:
        ImportError: matplotlib is not installed (extra ``bench``).
    """
    return save(make_figure(soak), stem, dpi=120)


def make_figure(soak: Soak) -> Figure:
    """Draw the panels: a line for each round, and a dot for each rest.

    Raises:
        ImportError: matplotlib is not installed (extra ``bench``).
    """
    figure = new_figure(6.5)
    memory, counts, rate = figure.subplots(3, 1, sharex=True).flat
    for part in _rounds(soak):
        times = [one.seconds for one in part]
        memory.plot(times, [one.memory / _MIB for one in part], color=COLOUR)
        counts.plot(times, [one.threads for one in part], color=COLOUR)
        counts.plot(times, [one.files for one in part], color=OTHER_COLOUR)
        rate.plot(times[1:], _rates(part), color=COLOUR)
    times = [one.seconds for one in soak.rests]
    memory.plot(times, [one.memory / _MIB for one in soak.rests], "o", color=COLOUR, ms=4)
    counts.plot(times, [one.threads for one in soak.rests], "o", color=COLOUR, ms=4, label="threads")
    counts.plot(times, [one.files for one in soak.rests], "o", color=OTHER_COLOUR, ms=4, label="open files")
    counts.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0, ncols=2)
    _name(memory, "resident memory of the process (MiB); dots: with all connections closed")
    _name(counts, "threads and open files, those of the proxy among them")
    _name(rate, "messages accepted a second")
    rate.set_xlabel(_caption(soak))
    figure.tight_layout()
    return figure


def _rounds(soak: Soak) -> Iterator[list[Sample]]:
    for begin, end in pairwise(rest.seconds for rest in soak.rests):
        yield [one for one in soak.samples if begin < one.seconds <= end]


def _rates(samples: Sequence[Sample]) -> list[float]:
    return [
        (after.messages - before.messages) / (after.seconds - before.seconds)
        for before, after in pairwise(samples)
    ]


def _name(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def _caption(soak: Soak) -> str:
    total = soak.balance
    return (
        f"seconds; {total.connections:,} connections, {total.links - total.connections:,} reconnects, "
        f"{sum(soak.faults.values()):,} faults, {total.accepted:,} messages, {total.lost} lost"
    )
