"""Signals, fork, spawn, exit handlers and forgotten connections, each in a process of its own.

Every program runs against a server that does nothing more, so that each of its calls would wait for ever; it
ends because of what is tried, or runs into the bound of ``run``. ``lost`` means RECONNECTING: the server has
cut the link, and the next attempt is an hour away.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from test_ends import SHORT_EXIT, assert_clean, fork_script, run

from wsclient.testing import (
    FaultServer,
    accept_upgrade,
    black_hole,
    cut,
    read_messages,
    read_until_close,
    stop_reading,
)

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the platform has other signals"),
]

PRELUDE = """
    import atexit, gc, os, signal, sys, threading, time, warnings, wsclient
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import suppress

    URL, MODE, *REST = sys.argv[1:]
    LATER = wsclient.Reconnect(initial_delay=3600, max_delay=3600, jitter="none")
    FOR_EVER = 1000.0
    MAIN = threading.main_thread().ident
    lost, release = threading.Event(), threading.Event()
    closes = []

    def mode_options(**more):
        options = {"proxy": None, "ping_interval": None, **more}
        if MODE != "plain":
            options["reconnect"] = LATER
        return options

    def on_close(conn, code, reason):
        closes.append(code)
        print("closed", code, flush=True)

    def connect(**more):
        # An open connection, or a lost one, as MODE says.
        noted = more.pop("on_disconnect", None)
        def on_disconnect(conn, reason):
            lost.set()
            if noted:
                noted(conn, reason)
        if MODE == "lost":
            more["on_disconnect"] = on_disconnect
        conn = wsclient.connect(URL, **mode_options(**more))
        if MODE == "lost":
            assert lost.wait(10)
            assert conn.state is wsclient.State.RECONNECTING
        return conn

    BIG = "x" * 1_000_000  # more than a narrow peer's buffers take

    def fill(conn):
        accepted = []
        while True:
            message = f"{len(accepted):08}{BIG}"
            try:
                conn.send(message, timeout=0.5)
            except wsclient.SendTimeout:
                return accepted
            accepted.append(message)

    def own_threads():
        return [thread for thread in threading.enumerate() if thread.name.startswith("wsclient-")]

    def stands_in(code):
        # Where the main thread is, if it is in this code, and what else it would show if it moved.
        leaf = frame = sys._current_frames().get(MAIN)
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        return frame and (id(leaf), leaf.f_lasti)

    def signal_when_it_waits_in(function, number):
        # As a terminal or another process does it: to the process, once the main thread stands still there.
        def send():
            before, same = None, 0
            while same < 20:
                release.wait(0.001)
                here = stands_in(function.__code__)
                same = same + 1 if here and here == before else 0
                before = here
            os.kill(os.getpid(), number)
        threading.Thread(target=send, name="signals", daemon=True).start()

    def gone(*threads):
        for thread in threads or own_threads():
            thread.join(10)
            assert not thread.is_alive(), thread
    """


def script(body: str) -> str:
    return textwrap.dedent(PRELUDE) + textwrap.dedent(body)


@contextmanager
def server_for(mode: str, *steps: Any) -> Iterator[FaultServer]:
    """A server that does nothing more after the upgrade, or has cut the link."""
    last = [cut()] if mode == "lost" else [*steps, stop_reading()]
    with FaultServer(accept_upgrade(), *last, receive_buffer=4096) as server:
        yield server


CUT_ONCE: Any = [[accept_upgrade(), cut()], [accept_upgrade(), read_until_close()]]
REPORTS = ("messages unsent", "found no room", "may not have arrived")


def assert_clean_but_for_account(process: subprocess.CompletedProcess[str]) -> None:
    """What the log says of messages at the end may be on standard error, and nothing else."""
    lines = process.stderr.splitlines()
    assert [line for line in lines if not any(report in line for report in REPORTS)] == []
    assert process.returncode == 0


MODES = pytest.mark.parametrize("mode", ["plain", "reconnect", "lost"])

# What to prepare, the call that waits, and the function that the main thread is in meanwhile.
CALLS = {
    "send": ("", "while True: conn.send(BIG, timeout=FOR_EVER)", "wsclient.Connection.send"),
    "send_future": ("", "while True: conn.send_future(BIG)", "wsclient.Connection.send_future"),
    "send_stream": ("fill(conn)", "conn.send_stream()", "wsclient.Connection.send_stream"),
    "flush": ("fill(conn)", "conn.flush(FOR_EVER)", "wsclient.Connection.flush"),
    "confirm": ("", "conn.confirm(FOR_EVER)", "wsclient.Connection.confirm"),
    "ping": ("", "conn.ping().result()", "Future.result"),
    "recv": ("", "conn.recv()", "wsclient.Connection.recv"),
    "recv_json": ("", "conn.recv_json(FOR_EVER)", "wsclient.Connection.recv_json"),
    "iteration": ("", "for _ in conn: pass", "wsclient.Connection.__iter__"),
    "recv_stream": ("", "conn.recv_stream()", "wsclient.Connection.recv_stream"),
    "write": (
        "stream = conn.send_stream()",
        "while True: stream.write(bytes(200_000), timeout=FOR_EVER)",
        "wsclient.SendStream.write",
    ),
    "end of a stream": (
        "stream = conn.send_stream(); stream.write(bytes(16_000_000))",
        "stream.close(FOR_EVER)",
        "wsclient.SendStream.close",
    ),
    "close": ("", "conn.close(timeout=FOR_EVER)", "wsclient.Connection.close"),
}

INTERRUPTED = """
    from concurrent.futures import Future
    prepare, call, function = REST[:3]
    more = {"assemble": False} if "recv_stream" in call else {}
    if "conn.close" in call and MODE == "lost":
        more["on_disconnect"] = lambda conn, reason: release.wait()  # else there is nothing to wait for
    conn = connect(on_close=on_close, send_timeout=FOR_EVER, max_queued_messages=8, **more)

    exec(prepare)
    state = conn.state
    signal_when_it_waits_in(eval(function), signal.SIGINT)
    try:
        exec(call)
    except KeyboardInterrupt as error:
        interrupt = error
    assert conn.state is state or "conn.close" in call
    if "conn.close" not in call:
        with suppress(wsclient.SendTimeout):
            conn.send("still in order", timeout=0.05)
    release.set()
    conn.close(timeout=0.1)
    assert conn.state is wsclient.State.CLOSED
    gone()
    assert len(closes) == 1, closes
    print("in order", flush=True)
    raise interrupt
    """


class TestInterrupts:
    """Ctrl-C gets out of each call that waits; the connection is still in order, and can be closed."""

    def check(self, process: subprocess.CompletedProcess[str]) -> None:
        assert process.stdout.splitlines()[-1:] == ["in order"], process.stderr
        assert process.returncode == -signal.SIGINT
        assert process.stderr.splitlines()[-1] == "KeyboardInterrupt"
        for sign_of_trouble in ("Exception ignored", "Warning", "Exception in thread"):
            assert sign_of_trouble not in process.stderr

    @MODES
    @pytest.mark.parametrize("name", CALLS)
    def test_in_a_call(self, name: str, mode: str) -> None:
        if (name, mode) == ("ping", "lost"):
            pytest.skip("it raises Disconnected")
        with server_for(mode) as server:
            self.check(run(script(INTERRUPTED), server.url, mode, *CALLS[name]))

    @pytest.mark.parametrize("recovers", [False, True], ids=["plain", "reconnect"])
    def test_in_open(self, recovers: bool) -> None:
        program = script(
            """
            conn = wsclient.Connection(URL, **mode_options(on_close=on_close))
            signal_when_it_waits_in(wsclient.Connection.open, signal.SIGINT)
            try:
                conn.open(FOR_EVER)
            except KeyboardInterrupt as error:
                interrupt = error
            assert conn.state is wsclient.State.CLOSED
            conn.close()
            gone()
            assert closes == []  # it was never open
            print("in order", flush=True)
            raise interrupt
            """
        )
        with FaultServer(black_hole()) as server:
            self.check(run(program, server.url, "reconnect" if recovers else "plain"))

    @MODES
    def test_nobody_catches_it(self, mode: str) -> None:
        """The program ends in time, with the right status, and its connections end with it."""
        program = script(
            """
            conn = connect(on_close=on_close)
            for number in range(10):
                conn.send(str(number))
            signal_when_it_waits_in(wsclient.Connection.recv, signal.SIGINT)
            conn.recv()
            """
        )
        last = [cut()] if mode == "lost" else [read_until_close()]
        with FaultServer(accept_upgrade(), *last) as server:
            process = run(program, server.url, mode)
            assert process.returncode == -signal.SIGINT
            assert process.stdout == ("closed 1006\n" if mode == "lost" else "closed 1001\n")
            server.wait_closed()
            assert server.received == ([] if mode == "lost" else [str(number) for number in range(10)])


class TestTermination:
    @MODES
    def test_by_default_it_ends_at_once(self, mode: str) -> None:
        program = script(
            """
            conn = connect(on_close=on_close)
            signal_when_it_waits_in(wsclient.Connection.recv, signal.SIGTERM)
            conn.recv()
            """
        )
        with server_for(mode) as server:
            process = run(program, server.url, mode)
            assert (process.returncode, process.stdout) == (-signal.SIGTERM, "")

    TERMINATED = """
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
        conn = connect(on_close=on_close)
        for number in range(1000):
            conn.send(str(number))
        signal_when_it_waits_in(wsclient.Connection.recv, signal.SIGTERM)
        try:
            conn.recv()
        finally:
            conn.send("last")
        """

    @pytest.mark.parametrize("mode", ["plain", "reconnect"])
    def test_a_handler_that_exits_drains(self, mode: str) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            process = run(script(self.TERMINATED), server.url, mode)
            assert (process.returncode, process.stdout, process.stderr) == (143, "closed 1001\n", "")
            server.wait_closed()
            assert server.received == [*map(str, range(1000)), "last"]
            assert server.close_code == 1001

    def test_a_handler_that_exits_while_it_is_lost(self) -> None:
        """Nothing can be drained: it ends at once, and the log says how much was not sent."""
        with server_for("lost") as server:
            process = run(script(self.TERMINATED), server.url, "lost")
            assert (process.returncode, process.stdout) == (143, "closed 1006\n")
            assert "1001 messages unsent" in process.stderr

    def test_a_handler_that_exits_with_a_peer_that_stalls(self) -> None:
        program = script(
            """
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
            conn = connect(on_close=on_close, max_queued_messages=8)
            signal_when_it_waits_in(wsclient.Connection.send, signal.SIGTERM)
            while True:
                conn.send(BIG, timeout=FOR_EVER)
            """
        )
        with server_for("reconnect") as server:
            process = run(SHORT_EXIT + program, server.url, "reconnect")
            assert (process.returncode, process.stdout) == (143, "closed 1006\n")
            assert "messages unsent" in process.stderr
            assert not server.connections[0].ended, "it still stalls"


class TestExitBetweenLinks:
    """The interpreter exits while there is no link: bounded, and ``on_close`` comes once."""

    def check(self, process: subprocess.CompletedProcess[str]) -> None:
        assert_clean_but_for_account(process)
        assert process.stdout == "closed 1006\n"

    @pytest.mark.parametrize("executor", ["None", "ThreadPoolExecutor(1)"], ids=["reader", "executor"])
    def test_in_a_back_off(self, executor: str) -> None:
        program = script(
            """
            conn = connect(on_close=on_close, callback_executor=eval(REST[0]))
            conn.send("never written")
            """
        )
        with server_for("lost") as server:
            self.check(run(program, server.url, "lost", executor))

    ATTEMPT = """
        asked = threading.Event()
        def headers():
            if lost.is_set():
                asked.set()
                {inside}
            return {{}}
        soon = wsclient.Reconnect(initial_delay=0)
        conn = wsclient.connect(URL, proxy=None, reconnect=soon, headers=headers, on_close=on_close,
                                on_disconnect=lambda conn, reason: lost.set())
        assert asked.wait(10)
        """

    @pytest.mark.parametrize(
        ("prelude", "inside", "closes"),
        [("", "pass", "closed 1006\n"), (SHORT_EXIT, "release.wait()", "")],
        ids=["server", "application"],
    )
    def test_in_an_attempt(self, prelude: str, inside: str, closes: str) -> None:
        """``on_close`` can't come while the application keeps the thread that would call it."""
        with FaultServer(scripts=[[accept_upgrade(), cut()], [black_hole()]]) as server:
            process = run(prelude + script(self.ATTEMPT.format(inside=inside)), server.url, "own")
            assert_clean_but_for_account(process)
            assert process.stdout == closes

    @pytest.mark.parametrize(
        ("callback", "executor"),
        [("on_disconnect", "None"), ("on_reconnect", "Daemonic()")],
        ids=["on_disconnect", "on_reconnect"],
    )
    def test_while_a_callback_does_not_return(self, callback: str, executor: str) -> None:
        program = script(
            """
            from concurrent.futures import Executor, Future

            class Daemonic(Executor):
                # The standard pools wait for their work at exit, whatever the connection does.
                def submit(self, work, *arguments):
                    threading.Thread(target=work, args=arguments, daemon=True).start()
                    return Future()

            entered = threading.Event()
            def hold(conn, *arguments):
                entered.set()
                release.wait()
            soon = wsclient.Reconnect(initial_delay=0)
            options = {REST[0]: hold, "callback_executor": eval(REST[1])}
            conn = wsclient.connect(URL, proxy=None, reconnect=soon, on_close=on_close, **options)
            assert entered.wait(10)
            """
        )
        with FaultServer(
            scripts=[[accept_upgrade(), cut()], [accept_upgrade(), read_until_close()]]
        ) as server:
            process = run(SHORT_EXIT + program, server.url, "own", callback, executor)
            assert_clean_but_for_account(process)
            assert process.stdout == ""

    def test_while_it_is_lost_over_and_over(self) -> None:
        """Whatever moment of the cycle the exit meets."""
        program = script(
            """
            again = threading.Semaphore(0)
            soon = wsclient.Reconnect(initial_delay=0)
            conns = [wsclient.connect(URL, proxy=None, reconnect=soon, on_close=on_close,
                                      on_reconnect=lambda conn: again.release()) for _ in range(5)]
            for _ in range(50):
                assert again.acquire(timeout=10)
            """
        )
        with FaultServer(accept_upgrade(), cut()) as server:
            process = run(program, server.url, "own")
            assert_clean_but_for_account(process)
            assert len(process.stdout.splitlines()) == 5


