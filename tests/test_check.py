"""The bypass checker: each bypass of the samples is found where it stands, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import unittest
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_pytest_plugin import NESTED, QUICK

from wsclient.check import (
    DEFAULT_RULES,
    RULES,
    Allowance,
    Config,
    UsageError,
    check_paths,
    check_source,
    load_config,
    read_config,
)
from wsclient.check.__main__ import main

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "tests" / "samples"
BYPASSES = sorted(path for path in (SAMPLES / "bypasses").iterdir() if path.is_file())
MARK = re.compile(r"# finds: (.+)$", re.MULTILINE)
EVERYTHING = Config(ROOT).select(["all"])
RAW = "import websocket\n"
HAS_TOML = any(find_spec(library) for library in ("tomllib", "tomli"))


def expected(path: Path) -> Counter[tuple[int, str]]:
    """What the comments of a sample say: the line and the rule of each finding."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [(number, MARK.search(line)) for number, line in enumerate(lines, 1)]
    return Counter((number, rule) for number, match in found if match for rule in match[1].split())


def rules(source: str, config: Config = EVERYTHING) -> list[str]:
    return [finding.rule for finding in check_source(source.encode(), "x.py", config)]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


# The samples.


@pytest.mark.parametrize("path", BYPASSES, ids=lambda path: path.stem)
def test_each_bypass_is_found_where_it_stands(path: Path) -> None:
    found = Counter((finding.line, finding.rule) for finding in check_paths([path], EVERYTHING))
    assert found == expected(path)
    assert path.stem.replace("_", "-") in {rule for _, rule in found}


def test_each_rule_has_a_sample() -> None:
    assert {path.stem.replace("_", "-") for path in BYPASSES} == {rule.name for rule in RULES}


def test_nothing_is_found_where_nothing_is() -> None:
    assert check_paths([SAMPLES / "honest"], EVERYTHING) == []


@pytest.mark.parametrize("package", [asyncio, json, unittest], ids=lambda package: package.__name__)
def test_nothing_is_found_in_the_standard_library(package: object) -> None:
    assert check_paths([Path(str(getattr(package, "__file__", ""))).parent], EVERYTHING) == []


def test_our_own_tests_and_benchmarks_go_round_nothing() -> None:
    paths = [path for name in ("tests", "benchmarks", "examples") if (path := ROOT / name).is_dir()]
    findings = check_paths(paths, Config(**{**vars(load_config(paths)), "strict": True}))
    assert not findings, "mend it, or allow it in setup.cfg:\n" + "\n".join(map(str, findings))


def test_other_clients_are_found_only_when_asked() -> None:
    sample = SAMPLES / "bypasses" / "other_client.py"
    assert check_paths([sample], Config(ROOT)) == []
    assert {finding.rule for finding in check_paths([sample], EVERYTHING)} == {"other-client"}
    assert "other-client" not in DEFAULT_RULES


# Names and values, beyond the samples.


