"""What has to be done although memory is short at the moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["outlast"]

T = TypeVar("T")

_TRIES, _PAUSE = 50, 0.1  # seconds between two


def outlast(action: Callable[[], T]) -> T:
    """Call ``action``, which succeeds or changes nothing, until there is memory for it, or for 5 seconds.

    Raises:
        MemoryError: there was none.
    """
    never = threading.Event()
    for _ in range(_TRIES):
        try:
            return action()
        except MemoryError:
            never.wait(_PAUSE)
    return action()
