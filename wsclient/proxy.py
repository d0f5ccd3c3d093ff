"""What the kinds of proxies have in common, and tunnels through HTTP proxies (RFC 9110, section 9.3.6)."""

from __future__ import annotations

from wsclient.exceptions import HandshakeError
from wsclient.http1 import Response, basic, read_body, read_response
from wsclient.options import Proxy, bracketed
from wsclient.transport import DialStream

__all__ = ["connect_http", "login_fault", "refuse_data_ahead"]


def connect_http(stream: DialStream, proxy: Proxy, host: str, port: int) -> None:
    """Ask an HTTP proxy for a tunnel to ``host``, a name or an IP address without brackets.

    Raises `HandshakeError` when it refuses or its answer makes no sense, and what the stream raises.
    """
    authority = f"{bracketed(host)}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.userinfo:
        lines.append(f"Proxy-Authorization: {basic(proxy.userinfo)}")
    stream.send_all("\r\n".join([*lines, "", ""]).encode("ascii"))
    try:
        response = read_response(stream)
    except HandshakeError as error:
        raise HandshakeError(f"proxy {proxy} gave a {error}", status=error.status) from None
    if not 200 <= response.status < 300:
        raise _refusal(stream, proxy, response)
    refuse_data_ahead(proxy, response.rest)


def _refusal(stream: DialStream, proxy: Proxy, response: Response) -> HandshakeError:
    text = f"proxy {proxy} refused CONNECT: the answer is {response.title}"
    if response.status in (401, 407):  # 401 is what tinyproxy makes of a wrong password
        text += f": {login_fault(proxy)}"
    body = read_body(stream, response)
    return HandshakeError(text, status=response.status, headers=response.headers, body=body)


def login_fault(proxy: Proxy) -> str:
    """Why a proxy that wants to know who asks refused, in words without a secret."""
    if proxy.userinfo:
        return "authentication failed: it did not accept the user name and password of its URL"
    return "authentication needed: a user name and a password in its URL"


def refuse_data_ahead(proxy: Proxy, data: bytes) -> None:
    """Raise `HandshakeError` for data behind a proxy's consent.

    It can't be the server's: in TLS as in WebSocket the client speaks first.
    """
    if data:
        raise HandshakeError(f"proxy {proxy} sent data ahead of the server")
