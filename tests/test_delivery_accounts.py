"""What a lost link leaves: in doubt, unsent or forgotten, in which lane it waits for the next one."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest
from test_reconnect import BOUND, OPEN_END, Watch, received, servers
from test_reconnect_regressions import until
from test_send_queue import lose, put_all, queue_of, take_all

import wsclient
from wsclient import State
from wsclient.fragments import FragmentLane
from wsclient.frames import Frame, Opcode
from wsclient.items import Entry, Item
from wsclient.lanes import Lanes
from wsclient.ledger import Ledger
from wsclient.room import Room
from wsclient.send_queue import SendQueue
from wsclient.testing import cut, read_messages, reset, stall, wait

LARGE = 5_000_000  # more than the buffers of a system take
SMALL_WINDOW = {"receive_buffer": 4096}


def new_ledger(max_bytes: int = 1 << 20, *, keeps: bool = True) -> Ledger:
    def ping() -> tuple[Entry, Future[float]]:
        return a_ping(), Future()

    return Ledger(max_bytes, keeps=keeps, ping=ping, on_room=lambda: None)


def a_ping() -> Entry:
    return Entry(Frame(Opcode.PING, b""), on_writing=lambda now: None)


def sent_again(conn: wsclient.Connection) -> None:
    """Wait until a part of ``LARGE`` is on its second way."""
    until(lambda: conn.stats().bytes_sent > LARGE + 100_000)


class TestConfirmed:
    """Any pong says that what was written before its ping has arrived: it is in doubt no longer."""

    @pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
    def test_what_confirm_has_confirmed_is_not_in_doubt(self, delivery: str) -> None:
        watch = Watch()
        with servers([read_messages(4), cut()], OPEN_END) as server:
            conn = wsclient.connect(server.url, **watch.options(delivery=delivery))
            for number in range(3):
                conn.send(str(number))
            conn.confirm(timeout=BOUND)
            assert conn.stats().in_doubt_bytes == 0
            conn.send("3")
            watch.wait_for("again")
            conn.close()
            again = received(server)[1]
        doubted = [message for reason in watch.reasons for message in reason.in_doubt]
        assert (doubted, again) == ((["3"], []) if delivery == "at_most_once" else ([], ["3"]))

    def test_a_ping_in_the_middle_of_a_batch(self) -> None:
        ledger = new_ledger()
        ledger.written(["1", a_ping(), "2", "3", a_ping(), a_ping(), "4"], 0.0, pings=7, entries=True)
        ledger.settle(7)
        assert ledger.peek() == ["1", "2", "3", "4"]
        ledger.settle(8)
        assert ledger.peek() == ["2", "3", "4"]
        ledger.settle(10)
        assert ledger.peek() == ["4"]

    def test_a_pong_that_is_quicker_than_the_writer(self) -> None:
        ledger = new_ledger()
        ledger.settle(5)
        ledger.written(["1"], 0.0, pings=4)
        assert ledger.peek() == []
        assert ledger.deadline == math.inf
        ledger.written(["2"], 0.0, pings=5)
        assert ledger.peek() == ["2"]

    def test_no_barrier_where_another_pong_has_come(self) -> None:
        ledger = new_ledger()
        ledger.written(["1"], 0.0, pings=0)
        ledger.settle(1)
        assert ledger.due(ledger.deadline) is None
        assert ledger.deadline == math.inf

    def test_a_steady_trickle_has_barriers_too(self) -> None:
        """Small messages in quick succession: it is never idle, and the bytes are never enough."""
        ledger = new_ledger()
        ledger.written(["0"], 0.0, pings=0)
        first = ledger.deadline
        ledger.written(["1"], first / 2, pings=0)
        assert ledger.deadline == first
        assert ledger.due(first) is not None
        ledger.written(["2"], first, pings=1)
        assert first < ledger.deadline < math.inf

    def test_no_room_for_a_barrier_now(self) -> None:
        """With thousands of pings of the application under way: then it comes a moment later."""

        def no_room() -> tuple[Entry, Future[float]]:
            raise wsclient.QueueFull("pings")

        ledger = Ledger(1000, keeps=True, ping=no_room, on_room=lambda: None)
        assert ledger.written(["x" * 2000], 5.0, pings=0) is None
        assert ledger.is_full
        assert 5.0 < ledger.deadline < 6.0

    def test_what_is_told_of_is_kept_until_it_is_cleared(self) -> None:
        ledger = new_ledger(300, keeps=False)
        ledger.written(["hello"], 0.0, pings=0, greeting=True)
        for message in "abcdef":
            ledger.written([message], 0.0, pings=0)
        for _ in range(2):
            doubt = ledger.doubt()
            assert (doubt.greeting, doubt.items, doubt.forgotten) == ([], ["c", "d", "e", "f"], 3)
        ledger.clear()
        assert ledger.peek() == []
        assert (ledger.forgotten, ledger.untold) == (3, 0)


class TestLanes:
    """What is cut off goes back to where it came from."""

    def test_what_is_in_doubt_stays_so_while_it_is_sent_again(self) -> None:
        kill = threading.Event()
        scripts = [read_messages(1, pong=False), wait(kill), reset()], [stall()]
        with servers(*scripts, **SMALL_WINDOW) as server:
            conn = wsclient.connect(server.url, **Watch().options(delivery="at_least_once"))
            conn.send(b"A" * LARGE)
            server.wait_for_messages(1)
            kill.set()
            sent_again(conn)
            conn.abort()
            assert list(map(len, conn.in_doubt)) == [LARGE]
            assert conn.unsent == ()
            assert list(map(len, received(server)[0])) == [LARGE]

    def test_fragments_that_are_sent_again_keep_their_place(self) -> None:
        kills = [threading.Event(), threading.Event()]
        scripts = (
            [read_messages(4, pong=False), wait(kills[0]), reset()],
            [wait(kills[1]), reset()],
            OPEN_END,
        )
        watch = Watch()
        options = watch.options(fragment_size=65_536, delivery="at_least_once", max_in_doubt_bytes=1 << 25)
        with servers(*scripts, **SMALL_WINDOW) as server:
            conn = wsclient.connect(server.url, **options)
            for message in ("A" * LARGE, "b", "c", "d"):
                conn.send(message)
            server.wait_for_messages(4)
            kills[0].set()
            sent_again(conn)
            kills[1].set()
            watch.wait_for("again", 2)
            conn.send("e")
            conn.close()
            assert received(server)[2] == ["A" * LARGE, "b", "c", "d", "e"]

    @pytest.mark.parametrize("arrives", [False, True])
    def test_a_greeting_in_fragments_is_of_its_link_alone(self, arrives: bool) -> None:
        watch, kill, numbers = Watch(), threading.Event(), iter("123")

        def on_reconnect(conn: wsclient.Connection) -> None:
            conn.send(next(numbers) * LARGE)
            watch.note("again")

        second = [*([read_messages(1, pong=False)] if arrives else []), wait(kill), reset()]
        options = watch.options(
            on_reconnect=on_reconnect,
            fragment_size=65_536,
            delivery="at_least_once",
            max_in_doubt_bytes=1 << 25,
        )
        with servers([cut()], second, OPEN_END, **SMALL_WINDOW) as server:
            conn = wsclient.connect(server.url, **options)
            if arrives:
                server.wait_for_messages(1)
            else:
                until(lambda: conn.stats().bytes_sent > 100_000)
            kill.set()
            watch.wait_for("again", 2)
            conn.close()
            assert [(message[:1], len(message)) for message in received(server)[2]] == [("2", LARGE)]
        back = watch.reasons[1].in_doubt if arrives else watch.reasons[1].unsent
        assert list(map(len, back)) == [LARGE]
        assert conn.unsent == conn.in_doubt == ()


def test_an_end_in_the_middle_of_clearing_away_counts_nothing_twice() -> None:
    """The future of a ping fails between two links, and its callback ends the connection."""
    watch, seen = Watch(), list[tuple[object, ...]]()
    options = watch.options(delivery="at_least_once", ping_interval=None)
    with servers([read_messages(1, pong=False), reset()], **SMALL_WINDOW) as server:
        conn = wsclient.connect(server.url, **options)

        def end(_: object) -> None:
            conn.abort()
            seen.append(tuple(map(len, conn.unsent)))

        conn.ping(b"p").add_done_callback(end)
        conn.send("first")
        conn.send(b"x" * LARGE)
        watch.wait_for("close 1006")
        server.take_errors()
    assert seen == [(LARGE,)]
    assert tuple(map(len, conn.unsent)) == (LARGE,)
    assert conn.in_doubt == ("first",)


def test_what_was_forgotten_is_counted_at_the_end() -> None:
    with servers([stall()]) as server:
        conn = wsclient.connect(server.url, **Watch().options(max_in_doubt_bytes=700))
        for number in range(50):
            conn.send(f"{number:36}")
            conn.flush(timeout=BOUND)
        conn.abort()
    assert conn.unsent == ()
    assert conn.stats().forgotten_messages == 50 - len(conn.in_doubt) == 43


class TestQueue:
    def test_who_comes_after_the_cut_is_in_no_later_one(self) -> None:
        """A producer that had its ticket appends, a second cut comes, and then it looks: it is refused."""
        queue = queue_of()
        queue.cut()
        queue.queue.append("late")
        queue.cut()
        with pytest.raises(wsclient.ConnectionClosed):
            queue._after_append("late")
        assert [*queue.leftover(), *queue.queue] == []

    def test_a_stream_is_given_up_while_the_connection_is_lost(self) -> None:
        """There is nothing to write then, not even a close frame: the writer does not run in circles."""
        queue = queue_of(100, 100_000)
        source = queue.fragments.new_stream(Opcode.TEXT)
        queue.put("before")
        queue.put_mark(source.item)
        queue.put("behind")
        queue.halt()
        queue.give_up(source, Frame(Opcode.CLOSE, b""))
        assert queue.take() is None
        assert queue.is_silent()
        assert [item for item in queue.leftover() if isinstance(item, str)] == ["before", "behind"]

    def test_no_memory_to_cut(self) -> None:
        """What a cut could not collect, the next one does."""
        queue = queue_of(100, 100_000)
        put_all(queue, "1", "2", "3")

        class NoMemory(deque[Item]):
            def __iter__(self) -> Iterator[Item]:
                raise MemoryError

        waiting, queue.front._waiting = queue.front._waiting, NoMemory(queue.queue)
        with pytest.raises(MemoryError):
            queue.cut()
        queue.front._waiting = waiting
        queue.cut()
        assert queue.leftover() == ["1", "2", "3"]

    def test_no_memory_to_take(self) -> None:
        """A batch that cannot be made leaves its messages where they were."""
        queue = queue_of(100, 100_000)
        put_all(queue, "1", "2", "3")

        def no_memory(*_: object) -> None:
            raise MemoryError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(queue.front, "_note_depth", no_memory)
            with pytest.raises(MemoryError):
                queue.take()
        assert take_all(queue) == ["1", "2", "3"]

    @pytest.mark.parametrize("fails", [(FragmentLane, "pieces_of"), (FragmentLane, "begin"), (Room, "left")])
    def test_no_memory_to_cut_messages_in_pieces(self, fails: tuple[type, str]) -> None:
        """Each is put back once."""
        queue = queue_of(100, 100_000, max_batch=100, fragment_size=10)
        large = "3" * 20 if fails != (FragmentLane, "begin") else "3" * 200
        put_all(queue, *(["1", "2"] if len(large) == 20 else []), large, "4")
        before = list(queue.queue)
        self.fail_to_take(queue, *fails)
        assert list(queue.queue) == before

    @pytest.mark.parametrize("fails", [(FragmentLane, "first_of"), (Lanes, "of")])
    def test_no_memory_to_send_again(self, fails: tuple[type, str]) -> None:
        """What was taken off a lane goes back to it."""
        queue = queue_of(100, 100_000)
        put_all(queue, "4")
        lose(queue, ["1", "2"], ["3"])
        self.fail_to_take(queue, *fails)
        assert take_all(queue) == ["1", "2", "3", "4"]

    def fail_to_take(self, queue: SendQueue, owner: type, name: str) -> None:
        def no_memory(*_: object) -> None:
            raise MemoryError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, no_memory)
            with pytest.raises(MemoryError):
                queue.take()


class TestTrouble:
    """What fails between two links ends the connection with a full account, and never without a word."""

    def test_no_memory_for_what_is_in_doubt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_memory(ledger: Ledger) -> None:
            raise MemoryError

        monkeypatch.setattr(Ledger, "doubt", no_memory)
        monkeypatch.setattr("wsclient.shortage._TRIES", 1)
        watch = Watch()
        with servers([read_messages(3, pong=False), reset()]) as server:
            conn = wsclient.connect(server.url, **watch.options())
            for message in "abc":
                conn.send(message)
            watch.wait_for("close 1006")
            with pytest.raises(wsclient.ConnectionClosed, match="not opened again: MemoryError"):
                conn.send("d")
        assert conn.in_doubt == ("a", "b", "c")
        assert watch.events == ["open", "close 1006"]

    @pytest.mark.parametrize("end", ["close", "abort"])
    def test_the_end_comes_while_the_next_writer_is_started(
        self, end: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        starting, go_on = threading.Event(), threading.Event()
        start, writers = threading.Thread.start, iter((False, True))

        def slow_start(thread: threading.Thread) -> None:
            if thread.name.startswith("wsclient-writer") and next(writers):
                starting.set()
                go_on.wait(BOUND)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", slow_start)
        watch = Watch()
        with servers([reset()], OPEN_END) as server:
            conn = wsclient.connect(server.url, **watch.options())
            assert starting.wait(BOUND)
            ends: dict[str, Any] = {"close": lambda: conn.close(timeout=0.01), "abort": conn.abort}
            with suppress(wsclient.Timeout):
                ends[end]()
            go_on.set()
            watch.wait_for("close 1006")
            conn.close()
            assert conn.state is State.CLOSED
            server.take_errors()
