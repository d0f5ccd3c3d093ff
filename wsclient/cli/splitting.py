"""From a stream of bytes to messages. Pure; what it holds is bounded."""

from __future__ import annotations

__all__ = ["Splitter", "decode"]


class Splitter:
    """Cuts a stream at each separator. For one thread.

    What stands behind the last separator is a message too, unless it is empty. Between two separators there
    may be nothing: that is an empty message.

    Args:
        separator: one byte. With a line feed, a carriage return before it belongs to it.
        limit: bytes of the largest message.
    """

    def __init__(self, separator: bytes, limit: int) -> None:
        self._separator = separator
        self._limit = limit
        self._pieces: list[bytes] = []  # of the message that has not ended yet
        self._size = 0  # their bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that end in ``data``. Raises ``ValueError`` when one is over the limit."""
        first, *others = data.split(self._separator)
        self._append(first)
        if not others:
            return []
        ended = [b"".join(self._pieces), *others[:-1]]
        self._pieces, self._size = [], 0
        self._append(others[-1])
        return [self._trimmed(message) for message in ended]

    def end(self) -> list[bytes]:
        """Return the message that nothing but the end has ended, if there is one."""
        rest, self._pieces, self._size = b"".join(self._pieces), [], 0
        return [self._trimmed(rest)] if rest else []

    def _append(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise ValueError(f"a message is over {self._limit} bytes")
        self._pieces.append(piece)

    def _trimmed(self, message: bytes) -> bytes:
        return message.removesuffix(b"\r") if self._separator == b"\n" else message


def decode(message: bytes, number: int) -> str:
    """A text message of its bytes. Raises ``ValueError`` naming the ``number`` of one that is not UTF-8."""
    try:
        return message.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"message {number} is not UTF-8 at byte {error.start}") from None
