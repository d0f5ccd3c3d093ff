"""Schedules, and the strategies that make them.

A schedule is what was done otherwise than by default, and the default is: the running thread goes on; when it
cannot, the next one that can. Its text form is ``visible:3>1,17>0``: threads that share state were
stopped at operation 3, where thread 1 went on, and at operation 17, where thread 0 did.
"""

from __future__ import annotations

import enum
import math
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Decision", "Grain", "Guided", "Option", "Prioritized", "Schedule", "State"]

State: TypeAlias = "tuple[float, ...]"
"""Who runs, the time, and the past of each thread."""


class Grain(enum.Enum):
    """Before what another thread may be run."""

    RACY = "racy"  # the use of something that threads use without a common lock; each use of a lock
    VISIBLE = "visible"  # the use of anything that threads share
    OPCODE = "opcode"  # each bytecode instruction of the code under test


@dataclass(frozen=True)
class Option:
    """A thread that could go on, and whether that costs a pre-emption.

    It does when the running thread could go on as well, or when it is a time-out that passes although
    somebody could run.
    """

    thread: int
    cost: int


@dataclass(frozen=True)
class Decision:
    """What could be chosen at one step; the first option is the default."""

    step: int
    options: Sequence[Option]


@dataclass(frozen=True)
class Schedule:
    """Choices other than the default, by step."""

    choices: tuple[tuple[int, int], ...] = ()
    opcodes: bool = False

    def __str__(self) -> str:
        unit = f"opcode{_python()}" if self.opcodes else "visible"
        return f"{unit}:" + ",".join(f"{step}>{thread}" for step, thread in self.choices)

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read the text form.

        Raises:
            ValueError: it is none, or counts the opcodes of another Python.
        """
        match = re.fullmatch(r"(visible|opcode[\d.]+):((?:\d+>\d+(?:,|$))*)", text)
        if match is None or text.endswith(","):
            raise ValueError(f"not a schedule: {text!r}")
        unit, steps = match.groups()
        if unit not in ("visible", f"opcode{_python()}"):
            raise ValueError(f"schedule of {unit}, and this is Python {_python()}: {text!r}")
        pairs = (pair.split(">") for pair in steps.split(",") if pair)
        return cls(tuple((int(step), int(thread)) for step, thread in pairs), opcodes=unit != "visible")


def _python() -> str:
    return "{}.{}".format(*sys.version_info[:2])


@dataclass
class Guided:
    """Follows a schedule, and notes what else could be chosen after its last step.

    Args:
        schedule: what to follow.
        budget: pre-emptions that are left after it.
        seen: states that were reached so far, and with what budget; the strategy adds to it.
    """

    schedule: Schedule
    budget: int = 0
    seen: dict[State, int] | None = None
    decisions: list[Decision] = field(default_factory=list)  # the running thread
    used: int = 0  # the running thread: choices that were made

    def __post_init__(self) -> None:
        self._choices = dict(self.schedule.choices)
        last = max(self._choices, default=-1)
        self._last = last
        self._watch_from = last + 1 if self.budget else math.inf

    def knows(self, step: int, state: State) -> bool:
        """Whether all was, or will be, explored from this state with as large a budget."""
        if self.seen is None or step <= self._last:
            return False
        if self.seen.get(state, -1) >= self.budget:
            return True
        self.seen[state] = self.budget
        return False

    def minds(self, step: int) -> bool:
        """Whether there is anything to choose at a step at which the running thread can go on."""
        return step >= self._watch_from or step in self._choices

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """Choose a thread."""
        wanted = self._choices.get(step)
        if wanted is not None:
            self.used += 1
            return wanted
        if step > self._last and len(options) > 1:
            self.decisions.append(Decision(step, options))
        return options[0].thread

    def branches(self) -> list[tuple[Schedule, int]]:
        """The schedules that go one choice further, each with the pre-emptions it leaves."""
        return [
            (Schedule((*self.schedule.choices, (decision.step, option.thread))), self.budget - option.cost)
            for decision in self.decisions
            for option in decision.options[1:]
            if option.cost <= self.budget
        ]


class Prioritized:
    """Probabilistic concurrency testing: random priorities, and a few random steps at which the first drops.

    Finds a bug that needs ``depth`` ordering constraints with a probability of at least
    ``1 / (threads * steps ** (depth - 1))`` in each run (Burckhardt and others, ASPLOS 2010).
    """

    def __init__(self, seed: int, threads: int, steps: int, depth: int, *, opcodes: bool) -> None:
        rng = random.Random(seed)
        self._priorities = rng.sample(range(depth, depth + threads), threads)  # the running thread
        self._drops = {rng.randrange(max(steps, 1)): rank for rank in range(1, depth)}
        self._opcodes = opcodes
        self._choices: list[tuple[int, int]] = []  # the running thread

    def knows(self, step: int, state: State) -> bool:
        """No run is cut short."""
        return False

    def minds(self, step: int) -> bool:
        """Whether there is anything to choose at a step at which the running thread can go on."""
        return True

    def choose(self, step: int, options: Sequence[Option]) -> int:
        """Choose a thread."""
        for drop in [drop for drop in self._drops if drop <= step]:
            self._priorities[options[0].thread] = self._drops.pop(drop)
        thread = max((option.thread for option in options), key=self._priorities.__getitem__)
        if thread != options[0].thread:
            self._choices.append((step, thread))
        return thread

    @property
    def schedule(self) -> Schedule:
        """What was done."""
        return Schedule(tuple(self._choices), self._opcodes)
