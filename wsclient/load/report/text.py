"""Text for people: what strangers wrote made visible, numbers with their units. Pure."""

from __future__ import annotations

import unicodedata

__all__ = ["count", "duration", "memory", "percent", "rate", "short", "span", "visible"]

_PRIVATE_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
_KEPT = frozenset("\n\t")
_TIME_UNITS = (("µs", 1e-6), ("ms", 1e-3), ("s", 1.0))


def visible(text: str) -> str:
    """Show control characters, lone surrogates and marks that turn the direction of text as escapes.

    Args:
        text: of anybody, such as the reason of a hostile server. Line ends and tabs stay.
    """
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char in _KEPT or unicodedata.category(char) not in _PRIVATE_CATEGORIES:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def count(value: float) -> str:
    """A number of things, whole: ``12,345``."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """A number for an axis: ``950``, ``1.5k``, ``20M``; no more digits than it has."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def rate(value: float) -> str:
    """Things in a second: ``12,345/s``, and a fraction where there are few."""
    return f"{value:,.0f}/s" if value >= 100 or value == int(value) else f"{value:,.1f}/s"


def duration(seconds: float, digits: int = 3) -> str:
    """A time in the unit that fits, with so many significant digits: ``850 µs``, ``1.25 ms``, ``2.1 s``."""
    if seconds == 0:
        return "0 s"
    name, size = next((unit for unit in _TIME_UNITS if abs(seconds) < unit[1] * 999.5), _TIME_UNITS[-1])
    number = seconds / size
    return f"{number:.{digits}g} {name}" if abs(number) < 999.5 else f"{number:,.0f} {name}"


def span(seconds: float) -> str:
    """How long something went on: as ``duration``, and from two minutes on ``1 h 30 min 5 s``."""
    if seconds < 120:
        return duration(seconds)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number:,} {unit}" for number, unit in parts if number)


def percent(share: float) -> str:
    """A share of one as per cent: ``0.5`` is ``50 %``."""
    return f"{share * 100:.0f} %"


def memory(size: float) -> str:
    """Bytes in the unit that fits: ``64 B``, ``1.5 MiB``."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(size) >= 1024**power:
            return f"{size / 1024**power:.3g} {unit}"
    return f"{size:.0f} B"
