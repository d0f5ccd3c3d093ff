"""What a reader must know to judge the numbers of a run: its warnings. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from wsclient.load.plan import Expect, Plan
from wsclient.load.result import Account, Latency, Resources, Second, SetUp

__all__ = ["account_remarks", "connection_remarks", "generator_remarks", "rate_remarks"]

_BUSY: Final = 0.9  # of a core: from here on a process has nothing left to be on time with
_OFTEN: Final = 0.2  # of all seconds
_LAG: Final = 0.01  # seconds
_REACHED: Final = 0.98  # of the rate that was asked for


def generator_remarks(
    seconds: Sequence[Second], resources: Resources, latency: Latency, *, processes: int, cores: int
) -> Iterator[str]:
    """Whether the generator, and not the server, was what limited the run or made the times."""
    busy = sum(second.cpu >= _BUSY for second in seconds)
    if seconds and busy >= _OFTEN * len(seconds):
        yield (
            f"the generator was the bottleneck: a process of it used {_BUSY:.0%} or more of a core in"
            f" {busy} of {len(seconds)} seconds; rate and latency are partly its own"
            f"{_advice(processes, cores)}"
        )
    if resources.lag_p99 > _LAG:
        yield (
            f"the generator was late: 1 in 100 of its timers by {resources.lag_p99 * 1e3:.0f} ms or more;"
            " latencies of that size are its own"
        )
    if latency.overflowed:
        yield f"{latency.overflowed:,} latencies were over an hour and count as an hour"


def _advice(processes: int, cores: int) -> str:
    return f"; give it more processes (now {processes}, on {cores} cores)" if processes < cores else ""


def rate_remarks(plan: Plan, seconds: Sequence[Second], account: Account, elapsed: float) -> Iterator[str]:
    """Whether an open loop could not keep its rate, and what a closed loop hides."""
    if plan.total_rate is None or not elapsed:
        return
    if account.skipped:
        yield (
            f"{account.skipped:,} messages were due and never sent: the connection was gone, or time was over"
        )
    steady = seconds[int(plan.ramp) + 1 : int(elapsed)]
    if steady and plan.scenario is None:
        rate = sum(second.sent for second in steady) / len(steady)
        if rate < _REACHED * plan.total_rate:
            yield f"the rate was not reached: {rate:,.1f}/s of {plan.total_rate:,.1f}/s after the ramp"


def connection_remarks(plan: Plan, setup: SetUp, seconds: Sequence[Second]) -> Iterator[str]:
    """Whether all connections came to be, and stayed to the end."""
    if setup.failed:
        yield f"{setup.failed:,} of {plan.connections:,} connections could not be opened"
    elif setup.attempted < plan.connections:
        yield f"only {setup.attempted:,} of {plan.connections:,} connections were tried"
    lost = setup.opened - sum(second.open_connections for second in seconds[-1:])
    if lost > 0:
        yield f"{lost:,} of {setup.opened:,} connections were lost before the end"


def account_remarks(plan: Plan, account: Account) -> Iterator[str]:
    """Whether messages are missing, or there are too many, or the sums are wrong."""
    for problem in account.problems(answers=plan.answers):
        yield f"the account does not balance: {problem}; please report this"
    if account.lost:
        yield f"{account.lost:,} messages were lost: the server has read them, and did not answer in time"
    if account.in_doubt:
        yield f"{account.in_doubt:,} messages are in doubt: written, and the connection was gone then"
    if account.unsent:
        yield f"{account.unsent:,} messages were accepted and not written: the connection was gone"
    if account.duplicated:
        yield f"{account.duplicated:,} answers came twice"
    if plan.expect is Expect.ECHO and plan.answers and account.received and not account.answered:
        yield "nothing that came is what was sent: is this an echo server?"
