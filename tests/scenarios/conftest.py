"""Fixtures of the scenarios: a hub for all of them, and a classroom for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scenarios.classroom import Classroom, Hub, running_hub

UNLIMITED = ("--rate", "1e6", "--burst", "1000000")  # messages per second, and at once


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The hub that most scenarios share, each in sessions of its own."""
    with running_hub(tmp_path_factory.mktemp("hub"), *UNLIMITED, sessions=200) as hub:
        yield hub


@pytest.fixture
def classroom(no_leaks: None, hub: Hub) -> Iterator[Classroom]:
    """A session without a past; fails the test if one of its clients lost a message or kept an error."""
    classroom = Classroom(hub)
    try:
        yield classroom
    finally:
        classroom.close()
    assert classroom.complaints() == []
