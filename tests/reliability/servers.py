"""The verifying server as the tests hold it: one port, and one process after another behind it."""

from __future__ import annotations

import queue
import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from reliability import journal
from reliability.account import Identity
from reliability.journal import Kind
from reliability.ports import HOST, hold_port
from reliability.processes import Child, python

__all__ = ["VerifyingServer"]


class VerifyingServer:
    """A server that can be killed and started again on its port. For one thread, but for ``end_waiting``.

    As a context manager it holds the port, so that nobody else gets it while no server runs; it does not
    start one.

    Args:
        folder: where the journals go, one for each start.
        wrapper: the command that runs the server's command, when that is not to run just here; the server
            then listens on every address that it finds.
        host: where clients find it.
        module: what serves.
    """

    def __init__(
        self,
        folder: Path,
        wrapper: Sequence[str] = (),
        host: str = HOST,
        module: str = "reliability.server",
    ) -> None:
        self.folder = folder
        self._module = module
        self._wrapper = wrapper
        self._host = host
        self._holder, self.port = hold_port()
        self._child: Child | None = None
        self._starts = 0
        self._marks: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def __enter__(self) -> VerifyingServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._holder.close()

    @property
    def url(self) -> str:
        """Where it serves, when it does."""
        return f"ws://{self._host}:{self.port}/"

    @property
    def pid(self) -> int:
        """The process id of the server that runs."""
        assert self._child is not None, "there is no server"
        return self._child.pid

    # -- the process ----------------------------------------------------------------------------------

    def start(self, marks: Sequence[int] = (), *, hold: bool = False) -> None:
        """Start a server; returns when it listens.

        Args:
            marks: numbers of messages, counted from this start, at which ``wait_for_mark`` returns.
            hold: the server does nothing more at a mark, until it is killed or told to ``go_on``.
        """
        assert self._child is None, "there is a server already"
        path, self._starts = self._journal(self._starts), self._starts + 1
        options = ["--marks", ",".join(map(str, marks)), *(["--hold"] if hold else [])]
        host = "0.0.0.0" if self._wrapper else self._host
        where = ["--journal", path, "--host", host, "--port", self.port]
        command = [*self._wrapper, *python(self._module, *where, *options)]
        self._child = Child(command, self.folder / "errors", lambda line: self._marks.put(int(line)))
        self._child.first_line()

    def kill(self) -> None:
        """SIGKILL. Returns when the process is gone, and the system has closed its sockets."""
        assert self._child is not None, "there is no server"
        self._child.kill()
        assert self._child.exit_status == -signal.SIGKILL, f"it ended before: {self.errors}"
        self._child = None

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open, and the system goes on accepting for it."""
        assert self._child is not None, "there is no server"
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._child is not None, "there is no server"
        self._child.signal(signal.SIGCONT)

    def go_on(self) -> None:
        """Let a held server go on, past one mark."""
        assert self._child is not None, "there is no server"
        self._child.tell("go")

    def cut(self) -> None:
        """Have the server drop its connections, and go on listening."""
        assert self._child is not None, "there is no server"
        self._child.tell("cut")

    def stop(self) -> None:
        """End it as a server is ended that is no longer needed. Nothing if none runs."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    # -- what it knows --------------------------------------------------------------------------------

    def wait_for_mark(self, timeout: float) -> bool:
        """Wait for the next mark. ``False`` if the wait was ended, or too long."""
        try:
            return self._marks.get(timeout=timeout) is not None
        except queue.Empty:
            return False

    def end_waiting(self) -> None:
        """No mark is worth waiting for any more. From any thread."""
        self._marks.put(None)

    @property
    def errors(self) -> str:
        """What all its processes have written to standard error."""
        path = self.folder / "errors"
        return path.read_text() if path.exists() else ""

    @property
    def records(self) -> list[journal.Record]:
        """The journals of all starts so far, one after the other."""
        return journal.read(self._journal(start) for start in range(self._starts))

    @property
    def progress(self) -> int:
        """About how many messages it has received so far: a count of records, which is quick."""
        return journal.length(self._journal(start) for start in range(self._starts))

    def arrivals(self) -> list[Identity]:
        """All messages received so far, in order, as often as they came."""
        return [(one.thread, one.number) for one in self.records if one.kind is Kind.MESSAGE]

    def count(self, kind: Kind) -> int:
        """How many records of a kind there are."""
        return sum(record.kind is kind for record in self.records)

    def _journal(self, start: int) -> Path:
        return self.folder / f"journal-{start}"
