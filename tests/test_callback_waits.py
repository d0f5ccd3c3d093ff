"""Callbacks that wait: never for what can only come after them, as the next link of their connection does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from test_reconnect import BOUND, OPEN_END, Watch, received, servers
from test_reconnect_regressions import LATER, stall_writer, until
from test_reconnect_waits import FOR_EVER, NEWS
from test_send_queue import queue_of

import wsclient
from wsclient import State
from wsclient.frames import Opcode
from wsclient.items import Entry
from wsclient.keepalive import fail_futures
from wsclient.testing import (
    cut,
    encode_frame,
    read_frames,
    read_messages,
    reset,
    send_pong,
    send_raw,
    send_text,
    stall,
    wait,
)

Waits = Callable[[wsclient.Connection], object]
FLUSH: Waits = lambda conn: conn.flush(timeout=FOR_EVER)  # noqa: E731
CONFIRM: Waits = lambda conn: conn.confirm(timeout=FOR_EVER)  # noqa: E731
RECV: Waits = lambda conn: conn.recv()  # noqa: E731


class Attempt:
    """A callback that waits, once, and how that ended."""

    def __init__(self, waits: Waits, before: Waits = lambda conn: None) -> None:
        self._waits = waits
        self._before = before
        self._over = threading.Event()
        self.begun = threading.Event()
        self._error: BaseException | None = None

    def __call__(self, conn: wsclient.Connection, *_: object) -> None:
        if self._over.is_set():
            return
        self._before(conn)
        self.begun.set()
        try:
            self._waits(conn)
        except wsclient.WSClientError as error:
            self._error = error
        self._over.set()

    def error(self) -> BaseException | None:
        assert self._over.wait(BOUND), "it waits for ever"
        return self._error


class TestExecutor:
    """Callbacks in an executor, behind which ``on_disconnect`` and ``on_reconnect`` wait for their turn."""

    @pytest.mark.parametrize("waits", [FLUSH, CONFIRM])
    def test_the_link_was_lost_and_is_open_again_before_the_call(self, waits: Waits) -> None:
        watch = Watch()
        attempt = Attempt(waits, before=lambda conn: until(lambda: conn.stats().reconnects == 1))
        with ThreadPoolExecutor(1) as pool, servers([send_text("go"), cut()], OPEN_END) as server:
            options = watch.options(on_message=attempt, callback_executor=pool)
            conn = wsclient.connect(server.url, **options)
            assert isinstance(attempt.error(), wsclient.Disconnected)
            watch.wait_for("again")
            conn.close()

    def test_recv_in_on_reconnect(self) -> None:
        """The answer to a login does not come: the link is lost, and the next needs a login of its own."""
        watch, first = Watch(), Attempt(RECV)

        def on_reconnect(conn: wsclient.Connection) -> None:
            conn.send("login")
            first(conn)
            watch.note("again")

        answered = [read_messages(1), send_text("ok"), *OPEN_END]
        with (
            ThreadPoolExecutor(1) as pool,
            servers([cut()], [read_messages(1), reset()], answered) as server,
        ):
            conn = wsclient.connect(
                server.url, **watch.options(on_reconnect=on_reconnect, callback_executor=pool)
            )
            assert isinstance(first.error(), wsclient.Disconnected)
            watch.wait_for("again", 2)
            assert conn.recv(timeout=BOUND) == "ok"
            conn.close()

    def test_recv_in_on_disconnect_is_refused(self) -> None:
        watch, attempt = Watch(), Attempt(RECV)
        with ThreadPoolExecutor(1) as pool, servers([cut()], OPEN_END) as server:
            options = watch.options(on_disconnect=attempt, callback_executor=pool)
            conn = wsclient.connect(server.url, **options)
            assert isinstance(attempt.error(), wsclient.Disconnected)
            watch.wait_for("again")
            conn.close()

    def test_two_callbacks_at_a_time(self) -> None:
        """One in the executor, one of a ping's future on the reader thread: the loss releases the first."""
        watch, second = Watch(), threading.Event()
        attempt = Attempt(FLUSH, before=lambda conn: conn.send(b"x" * 30_000_000))
        answer, lose = threading.Event(), threading.Event()

        def on_pong(conn: wsclient.Connection) -> None:
            with suppress(wsclient.Timeout):
                conn.flush(timeout=0)
            second.set()

        script = [
            read_frames(1, pong=False),
            send_text("go"),
            wait(answer),
            send_pong(b"p"),
            wait(lose),
            reset(),
        ]
        with ThreadPoolExecutor(1) as pool, servers(script, OPEN_END, receive_buffer=4096) as server:
            options = watch.options(
                on_message=attempt, callback_executor=pool, ping_interval=None, max_in_doubt_bytes=1 << 30
            )
            conn = wsclient.connect(server.url, **options)
            conn.ping(b"p").add_done_callback(lambda _: on_pong(conn))
            assert attempt.begun.wait(BOUND)
            answer.set()
            assert second.wait(BOUND)
            lose.set()
            assert isinstance(attempt.error(), wsclient.Disconnected)
            watch.wait_for("again")
            conn.abort()
            server.take_errors()

    @pytest.mark.parametrize("waits", [FLUSH, CONFIRM])
    def test_a_failed_write_ends_the_wait_and_loses_no_message(self, waits: Waits) -> None:
        """The reader waits for the callback to make room, with the rest of what had come before the loss."""
        watch, seen, give_up = Watch(), list[object](), threading.Event()
        attempt = Attempt(waits, before=lambda conn: conn.send(b"x" * 10_000_000))

        def on_message(conn: wsclient.Connection, message: object) -> None:
            seen.append(message)
            attempt(conn)

        script = [send_raw(NEWS), wait(give_up), cut()]
        with ThreadPoolExecutor(1) as pool, servers(script, OPEN_END, receive_buffer=4096) as server:
            options = watch.options(
                on_message=on_message, callback_executor=pool, max_received_messages=2, ping_interval=None
            )
            conn = wsclient.connect(server.url, close_timeout=BOUND, write_timeout=0.1, **options)
            assert isinstance(attempt.error(), wsclient.Disconnected)
            watch.wait_for("again")
            assert seen == [f"news {number}" for number in range(20)]
            assert conn.stats().discarded_messages == 0
            give_up.set()
            conn.abort()
            server.take_errors()

    def test_nobody_is_told_so_nobody_is_waited_for(self) -> None:
        gate = threading.Event()
        with (
            ThreadPoolExecutor(1) as pool,
            servers([send_text("slow"), cut()], *[[cut()]] * 5, OPEN_END) as server,
        ):
            options = Watch().options(on_disconnect=None, on_reconnect=None, callback_executor=pool)
            conn = wsclient.connect(server.url, on_message=lambda *_: gate.wait(BOUND), **options)
            until(lambda: conn.stats().reconnects == 6 and conn.state is State.OPEN)
            assert not gate.is_set()
            conn.send("hello")
            server.wait_for_messages(1)
            gate.set()
            conn.close()


