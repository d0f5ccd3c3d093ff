"""The real ``SendQueue`` and ``Inbox`` in every interleaving of small plays; and planted bugs, each found.

``WSCLIENT_INTERLEAVE_BOUND`` adds pre-emptions to each bound (1 takes minutes, and needs ``--timeout=0``),
``WSCLIENT_INTERLEAVE_SEEDS`` sets the number of random schedules for each play.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import pytest
from interleave.explorer import Explorer, Interleaving, Play
from interleave.scenarios import FINAL, InboxStage, Stage

from wsclient import (
    admission,
    control_lane,
    doorbell,
    fragments,
    front,
    inbox,
    room,
    send_queue,
    waiting_line,
)
from wsclient.control_lane import ControlLane
from wsclient.doorbell import Doorbell
from wsclient.exceptions import Timeout
from wsclient.fragments import FragmentLane, Phase, StreamSource
from wsclient.fragments import Outcome as ChunkOutcome
from wsclient.frames import Frame, Opcode
from wsclient.inbox import Inbox
from wsclient.items import Batch, Entry, Item, Lane
from wsclient.options import Overflow
from wsclient.room import Room
from wsclient.send_queue import QueueState, SendQueue
from wsclient.waiting_line import Lookout, Outcome, Waiter, WaitingLine

EXPLORER = Explorer(
    [
        send_queue,
        admission,
        front,
        fragments,
        room,
        doorbell,
        waiting_line,
        control_lane,
        inbox,
        sys.modules[__name__],
    ],
    helpers=[queue],
)
MORE = int(os.environ.get("WSCLIENT_INTERLEAVE_BOUND", "0"))
SEEDS = range(int(os.environ.get("WSCLIENT_INTERLEAVE_SEEDS", "20")))

Queue: TypeAlias = "type[SendQueue]"

# -- plays around the send queue ------------------------------------------------------------------


def two_producers(kind: Queue = SendQueue, *, size: int = 2, second: tuple[str, ...] = ("b1",)) -> Play:
    stage = Stage.of(size, kind=kind)
    return stage.play(p=stage.producer("p", "a1"), q=stage.producer("q", *second), writer=stage.writer())


def one_producer(kind: Queue = SendQueue) -> Play:
    """Three messages through a queue of two, and a writer that first waits with a time-out."""
    stage = Stage.of(2, kind=kind)
    return stage.play(p=stage.producer("p", "a1", "a2", "a3"), writer=stage.writer(1.0))


def producer_and_close(kind: Queue = SendQueue) -> Play:
    stage = Stage.of(2, kind=kind)
    return stage.play(
        p=stage.producer("p", "a1", "a2"), closer=lambda: stage.queue.close(FINAL), writer=stage.writer()
    )


def producer_and_end(kind: Queue = SendQueue) -> Play:
    """A late producer finds the queue cut."""
    stage = Stage.of(2, kind=kind)
    return stage.play(p=stage.producer("p", "a1", "a2"), ender=stage.queue.end, writer=stage.writer())


def batch_and_cut(kind: Queue = SendQueue) -> Play:
    """A cut while the writer takes a batch of several."""
    stage = Stage.of(4, kind=kind)
    fill = stage.producer("main", "a1", "a2", "a3")
    fill()

    def cutter() -> None:
        stage.queue.cut(FINAL)

    return stage.play(cutter=cutter, writer=stage.writer())


def close_then_end(kind: Queue = SendQueue) -> Play:
    """A close, and its end by force, while a producer puts."""
    stage = Stage.of(2, kind=kind)

    def closer() -> None:
        stage.queue.close(FINAL)
        stage.queue.end()

    return stage.play(p=stage.producer("p", "a1"), closer=closer, writer=stage.writer())


def full_queue_and_close(kind: Queue = SendQueue) -> Play:
    """Two producers wait for room in a queue that is closed."""
    stage = Stage.of(1, kind=kind)

    def fill_then_close() -> None:
        stage.producer("q", "b1")()
        stage.queue.close(FINAL)

    return stage.play(p=stage.producer("p", "a1", "a2"), q=fill_then_close, writer=stage.writer())


def full_queue_and_failure(kind: Queue = SendQueue) -> Play:
    """A producer waits for room in a queue whose writer has given up."""
    stage = Stage.of(1, kind=kind)
    stage.producer("main", "m1")()
    return stage.play(p=stage.producer("p", "a1"), failure=stage.queue.cut)


def wait_with_timeout(kind: Queue = SendQueue, *, others: int = 1) -> Play:
    """The time-out of a producer that waits for room, and the writer that makes some for it."""
    stage = Stage.of(1, kind=kind)
    stage.producer("main", "m1")()
    producers = {name: stage.producer(name, f"{name}1", timeout=1.0) for name in "pq"[:others]}
    return stage.play(**producers, writer=stage.writer())


def large_messages(kind: Queue = SendQueue) -> Play:
    """Two messages share four bytes: one is larger than a share, one than all."""
    stage = Stage.of(2, 4, kind=kind)
    return stage.play(
        p=stage.producer("p", "large"), q=stage.producer("q", "b", "big"), writer=stage.writer()
    )


def large_with_timeout(kind: Queue = SendQueue) -> Play:
    """A large message that gives up waiting may have held up a small one."""
    stage = Stage.of(2, 4, kind=kind)
    stage.producer("main", "m")()
    return stage.play(
        p=stage.producer("p", "large", timeout=1.0), q=stage.producer("q", "b"), writer=stage.writer()
    )


def start_and_close(kind: Queue = SendQueue) -> Play:
    """The connection opens, and is closed at once."""
    stage = Stage.of(2, kind=kind)
    stage.queue.hold()

    def opener() -> None:
        stage.queue.start()
        stage.queue.close(FINAL)

    return stage.play(p=stage.producer("p", "a1", "a2"), opener=opener, writer=stage.writer())


def flush(kind: Queue = SendQueue) -> Play:
    stage = Stage.of(1, kind=kind)
    return stage.play(p=stage.flusher("p", "a1"), q=stage.producer("q", "b1"), writer=stage.writer())


def flush_and_close(kind: Queue = SendQueue) -> Play:
    stage = Stage.of(2, kind=kind)
    return stage.play(
        p=stage.flusher("p", "a1"), closer=lambda: stage.queue.close(FINAL), writer=stage.writer()
    )


def no_waiting(kind: Queue = SendQueue) -> Play:
    stage = Stage.of(1, kind=kind, overflow=Overflow.RAISE)
    return stage.play(p=stage.producer("p", "a1", "a2"), q=stage.producer("q", "b1"), writer=stage.writer())


def drop_oldest(kind: Queue = SendQueue) -> Play:
    stage = Stage.of(1, kind=kind, overflow=Overflow.DROP_OLDEST)
    return stage.play(p=stage.dropper("p", "a1", "a2"), q=stage.dropper("q", "b1"), writer=stage.writer())


def pongs_and_pings(kind: Queue = SendQueue) -> Play:
    """Each is written, whatever the writer is about to do."""
    stage = Stage.of(1, kind=kind)
    pong, ping = Frame(Opcode.PONG, b"1"), Entry(Frame(Opcode.PING, b"2"))
    stage.must_be_written = [pong, ping]
    return stage.play(
        reader=lambda: stage.queue.control.put_pong(pong),
        pinger=lambda: stage.queue.control.put_ping(ping),
        writer=stage.writer(),
    )


def controls_and_close(kind: Queue = SendQueue) -> Play:
    """What came before the close is written before the close frame, and nothing after it."""
    stage = Stage.of(1, kind=kind)
    pong, ping = Frame(Opcode.PONG, b"1"), Entry(Frame(Opcode.PING, b"2"))
    stage.must_be_written = [pong]

    def reader() -> None:
        stage.queue.control.put_pong(pong)
        stage.queue.close(FINAL)

    return stage.play(reader=reader, pinger=lambda: stage.queue.control.put_ping(ping), writer=stage.writer())


def rouse(kind: Queue = SendQueue) -> Play:
    """The writer looks at its deadlines after each change of them, whatever else wakes it."""
    stage = Stage.of(1, kind=kind)
    changed: list[bool] = []
    looks: list[bool] = []

    def change() -> None:
        changed.append(True)
        stage.queue.rouse()

    def writer() -> None:
        while not (looks and looks[-1]):
            looks.append(bool(changed))
            if stage.queue.take() is None and not looks[-1]:
                stage.queue.wait(None)

    return Play(
        {"p": stage.producer("p", "a1"), "q": change, "writer": writer}, (stage.queue,), lambda _: None
    )


def stream_and_message(kind: Queue = SendQueue) -> Play:
    """A message that comes during a stream goes before it or after it, and a pong wherever it likes."""
    stage = Stage.of(2, kind=kind)
    pong = Frame(Opcode.PONG, b"1")
    stage.must_be_written = [pong]
    return stage.play(
        streamer=stage.streamer("s", "1", "2"),
        p=stage.producer("p", "a1"),
        reader=lambda: stage.queue.control.put_pong(pong),
        writer=stage.writer(),
    )


def two_streams(kind: Queue = SendQueue) -> Play:
    """One after the other, in whatever order they have begun."""
    stage = Stage.of(2, kind=kind)
    return stage.play(s=stage.streamer("s", "1"), t=stage.streamer("t", "2"), writer=stage.writer())


def stream_and_close(kind: Queue = SendQueue) -> Play:
    """A stream that was accepted is finished before the close frame."""
    stage = Stage.of(2, kind=kind)
    return stage.play(
        s=stage.streamer("s", "1"), closer=lambda: stage.queue.close(FINAL), writer=stage.writer()
    )


def stream_and_cut(kind: Queue = SendQueue) -> Play:
    """A stream under way is given up whole, and its application told."""
    stage = Stage.of(2, kind=kind)
    stage.producer("main", "m1")()

    def cutter() -> None:
        stage.queue.cut(FINAL)

    return stage.play(s=stage.streamer("s", "1"), cutter=cutter, writer=stage.writer())


def full_stream(kind: Queue = SendQueue) -> Play:
    """A chunk waits for room, with a time-out, and the connection ends meanwhile."""
    stage = Stage.of(2, kind=kind)
    chunks = "1" * (1 << 18), "2"
    return stage.play(
        s=stage.streamer("s", *chunks, timeout=1.0), ender=stage.queue.end, writer=stage.writer()
    )


def pieces_and_cut(kind: Queue = SendQueue) -> Play:
    """A message in pieces, and the one behind it, are written whole or handed back whole."""
    stage = Stage.of(4, kind=kind, fragment_size=2, max_batch=2)
    stage.producer("main", "abcde", "b")()

    def cutter() -> None:
        stage.queue.cut(FINAL)

    return stage.play(cutter=cutter, writer=stage.writer())


def lost_and_open_again(kind: Queue = SendQueue) -> Play:
    """Nothing leaves while the link is lost, producers do not notice, and on_reconnect goes first."""
    stage = Stage.of(4, kind=kind)

    def reader() -> None:
        stage.queue.halt()
        stage.queue.put_again([], [], Lane.WAITING)
        links = stage.queue.greet()
        stage.queue.front.begin_greeting(links)
        stage.producer("reader", "hello")()
        stage.queue.resume(links)

    return stage.play(p=stage.producer("p", "a1", "a2"), reader=reader, writer=stage.writer())


def lost_and_closed(kind: Queue = SendQueue) -> Play:
    """A close meets every moment of a lost link: all that was accepted is handed back, or written."""
    stage = Stage.of(4, kind=kind)
    stage.producer("main", "m1", "m2")()

    def reader() -> None:
        stage.queue.halt(None)
        stage.queue.resume(stage.queue.greet())

    return stage.play(reader=reader, closer=lambda: stage.queue.close(FINAL), writer=stage.writer())


# -- plays around the inbox -----------------------------------------------------------------------


def one_consumer(kind: type[Inbox[str]] = Inbox, *, size: int = 1) -> Play:
    stage = InboxStage.of(size, kind=kind)
    return stage.play(
        reader=stage.reader(["1", "2"], ["3"]), consumer=stage.consumer("consumer", None, None, None)
    )


def two_consumers(kind: type[Inbox[str]] = Inbox, *, size: int = 1) -> Play:
    stage = InboxStage.of(size, kind=kind)
    return stage.play(
        reader=stage.reader(["1", "2"], close=True),
        c=stage.consumer("c", None, None),
        d=stage.consumer("d", None, None),
    )


def last_item_and_close(kind: type[Inbox[str]] = Inbox) -> Play:
    """Two consumers, the last item, and the close: one of them learns that nothing more comes."""
    stage = InboxStage.of(2, kind=kind)
    return stage.play(
        reader=stage.reader(["1"], close=True), c=stage.consumer("c", None), d=stage.consumer("d", None)
    )


def inbox_timeout(kind: type[Inbox[str]] = Inbox) -> Play:
    """A wake-up that comes to a consumer whose time is over goes to the one who still waits."""
    stage = InboxStage.of(2, kind=kind)
    return stage.play(
        frozenset({"d"}), reader=stage.reader(["1"]), c=stage.consumer("c", 1.0), d=stage.consumer("d", None)
    )


def inbox_by_bytes(kind: type[Inbox[str]] = Inbox) -> Play:
    """Room for four bytes: the reader waits for it, or lets a larger item in alone."""
    stage = InboxStage.of(4, 4, kind=kind)
    return stage.play(
        reader=stage.reader(["1", "222"], ["33333"]), consumer=stage.consumer("consumer", None, None, None)
    )


def stop_waiting(kind: type[Inbox[str]] = Inbox) -> Play:
    """The reader, which waits for room, is told not to."""
    stage = InboxStage.of(1, kind=kind)
    return stage.play(
        reader=stage.reader(["1", "2"], ["3"], close=True),
        stopper=stage.inbox.stop_waiting,
        consumer=stage.consumer("consumer", None),
    )


PLAYS: dict[str, tuple[int, Callable[[], Play]]] = {
    "two producers, size 1": (2, lambda: two_producers(size=1)),
    "two producers, size 2": (2, two_producers),
    "two producers, three messages, size 1": (1, lambda: two_producers(size=1, second=("b1", "b2"))),
    "one producer, three messages, size 2": (2, one_producer),
    "producer and close": (2, producer_and_close),
    "producer and end": (2, producer_and_end),
    "batch and cut": (3, batch_and_cut),
    "close then end": (2, close_then_end),
    "full queue and close": (1, full_queue_and_close),
    "full queue and failure": (3, full_queue_and_failure),
    "wait with time-out": (2, wait_with_timeout),
    "two wait with time-out": (1, lambda: wait_with_timeout(others=2)),
    "large messages": (1, large_messages),
    "large message with time-out": (1, large_with_timeout),
    "start and close": (2, start_and_close),
    "flush": (1, flush),
    "flush and close": (1, flush_and_close),
    "no waiting": (1, no_waiting),
    "drop oldest": (2, drop_oldest),
    "pongs and pings": (2, pongs_and_pings),
    "controls and close": (1, controls_and_close),
    "rouse": (2, rouse),
    "stream and message": (1, stream_and_message),
    "two streams": (1, two_streams),
    "stream and close": (1, stream_and_close),
    "stream and cut": (1, stream_and_cut),
    "full stream": (1, full_stream),
    "pieces and cut": (3, pieces_and_cut),
    "lost and open again": (1, lost_and_open_again),
    "lost and closed": (1, lost_and_closed),
    "inbox: one consumer, size 1": (2, one_consumer),
    "inbox: one consumer, size 2": (2, lambda: one_consumer(size=2)),
    "inbox: two consumers, size 1": (1, two_consumers),
    "inbox: two consumers, size 2": (2, lambda: two_consumers(size=2)),
    "inbox: last item and close": (2, last_item_and_close),
    "inbox: time-out": (2, inbox_timeout),
    "inbox: bytes": (2, inbox_by_bytes),
    "inbox: stop waiting": (2, stop_waiting),
}


@pytest.mark.parametrize("name", PLAYS)
def test_every_interleaving(name: str) -> None:
    bound, scenario = PLAYS[name]
    print(f"{name}:", EXPLORER.explore(scenario, bound + MORE))


@pytest.mark.parametrize("name", PLAYS)
def test_random_interleavings_of_opcodes(name: str) -> None:
    print(f"{name}:", EXPLORER.sample(PLAYS[name][1], SEEDS))


# -- planted bugs ---------------------------------------------------------------------------------


class FlagBeforeAppend(SendQueue):
    """Looks whether the writer sleeps, then appends."""

    def put(self, item: Item, block: bool = True, timeout: float | None = None) -> None:
        look = self._bell.look
        self._take_ticket()
        self._append(item)
        if look:
            self._after_append(item)


class ClosedReadOnce(SendQueue):
    """Takes an open queue's word for it."""

    def put(self, item: Item, block: bool = True, timeout: float | None = None) -> None:
        if self._state is not QueueState.OPEN:
            self.refuse()
        self._append(item)
        with self.mutex:
            self._bell.ring()


