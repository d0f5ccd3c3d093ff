"""What the application holds of a message that it receives piece by piece."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from types import TracebackType
from typing import TypeAlias, cast

from wsclient.exceptions import Disconnected, WSClientError
from wsclient.protocol import Fragment

__all__ = ["Incoming", "ReceiveStream"]

Receive: TypeAlias = "Callable[[float | None], str | bytes | Fragment]"


class _Phase(enum.Enum):
    IDLE = "idle"  # the next piece begins a message
    READING = "reading"  # it belongs to the stream that somebody reads
    SKIPPING = "skipping"  # it belongs to a message that nobody wants any more


class Incoming:
    """The received messages of one connection, as streams, one at a time. Thread-safe.

    Args:
        receive: takes the next piece within seconds, or raises.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._mutex = threading.Lock()
        self._phase = _Phase.IDLE  # _mutex

    def begin(self, timeout: float | None) -> ReceiveStream:
        """Wait for the beginning of a message."""
        before = self._reserve()
        deadline = None if timeout is None else monotonic() + timeout
        try:
            while before is _Phase.SKIPPING:
                if self.next(_left(deadline)).final:
                    before = _Phase.IDLE
            first = self.next(_left(deadline))
        except BaseException:
            self._enter(before)
            raise
        return ReceiveStream(self, first, timeout)

    def _reserve(self) -> _Phase:
        with self._mutex:
            before = self._phase
            if before is _Phase.READING:
                raise WSClientError("the stream before this one is unfinished: read it, or close() it")
            self._phase = _Phase.READING
            return before

    def _enter(self, phase: _Phase) -> None:
        with self._mutex:
            self._phase = phase

    def next(self, timeout: float | None) -> Fragment:
        """Take the next piece of the message that is being read."""
        return cast("Fragment", self._receive(timeout))

    def finished(self) -> None:
        """The message was read to its end."""
        self._enter(_Phase.IDLE)

    def skip(self) -> None:
        """Nobody wants the rest of the message."""
        self._enter(_Phase.SKIPPING)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - monotonic(), 0.0)


class ReceiveStream:
    """One received message, piece by piece, in the sizes in which it came. Iterate over it, or ``read``.

    A context manager; leaving it skips what was not read. Not thread-safe: one thread reads it.

    Attributes:
        text: whether it is a text message, whose pieces are ``str``, or a binary one, of ``bytes``.
    """

    def __init__(self, incoming: Incoming, first: Fragment, timeout: float | None) -> None:
        self.text = isinstance(first.data, str)
        self._incoming = incoming
        self._timeout = timeout
        self._empty: str | bytes = "" if self.text else b""
        self._fragment: Fragment | None = first  # the reading thread: come, and not handed out
        self._ended = False  # the reading thread
        if first.final:
            incoming.finished()

    def read(self, timeout: float | None = None) -> str | bytes:
        """Return the next piece; an empty one is the end of the message.

        Args:
            timeout: seconds to wait for it; by default what ``recv_stream`` was given.

        Raises:
            Timeout: it did not come. The stream may go on.
            ConnectionClosed: the connection ended before the message did.
            Disconnected: with ``reconnect``: it was lost, and the rest of the message with it.
        """
        while not self._ended:
            fragment, self._fragment = self._fragment, None
            if fragment is None:
                fragment = self._incoming.next(self._timeout if timeout is None else timeout)
                if fragment.final:
                    self._incoming.finished()
                if fragment.lost:
                    self._ended = True
                    raise Disconnected("the connection was lost in the middle of the message")
            self._ended = fragment.final
            if fragment.data:
                return fragment.data
        return self._empty

    def close(self) -> None:
        """Skip what was not read. Never waits: the rest is passed over as it comes."""
        if not self._ended:
            came_whole = self._fragment is not None and self._fragment.final
            self._ended = True
            if not came_whole:
                self._incoming.skip()

    def __iter__(self) -> Iterator[str | bytes]:
        while piece := self.read():
            yield piece

    def __enter__(self) -> ReceiveStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
