"""From paths to findings."""

from __future__ import annotations

import ast
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsclient.check.allowances import (
    Allowance,
    LineAllowance,
    allowance_finding,
    allowed_lines,
    apply,
    misspelt,
)
from wsclient.check.config import Config, load_config
from wsclient.check.files import python_files
from wsclient.check.finder import find
from wsclient.check.rules import RULES, UNPARSEABLE, Finding

__all__ = ["check_paths", "check_source"]

_UNPARSEABLE = next(f"{rule.why}; {rule.instead}" for rule in RULES if rule.name == UNPARSEABLE)
_WILD = frozenset("*?[")


def check_paths(paths: Sequence[Path | str], config: Config | None = None) -> list[Finding]:
    """Check files and folders; the findings come in the order of the files, then of the lines.

    A file that cannot be read or parsed is a finding of the rule ``unparseable``.

    Args:
        paths: files of any name, and folders, of which the ``*.py`` files are taken.
        config: by default ``load_config(paths)``.

    Raises:
        UsageError: a path does not exist, or the configuration is wrong.
    """
    config = load_config(paths) if config is None else config
    use = _Use()
    findings = [finding for path in python_files(paths) for finding in _check_file(path, config, use)]
    return findings + (_unused(config, use) if config.strict else [])


def check_source(source: bytes, path: str, config: Config, *, raw_is_local: bool = False) -> list[Finding]:
    """Check a text as if it were a file of this name; allowances of the configuration do not count."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler thinks of the file is not asked here
            tree = ast.parse(source)
        lines = allowed_lines(source)
        found = find(tree, path, raw_is_local=raw_is_local)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return _selected([_unparseable(path, error)], config)
    kept, used = apply(_selected(found, config), lines)
    notes = misspelt(path, lines) + (_unused_lines(path, lines, used, config) if config.strict else [])
    return sorted(kept + _selected(notes, config))


@dataclass
class _Use:
    """What the allowances of the configuration were used for. Both fields: the thread that checks."""

    covering: set[Allowance] = field(default_factory=set)  # those that cover a file which was checked
    allowing: set[tuple[Allowance, str]] = field(default_factory=set)  # with the rule that was broken


def _check_file(path: Path, config: Config, use: _Use) -> list[Finding]:
    place = _place(path, config.root)
    covering = [allowance for allowance in config.allow if allowance.covers(place)]
    use.covering.update(covering)
    kept = []
    for finding in _findings(path, config):
        here = {(allowance, finding.rule) for allowance in covering if finding.rule in allowance.rules}
        use.allowing |= here
        kept += [] if here else [finding]
    return kept


def _findings(path: Path, config: Config) -> list[Finding]:
    try:
        source = path.read_bytes()
    except OSError as error:
        return _selected([_unparseable(str(path), error)], config)
    return check_source(source, str(path), config, raw_is_local=_has_own_websocket(path, config.root))


def _place(path: Path, root: Path) -> str:
    """The path from the top of the project, with ``/``; for what is outside of it the whole path."""
    whole = Path(os.path.abspath(path))
    return (whole.relative_to(root) if whole.is_relative_to(root) else whole).as_posix()


def _has_own_websocket(path: Path, root: Path) -> bool:
    """Whether ``import websocket`` means a module of the project: beside a script, or at its top."""
    beside = [] if (path.parent / "__init__.py").exists() else [path.parent]
    names = ("websocket.py", "websocket/__init__.py")
    return any((folder / name).exists() for folder in [*beside, root, root / "src"] for name in names)


def _selected(findings: Iterable[Finding], config: Config) -> list[Finding]:
    return [finding for finding in findings if finding.rule in config.rules]


def _unparseable(path: str, error: Exception) -> Finding:
    line = getattr(error, "lineno", None) or 1
    reason = getattr(error, "msg", None) or getattr(error, "strerror", None) or str(error)
    version = "{}.{}".format(*sys.version_info)
    message = f"{reason or type(error).__name__} (Python {version}): {_UNPARSEABLE}"
    return Finding(path, line, 0, UNPARSEABLE, message, line)


# Allowances that allow nothing.


def _unused_lines(
    path: str, lines: Sequence[LineAllowance], used: set[tuple[int, str]], config: Config
) -> list[Finding]:
    return [
        allowance_finding(path, line.line, f"unused allowance of {rule}")
        for line in lines
        for rule in line.rules
        if rule in config.rules and (line.line, rule) not in used
    ]


def _unused(config: Config, use: _Use) -> list[Finding]:
    found = []
    for allowance in config.allow:
        source = str(config.root / allowance.source)
        is_gone = not _WILD & set(allowance.pattern) and not (config.root / allowance.pattern).exists()
        if is_gone:
            subject = f"allowance for {allowance.pattern}, which does not exist"
            found.append(allowance_finding(source, allowance.line, subject))
        elif allowance in use.covering:
            rules = sorted(allowance.rules & config.rules)
            unused = [rule for rule in rules if (allowance, rule) not in use.allowing]
            subjects = [f"unused allowance of {rule} for {allowance.pattern}" for rule in unused]
            found += [allowance_finding(source, allowance.line, subject) for subject in subjects]
    return _selected(found, config)
