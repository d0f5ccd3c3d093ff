"""What goes through the send queue."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeAlias

from wsclient.frames import Frame, Opcode
from wsclient.protocol import Fragment

__all__ = [
    "Batch",
    "Entry",
    "Item",
    "Lane",
    "ends_message",
    "expiry_of",
    "is_message",
    "is_ping",
    "message_of",
    "messages_of",
    "payload_size",
    "received_size",
    "restored",
]


class Entry:
    """An item that somebody waits for, or that is no message: a receipt, a mark, a ping.

    Args:
        outgoing: what goes to the wire, or ``None`` for a mark, which writes nothing.
        message: what the application sent, or ``None`` when it was not a message.
        future: resolved with ``None`` once everything up to and with this entry is written, failed otherwise.
        on_writing: called on the writer thread just before the entry is written, with the monotonic time.
        expires_at: monotonic time from which on it is not to be written any more.
        origin: the item whose last fragment this is.
    """

    __slots__ = ("expires_at", "future", "message", "on_writing", "origin", "outgoing")

    def __init__(
        self,
        outgoing: str | bytes | Frame | None,
        *,
        message: str | bytes | None = None,
        future: Future[None] | None = None,
        on_writing: Callable[[float], None] | None = None,
        expires_at: float = math.inf,
        origin: Item | None = None,
    ) -> None:
        self.outgoing: str | bytes | Frame | None = outgoing
        self.message: str | bytes | None = message
        self.future: Future[None] | None = future
        self.on_writing: Callable[[float], None] | None = on_writing
        self.expires_at: float = expires_at
        self.origin: Item | None = origin

    def __len__(self) -> int:
        return 0 if self.outgoing is None else len(self.outgoing)

    @property
    def takes_room(self) -> bool:
        """Whether it counts against the bounds of the queue."""
        return self.message is not None


Item: TypeAlias = "str | bytes | Frame | Entry"


def payload_size(message: str | bytes) -> int:
    """Bytes that a message has on the wire, without its header."""
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())


def received_size(item: str | bytes | Fragment) -> int:
    """Bytes that a received message, or piece of one, has taken on the wire without its headers."""
    return payload_size(item.data if isinstance(item, Fragment) else item)


def expiry_of(item: Item) -> float:
    """Monotonic time from which on an item is not to be written any more; infinity for most."""
    return item.expires_at if isinstance(item, Entry) else math.inf


def is_message(item: Item) -> bool:
    """Tell whether an item is a message of the application, or stands for one: those take room."""
    if isinstance(item, Entry):
        return item.takes_room
    return not isinstance(item, Frame) or item.opcode < Opcode.CLOSE


def is_ping(item: Item) -> bool:
    """Tell whether an item is a ping that is counted when it is written."""
    return isinstance(item, Entry) and item.on_writing is not None


def ends_message(item: Item) -> bool:
    """Tell whether a message of the application is complete once ``item`` is written."""
    outgoing = item.outgoing if isinstance(item, Entry) else item
    if isinstance(outgoing, Frame):
        return outgoing.fin and outgoing.opcode < Opcode.CLOSE
    return outgoing is not None


def message_of(item: Item) -> str | bytes | None:
    """Give back what the application sent, or ``None`` when the item was not a message of its."""
    if isinstance(item, Entry):
        return item.message
    if not isinstance(item, Frame):
        return item
    if item.opcode is Opcode.TEXT:
        return item.payload.decode()
    return item.payload if item.opcode is Opcode.BINARY else None


def restored(item: Item) -> Item | None:
    """What has to be written to the next link for an item that this one did not take, or lost.

    ``None`` for what has no meaning there: control frames, fragments of a stream.
    """
    if isinstance(item, Entry):
        if item.origin is not None:
            return restored(item.origin)
        return item if item.message is not None or (item.outgoing is None and type(item) is Entry) else None
    return item if is_message(item) else None


def messages_of(items: Iterable[Item]) -> tuple[str | bytes, ...]:
    """The messages among some items, in order."""
    return tuple(message for message in map(message_of, items) if message is not None)


class Lane(enum.Enum):
    """Where the queue takes a batch from, in this order."""

    AHEAD = "ahead"  # what on_reconnect sends
    IN_DOUBT = "in doubt"  # was written to a link that is lost, and is written again
    AGAIN = "again"  # was taken for a link that was lost before it was written
    WAITING = "waiting"  # the queue itself


class Batch:
    """What one write carries.

    Attributes:
        items: in wire order.
        entries: whether there may be an ``Entry`` among them.
        final: whether this is the close frame, after which nothing goes out.
        lane: where it comes from.
    """

    __slots__ = ("entries", "final", "items", "lane")

    def __init__(
        self, items: list[Item], *, entries: bool, final: bool = False, lane: Lane = Lane.WAITING
    ) -> None:
        self.items: list[Item] = items
        self.entries: bool = entries
        self.final: bool = final
        self.lane: Lane = lane
