"""The queue between any number of senders and the one writer: nothing lost, nothing twice, nothing over."""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsclient.exceptions import ConnectionClosed, QueueFull, SendTimeout
from wsclient.frames import Frame, Opcode
from wsclient.items import Batch, Entry, Item, Lane, is_message
from wsclient.options import Overflow
from wsclient.send_queue import SendQueue
from wsclient.waiting_line import Outcome

BOUND = 10.0  # seconds that nothing here needs
CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8")
OTHER_CLOSE = Frame(Opcode.CLOSE, b"\x03\xea")


def refuse() -> NoReturn:
    raise ConnectionClosed(1000)


def queue_of(
    max_messages: int = 3,
    max_bytes: int = 3000,
    overflow: Overflow = Overflow.BLOCK,
    max_batch: int = 1 << 18,
    fragment_size: int | None = None,
) -> SendQueue:
    return SendQueue(
        max_messages,
        max_bytes,
        refuse=refuse,
        overflow=overflow,
        max_batch=max_batch,
        fragment_size=fragment_size,
    )


def put_all(queue: SendQueue, *items: Item) -> None:
    for item in items:
        queue.put(item, True, 0)


def take(queue: SendQueue) -> list[Item]:
    batch = queue.take()
    return [] if batch is None else batch.items


def take_all(queue: SendQueue) -> list[Item]:
    items: list[Item] = []
    while batch := queue.take():
        items += batch.items
    return items


def room_left(queue: SendQueue) -> int:
    """How many more messages without a byte are accepted. Fills the queue."""
    count = 0
    while True:
        try:
            queue.put("", False)
        except QueueFull:
            return count
        count += 1


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


# ------------------------------------------------------------------------------------------- bounds and order


def test_first_in_first_out() -> None:
    queue = queue_of()
    put_all(queue, "a", b"b", "c")
    assert queue.front.queued_bytes() == 3
    assert take(queue) == ["a", b"b", "c"]
    assert queue.take() is None


def test_room_comes_back_with_each_batch() -> None:
    queue = queue_of()
    for _ in range(3):
        put_all(queue, "a", "b" * 1500)
        assert len(take(queue)) == 2
    assert room_left(queue) == 3


def test_a_message_over_all_bounds_goes_alone() -> None:
    queue = queue_of()
    put_all(queue, "x" * 10_000)
    with pytest.raises(QueueFull):
        queue.put("", False)
    assert take(queue) == ["x" * 10_000]
    put_all(queue, "a")
    with pytest.raises(QueueFull):
        queue.put("x" * 10_000, False)


def test_full_without_waiting() -> None:
    queue = queue_of()
    put_all(queue, "a", "b", "c")
    with pytest.raises(QueueFull, match="3 messages are waiting"):
        queue.put("d", False)
    take(queue)
    assert room_left(queue) == 3


def test_overflow_raise_never_waits() -> None:
    queue = queue_of(overflow=Overflow.RAISE)
    put_all(queue, "a", "b", "c")
    with pytest.raises(QueueFull):
        queue.put("d", True, None)
    assert take(queue) == ["a", "b", "c"]


def test_the_writer_does_not_wait_for_itself() -> None:
    queue = queue_of()
    queue.own_reads()
    put_all(queue, "a", "b", "c")
    with pytest.raises(QueueFull):
        queue.put("d", True, None)


def test_a_timeout_leaves_nothing_behind() -> None:
    queue = queue_of()
    put_all(queue, "a", "b", "c")
    for timeout in (0, -1, 1e-9):
        with pytest.raises(SendTimeout, match=f"full for {timeout} s; the message was not accepted"):
            queue.put("late", True, timeout)
    assert take_all(queue) == ["a", "b", "c"]
    assert room_left(queue) == 3


def test_the_inherited_calls_do_not_wait_for_ever() -> None:
    queue = queue_of()
    queue.put_nowait("a")
    assert queue.qsize() == 1
    for call in (queue.get, queue.join):
        with pytest.raises(AttributeError):
            call()


def test_depth_is_noted() -> None:
    queue = queue_of(100, 100_000)
    put_all(queue, "aa", "bb")
    take(queue)
    put_all(queue, "x" * 5000)
    take(queue)
    assert (queue.front.high_messages, queue.front.high_bytes) == (2, 5000)


# ---------------------------------------------------------------------------------------------------- batches


