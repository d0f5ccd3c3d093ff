"""A progress bar on a terminal; nothing where there is none, or where rich is not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TextIO

__all__ = ["progress"]


@contextmanager
def progress(title: str, total: int, stream: TextIO | None = None) -> Iterator[Callable[[int], None]]:
    """A bar that goes from 0 to ``total`` as the yielded function is called, and vanishes at the end."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty() or find_spec("rich") is None:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)
