"""The reports of a load run: what they say is what the result has, whatever is in it, and nothing secret."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import html5lib
import pytest
from load_results import EMPTY, hostile, hostile_verdicts, ordinary, troubled, verdicts

import wsclient
from wsclient.load.report import JSON_VERSION, render_html, to_csv, to_json, to_junit
from wsclient.load.report.masking import mask_text, mask_url
from wsclient.load.report.style import SCRIPT
from wsclient.load.report.text import count, duration, memory, rate, short, span, visible
from wsclient.load.report.words import outcome
from wsclient.load.result import Account, ErrorKind, Result, Second
from wsclient.load.thresholds import Unit, Verdict

SECRETS = ("hunter2", "s3cr3t", "abcdef0123456789")
# To remove one, or to change what it means, is a new version.
NAMES_OF_VERSION_1 = """
    version wsclient passed started elapsed interrupted warnings error_count sent_rate received_rate
    thresholds thresholds.text thresholds.limit thresholds.value thresholds.unit thresholds.passed
    plan plan.urls plan.connections plan.workers plan.processes plan.loop plan.rate plan.duration
    plan.messages plan.ramp plan.payload plan.expect plan.reply_timeout plan.reconnect
    account account.attempted account.refused account.accepted account.unsent account.written
    account.confirmed account.in_doubt account.answered account.lost account.received account.duplicated
    account.corrupted account.unexpected account.late account.skipped
    latency latency.what latency.since latency.count latency.minimum latency.mean latency.deviation
    latency.maximum latency.percentiles latency.percentiles.percent latency.percentiles.seconds
    latency.distribution latency.distribution.percent latency.distribution.seconds latency.distribution.count
    latency.overflowed latency.histogram
    seconds seconds.second seconds.sent seconds.received seconds.errors seconds.error_kinds
    seconds.open_connections seconds.samples seconds.p50 seconds.p90 seconds.p99 seconds.maximum seconds.cpu
    seconds.lag
    errors errors.kind errors.count errors.first errors.first_at
    setup setup.attempted setup.opened setup.failed setup.latency setup.latency.percentiles
    resources resources.cpu_seconds resources.cpu_mean resources.cpu_peak resources.lag_p99
    resources.lag_maximum resources.max_rss resources.threads resources.processes
