"""What the checker looks for, and what it says about it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_RULES", "RULES", "UNPARSEABLE", "Finding", "Rule", "UsageError", "rules_named"]


class UsageError(Exception):
    """The checker was asked for something impossible: a path, a rule or a setting that does not exist."""


@dataclass(frozen=True)
class Rule:
    """One kind of finding: what it is, why it is one, and what to use instead."""

    name: str
    what: str
    why: str
    instead: str
    by_default: bool = True


@dataclass(frozen=True, order=True)
class Finding:
    """One place in one file. ``str()`` of it is a line of the report.

    Lines count from 1, columns from 0, as in Python's own syntax trees.
    """

    path: str
    line: int
    column: int
    rule: str
    message: str
    last_line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


_CONNECT = "use wsclient.connect() or wsclient.compat, in tests wsclient.testing.TestClient"
_SEVERAL_WRITERS = "any thread can write to a raw WebSocket, beside the one writer thread"
UNPARSEABLE = "unparseable"

RULES: tuple[Rule, ...] = (
    Rule("raw-import", "an import of websocket (websocket-client)", _SEVERAL_WRITERS, _CONNECT),
    Rule(
        "dynamic-import",
        "import_module('websocket'), __import__, pytest.importorskip, sys.modules",
        _SEVERAL_WRITERS,
        _CONNECT,
    ),
    Rule("create-connection", "websocket.create_connection, by any name", _SEVERAL_WRITERS, _CONNECT),
    Rule(
        "websocket-app",
        "websocket.WebSocketApp, by any name",
        "its callbacks hand out the raw WebSocket",
        "use wsclient.Connection(url, on_message=...), or wsclient.compat.WebSocketApp",
    ),
    Rule("raw-websocket", "websocket.WebSocket made or subclassed", _SEVERAL_WRITERS, _CONNECT),
    Rule(
        "raw-socket",
        ".sock of a raw WebSocket or a WebSocketApp",
        "what is written to the socket itself can land inside another thread's frame",
        "use Connection.send(); stats() and the other properties for looking",
    ),
    Rule(
        "private-attribute",
        "a private attribute of a Connection or TestClient",
        "it is internal: it leads round the checks and the one writer, and changes without notice",
        "use the public methods: send, recv, flush, close, stats",
    ),
    Rule(
        "private-module",
        "a private module of wsclient, or a private name from it",
        "it is internal, and changes without notice",
        "import the name from wsclient or wsclient.testing",
    ),
    Rule(
        "other-client",
        "a synchronous client of another WebSocket library",
        "a second client goes round the one that production uses",
        _CONNECT,
        by_default=False,
    ),
    Rule(
        "allowance",
        "an allowance that names no known rule; with --strict also one that allows nothing",
        "it does not do what it says",
        "name the rules, as in 'wsclient: allow[raw-import]', or remove it",
    ),
    Rule(
        UNPARSEABLE,
        "a file that cannot be read or parsed",
        "nothing in it was checked",
        "mend it, or leave it out",
    ),
)
DEFAULT_RULES = frozenset(rule.name for rule in RULES if rule.by_default)


def rules_named(names: list[str], where: str) -> frozenset[str]:
    """The rules that ``names`` stand for; ``all`` and ``default`` stand for several.

    Raises:
        UsageError: there is no such rule; the message names it and ``where`` it was asked for.
    """
    known = frozenset(rule.name for rule in RULES)
    groups = {"all": known, "default": DEFAULT_RULES}
    unknown = sorted(set(names) - known - set(groups))
    if unknown:
        raise UsageError(f"{where}: no rule is called {', '.join(map(repr, unknown))}; --list shows them")
    return frozenset(rule for name in names for rule in groups.get(name, {name}))
