"""The clients that are measured: the same echo loop on each, with its defaults wherever the suite allows.

Two things differ from the defaults: messages of 16 MiB are allowed, which group 9 sends, and wsclient
compresses in the groups that are about it. A client that compresses by itself, or cannot, is left as it is.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType

import websocket
import websockets.exceptions
import websockets.sync.client

import wsclient
from conformance.verdict import Ending

__all__ = ["CLIENTS", "Client", "run_case"]

MAX_MESSAGE = 17 * 2**20  # bytes
PATIENCE = 120.0  # seconds without a message; the suite gives up on any case earlier


@dataclass(frozen=True)
class Client:
    """A way of echoing: ``echo(url, compressed)`` returns how the connection ended; a crash raises."""

    package: str
    echo: Callable[[str, bool], str]

    @property
    def version(self) -> str:
        return version(self.package)


def _wsclient(url: str, compressed: bool) -> str:
    compression = wsclient.Deflate() if compressed else None
    with wsclient.connect(url, max_message_size=MAX_MESSAGE, proxy=None, compression=compression) as conn:
        try:
            while True:
                conn.send(conn.recv(PATIENCE))
        except wsclient.ConnectionClosed as end:
            return str(end)


def _websocket_client(url: str, compressed: bool) -> str:
    conn = websocket.create_connection(url, timeout=PATIENCE, http_no_proxy=["*"])
    try:
        while True:
            opcode, data = conn.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return "the server closed"
            conn.send(data, opcode)
    except websocket.WebSocketTimeoutException:
        raise
    except (websocket.WebSocketException, ConnectionError) as end:
        return str(end)
    finally:
        conn.shutdown()  # type: ignore[no-untyped-call]  # close() would send code 1000, whatever went wrong


def _websockets(url: str, compressed: bool) -> str:
    with websockets.sync.client.connect(url, max_size=MAX_MESSAGE, proxy=None) as conn:
        try:
            while True:
                conn.send(conn.recv(PATIENCE))
        except websockets.exceptions.ConnectionClosed as end:
            return str(end)


CLIENTS: Mapping[str, Client] = MappingProxyType(
    {
        "wsclient": Client("wsclient", _wsclient),
        "websocket-client": Client("websocket-client", _websocket_client),
        "websockets": Client("websockets", _websockets),
    }
)


def run_case(client: Client, url: str, *, compressed: bool) -> Ending:
    """Connect to a case's URL and echo until the connection ends.

    Any exception that is not the client's way of saying that the connection has ended is a crash, also in a
    thread of its own, and so is an error in wsclient's log.
    """
    with _mishaps() as mishaps:
        try:
            ending = Ending(client.echo(url, compressed), crashed=False)
        except Exception as error:
            ending = Ending(_named(error), crashed=True)
    return Ending("; ".join(mishaps), crashed=True) if mishaps and not ending.crashed else ending


def _named(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"


class _Errors(logging.Handler):
    """Collects what is logged as an error, from any thread."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found  # list.append is atomic

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(f"logged: {record.getMessage()}")


@contextlib.contextmanager
def _mishaps() -> Iterator[list[str]]:
    """What goes wrong in other threads until the end of the block."""
    found: list[str] = []
    handler = _Errors(found)
    logger = logging.getLogger("wsclient")
    before = threading.excepthook
    threading.excepthook = lambda event: found.append(f"in a thread: {_named(event.exc_value)}")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        threading.excepthook = before
