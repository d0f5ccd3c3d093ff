"""Our end of one connection: one kind sends what the plan says, the other plays a scenario."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

from wsclient import ClosedBy, Connection, Credentials, State, WSClientError
from wsclient.load.control import Control
from wsclient.load.payload import maker_of, prefix_of
from wsclient.load.plan import Plan
from wsclient.load.recorder import Recorder
from wsclient.load.result import Account
from wsclient.load.scenario import REMEMBERED, Scenario
from wsclient.load.scenario_traffic import ScenarioTraffic
from wsclient.load.schedule import schedule_of
from wsclient.load.traffic import Traffic, try_confirm
from wsclient.load.worker import Clock, Player, Sender
from wsclient.testing import TestClient

__all__ = ["End", "MessageEnd", "ScenarioEnd"]

_ALIVE: Final = (State.OPEN, State.RECONNECTING)


class End(Protocol):
    """Our end of one connection. Made on the thread that drives it; the rest is thread-safe."""

    @property
    def connection(self) -> Connection:
        """The connection."""

    def open(self) -> None:
        """Connect. Raises ``WSClientError``."""

    def begin(self) -> None:
        """Do what comes before the first message, on an open connection."""

    def runs(self, control: Control) -> list[Callable[[], None]]:
        """The bodies of its workers' threads."""

    def finish(self) -> None:
        """Do what comes behind the last message, on a connection that may be open."""

    def confirm(self, timeout: float) -> bool:
        """Have what was sent confirmed; whether that could be done in time."""

    def expire(self) -> None:
        """Give up answers that are overdue."""

    @property
    def in_flight(self) -> int:
        """Messages that wait for their answers."""

    def attempted_by(self, worker: int) -> int:
        """What a worker has done of its schedule."""

    @property
    def sent(self) -> int:
        """Messages accepted so far."""

    @property
    def received(self) -> int:
        """Messages received so far."""

    def running(self) -> Account:
        """How the account stands."""

    def settle(self) -> Account:
        """The account at the end, the connection closed."""


def is_alive(connection: Connection) -> bool:
    """Whether it takes messages, or will again."""
    return connection.state in _ALIVE


def _options(plan: Plan) -> dict[str, Any]:
    options = dict(plan.options)
    if plan.tls is not None:
        options["ssl_context"] = plan.tls.context()
    return options


def _clock(plan: Plan, control: Control, number: int, worker: int, connection: Connection) -> Clock:
    return Clock(
        control=control,
        schedule=schedule_of(plan, number, worker),
        alive=lambda: connection.state in _ALIVE,
    )


class MessageEnd:
    """Sends generated messages, or lines of a file."""

    def __init__(
        self, plan: Plan, number: int, nonce: str, lines: tuple[str, ...], recorder: Recorder
    ) -> None:
        self._plan, self._number, self._nonce, self._lines = plan, number, nonce, lines
        self._recorder = recorder
        self._traffic = Traffic(plan, prefix_of(nonce, number, 0)[:8], recorder)
        options = _options(plan)
        if options.get("reconnect"):
            options["on_disconnect"] = self._traffic.on_disconnect
        self._connection = Connection(
            plan.url_of(number), on_message=self._traffic.on_message, on_close=self._on_close, **options
        )

    def _on_close(self, connection: Connection, code: int, reason: str) -> None:
        if connection.closed_by is not ClosedBy.LOCAL:
            self._recorder.error("ConnectionClosed", _lost(code, reason, connection))

    @property
    def connection(self) -> Connection:
        """See ``End``."""
        return self._connection

    def open(self) -> None:
        """See ``End``."""
        self._connection.open()

    def begin(self) -> None:
        """See ``End``."""

    def runs(self, control: Control) -> list[Callable[[], None]]:
        """See ``End``."""
        return [self._sender(control, worker).run for worker in range(self._plan.workers)]

    def _sender(self, control: Control, worker: int) -> Sender:
        return Sender(
            plan=self._plan,
            clock=_clock(self._plan, control, self._number, worker, self._connection),
            index=worker,
            connection=self._connection,
            traffic=self._traffic,
            make=maker_of(self._plan, self._nonce, self._number, worker, self._lines),
        )

    def finish(self) -> None:
        """See ``End``."""

    def confirm(self, timeout: float) -> bool:
        """See ``End``."""
        return try_confirm(self._traffic, self._connection, timeout)

    def expire(self) -> None:
        """See ``End``."""
        self._traffic.expire()

    @property
    def in_flight(self) -> int:
        """See ``End``."""
        return self._traffic.in_flight

    def attempted_by(self, worker: int) -> int:
        """See ``End``."""
        return self._traffic.attempted_by(worker)

    @property
    def sent(self) -> int:
        """See ``End``."""
        return self._traffic.accepted

    @property
    def received(self) -> int:
        """See ``End``."""
        return self._traffic.received

    def running(self) -> Account:
        """See ``End``."""
        return self._traffic.running()

    def settle(self) -> Account:
        """See ``End``. What the connection itself has counted must say the same."""
        account = self._traffic.settle(self._connection)
        written = self._connection.stats().messages_sent
        if not self._plan.options.get("reconnect") and written != account.written:
            text = f"{account.written} messages by our count, {written} by the connection's"
            self._recorder.error("AccountMismatch", text)
        return account


