"""Every interleaving up to a bound of pre-emptions, or many at random; and each of them again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from types import ModuleType
from typing import TypeAlias

from interleave.containers import adopt
from interleave.locks import replaced
from interleave.points import Locations
from interleave.scheduler import End, Misfit, Scheduler, Strategy
from interleave.schedules import Grain, Guided, Prioritized, Schedule, State

__all__ = ["Explorer", "Interleaving", "Play", "Report", "Story"]

Story: TypeAlias = "list[tuple[str, str]]"
"""What the threads did: name of the thread, and line and operation."""

_LESSONS = 30  # random runs that show what races before the exhaustive search begins


class Interleaving(AssertionError):
    """A schedule under which the code under test fails.

    Attributes:
        schedule: its text form, for ``Explorer.replay``.
        reason: what was wrong.
        runs: how many runs it took to find it.
    """

    def __init__(self, reason: str, schedule: str, runs: int, story: str) -> None:
        super().__init__(f"{reason}\nschedule: {schedule}\n{story}")
        self.reason = reason
        self.schedule = schedule
        self.runs = runs


class _Found(Exception):
    """A run failed."""

    def __init__(self, reason: str, schedule: Schedule, runs: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.schedule = schedule
        self.runs = runs


@dataclass(frozen=True)
class Play:
    """What one run consists of; made anew for each.

    Attributes:
        bodies: what the threads do, by name. What a body raises is a failure.
        shared: objects whose lists and deques the threads share, directly or in objects they refer to.
        check: raises ``AssertionError`` when the run has come to a wrong end; gets the names of the threads
            that rest.
        may_rest: names of threads that may still wait when all others have ended.
    """

    bodies: Mapping[str, Callable[[], None]]
    shared: tuple[object, ...]
    check: Callable[[frozenset[str]], None]
    may_rest: frozenset[str] = frozenset()


@dataclass
class Report:
    """What an exploration amounted to.

    Attributes:
        bound: pre-emptions in one schedule; ``None`` for random ones.
        schedules: runs, each with another schedule (random ones may repeat themselves).
        steps: operations in the longest.
        racy: what threads use without a common lock.
        seconds: how long it took.
    """

    bound: int | None
    schedules: int = 0
    steps: int = 0
    racy: tuple[str, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        how = "at random" if self.bound is None else f"with up to {self.bound} pre-emptions"
        return f"{self.schedules} schedules {how}, up to {self.steps} operations, {self.seconds:.1f} s"


class _Session:
    """The threads under test for one exploration, and what is known of what they share."""

    def __init__(
        self, explorer: Explorer, scenario: Callable[[], Play], grain: Grain, locations: Locations
    ) -> None:
        self.scenario = scenario
        self._explorer = explorer
        self._names = frozenset(module.__name__ for module in explorer.modules)
        self.threads = len(scenario().bodies)
        self.scheduler = Scheduler(self.threads, explorer.modules, locations, grain)
        self.runs = 0
        self.steps = 0

    def run(self, strategy: Strategy, story: Story | None = None) -> str | None:
        """Run once; return what was wrong."""
        self.runs += 1
        play, end = self.play(strategy, story)
        self.steps = max(self.steps, end.steps)
        return None if end.known else _judge(play, end)

    def play(self, strategy: Strategy, story: Story | None = None) -> tuple[Play, End]:
        """Run once, for what it shows of what the threads share."""
        scheduler = self.scheduler
        scheduler.reset()
        with replaced(self._explorer.helpers, scheduler, lambda: scheduler.clock):
            play = self.scenario()
        for shared in play.shared:
            adopt(shared, self._names, scheduler.on_use_of)
        return play, scheduler.run(play.bodies, play.may_rest, strategy, story)


def _judge(play: Play, end: End) -> str | None:
    if end.problem is not None:
        return "; ".join((end.problem, *end.stuck))
    try:
        play.check(end.resting)
    except AssertionError as error:
        return f"wrong end: {str(error).splitlines()[0]}"
    return None


class Explorer:
    """Explores scenarios. From one thread at a time.

    Args:
        modules: the code under test. Its ``threading.Lock`` and ``time.monotonic`` are the scheduler's, its
            other time functions are errors.
        helpers: other modules whose locks the code under test makes its own while a scenario is set up.
    """

    def __init__(self, modules: Iterable[ModuleType], helpers: Iterable[ModuleType] = ()) -> None:
        self.modules = tuple(modules)
        self.helpers = tuple(helpers)

    def explore(self, scenario: Callable[[], Play], bound: int, grain: Grain = Grain.RACY) -> Report:
        """Run every schedule with at most ``bound`` pre-emptions.

        Raises:
            Interleaving: one of them fails.
        """
        started = time.monotonic()
        locations = Locations()
        with self._session(scenario, grain, locations) as session:
            for seed in range(_LESSONS):
                session.play(Prioritized(seed, session.threads, 200, 3, opcodes=False))
            schedules = None
            while schedules is None:  # what turns out to race late was not a point before
                schedules = self._search(session, bound, locations)
            seconds = time.monotonic() - started
            return Report(bound, schedules, session.steps, locations.racy(), seconds)

    def _search(self, session: _Session, bound: int, locations: Locations) -> int | None:
        racy = locations.racy()
        first = session.runs
        seen: dict[State, int] = {}
        pending: list[tuple[Schedule, int]] = [(Schedule(), bound)]
        while pending:
            schedule, budget = pending.pop()
            strategy = Guided(schedule, budget, seen)
            reason = session.run(strategy)
            if reason is not None:
                raise _Found(reason, schedule, session.runs)
            if locations.racy() != racy:
                return None
            pending += strategy.branches()
        return session.runs - first

    def sample(
        self,
        scenario: Callable[[], Play],
        seeds: Iterable[int],
        *,
        depth: int = 4,
        grain: Grain = Grain.OPCODE,
    ) -> Report:
        """Run one random schedule for each seed, with threads switched at ``depth - 1`` random steps.

        Raises:
            Interleaving: one of them fails.
        """
        opcodes = grain is Grain.OPCODE
        started = time.monotonic()
        locations = Locations()
        with self._session(scenario, grain, locations) as session:
            _, end = session.play(Guided(Schedule()))
            for seed in seeds:
                strategy = Prioritized(seed, session.threads, end.steps, depth, opcodes=opcodes)
                reason = session.run(strategy)
                if reason is not None:
                    raise _Found(reason, strategy.schedule, session.runs)
            seconds = time.monotonic() - started
            return Report(None, session.runs, session.steps, locations.racy(), seconds)

    def replay(self, scenario: Callable[[], Play], schedule: str) -> Story:
        """Run one schedule again.

        Returns:
            What each thread did, in order.

        Raises:
            Interleaving: it fails.
            ValueError: it is no schedule, or not one of this scenario.
        """
        parsed = Schedule.parse(schedule)
        reason, story = self._replay(scenario, parsed)
        if reason is not None:
            raise Interleaving(reason, schedule, 1, _render(story))
        return story

    def _replay(self, scenario: Callable[[], Play], schedule: Schedule) -> tuple[str | None, Story]:
        story: Story = []
        grain = Grain.OPCODE if schedule.opcodes else Grain.VISIBLE
        strategy = Guided(schedule)
        with self._session(scenario, grain, Locations()) as session:
            try:
                reason = session.run(strategy, story)
            except Misfit as misfit:
                raise ValueError(f"the schedule does not fit the scenario: {misfit}") from None
        if strategy.used != len(schedule.choices):
            raise ValueError(f"the schedule does not fit the scenario: it ended too early for {schedule}")
        return reason, story

    @contextmanager
    def _session(
        self, scenario: Callable[[], Play], grain: Grain, locations: Locations
    ) -> Iterator[_Session]:
        session = _Session(self, scenario, grain, locations)
        scheduler = session.scheduler
        try:
            with replaced(self.modules, scheduler, lambda: scheduler.clock), scheduler:
                yield session
        except _Found as found:  # only now are the modules as they were
            again, story = self._replay(scenario, found.schedule)
            reason = found.reason if again == found.reason else f"{found.reason} (when run again: {again})"
            raise Interleaving(reason, str(found.schedule), found.runs, _render(story)) from None


def _render(story: Story) -> str:
    lines: list[str] = []
    for name, told in groupby(story, key=lambda event: event[0]):
        lines.append(f"{name}:")
        lines += [f"    {text}" for _, text in told]
    return "\n".join(lines)