class NotTakenBack(SendQueue):
    """A late producer only rings."""

    def _after_append(self, item: Item) -> None:
        with self.mutex:
            self._bell.ring()


class FailureTellsNobody(SendQueue):
    """A cut leaves those who wait for room to their fate."""

    def cut(self, final: Frame | None = None) -> None:
        with self.mutex:
            self._state = QueueState.CUT
            self._bell.stick()
            self._leftover += self.queue
            self.queue.clear()
            self._room.pool.clear()
            self._bell.ring()


class WakeWithoutLock(SendQueue):
    """Rings without the mutex."""

    def _after_append(self, item: Item) -> None:
        self._bell.ring()


class StickAfterLook(SendQueue):
    """The writer looks for messages a last time, and only then makes late producers look."""

    def _take_final(self) -> Batch | None:
        with self.mutex:
            if self._final is None or (self._state is QueueState.DRAINING and self.queue):
                return None
            self._state = QueueState.CUT
            self._bell.stick()
            final, self._final = self._final, None
            return Batch([final], entries=False, final=True)


class CutSticksLate(SendQueue):
    """The cut takes what is queued, and only then makes late producers look."""

    def cut(self, final: Frame | None = None) -> None:
        with self.mutex:
            self._state = QueueState.CUT
            while self.queue:
                self._leftover.append(self.queue.popleft())
            self._bell.stick()
            self._final = final
            self._shut_out()


