"""wsclient measured against websocket-client and websockets (``make bench``).

All libraries in one run, in interleaved rounds, each in a client process of its own, against the same C-speed
server in another process. What is sent counts when the server has received it. Reported are medians of the
rounds and ratios, which hold better than absolute numbers.

Before and after a change, in one run: make a worktree of the older commit and name it,

    git worktree add ../before COMMIT
    make bench BENCH_ARGS="--baseline ../before"        # or: python -m benchmarks.bench --baseline ../before
    git worktree remove ../before

and that checkout takes part as ``wsclient-before``, in the same rounds, by turns right behind wsclient and
right before it. The report ends with the ratios of the two: of the medians, and the lowest and highest of one
round. Only the library is taken from there; scenarios, server and the other libraries are those of here. What
the baseline cannot do is left out for it. ``--baseline .`` shows how much is noise: the same code, twice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/bench.py`

from benchmarks.baseline import Baseline
from benchmarks.goals import Medians, verdicts
from benchmarks.names import BEFORE, today, with_before
from benchmarks.processes import ROOT, Server, finish, start_module
from benchmarks.progress import progress
from benchmarks.report import before_table, goal_table, result_table
from benchmarks.scenarios import SCENARIOS, Measured

__all__ = ["main"]

_JSON = ROOT / "benchmarks" / "results" / "latest.json"
_CHART = ROOT / "docs" / "benchmarks"
_WORKER_TIMEOUT = 120.0  # seconds
_REFERENCE = (
    "Not measured here: a single writer in Go (gorilla, one goroutine draining a channel, one WriteMessage\n"
    "a message) sent 80,000 messages/s of 64 B on the machine that the goals were set on; the goal: 5 x that."
)


@dataclass
class Results:
    """What a run has measured. Used by the main thread alone."""

    rounds: dict[str, dict[str, list[Measured]]] = field(
        default_factory=dict
    )  # scenario -> adapter -> rounds
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # what the baseline cannot do, and why
    failures: list[str] = field(default_factory=list)

    def add(self, scenario: str, adapter: str, answer: dict[str, Any]) -> None:
        """Account for the answer of one worker."""
        if "left_out" in answer:
            self._leave_out(f"{scenario}, {adapter}", answer["left_out"], adapter.endswith(BEFORE))
            return
        self.rounds.setdefault(scenario, {}).setdefault(adapter, []).append(answer["measured"])
        if not adapter.endswith(BEFORE):
            self.versions.update(answer["versions"])

    def _leave_out(self, what: str, why: str, expected: bool) -> None:
        if expected:
            self.left_out[what] = why
        else:
            self.failures.append(f"{what}: {why}")

    def medians(self) -> Medians:
        """Median of the rounds for each scenario, adapter and metric, in the order of the registry."""
        return {
            name: {
                adapter: {key: median(one[key] for one in rounds) for key in rounds[0]}
                for adapter in with_before(SCENARIOS[name].adapters)
                if (rounds := self.rounds[name].get(adapter))
            }
            for name in SCENARIOS
            if name in self.rounds
        }


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how thoroughly."""

    scenarios: tuple[str, ...]
    rounds: int
    quick: bool
    baseline: Baseline | None = None

    @property
    def full(self) -> bool:
        """Whether its results may stand for the project."""
        return not self.quick and set(self.scenarios) == set(SCENARIOS)

    def jobs(self) -> Iterator[tuple[str, str]]:
        """Scenario and adapter of every measurement; the libraries take turns within each round."""
        for turn in range(self.rounds):
            for name in self.scenarios:
                adapters = SCENARIOS[name].adapters
                if self.baseline is not None:
                    # To come first may be of use, or not: each has it in turn.
                    adapters = tuple(with_before(adapters, before_first=bool(turn % 2)))
                for adapter in adapters:
                    yield name, adapter

    def description(self) -> dict[str, Any]:
        """For JSON: nothing of the machine's paths."""
        baseline = None if self.baseline is None else self.baseline.describe()
        return {
            "scenarios": self.scenarios,
            "rounds": self.rounds,
            "quick": self.quick,
            "baseline": baseline,
        }

    def worker_arguments(self, name: str, adapter: str, url: str) -> list[str]:
        """Arguments of ``benchmarks.worker`` for one measurement."""
        arguments = [name, today(adapter), url, *(["--quick"] if self.quick else [])]
        if self.baseline is not None and adapter.endswith(BEFORE):
            arguments += ["--checkout", str(self.baseline.directory.resolve())]
        return arguments


