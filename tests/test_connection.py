"""The public API, as README and docs promise it, over real servers."""

from __future__ import annotations

import dataclasses
import json
import math
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import TLS

import wsclient
from benchmarks.processes import Server
from wsclient import (
    Connection,
    ConnectionClosed,
    Credentials,
    QueueFull,
    SendTimeout,
    State,
    WSClientError,
)
from wsclient.testing import (
    FaultServer,
    accept_upgrade,
    flood,
    http_response,
    read_frames,
    read_messages,
    read_until_close,
    send_binary,
    send_close,
    send_continuation,
    send_ping,
    send_pong,
    send_text,
    stall,
    stop_reading,
    wait,
)

pytestmark = pytest.mark.timeout(30)

Message = str | bytes

BOUND = 10.0  # seconds; what is waited for comes much sooner, or never
BIG = "x" * 1_000_000  # more than a narrow peer's buffers take


def options(**more: Any) -> dict[str, Any]:
    return {"proxy": None, "ping_interval": None, **more}


@contextmanager
def connected(server: FaultServer, **more: Any) -> Iterator[Connection]:
    conn = wsclient.connect(server.url, **options(**more))
    try:
        yield conn
    finally:
        conn.abort()


@pytest.fixture(scope="module")
def picows() -> Iterator[Server]:
    """A C-speed server in another process, with TLS."""
    with Server(tls=True) as server:
        yield server


@pytest.fixture(params=["websockets", "websockets, TLS", "picows, TLS"])
def echo(request: pytest.FixtureRequest, tls: TLS) -> Iterator[Connection]:
    """A connection to a server that sends everything back."""
    if request.param == "websockets":
        url, context = request.getfixturevalue("echo_server"), None
    elif request.param == "websockets, TLS":
        url, context = request.getfixturevalue("tls_echo_server"), tls.client
    else:
        server = request.getfixturevalue("picows")
        url, context = server.url("/echo"), trusting(server.ca_file)
    with wsclient.connect(url, **options(ssl_context=context)) as conn:
        yield conn
    assert (conn.close_code, conn.unsent) == (1000, ())


