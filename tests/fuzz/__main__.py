"""``python -m fuzz``: fuzz every target for a while, say what came of it.

Exit status: 0 when nothing broke, 1 when something did, 2 for wrong arguments, 3 when atheris is missing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fuzz.seeds import write
from fuzz.targets import TARGETS

__all__ = ["main"]

UNAVAILABLE = 3
LIBFUZZER = (
    "-max_len=1024",
    "-timeout=20",  # seconds for one input
    "-rss_limit_mb=1024",  # atheris and what it instruments take 100 of it
    "-print_final_stats=1",
    "-verbosity=1",
)


@dataclass(frozen=True)
class Outcome:
    """What came of one target."""

    target: str
    executions: int
    inputs: int
    found: tuple[Path, ...]
    status: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Fuzz what reads the server's bytes.")
    parser.add_argument("--seconds", type=_positive, default=60, help="for all targets together (60)")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="for inputs and findings (.fuzz)")
    parser.add_argument("targets", nargs="*", metavar="target", help=f"some of: {', '.join(TARGETS)} (all)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"unknown target {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    if find_spec("atheris") is None:
        print("fuzz: atheris is not installed: pip install 'wsclient[fuzz]'", file=sys.stderr)
        return UNAVAILABLE
    names = options.targets or list(TARGETS)
    outcomes = [_fuzz(name, options.folder / name, max(1, options.seconds // len(names))) for name in names]
    for outcome in outcomes:
        _report(outcome)
    return int(any(outcome.status or outcome.found for outcome in outcomes))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {value}")
    return value


def _fuzz(target: str, folder: Path, seconds: int) -> Outcome:
    corpus, findings, dictionary = folder / "corpus", folder / "found", folder / "words"
    write(target, corpus, dictionary)
    findings.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    print(f"fuzz: {target}, {seconds} s ...", flush=True)
    command = [sys.executable, "-m", "fuzz.worker", target, str(corpus)]
    command += [
        *LIBFUZZER,
        f"-max_total_time={seconds}",
        f"-artifact_prefix={findings}/",
        f"-dict={dictionary}",
    ]
    # The time of one input comes on top, and that of the start.
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=seconds + 120, check=False)
    found = tuple(sorted(set(findings.iterdir()) - before))
    if done.returncode or found:
        print(done.stderr, file=sys.stderr)
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    return Outcome(
        target,
        int(executions[1]) if executions else 0,
        sum(1 for _ in corpus.iterdir()),
        found,
        done.returncode,
    )


def _report(outcome: Outcome) -> None:
    text = f"fuzz: {outcome.target}: {outcome.executions} executions, {outcome.inputs} inputs worth keeping"
    print(text + "".join(f"\n  broken by {path}" for path in outcome.found))


if __name__ == "__main__":
    sys.exit(main())
