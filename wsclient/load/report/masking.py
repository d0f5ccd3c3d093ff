"""No secret leaves by a report: results are masked as a whole before anything is written. Pure."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

__all__ = ["mask_text", "mask_url", "masked"]

T = TypeVar("T")

_MASK = "..."
_URL = re.compile(r"\b(?:wss?|https?|socks[45][ah]?)://[^\s\"'<>]+", re.IGNORECASE)
_HEADER = re.compile(r"\b((?:proxy-)?authorization|(?:set-)?cookie)(\W{1,4})[^\r\n\"']+", re.IGNORECASE)
_TOKEN = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)


def masked(value: T) -> T:
    """The same, with ``mask_text`` done to each text in it, through data classes and tuples."""
    return _masked(value)  # type: ignore[no-any-return]


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, tuple):
        return tuple(map(_masked, value))
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: _masked(getattr(value, field.name)) for field in fields(value)})
    return value


def mask_text(text: str) -> str:
    """Mask the secrets of each URL in a text, such as an error's, and what looks like credentials."""
    shown = _URL.sub(lambda found: mask_url(found[0]), text)
    return _TOKEN.sub(rf"\1 {_MASK}", _HEADER.sub(rf"\1\2{_MASK}", shown))


def mask_url(url: str) -> str:
    """Mask the user, the password, the fragment, and each value of the query, as this package's reprs do.

    An unparsable URL is masked whole: nobody can say where its secret is.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return _MASK
    user, at, host = parts.netloc.rpartition("@")
    netloc = f"{_MASK}@{host}" if user or at else host
    query = "&".join(map(_masked_pair, parts.query.split("&"))) if parts.query else ""
    return urlunsplit((parts.scheme, netloc, parts.path, query, _MASK if parts.fragment else ""))


def _masked_pair(pair: str) -> str:
    """A parameter without its value; one without a name may be a secret as a whole."""
    name, equals, _ = pair.partition("=")
    return f"{name}={_MASK}" if equals else _MASK
