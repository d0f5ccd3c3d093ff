"""As much of HTTP/1.1 as an opening handshake meets: response heads and bodies, Basic credentials.

Everything read is bounded, in bytes here and in time by the stream.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import http
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wsclient.exceptions import HandshakeError
from wsclient.transport import DeadlinePassed, DialStream

__all__ = ["Response", "basic", "parse_response", "read_body", "read_response"]

_MAX_HEAD: Final = 64 * 1024
_MAX_BODY: Final = 64 * 1024
_BODY_SECONDS: Final = 2.0  # a refusal is not held back for longer than this by a body without an end

_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE: Final = re.compile(r"HTTP/1\.[01] ([1-9][0-9]{2})(?: .*)?")
_HEADER_LINE: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00\r\n]*?)[ \t]*")


def basic(userinfo: tuple[str, str]) -> str:
    """The value of an Authorization header for a user name and a password (RFC 7617)."""
    return "Basic " + base64.b64encode(":".join(userinfo).encode()).decode()


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
