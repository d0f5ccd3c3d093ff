"""The pytest plugin, in test suites of its own: fixtures, leaks, raw writes, what it costs when unused."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wsclient.testing.leaks import Resources
from wsclient.testing.raw_writes import RawWriteWatch

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.timeout(50)

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = "pytest_wsclient"
# What the suite around it has imported cannot be rewritten.
NESTED = ("-W", "error", "-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
QUICK = ("-p", "no:hypothesispytest")  # in a suite within a suite it imports all of hypothesis, each time
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    """Run a suite of one file in this process, with warnings as errors."""
    pytester.makepyfile(f"from __future__ import annotations\n{source}")
    options = ("-p", PLUGIN, "-p", "no:cacheprovider", *QUICK, *NESTED, *arguments)
    return pytester.runpytest_inprocess(*options)


class TestFixtures:
    def test_five_lines_are_enough(self, pytester: pytest.Pytester) -> None:
        source = """
def test_greeting(ws_server, ws_client):
    client = ws_client(ws_server())
    client.send_quick_message("greeting", "hello")
    assert client.wait_for(type="greeting")["content"] == {"text": "hello"}
"""
        run(pytester, source).assert_outcomes(passed=1)

    def test_a_failed_wait_shows_the_test_and_not_the_library(self, pytester: pytest.Pytester) -> None:
        source = """
def test_greeting(ws_server, ws_client):
    client = ws_client(ws_server())
    client.wait_for(type="greeting", timeout=0.1)
"""
        result = run(pytester, source)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([">*client.wait_for(type=*", "E*waited 0.1 s for a message with type=*"])
        result.stdout.no_fnmatch_line("*def wait_for*")

    def test_each_factory_makes_many(self, pytester: pytest.Pytester) -> None:
        source = """
import pytest
from wsclient.testing import accept_upgrade, broadcast, read_until_close, send_text

@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("process", [False, True])
def test_servers(ws_client, ws_server, tls, process):
    one, two = ws_server(broadcast, tls=tls, process=process), ws_server(subprotocols=["chat"])
    clients = [ws_client(one, role="teacher"), ws_client(one), ws_client(two, subprotocols=["chat"])]
    assert [client.user_id for client in clients] == ["user-1", "user-2", "user-3"]
    one.wait_for_connections(2)
    clients[0].send_json([1])
    assert [client.receive() for client in clients[:2]] == [[1], [1]]
    one.assert_received([[1]])
    assert clients[2].connection.subprotocol == "chat"

def test_faults(ws_faults, ws_client):
    server = ws_faults(accept_upgrade(), send_text("[1]"), read_until_close())
    assert ws_client(server).receive() == [1]
    assert ws_client(server.url, "ada", "student", "s").user_id == "ada"

def test_later(ws_server, ws_client):
    client = ws_client(ws_server(), connect=False)
    assert not client.is_connected
    client.connect()
"""
        run(pytester, source).assert_outcomes(passed=6)

    def test_a_lost_message_fails_the_test(self, pytester: pytest.Pytester) -> None:
        source = """
from wsclient.testing import accept_upgrade, stop_reading

def test_lost(ws_faults, ws_client):
    client = ws_client(ws_faults(accept_upgrade(), stop_reading()), user_id="ada")
    client.send_raw(b"x" * 8_000_000)
    client.send_raw("the last")
    client.abort()

def test_looked_at(ws_faults, ws_client):
    client = ws_client(ws_faults(accept_upgrade(), stop_reading()))
    client.send_raw(b"x" * 8_000_000)
    client.abort()
    assert len(client.unsent) == 1
"""
        result = run(pytester, source)
        result.assert_outcomes(passed=2, errors=1)
        result.stdout.fnmatch_lines(
            ["*ERROR at teardown of test_lost*", "*ada*2 accepted message(s) lost*the last*"]
        )

    def test_an_unread_error_fails_the_test(self, pytester: pytest.Pytester) -> None:
        source = """
def test_unread(ws_server, ws_client):
    client = ws_client(ws_server())
    client.send_raw("no json")
    client.send_json(1)
    client.receive()

def test_read(ws_server, ws_client):
    client = ws_client(ws_server())
    client.send_raw("no json")
    client.send_json(1)
    client.receive()
    assert client.errors[0].message == "no json"
