"""Load runs against real servers: what is measured, and where every message is."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HOST

from wsclient import Connection, Credentials, Reconnect
from wsclient.load import TLS, Account, Expect, Plan, Progress, Result, run
from wsclient.load.ends import ScenarioEnd
from wsclient.load.payload import maker_of
from wsclient.load.recorder import Recorder
from wsclient.load.scenario import load_scenario
from wsclient.load.traffic import Traffic
from wsclient.testing import (
    FaultServer,
    ServerConnection,
    accept_upgrade,
    counter,
    echo,
    read_messages,
    read_until_close,
    recorder,
    reset,
    serve,
    stall,
    wait,
)

ROOT = Path(__file__).resolve().parent.parent
SHORT = 0.3  # seconds that an answer may take, where none comes
WAIT = 30.0  # seconds; bounds what takes a moment on an idle machine


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def balanced(result: Result, *, answers: bool = True) -> Account:
    """The account, after a look whether it adds up and agrees with what the connections have counted."""
    assert result.account.problems(answers=answers) == ()
    assert "AccountMismatch" not in {error.kind for error in result.errors}
    assert sum(second.sent for second in result.seconds) == result.account.accepted
    assert sum(second.received for second in result.seconds) == result.account.received
    assert sum(second.errors for second in result.seconds) == result.error_count
    assert sum(second.samples for second in result.seconds) == result.latency.count
    return result.account


# -- what is sent and what comes back -------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"messages": 101, "connections": 3, "workers": 2},
        {"messages": 101, "connections": 3, "workers": 2, "rate": 2000},
        {"messages": 20, "binary": True, "size": 20},
        {"messages": 3, "size": 200_000, "rate": 100},
        {"messages": 10, "connections": 2, "rate_per_connection": 100, "ramp": 0.05},
        {"messages": 20, "expect": "reply", "connections": 2, "size": 0},
        {"messages": 20, "expect": "reply", "workers": 4, "rate": 500},
        {"messages": 20, "options": {"compression": "deflate"}},
    ],
    ids=str,
)
def test_every_message_is_answered(echo_server: str, given: dict[str, Any]) -> None:
    result = run(Plan(url=echo_server, **given))
    account = balanced(result)
    count = given["messages"]
    assert (account.accepted, account.answered, account.received, account.skipped) == (count,) * 3 + (0,)
    assert result.latency.count == count
    assert result.latency.since == ("intended" if "rate" in str(given) else "sent")
    assert (result.setup.opened, result.setup.failed) == (given.get("connections", 1), 0)
    assert result.errors == ()
    assert not result.interrupted


def test_nothing_is_sent_before_the_start(echo_server: str) -> None:
    # So few that they would all be: the rates are over the time from the start.
    result = run(Plan(url=echo_server, messages=3))
    assert 0 < result.elapsed < WAIT
    assert result.sent_rate == 3 / result.elapsed


def test_without_answers_messages_are_confirmed(echo_server: str) -> None:
    with serve(recorder) as server:
        result = run(Plan(url=server.url, messages=500, workers=3, connections=2, expect=Expect.NONE))
        assert len(server.received) == 500
    account = balanced(result, answers=False)
    assert (account.confirmed, account.in_doubt, account.received) == (500, 0, 0)
    assert result.latency.what == "time to written"
    assert 0 < result.latency.count < 500  # a sample


def test_in_an_open_loop_without_answers_times_count_from_when_messages_are_due() -> None:
    with serve(recorder) as server:
        result = run(Plan(url=server.url, messages=100, rate=1000, expect=Expect.NONE))
    assert balanced(result, answers=False).confirmed == 100
    assert (result.latency.count, result.latency.since) == (100, "intended")


def test_lines_of_a_file_come_back(echo_server: str, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"n": 1}\n{"id": "{id}"}\nthe same\nthe same\n')
    result = run(Plan(url=echo_server, messages=50, workers=3, payload_file=str(path), rate=2000))
    assert balanced(result).answered == 50


def test_over_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    with serve(echo, tls=True) as server:
        path = tmp_path / "ca.pem"
        assert server.ca_pem is not None
        path.write_bytes(server.ca_pem)
        refused = run(Plan(url=server.url, messages=1))
        trusted = run(Plan(url=server.url, messages=5, tls=TLS(ca_file=str(path))))
        careless = run(Plan(url=server.url, messages=5, tls=TLS(insecure=True)))
    assert [error.kind for error in refused.errors] == ["ConnectFailed"]
    assert balanced(trusted).answered == balanced(careless).answered == 5


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no")
    with pytest.raises(ValueError, match="tls: cannot use"):
        Plan(url="wss://x/", messages=1, tls=TLS(ca_file=str(path)))


# -- answers that are not right ---------------------------------------------------------------------------


async def _silent_at_times(connection: Any) -> None:
    number = 0
    async for message in connection:
        number += 1
        if number % 5:
            await connection.send(message)


async def _odd(connection: Any) -> None:
    number = 0
    async for message in connection:
        number += 1
        await connection.send(message[:-1] + "?" if number == 1 else message)
        if number == 2:
            await connection.send(message)
            await connection.send("good day")


def test_what_is_not_answered_is_lost() -> None:
    with serve(_silent_at_times) as server:
        result = run(Plan(url=server.url, messages=20, rate=500, reply_timeout=SHORT))
    account = balanced(result)
    assert (account.answered, account.lost, account.in_doubt) == (16, 4, 0)
    assert [(error.kind, error.count) for error in result.errors] == [("NoAnswer", 4)]
    assert any("4 messages were lost" in warning for warning in result.warnings)


def test_in_a_closed_loop_too() -> None:
    with serve(_silent_at_times) as server:
        result = run(Plan(url=server.url, messages=6, reply_timeout=SHORT))
    account = balanced(result)
    assert (account.answered, account.lost) == (5, 1)


def test_no_reply_at_all() -> None:
    with serve(recorder) as server:
        result = run(Plan(url=server.url, messages=6, rate=100, reply_timeout=SHORT, expect=Expect.REPLY))
    account = balanced(result)
    assert (account.answered, account.lost, result.latency.count) == (0, 6, 0)


def test_answers_are_looked_at() -> None:
    with serve(_odd) as server:
        result = run(Plan(url=server.url, messages=10, rate=500))
    account = balanced(result)
    assert (account.answered, account.lost) == (9, 1)
    assert (account.corrupted, account.duplicated, account.unexpected) == (1, 1, 1)


def test_a_server_that_counts_is_no_echo_server() -> None:
    with serve(counter) as server:
        result = run(Plan(url=server.url, messages=3, rate=100, reply_timeout=SHORT))
    assert balanced(result).unexpected == 3
    assert any("is this an echo server?" in warning for warning in result.warnings)


# -- connections that fail, or end -----------------------------------------------------------------------


def test_nobody_there_is_a_result() -> None:
    result = run(Plan(url=f"ws://{HOST}:1/?token=s3cr3t", connections=3, messages=30, rate=10))
    account = balanced(result)
    assert (account.attempted, account.skipped, result.setup.failed) == (0, 30, 3)
    assert [(error.kind, error.count) for error in result.errors] == [("ConnectFailed", 3)]
    assert "3 of 3 connections could not be opened" in result.warnings
    assert "s3cr3t" not in str(result.as_dict())


def _end_at_tenth(connection: ServerConnection) -> None:
    for number, message in enumerate(connection, 1):
        if number == 10:
            connection.close(4000, "enough")
            return
        connection.send(message)


@pytest.mark.parametrize(
    "given", [{}, {"rate": 500}, {"expect": "none", "rate": 500}, {"expect": "reply", "rate": 500}], ids=str
)
def test_a_server_that_closes_in_the_middle_gives_a_result(given: dict[str, Any]) -> None:
    with serve(_end_at_tenth) as server:
        result = run(Plan(url=server.url, connections=2, messages=1000, reply_timeout=SHORT, **given))
    account = balanced(result, answers=given.get("expect") != "none")
    assert account.attempted + account.skipped == 1000
    assert account.answered <= 18
    (error,) = (error for error in result.errors if error.kind == "ConnectionClosed")
    assert (error.count, error.first) == (2, "closed by the server with code 4000: enough")


def test_a_link_that_is_cut_leaves_its_messages_in_doubt() -> None:
    with FaultServer(accept_upgrade(), read_messages(20), reset()) as server:
        result = run(Plan(url=server.url, messages=1000, rate=2000, expect=Expect.NONE))
    account = balanced(result, answers=False)
    assert account.in_doubt > 0
    assert account.confirmed == 0


def _restarting() -> Callable[[ServerConnection], None]:
    """An echo server that closes its first connection after 20 messages."""
    visits = itertools.count()

    def handle(connection: ServerConnection) -> None:
        visit = next(visits)
        for number, message in enumerate(connection, 1):
            connection.send(message)
            if (visit, number) == (0, 20):
                connection.close(1012, "restart")
                return

    return handle


@pytest.mark.parametrize("expect", ["echo", "reply", "none"])
@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
def test_with_reconnect_it_goes_on(expect: str, delivery: str) -> None:
    if (expect, delivery) == ("reply", "at_least_once"):
        pytest.skip("refused by the plan: see test_load_parts.py")
    options = {"reconnect": Reconnect(initial_delay=0.01, jitter="none"), "delivery": delivery}
    with serve(_restarting()) as server:
        plan = Plan(
            url=server.url,
            messages=100,
            rate=500,
            reply_timeout=1,
            expect=Expect(expect),
            options=options,
        )
        result = run(plan)
    account = balanced(result, answers=expect != "none")
    assert account.accepted == 100
    assert account.answered or expect == "none"
    assert {error.kind for error in result.errors} >= {"Disconnected"}
    assert account.in_doubt == 0 or delivery == "at_most_once"


@pytest.mark.parametrize("expect", [Expect.NONE, Expect.ECHO])
def test_what_nobody_remembers_at_the_end_is_in_doubt(expect: Expect) -> None:
    # Written, more than max_in_doubt_bytes has room for, and the connection is gone: nothing says it arrived.
    plan = Plan(url="ws://localhost", messages=50, expect=expect, options={"reconnect": True})
    traffic = Traffic(plan, "prefix", Recorder())
    make = maker_of(plan, "abcd", 0, 0, ())
    with FaultServer(accept_upgrade(), stall()) as server:
        options: dict[str, Any] = {"on_message": traffic.on_message, "on_disconnect": traffic.on_disconnect}
        connection = Connection(server.url, reconnect=True, max_in_doubt_bytes=1000, **options)
        connection.open()
        for number in range(50):
            if plan.answers:
                assert traffic.send(connection, 0, number, make(number), 0.0, None)
            else:
                assert traffic.send_only(connection, 0, number, make(number), None)
            connection.flush()  # each its own batch: they are forgotten by the batch
        connection.abort()
        account = traffic.settle(connection)
    assert connection.stats().forgotten_messages > 0
    assert account.problems(answers=plan.answers) == ()
    assert (account.written, account.confirmed, account.in_doubt) == (50, 0, 50)


# -- scenarios ------------------------------------------------------------------------------------------

SCENARIO = """
def setup(client):
    client.send_json({"setup": client.user_id})
    client.receive()

