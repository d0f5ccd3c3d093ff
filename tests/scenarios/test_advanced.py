"""Several sessions at once, replacement in mid-conversation, fifty students, fifty threads."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scenarios import actors
from scenarios.classroom import WAIT, Classroom, Hub, heard, running_hub
from scenarios.crew import Crew
from wsclient import ConnectionClosed
from wsclient.testing import TestClient

REPLACED = 4000


class TestSessions:
    def test_three_at_once_do_not_leak_into_each_other(self, no_leaks: None, hub: Hub) -> None:
        """The same user names in all of them, each session in a process of its own."""
        students, rounds = 4, 20
        sessions = [hub.take_session() for _ in range(3)]
        with Crew() as crew:
            for session_id in sessions:
                crew.start(actors.hold_class, hub.url, session_id, students, rounds)
            classes = crew.results(WAIT)
        for session_id, everyone in zip(sessions, classes, strict=True):
            assert len(everyone) == students + 1
            for user_id, messages in everyone:
                assert {(message["session_id"], message["context"]) for message in messages} == {
                    (session_id, session_id)
                }
                assert len(messages) == rounds * (students if user_id == "teacher" else 2)

    def test_direct_messages_stay_in_their_session(self, no_leaks: None, hub: Hub) -> None:
        here, there = Classroom(hub), Classroom(hub)
        try:
            (teacher, ada), (other_teacher, namesake) = (
                (room.instructor("teacher"), room.student("ada")) for room in (here, there)
            )
            teacher.send_message("request", "here", to_user="ada")
            ada.wait_for(type="request")
            # Sent later, so what would have leaked would have come first.
            other_teacher.send_message("request", "there", to_user="ada")
            namesake.wait_for(type="request")
            assert [message["context"] for message in heard(namesake)] == ["there"]
            assert ada.is_connected, "a namesake in another session replaces nobody"
        finally:
            here.close()
            there.close()
        assert here.complaints() + there.complaints() == []


class TestReplacement:
    def test_the_older_connection_is_closed_and_the_newer_goes_on(self, classroom: Classroom) -> None:
        teacher, older = classroom.instructor("teacher"), classroom.student("ada")
        older.send_message("instructor_inbox", content="before")
        teacher.wait_for(from_user="ada")
        newer = classroom.student("ada")
        assert older.wait_closed() == REPLACED
        assert older.connection.close_reason == "replaced by a newer connection"
        with pytest.raises(ConnectionClosed):
            older.send_message("instructor_inbox", content="too late")
        assert [message["content"] for message in newer.drain()] == ["before"]
        newer.send_message("instructor_inbox", content="after")
        assert teacher.wait_for(from_user="ada")["content"] == "after"
        teacher.send_message("inbox_response", content="heard", to_user="ada")
        assert newer.wait_for(type="inbox_response")["content"] == "heard"
        assert newer.is_connected

    def test_while_requests_keep_coming(self, classroom: Classroom) -> None:
        """What the older connection got is a beginning; the newer gets all: nothing falls between."""
        count = 400
        teacher, older = classroom.instructor("teacher"), classroom.student("ada")

        def keep_asking() -> None:
            for number in range(count):
                teacher.send_message("request", content=number, to_user="ada")

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(keep_asking)
            older.receive_many(20)
            newer = classroom.student("ada")
            asking.result(WAIT)
        newer.wait_for(where=lambda message: message["content"] == count - 1)
        assert older.wait_closed() == REPLACED
        beginning = [message["content"] for message in heard(older)]
        assert beginning == list(range(len(beginning)))
        assert len(beginning) >= 20
        assert [message["content"] for message in heard(newer)] == list(range(count))

    def test_while_it_is_sending_from_four_threads(self, classroom: Classroom) -> None:
        """In another process. What was accepted was heard or is handed back, but for a tail on the wire."""
        threads = 4
        teacher = classroom.instructor("teacher")
        with Crew() as crew:
            crew.start(actors.ask_until_replaced, classroom.hub.url, classroom.session_id, "ada", threads)
            teacher.receive_many(200)
            classroom.student("ada")
            [(accepted, code, account)] = crew.results(WAIT)
        classroom.close()
        assert code == REPLACED
        order = defaultdict(list)
        for message in heard(teacher):
            thread, number = message["content"]
            order[thread].append(number)
        assert order == {thread: list(range(len(order[thread]))) for thread in range(threads)}
        assert all(len(order[thread]) <= accepted[thread] for thread in range(threads))
        assert account.written == account.sent
        stats = classroom.hub.final_stats(classroom.session_id)
        assert len(heard(teacher)) == stats["accepted"]["ada"] <= account.sent

    def test_again_and_again(self, classroom: Classroom) -> None:
        teacher = classroom.instructor("teacher")
        older: list[TestClient] = []
        for number in range(10):
            ada = classroom.student("ada")
            ada.send_message("instructor_inbox", content=number)
            assert teacher.receive()["content"] == number
            older.append(ada)
        assert [client.wait_closed() for client in older[:-1]] == [REPLACED] * 9
        assert older[-1].is_connected
        assert classroom.hub.stats(classroom.session_id)["members"] == ["ada", "teacher"]


def test_fifty_students(classroom: Classroom) -> None:
    teacher = classroom.instructor("teacher")
    students = [classroom.student(f"student-{number}") for number in range(50)]
    teacher.send_message("instructor_broadcast", "welcome")
    for number, student in enumerate(students):
        teacher.send_message("request", "your number", number, student.user_id)
    for number, student in enumerate(students):
        welcome, request = student.receive_many(2)
        assert (welcome["context"], request["content"]) == ("welcome", number)
        student.send_message("request_response", "my number", number)
        student.send_message("analytics", "done")
    messages = teacher.receive_many(100)
    answers = {m["from_user"]: m["content"] for m in messages if m["type"] == "request_response"}
    assert answers == {f"student-{number}": number for number in range(50)}
    assert sum(message["type"] == "analytics" for message in messages) == 50


def test_fifty_threads_write_through_one_client(classroom: Classroom) -> None:
    """What broke the test client that this project began with."""
    threads, each = 50, 20
    teacher, ada = classroom.instructor("teacher"), classroom.student("ada")

    def say(thread: int) -> None:
        for number in range(each):
            ada.send_message("analytics", content=[thread, number])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(say, range(threads)))
    order = defaultdict(list)
    for message in teacher.receive_many(threads * each):
        thread, number = message["content"]
        order[thread].append(number)
    assert order == {thread: list(range(each)) for thread in range(threads)}


def test_the_hub_dies(no_leaks: None, tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        classroom = Classroom(hub)
        clients = [classroom.instructor("teacher"), classroom.student("ada"), classroom.student("bob")]
        hub.kill()
        assert [client.wait_closed() for client in clients] == [1006] * 3
        for client in clients:
            with pytest.raises(ConnectionClosed):
                client.send_message("analytics")
        classroom.close()