class TestExitHandlers:
    """What ``atexit`` handlers can do with connections. Those registered later run earlier."""

    @pytest.mark.parametrize("mode", ["plain", "reconnect"])
    def test_one_registered_after_the_import_may_send_and_close(self, mode: str) -> None:
        program = script(
            """
            @atexit.register
            def farewell():
                conn.send("farewell")
                conn.confirm(10)
                if REST[0] == "close":
                    conn.close()
                print("said", conn.close_code, flush=True)
            conn = connect(on_close=on_close)
            """
        )
        for end, last in (("close", "said 1000"), ("leave", "closed 1001")):
            with FaultServer(accept_upgrade(), read_until_close()) as server:
                process = run(program, server.url, mode, end)
                assert_clean(process)
                assert process.stdout.splitlines()[-1] == last
                server.wait_closed()
                assert server.received == ["farewell"]

    def test_one_registered_after_the_import_while_it_is_lost(self) -> None:
        program = script(
            """
            @atexit.register
            def farewell():
                conn.send("farewell")
                conn.close(timeout=FOR_EVER)
                print(conn.unsent, flush=True)
            conn = connect(on_close=on_close)
            """
        )
        with server_for("lost") as server:
            process = run(program, server.url, "lost")
            assert_clean_but_for_account(process)
            assert process.stdout == "closed 1006\n('farewell',)\n"

    @MODES
    def test_one_registered_before_the_import_finds_it_closed(self, mode: str) -> None:
        program = """
            import atexit
            def late():
                try:
                    conn.send("too late")
                except wsclient.ConnectionClosed:
                    print("refused", flush=True)
                conn.close()
                conn.abort()
            atexit.register(late)
            """
        program = textwrap.dedent(program) + script("conn = connect(on_close=on_close)")
        last = [cut()] if mode == "lost" else [read_until_close()]
        with FaultServer(accept_upgrade(), *last) as server:
            process = run(program, server.url, mode)
            assert_clean(process)
            assert process.stdout == ("closed 1006\n" if mode == "lost" else "closed 1001\n") + "refused\n"

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("recovers", [False, True], ids=["plain", "reconnect"])
    def test_connecting_in_one_works_or_is_refused_at_once(self, when: str, recovers: bool) -> None:
        """Python 3.12 and later start no threads any more then."""
        program = """
            import atexit, sys
            URL, recovers = sys.argv[1], sys.argv[2] == "reconnect"
            def late():
                import wsclient
                try:
                    with wsclient.connect(URL, proxy=None, reconnect=recovers) as conn:
                        conn.send("from the handler")
                except RuntimeError as error:
                    assert "thread" in str(error), error
                    print("refused", flush=True)
                else:
                    print("sent", flush=True)
            """
        register = "atexit.register(late)\n"
        first = register if when == "before" else ""
        last = register if when == "after" else ""
        use = "import wsclient\nwsclient.connect(URL, proxy=None).close()\n"
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            process = run(
                textwrap.dedent(program) + first + use + last,
                server.url,
                "reconnect" if recovers else "plain",
            )
            assert_clean(process)
            if process.stdout == "sent\n":
                server.wait_closed()
                assert server.received == ["from the handler"]
            else:
                assert (process.stdout, sys.version_info >= (3, 12)) == ("refused\n", True)