OPEN = "from wsclient import connect\n"
CLASS = "from wsclient import Connection\n"
PRIVATE = ["private-attribute"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from websocket import *\ncreate_connection('x')", ["raw-import", "create-connection"]),
        ("from wsclient import *\nconnect('x')._put(1)", PRIVATE),
        ("from wsclient.exceptions import _x", ["private-module"]),
        ("import wsclient\nwsclient._version", ["private-module"]),
        ("from . import websocket\nwebsocket.create_connection('x')", []),
        (OPEN + "async def f():\n  async with connect('x') as c: c._put", PRIVATE),
        (OPEN + "c = connect('x') if a else None\nc._put", PRIVATE),
        (OPEN + "c = d or connect('x')\nc._put", PRIVATE),
        (OPEN + "a, b = connect('x'), open('y')\na._put, b._put", PRIVATE),
        (OPEN + "a, b = [connect(u) for u in x]\nb._put", PRIVATE),
        (OPEN + "f = lambda: connect('x')\nf()._put", PRIVATE),
        (OPEN + "c = next(iter([connect('x')]))\nc._put", PRIVATE),
        (OPEN + "c = [connect('x')].pop()\nc._put", PRIVATE),
        (OPEN + "c = stack.enter_context(connect('x'))\nc._put", PRIVATE),
        (OPEN + "c = connect('x').__enter__()\nc._put", PRIVATE),
        (OPEN + "c = connect('x')\nc = 1\nc._put", []),
        (OPEN + "try: c = connect('x')\nexcept OSError as c: c._put", []),
        (OPEN + "c = connect('x')\ndef f(c): c._put", []),
        (OPEN + "c = connect('x')\nmatch 1:\n  case c: c._put", []),
        ("import wsclient, typing\nc = typing.cast(wsclient.Connection, x)\nc._put", PRIVATE),
        (CLASS + "def f(*c: Connection): c[0]._put", PRIVATE),
        (CLASS + "def f(*, c: 'Connection | None'): c._put", PRIVATE),
        (CLASS + "def f(c: 'not a type'): c._put", []),
        (CLASS + "def f(c: type[Connection]): c._put", PRIVATE),
        (CLASS + "class A:\n  @classmethod\n  def f(cls): cls._put\n  c: Connection\nA().c._put",
         PRIVATE),
        (CLASS + "class A(Connection): pass\nclass B(A):\n  _b = 1\n  def f(self): self._b\n"
         "B('x')._put", PRIVATE),
        ("from wsclient.testing import ClientFactory\ndef f(c: ClientFactory): c('x')._mailbox", PRIVATE),
        (OPEN + "def f():\n  c = 0\n  def g():\n    nonlocal c\n    c = connect('x')\n"
         "  def h(): c._put", PRIVATE),
        ("def test(ws_client): ws_client('x')._connection", PRIVATE),
        ("def helper(ws_client): ws_client('x')._connection", []),
        ("def getattr(a, b): pass\nfrom wsclient import connect\ngetattr(connect('x'), '_put')", []),
    ],
)  # fmt: skip
def test_what_a_name_stands_for(source: str, found: list[str]) -> None:
    assert rules(source) == found


def test_a_module_of_the_project_may_be_called_websocket(tmp_path: Path) -> None:
    write(
        tmp_path,
        main_dot_py=RAW + "websocket.create_connection('x')",
        pkg__a_dot_py=RAW,
        pkg____init___dot_py="",
    )
    (tmp_path / "pkg" / "__init__.py").write_text("")
    config = Config(tmp_path / "elsewhere")
    assert len(check_paths([tmp_path], config)) == 3
    (tmp_path / "websocket.py").write_text("")
    assert [Path(finding.path).name for finding in check_paths([tmp_path], config)] == ["a.py"]
    assert check_paths([tmp_path], Config(tmp_path)) == []


# Allowances.


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import websocket  # wsclient: allow[raw-import]", []),
        ("import websocket  # wsclient: allow[raw-import] the second opinion", []),
        ("import websocket  # noqa: F401  #wsclient:allow[ raw-socket , raw-import ]", []),
        ("from websocket import (  # wsclient: allow[raw-import]\n  ABNF,\n)", []),
        ("from websocket import (\n  ABNF,\n)  # wsclient: allow[raw-import]", []),
        ("import websocket  # wsclient: allow[raw-socket]", ["raw-import"]),
        ("# wsclient: allow[raw-import]\nimport websocket", ["raw-import"]),
        ("import websocket; '# wsclient: allow[raw-import]'", ["raw-import"]),
        ("import websocket  # wsclient: allow", ["allowance", "raw-import"]),
        ("import websocket  # wsclient: allow[raw-import, everything]", ["allowance"]),
        ("x = 1  # wsclient: allows many threads to send", []),
    ],
)
def test_a_comment_allows_its_line(source: str, found: list[str]) -> None:
    assert sorted(rules(source)) == found