def scenario(client):
    client.send_json({"type": "question"})
    client.wait_for(type="question")

def teardown(client):
    client.send_json({"teardown": True})
    client.receive()
"""


def test_a_scenario_is_played_by_every_worker(tmp_path: Path) -> None:
    path = tmp_path / "talk.py"
    path.write_text(SCENARIO)
    with serve(echo) as server:
        plan = Plan(
            url=server.url,
            scenario=str(path),
            connections=2,
            workers=2,
            messages=20,
            options={"credentials": Credentials("ada", "student", "one")},
        )
        result = run(plan)
        queries = {record.query["user_id"] for record in server.connections}
    account = balanced(result, answers=False)
    assert (result.latency.count, result.latency.what) == (20, "scenario")
    assert (account.confirmed, account.received) == (24, 24)
    assert queries == {"ada-0", "ada-1"}


def test_what_is_being_written_when_it_is_confirmed_is_confirmed(tmp_path: Path) -> None:
    # The writer has taken it out of the queue, and has not counted it yet.
    path = tmp_path / "talk.py"
    path.write_text("def scenario(client): ...")
    go = threading.Event()
    with FaultServer(accept_upgrade(), wait(go), read_until_close()) as server:
        plan = Plan(url=server.url, scenario=str(path), messages=1)
        end = ScenarioEnd(plan, 0, load_scenario(str(path)), Recorder())
        end.open()
        end.connection.send(bytes(15 * 2**20))  # more than the sockets take
        _until(lambda: end.connection.queued_messages == 0)
        assert end.connection.stats().messages_sent == 0
        go.set()
        assert end.confirm(WAIT)
        assert end.running().confirmed == 1
        end.connection.close()
        assert end.settle().in_doubt == 0


def test_what_a_scenario_raises_is_an_error_of_that_call(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def scenario(client):\n    raise KeyError('so')")
    with serve(echo) as server:
        result = run(Plan(url=server.url, scenario=str(path), messages=7, rate=200))
    assert [(error.kind, error.count, error.first) for error in result.errors] == [("KeyError", 7, "'so'")]
    assert result.latency.count == 0


def test_a_scenario_whose_connection_ends_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "talk.py"
    path.write_text(SCENARIO)
    with serve(_end_at_tenth) as server:
        result = run(Plan(url=server.url, scenario=str(path), messages=100))
    assert [(error.kind, error.count) for error in result.errors] == [("ConnectionClosed", 1)]
    balanced(result, answers=False)


# -- the end, early ---------------------------------------------------------------------------------------


def _endless(url: str, **given: Any) -> Plan:
    return Plan(**{"url": url, "connections": 2, "workers": 2, "duration": 600, "rate": 500, **given})


@pytest.mark.parametrize("given", [{}, {"rate": None}], ids=str)
def test_stop_ends_a_run_with_what_was_measured(echo_server: str, given: dict[str, Any]) -> None:
    stop, told = threading.Event(), list[Progress]()

    def on_progress(progress: Progress) -> None:
        told.append(progress)
        stop.set()

    result = run(_endless(echo_server, **given), on_progress=on_progress, stop=stop)
    account = balanced(result)
    assert result.interrupted
    assert account.answered == account.accepted >= told[0].account.answered > 0
    assert told[0].opened == 2
    assert told[0].samples > 0
    assert told[0].second.second == 0


def test_what_on_progress_raises_ends_the_run(echo_server: str) -> None:
    def on_progress(_: Progress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        run(_endless(echo_server), on_progress=on_progress)


PROGRAM = """
import os, signal, sys
from wsclient.load import Plan, run

