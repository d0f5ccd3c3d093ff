"""``WebSocketApp``: the callbacks of websocket-client, on ``wsclient.Connection``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from websocket import ABNF, WebSocketConnectionClosedException, WebSocketException

from wsclient.compat.blocking import WebSocket
from wsclient.compat.defaults import default_reconnect
from wsclient.compat.errors import refuse
from wsclient.compat.options import check_dispatcher, check_mask_key
from wsclient.compat.outgoing import Payload, to_bytes
from wsclient.compat.running import Run, Settings

if TYPE_CHECKING:
    import socket as sockets

__all__ = ["WebSocketApp"]

_MAX_PING: Final = 125  # RFC 6455, section 5.5

Callback: TypeAlias = Callable[..., Any]
Header: TypeAlias = "Sequence[str] | Mapping[str, str | None]"


class WebSocketApp:
    """A connection that calls back. ``send`` and ``close`` may be called from any thread and any callback.

    The callbacks run on the thread that called ``run_forever``, in the order in which things came, each with
    the app first. For the arguments see docs/migrating.md.
    """

    # Two underscores: a subclass may call its own anything. Here: one may set keep_running before __init__.
    __keeps_running = False  # the application, and the thread of run_forever
    __run: Run | None = None  # the thread of run_forever; any reads

    def __init__(
        self,
        url: str,
        header: Header | Callable[[], Header] | None = None,
        on_open: Callback | None = None,
        on_reconnect: Callback | None = None,
        on_message: Callback | None = None,
        on_error: Callback | None = None,
        on_close: Callback | None = None,
        on_ping: Callback | None = None,
        on_pong: Callback | None = None,
        on_cont_message: Callback | None = None,
        keep_running: bool = True,
        get_mask_key: Callable[[int], Any] | None = None,
        cookie: str | None = None,
        subprotocols: list[str] | None = None,
        on_data: Callback | None = None,
        socket: sockets.socket | None = None,
    ) -> None:
        check_mask_key(get_mask_key)
        # The application's, which may replace them at any time.
        self.url = url
        self.header: Header | Callable[[], Header] = header if header is not None else []
        self.cookie = cookie
        self.subprotocols = subprotocols
        self.prepared_socket = socket
        self.get_mask_key: None = None
        self.on_open = on_open
        self.on_reconnect = on_reconnect
        self.on_message = on_message
        self.on_data = on_data
        self.on_error = on_error
        self.on_close = on_close
        self.on_ping = on_ping
        self.on_pong = on_pong
        self.on_cont_message = on_cont_message
        # The thread of run_forever writes what follows, close() also the first three; any reads.
        self.sock: WebSocket | None = None
        self.__keeps_running = False
        self.last_close_frame: ABNF | None = None
        self.last_ping_tm: float = 0.0  # time.time(); the thread that pings
        self.last_pong_tm: float = 0.0  # time.time()
        self.ping_thread: threading.Thread | None = None
        self.stop_ping: threading.Event | None = None
        self.ping_interval: float = 0.0
        self.ping_timeout: float | None = None
        self.ping_payload: str | bytes = ""
        self.has_errored: bool = False
        self.has_done_teardown: bool = False
        self.has_done_teardown_lock: threading.Lock = threading.Lock()

    @property
    def keep_running(self) -> bool:
        """Whether ``run_forever`` goes on. Setting it to ``False``, from any thread, ends it soon."""
        return self.__keeps_running

    @keep_running.setter
    def keep_running(self, value: bool) -> None:
        self.__keeps_running = value
        run = self.__run
        if not value and run is not None:
            run.wake()

    def send(self, data: Payload, opcode: int = ABNF.OPCODE_TEXT) -> None:
        """Send one message.

        Raises:
            WebSocketConnectionClosedException: there is no connection (yet, or any more).
            WebSocketTimeoutException: too many messages wait, and a default time-out is set.
        """
        sock = self.sock
        if sock is None:
            raise WebSocketConnectionClosedException("Connection is already closed.")
        sock.send(data, opcode)

    def send_text(self, text_data: str) -> None:
        """Send a text message. Raises as ``send``."""
        self.send(text_data, ABNF.OPCODE_TEXT)

    def send_bytes(self, data: bytes | bytearray) -> None:
        """Send a binary message. Raises as ``send``."""
        self.send(data, ABNF.OPCODE_BINARY)

    def close(self, **kwargs: Any) -> None:
        """End ``run_forever``: write what was accepted, close, and wait for the server's close frame.

        Args:
            kwargs: of ``WebSocket.close``: ``status``, ``reason``, ``timeout`` (3 seconds by default).
        """
        self.keep_running = False
        sock = self.sock
        if sock is not None:
            sock.close(**kwargs)
            if sock.close_frame is not None:
                self.last_close_frame = sock.close_frame
            self.sock = None

    def ready(self) -> bool | None:
        """Whether there is a connection."""
        sock = self.sock
        return sock.connected if sock is not None else None

    def run_forever(
        self,
        sockopt: Any = None,
        sslopt: dict[str, Any] | None = None,
        ping_interval: float = 0,
        ping_timeout: float | None = None,
        ping_payload: str | bytes = "",
        http_proxy_host: str | None = None,
        http_proxy_port: int | str | None = None,
        http_no_proxy: list[str] | None = None,
        http_proxy_auth: tuple[str, str] | None = None,
        http_proxy_timeout: float | None = None,
        skip_utf8_validation: bool = False,
        host: str | None = None,
        origin: str | None = None,
        dispatcher: Any = None,
        suppress_origin: bool = False,
        suppress_host: bool = False,
        proxy_type: str | None = None,
        reconnect: float | None = None,
    ) -> bool:
        """Connect, call back, and return once the connection is closed.

        Args:
            reconnect: seconds after which a connection that was not opened, or has ended however it did, is
                tried again, until ``close()``; 0 for never.

        Returns:
            Whether there was an error. A server's close frame is none.

        Raises:
            WebSocketException: it runs already, or bad ping options.
            NotSupported: an option that cannot be honoured.
            TypeError, ValueError: a bad option.
        """
        _check_pings(ping_interval, ping_timeout, ping_payload)
        check_dispatcher(dispatcher)
        if self.sock is not None:
            raise WebSocketException("socket is already opened")
        self.ping_interval, self.ping_timeout = ping_interval, ping_timeout
        self.ping_payload = ping_payload
        settings = Settings(
            sockopt=tuple(sockopt or ()),
            sslopt=dict(sslopt or {}),
            bytes_for_text=skip_utf8_validation,
            reconnect=default_reconnect() if reconnect is None else reconnect,
            connect={
                "http_proxy_host": http_proxy_host,
                "http_proxy_port": http_proxy_port,
                "http_no_proxy": http_no_proxy,
                "http_proxy_auth": http_proxy_auth,
                "http_proxy_timeout": http_proxy_timeout,
                "host": host,
                "origin": origin,
                "suppress_origin": suppress_origin,
                "suppress_host": suppress_host,
                "proxy_type": proxy_type,
            },
        )
        return self.__run_with(settings)

    def __run_with(self, settings: Settings) -> bool:
        settings.check(self)
        self.has_done_teardown = self.has_errored = False
        self.last_close_frame = None
        before = self.__run  # on_close may run it again
        self.__run = Run(self, settings)
        self.__keeps_running = True
        try:
            return self.__run.forever()
        finally:
            self.__run = before

    def create_dispatcher(self, *args: Any, **kwargs: Any) -> None:
        """Refused."""
        refuse("WebSocketApp.create_dispatcher()", "run_forever() has a loop of its own")


def _check_pings(interval: float, timeout: float | None, payload: str | bytes) -> None:
    if len(to_bytes(payload, ABNF.OPCODE_PING)) > _MAX_PING:
        raise ValueError("ping_payload: must have at most 125 bytes")
    if timeout is not None and timeout <= 0:
        raise WebSocketException("Ensure ping_timeout > 0")
    if interval is not None and interval < 0:
        raise WebSocketException("Ensure ping_interval >= 0")
    if timeout and interval and interval <= timeout:
        raise WebSocketException("Ensure ping_interval > ping_timeout")
