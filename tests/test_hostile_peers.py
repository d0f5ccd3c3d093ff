"""One connection against peers that break the protocol, stall, vanish, flood, or end badly.

Each test says which error the application gets, which close code went over the wire, and what became of
every message that was accepted. ``connected`` adds, for all of them: exactly one ``on_close``, with the code
that the connection reports. Bounds are kept by the calls' own time-outs; pytest-timeout guards the guards.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import TLS

import wsclient
from wsclient import ClosedBy, Connection, ConnectionClosed, MessageTooBig, ProtocolError
from wsclient.testing import (
    FaultServer,
    Peer,
    Step,
    accept_upgrade,
    black_hole,
    close_then_reset,
    cut,
    delay_upgrade,
    drip,
    encode_frame,
    endless_headers,
    flood,
    garbage,
    http_response,
    no_close_reply,
    read_messages,
    read_until_close,
    repeat,
    reset,
    send_binary,
    send_close,
    send_continuation,
    send_frame,
    send_ping,
    send_pong,
    send_raw,
    send_text,
    stall,
    stall_after,
    stop_reading,
    wait,
)

pytestmark = pytest.mark.timeout(30)

Message = str | bytes

BOUND = 10.0  # seconds; what is waited for comes much sooner, or never
MIB = 1 << 20
IN_THE_KERNEL = 64 * MIB  # more than the kernel keeps of one connection on loopback


class Watch:
    """Callbacks that keep what they are told."""

    def __init__(self) -> None:
        self.closes: list[tuple[int, str]] = []  # the reader thread, as the next
        self.errors: list[Exception] = []
        self.closed = threading.Event()

    def on_close(self, _: Connection, code: int, reason: str) -> None:
        self.closes.append((code, reason))
        self.closed.set()

    def on_error(self, _: Connection, error: Exception) -> None:
        self.errors.append(error)


@dataclass(frozen=True)
class Wire:
    """Makes server and client of one kind: both with TLS, or both without."""

    server_context: ssl.SSLContext | None = None
    client_context: ssl.SSLContext | None = None

    def serve(self, *script: Callable[[Peer], None], receive_buffer: int | None = None) -> FaultServer:
        return FaultServer(*script, ssl_context=self.server_context, receive_buffer=receive_buffer)

    @contextmanager
    def connected(self, server: FaultServer, watch: Watch, **options: Any) -> Iterator[Connection]:
        """A connection without keepalive, that has exactly one ``on_close`` by the end."""
        defaults = {
            "proxy": None,
            "ping_interval": None,
            "on_close": watch.on_close,
            "on_error": watch.on_error,
            "ssl_context": self.client_context,
        }
        conn = wsclient.connect(server.url, **{**defaults, **options})
        try:
            yield conn
        finally:
            conn.abort()
        assert watch.closed.wait(BOUND)
        conn.close()
        assert watch.closes == [(conn.close_code, conn.close_reason)]


PLAIN = Wire()


@pytest.fixture(params=["ws", "wss"])
def wire(request: pytest.FixtureRequest, tls: TLS) -> Wire:
    return PLAIN if request.param == "ws" else Wire(tls.server, tls.client)


@pytest.fixture
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that leaves TCP open is always waited for in vain: by default a second."""
    monkeypatch.setattr("wsclient.link._LINGER", 0.3)


def numbered(number: int, size: int) -> str:
    return f"{number:08}".ljust(size, "x")


def send_until(conn: Connection, error: type[Exception], size: int) -> list[Message]:
    """Send numbered messages until one is refused; return those that were accepted."""
    accepted: list[Message] = []
    while True:
        message = numbered(len(accepted), size)
        try:
            conn.send(message)
        except error:
            return accepted
        accepted.append(message)


def assert_accounts(
    accepted: Sequence[Message], received: Sequence[Message], unsent: Sequence[Message]
) -> None:
    """What arrived is where the accepted messages begin, what is unsent where they end, and none is both.

    Between them may be a gap: what the kernel had taken when the connection was cut.
    """
    assert list(received) == list(accepted[: len(received)])
    assert list(unsent) == list(accepted[len(accepted) - len(unsent) :])
    assert len(received) + len(unsent) <= len(accepted)


