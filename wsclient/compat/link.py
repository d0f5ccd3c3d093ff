"""One ``wsclient.Connection``, with what comes in on it as events."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any, Final

from websocket import ABNF, WebSocketException

from wsclient import ClosedBy, Connection, ConnectionClosed, ProtocolError, State, Timeout, WSClientError
from wsclient.compat.errors import translated
from wsclient.compat.events import Closed, Control, Events, Piece

__all__ = ["Link", "close_frame"]

_NO_CODE: Final = 1005
_NO_FRAME: Final = 1006
_FLUSH_SECONDS: Final = 1.0  # what a peer that takes nothing is given, at least
_MAX_PATIENCE: Final = 20  # times the time-out of a close, for what was accepted before it


def close_frame(code: int, reason: str) -> ABNF:
    """The close frame that said so."""
    payload = b"" if code == _NO_CODE else struct.pack("!H", code) + reason.encode()
    return ABNF(1, 0, 0, 0, ABNF.OPCODE_CLOSE, 0, payload)


class Link:
    """A connection and its events. Thread-safe, but for ``events.take``.

    Args:
        url: where to.
        options: of ``wsclient.Connection``.
        in_pieces: messages are handed over piece by piece.
    """

    def __init__(self, url: str, options: Mapping[str, Any], *, in_pieces: bool) -> None:
        self.events: Events = Events()
        self.pong_at: float = 0.0  # monotonic: reader thread writes, any reads
        self.end: Closed | None = None  # reader thread, once; any reads
        self.is_closing: bool = False  # whoever closes first; any reads
        self._ended = threading.Event()
        self._within = False  # reader thread: the last piece was not a final one
        taker = (
            {"on_fragment": self._piece, "assemble": False} if in_pieces else {"on_message": self._message}
        )
        self.connection: Connection = Connection(
            url, **taker, on_ping=self._ping, on_pong=self._pong, on_close=self._closed, **options
        )

    def open(self, *, has_to_choose: bool = False) -> None:
        """Connect. Raises its exceptions, also where no subprotocol was chosen."""
        with _translating():
            self.connection.open()
        if has_to_choose and self.connection.subprotocol is None:
            self.abort()
            raise WebSocketException("Invalid WebSocket Header: the server chose no subprotocol")

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self.connection.state is State.OPEN

    def close(self, code: int, reason: str, timeout: float) -> None:
        """Write what was accepted, close, and wait ``timeout`` for the peer's close frame.

        What waits to be taken is dropped. Writing may take longer, as long as the peer takes something.
        """
        self.is_closing = True
        self.events.drop()
        with suppress(WSClientError):
            self._drain(max(timeout, _FLUSH_SECONDS))
        with _translating():
            self.connection.close(code, reason, timeout)

    def begin_close(self, code: int, reason: str) -> None:
        """Close, and do not wait. What comes in can still be taken."""
        self._elsewhere(partial(self.connection.close, code, reason))

    def flush_and_abort(self) -> None:
        """Drop the connection, but give what was accepted a moment to be written."""
        if self.is_open:
            with suppress(WSClientError):
                self.connection.flush(_FLUSH_SECONDS)
        self.abort()

    def abandon(self) -> None:
        """Drop the connection, and do not wait: for a finalizer."""
        with suppress(RuntimeError):  # no threads any more, at interpreter exit
            self._elsewhere(self._abort_quietly)

    def _abort_quietly(self) -> None:
        with suppress(WebSocketException):  # in a forked child it is the parent's
            self.abort()

    @staticmethod
    def _elsewhere(action: Callable[[], None]) -> None:
        threading.Thread(target=action, name="wsclient-compat-close", daemon=True).start()

    def _drain(self, patience: float) -> None:
        for _ in range(_MAX_PATIENCE):
            before = self.connection.stats().bytes_sent
            try:
                self.connection.flush(patience)
            except Timeout:
                if self.connection.stats().bytes_sent == before:
                    raise
            else:
                return

    def wait_ended(self) -> None:
        """Wait for the end of a connection that somebody has ended. Bounded by what ended it."""
        self._ended.wait()

    def cancel(self) -> None:
        """End an ``open`` that is under way, or about to be."""
        if self.connection.state in (State.NEW, State.CONNECTING):
            self.abort()

    def abort(self) -> None:
        """Drop the connection; ends a ``open`` that is under way, too."""
        self.events.drop()
        with _translating():
            self.connection.abort()

    # -- reader thread --------------------------------------------------------------------------------

    def _message(self, connection: Connection, message: str | bytes) -> None:
        self.events.put(message, len(message))

    def _piece(self, connection: Connection, data: str | bytes, final: bool) -> None:
        self.events.put(Piece(data, not self._within, final), len(data))
        self._within = not final

    def _ping(self, connection: Connection, payload: bytes) -> None:
        self.events.tell(Control(ABNF.OPCODE_PING, payload))

    def _pong(self, connection: Connection, payload: bytes) -> None:
        self.pong_at = monotonic()
        self.events.tell(Control(ABNF.OPCODE_PONG, payload))

    def _closed(self, connection: Connection, code: int, reason: str) -> None:
        error = _end_of(connection)
        has_frame = code != _NO_FRAME and not isinstance(error, ProtocolError)
        frame = close_frame(code, reason) if has_frame else None
        self.end = Closed(frame, error, connection.closed_by is ClosedBy.LOCAL)
        self.events.tell(self.end)
        self._ended.set()


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except WSClientError as error:
        raise translated(error) from error


def _end_of(connection: Connection) -> Exception:
    try:
        connection.send(b"")
    except WSClientError as error:
        return error
    return ConnectionClosed()
