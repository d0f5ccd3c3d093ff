"""A process of this package: started, stopped, continued and ended by its own process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["ROOT", "START_SECONDS", "TESTS", "Child", "Unavailable", "environment", "find_program", "python"]

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
START_SECONDS = 20.0
_STOP_SECONDS = 10.0


class Unavailable(Exception):
    """This machine cannot run that; the text says what is missing."""


def find_program(name: str) -> str:
    """The path of an installed program; `Unavailable` if there is none."""
    # Debian keeps the programs of administrators where only root's PATH leads.
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        raise Unavailable(f"{name} is not installed")
    return path


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module of the tests with this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def environment() -> dict[str, str]:
    """For children: the packages of the tests and of the benchmarks can be imported, and no proxy is set."""
    inherited = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**inherited, "PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}"}


class Child:
    """A running process and the thread that reads its lines. For one thread, as a context manager.

    Args:
        command: what to run.
        errors: the file that its standard error is appended to.
        on_line: called with each line after the first one, on the reading thread.
        pass_fds: files that it inherits, under the same numbers.
    """

    def __init__(
        self,
        command: Sequence[str],
        errors: Path,
        on_line: Callable[[str], None],
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._errors = errors
        with errors.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=TESTS,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=pass_fds,
            )
        self._on_line = on_line
        self._first: str | None = None  # the reading thread, before it sets _started
        self._started = threading.Event()
        self._reading = threading.Thread(target=self._read, name=f"lines-of-{self.pid}")
        self._reading.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """``None`` while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def first_line(self) -> str:
        """Wait for what it prints first.

        Raises:
            RuntimeError: it printed nothing; the text has its standard error.
        """
        self._started.wait(START_SECONDS)
        if self._first is None:
            raise RuntimeError(f"{self._process.args!r} did not start: {self._errors.read_text()}")
        return self._first

    def tell(self, line: str = "") -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._process.kill()
        self._wait()

    def stop(self) -> None:
        """End its input and wait for its end; kill what does not end. Nothing if it has ended already."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.send_signal(signal.SIGCONT)  # it may be stopped
        self._wait()

    def _wait(self) -> None:
        # Its output ends when it does. (Popen.wait(timeout) polls, and sleeps in between.)
        self._reading.join(_STOP_SECONDS)
        if self._reading.is_alive():
            self._process.kill()
            self._reading.join(_STOP_SECONDS)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _read(self) -> None:
        # Body of the reading thread, which ends with the process's standard output.
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if self._first is None:
                self._first = line.strip()
                self._started.set()
            else:
                self._on_line(line.strip())
        self._started.set()
