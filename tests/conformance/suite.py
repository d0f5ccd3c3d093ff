"""The suite's server: one of our own, bound to loopback, or a running one by URL; and what it reports."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import websockets.exceptions
from peers.launch import Unavailable, launched
from websockets.sync.client import connect

from conformance import python27
from conformance.cases import EVERYTHING, select
from conformance.verdict import Report

__all__ = ["Suite", "started"]

HERE = Path(__file__).resolve().parent
_REPORT_SECONDS = 120.0


@dataclass(frozen=True)
class Suite:
    """A server of test cases, and the folder that it writes its reports to."""

    url: str
    folder: Path

    def case_url(self, case: str, agent: str) -> str:
        """Where a client that calls itself ``agent`` is put to the test of one case."""
        return f"{self.url}/runCase?{urlencode({'casetuple': case, 'agent': agent})}"

    def reports(self, agent: str) -> dict[str, Report]:
        """Have the server write its reports; those of one agent, by case.

        Raises:
            Unavailable: it wrote none, or to another folder.
        """
        # Asked by a client that this server has not just been testing.
        with (
            connect(f"{self.url}/updateReports?{urlencode({'agent': agent})}", proxy=None) as control,
            contextlib.suppress(websockets.exceptions.ConnectionClosed),
        ):
            control.recv(_REPORT_SECONDS)
        index = self.folder / "index.json"
        try:
            entries = json.loads(index.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Unavailable(f"the suite wrote no reports: there is no {index}") from None
        return {case: self._report(entry) for case, entry in entries.get(agent, {}).items()}

    def _report(self, entry: Mapping[str, Any]) -> Report:
        details = json.loads((self.folder / entry["reportfile"]).read_text(encoding="utf-8"))
        traffic = details["trafficStats"] or {}
        words = (details["result"], details["resultClose"])
        is_close_fault = entry["behavior"] == "OK" and entry["behaviorClose"] != "OK"
        return Report(
            behavior=entry["behavior"],
            behavior_close=entry["behaviorClose"],
            close_code=entry["remoteCloseCode"],
            explanation=words[is_close_fault],
            negotiated="permessage-deflate" in details["httpResponse"].lower(),
            ratio=traffic.get("incomingCompressionRatio"),
        )


@contextlib.contextmanager
def started(
    cases: Sequence[str], folder: Path, environment: Mapping[str, str] = os.environ
) -> Iterator[Suite]:
    """Have a server for these cases until the end of the block: a new one, or that of ``AUTOBAHN_URL``.

    Args:
        cases: what a new server is to offer; a running one offers what it was started with.
        folder: for reports and the server's output.
        environment: of this process.

    Raises:
        Unavailable: no Python 2.7, or no suite for it, or settings that do not go together.
        RuntimeError: the suite has other cases than are known here.
    """
    if environment.get("AUTOBAHN_URL"):
        yield _running(environment)
        return
    python = python27.with_suite(python27.find(environment), environment)
    reports, specification = folder / "reports", folder / "specification.json"
    specification.write_text(json.dumps({"cases": list(cases), "outdir": str(reports)}), encoding="utf-8")
    command = [python, "-B", str(HERE / "server.py2"), str(specification)]
    with launched(command, folder, cwd=folder) as process:
        ready = json.loads(process.first_line())
        if set(ready["known"]) != set(select(EVERYTHING)):
            raise RuntimeError(f"Autobahn Testsuite {ready['version']} has other cases than expected")
        yield Suite(f"ws://127.0.0.1:{ready['port']}", reports)


def _running(environment: Mapping[str, str]) -> Suite:
    url, folder = environment["AUTOBAHN_URL"].rstrip("/"), environment.get("AUTOBAHN_REPORTS", "")
    if urlsplit(url).scheme != "ws":
        raise Unavailable("AUTOBAHN_URL must be a ws:// URL")
    if not folder:
        raise Unavailable(
            "AUTOBAHN_URL needs AUTOBAHN_REPORTS beside it: "
            "the folder on this machine that the server writes its reports to"
        )
    return Suite(url, Path(folder))