def test_a_batch_is_limited() -> None:
    queue = queue_of(1000, 1_000_000, max_batch=10_000)
    put_all(queue, *["x" * 1000] * 100)
    sizes = []
    while items := take(queue):
        sizes.append(sum(map(len, items)))
    assert sum(sizes) == 100_000
    assert all(10_000 <= size < 20_000 for size in sizes[:-1])


@pytest.mark.parametrize(("max_messages", "size"), [(10, 100_000), (1000, 60_000), (3, 300_000)])
def test_a_batch_of_large_messages_is_hardly_larger(max_messages: int, size: int) -> None:
    queue = queue_of(max_messages, 1_000_000, max_batch=50_000)
    for _ in range(3):
        put_all(queue, "x" * size)
    assert [len(take(queue)) for _ in range(3)] == [1, 1, 1]


def test_a_batch_says_whether_there_may_be_entries() -> None:
    queue = queue_of()
    put_all(queue, "a")
    batches = [queue.take()]
    queue.put_mark(Entry(None))
    put_all(queue, "b")
    batches.append(queue.take())
    put_all(queue, "c")
    batches.append(queue.take())
    assert [batch and batch.entries for batch in batches] == [False, True, False]


def test_marks_need_no_room_and_come_after_what_precedes_them() -> None:
    queue = queue_of()
    marks = [Entry(None) for _ in range(10)]
    put_all(queue, "a", "b", "c")
    for mark in marks:
        queue.put_mark(mark)
    with pytest.raises(QueueFull):
        queue.put("d", False)
    assert take(queue) == ["a", "b", "c", *marks]
    assert room_left(queue) == 3


@pytest.mark.parametrize("size", [1, 1500, 10_000])
def test_entries_with_a_message_take_room(size: int) -> None:
    queue = queue_of()
    receipt = Entry("x" * size, message="x" * size)
    queue.put_slowly(receipt, True, 0)
    accepted = room_left(queue)
    assert accepted == {1: 2, 1500: 1, 10_000: 0}[size]
    take_all(queue)
    assert room_left(queue) == 3


# ----------------------------------------------------------------------------------------------- control lane


def test_control_goes_first_between_batches() -> None:
    queue = queue_of()
    put_all(queue, "a", "b")
    ping = Entry(Frame(Opcode.PING, b""))
    queue.control.put_ping(ping)
    queue.control.put_pong(Frame(Opcode.PONG, b"1"))
    assert take(queue) == [Frame(Opcode.PONG, b"1"), ping]
    assert take(queue) == ["a", "b"]


def test_of_too_many_pongs_the_latest_count() -> None:
    queue = queue_of()
    pongs = [Frame(Opcode.PONG, str(number).encode()) for number in range(200)]
    for pong in pongs:
        queue.control.put_pong(pong)
    assert take(queue) == pongs[-64:]
    assert not queue.control


def test_control_before_the_close_frame_and_nothing_after_it() -> None:
    queue = queue_of()
    queue.close(CLOSE)
    pong = Frame(Opcode.PONG, b"")
    queue.control.put_pong(pong)
    assert take(queue) == [pong]
    assert not queue.is_silent()
    assert take(queue) == [CLOSE]
    assert queue.is_silent()
    queue.control.put_pong(pong)
    queue.control.put_ping(Entry(Frame(Opcode.PING, b"")))
    assert queue.take() is None


@pytest.mark.parametrize("sleepy", [True, False])
def test_control_wakes_the_writer(pool: ThreadPoolExecutor, sleepy: bool) -> None:
    queue = queue_of()
    sleep = pool.submit(queue.wait, BOUND) if sleepy else None
    queue.control.put_pong(Frame(Opcode.PONG, b""))
    if sleep is None:
        queue.wait(None)
    else:
        sleep.result(BOUND)


# --------------------------------------------------------------------------------------------------- dropping


def test_the_oldest_make_way() -> None:
    queue = queue_of(overflow=Overflow.DROP_OLDEST)
    mark = Entry(None)
    queue.put_mark(mark)
    assert [queue.put_dropping(item) for item in ("a", "b", "c")] == [[], [], []]
    assert queue.put_dropping("d") == ["a"]
    assert queue.put_dropping("x" * 1500) == ["b", "c"], "it needs the room of two"
    assert queue.put_dropping("y" * 9000) == ["d", "x" * 1500]
    assert queue.admission.dropped == 5
    assert take(queue) == [mark, "y" * 9000]
    assert room_left(queue) == 3


