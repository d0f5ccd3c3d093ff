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
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import NoReturn

from wsclient.callbacks import Callbacks, Direct, Ordered, Received, Runner
from wsclient.exceptions import (
    HandshakeError,
    ProtocolError,
    WSClientError,
)
from wsclient.frames import Frame, Opcode, encode_close
from wsclient.handshake import Dial, Upgraded
from wsclient.inbox import Inbox, InboxClosed
from wsclient.items import Entry, Item, message_of, received_size
from wsclient.keepalive import Keepalive, fail_future
from wsclient.lifecycle import Lifecycle, Milestone, State
from wsclient.lifetime import live
from wsclient.options import Options
from wsclient.outbox import Message, Outbox
from wsclient.protocol import Close, Event, Failure, Ping, Pong, Protocol
from wsclient.reader import Reader
from wsclient.send_queue import SendQueue
from wsclient.stats import Stats, WriteCounters
from wsclient.writer import Writer

__all__ = ["Session", "drop_and_wait", "from_anywhere", "receive", "snapshot"]

_ABANDONED = "a stream was not finished"
_LINGER = 1.0  # seconds for the peer to close TCP once the closing handshake is over (section 7.1.1)
_WRITER_GRACE = 5.0  # seconds for the writer to come back from a callback of a future
_FORCE_GRACE = 0.4  # seconds for the threads to end once the transport is shut down


def from_anywhere(action: Callable[[], None]) -> None:
    """Run something for the garbage collector, which may come inside of any lock of the very same session."""
    with suppress(RuntimeError):  # no thread to be had: the process is about to end
        start_new_thread(action, ())


class _Link:
    """What exists only while there is a transport. Made by the reader thread once the upgrade is done."""

    def __init__(self, session: Session, upgraded: Upgraded) -> None:
        transport = self.transport = upgraded.transport
        options, agreement = session.options, upgraded.compression
        self.reader = Reader(
            transport,
            Protocol(
                options.max_message_size,
                inflater=agreement.inflater() if agreement else None,
                assemble=options.assemble,
            ),
            deliver=session.runner.deliver,
            control=session.handle_control,
        )
        self.writer = Writer(
            session.queue,
            transport,
            session.keepalive,
            write_timeout=options.write_timeout,
            end_by=lambda: session.lifecycle.deadline,
            peer_silent=lambda: self.reader.waiting and not transport.has_input(),
            compress=agreement.deflater().compress if agreement else None,
            on_final=session.final_written,
            on_failure=session.writer_failed,
        )
        self.thread = threading.Thread(
            target=self._write, name=f"wsclient-writer-{session.name}", daemon=True
        )
        self._queue = session.queue
        self._is_last = [True, False]  # reader and writer, each takes one as it leaves

    def _write(self) -> None:
        # Body of the writer thread.
        try:
            self.writer.run()
        finally:
            self.leave()

    def unwritten(self) -> list[Item]:
        """What was accepted and not written. Once the writer has ended, or is beyond all patience."""
        return self.writer.unsent() + self._queue.leftover()

    def leave(self) -> None:
        """Reader and writer call this when they are done. The second frees the file descriptor."""
        if self._is_last.pop():
            self.transport.close()


