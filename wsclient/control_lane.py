"""Control frames on their way out: a lane of their own, which goes before all messages, between batches."""

from __future__ import annotations

import threading
from contextlib import suppress

from wsclient.doorbell import Doorbell
from wsclient.frames import Frame
from wsclient.items import Entry, Item

__all__ = ["MAX_PENDING_PINGS", "ControlLane"]

MAX_PENDING_PINGS = 4096  # of the application's, that wait for the writer or for their pongs
MAX_PENDING_PONGS = 64  # RFC 6455, section 5.5.3: the most recent ping is the one that needs its pong


class ControlLane:
    """Pongs and pings that wait for the writer. Any thread puts, the writer thread takes.

    After the close frame, what is put here is never taken: nothing follows it (section 5.5.1).
    """

    __slots__ = ("_bell", "_mutex", "_pings", "_pongs")

    def __init__(self, mutex: threading.Lock, bell: Doorbell) -> None:
        self._mutex = mutex
        self._bell = bell
        # Lists, not deques, which cost an idle connection 760 bytes each.
        self._pongs: list[Frame] = []  # appended by the reader thread
        self._pings: list[Entry] = []  # appended by any thread

    def __bool__(self) -> bool:
        return bool(self._pongs or self._pings)

    def put_pong(self, frame: Frame) -> None:
        """Queue a pong. While the peer does not read, the oldest of 64 makes way."""
        if len(self._pongs) >= MAX_PENDING_PONGS:
            with suppress(IndexError):  # the writer has just taken them all
                self._pongs.pop(0)
        self._pongs.append(frame)  # last, so that it is not the one that makes way
        self._look_after()

    def is_full(self) -> bool:
        """Whether as many pings wait as may wait for their pongs, too."""
        return len(self._pings) >= MAX_PENDING_PINGS

    def put_ping(self, entry: Entry) -> None:
        """Queue a ping."""
        self._pings.append(entry)
        self._look_after()

    def _look_after(self) -> None:
        if self._bell.look:
            with self._mutex:
                self._bell.ring()

    def take(self) -> list[Item]:
        """Take all of them."""
        items: list[Item] = []
        with suppress(IndexError):  # the reader thread drops some, too
            while True:
                items.append(self._pongs.pop(0))
        while self._pings:
            items.append(self._pings.pop(0))
        return items
