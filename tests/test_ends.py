"""How a connection ends: by whom, from which thread, how soon, and what is left.

That a peer or a callback can't hold a call is shown by the call returning while it still tries to: the bound
is the call's own, and pytest-timeout guards it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import wsclient
from wsclient import ClosedBy, Connection, ConnectionClosed, HandshakeError, State, WSClientError
from wsclient.lifecycle import Lifecycle, Milestone
from wsclient.testing import (
    FaultServer,
    Peer,
    accept_upgrade,
    black_hole,
    cut,
    flood,
    read_messages,
    read_until_close,
    reset,
    send_close,
    send_text,
    stall,
    stop_reading,
    wait,
)

pytestmark = pytest.mark.timeout(30)

Message = str | bytes
End = Callable[[Connection], None]
Script = Sequence[Callable[[Peer], None]]

BOUND = 10.0  # seconds; what is waited for comes much sooner, or never
FOR_EVER = 40.0  # seconds; over the time-out of a test, so a call that takes so long fails it
BIG = "x" * 1_000_000  # more than a narrow peer's buffers take


class Watch:
    """Callbacks that keep what they are told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []  # the one thread that runs callbacks at the time
        self.closed = threading.Event()

    def on_message(self, _: Connection, message: Message) -> None:
        self.events.append(("message", message))

    def on_close(self, _: Connection, code: int, reason: str) -> None:
        self.events.append(("close", code, reason))
        self.closed.set()

    @property
    def closes(self) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] == "close"]


