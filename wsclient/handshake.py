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
import http
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, cast

from websocket import WebSocketException
from websocket._handshake import handshake as write_request_and_validate

from wsclient.exceptions import ConnectFailed, HandshakeError, HandshakeTimeout
from wsclient.options import URL, Options, Proxy, ProxySource, parse_proxy, parse_url
from wsclient.transport import (
    Cancellation,
    Cancelled,
    DeadlinePassed,
    DialStream,
    Transport,
    adopt,
    connect_tcp,
    connect_unix,
    default_context,
    describe,
    resolve,
)

__all__ = ["Dial", "Step", "Upgraded"]

_LOG: Final = logging.getLogger("wsclient")
Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_MAX_HEAD: Final = 64 * 1024
_MAX_BODY: Final = 64 * 1024
_BODY_SECONDS: Final = 2.0  # a refusal is not held back for longer than this by a body without an end
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})

_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE: Final = re.compile(r"HTTP/1\.[01] ([1-9][0-9]{2})(?: .*)?")
_HEADER_LINE: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00\r\n]*?)[ \t]*")


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
    """

    transport: Transport
    headers: Mapping[str, str]
    subprotocol: str | None
    url: URL


@dataclass(frozen=True, slots=True)
class Response:
    """The head of an HTTP response; ``rest`` is what was read behind it."""

    status: int
    headers: Mapping[str, str]
    rest: bytes

    @property
    def title(self) -> str:
        """Status code and its registered phrase; the server's own wording could hold anything."""
        try:
            return f"{self.status} {http.HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)

    def tokens(self, name: str) -> list[str]:
        """The members of a comma-separated header, in lower case."""
        return [item.strip().lower() for item in self.headers.get(name, "").split(",") if item.strip()]


def parse_response(head: bytes, rest: bytes = b"") -> Response:
    """Parse a response head (RFC 9112, sections 4 and 5). Raises `HandshakeError` when it is malformed."""
    first, *lines = re.split(r"\r?\n", head.decode("latin-1"))
    status = _STATUS_LINE.fullmatch(first)
    if not status:
        raise HandshakeError("malformed response: bad status line")
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER_LINE.fullmatch(line)
        if not match:
            raise HandshakeError("malformed response: bad header line", status=int(status[1]))
        name, value = match[1].lower(), match[2]
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Response(int(status[1]), headers, rest)


def read_response(stream: DialStream) -> Response:
    """Read the head of a final response: interim ones (RFC 9110, section 15.2) are skipped.

    Raises `HandshakeError` for what is no HTTP/1 response or is over 64 KiB, ``OSError`` when the stream
    ends, and what the stream raises.
    """
    received = b""
    begin = 0
    while True:
        found = _HEAD_END.search(received, begin)
        if (found.end() if found else len(received)) > _MAX_HEAD:
            raise HandshakeError("response head over 64 KiB")
        if found:
            response = parse_response(received[begin : found.start()], received[found.end() :])
            if response.status == 101 or response.status >= 200:
                return response
            begin = found.end()
            continue
        if not b"HTTP/".startswith(received[begin : begin + 5]):
            raise HandshakeError("malformed response: not HTTP")
        received += _more(stream)


def _more(stream: DialStream) -> bytes:
    data = stream.receive()
    if not data:
        raise ConnectionResetError(errno.ECONNRESET, "the connection ended before the response was complete")
    return data


def read_body(stream: DialStream, response: Response) -> bytes:
    """Up to 64 KiB of a response's body; what came of it, if the rest does not come soon."""
    chunked = "chunked" in response.tokens("transfer-encoding")
    length = response.headers.get("content-length", "")
    wanted = min(int(length[:9]), _MAX_BODY) if re.fullmatch("[0-9]+", length) and not chunked else _MAX_BODY
    body = bytearray(response.rest)
    stream.hurry(_BODY_SECONDS)
    with contextlib.suppress(DeadlinePassed, OSError):
        while len(body) < wanted and not (chunked and body.endswith(b"0\r\n\r\n")):
            data = stream.receive()
            if not data:
                break
            body += data
    return (_unchunk(bytes(body)) if chunked else bytes(body))[:wanted]


