"""docs/reliability.md: made from the accounts of the runs that are kept in ``results``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliability.account import Account
from reliability.processes import ROOT

__all__ = ["DOCUMENT", "STANDARD", "Row", "document", "load", "load_soak", "save", "save_soak", "write"]

DOCUMENT = ROOT / "docs" / "reliability.md"
PAGES = Path(__file__).resolve().parent / "pages"
RESULTS = PAGES.parent / "results"
SOAK = RESULTS / "soak" / "latest.json"

_DELIVERIES = ("", " --delivery at_most_once")  # at_least_once is the default of the command
_RUNS = (
    "cut --messages 100000 --faults 50",
    "stall --messages 40000 --faults 10",
    "delay --messages 40000 --faults 10",
    "throttle --messages 40000 --faults 10",
    "refuse --messages 40000 --faults 20",
    "stop --messages 40000 --faults 10 --hold",
    "loss --messages 40000 --faults 12 --hold",
    "unplug --messages 40000 --faults 10 --hold",
    "descriptors --messages 40000 --faults 10 --hold",
    "memory --messages 40000 --faults 10 --hold",
    "clock --messages 40000 --faults 10 --hold",
)
# What "make reliability" runs, and in the order of the table.
STANDARD: tuple[tuple[str, ...], ...] = tuple(
    tuple(run.split())
    for run in (
        "kill --messages 200000 --faults 20 --pace 0",
        "kill --messages 200000 --faults 20 --hold",
        "kill --messages 200000 --faults 20 --delivery at_most_once",
        "kill --messages 200000 --faults 1 --pace 0 --delivery plain",
        *(run + delivery for run in _RUNS for delivery in _DELIVERIES),
    )
)


@dataclass(frozen=True)
class Row:
    """A run that is kept: the arguments that made it, and what came of it."""

    arguments: tuple[str, ...]
    python: str
    account: Account

    @property
    def command(self) -> str:
        """What to type to have it again."""
        return f"python -m tests.reliability {' '.join(self.arguments)}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"arguments": self.arguments, "python": self.python, "account": self.account.as_dict()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Row:
        """A row from what ``as_dict`` made."""
        return cls(tuple(raw["arguments"]), raw["python"], Account.from_dict(raw["account"]))


def save(row: Row, folder: Path = RESULTS) -> Path:
    """Keep a run, in place of an earlier one with the same arguments."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{'_'.join(argument.lstrip('-') for argument in row.arguments)}.json"
    path.write_text(json.dumps(row.as_dict(), indent=1) + "\n", encoding="utf-8")
    return path


def load(folder: Path = RESULTS) -> list[Row]:
    """The standard rows that are kept, in their order."""
    rows = {
        row.arguments: row
        for row in (
            Row.from_dict(json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")
        )
    }
    return [rows[arguments] for arguments in STANDARD if arguments in rows]


def document(rows: Sequence[Row], soak: Mapping[str, Any] | None = None) -> str:
    """docs/reliability.md for these runs, and for what a soak has kept."""
    accounts = [row.account for row in rows]
    runs = _page("runs").format(
        lost=f"{sum(one.verdict.lost for one in accounts):,}",
        accepted=f"{sum(one.verdict.accepted for one in accounts):,}",
        faults=f"{sum(one.faults for one in accounts):,}",
        runs=len(rows),
        threads=_each(one.threads for one in accounts),
        table=_table(rows),
        python=f"Python {_each(row.python for row in rows)}, Linux.",
    )
    return runs + (_soak_section(soak) if soak else "")


def _page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def _each(values: Iterable[object]) -> str:
    return " or ".join(sorted({str(value) for value in values}))


def write() -> None:
    """Make docs/reliability.md anew from all that is kept."""
    DOCUMENT.write_text(document(load(), load_soak()), encoding="utf-8")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")


def load_soak(path: Path = SOAK) -> dict[str, Any] | None:
    """What the last soak has kept; ``None`` when there was none."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def save_soak(summary: Mapping[str, Any], path: Path = SOAK) -> None:
    """Keep what came of a soak, in place of the last one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def _soak_section(soak: Mapping[str, Any]) -> str:
    total = soak["balance"]
    counts = f"{total['connections']:,} connections, {total['links'] - total['connections']:,} reconnects"
    lines = [
        f"- {soak['seconds']:g} seconds, seed {soak['seed']}, Python {soak['python']}: {counts}, "
        f"{sum(soak['faults'].values()):,} faults; callbacks raised {total['raised']:,} times.",
        f"- {total['accepted']:,} messages accepted, {total['received']:,} received "
        f"({total['duplicated']:,} more than once), {total['in_doubt']:,} in doubt, "
        f"{total['unsent']:,} unsent, **{total['lost']:,} lost**.",
        *(f"- {one}." for one in soak["growth"]),
    ]
    return _page("soak").format(lines="\n".join(lines), seconds=soak["seconds"])


_COUNTS = ("accepted", "received", "duplicated", "in_doubt", "unsent", "lost")  # of a Verdict


def _table(rows: Sequence[Row]) -> str:
    counts = [name.replace("_", " ") for name in _COUNTS]
    head = ["injected", "times", "`delivery`", "disconnects", *counts, "longest wait", "command"]
    rule = ["---", "--:", "---", *["--:"] * (len(head) - 4), "---"]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *map(_cells, rows)])


def _cells(row: Row) -> list[str]:
    account = row.account
    call, wait = account.longest_wait
    return [
        "; ".join([account.injected, *account.notes]),
        str(account.faults),
        account.delivery,
        f"{sum(account.reasons.values()):,}",
        *(f"{getattr(account.verdict, name):,}" for name in _COUNTS),
        f"{wait:.1f} ({call})",
        f"`{row.command}`",
    ]
