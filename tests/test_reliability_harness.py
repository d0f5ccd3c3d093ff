"""The harness of ``reliability``: it injects what it says, and its account would show a loss."""

from __future__ import annotations

import ast
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout  # in Python 3.10 another one than the built-in
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reliability.account import Account, Evidence, Identity, Verdict, table
from reliability.client import Client
from reliability.command import UNAVAILABLE, execute, parse
from reliability.document import DOCUMENT, STANDARD, Row, document, load, load_soak, save
from reliability.journal import Journal, Kind, read
from reliability.plan import Delivery, Plan
from reliability.processes import ROOT, TESTS, Unavailable, environment, find_program
from reliability.proxy import FaultProxy
from reliability.scenarios import SCENARIOS
from reliability.script import Fault, FrameEnds, Step, marks, script
from reliability.servers import VerifyingServer
from reliability.wire import Wire

import wsclient
from benchmarks.messages import Workload
from wsclient.testing import encode_frame

WAIT = 20.0  # seconds; bounds what takes milliseconds
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
FRAME = 70  # bytes of a frame with a message of 64
PLAIN = Plan(messages=400, threads=4, faults=1, delivery=Delivery.PLAIN)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VerifyingServer]:
    """A verifying server that does not run yet."""
    with VerifyingServer(tmp_path) as held:
        yield held


def connect(url: str, **options: Any) -> wsclient.Connection:
    return wsclient.connect(url, proxy=None, **options)


def messages(count: int, size: int = 64) -> list[str]:
    return list(Workload(1, count, size).of_thread(0))


def numbers(server: VerifyingServer) -> list[int]:
    return [number for _, number in server.arrivals()]


# -- the account --------------------------------------------------------------------------------------


def arrivals(*numbers: int) -> list[tuple[int, int]]:
    return [(0, number) for number in numbers]


class TestVerdict:
    def test_of_a_run_without_faults(self) -> None:
        verdict = Verdict.on(Evidence(accepted=[2, 1], arrivals=[(0, 0), (1, 0), (0, 1)], written=3))
        assert verdict == Verdict(3, 3, 0, 0, 0, 0, ())

    def test_adds_up(self) -> None:
        evidence = Evidence(
            [6], arrivals(0, 1, 1, 2), unsent=arrivals(5), in_doubt=arrivals(2, 3), may_repeat=True
        )
        verdict = Verdict.on(evidence)
        assert verdict == Verdict(
            accepted=6, received=3, duplicated=1, in_doubt=1, unsent=1, lost=1, complaints=verdict.complaints
        )
        assert verdict.complaints == ("1 messages lost: 4 of thread 0",)

    def test_what_came_last_may_be_in_doubt_where_no_doubt_is_reported(self) -> None:
        evidence = Evidence([5], arrivals(0, 1), unsent=arrivals(4), assume_doubt=True, written=4)
        assert Verdict.on(evidence) == Verdict(5, 2, 0, 2, 1, 0, ())

    def test_a_hole_is_lost_even_so(self) -> None:
        verdict = Verdict.on(Evidence([4, 1], arrivals(0, 2), assume_doubt=True))
        assert (verdict.lost, verdict.in_doubt) == (1, 2)  # the other thread's may have been the very last

    def test_many_examples_are_cut_short(self) -> None:
        (complaint,) = Verdict.on(Evidence([100], [])).complaints
        assert complaint == "100 messages lost: 0 of thread 0, 1 of thread 0, 2 of thread 0, ..."

    @pytest.mark.parametrize(
        ("evidence", "words"),
        [
            (Evidence([3], arrivals(0, 2, 1)), "arrived first after a later one"),
            (Evidence([1], arrivals(0, 1)), "never accepted"),
            (Evidence([1], arrivals(0), unsent=arrivals(1)), "never accepted"),
            (Evidence([1], arrivals(0), in_doubt=[(7, 0)]), "never accepted"),
            (Evidence([1], arrivals(0), unsent=arrivals(0)), "unsent, but were received"),
            (Evidence([1], [], unsent=arrivals(0), in_doubt=arrivals(0)), "both unsent and in doubt"),
            (Evidence([1], [], unsent=arrivals(0, 0)), "unsent more than once"),
            (Evidence([1], [], in_doubt=arrivals(0, 0)), "in doubt more than once"),
            (Evidence([1], arrivals(0, 0)), "came more than once"),
            (Evidence([1], arrivals(0), garbled=2), "2 messages came that nobody sent"),
            (Evidence([2], arrivals(0), unsent=arrivals(1), written=2), "2 messages were written, but 1"),
        ],
    )
    def test_complains(self, evidence: Evidence, words: str) -> None:
        (complaint,) = Verdict.on(evidence).complaints
        assert words in complaint

    def test_what_arrives_again_may_do_so_out_of_order(self) -> None:
        evidence = Evidence([4], arrivals(0, 1, 2, 0, 1, 2, 3), may_repeat=True)
        assert Verdict.on(evidence).complaints == ()

    def test_what_was_handed_back_in_doubt_may_arrive_late(self) -> None:
        evidence = Evidence([3], arrivals(0, 2, 1), in_doubt=arrivals(1))
        assert Verdict.on(evidence).complaints == ()


