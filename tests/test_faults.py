"""The scripted server itself, against raw sockets and two clients that are not ours."""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest
import websocket
from conftest import TLS
from websockets.exceptions import ConnectionClosedError, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from wsclient.testing import (
    FaultServer,
    Peer,
    ScriptError,
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
    last_step,
    no_close_reply,
    read_frames,
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
    step,
    stop_reading,
    wait,
)
from wsclient.testing.faults import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3
REQUEST = (
    "GET /chat?x=1 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nX-Two: a\r\nX-Two: b\r\n\r\n"
).encode()


@contextmanager
def raw(server: FaultServer, request: bytes = REQUEST) -> Iterator[socket.socket]:
    """A bare TCP client that has sent its request."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(request)
        yield sock


@contextmanager
def secure(server: FaultServer, tls: TLS) -> Iterator[ssl.SSLSocket]:
    """A bare TLS client that is past the upgrade."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        tls.client.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(REQUEST)
        read_head(sock)
        yield sock


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        got = sock.recv(size - len(data))
        assert got, f"the stream ended after {data!r}"
        data += got
    return data


def read_head(sock: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += read_exactly(sock, 1)
    return data.decode()


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while got := sock.recv(65536):
        data += got
    return data


def client_frame(opcode: int, payload: bytes, **options: bool | int) -> bytes:
    return encode_frame(opcode, payload, masked=True, **options)  # type: ignore[arg-type]


@contextmanager
def client(server: FaultServer, context: ssl.SSLContext | None = None) -> Iterator[ClientConnection]:
    """A client of the websockets library, without keepalive of its own."""
    options = {"proxy": None, "compression": None, "ping_interval": None, "close_timeout": 1}
    with connect(server.url, ssl=context, open_timeout=10, **options) as connection:  # type: ignore[arg-type]
        yield connection


def read_until_reset(sock: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            data += read_exactly(sock, 1)
        except ConnectionResetError:
            return data


class TestEncodeFrame:
    """Bytes of frames, against the examples of RFC 6455, section 5.7, and against the header's layout."""

    @pytest.mark.parametrize(
        ("frame", "expected"),
        [
            (encode_frame(TEXT, b"Hello"), "810548656c6c6f"),
            (encode_frame(TEXT, b"Hello", masked=True), "818537fa213d7f9f4d5158"),
            (encode_frame(TEXT, b"Hel", fin=False), "010348656c"),
            (encode_frame(CONTINUATION, b"lo"), "80026c6f"),
            (encode_frame(PING, b"Hello"), "890548656c6c6f"),
            (encode_frame(TEXT, rsv=4), "c100"),
            (encode_frame(15, rsv=3), "bf00"),
            (encode_frame(BINARY, b"x", declared_length=1 << 40), "827f000001000000000078"),
            (encode_frame(BINARY, b"x", length_bytes=2), "827e000178"),
            (encode_frame(BINARY, declared_length=1 << 63), "827f8000000000000000"),
        ],
    )
    def test_bytes(self, frame: bytes, expected: str) -> None:
        assert frame.hex() == expected

    @pytest.mark.parametrize(("size", "header"), [(125, 2), (126, 4), (65535, 4), (65536, 10)])
    def test_the_smallest_length_field_is_the_default(self, size: int, header: int) -> None:
        assert len(encode_frame(BINARY, bytes(size))) == header + size

    @pytest.mark.parametrize(
        "options", [{"rsv": 8}, {"length_bytes": 3}, {"declared_length": 126, "length_bytes": 0}]
    )
    def test_what_does_not_fit_is_refused(self, options: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="fit"):
            encode_frame(TEXT, **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="opcode 16"):
            encode_frame(16)


class TestUpgrade:
    def test_accept(self) -> None:
        with FaultServer(accept_upgrade({"X-More": "1"})) as server, raw(server) as sock:
            head = read_head(sock)
            assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
            assert f"Sec-WebSocket-Accept: {ACCEPT}\r\n" in head
            assert "X-More: 1\r\n" in head
            record = server.connections[0]
            assert record.target == "/chat?x=1"
            assert record.headers["x-two"] == "a, b"

    def test_headers_can_be_replaced_and_left_out(self) -> None:
        script = accept_upgrade([("upgrade", "other")], without=["Connection"])
        with FaultServer(script) as server, raw(server) as sock:
            head = read_head(sock)
            assert "upgrade: other\r\n" in head
            assert "Upgrade:" not in head
            assert "Connection:" not in head

    def test_wrong_key(self) -> None:
        with FaultServer(accept_upgrade(wrong_key=True)) as server:
            with raw(server) as sock:
                assert ACCEPT not in read_head(sock)
            with pytest.raises(InvalidHandshake), client(server):
                pass

    def test_http_response(self) -> None:
        script = http_response(401, {"WWW-Authenticate": "Basic"}, b"who are you?")
        with FaultServer(script) as server, pytest.raises(InvalidStatus) as caught, client(server):
            pass
        response = caught.value.response
        assert (response.status_code, response.body) == (401, b"who are you?")
        assert response.headers["WWW-Authenticate"] == "Basic"

    def test_http_response_with_a_status_and_length_of_its_own(self) -> None:
        script = http_response(799, [("content-length", "1")], b"", reason="Odd")
        with FaultServer(script) as server, raw(server) as sock:
            assert read_head(sock) == "HTTP/1.1 799 Odd\r\ncontent-length: 1\r\n\r\n"
        with FaultServer(http_response(798)) as server, raw(server) as sock:
            assert read_head(sock).startswith("HTTP/1.1 798 Unassigned\r\n")

    def test_endless_headers(self) -> None:
        with FaultServer(endless_headers()) as server, raw(server) as sock:
            data = read_exactly(sock, 1_000_000)
            assert data.startswith(b"HTTP/1.1 101 ")
            assert b"\r\n\r\n" not in data

    def test_black_hole(self) -> None:
        with FaultServer(black_hole()) as server, raw(server) as sock:
            server.wait_for_connections(1)
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)

    def test_black_hole_does_not_shake_hands_in_tls_either(self, tls: TLS) -> None:
        with FaultServer(black_hole(), ssl_context=tls.server) as server:
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=0.1)
            with sock, pytest.raises(TimeoutError):
                tls.client.wrap_socket(sock, server_hostname="localhost")
            assert server.connections[0].bytes_sent == 0

    def test_delayed_until_an_event(self) -> None:
        event = threading.Event()
        with FaultServer(delay_upgrade(event, {"X-More": "1"})) as server, raw(server) as sock:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            sock.settimeout(10)
            event.set()
            assert "X-More: 1" in read_head(sock)

    def test_delayed_by_seconds(self) -> None:
        with FaultServer(delay_upgrade(0.01), send_text("in time")) as server, client(server) as connection:
            assert connection.recv(timeout=10) == "in time"

    @pytest.mark.parametrize(
        "request_head",
        [
            b"POST / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nbad header: \r\nx\r\n\r\n",
        ],
    )
    def test_a_malformed_request_is_an_error(self, request_head: bytes) -> None:
        with FaultServer(accept_upgrade()) as server:
            with raw(server, request_head), pytest.raises(ScriptError, match="the client"):
                server.wait_closed()
            assert len(server.errors) == len(server.take_errors()) == 1

    def test_a_request_head_over_64_kib_is_an_error(self) -> None:
        with FaultServer(accept_upgrade()) as server, raw(server, b"GET /" + b"a" * 70_000):
            with pytest.raises(ScriptError, match="over 64 KiB"):
                server.wait_for_messages(1)
            assert server.take_errors()


