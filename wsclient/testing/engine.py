"""The server itself, on ``websockets`` (extra ``testing``): imported only once one is started."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import ssl
import threading
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import websockets
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve

import wsclient
from wsclient.testing.journal import Closed, Event, Failed, Opened, Received
from wsclient.testing.server_connection import ServerConnection as BlockingConnection
from wsclient.testing.transcript import HANDLER_THREAD

__all__ = ["Engine", "Ready", "Settings"]

HOST = "127.0.0.1"
_CLOSE_TIMEOUT = 1.0  # seconds for a client to answer a close frame
_GRACE = 5.0  # seconds for handlers to end once their connections are closed

Handler: TypeAlias = "Callable[[Any], object]"


@dataclass(frozen=True)
class Settings:
    """What kind of server; goes to another process as it is."""

    handler: Handler
    tls: bool
    subprotocols: tuple[str, ...]
    compression: bool


@dataclass(frozen=True)
class Ready:
    """Where it listens, and for TLS the certificate of the authority to trust, as PEM."""

    port: int
    ca_pem: bytes | None


class _Connection(ServerConnection):
    """A connection of ``websockets`` that reports what its handler reads."""

    report: Callable[[str | bytes], None]  # set before the handler runs; the loop
    others: set[_Connection]  # the same: the open connections of this server, this one among them

    async def recv(self, decode: bool | None = None) -> str | bytes:  # type: ignore[override]
        message: str | bytes = await super().recv(decode)
        self.report(message)
        return message

    async def broadcast(self, message: str | bytes) -> None:
        """Send to every open connection of this server, this one too."""
        broadcast(self.others, message)


class Engine:
    """One server in one event loop. Its fields belong to the thread that calls ``run``.

    Args:
        settings: what to serve.
        report: called on the loop with each event.
    """

    def __init__(self, settings: Settings, report: Callable[[Event], None]) -> None:
        self._settings = settings
        self._report = report
        self._numbers = itertools.count()
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()  # one for each handler

    def run(self, on_ready: Callable[[Ready, Callable[[], None]], None]) -> None:
        """Serve until stopped. ``on_ready`` gets the address, and what stops it when called by any thread."""
        asyncio.run(self._run(on_ready))

    async def _run(self, on_ready: Callable[[Ready, Callable[[], None]], None]) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        context, ca_pem = _server_tls() if self._settings.tls else (None, None)
        server = await serve(
            self._handle,
            HOST,
            0,
            ssl=context,
            subprotocols=self._settings.subprotocols or None,  # type: ignore[arg-type]
            create_connection=_Connection,
            compression="deflate" if self._settings.compression else None,
            max_size=None,
            ping_interval=None,  # pings of the server's own would blur what a test sees
            close_timeout=_CLOSE_TIMEOUT,
        )
        port = next(iter(server.sockets)).getsockname()[1]
        on_ready(Ready(port, ca_pem), lambda: _call_soon(loop, stop.set))
        await stop.wait()
        await self._close(server)

    async def _close(self, server: Server) -> None:
        server.close()
        closed = asyncio.ensure_future(server.wait_closed())
        done, _ = await asyncio.wait([closed], timeout=_GRACE)
        if not done:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait([closed], timeout=_GRACE)

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, _Connection)
        number = next(self._numbers)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._greet(connection, number)
        try:
            await self._run_handler(connection, number)
        finally:
            self._open.discard(connection)
            await connection.close()
            code, reason = connection.protocol.close_code, connection.protocol.close_reason
            self._report(Closed(number, code or 1006, reason or ""))
            self._tasks.discard(task)

    def _greet(self, connection: _Connection, number: int) -> None:
        request = connection.request
        assert request is not None
        self._report(Opened(number, request.path, tuple(request.headers.raw_items())))
        connection.report = lambda message: self._report(Received(number, message))
        connection.others = self._open
        self._open.add(connection)

    async def _run_handler(self, connection: _Connection, number: int) -> None:
        handler = self._settings.handler
        is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
        run = self._await_handler if is_async else self._call_in_thread
        try:
            await run(connection, number)
        except (websockets.ConnectionClosed, wsclient.ConnectionClosed) as error:
            # The client's leaving is an ordinary end of a handler; another connection's is an error of it.
            if connection.protocol.close_code is None:
                await self._fail(connection, number, error)
        except Exception as error:
            await self._fail(connection, number, error)

    async def _fail(self, connection: _Connection, number: int, error: Exception) -> None:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._report(Failed(f"the handler of client {number} raised:\n{text}"))
        await connection.close(1011)

    async def _await_handler(self, connection: _Connection, number: int) -> None:
        result = self._settings.handler(connection)
        assert isinstance(result, Awaitable)
        await result

    async def _call_in_thread(self, connection: _Connection, number: int) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        facade = BlockingConnection(connection, loop)
        thread = threading.Thread(
            target=_call,
            args=(self._settings.handler, facade, done),
            name=f"{HANDLER_THREAD}-{number}",
            daemon=True,
        )
        thread.start()
        try:
            await done
        except asyncio.CancelledError:
            self._report(Failed(f"the handler of client {number} did not end: it waits for something else"))
            raise
        thread.join()  # it has nothing left to do


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(function)


def _call(handler: Handler, facade: BlockingConnection, done: asyncio.Future[None]) -> None:
    # Body of a handler's thread.
    error: BaseException | None = None
    try:
        handler(facade)
    except BaseException as exc:
        error = exc
    facade.call_soon(functools.partial(_settle, done, error))


def _settle(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        # StopIteration, SystemExit and the like cannot pass through a future.
        done.set_exception(error if _is_plain(error) else RuntimeError(repr(error)))


def _is_plain(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, StopIteration)


def _server_tls() -> tuple[ssl.SSLContext, bytes]:
    # A certificate for this server alone, of an authority that ends with this function.
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", HOST, "::1").configure_cert(context)
    return context, authority.cert_pem.bytes()
