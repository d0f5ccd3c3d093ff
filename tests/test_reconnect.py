"""One ``Connection`` across lost links: nothing lost, nothing twice unless asked for, no wait without end."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

import wsclient
from wsclient import Disconnect, DisconnectKind, Reconnect, State
from wsclient.testing import (
    FaultServer,
    Peer,
    ScriptError,
    accept_upgrade,
    cut,
    http_response,
    read_frames,
    read_messages,
    read_until_close,
    reset,
    send_close,
    send_frame,
    send_text,
    step,
    stop_reading,
    wait,
)

SOON = Reconnect(initial_delay=0.001, max_delay=0.01)
BOUND = 20.0


class Watch:
    """The callbacks of a connection, and what they were told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.reasons: list[Disconnect] = []
        self.dropped: list[str | bytes] = []
        self._changed = threading.Condition()

    def options(self, **more: Any) -> dict[str, Any]:
        return {
            "reconnect": SOON,
            "on_open": lambda conn: self.note("open"),
            "on_disconnect": self._on_disconnect,
            "on_reconnect": lambda conn: self.note("again"),
            "on_close": lambda conn, code, reason: self.note(f"close {code}"),
            "on_dropped": lambda conn, message: self.dropped.append(message),
            **more,
        }

    def _on_disconnect(self, conn: wsclient.Connection, reason: Disconnect) -> None:
        self.reasons.append(reason)
        self.note("lost")

    def note(self, event: str) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, event: str, count: int = 1) -> None:
        with self._changed:
            met = self._changed.wait_for(lambda: self.events.count(event) >= count, BOUND)
        assert met, f"no {count} of {event}: {self.events}"


@pytest.fixture
def watch() -> Watch:
    return Watch()


@step
def tell(peer: Peer, event: threading.Event) -> None:
    event.set()


def received(server: FaultServer) -> list[list[str | bytes]]:
    return [list(record.received) for record in server.connections]


def servers(*scripts: Any, **options: Any) -> FaultServer:
    return FaultServer(scripts=[[accept_upgrade(), *script] for script in scripts], **options)


def confirm(conn: wsclient.Connection) -> None:
    """Until the peer has processed all that was not handed back."""
    for _ in range(1000):
        try:
            conn.confirm(timeout=BOUND)
        except wsclient.Disconnected:
            continue
        return
    pytest.fail("lost a thousand times")


OPEN_END = [read_until_close()]


class TestLinks:
    def test_states_and_callbacks_in_order(self, watch: Watch) -> None:
        lost = threading.Event()
        states: list[State] = []

        def on_disconnect(conn: wsclient.Connection, reason: Disconnect) -> None:
            states.append(conn.state)

        options = watch.options(on_disconnect=on_disconnect)
        with servers([cut()], [cut()], OPEN_END) as server, wsclient.connect(server.url, **options) as conn:
            watch.wait_for("again", 2)
            assert conn.state is State.OPEN
            assert conn.stats().reconnects == 2
            assert conn.close_code is None
            assert conn.closed_by is None
        assert watch.events == ["open", "again", "again", "close 1000"]
        assert states == [State.RECONNECTING] * 2
        assert not lost.is_set()

    def test_it_is_off_by_default(self) -> None:
        with servers([cut()], OPEN_END) as server:
            conn = wsclient.connect(server.url)
            with pytest.raises(wsclient.ConnectionClosed):
                conn.recv(timeout=BOUND)
            conn.close()

    def test_the_first_attempt_is_not_repeated(self) -> None:
        with FaultServer(http_response(503)) as server:
            with pytest.raises(wsclient.HandshakeError) as caught:
                wsclient.connect(server.url, reconnect=SOON)
            assert caught.value.status == 503
            assert len(server.connections) == 1

    def test_half_a_message_is_not_continued_by_another_link(self, watch: Watch) -> None:
        scripts = [send_text("half", fin=False), cut()], [send_text("new"), read_until_close()]
        options = watch.options(assemble=False)
        with servers(*scripts) as server, wsclient.connect(server.url, **options) as conn:
            stream = conn.recv_stream(timeout=BOUND)
            assert stream.read() == "half"
            with pytest.raises(wsclient.Disconnected, match="middle of the message"):
                stream.read()
            with pytest.raises(wsclient.Disconnected):
                stream.read()
            assert list(conn.recv_stream(timeout=BOUND)) == ["new"]

    @pytest.mark.parametrize("executor", [False, True])
    def test_receiving_goes_on(self, watch: Watch, executor: bool) -> None:
        with ThreadPoolExecutor(1) as pool:
            options = watch.options(callback_executor=pool if executor else None)
            script = [send_text("1"), cut()], [send_text("2"), reset()], [send_text("3"), read_until_close()]
            with servers(*script) as server, wsclient.connect(server.url, **options) as conn:
                assert [conn.recv(timeout=BOUND) for _ in range(3)] == ["1", "2", "3"]
                assert conn.stats().messages_received == 3

    def test_url_headers_and_credentials_are_asked_for_anew(self, watch: Watch) -> None:
        with servers([cut()], OPEN_END) as server:
            tokens = iter(range(10))
            users = iter("abcdef")
            paths = iter("xyz")
            options = watch.options(
                headers=lambda: {"X-Token": str(next(tokens))},
                credentials=lambda: wsclient.Credentials(next(users), "r", "s"),
            )
            with wsclient.connect(lambda: server.url + next(paths), **options) as conn:
                watch.wait_for("again")
                assert conn.credentials == wsclient.Credentials("b", "r", "s")
            targets = [record.target for record in server.connections]
            assert [record.headers["x-token"] for record in server.connections] == ["0", "1"]
            assert targets == ["/x?user_id=a&role=r&session_id=s", "/y?user_id=b&role=r&session_id=s"]


