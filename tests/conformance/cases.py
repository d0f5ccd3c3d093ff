"""Which cases the Autobahn Testsuite 0.8.2 has, and which of them a run asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

__all__ = ["COMPRESSED", "EVERYTHING", "GROUPS", "QUICK", "STANDARD", "group_of", "select"]

GROUPS: Mapping[int, str] = MappingProxyType(
    {
        1: "Framing",
        2: "Pings and pongs",
        3: "Reserved bits",
        4: "Opcodes",
        5: "Fragmentation",
        6: "UTF-8 handling",
        7: "Close handling",
        9: "Limits and performance",
        10: "Automatic fragmentation",
        12: "Compression: payloads",
        13: "Compression: parameters",
    }
)
COMPRESSED = frozenset({12, 13})

# Cases in each part, numbered from 1. Known here and not asked of the server: a server with fewer is noticed.
_PARTS: Mapping[str, int] = MappingProxyType(
    {"1.1": 8, "1.2": 8, "2": 11, "3": 7, "4.1": 5, "4.2": 5, "5": 20}
    | {"6.1": 3, "6.2": 4, "6.3": 2, "6.4": 4, "6.5": 5, "6.6": 11, "6.7": 4, "6.8": 2, "6.9": 4, "6.10": 3}
    | {"6.11": 5, "6.12": 8, "6.13": 5, "6.14": 10, "6.15": 1, "6.16": 3, "6.17": 5, "6.18": 5, "6.19": 5}
    | {"6.20": 7, "6.21": 8, "6.22": 34, "6.23": 7}
    | {"7.1": 6, "7.3": 6, "7.5": 1, "7.7": 13, "7.9": 9, "7.13": 2}
    | {"9.1": 6, "9.2": 6, "9.3": 9, "9.4": 9, "9.5": 6, "9.6": 6, "9.7": 6, "9.8": 6, "10.1": 1}
    | {f"12.{part}": 18 for part in range(1, 6)}
    | {f"13.{part}": 18 for part in range(1, 8)}
)
_ALL = tuple(f"{part}.{number}" for part, size in _PARTS.items() for number in range(1, size + 1))

EVERYTHING = ("*",)
# Of 12 and 13: each payload and each set of parameters, with messages of 16 bytes, of 1 KiB, and of 8 KiB in
# frames of 256 bytes. The other sizes are for measuring time.
STANDARD = ("[1-7].*", "9.*", "10.*", *(f"1[23].*.{number}" for number in (1, 4, 11)))
# A few seconds: something of each group, and of each kind of end.
QUICK = (
    *("1.1.6", "1.2.8", "2.4", "2.5", "2.10", "3.1", "3.4", "4.1.1", "4.2.5", "5.6", "5.15", "5.18", "5.20"),
    *("6.2.3", "6.3.2", "6.6.1", "6.22.1", "7.1.5", "7.1.6", "7.3.1", "7.3.6", "7.5.1", "7.7.9", "7.9.3"),
    *("9.1.3", "9.4.5", "9.7.1", "10.1.1", "12.1.4", "12.2.11", "13.2.4", "13.3.4", "13.5.11"),
)


def group_of(case: str) -> int:
    """The group that a case such as ``9.1.3`` belongs to."""
    return int(case.partition(".")[0])


def select(patterns: Iterable[str]) -> tuple[str, ...]:
    """The cases that match any of the patterns, such as ``9.*``, in the suite's order.

    Raises:
        ValueError: a pattern matches no case.
    """
    chosen = set[str]()
    for pattern in patterns:
        matches = {case for case in _ALL if fnmatchcase(case, pattern)}
        if not matches:
            raise ValueError(f"no case of the Autobahn Testsuite matches {pattern!r}")
        chosen |= matches
    return tuple(case for case in _ALL if case in chosen)
