"""Who gets a message that comes: whoever waits for it, or else the shelf, or else nobody.

Greenlets of one thread share a mailbox. They switch only where they wait, so it needs no lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import cast

from gevent.event import AsyncResult

from wsclient import Timeout

__all__ = ["Claim", "Mailbox", "Match", "Message"]

Message = str | bytes
Match = Callable[[Message], object]


def _anything(message: Message) -> bool:
    """Match every message."""
    return True


class Claim:
    """One greenlet's wish for the next message that matches."""

    def __init__(self, match: Match | None) -> None:
        self._match = match or _anything
        self._result: AsyncResult[Message] = AsyncResult()  # set once, by whoever runs the mailbox

    def takes(self, message: Message) -> bool:
        """Whether this message is what it waits for, or shows that its ``match`` is broken."""
        try:
            if not self._match(message):
                return False
        except Exception as error:
            self._result.set_exception(error)
        else:
            self._result.set(message)
        return True

    def fail(self, error: Exception) -> None:
        """There will be no message."""
        self._result.set_exception(error)

    def wait(self, timeout: float) -> Message:
        """Return the message, or raise why there is none; ``Timeout`` after so many seconds."""
        if not self._result.wait(timeout) and not self._result.ready():
            raise Timeout(f"no message within {timeout:g} s")
        return cast("Message", self._result.get())


class Mailbox:
    """The messages of one connection.

    Args:
        size: how many messages are kept for a ``claim`` to come; of more, the oldest goes.
        unclaimed: called with each message that nobody will get.
    """

    def __init__(self, size: int, unclaimed: Callable[[Message], None]) -> None:
        self._size = size
        self._unclaimed = unclaimed
        self._kept: deque[Message] = deque()  # as the claims: any greenlet, between two waits
        self._claims: list[Claim] = []
        self._end: Exception | None = None

    def put(self, message: Message) -> None:
        """Give a message to the first claim that it matches, or keep it."""
        for claim in self._claims:
            if claim.takes(message):
                self._claims.remove(claim)
                return
        self._kept.append(message)
        while len(self._kept) > self._size:
            self._unclaimed(self._kept.popleft())

    def claim(self, match: Match | None, *, kept: bool) -> Claim:
        """Ask for the next message that matches, of those that are ``kept`` too or only of those to come."""
        claim = Claim(match)
        for message in list(self._kept) if kept else ():
            if claim.takes(message):
                self._kept.remove(message)
                return claim
        if self._end is not None:
            claim.fail(self._end)
        else:
            self._claims.append(claim)
        return claim

    def withdraw(self, claim: Claim) -> None:
        """Forget a claim, satisfied or not."""
        if claim in self._claims:
            self._claims.remove(claim)

    def end(self, error: Exception) -> None:
        """No message will come: every claim fails with ``error``, now and later."""
        self._end = error
        while self._claims:
            self._claims.pop(0).fail(error)

    def clear(self) -> None:
        """Nobody will ask for what is kept."""
        while self._kept:
            self._unclaimed(self._kept.popleft())
