"""Each example runs as it stands, by the one command that it names, and says what happened."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

# What each says at its end. Counts that depend on when a server was killed are left open.
SAYS = {
    "classroom_lesson.py": (
        r"ada: sent 320, heard \{'instructor_inbox': 240, .*\n"
        r"(\w+: sent 80, heard \{'inbox_response': 80, 'instructor_broadcast': 80, .*\n){3}"
    ),
    "flask_worker.py": (
        r"40 orders were accepted, .*\n.*\{'bid': 1\.1, 'symbol': 'EURUSD'\}\n"
        r".*\{'EURUSD': 20, 'GBPUSD': 20\}\n"
    ),
    "price_feed.py": r"(.*\n)*decided \d+ times, .* of 1000 prices:\n(  \w+ [\d.]+\n){3}.* again 2 times\n",
    "request_reply.py": r"100 requests .*\nRefused: .*\nTimeoutError: .*\nConnectionClosed: .*\n",
    "telemetry.py": (
        r"(.*\n)*sent 2000; server killed 3 times, .*\narchived 2000, of which \d+ .*; missing: 0\n"
    ),
}
ELSEWHERE = {"classroom_load.py", "locustfile.py"}  # load: tests of their own run them


def _run(*arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    program = [str(EXAMPLES / arguments[0])] if not prelude else ["-c", prelude]
    command = [sys.executable, "-W", "error", *program, *arguments[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("name", SAYS)
def test_example_runs_and_says_what_happened(name: str) -> None:
    done = _run(name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(SAYS[name], done.stdout), done.stdout
    assert done.stderr == ""


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} - ELSEWHERE == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_the_command_stands_in_the_example_and_in_its_page(name: str) -> None:
    command = f"python examples/{name}"
    assert f"    {command}\n" in (EXAMPLES / name).read_text(encoding="utf-8")
    assert f"$ {command}\n" in (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SAYS)
def test_example_goes_elsewhere_when_told(name: str) -> None:
    """Port 1 has no server: so it was asked, and no other was started."""
    done = _run(name, "--url", "ws://127.0.0.1:1/")
    assert done.returncode == 1
    assert done.stderr.startswith("cannot connect: ws://127.0.0.1:1/")
    assert "Traceback" not in done.stderr


def test_what_is_missing_is_named() -> None:
    path = str(EXAMPLES / "flask_worker.py")
    prelude = f"import runpy, sys; sys.modules['flask'] = None; runpy.run_path({path!r}, run_name='__main__')"
    done = _run("flask_worker.py", prelude=prelude)
    assert done.returncode == 1
    assert "pip install flask" in done.stderr
    assert "Traceback" not in done.stderr


def test_flask_is_installed_for_this() -> None:
    assert importlib.util.find_spec("flask") is not None


def test_a_hub_whose_port_is_taken_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = _run("hub", prelude=f"from examples.classroom.hub import main; main(['--port', '{port}'])")
    assert ran.returncode == 1
    assert re.fullmatch(rf"hub: .*127\.0\.0\.1.*{port}.*\n", ran.stderr)
