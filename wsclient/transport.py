"""The byte stream under a connection: TCP, Unix sockets and TLS. The only importer of socket, ssl, selectors.

Two halves. While a connection is being opened, one thread drives a `DialStream`: the socket does not block,
every wait is bounded by one deadline and ends at once when another thread cancels. Afterwards a `Transport`
serves exactly one reading and one writing thread, and any thread may shut it down.

TLS runs over memory (``ssl.MemoryBIO``): the socket is read and written outside of TLS, by the same code as
without it, and the TLS state is touched only under a lock that nobody holds while waiting. An ``SSLSocket``
shared by two threads fails under two-way load, blocking ones deadlock on some versions of Python, and each
of its reads costs two system calls a record where this costs one for as many records as have come.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import selectors
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from wsclient.exceptions import ConcurrentWriteError

__all__ = ["Cancellation", "Cancelled", "DeadlinePassed", "DialStream", "Transport"]

T = TypeVar("T")
Address: TypeAlias = tuple[Any, ...]
Resolved: TypeAlias = tuple[int, Address]  # address family and socket address
SocketOption: TypeAlias = "tuple[int, int, int | bytes]"  # arguments of setsockopt

# Without MSG_NOSIGNAL a program that restored SIGPIPE's default would die of a lost connection.
_SEND_FLAGS: Final[int] = getattr(socket, "MSG_NOSIGNAL", 0) | getattr(socket, "MSG_DONTWAIT", 0)
_CAN_SEND_WITHOUT_WAITING: Final = hasattr(socket, "MSG_DONTWAIT")
# poll takes any file number, select none over 1023; Windows has only select, and no such limit.
_Selector: Final[type[selectors.BaseSelector]] = getattr(selectors, "PollSelector", selectors.SelectSelector)

_BIND_ADDRESS_NO_PORT: Final = 24  # of Linux; socket has it since Python 3.12

_RECORD: Final = 16 * 1024  # largest TLS record, RFC 8446, section 5.1
_TLS_BATCH: Final = 16 * _RECORD  # encrypted at once, so that one system call carries it
_DIAL_READ: Final = 16 * 1024
_BUSY_RETRY: Final = 0.01  # seconds between tries while a Unix socket's backlog is full

# Verification codes of OpenSSL (x509_vfy.h) in words that tell the user which it was.
_CERTIFICATE_FAULTS: Final = MappingProxyType(
    {
        9: "certificate is not yet valid",
        10: "certificate has expired",
        18: "certificate is self-signed",
        19: "certificate chain is self-signed by an unknown CA",
        20: "certificate is from an unknown CA",
        21: "certificate is from an unknown CA",
        62: "certificate is for another host",
        64: "certificate is for another IP address",
    }
)


# What other failures of TLS mean to the user, by the names that OpenSSL has for them.
_TLS_FAULTS: Final = MappingProxyType(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE": "the server refused the client certificate",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the server refused the client certificate: it has expired",
        "SSLV3_ALERT_CERTIFICATE_REVOKED": "the server refused the client certificate: it is revoked",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the server refused the client certificate",
        "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refused; it may want a client certificate",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a client certificate",
        "TLSV1_ALERT_PROTOCOL_VERSION": "the server refused the version of TLS",
        "TLSV1_ALERT_UNKNOWN_CA": "the server refused the client certificate: it is from an unknown CA",
        "UNEXPECTED_EOF_WHILE_READING": "the server ended the connection; it may not speak TLS",
        "WRONG_VERSION_NUMBER": "the server's answer is not TLS",
    }
)


class DeadlinePassed(Exception):
    """The deadline of a dial came before the step was done. Not an ``OSError``: those get translated."""


class Cancelled(Exception):
    """Another thread cancelled the dial."""


def describe(error: BaseException) -> str:
    """What went wrong at the operating system or in TLS, in words that hold no secret."""
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = _CERTIFICATE_FAULTS.get(error.verify_code, "certificate verification failed")
        return f"{fault} ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        reason = str(getattr(error, "reason", None) or error.strerror or "connection ended")
        return f"{_TLS_FAULTS[reason]} ({reason})" if reason in _TLS_FAULTS else reason
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    return str(error) or type(error).__name__


def is_refused_certificate(error: BaseException) -> bool:
    """Whether an attempt failed because the server's certificate was refused: trying again cannot help."""
    return isinstance(error.__cause__, ssl.SSLCertVerificationError)


