"""A program in a terminal of its own, for tests: keys in, and what a user would see on the screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pyte

ROOT = Path(__file__).resolve().parent.parent
BOUND = 20.0  # seconds; a program has to start first, perhaps on a busy machine


class _Screen(pyte.Screen):
    """Answers when a program asks where the cursor is."""

    def __init__(self, columns: int, rows: int, answer: Callable[[str], None]) -> None:
        super().__init__(columns, rows)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        self._answer(data)


class Terminal:
    """A program in a terminal of its own, and what its screen shows. For one thread."""

    def __init__(self, *arguments: str, columns: int = 80, rows: int = 30, **environment: str) -> None:
        self._number, number = pty.openpty()
        fcntl.ioctl(number, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen = _Screen(columns, rows, self.type)
        self._stream = pyte.ByteStream(self._screen)
        variables = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
        # Who types while the terminal is being asked where its cursor is may see lines scrolled away.
        variables.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", "wsclient", *arguments],
            stdin=number,
            stdout=number,
            stderr=number,
            cwd=ROOT,
            env=variables,
            start_new_session=True,
        )
        os.close(number)

    @property
    def text(self) -> str:
        """The lines of the screen, without the empty ones at its end."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def type(self, keys: str) -> None:
        os.write(self._number, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """Wait until the screen shows it, and return the screen."""
        self.wait_until(lambda: re.search(pattern, self.text, re.MULTILINE) is not None, pattern)
        return self.text

    def wait_ended(self) -> int:
        """Wait for the end of the program; its exit status."""
        self.wait_until(lambda: self.process.poll() is not None, "the end")
        with contextlib.suppress(OSError):  # nothing is left
            self._take(0)
        return self.process.wait(BOUND)

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Take in what is written until something is so; ``what`` is for whoever reads that it never was."""
        deadline = monotonic() + BOUND
        while not is_so():
            assert monotonic() < deadline, f"no {what!r} on the screen:\n{self.text}"
            with contextlib.suppress(OSError):  # how the other end of a terminal ends
                self._take(0.05)

    def _take(self, timeout: float) -> None:
        if select.select([self._number], [], [], timeout)[0]:
            self._stream.feed(os.read(self._number, 65536))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(BOUND)
        os.close(self._number)


@contextlib.contextmanager
def terminal(*arguments: str, columns: int = 80, rows: int = 30, **environment: str) -> Iterator[Terminal]:
    """Run ``wsclient`` in a terminal; it is killed at the end, unless it has ended."""
    made = Terminal(*arguments, columns=columns, rows=rows, **environment)
    try:
        yield made
    finally:
        made.close()
