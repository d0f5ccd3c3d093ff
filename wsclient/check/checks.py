"""The rules themselves: what one import, call, attribute or class has to say for itself."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import MappingProxyType

from wsclient.check.evaluator import Evaluator, argument, last_name
from wsclient.check.rules import RULES, Finding
from wsclient.check.scopes import Facts, Scope
from wsclient.check.values import (
    APP,
    DYNAMIC_IMPORTS,
    OURS,
    OWN_KINDS,
    PRIVATE_MODULES,
    PUBLIC_MODULES,
    RAW,
    RAW_KINDS,
    Class,
    Instance,
    Named,
    Text,
    Value,
    is_private,
)

__all__ = ["Checks"]

_REASONS = MappingProxyType({rule.name: f"{rule.why}; {rule.instead}" for rule in RULES})
_RAW_MAKERS: Mapping[str, str] = MappingProxyType(
    {
        f"{RAW}.create_connection": "create-connection",
        APP: "websocket-app",
        f"{RAW}.WebSocket": "raw-websocket",
    }
)
_OTHER_CLIENTS = frozenset(
    {"httpx_ws.connect_ws", "lomond", "simple_websocket.Client", "websockets.sync.client", "ws4py.client"}
)
# What calls the function that it is given.
_LAUNCHERS = frozenset({"Thread", "Timer", "map", "partial", "run_in_executor", "submit", "to_thread"})
# What takes an object and the name of an attribute; ``object`` is that of ``patch.object``.
_REACHERS = frozenset(
    {"__delattr__", "__getattribute__", "__setattr__", "delattr", "getattr", "object", "setattr"}
)
_LONGEST_SUBJECT = 60


class Checks:
    """Judges the nodes of one file and collects the findings."""

    def __init__(self, path: str, evaluator: Evaluator, facts: Facts) -> None:
        self._path = path
        self._evaluator = evaluator
        self._facts = facts
        self._found: set[Finding] = set()  # the thread that checks

    @property
    def findings(self) -> list[Finding]:
        """What was found, in the order of the file."""
        return sorted(self._found)

    def _report(self, rule: str, node: ast.expr | ast.stmt | ast.alias, subject: str) -> None:
        message = f"{subject}: {_REASONS[rule]}"
        last = node.end_lineno or node.lineno
        self._found.add(Finding(self._path, node.lineno, node.col_offset, rule, message, last))

    # -- imports --------------------------------------------------------------------------------------

    def imported(self, node: ast.stmt | ast.alias, module: str, name: str = "") -> None:
        """An import of a module, or of a name from a module."""
        full = f"{module}.{name}" if name else module
        if module.partition(".")[0] == RAW:
            self._report("raw-import", node, f"import of {module}")
        elif _is_inside(full, module, name):
            # A private module is one finding, however many names are taken from it.
            subject = module if _is_inside(module, module, "") else full
            self._report("private-module", node, f"import of {subject}")
        elif _is_other_client(full):
            self._report("other-client", node, f"import of {full}")

    def _dynamic_import(self, node: ast.expr, module: str) -> None:
        if module.partition(".")[0] == RAW:
            self._report("dynamic-import", node, f"import of {module}")
        else:
            self.imported(ast.copy_location(ast.alias(module), node), module)

    # -- calls ----------------------------------------------------------------------------------------

    def called(self, node: ast.Call, scope: Scope) -> None:
        """A call: of a dynamic import, of a raw client, of ``getattr`` and its kind."""
        function = self._evaluator.value(node.func, scope)
        name = function.name if isinstance(function, Named) else ""
        module = self._evaluator.value(argument(node, 0, "name", "modname"), scope)
        if name in DYNAMIC_IMPORTS and isinstance(module, Text):
            self._dynamic_import(node, module.text)
        elif name == "builtins.vars" and node.args:
            self._reach(node, self._evaluator.value(node.args[0], scope), "__dict__")
        elif name in _RAW_MAKERS:
            self._report(_RAW_MAKERS[name], node.func, f"call of {_shown(node.func)}")
        elif last_name(node.func) in _LAUNCHERS:
            self._launched(node, scope)
        elif isinstance(node.func, ast.Attribute) or name.startswith("builtins."):
            self._reached_by_name(node, scope)

    def _launched(self, node: ast.Call, scope: Scope) -> None:
        for given in [*node.args, *(keyword.value for keyword in node.keywords)]:
            value = self._evaluator.value(given, scope)
            if isinstance(value, Named) and value.name in _RAW_MAKERS:
                self._report(_RAW_MAKERS[value.name], given, f"call of {_shown(given)}")

    def _reached_by_name(self, node: ast.Call, scope: Scope) -> None:
        if last_name(node.func) not in _REACHERS or len(node.args) < 2:
            return
        name = self._evaluator.value(node.args[1], scope)
        if isinstance(name, Text):
            self._reach(node, self._evaluator.value(node.args[0], scope), name.text)

    # -- attributes -----------------------------------------------------------------------------------

    def attribute(self, node: ast.Attribute, scope: Scope) -> None:
        """An attribute that is read, set or deleted."""
        self._reach(node, self._evaluator.value(node.value, scope), node.attr)

    def subscript(self, node: ast.Subscript, scope: Scope) -> None:
        """``sys.modules["websocket"]``."""
        value = self._evaluator.value(node, scope)
        if isinstance(value, Named) and self._evaluator.value(node.value, scope) == Named("sys.modules"):
            self._dynamic_import(node, value.name)

    def _reach(self, node: ast.expr, holder: Value | None, name: str) -> None:
        if isinstance(holder, Named) and holder.name == OURS:
            if name in PRIVATE_MODULES or is_private(name):
                self._report("private-module", node, _shown(node))
        elif self._is_own(holder, name) and (is_private(name) or name == "__dict__"):
            self._report("private-attribute", node, _shown(node))
        elif isinstance(holder, Instance) and holder.kind in RAW_KINDS and name == "sock":
            self._report("raw-socket", node, _shown(node))

    def _is_own(self, holder: Value | None, name: str) -> bool:
        if isinstance(holder, Named):
            return holder.name in OWN_KINDS
        if not isinstance(holder, Instance | Class) or holder.kind not in OWN_KINDS:
            return False
        return not self._facts.owns(Instance(holder.kind, holder.node), name)

    def inherited(self, node: ast.expr, scope: Scope) -> None:
        """A base of a class."""
        value = self._evaluator.value(node, scope)
        if isinstance(value, Named) and value.name in RAW_KINDS:
            self._report(_RAW_MAKERS[value.name], node, f"subclass of {_shown(node)}")


def _is_inside(full: str, module: str, name: str) -> bool:
    parts = full.split(".")
    if parts[0] != OURS or len(parts) == 1:
        return False
    if parts[1] in PUBLIC_MODULES:
        return any(is_private(part) for part in parts[2:])
    # A submodule that is not public; or a name of the package that is a module, or private.
    return module != OURS or not name or name in PRIVATE_MODULES or is_private(name)


def _is_other_client(full: str) -> bool:
    return any(full == client or full.startswith(f"{client}.") for client in _OTHER_CLIENTS)


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node).partition("\n")[0]
    return text if len(text) <= _LONGEST_SUBJECT else f"{text[: _LONGEST_SUBJECT - 3]}..."
