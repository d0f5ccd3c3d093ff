"""``serve``, in a thread and in another process, ws and wss: what they see and how they fail."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import wsclient
from wsclient import ConnectFailed, Connection, ConnectionClosed
from wsclient.testing import (
    HandlerFailed,
    Server,
    ServerConnection,
    WaitTimeout,
    broadcast,
    counter,
    echo,
    engine,
    recorder,
    serve,
    servers,
)

pytestmark = pytest.mark.timeout(50)

SOON = 0.05  # seconds to wait for what does not come
Open = Callable[[Server], Connection]


@pytest.fixture
def open_to(no_leaks: None) -> Iterator[Open]:
    """Open connections to servers; they are closed at the end."""
    with ExitStack() as stack:

        def connect(server: Server, path: str = "", **options: Any) -> Connection:
            url = server.url + path
            return stack.enter_context(wsclient.connect(url, ssl_context=server.ssl_context, **options))

        yield connect


# Handlers for another process, hence at the top level.


def shout(connection: ServerConnection) -> None:
    for message in connection:
        assert isinstance(message, str)
        connection.send(message.upper())


def fail(connection: ServerConnection) -> None:
    raise LookupError(f"no {connection.recv()!r} here")


async def fail_on_the_loop(connection: Any) -> None:
    await connection.recv()
    raise LookupError("nothing here")


async def block_the_loop(connection: Any) -> None:
    threading.Event().wait(60)


def die(connection: ServerConnection) -> None:
    connection.recv()
    os._exit(3)


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def tls_or_not(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[False, True], ids=["thread", "process"])
def process_or_not(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class TestReadyMade:
    def test_echo(self, open_to: Open, tls_or_not: bool, process_or_not: bool) -> None:
        with serve(echo, tls=tls_or_not, process=process_or_not) as server:
            conn = open_to(server)
            conn.send("text")
            conn.send(b"bytes")
            assert [conn.recv(10), conn.recv(10)] == ["text", b"bytes"]
            server.assert_received(["text", b"bytes"])

    def test_recorder(self, open_to: Open, process_or_not: bool) -> None:
        with serve(recorder, process=process_or_not) as server:
            first, second = open_to(server), open_to(server)
            first.send("a")
            server.wait_for_messages(1)
            second.send("b")
            assert server.wait_for_messages(2) == ["a", "b"]
            assert [client.received for client in server.connections] == [("a",), ("b",)]
            assert first.stats().messages_received == 0

    def test_counter(self, open_to: Open) -> None:
        with serve(counter) as server:
            for _ in range(2):  # each connection has a count of its own
                conn = open_to(server)
                for number in ("1", "2", "3"):
                    conn.send("x")
                    assert conn.recv(10) == number

    def test_broadcast(self, open_to: Open, process_or_not: bool) -> None:
        with serve(broadcast, process=process_or_not) as server:
            connections = [open_to(server) for _ in range(3)]
            server.wait_for_connections(3)
            connections[0].send("all")
            assert [conn.recv(10) for conn in connections] == ["all"] * 3


class TestTLS:
    def test_the_certificate_is_the_servers_own(self, no_leaks: None) -> None:
        with serve(echo, tls=True) as server, serve(echo, tls=True) as other:
            with pytest.raises(ConnectFailed) as caught:
                wsclient.connect(server.url, ssl_context=other.ssl_context)
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)

    def test_the_authority_is_there_as_pem(self, open_to: Open) -> None:
        with serve(echo, tls=True) as server:
            assert server.ca_pem is not None
            trusting = ssl.create_default_context(cadata=server.ca_pem.decode())
            url = server.url.replace("127.0.0.1", "localhost")
            with wsclient.connect(url, ssl_context=trusting) as conn:
                assert conn.confirm(10) > 0

    def test_without_tls_there_is_none(self, no_leaks: None) -> None:
        with serve(echo) as server:
            assert server.ca_pem is None
            assert server.ssl_context is None
            assert server.url == f"ws://127.0.0.1:{server.port}"


class TestBlockingHandlers:
    def test_in_either_place(self, open_to: Open, process_or_not: bool) -> None:
        with serve(shout, process=process_or_not) as server:
            conn = open_to(server)
            conn.send("hello")
            assert conn.recv(10) == "HELLO"

    def test_the_request_is_known(self, no_leaks: None) -> None:
        def handler(connection: ServerConnection) -> None:
            connection.send_json([connection.path, connection.query])

        with (
            serve(handler) as server,
            wsclient.connect(server.url + "/room?id=7&empty=", headers={"X-A": "1"}) as conn,
        ):
            assert conn.recv_json(10) == ["/room", {"id": "7", "empty": ""}]
        (client,) = server.connections
        assert (client.path, client.query) == ("/room", {"id": "7", "empty": ""})
        assert client.headers["x-a"] == "1"

    def test_json_and_closing(self, open_to: Open) -> None:
        def handler(connection: ServerConnection) -> None:
            connection.send_json({"got": connection.recv_json()})
            connection.close(4001, "enough")

        with serve(handler) as server:
            conn = open_to(server)
            conn.send_json([1])
            assert conn.recv_json(10) == {"got": [1]}
            with pytest.raises(ConnectionClosed, match=r"4001 \(enough\)"):
                conn.recv(10)
            server.wait_closed()
            assert (server.connections[0].close_code, server.connections[0].close_reason) == (
                4001,
                "",
            )  # its answer

    def test_a_message_can_be_awaited_again(self, open_to: Open) -> None:
        def handler(connection: ServerConnection) -> None:
            with pytest.raises(wsclient.Timeout, match=f"within {SOON:g} s"):
                connection.recv(SOON)
            connection.send("now")
            connection.send(connection.recv())

        with serve(handler) as server:
            conn = open_to(server)
            assert conn.recv(10) == "now"
            conn.send("then")
            assert conn.recv(10) == "then"

    def test_broadcast(self, open_to: Open) -> None:
        def handler(connection: ServerConnection) -> None:
            for message in connection:
                connection.broadcast(f"all: {message!r}")

        with serve(handler) as server:
            first, second = open_to(server), open_to(server)
            server.wait_for_connections(2)
            first.send("x")
            assert [first.recv(10), second.recv(10)] == ["all: 'x'"] * 2

    def test_the_end_of_iteration(self, no_leaks: None) -> None:
        ends: list[object] = []

        def handler(connection: ServerConnection) -> None:
            try:
                ends.extend(connection)
                ends.append("normal")
            except ConnectionClosed as error:
                ends.append(error.code)
                with pytest.raises(ConnectionClosed):
                    connection.send("nobody hears")
                raise

        with serve(handler) as server:
            with wsclient.connect(server.url) as conn:
                conn.send("last")
            server.wait_closed()
            wsclient.connect(server.url).abort()
            server.wait_for_connections(2)
            server.wait_closed()
        assert ends == ["last", "normal", 1006]

    def test_stopping_the_server_ends_them(self, no_leaks: None) -> None:
        ended = threading.Event()

        def handler(connection: ServerConnection) -> None:
            for _ in connection:
                pass
            ended.set()

        with serve(handler) as server:
            conn = wsclient.connect(server.url)
            server.wait_for_connections(1)
        assert ended.is_set()
        with pytest.raises(ConnectionClosed):
            conn.recv(10)
        assert conn.close_code == 1001
        conn.close()


class TestWaiting:
    def test_messages_are_compared_as_they_are_or_as_json(self, open_to: Open) -> None:
        with serve(recorder) as server:
            conn = open_to(server)
            conn.send_json({"type": "a", "n": 1})
            conn.send("text")
            conn.send(b"12")
            server.assert_received([{"n": 1, "type": "a"}, "text", b"12"])
            server.assert_received(['{"type": "a", "n": 1}', "text", 12])

    @pytest.mark.parametrize(
        ("expected", "complaint"),
        [
            (["a", "c"], "message 1 is 'b', expected 'c'"),
            (["a"], "message 1 is 'b', expected none"),
            (["a", b"b"], "message 1 is 'b', expected b'b'"),
            (["a", {"no": "json"}], "message 1 is 'b', expected {'no': 'json'}"),
            ([], "message 0 is 'a', expected none"),
        ],
    )
    def test_a_difference_is_shown(self, open_to: Open, expected: list[Any], complaint: str) -> None:
        with serve(recorder) as server:
            conn = open_to(server)
            conn.send("a")
            conn.send("b")
            server.wait_for_messages(2)
            with pytest.raises(AssertionError) as caught:
                server.assert_received(expected)
            assert str(caught.value).startswith(complaint)
            assert "client 0: 'b'" in str(caught.value)

    def test_a_missing_message_is_shown(self, open_to: Open) -> None:
        with serve(recorder) as server:
            open_to(server).send("only")
            server.wait_for_messages(1)
            with pytest.raises(WaitTimeout, match=f"waited {SOON:g} s for 2 messages") as caught:
                server.assert_received(["only", "one"], timeout=SOON)
            assert isinstance(caught.value, AssertionError)
            assert isinstance(caught.value, TimeoutError)
            assert "client 0: 'only'" in str(caught.value)

    def test_each_wait_has_a_bound(self, no_leaks: None) -> None:
        with serve(recorder) as server:
            waits: list[Callable[[], object]] = [
                lambda: server.wait_for_messages(1, timeout=SOON),
                lambda: server.wait_for_connections(1, timeout=SOON),
                lambda: server.wait_closed(timeout=SOON),
            ]
            for wait in waits:
                with pytest.raises(WaitTimeout, match="nothing happened"):
                    wait()

    def test_repeated_headers_are_joined(self, no_leaks: None) -> None:
        with serve(recorder) as server:
            with wsclient.connect(server.url, headers=[("X-A", "1"), ("x-a", "2")]):
                server.wait_for_connections(1)
            assert server.connections[0].headers["x-a"] == "1, 2"

    def test_a_subprotocol_is_agreed_on(self, no_leaks: None) -> None:
        with (
            serve(echo, subprotocols=["chat.v2", "chat.v1"]) as server,
            wsclient.connect(server.url, subprotocols=["chat.v1"]) as conn,
        ):
            assert conn.subprotocol == "chat.v1"


class TestFailingHandlers:
    @pytest.mark.parametrize("handler", [fail, fail_on_the_loop], ids=["blocking", "async"])
    def test_it_fails_the_test(
        self, open_to: Open, process_or_not: bool, handler: Callable[[Any], object]
    ) -> None:
        server = serve(handler, process=process_or_not)

        def use() -> None:
            with server:
                conn = open_to(server)
                conn.send("bread")
                with pytest.raises(ConnectionClosed, match="1011"):
                    conn.recv(10)

        with pytest.raises(HandlerFailed, match=r"LookupError: .*here") as caught:
            use()
        assert "test_testing_servers.py" in str(caught.value)

    def test_every_wait_fails(self, open_to: Open) -> None:
        with serve(fail) as server:
            open_to(server).send("x")
            with pytest.raises(HandlerFailed):
                server.wait_for_messages(5)
            assert [type(error) for error in server.errors] == [HandlerFailed]
            assert len(server.take_errors()) == 1
            assert server.errors == ()

    def test_an_error_of_the_test_goes_first(self, open_to: Open) -> None:
        def use() -> None:
            with serve(fail) as server:
                open_to(server).send("x")
                with pytest.raises(HandlerFailed):
                    server.wait_for_messages(5)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            use()

    def test_the_end_of_another_connection_is_an_error(self, open_to: Open) -> None:
        def handler(connection: ServerConnection) -> None:
            connection.recv()
            raise ConnectionClosed(1006, "of the upstream")

        with serve(handler) as server:
            open_to(server).send("x")
            with pytest.raises(HandlerFailed, match="of the upstream"):
                server.wait_for_messages(5)
            server.take_errors()

    @pytest.mark.parametrize("error", [StopIteration, SystemExit, KeyboardInterrupt])
    def test_odd_errors_are_errors(self, open_to: Open, error: type[BaseException]) -> None:
        def handler(connection: ServerConnection) -> None:
            raise error

        with serve(handler) as server:
            open_to(server)
            with pytest.raises(HandlerFailed, match=error.__name__):
                server.wait_for_messages(1)
            server.take_errors()

    def test_a_blocking_handler_that_does_not_end_is_one(
        self, no_leaks: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine, "_GRACE", SOON)
        end, ended = threading.Event(), threading.Event()

        def handler(connection: ServerConnection) -> None:
            end.wait(30)
            with pytest.raises(ConnectionClosed):
                connection.send("to nobody, by no loop")
            ended.set()

        server = serve(handler)
        server.start()
        with wsclient.connect(server.url):
            server.wait_for_connections(1)
            server.stop()
        end.set()
        assert ended.wait(10)
        (error,) = server.errors
        assert "handler of client 0 did not end" in str(error)

    def test_one_that_blocks_the_loop_is_one(self, no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
        end = threading.Event()

        async def handler(connection: Any) -> None:
            end.wait(30)

        server = serve(handler)
        server.start()
        client = wsclient.connect(server.url)
        server.wait_for_connections(1)
        monkeypatch.setattr(servers, "_STOP_SECONDS", SOON)
        with pytest.raises(HandlerFailed, match="a handler blocks its loop"):
            server.stop()
        end.set()
        client.close()

    def test_an_async_one_is_cancelled(self, no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "_GRACE", SOON)
        cancelled = threading.Event()

        async def handler(connection: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        with serve(handler) as server, wsclient.connect(server.url):
            server.wait_for_connections(1)
        assert cancelled.is_set()


class TestProcesses:
    def test_one_that_does_not_stop_is_killed(self, no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
        server = serve(block_the_loop, process=True)
        server.start()
        client = wsclient.connect(server.url)
        server.wait_for_connections(1)
        monkeypatch.setattr(servers, "_STOP_SECONDS", SOON)
        with pytest.raises(HandlerFailed, match="did not stop in time and was killed"):
            server.stop()
        client.abort()

    def test_it_is_another_process(self, no_leaks: None) -> None:
        with serve(tell_pid, process=True) as server, wsclient.connect(server.url) as conn:
            assert int(conn.recv(10)) != os.getpid()

    def test_a_local_function_is_refused(self) -> None:
        def handler(connection: ServerConnection) -> None: ...

        with pytest.raises(ValueError, match=r"handler: with process=True it must be .* top level"):
            serve(handler, process=True)

    def test_a_process_that_dies_is_an_error(self, open_to: Open) -> None:
        server = serve(die, process=True)
        server.start()
        conn = open_to(server)
        conn.send("x")
        with pytest.raises(ConnectionClosed):
            conn.recv(10)
        with pytest.raises(HandlerFailed, match="ended with exit code 3"):
            server.stop()

    def test_a_handler_that_it_cannot_import_is_an_error(
        self, no_leaks: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        module = types.ModuleType("only_here")
        exec("def handler(connection): ...", module.__dict__)
        monkeypatch.setitem(sys.modules, "only_here", module)
        server = serve(module.handler, process=True)
        with pytest.raises(RuntimeError, match="ended before it was ready"):
            server.start()
        assert "No module named 'only_here'" in capfd.readouterr().err


def tell_pid(connection: ServerConnection) -> None:
    connection.send(str(os.getpid()))


class TestLife:
    def test_it_does_not_run_by_itself(self) -> None:
        server = serve(echo)
        for name in ("url", "port", "ca_pem", "ssl_context"):
            with pytest.raises(RuntimeError, match="the server does not run"):
                getattr(server, name)
        server.stop()  # nothing to do

    def test_start_and_stop(self, no_leaks: None) -> None:
        server = serve(echo)
        server.start()
        with wsclient.connect(server.url) as conn:
            conn.confirm(10)
        for _ in range(2):
            server.stop()
            with pytest.raises(RuntimeError, match="a server is started once"):
                server.start()
        assert len(server.connections) == 1

    def test_a_handler_must_be_callable(self) -> None:
        with pytest.raises(TypeError, match="handler: must be callable, not str"):
            serve("echo")  # type: ignore[arg-type]

    @pytest.mark.parametrize(("missing", "tls"), [("websockets", False), ("trustme", True)])
    def test_what_is_not_installed_is_named(self, missing: str, tls: bool) -> None:
        program = f"""
import sys
sys.modules[{missing!r}] = None
from wsclient.testing import echo, serve
try:
    serve(echo, tls={tls}).start()
except RuntimeError as error:
    print(error)
"""
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
        assert done.stderr == ""
        assert done.stdout == f"no module {missing!r}: serve() needs pip install 'wsclient[testing]'\n"

    def test_importing_the_kit_imports_no_server_library(self) -> None:
        program = "import json, sys, wsclient.testing; print(json.dumps(sorted(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=40, check=True)
        assert {"websockets", "trustme", "pytest"} & set(json.loads(done.stdout)) == set()
