"""Running the application's callbacks: in order, one at a time, and their errors never get out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from wsclient.callbacks import Callbacks, Direct, Ordered, Received
from wsclient.options import Options

BOUND = 10.0  # seconds that nothing here needs
LOG = logging.LoggerAdapter(logging.getLogger("wsclient"), {"connection_id": "test"})


class Application:
    """Notes what it is called with. ``raising`` says which call raises what."""

    def __init__(self, **raising: BaseException) -> None:
        self.raising = raising
        self.seen: list[tuple[Any, ...]] = []
        self.threads: set[str] = set()

    def note(self, name: str, *args: object) -> None:
        self.seen.append((name, *args))
        self.threads.add(threading.current_thread().name)
        if name in self.raising:
            raise self.raising[name]

    def on_open(self, connection: object) -> None:
        self.note("on_open", connection)

    def on_message(self, connection: object, message: str | bytes) -> None:
        self.note("on_message", connection, message)

    def on_close(self, connection: object, code: int, reason: str) -> None:
        self.note("on_close", connection, code, reason)

    def on_error(self, connection: object, error: BaseException) -> None:
        self.note("on_error", connection, error)

    def on_dropped(self, connection: object, message: str | bytes) -> None:
        self.note("on_dropped", connection, message)

    def callbacks(self, *names: str) -> Callbacks:
        chosen = names or ("on_open", "on_message", "on_close", "on_error", "on_dropped")
        callbacks = Callbacks(Options.from_kwargs({name: getattr(self, name) for name in chosen}), LOG)
        callbacks.connection = "conn"
        return callbacks


def run_all(callbacks: Callbacks) -> None:
    callbacks.opened()
    callbacks.received(["a", b"b"])
    callbacks.dropped("c")
    callbacks.closed(1000, "bye")


# --------------------------------------------------------------------------------------------- what is called


def test_each_gets_the_connection_first() -> None:
    application = Application()
    run_all(application.callbacks())
    assert application.seen == [
        ("on_open", "conn"),
        ("on_message", "conn", "a"),
        ("on_message", "conn", b"b"),
        ("on_dropped", "conn", "c"),
        ("on_close", "conn", 1000, "bye"),
    ]


def test_none_is_needed() -> None:
    callbacks = Callbacks(Options(), LOG)
    assert not callbacks.any
    callbacks.opened()
    callbacks.dropped("c")
    callbacks.failed(ValueError())
    callbacks.closed(1000, "")
    assert callbacks.errors == 0


@pytest.mark.parametrize("name", ["on_open", "on_message", "on_close", "on_error", "on_dropped"])
def test_any_one_counts(name: str) -> None:
    assert Application().callbacks(name).any


def test_an_error_of_the_connection_goes_to_on_error() -> None:
    application, error = Application(), ConnectionResetError()
    callbacks = application.callbacks()
    callbacks.failed(error)
    assert application.seen == [("on_error", "conn", error)]
    assert callbacks.errors == 0, "that was none of a callback"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_on_dropped_runs_in_send_and_lets_what_ends_that_thread_through(kind: type[BaseException]) -> None:
    callbacks = Application(on_dropped=kind("mine")).callbacks()
    with pytest.raises(kind, match="mine"):
        callbacks.dropped("c")
    assert callbacks.errors == 0


BREAKING = [
    (name, kind)
    for name in ("on_open", "on_message", "on_close", "on_dropped")
    for kind in (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit)
    if name != "on_dropped" or kind is ValueError
]


@pytest.mark.parametrize(("name", "kind"), BREAKING)
def test_an_exception_is_logged_and_told_and_does_no_harm(
    name: str, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    error = kind("mine")
    application = Application(**{name: error})
    callbacks = application.callbacks()
    with caplog.at_level(logging.ERROR):
        run_all(callbacks)
    assert [call[0] for call in application.seen if call[0] != "on_error"] == [
        "on_open",
        "on_message",
        "on_message",
        "on_dropped",
        "on_close",
    ]
    told = [call[2] for call in application.seen if call[0] == "on_error"]
    assert told == [error] * callbacks.errors
    assert callbacks.errors == (2 if name == "on_message" else 1)
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == told
    assert f"{name} raised {kind.__name__}" in caplog.text


def test_an_exception_in_on_error_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    first, second = ValueError("first"), SystemExit("second")
    application = Application(on_message=first, on_error=second)
    callbacks = application.callbacks()
    with caplog.at_level(logging.ERROR):
        callbacks.received(["a"])
        callbacks.failed(ValueError("other"))
    assert [call[0] for call in application.seen] == ["on_message", "on_error", "on_error"]
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [first, second, second]
    assert callbacks.errors == 3


def test_without_on_error_an_exception_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        Application(on_open=ValueError("mine")).callbacks("on_open").opened()
    assert "mine" in caplog.text


def test_a_callback_without_a_name(caplog: pytest.LogCaptureFixture) -> None:
    class Callable_:  # noqa: N801
        def __call__(self, connection: object) -> None:
            raise ValueError

    with caplog.at_level(logging.ERROR):
        Callbacks(Options(on_open=Callable_()), LOG).opened()
    assert "callback raised ValueError" in caplog.text


# ------------------------------------------------------------------------------------- on the reader's thread


def test_directly() -> None:
    application = Application()
    callbacks = application.callbacks()
    runner = Direct(callbacks.received)
    runner.call(callbacks.opened)
    runner.deliver(["a"])
    runner.stop_waiting()
    runner.call(lambda: callbacks.closed(1000, ""))
    assert [call[0] for call in application.seen] == ["on_open", "on_message", "on_close"]
    assert application.threads == {threading.current_thread().name}


# --------------------------------------------------------------------------------------------- on an executor


class Slow(Application):
    """Its handler of messages goes on only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.may_go = threading.Semaphore(0)

    def on_message(self, connection: object, message: str | bytes) -> None:
        self.entered.release()
        assert self.may_go.acquire(timeout=BOUND)
        super().on_message(connection, message)

    def let_all_go(self) -> None:
        self.may_go.release(1000)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, thread_name_prefix="pool") as executor:
        yield executor


