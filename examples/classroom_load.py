"""What a student does, over and over, for ``wsclient load``: asks the instructor, and waits for the answer.

::

    python -m examples.classroom.hub --port 8770
    python -m examples.classroom.instructor http://127.0.0.1:8770
    wsclient load --scenario examples/classroom_load.py --role student --session-id demo --user-id student \\
        --connections 50 --workers 8 --rate 400/s --duration 5m ws://127.0.0.1:8770/ws

So each answer goes through the hub twice.
"""

from __future__ import annotations

from uuid import uuid4

from wsclient.testing import TestClient


def setup(client: TestClient) -> None:
    """Wait until the student is in the classroom."""
    client.wait_for(type="system", where=lambda message: bool(message["context"] == "history_complete"))


def scenario(client: TestClient) -> None:
    """Ask one question. Eight workers share a student: each knows its answer by the ``context``."""
    context = uuid4().hex
    client.send_message("instructor_inbox", context=context, content={"text": "Why?"})
    client.wait_for(type="inbox_response", where=lambda message: bool(message["context"] == context))
