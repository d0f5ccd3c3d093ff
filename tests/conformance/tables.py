"""Results as tables: for the terminal, and as docs/conformance.md. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from conformance.cases import EVERYTHING, GROUPS, group_of, select
from conformance.runner import Run
from conformance.verdict import EXCUSES, SILENT, Outcome, Result

__all__ = ["document", "terminal_table"]


def terminal_table(results: Sequence[Result]) -> str:
    """A line for each group that has results, and the sum; no column for an outcome that no case had."""
    seen = {result.outcome for result in results}
    columns = [outcome for outcome in Outcome if outcome is Outcome.PASSED or outcome in seen]
    head = ["group", "cases", *(outcome.value for outcome in columns)]
    groups = sorted({group_of(result.case) for result in results})
    rows = [
        _counts(f"{group} {GROUPS[group]}", [r for r in results if group_of(r.case) == group], columns)
        for group in groups
    ]
    return _aligned([head, *rows, _counts("all", results, columns)])


def _counts(name: str, results: Sequence[Result], columns: Sequence[Outcome]) -> list[str]:
    counted = Counter(result.outcome for result in results)
    return [name, str(len(results)), *(str(counted[outcome] or "-") for outcome in columns)]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in cells)
        for cells in (enumerate(zip(row, widths, strict=True)) for row in rows)
    )


# -- docs/conformance.md ------------------------------------------------------------------------------

_INTRODUCTION = """\
# Conformance

<!-- Made by "make conformance-all" from tests/conformance/results: change those files, or the script. -->

All {cases} cases of the [Autobahn Testsuite](https://github.com/crossbario/autobahn-testsuite) 0.8.2, run
against wsclient and, the same way, against the two clients that it is most often compared with. The suite's
server sends what RFC 6455 and RFC 7692 allow, and what they forbid; the client echoes what is valid and
fails the connection otherwise.

"""

_OUTCOMES = """\
Non-strict: conforming, where the RFC leaves it open, but not what the suite would like best. Informational:
the suite records and does not judge. Wrong close code, unclean, unimplemented, failed: in the suite's own
words. Crashed: the client raised something else than its way of saying that the connection has ended; where
failing is expected, the suite cannot tell that from a pass, so this is noted on the client's side.
"""

_HOW = """\
## How it was made

```console
$ make conformance-all
```

It needs a Python 2.7, which the suite is written for, and makes an environment for it in the user's cache
(`~/.cache/wsclient`), with every package at a pinned version. `AUTOBAHN_PYTHON` names a Python 2.7 that is
neither on the path nor one of pyenv's; `AUTOBAHN_URL` and `AUTOBAHN_REPORTS` name a running server and the
folder that it writes its reports to. The server is the one of `wstest --mode fuzzingserver`, on 127.0.0.1
alone. All that takes about an hour; `make conformance` runs wsclient through all but the larger messages of
groups 12 and 13, and fails when anything is not a pass or listed below with its reason.

Each client runs the same loop: receive a message, send it back, until the connection ends. They have their
default settings, but for a maximum message size that lets group 9 pass (websocket-client has none), and for
`compression="deflate"` in groups 12 and 13, which is off by default in wsclient, on in websockets, and not
there in websocket-client. After an error, wsclient and websockets end the connection themselves, with the
code that the RFC asks for. websocket-client leaves that to the application; here it drops the connection,
which the suite accepts. `WebSocket.close()` and `WebSocketApp` would send code 1000, which it counts as
wrong.
"""


def document(runs: Sequence[Run]) -> str:
    """docs/conformance.md for these clients, the first of which is wsclient."""
    parts = [
        _INTRODUCTION.format(cases=len(select(EVERYTHING))),
        _groups(runs),
        "",
        _OUTCOMES,
        _versions(runs),
        "",
        "## What is not a plain pass",
        "",
        *(_exceptions(run) for run in runs),
        _HOW,
    ]
    return "\n".join(parts)


def _groups(runs: Sequence[Run]) -> str:
    rows = [["group", "cases", *(run.client for run in runs)], ["---", "--:", *(":--" for _ in runs)]]
    for group, title in GROUPS.items():
        shares = [[r for r in run.results if group_of(r.case) == group] for run in runs]
        size = len(select([f"{group}.*"]))
        rows.append([f"{group} {title}", str(size), *map(_summary, shares)])
    rows.append(["**all**", str(len(select(EVERYTHING))), *(_summary(run.results) for run in runs)])
    rows.append(["ended without a close code", "", *(str(_silent(run.results)) for run in runs)])
    return _markdown(rows)


def _summary(results: Iterable[Result]) -> str:
    counted = Counter(result.outcome for result in results)
    return ", ".join(f"{counted[outcome]} {outcome.value}" for outcome in Outcome if counted[outcome])


def _silent(results: Iterable[Result]) -> int:
    return sum(result.close_code is None and result.case not in SILENT for result in results)


def _versions(runs: Sequence[Run]) -> str:
    measured = ", ".join(f"{run.client} {run.version} (Python {run.python})" for run in runs)
    return f"Measured: {measured}; autobahntestsuite 0.8.2 with autobahn 0.10.9."


def _exceptions(run: Run) -> str:
    found: defaultdict[tuple[Outcome, str], list[str]] = defaultdict(list)
    for result in run.results:
        if result.outcome is not Outcome.PASSED:
            found[result.outcome, _reason(run, result)].append(result.case)
    if not found:
        return f"### {run.client}\n\nNothing.\n"
    rows = [["cases", "outcome", "why"], ["---", "---", "---"]]
    rows += [[_shortened(cases), outcome.value, reason] for (outcome, reason), cases in found.items()]
    return f"### {run.client}\n\n{_markdown(rows)}\n"


def _reason(run: Run, result: Result) -> str:
    excuse = EXCUSES.get(result.case) if run.client == "wsclient" else None
    excused = excuse is not None and excuse.outcome is result.outcome
    return excuse.reason if excuse is not None and excused else result.note


def _shortened(cases: Sequence[str]) -> str:
    """The cases, with ``12.*`` for a group that is there as a whole."""
    groups: Mapping[int, list[str]] = {
        group: [case for case in cases if group_of(case) == group] for group in sorted(map(group_of, cases))
    }
    return ", ".join(
        f"{group}.\\*" if tuple(there) == select([f"{group}.*"]) else ", ".join(there)
        for group, there in groups.items()
    )


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
