"""Real threads of which exactly one runs at a time, and which ask at each operation who goes next."""

from __future__ import annotations

import enum
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Protocol

from interleave.containers import OnUse
from interleave.locks import ScheduledLock
from interleave.opcodes import each_opcode, each_opcode_here
from interleave.points import Location, Locations, codes_of, watched_attributes
from interleave.records import History, Source
from interleave.schedules import Grain, Option, State

__all__ = ["End", "Misfit", "Scheduler", "Strategy"]

WATCHDOG = 60.0  # seconds; a run takes about a thousandth of one
STEP_LIMIT = 20_000


class Strategy(Protocol):
    """Chooses who goes next; called on whichever thread runs."""

    def knows(self, step: int, state: State) -> bool: ...
    def minds(self, step: int) -> bool: ...
    def choose(self, step: int, options: Sequence[Option]) -> int: ...


class Abandoned(BaseException):
    """Ends a thread of a run that is over."""


class Misfit(BaseException):
    """The schedule asks for a thread that cannot run. No code under test catches this."""


class _State(enum.Enum):
    RUNNABLE = "can run"
    BLOCKED = "waits for a lock"
    DONE = "has ended"


class _Actor:
    """One thread under test. All its fields belong to the running thread, between runs to the main thread."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.baton = threading.Lock()
        self.baton.acquire()
        self.ident = 0
        self.stop = False
        self.assign("", None, may_rest=False)

    def assign(self, name: str, body: Callable[[], None] | None, *, may_rest: bool) -> None:
        self.name = name
        self.body = body
        self.may_rest = may_rest
        self.started = False
        self.state = _State.DONE if body is None else _State.RUNNABLE
        self.awaited: ScheduledLock | None = None
        self.deadline: float | None = None
        self.timed_out = False
        self.held = 0
        self.misfit: Misfit | None = None

    def can_run(self) -> bool:
        if self.state is _State.BLOCKED:
            return self.awaited is not None and not self.awaited.taken
        return self.state is _State.RUNNABLE

    def can_time_out(self) -> bool:
        return self.state is _State.BLOCKED and self.deadline is not None and not self.can_run()


@dataclass(frozen=True)
class End:
    """How a run ended.

    Attributes:
        steps: operations in it.
        problem: what is wrong, or ``None``: all have ended, or all that have not may rest, and do.
        resting: names of those.
        stuck: who waits where, when there is a problem.
        known: it was given up, for it had come to a state from which all was explored.
    """

    steps: int
    problem: str | None
    resting: frozenset[str]
    stuck: tuple[str, ...] = ()
    known: bool = False


def _verdict(actors: Sequence[_Actor]) -> str | None:
    waiting = [actor for actor in actors if actor.state is not _State.DONE]
    if all(actor.may_rest for actor in waiting):
        return None
    return "deadlock: " + ", ".join(f"{actor.name} {actor.state.value}" for actor in waiting)


def _options_at_point(actors: Sequence[_Actor], running: _Actor) -> list[Option]:
    others = (a.number for a in actors if a is not running and (a.can_run() or a.can_time_out()))
    return [Option(running.number, 0), *(Option(number, 1) for number in others)]


def _options_after(actors: Sequence[_Actor], stopped: _Actor | None) -> list[Option]:
    first = 0 if stopped is None else stopped.number + 1
    ring = [*actors[first:], *actors[:first]]
    runnable = [Option(a.number, 0) for a in ring if a.can_run()]
    cost = 1 if runnable else 0
    return runnable + [Option(a.number, cost) for a in ring if a.can_time_out()]


class Scheduler:
    """Runs bodies on ``count`` threads, which it keeps from run to run. A context manager.

    Implements ``Arbiter`` for the locks. Where each bytecode instruction counts, before Python 3.12, the
    threads have a trace function of ours and no other: a coverage tool does not see what they do.

    Args:
        count: number of threads.
        modules: the code under test.
        locations: what is known of what it shares; learned from run to run.
        grain: before what threads are switched.
    """

    def __init__(
        self, count: int, modules: Sequence[ModuleType], locations: Locations, grain: Grain = Grain.RACY
    ) -> None:
        self._actors = [_Actor(number) for number in range(count)]
        self._locations = locations
        self._modules = tuple(modules)
        self._everywhere = grain is not Grain.RACY
        codes = [code for module in modules for code in codes_of(module)]
        self._source = Source(codes)
        self._opcodes = codes if grain is Grain.OPCODE else []
        self._over = threading.Lock()  # released by whoever finds that the run is over
        self._over.acquire()
        self._threads = [
            threading.Thread(target=self._work, args=(actor,), name=f"interleave-{actor.number}", daemon=True)
            for actor in self._actors
        ]
        # The rest belongs to the running thread, between runs to the main thread.
        self._current: _Actor | None = None
        self._strategy: Strategy | None = None
        self._bits = 0
        self._step = 0
        self._end: End | None = None
        self._story: list[tuple[str, str]] | None = None
        self._history = History(count)
        self.clock = 0.0
        self.abandoning = False

    def __enter__(self) -> Scheduler:
        self._watch = ExitStack()
        self._watch.enter_context(watched_attributes(self._modules, self._locations, self._at_attribute))
        if self._opcodes:
            self._watch.enter_context(each_opcode(self._opcodes, self._at_opcode))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            actor.stop = True
            actor.baton.release()
        for thread in self._threads:
            thread.join(WATCHDOG)
        self._watch.close()
        assert not any(thread.is_alive() for thread in self._threads), "a thread under test did not end"

    # -- the main thread ------------------------------------------------------------------------------

    def reset(self) -> None:
        """Before a run's objects are made."""
        self._bits = self._step = 0
        self.clock = 0.0
        self._current = self._end = None
        self._history = History(len(self._actors))

    def run(
        self,
        bodies: Mapping[str, Callable[[], None]],
        may_rest: frozenset[str],
        strategy: Strategy,
        story: list[tuple[str, str]] | None = None,
    ) -> End:
        """Run each body on a thread of its own, to the end or to where no thread can go on.

        Args:
            bodies: by the name of the thread.
            may_rest: names of those that may still wait when the others have ended.
            strategy: who goes next.
            story: gets (name of thread, what it does) for each operation.
        """
        for actor, (name, body) in zip(self._actors, bodies.items(), strict=False):
            actor.assign(name, body, may_rest=name in may_rest)
        self._strategy, self._story = strategy, story
        self._hand_over(self._choose(_options_after(self._actors, None)))
        if not self._over.acquire(timeout=WATCHDOG):
            raise RuntimeError("a thread under test waits for something that the scheduler does not know")
        assert self._end is not None
        self._abandon_the_rest()
        for actor in self._actors:
            if actor.misfit is not None:
                raise actor.misfit
        return self._end

    def _abandon_the_rest(self) -> None:
        self.abandoning = True
        for actor in self._actors:
            if actor.started and actor.state is not _State.DONE:
                self._current = actor
                actor.baton.release()
                assert self._over.acquire(timeout=WATCHDOG), f"{actor.name} cannot be ended"
        self._current = None
        self.abandoning = False

    # -- the threads under test -----------------------------------------------------------------------

    def _work(self, actor: _Actor) -> None:
        actor.ident = threading.get_ident()
        while self._has_work(actor):
            self._perform(actor)

    def _has_work(self, actor: _Actor) -> bool:
        return actor.baton.acquire(timeout=WATCHDOG) and not actor.stop

    def _perform(self, actor: _Actor) -> None:
        assert actor.body is not None
        actor.started = True
        problem = None
        try:
            self._call(actor.body)
            actor.state = _State.DONE
            if not self.abandoning:
                self._leave(actor)
                return
        except Abandoned:
            pass
        except Misfit as misfit:
            actor.misfit = misfit
        except BaseException as error:
            problem = f"{actor.name} raised {type(error).__name__}: {error}{self._origin(error)}"
        actor.state = _State.DONE
        self._finish(problem)

    def _call(self, body: Callable[[], None]) -> None:
        if self._opcodes:
            with each_opcode_here(self._opcodes, self._at_opcode):
                body()
        else:
            body()

    def _origin(self, error: BaseException) -> str:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        return f" ({self._source.line_of(frames[-1])})" if frames else ""

    def _leave(self, actor: _Actor) -> None:
        """Go on with another one, for this one cannot."""
        self._step += 1
        options = _options_after(self._actors, actor)
        if options and self._is_known(actor):
            self._give_up()
        elif options:
            self._hand_over(self._choose(options))
        else:
            self._finish(_verdict(self._actors))

    def _is_known(self, actor: _Actor) -> bool:
        assert self._strategy is not None
        state = (actor.number, self.clock, *self._history.pasts)
        return self._strategy.knows(self._step, state)

    def _give_up(self) -> None:
        self._end = End(self._step, None, frozenset(), known=True)
        self._over.release()

    def _finish(self, problem: str | None) -> None:
        waiting = [actor for actor in self._actors if actor.state is not _State.DONE]
        if self._end is None:
            stuck = tuple(self._where(actor) for actor in waiting) if problem else ()
            self._end = End(self._step, problem, frozenset(actor.name for actor in waiting), stuck)
        self._over.release()

    def _where(self, actor: _Actor) -> str:
        if not actor.started:
            return f"{actor.name} has not started"
        return f"{actor.name} is at {self._source.line_of(sys._current_frames().get(actor.ident))}"

    def _choose(self, options: Sequence[Option]) -> _Actor:
        assert self._strategy is not None
        thread = self._strategy.choose(self._step, options)
        if thread not in [option.thread for option in options]:
            raise Misfit(f"thread {thread} cannot run at step {self._step}")
        return self._actors[thread]

    def _hand_over(self, target: _Actor) -> None:
        if target.can_time_out():
            target.timed_out = True
            self.clock = max(self.clock, target.deadline or 0.0)
        target.state = _State.RUNNABLE
        self._current = target
        target.baton.release()

    def _park(self, actor: _Actor) -> None:
        if not actor.baton.acquire(timeout=WATCHDOG) or self.abandoning:
            raise Abandoned

    # -- operations: called on the running thread, before each ----------------------------------------

    def _decide(self, actor: _Actor) -> None:
        assert self._strategy is not None
        if self._step > STEP_LIMIT:
            self._finish(f"livelock: no end after {STEP_LIMIT} operations")
            self._park(actor)
        if self._is_known(actor):
            self._give_up()
            self._park(actor)
        if not self._strategy.minds(self._step):
            return
        options = _options_at_point(self._actors, actor)
        if len(options) > 1:
            target = self._choose(options)
            if target is not actor:
                self._hand_over(target)
                self._park(actor)

    def _at_location(self, location: Location, writes: bool, what: str) -> None:
        actor = self._current
        if actor is None or self.abandoning:
            return
        self._step += 1
        if not location.racy:
            location.used(actor.number, actor.held, writes)
        if location.racy or self._everywhere:
            self._decide(actor)
            self._history.note(actor.number, location, writes=writes)
        if self._story is not None:
            self._tell(actor, f"{what} {location.name}")

    def _at_attribute(self, location: Location, writes: bool) -> None:
        self._at_location(location, writes, "set" if writes else "get")

    def _at_opcode(self) -> None:
        actor = self._current
        if actor is not None and not self.abandoning:
            self._step += 1
            self._decide(actor)
            self._history.note_private(actor.number)

    def on_use_of(self, name: str) -> OnUse:
        """Return the callback for a container of this name."""
        location = self._locations.named(name)

        def on_use(writes: bool, method: str) -> None:
            self._at_location(location, writes, method)

        return on_use

    def _tell(self, actor: _Actor, what: str) -> None:
        if self._story is not None:
            self._story.append((actor.name, f"{self._source.line_of(sys._getframe())}: {what}"))

    # -- locks ----------------------------------------------------------------------------------------

    def lock_bit(self) -> int:
        """Return a bit for a lock made before the threads start, and 0 for one that a thread makes itself."""
        if self._current is not None:
            return 0
        self._bits += 1
        return 1 << self._bits

    def at_lock(self, lock: ScheduledLock, what: str) -> None:
        """Ask who goes next, before a thread does something to a lock."""
        actor = self._current
        if actor is None or self.abandoning:
            return
        self._step += 1
        self._decide(actor)
        self._history.note(actor.number, lock, writes=True)
        self._tell(actor, f"{what}{' (taken)' if lock.taken else ''}")

    def block(self, lock: ScheduledLock, timeout: float | None) -> bool:
        """Let others run until the lock is free, or the time-out is chosen to pass: that gives ``False``."""
        actor = self._current
        if actor is None:
            raise RuntimeError("the main thread would wait for ever")
        actor.state = _State.BLOCKED
        actor.awaited, actor.timed_out = lock, False
        actor.deadline = None if timeout is None else self.clock + timeout
        self._leave(actor)
        self._park(actor)
        actor.awaited = None
        self._history.note(actor.number, lock, writes=True, timed_out=actor.timed_out)
        self._tell(actor, "timed out" if actor.timed_out else "woken")
        return not actor.timed_out

    def now_holds(self, lock: ScheduledLock) -> None:
        """Note who holds a lock."""
        if self._current is not None:
            self._current.held |= lock.bit

    def released(self, lock: ScheduledLock) -> None:
        """Note that nobody holds it."""
        for actor in self._actors:
            actor.held &= ~lock.bit