class TestForgotten:
    """The garbage collector finds a connection that nobody closed."""

    @MODES
    def test_it_warns_and_its_threads_are_gone(self, mode: str) -> None:
        program = script(
            """
            if MODE == "lost":
                # A callback would keep the connection alive: here the state alone tells that it is lost.
                conn = wsclient.connect(URL, **mode_options())
                while conn.state is not wsclient.State.RECONNECTING or len(own_threads()) > 1:
                    release.wait(0.001)
            else:
                conn = connect()
            conn.send("x")
            threads = own_threads()
            assert len(threads) == (1 if MODE == "lost" else 2), threads
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del conn
                gc.collect()
            assert [warning.category for warning in caught] == [ResourceWarning]
            gone(*threads)
            assert own_threads() == []
            sockets = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                       if os.path.exists(f"/proc/self/fd/{fd}")] if sys.platform == "linux" else []
            assert not [name for name in sockets if name.startswith("socket:")]
            """
        )
        with server_for(mode) as server:
            assert_clean_but_for_account(run(program, server.url, mode))

    @MODES
    def test_one_with_callbacks_lives_until_the_exit(self, mode: str) -> None:
        program = script(
            """
            connect(on_close=on_close)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                gc.collect()
            assert len(own_threads()) == (1 if MODE == "lost" else 2)
            assert closes == []
            """
        )
        last = [cut()] if mode == "lost" else [read_until_close()]
        with FaultServer(accept_upgrade(), *last) as server:
            process = run(program, server.url, mode)
            assert_clean(process)
            assert process.stdout == ("closed 1006\n" if mode == "lost" else "closed 1001\n")


