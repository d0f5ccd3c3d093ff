"""The clients that are measured: one small class a library, all with the same face.

An adapter is used in a process of its own, which imports no other library's client.
"""

from __future__ import annotations

import queue
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, Protocol, cast

from benchmarks.names import AT_LEAST_ONCE, DEFLATE, OURS, RECONNECT

__all__ = ["ADAPTERS", "Adapter", "Connection"]

_TIMEOUT = 60.0  # seconds, for anything that is waited for


class Connection(Protocol):
    """One open connection. ``send`` may be called from many threads; the rest from one."""

    def send(self, message: str | bytes) -> None:
        """Send one message."""

    def recv(self) -> str | bytes:
        """Receive one message."""

    def ping(self) -> float:
        """Round trip of a ping, in seconds."""

    def close(self) -> None:
        """Close it."""


class Adapter(Protocol):
    """One library.

    What it cannot do raises ``NotImplementedError``, which says so.
    """

    @property
    def compresses(self) -> bool:
        """Whether its connections offer permessage-deflate."""

    def versions(self) -> dict[str, str]:
        """Versions of what is measured."""

    def connect(self, url: str) -> Connection:
        """Open a connection."""

    def receive(self, url: str, count: int) -> float:
        """Ask for a flood of ``count`` messages and receive it in the library's fastest way; seconds."""


