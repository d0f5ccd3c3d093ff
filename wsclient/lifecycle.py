"""Where a connection stands, and how it ended: one small state machine under one lock.

::

    NEW ──open()──> CONNECTING ──upgrade──> OPEN ──close, loss, failure──> CLOSING ──> CLOSED
                         │                   ^ │                              ^          ^
                         │        reopened   │ └──loss──> RECONNECTING ──given up, close │
                         │                   └────────────────┘ (with reconnect)         │
                         └────────────────refused, cancelled─────────────────────────────┘

Who came first decides who closed the connection; what the peer said decides the code: a close frame that
was received beats what we asked for (RFC 6455, section 7.1.5), and without one the code is 1006, unless we
failed the connection ourselves: then it is the code that we sent and the error says why.
"""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Callable

from wsclient.exceptions import ConnectionClosed, Disconnected, ProtocolError, WSClientError

__all__ = ["ClosedBy", "Lifecycle", "Milestone", "State"]

_ABNORMAL = 1006


class State(enum.Enum):
    """State of a ``Connection``."""

    NEW = "new"
    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    CLOSING = "closing"
    CLOSED = "closed"


class ClosedBy(enum.Enum):
    """Who ended a connection."""

    LOCAL = "local"  # this side closed, aborted or failed it
    PEER = "peer"  # the peer's close frame came first
    NETWORK = "network"  # it was lost: reset, end of stream, time-out


class Milestone(enum.Enum):
    """What others wait for."""

    DIALLED = "dialled"  # the dial has ended, well or not
    GREETED = "greeted"  # on_open has returned, or never will be called
    FINISHED = "finished"  # closed, the writer has ended, on_close has returned