def account(verdict: Verdict) -> Account:
    return Account(
        "cut", "cut by RST", 2, 2, "plain", 1, 8, 1, verdict, 0, {"LOST": 2}, {"send": 0.5}, 1.0, ["a note"]
    )


class TestAccount:
    def test_goes_through_json(self) -> None:
        made = account(Verdict(3, 1, 0, 1, 0, 1, ("1 messages lost",)))
        again = Account.from_dict(json.loads(json.dumps(made.as_dict())))
        assert again == replace(made, notes=("a note",))

    def test_shows_every_number(self) -> None:
        text = table(account(Verdict(3210, 1, 2, 4, 5, 6, ("6 messages lost",))))
        for shown in ("3,210 from 8 threads", "LOST 2", "0.50 s in send", "a note", "WRONG: 6 messages lost"):
            assert shown in text

    def test_complains_of_what_is_lost_and_of_faults_that_never_came(self) -> None:
        good = account(Verdict(1, 1, 0, 0, 0, 0, ()))
        assert good.complaints == ()
        assert account(Verdict(1, 0, 0, 0, 0, 1, ("1 messages lost",))).complaints == ("1 messages lost",)
        (complaint,) = replace(good, planned=3).complaints
        assert "only 2 of 3 faults" in complaint


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"messages": 0}, "messages must be at least 1, not 0"),
        ({"faults": -1}, "faults must be at least 1, not -1"),
        ({"messages": 9, "threads": 2}, r"messages must be a multiple of threads \(2\), not 9"),
        ({"size": 27}, "size must be from 28 to 65535 bytes, not 27"),
        ({"pace": -1}, "pace must be at least 0, not -1"),
        ({"patience": 0}, "patience must be over 0 seconds, not 0"),
    ],
)
def test_an_impossible_plan_is_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Plan(**wrong)


# -- scripts ------------------------------------------------------------------------------------------


def frames(sizes: Sequence[int]) -> list[bytes]:
    return [encode_frame(2, bytes(size), masked=True) for size in sizes]


def ends_of(parts: Sequence[bytes]) -> list[int]:
    """All boundaries found, however the stream is cut into parts, as offsets in the stream."""
    finder, found, at = FrameEnds(), set[int](), 0
    for part in parts:
        found |= {at + end for end in finder.feed(part)}
        at += len(part)
    return sorted(found)


class TestFrameEnds:
    @given(
        sizes=st.lists(st.sampled_from([0, 1, 125, 126, 300, 65_535, 65_536]), max_size=6),
        seed=st.integers(0, 999),
    )
    def test_finds_each_end_wherever_the_stream_is_cut(self, sizes: list[int], seed: int) -> None:
        pieces = [REQUEST, *frames(sizes)]
        stream, chance = b"".join(pieces), random.Random(seed)
        cuts = sorted(chance.choices(range(len(stream) + 1), k=5))
        parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        expected = [sum(map(len, pieces[: count + 1])) for count in range(len(pieces))]
        assert ends_of(parts) == expected

    def test_unmasked_frames(self) -> None:
        assert ends_of([REQUEST, encode_frame(1, b"abc", masked=False)]) == [len(REQUEST), len(REQUEST) + 5]


