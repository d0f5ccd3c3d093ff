"""Many threads, much to do, and every message accounted for.

By default short; ``WSCLIENT_STRESS=1`` runs the whole load: 50 threads of 20,000 messages, many times the
rounds of racing, 30 connections for a minute.
"""

from __future__ import annotations

import itertools
import os
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import TLS

import wsclient
from benchmarks.messages import Workload
from benchmarks.processes import Reporter, Server
from wsclient import Connection, ConnectionClosed, State
from wsclient.testing import (
    FaultServer,
    Peer,
    accept_upgrade,
    read_messages,
    read_until_close,
    reset,
    send_close,
)

WHOLE = bool(os.environ.get("WSCLIENT_STRESS"))
BOUND = 600.0 if WHOLE else 50.0  # seconds for what comes much sooner, or never
MESSAGES = 20_000 if WHOLE else 1000  # of each thread
THREADS = 50
ROUNDS = 300 if WHOLE else 25
CONNECTIONS, ECHO_SECONDS = (30, 60.0) if WHOLE else (4, 1.0)

pytestmark = pytest.mark.timeout(BOUND + 10)

Message = str | bytes


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A C-speed server in another process, with TLS."""
    with Server(tls=True) as started:
        yield started


@pytest.fixture(scope="module")
def plain_server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture(params=["usual", "rapid"])
def switching(request: pytest.FixtureRequest) -> Iterator[None]:
    """Also with threads that take turns as often as the interpreter can."""
    usual = sys.getswitchinterval()
    if request.param == "rapid":
        sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def trusting(server: Server) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.ca_file)


def final_account(reporter: Reporter) -> dict[str, Any]:
    """The server's account once it has seen the connection end. Each question is a round trip."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        account = reporter.account()
        if account["ended"]:
            return account
    raise AssertionError(f"the server has not seen the end of the connection: {account}")


@pytest.mark.usefixtures("switching")
class TestFiftyThreads:
    """Each frame whole, exactly once, each thread's own order kept: the server checks every one."""

    @pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
    def test_on_one_connection(self, secure: bool, request: pytest.FixtureRequest) -> None:
        server: Server = request.getfixturevalue("server" if secure else "plain_server")
        load = Workload(THREADS, MESSAGES, size=64)
        run = request.node.name.replace("[", "-").replace("]", "")
        reporter = server.open_run(run, load.threads, load.messages)
        try:
            more: dict[str, Any] = {"ssl_context": trusting(server)} if secure else {}
            with wsclient.connect(
                server.url("/verify", run=run), proxy=None, send_timeout=BOUND, **more
            ) as conn:
                self.send_all(conn, load)
            account = final_account(reporter)
        finally:
            reporter.close()
        assert account["first_violation"] is None, account
        assert account["perfect"], account
        assert (account["close_code"], conn.close_code, conn.unsent) == (1000, 1000, ())
        assert conn.stats().messages_sent == load.total

    def send_all(self, conn: Connection, load: Workload) -> None:
        start = threading.Barrier(load.threads)

        def send(thread: int) -> None:
            messages = list(load.of_thread(thread))
            ways = SENDERS[thread % len(SENDERS)]
            start.wait(BOUND)
            for position, message in enumerate(messages):
                ways(conn, position, message)

        with ThreadPoolExecutor(load.threads) as pool:
            for future in [pool.submit(send, thread) for thread in range(load.threads)]:
                future.result(BOUND)


def send_plainly(conn: Connection, position: int, message: str) -> None:
    conn.send(message)


def send_with_receipts(conn: Connection, position: int, message: str) -> None:
    if position % 8:
        conn.send(message)
    else:
        conn.send_future(message)


def send_among_pings(conn: Connection, position: int, message: str) -> None:
    if position % 64 == 0:
        conn.ping()
    conn.send(message)


def send_and_flush(conn: Connection, position: int, message: str) -> None:
    conn.send(message)
    if position % 128 == 0:
        conn.flush(BOUND)


