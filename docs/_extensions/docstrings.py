"""Docstrings as reStructuredText: sections become fields; members that only a comment explains appear.

A section is a line such as ``Raises:``, and entries indented below it: one name or several, a colon, a text.
What is below ``Returns:`` is a text only.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sphinx.application import Sphinx

FIELDS = {"Args": "Parameters", "Raises": "Raises"}
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns):$")
ENTRY = re.compile(r"^(?P<names>[^:]+):(?: (?P<text>.*))?$")
NAME = re.compile(r"(\w+)(\([^)]*\))?")
MEMBER = re.compile(r"^\s+(?P<name>[A-Z_]+) = .*?(?:  # (?P<text>.*))?$", re.MULTILINE)

# Made by others than the reader of the page: how is of no interest.
MADE_ELSEWHERE = re.compile(
    r"(.*\.)?(ConnectionRecord|Disconnect|Peer|ReceiveStream|Record|SendStream|Server|ServerConnection|Stats"
    r"|Step|WebSocketClient)|(.*\.)?(Client|Fault|Server)Factory"
)


@dataclass(frozen=True)
class Entry:
    """One entry of a section, as ``name, other: what it is``."""

    names: str
    text: tuple[str, ...]


def _indented(lines: Sequence[str]) -> int:
    """How many of the first lines are indented, or empty."""
    return next((number for number, line in enumerate(lines) if line and line[0] != " "), len(lines))


def _entries(lines: Sequence[str]) -> Iterator[Entry]:
    found: list[list[str]] = []
    for line in lines:
        if (line and not line.startswith(" ")) or not found:
            found.append([line])
        else:
            found[-1].append(line.strip())
    for first, *more in found:
        match = ENTRY.match(first)
        if match is None:
            raise ValueError(f"an entry of a section needs a name, a colon and a text: {first!r}")
        yield Entry(match["names"], (match["text"] or "", *more))


def _field(title: str, entries: Sequence[Entry]) -> Iterator[str]:
    yield f":{title}:"
    for entry in entries:
        mark = "``" if title == "Raises" else "**"
        names = ", ".join(f"{mark}{name.strip()}{mark}" for name in entry.names.split(","))
        yield from ("", f"   {names}", *(f"      {line}" for line in entry.text))
    yield ""


def _annotations(owner: object) -> dict[str, tuple[str, str]]:
    """Type and default of each field of a dataclass, as its source has them."""
    if not (inspect.isclass(owner) and dataclasses.is_dataclass(owner)):
        return {}
    return {
        field.name: (
            _module_by_name(str(field.type)),
            "" if field.default is dataclasses.MISSING else _shown(field.default),
        )
        for field in dataclasses.fields(owner)
    }


def _module_by_name(annotation: str) -> str:
    # What is named socket hides the module of that name, so its source imports that as sockets.
    return annotation.replace("sockets.socket", "socket.socket")


def _shown(default: object) -> str:
    if isinstance(default, enum.Enum):
        return f"{type(default).__name__}.{default.name}"
    if inspect.isroutine(default):
        return f"{default.__module__}.{default.__qualname__}"
    return repr(default)


def _attributes(owner: object, entries: Sequence[Entry]) -> Iterator[str]:
    known = _annotations(owner)
    for entry in entries:
        pairs = NAME.findall(entry.names)
        yield from _heads([name for name, _ in pairs], known)
        calls = ", ".join(f"``{name}{arguments}``" for name, arguments in pairs if arguments)
        yield from (f"   {line}" for line in ((f"{calls}:",) if calls else ()) + entry.text)
        yield ""


def _heads(names: Sequence[str], known: dict[str, tuple[str, str]]) -> Iterator[str]:
    for number, name in enumerate(names):
        kind, default = known.get(name, ("", ""))
        yield f".. py:attribute:: {name}"
        yield from ([f"   :type: {kind}"] if kind else [])
        yield from ([f"   :value: {default}"] if default else [])
        # The text stands once, below the last of them.
        yield from ([""] if number == len(names) - 1 else ["", ""])


def _members(owner: type[enum.Enum]) -> Iterator[str]:
    for match in MEMBER.finditer(inspect.getsource(owner)):
        yield from (f".. py:attribute:: {match['name']}", f"   :value: {owner[match['name']].value!r}", "")
        yield from (f"   {match['text'] or ''}", "")


def _without_marks_in_blocks(lines: Sequence[str]) -> list[str]:
    """What stands below ``::`` is shown as it is: there, backquotes would be seen."""
    found: list[str] = []
    in_block = False
    for line in lines:
        in_block = in_block and (not line or line[0] == " ")
        found.append(line.replace("``", "") if in_block else line)
        in_block = in_block or line.endswith("::")
    return found


def _rewritten(owner: object, lines: Sequence[str]) -> Iterator[str]:
    position = 0
    late: list[str] = []  # what belongs to the text comes before the members
    while position < len(lines):
        match = SECTION.match(lines[position])
        position += 1
        if match is None:
            yield lines[position - 1]
            continue
        size = _indented(lines[position:])
        body = [line.removeprefix("    ") for line in lines[position : position + size] if line]
        position += size
        if match[1] == "Returns":
            yield from (":Returns:", *(f"   {line}" for line in body), "")
        elif match[1] == "Attributes":
            late += _attributes(owner, list(_entries(body)))
        else:
            yield from _field(FIELDS[match[1]], list(_entries(body)))
    yield from ("", *late)
    if inspect.isclass(owner) and issubclass(owner, enum.Enum):
        yield from _members(owner)


def process_docstring(
    app: Sphinx | None, what: str, name: str, owner: Any, options: Any, lines: list[str]
) -> None:
    """Called by Sphinx, for each docstring: rewrites ``lines``."""
    lines[:] = _rewritten(owner, _without_marks_in_blocks(lines))


def _process_signature(
    app: Sphinx, what: str, name: str, owner: Any, options: Any, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    if arguments and (what == "exception" or (what == "class" and MADE_ELSEWHERE.fullmatch(name))):
        return "", None
    if name.endswith(".Options"):  # each has an entry of its own, with its type and its default
        return "(**options)", None
    if what == "class" and inspect.isclass(owner) and issubclass(owner, enum.Enum):
        return "", None
    return (_module_by_name(arguments), returns) if arguments else None


def _skip(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    # What `wsclient.compat` passes on of websocket-client has its own documentation there.
    return True if str(getattr(member, "__module__", "")).partition(".")[0] == "websocket" else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-process-signature", _process_signature)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
