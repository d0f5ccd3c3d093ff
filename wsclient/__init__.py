"""A thread-based, synchronous WebSocket client: any number of threads, one writer, nothing lost silently."""

from __future__ import annotations

from wsclient._version import __version__
from wsclient.connection import Connection, connect
from wsclient.deflate import Deflate
from wsclient.exceptions import (
    ConcurrentWriteError,
    ConnectFailed,
    ConnectionClosed,
    Disconnected,
    HandshakeError,
    HandshakeTimeout,
    MessageTooBig,
    ProtocolError,
    QueueFull,
    SendTimeout,
    Timeout,
    WSClientError,
)
from wsclient.lifecycle import ClosedBy, State
from wsclient.options import Credentials, Options, Overflow
from wsclient.receive_stream import ReceiveStream
from wsclient.reconnect import Delivery, Disconnect, DisconnectKind, Reconnect
from wsclient.send_stream import SendStream
from wsclient.stats import Stats

__all__ = [
    "ClosedBy",
    "ConcurrentWriteError",
    "ConnectFailed",
    "Connection",
    "ConnectionClosed",
    "Credentials",
    "Deflate",
    "Delivery",
    "Disconnect",
    "DisconnectKind",
    "Disconnected",
    "HandshakeError",
    "HandshakeTimeout",
    "MessageTooBig",
    "Options",
    "Overflow",
    "ProtocolError",
    "QueueFull",
    "ReceiveStream",
    "Reconnect",
    "SendStream",
    "SendTimeout",
    "State",
    "Stats",
    "Timeout",
    "WSClientError",
    "__version__",
    "connect",
]
