"""What a user has after ``pip install wsclient`` and nothing else. Run it isolated, with a URL that echoes:

``python -I -X dev -W error smoke.py ws://...``. It prints one line; anything else is a warning or an error.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import distributions
from pathlib import Path
from queue import SimpleQueue

import wsclient
from wsclient import compat
from wsclient.testing import FaultServer, TestClient, accept_upgrade, read_until_close, send_text

SECONDS = 10.0
# What a new virtual environment brings, and what was asked for.
EXPECTED = frozenset({"pip", "setuptools", "wheel", "websocket-client", "wsclient"})


def check_installation() -> None:
    """The package comes out of this environment, with its one dependency and no other."""
    assert Path(wsclient.__file__).is_relative_to(sys.prefix), wsclient.__file__
    names = {str(distribution.metadata["Name"]).lower() for distribution in distributions()}
    assert names <= EXPECTED, names - EXPECTED
    missing = [name for name in wsclient.__all__ if not hasattr(wsclient, name)]
    assert missing == []


def check_round_trips(url: str) -> None:
    """Text, bytes and JSON there and back, pulled; then by callback; then with websocket-client's names."""
    with wsclient.connect(url, open_timeout=SECONDS) as conn:
        conn.send("text")
        conn.send(bytes(70_000))
        conn.send_json({"number": 1})
        assert conn.recv(timeout=SECONDS) == "text"
        assert conn.recv(timeout=SECONDS) == bytes(70_000)
        assert conn.recv_json(timeout=SECONDS) == {"number": 1}
        assert conn.confirm(timeout=SECONDS) > 0
    assert conn.state is wsclient.State.CLOSED
    assert conn.close_code == 1000
    echoed: SimpleQueue[str | bytes] = SimpleQueue()

    def on_message(_: wsclient.Connection, message: str | bytes) -> None:
        echoed.put(message)

    with wsclient.connect(url, on_message=on_message, reconnect=True, compression="deflate") as conn:
        conn.send("called back")
        assert echoed.get(timeout=SECONDS) == "called back"
    old = compat.create_connection(url, timeout=SECONDS)
    old.send("as before")
    assert old.recv() == "as before"
    old.close()


def check_testing() -> None:
    """The test kit without its extra: the client, and the servers that need the standard library only."""
    script = (accept_upgrade(), send_text('{"type": "hello"}'), read_until_close())
    with FaultServer(*script) as server, TestClient("u1", "student", "s1", server.url) as client:
        assert client.wait_for("hello", timeout=SECONDS) == {"type": "hello"}


def main(url: str) -> None:
    """Check all, and say so in one line."""
    check_installation()
    check_round_trips(url)
    check_testing()
    print(
        "wsclient",
        wsclient.__version__,
        "works on",
        platform.python_implementation(),
        platform.python_version(),
    )


if __name__ == "__main__":
    main(sys.argv[1])
