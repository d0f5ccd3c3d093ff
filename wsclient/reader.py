"""The reader's loop: read, decode, hand over. It runs on the reader thread, until the stream ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

from wsclient.protocol import Event, Protocol

__all__ = ["Reader"]

_DATA = frozenset((str, bytes))


class Source(Interface):
    """What the reader needs of a transport."""

    def recv_into(self, buffer: memoryview) -> int: ...


class Reader:
    """Reads one connection.

    Args:
        source: where the bytes come from.
        protocol: what they mean.
        deliver: takes the messages of one read, in order.
        control: takes one event that is not a message.
    """

    def __init__(
        self,
        source: Source,
        protocol: Protocol,
        *,
        deliver: Callable[[list[str | bytes]], None],
        control: Callable[[Event], None],
    ) -> None:
        self._source = source
        self._protocol = protocol
        self._deliver = deliver
        self._control = control
        self.waiting = False  # reader thread writes it; the writer's clock reads it
        self.messages_received = 0  # reader thread
        self.bytes_received = 0  # reader thread

    def run(self) -> None:
        """Read until the stream ends. Raises ``OSError`` when it breaks."""
        while self.read_once():
            pass

    def read_once(self) -> bool:
        """Read what there is, waiting for it, and hand it over. ``False`` at the end of the stream."""
        buffer = self._protocol.get_buffer()
        self.waiting = True
        count = self._source.recv_into(buffer)
        self.waiting = False
        if not count:
            return False
        self.bytes_received += count
        events = self._protocol.buffer_updated(count)
        if events:
            self._dispatch(events)
        return True

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

    def _hand_over(self, messages: list[str | bytes]) -> None:
        if messages:
            self.messages_received += len(messages)
            self._deliver(messages)