def test_dropping_when_the_room_is_elsewhere() -> None:
    """A producer on the fast path has its ticket and has not appended its message yet."""
    queue = queue_of(1, overflow=Overflow.DROP_OLDEST)
    append = queue._append

    def meanwhile(item: Item) -> None:
        with pytest.raises(QueueFull, match="no message is left to drop"):
            queue.put_dropping("late")
        append(item)

    queue._append = meanwhile
    put_all(queue, "a")
    queue._append = append
    assert queue.put_dropping("b") == ["a"]
    assert queue.admission.dropped == 1


# ---------------------------------------------------------------------------------------- closing and cutting


def every_way_in(queue: SendQueue) -> list[Callable[[], object]]:
    return [
        lambda: queue.put("small"),
        lambda: queue.put("x" * 2000),
        lambda: queue.put_slowly(Entry("r", message="r"), True, None),
        lambda: queue.put_mark(Entry(None)),
        lambda: queue.put_dropping("d"),
    ]


def ways_out() -> list[Callable[[SendQueue], None]]:
    return [
        lambda queue: queue.close(CLOSE),
        lambda queue: queue.cut(),
        lambda queue: queue.cut(CLOSE),
        lambda queue: queue.end(),
        lambda queue: queue.forked(),
    ]


@pytest.mark.parametrize("way_out", ways_out())
@pytest.mark.parametrize("full", [True, False])
def test_nothing_gets_in_after_the_end(way_out: Callable[[SendQueue], None], full: bool) -> None:
    queue = queue_of()
    accepted: list[Item] = [*"abc"[: 3 if full else 1]]
    put_all(queue, *accepted)
    way_out(queue)
    for way_in in every_way_in(queue):
        with pytest.raises(ConnectionClosed):
            way_in()
    assert [*queue.leftover(), *queue.queue] == accepted


def test_held_until_the_connection_is_open() -> None:
    queue = queue_of(100, 100_000)
    queue.hold()
    for way_in in every_way_in(queue):
        with pytest.raises(ConnectionClosed):
            way_in()
    queue.start()
    assert queue.take() is None
    assert room_left(queue) == 100


@pytest.mark.parametrize("way_out", ways_out()[:4])
def test_what_ended_while_it_was_held_stays_so(way_out: Callable[[SendQueue], None]) -> None:
    queue = queue_of()
    queue.hold()
    way_out(queue)
    queue.start()
    for way_in in every_way_in(queue):
        with pytest.raises(ConnectionClosed):
            way_in()
    assert [item for item in take_all(queue) if is_message(item)] == []


def test_closing_drains_then_closes() -> None:
    queue = queue_of()
    put_all(queue, "a", "b" * 2000)
    queue.close(CLOSE)
    queue.close(OTHER_CLOSE)
    assert take(queue) == ["a", "b" * 2000]
    batch = queue.take()
    assert isinstance(batch, Batch)
    assert (batch.items, batch.final) == ([CLOSE], True)
    assert queue.take() is None
    assert queue.leftover() == []


def test_cutting_keeps_the_rest() -> None:
    queue = queue_of()
    mark = Entry(None)
    put_all(queue, "a", "b" * 2000)
    queue.put_mark(mark)
    queue.cut(CLOSE)
    queue.close(OTHER_CLOSE)
    assert take_all(queue) == [CLOSE]
    assert queue.leftover() == ["a", "b" * 2000, mark]


def test_cutting_what_drains_keeps_the_rest() -> None:
    queue = queue_of(max_batch=1)
    put_all(queue, "a" * 1000, "b" * 1000)
    queue.close(CLOSE)
    assert take(queue) == ["a" * 1000]
    queue.cut()
    assert queue.is_silent()
    assert queue.take() is None
    assert queue.leftover() == ["b" * 1000]


@pytest.mark.parametrize(
    ("steps", "final"),
    [
        ([lambda q: q.close(CLOSE), lambda q: q.cut(OTHER_CLOSE)], [OTHER_CLOSE]),
        ([lambda q: q.close(CLOSE), lambda q: q.cut()], []),
        ([lambda q: q.cut(CLOSE), lambda q: q.cut(OTHER_CLOSE)], [OTHER_CLOSE]),
        ([lambda q: q.cut(CLOSE), lambda q: q.cut()], []),
        ([lambda q: q.cut(), lambda q: q.cut(CLOSE)], []),
        ([lambda q: q.close(CLOSE), lambda q: q.take(), lambda q: q.cut(OTHER_CLOSE)], []),
        ([lambda q: q.cut(CLOSE), lambda q: q.take(), lambda q: q.cut(OTHER_CLOSE)], []),
        ([lambda q: q.end(), lambda q: q.cut(CLOSE)], []),
    ],
)
def test_one_close_frame_at_most(steps: Sequence[Callable[[SendQueue], object]], final: list[Item]) -> None:
    queue = queue_of()
    for step in steps:
        step(queue)
    assert take_all(queue) == final


