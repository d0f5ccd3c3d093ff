"""The goals of the design, as data, and how a run compares. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.names import OURS, RECONNECT
from benchmarks.scenarios import SCENARIOS

__all__ = ["GOALS", "Goal", "Medians", "Verdict", "verdicts"]

Medians = Mapping[str, Mapping[str, Mapping[str, float]]]  # scenario -> adapter -> metric


@dataclass(frozen=True)
class Goal:
    """The number of ``ours``, as a multiple of a peer's (``peer=None``: as it is), and its ``bound``."""

    scenario: str
    metric: str
    peer: str | None
    bound: float
    ours: str = OURS

    @property
    def at_least(self) -> bool:
        """More is better."""
        metric = next(metric for metric in SCENARIOS[self.scenario].metrics if metric.key == self.metric)
        return metric.more_is_better


@dataclass(frozen=True)
class Verdict:
    """A goal and what was measured; ``value`` is ``None`` if one of the two sides is missing."""

    goal: Goal
    value: float | None

    @property
    def met(self) -> bool | None:
        """Whether the goal was met, or ``None`` where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.goal.bound if self.goal.at_least else self.value <= self.goal.bound


_TRAFFIC = (
    Goal("send-64-1", "rate", "websocket-client", 10),
    Goal("send-64-1", "rate", "websockets", 10),
    *(
        Goal(scenario, "rate", peer, bound)
        for scenario in ("send-64-8", "send-64-50")
        for peer, bound in (("websocket-client", 20), ("websockets", 20), ("sendall", 0.8))
    ),
    Goal("send-4k-8", "rate", "websocket-client", 6),
    Goal("send-4k-8", "rate", "websockets", 3),
    Goal("send-1m", "rate", "websocket-client", 1.5),
    Goal("send-1m", "rate", "websockets", 1.0),
    Goal("receive-64", "rate", "websocket-client", 15),
    Goal("receive-64", "rate", "websockets", 10),
    Goal("receive-1m", "rate", "websocket-client", 4),
    Goal("receive-1m", "rate", "websockets", 1.2),
)
GOALS = (
    *_TRAFFIC,
    *(replace(goal, ours=OURS + RECONNECT) for goal in _TRAFFIC),
    *(
        Goal("round-trip", metric, peer, bound)
        for metric in ("p50", "p99")
        for peer, bound in (("websocket-client", 1.1), ("websockets", 0.9))
    ),
    Goal("connections", "memory", None, 100 * 1024),
    Goal("connections", "memory", "websockets", 1.0),
)


def verdicts(medians: Medians) -> list[Verdict]:
    """Every goal whose scenario was run, judged by the medians."""
    return [Verdict(goal, _value(goal, medians)) for goal in GOALS if goal.scenario in medians]


def _value(goal: Goal, medians: Medians) -> float | None:
    scenario = medians[goal.scenario]
    ours = scenario.get(goal.ours, {}).get(goal.metric)
    if ours is None or goal.peer is None:
        return ours
    peer = scenario.get(goal.peer, {}).get(goal.metric)
    return ours / peer if peer else None
