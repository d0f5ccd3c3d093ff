"""The benchmarks measure what they say, and their judge does judge. No number of theirs is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest

from benchmarks.adapters import ADAPTERS, PreparedConnection
from benchmarks.baseline import Baseline
from benchmarks.bench import Plan
from benchmarks.goals import GOALS, verdicts
from benchmarks.messages import MIN_SIZE, Garbled, Workload, parse
from benchmarks.names import OURS, RECONNECT
from benchmarks.processes import Server, finish, start_module
from benchmarks.quotes import MIN_SIZE as MIN_QUOTES_SIZE
from benchmarks.quotes import quotes
from benchmarks.report import before_table, result_table
from benchmarks.scenarios import SCENARIOS
from benchmarks.sender import Outcome
from benchmarks.serialized_writes import Result, Step, describe
from benchmarks.serialized_writes import conclude as conclude_main_job
from benchmarks.verifier import Verifier
from wsclient import HandshakeError

ROOT = Path(__file__).resolve().parent.parent
LOAD = Workload(threads=3, messages=5, size=48)

needs_server = pytest.mark.skipif(
    find_spec("picows") is None, reason="the benchmark server is made with picows"
)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )


def stream(load: Workload = LOAD) -> list[bytes]:
    """All messages of a load, the threads taking turns."""
    turns = zip(*(load.of_thread(number) for number in range(load.threads)), strict=True)
    return [message.encode() for turn in turns for message in turn]


def judged(payloads: Sequence[bytes]) -> dict[str, Any]:
    verifier = Verifier(LOAD.threads, LOAD.messages)
    verifier.check_all(payloads)
    verifier.end()
    return verifier.summary().as_dict()


class TestMessages:
    @pytest.mark.parametrize("size", [MIN_SIZE, 48, 5000])
    def test_says_who_sent_it_and_which_it_is(self, size: int) -> None:
        load = Workload(2, 3, size)
        assert [parse(message.encode()) for message in load.of_thread(1)] == [(1, 0), (1, 1), (1, 2)]
        assert {len(message) for message in load.of_thread(1)} == {size}

    def test_any_changed_byte_is_noticed(self) -> None:
        good = stream()[4]
        for position in range(len(good)):
            bad = bytearray(good)
            bad[position] ^= 1
            with pytest.raises(Garbled):
                parse(bytes(bad))

    @pytest.mark.parametrize("name", ["threads", "messages", "size"])
    def test_an_impossible_load_is_refused_by_name(self, name: str) -> None:
        with pytest.raises(ValueError, match=name):
            Workload(**{"threads": 1, "messages": 1, "size": 64} | {name: 0})


class TestQuotes:
    @pytest.mark.parametrize("size", [MIN_QUOTES_SIZE, 200, 1024, 5000])
    def test_are_json_of_that_size_and_all_different(self, size: int) -> None:
        messages = quotes(size, 20, seed=1)
        assert {len(message.encode()) for message in messages} == {size}
        assert [json.loads(message)["n"] for message in messages] == list(range(20))
        assert len(set(messages)) == 20

    def test_are_the_same_for_the_same_seed_alone(self) -> None:
        assert quotes(300, 5, seed=1) == quotes(300, 5, seed=1)
        assert not set(quotes(300, 5, seed=1)) & set(quotes(300, 5, seed=2))

    def test_none_are_too_small(self) -> None:
        with pytest.raises(ValueError, match="size"):
            quotes(MIN_QUOTES_SIZE - 1, 1, seed=1)


class TestVerifier:
    def test_accepts_what_is_whole_once_and_in_order(self) -> None:
        account = judged(stream())
        assert account["perfect"]
        assert account["whole"] == LOAD.total

    @pytest.mark.parametrize(
        ("damage", "kind"),
        [
            (lambda all_: all_[:4] + all_[5:], "out_of_order"),
            (lambda all_: all_[:-1], "lost"),
            (lambda all_: [*all_, all_[3]], "duplicated"),
            (lambda all_: [*all_[:3], all_[6], *all_[4:6], all_[3], *all_[7:]], "out_of_order"),
            (lambda all_: [all_[0] + all_[1], *all_[2:]], "garbled"),
            (lambda all_: [all_[0][:20] + all_[1][20:], *all_[1:]], "garbled"),
            (lambda all_: [all_[0][:-1], *all_[1:]], "garbled"),
            (lambda all_: [b"", *all_], "garbled"),
            (lambda all_: [*all_, stream(Workload(4, 1, 48))[3]], "garbled"),
            (lambda all_: [*all_, stream(Workload(1, 6, 48))[5]], "garbled"),
        ],
        ids=["lost", "lost-last", "twice", "swapped", "merged", "torn", "cut", "empty", "thread", "message"],
    )
    def test_names_the_damage(self, damage: Callable[[list[bytes]], list[bytes]], kind: str) -> None:
        account = judged(damage(stream()))
        assert not account["perfect"]
        assert account["first_violation"]["kind"] == kind

    def test_a_late_message_is_not_lost(self) -> None:
        first, second, *rest = (message for message in stream(Workload(1, 5, 48)))
        verifier = Verifier(1, 5)
        verifier.check_all([second, first, *rest])
        summary = verifier.summary()
        assert (summary.lost, summary.out_of_order, summary.duplicated) == (0, 1, 0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def account_of(server: Server, name: str, write: Callable[[PreparedConnection], None]) -> dict[str, Any]:
    """What the server says about a raw connection; it ends when the server has seen it end."""
    with closing(server.open_run(name, LOAD.threads, LOAD.messages)) as reporter:
        with closing(PreparedConnection(server.url("/verify", run=name))) as connection:
            write(connection)
        deadline = time.monotonic() + 10
        while not (account := reporter.account())["ended"]:
            assert time.monotonic() < deadline, "the server never saw the connection end"
    return account


def frames(connection: PreparedConnection) -> list[bytes]:
    return [connection.frame(message.decode()) for message in stream()]


@needs_server
class TestServer:
    def test_accepts_a_good_stream(self, server: Server) -> None:
        account = account_of(server, "good", lambda raw: raw.sendall(b"".join(frames(raw))))
        assert account["perfect"]
        assert account["failure"] == ""

    def test_says_so_when_a_frame_is_torn(self, server: Server) -> None:
        def write(raw: PreparedConnection) -> None:
            first, second, *rest = frames(raw)
            raw.sendall(first[:30] + second + first[30:] + b"".join(rest))

        account = account_of(server, "torn", write)
        assert not account["perfect"]
        assert account["first_violation"]["kind"] == "garbled"

    def test_says_so_when_a_frame_is_missing(self, server: Server) -> None:
        account = account_of(server, "lossy", lambda raw: raw.sendall(b"".join(frames(raw)[:-2])))
        assert account["lost"] == 2
        assert account["first_violation"]["kind"] == "lost"

    def test_the_main_job_fails_by_what_the_server_says(self, server: Server) -> None:
        account = account_of(server, "job", lambda raw: raw.sendall(b"".join(frames(raw)[1:])))
        result = Result(Step("wsclient", "wsclient", LOAD), account, Outcome(LOAD.total, {}, 1.0), 0)
        assert "BROKEN" in describe(result, result)
        assert conclude_main_job([result], tls=False, as_json=False) == 1

    def test_counts_messages_bytes_and_the_compressed_ones(self, server: Server) -> None:
        with closing(PreparedConnection(server.url("/tally"))) as connection:
            plain = [connection.frame("x" * size) for size in (0, 125, 126, 65535, 65536)]
            rsv1 = bytes([plain[1][0] | 0x40]) + plain[1][1:]
            connection.sendall(b"".join([*plain, rsv1]) + connection.frame(b"?"))
            assert connection.recv() == f"6 {sum(map(len, plain)) + len(rsv1)} 1"

    @pytest.mark.parametrize("adapter", ["wsclient", "wsclient-deflate", "websockets", "websockets-deflate"])
    def test_floods_with_json(self, server: Server, adapter: str) -> None:
        client = ADAPTERS[adapter]()
        url = server.url("/source", json=1, size=300, count=700, deflate=int(client.compresses))
        with closing(client.connect(url)) as connection:
            connection.send(b"?")
            different, size, compressed = map(int, connection.recv().split())
            connection.send("go")
            assert [connection.recv() for _ in range(700)] == list(
                islice(cycle(quotes(300, different, seed=0)), 700)
            )
        assert compressed == (different if client.compresses else 0)
        assert (size < different * 300) == client.compresses

    @pytest.mark.parametrize("path", ["/tally", "/source"])
    def test_refuses_a_client_that_does_not_offer_to_compress(self, server: Server, path: str) -> None:
        with pytest.raises(HandshakeError, match="400"):
            ADAPTERS["wsclient"]().connect(server.url(path, deflate=1))

    def test_ends_with_its_standard_input(self) -> None:
        process = start_module("benchmarks.server")
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["port"]
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(20) == 0
        finally:
            process.kill()
            finish(process, 20)


@needs_server
class TestSerializedWrites:
    SMALL = ("--threads", "4", "--messages", "200")

    @pytest.mark.parametrize(
        "how", [("benchmarks/serialized_writes.py",), ("-m", "benchmarks.serialized_writes")]
    )
    def test_gives_a_verdict(self, how: tuple[str, ...]) -> None:
        done = run(*how, *self.SMALL)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "OK: 800 messages whole, exactly once, each thread's in order" in done.stdout
        assert "Verdict: wsclient kept every message whole and in order." in done.stdout

    @pytest.mark.parametrize("tls", [(), ("--tls",)], ids=["tcp", "tls"])
    def test_gives_it_as_json(self, tls: tuple[str, ...]) -> None:
        done = run(
            "benchmarks/serialized_writes.py", *self.SMALL, *tls, "--json", "--switch-interval", "1e-5"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        ours, locked, unlocked = report["results"][:3]
        assert (report["ok"], report["tls"]) == (True, bool(tls))
        assert (ours["way"], ours["perfect"], ours["account"]["whole"]) == ("wsclient", True, 800)
        assert (locked["way"], locked["perfect"]) == ("locked", True)
        assert unlocked["way"] == "unlocked"

    @pytest.mark.parametrize(
        ("option", "value"), [("--threads", "0"), ("--size", "5"), ("--switch-interval", "-1")]
    )
    def test_refuses_what_cannot_be(self, option: str, value: str) -> None:
        done = run("benchmarks/serialized_writes.py", option, value)
        assert done.returncode == 2
        assert f"{option[2:]} must be" in done.stderr


@needs_server
class TestBench:
    def test_measures_writes_and_draws(self, tmp_path: Path) -> None:
        path, stem = tmp_path / "results.json", tmp_path / "chart"
        arguments = ["--quick", "--only", "round-trip", "--json", str(path), "--chart", str(stem)]
        done = run("-m", "benchmarks.bench", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        results = json.loads(path.read_text())
        assert set(results["medians"]["round-trip"]) == {"wsclient", "websocket-client", "websockets"}
        assert {goal["scenario"] for goal in results["goals"]} == {"round-trip"}
        assert results["failures"] == []
        if find_spec("matplotlib") is not None:
            assert stem.with_suffix(".svg").stat().st_size > 0
            assert stem.with_suffix(".png").stat().st_size > 0

    def test_many_connections_at_a_time(self, tmp_path: Path) -> None:
        path = tmp_path / "results.json"
        done = run("-m", "benchmarks.bench", "--quick", "--only", "scale", "--json", str(path))
        assert done.returncode == 0, done.stdout + done.stderr
        measured = json.loads(path.read_text())["medians"]["scale"]
        assert measured["wsclient"]["threads"] == 2
        assert all(measured[name]["p99"] >= measured[name]["p50"] > 0 for name in ("wsclient", "websockets"))

    def test_an_unknown_scenario_is_refused_by_name(self) -> None:
        done = run("benchmarks/bench.py", "--only", "nonsense")
        assert done.returncode == 2
        assert "nonsense" in done.stderr

    def test_libraries_take_turns_within_a_round(self) -> None:
        jobs = list(Plan(("round-trip",), rounds=2, quick=True).jobs())
        assert jobs[:3] == jobs[3:]
        assert len({adapter for _, adapter in jobs[:3]}) == 3

    def test_shows_what_compression_costs_and_gains(self, tmp_path: Path) -> None:
        path = tmp_path / "results.json"
        done = run("-m", "benchmarks.bench", "--quick", "--only", "send-json", "--json", str(path))
        assert done.returncode == 0, done.stdout + done.stderr
        medians = json.loads(path.read_text())["medians"]["send-json"]
        assert list(medians) == ["wsclient", "wsclient-deflate", "websockets", "websockets-deflate"]
        for library in ("wsclient", "websockets"):
            assert medians[library]["wire"] == 1024 + 8
            assert 100 < medians[f"{library}-deflate"]["wire"] < 600


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A checkout of wsclient from before it had compression."""
    checkout = tmp_path / "older"
    copytree(ROOT / "wsclient", checkout / "wsclient", ignore=ignore_patterns("__pycache__"))
    with (checkout / "wsclient" / "__init__.py").open("a", encoding="utf-8") as source:
        source.write("\ndel Deflate\n")
    return checkout