def test_the_end_wakes_the_writer(pool: ThreadPoolExecutor) -> None:
    queue = queue_of()
    sleep = pool.submit(queue.wait, None)
    queue.end()
    sleep.result(BOUND)
    assert queue.ended
    queue.wait(None)


@pytest.mark.parametrize(
    "end", [lambda q: q.close(CLOSE), lambda q: q.cut(CLOSE), lambda q: q.rouse(), lambda q: q.put("a")]
)
@pytest.mark.parametrize("before", [True, False])
def test_what_wakes_the_writer(
    pool: ThreadPoolExecutor, end: Callable[[SendQueue], None], before: bool
) -> None:
    queue = queue_of()
    if before:
        end(queue)
        queue.wait(None)
        return
    sleep = pool.submit(queue.wait, None)
    end(queue)
    sleep.result(BOUND)


# ----------------------------------------------------------------------------------------- a producer held up


def held_up(queue: SendQueue, before: Callable[[], object], after: Callable[[], object]) -> None:
    """Have the next producer on the fast path meet something just before and just after its append."""
    append = queue._append

    def meets(item: Item) -> None:
        queue._append = append
        before()
        append(item)
        after()

    queue._append = meets


def nothing() -> None:
    pass


@pytest.mark.parametrize("end", [lambda q: q.cut(), lambda q: q.cut(CLOSE), lambda q: q.end()])
def test_a_message_that_comes_after_the_cut_is_refused_and_nowhere(end: Callable[[SendQueue], None]) -> None:
    queue = queue_of()
    put_all(queue, "same")
    held_up(queue, lambda: end(queue), nothing)
    with pytest.raises(ConnectionClosed):
        queue.put("same")
    assert queue.leftover() == ["same"]
    assert list(queue.queue) == []


def test_a_message_that_comes_before_the_cut_is_accepted_and_left_over() -> None:
    queue = queue_of()
    held_up(queue, nothing, queue.cut)
    queue.put("in time")
    assert queue.leftover() == ["in time"]


def test_a_message_that_comes_after_the_close_frame_is_refused_and_nowhere() -> None:
    queue = queue_of()

    def closed_and_taken() -> None:
        queue.close(CLOSE)
        assert take(queue) == [CLOSE]

    held_up(queue, closed_and_taken, nothing)
    with pytest.raises(ConnectionClosed):
        queue.put("late")
    assert list(queue.queue) == []
    assert queue.take() is None


def test_a_message_that_comes_before_the_close_frame_goes_out_before_it() -> None:
    queue = queue_of()
    held_up(queue, lambda: queue.close(CLOSE), nothing)
    queue.put("just in time")
    assert take(queue) == ["just in time"]
    assert take(queue) == [CLOSE]


class LastLook(deque[Item]):
    """The queue's deque; between a look that finds it empty and what follows, a producer appends."""

    def __init__(self, queue: SendQueue, skip: int) -> None:
        super().__init__(queue.queue)
        self.owner = queue
        self.skip = skip  # empty looks before that one
        self.has_to_look: bool | None = None  # what the producer sees once it has appended

    def __iter__(self) -> Iterator[Item]:
        return iter([*super().__iter__()])  # in one step, as of a plain deque

    def __len__(self) -> int:
        length = super().__len__()
        if not length and self.has_to_look is None:
            if not self.skip:
                self.append("late")
                self.has_to_look = self.owner._bell.look
            self.skip -= 1
        return length

    def __bool__(self) -> bool:  # Python 3.10 asks that of a deque, not its length
        return len(self) > 0


@pytest.mark.parametrize("ends_by", ["cut", "close frame"])
def test_a_message_that_comes_with_the_last_look_is_refused_and_nowhere(ends_by: str) -> None:
    queue = queue_of()
    if ends_by == "cut":
        racing = queue.queue = queue.front._waiting = LastLook(queue, skip=0)
        queue.cut()
    else:
        queue.close(CLOSE)
        racing = queue.queue = queue.front._waiting = LastLook(queue, skip=1)
        assert take(queue) == [CLOSE]
    assert racing.has_to_look
    with pytest.raises(ConnectionClosed):
        queue._after_append("late")
    assert [*queue.leftover(), *queue.queue] == []


