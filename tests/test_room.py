"""Room in the send queue, as tickets: never over the bounds, and everything comes back."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsclient.room import Room


def admitted(room: Room, size: int) -> bool:
    """As a producer does: a small message tries the pool first, then the way through the mutex."""
    if size <= room.share:
        try:
            room.pool.pop()
        except IndexError:
            return room.take(size)
        return True
    return room.take(size)


def leave(room: Room, *sizes: int) -> None:
    room.left([bytes(size) for size in sizes])


def fill(room: Room, size: int) -> int:
    count = 0
    while admitted(room, size):
        count += 1
    return count


# ------------------------------------------------------------------------------------------------ the bounds


@pytest.mark.parametrize(
    ("max_messages", "max_bytes", "size", "expected"),
    [
        (4, 400, 0, 4),
        (4, 400, 100, 4),
        (4, 400, 101, 3),
        (4, 400, 200, 2),
        (4, 400, 201, 1),
        (4, 400, 400, 1),
        (4, 403, 101, 3),  # the bytes that no share takes are not lost
        (2, 403, 201, 2),
        (1000, 10, 1, 10),  # fewer bytes than messages
        (1, 1, 1, 1),
        (4096, 1 << 24, 4096, 4096),
        (4096, 1 << 24, 4097, 4095),
        (4096, 1 << 24, 64, 4096),
    ],
)
def test_how_many_fit(max_messages: int, max_bytes: int, size: int, expected: int) -> None:
    assert fill(Room(max_messages, max_bytes), size) == expected


def test_a_message_over_all_bounds_is_let_in_alone() -> None:
    room = Room(4, 400)
    assert room.take(1)
    assert not room.take(10_000)
    leave(room, 1)
    assert room.take(10_000)
    assert not room.take(0)
    assert not room.take(10_000)
    leave(room, 10_000)
    assert room.take(10_000)


def test_large_messages_share_the_tickets_that_their_bytes_need() -> None:
    room = Room(4, 400)
    assert room.take(150)  # two tickets
    assert room.take(150)  # 300 bytes: one more
    assert room.take(100)
    assert not room.take(0)
    leave(room, 150)
    assert room.take(0)


def test_while_somebody_waits_the_fast_path_is_shut() -> None:
    room = Room(4, 400)
    room.withdraw()
    assert not room.pool
    assert not room.is_scarce
    assert room.take(1)
    room.publish()
    assert fill(room, 1) == 3


def test_scarce_is_less_than_a_quarter() -> None:
    room = Room(8, 800)
    assert fill(room, 1) == 8
    leave(room, 1)
    assert room.is_scarce
    leave(room, 1)
    assert not room.is_scarce


def test_what_was_refused_changed_nothing() -> None:
    room = Room(4, 400)
    assert room.take(390)
    assert not room.take(150)
    assert not room.take(400)
    leave(room, 390)
    assert not room.has_large
    assert fill(room, 100) == 4


# ------------------------------------------------------------------------------------------- any order at all


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes and goes: the bounds hold, nothing is refused without need, and no ticket is lost."""

    @initialize(max_messages=st.integers(1, 200), max_bytes=st.integers(1, 2000))
    def start(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages, self.max_bytes = max_messages, max_bytes
        self.room = Room(max_messages, max_bytes)
        self.inside: list[int] = []

    @rule(size=st.integers(0, 2500), by_pool=st.booleans())
    def come(self, size: int, by_pool: bool) -> None:
        has_room = self.must_fit(size)
        entered = admitted(self.room, size) if by_pool else self.room.take(size)
        if entered:
            self.inside.append(size)
        else:
            assert not has_room

    @rule(size=st.integers(0, 20), count=st.integers(1, 100))
    def come_in_numbers(self, size: int, count: int) -> None:
        for _ in range(count):
            self.come(size, by_pool=True)

    def must_fit(self, size: int) -> bool:
        """Whether refusing would be wrong. With small *and* large ones inside, it may be full a bit early."""
        share, max_count = self.room.share, min(self.max_messages, self.max_bytes)
        if not self.inside:
            return True
        if sum(self.inside) + size > self.max_bytes or len(self.inside) >= max_count:
            return False
        return len({length <= share for length in [*self.inside, size]}) == 1

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.inside)))
        gone, self.inside = self.inside[:count], self.inside[count:]
        leave(self.room, *gone)

    @rule()
    def publish(self) -> None:
        self.room.publish()

    @rule(count=st.none() | st.integers(0, 300))
    def withdraw(self, count: int | None) -> None:
        self.room.withdraw(count)

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "room"):
            return
        assert len(self.inside) <= self.max_messages
        assert sum(self.inside) <= self.max_bytes or len(self.inside) == 1
        assert self.room.has_large == any(size > self.room.share for size in self.inside)

    def teardown(self) -> None:
        if hasattr(self, "room"):
            leave(self.room, *self.inside)
            assert fill(self.room, 0) == min(self.max_messages, self.max_bytes)


TestAnyOrder = AnyOrder.TestCase
