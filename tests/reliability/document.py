"""docs/reliability.md: made from the accounts of the runs that are kept in ``results``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliability.account import Account
from reliability.processes import ROOT

__all__ = ["DOCUMENT", "STANDARD", "Row", "document", "load", "load_soak", "save"]

DOCUMENT = ROOT / "docs" / "reliability.md"
RESULTS = Path(__file__).resolve().parent / "results"
SOAK = RESULTS / "soak" / "latest.json"

# What "make reliability" runs, and in the order of the table.
STANDARD: tuple[tuple[str, ...], ...] = (
    ("kill", "--messages", "200000", "--faults", "20", "--pace", "0"),
    ("kill", "--messages", "200000", "--faults", "20", "--delivery", "at_most_once"),
    ("kill", "--messages", "40000", "--faults", "20", "--hold"),
    ("stop", "--messages", "40000", "--faults", "10", "--hold"),
    ("cut", "--messages", "100000", "--faults", "50"),
    ("cut", "--messages", "100000", "--faults", "50", "--delivery", "at_most_once"),
    ("stall", "--messages", "40000", "--faults", "10"),
    ("delay", "--messages", "40000", "--faults", "10"),
    ("throttle", "--messages", "40000", "--faults", "10"),
    ("refuse", "--messages", "40000", "--faults", "20"),
    ("loss", "--messages", "40000", "--faults", "12", "--hold"),
    ("unplug", "--messages", "40000", "--faults", "10", "--hold"),
    ("descriptors", "--messages", "40000", "--faults", "10", "--hold"),
    ("memory", "--messages", "40000", "--faults", "10", "--hold"),
    ("clock", "--messages", "40000", "--faults", "10", "--hold"),
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
    """The runs that are kept: the standard ones first, in their order."""
    rows = [
        Row.from_dict(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))
    ]
    places = {arguments: place for place, arguments in enumerate(STANDARD)}
    return sorted(rows, key=lambda row: places.get(row.arguments, len(places)))


_INTRODUCTION = """\
# Reliability

<!-- Made by "make reliability" from tests/reliability/results: change those files, or the script. -->

What becomes of messages when the network, the server or this process fails. In each run below, threads send
messages through one `Connection` with `reconnect` on, while faults are injected for real. Each message
carries its thread, its number, its length and a checksum. The server runs in another process and writes each
message down before it looks at the next, so that its account outlives its SIGKILL. At the end

    accepted = received + in doubt + unsent + lost

and *lost* must be 0. *In doubt* is what the connection handed back because it was written but not known to
have arrived, and has not arrived. Also checked: no message arrives that was not accepted, none that was
handed back as unsent; the first arrivals of each thread are in order; without `at_least_once` nothing arrives
twice.

"""

_HOW = """\

Waiting is bounded: the longest wait of any call on the connection, in seconds, with the name of the call.
Most of the time of the longest ones is that of the fault itself.

## How it was made

```console
$ make reliability
```

runs all of this again and writes this page; the command beside a row runs that one and prints its account.
The places of the faults come from `--seed`. `--pace` is how many messages a thread sends before it waits
until they are confirmed, so that faults find traffic all along (0: it never waits); with `--hold` the server
stands still at the message where a fault is due, until it has happened.

`loss` and `unplug` run in two network namespaces that exist for the run only, and need root, or the right to
make user namespaces; `clock` needs libfaketime. Where something is missing, the command says so and ends with
status 3.
"""


_SOAK = """
## All of it at once

`make soak` opens and closes connections of every kind: each `delivery`, compressed or not, in fragments or
not, with callbacks that raise, or pulled. They send texts, bytes, streams and messages with receipts, while
the network and the server fail at random. Threads, open files and memory are sampled each second, and their
means in the second and in the last quarter compared: the first quarter is for warming up. At the end
everything is closed, no thread and no open file may be left, and the account of every connection must be
balanced.

Memory is what is resident after `malloc_trim`. Without that, what glibc keeps in reserve for the many threads
that come and go rises for a minute or so, and then stays.

![memory, threads and rate over time](soak.png)

{lines}

```console
$ make soak SECONDS={seconds:g}
```
"""


def document(rows: Sequence[Row], soak: Mapping[str, Any] | None = None) -> str:
    """docs/reliability.md for these runs, and for what a soak has kept."""
    return f"{_INTRODUCTION}{_table(rows)}\n{_notes(rows)}{_HOW}{_soak_section(soak) if soak else ''}"


def load_soak(path: Path = SOAK) -> dict[str, Any] | None:
    """What the last soak has kept; ``None`` when there was none."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _soak_section(soak: Mapping[str, Any]) -> str:
    total = soak["balance"]
    counts = f"{total['connections']:,} connections, {total['links'] - total['connections']:,} reconnects"
    lines = [
        f"- {soak['seconds']:g} seconds, seed {soak['seed']}, Python {soak['python']}: {counts}, "
        f"{sum(soak['faults'].values()):,} faults; callbacks raised {total['raised']:,} times.",
        f"- {total['accepted']:,} messages accepted, {total['received']:,} received "
        f"({total['duplicated']:,} more than once), {total['in_doubt']:,} in doubt, "
        f"{total['unsent']:,} unsent, **{total['lost']:,} lost**.",
        *(f"- {_growth(one)}" for one in soak["growth"]),
    ]
    return _SOAK.format(lines="\n".join(lines), seconds=soak["seconds"])


def _growth(one: Mapping[str, Any]) -> str:
    scale, unit = (1 << 20, " MiB") if one["what"] == "memory" else (1, "")
    before, after, most = (one[key] / scale for key in ("before", "after", "tolerance"))
    return f"{one['what']}: {before:.1f}{unit}, then {after:.1f}{unit} (may grow by {most:.1f}{unit})."


def _table(rows: Sequence[Row]) -> str:
    head = [
        "injected",
        "times",
        "`delivery`",
        "accepted",
        "received",
        "duplicated",
        "in doubt",
        "unsent",
        "lost",
    ]
    cells = [[*head, "longest wait", "command"], ["---", *["--:"] * 9, "---"]]
    cells[1][2] = "---"
    return "\n".join(f"| {' | '.join(line)} |" for line in [*cells, *map(_cells, rows)])


def _cells(row: Row) -> list[str]:
    account, verdict = row.account, row.account.verdict
    call, wait = account.longest_wait
    counts = (
        verdict.accepted,
        verdict.received,
        verdict.duplicated,
        verdict.in_doubt,
        verdict.unsent,
        verdict.lost,
    )
    numbers = [f"{count:,}" for count in counts]
    return [
        account.injected,
        str(account.faults),
        account.delivery,
        *numbers,
        f"{wait:.1f} ({call})",
        f"`{row.command}`",
    ]


def _notes(rows: Sequence[Row]) -> str:
    notes = [f"- {row.account.scenario}: {note}." for row in rows for note in row.account.notes]
    pythons = ", ".join(sorted({row.python for row in rows}))
    return "\n".join(["", *notes, *([f"- Python {pythons}, Linux."] if pythons else []), ""])