class TestWriting:
    def test_frames_of_every_kind(self) -> None:
        script = [
            send_text("text"),
            send_text(b"\xff", fin=False),
            send_continuation(b"more"),
            send_binary(b"data", rsv=2),
            send_ping(b"ping"),
            send_pong(b"pong", masked=True),
            send_frame(11, b"eleven"),
            send_close(1234, "why"),
            send_close(None),
            send_raw(b"raw"),
        ]
        expected = [
            encode_frame(TEXT, b"text"),
            encode_frame(TEXT, b"\xff", fin=False),
            encode_frame(CONTINUATION, b"more"),
            encode_frame(BINARY, b"data", rsv=2),
            encode_frame(PING, b"ping"),
            encode_frame(PONG, b"pong", masked=True),
            encode_frame(11, b"eleven"),
            encode_frame(CLOSE, struct.pack("!H", 1234) + b"why"),
            encode_frame(CLOSE),
            b"raw",
        ]
        with FaultServer(accept_upgrade(), *script) as server, raw(server) as sock:
            read_head(sock)
            assert read_to_end(sock) == b"".join(expected)

    def test_drip(self) -> None:
        with FaultServer(accept_upgrade(), drip(b"drop", 0.001)) as server, raw(server) as sock:
            read_head(sock)
            assert read_to_end(sock) == b"drop"

    def test_garbage_is_the_same_for_the_same_seed(self) -> None:
        with FaultServer(garbage(1000, 1), garbage(1000, 1), garbage(1000, 2)) as server, raw(server) as sock:
            data = read_to_end(sock)
        assert data[:1000] == data[1000:2000] != data[2000:]
        assert len(data) == 3000

    def test_flood_of_numbered_messages(self) -> None:
        with FaultServer(accept_upgrade(), flood(str, count=100)) as server, client(server) as connection:
            assert [connection.recv(timeout=10) for _ in range(100)] == [str(number) for number in range(100)]

    def test_flood_until_the_client_closes(self) -> None:
        with FaultServer(accept_upgrade(), flood(b"flood")) as server:
            with client(server) as connection:
                assert connection.recv(timeout=10) == b"flood"
                connection.close(1000, "enough")
            server.wait_closed()
            assert (server.close_code, server.close_reason) == (1000, "enough")

    def test_flood_answers_pings_when_it_reads(self) -> None:
        with FaultServer(accept_upgrade(), flood("flood")) as server, client(server) as connection:
            pong = connection.ping()
            while not pong.is_set():
                connection.recv(timeout=10)

    def test_flood_until_the_client_leaves(self) -> None:
        with FaultServer(accept_upgrade(), flood("flood")) as server:
            with raw(server) as sock:
                read_head(sock)
                read_exactly(sock, 100)
            server.wait_closed()

    def test_flood_that_nobody_reads_blocks_and_ends_with_the_server(self) -> None:
        with (
            FaultServer(accept_upgrade(), flood(bytes(65536)), send_buffer=4096) as server,
            raw(server) as sock,
        ):
            server.wait_blocked()
            assert server.connections[0].bytes_sent > 0
            read_exactly(sock, 65536)

    def test_flood_that_does_not_read_leaves_the_close_frame_alone(self) -> None:
        with FaultServer(accept_upgrade(), flood(b"x" * 60, read=False)) as server:
            with raw(server) as sock:
                read_head(sock)
                sock.sendall(client_frame(CLOSE, b"\x03\xe8"))
                read_exactly(sock, 62 * 1000)
                assert server.close_code is None
            server.wait_closed()
            assert server.close_code == 1000, "recorded once the client had left"

    def test_repeat(self) -> None:
        script = [accept_upgrade(), repeat(send_ping(b"again"), count=3), cut()]
        with FaultServer(*script) as server, raw(server) as sock:
            read_head(sock)
            assert read_to_end(sock) == encode_frame(PING, b"again") * 3

    def test_repeat_until_the_client_closes(self) -> None:
        with FaultServer(accept_upgrade(), repeat(send_ping())) as server:
            with client(server):
                pass
            server.wait_closed()
            assert server.close_code == 1000


