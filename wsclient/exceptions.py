"""Every error that wsclient raises of its own accord.

::

    WSClientError
    ├── Timeout (TimeoutError)                  a bounded wait ended: recv, flush, confirm
    │   ├── SendTimeout                         the queue stayed full; the message was not accepted
    │   └── HandshakeTimeout (HandshakeError)   open_timeout passed before the connection was open
    ├── HandshakeError                          the server answered, but not with an acceptable upgrade
    │   ├── HandshakeTimeout (Timeout)
    │   └── ConnectFailed (ConnectionError)     no answer: DNS, TCP, proxy or TLS failed
    ├── ConnectionClosed (ConnectionError)      the connection is closed or was lost
    │   └── ProtocolError                       ... because the peer broke RFC 6455
    │       └── MessageTooBig                   ... or went over ``max_message_size``
    ├── Disconnected (ConnectionError)          with ``reconnect``: what was waited for went with a lost link
    ├── QueueFull                               ``overflow="raise"``, or a wait that could never end
    └── ConcurrentWriteError                    a write from a thread that is not the writer

Bad arguments are ``TypeError`` or ``ValueError``, as everywhere in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = [
    "ConcurrentWriteError",
    "ConnectFailed",
    "ConnectionClosed",
    "Disconnected",
    "HandshakeError",
    "HandshakeTimeout",
    "MessageTooBig",
    "ProtocolError",
    "QueueFull",
    "SendTimeout",
    "Timeout",
    "WSClientError",
]


class WSClientError(Exception):
    """Base of every error in this module."""


class Timeout(WSClientError, TimeoutError):
    """A wait with a bound ended before what it waited for came."""


class SendTimeout(Timeout):
    """The send queue stayed full for ``send_timeout`` seconds. The message was not accepted."""


class QueueFull(WSClientError):
    """The send queue is full and waiting is not wanted, or could never end. The message was not accepted."""


class ConcurrentWriteError(WSClientError):
    """A thread other than the writer tried to write to the transport. Nothing was written."""


class HandshakeError(WSClientError):
    """The opening handshake failed (RFC 6455, section 4.1).

    Attributes:
        status: HTTP status code of the response, or ``None`` when there was none.
        headers: response headers, names in lower case; empty when there was no response.
        body: up to 64 KiB of the response body, in bytes.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers: Mapping[str, str] = dict(headers or {})
        self.body = body


class HandshakeTimeout(HandshakeError, Timeout):
    """``open_timeout`` passed before DNS, TCP, proxy, TLS and upgrade were all done."""


class ConnectFailed(HandshakeError, ConnectionError):
    """No connection to the server: name resolution, TCP, the proxy or TLS failed. ``__cause__`` says how."""


class ConnectionClosed(WSClientError, ConnectionError):
    """The connection is closed: nothing more can be sent or received on it.

    Attributes:
        code: close code (RFC 6455, section 7.4): 1000 normal, 1006 lost without a close frame, ...
        reason: close reason, at most 123 bytes of UTF-8.
        unsent: the messages that were accepted and never fully written to the socket, in order.
        in_doubt: with ``reconnect``: those that were written, and may not have arrived, in order. They came
            before the unsent ones.
    """

    def __init__(
        self,
        code: int = 1006,
        reason: str = "",
        unsent: Sequence[str | bytes] = (),
        in_doubt: Sequence[str | bytes] = (),
    ) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.unsent: tuple[str | bytes, ...] = tuple(unsent)
        self.in_doubt: tuple[str | bytes, ...] = tuple(in_doubt)

    def __str__(self) -> str:
        text = f"connection closed with code {self.code}"
        if self.reason:
            text += f" ({self.reason})"
        if self.in_doubt:
            text += f"; {len(self.in_doubt)} written message(s) in doubt"
        if self.unsent:
            text += f"; {len(self.unsent)} accepted message(s) unsent"
        return text


class Disconnected(WSClientError, ConnectionError):
    """With ``reconnect``: a ping, a ``confirm`` or a stream was under way when the connection was lost.

    The connection itself is opened again.
    """


class ProtocolError(ConnectionClosed):
    """The peer broke RFC 6455 and the connection was failed with close code 1002 or 1007."""


class MessageTooBig(ProtocolError):
    """The peer's message is over ``max_message_size`` bytes; the connection was failed with code 1009."""
