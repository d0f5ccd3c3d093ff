"""``wsclient load`` as a program: a lesson in the classroom, servers that are killed, and scenario files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from command_line import BOUND, CommandLine
from scenarios.classroom import ROOT, Hub, running_hub

from benchmarks import classroom_load
from wsclient.testing import echo, serve

pytestmark = pytest.mark.timeout(50)

SCENARIO = """
from pathlib import Path

def note(word):
    with Path(__file__).with_suffix(".log").open("a") as file:
        file.write(word + "\\n")

def setup(client):
    client.send_json({"hello": client.user_id})
    note("setup " + client.receive()["hello"])

def scenario(client):
    client.send_json({"type": "question"})
    client.wait_for(type="question")

def teardown(client):
    client.send_json({"bye": client.user_id})
    note("teardown " + client.receive()["bye"])
"""


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(capfdbinary, monkeypatch)


# -- the classroom ----------------------------------------------------------------------------------------


def test_a_lesson_ends_with_balanced_accounts_and_reports(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What "make load" does for five minutes."""
    given = ["--seconds", "2", "--connections", "10", "--rate", "200", "--p99", "30s"]
    assert classroom_load.main([*given, "--folder", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    found = json.loads((tmp_path / "load.json").read_text())
    asked = found["account"]["attempted"]
    assert (found["passed"], found["errors"], found["latency"]["count"]) == (True, [], asked)
    assert asked + found["account"]["skipped"] == 400
    assert f"the hub has accepted {asked:,} questions, the account says {asked:,}" in out
    assert "Traceback" not in err
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert ElementTree.parse(tmp_path / "load.xml").findall("testsuite[@failures='0']")


def _kill_in_the_middle(hub: Hub, folder: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    # The command with its first second behind it, when the hub goes.
    session = hub.take_session()
    where = f"ws{hub.url.removeprefix('http')}/ws?user_id=s-{{connection}}&role=student&session_id={session}"
    command = [sys.executable, "-m", "wsclient", "load", "-c", "10", "-w", "4", "-d", "60", *options]
    reports = ["--json", str(folder / "r.json"), "--report", str(folder / "r.html")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *reports, where], stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stderr is not None
        seen = process.stderr.readline() + process.stderr.readline()
        hub.kill()
        out, err = process.communicate(timeout=BOUND)
    assert (folder / "r.html").read_text().startswith("<!DOCTYPE html>")
    return process.returncode, (seen + out + err).decode(), json.loads((folder / "r.json").read_text())


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--expect", "none", "--rate", "400/s"], 4, "wsclient: every connection was lost"),
        (["--rate", "400/s", "--fail-if", "errors>0", "--reply-timeout", "60"], 1, "FAILED: errors>0"),
        (["--expect", "none", "--rate", "400/s", "-p", "2"], 4, "wsclient: every connection was lost"),
    ],
    ids=["default", "threshold", "processes"],
)
def test_a_server_that_is_killed_gives_a_report(
    tmp_path: Path, options: list[str], status: int, said: str
) -> None:
    with running_hub(tmp_path) as hub:
        ended, text, found = _kill_in_the_middle(hub, tmp_path, *options)
    account = found["account"]
    assert ended == status
    assert said in text
    assert "error: ConnectionClosed x 10: closed by the network with code 1006" in text
    assert "Traceback" not in text
    assert account["attempted"] == account["accepted"] + account["refused"] > 100
    assert account["accepted"] == account["written"] + account["unsent"]
    assert account["written"] == account["confirmed"] + account["in_doubt"]
    # The hub answers nothing but its complaints: what it has read and not answered is lost, too.
    assert {error["kind"] for error in found["errors"]} <= {"ConnectionClosed", "NoAnswer"}
    assert "warning: 10 of 10 connections were lost before the end" in text
    assert found["seconds"][0]["open_connections"] == 10
    assert found["seconds"][-1]["open_connections"] == 0


@pytest.mark.parametrize(("limit", "status"), [("errors>0", 0), ("rate<1000000/s", 1)])
@pytest.mark.parametrize("json_to", ["-", "r.json"])
def test_nobody_reads_what_it_prints(tmp_path: Path, limit: str, status: int, json_to: str) -> None:
    command = [sys.executable, "-m", "wsclient", "load", "-q", "-n", "5", "--fail-if", limit]
    reader, writer = os.pipe()
    os.close(reader)
    with serve(echo) as server:
        done = subprocess.run(
            [*command, "--json", json_to, "--csv", "r.csv", server.url],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=BOUND,
            check=False,
        )
    os.close(writer)
    assert done.returncode == status
    assert b"Error" not in done.stderr
    assert (tmp_path / "r.csv").read_text().startswith("second,")


# -- scenario files ---------------------------------------------------------------------------------------


def _written(folder: Path, text: str) -> str:
    path = folder / "talk.py"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_scenario_with_its_beginning_and_its_end(cli: CommandLine, tmp_path: Path, processes: str) -> None:
    path = _written(tmp_path, SCENARIO)
    with serve(echo) as server:
        given = ["-c", "3", "-w", "2", "-n", "30", "-p", processes, "--scenario", path]
        ran = cli("load", "--quiet", *given, "--fail-if", "errors>0", server.url)
        assert len(server.received) == 36
        assert {record.query["user_id"] for record in server.connections} == {"load-0", "load-1", "load-2"}
    assert (ran.status, ran.err) == (0, "")
    assert "scenario of 30: p50" in ran.out
    assert "written 36 = confirmed 36 + in_doubt 0" in ran.out
    noted = sorted(Path(path).with_suffix(".log").read_text().split("\n")[:-1])
    assert noted == [f"{step} load-{number}" for step in ("setup", "teardown") for number in range(3)]


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(
    ("text", "count", "said"),
    [
        ("def scenario(client): raise KeyError('so')", 10, "error: KeyError x 10: 'so'"),
        ("def scenario(client): client.receive()", 10, "error: WaitTimeout x 10: <TestClient load-"),
        ("def setup(client): 1 / 0\ndef scenario(client): ...", 2, "error: ZeroDivisionError x 2: division"),
        ("def teardown(client): 1 / 0\ndef scenario(client): ...", 2, "error: ZeroDivisionError x 2: "),
    ],
    ids=["scenario", "wait", "setup", "teardown"],
)
def test_what_a_scenario_raises_is_in_the_report(
    cli: CommandLine, tmp_path: Path, processes: str, text: str, count: int, said: str
) -> None:
    given = ["-c", "2", "-n", "10", "-p", processes, "--scenario", _written(tmp_path, text)]
    with serve(echo) as server:
        ran = cli("load", "-q", *given, "--reply-timeout", "10ms", "--fail-if", "errors>0", server.url)
    assert (ran.status, ran.err) == (1, "")
    assert said in ran.out
    assert f"FAILED: errors>0 (limit 0, found {count})" in ran.out
    assert "Traceback" not in ran.out


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def scenario(client:\n    pass", "talk.py' cannot be run: SyntaxError: '(' was never closed"),
        ("import nothing_of_this_name", "talk.py' cannot be run: ModuleNotFoundError: No module named"),
        ("raise SystemExit(7)", "talk.py' cannot be run: SystemExit: 7"),
        ("def other(client): ...", "talk.py' has no function scenario(client)"),
        ("scenario = 5", "scenario in '"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(
    cli: CommandLine, tmp_path: Path, processes: str, text: str, said: str
) -> None:
    given = ["-c", "2", "-n", "10", "-p", processes, "--scenario", _written(tmp_path, text)]
    with serve(echo) as server:
        ran = cli("load", *given, server.url)
        assert server.connections == ()
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith("wsclient: --scenario: ")
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_scenario_that_never_returns_is_left_by_a_second_ctrl_c(tmp_path: Path, processes: str) -> None:
    text = "import threading\ndef scenario(client):\n    threading.Event().wait()\n"
    given = ["-c", "2", "-n", "2", "-p", processes, "--scenario", _written(tmp_path, text)]
    command = [sys.executable, "-m", "wsclient", "load", *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        serve(echo) as server,
        subprocess.Popen([*command, server.url], env=environment, start_new_session=True, **pipes) as process,
    ):
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(2)]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        while b"ending early" not in lines[-1]:
            lines.append(process.stderr.readline())
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=BOUND)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