@functools.cache
def default_context() -> ssl.SSLContext:
    """Verified defaults. One for all connections: each would cost 20 ms and the memory of all authorities."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _ready(sock: socket.socket, event: int, timeout: float | None) -> bool:
    with _Selector() as selector:
        selector.register(sock, event)
        return bool(selector.select(timeout))


class Cancellation:
    """Ends a dial from another thread.

    A byte through a socket pair wakes the dialling thread, which alone ever closes the sockets of the dial:
    no file number is closed under a thread that still uses it. Name resolution can't be woken; it is
    noticed to be over when it returns.
    """

    def __init__(self) -> None:
        # Reentrant, because a signal handler may cancel while the interrupted code holds it.
        self._lock = threading.RLock()
        self._cancelled = False  # under _lock; once True, for good
        self._pair: tuple[socket.socket, socket.socket] | None = None  # dialling thread, under _lock

    def cancel(self) -> None:
        """Make every step of the dial raise `Cancelled` from now on. Any thread; idempotent; never waits."""
        with self._lock:
            first, self._cancelled = not self._cancelled, True
            if first and self._pair is not None:
                self._pair[1].send(b"\0")

    def check(self) -> None:
        """Raise `Cancelled` if cancelled."""
        if self._cancelled:
            raise Cancelled

    def __enter__(self) -> Cancellation:
        pair = socket.socketpair()
        with self._lock:
            self._pair = pair
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            pair, self._pair = self._pair, None
        for sock in pair or ():
            sock.close()

    def wait(self, sock: socket.socket, event: int, until: float) -> bool:
        """Wait until ``sock`` is ready for ``event``; ``False`` when the clock says ``until`` before that."""
        return self._select(until, (sock, event))

    def pause(self, until: float) -> None:
        """Do nothing until the clock says ``until``."""
        self._select(until)

    def _select(self, until: float, *watched: tuple[socket.socket, int]) -> bool:
        self.check()
        alarm = self._pair
        assert alarm is not None, "a dial waits only inside its `with` block"
        with _Selector() as selector:
            selector.register(alarm[0], selectors.EVENT_READ)
            for sock, event in watched:
                selector.register(sock, event)
            found = selector.select(max(0.0, until - time.monotonic()))
        self.check()
        return bool(found)


def resolve(host: str, port: int, cancellation: Cancellation) -> list[Resolved]:
    """The addresses of a host, best first. Blocks for as long as the system's resolver does.

    Raises ``OSError`` (``gaierror``) when there is none, `Cancelled` when cancelled meanwhile.
    """
    cancellation.check()
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    cancellation.check()
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def local_endpoint(host: str, port: int) -> Resolved:
    """The socket address to connect from, of an IP address of this machine. Raises ``OSError``."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError as error:  # the zone, as the rest is known to be an address
        raise OSError(error.errno, f"local_address {host}: {describe(error)}") from error
    family, _, _, _, address = found[0]
    return int(family), address


def try_each(addresses: Sequence[Resolved], deadline: float, attempt: Callable[[Resolved, float], T]) -> T:
    """What the first ``attempt`` gives that raises no ``OSError``. Each gets an equal share of the time left.

    An attempt may raise `DeadlinePassed` when its share is over. Raises ``OSError`` of the last attempt,
    `DeadlinePassed` once ``deadline`` is over, and what else an attempt raises.
    """
    failure: OSError = OSError(errno.EADDRNOTAVAIL, "the host has no address")
    for position, address in enumerate(addresses):
        now = time.monotonic()
        if now >= deadline:
            break
        until = now + (deadline - now) / (len(addresses) - position)
        try:
            return attempt(address, until)
        except OSError as error:
            failure = error
        except DeadlinePassed:
            failure = TimeoutError(errno.ETIMEDOUT, "no answer in the address's share of the time")
    if time.monotonic() >= deadline:
        raise DeadlinePassed
    raise failure


def connect_tcp(
    addresses: Sequence[Resolved],
    deadline: float,
    cancellation: Cancellation,
    source: Resolved | None = None,
    options: Sequence[SocketOption] = (),
) -> DialStream:
    """Connect to the first address that answers, from ``source`` if given: then only to those of its family.

    ``options`` are set on each socket before it connects. Each gets an equal share of the time that is left.
    Raises ``OSError`` of the last address, `DeadlinePassed` or `Cancelled`.
    """
    if source is not None:
        addresses = [item for item in addresses if item[0] == source[0]]
        if not addresses:
            raise OSError(errno.EADDRNOTAVAIL, "the host has no address of the kind that local_address is")

    def attempt(address: Resolved, until: float) -> DialStream:
        return DialStream(_connect(address, until, cancellation, source, options), deadline, cancellation)

    return try_each(addresses, deadline, attempt)


