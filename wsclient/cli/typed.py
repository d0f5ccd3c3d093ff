"""What is typed at the prompt of ``connect``: a message, or a command that begins with a slash. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from wsclient.cli.display import Message
from wsclient.cli.values import parse_hex

__all__ = ["COMMANDS", "HELP", "Close", "Help", "Ping", "Send", "SendFile", "Typed", "parse_line"]


@dataclass(frozen=True)
class Send:
    """Send a message."""

    message: Message


@dataclass(frozen=True)
class SendFile:
    """Send the contents of a file as one message."""

    path: str
    binary: bool


@dataclass(frozen=True)
class Ping:
    """Measure a round trip."""


@dataclass(frozen=True)
class Close:
    """Close the connection."""

    code: int = 1000
    reason: str = ""


@dataclass(frozen=True)
class Help:
    """Say what can be typed."""


Typed: TypeAlias = "Send | SendFile | Ping | Close | Help"

HELP: Final = """\
  text                          send a text message; //text sends /text
  /binary 48 65 6c 6c 6f        send these bytes as a binary message
  /send-file [--binary] PATH    send what is in a file as one message: text, or binary
  /ping                         measure a round trip
  /close [CODE [REASON]]        close the connection and leave; so does Ctrl-D
  /help                         show this"""


def _none(rest: str, made: Typed) -> Typed:
    if rest:
        raise ValueError("takes nothing behind it")
    return made


def _file(rest: str) -> SendFile:
    words = shlex.split(rest)
    paths = [word for word in words if word != "--binary"]
    if len(paths) != 1:
        raise ValueError("needs one path, in quotes if there are spaces in it")
    return SendFile(paths[0], len(words) > 1)


def _close(rest: str) -> Close:
    code, _, reason = rest.partition(" ")
    if not code:
        return Close()
    if not (code.isascii() and code.isdigit()):
        raise ValueError(f"the code is a number such as 1000 or 3000 to 4999, not {code!r}")
    return Close(int(code), reason.strip())


def _binary(rest: str) -> Send:
    return Send(parse_hex(rest))


COMMANDS: Final[Mapping[str, Callable[[str], Typed]]] = MappingProxyType(
    {
        "/binary": _binary,
        "/close": _close,
        "/help": lambda rest: _none(rest, Help()),
        "/ping": lambda rest: _none(rest, Ping()),
        "/send-file": _file,
    }
)


def parse_line(line: str) -> Typed:
    """What one line asks for. Raises ``ValueError`` with a text for the user."""
    if not line.startswith("/"):
        return Send(line)
    if line.startswith("//"):
        return Send(line[1:])
    name, _, rest = line.partition(" ")
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise ValueError(f"no command {name}: {hint} (to send it as text: /{line})")
    try:
        return COMMANDS[name](rest.strip())
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
