"""The documents are true: their Python runs, their commands, extras and links exist.

Every ``python`` block runs as it stands, in a Python of its own with warnings as errors, after its server
``ws://localhost:8765`` was replaced by the URL of a real echo server. What the ``console`` blocks call must
exist; those that call ``wsclient`` run too, and what they show must come out, times aside. Where one shows a
prompt (lines that begin with ``> ``) it is typed in a terminal. Anything else belongs in a block of another
kind, such as ``text``.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from terminals import Terminal, terminal

from wsclient.testing import ServerConnection, serve

ROOT = Path(__file__).resolve().parent.parent
SERVER = "ws://localhost:8765"
FEED = "ws://localhost:8766"  # sends two prices
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A file that the reader saves, and other commands of the page use: ``test_site.py`` runs it.
FILE = re.compile(r"# (\w+\.py)\n")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")
# What ``import locust`` alone makes Python 3.10 write when it ends, with gevent 25.9.
GEVENT_AT_EXIT = re.compile(
    r"^Exception ignored in: .*\n(?:(?: .*|Traceback .*)\n)+RuntimeError: greenlet is being finalized\n",
    re.MULTILINE,
)


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
    assert GEVENT_AT_EXIT.sub("", done.stderr) == ""


def test_a_block_that_fails_is_noticed(echo_server: str) -> None:
    assert _run("assert 1 == 2", echo_server).returncode != 0
    assert _run("import warnings\nwarnings.warn('old')", echo_server).returncode != 0


def test_a_block_gets_its_server(echo_server: str) -> None:
    program = (
        f"from websockets.sync.client import connect\nwith connect('{SERVER}/') as peer:\n    peer.send('hi')"
    )
    assert _run(f"{program}\n    print(peer.recv())", echo_server).stdout == "hi\n"


# What is typed at a shell.


def _console_blocks() -> list[tuple[str, str]]:
    blocks = [block for document in _documents() for block in document.blocks("console")]
    return [
        (place, text) for place, text in blocks if re.search(r"^\$ (.*[| (])?wsclient ", text, re.MULTILINE)
    ]


def _is_conversation(block: str) -> bool:
    return re.search("^> ", block, re.MULTILINE) is not None


CONSOLES = [pytest.param(text, id=place) for place, text in _console_blocks() if not _is_conversation(text)]
CONVERSATIONS = [pytest.param(text, id=place) for place, text in _console_blocks() if _is_conversation(text)]


def _feed(connection: ServerConnection) -> None:
    for symbol, bid in (("EURUSD", "1.10"), ("GBPUSD", "1.30")):
        connection.send(f'{{"symbol": "{symbol}", "bid": {bid}}}')
    for _ in connection:
        pass


@dataclass(frozen=True)
class Servers:
    """What stands for the servers of the documents, and back."""

    echo: str
    feed: str

    def real(self, text: str) -> str:
        return text.replace(SERVER, self.echo).replace(FEED, self.feed)

    def shown(self, text: str) -> str:
        """As the documents show it, but for times and rates, and what a slow machine is told about itself."""
        lines = text.replace(self.echo, SERVER).replace(self.feed, FEED).splitlines()
        kept = "\n".join(line.rstrip() for line in lines if not line.startswith("warning: the generator"))
        return re.sub(r"\d[\d.,]* ?(?:µs|ms|s|/s)\b", "<time>", kept)


@pytest.fixture
def servers(echo_server: str) -> Iterator[Servers]:
    with serve(_feed) as feed:
        yield Servers(echo_server.replace("localhost", "127.0.0.1"), feed.url)


@pytest.fixture
def shell_folder(tmp_path: Path) -> Path:
    """A folder to run commands in, with a ``wsclient`` that is this one and the files that documents name."""
    program = tmp_path / "bin" / "wsclient"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wsclient "$@"\n')
    program.chmod(0o755)
    (tmp_path / "picture.png").write_bytes(bytes(2048))
    return tmp_path


def _typed_at_a_shell(block: str, folder: Path) -> str:
    # What the commands write, with each of them before what it writes: a block, if it is true.
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    script = "\n".join(f"echo {shlex.quote('$ ' + command)}\n{command}" for command in commands)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script}"],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=50,
        check=False,
    )
    return done.stdout.decode()


@pytest.mark.parametrize("block", CONSOLES)
def test_console_block_shows_what_comes(block: str, servers: Servers, shell_folder: Path) -> None:
    found = _typed_at_a_shell(servers.real(block), shell_folder)
    assert servers.shown(found).splitlines() == servers.shown(block).splitlines()


def _shows(screen: Terminal, servers: Servers, lines: list[str]) -> bool:
    return servers.shown(screen.text) == servers.shown("\n".join(lines))


@pytest.mark.parametrize("block", CONVERSATIONS)
def test_conversation_goes_as_shown(block: str, servers: Servers) -> None:
    command, *lines = servers.real(block).splitlines()
    arguments = shlex.split(command.removeprefix("$ wsclient "))
    expected: list[str] = []
    with terminal(*arguments, columns=100, rows=60, NO_COLOR="1", WSCLIENT_HISTORY="") as screen:
        for line in lines:
            if line.startswith("> "):
                screen.wait_until(partial(_shows, screen, servers, [*expected, ">"]), line)
                screen.type(f"{line[2:]}\r")
            expected.append(line)
        assert screen.wait_ended() == 0
        assert _shows(screen, servers, lines), screen.text


def test_a_console_block_that_lies_is_noticed(servers: Servers, shell_folder: Path) -> None:
    block = f"$ echo one | wsclient connect {SERVER}/\n"
    assert servers.shown(_typed_at_a_shell(servers.real(block), shell_folder)) == f"{block}one"


# What the help shows.


def _brief(connection: ServerConnection) -> None:
    for _ in range(20):
        connection.send('{"bid": 1.10}')


@pytest.mark.parametrize("command", ["connect", "send", "listen", "load"])
def test_the_examples_of_the_help_work(command: str, servers: Servers, shell_folder: Path) -> None:
    (shell_folder / "messages.txt").write_text("one\ntwo\n")
    shown = _typed_at_a_shell(f"$ wsclient {command} --help\n", shell_folder)
    examples = [line.strip() for line in shown.partition("Examples:")[2].splitlines()]
    examples = [line for line in examples if re.match(r"(\w+ .*\| )?wsclient ", line)]
    assert len(examples) >= 3
    with serve(_brief) as brief:
        url = brief.url if command == "listen" else servers.echo
        for line in examples:
            if "jq" not in line or shutil.which("jq"):
                script = re.sub(r"\b\d+s\b", "200ms", line).replace(SERVER, url)
                found = _typed_at_a_shell(f"$ set -o pipefail; {script}; echo status $?\n", shell_folder)
                assert found.endswith("status 0\n"), found


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
