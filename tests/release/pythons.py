"""The Pythons of this machine from 3.10 up: on PATH, among pyenv's versions, and the one that runs this."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Python", "candidates", "found", "newest"]

OLDEST = (3, 10)
# More than an interpreter needs to start; a broken one must not hold up the others.
START_SECONDS = 20

_NAME = re.compile(r"python(3(\.\d+)?t?)?")
_QUESTION = """
import os, sys
kind = "" if sys.implementation.name == "cpython" else sys.implementation.name
numbers = ".".join(str(number) for number in sys.version_info[:3])
base = getattr(sys, "_base_executable", None) or sys.executable
print(kind + numbers + getattr(sys, "abiflags", ""), sys.version_info[0], sys.version_info[1],
    sys.version_info[2], os.path.realpath(base), sep="\\n")
"""


@dataclass(frozen=True, order=True)
class Python:
    """One interpreter: its version, what ``--list`` calls it, and its file."""

    version: tuple[int, int, int]
    name: str
    executable: str

    @property
    def minor(self) -> str:
        """``3.13`` of ``3.13.0``, with what tells another implementation or build: ``3.13t``."""
        return re.sub(r"(\d+\.\d+)\.\d+", r"\1", self.name)


def candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Every file that may be a Python, in the order in which they are preferred."""
    yield Path(sys.executable)
    root = Path(environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [path / "bin" for path in sorted((root / "versions").glob("*"))]
    folders += [Path(part) for part in environ.get("PATH", "").split(os.pathsep) if part]
    for folder in folders:
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _ask(path: Path) -> Python | None:
    """What ``path`` says that it is; None for what does not run: a shim of pyenv for a version not chosen."""
    try:
        done = subprocess.run(
            [str(path), "-I", "-c", _QUESTION],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != 5:
        return None
    name, major, minor, micro, base = lines
    return Python((int(major), int(minor), int(micro)), name, base)


def found(paths: Iterable[Path]) -> list[Python]:
    """One interpreter for each version, sorted, of those that run and are recent enough."""
    asked: dict[Path, Python | None] = {}
    for path in paths:
        real = path.resolve()
        # A virtual environment's python is a link to its base, which is the one wanted; a shim is itself.
        if real not in asked:
            asked[real] = _ask(real)
    pythons: dict[str, Python] = {}
    for python in asked.values():
        if python is not None and python.version >= OLDEST:
            pythons.setdefault(python.name, python)
    return sorted(pythons.values())


def newest(pythons: Iterable[Python]) -> list[Python]:
    """The newest patch of each minor version."""
    return sorted({python.minor: python for python in sorted(pythons)}.values())
