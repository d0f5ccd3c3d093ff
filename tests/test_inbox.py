"""Received messages on their way to consumers: bounds, back-pressure, wake-ups, the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.exceptions import Timeout
from wsclient.inbox import Inbox, InboxClosed

BOUND = 10.0  # seconds that nothing here needs


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def bounded(max_items: int = 4, max_bytes: int = 1000) -> Inbox[str]:
    return Inbox(max_items, max_bytes, size=len)


def drained(inbox: Inbox[str]) -> list[str]:
    return [inbox.get(0) for _ in range(len(inbox))]


# ---------------------------------------------------------------------------------------- one after the other


def test_first_in_first_out() -> None:
    inbox = bounded()
    inbox.put_all(["a", "b"])
    inbox.put_all([])
    inbox.put_all(["c"])
    assert len(inbox) == 3
    assert drained(inbox) == ["a", "b", "c"]


@pytest.mark.parametrize("timeout", [0, -1, 1e-9])
def test_nothing_has_come(timeout: float) -> None:
    with pytest.raises(Timeout, match=f"no message within {timeout} s"):
        bounded().get(timeout)


def test_the_end_comes_after_what_is_left() -> None:
    inbox = bounded()
    inbox.put_all(["a", "b"])
    inbox.close()
    assert [inbox.get(None), inbox.get(0)] == ["a", "b"]
    for _ in range(2):
        with pytest.raises(InboxClosed):
            inbox.get(None)


def test_a_forked_child_has_nothing() -> None:
    inbox = bounded()
    inbox.put_all(["a"])
    inbox.clear()
    with pytest.raises(InboxClosed):
        inbox.get(None)


def test_who_does_not_wait_here_is_told() -> None:
    calls: list[int] = []
    inbox: Inbox[str] = Inbox(4, 1000, size=len, notify=lambda: calls.append(len(inbox)))
    inbox.put_all(["a", "b"])
    inbox.put_last("c")
    inbox.put_all([])
    assert calls == [2, 3]


# ------------------------------------------------------------------------------------------- what has no room


@pytest.mark.parametrize(
    ("items", "kept"),
    [
        (["a"] * 6, ["a"] * 4),
        (["x" * 400, "y" * 400, "z" * 400], ["x" * 400, "y" * 400]),
        (["x" * 5000, "y"], ["x" * 5000]),
        (["x", "y" * 5000, "z"], ["x"]),
        (["x" * 500, "y" * 500, "", ""], ["x" * 500, "y" * 500, "", ""]),
    ],
)
def test_nobody_waits_any_more(items: list[str], kept: list[str]) -> None:
    inbox = bounded()
    inbox.stop_waiting()
    inbox.put_all(items)
    assert inbox.dropped == len(items) - len(kept)
    assert drained(inbox) == kept


def test_what_leaves_makes_room() -> None:
    inbox = bounded()
    inbox.stop_waiting()
    inbox.put_all(["x" * 600])
    assert inbox.get(0) == "x" * 600
    inbox.put_all(["y" * 600])
    assert inbox.dropped == 0
    inbox.put_all(["z" * 600])
    assert inbox.dropped == 1
    assert inbox.high == 1


def test_what_must_not_be_dropped_is_not() -> None:
    inbox = bounded(max_items=1)
    inbox.put_all(["a"])
    inbox.put_last("the end")
    inbox.stop_waiting()
    inbox.put_last("the very end")
    inbox.put_all(["dropped"])
    assert inbox.dropped == 1
    assert drained(inbox) == ["a", "the end", "the very end"]


@given(
    st.integers(1, 10),
    st.integers(1, 100),
    st.lists(
        st.lists(st.integers(0, 120).map(lambda size: "x" * size), max_size=12) | st.integers(1, 12),
        max_size=30,
    ),
)
def test_never_over_the_bounds(max_items: int, max_bytes: int, steps: list[list[str] | int]) -> None:
    inbox = bounded(max_items, max_bytes)
    inbox.stop_waiting()
    inside: list[str] = []
    dropped = 0
    for step in steps:
        if isinstance(step, int):
            taken = [inbox.get(0) for _ in range(min(step, len(inside)))]
            assert taken == inside[: len(taken)]
            inside = inside[len(taken) :]
            continue
        inbox.put_all(step)
        kept = len(step) - (inbox.dropped - dropped)
        first, dropped = not dropped, inbox.dropped
        assert first or not kept  # after the first drop nothing is kept
        if first and kept < len(step):  # and not for nothing
            after, size = [*inside, *step[:kept]], len(step[kept])
            assert len(after) == max_items or (after and sum(map(len, after)) + size > max_bytes)
        inside += step[:kept]
        assert len(inbox) == len(inside) <= max_items
        assert sum(map(len, inside)) <= max_bytes or len(inside) == 1
    assert drained(inbox) == inside


# ---------------------------------------------------------------------------------------------- back-pressure


class Observed(Inbox[str]):
    """Tells when its reader thread is about to wait: it asks for room, under no lock, when it has said so."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        super().__init__(max_items, max_bytes, size=len)
        self.paused = threading.Event()
        self.asked_again = threading.Event()

    def _has_room(self) -> bool:
        (self.asked_again if self.paused.is_set() else self.paused).set()
        return super()._has_room()


