"""Pings under way, and the clock that sends and judges the connection's own. No threads, no I/O.

Any thread may start a ping, the reader thread brings the pongs, and the writer thread asks the clock what is
due. All of them tell the time they have (monotonic seconds); nothing here looks at a clock.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager

from wsclient.control_lane import MAX_PENDING_PINGS
from wsclient.exceptions import QueueFull, SendTimeout
from wsclient.frames import Frame, Opcode
from wsclient.items import Entry, Item

__all__ = ["Keepalive", "fail_expired", "fail_future", "fail_futures", "resolve_future"]


def resolve_future(future: Future[float] | Future[None], value: float | None) -> None:
    """Resolve a future that its owner may have cancelled. Its callbacks run on the calling thread."""
    with _callbacks_contained():
        future.set_result(value)  # type: ignore[arg-type]


def fail_future(future: Future[float] | Future[None], error: BaseException) -> None:
    """Fail a future that its owner may have cancelled. Its callbacks run on the calling thread."""
    with _callbacks_contained():
        future.set_exception(error)


def fail_futures(items: Iterable[Item], error: BaseException) -> None:
    """Fail whatever somebody waits for among some items. See ``fail_future``."""
    interrupt: KeyboardInterrupt | None = None
    for item in items:
        if isinstance(item, Entry) and item.future is not None:
            try:
                fail_future(item.future, error)
            except KeyboardInterrupt as raised:  # nobody's wait goes on because of it
                interrupt = raised
    if interrupt is not None:
        raise interrupt


def fail_expired(item: Item) -> None:
    """Fail the receipt of a message, if it has one, that could not be written in time."""
    fail_futures([item], SendTimeout("the message expired before it could be written"))


@contextmanager
def _callbacks_contained() -> Iterator[None]:
    try:
        yield
    except InvalidStateError:
        pass
    except BaseException as error:  # SystemExit, which Future lets through: the thread is not theirs to end
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # it came while a callback ran, and is the application's
        # Whose future it is, is not known here; a format that shows the connection needs one all the same.
        log = logging.LoggerAdapter(logging.getLogger("wsclient"), {"connection_id": "-"})
        log.error("a future's callback raised", exc_info=error)


class _Ping:
    __slots__ = ("future", "number", "sent_at")

    def __init__(self) -> None:
        self.future: Future[float] = Future()
        # Written by the writer thread before the ping leaves, so that no pong finds them unset.
        self.number = 0  # 1 for the first ping that was written
        self.sent_at = math.nan


class Keepalive:
    """Pings of one connection.

    Args:
        interval: seconds between the connection's own pings, ``None`` for none.
        timeout: seconds for the pong to come before the peer is dead, ``None`` for no verdict.
        on_answered: called on the reader thread with the number of the last ping that a pong has answered,
            before anybody learns of that pong.
    """

    def __init__(
        self,
        interval: float | None,
        timeout: float | None,
        on_answered: Callable[[int], None] = lambda number: None,
    ) -> None:
        self._on_answered = on_answered
        self._interval = math.inf if interval is None else interval
        self._timeout = math.inf if timeout is None else timeout
        self._mutex = threading.Lock()
        self._pending: dict[bytes, _Ping] = {}  # _mutex; in the order in which the pings were started
        self._own: bytes | None = None  # _mutex: payload of the connection's own ping under way
        self._own_waits = False  # writer thread: that ping is not wholly written yet
        self._next_at = math.inf  # _mutex
        self._verdict_at = math.inf  # _mutex
        self.latency: float | None = None  # reader thread
        self.pings_sent: int = 0  # writer thread
        self.pongs_received: int = 0  # reader thread

    def start(self, now: float) -> None:
        """Start the clock: the connection is open (again)."""
        self._own_waits = False
        with self._mutex:
            self._next_at = now + self._interval

    @property
    def deadline(self) -> float:
        """When the writer has to look at this clock next."""
        return min(self._next_at, self._verdict_at)

    def due(self, now: float) -> Entry | None:
        """Return the connection's own ping when it is time to send it. Writer thread."""
        with self._mutex:
            if now < self._next_at:
                return None
            self._next_at = now + self._interval
            if self._own in self._pending:
                return None  # the last one is still under way
            self._verdict_at = now + self._timeout
            self._own = os.urandom(8)
            self._own_waits = True
            return self._add(self._own, _Ping())

    def expired(self, now: float) -> bool:
        """Tell whether the connection's own ping has waited too long for its pong. Writer thread."""
        return now >= self._verdict_at

    def postpone(self, now: float) -> None:
        """Put off the verdict: the reader is busy, and the pong may be waiting for it. Writer thread."""
        with self._mutex:
            if self._verdict_at <= now:
                self._verdict_at = now + min(self._timeout, 1.0)

    def ping(self, payload: bytes | None) -> tuple[Entry, Future[float]]:
        """Start a ping: what to queue, and the future of its round trip. Thread-safe."""
        ping = _Ping()
        with self._mutex:
            if len(self._pending) >= MAX_PENDING_PINGS:
                raise QueueFull(f"{len(self._pending)} pings already wait for their pongs")
            key = os.urandom(8) if payload is None else payload
            if key in self._pending:
                raise ValueError(f"a ping with this payload is already under way: {key!r}")
            return self._add(key, ping), ping.future

    def _add(self, payload: bytes, ping: _Ping) -> Entry:
        self._pending[payload] = ping
        return Entry(Frame(Opcode.PING, payload), on_writing=lambda now: self._number(payload, ping, now))

    def _number(self, payload: bytes, ping: _Ping, now: float) -> None:
        self.pings_sent += 1
        if payload == self._own:
            self._own_waits = True  # whatever batch was under way when it became due is over
        ping.number, ping.sent_at = self.pings_sent, now

    def progressed(self, now: float, whole: bool) -> None:
        """Note that a write has made progress, or, when ``whole``, that a batch with pings is written.

        A ping behind other bytes has not begun to wait for its pong. Writer thread.
        """
        if self._own_waits:
            self._own_waits = not whole
            self._restart_verdict(now)

    def _restart_verdict(self, now: float) -> None:
        with self._mutex:
            if self._own in self._pending:
                self._verdict_at = now + self._timeout

    def acknowledge(self, payload: bytes, now: float) -> None:
        """Take in a pong. It answers the pings written before its own, too (section 5.5.3). Reader thread."""
        self.pongs_received += 1
        with self._mutex:
            latest = self._pending.get(payload)
            if latest is None or not latest.number:
                return  # unsolicited (section 5.5.3)
            answered = {key: ping for key, ping in self._pending.items() if 0 < ping.number <= latest.number}
            for key in answered:
                del self._pending[key]
            if self._own not in self._pending:
                self._verdict_at = math.inf
        self.latency = max(now - latest.sent_at, 0.0)
        self._on_answered(latest.number)
        for ping in answered.values():
            resolve_future(ping.future, max(now - ping.sent_at, 0.0))

    def stop(self) -> None:
        """Stop the clock: nothing more is sent, so no ping either. Thread-safe."""
        with self._mutex:
            self._next_at = self._verdict_at = math.inf

    def forget(self, future: Future[float]) -> None:
        """Stop waiting for a ping: its owner has given up."""
        with self._mutex:
            for payload, ping in self._pending.items():
                if ping.future is future:
                    del self._pending[payload]
                    return

    def fail(self, error: BaseException) -> None:
        """Fail every ping under way: no pong will come."""
        self.stop()
        with self._mutex:
            pings = list(self._pending.values())
            self._pending.clear()
        for ping in pings:
            fail_future(ping.future, error)
