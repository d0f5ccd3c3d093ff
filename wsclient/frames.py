"""Frames of RFC 6455, section 5: opcodes, headers, masking, close payloads.

A batch of messages is encoded at once, for that is what makes pure Python fast enough: the frames are
joined with a zero in place of every masking key, and XOR-ed once with a stream that carries, for each
frame, the bits FIN and MASK, then its key over the key's own place and over the payload::

    plain   01 05 00 00 00 00 H  e  l  l  o  | 01 02 00 ...
    stream  80 80 k0 k1 k2 k3 k0 k1 k2 k3 k0 | 80 80 k0 ...
    wire    81 85 k0 k1 k2 k3 .. .. .. .. .. | 81 82 k0 ...

With FIN and MASK in the stream, a batch of ASCII text stays ASCII until it is joined, so that nothing is
encoded message by message. Every frame has a fresh key from the operating system (section 5.3).

Nothing here does I/O or keeps state; every function may be called from any thread.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from itertools import accumulate, chain, groupby
from os import urandom
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar, cast

from wsclient.exceptions import ProtocolError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Frame",
    "IntMasking",
    "Masking",
    "NumpyMasking",
    "Opcode",
    "Outgoing",
    "decode_close",
    "decode_header",
    "default_masking",
    "encode_batch",
    "encode_close",
    "fully_written",
    "wire_size",
]


class Opcode(IntEnum):
    """Frame opcodes (RFC 6455, section 5.2). From ``CLOSE`` on they are control frames."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


@dataclass(frozen=True, slots=True)
class Frame:
    """One outgoing frame, for whatever is not a whole text or binary message.

    Attributes:
        opcode: what the frame is.
        payload: unmasked payload bytes.
        fin: whether it is the last frame of its message.
        rsv1: the reserved bit that an extension may use (RFC 7692: the message is compressed).
    """

    opcode: Opcode
    payload: bytes
    fin: bool = True
    rsv1: bool = False

    def __len__(self) -> int:
        return len(self.payload)


Outgoing: TypeAlias = "str | bytes | Frame"
"""A whole text message, a whole binary message, or a single frame."""

_Part = TypeVar("_Part")

_SHORT = 126  # payloads below need no extended length (section 5.2)
_MEDIUM = 1 << 16  # ... below: two bytes of it, from here eight
_NO_KEY = bytes(4)  # in the place of the key of a frame not yet masked
_FIN_AND_MASK = b"\x80\x80"

# What is joined and masked at once. With more, the temporary copies no longer fit in the processor's cache
# and come from fresh pages of the operating system every time: half as slow again.
_ITEMS_AT_ONCE = 768
_BYTES_AT_ONCE = 1 << 16


@cache
def _short_heads(first: int) -> tuple[bytes, ...]:
    return tuple(bytes((first, length)) + _NO_KEY for length in range(_SHORT))


_TEXT_HEADS = tuple(head.decode("ascii") for head in _short_heads(Opcode.TEXT))


def encode_batch(batch: Sequence[Outgoing], masking: Masking | None = None) -> bytes | bytearray:
    """Encode messages and frames as masked client frames, in order, in one buffer.

    Args:
        batch: what to encode. A ``str`` that UTF-8 cannot express (a lone surrogate) is a
            ``UnicodeEncodeError``; nothing is encoded then.
        masking: how to mask; by default the fastest way for a batch of this size.

    Returns:
        The frames (RFC 6455, section 5.2), each with its own unpredictable masking key.
    """
    if not batch:
        return b""
    if len(batch) == 1:
        return _encode_single(batch[0], masking)
    if len(batch) <= _ITEMS_AT_ONCE:
        return _encode_part(batch, masking)
    starts = range(0, len(batch), _ITEMS_AT_ONCE)
    return b"".join([_encode_part(batch[start : start + _ITEMS_AT_ONCE], masking) for start in starts])