class Blocker:
    """A callback that does not return before it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def __call__(self, *_: object) -> None:
        self.entered.set()
        assert self.release.wait(BOUND)


def options(**more: Any) -> dict[str, Any]:
    return {"proxy": None, "ping_interval": None, **more}


@contextmanager
def connected(server: FaultServer, watch: Watch, **more: Any) -> Iterator[Connection]:
    """A connection that has exactly one ``on_close`` by the end, as the last of all callbacks."""
    conn = wsclient.connect(server.url, **options(on_close=watch.on_close, **more))
    try:
        yield conn
    finally:
        conn.abort()
    assert watch.closed.wait(BOUND)
    conn.close(timeout=BOUND)
    assert watch.closes == [("close", conn.close_code, conn.close_reason)]
    assert watch.events[-1][0] == "close"


def close(conn: Connection) -> None:
    conn.close(timeout=FOR_EVER)


def close_soon(conn: Connection) -> None:
    conn.close(timeout=0.2)


def threads_of(conn: Connection) -> list[threading.Thread]:
    name = repr(conn).split()[1]
    return [thread for thread in threading.enumerate() if name in thread.name]


def fill(conn: Connection, error: type[Exception] = wsclient.SendTimeout) -> list[str]:
    """Send until there is no room; return what was accepted."""
    accepted: list[str] = []
    while True:
        message = f"{len(accepted):08}{BIG}"
        try:
            conn.send(message, timeout=0.1)
        except error:
            return accepted
        accepted.append(message)


ENDS = pytest.mark.parametrize("end", [close, Connection.abort], ids=["close", "abort"])


class TestInCallbacks:
    """Any method, in any callback, on any thread: it returns, and the connection ends."""

    @pytest.fixture(params=["reader", "executor"])
    def where(self, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(1)) if request.param == "executor" else None
            yield {"callback_executor": pool}

    @ENDS
    @pytest.mark.parametrize("callback", ["on_open", "on_message", "on_error", "on_close"])
    def test_in_a_callback(self, where: dict[str, Any], callback: str, end: End) -> None:
        watch = Watch()
        returned = threading.Event()

        def call(conn: Connection, *arguments: Any) -> None:
            if callback == "on_close":
                watch.on_close(conn, *arguments)
            end(conn)
            end(conn)
            returned.set()

        def fail(*_: object) -> None:
            raise LookupError("for on_error")

        handlers = {"on_message": fail if callback == "on_error" else watch.on_message, callback: call}
        last = send_close(1000) if callback == "on_close" else wait(returned)
        with FaultServer(accept_upgrade(), send_text("go"), last, read_until_close()) as server:
            arguments = {"on_close": watch.on_close, **handlers, **where}
            conn = wsclient.connect(server.url, **options(**arguments))
            assert returned.wait(BOUND), "the callback waits for itself"
            assert watch.closed.wait(BOUND)
            conn.close(timeout=BOUND)
            assert len(watch.closes) == 1
            assert conn.state is State.CLOSED
            server.wait_closed()

    @ENDS
    def test_in_a_callback_of_a_receipt(self, end: End) -> None:
        watch = Watch()
        go = threading.Event()
        returned: Future[str] = Future()
        server = FaultServer(accept_upgrade(), wait(go), read_until_close(), receive_buffer=4096)
        with server, connected(server, watch) as conn:
            conn.send("x" * 16_000_000)

            def call(_: Future[None]) -> None:
                end(conn)
                returned.set_result(threading.current_thread().name)

            conn.send_future("last").add_done_callback(call)
            go.set()
            assert "writer" in returned.result(BOUND)
            assert watch.closed.wait(BOUND)

    @ENDS
    def test_in_a_callback_of_a_ping(self, end: End) -> None:
        watch = Watch()
        go = threading.Event()
        returned: Future[str] = Future()
        with (
            FaultServer(accept_upgrade(), wait(go), read_until_close()) as server,
            connected(server, watch) as conn,
        ):

            def call(_: Future[float]) -> None:
                end(conn)
                returned.set_result(threading.current_thread().name)

            conn.ping().add_done_callback(call)
            go.set()
            assert "reader" in returned.result(BOUND)
            assert watch.closed.wait(BOUND)

    @ENDS
    def test_in_on_dropped(self, end: End) -> None:
        watch = Watch()
        returned = threading.Event()

        def on_dropped(conn: Connection, _: Message) -> None:
            if not returned.is_set():
                returned.set()
                close_soon(conn) if end is close else end(conn)

        server = FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096)
        more = {"overflow": "drop_oldest", "max_queued_messages": 1, "on_dropped": on_dropped}
        with server, connected(server, watch, **more) as conn:
            fill(conn, ConnectionClosed)
            assert returned.is_set()
            assert watch.closed.wait(BOUND)

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, LookupError])
    def test_an_exception_in_a_callback_of_a_future_ends_nothing(self, kind: type[BaseException]) -> None:
        watch = Watch()
        go = threading.Event()
        script = [accept_upgrade(), wait(go), read_messages(2), send_text("alive"), read_until_close()]
        server = FaultServer(*script, receive_buffer=4096)

        def fail(_: object) -> None:
            raise kind("in a callback of a future")

        with server, connected(server, watch) as conn:
            pong = conn.ping()
            pong.add_done_callback(fail)
            conn.send("x" * 16_000_000)
            receipt = conn.send_future("last")
            receipt.add_done_callback(fail)
            go.set()
            pong.result(BOUND)
            receipt.result(BOUND)
            assert conn.recv(BOUND) == "alive"
            conn.close(timeout=BOUND)
            assert conn.close_code == 1000

    @ENDS
    @pytest.mark.parametrize("kind", [SystemExit, LookupError])
    def test_an_exception_in_a_callback_of_a_failed_future_ends_nothing(
        self, end: End, kind: type[BaseException]
    ) -> None:
        watch = Watch()

        def fail(_: object) -> None:
            raise kind("in a callback of a future")

        server = FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096)
        with server, connected(server, watch) as conn:
            conn.ping().add_done_callback(fail)
            for _ in range(12):
                conn.send_future(BIG).add_done_callback(fail)
            close_soon(conn) if end is close else end(conn)
            assert watch.closed.wait(BOUND)
            assert conn.unsent

    def test_a_receipt_that_waits_in_its_own_callback_is_refused(self) -> None:
        watch = Watch()
        go = threading.Event()
        refused: Future[list[str]] = Future()
        server = FaultServer(accept_upgrade(), wait(go), read_until_close(), receive_buffer=4096)
        with server, connected(server, watch) as conn:
            conn.send("x" * 16_000_000)

            def call(_: Future[None]) -> None:
                errors = []
                for method in (conn.flush, conn.confirm, conn.recv):
                    with pytest.raises(WSClientError) as caught:
                        method(FOR_EVER)
                    errors.append(str(caught.value))
                refused.set_result(errors)

            conn.send_future("last").add_done_callback(call)
            go.set()
            errors = refused.result(BOUND)
            assert ["flush()" in errors[0], "confirm()" in errors[1], "recv()" in errors[2]] == [True] * 3
            assert all("would wait for itself" in error for error in errors)

    def test_waiting_for_the_reader_on_the_reader_is_refused(self) -> None:
        watch = Watch()
        refused: Future[list[str]] = Future()

        def on_open(conn: Connection) -> None:
            errors = []
            for method in (conn.confirm, conn.recv):
                with pytest.raises(WSClientError) as caught:
                    method(FOR_EVER)
                errors.append(str(caught.value))
            conn.send("the writer is another thread")
            conn.flush(BOUND)
            refused.set_result(errors)

        with (
            FaultServer(accept_upgrade(), read_until_close()) as server,
            connected(server, watch, on_open=on_open),
        ):
            errors = refused.result(BOUND)
            assert ["confirm()" in errors[0], "recv()" in errors[1]] == [True] * 2
            assert all("would wait for itself" in error for error in errors)

    def test_on_an_executor_the_same_calls_work(self) -> None:
        watch = Watch()
        got: Future[Message] = Future()

        def on_open(conn: Connection) -> None:
            conn.confirm(BOUND)
            conn.flush(BOUND)
            got.set_result(conn.recv(BOUND))

        with (
            ThreadPoolExecutor(1) as pool,
            FaultServer(accept_upgrade(), send_text("hello"), read_until_close()) as server,
            connected(server, watch, on_open=on_open, callback_executor=pool),
        ):
            assert got.result(BOUND) == "hello"


class TestFromThreads:
    def test_everybody_closes_at_once(self) -> None:
        watch = Watch()
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with connected(server, watch) as conn, ThreadPoolExecutor(8) as pool:
                conn.send("last")
                start = threading.Barrier(8)

                def end(number: int) -> State:
                    start.wait(BOUND)
                    conn.close(4000 + number, timeout=FOR_EVER)
                    return conn.state

                assert set(pool.map(end, range(8), timeout=BOUND)) == {State.CLOSED}
                assert conn.unsent == ()
            server.wait_closed()
            assert server.received == ["last"]
            assert [frame.opcode for frame in server.frames] == [1, 8]
            assert server.close_code == conn.close_code

    @ENDS
    def test_those_that_wait_are_let_go(self, end: End) -> None:
        watch = Watch()
        script = [accept_upgrade(), stop_reading()]
        with (
            FaultServer(*script, receive_buffer=4096) as server,
            connected(server, watch, max_queued_messages=2) as conn,
            ThreadPoolExecutor(4) as pool,
        ):
            fill(conn)
            waiting: list[Future[Any]] = [
                pool.submit(conn.recv),
                pool.submit(conn.send, BIG, timeout=FOR_EVER),
                pool.submit(conn.flush, FOR_EVER),
                pool.submit(conn.confirm, FOR_EVER),
            ]
            close_soon(conn) if end is close else end(conn)
            for future in waiting:
                with pytest.raises(ConnectionClosed):
                    future.result(BOUND)

    def test_close_refuses_at_once_and_drains(self) -> None:
        watch = Watch()
        go = threading.Event()
        server = FaultServer(accept_upgrade(), wait(go), read_until_close(), receive_buffer=4096)
        with server:
            with connected(server, watch, max_queued_messages=8) as conn, ThreadPoolExecutor(1) as pool:
                accepted = fill(conn)
                ended = pool.submit(conn.close, timeout=FOR_EVER)
                # The queue is full: this waits in vain, until close() begins and refuses it.
                with pytest.raises(ConnectionClosed):
                    conn.send("too late", timeout=FOR_EVER)
                assert not ended.done()
                with pytest.raises(ConnectionClosed):
                    conn.send_future("too late")
                go.set()
                ended.result(BOUND)
                assert (conn.unsent, conn.close_code) == ((), 1000)
            server.wait_closed()
            assert server.received == accepted


class TestHeldUp:
    """What can't hold up close() and abort(): they return while it still tries."""

    @pytest.mark.parametrize("end", [close_soon, Connection.abort], ids=["close", "abort"])
    @pytest.mark.parametrize("executor", [False, True], ids=["reader", "executor"])
    def test_a_slow_callback(self, end: End, executor: bool) -> None:
        watch, slow = Watch(), Blocker()
        server = FaultServer(accept_upgrade(), send_text("go"), stop_reading(), receive_buffer=4096)
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(1)) if executor else None
            stack.enter_context(server)
            more = {"max_queued_messages": 4, "on_message": slow, "callback_executor": pool}
            conn = stack.enter_context(connected(server, watch, **more))
            stack.callback(slow.release.set)
            assert slow.entered.wait(BOUND)
            accepted = fill(conn)
            end(conn)
            assert not watch.closed.is_set()
            assert conn.unsent, "what was not written is known, whatever a callback does"
            assert list(conn.unsent) == accepted[-len(conn.unsent) :]
            unsent = conn.unsent
            with pytest.raises(ConnectionClosed) as caught:
                conn.send("too late")
            assert caught.value.unsent == unsent
            slow.release.set()
            assert watch.closed.wait(BOUND)
            assert conn.unsent == unsent

    @pytest.mark.parametrize("end", [close_soon, Connection.abort], ids=["close", "abort"])
    def test_a_slow_callback_of_a_receipt(self, end: End) -> None:
        watch, slow = Watch(), Blocker()
        with FaultServer(accept_upgrade(), read_messages(2), stall()) as server:
            with connected(server, watch) as conn:
                try:
                    conn.send("first")
                    receipt = conn.send_future("second")
                    receipt.add_done_callback(lambda _: slow())
                    assert receipt.result(BOUND) is None
                    end(conn)
                finally:
                    slow.release.set()
            assert threads_of(conn) == []

    def test_a_receipt_whose_callback_outlives_all_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wsclient.link._WRITER_GRACE", 0.2)
        watch, slow = Watch(), Blocker()
        go = threading.Event()
        server = FaultServer(accept_upgrade(), wait(go), read_messages(2), cut(), receive_buffer=4096)
        with server:
            conn = wsclient.connect(server.url, **options(on_close=watch.on_close))
            conn.send("x" * 16_000_000)
            conn.send_future("last").add_done_callback(lambda _: slow())
            go.set()
            assert slow.entered.wait(BOUND)
            # The reader waits for the writer, gives up, and leaves the socket for it to close.
            assert watch.closed.wait(BOUND)
            writer = next(thread for thread in threads_of(conn) if "writer" in thread.name)
            slow.release.set()
            writer.join(BOUND)
            assert not writer.is_alive()
            conn.close(timeout=BOUND)
            assert watch.closes == [("close", 1006, conn.close_reason)]

    @pytest.mark.parametrize("end", [close_soon, Connection.abort], ids=["close", "abort"])
    def test_a_full_queue_and_a_peer_that_stalls(self, end: End) -> None:
        watch = Watch()
        server = FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096)
        with server, connected(server, watch, max_queued_messages=4, write_timeout=None) as conn:
            accepted = fill(conn)
            end(conn)
            assert watch.closed.wait(BOUND)
            assert list(conn.unsent) == accepted[-len(conn.unsent) :]
            assert conn.closed_by is ClosedBy.LOCAL
            assert conn.close_code == 1006

    @pytest.mark.parametrize("end", [close_soon, Connection.abort], ids=["close", "abort"])
    def test_messages_that_nobody_takes(self, end: End) -> None:
        watch = Watch()
        with (
            FaultServer(accept_upgrade(), flood("x" * 1000)) as server,
            connected(server, watch, max_received_messages=2) as conn,
        ):
            server.wait_blocked()
            end(conn)
            assert watch.closed.wait(BOUND)
            assert conn.recv() == "x" * 1000

    @pytest.mark.parametrize("end", [close_soon, Connection.abort], ids=["close", "abort"])
    def test_an_executor_full_of_messages_does_not_lose_on_close(self, end: End) -> None:
        watch, slow = Watch(), Blocker()
        more = {"max_received_messages": 2, "on_message": slow}
        with (
            ThreadPoolExecutor(1) as pool,
            FaultServer(accept_upgrade(), flood("x" * 1000)) as server,
            connected(server, watch, callback_executor=pool, **more) as conn,
        ):
            server.wait_blocked()
            end(conn)
            assert not watch.closed.is_set()
            slow.release.set()
            assert watch.closed.wait(BOUND)

    def test_an_executor_that_was_shut_down(self) -> None:
        watch = Watch()
        blocker = Blocker()
        got = threading.Event()
        pool = ThreadPoolExecutor(1)
        script = [accept_upgrade(), send_text("one"), wait(got), send_text("two"), read_until_close()]
        more = {"callback_executor": pool, "on_message": watch.on_message}
        with FaultServer(*script) as server, connected(server, watch, **more) as conn:
            # The callbacks' turn waits behind somebody else's work when the executor drops all that waits.
            pool.submit(blocker)
            assert blocker.entered.wait(BOUND)
            got.set()
            conn.confirm(BOUND)
            pool.shutdown(wait=False, cancel_futures=True)
            blocker.release.set()
            conn.close(timeout=BOUND)
            pool.shutdown()
            assert watch.closed.is_set()
            assert watch.events[:2] == [("message", "one"), ("message", "two")]


