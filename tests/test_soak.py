"""The soak: its judge does judge, and a few seconds of it end in order. No number of its is asserted."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from reliability.account import Identity
from reliability.document import document, load_soak
from reliability.journal import Kind as Entry
from reliability.servers import VerifyingServer
from reliability.soak.command import main, report, summary
from reliability.soak.faults import cuts_in_frames
from reliability.soak.judge import Balance, Record, Sample, balance, growth
from reliability.soak.names import ECHO_EVERY, LANES, Name, compose, identity, place
from reliability.soak.run import Soak, soak
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


def samples(**slopes: int) -> list[Sample]:
    """40 samples of numbers that are flat, but for those that grow by so much with each."""
    flat = Sample(0.0, threads=20, files=30, memory=10**8, messages=0, connections=0, open=6, faults=0)
    return [
        flat._replace(
            connections=number, **{key: getattr(flat, key) + by * number for key, by in slopes.items()}
        )
        for number in range(40)
    ]


class TestGrowth:
    def test_flat_is_flat(self) -> None:
        assert all(one.is_flat for one in growth(samples()))

    @pytest.mark.parametrize(("what", "by"), [("threads", 2), ("files", 2), ("memory", 1 << 21)])
    def test_finds_what_grows(self, what: str, by: int) -> None:
        assert [one.what for one in growth(samples(**{what: by})) if not one.is_flat] == [what]

    def test_getting_smaller_is_no_growth(self) -> None:
        assert all(one.is_flat for one in growth(list(reversed(samples(threads=3, files=3)))))

    def test_warming_up_is_no_growth(self) -> None:
        warm = [
            one._replace(memory=0, threads=1) if number < 10 else one for number, one in enumerate(samples())
        ]
        assert all(one.is_flat for one in growth(warm))

    def test_needs_quarters(self) -> None:
        with pytest.raises(ValueError, match="3 samples"):
            growth(samples()[:3])


def test_every_kind_is_drawn() -> None:
    import random

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
    places = [step.after for step in cuts_in_frames(1)]
    assert places == sorted(places)
    assert places != [step.after for step in cuts_in_frames(2)]


@pytest.fixture(scope="module")
def short() -> Soak:
    """Four seconds: too few for a mean to be flat, enough for everything to happen."""
    pytest.importorskip("picows")
    return soak(4.0, seed=5, slots=3, every=0.25)


def points(line: Any) -> int:
    """How many of them a line of a picture has."""
    return len(line.get_xdata())


class TestShortSoak:
    pytestmark = pytest.mark.timeout(180)

    def test_is_balanced_and_leaves_nothing(self, short: Soak) -> None:
        assert short.balance.complaints == ()
        assert short.left == ()
        assert short.balance.lost == 0
        assert short.balance.accepted > 0
        assert short.balance.connections > 0
        assert sum(short.faults.values()) > 0

    def test_shows_every_number(self, short: Soak) -> None:
        text = report(short)
        assert f"{short.balance.accepted:,}" in text
        assert all(one.what in text for one in short.growth)

    def test_its_picture_has_all_samples(self, short: Soak) -> None:
        pytest.importorskip("matplotlib")
        from reliability.soak.chart import make_figure

        figure = make_figure(short)
        memory, counts, rate = figure.axes
        assert points(memory.lines[0]) == len(short.samples)
        assert points(counts.lines[1]) == len(short.samples)
        assert points(rate.lines[0]) == len(short.samples) - 1


def test_what_grows_makes_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grown = growth(samples(threads=5))
    empty = balance([], [], 0)
    found = Soak(1.0, 1, "3", tuple(samples()), empty, tuple(grown), 0, {}, ())
    monkeypatch.setattr("reliability.soak.command.soak", lambda *_: found)
    assert main(["--seconds", "1"]) == 1
    assert "WRONG: threads grew" in capsys.readouterr().out
    monkeypatch.setattr("reliability.soak.command.soak", lambda *_: replace(found, growth=()))
    assert main(["--seconds", "1"]) == 0


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_refuses_no_time_at_all(seconds: str) -> None:
    with pytest.raises(SystemExit):
        main(["--seconds", seconds])


class TestDocument:
    def test_has_a_section_for_a_soak(self) -> None:
        found = Soak(
            600.0,
            1,
            "3",
            tuple(samples()),
            judged(GOOD, ARRIVED),
            tuple(growth(samples())),
            0,
            {"kill": 2},
            (),
        )
        text = document([], json.loads(json.dumps(summary(found))))
        assert "600 seconds, seed 1" in text
        assert "**0 lost**" in text
        assert "memory: 95.4 MiB, then 95.4 MiB" in text
        assert "make soak SECONDS=600" in text

    def test_has_none_without(self, tmp_path: Path) -> None:
        assert load_soak(tmp_path / "none.json") is None
        assert "soak" not in document([], None)


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
