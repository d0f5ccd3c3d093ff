"""``wsclient`` called in this process, for tests: standard input from a pipe, both outputs captured."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from wsclient.cli import main

BOUND = 10.0  # seconds; what is waited for comes much sooner, or never


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str
    raw: bytes = field(default=b"", compare=False)  # what `out` is the text of


class CommandLine:
    """Calls ``main``. The files are pytest's, so that what is written to them by number is captured, too."""

    def __init__(self, capture: pytest.CaptureFixture[bytes], patch: pytest.MonkeyPatch) -> None:
        self._capture = capture
        self._patch = patch

    def __call__(self, *arguments: str, stdin: bytes = b"", keep_open: bool = False) -> Ran:
        """Run a command to its end. With ``keep_open`` its standard input does not end before."""
        ended = threading.Event()
        if not keep_open:
            ended.set()
        with self._standard_input(stdin, ended):
            status = main(arguments)
        out, err = self._capture.readouterr()
        return Ran(status, out.decode(errors="replace"), err.decode(), out)

    @contextmanager
    def _standard_input(self, data: bytes, ended: threading.Event) -> Iterator[None]:
        read, write = os.pipe()
        feeder = threading.Thread(target=_feed, args=(write, data, ended))
        with os.fdopen(read) as file:
            self._patch.setattr(sys, "stdin", file)
            feeder.start()
            try:
                yield
            finally:
                ended.set()
                _join([thread for thread in threading.enumerate() if thread.name == "command-input"])
        _join([feeder])


def _feed(number: int, data: bytes, ended: threading.Event) -> None:
    # The command may end before it has read everything.
    with contextlib.suppress(BrokenPipeError), os.fdopen(number, "wb") as file:
        file.write(data)
        file.flush()
        ended.wait(BOUND)


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()
