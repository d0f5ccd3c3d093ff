"""What a connection is told: URL, credentials and options, checked once and never changed again.

Pure: nothing here opens, reads or waits. Every refusal names the option and what is wrong with it, and
none repeats a value that may be a secret; the same holds for every ``repr``.
"""

from __future__ import annotations

import contextlib
import difflib
import enum
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import quote, unquote, urljoin

from wsclient.deflate import Deflate
from wsclient.reconnect import Delivery, Reconnect

if TYPE_CHECKING:
    import socket as sockets
    import ssl
    from concurrent.futures import Executor

__all__ = [
    "URL",
    "Credentials",
    "Options",
    "Overflow",
    "Proxy",
    "ProxySource",
    "check_timeout",
    "parse_proxy",
    "parse_url",
]

Pairs: TypeAlias = tuple[tuple[str, str], ...]
HeaderSource: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]]"
Callback: TypeAlias = Callable[..., object]

# Longer waits overflow the operating system's millisecond counters (poll, threading.TIMEOUT_MAX).
MAX_SECONDS: Final = 2_000_000.0

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_TAB: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_LABEL: Final = r"[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_HOST_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
# Schemes of proxies, each with the port that it has unless given.
_PROXY_PORTS: Final[Mapping[str, int]] = MappingProxyType(
    {"http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
)
# The handshake's own; a second copy, or a body, would let the two ends read one request differently.
_RESERVED_HEADERS: Final = frozenset({"upgrade", "connection", "content-length", "transfer-encoding"})


def _name_of(value: object) -> str:
    return type(value).__name__


def _text(option: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{option}: must be str, not {_name_of(value)}")
    return value


def _token(option: str, value: object) -> str:
    text = _text(option, value)
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{option}: not a token (RFC 9110, section 5.6.2): letters, digits, !#$%&'*+-.^_`|~")
    return text


def _line(option: str, value: object) -> str:
    """One line of text that can stand in a header and reach no further than its end."""
    text = _text(option, value)
    if _CONTROL_BUT_TAB.search(text):
        raise ValueError(f"{option}: contains CR, LF, NUL or another control character")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"{option}: contains a lone surrogate, which has no encoding")
    return text


def _visible(option: str, value: object) -> str:
    """A non-empty piece of printable ASCII without spaces."""
    text = _line(option, value)
    if not text or not text.isascii() or " " in text or "\t" in text:
        raise ValueError(f"{option}: must be non-empty ASCII without spaces")
    return text


def _number(option: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{option}: must be a number of seconds, not {_name_of(value)}")
    if not 0 < value <= MAX_SECONDS:  # refuses NaN too
        raise ValueError(f"{option}: must be over 0 and at most {MAX_SECONDS:,.0f} seconds, not {value}")
    return float(value)


def check_timeout(timeout: object, name: str = "timeout") -> float:
    """Check the time-out of one call, in seconds. One that is over already (a negative number) is 0.

    Raises:
        TypeError, ValueError: not a number of seconds up to 2,000,000.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{name}: must be a number of seconds, not {_name_of(timeout)}")
    if not timeout <= MAX_SECONDS:  # refuses NaN too
        raise ValueError(f"{name}: must be at most {MAX_SECONDS:,.0f} seconds, not {timeout}")
    return max(float(timeout), 0.0)


def _count(option: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option}: must be int, not {_name_of(value)}")
    if value < least:
        raise ValueError(f"{option}: must be at least {least}, not {value}")
    return value


def _header_pairs(headers: object) -> Pairs:
    """Checked name and value pairs of a ``headers`` option, in order (RFC 9110, section 5)."""
    if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable):
        raise TypeError(f"headers: must be a mapping or (name, value) pairs, not {_name_of(headers)}")
    items = headers.items() if isinstance(headers, Mapping) else headers
    pairs = tuple(_header_pair(item) for item in items)
    if sum(name.lower() == "host" for name, _ in pairs) > 1:
        raise ValueError("headers: Host must not be given twice")
    return pairs


def _header_pair(item: object) -> tuple[str, str]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise TypeError(f"headers: must hold (name, value) pairs, not {_name_of(item)}")
    name = _token("headers: name", item[0])
    if name.lower() in _RESERVED_HEADERS or name.lower().startswith("sec-websocket-"):
        raise ValueError(f"headers: {name} belongs to the opening handshake and can't be set")
    check = _visible if name.lower() == "host" else _line
    return name, check(f"headers: value of {name}", item[1])


def _cookie_line(cookies: object) -> str:
    """The value of the Cookie header (RFC 6265, section 4.2.1)."""
    if isinstance(cookies, str):
        return _ascii_line("cookies", cookies)
    if not isinstance(cookies, Mapping):
        raise TypeError(f"cookies: must be a mapping or str, not {_name_of(cookies)}")
    names = [_token("cookies: name", name) for name in cookies]
    return "; ".join(f"{name}={_cookie_value(name, cookies[name])}" for name in names)


def _cookie_value(name: str, value: object) -> str:
    text = _ascii_line(f"cookies: value of {name}", value)
    if ";" in text:
        raise ValueError(f"cookies: value of {name}: contains a semicolon")
    return text


def _ascii_line(option: str, value: object) -> str:
    text = _line(option, value)
    if not text.isascii():
        raise ValueError(f"{option}: must be ASCII")
    return text


def _subprotocol_names(subprotocols: object) -> tuple[str, ...]:
    """RFC 6455, section 4.1: each a token, each once."""
    if isinstance(subprotocols, (str, bytes)) or not isinstance(subprotocols, Iterable):
        raise TypeError(f"subprotocols: must be a sequence of str, not {_name_of(subprotocols)}")
    names = tuple(_token("subprotocols", name) for name in subprotocols)
    if len(set(names)) != len(names):
        raise ValueError("subprotocols: must not repeat a name")
    return names


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Who a connection speaks for. Sent as the query parameters ``user_id``, ``role`` and ``session_id``.

    Raises:
        TypeError, ValueError: a field is not a non-empty ``str``, or holds a control character.
    """

    user_id: str
    role: str
    session_id: str

    def __post_init__(self) -> None:
        for name in ("user_id", "role", "session_id"):
            if not _line(f"credentials: {name}", getattr(self, name)):
                raise ValueError(f"credentials: {name}: must not be empty")

    def __repr__(self) -> str:
        return f"Credentials(user_id={self.user_id!r}, role={self.role!r}, session_id=...)"


@dataclass(frozen=True, slots=True, repr=False)
class URL:
    """A ``ws`` or ``wss`` URL in parts (RFC 6455, section 3). ``str`` and ``repr`` show no secrets.

    Attributes:
        secure: ``True`` for ``wss``.
        host: ASCII host name (IDNA-encoded, lower case) or IP address without brackets.
        port: 1 to 65535.
        resource: path and query as given, other characters than printable ASCII percent-encoded.
        userinfo: user name and password, percent-decoded, or ``None``.
    """

    secure: bool
    host: str
    port: int
    resource: str
    userinfo: tuple[str, str] | None = None

    @property
    def scheme(self) -> str:
        """``ws`` or ``wss``."""
        return "wss" if self.secure else "ws"

    @property
    def origin(self) -> tuple[bool, str, int]:
        """What must be equal for two URLs to share secrets (RFC 6454, section 4)."""
        return self.secure, self.host, self.port

    @property
    def server_name(self) -> str:
        """The host for TLS and for the Host header: without the zone of a link-local address (RFC 6874)."""
        return self.host.partition("%")[0]

    @property
    def host_port(self) -> str:
        """Host and port, always both, IPv6 in brackets: what CONNECT names."""
        return f"{bracketed(self.server_name)}:{self.port}"

    @property
    def authority(self) -> str:
        """The value of the Host header: the port only where it is not the scheme's own."""
        return bracketed(self.server_name) if self.port == _default_port(self.secure) else self.host_port

    def with_credentials(self, credentials: Credentials) -> URL:
        """This URL with the query parameters of ``credentials``, unless it has all of them already."""
        path, mark, query = self.resource.partition("?")
        present = {part.partition("=")[0] for part in query.split("&")}
        added = "&".join(
            f"{name}={quote(getattr(credentials, name), safe='')}"
            for name in ("user_id", "role", "session_id")
            if name not in present
        )
        joined = "&".join(filter(None, (query, added)))
        resource = f"{path}?{joined}" if joined or mark else path
        return URL(self.secure, self.host, self.port, resource, self.userinfo)

    def join(self, location: str) -> URL:
        """The URL that a Location header in an answer to this one points to (RFC 9110, section 10.2.2).

        ``http`` and ``https`` become ``ws`` and ``wss``. User info is kept within the same origin and never
        taken from ``location``. Raises ``ValueError`` when ``location`` is no usable URL.
        """
        base = f"http{'s' if self.secure else ''}://{self.authority}{self.resource}"
        target = urljoin(base, location).partition("#")[0]
        scheme, mark, rest = target.partition("://")
        found = parse_url({"http": "ws", "https": "wss"}.get(scheme.lower(), scheme) + mark + rest)
        host = self.host if found.host == self.server_name else found.host
        userinfo = self.userinfo if (found.secure, host, found.port) == self.origin else None
        return URL(found.secure, host, found.port, found.resource, userinfo)

    def __str__(self) -> str:
        path, mark, query = self.resource.partition("?")
        return f"{self.scheme}://{self.authority}{path}{mark}{'&'.join(map(_hidden, query.split('&')))}"

    def __repr__(self) -> str:
        return f"URL({str(self)!r})"


def _hidden(parameter: str) -> str:
    """A query parameter without its value; one without a name may be a secret as a whole."""
    name, mark, _ = parameter.partition("=")
    return f"{name}=..." if mark else "..." if name else ""


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _default_port(secure: bool) -> int:
    return 443 if secure else 80


def parse_url(url: str) -> URL:
    """Take a WebSocket URL apart (RFC 6455, section 3; RFC 3986).

    Raises:
        TypeError: ``url`` is not ``str``.
        ValueError: not ``ws``/``wss``, no host, a bad host or port, a fragment, a control character.
    """
    text = _line("url", url)
    if _CONTROL.search(text) or text != text.strip():
        raise ValueError("url: contains white space at an end, or a control character")
    scheme, mark, rest = text.partition("://")
    secure = _secure(scheme, mark)
    if "#" in rest:
        raise ValueError("url: has a fragment, which WebSocket URLs can't have; write %23 for a literal #")
    cut = min((rest.find(char) for char in "/?" if char in rest), default=len(rest))
    host, port, userinfo = _split_authority("url", rest[:cut])
    resource = rest[cut:] if rest[cut : cut + 1] == "/" else f"/{rest[cut:]}"
    return URL(secure, host, port or _default_port(secure), quote(resource, safe=_PRINTABLE), userinfo)


def _secure(scheme: str, mark: str) -> bool:
    name = scheme.lower()
    if name in ("http", "https") and mark:
        raise ValueError(f"url: scheme is {name}; use {'wss' if name == 'https' else 'ws'}")
    if not mark or name not in ("ws", "wss"):
        shown = f", not {name}://" if mark and _SCHEME.fullmatch(name) else ""
        raise ValueError(f"url: must begin with ws:// or wss://{shown}")
    return name == "wss"


def _split_authority(option: str, authority: str) -> tuple[str, int | None, tuple[str, str] | None]:
    """Host, port if given, user info if given. No part of it stands in an error: any may be a secret."""
    user, mark, host_port = authority.rpartition("@")
    match = _HOST_PORT.fullmatch(host_port)
    # Browsers read a backslash as a slash: such a URL has two different hosts.
    if not match or "\\" in user:
        raise ValueError(f"{option}: bad host or port (an IPv6 address needs brackets, a port is a number)")
    host, digits = match.groups()
    if digits and not (len(digits) <= 5 and 0 < int(digits) < 65536):
        raise ValueError(f"{option}: port must be 1 to 65535")
    return _host(option, host), int(digits) if digits else None, _userinfo(option, user) if mark else None


def _host(option: str, host: str) -> str:
    if not host:
        raise ValueError(f"{option}: no host")
    if host.startswith("["):
        return _ipv6(option, host[1:-1])
    try:
        name = host.lower() if host.isascii() else host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise ValueError(f"{option}: host is no valid international domain name") from error
    if len(name) > 254 or not _HOST_NAME.fullmatch(name):
        raise ValueError(f"{option}: bad host name")
    return name


def _ipv6(option: str, text: str) -> str:
    address, mark, zone = text.partition("%25")
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError as error:
        raise ValueError(f"{option}: bad IPv6 address") from error
    if mark and not re.fullmatch(r"[0-9A-Za-z._~-]+", zone):
        raise ValueError(f"{option}: bad zone in an IPv6 address")
    return f"{parsed.compressed}%{zone}" if mark else parsed.compressed


def _userinfo(option: str, text: str) -> tuple[str, str]:
    user, _, password = text.partition(":")
    if ":" in unquote(user):
        raise ValueError(f"{option}: a colon in the user name can't be sent (RFC 7617, section 2)")
    return unquote(user), unquote(password)


class ProxySource(enum.Enum):
    """Where a proxy comes from when it is not given."""

    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    """A proxy to dial through.

    Attributes:
        scheme: ``http``, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h``.
        host, port: of the proxy.
        userinfo: user name and password, percent-decoded, or ``None``; with SOCKS4 the user id and nothing.
    """

    scheme: str
    host: str
    port: int
    userinfo: tuple[str, str] | None = None

    @property
    def takes_names(self) -> bool:
        """Whether the proxy is told the server's name, to resolve it, rather than an address."""
        return self.scheme not in ("socks4", "socks5")

    def __str__(self) -> str:
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"

    def __repr__(self) -> str:
        return f"Proxy({str(self)!r})"


def parse_proxy(url: str) -> Proxy:
    """Take the URL of a proxy apart: ``scheme://[user:password@]host[:port]``.

    The scheme is ``http`` (port 80 unless given), ``socks4``, ``socks4a``, ``socks5`` or ``socks5h`` (1080);
    with ``socks4`` and ``socks5`` the name of the server is resolved here, with the others by the proxy.

    Raises:
        TypeError: ``url`` is not ``str``.
        ValueError: another scheme, no host, a bad host or port, or a user that the proxy can't be told.
    """
    text = _visible("proxy", url)
    scheme, mark, rest = text.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in _PROXY_PORTS:
        shown = f", not {scheme}://" if mark and _SCHEME.fullmatch(scheme) else ""
        known = [f"{name}://" for name in _PROXY_PORTS]
        raise ValueError(f"proxy: must begin with {', '.join(known[:-1])} or {known[-1]}{shown}")
    authority, _, path = rest.partition("/")
    if path or "?" in authority or "#" in authority:
        raise ValueError("proxy: must be scheme, host and port only")
    host, port, userinfo = _split_authority("proxy", authority)
    if userinfo:
        _check_proxy_user(scheme, *userinfo)
    return Proxy(scheme, host, port or _PROXY_PORTS[scheme], userinfo)


def _check_proxy_user(scheme: str, user: str, password: str) -> None:
    if scheme.startswith("socks4") and (password or "\0" in user):
        raise ValueError("proxy: SOCKS4 has a user id without NUL, and no password")
    if scheme.startswith("socks5") and not (user and max(len(user.encode()), len(password.encode())) < 256):
        raise ValueError("proxy: SOCKS5 has a user name of 1 to 255 bytes, and a password of up to 255")


class Overflow(str, enum.Enum):
    """What ``send`` does when the send queue is full."""

    BLOCK = "block"  # waits up to send_timeout, then SendTimeout
    RAISE = "raise"  # QueueFull at once
    DROP_OLDEST = "drop_oldest"  # gives up the oldest messages; counted, and given to on_dropped


# What other clients, and other calls, name it.
_ELSEWHERE: Final = MappingProxyType(
    {
        "additional_headers": "headers",
        "ca_certs": "ssl_context",
        "cafile": "ssl_context",
        "local_addr": "local_address",
        "source_address": "local_address",
        "ssl": "ssl_context",
        "sslopt": "ssl_context",
        "timeout": "open_timeout",
        "verify": "ssl_context",
    }
)


def _hint(name: str, known: Sequence[str]) -> str:
    near = [_ELSEWHERE[name]] if name in _ELSEWHERE else difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Options:
    """Every option of a connection, checked. Immutable, so safe from any thread.

    Times are seconds, sizes bytes. Callbacks take the connection first.

    Attributes:
        headers: extra request headers: mapping, pairs, or a callable that returns either at each connect.
        cookies: mapping or the text of a Cookie header.
        origin: value of the Origin header; none is sent unless set.
        subprotocols: names offered, best first (RFC 6455, section 1.9).
        credentials: sent as query parameters; a callable is asked at each connect.
        ssl_context: for ``wss``; default: verification against the system's authorities.
        server_hostname: name or IP address for SNI, and to be found in the certificate; default: the URL's.
            For ``wss`` only, and not for where a redirect leads to another origin.
        proxy: from the environment unless given as the URL of an HTTP proxy or (with ``wsclient[socks]``) a
            SOCKS4, 4a, 5 or 5h one: ``socks5h://user:password@host:1080``; ``None`` for none.
        local_address: IP address of this machine, or that and a port, to connect from.
        socket_options: what ``setsockopt`` is called with on each TCP socket before it connects.
        open_timeout: over DNS, TCP, proxy, TLS and upgrade together.
        close_timeout: default of ``close``.
        send_timeout: longest wait of ``send`` for room in the queue.
        write_timeout: longest time without one byte of progress in a write; ``None`` for no limit.
        ping_interval: between keepalive pings; ``None`` for none.
        ping_timeout: longest wait for a pong; ``None`` for no limit.
        follow_redirects: how many to follow; without secrets to another origin, never from wss to ws.
        socket: a connected stream socket to use; the connection owns it from then on.
        unix_path: path of a Unix socket to connect to.
        max_message_size: largest message accepted from the peer, inflated; ``None``: no limit, and no
            compression.
        fragment_size: messages with a larger payload are sent in fragments of that, so that control frames go
            between them; ``None``: every message in one frame.
        assemble: ``False``: received messages are not assembled but handed over as they come, by
            ``recv_stream`` or ``on_fragment``.
        max_queued_messages, max_queued_bytes: bounds of the send queue.
        max_received_messages, max_received_bytes: bounds of what waits for ``recv``.
        overflow: what ``send`` does when the queue is full: ``"block"`` (up to ``send_timeout``), ``"raise"``
            (``QueueFull``) or ``"drop_oldest"`` (counted, and given to ``on_dropped``).
        compression: ``"deflate"`` or ``Deflate(...)`` offers permessage-deflate (RFC 7692), which the server
            may decline; ``None``: none.
        reconnect: ``Reconnect(...)``, or ``True`` for its defaults: a lost connection is opened again.
        delivery: with ``reconnect``, what becomes of messages that were written and may not have arrived:
            ``"at_most_once"`` hands them back, ``"at_least_once"`` sends them again.
        max_in_doubt_bytes: bound of those; beyond it, ``"at_least_once"`` writes nothing until the peer has
            answered a ping, and ``"at_most_once"`` forgets the oldest.
        callback_executor: runs the callbacks, still in order; ``None``: the reader thread does.
        json_dumps, json_loads: serializer of ``send_json`` and ``recv_json``.
        on_open(conn), on_message(conn, message), on_close(conn, code, reason), on_error(conn, exception):
            callbacks, run in order on the reader thread or the ``callback_executor``.
        on_disconnect(conn, reason), on_reconnect(conn): callbacks, with ``reconnect``: the connection is lost
            (a ``Disconnect`` says why), and open again. What ``on_reconnect`` sends goes out before the rest.
        on_ping(conn, payload), on_pong(conn, payload): callbacks, in order with the messages: of the peer's
            pings, which are answered without them, and of any pong, asked for or not.
        on_fragment(conn, data, final): in place of ``on_message`` with ``assemble=False``: each piece of a
            message, ``str`` or ``bytes``, and whether it is the last one.
        on_dropped(conn, message): called by the sending thread for each message given up.

    Raises:
        TypeError, ValueError: naming the option and its fault, never its value where that may be a secret.
    """

    headers: HeaderSource | Callable[[], HeaderSource] | None = None
    cookies: Mapping[str, str] | str | None = None
    origin: str | None = None
    subprotocols: Sequence[str] = ()
    credentials: Credentials | Callable[[], Credentials] | None = None
    ssl_context: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | Proxy | ProxySource | bool | None = ProxySource.ENVIRONMENT
    local_address: str | tuple[str, int] | None = None
    socket_options: Sequence[tuple[int, int, int | bytes]] = ()
    open_timeout: float = 10.0
    close_timeout: float = 10.0
    send_timeout: float = 5.0
    write_timeout: float | None = 10.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    follow_redirects: int = 0
    socket: sockets.socket | None = None
    unix_path: str | bytes | os.PathLike[str] | None = None
    max_message_size: int | None = 16 * 1024 * 1024
    fragment_size: int | None = None
    assemble: bool = True
    max_queued_messages: int = 4096
    max_queued_bytes: int = 16 * 1024 * 1024
    max_received_messages: int = 1024
    max_received_bytes: int = 16 * 1024 * 1024
    # A member or its value; always a member once checked.
    overflow: Overflow = Overflow.BLOCK
    # Or "deflate"; always a Deflate or None once checked.
    compression: Deflate | None = None
    # Or True, or False; always a Reconnect or None once checked.
    reconnect: Reconnect | None = None
    # A member or its value; always a member once checked.
    delivery: Delivery = Delivery.AT_MOST_ONCE
    max_in_doubt_bytes: int = 16 * 1024 * 1024
    callback_executor: Executor | None = None
    json_dumps: Callable[[Any], str | bytes] = json.dumps
    json_loads: Callable[[str | bytes], Any] = json.loads
    on_open: Callback | None = None
    on_message: Callback | None = None
    on_fragment: Callback | None = None
    on_close: Callback | None = None
    on_error: Callback | None = None
    on_disconnect: Callback | None = None
    on_reconnect: Callback | None = None
    on_ping: Callback | None = None
    on_pong: Callback | None = None
    on_dropped: Callback | None = None

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> Options:
        """Options from keyword arguments; an unknown name is a ``TypeError`` that suggests the nearest."""
        known = [field.name for field in fields(cls)]
        for name in kwargs:
            if name not in known:
                raise TypeError(f"unknown option {name!r}{_hint(name, known)}")
        return cls(**kwargs)

    def __post_init__(self) -> None:
        self._check_request()
        self._check_route()
        self._check_times()
        self._check_sizes()
        self._check_compression()
        self._check_reconnect()
        self._check_callables()
        self._check_receiving()

    def present_credentials(self) -> Credentials | None:
        """The credentials of one connect, checked; calls ``credentials`` if it is callable.

        Raises whatever the callable raises, and ``TypeError`` for what it returns.
        """
        return _check_credentials(self.credentials() if callable(self.credentials) else self.credentials)

    def request_headers(self) -> Pairs:
        """The extra headers of one connect, checked; calls ``headers`` if it is callable.

        Raises whatever the callable raises, and ``TypeError``/``ValueError`` for what it returns.
        """
        source = self.headers() if callable(self.headers) else self.headers
        return () if source is None else _header_pairs(source)

    def _set(self, name: str, value: object) -> None:
        """Replace a field by its normal form; only while the object is being made."""
        object.__setattr__(self, name, value)

    def _check_request(self) -> None:
        if self.headers is not None and not callable(self.headers):
            self._set("headers", _header_pairs(self.headers))
        if self.cookies is not None:
            self._set("cookies", _cookie_line(self.cookies))
        if self.origin is not None:
            _visible("origin", self.origin)
        self._set("subprotocols", _subprotocol_names(self.subprotocols))
        if not callable(self.credentials):
            _check_credentials(self.credentials)
        if self.ssl_context is not None and not hasattr(self.ssl_context, "wrap_bio"):
            raise TypeError(f"ssl_context: must be ssl.SSLContext, not {_name_of(self.ssl_context)}")
        if self.server_hostname is not None:
            self._set("server_hostname", _server_hostname(self.server_hostname))

    def _check_route(self) -> None:
        self._set("follow_redirects", _count("follow_redirects", self.follow_redirects, 0))
        if self.proxy is True:
            self._set("proxy", ProxySource.ENVIRONMENT)
        elif self.proxy is not None and not isinstance(self.proxy, (Proxy, ProxySource)):
            self._set("proxy", parse_proxy(cast("str", self.proxy)))
        if self.local_address is not None:
            self._set("local_address", _local_address(self.local_address))
        if self.unix_path is not None:
            self._set("unix_path", _path(self.unix_path))
        if self.socket is not None:
            _check_socket(self.socket)
        self._set("socket_options", tuple(map(_socket_option, _items("socket_options", self.socket_options))))
        self._check_one_route()

    def _check_one_route(self) -> None:
        routes = {"socket": self.socket is not None, "unix_path": self.unix_path is not None}
        routes["proxy"] = isinstance(self.proxy, Proxy)
        given = [name for name, present in routes.items() if present]
        if len(given) > 1:
            raise ValueError(f"{given[0]}: can't be combined with {given[1]}")
        if self.local_address is not None and given not in ([], ["proxy"]):
            raise ValueError(f"local_address: can't be combined with {given[0]}")
        if self.socket_options and given not in ([], ["proxy"]):
            raise ValueError(f"socket_options: can't be combined with {given[0]}")
        if self.socket is not None and self.follow_redirects:
            raise ValueError("socket: can't be combined with follow_redirects, which needs new connections")

    def _check_times(self) -> None:
        for name in ("open_timeout", "close_timeout", "send_timeout"):
            self._set(name, _number(name, getattr(self, name)))
        for name in ("write_timeout", "ping_interval", "ping_timeout"):
            value = getattr(self, name)
            self._set(name, None if value is None else _number(name, value))

    def _check_sizes(self) -> None:
        for name in (field.name for field in fields(self) if field.name.startswith("max_")):
            if name != "max_message_size" or self.max_message_size is not None:
                _count(name, getattr(self, name), 1)
        if self.fragment_size is not None:
            _count("fragment_size", self.fragment_size, 1)
        self._set("overflow", _member("overflow", Overflow, self.overflow))

    def _check_reconnect(self) -> None:
        self._set("reconnect", _reconnect(self.reconnect))
        self._set("delivery", _member("delivery", Delivery, self.delivery))
        if self.reconnect is None:
            fields_of_it = {"on_disconnect": self.on_disconnect, "on_reconnect": self.on_reconnect}
            given = [name for name, value in fields_of_it.items() if value is not None]
            given += ["delivery"] if self.delivery is not Delivery.AT_MOST_ONCE else []
            if given:
                raise ValueError(f"{given[0]}: needs reconnect")
        elif self.socket is not None:
            raise ValueError("socket: can't be combined with reconnect, which needs new connections")

    def _check_compression(self) -> None:
        self._set("compression", _deflate(self.compression))
        if self.compression is not None and self.max_message_size is None:
            raise ValueError("compression: needs a max_message_size, for little data can inflate to a lot")

    def _check_receiving(self) -> None:
        if not isinstance(self.assemble, bool):
            raise TypeError(f"assemble: must be bool, not {_name_of(self.assemble)}")
        if self.on_message is not None and not self.assemble:
            raise ValueError("on_message: needs assemble=True; pieces of messages go to on_fragment")
        if self.on_fragment is not None and self.assemble:
            raise ValueError("on_fragment: needs assemble=False; whole messages go to on_message")

    def _check_callables(self) -> None:
        for name in _CALLBACKS:
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"{name}: must be callable, not {_name_of(value)}")
        for name in ("json_dumps", "json_loads"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name}: must be callable, not {_name_of(getattr(self, name))}")
        executor = self.callback_executor
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise TypeError(f"callback_executor: must be an Executor, not {_name_of(executor)}")

    def __repr__(self) -> str:
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return f"Options({', '.join(f'{name}={self._shown(name)}' for name in changed)})"

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        if name == "headers" and not callable(value):
            return "{" + ", ".join(f"{header!r}: ..." for header, _ in value) + "}"
        return "..." if name in ("headers", "cookies") else repr(value)


def _server_hostname(value: object) -> str:
    text = _line("server_hostname", value)
    if ":" not in text:
        return _host("server_hostname", text).rstrip(".")
    with contextlib.suppress(ValueError):
        address = ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]"))
        if address.scope_id is None:
            return address.compressed
    raise ValueError("server_hostname: must be a host name or an IP address, without port or zone")


