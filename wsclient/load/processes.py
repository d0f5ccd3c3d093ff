"""Where crews work: a thread of this process, or processes of their own. Both report through ``poll``."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from time import monotonic
from typing import Final as Constant
from typing import Protocol

from wsclient.load.crew import Crew
from wsclient.load.log import quiet_log
from wsclient.load.messages import Died, Final, Report, Share

__all__ = ["Host", "ProcessHost", "ThreadHost"]

_STOP: Constant = "stop"
_SILENCE: Constant = 30.0  # seconds without a report after which a process counts as stuck
_JOIN: Constant = 10.0  # seconds for a process that is done to end
_ABORT: Constant = 1.0  # seconds for workers to see that it is over; what a scenario waits for is its affair


class Host(Protocol):
    """Where the shares of a run are worked on. For one thread."""

    def begin(self) -> None:
        """Open the connections; ``Opened`` is reported by each crew."""

    def start(self, at: float) -> None:
        """Start sending at a moment of the monotonic clock."""

    def poll(self, timeout: float) -> list[Report]:
        """What has been reported, waiting for something at most ``timeout`` seconds."""

    def stop(self) -> None:
        """End early, with what was measured."""

    def close(self) -> None:
        """Free everything; what still works is dropped."""


class ThreadHost:
    """One crew, in this process."""

    def __init__(self, share: Share) -> None:
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._crew = Crew(share, self._reports.put)
        self._start: Future[float] = Future()
        self._index = share.index
        self._thread = threading.Thread(target=self._work, name="wsclient-load-crew", daemon=True)

    def begin(self) -> None:
        """See ``Host``."""
        self._thread.start()

    def _work(self) -> None:
        try:
            self._crew.open()
            self._crew.run(self._start.result())
        except Exception as error:
            self._reports.put(Died(self._index, f"{type(error).__name__}: {error}"))

    def start(self, at: float) -> None:
        """See ``Host``."""
        self._start.set_result(at)

    def poll(self, timeout: float) -> list[Report]:
        """See ``Host``."""
        with contextlib.suppress(queue.Empty):
            return [self._reports.get(timeout=timeout)]
        return []

    def stop(self) -> None:
        """See ``Host``."""
        self._crew.stop()

    def close(self) -> None:
        """See ``Host``."""
        if self._thread.is_alive():
            self._crew.abort()
            if not self._start.done():
                self._start.set_result(monotonic())
            self._thread.join(_ABORT)


class ProcessHost:
    """Several crews, each in a fresh interpreter. One that is killed, crashes or falls silent is ``Died``."""

    def __init__(self, shares: Sequence[Share]) -> None:
        context = multiprocessing.get_context("spawn")
        self._members = [_Member(share.index, *context.Pipe()) for share in shares]
        for member, share in zip(self._members, shares, strict=True):
            member.process = context.Process(
                target=_work_in_child,
                args=(member.childs, share),
                name=f"wsclient-load-{share.index}",
                daemon=True,
            )

    def begin(self) -> None:
        """See ``Host``."""
        with _sigint_blocked():  # a Ctrl-C is for this process, which tells the others
            for member in self._members:
                member.begin()

    def start(self, at: float) -> None:
        """See ``Host``."""
        for member in self._members:
            member.tell(at)

    def poll(self, timeout: float) -> list[Report]:
        """See ``Host``."""
        working = {member.pipe: member for member in self._members if not member.done}
        ready = wait(list(working), timeout) if working else []
        reports = [working[pipe].receive() for pipe in working if pipe in ready]
        return [*reports, *(member.give_up() for member in self._members if member.is_stuck)]

    def stop(self) -> None:
        """See ``Host``."""
        for member in self._members:
            member.tell(_STOP)

    def close(self) -> None:
        """See ``Host``."""
        for member in self._members:
            member.close()


class _Member:
    """One process and our end of its pipe. For one thread."""

    def __init__(self, index: int, pipe: Pipe, childs: Pipe) -> None:
        self.index, self.pipe, self.childs = index, pipe, childs
        # The thread that uses it.
        self.process: multiprocessing.process.BaseProcess | None = None
        self.done = False
        self._started = False  # sending: from then on it reports each second
        self._heard_at = monotonic()

    @property
    def is_stuck(self) -> bool:
        """Whether it should have said something by now."""
        return self._started and not self.done and monotonic() > self._heard_at + _SILENCE

    def begin(self) -> None:
        """Start the process."""
        assert self.process is not None
        self.process.start()
        self.childs.close()

    def tell(self, order: float | str) -> None:
        """Give an order; a process that is gone is noticed by ``receive``."""
        if not self.done:
            self._started = True
            self._heard_at = monotonic()
            with contextlib.suppress(OSError):
                self.pipe.send(order)

    def receive(self) -> Report:
        """The next report, or that there will be none."""
        self._heard_at = monotonic()
        try:
            report: Report = self.pipe.recv()
        except (EOFError, OSError):
            return self._died()
        self.done = isinstance(report, (Final, Died))
        return report

    def _died(self) -> Died:
        assert self.process is not None
        self.done = True
        self.process.join(_JOIN)
        return Died(self.index, f"process {self.index} ended with {_how(self.process.exitcode)}")

    def give_up(self) -> Died:
        """Kill a process that is stuck."""
        assert self.process is not None
        self.done = True
        self.process.kill()
        return Died(self.index, f"process {self.index} said nothing for {_SILENCE:g} s and was killed")

    def close(self) -> None:
        """Have the process end: it sees the end of the pipe. Or kill it."""
        process = self.process
        if process is not None and process.pid is not None:
            if not self.done:
                process.kill()
            self.pipe.close()
            process.join(_JOIN)
            if process.exitcode is None:
                process.kill()
                process.join()
            process.close()
        else:
            self.pipe.close()
            self.childs.close()


def _how(code: int | None) -> str:
    if code is None:
        return "an unknown exit status"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    # Children begin with the mask of their parent: they cannot be interrupted before they ignore it.
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Otherwise the first start of a process starts this one, and unblocks signals then.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work_in_child(pipe: Pipe, share: Share) -> None:
    # Main function of the process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    report = _sender(pipe)
    try:
        crew = Crew(share, report)
        start: Future[float] = Future()
        threading.Thread(target=_obey, args=(pipe, crew, start), daemon=True).start()
        with quiet_log():
            crew.open()
            crew.run(start.result())
    except Exception as error:
        report(Died(share.index, f"process {share.index} failed: {type(error).__name__}: {error}"))


def _sender(pipe: Pipe) -> Callable[[Report], None]:
    mutex = threading.Lock()

    def send(report: Report) -> None:
        with mutex, contextlib.suppress(OSError):  # the other end is gone: _obey ends this process
            pipe.send(report)

    return send


def _obey(pipe: Pipe, crew: Crew, start: Future[float]) -> None:
    # Thread of the process that takes orders: when to start, to stop, and the end of the one who gives them.
    while True:
        try:
            order: float | str = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)  # nobody is left to tell anything to
        if isinstance(order, float):
            start.set_result(order)
        else:
            crew.stop()
