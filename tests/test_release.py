"""What a release promises, as far as it shows without a network: types, imports, which Pythons are asked."""

from __future__ import annotations

import inspect
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from release.pythons import Python, candidates, found, newest

import wsclient
from wsclient.keywords import Keywords

ROOT = Path(__file__).resolve().parent.parent
MINE = ".".join(map(str, sys.version_info[:3])) + getattr(sys, "abiflags", "")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=50, check=False
    )


class TestTypes:
    def test_checkers_know_every_option_and_no_other(self) -> None:
        assert list(Keywords.__annotations__) == [field.name for field in fields(wsclient.Options)]

    @pytest.mark.parametrize("where", [wsclient.connect, wsclient.Connection.__init__])
    def test_the_keywords_are_those(self, where: Callable[..., object]) -> None:
        assert inspect.signature(where).parameters["options"].annotation == "Unpack[Keywords]"

    def test_a_typed_program_runs_without_a_warning(self) -> None:
        done = _run("-X", "dev", "-W", "error", str(ROOT / "tests" / "typed" / "program.py"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# websocket-client takes python_socks along where it is installed; a plain installation does not have it.
_LOADS = """
import json, sys
sys.modules["python_socks"] = None
before = set(sys.modules)
import wsclient
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    done = _run("-X", "dev", "-W", "error", "-c", _LOADS)
    assert done.stderr == ""
    names: list[str] = json.loads(done.stdout)
    return names


class TestImport:
    """Not the time that it takes, which is the machine's, but what it makes Python load."""

    def test_nothing_but_the_dependency(self, loaded: list[str]) -> None:
        foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
        assert foreign == {"websocket", "wsclient"}

    def test_nothing_that_is_for_some_users_only(self, loaded: list[str]) -> None:
        mine = {name.split(".")[1] for name in loaded if name.startswith("wsclient.")}
        others = {"__main__", "check", "cli", "compat", "keywords", "load", "locust", "socks", "testing"}
        assert mine & others == set()
        assert len(mine) > 30

    def test_they_are_few(self, loaded: list[str]) -> None:
        assert len(loaded) <= 200


class TestPythons:
    def test_this_one_is_found(self) -> None:
        assert MINE in [python.name for python in found(candidates(os.environ))]

    def test_on_path_and_among_the_versions_of_pyenv(self, tmp_path: Path) -> None:
        versions = [tmp_path / "root" / "versions" / name / "bin" for name in ("3.11.7", "3.13.0")]
        for folder in (*versions, tmp_path / "path"):
            folder.mkdir(parents=True)
        (versions[0] / "python3.11").touch()
        (versions[1] / "python").touch()
        (versions[1] / "python3-config").touch()
        (tmp_path / "path" / "python3").touch()
        environment = {
            "PYENV_ROOT": str(tmp_path / "root"),
            "PATH": f"{tmp_path / 'path'}{os.pathsep}/no/such",
        }
        names = [str(path.relative_to(tmp_path)) for path in list(candidates(environment))[1:]]
        assert names == [
            "root/versions/3.11.7/bin/python3.11",
            "root/versions/3.13.0/bin/python",
            "path/python3",
        ]

    @pytest.mark.parametrize(
        "text", ["exit 127", "echo 3.13.0", "echo 3.9.1; echo 3; echo 9; echo 1; echo /py"]
    )
    def test_what_does_not_run_or_is_too_old_is_left_out(self, tmp_path: Path, text: str) -> None:
        assert found([_script(tmp_path, text)]) == []
        assert found([tmp_path / "absent"]) == []

    def test_each_version_once_and_sorted(self, tmp_path: Path) -> None:
        answers = [("3.13.0", "a"), ("3.9.9", "b"), ("3.10.2", "c"), ("3.13.0", "d"), ("3.10.13", "e")]
        paths = []
        for version, where in answers:
            folder = tmp_path / where
            folder.mkdir()
            lines = [version, *version.split("."), f"/{where}"]
            paths.append(_script(folder, "; ".join(f"echo {line}" for line in lines)))
        pythons = found(paths)
        assert [python.executable for python in pythons] == ["/c", "/e", "/a"]
        assert [(python.minor, python.executable) for python in newest(pythons)] == [
            ("3.10", "/e"),
            ("3.13", "/a"),
        ]

    def test_other_builds_are_others(self) -> None:
        pythons = [Python((3, 13, 0), name, "/x") for name in ("3.13.0", "3.13.0t", "pypy3.13.0")]
        assert [python.minor for python in newest(pythons)] == ["3.13", "3.13t", "pypy3.13"]


def _script(folder: Path, text: str) -> Path:
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