class TestFork:
    """The child's copy refuses every call and touches nothing; see also test_ends."""

    def check(self, process: subprocess.CompletedProcess[str]) -> None:
        assert_clean_but_for_account(process)
        report = json.loads(process.stdout.splitlines()[0])
        assert [name for name, refused in report.items() if refused is not True] == []
        assert len(report) == 13

    def test_an_open_one_that_recovers(self) -> None:
        """The end of the child does not end the parent's link, which is lost only afterwards."""
        program = fork_script(
            """
            again = threading.Event()
            soon = wsclient.Reconnect(initial_delay=0)
            with wsclient.connect(sys.argv[1], proxy=None, reconnect=soon,
                                  on_reconnect=lambda conn: again.set()) as conn:
                conn.confirm(10)
                print(json.dumps(fork(conn, sys.exit)), flush=True)
                conn.confirm(10)
                assert conn.stats().reconnects == 0
                conn.send("go")
                assert again.wait(10)
                conn.send("parent")
                conn.confirm(10)
                assert conn.stats().reconnects == 1
            """
        )
        scripts: Any = [
            [accept_upgrade(), read_messages(1), cut()],
            [accept_upgrade(), read_until_close()],
        ]
        with FaultServer(scripts=scripts) as server:
            self.check(run(program, server.url))
            server.wait_closed()
            assert [list(record.received) for record in server.connections] == [["go"], ["parent"]]

    @pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()"])
    def test_in_a_back_off(self, end: str) -> None:
        program = fork_script(
            """
            lost, closes = threading.Event(), []
            later = wsclient.Reconnect(initial_delay=3600, max_delay=3600, jitter="none")
            conn = wsclient.connect(sys.argv[1], proxy=None, reconnect=later,
                                    on_disconnect=lambda conn, reason: lost.set(),
                                    on_close=lambda conn, code, reason: closes.append(code))
            assert lost.wait(10)
            conn.send("kept")
            print(json.dumps(fork(conn, lambda: exec(sys.argv[2]))), flush=True)
            assert closes == [] and conn.state is wsclient.State.RECONNECTING
            conn.send("kept, too")
            conn.close()
            assert (closes, conn.unsent) == ([1006], ("kept", "kept, too"))
            """
        )
        with FaultServer(accept_upgrade(), cut()) as server:
            self.check(run(program, server.url, end))

    def test_in_an_attempt(self) -> None:
        program = fork_script(
            """
            lost, asked, go, again = (threading.Event() for _ in range(4))
            def headers():
                if lost.is_set():
                    asked.set()
                    go.wait()
                return {}
            soon = wsclient.Reconnect(initial_delay=0)
            conn = wsclient.connect(sys.argv[1], proxy=None, reconnect=soon, headers=headers,
                                    on_disconnect=lambda conn, reason: lost.set(),
                                    on_reconnect=lambda conn: again.set())
            assert asked.wait(10)
            conn.send("kept")
            print(json.dumps(fork(conn, sys.exit)), flush=True)
            go.set()
            assert again.wait(10)
            conn.confirm(10)
            conn.close()
            """
        )
        with FaultServer(
            scripts=[[accept_upgrade(), cut()], [accept_upgrade(), read_until_close()]]
        ) as server:
            self.check(run(program, server.url))
            server.wait_closed()
            assert server.connections[1].received == ("kept",)