class PongForgotten(SendQueue):
    """The close frame does not wait for a pong that came just before the close."""

    def _take_final(self) -> Batch | None:
        with self.mutex:
            self._bell.stick()
            if self._final is None or (self._state is QueueState.DRAINING and self.queue):
                return None
            self._state = QueueState.CUT
            final, self._final = self._final, None
            return Batch([final], entries=False, final=True)


class BatchWithoutLock(SendQueue):
    """The writer takes its batch without the mutex, so that a cut can come into the middle of it."""

    def _take_messages(self) -> Batch | None:
        if self._state is QueueState.CUT:
            return None
        return Batch(_pop_all(self.queue), entries=False)

    def cut(self, final: Frame | None = None) -> None:
        with self.mutex:
            self._state = QueueState.CUT
            self._bell.stick()
            self._leftover += _pop_all(self.queue)
            self._final = final
            self._shut_out()


def _pop_all(waiting: deque[Item]) -> list[Item]:
    items: list[Item] = []
    with suppress(IndexError):
        while True:
            items.append(waiting.popleft())
    return items


class _DoubleRoom(Room):
    def left(self, items: Sequence[Item]) -> None:
        super().left(items)
        if len(items) > 1:
            super().left(items[:1])


class TicketTwice(SendQueue):
    """Gives one ticket too many back for a batch of several."""

    def __init__(self, *args: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._room = self.front._room = self.admission._room = _DoubleRoom(*args)
        self._take_ticket = self._room.pool.pop


class _LateBell(Doorbell):
    def sleep(self, timeout: float | None, ready: Callable[[], bool]) -> None:
        if not ready():
            super().sleep(timeout, lambda: False)


class FlagAfterLook(SendQueue):
    """The writer looks for messages a last time, and only then says that it sleeps."""

    def __init__(self, *args: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._bell = _LateBell(self.mutex)
        self.control = ControlLane(self.mutex, self._bell)


class _HastyLine(WaitingLine):
    def wait(self, waiter: Waiter, timeout: float | None, lookout: Lookout) -> Outcome:
        if waiter.wake.acquire(timeout=-1 if timeout is None else timeout):
            return waiter.outcome
        with self._mutex:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return Outcome.WAITING


class TimeoutWins(SendQueue):
    """A producer whose time is over does not look whether its message was accepted meanwhile."""

    def __init__(self, *args: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._line = self.front._line = self.admission._line = _HastyLine(self.mutex)


class CloseDoesNotWait(SendQueue):
    """The close frame goes out as soon as the queue is empty, in the middle of a stream or not."""

    def _take_final(self) -> Batch | None:
        with self.mutex:
            self._bell.stick()
            if self._final is None or self.control or (self._state is QueueState.DRAINING and self.queue):
                return None
            self._state = QueueState.CUT
            final, self._final = self._final, None
            return Batch([final], entries=False, final=True)


class _SilentSource(StreamSource):
    def _accept(self, chunk: bytes) -> ChunkOutcome:
        self._chunks.append(memoryview(chunk))
        return ChunkOutcome.ACCEPTED

    def end(self) -> ChunkOutcome:
        with self._mutex:
            self._chunks.append(memoryview(b""))
            self._phase = Phase.ENDED
        return ChunkOutcome.ACCEPTED


class _SilentLane(FragmentLane):
    def new_stream(self, opcode: Opcode) -> StreamSource:
        return _SilentSource(opcode, 10, 100, self._mutex, self._bell)


class ChunkWithoutBell(SendQueue):
    """A chunk does not wake the writer."""

    def __init__(self, *args: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fragments = self.front._lane = _SilentLane(self.mutex, self._bell, None, 10, 100)


class LookThenRegister(Inbox[str]):
    """A consumer looks for messages, and only then says that it waits."""

    def _wait_for_item(self, timeout: float | None, leaves: Callable[[], bool]) -> str:
        while True:
            if self._items:
                return self._items.popleft()
            self._wait(self._register(), None)


class LookThenPause(Inbox[str]):
    """The reader looks for room, and only then says that it waits for some."""

    def _wait_for_room(self, size: int) -> bool:
        if not self._has_room():
            with self._mutex:
                self._paused = True
            self._room.acquire()
        return True


class WakeUpKept(Inbox[str]):
    """A consumer whose time is over keeps the wake-up that came meanwhile."""

    def _wait_for_item(self, timeout: float | None, leaves: Callable[[], bool]) -> str:
        while True:
            waiter = self._register()
            if not self._items and not self._wait(waiter, timeout):
                raise Timeout
            self._leave(waiter)
            with suppress(IndexError):
                return self._items.popleft()

    def _leave(self, waiter: threading.Lock) -> None:
        with self._mutex:
            if waiter in self._waiters:
                self._waiters.remove(waiter)


class CloseUnseen(Inbox[str]):
    """A consumer that registers after the close, beside an item that another one takes, waits for ever."""

    def _wait_for_item(self, timeout: float | None, leaves: Callable[[], bool]) -> str:
        while True:
            waiter = self._register()
            if self._items:
                self._leave(waiter)
            else:
                self._wait(waiter, None)
            with suppress(IndexError):
                return self._items.popleft()


PLANTED: tuple[tuple[int, Callable[[], Play], str], ...] = (
    (1, lambda: two_producers(FlagBeforeAppend), "forgotten in the queue"),
    (2, lambda: producer_and_close(ClosedReadOnce), "forgotten in the queue"),
    (2, lambda: producer_and_close(NotTakenBack), "forgotten in the queue"),
    (0, lambda: full_queue_and_failure(FailureTellsNobody), "deadlock: p waits"),
    (1, lambda: two_producers(WakeWithoutLock), "release unlocked lock"),
    (2, lambda: producer_and_close(StickAfterLook), "forgotten in the queue"),
    (2, lambda: producer_and_end(CutSticksLate), "forgotten in the queue"),
    (2, lambda: controls_and_close(PongForgotten), "came before the close and was not written"),
    (2, lambda: batch_and_cut(BatchWithoutLock), "main: .* became"),
    (2, lambda: one_producer(TicketTwice), "tickets of 2|3 messages queued at once"),
    (1, lambda: two_producers(FlagAfterLook), "forgotten in the queue"),
    (1, lambda: wait_with_timeout(TimeoutWins), "accepted .* written"),
    (2, lambda: stream_and_close(CloseDoesNotWait), r"Streamed\(name='s'"),
    (1, lambda: two_streams(ChunkWithoutBell), r"Streamed\(name='[st]'"),
    (1, lambda: one_consumer(LookThenRegister), "deadlock: .*consumer waits"),
    (1, lambda: one_consumer(LookThenPause), "deadlock: .*reader waits"),
    (2, lambda: last_item_and_close(CloseUnseen), "deadlock: [cd] waits"),
    (2, lambda: inbox_timeout(WakeUpKept), "'d'. sleep although there is"),
)


@pytest.mark.parametrize(("bound", "scenario", "symptom"), PLANTED)
def test_planted_bug_is_found_and_replayed(bound: int, scenario: Callable[[], Play], symptom: str) -> None:
    with pytest.raises(Interleaving, match=symptom) as found:
        EXPLORER.explore(scenario, bound)
    print(found.value.runs, "runs:", found.value.reason, found.value.schedule)
    with pytest.raises(Interleaving) as again:
        EXPLORER.replay(scenario, found.value.schedule)
    assert str(again.value) == str(found.value)