class TestScripts:
    def test_the_same_seed_gives_the_same_script(self) -> None:
        first, again, other = (script(list(Fault), 20, 10_000, seed, lasting=(1, 2)) for seed in (1, 1, 2))
        assert first == again != other

    @given(total=st.integers(100, 10**6), count=st.integers(1, 20), seed=st.integers())
    def test_marks_rise_within_the_total(self, total: int, count: int, seed: int) -> None:
        found = marks(total, count, seed)
        assert len(found) == count
        assert list(found) == sorted(found)
        assert min(found) > 0
        assert max(found) < max(2, 0.8 * total)

    @pytest.mark.parametrize(
        ("fault", "after", "expected"),
        [
            (Fault.RST, 0, 10),
            (Fault.FIN, 11, 20),
            (Fault.RST, 21, None),
            (Fault.MID_FRAME, 10, 11),
            (Fault.MID_FRAME, 13, 13),
            (Fault.STALL, 10, 10),
            (Fault.STALL, 25, None),
        ],
    )
    def test_where_a_step_happens(self, fault: Fault, after: int, expected: int | None) -> None:
        assert Step(fault, after=1000 + after).position(1000, [10, 20], 0, 25) == expected

    def test_a_step_never_happens_in_what_is_gone(self) -> None:
        assert Step(Fault.STALL, after=5).position(1000, [10], 17, 25) == 17


# -- the journal and the server -----------------------------------------------------------------------


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.add(Kind.OPENED, 3)
    journal.add(Kind.MESSAGE, 3, 7, 4_000_000_000)
    assert read([tmp_path / "journal"]) == [(Kind.OPENED, 3, 0, 0), (Kind.MESSAGE, 3, 7, 4_000_000_000)]
    journal.close()


class TestServer:
    def test_writes_down_each_message_and_what_is_none(self, server: VerifyingServer) -> None:
        server.start()
        with connect(server.url) as conn:
            for message in messages(5):
                conn.send(message)
            conn.send("nobody's")
            conn.send(messages(1)[0].encode())
        server.stop()
        assert numbers(server) == [0, 1, 2, 3, 4, 0]
        assert [server.count(kind) for kind in (Kind.OPENED, Kind.GARBLED, Kind.ENDED)] == [1, 1, 1]
        assert server.errors == ""

    def test_what_it_confirmed_outlives_sigkill(self, server: VerifyingServer) -> None:
        server.start()
        conn = connect(server.url)
        for message in messages(100):
            conn.send(message)
        conn.confirm(WAIT)
        server.kill()
        conn.close()
        assert numbers(server) == list(range(100))
        assert server.count(Kind.ENDED) == 0

    def test_is_killed_at_the_message_where_it_is_held(self, server: VerifyingServer) -> None:
        server.start([30], hold=True)
        conn = connect(server.url)
        for message in messages(100):
            conn.send(message)
        assert server.wait_for_mark(WAIT)
        server.kill()
        conn.close()
        assert numbers(server) == list(range(30))

    def test_goes_on_where_it_was_held(self, server: VerifyingServer) -> None:
        server.start([10, 20], hold=True)
        with connect(server.url) as conn:
            for message in messages(30):
                conn.send(message)
            for held_at in (10, 20):
                assert server.wait_for_mark(WAIT)
                assert numbers(server) == list(range(held_at))
                server.go_on()
            conn.confirm(WAIT)
        assert numbers(server) == list(range(30))

    def test_comes_back_on_its_port(self, server: VerifyingServer) -> None:
        for _ in range(3):
            server.start()
            conn = connect(server.url)
            conn.send(messages(1)[0])
            conn.confirm(WAIT)
            server.kill()
            with pytest.raises(wsclient.ConnectFailed):
                connect(server.url)
            conn.close()
        assert numbers(server) == [0, 0, 0]

    def test_answers_nothing_while_it_is_stopped(self, server: VerifyingServer) -> None:
        server.start()
        with connect(server.url) as conn:
            conn.confirm(WAIT)
            server.pause()
            os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)
            conn.send(messages(1)[0])
            pong = conn.ping()
            with pytest.raises(FutureTimeout):
                pong.result(0.2)
            assert numbers(server) == []
            server.resume()
            assert pong.result(WAIT) > 0
            conn.confirm(WAIT)
            assert numbers(server) == [0]

    def test_drops_its_connections_and_listens_on(self, server: VerifyingServer) -> None:
        server.start()
        closed = threading.Event()
        conn = connect(server.url, on_close=lambda *_: closed.set())
        server.cut()
        assert closed.wait(WAIT)
        assert conn.close_code == 1006
        connect(server.url).close()

    def test_waiting_for_a_mark_can_be_ended(self, server: VerifyingServer) -> None:
        server.start([1])
        server.end_waiting()
        assert not server.wait_for_mark(WAIT)
        assert not server.wait_for_mark(0.01)

    def test_says_how_far_it_has_come(self, server: VerifyingServer) -> None:
        server.start()
        with connect(server.url) as conn:
            for message in messages(50):
                conn.send(message)
            conn.confirm(WAIT)
            assert server.progress == 51  # one record says that the connection was opened

    def test_that_ended_by_itself_is_noticed(self, server: VerifyingServer) -> None:
        server.start()
        os.kill(server.pid, signal.SIGTERM)
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(AssertionError, match="it ended before"):
            server.kill()
        server.stop()

    def test_that_cannot_start_says_why(self, server: VerifyingServer) -> None:
        wrong = VerifyingServer(server.folder, wrapper=["/bin/sh", "-c", "echo no such place >&2"])
        with wrong, pytest.raises(RuntimeError, match="no such place"):
            wrong.start()


