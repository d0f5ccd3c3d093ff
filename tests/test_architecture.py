"""The rules of docs/architecture.md, read off the source: rooms, arrows, purity, sizes, no shared state.

Each rule is a function from source to complaints: a few lines of bad source show that it can complain.
"""

from __future__ import annotations

import ast
import json
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest
from conftest import Resources

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "wsclient"

# The one list of rooms, in order: a module imports only modules above it, for its annotations too.
ROOMS = (
    "_version",
    "exceptions",
    "frames",
    "deflate",
    "protocol",
    "reconnect",
    "options",
    "keywords",
    "transport",
    "http1",
    "environment",
    "proxy",
    "socks",
    "handshake",
    "items",
    "room",
    "doorbell",
    "control_lane",
    "fragments",
    "waiting_line",
    "lanes",
    "front",
    "admission",
    "send_queue",
    "lifecycle",
    "inbox",
    "callbacks",
    "keepalive",
    "ledger",
    "outbox",
    "stats",
    "writer",
    "reader",
    "shortage",
    "lifetime",
    "parts",
    "link",
    "recovery",
    "session",
    "receive_stream",
    "send_stream",
    "connection",
    "__init__",
)
# Packages that users import by name and that no room may import. They may open sockets.
ON_TOP = frozenset({"__main__", "check", "cli", "compat", "load", "locust", "testing"})
# What they import of each other; everything else of theirs goes through the package itself.
ARROWS_ON_TOP: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "__main__": frozenset({"cli"}),
        "cli": frozenset({"check", "load"}),
        "load": frozenset({"testing"}),
    }
)

PURE = frozenset({"_version", "exceptions", "frames", "deflate", "protocol", "options"})
IMPURE_LIBRARIES = frozenset(
    {"_thread", "asyncio", "multiprocessing", "select", "selectors", "signal", "socket", "ssl", "subprocess"}
    | {"threading", "time"}
)
ONLY_IMPORTER: Mapping[str, str] = MappingProxyType(
    {
        "select": "transport",
        "selectors": "transport",
        "socket": "transport",
        "socksio": "socks",
        "ssl": "transport",
        "websocket": "handshake",
    }
)
CALLABLES_ONLY = frozenset({"writer", "reader"})  # they take plain callables and never know a Connection
NOT_AT_IMPORT = frozenset(
    {
        "asyncio",
        "click",
        "gevent",
        "hdrh",
        "locust",
        "matplotlib",
        "numpy",
        "prompt_toolkit",
        "pytest",
        "rich",
        "socksio",
        f"{PACKAGE}.cli",
        f"{PACKAGE}.compat",
        f"{PACKAGE}.load",
        f"{PACKAGE}.testing",
    }
)

FUNCTION_LINES = 60
CLASS_LINES = 300
MUTABLE_TYPES = frozenset(
    {"Counter", "OrderedDict", "Queue", "SimpleQueue", "WeakKeyDictionary", "WeakSet", "WeakValueDictionary"}
    | {"bytearray", "defaultdict", "deque", "dict", "list", "local", "set"}
)
MUTABLE_NODES = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


@dataclass(frozen=True)
class Import:
    """One imported name in full; ``typing_only`` when it stands under ``if TYPE_CHECKING``."""

    name: str
    line: int
    typing_only: bool

    @property
    def library(self) -> str:
        return self.name.partition(".")[0]

    @property
    def room(self) -> str | None:
        """The room that it comes from; ``__init__`` for a name of the package itself."""
        if self.library != PACKAGE:
            return None
        first = [*self.name.split("."), "__init__"][1]
        return first if first in _known_rooms() else "__init__"


