"""Defects that a review found, each as the program that showed it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from test_ends import assert_clean, interrupted, run

import wsclient
from wsclient.options import Overflow
from wsclient.testing.faults import (
    FaultServer,
    accept_upgrade,
    cut,
    read_until_close,
    reset,
    send_close,
    send_raw,
    send_text,
    stop_reading,
    wait,
)

BOUND = 20.0


class Full(Executor):
    """Takes no work, as a bounded executor may."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        raise LookupError("no room")


def broken_pool() -> ThreadPoolExecutor:
    def fail() -> None:
        raise OSError("this thread cannot work")

    return ThreadPoolExecutor(1, initializer=fail)


@pytest.mark.parametrize("make", [Full, broken_pool])
def test_an_executor_that_runs_nothing_costs_no_callback(make: Any) -> None:
    seen: list[str] = []
    closed = threading.Event()

    def on_close(_: wsclient.Connection, code: int, __: str) -> None:
        seen.append(str(code))
        closed.set()

    with (
        FaultServer(accept_upgrade(), send_text("x"), send_close(1000), read_until_close()) as server,
        make() as pool,
    ):
        conn = wsclient.Connection(
            server.url,
            proxy=None,
            callback_executor=pool,
            on_open=lambda _: seen.append("open"),
            on_message=lambda _, message: seen.append(str(message)),
            on_close=on_close,
        )
        conn.open()
        assert closed.wait(BOUND)
        conn.close()
    assert seen == ["open", "x", "1000"]


def send_for_ever(conn: wsclient.Connection) -> None:
    while True:
        conn.send("is anybody there?")


def test_a_failed_write_loses_nothing_that_the_peer_had_sent() -> None:
    texts = [str(number) for number in range(10, 60)]
    frames = b"".join(b"\x81\x02" + text.encode() for text in texts) + b"\x88\x02\x03\xe8"
    read = threading.Event()
    with FaultServer(accept_upgrade(), send_raw(frames), wait(read), reset()) as server:
        conn = wsclient.connect(server.url, proxy=None, max_received_messages=10, close_timeout=BOUND)
        received = [conn.recv(BOUND)]  # so all of it has been read; what found no room waits with the reader
        read.set()
        with pytest.raises(wsclient.ConnectionClosed):
            send_for_ever(conn)  # until a write finds that nobody is there
        received += list(conn)
        assert received == texts
        assert (conn.close_code, conn.stats().discarded_messages) == (1000, 0)
        conn.close()


def test_an_exit_waits_for_on_close() -> None:
    script = """
        import sys, threading, wsclient
        ending = threading.Event()
        def on_close(conn, code, reason):
            ending.wait(0.5)  # longer than the main thread needs to end
            print("closed", code, flush=True)
        conn = wsclient.Connection(sys.argv[1], proxy=None, on_close=on_close)
        conn.open()
        print(list(conn), flush=True)
        """
    with FaultServer(accept_upgrade(), send_text("x"), send_close(1000), read_until_close()) as server:
        process = run(script, server.url)
        assert_clean(process)
        assert process.stdout == "['x']\nclosed 1000\n"


@contextmanager
def eager_collector() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def test_an_error_is_not_made_under_a_lock() -> None:
    with FaultServer(accept_upgrade(), read_until_close()) as server:
        conn = wsclient.connect(server.url, proxy=None)
        conn.abort()

        class Garbage:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                with pytest.raises(wsclient.ConnectionClosed):
                    conn.send("bye")

        def work() -> None:
            for _ in range(60):
                Garbage()
                with pytest.raises(wsclient.ConnectionClosed):
                    conn.send("x")

        with eager_collector():
            worker = threading.Thread(target=work, name="wsclient-test", daemon=True)
            worker.start()
            worker.join(BOUND)
            assert not worker.is_alive()


def test_ctrl_c_in_on_dropped_leaves_no_receipt_behind() -> None:
    def on_dropped(_: wsclient.Connection, __: str | bytes) -> None:
        raise KeyboardInterrupt

    stalled = threading.Event()
    with FaultServer(accept_upgrade(), read_until_close()) as server:
        conn = wsclient.connect(
            server.url,
            proxy=None,
            overflow=Overflow.DROP_OLDEST,
            max_queued_messages=4,
            max_queued_bytes=4,
            on_dropped=on_dropped,
        )
        here = threading.current_thread()
        first = conn.send_future("0")
        # Holds up the writer; when that was quicker, the callback runs here, and a full queue comes anyhow.
        first.add_done_callback(lambda _: threading.current_thread() is here or stalled.wait(BOUND))
        receipts = [conn.send_future(str(number)) for number in range(1, 4)]
        with pytest.raises(KeyboardInterrupt):
            receipts.extend(conn.send_future("more") for _ in iter(int, 1))
        stalled.set()
        conn.close()
        assert all(receipt.done() for receipt in receipts)


