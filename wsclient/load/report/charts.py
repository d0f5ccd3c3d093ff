"""From numbers to SVG figures, readable by eye and by a screen reader, without JavaScript or CSS. Pure.

A figure has no fixed width. Its texts and grid stand at percentages, so that letters keep their size; only
the curves are stretched, with strokes that are not (``vector-effect``). Colours are presentation attributes,
which a content security policy cannot forbid; the style sheet, where it is allowed, overrides them by theme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from wsclient.load.report.markup import Markup, element, join
from wsclient.load.report.scales import (
    LinearScale,
    PercentileScale,
    Scale,
    Tick,
    TimeScale,
    clock,
    linear_to,
    value_scale,
)

__all__ = ["Chart", "Column", "Curve", "Series", "bar_chart", "curve_chart", "line_chart"]

Number = float | None
Format = Callable[[float], str]

_TOP, _BOTTOM = 10, 24  # pixels for the upper half of the first label, and for the lower axis
_HEIGHT = 190  # pixels of the plot itself
_WIDTH = 1000  # units of the stretched curves
_CROWD = 5  # labels that a narrow screen has no room for
_GRID, _TEXT, _TITLE_PIXELS = "#d9dde3", "#59636e", 11
# Blue, vermilion, green, purple, amber, grey: told apart with each kind of colour blindness (after Okabe and
# Ito), at a contrast of at least 3:1 on white. The style sheet has the dark theme's.
PALETTE = ("#0072b2", "#d55e00", "#008a64", "#a8518a", "#a87300", "#6e7781")
# A curve is known by its dashes too.
_DASHES = (None, "7 3", "2 3", "9 3 2 3", "4 2", "1 4")


@dataclass(frozen=True)
class Column:
    """One place on the time axis: from ``start`` for ``seconds``, both in seconds of the run."""

    start: float
    seconds: float

    @property
    def label(self) -> str:
        """How it is called when pointed at."""
        return (
            clock(self.start)
            if self.seconds <= 1
            else f"{clock(self.start)} to {clock(self.start + self.seconds)}"
        )


@dataclass(frozen=True)
class Series:
    """One line or colour of a chart.

    Attributes:
        label: in the legend.
        values: one for each column; ``None`` is a gap.
        colour: index into the palette.
    """

    label: str
    values: Sequence[Number]
    colour: int


@dataclass(frozen=True)
class Chart:
    """What every chart says of itself.

    Attributes:
        name: identifier within the page, lower case letters and dashes.
        title: what is shown.
        unit: what the numbers are, beside the title.
        format: a number as text when pointed at.
        label: a number as text on the axis.
        empty: what is said when there is nothing to show.
    """

    name: str
    title: str
    unit: str
    format: Format
    label: Format
    empty: str


Curve = tuple[float, float]


def line_chart(
    chart: Chart,
    columns: Sequence[Column],
    series: Sequence[Series],
    *,
    whole: bool = False,
    top: float | None = None,
) -> Markup:
    """Lines over the time of the run.

    Args:
        chart: what it says of itself.
        columns: the time axis, in order, without gaps.
        series: the lines, the lowest first; with several, all but the first are dashed.
        whole: the values are counts: no fractions on the axis.
        top: a value that the axis reaches at least; it makes the axis linear.
    """
    values = [value for line in series for value in line.values if value is not None]
    if not columns or not values:
        return _figure(chart, [], _nothing(chart.empty), "")
    vertical: Scale = (
        value_scale(values, chart.label)
        if top is None and not whole
        else linear_to(max(*values, top or 0.0), chart.label, whole=whole)
    )
    time = _time_scale(columns)
    dashed = len(series) > 1
    paths = [_line(line, columns, time, vertical, dashed=dashed) for line in series]
    parts = [
        _grid(vertical),
        _axis(time.ticks()),
        _stretched(*paths),
        _pointed_at(chart, columns, series, time),
    ]
    return _figure(_with_scale(chart, vertical), series, parts, _in_words(chart, series))


def bar_chart(chart: Chart, columns: Sequence[Column], series: Sequence[Series]) -> Markup:
    """Counts over the time of the run, stacked.

    Args:
        chart: what it says of itself.
        columns: the time axis, in order, without gaps.
        series: the parts of each bar, the lowest first.
    """
    totals = [sum(part.values[at] or 0 for part in series) for at in range(len(columns))]
    if not any(totals):
        return _figure(chart, [], _nothing(chart.empty), "")
    vertical = linear_to(max(totals), chart.label, whole=True)
    time = _time_scale(columns)
    bars = [bar for at, column in enumerate(columns) for bar in _bar(series, at, column, time, vertical)]
    parts = [_grid(vertical), _axis(time.ticks()), *bars, _pointed_at(chart, columns, series, time)]
    return _figure(chart, series, parts, _in_words(chart, series), stacked=True)


def curve_chart(chart: Chart, points: Sequence[Curve], samples: int) -> Markup:
    """A latency for each percentile, on the axis of HDR plots.

    Args:
        chart: what it says of itself.
        points: percentile (0 to 100) and value, both rising.
        samples: how many values there were; they end the axis.
    """
    if not points:
        return _figure(chart, [], _nothing(chart.empty), "")
    across = PercentileScale.of(samples)
    vertical = value_scale([value for _, value in points], chart.label)
    places = _apart([(across.place(percentile), vertical.place(value)) for percentile, value in points])
    path = _path(_segment(places), 0, dashed=False)
    hits = [_hit(start, end, text) for start, end, text in _curve_hits(chart, points, across)]
    parts = [_grid(vertical), _axis(across.ticks()), _stretched(path), join(hits)]
    words = f"{len(points)} points, from {chart.format(points[0][1])} to {chart.format(points[-1][1])}."
    return _figure(_with_scale(chart, vertical), [], parts, words)


# Figures.


def _figure(
    chart: Chart,
    series: Sequence[Series],
    plot: Iterable[Markup] | Markup,
    words: str,
    *,
    stacked: bool = False,
) -> Markup:
    title = element("strong", chart.title)
    unit = element("span", chart.unit, class_="unit")
    drawing = element(
        "svg",
        element("title", f"{chart.title} ({chart.unit})"),
        element("desc", words or chart.empty),
        plot,
        class_="plot",
        role="img",
        width="100%",
        height=_TOP + _HEIGHT + _BOTTOM,
        overflow="visible",
        font_size=_TITLE_PIXELS,
        font_family="system-ui, sans-serif",
    )
    caption = element("figcaption", title, " ", unit)
    return element("figure", caption, _legend(series, stacked=stacked), drawing, id=f"chart-{chart.name}")


def _with_scale(chart: Chart, scale: Scale) -> Chart:
    if isinstance(scale, LinearScale):
        return chart
    return Chart(chart.name, chart.title, f"{chart.unit}, log scale", chart.format, chart.label, chart.empty)


def _legend(series: Sequence[Series], *, stacked: bool) -> Markup | None:
    """Nothing for one line: the title has said what it is."""
    if len(series) < 2 and not stacked:
        return None
    items = [element("li", _swatch(line.colour, stacked=stacked), " ", line.label) for line in series]
    return element("ul", items, class_="legend")


def _swatch(colour: int, *, stacked: bool) -> Markup:
    stroke = element(
        "line",
        x1=0,
        x2=22,
        y1=6,
        y2=6,
        stroke=PALETTE[colour],
        stroke_width=10 if stacked else 2,
        stroke_dasharray=None if stacked else _DASHES[colour],
        class_=f"s{colour}",
    )
    return element("svg", stroke, width=22, height=12, aria_hidden="true")


def _in_words(chart: Chart, series: Sequence[Series]) -> str:
    """For those who can't see it: the range of each line."""
    return " ".join(
        f"{line.label}: {chart.format(min(known))} to {chart.format(max(known))}."
        for line in series
        if (known := [value for value in line.values if value is not None])
    )