"""


RESULTS: dict[str, Callable[[], Result]] = {
    "ordinary": ordinary,
    "troubled": troubled,
    "empty": lambda: EMPTY,
    "one second": lambda: ordinary(1),
    "long": lambda: ordinary(500),
    "hostile": hostile,
}


class Page:
    """A page, read as a browser does; what is no valid HTML is an error."""

    def __init__(self, text: str) -> None:
        parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
        self.root: ET.Element = parser.parse(text)

    def table_after(self, heading: str) -> list[list[str]]:
        """The cells of the first table of the section with that heading."""
        for section in self.root.iter("section"):
            if heading in [_text(title) for title in section.iter("h2")]:
                table = next(section.iter("table"))
                return [[_text(cell) for cell in row] for row in table.iter("tr")]
        raise AssertionError(f"no section {heading!r}")

    def figure(self, name: str) -> ET.Element:
        return next(found for found in self.root.iter("figure") if found.get("id") == f"chart-{name}")

    def pointed_at(self, name: str) -> list[list[str]]:
        """What a chart says when its columns are pointed at, line by line."""
        hits = [found for found in self.figure(name).iter() if found.get("class") == "hit"]
        return [_text(hit).split("\n") for hit in hits]


def _text(element: ET.Element) -> str:
    return "".join(element.itertext())


def read(result: Result, *texts: str) -> Page:
    return Page(render_html(result, verdicts(result, *texts)))


class TestPage:
    @pytest.mark.parametrize("name", RESULTS)
    def test_it_is_valid_html(self, name: str) -> None:
        page = read(RESULTS[name](), "p99>50ms")
        assert len(list(page.root.iter("figure"))) == 8

    @pytest.mark.parametrize("name", ["ordinary", "hostile"])
    def test_it_asks_for_nothing(self, name: str) -> None:
        page = Page(render_html(RESULTS[name](), hostile_verdicts()))
        asking = {
            "src",
            "srcset",
            "data",
            "action",
            "poster",
            "background",
            "{http://www.w3.org/1999/xlink}href",
        }
        given = [(key, value) for found in page.root.iter() for key, value in found.attrib.items()]
        assert [pair for pair in given if pair[0] in asking] == []
        assert [value for key, value in given if key == "href"] == ["data:,"]
        style = _text(next(page.root.iter("style")))
        assert "url(" not in style
        assert "@import" not in style

    def test_hostile_texts_stay_texts(self) -> None:
        page = Page(render_html(hostile(), hostile_verdicts()))
        assert [_text(script) for script in page.root.iter("script")] == [SCRIPT]
        assert [found for found in page.root.iter() if found.tag in {"img", "iframe", "base", "form"}] == []
        assert [key for found in page.root.iter() for key in found.attrib if key.startswith("on")] == []
        shown = "".join(page.root.itertext())
        assert "<script>alert(1)</script>" in shown
        assert r"]]>\x00\x1b[31m\u202e\ud800" in shown

    def test_the_policy_allows_its_own_style_and_script_and_nothing_else(self) -> None:
        page = read(ordinary())
        policy = next(
            meta.get("content", "") for meta in page.root.iter("meta") if meta.get("http-equiv") is not None
        )
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert re.findall(r"(\w+)-src 'sha256-[\w+/]{43}='", policy) == ["style", "script"]

    def test_the_account_adds_up_as_the_result_does(self) -> None:
        result = troubled()
        rows = read(result).table_after("Where every message is")[1:]
        names = [name.replace(" ", "_") for name, *_ in rows]
        assert names == ["attempted", "accepted", "written", "confirmed", "received", "late", "skipped"]
        for (_, number, parts, check), name in zip(rows, names, strict=True):
            assert int(number.replace(",", "")) == getattr(result.account, name)
            if check:
                numbers = [int(part.replace(",", "")) for part in re.findall(r"[=+] ([\d,]+) ", parts)]
                assert sum(numbers) == getattr(result.account, name)
                assert check == "✓ adds up"

    def test_an_account_that_does_not_add_up_is_not_hidden(self) -> None:
        result = replace(ordinary(), account=Account(attempted=5, accepted=3, written=3, confirmed=3))
        rows = read(result).table_after("Where every message is")
        assert [row[-1] for row in rows[1:5]] == ["✗ off by 2", "✓ adds up", "✓ adds up", "✗ off by 3"]

    def test_answers_are_not_summed_where_none_are_expected(self) -> None:
        calm = ordinary()
        result = replace(calm, plan=replace(calm.plan, expect="none"))
        names = [row[0] for row in read(result).table_after("Where every message is")]
        assert names == ["Messages", "attempted", "accepted", "written", "received", "skipped"]
        lines = list(outcome(result))
        assert f"received {count(result.account.received)}" in lines
        assert not any("answered" in line for line in lines)

    def test_where_nothing_was_measured_nothing_has_a_length(self) -> None:
        result = ordinary()
        empty = replace(result.latency, count=0, maximum=0.0, percentiles=())
        assert list(outcome(replace(result, latency=empty)))[1] == "round trip of 0: none"

    def test_percentiles_are_the_results(self) -> None:
        result = ordinary()
        rows = dict(read(result).table_after("Latency: round trip"))
        for point in result.latency.percentiles:
            assert rows[f"{point.percent:g} % within"] == duration(point.seconds)
        assert rows["Samples"] == count(result.latency.count)
        assert rows["Maximum"] == duration(result.latency.maximum)

    def test_charts_tell_the_numbers_of_each_second(self) -> None:
        result = ordinary()
        page = read(result)
        rates = page.pointed_at("rate")
        assert [line[:3] for line in rates] == [
            [f"{s.second} s", f"sent: {count(s.sent)}/s", f"received: {count(s.received)}/s"]
            for s in result.seconds
        ]
        assert [line[3] for line in rates] == ["asked for: no data"] * 5 + ["asked for: 2,000/s"] * 15
        assert [line[1:] for line in page.pointed_at("percentiles")] == [
            [f"{name}: {duration(value or 0)}" for name, value in _times(s)] for s in result.seconds
        ]

    def test_errors_are_told_by_kind(self) -> None:
        lines = read(troubled()).pointed_at("errors")
        assert lines[13] == ["13 s", "ConnectionClosed: 18", "HandshakeError: 10", "SendTimeout: 0"]
        assert lines[0] == ["0 s", "ConnectionClosed: 0", "HandshakeError: 0", "SendTimeout: 0"]

    def test_rare_kinds_of_errors_share_a_colour(self) -> None:
        kinds = tuple((f"Kind{number}", 9 - number) for number in range(9))
        second = Second(second=0, errors=45, error_kinds=kinds)
        errors = tuple(ErrorKind(kind=kind, count=n, first="no", first_at=0.1) for kind, n in kinds)
        (line,) = read(replace(ordinary(1), seconds=(second,), errors=errors)).pointed_at("errors")
        assert line[1:] == ["Kind0: 9", "Kind1: 8", "Kind2: 7", "Kind3: 6", "Kind4: 5", "others: 10"]

    def test_a_long_run_is_grouped_and_says_so(self) -> None:
        result = ordinary(500)
        page = read(result)
        assert len(page.pointed_at("rate")) == 100
        mean = sum(second.sent for second in result.seconds[5:10]) / 5
        assert page.pointed_at("rate")[1][:2] == ["5 s to 10 s", f"sent: {rate(mean)}"]
        highest = max(second.p99 or 0 for second in result.seconds[5:10])
        assert page.pointed_at("percentiles")[1][3] == f"p99: {duration(highest)}"
        assert "stands for 5 seconds" in "".join(page.root.itertext())

    def test_every_second_is_in_the_table(self) -> None:
        result = ordinary(3)
        table = list(read(result).root.iter("details"))[-1]
        rows = [[_text(cell) for cell in row] for row in table.iter("tr")][1:]
        assert [row[:4] for row in rows] == [
            [str(s.second), count(s.sent), count(s.received), "0"] for s in result.seconds
        ]

    def test_a_second_cut_short_is_no_breakdown(self) -> None:
        whole = ordinary(10)
        rest = Second(second=10, sent=7, received=9)
        result = replace(whole, seconds=(*whole.seconds, rest), elapsed=10.02)
        assert read(result).pointed_at("rate")[-1] == [
            "10 s",
            "sent: no data",
            "received: no data",
            "asked for: no data",
        ]

    def test_warnings_come_before_the_numbers(self) -> None:
        text = render_html(troubled())
        warned = text.index("The generator was the bottleneck")
        assert text.index("ended early") < warned < text.index('class="tiles"')
        assert 'class="warnings"' not in render_html(ordinary())

    def test_thresholds_are_judged(self) -> None:
        page = read(troubled(), "p99>50ms", "errors>0", "error_rate>0.1%")
        rows = page.table_after("Thresholds")[1:]
        assert [(row[0], row[1], row[3]) for row in rows] == [
            ("p99>50ms", "50 ms", "✓ passed"),
            ("errors>0", "0", "✗ failed"),
            ("error_rate>0.1%", "0.1 %", "✗ failed"),
        ]
        assert "✗ Failed: 2 of 3 thresholds" in "".join(page.root.itertext())
        assert "✓ Passed: 1 threshold" in render_html(ordinary(), verdicts(ordinary(), "p99>50ms"))
        assert "No thresholds" in render_html(ordinary())

    def test_what_was_not_measured_is_called_so(self) -> None:
        row = read(EMPTY, "p99>50ms").table_after("Thresholds")[1]
        assert row == ["p99>50ms", "50 ms", "not measured", "✗ failed"]

    def test_a_value_near_its_limit_is_told_from_it(self) -> None:
        tight = (Verdict("p99>50ms", 0.05, 0.05004, False, Unit.TIME),)
        assert Page(render_html(ordinary(), tight)).table_after("Thresholds")[1][1:3] == ["50 ms", "50.04 ms"]


def _times(second: Second) -> Sequence[tuple[str, float | None]]:
    return [("p50", second.p50), ("p90", second.p90), ("p99", second.p99), ("max", second.maximum)]


class TestJson:
    def test_it_has_everything(self) -> None:
        result = troubled()
        found = json.loads(to_json(result, verdicts(result, "errors>0", "p99>50ms")))
        assert found["version"] == JSON_VERSION == 1
        assert found["wsclient"] == wsclient.__version__
        assert found["passed"] is False
        assert found["thresholds"][0] == {
            "text": "errors>0",
            "limit": 0.0,
            "value": 90.0,
            "unit": "count",
            "passed": False,
        }
        assert {field.name for field in fields(Result)} < set(found)
        assert found["account"] == {
            field.name: getattr(result.account, field.name) for field in fields(Account)
        }
        assert found["seconds"][12]["error_kinds"] == [["ConnectionClosed", 30]]
        assert found["sent_rate"] == result.sent_rate

    def test_no_name_of_this_version_is_gone(self) -> None:
        result = troubled()
        found = set(_names("", json.loads(to_json(result, verdicts(result, "errors>0")))))
        assert set(NAMES_OF_VERSION_1.split()) - found == set()

    def test_without_thresholds_nothing_passed_or_failed(self) -> None:
        assert json.loads(to_json(ordinary()))["passed"] is None

    def test_what_is_no_number_is_null(self) -> None:
        text = to_json(EMPTY, verdicts(EMPTY, "p99>50ms"))
        assert math.isnan(verdicts(EMPTY, "p99>50ms")[0].value)
        assert json.loads(text, parse_constant=_refuse)["thresholds"][0]["value"] is None

    def test_it_is_ascii_that_ends_with_a_line_end(self) -> None:
        text = to_json(hostile(), hostile_verdicts())
        assert text.isascii()
        assert text.endswith("}\n")


def _names(prefix: str, value: Any) -> Iterator[str]:
    """Each name in JSON with those that it stands under; of a list those of its items."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{prefix}{name}"
            yield from _names(f"{prefix}{name}.", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(prefix, inner)


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


class TestCsv:
    def test_each_second_is_a_line(self) -> None:
        result = troubled()
        rows = list(csv.DictReader(io.StringIO(to_csv(result))))
        assert [int(row["sent"]) for row in rows] == [second.sent for second in result.seconds]
        assert [float(row["cpu"]) for row in rows] == [second.cpu for second in result.seconds]
        assert rows[15]["p99"] == ""
        assert rows[13]["error_kinds"] == "ConnectionClosed=18;HandshakeError=10"
        assert list(rows[0]) == [field.name for field in fields(Second)]

    def test_a_run_without_a_second_has_the_names(self) -> None:
        assert to_csv(EMPTY).count("\n") == 1


class TestJunit:
    def test_thresholds_are_test_cases(self) -> None:
        result = troubled()
        suites = ET.fromstring(to_junit(result, verdicts(result, "p99>50ms", "errors>0")))
        suite = suites[0]
        cases = {case.get("name"): case for case in suite.iter("testcase")}
        assert list(cases) == ["every message is accounted for", "p99>50ms", "errors>0"]
        assert [name for name, case in cases.items() if len(case)] == ["errors>0"]
        assert cases["errors>0"][0].get("message") == "errors>0: measured 90, the limit is 0"
        counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")]
        assert counts == ["3", "1", "0", "0", "20.020"]
        assert suite.get("timestamp") == "2026-03-01T12:30:00"

    def test_it_has_what_the_schemas_ask_for(self) -> None:
        """Jenkins' junit-10.xsd and the older one of Ant: order, and attributes that must be or must not."""
        root = ET.fromstring(to_junit(troubled(), verdicts(troubled(), "errors>0")))
        (suite,) = root
        assert (root.tag, dict(root.attrib), suite.tag) == ("testsuites", {}, "testsuite")
        parts = [part.tag for part in suite]
        assert parts == ["properties", "testcase", "testcase", "system-out", "system-err"]
        assert set(suite.attrib) >= {"name", "package", "id", "hostname", "timestamp", "time"}
        assert all({"name", "classname", "time"} == set(case.attrib) for case in suite.iter("testcase"))
        properties = {found.get("name"): found.get("value") for found in suite.iter("property")}
        assert properties["p99"] == f"{troubled().latency.at(99):.6g}"
        assert properties["errors"] == "90"

    def test_the_time_is_universal(self) -> None:
        suites = ET.fromstring(to_junit(replace(ordinary(), started="2026-03-01T12:30:00.250+02:00")))
        assert suites[0].get("timestamp") == "2026-03-01T10:30:00"

    def test_an_account_that_does_not_balance_fails(self) -> None:
        result = replace(ordinary(), account=Account(attempted=5, accepted=3))
        suites = ET.fromstring(to_junit(result))
        failure = next(suites.iter("failure"))
        assert failure.get("message", "").startswith("every message is accounted for: attempted is 5")
        assert suites[0].get("failures") == "1"

    def test_without_thresholds_there_is_still_a_case(self) -> None:
        suites = ET.fromstring(to_junit(ordinary()))
        assert (suites[0].get("tests"), suites[0].get("failures")) == ("1", "0")

    def test_hostile_texts_are_xml(self) -> None:
        suites = ET.fromstring(to_junit(hostile(), hostile_verdicts()))
        output = next(suites.iter("system-out")).text or ""
        assert r"<script>alert(1)</script>" in output
        assert r"\x00\x1b[31m\u202e\ud800" in output


class TestSecrets:
    @pytest.mark.parametrize(
        "write",
        [render_html, to_json, to_junit, lambda result, _: to_csv(result)],
        ids=["html", "json", "junit", "csv"],
    )
    def test_no_report_has_any(self, write: Callable[[Result, Sequence[Verdict]], str]) -> None:
        text = write(hostile(), hostile_verdicts())
        assert [secret for secret in SECRETS if secret in text] == []
        assert "example.com" in text  # the texts are there

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("ws://host:1/path", "ws://host:1/path"),
            ("wss://user:pw@host/", "wss://...@host/"),
            ("wss://u:p@ss@host/", "wss://...@host/"),
            ("ws://host/?a=1&b=&c&", "ws://host/?a=...&b=...&...&..."),
            ("ws://host/#part", "ws://host/#..."),
            ("ws://[::1/?token=1", "..."),
        ],
    )
    def test_urls_are_masked(self, url: str, shown: str) -> None:
        assert mask_url(url) == shown

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("no way to ws://a:b@h/x: refused", "no way to ws://...@h/x: refused"),
            ("proxy socks5h://a:b@h:1 said no", "proxy socks5h://...@h:1 said no"),
            ("'Authorization': 'Basic YTpi'", "'Authorization': '...'"),
            ("Cookie: sid=1; other=2\nHost: h", "Cookie: ...\nHost: h"),
            ("got Bearer abcdef0123456789 back", "got Bearer ... back"),
            ("a basic mistake", "a basic mistake"),
        ],
    )
    def test_texts_are_masked(self, text: str, shown: str) -> None:
        assert mask_text(text) == shown