@dataclass(frozen=True)
class Module:
    """A module by its name within the package, such as ``frames`` or ``testing.faults``."""

    name: str
    source: str

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def imports(self) -> list[Import]:
        return [
            Import(name, node.lineno, typing_only)
            for node, typing_only in _import_statements([self.tree], typing_only=False)
            for name in self._names(node)
        ]

    def _names(self, node: ast.Import | ast.ImportFrom) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        base = [*self._anchor(node.level), *([node.module] if node.module else [])]
        return [".".join([*base, alias.name]) for alias in node.names]

    def _anchor(self, level: int) -> list[str]:
        """The package that ``level`` dots stand for: one dot is the package that this module is in."""
        within = [PACKAGE, *self.name.split(".")]
        return within[: len(within) - level] if level else []


def _import_statements(
    nodes: Iterable[ast.AST], *, typing_only: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, typing_only
        elif isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from _import_statements(node.body, typing_only=True)
            yield from _import_statements(node.orelse, typing_only=typing_only)
        else:
            yield from _import_statements(ast.iter_child_nodes(node), typing_only=typing_only)


@cache
def _modules() -> tuple[Module, ...]:
    top = ROOT / PACKAGE
    return tuple(
        Module(".".join(path.relative_to(top).with_suffix("").parts), path.read_text(encoding="utf-8"))
        for path in sorted(top.rglob("*.py"))
    )


@cache
def _known_rooms() -> frozenset[str]:
    return frozenset(ROOMS) | ON_TOP | {module.room for module in _modules()}


# The rules.


def is_listed(module: Module) -> list[str]:
    if module.room in ON_TOP or module.room in ROOMS:
        return []
    return [f"{module.name}: a room without a place; add it to ROOMS (or ON_TOP) in {Path(__file__).name}"]


def arrows_point_one_way(module: Module) -> list[str]:
    return [
        f"{module.name}:{found.line}: imports {found.name}, which is not above it"
        for found in module.imports
        if found.room is not None and not _arrow_is_allowed(module.room, found)
    ]


def _arrow_is_allowed(room: str, found: Import) -> bool:
    if room in ON_TOP:
        return found.room in {room, "__init__"} | ARROWS_ON_TOP.get(room, frozenset())
    return room not in ROOMS or found.room in ROOMS[: ROOMS.index(room)]


def is_pure(module: Module) -> list[str]:
    return [
        f"{module.name}:{found.line}: imports {found.library}, but is a pure module"
        for found in module.imports
        if module.name in PURE and found.library in IMPURE_LIBRARIES and not found.typing_only
    ]


def one_importer(module: Module) -> list[str]:
    return [
        f"{module.name}:{found.line}: imports {found.library}; only {ONLY_IMPORTER[found.library]} may"
        for found in module.imports
        if module.room not in ON_TOP
        and ONLY_IMPORTER.get(found.library, module.name) != module.name
        and not found.typing_only
    ]


def knows_no_connection(module: Module) -> list[str]:
    return [
        f"{module.name}:{found.line}: imports {found.name}; take a callable instead"
        for found in module.imports
        if module.name in CALLABLES_ONLY and found.room in {"connection", "__init__"}
    ]


def is_small(module: Module) -> list[str]:
    complaints = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            limit = CLASS_LINES if isinstance(node, ast.ClassDef) else FUNCTION_LINES
            if lines > limit:
                complaints.append(f"{module.name}:{node.lineno}: {node.name} has {lines} lines, over {limit}")
    return complaints


def has_no_shared_state(module: Module) -> list[str]:
    rebound = [node for node in ast.walk(module.tree) if isinstance(node, ast.Global)]
    return [f"{module.name}:{node.lineno}: global {', '.join(node.names)}" for node in rebound] + [
        f"{module.name}:{node.lineno}: mutable {ast.unparse(target)} (MappingProxyType, tuple: fine)"
        for node, target, value in _module_assignments(module.tree)
        if ast.unparse(target) != "__all__" and _is_mutable(value)
    ]


def _module_assignments(node: ast.AST) -> Iterator[tuple[ast.stmt, ast.expr, ast.expr]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Assign):
            yield from ((child, target, child.value) for target in child.targets)
        elif isinstance(child, ast.AnnAssign) and child.value is not None:
            yield child, child.target, child.value
        elif isinstance(child, ast.If | ast.Try | ast.ExceptHandler | ast.With | ast.For):
            yield from _module_assignments(child)


def _is_mutable(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        function = value.func
        if isinstance(function, ast.Subscript):  # dict[str, int]()
            function = function.value
        name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
        return name in MUTABLE_TYPES
    return isinstance(value, MUTABLE_NODES)


Rule = Callable[[Module], list[str]]
RULES: tuple[Rule, ...] = (
    is_listed,
    arrows_point_one_way,
    is_pure,
    one_importer,
    knows_no_connection,
    is_small,
    has_no_shared_state,
)


@pytest.mark.parametrize("module", _modules(), ids=lambda module: module.name)
def test_module_keeps_every_rule(module: Module) -> None:
    complaints = [complaint for rule in RULES for complaint in rule(module)]
    assert not complaints, "\n".join(complaints)


def test_the_modules_are_found() -> None:
    assert {"__init__", "exceptions", "frames", "transport"} <= {module.name for module in _modules()}


# That each rule can complain, and about nothing else.

LONG_FUNCTION = "def f():\n" + "    pass\n" * FUNCTION_LINES
LONG_CLASS = "class C:\n" + "    x = 1\n" * CLASS_LINES
BAD: tuple[tuple[Rule, str, str], ...] = (
    (is_listed, "extras", ""),
    (arrows_point_one_way, "frames", "from wsclient.protocol import Protocol"),
    (arrows_point_one_way, "frames", "from . import protocol"),
    (arrows_point_one_way, "frames", "from .protocol import Protocol"),
    (arrows_point_one_way, "frames", "import wsclient"),
    (arrows_point_one_way, "frames", "from wsclient import Connection"),
    (arrows_point_one_way, "frames", "def f():\n    import wsclient.protocol"),
    (arrows_point_one_way, "frames", "import wsclient.frames"),
    (arrows_point_one_way, "frames", "if TYPE_CHECKING:\n    from wsclient.protocol import Protocol"),
    (arrows_point_one_way, "options", "from wsclient.connection import Connection"),
    (arrows_point_one_way, "connection", "from wsclient.testing import FaultServer"),
    (arrows_point_one_way, "__init__", "from .testing import FaultServer"),
    (arrows_point_one_way, "__init__", "from wsclient import compat"),
    (arrows_point_one_way, "session", "from wsclient.compat.errors import NotSupported"),
    (arrows_point_one_way, "compat.link", "from wsclient.session import Session"),
    (arrows_point_one_way, "testing.client", "from wsclient.compat import WebSocketApp"),
    (arrows_point_one_way, "testing.faults", "from wsclient.transport import Transport"),
    (arrows_point_one_way, "testing.faults", "from wsclient.load import run"),
    (arrows_point_one_way, "load.run", "from wsclient.connection import Connection"),
    (arrows_point_one_way, "testing.faults", "from ..transport import Transport"),
    (arrows_point_one_way, "cli.app", "from wsclient.transport import Transport"),
    (arrows_point_one_way, "cli.app", "from wsclient.testing import TestClient"),
    (arrows_point_one_way, "load.run", "from wsclient.cli import main"),
    (arrows_point_one_way, "connection", "from wsclient.cli import main"),
    (is_pure, "frames", "import socket"),
    (is_pure, "options", "def f():\n    from time import monotonic"),
    (is_pure, "protocol", "import concurrent\nimport threading as t"),
    (is_pure, "options", "if TYPE_CHECKING:\n    pass\nelse:\n    import ssl"),
    (one_importer, "reader", "import socket"),
    (one_importer, "handshake", "import ssl"),
    (one_importer, "transport", "import websocket"),
    (one_importer, "writer", "try:\n    from select import poll\nexcept ImportError:\n    pass"),
    (knows_no_connection, "writer", "if TYPE_CHECKING:\n    from wsclient.connection import Connection"),
    (knows_no_connection, "reader", "from wsclient import Connection"),
    (is_small, "frames", LONG_FUNCTION),
    (is_small, "frames", "class C:\n" + textwrap.indent("async " + LONG_FUNCTION, "    ")),
    (is_small, "frames", LONG_CLASS),
    (has_no_shared_state, "frames", "cache = {}"),
    (has_no_shared_state, "frames", "cache: dict[str, int] = dict[str, int]()"),
    (has_no_shared_state, "frames", "import collections\nrecent = collections.deque(maxlen=3)"),
    (has_no_shared_state, "frames", "try:\n    seen = [1]\nexcept ValueError:\n    pass"),
    (has_no_shared_state, "frames", "squares = {n: n * n for n in range(3)}"),
    (has_no_shared_state, "frames", "count = 0\ndef f():\n    global count\n    count += 1"),
)
GOOD: tuple[tuple[str, str], ...] = (
    ("protocol", "from __future__ import annotations\nfrom wsclient.frames import Opcode\nimport codecs"),
    ("protocol", "from .frames import Opcode\nfrom . import exceptions"),
    ("options", "if TYPE_CHECKING:\n    import ssl\nimport difflib"),
    ("transport", "import socket, ssl, selectors, select, threading, time"),
    ("handshake", "from websocket import WebSocket\nfrom wsclient.transport import Transport"),
    (
        "__init__",
        "from .connection import Connection\nfrom wsclient.options import Options\n__all__ = ['connect']",
    ),
    ("load.ends", "from wsclient.testing import TestClient\nfrom wsclient.load.plan import Plan"),
    ("testing.faults", "import socket\nfrom wsclient import Connection\nfrom .scripts import Step"),
    ("frames", "NAMES = ('a', 'b')\nCODES = MappingProxyType({1: 'a'})\nSMALL = frozenset({1})"),
    ("frames", "def f():\n    found = []\n    return found\nclass C:\n    x: int = 1"),
    ("frames", "def f():\n" + "    pass\n" * (FUNCTION_LINES - 1)),
)


@pytest.mark.parametrize(("rule", "name", "source"), BAD)
def test_a_broken_rule_is_noticed(rule: Rule, name: str, source: str) -> None:
    assert rule(Module(name, source))


@pytest.mark.parametrize(("name", "source"), GOOD)
def test_good_source_breaks_no_rule(name: str, source: str) -> None:
    assert [complaint for rule in RULES for complaint in rule(Module(name, source))] == []


# What the source can't show.


def _modules_loaded_by(statement: str) -> set[str]:
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = _modules_loaded_by(f"import {PACKAGE}")
    assert PACKAGE in loaded
    assert loaded & NOT_AT_IMPORT == set()


def test_a_heavy_import_is_noticed() -> None:
    assert _modules_loaded_by("import asyncio") & NOT_AT_IMPORT == {"asyncio"}


def test_a_leaked_socket_is_noticed() -> None:
    before = Resources.now()
    with socket.socket():
        leaks = before.leaked_since()
    assert [leak for leak in leaks if leak.startswith("socket:")] == leaks
    assert len(leaks) == (1 if sys.platform == "linux" else 0)
    assert before.leaked_since() == []


@pytest.mark.parametrize(
    ("name", "daemon", "is_leak"),
    [("wsclient-1-writer", True, True), ("other", False, True), ("other", True, False)],
)
def test_a_leaked_thread_is_noticed(name: str, daemon: bool, is_leak: bool) -> None:
    before, end = Resources.now(), threading.Event()
    thread = threading.Thread(target=end.wait, args=(30,), name=name, daemon=daemon)
    thread.start()
    try:
        assert before.leaked_since(patience=0) == ([f"thread {name!r} is still running"] if is_leak else [])
    finally:
        end.set()
        thread.join(10)
    assert before.leaked_since() == []
