"""``WebSocket`` and ``create_connection``: websocket-client's blocking style, on ``wsclient.Connection``."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from websocket import (
    ABNF,
    STATUS_NORMAL,
    WebSocketConnectionClosedException,
    WebSocketException,
    getdefaulttimeout,
    isEnabledForTrace,
    trace,
)

from wsclient import Connection, State, WSClientError
from wsclient.compat.errors import refuse, translated
from wsclient.compat.events import Closed, Event, Piece
from wsclient.compat.intake import Intake
from wsclient.compat.link import Link
from wsclient.compat.options import Plan, bounded, check_dispatcher, check_mask_key, check_names
from wsclient.compat.outgoing import (
    Assembly,
    Payload,
    check_code,
    close_parts,
    frame_size,
    message_of,
    reason_text,
    to_bytes,
)

__all__ = ["HandshakeResponse", "WebSocket", "create_connection"]

_TEXT = ABNF.OPCODE_TEXT
_RAW = "wsclient's writer thread alone may touch the socket: use send(), recv(), ping(), close()"
_REFUSED = MappingProxyType(
    {
        "lock": "every method may be called from any thread",
        "readlock": "every method may be called from any thread",
        "frame_buffer": "frames are decoded by wsclient",
        "cont_frame": "messages are assembled by wsclient",
        "sock_opt": "settimeout() and gettimeout() are there",
    }
)


@dataclass(frozen=True)
class HandshakeResponse:
    """The server's answer to the opening handshake."""

    status: int
    headers: dict[str, str]
    subprotocol: str | None


