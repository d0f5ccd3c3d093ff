"""``wsclient listen``."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import count
from time import monotonic

import click

from wsclient import Connection, ConnectionClosed
from wsclient.cli.display import Message, as_line, as_record, visible
from wsclient.cli.exits import NORMAL_CODES, ExitCode, Failure, failure_of
from wsclient.cli.opening import opened
from wsclient.cli.output import Output
from wsclient.cli.params import SECONDS, Command, connection_options, examples, option
from wsclient.cli.settings import Settings
from wsclient.cli.trace import Trace

__all__ = ["listen"]

_LOOK = 0.5  # seconds between two looks at whether anybody reads what is written


@click.command(
    cls=Command,
    epilog=examples(
        "wsclient listen ws://localhost:8765/",
        "wsclient listen --count 10 ws://localhost:8765/",
        "wsclient listen --json --timeout 1m ws://localhost:8765/ | jq .json",
        "wsclient listen ws://localhost:8765/ | head -1",
    ),
)
@option(
    "-n", "--count", "wanted", type=click.IntRange(min=1), metavar="N", help="End after so many messages."
)
@option(
    "--timeout",
    type=SECONDS,
    help="End after so long; with --count, exit status 1 if fewer messages came.",
)
@option(
    "--json",
    "as_json",
    is_flag=True,
    help="A JSON object for each message: number, time, type, size, and json, data or base64.",
)
@option("-0", "--null", is_flag=True, help="Write messages as they are, each with a NUL byte behind it.")
@connection_options
def listen(
    settings: Settings, wanted: int | None, timeout: float | None, as_json: bool, null: bool
) -> ExitCode:
    """Write what the server sends to standard output, a message a line.

    Line breaks within a message are written as \\n and \\r, binary messages as hexadecimal digits after 0x;
    --null and --json write everything exactly. A normal close by the server is exit status 0.
    """
    if null and as_json:
        raise click.UsageError("--null and --json exclude each other")
    output, trace = Output(), Trace(settings.verbose)
    show = _Writer(output, trace, as_json, null)
    deadline = None if timeout is None else monotonic() + timeout
    with opened(settings, trace) as connection:
        try:
            _listen(connection, show, wanted, deadline)
        except ConnectionClosed as error:
            if error.code not in NORMAL_CODES:
                raise failure_of(error) from error
        finally:
            output.flush()
    if wanted is not None and show.written < wanted:
        raise Failure(f"{show.written} of {wanted} messages came")
    return ExitCode.OK


class _Writer:
    def __init__(self, output: Output, trace: Trace, as_json: bool, null: bool) -> None:
        self._output = output
        self._trace = trace
        self._as_json = as_json
        self._end = b"\0" if null else b"\n"
        self._null = null
        self.written = 0  # the main thread

    def write(self, message: Message) -> None:
        self._trace.received(message)
        self.written += 1
        self._output.write(self._form(message), self._end)

    def idle(self) -> None:
        self._output.flush()
        self._output.check_reader()

    def _form(self, message: Message) -> Message:
        if self._null:
            return message
        if self._as_json:
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            return as_record(message, self.written, now.replace("+00:00", "Z"))
        line = as_line(message)
        return visible(line) if self._output.is_terminal else line


def _listen(connection: Connection, show: _Writer, wanted: int | None, deadline: float | None) -> None:
    # What waits is written at once, and flushed when nothing more does.
    patience = 0.0
    for _ in count() if wanted is None else iter(range(wanted)):
        while True:
            try:
                show.write(connection.recv(patience))
                patience = 0.0
                break
            except TimeoutError:
                show.idle()
                left = _LOOK if deadline is None else min(_LOOK, deadline - monotonic())
                if left <= 0:
                    return
                patience = left
