"""The hub as a process, and the clients of a test in one of its sessions."""

from __future__ import annotations

import http.client
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from peers.launch import Process, launch_python

from wsclient.testing import TestClient

__all__ = [
    "HUB",
    "INSTRUCTOR",
    "ROOT",
    "STUDENT",
    "WAIT",
    "Classroom",
    "Hub",
    "enter",
    "heard",
    "running_hub",
]

ROOT = Path(__file__).resolve().parents[2]
HUB = "hub"  # ``from_user`` of what the hub itself says
STUDENT, INSTRUCTOR = "student", "instructor"
WAIT = 30.0  # seconds; bounds waits that take milliseconds on an idle machine


class Hub:
    """A running hub. Each test takes a session that nobody has used."""

    def __init__(self, process: Process, url: str, session_ids: list[str]) -> None:
        self.url = url
        self._process = process
        self._killed = False  # owned by the test's thread
        self._free = iter(session_ids)  # owned by the test's thread

    def take_session(self) -> str:
        """The name of a session without a past."""
        return next(self._free)

    def kill(self) -> None:
        """End it as a crash would."""
        self._killed = True
        self._process.kill()

    def check_health(self) -> None:
        """Fail if it ended by itself."""
        assert self._killed or self._process.is_running, f"the hub ended by itself: {self._process.errors}"

    def check_end(self) -> None:
        """Fail if it did not stop as it should, or wrote an error."""
        assert self._process.errors == ""
        assert self._killed or self._process.exit_status == 0

    def stats(self, session_id: str) -> dict[str, Any]:
        """What the hub has counted in a session: see the README of the classroom."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=WAIT)
        try:
            connection.request("GET", "/stats")
            found: dict[str, Any] = json.load(connection.getresponse())[session_id]
            return found
        finally:
            connection.close()

    def final_stats(self, session_id: str) -> dict[str, Any]:
        """The same, once everyone has left: then all is counted."""
        deadline = time.monotonic() + WAIT
        while (stats := self.stats(session_id))["members"]:
            assert time.monotonic() < deadline, f"still here: {stats['members']}"
        return stats


@contextmanager
def running_hub(folder: Path, *options: str, sessions: int = 8) -> Iterator[Hub]:
    """A hub in a process of its own; it fails the test if it wrote an error or ended by itself.

    Args:
        folder: for its standard error.
        options: of its command line.
        sessions: how many it holds.
    """
    names = [f"session-{number}" for number in range(sessions)]
    named = itertools.chain.from_iterable(("--session", name) for name in names)
    command = ("examples.classroom.hub", "--with-parent", *named, *options)
    with launch_python(*command, folder=folder, cwd=ROOT) as process:
        hub = Hub(process, process.first_line(), names)
        yield hub
        hub.check_health()
    hub.check_end()


def enter(url: str, user_id: str, role: str, session_id: str, **options: Any) -> TestClient:
    """A client that the hub has taken in. Its history is unread; ``history_complete`` is taken."""
    client = TestClient(user_id, role, session_id, url, timeout=WAIT, proxy=None, **options)
    client.connect(WAIT)
    try:
        client.wait_for(type="system", where=lambda message: message["context"] == "history_complete")
    except BaseException:
        client.abort()
        raise
    return client


def heard(client: TestClient) -> list[Any]:
    """All that others said to a client, without what the hub itself did."""
    return [message for message in client.received if message["from_user"] != HUB]


class Classroom:
    """One session of a hub, and the clients of this test in it."""

    def __init__(self, hub: Hub, session_id: str | None = None) -> None:
        self.hub = hub
        self.session_id = session_id or hub.take_session()
        self._stack = ExitStack()  # owned by the test's thread
        self._clients: list[TestClient] = []  # owned by the test's thread

    def student(self, user_id: str, **options: Any) -> TestClient:
        """A student comes in."""
        return self._enter(user_id, STUDENT, options)

    def instructor(self, user_id: str, **options: Any) -> TestClient:
        """An instructor comes in."""
        return self._enter(user_id, INSTRUCTOR, options)

    def close(self) -> None:
        """Send everyone home."""
        self._stack.close()

    def complaints(self) -> list[str]:
        """What went wrong for clients of this test and was not looked at."""
        return [complaint for client in self._clients for complaint in client.complaints()]

    def _enter(self, user_id: str, role: str, options: dict[str, Any]) -> TestClient:
        client = enter(self.hub.url, user_id, role, self.session_id, **options)
        self._stack.callback(client.close)
        self._clients.append(client)
        return client
