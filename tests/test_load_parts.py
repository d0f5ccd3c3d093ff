"""The pure parts of the load engine: plans, schedules, payloads, matching, distributions, thresholds."""

from __future__ import annotations

import json
import math
import pickle
import random
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsclient.load import Account, Expect, Plan, judge, parse_threshold
from wsclient.load.collector import Collector
from wsclient.load.matching import ByContent, ByIdentity, InOrder, Kind, Table, Waiting
from wsclient.load.measure import Distribution, binned, drain, quantiles
from wsclient.load.messages import Died, Final, Tick
from wsclient.load.payload import described, filler_of, maker_of, number_in, prefix_of, read_lines
from wsclient.load.recorder import Recorder
from wsclient.load.remarks import account_remarks, generator_remarks, rate_remarks
from wsclient.load.result import Latency, Resources, Result, Second, SetUp
from wsclient.load.run import summary_of
from wsclient.load.scenario import load_scenario
from wsclient.load.schedule import Schedule, schedule_of
from wsclient.load.thresholds import METRICS

URL = "ws://localhost:1/"


# -- plans --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        ({}, "duration: give it"),
        ({"duration": 0}, "duration: must be over 0"),
        ({"duration": "5"}, "duration: must be a number"),
        ({"duration": float("nan")}, "duration: must be over 0"),
        ({"duration": 1, "connections": 0}, "connections: must be at least 1"),
        ({"duration": 1, "connections": 1.5}, "connections: must be int"),
        ({"duration": 1, "connections": 70_000}, "connections: must be at most"),
        ({"duration": 1, "workers": True}, "workers: must be int"),
        ({"duration": 1, "processes": 2}, "processes: must be at most connections"),
        ({"duration": 1, "rate": 1, "rate_per_connection": 1}, "rate: can't be combined"),
        ({"duration": 1, "rate": -1}, "rate: must be over 0"),
        ({"duration": 1, "ramp": 2}, "ramp: must be at most duration"),
        ({"messages": 0}, "messages: must be at least 1"),
        ({"messages": 1, "expect": "ehco"}, "expect: must be one of 'none', 'echo', 'reply'"),
        ({"messages": 1, "size": 19}, "size: must be at least 20"),
        ({"messages": 1, "size": 64, "payload_file": "x"}, "size: can't be combined with payload_file"),
        ({"messages": 1, "payload_file": "/nowhere"}, "payload_file: there is no file '/nowhere'"),
        ({"messages": 1, "scenario": "/nowhere.py"}, "scenario: there is no file"),
        ({"messages": 1, "options": {"on_message": print}}, "options: 'on_message' can't be set"),
        ({"messages": 1, "options": {"ssl_context": None}}, "give tls"),
        ({"messages": 1, "options": {"heders": {}}}, "did you mean 'headers'"),
        ({"messages": 1, "url": "http://x/"}, "use ws"),
        ({"messages": 1, "url": []}, "url: there is none"),
        ({"messages": 1, "url": [1]}, "url: must be str"),
        (
            {"messages": 1, "connections": 2, "processes": 2, "options": {"headers": lambda: {}}},
            "'headers' can't be given to other processes",
        ),
        (
            {"messages": 1, "expect": "reply", "options": {"reconnect": True, "delivery": "at_least_once"}},
            "expect: 'reply' goes by the order",
        ),
    ],
)
def test_a_bad_plan_is_refused_by_the_name_of_its_field(given_: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Plan(**{"url": URL, **given_})
    assert text in str(caught.value)


def test_a_plan_shows_no_secrets_and_can_be_pickled() -> None:
    plan = Plan(
        url="ws://ada:s3cr3t@localhost:1/{connection}?token=s3cr3t",
        duration=1,
        connections=3,
        rate_per_connection=2,
        options={"headers": {"Authorization": "s3cr3t"}},
    )
    assert "s3cr3t" not in repr(summary_of(plan))
    copy = pickle.loads(pickle.dumps(plan))
    assert copy == plan
    assert copy.url_of(2) == "ws://ada:s3cr3t@localhost:1/2?token=s3cr3t"
    assert copy.total_rate == 6


def test_connections_take_urls_in_turn() -> None:
    plan = Plan(url=["ws://a/", "ws://b/{connection}"], connections=3, messages=1)
    assert [plan.url_of(number) for number in range(3)] == ["ws://a/", "ws://b/1", "ws://a/"]


# -- schedules ----------------------------------------------------------------------------------------

SCHEDULES = st.builds(
    Schedule,
    begin=st.floats(0, 5),
    interval=st.floats(0.05, 2),
    growth=st.floats(0, 5),
    phase=st.floats(0, 0.99),
    end=st.floats(0.1, 20),
    quota=st.none() | st.integers(0, 50),
)


@given(SCHEDULES, st.floats(0, 25))
@example(Schedule(begin=0.0, interval=1.0, growth=2.0, phase=0.0, end=1.0), 2.0**-14)
def test_the_count_is_that_of_the_messages_that_are_due(schedule: Schedule, until: float) -> None:
    limit = min(until, schedule.end)
    numbers = range(600 if schedule.quota is None else schedule.quota)
    assert schedule.count(until) == sum(schedule.due(number) < limit for number in numbers)


@given(SCHEDULES)
def test_messages_are_due_in_order_and_at_the_full_rate_in_the_end(schedule: Schedule) -> None:
    assert schedule.interval is not None
    times = [schedule.due(number) for number in range(300)]
    assert all(early <= late for early, late in pairwise(times))
    assert times[0] >= schedule.begin
    grown = [time for time in times if time > schedule.begin + schedule.growth]
    assert all(late - early == pytest.approx(schedule.interval) for early, late in pairwise(grown))


def test_workers_share_a_rate_evenly() -> None:
    plan = Plan(url=URL, connections=4, workers=2, rate=100, duration=1)
    schedules = [schedule_of(plan, connection, worker) for connection in range(4) for worker in range(2)]
    times = sorted(schedule.due(number) for schedule in schedules for number in range(13))
    assert times[:100] == pytest.approx([number / 100 for number in range(100)])


def test_a_ramp_is_a_straight_line() -> None:
    plan = Plan(url=URL, connections=5, workers=2, rate=1000, duration=20, ramp=10)
    schedules = [schedule_of(plan, connection, worker) for connection in range(5) for worker in range(2)]
    sent = [sum(schedule.count(second) for schedule in schedules) for second in range(21)]
    # The integral of 1000 * t / 10, then 1000 a second.
    assert sent[:11] == pytest.approx([50 * second**2 for second in range(11)], abs=10)
    assert sent[11:] == pytest.approx([5000 + 1000 * second for second in range(1, 11)], abs=10)


def test_messages_are_shared_out_to_the_last() -> None:
    plan = Plan(url=URL, connections=3, workers=2, messages=10)
    shares = [
        schedule_of(plan, connection, worker).count(math.inf)
        for connection in range(3)
        for worker in range(2)
    ]
    assert shares == [2, 2, 2, 2, 1, 1]


def test_without_an_end_all_of_the_quota_is_due() -> None:
    assert Schedule(interval=0.5, quota=7).count(math.inf) == 7
    assert Schedule(quota=7).count(math.inf) == 7
    assert Schedule(quota=7).count(1.0) == 0


def test_a_closed_loop_that_ends_by_time_skips_nothing() -> None:
    assert Schedule(end=5, quota=100).count(math.inf) == 0


# -- payloads -----------------------------------------------------------------------------------------


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 2**32 - 1))
def test_an_identity_says_whose_it_is(connection: int, worker: int, number: int) -> None:
    identity = f"{prefix_of('abcd', connection, worker)}{number:08x}"
    assert len(identity) == 20
    assert number_in(identity) == number_in(identity.encode()) == (worker, number)


