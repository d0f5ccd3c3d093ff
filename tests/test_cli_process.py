"""``wsclient`` as a process: pipes, signals, how it starts, what it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import BOUND

from wsclient.testing import (
    FaultServer,
    accept_upgrade,
    echo,
    read_until_close,
    recorder,
    repeat,
    send_close,
    send_text,
    serve,
)

pytestmark = pytest.mark.timeout(50)

ROOT = Path(__file__).resolve().parent.parent
START = 20.0  # seconds for a process to start on a busy machine
HEAVY = {"asyncio", "hdrh", "locust", "numpy", "prompt_toolkit", "rich", "websockets", "wsclient.check"}
PIPE = subprocess.PIPE
CALL = "import sys\nfrom wsclient.cli import main\nsys.exit(main(sys.argv[1:]))"


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "wsclient", *arguments]
    process = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=environment())
    with process:
        try:
            yield process
        finally:
            process.kill()


def python(program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    pipes: dict[str, Any] = {"capture_output": True, "text": True}
    return subprocess.run(command, cwd=ROOT, env=environment(**more), **pipes, timeout=START, check=False)


class TestSignals:
    @pytest.mark.parametrize("command", ["listen", "send", "connect"])
    def test_ctrl_c_ends_it_in_order(self, command: str) -> None:
        with serve(recorder) as server, started(command, "-v", server.url) as process:
            assert process.stderr is not None
            while b"open after" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=BOUND)
            assert (process.returncode, out) == (130, b"")
            assert err.endswith(b"\nwsclient: interrupted\n")
            assert b"Traceback" not in err
            server.wait_closed()
            assert server.connections[0].close_code == 1001

    def test_what_was_sent_before_is_written(self) -> None:
        with serve(recorder) as server, started("send", server.url) as process:
            assert process.stdin is not None
            process.stdin.write(b"one\ntwo\nunfinished")
            process.stdin.flush()
            server.wait_for_messages(2, START)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=BOUND)
            server.wait_closed()
            assert server.received == ["one", "two"]


class TestPipes:
    @pytest.mark.parametrize("pause", [False, True])
    def test_a_reader_that_has_enough_ends_it_quietly(self, pause: bool) -> None:
        # Whether more messages come or not.
        steps = [send_text("one"), read_until_close()] if pause else [repeat(send_text("one"))]
        with FaultServer(accept_upgrade(), *steps) as server, started("listen", server.url) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"one\n"
            process.stdout.close()
            assert process.wait(BOUND) == 0
            assert process.stderr.read() == b""
            server.take_errors()

    def test_messages_are_flushed_one_by_one(self) -> None:
        with serve(echo) as server, started("connect", server.url) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for text in (b"one\n", b"two\n"):
                process.stdin.write(text)
                process.stdin.flush()
                assert process.stdout.readline() == text
            process.stdin.close()
            assert process.wait(BOUND) == 0


class TestStart:
    def loaded_by(self, *commands: list[str]) -> str:
        """Which heavy libraries these commands import."""
        calls = "\n".join(f"main({command!r})" for command in commands)
        end = f"sys.exit('heavy:' + ' '.join(sorted(set(sys.modules) & {HEAVY!r})))"
        done = python(f"import sys\nfrom wsclient.cli import main\n{calls}\n{end}")
        return done.stderr.strip()

    def test_help_imports_nothing_heavy(self) -> None:
        assert self.loaded_by(["--help"], ["load", "--help"], ["connect", "--help"]) == "heavy:"

    def test_listen_imports_nothing_for_a_terminal(self) -> None:
        steps = (accept_upgrade(), send_text("hi"), send_close(), read_until_close())
        with FaultServer(*steps) as server:
            assert self.loaded_by(["listen", server.url]) == "heavy:"

    def test_without_the_extra_it_says_what_is_missing(self) -> None:
        done = python(f"import sys\nsys.modules['click'] = None\n{CALL}", "--help")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "wsclient: the command line needs more: pip install 'wsclient[cli]'\n"

    def test_the_prompt_without_its_library(self) -> None:
        pretend = "sys.modules['prompt_toolkit'] = None\nsys.stdin.isatty = sys.stdout.isatty = lambda: True"
        done = python(f"import sys\n{pretend}\n{CALL}", "connect", "ws://localhost:1/")
        assert done.returncode == 2
        assert done.stderr == "wsclient: the prompt needs more: pip install 'wsclient[cli]'\n"

    def test_the_version(self) -> None:
        with started("--version") as process:
            out, _ = process.communicate(timeout=START)
        assert out.startswith(b"wsclient, version ")


class TestCompletion:
    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            ("wsclient l", {"plain,listen", "plain,load"}),
            ("wsclient load --fa", {"plain,--fail-if"}),
            ("wsclient load --expect ", {"plain,echo", "plain,reply", "plain,none"}),
            ("wsclient listen --cacert x", {"file,x"}),
            ("wsclient load --report x", {"file,x"}),
            ("wsclient check t", {"file,"}),
        ],
    )
    def test_bash(self, words: str, offered: set[str]) -> None:
        # What the script of bash_source asks, as bash would.
        typed = words.split(" ")
        asked = {
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(typed) - 1),
            "_WSCLIENT_COMPLETE": "bash_complete",
        }
        done = python(CALL, **asked)
        assert set(done.stdout.split("\n")) - {""} == offered

    @pytest.mark.parametrize("shell", ["zsh", "fish"])
    def test_the_script_is_there(self, shell: str) -> None:
        asked = {"_WSCLIENT_COMPLETE": f"{shell}_source"}
        done = python(CALL, **asked)
        assert (done.returncode, "wsclient" in done.stdout) == (0, True)