# -- the proxy ----------------------------------------------------------------------------------------


@pytest.fixture
def proxy(server: VerifyingServer) -> Iterator[FaultProxy]:
    """A proxy without a script, in front of a running server."""
    server.start()
    with FaultProxy(server.port) as running:
        yield running


def lost(conn: wsclient.Connection) -> wsclient.ConnectionClosed:
    """How a connection was lost."""
    with pytest.raises(wsclient.ConnectionClosed) as caught:
        conn.recv(WAIT)
    assert caught.value.code == 1006
    return caught.value


class TestProxy:
    def test_forwards_in_both_directions(self, server: VerifyingServer, proxy: FaultProxy) -> None:
        with connect(proxy.url) as conn:
            for message in messages(1000):
                conn.send(message)
            conn.confirm(WAIT)
        assert conn.close_code == 1000
        assert numbers(server) == list(range(1000))
        assert proxy.passed > 70_000
        assert (proxy.connections, proxy.injected) == (1, {})

    @pytest.mark.parametrize(
        ("fault", "words"), [(Fault.FIN, "ended the stream"), (Fault.RST, "reset"), (Fault.REFUSE, "reset")]
    )
    def test_cuts_when_told_to(self, proxy: FaultProxy, fault: Fault, words: str) -> None:
        with connect(proxy.url) as conn:
            conn.confirm(WAIT)
            proxy.inject(fault)
            assert words in str(lost(conn).__cause__)
        assert proxy.injected == {fault: 1}

    def test_refuses_until_it_is_healed(self, proxy: FaultProxy) -> None:
        proxy.inject(Fault.REFUSE)
        with pytest.raises(wsclient.ConnectFailed) as caught:
            connect(proxy.url)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        proxy.heal()
        connect(proxy.url).close()

    @pytest.mark.parametrize(
        ("fault", "arrives"), [(Fault.STALL, False), (Fault.STALL_UP, False), (Fault.STALL_DOWN, True)]
    )
    def test_stalls_until_it_is_healed(
        self, server: VerifyingServer, proxy: FaultProxy, fault: Fault, arrives: bool
    ) -> None:
        with connect(proxy.url) as conn:
            conn.confirm(WAIT)
            proxy.inject(fault)
            conn.send(messages(1)[0])
            pong = conn.ping()
            with pytest.raises(FutureTimeout):
                pong.result(0.3)
            assert numbers(server) == ([0] if arrives else [])
            proxy.heal()
            assert pong.result(WAIT) > 0
        assert numbers(server) == [0]

    def test_a_stall_ends_by_itself(self, proxy: FaultProxy) -> None:
        with connect(proxy.url) as conn:
            proxy.inject(Fault.STALL, lasting=0.05)
            conn.confirm(WAIT)

    def test_delays_each_chunk(self, proxy: FaultProxy) -> None:
        with connect(proxy.url) as conn:
            proxy.inject(Fault.DELAY, amount=0.1)
            assert conn.confirm(WAIT) >= 0.2  # once on each way

    def test_throttles(self, server: VerifyingServer, proxy: FaultProxy) -> None:
        with connect(proxy.url) as conn:
            proxy.inject(Fault.THROTTLE, amount=50_000)
            for message in messages(100, size=100):
                conn.send(message)
            assert conn.confirm(WAIT) >= 0.15  # 10,600 bytes
            proxy.heal()
            conn.confirm(WAIT)
        assert numbers(server) == list(range(100))

    def test_in_front_of_a_dead_server(self, server: VerifyingServer, proxy: FaultProxy) -> None:
        server.kill()
        with pytest.raises(wsclient.HandshakeError):
            connect(proxy.url)

    def test_a_connection_may_outlive_the_block(self, server: VerifyingServer) -> None:
        server.start()
        with FaultProxy(server.port) as proxy:
            conn = connect(proxy.url)
            proxy.inject(Fault.STALL)
        lost(conn)


