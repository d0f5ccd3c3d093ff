"""``TestClient``: what a test says and hears as one user, through the same ``Connection`` as production.

It is made of the public ``wsclient`` alone, so it cannot do what production code could not: no raw socket,
no second writer, no shortcut. Any number of threads may share one.
"""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from wsclient import Connection, Credentials, State, WSClientError
from wsclient.testing.failures import ClosedWhileWaiting, UnparsedMessage, WaitFailed, WaitTimeout
from wsclient.testing.mailbox import Mailbox
from wsclient.testing.transcript import Direction, Transcript, shortened, suspect_deadlock, thread_stacks

__all__ = ["TestClient", "websocket_url"]

__tracebackhide__ = True  # pytest points at the line of the test that has waited, not into this module
_OWN_OPTIONS = ("credentials", "on_message", "on_close", "on_error")
_SCHEMES = (("http", "ws"), ("https", "wss"))


def websocket_url(url: str) -> str:
    """``url`` with ``ws`` for ``http`` and ``wss`` for ``https``, and the path ``/ws`` unless it has one."""
    parts = urlsplit(url)
    scheme = dict(_SCHEMES).get(parts.scheme, parts.scheme)
    path = parts.path if parts.path not in ("", "/") else "/ws"
    return urlunsplit((scheme, parts.netloc, path, parts.query, parts.fragment))


def _check_free(options: dict[str, Any]) -> None:
    for name in _OWN_OPTIONS:
        if name in options:
            raise TypeError(f"option {name!r} is the TestClient's own")


