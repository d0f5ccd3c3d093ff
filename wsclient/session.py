"""One connection at work: the queue, the two threads, and what either does when the other is done.

Three rules make the end of a connection simple:

* whoever ends it only *notes* that (``Lifecycle``), stops the queue, and shuts the transport down;
* that wakes the reader thread, which alone finishes: it waits for the writer, settles the account of unsent
  messages, closes the file descriptor and calls ``on_close``, once, after the last message;
* every wait in between has a deadline, which the writer's clock enforces.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from time import monotonic
from typing import NoReturn

from wsclient.callbacks import Callbacks, Direct, Ordered, Runner
from wsclient.exceptions import (
    HandshakeError,
    HandshakeTimeout,
    ProtocolError,
    WSClientError,
)
from wsclient.frames import Frame, Opcode, encode_close
from wsclient.handshake import Dial, Upgraded
from wsclient.inbox import Inbox, InboxClosed
from wsclient.items import Entry, Item, message_of
from wsclient.keepalive import Keepalive, fail_future
from wsclient.lifecycle import Lifecycle, Milestone, State
from wsclient.lifetime import live
from wsclient.options import Options
from wsclient.outbox import Message, Outbox
from wsclient.protocol import Close, Event, Failure, Ping, Pong, Protocol
from wsclient.reader import Reader
from wsclient.send_queue import SendQueue
from wsclient.stats import Stats, WriteCounters
from wsclient.transport import Transport
from wsclient.writer import Writer

__all__ = ["Session", "snapshot"]

_LINGER = 1.0  # seconds for the peer to close TCP once the closing handshake is over (section 7.1.1)
_WRITER_GRACE = 5.0  # seconds for the writer to come back from a callback of a future
_CANCEL_GRACE = 0.1  # seconds for a cancelled dial to say at what it was
_FORCE_GRACE = 0.4  # seconds for the threads to end once the transport is shut down


class _Link:
    """What exists only while there is a transport. Made by the reader thread once the upgrade is done."""

    def __init__(self, session: Session, transport: Transport) -> None:
        self.transport = transport
        self.reader = Reader(
            transport,
            session.protocol,
            deliver=session.runner.deliver,
            control=session.handle_control,
        )
        self.writer = Writer(
            session.queue,
            transport,
            session.keepalive,
            write_timeout=session.options.write_timeout,
            end_by=lambda: session.lifecycle.deadline,
            peer_silent=lambda: self.reader.waiting and not transport.has_input(),
            on_final=session.final_written,
            on_failure=session.writer_failed,
        )
        self.thread = threading.Thread(
            target=self.writer.run, name=f"wsclient-writer-{session.name}", daemon=True
        )


class Session:
    """Wires the parts of one connection together; ``Connection`` is its public face.

    Methods without a note on threads may be called from any thread.
    """

    def __init__(self, url: str, options: Options) -> None:
        self.name = os.urandom(4).hex()
        self.options = options
        self.log = logging.LoggerAdapter(logging.getLogger("wsclient"), {"connection_id": self.name})
        self.lifecycle = Lifecycle()
        self.protocol = Protocol(options.max_message_size)
        self.keepalive = Keepalive(options.ping_interval, options.ping_timeout)
        self.queue = SendQueue(
            options.max_queued_messages,
            options.max_queued_bytes,
            refuse=self.refuse,
            overflow=options.overflow,
        )
        self.callbacks = Callbacks(options, self.log)
        self.outbox = Outbox(
            self.queue,
            self.keepalive,
            self.lifecycle,
            overflow=options.overflow,
            on_dropped=self.callbacks.dropped,
        )
        self.inbox: Inbox[Message] = Inbox(
            options.max_received_messages, options.max_received_bytes, size=len
        )
        self.runner = self._choose_runner()
        self.dial = Dial(url, options)
        self.upgraded: Upgraded | None = None  # reader thread, before `dialled` is set
        self.link: _Link | None = None  # reader thread, before the state is OPEN
        self.open_error: BaseException | None = None  # reader thread, before `dialled` is set
        self.is_forked = False  # set in a forked child
        self._thread: threading.Thread | None = None  # set by start()

    def _choose_runner(self) -> Runner:
        options = self.options
        if options.callback_executor is not None:
            ordered = Ordered(
                options.callback_executor,
                self.callbacks,
                options.max_received_messages,
                options.max_received_bytes,
            )
            if options.on_message is None:
                ordered.deliver = self.inbox.put_all  # pull style: only the other callbacks are moved
            return ordered
        return Direct(self.callbacks.messages if options.on_message else self.inbox.put_all)

    # -- opening --------------------------------------------------------------------------------------

    def open(self, timeout: float) -> None:
        """Start the reader thread, which dials, and wait until the connection is open."""
        deadline = monotonic() + timeout
        self.lifecycle.begin()
        self._thread = threading.Thread(
            target=self._run, args=(deadline,), name=f"wsclient-reader-{self.name}", daemon=True
        )
        self._thread.start()
        try:
            dialled = self.lifecycle.wait(Milestone.DIALLED, deadline - monotonic())
            if not dialled and self._cancel(HandshakeTimeout(f"not open within {timeout:g} s")):
                self.lifecycle.wait(Milestone.DIALLED, _CANCEL_GRACE)  # the dial knows better at what it was
        except BaseException as error:  # Ctrl-C
            if not self._cancel(error):
                self.drop()
            raise
        if self.lifecycle.state is State.CLOSED and self.open_error is not None:
            self._thread.join(_FORCE_GRACE)
            raise self.open_error
        self.lifecycle.wait(Milestone.GREETED, deadline - monotonic())

    def _cancel(self, error: BaseException) -> bool:
        # End a connection that is not open yet; False when it is.
        if not self.lifecycle.cancel(error):
            return False
        self.open_error = error
        self.queue.end()
        self.inbox.close()
        self.dial.cancel()
        if self._thread is None:
            self.lifecycle.reach(Milestone.FINISHED)
        return True

    def _run(self, deadline: float) -> None:
        # Body of the reader thread.
        try:
            upgraded = self.dial.run(deadline)
        except BaseException as error:
            self._open_failed(error)
            return
        link = _Link(self, upgraded.transport)
        self.upgraded, self.link = upgraded, link
        if not self.lifecycle.open():
            upgraded.transport.close()
            self._open_failed(self.lifecycle.error())
            return
        self._serve(link)

    def _open_failed(self, error: BaseException) -> None:
        if (
            not self._cancel(error)
            and isinstance(self.open_error, HandshakeTimeout)
            and isinstance(error, HandshakeTimeout)
        ):
            self.open_error = error  # the same, with the step at which it happened
        self.log.debug("not open: %s", error)
        self.lifecycle.reach(*Milestone)

    def _serve(self, link: _Link) -> None:
        live.add(self)
        self.keepalive.start(monotonic())
        link.thread.start()
        self.lifecycle.reach(Milestone.DIALLED)
        self.log.debug("open")
        self.runner.call(self._greet)
        try:
            link.reader.run()
        except BaseException as error:
            self.lifecycle.lose(error)
        else:
            self.lifecycle.lose(ConnectionResetError("the peer ended the stream without a close frame"))
        self._finish(link)

    def _greet(self) -> None:
        self.callbacks.opened()
        self.lifecycle.reach(Milestone.GREETED)

    # -- events: reader thread ------------------------------------------------------------------------

    def handle_control(self, event: Event) -> None:
        """Take one event of the protocol that is no message."""
        if isinstance(event, Ping):
            self.queue.control.put_pong(Frame(Opcode.PONG, event.payload))
        elif isinstance(event, Pong):
            self.keepalive.acknowledge(event.payload, monotonic())
        elif isinstance(event, Close):
            self._peer_closed(event)
        elif isinstance(event, Failure):
            self._fail(event.error)

    def _peer_closed(self, close: Close) -> None:
        now = monotonic()
        finished_writing = self.queue.is_silent()
        patience = _LINGER if finished_writing else self.options.close_timeout
        self.lifecycle.receive_close(close.code, close.reason, now + patience)
        payload = b"" if close.code == 1005 else encode_close(close.code)
        self.queue.cut(Frame(Opcode.CLOSE, payload))
        self.queue.rouse()

    def _fail(self, error: ProtocolError) -> None:
        self.log.warning("failing the connection: %s", error)
        self.lifecycle.fail(error, monotonic() + _LINGER)
        self.queue.cut(Frame(Opcode.CLOSE, encode_close(error.code, error.reason)))
        self.queue.rouse()
        self.runner.call(partial(self.callbacks.failed, error))

    # -- events: writer thread ------------------------------------------------------------------------

    def final_written(self) -> None:
        """The close frame is out: nothing else will be written."""
        assert self.link is not None
        if self.lifecycle.failed:
            self.link.transport.shutdown_write()
        if self.lifecycle.failed or self.lifecycle.close_received:
            self.lifecycle.hasten(monotonic() + _LINGER)

    def writer_failed(self, error: BaseException) -> None:
        """The writer has given up: end the connection. The reader finishes it."""
        assert self.link is not None
        self.lifecycle.lose(error)
        self.queue.cut()
        self.inbox_stop_waiting()
        self.link.transport.shutdown()

    # -- closing --------------------------------------------------------------------------------------

    def begin_close(self, code: int, reason: str, timeout: float) -> None:
        """Refuse new messages and have the writer drain, close, and enforce the deadline. Never blocks."""
        if self._cancel(HandshakeError("closed before it was open")):
            return
        self.lifecycle.request_close(code, reason, monotonic() + timeout)
        self.queue.close(Frame(Opcode.CLOSE, encode_close(code, reason)))
        self.queue.rouse()
        self.inbox_stop_waiting()

    def drop(self) -> None:
        """Shut the transport down now. Never blocks."""
        if self._cancel(HandshakeError("aborted before it was open")):
            return
        self.lifecycle.abort()
        self.queue.cut()
        self.inbox_stop_waiting()
        if self.link is not None:
            self.link.transport.shutdown()

    def inbox_stop_waiting(self) -> None:
        """Do not let messages that nobody takes keep the reader from finding the end."""
        self.inbox.stop_waiting()
        self.runner.stop_waiting()

    def wait_finished(self, timeout: float) -> bool:
        """Wait until ``on_close`` has returned and the threads have ended. ``False`` on a time-out."""
        deadline = monotonic() + timeout
        if self.on_own_thread() or not self.lifecycle.wait(Milestone.FINISHED, timeout):
            return False
        if self._thread is not None:
            self._thread.join(max(deadline - monotonic(), _FORCE_GRACE))
        return True

    def on_own_thread(self) -> bool:
        """Whether the caller is the reader or the writer: a callback that must not wait for them."""
        current = threading.current_thread()
        return current is self._thread or (self.link is not None and current is self.link.thread)

    def refuse_on_reader_thread(self, what: str) -> None:
        """Raise in a callback on the reader thread, where ``what`` would wait for itself."""
        if threading.current_thread() is self._thread:
            raise WSClientError(
                f"{what}() in a callback on the reader thread would wait for itself: "
                "use callback_executor, or another thread"
            )

    def refuse_on_writer_thread(self, what: str) -> None:
        """Raise in a callback of a future, which runs on the writer thread."""
        if self.link is not None and threading.current_thread() is self.link.thread:
            raise WSClientError(
                f"{what}() in a callback of a future would wait for itself: use another thread"
            )

    def _finish(self, link: _Link) -> None:
        # Reader thread: nobody reads any more, so nothing is left to wait for.
        link.transport.shutdown()
        self.queue.end()
        link.thread.join(_WRITER_GRACE)
        items = link.writer.unsent() + self.queue.leftover()
        unsent = tuple(message for message in map(message_of, items) if message is not None)
        self.lifecycle.finish(unsent)
        error = self.lifecycle.error()
        _fail_futures(items, error)
        self.keepalive.fail(error)
        if not link.thread.is_alive():
            link.transport.close()
        self.inbox.close()
        live.discard(self)
        _log_end(self)
        self.runner.call(self._say_goodbye)

    def _say_goodbye(self) -> None:
        self.callbacks.closed(self.lifecycle.code or 1006, self.lifecycle.reason)
        self.lifecycle.reach(Milestone.FINISHED)

    # -- receiving and observing ----------------------------------------------------------------------

    def receive(self, timeout: float | None) -> Message:
        """Take the next message."""
        if not len(self.inbox):
            self._check_may_wait()
        try:
            return self.inbox.get(timeout)
        except InboxClosed:
            raise self.lifecycle.error() from self.lifecycle.cause

    def _check_may_wait(self) -> None:
        if self.options.on_message is not None:
            raise WSClientError("recv() and on_message exclude each other: messages go to on_message")
        self.refuse_on_reader_thread("recv")
        if self.is_forked or self.lifecycle.state in (State.NEW, State.CONNECTING):
            self.refuse()

    @property
    def shown_url(self) -> str:
        """The URL without what may be secret in it."""
        return str(self.upgraded.url if self.upgraded else self.dial.url)

    # -- refusing -------------------------------------------------------------------------------------

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


def _log_end(session: Session) -> None:
    lifecycle, dropped = session.lifecycle, session.inbox.dropped
    level = logging.WARNING if lifecycle.unsent else logging.DEBUG
    text = "closed: code %s, reason %r, %d messages unsent"
    session.log.log(level, text, lifecycle.code, lifecycle.reason, len(lifecycle.unsent))
    if dropped:
        session.log.warning("%d received messages found no room after close()", dropped)


def _fail_futures(items: list[Item], error: BaseException) -> None:
    for item in items:
        if isinstance(item, Entry) and item.future is not None:
            fail_future(item.future, error)


def snapshot(session: Session) -> Stats:
    """Count what has happened on a connection so far. Thread-safe."""
    link = session.link
    written = link.writer.counters if link else WriteCounters()
    return Stats(
        messages_sent=written.messages_sent,
        frames_sent=written.frames_sent,
        bytes_sent=written.bytes_sent,
        writes=written.writes,
        max_frames_per_write=written.max_frames_per_write,
        messages_received=link.reader.messages_received if link else 0,
        bytes_received=link.reader.bytes_received if link else 0,
        queued_messages=len(session.queue.queue),
        queued_bytes=session.queue.queued_bytes(),
        max_queued_messages=session.queue.high_messages,
        max_queued_bytes=session.queue.high_bytes,
        dropped_messages=session.queue.dropped,
        received_waiting=len(session.inbox),
        discarded_messages=session.inbox.dropped,
        pings_sent=session.keepalive.pings_sent,
        pongs_received=session.keepalive.pongs_received,
        latency=session.keepalive.latency,
        callback_errors=session.callbacks.errors,
    )