class TestReasons:
    @pytest.mark.parametrize(
        ("script", "kind", "code"),
        [
            ([cut()], DisconnectKind.LOST, 1006),
            ([reset()], DisconnectKind.LOST, 1006),
            ([send_close(1012, "restart"), read_until_close()], DisconnectKind.CLOSED_BY_SERVER, 1012),
            ([send_close(1000), read_until_close()], DisconnectKind.CLOSED_BY_SERVER, 1000),
            ([send_frame(3, b""), read_until_close()], DisconnectKind.PROTOCOL_ERROR, 1002),
            ([send_text(b"\xff"), read_until_close()], DisconnectKind.PROTOCOL_ERROR, 1007),
        ],
    )
    def test_kinds(self, watch: Watch, script: Any, kind: DisconnectKind, code: int) -> None:
        with servers(script, OPEN_END) as server, wsclient.connect(server.url, **watch.options()):
            watch.wait_for("again")
            (reason,) = watch.reasons
            assert (reason.kind, reason.code) == (kind, code)
            if kind is DisconnectKind.CLOSED_BY_SERVER and code == 1012:
                assert reason.text == "restart"

    def test_keepalive(self, watch: Watch) -> None:
        script = [stop_reading()]
        options = watch.options(ping_interval=0.01, ping_timeout=0.05)
        with servers(script, OPEN_END) as server:
            conn = wsclient.connect(server.url, **options)
            watch.wait_for("lost")
            conn.close()
            assert watch.reasons[0].kind is DisconnectKind.KEEPALIVE

    def test_rejections_go_to_retry(self, watch: Watch) -> None:
        asked: list[Disconnect] = []

        def retry(reason: Disconnect) -> bool:
            asked.append(reason)
            return len(asked) < 3

        policy = Reconnect(initial_delay=0.001, retry=retry)
        with FaultServer(scripts=[[accept_upgrade(), cut()], [http_response(418, body=b"tea")]]) as server:
            wsclient.connect(server.url, **watch.options(reconnect=policy))
            watch.wait_for("close 1006")
        kinds = [(reason.kind, reason.status, reason.attempt) for reason in asked]
        rejected = DisconnectKind.HANDSHAKE_REJECTED
        assert kinds == [(DisconnectKind.LOST, None, 0), (rejected, 418, 1), (rejected, 418, 2)]

    @pytest.mark.parametrize(
        ("status", "again"), [(400, 0), (401, 0), (404, 0), (408, 1), (425, 1), (429, 1), (503, 1)]
    )
    def test_what_the_default_tries_again(self, watch: Watch, status: int, again: int) -> None:
        scripts = [[accept_upgrade(), cut()], [http_response(status)], [accept_upgrade(), read_until_close()]]
        with FaultServer(scripts=scripts) as server:
            conn = wsclient.connect(server.url, **watch.options())
            if again:
                watch.wait_for("again")
                conn.close()
            else:
                watch.wait_for("close 1006")
                with pytest.raises(wsclient.ConnectionClosed):
                    conn.send("x")
            assert len(server.connections) == 2 + again

    def test_a_retry_that_raises(self, watch: Watch) -> None:
        errors: list[BaseException] = []

        def retry(_: Disconnect) -> bool:
            raise KeyError("mine")

        options = watch.options(
            reconnect=Reconnect(initial_delay=0.001, retry=retry),
            on_error=lambda _, error: errors.append(error),
        )
        with servers([cut()], OPEN_END) as server, wsclient.connect(server.url, **options):
            watch.wait_for("again")
        assert [type(error) for error in errors] == [KeyError]

    def test_max_attempts(self, watch: Watch) -> None:
        policy = Reconnect(initial_delay=0.001, max_attempts=3)
        with FaultServer(scripts=[[accept_upgrade(), cut()], [cut()]]) as server:
            conn = wsclient.connect(server.url, **watch.options(reconnect=policy))
            watch.wait_for("close 1006")
            assert len(server.connections) == 4
            with pytest.raises(wsclient.ConnectionClosed):
                conn.send("x")

    def test_a_refused_certificate_is_not_tried_again(self, watch: Watch, tls: Any) -> None:
        stranger = wsclient.testing.serve(wsclient.testing.echo, tls=True)
        urls: list[str] = []
        with stranger, FaultServer(accept_upgrade(), cut()) as server:
            urls = [stranger.url, server.url]
            options = watch.options(reconnect=Reconnect(initial_delay=0.001))
            wsclient.connect(lambda: urls.pop(), **options)
            watch.wait_for("close 1006")
        assert not urls


