"""A lesson: a teacher and three students, each with one connection that eight threads write to at once.

::

    python examples/classroom_lesson.py
    python examples/classroom_lesson.py --url http://127.0.0.1:8770 --session demo

Without ``--url`` it starts the hub of ``examples/classroom`` in a process of its own (which needs
``websockets``: ``wsclient[testing]`` brings it).

This is the program that wsclient exists for: test clients of such a classroom once wrote to the WebSocket
from many threads, and died of it under load (``make demo`` shows how). Here one writer thread has the
WebSocket, the eight only have the connection, and every question gets its answer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import wsclient

ROOT = Path(__file__).resolve().parent.parent
THREADS = 8
QUESTIONS = 10  # of each thread
STUDENTS = ("bob", "eve", "joe")


class Visitor:
    """Whoever is in the classroom: a connection, and a count of what came, by type."""

    def __init__(self, url: str, credentials: wsclient.Credentials) -> None:
        self._changed = threading.Condition()
        self._heard: Counter[str] = Counter()  # under _changed
        self.connection = wsclient.connect(url, credentials=credentials, on_message=self._receive)

    def say(self, kind: str, text: str, to_user: str | None = None) -> None:
        """Send a message. Any thread."""
        message = {"type": kind, "context": "lesson", "content": {"text": text}}
        self.connection.send_json(message if to_user is None else {**message, "to_user": to_user})

    def wait_for(self, kind: str, count: int) -> None:
        """Wait until so many messages of a type have come."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._heard[kind] >= count, timeout=30):
                raise TimeoutError(f"{count} messages of the type {kind} have not come: {dict(self._heard)}")

    def heard(self) -> dict[str, int]:
        """What came so far."""
        with self._changed:
            return dict(sorted(self._heard.items()))

    def on_message(self, message: dict[str, Any]) -> None:
        """Nothing, for a student. Reader thread."""

    def _receive(self, conn: wsclient.Connection, text: str | bytes) -> None:
        message = json.loads(text)
        self.on_message(message)
        with self._changed:
            self._heard[message["type"]] += 1
            self._changed.notify_all()


class Teacher(Visitor):
    """Answers every question as it comes, from the reader thread, while eight threads announce things."""

    def on_message(self, message: dict[str, Any]) -> None:
        """Answer the student who asks."""
        if message["type"] == "instructor_inbox":
            self.say("inbox_response", "Because.", to_user=message["from_user"])


def in_threads(work: Callable[[int], None]) -> None:
    """Do ``work(0)``, ``work(1)``, ... at the same time."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def teach(url: str, session: str) -> None:
    """Hold the lesson."""
    teacher = Teacher(url, wsclient.Credentials("ada", "instructor", session))
    students = [Visitor(url, wsclient.Credentials(name, "student", session)) for name in STUDENTS]

    def announce(number: int) -> None:
        for page in range(QUESTIONS):
            teacher.say("instructor_broadcast", f"thread {number}: page {page}")

    def ask(number: int) -> None:
        for question in range(QUESTIONS):
            for student in students:
                student.say("instructor_inbox", f"thread {number}: question {question}")

    announcing = threading.Thread(target=in_threads, args=(announce,))
    announcing.start()
    in_threads(ask)
    announcing.join()
    teacher.wait_for("instructor_inbox", len(students) * THREADS * QUESTIONS)
    for student in students:
        student.wait_for("inbox_response", THREADS * QUESTIONS)
        student.wait_for("instructor_broadcast", THREADS * QUESTIONS)
    for name, visitor in zip(("ada", *STUDENTS), (teacher, *students), strict=True):
        visitor.connection.close()
        print(f"{name}: sent {visitor.connection.stats().messages_sent}, heard {visitor.heard()}")


@contextmanager
def hub(session: str) -> Iterator[str]:
    """The URL of a classroom, in a process of its own, as the repository has it."""
    command = [sys.executable, "-m", "examples.classroom.hub", "--session", session, "--with-parent"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            sys.exit("the classroom did not start; what it said stands above")
        yield url
        process.stdin.close()  # so it stops


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description="A lesson with a teacher and three students.")
    parser.add_argument("--url", help="of a classroom's hub; by default one is started here")
    parser.add_argument("--session", default="demo", help="which of its sessions (%(default)s)")
    chosen = parser.parse_args()
    with hub(chosen.session) if not chosen.url else nullcontext(chosen.url) as url:
        try:
            teach(_websocket(url), chosen.session)
        except wsclient.HandshakeError as error:
            sys.exit(f"cannot connect: {error}")


def _websocket(url: str) -> str:
    return f"{url.replace('http', 'ws', 1).rstrip('/')}/ws"


if __name__ == "__main__":
    main()
