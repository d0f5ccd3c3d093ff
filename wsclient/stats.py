"""What a connection has counted."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ReadCounters", "Stats", "WriteCounters"]


class ReadCounters:
    """Counts of the reader thread, which alone changes them."""

    __slots__ = ("bytes_received", "messages_received", "reconnects")

    def __init__(self) -> None:
        self.messages_received: int = 0
        self.bytes_received: int = 0
        self.reconnects: int = 0


class WriteCounters:
    """Counts of the writer thread, which alone changes them."""

    __slots__ = ("bytes_sent", "expired", "frames_sent", "max_frames_per_write", "messages_sent", "writes")

    def __init__(self) -> None:
        self.messages_sent: int = 0
        self.frames_sent: int = 0
        self.bytes_sent: int = 0
        self.writes: int = 0
        self.max_frames_per_write: int = 0
        self.expired: int = 0


@dataclass(frozen=True)
class Stats:
    """A snapshot of a connection's counters.

    The numbers are read one after the other while the connection works: each is right, their sum may be
    off by what happened in between. Sizes are bytes, times seconds.

    Attributes:
        messages_sent: messages fully written to the socket.
        frames_sent: frames written, control frames included.
        bytes_sent: bytes written after the handshake, frame headers included.
        writes: writes to the socket.
        max_frames_per_write: most frames that one batch carried.
        messages_received: messages handed over.
        bytes_received: bytes read after the handshake, frame headers included.
        queued_messages: messages in the send queue now.
        queued_bytes: their payloads.
        max_queued_messages: most messages that the writer found in the queue.
        max_queued_bytes: most payload bytes that it found there.
        dropped_messages: messages given up by ``overflow="drop_oldest"``.
        expired_messages: messages that were given up because they had expired.
        reconnects: how often the connection was opened again.
        in_doubt_bytes: with ``reconnect``: what was written and may not have arrived; 64 more a message.
        forgotten_messages: with ``reconnect``: messages that were written, may not have arrived, and are not
            handed back, for ``max_in_doubt_bytes`` had no room. None with ``delivery="at_least_once"``.
        received_waiting: received messages that nobody has taken yet.
        discarded_messages: received messages that found no room once the connection was closing or lost.
        pings_sent: pings written, the connection's own and the application's.
        pongs_received: pongs read.
        latency: last round trip of a ping, ``None`` before the first.
        callback_errors: exceptions that left a callback.
    """

    messages_sent: int
    frames_sent: int
    bytes_sent: int
    writes: int
    max_frames_per_write: int
    messages_received: int
    bytes_received: int
    queued_messages: int
    queued_bytes: int
    max_queued_messages: int
    max_queued_bytes: int
    dropped_messages: int
    expired_messages: int
    reconnects: int
    in_doubt_bytes: int
    forgotten_messages: int
    received_waiting: int
    discarded_messages: int
    pings_sent: int
    pongs_received: int
    latency: float | None
    callback_errors: int

    @property
    def frames_per_write(self) -> float:
        """Average frames that one write to the socket carried."""
        return self.frames_sent / self.writes if self.writes else 0.0
