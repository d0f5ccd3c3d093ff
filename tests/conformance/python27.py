"""Finds a Python 2.7 and gives it the Autobahn Testsuite: an environment in the user's cache, made once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from peers.launch import Unavailable

__all__ = ["find", "with_suite"]

REQUIREMENTS = Path(__file__).with_name("requirements-python27.txt")
# The last virtualenv that makes environments for Python 2.7 is 20.21.
_VIRTUALENV = "virtualenv>=20.16,<20.22"
_START_SECONDS = 20.0
_INSTALL_SECONDS = 300.0
_IS_27 = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
_HAS_SUITE = "import autobahntestsuite"


def find(environment: Mapping[str, str] = os.environ) -> str:
    """A Python 2.7: ``AUTOBAHN_PYTHON``, or one on the path, or one of pyenv's.

    Raises:
        Unavailable: there is none; the text says what was looked for.
    """
    given = environment.get("AUTOBAHN_PYTHON")
    if given:
        if _runs([given, "-c", _IS_27]):
            return given
        raise Unavailable(f"AUTOBAHN_PYTHON={given} is not a Python 2.7 that runs")
    for candidate in _candidates(environment):
        if _runs([candidate, "-c", _IS_27]):  # pyenv's shims may lead nowhere
            return candidate
    raise Unavailable(
        "the Autobahn Testsuite needs a Python 2.7, and none is on the path or among pyenv's versions: "
        "install one (pyenv install 2.7.18), name one by AUTOBAHN_PYTHON, "
        "or name a running server by AUTOBAHN_URL"
    )


def _candidates(environment: Mapping[str, str]) -> Iterator[str]:
    for name in ("python2.7", "python2"):
        found = shutil.which(name, path=environment.get("PATH", ""))
        if found:
            yield found
    root = Path(environment.get("PYENV_ROOT") or Path(environment.get("HOME", "/"), ".pyenv"))
    yield from map(str, sorted(root.glob("versions/2.7*/bin/python2.7"), reverse=True))


def _runs(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_START_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def with_suite(base: str, environment: Mapping[str, str] = os.environ) -> str:
    """A Python 2.7 that can import the suite: ``base`` itself, or one of an environment made from it.

    The environment has all packages at the versions of ``requirements-python27.txt``; a changed file makes
    another one. The first time takes half a minute, the network and a C compiler.

    Raises:
        Unavailable: it could not be made.
    """
    if _runs([base, "-c", _HAS_SUITE]):
        return base
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + os.path.realpath(base).encode()).hexdigest()[:16]
    ready = _cache(environment) / f"autobahn-{digest}"
    if not ready.is_dir():
        _make(base, ready)
    return str(ready / "bin" / "python")


def _cache(environment: Mapping[str, str]) -> Path:
    caches = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/"), ".cache")
    return Path(caches, "wsclient")


def _make(base: str, ready: Path) -> None:
    ready.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="installing-", dir=ready.parent) as attempt:
        tool, target = Path(attempt, "tool"), Path(attempt, "environment")
        _must([sys.executable, "-m", "venv", str(tool)])
        _must([*_pip(tool), "install", "--quiet", _VIRTUALENV])
        _must([str(tool / "bin" / "virtualenv"), "--quiet", "--python", base, str(target)])
        _must([*_pip(target), "install", "--quiet", "--no-deps", "--requirement", str(REQUIREMENTS)])
        _must([str(target / "bin" / "python"), "-c", _HAS_SUITE])
        # Another run may have been faster; then its environment is as good.
        with contextlib.suppress(OSError):
            target.rename(ready)


def _pip(environment: Path) -> list[str]:
    return [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]


def _must(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(command)} did not end within {_INSTALL_SECONDS:g} s") from None
    if done.returncode:
        raise Unavailable(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
