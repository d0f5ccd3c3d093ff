"""Thresholds as test cases, in the JUnit XML that CI servers read. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import datetime, timezone

from wsclient.load.report.masking import masked
from wsclient.load.report.text import visible
from wsclient.load.report.words import expects_answers, limit_and_value, outcome
from wsclient.load.result import Result
from wsclient.load.thresholds import Verdict

__all__ = ["to_junit"]

_SUITE = "wsclient load"
_CLASS = "wsclient.load"


def to_junit(result: Result, verdicts: Sequence[Verdict] = ()) -> str:
    """One test suite: a case for each threshold, and one that every message is accounted for.

    Args:
        result: of the run.
        verdicts: of its thresholds, in their order.
    """
    result, verdicts = masked(result), masked(tuple(verdicts))
    problems = result.account.problems(answers=expects_answers(result.plan))
    failures = sum(not verdict.passed for verdict in verdicts) + bool(problems)
    # A root without attributes, and a suite with all of these: what both schemas of the format accept.
    root = ET.Element("testsuites")
    suite = ET.SubElement(
        root,
        "testsuite",
        {
            "name": visible(f"{_SUITE} {', '.join(result.plan.urls)}"),
            "tests": str(len(verdicts) + 1),
            "failures": str(failures),
            "errors": "0",
            "skipped": "0",
            "time": f"{result.elapsed:.3f}",
            "timestamp": _timestamp(result.started),
            "hostname": "localhost",
            "package": _CLASS,
            "id": "0",
        },
    )
    _properties(suite, result)
    _case(suite, "every message is accounted for", "; ".join(problems), "account")
    for verdict in verdicts:
        limit, value = limit_and_value(verdict)
        _case(
            suite,
            verdict.text,
            "" if verdict.passed else f"measured {value}, the limit is {limit}",
            "threshold",
        )
    ET.SubElement(suite, "system-out").text = visible("\n".join(outcome(result)))
    ET.SubElement(suite, "system-err").text = visible("\n".join(result.warnings))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _properties(suite: ET.Element, result: Result) -> None:
    """Numbers that CI servers can plot from build to build."""
    values = {
        "sent_rate": result.sent_rate,
        "received_rate": result.received_rate,
        "errors": result.error_count,
        **{f"p{point.percent:g}": point.seconds for point in result.latency.percentiles},
        "max": result.latency.maximum,
    }
    properties = ET.SubElement(suite, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": name, "value": f"{value:.6g}"})


def _case(suite: ET.Element, name: str, fault: str, kind: str) -> None:
    attributes = {"classname": _CLASS, "name": visible(name), "time": "0"}
    case = ET.SubElement(suite, "testcase", attributes)
    if fault:
        message = visible(f"{name}: {fault}")
        ET.SubElement(case, "failure", {"message": message, "type": kind}).text = message


def _timestamp(started: str) -> str:
    """ISO 8601 in UTC without a zone, as the schemas of this format want it."""
    moment = datetime.fromisoformat(started.replace("Z", "+00:00"))
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
