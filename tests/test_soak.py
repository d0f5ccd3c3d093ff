"""The soak: its judge does judge, and a few seconds of it end in order. No number of its is asserted."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from reliability.account import Identity
from reliability.document import document, load_soak, save_soak
from reliability.journal import Kind as Entry
from reliability.servers import VerifyingServer
from reliability.soak.command import main, report, summary
from reliability.soak.faults import cuts_in_frames
from reliability.soak.judge import Balance, Record, Rest, balance, growth
from reliability.soak.names import ECHO_EVERY, LANES, Name, compose, identity, place
from reliability.soak.run import ROUNDS, Soak, soak
from reliability.soak.traffic import Kind

import wsclient
from benchmarks.messages import parse

NAME = (3, 7)
GOOD = Record(NAME, "at_least_once", accepted=(2, 1), streams=2, ended=(0, 1))
ARRIVED = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]


def on_the_wire(messages: list[Identity], name: Name = NAME) -> list[Identity]:
    return [identity(name, lane, number) for lane, number in messages]


def judged(record: Record, messages: list[Identity]) -> Balance:
    return balance([record], on_the_wire(messages), 0)


class TestNames:
    @pytest.mark.parametrize("name", [(0, 0), (5, 1), (11, 100_000)])
    @pytest.mark.parametrize("lane", range(LANES))
    def test_a_message_names_its_connection(self, name: Name, lane: int) -> None:
        message = compose(identity(name, lane, 4095), 100)
        assert len(message) == 100
        assert place(parse(message.encode())) == (name, (lane, 4095))

    def test_the_smallest_message_is_its_header(self) -> None:
        assert parse(compose((1, 2), 0).encode()) == (1, 2)


class TestBalance:
    def test_of_a_connection_without_faults(self) -> None:
        found = judged(GOOD, ARRIVED)
        assert found.complaints == ()
        assert (found.connections, found.accepted, found.received, found.lost) == (1, 3, 3, 0)

    def test_what_is_handed_back_is_not_lost(self) -> None:
        record = replace(
            GOOD,
            is_clean=False,
            unsent=tuple(on_the_wire([(0, 1)])),
            in_doubt=tuple(on_the_wire([(1, 0)])),
        )
        found = judged(record, [(0, 0)])
        assert found.complaints == ()
        assert (found.received, found.unsent, found.in_doubt, found.lost) == (1, 1, 1, 0)

    @pytest.mark.parametrize(
        ("record", "messages", "words"),
        [
            (GOOD, ARRIVED[1:], "1 messages lost"),
            (GOOD, [*ARRIVED, (0, 2)], "never accepted"),
            (GOOD, ARRIVED[:-1], "ended well and have not come"),
            (GOOD, [*ARRIVED, (2, 1)], "1 streams came more than once"),
            (GOOD, [*ARRIVED, (2, 2)], "never begun"),
            (replace(GOOD, delivery="plain"), ARRIVED[1:], "1 messages lost"),
            (replace(GOOD, delivery="at_most_once"), [*ARRIVED, (0, 0)], "came more than once"),
            (replace(GOOD, complaints=("on_close was called 2 times",)), ARRIVED, "on_close"),
        ],
    )
    def test_complains(self, record: Record, messages: list[Identity], words: str) -> None:
        (complaint,) = judged(record, messages).complaints
        assert words in complaint
        assert str(NAME) in complaint

    def test_what_came_last_may_be_in_doubt_where_no_doubt_is_reported(self) -> None:
        found = judged(replace(GOOD, delivery="plain", is_clean=False), ARRIVED[:1])
        assert (found.complaints, found.in_doubt) == ((), 2)

    def test_complains_of_what_nobody_sent(self) -> None:
        found = balance([GOOD], on_the_wire(ARRIVED) + on_the_wire(ARRIVED, (9, 9)), 2)
        assert len(found.complaints) == 2

    def test_a_record_goes_through_json(self) -> None:
        record = replace(GOOD, unsent=((1, 2),), complaints=("so",))
        assert Record.from_dict(json.loads(json.dumps(asdict(record)))) == record


FLAT = Rest(0.0, connections=0, threads=3, files=14, alive=0, blocks=150_000, memory=50 << 20)
EACH = 300  # connections in a round of ten minutes


def rests(start: int = 0, **more: int) -> list[Rest]:
    """Rests of ten minutes: flat, but for numbers that rise by so much with each round from ``start`` on."""
    return [
        FLAT._replace(
            connections=EACH * number,
            **{key: getattr(FLAT, key) + by * max(0, number - start) for key, by in more.items()},
        )
        for number in range(ROUNDS + 1)
    ]


def noisy(found: list[Rest], seed: int) -> list[Rest]:
    """As memory is: it swings, and is far too high or too low now and then."""
    chance = random.Random(seed)
    odd = chance.sample(range(len(found)), 2)
    return [
        one._replace(
            blocks=one.blocks + chance.randint(-200, 200),
            memory=one.memory
            + chance.randint(-1 << 20, 1 << 20)
            + (number in odd) * chance.randint(-9, 9) * (4 << 20),
        )
        for number, one in enumerate(found)
    ]


def grown(found: list[Rest]) -> set[str]:
    return {one.what for one in growth(found) if not one.is_flat}


class TestGrowth:
    def test_judges_every_number(self) -> None:
        assert [one.what for one in growth(rests())] == ["threads", "files", "alive", "blocks", "memory"]

    @pytest.mark.parametrize("seed", range(50))
    def test_noise_is_no_growth(self, seed: int) -> None:
        assert grown(noisy(rests(), seed)) == set()

    @pytest.mark.parametrize("seed", range(50))
    def test_noise_hides_no_growth(self, seed: int) -> None:
        slow = rests(blocks=EACH // 3, memory=EACH * 2048)  # an object for each third one; 2 KiB for each
        assert grown(noisy(slow, seed)) == {"blocks", "memory"}

    @pytest.mark.parametrize("what", ["threads", "files", "alive"])
    def test_finds_the_one_that_is_left_behind(self, what: str) -> None:
        assert grown(rests(start=ROUNDS - 1, **{what: 1})) == {what}

    def test_getting_smaller_is_no_growth(self) -> None:
        assert grown(rests(blocks=-EACH, memory=-(1 << 20))) == set()

    def test_warming_up_is_no_growth(self) -> None:
        cold = [one._replace(memory=20 << 20, blocks=100_000) for one in rests()[:5]]
        assert grown(cold + rests()[5:]) == set()

    def test_of_few_rests_only_what_is_exact_is_judged(self) -> None:
        assert [one.what for one in growth(rests(memory=1 << 30)[:3])] == ["threads", "files", "alive"]

    def test_says_what_has_grown(self) -> None:
        texts = [str(one) for one in growth(rests(threads=1, memory=1 << 20))]
        assert texts[0] == "threads: 3 at rest, then 20 more (tolerance 0)"
        assert texts[4].startswith("memory: 56.0 MiB at rest, then 14.0 MiB more (tolerance 4.")


def test_every_kind_is_drawn() -> None:
    drawn = [Kind.draw(random.Random(seed)) for seed in range(500)]
    for field, count in {
        "delivery": 3,
        "compression": 2,
        "fragment_size": 2,
        "receives": 3,
        "ends": 3,
    }.items():
        assert len({getattr(kind, field) for kind in drawn}) == count


def test_cuts_rise_and_depend_on_the_seed() -> None:
    places, others = ([step.after for step in islice(cuts_in_frames(seed), 100)] for seed in (1, 2))
    assert places == sorted(places)
    assert places != others


@pytest.fixture(scope="module")
def short() -> Soak:
    """Two rounds of two seconds: enough for everything to happen, and to leave something behind."""
    pytest.importorskip("picows")
    return soak(4.0, seed=5, slots=3, every=0.25, rounds=2)


def points(axes: Any) -> list[int]:
    """How many of them each line of a panel has."""
    return [len(line.get_xdata()) for line in axes.lines]


class TestShortSoak:
    pytestmark = pytest.mark.timeout(180)

    def test_is_balanced_and_leaves_nothing(self, short: Soak) -> None:
        assert short.complaints == []
        assert short.balance.lost == 0
        assert short.balance.accepted > 0
        assert short.balance.connections > 0
        assert sum(short.faults.values()) > 0

    def test_everything_is_closed_after_each_round(self, short: Soak) -> None:
        assert len(short.rests) == 3
        assert [one.grown for one in short.growth if one.what in ("threads", "files", "alive")] == [0, 0, 0]
        first, second, third = (rest.connections for rest in short.rests)
        assert first == 0 < second < third

    def test_shows_every_number(self, short: Soak) -> None:
        text = report(short)
        assert f"{short.balance.accepted:,}" in text
        assert all(str(one) in text for one in short.growth)

    def test_its_picture_has_all_samples_and_rests(self, short: Soak) -> None:
        pytest.importorskip("matplotlib")
        from reliability.soak.chart import make_figure

        memory, counts, rate = map(points, make_figure(short).axes)
        assert sum(memory) == len(short.samples) + len(short.rests)
        assert sum(counts) == 2 * sum(memory)
        assert sum(rate) == len(short.samples) - 2


def made(found: list[Rest]) -> Soak:
    return Soak(
        600.0, 1, "3", (), tuple(found), judged(GOOD, ARRIVED), tuple(growth(found)), 0, {"kill": 2}, ()
    )


def test_what_grows_makes_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reliability.soak.command.soak", lambda *_: made(rests(threads=1)))
    assert main(["--seconds", "1"]) == 1
    assert "WRONG: threads: 3 at rest, then 20 more" in capsys.readouterr().out
    monkeypatch.setattr("reliability.soak.command.soak", lambda *_: made(rests()))
    assert main(["--seconds", "1"]) == 0


@pytest.mark.parametrize("option", ["--seconds", "--every", "--rounds"])
@pytest.mark.parametrize("number", ["0", "-1", "nan"])
def test_refuses_no_time_at_all(option: str, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([option, number])
    assert option in capsys.readouterr().err


class TestDocument:
    def test_has_a_section_for_a_soak(self, tmp_path: Path) -> None:
        path = tmp_path / "soak" / "latest.json"
        save_soak(summary(made(rests())), path)
        text = document([], load_soak(path))
        assert "600 seconds, seed 1" in text
        assert "**0 lost**" in text
        assert "memory: 50.0 MiB at rest, then 0.0 MiB more" in text
        assert "make soak SECONDS=600" in text

    def test_has_none_without(self, tmp_path: Path) -> None:
        assert load_soak(tmp_path / "none.json") is None
        assert "soak.png" not in document([], None)


def test_fragments_and_compressed_messages_are_put_together(tmp_path: Path) -> None:
    pytest.importorskip("picows")
    with VerifyingServer(tmp_path, module="reliability.soak.server") as server:
        server.start()
        sent = [identity(NAME, 0, number) for number in range(3 * ECHO_EVERY)]
        options: dict[str, Any] = {"fragment_size": 100, "compression": "deflate", "proxy": None}
        with wsclient.connect(server.url, **options) as conn:
            for message in sent:
                conn.send(compose(message, 1000))
            echoes = [conn.recv(timeout=10) for _ in range(3)]
        assert [parse(str(echo).encode()) for echo in echoes] == sent[ECHO_EVERY - 1 :: ECHO_EVERY]
        assert server.arrivals() == sent
        assert server.count(Entry.GARBLED) == 0
        server.stop()
        assert server.errors == ""
