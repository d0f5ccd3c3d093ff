"""``compat.WebSocketApp``: what the trackers of websocket-client complain about most, and its corners."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
import websocket
from compat_scenarios import leaking
from conftest import HOST, TLS

from wsclient import ConnectionClosed, compat
from wsclient.compat.link import Link
from wsclient.compat.pings import Pinger
from wsclient.testing import (
    FaultServer,
    Peer,
    Step,
    accept_upgrade,
    black_hole,
    cut,
    echo,
    flood,
    no_close_reply,
    read_frames,
    read_until_close,
    recorder,
    send_close,
    send_ping,
    send_text,
    serve,
    stall,
    step,
    wait,
)

BOUND = 10.0
LONG = 3600.0
UP = accept_upgrade()
BYE = (send_close(1000, "bye"), read_until_close(reply=False))


@contextmanager
def running(app: Any, **options: Any) -> Iterator[deque[bool]]:
    """``run_forever`` in a daemon thread, which has to end; its result."""
    results: deque[bool] = deque()
    thread = threading.Thread(target=lambda: results.append(app.run_forever(**options)), daemon=True)
    thread.start()
    try:
        yield results
    finally:
        thread.join(BOUND)
        assert not thread.is_alive(), "run_forever did not return"


def closed_port() -> str:
    with socket.create_server((HOST, 0)) as listener:
        return f"ws://{HOST}:{listener.getsockname()[1]}"


class TestClose:
    def test_returns_although_the_server_never_answers(self) -> None:
        opened, closed = threading.Event(), deque[Any]()
        with FaultServer(UP, no_close_reply()) as server:
            app = compat.WebSocketApp(
                server.url, on_open=lambda app: opened.set(), on_close=lambda app, *args: closed.append(args)
            )
            with running(app) as results:
                assert opened.wait(BOUND)
                app.close(timeout=0.1)
        assert (list(results), list(closed)) == ([False], [(None, None)])

    def test_of_websocket_client_hangs_while_another_thread_reads(self) -> None:
        # What ours does instead is the next test.
        release = threading.Event()
        with FaultServer(UP, wait(release), cut()) as server:
            ws = websocket.create_connection(server.url)
            reader = threading.Thread(target=_recv_to_the_end, args=(ws,), daemon=True)
            closer = threading.Thread(target=lambda: ws.close(timeout=0.05), daemon=True)
            reader.start()
            _wait(ws.frame_buffer.lock.locked)
            closer.start()
            closer.join(0.5)
            assert closer.is_alive()
            release.set()
            closer.join(BOUND)
            reader.join(BOUND)

    def test_while_another_thread_reads(self) -> None:
        with FaultServer(UP, no_close_reply()) as server:
            ws = compat.create_connection(server.url)
            reader = threading.Thread(target=_recv_to_the_end, args=(ws,), daemon=True)
            reader.start()
            ws.close(timeout=0.05)
            reader.join(BOUND)
            assert not reader.is_alive()

    def test_ends_a_dial(self) -> None:
        notes: deque[str] = deque()
        with FaultServer(black_hole()) as server:
            app = compat.WebSocketApp(
                server.url,
                on_error=lambda app, error: notes.append("error"),
                on_close=lambda app, code, reason: notes.append("close"),
            )
            with running(app) as results:
                server.wait_for_connections(1)
                app.close()
        assert (list(results), list(notes)) == ([False], ["close"])

    def test_before_a_dial_calls_nothing_but_on_close(self) -> None:
        notes: deque[str] = deque()

        def header() -> list[str]:
            app.close()
            return []

        with serve(echo) as server:
            app = compat.WebSocketApp(server.url, header=header)
            for name in ("on_open", "on_error", "on_close"):
                setattr(app, name, lambda app, *args, name=name: notes.append(name))
            assert app.run_forever() is False
        assert list(notes) == ["on_close"]

    def test_keep_running_ends_a_dial(self) -> None:
        errors: deque[BaseException] = deque()
        with FaultServer(black_hole()) as server:
            app = compat.WebSocketApp(server.url, on_error=lambda app, error: errors.append(error))
            with running(app) as results:
                server.wait_for_connections(1)
                app.keep_running = False
        assert (list(results), list(errors)) == ([False], [])

    def test_while_the_header_callable_works_nothing_is_dialled(self) -> None:
        asked, closed = threading.Event(), threading.Event()

        def header() -> list[str]:
            asked.set()
            assert closed.wait(BOUND)
            return []

        with FaultServer(black_hole()) as server:
            app = compat.WebSocketApp(server.url, header=header)
            with running(app) as results:
                assert asked.wait(BOUND)
                app.close()
                closed.set()
            assert server.connections == ()
        assert list(results) == [False]

    def test_ends_the_wait_before_the_next_attempt(self) -> None:
        failed = threading.Event()
        app = compat.WebSocketApp(closed_port(), on_error=lambda app, error: failed.set())
        with running(app, reconnect=LONG) as results:
            assert failed.wait(BOUND)
            app.close()
        assert list(results) == [True]

    def test_keep_running_ends_an_idle_app(self) -> None:
        opened = threading.Event()
        with serve(echo) as server:
            app = compat.WebSocketApp(server.url, on_open=lambda app: opened.set())
            with running(app) as results:
                assert opened.wait(BOUND)
                app.keep_running = False
        assert list(results) == [False]

    def test_runs_again(self) -> None:
        codes: deque[Any] = deque()
        with serve(echo) as server:
            app = compat.WebSocketApp(
                server.url,
                on_open=lambda app: app.send("x"),
                on_message=lambda app, message: app.close(),
                on_close=lambda app, code, reason: codes.append(code),
            )
            assert [app.run_forever() for _ in range(3)] == [False, False, False]
        assert list(codes) == [1000, 1000, 1000]

    def test_runs_again_in_on_close(self) -> None:
        codes: deque[Any] = deque()

        def on_close(app: Any, code: int, reason: str) -> None:
            codes.append(code)
            if len(codes) < 3:
                app.run_forever()

        with FaultServer(scripts=[[UP, *BYE], [UP, *BYE], [UP, read_until_close()]]) as server:
            app = compat.WebSocketApp(server.url, on_close=on_close)
            app.on_open = lambda app: app.close() if len(codes) == 2 else None
            assert app.run_forever() is False
        assert list(codes) == [1000, 1000, 1000]

    def test_at_exit_is_no_error(self) -> None:
        """And a daemon thread in run_forever does not keep the interpreter."""
        program = """
