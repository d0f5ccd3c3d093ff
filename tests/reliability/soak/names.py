"""Which message is whose: of which slot, which of its connections, which of that one's lanes. Pure."""

from __future__ import annotations

from zlib import crc32

from reliability.account import Identity

__all__ = [
    "ECHO_EVERY",
    "GREETING",
    "LANES",
    "MAX_MESSAGES",
    "STREAMS",
    "Name",
    "compose",
    "identity",
    "place",
]

GREETING = b"hello again"  # sent by on_reconnect, and not accounted for: its promise is another one
ECHO_EVERY = 8  # messages of which the server sends one back
LANES = 4  # numbers of threads for each slot
STREAMS = 2  # the lane of streams; those before it are threads that send
MAX_MESSAGES = 4096  # of a lane of one connection
_CHECKED = 20  # hex digits of the header that the checksum covers (benchmarks.messages)

Name = tuple[int, int]  # of a connection: its slot, and the how manieth there


def compose(identity: Identity, size: int) -> str:
    """A message that ``benchmarks.messages.parse`` understands, of at least its header's size."""
    thread, number = identity
    head = f"{thread:04x}{number:08x}{max(size, 28):08x}"
    body = (f"{number:x} and so on, " * (size // 10 + 1))[: max(0, size - 28)]
    return f"{head}{crc32(head.encode(), crc32(body.encode())):08x}{body}"


def identity(name: Name, lane: int, number: int) -> Identity:
    """Of a message on the wire."""
    slot, connection = name
    return slot * LANES + lane, connection * MAX_MESSAGES + number


def place(found: Identity) -> tuple[Name, Identity]:
    """The connection of a message, and its lane and number there."""
    thread, number = found
    slot, lane = divmod(thread, LANES)
    connection, number = divmod(number, MAX_MESSAGES)
    return (slot, connection), (lane, number)
