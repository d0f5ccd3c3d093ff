"""What leaves before the queue does. Used under the mutex of the queue.

Once a lost connection is open again, what ``on_reconnect`` sends goes *ahead*, then goes what is *in doubt*,
then what is sent *again*, and only then what waits in the queue. These lanes take no room of the queue's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from wsclient.items import Item, Lane

__all__ = ["Lanes"]

_ORDER = (Lane.AHEAD, Lane.IN_DOUBT, Lane.AGAIN)


class Lanes(dict[Lane, "deque[Item]"]):
    """The lanes that are not empty: another one would cost an idle connection 760 bytes."""

    __slots__ = ()

    @property
    def first(self) -> Lane:
        """The lane that leaves next. There is one."""
        return next(lane for lane in _ORDER if lane in self)

    def of(self, lane: Lane) -> Iterable[Item]:
        """What is in a lane now."""
        return self.get(lane, ())

    def append(self, lane: Lane, item: Item) -> None:
        """Put an item behind a lane."""
        self.setdefault(lane, deque()).append(item)

    def prepend(self, lane: Lane, items: list[Item]) -> None:
        """Put items back before a lane; what came out of the queue goes *again*."""
        if items:
            lane = Lane.AGAIN if lane is Lane.WAITING else lane
            self.setdefault(lane, deque()).extendleft(reversed(items))

    def empty(self, lane: Lane) -> list[Item]:
        """Take everything out of a lane."""
        return list(self.pop(lane, ()))

    def tidy(self, lane: Lane) -> None:
        """Forget a lane that has become empty."""
        if not self.get(lane):
            self.pop(lane, None)
