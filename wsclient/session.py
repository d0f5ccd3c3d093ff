"""One connection at work: opening, the links in turn, closing, and the one end.

Three rules make the end of a connection simple:

* whoever ends it only *notes* that (``Lifecycle``), stops the queue, and shuts the transport down;
* that wakes the reader thread, which alone finishes: it waits for the writer, settles the account of unsent
  messages, closes the file descriptor and calls ``on_close``, once, after the last message;
* every wait in between has a deadline, which the writer's clock enforces.

With ``reconnect`` the loss of a link is not the end: ``Recovery`` leads the reader thread to the next one.
"""

from __future__ import annotations

import logging
import threading
import warnings
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import cast

from wsclient.callbacks import Received, Runner
from wsclient.exceptions import Disconnected, HandshakeError, WSClientError
from wsclient.fragments import StreamSource
from wsclient.frames import Frame, Opcode, encode_close
from wsclient.handshake import Dial, Upgraded, asked
from wsclient.inbox import InboxClosed, InboxLeft
from wsclient.items import messages_of
from wsclient.keepalive import fail_futures
from wsclient.lifecycle import Milestone, State
from wsclient.lifetime import live
from wsclient.link import Link
from wsclient.options import Credentials, Options
from wsclient.outbox import LOST_IN_CALLBACK
from wsclient.parts import Parts
from wsclient.recovery import Recovery
from wsclient.shortage import outlast
from wsclient.stats import Stats

__all__ = [
    "Session",
    "credentials_of",
    "drop_and_wait",
    "forgotten",
    "from_anywhere",
    "receive",
    "snapshot",
]

_ABANDONED = "a stream was not finished"
_FORCE_GRACE = 0.4  # seconds for the threads to end once the transport is shut down


def from_anywhere(action: Callable[[], None]) -> None:
    """Run something for the garbage collector, which may come inside of any lock of the very same session."""
    with suppress(RuntimeError):  # no thread to be had: the process is about to end
        start_new_thread(action, ())


