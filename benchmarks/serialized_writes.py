"""The main job: 50 threads x 20,000 messages through one connection, checked by the server.

Three ways to let many threads write to one WebSocket, against one server in another process that checks every
frame: whole, exactly once, each thread's own order kept.

1. one ``wsclient.Connection``;
2. one bare ``websocket.WebSocket`` with its lock (correct, and slow);
3. the same without serialization (``enable_multithread=False``): what breaks, and how soon.

Exit status 1 if anything was lost, torn or out of order by wsclient.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # for `python benchmarks/serialized_writes.py`

from benchmarks.messages import MIN_SIZE, Workload
from benchmarks.processes import Reporter, Server, finish, start_module
from benchmarks.progress import progress
from benchmarks.sender import Outcome, Specification

__all__ = ["Result", "Step", "conclude", "describe", "main"]

_LOCKED_MESSAGES = 150_000  # of all threads: at some 25,000/s a million would take most of a minute
_UNLOCKED_MESSAGES = 100_000
_UNLOCKED_SECONDS = 4.0
_LIMIT_SECONDS = 600.0  # wsclient's and the locked run stop here, whatever happens
_GRACE = 40.0  # seconds that a client may take beyond that, to start and to close
_BIG = 4096  # bytes: a frame of this size does not always fit into what is left of the socket's buffer
_PAUSE, _PAUSE_EVERY = 0.1, 1000  # seconds, messages
_WHY_SMALL_FRAMES_SURVIVE = "The kernel takes a frame in one piece while the socket has room for it"
_HARD_MESSAGES = 20_000
_DAMAGES = ("whole", "garbled", "duplicated", "out_of_order", "lost")
_END_TIMEOUT = 5.0  # seconds
_POLL = 0.1  # seconds between two looks at how far the server is


@dataclass(frozen=True)
class Step:
    """One connection, one load.

    Attributes:
        title: what the reader is told.
        way: a key of ``sender.WAYS``.
        workload: what is sent.
        seconds: sending stops after this time.
        paused: the server stops reading for a moment now and then.
    """

    title: str
    way: str
    workload: Workload
    seconds: float = _LIMIT_SECONDS
    paused: bool = False


@dataclass(frozen=True)
class Result:
    """What became of a step: the server's account, and what the sender saw (``None``: its process died)."""

    step: Step
    account: dict[str, Any]
    outcome: Outcome | None
    exit_status: int

    @property
    def perfect(self) -> bool:
        """Nothing lost, torn, doubled or out of order, and no error on the sending side."""
        return bool(self.account["perfect"]) and self.outcome is not None and not self.outcome.errors

    @property
    def broken(self) -> bool:
        """Something that was sent did not arrive, or something arrived that was not sent.

        A run that ended because its time was up is whole so far, though the server misses the rest.
        """
        if self.outcome is None or self.outcome.errors:
            return True
        account = self.account
        damaged = account["garbled"] or account["duplicated"] or account["out_of_order"]
        return bool(damaged) or account["whole"] != self.outcome.sent

    @property
    def rate(self) -> float:
        """Whole messages a second, from the first to the last that the server saw."""
        return float(self.account["whole"] / max(self.account["seconds"], 1e-9))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self.step),
            "perfect": self.perfect,
            "broken": self.broken,
            "rate": round(self.rate, 1),
            "account": self.account,
            "outcome": None if self.outcome is None else asdict(self.outcome),
            "exit_status": self.exit_status,
        }


class Laboratory:
    """Runs steps against one server, each in a client process of its own."""

    def __init__(self, server: Server, switch_interval: float | None) -> None:
        self._server = server
        self._switch_interval = switch_interval
        self._runs = count(1)  # owned by the main thread

    def run(self, step: Step) -> Result:
        """Run one step to its end, or to its time limit."""
        run, load = f"{next(self._runs)}-{step.way}", step.workload
        with closing(self._server.open_run(run, load.threads, load.messages)) as reporter:
            process = start_module("benchmarks.sender", json.dumps(asdict(self._specification(step, run))))
            try:
                _watch(step, process, reporter)
                return _result(step, process, reporter)
            finally:
                process.kill()
                finish(process, _GRACE)

    def _specification(self, step: Step, run: str) -> Specification:
        pauses: dict[str, object] = {"pause": _PAUSE, "every": _PAUSE_EVERY} if step.paused else {}
        return Specification(
            way=step.way,
            url=self._server.url("/verify", run=run, **pauses),
            ca_file=self._server.ca_file,
            **asdict(step.workload),
            seconds=step.seconds,
            switch_interval=self._switch_interval,
        )


def _watch(step: Step, process: subprocess.Popen[bytes], reporter: Reporter) -> None:
    deadline = time.monotonic() + step.seconds + _GRACE
    with progress(step.way, step.workload.total) as advance:
        while process.poll() is None and time.monotonic() < deadline:
            advance(reporter.account()["whole"])
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL)


def _result(step: Step, process: subprocess.Popen[bytes], reporter: Reporter) -> Result:
    if process.poll() is None:
        process.kill()
    assert process.stdout is not None
    line = process.stdout.readline()
    status = process.wait()
    account = _final_account(reporter)
    if account["server_error"]:
        raise RuntimeError(f"the benchmark server itself failed: {account['server_error']}")
    return Result(step, account, Outcome(**json.loads(line)) if line else None, status)


def _final_account(reporter: Reporter) -> dict[str, Any]:
    """The account once the server has seen the connection end: it may be a moment behind the client."""
    deadline = time.monotonic() + _END_TIMEOUT
    account = reporter.account()
    while not account["ended"] and time.monotonic() < deadline:
        time.sleep(_POLL)
        account = reporter.account()
    return account


