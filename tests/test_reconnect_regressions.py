"""Faults that a hostile review of reconnection has found: each test failed once."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_all
from typing import Any, NoReturn

import pytest
from test_reconnect import BOUND, OPEN_END, Watch, confirm, received, servers, tell
from test_regressions import stalled
from test_writer import Desk

import wsclient
from wsclient import ClosedBy, DisconnectKind, Reconnect, State
from wsclient.items import Entry
from wsclient.ledger import Ledger
from wsclient.testing import (
    FaultServer,
    Peer,
    accept_upgrade,
    black_hole,
    close_then_reset,
    cut,
    http_response,
    read_frames,
    read_messages,
    read_until_close,
    reset,
    send_close,
    send_text,
    step,
    wait,
)

LATER = Reconnect(initial_delay=3600, max_delay=3600, jitter="none")
ROOMY: dict[str, Any] = {"max_queued_messages": 20_000, "max_queued_bytes": 1 << 26, "ping_interval": None}
DELIVERIES = pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
SECRET = "s3cr3t"


def until(met: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(BOUND * 1000)):
        if met():
            return
        pause.wait(0.001)
    pytest.fail("it never came to that")


def stall_writer(conn: wsclient.Connection) -> None:
    for _ in stalled(conn):
        pass


def numbered(count: int) -> list[str]:
    """More than the buffers of a system take, if it is thousands."""
    return [f"{number:06}".ljust(1000, "x") for number in range(count)]


def handed_back(watch: Watch, conn: wsclient.Connection) -> list[str | bytes]:
    told = [message for reason in watch.reasons for message in reason.in_doubt]
    return [*told, *conn.in_doubt]


@step
def take_some(peer: Peer, size: int) -> None:
    while size > 0:
        size -= peer.read_bytes(size)


class TestAccount:
    """Every accepted message is received, in doubt, or unsent."""

    @DELIVERIES
    def test_a_batch_that_is_cut_in_half(self, delivery: str) -> None:
        watch, go, messages = Watch(), threading.Event(), numbered(6000)
        script = [take_some(20_000), wait(go), reset()]
        with servers(script, OPEN_END, receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, **watch.options(delivery=delivery, **ROOMY))
            for message in messages:
                conn.send(message)
            stall_writer(conn)
            go.set()
            watch.wait_for("again")
            confirm(conn)
            conn.close()
            first, second = received(server)
        in_doubt = handed_back(watch, conn)
        assert conn.unsent == ()
        assert len(second) < len(messages) or delivery == "at_least_once"
        # What link 1 has read is in doubt, too: no pong said so.
        assert [*in_doubt, *second] == messages
        assert first == messages[: len(first)]

    def test_an_order_kept_when_a_link_is_lost_while_sending_again(self) -> None:
        watch, go, messages = Watch(), threading.Event(), numbered(4000)
        scripts = (
            [read_messages(len(messages), pong=False), reset()],
            [take_some(300_000), wait(go), reset()],
        )
        options = watch.options(delivery="at_least_once", **ROOMY)
        with servers(*scripts, OPEN_END, receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, **options)
            for message in messages:
                conn.send(message)
            watch.wait_for("again")
            stall_writer(conn)
            go.set()
            watch.wait_for("again", 2)
            confirm(conn)
            conn.close()
            assert received(server)[2] == messages
        assert conn.in_doubt == conn.unsent == ()

    def test_a_close_while_a_lost_link_is_cleared_away(self) -> None:
        watch, go, messages = Watch(), threading.Event(), numbered(6000)
        entered, release = threading.Event(), threading.Event()

        def hold(_: Future[None]) -> None:
            if go.is_set():
                entered.set()
                release.wait(BOUND)

        with FaultServer(accept_upgrade(), wait(go), reset(), receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, **watch.options(reconnect=LATER, **ROOMY))
            receipts = [conn.send_future(message) for message in messages]
            for receipt in receipts:
                receipt.add_done_callback(hold)
            stall_writer(conn)
            go.set()
            assert entered.wait(BOUND)
            until(lambda: conn.state is State.RECONNECTING)
            with ThreadPoolExecutor(1) as pool:
                closing = pool.submit(conn.close, timeout=BOUND)
                until(lambda: conn.state is not State.RECONNECTING)
                release.set()
                closing.result(BOUND)
            assert not wait_for_all(receipts, BOUND).not_done
        assert conn.unsent
        assert [*handed_back(watch, conn), *conn.unsent] == messages

    def test_the_peers_close_frame_comes_before_ours_is_written(self) -> None:
        watch, go = Watch(), threading.Event()
        messages = [bytes([number]) * (1 << 20) for number in range(12)]
        script = accept_upgrade(), wait(go), close_then_reset(1001, "going away")
        options = watch.options(delivery="at_least_once", ping_interval=None)
        with FaultServer(*script, receive_buffer=4096) as server, ThreadPoolExecutor(1) as pool:
            conn = wsclient.connect(server.url, **options)
            for message in messages:
                conn.send(message)
            stall_writer(conn)
            closing = pool.submit(conn.close, timeout=BOUND)
            until(lambda: conn.state is State.CLOSING)
            go.set()
            closing.result(BOUND)
        assert [*conn.in_doubt, *conn.unsent] == messages

    def test_close_frames_that_cross_confirm_nothing(self) -> None:
        watch, go = Watch(), threading.Event()
        messages = tuple(f"m{number}" for number in range(5))
        script = accept_upgrade(), wait(go), send_close(1001, "going away"), reset()
        with FaultServer(*script) as server, ThreadPoolExecutor(1) as pool:
            conn = wsclient.connect(server.url, **watch.options(ping_interval=None))
            for message in messages:
                conn.send(message)
            conn.flush()
            closing = pool.submit(conn.close, timeout=BOUND)
            until(lambda: conn.state is State.CLOSING)
            go.set()
            closing.result(BOUND)
        assert conn.in_doubt == messages
        assert conn.unsent == ()

    def test_the_callback_of_a_receipt_does_not_return(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What its batch had written is in the account before any receipt is given."""
        monkeypatch.setattr("wsclient.link._WRITER_GRACE", 0.05)
        watch, up = Watch(), threading.Event()
        inside, release = threading.Event(), threading.Event()

        def hold(_: Future[None]) -> None:
            inside.set()
            release.wait(BOUND)

        scripts = [[accept_upgrade(), cut()], [wait(up), accept_upgrade(), wait(inside), reset()]]
        options = watch.options(delivery="at_least_once", ping_interval=None)
        with FaultServer(scripts=scripts) as server:
            conn = wsclient.connect(server.url, **options)
            watch.wait_for("lost")
            conn.send_future("a").add_done_callback(hold)
            conn.send("b")
            conn.send("c")
            up.set()
            watch.wait_for("close 1006")
            accounts = conn.in_doubt, conn.unsent
            release.set()
            conn.close()
        assert accounts == (("a", "b", "c"), ())

    def test_on_dropped_does_not_return_while_a_link_is_lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wsclient.link._WRITER_GRACE", 0.05)
        watch, up = Watch(), threading.Event()
        inside, release = threading.Event(), threading.Event()
        messages = tuple(f"m{number}" for number in range(5))

        def hold(_: wsclient.Connection, message: str | bytes) -> None:
            watch.dropped.append(message)
            inside.set()
            release.wait(BOUND)

        scripts = [[accept_upgrade(), cut()], [wait(up), accept_upgrade(), wait(inside), reset()]]
        with FaultServer(scripts=scripts) as server:
            conn = wsclient.connect(server.url, **watch.options(on_dropped=hold))
            watch.wait_for("lost")
            conn.send("late", expire=0)
            for message in messages:
                conn.send(message)
            up.set()
            watch.wait_for("close 1006")
            accounts = conn.in_doubt, conn.unsent
            release.set()
            conn.close()
        assert accounts == ((), messages)
        assert watch.dropped == ["late"]

    def test_system_exit_in_on_dropped(self) -> None:
        watch, up = Watch(), threading.Event()

        def leave(_: wsclient.Connection, message: str | bytes) -> NoReturn:
            watch.dropped.append(message)
            raise SystemExit(1)

        scripts: Any = [[accept_upgrade(), cut()], [wait(up), accept_upgrade(), *OPEN_END]]
        with FaultServer(scripts=scripts) as server:
            conn = wsclient.connect(server.url, **watch.options(on_dropped=leave))
            watch.wait_for("lost")
            conn.send("late", expire=0)
            receipts = [conn.send_future(f"r{number}") for number in range(3)]
            conn.send("m")
            up.set()
            for receipt in receipts:
                receipt.result(BOUND)
            conn.close()
            assert received(server)[1] == ["r0", "r1", "r2", "m"]
        assert watch.dropped == ["late"]
        assert watch.events == ["open", "lost", "again", "close 1000"]
        assert conn.stats().callback_errors == 1


