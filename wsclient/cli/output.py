"""Standard output for data, standard error for all else."""

from __future__ import annotations

import os
import select
import sys

from wsclient.cli.display import visible

__all__ = ["Output", "ReaderGoneError", "ignore_broken_pipe", "note", "wants_colour", "write_line"]


class ReaderGoneError(Exception):
    """Nobody reads standard output any more: the command has nothing left to do."""


class Output:
    """Standard output, in UTF-8 whatever the locale. For one thread at a time.

    Every method raises ``ReaderGoneError`` when the reader of a pipe has gone.
    """

    def __init__(self) -> None:
        self._stream = sys.stdout.buffer
        self.is_terminal: bool = sys.stdout.isatty()
        self.has_colour: bool = self.is_terminal and wants_colour()

    def write(self, text: str | bytes, end: bytes = b"\n") -> None:
        """Write one piece of data and what ends it."""
        try:
            self._stream.write((text.encode() if isinstance(text, str) else text) + end)
        except BrokenPipeError:
            raise ReaderGoneError from None

    def flush(self) -> None:
        """Hand over what was written."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise ReaderGoneError from None

    def check_reader(self) -> None:
        """Look whether anybody reads, without waiting for more to write."""
        try:
            number = self._stream.fileno()
        except (OSError, ValueError):  # replaced by something that is no file
            return
        if hasattr(select, "poll"):
            poller = select.poll()
            poller.register(number, 0)
            if any(event & (select.POLLERR | select.POLLNVAL) for _, event in poller.poll(0)):
                raise ReaderGoneError


def wants_colour() -> bool:
    """What the environment says about colours on a terminal (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def ignore_broken_pipe() -> None:
    """Have the interpreter, at its end, flush what nobody reads to nowhere."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def note(text: str) -> None:
    """Tell the user something, on standard error."""
    write_line(f"wsclient: {text}")


def write_line(text: str) -> None:
    """Write a line to standard error, in one piece: others write there, too."""
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()
