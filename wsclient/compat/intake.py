"""Taking what comes in, from several threads."""

from __future__ import annotations

import queue
import threading
from time import monotonic

from websocket import ABNF, isEnabledForTrace, trace

from wsclient.compat.errors import TimedOut, WouldBlock, translated
from wsclient.compat.events import Closed, Control, Event, Events, Piece

__all__ = ["Intake"]


class Intake:
    """Takes events, one thread at a time, and shows them as frames. The end is there for every thread."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._reading = threading.Lock()
        self._ending = threading.Lock()
        self._end_told = False  # _ending

    def take(self, timeout: float | None) -> Event:
        """The next event. Raises ``TimedOut``, which with 0 seconds is a ``WouldBlock``."""
        until = None if timeout is None else monotonic() + timeout
        if not self._reading.acquire(timeout=-1 if timeout is None else timeout):
            raise _too_late(timeout)
        try:
            return self._events.take(None if until is None else max(until - monotonic(), 0.0))
        except queue.Empty:
            raise _too_late(timeout) from None
        finally:
            self._reading.release()

    def frame_of(self, event: Event) -> ABNF | None:
        """An event as a frame; ``None`` for one that is no frame.

        The peer's close frame is shown once. Raises at the end of a connection without one (any more).
        """
        frame = self._end(event) if isinstance(event, Closed) else _frame_of(event)
        if frame is not None and isEnabledForTrace():
            trace(f"++Rcv decoded: {frame}")
        return frame

    def _end(self, event: Closed) -> ABNF:
        self._events.tell(event)  # for the next one who asks: it may hold _reading, and wait
        with self._ending:
            told, self._end_told = self._end_told, True
        if event.frame is None or event.locally or told:
            raise translated(event.error) from event.error
        return event.frame


def _too_late(timeout: float | None) -> TimedOut:
    return WouldBlock("Connection timed out") if timeout == 0 else TimedOut("Connection timed out")


def _frame_of(event: Event) -> ABNF | None:
    if isinstance(event, (str, bytes)):
        return ABNF(1, 0, 0, 0, _opcode_of(event), 0, _bytes_of(event))
    if isinstance(event, Piece):
        opcode = _opcode_of(event.data) if event.first else ABNF.OPCODE_CONT
        return ABNF(int(event.final), 0, 0, 0, opcode, 0, _bytes_of(event.data))
    if isinstance(event, Control):
        return ABNF(1, 0, 0, 0, event.opcode, 0, event.payload)
    return None


def _opcode_of(data: str | bytes) -> int:
    return ABNF.OPCODE_TEXT if isinstance(data, str) else ABNF.OPCODE_BINARY


def _bytes_of(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data
