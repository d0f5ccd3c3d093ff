"""A lesson for as many students as Locust is told to bring, in the classroom of ``examples/classroom``.

::

    python -m examples.classroom.hub --port 8770
    locust -f examples/locustfile.py --host ws://127.0.0.1:8770

Each student asks, and waits for the answer; one instructor, on whichever worker, answers them all. So what is
timed goes through the hub twice, and between machines.
"""

from __future__ import annotations

import json
import os
from uuid import uuid4

from locust import between, constant, task
from locust.env import Environment

from wsclient import Credentials
from wsclient.locust import WebSocketUser

SESSION = os.environ.get("CLASSROOM_SESSION", "demo")


class Student(WebSocketUser):
    """Asks the instructor, and waits for the answer."""

    path = "/ws"
    wait_time = between(0.5, 1.5)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        # The hub keeps one connection for each user, so every one needs a name of its own, on all machines.
        self.options = {"credentials": Credentials(f"student-{uuid4().hex}", "student", SESSION)}

    @task
    def ask(self) -> None:
        """Ask one question. The reply is the message that has its ``context``, whatever comes before."""
        context = uuid4().hex
        question = {"type": "instructor_inbox", "context": context, "content": {"text": "Why?"}}
        self.client.request(
            json.dumps(question),
            reply=lambda message: json.loads(message)["context"] == context,
            name="question",
        )

    def message_name(self, message: str | bytes) -> str:
        """Name what comes unasked by its type."""
        return str(json.loads(message)["type"])


class Instructor(WebSocketUser):
    """Answers every question, as it comes."""

    path = "/ws"
    fixed_count = 1
    wait_time = constant(1)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.options = {"credentials": Credentials("instructor", "instructor", SESSION)}

    @task
    def listen(self) -> None:
        """Do nothing: ``on_message`` does it all."""

    def on_message(self, message: str | bytes) -> None:
        """Answer a question."""
        said = json.loads(message)
        if said["type"] == "instructor_inbox":
            answer = {"type": "inbox_response", "context": said["context"], "content": {"text": "Because."}}
            self.client.send(json.dumps({**answer, "to_user": said["from_user"]}), name="answer")

    def message_name(self, message: str | bytes) -> str:
        """Name what comes by its type."""
        return str(json.loads(message)["type"])