def trusting(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


PAYLOADS: list[Message] = [
    "",
    b"",
    "x",
    b"\x00",
    "text",
    "ä€𐍈 \0",
    bytes(range(256)),
    "x" * 125,
    "x" * 126,
    "é" * 32_768,
    b"x" * 65_535,
    b"x" * 65_536,
    "𐍈" * 100_000,
    b"\xff" * 3_000_000,
]


class TestMessages:
    def test_everything_comes_back_as_it_was_sent(self, echo: Connection) -> None:
        for payload in PAYLOADS:
            echo.send(payload)
        received = [echo.recv(BOUND) for _ in PAYLOADS]
        assert received == PAYLOADS
        assert [type(message) for message in received] == [type(payload) for payload in PAYLOADS]

    @pytest.mark.parametrize("kind", [bytearray, memoryview], ids=["bytearray", "memoryview"])
    def test_other_bytes_are_copied(self, kind: Callable[[bytearray], Any]) -> None:
        go = threading.Event()
        server = FaultServer(accept_upgrade(), wait(go), read_until_close(), receive_buffer=4096)
        with server, connected(server) as conn:
            conn.send(BIG * 4)
            data = bytearray(b"before")
            conn.send(kind(data))
            data[:] = b"after!"
            go.set()
            conn.close(timeout=BOUND)
            assert server.received[-1] == b"before"

    def test_a_strided_memoryview(self, echo: Connection) -> None:
        echo.send(memoryview(b"abcdef")[::2])
        assert echo.recv(BOUND) == b"ace"

    @pytest.mark.parametrize(
        "bad", [None, 1, 1.5, {"a": 1}, ["x"], pytest.param(object(), id="object")], ids=repr
    )
    def test_what_is_no_message_is_refused(self, bad: Any, echo: Connection) -> None:
        for send in (echo.send, echo.send_future):
            with pytest.raises(TypeError, match=f"not {type(bad).__name__}"):
                send(bad)
        echo.send("still in order")
        assert echo.recv(BOUND) == "still in order"

    def test_text_without_an_encoding_is_refused(self, echo: Connection) -> None:
        with pytest.raises(UnicodeEncodeError):
            echo.send("\ud800")
        echo.send("still in order")
        assert echo.recv(BOUND) == "still in order"

    def test_subclasses_of_text(self, echo: Connection) -> None:
        class Shouting(str):
            def __str__(self) -> str:
                return self.upper()

        echo.send(Shouting("quiet"))
        assert echo.recv(BOUND) == "quiet"

    def test_fragments_and_control_frames_between_them(self) -> None:
        script = [
            accept_upgrade(),
            send_text("on", fin=False),
            send_ping(b"between"),
            send_continuation(b"e ", fin=False),
            send_continuation(b"message"),
            read_frames(1),
            send_binary(b"two"),
            read_until_close(),
        ]
        with FaultServer(*script) as server, connected(server) as conn:
            assert conn.recv(BOUND) == "one message"
            assert conn.recv(BOUND) == b"two"
            conn.close(timeout=BOUND)
            assert [frame.opcode for frame in server.frames] == [10, 8]
            assert server.frames[0].payload == b"between"

    def test_many_threads(self, echo: Connection) -> None:
        def send_all(name: str) -> None:
            for number in range(200):
                echo.send(f"{name} {number}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send_all, "abcdefgh"))
        received = [str(echo.recv(BOUND)) for _ in range(1600)]
        for name in "abcdefgh":
            own = [message for message in received if message.startswith(name)]
            assert own == [f"{name} {number}" for number in range(200)]

    def test_several_receivers_get_each_message_once(self, echo: Connection) -> None:
        with ThreadPoolExecutor(4) as pool:
            receivers = [pool.submit(lambda: [echo.recv(BOUND) for _ in range(100)]) for _ in range(4)]
            for number in range(400):
                echo.send(str(number))
            received = [message for future in receivers for message in future.result(BOUND)]
        assert sorted(map(int, received)) == list(range(400))


class TestJson:
    def test_it_goes_both_ways(self, echo: Connection) -> None:
        value = {"type": "subscribe", "ids": [1, 2.5, None, True], "name": "ä€𐍈"}
        echo.send_json(value)
        assert echo.recv_json(BOUND) == value

    def test_what_is_not_serializable_is_refused(self, echo: Connection) -> None:
        with pytest.raises(TypeError, match="JSON serializable"):
            echo.send_json(object())
        echo.send_json([])
        assert echo.recv_json(BOUND) == []

    def test_what_is_no_json_is_taken_all_the_same(self, echo: Connection) -> None:
        echo.send("no json")
        echo.send("1")
        with pytest.raises(json.JSONDecodeError):
            echo.recv_json(BOUND)
        assert echo.recv_json(BOUND) == 1

    @pytest.mark.parametrize("encode", [str, str.encode], ids=["str", "bytes"])
    def test_with_another_serializer(self, encode: Callable[[str], Any], echo_server: str) -> None:
        threads = set()

        def dumps(value: Any) -> Any:
            threads.add(threading.current_thread())
            return encode(json.dumps(value, default=str))

        def loads(text: str | bytes) -> Any:
            threads.add(threading.current_thread())
            return json.loads(text, parse_float=Decimal)

        with wsclient.connect(echo_server, **options(json_dumps=dumps, json_loads=loads)) as conn:
            conn.send_json({"price": Decimal("1.10"), "size": 2.5})
            message = conn.recv_json(BOUND)
        assert message == {"price": "1.10", "size": Decimal("2.5")}
        assert threads == {threading.current_thread()}


class TestReceiving:
    def test_a_time_out_takes_nothing(self) -> None:
        go = threading.Event()
        script = [accept_upgrade(), wait(go), send_text("late"), read_until_close()]
        with FaultServer(*script) as server, connected(server) as conn:
            for timeout in (0, 0.01, -1):
                with pytest.raises(TimeoutError) as caught:
                    conn.recv(timeout)
                assert isinstance(caught.value, wsclient.Timeout)
            go.set()
            assert conn.recv(BOUND) == "late"

    def test_iteration_ends_at_a_normal_close(self) -> None:
        for code in (1000, 1001):
            script = [accept_upgrade(), flood(str, count=3, read=False), send_close(code), read_until_close()]
            with FaultServer(*script) as server, connected(server) as conn:
                assert list(conn) == ["0", "1", "2"]
                assert list(conn) == []

    @pytest.mark.parametrize("code", [1002, 1011, 3000, 4999])
    def test_and_raises_at_any_other(self, code: int) -> None:
        script = [accept_upgrade(), send_text("one"), send_close(code, "why"), read_until_close()]
        received: list[Message] = []
        with FaultServer(*script) as server, connected(server) as conn:
            with pytest.raises(ConnectionClosed, match=f"{code} .why.") as caught:
                received.extend(conn)
            assert (caught.value.code, caught.value.reason) == (code, "why")
            assert isinstance(caught.value, ConnectionError)
        assert received == ["one"]

    def test_a_receiver_that_waits_when_the_connection_closes(self, echo: Connection) -> None:
        with ThreadPoolExecutor(2) as pool:
            waiting: list[Future[Any]] = [pool.submit(echo.recv), pool.submit(list, echo)]
            echo.close(timeout=BOUND)
            with pytest.raises(ConnectionClosed, match="1000"):
                waiting[0].result(BOUND)
            assert waiting[1].result(BOUND) == []

    def test_pull_and_push_exclude_each_other(self) -> None:
        script = [accept_upgrade(), read_until_close()]
        with FaultServer(*script) as server, connected(server, on_message=lambda *_: None) as conn:
            for receive in (conn.recv, conn.recv_json, lambda: next(iter(conn))):
                with pytest.raises(WSClientError, match="on_message"):
                    receive()

    def test_messages_that_nobody_takes_hold_back_the_peer(self) -> None:
        script = [accept_upgrade(), flood(lambda number: f"{number:08}" + "x" * 992, count=100_000)]
        with FaultServer(*script) as server, connected(server, max_received_messages=8) as conn:
            server.wait_blocked()
            assert conn.stats().received_waiting <= 8
            assert [conn.recv(BOUND)[:8] for _ in range(1000)] == [f"{n:08}" for n in range(1000)]


class TestCallbacks:
    @pytest.mark.parametrize("executor", [False, True], ids=["reader", "executor"])
    def test_in_order_one_at_a_time(self, executor: bool) -> None:
        events: list[tuple[Any, ...]] = []
        running = threading.Lock()
        closed = threading.Event()

        def note(name: str) -> Callable[..., None]:
            def callback(*arguments: Any) -> None:
                assert running.acquire(blocking=False), "two callbacks at once"
                events.append((name, *arguments))
                running.release()
                if name == "close":
                    closed.set()

            return callback

        script = [
            accept_upgrade(),
            flood(str, count=1000, read=False),
            send_close(4000, "x"),
            read_until_close(),
        ]
        more = {f"on_{name}": note(name) for name in ("open", "message", "close", "error")}
        with ThreadPoolExecutor(4) as pool, FaultServer(*script) as server:
            conn = Connection(server.url, **options(callback_executor=pool if executor else None, **more))
            conn.open()
            assert closed.wait(BOUND)
            conn.close(timeout=BOUND)
        assert events == [
            ("open", conn),
            *(("message", conn, str(number)) for number in range(1000)),
            ("close", conn, 4000, "x"),
        ]

    def test_where_they_run(self) -> None:
        names: list[str] = []

        def on_message(conn: Connection, _: Message) -> None:
            names.append(threading.current_thread().name)
            conn.close()

        for pool in (None, ThreadPoolExecutor(1, thread_name_prefix="mine")):
            closed = threading.Event()
            more = {"on_message": on_message, "on_close": lambda *_, closed=closed: closed.set()}
            with FaultServer(accept_upgrade(), send_text("go"), read_until_close()) as server:
                conn = wsclient.connect(server.url, **options(callback_executor=pool, **more))
                assert closed.wait(BOUND)
                conn.close(timeout=BOUND)
            if pool:
                pool.shutdown()
        assert names[0].startswith("wsclient-reader-")
        assert names[1].startswith("mine")

    def test_a_slow_handler_on_an_executor_starves_nobody(self) -> None:
        entered, release = threading.Event(), threading.Event()

        def on_message(*_: object) -> None:
            entered.set()
            assert release.wait(BOUND)

        script = [
            accept_upgrade(),
            send_text("go"),
            send_ping(b"are you there?"),
            read_frames(2),
            read_until_close(),
        ]
        with ThreadPoolExecutor(1) as pool, FaultServer(*script) as server:
            more = {"callback_executor": pool, "on_message": on_message}
            with connected(server, **more) as conn:
                assert entered.wait(BOUND)
                assert conn.ping().result(BOUND) >= 0
                assert conn.confirm(BOUND) >= 0
                release.set()
                conn.close(timeout=BOUND)
            assert (
                server.frames[0].payload == b"are you there?" or server.frames[1].payload == b"are you there?"
            )

    def test_every_method_works_in_every_callback(self, echo_server: str) -> None:
        got: Future[str] = Future()
        opened: list[str] = []

        def on_open(conn: Connection) -> None:
            opened.append(conn.state.value)
            conn.send("one")
            conn.send_future("two")
            conn.send_json(3)
            conn.flush(BOUND)
            conn.ping()
            conn.stats()

        def on_message(conn: Connection, message: Message) -> None:
            conn.flush(BOUND)
            if message == "3":
                conn.send("four")
            if message == "four":
                got.set_result("four")

        conn = wsclient.connect(echo_server, **options(on_open=on_open, on_message=on_message))
        assert opened == ["open"], "connect() returns once on_open has returned"
        with conn:
            assert got.result(BOUND) == "four"
        assert conn.stats().callback_errors == 0

    def test_on_error_gets_what_callbacks_raise(self) -> None:
        errors: list[tuple[Connection, BaseException]] = []

        def fail(_: Connection, *rest: Any) -> None:
            raise LookupError(rest[0] if rest else "open")

        more = {"on_open": fail, "on_message": fail, "on_close": fail}
        script = [accept_upgrade(), send_text("message"), send_close(4000), read_until_close()]
        with FaultServer(*script) as server:
            on_error = lambda *arguments: errors.append(arguments)  # noqa: E731
            conn = wsclient.connect(server.url, **options(on_error=on_error, **more))
            server.wait_closed()
            conn.close(timeout=BOUND)
        assert [source for source, _ in errors] == [conn] * 3
        assert [error.args for _, error in errors] == [("open",), ("message",), (4000,)]
        assert conn.stats().callback_errors == 3


class TestReceipts:
    def test_a_receipt(self, echo: Connection) -> None:
        receipt = echo.send_future("hello")
        assert receipt.result(BOUND) is None
        assert echo.recv(BOUND) == "hello"

    def test_it_cannot_be_cancelled(self) -> None:
        server = FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096)
        with server, connected(server, max_queued_bytes=1 << 30) as conn:
            receipts = [conn.send_future(BIG) for _ in range(12)]
            assert not receipts[-1].cancel()
            conn.abort()
            assert isinstance(receipts[-1].exception(BOUND), ConnectionClosed)
            written = [receipt for receipt in receipts if receipt.exception(BOUND) is None]
            assert len(written) + len(conn.unsent) == 12

    def test_flush_means_written(self) -> None:
        go = threading.Event()
        server = FaultServer(accept_upgrade(), wait(go), read_until_close(), receive_buffer=4096)
        with server, connected(server) as conn:
            for _ in range(12):
                conn.send(BIG)
            with pytest.raises(wsclient.Timeout, match="flush"):
                conn.flush(0.05)
            go.set()
            conn.flush(BOUND)
            assert (conn.queued_messages, conn.stats().messages_sent) == (0, 12)

    def test_confirm_means_read(self) -> None:
        script = [accept_upgrade(), read_messages(100), read_until_close()]
        with FaultServer(*script) as server, connected(server) as conn:
            for number in range(100):
                conn.send(str(number))
            assert 0 <= conn.confirm(BOUND) < BOUND
            assert server.received == [str(number) for number in range(100)]
            assert conn.latency is not None

    def test_confirm_waits_for_its_own_pong(self) -> None:
        script = [accept_upgrade(), read_frames(1, pong=False), send_pong(b"another"), stall()]
        with FaultServer(*script) as server, connected(server) as conn:
            with pytest.raises(wsclient.Timeout, match="confirm"):
                conn.confirm(0.05)
            assert conn.latency is None


class TestPings:
    @pytest.mark.parametrize("payload", [None, "text", b"bytes", bytearray(b"x"), b"", "x" * 125])
    def test_a_round_trip(self, payload: Any, echo: Connection) -> None:
        assert 0 <= echo.ping(payload).result(BOUND) < BOUND
        assert (echo.stats().pings_sent, echo.stats().pongs_received) == (1, 1)
        assert echo.latency == echo.stats().latency is not None

    def test_many_at_once(self, echo: Connection) -> None:
        pings = [echo.ping() for _ in range(100)]
        assert all(0 <= ping.result(BOUND) < BOUND for ping in pings)

    def test_bad_payloads(self) -> None:
        with FaultServer(accept_upgrade(), stall()) as server, connected(server) as conn:
            with pytest.raises(ValueError, match="125 bytes, not 126"):
                conn.ping("x" * 126)
            with pytest.raises(TypeError):
                conn.ping(5)  # type: ignore[arg-type]
            conn.ping("same")
            with pytest.raises(ValueError, match="already under way"):
                conn.ping("same")

    def test_they_go_ahead_of_what_is_queued(self) -> None:
        go = threading.Event()
        server = FaultServer(accept_upgrade(), wait(go), read_until_close(), receive_buffer=4096)
        with server, connected(server, max_queued_bytes=1 << 30) as conn:
            for _ in range(30):
                conn.send(BIG)
            ping = conn.ping("first")
            go.set()
            ping.result(BOUND)
            conn.close(timeout=BOUND)
            opcodes = [frame.opcode for frame in server.frames]
            assert opcodes.index(9) < opcodes.index(8) - 1, "before the last of the messages"

    def test_keepalive_pings_by_itself(self) -> None:
        script = [accept_upgrade(), read_frames(3), send_text("three"), read_until_close()]
        with FaultServer(*script) as server, connected(server, ping_interval=0.02) as conn:
            assert conn.recv(BOUND) == "three"
            assert [frame.opcode for frame in server.frames[:3]] == [9, 9, 9]
            assert conn.stats().pongs_received >= 3
            assert conn.latency is not None
            assert conn.state is State.OPEN

    def test_it_can_be_turned_off(self, echo: Connection) -> None:
        echo.confirm(BOUND)
        assert echo.stats().pings_sent == 1


class TestFullQueue:
    def fill(self, conn: Connection) -> None:
        with pytest.raises((SendTimeout, QueueFull)):
            self.send_for_ever(conn)

    def send_for_ever(self, conn: Connection) -> None:
        while True:
            conn.send(BIG, timeout=0.05)

    @pytest.fixture
    def narrow(self) -> Iterator[FaultServer]:
        with FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096) as server:
            yield server

    def test_block(self, narrow: FaultServer) -> None:
        with connected(narrow, max_queued_messages=4, send_timeout=0.05) as conn:
            self.fill(conn)
            for send in (conn.send, conn.send_future, conn.send_json):
                with pytest.raises(SendTimeout) as caught:
                    send("x")
                assert isinstance(caught.value, TimeoutError)
            assert conn.queued_messages == 4
            conn.abort()
            assert "x" not in conn.unsent

    def test_raise(self, narrow: FaultServer) -> None:
        with connected(narrow, max_queued_messages=4, overflow="raise") as conn:
            self.fill(conn)
            for send in (conn.send, conn.send_future):
                with pytest.raises(QueueFull):
                    send("x")

    def test_drop_oldest(self, narrow: FaultServer) -> None:
        dropped: list[Message] = []
        on_dropped = lambda _, message: dropped.append(message)  # noqa: E731
        more = {"max_queued_messages": 4, "overflow": wsclient.Overflow.DROP_OLDEST, "on_dropped": on_dropped}
        with connected(narrow, **more) as conn:
            for _ in range(16):
                conn.send(BIG)
            receipts = [conn.send_future(f"receipt {number}") for number in range(4)]
            for number in range(4):
                conn.send(str(number))
            assert dropped[-4:] == [f"receipt {number}" for number in range(4)]
            assert [type(receipt.exception(0)) for receipt in receipts] == [QueueFull] * 4
            assert conn.stats().dropped_messages == len(dropped)
            conn.abort()
            assert conn.unsent[-4:] == ("0", "1", "2", "3")

    def test_one_message_larger_than_all_the_room(self, echo_server: str) -> None:
        with wsclient.connect(echo_server, **options(max_queued_bytes=1000)) as conn:
            conn.send(BIG)
            assert conn.recv(BOUND) == BIG


