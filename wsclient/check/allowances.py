"""What is allowed in spite of a rule: by a comment on its line, or by the configuration for whole files."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from wsclient.check.rules import RULES, Finding

__all__ = ["Allowance", "LineAllowance", "allowance_finding", "allowed_lines", "apply", "misspelt"]

_COMMENT = re.compile(r"#\s*wsclient:\s*allow(?:\[([^\]]*)\]|\s*$)")
_KNOWN = frozenset(rule.name for rule in RULES)
_REASON = next(f"{rule.why}; {rule.instead}" for rule in RULES if rule.name == "allowance")


@dataclass(frozen=True)
class Allowance:
    """Rules that the files of a pattern may break. ``*`` in it stands for any text, ``/`` included.

    The pattern is a path from the top of the project, with ``/`` on every system; that of a folder stands for
    everything in it. ``source`` and ``line`` say where it is written.
    """

    pattern: str
    rules: frozenset[str]
    source: str = ""
    line: int = 0

    def covers(self, path: str) -> bool:
        """Whether a file is meant, by its path from the top of the project."""
        pattern = self.pattern.rstrip("/")
        return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


@dataclass(frozen=True)
class LineAllowance:
    """Rules that one line may break, by the comment on it."""

    line: int
    rules: tuple[str, ...]


def allowed_lines(source: bytes) -> list[LineAllowance]:
    """The comments ``# wsclient: allow[rule, rule] reason`` of a file; not those within strings."""
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    found = [(token, _COMMENT.search(token.string)) for token in tokens if token.type == tokenize.COMMENT]
    return [LineAllowance(token.start[0], _names(match[1])) for token, match in found if match]


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def apply(
    findings: Iterable[Finding], lines: Sequence[LineAllowance]
) -> tuple[list[Finding], set[tuple[int, str]]]:
    """Separate the findings that no comment allows from the (line, rule) pairs that comments did allow.

    A comment counts on the first and on the last line of what was found: formatters move it.
    """
    allowed = {(line.line, rule) for line in lines for rule in line.rules}
    kept: list[Finding] = []
    used: set[tuple[int, str]] = set()
    for finding in findings:
        here = {(finding.line, finding.rule), (finding.last_line, finding.rule)} & allowed
        used |= here
        kept += [] if here else [finding]
    return kept, used


def misspelt(path: str, lines: Sequence[LineAllowance]) -> list[Finding]:
    """A finding for each comment that names no rule, or one that does not exist."""
    found = []
    for line in lines:
        unknown = sorted(set(line.rules) - _KNOWN)
        if unknown or not line.rules:
            names = f"of {', '.join(unknown)}, which is no rule" if unknown else "of no rule"
            found.append(allowance_finding(path, line.line, f"allowance {names}"))
    return found


def allowance_finding(path: str, line: int, subject: str) -> Finding:
    """A finding about an allowance itself."""
    return Finding(path, line, 0, "allowance", f"{subject}: {_REASON}", line)
