"""``ping_interval`` and ``ping_timeout`` of ``run_forever``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from websocket import ABNF

from wsclient import WSClientError
from wsclient.compat.errors import TimedOut
from wsclient.compat.events import Failed
from wsclient.compat.link import Link
from wsclient.compat.options import bounded

__all__ = ["Pinger"]

_PATIENCE = (
    1.0  # seconds more for a pong, at most, while messages that nobody takes hold up the reader thread
)


class Pinger:
    """A thread that sends pings, and ends the link when a pong does not come in time.

    The time counts from the ping, whatever the callbacks are doing meanwhile.

    Args:
        link: whom to ping.
        interval: seconds between two pings.
        timeout: seconds for each pong; ``None`` for no verdict.
        payload: of the pings.
        on_ping: called just before each ping.
    """

    def __init__(
        self, link: Link, interval: float, timeout: float | None, payload: bytes, on_ping: Callable[[], None]
    ) -> None:
        self._link = link
        self._interval = bounded(interval)
        self._timeout = timeout
        self._payload = payload
        self._on_ping = on_ping
        self.stopped: threading.Event = threading.Event()
        self.thread: threading.Thread = threading.Thread(
            target=self._run, name="wsclient-compat-ping", daemon=True
        )

    def stop(self) -> None:
        """Send no more pings. Any thread."""
        self.stopped.set()
        if self.thread.ident is not None:  # Ctrl-C may have come before it was started
            self.thread.join()

    def _run(self) -> None:
        next_at = monotonic() + self._interval
        verdict_at = None
        while not self.stopped.wait(max(min(next_at, verdict_at or next_at) - monotonic(), 0.0)):
            now = monotonic()
            if now >= next_at:
                next_at = now + self._interval
                if not self._ping():
                    return
                verdict_at = now + self._timeout if self._timeout else None
                asked_at = now
            elif verdict_at is not None and now >= verdict_at:
                if self._link.pong_at >= asked_at:
                    verdict_at = None
                elif self._link.events.holds_up_reader:
                    verdict_at = now + min(_PATIENCE, self._timeout or _PATIENCE)
                else:
                    self._give_up()
                    return

    def _ping(self) -> bool:
        self._on_ping()
        try:
            self._link.connection.send_control(ABNF.OPCODE_PING, self._payload)
        except WSClientError:
            return False  # its end is on its way to the callbacks
        return True

    def _give_up(self) -> None:
        self._link.events.tell(Failed(TimedOut("ping/pong timed out")))
        self._link.connection.abort()
