"""What the pictures of the documents have in common: how they look, and how they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOUR", "OTHER_COLOUR", "new_figure", "save"]

COLOUR, OTHER_COLOUR = "#0b6e4f", "#8c96a3"  # of wsclient, of whatever stands next to it
_WIDTH = 9.0  # inches


def new_figure(height: float) -> Figure:
    """An empty figure, so many inches high.

    Raises:
        ImportError: matplotlib is not installed (extra ``bench``).
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "wsclient", "font.size": 9})
    mpl.rcParams.update({"axes.titlesize": 9, "axes.titleweight": "bold"})
    return Figure(figsize=(_WIDTH, height))


def save(figure: Figure, stem: Path, dpi: int) -> list[Path]:
    """Write ``stem.svg``, the same whenever the figure is, and ``stem.png``."""
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=dpi)
    return paths
