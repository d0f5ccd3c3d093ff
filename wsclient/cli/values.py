"""What is typed as the value of an option: durations, sizes, rates, headers, hexadecimal digits. Pure.

Each function takes the text and raises ``ValueError`` with a reason that needs no more than the option's name
before it. None repeats the value of a header.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

__all__ = [
    "parse_header",
    "parse_headers",
    "parse_hex",
    "parse_rate",
    "parse_report_path",
    "parse_seconds",
    "parse_size",
]

_NUMBER: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*")
_RATE: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(k?)\s*(/s|/min)?\s*")
_SECONDS: Final = MappingProxyType({"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0})
_BYTES: Final = MappingProxyType(
    {
        **dict.fromkeys(("", "b"), 1),
        **dict.fromkeys(("k", "kib"), 1024),
        **dict.fromkeys(("m", "mib"), 1024**2),
        **dict.fromkeys(("g", "gib"), 1024**3),
        **{"kb": 1000, "mb": 1000**2, "gb": 1000**3},
    }
)


def parse_seconds(text: str) -> float:
    """Seconds of a duration: ``5``, ``0.5``, ``500ms``, ``30s``, ``2m``, ``1h``."""
    found = _NUMBER.fullmatch(text)
    if not found or found[2] not in _SECONDS:
        raise ValueError(
            f"{text!r} is no duration: a number of seconds, or with ms, s, m or h: 500ms, 30s, 2m"
        )
    return float(found[1]) * _SECONDS[found[2]]


def parse_size(text: str) -> int:
    """Bytes of a size: ``100``, ``64k``, ``64KiB``, ``1.5M``, ``1MB``. A bare letter counts in 1024s."""
    found = _NUMBER.fullmatch(text)
    if not found or found[2].lower() not in _BYTES:
        raise ValueError(f"{text!r} is no size: a number of bytes, or with KiB, MiB, GiB, KB, MB, GB: 64KiB")
    size = float(found[1]) * _BYTES[found[2].lower()]
    if size != int(size):
        raise ValueError(f"{text!r} is no whole number of bytes")
    return int(size)


def parse_rate(text: str) -> float:
    """Messages a second of a rate: ``100``, ``100/s``, ``1.5k/s``, ``90/min``."""
    found = _RATE.fullmatch(text)
    if not found:
        raise ValueError(
            f"{text!r} is no rate: a number of messages a second, also with k, /s or /min: 1.5k/s"
        )
    return float(found[1]) * (1000 if found[2] else 1) / (60 if found[3] == "/min" else 1)


def parse_report_path(text: str) -> str:
    """The path of a report, or - for standard output. An option without one would take the URL for it."""
    if "://" in text:
        raise ValueError("needs a file, or - for standard output")
    return text


def parse_header(text: str) -> tuple[str, str]:
    """Name and value of ``Name: value``."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError("a header is written 'Name: value'")
    return name.strip(), value.strip()


def parse_headers(lines: str) -> tuple[tuple[str, str], ...]:
    """Names and values of headers, one a line; empty lines and those that begin with # are passed over."""
    found = []
    for number, line in enumerate(lines.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(parse_header(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return tuple(found)


def parse_hex(text: str) -> bytes:
    """Bytes of hexadecimal digits, in pairs; white space, colons and a leading 0x are passed over."""
    digits = re.sub(r"[\s:]", "", text).removeprefix("0x")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise ValueError("hexadecimal digits in pairs are needed, such as 48 65 6c 6c 6f") from None
