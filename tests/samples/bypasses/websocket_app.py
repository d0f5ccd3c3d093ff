# mypy: ignore-errors
"""WebSocketApp, and the raw WebSocket that its callbacks hand out."""

from __future__ import annotations

from typing import Any

import websocket as w  # finds: raw-import
from websocket._app import WebSocketApp  # finds: raw-import


def on_message(app: Any, message: str) -> None:
    app.sock.send(message)  # finds: raw-socket


class Client:
    def __init__(self, url: str) -> None:
        self.app = w.WebSocketApp(url, on_message=on_message, on_open=self.on_open)  # finds: websocket-app

    def on_open(self, app: Any) -> None:
        app.sock.send("hello")  # finds: raw-socket

    def shout(self) -> None:
        self.app.sock.sock.sendall(b"!")  # finds: raw-socket raw-socket


class Loud(WebSocketApp):  # finds: websocket-app
    pass
