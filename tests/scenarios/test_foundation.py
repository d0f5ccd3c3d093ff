"""Each type of message: who gets it, what the hub adds, and what a latecomer finds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from scenarios.classroom import ROOT, WAIT, Classroom, heard
from wsclient.testing import TestClient

README = ROOT / "examples" / "classroom" / "README.md"
FENCE = "fence"
EVERYONE = ("ada", "bob", "ms-one", "mr-two")


@dataclass(frozen=True)
class Case:
    """A message, and the only ones who may get it."""

    type: str
    sender: str
    to_user: str | None
    receivers: frozenset[str]

    def __str__(self) -> str:
        return self.type if self.to_user is None else f"{self.type} to {self.to_user}"


STUDENTS, INSTRUCTORS = frozenset({"ada", "bob"}), frozenset({"ms-one", "mr-two"})
CASES = (
    Case("instructor_inbox", "ada", None, INSTRUCTORS),
    Case("instructor_inbox", "ada", "mr-two", frozenset({"mr-two"})),
    Case("inbox_response", "ms-one", "bob", frozenset({"bob"})),
    Case("request", "mr-two", "ada", frozenset({"ada"})),
    Case("request_response", "bob", None, INSTRUCTORS),
    Case("request_response", "bob", "ms-one", frozenset({"ms-one"})),
    Case("analytics", "ada", None, INSTRUCTORS),
    Case("analytics", "ada", "ms-one", frozenset({"ms-one"})),
    Case("instructor_broadcast", "ms-one", None, STUDENTS),
)


@pytest.fixture
def everyone(classroom: Classroom) -> dict[str, TestClient]:
    """Two students and two instructors."""
    enter = {"ada": classroom.student, "bob": classroom.student}
    return {name: enter.get(name, classroom.instructor)(name) for name in EVERYONE}


def fence(everyone: dict[str, TestClient]) -> None:
    """Return once every client has a message that was sent after all before: what did not come will not."""
    everyone["ms-one"].send_message("instructor_broadcast", FENCE)
    everyone["ada"].send_message("analytics", FENCE)
    for client in everyone.values():
        client.wait_for(where=lambda message: message["context"] == FENCE)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reaches_exactly_those_it_is_for(case: Case, everyone: dict[str, TestClient]) -> None:
    everyone[case.sender].send_message(case.type, "topic", {"n": 1}, case.to_user)
    for name in case.receivers:
        everyone[name].wait_for(type=case.type, from_user=case.sender)
    fence(everyone)
    got = {name for name, client in everyone.items() if heard(client)[0]["context"] != FENCE}
    assert got == case.receivers
    # And once: the message, then the fence.
    assert {len(heard(everyone[name])) for name in case.receivers} == {2}


def test_the_hub_adds_sender_session_and_time(classroom: Classroom) -> None:
    ada, ms_one = classroom.student("ada"), classroom.instructor("ms-one")
    ada.send_message("instructor_inbox", "question", {"text": "why?"}, "ms-one")
    message = ms_one.wait_for(type="instructor_inbox")
    time = datetime.fromisoformat(message.pop("timestamp"))
    assert time.utcoffset() == timedelta(0)
    assert message == {
        "type": "instructor_inbox",
        "context": "question",
        "content": {"text": "why?"},
        "to_user": "ms-one",
        "from_user": "ada",
        "session_id": classroom.session_id,
    }


@pytest.mark.parametrize(
    "content", [None, 0, "", "grüße 🌍\u0000\n", [], {"a": [1, {"b": None}]}, 1.5, True, "x" * 60_000]
)
def test_content_is_passed_on_as_it_is(classroom: Classroom, content: Any) -> None:
    ada, ms_one = classroom.student("ada"), classroom.instructor("ms-one")
    ada.send_message("analytics", content=content)
    message = ms_one.receive()
    assert (message["context"], message["content"]) == ("general", content)


def test_quick_and_direct_messages(classroom: Classroom) -> None:
    ada, ms_one = classroom.student("ada"), classroom.instructor("ms-one")
    ada.send_quick_message("instructor_inbox", "why?")
    assert ms_one.receive()["content"] == {"text": "why?"}
    ms_one.send_direct_message("inbox_response", "because", "ada")
    answer = ada.receive()
    assert (answer["content"], answer["to_user"]) == ({"text": "because"}, "ada")


class TestHistory:
    def test_a_latecomer_finds_what_was_for_everyone_and_for_them(self, classroom: Classroom) -> None:
        ms_one, bob = classroom.instructor("ms-one"), classroom.student("bob")
        ms_one.send_message("instructor_broadcast", content=1)
        ms_one.send_message("request", content=2, to_user="ada")  # she is not here yet
        ms_one.send_message("request", content=3, to_user="bob")
        ms_one.send_message("instructor_broadcast", content=4)
        bob.wait_for(where=lambda message: message["content"] == 4)
        ada = classroom.student("ada")
        assert [message["content"] for message in ada.drain()] == [1, 2, 4]

    def test_instructors_find_what_students_said(self, classroom: Classroom) -> None:
        ada, ms_one = classroom.student("ada"), classroom.instructor("ms-one")
        for number in range(20):
            ada.send_message("analytics", content=number)
        ada.send_message("instructor_inbox", content="only for ms-one", to_user="ms-one")
        ms_one.receive_many(21)
        mr_two = classroom.instructor("mr-two")
        assert [message["content"] for message in mr_two.drain()] == list(range(20))

    def test_whoever_comes_back_finds_what_they_said_too(self, classroom: Classroom) -> None:
        ms_one, ada = classroom.instructor("ms-one"), classroom.student("ada")
        ada.send_message("instructor_inbox", content="question")
        ms_one.wait_for(type="instructor_inbox")
        ms_one.send_message("inbox_response", content="answer", to_user="ada")
        ada.wait_for(type="inbox_response")
        ada.close()
        ms_one.send_message("instructor_broadcast", content="missed")
        classroom.student("bob").wait_for(type="instructor_broadcast")
        back = classroom.student("ada")
        assert [message["content"] for message in back.drain()] == ["question", "answer", "missed"]

    def test_its_end_says_how_long_it_was(self, classroom: Classroom) -> None:
        ms_one, bob = classroom.instructor("ms-one"), classroom.student("bob")
        for number in range(3):
            ms_one.send_message("instructor_broadcast", content=number)
        bob.receive_many(3)
        ada = classroom.student("ada")
        last = ada.received[-1]
        assert (last["context"], last["content"]) == ("history_complete", {"messages": 3})
        assert bob.received[0]["content"] == {"messages": 0}


def test_the_readme_s_example_runs(classroom: Classroom) -> None:
    """With its session and its port replaced by this test's, and an instructor who answers."""
    example = README.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    for written, ours in (("algebra", classroom.session_id), ("http://127.0.0.1:41231", classroom.hub.url)):
        assert written in example
        example = example.replace(written, ours)
    teacher = classroom.instructor("teacher")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(exec, example, {})
        question = teacher.wait_for(type="instructor_inbox")
        teacher.send_direct_message("inbox_response", "Because.", question["from_user"])
        running.result(WAIT)
    assert question["content"] == {"text": "Why?"}


def test_the_hubs_account_is_the_clients(classroom: Classroom) -> None:
    ada, ms_one = classroom.student("ada"), classroom.instructor("ms-one")
    for number in range(10):
        ada.send_message("analytics", content=number)
    ms_one.receive_many(10)
    ms_one.send_message("instructor_broadcast")
    ada.receive()
    classroom.close()
    stats = classroom.hub.final_stats(classroom.session_id)
    assert stats["accepted"] == {"ada": 10, "ms-one": 1}
    assert stats["refused"] == {}
    assert (
        stats["written"]
        == {"ada": len(ada.received), "ms-one": len(ms_one.received)}
        == {"ada": 2, "ms-one": 11}
    )
