"""The sending side of a connection: what the application gives becomes items of the queue."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from wsclient.exceptions import Disconnected, QueueFull, Timeout, WSClientError
from wsclient.frames import Frame, Opcode
from wsclient.front import Flow
from wsclient.items import Entry, Item, message_of
from wsclient.keepalive import Keepalive, fail_future, fail_futures
from wsclient.lifecycle import Lifecycle
from wsclient.options import Overflow
from wsclient.send_queue import SendQueue

__all__ = ["LOST_IN_CALLBACK", "BytesLike", "Message", "Outbox", "to_item", "to_ping_payload"]

Message: TypeAlias = "str | bytes"
BytesLike: TypeAlias = "bytes | bytearray | memoryview"
T = TypeVar("T")

LOST_IN_CALLBACK = "the connection was lost: a callback that waits for the next one would wait for itself"
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
        self._awaited: set[Future[Any]] = set()  # what callbacks wait for; each thread its own
        self.put: Callable[[Item, bool, float | None], None] = (
            self._put_dropping if self._drops else queue.put
        )

    def _put_dropping(self, item: Item, block: bool = True, timeout: float | None = None) -> None:
        victims = self._queue.put_dropping(item)
        fail_futures(victims, QueueFull("dropped for a newer message"))  # all, before an on_dropped raises
        self._tell_dropped(map(message_of, victims))

    def _tell_dropped(self, messages: Iterator[Message | None]) -> None:
        for message in messages:
            assert message is not None, "marks and pings are not dropped"
            try:
                self._on_dropped(message)
            except BaseException:  # Ctrl-C: for one of them, and the others are told all the same
                self._tell_dropped(messages)
                raise

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
        with self._waiting_for(future, in_callback):
            self._queue.put_mark(Entry(None, future=future))
            self._check_link(in_callback)
            _wait_for(future, timeout, "flush", timeout)

    @contextmanager
    def _waiting_for(self, future: Future[Any], in_callback: bool) -> Iterator[None]:
        if in_callback:
            self._awaited.add(future)  # first: either `release` finds it, or we find that the link is lost
        try:
            yield
        finally:
            self._awaited.discard(future)

    def _check_link(self, in_callback: bool) -> None:
        if in_callback and self.is_behind():
            raise Disconnected(LOST_IN_CALLBACK)

    def is_behind(self) -> bool:
        """Whether the caller, a callback, comes before the ``on_reconnect`` of a link that is still to come.

        Raises ``Disconnected`` where it is the ``on_reconnect`` of a link that is lost by now.
        """
        front = self._queue.front
        return self._lifecycle.recovers or (front.flow is Flow.GREETING and not front.is_greeter())

    def release(self, error: WSClientError) -> None:
        """The link is lost: have callbacks go on that wait for it. What comes next comes after them."""
        for future in list(self._awaited):
            fail_future(future, error)

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
            with self._waiting_for(future, in_callback):
                self._queue.put_mark(entry)
                self._check_link(in_callback)
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
        if self._queue.control.is_full():
            raise QueueFull("thousands of pings and pongs already wait to be written")
        self._queue.control.put_ping(Entry(Frame(Opcode(opcode), payload)))


def _wait_for(future: Future[T], timeout: float, what: str, told: float) -> T:
    try:
        return future.result(timeout)
    except FutureTimeout:  # before Python 3.11 not the built-in TimeoutError
        if future.done():  # at the last moment, or what it failed with is a time-out
            return future.result()
        raise Timeout(f"{what} was not done within {told} s") from None
