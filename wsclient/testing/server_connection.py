"""``ServerConnection``: the server's end of a connection, for handlers that are plain functions."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

from wsclient import ConnectionClosed, Timeout

__all__ = ["ServerConnection"]

Message: TypeAlias = "str | bytes"
T = TypeVar("T")

_NORMAL_CODES = (1000, 1001)


class ServerConnection:
    """What a handler of ``serve`` gets. Blocking; for the handler's own thread, and others of its making.

    Args:
        websocket: the connection of ``websockets``.
        loop: the event loop that it lives on.
    """

    def __init__(self, websocket: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._websocket = websocket
        self._loop = loop
        self._target: str = websocket.request.path

    @property
    def path(self) -> str:
        """The path of the client's request."""
        return urlsplit(self._target).path

    @property
    def query(self) -> dict[str, str]:
        """The query parameters of the client's request."""
        return dict(parse_qsl(urlsplit(self._target).query, keep_blank_values=True))

    def recv(self, timeout: float = 10.0) -> Message:
        """Return the next message.

        Raises:
            Timeout: none came within ``timeout`` seconds.
            ConnectionClosed: the client has left, or the server stops.
        """
        try:
            return self._wait_for_client(self._next_within(timeout))
        except (asyncio.TimeoutError, TimeoutError):
            raise Timeout(f"no message within {timeout:g} s") from None

    def recv_json(self, timeout: float = 10.0) -> Any:
        """Return the next message, parsed. Raises as ``recv``, and ``ValueError`` for what is no JSON."""
        return json.loads(self.recv(timeout))

    def __iter__(self) -> Iterator[Message]:
        """Yield messages; ends at a normal close (1000, 1001), raises ``ConnectionClosed`` otherwise."""
        while True:
            try:
                message = self._wait_for_client(self._next_within(None))
            except ConnectionClosed as error:
                if error.code in _NORMAL_CODES:
                    return
                raise
            yield message

    def send(self, message: Message) -> None:
        """Send ``str`` as a text message, ``bytes`` as a binary one. Raises ``ConnectionClosed``."""
        self._run(self._websocket.send(message))

    def send_json(self, obj: Any) -> None:
        """Send ``obj`` as JSON text."""
        self.send(json.dumps(obj))

    def broadcast(self, message: Message) -> None:
        """Send to every client of this server, this one too."""
        self._run(self._websocket.broadcast(message))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection (RFC 6455, section 7)."""
        self._run(self._websocket.close(code, reason))

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call something on the loop, unless that is gone."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    async def _next_within(self, timeout: float | None) -> Message:
        message: Message = await asyncio.wait_for(self._websocket.recv(), timeout)
        return message

    def _wait_for_client(self, coroutine: Coroutine[Any, Any, T]) -> T:
        # By its name, a thread that waits in here is told from one that is stuck: transcript.READING.
        return self._run(coroutine)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        from websockets import ConnectionClosed as TheirConnectionClosed

        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except TheirConnectionClosed as error:
            raise self._closed() from error
        except concurrent.futures.CancelledError as error:  # by the end of the loop
            raise self._closed() from error
        except RuntimeError:
            coroutine.close()
            if self._loop.is_closed():
                raise self._closed() from None
            raise

    def _closed(self) -> ConnectionClosed:
        protocol = self._websocket.protocol
        return ConnectionClosed(protocol.close_code or 1006, protocol.close_reason or "")
