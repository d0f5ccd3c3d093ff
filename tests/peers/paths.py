"""What the Python peers have in common: where a request goes, and how a message is cut."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

__all__ = ["NO_ID", "PATHS", "Target", "cut", "wait_for_end_of_input"]

PATHS = frozenset({"/echo", "/fragments", "/ping", "/close", "/drop", "/closed"})
NO_ID = ""


@dataclass(frozen=True)
class Target:
    """A request's path and query."""

    path: str
    id: str
    of: str
    pieces: int
    code: int

    @classmethod
    def parse(cls, resource: str) -> Target:
        """Read them off the request line."""
        parts = urlsplit(resource)
        query = dict(parse_qsl(parts.query))
        return cls(
            path=parts.path,
            id=query.get("id", NO_ID),
            of=query.get("of", NO_ID),
            pieces=int(query.get("pieces", "1")),
            code=int(query.get("code", "1000")),
        )


def cut(data: bytes, pieces: int) -> list[bytes]:
    """Cut into exactly ``pieces`` parts, the last ones shorter or empty."""
    size = -(-len(data) // pieces)
    return [data[number * size : (number + 1) * size] for number in range(pieces)]


def wait_for_end_of_input() -> None:
    """Return when standard input ends."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