class TestMultiprocessing:
    """A child that ``multiprocessing`` starts anew has connections of its own, and none of the parent's."""

    PARENT = """
        import multiprocessing, sys, threading, wsclient
        CHILD = '''
        import sys, threading, wsclient
        from wsclient.lifetime import live
        assert not list(live._members)
        with wsclient.connect(url, proxy=None, reconnect=True) as conn:
            conn.send("child")
        '''
        lost = threading.Event()
        later = wsclient.Reconnect(initial_delay=3600, max_delay=3600, jitter="none")
        own, url, method = sys.argv[1:]
        conn = wsclient.connect(own, proxy=None, reconnect=later,
                                on_disconnect=lambda conn, reason: lost.set())
        if own != url:
            assert lost.wait(10)
        conn.send("parent")
        state = conn.state
        context = multiprocessing.get_context(method)
        process = context.Process(target=exec, args=(CHILD, {"url": url}))
        process.start()
        process.join(15)
        assert process.exitcode == 0, process.exitcode
        process.close()
        assert conn.state is state
        conn.close()
        print(conn.unsent)
        """

    @pytest.mark.parametrize("lost", [False, True], ids=["open", "lost"])
    @pytest.mark.parametrize("method", ["spawn", "forkserver"])
    def test_both_go_on(self, method: str, lost: bool) -> None:
        with (
            FaultServer(accept_upgrade(), read_until_close()) as server,
            FaultServer(accept_upgrade(), cut()) as cutting,
        ):
            process = run(self.PARENT, (cutting if lost else server).url, server.url, method)
            assert_clean_but_for_account(process)
            assert process.stdout == ("('parent',)\n" if lost else "()\n")
            server.wait_closed()
            received = sorted(str(message) for message in server.received)
            assert received == (["child"] if lost else ["child", "parent"])
