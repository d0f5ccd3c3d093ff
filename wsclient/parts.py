"""What the two threads of a connection share, across all its links."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import NoReturn

from wsclient.callbacks import Callbacks, Direct, Ordered, Received, Runner
from wsclient.exceptions import Disconnected, WSClientError
from wsclient.frames import Frame
from wsclient.inbox import Inbox
from wsclient.items import Item, Lane, message_of, received_size
from wsclient.keepalive import Keepalive, fail_expired
from wsclient.ledger import Ledger, size_of
from wsclient.lifecycle import Lifecycle
from wsclient.options import Options
from wsclient.outbox import LOST_IN_CALLBACK, Outbox
from wsclient.reconnect import Delivery
from wsclient.send_queue import SendQueue
from wsclient.stats import ReadCounters, WriteCounters

__all__ = ["Parts"]

_MAX_BATCH = 256 * 1024  # bytes; small enough for a control frame to wait behind


def _max_batch(options: Options) -> int:
    # A batch is written whole: it must not go far beyond what may be in doubt.
    if options.delivery is Delivery.AT_LEAST_ONCE:
        return min(_MAX_BATCH, max(options.max_in_doubt_bytes // 2, 1))
    return _MAX_BATCH


class Parts:
    """The parts of one connection that outlive a link. Each says itself who may touch it."""

    def __init__(self, options: Options) -> None:
        # Every field but the last never changes.
        self.name: str = os.urandom(4).hex()
        self.options = options
        self.log: logging.LoggerAdapter[logging.Logger] = logging.LoggerAdapter(
            logging.getLogger("wsclient"), {"connection_id": self.name}
        )
        self.lifecycle: Lifecycle = Lifecycle(recovers=options.reconnect is not None)
        self.keepalive: Keepalive = Keepalive(options.ping_interval, options.ping_timeout, self._settle)
        self.callbacks: Callbacks = Callbacks(options, self.log)
        self.queue: SendQueue = SendQueue(
            options.max_queued_messages,
            options.max_queued_bytes,
            refuse=self.refuse,
            settle_expired=fail_expired,
            on_expired=lambda item: self._tell_dropped(item, self.callbacks.dropped),
            overflow=options.overflow,
            fragment_size=options.fragment_size,
            max_batch=_max_batch(options),
        )
        self.queue.hold()
        self.outbox: Outbox = Outbox(
            self.queue,
            self.keepalive,
            self.lifecycle,
            overflow=options.overflow,
            sends_again=options.delivery is Delivery.AT_LEAST_ONCE,
            on_dropped=self.callbacks.dropped,
        )
        self.inbox: Inbox[Received] = Inbox(
            options.max_received_messages, options.max_received_bytes, size=received_size
        )
        self.runner: Runner = self._choose_runner()
        self.ledger: Ledger | None = self._choose_ledger()
        self.written: WriteCounters = WriteCounters()
        self.read: ReadCounters = ReadCounters()
        self.is_forked: bool = False  # set in a forked child

    def _settle(self, ping: int) -> None:
        if self.ledger is not None:
            self.ledger.settle(ping)

    def _tell_dropped(self, item: Item, tell: Callable[[str | bytes], None]) -> None:
        # Runs on the thread of the application that needed the room.
        if (message := message_of(item)) is not None:
            tell(message)

    def tell_rest(self) -> None:
        """At the end: what has expired, and a Ctrl-C has kept from being told. Reader thread."""
        self.queue.admission.tell_rest(lambda item: self._tell_dropped(item, self.callbacks.expired))

    def _choose_runner(self) -> Runner:
        options = self.options
        if options.callback_executor is not None:
            ordered = Ordered(
                options.callback_executor,
                self.callbacks,
                options.max_received_messages,
                options.max_received_bytes,
            )
            if not self.callbacks.take_messages:
                ordered.deliver = self.inbox.put_all  # pull style: only the other callbacks are moved
            return ordered
        return Direct(self.callbacks.received if self.callbacks.take_messages else self.inbox.put_all)

    def _choose_ledger(self) -> Ledger | None:
        options = self.options
        if options.reconnect is None:
            return None
        return Ledger(
            options.max_in_doubt_bytes,
            keeps=options.delivery is Delivery.AT_LEAST_ONCE,
            ping=lambda: self.keepalive.ping(None),
            on_room=self.queue.rouse,
        )

    def stop_writing(self, final: Frame | None = None) -> None:
        """Write nothing more to this link but ``final``; at the end cut off what was accepted."""
        if not self.lifecycle.recovers:
            self.queue.cut(final)
            self.release(self.lifecycle.error())
            return
        self.queue.halt(final)
        self.release(Disconnected(LOST_IN_CALLBACK))

    def release(self, error: WSClientError) -> None:
        """Have callbacks go on that wait for what this link would have written. Any thread."""
        self.outbox.release(error)

    def watch(self) -> Callable[[], bool]:
        """For a callback that waits for a message: whether its link is lost. Raises if so already."""
        links = self.queue.front.links  # first: whatever is lost after this line is noticed
        if self.outbox.is_behind():
            raise Disconnected(LOST_IN_CALLBACK)
        return lambda: self.lifecycle.recovers or self.queue.front.links != links

    def stop_waiting(self) -> None:
        """Do not let messages that nobody takes keep the reader from finding the end of this link."""
        self.inbox.stop_waiting()
        self.runner.stop_waiting()

    def wait_again(self) -> None:
        """There may be another link: its messages wait for room. Reader thread."""
        self.inbox.wait_again()
        self.runner.wait_again()

    def account(self, cut_off: list[Item], lane: Lane = Lane.WAITING) -> tuple[list[Item], list[Item]]:
        """What was accepted and not written, and what was written and may not have arrived. Any thread.

        ``cut_off`` was taken from ``lane`` and is not written: not once more, if it was in doubt before.
        """
        was_in_doubt = lane is Lane.IN_DOUBT
        with self.queue.mutex:
            written = self.ledger.peek() if self.ledger else []
            in_doubt = [*written, *(cut_off if was_in_doubt else ()), *self.queue.front.in_doubt()]
            return [*(() if was_in_doubt else cut_off), *self.queue.leftover()], in_doubt

    def in_doubt_bytes(self) -> int:
        """How much that is, as ``Stats`` counts it. Any thread."""
        return self.ledger.bytes + size_of(self.queue.front.in_doubt()) if self.ledger else 0

    def refuse(self) -> NoReturn:
        """Raise why nothing can be sent or received on this connection."""
        self.check_not_forked()
        raise self.lifecycle.error()

    def check_not_forked(self) -> None:
        """Raise in a forked child, for whom this connection does not exist."""
        if self.is_forked:
            raise WSClientError("this connection belongs to the parent process: connect again after fork()")

    def forked(self) -> None:
        """Called in a forked child: refuse everything, touch nothing."""
        self.is_forked = True
        self.queue.forked()
        self.inbox.clear()
