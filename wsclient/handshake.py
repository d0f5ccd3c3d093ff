"""From a URL to an open byte stream: dial, proxy, TLS and the opening handshake (RFC 6455, section 4.1).

The only importer of websocket-client, which writes the request and validates the answer. Its inner function
is used rather than ``WebSocket.connect``, because that drops ``;parameters`` from the path, insists on a
host name under which its process-wide cookie jar is searched, and takes a redirect for success. The socket
it is given is not one: what it writes goes out under one deadline, and what it reads is the digest of a
response that was read, bounded and judged here, so that nothing of it (a cookie, say) stays in that library.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import errno
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, TypeVar, cast

from websocket import WebSocketException
from websocket._handshake import handshake as write_request_and_validate

from wsclient.deflate import Agreement, Deflate
from wsclient.environment import environment_proxy
from wsclient.exceptions import ConnectFailed, HandshakeError, HandshakeTimeout
from wsclient.http1 import Response, basic, read_body, read_response
from wsclient.options import URL, Credentials, Options, Proxy, ProxySource, parse_url
from wsclient.proxy import connect_http
from wsclient.transport import (
    Cancellation,
    Cancelled,
    DeadlinePassed,
    DialStream,
    Resolved,
    Transport,
    adopt,
    connect_tcp,
    connect_unix,
    default_context,
    describe,
    local_endpoint,
    resolve,
    try_each,
)

__all__ = ["Dial", "Step", "Upgraded"]

T = TypeVar("T")

_LOG: Final = logging.getLogger("wsclient")
Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


class Step(enum.Enum):
    """What a dial is at."""

    DNS = "DNS"
    TCP = "TCP connect"
    PROXY = "proxy"
    TLS = "TLS"
    UPGRADE = "upgrade"


@dataclass(frozen=True, slots=True)
class Upgraded:
    """An open connection.

    Attributes:
        transport: the byte stream, positioned behind the response head.
        headers: response headers, names in lower case, repeated ones joined with a comma.
        subprotocol: the one that the server chose among those offered, or ``None``.
        url: the URL that was finally connected to.
        compression: what was agreed on (RFC 7692), or ``None``.
        credentials: those that were presented, or ``None``.
    """

    transport: Transport
    headers: Mapping[str, str]
    subprotocol: str | None
    url: URL
    compression: Agreement | None
    credentials: Credentials | None


class _Refused(Exception):
    """The response is not 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class _UpgradeSocket:
    """As much of a socket as websocket-client's handshake uses."""

    # All fields: the dialling thread.
    def __init__(self, stream: DialStream, resource: str, withheld: bytes) -> None:
        self._stream = stream
        # What websocket-client, which may log the request that it makes, does not get to see.
        self._first_line = f"GET {resource} HTTP/1.1".encode()
        self._withheld = withheld
        self._response: Response | None = None
        self._digest = b""

    @property
    def response(self) -> Response:
        assert self._response is not None, "the request was answered"
        return self._response

    def gettimeout(self) -> float:
        # "Does not block": websocket-client then neither retries nor waits on its own. The stream does.
        return 0.0

    def send(self, data: bytes) -> int:
        headers = data[data.index(b"\r\n") : -len(b"\r\n")]  # without the empty line
        self._stream.send_all(b"".join((self._first_line, headers, self._withheld, b"\r\n")))
        return len(data)

    def recv(self, size: int) -> bytes:
        if self._response is None:
            self._response = read_response(self._stream)
            if self._response.status != 101:
                raise _Refused(self._response)
            self._digest = _digest(self._response)
        part, self._digest = self._digest[:size], self._digest[size:]
        return part


