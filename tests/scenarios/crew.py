"""Runs functions in other processes, started with ``spawn``: nothing is shared with them but the wire."""

from __future__ import annotations

import multiprocessing
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any

__all__ = ["Crew", "CrewFailed"]

_END_SECONDS = 5.0


class CrewFailed(AssertionError):
    """A function in another process raised, ended without a result, or took too long."""


@dataclass
class _Member:
    """One process. Owned by the thread of the test."""

    process: SpawnProcess
    inlet: Connection
    answer: tuple[bool, Any] | None = None  # whether it succeeded, and its result or its traceback

    def has_answered(self, timeout: float) -> bool:
        """Wait for what it has to say."""
        if self.answer is None and self.inlet.poll(timeout):
            try:
                self.answer = self.inlet.recv()
            except EOFError:
                self.answer = (False, "it ended without a result")
        return self.answer is not None

    def result(self, timeout: float) -> Any:
        if not self.has_answered(timeout):
            raise CrewFailed("a process did not end in time")
        assert self.answer is not None
        succeeded, result = self.answer
        if not succeeded:
            raise CrewFailed(f"in another process:\n{result}")
        return result

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()
            self.process.join(_END_SECONDS)
        self.process.close()
        self.inlet.close()


class Crew:
    """Functions at work in other processes. Leaving the block kills what is still at work."""

    def __init__(self) -> None:
        self._members: list[_Member] = []  # owned by the thread of the test

    def start(self, function: Callable[..., object], *arguments: object) -> None:
        """Call ``function`` in a new process; it, its arguments and its result must be picklable."""
        context = multiprocessing.get_context("spawn")
        inlet, outlet = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(outlet, function, arguments), daemon=True)
        process.start()
        self._members.append(_Member(process, inlet))
        outlet.close()  # ours: the end of the process is now the end of the pipe

    def results(self, timeout: float) -> list[Any]:
        """The result of each, in order of starting.

        Args:
            timeout: seconds for all of them together.

        Raises:
            CrewFailed: with the traceback of the process.
        """
        deadline = time.monotonic() + timeout
        return [member.result(max(0.0, deadline - time.monotonic())) for member in self._members]

    def check(self) -> None:
        """Raise ``CrewFailed`` if one has failed already."""
        for member in self._members:
            if member.has_answered(0):
                member.result(0)

    def abandon(self) -> None:
        """Kill all that are still at work."""
        for member in self._members:
            member.kill()
        self._members.clear()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for member in self._members:
                member.process.join(_END_SECONDS)
        self.abandon()


def _work(outlet: Connection, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    warnings.simplefilter("error")
    try:
        answer = (True, function(*arguments))
    except BaseException:
        answer = (False, traceback.format_exc())
    with outlet:
        outlet.send(answer)
