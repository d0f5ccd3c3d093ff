"""What waits while a connection is lost: callbacks, a full inbox, an executor, messages that expire."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from test_reconnect import BOUND, OPEN_END, Watch, received, servers
from test_reconnect_regressions import LATER, until
from test_send_queue import queue_of, take_all

import wsclient
from wsclient import State
from wsclient.frames import Opcode
from wsclient.testing import (
    cut,
    encode_frame,
    read_messages,
    read_until_close,
    reset,
    send_close,
    send_raw,
    send_text,
    wait,
)

FOR_EVER = 3600.0
# In one piece, so that they come with one read: what is in the system's buffer is lost with a reset.
NEWS = b"".join(encode_frame(Opcode.TEXT, b"news %d" % number) for number in range(20))


def write_until_lost(conn: wsclient.Connection) -> None:
    """Have the writer find out that the peer has reset the connection."""
    while conn.state is State.OPEN:
        with suppress(wsclient.SendTimeout):
            conn.send("x", timeout=0.001)


class TestCallbacks:
    """A callback on the reader thread keeps the next link from being opened: it must not wait for that."""

    def test_flush_in_on_message_ends_with_the_link(self) -> None:
        watch, failures = Watch(), []

        def on_message(conn: wsclient.Connection, _: object) -> None:
            try:
                while True:
                    conn.send("x" * 1000)
                    conn.flush(timeout=FOR_EVER)
            except wsclient.Disconnected as error:
                failures.append(str(error))

        scripts = [[send_text("go"), read_messages(1), reset()], OPEN_END]
        with servers(*scripts) as server:
            conn = wsclient.connect(server.url, **watch.options(on_message=on_message))
            watch.wait_for("again")
            conn.close()
        assert len(failures) == 1
        assert "lost" in failures[0]

    @pytest.mark.parametrize("in_executor", [False, True])
    def test_flush_in_on_reconnect_ends_with_the_link(self, in_executor: bool) -> None:
        watch, failures, greetings = Watch(), [], iter(range(10))

        def on_reconnect(conn: wsclient.Connection) -> None:
            if next(greetings) == 0:
                try:
                    while True:
                        conn.send("x" * 1000)
                        conn.flush(timeout=FOR_EVER)
                except wsclient.Disconnected as error:
                    failures.append(str(error))
            watch.note("again")

        with ThreadPoolExecutor(1) as pool, servers([cut()], [read_messages(1), reset()], OPEN_END) as server:
            options = watch.options(
                on_reconnect=on_reconnect,
                callback_executor=pool if in_executor else None,
                delivery="at_least_once",
            )
            conn = wsclient.connect(server.url, **options)
            watch.wait_for("again", 2)
            conn.close()
        assert len(failures) == 1

    def test_confirm_in_an_executor_does_not_wait_for_the_next_link(self) -> None:
        """``on_reconnect`` stands behind it in the executor, and with that everything that is queued."""
        watch, failures = Watch(), []

        def on_message(conn: wsclient.Connection, _: object) -> None:
            try:
                conn.confirm(timeout=FOR_EVER)
            except wsclient.Disconnected as error:
                failures.append(str(error))

        with ThreadPoolExecutor(1) as pool, servers([send_text("go"), cut()], OPEN_END) as server:
            options = watch.options(on_message=on_message, callback_executor=pool, delivery="at_least_once")
            conn = wsclient.connect(server.url, **options)
            watch.wait_for("again")
            conn.close()
        assert len(failures) == 1

    def test_on_reconnect_of_a_lost_link_greets_nobody(self) -> None:
        """What it sends belongs to its link; and that it cannot be sent is not a fault of the callback."""
        watch, greetings, errors = Watch(), iter(range(10)), list[BaseException]()

        def on_reconnect(conn: wsclient.Connection) -> None:
            number = next(greetings)
            while number == 0:
                with suppress(wsclient.QueueFull):
                    conn.send("in vain")
            conn.send(f"login {number}")
            watch.note("again")

        scripts: Any = [[cut()], [read_messages(1), reset()], OPEN_END]
        options = watch.options(on_reconnect=on_reconnect, on_error=lambda conn, error: errors.append(error))
        with servers(*scripts) as server:
            conn = wsclient.connect(server.url, **options)
            watch.wait_for("again")
            conn.send("data")
            conn.close()
            assert received(server)[2] == ["login 1", "data"]
        assert errors == []
        assert conn.stats().callback_errors == 0

    def test_on_reconnect_sends_no_more_at_a_time_than_the_queue_holds(self) -> None:
        queue = queue_of(8, 55)
        queue.halt()
        with queue.mutex:
            queue.front.begin_greeting(queue.front.greet())
        for _ in range(2):
            for _ in range(5):
                queue.put("x" * 10)
            with pytest.raises(wsclient.QueueFull, match=r"has sent 5 messages: flush\(\)"):
                queue.put("x" * 10)
            assert take_all(queue) == ["x" * 10] * 5

    def test_a_blocked_executor_is_not_piled_up(self) -> None:
        """One ``on_disconnect`` may be waiting for it; the next link is not tried before that has run."""
        watch, gate = Watch(), threading.Event()
        scripts: Any = [[send_text("slow"), cut()], *[[cut()]] * 20]
        with ThreadPoolExecutor(1) as pool, servers(*scripts, OPEN_END) as server:
            options = watch.options(
                callback_executor=pool, on_message=lambda conn, message: gate.wait(BOUND), on_reconnect=None
            )
            conn = wsclient.connect(server.url, **options)
            until(lambda: conn.stats().reconnects == 1 and conn.state is State.RECONNECTING)
            assert len(server.connections) == 2
            gate.set()
            until(lambda: conn.stats().reconnects == 21 and conn.state is State.OPEN)
            conn.close()
            watch.wait_for("close 1000")
        assert watch.events.count("lost") == 21

    def test_close_ends_the_wait_for_an_executor(self) -> None:
        watch, gate = Watch(), threading.Event()
        with ThreadPoolExecutor(1) as pool, servers([send_text("slow"), cut()], [cut()]) as server:
            options = watch.options(callback_executor=pool, on_message=lambda conn, message: gate.wait(BOUND))
            conn = wsclient.connect(server.url, **options)
            until(lambda: conn.stats().reconnects == 1 and conn.state is State.RECONNECTING)
            conn.close(timeout=0)
            assert conn.state is State.CLOSED
            gate.set()
            watch.wait_for("close 1006")


class TestFullInbox:
    def test_who_only_sends_is_connected_again(self) -> None:
        """Messages that nobody takes hold up the reader, but not for longer than ``close_timeout``."""
        watch = Watch()
        scripts: Any = [[send_raw(NEWS), read_messages(1), reset()], [send_raw(NEWS), read_until_close()]]
        with servers(*scripts) as server:
            options = watch.options(max_received_messages=4, close_timeout=0.1)
            conn = wsclient.connect(server.url, **options)
            until(lambda: conn.stats().received_waiting == 4)
            write_until_lost(conn)
            watch.wait_for("again")
            assert [conn.recv(timeout=BOUND) for _ in range(4)] == [f"news {number}" for number in range(4)]
            assert [conn.recv(timeout=BOUND) for _ in range(20)] == [f"news {number}" for number in range(20)]
            assert conn.stats().discarded_messages == 16
            conn.close(timeout=BOUND)

    def test_who_takes_them_in_time_loses_none(self) -> None:
        watch = Watch()
        with servers([send_raw(NEWS), read_messages(1), reset()], OPEN_END) as server:
            conn = wsclient.connect(server.url, **watch.options(max_received_messages=4, close_timeout=BOUND))
            until(lambda: conn.stats().received_waiting == 4)
            write_until_lost(conn)
            assert [conn.recv(timeout=BOUND) for _ in range(20)] == [f"news {number}" for number in range(20)]
            watch.wait_for("again")
            assert conn.stats().discarded_messages == 0
            conn.close()


def test_close_before_our_answer_to_the_peers_close_frame_is_out() -> None:
    """That answer still goes out: the peer waits for it, and we for the peer."""
    watch, go = Watch(), threading.Event()
    with servers([wait(go), send_close(1012, "restart"), read_until_close()]) as server:
        conn = wsclient.connect(server.url, **watch.options(reconnect=LATER, ping_interval=None))
        inside, release = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            inside.set()
            assert release.wait(BOUND)

        conn.send_future("x").add_done_callback(hold)
        assert inside.wait(BOUND)  # the writer
        go.set()
        until(lambda: conn.state is State.RECONNECTING)
        closing = threading.Thread(target=conn.close, kwargs={"timeout": BOUND})
        closing.start()
        until(lambda: conn.state is State.CLOSING)
        release.set()
        closing.join(BOUND)
        assert not closing.is_alive()
        assert conn.state is State.CLOSED
        assert server.close_code == 1012
    assert conn.unsent == ()


def test_what_is_in_doubt_shows_while_the_connection_is_lost() -> None:
    watch = Watch()
    with servers([read_messages(3, pong=False), cut()]) as server:
        conn = wsclient.connect(server.url, **watch.options(reconnect=LATER, delivery="at_least_once"))
        for message in ("one", "two", "three"):
            conn.send(message)
        watch.wait_for("lost")
        assert conn.stats().in_doubt_bytes == 3 * 64 + 11
        conn.close(timeout=0)
    assert conn.in_doubt == ("one", "two", "three")


class TestExpiry:
    def test_what_is_late_makes_room(self) -> None:
        """A queue full of what is worthless by now does not keep out what is not."""
        watch = Watch()
        with servers([cut()]) as server:
            conn = wsclient.connect(server.url, **watch.options(reconnect=LATER, max_queued_messages=4))
            watch.wait_for("lost")
            late = [conn.send_future(f"late {number}", expire=0) for number in range(3)]
            conn.send("always")
            conn.send("new", timeout=0)
            for receipt in late:
                with pytest.raises(wsclient.SendTimeout, match="expired"):
                    receipt.result(0)
            assert watch.dropped == ["late 0", "late 1", "late 2"]
            stats = conn.stats()
            assert (stats.expired_messages, stats.queued_messages) == (3, 2)
            conn.close(timeout=0)
        assert conn.unsent == ("always", "new")

    def test_who_waits_for_room_gets_that_of_what_expires(self) -> None:
        watch = Watch()
        with servers([cut()]) as server:
            conn = wsclient.connect(server.url, **watch.options(reconnect=LATER, max_queued_messages=2))
            watch.wait_for("lost")
            conn.send("late", expire=0.05)
            conn.send("always")
            conn.send("patient", timeout=FOR_EVER)
            assert watch.dropped == ["late"]
            conn.close(timeout=0)
        assert conn.unsent == ("always", "patient")

    def test_what_is_not_late_stays(self) -> None:
        watch = Watch()
        with servers([cut()]) as server:
            conn = wsclient.connect(server.url, **watch.options(reconnect=LATER, max_queued_messages=2))
            watch.wait_for("lost")
            conn.send("in time", expire=FOR_EVER)
            conn.send("always")
            with pytest.raises(wsclient.SendTimeout):
                conn.send("refused", timeout=0)
            conn.close(timeout=0)
        assert conn.unsent == ("in time", "always")
        assert watch.dropped == []