class TestPolicy:
    @pytest.mark.parametrize(
        ("options", "error", "fault"),
        [
            ({"initial_delay": -1}, ValueError, "initial_delay: must be 0 to"),
            ({"initial_delay": "1"}, TypeError, "initial_delay: must be a number"),
            ({"max_delay": float("nan")}, ValueError, "max_delay"),
            ({"multiplier": 0.5}, ValueError, "multiplier: must be 1 to"),
            ({"jitter": "some"}, ValueError, "jitter: must be 'full' or 'none'"),
            ({"max_attempts": 0}, ValueError, "max_attempts: must be at least 1"),
            ({"max_attempts": 1.5}, TypeError, "max_attempts"),
            ({"retry": True}, TypeError, "retry: must be callable"),
        ],
    )
    def test_bad_fields(self, options: Any, error: type[Exception], fault: str) -> None:
        with pytest.raises(error, match=f"reconnect: {fault}"):
            Reconnect(**options)

    def test_delays_grow_to_the_largest(self) -> None:
        policy = Reconnect(initial_delay=1, max_delay=10, multiplier=2, jitter="none")
        assert [policy.delay(attempt) for attempt in (0, 1, 2, 3, 4, 10_000)] == [1, 2, 4, 8, 10, 10]

    def test_full_jitter(self) -> None:
        policy = Reconnect(initial_delay=1, max_delay=1)
        drawn = [policy.delay(3) for _ in range(200)]
        assert 0 <= min(drawn) < 0.5 < max(drawn) <= 1

    def test_retry_after(self) -> None:
        policy = Reconnect(initial_delay=0, jitter="none")
        assert policy.delay(0, retry_after=7.0) == 7.0
        assert Reconnect(initial_delay=9, jitter="none").delay(0, retry_after=7.0) == 9.0

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"Retry-After": "7"}, 7.0),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": "-1"}, None),
            (
                {"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"},
                30.0,
            ),
            (
                {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:28:30 GMT"},
                0.0,
            ),
            ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, None),
            ({}, None),
        ],
    )
    def test_retry_after_is_read(self, watch: Watch, headers: dict[str, str], expected: float | None) -> None:
        asked: list[Disconnect] = []

        def retry(reason: Disconnect) -> bool:
            asked.append(reason)
            return reason.status is None

        scripts = [[accept_upgrade(), cut()], [http_response(503, headers=headers)]]
        with FaultServer(scripts=scripts) as server:
            options = watch.options(reconnect=Reconnect(initial_delay=0.001, retry=retry))
            wsclient.connect(server.url, **options)
            watch.wait_for("close 1006")
        assert asked[-1].retry_after == expected


