"""Pings under way and the clock of the connection's own. The tests say what time it is."""

from __future__ import annotations

import logging
import math
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from wsclient.exceptions import ConnectionClosed, QueueFull
from wsclient.frames import Frame, Opcode
from wsclient.items import Entry
from wsclient.keepalive import Keepalive, fail_future, resolve_future


def payload_of(entry: Entry | None) -> bytes:
    assert entry is not None
    assert isinstance(entry.outgoing, Frame)
    assert entry.outgoing.opcode is Opcode.PING
    assert entry.message is None
    return entry.outgoing.payload


def write(entry: Entry | None, now: float) -> bytes:
    """As the writer thread does just before the frame goes out."""
    payload = payload_of(entry)
    assert entry is not None
    assert entry.on_writing is not None
    entry.on_writing(now)
    return payload


def started(interval: float | None = 10.0, timeout: float | None = 5.0, now: float = 0.0) -> Keepalive:
    keepalive = Keepalive(interval, timeout)
    keepalive.start(now)
    return keepalive


# -------------------------------------------------------------------------------------- the application's


def test_a_round_trip() -> None:
    keepalive = started()
    entry, future = keepalive.ping(b"hello")
    assert write(entry, 1.0) == b"hello"
    assert not future.done()
    keepalive.acknowledge(b"hello", 1.25)
    assert future.result(0) == 0.25
    assert (keepalive.latency, keepalive.pings_sent, keepalive.pongs_received) == (0.25, 1, 1)


def test_a_payload_is_made_up_when_none_is_given() -> None:
    keepalive = started()
    payloads = {payload_of(keepalive.ping(None)[0]) for _ in range(100)}
    assert len(payloads) == 100
    assert {len(payload) for payload in payloads} == {8}


def test_an_empty_payload_is_a_payload() -> None:
    keepalive = started()
    entry, future = keepalive.ping(b"")
    assert write(entry, 1.0) == b""
    keepalive.acknowledge(b"", 2.0)
    assert future.result(0) == 1.0


def test_a_payload_that_is_under_way_is_refused() -> None:
    keepalive = started()
    entry, future = keepalive.ping(b"x")
    with pytest.raises(ValueError, match="already under way: b'x'"):
        keepalive.ping(b"x")
    write(entry, 0.0)
    keepalive.acknowledge(b"x", 1.0)
    assert future.done()
    keepalive.ping(b"x")


def test_an_unsolicited_pong_answers_nothing() -> None:
    keepalive = started()
    entry, future = keepalive.ping(b"x")
    write(entry, 0.0)
    keepalive.acknowledge(b"y", 1.0)
    keepalive.acknowledge(b"", 1.0)
    assert not future.done()
    assert keepalive.latency is None
    assert keepalive.pongs_received == 2


def test_a_pong_answers_the_pings_before_its_own() -> None:
    keepalive = started()
    futures = []
    for number, payload in enumerate([b"a", b"b", b"c"]):
        entry, future = keepalive.ping(payload)
        write(entry, float(number))
        futures.append(future)
    keepalive.acknowledge(b"b", 5.0)
    assert [future.done() for future in futures] == [True, True, False]
    assert [future.result(0) for future in futures[:2]] == [5.0, 4.0]
    assert keepalive.latency == 4.0


def test_a_pong_does_not_answer_a_ping_that_waits_in_the_queue() -> None:
    """A ping behind queued messages (confirm) is overtaken by one ahead of them."""
    keepalive = started()
    behind, confirmed = keepalive.ping(None)
    ahead, answered = keepalive.ping(b"ahead")
    write(ahead, 1.0)
    keepalive.acknowledge(b"ahead", 2.0)
    assert answered.result(0) == 1.0
    assert not confirmed.done(), "its ping is not even written"
    payload = write(behind, 3.0)
    keepalive.acknowledge(payload, 4.0)
    assert confirmed.result(0) == 1.0


def test_a_pong_answers_in_the_order_of_the_wire() -> None:
    keepalive = started()
    first, first_future = keepalive.ping(b"first")
    second, second_future = keepalive.ping(b"second")
    write(second, 1.0)
    write(first, 2.0)
    keepalive.acknowledge(b"second", 3.0)
    assert not first_future.done()
    assert second_future.result(0) == 2.0
    keepalive.acknowledge(b"first", 4.0)
    assert first_future.result(0) == 2.0


def test_a_pong_for_a_ping_not_written_is_unsolicited() -> None:
    keepalive = started()
    entry, future = keepalive.ping(b"guess")
    keepalive.acknowledge(b"guess", 1.0)
    assert not future.done()
    assert keepalive.latency is None
    write(entry, 1.0)
    keepalive.acknowledge(b"guess", 2.0)
    assert future.result(0) == 1.0


def test_no_round_trip_is_negative() -> None:
    keepalive = started()
    entry, future = keepalive.ping(b"x")
    write(entry, 2.0)
    keepalive.acknowledge(b"x", 1.0)
    assert future.result(0) == 0.0