def _main_steps(load: Workload) -> list[Step]:
    each = max(1, min(load.messages, _LOCKED_MESSAGES // load.threads))
    return [
        Step("wsclient: one Connection, shared by all threads", "wsclient", load),
        Step(
            "websocket-client: one WebSocket, shared, with its lock", "locked", replace(load, messages=each)
        ),
    ]


def _unlocked_step(load: Workload) -> Step:
    each = max(1, min(load.messages, _UNLOCKED_MESSAGES // load.threads))
    title = "websocket-client: one WebSocket, shared, enable_multithread=False"
    return Step(title, "unlocked", replace(load, messages=each), _UNLOCKED_SECONDS)


def _harder_steps(load: Workload) -> list[Step]:
    """Where small frames to a fast peer survive: bigger ones, to a peer that pauses as real ones do."""
    step = _unlocked_step(replace(load, size=max(load.size, _BIG)))
    pauses = f"to a peer that pauses reading for {_PAUSE} s every {_PAUSE_EVERY:,}"
    where = f"{step.workload.size:,}-byte messages, {pauses}"
    fewer = replace(
        step.workload, messages=max(1, min(step.workload.messages, _HARD_MESSAGES // load.threads))
    )
    return [
        replace(step, title=f"the same with {where}", workload=fewer, paused=True),
        Step(f"wsclient with {where}", "wsclient", fewer, paused=True),
    ]


def _run_all(laboratory: Laboratory, load: Workload, out: TextIO) -> list[Result]:
    results: list[Result] = []

    def run(step: Step) -> Result:
        results.append(laboratory.run(step))
        print(describe(results[-1], results[0]), file=out, flush=True)
        return results[-1]

    for step in _main_steps(load):
        run(step)
    if not run(_unlocked_step(load)).broken:
        for step in _harder_steps(load):
            run(step)
    return results


def describe(result: Result, reference: Result) -> str:
    """A few lines for a reader; ``reference`` is the run to compare the rate with."""
    load, account = result.step.workload, result.account
    lines = [
        f"{result.step.title}",
        f"    {load.threads} threads x {load.messages:,} messages of {load.size:,} bytes",
    ]
    if result.step.way == "unlocked" and not result.broken:
        lines.append(f"    survived: {account['whole']:,} arrived whole. {_WHY_SMALL_FRAMES_SURVIVE}")
    elif result.perfect:
        lines.append(f"    OK: {account['whole']:,} messages whole, exactly once, each thread's in order")
    elif result.broken:
        lines += [f"    BROKEN: {line}" for line in _damage(result)]
    else:
        lines.append(
            f"    survived this time: the first {account['whole']:,} arrived whole, then the time was up"
        )
    if not result.broken:
        lines.append(f"    {_speed(result, reference)}")
    return "\n".join(lines) + "\n"


def _speed(result: Result, reference: Result) -> str:
    text = f"{result.rate:,.0f} messages/s"
    if result.outcome is not None and result.outcome.frames_per_write is not None:
        text += f", {result.outcome.frames_per_write:,.1f} frames in each write to the socket"
    if result.step.way != "wsclient" and result.rate:
        text += f"; wsclient: {reference.rate / result.rate:,.1f} times as many"
    return text


def _damage(result: Result) -> list[str]:
    account, first = result.account, result.account["first_violation"]
    lines = []
    if first is not None:
        after = account["violated_after_seconds"] or 0.0
        lines.append(f"after {first['after']:,} messages ({after:.2f} s): {first['kind']}: {first['detail']}")
    if account["failure"]:
        lines.append(f"the server had to fail the connection: {account['failure']}")
    lines.append("; ".join(f"{account[name]:,} {name.replace('_', ' ')}" for name in _DAMAGES))
    if result.outcome is None:
        lines.append(f"the client process died with exit status {result.exit_status}")
    else:
        lines += [f"in {threads} threads: {error}" for error, threads in result.outcome.errors.items()]
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=50, help="sending threads (default: 50)")
    parser.add_argument(
        "--messages", type=int, default=20_000, help="messages of each thread (default: 20000)"
    )
    parser.add_argument(
        "--size", type=int, default=64, help=f"bytes of a message, at least {MIN_SIZE} (default: 64)"
    )
    parser.add_argument("--tls", action="store_true", help="over TLS, with a certificate made for this run")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the report")
    parser.add_argument(
        "--switch-interval", type=float, metavar="SECONDS", help="sys.setswitchinterval of the clients"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the main job; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        load = Workload(options.threads, options.messages, options.size)
    except ValueError as error:
        parser.error(str(error))
    if options.switch_interval is not None and not options.switch_interval > 0:
        parser.error(f"switch-interval must be above 0 seconds, not {options.switch_interval}")
    out = sys.stderr if options.json else sys.stdout
    with Server(tls=options.tls) as server:
        results = _run_all(Laboratory(server, options.switch_interval), load, out)
    return conclude(results, options.tls, options.json)


def conclude(results: list[Result], tls: bool, as_json: bool) -> int:
    """Say what became of it; the exit status."""
    good = all(result.perfect for result in results if result.step.way == "wsclient")
    if as_json:
        report = {"ok": good, "tls": tls, "python": platform.python_version()}
        print(json.dumps(report | {"results": [result.as_dict() for result in results]}, indent=2))
    else:
        print("Verdict: wsclient", "kept every message whole and in order." if good else "FAILED: see above.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
