"""What comes in on a connection, on its way from the reader thread to whoever takes it."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TypeAlias

from websocket import ABNF

__all__ = ["Closed", "Control", "Event", "Events", "Failed", "Piece", "Wake"]

_MAX_WAITING = 1024
_MAX_SIZE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a message, for those who want them as they come."""

    data: str | bytes
    first: bool
    final: bool


@dataclass(frozen=True, slots=True)
class Control:
    """A ping or pong."""

    opcode: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection has ended: nothing comes behind this.

    Attributes:
        frame: the peer's close frame, if one came.
        error: what a call on the connection raises from now on.
        locally: whether this side began it.
    """

    frame: ABNF | None
    error: Exception
    locally: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The connection was given up, and why."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Wake:
    """Look around: something else has changed."""


Event: TypeAlias = "str | bytes | Piece | Control | Closed | Failed | Wake"


class Events:
    """One producer of messages, the reader thread, which waits while there is no room; one taker at a time.

    ``tell`` may be called from any thread.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._put = self._put_size = 0  # reader thread
        self._taken = self._taken_size = 0  # whoever takes, one at a time
        self._room = threading.Condition()
        self._waits = False  # reader thread, under _room; read by the taker without it
        self._dropping = False  # set once, under _room

    @property
    def holds_up_reader(self) -> bool:
        """Whether the reader thread waits for room."""
        return self._waits

    def put(self, event: str | bytes | Piece, size: int) -> None:
        """Hand over a message, or a piece; blocks while there is no room. Reader thread."""
        if self._dropping:
            return
        self._put += 1
        self._put_size += size
        if self._put - self._taken > _MAX_WAITING or self._put_size - self._taken_size > _MAX_SIZE:
            self._wait_for_room(size)
        self._queue.put(event)

    def _wait_for_room(self, size: int) -> None:
        with self._room:
            self._waits = True
            self._room.wait_for(lambda: self._dropping or self._has_room(size))
            self._waits = False

    def _has_room(self, size: int) -> bool:
        waiting, held = self._put - self._taken, self._put_size - self._taken_size
        # A half: not one switch of threads for each message.
        return waiting <= 1 or (waiting <= _MAX_WAITING // 2 and held <= max(_MAX_SIZE // 2, size))

    def tell(self, event: Control | Closed | Failed | Wake) -> None:
        """Hand over something else; never blocks, needs no room."""
        self._queue.put(event)

    def take(self, timeout: float | None) -> Event:
        """The next event. Raises ``queue.Empty`` after ``timeout`` seconds."""
        event = self._queue.get(timeout=timeout)
        kind = event.__class__
        if kind is str or kind is bytes or kind is Piece:
            self._taken += 1
            self._taken_size += len(event.data if isinstance(event, Piece) else event)  # type: ignore[arg-type]
            if self._waits:
                with self._room:
                    self._room.notify_all()
        return event

    def drop(self) -> None:
        """Nobody will take messages any more: do not hold up the reader thread."""
        with self._room:
            self._dropping = True
            self._room.notify_all()
