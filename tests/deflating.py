"""What the tests of compression share: a server that compresses, and how to look at what came of it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise

from wsclient.deflate import Inflater
from wsclient.protocol import Event, Failure, Fragment

RSV1 = 0x40
TAIL = b"\x00\x00\xff\xff"  # what is taken off (RFC 7692, section 7.2.1)


def server_frame(opcode: int, payload: bytes | bytearray = b"", fin: bool = True) -> bytes:
    """A frame as a server sends it (RFC 6455, section 5.2). ``opcode`` may carry reserved bits."""
    return server_header(opcode, len(payload), fin) + payload


def server_header(opcode: int, length: int, fin: bool = True) -> bytes:
    """The header of such a frame."""
    first = bytes([opcode | (0x80 if fin else 0)])
    if length < 126:
        return first + bytes([length])
    if length < 65_536:
        return first + b"\x7e" + length.to_bytes(2, "big")
    return first + b"\x7f" + length.to_bytes(8, "big")


class Server:
    """Compresses as a server does, with zlib alone."""

    def __init__(
        self, *, level: int = 6, window_bits: int = 15, strategy: int = 0, keeps_context: bool = True
    ) -> None:
        self._settings = (level, zlib.DEFLATED, -window_bits, 8, strategy)
        self._keeps_context = keeps_context
        self._zlib = zlib.compressobj(*self._settings)

    def payload(self, data: bytes) -> bytes:
        """The payload of a message."""
        payload = (self._zlib.compress(data) + self._zlib.flush(zlib.Z_SYNC_FLUSH))[:-4]
        if not self._keeps_context:
            self._zlib = zlib.compressobj(*self._settings)
        return payload or b"\x00"

    def frame(self, opcode: int, data: bytes) -> bytes:
        """A message in one frame."""
        return server_frame(opcode | RSV1, self.payload(data))

    def fragments(self, opcode: int, data: bytes, *cuts: int) -> list[bytes]:
        """A message in fragments; its payload is cut at ``cuts``."""
        payload = self.payload(data)
        parts = [payload[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(payload)])]
        last = len(parts) - 1
        return [
            server_frame(0 if index else opcode | RSV1, part, fin=index == last)
            for index, part in enumerate(parts)
        ]


def in_pieces(reader: Inflater, payload: bytes, size: int, room: int) -> bytes:
    """Inflate a message from pieces of ``size`` bytes, into pieces of ``room`` bytes."""
    data, position = b"", 0
    while True:
        piece, taken = reader.inflate(payload[position : position + size], room)
        assert len(piece) <= room
        data += piece
        position += taken
        if position == len(payload) and len(piece) < room:
            reader.finish()
            return data


def stands_between_blocks(earlier: Sequence[bytes], payload: bytes) -> bool:
    """Whether ``payload``, after ``earlier`` ones, ends as it should.

    A copy of zlib's state is asked: only between two blocks it takes a final one for the end of its stream.
    """
    witness = zlib.decompressobj(-15)
    for one in earlier:
        witness.decompress(one + TAIL)
    try:
        witness.decompress(payload)
        if witness.decompress(TAIL):
            return False
        probe = witness.copy()
        return not probe.decompress(b"\x01" + TAIL) and probe.eof and not probe.unused_data
    except zlib.error:
        return False


def assembled(events: Sequence[Event]) -> list[Event]:
    """Put the pieces of messages together; those of one that is not complete are left out."""
    found: list[Event] = []
    parts: list[str | bytes] = []
    for event in events:
        if not isinstance(event, Fragment):
            found.append(event)
            continue
        assert event.data or event.final, "an empty piece says nothing"
        parts.append(event.data)
        if event.final:
            assert len(set(map(type, parts))) == 1, "text and data in one message"
            found.append(parts[0][:0].join(parts))  # type: ignore[arg-type]
            parts = []
    return found


def kind_of(event: Event) -> object:
    """An event, for comparison.

    Of a message that is too big, damaged and not text, what is found first depends on how it is cut.
    """
    if not isinstance(event, Failure):
        return event
    if event.error.code in (1007, 1009):
        return "bad message"
    return event.error.code, event.error.reason