class WebSocket:
    """A connection in websocket-client's blocking style. Every method may be called from any thread.

    For the arguments see docs/migrating.md. Times are seconds. ``connection`` is the ``wsclient.Connection``.
    """

    connection: Connection | None = None  # the thread that connects; any reads

    def __init__(
        self,
        get_mask_key: Callable[[int], Any] | None = None,
        sockopt: Any = None,
        sslopt: dict[str, Any] | None = None,
        fire_cont_frame: bool = False,
        enable_multithread: bool = True,
        skip_utf8_validation: bool = False,
        dispatcher: Any = None,
        **_: Any,
    ) -> None:
        self.wsclient_link: Link | None = None  # the thread that connects or closes; any reads
        _check_made_with(get_mask_key, dispatcher, _)
        # settimeout(): any thread, replaced whole.
        self.__plan = Plan(tuple(sockopt or ()), dict(sslopt or {}), None)
        self.__send_timeout: float | None = bounded(None)
        self.__in_pieces = fire_cont_frame
        self.connected: bool = False  # whoever connects, closes, or takes the end of the connection
        self.close_frame: ABNF | None = None  # the same
        self.handshake_response: HandshakeResponse | None = None  # the thread that connects
        self.get_mask_key: None = None
        self.dispatcher: None = None
        self.__intake: Intake | None = None  # the thread that connects; any reads
        self.__cancelled = False  # any thread, before it looks for the link; the thread that connects, after
        self.__sending = threading.Lock()
        self.__assembly = Assembly()  # __sending

    # -- opening --------------------------------------------------------------------------------------

    def connect(self, url: str, **options: Any) -> None:
        """Connect. Raises websocket-client's exceptions; ``NotSupported`` for what cannot be honoured."""
        self.settimeout(options.get("timeout", self.timeout))
        link = Link(url, self.__plan.options(url, options), in_pieces=self.__in_pieces)
        self.shutdown()
        self.wsclient_link, self.__intake = link, Intake(link.events)
        if self.__cancelled:
            link.abort()
        try:
            link.open(has_to_choose=bool(options.get("subprotocols")))
        except BaseException:
            self.wsclient_link = None
            raise
        self.__opened(link.connection)

    def wsclient_cancel(self) -> None:
        """End a ``connect`` that is under way, or about to be, for good. Any thread."""
        self.__cancelled = True
        if (link := self.wsclient_link) is not None:
            link.cancel()

    def __opened(self, connection: Connection) -> None:
        self.connection = connection
        self.handshake_response = _response_of(connection)
        self.close_frame, self.__assembly = None, Assembly()
        # It is an option of the connection; to give it with each message would cost time.
        self.__send_timeout = None if self.timeout != 0 else 0.0
        self.connected = True
        trace(f"connected to {connection.url}")

    # -- sending --------------------------------------------------------------------------------------

    def send(self, payload: Payload, opcode: int = ABNF.OPCODE_TEXT) -> int:
        """Send one message, or a control frame; returns its size on the wire in bytes.

        It returns once the message is accepted for writing, and waits while too many wait.
        """
        if payload.__class__ is str and opcode == _TEXT:
            return self.__accept(payload)
        if opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY):
            return self.__accept(message_of(payload, opcode))
        return self.send_frame(ABNF.create_frame(to_bytes(payload, opcode), opcode))

    def send_text(self, text_data: str) -> int:
        """Send a text message."""
        return self.send(text_data, ABNF.OPCODE_TEXT)

    def send_bytes(self, data: bytes | bytearray) -> int:
        """Send a binary message."""
        return self.send(data, ABNF.OPCODE_BINARY)

    def send_binary(self, payload: bytes) -> int:
        """Send a binary message."""
        return self.send(payload, ABNF.OPCODE_BINARY)

    def send_frame(self, frame: ABNF) -> int:
        """Send a frame; those of a fragmented message go out together, as one, when the last one is there."""
        if frame.opcode in (ABNF.OPCODE_PING, ABNF.OPCODE_PONG):
            return self.__control(frame.opcode, frame.data)
        if frame.opcode == ABNF.OPCODE_CLOSE:
            self.send_close(*close_parts(to_bytes(frame.data, frame.opcode)))
            return frame_size(len(frame.data))
        with self.__sending:
            message = self.__assembly.add(frame)
        size = frame_size(len(to_bytes(frame.data, frame.opcode)))
        if message is not None:
            self.__accept(message)
        return size

    def __accept(self, message: str | bytes) -> int:
        link = self.wsclient_link if self.connected else None
        if link is None:
            link = self.__open_link()
        if isEnabledForTrace():
            trace(f"++Sent: {message!r}")
        try:
            link.connection.send(message, timeout=self.__send_timeout)
        except WSClientError as error:
            raise translated(error) from error
        size = len(message)
        if message.__class__ is str and not message.isascii():
            size = len(message.encode())
        return frame_size(size)

    def __control(self, opcode: int, payload: Payload) -> int:
        data = to_bytes(payload, opcode)
        try:
            self.__open_link().connection.send_control(opcode, data)
        except WSClientError as error:
            raise translated(error) from error
        return frame_size(len(data))

    def __open_link(self) -> Link:
        link = self.wsclient_link
        if link is None or not self.connected:
            raise WebSocketConnectionClosedException("socket is already closed.")
        return link

    def ping(self, payload: str | bytes = "") -> None:
        """Send a ping of at most 125 bytes."""
        self.__control(ABNF.OPCODE_PING, payload)

    def pong(self, payload: str | bytes = "") -> None:
        """Send a pong of at most 125 bytes. Pings are answered without it."""
        self.__control(ABNF.OPCODE_PONG, payload)

    # -- receiving ------------------------------------------------------------------------------------

    def recv(self) -> str | bytes:
        """The next message; ``""`` once when the server has closed the connection."""
        while True:
            intake, event = self.__take()
            if isinstance(event, (str, bytes)) and not isEnabledForTrace():
                return event
            frame = self.__frame_of(intake, event)
            if frame is not None and frame.opcode < ABNF.OPCODE_PING:
                return _value_of(event)

    def recv_data(self, control_frame: bool = False) -> tuple[int, bytes]:
        """Opcode and payload of the next message or close frame, or, if wanted, ping or pong."""
        opcode, frame = self.recv_data_frame(control_frame)
        return opcode, to_bytes(frame.data, opcode)

    def recv_data_frame(self, control_frame: bool = False) -> tuple[int, ABNF]:
        """As ``recv_data``, with the payload in a frame."""
        while True:
            frame = self.__frame_of(*self.__take())
            if frame is not None and (control_frame or frame.opcode < ABNF.OPCODE_PING):
                return frame.opcode, frame

    def recv_frame(self) -> ABNF:
        """The next message, ping, pong or close frame, each as one frame."""
        return self.recv_data_frame(control_frame=True)[1]

    def __take(self) -> tuple[Intake, Event]:
        intake = self.__intake
        if intake is None or self.wsclient_link is None:
            raise WebSocketConnectionClosedException("Connection is closed")
        return intake, intake.take(self.timeout)

    def __frame_of(self, intake: Intake, event: Event) -> ABNF | None:
        if isinstance(event, Closed):
            self.connected = False
        return intake.frame_of(event)

    def __iter__(self) -> Iterator[str | bytes]:
        """Yield messages for ever: it ends with an exception."""
        while True:
            yield self.recv()

    def next(self) -> str | bytes:
        """The next message."""
        return self.recv()

    __next__ = next

    # -- closing --------------------------------------------------------------------------------------

    def send_close(self, status: int = STATUS_NORMAL, reason: str | bytes = b"") -> None:
        """Begin to close, and return at once; ``recv`` goes on until the server's close frame."""
        check_code(status)
        link, text = self.__open_link(), reason_text(reason)
        self.connected = False
        link.begin_close(status, text)

    def close(
        self, status: int = STATUS_NORMAL, reason: str | bytes = b"", timeout: float | None = 3
    ) -> None:
        """Write what was accepted, close, and wait up to ``timeout`` seconds for the server's close frame."""
        check_code(status)
        link = self.wsclient_link
        if link is None:
            return
        if self.connected or link.is_closing:
            self.connected = False
            link.close(status, reason_text(reason), bounded(timeout))
            self.close_frame = link.end.frame if link.end is not None else None
        else:
            link.abort()
        self.wsclient_link = None

    def abort(self) -> None:
        """Drop the connection; wakes threads that wait in ``recv``."""
        if (link := self.wsclient_link) is not None:
            link.abort()

    def shutdown(self) -> None:
        """End the connection without a close frame, once what was accepted is written, if it can be soon."""
        link, self.wsclient_link = self.wsclient_link, None
        self.connected = False
        if link is not None:
            link.flush_and_abort()

    def __enter__(self: W) -> W:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        link = getattr(self, "wsclient_link", None)
        if link is None or link.connection.state in (State.NEW, State.CLOSED):
            return
        link.abandon()
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def settimeout(self, timeout: float | None) -> None:
        """How long ``recv`` waits, and ``send`` while there is no room; ``None``: for ever."""
        if timeout is not None and timeout < 0:
            raise ValueError("Timeout value out of range")
        self.__plan = Plan(self.__plan.sockopt, self.__plan.sslopt, timeout)
        self.__send_timeout = bounded(timeout)

    def gettimeout(self) -> float | None:
        """What ``settimeout`` has set."""
        return self.__plan.timeout

    timeout: property = property(gettimeout, settimeout)

    def getstatus(self) -> int | None:
        """HTTP status of the opening handshake."""
        return self.handshake_response.status if self.handshake_response else None

    status: property = property(getstatus)

    def getheaders(self) -> dict[str, str] | None:
        """Headers of the server's answer, names in lower case."""
        return self.handshake_response.headers if self.handshake_response else None

    headers: property = property(getheaders)

    def getsubprotocol(self) -> str | None:
        """The subprotocol that the server chose."""
        return self.handshake_response.subprotocol if self.handshake_response else None

    subprotocol: property = property(getsubprotocol)

    def is_ssl(self) -> bool:
        """Whether the connection is over TLS."""
        return self.connection is not None and self.connection.url.startswith("wss:")

    @property
    def sock(self) -> None:
        """``None`` while there is no connection; refused otherwise."""
        if self.connected:
            refuse("WebSocket.sock, the raw socket,", _RAW)

    def fileno(self) -> int:
        """Refused."""
        if not self.connected:
            raise WebSocketException("Connection not established")
        refuse("WebSocket.fileno()", _RAW)

    def set_mask_key(self, func: Callable[[int], Any]) -> None:
        """Refused."""
        check_mask_key(func)

    if not TYPE_CHECKING:  # a type checker is to say that they are not there

        def __getattr__(self, name: str) -> NoReturn:
            if name in _REFUSED:
                refuse(f"WebSocket.{name}", _REFUSED[name])
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


