"""The byte stream: real sockets, real TLS, one reading and one writing thread."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import random
import resource
import selectors
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from conftest import HOST, TLS

from wsclient import transport as transport_module
from wsclient.exceptions import ConcurrentWriteError
from wsclient.transport import (
    Cancellation,
    Cancelled,
    DeadlinePassed,
    DialStream,
    Resolved,
    SocketChannel,
    TlsChannel,
    TlsSession,
    Transport,
    adopt,
    connect_tcp,
    connect_unix,
    default_context,
    describe,
    local_endpoint,
    resolve,
    try_each,
)

BOUND = 10.0  # seconds; nothing here takes nearly that long
SHORT = 0.1  # seconds; a deadline that is meant to pass


def soon() -> float:
    return time.monotonic() + BOUND


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Run ``work`` on a thread of its own; the result has to be fetched with a bound."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="test-worker").start()
    return future


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server((HOST, 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=BOUND)
        server, _ = listener.accept()
    server.settimeout(BOUND)
    return client, server


def unix_pair() -> tuple[socket.socket, socket.socket]:
    client, server = socket.socketpair()
    server.settimeout(BOUND)
    return client, server


def open_writer(channel: Any, initial: bytes = b"") -> Transport:
    """A transport that the calling thread may write to."""
    transport = Transport(channel, initial)
    transport.own_writes()
    return transport


@pytest.fixture(params=["tcp blocking", "tcp polling", "unix blocking", "unix polling"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Transport, socket.socket]]:
    """A transport whose writer is the test's own thread, and the peer's socket."""
    family, mode = request.param.split()
    client, server = tcp_pair() if family == "tcp" else unix_pair()
    transport = open_writer(SocketChannel(client, blocking=mode == "blocking"))
    with server:
        yield transport, server
    transport.shutdown()
    transport.close()


def read(transport: Transport, size: int = 4096) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: transport.recv_into(memoryview(buffer))])


def read_exactly(transport: Transport, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = read(transport, size - len(received))
        assert part, "the stream ended early"
        received += part
    return received


def read_to_end(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def write_all(transport: Transport, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[transport.send(view, BOUND) :]


def fill(transport: Transport) -> int:
    """Write until the peer, which does not read, takes no more. The number of bytes that count as written."""
    block = memoryview(bytes(100_000))
    total = 0
    try:
        for _ in range(10_000):
            total += transport.send(block, SHORT)
    except TimeoutError:
        return total
    raise AssertionError("the peer took a gigabyte without reading it")


def write_without_end(transport: Transport) -> None:
    """Write until it fails: a single small write may find room even where a large one timed out."""
    block = memoryview(bytes(100_000))
    for _ in range(10_000):
        transport.send(block, None)


# -- the open connection, without TLS -----------------------------------------------------------------


def test_bytes_go_both_ways(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    assert transport.send(memoryview(b"ping"), BOUND) == 4
    assert peer.recv(10) == b"ping"
    peer.sendall(b"pong")
    assert read(transport) == b"pong"


def test_what_was_read_with_the_response_comes_first() -> None:
    client, server = tcp_pair()
    with server:
        transport = Transport(SocketChannel(client), b"early")
        server.sendall(b"late")
        assert transport.has_input()
        assert [read(transport, 3), read(transport, 3), read(transport, 9)] == [b"ear", b"ly", b"late"]
        transport.close()


def test_end_of_stream_reads_as_nothing(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    peer.sendall(b"last")
    peer.shutdown(socket.SHUT_WR)
    assert read(transport) == b"last"
    assert read(transport) == b""
    assert read(transport) == b""


@pytest.mark.parametrize("blocking", [True, False])
def test_reset_is_an_error_for_reader_and_writer(blocking: bool) -> None:
    client, server = tcp_pair()
    transport = open_writer(SocketChannel(client, blocking=blocking))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    with pytest.raises(ConnectionResetError):
        read(transport)
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        transport.send(memoryview(b"x"), BOUND)
    transport.close()


def test_shutdown_wakes_the_reader(pair: tuple[Transport, socket.socket]) -> None:
    transport, _ = pair
    reading = threading.Event()

    def read_on() -> bytes:
        reading.set()
        return read(transport)

    result = in_thread(read_on)
    assert reading.wait(BOUND)
    transport.shutdown()
    assert result.result(BOUND) == b""


def test_shutdown_wakes_the_writer(pair: tuple[Transport, socket.socket]) -> None:
    transport, _ = pair
    fill(transport)
    writing = threading.Event()

    def write() -> None:
        transport.own_writes()
        writing.set()
        write_without_end(transport)

    result = in_thread(write)
    assert writing.wait(BOUND)
    transport.shutdown()
    with pytest.raises(OSError, match="Broken pipe"):
        result.result(BOUND)


def test_nothing_is_read_after_shutdown_even_if_it_came_before(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    peer.sendall(b"unread")
    selector_ready(transport)
    transport.shutdown()
    assert read(transport) == b""
    assert not transport.has_input()


def selector_ready(transport: Transport) -> None:
    """Wait for input to be there."""
    until = soon()
    while not transport.has_input():
        assert time.monotonic() < until, "no input came"


def test_shutdown_and_close_may_come_in_any_order_and_number(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    transport.shutdown()
    transport.shutdown()
    transport.close()
    transport.close()
    transport.shutdown()
    transport.shutdown_write()
    assert read(transport) == b""
    assert peer.recv(1) == b""


def test_a_peer_that_reads_nothing_costs_the_timeout_and_no_byte(
    pair: tuple[Transport, socket.socket],
) -> None:
    transport, peer = pair
    written = fill(transport)
    result = in_thread(lambda: read_to_end(peer))
    write_all(transport, b"end")
    transport.shutdown_write()
    assert result.result(BOUND) == bytes(written) + b"end"


def test_send_without_a_timeout_waits_for_room(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    fill(transport)
    result = in_thread(lambda: read_to_end(peer))
    assert transport.send(memoryview(b"x"), None) == 1
    transport.shutdown_write()
    assert result.result(BOUND).endswith(b"x")


def test_polling_reader_waits_for_input(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = tcp_pair()
    channel = SocketChannel(client, blocking=False)
    real = transport_module._ready

    def ready(*args: Any) -> bool:
        server.sendall(b"x")
        return real(*args)

    monkeypatch.setattr(transport_module, "_ready", ready)
    with server:
        assert channel.recv_into(memoryview(bytearray(9))) == 1
    channel.close()


def test_reset_during_shutdown_is_an_end() -> None:
    class Reset(socket.socket):
        def recv_into(self, *_: Any) -> int:
            channel.shutdown()
            raise ConnectionResetError

    client, server = tcp_pair()
    channel = SocketChannel(Reset(fileno=client.detach()))
    with server:
        assert channel.recv_into(memoryview(bytearray(9))) == 0
    channel.close()


def test_half_close_leaves_reading_open(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    transport.shutdown_write()
    assert peer.recv(1) == b""
    peer.sendall(b"still here")
    assert read(transport) == b"still here"


def test_only_the_writer_may_write(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    stranger = in_thread(lambda: transport.send(memoryview(b"torn"), BOUND))
    with pytest.raises(ConcurrentWriteError, match="only the connection's writer thread"):
        stranger.result(BOUND)
    transport.send(memoryview(b"whole"), BOUND)
    transport.shutdown_write()
    assert read_to_end(peer) == b"whole"


def test_nobody_may_write_before_there_is_a_writer() -> None:
    client, server = unix_pair()
    transport = Transport(SocketChannel(client))
    with server, pytest.raises(ConcurrentWriteError):
        transport.send(memoryview(b"x"), BOUND)
    transport.close()


def test_has_input_tells_whether_a_read_would_wait(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    assert not transport.has_input()
    peer.sendall(b"x")
    selector_ready(transport)
    read(transport)
    assert not transport.has_input()
    peer.shutdown(socket.SHUT_WR)
    selector_ready(transport)


@pytest.mark.parametrize("blocking", [True, False])
def test_file_numbers_over_1023_work(blocking: bool) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    try:
        client, server = tcp_pair()
        high = socket.socket(fileno=fcntl.fcntl(client.fileno(), fcntl.F_DUPFD_CLOEXEC, 1500))
        client.close()
        transport = open_writer(SocketChannel(high, blocking=blocking))
        assert high.fileno() >= 1500
        with server:
            fill(transport)
            assert not transport.has_input()
            server.sendall(b"x")
            assert read(transport) == b"x"
        transport.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- TLS ----------------------------------------------------------------------------------------------


def tls_client(sock: socket.socket, context: ssl.SSLContext) -> Transport:
    """Open TLS over ``sock`` with the library's own dial."""
    with Cancellation() as cancellation:
        stream = adopt(sock, soon(), cancellation)
        try:
            stream.start_tls(context, "localhost")
        except BaseException:
            stream.close()
            raise
        transport = stream.into_transport(b"")
    transport.own_writes()
    return transport


