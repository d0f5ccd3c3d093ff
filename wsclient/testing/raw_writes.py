"""Watching for writes to raw WebSockets of websocket-client: what bypasses the one writer of a connection.

While a ``RawWriteWatch`` is on, every frame that ``websocket.WebSocket`` writes is noted with its stack, and
so is every write to the socket under one. The upgrade request is not: it comes before the first frame.
``wsclient.Connection`` uses no ``WebSocket`` object at all, so it never trips the watch.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import traceback
from types import FrameType
from typing import Any

import websocket

__all__ = ["RawWriteWatch"]

_WRITES = ("send", "sendall", "sendto", "sendmsg", "sendfile", "write")
_LIBRARIES = frozenset({"websocket", "socket", "ssl"})
_HANDSHAKE = "websocket._handshake"
_NOT_SHOWN = (f"{os.sep}_pytest{os.sep}", f"{os.sep}pluggy{os.sep}", f"{os.sep}threading.py")
_DEPTH = 12  # innermost frames that are shown


class RawWriteWatch:
    """Notes writes to raw WebSockets of this process, from any thread, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._found: dict[str, None] = {}  # _mutex: stacks, each once, in order
        # start() and stop(): one thread.
        self._send_frame: Any = None
        self._types: dict[
            type, type
        ] = {}  # kind of socket to its watched kind; also any thread, item by item

    def start(self) -> None:
        """Begin to watch."""
        kind: Any = websocket.WebSocket
        self._send_frame = kind.send_frame
        kind.send_frame = self._noting_send_frame()
        kind.sock = self._watched_attribute()

    def stop(self) -> None:
        """End it. Sockets that are still open notice nothing more."""
        kind: Any = websocket.WebSocket
        kind.send_frame = self._send_frame
        del kind.sock

    def take(self) -> list[str]:
        """The stacks of the writes since the last time, innermost call last."""
        with self._mutex:
            found, self._found = list(self._found), {}
            return found

    def note(self, frame: FrameType | None) -> None:
        """Keep the stack that ``frame`` is the innermost of."""
        stack = traceback.extract_stack(frame)
        start = max((at + 1 for at, entry in enumerate(stack) if _is_machinery(entry.filename)), default=0)
        text = "".join(traceback.format_list(stack[start:][-_DEPTH:]))
        with self._mutex:
            self._found[f"in thread {threading.current_thread().name!r}:\n{text}"] = None

    def _noting_send_frame(self) -> Any:
        original, note = self._send_frame, self.note

        def send_frame(self: Any, frame: Any) -> Any:
            note(sys._getframe(1))
            return original(self, frame)

        return send_frame

    def _watched_attribute(self) -> property:
        # Every WebSocket keeps its socket in the attribute of this name; here it is seen coming.
        def get(self: Any) -> Any:
            return self.__dict__.get("sock")

        def put(self: Any, value: Any) -> None:
            if isinstance(value, socket.socket):
                watch_socket(value)
            self.__dict__["sock"] = value

        watch_socket = self._watch_socket
        return property(get, put)

    def _watch_socket(self, sock: socket.socket) -> None:
        kind = type(sock)
        if kind in self._types.values():
            return
        if kind not in self._types:
            self._types[kind] = _watched_kind(kind, self._check_write)
        with contextlib.suppress(TypeError):  # a layout of its own: then only its frames are watched
            sock.__class__ = self._types[kind]

    def _check_write(self, frame: FrameType | None) -> None:
        # Frames are noted where they are sent, and the upgrade is none; all else goes around both.
        outer = frame
        while outer is not None and _is_between(outer):
            if _module(outer) == _HANDSHAKE or outer.f_code.co_name == "send_frame":
                return
            outer = outer.f_back
        self.note(outer)  # not frame: one write may pass through several methods of a socket


def _watched_kind(kind: type, check: Any) -> type:
    def watched(name: str) -> Any:
        original = getattr(kind, name)

        def write(self: Any, *args: Any, **kwargs: Any) -> Any:
            check(sys._getframe(1))
            return original(self, *args, **kwargs)

        return write

    methods = {name: watched(name) for name in _WRITES if hasattr(kind, name)}
    return type(kind.__name__, (kind,), {"__slots__": (), **methods})


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_between(frame: FrameType) -> bool:
    name = _module(frame)
    return name == __name__ or name.partition(".")[0] in _LIBRARIES


def _is_machinery(filename: str) -> bool:
    return any(part in filename for part in _NOT_SHOWN)