class TestReaderThread:
    @pytest.mark.parametrize("end", ["abort", "loss"])
    def test_flush_ends_with_the_connection(self, end: str) -> None:
        lose = threading.Event()
        attempt = Attempt(FLUSH, before=lambda conn: conn.send(b"x" * 10_000_000))
        with servers([send_text("go"), wait(lose), reset()], receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, on_message=attempt, ping_interval=None)
            assert attempt.begun.wait(BOUND)
            stall_writer(conn)
            {"abort": conn.abort, "loss": lose.set}[end]()
            assert isinstance(attempt.error(), wsclient.ConnectionClosed)
            lose.set()
            conn.abort()
            server.take_errors()


class TestGreeting:
    def test_what_fails_while_its_link_stands_is_its_fault(self, caplog: pytest.LogCaptureFixture) -> None:
        """``Disconnected`` of something that belongs to the link before."""
        watch, errors = Watch(), list[BaseException]()

        def on_reconnect(conn: wsclient.Connection) -> None:
            watch.note("again")
            raise wsclient.Disconnected("a stream of the link before")

        options = watch.options(on_reconnect=on_reconnect, on_error=lambda _, error: errors.append(error))
        with caplog.at_level(logging.CRITICAL), servers([cut()], OPEN_END) as server:
            conn = wsclient.connect(server.url, **options)
            watch.wait_for("again")
            conn.send("data")
            conn.close()
            assert received(server)[1] == ["data"]
        assert list(map(str, errors)) == ["a stream of the link before"]
        assert conn.stats().callback_errors == 1


