"""What a classroom is for: question and answer, code review, analytics. Students sit in other processes."""

from __future__ import annotations

from collections import Counter

from scenarios import actors
from scenarios.classroom import WAIT, Classroom, heard
from scenarios.crew import Crew


class TestQuestionAndAnswer:
    def test_one_instructor_answers_and_only_the_student_hears_it(self, classroom: Classroom) -> None:
        ada, bob = classroom.student("ada"), classroom.student("bob")
        ms_one, mr_two = classroom.instructor("ms-one"), classroom.instructor("mr-two")
        ada.send_quick_message("instructor_inbox", "Why is the sky blue?")
        for instructor in (ms_one, mr_two):
            assert instructor.wait_for(from_user="ada")["content"]["text"] == "Why is the sky blue?"
        mr_two.send_direct_message("inbox_response", "Rayleigh.", "ada")
        assert ada.wait_for(type="inbox_response", from_user="mr-two")["content"]["text"] == "Rayleigh."
        ada.send_direct_message("instructor_inbox", "Thanks!", "mr-two")
        mr_two.wait_for(from_user="ada", where=lambda message: message["content"]["text"] == "Thanks!")
        ms_one.send_message("instructor_broadcast", "end")
        bob.wait_for(type="instructor_broadcast")
        assert [message["context"] for message in heard(bob)] == ["end"]
        assert len(heard(ms_one)) == 1

    def test_questions_wait_for_an_instructor_who_comes_late(self, classroom: Classroom) -> None:
        ada, bob = classroom.student("ada"), classroom.student("bob")
        for student in (ada, bob):
            student.send_quick_message("instructor_inbox", f"question of {student.user_id}")
            # An answer to a mistake: what was said before has been taken in.
            student.send_message("mistake")
            student.wait_for(type="error")
        teacher = classroom.instructor("teacher")
        for question in teacher.receive_many(2):
            teacher.send_direct_message(
                "inbox_response", f"to {question['content']['text']}", question["from_user"]
            )
        for student in (ada, bob):
            answer = student.wait_for(type="inbox_response")
            assert answer["content"]["text"] == f"to question of {student.user_id}"

    def test_many_questions_at_once_each_get_their_own_answer(self, classroom: Classroom) -> None:
        teacher = classroom.instructor("teacher")
        students = [classroom.student(f"student-{number}") for number in range(10)]
        for number in range(20):
            for student in students:
                student.send_message("instructor_inbox", "sum", [number, len(student.user_id)])
        for question in teacher.receive_many(200):
            answer = {"question": question["content"], "answer": sum(question["content"])}
            teacher.send_message("inbox_response", "sum", answer, question["from_user"])
        for student in students:
            answers = [message["content"] for message in student.receive_many(20)]
            size = len(student.user_id)
            assert answers == [{"question": [n, size], "answer": n + size} for n in range(20)]


def test_code_review_goes_back_and_forth_until_approved(classroom: Classroom) -> None:
    reviewer = classroom.instructor("reviewer")
    students = ("ada", "bob", "cleo")
    with Crew() as crew:
        for name in students:
            crew.start(
                actors.as_students, classroom.hub.url, classroom.session_id, [name], actors.submit_code
            )
        for name in students:
            reviewer.send_message("request", "code", {"file": f"{name}.py"}, name)
        for _ in range(3 * len(students)):
            submission = reviewer.wait_for(type="request_response")
            name, content = submission["from_user"], submission["content"]
            assert content["code"].startswith(f"# {name}, {name}.py\n")
            assert len(content["code"]) > 6000
            verdict = "approved" if content["version"] == 3 else f"not version {content['version']}"
            reviewer.send_message("inbox_response", "review", {"text": verdict}, name)
            if verdict != "approved":
                reviewer.send_message("request", "code", {"file": f"{name}.py"}, name)
        reviews = crew.results(WAIT)
    assert reviews == [[["not version 1", "not version 2", "approved"]]] * len(students)


def test_analytics_are_summed_up_for_everyone(classroom: Classroom) -> None:
    steps, processes, each = 25, 2, 4
    teacher, assistant = classroom.instructor("teacher"), classroom.instructor("assistant")
    names = [[f"student-{process}-{number}" for number in range(each)] for process in range(processes)]
    with Crew() as crew:
        for group in names:
            place = (classroom.hub.url, classroom.session_id, group)
            crew.start(actors.as_students, *place, actors.report_progress, steps)
        expected = steps * processes * each
        for instructor in (teacher, assistant):
            reports = instructor.receive_many(expected)
            done = Counter(report["from_user"] for report in reports)
            assert done == {name: steps for group in names for name in group}
            for name in done:
                progress = [report["content"]["step"] for report in reports if report["from_user"] == name]
                assert progress == list(range(1, steps + 1))
        teacher.send_message("instructor_broadcast", "summary", {"text": f"{expected} steps"})
        summaries = crew.results(WAIT)
    assert summaries == [[f"{expected} steps"] * each] * processes
