"""The front of the send queue: where items leave it, batch by batch. Used under the mutex of the queue.

While a connection is lost, nothing leaves. Once it is open again, what ``on_reconnect`` sends leaves alone,
until it has returned; then everything does, the lanes before the queue.
"""

from __future__ import annotations

import enum
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from wsclient.exceptions import Disconnected, QueueFull
from wsclient.fragments import FragmentLane, StreamEntry, StreamSource, stop_streams
from wsclient.items import Batch, Item, Lane, expiry_of, is_message, message_of
from wsclient.lanes import Lanes
from wsclient.room import Room
from wsclient.waiting_line import WaitingLine

__all__ = ["Flow", "Front"]

T = TypeVar("T")

_CHUNK = 64  # messages popped between two looks at a batch's size, at most


class Flow(enum.Enum):
    """What leaves."""

    ALL = "all"
    GREETING = "greeting"  # what on_reconnect sends
    NOTHING = "nothing"  # the connection is lost


class Front:
    """Takes batches off a queue, and lets waiting producers have the room.

    Args:
        waiting: the queue's items.
        room: how much more may enter.
        line: producers that wait for room.
        lane: the message that goes out in fragments.
        enter: appends an item that has got room.
        max_batch: size of a batch in bytes.
    """

    def __init__(
        self,
        waiting: deque[Item],
        room: Room,
        line: WaitingLine,
        lane: FragmentLane,
        *,
        enter: Callable[[Item], None],
        max_batch: int,
    ) -> None:
        self._waiting = waiting
        self._room = room
        self._line = line
        self._lane = lane
        self._enter = enter
        self._max_batch = max_batch
        self._chunk = max(1, min(_CHUNK, max_batch // room.share))
        self._lanes = Lanes()
        self._under_way = Lane.WAITING  # where the message that goes out in fragments comes from
        self._ahead_bytes = 0
        self._retired: list[Item] = []  # in doubt, and not to be written again
        self.flow: Flow = Flow.ALL
        self._greeter: int | None = None  # the thread that runs on_reconnect
        self._late_greeter: int | None = None  # ... of a link that is lost by now
        self.links: int = 0  # how many links there were before this one
        self.next_expiry: float = math.inf  # nothing that waits expires before
        self.high_messages: int = 0  # writer thread
        self.high_bytes: int = 0  # writer thread

    def __bool__(self) -> bool:
        """Whether there is anything that was accepted and not taken."""
        return bool(self._waiting or self._lane or self._lanes)

    @property
    def waiting(self) -> int:
        """How many items wait in the queue."""
        return len(self._waiting)

    def ready(self) -> bool:
        """Whether there is something to take. The writer asks without the mutex before it sleeps."""
        if self.flow is Flow.NOTHING:
            return False
        if self._lane:
            return self._lane.ready()
        if self.flow is Flow.ALL:
            return bool(self._waiting or self._lanes)
        return Lane.AHEAD in self._lanes

    def take(self, is_open: bool) -> Batch | None:
        """Return the next batch, or ``None`` when there is none yet."""
        if self._lane:
            return self._take_fragments() if self.flow is not Flow.NOTHING else None
        if not self.ready():
            return None
        lane = self._lanes.first if self._lanes else Lane.WAITING
        source = self._lanes[lane] if self._lanes else self._waiting
        items: list[Item] = []  # off their lane, and nowhere else
        try:
            if lane is Lane.WAITING:
                return self._take_waiting(items, is_open)
            batch = self._take_from(lane, items)
        except BaseException:  # no memory: nothing shall be missing
            source.extendleft(reversed(items))
            raise
        self._lanes.tidy(lane)
        return batch

    def _take_waiting(self, items: list[Item], is_open: bool) -> Batch | None:
        depth = len(self._waiting)
        size = _pop_batch(self._waiting, items, self._max_batch, 1 if self._room.has_large else self._chunk)
        self._note_depth(depth, size, len(items))
        has_entries, whole = self._room.has_entries, items
        if has_entries or self._lane.fragment_size is not None:
            whole = self._cut(self._waiting, items)
        self._room.left(items)
        # Not after each batch: waking a thread costs as much as encoding ten messages.
        if is_open and not (self._line and self._waiting and self._room.is_scarce):
            self.serve_line()
        if whole:
            return Batch(whole, entries=has_entries or whole is not items)
        return self._begin_fragments(items, Lane.WAITING)

    def _take_from(self, lane: Lane, items: list[Item]) -> Batch | None:
        before = self._lanes[lane]
        _pop_batch(before, items, self._max_batch, 1)
        whole = self._cut(before, items)
        self._ahead_bytes = sum(map(len, self._lanes.of(Lane.AHEAD)))
        if whole:
            return Batch(whole, entries=True, lane=lane)
        return self._begin_fragments(items, lane)

    def _begin_fragments(self, items: list[Item], lane: Lane) -> Batch | None:
        self._under_way = lane
        self._lane.begin(items[0])
        items.clear()  # the fragment lane has it
        return self._take_fragments()

    def _take_fragments(self) -> Batch | None:
        batch = self._lane.take(self._max_batch)
        if batch is not None:
            batch.lane = self._under_way
        return batch

    def _cut(self, lane: deque[Item], items: list[Item]) -> list[Item]:
        # What can be written whole, large messages in pieces; the rest goes from `items` back to its lane.
        # Nothing can when the first goes out in fragments, batch after batch: that one stays in `items`.
        position = self._lane.first_of(items)
        if position == len(items):
            return items
        whole = items[:position]
        while position < len(items) and not self._needs_lane(items[position]):
            item = items[position]
            whole += self._lane.pieces_of(item) if self._lane.is_large(item) else [item]
            position += 1
        taken = max(position, 1)
        lane.extendleft(reversed(items[taken:]))
        del items[taken:]
        return whole

    def _needs_lane(self, item: Item) -> bool:
        return isinstance(item, StreamEntry) or (len(item) > self._max_batch and self._lane.is_large(item))

    def _note_depth(self, depth: int, size: int, count: int) -> None:
        if depth > self.high_messages or self._room.has_large or size * depth > self.high_bytes * count:
            self.high_messages = max(self.high_messages, depth)
            size += self.queued_bytes()
        if size > self.high_bytes:
            self.high_bytes = size

    # -- between two links ----------------------------------------------------------------------------

    def halt(self) -> list[Item]:
        """Let nothing leave any more; return what stands for a stream that was under way."""
        self.flow = Flow.NOTHING
        self._greeter, self._late_greeter = None, self._greeter or self._late_greeter
        self.links += 1
        cut_off = self._lane.items
        streams: list[Item] = [item for item in cut_off if isinstance(item, StreamEntry)]
        self._lanes = self._lanes.behind([] if streams else cut_off, self._under_way)
        self._lane.drop()
        return streams

    def put_again(
        self, in_doubt: list[Item], unwritten: list[Item], lane: Lane, tell: Callable[[list[Item]], T]
    ) -> T:
        """Have items leave before everything that waits, in order; ``unwritten`` came off ``lane``.

        What ``on_reconnect`` sent in vain is taken back. Returns what ``tell`` makes of that.
        """
        lanes = self._lanes.behind(unwritten, lane).behind(in_doubt, Lane.IN_DOUBT)
        in_vain = list(lanes.pop(Lane.AHEAD, ()))
        told = tell(in_vain)
        stop_streams(in_vain)
        self._lanes, self._ahead_bytes = lanes, 0  # all of it has been done, or nothing (no memory)
        return told

    def in_doubt(self) -> list[Item]:
        """What was written before and is, or was, to be written again."""
        return [*self._lanes.of(Lane.IN_DOUBT), *self._retired]

    def again(self) -> list[Item]:
        """What was taken for a link that is lost, and waits for the next."""
        return list(self._lanes.of(Lane.AGAIN))

    def greet(self) -> int:
        """Let leave what ``on_reconnect`` sends, and nothing else. Returns what ``resume`` wants to know."""
        self.flow = Flow.GREETING
        self._room.hold_back()
        return self.links

    def begin_greeting(self, links: int) -> None:
        """The calling thread runs ``on_reconnect``, unless that link is lost by now."""
        if links == self.links:
            self._greeter = threading.get_ident()
        else:
            self._late_greeter = threading.get_ident()

    def resume(self, links: int, is_open: bool) -> None:
        """``on_reconnect`` has returned: let everything leave, unless that link is lost by now."""
        self._late_greeter = None
        if links == self.links:
            self.flow, self._greeter = Flow.ALL, None
            self._room.let_go()
            if is_open:
                self.serve_line()

    def is_greeter(self) -> bool:
        """Whether the calling thread runs ``on_reconnect``: what it sends goes ahead.

        Raises ``Disconnected`` where that link is lost by now: the next one has a greeting of its own.
        """
        if self._late_greeter is not None and self._late_greeter == threading.get_ident():
            raise Disconnected("the connection was lost again: on_reconnect will be called for the next one")
        return self._greeter is not None and self._greeter == threading.get_ident()

    def put_ahead(self, item: Item) -> None:
        """Have an item leave before everything else. Raises ``QueueFull`` beyond the bounds of the queue."""
        size, count = self._ahead_bytes + len(item), len(self._lanes.get(Lane.AHEAD, ()))
        if count and is_message(item) and not self._room.would_hold(count + 1, size):
            raise QueueFull(f"on_reconnect has sent {count} messages: flush() before more")
        self._lanes.append(Lane.AHEAD, item)
        self._ahead_bytes = size

    def knows(self, source: StreamSource) -> bool:
        """Whether a stream is under way or waits."""
        waiting = (source.item in list(lane) for lane in (*self._lanes.values(), self._waiting))
        return self._lane.holds(source) or any(waiting)

    def drop_from(self, source: StreamSource) -> list[Item]:
        """Give up a stream and what stands behind it; hand that back in order."""
        if self._lane.holds(source):
            return self.drop([])
        behind: list[Item] = []
        lanes = (self._lanes[lane] for lane in (Lane.AHEAD, Lane.AGAIN) if lane in self._lanes)
        for lane in *lanes, self._waiting:
            kept = _pop_all(lane)
            place = kept.index(source.item) if source.item in kept else len(kept)
            cut = 0 if behind else place
            lane.extendleft(reversed(kept[:cut]))
            behind += kept[cut:]
        self._lanes.tidy(Lane.AHEAD)
        self._lanes.tidy(Lane.AGAIN)
        return behind

    def drop(self, before: list[Item]) -> list[Item]:
        """Give up everything, and hand it back in order, with what was given up before behind it."""
        lanes, waiting = self._lanes.behind(self._lane.items, self._under_way), list(self._waiting)
        # What is in doubt was written, and has an account of its own.
        retired = [*lanes.of(Lane.IN_DOUBT), *self._retired]
        items = [*lanes.of(Lane.AHEAD), *lanes.of(Lane.AGAIN), *waiting, *before]
        taken = iter(waiting)
        # Nothing is allocated from here on: it happens, or, without memory, has not begun.
        self._lane.drop()
        self._lanes.clear()
        self._retired, self._ahead_bytes = retired, 0
        for _ in taken:
            self._waiting.popleft()
        return items

    def entered(self, item: Item) -> None:
        """Note an item that enters the queue through the mutex."""
        self._room.entered(item)
        if (expiry := expiry_of(item)) < self.next_expiry:
            self.next_expiry = expiry
            self._line.nudge()  # those in it sleep until a later one

    def drop_expired(self, now: float) -> list[Item]:
        """Give up what waits and is too late by now. Rouse the writer then: it may have found nothing."""
        if now < self.next_expiry:
            return []
        # One by one and in place: an interrupt between two lines must find every message in the queue, and so
        # must the writer, which looks without the mutex. From the end, for producers append meanwhile.
        expired: list[Item] = []
        for position, item in reversed(list(enumerate(list(self._waiting)))):
            if expiry_of(item) <= now:
                del self._waiting[position]
                expired.insert(0, item)
                self._room.left([item])
        self.next_expiry = min(map(expiry_of, list(self._waiting)), default=math.inf)
        return expired

    def queued_bytes(self) -> int:
        """Payload bytes that wait in the queue. Any thread, without the mutex."""
        return sum(map(len, list(self._waiting)))

    def drop_oldest(self) -> Item:
        """Give up the oldest message of the queue."""
        for position, item in enumerate(list(self._waiting)):
            if message_of(item) is not None:
                del self._waiting[position]
                self._room.left([item])
                return item
        raise QueueFull("no message is left to drop, and there is still no room")

    def serve_line(self) -> None:
        """Let producers in who wait for room, or give all of it to those who come."""
        if self._line:
            self._line.serve(self._room.take, self._enter)
        if self._line:
            self._room.withdraw()
        else:
            self._room.publish()


def _pop_batch(waiting: deque[Item], items: list[Item], max_size: int, chunk: int) -> int:
    # `chunk` messages between two looks at the size: many of small ones, one by one of large ones.
    popleft = waiting.popleft
    size = 0
    while size < max_size and waiting:
        some: list[Item] = [""] * min(chunk, len(waiting))
        for place in range(len(some)):  # in place: no message is out of the queue and nowhere else
            some[place] = popleft()
        try:
            items += some
        except MemoryError:
            waiting.extendleft(reversed(some))
            raise
        size += sum(map(len, some))
    return size


def _pop_all(waiting: deque[Item]) -> list[Item]:
    # One by one: producers append meanwhile.
    items: list[Item] = []
    while waiting:
        items.append(waiting.popleft())
    return items