def test_a_message_that_comes_before_the_last_look_goes_out() -> None:
    queue = queue_of()
    queue.close(CLOSE)
    racing = queue.queue = queue.front._waiting = LastLook(queue, skip=0)
    assert queue.take() is None, "it has seen that there is one more"
    assert racing.has_to_look is False
    assert take(queue) == ["late"]
    assert take(queue) == [CLOSE]


def test_two_late_producers_each_take_their_own_back() -> None:
    queue = queue_of()
    refused: list[BaseException] = []

    def another() -> None:
        with pytest.raises(ConnectionClosed) as raised:
            queue._after_append(b)
        refused.append(raised.value)

    a, b = "".join(["a", "a"]), "".join(["b", "b"])

    def both_late() -> None:
        queue.cut()
        queue.queue.append(b)

    held_up(queue, both_late, another)
    with pytest.raises(ConnectionClosed):
        queue.put(a)
    assert len(refused) == 1
    assert list(queue.queue) == []


def test_a_sleeping_writer_is_woken_by_the_fast_path(pool: ThreadPoolExecutor) -> None:
    queue = queue_of()
    held_up(queue, lambda: queue.wait(0), nothing)
    queue.put("a")
    assert take(queue) == ["a"]

    def takes_one() -> list[Item]:
        while not (items := take(queue)):
            queue.wait(BOUND)
        return items

    for number in range(500):
        taken = pool.submit(takes_one)
        queue.put(str(number))
        assert taken.result(BOUND) == [str(number)]


# ------------------------------------------------------------------------------------------- the waiting line


class Sized(bytes):
    """A message that tells when its size is asked: each step of ``put`` asks, joining the line the last."""

    asked: threading.Semaphore

    def __len__(self) -> int:
        self.asked.release()
        return super().__len__()


def sized(data: bytes) -> Sized:
    item = Sized(data)
    item.asked = threading.Semaphore(0)
    return item


def joins(
    pool: ThreadPoolExecutor, queue: SendQueue, data: bytes, timeout: float | None = BOUND
) -> Future[None]:
    """Have a thread put a message for which there is no room, and return once it stands in the line."""
    with queue.mutex:
        length = len(queue._line._waiters)
    item = sized(data)
    putting = pool.submit(queue.put, item, True, timeout)
    while True:
        assert item.asked.acquire(timeout=BOUND)
        with queue.mutex:
            if len(queue._line._waiters) > length:
                return putting


def test_first_come_first_served(pool: ThreadPoolExecutor) -> None:
    queue = queue_of()
    put_all(queue, "1", "2", "3")
    waiting = [joins(pool, queue, data) for data in (b"a", b"b", b"c", b"d")]
    assert take(queue) == ["1", "2", "3"]
    for future in waiting[:3]:
        future.result(BOUND)
    assert not waiting[3].done()
    assert take(queue) == [b"a", b"b", b"c"]
    waiting[3].result(BOUND)
    assert take(queue) == [b"d"]
    assert room_left(queue) == 3


def test_nobody_overtakes_the_line(pool: ThreadPoolExecutor) -> None:
    queue = queue_of()
    put_all(queue, "x" * 1500, "1")
    waiting = joins(pool, queue, b"y" * 2000)
    with pytest.raises(QueueFull):
        queue.put("small", False)
    with pytest.raises(SendTimeout):
        queue.put("small", True, 0)
    with pytest.raises(QueueFull):
        queue.put("z" * 1500, False)
    take(queue)
    waiting.result(BOUND)
    put_all(queue, "small")
    assert take(queue) == [b"y" * 2000, "small"]


def test_who_gives_up_holds_up_nobody(pool: ThreadPoolExecutor) -> None:
    """A small message behind a large one has room, and gets it when the large one gives up."""
    queue = queue_of()
    put_all(queue, "x" * 1500)
    with queue.mutex:
        large = queue.admission.admit("y" * 2900, True)
        assert large is not None
    small = joins(pool, queue, b"small")
    assert queue._line.wait(large, 0, queue.admission) is Outcome.WAITING
    small.result(BOUND)
    assert take(queue) == ["x" * 1500, b"small"]
    assert room_left(queue) == 3


