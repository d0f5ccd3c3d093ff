"""websocket-client's exceptions for ours, so that the ``except`` clauses of old programs go on working.

The classes are websocket-client's own. Where an old program may wait for a built-in one
instead, because there errors of the socket come out as they are, ours are both.
"""

from __future__ import annotations

import copy
import http
import re
import socket
import ssl
from typing import Final, NoReturn

from websocket import (
    WebSocketAddressException,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketPayloadException,
    WebSocketProtocolException,
    WebSocketProxyException,
    WebSocketTimeoutException,
)

from wsclient import (
    ConnectFailed,
    ConnectionClosed,
    HandshakeError,
    HandshakeTimeout,
    ProtocolError,
    Timeout,
)

__all__ = ["ConnectionReset", "NotSupported", "TimedOut", "WouldBlock", "refuse", "translated"]

_PROXY: Final = re.compile(r"\S+: proxy \S+ ")
_INVALID_PAYLOAD: Final = 1007


class NotSupported(WebSocketException, NotImplementedError):
    """Something of websocket-client's that wsclient does not do. The message says what to do instead."""


class TimedOut(WebSocketTimeoutException, TimeoutError):
    """A time-out. websocket-client raises one class or the other, by what it was doing."""


class WouldBlock(TimedOut, BlockingIOError):
    """A time-out of 0 seconds, which makes the socket of websocket-client a non-blocking one."""


class ConnectionReset(WebSocketConnectionClosedException, ConnectionResetError):
    """The connection was lost. websocket-client raises one class or the other, by how the loss showed."""


def refuse(what: str, instead: str) -> NoReturn:
    """Raise ``NotSupported`` that names ``what`` and points to the documentation."""
    raise NotSupported(f"{what} is not supported by wsclient.compat: {instead}; see docs/migrating.md")


def translated(error: Exception) -> Exception:
    """The exception that an old program waits for; ``error`` is its ``__cause__``."""
    found = _counterpart(error)
    found.__cause__ = error
    return found


def _counterpart(error: Exception) -> Exception:
    if isinstance(error, HandshakeError):
        return _of_handshake(error)
    if isinstance(error, ConnectionClosed):
        return _of_end(error)
    return TimedOut(str(error)) if isinstance(error, Timeout) else WebSocketException(str(error))


def _of_handshake(error: HandshakeError) -> Exception:
    if isinstance(error, HandshakeTimeout):
        return TimedOut(str(error))
    if isinstance(error, ConnectFailed):
        return _of_failed_connect(error)
    if _PROXY.match(str(error)):
        return WebSocketProxyException(str(error))
    if error.status is None or error.status == 101:
        return WebSocketException(f"Invalid WebSocket Header: {error}")
    try:
        phrase = http.HTTPStatus(error.status).phrase
    except ValueError:
        phrase = ""
    # Its headers may hold secrets: they are attributes, and not in the message.
    text = f"Handshake status {error.status} {phrase}".rstrip()
    return WebSocketBadStatusException(text, error.status, phrase, dict(error.headers), error.body)


def _of_failed_connect(error: ConnectFailed) -> Exception:
    cause = error.__cause__
    if isinstance(cause, socket.gaierror):
        return WebSocketAddressException(str(cause))
    if _PROXY.match(str(error)):
        return WebSocketProxyException(str(error))
    if isinstance(cause, (ConnectionRefusedError, ssl.SSLError)):
        return copy.copy(cause)  # a copy: its own cause must not become an effect of it
    if isinstance(cause, ConnectionError):
        return ConnectionReset(str(error))
    return copy.copy(cause) if isinstance(cause, OSError) else WebSocketException(str(error))


def _of_end(error: ConnectionClosed) -> Exception:
    if isinstance(error, ProtocolError):
        kind = WebSocketPayloadException if error.code == _INVALID_PAYLOAD else WebSocketProtocolException
        return kind(error.reason)
    if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
        return ConnectionReset(str(error.__cause__))
    return WebSocketConnectionClosedException(f"Connection to remote host was lost: {error}")
