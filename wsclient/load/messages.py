"""What the processes of a run tell each other. Plain data that can be pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from wsclient.load.measure import Bins
from wsclient.load.plan import Plan
from wsclient.load.recorder import ErrorNote
from wsclient.load.result import Account

__all__ = ["Died", "Final", "Opened", "Report", "Share", "Tick"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one process does of a plan.

    Attributes:
        plan: the whole.
        index: of the process, from 0.
        connections: the numbers of its connections.
        nonce: what the identities of the run begin with.
        lines: of the payload file.
    """

    plan: Plan
    index: int
    connections: tuple[int, ...]
    nonce: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """The connections that are to be open at the start are open, or have failed."""

    process: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What a process has seen in one second, or by the end in less.

    Attributes:
        process: its index.
        second: of the run, from 0.
        sent, received: messages in it.
        errors: in it, by kind.
        notes: all errors so far, by kind.
        open_connections: at its end.
        bins: latencies in it.
        setups: times of connections opened in it.
        attempted, opened: connections so far.
        lags: how late the monitor's timer was in it.
        cpu: share of one core in it.
        cpu_seconds: since the start of the process's work.
        max_rss, threads: bytes and count, the most so far.
        account: as it stands.
        attempts: what each worker of each connection has attempted so far; to tell what was skipped.
    """

    process: int
    second: int
    sent: int
    received: int
    errors: Mapping[str, int]
    notes: Mapping[str, ErrorNote]
    open_connections: int
    bins: Bins
    setups: Bins
    attempted: int
    opened: int
    lags: Bins
    cpu: float
    cpu_seconds: float
    max_rss: int
    threads: int
    account: Account
    attempts: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A process is done.

    Attributes:
        process: its index.
        account: of its connections.
        stopped: seconds after the start when its last worker stopped.
    """

    process: int
    account: Account
    stopped: float


@dataclass(frozen=True, slots=True)
class Died:
    """A process has ended without being done."""

    process: int
    text: str


Report: TypeAlias = "Opened | Tick | Final | Died"
