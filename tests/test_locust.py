"""``wsclient.locust`` in a process of its own, as importing Locust patches the standard library for good.

The cases are in ``locustfiles/cases.py``; they all run in one process, and each test looks at one of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import TLS

from wsclient.testing import (
    FaultServer,
    accept_upgrade,
    cut,
    echo,
    http_response,
    no_close_reply,
    read_messages,
    read_until_close,
    recorder,
    send_close,
    send_text,
    serve,
    stop_reading,
)

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 50

CONNECT, CLOSE = ("WS connect", None), ("WS close", None)


@dataclass(frozen=True)
class Outcome:
    """What one case returned, and what Locust was told meanwhile."""

    found: Any
    events: list[dict[str, Any]]
    errors: list[str]

    @property
    def told(self) -> list[tuple[str, str | None]]:
        """What happened, with its error if it failed."""
        return [(event["what"], event["error"]) for event in self.events]

    def one(self, what: str) -> dict[str, Any]:
        """The only event of that type and name."""
        (event,) = [event for event in self.events if event["what"] == what]
        return event


@pytest.fixture(scope="module")
def urls(tls: TLS) -> Iterator[dict[str, str]]:
    """Servers, outside of the process that is patched."""
    accept, losing = accept_upgrade(), [accept_upgrade(), read_messages(1), cut()]
    faults = {
        "refusing": FaultServer(http_response(403)),
        "closing": FaultServer(accept, read_messages(1), send_close(1001, "going"), read_until_close()),
        "losing": FaultServer(
            scripts=[losing, [accept, read_messages(1), send_text("again"), read_until_close()]]
        ),
        "endless": FaultServer(accept, no_close_reply()),
        "stalled": FaultServer(accept, stop_reading()),
        "tls stalled": FaultServer(accept, stop_reading(), ssl_context=tls.server),
    }
    with ExitStack() as stack:
        honest = {"echo": serve(echo), "silent": serve(recorder), "tls echo": serve(echo, tls=True)}
        found = {name: stack.enter_context(server).url for name, server in honest.items()}
        found |= {name: stack.enter_context(server).url for name, server in faults.items()}
        authorities = [honest["tls echo"].ca_pem or b"", tls.authority.cert_pem.bytes()]
        yield {**found, "authority": b"".join(authorities).decode()}


def run_python(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Python with warnings as errors, at the top of the tree."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT / "tests",
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONWARNINGS": "error"},
        input=given,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def _measured() -> list[str]:
    """How to measure the coverage of a process, while that of this one is measured."""
    if "coverage" not in sys.modules:
        return []
    from coverage import Coverage

    if (current := Coverage.current()) is None:
        return []
    data_file = Path(str(current.get_option("run:data_file"))).resolve()
    where = ["--rcfile", str(ROOT / "setup.cfg"), "--data-file", str(data_file)]
    return ["-m", "coverage", "run", *where, "--parallel-mode", "--concurrency=gevent"]


@pytest.fixture(scope="module")
def outcomes(urls: dict[str, str]) -> Mapping[str, Outcome]:
    done = run_python(*_measured(), "-m", "locustfiles.cases", given=json.dumps(urls))
    assert done.returncode == 0, done.stderr
    return {name: Outcome(**outcome) for name, outcome in json.loads(done.stdout).items()}


def test_every_method_is_told(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["every_method"]
    assert outcome.found == ["ask", str(b"\x00\x01"), "früh", "sure"]
    assert outcome.told == [
        CONNECT,
        ("WSC request", None),
        ("WSC bytes", None),
        ("WSS send", None),
        ("WSR receive", None),
        ("WSS send confirmed", None),
        ("WSR awaited", None),
        CLOSE,
    ]
    assert all(event["timed"] for event in outcome.events)
    assert [event["length"] for event in outcome.events] == [0, 3, 2, 5, 5, 4, 4, 0]
    assert all(event["context"] == {"visitor": 1} for event in outcome.events)


def test_what_nobody_asked_for_is_told_once(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["unasked"]
    assert outcome.found == "ask"
    received = [event for event in outcome.events if event["what"].startswith("WSR")]
    assert [(event["what"], event["timed"]) for event in received] == [
        ("WSR got one", False),
        ("WSR got timed", True),
    ]


def test_of_too_many_unasked_messages_the_oldest_go(outcomes: Mapping[str, Outcome]) -> None:
    assert outcomes["too_many_unasked"].found == [3, ["3", "4"]]


def test_messages_are_pushed_to_a_user_that_handles_them(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["pushed"]
    assert outcome.found == "answer one"
    assert sorted(outcome.told, key=lambda event: event[0]) == sorted(
        [
            CONNECT,
            ("WSS send", None),
            ("WSR got one", None),
            ("WSS send", None),
            ("WSR receive", None),
            CLOSE,
        ],
        key=lambda event: event[0],
    )


def test_a_bug_in_on_message_is_told_and_ends_nothing(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["a_bug_in_on_message"]
    assert outcome.errors == ["LookupError('a bug in on_message')"]
    assert outcome.found == "still there"


def test_a_wait_in_on_message_is_refused(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["a_wait_in_on_message"]
    (error,) = [event["error"] for event in outcome.events if event["error"] is not None]
    assert "would wait for itself" in error
    assert outcome.found == "still there"


def test_a_missing_reply_is_a_failure(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["no_reply"]
    assert outcome.found == "Timeout('no message within 0.05 s')"
    assert outcome.told == [CONNECT, ("WSC request", outcome.found), CLOSE]


def test_a_broken_match_fails_its_own_request(outcomes: Mapping[str, Outcome]) -> None:
    failure, found = outcomes["a_broken_match"].found
    assert failure == "ZeroDivisionError('division by zero')"
    assert found == "again"


def test_a_user_goes_on_trying_to_connect(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["refused"]
    assert "403" in outcome.found
    assert outcome.told == [("WS connect", outcome.found), ("WS connect", outcome.found)]


def test_a_close_by_the_server_is_a_failure_and_the_next_call_connects(
    outcomes: Mapping[str, Outcome],
) -> None:
    outcome = outcomes["closed_by_the_server"]
    lost = "ConnectionClosed(1001, 'going')"
    assert outcome.found == [lost, lost]
    once = [CONNECT, ("WS closed", lost), ("WSC request", lost)]
    assert outcome.told == once + once


def test_losses_and_reconnects_are_told(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["opened_again"]
    assert outcome.found[1] == "again"
    assert [what for what, _ in outcome.told] == [
        "WS connect",
        "WS disconnected",
        "WS reconnect",
        "WSC request",
        "WSC request",
        "WS close",
    ]
    assert outcome.one("WS disconnected")["error"] is not None
    assert outcome.one("WS reconnect")["timed"]


def test_a_close_without_an_answer_is_a_failure(outcomes: Mapping[str, Outcome]) -> None:
    (_, (what, error)) = outcomes["no_answer_to_the_close"].told
    assert what == "WS close"
    assert error is not None
    assert error.startswith("ConnectionClosed(1006")


def test_a_users_mistake_ends_the_test_and_is_named(outcomes: Mapping[str, Outcome]) -> None:
    unknown, owned, impossible, nowhere = outcomes["wrong_options"].found
    assert "open_timout" in unknown
    assert "on_message" in owned
    assert "open_timeout" in impossible
    assert "--host" in nowhere


def test_a_user_that_is_stopped_closes(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["stopped_while_waiting"]
    assert outcome.found == [False, True]
    assert outcome.told == [CONNECT, CLOSE]


def test_an_interrupt_ends_the_main_greenlet_and_not_a_reader(outcomes: Mapping[str, Outcome]) -> None:
    assert outcomes["interrupted"].found is True


def test_an_on_stop_of_the_users_own_leaves_no_connection(outcomes: Mapping[str, Outcome]) -> None:
    assert outcomes["without_on_stop"].told == [CONNECT, ("WSC request", None), CLOSE]


def test_twenty_users_in_one_process(outcomes: Mapping[str, Outcome]) -> None:
    expected = {"requests": 500, "failures": 0, "threads": [], "greenlets": []}
    assert outcomes["twenty_users"].found == expected


@pytest.mark.parametrize("case", ["many_senders", "many_senders_with_tls"])
def test_each_senders_order_is_kept(outcomes: Mapping[str, Outcome], case: str) -> None:
    assert outcomes[case].found is True


@pytest.mark.parametrize("case", ["stalled", "stalled_with_tls"])
def test_a_write_to_a_stalled_peer_has_a_deadline(outcomes: Mapping[str, Outcome], case: str) -> None:
    assert outcomes[case].found == ["ConnectionClosed", "PeerStalled"]


def test_the_verdict_on_a_peer_is_right(outcomes: Mapping[str, Outcome]) -> None:
    assert outcomes["a_silent_peer_that_reads_is_alive"].found == "still there"


def test_a_greenlet_that_is_killed_takes_no_message_along(outcomes: Mapping[str, Outcome]) -> None:
    assert outcomes["killed_while_it_waits"].found == [True, "next"]


@pytest.mark.parametrize("first", ["import locust", "import wsclient"])
def test_it_can_be_imported_in_any_order(first: str) -> None:
    done = run_python("-c", f"{first}\nfrom wsclient.locust import WebSocketUser")
    assert done.returncode == 0, done.stderr


def test_it_refuses_to_run_without_gevent() -> None:
    program = "import os\nos.environ['LOCUST_SKIP_MONKEY_PATCH'] = '1'\nimport wsclient.locust"
    assert "not patched for gevent" in run_python("-c", program).stderr.splitlines()[-1]


def test_a_missing_extra_is_named() -> None:
    program = "import sys\nsys.modules['gevent'] = None\nimport wsclient.locust"
    assert "pip install 'wsclient[locust]'" in run_python("-c", program).stderr.splitlines()[-1]