class Lifecycle:
    """State, close code and deadline of one connection. Thread-safe."""

    def __init__(self, recovers: bool = False) -> None:
        """Start at NEW. ``recovers``: a loss is not the end."""
        self._recovers = recovers
        self._mutex = threading.Lock()
        self.state: State = State.NEW  # written under _mutex, as everything here; read by anyone
        self.closed_by: ClosedBy | None = None
        self.code: int | None = None
        self.reason: str = ""
        self.cause: BaseException | None = None
        self.close_received: bool = False
        self.aborted: bool = False  # we have dropped the connection, or the rest of it
        self.failed: bool = False  # we failed the connection: no close frame of the peer is waited for
        self.deadline: float = math.inf  # monotonic: when the writer's clock ends the connection by force
        self.unsent: tuple[str | bytes, ...] = ()
        self.in_doubt: tuple[str | bytes, ...] = ()
        self.was_open: bool = False
        self._milestone = threading.Condition(self._mutex)
        self._reached: tuple[Milestone, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether there is a peer to talk to."""
        return self.state is State.OPEN

    @property
    def recovers(self) -> bool:
        """Whether the connection is lost, and is to be opened again."""
        return self.state is State.RECONNECTING

    @property
    def is_closed(self) -> bool:
        """Whether everything is over but ``on_close``."""
        return self.state is State.CLOSED

    def reach(self, *milestones: Milestone) -> None:
        """Note that something is over, and wake who waits for it."""
        with self._milestone:
            self._reached += milestones
            self._milestone.notify_all()

    def wait(self, milestone: Milestone, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; ``False`` when that was not enough. The one call that blocks."""
        with self._milestone:
            return self._milestone.wait_for(lambda: milestone in self._reached, max(timeout, 0))

    def begin(self) -> None:
        """NEW to CONNECTING, once."""
        with self._mutex:
            if self.state is not State.NEW:
                raise WSClientError(f"a Connection is opened once, and this one is {self.state.value}")
            self.state = State.CONNECTING

    def open(self) -> bool:
        """CONNECTING to OPEN; ``False`` when the connection was closed in the meantime."""
        with self._mutex:
            if self.state is not State.CONNECTING:
                return False
            self.state = State.OPEN
            self.was_open = True
            return True

    def cancel(self, cause: BaseException) -> bool:
        """NEW or CONNECTING to CLOSED. ``False`` in any other state."""
        with self._mutex:
            if self.state not in (State.NEW, State.CONNECTING):
                return False
            self.state = State.CLOSED
            self._decide(ClosedBy.LOCAL, _ABNORMAL, str(cause), cause)
            return True

    def request_close(self, code: int, reason: str, deadline: float) -> bool:
        """Note that this side closes; ``True`` for the first to end the connection. Tightens the deadline."""
        with self._mutex:
            self.deadline = min(self.deadline, deadline)
            return self._close(code, reason, "closed while it was lost")

    def abort(self) -> None:
        """Note that this side drops the connection."""
        with self._mutex:
            self._close(_ABNORMAL, "aborted", "aborted while it was lost")
            self.aborted = True

    def _close(self, code: int, reason: str, when_lost: str) -> bool:
        if self.state is State.RECONNECTING:
            self.state = State.CLOSING
            self._decide(ClosedBy.LOCAL, _ABNORMAL, when_lost, self.cause)
            self._milestone.notify_all()
            return True
        return self._leave_open(ClosedBy.LOCAL, code, reason, None, State.CLOSING)

    def receive_close(self, code: int, reason: str, deadline: float) -> None:
        """Note the peer's close frame."""
        with self._mutex:
            if not self._leave_open(ClosedBy.PEER, code, reason, None):
                self.code, self.reason = code, reason
            self.close_received = True
            self.deadline = min(self.deadline, deadline)

    def fail(self, error: ProtocolError, deadline: float) -> None:
        """Note that the peer broke the protocol and this side fails the connection (section 7.1.7)."""
        with self._mutex:
            if not self._leave_open(ClosedBy.LOCAL, error.code, error.reason, error):
                self.code, self.reason, self.cause = error.code, error.reason, error
            self.failed = True
            self.deadline = min(self.deadline, deadline)

    def lose(self, cause: BaseException) -> None:
        """Note that the connection is lost. Changes nothing once its end is known."""
        with self._mutex:
            if self._leave_open(ClosedBy.NETWORK, _ABNORMAL, str(cause) or type(cause).__name__, cause):
                return
            # What breaks after we have hung up is not the cause of that.
            if self.cause is None and not (self.close_received or self.aborted):
                self.cause = cause

    def hasten(self, deadline: float) -> None:
        """Move the deadline nearer."""
        with self._mutex:
            self.deadline = min(self.deadline, deadline)

    def account(self, unsent: tuple[str | bytes, ...], in_doubt: tuple[str | bytes, ...]) -> None:
        """Note what will never be written, when that is known before the connection is closed."""
        with self._mutex:
            if self.state is State.CLOSING:
                self.unsent, self.in_doubt = unsent, in_doubt

    def finish(self, unsent: tuple[str | bytes, ...], in_doubt: tuple[str | bytes, ...] = ()) -> None:
        """CLOSING to CLOSED: the transport is gone and the account is settled."""
        with self._mutex:
            self.state = State.CLOSED
            self.unsent = unsent
            self.in_doubt = in_doubt
            if self.closed_by is ClosedBy.LOCAL and not (self.close_received or self.failed):
                self.reason = self.reason if self.code == _ABNORMAL else "the peer sent no close frame"
                self.code = _ABNORMAL

    def error(self) -> WSClientError:
        """Make the error that a call on this connection raises now that it is closing or closed."""
        with self._mutex:
            state, cause, code = self.state, self.cause, self.code or _ABNORMAL
            reason, unsent, in_doubt = self.reason, self.unsent, self.in_doubt
        # Not under the mutex: making objects may start the garbage collector, and with it user code.
        if state in (State.NEW, State.CONNECTING):
            return WSClientError("the connection is not open yet: call open() first")
        if state is State.RECONNECTING:
            return Disconnected("the connection is lost, and not open again yet")
        kind = type(cause) if isinstance(cause, ProtocolError) else ConnectionClosed
        error = kind(code, reason, unsent, in_doubt)
        error.__cause__ = cause
        return error

    def _leave_open(
        self, by: ClosedBy, code: int, reason: str, cause: BaseException | None, to: State | None = None
    ) -> bool:
        if self.state is not State.OPEN:
            return False
        self.state = to or (State.RECONNECTING if self._recovers else State.CLOSING)
        self._decide(by, code, reason, cause)
        return True

    # -- between two links: reader thread -------------------------------------------------------------

    def pause(self, seconds: float | None, enough: Callable[[], bool] = lambda: False) -> bool:
        """Wait before the next attempt; ``False`` at once when the connection is closed meanwhile.

        ``enough`` ends the wait, too; who makes it true calls ``reach``.
        """
        with self._milestone:
            self._milestone.wait_for(lambda: not self.recovers or enough(), seconds)
            return self.recovers

    def reopen(self) -> bool:
        """RECONNECTING to OPEN: another link is there. ``False`` when the connection was closed meanwhile."""
        with self._mutex:
            if self.state is not State.RECONNECTING:
                return False
            self.state = State.OPEN
            self.closed_by = self.code = self.cause = None
            self.reason = ""
            self.close_received = self.failed = False
            self.deadline = math.inf
            return True

    def rest(self) -> None:
        """There is no link: no clock runs."""
        with self._mutex:
            self.deadline = math.inf

    def give_up(self, cause: BaseException | None) -> None:
        """RECONNECTING to CLOSING: there will be no further link, for its attempts ended with ``cause``.

        Without one, how the last link ended stays.
        """
        with self._mutex:
            if self.state is State.RECONNECTING:
                self.state = State.CLOSING
                if cause is not None:
                    text = str(cause) or type(cause).__name__
                    self._decide(ClosedBy.NETWORK, _ABNORMAL, f"not opened again: {text}", cause)

    def _decide(self, by: ClosedBy, code: int, reason: str, cause: BaseException | None) -> None:
        self.closed_by, self.code, self.reason, self.cause = by, code, reason, cause
