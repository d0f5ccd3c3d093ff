"""Messages that prove themselves: who sent them, which one it is, how long it is, and a checksum over it all.

A message is ASCII text: 4 hex digits thread, 8 sequence number, 8 length, 8 CRC-32, then a body. The checksum
covers everything but itself: what was cut, joined to another or masked with the wrong key cannot pass.
Pure: no I/O, no threads.
"""

from __future__ import annotations

import random
import string
from binascii import a2b_hex
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from zlib import crc32

__all__ = ["MIN_SIZE", "Garbled", "Workload", "parse"]

_unpack = Struct(">HIII").unpack  # thread, sequence number, length, checksum
_CHECKED = 20  # hex digits of the header that the checksum covers
MIN_SIZE = 28  # bytes: the header
_MAX_THREADS = 0xFFFF
_MAX_NUMBER = 0xFFFFFFFF


class Garbled(ValueError):
    """These bytes are not a message that anybody sent."""


@dataclass(frozen=True)
class Workload:
    """``threads`` senders of ``messages`` messages each, ``size`` bytes a message.

    Raises:
        ValueError: a number is out of range; the message names it.
    """

    threads: int
    messages: int
    size: int

    def __post_init__(self) -> None:
        _within("threads", self.threads, 1, _MAX_THREADS)
        _within("messages", self.messages, 1, _MAX_NUMBER)
        _within("size", self.size, MIN_SIZE, _MAX_NUMBER)

    @property
    def total(self) -> int:
        """Messages of all threads together."""
        return self.threads * self.messages

    def of_thread(self, thread: int) -> Iterator[str]:
        """All messages of one thread, in order, made one by one."""
        body = _body(thread, self.size - MIN_SIZE)
        body_sum = crc32(body.encode())
        size = self.size
        for number in range(self.messages):
            head = f"{thread:04x}{number:08x}{size:08x}"
            yield f"{head}{crc32(head.encode(), body_sum):08x}{body}"


def parse(payload: bytes) -> tuple[int, int]:
    """Thread and sequence number of a message.

    Raises:
        Garbled: its length or its checksum is wrong, or it has no header.
    """
    try:
        thread, number, length, checksum = _unpack(a2b_hex(payload[:MIN_SIZE]))
    except (ValueError, struct_error):
        raise Garbled(f"no header: {payload[:MIN_SIZE]!r}") from None
    if length != len(payload):
        raise Garbled(f"{len(payload)} bytes, sent were {length}")
    if crc32(payload[:_CHECKED], crc32(payload[MIN_SIZE:])) != checksum:
        raise Garbled("wrong checksum")
    return thread, number


def _body(thread: int, size: int) -> str:
    letters = random.Random(thread).choices(string.ascii_letters + string.digits, k=min(size, 1021))
    piece = "".join(letters)
    return (piece * (size // len(piece) + 1))[:size] if piece else ""


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}")
