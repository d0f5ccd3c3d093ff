"""``wsclient load``: its options, its outputs, its exit status, its end by a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from command_line import BOUND, CommandLine

from wsclient.cli.progress import hint, line, rows, share_done
from wsclient.load.plan import Plan
from wsclient.load.result import Account, Percentile, Progress, Second
from wsclient.testing import (
    FaultServer,
    ServerConnection,
    accept_upgrade,
    cut,
    echo,
    read_messages,
    recorder,
    serve,
)

pytestmark = pytest.mark.timeout(50)

ROOT = Path(__file__).resolve().parent.parent
EMPTY = Second(second=2, open_connections=2)
PROGRESS = Progress(
    elapsed=3.0,
    second=Second(
        second=2, sent=1500, received=1499, open_connections=2, samples=9, p50=1e-3, p99=2e-3, maximum=0.5
    ),
    account=Account(attempted=30, accepted=30, confirmed=29, received=29),
    samples=29,
    percentiles=(Percentile(50.0, 1e-3), Percentile(99.9, 0.25)),
    errors=1,
    opened=2,
    failed=3,
)


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(capfdbinary, monkeypatch)


class TestWords:
    def test_a_second_in_a_line(self) -> None:
        text = "    3 s  sent 1,500/s  received 1,499/s  p50 1 ms  p99 2 ms  max 500 ms  open 2  errors 1"
        assert line(PROGRESS, ending=False) == text
        assert line(PROGRESS, ending=True) == f"{text}  ({hint(True)})"

    def test_the_view(self) -> None:
        shown = dict(rows(PROGRESS))
        assert shown["so far"] == "p50 1 ms  p99.9 250 ms"
        assert shown["connections"] == "2 open, 3 failed"
        assert shown["errors"] == "1"

    def test_a_second_without_answers(self) -> None:
        silent = replace(PROGRESS, second=EMPTY, percentiles=())
        assert "no latency" in line(silent, ending=False)
        assert dict(rows(silent))["so far"] == "no latency yet"

    @pytest.mark.parametrize(
        ("limits", "share"),
        [
            ({"duration": 6.0}, 0.5),
            ({"messages": 40}, 0.75),
            ({"duration": 6.0, "messages": 40}, 0.75),
            ({"duration": 2.0}, 1.0),
        ],
    )
    def test_how_much_is_done(self, limits: dict[str, Any], share: float) -> None:
        assert share_done(PROGRESS, Plan(url="ws://localhost", **limits)) == share


class TestReports:
    def test_all_of_them(self, cli: CommandLine, tmp_path: Path) -> None:
        names = {"--json": "r.json", "--csv": "r.csv", "--junit": "r.xml", "--report": "r.html"}
        files = [part for option, name in names.items() for part in (option, str(tmp_path / name))]
        limits = ["--fail-if", "errors>0", "--fail-if", "p50>50s"]
        with serve(echo) as server:
            ran = cli(
                "load", "-c", "2", "-w", "2", "--messages", "40", *limits, *files, f"{server.url}/?t=s3cret"
            )
            assert len(server.received) == 40
        assert ran.status == 0
        assert "attempted 40 = accepted 40 + refused 0" in ran.out
        assert "passed: p50>50s" in ran.out
        result = json.loads((tmp_path / "r.json").read_text())
        assert result["account"]["answered"] == 40
        assert (tmp_path / "r.csv").read_text().startswith("second,")
        assert ElementTree.parse(tmp_path / "r.xml").findall("testsuite[@failures='0']")
        assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
        assert not any(
            "s3cret" in text for text in (ran.out, ran.err, *map(Path.read_text, tmp_path.iterdir()))
        )

    def test_standard_output_is_for_data(self, cli: CommandLine) -> None:
        with serve(echo) as server:
            ran = cli("load", "--quiet", "-n", "5", "--json", "-", server.url)
        assert json.loads(ran.out)["account"]["accepted"] == 5
        assert "accepted 5" in ran.err

    def test_a_file_that_cannot_be_written_is_found_before(self, cli: CommandLine) -> None:
        with serve(echo) as server:
            ran = cli("load", "-n", "5", "--csv", "/nowhere/x", server.url)
            assert (ran.status, server.connections) == (2, ())
        assert ran.err == "wsclient: --csv: /nowhere/x: No such file or directory\n"


class TestExitStatus:
    def test_a_threshold_that_fails(self, cli: CommandLine) -> None:
        with serve(echo) as server:
            ran = cli("load", "-n", "5", "--fail-if", "rate<1000000/s", server.url)
        assert (ran.status, "FAILED: rate<1000000/s" in ran.out) == (1, True)

    def test_nobody_there(self, cli: CommandLine) -> None:
        with serve(echo) as server:
            url = server.url
        ran = cli("load", "-n", "5", url)
        assert (ran.status, "ConnectFailed" in ran.out) == (3, True)
        assert "Traceback" not in ran.out + ran.err

    def test_a_server_that_breaks_off(self, cli: CommandLine) -> None:
        with FaultServer(accept_upgrade(), read_messages(3), cut()) as server:
            ran = cli(
                "load", "--expect", "none", "--rate", "100/s", "-d", "1", "--fail-if", "errors>0", server.url
            )
        assert ran.status == 1
        assert "error: ConnectionClosed" in ran.out
        assert "Traceback" not in ran.out + ran.err

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--rate", "x"], "'x' is no rate"),
            (["--size", "3"], "--size: must be at least 20"),
            (["--connections", "0"], "--connections: must be at least 1"),
            (
                ["--rate", "5", "--rate-per-connection", "5"],
                "--rate: can't be combined with --rate-per-connection",
            ),
            (["--payload-file", "/nowhere"], "--payload-file: there is no file"),
            (["--scenario", "/nowhere"], "--scenario: there is no file"),
            (["--scenario", __file__], "--scenario: "),
            (["--processes", "x"], "--processes: must be a number or all"),
            (["--processes", "2"], "--processes: must be at most connections"),
            (["--fail-if", "p99>50"], "--fail-if: threshold 'p99>50'"),
            (["--size", "64", "--payload-file", "/x"], "--size: can't be combined with --payload-file"),
            (["--json", "-", "--csv", "-"], "only one report"),
            (["--json"], "needs a file, or - for standard output"),
            (["--key", "k"], "--key: ws:// URLs have no TLS"),
            (["--ramp", "9", "--duration", "1"], "--ramp: must be at most duration"),
        ],
    )
    def test_wrong_usage(self, cli: CommandLine, options: list[str], told: str) -> None:
        ran = cli("load", *options, "ws://localhost:1/")
        assert (ran.status, ran.out) == (2, "")
        assert told in ran.err
        assert "Traceback" not in ran.err


class TestEnds:
    """In this process."""

    @pytest.mark.parametrize("is_terminal", [True, False])
    def test_a_signal(self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
        def interrupting(connection: ServerConnection) -> None:
            for number, message in enumerate(connection):
                connection.send(message)
                if number == 60:
                    os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
        with serve(interrupting) as server:
            ran = cli("load", "--rate", "50/s", "-d", "60", server.url)
        assert (ran.status, "ended early" in ran.out) == (130, True)
        assert hint(True) in ran.err
        assert ("open 1  errors 0" in ran.err) is not is_terminal

    def test_a_report_that_cannot_be_written(self, cli: CommandLine, tmp_path: Path) -> None:
        # All the others are written.
        path = tmp_path / "made later"

        def removing(connection: ServerConnection) -> None:
            (path / "x").unlink(missing_ok=True)
            path.rmdir()
            for message in connection:
                connection.send(message)

        path.mkdir()
        with serve(removing) as server:
            files = ["--json", f"{path}/x", "--csv", f"{tmp_path}/r.csv"]
            ran = cli("load", "-q", "-n", "5", *files, server.url)
        assert (ran.status, ran.err) == (1, f"wsclient: --json: {path}/x: No such file or directory\n")
        assert (tmp_path / "r.csv").read_text().startswith("second,")

    def test_without_its_library(self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "hdrh", None)
        monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
        ran = cli("load", "-n", "5", "ws://localhost:1/")
        assert (ran.status, "wsclient[cli]" in ran.err, ran.err.count("\n")) == (2, True, 1)


class TestProcesses:
    def test_all_cores(self, cli: CommandLine) -> None:
        with serve(recorder) as server:
            ran = cli(
                "load", "-c", "2", "-p", "all", "--expect", "none", "-n", "10", "--json", "-", server.url
            )
            assert len(server.received) == 10
        processes = json.loads(ran.out)["plan"]["processes"]
        assert (ran.status, processes) == (0, min(2, len(os.sched_getaffinity(0))))

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_with_a_report(self, number: signal.Signals) -> None:
        command = [sys.executable, "-m", "wsclient", "load", "--rate", "100/s", "-d", "60", "--json", "-"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with serve(echo) as server:
            with subprocess.Popen([*command, server.url], cwd=ROOT, env=environment, **pipes) as process:
                server.wait_for_messages(10, 20)
                process.send_signal(number)
                out, err = process.communicate(timeout=BOUND)
            result = json.loads(out)
            assert (process.returncode, result["interrupted"]) == (130, True)
            assert result["account"]["accepted"] == result["account"]["answered"] == len(server.received)
        assert b"Traceback" not in err
