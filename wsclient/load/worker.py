"""What one worker does: one of four loops. They end by the schedule, by ``stop``, or with the connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final

from wsclient import Connection, ConnectionClosed
from wsclient.load.control import PATIENCE, Control
from wsclient.load.payload import Maker
from wsclient.load.plan import Plan
from wsclient.load.recorder import Recorder
from wsclient.load.scenario import Step
from wsclient.load.scenario_traffic import ScenarioTraffic
from wsclient.load.schedule import Schedule
from wsclient.load.traffic import Traffic
from wsclient.testing import TestClient

__all__ = ["Clock", "Player", "Sender"]

_GRACE: Final = 0.5  # seconds in which an open loop may still send what was due in time
_SAMPLED: Final = 64  # closed loop without answers: of so many messages, one is timed until it is written
_TIMED_RATE: Final = 2_000.0  # open loop without answers: at most so many a second and connection are timed


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """When one worker has to stop.

    Attributes:
        control: says when to start and stop.
        schedule: what to do when.
        alive: whether the connection takes messages, or will again.
    """

    control: Control
    schedule: Schedule
    alive: Callable[[], bool]

    @property
    def start(self) -> float:
        """The start of the run, on the monotonic clock."""
        return self.control.start_time

    @property
    def end(self) -> float:
        """When messages cease to be due, on the monotonic clock."""
        return self.start + self.schedule.end

    def goes_on(self) -> bool:
        """Whether there is time, a connection, and nobody who says stop."""
        grace = 0.0 if self.schedule.interval is None else _GRACE
        return not self.control.stopping and self.alive() and monotonic() < self.end + grace

    def reaches(self, number: int, due: float) -> bool:
        """Wait until message ``number`` is due; ``False`` if it never will be, or it is over first."""
        if number == self.schedule.quota or due >= self.end:
            return False
        return self.control.sleep_until(due) and self.goes_on()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A worker that sends what a plan says.

    Attributes:
        plan: what is sent and expected.
        clock: when.
        index: which worker of its connection, from 0.
        connection, traffic: its connection and the messages of that.
        make: makes its messages.
    """

    plan: Plan
    clock: Clock
    index: int
    connection: Connection
    traffic: Traffic
    make: Maker

    def run(self) -> None:
        """Send until the end: the body of its thread."""
        if self.clock.schedule.interval is not None:
            self._run_open()
        elif self.plan.answers:
            self._run_closed()
        else:
            self._run_flood()

    def _run_open(self) -> None:
        start, due_of, every = self.clock.start, self.clock.schedule.due, self._timed_every()
        for number in count():
            due = start + due_of(number)
            if not (self.clock.reaches(number, due) and self.traffic.wait_for_room(self.clock.goes_on)):
                return
            if not self._send(number, due, timed=number % every == 0):
                return

    def _timed_every(self) -> int:
        rate = (self.plan.total_rate or 0.0) / self.plan.connections
        return max(int(rate / _TIMED_RATE), 1)

    def _send(self, number: int, due: float, *, timed: bool) -> bool:
        message = self.make(number)
        if self.plan.answers:
            return self.traffic.send(self.connection, self.index, number, message, due, None)
        return self.traffic.send_only(self.connection, self.index, number, message, due if timed else None)

    def _run_closed(self) -> None:
        turn: SimpleQueue[int] = SimpleQueue()
        for number in count():
            if number == self.clock.schedule.quota or not self.clock.goes_on():
                return
            if not self.traffic.wait_for_room(self.clock.goes_on):
                return
            now = monotonic()
            if not self.traffic.send(self.connection, self.index, number, self.make(number), now, turn):
                return
            self._wait_for_turn(turn, number, now + self.plan.reply_timeout)

    def _wait_for_turn(self, turn: SimpleQueue[int], number: int, deadline: float) -> None:
        # Turns of earlier messages may still come, after their time.
        while monotonic() < deadline and not self.clock.control.stopping and self.clock.alive():
            try:
                if turn.get(timeout=PATIENCE) == number:
                    return
            except Empty:
                continue

    def _run_flood(self) -> None:
        for number in count():
            if number == self.clock.schedule.quota or not self.clock.goes_on():
                return
            sampled = monotonic() if number % _SAMPLED == 0 else None
            message = self.make(number)
            if not self.traffic.send_only(self.connection, self.index, number, message, sampled):
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """A worker that plays a scenario.

    Attributes:
        clock: when.
        index: which worker of its connection, from 0.
        scenario: what it calls.
        client: what it calls it with.
        traffic: counts its calls.
        recorder: takes their times and errors.
    """

    clock: Clock
    index: int
    scenario: Step
    client: TestClient
    traffic: ScenarioTraffic
    recorder: Recorder

    def run(self) -> None:
        """Call the scenario until the end: the body of its thread."""
        open_loop = self.clock.schedule.interval is not None
        for number in count():
            due = self.clock.start + self.clock.schedule.due(number)
            if not self.clock.reaches(number, due):
                return
            self._play(due if open_loop else monotonic())

    def _play(self, since: float) -> None:
        self.traffic.begin_call(self.index)
        try:
            self.scenario(self.client)
        except (Exception, SystemExit) as error:  # whatever the file does
            # The end of the connection is an error of that, and noted once.
            if self.clock.alive() or not isinstance(error, ConnectionClosed):
                self.recorder.exception(error)
        else:
            self.recorder.latencies.append(monotonic() - since)