def receive_all(conn: Connection) -> tuple[list[Message], ConnectionClosed]:
    """Every message up to the end of the connection, and that end."""
    messages: list[Message] = []
    while True:
        try:
            messages.append(conn.recv(timeout=BOUND))
        except ConnectionClosed as error:
            return messages, error


def close_within_bound(conn: Connection) -> None:
    conn.close(timeout=0.3)


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Tells the most bytes of Python's memory in use since it began; the server's are among them."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@contextmanager
def narrow_socket(server: FaultServer) -> Iterator[socket.socket]:
    """A socket that takes little before a write blocks."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        yield sock


def closing(code: int) -> bytes:
    return struct.pack("!H", code)


VIOLATIONS: list[tuple[str, int, Sequence[Step]]] = [
    ("masked frame", 1002, [send_text("masked", masked=True)]),
    ("masked empty ping", 1002, [send_ping(masked=True)]),
    *((f"reserved bits {rsv}", 1002, [send_text("x", rsv=rsv)]) for rsv in range(1, 8)),
    ("reserved bit on a ping", 1002, [send_ping(rsv=4)]),
    *((f"opcode {code}", 1002, [send_frame(code, b"x")]) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    ("16-bit length for 125 bytes", 1002, [send_binary(bytes(125), length_bytes=2)]),
    ("64-bit length for 65535 bytes", 1002, [send_binary(bytes(65535), length_bytes=8)]),
    ("64-bit length with its top bit", 1002, [send_binary(b"", declared_length=1 << 63)]),
    ("ping of 126 bytes", 1002, [send_ping(bytes(126))]),
    ("ping that declares 65536 bytes", 1002, [send_ping(declared_length=65536)]),
    ("close of 126 bytes", 1002, [send_frame(8, closing(1000) + bytes(124))]),
    ("fragmented ping", 1002, [send_ping(fin=False)]),
    ("fragmented pong", 1002, [send_pong(fin=False)]),
    ("fragmented close", 1002, [send_close(1000, fin=False)]),
    ("continuation of nothing", 1002, [send_continuation(b"x")]),
    ("text within a message", 1002, [send_text("a", fin=False), send_text("b")]),
    ("binary within a message", 1002, [send_text("a", fin=False), send_binary(b"b")]),
    ("close of one byte", 1002, [send_frame(8, b"\x03")]),
    *(
        (f"close code {code}", 1002, [send_close(code)])
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, 65535)
    ),
    ("close reason that is not UTF-8", 1007, [send_close(1000, b"\xff")]),
    ("close reason cut in mid-character", 1007, [send_close(1000, "é".encode()[:1])]),
    ("lone continuation byte", 1007, [send_text(b"\x80")]),
    ("overlong encoding", 1007, [send_text(b"\xc0\xaf")]),
    ("surrogate", 1007, [send_text(b"\xed\xa0\x80")]),
    ("beyond Unicode", 1007, [send_text(b"\xf4\x90\x80\x80")]),
    ("text cut in mid-character", 1007, [send_text("€".encode()[:2])]),
    ("fragments cut in mid-character", 1007, [send_text(b"\xe2", fin=False), send_continuation(b"\x82")]),
    ("bad first fragment of many", 1007, [send_text(b"\xff", fin=False)]),
    ("length of 2^40", 1009, [send_binary(b"", declared_length=1 << 40)]),
    ("text length of 2^40", 1009, [send_text("x", declared_length=1 << 40)]),
    (
        "fragment of 2^40",
        1009,
        [send_text("x", fin=False), send_continuation(b"", fin=False, declared_length=1 << 40)],
    ),
    ("one byte too many", 1009, [send_binary(b"", declared_length=16 * MIB + 1)]),
    (
        "endless fragments",
        1009,
        [send_text("x", fin=False), repeat(send_continuation(bytes(60_000), fin=False))],
    ),
]


@pytest.fixture(params=VIOLATIONS, ids=[name for name, _, _ in VIOLATIONS])
def violation(request: pytest.FixtureRequest) -> tuple[int, Sequence[Step]]:
    _, code, steps = request.param
    return code, steps


class TestBrokenProtocol:
    """The connection is failed (RFC 6455, section 7.1.7): close frame, error, on_close; nothing further."""

    def test_pull_style(self, violation: tuple[int, Sequence[Step]]) -> None:
        code, steps = violation
        kind = MessageTooBig if code == 1009 else ProtocolError
        watch = Watch()
        script = [accept_upgrade(), send_text("before"), *steps, read_until_close()]
        with PLAIN.serve(*script) as server, PLAIN.connected(server, watch) as conn:
            assert conn.recv(timeout=BOUND) == "before"
            for _ in range(2):
                with pytest.raises(ConnectionClosed) as caught:
                    conn.recv(timeout=BOUND)
                assert type(caught.value) is kind
                assert caught.value.code == code
            with pytest.raises(kind):
                conn.send("too late")
            assert watch.closed.wait(BOUND)
            assert [type(error) for error in watch.errors] == [kind]
            assert (conn.close_code, conn.closed_by) == (code, ClosedBy.LOCAL)
            server.wait_closed()
            assert server.close_code == code
            assert server.received == []

    @pytest.mark.parametrize(
        ("code", "step"),
        [
            (1002, send_text("masked", masked=True)),
            (1007, send_text(b"\xff")),
            (1009, send_binary(b"", declared_length=1 << 40)),
        ],
        ids=["1002", "1007", "1009"],
    )
    def test_callbacks(self, wire: Wire, code: int, step: Step) -> None:
        watch = Watch()
        messages: list[Message] = []
        script = [accept_upgrade(), send_text("before"), step, send_text("after"), read_until_close()]
        on_message = lambda _, message: messages.append(message)  # noqa: E731
        with wire.serve(*script) as server, wire.connected(server, watch, on_message=on_message) as conn:
            assert watch.closed.wait(BOUND)
            assert messages == ["before"]
            assert [error.code for error in watch.errors if isinstance(error, ProtocolError)] == [code]
            assert (conn.close_code, conn.closed_by) == (code, ClosedBy.LOCAL)
            server.wait_closed()
            assert server.close_code == code

    def test_a_continuation_after_the_last(self) -> None:
        watch = Watch()
        script = [send_text("a", fin=False), send_continuation(b"b"), send_continuation(b"c")]
        with PLAIN.serve(accept_upgrade(), *script) as server, PLAIN.connected(server, watch) as conn:
            messages, error = receive_all(conn)
            assert (messages, type(error), error.code) == (["ab"], ProtocolError, 1002)

    @pytest.mark.usefixtures("short_linger")
    def test_a_peer_that_neither_answers_nor_closes_afterwards(self, wire: Wire) -> None:
        watch = Watch()
        script = [accept_upgrade(), send_text("x", masked=True), read_until_close(reply=False), stall()]
        with wire.serve(*script) as server, wire.connected(server, watch) as conn:
            _, error = receive_all(conn)
            assert type(error) is ProtocolError
            assert watch.closed.wait(BOUND)
            assert server.close_code == 1002

    @pytest.mark.usefixtures("short_linger")
    def test_a_peer_that_goes_on_for_ever_afterwards(self, wire: Wire) -> None:
        watch = Watch()
        script = [accept_upgrade(), send_text("x", masked=True), flood(bytes(1000), read=False)]
        with wire.serve(*script) as server, wire.connected(server, watch) as conn:
            messages, error = receive_all(conn)
            assert (messages, type(error)) == ([], ProtocolError)
            assert watch.closed.wait(BOUND)
            server.wait_closed()
            assert server.close_code == 1002

    def test_what_is_queued_behind_the_failure_is_handed_back(self) -> None:
        watch = Watch()
        release = threading.Event()
        script = [accept_upgrade(), wait(release), send_text("x", masked=True), read_until_close()]
        with (
            PLAIN.serve(*script, receive_buffer=4096) as server,
            PLAIN.connected(server, watch, send_timeout=0.2, max_queued_messages=64) as conn,
        ):
            accepted = send_until(conn, wsclient.SendTimeout, 65536)
            release.set()
            assert watch.closed.wait(BOUND)
            server.wait_closed()
            assert server.close_code == 1002
            assert_accounts(accepted, server.received, conn.unsent)
            with pytest.raises(ProtocolError) as caught:
                conn.send("too late")
            assert caught.value.unsent == conn.unsent != ()

    @pytest.mark.parametrize("seed", range(8))
    def test_garbage(self, wire: Wire, seed: int) -> None:
        watch = Watch()
        script = [accept_upgrade(), send_text("before"), garbage(4096, seed), cut()]
        with wire.serve(*script) as server, wire.connected(server, watch) as conn:
            messages, error = receive_all(conn)
            assert messages == ["before"]
            assert error.code == 1002, "the first two bytes of each of these seeds are no frame's"
            assert watch.closed.wait(BOUND)


def drown_in_pings(wire: Wire) -> None:
    """Let a peer that reads nothing send pings until it is found dead."""
    watch = Watch()
    script = [accept_upgrade(), repeat(send_raw(encode_frame(9, bytes(125)) * 100), read=False)]
    server = wire.serve(*script, receive_buffer=4096)
    with (
        server,
        narrow_socket(server) as sock,
        wire.connected(server, watch, write_timeout=0.5, socket=sock) as conn,
    ):
        _, error = receive_all(conn)
        assert (error.code, conn.closed_by) == (1006, ClosedBy.NETWORK)
        assert "write timeout" in str(error)


class TestBoundedMemory:
    def test_a_declared_length_is_not_believed_in_advance(self) -> None:
        watch = Watch()
        declared = send_binary(bytes(4 * MIB), declared_length=1 << 40)
        with peak_memory() as peak, PLAIN.serve(accept_upgrade(), declared, cut()) as server:
            with PLAIN.connected(server, watch, max_message_size=1 << 41) as conn:
                messages, error = receive_all(conn)
                assert (messages, error.code, conn.closed_by) == ([], 1006, ClosedBy.NETWORK)
            assert peak() < 32 * MIB

    def test_a_length_over_the_limit_costs_nothing(self) -> None:
        watch = Watch()
        script = [accept_upgrade(), send_binary(b"", declared_length=1 << 40), read_until_close()]
        with PLAIN.serve(*script) as server, peak_memory() as peak, PLAIN.connected(server, watch) as conn:
            assert type(receive_all(conn)[1]) is MessageTooBig
            assert peak() < MIB

    def test_endless_empty_fragments(self) -> None:
        watch = Watch()
        empty = encode_frame(0, fin=False) * 1000
        script = [
            accept_upgrade(),
            send_text("a", fin=False),
            repeat(send_raw(empty), count=100, read=False),
            send_continuation(b"b"),
            read_until_close(),
        ]
        with PLAIN.serve(*script) as server, PLAIN.connected(server, watch) as conn, peak_memory() as peak:
            assert conn.recv(timeout=2 * BOUND) == "ab"  # memory that is traced is slow
            assert peak() < MIB, "half of it are buffers; a list of that many fragments alone is 0.8 MB"
            conn.close()
            assert conn.close_code == server.close_code == 1000

    @pytest.mark.parametrize(
        ("options", "size", "waiting"),
        [({"max_received_messages": 100}, 1000, 100), ({"max_received_bytes": MIB}, 100_000, 10)],
        ids=["messages", "bytes"],
    )
    def test_a_flood_that_nobody_reads(
        self, wire: Wire, options: dict[str, int], size: int, waiting: int
    ) -> None:
        watch = Watch()
        script = [accept_upgrade(), flood(lambda number: numbered(number, size))]
        with wire.serve(*script) as server, wire.connected(server, watch, **options) as conn:
            server.wait_blocked()
            assert conn.stats().received_waiting <= waiting
            sent = server.connections[0].bytes_sent
            assert sent < IN_THE_KERNEL
            # Nothing was dropped meanwhile, and room made by reading lets the peer go on.
            for number in range(sent // size + waiting):
                assert conn.recv(timeout=BOUND) == numbered(number, size)
            assert server.connections[0].bytes_sent > sent
            conn.close(timeout=BOUND)
            assert (conn.close_code, conn.closed_by) == (1000, ClosedBy.LOCAL)
            assert server.close_code == 1000

    def test_closing_in_a_flood_that_nobody_reads_and_that_never_ends(self, wire: Wire) -> None:
        watch = Watch()
        script = [accept_upgrade(), flood(bytes(1000), read=False)]
        with wire.serve(*script) as server, wire.connected(server, watch, max_received_messages=10) as conn:
            server.wait_blocked()
            conn.close(timeout=0.5)
            assert watch.closed.is_set()
            assert conn.closed_by is ClosedBy.LOCAL
            server.wait_closed()
            assert server.close_code == 1000

    def test_a_flood_of_pings_by_a_peer_that_reads_no_pongs(self, wire: Wire) -> None:
        drown_in_pings(wire)  # what is imported on first use is not to be counted
        with peak_memory() as peak:
            drown_in_pings(wire)
            assert peak() < 2 * MIB

    def test_a_flood_of_pongs_that_nobody_asked_for(self) -> None:
        watch = Watch()
        script = [
            accept_upgrade(),
            repeat(send_pong(b"?"), count=5000),
            send_text("done"),
            read_until_close(),
        ]
        with PLAIN.serve(*script) as server, PLAIN.connected(server, watch) as conn:
            assert conn.recv(timeout=BOUND) == "done"
            conn.close()
            assert server.close_code == 1000


class TestPeerThatNeverReads:
    def test_send_times_out_and_nothing_is_lost_once_the_peer_reads_again(self, wire: Wire) -> None:
        watch = Watch()
        release = threading.Event()
        script = [accept_upgrade(), wait(release), read_until_close()]
        server = wire.serve(*script, receive_buffer=4096)
        options = {"send_timeout": 0.2, "write_timeout": None, "max_queued_messages": 16}
        with server, wire.connected(server, watch, **options) as conn:
            accepted = send_until(conn, wsclient.SendTimeout, 65536)
            assert conn.queued_messages <= 16
            with pytest.raises(wsclient.Timeout):
                conn.flush(0.1)
            with pytest.raises(TimeoutError):
                conn.confirm(0.1)
            release.set()
            conn.close(timeout=BOUND)
            assert server.received == accepted
            assert (conn.unsent, conn.close_code, server.close_code) == ((), 1000, 1000)

    def test_the_queue_is_bounded_in_bytes(self) -> None:
        watch = Watch()
        options = {"send_timeout": 0.2, "write_timeout": None, "max_queued_bytes": MIB}
        server = PLAIN.serve(accept_upgrade(), stop_reading(), receive_buffer=4096)
        with server, PLAIN.connected(server, watch, **options) as conn:
            accepted = send_until(conn, wsclient.SendTimeout, 65536)
            assert conn.queued_bytes <= MIB
            assert len(accepted) * 65536 < IN_THE_KERNEL

    def test_it_is_found_dead_by_the_write_timeout(self, wire: Wire) -> None:
        watch = Watch()
        release = threading.Event()
        script = [accept_upgrade(), wait(release), read_until_close()]
        server = wire.serve(*script, receive_buffer=4096)
        with server, wire.connected(server, watch, write_timeout=0.3, max_queued_messages=16) as conn:
            accepted = send_until(conn, ConnectionClosed, 65536)
            _, error = receive_all(conn)
            assert (error.code, conn.closed_by) == (1006, ClosedBy.NETWORK)
            assert "write timeout" in str(error)
            assert watch.closed.wait(BOUND)
            assert error.unsent == conn.unsent != ()
            release.set()
            server.wait_closed()
            assert_accounts(accepted, server.received, conn.unsent)
            assert len(server.received) + len(conn.unsent) == len(accepted), "the kernel gave back all it had"

    def test_it_is_found_dead_by_keepalive(self, wire: Wire) -> None:
        watch = Watch()
        options = {
            "ping_interval": 0.2,
            "ping_timeout": 0.2,
            "write_timeout": None,
            "max_queued_messages": 16,
        }
        server = wire.serve(accept_upgrade(), stop_reading(), receive_buffer=4096)
        with server, wire.connected(server, watch, **options) as conn:
            accepted = send_until(conn, ConnectionClosed, 65536)
            _, error = receive_all(conn)
            assert (error.code, conn.closed_by) == (1006, ClosedBy.NETWORK)
            assert "ping timeout" in str(error)
            assert_accounts(accepted, server.received, conn.unsent)

    @pytest.mark.parametrize("end", [close_within_bound, Connection.abort], ids=["close", "abort"])
    def test_it_cannot_hold(self, wire: Wire, end: Callable[[Connection], None]) -> None:
        watch = Watch()
        server = wire.serve(accept_upgrade(), stall_after(200_000), receive_buffer=4096)
        options = {"send_timeout": 0.2, "write_timeout": None, "max_queued_messages": 16}
        with server, wire.connected(server, watch, **options) as conn:
            accepted = send_until(conn, wsclient.SendTimeout, 65536)
            server.wait_for_messages(2)
            end(conn)
            assert watch.closed.is_set()
            assert (conn.close_code, conn.closed_by) == (1006, ClosedBy.LOCAL)
            assert_accounts(accepted, server.received, conn.unsent)
            assert conn.unsent != ()

    def test_threads_that_wait_for_room_are_let_go_when_it_is_found_dead(self) -> None:
        watch = Watch()
        server = PLAIN.serve(accept_upgrade(), stop_reading(), receive_buffer=4096)
        options = {"write_timeout": 0.3, "max_queued_messages": 16, "send_timeout": 2 * BOUND}
        with server, PLAIN.connected(server, watch, **options) as conn, ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(send_until, conn, ConnectionClosed, 65536) for _ in range(8)]
            accepted = [message for future in futures for message in future.result(BOUND)]
            assert watch.closed.wait(BOUND)
            assert 0 < len(conn.unsent) <= len(accepted)

    def test_receipts_of_what_was_never_written_fail(self) -> None:
        watch = Watch()
        server = PLAIN.serve(accept_upgrade(), stop_reading(), receive_buffer=4096)
        with (
            server,
            PLAIN.connected(server, watch, write_timeout=0.3, max_queued_bytes=IN_THE_KERNEL) as conn,
        ):
            receipts = [conn.send_future(bytes(MIB)) for _ in range(40)]
            assert watch.closed.wait(BOUND)
            failed = [receipt for receipt in receipts if receipt.exception(BOUND)]
            assert len(failed) == len(conn.unsent) > 0
            assert failed == receipts[-len(failed) :]
            assert isinstance(failed[0].exception(), ConnectionClosed)


class TestPeerThatVanishes:
    def test_it_is_found_dead_by_keepalive(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(accept_upgrade(), stall()) as server,
            wire.connected(server, watch, ping_interval=0.2, ping_timeout=0.2) as conn,
        ):
            pong = conn.ping()
            with pytest.raises(ConnectionClosed, match="ping timeout") as caught:
                conn.recv(timeout=BOUND)
            assert caught.value.code == 1006
            assert conn.closed_by is ClosedBy.NETWORK
            assert isinstance(pong.exception(BOUND), ConnectionClosed)
            with pytest.raises(ConnectionClosed):
                conn.send("too late")

    def test_one_that_reads_but_answers_no_ping_is_as_dead(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(accept_upgrade(), no_close_reply(pong=False)) as server,
            wire.connected(server, watch, ping_interval=0.2, ping_timeout=0.2) as conn,
        ):
            conn.send("written")
            with pytest.raises(ConnectionClosed, match="ping timeout"):
                conn.recv(timeout=BOUND)
            assert watch.closed.wait(BOUND)
            assert conn.unsent == ()
            assert server.wait_for_messages(1) == ["written"]

    def test_one_that_answers_lives_on(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(accept_upgrade(), read_messages(1), send_text("alive"), read_until_close()) as server,
            wire.connected(server, watch, ping_interval=0.05, ping_timeout=BOUND) as conn,
        ):
            assert conn.confirm(BOUND) >= 0
            conn.send("still there?")
            assert conn.recv(timeout=BOUND) == "alive"
            conn.close(timeout=BOUND)
            assert (conn.close_code, server.close_code) == (1000, 1000)


class TestLostConnection:
    def test_reset_in_mid_flood(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(accept_upgrade(), read_messages(100), reset()) as server,
            wire.connected(server, watch) as conn,
        ):
            accepted = send_until(conn, ConnectionClosed, 1000)
            _, error = receive_all(conn)
            assert (error.code, conn.closed_by) == (1006, ClosedBy.NETWORK)
            assert watch.closed.wait(BOUND)
            server.wait_closed()
            assert len(server.received) >= 100
            assert_accounts(accepted, server.received, conn.unsent)

    def test_reset_in_a_flood_of_many_threads(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(accept_upgrade(), read_messages(1000), reset()) as server,
            wire.connected(server, watch) as conn,
            ThreadPoolExecutor(8) as pool,
        ):
            futures = [pool.submit(send_until, conn, ConnectionClosed, 100 + index) for index in range(8)]
            accepted = [future.result(BOUND) for future in futures]
            assert watch.closed.wait(BOUND)
            server.wait_closed()
            for index, messages in enumerate(accepted):
                mine = [message for message in server.received if len(message) == 100 + index]
                unsent = [message for message in conn.unsent if len(message) == 100 + index]
                assert_accounts(messages, mine, unsent)

    @pytest.mark.parametrize("end", [cut, reset], ids=["cut", "reset"])
    def test_in_mid_frame(self, wire: Wire, end: Callable[[], Step]) -> None:
        watch = Watch()
        read = threading.Event()
        half = send_binary(b"half", declared_length=8)
        script = [accept_upgrade(), send_text("whole"), half, wait(read), end()]
        with wire.serve(*script) as server, wire.connected(server, watch) as conn:
            assert conn.recv(timeout=BOUND) == "whole"
            read.set()
            messages, error = receive_all(conn)
            assert messages == []
            assert (type(error), error.code, error.unsent) == (ConnectionClosed, 1006, ())
            assert watch.closed.wait(BOUND)
            assert conn.closed_by is ClosedBy.NETWORK

    def test_iteration_raises(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(accept_upgrade(), flood(str, count=3), cut()) as server,
            wire.connected(server, watch) as conn,
        ):
            messages: list[Message] = []
            with pytest.raises(ConnectionClosed, match="1006"):
                messages.extend(conn)
            assert conn.close_code == 1006


class TestBadClosing:
    def test_a_close_frame_that_is_never_answered(self, wire: Wire) -> None:
        watch = Watch()
        with wire.serve(accept_upgrade(), no_close_reply()) as server:
            with wire.connected(server, watch) as conn:
                conn.send("last")
                conn.close(4001, "enough", timeout=0.3)
                assert watch.closed.is_set()
                assert (conn.close_code, conn.closed_by, conn.unsent) == (1006, ClosedBy.LOCAL, ())
            server.wait_closed()
            assert server.received == ["last"]
            assert (server.close_code, server.close_reason) == (4001, "enough")

    def test_the_same_from_a_callback(self, wire: Wire) -> None:
        watch = Watch()
        with wire.serve(accept_upgrade(), send_text("go"), no_close_reply()) as server:
            close = lambda conn, _: conn.close(timeout=0.3)  # noqa: E731
            with wire.connected(server, watch, on_message=close) as conn:
                assert watch.closed.wait(BOUND)
                assert (conn.close_code, conn.closed_by) == (1006, ClosedBy.LOCAL)
            server.wait_closed()
            assert server.close_code == 1000

    @pytest.mark.usefixtures("short_linger")
    def test_close_answered_but_tcp_left_open(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(accept_upgrade(), read_until_close(), stall()) as server,
            wire.connected(server, watch) as conn,
        ):
            conn.close(timeout=BOUND)
            assert watch.closed.is_set()
            assert (conn.close_code, conn.closed_by) == (1000, ClosedBy.LOCAL)
            assert server.close_code == 1000

    @pytest.mark.usefixtures("short_linger")
    def test_close_answered_with_a_broken_frame(self) -> None:
        watch = Watch()
        script = [accept_upgrade(), read_until_close(reply=False), send_text(b"\xff"), no_close_reply()]
        with PLAIN.serve(*script) as server, PLAIN.connected(server, watch) as conn:
            conn.close(timeout=BOUND)
            assert watch.closed.is_set()
            assert conn.closed_by is ClosedBy.LOCAL
            assert server.close_code == 1000
            assert [frame.opcode for frame in server.frames] == [8], (
                "one close frame, whatever comes after it"
            )

    def test_closed_for_ever_by_a_peer_that_floods_instead_of_answering(self, wire: Wire) -> None:
        watch = Watch()
        script = [accept_upgrade(), read_until_close(reply=False), flood("more", read=False)]
        with wire.serve(*script) as server, wire.connected(server, watch) as conn:
            conn.close(timeout=0.3)
            assert watch.closed.is_set()
            assert (conn.close_code, server.close_code) == (1006, 1000)

    @pytest.mark.parametrize(
        ("code", "reason"), [(1000, ""), (1001, "going"), (1011, "broken"), (3000, ""), (4999, "é" * 61)]
    )
    def test_closed_by_the_peer(self, wire: Wire, code: int, reason: str) -> None:
        watch = Watch()
        script = [accept_upgrade(), send_text("last"), send_close(code, reason), read_until_close()]
        with wire.serve(*script) as server, wire.connected(server, watch) as conn:
            messages, error = receive_all(conn)
            assert messages == ["last"]
            assert (type(error), error.code, error.reason) == (ConnectionClosed, code, reason)
            assert watch.closed.wait(BOUND)
            assert conn.closed_by is ClosedBy.PEER
            server.wait_closed()
            assert server.close_code == code

    def test_closed_by_the_peer_without_a_code(self, wire: Wire) -> None:
        watch = Watch()
        script = [accept_upgrade(), send_close(None), send_text("too late"), read_until_close()]
        with wire.serve(*script) as server, wire.connected(server, watch) as conn:
            messages, error = receive_all(conn)
            assert (messages, error.code) == ([], 1005)
            server.wait_closed()
            assert server.close_code == 1005

    def test_closed_by_the_peer_who_leaves_tcp_open_and_reads_nothing(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(accept_upgrade(), send_close(1001), stall()) as server,
            wire.connected(server, watch, close_timeout=0.5) as conn,
        ):
            _, error = receive_all(conn)
            assert error.code == 1001
            assert watch.closed.wait(BOUND)
            assert conn.closed_by is ClosedBy.PEER

    def test_close_then_reset(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(accept_upgrade(), close_then_reset(4000, "bye")) as server,
            wire.connected(server, watch) as conn,
        ):
            _, error = receive_all(conn)
            assert (error.code, error.reason) == (4000, "bye")
            assert watch.closed.wait(BOUND)
            assert conn.closed_by is ClosedBy.PEER

    def test_closed_by_the_peer_in_mid_flood(self, wire: Wire) -> None:
        watch = Watch()
        script = [accept_upgrade(), read_messages(100), send_close(1001), read_until_close()]
        with wire.serve(*script) as server, wire.connected(server, watch) as conn:
            accepted = send_until(conn, ConnectionClosed, 1000)
            assert watch.closed.wait(BOUND)
            server.wait_closed()
            assert (conn.close_code, server.close_code) == (1001, 1001)
            assert_accounts(accepted, server.received, conn.unsent)
            assert len(server.received) + len(conn.unsent) == len(accepted), "the peer read to the end"


HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
REFUSALS: list[tuple[str, type[Exception], int | None, Sequence[Step]]] = [
    ("never answered", wsclient.HandshakeTimeout, None, [black_hole()]),
    ("dripped", wsclient.HandshakeTimeout, None, [drip(HEAD, 0.05)]),
    ("endless headers", wsclient.HandshakeError, None, [endless_headers()]),
    ("wrong accept key", wsclient.HandshakeError, 101, [accept_upgrade(wrong_key=True)]),
    ("no accept key", wsclient.HandshakeError, 101, [accept_upgrade(without=["Sec-WebSocket-Accept"])]),
    ("401 with a body", wsclient.HandshakeError, 401, [http_response(401, body=b"who are you?")]),
    ("302", wsclient.HandshakeError, 302, [http_response(302, {"Location": "/elsewhere"})]),
    ("cut in mid-head", wsclient.HandshakeError, None, [send_raw(HEAD), cut()]),
    ("garbage", wsclient.HandshakeError, None, [garbage(1000, 1), cut()]),
    ("reset", wsclient.HandshakeError, None, [reset()]),
]


class TestUpgrade:
    """End to end, one of each; the particulars are tested with the handshake."""

    @pytest.mark.parametrize(
        ("kind", "status", "steps"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
    )
    def test_refused(
        self, wire: Wire, kind: type[Exception], status: int | None, steps: Sequence[Step]
    ) -> None:
        watch = Watch()
        with wire.serve(*steps) as server:
            with pytest.raises(kind) as caught, wire.connected(server, watch, open_timeout=0.5):
                pass
            assert isinstance(caught.value, wsclient.HandshakeError)
            assert caught.value.status == status
            if status == 401:
                assert caught.value.body == b"who are you?"
        assert watch.closes == [], "it was never open"

    def test_delayed_but_in_time(self, wire: Wire) -> None:
        watch = Watch()
        with (
            wire.serve(delay_upgrade(0.1), send_text("hello"), read_until_close()) as server,
            wire.connected(server, watch, open_timeout=BOUND) as conn,
        ):
            assert conn.recv(timeout=BOUND) == "hello"
            conn.close()
            assert server.close_code == 1000
