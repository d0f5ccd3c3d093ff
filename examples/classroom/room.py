"""One session of the classroom: its members, its history, and who gets what. Used from one event loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from examples.classroom.protocol import (
    CLOSE_REPLACED,
    CLOSE_TOO_SLOW,
    Audience,
    Draft,
    Refused,
    Visitor,
    parse,
)

__all__ = ["Limits", "Member", "Session", "TokenBucket"]

HUB = "hub"  # ``from_user`` of what the hub itself says


@dataclass(frozen=True)
class Limits:
    """What the hub takes from one connection and keeps for it.

    Sizes in bytes, rate per second, patience (with a peer that is to close) in seconds.
    """

    rate: float = 1000.0
    burst: int = 2000
    max_content: int = 64 * 1024
    max_frame: int = 1024 * 1024
    history: int = 1000
    outbox: int = 10_000
    patience: float = 2.0

    def __post_init__(self) -> None:
        for limit in fields(self):
            if getattr(self, limit.name) <= 0:
                raise ValueError(f"{limit.name}: must be over 0, not {getattr(self, limit.name)}")


class TokenBucket:
    """A rate limit: ``burst`` messages at once, then ``rate`` per second."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        # Owned by the event loop.
        self._tokens = float(burst)
        self._filled = clock()

    def take(self) -> bool:
        """Whether one more message is within the limit; if so, it is counted."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass
class Counts:
    """Messages of a session by user, over all of the user's connections. Owned by the event loop."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)


class Member:
    """One connection of one user. What is for it waits in its outbox; its writer task alone sends."""

    def __init__(
        self, visitor: Visitor, connection: ServerConnection, limits: Limits, counts: Counts
    ) -> None:
        self.user_id = visitor.user_id
        self.role = visitor.role
        self.bucket = TokenBucket(limits.rate, limits.burst)
        self._connection = connection
        self._patience = limits.patience
        self._counts = counts
        # Owned by the event loop.
        self._outbox: asyncio.Queue[str] = asyncio.Queue(limits.history + limits.outbox)
        self._closing: asyncio.Task[None] | None = None

    def put(self, text: str) -> None:
        """Leave a message for the writer. A member that does not read is shown the door instead."""
        if self._closing is not None:
            return
        try:
            self._outbox.put_nowait(text)
        except asyncio.QueueFull:
            self.dismiss(CLOSE_TOO_SLOW, "reads too slowly")

    def dismiss(self, code: int, reason: str) -> None:
        """Begin to close the connection; ``finish`` waits for the end of that."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, reason))

    async def _close(self, code: int, reason: str) -> None:
        try:
            await asyncio.wait_for(self._connection.close(code, reason), self._patience)
        except asyncio.TimeoutError:
            # The close frame waits behind a message that the peer does not read.
            self._connection.transport.abort()

    async def write(self) -> None:
        """Send what is in the outbox, in order, until the connection is closed or this is cancelled."""
        with suppress(ConnectionClosed):
            while self._closing is None:
                await self._connection.send(await self._outbox.get())
                self._counts.written[self.user_id] += 1

    async def finish(self) -> None:
        """Wait for the end of a dismissal."""
        if self._closing is not None:
            await self._closing


class Session:
    """A class in session. No method waits: a message reaches all of its outboxes, or none, at one moment."""

    def __init__(self, session_id: str, limits: Limits) -> None:
        self._session_id = session_id
        self._limits = limits
        self.counts = Counts()
        # Owned by the event loop.
        self._members: dict[str, Member] = {}
        self._history: deque[tuple[str, Audience, str]] = deque(maxlen=limits.history)

    def admit(self, visitor: Visitor, connection: ServerConnection) -> Member:
        """Take in a connection; an older one of the same user is closed with code 4000.

        What the user has missed, and has said, comes first, then ``history_complete``, then what is new.
        """
        member = Member(visitor, connection, self._limits, self.counts)
        older = self._members.get(member.user_id)
        if older is not None:
            older.dismiss(CLOSE_REPLACED, "replaced by a newer connection")
        self._members[member.user_id] = member
        past = [
            text
            for sender, audience, text in self._history
            if sender == member.user_id or audience.includes(member.user_id, member.role)
        ]
        for text in past:
            member.put(text)
        member.put(self._encode("system", "history_complete", {"messages": len(past)}, HUB))
        return member

    def leave(self, member: Member) -> None:
        """Forget a connection, unless a newer one of its user has taken over."""
        if self._members.get(member.user_id) is member:
            del self._members[member.user_id]

    def hear(self, member: Member, raw: str | bytes) -> None:
        """Pass on what a member said, or tell the member why not."""
        try:
            if not member.bucket.take():
                raise Refused("rate_limit", f"over {self._limits.rate:g} messages per second")
            draft = parse(raw, member.role, self._limits.max_content)
        except Refused as error:
            self.counts.refused[member.user_id] += 1
            member.put(self._encode("error", error.context, {"message": str(error)}, HUB))
            return
        self.counts.accepted[member.user_id] += 1
        self._publish(member.user_id, draft)

    def describe(self) -> dict[str, Any]:
        """Who is here, and what was counted."""
        return {"members": sorted(self._members), **vars(self.counts)}

    def _publish(self, sender: str, draft: Draft) -> None:
        text = self._encode(draft.type, draft.context, draft.content, sender, draft.to_user)
        self._history.append((sender, draft.audience, text))
        for member in tuple(self._members.values()):
            if draft.audience.includes(member.user_id, member.role):
                member.put(text)

    def _encode(
        self, kind: str, context: str, content: object, from_user: str, to_user: str | None = None
    ) -> str:
        fields = {
            "type": kind,
            "context": context,
            "content": content,
            "from_user": from_user,
            "session_id": self._session_id,
            "timestamp": datetime.now(timezone.utc).isoformat(),
        }
        return json.dumps(fields if to_user is None else {**fields, "to_user": to_user})
