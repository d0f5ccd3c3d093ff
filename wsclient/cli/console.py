"""Does what was typed at ``connect``, whether at the prompt or piped into it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from wsclient import Connection
from wsclient.cli.sending import Sender
from wsclient.cli.typed import HELP, Close, Help, Ping, Send, SendFile, Typed, parse_line

__all__ = ["Console"]

_CHUNK = 64 * 1024


class Console:
    """Carries out lines over one connection. For one thread at a time.

    Args:
        connection: an open one.
        sender: sends over it.
        timeout: seconds to wait for a pong, and for the end of the connection.
    """

    def __init__(self, connection: Connection, sender: Sender, timeout: float) -> None:
        self._connection = connection
        self._sender = sender
        self._timeout = timeout
        self.closed: bool = False  # by /close; the owner's thread

    def carry_out(self, line: str) -> str | None:
        """Do what one line says, and return what to tell the user about it, if anything.

        Raises:
            ValueError: the line is wrong; the text says how.
            OSError: a file cannot be read.
            WSClientError: the connection ended, or did not answer in time.
        """
        typed = parse_line(line)
        if isinstance(typed, Send):
            self._sender.send(typed.message)
            return None
        return self._command(typed)

    def _command(self, typed: Typed) -> str | None:
        if isinstance(typed, Help):
            return HELP
        if isinstance(typed, Ping):
            return f"pong after {self._connection.ping().result(self._timeout) * 1000:.2f} ms"
        if isinstance(typed, Close):
            self._connection.close(typed.code, typed.reason, self._timeout)
            self.closed = True
            return None
        assert isinstance(typed, SendFile)
        return self._send_file(Path(typed.path).expanduser(), typed.binary)

    def _send_file(self, path: Path, binary: bool) -> str:
        # Half a message can't be taken back, so the file is read once before.
        if not binary and not _is_text(path):
            raise ValueError(f"/send-file: {path} is no UTF-8 text; /send-file --binary sends anything")
        self._sender.send_whole(_chunks(path), binary)
        return f"sent {path}: {'binary' if binary else 'text'}, {path.stat().st_size} bytes"


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _is_text(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in _chunks(path):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
