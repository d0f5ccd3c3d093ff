"""What a run is to do: how much traffic, how many faults, and what the connection promises. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from benchmarks.messages import MIN_SIZE, Workload

__all__ = ["Delivery", "Plan"]

_MAX_SIZE = 65_535


class Delivery(enum.Enum):
    """What the connection does when it is lost."""

    PLAIN = "plain"  # it is over: no reconnect
    AT_MOST_ONCE = "at_most_once"
    AT_LEAST_ONCE = "at_least_once"


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        messages: of all threads together.
        faults: how many, at places drawn by ``seed``.
        size: of a message, bytes.
        pace: messages after which a thread waits until the server has confirmed them, so that faults find
            traffic and not the end of it; 0: it never waits.
        hold: the server is held at the message where a signal is due, so that the place is exact.
        patience: seconds after which the run gives up waiting for anything.

    Raises:
        ValueError: a number is out of range; the message names it.
    """

    messages: int = 4000
    threads: int = 8
    faults: int = 3
    seed: int = 1
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    size: int = 64
    pace: int = 100
    hold: bool = False
    patience: float = 50.0

    def __post_init__(self) -> None:
        for name in ("messages", "threads", "faults"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.pace < 0:
            raise ValueError(f"pace must be at least 0, not {self.pace}")
        if not MIN_SIZE <= self.size <= _MAX_SIZE:
            raise ValueError(f"size must be from {MIN_SIZE} to {_MAX_SIZE} bytes, not {self.size}")
        if self.messages % self.threads:
            raise ValueError(f"messages must be a multiple of threads ({self.threads}), not {self.messages}")
        if not self.patience > 0:
            raise ValueError(f"patience must be over 0 seconds, not {self.patience}")

    @property
    def load(self) -> Workload:
        """The messages, thread by thread."""
        return Workload(self.threads, self.messages // self.threads, self.size)

    @property
    def least_faults(self) -> int:
        """How many faults the connection lives to see at least."""
        return 1 if self.delivery is Delivery.PLAIN else self.faults

    @property
    def bytes(self) -> int:
        """All frames of one sending of every message."""
        head = 6 if self.size < 126 else 8  # of a client's frame (RFC 6455, section 5.2)
        return self.messages * (head + self.size)