"""
        result = run(pytester, source)
        result.assert_outcomes(passed=2, errors=1)
        result.stdout.fnmatch_lines(["*error not read: not JSON*no json*"])

    def test_a_failing_handler_fails_the_test(self, pytester: pytest.Pytester) -> None:
        source = """
import pytest
import wsclient
from wsclient.testing import accept_upgrade, read_messages

def handler(connection):
    raise LookupError("no such room")

def test_handler(ws_server):
    with wsclient.connect(ws_server(handler).url) as conn, pytest.raises(wsclient.ConnectionClosed):
        conn.recv(10)

def test_script(ws_faults, ws_client):
    ws_client(ws_faults(accept_upgrade(), read_messages(1)))
"""
        result = run(pytester, source)
        result.assert_outcomes(passed=2, errors=2)
        result.stdout.fnmatch_lines(["*LookupError: no such room*"])
        result.stdout.fnmatch_lines(["*ScriptError*"])

    def test_clients_are_closed_before_servers_stop(self, pytester: pytest.Pytester) -> None:
        source = """
codes = []

def handler(connection):
    for _ in connection:
        pass

def test_one(ws_client, ws_server):
    server = ws_server(handler)
    codes.append(server)
    ws_client(server)

def test_two():
    assert codes[0].connections[0].close_code == 1000
"""
        run(pytester, source).assert_outcomes(passed=2)


LEAKY = """
import socket, threading, wsclient
from wsclient.testing import echo, serve

kept = []
end = threading.Event()

def test_socket({fixture}):
    kept.append(socket.socket())

def test_thread({fixture}):
    kept.append(threading.Thread(target=end.wait, args=(40,)))
    kept[-1].start()

def test_connection({fixture}):
    kept.append(server.__enter__())
    kept.append(wsclient.connect(server.url))

def test_nothing({fixture}):
    pass

def test_clean_up():
    kept[0].close()
    end.set()
    kept[1].join(20)
    kept[3].close()
    server.__exit__(None, None, None)

server = serve(echo)
"""


class TestLeaks:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # What is leaked here stays: there is no use in waiting for it to go.
        monkeypatch.setattr(Resources.leaked_since, "__defaults__", (0.2,))

    def outcome(self, pytester: pytest.Pytester, fixture: str, *arguments: str) -> pytest.RunResult:
        return run(pytester, LEAKY.format(fixture=fixture), *arguments)

    @pytest.mark.parametrize("fixture", ["ws_no_leaks", "ws_client"])
    def test_they_fail_tests_that_use_the_fixtures(self, pytester: pytest.Pytester, fixture: str) -> None:
        self.expect_found(self.outcome(pytester, fixture))

    def test_they_fail_every_test_on_demand(self, pytester: pytest.Pytester) -> None:
        self.expect_found(self.outcome(pytester, "", "--ws-leaks=all"))

    def test_the_ini_file_can_demand_it(self, pytester: pytest.Pytester) -> None:
        pytester.makeini("[pytest]\nws_leaks = all\n")
        self.expect_found(self.outcome(pytester, ""))

    def test_other_tests_are_left_alone(self, pytester: pytest.Pytester) -> None:
        self.outcome(pytester, "").assert_outcomes(passed=5)

    def test_the_check_can_be_turned_off(self, pytester: pytest.Pytester) -> None:
        pytester.makeini("[pytest]\nws_leaks = all\n")
        self.outcome(pytester, "ws_server", "--ws-leaks=off").assert_outcomes(passed=5)

    def test_a_wrong_scope_is_refused(self, pytester: pytest.Pytester) -> None:
        pytester.makeini("[pytest]\nws_leaks = most\n")
        result = self.outcome(pytester, "")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*ws_leaks: must be one of fixtures, all, off, not 'most'*"])

    def expect_found(self, result: pytest.RunResult) -> None:
        sockets = sys.platform == "linux"
        result.assert_outcomes(passed=5, errors=3 if sockets else 2)
        wanted = ["*test_thread*", "*the test leaked: thread * is still running*"]
        result.stdout.fnmatch_lines(
            [*wanted, "*the test leaked: <wsclient.Connection * open> was not closed*"]
        )
        if sockets:
            result.stdout.fnmatch_lines(["*test_socket*", "*the test leaked: socket:* is still open*"])

    def test_what_only_the_collector_can_free_is_no_leak(self, pytester: pytest.Pytester) -> None:
        source = """
