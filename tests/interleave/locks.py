"""What the code under test sees as ``threading`` and ``time``: the scheduler's locks and its clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Protocol

__all__ = ["Arbiter", "ScheduledLock", "replaced"]


class Arbiter(Protocol):
    """What a lock needs of the scheduler."""

    abandoning: bool

    def lock_bit(self) -> int: ...
    def at_lock(self, lock: ScheduledLock, what: str) -> None: ...
    def block(self, lock: ScheduledLock, timeout: float | None) -> bool: ...
    def now_holds(self, lock: ScheduledLock) -> None: ...
    def released(self, lock: ScheduledLock) -> None: ...


class ScheduledLock:
    """The interface of ``threading.Lock``. A thread that waits for one cannot be run.

    As with the real one, a waiting thread may be overtaken, and any thread may release.
    """

    __slots__ = ("_arbiter", "bit", "taken")

    def __init__(self, arbiter: Arbiter) -> None:
        self._arbiter = arbiter
        self.bit = arbiter.lock_bit()
        self.taken = False  # the running thread

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        arbiter = self._arbiter
        arbiter.at_lock(self, "acquire")
        if self.taken and not arbiter.abandoning:
            if not blocking or timeout == 0:
                return False
            if not arbiter.block(self, None if timeout < 0 else timeout):
                return False
        self.taken = True
        arbiter.now_holds(self)
        return True

    def release(self) -> None:
        arbiter = self._arbiter
        arbiter.at_lock(self, "release")
        if not self.taken and not arbiter.abandoning:
            raise RuntimeError("release unlocked lock")
        self.taken = False
        arbiter.released(self)

    def locked(self) -> bool:
        self._arbiter.at_lock(self, "locked")
        return self.taken

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def _threading_of(arbiter: Arbiter) -> ModuleType:
    """``threading``, but for its ``Lock``."""
    stand_in = ModuleType("threading")
    stand_in.__dict__.update(threading.__dict__)
    stand_in.__dict__["Lock"] = lambda: ScheduledLock(arbiter)
    return stand_in


def _time_of(clock: Callable[[], float]) -> ModuleType:
    """A ``time`` that has only a monotonic clock: what else the code reads is an error."""
    stand_in = ModuleType("time")
    stand_in.__dict__["monotonic"] = clock
    return stand_in


@contextmanager
def replaced(modules: tuple[ModuleType, ...], arbiter: Arbiter, clock: Callable[[], float]) -> Iterator[None]:
    """Give ``modules`` these locks and this clock, wherever they use ``threading`` and ``time``."""
    stand_ins = {"threading": _threading_of(arbiter), "time": _time_of(clock)}
    saved = [(m, name, vars(m)[name]) for m in modules for name in stand_ins if name in vars(m)]
    try:
        for module, name, _ in saved:
            setattr(module, name, stand_ins[name])
        yield
    finally:
        for module, name, original in saved:
            setattr(module, name, original)