def test_what_is_no_identity_names_nothing() -> None:
    assert number_in("hello") is None


@pytest.mark.parametrize("size", [20, 21, 64, 70_000])
@pytest.mark.parametrize("binary", [False, True])
def test_generated_messages_have_their_size_and_are_all_different(size: int, binary: bool) -> None:
    plan = Plan(url=URL, messages=1, size=size, binary=binary)
    make = maker_of(plan, "abcd", 1, 2, ())
    assert {len(make(number)) for number in range(3)} == {size}
    assert len({make(number) for number in range(3)}) == 3
    assert isinstance(make(0), bytes if binary else str)


def test_without_an_answer_a_message_may_be_empty() -> None:
    make = maker_of(Plan(url=URL, messages=1, size=0, expect=Expect.NONE), "abcd", 0, 0, ())
    assert make(0) == ""


def test_lines_are_taken_in_turn_and_can_carry_an_identity(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"a": 1}\n\n{"b": "{id}"}\n')
    plan = Plan(url=URL, messages=1, payload_file=str(path))
    make = maker_of(plan, "abcd", 0, 0, read_lines(str(path)))
    assert [make(0), make(1), make(2)] == ['{"a": 1}', '{"b": "abcd0000000000000001"}', '{"a": 1}']
    assert described(plan) == f"lines of {path} as text"