def _unchunk(data: bytes) -> bytes:
    """The content of a chunked body (RFC 9112, section 7.1), as far as it is whole and well-formed."""
    parts = []
    while match := re.match(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n", data):
        size = int(match[1], 16)
        parts.append(data[match.end() : match.end() + size])
        data = data[match.end() + size + 2 :]
    return b"".join(parts)


class _Refused(Exception):
    """The response is not 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class _UpgradeSocket:
    """As much of a socket as websocket-client's handshake uses."""

    # All fields: the dialling thread.
    def __init__(self, stream: DialStream) -> None:
        self._stream = stream
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
        self._stream.send_all(data)
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
    if response.headers.get("sec-websocket-extensions"):
        return "response selects an extension that was not offered"
    chosen = response.headers.get("sec-websocket-protocol")
    if chosen is not None and chosen not in offered:
        return "response selects a subprotocol that was not offered"
    return ""


@dataclass(frozen=True, slots=True)
class _Request:
    """One request of a dial. ``trusted``: every URL so far had the origin that the secrets are for."""

    url: URL
    options: Options
    extra: tuple[tuple[str, str], ...]
    trusted: bool = True

    @property
    def target(self) -> URL:
        """The URL with what of the credentials may go there."""
        credentials = self.options.credentials
        return self.url.with_credentials(credentials) if credentials and self.trusted else self.url

    def redirected(self, url: URL) -> _Request:
        trusted = self.trusted and url.origin == self.url.origin
        return replace(self, url=url if trusted else replace(url, userinfo=None), trusted=trusted)

    def arguments(self, key: str) -> dict[str, Any]:
        """Keyword arguments for websocket-client's handshake."""
        headers = self._headers()
        host = headers.pop("host", ("Host", self.url.authority))[1]
        cookie = "; ".join(filter(None, (headers.pop("cookie", ("Cookie", ""))[1], self._cookies())))
        own = {"Sec-WebSocket-Key": key}
        if self.options.subprotocols:
            own["Sec-WebSocket-Protocol"] = ", ".join(self.options.subprotocols)
        return {
            "host": host,
            "cookie": cookie,
            "origin": self.options.origin,
            "suppress_origin": self.options.origin is None,
            "header": own | dict(headers.values()),
        }

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
            headers.setdefault("authorization", ("Authorization", _basic(self.url.userinfo)))
        return headers


def _basic(userinfo: tuple[str, str]) -> str:
    """RFC 7617."""
    return "Basic " + base64.b64encode(":".join(userinfo).encode()).decode()


def environment_proxy(url: URL) -> Proxy | None:
    """The proxy that the environment (or the system's settings) names for ``url``.

    Raises ``ValueError`` when it names one that can't be used.
    """
    if sys.platform.startswith("linux") and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None  # and urllib.request, 30 ms and several MB, is not imported
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    names = ("wss", "https", "all") if url.secure else ("ws", "http", "all")
    found = next((proxies[name] for name in names if proxies.get(name)), None)
    if found is None or proxy_bypass(url.host_port):
        return None
    try:
        return parse_proxy(found if "://" in found else f"http://{found}")
    except ValueError as error:
        raise ValueError(f"{error} (from the environment; proxy=None does without)") from None


class Dial:
    """One attempt to open a connection, redirects included.

    Args:
        url: ``ws://`` or ``wss://``.
        options: of the connection.
        log: of the connection; its records say which one it is.

    Raises:
        TypeError, ValueError: ``url`` is not a WebSocket URL.
    """

    def __init__(self, url: str, options: Options, log: Log = _LOG) -> None:
        self._url = parse_url(url)
        self._log = log
        self._options = options
        self._cancellation = Cancellation()
        self._step = Step.DNS  # dialling thread; read by any

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
        return HandshakeTimeout(f"{self._url}: not open within {allowed} s: during {self._step.value}")

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
            raise ConnectFailed(f"{self._url}: cancelled during {self._step.value}") from error
        except OSError as error:
            raise ConnectFailed(f"{self._url}: {self._step.value} failed: {describe(error)}") from error

    def _follow(self, deadline: float) -> Upgraded:
        request = _Request(self._url, self._options, self._extra_headers())
        left = self._options.follow_redirects
        while True:
            stream = self._open(request.url, deadline)
            try:
                return self._upgrade(stream, request)
            except _Refused as refusal:
                with contextlib.closing(stream):
                    request = self._redirected(request, refusal.response, left, stream)
            except BaseException:
                stream.close()
                raise
            left -= 1

    def _extra_headers(self) -> tuple[tuple[str, str], ...]:
        try:
            return self._options.request_headers()
        except Exception as error:
            # What its own errors say may be secret; what was found wrong with its result is not.
            fault = str(error) if str(error).startswith("headers: ") else type(error).__name__
            raise HandshakeError(f"the callable of headers= failed: {fault}") from error

    def _open(self, url: URL, deadline: float) -> DialStream:
        """A stream to the server of ``url``, through proxy and TLS."""
        stream = self._connect(url, deadline)
        try:
            if url.secure:
                self._step = Step.TLS
                stream.start_tls(self._options.ssl_context or default_context(), url.server_name)
        except BaseException:
            stream.close()
            raise
        return stream

    def _connect(self, url: URL, deadline: float) -> DialStream:
        options = self._options
        if options.socket is not None or options.unix_path is not None:
            self._step = Step.TCP
            if options.socket is not None:
                return adopt(options.socket, deadline, self._cancellation)
            return connect_unix(cast("str | bytes", options.unix_path), deadline, self._cancellation)
        proxy = self._proxy_for(url)
        if proxy is None:
            return self._connect_tcp(url.host, url.port, deadline)
        stream = self._connect_tcp(proxy.host, proxy.port, deadline)
        try:
            self._step = Step.PROXY
            _open_tunnel(stream, proxy, url)
        except BaseException:
            stream.close()
            raise
        return stream

    def _connect_tcp(self, host: str, port: int, deadline: float) -> DialStream:
        self._step = Step.DNS
        addresses = resolve(host, port, self._cancellation)
        if time.monotonic() >= deadline:
            raise DeadlinePassed
        self._step = Step.TCP
        return connect_tcp(addresses, deadline, self._cancellation)

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
        sock = _UpgradeSocket(stream)
        # No host name: it would be looked up in the cookie jar. Host comes with the arguments.
        where = (f"{url.scheme}:", "", url.port, url.resource)
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
        if refused:
            raise HandshakeError("response is no valid upgrade", status=101, headers=response.headers)
        self._log.debug("%s: open", url)
        return Upgraded(stream.into_transport(response.rest), response.headers, subprotocol, url)

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


def _open_tunnel(stream: DialStream, proxy: Proxy, url: URL) -> None:
    """Ask an HTTP proxy for a tunnel to the server of ``url`` (RFC 9110, section 9.3.6)."""
    lines = [f"CONNECT {url.host_port} HTTP/1.1", f"Host: {url.host_port}"]
    if proxy.userinfo:
        lines.append(f"Proxy-Authorization: {_basic(proxy.userinfo)}")
    stream.send_all("\r\n".join([*lines, "", ""]).encode("ascii"))
    response = read_response(stream)
    if not 200 <= response.status < 300:
        body = read_body(stream, response)
        text = f"proxy {proxy} refused CONNECT: the answer is {response.title}"
        raise HandshakeError(text, status=response.status, headers=response.headers, body=body)
    if response.rest:
        raise HandshakeError(f"proxy {proxy} sent data ahead of the server", status=response.status)
