"""What came of it: the account of each connection, and whether anything grows. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from reliability.account import Evidence, Identity, Verdict
from reliability.soak.names import STREAMS, Name, place

__all__ = ["Balance", "Growth", "Record", "Sample", "balance", "growth"]

# What the mean of so many samples swings by. A stall lets open files (links that the proxy still has) and
# memory (what is queued and in doubt) rise for some seconds, so that fewer samples swing more: with the root
# of their number.
_SAMPLES = 150  # a quarter of ten minutes
# What one connection in a hundred left behind would exceed it several times over in ten minutes; and in the
# end nothing at all may be left.
_COUNT_TOLERANCE = 6.0
_MEMORY_FLOOR = 6 * 1024 * 1024
# For each connection in between. A closed one that something keeps alive has some 20 KiB.
_MEMORY_EACH = 1024
_SHOWN = 5


class Sample(NamedTuple):
    """This process at one moment: ``seconds`` since the start; sums since then, and what there is now."""

    seconds: float
    threads: int
    files: int
    memory: int  # resident bytes, but for what the allocator keeps in reserve
    messages: int  # accepted so far
    connections: int  # closed so far
    open: int
    faults: int


@dataclass(frozen=True)
class Record:
    """What one connection has to say of itself, after its end.

    Attributes:
        accepted: of each lane that sends, how many messages were accepted.
        streams: how many were begun; ``ended``: those that ended without an exception.
        forgotten: messages in doubt that there was no room to keep.
        is_clean: it was closed by a closing handshake, and never lost.
        complaints: what was not as it must be: callbacks, receipts, the state.
    """

    name: Name
    delivery: str
    accepted: tuple[int, ...] = (0,) * STREAMS
    streams: int = 0
    ended: tuple[int, ...] = ()
    unsent: tuple[Identity, ...] = ()
    in_doubt: tuple[Identity, ...] = ()
    forgotten: int = 0
    is_clean: bool = True
    links: int = 1
    raised: int = 0
    complaints: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Record:
        """A record from JSON of its fields."""
        fixed: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
        }
        fixed["unsent"] = tuple(map(tuple, raw["unsent"]))
        fixed["in_doubt"] = tuple(map(tuple, raw["in_doubt"]))
        return cls(**fixed)


@dataclass(frozen=True)
class Balance:
    """All connections together: ``accepted = received + in_doubt + unsent + lost``."""

    connections: int
    links: int
    raised: int
    streams: int
    accepted: int
    received: int
    duplicated: int
    in_doubt: int
    unsent: int
    lost: int
    complaints: tuple[str, ...]


def balance(records: Iterable[Record], arrivals: Iterable[Identity], garbled: int) -> Balance:
    """Judge each connection by what the server has received of it."""
    received: dict[Name, list[Identity]] = defaultdict(list)
    for found in arrivals:
        name, message = place(found)
        received[name].append(message)
    sums, complaints = Counter[str](), [f"{garbled} messages came that nobody sent"] if garbled else []
    for record in records:
        verdict = _judge(record, received.pop(record.name, []))
        complaints += [f"connection {record.name}, {record.delivery}: {one}" for one in verdict.complaints]
        sums.update({key: value for key, value in vars(verdict).items() if key != "complaints"})
        sums.update(connections=1, links=record.links, raised=record.raised, streams=record.streams)
    if received:
        complaints.append(f"messages of connections that never were: {sorted(received)[:_SHOWN]}")
    numbers = {name: sums[name] for name in Balance.__dataclass_fields__ if name != "complaints"}
    return Balance(**numbers, complaints=tuple(complaints))


def _judge(record: Record, arrivals: Sequence[Identity]) -> Verdict:
    whole = [one for one in arrivals if one[0] < STREAMS]
    evidence = Evidence(
        accepted=record.accepted,
        arrivals=whole,
        unsent=[place(one)[1] for one in record.unsent],
        in_doubt=[place(one)[1] for one in record.in_doubt],
        assume_doubt=bool(record.forgotten) or (record.delivery == "plain" and not record.is_clean),
        may_repeat=record.delivery == "at_least_once",
    )
    verdict = Verdict.on(evidence)
    streams = _stream_complaints(record, [number for lane, number in arrivals if lane == STREAMS])
    return Verdict(**{**vars(verdict), "complaints": (*verdict.complaints, *streams, *record.complaints)})


def _stream_complaints(record: Record, arrived: Sequence[int]) -> list[str]:
    # A stream has no promise across links: what ended well may be in doubt, what failed may have arrived.
    wrong = {
        "came more than once": [number for number, count in Counter(arrived).items() if count > 1],
        "came and were never begun": [number for number in arrived if number >= record.streams],
        "ended well and have not come": sorted(set(record.ended) - set(arrived)) if record.is_clean else [],
    }
    return [f"{len(which)} streams {what}: {which[:_SHOWN]}" for what, which in wrong.items() if which]


@dataclass(frozen=True)
class Growth:
    """The mean of one number in the second and in the last quarter of the time."""

    what: str
    before: float
    after: float
    tolerance: float

    @property
    def is_flat(self) -> bool:
        """Whether the last quarter is no higher than the tolerance allows."""
        return self.after - self.before <= self.tolerance


def growth(samples: Sequence[Sample]) -> list[Growth]:
    """Compare the second quarter with the last one; the first is for warming up."""
    quarter = len(samples) // 4
    if quarter == 0:
        raise ValueError(f"{len(samples)} samples are too few to compare quarters of")
    before, after = samples[quarter : 2 * quarter], samples[-quarter:]
    between = fmean(one.connections for one in after) - fmean(one.connections for one in before)
    swing = math.sqrt(max(1.0, _SAMPLES / quarter))
    tolerances = {
        "threads": _COUNT_TOLERANCE * swing,
        "files": _COUNT_TOLERANCE * swing,
        "memory": _MEMORY_FLOOR * swing + _MEMORY_EACH * between,
    }
    return [
        Growth(
            what,
            fmean(getattr(one, what) for one in before),
            fmean(getattr(one, what) for one in after),
            most,
        )
        for what, most in tolerances.items()
    ]