def test_strict_tells_of_comments_that_allow_nothing() -> None:
    source = (
        "import websocket  # wsclient: allow[raw-import, raw-socket]\nx = 1  # wsclient: allow[raw-import]\n"
    )
    strict = Config(ROOT, strict=True)
    found = check_source(source.encode(), "x.py", strict)
    assert [(finding.line, finding.rule) for finding in found] == [(1, "allowance"), (2, "allowance")]
    assert "raw-socket" in found[0].message
    # A rule that is not checked can't tell whether its allowance is used.
    assert [
        f.line for f in check_source(source.encode(), "x.py", strict.select(["raw-import", "allowance"]))
    ] == [2]


@pytest.mark.parametrize(
    ("pattern", "path", "is_meant"),
    [
        ("tests/a.py", "tests/a.py", True),
        ("tests/a.py", "other/tests/a.py", False),
        ("tests", "tests/deep/a.py", True),
        ("tests/", "tests/deep/a.py", True),
        ("tests", "tests_more/a.py", False),
        ("tests/raw_*.py", "tests/raw_a.py", True),
        ("*/raw_*.py", "tests/deep/raw_a.py", True),
        ("tests/RAW.py", "tests/raw.py", False),
    ],
)
def test_a_pattern_means_files(pattern: str, path: str, is_meant: bool) -> None:
    assert Allowance(pattern, frozenset()).covers(path) is is_meant


SETUP_CFG = """
[metadata]
name = 100%% unrelated

[wsclient:check]
allow =
    # The second opinion.
    tests/raw_*.py: raw-import, raw-socket
    tests/deep: raw-import  # a reason
    tests/gone.py: raw-import
ignore = private-module
"""
PYPROJECT = """
[tool.wsclient.check]
ignore = ["private-module"]
[tool.wsclient.check.allow]
"tests/raw_*.py" = ["raw-import", "raw-socket"]
"tests/deep" = ["raw-import"]
"tests/gone.py" = ["raw-import"]
"""
TABLE = "[tool.wsclient.check]"
needs_toml = pytest.mark.skipif(not HAS_TOML, reason="Python 3.10 has no tomllib")


@pytest.mark.parametrize(
    ("name", "text"),
    [("setup.cfg", SETUP_CFG), pytest.param("pyproject.toml", PYPROJECT, marks=needs_toml)],
)
def test_the_configuration_allows_files(tmp_path: Path, name: str, text: str) -> None:
    private = "import wsclient.session\n"
    write(tmp_path, tests__raw_a_dot_py=RAW, tests__deep__b_dot_py=RAW, tests__c_dot_py=RAW + private)
    (tmp_path / name).write_text(text, encoding="utf-8")
    config = load_config(
        [tmp_path / "tests" / "c.py", tmp_path / "tests" / "deep"]
    )  # what they have in common
    assert config.root == tmp_path
    assert [Path(finding.path).name for finding in check_paths([tmp_path], config)] == ["c.py"]
    assert read_config(tmp_path / name) == config
    unused = check_paths([tmp_path / "tests" / "raw_a.py"], Config(**{**vars(config), "strict": True}))
    assert [(Path(finding.path).name, finding.line) for finding in unused] == [
        (name, 1 + text.splitlines().index(line))
        for line in text.splitlines()
        if "raw_*" in line or "gone" in line
    ]
    assert ["raw-socket" in finding.message for finding in unused] == [True, False]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("setup.cfg", "[wsclient:check]\nallow = a.py: no-such-rule", "no-such-rule"),
        ("setup.cfg", "[wsclient:check]\nallow = a.py", "'a.py' is not"),
        ("setup.cfg", "[wsclient:check]\nallow = a.py:", "'a.py:' is not"),
        ("setup.cfg", "[wsclient:check]\nalow = a.py: raw-import", "unknown setting alow"),
        ("setup.cfg", "[wsclient:check]\nrule = raw", "'raw'"),
        ("setup.cfg", "[wsclient:check]\n[wsclient:check]", "setup.cfg"),
        ("setup.cfg", "[metadata]\n", "no section"),
        ("pyproject.toml", "[tool.other]", "no section"),
        pytest.param("pyproject.toml", f"{TABLE}\nallow = 1", "allow is a table", marks=needs_toml),
        pytest.param("pyproject.toml", f"{TABLE}\nrule = 'a'", "rule is a list", marks=needs_toml),
        pytest.param("pyproject.toml", f"{TABLE}\nx = 1", "unknown setting x", marks=needs_toml),
        pytest.param("pyproject.toml", f"{TABLE}\nx = ", "pyproject.toml", marks=needs_toml),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        read_config(tmp_path / name)
    assert name in str(caught.value) or "[wsclient:check]" in str(caught.value)