@pytest.mark.parametrize("end", [lambda q: q.close(CLOSE), lambda q: q.cut(), lambda q: q.end()])
def test_the_end_sends_the_line_away(pool: ThreadPoolExecutor, end: Callable[[SendQueue], None]) -> None:
    queue = queue_of()
    put_all(queue, "1", "2", "3")
    waiting = [joins(pool, queue, data, None) for data in (b"a", b"b" * 2000)]
    end(queue)
    for future in waiting:
        assert isinstance(future.exception(BOUND), ConnectionClosed)
    assert [*queue.leftover(), *queue.queue] == ["1", "2", "3"]


def test_while_room_is_scarce_and_there_is_work_the_line_is_not_woken(pool: ThreadPoolExecutor) -> None:
    queue = queue_of(100, 100_000, max_batch=1)
    queue.front._chunk = 10  # so that a batch is a tenth of the queue
    put_all(queue, *map(str, range(100)))
    waiting = joins(pool, queue, b"waits")
    done = []
    for _ in range(3):
        assert len(take(queue)) == 10
        done.append(queue.qsize())
    waiting.result(BOUND)
    assert done == [90, 80, 71]
    assert take_all(queue)[-1] == b"waits"


def test_a_late_look_finds_the_room_that_nobody_woke_it_for(pool: ThreadPoolExecutor) -> None:
    queue = queue_of(100, 100_000, max_batch=1)
    queue.front._chunk = 10
    put_all(queue, *map(str, range(100)))
    waiting = joins(pool, queue, b"waits", 0.2)
    assert len(take(queue)) == 10
    waiting.result(BOUND)
    assert take_all(queue)[-1] == b"waits"


def test_a_waiter_that_is_interrupted_leaves_the_line() -> None:
    queue = queue_of()
    put_all(queue, "1", "2", "3")
    waiter = queue._line.join("mine")

    class Interrupted:
        def acquire(self, timeout: float) -> bool:
            raise KeyboardInterrupt

    waiter.wake = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        queue._line.wait(waiter, None, queue.admission)
    assert not queue._line
    assert take_all(queue) == ["1", "2", "3"]
    assert room_left(queue) == 3


# ------------------------------------------------------------------------------------------------------- fork


def test_a_forked_child_touches_no_lock() -> None:
    queue = queue_of()
    put_all(queue, "a")
    with queue.mutex:  # as a thread of the parent may at the moment of the fork
        queue.forked()
        for way_in in every_way_in(queue):
            with pytest.raises(ConnectionClosed):
                way_in()


def test_a_fork_in_the_middle_of_the_fast_path() -> None:
    queue = queue_of()
    held_up(queue, queue.forked, nothing)
    with pytest.raises(ConnectionClosed):
        queue.put("a")


# -------------------------------------------------------------------------------------- any order, one thread


