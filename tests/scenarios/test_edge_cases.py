"""What goes wrong in a classroom: each mistake gets its answer, and harms nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

import pytest

import wsclient
from scenarios.classroom import WAIT, Classroom, Hub, heard, running_hub
from wsclient import HandshakeError
from wsclient.testing import TestClient

MALFORMED = (
    "",
    "{",
    "not json",
    '{"type": "analytics"',
    "[]",
    "null",
    '"analytics"',
    "NaN",
    "[" * 10_000,
    "{}",
    '{"type": 1}',
    '{"type": null}',
    '{"type": "analytics", "context": 1}',
    '{"type": "analytics", "from_user": "bob"}',
    b'{"type": "analytics"}',
    b"\x00\xff",
)


def expect_error(client: TestClient, context: str) -> str:
    """Take the hub's next word, which must be that error; return its explanation."""
    message = client.receive()
    assert (message["type"], message["context"], message["from_user"]) == ("error", context, "hub")
    return str(message["content"]["message"])


def assert_alive(classroom: Classroom, student: TestClient) -> None:
    """The student is still heard."""
    teacher = classroom.instructor("late teacher")
    student.send_message("analytics", "alive")
    assert teacher.wait_for(from_user=student.user_id)["context"] == "alive"


class TestMistakes:
    @pytest.mark.parametrize("raw", MALFORMED, ids=lambda raw: repr(raw[:20]))
    def test_malformed(self, classroom: Classroom, raw: str | bytes) -> None:
        ada = classroom.student("ada")
        ada.send_raw(raw)
        expect_error(ada, "malformed")
        assert_alive(classroom, ada)

    def test_unknown_type(self, classroom: Classroom) -> None:
        ada = classroom.student("ada")
        ada.send_message("shout")
        assert "'shout'" in expect_error(ada, "unknown_type")
        assert_alive(classroom, ada)

    @pytest.mark.parametrize("kind", ["inbox_response", "request", "instructor_broadcast"])
    def test_what_only_instructors_say(self, classroom: Classroom, kind: str) -> None:
        ada = classroom.student("ada")
        ada.send_message(kind, to_user="bob")
        expect_error(ada, "forbidden")

    @pytest.mark.parametrize("kind", ["instructor_inbox", "request_response", "analytics"])
    def test_what_only_students_say(self, classroom: Classroom, kind: str) -> None:
        teacher = classroom.instructor("teacher")
        teacher.send_message(kind)
        expect_error(teacher, "forbidden")

    @pytest.mark.parametrize(
        ("kind", "to_user"),
        [("request", None), ("inbox_response", None), ("request", ""), ("instructor_broadcast", "ada")],
    )
    def test_wrong_recipient(self, classroom: Classroom, kind: str, to_user: str | None) -> None:
        teacher = classroom.instructor("teacher")
        teacher.send_message(kind, to_user=to_user)
        expect_error(teacher, "recipient")

    def test_a_recipient_that_is_no_name(self, classroom: Classroom) -> None:
        ada = classroom.student("ada")
        ada.send_json({"type": "analytics", "to_user": ["teacher"]})
        expect_error(ada, "recipient")

    def test_a_hundred_in_a_row(self, classroom: Classroom) -> None:
        ada, teacher = classroom.student("ada"), classroom.instructor("teacher")
        for number in range(100):
            ada.send_raw("{")
            ada.send_message("analytics", content=number)
        for _ in range(100):
            expect_error(ada, "malformed")
        assert [message["content"] for message in teacher.receive_many(100)] == list(range(100))
        classroom.close()
        stats = classroom.hub.final_stats(classroom.session_id)
        assert (stats["accepted"], stats["refused"]) == ({"ada": 100}, {"ada": 100})


class TestOversized:
    def test_content_just_under_the_limit(self, classroom: Classroom) -> None:
        ada, teacher = classroom.student("ada"), classroom.instructor("teacher")
        text = "ü" * (32 * 1024 - 1)  # two bytes each, and two quotation marks
        ada.send_message("analytics", content=text)
        assert teacher.receive()["content"] == text

    def test_content_over_the_limit_is_an_error(self, classroom: Classroom) -> None:
        ada = classroom.student("ada")
        ada.send_message("analytics", content="x" * 64 * 1024)
        assert "65538 bytes" in expect_error(ada, "oversized")
        assert_alive(classroom, ada)

    def test_a_message_over_the_frame_limit_ends_the_connection(self, classroom: Classroom) -> None:
        ada, bob = classroom.student("ada"), classroom.student("bob")
        ada.send_message("analytics", content="x" * 1024 * 1024)
        assert ada.wait_closed() == 1009
        assert_alive(classroom, bob)
        # She may come back.
        assert_alive(classroom, classroom.student("ada"))


