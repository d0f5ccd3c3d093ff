"""Which answer belongs to which message: three tables of what is under way on one connection.

A worker enters a message before it sends it; the reader thread takes it out when the answer comes; a sweeper
takes out what has waited too long. Who gets it out has it: ``dict.pop`` and ``deque.popleft`` are one step.
"""

from __future__ import annotations

import enum
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, Protocol, TypeAlias

from wsclient.load.payload import Message, number_in
from wsclient.load.plan import ID_SIZE

__all__ = ["ByContent", "ByIdentity", "Found", "InOrder", "Kind", "Table", "Waiting"]


@dataclass(slots=True, eq=False)
class Waiting:
    """One message that waits for its answer.

    Attributes:
        intended: when it was due, or when its worker came to send it; monotonic clock.
        worker, number: which one it is.
        turn: where the worker of a closed loop waits for this number.
    """

    intended: float
    worker: int
    number: int
    turn: SimpleQueue[int] | None = None


class Kind(enum.Enum):
    """What a message that came is."""

    ANSWER = "answer"
    LATE = "late"
    DUPLICATE = "duplicate"
    CORRUPTED = "corrupted"
    UNEXPECTED = "unexpected"


Found: TypeAlias = "tuple[Kind, Waiting | None]"
"""What a message that came is, and what it answers; of a corrupted one only if that is not lost yet."""

_UNEXPECTED: Final[Found] = (Kind.UNEXPECTED, None)
_DUPLICATE: Final[Found] = (Kind.DUPLICATE, None)
_CORRUPTED: Final[Found] = (Kind.CORRUPTED, None)


class Table(Protocol):
    """What is under way on one connection. Thread-safe."""

    def enter(self, message: Message, waiting: Waiting) -> None:
        """A worker is about to send this."""

    def take(self, answer: Message) -> Found:
        """The reader thread has this, which nobody else will take."""

    def remove(self, message: Message, waiting: Waiting) -> bool:
        """It was not accepted, or handed back. Whether it was still there."""

    def pop_message(self, message: Message) -> Waiting | None:
        """Take out the oldest entry that was made for such a message."""

    def expire(self, overdue: Callable[[Waiting], bool]) -> int:
        """Take out what waits too long, remembering it for a while; return how many."""

    def waiting(self) -> list[Waiting]:
        """All that are under way, without those that expired."""

    def __len__(self) -> int:
        """How many are."""


class ByIdentity:
    """Generated messages: their first 20 characters say which one it is, the rest must be as it was sent.

    Args:
        rest: what follows the identity in every message, as text or as bytes.
        own: whether an identity is of this connection and run.
        remembered: how many expired messages are known when their answer comes after all.
    """

    def __init__(self, rest: Message, own: Message, remembered: int) -> None:
        self._rest = rest
        self._own = own
        self._size = ID_SIZE + len(rest)
        self._remembered = remembered
        self._table: dict[Message, Waiting] = {}  # any thread, in single steps
        self._expired: OrderedDict[Message, Waiting] = OrderedDict()  # any thread, in single steps
        self._forgotten = 0  # the sweeper

    def enter(self, message: Message, waiting: Waiting) -> None:
        """See ``Table``."""
        self._table[message[:ID_SIZE]] = waiting

    def take(self, answer: Message) -> Found:
        """See ``Table``."""
        waiting = self._table.pop(answer[:ID_SIZE], None)
        if waiting is None:
            return self._take_stranger(answer)
        return (Kind.ANSWER if self._is_right(answer) else Kind.CORRUPTED), waiting

    def _is_right(self, answer: Message) -> bool:
        return len(answer) == self._size and answer.endswith(self._rest)  # type: ignore[arg-type]

    def _take_stranger(self, answer: Message) -> Found:
        late = self._expired.pop(answer[:ID_SIZE], None)
        if late is not None:
            return (Kind.LATE, late) if self._is_right(answer) else _CORRUPTED
        own = type(answer) is type(self._own) and answer.startswith(self._own)  # type: ignore[arg-type]
        return _DUPLICATE if own and not self._forgotten and number_in(answer[:ID_SIZE]) else _UNEXPECTED

    def remove(self, message: Message, waiting: Waiting) -> bool:
        """See ``Table``."""
        return self._table.pop(message[:ID_SIZE], None) is not None

    def pop_message(self, message: Message) -> Waiting | None:
        """See ``Table``."""
        return self._table.pop(message[:ID_SIZE], None)

    def expire(self, overdue: Callable[[Waiting], bool]) -> int:
        """See ``Table``."""
        count = 0
        for key, waiting in list(self._table.items()):
            if overdue(waiting) and self._table.pop(key, None) is not None:
                self._expired[key] = waiting
                count += 1
        while len(self._expired) > self._remembered:
            self._expired.popitem(last=False)
            self._forgotten += 1
        return count

    def waiting(self) -> list[Waiting]:
        """See ``Table``."""
        return list(self._table.values())

    def __len__(self) -> int:
        return len(self._table)