@contextmanager
def tls_pair(tls: TLS) -> Iterator[tuple[Transport, ssl.SSLSocket]]:
    """A transport over TLS, written to by the calling thread, and the server's end."""
    client, raw = tcp_pair()
    accepted = in_thread(lambda: tls.server.wrap_socket(raw, server_side=True))
    transport = tls_client(client, tls.client)
    try:
        server: ssl.SSLSocket = accepted.result(BOUND)
        with server:
            yield transport, server
    finally:
        transport.shutdown()
        transport.close()


def test_tls_bytes_go_both_ways(tls: TLS) -> None:
    with tls_pair(tls) as (transport, peer):
        assert transport.send(memoryview(b"ping"), BOUND) == 4
        assert peer.recv(10) == b"ping"
        assert not transport.has_input() or read_nothing_left(transport, peer)
        peer.sendall(b"pong" * 10_000)
        assert read_exactly(transport, 40_000) == b"pong" * 10_000


def read_nothing_left(transport: Transport, peer: ssl.SSLSocket) -> bool:
    """TLS may have session tickets to hand over, which carry no data: read them with one byte that does."""
    peer.sendall(b"!")
    return read(transport) == b"!"


def test_tls_has_input_until_all_is_decrypted(tls: TLS) -> None:
    with tls_pair(tls) as (transport, peer):
        peer.sendall(b"abc")
        assert read(transport, 1) == b"a"
        assert transport.has_input(), "decrypted already, not in the socket any more"
        assert read(transport, 9) == b"bc"
        assert not transport.has_input()
        peer.sendall(b"d")
        selector_ready(transport)


