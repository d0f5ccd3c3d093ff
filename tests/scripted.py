"""Servers and proxies that follow a script over a real socket, and dials that meet them."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import HOST

from wsclient.exceptions import ConnectFailed, HandshakeError, HandshakeTimeout
from wsclient.handshake import Dial, Step, Upgraded
from wsclient.options import Options
from wsclient.transport import Transport


def _has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


BOUND = 10.0  # seconds; nothing here takes nearly that long
SHORT = 0.2  # seconds; a deadline that is meant to pass
SECRET = "s3cr3t"
needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


# -- scripted servers ---------------------------------------------------------------------------------


class Peer:
    """The server's end of one connection. Every wait is bounded by the socket's time-out."""

    def __init__(self, sock: socket.socket, requests: list[str]) -> None:
        self.sock = sock
        self.requests = requests

    def read_request(self) -> str:
        """Read a request head and remember it."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = self.sock.recv(65536)
            assert data, "the client left in the middle of its request"
            head += data
        self.requests.append(head.decode())
        return self.requests[-1]

    def accept_upgrade(self, *more: str, behind: bytes = b"") -> None:
        """Answer as a WebSocket server does."""
        key = header(self.read_request(), "Sec-WebSocket-Key")
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Accept: {accept}", *more, "", ""]
        self.send("\r\n".join(lines).encode() + behind)

    def answer(self, *lines: str, body: bytes = b"") -> None:
        """Read the request and answer with these lines."""
        self.read_request()
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, size: int) -> bytes:
        """Read exactly so much."""
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            assert more, "the client left too early"
            data += more
        return data

    def read_until_nul(self) -> bytes:
        return b"".join(iter(lambda: self.read(1), b"\0"))

    def wait_until_left(self) -> None:
        """Read until the client is gone."""
        with suppress(ConnectionResetError):
            while self.sock.recv(65536):
                pass


Script = Callable[[Peer], None]


class ScriptedServer:
    """Serves one script per connection, in order, in a thread."""

    def __init__(
        self, scripts: tuple[Script, ...], listener: socket.socket, tls: ssl.SSLContext | None
    ) -> None:
        self.requests: list[str] = []
        self.host = "[::1]" if listener.family == socket.AF_INET6 else "localhost"
        self.port = 0 if listener.family == socket.AF_UNIX else int(listener.getsockname()[1])
        self._stopping = threading.Event()
        self._scripts = scripts
        self._listener = listener
        self._tls = tls
        self._done: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="scripted-server")

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://{self.authority}"

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(BOUND)
        self._listener.close()
        if kind is None:
            self._done.result(0)

    def _run(self) -> None:
        try:
            for script in self._scripts:
                self._serve(script)
            self._done.set_result(None)
        except BaseException as error:
            self._done.set_exception(error)

    def _serve(self, script: Script) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            assert self._stopping.is_set(), "nobody connected"
            return
        sock.settimeout(BOUND)
        with sock:
            if self._tls is None:
                script(Peer(sock, self.requests))
                return
            with self._tls.wrap_socket(sock, server_side=True) as wrapped:
                script(Peer(wrapped, self.requests))


def serving(*scripts: Script, tls: ssl.SSLContext | None = None, host: str = HOST) -> ScriptedServer:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    listener.settimeout(BOUND)
    return ScriptedServer(scripts, listener, tls)


def upgrade(*more: str, behind: bytes = b"") -> Script:
    return lambda peer: peer.accept_upgrade(*more, behind=behind)


def answer(*lines: str, body: bytes = b"") -> Script:
    return lambda peer: peer.answer(*lines, body=body)


def redirect(location: str, status: int = 302) -> Script:
    return answer(f"HTTP/1.1 {status} Found", f"Location: {location}", "Content-Length: 0")


def silent(peer: Peer) -> None:
    peer.wait_until_left()


def hang_up(_: Peer) -> None:
    """Accept the connection, and end it."""


def silent_after_request(peer: Peer) -> None:
    peer.read_request()
    peer.wait_until_left()


def header(request: str, name: str) -> str:
    (value,) = headers(request, name)
    return value


def headers(request: str, name: str) -> list[str]:
    return re.findall(rf"(?im)^{name}: (.*)\r$", request)


# -- proxies ------------------------------------------------------------------------------------------


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def relay(peer: Peer, server: socket.socket) -> None:
    back = threading.Thread(target=pump, args=(server, peer.sock), name="proxy")
    back.start()
    pump(peer.sock, server)
    back.join(BOUND)


def http_tunnel(peer: Peer) -> None:
    """What an HTTP proxy does with CONNECT."""
    host, port = peer.read_request().split()[1].rsplit(":", 1)
    with socket.create_connection((host.strip("[]"), int(port)), timeout=BOUND) as server:
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        relay(peer, server)