class _Threads:
    """Where a connection's callbacks run: who calls from there must not wait for these threads."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.reader: threading.Thread | None = None  # set once, before that thread starts
        self.writer: threading.Thread | None = None  # reader thread, before that thread starts

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

    def __init__(self, url: str | Callable[[], str], options: Options) -> None:
        self.parts: Parts = Parts(options)
        self.threads: _Threads = _Threads(self.parts.runner)
        self._url = url
        # Replaced before each attempt: by open() or the reader thread. Any thread cancels it.
        self._dial = None if callable(url) else Dial(url, options, self.parts.log)
        self.upgraded: Upgraded | None = None  # reader thread, before the state is OPEN
        self.link: Link | None = None  # reader thread, before the state is OPEN

    # -- opening --------------------------------------------------------------------------------------

    def open(self, timeout: float) -> None:
        """Start the reader thread, which dials, and wait until the connection is open."""
        lifecycle = self.parts.lifecycle
        deadline = monotonic() + timeout
        dial = self._dial or self._new_dial()
        lifecycle.begin()
        live.add(self)
        reader = threading.Thread(
            target=self._run, args=(dial, deadline), name=f"wsclient-reader-{self.parts.name}", daemon=True
        )
        self.threads.reader = reader
        try:
            reader.start()
            if not lifecycle.wait(Milestone.DIALLED, deadline - monotonic()):
                self._cancel(dial.timed_out(timeout))
            if lifecycle.was_open:
                lifecycle.wait(Milestone.GREETED, deadline - monotonic())
        except BaseException as error:  # Ctrl-C, or no more threads to be had
            if reader.ident is None:
                self._open_failed(error)
            elif not self._cancel(error):
                self.drop()
            raise
        if not lifecycle.was_open:
            reader.join(_FORCE_GRACE)
            assert lifecycle.cause is not None
            raise lifecycle.cause

    def _new_dial(self) -> Dial:
        url = asked("url", self._url) if callable(self._url) else self._url
        self._dial = Dial(url, self.parts.options, self.parts.log)
        return self._dial

    def _cancel(self, error: BaseException) -> bool:
        # End a connection that is not open yet; False when it is.
        if not self.parts.lifecycle.cancel(error):
            return False
        self.parts.queue.end()
        self.parts.inbox.close()
        if self._dial is not None:
            self._dial.cancel()
        live.discard(self)
        if self.threads.reader is None:
            self.parts.lifecycle.reach(Milestone.FINISHED)
        return True

    def _run(self, dial: Dial, deadline: float) -> None:
        # Body of the reader thread.
        try:
            link = self._attach(dial.run(deadline))
        except BaseException as error:
            self._open_failed(error)
            return
        if self.parts.lifecycle.open():
            self.parts.queue.start()
            self._serve(link)
            return
        self.parts.queue.end()
        link.thread.join()
        link.leave()
        self._open_failed(self.parts.lifecycle.error())

    def _attach(self, upgraded: Upgraded) -> Link:
        try:
            link = Link(self.parts, upgraded)
            self.upgraded, self.threads.writer = upgraded, link.thread
            self.parts.keepalive.start(monotonic())
            link.thread.start()
        except BaseException:  # no more threads to be had, or no memory
            upgraded.transport.close()
            raise
        self.link = link  # not before: others join its thread
        return link

    def _open_failed(self, error: BaseException) -> None:
        self._cancel(error)
        self.parts.log.debug("not open: %s", error)
        self.parts.lifecycle.reach(*Milestone)

    # -- the links in turn: reader thread -------------------------------------------------------------

    def _serve(self, first: Link) -> None:
        self.parts.lifecycle.reach(Milestone.DIALLED)
        self.parts.log.debug("open")
        self.parts.runner.call(self._greet)
        recovery = self._recovery()
        link: Link | None = first
        while link is not None:
            link.read()
            link = recovery.next(link) if recovery else None
        try:
            self._finish()
        finally:  # whatever failed there: nobody waits for ever
            self.parts.inbox.close()
            self.parts.runner.call(self._say_goodbye)

    def _greet(self) -> None:
        self.parts.callbacks.opened()
        self.parts.lifecycle.reach(Milestone.GREETED)

    def _recovery(self) -> Recovery | None:
        policy = self.parts.options.reconnect
        if policy is None:
            return None
        return Recovery(self.parts, policy, dial=self._redial, attach=self._attach, detached=self._detached)

    def _redial(self) -> Upgraded:
        dial = self._new_dial()
        if (
            not self.parts.lifecycle.recovers
        ):  # closed meanwhile, by someone who has cancelled the dial before
            dial.cancel()
        return dial.run(monotonic() + self.parts.options.open_timeout)

    def _detached(self) -> None:
        self.link = None

    def _finish(self) -> None:
        outlast(self._settle_end)
        if self.link is not None:
            self.link.leave()
        _log_end(self.parts)

    def _settle_end(self) -> None:
        # Nobody reads any more, so nothing is left to wait for.
        parts, link = self.parts, self.link
        if link is not None:
            link.transport.shutdown()
        parts.queue.end()
        if link is not None:
            link.join_writer()
        unsent, in_doubt = link.account() if link else parts.account([])
        parts.lifecycle.finish(messages_of(unsent), messages_of(in_doubt))
        error = parts.lifecycle.error()
        fail_futures(unsent, error)
        parts.keepalive.fail(error)
        parts.tell_rest()

    def _say_goodbye(self) -> None:
        lifecycle = self.parts.lifecycle
        self.parts.callbacks.closed(lifecycle.code or 1006, lifecycle.reason)
        lifecycle.reach(Milestone.FINISHED)
        live.discard(self)  # not before: an exit waits for on_close, too

    # -- closing --------------------------------------------------------------------------------------

    def begin_close(self, code: int, reason: str, timeout: float) -> None:
        """Refuse new messages and have the writer drain, close, and enforce the deadline. Never blocks."""
        if self._cancel(HandshakeError("closed before it was open")):
            return
        parts, was_lost = self.parts, self.parts.lifecycle.recovers
        parts.lifecycle.request_close(code, reason, monotonic() + timeout)
        parts.queue.close(Frame(Opcode.CLOSE, encode_close(code, reason)))
        if was_lost:
            parts.release(parts.lifecycle.error())
        parts.queue.rouse()
        parts.stop_waiting()
        self._stop_dialling()

    def drop(self) -> None:
        """Shut the transport down now. Never blocks."""
        if self._cancel(HandshakeError("aborted before it was open")):
            return
        self.parts.lifecycle.abort()
        self.parts.queue.end()
        self.parts.release(self.parts.lifecycle.error())
        self.parts.stop_waiting()
        self._stop_dialling()
        link = self.link
        if link is not None:
            link.transport.shutdown()

    def _stop_dialling(self) -> None:
        if self._dial is not None:
            self._dial.cancel()

    def abandon_stream(self, source: StreamSource) -> None:
        """End the connection because the rest of a message will never come. Never blocks."""
        parts = self.parts
        with parts.queue.mutex:
            is_there = source.is_open() and parts.queue.front.knows(source)
        if not is_there:
            return
        parts.lifecycle.request_close(1011, _ABANDONED, monotonic() + parts.options.close_timeout)
        parts.queue.give_up(source, Frame(Opcode.CLOSE, encode_close(1011, _ABANDONED)))
        parts.queue.rouse()
        self._stop_dialling()
        parts.stop_waiting()

    def settle(self, deadline: float) -> None:
        """After ``drop``: make ``unsent`` known although a callback keeps the reader from finishing."""
        link, parts = self.link, self.parts
        if link is not None:
            if threading.current_thread() is link.thread:
                return
            link.thread.join(max(deadline - monotonic(), 0))
            if link.thread.is_alive():
                return
        unsent, in_doubt = link.account() if link else parts.account([])
        parts.lifecycle.account(messages_of(unsent), messages_of(in_doubt))

    def check_may_wait(self, what: str) -> bool:
        """Raise where a wait for the writer could never end. Tells whether the caller is a callback."""
        self.parts.check_not_forked()
        self.threads.refuse_on_writer(what)
        return self.threads.are_calling()

    def wait_finished(self, timeout: float) -> bool:
        """Wait until ``on_close`` has returned and the threads have ended. ``False`` on a time-out."""
        deadline = monotonic() + timeout
        if self.threads.are_calling() or not self.parts.lifecycle.wait(Milestone.FINISHED, timeout):
            return False
        reader = self.threads.reader
        if reader is not None and reader.ident is not None:
            reader.join(max(deadline - monotonic(), _FORCE_GRACE))
        return True

    @property
    def shown_url(self) -> str:
        """The URL without what may be secret in it."""
        if self.upgraded is not None:
            return str(self.upgraded.url)
        return str(self._dial.url) if self._dial is not None else "(not known yet)"

    def forked(self) -> None:
        """Called in a forked child: refuse everything, touch nothing."""
        self.parts.forked()


def credentials_of(session: Session, given: Credentials | None) -> Credentials | None:
    """Tell who a connection speaks for: as set, or else as presented to the server. Any thread."""
    option, upgraded = session.parts.options.credentials, session.upgraded
    if given is None and callable(option):
        return upgraded.credentials if upgraded else None
    return given or cast("Credentials | None", option)


def forgotten(session: Session, owner: object) -> None:
    """Drop a connection that nobody closed, for the garbage collector."""
    parts = session.parts
    if parts.is_forked or parts.lifecycle.state in (State.NEW, State.CLOSED):
        return
    text = f"unclosed {owner!r}"
    from_anywhere(session.drop)  # first, for the warning may be an error
    warnings.warn(text, ResourceWarning, source=owner, stacklevel=3)


def drop_and_wait(session: Session) -> None:
    """Drop a connection, and give its threads a moment to end. Any thread."""
    deadline = monotonic() + _FORCE_GRACE
    session.drop()
    if not session.wait_finished(_FORCE_GRACE):
        session.settle(deadline)


def receive(session: Session, timeout: float | None, what: str = "recv") -> Received:
    """Take the next message, or piece of one, from the inbox of a connection. Thread-safe."""
    parts = session.parts
    item = parts.inbox.poll()
    if item is not None:
        return item
    _check_may_wait(session, what)
    try:
        return parts.inbox.get(timeout, parts.watch() if session.threads.are_calling() else _never)
    except InboxClosed:
        raise parts.lifecycle.error() from parts.lifecycle.cause
    except InboxLeft:
        raise Disconnected(LOST_IN_CALLBACK) from None


def _never() -> bool:
    return False


def _check_may_wait(session: Session, what: str) -> None:
    parts = session.parts
    parts.check_not_forked()
    if parts.callbacks.take_messages:
        name = "on_message" if parts.options.assemble else "on_fragment"
        raise WSClientError(f"{what}() and {name} exclude each other: messages go to {name}")
    session.threads.refuse_on_reader(what)
    session.threads.refuse_on_writer(what)
    if parts.lifecycle.state in (State.NEW, State.CONNECTING):
        parts.refuse()


def _log_end(parts: Parts) -> None:
    lifecycle, dropped = parts.lifecycle, parts.inbox.dropped + parts.runner.dropped
    level = logging.WARNING if lifecycle.unsent or lifecycle.in_doubt else logging.DEBUG
    text = "closed: code %s, reason %r, %d messages unsent"
    parts.log.log(level, text, lifecycle.code, lifecycle.reason, len(lifecycle.unsent))
    if lifecycle.in_doubt:
        parts.log.warning("%d messages were written and may not have arrived", len(lifecycle.in_doubt))
    if parts.ledger is not None and parts.ledger.untold:
        parts.log.warning("%d more are not known any more: max_in_doubt_bytes", parts.ledger.untold)
    if dropped:
        parts.log.warning("%d received messages found no room and were not taken in time", dropped)


def snapshot(session: Session) -> Stats:
    """Count what has happened on a connection so far. Thread-safe."""
    parts = session.parts
    written, read, queue = parts.written, parts.read, parts.queue
    return Stats(
        messages_sent=written.messages_sent,
        frames_sent=written.frames_sent,
        bytes_sent=written.bytes_sent,
        writes=written.writes,
        max_frames_per_write=written.max_frames_per_write,
        messages_received=read.messages_received,
        bytes_received=read.bytes_received,
        queued_messages=len(queue.queue),
        queued_bytes=queue.front.queued_bytes(),
        max_queued_messages=queue.front.high_messages,
        max_queued_bytes=queue.front.high_bytes,
        dropped_messages=queue.admission.dropped,
        expired_messages=written.expired + queue.admission.expired,
        reconnects=read.reconnects,
        in_doubt_bytes=parts.in_doubt_bytes(),
        forgotten_messages=parts.ledger.forgotten if parts.ledger else 0,
        received_waiting=len(parts.inbox),
        discarded_messages=parts.inbox.dropped + parts.runner.dropped,
        pings_sent=parts.keepalive.pings_sent,
        pongs_received=parts.keepalive.pongs_received,
        latency=parts.keepalive.latency,
        callback_errors=parts.callbacks.errors,
    )