def put_in_thread(pool: ThreadPoolExecutor, inbox: Observed, items: list[str]) -> Future[None]:
    """Put, as the reader thread does, and return once it has found that it has to wait for room."""
    putting = pool.submit(inbox.put_all, items)
    assert inbox.paused.wait(BOUND)
    return putting


def test_a_full_inbox_pauses_the_reader_until_half_is_gone(pool: ThreadPoolExecutor) -> None:
    inbox = Observed(4, 1000)
    items = [str(number) for number in range(10)]
    putting = put_in_thread(pool, inbox, items)
    assert len(inbox) == 4
    assert inbox.get(BOUND) == "0"
    assert not putting.done()
    assert [inbox.get(BOUND) for _ in range(9)] == items[1:]
    putting.result(BOUND)
    assert inbox.dropped == 0


def test_bytes_pause_the_reader_as_well(pool: ThreadPoolExecutor) -> None:
    inbox = Observed(100, 1000)
    items = ["x" * 300, "y" * 300, "z" * 300, "w" * 300, "v" * 3000, ""]
    putting = put_in_thread(pool, inbox, items)
    assert len(inbox) == 3
    assert [inbox.get(BOUND) for _ in items] == items
    putting.result(BOUND)


def test_half_empty_is_not_enough_for_a_large_message(pool: ThreadPoolExecutor) -> None:
    """The reader sleeps until its next message fits; it does not go round and round."""
    inbox = Observed(100, 1000)
    inbox.put_all(["x" * 400])
    putting = put_in_thread(pool, inbox, ["y" * 700])
    assert not inbox.asked_again.wait(0.05), "it would ask thousands of times"
    assert inbox.get(BOUND) == "x" * 400
    putting.result(BOUND)
    assert inbox.get(0) == "y" * 700


@pytest.mark.parametrize("items", [["x"] * 10, ["x" * 900] * 3])
def test_stop_waiting_lets_the_reader_go(pool: ThreadPoolExecutor, items: list[str]) -> None:
    inbox = Observed(4, 1000)
    putting = put_in_thread(pool, inbox, items)
    inbox.stop_waiting()
    inbox.stop_waiting()
    putting.result(BOUND)
    assert inbox.dropped == len(items) - len(inbox) > 0


def test_room_that_appears_at_the_last_moment(pool: ThreadPoolExecutor) -> None:
    """A consumer empties the inbox between the reader's finding it full and its falling asleep."""

    class EmptiedMeanwhile(Inbox[str]):
        def _wait_for_room(self, size: int) -> bool:
            taken.extend(self.get(0) for _ in range(len(self)))
            return super()._wait_for_room(size)

    taken: list[str] = []
    inbox = EmptiedMeanwhile(2, 1000, size=len)
    pool.submit(inbox.put_all, ["a", "b", "c", "d", "e"]).result(BOUND)
    assert taken + drained(inbox) == ["a", "b", "c", "d", "e"]


# --------------------------------------------------------------------------------------------------- wake-ups


class Announced(Inbox[str]):
    """Tells when a consumer is registered and about to look once more, then wait."""

    def __init__(self) -> None:
        super().__init__(1000, 1 << 20, size=len)
        self.registered = threading.Semaphore(0)

    def _register(self) -> threading.Lock:
        waiter = super()._register()
        self.registered.release()
        return waiter


