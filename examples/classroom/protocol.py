"""What is said in the classroom: who may say which type of message to whom. Pure: no I/O, no clock."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs

__all__ = [
    "CLOSE_REPLACED",
    "CLOSE_TOO_SLOW",
    "RULES",
    "Audience",
    "Draft",
    "Refused",
    "Role",
    "Rule",
    "Visitor",
    "parse",
    "parse_visitor",
]

CLOSE_REPLACED = 4000  # a newer connection of the same user has taken over
CLOSE_TOO_SLOW = 4001  # more is waiting for this connection than the hub will keep


class Role(str, enum.Enum):
    """What a user is in a session."""

    STUDENT = "student"
    INSTRUCTOR = "instructor"


class Direct(enum.Enum):
    """Whether a message names one recipient in ``to_user``."""

    NEVER = "never"
    MAY = "may"
    MUST = "must"


@dataclass(frozen=True)
class Rule:
    """Who may send a type of message, which role receives it, and whether it names one of them."""

    sender: Role
    receiver: Role
    direct: Direct


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "instructor_inbox": Rule(Role.STUDENT, Role.INSTRUCTOR, Direct.MAY),
        "inbox_response": Rule(Role.INSTRUCTOR, Role.STUDENT, Direct.MUST),
        "request": Rule(Role.INSTRUCTOR, Role.STUDENT, Direct.MUST),
        "request_response": Rule(Role.STUDENT, Role.INSTRUCTOR, Direct.MAY),
        "analytics": Rule(Role.STUDENT, Role.INSTRUCTOR, Direct.MAY),
        "instructor_broadcast": Rule(Role.INSTRUCTOR, Role.STUDENT, Direct.NEVER),
    }
)


class Refused(Exception):
    """A message, or a visitor, that the classroom does not take.

    Attributes:
        context: which rule it broke, in one word: the ``context`` of the error message that says so.
        status: the HTTP status that refuses a visitor.
    """

    def __init__(self, context: str, explanation: str, status: int = 400) -> None:
        super().__init__(explanation)
        self.context = context
        self.status = status


@dataclass(frozen=True)
class Visitor:
    """Who wants to come in, to which session: the query parameters of the upgrade request."""

    user_id: str
    role: Role
    session_id: str


def parse_visitor(query: str) -> Visitor:
    """Read ``user_id``, ``role`` and ``session_id``, each given once.

    Raises:
        Refused: one is missing, empty or given twice, or the role is unknown.
    """
    found = parse_qs(query)
    values = {}
    for name in ("user_id", "role", "session_id"):
        if len(found.get(name, ())) != 1:
            raise Refused("visitor", f"the query parameter {name} must be given once")
        values[name] = found[name][0]
    try:
        role = Role(values["role"])
    except ValueError:
        raise Refused("visitor", "role must be student or instructor") from None
    return Visitor(values["user_id"], role, values["session_id"])


@dataclass(frozen=True)
class Audience:
    """Everyone with a role, or one of them."""

    role: Role
    user_id: str | None = None

    def includes(self, user_id: str, role: Role) -> bool:
        """Whether a message to this audience is for that user."""
        return role is self.role and self.user_id in (None, user_id)


@dataclass(frozen=True)
class Draft:
    """A message as its sender wrote it, checked."""

    type: str
    context: str
    content: Any
    to_user: str | None

    @property
    def audience(self) -> Audience:
        """Whom it is for."""
        return Audience(RULES[self.type].receiver, self.to_user)


def parse(raw: str | bytes, sender: Role, max_content: int) -> Draft:
    """Read one message and check it against the rules.

    Args:
        raw: as it came.
        sender: role of the connection that it came from.
        max_content: largest ``content``, in bytes of JSON.

    Raises:
        Refused: with the context ``malformed``, ``unknown_type``, ``forbidden``, ``recipient`` or
            ``oversized``.
    """
    fields = _fields(raw)
    kind = fields["type"]
    if kind not in RULES:
        raise Refused("unknown_type", f"unknown type {kind!r}; one of {', '.join(RULES)}")
    rule = RULES[kind]
    if sender is not rule.sender:
        raise Refused("forbidden", f"{kind} is sent by a {rule.sender.value}, not by a {sender.value}")
    _check_recipient(kind, rule.direct, fields["to_user"])
    size = len(json.dumps(fields["content"], ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > max_content:
        raise Refused("oversized", f"content has {size} bytes, over {max_content}")
    return Draft(kind, fields["context"], fields["content"], fields["to_user"])


def _fields(raw: str | bytes) -> dict[str, Any]:
    if not isinstance(raw, str):
        raise Refused("malformed", "expected a text message, not a binary one")
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refused("malformed", f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Refused("malformed", "expected a JSON object")
    if unknown := fields.keys() - {"type", "context", "content", "to_user"}:
        raise Refused("malformed", f"unknown field {min(unknown)!r}")
    known = {"context": "general", "content": None, "to_user": None, **fields}
    for name in ("type", "context"):
        if not isinstance(known.get(name), str):
            raise Refused("malformed", f"{name} must be a string")
    return known


def _check_recipient(kind: str, direct: Direct, to_user: object) -> None:
    if to_user is None:
        if direct is Direct.MUST:
            raise Refused("recipient", f"{kind} needs to_user")
    elif not isinstance(to_user, str) or not to_user:
        raise Refused("recipient", "to_user must be a non-empty string")
    elif direct is Direct.NEVER:
        raise Refused("recipient", f"{kind} goes to everyone: it takes no to_user")
