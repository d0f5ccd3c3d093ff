"""The command line: ``wsclient``, or ``python -m wsclient``. It needs ``pip install 'wsclient[cli]'``.

A thin shell over the public API: a module here parses what was typed, or shows what came, or calls the
library. The exit status is one of ``wsclient.cli.exits.ExitCode``. Heavy libraries (``prompt_toolkit``,
``rich``, ``hdrhistogram``) are imported by the commands that use them, when they run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wsclient.cli.exits import ExitCode

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what was typed after the name of the program; by default ``sys.argv[1:]``.

    Returns:
        The exit status. Nothing that a user may do wrong raises.
    """
    try:
        from wsclient.cli.app import run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print("wsclient: the command line needs more: pip install 'wsclient[cli]'", file=sys.stderr)
        return ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return run(arguments)