def on_progress(progress):
    if progress.second.second > 0:
        return
    if again:  # while answers that never come are waited for, for a second
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
    os.killpg(0, signal.SIGINT)  # as a terminal does: the children get it too

if __name__ == "__main__":
    url, processes, again = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "again"
    plan = Plan(url=url, connections=2, rate=200, duration=600, processes=processes, reply_timeout=600)
    try:
        result = run(plan, on_progress=on_progress)
    except KeyboardInterrupt:
        print("left")
    else:
        print(result.interrupted, result.account.accepted > 0, result.account.problems(answers=True))
"""


def _interrupted(url: str, folder: Path, *arguments: str) -> tuple[int, str, str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), url, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
        start_new_session=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_ctrl_c_ends_a_run_with_what_was_measured(echo_server: str, tmp_path: Path, processes: str) -> None:
    assert _interrupted(echo_server, tmp_path, processes, "once") == (0, "True True ()\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path, processes: str) -> None:
    with serve(recorder) as server:
        assert _interrupted(server.url, tmp_path, processes, "again") == (0, "left\n", "")


# -- processes ------------------------------------------------------------------------------------------


FIRST_MASKS = """
import multiprocessing
from pathlib import Path
from wsclient.load import Plan
from wsclient.load.messages import Share
from wsclient.load.processes import ProcessHost