def connect_unix(path: str | bytes, deadline: float, cancellation: Cancellation) -> DialStream:
    """Connect to a Unix socket. Raises ``OSError``, `DeadlinePassed` or `Cancelled`."""
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise OSError(errno.EAFNOSUPPORT, "Unix sockets are not available on this platform")
    # An address is always a tuple here; a Unix socket's is its only item.
    return DialStream(_connect((int(family), (path,)), deadline, cancellation), deadline, cancellation)


def adopt(sock: socket.socket, deadline: float, cancellation: Cancellation) -> DialStream:
    """Take over a connected stream socket. Raises ``OSError`` when it is none."""
    if not isinstance(sock, socket.socket) or sock.type != socket.SOCK_STREAM:
        raise OSError(errno.EPROTOTYPE, "the given socket is no stream socket")
    sock.getpeername()
    _prepare(sock)
    return DialStream(sock, deadline, cancellation)


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _connect(
    target: Resolved,
    until: float,
    cancellation: Cancellation,
    source: Resolved | None = None,
    options: Sequence[SocketOption] = (),
) -> socket.socket:
    family, address = target
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        _prepare(sock)
        for option in options:
            sock.setsockopt(*option)
        if source is not None:
            _bind(sock, source[1])
        _await_connected(sock, address if len(address) > 1 else address[0], until, cancellation)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, address: Address) -> None:
    host, port = address[:2]
    try:
        if port and os.name == "posix":
            # Without it, the last connection from this port blocks it for a minute after its end.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif sys.platform == "linux":
            # Without it, two connections to different servers can't have the same port.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        sock.bind(address)
    except OSError as error:
        text = f"can't connect from local_address {host}, port {port or 'any'}: {describe(error)}"
        raise OSError(error.errno, text) from error


def _await_connected(sock: socket.socket, address: Any, until: float, cancellation: Cancellation) -> None:
    code = sock.connect_ex(address)
    while code == errno.EAGAIN and sock.family == getattr(socket, "AF_UNIX", None):
        # A Unix socket with a full backlog: nothing to wait for, so it is tried again.
        if time.monotonic() >= until:
            raise DeadlinePassed
        cancellation.pause(min(until, time.monotonic() + _BUSY_RETRY))
        code = sock.connect_ex(address)
    if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)):
        if not cancellation.wait(sock, selectors.EVENT_WRITE, until):
            raise DeadlinePassed
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


class TlsSession:
    """One TLS connection as a function of bytes: no socket, no lock, no waiting.

    Whoever shares one between threads holds a lock around each call.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        # All fields: whoever holds the lock of the owner.
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self.starved: bool = False  # the last read took everything: only feeding can give more
        self._failure: ssl.SSLError | None = None  # found behind data that had to be given out first

    def handshake(self) -> bool:
        """Go on with the handshake; ``True`` when it is done, ``False`` when it needs more input."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes | memoryview) -> None:
        """Take in what the socket gave; nothing means its end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def read_into(self, buffer: memoryview) -> int | None:
        """Decrypt as much as there is and fits. 0: the stream has ended; ``None``: it needs more input."""
        if self._failure is not None:
            raise self._failure
        total = 0
        self.starved = False
        while total < len(buffer):
            try:
                count = self._tls.read(len(buffer) - total, buffer[total:])
            except ssl.SSLWantReadError:
                self.starved = True
                return total or None
            except ssl.SSLError as error:
                # A stream cut without close_notify ends too: WebSocket has a close of its own to tell.
                if not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
                    self._failure = error  # OpenSSL tells it once, and afterwards only that there is no more
                    if not total:
                        raise
                break
            if not count:
                break
            total += int(count)
        return total

    def encrypt(self, data: memoryview) -> int:
        """Encrypt up to a record of ``data``, return how much; 0 when the peer must be heard first."""
        try:
            return self._tls.write(data[:_RECORD])
        except ssl.SSLWantReadError:
            return 0

    def close_notify(self) -> None:
        """Say that nothing more will be written (RFC 8446, section 6.1)."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    @property
    def pending_output(self) -> int:
        """Bytes that want to go to the socket."""
        return self._outgoing.pending

    def take_output(self) -> bytes:
        """The bytes that want to go to the socket."""
        return self._outgoing.read()