def measure(plan: Plan) -> Results:
    """Carry out a plan."""
    results, jobs = Results(), list(plan.jobs())
    with Server() as server, progress("measuring", len(jobs)) as advance:
        for done, (name, adapter) in enumerate(jobs):
            advance(done)
            try:
                results.add(name, adapter, _work(plan.worker_arguments(name, adapter, server.url(""))))
            except WorkerFailed as error:
                results.failures.append(f"{name}, {adapter}: {error}")
    return results


class WorkerFailed(Exception):
    """A client process ended without a result."""


def _work(arguments: list[str]) -> dict[str, Any]:
    process = start_module("benchmarks.worker", *arguments, errors=subprocess.PIPE)
    try:
        out, errors = process.communicate(timeout=_WORKER_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise WorkerFailed(f"no result within {_WORKER_TIMEOUT:g} s") from None
    finally:
        process.kill()
        finish(process, _WORKER_TIMEOUT)
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise WorkerFailed(f"exit status {process.returncode}: {last[0]}")
    answer: dict[str, Any] = json.loads(out)
    return answer


def _as_json(plan: Plan, results: Results) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": {
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "system": platform.system(),
            "architecture": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "versions": results.versions,
        "plan": plan.description(),
        "medians": results.medians(),
        "rounds": results.rounds,
        "goals": [
            asdict(one.goal) | {"value": one.value, "met": one.met} for one in verdicts(results.medians())
        ],
        "left_out": results.left_out,
        "failures": results.failures,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _chart(medians: Medians, stem: Path) -> str:
    try:
        from benchmarks.chart import draw

        return "Chart: " + ", ".join(path.name for path in draw(medians, stem))
    except ImportError as error:
        return f"No chart: {error} (pip install 'wsclient[bench]')"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help=f"one of: {', '.join(SCENARIOS)}; repeatable"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds (default: 3, with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="a short look; the numbers mean little")
    parser.add_argument(
        "--baseline", type=Path, metavar="DIR", help="another checkout of wsclient, measured as well"
    )
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="results (default for a full run: results/latest.json)"
    )
    parser.add_argument(
        "--chart", type=Path, metavar="STEM", help="STEM.svg, STEM.png (a full run: docs/benchmarks)"
    )
    return parser


def _plan(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Plan:
    names = tuple(options.only or SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario named {unknown[0]!r}; there are: {', '.join(SCENARIOS)}")
    rounds = options.rounds if options.rounds is not None else 1 if options.quick else 3
    if rounds < 1:
        parser.error(f"rounds must be at least 1, not {rounds}")
    try:
        baseline = None if options.baseline is None else Baseline(options.baseline)
    except ValueError as error:
        parser.error(f"--baseline: {error}")
    return Plan(names, rounds, options.quick, baseline)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; exit status 1 if something could not be measured."""
    parser = _parser()
    options = parser.parse_args(arguments)
    plan = _plan(parser, options)
    results = measure(plan)
    medians = results.medians()
    print(result_table(medians))
    if judged := verdicts(medians):
        print("", goal_table(judged), "", _REFERENCE, sep="\n")
    if plan.baseline is not None:
        print(f"\nBefore: {plan.baseline.describe()}", before_table(results.rounds), sep="\n\n")
    for what, why in results.left_out.items():
        print(f"Left out: {what}: {why}")
    if path := options.json or (_JSON if plan.full else None):
        _write(path, _as_json(plan, results))
    if stem := options.chart or (_CHART if plan.full else None):
        print(_chart(medians, stem))
    for failure in results.failures:
        print(f"NOT MEASURED: {failure}", file=sys.stderr)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
