"""``python -m wsclient.check PATH...``. Exit status 0: nothing found, 1: findings, 2: not all was checked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wsclient.check import RULES, UNPARSEABLE, Finding, UsageError, check_paths, load_config, read_config
from wsclient.check.files import python_files

__all__ = ["main"]


_PROGRAM = "python -m wsclient.check"


def main(arguments: Sequence[str] | None = None, prog: str = _PROGRAM) -> int:
    """Check what the arguments say and print the findings. Returns the exit status.

    Args:
        arguments: by default those of the process.
        prog: what the program is called in its help.
    """
    parser = _parser(prog)
    asked = parser.parse_args(arguments)
    if asked.list:
        print(_listing())
        return 0
    if not asked.paths:
        parser.error("no paths to check")
    try:
        return _check(asked)
    except UsageError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2


def _check(asked: argparse.Namespace) -> int:
    config = read_config(asked.config) if asked.config else load_config(asked.paths)
    config = config.select(_split(asked.rule), _split(asked.ignore), "command line")
    findings = check_paths(asked.paths, replace(config, strict=asked.strict))
    for finding in findings:
        print(finding)
    print(_summary(findings, len(python_files(asked.paths))), file=sys.stderr)
    return _status(findings)


def _status(findings: Sequence[Finding]) -> int:
    if any(finding.rule == UNPARSEABLE for finding in findings):
        return 2
    return 1 if findings else 0


def _summary(findings: Sequence[Finding], checked: int) -> str:
    if not checked:
        return "no Python files there: nothing was checked"
    return f"{_count(len(findings), 'finding')} in {_count(checked, 'file')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _split(values: Sequence[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _listing() -> str:
    lines = []
    for rule in RULES:
        note = "" if rule.by_default else " (off unless asked for)"
        lines += [
            f"{rule.name}{note}: {rule.what}",
            f"    why: {rule.why}",
            f"    instead: {rule.instead}",
        ]
    return "\n".join(lines)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Find what goes round a wsclient Connection.",
        epilog=f"examples:\n  {prog} tests\n  {prog} --list\n  {prog} --strict tests src/app.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="a file, or a folder of which all *.py files are checked")
    add("--list", action="store_true", help="list the rules and exit")
    add("--rule", action="append", default=[], help="check only these (names with commas; all; default)")
    add("--ignore", action="append", default=[], metavar="RULE", help="do not check these")
    add("--strict", action="store_true", help="report allowances that allow nothing")
    add("--config", type=Path, metavar="FILE", help="setup.cfg or pyproject.toml; by default the nearest one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
