"""The sleep of the writer: woken when it must be, and never by a ring that is over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from wsclient.doorbell import Doorbell

BOUND = 10.0  # seconds that nothing here needs


@pytest.fixture
def mutex() -> threading.Lock:
    return threading.Lock()


@pytest.fixture
def bell(mutex: threading.Lock) -> Doorbell:
    return Doorbell(mutex)


def nothing() -> bool:
    return False


def times_out(bell: Doorbell) -> bool:
    """Whether a sleep of no time ends as one that nobody has ended: the flag is down again."""
    bell.sleep(0, nothing)
    return not bell.look


def test_ready_needs_no_sleep(bell: Doorbell) -> None:
    seen: list[bool] = []
    bell.sleep(None, lambda: seen.append(bell.look) or True)  # type: ignore[func-returns-value]
    assert seen == [True], "the flag is up before the last look"
    assert not bell.look


@pytest.mark.parametrize("timeout", [0, -1, 1e-9])
def test_a_sleep_ends_by_itself(bell: Doorbell, timeout: float) -> None:
    bell.sleep(timeout, nothing)
    assert not bell.look


def test_ringing_wakes(bell: Doorbell, mutex: threading.Lock) -> None:
    asleep = threading.Event()

    def falls_asleep() -> bool:
        asleep.set()
        return False

    with ThreadPoolExecutor(1) as pool:
        sleep = pool.submit(bell.sleep, None, falls_asleep)
        assert asleep.wait(BOUND)
        flag_asleep = bell.look
        with mutex:
            bell.ring()
        sleep.result(BOUND)
    assert (flag_asleep, bell.look) == (True, False)
    assert times_out(bell)


def test_ringing_twice_wakes_once(bell: Doorbell, mutex: threading.Lock) -> None:
    def rung_twice() -> bool:
        with mutex:
            bell.ring()
            bell.ring()
        return False

    bell.sleep(None, rung_twice)
    assert times_out(bell)


def test_ringing_does_nothing_to_a_writer_awake(bell: Doorbell, mutex: threading.Lock) -> None:
    with mutex:
        bell.ring()
    assert times_out(bell)


def test_a_ring_that_met_a_message_is_taken_back(bell: Doorbell, mutex: threading.Lock) -> None:
    def rung_and_ready() -> bool:
        with mutex:
            bell.ring()
        return True

    bell.sleep(None, rung_and_ready)
    assert times_out(bell), "the next sleep would have ended at once, with the flag up for good"


def test_a_nudge_ends_the_next_sleep(bell: Doorbell, mutex: threading.Lock) -> None:
    with mutex:
        bell.nudge()
    bell.sleep(None, nothing)
    assert not bell.look
    assert times_out(bell), "only the next one"


def test_a_nudge_ends_the_present_sleep(bell: Doorbell, mutex: threading.Lock) -> None:
    def nudged() -> bool:
        with mutex:
            bell.nudge()
        return False

    bell.sleep(None, nudged)
    assert not bell.look


@pytest.mark.parametrize("woken", [True, False])
def test_a_stuck_flag_stays_up(bell: Doorbell, mutex: threading.Lock, woken: bool) -> None:
    bell.stick()

    def rings() -> bool:
        with mutex:
            bell.ring()
        return False

    bell.sleep(0, rings if woken else nothing)
    assert bell.look


def test_no_wake_up_is_ever_lost(bell: Doorbell, mutex: threading.Lock) -> None:
    """The protocol of the send queue: append, look, ring; against: flag, look, sleep."""
    rounds, waiting = 3000, threading.Semaphore(0)
    box: list[int] = []

    def produce() -> None:
        for number in range(rounds):
            box.append(number)
            if bell.look:
                with mutex:
                    bell.ring()
            assert waiting.acquire(timeout=BOUND)

    def consume(ready: Callable[[], bool]) -> int:
        taken = 0
        while taken < rounds:
            while not box:
                bell.sleep(None, ready)
            box.pop()
            taken += 1
            waiting.release()
        return taken

    with ThreadPoolExecutor(2) as pool:
        consumer = pool.submit(consume, lambda: bool(box))
        pool.submit(produce).result(3 * BOUND)
        assert consumer.result(BOUND) == rounds
