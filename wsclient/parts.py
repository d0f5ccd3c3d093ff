"""What the two threads of a connection share, across all its links."""

from __future__ import annotations

import logging
import os
from typing import NoReturn

from wsclient.callbacks import Callbacks, Direct, Ordered, Received, Runner
from wsclient.exceptions import WSClientError
from wsclient.frames import Frame
from wsclient.inbox import Inbox
from wsclient.items import Item, message_of, received_size
from wsclient.keepalive import Keepalive, fail_expired
from wsclient.ledger import Ledger, size_of
from wsclient.lifecycle import Lifecycle
from wsclient.options import Options
from wsclient.outbox import Outbox
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
        self.name = os.urandom(4).hex()
        self.options = options
        self.log = logging.LoggerAdapter(logging.getLogger("wsclient"), {"connection_id": self.name})
        self.lifecycle = Lifecycle(recovers=options.reconnect is not None)
        self.keepalive = Keepalive(options.ping_interval, options.ping_timeout)
        self.callbacks = Callbacks(options, self.log)
        self.queue = SendQueue(
            options.max_queued_messages,
            options.max_queued_bytes,
            refuse=self.refuse,
            on_expired=self._tell_expired,
            overflow=options.overflow,
            fragment_size=options.fragment_size,
            max_batch=_max_batch(options),
        )
        self.queue.hold()
        self.outbox = Outbox(
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
        self.runner = self._choose_runner()
        self.ledger = self._choose_ledger()
        self.written = WriteCounters()
        self.read = ReadCounters()
        self.is_forked = False  # set in a forked child

    def _tell_expired(self, item: Item) -> None:
        # Runs on the thread of the application that needed the room.
        fail_expired(item)
        if (message := message_of(item)) is not None:
            self.callbacks.dropped(message)

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
            return
        self.queue.halt(final)
        self.outbox.release()

    def stop_waiting(self) -> None:
        """Do not let messages that nobody takes keep the reader from finding the end of this link."""
        self.inbox.stop_waiting()
        self.runner.stop_waiting()

    def wait_again(self) -> None:
        """There may be another link: its messages wait for room. Reader thread."""
        self.inbox.wait_again()
        self.runner.wait_again()

    def in_doubt(self) -> list[Item]:
        """What was written and may not have arrived, in order. Any thread."""
        with self.queue.mutex:
            return [*(self.ledger.peek() if self.ledger else []), *self.queue.front.in_doubt()]

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