def test_too_many_at_once_are_refused() -> None:
    keepalive = started()
    for _ in range(4096):
        keepalive.ping(None)
    with pytest.raises(QueueFull, match="4096 pings"):
        keepalive.ping(None)


def test_a_forgotten_ping_is_not_answered() -> None:
    keepalive = started()
    entry, future = keepalive.ping(b"x")
    other_entry, other = keepalive.ping(b"y")
    keepalive.forget(future)
    keepalive.forget(future)
    write(entry, 0.0)
    write(other_entry, 0.0)
    keepalive.acknowledge(b"x", 1.0)
    assert not future.done()
    keepalive.acknowledge(b"y", 1.0)
    assert other.done()
    keepalive.ping(b"x")


def test_the_end_fails_them_all() -> None:
    keepalive = started()
    futures = [keepalive.ping(None)[1] for _ in range(3)]
    futures[1].cancel()
    error = ConnectionClosed(1006, "lost")
    keepalive.fail(error)
    assert futures[0].exception(0) is error
    assert futures[1].cancelled()
    assert futures[2].exception(0) is error
    assert keepalive.deadline == math.inf
    keepalive.fail(error)


def test_a_cancelled_ping_harms_nobody() -> None:
    keepalive = started()
    entry, future = keepalive.ping(b"x")
    other_entry, other = keepalive.ping(b"y")
    future.cancel()
    write(entry, 0.0)
    write(other_entry, 0.0)
    keepalive.acknowledge(b"y", 1.0)
    assert other.result(0) == 1.0


# ------------------------------------------------------------------------------------ the connection's own


def test_the_clock_stands_still_before_the_start() -> None:
    keepalive = Keepalive(1.0, 1.0)
    assert keepalive.deadline == math.inf
    assert keepalive.due(1e9) is None


def test_a_ping_is_due_at_each_interval() -> None:
    keepalive = started(interval=10, timeout=None)
    assert keepalive.deadline == 10
    assert keepalive.due(9.9) is None
    payload = write(keepalive.due(10.0), 10.0)
    assert keepalive.deadline == 20
    keepalive.acknowledge(payload, 11.0)
    assert write(keepalive.due(25.0), 25.0) != payload
    assert keepalive.deadline == 35


def test_without_an_interval_there_is_none() -> None:
    keepalive = started(interval=None)
    assert keepalive.deadline == math.inf
    assert keepalive.due(1e12) is None


def test_only_one_of_its_own_is_under_way() -> None:
    keepalive = started(interval=10, timeout=100)
    payload = write(keepalive.due(10.0), 10.0)
    assert keepalive.due(20.0) is None
    assert keepalive.deadline == 30, "asked again at the next interval"
    keepalive.acknowledge(payload, 29.0)
    assert keepalive.due(30.0) is not None


def test_no_pong_no_peer() -> None:
    keepalive = started(interval=10, timeout=5)
    write(keepalive.due(10.0), 10.0)
    assert keepalive.deadline == 15
    assert not keepalive.expired(14.9)
    assert keepalive.expired(15.0)


def test_a_pong_in_time_ends_the_wait() -> None:
    keepalive = started(interval=10, timeout=5)
    payload = write(keepalive.due(10.0), 10.0)
    keepalive.acknowledge(payload, 14.0)
    assert not keepalive.expired(1e9)
    assert keepalive.deadline == 20


def test_the_pong_of_a_later_ping_ends_the_wait() -> None:
    keepalive = started(interval=10, timeout=5)
    write(keepalive.due(10.0), 10.0)
    entry, future = keepalive.ping(b"later")
    write(entry, 11.0)
    keepalive.acknowledge(b"later", 12.0)
    assert future.done()
    assert not keepalive.expired(1e9)


def test_the_pong_of_an_earlier_ping_does_not() -> None:
    keepalive = started(interval=10, timeout=5)
    entry, _ = keepalive.ping(b"earlier")
    write(entry, 9.0)
    write(keepalive.due(10.0), 10.0)
    keepalive.acknowledge(b"earlier", 11.0)
    assert keepalive.expired(15.0)


def test_without_a_timeout_there_is_no_verdict() -> None:
    keepalive = started(interval=10, timeout=None)
    write(keepalive.due(10.0), 10.0)
    assert not keepalive.expired(1e12)


@pytest.mark.parametrize(("timeout", "until"), [(0.5, 20.5), (5.0, 21.0)])
def test_the_verdict_is_put_off(timeout: float, until: float) -> None:
    keepalive = started(interval=100, timeout=timeout, now=-90.0)
    write(keepalive.due(10.0), 10.0)
    keepalive.postpone(20.0)
    assert not keepalive.expired(20.0)
    assert keepalive.expired(until)


def test_a_verdict_to_come_is_not_put_off() -> None:
    keepalive = started(interval=10, timeout=5)
    write(keepalive.due(10.0), 10.0)
    keepalive.postpone(14.5)
    assert keepalive.expired(15.0)


