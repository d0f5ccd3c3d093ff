"""websocket-client's names on wsclient: ``from wsclient import compat as websocket`` is all that changes.

Serialized writes, TLS that several threads may use, a close that returns. ``docs/migrating.md`` has a row for
every public name of websocket-client: the same, different on purpose, or not supported, which is an error
that says so. The exceptions are websocket-client's own classes, with ours as ``__cause__``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from websocket import (
    ABNF,
    WebSocketAddressException,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketPayloadException,
    WebSocketProtocolException,
    WebSocketProxyException,
    WebSocketTimeoutException,
    __version__,
    _abnf,
    _exceptions,
    debug,
    dump,
    enableTrace,
    error,
    getdefaulttimeout,
    isEnabledForDebug,
    isEnabledForError,
    isEnabledForTrace,
    setdefaulttimeout,
    trace,
    warning,
)
from websocket._abnf import (  # the package of 1.8 does not have all of them
    STATUS_ABNORMAL_CLOSED,
    STATUS_BAD_GATEWAY,
    STATUS_GOING_AWAY,
    STATUS_INVALID_EXTENSION,
    STATUS_INVALID_PAYLOAD,
    STATUS_MESSAGE_TOO_BIG,
    STATUS_NORMAL,
    STATUS_POLICY_VIOLATION,
    STATUS_PROTOCOL_ERROR,
    STATUS_SERVICE_RESTART,
    STATUS_STATUS_NOT_AVAILABLE,
    STATUS_TLS_HANDSHAKE_ERROR,
    STATUS_TRY_AGAIN_LATER,
    STATUS_UNEXPECTED_CONDITION,
    STATUS_UNSUPPORTED_DATA_TYPE,
)

from wsclient.compat.app import WebSocketApp
from wsclient.compat.blocking import WebSocket, create_connection
from wsclient.compat.defaults import set_reconnect
from wsclient.compat.errors import NotSupported, refuse

__all__ = [
    "ABNF",
    "STATUS_ABNORMAL_CLOSED",
    "STATUS_BAD_GATEWAY",
    "STATUS_GOING_AWAY",
    "STATUS_INVALID_EXTENSION",
    "STATUS_INVALID_PAYLOAD",
    "STATUS_MESSAGE_TOO_BIG",
    "STATUS_NORMAL",
    "STATUS_POLICY_VIOLATION",
    "STATUS_PROTOCOL_ERROR",
    "STATUS_SERVICE_RESTART",
    "STATUS_STATUS_NOT_AVAILABLE",
    "STATUS_TLS_HANDSHAKE_ERROR",
    "STATUS_TRY_AGAIN_LATER",
    "STATUS_UNEXPECTED_CONDITION",
    "STATUS_UNSUPPORTED_DATA_TYPE",
    "NotSupported",
    "WebSocket",
    "WebSocketAddressException",
    "WebSocketApp",
    "WebSocketBadStatusException",
    "WebSocketConnectionClosedException",
    "WebSocketException",
    "WebSocketPayloadException",
    "WebSocketProtocolException",
    "WebSocketProxyException",
    "WebSocketTimeoutException",
    "__version__",
    "_abnf",
    "_exceptions",
    "create_connection",
    "debug",
    "dump",
    "enableTrace",
    "error",
    "getdefaulttimeout",
    "isEnabledForDebug",
    "isEnabledForError",
    "isEnabledForTrace",
    "setReconnect",
    "set_reconnect",
    "setdefaulttimeout",
    "trace",
    "warning",
]

setReconnect = set_reconnect  # noqa: N816 - its name before 1.9

_RAW = "it works on the raw socket, which is wsclient's own: use WebSocket or wsclient.Connection"
_MODULE = "import it from websocket itself, whose exceptions and frames these are"
_REFUSED = MappingProxyType(
    {
        **dict.fromkeys(("recv", "recv_line", "send"), _RAW),
        "DEFAULT_SOCKET_OPTION": "give sockopt= to create_connection(), WebSocket() or run_forever()",
        "sock_opt": "give sockopt= and sslopt= to create_connection(), WebSocket() or run_forever()",
        "frame_buffer": "frames are decoded by wsclient",
        "continuous_frame": "messages are assembled by wsclient",
        **dict.fromkeys(
            (
                *(
                    "_app",
                    "_cookiejar",
                    "_core",
                    "_dispatcher",
                    "_handshake",
                    "_http",
                ),
                *("_logging", "_socket", "_ssl_compat", "_url", "_utils", "_wsdump", "tests"),
            ),
            _MODULE,
        ),
    }
)


if not TYPE_CHECKING:  # a type checker is to say that they are not there

    def __getattr__(name: str) -> Any:
        if name in _REFUSED:
            refuse(f"websocket.{name}", _REFUSED[name])
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