ENDINGS: list[tuple[str, Script, End | None, tuple[int, str | None, ClosedBy], dict[str, Any]]] = [
    (
        "local close",
        [read_until_close()],
        lambda conn: conn.close(4000, "done", timeout=FOR_EVER),
        (4000, "done", ClosedBy.LOCAL),
        {},
    ),
    ("local close unanswered", [stall()], close_soon, (1006, None, ClosedBy.LOCAL), {}),
    ("abort", [stall()], Connection.abort, (1006, "aborted", ClosedBy.LOCAL), {}),
    ("peer close", [send_close(4001, "bye"), read_until_close()], None, (4001, "bye", ClosedBy.PEER), {}),
    ("peer close, no code", [send_close(None), read_until_close()], None, (1005, "", ClosedBy.PEER), {}),
    (
        "answered with another code",
        [read_until_close(reply=False), send_close(4002, "no, mine")],
        close,
        (4002, "no, mine", ClosedBy.LOCAL),
        {},
    ),
    ("reset", [reset()], None, (1006, None, ClosedBy.NETWORK), {}),
    ("end of stream", [cut()], None, (1006, None, ClosedBy.NETWORK), {}),
    ("protocol error", [send_text(b"\xff"), read_until_close()], None, (1007, None, ClosedBy.LOCAL), {}),
    (
        "keepalive",
        [stall()],
        None,
        (1006, "ping timeout: the peer did not answer", ClosedBy.NETWORK),
        {"ping_interval": 0.05, "ping_timeout": 0.05},
    ),
]


