"""The lesson of ``examples/locustfile.py`` that ends by itself: once every student has asked enough.

The master prints the port that it got, and ends the test when all workers' students are done. Each worker
leaves a file ``worker-PID`` with the number of its events.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, cast

import gevent
import locust
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from examples import locustfile

STUDENTS, QUESTIONS = int(os.environ["STUDENTS"]), int(os.environ["QUESTIONS"])
DONE = "student done"


class Instructor(locustfile.Instructor):
    """As in the example."""


class Student(locustfile.Student):
    """Asks so many questions, without a pause, then says so and goes."""

    asked = 0

    def wait_time(self) -> float:
        """Called after each question."""
        self.asked += 1
        if self.asked == QUESTIONS:
            self.leave()
        return 0

    def leave(self) -> NoReturn:
        """Go. The connection is closed by ``on_stop``."""
        raise StopUser

    def on_stop(self) -> None:
        """Close first: the end of the test waits for this message."""
        super().on_stop()
        cast("WorkerRunner", self.environment.runner).send_message(DONE)


def _end_when_all_are_done(runner: MasterRunner) -> Callable[..., None]:
    done = count(1)

    def note(**_: Any) -> None:
        if next(done) == STUDENTS:
            gevent.spawn(_end, runner)

    return note


def _end(runner: MasterRunner) -> None:
    runner.stop()  # waits for the workers' last reports, which quit() does not
    runner.quit()


def _write_number_at_the_end() -> None:
    numbers = count(0)
    locust.events.request.add_listener(lambda **_: next(numbers))  # type: ignore[no-untyped-call]
    path = Path(f"worker-{os.getpid()}")
    locust.events.quitting.add_listener(  # type: ignore[no-untyped-call]
        lambda **_: path.write_text(str(next(numbers)))
    )


def _prepare(runner: object, **_: object) -> None:
    if isinstance(runner, WorkerRunner):
        _write_number_at_the_end()
    if isinstance(runner, MasterRunner):
        runner.register_message(DONE, _end_when_all_are_done(runner))
        print(runner.server.port, flush=True)


locust.events.init.add_listener(_prepare)  # type: ignore[no-untyped-call]