class TestObservation:
    def test_before_at_and_after(self, echo_server: str) -> None:
        conn = Connection(f"{echo_server}/path?key=value", **options())
        before = (conn.state, conn.close_code, conn.close_reason, conn.closed_by, conn.unsent, conn.latency)
        assert before == (State.NEW, None, "", None, (), None)
        assert (conn.subprotocol, dict(conn.response_headers)) == (None, {})
        assert conn.stats().messages_sent == 0
        with conn:
            assert (conn.state, conn.close_code, conn.closed_by) == (State.OPEN, None, None)
            assert conn.response_headers["upgrade"].lower() == "websocket"
            assert conn.url.endswith("/path?key=...")
            assert repr(conn) == f"<wsclient.Connection {repr(conn).split()[1]} {conn.url} open>"
        assert (conn.state, conn.close_code, conn.close_reason) == (State.CLOSED, 1000, "")
        assert conn.closed_by is wsclient.ClosedBy.LOCAL
        assert repr(conn).endswith(" closed>")

    def test_stats(self, echo_server: str) -> None:
        with wsclient.connect(echo_server, **options()) as conn:
            for number in range(10):
                conn.send(f"{number:010}")
            assert [conn.recv(BOUND) for _ in range(10)] == [f"{number:010}" for number in range(10)]
            conn.confirm(BOUND)
            conn.flush(BOUND)  # a pong may be quicker than the writer's count
            stats = conn.stats()
        assert (stats.messages_sent, stats.messages_received, stats.frames_sent) == (10, 10, 11)
        assert stats.bytes_sent == 10 * (2 + 4 + 10) + (2 + 4 + 8)
        assert stats.bytes_received == 10 * (2 + 10) + (2 + 8)
        assert 1 <= stats.max_frames_per_write <= 10
        assert stats.frames_per_write == stats.frames_sent / stats.writes
        assert 1 <= stats.max_queued_messages <= 10
        assert 10 <= stats.max_queued_bytes <= 100
        assert (stats.queued_messages, stats.queued_bytes, stats.received_waiting) == (0, 0, 0)
        with pytest.raises(dataclasses.FrozenInstanceError):
            stats.writes = 0  # type: ignore[misc]

    def test_what_is_queued(self) -> None:
        server = FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096)
        with server, connected(server, max_queued_bytes=1 << 30) as conn:
            for _ in range(30):
                conn.send(BIG)
            assert 0 < conn.queued_messages <= 30
            assert 0 < conn.queued_bytes <= 30 * len(BIG)
            conn.abort()
            assert conn.queued_messages == 0
            assert len(conn.unsent) > 0

    def test_credentials(self, echo_server: str) -> None:
        with wsclient.connect(echo_server, **options()) as conn:
            assert (conn.credentials, conn.is_authenticated) == (None, False)
            conn.set_credentials("me", "admin", "42")
            assert conn.credentials == Credentials("me", "admin", "42")
            assert conn.is_authenticated
            with pytest.raises(ValueError, match="role"):
                conn.set_credentials("me", "", "42")
            assert conn.credentials == Credentials("me", "admin", "42")

    def test_credentials_are_sent_as_query_parameters(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            mine = Credentials("me & you", "admin", "42")
            with connected(server, credentials=mine) as conn:
                assert conn.credentials == mine
                assert conn.is_authenticated
            assert server.connections[0].target == "/?user_id=me%20%26%20you&role=admin&session_id=42"


class TestRequest:
    def test_headers_cookies_origin_and_subprotocols(self) -> None:
        script = [accept_upgrade({"Sec-WebSocket-Protocol": "b", "X-Served-By": "me"}), read_until_close()]
        more = {
            "headers": {"Authorization": "Bearer token", "X-Trace": "1"},
            "cookies": {"a": "1", "b": "2"},
            "origin": "https://example.com",
            "subprotocols": ["a", "b"],
        }
        with FaultServer(*script) as server, connected(server, **more) as conn:
            sent = server.connections[0].headers
            assert (sent["authorization"], sent["x-trace"]) == ("Bearer token", "1")
            assert (sent["cookie"], sent["origin"]) == ("a=1; b=2", "https://example.com")
            assert sent["sec-websocket-protocol"].replace(" ", "") == "a,b"
            assert conn.subprotocol == "b"
            assert conn.response_headers["x-served-by"] == "me"

    def test_headers_made_at_each_connect(self) -> None:
        tokens = iter(["first", "second"])

        def headers() -> Mapping[str, str]:
            return {"Authorization": next(tokens)}

        with FaultServer(accept_upgrade(), read_until_close()) as server:
            for _ in range(2):
                with connected(server, headers=headers):
                    pass
            assert [record.headers["authorization"] for record in server.connections] == ["first", "second"]

    def test_a_refusal_says_all(self) -> None:
        with FaultServer(http_response(401, {"WWW-Authenticate": "Basic"}, body=b"who?")) as server:
            with pytest.raises(wsclient.HandshakeError, match="401 Unauthorized") as caught:
                wsclient.connect(server.url, **options())
            assert (caught.value.status, caught.value.body) == (401, b"who?")
            assert caught.value.headers["www-authenticate"] == "Basic"

    def test_nobody_listens(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            with pytest.raises(wsclient.ConnectFailed) as caught:
                wsclient.connect(f"ws://127.0.0.1:{free.getsockname()[1]}", **options())
            assert isinstance(caught.value, ConnectionError)

    def test_a_socket_of_the_applications(self) -> None:
        with FaultServer(accept_upgrade(), send_text("hello"), read_until_close()) as server:
            sock = socket.create_connection(("127.0.0.1", server.port))
            with wsclient.connect(server.url, **options(socket=sock)) as conn:
                assert conn.recv(BOUND) == "hello"
            assert sock.fileno() == -1, "it belonged to the connection"

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets on this platform")
    def test_a_unix_socket(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
            listener.bind(str(path))
            listener.listen()
            with FaultServer(accept_upgrade(), send_text("hello"), read_until_close()) as server:
                relayed = pool.submit(relay, listener, server.port)
                with wsclient.connect("ws://localhost/", **options(unix_path=path)) as conn:
                    assert conn.recv(BOUND) == "hello"
                    conn.send("there")
                relayed.result(BOUND)
                assert server.received == ["there"]


def relay(listener: socket.socket, port: int) -> None:
    """Join one connection of a listener with a new one to a port, until either side ends."""
    one, _ = listener.accept()
    with one, socket.create_connection(("127.0.0.1", port)) as other, selectors.DefaultSelector() as selector:
        for source, target in ((one, other), (other, one)):
            selector.register(source, selectors.EVENT_READ, target)
        while True:
            for key, _ in selector.select(BOUND):
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)


class TestArguments:
    """Bad input gets a clear error that names it, and changes nothing."""

    @pytest.mark.parametrize(
        ("name", "value", "kind"),
        [
            ("max_queue", 5, TypeError),
            ("open_timeout", 0, ValueError),
            ("open_timeout", "10", TypeError),
            ("send_timeout", math.nan, ValueError),
            ("ping_interval", -1, ValueError),
            ("max_message_size", 0, ValueError),
            ("max_queued_messages", 1.5, TypeError),
            ("overflow", "drop", ValueError),
            ("on_message", "no function", TypeError),
            ("callback_executor", 4, TypeError),
            ("json_dumps", None, TypeError),
            ("compression", True, ValueError),
            ("reconnect", 3, TypeError),
        ],
    )
    def test_options(self, name: str, value: Any, kind: type[Exception]) -> None:
        with pytest.raises(kind, match=name):
            wsclient.connect("ws://127.0.0.1:1/", **{name: value})

    @pytest.mark.parametrize("url", ["http://host/", "host", "ws://", "ws://host:99999/", "ws://host/#x", ""])
    def test_urls(self, url: str) -> None:
        with pytest.raises(ValueError, match="url"):
            wsclient.connect(url)

    def test_a_url_that_is_no_text(self) -> None:
        with pytest.raises(TypeError, match="url"):
            wsclient.connect(b"ws://host/")  # type: ignore[arg-type]

    @pytest.mark.parametrize(("code", "reason"), [(999, ""), (1005, ""), (1006, ""), (1015, ""), (5000, "")])
    def test_close_codes(self, code: int, reason: str, echo: Connection) -> None:
        with pytest.raises(ValueError, match=str(code)):
            echo.close(code, reason)
        assert echo.state is State.OPEN

    def test_a_close_reason_that_is_too_long(self, echo: Connection) -> None:
        with pytest.raises(ValueError, match="123"):
            echo.close(1000, "é" * 62)
        assert echo.state is State.OPEN

    @pytest.mark.parametrize(
        ("timeout", "kind"),
        [(math.nan, ValueError), (math.inf, ValueError), (1e10, ValueError), ("5", TypeError)],
    )
    def test_time_outs(self, timeout: Any, kind: type[Exception], echo: Connection) -> None:
        calls: list[Callable[[], object]] = [
            lambda: echo.recv(timeout),
            lambda: echo.recv_json(timeout),
            lambda: echo.send("x", timeout=timeout),
            lambda: echo.send_json("x", timeout=timeout),
            lambda: echo.flush(timeout),
            lambda: echo.confirm(timeout),
            lambda: echo.close(timeout=timeout),
            lambda: Connection("ws://127.0.0.1:1/").open(timeout),
        ]
        for call in calls:
            with pytest.raises(kind, match="timeout"):
                call()
        assert echo.state is State.OPEN
        assert echo.stats().messages_sent == 0


class TestNoBypass:
    def test_no_public_attribute_leads_to_the_socket(self, echo: Connection) -> None:
        seen: set[int] = set()
        waiting: list[object] = [echo]
        while waiting:
            value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            assert not isinstance(value, socket.socket)
            assert not type(value).__module__.startswith("wsclient.transport")
            if not type(value).__module__.startswith("wsclient"):
                continue
            names = [name for name in dir(value) if not name.startswith("_")]
            waiting += [getattr(value, name) for name in names]
        assert len(seen) > 20

    def test_a_write_from_another_thread_is_refused(self, echo: Connection) -> None:
        link = echo._session.link
        assert link is not None
        with pytest.raises(wsclient.ConcurrentWriteError):
            link.transport.send(memoryview(b"torn"), 1.0)
        echo.send("whole")
        assert echo.recv(BOUND) == "whole"
