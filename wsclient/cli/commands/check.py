"""``wsclient check``."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

__all__ = ["check"]


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Find in source code what goes round a Connection.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, shell_complete=lambda *_: _paths())
def check(arguments: tuple[str, ...]) -> int:
    """Pass on to ``python -m wsclient.check``, which has options and help of its own."""
    from wsclient.check.__main__ import main

    try:
        return main(arguments, prog="wsclient check")
    except SystemExit as end:  # how argparse ends after its help, and after what it refuses
        return int(end.code or 0)


def _paths() -> list[CompletionItem]:
    return [CompletionItem("", type="file")]