class TestClosing:
    def test_close_interrupts_a_back_off(self, watch: Watch) -> None:
        policy = Reconnect(initial_delay=3600, max_delay=3600, jitter="none")
        with servers([cut()]) as server:
            conn = wsclient.connect(server.url, **watch.options(reconnect=policy))
            watch.wait_for("lost")
            conn.send("never written")
            conn.close(timeout=5)
            assert conn.state is State.CLOSED
            assert conn.unsent == ("never written",)
            assert conn.close_reason == "closed while it was lost"
            assert watch.events == ["open", "lost", "close 1006"]
            with pytest.raises(wsclient.ConnectionClosed):
                conn.send("x")

    @pytest.mark.parametrize("end", ["close", "abort"])
    def test_close_interrupts_an_attempt(self, watch: Watch, end: str) -> None:
        dialling = threading.Event()

        def black_hole(peer: Peer) -> None:
            peer.read_head()
            dialling.set()
            peer.stall()

        with FaultServer(scripts=[[accept_upgrade(), cut()], [black_hole]]) as server:
            conn = wsclient.connect(server.url, **watch.options())
            assert dialling.wait(BOUND)
            getattr(conn, end)()
            assert conn.state is State.CLOSED
            watch.wait_for("close 1006")

    def test_close_in_on_disconnect(self, watch: Watch) -> None:
        options = watch.options(on_disconnect=lambda conn, reason: conn.close())
        with servers([cut()], OPEN_END) as server:
            wsclient.connect(server.url, **options)
            watch.wait_for("close 1006")
            assert len(server.connections) == 1

    def test_close_in_on_reconnect(self, watch: Watch) -> None:
        """What was accepted before is still written."""
        options = watch.options(on_reconnect=lambda conn: conn.close())
        with servers([cut()], OPEN_END) as server:
            conn = wsclient.connect(server.url, **options)
            for _ in range(100):
                try:
                    conn.send("x")
                except wsclient.ConnectionClosed:
                    break
                if watch.events.count("close 1000"):
                    break
            watch.wait_for("close 1000")
            assert conn.unsent == ()

    def test_a_forgotten_connection_ends(self, watch: Watch) -> None:
        policy = Reconnect(initial_delay=3600, max_delay=3600, jitter="none")
        with servers([cut()]) as server:
            conn = wsclient.connect(server.url, reconnect=policy)
            for _ in range(2000):
                if conn.state is State.RECONNECTING:
                    break
                threading.Event().wait(0.001)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del conn
                gc.collect()
            assert [str(item.message)[:8] for item in caught] == ["unclosed"]


