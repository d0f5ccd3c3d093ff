"""What became of every message: the evidence, and what follows from it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

__all__ = ["Account", "Evidence", "Identity", "Verdict", "table"]

Identity = tuple[int, int]  # of a message: the thread that sent it, and its number there
_SHOWN = 3  # examples in a complaint


@dataclass(frozen=True)
class Evidence:
    """What each side knows.

    Attributes:
        accepted: of each thread, how many of its messages were accepted: numbers 0 to n - 1.
        arrivals: what the server has received, in its order, as often as it came.
        garbled: what the server has received and nobody has sent.
        unsent: what the connection says it has never written.
        in_doubt: what the connection says it has written and knows no more about.
        assume_doubt: the connection does not report doubt: the last messages of each thread may be in doubt
            without being in ``in_doubt``. What is missing *before* one that arrived is lost all the same, for
            TCP has no holes.
        forgotten: how many more the connection says it had no room to keep: of what is missing, so many.
        may_repeat: a message may arrive more than once.
        written: how many messages the connection says it has written, when it wrote each once at most.
    """

    accepted: Sequence[int]
    arrivals: Sequence[Identity]
    garbled: int = 0
    unsent: Sequence[Identity] = ()
    in_doubt: Sequence[Identity] = ()
    assume_doubt: bool = False
    forgotten: int = 0
    may_repeat: bool = False
    written: int | None = None

    @cached_property
    def all_accepted(self) -> frozenset[Identity]:
        return frozenset(
            (thread, number) for thread, count in enumerate(self.accepted) for number in range(count)
        )

    @cached_property
    def received(self) -> frozenset[Identity]:
        return frozenset(self.arrivals)

    @cached_property
    def missing(self) -> frozenset[Identity]:
        """Accepted, not received, and not reported in any way."""
        return self.all_accepted - self.received - set(self.unsent) - set(self.in_doubt)

    @cached_property
    def assumed_in_doubt(self) -> frozenset[Identity]:
        """Of what is missing: whatever no later message of its thread has overtaken."""
        if not self.assume_doubt:
            return frozenset()
        latest = dict(sorted(self.received))  # of each thread the highest number: the last one stays
        return frozenset(one for one in self.missing if one[1] > latest.get(one[0], -1))

    @property
    def lost(self) -> frozenset[Identity]:
        return frozenset(sorted(self.missing - self.assumed_in_doubt)[self.forgotten :])

    @cached_property
    def overtaken(self) -> list[Identity]:
        """First arrivals behind a later message of the same thread.

        Not counted: what the connection has handed back as in doubt, or would have, had it had the room. It
        made no promise about when, or whether, that arrives.
        """
        latest: dict[int, int] = {}
        late = []
        seen: set[Identity] = set(self.in_doubt)
        for thread, number in self.arrivals:
            if (thread, number) in seen:
                continue
            seen.add((thread, number))
            if number < latest.get(thread, -1):
                late.append((thread, number))
            latest[thread] = max(number, latest.get(thread, -1))
        return late[self.forgotten :]


@dataclass(frozen=True)
class Verdict:
    """The evidence in numbers. ``accepted = received + in_doubt + unsent + lost``; lost must be 0.

    ``complaints`` says in words what must not be; empty when all is well.
    """

    accepted: int
    received: int
    duplicated: int
    in_doubt: int
    unsent: int
    lost: int
    complaints: tuple[str, ...]

    @classmethod
    def on(cls, evidence: Evidence) -> Verdict:
        """Count."""
        received = evidence.received & evidence.all_accepted
        unsent = set(evidence.unsent) - received
        doubted = (set(evidence.in_doubt) - received - unsent) | evidence.assumed_in_doubt
        return cls(
            accepted=len(evidence.all_accepted),
            received=len(received),
            duplicated=len(evidence.arrivals) - len(evidence.received),
            in_doubt=len(doubted),
            unsent=len(unsent),
            lost=len(evidence.lost),
            complaints=tuple(_complaints(evidence)),
        )


def _complaints(evidence: Evidence) -> list[str]:
    strange = evidence.received | set(evidence.unsent) | set(evidence.in_doubt)
    wrong: dict[str, Sequence[Identity]] = {
        "lost": sorted(evidence.lost),
        "arrived first after a later one of their thread": evidence.overtaken,
        "were received, handed back or both, but never accepted": sorted(strange - evidence.all_accepted),
        "are unsent, but were received": sorted(set(evidence.unsent) & evidence.received),
        "are both unsent and in doubt": sorted(set(evidence.unsent) & set(evidence.in_doubt)),
        "are unsent more than once": _repeated(evidence.unsent),
        "are in doubt more than once": _repeated(evidence.in_doubt),
        "came more than once": () if evidence.may_repeat else _repeated(evidence.arrivals),
    }
    found = [f"{len(ids)} messages {text}: {_shown(ids)}" for text, ids in wrong.items() if ids]
    if evidence.garbled:
        found.append(f"{evidence.garbled} messages came that nobody sent")
    gone = len(evidence.received) + len(evidence.assumed_in_doubt)
    if evidence.written not in (None, gone):
        found.append(f"{evidence.written} messages were written, but {gone} are received or in doubt")
    return found


def _repeated(messages: Sequence[Identity]) -> list[Identity]:
    return sorted(message for message, count in Counter(messages).items() if count > 1)


def _shown(messages: Sequence[Identity]) -> str:
    shown = ", ".join(f"{number} of thread {thread}" for thread, number in messages[:_SHOWN])
    return shown + (", ..." if len(messages) > _SHOWN else "")


@dataclass(frozen=True)
class Account:
    """One run of one scenario. Times in seconds.

    Attributes:
        injected: the fault, in words, and ``faults``: how often it was injected.
        planned: how often it was to be injected at least; fewer times prove less than was asked for.
        connections: how many the server, or its generations, saw open.
        refused: sends that ended with an error after waiting; their messages were not accepted then.
        reasons: why connections ended, and how often, by the names that the library gives.
        waits: the longest wait of each blocking call.
    """

    scenario: str
    injected: str
    faults: int
    planned: int
    delivery: str
    seed: int
    threads: int
    connections: int
    verdict: Verdict
    refused: int
    reasons: Mapping[str, int]
    waits: Mapping[str, float]
    seconds: float
    notes: Sequence[str] = field(default=())

    @property
    def longest_wait(self) -> tuple[str, float]:
        """Which call waited longest, and how long."""
        return max(self.waits.items(), key=lambda wait: wait[1], default=("", 0.0))

    @property
    def complaints(self) -> tuple[str, ...]:
        """In words, what must not be: lost, from nowhere, out of order, or never put to the test."""
        few = f"only {self.faults} of {self.planned} faults were injected: the traffic was over before"
        return (*self.verdict.complaints, *([few] if self.faults < self.planned else []))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``from_dict`` takes it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Account:
        """An account from what ``as_dict`` made."""
        verdict = Verdict(**{**raw["verdict"], "complaints": tuple(raw["verdict"]["complaints"])})
        return cls(**{**raw, "verdict": verdict, "notes": tuple(raw["notes"])})


def table(account: Account) -> str:
    """For the terminal: a line for each number."""
    verdict, (call, wait) = account.verdict, account.longest_wait
    lines = {
        "injected": f"{account.injected}, {account.faults} times (seed {account.seed})",
        "delivery": account.delivery,
        "connections": f"{account.connections}",
        "disconnected": ", ".join(f"{name} {count}" for name, count in account.reasons.items()) or "never",
        "accepted": f"{verdict.accepted:,} from {account.threads} threads",
        "received": f"{verdict.received:,}",
        "duplicated": f"{verdict.duplicated:,}",
        "in doubt": f"{verdict.in_doubt:,}",
        "unsent": f"{verdict.unsent:,}",
        "LOST": f"{verdict.lost:,}",
        "refused": f"{account.refused:,}",
        "longest wait": f"{wait:.2f} s in {call}",
        "took": f"{account.seconds:.1f} s",
    }
    rows = [f"  {name:<14}{text}" for name, text in lines.items()]
    more = [f"  note: {note}" for note in account.notes] + [f"  WRONG: {one}" for one in account.complaints]
    return "\n".join([account.scenario, *rows, *more])
