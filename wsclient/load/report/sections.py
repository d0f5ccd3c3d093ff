"""The parts of the page that are not charts: the verdict, the big numbers, the tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from types import MappingProxyType

from wsclient.load.report.markup import Child, Markup, element
from wsclient.load.report.text import count, duration, memory, percent, rate, span
from wsclient.load.report.words import ACCOUNT_WORDS, expects_answers, limit_and_value, loop, since, sums
from wsclient.load.result import Account, Latency, PlanSummary, Result, Second
from wsclient.load.thresholds import Verdict

__all__ = [
    "account",
    "badge",
    "errors",
    "latency",
    "plan",
    "resources",
    "seconds",
    "setup",
    "thresholds",
    "tiles",
    "warnings",
]

_SECOND_NAMES = ("p50", "p90", "p99", "maximum", "lag")
_HEADS = MappingProxyType(
    {"open_connections": "open connections", "samples": "latencies", "maximum": "max", "cpu": "CPU"}
)


def badge(verdicts: Sequence[Verdict]) -> Markup:
    """Passed or failed, at one look, and not by colour alone."""
    failed = sum(not verdict.passed for verdict in verdicts)
    if not verdicts:
        return element("span", "No thresholds", class_="badge plain")
    if failed:
        return element("span", f"✗ Failed: {failed} of {len(verdicts)} thresholds", class_="badge bad")
    return element("span", f"✓ Passed: {_things(len(verdicts), 'threshold')}", class_="badge good")


def warnings(result: Result) -> Markup | None:
    """What must be known to judge the numbers; nothing if there is nothing."""
    texts = [text[:1].upper() + text[1:] for text in result.warnings]
    if result.interrupted:
        texts.insert(0, "The run was ended early. The numbers are of what was done by then.")
    if not texts:
        return None
    title = element("h2", "⚠ Read this before the numbers", id="warnings")
    items = element("ul", [element("li", text) for text in texts])
    return element("section", title, items, class_="warnings", aria_labelledby="warnings")


def tiles(result: Result) -> Markup:
    """The big numbers."""
    points = {point.percent: point.seconds for point in result.latency.percentiles}
    aim = "" if result.plan.rate is None else f"of {rate(result.plan.rate)} asked for"
    unit = result.latency.what
    known = bool(result.latency.count)
    opened, tried = result.setup.opened, result.setup.attempted
    return element(
        "dl",
        _tile("Sent", rate(result.sent_rate), aim or f"{count(result.account.accepted)} messages"),
        _tile("Received", rate(result.received_rate), f"{count(result.account.received)} messages"),
        [_tile(f"p{p:g}", duration(points[p]), unit) for p in (50.0, 99.0) if p in points],
        _tile("Max", duration(result.latency.maximum) if known else "-", unit),
        _tile("Errors", count(result.error_count), _kinds(result), result.error_count > 0),
        _missing(result),
        _tile("Connections", count(opened), f"opened of {count(tried)}", opened < tried),
        class_="tiles",
    )


def _kinds(result: Result) -> str:
    return _things(len(result.errors), "kind") if result.errors else "of any kind"


def _missing(result: Result) -> Markup:
    """What the server or the network owes, by whether that can be known."""
    if expects_answers(result.plan):
        lost = result.account.lost
        return _tile("Lost", count(lost), "no answer came", lost > 0)
    unsure = result.account.in_doubt
    return _tile("In doubt", count(unsure), "written, not confirmed", unsure > 0)


def _tile(name: str, number: str, note: str, bad: bool = False) -> Markup:
    shown = element("div", number, class_="number bad" if bad else "number")
    return element("div", element("dt", name), element("dd", shown, element("div", note, class_="note")))


def thresholds(verdicts: Sequence[Verdict]) -> Markup | None:
    """Each with its limit and what the run had."""
    if not verdicts:
        return None
    rows = [
        _row(verdict.text, *(_number(text) for text in limit_and_value(verdict)), _state(verdict.passed))
        for verdict in verdicts
    ]
    return _section(
        "Thresholds", _table(("Fails if", "Limit:n", "Measured:n", "Verdict"), rows, "card narrow")
    )


def _state(passed: bool) -> Markup:
    text, kind = ("✓ passed", "good") if passed else ("✗ failed", "bad")
    return element("td", text, class_=f"state {kind}")


def account(result: Result) -> Markup:
    """Where every message is, as sums that can be checked by eye; then what each word means."""
    rows = [_sum(result.account, whole, parts) for whole, parts in sums(result.plan)]
    asides = ("late", "skipped") if expects_answers(result.plan) else ("received", "skipped")
    rows += [_aside(result.account, name) for name in asides]
    shown = dict.fromkeys(name for whole, parts in sums(result.plan) for name in (whole, *parts))
    words = [_row(_plainly(name), element("td", ACCOUNT_WORDS[name], class_="text")) for name in shown]
    return _section(
        "Where every message is",
        _table(("Messages", ":n", "Are", "Check"), rows, "card stack"),
        element("details", element("summary", "What these words mean"), _table((), words), class_="words"),
    )


def _aside(account: Account, name: str) -> Markup:
    """What is in none of the sums."""
    meaning = element("td", ACCOUNT_WORDS[name], class_="text small")
    return _row(_plainly(name), _number(count(getattr(account, name))), meaning, element("td"))


def _sum(account: Account, whole: str, parts: Sequence[str]) -> Markup:
    left, right = getattr(account, whole), sum(getattr(account, part) for part in parts)
    amounts = [element("b", count(getattr(account, part))) for part in parts]
    pieces = [
        element("span", "+ " if at else "= ", amount, f" {_plainly(part)}", class_="sum")
        for at, (part, amount) in enumerate(zip(parts, amounts, strict=True))
    ]
    check = ("✓ adds up", "good") if left == right else (f"✗ off by {count(abs(left - right))}", "bad")
    state = element("td", check[0], class_=f"state {check[1]}")
    return _row(_plainly(whole), _number(count(left)), element("td", *_spaced(pieces), class_="text"), state)


def errors(result: Result) -> Markup:
    """By kind, with what the first one said."""
    if not result.errors:
        return _section("Errors by kind", element("p", "None.", class_="small"))
    head = ("Kind", "Count:n", "First at:n", "The first one said")
    rows = [
        _row(
            error.kind,
            _number(count(error.count)),
            element("td", _moment(error.first_at), class_="n", data_label="first at"),
            element("td", error.first, class_="text"),
        )
        for error in result.errors
    ]
    return _section("Errors by kind", _table(head, rows, "card stack"))


def _moment(seconds: float) -> str:
    return "before the start" if seconds < 0 else duration(seconds)


def latency(result: Result) -> Markup:
    """The percentiles, and from when to when was measured."""
    note = element("p", f"Measured {since(result.latency)}.", class_="small")
    return _section(f"Latency: {result.latency.what}", _latency_table(result.latency), note)


def _latency_table(found: Latency) -> Markup:
    rows = [_row("Samples", _number(count(found.count)))]
    if found.count:
        rows.append(_row("Minimum", _number(duration(found.minimum))))
        rows += [_row(f"{p.percent:g} % within", _number(duration(p.seconds))) for p in found.percentiles]
        rows.append(_row("Maximum", _number(duration(found.maximum))))
        rows.append(_row("Mean", _number(duration(found.mean))))
        rows.append(_row("Standard deviation", _number(duration(found.deviation))))
    if found.overflowed:
        rows.append(_row("Longer than can be measured", _number(count(found.overflowed))))
    return _table((), rows)


def setup(result: Result) -> Markup:
    """Opening the connections."""
    found = result.setup
    rows = [
        _row("Tried", _number(count(found.attempted))),
        _row("Opened", _number(count(found.opened))),
        _row("Failed", element("td", count(found.failed), class_="n bad" if found.failed else "n")),
    ]
    return _section(
        "Connections", _table((), rows), element("h2", "Time to open one"), _latency_table(found.latency)
    )


def resources(result: Result) -> Markup:
    """What the generator used: it must not be what was measured."""
    used = result.resources
    rows = [
        _row("Processes", _number(count(used.processes))),
        _row("CPU, all processes", _number(duration(used.cpu_seconds))),
        _row("CPU of the busiest, mean", _number(f"{percent(used.cpu_mean)} of a core")),
        _row("CPU of the busiest, highest second", _number(f"{percent(used.cpu_peak)} of a core")),
        _row("Scheduling lag, 99 % within", _number(duration(used.lag_p99))),
        _row("Scheduling lag, worst", _number(duration(used.lag_maximum))),
        _row("Memory, resident", _number(memory(used.max_rss))),
        _row("Threads", _number(count(used.threads))),
    ]
    return _section("The generator itself", _table((), rows))


def plan(result: Result) -> Markup:
    """What was asked for."""
    asked = result.plan
    rows = [
        _row("Server" if len(asked.urls) == 1 else "Servers", _lines(asked.urls)),
        _row(
            "Connections",
            element("td", f"{count(asked.connections)} with {_things(asked.workers, 'worker')} each"),
        ),
        _row("Loop", element("td", loop(asked))),
        _row("Until", element("td", _until(asked))),
        _row("Ramp", element("td", duration(asked.ramp) if asked.ramp else "none")),
        _row("Payload", element("td", asked.payload, class_="text")),
        _row("Expected", element("td", _expected(asked))),
        _row("Processes", element("td", count(asked.processes))),
        _row("Reconnect", element("td", "yes" if asked.reconnect else "no")),
    ]
    return _section("The plan", _table((), rows))


def _expected(asked: PlanSummary) -> str:
    timeout = f", within {duration(asked.reply_timeout)}"
    return {"none": "no answer", "scenario": "what the scenario says"}.get(
        asked.expect, asked.expect + timeout
    )


def _until(asked: PlanSummary) -> str:
    ends = []
    if asked.duration is not None:
        ends.append(span(asked.duration))
    if asked.messages is not None:
        ends.append(_things(asked.messages, "message"))
    return " or ".join(ends) or "interrupted"


def seconds(result: Result) -> Markup:
    """All numbers behind the charts over time."""
    # By kind there is a chart; a table with a column of lists could not be read.
    names = [field.name for field in fields(Second) if field.name != "error_kinds"]
    rows = [
        element(
            "tr",
            element("th", second.second, scope="row"),
            [_number(_of_second(second, name)) for name in names[1:]],
        )
        for second in result.seconds
    ]
    head = ("Second", *(f"{_HEADS.get(name, name)}:n" for name in names[1:]))
    summary = element("summary", f"Every second in numbers ({_things(len(rows), 'second')})")
    return element("details", summary, _table(head, rows))


def _of_second(second: Second, name: str) -> str:
    value = getattr(second, name)
    if value is None:
        return "-"
    return duration(value) if name in _SECOND_NAMES else percent(value) if name == "cpu" else count(value)


# Tables.


def _spaced(pieces: Sequence[Markup]) -> list[Child]:
    return [part for piece in pieces for part in (piece, " ")]


def _section(title: str, *parts: Child) -> Markup:
    return element("section", element("h2", title), *parts)


def _table(head: Sequence[str], rows: Iterable[Markup], class_: str = "card") -> Markup:
    """A table in its card; ``:n`` after the name of a column is for numbers."""
    titles = [_head(name) for name in head]
    top = element("thead", element("tr", titles)) if titles else None
    return element("div", element("table", top, element("tbody", rows)), class_=class_)


def _head(name: str) -> Markup:
    text, numbers, _ = name.partition(":")
    return element(
        "th" if text else "td", text, scope="col" if text else None, class_="n" if numbers else None
    )


def _row(name: str, *cells: Markup) -> Markup:
    return element("tr", element("th", name, scope="row", class_="text"), cells)


def _number(text: str) -> Markup:
    return element("td", text, class_="n")


def _lines(texts: Iterable[str]) -> Markup:
    return element("td", [element("div", text) for text in texts], class_="text")


def _plainly(name: str) -> str:
    return name.replace("_", " ")


def _things(number: int, name: str) -> str:
    return f"{count(number)} {name}" if number == 1 else f"{count(number)} {name}s"