class AnyOrder(RuleBasedStateMachine):
    """Against a list: what was accepted comes out in order, whole, once; the rest is left over."""

    @initialize(max_messages=st.integers(1, 80), max_bytes=st.integers(1, 400), max_batch=st.integers(1, 300))
    def start(self, max_messages: int, max_bytes: int, max_batch: int) -> None:
        self.queue = queue_of(max_messages, max_bytes, max_batch=max_batch)
        self.max_messages, self.max_bytes, self.max_batch = max_messages, max_bytes, max_batch
        self.accepted: list[Item] = []
        self.taken: list[Item] = []
        self.dropped: list[Item] = []
        self.control: list[Item] = []
        self.final: Frame | None = None
        self.state = "open"

    def add(self, item: Item, way_in: Callable[[Item], object]) -> None:
        try:
            way_in(item)
        except QueueFull:
            assert self.state == "open"
            assert len([waiting for waiting in self.waiting() if is_message(waiting)]) > 0
        except SendTimeout:
            assert self.state == "open"
        except ConnectionClosed:
            assert self.state != "open"
        else:
            assert self.state == "open"
            self.accepted.append(item)

    def waiting(self) -> list[Item]:
        return list(self.queue.queue)

    @rule(size=st.integers(0, 500), block=st.booleans())
    def put(self, size: int, block: bool) -> None:
        self.add("x" * size, lambda item: self.queue.put(item, block, 0))

    @rule(count=st.integers(1, 100))
    def put_many(self, count: int) -> None:
        for _ in range(count):
            self.put(1, block=False)

    @rule(size=st.integers(0, 500))
    def put_receipt(self, size: int) -> None:
        entry = Entry("x" * size, message="x" * size)
        self.add(entry, lambda item: self.queue.put_slowly(item, False, None))

    @rule()
    def put_mark(self) -> None:
        entry = Entry(None)
        self.add(entry, lambda item: self.queue.put_mark(entry))

    @rule(size=st.integers(0, 500))
    def put_dropping(self, size: int) -> None:
        def way_in(item: Item) -> None:
            victims = self.queue.put_dropping(item)
            self.dropped += victims
            for victim in victims:
                position = next(
                    number
                    for number in range(len(self.taken), len(self.accepted))
                    if self.accepted[number] is victim
                )
                assert not any(map(is_message, self.accepted[len(self.taken) : position]))
                del self.accepted[position]

        self.add(bytes(size), way_in)

    @rule()
    def put_pong(self) -> None:
        pong = Frame(Opcode.PONG, b"")
        self.queue.control.put_pong(pong)
        self.control = [*self.control, pong][-64:]

    @rule()
    def take(self) -> None:
        batch = self.queue.take()
        if self.control and not self.is_silent():
            assert batch is not None
            assert batch.items == self.control
            self.control = []
        elif self.state != "cut" and len(self.accepted) > len(self.taken):
            assert batch is not None
            assert batch.items
            assert batch.entries >= any(isinstance(item, Entry) for item in batch.items)
            assert sum(map(len, batch.items[:-1])) < 2 * self.max_batch
            self.taken += batch.items
        elif self.final is not None:
            assert batch is not None
            assert batch.final
            assert batch.items == [self.final]
            self.final, self.state = None, "cut"
        else:
            assert batch is None

    def is_silent(self) -> bool:
        return self.state == "cut" and self.final is None

    @precondition(lambda self: len(self.accepted) > 5)
    @rule()
    def close(self) -> None:
        self.queue.close(CLOSE)
        if self.state == "open":
            self.state, self.final = "draining", CLOSE

    @precondition(lambda self: len(self.accepted) > 5)
    @rule(final=st.none() | st.just(OTHER_CLOSE))
    def cut(self, final: Frame | None) -> None:
        self.queue.cut(final)
        if self.state != "cut" or self.final is not None:
            self.final = final
        self.state = "cut"

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert self.taken == self.accepted[: len(self.taken)]
        rest = self.accepted[len(self.taken) :]
        assert [*self.queue.leftover(), *self.waiting()] == rest
        assert self.queue.admission.dropped == len(self.dropped)
        assert self.queue.is_silent() == self.is_silent()
        inside = [item for item in self.waiting() if is_message(item)]
        assert len(inside) <= self.max_messages
        assert sum(map(len, inside)) <= self.max_bytes or len(inside) == 1

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        if self.state == "open":
            while len(self.taken) < len(self.accepted):
                self.take()
            assert room_left(self.queue) == min(self.max_messages, self.max_bytes)
        else:
            self.queue.end()
            assert [*self.taken, *self.queue.leftover()] == self.accepted


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60)


# ------------------------------------------------------------------------------------ any order, many threads


class Crowd:
    """Producers that put numbered messages until they are refused, and one writer."""

    def __init__(self, queue: SendQueue, producers: int, limit: int, sizes: Sequence[int]) -> None:
        self.queue = queue
        self.limit = limit
        self.sizes = sizes
        self.accepted: list[list[str]] = [[] for _ in range(producers)]
        self.taken: list[Item] = []
        self.timeouts = Counter[int]()

    def produce(self, name: int) -> None:
        for number in range(self.limit):
            text = f"{name} {number} ".ljust(self.sizes[number % len(self.sizes)], "x")
            try:
                self.queue.put(text, True, 1e-5 if number % 10 == 0 else BOUND)
            except SendTimeout:
                self.timeouts[name] += 1
            except ConnectionClosed:
                return
            else:
                self.accepted[name].append(text)

    def write(self) -> None:
        """As the writer thread, until the queue has ended."""
        self.queue.own_reads()
        while True:
            batch = self.queue.take()
            if batch is not None:
                self.taken += batch.items
                if batch.final:
                    return
            elif self.queue.ended:
                return
            else:
                self.queue.wait(None)

    def run(self, end: Callable[[], None], *, drain: bool = False) -> None:
        writer = threading.Thread(target=self.write)
        threads = [threading.Thread(target=self.produce, args=(name,)) for name in range(len(self.accepted))]
        for thread in [writer, *threads]:
            thread.start()
        end()
        for thread in threads:
            thread.join(3 * BOUND)
        if drain:
            self.queue.close(CLOSE)
            writer.join(BOUND)
        self.queue.end()
        writer.join(BOUND)
        assert not any(thread.is_alive() for thread in [writer, *threads])

    def check(self) -> None:
        written = [item for item in self.taken if isinstance(item, str)]
        came_out = [*written, *(item for item in self.queue.leftover() if isinstance(item, str))]
        assert list(self.queue.queue) == []
        for name, accepted in enumerate(self.accepted):
            assert [text for text in came_out if text.startswith(f"{name} ")] == accepted
        assert len(came_out) == sum(map(len, self.accepted))