class ScenarioEnd:
    """Plays a scenario with a ``TestClient``."""

    def __init__(self, plan: Plan, number: int, scenario: Scenario, recorder: Recorder) -> None:
        self._plan, self._number, self._scenario, self._recorder = plan, number, scenario, recorder
        self._traffic = ScenarioTraffic(plan, recorder)
        self._loss_noted = False  # the thread that confirms: see Line.look_after
        options = _options(plan)
        if options.get("reconnect"):
            options["on_disconnect"] = self._traffic.on_disconnect
        who = _credentials(options.pop("credentials", None), number)
        self._open_timeout = float(options.get("open_timeout", 10.0))
        self._client = TestClient(
            *(who.user_id, who.role, who.session_id, plan.url_of(number)),
            timeout=plan.reply_timeout,
            remember=REMEMBERED,
            **options,
        )

    @property
    def connection(self) -> Connection:
        """See ``End``."""
        return self._client.connection

    def open(self) -> None:
        """See ``End``."""
        self._client.connect(self._open_timeout)

    def begin(self) -> None:
        """See ``End``."""
        if self._scenario.setup is not None:
            self._scenario.setup(self._client)

    def runs(self, control: Control) -> list[Callable[[], None]]:
        """See ``End``."""
        return [self._player(control, worker).run for worker in range(self._plan.workers)]

    def _player(self, control: Control, worker: int) -> Player:
        return Player(
            clock=_clock(self._plan, control, self._number, worker, self.connection),
            index=worker,
            scenario=self._scenario.scenario,
            client=self._client,
            traffic=self._traffic,
            recorder=self._recorder,
        )

    def finish(self) -> None:
        """See ``End``."""
        if self._scenario.teardown is not None and is_alive(self.connection):
            self._scenario.teardown(self._client)

    def confirm(self, timeout: float) -> bool:
        """See ``End``."""
        self._note_loss()
        deadline = monotonic() + timeout
        with contextlib.suppress(WSClientError):
            self.connection.flush(timeout)  # what is being written is in no counter
            sent = self.connection.stats().messages_sent
            self.connection.confirm(max(deadline - monotonic(), 0.0))
            self._traffic.confirmed(sent)
            return True
        return False

    def _note_loss(self) -> None:
        connection = self.connection
        if connection.closed_by not in (None, ClosedBy.LOCAL) and not self._loss_noted:
            self._loss_noted = True
            code, reason = connection.close_code, connection.close_reason
            self._recorder.error(
                "ConnectionClosed", _lost(1006 if code is None else code, reason, connection)
            )

    def expire(self) -> None:
        """See ``End``. The scenario has its own time-outs."""

    @property
    def in_flight(self) -> int:
        """See ``End``."""
        return 0

    def attempted_by(self, worker: int) -> int:
        """See ``End``: calls."""
        return self._traffic.attempted_by(worker)

    @property
    def sent(self) -> int:
        """See ``End``."""
        return self.connection.stats().messages_sent

    @property
    def received(self) -> int:
        """See ``End``."""
        return self.connection.stats().messages_received

    def running(self) -> Account:
        """See ``End``."""
        return self._traffic.account(self.connection)

    def settle(self) -> Account:
        """See ``End``."""
        self._note_loss()
        return self._traffic.account(self.connection)


def _lost(code: int, reason: str, connection: Connection) -> str:
    by = "the server" if connection.closed_by is ClosedBy.PEER else "the network"
    return f"closed by {by} with code {code}" + (f": {reason}" if reason else "")


def _credentials(given: Any, number: int) -> Credentials:
    # Every connection is a user of its own.
    if given is None:
        return Credentials(f"load-{number}", "load", "load")
    found: Credentials = given() if callable(given) else given
    return Credentials(f"{found.user_id}-{number}", found.role, found.session_id)
