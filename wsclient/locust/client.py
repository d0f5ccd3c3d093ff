"""``WebSocketClient``: what one user does with its connection, each step of it told to Locust."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import gevent
from gevent.lock import RLock

from wsclient import Connection, ConnectionClosed, Disconnect, State, WSClientError
from wsclient.locust.mailbox import Mailbox, Match, Message
from wsclient.locust.report import Kind, Measured, Report, RequestFailed, size_of

__all__ = ["WebSocketClient"]

_OWNED = frozenset({"assemble", "on_close", "on_disconnect", "on_fragment", "on_message", "on_reconnect"})
_TURN = 0.01  # seconds for which a connection that is never idle may keep the other users waiting
_TIMEOUT = 10.0
_ABNORMAL = 1006

Unasked = Callable[[Message, bool], None]


class _Line:
    """One connection with its mailbox: what Locust is told of what comes in, and of its end.

    The callbacks run on the connection's reader, which under gevent is a greenlet, too.
    """

    def __init__(
        self, url: str, options: Mapping[str, Any], report: Report, keep: int, unasked: Unasked
    ) -> None:
        self._report = report
        self._unasked = unasked
        self.mailbox = Mailbox(keep, self._unclaimed)
        self._closing = False  # any greenlet; once True, for good
        self._turn = time.monotonic()  # reader: when it last let the others run
        self._lost = 0.0  # reader: when the link was lost
        self._reader: object = None  # reader: itself, once a message has come
        links = {} if options.get("reconnect") in (None, False) else self._link_callbacks()
        self.connection = Connection(
            url, **options, **links, on_message=self._received, on_close=self._closed
        )

    def _link_callbacks(self) -> dict[str, Any]:
        return {"on_disconnect": self._disconnected, "on_reconnect": self._reconnected}

    @property
    def is_open(self) -> bool:
        return self.connection.state in (State.OPEN, State.RECONNECTING)

    def close(self, code: int, reason: str) -> None:
        """Close, and raise ``ConnectionClosed`` when that was not clean: no answer, or messages unsent."""
        connection = self.connection
        self._closing = connection.state is not State.CLOSING  # else the server was first
        connection.close(code, reason)
        if connection.unsent or connection.close_code == _ABNORMAL:
            count = len(connection.unsent)
            text = f"{connection.close_reason}; {count} unsent" if count else connection.close_reason
            raise ConnectionClosed(connection.close_code or _ABNORMAL, text)

    def refuse_on_reader(self) -> None:
        """Raise in ``on_message``, where the wait for a message would be one for itself."""
        if gevent.getcurrent() is self._reader:
            raise WSClientError("a wait for a message in on_message would wait for itself: use a task")

    def _received(self, _: Connection, message: Message) -> None:
        self._reader = gevent.getcurrent()
        self.mailbox.put(message)
        if time.monotonic() - self._turn > _TURN:
            gevent.sleep(0)
            self._turn = time.monotonic()

    def _unclaimed(self, message: Message) -> None:
        self._unasked(message, not self._closing)

    def _closed(self, _: Connection, code: int, reason: str) -> None:
        error = ConnectionClosed(code, reason)
        self.mailbox.end(error)
        self.mailbox.clear()
        if not self._closing:
            self._report.tell(Kind.CONNECTION, "closed", error=error)

    def _disconnected(self, _: Connection, reason: Disconnect) -> None:
        if reason.attempt == 0:
            self._lost = time.monotonic()
        error = reason.error if isinstance(reason.error, Exception) else None
        error = error or ConnectionClosed(reason.code or _ABNORMAL, reason.text)
        self._report.tell(Kind.CONNECTION, "disconnected", error=error)

    def _reconnected(self, _: Connection) -> None:
        self._report.tell(Kind.CONNECTION, "reconnect", (time.monotonic() - self._lost) * 1000)


class WebSocketClient:
    """One user's connection. Every method tells Locust what it did, under ``name``, and how long it took.

    Where no connection is open, ``send``, ``send_confirmed``, ``receive`` and ``request`` connect first: that
    is an event of its own. What fails is told to Locust and raises ``RequestFailed``.

    Times that are given are seconds; Locust's are milliseconds. Several greenlets of one user may share it.

    Args:
        url: asked for at each ``connect``.
        options: those of ``wsclient.connect``, asked for at each ``connect``.
        report: where Locust is told.
        keep: how many messages that nobody asked for are kept for ``receive``.
        unasked: called with each that is not, and whether it is to be handled: not once the user closes.
    """

    def __init__(
        self,
        url: Callable[[], str],
        options: Callable[[], Mapping[str, Any]],
        report: Report,
        keep: int,
        unasked: Unasked,
    ) -> None:
        self._url = url
        self._options = options
        self._report = report
        self._keep = keep
        self._unasked = unasked
        self._mutex = RLock()  # one greenlet connects
        self._line: _Line | None = None  # any greenlet, between two waits

    @property
    def connection(self) -> Connection | None:
        """The connection itself, ``None`` before the first: what is done with it is told nobody."""
        return self._line.connection if self._line else None

    @property
    def is_open(self) -> bool:
        """Whether messages are accepted, be it to wait until a lost connection is open again."""
        return self._line is not None and self._line.is_open

    def connect(self, *, name: str = "connect", **options: Any) -> None:
        """Open a connection; one that is open is closed first.

        Args:
            name: of the event.
            options: in addition to those of the user, and stronger.

        Raises:
            RequestFailed: there is no connection.
            TypeError, ValueError: a wrong URL or option.
        """
        with self._mutex:
            self.close()
            options = {**self._options(), **options}
            if owned := sorted(_OWNED & options.keys()):
                raise ValueError(
                    f"option {owned[0]}: it is the client's own; see on_message of WebSocketUser"
                )
            # Known before it is open: messages may come, and be answered, before open() returns.
            self._line = line = _Line(self._url(), options, self._report, self._keep, self._unasked)
            with self._report.measure(Kind.CONNECTION, name):
                line.connection.open()

    def close(self, code: int = 1000, reason: str = "", *, name: str = "close") -> None:
        """Write what was accepted, close, and wait for the server's answer. Never raises ``RequestFailed``.

        Does nothing where no connection is open.
        """
        line, self._line = self._line, None
        if line is None or line.connection.state is State.CLOSED:
            return
        with suppress(RequestFailed), self._report.measure(Kind.CONNECTION, name):
            line.close(code, reason)

    def send(self, data: Message, *, name: str = "send") -> None:
        """Send one message: done once it is accepted for writing, as by ``Connection.send``."""
        line = self._open_line()
        with self._report.measure(Kind.SEND, name) as measured:
            measured.length = size_of(data)
            line.connection.send(data)

    def send_confirmed(
        self, data: Message, *, name: str = "send confirmed", timeout: float = _TIMEOUT
    ) -> None:
        """Send one message: done once the server has processed it, as by ``Connection.confirm``."""
        line = self._open_line()
        with self._report.measure(Kind.SEND, name) as measured:
            measured.length = size_of(data)
            line.connection.send(data)
            line.connection.confirm(timeout)

    def receive(
        self, *, match: Match | None = None, name: str = "receive", timeout: float = _TIMEOUT
    ) -> Message:
        """Return the oldest message that nobody has asked for, or the next to come.

        Args:
            match: whether a message is meant; by default each is.
            name: of the event. Its time is how long it took to come since it was asked for.
            timeout: how long to wait for it.
        """
        line = self._open_line()
        with self._report.measure(Kind.RECEIVE, name) as measured:
            return _await(line, match, timeout, measured, kept=True)

    def request(
        self,
        data: Message,
        *,
        reply: Match | None = None,
        name: str = "request",
        timeout: float = _TIMEOUT,
    ) -> Message:
        """Send one message and return its reply: what is timed is the round trip.

        Args:
            data: the message.
            reply: whether a message is the reply; by default the next that comes is.
            name: of the event; its length is that of the reply.
            timeout: how long to wait for the reply.
        """
        line = self._open_line()
        with self._report.measure(Kind.REQUEST, name) as measured:

            def send() -> None:
                line.connection.send(data)

            return _await(line, reply, timeout, measured, kept=False, then=send)

    def _open_line(self) -> _Line:
        line = self._line
        if line is not None and line.is_open:
            return line
        with self._mutex:
            if self._line is None or not self._line.is_open:
                self.connect()
            assert self._line is not None
            return self._line


def _await(
    line: _Line,
    match: Match | None,
    timeout: float,
    measured: Measured,
    *,
    kept: bool,
    then: Callable[[], None] | None = None,
) -> Message:
    line.refuse_on_reader()
    claim = line.mailbox.claim(match, kept=kept)
    try:
        if then is not None:
            then()
        message = claim.wait(timeout)
    finally:
        line.mailbox.withdraw(claim)
    measured.length, measured.response = size_of(message), message
    return message
