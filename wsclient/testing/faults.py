"""``FaultServer``: a scripted WebSocket server for what no honest server does.

A script is a row of steps, one readable line each, run in order for one connection::

    with FaultServer(accept_upgrade(), send_text("hello"), stall()) as server:
        conn = wsclient.connect(server.url)

The server listens on 127.0.0.1, on a port that the system chose, and runs each connection's script in a
thread of its own. It shares no code with the client: its codec is written again, here, and checks what the
client sends. At the end of a script the server stops writing (FIN, no close frame), reads on until the client
has left too, then closes. A client that leaves ends the script quietly, unless a step still expected
something of it; that, and every other error in a script, is in ``FaultServer.errors``, raised by every wait
and at the end of ``with``.

Further steps are made with ``@step``::

    @step
    def send_count(peer: Peer) -> None:
        peer.send(encode_frame(TEXT, str(len(peer.record.received)).encode()))
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import http
import inspect
import itertools
import logging
import random
import reprlib
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypedDict

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "FaultServer",
    "Frame",
    "Peer",
    "Record",
    "ScriptError",
    "Step",
    "accept_upgrade",
    "black_hole",
    "close_then_reset",
    "cut",
    "delay_upgrade",
    "drip",
    "encode_frame",
    "endless_headers",
    "flood",
    "garbage",
    "http_response",
    "last_step",
    "no_close_reply",
    "read_frames",
    "read_messages",
    "read_until_close",
    "repeat",
    "reset",
    "send_binary",
    "send_close",
    "send_continuation",
    "send_frame",
    "send_ping",
    "send_pong",
    "send_raw",
    "send_text",
    "stall",
    "stall_after",
    "step",
    "stop_reading",
    "wait",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

Message = str | bytes
Headers = Mapping[str, str] | Iterable[tuple[str, str]]
P = ParamSpec("P")

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MASK = b"\x37\xfa\x21\x3d"
_HEAD_LIMIT = 65536
_READ_SIZE = 65536
_SLICE = 0.2  # seconds without progress after which a write counts as blocked
_EVENT_POLL = 0.02  # seconds; a thread cannot wait for two events, the script's and the server's end

_logger = logging.getLogger("wsclient.testing")


class ScriptError(AssertionError):
    """A script could not go on: the client broke RFC 6455, or did not do what the step expected."""


class _ClientLeft(Exception):
    """The client closed, reset or never finished its side; the script ends."""


class _Stopped(Exception):
    """The server is being stopped; the script ends."""


# --- codec: its own, so that a bug in the client's cannot hide behind the same bug here ---------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from the client, unmasked (RFC 6455, 5.2). ``rsv`` holds the reserved bits: 4 is RSV1."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    def __repr__(self) -> str:
        shown = repr(self.payload[:64]) + ("..." if len(self.payload) > 64 else "")
        return f"Frame(opcode={self.opcode}, payload={shown}, fin={self.fin}, rsv={self.rsv})"


class FrameOptions(TypedDict, total=False):
    """How a frame departs from an honest one; see ``encode_frame``."""

    fin: bool
    rsv: int
    masked: bool
    declared_length: int | None
    length_bytes: int | None


def encode_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = False,
    declared_length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """Encode one server frame, honest or not (RFC 6455, section 5.2).

    Args:
        opcode: 0 to 15, reserved ones too.
        payload: the bytes that follow the header.
        fin: whether this is the last frame of its message.
        rsv: the three reserved bits as a number; 4 is RSV1, 2 RSV2, 1 RSV3.
        masked: mask the payload, as only a client may.
        declared_length: the length in the header, in bytes, when it is not to be the payload's.
        length_bytes: size of the extended length: 0, 2 or 8; by default the smallest that fits.

    Raises:
        ValueError: a field does not fit its place in the header.
    """
    if not (0 <= opcode <= 15 and 0 <= rsv <= 7):
        raise ValueError(f"opcode {opcode} or rsv {rsv} does not fit its bits")
    length = len(payload) if declared_length is None else declared_length
    first = fin << 7 | rsv << 4 | opcode
    header = bytes([first]) + _encode_length(length, length_bytes, masked)
    return header + (_MASK + _mask(payload, _MASK) if masked else payload)


def _encode_length(length: int, size: int | None, masked: bool) -> bytes:
    if size is None:
        size = 0 if length < 126 else 2 if length < 65536 else 8
    limit = {0: 126, 2: 1 << 16, 8: 1 << 64}.get(size)
    if limit is None or not 0 <= length < limit:
        raise ValueError(f"length {length} does not fit length_bytes={size}")
    if size == 0:
        return bytes([masked << 7 | length])
    return bytes([masked << 7 | (126 if size == 2 else 127)]) + length.to_bytes(size, "big")


def _mask(payload: bytes, key: bytes) -> bytes:
    stream = key * (len(payload) // 4 + 1)
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stream[: len(payload)], "big")
    return mixed.to_bytes(len(payload), "big")


class _Decoder:
    """Client bytes in, frames out, unmasked. Not thread-safe."""

    def __init__(self) -> None:
        self._buffer = bytearray()  # the script's thread

    @property
    def leftover(self) -> int:
        """Bytes of a frame that has not come whole."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        self._buffer += data
        frames: list[Frame] = []
        start = 0
        while (found := self._frame_at(start)) is not None:
            frame, start = found
            frames.append(frame)
        del self._buffer[:start]
        return frames

    def _frame_at(self, start: int) -> tuple[Frame, int] | None:
        head = self._buffer[start : start + 14]
        if len(head) < 2:
            return None
        first, second = head[0], head[1]
        if not second & 0x80:
            raise ScriptError(f"the client sent an unmasked frame: {bytes(head)!r}")
        size = {126: 2, 127: 8}.get(second & 0x7F, 0)
        if len(head) < 2 + size + 4:
            return None
        length = int.from_bytes(head[2 : 2 + size], "big") if size else second & 0x7F
        body = start + 2 + size + 4
        if len(self._buffer) < body + length:
            return None
        payload = _mask(bytes(self._buffer[body : body + length]), bytes(head[2 + size : 6 + size]))
        return Frame(first & 15, payload, bool(first & 0x80), first >> 4 & 7), body + length


