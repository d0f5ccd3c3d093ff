"""The report page in a real browser: Chromium, skipped where there is none.

``WSCLIENT_REQUIRE_PEERS=chromium`` makes that a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from load_results import EMPTY, HOSTILE, hostile, ordinary, troubled, verdicts
from peers.chromium import Page, start_chromium
from peers.requirement import available

from wsclient.load.report import render_html
from wsclient.load.result import Result

NARROW, WIDE = 400, 1400
NAMES = ("rate", "percentiles", "distribution", "errors", "connections", "setup", "cpu", "lag")
RESULTS: dict[str, Callable[[], Result]] = {
    "ordinary": ordinary,
    "troubled": troubled,
    "empty": lambda: EMPTY,
    "one second": lambda: ordinary(1),
    "long": lambda: ordinary(500),
    "hostile": hostile,
}

# Name and size of each chart, and the size of what is drawn in it: curves, bars or, in an empty one, words.
CHARTS = """[...document.querySelectorAll("figure")].map((figure) => {
  const box = (found) => found.getBoundingClientRect();
  const size = (found) => [box(found).width, box(found).height];
  const plot = figure.querySelector("svg.plot");
  const drawn = plot.querySelector("path, rect[class^=f], text[font-size]");
  return [figure.id, ...size(plot), ...size(drawn)];
})"""

# Of the window, and how much of the page is beside it.
WIDTHS = """[innerWidth, document.documentElement.scrollWidth - document.documentElement.clientWidth]"""

# What is not where it can be seen: outside the window, but for what scrolls in its card.
OUTSIDE = """[...document.querySelectorAll("body *")].filter((found) => {
  const box = found.getBoundingClientRect();
  if (box.width === 0 || found.closest(".card table, details:not([open]) > :not(summary)")) return false;
  return box.left < -0.5 || box.right > document.documentElement.clientWidth + 0.5;
}).map((found) => found.outerHTML.slice(0, 200))"""

# Pairs of texts of one chart that lie upon each other.
COLLISIONS = """[...document.querySelectorAll("figure")].flatMap((figure) => {
  const all = [...figure.querySelectorAll("svg.plot text")];
  const texts = all.filter((text) => text.getBoundingClientRect().width > 0);
  const boxes = texts.map((text) => text.getBoundingClientRect());
  return texts.flatMap((text, at) => texts.slice(at + 1).filter((_, more) => {
    const one = boxes[at], other = boxes[at + 1 + more];
    const beside = one.left >= other.right || other.left >= one.right;
    return !beside && one.top < other.bottom && other.top < one.bottom;
  }).map((other) => `${figure.id}: ${text.textContent} / ${other.textContent}`));
})"""

CONTRAST = """((selector) => {
  const parse = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const light = (text) => { const [r, g, b] = parse(text); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  return [...document.querySelectorAll(selector)].map((found) => {
    const style = getComputedStyle(found);
    const ink = found.closest("svg") ? (style.stroke === "none" ? style.fill : style.stroke) : style.color;
    let under = found;
    while (under && /, 0\\)$/.test(getComputedStyle(under).backgroundColor)) under = under.parentElement;
    const [one, other] = [light(ink), light(getComputedStyle(under || document.body).backgroundColor)];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  });
})"""


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with available("chromium", start_chromium, request, tmp_path_factory) as found:
        yield found


def shown(
    page: Page,
    folder: Path,
    result: Result,
    *,
    width: int = WIDE,
    height: int = 900,
    dark: bool = False,
    policy: str = "",
) -> Page:
    """The page of a result, opened from a file; ``policy`` is one more content security policy."""
    path = folder / "out.html"
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if policy else ""
    text = render_html(result, verdicts(result, "p99>50ms", "errors>0"))
    path.write_text(text.replace("<head>", f"<head>{meta}"), encoding="utf-8")
    page.open(path, width=width, height=height, dark=dark)
    return page


def complaints(page: Page) -> list[Any]:
    """Everything that a browser says when it does not like a page."""
    return (
        page.happened("Runtime.consoleAPICalled")
        + page.happened("Runtime.exceptionThrown")
        + page.happened("Log.entryAdded")
    )


def requests(page: Page) -> list[str]:
    urls = [params["request"]["url"] for params in page.happened("Network.requestWillBeSent")]
    return [url for url in urls if not url.startswith("data:")]


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("name", RESULTS)
def test_the_page_is_whole(page: Page, tmp_path: Path, name: str, width: int) -> None:
    shown(page, tmp_path, RESULTS[name](), width=width)
    charts = page.evaluate(CHARTS)
    assert [chart[0] for chart in charts] == [f"chart-{name}" for name in NAMES]
    for chart, *sizes in charts:
        assert sizes[0] > 250, chart
        assert sizes[1] == 224, chart
        assert max(sizes[2:]) > 0, chart
    assert page.evaluate(WIDTHS) == [width, 0]
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(COLLISIONS) == []
    assert complaints(page) == []
    assert requests(page) == [(tmp_path / "out.html").as_uri()]


def test_what_does_not_fit_is_noticed(page: Page, tmp_path: Path) -> None:
    shown(page, tmp_path, ordinary(1), width=NARROW)
    page.evaluate("document.querySelector('h1').style.minWidth = '500px'")
    page.evaluate("document.querySelectorAll('svg.plot text')[1].setAttribute('y', 205)")
    page.evaluate("console.error('broken')")
    assert page.evaluate(WIDTHS)[1] > 0
    assert len(page.evaluate(OUTSIDE)) > 0
    assert len(page.evaluate(COLLISIONS)) == 1
    assert len(complaints(page)) == 1


def test_a_hostile_server_runs_nothing(page: Page, tmp_path: Path) -> None:
    shown(page, tmp_path, hostile())
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert page.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
    assert page.happened("Page.javascriptDialogOpening") == []
    assert "<script>alert(1)</script>" in HOSTILE
    assert "<script>alert(1)</script>" in page.evaluate("document.body.innerText")


def test_what_slipped_through_would_not_run(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    injected = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    path.write_text(render_html(ordinary()).replace("<main>", f"<main>{injected}"), encoding="utf-8")
    page.open(path, width=WIDE)
    assert page.evaluate("document.title").startswith("Load report")
    assert len(page.happened("Log.entryAdded")) >= 2  # the browser says what it refused


def test_it_is_readable_where_neither_style_nor_script_may_run(page: Page, tmp_path: Path) -> None:
    shown(page, tmp_path, troubled(), policy="default-src 'none'")
    assert page.evaluate("getComputedStyle(document.querySelector('.tiles')).display") == "block"
    for _, *sizes in page.evaluate(CHARTS):
        assert min(sizes[:2]) > 0
        assert max(sizes[2:]) > 0
    paths = page.evaluate(
        "[...document.querySelectorAll('path')].map((path) => getComputedStyle(path).stroke)"
    )
    assert set(paths) & {"none", "rgb(255, 255, 255)"} == set()
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("document.querySelectorAll('.hit > title').length") > 0


def test_pointing_at_a_chart_tells_its_numbers(page: Page, tmp_path: Path) -> None:
    result = ordinary()
    shown(page, tmp_path, result, height=2000)  # so that nothing has to be scrolled
    find = "document.querySelectorAll('#chart-rate .hit')[10]"
    x, y = page.evaluate(f"(({{x, y, width}}) => [x + width / 2, y + 40])({find}.getBoundingClientRect())")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    told = page.evaluate("(({hidden, textContent}) => [hidden, textContent])(document.querySelector('.tip'))")
    second = result.seconds[10]
    numbers = f"sent: {second.sent:,}/s\nreceived: {second.received:,}/s\nasked for: 2,000/s"
    assert told == [False, f"10 s\n{numbers}"]
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert page.evaluate("document.querySelector('.tip').hidden") is True
    assert complaints(page) == []


@pytest.mark.parametrize("dark", [False, True])
def test_both_themes_have_contrast(page: Page, tmp_path: Path, dark: bool) -> None:
    shown(page, tmp_path, troubled(), dark=dark)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(15, 18, 22)" if dark else "rgb(245, 246, 248)")
    words = page.evaluate(f"{CONTRAST}('h1, h2, p, td, th, dt, dd div, li, .badge, .unit, .plot text')")
    lines = page.evaluate(f"{CONTRAST}('svg path, .legend line')")
    assert min(words) >= 4.5  # WCAG 2.1, 1.4.3
    assert min(lines) >= 3.0  # and 1.4.11


def test_it_can_be_printed(page: Page, tmp_path: Path) -> None:
    shown(page, tmp_path, troubled(), dark=True)
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert min(page.evaluate(f"{CONTRAST}('h1, h2, td, .plot text')")) >= 4.5
        printed = page.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        assert len(printed["data"]) > 10_000
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