@pytest.mark.parametrize(("content", "text"), [(b"\n\n", "has no line"), (b"\xff", "cannot read")])
def test_a_useless_payload_file_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "lines"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=text):
        read_lines(str(path))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1", "has no function scenario"),
        ("scenario = 1", "is no function"),
        ("def scenario(client): ...\nsetup = 3", "setup in"),
        ("1/0", "ZeroDivisionError"),
    ],
)
def test_a_useless_scenario_is_refused(tmp_path: Path, source: str, text: str) -> None:
    path = tmp_path / "scenario.py"
    path.write_text(source)
    with pytest.raises(ValueError, match=text):
        load_scenario(str(path))


def test_a_scenario_is_a_python_file(tmp_path: Path) -> None:
    path = tmp_path / "scenario.txt"
    path.write_text("")
    with pytest.raises(ValueError, match=r"must end with \.py"):
        load_scenario(str(path))


# -- matching -----------------------------------------------------------------------------------------

REST = filler_of(4)


def _identified(number: int) -> str:
    return f"{prefix_of('abcd', 7, 0)}{number:08x}{REST}"


def _by_identity() -> Table:
    return ByIdentity(REST, "abcd0007", 2)


TABLES: list[Callable[[], Table]] = [_by_identity, lambda: ByContent(2), lambda: InOrder(2)]


@pytest.mark.parametrize("make", TABLES)
def test_an_answer_finds_its_message_once(make: Callable[[], Table]) -> None:
    table, waiting = make(), [Waiting(0.0, 0, number) for number in range(3)]
    for number, one in enumerate(waiting):
        table.enter(_identified(number), one)
    assert len(table) == 3
    assert table.take(_identified(0)) == (Kind.ANSWER, waiting[0])
    assert table.remove(_identified(1), waiting[1])
    assert not table.remove(_identified(1), waiting[1])
    assert table.waiting() == [waiting[2]]
    assert table.pop_message(_identified(2)) is waiting[2]
    assert table.pop_message(_identified(2)) is None
    assert len(table) == 0
    assert table.take("what is this")[0] is Kind.UNEXPECTED


@pytest.mark.parametrize("make", TABLES)
def test_an_answer_to_an_expired_message_is_late_while_that_is_remembered(make: Callable[[], Table]) -> None:
    table = make()
    for number in range(5):
        table.enter(_identified(number), Waiting(float(number), 0, number))
    assert table.expire(lambda one: one.number < 3) == 3  # of which two are remembered
    assert table.expire(lambda one: one.number < 3) == 0
    assert [one.number for one in table.waiting()] == [3, 4]
    kind, late = table.take(_identified(1))
    assert kind is Kind.LATE
    assert late is not None
    assert late.number == 1
    assert len(table) == 2


def test_generated_messages_tell_what_is_wrong_with_an_answer() -> None:
    table = _by_identity()
    one = Waiting(0.0, 0, 0)
    table.enter(_identified(0), one)
    assert table.take(_identified(0)[:-1] + "?") == (Kind.CORRUPTED, one)
    table.enter(_identified(1), Waiting(0.0, 0, 1))
    assert table.take(_identified(1))[0] is Kind.ANSWER
    assert table.take(_identified(1))[0] is Kind.DUPLICATE
    assert table.take(_identified(1).replace("abcd", "efgh"))[0] is Kind.UNEXPECTED
    assert table.take(b"\xff\xfe")[0] is Kind.UNEXPECTED
    table.enter(_identified(2), Waiting(0.0, 0, 2))
    table.expire(lambda _: True)
    assert table.take(_identified(2) + "more") == (Kind.CORRUPTED, None)


def test_equal_lines_are_matched_in_order() -> None:
    table = ByContent(5)
    first, second = Waiting(0.0, 0, 0), Waiting(0.0, 1, 0)
    table.enter("a", first)
    table.enter("a", second)
    assert table.take("a")[1] is first
    assert table.take("a")[1] is second


def test_the_oldest_are_given_up_with_their_link() -> None:
    table = InOrder(5)
    for number in range(4):
        table.enter("", Waiting(0.0, 0, number))
    table.expire(lambda one: one.number == 0)
    assert [one.number for one in table.pop_oldest(2)] == [1]
    assert table.taken == 2
    newest = table.pop_message("")
    assert newest is not None
    assert newest.number == 3


