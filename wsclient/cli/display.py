"""How messages look: on a line, as JSON records, laid out for a reader, as a hex dump. Pure.

What a server sends may hold anything, escape sequences for terminals included. What goes to a terminal
passes through ``visible`` first.
"""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NoReturn, TypeAlias

__all__ = ["Message", "as_line", "as_record", "counted", "describe", "hex_dump", "pretty", "visible"]

Message: TypeAlias = "str | bytes"

_CONTROL: Final = re.compile(r"[^\x20-\x7e\n\t]")
_SHOWN: Final = frozenset({"Zs", "Mn", "Mc"})  # categories that are not printable by themselves, and harmless
_JOINER: Final = "\u200d"  # within emoji


def visible(text: str) -> str:
    """``text`` with every character that could steer a terminal, or hide something, as a backslash escape."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable() or char == _JOINER or unicodedata.category(char) in _SHOWN:
        return char
    return char.encode("unicode_escape").decode()


def as_line(message: Message) -> str:
    """One line: text with its line breaks as ``\\n`` and ``\\r``, binary as hexadecimal digits after 0x."""
    if isinstance(message, bytes):
        return f"0x{message.hex()}"
    if "\n" in message or "\r" in message:
        return message.replace("\n", "\\n").replace("\r", "\\r")
    return message


def as_record(message: Message, number: int, time: str) -> str:
    """One line of JSON about a message: its number, time, type, size in bytes, and the message itself.

    That is ``json`` (text that is JSON, as it came), ``data`` (other text) or ``base64`` (binary).
    """
    if isinstance(message, bytes):
        kind, size, body = "binary", len(message), f'"base64": "{base64.b64encode(message).decode()}"'
    elif is_json(message):
        # Line breaks in JSON stand between tokens only: strings have them escaped.
        flat = message.strip().replace("\r", " ").replace("\n", " ")
        kind, size, body = "text", len(message.encode()), f'"json": {flat}'
    else:
        kind, size, body = "text", len(message.encode()), f'"data": {json.dumps(message)}'
    return f'{{"number": {number}, "time": "{time}", "type": "{kind}", "size": {size}, {body}}}'


def is_json(text: str) -> bool:
    """Whether ``text`` is JSON (RFC 8259)."""
    try:
        json.loads(text, parse_constant=_refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def describe(message: Message) -> str:
    """Kind and size of a message."""
    if isinstance(message, bytes):
        return f"binary, {counted(len(message), 'byte')}"
    return f"text, {counted(len(message.encode()), 'byte')}"


def counted(number: int, what: str) -> str:
    """A number and its noun: ``1 message``, ``2 messages``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def hex_dump(data: bytes, limit: int = 1024) -> str:
    """Offset, hexadecimal digits and ASCII, 16 bytes a line; of more than ``limit`` bytes only the first."""
    lines = [_dump_line(data[start : start + 16], start) for start in range(0, min(len(data), limit), 16)]
    if len(data) > limit:
        lines.append(f"... {len(data) - limit} bytes more")
    return "\n".join(lines)


def _dump_line(row: bytes, start: int) -> str:
    digits = f"{row[:8].hex(' ')}  {row[8:].hex(' ')}".strip()
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
    return f"{start:08x}  {digits:<48}  |{text}|"


# -- JSON, laid out ------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-?[0-9][0-9.eE+-]*)'
    r"|(?P<word>true|false|null)|(?P<mark>[][{},:])"
)
# Of ANSI terminals (ECMA-48, SGR).
_COLOURS: Final = MappingProxyType({"key": "36", "string": "32", "number": "33", "word": "35", "mark": ""})
_OPENERS: Final = frozenset({"{", "["})
_CLOSERS: Final = frozenset({"}", "]"})
_DEEPEST: Final = 64  # levels that are laid out; deeper text stays as it is


def pretty(text: str, colour: bool) -> str:
    """A text message for a reader: an object or a list of JSON laid out, with what it says unchanged.

    Token by token, not parsed and written again: numbers and doubled keys stay what they were.
    """
    if not text.lstrip().startswith(("{", "[")) or not is_json(text) or _depth(text) > _DEEPEST:
        return visible(text)
    return "".join(_laid_out(text, colour))


def _depth(text: str) -> int:
    deepest = depth = 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in _OPENERS) - (token[0] in _CLOSERS)
        deepest = max(deepest, depth)
    return deepest


def _laid_out(text: str, colour: bool) -> Iterator[str]:
    depth, previous = 0, ""
    for found in _TOKEN.finditer(text):
        kind, token = found.lastgroup or "", found[0]
        depth -= token in _CLOSERS
        if _breaks_line(previous, token):
            yield "\n" + "  " * depth
        yield _painted(visible(token), kind, colour) + (" " if token == ":" else "")
        depth += token in _OPENERS
        previous = token


def _breaks_line(previous: str, token: str) -> bool:
    if token in _CLOSERS:
        return previous not in _OPENERS  # empty ones stay together
    return previous in _OPENERS or previous == ","


def _painted(token: str, kind: str, colour: bool) -> str:
    return f"\x1b[{_COLOURS[kind]}m{token}\x1b[0m" if colour and _COLOURS[kind] else token