def ordered(executor: Executor, application: Application, max_messages: int = 1000) -> Ordered:
    return Ordered(executor, application.callbacks(), max_messages, 1 << 20)


def end(runner: Ordered) -> threading.Event:
    """Have something run after everything delivered so far."""
    done = threading.Event()
    runner.call(done.set)
    return done


def messages(application: Application) -> list[str | bytes]:
    return [call[2] for call in application.seen if call[0] == "on_message"]


def test_in_order_on_threads_of_the_executor() -> None:
    application = Application()
    expected: list[Received] = [str(number) for number in range(2000)]
    with ThreadPoolExecutor(4, thread_name_prefix="pool") as executor:
        runner = ordered(executor, application, max_messages=64)
        runner.call(lambda: application.note("first"))
        for start in range(0, len(expected), 7):
            runner.deliver(expected[start : start + 7])
        assert end(runner).wait(BOUND)
    assert application.seen[0] == ("first",)
    assert messages(application) == expected
    assert all(name.startswith("pool") for name in application.threads)


def test_one_at_a_time() -> None:
    inside: list[int] = []
    lock = threading.Lock()

    def alone(connection: object, message: str | bytes) -> None:
        entered = lock.acquire(blocking=False)
        inside.append(entered)
        if entered:
            lock.release()

    callbacks = Callbacks(Options(on_message=alone), LOG)
    with ThreadPoolExecutor(8) as executor:
        runner = Ordered(executor, callbacks, 1000, 1 << 20)
        for number in range(3000):
            runner.deliver([str(number)])
        assert end(runner).wait(BOUND)
    assert inside == [True] * 3000


def test_what_the_peer_causes_waits_for_room(pool: ThreadPoolExecutor) -> None:
    """``on_ping`` in a slow executor: no peer fills our memory with pings, and none is lost."""
    gate, called = threading.Event(), list[int]()
    runner = Ordered(pool, Callbacks(Options(), LOG), 8, 1 << 20)

    def hold() -> None:
        gate.wait(BOUND)

    def read() -> None:
        for number in range(300):
            runner.call_in_turn(partial(called.append, number))

    runner.call(hold)
    reader = threading.Thread(target=read)
    reader.start()
    while len(runner.inbox) < 8:
        gate.wait(0.001)
    gate.set()
    reader.join(BOUND)
    assert end(runner).wait(BOUND)
    assert called == list(range(300))
    assert runner.inbox.high <= 8


def test_an_error_does_not_end_the_turn(pool: ThreadPoolExecutor) -> None:
    application = Application(on_message=SystemExit())
    runner = ordered(pool, application)
    runner.deliver(["a", "b"])
    assert end(runner).wait(BOUND)
    assert messages(application) == ["a", "b"]