class WSClient:
    """wsclient, as it comes but for these options; receives through its callback."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    @property
    def compresses(self) -> bool:
        return "compression" in self._options

    def versions(self) -> dict[str, str]:
        import wsclient

        return {"wsclient": wsclient.__version__, "numpy": _numpy_version()}

    def connect(self, url: str) -> Connection:
        return _WSClientConnection(url, self._checked_options())

    def receive(self, url: str, count: int) -> float:
        import wsclient

        counter = _Counter(count)
        connection = wsclient.connect(url, on_message=counter.on_message, **self._checked_options())
        started = time.perf_counter()
        connection.send("go")
        counter.wait()
        elapsed = time.perf_counter() - started
        connection.close()
        return elapsed

    def _checked_options(self) -> dict[str, Any]:
        import wsclient

        if self.compresses and not hasattr(wsclient, "Deflate"):
            raise NotImplementedError(f"wsclient {wsclient.__version__} has no compression")
        return self._options


class WSClientWithoutNumPy(WSClient):
    """wsclient where NumPy is not installed."""

    def __init__(self) -> None:
        super().__init__()
        # What `import numpy` meets is exactly what it would meet without NumPy: an ImportError.
        sys.modules["numpy"] = cast("Any", None)

    def versions(self) -> dict[str, str]:
        import wsclient

        return {"wsclient": wsclient.__version__}


class _Counter:
    """Counts callbacks; wakes the waiting thread at the last one."""

    def __init__(self, count: int) -> None:
        self._left = count  # owned by the thread that calls back
        self._done = threading.Event()

    def on_message(self, connection: object, message: object) -> None:
        self._left -= 1
        if not self._left:
            self._done.set()

    def wait(self) -> None:
        if not self._done.wait(_TIMEOUT):
            raise TimeoutError(f"the flood did not end within {_TIMEOUT:g} s")


class _WSClientConnection:
    def __init__(self, url: str, options: dict[str, Any]) -> None:
        import wsclient

        self._connection = wsclient.connect(url, **options)
        self.send = self._connection.send  # nothing of this adapter is in the way of what is measured
        self._recv = self._connection.recv

    def recv(self) -> str | bytes:
        return self._recv(timeout=_TIMEOUT)

    def ping(self) -> float:
        return self._connection.ping().result(_TIMEOUT)

    def close(self) -> None:
        self._connection.close()


class WebSocketClient:
    """websocket-client: one WebSocket with its lock (``enable_multithread=True``, its default)."""

    compresses = False

    def versions(self) -> dict[str, str]:
        return {"websocket-client": version("websocket-client")}

    def connect(self, url: str) -> Connection:
        return _WebSocketConnection(url)

    def receive(self, url: str, count: int) -> float:
        return _pull(self.connect(url), count)


class _WebSocketConnection:
    def __init__(self, url: str) -> None:
        import websocket

        self._pong = websocket.ABNF.OPCODE_PONG
        self._socket = websocket.create_connection(url)
        self.recv: Callable[[], str | bytes] = self._socket.recv

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._socket.send(message)
        else:
            self._socket.send_binary(message)

    def ping(self) -> float:
        started = time.perf_counter()
        self._socket.ping()
        while self._socket.recv_data_frame(control_frame=True)[0] != self._pong:
            pass
        return time.perf_counter() - started

    def close(self) -> None:
        self._socket.close(timeout=5)


class Websockets:
    """websockets.sync, its compression off (which is not its default) or on.

    Args:
        compression: what its option of this name is set to.
    """

    def __init__(self, compression: Literal["deflate"] | None = None) -> None:
        self._compression: Literal["deflate"] | None = compression

    @property
    def compresses(self) -> bool:
        return self._compression is not None

    def versions(self) -> dict[str, str]:
        return {"websockets": version("websockets")}

    def connect(self, url: str) -> Connection:
        return _WebsocketsConnection(url, self._compression)

    def receive(self, url: str, count: int) -> float:
        return _pull(self.connect(url), count)


class _WebsocketsConnection:
    def __init__(self, url: str, compression: Literal["deflate"] | None) -> None:
        from websockets.sync.client import connect

        # Entered, as it asks for with a warning; left by close(), which is all that __exit__ does.
        opened = connect(url, compression=compression, proxy=None, max_size=None)
        self._connection = opened.__enter__()
        self.send: Callable[[str | bytes], None] = self._connection.send
        self.recv: Callable[[], str | bytes] = self._connection.recv

    def ping(self) -> float:
        started = time.perf_counter()
        if not self._connection.ping().wait(_TIMEOUT):
            raise TimeoutError(f"no pong within {_TIMEOUT:g} s")
        return time.perf_counter() - started

    def close(self) -> None:
        self._connection.close()


class NaiveWriter:
    """What many build: ``queue.Queue`` and one thread that calls ``WebSocket.send`` for each message."""

    compresses = False

    def versions(self) -> dict[str, str]:
        return {"websocket-client": version("websocket-client")}

    def connect(self, url: str) -> Connection:
        return _NaiveConnection(url)

    def receive(self, url: str, count: int) -> float:
        raise NotImplementedError("the naive writer only writes")


class _NaiveConnection:
    def __init__(self, url: str) -> None:
        self._connection = _WebSocketConnection(url)
        self._queue: queue.Queue[str | bytes | None] = queue.Queue(1000)
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()
        self.send: Callable[[str | bytes], None] = self._queue.put
        self.recv = self._connection.recv
        self.ping = self._connection.ping

    def close(self) -> None:
        self._queue.put(None)
        self._writer.join(_TIMEOUT)
        self._connection.close()

    def _write(self) -> None:
        while (message := self._queue.get()) is not None:
            self._connection.send(message)


class Prepared:
    """The limit: ``sendall`` of frames that were made beforehand, by one thread; no library at work."""

    compresses = False

    def versions(self) -> dict[str, str]:
        return {}

    def connect(self, url: str) -> Connection:
        return PreparedConnection(url)

    def receive(self, url: str, count: int) -> float:
        raise NotImplementedError("the limit is one of sending")


class PreparedConnection:
    """A socket after the handshake of websocket-client."""

    def __init__(self, url: str) -> None:
        import websocket

        self._socket = websocket.create_connection(url)
        assert self._socket.sock is not None
        self.sendall: Callable[[bytes], None] = self._socket.sock.sendall
        self.recv: Callable[[], str | bytes] = self._socket.recv
        self.ping = _no_ping

    def send(self, message: str | bytes) -> None:
        """Frame and send one message."""
        self.sendall(self.frame(message))

    def frame(self, message: str | bytes) -> bytes:
        """The frame of a message, with a mask key of zeros: the server unmasks it all the same."""
        text = isinstance(message, str)
        payload = message.encode() if isinstance(message, str) else message
        return _client_header(0x81 if text else 0x82, len(payload)) + payload

    def close(self) -> None:
        self._socket.close(timeout=5)


def _client_header(first: int, size: int) -> bytes:
    key = bytes(4)
    if size < 126:
        return struct.pack("!BB", first, 0x80 | size) + key
    if size < 0x10000:
        return struct.pack("!BBH", first, 0x80 | 126, size) + key
    return struct.pack("!BBQ", first, 0x80 | 127, size) + key


def _no_ping() -> float:
    raise NotImplementedError("nothing to measure")


def _pull(connection: Connection, count: int) -> float:
    recv = connection.recv
    started = time.perf_counter()
    connection.send("go")
    for _ in range(count):
        recv()
    elapsed = time.perf_counter() - started
    connection.close()
    return elapsed


def _numpy_version() -> str:
    try:
        return version("numpy")
    except PackageNotFoundError:
        return "not installed"


ADAPTERS: dict[str, Callable[[], Adapter]] = {
    OURS: WSClient,
    OURS + DEFLATE: partial(WSClient, compression="deflate"),
    OURS + RECONNECT: partial(WSClient, reconnect=True),
    OURS + AT_LEAST_ONCE: partial(WSClient, reconnect=True, delivery="at_least_once"),
    "wsclient-no-numpy": WSClientWithoutNumPy,
    "websocket-client": WebSocketClient,
    "websockets": Websockets,
    "websockets" + DEFLATE: partial(Websockets, "deflate"),
    "naive-writer": NaiveWriter,
    "sendall": Prepared,
}
