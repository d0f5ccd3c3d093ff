"""The documentation site: what its pages show comes out, and what the build refuses."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from build_checks import exported, loaded_from_elsewhere, undocumented
from websockets.sync.client import ClientConnection, connect

import wsclient
from wsclient import Options

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SERVER = "ws://localhost:8765"
SHOWN = re.compile(r"^```python\n([^`]*?)^```\n\nIt prints:\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^```python\n(# \w+\.py\n.*?)^```$", re.MULTILINE | re.DOTALL)


def _page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _shown() -> list[tuple[str, str]]:
    return [found for path in sorted(DOCS.glob("*.md")) for found in SHOWN.findall(_page(path.name))]


def _run(program: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program.replace(SERVER, url)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=40, check=False)


def test_there_are_programs_that_say_what_they_print() -> None:
    assert len(_shown()) >= 4


@pytest.mark.parametrize(("program", "output"), _shown())
def test_a_program_prints_what_the_page_says(program: str, output: str, echo_server: str) -> None:
    assert _run(program, echo_server).stdout == output


# The server that all pages talk to.


@contextmanager
def _server_of_the_tutorial(folder: Path) -> Iterator[str]:
    program = FILE.search(_page("tutorial.md"))
    assert program is not None
    path = folder / "echo_server.py"
    path.write_text(program[1].replace('"localhost", 8765', '"localhost", 0'), encoding="utf-8")
    with subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.kill()


def test_the_server_of_the_tutorial_is_the_one_that_the_pages_need(tmp_path: Path) -> None:
    with _server_of_the_tutorial(tmp_path) as said:
        port = said.removeprefix("listening on port ").strip()
        url = f"ws://localhost:{port}/"
        with wsclient.connect(url, proxy=None, compression="deflate") as conn:
            assert "sec-websocket-extensions" not in conn.response_headers
            conn.send(bytes(3_000_000))
            assert len(conn.recv(timeout=10)) == 3_000_000


def test_the_pages_use_that_port() -> None:
    assert 'serve(echo, "localhost", 8765, ' in _page("tutorial.md")
    assert SERVER.rpartition(":")[2] == "8765"


# Migrating from websockets: a name that is there has a row.


def _cells(column: int) -> str:
    rows = [line.split("|") for line in _page("migrating-from-websockets.md").splitlines() if "|" in line]
    return "\n".join(row[column] for row in rows)


def _their_names() -> set[str]:
    parameters = inspect.signature(connect).parameters.values()
    options = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    documented = {"close", "close_code", "close_reason", "latency", "local_address", "ping", "pong", "recv"}
    documented |= {"recv_streaming", "remote_address", "request", "response", "send", "state", "subprotocol"}
    methods = {name for name in documented if hasattr(ClientConnection, name)}
    return (options - {"legacy"}) | methods


@pytest.mark.parametrize("name", sorted(_their_names()))
def test_each_name_of_websockets_has_a_row(name: str) -> None:
    assert re.search(rf"`{name}\b", _cells(1)), f"{name} is not in the first column"


def test_what_it_becomes_exists() -> None:
    known = set(dir(Options)) | {"reconnect", "timeout"}
    named = set(re.findall(r"`(\w+)=", _cells(2)))
    assert named <= known, named - known
    assert {"headers", "ssl_context", "max_message_size"} <= named


# What the build refuses.


def test_what_a_module_exports_is_read() -> None:
    source = (ROOT / "wsclient" / "__init__.py").read_text(encoding="utf-8")
    assert exported(source) == wsclient.__all__
    with pytest.raises(ValueError, match="no __all__"):
        exported("everything = []")


def test_a_public_name_without_an_entry_is_noticed() -> None:
    public = {"package": ["known", "unknown"], "other": ["unknown"]}
    assert undocumented(public, {"package.known", "unknown"}) == ["other.unknown", "package.unknown"]


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example.com/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.com/css">',
        "<img alt='' src='http://example.com/x.png'/>",
        "@import 'https://example.com/x.css';",
        "body { background: url(https://example.com/x.png) }",
    ],
)
def test_what_loads_from_elsewhere_is_noticed(text: str) -> None:
    assert len(loaded_from_elsewhere(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        '<script src="_static/x.js"></script>',
        '<a href="https://example.com/">there</a>',
        '<link rel="canonical" href="https://example.com/">',
        "<p>Write https://example.com/ yourself.</p>",
        "body { background: url(data:image/png;base64,AAAA) }",
    ],
)
def test_what_does_not_is_fine(text: str) -> None:
    assert loaded_from_elsewhere(text) == []
