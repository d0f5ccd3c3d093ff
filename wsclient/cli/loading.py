"""Runs a load plan for the command line: signals, the live view, reports, the exit status."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from wsclient.cli.display import visible
from wsclient.cli.exits import ExitCode, Failure, option_fault
from wsclient.cli.live import watching
from wsclient.cli.output import ignore_broken_pipe, note
from wsclient.cli.progress import summary
from wsclient.load.measure import require_histograms
from wsclient.load.plan import Plan
from wsclient.load.report import render_html, to_csv, to_json, to_junit
from wsclient.load.result import Result
from wsclient.load.run import run
from wsclient.load.thresholds import Threshold, Verdict, judge

__all__ = ["STANDARD_OUTPUT", "Reports", "load_with"]

STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Reports:
    """Where each report goes: a path, ``-`` for standard output, or ``None`` for nowhere."""

    json: str | None = None
    csv: str | None = None
    junit: str | None = None
    html: str | None = None

    def check(self) -> None:
        """Find out before the run, and not after it, that a file cannot be written. Raises ``Failure``."""
        given = {"--json": self.json, "--csv": self.csv, "--junit": self.junit, "--report": self.html}
        if sum(path == STANDARD_OUTPUT for path in given.values()) > 1:
            raise Failure("only one report can go to standard output (-)", ExitCode.USAGE)
        for option, path in given.items():
            if path is not None and path != STANDARD_OUTPUT:
                _check_path(option, path)

    @property
    def take_stdout(self) -> bool:
        """Whether one of them goes to standard output."""
        return STANDARD_OUTPUT in (self.json, self.csv, self.junit, self.html)

    def write(self, result: Result, verdicts: Sequence[Verdict]) -> None:
        """Write them all. Raises ``Failure`` naming what could not be written, after all others were."""
        made: Mapping[str, tuple[str | None, Callable[[], str]]] = {
            "--json": (self.json, lambda: to_json(result, verdicts)),
            "--csv": (self.csv, lambda: to_csv(result)),
            "--junit": (self.junit, lambda: to_junit(result, verdicts)),
            "--report": (self.html, lambda: render_html(result, verdicts)),
        }
        faults = [_written(option, path, make) for option, (path, make) in made.items() if path is not None]
        if any(faults):
            raise Failure("; ".join(filter(None, faults)))


def _check_path(option: str, path: str) -> None:
    try:
        with Path(path).open("ab"):
            pass
    except OSError as error:
        raise Failure(f"{option}: {path}: {error.strerror}", ExitCode.USAGE) from error


def _written(option: str, path: str, make: Callable[[], str]) -> str | None:
    try:
        if path == STANDARD_OUTPUT:
            sys.stdout.write(make())
            sys.stdout.flush()
        else:
            Path(path).write_text(make(), encoding="utf-8")
    except BrokenPipeError:
        ignore_broken_pipe()
    except OSError as error:
        return f"{option}: {path}: {error.strerror}"
    return None


def load_with(plan: Plan, thresholds: Sequence[Threshold], reports: Reports, quiet: bool) -> ExitCode:
    """Run a plan, show and write what it found, and judge it.

    Raises:
        Failure: it could not run, or a report could not be written.
        KeyboardInterrupt: a second Ctrl-C.
    """
    result = _run(plan, quiet)
    verdicts = judge(thresholds, result)
    _show(summary(result, verdicts), sys.stderr if reports.take_stdout else sys.stdout)
    reports.write(result, verdicts)
    return _status(plan, result, verdicts)


def _show(lines: Iterator[str], stream: TextIO) -> None:
    try:
        for line in lines:
            print(visible(line), file=stream, flush=True)
    except BrokenPipeError:  # who reads has what was wanted; reports and exit status are still to come
        if stream is sys.stdout:
            ignore_broken_pipe()


def _run(plan: Plan, quiet: bool) -> Result:
    stop = threading.Event()
    try:
        require_histograms()
        with watching(plan, stop, quiet) as watch, _ended_by_signals(stop):
            return run(plan, on_progress=watch, stop=stop)
    except (RuntimeError, ModuleNotFoundError) as error:
        raise Failure(str(error), ExitCode.USAGE) from error
    except ValueError as error:
        raise option_fault(error) from error


@contextmanager
def _ended_by_signals(stop: threading.Event) -> Iterator[None]:
    # The first one ends the run early, with a report; the next one drops everything.
    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, on_signal) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _status(plan: Plan, result: Result, verdicts: Sequence[Verdict]) -> ExitCode:
    problems = result.account.problems(answers=plan.answers)
    for problem in problems:
        note(f"the account does not balance: {problem}")
    if result.setup.attempted and not result.setup.opened:
        note("could not connect")
        return ExitCode.UNREACHABLE
    if problems or not all(verdict.passed for verdict in verdicts):
        return ExitCode.FAILED
    if result.interrupted:
        return ExitCode.INTERRUPTED
    if not any(second.open_connections for second in result.seconds[-1:]):
        note("every connection was lost")
        return ExitCode.LOST
    return ExitCode.OK