if __name__ == "__main__":
    plan = Plan(url="ws://localhost:1/", connections=2, processes=2, messages=2)
    shares = [Share(plan=plan, index=index, connections=(index,), nonce="abcd", lines=()) for index in (0, 1)]
    host = ProcessHost(shares)
    host.begin()
    for child in multiprocessing.active_children():
        mask = Path(f"/proc/{child.pid}/status").read_text().partition("SigBlk:")[2].split()[0]
        print(bool(int(mask, 16) & 1 << 1))  # the bit of SIGINT
    host.close()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
def test_ctrl_c_does_not_reach_processes_that_are_starting(tmp_path: Path) -> None:
    # Nor the first, before which multiprocessing starts a process of its own and unblocks signals.
    program = tmp_path / "program.py"
    program.write_text(FIRST_MASKS)
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


def test_processes_share_the_work(echo_server: str) -> None:
    result = run(Plan(url=echo_server, connections=3, workers=2, processes=2, messages=60, rate=300))
    account = balanced(result)
    assert (account.answered, account.unexpected, result.resources.processes) == (60, 0, 2)
    assert result.errors == ()


def test_a_process_that_is_killed_is_an_error_of_the_run(echo_server: str) -> None:
    stop = threading.Event()

    def on_progress(progress: Progress) -> None:
        children = [
            child for child in multiprocessing.active_children() if child.name.startswith("wsclient-load")
        ]
        if progress.second.second == 0 and children:
            children[0].kill()
        else:
            stop.set()

    result = run(_endless(echo_server, processes=2), on_progress=on_progress, stop=stop)
    account = result.account
    assert account.problems(answers=True) == ()
    assert account.answered > 0
    (error,) = result.errors
    assert (error.kind, error.count) == ("ProcessEnded", 1)
    assert error.first.endswith("ended with signal SIGKILL")