LATER = wsclient.Reconnect(initial_delay=3600, max_delay=3600, jitter="none")
DELIVERIES = pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])


class Ledger:
    """What was accepted, and what a connection that is lost for good says of it."""

    def __init__(self) -> None:
        self.lost = threading.Event()
        self.accepted: list[str | bytes] = []  # the thread of the test
        self._handed_back: list[str | bytes] = []  # reader thread, until `lost`

    def options(self, delivery: str) -> dict[str, Any]:
        more = {"delivery": delivery, "max_in_doubt_bytes": 1 << 30, "max_queued_messages": 10_000}
        return {"proxy": None, "reconnect": LATER, "on_disconnect": self._on_disconnect, **more}

    def _on_disconnect(self, _: wsclient.Connection, reason: wsclient.Disconnect) -> None:
        self._handed_back += reason.in_doubt
        self.lost.set()

    def check(self, conn: wsclient.Connection) -> None:
        """Every message is somewhere, once, in order."""
        in_doubt = self._handed_back or list(conn.in_doubt)
        assert in_doubt, "nothing was written"
        assert conn.unsent, "everything was written"
        assert [*in_doubt, *conn.unsent] == self.accepted


def messages() -> list[str]:
    return [f"{number:08}{'x' * 1000}" for number in range(8000)]  # more than the buffers of a system take


@DELIVERIES
def test_what_was_whole_in_a_batch_that_was_cut_in_half_is_in_doubt(delivery: str) -> None:
    go = threading.Event()
    ledger = Ledger()
    with FaultServer(accept_upgrade(), wait(go), reset(), receive_buffer=4096) as server:
        conn = wsclient.connect(server.url, ping_interval=None, **ledger.options(delivery))
        for message in messages():
            conn.send(message)
            ledger.accepted.append(message)
        for _ in stalled(conn):
            pass
        go.set()
        assert ledger.lost.wait(BOUND)
        conn.close()
        ledger.check(conn)


@DELIVERIES
def test_a_close_while_a_lost_link_is_cleared_away_loses_nothing(delivery: str) -> None:
    go, entered, release = threading.Event(), threading.Event(), threading.Event()
    ledger = Ledger()

    def hold(_: Future[None]) -> None:
        if go.is_set():  # the writer has found out: it gives the receipts of what was whole in its batch
            entered.set()
            release.wait(BOUND)

    with FaultServer(accept_upgrade(), wait(go), reset(), receive_buffer=4096) as server:
        conn = wsclient.connect(server.url, ping_interval=None, **ledger.options(delivery))
        for message in messages():
            conn.send_future(message).add_done_callback(hold)
            ledger.accepted.append(message)
        for _ in stalled(conn):
            pass
        go.set()
        assert entered.wait(BOUND)
        while conn.state is wsclient.State.OPEN:
            assert not release.wait(0.001)
        conn.abort()
        release.set()
        conn.close()
        ledger.check(conn)


def stalled(conn: wsclient.Connection) -> Iterator[int]:
    """Until the peer's and the system's buffers are full, and nothing moves any more."""
    nothing = threading.Event()
    before, same = -1, 0
    while same < 100:
        yield same
        nothing.wait(0.002)
        now = conn.stats().bytes_sent
        before, same = now, same + 1 if now == before else 0


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("where", ["on_disconnect", "retry"])
def test_unsent_is_known_though_a_callback_holds_up_a_lost_connection(where: str, end: str) -> None:
    entered, release = threading.Event(), threading.Event()

    def hold(*_: object) -> bool:
        entered.set()
        return release.wait(BOUND)

    options: dict[str, Any] = {"reconnect": LATER, "on_disconnect": hold}
    if where == "retry":
        options = {"reconnect": wsclient.Reconnect(retry=hold)}
    with FaultServer(accept_upgrade(), cut()) as server:
        conn = wsclient.connect(server.url, proxy=None, **options)
        assert entered.wait(BOUND)
        conn.send("x")
        conn.close(timeout=0) if end == "close" else conn.abort()
        try:
            assert conn.unsent == ("x",)
        finally:
            release.set()
        conn.close()
        assert conn.unsent == ("x",)


def test_ctrl_c_in_send_stream_leaves_no_stream_behind(recwarn: pytest.WarningsRecorder) -> None:
    with FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096) as server:
        conn = wsclient.connect(server.url, proxy=None, max_queued_messages=8, send_timeout=BOUND)
        with suppress(wsclient.SendTimeout):
            while True:
                conn.send("x" * 1_000_000, timeout=0.5)
        with interrupted(wsclient.Connection.send_stream):
            conn.send_stream()
        gc.collect()
        conn.abort()
    assert [str(warning.message) for warning in recwarn] == []
