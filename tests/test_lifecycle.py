"""How a connection ends: who closed it, with which code, and what an error says about it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest

from wsclient.exceptions import ConnectionClosed, MessageTooBig, ProtocolError, WSClientError
from wsclient.lifecycle import ClosedBy, Lifecycle, Milestone, State

LOST = ConnectionResetError("reset by peer")
BROKEN = ProtocolError(1002, "reserved bits")


@pytest.fixture
def lifecycle() -> Lifecycle:
    opened = Lifecycle()
    opened.begin()
    assert opened.open()
    return opened


def test_the_states_of_a_good_life(lifecycle: Lifecycle) -> None:
    seen = [(Lifecycle().state, lifecycle.state, lifecycle.is_open, lifecycle.code)]
    assert seen == [(State.NEW, State.OPEN, True, None)]
    assert lifecycle.request_close(1000, "bye", 5.0)
    steps = [(lifecycle.state, lifecycle.is_open, lifecycle.is_closed)]
    lifecycle.receive_close(1000, "bye", 7.0)
    lifecycle.finish(())
    steps.append((lifecycle.state, lifecycle.is_open, lifecycle.is_closed))
    assert steps == [(State.CLOSING, False, False), (State.CLOSED, False, True)]


def test_a_connection_is_opened_once() -> None:
    lifecycle = Lifecycle()
    lifecycle.begin()
    with pytest.raises(WSClientError, match="opened once, and this one is connecting"):
        lifecycle.begin()


@pytest.mark.parametrize("connecting", [True, False])
def test_cancelled_before_it_was_open(connecting: bool) -> None:
    lifecycle = Lifecycle()
    if connecting:
        lifecycle.begin()
    cause = WSClientError("closed before it was open")
    assert lifecycle.cancel(cause)
    assert not lifecycle.cancel(LOST), "once"
    assert not lifecycle.open()
    assert (lifecycle.state, lifecycle.code, lifecycle.closed_by) == (State.CLOSED, 1006, ClosedBy.LOCAL)
    assert lifecycle.error().__cause__ is cause


def test_an_open_connection_is_not_cancelled(lifecycle: Lifecycle) -> None:
    assert not lifecycle.cancel(LOST)
    assert lifecycle.is_open


def local(lifecycle: Lifecycle) -> None:
    lifecycle.request_close(1000, "done", 1.0)


def aborted(lifecycle: Lifecycle) -> None:
    lifecycle.abort()


def peer(lifecycle: Lifecycle) -> None:
    lifecycle.receive_close(1001, "restart", 1.0)


def peer_empty(lifecycle: Lifecycle) -> None:
    lifecycle.receive_close(1005, "", 1.0)


def lost(lifecycle: Lifecycle) -> None:
    lifecycle.lose(LOST)


def failed(lifecycle: Lifecycle) -> None:
    lifecycle.fail(BROKEN, 1.0)


Step = Callable[[Lifecycle], None]


@pytest.mark.parametrize(
    ("steps", "by", "code", "reason"),
    [
        ((local, peer), ClosedBy.LOCAL, 1001, "restart"),
        ((local, peer_empty), ClosedBy.LOCAL, 1005, ""),
        ((local,), ClosedBy.LOCAL, 1006, "the peer sent no close frame"),
        ((local, lost), ClosedBy.LOCAL, 1006, "the peer sent no close frame"),
        ((local, aborted), ClosedBy.LOCAL, 1006, "the peer sent no close frame"),
        ((local, peer, lost), ClosedBy.LOCAL, 1001, "restart"),
        ((local, failed), ClosedBy.LOCAL, 1002, "reserved bits"),
        ((local, failed, lost), ClosedBy.LOCAL, 1002, "reserved bits"),
        ((peer,), ClosedBy.PEER, 1001, "restart"),
        ((peer, local), ClosedBy.PEER, 1001, "restart"),
        ((peer, aborted, lost), ClosedBy.PEER, 1001, "restart"),
        ((peer_empty,), ClosedBy.PEER, 1005, ""),
        ((lost,), ClosedBy.NETWORK, 1006, "reset by peer"),
        ((lost, local), ClosedBy.NETWORK, 1006, "reset by peer"),
        ((lost, aborted), ClosedBy.NETWORK, 1006, "reset by peer"),
        ((lost, peer), ClosedBy.NETWORK, 1001, "restart"),
        ((aborted,), ClosedBy.LOCAL, 1006, "aborted"),
        ((aborted, lost), ClosedBy.LOCAL, 1006, "aborted"),
        ((failed,), ClosedBy.LOCAL, 1002, "reserved bits"),
        ((failed, lost), ClosedBy.LOCAL, 1002, "reserved bits"),
        ((failed, local), ClosedBy.LOCAL, 1002, "reserved bits"),
    ],
    ids=lambda value: "-".join(step.__name__ for step in value) if isinstance(value, tuple) else None,
)
def test_how_it_ended(
    lifecycle: Lifecycle, steps: tuple[Step, ...], by: ClosedBy, code: int, reason: str
) -> None:
    for step in steps:
        step(lifecycle)
    assert lifecycle.state is State.CLOSING
    lifecycle.finish(("unsent",))
    assert (lifecycle.closed_by, lifecycle.code, lifecycle.reason) == (by, code, reason)
    error = lifecycle.error()
    assert isinstance(error, ConnectionClosed)
    assert (error.code, error.reason, error.unsent) == (code, reason, ("unsent",))


@pytest.mark.parametrize(
    ("steps", "cause"),
    [
        ((local, peer), None),
        ((local, lost), LOST),
        ((local, peer, lost), None),
        ((lost,), LOST),
        ((failed, lost), BROKEN),
        ((local, failed), BROKEN),
        ((aborted,), None),
    ],
)
def test_what_the_error_is_caused_by(
    lifecycle: Lifecycle, steps: tuple[Step, ...], cause: BaseException | None
) -> None:
    for step in steps:
        step(lifecycle)
    lifecycle.finish(())
    assert lifecycle.error().__cause__ is cause


def test_the_first_to_close_is_told_so(lifecycle: Lifecycle) -> None:
    assert lifecycle.request_close(1000, "", 9.0)
    assert not lifecycle.request_close(1001, "again", 8.0)
    assert lifecycle.code == 1000


def test_the_deadline_only_comes_nearer(lifecycle: Lifecycle) -> None:
    assert lifecycle.deadline == math.inf
    lifecycle.request_close(1000, "", 9.0)
    lifecycle.request_close(1000, "", 12.0)
    assert lifecycle.deadline == 9.0
    lifecycle.receive_close(1000, "", 10.0)
    lifecycle.fail(BROKEN, 11.0)
    assert lifecycle.deadline == 9.0
    lifecycle.hasten(3.0)
    lifecycle.hasten(4.0)
    assert lifecycle.deadline == 3.0


@pytest.mark.parametrize("error", [BROKEN, MessageTooBig(1009, "too big")])
def test_an_error_is_of_the_kind_of_the_failure(lifecycle: Lifecycle, error: ProtocolError) -> None:
    lifecycle.fail(error, 1.0)
    first, second = lifecycle.error(), lifecycle.error()
    assert type(first) is type(error)
    assert first is not second, "each raise has its own traceback"
    assert first.__cause__ is error


@pytest.mark.parametrize("connecting", [True, False])
def test_not_open_yet(connecting: bool) -> None:
    lifecycle = Lifecycle()
    if connecting:
        lifecycle.begin()
    error = lifecycle.error()
    assert not isinstance(error, ConnectionClosed)
    assert "call open() first" in str(error)


def test_waiting_for_a_milestone(lifecycle: Lifecycle) -> None:
    assert not lifecycle.wait(Milestone.FINISHED, 0)
    assert not lifecycle.wait(Milestone.FINISHED, -1)
    lifecycle.reach(Milestone.DIALLED, Milestone.GREETED)
    assert lifecycle.wait(Milestone.DIALLED, 0)
    assert lifecycle.wait(Milestone.GREETED, 0)
    assert not lifecycle.wait(Milestone.FINISHED, 0)


def test_a_milestone_wakes_who_waits_for_it(lifecycle: Lifecycle) -> None:
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(lifecycle.wait(Milestone.FINISHED, 10)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    lifecycle.reach(Milestone.DIALLED)
    lifecycle.reach(Milestone.FINISHED)
    for thread in threads:
        thread.join(10)
    assert results == [True] * 3


def test_what_breaks_after_an_abort_is_not_its_cause() -> None:
    lifecycle = Lifecycle()
    lifecycle.begin()
    lifecycle.open()
    lifecycle.abort()
    lifecycle.lose(ConnectionResetError("the peer ended the stream"))
    lifecycle.finish(())
    assert lifecycle.error().__cause__ is None