class TestReading:
    def test_messages_are_recorded(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with client(server) as connection:
                connection.send("eins")
                connection.send(b"zwei")
                connection.send(["d", "r", "ei"])
                connection.send("x" * 70_000)
                server.assert_received(["eins", b"zwei", "drei", "x" * 70_000])
                connection.close(4000, "done")
            server.wait_closed()
            assert (server.close_code, server.close_reason) == (4000, "done")
            assert [frame.opcode for frame in server.frames][:2] == [TEXT, BINARY]
            assert server.connections[0].leftover == 0

    def test_another_client(self) -> None:
        with FaultServer(accept_upgrade(), send_text("hello"), read_until_close()) as server:
            other = websocket.create_connection(server.url, timeout=10, http_no_proxy=["*"])
            with closing(other):
                assert other.recv() == "hello"
                other.send("hi")
            server.wait_closed()
            assert server.received == ["hi"]
            assert server.close_code == 1000

    def test_pings_are_answered_unless_told_otherwise(self) -> None:
        script = [accept_upgrade(), read_frames(1), read_frames(1, pong=False), send_text("after")]
        with FaultServer(*script) as server, client(server) as connection:
            assert connection.ping("first").wait(10)
            second = connection.ping("second")
            assert connection.recv(timeout=10) == "after"
            assert not second.is_set()

    def test_read_messages_passes_over_control_frames_and_fragments(self) -> None:
        script = [accept_upgrade(), read_messages(2), send_text("two")]
        with FaultServer(*script) as server, client(server) as connection:
            connection.ping()
            connection.send(["a", "b"])
            connection.send("c")
            assert connection.recv(timeout=10) == "two"
            assert server.received == ["ab", "c"]

    def test_read_until_close_without_answers(self) -> None:
        script = [accept_upgrade(), read_until_close(pong=False, reply=False), send_raw(b"end")]
        with FaultServer(*script) as server, raw(server) as sock:
            read_head(sock)
            sock.sendall(client_frame(PING, b"") + client_frame(CLOSE, b""))
            assert read_to_end(sock) == b"end"
            assert server.close_code == 1005

    def test_a_close_frame_is_answered_once(self) -> None:
        with (
            FaultServer(accept_upgrade(), send_close(1001), read_until_close()) as server,
            raw(server) as sock,
        ):
            read_head(sock)
            sock.sendall(client_frame(CLOSE, b"\x03\xe9"))
            assert read_to_end(sock) == encode_frame(CLOSE, b"\x03\xe9")

    def test_no_close_reply(self) -> None:
        with FaultServer(accept_upgrade(), no_close_reply()) as server:
            with raw(server) as sock:
                read_head(sock)
                sock.sendall(
                    client_frame(PING, b"p") + client_frame(CLOSE, b"") + client_frame(PING, b"q")[:3]
                )
                assert read_exactly(sock, 3) == encode_frame(PONG, b"p")
                sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    sock.recv(1)
            server.wait_closed()
            assert server.connections[0].leftover == 3

    def test_stop_reading_stalls_the_client(self) -> None:
        with (
            FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096) as server,
            raw(server) as sock,
        ):
            read_head(sock)
            sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                sock.sendall(bytes(64 << 20))

    def test_stall_after(self) -> None:
        frames = [client_frame(TEXT, b"%d" % number) for number in range(10)]
        size = sum(map(len, frames[:4])) + 1
        with FaultServer(accept_upgrade(), stall_after(size)) as server, raw(server) as sock:
            read_head(sock)
            sock.sendall(b"".join(frames))
            assert server.wait_for_messages(4) == ["0", "1", "2", "3"]
            assert server.connections[0].leftover == 1
            sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                sock.sendall(bytes(64 << 20))

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            (encode_frame(TEXT, b"x"), "unmasked"),
            (client_frame(TEXT, b"x", rsv=4), "reserved bits"),
            (client_frame(3, b""), "reserved opcode"),
            (client_frame(PING, bytes(126)), "control frame"),
            (client_frame(CLOSE, b"x"), "close frame of one byte"),
            (client_frame(CLOSE, b"", fin=False), "control frame"),
            (client_frame(CONTINUATION, b""), "fragments"),
            (client_frame(TEXT, b"", fin=False) + client_frame(TEXT, b""), "fragments"),
            (client_frame(CLOSE, b"") + client_frame(TEXT, b""), "after its close frame"),
            (client_frame(TEXT, b"\xff"), "UnicodeDecodeError"),
        ],
    )
    def test_a_client_that_breaks_the_protocol_is_an_error(self, data: bytes, complaint: str) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with raw(server, REQUEST + data), pytest.raises(ScriptError, match=complaint):
                server.wait_closed()
            assert server.take_errors()


