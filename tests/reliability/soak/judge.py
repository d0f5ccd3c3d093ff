"""What came of it: the account of each connection, and whether anything grows. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

from reliability.account import Evidence, Identity, Verdict
from reliability.soak.names import STREAMS, Name, place

__all__ = ["Balance", "Growth", "Record", "Rest", "Sample", "balance", "growth"]

_EXACT = ("threads", "files", "alive")  # of a rest: the same each time, or something was left behind
_NAMES: Mapping[str, str] = MappingProxyType(
    {"files": "open files", "alive": "connections alive", "blocks": "memory blocks of Python"}
)
_WARM_UP = 4  # one of so many rests is in the warm-up
_ENOUGH = 6  # rests after it, for a trend
# Of a trend: what is noise altogether, and what is nothing for each connection that was opened and closed.
_TOLERANCES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"blocks": (500, 0.1), "memory": (3 * 1024 * 1024, 256.0)}
)
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


class Rest(NamedTuple):
    """This process with all connections closed: ``seconds`` since the start, a sum, and what there is."""

    seconds: float
    connections: int  # closed so far
    threads: int
    files: int
    alive: int  # instances of Connection
    blocks: int  # of memory that Python has allocated
    memory: int  # resident bytes

    def exceeds(self, other: Rest) -> bool:
        """Whether something was left behind since the other one."""
        return any(getattr(self, what) > getattr(other, what) for what in _EXACT)


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
        assume_doubt=record.delivery == "plain" and not record.is_clean,
        forgotten=record.forgotten,
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
    """What one number has done: what it was ``before``, and by how much it has ``grown`` since."""

    what: str
    before: float
    grown: float
    tolerance: float

    @property
    def is_flat(self) -> bool:
        """Whether it has grown by no more than the tolerance."""
        return self.grown <= self.tolerance

    def __str__(self) -> str:
        scale, unit, places = (1 << 20, " MiB", 1) if self.what == "memory" else (1, "", 0)
        before, grown, most = (
            f"{number / scale:,.{places}f}{unit}" for number in (self.before, self.grown, self.tolerance)
        )
        name = _NAMES.get(self.what, self.what)
        return f"{name}: {before} at rest, then {grown} more (tolerance {most})"


def growth(rests: Sequence[Rest]) -> list[Growth]:
    """Judge what is left when all connections are closed: before the first one, and after each round.

    Under load all numbers swing with what happens to be open and queued, so nothing is judged there.

    Threads, files and living connections are exact at rest, so they are compared exactly: the highest of
    any rest with what there was before the first connection. One left behind, once, is found.

    Memory is not, so its trend is judged, over the rests after the first quarter, which is for warming up.
    The trend is the median of what was added for each connection, as seen from each rest: some that are far
    too high or too low neither hide it nor make it up. ``blocks`` counts what Python has allocated, to the
    single object: it swings by some hundred, and in ten minutes one small object left behind by each third
    connection exceeds the tolerance. ``memory`` is all that is resident, and finds what is not Python's: it
    swings by a MiB or two, and two KiB left behind by each connection exceed the tolerance. With fewer than
    six rests there is no trend to speak of, and none is judged.
    """
    exact = [_excess(rests, what) for what in _EXACT]
    warm = rests[-(-len(rests) // _WARM_UP) :]
    return exact + ([_trend(warm, what) for what in _TOLERANCES] if len(warm) >= _ENOUGH else [])


def _excess(rests: Sequence[Rest], what: str) -> Growth:
    before, *after = (getattr(rest, what) for rest in rests)
    return Growth(what, before, max(after) - before, 0)


def _trend(rests: Sequence[Rest], what: str) -> Growth:
    # The repeated median of Siegel: half of the rests may be odd, but for one.
    medians = [median(_slopes(one, rests, what)) for one in rests]
    count = rests[-1].connections - rests[0].connections
    noise, nothing = _TOLERANCES[what]
    return Growth(what, getattr(rests[0], what), median(medians) * count, noise + nothing * count)


def _slopes(one: Rest, rests: Sequence[Rest], what: str) -> list[float]:
    """What was added for each connection between this rest and each of the others."""
    return [
        (getattr(other, what) - getattr(one, what)) / (other.connections - one.connections)
        for other in rests
        if other.connections != one.connections
    ] or [0.0]
