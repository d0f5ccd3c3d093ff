"""``connect`` where there is no terminal: lines in, messages out."""

from __future__ import annotations

import sys
import threading
from time import monotonic
from typing import Any

from wsclient import Connection, ConnectionClosed, WSClientError
from wsclient.cli.console import Console
from wsclient.cli.display import Message, as_line, hex_dump, pretty
from wsclient.cli.exits import NORMAL_CODES, ExitCode, Failure
from wsclient.cli.intake import Intake
from wsclient.cli.opening import opened
from wsclient.cli.output import Output, ReaderGoneError, note
from wsclient.cli.sending import Doubts, Sender, messages_of
from wsclient.cli.settings import Settings
from wsclient.cli.splitting import Splitter
from wsclient.cli.trace import Trace

__all__ = ["talk"]


class _Receiver:
    """Writes messages as they come, on the reader thread, and knows when the last one did."""

    def __init__(self, output: Output, trace: Trace, intake: Intake) -> None:
        self._output = output
        self._trace = trace
        self._intake = intake
        self._changed = threading.Condition()  # the lock of all below
        self._latest = monotonic()
        self._ended = False
        self._gone = False

    def on_message(self, connection: Connection, message: Message) -> None:
        self._trace.received(message)
        try:
            self._output.write(self._form(message))
            self._output.flush()
        except ReaderGoneError:
            self._end(gone=True)
            return
        with self._changed:
            self._latest = monotonic()

    def on_close(self, connection: Connection, code: int, reason: str) -> None:
        self._end()

    def _end(self, gone: bool = False) -> None:
        with self._changed:
            self._ended, self._gone = True, self._gone or gone
            self._changed.notify_all()
        self._intake.stop()

    def _form(self, message: Message) -> str:
        if not self._output.is_terminal:
            return as_line(message)
        return pretty(message, self._output.has_colour) if isinstance(message, str) else hex_dump(message)

    def wait_quiet(self, seconds: float) -> None:
        """Wait until nothing has come for so long, or the connection has ended."""
        with self._changed:
            since = monotonic()
            while not self._ended:
                left = max(self._latest, since) + seconds - monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def check_reader(self) -> None:
        """Raise ``ReaderGoneError`` if nobody reads what is written."""
        with self._changed:
            if self._gone:
                raise ReaderGoneError


def talk(settings: Settings, trace: Trace, timeout: float, wait: float) -> ExitCode:
    """Do what the lines of standard input say, and write what comes to standard output.

    Args:
        settings: the common options.
        trace: told what happens.
        timeout: seconds without progress after which it gives up.
        wait: once standard input has ended, it stays until nothing has come for so many seconds.
    """
    intake = Intake(sys.stdin.fileno())
    receiver, doubts = _Receiver(Output(), trace, intake), Doubts()
    callbacks: dict[str, Any] = {"on_message": receiver.on_message, "on_close": receiver.on_close}
    if settings.reconnect:
        callbacks["on_disconnect"] = doubts.note
    with opened(settings, trace, **callbacks) as connection:
        sender = Sender(connection, trace, timeout, doubts)
        console = Console(connection, sender, timeout)
        intake.start()
        try:
            _carry_out_all(console, intake, settings.max_message_size)
            receiver.check_reader()
            if not console.closed:
                _finish(connection, sender, receiver, intake, wait)
        except WSClientError as error:
            raise sender.failure(error) from error
        except ValueError as error:
            raise Failure(f"standard input: {error}") from error
        receiver.check_reader()
    return ExitCode.OK


def _carry_out_all(console: Console, intake: Intake, limit: int) -> None:
    for number, line in enumerate(messages_of(intake.chunks(), Splitter(b"\n", limit), binary=False), 1):
        try:
            told = console.carry_out(str(line))
        except (ValueError, OSError) as error:
            raise Failure(f"standard input, line {number}: {error}") from error
        if told:
            note(told)
        if console.closed:
            return


def _finish(connection: Connection, sender: Sender, receiver: _Receiver, intake: Intake, wait: float) -> None:
    if not intake.stopped:
        sender.confirm()
        receiver.wait_quiet(wait)
    if intake.stopped and connection.close_code not in (None, *NORMAL_CODES):
        raise sender.failure(ConnectionClosed(connection.close_code or 1006, connection.close_reason))