class TestScriptedProxy:
    @pytest.mark.parametrize("fault", [Fault.FIN, Fault.MID_FRAME])
    def test_cuts_to_the_byte(self, server: VerifyingServer, fault: Fault) -> None:
        server.start()
        with FaultProxy(server.port, [Step(fault, after=5000)]) as proxy, connect(proxy.url) as conn:
            request = proxy.passed
            with suppress(wsclient.ConnectionClosed):
                for message in messages(200):
                    conn.send(message)
            lost(conn)
            whole, rest = divmod(proxy.passed - request, FRAME)
        server.stop()  # first: it may be reading still
        assert numbers(server) == list(range(whole))
        assert bool(rest) == (fault is Fault.MID_FRAME)
        assert 5000 <= request + whole * FRAME + rest < 5000 + FRAME
        assert proxy.injected == {fault: 1}

    def test_cuts_in_a_frame_where_the_place_is_between_two(self, server: VerifyingServer) -> None:
        server.start()
        with FaultProxy(server.port) as proxy, connect(proxy.url):
            request = proxy.passed
        steps = [Step(Fault.MID_FRAME, after=request + 10 * FRAME)]
        with FaultProxy(server.port, steps) as proxy, connect(proxy.url) as conn:
            for message in messages(11):
                conn.send(message)
            lost(conn)
            assert proxy.passed - request == 10 * FRAME + 1

    def test_takes_step_after_step(self, server: VerifyingServer) -> None:
        server.start()
        steps = [Step(Fault.RST, after=after) for after in (2000, 4000, 6000)]
        with FaultProxy(server.port, steps) as proxy:
            for _ in steps:
                with connect(proxy.url) as conn, suppress(wsclient.ConnectionClosed):
                    for message in messages(100):
                        conn.send(message)
                    lost(conn)
            with connect(proxy.url) as conn:
                conn.confirm(WAIT)
            assert (proxy.connections, proxy.injected) == (4, {Fault.RST: 3})

    def test_what_lasts_ends_with_the_last_fault_under_way(self, server: VerifyingServer) -> None:
        server.start()
        steps = [Step(Fault.DELAY, 0, lasting, 0.001) for lasting in (0.05, 0.1)]
        with FaultProxy(server.port, steps) as proxy, connect(proxy.url) as conn:
            conn.confirm(WAIT)
            assert proxy.injected == {Fault.DELAY: 2}


# -- the cable that loses packets ---------------------------------------------------------------------


class TestWire:
    def test_carries_packets_in_order(self) -> None:
        wire = Wire(1)
        for packet in (b"a", b"b", b"c"):
            wire.take(packet, 5, now=1.0)
        assert wire.due(1.0) == [(5, b"a"), (5, b"b"), (5, b"c")]
        assert wire.patience(1.0) is None

    def test_holds_each_for_a_while(self) -> None:
        wire = Wire(1)
        wire.delay = 0.5
        wire.take(b"a", 5, now=1.0)
        assert wire.due(1.25) == []
        assert wire.patience(1.25) == 0.25
        assert wire.patience(9.0) == 0
        assert wire.due(1.5) == [(5, b"a")]

    def test_loses_by_seed(self) -> None:
        assert self.carried(7) == self.carried(7) != self.carried(8)
        assert 600 < len(self.carried(7)) < 800

    def carried(self, seed: int) -> list[bytes]:
        wire = Wire(seed)
        wire.loss = 0.3
        for number in range(1000):
            wire.take(b"%d" % number, 5, now=0.0)
        return [packet for _, packet in wire.due(0.0)]


