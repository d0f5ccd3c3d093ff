"""Lost connections are in the result: they need not be on standard error too, where Python writes them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_log"]


@contextmanager
def quiet_log() -> Iterator[None]:
    """Keep what wsclient logs off standard error, unless the program has set logging up."""
    handler = logging.NullHandler()
    log = logging.getLogger("wsclient")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
