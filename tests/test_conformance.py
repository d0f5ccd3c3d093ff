"""The Autobahn Testsuite: a selection for real, and the judging of it on made-up reports.

The real part is skipped where there is no Python 2.7, unless ``WSCLIENT_REQUIRE_PEERS`` names ``autobahn``.
``make conformance`` runs more of it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conformance import python27
from conformance.__main__ import UNAVAILABLE, main
from conformance.cases import EVERYTHING, GROUPS, QUICK, STANDARD, group_of, select
from conformance.clients import CLIENTS, Client, run_case
from conformance.runner import Run, load, run, save
from conformance.suite import Suite, started
from conformance.tables import document, terminal_table
from conformance.verdict import EXCUSES, SILENT, Ending, Excuse, Outcome, Report, Result, faults, judge
from peers.launch import Place, Unavailable
from peers.requirement import available
from websockets.sync.server import ServerConnection, serve

import wsclient

ROOT = Path(__file__).resolve().parent.parent
ENDED = Ending("connection closed with code 1000", crashed=False)
PASS = Report(
    behavior="OK",
    behavior_close="OK",
    close_code=1000,
    explanation="Actual events match at least one expected.",
    negotiated=False,
    ratio=None,
)
COMPRESSED_PASS = replace(PASS, negotiated=True, ratio=0.25)


# -- which cases --------------------------------------------------------------------------------------


def test_all_groups_are_known() -> None:
    sizes = {group: len(select([f"{group}.*"])) for group in GROUPS}
    assert sizes == {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1, 12: 90, 13: 126}
    assert len(select(EVERYTHING)) == 517


def test_cases_come_once_and_in_order() -> None:
    assert select(["9.1.2", "9.1.*", "2.9", "2.1?"]) == (
        *("2.9", "2.10", "2.11"),
        *(f"9.1.{number}" for number in range(1, 7)),
    )


def test_a_pattern_without_a_case_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'7\.2\.\*'"):
        select(["7.1.*", "7.2.*"])


def test_the_standard_selection_leaves_out_sizes_only() -> None:
    chosen = select(STANDARD)
    assert set(select(["[1-9].*", "10.*"])) <= set(chosen)
    parts = {case.rpartition(".")[0] for case in select(["12.*", "13.*"])}
    assert parts <= {case.rpartition(".")[0] for case in chosen}


def test_the_quick_selection_has_something_of_each_group() -> None:
    assert {group_of(case) for case in select(QUICK)} == set(GROUPS)


def test_excuses_are_for_cases_that_exist_and_for_lenient_outcomes() -> None:
    assert {*EXCUSES, *SILENT} <= set(select(EVERYTHING))
    lenient = {Outcome.NON_STRICT, Outcome.INFORMATIONAL}
    assert {excuse.outcome for excuse in EXCUSES.values()} == lenient
    assert all(excuse.reason for excuse in EXCUSES.values())


# -- judging ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "report", "ending", "outcome"),
    [
        ("1.1.1", PASS, ENDED, Outcome.PASSED),
        ("13.1.1", COMPRESSED_PASS, ENDED, Outcome.PASSED),
        ("3.2", replace(PASS, behavior="NON-STRICT"), ENDED, Outcome.NON_STRICT),
        ("7.1.6", replace(PASS, behavior="INFORMATIONAL"), ENDED, Outcome.INFORMATIONAL),
        ("1.1.1", replace(PASS, behavior="FAILED"), ENDED, Outcome.FAILED),
        ("1.1.1", replace(PASS, behavior_close="FAILED"), ENDED, Outcome.FAILED),
        ("1.1.1", replace(PASS, behavior_close="UNCLEAN"), ENDED, Outcome.UNCLEAN),
        ("1.1.1", replace(PASS, behavior_close="WRONG CODE"), ENDED, Outcome.WRONG_CODE),
        ("6.4.3", replace(PASS, behavior="NON-STRICT", behavior_close="UNCLEAN"), ENDED, Outcome.UNCLEAN),
        ("7.3.2", replace(PASS, behavior="FAILED", behavior_close="WRONG CODE"), ENDED, Outcome.FAILED),
        ("12.1.1", replace(PASS, behavior="UNIMPLEMENTED"), ENDED, Outcome.UNIMPLEMENTED),
        ("12.1.1", PASS, ENDED, Outcome.UNIMPLEMENTED),
        ("1.1.1", replace(PASS, behavior="SPLENDID"), ENDED, Outcome.FAILED),
        ("1.1.1", replace(PASS, behavior_close="FAILED BY CLIENT"), ENDED, Outcome.FAILED),
        ("1.1.1", PASS, Ending("TypeError: no", crashed=True), Outcome.CRASHED),
        ("1.1.1", None, Ending("TypeError: no", crashed=True), Outcome.CRASHED),
        ("1.1.1", None, ENDED, Outcome.MISSING),
        ("1.1.1", PASS, None, Outcome.MISSING),
    ],
)
def test_outcome(case: str, report: Report | None, ending: Ending | None, outcome: Outcome) -> None:
    assert judge(case, report, ending).outcome is outcome


def clean_results(cases: tuple[str, ...]) -> dict[str, Result]:
    plain = {case: judge(case, COMPRESSED_PASS, ENDED) for case in cases}
    excused = {
        case: Result(case, excuse.outcome, 1002, "so it is")
        for case, excuse in EXCUSES.items()
        if case in plain
    }
    return plain | excused


def test_a_clean_run_has_no_faults() -> None:
    everything = select(EVERYTHING)
    assert faults(everything, clean_results(everything).values()) == []


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (Result("9.1.1", Outcome.FAILED, 1000, "no echo"), "failed, close code 1000: no echo"),
        (Result("9.1.1", Outcome.WRONG_CODE, 1000, "1002 or empty"), "wrong close code, close code 1000"),
        (Result("9.1.1", Outcome.UNCLEAN, 1000, "dropped"), "unclean"),
        (Result("12.1.1", Outcome.UNIMPLEMENTED, 1000, "not negotiated"), "unimplemented"),
        (Result("9.1.1", Outcome.CRASHED, None, "TypeError: no"), "crashed: TypeError: no"),
        (Result("9.1.1", Outcome.MISSING), "missing"),
        (Result("9.1.1", Outcome.NON_STRICT, 1000, "late"), "non-strict without being listed"),
        (Result("9.1.1", Outcome.INFORMATIONAL, 1000, "so"), "informational without being listed"),
        (Result("6.4.3", Outcome.INFORMATIONAL, 1007, "so"), "informational without being listed"),
        (Result("6.4.3", Outcome.FAILED, 1007, "no"), "failed"),
        (Result("9.1.1", Outcome.PASSED, None), "sent no close code"),
        (Result("6.4.3", Outcome.NON_STRICT, None), "sent no close code"),
    ],
)
def test_a_fault_is_noticed(result: Result, words: str) -> None:
    everything = select(EVERYTHING)
    results = clean_results(everything) | {result.case: result}
    found = faults(everything, results.values())
    assert len(found) == 1
    assert found[0].startswith(f"{result.case}: ")
    assert words in found[0]


def test_a_listed_case_may_pass_plainly() -> None:
    assert faults(["6.4.3"], [Result("6.4.3", Outcome.PASSED, 1007)]) == []


def test_an_empty_close_frame_may_be_answered_by_one() -> None:
    assert faults(["7.3.1"], [Result("7.3.1", Outcome.PASSED, None)]) == []
    assert faults(["7.3.1"], [Result("7.3.1", Outcome.PASSED, None)], silent=()) != []


def test_excuses_can_be_given() -> None:
    result = Result("9.1.1", Outcome.NON_STRICT, 1000)
    assert faults(["9.1.1"], [result], excuses={"9.1.1": Excuse(Outcome.NON_STRICT, "because")}) == []


def test_a_case_without_a_result_is_noticed() -> None:
    results = clean_results(("1.1.1", "1.1.2"))
    assert faults(["1.1.1", "1.1.2", "1.1.3"], results.values()) == [
        "1.1.3: missing: there is no result",
    ]


def test_a_result_that_was_not_asked_for_is_noticed() -> None:
    assert faults(["1.1.1"], clean_results(("1.1.1", "1.1.2")).values()) == ["1.1.2: was not asked for"]


def test_a_client_that_negotiates_and_never_compresses_is_noticed() -> None:
    report = replace(COMPRESSED_PASS, ratio=1.0)
    results = [judge(case, report, ENDED) for case in ("12.1.1", "12.1.4")]
    assert faults(["12.1.1", "12.1.4"], results) == [
        "compression was negotiated, and the client never compressed what it sent"
    ]


# -- the clients' own accounts ------------------------------------------------------------------------


@contextmanager
def closing_server() -> Iterator[str]:
    """A server that sends one message, reads its echo, and closes."""

    def once(conn: ServerConnection) -> None:
        conn.send("one")
        conn.recv(timeout=10)

    with serve(once, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join(10)


@pytest.mark.parametrize("name", CLIENTS)
def test_an_ordinary_end_is_no_crash(name: str) -> None:
    with closing_server() as url:
        ending = run_case(CLIENTS[name], url, compressed=True)
    assert not ending.crashed, ending


@pytest.mark.parametrize("name", CLIENTS)
def test_no_connection_is_a_crash(name: str) -> None:
    with closing_server() as url:
        pass
    assert run_case(CLIENTS[name], url, compressed=False).crashed


def _raises(url: str, compressed: bool) -> str:
    raise LookupError(url)


def _raises_in_a_thread(url: str, compressed: bool) -> str:
    thread = threading.Thread(target=_raises, args=(url, compressed))
    thread.start()
    thread.join(10)
    return "fine"


def _logs_an_error(url: str, compressed: bool) -> str:
    logging.getLogger("wsclient").error("callback %s failed", url)
    return "fine"


@pytest.mark.parametrize(
    ("echo", "text"),
    [
        (_raises, "LookupError: here"),
        (_raises_in_a_thread, "in a thread: LookupError: here"),
        (_logs_an_error, "logged: callback here failed"),
    ],
)
def test_a_crash_is_noticed_wherever_it_happens(
    echo: object, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(echo)
    before = threading.excepthook
    assert run_case(Client("wsclient", echo), "here", compressed=False) == Ending(text, crashed=True)
    assert threading.excepthook is before


# -- what is missing ----------------------------------------------------------------------------------


def executable(path: Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), **more}


def test_python_27_on_the_path_is_found(tmp_path: Path) -> None:
    python = executable(tmp_path / "bin" / "python2.7", "exit 0")
    assert python27.find(environment(tmp_path)) == python


def test_a_shim_that_leads_nowhere_is_passed_over(tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "python2.7", "exit 127")
    python = executable(tmp_path / ".pyenv" / "versions" / "2.7.18" / "bin" / "python2.7", "exit 0")
    assert python27.find(environment(tmp_path)) == python


def test_no_python_27_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"needs a Python 2\.7.*AUTOBAHN_PYTHON.*AUTOBAHN_URL"):
        python27.find(environment(tmp_path))


def test_the_named_python_counts_and_no_other(tmp_path: Path) -> None:
    python = executable(tmp_path / "elsewhere" / "python", "exit 0")
    executable(tmp_path / "bin" / "python2.7", "exit 0")
    assert python27.find(environment(tmp_path, AUTOBAHN_PYTHON=python)) == python
    with pytest.raises(Unavailable, match=r"AUTOBAHN_PYTHON=.* is not a Python 2\.7 that runs"):
        python27.find(environment(tmp_path, AUTOBAHN_PYTHON=sys.executable))


def test_a_python_that_has_the_suite_is_used_as_it_is(tmp_path: Path) -> None:
    python = executable(tmp_path / "bin" / "python2.7", "exit 0")
    assert python27.with_suite(python, environment(tmp_path)) == python


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"AUTOBAHN_URL": "http://127.0.0.1:9001"}, "AUTOBAHN_URL must be a ws:// URL"),
        ({"AUTOBAHN_URL": "ws://127.0.0.1:9001"}, "needs AUTOBAHN_REPORTS"),
    ],
)
def test_half_a_running_server_is_refused(settings: dict[str, str], text: str, tmp_path: Path) -> None:
    with (
        pytest.raises(Unavailable, match=text),
        started(("1.1.1",), tmp_path, environment(tmp_path, **settings)),
    ):
        pass


def test_what_is_missing_has_an_exit_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOBAHN_PYTHON", "/nowhere/python2.7")
    monkeypatch.delenv("AUTOBAHN_URL", raising=False)
    assert main(["--cases", "1.1.1"]) == UNAVAILABLE
    assert main(["--find"]) == UNAVAILABLE
    assert "AUTOBAHN_PYTHON=/nowhere/python2.7" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--cases", "8.*"], ["--clients", "curl"], ["--all", "--cases", "1.*"]]
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert arguments[0] in capsys.readouterr().err


# -- tables and results -------------------------------------------------------------------------------


def test_the_terminal_table_counts_each_group() -> None:
    results = [
        Result("1.1.1", Outcome.PASSED, 1000),
        Result("1.1.2", Outcome.CRASHED, None, "TypeError"),
        Result("10.1.1", Outcome.PASSED, 1000),
    ]
    assert [line.split() for line in terminal_table(results).splitlines()] == [
        ["group", "cases", "passed", "crashed"],
        ["1", "Framing", "2", "1", "1"],
        ["10", "Automatic", "fragmentation", "1", "1", "-"],
        ["all", "3", "2", "1"],
    ]


def test_results_are_kept_and_read_back(tmp_path: Path) -> None:
    done = Run("wsclient", "1.2.3", "3.11.7", (Result("3.2", Outcome.NON_STRICT, 1002, "late"),))
    save(done, tmp_path)
    assert load("wsclient", tmp_path) == done


def kept() -> list[Run]:
    return [load(name) for name in CLIENTS]


@pytest.mark.parametrize("name", CLIENTS)
def test_the_kept_results_are_of_one_full_run(name: str) -> None:
    assert [result.case for result in load(name).results] == list(select(EVERYTHING))


def test_the_kept_results_of_wsclient_have_no_fault() -> None:
    assert faults(select(EVERYTHING), load("wsclient").results) == []


def test_the_document_is_made_of_the_kept_results() -> None:
    assert (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8") == document(kept())


def test_the_document_shows_every_case_that_is_no_plain_pass() -> None:
    text = document(kept())
    shown = [
        case for run in kept() for r in run.results if r.outcome is not Outcome.PASSED for case in [r.case]
    ]
    assert shown
    assert all(case in text or f"{group_of(case)}.\\*" in text for case in shown)


# -- for real -----------------------------------------------------------------------------------------

REAL = pytest.mark.timeout(400)  # the first time makes the environment for Python 2.7


def _start(name: str, place: Place) -> AbstractContextManager[Suite]:
    return started(select(QUICK), place.folder)


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with available("autobahn", _start, request, tmp_path_factory) as found:
        yield found


def run_quietly(name: str, client: Client, suite: Suite, cases: tuple[str, ...]) -> tuple[Result, ...]:
    return run(name, client, suite, cases, progress=lambda case: None).results


@REAL
def test_wsclient_passes_something_of_each_group(suite: Suite) -> None:
    cases = select(QUICK)
    results = run_quietly("wsclient", CLIENTS["wsclient"], suite, cases)
    assert faults(cases, results) == []


@REAL
@pytest.mark.skipif(sys.platform != "linux", reason="reads the sockets off /proc")
def test_the_server_listens_on_loopback_alone(suite: Suite) -> None:
    port = int(suite.url.rpartition(":")[2])
    assert _listening_addresses(port) == {"127.0.0.1"}


def _listening_addresses(port: int) -> set[str]:
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            local, _, state = line.split()[1:4]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(_dotted(address))
    return found


def _dotted(address: str) -> str:
    if len(address) != 8:
        return address
    return ".".join(str(part) for part in int(address, 16).to_bytes(4, sys.byteorder))


def _crashes_on_a_fault(url: str, compressed: bool) -> str:
    with wsclient.connect(url, proxy=None) as conn:
        try:
            while True:
                conn.send(conn.recv(10))
        except wsclient.ConnectionClosed as error:
            raise LookupError("not expected here") from error


@REAL
def test_a_crash_that_the_suite_takes_for_a_pass_is_noticed(suite: Suite) -> None:
    crashing = Client("wsclient", _crashes_on_a_fault)
    results = run_quietly("crashing", crashing, suite, ("5.18",))
    assert [result.outcome for result in results] == [Outcome.CRASHED]
    assert faults(["5.18"], results) == ["5.18: crashed, close code 1002: LookupError: not expected here"]


@REAL
def test_a_client_without_compression_is_noticed(suite: Suite) -> None:
    results = run_quietly("plain", CLIENTS["websocket-client"], suite, ("12.1.4",))
    assert [result.outcome for result in results] == [Outcome.UNIMPLEMENTED]
    assert len(faults(["12.1.4"], results)) == 1


@REAL
def test_a_case_that_the_server_does_not_offer_is_noticed(suite: Suite) -> None:
    asked = "1.1.1"
    assert asked not in select(QUICK)
    results = run_quietly("wsclient", CLIENTS["wsclient"], suite, (asked,))
    assert results[0].outcome in {Outcome.CRASHED, Outcome.MISSING}
    assert len(faults([asked], results)) == 1


@REAL
def test_a_running_server_can_be_used(suite: Suite, tmp_path: Path) -> None:
    settings = environment(tmp_path, AUTOBAHN_URL=suite.url, AUTOBAHN_REPORTS=str(suite.folder))
    with started(("2.4",), tmp_path, settings) as running:
        results = run_quietly("wsclient", CLIENTS["wsclient"], running, ("2.4",))
    assert faults(["2.4"], results) == []


@REAL
def test_reports_that_are_elsewhere_are_missed(suite: Suite, tmp_path: Path) -> None:
    settings = environment(tmp_path, AUTOBAHN_URL=suite.url, AUTOBAHN_REPORTS=str(tmp_path))
    with started(("2.4",), tmp_path, settings) as running, pytest.raises(Unavailable, match="no reports"):
        run_quietly("wsclient", CLIENTS["wsclient"], running, ("2.4",))