# -- limits -------------------------------------------------------------------------------------------

LIMITED = """
import os
from reliability.limits import no_descriptors, no_memory

def attempt(action):
    try:
        action()
        return "fine"
    except (OSError, MemoryError) as error:
        return type(error).__name__

ATTEMPTS = (lambda: os.close(os.open(os.devnull, os.O_RDONLY)), lambda: bytearray(4_000_000))
for shortage in (no_descriptors, no_memory):
    with shortage():
        found = [attempt(action) for action in ATTEMPTS]
    print(*found, *[attempt(action) for action in ATTEMPTS])
"""


def test_a_shortage_is_real_and_ends() -> None:
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run(
        command, env=environment(), cwd=TESTS, capture_output=True, text=True, timeout=WAIT, check=True
    )
    assert done.stdout.splitlines() == [
        "OSError fine fine fine",
        "fine MemoryError fine fine",
    ]


def clocks_used(source: str) -> set[str]:
    """What a module takes from ``time``, and whether it knows ``datetime``."""
    used = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
            used.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names if alias.name == "datetime"}
    return used


def test_the_library_looks_at_no_wall_clock() -> None:
    """What the scenario ``clock`` shows from outside."""
    found = {path.name: clocks_used(path.read_text()) for path in (ROOT / "wsclient").glob("*.py")}
    assert {name: used for name, used in found.items() if used - {"monotonic", "sleep"}} == {}
    assert found["writer.py"] == {"monotonic"}
    assert clocks_used("import time, datetime\nfrom time import time_ns\ntime.time()") == {
        "time",
        "time_ns",
        "datetime",
    }


# -- the command and the document ---------------------------------------------------------------------


def run_command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.reliability", *arguments]
    return subprocess.run(
        command, env={**os.environ, **more}, cwd=ROOT, capture_output=True, text=True, timeout=40, check=False
    )


