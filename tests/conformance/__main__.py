"""``python -m conformance``: run cases against clients, print tables, say whether all is well.

Exit status: 0 when wsclient has no fault, 1 when it has, 2 for wrong arguments, 3 when the suite cannot run.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peers.launch import Unavailable

from conformance import python27
from conformance.cases import EVERYTHING, STANDARD, group_of, select
from conformance.clients import CLIENTS
from conformance.runner import Run, load, run, save
from conformance.suite import started
from conformance.tables import document, terminal_table
from conformance.verdict import faults

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
UNAVAILABLE = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments ask for; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.action(options)
        return status
    except Unavailable as error:
        print(f"conformance: {error}", file=sys.stderr)
        return UNAVAILABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance", description="Run the Autobahn Testsuite.")
    parser.add_argument(
        "--clients", metavar="NAMES", type=_clients, default=["wsclient"], help=f"of {', '.join(CLIENTS)}"
    )
    parser.add_argument(
        "--reports",
        metavar="FOLDER",
        type=Path,
        help="keep the suite's own reports, with all that was on the wire",
    )
    parser.set_defaults(action=_some)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--cases", metavar="PATTERNS", type=_cases, default=select(STANDARD), help="such as 1.*,9.1.3"
    )
    for name, action, meaning in (
        ("--all", _all, "run all cases, keep the results, write docs/conformance.md"),
        ("--document", _document, "only write docs/conformance.md, from the results that are kept"),
        ("--find", _find, "only say where a Python 2.7 is"),
    ):
        what.add_argument(name, dest="action", action="store_const", const=action, help=meaning)
    return parser


def _cases(text: str) -> tuple[str, ...]:
    try:
        return select(text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _clients(text: str) -> list[str]:
    unknown = set(text.split(",")) - set(CLIENTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such client: {', '.join(sorted(unknown))}")
    return text.split(",")


def _some(options: argparse.Namespace) -> int:
    return _measure(options, options.cases, keep=lambda done: None)


def _all(options: argparse.Namespace) -> int:
    status = _measure(options, select(EVERYTHING), keep=save)
    _document(options)
    return status


def _document(options: argparse.Namespace) -> int:
    DOCUMENT.write_text(document([load(name) for name in CLIENTS]), encoding="utf-8")
    return 0


def _find(options: argparse.Namespace) -> int:
    print(python27.find())
    return 0


def _measure(options: argparse.Namespace, cases: Sequence[str], *, keep: Callable[[Run], None]) -> int:
    status = 0
    for name in options.clients:
        with _folder(options.reports, name) as folder:
            done = _run(name, cases, folder)
        keep(done)
        if name == "wsclient":  # the others are here for comparison
            found = faults(cases, done.results)
            print(*(f"FAULT {fault}" for fault in found), f"faults: {len(found)}", sep="\n")
            status = 1 if found else 0
    return status


@contextmanager
def _folder(kept: Path | None, client: str) -> Iterator[Path]:
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="conformance-") as passing:
            yield Path(passing)
    else:
        (kept / client).mkdir(parents=True, exist_ok=True)
        yield (kept / client).resolve()


def _run(name: str, cases: Sequence[str], folder: Path) -> Run:
    client = CLIENTS[name]
    began = time.monotonic()
    with started(cases, folder) as suite:
        done = run(name, client, suite, cases, progress=_Progress())
    print(f"\n{name} {client.version}, {time.monotonic() - began:.0f} s\n")
    print(terminal_table(done.results), flush=True)
    return done


class _Progress:
    """Prints each group's number as its first case begins."""

    def __init__(self) -> None:
        self._group = 0  # main thread

    def __call__(self, case: str) -> None:
        if group_of(case) != self._group:
            self._group = group_of(case)
            print(f"{self._group} ", end="", flush=True)


if __name__ == "__main__":
    logging.getLogger("wsclient").setLevel(logging.ERROR)  # it warns of each frame that it has to refuse
    sys.exit(main())
