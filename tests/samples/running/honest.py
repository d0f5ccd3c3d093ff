"""Goes through a ``Connection`` only. Run by ``tests/test_samples.py``."""

from __future__ import annotations

import wsclient
from wsclient.testing import ClientFactory, ServerFactory


def test_client(ws_server: ServerFactory, ws_client: ClientFactory) -> None:
    client = ws_client(ws_server())
    client.send_quick_message("greeting", "hello")
    assert client.wait_for(type="greeting")


def test_connection(ws_server: ServerFactory) -> None:
    with wsclient.connect(ws_server().url) as conn:
        conn.send("hello")
        assert conn.recv(10) == "hello"
        assert conn.ping().result(10) >= 0
