"""The sending side of a connection: what the application gives becomes items of the queue."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from time import monotonic
from typing import TypeAlias, TypeVar

from wsclient.exceptions import Disconnected, QueueFull, Timeout
from wsclient.frames import Frame, Opcode
from wsclient.items import Entry, Item, message_of
from wsclient.keepalive import Keepalive, fail_future
from wsclient.lifecycle import Lifecycle
from wsclient.options import Overflow
from wsclient.send_queue import SendQueue

__all__ = ["BytesLike", "Message", "Outbox", "to_item", "to_ping_payload"]

Message: TypeAlias = "str | bytes"
BytesLike: TypeAlias = "bytes | bytearray | memoryview"
T = TypeVar("T")

_LOST_IN_CALLBACK = "the connection is lost: a callback that waits for the next one would wait for itself"
_MAX_CONTROL_PAYLOAD = 125  # RFC 6455, section 5.5


def to_item(data: object) -> str | bytes | Frame:
    """Make a queue item of one message, copying what the application could still change.

    Raises:
        TypeError: neither text nor bytes-like.
        UnicodeEncodeError: text that UTF-8 cannot express.
    """
    if isinstance(data, str):
        payload = data.encode()
        # Bounds count bytes, and len() of other text than ASCII does not tell them.
        return str.__str__(data) if len(payload) == len(data) else Frame(Opcode.TEXT, payload)
    if isinstance(data, bytes):
        return bytes(data)
    try:
        return bytes(memoryview(data))  # type: ignore[arg-type]
    except TypeError:
        hint = (
            "; send_json() sends objects as JSON" if isinstance(data, (dict, list, tuple, int, float)) else ""
        )
        raise TypeError(f"a message is str or bytes-like, not {type(data).__name__}{hint}") from None


def to_ping_payload(payload: str | BytesLike) -> bytes:
    """Check the payload of a ping."""
    data = payload.encode() if isinstance(payload, str) else bytes(memoryview(payload))
    if len(data) > _MAX_CONTROL_PAYLOAD:
        raise ValueError(f"a ping payload has at most 125 bytes, not {len(data)}")
    return data


class Outbox:
    """Queues messages, receipts, marks and pings. Thread-safe.

    Args:
        queue: where they go.
        keepalive: knows the pings under way.
        lifecycle: knows whether the connection is open.
        overflow: what to do when the queue is full.
        sends_again: what a lost link leaves in doubt goes out again.
        on_dropped: called on the sending thread with each message given up by ``overflow="drop_oldest"``.
    """

    def __init__(
        self,
        queue: SendQueue,
        keepalive: Keepalive,
        lifecycle: Lifecycle,
        *,
        overflow: Overflow,
        sends_again: bool = False,
        on_dropped: Callable[[Message], None],
    ) -> None:
        self._queue = queue
        self._keepalive = keepalive
        self._lifecycle = lifecycle
        self._drops = overflow is Overflow.DROP_OLDEST
        self._sends_again = sends_again
        self._on_dropped = on_dropped
        self._awaited: Future[None] | None = None  # what a callback waits for: its thread, one at a time
        self.put: Callable[[Item, bool, float | None], None] = (
            self._put_dropping if self._drops else queue.put
        )

    def _put_dropping(self, item: Item, block: bool = True, timeout: float | None = None) -> None:
        victims = self._queue.put_dropping(item)
        for victim in victims:  # all of them before any on_dropped, which may raise Ctrl-C
            if isinstance(victim, Entry) and victim.future is not None:
                fail_future(victim.future, QueueFull("dropped for a newer message"))
        for victim in victims:
            message = message_of(victim)
            assert message is not None  # marks and pings are not dropped
            self._on_dropped(message)

    def put_with_receipt(
        self, item: str | bytes | Frame, timeout: float, expire: float = math.inf
    ) -> Future[None]:
        """Queue a message; the future tells when it is written, or that it never will be."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what was accepted cannot be cancelled
        self._put_entry(item, timeout, expire, future)
        return future

    def put_expiring(self, item: str | bytes | Frame, timeout: float, expire: float) -> None:
        """Queue a message that is to be written within ``expire`` seconds, or not at all."""
        self._put_entry(item, timeout, expire, None)

    def _put_entry(
        self, item: str | bytes | Frame, timeout: float, expire: float, future: Future[None] | None
    ) -> None:
        expires_at = monotonic() + expire
        self.put_entry(Entry(item, message=message_of(item), future=future, expires_at=expires_at), timeout)

    def put_entry(self, entry: Entry, timeout: float) -> None:
        """Queue something that takes room and is no plain message: never on the fast path."""
        if self._drops:
            self._put_dropping(entry)
        else:
            self._queue.put_slowly(entry, True, timeout)

    def flush(self, timeout: float, *, in_callback: bool = False) -> None:
        """Wait until everything queued before is written; in a callback, no longer than the link lasts."""
        future: Future[None] = Future()
        if in_callback:
            self._awaited = future  # first: either `release` finds it, or we find that the link is lost
        try:
            self._queue.put_mark(Entry(None, future=future))
            if in_callback and self._lifecycle.recovers:
                self.release()
            _wait_for(future, timeout, "flush", timeout)
        finally:
            if in_callback:
                self._awaited = None

    def release(self) -> None:
        """The link is lost: have a callback that waits for it go on. The next one is opened after it."""
        future = self._awaited
        if future is not None:
            fail_future(future, Disconnected(_LOST_IN_CALLBACK))

    def confirm(self, timeout: float, *, in_callback: bool = False) -> float:
        """Wait for the pong of a ping behind everything queued before.

        What is sent again after a lost link goes before a new ping, which then confirms the same; a callback
        does not wait for that link, which is opened after it.
        """
        deadline = monotonic() + timeout
        while True:
            try:
                return self._confirm_once(max(deadline - monotonic(), 0.0), timeout, in_callback)
            except Disconnected:
                if in_callback or not self._sends_again:
                    raise

    def _confirm_once(self, timeout: float, told: float, in_callback: bool) -> float:
        entry, future = self._keepalive.ping(None)
        try:
            self._queue.put_mark(entry)
            if in_callback and self._lifecycle.recovers:
                raise Disconnected(_LOST_IN_CALLBACK)
            return _wait_for(future, timeout, "confirm", told)
        finally:
            self._keepalive.forget(future)

    def ping(self, payload: bytes | None) -> Future[float]:
        """Queue a ping ahead of all messages."""
        if not self._lifecycle.is_open:
            self._queue.refuse()
        entry, future = self._keepalive.ping(payload)
        self._queue.control.put_ping(entry)
        if self._lifecycle.is_closed:  # too late for the end of the connection to find it
            fail_future(future, self._lifecycle.error())
        return future

    def put_control(self, opcode: int, payload: bytes) -> None:
        """Queue a ping or pong that nobody waits for, ahead of all messages."""
        if opcode not in (Opcode.PING, Opcode.PONG):
            raise ValueError(f"opcode: must be 9 (ping) or 10 (pong), not {opcode!r}")
        if not self._lifecycle.is_open:
            self._queue.refuse()
        self._queue.control.put_ping(Entry(Frame(Opcode(opcode), payload)))


def _wait_for(future: Future[T], timeout: float, what: str, told: float) -> T:
    try:
        return future.result(timeout)
    except FutureTimeout:  # before Python 3.11 not the built-in TimeoutError
        if future.done():  # at the last moment, or what it failed with is a time-out
            return future.result()
        raise Timeout(f"{what} was not done within {told} s") from None