class TestComingIn:
    def test_unknown_session(self, no_leaks: None, hub: Hub) -> None:
        client = TestClient("ada", "student", "no such session", hub.url, proxy=None)
        with pytest.raises(HandshakeError) as caught:
            client.connect()
        assert (caught.value.status, caught.value.body) == (404, b"unknown session\n")
        assert not client.is_connected

    def test_unknown_role(self, no_leaks: None, hub: Hub) -> None:
        with pytest.raises(HandshakeError) as caught:
            TestClient("ada", "headmaster", hub.take_session(), hub.url, proxy=None).connect()
        assert caught.value.status == 400
        assert b"role" in caught.value.body

    def test_unknown_path(self, no_leaks: None, hub: Hub) -> None:
        with pytest.raises(HandshakeError) as caught:
            TestClient("ada", "student", hub.take_session(), f"{hub.url}/elsewhere", proxy=None).connect()
        assert caught.value.status == 404

    @pytest.mark.parametrize("missing", ["user_id", "role", "session_id"])
    def test_missing_parameter(self, no_leaks: None, hub: Hub, missing: str) -> None:
        query = {"user_id": "ada", "role": "student", "session_id": hub.take_session()}
        del query[missing]
        url = f"{hub.url.replace('http', 'ws', 1)}/ws?{urlencode(query)}"
        with pytest.raises(HandshakeError) as caught:
            wsclient.connect(url, proxy=None)
        assert caught.value.status == 400
        assert missing.encode() in caught.value.body

    def test_names_of_any_kind(self, classroom: Classroom) -> None:
        teacher = classroom.instructor("teacher")
        for name in ("Zoë & Ümit", "a=b?c#d/e%20", "李", "hub"):
            student = classroom.student(name)
            student.send_message("analytics", content=name)
            assert teacher.wait_for(from_user=name)["content"] == name
            teacher.send_message("request", content=name, to_user=name)
            assert student.wait_for(type="request")["to_user"] == name


class TestRateLimit:
    def test_beyond_the_burst_messages_are_refused(self, no_leaks: None, tmp_path: Path) -> None:
        burst = 5
        with running_hub(tmp_path, "--rate", "0.001", "--burst", str(burst)) as hub:
            classroom = Classroom(hub)
            ada, bob = classroom.student("ada"), classroom.student("bob")
            teacher = classroom.instructor("teacher")
            for number in range(burst + 3):
                ada.send_message("analytics", content=number)
            for _ in range(3):
                expect_error(ada, "rate_limit")
            # The limit is a connection's own.
            bob.send_message("analytics", content="mine")
            assert teacher.wait_for(from_user="bob")["content"] == "mine"
            assert [m["content"] for m in heard(teacher) if m["from_user"] == "ada"] == list(range(burst))
            classroom.close()
            stats = hub.final_stats(classroom.session_id)
            assert (stats["accepted"]["ada"], stats["refused"]["ada"]) == (burst, 3)
            assert classroom.complaints() == []


def test_a_student_who_does_not_read_holds_up_nobody(no_leaks: None, tmp_path: Path) -> None:
    """More is sent than the sockets' buffers hold: the hub keeps a little, then ends that connection."""
    size, most = 60_000, 3000
    with running_hub(tmp_path, "--outbox", "10", "--history", "1", "--patience", "0.2") as hub:
        classroom = Classroom(hub)
        teacher, bob = classroom.instructor("teacher"), classroom.student("bob")
        query = urlencode({"user_id": "sleeper", "role": "student", "session_id": classroom.session_id})
        url = f"{hub.url.replace('http', 'ws', 1)}/ws?{query}"
        with wsclient.connect(url, proxy=None, max_received_messages=1, close_timeout=1) as sleeper:
            assert json.loads(sleeper.recv(WAIT))["context"] == "history_complete"
            sent = 0
            while "sleeper" in hub.stats(classroom.session_id)["members"] and sent < most:
                teacher.send_message("instructor_broadcast", content=[sent, "x" * size])
                assert bob.receive()["content"][0] == sent
                sent += 1
            assert sent < most
        assert_alive(classroom, classroom.student("cleo"))
        classroom.close()
        assert classroom.complaints() == []
