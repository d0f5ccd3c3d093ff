"""The progress of a load run, on standard error: a view drawn once a second on a terminal, else lines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wsclient.cli import progress as words
from wsclient.cli.display import counted, visible
from wsclient.cli.output import write_line
from wsclient.load.plan import Plan
from wsclient.load.result import Progress
from wsclient.load.run import summary_of

__all__ = ["watching"]

Watch = Callable[[Progress], None]


@contextmanager
def watching(plan: Plan, stop: threading.Event, quiet: bool) -> Iterator[Watch | None]:
    """What shows the progress of a run, for as long as the ``with`` block lasts; ``None`` with ``quiet``.

    Args:
        plan: of the run.
        stop: set when the run is to end early, which is shown.
        quiet: show nothing.
    """
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _drawing(plan, stop) as watch:
            yield watch
    else:
        write_line(words.intent(summary_of(plan)))
        yield lambda progress: write_line(words.line(progress, stop.is_set()))


@contextmanager
def _drawing(plan: Plan, stop: threading.Event) -> Iterator[Watch]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    intent = Text(visible(words.intent(summary_of(plan))), style="bold")

    def view(progress: Progress) -> Group:
        table = Table.grid(padding=(0, 2))
        for name, text in words.rows(progress):
            is_bad = name == "errors" and progress.errors
            table.add_row(Text(name, style="dim"), Text(text, style="red" if is_bad else ""))
        done = words.share_done(progress, plan)
        table.add_row(Text(f"{done:.0%}", style="dim"), ProgressBar(total=1.0, completed=done, width=50))
        return Group(intent, table, Text(words.hint(stop.is_set()), style="dim"))

    opening = Group(intent, Text(f"opening {counted(plan.connections, 'connection')} ..."))
    with Live(opening, console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield lambda progress: live.update(view(progress), refresh=True)
