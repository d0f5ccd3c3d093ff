"""The command line of ``reliability``; see ``__main__`` for its exit status."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from reliability.account import table
from reliability.document import DOCUMENT, STANDARD, Row, save, write
from reliability.plan import Delivery, Plan
from reliability.processes import TESTS, Unavailable, environment, python
from reliability.run import Process, Scenario
from reliability.scenarios import SCENARIOS

__all__ = ["UNAVAILABLE", "execute", "main", "parse"]

UNAVAILABLE = 3
_INSIDE = "--inside"  # this process is the one that the scenario asked for


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for; returns the exit status."""
    if list(arguments) == ["all"]:
        return _all()
    options, plan = parse(arguments)
    logging.getLogger("wsclient").setLevel(logging.ERROR)  # a warning for each connection that is lost
    scenario = SCENARIOS[options.scenario]
    try:
        if scenario.process is not None and not options.inside:
            _become(scenario.process(), arguments)
        return execute(scenario, plan, options.json, options.keep_as)
    except Unavailable as error:
        print(f"{scenario.name}: {error}", file=sys.stderr)
        return UNAVAILABLE


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, Plan]:
    """What the arguments ask for; exits with status 2 when that is nothing."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options, _plan(options)
    except ValueError as error:
        parser.error(str(error))


def execute(scenario: Scenario, plan: Plan, file: Path | None = None, keep_as: str = "") -> int:
    """Run, print the account, write it where it is wanted; returns the exit status."""
    account = scenario.run(plan)
    print(table(account))
    if file is not None:
        file.write_text(json.dumps(account.as_dict(), indent=1) + "\n")
    if keep_as:
        save(Row(tuple(keep_as.split()), platform.python_version(), account))
    return 1 if account.complaints else 0


def _all() -> int:
    """Run the standard rows, keep them, and write the document."""
    worst = 0
    for row in STANDARD:
        command = python("reliability", *row, "--keep-as", " ".join(row))
        status = subprocess.run(command, cwd=TESTS, env=environment(), check=False).returncode
        worst = worst if status in (0, UNAVAILABLE) else 1
    write()
    return worst


def _become(process: Process, arguments: Sequence[str]) -> None:
    """Go on as another process, which has what the scenario needs. Does not return."""
    command = [*process.wrapper, *python("reliability", *arguments, _INSIDE)]
    os.chdir(TESTS)
    os.execve(command[0], command, {**environment(), **process.environment})


def _parser() -> argparse.ArgumentParser:
    usual = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability", description="Inject faults, and account for every message."
    )
    deliveries = "|".join(delivery.value for delivery in Delivery)
    names = f"{', '.join(SCENARIOS)}; or only 'all': the rows of {DOCUMENT.name}, which it writes"
    parser.add_argument("scenario", choices=SCENARIOS, metavar="SCENARIO", help=names)
    parser.add_argument("--messages", type=int, default=usual.messages, help="of all threads together")
    parser.add_argument("--threads", type=int, default=usual.threads)
    parser.add_argument("--faults", type=int, default=usual.faults)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--size", type=int, default=usual.size, help="of a message, bytes")
    parser.add_argument("--delivery", type=Delivery, default=usual.delivery, metavar=deliveries)
    parser.add_argument(
        "--pace", type=int, default=usual.pace, help="messages that a thread sends unconfirmed; 0: all"
    )
    parser.add_argument(
        "--hold", action="store_true", help="hold the server where a fault is due, so that it is exact"
    )
    parser.add_argument("--patience", type=float, default=600.0, help="seconds")
    parser.add_argument("--json", type=_absolute, metavar="FILE", help="write the account there, too")
    parser.add_argument(
        "--keep-as", default="", metavar="ARGUMENTS", help="keep the account as that of these arguments"
    )
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    return parser


def _absolute(text: str) -> Path:
    return Path(text).absolute()


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        messages=options.messages,
        threads=options.threads,
        faults=options.faults,
        seed=options.seed,
        delivery=options.delivery,
        size=options.size,
        pace=options.pace,
        hold=options.hold,
        patience=options.patience,
    )
