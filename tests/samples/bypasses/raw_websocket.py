# mypy: ignore-errors
"""WebSocket made, and subclassed."""

from __future__ import annotations

from websocket import WebSocket as Raw  # finds: raw-import


class Locked(Raw):  # finds: raw-websocket
    def shout(self) -> None:
        self.sock.sendall(b"!")  # finds: raw-socket


def dial(url: str) -> object:
    with_lock = Raw(enable_multithread=True)  # finds: raw-websocket
    with_lock.connect(url)
    return with_lock
