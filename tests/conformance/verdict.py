"""What a case's report and the client's own account of it amount to. Pure.

The suite alone does not tell all: where failing is expected, a client that crashed looks as if it had failed
the connection on purpose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from conformance.cases import COMPRESSED, group_of

__all__ = ["EXCUSES", "SILENT", "Ending", "Excuse", "Outcome", "Report", "Result", "faults", "judge"]


class Outcome(Enum):
    """How a case went, from good to bad. All but the first three are failures."""

    PASSED = "passed"
    NON_STRICT = "non-strict"
    INFORMATIONAL = "informational"
    WRONG_CODE = "wrong close code"
    UNCLEAN = "unclean"
    UNIMPLEMENTED = "unimplemented"
    FAILED = "failed"
    CRASHED = "crashed"
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the suite says about a case. ``close_code`` is the client's, ``None`` if it sent none."""

    behavior: str
    behavior_close: str
    close_code: int | None
    explanation: str
    negotiated: bool  # permessage-deflate, as the server answered
    ratio: float | None  # bytes received before and after inflating; None without compression


@dataclass(frozen=True)
class Ending:
    """What the client says about the end of the connection, and whether that was a crash."""

    text: str
    crashed: bool


@dataclass(frozen=True)
class Result:
    """One case of one client; ``note`` explains everything but a plain pass."""

    case: str
    outcome: Outcome
    close_code: int | None = None
    note: str = ""
    ratio: float | None = None


@dataclass(frozen=True)
class Excuse:
    """Why one case may end in another way than by a plain pass."""

    outcome: Outcome
    reason: str


_UNWRITTEN_ECHO = Excuse(
    Outcome.NON_STRICT,
    "A valid message and a frame that breaks the protocol come in one read. The connection is failed at "
    "once, and the echo, if still queued, is handed back as unsent. RFC 6455, section 7.1.7, does not ask "
    "for anything to be written before the close frame.",
)
_WHOLE_FRAMES = Excuse(
    Outcome.NON_STRICT,
    "Text is checked frame by frame: a fault in the middle of a frame is found when the frame is complete. "
    "RFC 6455, section 8.1, asks for the connection to be failed, and does not say how soon.",
)
_CODES_ABOVE = Excuse(
    Outcome.INFORMATIONAL,
    "The suite only records what comes of a close code above the ranges of RFC 6455, section 7.4.2. "
    "wsclient answers with 1002.",
)

EXCUSES: Mapping[str, Excuse] = MappingProxyType(
    dict.fromkeys(("3.2", "3.3", "3.4", "5.15"), _UNWRITTEN_ECHO)
    | {f"4.{part}.{number}": _UNWRITTEN_ECHO for part in (1, 2) for number in (3, 4, 5)}
    | {"6.4.3": _WHOLE_FRAMES, "6.4.4": _WHOLE_FRAMES}
    | {
        "7.1.6": Excuse(
            Outcome.INFORMATIONAL,
            "The suite sends messages, closes at once, and only records whether echoes came before the "
            "reply. wsclient discards what is queued once the peer has closed, and hands it back as unsent.",
        )
    }
    | {"7.13.1": _CODES_ABOVE, "7.13.2": _CODES_ABOVE}
)
# A close frame without a code, and so is its reply.
SILENT = frozenset({"7.3.1"})

_WORDS: Mapping[str, Outcome] = MappingProxyType(
    {
        "OK": Outcome.PASSED,
        "NON-STRICT": Outcome.NON_STRICT,
        "INFORMATIONAL": Outcome.INFORMATIONAL,
        "UNIMPLEMENTED": Outcome.UNIMPLEMENTED,
        "UNCLEAN": Outcome.UNCLEAN,
        "WRONG CODE": Outcome.WRONG_CODE,
    }
)
_FROM_GOOD_TO_BAD = tuple(Outcome)
_ALLOWED = frozenset({Outcome.PASSED, Outcome.NON_STRICT, Outcome.INFORMATIONAL})


def judge(case: str, report: Report | None, ending: Ending | None) -> Result:
    """Weigh both accounts of a case, ``None`` for one that is not there. An unknown word is a failure."""
    if ending is None:
        return Result(case, Outcome.MISSING, note="the client was not connected for it")
    if ending.crashed:
        code = report.close_code if report else None
        return Result(case, Outcome.CRASHED, code, ending.text)
    if report is None:
        return Result(case, Outcome.MISSING, note=f"the suite has no report of it; the client: {ending.text}")
    outcome = _outcome(case, report)
    note = "" if outcome is Outcome.PASSED else report.explanation
    return Result(case, outcome, report.close_code, note, report.ratio)


def _outcome(case: str, report: Report) -> Outcome:
    if group_of(case) in COMPRESSED and not report.negotiated:
        return Outcome.UNIMPLEMENTED
    words = (report.behavior, report.behavior_close)
    return max((_WORDS.get(word, Outcome.FAILED) for word in words), key=_FROM_GOOD_TO_BAD.index)


def faults(
    asked: Sequence[str],
    results: Iterable[Result],
    *,
    excuses: Mapping[str, Excuse] = EXCUSES,
    silent: Collection[str] = SILENT,
) -> list[str]:
    """Everything that keeps a run from being clean, in words; empty when it is.

    Args:
        asked: the cases that were to be run.
        results: what came of them.
        excuses: cases that may be non-strict or informational, each with its reason.
        silent: cases in which the client need not send a close code.
    """
    by_case = {result.case: result for result in results}
    found = [f"{case}: was not asked for" for case in by_case if case not in set(asked)]
    for case in asked:
        result = by_case.get(case, Result(case, Outcome.MISSING, note="there is no result"))
        complaint = _complaint(result, excuses.get(case)) or _silence(result, silent)
        if complaint:
            found.append(f"{case}: {complaint}")
    return found + _never_compressed(by_case.values())


def _complaint(result: Result, excuse: Excuse | None) -> str:
    if result.outcome is Outcome.PASSED or (excuse and result.outcome is excuse.outcome):
        return ""
    unlisted = " without being listed" if result.outcome in _ALLOWED else ""
    code = "" if result.close_code is None else f", close code {result.close_code}"
    return f"{result.outcome.value}{unlisted}{code}: {result.note}"


def _silence(result: Result, silent: Collection[str]) -> str:
    # The suite takes a connection that just ends for one that was failed.
    if result.close_code is None and result.case not in silent:
        return "the client sent no close code"
    return ""


def _never_compressed(results: Iterable[Result]) -> list[str]:
    ratios = [result.ratio for result in results if result.ratio is not None]
    if ratios and min(ratios) >= 1:
        return ["compression was negotiated, and the client never compressed what it sent"]
    return []