def _items(option: str, value: object) -> Iterable[object]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{option}: must be a sequence, not {_name_of(value)}")
    return value


def _socket_option(value: object) -> tuple[int, int, int | bytes]:
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        raise TypeError("socket_options: must hold (level, name, value)")
    level, name, setting = value
    if not (isinstance(level, int) and isinstance(name, int) and isinstance(setting, (int, bytes))):
        raise TypeError("socket_options: level and name must be int, the value int or bytes")
    return level, name, setting


def _local_address(value: object) -> tuple[str, int]:
    host, port = value if isinstance(value, tuple) and len(value) == 2 else (value, 0)
    text = _text("local_address", host)
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"local_address: port must be int, not {_name_of(port)}")
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("local_address: must be an IP address of this machine") from None
    if not 0 <= port < 65536:
        raise ValueError("local_address: port must be 0 (any) to 65535")
    return text, port


E = TypeVar("E", bound=enum.Enum)


def _member(option: str, kind: type[E], value: object) -> E:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(item.value) for item in kind)
        raise ValueError(f"{option}: must be one of {known}, not {value!r}") from None


def _reconnect(value: object) -> Reconnect | None:
    if value is True:
        return Reconnect()
    if value is None or value is False:
        return None
    if isinstance(value, Reconnect):
        return value
    raise TypeError(f"reconnect: must be Reconnect(...), True, False or None, not {_name_of(value)}")