import sys, threading
from wsclient import compat
opened = threading.Event()
app = compat.WebSocketApp(
    sys.argv[1],
    on_open=lambda app: opened.set(),
    on_error=lambda app, error: print("error", error),
    on_close=lambda app, code, reason: print("closed", code),
)
threading.Thread(target=app.run_forever, daemon=True).start()
assert opened.wait(10)
"""
        with serve(echo) as server:
            command = [sys.executable, "-X", "dev", "-W", "error", "-c", program, server.url]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "error" not in done.stdout

    def test_two_at_once_are_refused(self) -> None:
        refusals: deque[str] = deque()

        def again(app: Any) -> None:
            with pytest.raises(compat.WebSocketException) as caught:
                app.run_forever()
            refusals.append(str(caught.value))
            app.close()

        with serve(echo) as server:
            compat.WebSocketApp(server.url, on_open=again).run_forever()
        assert list(refusals) == ["socket is already opened"]

    def test_by_ctrl_c_while_idle(self) -> None:
        notes: deque[Any] = deque()
        main = threading.get_ident()

        def ask(app: Any) -> None:
            app.sock.ping()

        with serve(echo) as server:
            app = compat.WebSocketApp(
                server.url,
                on_open=ask,
                on_pong=lambda app, data: threading.Thread(
                    target=signal.pthread_kill, args=(main, signal.SIGINT)
                ).start(),
                on_error=lambda app, error: notes.append(type(error)),
                on_close=lambda app, code, reason: notes.append(code),
            )
            assert app.run_forever() is True
        assert list(notes) == [KeyboardInterrupt, 1000]


class TestErrors:
    def test_of_callbacks_are_logged_with_their_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        def fail(app: Any, message: str) -> None:
            raise ValueError("of the callback")

        with FaultServer(UP, send_text("1"), *BYE) as server:
            compat.WebSocketApp(server.url, on_message=fail).run_forever()
        [record] = [record for record in caplog.records if record.name == "wsclient.compat"]
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ValueError)

    def test_of_websocket_client_are_logged_without(self, caplog: pytest.LogCaptureFixture) -> None:
        def fail(app: Any, message: str) -> None:
            raise ValueError("of the callback")

        with leaking(), FaultServer(UP, send_text("1"), *BYE) as server:
            websocket.WebSocketApp(server.url, on_message=fail).run_forever()
        errors = [record for record in caplog.records if "of the callback" in record.getMessage()]
        assert [record.exc_info for record in errors] == [None]

    def test_refused(self) -> None:
        errors: deque[BaseException] = deque()
        app = compat.WebSocketApp(closed_port(), on_error=lambda app, error: errors.append(error))
        assert app.run_forever() is True
        assert isinstance(errors[0], ConnectionRefusedError)

    def test_ours_are_the_cause(self) -> None:
        errors: deque[BaseException] = deque()
        with FaultServer(UP, cut()) as server:
            compat.WebSocketApp(server.url, on_error=lambda app, error: errors.append(error)).run_forever()
        assert isinstance(errors[0], websocket.WebSocketConnectionClosedException)
        assert isinstance(errors[0].__cause__, ConnectionClosed)

    def test_a_failed_attempt_to_reconnect_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        with FaultServer(scripts=[[UP, cut()], [UP, read_until_close()]]) as server:
            app = compat.WebSocketApp(server.url, on_reconnect=lambda app: app.close())
            app.run_forever(reconnect=0.01)
        assert any("connecting again" in record.getMessage() for record in caplog.records)

    def test_of_the_header_callable_go_to_on_error(self) -> None:
        def header() -> list[str]:
            raise LookupError("no token")

        errors: deque[BaseException] = deque()
        app = compat.WebSocketApp(
            closed_port(), header=header, on_error=lambda app, error: errors.append(error)
        )
        assert app.run_forever() is True
        assert isinstance(errors[0], LookupError)

    def test_a_bad_url_is_raised(self) -> None:
        for module in (websocket, compat):
            with pytest.raises(ValueError, match="http"):
                module.WebSocketApp("http://localhost/").run_forever()

    def test_send_before_open(self) -> None:
        app = compat.WebSocketApp("ws://localhost/")
        calls: list[Callable[[Any], None]] = [app.send, app.send_text, app.send_bytes]
        for call in calls:
            with pytest.raises(compat.WebSocketConnectionClosedException, match="already closed"):
                call("x")


@pytest.mark.parametrize("module", [websocket, compat], ids=["websocket", "compat"])
class TestState:
    @pytest.mark.parametrize("end", [(cut(),), BYE], ids=["lost", "closed"])
    def test_is_not_connected_in_on_error(self, module: Any, end: tuple[Step, ...]) -> None:
        seen = deque[Any]()
        with leaking(), FaultServer(UP, *end) as server:
            module.WebSocketApp(
                server.url, on_error=lambda app, error: seen.append((app.sock.connected, app.ready()))
            ).run_forever()
        assert list(seen) == [(False, False)]

    def test_a_subclass_may_name_its_own_as_it_likes(self, module: Any) -> None:
        class Feed(module.WebSocketApp):  # type: ignore[misc]
            def __init__(self, url: str) -> None:
                self.keep_running = True  # before there is anything of the class
                super().__init__(url, on_open=lambda app: app.send("hello"), on_message=self.take)

            def _run(self) -> None:
                self.run_forever()

            def take(self, app: Any, message: str) -> None:
                self._keeps_running = message
                self.keep_running = False

        with leaking(), serve(echo) as server:
            feed = Feed(server.url)
            feed._run()
        assert (feed._keeps_running, feed.keep_running) == ("hello", False)


class TestMessages:
    def test_the_last_ones_before_the_close_are_not_lost(self) -> None:
        """More than may wait, behind a callback that lets them pile up, and then the close."""
        count, received = 5000, deque[str]()

        def on_message(app: Any, message: str) -> None:
            if not received:
                _wait(lambda: app.sock.wsclient_link.events.holds_up_reader)
            received.append(message)

        with FaultServer(UP, flood(str, count=count, read=False), send_close(1000), cut()) as server:
            compat.WebSocketApp(server.url, on_message=on_message).run_forever()
        assert list(received) == [str(number) for number in range(count)]

    def test_from_several_threads_arrive_whole_and_in_order(self) -> None:
        threads, count = 8, 250
        opened = threading.Event()
        with serve(recorder) as server:
            app = compat.WebSocketApp(server.url, on_open=lambda app: opened.set())

            def send(name: int) -> None:
                for number in range(count):
                    app.send(f"{name} {number}")

            with running(app):
                assert opened.wait(BOUND)
                senders = [threading.Thread(target=send, args=(name,)) for name in range(threads)]
                for sender in senders:
                    sender.start()
                for sender in senders:
                    sender.join(BOUND)
                app.close()
            received = [str(message).split() for message in server.wait_for_messages(threads * count)]
        for name in range(threads):
            assert [int(number) for who, number in received if int(who) == name] == list(range(count))

    def test_over_tls_with_a_time_out_in_both_directions(self, tls: TLS) -> None:
        """Where websocket-client loses the connection: one thread reads, one writes, with a time-out."""
        count = 300
        received: deque[str] = deque()
        opened = threading.Event()
        with serve(echo, tls=True) as server:
            app = compat.WebSocketApp(
                server.url,
                on_open=lambda app: opened.set(),
                on_message=lambda app, message: received.append(message),
            )
            compat.setdefaulttimeout(5)
            try:
                with running(app, sslopt={"context": server.ssl_context}) as results:
                    assert opened.wait(BOUND)
                    for number in range(count):
                        app.send(str(number))
                    _wait(lambda: len(received) == count)
                    app.close()
            finally:
                compat.setdefaulttimeout(None)
        assert list(received) == [str(number) for number in range(count)]
        assert list(results) == [False]


class TestPings:
    def test_a_missing_pong_is_noticed(self) -> None:
        errors, codes = deque[BaseException](), deque[Any]()
        with FaultServer(UP, stall()) as server:
            app = compat.WebSocketApp(
                server.url,
                on_error=lambda app, error: errors.append(error),
                on_close=lambda app, code, reason: codes.append(code),
            )
            assert app.run_forever(ping_interval=0.06, ping_timeout=0.05) is True
        assert isinstance(errors[0], compat.WebSocketTimeoutException)
        assert isinstance(errors[0], TimeoutError)
        assert (len(errors), list(codes)) == (1, [None])

    def test_although_messages_come(self) -> None:
        errors: deque[BaseException] = deque()
        with FaultServer(UP, flood("tick", read=False)) as server:
            app = compat.WebSocketApp(server.url, on_error=lambda app, error: errors.append(error))
            app.run_forever(ping_interval=0.06, ping_timeout=0.05)
        assert isinstance(errors[0], compat.WebSocketTimeoutException)

    def test_the_pinger_ends_with_the_connection(self) -> None:
        with FaultServer(UP, read_frames(1), cut()) as server:
            link = Link(server.url, {"ping_interval": None}, in_pieces=False)
            link.open()
            pinger = Pinger(link, 0.01, None, b"", lambda: None)
            pinger.thread.start()
            pinger.thread.join(BOUND)
            assert not pinger.thread.is_alive()
            link.wait_ended()
            assert link.end is not None

    def test_a_reader_that_is_held_up_may_take_longer(self) -> None:
        """The pong stands behind messages that a callback does not let in."""
        errors: deque[BaseException] = deque()

        def on_message(app: Any, message: str) -> None:
            if message == "0":
                _wait(lambda: app.sock.wsclient_link.events.holds_up_reader and app.last_ping_tm > 0)
                first = app.last_ping_tm
                _wait(lambda: app.last_ping_tm > first)  # the verdict has fallen due meanwhile

        with FaultServer(UP, flood(str, count=3000, read=False), read_frames(1), *BYE) as server:
            app = compat.WebSocketApp(
                server.url, on_message=on_message, on_error=lambda app, error: errors.append(error)
            )
            app.run_forever(ping_interval=0.31, ping_timeout=0.3)
        assert not [error for error in errors if isinstance(error, TimeoutError)]

    def test_a_pong_that_comes_is_enough(self) -> None:
        times: deque[float] = deque()

        def on_pong(app: Any, data: bytes) -> None:
            assert data == b"beat"
            assert 0 < app.last_ping_tm <= app.last_pong_tm
            assert app.ping_thread.is_alive()
            assert not app.stop_ping.is_set()
            times.append(app.last_pong_tm)
            if len(times) == 2:
                app.close()

        with serve(echo) as server:
            app = compat.WebSocketApp(server.url, on_pong=on_pong)
            assert app.run_forever(ping_interval=0.31, ping_timeout=0.3, ping_payload="beat") is False
        assert (app.last_ping_tm, app.last_pong_tm, app.ping_thread) == (0.0, 0.0, None)

    def test_of_the_server_are_answered_while_a_callback_blocks(self) -> None:
        answered = threading.Event()
        with FaultServer(
            UP, send_text("1"), send_ping(b"there?"), read_frames(1), tell(answered), *BYE
        ) as server:
            app = compat.WebSocketApp(
                server.url, on_message=lambda app, message: answered.wait(BOUND) or fail()
            )
            app.run_forever()
        assert answered.is_set()


class TestSettings:
    def test_header_callable_is_asked_at_each_attempt(self) -> None:
        tokens = iter(["one", "two"])
        with FaultServer(scripts=[[UP, cut()], [UP, read_until_close()]]) as server:
            app = compat.WebSocketApp(
                server.url, header=lambda: {"X-Token": next(tokens)}, on_reconnect=lambda app: app.close()
            )
            app.run_forever(reconnect=0.01)
            assert [record.headers["x-token"] for record in server.connections] == ["one", "two"]

    @pytest.mark.parametrize("set_default", [compat.set_reconnect, compat.setReconnect])
    def test_default_reconnect(self, set_default: Callable[[float], None]) -> None:
        set_default(0.01)
        try:
            with FaultServer(scripts=[[UP, cut()], [UP, read_until_close()]]) as server:
                compat.WebSocketApp(server.url, on_reconnect=lambda app: app.close()).run_forever()
                assert len(server.connections) == 2
        finally:
            set_default(0)

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"dispatcher": signal}, "dispatcher=signal"),
            ({"sslopt": {"colour": "red"}}, "colour"),
            ({"suppress_host": True}, "suppress_host"),
        ],
    )
    def test_what_cannot_be_honoured_is_raised(self, options: dict[str, Any], named: str) -> None:
        calls: deque[str] = deque()
        app = compat.WebSocketApp(
            "ws://localhost/",
            on_error=lambda app, error: calls.append("error"),
            on_close=lambda app, *args: calls.append("close"),
        )
        with pytest.raises(compat.NotSupported, match=rf"{named}.*docs/migrating.md"):
            app.run_forever(**options)
        assert not calls
        assert app.sock is None
        assert app.keep_running is False

    @pytest.mark.parametrize(
        ("options", "named"),
        [({"reconnect": -1}, "reconnect"), ({"ping_payload": "x" * 126}, "ping_payload")],
    )
    def test_bad_values_are_raised(self, options: dict[str, Any], named: str) -> None:
        with pytest.raises(ValueError, match=named):
            compat.WebSocketApp("ws://localhost/").run_forever(**options)

    def test_masking_keys_are_not_chosen(self) -> None:
        with pytest.raises(compat.NotSupported, match="get_mask_key"):
            compat.WebSocketApp("ws://localhost/", get_mask_key=lambda size: b"1234")
        with pytest.raises(compat.NotSupported, match="create_dispatcher"):
            compat.WebSocketApp("ws://localhost/").create_dispatcher(None)

    def test_trace(self, capsys: pytest.CaptureFixture[str]) -> None:
        compat.enableTrace(True)
        try:
            with FaultServer(UP, send_text("traced"), *BYE) as server:
                compat.WebSocketApp(
                    f"{server.url}feed?token=secret",
                    header=["Authorization: Bearer secret"],
                    cookie="session=secret",
                ).run_forever(dispatcher=False)
                (request,) = server.connections
        finally:
            compat.enableTrace(False)
        logged = capsys.readouterr().err
        assert "traced" in logged
        assert "secret" not in logged
        assert request.headers["authorization"] == "Bearer secret"
        assert request.headers["cookie"] == "session=secret"

    def test_sock_is_what_programs_use_of_it(self) -> None:
        def on_open(app: Any) -> None:
            assert app.ready() is True
            assert app.sock.connected is True
            assert app.sock.getstatus() == 101
            with pytest.raises(compat.NotSupported, match=r"WebSocket\.sock"):
                _ = app.sock.sock
            with pytest.raises(compat.NotSupported, match=r"fileno"):
                app.sock.fileno()
            app.sock.send("x")

        with serve(echo) as server:
            app = compat.WebSocketApp(
                server.url, on_open=on_open, on_message=lambda app, message: app.sock.close()
            )
            errors: deque[BaseException] = deque()
            app.on_error = lambda app, error: errors.append(error)
            assert app.run_forever() is True  # as there: only app.close() is a wanted end
        assert isinstance(errors[0], compat.WebSocketConnectionClosedException)


@step
def tell(peer: Peer, event: threading.Event) -> None:
    event.set()


def fail() -> NoReturn:
    raise AssertionError("that took too long")


def _wait(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(BOUND * 1000)):
        if condition():
            return
        pause.wait(0.001)
    fail()


def _recv_to_the_end(ws: Any) -> None:
    try:
        while ws.recv():
            pass
    except (OSError, websocket.WebSocketException):
        pass