class TestStreams:
    def test_on_reconnect_gives_up_a_stream_while_messages_wait_to_be_sent_again(self) -> None:
        watch, begun = Watch(), threading.Event()
        messages = numbered(100)

        def on_reconnect(conn: wsclient.Connection) -> None:
            stream = conn.send_stream()
            stream.write(b"x")
            assert begun.wait(BOUND)
            stream.abort()

        scripts = (
            [read_messages(len(messages), pong=False), reset()],
            [read_frames(1), tell(begun), *OPEN_END],
        )
        options = watch.options(delivery="at_least_once", ping_interval=None, on_reconnect=on_reconnect)
        with servers(*scripts) as server:
            conn = wsclient.connect(server.url, **options)
            for message in messages:
                conn.send(message)
            watch.wait_for("close 1011")
            # The message in fragments is not finished: nothing but the close frame may follow.
            data = [frame for frame in server.connections[1].frames if frame.opcode < 8]
            assert [(frame.opcode, frame.fin, frame.payload) for frame in data] == [(2, False, b"x")]
        assert [*conn.in_doubt, *conn.unsent] == messages

    def test_the_order_of_unsent_after_a_stream_was_given_up_while_lost(self) -> None:
        watch = Watch()
        with servers([cut()]) as server:
            conn = wsclient.connect(server.url, **watch.options(reconnect=LATER))
            watch.wait_for("lost")
            conn.send("before")
            stream = conn.send_stream()
            stream.write(b"2")
            conn.send("behind")
            stream.abort()
            watch.wait_for("close 1006")
        assert conn.unsent == ("before", "behind")

    def test_the_order_of_unsent_when_that_drain_is_cut_off(self) -> None:
        go, big = threading.Event(), bytes(12 << 20)
        with FaultServer(accept_upgrade(), wait(go), reset(), receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, proxy=None)
            conn.send(big)
            conn.send("before")
            stream = conn.send_stream()
            stream.write(b"2")
            conn.send("behind")
            stream.abort()
            stall_writer(conn)
            go.set()
            until(lambda: conn.state is State.CLOSED)
            conn.close()
        assert conn.unsent == (big, "before", "behind")

    def test_giving_up_a_stream_ends_an_attempt(self) -> None:
        watch = Watch()
        options = watch.options(open_timeout=3600, close_timeout=1)
        with FaultServer(scripts=[[accept_upgrade(), cut()], [black_hole()]]) as server:
            conn = wsclient.connect(server.url, **options)
            watch.wait_for("lost")
            server.wait_for_connections(2)
            stream = conn.send_stream()
            stream.write(b"2")
            stream.abort()
            watch.wait_for("close 1006")


