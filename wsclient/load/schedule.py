"""When each message of each worker is due. Pure: seconds from the start of the run, no clock.

With a ramp, worker ``g`` of ``G`` begins at ``ramp * g / G`` and needs ``ramp / G`` to grow from nothing to
its full rate: together they grow in a straight line. Workers of equal rate are spread evenly over one
interval, so that messages come one by one and not in volleys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wsclient.load.plan import Plan

__all__ = ["Schedule", "schedule_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What one worker has to do.

    Attributes:
        begin: seconds after the start of the run when it begins.
        interval: seconds between its messages at full rate; ``None`` in a closed loop.
        growth: seconds from ``begin`` in which its rate grows from 0.
        phase: its first message, as a share of an interval.
        end: seconds after the start when it ends; infinite without a duration.
        quota: most messages; ``None``: no limit.
    """

    begin: float = 0.0
    interval: float | None = None
    growth: float = 0.0
    phase: float = 0.0
    end: float = math.inf
    quota: int | None = None

    def due(self, number: int) -> float:
        """When message ``number``, from 0, is due: seconds after the start of the run."""
        if self.interval is None:
            return self.begin
        position = number + self.phase
        while_growing = self.growth / self.interval / 2  # messages, at half the full rate on average
        if position < while_growing:
            return self.begin + math.sqrt(2 * self.growth * self.interval * position)
        return self.begin + position * self.interval + self.growth / 2

    def count(self, until: float) -> int:
        """How many messages are due before ``until`` and the end; in a closed loop the quota, or 0.

        It is what ``Account.skipped`` is measured against.
        """
        time = min(until, self.end) - self.begin
        if self.interval is None:
            return 0 if self.quota is None or time < math.inf else self.quota
        if time == math.inf:
            return self.quota or 0
        if time <= 0:
            return 0
        if time < self.growth:
            position = time * time / (2 * self.growth * self.interval)
        else:
            position = (time - self.growth / 2) / self.interval
        # A message is due at every whole number + phase below position.
        due = self._corrected(max(math.ceil(position - self.phase), 0), min(until, self.end))
        return due if self.quota is None else min(due, self.quota)

    def _corrected(self, count: int, limit: float) -> int:
        # By what workers go by: rounding may have put a message on the other side of the limit.
        while count > 0 and self.due(count - 1) >= limit:
            count -= 1
        while self.due(count) < limit:
            count += 1
        return count


def schedule_of(plan: Plan, connection: int, worker: int) -> Schedule:
    """The schedule of one worker of one connection, both from 0."""
    workers = plan.connections * plan.workers
    number = connection * plan.workers + worker
    return Schedule(
        begin=plan.ramp * number / workers,
        interval=None if plan.total_rate is None else workers / plan.total_rate,
        growth=0.0 if plan.total_rate is None else plan.ramp / workers,
        phase=_spread(number, workers) if plan.total_rate is not None else 0.0,
        end=math.inf if plan.duration is None else plan.duration,
        quota=None if plan.messages is None else _share(plan.messages, workers, number),
    )


def _share(total: int, workers: int, number: int) -> int:
    return total // workers + (number < total % workers)


def _spread(number: int, workers: int) -> float:
    return number / workers
