"""How much one load generator can do, and what its numbers say: wsclient, websockets, and Artillery if given.

``python -m benchmarks.load_generators`` runs all against one server process (``benchmarks.server``, C speed),
one after the other, in rounds, and prints the median of each as a table in Markdown. Each generator opens the
same connections and sends 64 bytes of text for the same time:

* *closed loop*: each connection sends its next message when the one before has come back;
* *open loop*: a fixed rate, times counted from when a message was due;
* *flood*: sends as fast as it is taken, without answers.

CPU is of the generator's processes, without what they need to do next to nothing (start, imports). Artillery
(``--artillery PATH`` of its ``run`` script) matches no answers with messages in its WebSocket engine: it is
compared in the flood, at the rate that it can do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.processes import ROOT, Server

__all__ = ["main"]

_SIZE = 64
_FLOOD_RATE = 16_000.0  # times the seconds: the messages that Artillery sends, whose loops count


@dataclass(frozen=True)
class Outcome:
    """What one run did: messages, CPU seconds of the generator, and the latencies that it reports."""

    messages: int
    elapsed: float
    cpu: float
    p50: float | None  # seconds
    p99: float | None


@dataclass(frozen=True)
class Work:
    """One kind of work: ``mode`` is closed, open or flood; ``rate`` is of an open loop."""

    name: str
    mode: str
    connections: int
    seconds: float
    rate: float = 0.0


def _run_program(program: str, url: str, work: Work) -> Outcome:
    """Run one of the two Python generators below in a process of its own."""
    arguments = [work.mode, url, str(work.connections), str(work.seconds), str(work.rate)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load_generators", "--one", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=work.seconds + 60,
    )
    told = json.loads(done.stdout)
    return Outcome(told["messages"], told["elapsed"], _cpu_since(before), told["p50"], told["p99"])


def _cpu_since(before: resource.struct_rusage) -> float:
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _one_wsclient(
    mode: str, url: str, connections: int, seconds: float, rate: float
) -> dict[str, float | None]:
    from wsclient.load import Expect, Plan, run

    expect = Expect.NONE if mode == "flood" else Expect.ECHO
    plan = Plan(
        url=url,
        connections=connections,
        duration=seconds,
        size=_SIZE,
        expect=expect,
        rate=rate if mode == "open" else None,
    )
    result = run(plan)
    for warning in result.warnings:
        print(f"wsclient: {warning}", file=sys.stderr)
    count = result.account.confirmed if mode == "flood" else result.account.answered
    latency = result.latency
    return {"messages": count, "elapsed": result.elapsed, "p50": latency.at(50.0), "p99": latency.at(99.0)}


def _one_websockets(
    mode: str, url: str, connections: int, seconds: float, rate: float
) -> dict[str, float | None]:
    import asyncio

    from benchmarks.websockets_generator import generate

    return asyncio.run(generate(mode, url, connections, seconds, rate, _SIZE))


def _run_artillery(script: str, url: str, work: Work) -> Outcome:
    """Each virtual user opens a connection and sends for the given time, a message after the other."""
    count = max(int(work.rate / work.connections * work.seconds), 1)
    plan = {
        "config": {"target": url, "phases": [{"duration": 1, "arrivalCount": work.connections}]},
        "scenarios": [
            {"engine": "ws", "flow": [{"loop": [{"send": "x" * _SIZE}], "count": count}]},
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder, "plan.json"), Path(folder, "report.json")
        path.write_text(json.dumps(plan))
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(
            ["node", script, "run", "--quiet", "--output", str(output), str(path)],
            env={**os.environ, "ARTILLERY_DISABLE_TELEMETRY": "true", "WORKERS": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=work.seconds * 20 + 120,
        )
        elapsed, told = time.monotonic() - began, json.loads(output.read_text())["aggregate"]
    sent = max(told["counters"].get("websocket.messages_sent", 0), 1)
    active = (told.get("lastMetricAt", 0) - told.get("firstMetricAt", 0)) / 1000 or elapsed
    return Outcome(sent, active, _cpu_since(before), None, None)


def _row(work: Work, name: str, outcomes: Sequence[Outcome], idle: float) -> str:
    def middle(of: Callable[[Outcome], float | None]) -> float | None:
        found = [value for value in map(of, outcomes) if value is not None]
        return statistics.median(found) if found else None

    def shown(seconds: float | None, unit: str = "ms", factor: float = 1e3) -> str:
        return "-" if seconds is None else f"{seconds * factor:.2f} {unit}"

    rate = middle(lambda outcome: outcome.messages / outcome.elapsed)
    cpu = shown(middle(lambda outcome: (outcome.cpu - idle) / max(outcome.messages, 1)), "µs", 1e6)
    p50, p99 = (middle(lambda outcome: outcome.p50), middle(lambda outcome: outcome.p99))
    return f"| {work.name} | {name} | {rate:,.0f} | {cpu} | {shown(p50)} | {shown(p99)} |"


def _works(seconds: float) -> tuple[Work, ...]:
    return (
        Work("closed loop, 1 connection", "closed", 1, seconds),
        Work("closed loop, 50 connections", "closed", 50, seconds),
        Work("open loop, 2,000/s, 50 connections", "open", 50, seconds, 2000.0),
        Work("flood, 8 connections", "flood", 8, seconds, _FLOOD_RATE),
    )


def _compare(rounds: int, seconds: float, artillery: str | None) -> None:
    runners: dict[str, Callable[[str, Work], Outcome]] = {
        "wsclient": partial(_run_program, "wsclient"),
        "websockets": partial(_run_program, "websockets"),
    }
    if artillery is not None:
        runners["artillery"] = partial(_run_artillery, artillery)
    print("| work | generator | messages/s | CPU a message | p50 | p99 |\n|---|---|---|---|---|---|")
    with Server() as server:
        nothing = Work("nothing", "flood", 1, 0.01, 100.0)
        idle = {name: runner(server.url("/sink"), nothing).cpu for name, runner in runners.items()}
        for work in _works(seconds):
            url = server.url("/sink" if work.mode == "flood" else "/echo")
            able = [name for name in runners if name != "artillery" or work.mode == "flood"]
            found: dict[str, list[Outcome]] = {name: [] for name in able}
            for _ in range(rounds):
                for name in able:
                    found[name].append(runners[name](url, work))
            for name, outcomes in found.items():
                print(_row(work, name, outcomes, idle[name]), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, or be one of the compared (``--one``, for the processes that this starts)."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load_generators", description="See the source."
    )
    parser.add_argument("--rounds", type=int, default=3, help="of all, one after the other (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of sending, each (5)")
    parser.add_argument("--artillery", metavar="PATH", help="Artillery's bin/run, to compare with it too")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        program, mode, url, connections, seconds, rate = asked.one
        one = _one_wsclient if program == "wsclient" else _one_websockets
        print(json.dumps(one(mode, url, int(connections), float(seconds), float(rate))))
    else:
        _compare(asked.rounds, asked.seconds, asked.artillery)


if __name__ == "__main__":
    main()
