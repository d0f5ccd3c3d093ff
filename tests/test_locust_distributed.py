"""A master and two workers of Locust as processes against a real hub: they count what it counted."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers.launch import Process, launched
from scenarios.classroom import ROOT, running_hub

LESSON = ROOT / "tests" / "locustfiles" / "lesson.py"
STUDENTS, QUESTIONS = 6, 20
CONNECTIONS = STUDENTS + 1  # with the instructor
SECONDS = 40  # bounds what takes a few on an idle machine


class Swarm:
    """How the processes of one run are started, and where they put what they find."""

    def __init__(self, folder: Path, url: str, session_id: str) -> None:
        self.folder = folder
        self.url = url
        counts = {"STUDENTS": str(STUDENTS), "QUESTIONS": str(QUESTIONS)}
        self.environment = {**counts, "CLASSROOM_SESSION": session_id, "PYTHONPATH": str(ROOT)}

    def start(self, *arguments: str) -> AbstractContextManager[Process]:
        command = [sys.executable, "-m", "locust", "-f", str(LESSON), *arguments]
        return launched(command, self.folder, cwd=self.folder, terminate=True, environment=self.environment)

    def start_master(self) -> AbstractContextManager[Process]:
        bind = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", "0"]
        load = ["--users", str(CONNECTIONS), "--spawn-rate", "100", "--run-time", str(SECONDS)]
        results = ["--csv", "found", "--json-file", "found", "--only-summary"]
        headless = ["--headless", "--expect-workers", "2", "--expect-workers-max-wait", str(SECONDS)]
        return self.start(*bind, *headless, *load, *results, "--host", self.url)

    def start_worker(self, port: str) -> AbstractContextManager[Process]:
        return self.start("--worker", "--master-host", "127.0.0.1", "--master-port", port)


@contextmanager
def running_swarm(swarm: Swarm) -> Iterator[list[Process]]:
    """The master and its two workers."""
    with ExitStack() as stack:
        master = stack.enter_context(swarm.start_master())
        port = master.first_line()
        yield [master, *(stack.enter_context(swarm.start_worker(port)) for _ in range(2))]


def counts(entries: list[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Requests and failures by type and name."""
    return {
        f"{entry['method']} {entry['name']}": (entry["num_requests"], entry["num_failures"])
        for entry in entries
    }


def csv_counts(path: Path) -> dict[str, tuple[int, int]]:
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Type"]]
    return {
        f"{row['Type']} {row['Name']}": (int(row["Request Count"]), int(row["Failure Count"])) for row in rows
    }


@pytest.mark.timeout(3 * SECONDS)
def test_two_workers_count_what_the_server_counted(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        session_id = hub.take_session()
        with running_swarm(Swarm(tmp_path, hub.url, session_id)) as processes:
            for process in processes:
                assert process.ended_within(SECONDS), process.errors
                assert process.exit_status == 0, process.errors
                assert "Traceback" not in process.errors
        at_the_hub = hub.final_stats(session_id)
    entries = json.loads((tmp_path / "found.json").read_text())
    questions = STUDENTS * QUESTIONS
    # Each student has heard the end of its history, and the instructor that and the questions.
    assert counts(entries) == {
        "WS connect": (CONNECTIONS, 0),
        "WS close": (CONNECTIONS, 0),
        "WSC question": (questions, 0),
        "WSR instructor_inbox": (questions, 0),
        "WSR system": (CONNECTIONS, 0),
        "WSS answer": (questions, 0),
    }
    by_worker = [int(path.read_text()) for path in tmp_path.glob("worker-*")]
    assert len(by_worker) == 2
    assert min(by_worker) > 0
    assert sum(by_worker) == sum(requests for requests, _ in counts(entries).values())
    assert csv_counts(tmp_path / "found_stats.csv") == counts(entries)
    students = {name: number for name, number in at_the_hub["accepted"].items() if name != "instructor"}
    assert list(students.values()) == [QUESTIONS] * STUDENTS
    assert at_the_hub["accepted"]["instructor"] == questions
    assert at_the_hub["written"]["instructor"] == questions + 1
