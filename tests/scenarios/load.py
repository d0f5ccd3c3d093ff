"""The parts of the load scenario: instructors in the test's process, students in others.

In a round each student asks every instructor (and is answered), reports progress from several threads at
once through its one connection, and answers a request of each instructor. The round is over when all students
say so.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from scenarios.actors import Account
from scenarios.classroom import STUDENT, WAIT, enter
from wsclient.testing import TestClient

__all__ = ["EACH", "THREADS", "Instructor", "attend"]

THREADS = 3  # of each student
EACH = 5  # reports of each thread in a round


class Instructor:
    """Answers questions and makes requests until every student has said goodbye."""

    def __init__(self, client: TestClient, students: Sequence[str]) -> None:
        self.client = client
        self._students = students
        self._finished: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.sent = 0  # written by serve's thread until it has ended, but for what _announced counts
        self._announced = 0  # owned by the thread that leads the rounds

    def begin_round(self, number: int) -> None:
        """Announce a round and wait until every student has finished it.

        Raises:
            queue.Empty: one has not, for too long.
        """
        self._announce("round", number)
        finished = sorted(self._finished.get(timeout=WAIT) for _ in self._students)
        assert finished == sorted(self._students)

    def end_class(self) -> None:
        """Send everyone home."""
        self._announce("end", 0)

    def serve(self) -> None:
        """Take what comes, one message at a time, until all students have left."""
        present = set(self._students)
        while present:
            message = self.client.receive(WAIT)
            if message["context"] == "question":
                self._send("inbox_response", message["content"], message["from_user"])
            elif message["context"] == "begun":
                self._send("request", message["content"], message["from_user"])
            elif message["context"] == "finished":
                self._finished.put(message["from_user"])
            elif message["context"] == "goodbye":
                present.remove(message["from_user"])
        self.sent += self._announced

    def _announce(self, context: str, number: int) -> None:
        self._announced += 1
        self.client.send_message("instructor_broadcast", context, number)

    def _send(self, type: str, content: object, to_user: str) -> None:
        self.sent += 1
        self.client.send_message(type, "answer", content, to_user)


def attend(
    url: str, session_id: str, user_ids: Sequence[str], instructors: Sequence[str], timeout: float
) -> list[Account]:
    """Students come in, take part until the class ends, and leave; return their accounts."""
    with ExitStack() as stack:
        students = []
        for user_id in user_ids:
            client = enter(url, user_id, STUDENT, session_id)
            stack.callback(client.close)
            threads = stack.enter_context(ThreadPoolExecutor(THREADS))
            students.append(_Student(client, instructors, threads))
        with ThreadPoolExecutor(len(students)) as pool:
            parts = [pool.submit(student.take_part) for student in students]
            return [part.result(timeout) for part in parts]


class _Student:
    """One student. Its own thread leads; others report progress at the same time."""

    def __init__(self, client: TestClient, instructors: Sequence[str], threads: ThreadPoolExecutor) -> None:
        self._client = client
        self._instructors = instructors
        self._threads = threads
        self._sent = 0  # owned by the leading thread

    def take_part(self) -> Account:
        """All rounds, then goodbye."""
        number = 0
        while (call := self._client.wait_for(type="instructor_broadcast"))["context"] == "round":
            number += 1
            assert call["content"] == number, "a round was lost or came out of order"
            self._take_round(number)
        self._say("analytics", "goodbye", None)
        self._client.close()
        return Account.of(self._client, self._sent)

    def _take_round(self, number: int) -> None:
        reports = [self._threads.submit(self._report, thread, number) for thread in range(THREADS)]
        self._say("analytics", "begun", number)
        for name in self._instructors:
            self._say("instructor_inbox", "question", [number, name], name)
        for _ in self._instructors:
            request = self._client.wait_for(type="request", where=lambda found: found["content"] == number)
            self._say("request_response", "answer", number, request["from_user"])
        for name in self._instructors:
            answer = self._client.wait_for(type="inbox_response", from_user=name)
            assert answer["content"] == [number, name]
        for report in reports:
            self._sent += report.result(WAIT)
        self._say("analytics", "finished", number, self._instructors[0])

    def _report(self, thread: int, number: int) -> int:
        for step in range(EACH):
            self._client.send_message("analytics", "progress", [thread, (number - 1) * EACH + step])
        return EACH

    def _say(self, type: str, context: str, content: object, to_user: str | None = None) -> None:
        self._sent += 1
        self._client.send_message(type, context, content, to_user)
