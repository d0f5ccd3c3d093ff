"""The documents are true: their Python runs, their commands, extras and links exist.

Every ``python`` block runs as it stands, in a Python of its own with warnings as errors, after its server
``ws://localhost:8765`` was replaced by the URL of a real echo server. What the ``console`` blocks call must
exist. Anything else belongs in a block of another kind, such as ``text``.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVER = "ws://localhost:8765"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A file that the reader saves, and other commands of the page use: ``test_site.py`` runs it.
FILE = re.compile(r"# (\w+\.py)\n")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")


@dataclass(frozen=True)
class Document:
    """A Markdown file, by its path from the top of the tree."""

    name: str
    text: str

    def blocks(self, kind: str) -> list[tuple[str, str]]:
        """The fenced blocks of one kind: where each stands, and its text."""
        return [
            (f"{self.name}:{self.text.count(chr(10), 0, found.start()) + 1}", found[2])
            for found in BLOCK.finditer(self.text)
            if found[1] == kind
        ]

    def commands(self) -> list[str]:
        """The lines of the console blocks that a reader types."""
        lines = [line for _, block in self.blocks("console") for line in block.splitlines()]
        return [line[2:] for line in lines if line.startswith("$ ")]


def _documents() -> list[Document]:
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Document(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in paths]


def _python_blocks() -> list[tuple[str, str]]:
    blocks = [block for document in _documents() for block in document.blocks("python")]
    return [(place, text) for place, text in blocks if not FILE.match(text)]


def _run(program: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program.replace(SERVER, url)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=40, check=False)


@pytest.mark.parametrize("block", [pytest.param(text, id=place) for place, text in _python_blocks()])
def test_python_block_runs(block: str, echo_server: str) -> None:
    done = _run(block, echo_server)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_block_that_fails_is_noticed(echo_server: str) -> None:
    assert _run("assert 1 == 2", echo_server).returncode != 0
    assert _run("import warnings\nwarnings.warn('old')", echo_server).returncode != 0


def test_a_block_gets_its_server(echo_server: str) -> None:
    program = (
        f"from websockets.sync.client import connect\nwith connect('{SERVER}/') as peer:\n    peer.send('hi')"
    )
    assert _run(f"{program}\n    print(peer.recv())", echo_server).stdout == "hi\n"


# What the documents name exists.


def unknown_targets(document: Document) -> list[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        word
        for command in document.commands()
        if command.startswith("make ")
        for word in command.split("#")[0].split()[1:]
        if "=" not in word and not word.startswith("-")
    }
    return sorted(named - targets)


def unknown_extras(document: Document) -> list[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    named = {
        extra
        for extras in re.findall(r"(?:wsclient|[ '\"]\.)\[([a-z,]+)\]", document.text)
        for extra in extras.split(",")
    }
    return sorted(named - set(config["options.extras_require"]))


def missing_files(document: Document) -> list[str]:
    here = (ROOT / document.name).parent
    saved = [found[1] for _, block in document.blocks("python") if (found := FILE.match(block))]
    links = [here / link for link in LINK.findall(document.text)]
    scripts = [
        ROOT / script
        for command in document.commands()
        for script in re.findall(r"^(?:python3? )(\S+\.py)\b", command)
        if script not in saved
    ]
    return [str(path) for path in [*links, *scripts] if not path.exists()]


Check = Callable[[Document], list[str]]
CHECKS: tuple[Check, ...] = (unknown_targets, unknown_extras, missing_files)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("document", _documents(), ids=lambda document: document.name)
def test_what_is_named_exists(document: Document, check: Check) -> None:
    assert check(document) == []


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (unknown_targets, "```console\n$ make everything\n```\n"),
        (unknown_targets, "```console\n$ make VENV=/tmp/v -j2 test everything  # at once\n```\n"),
        (unknown_extras, "Install `wsclient[speed]`."),
        (unknown_extras, "```console\n$ pip install '.[fast,speed]'\n```\n"),
        (missing_files, "See [there](docs/nowhere.md#part)."),
        (missing_files, "![chart](docs/nowhere.svg)"),
        (missing_files, "```console\n$ python benchmarks/nowhere.py --fast\n```\n"),
    ],
)
def test_what_does_not_exist_is_noticed(check: Check, text: str) -> None:
    assert len(check(Document("README.md", text))) == 1


def test_the_readme_has_what_a_newcomer_needs() -> None:
    readme = next(document for document in _documents() if document.name == "README.md")
    assert {"make demo", "make test"} <= set(readme.commands())
    assert readme.blocks("python")
