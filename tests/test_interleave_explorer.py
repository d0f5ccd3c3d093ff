"""The explorer itself, on code small enough to know every answer."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable

import pytest
from interleave.explorer import Explorer, Interleaving, Play
from interleave.schedules import Grain, Schedule

EXPLORER = Explorer([sys.modules[__name__]])


class Counter:
    """Counts, in several ways."""

    def __init__(self) -> None:
        self.value = 0  # nobody owns it: that is the point
        self.mutex = threading.Lock()

    def add(self) -> None:
        self.value += 1

    def add_locked(self) -> None:
        with self.mutex:
            self.value += 1

    def read_then_add_locked(self) -> None:
        seen = self.value
        with self.mutex:
            self.value = seen + 1


class Slotted:
    """The same in a slot, and with a list that is looked at before it is used."""

    __slots__ = ("items", "value")

    def __init__(self) -> None:
        self.value = 0
        self.items = [1]

    def add(self) -> None:
        self.value += 1

    def pop(self) -> None:
        if self.items:
            self.items.pop()


class Deque:
    """Keeps a method of its deque."""

    def __init__(self) -> None:
        self.items: deque[int] = deque([1])
        self.pop_one = self.items.popleft

    def pop(self) -> None:
        if len(self.items):
            self.pop_one()


class Locks:
    """Two locks, taken in both orders."""

    def __init__(self) -> None:
        self.first = threading.Lock()
        self.second = threading.Lock()

    def forwards(self) -> None:
        with self.first, self.second:
            pass

    def backwards(self) -> None:
        with self.second, self.first:
            pass


class Waiting:
    """One waits for another, for a time."""

    def __init__(self) -> None:
        self.ready = threading.Lock()
        self.ready.acquire()
        self.outcomes: list[tuple[bool, float]] = []

    def wait(self) -> None:
        woken = self.ready.acquire(timeout=5)
        self.outcomes.append((woken, time.monotonic()))

    def wake(self) -> None:
        self.ready.release()

    def spin(self) -> None:
        while not self.ready.acquire(blocking=False):
            pass


def no_check(_: frozenset[str]) -> None:
    """Whatever happens is right, if it ends."""


def counting(method: Callable[[Counter], None], threads: int = 2) -> Callable[[], Play]:
    def scenario() -> Play:
        counter = Counter()

        def check(_: frozenset[str]) -> None:
            assert counter.value == threads, f"{counter.value} counted"

        return Play({f"t{n}": lambda: method(counter) for n in range(threads)}, (counter,), check)

    return scenario


def both(shared: Slotted | Deque, body: Callable[[], None]) -> Play:
    return Play({"t0": body, "t1": body}, (shared,), no_check)


def popping(kind: type[Slotted] | type[Deque]) -> Callable[[], Play]:
    def scenario() -> Play:
        shared = kind()
        return both(shared, shared.pop)

    return scenario


def test_lost_update_takes_one_preemption_and_is_told_line_by_line() -> None:
    EXPLORER.explore(counting(Counter.add), bound=0)
    with pytest.raises(Interleaving) as found:
        EXPLORER.explore(counting(Counter.add), bound=1)
    line = f"test_interleave_explorer.py:{Counter.add.__code__.co_firstlineno + 1} add:"
    assert found.value.reason == "wrong end: 1 counted"
    assert [text.strip() for text in str(found.value).splitlines()[2:]] == [
        *("t0:", f"{line} get Counter.value"),
        *("t1:", f"{line} get Counter.value", f"{line} set Counter.value"),
        *("t0:", f"{line} set Counter.value"),
    ]


def test_schedule_replays() -> None:
    with pytest.raises(Interleaving) as found:
        EXPLORER.explore(counting(Counter.add), bound=1)
    with pytest.raises(Interleaving, match="1 counted"):
        EXPLORER.replay(counting(Counter.add), found.value.schedule)
    story = EXPLORER.replay(counting(Counter.add), "visible:")
    assert [name for name, _ in story] == ["t0", "t0", "t1", "t1"]


def test_random_schedule_of_opcodes_is_found_and_replays() -> None:
    with pytest.raises(Interleaving, match="counted") as found:
        EXPLORER.sample(counting(Counter.add, threads=3), range(500))
    assert found.value.schedule.startswith("opcode")
    with pytest.raises(Interleaving) as again:
        EXPLORER.replay(counting(Counter.add, threads=3), found.value.schedule)
    assert again.value.reason == found.value.reason


@pytest.mark.parametrize("text", ["", "visible", "visible:1>", "visible:1>1,", "lines:1>1", "opcode2.7:1>1"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="schedule"):
        Schedule.parse(text)


@pytest.mark.parametrize("text", ["visible:2>7", "visible:3>7", "visible:0>7", "visible:99>1"])
def test_schedule_of_another_scenario_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not fit the scenario"):
        EXPLORER.replay(counting(Counter.add), text)


def test_all_that_a_lock_guards_is_one_operation() -> None:
    report = EXPLORER.explore(counting(Counter.add_locked, threads=3), bound=3)
    assert report.racy == ()


def test_lock_that_guards_half_is_not_enough() -> None:
    with pytest.raises(Interleaving, match="1 counted"):
        EXPLORER.explore(counting(Counter.read_then_add_locked), bound=1)


@pytest.mark.parametrize("kind", [Slotted, Deque])
def test_check_then_act_on_a_container_is_found(kind: type[Slotted] | type[Deque]) -> None:
    EXPLORER.explore(popping(kind), bound=0)
    with pytest.raises(Interleaving, match=r"raised IndexError.*empty"):
        EXPLORER.explore(popping(kind), bound=1)


def test_slot_is_watched_and_put_back() -> None:
    before = dict(vars(Slotted))
    ends: set[int] = set()

    def scenario() -> Play:
        shared = Slotted()
        return Play({"t0": shared.add, "t1": shared.add}, (shared,), lambda _: ends.add(shared.value))

    EXPLORER.explore(scenario, bound=1)
    assert ends == {1, 2}
    assert dict(vars(Slotted)) == before


def test_deadlock_is_found() -> None:
    def scenario() -> Play:
        locks = Locks()
        return Play({"t0": locks.forwards, "t1": locks.backwards}, (locks,), no_check)

    EXPLORER.explore(scenario, bound=0)
    with pytest.raises(Interleaving, match=r"deadlock: t0 waits for a lock, t1 waits.*t0 is at .*forwards"):
        EXPLORER.explore(scenario, bound=1)


def waiting(outcomes: set[tuple[bool, float]], *, wakes: bool = True) -> Callable[[], Play]:
    def scenario() -> Play:
        shared = Waiting()
        bodies = {"waiter": shared.wait, "waker": shared.wake} if wakes else {"waiter": shared.wait}
        return Play(bodies, (shared,), lambda _: outcomes.update(shared.outcomes))

    return scenario


def test_timeout_passes_when_nothing_else_can() -> None:
    outcomes: set[tuple[bool, float]] = set()
    EXPLORER.explore(waiting(outcomes, wakes=False), bound=0)
    assert outcomes == {(False, 5.0)}


def test_timeout_that_passes_early_is_a_preemption() -> None:
    outcomes: set[tuple[bool, float]] = set()
    EXPLORER.explore(waiting(outcomes), bound=0)
    assert outcomes == {(True, 0.0)}
    EXPLORER.explore(waiting(outcomes), bound=1)
    assert outcomes == {(True, 0.0), (False, 5.0)}


def test_thread_that_may_rest_is_left_alone() -> None:
    rested: list[frozenset[str]] = []

    def scenario() -> Play:
        locks = Locks()
        locks.first.acquire()
        return Play({"t0": locks.forwards}, (locks,), rested.append, may_rest=frozenset({"t0"}))

    EXPLORER.explore(scenario, bound=1)
    assert set(rested) == {frozenset({"t0"})}


def test_livelock_is_found() -> None:
    def scenario() -> Play:
        shared = Waiting()
        return Play({"t0": shared.spin}, (shared,), no_check)

    with pytest.raises(Interleaving, match="livelock"):
        EXPLORER.explore(scenario, bound=0)


def test_release_of_a_free_lock_is_an_error() -> None:
    def scenario() -> Play:
        shared = Waiting()
        return Play({"t0": shared.wake, "t1": shared.wake}, (shared,), no_check)

    with pytest.raises(Interleaving, match="release unlocked lock"):
        EXPLORER.explore(scenario, bound=0)


@pytest.mark.parametrize("grain", Grain)
def test_reduction_loses_no_outcome(grain: Grain) -> None:
    """Three threads that race in part: the finer grains find no other ends."""
    ends: set[tuple[int, int]] = set()

    def scenario() -> Play:
        racing, guarded = Counter(), Counter()

        def both_ways() -> None:
            guarded.add_locked()
            racing.read_then_add_locked()

        bodies = {"t0": both_ways, "t1": both_ways, "t2": racing.add}
        return Play(bodies, (racing, guarded), lambda _: ends.add((racing.value, guarded.value)))

    EXPLORER.explore(scenario, bound=1 if grain is Grain.OPCODE else 2, grain=grain)
    assert ends == {(1, 2), (2, 2), (3, 2)}


def test_tracer_of_the_calling_thread_stays() -> None:
    before = sys.gettrace(), threading.gettrace()
    EXPLORER.sample(counting(Counter.add_locked), range(3))
    assert (sys.gettrace(), threading.gettrace()) == before
