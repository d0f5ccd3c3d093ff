"""Tunnels through SOCKS proxies: 4, 4a, and 5 (RFC 1928) with user name and password (RFC 1929).

Requests and codes are socksio's, which does no input and no output: all goes through the stream of the dial,
under its one deadline. Imported when a SOCKS proxy is used: socksio comes with ``wsclient[socks]``.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from socksio import (
    SOCKS4ARequest,
    SOCKS4Command,
    SOCKS4ReplyCode,
    SOCKS4Request,
    SOCKS5AType,
    SOCKS5AuthMethod,
    SOCKS5AuthMethodsRequest,
    SOCKS5Command,
    SOCKS5CommandRequest,
    SOCKS5ReplyCode,
    SOCKS5UsernamePasswordRequest,
    SOCKSError,
)

from wsclient.exceptions import HandshakeError
from wsclient.options import Proxy
from wsclient.proxy import login_fault, refuse_data_ahead
from wsclient.transport import DialStream

__all__ = ["connect_socks"]

_ADDRESS_SIZES: Final[Mapping[bytes, int]] = MappingProxyType(
    {SOCKS5AType.IPV4_ADDRESS: 4, SOCKS5AType.IPV6_ADDRESS: 16}
)


@dataclass(frozen=True, slots=True)
class _Codes:
    """What the code in a proxy's answer says.

    Attributes:
        granted: there is a tunnel.
        failures: the proxy tried in vain: an error as if the attempt had been made here.
        refusals: what it has against its client.
    """

    granted: bytes
    failures: Mapping[bytes, tuple[int, str]]
    refusals: Mapping[bytes, str]

    def judge(self, proxy: Proxy, code: bytes) -> None:
        if code == self.granted:
            return
        if code in self.failures:
            raise OSError(*self.failures[code])
        why = self.refusals.get(code, f"its code is {code[0]}, which has no meaning")
        raise HandshakeError(f"proxy {proxy} refused the connection: {why}")


_SOCKS4: Final = _Codes(
    SOCKS4ReplyCode.REQUEST_GRANTED,
    MappingProxyType(
        {
            SOCKS4ReplyCode.REQUEST_REJECTED_OR_FAILED: (
                errno.ECONNABORTED,
                "it rejected the connection, or could not make it",
            )
        }
    ),
    MappingProxyType(
        {
            SOCKS4ReplyCode.CONNECTION_FAILED: "authentication failed: it found no identd to ask",
            SOCKS4ReplyCode.AUTHENTICATION_FAILED: "authentication failed: identd names another user id",
        }
    ),
)
_SOCKS5: Final = _Codes(
    SOCKS5ReplyCode.SUCCEEDED,
    MappingProxyType(
        {
            SOCKS5ReplyCode.GENERAL_SERVER_FAILURE: (errno.ECONNABORTED, "it had a general failure"),
            SOCKS5ReplyCode.NETWORK_UNREACHABLE: (
                errno.ENETUNREACH,
                "it found the server's network unreachable",
            ),
            SOCKS5ReplyCode.HOST_UNREACHABLE: (errno.EHOSTUNREACH, "it found the server unreachable"),
            SOCKS5ReplyCode.CONNECTION_REFUSED: (errno.ECONNREFUSED, "the server refused its connection"),
            SOCKS5ReplyCode.TTL_EXPIRED: (errno.EHOSTUNREACH, "the server is too far away (TTL expired)"),
            SOCKS5ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED: (
                errno.EAFNOSUPPORT,
                "it does not support this type of address",
            ),
        }
    ),
    MappingProxyType(
        {
            SOCKS5ReplyCode.CONNECTION_NOT_ALLOWED_BY_RULESET: "its rules do not allow it",
            SOCKS5ReplyCode.COMMAND_NOT_SUPPORTED: "it does not support CONNECT",
        }
    ),
)


def connect_socks(stream: DialStream, proxy: Proxy, host: str, port: int) -> None:
    """Ask a SOCKS proxy for a tunnel to ``host``, a name or an IP address without brackets.

    Raises `HandshakeError` when it refuses or its answer makes no sense, ``OSError`` when it could not
    connect, and what the stream raises.
    """
    answers = _Answers(stream, proxy)
    if proxy.scheme in ("socks4", "socks4a"):
        stream.send_all(_request_4(proxy, host, port))
        _take_reply_4(answers, proxy)
    else:
        _log_in(stream, answers, proxy)
        stream.send_all(SOCKS5CommandRequest.from_address(SOCKS5Command.CONNECT, (host, port)).dumps())
        _take_reply_5(answers, proxy)
    refuse_data_ahead(proxy, answers.rest)


class _Answers:
    """What the proxy sends, in pieces of the size that is asked for."""

    # All fields: the dialling thread.
    def __init__(self, stream: DialStream, proxy: Proxy) -> None:
        self._stream = stream
        self._proxy = proxy
        self.rest = b""

    def take(self, size: int, *, version: int | None = None) -> bytes:
        """The next ``size`` bytes. A wrong ``version`` in the first is refused as soon as it is there."""
        self._receive(1)
        if version is not None and self.rest[0] != version:
            raise self.malformed()
        self._receive(size)
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def _receive(self, size: int) -> None:
        while len(self.rest) < size:
            data = self._stream.receive()
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the connection ended before it had answered")
            self.rest += data

    def malformed(self) -> HandshakeError:
        version = self._proxy.scheme[:6].upper()
        return HandshakeError(f"proxy {self._proxy} gave an answer that is not {version}")


def _request_4(proxy: Proxy, host: str, port: int) -> bytes:
    user_id = proxy.userinfo[0].encode() if proxy.userinfo else b""
    try:
        return SOCKS4Request.from_address(SOCKS4Command.CONNECT, (host, port), user_id).dumps()
    except SOCKSError:  # no IPv4 address: for 4a to resolve
        return SOCKS4ARequest(SOCKS4Command.CONNECT, port, host.encode("ascii"), user_id).dumps()


# In both replies the code is judged first: with a refusal, not every proxy sends the rest.


def _take_reply_4(answers: _Answers, proxy: Proxy) -> None:
    _SOCKS4.judge(proxy, answers.take(2, version=0)[1:])
    answers.take(6)  # a port and an address without a meaning


def _log_in(stream: DialStream, answers: _Answers, proxy: Proxy) -> None:
    methods = [SOCKS5AuthMethod.NO_AUTH_REQUIRED]
    if proxy.userinfo:
        methods.append(SOCKS5AuthMethod.USERNAME_PASSWORD)
    stream.send_all(SOCKS5AuthMethodsRequest(methods).dumps())
    method = answers.take(2, version=5)[1:]
    if method == SOCKS5AuthMethod.NO_AUTH_REQUIRED:
        return
    if method != SOCKS5AuthMethod.USERNAME_PASSWORD or not proxy.userinfo:
        known = (SOCKS5AuthMethod.USERNAME_PASSWORD, SOCKS5AuthMethod.NO_ACCEPTABLE_METHODS)
        raise _not_let_in(proxy) if method in known else answers.malformed()
    user, password = proxy.userinfo
    stream.send_all(SOCKS5UsernamePasswordRequest(user.encode(), password.encode()).dumps())
    if answers.take(2)[1]:  # its version has been seen to be anything
        raise _not_let_in(proxy)


def _not_let_in(proxy: Proxy) -> HandshakeError:
    return HandshakeError(f"proxy {proxy} refused the connection: {login_fault(proxy)}")


def _take_reply_5(answers: _Answers, proxy: Proxy) -> None:
    _SOCKS5.judge(proxy, answers.take(2, version=5)[1:])
    address_type = answers.take(2)[1:]
    size = answers.take(1)[0] if address_type == SOCKS5AType.DOMAIN_NAME else _ADDRESS_SIZES.get(address_type)
    if size is None:
        raise answers.malformed()
    answers.take(size + 2)  # which address and port the proxy connects from is of no use here