def _digest(response: Response) -> bytes:
    """What of a response websocket-client needs for its verdict, and nothing that it would keep."""
    lines = ["HTTP/1.1 101 Switching Protocols"]
    for name in ("Upgrade", "Connection", "Sec-WebSocket-Accept"):
        lines.append(f"{name}: {response.headers.get(name.lower(), '')}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def check_upgrade(response: Response, key: str, offered: tuple[str, ...]) -> str | None:
    """Judge a 101 response (RFC 6455, section 4.1, client requirements 2 to 6); return the subprotocol."""
    fault = _upgrade_fault(response, key, offered)
    if fault:
        raise HandshakeError(fault, status=response.status, headers=response.headers)
    return response.headers.get("sec-websocket-protocol")


def _upgrade_fault(response: Response, key: str, offered: tuple[str, ...]) -> str:
    if response.tokens("upgrade") != ["websocket"]:
        return "response lacks 'Upgrade: websocket'"
    if "upgrade" not in response.tokens("connection"):
        return "response lacks 'Connection: Upgrade'"
    expected = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    accept = response.headers.get("sec-websocket-accept", "").encode("latin-1")
    if not hmac.compare_digest(accept, expected):
        return "response has a wrong Sec-WebSocket-Accept"
    chosen = response.headers.get("sec-websocket-protocol")
    if chosen is not None and chosen not in offered:
        return "response selects a subprotocol that was not offered"
    return ""


def agree_on_compression(response: Response, offered: Deflate | None) -> Agreement | None:
    """Judge the extensions of a 101 response (RFC 6455, section 9.1; RFC 7692, section 5)."""
    selected = response.headers.get("sec-websocket-extensions")
    if not selected:
        return None
    try:
        if offered is None:
            raise ValueError("response selects an extension that was not offered")
        return offered.agree(selected)
    except ValueError as error:
        raise HandshakeError(str(error), status=response.status, headers=response.headers) from None


@dataclass(frozen=True, slots=True)
class _Request:
    """One request of a dial. ``trusted``: every URL so far had the origin that the secrets are for."""

    url: URL
    options: Options
    extra: tuple[tuple[str, str], ...]
    credentials: Credentials | None
    trusted: bool = True

    @property
    def server_hostname(self) -> str:
        """The name for SNI and for the certificate: neither with a dot at its end."""
        own = self.options.server_hostname if self.trusted else None
        return own or self.url.server_name.rstrip(".")

    @property
    def target(self) -> URL:
        """The URL with what of the credentials may go there."""
        credentials = self.credentials
        return self.url.with_credentials(credentials) if credentials and self.trusted else self.url

    def redirected(self, url: URL) -> _Request:
        trusted = self.trusted and url.origin == self.url.origin
        return replace(self, url=url if trusted else replace(url, userinfo=None), trusted=trusted)

    def arguments(self, key: str) -> dict[str, Any]:
        """Keyword arguments for websocket-client's handshake."""
        own = {"Sec-WebSocket-Key": key}
        if self.options.subprotocols:
            own["Sec-WebSocket-Protocol"] = ", ".join(self.options.subprotocols)
        if self.options.compression:
            own["Sec-WebSocket-Extensions"] = self.options.compression.offer()
        return {
            "host": self._headers().get("host", ("Host", self.url.authority))[1],
            "origin": self.options.origin,
            "suppress_origin": self.options.origin is None,
            "header": own,
        }

    def withheld(self) -> bytes:
        """The header lines that may hold secrets: all that were asked for, and the cookies."""
        headers = self._headers()
        headers.pop("host", None)
        cookie = "; ".join(filter(None, (headers.pop("cookie", ("Cookie", ""))[1], self._cookies())))
        pairs = [*headers.values(), *([("Cookie", cookie)] if cookie else [])]
        return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode()

    def _cookies(self) -> str:
        return cast("str", self.options.cookies or "") if self.trusted else ""

    def _headers(self) -> dict[str, tuple[str, str]]:
        """The extra headers by lower-case name; repeated ones are joined (RFC 9110, section 5.3)."""
        headers: dict[str, tuple[str, str]] = {}
        for name, value in self.extra:
            key = name.lower()
            if not self.trusted and (key in _SECRET_HEADERS or key == "host"):
                continue
            if key in headers:
                value = f"{headers[key][1]}{'; ' if key == 'cookie' else ', '}{value}"
            headers[key] = name, value
        if self.url.userinfo:
            headers.setdefault("authorization", ("Authorization", basic(self.url.userinfo)))
        return headers


def asked(option: str, ask: Callable[[], T]) -> T:
    """What an option says at this connect; it may be a callable of the application's."""
    try:
        return ask()
    except BaseException as error:  # SystemExit, too: the thread is not theirs to end
        # What its own errors say may be secret; what was found wrong with its result is not.
        fault = str(error) if str(error).startswith(f"{option}: ") else type(error).__name__
        raise HandshakeError(f"the callable of {option}= failed: {fault}") from error


@contextlib.contextmanager
def _closed_on_failure(stream: DialStream) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _tunnel_opener(proxy: Proxy) -> Callable[[DialStream, Proxy, str, int], None]:
    if proxy.scheme == "http":
        return connect_http
    try:
        from wsclient.socks import connect_socks
    except ImportError as error:
        text = f"proxy {proxy}: SOCKS needs the package socksio: pip install 'wsclient[socks]'"
        raise ConnectFailed(text) from error
    return connect_socks


def _usable(proxy: Proxy, addresses: list[Resolved]) -> list[Resolved]:
    """Those of a server's addresses that the proxy can be told."""
    found = [item for item in addresses if proxy.scheme != "socks4" or ":" not in item[1][0]]
    if not found:
        raise OSError(errno.EAFNOSUPPORT, "SOCKS4 knows IPv4 addresses only, and the host has none")
    return found


class Dial:
    """One attempt to open a connection, redirects included.

    Args:
        url: ``ws://`` or ``wss://``.
        options: of the connection.
        log: of the connection; its records say which one it is.

    Raises:
        TypeError, ValueError: ``url`` is not a WebSocket URL, or an option is not for it.
    """

    def __init__(self, url: str, options: Options, log: Log = _LOG) -> None:
        self._url = parse_url(url)
        if options.server_hostname is not None and not self._url.secure:
            raise ValueError("server_hostname: only a wss:// URL has a use for it")
        self._log = log
        self._options = options
        self._cancellation = Cancellation()
        self._step = Step.DNS  # dialling thread; read by any
        self._via: Proxy | None = None  # dialling thread; read by any: whose DNS, TCP connect or answer it is

    @property
    def url(self) -> URL:
        """The URL that was asked for."""
        return self._url

    @property
    def step(self) -> Step:
        """What the dial is at. Any thread."""
        return self._step

    def cancel(self) -> None:
        """Make `run` raise `ConnectFailed` soon: at once, but for a name resolution in progress.

        Any thread; idempotent; never waits, never raises. May come before `run`.
        """
        self._cancellation.cancel()

    def timed_out(self, seconds: float) -> HandshakeTimeout:
        """The error for a dial that was not done after ``seconds``. Any thread."""
        allowed = f"{round(seconds, 3):g}"
        return HandshakeTimeout(f"{self._url}: not open within {allowed} s: during {self._stage}")

    @property
    def _stage(self) -> str:
        """The step in words. Any thread."""
        step, proxy = self._step, self._via
        if proxy is None or step in (Step.TLS, Step.UPGRADE):
            return step.value
        return f"{step.value} {proxy}" if step is Step.PROXY else f"{step.value} of proxy {proxy}"

    def run(self, deadline: float) -> Upgraded:
        """Dial, once. ``deadline`` is an instant of ``time.monotonic()``.

        Raises:
            HandshakeTimeout: the deadline passed.
            ConnectFailed: DNS, TCP, proxy or TLS failed, or the dial was cancelled.
            HandshakeError: the server, or a proxy, gave an answer that is no upgrade.
        """
        began = time.monotonic()
        try:
            with self._cancellation:
                return self._follow(deadline)
        except HandshakeError as error:
            error.args = (f"{self._url}: {error}",)
            raise
        except (DeadlinePassed, Cancelled) as error:
            # Who waits for the dial cancels it at the deadline: the deadline is what the user has to hear of.
            if isinstance(error, DeadlinePassed) or time.monotonic() >= deadline:
                raise self.timed_out(deadline - began) from error
            raise ConnectFailed(f"{self._url}: cancelled during {self._stage}") from error
        except OSError as error:
            raise ConnectFailed(f"{self._url}: {self._stage} failed: {describe(error)}") from error

    def _follow(self, deadline: float) -> Upgraded:
        credentials = asked("credentials", self._options.present_credentials)
        headers = asked("headers", self._options.request_headers)
        request = _Request(self._url, self._options, headers, credentials)
        left = self._options.follow_redirects
        while True:
            stream = self._open(request, deadline)
            try:
                return self._upgrade(stream, request)
            except _Refused as refusal:
                with contextlib.closing(stream):
                    request = self._redirected(request, refusal.response, left, stream)
            except BaseException:
                stream.close()
                raise
            left -= 1

    def _open(self, request: _Request, deadline: float) -> DialStream:
        """A stream to the server of a request, through proxy and TLS."""
        stream = self._connect(request.url, deadline)
        if request.url.secure:
            self._step = Step.TLS
            with _closed_on_failure(stream):
                stream.start_tls(self._options.ssl_context or default_context(), request.server_hostname)
        return stream

    def _connect(self, url: URL, deadline: float) -> DialStream:
        options = self._options
        self._via = None
        if options.socket is not None or options.unix_path is not None:
            self._step = Step.TCP
            if options.socket is not None:
                return adopt(options.socket, deadline, self._cancellation)
            return connect_unix(cast("str | bytes", options.unix_path), deadline, self._cancellation)
        proxy = self._proxy_for(url)
        if proxy is None:
            return self._connect_tcp(self._resolve(url.host, url.port, deadline), deadline)
        return self._connect_through(proxy, url, deadline)

    def _resolve(self, host: str, port: int, deadline: float) -> list[Resolved]:
        self._step = Step.DNS
        addresses = resolve(host, port, self._cancellation)
        if time.monotonic() >= deadline:
            raise DeadlinePassed
        return addresses

    def _connect_tcp(self, addresses: list[Resolved], deadline: float) -> DialStream:
        self._step = Step.TCP
        local = cast("tuple[str, int] | None", self._options.local_address)
        source = local_endpoint(*local) if local else None
        return connect_tcp(addresses, deadline, self._cancellation, source, self._options.socket_options)

    def _connect_through(self, proxy: Proxy, url: URL, deadline: float) -> DialStream:
        """A stream to the server of ``url`` through a proxy, which is told its name or one address."""
        open_tunnel = _tunnel_opener(proxy)
        targets = [] if proxy.takes_names else _usable(proxy, self._resolve(url.host, url.port, deadline))
        self._via = proxy
        way = self._resolve(proxy.host, proxy.port, deadline)

        def tunnel(host: str, until: float) -> DialStream:
            stream = self._connect_tcp(way, until)
            self._step = Step.PROXY
            with _closed_on_failure(stream):
                open_tunnel(stream, proxy, host, url.port)
            return stream

        if proxy.takes_names:
            return tunnel(url.server_name, deadline)
        # A zone means something on this machine only.
        stream = try_each(targets, deadline, lambda to, until: tunnel(to[1][0].partition("%")[0], until))
        stream.set_deadline(deadline)
        return stream

    def _proxy_for(self, url: URL) -> Proxy | None:
        proxy = self._options.proxy
        if proxy is not ProxySource.ENVIRONMENT:
            return cast("Proxy | None", proxy)
        try:
            return environment_proxy(url)
        except ValueError as error:
            raise ConnectFailed(str(error)) from error

    def _upgrade(self, stream: DialStream, request: _Request) -> Upgraded:
        self._step = Step.UPGRADE
        key = base64.b64encode(os.urandom(16)).decode()
        url = request.target
        sock = _UpgradeSocket(stream, url.resource, request.withheld())
        # No host name: it would be looked up in the cookie jar. Host comes with the arguments.
        where = (f"{url.scheme}:", "", url.port, "/...")
        refused = None
        try:
            write_request_and_validate(cast("Any", sock), *where, **request.arguments(key))
        except WebSocketException as error:
            if isinstance(error.__context__, OSError):  # a time-out of the system's, translated
                raise error.__context__ from None
            refused = error
        response = sock.response
        # First, because the other verdict does not say what is wrong.
        subprotocol = check_upgrade(response, key, tuple(self._options.subprotocols))
        compression = agree_on_compression(response, self._options.compression)
        if refused:
            raise HandshakeError("response is no valid upgrade", status=101, headers=response.headers)
        self._log.debug("%s: open", url)
        transport = stream.into_transport(response.rest)
        return Upgraded(transport, response.headers, subprotocol, url, compression, request.credentials)

    def _redirected(self, request: _Request, response: Response, left: int, stream: DialStream) -> _Request:
        """The request to go on with after a response other than 101; `HandshakeError` if there is none."""
        location = response.headers.get("location")
        follow = response.status in _REDIRECTS and location and self._options.follow_redirects
        if not follow or not location or not left:
            reason = f"more than {self._options.follow_redirects} redirects" if follow else "no upgrade"
            body = read_body(stream, response)
            text = f"{reason}: the answer is {response.title}"
            raise HandshakeError(text, status=response.status, headers=response.headers, body=body)
        fault, target = self._judge_redirect(request.url, location)
        if target is None:
            raise HandshakeError(f"redirect {fault}", status=response.status, headers=response.headers)
        self._log.debug("%s: redirected to %s", request.url, target)
        return request.redirected(target)

    def _judge_redirect(self, url: URL, location: str) -> tuple[str, URL | None]:
        try:
            target = url.join(location.encode("latin-1").decode("utf-8", "replace"))
        except ValueError as error:
            return f"to an unusable Location: {error}", None
        if url.secure and not target.secure:
            return "from wss to ws refused", None
        if self._options.unix_path is not None and target.origin != url.origin:
            return "from a Unix socket to another origin refused", None
        return "", target