class _Threads:
    """Where a connection's callbacks run: who calls from there must not wait for these threads."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.reader: threading.Thread | None = None  # set once, before that thread starts
        self.writer: threading.Thread | None = None  # set once, before that thread starts

    def are_calling(self) -> bool:
        """Whether the caller is a callback, of the connection or of a future."""
        return threading.current_thread() in (self.reader, self.writer) or self._runner.is_calling()

    def refuse_on_reader(self, what: str) -> None:
        """Raise in a callback on the reader thread, where ``what`` would wait for itself."""
        if threading.current_thread() is self.reader:
            raise WSClientError(
                f"{what}() in a callback on the reader thread would wait for itself: "
                "use callback_executor, or another thread"
            )

    def refuse_on_writer(self, what: str) -> None:
        """Raise in a callback of a future, which runs on the writer thread."""
        if threading.current_thread() is self.writer:
            raise WSClientError(
                f"{what}() in a callback of a future would wait for itself: use another thread"
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
        self.keepalive = Keepalive(options.ping_interval, options.ping_timeout)
        self.queue = SendQueue(
            options.max_queued_messages,
            options.max_queued_bytes,
            refuse=self.refuse,
            overflow=options.overflow,
            fragment_size=options.fragment_size,
        )
        self.queue.hold()
        self.callbacks = Callbacks(options, self.log)
        self.outbox = Outbox(
            self.queue,
            self.keepalive,
            self.lifecycle,
            overflow=options.overflow,
            on_dropped=self.callbacks.dropped,
        )
        self.inbox: Inbox[Received] = Inbox(
            options.max_received_messages, options.max_received_bytes, size=received_size
        )
        self.runner = self._choose_runner()
        self.threads = _Threads(self.runner)
        self.dial = Dial(url, options, self.log)
        self.upgraded: Upgraded | None = None  # reader thread, before `dialled` is set
        self.link: _Link | None = None  # reader thread, before the state is OPEN
        self.is_forked = False  # set in a forked child

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

    # -- opening --------------------------------------------------------------------------------------

    def open(self, timeout: float) -> None:
        """Start the reader thread, which dials, and wait until the connection is open."""
        deadline = monotonic() + timeout
        self.lifecycle.begin()
        live.add(self)
        reader = threading.Thread(
            target=self._run, args=(deadline,), name=f"wsclient-reader-{self.name}", daemon=True
        )
        self.threads.reader = reader
        try:
            reader.start()
            if not self.lifecycle.wait(Milestone.DIALLED, deadline - monotonic()):
                self._cancel(self.dial.timed_out(timeout))
            if self.lifecycle.was_open:
                self.lifecycle.wait(Milestone.GREETED, deadline - monotonic())
        except BaseException as error:  # Ctrl-C, or no more threads to be had
            if reader.ident is None:
                self._open_failed(error)
            elif not self._cancel(error):
                self.drop()
            raise
        if not self.lifecycle.was_open:
            reader.join(_FORCE_GRACE)
            assert self.lifecycle.cause is not None
            raise self.lifecycle.cause

    def _cancel(self, error: BaseException) -> bool:
        # End a connection that is not open yet; False when it is.
        if not self.lifecycle.cancel(error):
            return False
        self.queue.end()
        self.inbox.close()
        self.dial.cancel()
        live.discard(self)
        if self.threads.reader is None:
            self.lifecycle.reach(Milestone.FINISHED)
        return True

    def _run(self, deadline: float) -> None:
        # Body of the reader thread.
        try:
            upgraded = self.dial.run(deadline)
        except BaseException as error:
            self._open_failed(error)
            return
        link = _Link(self, upgraded)
        self.upgraded, self.link, self.threads.writer = upgraded, link, link.thread
        self.keepalive.start(monotonic())
        try:
            link.thread.start()
        except BaseException as error:  # no more threads to be had
            upgraded.transport.close()
            self._open_failed(error)
            return
        if self.lifecycle.open():
            self.queue.start()
            self._serve(link)
            return
        self.queue.end()
        link.thread.join()
        link.leave()
        self._open_failed(self.lifecycle.error())

    def _open_failed(self, error: BaseException) -> None:
        self._cancel(error)
        self.log.debug("not open: %s", error)
        self.lifecycle.reach(*Milestone)

    def _serve(self, link: _Link) -> None:
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
        if isinstance(error, ConnectionError):
            _leave_to_reader(self)
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
        self.queue.end()
        self.inbox_stop_waiting()
        if self.link is not None:
            self.link.transport.shutdown()

    def abandon_stream(self) -> None:
        """End the connection because the rest of a message will never come. Never blocks."""
        self.lifecycle.request_close(1011, _ABANDONED, monotonic() + self.options.close_timeout)
        self.queue.cut(Frame(Opcode.CLOSE, encode_close(1011, _ABANDONED)))
        self.queue.rouse()
        self.inbox_stop_waiting()

    def settle(self, deadline: float) -> None:
        """After ``drop``: make ``unsent`` known although a callback keeps the reader from finishing."""
        link = self.link
        if link is None or threading.current_thread() is link.thread:
            return
        link.thread.join(max(deadline - monotonic(), 0))
        if not link.thread.is_alive():
            self.lifecycle.account(_messages_of(link.unwritten()))

    def inbox_stop_waiting(self) -> None:
        """Do not let messages that nobody takes keep the reader from finding the end."""
        self.inbox.stop_waiting()
        self.runner.stop_waiting()

    def wait_finished(self, timeout: float) -> bool:
        """Wait until ``on_close`` has returned and the threads have ended. ``False`` on a time-out."""
        deadline = monotonic() + timeout
        if self.threads.are_calling() or not self.lifecycle.wait(Milestone.FINISHED, timeout):
            return False
        reader = self.threads.reader
        if reader is not None and reader.ident is not None:
            reader.join(max(deadline - monotonic(), _FORCE_GRACE))
        return True

    def _finish(self, link: _Link) -> None:
        # Reader thread: nobody reads any more, so nothing is left to wait for.
        link.transport.shutdown()
        self.queue.end()
        link.thread.join(_WRITER_GRACE)
        items = link.unwritten()
        self.lifecycle.finish(_messages_of(items))
        error = self.lifecycle.error()
        _fail_futures(items, error)
        self.keepalive.fail(error)
        link.leave()
        self.inbox.close()
        _log_end(self)
        self.runner.call(self._say_goodbye)

    def _say_goodbye(self) -> None:
        self.callbacks.closed(self.lifecycle.code or 1006, self.lifecycle.reason)
        self.lifecycle.reach(Milestone.FINISHED)
        live.discard(self)  # not before: an exit waits for on_close, too

    # -- observing and refusing ------------------------------------------------------------------------

    @property
    def shown_url(self) -> str:
        """The URL without what may be secret in it."""
        return str(self.upgraded.url if self.upgraded else self.dial.url)

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


def drop_and_wait(session: Session) -> None:
    """Drop a connection, and give its threads a moment to end. Any thread."""
    deadline = monotonic() + _FORCE_GRACE
    session.drop()
    if not session.wait_finished(_FORCE_GRACE):
        session.settle(deadline)


def receive(session: Session, timeout: float | None) -> Received:
    """Take the next message, or piece of one, from the inbox of a connection. Thread-safe."""
    if not len(session.inbox):
        _check_may_wait(session)
    try:
        return session.inbox.get(timeout)
    except InboxClosed:
        raise session.lifecycle.error() from session.lifecycle.cause


def _check_may_wait(session: Session) -> None:
    session.check_not_forked()
    if session.callbacks.take_messages:
        name = "on_message" if session.options.assemble else "on_fragment"
        raise WSClientError(f"recv() and {name} exclude each other: messages go to {name}")
    session.threads.refuse_on_reader("recv")
    session.threads.refuse_on_writer("recv")
    if session.lifecycle.state in (State.NEW, State.CONNECTING):
        session.refuse()


def _log_end(session: Session) -> None:
    lifecycle, dropped = session.lifecycle, session.inbox.dropped
    level = logging.WARNING if lifecycle.unsent else logging.DEBUG
    text = "closed: code %s, reason %r, %d messages unsent"
    session.log.log(level, text, lifecycle.code, lifecycle.reason, len(lifecycle.unsent))
    if dropped:
        session.log.warning("%d received messages found no room after close()", dropped)


def _messages_of(items: list[Item]) -> tuple[Message, ...]:
    return tuple(message for message in map(message_of, items) if message is not None)


def _leave_to_reader(session: Session) -> None:
    # Nothing goes out any more, but what had come in before is still to be read, and a close frame may be
    # behind it. The reader finds the end by itself; the writer, whose thread this is, stays its clock.
    session.lifecycle.hasten(monotonic() + session.options.close_timeout)
    while not session.queue.ended and (left := session.lifecycle.deadline - monotonic()) > 0:
        session.queue.wait(left)


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