class TestDelivery:
    def test_what_waits_is_kept_in_order(self, watch: Watch) -> None:
        go = threading.Event()

        def hold(peer: Peer) -> None:
            go.wait(BOUND)

        scripts: Any = [[accept_upgrade(), cut()], [hold, accept_upgrade(), read_until_close()]]
        with FaultServer(scripts=scripts) as server:
            conn = wsclient.connect(server.url, **watch.options())
            watch.wait_for("lost")
            for number in range(1000):
                conn.send(str(number))
            receipt = conn.send_future("last")
            assert conn.queued_messages == 1001
            go.set()
            receipt.result(timeout=BOUND)
            conn.close()
            assert received(server)[1] == [*map(str, range(1000)), "last"]

    def test_a_full_queue_blocks_as_always(self, watch: Watch) -> None:
        policy = Reconnect(initial_delay=3600, max_delay=3600, jitter="none")
        with servers([cut()]) as server:
            conn = wsclient.connect(server.url, **watch.options(reconnect=policy, max_queued_messages=2))
            watch.wait_for("lost")
            conn.send("1")
            conn.send("2")
            with pytest.raises(wsclient.SendTimeout):
                conn.send("3", timeout=0.01)
            conn.close()
            assert conn.unsent == ("1", "2")

    def test_in_doubt_is_handed_back(self, watch: Watch) -> None:
        with servers([read_messages(3), cut()], OPEN_END) as server:
            with wsclient.connect(server.url, **watch.options()) as conn:
                for text in ("1", "2", "3"):
                    conn.send(text)
                watch.wait_for("again")
            assert watch.reasons[0].in_doubt == ("1", "2", "3")
            assert watch.reasons[0].forgotten == 0
            assert received(server) == [["1", "2", "3"], []]

    def test_what_a_pong_has_confirmed_is_not_in_doubt(self, watch: Watch) -> None:
        with servers([read_frames(3), read_messages(1), cut()], OPEN_END) as server:
            with wsclient.connect(server.url, **watch.options()) as conn:
                conn.send("1")
                conn.send("2")
                conn.confirm(timeout=BOUND)
                conn.send("3")
                watch.wait_for("again")
            doubted = [message for reason in watch.reasons for message in reason.in_doubt]
            assert doubted == ["3"]

    def test_idle_barriers_confirm(self, watch: Watch) -> None:
        """A moment after the last write a ping follows, and its pong clears the account."""
        ponged = threading.Event()
        with servers([read_frames(2), tell(ponged), read_until_close()]) as server:
            conn = wsclient.connect(server.url, **watch.options())
            conn.send("1")
            assert ponged.wait(BOUND)
            conn.ping().result(timeout=BOUND)  # its pong comes after that of the barrier
            assert conn.stats().in_doubt_bytes == 0
            conn.close()

    def test_at_least_once_sends_again_first(self, watch: Watch) -> None:
        greeted: list[str] = []

        def on_reconnect(conn: wsclient.Connection) -> None:
            conn.send("login")
            conn.send_future("subscribe")
            conn.flush()
            greeted.append("flushed")
            watch.note("again")

        options = watch.options(delivery="at_least_once", on_reconnect=on_reconnect)
        with servers([read_messages(3), cut()], OPEN_END) as server:
            with wsclient.connect(server.url, **options) as conn:
                for text in ("1", "2", "3"):
                    conn.send(text)
                watch.wait_for("again")
                conn.send("4")
                conn.flush()
            assert received(server) == [["1", "2", "3"], ["login", "subscribe", "1", "2", "3", "4"]]
            assert watch.reasons[0].in_doubt == ()
            assert greeted == ["flushed"]
            assert conn.in_doubt == conn.unsent == ()

    def test_at_least_once_stops_at_its_bound(self, watch: Watch) -> None:
        """A peer that answers no ping: no more than the bound is written, the rest waits in the queue."""
        script = [read_messages(2, pong=False), wait(threading.Event())]
        options = watch.options(delivery="at_least_once", max_in_doubt_bytes=1000, ping_interval=None)
        with servers(script) as server:
            conn = wsclient.connect(server.url, **options)
            for _ in range(20):
                conn.send(bytes(600))
            server.wait_for_messages(2)
            conn.abort()
            assert (len(conn.in_doubt), len(conn.unsent)) == (2, 18)

    def test_at_most_once_forgets_the_oldest(self, watch: Watch) -> None:
        script = [read_messages(50, pong=False), cut()]
        options = watch.options(max_in_doubt_bytes=1000, ping_interval=None)
        with servers(script, OPEN_END) as server:
            with wsclient.connect(server.url, **options) as conn:
                for number in range(50):
                    conn.send(bytes([number]) * 300)
                    conn.flush()
                watch.wait_for("again")
            (reason,) = watch.reasons
            assert reason.in_doubt
            assert len(reason.in_doubt) + reason.forgotten == 50
            assert reason.in_doubt[-1] == bytes([49]) * 300

    def test_half_a_message_is_not_in_doubt(self, watch: Watch) -> None:
        """It was never whole on the wire, so it waits, and goes out first."""
        big = bytes(8 << 20)

        def take_some(peer: Peer) -> None:
            peer.read_bytes(100_000)

        scripts: Any = [[accept_upgrade(), take_some, reset()], [accept_upgrade(), read_until_close()]]
        with FaultServer(scripts=scripts, receive_buffer=4096) as server:
            with wsclient.connect(server.url, **watch.options()) as conn:
                conn.send(big)
                conn.send("behind")
                conn.flush(timeout=BOUND)
                conn.confirm(timeout=BOUND)
            assert received(server)[1] == [big, "behind"]
            assert watch.reasons[0].in_doubt == ()

    @pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
    def test_pieces_of_a_large_message(self, watch: Watch, delivery: str) -> None:
        big = bytes(range(256)) * (16 << 10)

        def take_some(peer: Peer) -> None:
            peer.read_bytes(100_000)

        scripts: Any = [[accept_upgrade(), take_some, reset()], [accept_upgrade(), read_until_close()]]
        with FaultServer(scripts=scripts, receive_buffer=4096) as server:
            options = watch.options(fragment_size=64 << 10, delivery=delivery)
            with wsclient.connect(server.url, **options) as conn:
                conn.send(big)
                receipt = conn.send_future(big)
                receipt.result(timeout=BOUND)
                conn.confirm(timeout=BOUND)
            assert received(server)[1] == [big, big]

    def test_a_stream_cannot_go_on(self, watch: Watch) -> None:
        with servers([read_frames(1), cut()], OPEN_END) as server:
            with wsclient.connect(server.url, **watch.options()) as conn:
                stream = conn.send_stream()
                stream.write(b"half")
                watch.wait_for("again")
                with pytest.raises(wsclient.WSClientError, match="in the middle of the stream"):
                    stream.write(b"more")
                with pytest.raises(wsclient.WSClientError):
                    stream.close()
                stream.abort()
                assert conn.state is State.OPEN
                with conn.send_stream(text=True) as another:
                    another.write("whole")
            assert received(server)[1] == ["whole"]

    def test_a_stream_that_waits_goes_out_later(self, watch: Watch) -> None:
        go = threading.Event()

        def hold(peer: Peer) -> None:
            go.wait(BOUND)

        scripts: Any = [[accept_upgrade(), cut()], [hold, accept_upgrade(), read_until_close()]]
        with FaultServer(scripts=scripts) as server:
            with wsclient.connect(server.url, **watch.options()) as conn:
                watch.wait_for("lost")
                with conn.send_stream() as stream:
                    stream.write(b"from the start")
                    go.set()
            assert received(server)[1] == [b"from the start"]

    def test_the_greeting_of_a_link_that_is_lost_at_once(self, watch: Watch) -> None:
        """What ``on_reconnect`` sent in vain is told, not sent twice."""

        def on_reconnect(conn: wsclient.Connection) -> None:
            conn.send("login")
            watch.note("again")

        options = watch.options(on_reconnect=on_reconnect)
        with servers([cut()], [reset()], [read_until_close()]) as server:
            with wsclient.connect(server.url, **options) as conn:
                watch.wait_for("again", 2)
                conn.send("data")
                conn.flush()
            assert received(server)[2].count("data") == 1
            assert received(server)[2][0] == "login"

    def test_at_the_end_what_is_in_doubt_is_told(self, watch: Watch) -> None:
        policy = Reconnect(initial_delay=0.001, max_attempts=1)
        scripts: Any = [[accept_upgrade(), read_messages(2), cut()], [cut()]]
        with FaultServer(scripts=scripts) as server:
            options = watch.options(reconnect=policy, delivery="at_least_once")
            conn = wsclient.connect(server.url, **options)
            conn.send("1")
            conn.send("2")
            watch.wait_for("close 1006")
            assert conn.in_doubt == ("1", "2")
            with pytest.raises(wsclient.ConnectionClosed) as caught:
                conn.send("3")
            assert caught.value.in_doubt == ("1", "2")
            assert "2 written message(s) in doubt" in str(caught.value)

    def test_a_closing_handshake_confirms(self, watch: Watch) -> None:
        with servers(OPEN_END) as server:
            conn = wsclient.connect(server.url, **watch.options())
            conn.send("1")
            conn.close()
            assert conn.in_doubt == ()
        with servers([read_messages(1), cut()]) as server:
            policy = Reconnect(retry=lambda _: False)
            conn = wsclient.connect(server.url, **watch.options(reconnect=policy))
            conn.send("1")
            watch.wait_for("close 1006")
            conn.close()
            assert watch.reasons[-1].in_doubt == ("1",)


