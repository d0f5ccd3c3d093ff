"""What is released, as its users get it: ``make test-all``, or the quick part of it, ``make test-install``.

The sdist and the wheel are built once (``dist``); every other session installs the wheel into a new virtual
environment. Tests never see the package of the source tree: they run in the unpacked sdist, where it is
replaced by the installed one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests"))

from release.pythons import Python, candidates, found, newest  # noqa: E402

DIST = ROOT / "build" / "dist"
RELEASE = ROOT / "tests" / "release"
TYPED = ROOT / "tests" / "typed"
MODULES = ("wsclient", "pytest_wsclient.py")
# What make setup installs, but with the wheel in place of the tree.
EXTRAS = "fast,test,bench,docs,release"

nox.needs_version = ">=2024.4.15"
nox.options.envdir = str(ROOT / "build" / "nox")
nox.options.error_on_missing_interpreters = True


def _wheel() -> str:
    return str(next(DIST.glob("*.whl")))


@nox.session(python=False, tags=["install"])
def dist(session: nox.Session) -> None:
    """Build the sdist, and the wheel from it; both must pass ``twine check --strict``."""
    shutil.rmtree(DIST, ignore_errors=True)
    session.run(sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT), silent=True)
    files = sorted(str(path) for path in DIST.iterdir())
    if len(files) != 2:
        session.error(f"expected an sdist and a wheel, not {files}")
    session.run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *files)


def smoke(session: nox.Session) -> None:
    """``pip install wsclient`` and nothing else: import, echo round trips, no warning."""
    session.install(_wheel())
    program = [str(RELEASE / "smoke.py")]
    with _echo_server() as url:
        said = session.run("python", "-I", "-X", "dev", "-W", "error", *program, url, silent=True)
    lines = str(said).splitlines()
    if len(lines) != 1:
        session.error(f"more than one line:\n{said}")
    session.log(lines[0])


@contextmanager
def _echo_server() -> Iterator[str]:
    command = [sys.executable, str(RELEASE / "echo.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
            server.wait(timeout=10)


@nox.session(tags=["install"])
def types(session: nox.Session) -> None:
    """A user's program under ``mypy --strict`` and strict pyright; how complete the public types are."""
    # pyright runs on Node.js; the extra brings one along.
    pyright = "pyright" if shutil.which("node") else "pyright[nodejs]"
    session.install(f"{_wheel()}[cli,testing]", "mypy>=1.14", f"{pyright}>=1.1.400", "pytest>=8")
    folder = Path(session.virtualenv.location) / "typed"
    shutil.copytree(TYPED, folder, dirs_exist_ok=True)
    session.chdir(folder)
    # No configuration: that of the tree, which mypy would find further up, leads to the tree's package.
    session.run("mypy", "--strict", "--config-file=", ".")
    session.run("pyright", "--warnings", "--project", ".")
    session.run("python", "-I", str(RELEASE / "completeness.py"))


def suite(session: nox.Session) -> None:
    """All tests, against the installed wheel."""
    session.install(f"{_wheel()}[{EXTRAS}]")
    tree = _tree_around_installed_package(session)
    session.chdir(tree)
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "2"]), env={"PYTHONPATH": None})


def _tree_around_installed_package(session: nox.Session) -> Path:
    """The sdist, unpacked: tests that read the package's files, or let a child import it, get the wheel's."""
    # Not create_tmp, which becomes TMPDIR: Unix sockets have no room for such a path.
    folder = Path(session.virtualenv.location) / "tree"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(next(DIST.glob("*.tar.gz"))) as archive:
        archive.extractall(folder)
    tree = next(folder.iterdir())
    shutil.rmtree(tree / "wsclient.egg-info")
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    installed = Path(str(session.run("python", "-I", "-c", place, silent=True)).strip())
    for name in MODULES:
        old = tree / name
        shutil.rmtree(old) if old.is_dir() else old.unlink()
        old.symlink_to(installed / name)
    return tree


Job = Callable[[nox.Session], None]


def _register(job: Job, python: Python, name: str, tags: list[str]) -> None:
    # A function of its own for each: nox writes its name and its tags onto it.
    wrapped: Job = partial(job)
    wrapped.__doc__ = f"{job.__doc__} Python {python.name}."
    nox.session(python=python.executable, name=name, tags=tags)(wrapped)


PYTHONS = found(candidates(os.environ))
for each in PYTHONS:
    _register(smoke, each, f"smoke-{each.name}", ["install"])
for each in newest(PYTHONS):
    _register(suite, each, f"suite-{each.minor}", ["suite"])
