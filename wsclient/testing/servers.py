"""Honest servers for tests: ``serve(handler)`` on 127.0.0.1, in a thread or in a process of its own.

::

    with serve(echo) as server:
        conn = wsclient.connect(server.url)

A handler is a function of one argument, called for each client. A plain function runs in a thread of its own
and gets a ``ServerConnection``, which blocks; a coroutine function runs on the server's event loop and gets
the connection of ``websockets`` itself. When the handler returns the connection is closed (1000). When the
client leaves first, ``ConnectionClosed`` ends the handler quietly. Anything else that it raises is in
``Server.errors``, raised by every wait and at the end of ``with``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from wsclient.testing.failures import HandlerFailed
from wsclient.testing.journal import ConnectionRecord, Event, Failed, Journal

if TYPE_CHECKING:
    from wsclient.testing.engine import Ready, Settings

__all__ = ["Server", "broadcast", "counter", "echo", "recorder", "serve"]

Message: TypeAlias = "str | bytes"
Handler: TypeAlias = "Callable[[Any], object]"

_HOST = "127.0.0.1"
_START_SECONDS = 30.0  # a new process may have to import a whole test suite first
_STOP_SECONDS = 15.0


# -- handlers, ready made ----------------------------------------------------------------------------------


async def echo(connection: Any) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def recorder(connection: Any) -> None:
    """Read, and never answer; see ``Server.received``."""
    async for _ in connection:
        pass


async def counter(connection: Any) -> None:
    """Answer each message with its number on this connection, as text: ``1``, ``2``, ..."""
    number = 0
    async for _ in connection:
        number += 1
        await connection.send(str(number))


async def broadcast(connection: Any) -> None:
    """Send every message to all clients, its sender too."""
    async for message in connection:
        await connection.broadcast(message)


# -- the server --------------------------------------------------------------------------------------------


def serve(
    handler: Handler,
    *,
    tls: bool = False,
    process: bool = False,
    subprotocols: Sequence[str] = (),
    compression: bool = False,
) -> Server:
    """Make a server on 127.0.0.1 and a port that the system chooses. It runs within ``with``.

    Args:
        handler: ``echo``, ``recorder``, ``counter``, ``broadcast``, or your own; see this module.
        tls: serve ``wss``, with a certificate for ``127.0.0.1`` and ``localhost`` of a throw-away authority.
        process: serve in another process: nothing of the test's but the wire is within its reach. The handler
            must be a function at the top level of a module that can be imported there.
        subprotocols: names that it knows, best first.
        compression: accept permessage-deflate when the client offers it.

    Raises:
        TypeError: ``handler`` cannot be called.
        ValueError: with ``process``, ``handler`` cannot be sent to another process.
    """
    return Server(handler, tls=tls, process=process, subprotocols=subprotocols, compression=compression)


class Server:
    """A server for ``with``; made by ``serve``. Everything may be called and read from any thread.

    Messages count once a handler has read them. With ``process`` the news takes a moment to get here: wait.
    Times are seconds.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        tls: bool = False,
        process: bool = False,
        subprotocols: Sequence[str] = (),
        compression: bool = False,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"handler: must be callable, not {type(handler).__name__}")
        if process:
            _check_picklable(handler)
        self._arguments = (handler, tls, tuple(subprotocols), compression)
        self._journal = Journal()
        self._host: _Host = _ProcessHost(self._journal) if process else _ThreadHost(self._journal)
        self._started = False  # start() and stop(): the thread that owns the server, as the next two
        self._ready: Ready | None = None
        self._ssl_context: ssl.SSLContext | None = None

    # Life

    def start(self) -> None:
        """Listen. Once only; ``with`` does it.

        Raises:
            RuntimeError: it was started before, cannot start, or ``wsclient[testing]`` is not installed.
        """
        if self._started:
            raise RuntimeError("a server is started once, and this one was")
        self._started = True
        self._ready = ready = self._host.start(_settings(*self._arguments))
        if ready.ca_pem is not None:
            self._ssl_context = ssl.create_default_context(cadata=ready.ca_pem.decode())

    def stop(self) -> None:
        """Close every connection (1001) and wait for the handlers to end. Idempotent; ``with`` does it."""
        if self._ready is not None:
            self._ready = None
            self._host.stop()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None:
            self._journal.raise_error()

    # How to reach it

    @property
    def port(self) -> int:
        """The port. Raises ``RuntimeError`` when the server does not run."""
        return self._running().port

    @property
    def url(self) -> str:
        """``ws://`` or ``wss://`` URL, without a path: all are served."""
        return f"{'wss' if self.ca_pem else 'ws'}://{_HOST}:{self.port}"

    @property
    def ca_pem(self) -> bytes | None:
        """The certificate of the throw-away authority, as PEM; ``None`` without ``tls``."""
        return self._running().ca_pem

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """For clients: verifies that it is this server; ``None`` without ``tls``."""
        self._running()
        return self._ssl_context

    def _running(self) -> Ready:
        if self._ready is None:
            raise RuntimeError("the server does not run: use it in a with statement, or call start()")
        return self._ready

    # What the clients did

    @property
    def received(self) -> list[Message]:
        """Every message so far, over all clients, in the order in which handlers read them."""
        return self._journal.received

    @property
    def connections(self) -> tuple[ConnectionRecord, ...]:
        """One record for each connection so far, in order."""
        return self._journal.connections

    @property
    def errors(self) -> tuple[HandlerFailed, ...]:
        """What handlers raised so far."""
        return self._journal.errors

    def take_errors(self) -> tuple[HandlerFailed, ...]:
        """The errors so far, which are then not raised at the end: the test expected them."""
        return self._journal.take_errors()

    def wait_for_messages(self, count: int, timeout: float = 10.0) -> list[Message]:
        """Wait until ``count`` messages have come, over all clients, and return all that have.

        Raises:
            WaitTimeout: (``AssertionError`` and ``TimeoutError``) they did not; it shows the transcript.
            HandlerFailed: a handler raised.
        """
        return self._journal.wait_for_messages(count, timeout)

    def wait_for_connections(self, count: int, timeout: float = 10.0) -> None:
        """Wait until there were so many connections. Raises as ``wait_for_messages``."""
        self._journal.wait_for_connections(count, timeout)

    def wait_closed(self, timeout: float = 10.0) -> None:
        """Wait until all connections so far, at least one, are over. Raises as ``wait_for_messages``."""
        self._journal.wait_closed(timeout)

    def assert_received(self, expected: Sequence[Any], timeout: float = 10.0) -> None:
        """Wait for as many messages as expected, and compare all that came.

        Args:
            expected: ``str`` and ``bytes`` as they are; anything else is what a message says in JSON.
            timeout: seconds.

        Raises:
            AssertionError: they differ; the text says where first. Else as ``wait_for_messages``.
        """
        self._journal.assert_received(expected, timeout)