class TestClient:
    """One user of a server under test. A context manager: entering connects, leaving closes.

    Every method may be called from any thread. Times are seconds. Messages are what ``json.loads`` makes of
    what came in; what it cannot parse is kept in ``errors``. A wait that fails raises ``WaitFailed``: it is
    an ``AssertionError`` that says what was awaited and shows the transcript; it is also a ``TimeoutError``
    when time ran out and a ``ConnectionClosed`` when the connection ended first. Before it gives up it asks
    the peer for a pong, for at most another second: if there is none, or a handler of a server in this
    process is stuck, it looks like a deadlock and the stacks of all threads are shown.

    Args:
        user_id, role, session_id: sent as query parameters of these names; the connection's credentials.
        server_url: ``ws``, ``wss``, ``http`` or ``https`` URL; the path is ``/ws`` unless it has one.
        timeout: default of every wait.
        remember: how many of the last messages, read or not, and errors are kept; ``None``: all. Older ones
            are neither found nor shown: for clients that live long.
        options: of ``wsclient.Connection``; ``on_message``, ``on_close``, ``on_error`` and ``credentials``
            are the client's own.

    Raises:
        TypeError, ValueError: an unknown or impossible option, naming it.
    """

    __test__: ClassVar[bool] = False  # its name would make pytest collect it

    def __init__(
        self,
        user_id: str,
        role: str,
        session_id: str,
        server_url: str,
        *,
        timeout: float = 10.0,
        remember: int | None = None,
        **options: Any,
    ) -> None:
        _check_free(options)
        self.user_id: str = user_id
        self.role: str = role
        self.session_id: str = session_id
        self.transcript: Transcript = Transcript()
        self._timeout = timeout
        self._loads: Callable[[str | bytes], Any] = options.get("json_loads", json.loads)
        self._mailbox = Mailbox(_check_remember(remember))
        self._unsent_seen = False  # the test's threads: it has looked at what was not sent
        self._connection = Connection(
            websocket_url(server_url),
            credentials=Credentials(user_id, role, session_id),
            on_message=self._on_message,
            on_close=self._on_close,
            on_error=self._on_error,
            **options,
        )

    # -- opening and closing --------------------------------------------------------------------------

    def connect(self, timeout: float = 10.0) -> TestClient:
        """Connect, and return this client. Once only.

        Raises:
            HandshakeError: the server refused, or there is none; ``HandshakeTimeout`` after ``timeout``.
        """
        try:
            self._connection.open(timeout)
        except WSClientError as error:
            self._note(f"connect failed: {error}")
            self._mailbox.close(1006, str(error))
            raise
        self._note(f"connected to {self._connection.url}")
        return self

    def close(self, code: int = 1000, reason: str = "", timeout: float | None = None) -> None:
        """Write what was accepted, then close. See ``Connection.close``."""
        if self._connection.state is State.OPEN:
            self._note(f"close({code}, {reason!r})")
        self._connection.close(code, reason, timeout)

    def abort(self) -> None:
        """Drop the connection now. See ``Connection.abort``."""
        self._note("abort()")
        self._connection.abort()

    def wait_closed(self, timeout: float | None = None) -> int:
        """Wait until the connection is closed, by whomever, and return the close code."""
        self._check_opened()
        if not self._mailbox.wait_closed(self._seconds(timeout)) or self._mailbox.end is None:
            raise self._failure("the end of the connection", self._seconds(timeout))
        return self._mailbox.end[0]

    def __enter__(self) -> TestClient:
        return self.connect() if self._connection.state is State.NEW else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(1000 if kind is None else 1011)

    # -- sending --------------------------------------------------------------------------------------

    def send_message(
        self, type: str, context: str = "general", content: Any = None, to_user: str | None = None
    ) -> None:
        """Send ``{"type", "context", "content"}``, and ``"to_user"`` if given. Raises as ``send_raw``."""
        message = {"type": type, "context": context, "content": content}
        self.send_json(message if to_user is None else {**message, "to_user": to_user})

    def send_quick_message(self, type: str, text: str) -> None:
        """Send a message whose content is ``{"text": text}``."""
        self.send_message(type, content={"text": text})

    def send_direct_message(self, type: str, text: str, to_user: str) -> None:
        """Send a message to one user whose content is ``{"text": text}``."""
        self.send_message(type, content={"text": text}, to_user=to_user)

    def send_json(self, obj: Any) -> None:
        """Send ``obj`` as JSON text. Raises as ``send_raw``, and what ``json.dumps`` does."""
        self._send(obj, self._connection.send_json)

    def send_raw(self, data: str | bytes) -> None:
        """Send ``str`` as a text message, ``bytes`` as a binary one, as it is.

        Raises:
            SendTimeout: the send queue stayed full.
            ConnectionClosed: the connection is closing or closed.
        """
        self._send(data, self._connection.send)

    def _send(self, message: Any, send: Callable[[Any], None]) -> None:
        self.transcript.note(Direction.SENT, shortened(message))  # first: the answer may be quick
        try:
            send(message)
        except Exception as error:
            self._note(f"not accepted: {error}")
            raise

    # -- receiving ------------------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> Any:
        """Take the oldest unread message.

        Raises:
            WaitFailed: there is none, and none came.
        """
        return self.receive_many(1, timeout)[0]

    def receive_many(self, count: int, timeout: float | None = None) -> list[Any]:
        """Take the ``count`` oldest unread messages together.

        Raises:
            WaitFailed: there were not as many; those that came stay unread.
        """
        self._check_opened()
        seconds = self._seconds(timeout)
        taken = self._mailbox.take(count, seconds)
        if taken is None:
            raise self._failure("a message" if count == 1 else f"{count} messages", seconds)
        return taken

    def wait_for(
        self,
        type: str | None = None,
        from_user: str | None = None,
        where: Callable[[Any], bool] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Take the oldest unread message that fits; those before it stay unread, for later calls.

        Args:
            type, from_user: the message is an object that has these values under these names.
            where: called with the message, in this thread; what it raises is passed on.
            timeout: seconds.

        Raises:
            WaitFailed: none came that fits.
        """
        self._check_opened()
        given = (("type", type), ("from_user", from_user))
        wanted = {name: value for name, value in given if value is not None}
        seconds = self._seconds(timeout)
        found = self._mailbox.take_match(lambda message: _fits(message, wanted, where), seconds)
        if found is None:
            raise self._failure(_described(wanted, where), seconds)
        return found[0]

    def expect_silence(self, duration: float) -> None:
        """Wait ``duration`` seconds in which nothing comes.

        Raises:
            WaitFailed: there was an unread message already (``drain`` first), one came, something came that
                is no JSON, or the connection is closed: then nothing could have come.
        """
        self._check_opened()
        if self._mailbox.wait_noise(duration):
            raise WaitFailed(self._report(f"expected {duration:g} s of silence, but {_noise(self._mailbox)}"))

    def drain(self) -> list[Any]:
        """Take all unread messages."""
        return self._mailbox.drain()

    @property
    def received(self) -> list[Any]:
        """All messages so far, in order, taken or not."""
        return self._mailbox.received

    @property
    def errors(self) -> list[BaseException]:
        """All errors so far: an ``UnparsedMessage`` for what was no JSON, and what the connection reported.

        Looking at them counts as having read them: ``ws_client`` fails a test that left some unread.
        """
        return self._mailbox.look_at_errors()

    # -- observing ------------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The connection under it all."""
        return self._connection

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent."""
        return self._connection.state is State.OPEN

    @property
    def unsent(self) -> tuple[str | bytes, ...]:
        """What was accepted and never written. Looking at it counts as having read it, as with ``errors``."""
        self._unsent_seen = True
        return self._connection.unsent

    def ping(self, timeout: float | None = None) -> float:
        """Round trip of a ping in seconds.

        Raises:
            WaitFailed: no pong came.
            ConnectionClosed: the connection is closed.
        """
        self._check_opened()
        seconds = self._seconds(timeout)
        try:
            return self._connection.ping().result(seconds)
        except concurrent.futures.TimeoutError:
            raise self._failure("a pong", seconds) from None

    def complaints(self) -> list[str]:
        """What a test may not leave behind: unsent messages and errors that it has not looked at."""
        found = [f"error not read: {error}" for error in self._mailbox.unseen_errors()]
        unsent = () if self._unsent_seen else self._connection.unsent
        if unsent:
            found.append(f"{len(unsent)} accepted message(s) lost: {', '.join(map(shortened, unsent[:5]))}")
        return [f"{self}: {complaint}" for complaint in found]

    def __repr__(self) -> str:
        state = self._connection.state.value
        return f"<TestClient {self.user_id} ({self.role}, {self.session_id}) {state}>"

    # -- callbacks: reader thread ---------------------------------------------------------------------

    def _on_message(self, _: Connection, message: str | bytes) -> None:
        self.transcript.note(Direction.RECEIVED, shortened(message))
        try:
            parsed = self._loads(message)
        except Exception as error:
            self._mailbox.add_error(UnparsedMessage(message, error))
        else:
            self._mailbox.add(parsed)

    def _on_close(self, _: Connection, code: int, reason: str) -> None:
        self._note(f"closed with code {code} {reason}".rstrip())
        self._mailbox.close(code, reason)

    def _on_error(self, _: Connection, error: BaseException) -> None:
        self._note(f"error: {error}")
        self._mailbox.add_error(error)

    # -- what a failed wait says ----------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self.transcript.note(Direction.NOTE, text)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def _check_opened(self) -> None:
        if self._connection.state is State.NEW:
            raise WSClientError(f"{self} is not connected: call connect() first")

    def _failure(self, what: str, seconds: float) -> WaitFailed:
        end = self._mailbox.end
        if end is None:
            return WaitTimeout(self._report(f"waited {seconds:g} s for {what} that did not come"))
        text = self._report(f"waited for {what}, but the connection was closed with code {end[0]} {end[1]}")
        return ClosedWhileWaiting(text, *end, self._connection.unsent)

    def _report(self, headline: str) -> str:
        suspicion = suspect_deadlock(self._connection)
        lines = [f"{self}: {headline}", *_inventory(self._mailbox), str(self.transcript)]
        if suspicion:
            lines += [f"this looks like a deadlock: {suspicion}; all threads:", thread_stacks()]
        return "\n".join(lines)


def _check_remember(remember: object) -> int | None:
    if remember is None:
        return None
    if isinstance(remember, bool) or not isinstance(remember, int):
        raise TypeError(f"remember: must be int or None, not {type(remember).__name__}")
    if remember < 1:
        raise ValueError(f"remember: must be at least 1, not {remember}")
    return remember


def _inventory(mailbox: Mailbox) -> list[str]:
    unread = mailbox.unread
    shown = ", ".join(map(shortened, unread[:10])) or "nothing"
    more = f" and {len(unread) - 10} more" if len(unread) > 10 else ""
    return [f"unread: {shown}{more}", *(f"error: {error}" for error in mailbox.unseen_errors())]


def _noise(mailbox: Mailbox) -> str:
    if mailbox.unread:
        return f"there was {shortened(mailbox.unread[0])}"
    if mailbox.end is not None:
        return f"the connection is closed (code {mailbox.end[0]})"
    return "something came that is no JSON, or an error"


def _fits(message: Any, wanted: dict[str, str], where: Callable[[Any], bool] | None) -> bool:
    if wanted and not (
        isinstance(message, dict) and all(message.get(name) == wanted[name] for name in wanted)
    ):
        return False
    return where is None or bool(where(message))


def _described(wanted: dict[str, str], where: Callable[[Any], bool] | None) -> str:
    conditions = [f"{name}={value!r}" for name, value in wanted.items()]
    if where is not None:
        conditions.append(f"where={getattr(where, '__qualname__', where)}")
    return f"a message with {', '.join(conditions)}" if conditions else "a message"
