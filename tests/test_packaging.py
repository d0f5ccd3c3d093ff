"""The distribution: one version, typed, one dependency, the extras, nothing beside the package."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from twine.commands.check import check

from wsclient._version import __version__

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("bench", "cli", "docs", "fast", "fuzz", "locust", "release", "socks", "test", "testing")
SOURCES = ("setup.py", "setup.cfg", "README.md", "LICENSE", "pytest_wsclient.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built without the network from a copy, so that no old ``build`` directory leaks into it."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("out")
    for name in SOURCES:
        shutil.copy(ROOT / name, tree)
    for name in ("wsclient", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--use-pep517", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(out), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, made without the network from a copy: setuptools writes beside the sources."""
    tree, out = tmp_path_factory.mktemp("checkout") / "tree", tmp_path_factory.mktemp("sdist")
    left_out = (".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*left_out))
    program = f"from setuptools import build_meta; build_meta.build_sdist({str(out)!r})"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.iterdir())


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def _all(metadata: Message, field: str) -> list[str]:
    return [str(value) for value in metadata.get_all(field, [])]


def test_the_version_has_one_place(metadata: Message) -> None:
    paths = [ROOT / "setup.py", ROOT / "setup.cfg", *(ROOT / "wsclient").rglob("*.py")]
    written = [path.name for path in paths if f'"{__version__}"' in path.read_text(encoding="utf-8")]
    assert written == ["_version.py"]
    assert re.search(r"^version = attr: wsclient\._version\.__version__$", _setup_cfg(), re.MULTILINE)
    assert metadata["Version"] == __version__


def _setup_cfg() -> str:
    return (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_the_package_tells_its_version() -> None:
    import wsclient

    assert wsclient.__version__ == __version__


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "wsclient").rglob("*.py")}
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == modules | {"pytest_wsclient.py", "wsclient/py.typed"}
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


def _tracked() -> set[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to it")
    command = ["git", "ls-files"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}


def test_the_sdist_has_what_is_needed_to_build_test_and_read(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    made = {name for name in names if name == "PKG-INFO" or name.startswith("wsclient.egg-info/")}
    tracked = _tracked()
    assert tracked - names == {".ci/run"}
    # A file that is not yet tracked is there, too; one that Python wrote is not.
    assert [name for name in names - made if name.endswith((".pyc", "~")) or "__pycache__" in name] == []


def test_both_pass_the_check_of_the_index(
    sdist: Path, wheel: zipfile.ZipFile, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README renders as an index would show it, and nothing that it wants is missing."""
    assert wheel.filename is not None
    assert not check([str(sdist), wheel.filename], strict=True), capsys.readouterr().out


def test_the_metadata_is_complete(metadata: Message) -> None:
    assert metadata["Name"] == "wsclient"
    assert metadata["Requires-Python"] == ">=3.10"
    assert "Typing :: Typed" in _all(metadata, "Classifier")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


def test_there_is_one_dependency(metadata: Message) -> None:
    needed = [value for value in _all(metadata, "Requires-Dist") if "extra ==" not in value]
    assert [re.split(r"[<>=!~ ]", value)[0] for value in needed] == ["websocket-client"]


def test_the_extras_exist(metadata: Message) -> None:
    assert set(_all(metadata, "Provides-Extra")) == set(EXTRAS)


def test_there_is_one_command(wheel: zipfile.ZipFile) -> None:
    points = configparser.ConfigParser()
    points.read_string(
        next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt"))
    )
    assert dict(points["console_scripts"]) == {"wsclient": "wsclient.cli:main"}