def waiting_consumers(pool: ThreadPoolExecutor, inbox: Announced, count: int) -> list[Future[str]]:
    futures = [pool.submit(inbox.get, BOUND) for _ in range(count)]
    for _ in range(count):
        assert inbox.registered.acquire(timeout=BOUND)
    return futures


def test_a_message_wakes_who_waits(pool: ThreadPoolExecutor) -> None:
    inbox = Announced()
    (future,) = waiting_consumers(pool, inbox, 1)
    inbox.put_all(["a"])
    assert future.result(BOUND) == "a"


def test_messages_wake_as_many_as_they_are(pool: ThreadPoolExecutor) -> None:
    inbox = Announced()
    futures = waiting_consumers(pool, inbox, 4)
    inbox.put_all(["a", "b", "c"])
    inbox.put_last("d")
    assert sorted(future.result(BOUND) for future in futures) == ["a", "b", "c", "d"]


def test_the_end_wakes_all(pool: ThreadPoolExecutor) -> None:
    inbox = Announced()
    futures = waiting_consumers(pool, inbox, 3)
    inbox.put_all(["last"])
    inbox.close()
    outcomes = [future.exception(BOUND) for future in futures]
    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, InboxClosed) for outcome in outcomes) == 2


def test_a_message_that_comes_while_a_consumer_registers() -> None:
    class ComesMeanwhile(Inbox[str]):
        def _register(self) -> threading.Lock:
            waiter = super()._register()
            self.put_all(["a", "b"][len(self) :])
            return waiter

    inbox = ComesMeanwhile(10, 100, size=len)
    assert inbox.get(None) == "a"
    assert inbox.get(None) == "b"
    assert len(inbox) == 0


def test_a_wake_up_that_was_not_needed_is_passed_on(pool: ThreadPoolExecutor) -> None:
    """A consumer was woken and does not need to be; the next in the line must hear of the message."""
    inbox = Announced()
    (other,) = waiting_consumers(pool, inbox, 1)
    with inbox._mutex:
        second = inbox._waiters[0]
    first = inbox._register()
    with inbox._mutex:  # the first in the line is now the one that will not need it
        inbox._waiters[:] = [first, second]
    inbox.put_all(["a"])
    assert not other.done()
    inbox._leave(first)
    assert other.result(BOUND) == "a"


def test_too_late_leaves_nothing_behind() -> None:
    inbox = bounded()
    for _ in range(3):
        with pytest.raises(Timeout):
            inbox.get(0)
    assert inbox._waiters == []
    inbox.put_all(["a"])
    assert inbox.get(0) == "a"


def test_woken_and_then_overtaken_it_waits_on(pool: ThreadPoolExecutor) -> None:
    inbox = Announced()
    (future,) = waiting_consumers(pool, inbox, 1)
    with inbox._mutex:
        inbox._waiters.pop(0).release()  # as for a message that another consumer then takes
    assert inbox.registered.acquire(timeout=BOUND)
    assert not future.done()
    inbox.put_all(["a"])
    assert future.result(BOUND) == "a"


def test_many_consumers_share_a_flood(pool: ThreadPoolExecutor) -> None:
    inbox = bounded(max_items=8, max_bytes=64)
    numbers = [str(number) for number in range(5000)]

    def consume() -> list[str]:
        taken: list[str] = []
        while True:
            try:
                taken.append(inbox.get(BOUND))
            except InboxClosed:
                return taken

    consumers = [pool.submit(consume) for _ in range(4)]
    for start in range(0, len(numbers), 25):
        inbox.put_all(numbers[start : start + 25])
    inbox.close()
    shares = [consumer.result(BOUND) for consumer in consumers]
    assert all(share == sorted(share, key=int) for share in shares)
    assert sorted(chain(*shares), key=int) == numbers
    assert inbox.high <= 8
    assert inbox.dropped == 0


def test_what_is_dropped_is_the_end_and_no_hole() -> None:
    inbox: Inbox[str] = Inbox(1, 100, size=len)
    inbox.stop_waiting()
    inbox.put_all(["kept", "dropped"])
    assert inbox.get(0) == "kept"
    inbox.put_all(["there is room again"])
    assert (len(inbox), inbox.dropped) == (0, 2)