def memory_pair(tls: TLS) -> tuple[TlsSession, ssl.SSLObject, ssl.MemoryBIO]:
    """A session, and the server's end with what that has written."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.server.wrap_bio(incoming, outgoing, server_side=True)
    session = TlsSession(tls.client, "localhost")
    while not session.handshake():
        incoming.write(session.take_output())
        with suppress(ssl.SSLWantReadError):
            server.do_handshake()
        session.feed(outgoing.read())
    incoming.write(session.take_output())
    server.do_handshake()
    return session, server, outgoing


def test_error_waits_behind_the_data_before_it_and_stays(tls: TLS) -> None:
    session, server, outgoing = memory_pair(tls)
    server.write(b"good")
    session.feed(outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
    buffer = memoryview(bytearray(100))
    assert session.read_into(buffer) == 4
    for _ in range(2):
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record"):
            session.read_into(buffer)


def test_many_small_records_come_in_one_read(tls: TLS) -> None:
    session, server, outgoing = memory_pair(tls)
    for _ in range(100):
        server.write(b"0123456789")
    session.feed(outgoing.read())
    buffer = memoryview(bytearray(2000))
    assert (session.read_into(buffer[:15]), session.starved) == (15, False)
    assert (session.read_into(buffer), session.starved) == (985, True)
    assert session.read_into(buffer) is None


def test_tls_survives_load_in_both_directions_in_two_threads(tls: TLS) -> None:
    """Trap 1 of the design: what kills an SSLSocket that two threads share. Bounded by volume."""
    volume = 96 * 2**20
    chance = random.Random(7)
    block = chance.randbytes(200_000)
    with tls_pair(tls) as (transport, peer):
        echoing = in_thread(lambda: echo(peer, volume))
        sums = [hashlib.sha256(), hashlib.sha256()]

        def receive() -> None:
            buffer = memoryview(bytearray(65536))
            left = volume
            while left:
                count = transport.recv_into(buffer)
                assert count, "the stream ended early"
                sums[1].update(buffer[:count])
                left -= count

        receiving = in_thread(receive)
        left = volume
        while left:
            start = chance.randrange(100_000)
            part = block[start : start + min(left, chance.choice((1, 70, 5_000, 100_000)))]
            write_all(transport, part)
            sums[0].update(part)
            left -= len(part)
        receiving.result(4 * BOUND)
        echoing.result(BOUND)
        assert sums[0].digest() == sums[1].digest()


def echo(sock: socket.socket, volume: int) -> None:
    while volume:
        data = sock.recv(65536)
        assert data, "the stream ended early"
        sock.sendall(data)
        volume -= len(data)


def test_tls_counts_exactly_what_the_peer_can_decrypt(tls: TLS) -> None:
    with tls_pair(tls) as (transport, peer):
        written = fill(transport)
        transport.shutdown()
        assert len(read_to_cut(peer)) == written > 0


def read_to_cut(sock: ssl.SSLSocket) -> bytes:
    """All that can be decrypted of a stream that was cut without a close_notify."""
    received = bytearray()
    data = b"-"
    while data:
        try:
            data = sock.recv(65536)
        except ssl.SSLEOFError:
            break
        received += data
    return bytes(received)


def test_tls_goes_on_after_a_timeout(tls: TLS) -> None:
    with tls_pair(tls) as (transport, peer):
        written = fill(transport)
        reading = in_thread(lambda: read_until(peer, b"end"))
        # The block that timed out is encrypted already, so it has to come first.
        write_all(transport, bytes(100_000) + b"end")
        received = reading.result(BOUND)
        assert received == bytes(written + 100_000) + b"end"


def read_until(sock: socket.socket, end: bytes) -> bytes:
    received = bytearray()
    while not received.endswith(end):
        data = sock.recv(65536)
        assert data, "the stream ended early"
        received += data
    return bytes(received)


def test_tls_stream_cut_without_notice_ends(tls: TLS) -> None:
    with tls_pair(tls) as (transport, peer):
        peer.sendall(b"last")
        socket.socket.shutdown(peer, socket.SHUT_RDWR)
        assert read_exactly(transport, 4) == b"last"
        assert read(transport) == b""
        assert read(transport) == b""


def test_tls_close_notify_ends_the_stream_though_the_socket_stays_open(tls: TLS) -> None:
    with tls_pair(tls) as (transport, peer):
        peer.sendall(b"last")
        closing = in_thread(peer.unwrap)
        assert read_exactly(transport, 4) == b"last"
        assert read(transport) == b""
        assert transport.has_input()
        transport.shutdown_write()
        closing.result(BOUND).close()


def test_tls_half_close_tells_the_peer(tls: TLS) -> None:
    with tls_pair(tls) as (transport, peer):
        write_all(transport, b"last")
        transport.shutdown_write()
        assert peer.recv(10) == b"last"
        assert peer.recv(10) == b"", "close_notify, or this would raise"


def test_tls_garbage_is_an_error_after_what_came_before_it(tls: TLS) -> None:
    with tls_pair(tls) as (transport, peer):
        peer.sendall(b"good")
        socket.socket.sendall(peer, b"\x17\x03\x03\x00\x20" + bytes(32))
        assert read_exactly(transport, 4) == b"good"
        with pytest.raises(ssl.SSLError):
            read(transport)
        with pytest.raises(ssl.SSLError):
            read(transport)


def test_tls_shutdown_wakes_reader_and_writer(tls: TLS) -> None:
    with tls_pair(tls) as (transport, _):
        fill(transport)
        result = in_thread(lambda: read(transport))

        def write() -> None:
            transport.own_writes()
            write_without_end(transport)

        writing = in_thread(write)
        transport.shutdown()
        assert result.result(BOUND) == b""
        # From the socket, or from TLS when the reader has seen the end first.
        with pytest.raises(OSError, match=r"(?i)pipe|eof|shutdown"):
            writing.result(BOUND)
        assert read(transport) == b""


# An OpenSSL server does on command what Python's ssl can't be told to do.


@pytest.fixture
def openssl_server(tmp_path: Path) -> Iterator[Callable[[str], tuple[Transport, Program]]]:
    """Starts ``openssl s_server`` with one more flag; gives a transport to it and the process."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("the openssl program is not installed")
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with ExitStack() as stack:

        def start(flag: str) -> tuple[Transport, Program]:
            command = [program, "s_server", "-accept", f"{HOST}:0", "-cert", str(tmp_path / "cert.pem"), flag]
            process = stack.enter_context(Program(command))
            port = int(process.read_line(b"ACCEPT").rsplit(b":", 1)[1])
            transport = tls_client(socket.create_connection((HOST, port), timeout=BOUND), context)
            stack.callback(transport.close)
            stack.callback(transport.shutdown)
            return transport, process

        yield start


