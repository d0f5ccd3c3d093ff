"""The report as one HTML file: no request to anywhere, and readable under the strictest policy. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from wsclient import __version__
from wsclient.load.report import sections
from wsclient.load.report.markup import Markup, element, join, verbatim
from wsclient.load.report.masking import masked
from wsclient.load.report.plots import charts, grouping
from wsclient.load.report.style import SCRIPT, STYLE
from wsclient.load.report.text import span
from wsclient.load.result import Result
from wsclient.load.thresholds import Verdict

__all__ = ["render_html"]


def render_html(result: Result, verdicts: Sequence[Verdict] = ()) -> str:
    """The whole page, for people: charts, tables, verdicts, in light and dark, on paper and on a phone.

    Args:
        result: of the run. Texts in it may come from a hostile server.
        verdicts: of its thresholds, in their order.
    """
    result, verdicts = masked(result), masked(tuple(verdicts))
    head = element("head", _policy(), _head(result), element("style", verbatim(STYLE)))
    body = element(
        "body",
        _header(result, verdicts),
        element("main", _main(result, verdicts)),
        element(
            "footer",
            element("p", f"Written by wsclient {__version__}. This file asks for nothing from anywhere."),
        ),
        element("script", verbatim(SCRIPT)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _policy() -> Markup:
    """Even if something slipped through the escaping, a browser would neither run nor fetch it."""
    rules = (
        "default-src 'none'",
        "img-src data:",
        f"style-src '{_digest(STYLE)}'",
        f"script-src '{_digest(SCRIPT)}'",
        "base-uri 'none'",
        "form-action 'none'",
    )
    charset = element("meta", charset="utf-8")
    return join([charset, element("meta", http_equiv="Content-Security-Policy", content="; ".join(rules))])


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _head(result: Result) -> Markup:
    return join(
        [
            element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name_="color-scheme", content="light dark"),
            element("title", f"Load report: {_target(result)}"),
            # Without it a browser would ask the server of the page for an icon.
            element("link", rel="icon", href="data:,"),
        ]
    )


def _header(result: Result, verdicts: Sequence[Verdict]) -> Markup:
    top = element("div", element("h1", "Load report"), sections.badge(verdicts), class_="top")
    moment = element("time", result.started.replace("T", " "), datetime=result.started)
    when = element("p", "Started ", moment, f", for {span(result.elapsed)}", class_="sub")
    return element("header", top, element("p", _target(result), class_="sub"), when)


def _target(result: Result) -> str:
    return ", ".join(result.plan.urls)


def _main(result: Result, verdicts: Sequence[Verdict]) -> list[Markup | None]:
    return [
        sections.warnings(result),
        sections.tiles(result),
        sections.thresholds(verdicts),
        element(
            "section",
            element("h2", "Over time, and by percentile"),
            element("div", charts(result), class_="charts"),
            _grouped(result),
            class_="plots",
        ),
        sections.account(result),
        sections.errors(result),
        element("div", sections.latency(result), sections.setup(result), class_="pair"),
        element("div", sections.resources(result), sections.plan(result), class_="pair"),
        sections.seconds(result),
    ]


def _grouped(result: Result) -> Markup | None:
    size = grouping(result)
    if size == 1:
        return None
    text = (
        f"Each place on the time axes stands for {size} seconds: of rates the mean is shown, of errors "
        "the sum, of percentiles, CPU and lag the highest second, of open connections the lowest."
    )
    return element("p", text, class_="small")