# --- what the client did ------------------------------------------------------------------------------------


class Record:
    """What one connection's client did. Any thread reads it, only the script's thread writes it.

    Attributes:
        target: request target of the upgrade, or ``""`` before it came.
        headers: request headers, names in lower case, repeated ones joined with ``", "``.
        close_code, close_reason: from the client's close frame; code 1005 if empty, ``None`` without one.
        message_count: how many whole messages came.
        bytes_sent, bytes_received: before and after TLS, upgrade included.
        leftover: bytes of a last frame that never came whole.
        blocked: the client has let no byte through for a while; a flood has filled every buffer on its way.
        ended: the script is done and its socket closed.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._decoder = _Decoder()  # the script's thread
        self._parts: list[bytes] = []  # the script's thread; fragments of an unfinished message
        self._kind = CONTINUATION  # the script's thread; opcode of that message, or CONTINUATION
        self._is_compressed = False  # the script's thread; whether that message is
        self._allowed_rsv = 0  # the script's thread
        # Written by the script's thread under _changed, each replaced or appended whole; read by any thread.
        self._frames: list[Frame] = []
        self._received: list[Message] = []
        self.target: str = ""
        self.headers: Mapping[str, str] = MappingProxyType({})
        self.close_code: int | None = None
        self.close_reason: str = ""
        self.message_count: int = 0
        self.bytes_sent: int = 0
        self.bytes_received: int = 0
        self.leftover: int = 0
        self.blocked: bool = False
        self.ended: bool = False

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Every whole frame, in order."""
        return tuple(self._frames)

    @property
    def received(self) -> tuple[Message, ...]:
        """Every whole message, in order: ``str`` for text, ``bytes`` for binary."""
        return tuple(self._received)

    def __str__(self) -> str:
        return (
            f"{'over' if self.ended else 'open'}, {self.message_count} messages, code {self.close_code},"
            f" {self.bytes_received} bytes in, {self.bytes_sent} bytes out"
        )

    def note_request(self, target: str, headers: Mapping[str, str]) -> None:
        """Keep the upgrade request. For the script's thread."""
        with self._changed:
            self.target, self.headers = target, MappingProxyType(dict(headers))
            self._changed.notify_all()

    def note_sent(self, count: int, *, blocked: bool) -> None:
        """Count bytes accepted by the kernel. For the script's thread."""
        with self._changed:
            self.bytes_sent += count
            self.blocked = blocked
            if blocked:
                self._changed.notify_all()

    def note_frames(self, data: bytes) -> list[Frame]:
        """Decode and keep what came in. For the script's thread.

        Raises:
            ScriptError: the client broke RFC 6455.
        """
        with self._changed:
            try:
                frames = self._decoder.feed(data)
                for frame in frames:
                    self._note_frame(frame)
            finally:
                self.leftover = self._decoder.leftover
                self._changed.notify_all()
            return frames

    def allow_compression(self) -> None:
        """Let the client set RSV1 (RFC 7692); such messages are kept compressed. For the script's thread."""
        self._allowed_rsv = 4

    def note_bytes(self, count: int) -> None:
        """Count bytes read. For the script's thread."""
        with self._changed:
            self.bytes_received += count

    def note_end(self) -> None:
        """The script is done. For the script's thread."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _note_frame(self, frame: Frame) -> None:
        self._frames.append(frame)
        if frame.rsv & ~self._allowed_rsv:
            raise ScriptError(f"the client set reserved bits: {frame}")
        if self.close_code is not None and frame.opcode <= CLOSE:
            raise ScriptError(f"the client sent a frame after its close frame: {frame}")
        if frame.opcode in (CONTINUATION, TEXT, BINARY):
            self._note_data(frame)
        elif frame.opcode == CLOSE:
            self._note_close(frame.payload)
        elif frame.opcode not in (PING, PONG):
            raise ScriptError(f"the client sent a reserved opcode: {frame}")
        if frame.opcode >= CLOSE and (len(frame.payload) > 125 or not frame.fin):
            raise ScriptError(f"the client sent a long or fragmented control frame: {frame}")

    def _note_data(self, frame: Frame) -> None:
        if (frame.opcode == CONTINUATION) == (self._kind == CONTINUATION):
            raise ScriptError(f"the client's fragments do not fit together: {frame}")
        if frame.opcode != CONTINUATION:
            self._kind, self._is_compressed = frame.opcode, bool(frame.rsv)
        self._parts.append(frame.payload)
        if frame.fin:
            payload = b"".join(self._parts)
            is_text = self._kind == TEXT and not self._is_compressed
            self._received.append(payload.decode() if is_text else payload)
            self.message_count += 1
            self._kind = CONTINUATION
            self._parts = []

    def _note_close(self, payload: bytes) -> None:
        if len(payload) == 1:
            raise ScriptError("the client sent a close frame of one byte")
        self.close_code = struct.unpack_from("!H", payload)[0] if payload else 1005
        self.close_reason = payload[2:].decode()


# --- one connection -----------------------------------------------------------------------------------------


class Peer:
    """The server's end of one connection: what steps are made of. Its methods are for the script's thread.

    Attributes:
        record: what the client did so far.
        close_sent: whether a close frame went out; a second one is never sent in answer.
    """

    def __init__(
        self,
        sock: socket.socket,
        record: Record,
        *,
        stopping: threading.Event,
        limit: float,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.record = record
        self.close_sent: bool = False  # the script's thread
        self._stopping = stopping
        self._limit = limit
        self._ssl_context = ssl_context  # the script's thread; None once TLS is up, or when there is none
        self._frames: deque[Frame] = deque()  # the script's thread; read and decoded, not yet looked at
        self._framed = False  # the script's thread; whether the request head has been read
        self._lock = threading.Lock()  # no interrupt() may meet a file number that was closed meanwhile
        self._sock = sock  # the script's thread replaces and closes it, under _lock
        sock.settimeout(_SLICE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # Reading

    def read_head(self) -> str:
        """Read the client's request head and keep it in the record.

        Raises:
            ScriptError: it is over 64 KiB, or no HTTP.
        """
        data = bytearray()
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > _HEAD_LIMIT:
                raise ScriptError("the client's request head is over 64 KiB")
            data += self._recv(_READ_SIZE)
        head = data[:end].decode("latin-1")
        self.record.note_request(*_parse_head(head))
        self._framed = True
        self._keep(bytes(data[end + 4 :]))
        return head

    def next_frame(self) -> Frame:
        """The next frame from the client; waits for it, at most the server's ``limit``."""
        while not self._frames:
            self.read_bytes(_READ_SIZE)
        return self._frames.popleft()

    def read_bytes(self, size: int) -> int:
        """Read at most ``size`` bytes, at least one, and keep the frames in them. Returns how many bytes."""
        data = self._recv(size)
        self._keep(data)
        return len(data)

    def answer(self, frame: Frame, *, pong: bool = True, reply: bool = True) -> None:
        """Do what an honest peer does with a frame: pong a ping, and return a close frame once."""
        if frame.opcode == PING and pong:
            self.send(encode_frame(PONG, frame.payload))
        elif frame.opcode == CLOSE and reply and not self.close_sent:
            self.send_close(frame.payload)

    def answer_waiting(self) -> bool:
        """Read and answer what has come already, without waiting. Returns whether a close frame was in it."""
        self._keep(self._recv_waiting())
        while self._frames:
            frame = self._frames.popleft()
            self.answer(frame)
            if frame.opcode == CLOSE:
                return True
        return False

    # Writing

    def send(self, data: bytes) -> None:
        """Send all of it; a client that does not read is waited for until it leaves or the server stops."""
        view = memoryview(data)
        while view:
            view = view[self._send_some(view) :]

    def send_close(self, payload: bytes) -> None:
        """Send a close frame with this payload, and remember it."""
        self.close_sent = True
        self.send(encode_frame(CLOSE, payload))

    def shrink_window(self, size: int = 4096) -> None:
        """Give the kernel's receive buffer ``size`` bytes, so that an unread client stalls soon."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    # Waiting and ending

    def pause(self, seconds: float) -> None:
        """Do nothing for so long."""
        if self._stopping.wait(seconds):
            raise _Stopped

    def wait(self, event: threading.Event) -> None:
        """Wait for an event of the test's, at most the server's ``limit``.

        Raises:
            ScriptError: the event was not set in time.
        """
        deadline = time.monotonic() + self._limit
        while not event.wait(_EVENT_POLL):
            if self._stopping.is_set():
                raise _Stopped
            if time.monotonic() > deadline:
                raise ScriptError(f"an event was not set within {self._limit} s")

    def stall(self) -> None:
        """Do nothing until the server stops."""
        self._stopping.wait()
        raise _Stopped

    def finish(self) -> None:
        """Stop writing (FIN), then read and record until the client leaves or is silent for ``limit``.

        Closing at once would turn the FIN into a RST whenever something of the client's is unread.
        """
        with self._lock:
            _shutdown(self._sock, socket.SHUT_WR)
        self.drain()

    def drain(self) -> None:
        """Record what the client still says, answering nothing, until it leaves."""
        try:
            while True:
                self.read_bytes(_READ_SIZE)
        except (_ClientLeft, _Stopped):
            return

    def reset(self) -> None:
        """End with RST instead of FIN."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        with self._lock:
            self._sock.close()

    def interrupt(self) -> None:
        """End every wait of the script's thread for the client. From any thread."""
        with self._lock:
            _shutdown(self._sock, socket.SHUT_RDWR)

    # The socket

    def _keep(self, data: bytes) -> None:
        if self._framed:
            self._frames.extend(self.record.note_frames(data))

    def _recv(self, size: int) -> bytes:
        self._start_tls()
        data = self._attempt(lambda: self._sock.recv(size))
        if not data:
            raise _ClientLeft("end of stream")
        self.record.note_bytes(len(data))
        return data

    def _recv_waiting(self) -> bytes:
        self._start_tls()
        self._sock.settimeout(0)
        try:
            return self._recv(_READ_SIZE)
        except BlockingIOError:
            return b""
        finally:
            self._sock.settimeout(_SLICE)

    def _attempt(self, call: Callable[[], bytes | None]) -> bytes | None:
        deadline = time.monotonic() + self._limit
        while time.monotonic() < deadline:
            self._check_stopping()
            try:
                return call()
            except TimeoutError:
                continue
            except (BlockingIOError, ssl.SSLWantReadError) as exc:
                raise BlockingIOError from exc
            except OSError as exc:
                raise _ClientLeft(str(exc)) from exc
        raise ScriptError(f"the client sent nothing for {self._limit} s")

    def _send_some(self, data: memoryview) -> int:
        self._start_tls()
        self._check_stopping()
        try:
            sent = self._sock.send(data)
        except TimeoutError:
            sent = 0
        except OSError as exc:
            raise _ClientLeft(str(exc)) from exc
        self.record.note_sent(sent, blocked=not sent)
        return sent

    def _start_tls(self) -> None:
        # As late as the first byte: a step that never answers must not have shaken hands either.
        if self._ssl_context is None:
            return
        context, self._ssl_context = self._ssl_context, None
        try:
            with self._lock:
                secure = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
                self._sock = secure
        except OSError as exc:
            raise _ClientLeft(str(exc)) from exc
        self._attempt(secure.do_handshake)

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise _Stopped


