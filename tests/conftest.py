"""What every test gets: a watch for leaks, an echo server, and certificates of a throw-away authority."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import trustme
from hypothesis import settings
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

JOIN_SECONDS = 5.0

HOST = "127.0.0.1"

# A limit of time for each example would be a timing assertion. Under CI, Hypothesis has a profile like this.
if "CI" not in os.environ:
    settings.register_profile("no deadline", deadline=None)
    settings.load_profile("no deadline")


@dataclass(frozen=True)
class Resources:
    """The threads and sockets of this process at one moment."""

    threads: frozenset[threading.Thread]
    sockets: frozenset[str]

    @classmethod
    def now(cls) -> Resources:
        return cls(frozenset(threading.enumerate()), _open_sockets())

    def leaked_since(self, patience: float = JOIN_SECONDS) -> list[str]:
        """Say what is there now and was not before, after giving threads ``patience`` seconds to end."""
        threads = [thread for thread in threading.enumerate() if self._is_leak(thread)]
        _join(threads, patience)
        leaks = [f"thread {thread.name!r} is still running" for thread in threads if thread.is_alive()]
        # Only now: a thread that was about to end may have had a socket to close.
        return leaks + sorted(f"{link} is still open" for link in _open_sockets() - self.sockets)

    def _is_leak(self, thread: threading.Thread) -> bool:
        if thread in self.threads or thread is threading.current_thread():
            return False
        return thread.name.startswith("wsclient-") or not thread.daemon


def _open_sockets() -> frozenset[str]:
    """Name each open socket by its inode: a file number may be another socket's by now. Linux only."""
    if sys.platform != "linux":
        return frozenset()
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # the file of the listing itself
            continue
    return frozenset(link for link in links if link.startswith("socket:"))


def _join(threads: list[threading.Thread], patience: float) -> None:
    deadline = time.monotonic() + patience
    for thread in threads:
        if thread.ident is not None:  # Ctrl-C may have come in the middle of its start
            thread.join(max(0.0, deadline - time.monotonic()))


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail the test that leaves a ``wsclient-*`` thread, any other non-daemon thread, or a socket behind."""
    before = Resources.now()
    yield
    leaks = before.leaked_since()
    if leaks:
        pytest.fail("the test leaked: " + "; ".join(leaks), pytrace=False)


@dataclass(frozen=True)
class TLS:
    """Both sides of TLS under a certificate authority that nobody else trusts.

    ``server`` presents a certificate for ``localhost``, ``127.0.0.1`` and ``::1``; ``client`` trusts it.
    """

    server: ssl.SSLContext
    client: ssl.SSLContext
    authority: trustme.CA


@pytest.fixture(scope="session")
def tls() -> TLS:
    """TLS contexts for a server and for a client that verifies it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", HOST, "::1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return TLS(server, client, authority)


@pytest.fixture
def echo_server(no_leaks: None) -> Iterator[str]:
    """URL (ws) of a server that sends every message back."""
    with _echo_server() as url:
        yield url


@pytest.fixture
def tls_echo_server(no_leaks: None, tls: TLS) -> Iterator[str]:
    """URL (wss) of a server that sends every message back; connect with ``ssl_context=tls.client``."""
    with _echo_server(tls.server) as url:
        yield url


@contextmanager
def _echo_server(context: ssl.SSLContext | None = None) -> Iterator[str]:
    started: Future[tuple[int, _Stop]] = Future()
    thread = threading.Thread(target=_run_echo, args=(started, context), name="echo-server", daemon=True)
    thread.start()
    port, stop = started.result(timeout=10)
    try:
        yield f"{'wss' if context else 'ws'}://localhost:{port}"
    finally:
        stop()
        thread.join(timeout=10)
    assert not thread.is_alive(), "the echo server did not stop"


@dataclass(frozen=True)
class _Stop:
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event

    def __call__(self) -> None:
        self.loop.call_soon_threadsafe(self.event.set)


def _run_echo(started: Future[tuple[int, _Stop]], context: ssl.SSLContext | None) -> None:
    try:
        asyncio.run(_serve_echo(started, context))
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)


async def _serve_echo(started: Future[tuple[int, _Stop]], context: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    # Messages of any size, and a short wait for a peer that answers no close frame.
    async with serve(_echo, HOST, 0, ssl=context, max_size=None, compression=None, close_timeout=1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        started.set_result((port, _Stop(asyncio.get_running_loop(), stop)))
        await stop.wait()


async def _echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # the client went away without a close frame: for an echo server an ordinary end