@dataclass(frozen=True)
class SocksTunnel:
    """A script: what a SOCKS proxy of any version does. Each request is remembered in words.

    Attributes:
        login: user name and password that it insists on.
        bound: the address in its answer (SOCKS5), with the type before it.
        drip: sends byte by byte.
        blocked: refuses whatever it is asked for.
    """

    login: tuple[str, str] | None = None
    bound: bytes = b"\x01\x7f\0\0\x01"
    drip: bool = False
    blocked: bool = False

    def __call__(self, peer: Peer) -> None:
        version = peer.read(1)[0]
        if version == 5:
            self._let_in(peer)
        kind, host, port = self._read_4(peer) if version == 4 else self._read_5(peer)
        peer.requests.append(f"{kind} {host} {port}")
        granted, refused = (b"\0\x5a", b"\0\x5b") if version == 4 else (b"\x05\0\0", b"\x05\x05\0")
        rest = bytes(6) if version == 4 else self.bound + b"\0\0"
        try:
            if self.blocked:
                raise PermissionError
            server = socket.create_connection((host, port), timeout=BOUND)
        except OSError:
            self._send(peer, refused + rest)
            return
        with server:
            self._send(peer, granted + rest)
            relay(peer, server)

    def _send(self, peer: Peer, data: bytes) -> None:
        for piece in [data[n : n + 1] for n in range(len(data))] if self.drip else [data]:
            peer.send(piece)

    def _let_in(self, peer: Peer) -> None:
        methods = peer.read(peer.read(1)[0])
        if self.login is None:
            self._send(peer, b"\x05\0")
            return
        assert b"\x02" in methods, "it has no user name and password to give"
        self._send(peer, b"\x05\x02")
        assert peer.read(1) == b"\x01"
        login = tuple(peer.read(peer.read(1)[0]).decode() for _ in range(2))
        assert login == self.login
        self._send(peer, b"\x01\0")

    def _read_4(self, peer: Peer) -> tuple[str, str, int]:
        assert peer.read(1) == b"\x01"
        port = int.from_bytes(peer.read(2), "big")
        address = peer.read(4)
        user = peer.read_until_nul().decode()
        if self.login:
            assert (user, "") == self.login
        if address[:3] == bytes(3) and address[3]:
            return "name", peer.read_until_nul().decode(), port
        return "IPv4", socket.inet_ntoa(address), port

    def _read_5(self, peer: Peer) -> tuple[str, str, int]:
        assert peer.read(3) == b"\x05\x01\0"
        kind = peer.read(1)[0]
        if kind == 1:
            name, host = "IPv4", socket.inet_ntop(socket.AF_INET, peer.read(4))
        elif kind == 4:
            name, host = "IPv6", socket.inet_ntop(socket.AF_INET6, peer.read(16))
        else:
            name, host = "name", peer.read(peer.read(1)[0]).decode()
        return name, host, int.from_bytes(peer.read(2), "big")


# -- dialling -----------------------------------------------------------------------------------------


def dial(url: str, seconds: float = BOUND, **options: Any) -> Upgraded:
    options.setdefault("proxy", None)
    return Dial(url, Options(**options)).run(time.monotonic() + seconds)


def dial_and_close(url: str, **options: Any) -> Upgraded:
    upgraded = dial(url, **options)
    upgraded.transport.close()
    return upgraded


def failure(url: str, seconds: float = BOUND, **options: Any) -> HandshakeError:
    """The error of a dial that must fail."""
    with pytest.raises(HandshakeError) as caught:
        dial(url, seconds, **options)
    return caught.value


def read_exactly(transport: Transport, size: int) -> bytes:
    received = b""
    while len(received) < size:
        buffer = bytearray(size - len(received))
        count = transport.recv_into(memoryview(buffer))
        assert count, "the stream ended early"
        received += buffer[:count]
    return received


HELLO = b"\x81\x85\0\0\0\0hello"  # a masked text frame; the mask is zero
HELLO_BACK = b"\x81\x05hello"


def assert_echoes(upgraded: Upgraded) -> None:
    """The upgraded stream carries frames; then the peer is told goodbye."""
    transport = upgraded.transport
    transport.own_writes()
    assert transport.send(memoryview(HELLO), BOUND) == len(HELLO)
    assert read_exactly(transport, len(HELLO_BACK)) == HELLO_BACK
    transport.send(memoryview(b"\x88\x80\0\0\0\0"), BOUND)
    assert read_exactly(transport, 2) == b"\x88\x00"
    transport.close()


@contextmanager
def black_hole() -> Iterator[str]:
    """The URL of a listener with a full backlog: a connection attempt to it gets no answer."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HOST, 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"ws://{HOST}:{listener.getsockname()[1]}/"


def assert_timed_out(error: HandshakeError, step: Step) -> None:
    assert isinstance(error, HandshakeTimeout)
    assert isinstance(error, TimeoutError)
    assert f"not open within {SHORT:g} s: during {step.value}" in str(error)


@contextmanager
def dialling(url: str, seconds: float = BOUND, **options: Any) -> Iterator[tuple[Dial, Future[Upgraded]]]:
    options.setdefault("proxy", None)
    attempt = Dial(url, Options(**options))
    result: Future[Upgraded] = Future()

    def run() -> None:
        try:
            result.set_result(attempt.run(time.monotonic() + seconds))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, name="dialler")
    thread.start()
    yield attempt, result
    thread.join(BOUND)


def assert_cancelled(result: Future[Upgraded], step: Step) -> None:
    with pytest.raises(ConnectFailed, match=f"cancelled during {step.value}( |$)") as caught:
        result.result(BOUND)
    assert not isinstance(caught.value, HandshakeTimeout)
