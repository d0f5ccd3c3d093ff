"""``wsclient load`` against the classroom hub, for as long as it is told: accounts, memory, reports.

``python -m benchmarks.classroom_load --seconds 300`` starts the hub of ``examples/classroom`` and an
instructor, each a process of its own, and then the command, with 50 connections of 8 workers, each of which
asks the instructor twice a second. At the end the hub's counts must be those of the load run's account.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Outcome", "main", "running"]

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS, WORKERS, RATE = 50, 8, 800
SCENARIO = "examples/classroom_load.py"
WAIT = 30.0  # seconds for a process to end


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: of the command.
        account: of its JSON report.
        heard: messages of students that the hub has accepted.
        memory: resident bytes of the command, once a second; empty where there is no /proc.
    """

    status: int
    account: dict[str, int]
    heard: int
    memory: list[int]

    @property
    def agrees(self) -> bool:
        """Whether what the command says was processed is what the hub says it has accepted."""
        return self.heard == self.account["confirmed"] == self.account["attempted"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classroom_load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--rate", type=float, default=RATE, help="questions a second over all connections")
    parser.add_argument("--p99", default="1s", help="it fails if the 99th percentile is over this")
    parser.add_argument("--folder", type=Path, default=Path("load-report"))
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    outcome = _run(chosen)
    account, memory = outcome.account, outcome.memory
    print(f"exit status {outcome.status}; reports: {chosen.folder}/report.html, load.json, load.xml")
    print(f"the hub has accepted {outcome.heard:,} questions, the account says {account['confirmed']:,}")
    if memory:
        points = (memory[len(memory) * tenth // 10] / 2**20 for tenth in range(1, 10, 2))
        shown = ", ".join(f"{size:.1f}" for size in points)
        print(f"resident memory after 10, 30, 50, 70 and 90 % of the time, MiB: {shown}")
    return outcome.status or int(not outcome.agrees)


def _run(chosen: argparse.Namespace) -> Outcome:
    with ExitStack() as stack:
        hub = stack.enter_context(running("examples.classroom.hub", "--with-parent"))
        stack.enter_context(running("examples.classroom.instructor", hub))
        command = _command(hub, chosen)
        memory: list[int] = []
        with subprocess.Popen(command, cwd=ROOT) as load, suppress(KeyboardInterrupt):
            memory.extend(_memory(load))  # Ctrl-C is for the command, too: it ends early, with its reports
        account = json.loads((chosen.folder / "load.json").read_text(encoding="utf-8"))["account"]
        return Outcome(load.returncode, account, _heard(hub), memory)


@contextmanager
def running(module: str, *arguments: str) -> Iterator[str]:
    """A program in a process of its own, until the end of the ``with``: the first line that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is not for it
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(WAIT)


def _command(hub: str, chosen: argparse.Namespace) -> list[str]:
    folder = chosen.folder.resolve()
    options = {
        "--connections": chosen.connections,
        "--workers": chosen.workers,
        "--rate": chosen.rate,
        "--duration": chosen.seconds,
        "--scenario": SCENARIO,
        "--user-id": "student",
        "--role": "student",
        "--session-id": "demo",
        "--report": folder / "report.html",
        "--json": folder / "load.json",
        "--junit": folder / "load.xml",
    }
    named = [str(part) for option in options.items() for part in option]
    limits = ["--fail-if", "errors>0", "--fail-if", f"p99>{chosen.p99}"]
    url = f"ws{hub.removeprefix('http')}/ws"
    return [sys.executable, "-m", "wsclient", "load", *named, *limits, url]


def _memory(process: subprocess.Popen[bytes]) -> Iterator[int]:
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        resident = status.read_text().partition("VmRSS:")[2].split() if status.exists() else ()
        if resident:  # a process that has just ended has none
            yield int(resident[0]) * 1024
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            continue


def _heard(hub: str) -> int:
    parts = urlsplit(hub)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=WAIT)
    try:
        connection.request("GET", "/stats")
        stats: dict[str, Any] = json.load(connection.getresponse())
    finally:
        connection.close()
    return sum(count for user, count in stats["demo"]["accepted"].items() if user.startswith("student"))


if __name__ == "__main__":
    sys.exit(main())
