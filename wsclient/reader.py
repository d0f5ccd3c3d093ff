"""The reader's loop: read, decode, hand over. It runs on the reader thread, until the stream ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

from wsclient.protocol import Event, Fragment, Protocol
from wsclient.stats import ReadCounters

__all__ = ["Reader"]

_DATA = frozenset((str, bytes, Fragment))


class Source(Interface):
    """What the reader needs of a transport."""

    def recv_into(self, buffer: memoryview) -> int: ...


class Reader:
    """Reads one connection.

    Args:
        source: where the bytes come from.
        protocol: what they mean.
        counters: where to count; its own unless given.
        deliver: takes messages, in order; those of one read together, unless they are compressed and many.
            Where the protocol does not assemble messages, their pieces.
        control: takes one event that is not a message.
    """

    def __init__(
        self,
        source: Source,
        protocol: Protocol,
        counters: ReadCounters | None = None,
        *,
        deliver: Callable[[list[Any]], None],
        control: Callable[[Event], None],
    ) -> None:
        self._source = source
        self._protocol = protocol
        self._deliver = deliver
        self._control = control
        self.waiting: bool = False  # reader thread writes it; the writer's clock reads it
        self.is_within: bool = False  # reader thread: the last piece that was handed over was not a final one
        self.counters: ReadCounters = counters or ReadCounters()

    def run(self) -> None:
        """Read until the stream ends. Raises ``OSError`` when it breaks."""
        while self.read_once():
            pass

    def read_once(self) -> bool:
        """Read what there is, waiting for it, and hand it over. ``False`` at the end of the stream.

        What was read is handed over in several calls where it inflates to much: each of them may wait until
        there is room.
        """
        count = 0 if self._protocol.has_more else self._receive()
        if count is None:
            return False
        events = self._protocol.buffer_updated(count)
        if events:
            self._dispatch(events)
        return True

    def _receive(self) -> int | None:
        buffer = self._protocol.get_buffer()
        self.waiting = True
        count = self._source.recv_into(buffer)
        self.waiting = False
        self.counters.bytes_received += count
        return count or None

    def _dispatch(self, events: list[Any]) -> None:
        if _DATA.issuperset(map(type, events)):
            self._hand_over(events)
            return
        start = 0
        for position, event in enumerate(events):
            if type(event) not in _DATA:
                self._hand_over(events[start:position])
                self._control(event)
                start = position + 1
        self._hand_over(events[start:])

    def _hand_over(self, messages: list[Any]) -> None:
        if messages:
            whole = messages
            if not self._protocol.assembles:
                whole = [piece for piece in messages if piece.final]
                self.is_within = not messages[-1].final
            self.counters.messages_received += len(whole)
            self._deliver(messages)
