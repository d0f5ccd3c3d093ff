"""``Connection``: the public face. It checks arguments and passes on; the work is done in ``session``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from wsclient.exceptions import ConnectionClosed, WSClientError
from wsclient.frames import encode_close
from wsclient.lifecycle import ClosedBy, State
from wsclient.options import Credentials, Options, check_timeout
from wsclient.outbox import BytesLike, Message, to_item, to_ping_payload
from wsclient.receive_stream import Incoming, ReceiveStream
from wsclient.send_stream import SendStream
from wsclient.session import Session, credentials_of, drop_and_wait, forgotten, receive, snapshot
from wsclient.stats import Stats

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from wsclient.keywords import Keywords

__all__ = ["Connection", "connect"]

_NORMAL_CODES = (1000, 1001)


def connect(url: str | Callable[[], str], **options: Unpack[Keywords]) -> Connection:
    """Open a connection and return it. A context manager: leaving it closes the connection.

    Args:
        url: ``ws://`` or ``wss://`` URL, or a callable that is asked for it at each connect.
        options: those of ``Options``; an unknown one is a ``TypeError``.

    Raises:
        HandshakeError: the server refused, or answered wrongly.
        HandshakeTimeout: not open within ``open_timeout`` seconds.
        ConnectFailed: DNS, TCP, the proxy or TLS failed.
    """
    connection = Connection(url, **options)
    connection.open()
    return connection


class Connection:
    """One WebSocket connection with one writer thread and one reader thread. Takes what ``connect`` takes.

    Every method may be called from any thread and from any callback. Times are seconds, sizes bytes.
    """

    def __init__(self, url: str | Callable[[], str], **options: Unpack[Keywords]) -> None:
        self._options = Options.from_kwargs(options)
        self._session = Session(url, self._options)
        self._credentials: Credentials | None = None  # any thread, replaced whole
        self._send_timeout = self._options.send_timeout
        self._put = self._session.parts.outbox.put
        self._incoming = (  # only where it is needed: an idle connection shall cost little
            None if self._options.assemble else Incoming(partial(receive, self._session, what="recv_stream"))
        )

    # -- opening and closing --------------------------------------------------------------------------

    def open(self, timeout: float | None = None) -> None:
        """Connect, and return once the connection is open and ``on_open`` has returned, or its time is up.

        Args:
            timeout: for all of DNS, TCP, proxy, TLS and upgrade together; by default ``open_timeout``.

        Raises:
            HandshakeError: and its kinds, as ``connect``.
            WSClientError: it was opened before.
        """
        self._session.parts.check_not_forked()
        if self._session.parts.callbacks.any:
            self._session.parts.callbacks.connection = self  # the threads keep it alive for its callbacks
        self._session.open(self._options.open_timeout if timeout is None else check_timeout(timeout))

    def close(self, code: int = 1000, reason: str = "", timeout: float | None = None) -> None:
        """Refuse new messages, write what was accepted, then a close frame, and wait for the peer's.

        Returns at the latest 0.5 s after ``timeout``; then the connection has been dropped, ``unsent`` lists
        what was not written, and nothing is raised: look there, or ``flush`` before. Called by a callback, or
        by one of a future, it returns at once and the closing goes on. Closing again does nothing but wait.

        Args:
            code: 1000, another code that an endpoint may send, or 3000 to 4999 (RFC 6455, section 7.4).
            reason: at most 123 bytes of UTF-8.
            timeout: by default ``close_timeout``.

        Raises:
            ValueError: bad code or reason.
        """
        session = self._session
        session.parts.check_not_forked()
        encode_close(code, reason)
        patience = self._options.close_timeout if timeout is None else check_timeout(timeout)
        session.begin_close(code, reason, patience)
        if not (session.threads.are_calling() or session.wait_finished(patience)):
            drop_and_wait(self._session)

    def abort(self) -> None:
        """Drop the connection now, without a closing handshake. ``unsent`` lists what was not written."""
        self._session.parts.check_not_forked()
        drop_and_wait(self._session)

    def __enter__(self: Connection) -> Connection:
        if self.state is State.NEW:
            self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if not self._session.parts.is_forked:
            self.close(1000 if kind is None else 1011)

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None:
            forgotten(session, self)

    # -- sending --------------------------------------------------------------------------------------

    def send(
        self, data: str | BytesLike, *, timeout: float | None = None, expire: float | None = None
    ) -> None:
        """Accept one message for writing: ``str`` as text, bytes-like as binary.

        Returns as soon as it is accepted. From then on it is either written or handed back by ``unsent``.

        Args:
            data: the message. Other bytes-like objects than ``bytes`` are copied.
            timeout: how long to wait while the queue is full; by default ``send_timeout``.
            expire: seconds after which it is worthless. One that could not be written by then is given to
                ``on_dropped`` and counted (``stats().expired_messages``), not written.

        Raises:
            SendTimeout: the queue stayed full; the message was not accepted.
            QueueFull: the same at once, with ``overflow="raise"`` and in callbacks of futures.
            ConnectionClosed: the connection is closing or closed; the message was not accepted.
            WSClientError: the connection is not open yet.
            UnicodeEncodeError: text that UTF-8 cannot express.
        """
        kind = data.__class__
        plain = kind is bytes or (kind is str and data.isascii())  # type: ignore[union-attr]
        limit = self._send_timeout if timeout is None else check_timeout(timeout)
        if expire is not None:
            self._session.parts.outbox.put_expiring(to_item(data), limit, check_timeout(expire, "expire"))
            return
        self._put(data if plain else to_item(data), True, limit)  # type: ignore[arg-type]

    def send_future(self, data: str | BytesLike, *, expire: float | None = None) -> Future[None]:
        """Accept one message as ``send`` does, and return its receipt.

        The future is resolved once the message is written to the socket, and failed with
        ``ConnectionClosed`` when it never will be, or ``SendTimeout`` when it expired (see ``send``). Its
        callbacks run on the writer thread, or a sending one that needs the room: keep them short, lock-free.
        """
        seconds = math.inf if expire is None else check_timeout(expire, "expire")
        return self._session.parts.outbox.put_with_receipt(to_item(data), self._send_timeout, seconds)

    def send_json(self, obj: Any, *, timeout: float | None = None) -> None:
        """Send ``obj`` as JSON text, serialized by ``json_dumps`` in the calling thread. See ``send``."""
        text = self._options.json_dumps(obj)
        self.send(text if isinstance(text, str) else bytes(text).decode(), timeout=timeout)

    def send_stream(self, text: bool = False) -> SendStream:
        """Begin one message that is written piece by piece: ``with conn.send_stream() as stream``.

        It takes its place behind everything accepted so far; what other threads send after it waits for its
        end (RFC 6455, section 5.4), with their own time-outs. Control frames do not wait. With ``text`` it is
        a text message, of ``str``. Raises as ``send``, and ``WSClientError`` in a callback of a future.
        """
        return SendStream(self._session, text, self)

    def flush(self, timeout: float = 10.0) -> None:
        """Return when everything accepted before has been written to the socket.

        Raises:
            Timeout: that took longer.
            ConnectionClosed: the connection ended first.
            Disconnected: called by a callback, and the connection is lost: it is opened again after that.
            WSClientError: in a callback of a future.
        """
        in_callback = self._session.check_may_wait("flush")
        self._session.parts.outbox.flush(check_timeout(timeout), in_callback=in_callback)

    def confirm(self, timeout: float = 10.0) -> float:
        """Return when the peer has processed everything accepted before, with the round trip in seconds.

        It writes a ping behind all that, and waits for its pong (RFC 6455, section 5.5.2).

        Raises:
            Timeout: no pong in time.
            ConnectionClosed: the connection ended first.
            Disconnected: it was lost, and ``delivery`` does not send again, or a callback waits.
            WSClientError: called on a thread that would have to write the ping or read the pong.
        """
        in_callback = self._session.check_may_wait("confirm")
        self._session.threads.refuse_on_reader("confirm")
        return self._session.parts.outbox.confirm(check_timeout(timeout), in_callback=in_callback)

    def ping(self, payload: str | BytesLike | None = None) -> Future[float]:
        """Send a ping ahead of all queued messages; the future is its round trip in seconds.

        Args:
            payload: at most 125 bytes; random by default. Each ping under way needs its own.

        Raises:
            ConnectionClosed: the connection is closing or closed.
            ValueError: payload too long, or already under way. ``QueueFull``: thousands of pings are.
        """
        self._session.parts.check_not_forked()
        return self._session.parts.outbox.ping(None if payload is None else to_ping_payload(payload))

    def send_control(self, opcode: int, payload: str | BytesLike = b"") -> None:
        """Send a ping (9) or pong (10) ahead of all messages, and await nothing. Raises as ``ping``."""
        self._session.parts.check_not_forked()
        self._session.parts.outbox.put_control(opcode, to_ping_payload(payload))

    # -- receiving ------------------------------------------------------------------------------------

    def recv(self, timeout: float | None = None) -> Message:
        """Return the next message: ``str`` for text, ``bytes`` for binary. Only without ``on_message``.

        Messages that came before the connection was closed are returned first.

        Raises:
            Timeout: (a ``TimeoutError``) none came within ``timeout`` seconds.
            ConnectionClosed: none is left; also ``ProtocolError`` and ``MessageTooBig``.
            Disconnected: called by a callback, and the connection is lost. See ``flush``.
        """
        if not self._options.assemble:
            raise WSClientError("recv() needs assemble=True: use recv_stream()")
        return cast("Message", receive(self._session, None if timeout is None else check_timeout(timeout)))

    def recv_stream(self, timeout: float | None = None) -> ReceiveStream:
        """Return the next message as a stream of its pieces: ``with conn.recv_stream() as stream``.

        Only with ``assemble=False``, and without ``on_fragment``. One at a time: iterate a stream to its end,
        or leave its ``with`` block, before the next. Raises as ``recv``.

        Args:
            timeout: seconds to wait for the message to begin, and then for each piece.
        """
        if self._incoming is None:
            raise WSClientError("recv_stream() needs assemble=False: use recv()")
        return self._incoming.begin(None if timeout is None else check_timeout(timeout), self)

    def recv_json(self, timeout: float | None = None) -> Any:
        """Return the next message, parsed by ``json_loads`` in the calling thread. See ``recv``."""
        return self._options.json_loads(self.recv(timeout))

    def __iter__(self) -> Iterator[Message]:
        """Yield messages; ends at a normal close (1000, 1001), raises ``ConnectionClosed`` otherwise."""
        while True:
            try:
                message = self.recv()
            except ConnectionClosed as error:
                if error.code in _NORMAL_CODES:
                    return
                raise
            yield message

    # -- identity and observation ---------------------------------------------------------------------

    def set_credentials(self, user_id: str, role: str, session_id: str) -> None:
        """Say who uses this connection, from now on. Nothing is sent."""
        self._credentials = Credentials(user_id, role, session_id)

    @property
    def credentials(self) -> Credentials | None:
        """Identity of this connection: as set, or else as presented to the server."""
        return credentials_of(self._session, self._credentials)

    @property
    def is_authenticated(self) -> bool:
        """Whether there are credentials."""
        return self.credentials is not None

    @property
    def url(self) -> str:
        """Where it is connected to, after redirects; without userinfo and query values."""
        return self._session.shown_url

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._session.parts.lifecycle.state

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose (RFC 6455, section 1.9)."""
        return self._session.upgraded.subprotocol if self._session.upgraded else None

    @property
    def response_headers(self) -> Mapping[str, str]:
        """Headers of the server's handshake response, names in lower case; empty before it came."""
        return self._session.upgraded.headers if self._session.upgraded else {}

    @property
    def latency(self) -> float | None:
        """Last round trip of a ping in seconds, ``None`` before the first."""
        return self._session.parts.keepalive.latency

    @property
    def queued_messages(self) -> int:
        """Messages that wait to be written."""
        return len(self._session.parts.queue.queue)

    @property
    def queued_bytes(self) -> int:
        """Their payload bytes."""
        return self._session.parts.queue.front.queued_bytes()

    @property
    def unsent(self) -> tuple[Message, ...]:
        """What was accepted and never fully written, in order; empty before the connection is closed."""
        return self._session.parts.lifecycle.unsent

    @property
    def in_doubt(self) -> tuple[Message, ...]:
        """With ``reconnect``: what was written and may not have arrived, once the connection is closed."""
        return self._session.parts.lifecycle.in_doubt

    @property
    def close_code(self) -> int | None:
        """Close code (RFC 6455, section 7.1.5), ``None`` before the connection is closing."""
        return self._session.parts.lifecycle.code

    @property
    def close_reason(self) -> str:
        """Close reason."""
        return self._session.parts.lifecycle.reason

    @property
    def closed_by(self) -> ClosedBy | None:
        """Who ended the connection, ``None`` before it is closing."""
        return self._session.parts.lifecycle.closed_by

    def stats(self) -> Stats:
        """Count what has happened so far."""
        return snapshot(self._session)

    def __repr__(self) -> str:
        return f"<wsclient.Connection {self._session.parts.name} {self.url} {self.state.value}>"
