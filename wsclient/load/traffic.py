"""The messages of one connection: sent, confirmed, answered, and at its end the account of all of them.

What is *confirmed* is a fact: every second or so, and at the end, ``Connection.confirm`` writes a ping behind
everything accepted, and its pong says that the server has processed all that. ``marks`` is taken before and
given to ``confirmed`` after it. A message expires only once that is known: a lost one was lost by the server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Lock
from time import monotonic, sleep
from typing import Final

from wsclient import Connection, ConnectionClosed, Disconnect, Stats, WSClientError
from wsclient.load.matching import ByContent, ByIdentity, InOrder, Kind, Table, Waiting
from wsclient.load.payload import Message, filler_of
from wsclient.load.plan import ID_SIZE, Expect, Plan
from wsclient.load.recorder import Recorder
from wsclient.load.result import Account

__all__ = ["Marks", "Traffic", "try_confirm"]

_FULL_SECONDS: Final = 0.002  # between two looks whether an answer has made room


@dataclass(frozen=True, slots=True)
class Marks:
    """How far each worker was at a moment: messages done with, and accepted ones."""

    numbers: tuple[int, ...]
    accepted: int


def _table_of(plan: Plan, own: str) -> Table | None:
    if not plan.answers:
        return None
    if plan.expect is Expect.REPLY:
        return InOrder(plan.max_in_flight)
    if plan.payload_file is not None:
        return ByContent(plan.max_in_flight)
    rest = filler_of(plan.message_size - ID_SIZE)
    if plan.binary:
        return ByIdentity(rest.encode(), own.encode(), plan.max_in_flight)
    return ByIdentity(rest, own, plan.max_in_flight)


class Traffic:
    """The messages of one connection.

    Args:
        plan: what is expected.
        own: what the identities of this connection begin with.
        recorder: takes times and errors.
    """

    def __init__(self, plan: Plan, own: str, recorder: Recorder) -> None:
        self._plan = plan
        self._recorder = recorder
        self._latencies = recorder.latencies
        self._table = _table_of(plan, own)
        self._in_order: AbstractContextManager[object] = (
            Lock() if plan.expect is Expect.REPLY else nullcontext()
        )
        # Lists: each worker its own place.
        self._numbers = [0] * plan.workers
        self._attempted = [0] * plan.workers
        self._accepted = [0] * plan.workers
        self._refused = [0] * plan.workers
        # The reader thread.
        self.received: int = 0
        self._answered = 0
        self._late = 0
        self._corrupted = 0
        self._corrupted_answers = 0
        self._duplicated = 0
        self._unexpected = 0
        self._doubtful = 0
        self._cut_off = 0
        # The thread that confirms: see Line.look_after.
        self._proven = Marks((0,) * plan.workers, 0)
        self._expired = 0

    # -- workers --------------------------------------------------------------------------------------

    @property
    def accepted(self) -> int:
        """Messages accepted so far."""
        return sum(self._accepted)

    def attempted_by(self, worker: int) -> int:
        """Messages that a worker has tried to send."""
        return self._attempted[worker]

    def wait_for_room(self, goes_on: Callable[[], bool]) -> bool:
        """Wait while too many messages have no answer; ``False`` when ``goes_on`` says so first."""
        table = self._table
        while table is not None and len(table) >= self._plan.max_in_flight:
            if not goes_on():
                return False
            sleep(_FULL_SECONDS)
        return True

    def send(
        self,
        connection: Connection,
        worker: int,
        number: int,
        message: Message,
        intended: float,
        turn: SimpleQueue[int] | None,
    ) -> bool:
        """Send a message that waits for an answer; ``False`` once the connection takes no more."""
        assert self._table is not None
        waiting = Waiting(intended, worker, number, turn)
        self._attempted[worker] += 1
        try:
            with self._in_order:
                self._table.enter(message, waiting)
                connection.send(message)
        except WSClientError as error:
            self._table.remove(message, waiting)
            return self._refuse(worker, number, error)
        self._numbers[worker] = number + 1
        self._accepted[worker] += 1
        return True

    def send_only(
        self, connection: Connection, worker: int, number: int, message: Message, intended: float | None
    ) -> bool:
        """Send a message without an answer; its time until written is measured if ``intended`` is given."""
        self._attempted[worker] += 1
        try:
            if intended is None:
                connection.send(message)
            else:
                connection.send_future(message).add_done_callback(partial(self._written, intended))
        except WSClientError as error:
            return self._refuse(worker, number, error)
        self._numbers[worker] = number + 1
        self._accepted[worker] += 1
        return True

    def _written(self, intended: float, receipt: object) -> None:
        # The writer thread, or whoever finds the connection gone.
        if receipt.exception() is None:  # type: ignore[attr-defined]
            self._latencies.append(monotonic() - intended)

    def _refuse(self, worker: int, number: int, error: WSClientError) -> bool:
        self._refused[worker] += 1
        self._numbers[worker] = number + 1
        if isinstance(error, ConnectionClosed):  # noted once, by on_close
            return False
        self._recorder.exception(error)
        return True

    # -- the reader thread ----------------------------------------------------------------------------

    def on_message(self, _: Connection, message: Message) -> None:
        """Callback of the connection."""
        now = monotonic()
        self.received += 1
        if self._table is None:
            return
        kind, waiting = self._table.take(message)
        if kind is Kind.ANSWER and waiting is not None:
            self._answered += 1
            self._latencies.append(now - waiting.intended)
            if waiting.turn is not None:
                waiting.turn.put(waiting.number)
        else:
            self._take_other(kind, waiting, now)

    def _take_other(self, kind: Kind, waiting: Waiting | None, now: float) -> None:
        if kind is Kind.LATE and waiting is not None:
            self._late += 1
            self._latencies.append(now - waiting.intended)
        elif kind is Kind.DUPLICATE:
            self._duplicated += 1
        elif kind is Kind.UNEXPECTED:
            self._unexpected += 1
        else:
            self._corrupted += 1
            self._corrupted_answers += waiting is not None
            self._recorder.error("CorruptedAnswer", "an answer has another content than what was sent")
            _wake(waiting)

    def on_disconnect(self, connection: Connection, reason: Disconnect) -> None:
        """Callback of the connection, with ``reconnect``: what was under way is in doubt."""
        text = f"{reason.kind.value}: {reason.text}" if reason.text else reason.kind.value
        self._recorder.error("Disconnected", text)
        if isinstance(self._table, InOrder):
            self._give_up_written(self._table, connection.stats())
        elif self._table is None:
            self._doubtful += len(reason.in_doubt)
        else:
            self._doubtful += self._take_out(self._table, reason.in_doubt)

    def _give_up_written(self, table: InOrder, stats: Stats) -> None:
        # Entered in the order in which they were written, so their number says which those are.
        for waiting in table.pop_oldest(max(stats.messages_sent - table.taken, 0)):
            if self._is_proven(waiting):
                self._cut_off += 1
                self._recorder.error("NoAnswer", "the connection was lost before the answer came")
            else:
                self._doubtful += 1
            _wake(waiting)

    def _take_out(self, table: Table, messages: tuple[Message, ...]) -> int:
        count = 0
        for message in messages:
            waiting = table.pop_message(message)
            if waiting is not None:
                count += 1
                _wake(waiting)
        return count

    # -- confirming -----------------------------------------------------------------------------------

    def marks(self) -> Marks:
        """Where the workers are: take it before ``confirm``."""
        # In this order: what is counted as accepted was done with.
        accepted = sum(self._accepted)
        return Marks(tuple(self._numbers), accepted)

    def confirmed(self, marks: Marks) -> None:
        """The server has processed all that came before ``marks``."""
        self._proven = marks

    def expire(self) -> None:
        """Give up what has waited for its answer too long, if the server has processed it."""
        if self._table is None:
            return
        limit = monotonic() - self._plan.reply_timeout
        count = self._table.expire(lambda one: one.intended < limit and self._is_proven(one))
        self._note_lost(count, f"no answer within {self._plan.reply_timeout:g} s")

    def _note_lost(self, count: int, text: str) -> None:
        self._expired += count
        if count:
            self._recorder.error("NoAnswer", text, count)

    def _is_proven(self, waiting: Waiting) -> bool:
        return waiting.number < self._proven.numbers[waiting.worker]

    @property
    def _lost(self) -> int:
        return self._expired - self._late + self._corrupted_answers + self._cut_off

    @property
    def in_flight(self) -> int:
        """Messages that wait for their answers."""
        return 0 if self._table is None else len(self._table)

    # -- the account ----------------------------------------------------------------------------------

    def running(self) -> Account:
        """How it stands, to the precision that running threads allow, and balanced.

        What may still be queued counts as written, what is not confirmed as in doubt.
        """
        answered, lost = self._answered + self._late, max(self._lost, 0)
        confirmed = answered + lost if self._table is not None else self._proven.accepted
        accepted, refused = max(self.accepted, confirmed), sum(self._refused)
        others = self._duplicated + self._corrupted + self._unexpected
        return Account(
            attempted=accepted + refused,
            refused=refused,
            accepted=accepted,
            written=accepted,
            confirmed=confirmed,
            in_doubt=accepted - confirmed,
            answered=answered,
            lost=lost,
            received=answered + others if self._table is not None else self.received,
            duplicated=self._duplicated,
            corrupted=self._corrupted,
            unexpected=self._unexpected,
            late=self._late,
        )

    def settle(self, connection: Connection) -> Account:
        """The account, once the connection is closed and all workers have ended. Once only."""
        unsent, in_doubt = connection.unsent, connection.in_doubt
        forgotten = connection.stats().forgotten_messages
        if self._table is None:
            confirmed, doubtful = self._settle_unanswered(len(unsent), len(in_doubt) + forgotten)
            answered = lost = 0
        else:
            answered, lost, doubtful = self._settle_answered(self._table, unsent, in_doubt, forgotten)
            confirmed = answered + lost
        return Account(
            attempted=sum(self._attempted),
            refused=sum(self._refused),
            accepted=self.accepted,
            unsent=len(unsent),
            written=self.accepted - len(unsent),
            confirmed=confirmed,
            in_doubt=doubtful,
            answered=answered,
            lost=lost,
            received=self.received,
            duplicated=self._duplicated,
            corrupted=self._corrupted,
            unexpected=self._unexpected,
            late=self._late,
        )

    def _settle_unanswered(self, unsent: int, in_doubt: int) -> tuple[int, int]:
        written = self.accepted - unsent
        if self._plan.options.get("reconnect"):
            doubtful = min(self._doubtful + in_doubt, written)
            return written - doubtful, doubtful
        confirmed = min(self._proven.accepted, written)
        return confirmed, written - confirmed

    def _settle_answered(
        self, table: Table, unsent: tuple[Message, ...], in_doubt: tuple[Message, ...], forgotten: int
    ) -> tuple[int, int, int]:
        self._take_out(table, tuple(reversed(unsent)))
        if not isinstance(table, InOrder):  # for which what is not proven says the same
            self._doubtful += self._take_out(table, in_doubt)
        rest = table.waiting()
        proven = sum(map(self._is_proven, rest))
        self._note_lost(proven, "the connection ended before the answer came")
        lost = self._lost
        # What a lost link's ledger had no room for cannot be told from what the server lost.
        unknown = min(forgotten, lost)
        return self._answered + self._late, lost - unknown, self._doubtful + unknown + len(rest) - proven


def _wake(waiting: Waiting | None) -> None:
    if waiting is not None and waiting.turn is not None:
        waiting.turn.put(waiting.number)


def try_confirm(traffic: Traffic, connection: Connection, timeout: float) -> bool:
    """Have everything accepted so far confirmed; whether that could be done within ``timeout`` seconds."""
    marks = traffic.marks()
    with contextlib.suppress(WSClientError):
        connection.confirm(timeout)
        traffic.confirmed(marks)
        return True
    return False