def _check_credentials(value: object) -> Credentials | None:
    if value is None or isinstance(value, Credentials):
        return value
    raise TypeError(
        f"credentials: must be Credentials, or a callable that returns them, not {_name_of(value)}"
    )


def _deflate(value: object) -> Deflate | None:
    if value == "deflate":
        return Deflate()
    if value is None or isinstance(value, Deflate):
        return value
    raise ValueError(f"compression: must be None, 'deflate' or Deflate(...), not {value!r}")


_CALLBACKS: Final = (
    *("on_open", "on_message", "on_fragment", "on_close", "on_error"),
    *("on_disconnect", "on_reconnect", "on_ping", "on_pong", "on_dropped"),
)


def _path(path: object) -> str | bytes:
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"unix_path: must be a path, not {_name_of(path)}")
    found: str | bytes = os.fspath(path)
    raw = os.fsencode(found)
    # A leading NUL names a socket in Linux's abstract namespace.
    if not raw or b"\0" in raw[1:]:
        raise ValueError("unix_path: must be non-empty, without NUL after its first byte")
    return found


def _check_socket(value: object) -> None:
    if not all(callable(getattr(value, name, None)) for name in ("fileno", "recv_into", "shutdown")):
        raise TypeError(f"socket: must be a connected socket.socket, not {_name_of(value)}")
    if hasattr(value, "unwrap"):
        raise TypeError("socket: must not be wrapped in TLS; use a wss:// URL and ssl_context")