def _encode_single(item: Outgoing, masking: Masking | None) -> bytes | bytearray:
    first, payload = _first_byte(item), _payload(item)
    head = _plain_head(first, len(payload))
    if len(payload) >= IntMasking.large:
        out = bytearray(len(head) + len(payload))
        _put_large(out, 0, [head], [payload], masking or default_masking(len(out)))
        return out
    if masking is not None:
        return masking.mask_frames(head + payload, [len(payload)])
    stream = _FIN_AND_MASK + bytes(len(head) - 6) + urandom(4) * (len(payload) // 4 + 2)
    return _xor(head + payload, stream[: len(head) + len(payload)])


def _encode_part(batch: Sequence[Outgoing], masking: Masking | None) -> bytes | bytearray:
    kinds = set(map(type, batch))
    if kinds == {str}:
        return _encode_texts(cast("Sequence[str]", batch), masking)
    if kinds == {bytes}:
        return _encode_payloads(Opcode.BINARY, cast("Sequence[bytes]", batch), masking)
    payloads = list(map(_payload, batch))
    lengths = list(map(len, payloads))
    heads = list(map(_plain_head, map(_first_byte, batch), lengths))
    return _mask_all(heads, payloads, lengths, masking)


def _encode_texts(batch: Sequence[str], masking: Masking | None) -> bytes | bytearray:
    lengths = list(map(len, batch))
    if max(lengths) < _SHORT:
        plain = "".join(_interleave(list(map(_TEXT_HEADS.__getitem__, lengths)), batch))
        if plain.isascii():
            return (masking or default_masking(len(plain))).mask_frames(plain.encode("ascii"), lengths)
    return _encode_payloads(Opcode.TEXT, list(map(str.encode, batch)), masking)


def _encode_payloads(first: int, payloads: Sequence[bytes], masking: Masking | None) -> bytes | bytearray:
    lengths = list(map(len, payloads))
    if max(lengths) < _SHORT:
        heads = list(map(_short_heads(first).__getitem__, lengths))
    else:
        heads = [_plain_head(first, length) for length in lengths]
    return _mask_all(heads, payloads, lengths, masking)


def _mask_all(
    heads: Sequence[bytes], payloads: Sequence[bytes], lengths: list[int], masking: Masking | None
) -> bytes | bytearray:
    total = sum(map(len, heads)) + sum(lengths)
    if masking is None:
        masking = default_masking(total)
    if total <= _BYTES_AT_ONCE and max(lengths) < masking.large:
        return masking.mask_frames(b"".join(_interleave(heads, payloads)), lengths)
    out = bytearray(total)
    position = 0
    for run in _runs(lengths, masking.large):
        put = _put_large if lengths[run.start] >= masking.large else _put_joined
        position = put(out, position, heads[run], payloads[run], masking)
    return out


def _runs(lengths: Sequence[int], large: int) -> Iterator[slice]:
    """Cut a batch into single large payloads and runs of others, which are masked together."""
    ends = list(accumulate(lengths))

    def run_of(index: int) -> int:
        return ~index if lengths[index] >= large else ends[index] // _BYTES_AT_ONCE

    for _, indexes in groupby(range(len(lengths)), run_of):
        run = list(indexes)
        yield slice(run[0], run[-1] + 1)


def _put_joined(
    out: bytearray, position: int, heads: Sequence[bytes], payloads: Sequence[bytes], masking: Masking
) -> int:
    plain = b"".join(_interleave(heads, payloads))
    out[position : position + len(plain)] = masking.mask_frames(plain, list(map(len, payloads)))
    return position + len(plain)


def _put_large(
    out: bytearray, position: int, heads: Sequence[bytes], payloads: Sequence[bytes], masking: Masking
) -> int:
    (head,), (payload,) = heads, payloads
    key = urandom(4)
    start = position + len(head)
    out[position:start] = bytes((head[0] ^ 0x80, head[1] ^ 0x80)) + head[2:-4] + key
    masking.mask_into(out, start, payload, key)
    return start + len(payload)


def _interleave(heads: Sequence[_Part], payloads: Sequence[_Part]) -> list[_Part]:
    # Slice assignment stays in C: measured 1.5 to 2 times as fast as zip, add or an f-string.
    parts = [*heads, *payloads]
    parts[::2] = heads
    parts[1::2] = payloads
    return parts


def _first_byte(item: Outgoing) -> int:
    """First byte of its frame, with FIN inverted: masking brings that."""
    if isinstance(item, str):
        return Opcode.TEXT
    if isinstance(item, bytes):
        return Opcode.BINARY
    return item.opcode | (0 if item.fin else 0x80) | (0x40 if item.rsv1 else 0)


def _payload(item: Outgoing) -> bytes:
    if isinstance(item, bytes):
        return item
    return item.encode() if isinstance(item, str) else item.payload


def _plain_head(first: int, length: int) -> bytes:
    if length < _SHORT:
        return _short_heads(first)[length]
    if length < _MEDIUM:
        return struct.pack("!BBH4x", first, 126, length)
    return struct.pack("!BBQ4x", first, 127, length)


def _frame_size(length: int) -> int:
    return length + (6 if length < _SHORT else 8 if length < _MEDIUM else 14)


# ---------------------------------------------------------------------------------------------- masking


class Masking(Protocol):
    """A way to mask frames (RFC 6455, section 5.3). Stateless; usable from any thread.

    Attributes:
        large: payloads of that many bytes, at most 65,535, and more go to ``mask_into``, the others to
            ``mask_frames``.
    """

    large: int

    def mask_frames(self, plain: bytes, lengths: list[int]) -> bytes | bytearray:
        """Bring FIN, MASK and fresh keys into joined frames, and mask them.

        Args:
            plain: the frames, with FIN inverted, without MASK, and with zeros for keys.
            lengths: their payload lengths in bytes, each below 64 KiB.
        """

    def mask_into(self, out: bytearray, position: int, payload: bytes, key: bytes) -> None:
        """Write ``payload``, masked with ``key``, to ``out`` from ``position`` on."""


class IntMasking:
    """Masking by Python's long integers: needs nothing installed."""

    large = 512  # where a product of the key begins to be cheaper than repeated bytes of it

    def mask_frames(self, plain: bytes, lengths: list[int]) -> bytes:
        """See ``Masking``."""
        pieces = [
            (key * 33)[: length + 4] if length < _SHORT else b"\0\0" + (key * (length // 4 + 2))[: length + 4]
            for key, length in zip(_random_keys(len(lengths)), lengths, strict=True)
        ]
        stream = _FIN_AND_MASK.join([b"", *pieces])
        cuts = [slice(start, start + _PIECE) for start in range(0, len(plain), _PIECE)]
        return b"".join([_xor(plain[cut], stream[cut]) for cut in cuts])

    def mask_into(self, out: bytearray, position: int, payload: bytes, key: bytes) -> None:
        """See ``Masking``."""
        # The key times 0x...0000000100000001 is the stream: much cheaper than converting that from bytes.
        piece = min(_PIECE, max(4, 1 << (len(payload) - 1).bit_length()))
        stream = int.from_bytes(key, "little") * _ones(piece // 4)
        view = memoryview(payload)
        for start in range(0, len(payload), piece):
            data = view[start : start + piece]
            masked = (int.from_bytes(data, "little") ^ stream).to_bytes(piece, "little")
            out[position + start : position + start + len(data)] = masked[: len(data)]


_PIECE = 1 << 13  # bytes made an integer at once; measured best, more goes beyond the processor's cache


@cache
def _ones(words: int) -> int:
    return int.from_bytes(b"\1\0\0\0" * words, "little")


def _xor(data: bytes, stream: bytes) -> bytes:
    masked = int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")
    return masked.to_bytes(len(data), "little")


_KEYS_AT_ONCE = 64
_iter_keys = struct.Struct("4s" * _KEYS_AT_ONCE).iter_unpack


def _random_keys(count: int) -> list[bytes]:
    raw = urandom(4 * count)
    rest = count // _KEYS_AT_ONCE * _KEYS_AT_ONCE * 4
    keys = list(chain.from_iterable(_iter_keys(raw[:rest])))
    keys += [raw[start : start + 4] for start in range(rest, len(raw), 4)]
    return keys


class NumpyMasking:
    """Masking by NumPy, the extra ``wsclient[fast]``. Raises ``ImportError`` when that is missing."""

    large = 1 << 13  # smaller ones go together: each operation of NumPy may hand the GIL to another thread

    def __init__(self) -> None:
        import numpy

        self._np = numpy  # never changes

    def mask_frames(self, plain: bytes, lengths: list[int]) -> bytearray:
        """See ``Masking``."""
        np = self._np
        out = bytearray((len(plain) + 3) & ~3)
        self._write_stream(np.frombuffer(out, np.uint32), len(plain), lengths)
        del out[len(plain) :]
        masked = np.frombuffer(out, np.uint8)
        np.bitwise_xor(masked, np.frombuffer(plain, np.uint8), out=masked)
        return out

    def _write_stream(self, words: NDArray[np.uint32], total: int, lengths: list[int]) -> None:
        # A rotated random key is as random, so a frame's key is taken at positions modulo 4 of the whole
        # batch, and nearly all of the stream is whole words. Only where a frame begins inside a word that
        # belongs to the one before are bytes set singly.
        np = self._np
        sizes = np.array(lengths, np.intp)
        sizes += 6
        ends = sizes.cumsum()
        medium = None
        if ends[-1] != total:
            medium = sizes >= _SHORT + 6
            sizes[medium] += 2
            ends = sizes.cumsum()
        keys = np.frombuffer(urandom(4 * len(lengths)), np.uint32)
        word_counts = (ends + 3) >> 2
        word_counts[1:] -= word_counts[:-1].copy()
        words[:] = keys.repeat(word_counts)
        self._write_heads(words.view(np.uint8), ends - sizes, keys.view(np.uint8), medium)

    def _write_heads(
        self,
        stream: NDArray[np.uint8],
        starts: NDArray[np.intp],
        key_bytes: NDArray[np.uint8],
        medium: NDArray[np.bool_] | None,
    ) -> None:
        np = self._np
        at = starts[:, None] + np.arange(4)
        heads = key_bytes[(at & 3) + np.arange(0, len(key_bytes), 4)[:, None]]
        heads[:, :2] = 0x80
        if medium is not None:
            heads[medium, 2:] = 0  # the extended length
        stream[at] = heads

    def mask_into(self, out: bytearray, position: int, payload: bytes, key: bytes) -> None:
        """See ``Masking``."""
        np = self._np
        words, rest = divmod(len(payload), 8)
        source = np.frombuffer(payload, np.uint64, words)
        target = np.frombuffer(out, np.uint64, words, position)
        np.bitwise_xor(source, np.frombuffer(key * 2, np.uint64), out=target)
        if rest:
            out[position + 8 * words : position + len(payload)] = _xor(payload[-rest:], (key * 2)[:rest])


# Bytes from which NumPy wins, measured on CPython 3.11; it takes 15 us a call, the integers less below.
_NUMPY_FROM = 1 << 12

_make_int_masking: Callable[[], IntMasking] = cache(IntMasking)


def default_masking(size: int = _NUMPY_FROM) -> Masking:
    """The fastest way to mask a batch of ``size`` bytes.

    The first call with a size for which NumPy pays imports it, if it is installed, which takes about a
    tenth of a second: call this without an argument where that does not hurt.
    """
    return (_numpy_masking() if size >= _NUMPY_FROM else None) or _make_int_masking()


@cache
def _numpy_masking() -> NumpyMasking | None:
    try:
        return NumpyMasking()
    except ImportError:
        return None


# ----------------------------------------------------------------------------------- sizes after a failure


def wire_size(item: Outgoing) -> int:
    """Bytes that ``item`` takes on the wire, header and masking key included."""
    if isinstance(item, str) and not item.isascii():
        return _frame_size(len(item.encode()))
    return _frame_size(len(item))


def fully_written(batch: Sequence[Outgoing], nbytes: int) -> int:
    """How many leading items of ``batch`` lie wholly in the first ``nbytes`` bytes of its encoding."""
    end = 0
    for count, item in enumerate(batch):
        end += wire_size(item)
        if end > nbytes:
            return count
    return len(batch)


# ------------------------------------------------------------------------------------- what the peer sends


def decode_header(
    data: bytes | memoryview, position: int, end: int, *, compressible: bool = False
) -> tuple[int, int, int] | None:
    """Read the header of a server's frame at ``data[position:end]`` (RFC 6455, section 5.2).

    Args:
        data, position, end: where it is.
        compressible: whether the first frame of a message may have RSV1 set (RFC 7692, section 6).

    Returns:
        The frame's first byte, its payload length in bytes and the position of its payload; ``None`` when
        the header is not complete.

    Raises:
        ProtocolError: with code 1002, as soon as the header's first two bytes show it, for what no header
            of a server's frame may have.
    """
    if end - position < 2:
        return None
    first, length = data[position], data[position + 1]
    _check_first_bytes(first, length, compressible)
    if length < _SHORT:
        return first, length, position + 2
    start = position + (4 if length == 126 else 10)
    if end < start:
        return None
    extended = int.from_bytes(data[position + 2 : start], "big")
    _check_extended_length(length, extended)
    return first, extended, start


def _check_first_bytes(first: int, second: int, compressible: bool) -> None:
    opcode = first & 0x0F
    if first & 0x70 and not (compressible and first & 0x70 == 0x40 and opcode in _MESSAGE_OPCODES):
        where = "where no extension allows it" if compressible else "without an extension"
        raise ProtocolError(1002, f"reserved bits set {where}: {first:#04x}")
    if opcode not in _OPCODES:
        raise ProtocolError(1002, f"reserved opcode {opcode:#x}")
    if second & 0x80:
        raise ProtocolError(1002, "masked frame from a server")
    if opcode >= Opcode.CLOSE:
        if first < 0x80:
            raise ProtocolError(1002, "fragmented control frame")
        if second >= _SHORT:
            raise ProtocolError(1002, "control frame with an extended length")


_OPCODES = frozenset(Opcode)
_MESSAGE_OPCODES = frozenset((Opcode.TEXT, Opcode.BINARY))


def _check_extended_length(second: int, length: int) -> None:
    if length < (_SHORT if second == 126 else _MEDIUM):
        raise ProtocolError(1002, f"length {length} not in its shortest form")
    if length >> 63:
        raise ProtocolError(1002, "64-bit length with its highest bit set")


# ------------------------------------------------------------------------------------------ close payloads


def encode_close(code: int, reason: str = "") -> bytes:
    """The payload of a close frame (RFC 6455, section 5.5.1).

    Raises:
        TypeError: ``code`` is no ``int``, or ``reason`` no ``str``.
        ValueError: when an endpoint must not send ``code`` (section 7.4), or ``reason`` takes more than
            123 bytes of UTF-8 or cannot be expressed in it.
    """
    if not isinstance(code, int) or not isinstance(reason, str):
        raise TypeError("close code must be an int, and the reason a str")
    if not _is_sendable(code):
        raise ValueError(f"close code {code!r} must not be sent: use 1000-1003, 1007-1014 or 3000-4999")
    encoded = reason.encode()
    if len(encoded) > 123:
        raise ValueError(f"close reason takes {len(encoded)} bytes of UTF-8, more than 123: {reason!r}")
    return code.to_bytes(2, "big") + encoded


def decode_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a received close frame; ``(1005, "")`` when it has none.

    Raises:
        ProtocolError: with code 1002 for half a code or one that must not be sent (RFC 6455, section 7.4),
            with 1007 for a reason that is not UTF-8.
    """
    if not payload:
        return 1005, ""
    if len(payload) == 1:
        raise ProtocolError(1002, "close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if not _is_sendable(code):
        raise ProtocolError(1002, f"close frame with code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(1007, "close reason is not UTF-8") from error


def _is_sendable(code: int) -> bool:
    return code in _PROTOCOL_CODES or 3000 <= code <= 4999


_PROTOCOL_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))
