"""What a server has received, written so that it outlives the server's SIGKILL.

A record is one ``write`` of 16 bytes to a file opened for appending. Once that has returned, the bytes are
the kernel's; only a crash of the whole machine could lose them.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable
from pathlib import Path
from struct import Struct
from typing import NamedTuple

__all__ = ["Journal", "Kind", "Record", "length", "read"]

_RECORD = Struct("<IIII")


class Kind(enum.IntEnum):
    """What happened."""

    OPENED = 1
    MESSAGE = 2
    GARBLED = 3
    ENDED = 4


class Record(NamedTuple):
    """``connection`` counts within one run of the server; ``thread`` and ``number`` are the message's."""

    kind: Kind
    connection: int
    thread: int
    number: int


class Journal:
    """The writing side. For one thread."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, kind: Kind, connection: int, thread: int = 0, number: int = 0) -> None:
        """Write one record; it is safe when this returns."""
        written = os.write(self._fd, _RECORD.pack(kind, connection, thread, number))
        assert written == _RECORD.size, "the journal's disk is full"

    def close(self) -> None:
        """Write no more."""
        os.close(self._fd)


def length(paths: Iterable[Path]) -> int:
    """How many records these files have, without a look into them."""
    return sum(path.stat().st_size for path in paths) // _RECORD.size


def read(paths: Iterable[Path]) -> list[Record]:
    """The records of these files, in order, whoever wrote them being dead or alive."""
    return [
        Record(Kind(kind), connection, thread, number)
        for path in paths
        for kind, connection, thread, number in _RECORD.iter_unpack(path.read_bytes())
    ]
