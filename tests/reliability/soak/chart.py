"""The picture of a soak: memory, threads and open files, and the rate, over time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from reliability.soak.judge import Sample
from reliability.soak.run import Soak

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "make_figure"]

_OURS, _OTHER = "#0b6e4f", "#8c96a3"
_MIB = 1024 * 1024


def draw(soak: Soak, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``.

    Raises:
        ImportError: matplotlib is not installed (extra ``bench``).
    """
    figure = make_figure(soak)
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=120)
    return paths


def make_figure(soak: Soak) -> Figure:
    """Draw the panels.

    Raises:
        ImportError: matplotlib is not installed (extra ``bench``).
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "wsclient", "font.size": 9, "axes.titleweight": "bold"})
    mpl.rcParams.update({"axes.titlesize": 9})
    figure = Figure(figsize=(9, 6.5))
    panels = list(figure.subplots(3, 1, sharex=True).flat)
    times = [one.seconds for one in soak.samples]
    panels[0].plot(times, [one.memory / _MIB for one in soak.samples], color=_OURS)
    _name(panels[0], "resident memory of the process (MiB)")
    panels[1].plot(times, [one.threads for one in soak.samples], color=_OURS, label="threads")
    panels[1].plot(times, [one.files for one in soak.samples], color=_OTHER, label="open files")
    panels[1].legend(frameon=False, loc="lower right", ncols=2)
    _name(panels[1], "threads and open files, those of the proxy among them")
    panels[2].plot(times[1:], _rates(soak.samples), color=_OURS)
    _name(panels[2], "messages accepted a second")
    panels[2].set_xlabel(_caption(soak))
    figure.tight_layout()
    return figure


def _rates(samples: tuple[Sample, ...]) -> list[float]:
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
