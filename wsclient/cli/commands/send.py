"""``wsclient send``."""

from __future__ import annotations

import sys
from typing import Any

import click

from wsclient import ConnectionClosed, WSClientError
from wsclient.cli.display import counted
from wsclient.cli.exits import ExitCode, Failure
from wsclient.cli.intake import Intake
from wsclient.cli.opening import opened
from wsclient.cli.params import SECONDS, Command, connection_options, examples, option
from wsclient.cli.sending import Doubts, Sender, messages_of
from wsclient.cli.settings import Settings
from wsclient.cli.splitting import Splitter
from wsclient.cli.trace import Trace

__all__ = ["send"]


@click.command(
    cls=Command,
    epilog=examples(
        "echo hello | wsclient send ws://localhost:8765/",
        "wsclient send ws://localhost:8765/ < messages.txt",
        "printf 'one\\0two' | wsclient send --null ws://localhost:8765/",
        "wsclient send --whole --binary ws://localhost:8765/ < picture.png",
    ),
)
@option("-0", "--null", is_flag=True, help="Messages end with a NUL byte rather than with the line.")
@option("--whole", is_flag=True, help="All of standard input is one message.")
@option("-b", "--binary", is_flag=True, help="Send binary messages; otherwise text, which must be UTF-8.")
@option(
    "--timeout",
    type=SECONDS,
    default="30",
    show_default=True,
    help="Give up when the server takes nothing, or confirms nothing, for so long.",
)
@connection_options
def send(settings: Settings, null: bool, whole: bool, binary: bool, timeout: float) -> ExitCode:
    """Send standard input: each line is a message.

    Exit status 0 says that all of them have arrived: the server has answered a ping behind them. Its own
    answers are not shown; connect shows them.
    """
    if null and whole:
        raise click.UsageError("--null and --whole exclude each other")
    intake = Intake(sys.stdin.fileno())
    trace, doubts = Trace(settings.verbose), Doubts()
    callbacks: dict[str, Any] = {
        "on_message": lambda _, message: trace.received(message),
        "on_close": lambda *_: intake.stop(),
        **({"on_disconnect": doubts.note} if settings.reconnect else {}),
    }
    with opened(settings, trace, **callbacks) as connection:
        sender = Sender(connection, trace, timeout, doubts)
        intake.start()
        try:
            _send_all(sender, intake, b"\0" if null else b"\n", whole, binary, settings.max_message_size)
        except WSClientError as error:
            raise sender.failure(error) from error
        except (OSError, ValueError) as error:
            raise Failure(f"standard input: {error}; sent before: {sender.accepted}") from error
        if intake.stopped:
            raise _ended_early(sender, connection.close_code, connection.close_reason)
        round_trip = sender.confirm() * 1000
        trace.happened(f"{counted(sender.accepted, 'message')} confirmed; round trip {round_trip:.1f} ms")
    return ExitCode.OK


def _send_all(
    sender: Sender, intake: Intake, separator: bytes, whole: bool, binary: bool, limit: int
) -> None:
    if whole:
        sender.send_whole(intake.chunks(), binary)
        return
    for message in messages_of(intake.chunks(), Splitter(separator, limit), binary):
        sender.send(message)


def _ended_early(sender: Sender, code: int | None, reason: str) -> Failure:
    return sender.failure(ConnectionClosed(code or 1006, reason))
