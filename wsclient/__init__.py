"""A thread-based, synchronous WebSocket client: any number of threads, one writer, nothing lost silently."""

from __future__ import annotations

from wsclient._version import __version__
from wsclient.connection import Connection, connect
from wsclient.exceptions import (
    ConcurrentWriteError,
    ConnectFailed,
    ConnectionClosed,
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
from wsclient.stats import Stats

__all__ = [
    "ClosedBy",
    "ConcurrentWriteError",
    "ConnectFailed",
    "Connection",
    "ConnectionClosed",
    "Credentials",
    "HandshakeError",
    "HandshakeTimeout",
    "MessageTooBig",
    "Options",
    "Overflow",
    "ProtocolError",
    "QueueFull",
    "SendTimeout",
    "State",
    "Stats",
    "Timeout",
    "WSClientError",
    "__version__",
    "connect",
]