class TestClosing:
    def test_close_in_on_reconnect_refuses_at_once(self) -> None:
        """Also once that has returned, and the backlog goes out."""
        watch, up, go, begun = Watch(), threading.Event(), threading.Event(), threading.Event()
        options = watch.options(on_reconnect=lambda conn: conn.close(timeout=BOUND))
        scripts: Any = [
            [accept_upgrade(), cut()],
            [wait(up), accept_upgrade(), take_some(1), tell(begun), wait(go), *OPEN_END],
        ]
        backlog: list[str | bytes] = [bytes([number]) * (1 << 20) for number in range(10)]
        with FaultServer(scripts=scripts, receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, **options)
            watch.wait_for("lost")
            for message in backlog:
                conn.send(message)
            up.set()
            assert begun.wait(BOUND)
            for refused in ("small", bytes(1 << 20)):
                with pytest.raises(wsclient.ConnectionClosed):
                    conn.send(refused, timeout=0)
            assert conn.state is State.CLOSING
            go.set()
            watch.wait_for("close 1000")
            assert received(server)[1] == backlog
        assert conn.unsent == ()

    def test_close_just_after_a_link_is_there(self, caplog: pytest.LogCaptureFixture) -> None:
        """Between "it is open again" and the first message: here a log handler does it."""
        watch, up = Watch(), threading.Event()

        class Closing(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.getMessage() == "open again":
                    watch.note("closing")
                    conn.close()

        caplog.set_level(logging.INFO, logger="wsclient")
        handler = Closing()
        scripts: Any = [[accept_upgrade(), cut()], [wait(up), accept_upgrade(), *OPEN_END]]
        logging.getLogger("wsclient").addHandler(handler)
        try:
            with FaultServer(scripts=scripts) as server:
                conn = wsclient.connect(server.url, **watch.options())
                watch.wait_for("lost")
                conn.send("accepted before close")
                up.set()
                watch.wait_for("close 1000")
                assert received(server)[1] == ["accepted before close"]
        finally:
            logging.getLogger("wsclient").removeHandler(handler)
        assert watch.events.count("closing") == 1
        assert conn.unsent == ()

    def test_no_deadline_outlives_its_link(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The closing handshake of a link has one; the delay before the next link is longer."""
        monkeypatch.setattr("wsclient.link._LINGER", 0.0)
        watch = Watch()
        policy = Reconnect(initial_delay=0.05, jitter="none", max_attempts=1)
        with servers([send_close(1012, "restart"), read_until_close()], OPEN_END) as server:
            with wsclient.connect(server.url, **watch.options(reconnect=policy)) as conn:
                watch.wait_for("again")
                conn.confirm(timeout=BOUND)
            assert len(server.connections) == 2
        assert watch.events[:3] == ["open", "lost", "again"]
        assert [reason.kind for reason in watch.reasons] == [DisconnectKind.CLOSED_BY_SERVER]

    @pytest.mark.parametrize("end", [[cut()], [send_close(1001, "restart"), read_until_close()]])
    def test_an_attempt_that_was_refused_is_why_it_ended(self, end: Any) -> None:
        """Also for who iterates: 1001 was the end of a link, not of the connection."""
        watch, got = Watch(), list[str | bytes]()
        scripts = [[accept_upgrade(), send_text("1"), *end], [http_response(401)]]
        with FaultServer(scripts=scripts) as server:
            conn = wsclient.connect(server.url, **watch.options())
            with pytest.raises(wsclient.ConnectionClosed, match=r"not opened again: .* 401") as caught:
                got.extend(conn)
            with pytest.raises(wsclient.ConnectionClosed, match="not opened again"):
                conn.send("x")
            watch.wait_for("close 1006")
        assert got == ["1"]
        cause = caught.value.__cause__
        assert isinstance(cause, wsclient.HandshakeError)
        assert cause.status == 401
        assert conn.closed_by is ClosedBy.NETWORK


class TestAttempts:
    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
    @pytest.mark.parametrize("which", ["url", "headers", "credentials"])
    def test_a_callable_that_wants_to_exit(self, which: str, error: BaseException) -> None:
        watch, asked = Watch(), []

        def ask(answer: Any) -> Any:
            asked.append(which)
            if len(asked) == 2:
                raise error
            return answer

        with servers([cut()], OPEN_END) as server:
            options = watch.options()
            options |= {"headers": lambda: ask({})} if which == "headers" else {}
            user = wsclient.Credentials("a", "b", "c")
            options |= {"credentials": lambda: ask(user)} if which == "credentials" else {}
            url = server.url
            with wsclient.connect((lambda: ask(url)) if which == "url" else url, **options) as conn:
                watch.wait_for("again")
                conn.send("x")
            assert received(server) == [[], ["x"]]
        assert len(asked) == 3

    @pytest.mark.parametrize(
        "value",
        [
            "Wed, 21 Oct 2015 07:28:30 +99999999999999999",
            "Wed, 21 Oct 2015 07:28:30 +999999999999",
            "Wed, 21 Oct 0001 00:00:30 +2359",
            "Wed, 21 Oct 2015 07:28:30 " + "9" * 5000,
            "Wed, 21 Oct 2015 :: GMT",
            "1" * 5000,
            "1 2 3",
            "Wed",
            ",",
        ],
    )
    def test_no_retry_after_ends_the_reader(self, value: str) -> None:
        watch, told = Watch(), []

        def retry(reason: wsclient.Disconnect) -> bool:
            told.append(reason)
            return reason.status is None

        headers = {"Retry-After": value, "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
        scripts = [[accept_upgrade(), cut()], [http_response(503, headers=headers)]]
        with FaultServer(scripts=scripts) as server:
            policy = Reconnect(initial_delay=0.001, retry=retry)
            wsclient.connect(server.url, **watch.options(reconnect=policy))
            watch.wait_for("close 1006")
        assert [reason.status for reason in told] == [None, 503]
        assert 0 <= (told[1].retry_after or 0) <= 86_400

    def test_a_link_that_did_not_live_long_is_no_failed_attempt(self) -> None:
        watch, told = Watch(), []

        def retry(reason: wsclient.Disconnect) -> bool:
            told.append(reason.attempt)
            return True

        policy = Reconnect(initial_delay=0.2, jitter="none", multiplier=1, max_attempts=1, retry=retry)
        options = watch.options(reconnect=policy)
        links = [cut()], [cut()], [cut()], OPEN_END
        with servers(*links) as server, wsclient.connect(server.url, **options):
            watch.wait_for("again", 3)
        assert told == [0, 0, 0]

    @pytest.mark.parametrize("multiplier", [86_400, 86_400.0])
    def test_no_multiplier_overflows(self, multiplier: float) -> None:
        policy = Reconnect(multiplier=multiplier, jitter="none")
        assert [policy.delay(attempt) for attempt in (1, 64, 10_000)] == [30.0] * 3
        assert Reconnect(initial_delay=0, multiplier=multiplier, jitter="none").delay(10_000) == 0.0


class TestSecrets:
    def test_what_a_callable_says_is_not_told(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, logger="wsclient")
        watch, asked, reasons = Watch(), [], []

        def url() -> str:
            asked.append("url")
            if len(asked) > 1:
                raise RuntimeError(f"401 for https://idp/token?client_secret={SECRET}")
            return server.url

        def retry(reason: wsclient.Disconnect) -> bool:
            reasons.append(reason)
            return True

        policy = Reconnect(initial_delay=0.001, max_attempts=2, retry=retry)
        with servers([cut()]) as server:
            conn = wsclient.connect(url, **watch.options(reconnect=policy))
            watch.wait_for("close 1006")
        with pytest.raises(wsclient.ConnectionClosed) as caught:
            conn.send("x")
        assert "the callable of url= failed: RuntimeError" in caplog.text
        assert SECRET not in f"{caplog.text} {conn.close_reason} {caught.value} {reasons}"

    def test_messages_are_not_shown(self) -> None:
        watch = Watch()
        links = [read_messages(1, pong=False), cut()], OPEN_END
        with servers(*links) as server, wsclient.connect(server.url, **watch.options()) as conn:
            conn.send(SECRET)
            watch.wait_for("again")
        (reason,) = watch.reasons
        assert reason.in_doubt == (SECRET,)
        assert SECRET not in f"{reason} {reason!r}"
        assert SECRET not in repr(wsclient.Disconnect(kind=DisconnectKind.LOST, unsent=(SECRET,)))


class TestGreeting:
    """What ``on_reconnect`` sends."""

    def test_receipts_for_a_link_that_is_lost(self) -> None:
        watch, sent = Watch(), threading.Event()
        receipts: list[Future[None]] = []

        def on_reconnect(conn: wsclient.Connection) -> None:
            if not receipts:
                receipts.extend(conn.send_future(bytes(1 << 20)) for _ in range(8))
                sent.set()
            watch.note("again")

        with servers([cut()], [wait(sent), reset()], OPEN_END, receive_buffer=4096) as server:
            with wsclient.connect(server.url, **watch.options(on_reconnect=on_reconnect)):
                watch.wait_for("again", 2)
                assert not wait_for_all(receipts, BOUND).not_done
            assert received(server)[2] == []
        failed = [error for error in (receipt.exception(0) for receipt in receipts) if error]
        assert {type(error) for error in failed} == {wsclient.Disconnected}
        lost = watch.reasons[1]
        assert len(lost.unsent) == len(failed) > 0
        assert len(lost.in_doubt) + len(lost.unsent) == 8

    def test_an_executor_runs_it_when_its_link_is_lost_already(self) -> None:
        """Then there is nothing for it to greet; the next link is not tried before it has returned."""
        watch, gate, up = Watch(), threading.Event(), threading.Event()
        logins = iter(("login 1", "login 2"))

        def on_reconnect(conn: wsclient.Connection) -> None:
            login = next(logins)
            try:
                conn.send(login)
            finally:
                watch.note(login)

        def work() -> int:
            for number in range(1000):
                try:
                    conn.send(f"job {number}", timeout=0)
                except (wsclient.SendTimeout, wsclient.QueueFull):
                    return number
            return 1000

        scripts: Any = [
            [accept_upgrade(), send_text("slow"), cut()],
            [accept_upgrade(), cut()],
            [wait(up), accept_upgrade(), *OPEN_END],
        ]
        with ThreadPoolExecutor(1) as pool, FaultServer(scripts=scripts) as server:
            options = watch.options(
                callback_executor=pool,
                on_message=lambda conn, message: gate.wait(BOUND),
                on_reconnect=on_reconnect,
                max_queued_messages=4,
            )
            conn = wsclient.connect(server.url, **options)
            until(lambda: conn.stats().reconnects == 1 and conn.state is wsclient.State.RECONNECTING)
            conn.send("m1")
            conn.send("m2")
            gate.set()
            watch.wait_for("lost", 2)
            assert watch.events[-2:] == ["login 1", "lost"]
            assert pool.submit(work).result(BOUND) == 2
            up.set()
            watch.wait_for("login 2")
            conn.close()
            assert received(server)[2] == ["login 2", "m1", "m2", "job 0", "job 1"]

    def test_it_is_not_sent_again_to_later_links(self) -> None:
        watch, links = Watch(), 20

        def on_reconnect(conn: wsclient.Connection) -> None:
            conn.send(f"login {watch.events.count('again')}")
            watch.note("again")

        scripts = [[cut()], *[[read_messages(1, pong=False), cut()]] * links, OPEN_END]
        options = watch.options(delivery="at_least_once", on_reconnect=on_reconnect)
        with servers(*scripts) as server:
            with wsclient.connect(server.url, **options) as conn:
                watch.wait_for("again", links + 1)
                confirm(conn)
            assert received(server)[-1] == [f"login {links}"]

    def test_flush_in_on_disconnect_is_refused(self) -> None:
        """The next link is not tried before it returns."""
        watch, errors = Watch(), []

        def on_disconnect(conn: wsclient.Connection, _: wsclient.Disconnect) -> None:
            with pytest.raises(wsclient.Disconnected, match="would wait for itself") as caught:
                conn.flush(timeout=3600)
            errors.append(caught.value)

        options = watch.options(on_disconnect=on_disconnect)
        with servers([cut()], OPEN_END) as server, wsclient.connect(server.url, **options):
            watch.wait_for("again")
        assert len(errors) == 1


class TestQueue:
    def test_another_thread_may_get_the_number_of_a_writer_that_has_ended(self) -> None:
        desk = Desk()
        desk.writer.stop()
        desk.writer.run()  # on this thread, which has its number by all means
        for _ in range(1000):
            desk.queue.put("x", timeout=0.01)
        with pytest.raises(wsclient.SendTimeout):  # and not at once: QueueFull
            desk.queue.put("x", timeout=0.01)

    def test_what_has_expired_is_sorted_out_in_one_pass(self) -> None:
        comparisons = 0

        class Counted(Entry):
            def __eq__(self, other: object) -> bool:
                nonlocal comparisons
                comparisons += 1
                return self is other

            __hash__ = Entry.__hash__

        desk = Desk()
        for number in range(500):
            expires_at = -math.inf if number % 2 else math.inf
            desk.queue.put_slowly(Counted("x", message="x", expires_at=expires_at), False, 0)
        while desk.writer.counters.messages_sent < 250:
            assert desk.writer.write_once()
        assert desk.writer.counters.expired == 250
        assert comparisons == 0

    def test_expire_and_fragments(self) -> None:
        watch, up = Watch(), threading.Event()
        scripts: Any = [[accept_upgrade(), cut()], [wait(up), accept_upgrade(), *OPEN_END]]
        with FaultServer(scripts=scripts) as server:
            conn = wsclient.connect(server.url, **watch.options(fragment_size=10))
            watch.wait_for("lost")
            conn.send("late, and larger than a fragment", expire=0)
            receipt = conn.send_future("late, larger, with a receipt", expire=0)
            up.set()
            with pytest.raises(wsclient.SendTimeout, match="expired"):
                receipt.result(BOUND)
            conn.close()
            assert received(server)[1] == []
        assert watch.dropped == ["late, and larger than a fragment", "late, larger, with a receipt"]
        assert conn.stats().expired_messages == 2

    def test_what_was_written_in_time_does_not_expire(self) -> None:
        watch = Watch()
        policy = Reconnect(initial_delay=1.5, jitter="none")  # longer than the message is good for
        options = watch.options(delivery="at_least_once", reconnect=policy)
        with servers([read_messages(1, pong=False), cut()], OPEN_END) as server:
            with wsclient.connect(server.url, **options) as conn:
                conn.send_future("in time", expire=1.0).result(BOUND)
                watch.wait_for("again")
                confirm(conn)
            assert received(server) == [["in time"], ["in time"]]
        assert watch.dropped == []
        assert conn.stats().expired_messages == 0


class TestBarriers:
    def test_thousands_of_pings_of_the_application(self) -> None:
        """There is no room for a barrier among them: that is no reason to drop the link."""
        watch = Watch()
        echo = read_messages(1, pong=False), send_text("got it")
        options = watch.options(delivery="at_least_once", max_in_doubt_bytes=1000, ping_interval=None)
        with servers([*echo, *echo, read_until_close()]) as server:
            conn = wsclient.connect(server.url, **options)
            for _ in range(4096):
                conn.ping()
            for _ in range(2):
                conn.send(bytes(600))  # a barrier would ride along
                assert conn.recv(timeout=BOUND) == "got it"
            conn.abort()
            assert len(server.connections) == 1
        assert watch.events == ["open", "close 1006"]

    def test_pongs_that_come_late(self) -> None:
        """Barriers pile up, then the ledger is full: once the pongs come, another barrier has to follow."""
        pongs: list[Future[float]] = []
        room: list[bool] = []

        def ping() -> tuple[Entry, Future[float]]:
            pongs.append(Future())
            return Entry(None), pongs[-1]

        ledger = Ledger(10_000, keeps=True, ping=ping, on_room=lambda: room.append(True))
        for now in range(64):
            assert ledger.written(["small"], float(now), pings=now) is None
            assert ledger.due(now + 0.5) is not None
        ledger.written([bytes(20_000)], 100.0, pings=64)
        assert ledger.due(200.0) is None, "there are too many"
        for number, pong in enumerate(list(pongs), 1):
            ledger.settle(number)
            pong.set_result(0.0)
        assert ledger.is_full
        assert not room
        assert ledger.deadline < math.inf
        assert ledger.due(ledger.deadline) is not None
        ledger.settle(65)
        assert room == [True]
        assert ledger.bytes == 0
