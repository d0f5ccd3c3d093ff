"""The names of what is measured, and which of them belong together. Pure.

An adapter's name is that of a library, then ``-deflate`` if it compresses, ``-reconnect`` or
``-at-least-once`` if a lost connection would be opened again, ``-before`` if it is a baseline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = [
    "AT_LEAST_ONCE",
    "BEFORE",
    "DEFLATE",
    "OURS",
    "RECONNECT",
    "ours_beside",
    "today",
    "uncompressed",
    "with_before",
]

OURS = "wsclient"
DEFLATE = "-deflate"
RECONNECT = "-reconnect"
AT_LEAST_ONCE = "-at-least-once"
BEFORE = "-before"
_COMPARED = frozenset({OURS, OURS + DEFLATE})  # what is measured before and now


def today(adapter: str) -> str:
    """The adapter that a baseline is compared with; any other one is itself."""
    return adapter.removesuffix(BEFORE)


def uncompressed(adapter: str) -> str:
    """The same adapter without compression."""
    suffix = BEFORE if adapter.endswith(BEFORE) else ""
    return today(adapter).removesuffix(DEFLATE) + suffix


def ours_beside(adapter: str) -> str:
    """wsclient doing the same work as this adapter: with compression if it has that."""
    return OURS + DEFLATE if today(adapter).endswith(DEFLATE) else OURS


def with_before(adapters: Iterable[str], *, before_first: bool = False) -> Iterator[str]:
    """These adapters, each of wsclient's with its baseline beside it, behind or before it."""
    for adapter in adapters:
        if adapter not in _COMPARED:
            yield adapter
        elif before_first:
            yield from (adapter + BEFORE, adapter)
        else:
            yield from (adapter, adapter + BEFORE)
