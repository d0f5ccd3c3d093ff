"""``wsclient connect``."""

from __future__ import annotations

import sys

import click

from wsclient.cli.exits import ExitCode, Failure
from wsclient.cli.params import SECONDS, Command, connection_options, examples, option
from wsclient.cli.settings import Settings

__all__ = ["connect"]


@click.command(
    cls=Command,
    epilog=examples(
        "wsclient connect ws://localhost:8765/",
        "wsclient connect -H 'Authorization: Bearer TOKEN' ws://localhost:8765/",
        "printf 'hello\\n/ping\\n' | wsclient connect ws://localhost:8765/",
    )
    + "\n\nThe prompt keeps its history in the file that WSCLIENT_HISTORY names (empty: nowhere), by default"
    " wsclient/history in the folder for states of programs (XDG_STATE_HOME).",
)
@option(
    "--timeout",
    type=SECONDS,
    default="10",
    show_default=True,
    help="Longest wait for a pong, for the end of the connection, and for a server that takes nothing.",
)
@option(
    "--wait",
    type=SECONDS,
    default="0.5",
    show_default=True,
    help="Once piped input has ended, stay until nothing has come for so long.",
)
@connection_options
def connect(settings: Settings, timeout: float, wait: float) -> ExitCode:
    """Talk to a server: what you type is sent, what comes is shown.

    In a terminal there is a prompt with line editing and a history, and JSON is laid out. A line that begins
    with a slash is a command: /ping, /close, /binary, /send-file, /help. Without a terminal the lines of
    standard input say the same, and messages go to standard output, one a line.
    """
    if sys.stdin.isatty() and sys.stdout.isatty():
        try:
            from wsclient.cli.shell import converse
        except ModuleNotFoundError as error:
            raise Failure("the prompt needs more: pip install 'wsclient[cli]'", ExitCode.USAGE) from error
        return converse(settings, timeout)
    from wsclient.cli.piped import talk
    from wsclient.cli.trace import Trace

    return talk(settings, Trace(settings.verbose), timeout, wait)