def _shutdown(sock: socket.socket, how: int) -> None:
    # Not SSLSocket.shutdown: it drops the TLS object, under the feet of a thread that is reading.
    try:
        socket.socket.shutdown(sock, how)
    except OSError:
        return  # never connected, already closed, or the client was faster


def _parse_head(head: str) -> tuple[str, dict[str, str]]:
    request, *lines = head.split("\r\n")
    parts = request.split(" ")
    if len(parts) != 3 or parts[0] != "GET" or parts[2] != "HTTP/1.1":
        raise ScriptError(f"the client's request line is {request!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ScriptError(f"the client sent a malformed header line {line!r}")
        key = name.lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return parts[1], headers


# --- steps --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One line of a script: an action with its arguments. Made by ``@step``.

    Attributes:
        last: nothing can follow it.
    """

    action: Callable[..., None]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    last: bool = False

    def __post_init__(self) -> None:
        inspect.signature(self.action).bind(None, *self.args, **self.kwargs)

    def __call__(self, peer: Peer) -> None:
        """Run it. On the connection's script thread."""
        self.action(peer, *self.args, **self.kwargs)

    def __repr__(self) -> str:
        given = [reprlib.repr(arg) for arg in self.args]
        given += [f"{name}={reprlib.repr(value)}" for name, value in self.kwargs.items()]
        return f"{self.action.__name__}({', '.join(given)})"


def step(action: Callable[Concatenate[Peer, P], None]) -> Callable[P, Step]:
    """Turn a function of a ``Peer`` into a maker of steps, called without that first argument.

    Wrong arguments are a ``TypeError`` where the script is written, not where it runs.
    """
    return _step_maker(action, last=False)


def last_step(action: Callable[Concatenate[Peer, P], None]) -> Callable[P, Step]:
    """The same for a step that ends its script: ``FaultServer`` refuses steps after it."""
    return _step_maker(action, last=True)


def _step_maker(action: Callable[Concatenate[Peer, P], None], *, last: bool) -> Callable[P, Step]:
    @functools.wraps(action)
    def make(*args: P.args, **kwargs: P.kwargs) -> Step:
        return Step(action, args, kwargs, last)

    return make


# The upgrade


@step
def accept_upgrade(
    peer: Peer,
    headers: Headers = (),
    *,
    wrong_key: bool = False,
    without: Sequence[str] = (),
) -> None:
    """Answer the upgrade (RFC 6455, section 4.2.2).

    Args:
        headers: more headers, or other values for the usual ones.
        wrong_key: answer with the accept key of another request.
        without: names of usual headers to leave out.
    """
    peer.read_head()
    _accept(peer, headers, wrong_key, without)


def _accept(peer: Peer, headers: Headers, wrong_key: bool = False, without: Sequence[str] = ()) -> None:
    key = "wrong" if wrong_key else peer.record.headers.get("sec-websocket-key", "")
    usual = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": _accept_key(key)}
    more = list(_pairs(headers))
    replaced = {name.lower() for name, _ in more} | {name.lower() for name in without}
    kept = [pair for pair in usual.items() if pair[0].lower() not in replaced]
    if "sec-websocket-extensions" in replaced:
        peer.record.allow_compression()
    peer.send(_encode_head(101, [*kept, *more]))


@step
def delay_upgrade(peer: Peer, until: threading.Event | float, headers: Headers = ()) -> None:
    """Read the request at once, and accept it when the event is set, or after so many seconds."""
    peer.read_head()
    _wait_for(peer, until)
    _accept(peer, headers)


@step
def http_response(
    peer: Peer, status: int, headers: Headers = (), body: bytes = b"", *, reason: str | None = None
) -> None:
    """Answer the request with this status; ``Content-Length`` is added unless ``headers`` has it."""
    peer.read_head()
    pairs = list(_pairs(headers))
    if not any(name.lower() == "content-length" for name, _ in pairs):
        pairs.append(("Content-Length", str(len(body))))
    peer.send(_encode_head(status, pairs, reason) + body)


@step
def endless_headers(peer: Peer) -> None:
    """Accept the upgrade with headers that never end."""
    peer.read_head()
    peer.send(_encode_head(101, [("Upgrade", "websocket"), ("Connection", "Upgrade")])[:-2])
    while True:
        peer.send(b"X-Filler: " + b"a" * 1000 + b"\r\n")


@last_step
def black_hole(peer: Peer) -> None:
    """Accept the TCP connection and never answer; with TLS, not even the handshake."""
    peer.stall()


def _accept_key(key: str) -> str:
    digest = hashlib.sha1((key + _GUID).encode("latin-1"), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _pairs(headers: Headers) -> Iterable[tuple[str, str]]:
    return headers.items() if isinstance(headers, Mapping) else headers


def _encode_head(status: int, headers: Iterable[tuple[str, str]], reason: str | None = None) -> bytes:
    phrase = _phrase(status) if reason is None else reason
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unassigned"


# Writing


@step
def send_raw(peer: Peer, data: bytes) -> None:
    """Send these bytes as they are."""
    peer.send(data)


@step
def send_frame(peer: Peer, opcode: int, payload: bytes = b"", **options: Unpack[FrameOptions]) -> None:
    """Send one frame of any opcode; for the options see ``encode_frame``."""
    peer.send(encode_frame(opcode, payload, **options))


@step
def send_text(peer: Peer, text: str | bytes, **options: Unpack[FrameOptions]) -> None:
    """Send a text frame; ``bytes`` need not be UTF-8."""
    peer.send(encode_frame(TEXT, text.encode() if isinstance(text, str) else text, **options))


@step
def send_binary(peer: Peer, data: bytes, **options: Unpack[FrameOptions]) -> None:
    """Send a binary frame."""
    peer.send(encode_frame(BINARY, data, **options))


@step
def send_continuation(peer: Peer, data: bytes, **options: Unpack[FrameOptions]) -> None:
    """Send a continuation frame, whether something began or not."""
    peer.send(encode_frame(CONTINUATION, data, **options))


@step
def send_ping(peer: Peer, payload: bytes = b"", **options: Unpack[FrameOptions]) -> None:
    """Send a ping."""
    peer.send(encode_frame(PING, payload, **options))


@step
def send_pong(peer: Peer, payload: bytes = b"", **options: Unpack[FrameOptions]) -> None:
    """Send a pong, asked for or not."""
    peer.send(encode_frame(PONG, payload, **options))


@step
def send_close(
    peer: Peer, code: int | None = 1000, reason: str | bytes = "", **options: Unpack[FrameOptions]
) -> None:
    """Send a close frame with any code from 0 to 65535, or an empty one (``None``). Awaits no answer."""
    text = reason.encode() if isinstance(reason, str) else reason
    peer.close_sent = True
    payload = b"" if code is None else struct.pack("!H", code) + text
    peer.send(encode_frame(CLOSE, payload, **options))


@step
def drip(peer: Peer, data: bytes, interval: float) -> None:
    """Send one byte every ``interval`` seconds."""
    for byte in data:
        peer.send(bytes([byte]))
        peer.pause(interval)


@step
def garbage(peer: Peer, size: int, seed: int) -> None:
    """Send ``size`` random bytes, the same ones for the same seed."""
    peer.send(random.Random(seed).randbytes(size))


@step
def flood(
    peer: Peer,
    payload: Message | Callable[[int], Message],
    *,
    count: int | None = None,
    read: bool = True,
) -> None:
    """Send messages as fast as they are taken, until the client closes or leaves, or the server stops.

    Args:
        payload: the message, or a function from its number (0, 1, ...) to it.
        count: stop after so many.
        read: read and answer the client between messages; ``False`` ignores all it says.
    """
    for number in _numbers(count):
        if read and peer.answer_waiting():
            return
        message = payload(number) if callable(payload) else payload
        opcode, data = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        peer.send(encode_frame(opcode, data))


@step
def repeat(peer: Peer, repeated: Step, *, count: int | None = None, read: bool = True) -> None:
    """Run another step again and again; ends as ``flood`` does."""
    for _ in _numbers(count):
        if read and peer.answer_waiting():
            return
        repeated(peer)


def _numbers(count: int | None) -> Iterator[int]:
    return itertools.count() if count is None else iter(range(count))


# Reading


@step
def read_frames(peer: Peer, count: int, *, pong: bool = True, reply: bool = True) -> None:
    """Read so many frames of any kind, answering pings and a close frame unless told otherwise."""
    for number in range(count):
        peer.answer(_expect(peer, f"{number} of {count} frames"), pong=pong, reply=reply)


@step
def read_messages(peer: Peer, count: int, *, pong: bool = True) -> None:
    """Read so many whole messages, answering pings unless told otherwise."""
    number = 0
    while number < count:
        frame = _expect(peer, f"{number} of {count} messages")
        peer.answer(frame, pong=pong)
        number += frame.fin and frame.opcode < CLOSE


@step
def read_until_close(peer: Peer, *, pong: bool = True, reply: bool = True) -> None:
    """Read until the client's close frame, answering it and pings unless told otherwise."""
    frame = peer.next_frame()
    while frame.opcode != CLOSE:
        peer.answer(frame, pong=pong)
        frame = peer.next_frame()
    peer.answer(frame, reply=reply)


@last_step
def no_close_reply(peer: Peer, *, pong: bool = True) -> None:
    """Read everything, answer pings unless told otherwise, but no close frame; never end the connection."""
    while True:
        peer.answer(peer.next_frame(), pong=pong, reply=False)


@last_step
def stop_reading(peer: Peer) -> None:
    """Never read again, with the smallest receive buffer the kernel gives."""
    peer.shrink_window()
    peer.stall()


@last_step
def stall_after(peer: Peer, size: int) -> None:
    """Read ``size`` bytes of frames, answering nothing, then never read again."""
    while size > 0:
        size -= peer.read_bytes(size)
    peer.shrink_window()
    peer.stall()


def _expect(peer: Peer, progress: str) -> Frame:
    try:
        return peer.next_frame()
    except _ClientLeft as exc:
        raise ScriptError(f"the client left after {progress}: {exc}") from exc


# Waiting and ending


@step
def wait(peer: Peer, until: threading.Event | float) -> None:
    """Wait for an event of the test's, or for so many seconds."""
    _wait_for(peer, until)


@last_step
def stall(peer: Peer) -> None:
    """Neither read nor write until the server stops: a peer that has vanished."""
    peer.stall()


@last_step
def cut(peer: Peer) -> None:
    """End the stream now, without a close frame, in mid-frame if a step before left it there."""
    peer.finish()


@last_step
def reset(peer: Peer) -> None:
    """End the connection now with RST."""
    peer.reset()


@last_step
def close_then_reset(peer: Peer, code: int = 1000, reason: str = "") -> None:
    """Send a close frame, then RST instead of waiting for the answer."""
    send_close(code, reason)(peer)
    peer.reset()


def _wait_for(peer: Peer, until: threading.Event | float) -> None:
    if isinstance(until, threading.Event):
        peer.wait(until)
    else:
        peer.pause(until)


# --- the server ---------------------------------------------------------------------------------------------

Script = Sequence[Callable[[Peer], None]]


class FaultServer:
    """A scripted server on 127.0.0.1, for ``with``. Everything may be called and read from any thread.

    Args:
        steps: the script of every connection.
        scripts: instead of ``steps``, one script for each connection in turn; the last one repeats.
        ssl_context: serve ``wss`` with this context.
        hostname: the host in ``url``; the certificate's, say.
        limit: the longest a single step waits for the client or an event, in seconds.
        receive_buffer, send_buffer: bytes for the kernel's buffers of each connection (the kernel rounds).

    Raises:
        ValueError: no script, or a step after one that ends its script.
    """

    def __init__(
        self,
        *steps: Callable[[Peer], None],
        scripts: Sequence[Script] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        hostname: str = "127.0.0.1",
        limit: float = 30.0,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
    ) -> None:
        self._scripts = _checked_scripts(steps, scripts)
        self._ssl_context = ssl_context
        self._hostname = hostname
        self._limit = limit
        self._buffers = {socket.SO_RCVBUF: receive_buffer, socket.SO_SNDBUF: send_buffer}
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._errors: list[Exception] = []  # under _changed
        self._records: list[Record] = []  # under _changed
        self._peers: list[Peer] = []  # the accepting thread; stop() after that thread has ended
        self._threads: list[threading.Thread] = []  # the same
        self._listener: socket.socket | None = None  # start() and stop(): the thread that owns the server
        self._acceptor: threading.Thread | None = None  # the same

    # Life

    def start(self) -> None:
        """Listen. Once only; ``with`` does it."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for option, size in self._buffers.items():
            if size is not None:  # on the listener, as a window is agreed on before accept() returns
                listener.setsockopt(socket.SOL_SOCKET, option, size)
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        self._listener = listener
        name = "fault-server"
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), name=name, daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """End every connection and join every thread. Idempotent; ``with`` does it.

        Raises:
            ScriptError: a step of the test's own did not end.
        """
        self._stopping.set()
        listener, self._listener = self._listener, None
        if listener is None or self._acceptor is None:
            return
        self._wake(listener)
        self._acceptor.join(self._limit)
        listener.close()
        for peer in self._peers:
            peer.interrupt()
        for thread in self._threads:
            thread.join(self._limit)
            if thread.is_alive():
                raise ScriptError(f"{thread.name} did not end: a step waits for something of its own")

    def __enter__(self) -> FaultServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if exc is None:
            self._raise_error()

    # What the client did

    @property
    def port(self) -> int:
        """The port. Raises ``RuntimeError`` when the server does not run."""
        if self._listener is None:
            raise RuntimeError("the server does not run")
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """``ws://`` or ``wss://`` URL of the server."""
        scheme = "wss" if self._ssl_context else "ws"
        return f"{scheme}://{self._hostname}:{self.port}/"

    @property
    def connections(self) -> tuple[Record, ...]:
        """One record for each connection accepted so far, in order."""
        with self._changed:
            return tuple(self._records)

    @property
    def received(self) -> list[Message]:
        """Every whole message, connection by connection."""
        return [message for record in self.connections for message in record.received]

    @property
    def frames(self) -> list[Frame]:
        """Every whole frame, connection by connection."""
        return [frame for record in self.connections for frame in record.frames]

    @property
    def close_code(self) -> int | None:
        """Code in the close frame of the latest connection's client; ``None`` as long as there was none."""
        return self.connections[-1].close_code if self.connections else None

    @property
    def close_reason(self) -> str:
        """Reason in that close frame."""
        return self.connections[-1].close_reason if self.connections else ""

    @property
    def errors(self) -> tuple[Exception, ...]:
        """Errors of the scripts so far."""
        with self._changed:
            return tuple(self._errors)

    def take_errors(self) -> tuple[Exception, ...]:
        """The errors so far, which are then not raised at the end: the test expected them."""
        with self._changed:
            errors, self._errors = tuple(self._errors), []
            return errors

    # Waiting

    def wait_for_connections(self, count: int, timeout: float = 10.0) -> None:
        """Wait until so many connections were accepted. Raises as ``wait_for_messages``."""
        self._wait(lambda: len(self._records) >= count, f"{count} connections", timeout)

    def wait_for_messages(self, count: int, timeout: float = 10.0) -> list[Message]:
        """Wait until ``count`` messages have come, over all connections, and return all that have.

        Raises:
            TimeoutError: they did not within ``timeout`` seconds; the text says what came instead.
            ScriptError: a script failed.
        """
        self._wait(lambda: self._message_count() >= count, f"{count} messages", timeout)
        return self.received

    def wait_closed(self, timeout: float = 10.0) -> None:
        """Wait until every connection accepted so far, at least one, is over and its script done.

        A script that stalls is never done. Raises as ``wait_for_messages``.
        """
        self._wait(
            lambda: bool(self._records) and all(record.ended for record in self._records),
            "the end of every connection",
            timeout,
        )

    def wait_blocked(self, timeout: float = 10.0) -> None:
        """Wait until a write of the latest connection's script makes no progress: the client does not read.

        Raises as ``wait_for_messages``.
        """
        self._wait(lambda: bool(self._records) and self._records[-1].blocked, "a write that blocks", timeout)

    def assert_received(self, expected: Sequence[Message], timeout: float = 10.0) -> None:
        """Wait for as many messages as expected, and compare.

        Raises:
            AssertionError: they differ; the text says where first.
        """
        received = self.wait_for_messages(len(expected), timeout)
        for number, (got, wanted) in enumerate(itertools.zip_longest(received, expected)):
            if got != wanted:
                raise AssertionError(f"message {number} is {got!r}, expected {wanted!r}")

    def _message_count(self) -> int:
        return sum(record.message_count for record in self._records)

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        with self._changed:
            met = self._changed.wait_for(lambda: self._errors or condition(), timeout)
            self._raise_error()
            if met:
                return
            states = [str(record) for record in self._records]
        raise TimeoutError(f"waited {timeout} s for {what}; connections: {states or 'none'}")

    # Threads

    def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, _ = listener.accept()
            if self._stopping.is_set():
                sock.close()
                return
            self._serve(sock, len(self._peers))

    def _serve(self, sock: socket.socket, number: int) -> None:
        record = Record(self._changed)
        peer = Peer(sock, record, stopping=self._stopping, limit=self._limit, ssl_context=self._ssl_context)
        script = self._scripts[min(number, len(self._scripts) - 1)]
        name = f"fault-server-{number}"
        thread = threading.Thread(target=self._run, args=(script, peer), name=name, daemon=True)
        self._peers.append(peer)
        self._threads.append(thread)
        with self._changed:
            self._records.append(record)
            self._changed.notify_all()
        thread.start()

    def _run(self, script: Script, peer: Peer) -> None:
        try:
            self._run_steps(script, peer)
        finally:
            peer.close()
            peer.record.note_end()

    def _run_steps(self, script: Script, peer: Peer) -> None:
        current: object = "the start"
        try:
            # What the client said before it left is still to be read, hence finish() in any case.
            with contextlib.suppress(_ClientLeft):
                for current in script:
                    current(peer)
            peer.finish()
        except _Stopped:
            return
        except Exception as exc:
            self._note_error(current, exc)

    def _note_error(self, current: object, exc: Exception) -> None:
        error = ScriptError(f"{current!r}: {exc!r}")
        error.__cause__ = exc
        _logger.error("script failed at %r", current, exc_info=exc)
        with self._changed:
            self._errors.append(error)
            self._changed.notify_all()

    def _raise_error(self) -> None:
        errors = self.errors
        if errors:
            raise errors[0]

    def _wake(self, listener: socket.socket) -> None:
        # Neither shutdown() nor close() of a listener ends accept() on every system; a connection does.
        with socket.create_connection(listener.getsockname(), timeout=self._limit):
            pass


def _checked_scripts(steps: Script, scripts: Sequence[Script] | None) -> tuple[Script, ...]:
    if steps and scripts:
        raise ValueError("give steps or scripts, not both")
    checked = tuple(tuple(script) for script in scripts) if scripts else (steps,)
    for script in checked:
        if not script:
            raise ValueError("a script needs at least one step")
        for early in script[:-1]:
            if isinstance(early, Step) and early.last:
                raise ValueError(f"{early!r} ends its script; no step can follow it")
    return checked
