"""Another checkout of wsclient, measured beside this one: ``bench.py --baseline DIR``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

__all__ = ["Baseline"]

_GIT_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Baseline:
    """The root of a checkout, usually a git worktree of an older commit.

    Raises:
        ValueError: there is no wsclient in this directory, which the message names.
    """

    directory: Path

    def __post_init__(self) -> None:
        if not (self.directory / "wsclient" / "__init__.py").is_file():
            raise ValueError(f"no wsclient in {self.directory}")

    def describe(self) -> str:
        """Its commit, ``-dirty`` if changed since; the name of the directory where git does not know it."""
        command = ["git", "-C", str(self.directory), "describe", "--always", "--dirty"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT, check=True)
        except (OSError, subprocess.SubprocessError):
            return self.directory.resolve().name
        return done.stdout.strip()

    def put_first(self) -> None:
        """From now on ``import wsclient`` in this process means that one.

        Raises:
            RuntimeError: it would still mean another one.
        """
        sys.path.insert(0, str(self.directory.resolve()))
        found = find_spec("wsclient")
        expected = self.directory.resolve() / "wsclient" / "__init__.py"
        if found is None or found.origin is None or Path(found.origin).resolve() != expected:
            raise RuntimeError(f"`import wsclient` does not find {expected}")
