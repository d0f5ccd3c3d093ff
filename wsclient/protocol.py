"""The receiving side of RFC 6455 for a client without extensions: bytes in, events out.

:class:`Protocol` does no I/O. A transport reads into the buffer it offers, tells it how much, and gets back
what that completed. It belongs to one thread, the one that reads.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from wsclient.exceptions import MessageTooBig, ProtocolError
from wsclient.frames import Opcode, decode_close, decode_header

__all__ = ["Close", "Event", "Failure", "Ping", "Pong", "Protocol"]


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping, to be answered with a pong of the same payload (RFC 6455, section 5.5.2)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong, asked for or not (RFC 6455, section 5.5.3)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer's close frame; code 1005 when it carried none (RFC 6455, section 7.1.5)."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The peer broke the protocol: the connection has to be failed with ``error.code``."""

    error: ProtocolError


Event: TypeAlias = "str | bytes | Ping | Pong | Close | Failure"
"""A ``str`` is a text message, a ``bytes`` a binary message."""

_FIRST_BUFFER = 1 << 10  # bytes; a thousand idle connections stay small
_LARGEST_BUFFER = 1 << 18
_FIRST_BLOCK = 1 << 20  # of a large payload; what is allocated on a peer's mere word

_FIN = 0x80
_TEXT_MESSAGE = _FIN | Opcode.TEXT
_BINARY_MESSAGE = _FIN | Opcode.BINARY


class _State(Enum):
    OPEN = auto()
    ENDED = auto()  # after a close frame or a failure; whatever follows is ignored


class Protocol:
    """Decodes one connection's incoming frames. Not thread-safe: only the reading thread may use it.

    Attributes:
        frames_received: whole frames decoded so far.
        bytes_received: bytes given to it so far.
    """

    def __init__(self, max_message_size: int) -> None:
        """Start at the first byte after the opening handshake.

        Args:
            max_message_size: bytes a message may have, all its fragments together, before decoding.
        """
        # The reading thread owns every field.
        self.frames_received = 0
        self.bytes_received = 0
        self._max_message_size = max_message_size
        self._state = _State.OPEN
        self._buffer = bytearray(_FIRST_BUFFER)
        self._end = 0  # self._buffer[:end] is received and not decoded: the beginning of one frame
        self._needed = 2  # with fewer bytes than that in the buffer there is nothing to decode
        self._spare: bytearray | None = None  # memory of the last large payload: fresh pages are slow
        self._large: _LargePayload | None = None  # set while a frame is received that outgrows the buffer
        self._message: _Message | None = None  # set between the first and the last fragment of a message

    def get_buffer(self) -> memoryview:
        """Where to receive the next bytes; never empty. Valid until ``buffer_updated``."""
        if self._large is not None:
            return self._large.room()
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, nbytes: int) -> list[Event]:
        """Decode, now that ``nbytes`` more bytes stand at the beginning of the last ``get_buffer()``.

        Returns:
            What they completed, in order. A ``Close`` or a ``Failure`` is the last event of all.
        """
        self.bytes_received += nbytes
        events: list[Event] = []
        if self._state is _State.ENDED:
            return events
        try:
            if self._large is not None:
                self._large_updated(self._large, nbytes, events)
            else:
                self._small_updated(nbytes, events)
            self.frames_received += len(events)
        except ProtocolError as error:
            self.frames_received += len(events)
            self._end_with(Failure(error), events)
        return events

    def receive_data(self, data: bytes) -> list[Event]:
        """Decode bytes that were not received into ``get_buffer()``."""
        events: list[Event] = []
        rest = memoryview(data)
        while rest:
            with self.get_buffer() as room:
                count = min(len(room), len(rest))
                room[:count] = rest[:count]
            events += self.buffer_updated(count)
            rest = rest[count:]
        return events

    def _end_with(self, event: Close | Failure, events: list[Event]) -> None:
        events.append(event)
        self._state = _State.ENDED
        self._large = self._message = self._spare = None
        self._end = 0

    def _small_updated(self, nbytes: int, events: list[Event]) -> None:
        full = self._end + nbytes == len(self._buffer)
        self._end += nbytes
        if self._end >= self._needed:
            self._decode_buffer(events)
        if full and len(self._buffer) < _LARGEST_BUFFER:
            self._grow_buffer()

    def _grow_buffer(self) -> None:
        grown = bytearray(4 * len(self._buffer))
        grown[: self._end] = memoryview(self._buffer)[: self._end]
        self._buffer = grown

    def _decode_buffer(self, events: list[Event]) -> None:
        # A copy as bytes, for slices of bytes are much faster than slices of a bytearray or a memoryview.
        data = bytes(memoryview(self._buffer)[: self._end])
        position: int | None = 0
        self._needed = 2
        while position is not None and self._state is _State.OPEN:
            if self._message is None:
                position = self._decode_messages(data, position, events)
            kept = position
            position = self._decode_frame(data, position, events)
        if position is None and self._large is None:
            self._end -= kept
            self._buffer[: self._end] = data[kept:]
        if self._large is None:
            self._spare = None  # it is kept from one large payload to the next, not for ever

    def _decode_messages(self, data: bytes, position: int, events: list[Event]) -> int:
        """Decode the whole data messages of less than 64 KiB from ``position`` on: the hot path.

        Returns:
            Where it met anything else: an incomplete frame, a fragment, a control frame, an error.
        """
        end = len(data)
        last = end - 4  # where a header with 16 bits of length fits
        limit = self._max_message_size
        append = events.append
        try:
            while position <= last:
                first = data[position]
                length = data[position + 1]
                start = position + 2
                if length > 125:
                    start = position + 4
                    length = data[position + 2] << 8 | data[position + 3] if length == 126 else 0
                    if length < 126:
                        break
                stop = start + length
                if stop > end or length > limit:
                    break
                if first == _TEXT_MESSAGE:
                    append(data[start:stop].decode())
                elif first == _BINARY_MESSAGE:
                    append(data[start:stop])
                else:
                    break
                position = stop
        except UnicodeDecodeError as error:
            raise _not_utf8() from error
        return position

    def _decode_frame(self, data: bytes, position: int, events: list[Event]) -> int | None:
        """Decode any frame; return where the next one begins, or ``None`` when this one is not complete."""
        header = decode_header(data, position, len(data))
        if header is None:
            return None
        first, length, start = header
        self._check_order(first, length)
        stop = start + length
        if stop > len(data):
            self._await(first, length, data, position, start)
            return None
        self._receive(first, memoryview(data)[start:stop], events)
        return stop

    def _await(self, first: int, length: int, data: bytes, position: int, start: int) -> None:
        size = start - position + length
        if size <= len(self._buffer):
            self._needed = size
        else:
            self._large = _LargePayload(first, length, memoryview(data)[start:], self._spare)
            self._spare = None
            self._end = 0

    def _large_updated(self, large: _LargePayload, nbytes: int, events: list[Event]) -> None:
        if large.updated(nbytes):
            self._large = None
            self._spare = large.spare
            self._needed = 2
            self._receive(large.first, large.payload(), events)

    def _check_order(self, first: int, length: int) -> None:
        """What a header must not say at this point of the stream (RFC 6455, section 5.4)."""
        opcode = first & 0x0F
        if opcode >= Opcode.CLOSE:
            return
        message = self._message
        if opcode == Opcode.CONTINUATION and message is None:
            raise ProtocolError(1002, "continuation frame without a message to continue")
        if opcode != Opcode.CONTINUATION and message is not None:
            raise ProtocolError(1002, "new message before the end of a fragmented one")
        size = length if message is None else length + message.size
        if size > self._max_message_size:
            raise MessageTooBig(
                1009, f"message of {size} bytes or more, max_message_size is {self._max_message_size}"
            )

    def _receive(self, first: int, payload: _Payload, events: list[Event]) -> None:
        opcode = first & 0x0F
        if opcode >= Opcode.CLOSE:
            self._receive_control(opcode, bytes(payload), events)
        elif first & _FIN and self._message is None:
            events.append(_decode_message(opcode, payload))
        else:
            self._receive_fragment(first, payload, events)

    def _receive_control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        if opcode == Opcode.PING:
            events.append(Ping(payload))
        elif opcode == Opcode.PONG:
            events.append(Pong(payload))
        else:
            self._end_with(Close(*decode_close(payload)), events)

    def _receive_fragment(self, first: int, payload: _Payload, events: list[Event]) -> None:
        if self._message is None:
            self._message = _Message(first & 0x0F)
        self._message.add(payload)
        if first & _FIN:
            events.append(self._message.decoded())
            self._message = None
        else:
            self.frames_received += 1  # the others are counted by their events


