"""One run: the server, the traffic and the faults together, and the account at the end."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from reliability.account import Account, Evidence, Verdict
from reliability.client import Client
from reliability.journal import Kind
from reliability.plan import Delivery, Plan
from reliability.servers import VerifyingServer

__all__ = ["InThread", "Injector", "Prepare", "Process", "Scenario", "in_thread"]


class Injector(Protocol):
    """What brings the faults about."""

    @property
    def url(self) -> str: ...  # where the client is to connect to
    @property
    def count(self) -> int: ...  # of faults so far
    @property
    def notes(self) -> Sequence[str]: ...  # on how it was done
    def finish(self) -> None: ...  # no more faults; what lasts is over


Prepare = Callable[[VerifyingServer, Plan], AbstractContextManager[Injector]]


@dataclass(frozen=True)
class Process:
    """What runs a scenario in a process of its own: a command in front of it, and more environment."""

    wrapper: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """One kind of fault.

    Attributes:
        name: on the command line.
        injected: in the table.
        prepare: starts the server, and returns what injects.
        options: of the connection, where they are not the defaults.
        process: for a scenario that changes the process it runs in: makes the one to run it.
        server: makes the server, given a folder.
        retry: errors of ``send`` upon which the same message is sent again: it was not accepted.
    """

    name: str
    injected: str
    prepare: Prepare
    options: Mapping[str, Any] = field(default_factory=dict)
    process: Callable[[], Process] | None = None
    server: Callable[[Path], VerifyingServer] = VerifyingServer
    retry: tuple[type[Exception], ...] = ()

    def run(self, plan: Plan) -> Account:
        """Run it, in this process. Everything that it starts has ended when it returns."""
        began = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="reliability-") as folder,
            self.server(Path(folder)) as server,
            self.prepare(server, plan) as injector,
        ):
            client = Client(injector.url, plan, self.retry, **self.options)
            _disturb(client, injector)
            server.stop()
            assert not server.errors, server.errors
            return Account(
                scenario=self.name,
                injected=self.injected,
                faults=injector.count,
                planned=plan.least_faults,
                delivery=plan.delivery.value,
                seed=plan.seed,
                threads=plan.threads,
                connections=server.count(Kind.OPENED),
                verdict=Verdict.on(_evidence(plan, client, server)),
                refused=client.refused,
                reasons=client.reasons,
                waits=client.waits,
                seconds=time.monotonic() - began,
                notes=injector.notes,
            )


def _disturb(client: Client, injector: Injector) -> None:
    client.open()
    try:
        client.send_all()
        client.drain()
        injector.finish()
        client.close()
    finally:
        client.conn.abort()


def _evidence(plan: Plan, client: Client, server: VerifyingServer) -> Evidence:
    is_plain = plan.delivery is Delivery.PLAIN
    return Evidence(
        accepted=client.accepted,
        arrivals=server.arrivals(),
        garbled=server.count(Kind.GARBLED),
        unsent=client.unsent,
        in_doubt=client.in_doubt,
        assume_doubt=is_plain,
        may_repeat=plan.delivery is Delivery.AT_LEAST_ONCE,
        written=client.conn.stats().messages_sent if is_plain else None,
    )


class InThread:
    """Injects in a thread of its own, to which the server belongs until ``finish``."""

    def __init__(self, server: VerifyingServer, plan: Plan, notes: Sequence[str] = ()) -> None:
        self.url = server.url
        self.notes = notes
        self.count = 0  # owned by the thread until finish
        self._server = server
        self._patience = plan.patience
        self._finished = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._done: Future[None] | None = None

    def start(self, work: Callable[[InThread], None]) -> None:
        """Begin; the work goes on while ``next_fault`` says so."""
        self._done = self._pool.submit(work, self)

    def next_fault(self) -> bool:
        """Wait until the server has received so many messages that a fault is due, and count it."""
        is_due = self._server.wait_for_mark(self._patience)
        self.count += is_due
        return is_due

    def last(self, seconds: float) -> None:
        """Let a fault last so long, or until there are to be no more faults."""
        self._finished.wait(seconds)

    def finish(self) -> None:
        """No more faults; returns when the last one is over. Raises what went wrong in the thread."""
        self._finished.set()
        self._server.end_waiting()
        if self._done is not None:
            self._done.result()
        self._pool.shutdown()


@contextmanager
def in_thread(
    server: VerifyingServer, plan: Plan, work: Callable[[InThread], None], notes: Sequence[str] = ()
) -> Iterator[Injector]:
    """Inject in a thread, until the end of the block at the latest."""
    injector = InThread(server, plan, notes)
    injector.start(work)
    try:
        yield injector
    finally:
        injector.finish()