@pytest.fixture(params=[None, 1e-6], ids=["usual", "restless"])
def restless(request: pytest.FixtureRequest) -> Iterator[None]:
    """The interpreter as it is, and switching threads as often as it can."""
    before = sys.getswitchinterval()
    if request.param is not None:
        sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize(
    ("max_messages", "max_bytes", "sizes"),
    [(1000, 1 << 20, [10]), (8, 1000, [10, 300, 10, 10, 1200]), (1, 50, [10, 60])],
)
def test_all_that_many_threads_put_comes_out(max_messages: int, max_bytes: int, sizes: list[int]) -> None:
    crowd = Crowd(queue_of(max_messages, max_bytes, max_batch=2000), 6, 400, sizes)
    crowd.run(lambda: None, drain=True)
    crowd.check()
    assert crowd.queue.leftover() == []
    assert all(len(crowd.accepted[name]) + crowd.timeouts[name] == 400 for name in range(6))


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("way_out", ways_out()[:4], ids=["close", "cut", "cut-close", "end"])
@pytest.mark.parametrize("max_messages", [2, 1000])
def test_whenever_it_ends_all_that_was_accepted_is_accounted_for(
    way_out: Callable[[SendQueue], None], max_messages: int
) -> None:
    for moment in range(15):
        crowd = Crowd(queue_of(max_messages, 100_000), 4, 1_000_000, [20])

        def end(crowd: Crowd = crowd, moment: int = moment) -> None:
            # One more sender decides when: after a different number of messages each time.
            for number in range(moment * 3):
                crowd.queue.put(b"%d" % number, True, BOUND)
            way_out(crowd.queue)

        crowd.run(end)
        crowd.check()
        finals = [item for item in crowd.taken if isinstance(item, Frame)]
        assert len(finals) <= 1
        assert not finals or crowd.taken[-1] is finals[0]


# ------------------------------------------------------------------------------------ from link to link


def lose(queue: SendQueue, in_doubt: list[Item], unwritten: list[Item], lane: Lane = Lane.WAITING) -> None:
    queue.halt()
    with queue.mutex:
        assert queue.front.put_again(in_doubt, unwritten, lane, list) == []
    queue.resume(queue.greet())


def test_a_loss_in_the_middle_of_sending_again_keeps_the_order() -> None:
    """What was under way stands between what was written by now and what was still to be sent again."""
    queue = queue_of(max_batch=2)
    put_all(queue, "7")
    lose(queue, ["1", "2", "3", "4", "5"], ["6"])
    assert take(queue) == ["1", "2"]
    assert take(queue) == ["3", "4"]
    lose(queue, ["1", "2"], ["3", "4"], Lane.IN_DOUBT)
    lose(queue, [], [])
    assert [item for _ in range(5) for item in take(queue)] == ["1", "2", "3", "4", "5", "6", "7"]


def test_a_loss_behind_all_that_was_sent_again() -> None:
    queue = queue_of(max_batch=1)
    put_all(queue, "3")
    lose(queue, ["1"], ["2"])
    assert take(queue) == ["1"]
    assert take(queue) == ["2"]
    lose(queue, ["1"], ["2"])
    assert [take(queue), take(queue), take(queue)] == [["1"], ["2"], ["3"]]


def test_nothing_leaves_between_two_links_but_the_last_frame() -> None:
    queue = queue_of()
    put_all(queue, "a")
    queue.halt(CLOSE)
    put_all(queue, "b")
    assert take(queue) == [CLOSE]
    assert queue.take() is None
    assert queue.is_silent()
    queue.resume(queue.greet())
    assert take(queue) == ["a", "b"]


def test_a_greeting_that_ends_after_its_link_changes_nothing() -> None:
    queue = queue_of()
    queue.halt()
    links = queue.greet()
    queue.halt()
    put_all(queue, "a")
    queue.resume(links)
    assert queue.take() is None
    queue.resume(queue.greet())
    assert take(queue) == ["a"]