Sender = Callable[[Connection, int, str], None]
SENDERS: tuple[Sender, ...] = (
    send_plainly,
    send_plainly,
    send_with_receipts,
    send_among_pings,
    send_and_flush,
)


@dataclass
class Sent:
    """What one thread sent: every message that was accepted, and the receipts of some."""

    accepted: list[Message]
    receipts: dict[Message, Future[None]]


def send_until_refused(conn: Connection, name: int) -> Sent:
    sent = Sent([], {})
    for number in itertools.count():
        text = f"{name}:{number}" + "x" * (number % 50)
        message: Message = text.encode() if number % 3 == 0 else text
        try:
            if number % 5 == 0:
                sent.receipts[message] = conn.send_future(message)
            else:
                conn.send(message)
        except ConnectionClosed:
            return sent
        sent.accepted.append(message)
    raise AssertionError("sending ends with an error")


def of_sender(name: int, messages: Sequence[Message]) -> list[Message]:
    text, data = f"{name}:", f"{name}:".encode()
    return [m for m in messages if (m.startswith(text) if isinstance(m, str) else m.startswith(data))]


def assert_accounted(sent: Sent, received: list[Message], unsent: list[Message], gap: bool) -> None:
    """Accepted is what was received, then perhaps what was on its way, then what is unsent."""
    accepted = sent.accepted
    assert received == accepted[: len(received)]
    assert unsent == accepted[len(accepted) - len(unsent) :]
    missing = len(accepted) - len(received) - len(unsent)
    assert missing >= 0 if gap else missing == 0
    failed = {message for message, receipt in sent.receipts.items() if receipt.exception(BOUND) is not None}
    assert failed == set(unsent) & set(sent.receipts)


End = Callable[[Connection], None]

ENDS: list[tuple[str, list[Callable[[Peer], None]], End | None, bool]] = [
    ("close", [read_until_close()], lambda conn: conn.close(timeout=BOUND), False),
    ("abort", [read_until_close()], Connection.abort, True),
    ("reset", [reset()], None, True),
    ("peer close", [send_close(1001), read_until_close()], None, False),
]


@pytest.mark.usefixtures("switching")
class TestRaces:
    """Threads send while the connection ends: each message that was accepted is somewhere."""

    SENDERS = 4

    @pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
    @pytest.mark.parametrize(
        ("script", "end", "gap"), [case[1:] for case in ENDS], ids=[case[0] for case in ENDS]
    )
    def test_sending_races_with_the_end(
        self, script: list[Callable[[Peer], None]], end: End | None, gap: bool, secure: bool, tls: TLS
    ) -> None:
        chance = random.Random(6455)
        for _ in range(ROUNDS):
            arrived = chance.choice((0, 1, 10, 100, 1000))
            steps: list[Callable[[Peer], None]] = [accept_upgrade(), read_messages(arrived), *script]
            with FaultServer(*steps, ssl_context=tls.server if secure else None) as server:
                self.one_round(server, end, gap, arrived, tls.client if secure else None)

    def one_round(
        self, server: FaultServer, end: End | None, gap: bool, arrived: int, context: ssl.SSLContext | None
    ) -> None:
        closes: list[tuple[int, str]] = []
        options: dict[str, Any] = {
            "ssl_context": context,
            "max_queued_messages": 200,
            "send_timeout": BOUND,
            "ping_interval": None,
            "on_close": lambda _, code, reason: closes.append((code, reason)),
        }
        conn = wsclient.connect(server.url, proxy=None, **options)
        with ThreadPoolExecutor(self.SENDERS) as pool:
            senders = [pool.submit(send_until_refused, conn, name) for name in range(self.SENDERS)]
            if end is not None:
                server.wait_for_messages(arrived, BOUND)
                end(conn)
            sent = [sender.result(BOUND) for sender in senders]
        conn.close(timeout=BOUND)
        assert conn.state is State.CLOSED
        assert closes == [(conn.close_code, conn.close_reason)]
        if end is Connection.abort:
            server.take_errors()  # the client left; that the script did not expect it does not matter
        server.wait_closed(BOUND)
        received, unsent = server.received, conn.unsent
        for name in range(self.SENDERS):
            assert_accounted(sent[name], of_sender(name, received), of_sender(name, unsent), gap)
        assert sum(len(each.accepted) for each in sent) >= len(received) + len(unsent)
        if end is not None and not gap:
            assert unsent == ()

    @pytest.mark.parametrize("overflow", ["raise", "drop_oldest"])
    def test_with_no_room(self, overflow: str) -> None:
        """What was dropped, or never let in, is known as exactly as what was sent."""
        for _ in range(ROUNDS):
            self.one_round_with_no_room(overflow)

    def one_round_with_no_room(self, overflow: str) -> None:
        dropped: list[Message] = []  # appended by the senders' threads, one append at a time
        more: dict[str, Any] = {
            "overflow": overflow,
            "on_dropped": lambda _, message: dropped.append(message),
        }
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            conn = wsclient.connect(server.url, proxy=None, max_queued_messages=3, **more)
            with ThreadPoolExecutor(self.SENDERS) as pool:
                accepted = list(pool.map(lambda name: self.send_some(conn, name), range(self.SENDERS)))
            conn.close(timeout=BOUND)
            server.wait_closed(BOUND)
            for name in range(self.SENDERS):
                received, lost = of_sender(name, server.received), set(of_sender(name, dropped))
                assert received == [message for message in accepted[name] if message not in lost]
            assert len(dropped) == conn.stats().dropped_messages

    def send_some(self, conn: Connection, name: int) -> list[Message]:
        accepted: list[Message] = []
        for number in range(300):
            try:
                conn.send(f"{name}:{number}")
            except wsclient.QueueFull:
                continue
            accepted.append(f"{name}:{number}")
        return accepted


