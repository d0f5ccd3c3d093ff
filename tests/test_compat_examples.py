"""The examples of websocket-client's README, documentation and FAQ, retold. Only import and URLs change."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import websocket
from compat_scenarios import leaking

from wsclient import compat
from wsclient.testing import ServerConnection, echo, serve

SAMPLES = sorted((Path(__file__).resolve().parent / "samples" / "compat").glob("*.py"))


def greeter() -> Callable[[ServerConnection], None]:
    """Hangs up on its first visitor, and welcomes the second one back."""
    visits = itertools.count()

    def greet(connection: ServerConnection) -> None:
        connection.send("welcome back" if next(visits) else "welcome")
        connection.recv()

    return greet


@pytest.fixture
def output_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Any, str], str]]:
    """Runs a program with one of the two libraries, and returns what it prints."""
    with ExitStack() as stack:
        stack.enter_context(leaking())
        plain = stack.enter_context(serve(echo))
        choosing = stack.enter_context(serve(echo, subprotocols=["testproto"]))
        secure = stack.enter_context(serve(echo, tls=True))
        greeting = stack.enter_context(serve(greeter()))

        def run(module: Any, source: str) -> str:
            monkeypatch.setitem(sys.modules, "websocket", module)
            source = source.replace("wss://server/", secure.url).replace("ws://server/", plain.url)
            source = source.replace("ws://greeter/", greeting.url).replace("ws://chooser/", choosing.url)
            exec(compile(source, "sample", "exec"), {"__name__": "__main__"})
            return capsys.readouterr().out

        yield run


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(path: Path, output_of: Callable[[Any, str], str]) -> None:
    assert output_of(compat, path.read_text(encoding="utf-8")) == EXPECTED[path.stem]


# There run_forever needs ten seconds to find out that another thread has closed the connection.
@pytest.mark.parametrize(
    "path", [path for path in SAMPLES if path.stem != "long_lived"], ids=lambda path: path.stem
)
def test_it_prints_the_same_with_websocket_client(path: Path, output_of: Callable[[Any, str], str]) -> None:
    assert output_of(websocket, path.read_text(encoding="utf-8")) == EXPECTED[path.stem]


EXPECTED = {
    "short_lived": "Sending 'Hello, World'...\nSent\nReceiving...\nReceived 'Hello, World'\n",
    "long_lived": "Opened connection\nHello 0\nHello 1\nHello 2\n### closed ###\n",
    "options": "101 True\ntestproto\nhello\n",
    "time_outs": "nothing came\n5 5\n",
    "pings": "(10, b'') (10, b'This is a ping')\n"
    "Got a pong! No need to respond b'This is an optional ping payload'\n",
    "tls": "one True\nb'two'\nthree\n",
    "reconnecting": "Opened connection\nwelcome\nOpened again\nwelcome back\n",
}
