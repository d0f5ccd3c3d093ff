"""What clients do in other processes: each function takes and returns what can be pickled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from scenarios.classroom import INSTRUCTOR, STUDENT, WAIT, enter, heard
from wsclient import ConnectionClosed
from wsclient.testing import TestClient

__all__ = ["Account", "as_students", "ask_until_replaced", "hold_class", "report_progress", "submit_code"]


@dataclass(frozen=True)
class Account:
    """What one client has to say for itself at the end.

    Attributes:
        sent: messages that were accepted from it.
        written: messages that its connection wrote.
        received: all that it received, the hub's own included.
        complaints: messages lost and errors unread.
    """

    user_id: str
    sent: int
    written: int
    received: int
    complaints: list[str]

    @classmethod
    def of(cls, client: TestClient, sent: int) -> Account:
        """The account of a closed client that sent so many messages."""
        written = client.connection.stats().messages_sent
        return cls(client.user_id, sent, written, len(client.received), client.complaints())


def as_students(
    url: str,
    session_id: str,
    user_ids: Sequence[str],
    play: Callable[..., Any],
    *arguments: object,
) -> list[Any]:
    """Let students come in, then play a part in a thread each: ``play(client, *arguments)``."""
    with ExitStack() as stack:
        clients = [enter(url, user_id, STUDENT, session_id) for user_id in user_ids]
        for client in clients:
            stack.callback(client.close)
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        parts = [pool.submit(play, client, *arguments) for client in clients]
        return [part.result() for part in parts]


def report_progress(student: TestClient, steps: int) -> str:
    """Report each step, then wait for the instructor's summary and return its text."""
    for step in range(1, steps + 1):
        student.send_message("analytics", "progress", {"step": step, "of": steps})
    summary = student.wait_for(type="instructor_broadcast", where=lambda found: found["context"] == "summary")
    return str(summary["content"]["text"])


def submit_code(student: TestClient) -> list[str]:
    """Answer each request for code with the next version, until a review approves; return all reviews."""
    reviews: list[str] = []
    while "approved" not in reviews:
        request = student.wait_for(type="request", where=lambda found: found["context"] == "code")
        code = f"# {student.user_id}, {request['content']['file']}\n" + "print('grüße')\n" * 500
        content = {"file": request["content"]["file"], "version": len(reviews) + 1, "code": code}
        student.send_message("request_response", "code", content, request["from_user"])
        review = student.wait_for(type="inbox_response", where=lambda found: found["context"] == "review")
        reviews.append(review["content"]["text"])
    return reviews


def hold_class(url: str, session_id: str, students: int, rounds: int) -> list[tuple[str, list[Any]]]:
    """A whole class: every student asks, is answered and gets a request. Return what everyone heard."""
    with ExitStack() as stack:

        def come_in(user_id: str, role: str) -> TestClient:
            client = enter(url, user_id, role, session_id)
            stack.callback(client.close)
            return client

        teacher = come_in("teacher", INSTRUCTOR)
        pupils = [come_in(f"pupil-{number}", STUDENT) for number in range(students)]
        for number in range(rounds):
            for pupil in pupils:
                pupil.send_message("instructor_inbox", session_id, number)
            for question in teacher.receive_many(students):
                teacher.send_message("inbox_response", session_id, number, question["from_user"])
            teacher.send_message("instructor_broadcast", session_id, number)
            for pupil in pupils:
                pupil.receive_many(2)
        return [(client.user_id, heard(client)) for client in (teacher, *pupils)]


def ask_until_replaced(
    url: str, session_id: str, user_id: str, threads: int
) -> tuple[list[int], int, Account]:
    """Ask questions from several threads until the hub closes the connection.

    Returns: how many were accepted of each thread, the close code, the account.
    """
    client = enter(url, user_id, STUDENT, session_id)

    def ask(thread: int) -> int:
        number = 0
        with suppress(ConnectionClosed):
            while True:
                client.send_message("instructor_inbox", "question", [thread, number], "teacher")
                number += 1
                if number % 50 == 0:  # no faster than the hub takes them
                    client.connection.confirm(WAIT)
        return number

    with ThreadPoolExecutor(threads) as pool:
        accepted = list(pool.map(ask, range(threads)))
    code = client.wait_closed()
    client.close()
    return accepted, code, Account.of(client, sum(accepted) - len(client.unsent))
