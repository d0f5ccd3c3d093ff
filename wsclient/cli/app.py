"""The group of commands, and how each of them ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from wsclient import WSClientError, __version__
from wsclient.cli.commands.check import check
from wsclient.cli.commands.connect import connect
from wsclient.cli.commands.listen import listen
from wsclient.cli.commands.load import load
from wsclient.cli.commands.send import send
from wsclient.cli.exits import ExitCode, Failure, failure_of
from wsclient.cli.opening import silence_the_log
from wsclient.cli.output import ReaderGoneError, ignore_broken_pipe, note
from wsclient.cli.params import examples

__all__ = ["run", "wsclient"]

_NAME = "wsclient"


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "wsclient connect ws://localhost:8765/",
        "echo hello | wsclient send ws://localhost:8765/",
        "wsclient listen --count 1 ws://localhost:8765/",
        "wsclient load --connections 10 --duration 5s ws://localhost:8765/",
    )
    + "\n\nExit status: 0 done, 1 failed, 2 wrong usage, 3 could not connect, 4 closed abnormally,"
    + " 130 Ctrl-C. The help of a command has its options: wsclient send --help.",
)
@click.version_option(__version__, "-V", "--version", prog_name=_NAME)
def wsclient() -> None:
    """Talk to WebSocket servers from the shell, and load them."""


for _command in (connect, send, listen, load, check):
    wsclient.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; faults are one line on standard error."""
    silence_the_log()
    try:
        status = wsclient.main(arguments, prog_name=_NAME, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        note("interrupted")
        return ExitCode.INTERRUPTED
    except Failure as error:
        note(str(error))
        return error.code
    except WSClientError as error:
        failure = failure_of(error)
        note(str(failure))
        return failure.code
    except (BrokenPipeError, ReaderGoneError):  # who reads has what was wanted
        ignore_broken_pipe()
        return ExitCode.OK
    return int(status or ExitCode.OK)
