"""A program of websocket-client's that has changed its import."""

from __future__ import annotations

from typing import Any

from wsclient import compat as websocket
from wsclient.compat import WebSocketApp, create_connection


class Client(websocket.WebSocket):
    """A kind of its own."""


def on_open(app: Any) -> None:
    app.send("hello")
    app.sock.ping()


def main(url: str) -> None:
    ws = create_connection(url, class_=Client)
    ws.send("hello")
    ws.close()
    websocket.WebSocketApp(url, on_open=on_open).run_forever()
    app = WebSocketApp(url)
    app.close()
