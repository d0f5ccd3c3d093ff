"""``WebSocketUser``: a user of Locust with a WebSocket connection."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, NoReturn

import gevent
import locust
from gevent import GreenletExit
from gevent.pool import Group
from locust import User
from locust.env import Environment
from locust.runners import STATE_RUNNING, STATE_SPAWNING

from wsclient.locust.client import WebSocketClient
from wsclient.locust.report import Kind, Measured, Report, RequestFailed, size_of

__all__ = ["WebSocketUser"]

_log: Final = logging.getLogger("wsclient.locust")
_SCHEMES = MappingProxyType({"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"})


class WebSocketUser(User):
    """A user with a ``client``, connected when the user starts and closed when it stops.

    Attributes:
        host: ``ws://`` or ``wss://`` URL without a path; ``http`` and ``https`` mean the same. Locust's
            ``--host`` goes before.
        path: what is appended to it.
        options: those of ``wsclient.connect``: headers, ``ssl_context``, ``credentials``, time-outs and more.
        keep: how many messages that nobody asked for are kept for ``client.receive``; of more, the oldest
            goes to ``on_message``. None are kept by a user with an ``on_message`` of its own.
        client: what tasks use.
    """

    abstract = True
    path: str = "/"
    options: Mapping[str, Any] = MappingProxyType({})
    keep: int = 1000

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._report = Report(environment.events.request.fire, self.context)
        pushes = type(self).on_message is not WebSocketUser.on_message
        self.client: WebSocketClient = WebSocketClient(
            self.url,
            lambda: self.options,
            self._report,
            keep=0 if pushes else self.keep,
            unasked=self._take,
        )

    # -- what a subclass may replace ------------------------------------------------------------------

    def url(self) -> str:
        """Where to connect. Raises ``ValueError`` without a usable ``host``."""
        scheme, _, rest = (self.host or "").partition("://")
        if scheme.lower() not in _SCHEMES or not rest:
            raise ValueError("no server: give --host, or the user a host, such as ws://example.com")
        return f"{_SCHEMES[scheme.lower()]}://{rest.rstrip('/')}/{self.path.lstrip('/')}"

    def message_name(self, message: str | bytes) -> str | None:
        """Name of the event for a message that nobody asked for; ``None`` for no event."""
        return "message"

    def message_time(self, message: str | bytes) -> float | None:
        """How long such a message took, in milliseconds, if it shows that; ``None`` to count it only."""
        return None

    def on_message(self, message: str | bytes) -> None:
        """Called with each message that nobody asked for, as it comes. It holds up those behind it."""

    def _take(self, message: str | bytes, handle: bool) -> None:
        # A message that nobody asked for. On the connection's reader.
        try:
            name = self.message_name(message)
            if name is not None:
                told = Measured(size_of(message), message)
                self._report.tell(Kind.RECEIVE, name, self.message_time(message), told)
            if handle:
                self.on_message(message)
        except RequestFailed:  # has been told
            pass
        except Exception as error:
            self.environment.events.user_error.fire(
                user_instance=self, exception=error, tb=error.__traceback__
            )
            raise

    # -- life -----------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Connect. If that fails, Locust is told, and the first task tries again.

        A wrong URL or option ends the test, for it will not get better.
        """
        try:
            with suppress(RequestFailed):
                self.client.connect()
        except (TypeError, ValueError) as error:
            self._end_test(error)

    def _end_test(self, error: Exception) -> NoReturn:
        environment = self.environment
        _log.error("%s: %s", type(self).__name__, error)
        environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)
        runner, options = environment.runner, environment.parsed_options
        if runner is not None and runner.state in (STATE_SPAWNING, STATE_RUNNING):
            gevent.spawn(runner.quit if options is not None and options.headless else runner.stop)
        raise GreenletExit  # with any other exception Locust would log a traceback

    def on_stop(self) -> None:
        """Close the connection."""
        self.client.close()

    def start(self, group: Group) -> object:
        """Start a greenlet that runs this user, and return it."""
        greenlet: gevent.Greenlet[Any, Any] = super().start(group)
        greenlet.link(self._ended)
        return greenlet

    def _ended(self, _: object) -> None:
        # Runs in the hub, which must not wait. For an on_stop that does not call ours, or was cut short.
        if self.client.is_open:
            gevent.spawn(self.client.close)


def _take_interrupts(**_: object) -> None:
    """Have Ctrl-C end Locust's main greenlet, as without load, and not whichever greenlet runs just then.

    That may be a connection's reader, which gives every exception to ``on_error`` and goes on.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        hub = gevent.get_hub()
        gevent.signal_handler(signal.SIGINT, hub.handle_system_error, KeyboardInterrupt, KeyboardInterrupt())


locust.events.init.add_listener(_take_interrupts)  # type: ignore[no-untyped-call]