_Payload: TypeAlias = "bytes | bytearray | memoryview"


def _decode_message(opcode: int, payload: _Payload) -> str | bytes:
    if opcode == Opcode.BINARY:
        return bytes(payload)
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8() from error


def _not_utf8() -> ProtocolError:
    return ProtocolError(1007, "text message is not UTF-8")


class _Message:
    """The fragments of one message. Text is checked as it comes, so that it fails at its first bad byte."""

    __slots__ = ("_check", "_data", "_opcode")

    def __init__(self, opcode: int) -> None:
        # The reading thread owns every field.
        self._opcode = opcode
        # Not a list: tiny fragments would take many times their size.
        self._data = bytearray()
        # Finds bad bytes; that text ends within a character is found when all of it is decoded.
        self._check = codecs.getincrementaldecoder("utf-8")() if opcode == Opcode.TEXT else None

    @property
    def size(self) -> int:
        return len(self._data)

    def add(self, payload: _Payload) -> None:
        if self._check is not None:
            try:
                self._check.decode(bytes(payload))
            except UnicodeDecodeError as error:
                raise _not_utf8() from error
        self._data += payload

    def decoded(self) -> str | bytes:
        return _decode_message(self._opcode, self._data)


class _LargePayload:
    """A payload too large for the buffer, received straight into blocks of its own.

    Blocks are added as they fill up, each as large as all before it, so that a peer cannot make us allocate
    much more than it has sent.
    """

    __slots__ = ("_blocks", "_filled", "_unallocated", "first", "spare")

    def __init__(self, first: int, length: int, received: memoryview, spare: bytearray | None) -> None:
        # The reading thread owns every field.
        self.first = first  # byte of the frame
        size = min(length, _FIRST_BLOCK)
        self.spare = spare if spare is not None and len(spare) >= size else bytearray(size)
        self._blocks = [memoryview(self.spare)[:size]]
        self._blocks[0][: len(received)] = received
        self._filled = len(received)  # bytes of the last block
        self._unallocated = length - size

    def room(self) -> memoryview:
        return self._blocks[-1][self._filled :]

    def updated(self, nbytes: int) -> bool:
        """Take note of ``nbytes`` received; say whether the payload is complete."""
        self._filled += nbytes
        if self._filled < len(self._blocks[-1]):
            return False
        if self._unallocated:
            self._add_block()
            return False
        return True

    def _add_block(self) -> None:
        size = min(self._unallocated, sum(map(len, self._blocks)))
        self._blocks.append(memoryview(bytearray(size)))
        self._filled = 0
        self._unallocated -= size

    def payload(self) -> bytes | memoryview:
        return self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