def test_a_ping_behind_a_slow_write_has_not_begun_to_wait() -> None:
    keepalive = started(interval=10, timeout=5)
    keepalive.due(10.0)
    keepalive.progressed(14.0, whole=False)
    assert not keepalive.expired(18.9)
    keepalive.progressed(18.0, whole=True)
    assert not keepalive.expired(22.9), "the batch before it is written, it is not"
    assert keepalive.expired(23.0)


def test_a_ping_waits_from_when_all_of_it_is_written() -> None:
    keepalive = started(interval=10, timeout=5)
    entry = keepalive.due(10.0)
    keepalive.progressed(12.0, whole=True)
    write(entry, 16.0)
    keepalive.progressed(17.0, whole=False)
    keepalive.progressed(18.0, whole=True)
    keepalive.progressed(22.0, whole=False)
    keepalive.progressed(22.5, whole=True)
    assert not keepalive.expired(22.9)
    assert keepalive.expired(23.0), "what is written after it does not matter"


def test_progress_after_the_pong_starts_no_new_wait() -> None:
    keepalive = started(interval=10, timeout=5)
    payload = write(keepalive.due(10.0), 10.0)
    keepalive.acknowledge(payload, 10.5)
    keepalive.progressed(11.0, whole=True)
    assert not keepalive.expired(1e9)


def test_progress_without_a_ping_means_nothing() -> None:
    keepalive = started(interval=10, timeout=5)
    keepalive.progressed(3.0, whole=False)
    keepalive.progressed(3.0, whole=True)
    assert keepalive.deadline == 10


def test_a_stopped_clock_neither_sends_nor_judges() -> None:
    keepalive = started(interval=10, timeout=5)
    payload = write(keepalive.due(10.0), 10.0)
    _, future = keepalive.ping(b"x")
    keepalive.stop()
    assert keepalive.deadline == math.inf
    assert not keepalive.expired(1e9)
    assert keepalive.due(1e9) is None
    keepalive.acknowledge(payload, 11.0)
    assert keepalive.latency == 1.0
    assert not future.done()


# ------------------------------------------------------------------------------------------------- futures


def test_a_future_is_resolved_and_failed_once() -> None:
    future: Future[None] = Future()
    resolve_future(future, None)
    fail_future(future, ValueError("late"))
    resolve_future(future, None)
    assert future.exception(0) is None


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("fails", [True, False])
def test_what_a_future_calls_back_ends_no_thread(
    kind: type[BaseException], fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(_: Future[None]) -> None:
        raise kind("in a callback")

    future: Future[None] = Future()
    future.add_done_callback(raising)
    with caplog.at_level(logging.ERROR), ThreadPoolExecutor(1) as pool:  # a thread of the library's
        call = (fail_future, future, OSError()) if fails else (resolve_future, future, None)
        pool.submit(*call).result()
    assert future.done()
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is kind


# ---------------------------------------------------------------------------------------------- any order


class AnyOrder(RuleBasedStateMachine):
    """Pings overtake each other; a pong answers exactly what went out up to its own ping."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.keepalive = started(interval=None)
        self.queued: list[tuple[Entry, Future[float]]] = []
        self.on_wire: list[tuple[bytes, float, Future[float]]] = []

    def under_way(self) -> list[Future[float]]:
        return [future for _, _, future in self.on_wire] + [future for _, future in self.queued]

    @rule()
    def ping(self) -> None:
        self.queued.append(self.keepalive.ping(None))

    @precondition(lambda self: self.queued)
    @rule(data=st.data())
    def written(self, data: st.DataObject) -> None:
        entry, future = self.queued.pop(data.draw(st.integers(0, len(self.queued) - 1)))
        self.now += 1
        self.on_wire.append((write(entry, self.now), self.now, future))

    @precondition(lambda self: self.on_wire)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.on_wire)))
        done, self.on_wire = self.on_wire[:count], self.on_wire[count:]
        self.now += 1
        self.keepalive.acknowledge(done[-1][0], self.now)
        assert [future.result(0) for _, _, future in done] == [self.now - sent for _, sent, _ in done]
        assert self.keepalive.latency == self.now - done[-1][1]
        assert not any(future.done() for future in self.under_way())

    @precondition(lambda self: self.queued or self.on_wire)
    @rule(data=st.data())
    def forgotten(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, len(self.on_wire) + len(self.queued) - 1))
        if position < len(self.on_wire):
            self.keepalive.forget(self.on_wire.pop(position)[2])
        else:
            entry, future = self.queued.pop(position - len(self.on_wire))
            self.keepalive.forget(future)
            write(entry, self.now)

    def teardown(self) -> None:
        self.keepalive.fail(OSError("the end"))
        assert all(isinstance(future.exception(0), OSError) for future in self.under_way())


TestAnyOrder = AnyOrder.TestCase
