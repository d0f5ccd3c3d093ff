"""Scenarios that take something away from the process of the client itself: they need one of their own."""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from reliability.plan import Plan
from reliability.processes import Unavailable
from reliability.run import Injector, InThread, Prepare, Process, Scenario, in_thread
from reliability.script import Fault, script
from reliability.servers import VerifyingServer

__all__ = ["SCENARIOS"]

_SHORTAGE_SECONDS = (0.1, 0.5)
_SPARE_FILES = 16
_SPARE_BYTES = 64 * 1024 * 1024  # of address space, beside what the process has at the start
# Left to the process in a shortage: so many holes of so many bytes, for small objects, but for no batch, no
# buffer and no stack of a thread. With nothing left at all, threading.Thread.start() may wait for ever: the
# thread died at birth.
_LARGE, _HOLE = 4 * 1024 * 1024, 32 * 1024
_HOLES = 192
_KEEPALIVE: Mapping[str, Any] = MappingProxyType({"ping_interval": 0.5, "ping_timeout": 0.5})

Shortage = Callable[[], AbstractContextManager[None]]


def _in_shortage(shortage: Shortage) -> Prepare:
    """While it lasts the server drops its connections, so that a new one would be needed."""

    @contextmanager
    def prepare(server: VerifyingServer, plan: Plan) -> Iterator[Injector]:
        steps = script([Fault.RST], plan.faults, plan.messages, plan.seed, lasting=_SHORTAGE_SECONDS)
        server.start([step.after for step in steps], hold=plan.hold)

        def work(injector: InThread) -> None:
            for step in steps:
                if not injector.next_fault():
                    return
                with shortage():
                    server.go_on()
                    server.cut()
                    injector.last(step.lasting)

        with in_thread(server, plan, work) as injector:
            yield injector

    return prepare


@contextmanager
def _limited(kind: int, soft: int) -> Iterator[None]:
    usual, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (usual, hard))


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Not one file, socket or pipe can be opened."""
    with contextlib.ExitStack() as stack:
        in_use = max(map(int, os.listdir("/proc/self/fd")))
        stack.enter_context(_limited(resource.RLIMIT_NOFILE, in_use + _SPARE_FILES))
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield


@contextmanager
def no_memory() -> Iterator[None]:
    """Only small objects can be had: no large block, and no stack for a thread."""
    with _limited(resource.RLIMIT_AS, _address_space() + _SPARE_BYTES), contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            while True:
                stack.enter_context(mmap.mmap(-1, _LARGE))
        rest = list(_blocks(_HOLE))
        del rest[-2 * _HOLES :: 2]  # not side by side, or they would be one
        yield
        del rest


def _blocks(size: int) -> Iterator[bytearray]:
    with contextlib.suppress(MemoryError):
        while True:
            yield bytearray(size)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


# -- the clock ----------------------------------------------------------------------------------------

_JUMPS = ("+3650d", "-3650d", "+1h", "-1h", "+0")
_FILE = "FAKETIME_TIMESTAMP_FILE"


def _libfaketime() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise Unavailable("libfaketime is not installed")
    return found[0]


def _with_false_clock() -> Process:
    library = _libfaketime()
    with tempfile.NamedTemporaryFile("w", prefix="reliability-clock-", delete=False) as file:
        file.write("+0")
    more = {
        "LD_PRELOAD": str(library),
        _FILE: file.name,
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return Process(environment=more)


def _jump(to: str) -> None:
    """Set the wall clock of this process, and see that it is set."""
    before = time.time()
    Path(os.environ[_FILE]).write_text(to)
    if to.endswith("d") and abs(time.time() - before) < 86400:
        raise Unavailable("libfaketime does not change the time of this Python")


@contextmanager
def _jumping_clock(server: VerifyingServer, plan: Plan) -> Iterator[Injector]:
    steps = script([Fault.RST], plan.faults, plan.messages, plan.seed, lasting=_SHORTAGE_SECONDS)
    server.start([step.after for step in steps], hold=plan.hold)

    def work(injector: InThread) -> None:
        for number, step in enumerate(steps):
            if not injector.next_fault():
                break
            _jump(_JUMPS[number % len(_JUMPS)])
            server.go_on()
            if number % 2:
                server.cut()
            injector.last(step.lasting)
        _jump(
            "+0"
        )  # libfaketime and clock_nanosleep, with which Python sleeps, disagree about any other time

    try:
        with in_thread(server, plan, work) as injector:
            yield injector
    finally:
        Path(os.environ[_FILE]).unlink()


SCENARIOS = (
    Scenario(
        "descriptors",
        "no file descriptor left (RLIMIT_NOFILE), and the connection dropped, for 0.1 to 0.5 s",
        _in_shortage(no_descriptors),
        process=Process,
    ),
    Scenario(
        "memory",
        "no memory left (RLIMIT_AS), and the connection dropped, for 0.1 to 0.5 s",
        _in_shortage(no_memory),
        # Or each thread would have address space in reserve, and notice nothing.
        process=lambda: Process(environment={"MALLOC_ARENA_MAX": "1"}),
        retry=(MemoryError,),
    ),
    Scenario(
        "clock",
        "the wall clock set forth or back by an hour or ten years (libfaketime); each second time a drop",
        _jumping_clock,
        _KEEPALIVE,
        process=_with_false_clock,
    ),
)
