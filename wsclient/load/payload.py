"""What is sent: generated messages that carry an identity, or the lines of a file. Pure but for reading it.

The identity is 20 characters of ASCII: 4 that are the run's own, then hexadecimal digits for the connection
(4), the worker (4) and the message (8). The rest of a generated message is filler that hardly compresses.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from wsclient.load.plan import ID_SIZE, Expect, Plan

__all__ = ["Maker", "Message", "described", "filler_of", "maker_of", "new_nonce", "number_in", "read_lines"]

Message: TypeAlias = "str | bytes"
Maker: TypeAlias = Callable[[int], Message]
"""Makes message ``number`` of one worker."""

_PLACEHOLDER = "{id}"
_LETTERS = string.ascii_letters + string.digits


def new_nonce() -> str:
    """Four characters that tell the messages of one run from those of another."""
    return "".join(random.choices(_LETTERS, k=4))


def prefix_of(nonce: str, connection: int, worker: int) -> str:
    """What the identities of one worker begin with."""
    return f"{nonce}{connection:04x}{worker:04x}"


def number_in(identity: Message) -> tuple[int, int] | None:
    """Worker and number that an identity names; ``None`` when it is none."""
    text = identity if isinstance(identity, str) else identity.decode("latin-1")
    try:
        return int(text[8:12], 16), int(text[12:ID_SIZE], 16)
    except ValueError:
        return None


def filler_of(size: int) -> str:
    """``size`` letters and digits, always the same."""
    block = "".join(random.Random(size).choices(_LETTERS, k=min(size, 65_536)))
    return (block * (size // len(block) + 1))[:size] if size else ""


def read_lines(path: str) -> tuple[str, ...]:
    """The lines of a payload file, without their ends and without empty ones.

    Raises:
        ValueError: it cannot be read, is not UTF-8, or has no line, naming it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"payload_file: cannot read {path!r}: {error}") from error
    found = tuple(line for line in lines if line)
    if not found:
        raise ValueError(f"payload_file: {path!r} has no line")
    return found


def maker_of(plan: Plan, nonce: str, connection: int, worker: int, lines: Sequence[str]) -> Maker:
    """What makes the messages of one worker.

    Args:
        plan: says of what kind.
        nonce: the run's own four characters.
        connection, worker: their numbers, from 0.
        lines: of the payload file; empty without one.
    """
    prefix = prefix_of(nonce, connection, worker)
    if lines:
        return _from_lines(lines, prefix, connection + worker, binary=plan.binary)
    if plan.expect is not Expect.ECHO:
        return _same(filler_of(plan.message_size), binary=plan.binary)
    rest = filler_of(plan.message_size - ID_SIZE)
    return _generated_bytes(prefix, rest.encode()) if plan.binary else _generated_text(prefix, rest)


def _same(text: str, *, binary: bool) -> Maker:
    message: Message = text.encode() if binary else text
    return lambda number: message


def _generated_text(prefix: str, rest: str) -> Maker:
    return lambda number: f"{prefix}{number:08x}{rest}"


def _generated_bytes(prefix: str, rest: bytes) -> Maker:
    return lambda number: f"{prefix}{number:08x}".encode() + rest


def _from_lines(lines: Sequence[str], prefix: str, first: int, *, binary: bool) -> Maker:
    def make(number: int) -> Message:
        text = lines[(first + number) % len(lines)].replace(_PLACEHOLDER, f"{prefix}{number:08x}")
        return text.encode() if binary else text

    return make


def described(plan: Plan) -> str:
    """The payload in words."""
    if plan.scenario is not None:
        return f"scenario {plan.scenario}"
    kind = "binary" if plan.binary else "text"
    if plan.payload_file is not None:
        return f"lines of {plan.payload_file} as {kind}"
    return f"{plan.message_size} bytes of {kind}"
