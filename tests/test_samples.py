"""A project of bypasses and one of none: the checker and ``--ws-forbid-raw`` each catch all, and no more."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from wsclient.check import Config, check_paths

SAMPLES = Path(__file__).resolve().parent / "samples" / "running"


def bodies_of(name: str) -> dict[str, range]:
    functions = ast.parse((SAMPLES / name).read_text(encoding="utf-8")).body
    return {
        function.name: range(function.lineno, (function.end_lineno or function.lineno) + 1)
        for function in functions
        if isinstance(function, ast.FunctionDef)
    }


def outcomes(name: str) -> dict[str, str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-rA",
        "--ws-forbid-raw",
        "--noconftest",
    ]
    found = subprocess.run(
        [*command, str(SAMPLES / name)], capture_output=True, text=True, timeout=50, check=False
    )
    verdicts: dict[str, str] = {}
    for verdict, test in re.findall(r"^(PASSED|FAILED|ERROR) .*::(\w+)", found.stdout, re.MULTILINE):
        verdicts[test] = "caught" if verdict != "PASSED" or verdicts.get(test) == "caught" else "passed"
    return verdicts


def test_every_bypass_is_caught_when_it_runs() -> None:
    assert outcomes("bypassing.py") == dict.fromkeys(bodies_of("bypassing.py"), "caught")


def test_every_bypass_is_found_in_the_source(tmp_path: Path) -> None:
    lines = [finding.line for finding in check_paths([SAMPLES / "bypassing.py"], Config(tmp_path))]
    missed = [
        name for name, body in bodies_of("bypassing.py").items() if not any(line in body for line in lines)
    ]
    assert not missed


def test_nothing_is_caught_in_an_honest_project(tmp_path: Path) -> None:
    assert outcomes("honest.py") == dict.fromkeys(bodies_of("honest.py"), "passed")
    assert check_paths([SAMPLES / "honest.py"], Config(tmp_path)) == []