class ByContent:
    """Messages of a file: what comes back must be equal to what was sent. Equal ones are matched in order."""

    def __init__(self, remembered: int) -> None:
        self._remembered = remembered
        self._mutex = threading.Lock()
        self._table: dict[Message, deque[Waiting]] = {}  # _mutex
        self._expired: OrderedDict[int, tuple[Message, Waiting]] = (
            OrderedDict()
        )  # _mutex, by identity of entry
        self._count = 0  # _mutex

    def enter(self, message: Message, waiting: Waiting) -> None:
        """See ``Table``."""
        with self._mutex:
            self._table.setdefault(message, deque()).append(waiting)
            self._count += 1

    def take(self, answer: Message) -> Found:
        """See ``Table``."""
        waiting = self.pop_message(answer)
        if waiting is not None:
            return Kind.ANSWER, waiting
        with self._mutex:
            for key, (message, late) in self._expired.items():
                if message == answer:
                    del self._expired[key]
                    return Kind.LATE, late
        return _UNEXPECTED

    def remove(self, message: Message, waiting: Waiting) -> bool:
        """See ``Table``."""
        with self._mutex:
            return self._drop(message, waiting)

    def _drop(self, message: Message, waiting: Waiting) -> bool:
        line = self._table.get(message)
        if line is None or waiting not in line:
            return False
        line.remove(waiting)
        self._count -= 1
        if not line:
            del self._table[message]
        return True

    def pop_message(self, message: Message) -> Waiting | None:
        """See ``Table``."""
        with self._mutex:
            line = self._table.get(message)
            if line is None:
                return None
            oldest = line[0]
            self._drop(message, oldest)
            return oldest

    def expire(self, overdue: Callable[[Waiting], bool]) -> int:
        """See ``Table``."""
        with self._mutex:
            late = [(message, one) for message, line in self._table.items() for one in line if overdue(one)]
            for message, one in late:
                self._drop(message, one)
                self._expired[id(one)] = (message, one)
            while len(self._expired) > self._remembered:
                self._expired.popitem(last=False)
            return len(late)

    def waiting(self) -> list[Waiting]:
        """See ``Table``."""
        with self._mutex:
            return [one for line in self._table.values() for one in line]

    def __len__(self) -> int:
        return self._count


class InOrder:
    """Replies: the next message that comes answers the oldest one that has none, expired or not.

    So a server that is slow gets its true, late times; one that leaves an answer out shifts those after it.
    """

    def __init__(self, remembered: int) -> None:
        self._remembered = remembered
        self._mutex = threading.Lock()
        self._line: deque[Waiting] = deque()  # _mutex
        self._expired: set[int] = set()  # _mutex: ids of entries in the line
        self.taken: int = 0  # _mutex: how many have left it at its old end

    def enter(self, message: Message, waiting: Waiting) -> None:
        """See ``Table``. The caller keeps entering and sending in one order."""
        with self._mutex:
            self._line.append(waiting)

    def take(self, answer: Message) -> Found:
        """See ``Table``."""
        with self._mutex:
            if not self._line:
                return _UNEXPECTED
            waiting = self._line.popleft()
            self.taken += 1
            if id(waiting) in self._expired:
                self._expired.discard(id(waiting))
                return Kind.LATE, waiting
            return Kind.ANSWER, waiting

    def remove(self, message: Message, waiting: Waiting) -> bool:
        """See ``Table``."""
        with self._mutex:
            if waiting not in self._line:
                return False
            self._line.remove(waiting)
            self._expired.discard(id(waiting))
            return True

    def pop_message(self, message: Message) -> Waiting | None:
        """See ``Table``. Messages have no identity here: what is handed back are the newest."""
        with self._mutex:
            while self._line:
                newest = self._line.pop()
                if id(newest) not in self._expired:
                    return newest
                self._expired.discard(id(newest))
            return None

    def pop_oldest(self, count: int) -> Iterator[Waiting]:
        """Take out the ``count`` oldest, expired ones included: their answers went with a lost link."""
        with self._mutex:
            taken = [self._line.popleft() for _ in range(min(count, len(self._line)))]
            self.taken += len(taken)
            fresh = [one for one in taken if id(one) not in self._expired]
            self._expired.difference_update(map(id, taken))
        return iter(fresh)

    def expire(self, overdue: Callable[[Waiting], bool]) -> int:
        """See ``Table``."""
        with self._mutex:
            late = [one for one in self._line if id(one) not in self._expired and overdue(one)]
            self._expired.update(map(id, late))
            while len(self._expired) > self._remembered and id(self._line[0]) in self._expired:
                self._expired.discard(id(self._line.popleft()))
                self.taken += 1
            return len(late)

    def waiting(self) -> list[Waiting]:
        """See ``Table``."""
        with self._mutex:
            return [one for one in self._line if id(one) not in self._expired]

    def __len__(self) -> int:
        return len(self._line) - len(self._expired)