class TestBaseline:
    @needs_server
    def test_is_measured_as_far_as_it_can(self, tmp_path: Path, older: Path) -> None:
        path = tmp_path / "results.json"
        options = ["--quick", "--only", "receive-json", "--json", str(path), "--baseline", str(older)]
        done = run("-m", "benchmarks.bench", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        results = json.loads(path.read_text())
        assert "wsclient-before" in results["medians"]["receive-json"]
        # What it cannot do is proof that it was the other checkout which was asked.
        assert set(results["left_out"]) == {"receive-json, wsclient-deflate-before"}
        assert "Left out: receive-json, wsclient-deflate-before: " in done.stdout
        assert "now/before" in done.stdout
        assert results["plan"]["baseline"] == "older"
        assert str(tmp_path) not in path.read_text()

    def test_comes_behind_wsclient_and_before_it_by_turns(self, older: Path) -> None:
        jobs = list(Plan(("send-json",), rounds=2, quick=True, baseline=Baseline(older)).jobs())
        rounds = [[adapter for _, adapter in part] for part in (jobs[:6], jobs[6:])]
        assert rounds[0][:4] == [
            "wsclient",
            "wsclient-before",
            "wsclient-deflate",
            "wsclient-deflate-before",
        ]
        assert rounds[1][:4] == [
            "wsclient-before",
            "wsclient",
            "wsclient-deflate-before",
            "wsclient-deflate",
        ]
        assert rounds[0][4:] == rounds[1][4:] == ["websockets", "websockets-deflate"]

    def test_its_path_goes_to_its_own_workers_alone(self, older: Path) -> None:
        plan = Plan(("send-json",), rounds=1, quick=False, baseline=Baseline(older))
        assert plan.worker_arguments("send-json", "wsclient", "ws://x") == ["send-json", "wsclient", "ws://x"]
        assert plan.worker_arguments("send-json", "wsclient-before", "ws://x") == [
            *("send-json", "wsclient", "ws://x"),
            *("--checkout", str(older)),
        ]

    def test_a_directory_without_wsclient_is_refused_by_name(self, tmp_path: Path) -> None:
        done = run("-m", "benchmarks.bench", "--baseline", str(tmp_path / "nowhere"))
        assert done.returncode == 2
        assert f"--baseline: no wsclient in {tmp_path / 'nowhere'}" in done.stderr

    def test_is_what_import_finds(self, older: Path) -> None:
        first = f"from benchmarks.baseline import *; Baseline(Path({str(older)!r})).put_first()"
        then = "import wsclient; print(wsclient.__file__)"
        done = run("-c", f"from pathlib import Path; {first}; {then}")
        assert done.stdout.strip() == str(older / "wsclient" / "__init__.py"), done.stderr
        late = run("-c", f"from pathlib import Path; {then}; {first}")
        assert f"RuntimeError: `import wsclient` does not find {older}" in late.stderr


class TestReport:
    def test_compares_like_with_like(self) -> None:
        rates = {"wsclient": 800, "wsclient-deflate": 200, "websockets": 100, "websockets-deflate": 50}
        medians = {name: {"rate": float(rate), "wire": 9.0} for name, rate in rates.items()}
        table = result_table({"send-json": medians})
        lines = [line.split() for line in table.splitlines()[1:5]]
        assert lines[0][-3:] == ["wsclient", "800", "messages/s"]
        assert lines[1][-3:] == ["messages/s", "0.25", "x"]
        assert lines[2][-4:] == ["messages/s", "8", "x", "this"]
        assert lines[3][-5:] == ["4", "x", "this", "0.5", "x"]

    def test_says_how_now_compares_with_before(self) -> None:
        now = [{"rate": 90.0}, {"rate": 120.0}, {"rate": 100.0}]
        before = [{"rate": 100.0}, {"rate": 100.0}, {"rate": 50.0}]
        table = before_table({"send-64-8": {"wsclient": now, "wsclient-before": before, "websockets": now}})
        assert len(table.splitlines()) == 2
        assert table.endswith("wsclient  100     100  messages/s  1           0.9 to 2")

    def test_no_text_of_the_chart_is_cut(self) -> None:
        pytest.importorskip("matplotlib")
        from benchmarks.chart import make_figure

        medians = {
            name: {
                adapter: {metric.key: 1e6 / metric.scale for metric in scenario.metrics}
                for adapter in scenario.adapters
            }
            for name, scenario in SCENARIOS.items()
        }
        figure = make_figure(medians)
        figure.draw_without_rendering()
        width, height = figure.bbox.size
        for axes in figure.axes:
            texts = [axes.get_title(loc="left"), *(label.get_text() for label in axes.get_yticklabels())]
            assert all(texts)
            box = axes.get_tightbbox()
            assert box is not None
            assert (box.x0 >= 0, box.y0 >= 0, box.x1 <= width, box.y1 <= height) == (True,) * 4, texts


class TestGoals:
    def test_each_side_of_a_bound(self) -> None:
        def met(scenario: str, key: str, ours: float, peers: float) -> set[bool | None]:
            numbers = {OURS: ours, OURS + RECONNECT: ours, "websocket-client": peers, "websockets": peers}
            medians = {scenario: {name: {key: number} for name, number in numbers.items()}}
            return {one.met for one in verdicts(medians) if one.goal.metric == key}

        assert met("receive-64", "rate", 15.0, 1.0) == {True}
        assert met("receive-64", "rate", 9.9, 1.0) == {False}
        assert met("round-trip", "p50", 0.9, 1.0) == {True}
        assert met("round-trip", "p50", 1.2, 1.0) == {False}

    def test_what_was_not_measured_is_not_met(self) -> None:
        missing = verdicts({goal.scenario: {} for goal in GOALS})
        assert len(missing) == len(GOALS)
        assert {verdict.met for verdict in missing} == {None}