import socket, gc

class Knot:
    def __init__(self):
        self.me = self
        self.socket = socket.socketpair()

    def __del__(self):
        for end in self.socket:
            end.close()

def test_knot(ws_no_leaks):
    gc.disable()
    Knot()

def test_end():
    gc.enable()
"""
        run(pytester, source).assert_outcomes(passed=2)


RAW = """
import threading
import pytest
import websocket

@pytest.fixture
def raw(ws_server):
    raw = websocket.create_connection(ws_server().url)
    yield raw
    raw.shutdown()
"""


BYPASSES = (
    "raw.send('x')",
    "raw.send_text('x')",
    "raw.send_bytes(b'x')",
    "raw.send_binary(b'x')",
    "raw.send_frame(websocket.ABNF.create_frame('x', websocket.ABNF.OPCODE_TEXT))",
    "raw.ping()",
    "raw.pong()",
    "raw.send_close()",
    "raw.close()",
    "raw._send(b'x')",
    "raw.sock.send(b'x')",
    "raw.sock.sendall(b'x')",
    "raw.sock.sendmsg([b'x'])",
    "websocket.WebSocket.send(raw, 'x')",
)


class TestForbidRaw:
    def test_each_write_fails_its_test(self, pytester: pytest.Pytester) -> None:
        tests = [
            f"def test_{number}(raw):\n    {line}  # HERE {number}\n" for number, line in enumerate(BYPASSES)
        ]
        source = "\n".join([RAW, *tests, "def test_innocent():\n    pass\n"])
        result = run(pytester, source, "--ws-forbid-raw")
        result.assert_outcomes(passed=1, failed=len(BYPASSES))
        for number in range(len(BYPASSES)):
            result.stdout.fnmatch_lines(
                [f"*_ test_{number} _*", "1 write(s) to a raw websocket.WebSocket*", f"*# HERE {number}"]
            )
        assert "_pytest" not in result.stdout.str()

    def test_without_the_option_nothing_happens(self, pytester: pytest.Pytester) -> None:
        run(pytester, f"{RAW}\ndef test_bypass(raw):\n    raw.send('x')\n").assert_outcomes(passed=1)

    def test_afterwards_everything_is_as_it_was(self, pytester: pytest.Pytester) -> None:
        import websocket

        before = dict(vars(websocket.WebSocket))
        run(pytester, "def test_nothing(): pass", "--ws-forbid-raw").assert_outcomes(passed=1)
        assert dict(vars(websocket.WebSocket)) == before

    def test_over_tls_too(self, pytester: pytest.Pytester) -> None:
        source = """
import websocket

def test_tls(ws_server):
    server = ws_server(tls=True)
    raw = websocket.create_connection(server.url, sslopt={"context": server.ssl_context})
    raw.send("frame")
    raw.sock.sendall(b"bytes")
    raw.sock.write(b"more")
    raw.shutdown()
"""
        result = run(pytester, source, "--ws-forbid-raw")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["*3 write(s)*", "*raw.send(*", "*raw.sock.sendall(*", "*raw.sock.write(*"]
        )

    def test_threads_and_fixtures_are_watched(self, pytester: pytest.Pytester) -> None:
        source = f"""{RAW}
@pytest.fixture
def early(raw):
    raw.send("early")

@pytest.fixture
def late(raw):
    yield
    raw.send("late")

def test_thread(raw):
    thread = threading.Thread(target=raw.send, args=("x",), name="bypasser")
    thread.start()
    thread.join()

def test_setup(early):
    pass

def test_teardown(late):
    pass

def test_failing(raw):
    raw.send("x")
    assert 1 == 2
"""
        result = run(pytester, source, "--ws-forbid-raw")
        result.assert_outcomes(failed=2, passed=1, errors=2)
        for line in ("*in thread 'bypasser'*", '*raw.send("early")*', '*raw.send("late")*'):
            result.stdout.fnmatch_lines([line])
        result.stdout.fnmatch_lines(["*assert 1 == 2*", "*raw WebSocket writes*", "*1 write(s)*"])

    def test_an_app_is_no_way_around(self, pytester: pytest.Pytester) -> None:
        source = """