def test_toml_without_a_library_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Python 3.10 alone."""
    for library in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=r"needs the package tomli; or use .* setup\.cfg"):
        load_config([write(tmp_path, pyproject_dot_toml=PYPROJECT)])


@needs_toml
def test_two_configurations_are_refused(tmp_path: Path) -> None:
    write(tmp_path, pyproject_dot_toml=PYPROJECT, setup_dot_cfg=SETUP_CFG)
    with pytest.raises(UsageError, match="keep one"):
        load_config([tmp_path])


def test_without_configuration_everything_counts(tmp_path: Path) -> None:
    write(tmp_path, setup_dot_cfg="[metadata]\nname = x\n", a_dot_py=RAW)
    assert len(check_paths([tmp_path])) == 1


# Files.


def test_folders_are_walked_in_a_stable_order(tmp_path: Path) -> None:
    skipped = {f"{name}__x_dot_py": RAW for name in (".hidden", "node_modules", "site-packages", "venv")}
    write(tmp_path, b_dot_py=RAW, a__z_dot_py=RAW, a__b_dot_py=RAW, notes_dot_txt="{", **skipped)
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    found = [os.path.relpath(finding.path, tmp_path) for finding in check_paths([tmp_path], EVERYTHING)]
    assert found == ["b.py", os.path.join("a", "b.py"), os.path.join("a", "z.py")]
    named = [tmp_path / ".hidden", tmp_path / "b.py", tmp_path / "b.py", tmp_path]
    assert len(check_paths(named, EVERYTHING)) == 4  # asked for by name; and each file once


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"x = 1\nprint 'x'\n", "Python 3."),
        (b"x = '\0'", "null byte"),
        (b"# coding: no-such-coding\n", "no-such-coding"),
        (b"x = '\xff'\n", "utf-8"),
        (b"(" * 100_000, "too many nested parentheses"),
        (b"x = " + b"-" * 100_000 + b"1", ""),
    ],
)
def test_what_cannot_be_parsed_is_reported(source: bytes, words: str) -> None:
    found = check_source(source, "x.py", Config(ROOT))
    assert [finding.rule for finding in found] == ["unparseable"]
    assert words.lower() in found[0].message.lower()


def test_what_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    assert [finding.rule for finding in check_paths([tmp_path], EVERYTHING)] == ["unparseable"]


def test_warnings_of_the_compiler_are_not_ours() -> None:
    assert rules("x = '\\d'\nassert (1, 'x')\n1 is 1\n") == []


# The command.


def test_the_command_exits_with_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, good_dot_py="x = 1\n", bad_dot_py="\n" + RAW, broken_dot_py="(")
    good, bad, broken = (str(tmp_path / f"{name}.py") for name in ("good", "bad", "broken"))
    assert main([good]) == 0
    assert capsys.readouterr() == ("", "0 findings in 1 file\n")
    assert main([good, bad]) == 1
    shown = capsys.readouterr()
    assert re.fullmatch(
        rf"{re.escape(bad)}:2: raw-import: import of websocket: .*; use wsclient.* or wsclient\.compat.*\n",
        shown.out,
    )
    assert shown.err == "1 finding in 2 files\n"
    assert main([broken, bad]) == 2
    assert capsys.readouterr().out.count("\n") == 2
    assert main(["--ignore", "raw-import", bad]) == 0
    assert main(["--rule", "raw-socket,dynamic-import", bad]) == 0
    assert main(["--rule", "default", "--rule", "other-client", bad]) == 1
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    assert main([str(tmp_path / "empty")]) == 0
    assert "nothing was checked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], "nowhere.py: no such file"),
        (["--rule", "raw", "setup.cfg"], "no rule is called 'raw'"),
        (["--config", "nowhere.cfg", "setup.cfg"], "nowhere.cfg: no such file"),
    ],
)
def test_wrong_usage_is_named(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_no_paths_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "no paths" in capsys.readouterr().err


def test_the_configuration_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, a_dot_py=RAW, my_dot_cfg="[wsclient:check]\nallow = a.py: raw-import")
    assert main([str(tmp_path)]) == 1
    assert main(["--config", str(tmp_path / "my.cfg"), "--strict", str(tmp_path)]) == 0


def test_the_rules_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listing = capsys.readouterr().out
    assert re.findall(r"^([a-z-]+)(?: \(off.*?\))?:", listing, re.MULTILINE) == [rule.name for rule in RULES]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = (sys.executable, "-W", "error", *command)
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=40, check=False
    )


def test_the_pre_commit_hook_runs() -> None:
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    entry = re.search(r"^  entry: python (.*)$", hook, re.MULTILINE)
    assert entry is not None
    found = [
        run(*shlex.split(entry[1]), "tests/samples/" + name) for name in ("honest/websocket.py", "bypasses")
    ]
    assert [done.returncode for done in found] == [0, 0]  # allowed by our setup.cfg
    assert run(*shlex.split(entry[1]), "--rule", "other-client", "tests/samples/bypasses").returncode == 1


# The item of a test run.

OPTIONS = ("-p", "pytest_wsclient", "-p", "no:cacheprovider", *QUICK, *NESTED, "-q", "-rA")


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A project of one honest test and one bypass."""
    test = "def test_it():\n    pass\n"
    files = {"tests__test_it_dot_py": test, "lib__raw_dot_py": RAW, "setup_dot_cfg": "[tool:pytest]\n"}
    return write(pytester.path, **files)