def test_a_scenario_that_fails_in_a_process_is_an_error_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "talk.py"
    path.write_text(
        "import multiprocessing\n"
        "def scenario(client): ...\n"
        "if multiprocessing.parent_process(): raise OSError('no data here')\n"
    )
    result = run(Plan(url=f"ws://{HOST}:1/", scenario=str(path), connections=2, processes=2, messages=2))
    (error,) = result.errors
    assert (error.kind, error.count) == ("ProcessEnded", 2)
    assert "no data here" in error.first


# -- open connections --------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
def test_connections_that_are_done_do_not_look_lost(echo_server: str, processes: int) -> None:
    plan = Plan(url=echo_server, connections=4, messages=60, rate=400, processes=processes)
    result = run(plan)
    balanced(result)
    assert [second.open_connections for second in result.seconds] == [4] * len(result.seconds)


def test_connections_that_are_lost_are_seen_to_be() -> None:
    with serve(_end_at_tenth) as server:
        result = run(Plan(url=server.url, connections=2, messages=1000, rate=500))
    assert result.seconds[-1].open_connections == 0


# -- memory -----------------------------------------------------------------------------------------------


def test_what_is_kept_of_answers_that_never_come_is_bounded() -> None:
    with serve(recorder) as server:
        plan = Plan(url=server.url, duration=0.4, rate=500, reply_timeout=SHORT, max_in_flight=20)
        result = run(plan)
    account = balanced(result)
    assert account.accepted <= 60  # each 20 wait until they are given up, which takes a confirmation
    assert account.skipped == 200 - account.attempted
    assert account.lost == account.accepted


def test_an_older_confirmation_does_not_undo_a_newer_one() -> None:
    # The first of each second is under way when such a short run asks for its last.
    with serve(recorder) as server:
        for _ in range(2):
            plan = Plan(url=server.url, duration=0.02, expect=Expect.NONE)
            account = balanced(run(plan), answers=False)
            assert account.confirmed == account.accepted > 0