class TestExpiry:
    def test_what_is_late_is_not_written(self, watch: Watch) -> None:
        go = threading.Event()

        def hold(peer: Peer) -> None:
            go.wait(BOUND)

        scripts: Any = [[accept_upgrade(), cut()], [hold, accept_upgrade(), read_until_close()]]
        with FaultServer(scripts=scripts) as server:
            conn = wsclient.connect(server.url, **watch.options())
            watch.wait_for("lost")
            conn.send("late", expire=0)
            receipt = conn.send_future("late, too", expire=0)
            conn.send("in time", expire=3600)
            conn.send("always")
            go.set()
            with pytest.raises(wsclient.SendTimeout, match="expired"):
                receipt.result(timeout=BOUND)
            conn.close()
            assert received(server)[1] == ["in time", "always"]
            assert watch.dropped == ["late", "late, too"]
            assert conn.stats().expired_messages == 2

    def test_bad_values(self, echo_server: str) -> None:
        with wsclient.connect(echo_server) as conn:
            with pytest.raises(TypeError, match="expire: must be a number"):
                conn.send("x", expire="soon")  # type: ignore[arg-type]
            conn.send("x", expire=60)
            assert conn.recv(timeout=BOUND) == "x"


class TestManyTimes:
    def test_nothing_grows(self) -> None:
        """Hundreds of links one after the other: no thread, no file, no frame is left behind."""
        counts: list[tuple[int, int]] = []
        done = threading.Event()
        rounds = 300

        def on_reconnect(conn: wsclient.Connection) -> None:
            counts.append((threading.active_count(), len(os.listdir("/proc/self/fd"))))
            if len(counts) == rounds:
                done.set()

        with FaultServer(accept_upgrade(), cut()) as server:
            policy = Reconnect(initial_delay=0, jitter="none")
            conn = wsclient.connect(server.url, reconnect=policy, on_reconnect=on_reconnect)
            assert done.wait(BOUND * 2)
            conn.close()
        threads = [count for count, _ in counts[10:]]
        assert max(threads) - min(threads) < 8  # the server has threads of its own

    def test_sending_threads_and_a_server_that_cuts(self, watch: Watch) -> None:
        """Every accepted message is received, in doubt, or unsent: exactly one of them."""
        scripts: Any = [[accept_upgrade(), read_messages(100), cut()]] * 20 + [[accept_upgrade(), *OPEN_END]]
        threads, each = 4, 1000
        with FaultServer(scripts=scripts) as server, ThreadPoolExecutor(threads) as pool:
            conn = wsclient.connect(server.url, **watch.options())

            def send(name: int) -> None:
                for number in range(each):
                    conn.send(f"{name} {number}", timeout=BOUND)

            for sent in [pool.submit(send, name) for name in range(threads)]:
                sent.result(timeout=BOUND * 2)
            confirm(conn)
            conn.close()
            with suppress(ScriptError):  # of a link that was to be cut later
                server.wait_closed()
            server.take_errors()
            arrived = [str(message) for link in received(server) for message in link]
        assert conn.in_doubt == conn.unsent == ()
        in_doubt = [str(message) for reason in watch.reasons for message in reason.in_doubt]
        accepted = [f"{name} {number}" for name in range(threads) for number in range(each)]
        assert set(arrived) | set(in_doubt) == set(accepted)
        assert len(set(arrived)) == len(arrived), "at most once"
        for name in range(threads):
            mine = [int(text.split()[1]) for text in arrived if text.startswith(f"{name} ")]
            assert mine == sorted(mine)

    def test_at_least_once_under_cuts(self, watch: Watch) -> None:
        scripts: Any = [[accept_upgrade(), read_messages(100), cut()]] * 20 + [[accept_upgrade(), *OPEN_END]]
        threads, each = 4, 1000
        with FaultServer(scripts=scripts) as server, ThreadPoolExecutor(threads) as pool:
            conn = wsclient.connect(server.url, **watch.options(delivery="at_least_once"))

            def send(name: int) -> None:
                for number in range(each):
                    conn.send(f"{name} {number}", timeout=BOUND)

            for sent in [pool.submit(send, name) for name in range(threads)]:
                sent.result(timeout=BOUND * 2)
            conn.confirm(timeout=BOUND)
            conn.close()
            arrived = [str(message) for link in received(server) for message in link]
        assert conn.unsent == conn.in_doubt == ()
        for name in range(threads):
            mine = [int(text.split()[1]) for text in arrived if text.startswith(f"{name} ")]
            first = list(dict.fromkeys(mine))
            assert first == list(range(each)), "first arrivals, in order, all of them"
