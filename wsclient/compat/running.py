"""The loop of ``run_forever``. Everything here runs on its thread, unless it says otherwise."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from websocket import ABNF, WebSocketConnectionClosedException, getdefaulttimeout, isEnabledForTrace, trace

from wsclient import Connection
from wsclient.compat.blocking import WebSocket
from wsclient.compat.errors import translated
from wsclient.compat.events import Closed, Control, Event, Failed, Piece, Wake
from wsclient.compat.link import Link
from wsclient.compat.options import Plan, bounded
from wsclient.compat.outgoing import close_parts, to_bytes
from wsclient.compat.pings import Pinger

if TYPE_CHECKING:
    from wsclient.compat.app import WebSocketApp

__all__ = ["Run", "Settings"]

_LOG: Final = logging.getLogger("wsclient.compat")
_CLOSE_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Settings:
    """What ``run_forever`` was told."""

    sockopt: tuple[Any, ...]
    sslopt: Mapping[str, Any]
    bytes_for_text: bool
    reconnect: float
    connect: Mapping[str, Any]

    def check(self, app: WebSocketApp) -> None:
        """Raise for what could never work, before anything is tried."""
        if self.reconnect < 0:
            raise ValueError("reconnect: must be a number of seconds, 0 or more")
        plan = Plan(self.sockopt, self.sslopt, getdefaulttimeout())
        Connection(app.url, **plan.options(app.url, self.options(app, ())))

    def options(self, app: WebSocketApp, header: Any) -> dict[str, Any]:
        """Options of one ``WebSocket.connect``."""
        return {
            **self.connect,
            "header": header,
            "cookie": app.cookie,
            "subprotocols": app.subprotocols,
            "socket": app.prepared_socket,
        }


class Run:
    """One call of ``run_forever``."""

    def __init__(self, app: WebSocketApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._awake = threading.Event()  # set when keep_running is False: any thread
        self._link: Link | None = None  # read by any
        self._sock: WebSocket | None = None  # the same; close() takes it from the app
        self._pinger: Pinger | None = None

    def wake(self) -> None:
        """Look at ``keep_running`` again. Any thread."""
        self._awake.set()
        link, sock = self._link, self._sock
        if link is not None:
            link.events.tell(Wake())
        elif sock is not None:
            sock.wsclient_cancel()

    def forever(self) -> bool:
        """Connect and read, again and again if wanted. Returns whether there was an error."""
        try:
            self._one_link(again=False)
            while self._settings.reconnect and self._app.keep_running:
                if not self._awake.wait(bounded(self._settings.reconnect)):
                    self._one_link(again=True)
        except KeyboardInterrupt:  # on_error has been told, unless it came between two links
            _LOG.info("interrupted")
        finally:
            self._tear_down(None)
        return self._app.has_errored

    def _one_link(self, again: bool) -> None:
        try:
            link = self._connect()
            if self._awake.is_set():  # closed meanwhile
                return
            self._start_pings(link)
            self._greet(again)
            self._read(link)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            # What fails because close() was called meanwhile is no error.
            if self._app.keep_running or not isinstance(error, Exception):
                self._disconnected(error, again)

    def _connect(self) -> Link:
        app, settings = self._app, self._settings
        sock = WebSocket(
            sockopt=settings.sockopt,
            sslopt=dict(settings.sslopt),
            fire_cont_frame=app.on_cont_message is not None,
        )
        app.sock = self._sock = sock
        app.last_close_frame = None
        sock.settimeout(getdefaulttimeout())
        header = app.header() if callable(app.header) else app.header
        sock.connect(app.url, **settings.options(app, header))
        link = sock.wsclient_link
        if link is None:  # closed at that moment, by another thread
            raise WebSocketConnectionClosedException("Connection is closed")
        self._link = link
        return link

    def _greet(self, again: bool) -> None:
        app = self._app
        self._callback(app.on_reconnect if again and app.on_reconnect else app.on_open)

    # -- what comes in --------------------------------------------------------------------------------

    def _read(self, link: Link) -> None:
        app, take = self._app, link.events.take
        while app.keep_running:
            event = take(None)
            if self._awake.is_set():  # keep_running is False by now
                return
            if isEnabledForTrace():
                trace(f"++Rcv: {event!r}")
            kind = event.__class__
            if kind is str or kind is bytes:
                self._message(event)  # type: ignore[arg-type]
            elif kind is Piece:
                self._piece(event)  # type: ignore[arg-type]
            elif not self._handle(event):
                return

    def _message(self, message: str | bytes) -> None:
        app = self._app
        opcode = ABNF.OPCODE_TEXT if isinstance(message, str) else ABNF.OPCODE_BINARY
        data = message.encode() if self._settings.bytes_for_text and isinstance(message, str) else message
        if app.on_data is not None:
            self._callback(app.on_data, data, opcode, True)
        self._callback(app.on_message, data)

    def _piece(self, piece: Piece) -> None:
        app = self._app
        if piece.first:
            self._message(piece.data)
            return
        data = piece.data.encode() if isinstance(piece.data, str) else piece.data
        self._callback(app.on_data, data, ABNF.OPCODE_CONT, int(piece.final))
        self._callback(app.on_cont_message, data, int(piece.final))

    def _handle(self, event: Event) -> bool:
        # Anything but messages. False when there is no connection any more.
        if isinstance(event, Control):
            self._control(event)
            return True
        if isinstance(event, (Failed, Closed)):
            self._disconnect_sock()  # on_error may look
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Closed):
            self._closed(event)
            return False
        return True

    def _control(self, event: Control) -> None:
        app = self._app
        if event.opcode == ABNF.OPCODE_PING:
            self._callback(app.on_ping, event.payload)
        else:
            app.last_pong_tm = time.time()
            self._callback(app.on_pong, event.payload)

    def _closed(self, event: Closed) -> None:
        if event.locally and not threading.main_thread().is_alive():
            self._app.keep_running = False  # the interpreter exits: that is no error
            return
        if event.frame is None or event.locally:
            raise translated(event.error)
        code, reason = _code_and_reason(event.frame)
        text = "the server closed the connection" + (f" with code {code}" if code else " without a code")
        error = WebSocketConnectionClosedException(f"{text}: {reason}" if reason else text)
        error.status_code, error.reason = code, reason  # type: ignore[attr-defined]
        error.__cause__ = event.error
        self._disconnected(error, bool(self._settings.reconnect), event.frame)

    # -- the end --------------------------------------------------------------------------------------

    def _disconnected(self, error: BaseException, silently: bool, frame: ABNF | None = None) -> None:
        app = self._app
        if frame is None:
            app.has_errored = True
        self._stop_pings()
        if not silently:
            self._callback(app.on_error, error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._tear_down(frame)
            raise error
        if not self._settings.reconnect:
            self._tear_down(frame)
        else:
            _LOG.warning("%s: connecting again in %s s", error, self._settings.reconnect)
            self._hang_up()

    def _disconnect_sock(self) -> None:
        # The application asks it whether to send.
        if self._sock is not None:
            self._sock.connected = False

    def _hang_up(self) -> ABNF | None:
        # Returns the peer's close frame, if there was one.
        link, self._link = self._link, None
        if link is None:
            return None
        self._disconnect_sock()
        if link.is_open:
            link.close(1000, "", _CLOSE_SECONDS)
        else:  # closed by somebody, or lost
            link.wait_ended()
        return link.end.frame if link.end is not None else None

    def _tear_down(self, frame: ABNF | None) -> None:
        app = self._app
        with app.has_done_teardown_lock:
            if app.has_done_teardown:
                return
            app.has_done_teardown = True
        self._stop_pings()
        app.keep_running = False
        found = self._hang_up()
        app.sock = None
        code, reason = _code_and_reason(frame or found or app.last_close_frame)
        self._callback(app.on_close, code, reason)

    # -- pings ----------------------------------------------------------------------------------------

    def _start_pings(self, link: Link) -> None:
        app = self._app
        app.last_ping_tm = app.last_pong_tm = 0.0
        if not app.ping_interval:
            return
        payload = to_bytes(app.ping_payload, ABNF.OPCODE_PING)
        pinger = Pinger(link, app.ping_interval, app.ping_timeout, payload, self._note_ping)
        self._pinger, app.ping_thread, app.stop_ping = pinger, pinger.thread, pinger.stopped
        pinger.thread.start()

    def _note_ping(self) -> None:
        # Runs on the thread that pings.
        self._app.last_ping_tm = time.time()

    def _stop_pings(self) -> None:
        app = self._app
        pinger, self._pinger = self._pinger, None
        if pinger is not None:
            pinger.stop()
            app.ping_thread = app.stop_ping = None
        app.last_ping_tm = app.last_pong_tm = 0.0

    def _callback(self, callback: Callable[..., Any] | None, *args: Any) -> None:
        if callback is None:
            return
        app = self._app
        try:
            callback(app, *args)
        except Exception as error:
            _LOG.error("error from callback %r", callback, exc_info=error)
            # As there: what on_error raises about an error of a callback ends the connection.
            if app.on_error is not None and callback is not app.on_error:
                app.on_error(app, error)


def _code_and_reason(frame: ABNF | None) -> tuple[int | None, str | None]:
    if frame is None or not frame.data:
        return None, None
    code, reason = close_parts(to_bytes(frame.data, frame.opcode))
    return code, reason or None