class TestEnds:
    def test_a_script_ends_with_fin_after_everything_it_sent(self) -> None:
        sent = threading.Event()
        script = [accept_upgrade(), wait(sent), send_text("last")]
        with FaultServer(*script) as server, client(server) as connection:
            connection.send("unread by any step")
            sent.set()
            assert connection.recv(timeout=10) == "last"
            with pytest.raises(ConnectionClosedError) as caught:
                connection.recv(timeout=10)
            assert caught.value.rcvd is None
            assert server.wait_for_messages(1) == ["unread by any step"]

    def test_cut_in_mid_frame(self) -> None:
        script = [accept_upgrade(), send_binary(b"half", declared_length=8), cut()]
        with (
            FaultServer(*script) as server,
            client(server) as connection,
            pytest.raises(ConnectionClosedError),
        ):
            connection.recv(timeout=10)

    def test_reset(self) -> None:
        with FaultServer(accept_upgrade(), reset()) as server, raw(server) as sock:
            assert b"101 Switching" in read_until_reset(sock)

    def test_close_then_reset(self) -> None:
        with FaultServer(accept_upgrade(), close_then_reset(1001, "bye")) as server, raw(server) as sock:
            assert read_until_reset(sock).endswith(encode_frame(CLOSE, b"\x03\xe9bye"))

    def test_stall_ends_with_the_server(self) -> None:
        with FaultServer(accept_upgrade(), send_text("hello"), stall()) as server, raw(server) as sock:
            read_head(sock)
            assert read_exactly(sock, 7) == encode_frame(TEXT, b"hello")
            assert [record.ended for record in server.connections] == [False]
            server.stop()
            assert [record.ended for record in server.connections] == [True]
            assert read_to_end(sock) == b""

    def test_wait_for_an_event_and_for_seconds(self) -> None:
        event = threading.Event()
        script = [accept_upgrade(), wait(0.001), send_text("a"), wait(event), send_text("b")]
        with FaultServer(*script) as server, client(server) as connection:
            assert connection.recv(timeout=10) == "a"
            event.set()
            assert connection.recv(timeout=10) == "b"

    @pytest.mark.parametrize(
        "waiting",
        [
            black_hole,
            lambda: accept_upgrade(),
            lambda: wait(threading.Event()),
            lambda: wait(60.0),
            lambda: repeat(wait(0.001)),
            lambda: drip(b"slow", 60.0),
            cut,
        ],
        ids=["stall", "head", "event", "seconds", "repeat", "drip", "drain"],
    )
    def test_stopping_ends_every_wait(self, waiting: Callable[[], Callable[[Peer], None]]) -> None:
        with FaultServer(waiting()) as server, raw(server, b"") as sock:
            server.wait_for_connections(1)
            server.stop()
            assert all(record.ended for record in server.connections)
            read_to_end(sock)  # the server's sockets are closed by now

    def test_stopping_twice_and_before_any_start(self) -> None:
        FaultServer(stall()).stop()
        server = FaultServer(stall())
        with server:
            server.stop()
        with pytest.raises(RuntimeError, match="does not run"):
            _ = server.url


