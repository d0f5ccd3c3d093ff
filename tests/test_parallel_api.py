"""The public API from many threads at once: each test body runs on eight threads, all starting together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

import wsclient

THREADS = 8
ROUNDS = 20
BOUND = 30.0


def in_parallel(body: Callable[[], None]) -> None:
    start = threading.Barrier(THREADS)

    def rounds() -> None:
        start.wait(BOUND)
        for _ in range(ROUNDS):
            body()

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(rounds) for _ in range(THREADS)]:
            done.result(BOUND)


@pytest.fixture
def shared(echo_server: str) -> Iterator[wsclient.Connection]:
    with wsclient.connect(echo_server, proxy=None) as conn:
        yield conn


def test_each_thread_with_a_connection_of_its_own(echo_server: str) -> None:
    def body() -> None:
        texts = [f"{threading.get_ident()} {number}" for number in range(20)]
        with wsclient.connect(echo_server, proxy=None) as conn:
            for text in texts:
                conn.send(text)
            assert [conn.recv(BOUND) for _ in texts] == texts

    in_parallel(body)


def test_sending_receiving_and_waiting_on_one_connection(shared: wsclient.Connection) -> None:
    def body() -> None:
        for number in range(20):
            shared.send(str(number))
        shared.send_json({"number": 20})
        shared.send_future(b"21").result(BOUND)
        shared.flush(BOUND)
        assert shared.confirm(BOUND) >= 0
        assert shared.ping().result(BOUND) >= 0
        for _ in range(22):
            assert shared.recv(BOUND)

    in_parallel(body)
    stats = shared.stats()
    assert stats.messages_sent == stats.messages_received == THREADS * ROUNDS * 22
    assert stats.received_waiting == stats.queued_messages == 0


def test_observing_and_setting_on_one_connection(shared: wsclient.Connection) -> None:
    def body() -> None:
        shared.set_credentials(str(threading.get_ident()), "user", "session")
        assert shared.is_authenticated
        assert shared.credentials is not None
        assert shared.state is wsclient.State.OPEN
        assert (shared.unsent, shared.close_code, shared.queued_bytes) == ((), None, 0)
        assert repr(shared)
        assert shared.stats().messages_sent == 0

    in_parallel(body)


def note_code(codes: list[int], conn: wsclient.Connection, code: int, reason: str) -> None:
    codes.append(code)


def test_closing_one_connection_from_all_sides(echo_server: str) -> None:
    for _ in range(ROUNDS):
        closed: list[int] = []
        conn = wsclient.Connection(echo_server, proxy=None, on_close=partial(note_code, closed))
        conn.open()
        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(conn.close) for _ in range(THREADS)]:
                done.result(BOUND)
        assert closed == [1000]