import websocket

def test_app(ws_server):
    app = websocket.WebSocketApp(ws_server().url, on_open=lambda app: (app.send("x"), app.close()))
    app.run_forever()
"""
        result = run(pytester, source, "--ws-forbid-raw")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*in <lambda>*"])

    def test_a_socket_of_the_tests_own_is_watched(self, pytester: pytest.Pytester) -> None:
        source = """
import socket
import websocket

def test_own(ws_server):
    with socket.create_connection(("127.0.0.1", ws_server().port)) as own:
        raw = websocket.WebSocket()
        raw.connect("ws://127.0.0.1/", socket=own)
        own.sendall(b"around it")
"""
        result = run(pytester, source, "--ws-forbid-raw")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*1 write(s)*", "*own.sendall*"])

    def test_connections_of_wsclient_pass(self, pytester: pytest.Pytester) -> None:
        source = """
import wsclient
import websocket

def test_client(ws_server, ws_client):
    for tls in (False, True):
        client = ws_client(ws_server(tls=tls))
        client.send_json([1])
        assert client.receive() == [1]
        assert client.ping() > 0

def test_only_the_upgrade_is_raw(ws_server):
    websocket.create_connection(ws_server().url).shutdown()
"""
        run(pytester, source, "--ws-forbid-raw").assert_outcomes(passed=2)

    def test_what_no_test_can_be_blamed_for_fails_the_run(self, pytester: pytest.Pytester) -> None:
        pytester.makeconftest(
            """
import pytest
import websocket
from wsclient.testing import echo, serve

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    with serve(echo) as server:
        raw = websocket.create_connection(server.url)
        raw.send("the end")
        raw.shutdown()
"""
        )
        result = run(pytester, "def test_nothing(): pass", "--ws-forbid-raw")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(['*raw.send("the end")*'])

    def test_a_socket_with_a_layout_of_its_own_is_left_alone(self) -> None:
        import socket

        import websocket

        class Odd(socket.socket):
            __slots__ = ("extra",)

        watch = RawWriteWatch()
        watch.start()
        try:
            raw = websocket.WebSocket()
            with Odd() as sock:
                raw.sock = sock
                assert isinstance(raw.sock, Odd)
        finally:
            watch.stop()
        assert watch.take() == []


class TestCost:
    def test_pytest_starts_without_the_package(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
import json, sys

def test_modules():
    print("LOADED", json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
        )
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", PLUGIN, "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command,
            cwd=pytester.path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        loaded = json.loads(re.findall(r"LOADED (.*)", done.stdout)[0])
        assert PLUGIN in loaded
        assert {"wsclient", "websocket", "websockets", "trustme"} & set(loaded) == set()

    def test_the_entry_point_names_the_plugin(self) -> None:
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg", encoding="utf-8")
        # The same name on both sides: with -p as well, pytest takes it once.
        assert config["options.entry_points"]["pytest11"].split() == [PLUGIN, "=", PLUGIN]
        assert PLUGIN in config["options"]["py_modules"].split()

    def test_the_options_are_documented(self, pytester: pytest.Pytester) -> None:
        result = run(pytester, "", "--help")
        result.stdout.fnmatch_lines(
            ["wsclient:", "*--ws-forbid-raw*", "*--ws-leaks=*", "*ws_leaks (string)*"]
        )
        result = run(pytester, "", "--fixtures", "-q")
        result.stdout.fnmatch_lines(
            [f"{name} -- *" for name in ("ws_no_leaks", "ws_server", "ws_faults", "ws_client")]
        )


def _documented_suites() -> list[str]:
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    return [
        block
        for text in texts
        for block in BLOCK.findall(text)
        if re.search(r"^def test_", block, re.MULTILINE)
    ]


def test_there_are_documented_suites() -> None:
    assert _documented_suites()


@pytest.mark.parametrize("source", _documented_suites())
def test_a_documented_suite_passes(pytester: pytest.Pytester, source: str) -> None:
    result = run(pytester, source, "--ws-leaks=all", "--ws-forbid-raw")
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed"}, outcomes