class Program:
    """A program that is told what to do and watched by its output. On a terminal, or it would buffer that."""

    def __init__(self, command: list[str]) -> None:
        self._output, terminal = os.openpty()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=terminal, stderr=subprocess.DEVNULL
        )
        os.close(terminal)
        self._unread = b""

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=BOUND)
        os.close(self._output)

    def command(self, text: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def read_line(self, word: bytes) -> bytes:
        """The next line that has ``word`` in it."""
        until = soon()
        while True:
            line, end, rest = self._unread.partition(b"\n")
            if end:
                self._unread = rest
                if word in line:
                    return line.strip()
                continue
            with selectors.PollSelector() as selector:
                selector.register(self._output, selectors.EVENT_READ)
                assert selector.select(until - time.monotonic()), f"no line with {word!r} came"
            self._unread += os.read(self._output, 4096)


@pytest.mark.parametrize(
    ("flag", "word"), [("-tls1_3", b"K\n"), ("-tls1_3", b"k\n"), ("-tls1_2", b"r\n"), ("-tls1_2", b"R\n")]
)
def test_tls_answers_the_peer_while_the_writer_is_idle(openssl_server: Any, flag: str, word: bytes) -> None:
    """A key update, or a renegotiation, of the server: the reader answers it; then both directions work."""
    transport, process = openssl_server(flag)
    write_all(transport, b"before\n")
    process.read_line(b"before")
    reading = in_thread(lambda: (read_exactly(transport, 16), read_exactly(transport, 4)))
    process.command(word)
    process.read_line(b"SSL_do_handshake -> 1")
    process.command(b"from the server\n")
    write_all(transport, b"after\n")
    process.read_line(b"after")
    process.command(b"end\n")
    assert reading.result(BOUND) == (b"from the server\n", b"end\n")


class Script:
    """Stands for the socket below TLS: gives out byte strings in order, keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.room = 2**20
        self.inputs: list[bytes] = []

    def recv_into(self, buffer: memoryview) -> int:
        data = self.inputs.pop(0)
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: memoryview, timeout: float | None) -> int:
        count = min(self.room, len(data))
        if not count:
            raise TimeoutError
        self.room -= count
        self.written += data[:count]
        return count

    def has_input(self) -> bool:
        return bool(self.inputs)

    def shutdown_write(self) -> None: ...
    def shutdown(self) -> None: ...
    def close(self) -> None: ...


class Renegotiating(TlsSession):
    """A session in the state of a renegotiation, as only a server can bring about: it must hear first."""

    def __init__(self) -> None:
        self.starved = False
        self.heard = b""
        self.output = b""

    def encrypt(self, data: memoryview) -> int:
        if not self.heard:
            return 0
        self.output += data
        return len(data)

    def feed(self, data: bytes | memoryview) -> None:
        self.heard += data

    def read_into(self, buffer: memoryview) -> int | None:
        self.starved = True
        return 0 if self.heard.endswith(b"end") else None

    @property
    def pending_output(self) -> int:
        return len(self.output)

    def take_output(self) -> bytes:
        output, self.output = self.output, b""
        return output


def test_writer_waits_for_the_reader_while_tls_needs_input() -> None:
    raw, session = Script(), Renegotiating()
    channel = TlsChannel(raw, session)
    with pytest.raises(TimeoutError, match="did not go on"):
        channel.send(memoryview(b"data"), SHORT)
    writing = in_thread(lambda: channel.send(memoryview(b"data"), None))
    raw.inputs = [b"hello", b"end"]
    until = soon()
    while not channel._stalled:
        assert time.monotonic() < until
    assert channel.recv_into(memoryview(bytearray(10))) == 0
    assert writing.result(BOUND) == 4
    assert raw.written == b"data"


def test_what_tls_says_of_its_own_waits_for_room_and_goes_first() -> None:
    raw, session = Script(), Renegotiating()
    channel = TlsChannel(raw, session)
    raw.inputs, raw.room = [b"hello", b"end", b"end"], 3
    session.output = b"answer"
    assert channel.recv_into(memoryview(bytearray(10))) == 0
    assert raw.written == b"ans"
    raw.room = 2
    assert channel.send(memoryview(b"data"), 0) == 0, "progress, but no data in it"
    with pytest.raises(TimeoutError):
        channel.send(memoryview(b"data"), 0)
    session.output = b"second"
    assert channel.recv_into(memoryview(bytearray(10))) == 0
    raw.room = 100
    assert channel.send(memoryview(b"data"), 0) == 4
    assert raw.written == b"answerdatasecond", "never between the parts of what is under way"


# -- opening ------------------------------------------------------------------------------------------


@contextmanager
def black_hole(family: int = socket.AF_INET, address: Any = (HOST, 0)) -> Iterator[socket.socket]:
    """A listener with a full backlog: a connection attempt to it gets no answer."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.bind(address)
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(BOUND)
        yield listener


def refused_port() -> int:
    """A port that nobody listens on: it is bound, so that nobody else gets it meanwhile."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def test_resolve_gives_addresses_once_each() -> None:
    addresses = resolve("localhost", 80, Cancellation())
    assert (socket.AF_INET, (HOST, 80)) in addresses
    assert len(set(addresses)) == len(addresses)


def test_resolve_notices_a_cancel_before_and_a_name_that_does_not_exist() -> None:
    cancellation = Cancellation()
    with pytest.raises(socket.gaierror):
        resolve("does-not-exist.invalid", 80, cancellation)
    cancellation.cancel()
    with pytest.raises(Cancelled):
        resolve("localhost", 80, cancellation)


def test_connection_has_no_delay_and_keeps_alive() -> None:
    with listening() as listener, Cancellation() as cancellation:
        stream = connect_tcp([(socket.AF_INET, listener.getsockname())], soon(), cancellation)
        sock = stream._sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        stream.close()


def test_next_address_is_tried() -> None:
    with listening() as listener, Cancellation() as cancellation:
        addresses = [(socket.AF_INET, (HOST, refused_port())), (socket.AF_INET, listener.getsockname())]
        connect_tcp(addresses, soon(), cancellation).close()


def test_silent_address_uses_up_its_share_of_the_time_only() -> None:
    with black_hole() as dead, listening() as listener, Cancellation() as cancellation:
        addresses = [(socket.AF_INET, sock.getsockname()) for sock in (dead, listener)]
        connect_tcp(addresses, time.monotonic() + 0.6, cancellation).close()


def test_refused_everywhere_is_the_last_error() -> None:
    with Cancellation() as cancellation:
        addresses = [(socket.AF_INET, (HOST, refused_port()))] * 2
        with pytest.raises(ConnectionRefusedError):
            connect_tcp(addresses, soon(), cancellation)
        with pytest.raises(OSError, match="no address"):
            connect_tcp([], soon(), cancellation)


def test_attempts_come_in_order_and_share_the_time() -> None:
    tried: list[tuple[str, float]] = []
    begin = time.monotonic()

    def attempt(address: Resolved, until: float) -> str:
        name = str(address[1][0])
        tried.append((name, until))
        if name == "a":
            raise ConnectionRefusedError
        if name == "b":
            raise DeadlinePassed  # of its share
        return name

    addresses: list[Resolved] = [(socket.AF_INET, (name, 1)) for name in "abcd"]
    assert try_each(addresses, begin + BOUND, attempt) == "c"
    assert [name for name, _ in tried] == ["a", "b", "c"]
    for (_, until), share in zip(tried, (1 / 4, 1 / 3, 1 / 2), strict=True):
        assert begin + BOUND * share <= until < begin + BOUND
    with pytest.raises(TimeoutError, match="no answer in the address's share of the time"):
        try_each(addresses[:2], begin + BOUND, attempt)
    with pytest.raises(ConnectionRefusedError):
        try_each(addresses[:1], begin + BOUND, attempt)


def test_connection_from_a_local_address() -> None:
    with listening() as listener, Cancellation() as cancellation:
        addresses = [(socket.AF_INET6, ("::1", 1, 0, 0)), (socket.AF_INET, listener.getsockname())]
        source = local_endpoint(HOST, 0)
        assert source == (socket.AF_INET, (HOST, 0))
        stream = connect_tcp(addresses, soon(), cancellation, source)
        accepted, caller = listener.accept()
        with accepted:
            assert caller == stream._sock.getsockname()
            stream.close()
        with pytest.raises(OSError, match="no address of the kind that local_address is"):
            connect_tcp(addresses[:1], soon(), cancellation, source)


def test_local_endpoint_has_a_zone_that_is_there() -> None:
    family, address = local_endpoint(f"fe80::1%{socket.if_indextoname(1)}", 7)
    assert (family, address[1], address[3]) == (socket.AF_INET6, 7, 1)
    with pytest.raises(OSError, match=r"local_address fe80::1%nosuch: "):
        local_endpoint("fe80::1%nosuch", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the option is Linux's")
def test_local_address_without_a_port_takes_none_before_it_connects() -> None:
    """Otherwise all connections from one address, whatever servers they go to, share 28,000 ports."""
    with listening() as listener, Cancellation() as cancellation:
        for port, expected in ((0, 1), (refused_port(), 0)):
            addresses = [(socket.AF_INET, listener.getsockname())]
            stream = connect_tcp(addresses, soon(), cancellation, local_endpoint(HOST, port))
            assert stream._sock.getsockopt(socket.IPPROTO_IP, 24) == expected
            assert stream._sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1 - expected
            stream.close()


def test_deadline_can_be_moved() -> None:
    client, server = tcp_pair()
    with client, server, Cancellation() as cancellation:
        stream = DialStream(client, time.monotonic() - 1, cancellation)
        server.sendall(b"late")
        with pytest.raises(DeadlinePassed):
            stream.receive()
        stream.set_deadline(soon())
        assert stream.receive() == b"late"


def test_deadline_ends_connecting() -> None:
    with black_hole() as dead, Cancellation() as cancellation:
        addresses = [(socket.AF_INET, dead.getsockname())]
        with pytest.raises(DeadlinePassed):
            connect_tcp(addresses, time.monotonic() + SHORT, cancellation)
        with pytest.raises(DeadlinePassed):
            connect_tcp(addresses, time.monotonic() - 1, cancellation)


def test_cancel_ends_connecting() -> None:
    with black_hole() as dead, Cancellation() as cancellation:
        addresses = [(socket.AF_INET, dead.getsockname())]
        result = in_thread(lambda: connect_tcp(addresses, soon(), cancellation))
        cancellation.cancel()
        cancellation.cancel()
        with pytest.raises(Cancelled):
            result.result(BOUND)
    cancellation.cancel()


def test_cancel_wakes_a_wait_in_progress() -> None:
    """The byte in the socket pair, not the flag, does it: the flag is looked at before."""
    client, server = tcp_pair()
    with client, server, Cancellation() as cancellation:
        waiting = threading.Event()

        def wait() -> bool:
            waiting.set()
            return cancellation.wait(client, selectors.EVENT_READ, soon())

        result = in_thread(wait)
        assert waiting.wait(BOUND)
        cancellation.cancel()
        with pytest.raises(Cancelled):
            result.result(BOUND)


def test_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, Cancellation() as cancellation:
        listener.bind(path)
        with pytest.raises(ConnectionRefusedError):
            connect_unix(path, soon(), cancellation)
        listener.listen()
        listener.settimeout(BOUND)
        stream = connect_unix(path, soon(), cancellation)
        peer, _ = listener.accept()
        with peer:
            stream.send_all(b"hello")
            assert peer.recv(10) == b"hello"
        assert stream.receive() == b""
        stream.close()
        with pytest.raises(FileNotFoundError):
            connect_unix(path + "-not", soon(), cancellation)


def test_unix_socket_with_a_full_backlog(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with black_hole(socket.AF_UNIX, path) as listener, Cancellation() as cancellation:
        with pytest.raises(DeadlinePassed):
            connect_unix(path, time.monotonic() + SHORT, cancellation)
        result = in_thread(lambda: connect_unix(path, soon(), cancellation))
        with ExitStack() as stack:
            listener.settimeout(BOUND)
            for _ in range(2):
                stack.enter_context(listener.accept()[0])
            result.result(BOUND).close()


def test_unix_sockets_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(OSError, match="not available on this platform"):
        connect_unix("/x", soon(), Cancellation())


def test_given_socket_must_be_a_connected_stream() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagram, pytest.raises(OSError, match="no stream socket"):
        adopt(datagram, soon(), Cancellation())
    with socket.socket() as unconnected, pytest.raises(OSError, match="not connected"):
        adopt(unconnected, soon(), Cancellation())


@contextmanager
def dialled(seconds: float = BOUND) -> Iterator[tuple[DialStream, socket.socket, Cancellation]]:
    client, server = tcp_pair()
    with server, Cancellation() as cancellation:
        stream = adopt(client, time.monotonic() + seconds, cancellation)
        with closing(stream):
            yield stream, server, cancellation


def test_dialling_goes_on_with_a_renegotiation() -> None:
    with dialled() as (stream, peer, _):
        stream._session = Renegotiating()
        peer.sendall(b"hello")
        stream.send_all(b"data")
        assert peer.recv(10) == b"data"


def test_deadline_ends_reading_and_writing() -> None:
    with dialled(SHORT) as (stream, _, _):
        with pytest.raises(DeadlinePassed):
            stream.receive()
        with pytest.raises(DeadlinePassed):
            stream.send_all(bytes(50_000_000))


def test_cancel_ends_reading_and_writing() -> None:
    with dialled() as (stream, peer, cancellation):
        result = in_thread(lambda: stream.send_all(bytes(50_000_000)))
        assert peer.recv(1) == b"\0"
        cancellation.cancel()
        with pytest.raises(Cancelled):
            result.result(BOUND)
        with pytest.raises(Cancelled):
            stream.receive()


def test_hurry_only_ever_brings_the_deadline_nearer() -> None:
    with dialled() as (stream, _, _):
        stream.hurry(SHORT)
        with pytest.raises(DeadlinePassed):
            stream.receive()
        stream.hurry(BOUND)
        with pytest.raises(DeadlinePassed):
            stream.receive()


def test_tls_handshake_ends_at_the_deadline_and_by_cancel(tls: TLS) -> None:
    with dialled(SHORT) as (stream, _, _), pytest.raises(DeadlinePassed):
        stream.start_tls(tls.client, "localhost")
    with dialled() as (stream, peer, cancellation):
        result = in_thread(lambda: stream.start_tls(tls.client, "localhost"))
        assert peer.recv(1) == b"\x16", "the ClientHello"
        cancellation.cancel()
        with pytest.raises(Cancelled):
            result.result(BOUND)


def test_tls_alert_tells_the_server_why(tls: TLS) -> None:
    client, raw = tcp_pair()
    accepted = in_thread(lambda: tls.server.wrap_socket(raw, server_side=True))
    with pytest.raises(ssl.SSLCertVerificationError):
        tls_client(client, ssl.create_default_context())
    with raw, pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
        accepted.result(BOUND)


def test_dialling_speaks_tls_and_hands_on_what_is_buffered(tls: TLS) -> None:
    big = bytes(range(256)) * 400
    client, raw = tcp_pair()
    accepted = in_thread(lambda: tls.server.wrap_socket(raw, server_side=True))
    with Cancellation() as cancellation:
        stream = adopt(client, soon(), cancellation)
        stream.start_tls(tls.client, "localhost")
        server = accepted.result(BOUND)
        with server:
            reading = in_thread(lambda: read_until(server, big))
            stream.send_all(big)
            assert reading.result(BOUND) == big
            server.sendall(b"response" + bytes(20_000) + b"frames")
            begin = stream.receive()
            assert begin.startswith(b"response")
            transport = stream.into_transport(begin[8:])
            assert read_exactly(transport, 20_006) == bytes(20_000) + b"frames"
            transport.close()


def test_dialling_over_tls_ends_with_the_stream(tls: TLS) -> None:
    client, raw = tcp_pair()
    accepted = in_thread(lambda: tls.server.wrap_socket(raw, server_side=True))
    with Cancellation() as cancellation:
        stream = adopt(client, soon(), cancellation)
        stream.start_tls(tls.client, "localhost")
        accepted.result(BOUND).close()
        assert stream.receive() == b""
        stream.close()


def test_default_context_verifies_and_is_made_once() -> None:
    context = default_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert default_context() is context


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (OSError("plain"), "plain"),
        (OSError(), "OSError"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), "[SSL: WRONG_VERSION_NUMBER] x"),
        (ssl.SSLError(), "connection ended"),
    ],
)
def test_errors_in_words(error: OSError, text: str) -> None:
    assert describe(error) == text


def test_errors_of_tls_in_words() -> None:
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] x")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert describe(error) == "the server wants a client certificate (TLSV13_ALERT_CERTIFICATE_REQUIRED)"
    error.reason = "UNEXPECTED_EOF_WHILE_READING"
    assert describe(error).startswith("the server ended the connection; it may not speak TLS (")
    error.reason = "BAD_EXTENSION"
    assert describe(error) == "BAD_EXTENSION"
