"""Thirty-three clients, mixed traffic, and an account that balances to the message.

The suite runs one class of a few rounds. ``WSCLIENT_LOAD_SECONDS=300`` goes on for so many seconds, with a
new class every 15: clients keep all that they received, so one endless class would fill the memory.
"""

from __future__ import annotations

import os
import queue
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from scenarios import load
from scenarios.actors import Account
from scenarios.classroom import INSTRUCTOR, WAIT, Hub, enter, running_hub
from scenarios.conftest import UNLIMITED
from scenarios.crew import Crew, CrewFailed

LOAD_SECONDS = float(os.environ.get("WSCLIENT_LOAD_SECONDS", "0"))
CLASS_SECONDS = 15.0
ROUNDS = 3  # of a class, at least
PROCESSES, STUDENTS_EACH = 3, 10
INSTRUCTORS = ("teacher-0", "teacher-1", "teacher-2")
STUDENTS = tuple(
    tuple(f"student-{process}-{number}" for number in range(STUDENTS_EACH)) for process in range(PROCESSES)
)
EVERYONE = sum(STUDENTS, ())


@pytest.mark.timeout(120 + 2 * LOAD_SECONDS)
def test_thirty_three_clients(no_leaks: None, tmp_path: Path) -> None:
    end = time.monotonic() + LOAD_SECONDS
    classes = 1 + int(LOAD_SECONDS / CLASS_SECONDS)
    with running_hub(tmp_path, *UNLIMITED, sessions=classes) as hub:
        for _ in range(classes):
            hold_class(hub, min(end, time.monotonic() + CLASS_SECONDS))


def hold_class(hub: Hub, end: float) -> None:
    """A class until ``end``, of a few rounds at least, then its account."""
    session_id = hub.take_session()
    teachers = [
        load.Instructor(enter(hub.url, name, INSTRUCTOR, session_id), EVERYONE) for name in INSTRUCTORS
    ]
    try:
        with Crew() as crew:
            for group in STUDENTS:
                crew.start(load.attend, hub.url, session_id, group, INSTRUCTORS, WAIT + CLASS_SECONDS)
            rounds = teach(teachers, crew, end)
            accounts = [account for group in crew.results(WAIT) for account in group]
    finally:
        for teacher in teachers:
            teacher.client.close()
    accounts += [Account.of(teacher.client, teacher.sent) for teacher in teachers]
    check_accounts(accounts, hub.final_stats(session_id))
    for teacher in teachers:
        check_what_was_heard(teacher, rounds)


def teach(teachers: list[load.Instructor], crew: Crew, end: float) -> int:
    """Every teacher at work, the first one leading; return how many rounds there were."""
    with ThreadPoolExecutor(len(teachers)) as pool:
        lessons = [pool.submit(teacher.serve) for teacher in teachers]
        rounds = hold_rounds(teachers[0], crew, end)
        teachers[0].end_class()
        for lesson in lessons:
            lesson.result(WAIT)
    return rounds


def hold_rounds(lead: load.Instructor, crew: Crew, end: float) -> int:
    """Begin a round when the one before is over; return how many there were."""
    for number in count(1):
        try:
            lead.begin_round(number)
        except queue.Empty:
            crew.check()  # knows why, if a student has failed
            raise
        if number >= ROUNDS and time.monotonic() >= end:
            return number
    raise AssertionError("unreachable")


def check_accounts(accounts: list[Account], stats: dict[str, Any]) -> None:
    """Accepted by ``send`` = written by the client = read by the hub; written by the hub = received."""
    assert len(accounts) == len(INSTRUCTORS) + PROCESSES * STUDENTS_EACH == 33
    assert [complaint for account in accounts for complaint in account.complaints] == []
    sent = {account.user_id: account.sent for account in accounts}
    assert {account.user_id: account.written for account in accounts} == sent
    assert stats["accepted"] == sent
    assert stats["refused"] == {}
    assert stats["written"] == {account.user_id: account.received for account in accounts}


def check_what_was_heard(teacher: load.Instructor, rounds: int) -> None:
    """Every thread of every student was heard whole and in order, and every request was answered."""
    progress: dict[tuple[str, int], list[int]] = defaultdict(list)
    answered: Counter[str] = Counter()
    for message in teacher.client.received:
        if message["context"] == "progress":
            thread, number = message["content"]
            progress[message["from_user"], thread].append(number)
        answered[message["from_user"]] += message["type"] == "request_response"
    assert progress == {
        (name, thread): list(range(rounds * load.EACH)) for name in EVERYONE for thread in range(load.THREADS)
    }
    assert {name: answered[name] for name in EVERYONE} == dict.fromkeys(EVERYONE, rounds)


class TestCrew:
    """The helper that runs clients elsewhere hides no failure."""

    def test_a_result_comes_back(self) -> None:
        with Crew() as crew:
            crew.start(divmod, 7, 2)
            assert crew.results(WAIT) == [(3, 1)]

    def test_an_error_is_raised_here(self) -> None:
        with Crew() as crew:
            crew.start(divmod, 1, 0)
            with pytest.raises(CrewFailed, match="ZeroDivisionError"):
                crew.results(WAIT)
            with pytest.raises(CrewFailed, match="ZeroDivisionError"):
                crew.check()

    def test_a_crash_is_noticed(self) -> None:
        with Crew() as crew:
            crew.start(os._exit, 3)
            with pytest.raises(CrewFailed, match="without a result"):
                crew.results(WAIT)

    def test_what_hangs_is_killed(self) -> None:
        with Crew() as crew:
            crew.start(time.sleep, 3600)
            crew.check()
            with pytest.raises(CrewFailed, match="in time"):
                crew.results(0)
            crew.abandon()
