# mypy: ignore-errors
"""The socket of a raw WebSocket, reached in many ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import websocket  # wsclient: allow[raw-import] the sample is about what comes after
from websocket import WebSocket  # wsclient: allow[raw-import]

URL = "ws://localhost/"


def dial() -> Any:
    return websocket.create_connection(URL)  # wsclient: allow[create-connection]


@contextmanager
def dialled() -> Iterator[WebSocket]:
    yield dial()


class Holder:
    raw: WebSocket

    def __init__(self, raw: websocket.WebSocket) -> None:
        self._raw = raw
        self.send = raw.sock.sendall  # finds: raw-socket

    @property
    def inner(self) -> WebSocket | None:
        return self._raw

    def shout(self) -> None:
        self._raw.sock.sendall(b"!")  # finds: raw-socket
        self.raw.sock.sendall(b"!")  # finds: raw-socket
        self.inner.sock.sendall(b"!")  # finds: raw-socket


def reach(several: list[WebSocket], maybe: WebSocket | None) -> None:
    dial().sock.close()  # finds: raw-socket
    getattr(dial(), "sock").close()  # noqa: B009  # finds: raw-socket
    with closing(dial()) as ws:
        ws.sock.close()  # finds: raw-socket
    with dialled() as ws:
        ws.sock.close()  # finds: raw-socket
    for each in several:
        each.sock.close()  # finds: raw-socket
    if maybe and (sock := maybe.sock):  # finds: raw-socket
        sock.close()