class TestTwoWayLoad:
    """TLS, both directions busy at once: every echo equals what was sent, and no connection dies."""

    def test_every_echo_equals_what_was_sent(self, server: Server) -> None:
        url, context = server.url("/echo"), trusting(server)
        options: dict[str, Any] = {"ssl_context": context, "send_timeout": BOUND, "max_queued_messages": 64}
        connections = [wsclient.connect(url, proxy=None, **options) for _ in range(CONNECTIONS)]
        until = time.monotonic() + ECHO_SECONDS
        try:
            with ThreadPoolExecutor(2 * CONNECTIONS) as pool:
                senders = [
                    pool.submit(self.send_all, conn, seed, until) for seed, conn in enumerate(connections)
                ]
                receivers = [pool.submit(self.check_all, conn, seed) for seed, conn in enumerate(connections)]
                counts = [sender.result(BOUND) for sender in senders]
                assert [receiver.result(BOUND) for receiver in receivers] == counts
        finally:
            for conn in connections:
                conn.close(timeout=BOUND)
        assert min(counts) > 0
        assert [(conn.close_code, conn.unsent) for conn in connections] == [(1000, ())] * CONNECTIONS

    def messages(self, seed: int) -> Iterator[Message]:
        """Sizes about the edges of frames, of TLS records, of buffers."""
        chance = random.Random(seed)
        edges = (0, 125, 126, 65_535, 65_536, 16_384, 100, 100, 100, 100_000)
        letters = "".join(chance.choices("abcdefgh", k=100_100))
        for number in itertools.count(1):
            text = f"{number}:" + letters[: chance.choice(edges) + chance.randrange(3)]
            yield text.encode() if number % 2 else text

    def send_all(self, conn: Connection, seed: int, until: float) -> int:
        count = 0
        for message in self.messages(seed):
            if time.monotonic() > until:
                break
            conn.send(message)
            count += 1
        conn.send("end")
        return count

    def check_all(self, conn: Connection, seed: int) -> int:
        for count, expected in enumerate(self.messages(seed)):
            received = conn.recv(BOUND)
            if received == "end":
                return count
            assert received == expected, f"message {count} of connection {seed}"
        raise AssertionError("unreachable: the messages have no end")