class TestOnClose:
    """Exactly one, after the last message, with the right code and reason, and who closed."""

    @pytest.mark.parametrize("executor", [False, True], ids=["reader", "executor"])
    @pytest.mark.parametrize(
        ("script", "end", "expected", "more"),
        [case[1:] for case in ENDINGS],
        ids=[case[0] for case in ENDINGS],
    )
    def test_it_says_how(
        self,
        executor: bool,
        script: Script,
        end: End | None,
        expected: tuple[int, str | None, ClosedBy],
        more: dict[str, Any],
    ) -> None:
        watch, code_and_reason = Watch(), expected[:2]
        got = threading.Event()

        def on_message(conn: Connection, message: Message) -> None:
            watch.on_message(conn, message)
            if message == "two":
                got.set()

        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(1)) if executor else None
            steps: Script = [accept_upgrade(), send_text("one"), send_text("two"), wait(got), *script]
            server = stack.enter_context(FaultServer(*steps))
            arguments = {"on_message": on_message, "callback_executor": pool, **more}
            conn = stack.enter_context(connected(server, watch, **arguments))
            assert got.wait(BOUND)
            if end is not None:
                end(conn)
            assert watch.closed.wait(BOUND)
            code, reason = code_and_reason
            assert watch.events == [
                ("message", "one"),
                ("message", "two"),
                ("close", code, conn.close_reason if reason is None else reason),
            ]
            assert (conn.close_code, conn.closed_by) == (code, expected[2])

    def test_both_close_at_once(self) -> None:
        watch = Watch()
        both = threading.Event()
        # The server's close frame is on its way before the client's is read, and does not answer it.
        script = [accept_upgrade(), wait(both), send_close(4001, "mine"), read_until_close(reply=False)]
        with FaultServer(*script) as server:
            with connected(server, watch) as conn:
                threading.Thread(target=both.set).start()
                conn.close(4000, "no, mine", timeout=FOR_EVER)
                assert watch.events == [("close", 4001, "mine")]
                assert conn.closed_by in (ClosedBy.LOCAL, ClosedBy.PEER)
            server.wait_closed()
            assert [frame.opcode for frame in server.frames] == [8]
            assert server.close_code in (4000, 4001)

    def test_the_connection_can_be_used_in_it(self) -> None:
        seen: Future[tuple[Any, ...]] = Future()

        def on_close(conn: Connection, code: int, reason: str) -> None:
            with pytest.raises(ConnectionClosed) as caught:
                conn.send("too late")
            seen.set_result((conn.state, conn.close_code, caught.value.code, code, reason, conn.unsent))

        script = [accept_upgrade(), send_close(4001, "bye"), read_until_close()]
        with FaultServer(*script) as server:
            conn = wsclient.connect(server.url, **options(on_close=on_close))
            assert seen.result(BOUND) == (State.CLOSED, 4001, 4001, 4001, "bye", ())
            conn.close(timeout=BOUND)

    def test_a_message_that_came_before_is_received_after(self) -> None:
        watch = Watch()
        script = [accept_upgrade(), send_text("one"), send_text("two"), send_close(1000), read_until_close()]
        with FaultServer(*script) as server, connected(server, watch) as conn:
            assert watch.closed.wait(BOUND)
            assert [conn.recv(), conn.recv()] == ["one", "two"]
            with pytest.raises(ConnectionClosed):
                conn.recv()
            assert list(conn) == []

    def test_none_for_what_was_never_open(self) -> None:
        watch = Watch()
        conn = Connection("ws://127.0.0.1:1/", **options(on_close=watch.on_close))
        with pytest.raises(wsclient.ConnectFailed):
            conn.open(timeout=BOUND)
        conn.close(timeout=FOR_EVER)
        assert watch.events == []