def _nothing(text: str) -> list[Markup]:
    middle = _TOP + _HEIGHT / 2
    frame = element(
        "rect", x=0, y=_TOP, width="100%", height=_HEIGHT, fill="none", stroke=_GRID, class_="grid", rx=4
    )
    return [frame, _text("50%", middle + 4, text, anchor="middle", size=13)]


def _grid(scale: Scale) -> Markup:
    return join(_grid_line(tick) for tick in scale.ticks())


def _grid_line(tick: Tick) -> Markup:
    y = _TOP + _HEIGHT * (1 - tick.place)
    axis = "axis" if tick.place == 0 else "grid"
    line = element("line", x1=0, x2="100%", y1=y, y2=y, stroke=_GRID, class_=axis)
    return join([line, _text(-6, y + 4, tick.label, anchor="end")])


def _axis(ticks: Sequence[Tick]) -> Markup:
    """The labels below; every other one gives way on a narrow screen."""
    return join(_axis_label(tick, narrow=at % 2 == 0 or len(ticks) < _CROWD) for at, tick in enumerate(ticks))


def _axis_label(tick: Tick, *, narrow: bool) -> Markup:
    anchor = "start" if tick.place < 0.02 else "end" if tick.place > 0.98 else "middle"
    x = _percentage(tick.place)
    y = _TOP + _HEIGHT
    mark = element("line", x1=x, x2=x, y1=y, y2=y + 4, stroke=_GRID, class_="axis")
    return join([mark, _text(x, y + 18, tick.label, anchor=anchor, class_=None if narrow else "wide")])


