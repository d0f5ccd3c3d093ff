"""``--verbose``: what a connection does, on standard error, without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from wsclient import Connection, Disconnect
from wsclient.cli.display import Message, counted, describe, visible
from wsclient.cli.output import write_line
from wsclient.cli.settings import Settings

__all__ = ["Trace", "response_lines"]

_SECRET: Final = re.compile(r"auth|cookie|token|secret|session|password|key", re.IGNORECASE)
_PUBLIC: Final = frozenset({"sec-websocket-accept"})  # a digest of a number that is used once
_PREVIEW: Final = 200  # characters


class Trace:
    """Writes lines: ``*`` what happens, ``>`` what is sent, ``<`` what is received. Thread-safe.

    Args:
        level: 0: nothing; 1: without the contents of messages; 2: with them.
        write: takes each line.
    """

    def __init__(self, level: int, write: Callable[[str], object] = write_line) -> None:
        self._level = level
        self._write = write
        self._since = 0.0  # the main thread

    def opening(self, settings: Settings, connection: Connection) -> None:
        """Show what will be asked for."""
        self._since = monotonic()
        self._tell("*", f"opening {connection.url}")
        for name, _ in settings.headers:
            self._tell(">", f"{name}: ...")
        if settings.origin:
            self._tell(">", f"origin: {settings.origin}")
        if settings.subprotocols:
            self._tell(">", f"sec-websocket-protocol: {', '.join(settings.subprotocols)}")
        if settings.compression:
            self._tell(">", "sec-websocket-extensions: permessage-deflate")

    def opened(self, connection: Connection) -> None:
        """Show what the server answered."""
        self._tell("*", f"open after {(monotonic() - self._since) * 1000:.1f} ms: {connection.url}")
        for line in response_lines(connection.response_headers.items()):
            self._tell("<", line)

    def sent(self, message: Message) -> None:
        """Show a message that was accepted for sending."""
        if self._level:
            self._tell(">", self._shown(message))

    def received(self, message: Message) -> None:
        """Show a message that came."""
        if self._level:
            self._tell("<", self._shown(message))

    def happened(self, text: str) -> None:
        """Show anything else."""
        self._tell("*", text)

    def disconnected(self, reason: Disconnect) -> None:
        """Show why a connection was lost."""
        self._tell(
            "*", f"lost ({reason.kind.value}): {reason.text or reason.code}; {len(reason.in_doubt)} in doubt"
        )

    def closed(self, connection: Connection) -> None:
        """Show how it ended, and what it has carried."""
        by = f" by {connection.closed_by.value}" if connection.closed_by else ""
        reason = f" ({connection.close_reason})" if connection.close_reason else ""
        self._tell("*", f"closed with {connection.close_code}{reason}{by}")
        stats = connection.stats()
        sent = counted(stats.messages_sent, "message"), counted(stats.frames_sent, "frame"), stats.bytes_sent
        self._tell("*", f"sent {sent[0]}, {sent[1]}, {sent[2]} bytes")
        received = counted(stats.messages_received, "message")
        self._tell("*", f"received {received}, {stats.bytes_received} bytes")
        self._tell("*", f"pings {stats.pings_sent}, pongs {stats.pongs_received}")

    def _shown(self, message: Message) -> str:
        if self._level < 2:
            return describe(message)
        body = message if isinstance(message, str) else message[: _PREVIEW // 2].hex(" ")
        return f"{describe(message)}: {body[:_PREVIEW]}"

    def _tell(self, mark: str, text: str) -> None:
        if self._level:
            flat = text.replace("\n", "\\n")
            self._write(f"{mark} {visible(flat)}")


def response_lines(headers: Iterable[tuple[str, str]]) -> list[str]:
    """The headers of a response, those that may be secrets without their value."""
    return [
        f"{name}: {value if name in _PUBLIC or not _SECRET.search(name) else '...'}"
        for name, value in headers
    ]
