"""What type checkers know of the keyword arguments of ``connect`` and ``Connection``: those of ``Options``.

Only they read it; what is given is checked by ``Options``, and a test holds the two together. In callbacks,
messages are ``Any``: an application may know that its server sends text only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    import os
    import socket as sockets
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from wsclient.deflate import Deflate
    from wsclient.options import Credentials, HeaderSource, Overflow, Proxy, ProxySource
    from wsclient.reconnect import Delivery, Disconnect, Reconnect

__all__ = ["Keywords"]

# The first argument is the connection, which is made further down.
Told: TypeAlias = "Callable[[Any], object]"


class Keywords(TypedDict, total=False):
    """The options; ``help(wsclient.Options)`` says what each is."""

    headers: HeaderSource | Callable[[], HeaderSource] | None
    cookies: Mapping[str, str] | str | None
    origin: str | None
    subprotocols: Sequence[str]
    credentials: Credentials | Callable[[], Credentials] | None
    ssl_context: ssl.SSLContext | None
    server_hostname: str | None
    proxy: str | Proxy | ProxySource | bool | None
    local_address: str | tuple[str, int] | None
    socket_options: Sequence[tuple[int, int, int | bytes]]
    open_timeout: float
    close_timeout: float
    send_timeout: float
    write_timeout: float | None
    ping_interval: float | None
    ping_timeout: float | None
    follow_redirects: int
    socket: sockets.socket | None
    unix_path: str | bytes | os.PathLike[str] | None
    max_message_size: int | None
    fragment_size: int | None
    assemble: bool
    max_queued_messages: int
    max_queued_bytes: int
    max_received_messages: int
    max_received_bytes: int
    overflow: Overflow | Literal["block", "raise", "drop_oldest"]
    compression: Deflate | Literal["deflate"] | None
    reconnect: Reconnect | bool | None
    delivery: Delivery | Literal["at_most_once", "at_least_once"]
    max_in_doubt_bytes: int
    callback_executor: Executor | None
    json_dumps: Callable[[Any], str | bytes]
    json_loads: Callable[[str | bytes], Any]
    on_open: Told | None
    on_message: Callable[[Any, Any], object] | None
    on_fragment: Callable[[Any, Any, bool], object] | None
    on_close: Callable[[Any, int, str], object] | None
    on_error: Callable[[Any, Exception], object] | None
    on_disconnect: Callable[[Any, Disconnect], object] | None
    on_reconnect: Told | None
    on_ping: Callable[[Any, bytes], object] | None
    on_pong: Callable[[Any, bytes], object] | None
    on_dropped: Callable[[Any, Any], object] | None