class TestText:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0 s"),
            (4.2e-7, "0.42 µs"),
            (0.00085, "850 µs"),
            (0.0009996, "1 ms"),
            (0.00125, "1.25 ms"),
            (0.9994, "999 ms"),
            (0.9996, "1 s"),
            (59.94, "59.9 s"),
            (1234.4, "1,234 s"),
            (-0.2, "-200 ms"),
        ],
    )
    def test_durations(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(60.02, "60 s"), (120, "2 min"), (300.4, "5 min"), (3661, "1 h 1 min 1 s"), (7200, "2 h")],
    )
    def test_spans(self, seconds: float, text: str) -> None:
        assert span(seconds) == text

    def test_numbers(self) -> None:
        assert [short(n) for n in (0, 2.5, 950, 1500, 20e6, 3e9)] == ["0", "2.5", "950", "1.5k", "20M", "3G"]
        assert [rate(n) for n in (0, 7, 7.25, 12345.6)] == ["0/s", "7/s", "7.2/s", "12,346/s"]
        assert [memory(n) for n in (64, 1536, 78 << 20, 3 << 30)] == ["64 B", "1.5 KiB", "78 MiB", "3 GiB"]

    def test_control_characters_are_shown(self) -> None:
        assert visible("ü\n\t\x7f\u200b\ufeff\ufffe🌍") == "ü\n\t\\x7f\\u200b\\ufeff\\ufffe🌍"
