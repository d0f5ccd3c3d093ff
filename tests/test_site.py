"""The documentation site: what its pages show comes out, and what the build refuses."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
from build_checks import exported, loaded_from_elsewhere, undocumented
from docstrings import process_docstring as convert

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


# Docstrings become the reference.


def _converted(owner: object) -> str:
    lines = (inspect.getdoc(owner) or "").splitlines()
    convert(None, "", "", owner, None, lines)
    return "\n".join(lines)


def test_what_is_raised_and_passed_becomes_fields() -> None:
    found = _converted(wsclient.connect)
    assert "\n:Parameters:\n\n   **url**\n      ``ws://`` or" in found
    assert "\n:Raises:\n\n   ``HandshakeError``\n      the server refused" in found


def test_blocks_are_shown_as_they_are() -> None:
    lines = ["The ``sum``::", "", "    ``a`` = b", "", "and ``a``"]
    convert(None, "", "", None, None, lines)
    assert lines[:5] == ["The ``sum``::", "", "    a = b", "", "and ``a``"]


def test_what_is_returned_is_a_text() -> None:
    lines = ["Do it.", "", "Returns:", "    Whether it", "    was done.", "", "More."]
    convert(None, "", "", None, None, lines)
    assert lines[:7] == ["Do it.", "", ":Returns:", "   Whether it", "   was done.", "", "More."]


def test_an_option_shows_its_type_and_its_default() -> None:
    found = _converted(Options)
    assert ".. py:attribute:: open_timeout\n   :type: float\n   :value: 10.0\n\n   over DNS" in found
    assert ".. py:attribute:: json_dumps\n" in found
    assert "``on_close(conn, code, reason)``" in found


def test_every_option_has_an_entry() -> None:
    entries = set(re.findall(r"^\.\. py:attribute:: (\w+)$", _converted(Options), re.MULTILINE))
    assert entries == {field.name for field in fields(Options)}


def test_members_of_an_enum_have_entries() -> None:
    found = _converted(wsclient.ClosedBy)
    assert ".. py:attribute:: PEER\n   :value: 'peer'\n\n   the peer's close frame came first" in found


def test_a_section_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        convert(None, "", "", None, None, ["Raises:", "    whatever it likes"])


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