# -- distributions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
@pytest.mark.parametrize("scale", [1e-4, 0.1, 5000])
def test_bins_and_histograms_are_within_a_thousandth(count: int, scale: float) -> None:
    source = random.Random(count)
    samples = [source.random() * scale for _ in range(count)]
    bins = binned(samples)
    distribution = Distribution()
    distribution.add(bins)
    summary = distribution.summary("x", "sent")
    ordered = sorted(samples)
    assert summary.count == sum(bins.values()) == len(samples)
    for percent, found in zip((50, 90, 100), quantiles(bins, (50, 90, 100)), strict=True):
        rank = max(-(-percent * len(samples) // 100), 1)
        assert found == pytest.approx(ordered[rank - 1], rel=1.5e-3, abs=2e-6)
    assert summary.maximum == pytest.approx(ordered[-1], rel=1.5e-3, abs=2e-6)
    assert summary.overflowed == sum(sample > 3600.0000005 for sample in samples)
    assert summary.distribution[-1].percent == 100
    assert summary.distribution[-1].count == len(samples)
    assert all(a.seconds <= b.seconds and a.percent <= b.percent for a, b in pairwise(summary.distribution))


def test_histograms_of_parts_are_that_of_the_whole() -> None:
    source = random.Random(1)
    samples = [source.lognormvariate(-7, 1) for _ in range(500)]
    whole, parts = Distribution(), Distribution()
    whole.add(binned(samples))
    for start in range(0, 500, 100):
        parts.add(binned(samples[start : start + 100]))
    assert parts.summary("x", "sent") == whole.summary("x", "sent")


def test_without_samples_there_are_no_percentiles() -> None:
    summary = Distribution().summary("x", "sent")
    assert summary == Latency(what="x", since="sent")
    assert summary.at(99) == 0.0


def test_draining_takes_what_is_there() -> None:
    samples = deque([1.0, 2.0])
    assert drain(samples) == [1.0, 2.0]
    assert not samples


def test_errors_are_counted_by_kind_with_the_first_example() -> None:
    recorder = Recorder()
    recorder.error("A", "first")
    recorder.error("A", "second", 2)
    recorder.exception(ValueError())
    notes = recorder.errors()
    assert (notes["A"].count, notes["A"].first, notes["ValueError"].first) == (3, "first", "ValueError")


def test_kinds_of_errors_are_bounded() -> None:
    recorder = Recorder()
    for number in range(500):
        recorder.error(f"kind {number}", "x" * 10_000)
    notes = recorder.errors()
    assert len(notes) <= 101
    assert sum(note.count for note in notes.values()) == 500
    assert max(len(note.first) for note in notes.values()) <= 500


# -- results, thresholds, remarks ----------------------------------------------------------------------


@cache
def _latency() -> Latency:
    distribution = Distribution()
    distribution.add(binned([0.001 * number for number in range(1, 101)]))
    return distribution.summary("round trip", "intended")


def _result(**changes: Any) -> Result:
    result = Result(
        plan=summary_of(Plan(url=URL, duration=10, rate=100)),
        started="2030-01-01T00:00:00+00:00",
        elapsed=10.0,
        account=Account(attempted=1000, accepted=1000, written=1000, confirmed=1000, answered=998, lost=2),
        latency=_latency(),
        seconds=(),
        errors=(),
        setup=SetUp(attempted=1, opened=1, failed=0, latency=Latency(what="connection set-up", since="sent")),
        resources=_resources(),
        warnings=(),
        interrupted=False,
    )
    return replace(result, **changes)


def _resources(**changes: Any) -> Resources:
    return replace(
        Resources(
            cpu_seconds=1.0,
            cpu_mean=0.1,
            cpu_peak=0.2,
            lag_p99=0.0001,
            lag_maximum=0.001,
            max_rss=1,
            threads=1,
            processes=1,
        ),
        **changes,
    )


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("p99>98ms", False),
        ("p99 > 100ms", True),
        ("p99.9>=50000us", False),
        ("p50<1ms", True),
        ("max>0.2s", True),
        ("mean>=50ms", False),
        ("errors>0", True),
        ("lost>0", False),
        ("lost>2", True),
        ("rate<1_000/s", False),
        ("rate<100", True),
        ("error_rate>1%", True),
        ("cpu>=0.1", False),
        ("warnings>0", True),
    ],
)
def test_a_threshold_says_when_the_run_has_failed(text: str, passed: bool) -> None:
    (verdict,) = judge([parse_threshold(text)], _result())
    assert verdict.passed is passed
    assert verdict.text == text


