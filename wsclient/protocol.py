"""The receiving side of RFC 6455 and RFC 7692 for a client: bytes in, events out.

:class:`Protocol` does no I/O. A transport reads into the buffer it offers, tells it how much, and gets back
what that completed. It belongs to one thread, the one that reads.
"""

from __future__ import annotations

import codecs
import sys
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from wsclient.deflate import Inflater
from wsclient.exceptions import MessageTooBig, ProtocolError
from wsclient.frames import Opcode, decode_close, decode_header

__all__ = ["Close", "Event", "Failure", "Fragment", "Ping", "Pong", "Protocol"]


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a message, not necessarily one of the peer's fragments (RFC 6455, section 5.4).

    Attributes:
        data: ``str`` for a text message, ``bytes`` for a binary one; only a final piece may be empty.
        final: whether it is the last one of its message.
        number: which piece of its message it is, from 0 on.
        lost: the connection was lost, and the rest of the message with it; then ``data`` is empty.
    """

    data: str | bytes
    final: bool
    number: int = field(default=0, compare=False)
    lost: bool = False


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


Event: TypeAlias = "str | bytes | Fragment | Ping | Pong | Close | Failure"
"""A ``str`` is a text message, a ``bytes`` a binary message."""

_FIRST_BUFFER = 1 << 10  # bytes; a thousand idle connections stay small
_LARGEST_BUFFER = 1 << 18
_FIRST_BLOCK = 1 << 20  # of a large payload; what is allocated on a peer's mere word

_INFLATED_AT_ONCE = 1 << 20  # bytes after which what was inflated is handed over
_INFLATED_PIECE = 1 << 16  # bytes taken out of the inflater at once, of a message that has not come whole
_DEFLATED_PIECE = 1 << 13  # bytes put into it: after a final block it copies what is left of them

_NO_LIMIT = 1 << 62

_FIN = 0x80
_RSV1 = 0x40  # the message is compressed (RFC 7692, section 6)
_CONTROL = 0x08
_TEXT_MESSAGE = _FIN | Opcode.TEXT
_BINARY_MESSAGE = _FIN | Opcode.BINARY
_COMPRESSED_TEXT = _TEXT_MESSAGE | _RSV1
_COMPRESSED_MESSAGE = (_COMPRESSED_TEXT, _BINARY_MESSAGE | _RSV1)


class _State(Enum):
    OPEN = auto()
    ENDED = auto()  # after a close frame or a failure; whatever follows is ignored


class Protocol:
    """Decodes one connection's incoming frames. Not thread-safe: only the reading thread may use it.

    Attributes:
        has_more: decoding has stopped because much was inflated. Hand over the events, then call
            ``buffer_updated(0)``, until this is ``False``: before that there may be no room to read into.
        assembles: whether messages come whole, not as ``Fragment``.
    """

    def __init__(
        self, max_message_size: int | None, *, inflater: Inflater | None = None, assemble: bool = True
    ) -> None:
        """Start at the first byte after the opening handshake.

        Args:
            max_message_size: bytes a message may have, all its fragments together, inflated, and before text
                is decoded; ``None`` for no limit.
            inflater: decompresses messages, if the server may compress them (RFC 7692).
            assemble: whether to put messages together. If not, they come as ``Fragment``, each made of what
                has come, and are never held.
        """
        self.assembles = assemble  # never changes
        # The reading thread owns every field.
        self.has_more: bool = False
        self._max_message_size = _NO_LIMIT if max_message_size is None else max_message_size
        self._inflation = _Inflation(inflater, self._max_message_size) if inflater else None
        self._state = _State.OPEN
        self._buffer = bytearray(_FIRST_BUFFER)
        self._end = 0  # self._buffer[:end] is received and not decoded: the beginning of one frame
        self._needed = 2  # with fewer bytes than that in the buffer there is nothing to decode
        self._spare: bytearray | None = None  # memory of the last large payload: fresh pages are slow
        self._large: _LargePayload | None = None  # set while a frame is received that outgrows the buffer
        self._flowing: _FlowingFrame | None = None  # set while a frame is decoded as it comes
        self._message: _Message | _Pieces | None = None  # set between first and last fragment of a message

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
        events: list[Event] = []
        if self._state is _State.ENDED:
            return events
        try:
            if self._large is not None:
                self._large_updated(self._large, nbytes, events)
            else:
                self._small_updated(nbytes, events)
        except ProtocolError as error:
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
            while self.has_more:
                events += self.buffer_updated(0)
            rest = rest[count:]
        return events

    def _end_with(self, event: Close | Failure, events: list[Event]) -> None:
        events.append(event)
        self._state = _State.ENDED
        self._large = self._flowing = self._message = self._spare = None
        self._end = 0

    def _small_updated(self, nbytes: int, events: list[Event]) -> None:
        full = self._end + nbytes == len(self._buffer)
        self._end += nbytes
        if self._end >= self._needed or self.has_more:
            self.has_more = False
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
        if self._inflation is not None:
            self._inflation.begin()
        while position is not None and self._state is _State.OPEN:
            if self._message is None and self.assembles:
                position = self._decode_messages(data, position, events)
                if position == len(data):
                    self._end = 0
                    break
            kept = position
            if self._inflation is not None and self._inflation.is_much:
                self.has_more = True
                break
            position = self._decode_frame(data, position, events)
        if self._end:
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
        inflation = self._inflation
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
                elif inflation and (message := inflation.decoded(first, data, start, stop)) is not None:
                    append(message)
                else:
                    break
                position = stop
        except UnicodeDecodeError as error:
            raise _not_utf8() from error
        return position

    def _decode_frame(self, data: bytes, position: int, events: list[Event]) -> int | None:
        """Decode any frame, or what there is of one that is decoded as it comes.

        Returns:
            Where to go on, or ``None`` when nothing more can be done without more bytes.
        """
        if self._flowing is not None:
            return self._decode_flowing(self._flowing, data, position, events)
        header = decode_header(data, position, len(data), compressible=self._inflation is not None)
        if header is None:
            return None
        first, length, start = header
        self._check_order(first, length)
        if not first & _CONTROL and (not self.assembles or self._is_compressed(first)):
            self._begin_flowing(first, length)
            return start
        stop = start + length
        if stop > len(data):
            self._await(first, length, data, position, start)
            return None
        self._receive(first, memoryview(data)[start:stop], events)
        return stop

    def _is_compressed(self, first: int) -> bool:
        return bool(first & _RSV1) if self._message is None else self._message.compressed

    def _begin_flowing(self, first: int, length: int) -> None:
        if self._message is None:
            self._message = _Message(first) if self.assembles else _Pieces(first)
        inflation = self._inflation if self._message.compressed else None
        self._flowing = _FlowingFrame(first, length, self._message, inflation)

    def _decode_flowing(
        self, frame: _FlowingFrame, data: bytes, position: int, events: list[Event]
    ) -> int | None:
        if position == len(data) and frame.needs_bytes:
            self._needed = 1
            return None
        position += frame.take(data, position, events)
        if frame.is_whole:
            self._flowing = None
            if frame.first & _FIN:
                self._message = None
        return position

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
        if first & _CONTROL:
            return
        opcode = first & 0x0F
        message = self._message
        if opcode == Opcode.CONTINUATION and message is None:
            raise ProtocolError(1002, "continuation frame without a message to continue")
        if opcode != Opcode.CONTINUATION and message is not None:
            raise ProtocolError(1002, "new message before the end of a fragmented one")
        if self._is_compressed(first):
            return  # its size is known when it is inflated
        size = length if message is None else length + message.size
        if size > self._max_message_size:
            raise _too_big(size, self._max_message_size)

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
            self._message = _Message(first)
        self._message.add(payload, bool(first & _FIN), events)
        if first & _FIN:
            self._message = None


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


def _too_big(size: int, limit: int) -> MessageTooBig:
    return MessageTooBig(1009, f"message of {size} bytes or more, max_message_size is {limit}")


class _Inflation:
    """The inflater of a connection, within its bounds."""

    __slots__ = ("_amount", "_inflater", "_limit")

    def __init__(self, inflater: Inflater, limit: int) -> None:
        # The reading thread owns every field.
        self._inflater = inflater
        self._limit = min(limit, sys.maxsize - 1)  # zlib takes no larger number
        self._amount = 0  # bytes since `begin`

    def begin(self) -> None:
        """Begin to count anew."""
        self._amount = 0

    @property
    def is_much(self) -> bool:
        """Whether what came out since `begin` should be handed over first."""
        return self._amount >= _INFLATED_AT_ONCE

    def decoded(self, first: int, data: bytes, start: int, stop: int) -> str | bytes | None:
        """Inflate and decode the whole message whose payload is there; ``None`` when there is no such."""
        if first not in _COMPRESSED_MESSAGE or self._amount >= _INFLATED_AT_ONCE:
            return None
        message = self._inflater.message(data[start:stop], self._limit)
        self._add(len(message), len(message))
        return message.decode() if first == _COMPRESSED_TEXT else message

    def piece(self, payload: bytes, size: int) -> tuple[bytes, int, bool]:
        """Inflate a piece of a message of which ``size`` bytes have come out already.

        Returns:
            What comes out, how many bytes of ``payload`` were taken, and whether nothing is left inside.
        """
        room = min(_INFLATED_PIECE, self._limit - size + 1)
        inflated, taken = self._inflater.inflate(payload, room)
        self._add(len(inflated), size + len(inflated))
        return inflated, taken, len(inflated) < room

    def finish(self) -> None:
        """End a message that was inflated in pieces."""
        self._inflater.finish()

    def _add(self, amount: int, size: int) -> None:
        if size > self._limit:
            raise _too_big(size, self._limit)
        self._amount += amount


class _FlowingFrame:
    """A data frame that is decoded as it comes."""

    __slots__ = ("_inflation", "_is_drained", "_message", "_remaining", "first")

    def __init__(
        self, first: int, length: int, message: _Message | _Pieces, inflation: _Inflation | None
    ) -> None:
        # The reading thread owns every field.
        self.first = first  # byte of the frame
        self._remaining = length  # bytes of payload that are still to be taken
        self._is_drained = True  # nothing is left inside the inflater
        self._message = message
        self._inflation = inflation  # if the message is compressed

    @property
    def needs_bytes(self) -> bool:
        """Whether nothing can be done without more bytes."""
        return self._remaining > 0 and self._is_drained

    @property
    def is_whole(self) -> bool:
        """Whether all of it is decoded."""
        return not self._remaining and self._is_drained

    def take(self, data: bytes, position: int, events: list[Event]) -> int:
        """Decode what there is of it at ``position``, or a part of that; return how many bytes were taken."""
        if self._inflation is None:
            piece = data[position : position + self._remaining]
            taken = len(piece)
        else:
            payload = data[position : position + min(self._remaining, _DEFLATED_PIECE)]
            piece, taken, self._is_drained = self._inflation.piece(payload, self._message.size)
        self._remaining -= taken
        is_final = self.is_whole and self.first & _FIN != 0
        if is_final and self._inflation is not None:
            self._inflation.finish()
        self._message.add(piece, is_final, events)
        return taken


class _Message:
    """A message that comes in pieces. Text is checked as it comes, so that it fails at its first bad byte."""

    __slots__ = ("_check", "_data", "_opcode", "compressed")

    def __init__(self, first: int) -> None:
        # The reading thread owns every field.
        self.compressed = bool(first & _RSV1)
        self._opcode = opcode = first & 0x0F
        # Not a list: tiny fragments would take many times their size.
        self._data = bytearray()
        # Finds bad bytes; that text ends within a character is found when all of it is decoded.
        self._check = codecs.getincrementaldecoder("utf-8")() if opcode == Opcode.TEXT else None

    @property
    def size(self) -> int:
        return len(self._data)

    def add(self, payload: _Payload, final: bool, events: list[Event]) -> None:
        """Add a piece; the final one makes an event of the message."""
        if self._check is not None:
            try:
                self._check.decode(bytes(payload))
            except UnicodeDecodeError as error:
                raise _not_utf8() from error
        self._data += payload
        if final:
            events.append(_decode_message(self._opcode, self._data))


class _Pieces:
    """A message that is handed on piece by piece. No piece of text ends within a character."""

    __slots__ = ("_decoder", "_number", "compressed", "size")

    def __init__(self, first: int) -> None:
        # The reading thread owns every field.
        self.compressed = bool(first & _RSV1)
        self.size = 0  # bytes so far
        self._number = 0  # of the next piece
        is_text = first & 0x0F == Opcode.TEXT
        self._decoder = codecs.getincrementaldecoder("utf-8")() if is_text else None

    def add(self, payload: _Payload, final: bool, events: list[Event]) -> None:
        """Make an event of a piece, unless it is empty and not the final one."""
        self.size += len(payload)
        try:
            data = self._decoder.decode(payload, final) if self._decoder else bytes(payload)
        except UnicodeDecodeError as error:
            raise _not_utf8() from error
        if data or final:
            events.append(Fragment(data, final, self._number))
            self._number += 1


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