class TestContextManager:
    def test_leaving_it_closes(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with wsclient.connect(server.url, **options()) as conn:
                conn.send("last")
            assert conn.state is State.CLOSED
            server.wait_closed()
            assert (server.received, server.close_code) == (["last"], 1000)

    def test_an_error_in_it_closes_with_1011(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with pytest.raises(LookupError), wsclient.connect(server.url, **options()):
                raise LookupError("in the block")
            server.wait_closed()
            assert server.close_code == 1011

    def test_it_opens_a_connection_that_is_not_open_yet(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with Connection(server.url, **options()) as conn:
                assert conn.state is State.OPEN
            assert conn.close_code == 1000

    def test_closed_inside(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with wsclient.connect(server.url, **options()) as conn:
                conn.close(4000, timeout=FOR_EVER)
            server.wait_closed()
            assert server.close_code == 4000


class TestOpening:
    @ENDS
    def test_ended_before_it_was_open(self, end: End) -> None:
        conn = Connection("ws://127.0.0.1:1/", **options())
        end(conn)
        end(conn)
        assert conn.state is State.CLOSED
        with pytest.raises(WSClientError, match="opened once"):
            conn.open()
        for call in (lambda: conn.send("x"), conn.recv, conn.ping, conn.flush, conn.confirm):
            with pytest.raises(ConnectionClosed, match="before it was open"):
                call()

    @ENDS
    def test_ended_while_it_connects(self, end: End) -> None:
        with FaultServer(black_hole()) as server, ThreadPoolExecutor(1) as pool:
            conn = Connection(server.url, **options(open_timeout=FOR_EVER))
            opening = pool.submit(conn.open)
            server.wait_for_connections(1)
            assert conn.state.value == "connecting"
            end(conn)
            assert conn.state.value == "closed"
            with pytest.raises(HandshakeError, match="before it was open"):
                opening.result(BOUND)

    def test_ended_while_it_connects_again_and_again(self) -> None:
        """The close comes at any moment of the dial; open() says so, or has opened what is now closed."""
        with FaultServer(accept_upgrade(), read_until_close()) as server, ThreadPoolExecutor(1) as pool:
            for number in range(150):
                conn = Connection(server.url, **options())
                opening = pool.submit(conn.open)
                while number % 3 and conn.state is State.NEW:
                    pass
                conn.close(timeout=BOUND)
                error = opening.exception(BOUND)
                assert conn.state is State.CLOSED
                if error is None:
                    assert conn.close_code in (1000, 1006)
                    assert "before it was open" not in conn.close_reason
                else:
                    assert isinstance(error, WSClientError)
                assert threads_of(conn) == []

    def test_opened_twice(self) -> None:
        with (
            FaultServer(accept_upgrade(), read_until_close()) as server,
            wsclient.connect(server.url, **options()) as conn,
        ):
            with pytest.raises(WSClientError, match="opened once"):
                conn.open()
            conn.confirm(BOUND)

    def test_nothing_can_be_sent_or_received_before(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            conn = Connection(server.url, **options())
            calls: list[Callable[[], object]] = [
                lambda: conn.send("x"),
                lambda: conn.send_future("x"),
                lambda: conn.send_json({}),
                lambda: next(iter(conn)),
            ]
            for call in [*calls, conn.recv, conn.ping, conn.flush, conn.confirm]:
                with pytest.raises(WSClientError, match="not open yet"):
                    call()
            assert conn.queued_messages == 0
            with conn:
                conn.send("now")
            server.wait_closed()
            assert server.received == ["now"]

    def test_nothing_can_be_sent_while_it_connects(self) -> None:
        go = threading.Event()
        upgrade = [wait(go), accept_upgrade(), read_until_close()]
        with FaultServer(*upgrade) as server, ThreadPoolExecutor(1) as pool:
            conn = Connection(server.url, **options())
            opening = pool.submit(conn.open)
            server.wait_for_connections(1)
            with pytest.raises(WSClientError, match="not open yet"):
                conn.send("too early")
            go.set()
            opening.result(BOUND)
            conn.close()
            assert server.received == []

    @pytest.mark.parametrize("which", ["reader", "writer"])
    def test_when_no_thread_can_be_started(self, which: str, echo_server: str) -> None:
        """With a stack that no memory has room for, the operating system refuses the thread."""
        usual = threading.stack_size()

        def make_impossible() -> dict[str, str]:
            threading.stack_size(1 << 46)
            return {}

        more = {"headers": make_impossible} if which == "writer" else {}
        conn = Connection(echo_server, **options(open_timeout=FOR_EVER, **more))
        try:
            if which == "reader":
                make_impossible()
            with pytest.raises(RuntimeError, match="thread"):
                conn.open()
        finally:
            threading.stack_size(usual)
        assert conn.state is State.CLOSED
        conn.close(timeout=FOR_EVER)


def forget(held: list[Connection]) -> None:
    """Let go of a connection that nobody else holds."""
    held.clear()
    gc.collect()


def assert_ended(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()


class TestForgotten:
    """A connection that nobody holds any more."""

    def test_it_warns_and_its_threads_end(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            held = [wsclient.connect(server.url, **options())]
            threads = threads_of(held[0])
            with pytest.warns(ResourceWarning, match=r"unclosed <wsclient.Connection .* open>"):
                forget(held)
            assert_ended(threads)
            server.wait_closed()

    def test_its_threads_end_also_when_warnings_are_errors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raised: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: raised.append(unraisable.exc_type))
        with FaultServer(accept_upgrade(), read_until_close()) as server, warnings.catch_warnings():
            warnings.simplefilter("error")
            held = [wsclient.connect(server.url, **options())]
            threads = threads_of(held[0])
            forget(held)
            assert_ended(threads)
        assert raised == [ResourceWarning]

    def test_while_the_reader_waits_for_room(self) -> None:
        with FaultServer(accept_upgrade(), flood("x" * 1000)) as server:
            held = [wsclient.connect(server.url, **options(max_received_messages=1))]
            threads = threads_of(held[0])
            server.wait_blocked()
            with pytest.warns(ResourceWarning):
                forget(held)
            assert_ended(threads)

    def test_collected_by_a_thread_that_holds_its_locks(self) -> None:
        """The garbage collector runs wherever memory is asked for: on the connection's own threads, too."""
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            held = [wsclient.connect(server.url, **options())]
            threads = threads_of(held[0])
            session = held[0]._session
            parts = session.parts
            locks = (parts.queue.mutex, parts.inbox._mutex, parts.lifecycle._mutex)
            with locks[0], locks[1], locks[2], pytest.warns(ResourceWarning):
                forget(held)
            assert_ended(threads)

    def test_one_that_has_callbacks_lives_on(self) -> None:
        watch = Watch()
        go = threading.Event()
        script = [accept_upgrade(), wait(go), send_text("still there"), send_close(1000), read_until_close()]
        with FaultServer(*script) as server:
            wsclient.connect(server.url, **options(on_message=watch.on_message, on_close=watch.on_close))
            gc.collect()
            go.set()
            assert watch.closed.wait(BOUND)
            assert watch.events == [("message", "still there"), ("close", 1000, "")]

    def test_a_closed_one_does_not_warn(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            conn = wsclient.connect(server.url, **options())
            conn.close(timeout=BOUND)
            held = [conn]
            del conn
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                forget(held)

    def test_one_that_was_never_opened_does_not_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Connection("ws://127.0.0.1/")
            gc.collect()


MAIN = threading.main_thread().ident or 0


def main_is_in(function: Any, **arguments: object) -> bool:
    """Whether the main thread is in a call of ``function``, with these arguments."""
    frame = sys._current_frames().get(MAIN)
    while frame is not None:
        if frame.f_code is function.__code__:
            return all(frame.f_locals.get(name) is value for name, value in arguments.items())
        frame = frame.f_back
    return False


@contextmanager
def interrupted(function: Any) -> Iterator[None]:
    """Ctrl-C as soon as the main thread is in ``function``; the block must end with it."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("Python handles signals on the main thread only")
    done = threading.Event()

    def interrupt() -> None:
        while not main_is_in(function):
            if done.wait(0.001):
                return
        signal.pthread_kill(MAIN, signal.SIGINT)
        # Python drops an exception that comes in the middle of a finalizer: a person would press it again.
        while not done.wait(2):
            signal.pthread_kill(MAIN, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        done.set()
        thread.join(BOUND)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the platform sends no signals to threads")
class TestInterrupted:
    """Ctrl-C gets out of every call that waits, and leaves the connection in order."""

    def test_open(self) -> None:
        with FaultServer(black_hole()) as server:
            conn = Connection(server.url, **options(open_timeout=FOR_EVER))
            with interrupted(Connection.open):
                conn.open()
            assert conn.state is State.CLOSED

    def test_the_wait_for_on_open(self) -> None:
        """Nobody has the connection when connect() is interrupted: it must not live on."""
        watch, slow = Watch(), Blocker()

        def on_open(conn: Connection) -> None:
            while not main_is_in(Lifecycle.wait, milestone=Milestone.GREETED):
                assert not slow.release.wait(0.001)
            signal.pthread_kill(MAIN, signal.SIGINT)
            slow()

        with FaultServer(accept_upgrade(), stall()) as server:
            arguments = options(on_open=on_open, on_close=watch.on_close, open_timeout=FOR_EVER)
            with pytest.raises(KeyboardInterrupt):
                wsclient.connect(server.url, **arguments)
            slow.release.set()
            assert watch.closed.wait(BOUND)

    def test_receiving(self) -> None:
        watch = Watch()
        go = threading.Event()
        script = [accept_upgrade(), wait(go), send_text("first"), read_until_close()]
        with FaultServer(*script) as server, connected(server, watch) as conn:
            with interrupted(Connection.recv):
                conn.recv()
            with interrupted(Connection.recv):
                for _ in conn:
                    pass
            with interrupted(Connection.recv_json):
                conn.recv_json()
            go.set()
            assert conn.recv(BOUND) == "first"
            conn.close(timeout=BOUND)
            assert conn.close_code == 1000

    def test_waiting_for_the_writer(self) -> None:
        watch = Watch()
        go = threading.Event()
        server = FaultServer(accept_upgrade(), wait(go), read_until_close(), receive_buffer=4096)
        more = {"max_queued_messages": 4, "send_timeout": FOR_EVER}
        with server, connected(server, watch, **more) as conn:
            accepted = fill(conn)
            with interrupted(Connection.send):
                conn.send("perhaps accepted", timeout=FOR_EVER)
            with interrupted(Connection.send_future):
                conn.send_future("perhaps accepted")
            with interrupted(Connection.flush):
                conn.flush(FOR_EVER)
            with interrupted(Connection.confirm):
                conn.confirm(FOR_EVER)
            with interrupted(Connection.close):
                conn.close(timeout=FOR_EVER)
            with interrupted(Connection.close):
                conn.close(timeout=FOR_EVER)
            go.set()
            conn.close(timeout=FOR_EVER)
            assert (conn.close_code, conn.unsent) == (1000, ())
            assert server.received[: len(accepted)] == accepted


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in another process, which must end within the bound."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), *arguments],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        timeout=2 * BOUND,
        check=False,
    )


# For programs whose connections use up all of the time that an exit gives them, which is seconds by default.
SHORT_EXIT = """
from wsclient.lifetime import LiveSet
LiveSet.close_all.__defaults__ = (1.0,)
"""


def assert_clean(process: subprocess.CompletedProcess[str]) -> None:
    assert (process.returncode, process.stderr) == (0, "")


class TestInterpreterExit:
    """A program that ends without closing: its connections drain and close, all of them in time."""

    def test_it_drains_and_closes(self) -> None:
        script = """
            import sys, wsclient
            open_ones = [wsclient.connect(sys.argv[1], proxy=None) for _ in range(3)]
            for conn in open_ones:
                for number in range(1000):
                    conn.send(str(number))
            """
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            assert_clean(run(script, server.url))
            server.wait_closed()
            expected = [str(number) for number in range(1000)]
            assert [list(record.received) for record in server.connections] == [expected] * 3
            assert [record.close_code for record in server.connections] == [1001] * 3

    def test_on_close_is_called_and_callbacks_may_send(self) -> None:
        script = """
            import sys, wsclient
            def on_close(conn, code, reason):
                print(code, reason, conn.unsent, flush=True)
            conn = wsclient.connect(sys.argv[1], proxy=None, on_close=on_close)
            conn.send("last")
            """
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            process = run(script, server.url)
            assert_clean(process)
            assert process.stdout == "1001 interpreter exit ()\n"

    @pytest.mark.parametrize("ending", ["raise SystemExit(3)", "raise LookupError"], ids=["exit", "error"])
    def test_however_the_program_ends(self, ending: str) -> None:
        script = """
            import sys, wsclient
            conn = wsclient.connect(sys.argv[1], proxy=None)
            conn.send("last")
            exec(sys.argv[2])
            """
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            process = run(script, server.url, ending)
            assert process.returncode == (3 if "SystemExit" in ending else 1)
            server.wait_closed()
            assert (server.received, server.close_code) == (["last"], 1001)

    def test_one_peer_that_stalls_holds_up_neither_the_others_nor_the_exit(self) -> None:
        script = """
            import sys, wsclient
            stalled, *others = [wsclient.connect(url, proxy=None) for url in sys.argv[1:]]
            for number in range(10):
                stalled.send("x" * 1_000_000)
            for conn in others:
                conn.send("last")
            """
        with (
            FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096) as stalled,
            FaultServer(accept_upgrade(), read_until_close()) as server,
        ):
            assert_clean_but_for_logs(run(script, stalled.url, server.url, server.url))
            server.wait_closed()
            assert server.received == ["last"] * 2
            assert [record.close_code for record in server.connections] == [1001] * 2
            assert not stalled.connections[0].ended, "it still stalls"

    def test_a_slow_callback_does_not_hold_it_up(self) -> None:
        script = """
            import sys, threading, wsclient
            entered = threading.Event()
            def on_message(conn, message):
                entered.set()
                threading.Event().wait()
            conn = wsclient.connect(sys.argv[1], proxy=None, on_message=on_message)
            conn.send("last")
            assert entered.wait(10)
            """
        with FaultServer(accept_upgrade(), send_text("go"), read_until_close(), stall()) as server:
            assert_clean(run(SHORT_EXIT + textwrap.dedent(script), server.url))
            assert server.received == ["last"]

    @pytest.mark.parametrize("executor", ["None", "ThreadPoolExecutor(1)"], ids=["reader", "executor"])
    def test_a_flood_does_not_hold_it_up(self, executor: str) -> None:
        script = """
            import sys, threading, wsclient
            from concurrent.futures import ThreadPoolExecutor
            entered = threading.Event()
            def on_message(conn, message):
                entered.set()
                sum(range(50_000))  # slower than the flood: there is always a next message
            conn = wsclient.connect(sys.argv[1], proxy=None, callback_executor=eval(sys.argv[2]),
                                    on_message=on_message)
            assert entered.wait(10)
            """
        with FaultServer(accept_upgrade(), flood("x" * 10_000)) as server:
            assert_clean_but_for_logs(run(script, server.url, executor))
            server.wait_closed()
            assert server.close_code == 1001

    def test_on_close_comes_though_the_executor_is_gone(self) -> None:
        script = """
            import sys, wsclient
            from concurrent.futures import ThreadPoolExecutor
            conn = wsclient.connect(sys.argv[1], proxy=None, callback_executor=ThreadPoolExecutor(1),
                                    on_close=lambda conn, code, reason: print(code, flush=True))
            """
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            process = run(script, server.url)
            assert_clean(process)
            assert process.stdout == "1001\n"

    def test_while_it_connects(self) -> None:
        script = """
            import sys, threading, wsclient
            conn = wsclient.Connection(sys.argv[1], proxy=None)
            threading.Thread(target=lambda: sys.exit(conn.open(1000)), daemon=True).start()
            while conn.state is wsclient.State.NEW:
                pass
            """
        with FaultServer(black_hole()) as server:
            process = run(script, server.url)
            assert process.returncode == 0


def assert_clean_but_for_logs(process: subprocess.CompletedProcess[str]) -> None:
    """Warnings that something was not sent or received may be there, on standard error; no errors."""
    lines = process.stderr.splitlines()
    assert (
        process.returncode,
        [line for line in lines if "unsent" not in line and "no room" not in line],
    ) == (
        0,
        [],
    )


FORK = """
    import json, os, sys, threading, warnings, wsclient
    warnings.simplefilter("ignore")  # of fork() in a process that has threads: it is what is tried here

    def refused(call):
        try:
            call()
        except wsclient.WSClientError as error:
            return "parent process" in str(error)
        except BaseException as error:
            return repr(error)
        return False

    def calls(conn):
        return {
            "send": lambda: conn.send("child"),
            "send large": lambda: conn.send("x" * 100_000),
            "send_future": lambda: conn.send_future("child"),
            "send_json": lambda: conn.send_json({}),
            "recv": lambda: conn.recv(5),
            "recv_json": lambda: conn.recv_json(5),
            "iterate": lambda: next(iter(conn)),
            "ping": conn.ping,
            "flush": lambda: conn.flush(5),
            "confirm": lambda: conn.confirm(5),
            "open": conn.open,
            "close": conn.close,
            "abort": conn.abort,
        }

    def fork(conn, end):
        # In the child: report what each call does, then end in the given way.
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            report = {name: refused(call) for name, call in calls(conn).items()}
            repr(conn), conn.state, conn.stats(), conn.unsent
            with os.fdopen(writing, "w") as pipe:
                json.dump(report, pipe)
            end()
        os.close(writing)
        with os.fdopen(reading) as pipe:
            report = json.load(pipe)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return report
    """


def fork_script(body: str) -> str:
    return textwrap.dedent(FORK) + textwrap.dedent(body)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork()")
class TestFork:
    """The child's copy of a connection refuses every call and touches nothing; the parent goes on."""

    def assert_refused(self, process: subprocess.CompletedProcess[str]) -> None:
        assert_clean(process)
        for line in process.stdout.splitlines():
            report = json.loads(line)
            assert [name for name, refused in report.items() if refused is not True] == []
            assert len(report) == 13

    @pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()"])
    @pytest.mark.parametrize("tls_options", [False, True], ids=["ws", "wss"])
    def test_the_parent_goes_on(
        self, end: str, tls_options: bool, echo_server: str, tls_echo_server: str
    ) -> None:
        script = fork_script(
            """
            import ssl
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with wsclient.connect(sys.argv[1], proxy=None, ssl_context=context) as conn:
                conn.send("before")
                print(json.dumps(fork(conn, lambda: exec(sys.argv[2]))), flush=True)
                assert conn.recv(10) == "before"
                conn.send("after")
                assert conn.recv(10) == "after"
                conn.confirm(10)
            assert conn.close_code == 1000
            """
        )
        self.assert_refused(run(script, tls_echo_server if tls_options else echo_server, end))

    def test_while_a_thread_that_is_lost_holds_every_lock(self, echo_server: str) -> None:
        script = fork_script(
            """
            with wsclient.connect(sys.argv[1], proxy=None) as conn:
                session = conn._session
                parts = session.parts
                locks = [parts.queue.mutex, parts.inbox._mutex, parts.lifecycle._mutex]
                locks += [parts.keepalive._mutex, wsclient.lifetime.live._mutex]
                held, release = threading.Event(), threading.Event()
                def hold():
                    for lock in locks:
                        lock.acquire()
                    held.set()
                    release.wait()
                    for lock in locks:
                        lock.release()
                threading.Thread(target=hold).start()
                held.wait()
                print(json.dumps(fork(conn, sys.exit)), flush=True)
                release.set()
                conn.send("after")
                assert conn.recv(10) == "after"
            """
        )
        self.assert_refused(run(script, echo_server))

    def test_in_a_callback(self, echo_server: str) -> None:
        script = fork_script(
            """
            done = threading.Event()
            def on_message(conn, message):
                print(json.dumps(fork(conn, lambda: os._exit(0))), flush=True)
                done.set()
            with wsclient.connect(sys.argv[1], proxy=None, on_message=on_message) as conn:
                conn.send("go")
                assert done.wait(10)
                conn.confirm(10)
            """
        )
        self.assert_refused(run(script, echo_server))

    def test_while_it_connects(self) -> None:
        script = fork_script(
            """
            asked = threading.Event()
            def headers():
                asked.set()
                return {}
            conn = wsclient.Connection(sys.argv[1], proxy=None, headers=headers)
            opening = threading.Thread(target=conn.open)
            opening.start()
            assert asked.wait(10)
            print(json.dumps(fork(conn, sys.exit)), flush=True)
            wsclient.connect(sys.argv[1], proxy=None).close()  # lets the other one in
            opening.join(10)
            conn.send("the parent was not disturbed")
            conn.close()
            """
        )
        go = threading.Event()
        scripts: list[Script] = [
            [wait(go), accept_upgrade(), read_until_close()],
            [accept_upgrade(), lambda _: go.set(), read_until_close()],
        ]
        with FaultServer(scripts=scripts) as server:
            self.assert_refused(run(script, server.url))
            assert server.connections[0].received == ("the parent was not disturbed",)

    def test_the_child_can_connect_anew(self, echo_server: str) -> None:
        script = fork_script(
            """
            def talk():
                with wsclient.connect(sys.argv[1], proxy=None) as conn:
                    conn.send("child")
                    assert conn.recv(10) == "child"
            with wsclient.connect(sys.argv[1], proxy=None) as conn:
                fork(conn, lambda: (talk(), sys.exit()))
                conn.send("parent")
                assert conn.recv(10) == "parent"
            """
        )
        assert_clean(run(script, echo_server))

    def test_a_with_block_ends_quietly_in_the_child(self, echo_server: str) -> None:
        script = fork_script(
            """
            with wsclient.connect(sys.argv[1], proxy=None) as conn:
                pid = os.fork()
                if pid:
                    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                    conn.send("parent")
                    assert conn.recv(10) == "parent"
            """
        )
        assert_clean(run(script, echo_server))
