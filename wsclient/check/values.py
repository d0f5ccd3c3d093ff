"""What an expression can stand for, as far as the rules care: a few dotted names and what they make.

A value that is not known to be one of these is ``None``, and nothing is ever said about it.
"""

from __future__ import annotations

import ast
import pkgutil
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CONNECTIONS",
    "DECORATED_AS_ONE",
    "DYNAMIC_IMPORTS",
    "OURS",
    "OWN_KINDS",
    "PRIVATE_MODULES",
    "PUBLIC_MODULES",
    "RAW",
    "RAW_KINDS",
    "SPECIAL_BUILTINS",
    "Class",
    "Function",
    "Instance",
    "Many",
    "Named",
    "Returns",
    "Text",
    "Value",
    "canonical",
    "is_private",
    "made_by",
]

RAW = "websocket"
OURS = "wsclient"
APP = f"{RAW}.WebSocketApp"
RAW_KINDS = frozenset({f"{RAW}.WebSocket", APP})
OWN_KINDS = frozenset({f"{OURS}.Connection", f"{OURS}.TestClient"})
CONNECTIONS = frozenset({f"{RAW}.create_connection", f"{OURS}.connect"}) | RAW_KINDS | OWN_KINDS

# The modules that a user may import by name; all others belong to the inside of the package.
PUBLIC_MODULES = frozenset({"check", "compat", "exceptions", "load", "locust", "testing"})
PRIVATE_MODULES = frozenset(
    module.name for module in pkgutil.iter_modules([str(Path(__file__).parent.parent)])
) - (PUBLIC_MODULES | {"__main__"})

DYNAMIC_IMPORTS = frozenset(
    {"builtins.__import__", "importlib.__import__", "importlib.import_module", "pytest.importorskip"}
)
SPECIAL_BUILTINS = frozenset(
    {"__import__", "delattr", "getattr", "list", "object", "setattr", "super", "vars"}
)
# Decorators that turn a generator function into one value for whoever calls it or asks for it by name.
DECORATED_AS_ONE = frozenset({"contextmanager", "asynccontextmanager", "fixture"})


@dataclass(frozen=True)
class Named:
    """A module, class or function, by its full dotted name."""

    name: str


@dataclass(frozen=True)
class Text:
    """A string that is known."""

    text: str


@dataclass(frozen=True)
class Function:
    """A function or lambda of the file; ``bound`` when its first parameter is already given."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    bound: bool = False


@dataclass(frozen=True)
class Class:
    """A class of the file. ``kind`` is the watched class that it inherits from, or empty."""

    node: ast.ClassDef
    kind: str = ""


@dataclass(frozen=True)
class Instance:
    """An object of a watched class (``kind``), of a class of the file (``node``), or of both."""

    kind: str
    node: ast.ClassDef | None = None


@dataclass(frozen=True)
class Many:
    """Something with ``of`` in it: a list, a tuple, an iterator."""

    of: Value


@dataclass(frozen=True)
class Returns:
    """A callable that returns ``value``."""

    value: Value


Value = Named | Text | Function | Class | Instance | Many | Returns


def canonical(name: str) -> str:
    """The one name of what is watched: ``websocket._core.WebSocket`` is ``websocket.WebSocket``."""
    short = f"{name.partition('.')[0]}.{name.rpartition('.')[2]}"
    return short if short in CONNECTIONS else name


def made_by(name: str) -> Instance | None:
    """What calling the class or function of this name makes."""
    if name not in CONNECTIONS:
        return None
    if name in RAW_KINDS | OWN_KINDS:
        return Instance(name)
    return Instance(f"{RAW}.WebSocket" if name.startswith(f"{RAW}.") else f"{OURS}.Connection")


def is_private(name: str) -> bool:
    """Whether a name is private by Python's custom: ``_x`` and ``__x``, but not ``__init__``."""
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))