def test_a_slow_handler_holds_up_nobody_until_the_bound(pool: ThreadPoolExecutor) -> None:
    application = Slow()
    runner = ordered(pool, application, max_messages=4)
    runner.deliver(["0"])
    assert application.entered.acquire(timeout=BOUND)
    runner.deliver(["1", "2", "3", "4"])
    reader = threading.Thread(target=runner.deliver, args=(["5"],))
    reader.start()
    application.let_all_go()
    reader.join(BOUND)
    assert not reader.is_alive()
    assert end(runner).wait(BOUND)
    assert messages(application) == [str(number) for number in range(6)]


def test_the_last_callback_comes_however_full_it_is(pool: ThreadPoolExecutor) -> None:
    """close() lets messages go that find no room; on_close is none of them."""
    application = Slow()
    runner = ordered(pool, application, max_messages=2)
    runner.deliver(["0"])
    assert application.entered.acquire(timeout=BOUND)
    runner.deliver(["1", "2"])
    runner.stop_waiting()
    runner.deliver(["3", "4"])
    done = end(runner)
    assert not done.is_set()
    application.let_all_go()
    assert done.wait(BOUND)
    assert messages(application) == ["0", "1", "2"]
    assert runner.inbox.dropped == 2


def test_a_callback_never_waits_for_room(pool: ThreadPoolExecutor) -> None:
    application = Slow()
    runner = ordered(pool, application, max_messages=1)
    runner.deliver(["0"])
    assert application.entered.acquire(timeout=BOUND)
    runner.deliver(["1"])
    done = end(runner)
    application.let_all_go()
    assert done.wait(BOUND)


def test_others_on_the_executor_get_a_turn(pool: ThreadPoolExecutor) -> None:
    application = Slow()
    runner = ordered(pool, application)
    runner.deliver([str(number) for number in range(600)])
    assert application.entered.acquire(timeout=BOUND)
    others = pool.submit(lambda: len(application.seen))
    application.let_all_go()
    assert others.result(BOUND) == 256
    assert end(runner).wait(BOUND)
    assert len(messages(application)) == 600


def test_two_connections_share_one_thread(pool: ThreadPoolExecutor) -> None:
    applications = [Application(), Application()]
    runners = [ordered(pool, application) for application in applications]
    for number in range(1000):
        for runner in runners:
            runner.deliver([str(number)])
    for runner in runners:
        assert end(runner).wait(BOUND)
    assert [messages(application) for application in applications] == [[str(n) for n in range(1000)]] * 2


# ---------------------------------------------------------------------------------- an executor that has gone


def test_an_executor_that_was_shut_down_loses_nothing(pool: ThreadPoolExecutor) -> None:
    application = Application()
    runner = ordered(pool, application)
    pool.shutdown()
    runner.deliver([str(number) for number in range(300)])
    assert end(runner).is_set()
    assert len(messages(application)) == 300
    assert application.threads == {threading.current_thread().name}


def test_an_executor_that_is_shut_down_meanwhile_loses_nothing(pool: ThreadPoolExecutor) -> None:
    application = Slow()
    runner = ordered(pool, application)
    expected: list[Received] = [str(number) for number in range(600)]
    runner.deliver(expected)
    assert application.entered.acquire(timeout=BOUND)
    pool.shutdown(wait=False)
    done = end(runner)
    application.let_all_go()
    assert done.wait(BOUND)
    assert messages(application) == expected


def test_an_executor_whose_work_is_cancelled_loses_nothing(pool: ThreadPoolExecutor) -> None:
    application, busy = Application(), threading.Event()
    blocker = pool.submit(busy.wait, BOUND)
    runner = ordered(pool, application)
    runner.deliver(["a", "b"])
    pool.shutdown(wait=False, cancel_futures=True)
    assert end(runner).wait(BOUND)
    assert messages(application) == ["a", "b"]
    # That thread shuts the executor down under the executor's lock.
    assert threading.current_thread().name not in application.threads
    busy.set()
    blocker.result(BOUND)


class AtOnce(Executor):
    """Runs everything on the thread that submits it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_an_executor_that_runs_at_once() -> None:
    application = Application()
    runner = ordered(AtOnce(), application)
    runner.deliver([str(number) for number in range(1000)])
    assert end(runner).is_set()
    assert len(messages(application)) == 1000
