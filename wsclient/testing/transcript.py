"""What a failed wait shows: what went over the wire and, if it looks like a deadlock, all threads' stacks."""

from __future__ import annotations

import concurrent.futures
import enum
import sys
import threading
import time
import traceback
from collections import deque
from types import FrameType

from wsclient import Connection, ConnectionClosed, State

__all__ = [
    "HANDLER_THREAD",
    "READING",
    "Direction",
    "Transcript",
    "shortened",
    "suspect_deadlock",
    "thread_stacks",
]

HANDLER_THREAD = "wsclient-testing-handler"  # prefix of the names of threads that run handlers of `serve`
READING = "_wait_for_client"  # the function that such a thread is in while it waits for its client
_PROBE = 1.0  # seconds for the pong that tells a silent peer from a stuck one
_WIDTH = 160  # characters of a message that are shown
_LINES = 200  # what is kept


class Direction(str, enum.Enum):
    """Which way a line of a transcript went."""

    SENT = "->"
    RECEIVED = "<-"
    NOTE = "--"


def shortened(message: object) -> str:
    """``message`` on one line, its middle left out when it is long."""
    size = len(message) if isinstance(message, (str, bytes)) else 0
    if isinstance(message, (str, bytes)) and size > _WIDTH:
        unit = "characters" if isinstance(message, str) else "bytes"
        return f"{message[: _WIDTH // 2]!r} ... {message[-_WIDTH // 4 :]!r} ({size} {unit})"
    return repr(message)


class Transcript:
    """The last 200 things that happened on a connection, with their times. Thread-safe."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._mutex = threading.Lock()
        self._lines: deque[tuple[float, Direction, str]] = deque(maxlen=_LINES)  # _mutex
        self._count = 0  # _mutex: all that were noted, kept or not

    def note(self, direction: Direction, text: str) -> None:
        """Add a line, with the time of now."""
        line = (time.monotonic() - self._began, direction, text)
        with self._mutex:
            self._lines.append(line)
            self._count += 1

    def __str__(self) -> str:
        with self._mutex:
            lines, count = list(self._lines), self._count
        shown = [f"  {at:9.3f}  {direction.value}  {text}" for at, direction, text in lines]
        if count > len(lines):
            shown.insert(0, f"  ({count - len(lines)} earlier lines left out)")
        return "\n".join(["transcript (seconds, direction, message):", *(shown or ["  nothing happened"])])


def thread_stacks() -> str:
    """What each thread of this process is doing right now."""
    frames = sys._current_frames()
    parts = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame else "  (not running)\n"
        parts.append(f"thread {thread.name!r}{', daemon' if thread.daemon else ''}:\n{stack}")
    return "\n".join(parts)


def suspect_deadlock(connection: Connection) -> str | None:
    """Why something seems to be stuck, or ``None`` when the peer merely has nothing to say.

    Takes up to a second, for a ping.
    """
    if connection.state is not State.OPEN:
        return None
    try:
        connection.ping().result(_PROBE)
    except concurrent.futures.TimeoutError:
        return f"the peer answered no ping within {_PROBE:g} s"
    except ConnectionClosed:
        return None
    stuck = _stuck_handlers()
    return f"{', '.join(stuck)} waits, but not for its client" if stuck else None


def _stuck_handlers() -> list[str]:
    # Handlers of a `serve` in this process that do something else than reading.
    frames = sys._current_frames()
    handlers = [thread for thread in threading.enumerate() if thread.name.startswith(HANDLER_THREAD)]
    return [thread.name for thread in handlers if not _is_reading(frames.get(thread.ident or 0))]


def _is_reading(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name != READING:
        frame = frame.f_back
    return frame is not None