def test_a_time_without_samples_is_no_quick_one() -> None:
    (verdict,) = judge([parse_threshold("p99>1s")], _result(latency=Latency(what="x", since="sent")))
    assert not verdict.passed


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_number(name: str) -> None:
    assert METRICS[name].of(_result()) >= 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("p99", "must be a metric"),
        ("p99=50ms", "not ="),
        ("p99>50", "compared with a time such as 50ms, 200us or 1.5s, not with no unit"),
        ("errors>0ms", "a whole number, not with 'ms'"),
        ("p101>1s", "a percentile is over 0"),
        ("p0>1s", "a percentile is over 0"),
        ("erors>0", "did you mean 'errors'? there are p50"),
        ("zebra>0", "there are p50"),
        ("p99>-5ms", "must be a metric"),
    ],
)
def test_a_bad_threshold_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="threshold") as caught:
        parse_threshold(text)
    assert complaint in str(caught.value)


def test_accounts_add_up() -> None:
    one = Account(attempted=3, refused=1, accepted=2, written=2, confirmed=2, answered=1, lost=1, received=1)
    both = one + one
    assert both.lost == 2
    assert both.problems(answers=True) == ()


@pytest.mark.parametrize("field", [field.name for field in fields(Account)])
def test_an_account_that_does_not_add_up_says_so(field: str) -> None:
    good = Account(attempted=3, refused=1, accepted=2, written=2, confirmed=2, answered=1, lost=1, received=1)
    bad = replace(good, **{field: getattr(good, field) + 1})
    # Two are no part of any sum.
    assert bool(bad.problems(answers=True)) is (field not in ("late", "skipped"))
    assert replace(good, late=-1).problems(answers=True) == ("late is -1",)


def test_a_result_is_json() -> None:
    told = json.loads(json.dumps(_result().as_dict()))
    assert told["account"]["lost"] == 2
    assert told["sent_rate"] == 100
    assert told["plan"]["loop"] == "open"


def test_a_busy_generator_is_told() -> None:
    seconds = [Second(second=at, cpu=0.97 if at % 2 else 0.1) for at in range(10)]
    latency = Latency(what="x", since="sent", overflowed=1)
    remarks = list(generator_remarks(seconds, _resources(lag_p99=0.05), latency, processes=1, cores=4))
    assert "5 of 10 seconds" in remarks[0]
    assert "more processes" in remarks[0]
    assert "50 ms" in remarks[1]
    assert "an hour" in remarks[2]
    assert not list(generator_remarks((), _resources(), replace(latency, overflowed=0), processes=1, cores=1))


def test_a_rate_that_was_not_reached_is_told() -> None:
    plan = Plan(url=URL, duration=5, rate=100)
    seconds = [Second(second=at, sent=50) for at in range(5)]
    remarks = list(rate_remarks(plan, seconds, Account(skipped=7), 5.0))
    assert "7 messages were due" in remarks[0]
    assert "50.0/s of 100.0/s" in remarks[1]


def test_what_is_missing_is_told() -> None:
    account = Account(lost=1, in_doubt=2, unsent=3, duplicated=4, received=5, accepted=6)
    text = "\n".join(account_remarks(Plan(url=URL, messages=1), account))
    for word in (
        "does not balance",
        "1 messages were lost",
        "in doubt",
        "not written",
        "twice",
        "echo server",
    ):
        assert word in text


# -- what several processes report ------------------------------------------------------------------------


def _tick(process: int, second: int) -> Tick:
    return Tick(
        process=process,
        second=second,
        sent=1,
        received=1,
        errors={},
        notes={},
        open_connections=2,
        bins={},
        setups={},
        attempted=2,
        opened=2,
        lags={},
        cpu=0.1,
        cpu_seconds=0.1,
        max_rss=1,
        threads=1,
        account=Account(),
    )


def test_a_process_that_is_done_before_the_others_is_not_missed() -> None:
    collector = Collector(Plan(url="ws://localhost", messages=1), 2)
    assert collector.add(_tick(0, 0)) is None
    told = [collector.add(_tick(1, 0))]
    collector.add(Final(process=0, account=Account(), stopped=1.0))
    told.append(collector.add(_tick(1, 1)))
    assert [second and second.open_connections for second in told] == [4, 4]
    assert tuple(told) == collector.seconds()


def test_a_process_that_has_died_is_missed() -> None:
    collector = Collector(Plan(url="ws://localhost", messages=1), 2)
    for report in (_tick(0, 0), _tick(1, 0), Died(0, "killed")):
        collector.add(report)
    told = collector.add(_tick(1, 1))
    assert told is not None
    assert told.open_connections == 2
