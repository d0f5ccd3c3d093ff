"""All open connections at interpreter exit, and in a forked child."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from reliability.processes import ROOT, environment
from reliability.reconnects import Sample, growth

from wsclient.lifetime import LiveSet


class Member:
    """A connection as exit and fork see it; ``finishes`` says what ends it: close, drop, or nothing."""

    def __init__(self, finishes: str = "close") -> None:
        self.finishes = finishes
        self.finished = False
        self.calls: list[str] = []
        self.patience: list[float] = []

    def begin_close(self, code: int, reason: str, timeout: float) -> None:
        self.calls.append(f"close {code} {reason}")
        self.finished = self.finished or self.finishes == "close"

    def drop(self) -> None:
        self.calls.append("drop")
        self.finished = self.finished or self.finishes == "drop"

    def wait_finished(self, timeout: float) -> bool:
        self.patience.append(timeout)
        return self.finished

    def forked(self) -> None:
        self.calls.append("forked")


def test_all_are_closed() -> None:
    live, members = LiveSet(), [Member(), Member()]
    for member in members:
        live.add(member)
    live.close_all()
    assert [member.calls for member in members] == [["close 1001 interpreter exit"]] * 2


def test_who_does_not_end_is_dropped() -> None:
    live, members = LiveSet(), [Member("close"), Member("drop"), Member("nothing")]
    for member in members:
        live.add(member)
    live.close_all(timeout=0)
    assert [member.calls[1:] for member in members] == [[], ["drop"], ["drop"]]


def test_all_begin_to_close_before_anybody_is_waited_for() -> None:
    log: list[str] = []

    class Logging(Member):
        def begin_close(self, code: int, reason: str, timeout: float) -> None:
            log.append("begin")

        def wait_finished(self, timeout: float) -> bool:
            log.append("wait")
            return True

    live, members = LiveSet(), [Logging(), Logging(), Logging()]
    for member in members:
        live.add(member)
    live.close_all(1)
    assert log == ["begin"] * 3 + ["wait"] * 3


def test_the_time_is_for_all_of_them_together() -> None:
    live, members = LiveSet(), [Member("nothing") for _ in range(5)]
    for member in members:
        live.add(member)
    live.close_all(timeout=-1)
    assert all(member.patience[0] == 0 for member in members)
    assert all(0 <= member.patience[1] <= 0.4 for member in members)


def test_who_has_gone_is_left_alone() -> None:
    live, member = LiveSet(), Member()
    live.add(member)
    live.discard(member)
    live.discard(member)
    live.close_all()
    live.after_fork_in_child()
    assert member.calls == []


def test_it_keeps_nobody_alive() -> None:
    live, calls = LiveSet(), []

    class Noting(Member):
        def begin_close(self, code: int, reason: str, timeout: float) -> None:
            calls.append(code)

    live.add(Noting())
    gc.collect()
    live.close_all()
    assert calls == []


def test_a_forked_child_disowns_all_even_while_the_lock_is_held() -> None:
    live, member = LiveSet(), Member()
    live.add(member)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with live._mutex:
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(10)
        live.after_fork_in_child()
        live.close_all()
        live.add(Member())
    finally:
        release.set()
        thread.join(10)
    assert member.calls == ["forked"]


PROGRAM = """
import os, sys
from wsclient.lifetime import live

class Member:
    def begin_close(self, code, reason, timeout): print("close", code, flush=True)
    def wait_finished(self, timeout): return True
    def drop(self): print("drop", flush=True)
    def forked(self): print("forked", flush=True)

member = Member()
live.add(member)
if sys.argv[1] == "fork":
    child = os.fork()
    if not child:
        sys.exit()
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        ("exit", ["close 1001"]),
        pytest.param(
            "fork",
            ["forked", "close 1001"],
            marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
        ),
    ],
)
def test_in_a_real_process(what: str, lines: list[str]) -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == lines


# Python 3.10 takes another 20 KiB after some 370 links, once, and stays there: it is warm later.
COUNT = "1600" if sys.version_info < (3, 11) else "400"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it reads what Linux tells in /proc")
@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
def test_nothing_grows_from_link_to_link(delivery: str) -> None:
    """The bounded form of what docs/reconnecting.md promises; the whole is 10,000."""
    command = [sys.executable, "-m", "tests.reliability.reconnects", "--count", COUNT, "--delivery", delivery]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1] == "nothing grows"


@pytest.mark.parametrize("field", ["threads", "files", "frames", "objects", "resident", "traced"])
def test_what_grows_is_found(field: str) -> None:
    flat = [Sample(number, 3, 9, 14, 20_000, 28 << 20, 20_000) for number in range(20)]
    assert growth(flat) == []
    grown = [*flat[:10], *(replace(sample, **{field: 1 << 30}) for sample in flat[10:])]
    assert [line.split()[0] for line in growth(grown)] == [field]
    warming_up = [replace(sample, **{field: 0}) for sample in flat[:4]] + flat[4:]
    assert growth(warming_up) == []