def test_who_reads_a_stream_learns_that_its_rest_was_discarded() -> None:
    """Messages find no room, the link fails, and their end was already read: no half message looks whole."""
    watch, give_up = Watch(), threading.Event()
    pieces = [encode_frame(Opcode.CONTINUATION, b"%d" % number, fin=number == 9) for number in range(1, 10)]
    message = encode_frame(Opcode.TEXT, b"0", fin=False) + b"".join(pieces)
    options: Any = {"assemble": False, "max_received_messages": 2, "ping_interval": None}
    with servers([send_raw(message), wait(give_up), cut()], [stall()], receive_buffer=4096) as server:
        conn = wsclient.connect(
            server.url, close_timeout=0.1, write_timeout=0.1, **options, **watch.options()
        )
        stream = conn.recv_stream(timeout=BOUND)
        assert stream.read() == "0"
        conn.send(b"x" * 10_000_000)
        watch.wait_for("again")
        assert conn.stats().discarded_messages == 7
        assert [stream.read(), stream.read()] == ["1", "2"]
        for _ in range(2):
            with pytest.raises(wsclient.Disconnected, match="in the middle of the message"):
                stream.read()
        give_up.set()
        conn.abort()
        server.take_errors()


class TestExpiry:
    def test_who_waits_tells_at_once(self) -> None:
        """The receipt of what has expired is not kept until the one who needed its room has done waiting."""
        watch = Watch()
        with servers([cut()]) as server:
            options = watch.options(reconnect=LATER, max_queued_messages=2, max_queued_bytes=1000)
            conn = wsclient.connect(server.url, **options)
            watch.wait_for("lost")
            late = conn.send_future("late", expire=0.05)
            conn.send("x" * 500)

            def patient() -> None:
                with suppress(wsclient.WSClientError):
                    conn.send("y" * 900, timeout=FOR_EVER)

            waiting = threading.Thread(target=patient)
            waiting.start()
            assert isinstance(late.exception(BOUND), wsclient.SendTimeout)
            assert waiting.is_alive()
            conn.abort()
            waiting.join(BOUND)
            assert not waiting.is_alive()

    def test_the_line_learns_of_what_expires_earlier(self) -> None:
        """One in the line gets in and is the next to expire: the one behind it must not sleep beyond that."""
        queue = queue_of(1, 1000)
        queue.put("first")
        outcomes: list[str] = []

        def send(name: str, expire: float) -> None:
            with suppress(wsclient.WSClientError):
                queue.put_slowly(Entry(name, message=name, expires_at=expire), True, BOUND)
                outcomes.append(name)

        threads = [threading.Thread(target=send, args=("soon", 0.0))]
        threads[0].start()
        until(lambda: bool(queue._line))
        threads.append(threading.Thread(target=send, args=("behind", FOR_EVER * 1000)))
        threads[1].start()
        until(lambda: len(queue._line._waiters) == 2)
        assert queue.take() is not None  # lets "soon" in, which has expired already
        for thread in threads:
            thread.join(BOUND)
        assert sorted(outcomes) == ["behind", "soon"]

    def test_ctrl_c_before_it_is_told(self) -> None:
        told: list[object] = []

        def interrupted_once(item: object) -> None:
            if not queue.admission.dropped:
                queue.admission.dropped = 1
                raise KeyboardInterrupt
            told.append(item)

        queue = queue_of(1, 1000)
        queue.admission._on_expired = interrupted_once
        late = Entry("late", message="late", expires_at=0.0)
        queue.put_slowly(late, True, 0)
        with pytest.raises(KeyboardInterrupt):
            queue.put("new", True, 0)
        assert told == []
        queue.admission.tell_expired()
        assert told == [late]

    def test_ctrl_c_in_the_callback_of_a_receipt(self) -> None:
        """On the main thread it is the application's; nobody's wait goes on because of it."""
        entries = [Entry("a", future=Future()), Entry("b", future=Future())]

        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        assert entries[0].future is not None
        assert entries[1].future is not None
        entries[0].future.add_done_callback(interrupt)
        with pytest.raises(KeyboardInterrupt):
            fail_futures(entries, wsclient.SendTimeout("late"))
        assert entries[1].future.done()