class TestTLS:
    """With one thread on the client's side: the websockets library reads and writes one SSLSocket in two."""

    def test_messages_and_close(self, tls: TLS) -> None:
        script = [accept_upgrade(), send_text("hello"), flood(str, count=10, read=False), read_until_close()]
        with FaultServer(*script, ssl_context=tls.server, hostname="localhost") as server:
            assert server.url.startswith("wss://localhost:")
            with secure(server, tls) as sock:
                sock.sendall(client_frame(BINARY, bytes(100_000)) + client_frame(CLOSE, b"\x03\xe8"))
                expected = [encode_frame(TEXT, text.encode()) for text in ["hello", *"0123456789"]]
                assert read_to_end(sock) == b"".join(expected) + encode_frame(CLOSE, b"\x03\xe8")
            server.wait_closed()
            assert server.close_code == 1000
            assert server.received == [bytes(100_000)]

    def test_flood_and_reset(self, tls: TLS) -> None:
        script = [accept_upgrade(), flood(bytes(1000), count=100, read=False), read_messages(1), reset()]
        with FaultServer(*script, ssl_context=tls.server) as server, secure(server, tls) as sock:
            assert read_exactly(sock, 100 * 1004) == encode_frame(BINARY, bytes(1000)) * 100
            sock.sendall(client_frame(TEXT, b"now"))
            with suppress(ConnectionResetError):  # OpenSSL makes a plain end of it, often
                assert sock.recv(1) == b""

    def test_flood_that_reads_what_comes_in_between(self, tls: TLS) -> None:
        with FaultServer(accept_upgrade(), flood(b"flood"), ssl_context=tls.server) as server:
            with secure(server, tls) as sock:
                sock.sendall(client_frame(TEXT, b"between") + client_frame(CLOSE, b""))
                assert read_to_end(sock).endswith(encode_frame(CLOSE, b""))
            server.wait_closed()
            assert server.received == ["between"]

    def test_flood_that_nobody_reads_goes_on_when_somebody_does(self, tls: TLS) -> None:
        script = [accept_upgrade(), flood(bytes(100_000), read=False)]
        with FaultServer(*script, ssl_context=tls.server) as server, secure(server, tls) as sock:
            server.wait_blocked()
            blocked_at = server.connections[0].bytes_sent
            for _ in range(blocked_at // 100_010 + 1):
                assert read_exactly(sock, 100_010) == encode_frame(BINARY, bytes(100_000))

    def test_a_client_that_does_not_trust_us_is_no_error(self, tls: TLS) -> None:
        with FaultServer(accept_upgrade(), ssl_context=tls.server) as server:
            with pytest.raises(ssl.SSLCertVerificationError), client(server, ssl.create_default_context()):
                pass
            server.wait_closed()

    def test_a_client_that_is_gone_before_the_handshake_is_no_error(self, tls: TLS) -> None:
        gone = threading.Event()
        with FaultServer(wait(gone), accept_upgrade(), ssl_context=tls.server) as server:
            with raw(server, b"no TLS") as sock:
                server.wait_for_connections(1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.set()
            server.wait_closed()

    def test_stopping_in_mid_handshake(self, tls: TLS) -> None:
        with FaultServer(accept_upgrade(), ssl_context=tls.server) as server, raw(server, b""):
            server.wait_for_connections(1)
            server.stop()
            assert server.connections[0].ended


class TestServer:
    def test_scripts_for_successive_connections(self) -> None:
        scripts = [[http_response(503)], [accept_upgrade(), send_text("second")], [http_response(404)]]
        with FaultServer(scripts=scripts) as server:
            with pytest.raises(InvalidStatus, match="503"), client(server):
                pass
            with client(server) as connection:
                assert connection.recv(timeout=10) == "second"
            for _ in range(2):
                with pytest.raises(InvalidStatus, match="404"), client(server):
                    pass
            assert len(server.connections) == 4

    def test_many_connections_at_once(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with client(server) as first, client(server) as second:
                second.send("from the second")
                server.wait_for_messages(1)
                first.send("from the first")
                server.wait_for_messages(2)
            server.wait_closed()
            assert server.received == ["from the first", "from the second"]
            assert [record.received for record in server.connections] == [
                ("from the first",),
                ("from the second",),
            ]

    def test_nothing_is_known_before_the_first_connection(self) -> None:
        with FaultServer(stall()) as server:
            assert (server.close_code, server.close_reason) == (None, "")
            assert (server.connections, server.received, server.frames) == ((), [], [])

    def test_a_wait_that_fails_says_what_came(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with pytest.raises(TimeoutError, match="connections: none"):
                server.wait_for_connections(1, timeout=0.01)
            with client(server) as connection:
                connection.send("one")
                server.wait_for_messages(1)
                with pytest.raises(TimeoutError, match=r"2 messages.*open, 1 messages"):
                    server.wait_for_messages(2, timeout=0.01)
                with pytest.raises(AssertionError, match="message 0 is 'one', expected 'two'"):
                    server.assert_received(["two"])
                with pytest.raises(AssertionError, match="message 0 is 'one', expected None"):
                    server.assert_received([])
                with pytest.raises(TimeoutError, match="a write that blocks"):
                    server.wait_blocked(timeout=0.01)

    def test_an_error_in_a_script_is_raised_at_the_end(self) -> None:
        def run() -> None:
            with FaultServer(accept_upgrade(), read_messages(2)) as server, raw(server) as sock:
                sock.sendall(client_frame(TEXT, b"one"))
                sock.shutdown(socket.SHUT_WR)
                read_to_end(sock)

        with pytest.raises(ScriptError, match=r"read_messages\(2\).*left after 1 of 2 messages"):
            run()

    def test_an_error_of_the_test_comes_first(self, caplog: pytest.LogCaptureFixture) -> None:
        def run() -> None:
            with FaultServer(accept_upgrade(), read_messages(1)) as server:
                with raw(server) as sock:
                    sock.shutdown(socket.SHUT_WR)
                    read_to_end(sock)
                raise ZeroDivisionError

        with caplog.at_level(logging.ERROR, "wsclient.testing"), pytest.raises(ZeroDivisionError):
            run()
        assert "script failed at read_messages(1)" in caplog.text

    def test_a_client_that_says_nothing_is_an_error_after_the_limit(self) -> None:
        with FaultServer(accept_upgrade(), limit=0.3) as server:
            with raw(server, b"GET / "), pytest.raises(ScriptError, match=r"sent nothing for 0\.3 s"):
                server.wait_closed()
            assert server.take_errors()

    def test_an_event_that_is_never_set_is_an_error_after_the_limit(self) -> None:
        with FaultServer(wait(threading.Event()), limit=0.1) as server:
            with raw(server), pytest.raises(ScriptError, match=r"event was not set within 0\.1 s"):
                server.wait_for_messages(1)
            assert len(server.errors) == len(server.take_errors()) == 1

    def test_a_step_that_hangs_is_named(self) -> None:
        event = threading.Event()

        def hang(_: Peer) -> None:
            event.wait(30)

        server = FaultServer(hang, limit=0.2)
        server.start()
        with raw(server):
            server.wait_for_connections(1)
            with pytest.raises(ScriptError, match="fault-server-0 did not end"):
                server.stop()
            event.set()
            server.wait_closed()

    def test_a_step_of_the_tests_own(self) -> None:
        @step
        def send_count(peer: Peer, unit: str) -> None:
            peer.send(encode_frame(TEXT, f"{peer.record.message_count} {unit}".encode()))

        @last_step
        def vanish(peer: Peer) -> None:
            peer.reset()

        script = [accept_upgrade(), read_messages(2), send_count("messages"), vanish()]
        with FaultServer(*script) as server, raw(server) as sock:
            read_head(sock)
            sock.sendall(client_frame(TEXT, b"") * 2)
            assert read_exactly(sock, 12) == encode_frame(TEXT, b"2 messages")

    def test_steps_show_themselves(self) -> None:
        assert repr(send_text("hello", fin=False)) == "send_text('hello', fin=False)"
        assert len(repr(send_raw(bytes(1000)))) < 60

    def test_wrong_arguments_are_refused_at_once(self) -> None:
        with pytest.raises(TypeError, match="argument"):
            send_raw(bytez=b"")  # type: ignore[call-arg]

    def test_scripts_that_make_no_sense_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"cut\(\) ends its script"):
            FaultServer(cut(), send_text("never"))
        with pytest.raises(ValueError, match="at least one step"):
            FaultServer()
        with pytest.raises(ValueError, match="not both"):
            FaultServer(stall(), scripts=[[stall()]])


def test_the_accept_key_is_that_of_the_rfc() -> None:
    digest = hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert base64.b64encode(digest).decode() == ACCEPT
