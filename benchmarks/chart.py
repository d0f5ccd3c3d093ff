"""The bar chart of a full run, as SVG and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figure import COLOUR, OTHER_COLOUR, new_figure, save
from benchmarks.goals import Medians
from benchmarks.names import OURS
from benchmarks.report import number
from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "make_figure"]

_PANELS = (  # scenario, metric: what fits into a README and says most
    ("send-64-8", "rate"),
    ("send-64-50", "rate"),
    ("send-4k-8", "rate"),
    ("send-1m", "rate"),
    ("receive-64", "rate"),
    ("receive-1m", "rate"),
    ("send-json", "rate"),
    ("send-json", "wire"),
    ("round-trip", "p50"),
    ("connections", "memory"),
)
_BARS = ("wsclient", "wsclient-deflate", "websocket-client", "websockets", "websockets-deflate", "sendall")
_COLOURS = {"wsclient": COLOUR, "wsclient-deflate": COLOUR, "sendall": "#d9d9d9"}
_COLUMNS = 2


def draw(medians: Medians, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png`` with a panel for each scenario that was run.

    Raises:
        ImportError: matplotlib is not installed (extra ``bench``).
    """
    return save(make_figure(medians), stem, dpi=160)


def make_figure(medians: Medians) -> Figure:
    """Draw the panels.

    Raises:
        ImportError: matplotlib is not installed (extra ``bench``).
    """
    panels = [panel for panel in _PANELS if panel[0] in medians]
    lines = -(-len(panels) // _COLUMNS)
    figure = new_figure(1.45 * lines + 0.3)
    grid = figure.subplots(lines, _COLUMNS, squeeze=False)
    drawn, spare = list(grid.flat)[: len(panels)], list(grid.flat)[len(panels) :]
    for axes, panel in zip(drawn, panels, strict=True):
        _draw_panel(axes, *panel, medians)
    for axes in spare:
        axes.set_visible(False)
    figure.tight_layout(h_pad=1.2)
    _widen_titles(drawn)
    return figure


def _widen_titles(panels: Sequence[Axes]) -> None:
    # Above the bars alone there is no room for the longest titles: let all begin above the names.
    lefts = []
    for axes in panels:
        names = axes.yaxis.get_tightbbox()
        assert names is not None
        lefts.append(axes.transAxes.inverted().transform((names.x0, 0))[0])
    for axes in panels:
        axes.set_title(axes.get_title(loc="left"), loc="left", x=min(lefts))


def _draw_panel(axes: Axes, name: str, key: str, medians: Medians) -> None:
    scenario = SCENARIOS[name]
    metric = next(metric for metric in scenario.metrics if metric.key == key)
    bars = [bar for bar in _BARS if bar in medians[name]]
    values = [medians[name][bar][key] for bar in bars]
    axes.barh(bars, values, color=[_COLOURS.get(bar, OTHER_COLOUR) for bar in bars], height=0.72)
    ours = medians[name].get(OURS, {}).get(key)
    for position, (bar, value) in enumerate(zip(bars, values, strict=True)):
        ratio = f"  ({value / ours:.2g} x)" if ours and bar != OURS else ""
        axes.text(value, position, f" {number(value, metric)}{ratio}", va="center")
    better = "" if metric.more_is_better else ", less is better"
    part = "" if len(scenario.metrics) == 1 else f", {key}" if key.startswith("p") else ""
    axes.set_title(f"{scenario.title}{part} ({metric.unit}{better})", loc="left")
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.35)
    axes.set_xticks([])
    axes.tick_params(left=False)
    axes.spines[:].set_visible(False)