def _text(
    x: str | float, y: float, text: str, *, anchor: str, size: int | None = None, class_: str | None = None
) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, fill=_TEXT, font_size=size, class_=class_)


def _time_scale(columns: Sequence[Column]) -> TimeScale:
    return TimeScale(columns[-1].start + columns[-1].seconds)


# Curves, bars, and what is said of a place when it is pointed at.


def _stretched(*paths: Markup) -> Markup:
    return element(
        "svg",
        *paths,
        x=0,
        y=_TOP,
        width="100%",
        height=_HEIGHT,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        overflow="visible",
    )


def _line(
    line: Series, columns: Sequence[Column], time: TimeScale, vertical: Scale, *, dashed: bool
) -> Markup:
    """A curve through the middles of the columns, with a gap where a value is missing.

    A value between two gaps would be a line of no length: it gets a dot.
    """
    pairs = list(zip(columns, line.values, strict=True))
    runs = [list(run) for known, run in groupby(pairs, lambda pair: pair[1] is not None) if known]
    placed = [
        [(time.place(column.start + column.seconds / 2), vertical.place(value or 0)) for column, value in run]
        for run in runs
    ]
    lines = "".join(_segment(run) for run in placed if len(run) > 1)
    dots = "".join(f"{_segment(run)}h0.01" for run in placed if len(run) == 1)
    return join(
        [
            _path(lines, line.colour, dashed=dashed) if lines else None,
            _path(dots, line.colour, dashed=False, width=7) if dots else None,
        ]
    )


def _segment(places: Sequence[tuple[float, float]]) -> str:
    return "".join(
        f"{'L' if at else 'M'}{across * _WIDTH:.5g} {(1 - up) * _HEIGHT:.4g}"
        for at, (across, up) in enumerate(places)
    )


def _apart(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without the points that nobody could tell from the one before; the last stays."""
    kept: list[tuple[float, float]] = []
    for place in places:
        if not kept or math.dist(kept[-1], place) >= 1 / _WIDTH:
            kept.append(place)
    return kept if not places or kept[-1] == places[-1] else [*kept, places[-1]]


def _path(d: str, colour: int, *, dashed: bool, width: int = 2) -> Markup:
    dashes = _DASHES[colour] if dashed else None
    return element(
        "path",
        d=d,
        fill="none",
        stroke=PALETTE[colour],
        stroke_width=width,
        stroke_linejoin="round",
        stroke_linecap="butt" if dashes else "round",
        stroke_dasharray=dashes,
        vector_effect="non-scaling-stroke",
        class_=f"s{colour}",
    )


def _bar(
    series: Sequence[Series], at: int, column: Column, time: TimeScale, vertical: Scale
) -> Iterable[Markup]:
    start, width = time.place(column.start), column.seconds / time.end
    below = 0.0
    for part in series:
        value = part.values[at] or 0
        if value:
            y = _TOP + _HEIGHT * (1 - vertical.place(below + value))
            height = _HEIGHT * (vertical.place(below + value) - vertical.place(below))
            yield element(
                "rect",
                x=_percentage(start + width * 0.05),
                width=_percentage(width * 0.9),
                y=y,
                height=height,
                fill=PALETTE[part.colour],
                class_=f"f{part.colour}",
            )
        below += value


def _pointed_at(chart: Chart, columns: Sequence[Column], series: Sequence[Series], time: TimeScale) -> Markup:
    return join(
        _hit(
            time.place(column.start),
            time.place(column.start + column.seconds),
            "\n".join([column.label, *(_value_line(chart, line, at) for line in series)]),
        )
        for at, column in enumerate(columns)
    )


def _value_line(chart: Chart, line: Series, at: int) -> str:
    value = line.values[at]
    return f"{line.label}: {'no data' if value is None else chart.format(value)}"


def _curve_hits(
    chart: Chart, points: Sequence[Curve], across: PercentileScale
) -> Iterable[tuple[float, float, str]]:
    """Strips between the points, each at least two pixels wide or so."""
    start = 0.0
    for percentile, value in points:
        end = across.place(percentile)
        if end - start >= 1 / 300 or percentile >= 100:
            yield start, max(end, start + 1 / 300), f"{percentile:.6g} % took at most {chart.format(value)}"
            start = end


def _hit(start: float, end: float, text: str) -> Markup:
    return element(
        "rect",
        element("title", text),
        x=_percentage(start),
        width=_percentage(end - start),
        y=_TOP,
        height=_HEIGHT,
        fill="transparent",
        class_="hit",
    )


def _percentage(share: float) -> str:
    return f"{share * 100:.5g}%"