def _settings(handler: Handler, tls: bool, subprotocols: tuple[str, ...], compression: bool) -> Settings:
    try:
        from wsclient.testing.engine import Settings

        if tls:
            import trustme  # noqa: F401 - the engine needs it, in its own thread
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"no module {error.name!r}: serve() needs pip install 'wsclient[testing]'"
        ) from error
    return Settings(handler, tls, subprotocols, compression)


def _check_picklable(handler: Handler) -> None:
    try:
        pickle.dumps(handler)
    except Exception as error:
        text = "handler: with process=True it must be a function at the top level of a module"
        raise ValueError(f"{text} ({error})") from error


# -- where it runs -----------------------------------------------------------------------------------------


class _Host(Protocol):
    def start(self, settings: Settings) -> Ready:
        """Start, and return where it listens."""

    def stop(self) -> None:
        """Stop, and wait for the end."""


class _ThreadHost:
    """In a thread of this process."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        # The thread that owns the server.
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] | None = None

    def start(self, settings: Settings) -> Ready:
        started: Future[tuple[Ready, Callable[[], None]]] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(settings, started), name="wsclient-testing-server", daemon=True
        )
        self._thread.start()
        ready, self._stop = started.result(_START_SECONDS)
        return ready

    def stop(self) -> None:
        assert self._stop is not None
        assert self._thread is not None
        self._stop()
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise HandlerFailed(
                f"the server did not stop within {_STOP_SECONDS:g} s: a handler blocks its loop"
            )

    def _run(self, settings: Settings, started: Future[tuple[Ready, Callable[[], None]]]) -> None:
        from wsclient.testing.engine import Engine

        try:
            Engine(settings, self._journal.note).run(lambda ready, stop: started.set_result((ready, stop)))
        except BaseException as error:
            if started.done():
                self._journal.note(Failed(f"the server ended: {error!r}"))
            else:
                started.set_exception(error)


class _ProcessHost:
    """In a process of its own, a fresh interpreter that shares nothing with this one."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        # The thread that owns the server.
        self._process: BaseProcess | None = None
        self._pipe: Pipe | None = None
        self._pump: threading.Thread | None = None

    def start(self, settings: Settings) -> Ready:
        context = multiprocessing.get_context("spawn")
        pipe, childs = context.Pipe()
        self._process = context.Process(
            target=_serve_in_child, args=(childs, settings), name="wsclient-testing-server", daemon=True
        )
        self._pipe = pipe
        self._process.start()
        childs.close()
        ready = self._receive_ready(pipe)
        self._pump = threading.Thread(
            target=_pump, args=(pipe, self._journal.note), name="wsclient-testing-events", daemon=True
        )
        self._pump.start()
        return ready

    def stop(self) -> None:
        process, pipe, pump = self._process, self._pipe, self._pump
        assert process is not None
        assert pipe is not None
        if process.exitcode is None:
            _tell_to_stop(pipe)
        process.join(_STOP_SECONDS)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        if pump is not None:
            pump.join(_STOP_SECONDS)  # ends with the process: nobody else can write to the pipe
        pipe.close()
        process.close()
        if code != 0:
            how = "did not stop in time and was killed" if code is None else f"ended with exit code {code}"
            raise HandlerFailed(f"the process of the server {how}")

    def _receive_ready(self, pipe: Pipe) -> Ready:
        try:
            if pipe.poll(_START_SECONDS):
                ready: Ready = pipe.recv()
                return ready
            problem = f"was not ready within {_START_SECONDS:g} s"
        except EOFError:
            problem = "ended before it was ready; its standard error says why"
        try:
            self.stop()
        except HandlerFailed as error:
            raise RuntimeError(f"the process of the server {problem}") from error
        raise RuntimeError(f"the process of the server {problem}")


def _tell_to_stop(pipe: Pipe) -> None:
    with contextlib.suppress(OSError):  # it may have ended by itself
        pipe.send(None)


def _pump(pipe: Pipe, note: Callable[[Event], None]) -> None:
    # Body of the thread that takes in what the process reports.
    while True:
        try:
            event: Event = pipe.recv()
        except (EOFError, OSError):
            return
        note(event)


def _serve_in_child(pipe: Pipe, settings: Settings) -> None:
    # Main function of the process. Ctrl-C is for the test, which then stops this.
    from wsclient.testing.engine import Engine

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def on_ready(ready: Ready, stop: Callable[[], None]) -> None:
        pipe.send(ready)
        threading.Thread(target=_await_order, args=(pipe, stop), daemon=True).start()

    Engine(settings, pipe.send).run(on_ready)


def _await_order(pipe: Pipe, stop: Callable[[], None]) -> None:
    # The order to stop, or the end of the test process.
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    stop()