class TestCommand:
    def test_prints_the_account_and_writes_it(self, tmp_path: Path) -> None:
        path = tmp_path / "account.json"
        arguments = ("--messages", "800", "--faults", "1", "--seed", "3", "--delivery", "plain")
        done = run_command("delay", *arguments, "--json", str(path))
        assert (done.returncode, done.stderr) == (0, "")
        made = Account.from_dict(json.loads(path.read_text()))
        assert done.stdout == table(made) + "\n"
        assert (made.verdict.received, made.faults, made.seed) == (800, 1, 3)

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["nonsense"], "nonsense"),
            (["cut", "--messages", "7"], "multiple of threads"),
            (["cut", "--delivery", "no"], "no"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, arguments: list[str], named: str) -> None:
        done = run_command(*arguments)
        assert done.returncode == 2
        assert named in done.stderr

    def test_says_what_it_may_not_do(self, tmp_path: Path) -> None:
        unshare = tmp_path / "unshare"
        unshare.write_text("#!/bin/sh\necho Operation not permitted >&2\nexit 1\n")
        unshare.chmod(0o755)
        done = run_command("unplug", PATH=f"{tmp_path}:{os.environ['PATH']}")
        assert done.returncode == UNAVAILABLE
        assert done.stderr.startswith("unplug: ")
        assert done.stdout == ""

    def test_names_a_program_that_is_not_there(self) -> None:
        with pytest.raises(Unavailable, match="no-such-program is not installed"):
            find_program("no-such-program")

    def test_ends_with_1_when_the_server_has_not_got_a_message(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scenario = replace(SCENARIOS["delay"], server=Forgetful)
        assert execute(scenario, PLAIN) == 1
        assert "WRONG: 1 messages lost: " in capsys.readouterr().out


class Forgetful(VerifyingServer):
    """It has received one message less than it has."""

    def arrivals(self) -> list[Identity]:
        received = super().arrivals()
        return received[:100] + received[101:]


class TestDocument:
    def row(self, *arguments: str) -> Row:
        return Row(arguments, "3.11.7", account(Verdict(3210, 3200, 2, 7, 3, 0, ())))

    def test_has_a_row_with_its_command_for_each_run(self) -> None:
        text = document([self.row("cut", "--faults", "2")])
        assert (
            "| cut by RST; a note | 2 | plain | 2 | 3,210 | 3,200 | 2 | 7 | 3 | 0 | 0.5 (send) "
            "| `python -m tests.reliability cut --faults 2` |"
        ) in text
        assert "**0 of 3,210 messages were lost**, in 1 runs with 2 faults" in text

    def test_keeps_runs_in_files_and_shows_the_standard_ones_in_order(self, tmp_path: Path) -> None:
        rows = [self.row("aaa"), self.row(*STANDARD[1]), self.row(*STANDARD[0])]
        for row in rows:
            save(row, tmp_path)
        assert [row.arguments for row in load(tmp_path)] == [STANDARD[0], STANDARD[1]]

    def test_each_scenario_has_a_row_for_each_delivery(self) -> None:
        plans = [(arguments[0], parse(arguments)[1]) for arguments in STANDARD]
        for delivery in (Delivery.AT_LEAST_ONCE, Delivery.AT_MOST_ONCE):
            rows = {name: plan for name, plan in plans if plan.delivery is delivery}
            assert rows.keys() == SCENARIOS.keys()
            assert min(plan.faults for plan in rows.values()) >= 10

    def test_the_first_row_is_the_hardest(self) -> None:
        name, (_, plan) = STANDARD[0][0], parse(STANDARD[0])
        found = (name, plan.delivery, plan.threads, plan.faults, plan.messages, plan.pace)
        assert found == ("kill", Delivery.AT_LEAST_ONCE, 8, 20, 200_000, 0)


class TestTheDocumentThatIsKept:
    """docs/reliability.md, as it stands."""

    def lines(self) -> list[str]:
        return DOCUMENT.read_text(encoding="utf-8").splitlines()

    def test_is_what_the_kept_results_make(self) -> None:
        assert DOCUMENT.read_text(encoding="utf-8") == document(load(), load_soak())

    @pytest.mark.parametrize("arguments", STANDARD, ids=" ".join)
    def test_has_a_row_with_nothing_lost(self, arguments: tuple[str, ...]) -> None:
        command = f"`python -m tests.reliability {' '.join(arguments)}`"
        ((_, times, _, _, *counts, _, _),) = [
            cells for line in self.lines() if (cells := line.strip("| ").split(" | "))[-1] == command
        ]
        accepted, received, _, in_doubt, unsent, lost = (int(count.replace(",", "")) for count in counts)
        plan = parse(arguments)[1]
        assert (int(times), lost) == (plan.faults, 0)
        assert accepted == received + in_doubt + unsent
        if plan.delivery is not Delivery.PLAIN:
            assert accepted == plan.messages

    def test_names_every_scenario(self) -> None:
        text = "\n".join(self.lines())
        assert [one.name for one in SCENARIOS.values() if one.injected not in text] == []

    def test_shows_a_soak_of_ten_minutes(self) -> None:
        found = load_soak()
        assert found is not None
        assert found["seconds"] >= 600
        assert found["complaints"] == []
        assert found["balance"]["lost"] == 0


# -- the client ---------------------------------------------------------------------------------------


class TestClient:
    def test_account_of_a_connection_that_is_cut_with_a_full_queue(self, server: VerifyingServer) -> None:
        """Accepted is received, in doubt or unsent; here there is some of each."""
        server.start([100], hold=True)
        plan = replace(PLAIN, messages=40_000, size=4096, pace=0, patience=2.0)
        client = Client(server.url, plan, (), send_timeout=0.1)
        client.open()
        client.send_all()  # until its patience ends
        server.kill()
        client.close()
        verdict = Verdict.on(
            Evidence(
                client.accepted,
                server.arrivals(),
                unsent=client.unsent,
                assume_doubt=True,
                written=client.conn.stats().messages_sent,
            )
        )
        assert verdict.complaints == ()
        assert verdict.received == 100
        assert min(verdict.in_doubt, verdict.unsent, client.refused) > 0
        assert verdict.accepted == verdict.received + verdict.in_doubt + verdict.unsent < plan.messages
        assert client.reasons == {"code 1006": 1}
        assert set(client.waits) == {"open", "send", "close"}