class DialStream:
    """The stream while it is being opened: one thread, one deadline over all, ended at once by a cancel.

    Every method raises `DeadlinePassed`, `Cancelled` or ``OSError``.
    """

    # All fields: the dialling thread.
    def __init__(self, sock: socket.socket, deadline: float, cancellation: Cancellation) -> None:
        self._sock = sock
        self._deadline = deadline
        self._cancellation = cancellation
        self._session: TlsSession | None = None

    def send_all(self, data: bytes) -> None:
        """Write all of ``data``."""
        if self._session is None:
            self._send_raw(data)
            return
        view = memoryview(data)
        while view:
            count = self._session.encrypt(view)
            view = view[count:]
            self._send_raw(self._session.take_output())
            if not count:
                self._feed(self._session)

    def receive(self) -> bytes:
        """Some bytes, as they come; empty at the end of the stream."""
        if self._session is None:
            return self._receive_raw()
        buffer = bytearray(_DIAL_READ)
        while (count := self._session.read_into(memoryview(buffer))) is None:
            self._feed(self._session)
        return bytes(buffer[:count])

    def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Do the TLS handshake, with SNI and verification as ``context`` says."""
        session = TlsSession(context, server_name)
        try:
            while not session.handshake():
                self._feed(session)
        except ssl.SSLError:
            # The alert tells the server why; that it can't be sent must not hide the error itself.
            with contextlib.suppress(OSError, DeadlinePassed):
                self._send_raw(session.take_output())
            raise
        self._send_raw(session.take_output())
        self._session = session

    def set_deadline(self, deadline: float) -> None:
        """Move the deadline to this instant of ``time.monotonic()``."""
        self._deadline = deadline

    def hurry(self, seconds: float) -> None:
        """Bring the deadline nearer: to ``seconds`` from now, and to half of what is left."""
        now = time.monotonic()
        self._deadline = now + min(seconds, (self._deadline - now) / 2)

    def into_transport(self, initial: bytes) -> Transport:
        """Hand the socket over. ``initial`` is what was read beyond the opening handshake."""
        raw = SocketChannel(self._sock)
        return Transport(raw if self._session is None else TlsChannel(raw, self._session), initial)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _feed(self, session: TlsSession) -> None:
        self._send_raw(session.take_output())
        session.feed(self._receive_raw())

    def _send_raw(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._cancellation.check()
            try:
                view = view[self._sock.send(view, _SEND_FLAGS) :]
            except BlockingIOError:
                self._wait(selectors.EVENT_WRITE)

    def _receive_raw(self) -> bytes:
        while True:
            self._wait(selectors.EVENT_READ)
            with contextlib.suppress(BlockingIOError):
                return self._sock.recv(_DIAL_READ)

    def _wait(self, event: int) -> None:
        late = time.monotonic() >= self._deadline
        if late or not self._cancellation.wait(self._sock, event, self._deadline):
            raise DeadlinePassed


class Channel(Protocol):
    """What `Transport` and `TlsChannel` stand on; the promises are those of `Transport`."""

    def recv_into(self, buffer: memoryview) -> int: ...
    def send(self, data: memoryview, timeout: float | None) -> int: ...
    def has_input(self) -> bool: ...
    def shutdown_write(self) -> None: ...
    def shutdown(self) -> None: ...
    def close(self) -> None: ...


class SocketChannel:
    """A socket as it is, TCP or Unix, which belongs to the channel from now on.

    Where one write can be told not to wait (``MSG_DONTWAIT``), the socket blocks: the reader then needs one
    system call a read and no polling before it. Elsewhere the socket does not block and the reader polls.
    """

    def __init__(self, sock: socket.socket, *, blocking: bool = _CAN_SEND_WITHOUT_WAITING) -> None:
        sock.setblocking(blocking)
        is_emulated = blocking and not os.get_blocking(sock.fileno())
        self._sock = sock
        self._send_now = functools.partial(_send_emulated if is_emulated else _send_now, sock)
        # Reentrant, because a signal handler may shut down while the interrupted code holds it.
        self._lock = threading.RLock()  # shutdown and close: never the one during or after the other
        self._down = False  # any thread; once True, for good

    def recv_into(self, buffer: memoryview) -> int:
        # Without the look at _down, Linux would go on handing out what came before the shutdown.
        while not self._down:
            try:
                return self._sock.recv_into(buffer)
            except BlockingIOError:
                _ready(self._sock, selectors.EVENT_READ, None)
            except OSError:
                if not self._down:
                    raise
        return 0

    def send(self, data: memoryview, timeout: float | None) -> int:
        try:
            return self._send_now(data)
        except BlockingIOError:
            return _send_late(self._sock, self._send_now, data, timeout)

    def has_input(self) -> bool:
        return not self._down and _ready(self._sock, selectors.EVENT_READ, 0)

    def shutdown_write(self) -> None:
        self._shutdown(socket.SHUT_WR)

    def shutdown(self) -> None:
        self._down = True
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        # Not connected any more, or closed already: what was asked for is the case.
        with self._lock, contextlib.suppress(OSError):
            self._sock.shutdown(how)

    def close(self) -> None:
        self._down = True
        with self._lock:
            self._sock.close()


def _send_late(
    sock: socket.socket, send: Callable[[memoryview], int], data: memoryview, timeout: float | None
) -> int:
    """Write what fits as soon as something fits; `TimeoutError` when nothing does within ``timeout``."""
    until = None if timeout is None else time.monotonic() + timeout
    while _ready(sock, selectors.EVENT_WRITE, None if until is None else max(0.0, until - time.monotonic())):
        with contextlib.suppress(BlockingIOError):
            return send(data)
    raise TimeoutError(errno.ETIMEDOUT, f"the peer took no byte for {timeout:g} s")


def _send_now(sock: socket.socket, data: memoryview) -> int:
    return sock.send(data, _SEND_FLAGS)


def _send_emulated(sock: socket.socket, data: memoryview) -> int:
    # The reader may be waiting in this very socket and does not notice: greenlets switch in waits only.
    sock.setblocking(False)
    try:
        return sock.send(data, _SEND_FLAGS)
    finally:
        sock.setblocking(True)


class TlsChannel:
    """TLS for one reading and one writing thread over another channel.

    Nobody waits for the network with the lock held. What TLS has to say of its own accord (an answer to a
    key update) is written by the reader when no record of the writer's is under way, so that an idle writer
    can't hold it up; under the lock, without waiting.
    """

    def __init__(self, raw: Channel, session: TlsSession) -> None:
        self._raw = raw
        self._lock = threading.Lock()
        self._heard = threading.Condition(self._lock)
        self._session = session  # under _lock
        self._down = False  # any thread; once True, for good
        self._stalled = False  # under _lock: the writer waits for the reader to hear from the peer
        self._under_way = False  # under _lock: the writer is sending _cipher
        self._cipher = memoryview(b"")  # writer while _under_way, otherwise whoever has _lock
        self._records: deque[tuple[int, int]] = deque()  # writer: bytes of cipher and plain text in each
        self._partial = 0  # writer: bytes sent of the first of _records

    def recv_into(self, buffer: memoryview) -> int:
        if not (self._down or self._session.starved):
            with self._lock:
                count = self._decrypt(buffer)
            if count is not None:
                return count
        while not self._down:
            # The caller's buffer takes the cipher text first: it is free until plain text goes there.
            received = self._raw.recv_into(buffer)
            with self._lock:
                self._session.feed(buffer[:received])
                if self._stalled:
                    self._heard.notify_all()
                count = self._decrypt(buffer)
            if count is not None:
                return count
        return 0

    def _decrypt(self, buffer: memoryview) -> int | None:
        count = self._session.read_into(buffer)
        self._flush_own()
        return count

    def _flush_own(self) -> None:
        """With the lock: send what TLS itself has to say, as far as that goes without waiting."""
        if self._under_way or not (self._cipher or self._session.pending_output):
            return
        self._cipher = memoryview(bytes(self._cipher) + self._session.take_output())
        # A broken connection shows in the next read or write of the thread that can act on it.
        with contextlib.suppress(OSError):
            self._cipher = self._cipher[self._raw.send(self._cipher, 0) :]

    def send(self, data: memoryview, timeout: float | None) -> int:
        if not self._records:
            self._begin(data, timeout)
        done = self._account(self._raw.send(self._cipher, timeout))
        if not self._records:
            self._end()
        return done

    def _begin(self, data: memoryview, timeout: float | None) -> None:
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while not self._encrypt(data[:_TLS_BATCH]):
                # Only a renegotiation (TLS 1.2) gets here: the peer's part of it comes through the reader.
                self._stalled = True
                heard = self._heard.wait(None if until is None else until - time.monotonic())
                self._stalled = False
                if not heard:
                    raise TimeoutError(errno.ETIMEDOUT, "the peer did not go on with its TLS handshake")
            self._under_way = True

    def _encrypt(self, data: memoryview) -> bool:
        """With the lock: turn ``data`` into records; ``False`` when TLS has nothing to send for it yet."""
        parts = [bytes(self._cipher), self._session.take_output()]
        self._records.append((len(parts[0]) + len(parts[1]), 0))
        while data and (count := self._session.encrypt(data)):
            parts.append(self._session.take_output())
            self._records.append((len(parts[-1]), count))
            data = data[count:]
        self._cipher = memoryview(b"".join(parts))
        if not self._cipher:
            self._records.clear()
        return bool(self._cipher)

    def _account(self, sent: int) -> int:
        """Bytes of plain text whose records have gone out as a whole with these ``sent`` bytes."""
        self._cipher = self._cipher[sent:]
        self._partial += sent
        done = 0
        while self._records and self._partial >= self._records[0][0]:
            length, plain = self._records.popleft()
            self._partial -= length
            done += plain
        return done

    def _end(self) -> None:
        with self._lock:
            self._under_way = False
            self._flush_own()

    def has_input(self) -> bool:
        return not self._session.starved or self._raw.has_input()

    def shutdown_write(self) -> None:
        with self._lock:
            self._session.close_notify()
            self._flush_own()
        self._raw.shutdown_write()

    def shutdown(self) -> None:
        self._down = True
        self._raw.shutdown()

    def close(self) -> None:
        self._raw.close()


class Transport:
    """The byte stream of an open connection, for one reading and one writing thread.

    Args:
        channel: the stream proper; `SocketChannel` makes one of a connected socket.
        initial: bytes that were read beyond the opening handshake; the first that `recv_into` gives.
    """

    def __init__(self, channel: Channel, initial: bytes = b"") -> None:
        self._channel = channel
        self._initial = initial  # reader
        self._writer: int | None = None  # the writer, once, before its first send

    def recv_into(self, buffer: memoryview) -> int:
        """Read what has come into ``buffer``, waiting for it without a bound. Reader thread only.

        Returns:
            Bytes read; 0 at the end of the stream and after `shutdown`.

        Raises:
            OSError: the connection was lost.
        """
        if self._initial:
            return self._take_initial(buffer)
        return self._channel.recv_into(buffer)

    def _take_initial(self, buffer: memoryview) -> int:
        part = self._initial[: len(buffer)]
        buffer[: len(part)] = part
        self._initial = self._initial[len(part) :]
        return len(part)

    def own_writes(self) -> None:
        """Make the calling thread the writer: the only one that `send` serves from now on."""
        self._writer = threading.get_ident()

    def send(self, data: memoryview, timeout: float | None) -> int:
        """Write as much of ``data`` as the socket takes, waiting up to ``timeout`` seconds to begin.

        With TLS the next call must begin with the bytes that this one left, as is natural.

        Returns:
            Bytes written. With TLS only whole records count, so 0 means: progress within the first one.

        Raises:
            ConcurrentWriteError: the calling thread is not the writer; nothing was written.
            TimeoutError: the socket took nothing for ``timeout`` seconds.
            OSError: the connection was lost or shut down.
        """
        if threading.get_ident() != self._writer:
            raise ConcurrentWriteError("only the connection's writer thread may write to its transport")
        return self._channel.send(data, timeout)

    def has_input(self) -> bool:
        """Whether `recv_into` would return at once. Does not wait. Any thread, before `close`."""
        return bool(self._initial) or self._channel.has_input()

    def shutdown_write(self) -> None:
        """Tell the peer that nothing more will come (TLS: with a close_notify). Writer thread only."""
        self._channel.shutdown_write()

    def shutdown(self) -> None:
        """End both directions: the reader reads the end, the writer's send fails.

        Any thread; idempotent; never waits, never raises.
        """
        self._channel.shutdown()

    def close(self) -> None:
        """Free the file descriptor. Idempotent. Only when reader and writer are done with it."""
        self._channel.close()
