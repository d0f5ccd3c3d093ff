"""The command line. Exit status: 0 when nothing grows and all is accounted for, 1 when not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from reliability.document import save_soak, write
from reliability.processes import ROOT
from reliability.soak.judge import Sample
from reliability.soak.run import ROUNDS, Soak, soak

__all__ = ["main", "report", "summary"]

_PICTURE = ROOT / "docs" / "soak"
_MIB = 1024 * 1024
_TELL_EVERY = 10  # seconds
_SAMPLES = 10  # of a round at least
_SHOWN = 20


def main(arguments: Sequence[str]) -> int:
    """Soak, report, draw."""
    options = _parser().parse_args(arguments)
    every = options.every or min(1.0, options.seconds / options.rounds / _SAMPLES)
    found = soak(options.seconds, options.seed, options.connections, every, options.rounds, _tell)
    print(report(found))
    if options.keep:
        save_soak(summary(found))
    if stem := options.picture or (_PICTURE if options.keep else None):
        from reliability.soak.chart import draw

        print("Picture:", ", ".join(path.name for path in draw(found, stem)))
    if options.keep:
        write()
    return 1 if found.complaints else 0


def report(found: Soak) -> str:
    """For the terminal."""
    total = found.balance
    lines = {
        "took": f"{found.seconds:g} s (seed {found.seed}, Python {found.python})",
        "faults": f"{sum(found.faults.values()):,}: "
        + ", ".join(f"{name} {count}" for name, count in sorted(found.faults.items())),
        "connections": f"{total.connections:,}, and {total.links - total.connections:,} reconnects; "
        f"{found.refused:,} could not be opened",
        "callbacks": f"raised {total.raised:,} times",
        "accepted": f"{total.accepted:,}, and {total.streams:,} streams",
        "received": f"{total.received:,}, {total.duplicated:,} more than once",
        "in doubt": f"{total.in_doubt:,}",
        "unsent": f"{total.unsent:,}",
        "LOST": f"{total.lost:,}",
    }
    rows = [f"  {name:<14}{text}" for name, text in lines.items()]
    rows += [f"  {one}" for one in found.growth]
    return "\n".join(["soak", *rows, *(f"  WRONG: {one}" for one in found.complaints[:_SHOWN])])


def _tell(sample: Sample) -> None:
    if round(sample.seconds) % _TELL_EVERY == 0:
        print(
            f"{sample.seconds:6.0f} s: {sample.threads} threads, {sample.files} files, "
            f"{sample.memory / _MIB:.1f} MiB, {sample.messages:,} messages, "
            f"{sample.connections:,} connections, {sample.faults} faults",
            flush=True,
        )


def summary(found: Soak) -> dict[str, object]:
    """What is kept of it: all but the samples."""
    raw = asdict(found)
    del raw["samples"], raw["rests"]
    return {**raw, "growth": [str(one) for one in found.growth], "complaints": found.complaints}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reliability.soak", description="Everything at once.")
    parser.add_argument("--seconds", type=_positive, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=6, help="at a time")
    parser.add_argument("--every", type=_positive, help="seconds between two samples (1, or less)")
    parser.add_argument("--rounds", type=_count, default=ROUNDS, help="each ends with all connections closed")
    parser.add_argument("--picture", type=Path, metavar="STEM", help="write STEM.svg and STEM.png")
    parser.add_argument(
        "--keep", action="store_true", help="keep it for docs/reliability.md, with its picture"
    )
    return parser


def _count(text: str) -> int:
    if not int(text) > 0:
        raise argparse.ArgumentTypeError(f"must be over 0, not {text}")
    return int(text)


def _positive(text: str) -> float:
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"must be over 0, not {text}")
    return float(text)
