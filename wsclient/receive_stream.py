"""What the application holds of a message that it receives piece by piece."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from time import monotonic
from types import TracebackType
from typing import TypeAlias, cast

from wsclient.exceptions import Disconnected, Timeout, WSClientError
from wsclient.options import check_timeout
from wsclient.protocol import Fragment

__all__ = ["Incoming", "ReceiveStream"]

Receive: TypeAlias = "Callable[[float | None], str | bytes | Fragment]"


class Incoming:
    """The received messages of one connection, as streams, one at a time. Thread-safe.

    Where a message begins is told by its pieces, which are numbered, and not by what was read before: a call
    that Ctrl-C has interrupted cannot make two halves a message.

    Args:
        receive: takes the next piece within seconds, or raises.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._beginning = threading.Lock()  # held by the thread that waits for a message to begin
        # All of these: the thread that holds `_beginning`, or reads the current stream.
        self._current: weakref.ref[ReceiveStream] | None = None
        self._held: Fragment | None = None  # taken too early: it begins the next message

    def begin(self, timeout: float | None, owner: object) -> ReceiveStream:
        """Wait for the beginning of a message, passing over what is left of the one before."""
        if not self._beginning.acquire(blocking=False):
            raise WSClientError("another thread waits in recv_stream(): one stream at a time")
        try:
            stream = self._current() if self._current is not None else None
            if stream is not None and not stream.is_over:
                raise WSClientError("the stream before this one is unfinished: read it, or close() it")
            stream = ReceiveStream(self, self._first(timeout), timeout, owner)
            self._current = weakref.ref(stream)
            return stream
        finally:
            self._beginning.release()

    def _first(self, timeout: float | None) -> Fragment:
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            left = None if deadline is None else max(deadline - monotonic(), 0.0)
            try:
                fragment = self._take(left)
            except Timeout:
                raise Timeout(f"no message began within {timeout} s") from None
            if not fragment.number and not fragment.lost:
                return fragment

    def _take(self, timeout: float | None) -> Fragment:
        held, self._held = self._held, None
        return held or cast("Fragment", self._receive(timeout))

    def next(self, timeout: float | None, number: int) -> Fragment:
        """Take piece ``number`` of the message that is being read."""
        fragment = self._take(timeout)
        if fragment.lost:
            raise Disconnected("the connection was lost in the middle of the message")
        if fragment.number != number:
            self._held = None if fragment.number else fragment
            raise WSClientError("a piece of the message is missing: a call that took it was interrupted")
        return fragment


class ReceiveStream:
    """One received message, piece by piece, in the sizes in which it came. Iterate over it, or ``read``.

    A context manager; leaving it gives up what was not read. Not thread-safe: one thread reads it.

    Attributes:
        text: whether it is a text message, whose pieces are ``str``, or a binary one, of ``bytes``.
    """

    def __init__(self, incoming: Incoming, first: Fragment, timeout: float | None, owner: object) -> None:
        self.text: bool = isinstance(first.data, str)
        self._incoming = incoming
        self._timeout = timeout
        self._owner = owner  # keeps the Connection alive
        self._empty: str | bytes = "" if self.text else b""
        # The reading thread owns these; the one that wants the next stream reads `is_over`.
        self._fragment: Fragment | None = first  # come, and not handed out
        self._number = 1  # of the piece to take next
        self._failure: WSClientError | None = None
        self.is_over: bool = first.final  # nothing more of it is to be taken

    def read(self, timeout: float | None = None) -> str | bytes:
        """Return the next piece; an empty one is the end of the message.

        Args:
            timeout: seconds to wait for it; by default what ``recv_stream`` was given.

        Raises:
            Timeout: it did not come. The stream may go on.
            ConnectionClosed: the connection ended before the message did.
            Disconnected: with ``reconnect``: it was lost, and the rest of the message with it.
        """
        limit = self._timeout if timeout is None else check_timeout(timeout)
        if self._failure is not None:
            raise self._failure  # again: half a message must not look like a whole one
        while self._fragment is not None or not self.is_over:
            fragment, self._fragment = self._fragment, None
            if fragment is None:
                fragment = self._next(limit)
            if fragment.data:
                return fragment.data
        return self._empty

    def _next(self, limit: float | None) -> Fragment:
        try:
            fragment = self._incoming.next(limit, self._number)
        except Timeout:
            raise
        except WSClientError as error:
            self.is_over, self._failure = True, error
            raise
        self._number += 1
        self.is_over = fragment.final
        return fragment

    def close(self) -> None:
        """Give up what was not read. Never waits: the next ``recv_stream`` passes over what is left."""
        self._fragment = None
        self.is_over = True

    def __iter__(self) -> Iterator[str | bytes]:
        while piece := self.read():
            yield piece

    def __enter__(self) -> ReceiveStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
