"""From a lost link to the next one: what the reader thread does in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic

from wsclient.exceptions import Disconnected
from wsclient.handshake import Upgraded
from wsclient.items import Item, messages_of, restored
from wsclient.keepalive import fail_futures
from wsclient.lifecycle import ClosedBy, Lifecycle
from wsclient.link import Link
from wsclient.parts import Parts
from wsclient.protocol import Fragment
from wsclient.reconnect import Delivery, Disconnect, DisconnectKind, Reconnect, failed_attempt
from wsclient.transport import is_refused_certificate
from wsclient.writer import PeerStalled

__all__ = ["Recovery"]


class Recovery:
    """Opens a lost connection again. Every method and field belongs to the reader thread.

    Args:
        parts: of the connection.
        policy: when, and how often.
        dial: makes one attempt, or raises.
        attach: makes a link of what came of it, and starts its writer; raises when it cannot.
        detached: called when there is no link any more.
    """

    def __init__(
        self,
        parts: Parts,
        policy: Reconnect,
        *,
        dial: Callable[[], Upgraded],
        attach: Callable[[Upgraded], Link],
        detached: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._policy = policy
        self._dial = dial
        self._attach = attach
        self._detached = detached
        self._opened_at = monotonic()
        self._attempt = 0  # failed ones since the link was lost
        self._step = 0  # of the delays; goes on where a link has not lasted longer than its delay
        self._delay = 0.0  # before the last attempt
        self._failure: BaseException | None = None  # of the last attempt
        self._is_told = True  # on_disconnect has returned: any thread, the one that runs callbacks

    def next(self, link: Link) -> Link | None:
        """Return the link after ``link``, which has ended; ``None`` when that was the connection's end."""
        try:
            return self._next(link) if self._parts.lifecycle.recovers else None
        except BaseException as error:  # no memory, most likely: the connection shall not end without a word
            self._parts.log.error("giving up: %s", type(error).__name__, exc_info=error)
            self._parts.lifecycle.give_up(error)
            return None

    def _next(self, link: Link) -> Link | None:
        self._attempt = 0
        if monotonic() - self._opened_at > self._delay:
            self._step = 0
        reason = self._detach(link)
        if reason is None:
            self._parts.lifecycle.give_up(None)
            return None
        self._parts.log.info("lost: %s: %s", reason.kind.value, reason.text)
        if self._parts.callbacks.follow_links:
            self._parts.lifecycle.pause(None, lambda: self._is_told)  # an executor may be far behind
            self._is_told = False
            self._parts.runner.call(partial(self._tell, reason))
        self._failure = None
        found = self._try_again(reason)
        if found is None:
            self._parts.lifecycle.give_up(self._failure)
        return found

    def _tell(self, reason: Disconnect) -> None:
        self._parts.callbacks.disconnected(reason)
        self._is_told = True
        self._parts.lifecycle.reach()

    def _try_again(self, reason: Disconnect) -> Link | None:
        while self._wants(reason):
            self._delay = self._policy.delay(self._step, reason.retry_after)
            self._step += 1
            if not self._parts.lifecycle.pause(self._delay):
                return None
            self._attempt += 1
            try:
                return self._reopen()
            except BaseException as error:
                self._failure = error
                reason = failed_attempt(error, self._attempt, is_refused_certificate(error))
                self._parts.log.info("attempt %d failed: %s", self._attempt, error)
        return None

    def _wants(self, reason: Disconnect) -> bool:
        most = self._policy.max_attempts
        if most is not None and self._attempt >= most:
            return False
        return self._parts.lifecycle.recovers and self._parts.callbacks.wants_retry(
            self._policy.retry, reason
        )

    # -- leaving a link -------------------------------------------------------------------------------

    def _detach(self, link: Link) -> Disconnect | None:
        parts = self._parts
        link.transport.shutdown()
        parts.stop_writing()
        link.writer.stop()
        if not link.join_writer():  # there can't be two writers
            return None
        reason = self._hand_over(link)
        if not parts.callbacks.take_messages:
            self._end_received(link)
        parts.wait_again()
        parts.lifecycle.rest()
        parts.keepalive.fail(Disconnected("the connection was lost before the answer came"))
        link.leave()
        self._detached()
        return reason

    def _hand_over(self, link: Link) -> Disconnect:
        # What was accepted and not answered for goes to the next link, or back to the application.
        parts, unwritten = self._parts, link.writer.unsent()
        assert parts.ledger is not None, "every connection that recovers has one"
        _fail_streams(unwritten)
        doubt = parts.ledger.doubt()
        sends_again = parts.options.delivery is Delivery.AT_LEAST_ONCE
        handed_back = messages_of(doubt.greeting if sends_again else [*doubt.greeting, *doubt.items])
        kept = [whole for item in unwritten if (whole := restored(item)) is not None]
        in_vain = parts.queue.put_again(doubt.items if sends_again else [], kept, link.writer.lane)
        reason = _reason(parts.lifecycle, handed_back, messages_of(in_vain), doubt.forgotten, self._attempt)
        parts.ledger.clear()  # not before: what fails above must not lose it
        fail_futures(in_vain, Disconnected("the connection was lost before on_reconnect was done"))
        return reason

    def _end_received(self, link: Link) -> None:
        inbox = self._parts.inbox
        if link.reader.is_within or (inbox.drops and not self._parts.options.assemble):
            inbox.put_last(Fragment(b"", final=True, lost=True))
        inbox.rouse()

    # -- entering the next ----------------------------------------------------------------------------

    def _reopen(self) -> Link | None:
        link = self._attach(self._dial())
        links = self._parts.queue.greet()  # before it is open, so that a close finds a link to close
        if not self._parts.lifecycle.reopen():
            link.writer.stop()
            link.thread.join()
            link.leave()
            self._detached()
            return None
        self._opened_at = monotonic()
        self._parts.read.reconnects += 1
        self._parts.log.info("open again")
        if self._parts.callbacks.greets_again:
            self._parts.runner.call(partial(self._greet, links))
        else:
            self._parts.queue.resume(links)
        return link

    def _greet(self, links: int) -> None:
        with self._parts.queue.mutex:
            self._parts.queue.front.begin_greeting(links)
        try:
            self._parts.callbacks.reconnected(lambda: self._parts.queue.front.links != links)
        finally:
            self._parts.queue.resume(links)


def _reason(
    lifecycle: Lifecycle,
    in_doubt: tuple[str | bytes, ...],
    unsent: tuple[str | bytes, ...],
    forgotten: int,
    attempt: int,
) -> Disconnect:
    return Disconnect(
        kind=_kind(lifecycle),
        code=lifecycle.code,
        text=lifecycle.reason,
        error=lifecycle.cause,
        attempt=attempt,
        in_doubt=in_doubt,
        forgotten=forgotten,
        unsent=unsent,
    )


def _kind(lifecycle: Lifecycle) -> DisconnectKind:
    if lifecycle.failed:
        return DisconnectKind.PROTOCOL_ERROR
    if lifecycle.closed_by is ClosedBy.PEER:
        return DisconnectKind.CLOSED_BY_SERVER
    return DisconnectKind.KEEPALIVE if isinstance(lifecycle.cause, PeerStalled) else DisconnectKind.LOST


def _fail_streams(items: list[Item]) -> None:
    # Those whose end was under way. The receipts of messages stand: they go out again.
    broken = [item for item in items if restored(item) is None]
    fail_futures(broken, Disconnected("the connection was lost in the middle of the stream"))
