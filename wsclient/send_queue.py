"""The queue between any number of sending threads and the one writer.

``SendQueue.put`` is the hottest line of the library: every thread of the application runs it, and a mutex
there makes them convoy. So its fast path takes none. It is three steps, each atomic by itself:

1. *take a ticket*: one ``pop`` from a pool that holds a ticket for each message that still has room. No
   ticket, no fast path. This is where the bound is kept, exactly, and where ``close`` cuts the fast path
   off: it empties the pool.
2. *append* the message.
3. *look*: when ``look`` is set, the writer may be asleep or gone, and the producer finds out under the mutex.

The writer's mirror image, in ``wait``: *set* ``look``, then *look* for messages once more, and only then
sleep. Whatever the interleaving, either the producer sees the flag or the writer sees the message; a message
that nobody wakes the writer for does not exist. Both orders need the sequential consistency of attribute
and deque operations that an interpreter with a GIL gives.

A producer may be stopped between 1 and 3 while the queue is cut (see ``cut``). Its message, appended after
the cut, belongs to nobody: the producer finds it where it left it, takes it back, and its ``put`` is refused.
"""

from __future__ import annotations

import enum
import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NoReturn, TypeVar

from wsclient.admission import Admission
from wsclient.control_lane import ControlLane
from wsclient.doorbell import Doorbell
from wsclient.exceptions import SendTimeout
from wsclient.fragments import FragmentLane, StreamSource, stop_streams
from wsclient.frames import Frame
from wsclient.front import Flow, Front
from wsclient.items import Batch, Entry, Item
from wsclient.options import Overflow
from wsclient.room import Room
from wsclient.waiting_line import Outcome, WaitingLine

__all__ = ["QueueState", "SendQueue"]

T = TypeVar("T")


class QueueState(enum.Enum):
    """What the queue still lets in, and out."""

    OPEN = "open"  # accepts, hands out
    DRAINING = "draining"  # refuses; hands out what was accepted, then the final frame
    CUT = "cut"  # refuses; hands out nothing but the final frame, if it has one