def pytest_run(pytester: pytest.Pytester, *arguments: str) -> tuple[int, str]:
    done = pytester.runpytest_inprocess(*OPTIONS, *arguments)
    return int(done.ret), done.stdout.str() + done.stderr.str()


def test_pytest_checks_when_asked(project: Path, pytester: pytest.Pytester) -> None:
    status, shown = pytest_run(pytester, "tests", "--ws-check=lib")
    assert status == 1
    assert "raw.py:1: raw-import: import of websocket" in shown
    assert "Traceback" not in shown
    assert "1 failed, 1 passed" in shown


def test_pytest_checks_what_it_tests_by_default(project: Path, pytester: pytest.Pytester) -> None:
    status, shown = pytest_run(pytester, "tests/test_it.py::test_it", "--ws-check")
    assert status == 0, shown
    assert "ws-check: tests/test_it.py" in shown
    assert "2 passed" in shown


def test_pytest_checks_the_paths_of_its_setting(project: Path, pytester: pytest.Pytester) -> None:
    (project / "setup.cfg").write_text("[tool:pytest]\nws_check_paths = lib tests\n")
    status, shown = pytest_run(pytester, "tests", "--ws-check")
    assert status == 1
    assert "1 failed, 2 passed" in shown
    assert pytest_run(pytester, "tests", "--ws-check", "-k", "test_it and not ws-check")[0] == 0


def test_pytest_says_what_is_wrong_with_the_path(project: Path, pytester: pytest.Pytester) -> None:
    status, shown = pytest_run(pytester, "tests", "--ws-check=nowhere")
    assert status == 1
    assert "nowhere: no such file or folder" in shown


def test_pytest_does_nothing_unasked(project: Path, pytester: pytest.Pytester) -> None:
    status, shown = pytest_run(pytester, "tests")
    assert status == 0
    assert "ws-check" not in shown