W = TypeVar("W", bound=WebSocket)


def _check_made_with(get_mask_key: object, dispatcher: object, others: Iterable[str]) -> None:
    check_mask_key(get_mask_key)
    check_dispatcher(dispatcher)
    check_names(others)


def _response_of(connection: Connection) -> HandshakeResponse:
    return HandshakeResponse(101, dict(connection.response_headers), connection.subprotocol)


def _value_of(event: Event) -> str | bytes:
    # As there: nothing of a continuation, or of a close frame.
    if isinstance(event, Piece):
        return event.data if event.first else ""
    return event if isinstance(event, (str, bytes)) else ""


@overload
def create_connection(url: str, timeout: float | None = None, **options: Any) -> WebSocket: ...
@overload
def create_connection(
    url: str, timeout: float | None = None, class_: Callable[..., W] = ..., **options: Any
) -> W: ...
def create_connection(
    url: str, timeout: float | None = None, class_: Callable[..., Any] = WebSocket, **options: Any
) -> Any:
    """Make a ``WebSocket`` (a ``class_``) and connect it. ``timeout`` defaults to ``getdefaulttimeout()``."""
    made = {
        "sockopt": options.pop("sockopt", []),
        "sslopt": options.pop("sslopt", {}),
        "fire_cont_frame": options.pop("fire_cont_frame", False),
        "enable_multithread": options.pop("enable_multithread", True),
        "skip_utf8_validation": options.pop("skip_utf8_validation", False),
    }
    found = class_(**made, **options)
    found.settimeout(timeout if timeout is not None else getdefaulttimeout())
    found.connect(url, **options)
    return found
