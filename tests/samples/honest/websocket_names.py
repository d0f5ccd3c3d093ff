# mypy: ignore-errors
"""Names that look like a raw WebSocket's, and are not. Talks about `import websocket` and conn._session."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import websocket as own_module
from .websocket import WebSocketApp, create_connection

PROGRAM = """
import websocket
websocket.create_connection("ws://localhost/").sock.send(b"")  # wsclient: allow[no-such-rule]
"""


class WebSocket:
    """The project's own."""

    def __init__(self) -> None:
        self.sock = socket.socket()
        self._session = SimpleNamespace()

    def close(self) -> None:
        self.sock.close()


def dial(host: str) -> socket.socket:
    listener = SimpleNamespace(sock=socket.create_connection((host, 80)))
    listener.sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    create_connection(host)
    WebSocketApp(host)
    own_module.create_connection(host)
    found: socket.socket = listener.sock
    return found


def is_there() -> bool:
    # wsclient: allows many threads to send, which is why websocket is not needed
    return importlib.util.find_spec("websocket") is not None or "websocket" in sys.modules


def load(name: str) -> Any:
    return importlib.import_module(name), importlib.import_module("websockets"), Path("websocket")


def shadowed(websocket: Any) -> Any:
    """An ASGI application's parameter."""
    ws = WebSocket()
    ws.sock.close()
    ws._session = None
    websocket.sock = None
    return websocket.create_connection("x"), websocket.WebSocket(), websocket.WebSocketApp()
