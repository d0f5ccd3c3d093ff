"""Puts one client to the test, case by case, and keeps what came of it."""

from __future__ import annotations

import json
import platform
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.cases import COMPRESSED, group_of
from conformance.clients import Client, run_case
from conformance.suite import Suite
from conformance.verdict import Ending, Outcome, Result, judge

__all__ = ["RESULTS", "Run", "load", "run", "save"]

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Run:
    """All results of one client, and what was measured."""

    client: str
    version: str
    python: str
    results: tuple[Result, ...]


def run(
    name: str, client: Client, suite: Suite, cases: Sequence[str], *, progress: Callable[[str], None]
) -> Run:
    """Run the cases one after the other; ``progress`` is told of each before it begins."""
    agent = f"{name}-{uuid.uuid4().hex}"  # a running server may have reports of an earlier run
    endings: dict[str, Ending] = {}
    for case in cases:
        progress(case)
        url = suite.case_url(case, agent)
        endings[case] = run_case(client, url, compressed=group_of(case) in COMPRESSED)
    reports = suite.reports(agent)
    judged = [*cases, *sorted(set(reports) - set(cases))]
    results = tuple(judge(case, reports.get(case), endings.get(case)) for case in judged)
    return Run(name, client.version, platform.python_version(), results)


def save(outcome: Run, folder: Path = RESULTS) -> None:
    """Keep a run in a file that is the same wherever and whenever it was made, with a line for each case."""
    head = [_entry(name, getattr(outcome, name)) for name in ("client", "version", "python")]
    cases = [_entry(r.case, [r.outcome.value, r.close_code, r.note]) for r in outcome.results]
    lines = [*(f"{line}," for line in head), '"cases": {', ",\n".join(cases), "}}"]
    (folder / f"{outcome.client}.json").write_text("{" + "\n".join(lines) + "\n", encoding="utf-8")


def _entry(key: str, value: object) -> str:
    return f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"


def load(client: str, folder: Path = RESULTS) -> Run:
    """Read back what ``save`` kept, but for the compression ratios."""
    content = json.loads((folder / f"{client}.json").read_text(encoding="utf-8"))
    results = tuple(
        Result(case, Outcome(outcome), code, note) for case, (outcome, code, note) in content["cases"].items()
    )
    return Run(content["client"], content["version"], content["python"], results)
