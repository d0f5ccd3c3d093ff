"""The prompt of ``wsclient connect``: in a real terminal, seen as a user sees it, and in this process."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from terminals import terminal

from wsclient.cli import main
from wsclient.cli.shell import Commands
from wsclient.testing import (
    FaultServer,
    ServerConnection,
    Step,
    accept_upgrade,
    cut,
    echo,
    http_response,
    read_messages,
    read_until_close,
    send_close,
    send_text,
    serve,
)

pytestmark = pytest.mark.timeout(50)

Prompt = Callable[..., int]
CTRL_C, CTRL_D, UP, TAB = "\x03", "\x04", "\x1b[A", "\t"


class TestTerminal:
    def test_a_session(self, tmp_path: Path) -> None:
        state = str(tmp_path)
        with serve(echo) as server:
            with terminal("connect", server.url, NO_COLOR="1", XDG_STATE_HOME=state) as screen:
                screen.wait_for(r"connected to .*\n> ?$")
                screen.type('{"price": 1.10}\r')
                screen.wait_for(r'^< \{\n  "price": 1\.10\n\}\n>')
                screen.type("/ping\r")
                screen.wait_for(r"^pong after [\d.]+ ms\n>")
                screen.type("/binary 00 ff\r")
                screen.wait_for(r"^< binary, 2 bytes\n00000000  00 ff .*\|\.\.\|\n>")
                screen.type("unfinished" + CTRL_C)
                screen.wait_for(r"^> unfinished\n>")
                screen.type(UP)
                screen.wait_for(r"^> /binary 00 ff$")
                screen.type("\r/close 4000 bye\r")
                shown = screen.wait_for(r"closed by you with code 4000 \(bye\)")
                assert screen.wait_ended() == 0
            assert "Traceback" not in shown
            with terminal("connect", server.url, XDG_STATE_HOME=state) as screen:  # the history is kept
                screen.wait_for("^>")
                screen.type(UP)
                screen.wait_for("^> /close 4000 bye")
                screen.type(CTRL_C + CTRL_D)
                screen.wait_for("closed by you with code 1000")
                assert screen.wait_ended() == 0
        assert (tmp_path / "wsclient" / "history").stat().st_mode & 0o777 == 0o600

    def test_messages_do_not_tear_what_is_typed(self, tmp_path: Path) -> None:
        def feed(connection: ServerConnection) -> None:
            for _ in connection:
                for number in range(5):
                    connection.send(f"message {number} \x1b[31mred")

        with (
            serve(feed) as server,
            terminal("connect", server.url, NO_COLOR="1", WSCLIENT_HISTORY="") as screen,
        ):
            screen.wait_for("^>")
            screen.type("go\rhalf a li")
            screen.wait_for(r"^< message 4 \\x1b\[31mred\n> half a li$")
            screen.type("ne\r")
            screen.wait_for("^> half a line\n(.*\n)*^< message 4")
            screen.type(CTRL_C)
            assert screen.wait_ended() == 130
            assert "wsclient: interrupted" in screen.text

    def test_commands_are_completed(self) -> None:
        with serve(echo) as server, terminal("connect", server.url, WSCLIENT_HISTORY="") as screen:
            screen.wait_for("^>")
            screen.type("/pi")
            screen.wait_for("^ +/ping")
            screen.type(TAB)
            screen.wait_for("^> /ping")
            screen.type("\r")
            screen.wait_for(r"^pong after")

    def test_load_draws_its_progress(self, tmp_path: Path) -> None:
        with serve(echo) as server:
            arguments = ("load", "-c", "2", "--rate", "50/s", "-d", "60", server.url)
            with terminal(*arguments) as screen:
                screen.wait_for(r"^connections +2 open, 0 failed\n")
                os.kill(screen.process.pid, signal.SIGINT)
                screen.wait_for("^ended early")
                assert screen.wait_ended() == 130
                assert re.search(r"^attempted \d+ = accepted \d+ \+ refused 0$", screen.text, re.MULTILINE)


class TestPrompt:
    """In this process: what the terminal cannot show."""

    @pytest.fixture
    def prompt(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prompt]:
        """Runs a command that takes itself to be in a terminal, in which this is typed."""
        monkeypatch.setenv("WSCLIENT_HISTORY", "")

        def run(typed: str, *arguments: str) -> int:
            monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
            monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
            keys.send_text(typed)
            return main(arguments)

        with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
            yield run

    @pytest.mark.parametrize(
        ("typed", "status", "shown"),
        [
            ("/close\r", 0, "closed by you with code 1000"),
            ("\r \r/close\r", 0, "closed by you"),
            ("/nope\r/close\r", 0, "no command /nope"),
            ("/help\r/close\r", 0, "measure a round trip"),
            ("/close 5\r/close\r", 0, "code"),
            ("/send-file /nowhere\r/close\r", 0, "/nowhere"),
            (CTRL_D, 0, "closed by you with code 1000"),
            ("text" + CTRL_C + CTRL_C, 130, "connected to"),
        ],
    )
    def test_what_is_typed(
        self, prompt: Prompt, capsys: pytest.CaptureFixture[str], typed: str, status: int, shown: str
    ) -> None:
        with serve(echo) as server:
            assert prompt(typed, "connect", server.url) == status
        assert shown in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("steps", "status", "shown"),
        [
            ((send_close(1000, "enough"),), 0, "closed by the server with code 1000 (enough)"),
            ((read_messages(1), send_close(1011)), 4, "connection closed with code 1011"),
            ((read_messages(1), cut()), 4, "connection closed with code 1006"),
        ],
    )
    def test_how_the_server_ends_it(
        self,
        prompt: Prompt,
        capsys: pytest.CaptureFixture[str],
        steps: tuple[Step, ...],
        status: int,
        shown: str,
    ) -> None:
        with FaultServer(accept_upgrade(), send_text("x" * 70_000), *steps) as server:
            assert prompt("go\r", "connect", server.url) == status
        out, err = capsys.readouterr()
        assert shown in out + err
        assert f"{'x' * 65536}\n" in out
        assert "4464 characters more" in out

    def test_a_lost_connection_that_is_opened_again(
        self, prompt: Prompt, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scripts = [
            (accept_upgrade(), read_messages(1), cut()),
            (accept_upgrade(), send_text("again"), send_close(1001), read_until_close()),
            (http_response(403),),
        ]
        with FaultServer(scripts=scripts) as server:
            assert prompt("go\r", "connect", "--reconnect", "-v", server.url) == 4
        out, err = capsys.readouterr()
        assert "closed with code 1006 (not opened again: " in err
        assert "connection lost (lost" in out
        assert "connection open again" in out

    def test_paths_are_completed(self, tmp_path: Path) -> None:
        (tmp_path / "picture.png").touch()

        def completed(text: str) -> list[str]:
            return [found.text for found in Commands().get_completions(Document(text), CompleteEvent())]

        assert completed(f"/send-file --binary {tmp_path}/pic") == ["ture.png"]
        assert completed("/p") == ["/ping"]
        assert completed("text") == []
