"""The writer thread: drain the queue, encode, write. Also the connection's clock.

It is the only thread that writes to the transport, so it is also the one that knows when a write has made no
progress, when a ping is due, and when a close has waited long enough. Having these deadlines here costs no
third thread and needs no lock that a stuck write could hold: each of its waits ends at the nearest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol, cast

from wsclient.exceptions import WSClientError
from wsclient.frames import Outgoing, encode_batch, fully_written
from wsclient.items import Batch, Entry, Item, Lane, ends_message, expiry_of, message_of
from wsclient.keepalive import Keepalive, fail_expired, resolve_future
from wsclient.ledger import Ledger
from wsclient.send_queue import SendQueue
from wsclient.stats import WriteCounters

__all__ = ["DeadlinePassed", "PeerStalled", "Writer"]


class PeerStalled(WSClientError, TimeoutError):
    """The peer is dead: it takes no byte, or answers no ping."""


class DeadlinePassed(WSClientError, TimeoutError):
    """The closing handshake was not over in time."""


class Sink(Protocol):
    """What the writer needs of a transport."""

    def own_writes(self) -> None: ...
    def send(self, data: memoryview, timeout: float | None) -> int: ...


class Writer:
    """Runs on one thread; ``unsent`` and ``counters`` may be read by others once it has ended.

    Args:
        queue: where the items come from.
        sink: where the bytes go.
        keepalive: pings and their clock.
        counters: where to count; its own unless given.
        write_timeout: seconds without a byte of progress after which the peer is dead; ``None`` for no limit.
        end_by: tells when (monotonic) the connection is ended by force; infinity while it is open.
        peer_silent: tells whether the reader is waiting and there is nothing to read.
        compress: what the extension makes of a batch, frame by frame (RFC 7692); ``None`` without one.
        ledger: keeps what was written and may not have arrived; ``None`` when nobody wants to know.
        on_expired: called with each message that was not written before it expired.
        on_final: called when the close frame has been written.
        on_failure: called when this thread gives up; it writes nothing after that.
    """

    def __init__(
        self,
        queue: SendQueue,
        sink: Sink,
        keepalive: Keepalive,
        counters: WriteCounters | None = None,
        *,
        write_timeout: float | None,
        end_by: Callable[[], float],
        peer_silent: Callable[[], bool],
        compress: Callable[[Sequence[Outgoing]], list[Outgoing]] | None = None,
        ledger: Ledger | None = None,
        on_expired: Callable[[str | bytes], None] = lambda message: None,
        on_final: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._queue = queue
        self._sink = sink
        self._keepalive = keepalive
        self._write_timeout = math.inf if write_timeout is None else write_timeout
        self._end_by = end_by
        self._peer_silent = peer_silent
        self._compress = compress
        self._on_final = on_final
        self._on_failure = on_failure
        self._ledger = ledger
        self._on_expired = on_expired
        self._stopped = False  # set once, by the reader thread
        self.lane: Lane = Lane.WAITING  # writer thread: where the batch in flight comes from
        self._pings = 0  # writer thread: pings that were written before it
        self.counters: WriteCounters = counters or WriteCounters()
        self._in_flight: Sequence[Item] = ()  # writer thread: the batch being written
        self._frames: Sequence[Outgoing] = ()  # writer thread: what goes out for all but the marks of them
        self._written = 0  # writer thread: bytes of it that are written

    def run(self) -> None:
        """Body of the writer thread."""
        self._queue.own_reads()
        self._sink.own_writes()
        try:
            while self.write_once():
                pass
        except BaseException as error:
            self._on_failure(error)
        finally:
            self._queue.own_reads(False)

    def write_once(self) -> bool:
        """Write one batch, or wait for one. ``False`` when there will be none any more."""
        self._check_deadlines(monotonic())
        has_room = self._ledger is None or not self._ledger.is_full
        batch = self._queue.take(messages=has_room)
        if batch is not None:
            self._write(batch)
            return True
        if self.is_done():
            return False
        nearest = self._nearest()
        self._queue.wait(None if nearest == math.inf else nearest - monotonic(), messages=has_room)
        return True

    def _nearest(self) -> float:
        nearest = min(self._keepalive.deadline, self._end_by())
        return nearest if self._ledger is None else min(nearest, self._ledger.deadline)

    def is_done(self) -> bool:
        """Whether there will be nothing to write any more."""
        return self._stopped or self._queue.ended

    def stop(self) -> None:
        """End the loop: the link is lost. Reader thread."""
        self._stopped = True
        self._queue.rouse()

    def unsent(self) -> list[Item]:
        """Return the items that were taken from the queue and not fully written, in order."""
        done = fully_written(self._frames, self._written)
        for position, item in enumerate(self._in_flight):
            if _outgoing(item) is None:
                continue
            if not done:
                return list(self._in_flight[position:])
            done -= 1
        return []

    def forget(self) -> None:
        """What ``unsent`` has returned is in other hands. Reader thread, once this one has ended."""
        self._in_flight = self._frames = ()

    def _write(self, batch: Batch) -> None:
        self._in_flight, self.lane = batch.items, batch.lane  # first: whatever fails, it is not lost
        self._pings = self._keepalive.pings_sent
        self._written = 0
        now = monotonic()
        if batch.final and self._ledger is not None:
            # The answer to it says what had arrived: the peer's close frame may have crossed ours.
            batch.items[:0] = filter(None, [self._ledger.last()])
            batch.entries = True
        self._in_flight = batch.items
        if batch.entries:
            self._drop_expired(batch, now)
        whole = cast("list[Outgoing]", batch.items)
        frames = _frames_of(batch.items, now) if batch.entries else whole
        try:
            if self._compress is not None:
                frames = self._compress(frames)
            self._frames = frames
            if frames:
                self._send_all(memoryview(encode_batch(frames)))
        except BaseException:
            self._settle_part()
            raise
        self._in_flight = self._frames = ()
        counters = self.counters
        counters.frames_sent += len(frames)
        if len(frames) > counters.max_frames_per_write:
            counters.max_frames_per_write = len(frames)
        if self._ledger is not None and not batch.final:  # first: the callback of a receipt may take its time
            self._note_written(self._ledger, batch.items, entries=batch.entries)
        if batch.entries:
            self._settle(batch.items)
        elif not batch.final:
            counters.messages_sent += len(frames)
        if batch.final:
            self._keepalive.stop()  # no ping may follow the close frame, so there is no verdict on one
            self._on_final()

    def _note_written(self, ledger: Ledger, items: Sequence[Item], *, entries: bool) -> None:
        is_greeting = self.lane is Lane.AHEAD
        barrier = ledger.written(items, monotonic(), pings=self._pings, entries=entries, greeting=is_greeting)
        if barrier is not None:
            self._queue.control.put_ping(barrier)

    def _drop_expired(self, batch: Batch, now: float) -> None:
        expired = [item for item in batch.items if expiry_of(item) <= now]
        if expired:
            batch.items = [item for item in batch.items if expiry_of(item) > now]
            self._in_flight = batch.items  # first: what on_dropped is told of is not unsent, too
        for item in expired:
            self.counters.expired += 1
            fail_expired(item)
            if (message := message_of(item)) is not None:
                self._on_expired(message)

    def _settle_part(self) -> None:
        # The write has failed, but what went out before is written: nobody shall wait for that in vain.
        items, remaining = self._in_flight, self.unsent()
        done = items[: len(items) - len(remaining)]
        if self._ledger is not None:
            self._note_written(self._ledger, done, entries=True)
        self._in_flight, self._frames, self._written = remaining, (), 0
        self.counters.frames_sent += sum(_outgoing(item) is not None for item in done)
        self._settle(done)

    def _send_all(self, data: memoryview) -> None:
        with suppress(TimeoutError):
            data = self._send(data, 0.0)
        stalled_at = monotonic() + self._write_timeout if data else math.inf
        while data:
            nearest = min(stalled_at, self._keepalive.deadline, self._end_by())
            try:
                data = self._send(data, None if nearest == math.inf else max(nearest - monotonic(), 0.0))
            except TimeoutError:
                self._judge_stall(stalled_at)
            else:
                now = monotonic()
                stalled_at = now + self._write_timeout
                self._keepalive.progressed(now, whole=False)

    def _send(self, data: memoryview, timeout: float | None) -> memoryview:
        count = self._sink.send(data, timeout)
        counters = self.counters
        counters.writes += 1
        counters.bytes_sent += count
        self._written += count
        return data[count:]

    def _judge_stall(self, stalled_at: float) -> None:
        now = monotonic()
        if now >= stalled_at:
            raise PeerStalled(f"write timeout: the peer took no byte within {self._write_timeout} s")
        self._check_deadlines(now)

    def _check_deadlines(self, now: float) -> None:
        if now >= self._end_by():
            raise DeadlinePassed("the connection was not closed in time")
        barrier = self._ledger.due(now) if self._ledger is not None else None
        if barrier is not None:
            self._queue.control.put_ping(barrier)
        if now < self._keepalive.deadline:
            return
        if self._keepalive.expired(now):
            if self._peer_silent():
                raise PeerStalled("ping timeout: the peer did not answer")
            self._keepalive.postpone(now)
        ping = self._keepalive.due(now)
        if ping is not None:
            self._queue.control.put_ping(ping)

    def _settle(self, items: Sequence[Item]) -> None:
        self._keepalive.progressed(monotonic(), whole=True)
        self.counters.messages_sent += sum(map(ends_message, items))
        for item in items:
            if isinstance(item, Entry) and item.future is not None:
                resolve_future(item.future, None)


def _outgoing(item: Item) -> Outgoing | None:
    return item.outgoing if isinstance(item, Entry) else item


def _frames_of(items: Sequence[Item], now: float) -> list[Outgoing]:
    for item in items:
        if isinstance(item, Entry) and item.on_writing is not None:
            item.on_writing(now)
    return [frame for frame in map(_outgoing, items) if frame is not None]