class SendQueue(queue.Queue[Item]):
    """Bounded in messages and bytes; many producers, one consumer that takes batches.

    ``put`` may be called from any thread; ``take`` and ``wait`` only from the writer thread.

    Args:
        max_messages: bound of the queue, in messages.
        max_bytes: bound of the queue, in bytes; one message larger than that is accepted alone.
        overflow: what ``put`` does when the queue is full.
        max_batch: size of a batch in bytes, so that control frames never wait long behind one.
        fragment_size: messages with a larger payload go out in pieces of that; ``None`` for whole ones.
        refuse: raises the error for a message that comes after the close.
        settle_expired, on_expired: called on a sending thread with each item that made way because it had
            expired; the first may be called twice.
    """

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        *,
        refuse: Callable[[], NoReturn],
        settle_expired: Callable[[Item], None] = lambda item: None,
        on_expired: Callable[[Item], None] = lambda item: None,
        overflow: Overflow = Overflow.BLOCK,
        max_batch: int = 256 * 1024,
        fragment_size: int | None = None,
    ) -> None:
        super().__init__(max_messages)
        self.mutex: threading.Lock = (
            threading.Lock()
        )  # gevent's queue, the base in a patched library, has none
        _remove_conditions(self)
        self._room = Room(max_messages, max_bytes)
        self._share = self._room.share
        self._take_ticket = self._room.pool.pop
        self._append = self.queue.append
        self.refuse = refuse
        self._writer_ident = 0  # written once, by the writer thread as it starts
        self._state = QueueState.OPEN  # written under mutex
        self._bell = Doorbell(self.mutex)
        self._barred = False  # any thread: everything is refused, without a look at the mutex
        self._line = WaitingLine(self.mutex)
        self.control: ControlLane = ControlLane(self.mutex, self._bell)
        self.fragments: FragmentLane = FragmentLane(
            self.mutex, self._bell, fragment_size, max_batch, max_bytes
        )
        self.front: Front = Front(
            self.queue, self._room, self._line, self.fragments, enter=self._enter, max_batch=max_batch
        )
        self.admission: Admission = Admission(
            self._room,
            self._line,
            self.front,
            self._bell,
            enter=self._enter,
            overflow=overflow,
            settle_expired=settle_expired,
            on_expired=on_expired,
        )
        self.ended: bool = False  # set once, by whoever ends the connection; the writer thread reads it
        self._final: Frame | None = None  # mutex: the close frame, until it is taken
        self._leftover: list[Item] = []  # mutex: accepted, and cut off
        self._dropped = False  # mutex: the cut has collected all of that; it fails where there is no memory

    # -- producers: any thread ------------------------------------------------------------------------

    def put(self, item: Item, block: bool = True, timeout: float | None = None) -> None:
        """Accept one item, waiting up to ``timeout`` seconds, or raise ``SendTimeout`` or ``QueueFull``."""
        if len(item) <= self._share:
            try:
                self._take_ticket()
            except IndexError:
                pass
            else:
                self._append(item)
                if self._bell.look:
                    self._after_append(item)
                return
        self.put_slowly(item, block, timeout)

    def _after_append(self, item: Item) -> None:
        if self._barred:
            self.refuse()
        with self.mutex:
            if self._state is not QueueState.CUT:
                self._bell.ring()
                return
            late = _take_back(self.queue, item)
        if late:
            self.refuse()

    def put_slowly(self, item: Item, block: bool, timeout: float | None) -> None:
        """As ``put``, always through the mutex: for entries, large messages, and a full queue."""
        # A future's callback would wait for itself: it runs on the writer thread.
        may_wait = block and threading.get_ident() != self._writer_ident
        try:
            waiter = self._when_open(lambda: self.admission.admit(item, may_wait))
            if waiter is None:
                return
            outcome = self._line.wait(waiter, timeout, self.admission)
        finally:
            self.admission.tell_expired()
        if outcome is Outcome.WAITING:
            raise SendTimeout(f"the send queue stayed full for {timeout} s; the message was not accepted")
        if outcome is Outcome.REFUSED:
            self.refuse()

    def _when_open(self, action: Callable[[], T]) -> T:
        if not self._barred:
            with self.mutex:
                if self._state is QueueState.OPEN:
                    return action()
        self.refuse()

    def _enter(self, item: Item) -> None:
        self.front.entered(item)
        self._append(item)
        self._bell.ring()

    def put_mark(self, entry: Entry) -> None:
        """Queue something that is no message and needs no room, behind everything accepted so far."""
        self._when_open(lambda: self.admission.admit_mark(entry))

    def put_dropping(self, item: Item) -> list[Item]:
        """Accept one item, giving up the oldest ones for it; return those. Thread-safe."""
        return self._when_open(lambda: self.admission.admit_dropping(item))

    # -- opening and closing: any thread --------------------------------------------------------------

    def hold(self) -> None:
        """Refuse everything until ``start``: the connection is not open yet."""
        self._barred = True
        self._room.withdraw()

    def start(self) -> None:
        """Accept items from now on, unless it was closed in the meantime."""
        with self.mutex:
            self._barred = False
            if self._state is QueueState.OPEN:
                self._room.publish()

    def close(self, final: Frame) -> None:
        """Refuse new items; what was accepted still goes out, then ``final``. Only the first close counts.

        While the connection is lost nothing can go out: then it is a ``cut``.
        """
        with self.mutex:
            if self._state is QueueState.OPEN and self.front.flow is not Flow.NOTHING:
                self._state = QueueState.DRAINING
                self._final = final
                self._shut_out()
            elif self._state is QueueState.OPEN:
                self._cut(self._final)  # the answer to the peer's close frame may be about to go out

    def give_up(self, source: StreamSource, final: Frame) -> None:
        """Send what stands before a stream that will not be finished, then ``final``, and nothing else."""
        with self.mutex:
            if self.front.flow is Flow.NOTHING:
                self._cut(self._final)
            elif self._state is not QueueState.CUT:
                self._room.pool.clear()  # nobody overtakes what is given up
                self._leftover += self.front.drop_from(source)
                stop_streams(self._leftover)
                self._state = QueueState.DRAINING
                self._final = self._final or final
                self._shut_out()

    def cut(self, final: Frame | None = None) -> None:
        """Refuse new items and keep the accepted ones back as leftover. ``final`` still goes out, if given.

        A final frame that is waiting to be taken is replaced, or taken back when ``final`` is ``None``.
        """
        with self.mutex:
            self._cut(final)

    def _cut(self, final: Frame | None) -> None:
        is_first = self._state is not QueueState.CUT
        self._state = QueueState.CUT
        self._bell.stick()  # before the last look: who appends after it has to look, too
        if not self._dropped:
            self._leftover = self.front.drop(self._leftover)
            self._dropped = True
            stop_streams(self._leftover)
        if is_first or self._final is not None:
            self._final = final
        self._shut_out()

    def halt(self, final: Frame | None = None) -> None:
        """The connection is lost: nothing leaves any more but ``final``. Items are still accepted.

        A queue that was closed before is cut.
        """
        with self.mutex:
            if self._state is not QueueState.OPEN:
                self._cut(final)
                return
            if self.front.flow is not Flow.NOTHING:
                stop_streams(self.front.halt())
            self._final = final
            self._bell.ring()

    def greet(self) -> int:
        """There is another link: what ``on_reconnect`` sends leaves first. Returns what ``resume`` takes."""
        with self.mutex:
            return self.front.greet()

    def resume(self, links: int) -> None:
        """``on_reconnect`` has returned; ``links`` is what ``greet`` returned."""
        with self.mutex:
            self.front.resume(links, self._state is QueueState.OPEN)
            self._bell.ring()

    def _shut_out(self) -> None:
        self._room.pool.clear()
        self._line.refuse_all()
        self._bell.ring()

    def end(self) -> None:
        """Cut, and tell the writer that there will never be anything to write again."""
        self.cut()
        self.ended = True
        self.rouse()

    def is_silent(self) -> bool:
        """Whether the close frame was taken, or there will be none."""
        return self._is_shut() and self._final is None

    def _is_shut(self) -> bool:
        return self._state is QueueState.CUT or self.front.flow is Flow.NOTHING

    def leftover(self) -> list[Item]:
        """Return what was accepted and cut off, in order. Once the queue has ended."""
        return [*self.front.again(), *self._leftover]

    def forked(self) -> None:
        """Make this copy, in a forked child, refuse everything; its mutex may be held by a lost thread."""
        self._barred = True
        self._bell.stick()
        self._room.pool.clear()

    # -- the writer thread ----------------------------------------------------------------------------

    def own_reads(self, own: bool = True) -> None:
        """Say that the calling thread is the writer, or no more: another thread may get its number."""
        self._writer_ident = threading.get_ident() if own else 0

    def take(self, messages: bool = True) -> Batch | None:
        """Return what to write next, or ``None``: control frames, else messages, else the final frame.

        Without ``messages`` those stay.
        """
        if self.control:
            return self._take_control()
        if messages and self.front.ready() and (batch := self._take_messages()):
            return batch
        return None if self._final is None else self._take_final()

    def _take_control(self) -> Batch | None:
        if self.is_silent():
            return None  # nothing follows a close frame (RFC 6455, section 5.5.1)
        return Batch(self.control.take(), entries=True)

    def _take_messages(self) -> Batch | None:
        # Under the mutex, so that a cut finds either none or all of the batch in the queue: no holes.
        # It holds up nobody: a producer that needs the mutex has found the queue full.
        with self.mutex:
            if self._state is QueueState.CUT:
                return None
            return self.front.take(self._state is QueueState.OPEN)

    def _take_final(self) -> Batch | None:
        with self.mutex:
            if self._state is not QueueState.OPEN:
                self._bell.stick()  # before the last look: who appends after it finds the queue cut
            # A pong from before the close may have come since take() looked for one.
            draining = self._state is QueueState.DRAINING and self.front
            if self._final is None or self.control or draining:
                return None
            if self._state is not QueueState.OPEN:
                self._state = QueueState.CUT
            final, self._final = self._final, None
            return Batch([final], entries=False, final=True)

    def wait(self, timeout: float | None, messages: bool = True) -> None:
        """Sleep until there may be something to ``take``, at most ``timeout`` seconds."""
        self._bell.sleep(timeout, partial(self._ready, messages))

    def _ready(self, messages: bool) -> bool:
        if self._is_shut():
            return self._final is not None
        if self.control or (messages and self.front.ready()):
            return True
        return self._final is not None and not self.front

    def rouse(self) -> None:
        """End the writer's present or next ``wait``: its deadlines have changed. Thread-safe."""
        with self.mutex:
            self._bell.nudge()


def _remove_conditions(base: queue.Queue[Item]) -> None:
    # Nobody notifies them here: get() or join() shall fail, not wait for ever. Not by vars(): whose __dict__
    # was looked at once has slower attributes for good, a fifth of the time of put.
    for condition in ("not_empty", "not_full", "all_tasks_done"):
        if hasattr(base, condition):
            delattr(base, condition)


def _take_back(waiting: deque[Item], item: Item) -> bool:
    # Whatever the cut found in the queue, it took. What is in there now came later.
    for position, candidate in enumerate(list(waiting)):
        if candidate is item:
            del waiting[position]
            return True
    return False
