"""The charts of a report: round numbers on the axes, and every value in its place."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.load.report.charts import Chart, Column, Series, bar_chart, curve_chart, line_chart
from wsclient.load.report.markup import Markup, element, join
from wsclient.load.report.scales import (
    LinearScale,
    LogScale,
    PercentileScale,
    TimeScale,
    clock,
    linear_to,
    value_scale,
)

CHART = Chart("c", "Title", "unit", "{:g}".format, "{:g}".format, "Nothing here")
AMOUNTS = st.floats(1e-9, 1e9)
Point = tuple[float, float]


def columns(count: int, seconds: float = 1) -> list[Column]:
    return [Column(at * seconds, seconds) for at in range(count)]


def parsed(markup: Markup) -> ET.Element:
    return ET.fromstring(markup)


def curves(markup: Markup) -> list[list[Point]]:
    """The points of each path, as shares of the plot: from the left, from the bottom."""
    return [
        [
            (float(x) / 1000, 1 - float(y) / 190)
            for x, y in re.findall(r"[ML]([\d.e+-]+) ([\d.e+-]+)", path.get("d", ""))
        ]
        for path in parsed(markup).iter("path")
    ]


def texts(markup: Markup) -> list[str]:
    return [found.text or "" for found in parsed(markup).iter("text")]


def near(points: Sequence[Point], expected: Sequence[Point]) -> bool:
    return len(points) == len(expected) and all(
        math.dist(one, other) < 0.002 for one, other in zip(points, expected, strict=True)
    )


class TestScales:
    @given(AMOUNTS, st.booleans())
    def test_a_linear_axis_holds_its_value_in_few_round_steps(self, highest: float, whole: bool) -> None:
        scale = linear_to(highest, str, whole=whole)
        assert scale.step * scale.steps >= highest * (1 - 1e-6)
        assert 1 <= scale.steps <= 5
        digits = f"{scale.step:.3e}".split("e")[0].rstrip("0").rstrip(".")
        assert digits in {"1", "2", "2.5", "5"}
        assert not whole or scale.step == int(scale.step)

    @pytest.mark.parametrize("highest", [0.0, -1.0])
    def test_an_axis_without_a_value_has_a_length(self, highest: float) -> None:
        assert [tick.label for tick in linear_to(highest, "{:g}".format, whole=True).ticks()] == ["0", "1"]

    def test_linear_ticks(self) -> None:
        ticks = linear_to(2013, "{:g}".format).ticks()
        assert [(tick.place, tick.label) for tick in ticks] == [
            (0, "0"),
            (1 / 3, "1000"),
            (2 / 3, "2000"),
            (1, "3000"),
        ]

    @given(st.lists(AMOUNTS, min_size=1))
    def test_every_value_has_a_place_and_larger_ones_a_higher(self, values: list[float]) -> None:
        scale = value_scale(values, str)
        places = [scale.place(value) for value in sorted(values)]
        assert places == sorted(places)
        assert all(0 <= place <= 1 for place in places)
        ticks = scale.ticks()
        assert 2 <= len(ticks) <= 8
        assert [tick.place for tick in ticks] == sorted({tick.place for tick in ticks})

    def test_a_spike_makes_the_axis_logarithmic(self) -> None:
        assert isinstance(value_scale([1, 1, 24], str), LinearScale)
        scale = value_scale([0.001, 0.002, 0.9], "{:g}".format)
        assert isinstance(scale, LogScale)
        assert [tick.label for tick in scale.ticks()] == ["0.001", "0.01", "0.1", "1"]
        assert scale.place(0) == scale.place(-1) == 0
        assert scale.place(0.01) == pytest.approx(1 / 3)

    @given(st.floats(1, 1e6))
    def test_a_time_axis_has_few_round_marks(self, end: float) -> None:
        ticks = TimeScale(end).ticks()
        assert 2 <= len(ticks) <= 9
        assert ticks[0].place == 0
        assert ticks[-1].place <= 1

    def test_clock(self) -> None:
        assert [clock(n) for n in (0, 59, 60, 90, 3599, 3600, 90000)] == [
            *("0 s", "59 s", "1:00", "1:30", "59:59", "1:00:00", "25:00:00"),
        ]

    def test_each_nine_takes_the_same_room(self) -> None:
        scale = PercentileScale.of(10_000)
        assert [(tick.label, round(tick.place, 3)) for tick in scale.ticks()] == [
            ("50 %", 0.075),
            ("90 %", 0.25),
            ("99 %", 0.5),
            ("99.9 %", 0.75),
            ("99.99 %", 1.0),
        ]
        assert scale.place(0) == 0
        assert scale.place(100) == 1

    @pytest.mark.parametrize("samples", [0, 1, 7])
    def test_few_samples_have_an_axis(self, samples: int) -> None:
        assert [tick.label for tick in PercentileScale.of(samples).ticks()] == ["50 %", "90 %"]


class TestLines:
    def test_values_are_in_their_places(self) -> None:
        drawn = line_chart(CHART, columns(4), [Series("a", [0, 5, 10, 20], 0)], top=0.0)
        assert near(curves(drawn)[0], [(0.125, 0), (0.375, 0.25), (0.625, 0.5), (0.875, 1)])
        assert texts(drawn)[:5] == ["0", "5", "10", "15", "20"]

    def test_a_missing_value_is_a_gap_and_a_lonely_one_a_dot(self) -> None:
        drawn = line_chart(CHART, columns(6), [Series("a", [1, 1, None, 1, None, 1], 0)])
        lines, dots = [path.get("d", "") for path in parsed(drawn).iter("path")]
        assert (lines.count("M"), lines.count("L")) == (1, 1)
        assert (dots.count("M"), dots.count("L"), dots.count("h0.01")) == (2, 0, 2)

    def test_one_second_is_a_dot_in_the_middle(self) -> None:
        assert near(curves(line_chart(CHART, columns(1), [Series("a", [3], 0)]))[0], [(0.5, 1)])

    @pytest.mark.parametrize("values", [[], [None, None]])
    def test_nothing_is_said_in_words(self, values: list[float | None]) -> None:
        drawn = line_chart(CHART, columns(len(values)), [Series("a", values, 0)])
        assert texts(drawn) == ["Nothing here"]
        assert curves(drawn) == []

    def test_several_lines_have_a_legend_and_dashes_of_their_own(self) -> None:
        drawn = parsed(
            line_chart(CHART, columns(2), [Series(name, [1, 2], n) for n, name in enumerate("abc")])
        )
        assert ["".join(item.itertext()).strip() for item in drawn.iter("li")] == ["a", "b", "c"]
        paths = list(drawn.iter("path"))
        assert len({path.get("stroke-dasharray") for path in paths}) == 3
        assert len({path.get("stroke") for path in paths}) == 3

    def test_a_chart_is_described_for_those_who_cannot_see_it(self) -> None:
        drawing = next(parsed(line_chart(CHART, columns(2), [Series("a", [1, None], 0)])).iter("svg"))
        assert drawing.get("role") == "img"
        assert [found.text for found in drawing][:2] == ["Title (unit)", "a: 1 to 1."]

    def test_an_axis_in_logarithms_says_so(self) -> None:
        drawn = line_chart(CHART, columns(3), [Series("a", [1, 1, 1000], 0)])
        assert "unit, log scale" in drawn
        assert near(curves(drawn)[0], [(1 / 6, 0), (0.5, 0), (5 / 6, 1)])


class TestBars:
    def test_kinds_are_stacked(self) -> None:
        drawn = parsed(bar_chart(CHART, columns(2), [Series("a", [1, 0], 0), Series("b", [3, 2], 1)]))
        bars = [found for found in drawn.iter("rect") if found.get("class") in {"f0", "f1"}]
        assert [(bar.get("class"), float(bar.get("height", ""))) for bar in bars] == [
            ("f0", 47.5),
            ("f1", 142.5),
            ("f1", 95.0),
        ]
        assert [float(bar.get("y", "")) for bar in bars] == [152.5, 10.0, 105.0]

    def test_no_errors_are_no_bars(self) -> None:
        assert texts(bar_chart(CHART, columns(2), [Series("a", [0, None], 0)])) == ["Nothing here"]

    def test_columns_are_as_wide_as_their_time(self) -> None:
        drawn = parsed(
            bar_chart(CHART, [Column(0, 5), Column(5, 5), Column(10, 2)], [Series("a", [1, 1, 1], 0)])
        )
        hits = [found for found in drawn.iter("rect") if found.get("class") == "hit"]
        assert [hit.get("width") for hit in hits] == ["41.667%", "41.667%", "16.667%"]
        assert [next(hit.iter("title")).text for hit in hits] == [
            *("0 s to 5 s\na: 1", "5 s to 10 s\na: 1", "10 s to 12 s\na: 1"),
        ]


class TestCurves:
    def test_points_are_in_their_places(self) -> None:
        drawn = curve_chart(CHART, [(0, 1), (90, 2), (99, 3), (100, 4)], 1000)
        assert near(curves(drawn)[0], [(0, 0.25), (1 / 3, 0.5), (2 / 3, 0.75), (1, 1)])

    def test_points_that_nobody_could_tell_apart_are_drawn_once(self) -> None:
        points = [(100 * n / 50_000, 1 + n / 1e6) for n in range(50_001)]
        (drawn,) = curves(curve_chart(CHART, points, 50_001))
        assert len(drawn) < 2500
        assert math.dist(drawn[-1], (1, 1.05 / 1.5)) < 0.002

    def test_one_sample_is_a_curve(self) -> None:
        drawn = curve_chart(CHART, [(0, 0.2), (100, 0.2)], 1)
        assert near(curves(drawn)[0], [(0, 1), (1, 1)])

    def test_no_sample_is_said(self) -> None:
        assert texts(curve_chart(CHART, [], 0)) == ["Nothing here"]


class TestMarkup:
    def test_all_is_escaped_but_markup(self) -> None:
        inner = element("b", "<&>")
        assert element("p", "a<b", 3, [inner, None], id='"<') == (
            '<p id="&quot;&lt;">a&lt;b3<b>&lt;&amp;&gt;</b></p>'
        )
        assert join(["\x00", Markup("<br>")]) == "\\x00<br>"

    def test_attributes(self) -> None:
        assert element("a", class_="x", data_y=1.25, hidden=True, rel=None, title=False) == (
            '<a class="x" data-y="1.25" hidden></a>'
        )
