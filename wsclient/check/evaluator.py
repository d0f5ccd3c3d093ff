"""What an expression stands for, by simple and local reasoning: no imports are followed, nothing is run."""

from __future__ import annotations

import ast
import re
from types import MappingProxyType

from wsclient.check.scopes import Facts, FunctionNode, Scope, decorators
from wsclient.check.values import (
    APP,
    DYNAMIC_IMPORTS,
    OURS,
    OWN_KINDS,
    RAW,
    RAW_KINDS,
    Class,
    Function,
    Instance,
    Many,
    Named,
    Returns,
    Text,
    Value,
    canonical,
    made_by,
)

__all__ = ["Evaluator", "argument", "last_name"]

_WRAPPERS = frozenset({"Annotated", "ClassVar", "Final", "Optional", "Union"})
_MANAGERS = frozenset({"AbstractContextManager", "ContextManager", "closing"})
_SEQUENCES = frozenset(
    {"AsyncGenerator", "AsyncIterator", "Collection", "Generator", "Iterable", "Iterator", "List", "Sequence"}
    | {"Set", "Tuple", "deque", "frozenset", "list", "set", "tuple"}
)
# Public attributes of watched objects that hold another one.
_HELD = MappingProxyType(
    {
        (APP, "sock"): Instance(f"{RAW}.WebSocket"),
        (f"{OURS}.TestClient", "connection"): Instance(f"{OURS}.Connection"),
    }
)
_FACTORY = re.compile(rf"{OURS}\.testing\.(\w+\.)?ClientFactory")
# What gives back the value that it is given.
_TRANSPARENT = frozenset({"closing", "enter_context", "enter_async_context", "nullcontext"})
_CONTAINERS = frozenset({"list", "tuple", "set", "sorted", "reversed", "iter", "deque"})


def argument(call: ast.Call, position: int, *names: str) -> ast.expr | None:
    """The argument at a position, or under one of these names."""
    if len(call.args) > position:
        return call.args[position]
    return next((keyword.value for keyword in call.keywords if keyword.arg in names), None)


def last_name(node: ast.expr) -> str:
    """``c`` of ``a.b.c``; empty for what has no name."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _many(found: Value | None) -> Value | None:
    return Many(found) if isinstance(found, Instance) else None


class Evaluator:
    """Finds the values of expressions, given the names of a scope and the facts of the file."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts  # the thread that checks; also written by whoever made it

    # -- expressions ----------------------------------------------------------------------------------

    def value(self, node: ast.expr | None, scope: Scope) -> Value | None:
        """What this expression stands for, or ``None``."""
        match node:
            case ast.Name():
                return scope.lookup(node.id)
            case ast.Constant(value=str(text)):
                return Text(text)
            case ast.Attribute():
                return self.attribute(self.value(node.value, scope), node.attr)
            case ast.Call():
                return self._call(node, scope)
            case ast.Lambda():
                return Function(node)
            case ast.Await() | ast.NamedExpr() | ast.Starred():
                return self.value(node.value, scope)
            case ast.IfExp():
                return self._first([node.body, node.orelse], scope)
            case ast.BoolOp():
                return self._first(node.values, scope)
            case ast.List() | ast.Tuple() | ast.Set():
                return _many(self._first(node.elts, scope))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                return _many(self.value(node.elt, self.inside(node.generators, scope)))
            case ast.Subscript():
                return self._subscript(node, scope)
        return None

    def _first(self, nodes: list[ast.expr], scope: Scope) -> Value | None:
        return next((value for node in nodes if (value := self.value(node, scope)) is not None), None)

    def inside(self, generators: list[ast.comprehension], scope: Scope) -> Scope:
        """The scope of a comprehension, with its loop variables."""
        inner = Scope(scope)
        for generator in generators:
            self.bind(generator.target, self.one_of(self.value(generator.iter, inner)), inner)
        return inner

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Value | None:
        holder = self.value(node.value, scope)
        if isinstance(holder, Many):
            return holder if isinstance(node.slice, ast.Slice) else holder.of
        name = self.value(node.slice, scope)
        return Named(name.text) if holder == Named("sys.modules") and isinstance(name, Text) else None

    @staticmethod
    def one_of(value: Value | None) -> Value | None:
        """What a loop over this value gives."""
        return value.of if isinstance(value, Many) else None

    def attribute(self, holder: Value | None, name: str) -> Value | None:
        """What ``holder.name`` stands for."""
        if isinstance(holder, Named):
            return Named(canonical(f"{holder.name}.{name}"))
        if isinstance(holder, Instance) and holder.node is not None:
            return self._facts.attribute(holder.node, name)
        if isinstance(holder, Class):
            return self._facts.attribute(holder.node, name)
        return _HELD.get((holder.kind, name)) if isinstance(holder, Instance) else None

    # -- calls ----------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, scope: Scope) -> Value | None:
        called = self.value(node.func, scope)
        if isinstance(called, Named) and (found := self._call_of_name(called.name, node, scope)):
            return found
        if isinstance(called, Function):
            return self._facts.result(called.node)
        if isinstance(called, Class):
            return Instance(called.kind, called.node)
        return called.value if isinstance(called, Returns) else self._call_by_custom(node, scope)

    def _call_of_name(self, name: str, node: ast.Call, scope: Scope) -> Value | None:
        if name in DYNAMIC_IMPORTS:
            module = self.value(argument(node, 0, "name", "modname"), scope)
            return Named(module.text) if isinstance(module, Text) else None
        if name == "builtins.super":
            return self._super(scope)
        if name == "builtins.getattr" and isinstance(asked := self.value(argument(node, 1), scope), Text):
            return self.attribute(self.value(argument(node, 0), scope), asked.text)
        if name == "typing.cast":
            return self.annotation(argument(node, 0, "typ"), scope)
        if name == "functools.partial":
            result = self._call(ast.Call(node.args[0], [], []), scope) if node.args else None
            return Returns(result) if result is not None else None
        return made_by(name)

    def _super(self, scope: Scope) -> Value | None:
        node = scope.enclosing_class()
        kind = self.kind(node, scope) if node is not None else ""
        return Instance(kind) if kind else None

    def _call_by_custom(self, node: ast.Call, scope: Scope) -> Value | None:
        name = last_name(node.func)
        given = self.value(node.args[0], scope) if node.args else None
        holder = self.value(node.func.value, scope) if isinstance(node.func, ast.Attribute) else None
        if name in _TRANSPARENT:
            return given
        if name in _CONTAINERS:
            return given if isinstance(given, Many) else None
        if name == "__enter__":
            return holder
        if name == "next":
            return self.one_of(given)
        return self.one_of(holder) if name == "pop" else None

    # -- classes and annotations ----------------------------------------------------------------------

    def kind(self, node: ast.ClassDef, scope: Scope) -> str:
        """The watched class that a class of the file inherits from, or an empty string."""
        values = [self.value(base, scope) for base in node.bases]
        kinds = [value.kind if isinstance(value, Class) else getattr(value, "name", "") for value in values]
        return next((kind for kind in kinds if kind in RAW_KINDS | OWN_KINDS), "")

    def annotation(self, node: ast.expr | None, scope: Scope) -> Value | None:
        """What a variable or result with this annotation holds."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.annotation(_parsed(node.value), scope)
        if isinstance(node, ast.BinOp):
            return self.annotation(node.left, scope) or self.annotation(node.right, scope)
        if isinstance(node, ast.Subscript):
            return self._generic(last_name(node.value), node.slice, scope)
        value = self.value(node, scope) if isinstance(node, ast.Name | ast.Attribute) else None
        if isinstance(value, Class):
            return Instance(value.kind, value.node)
        if isinstance(value, Named) and _FACTORY.fullmatch(value.name):
            return Returns(Instance(f"{OURS}.TestClient"))
        is_watched = isinstance(value, Named) and value.name in RAW_KINDS | OWN_KINDS
        return Instance(value.name) if is_watched and isinstance(value, Named) else None

    def _generic(self, name: str, inner: ast.expr, scope: Scope) -> Value | None:
        nodes = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        values = [self.annotation(node, scope) for node in nodes]
        found = next((value for value in values if value is not None), None)
        if name in _WRAPPERS or name in _MANAGERS:
            return found
        if name in {"type", "Type"}:
            return self.value(nodes[0], scope)
        if name == "Callable" and values and values[-1] is not None:
            return Returns(values[-1])
        return Many(found) if name in _SEQUENCES and found is not None else None

    # -- binding --------------------------------------------------------------------------------------

    def bind(self, target: ast.expr, value: Value | None, scope: Scope) -> None:
        """Give a name, a tuple of names or an attribute of a known object its value."""
        if isinstance(target, ast.Name):
            scope.bind(target.id, value)
        elif isinstance(target, ast.Starred):
            self.bind(target.value, None, scope)
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self.bind(part, self.one_of(value), scope)
        elif isinstance(target, ast.Attribute) and value is not None:
            holder = self.value(target.value, scope)
            if isinstance(holder, Instance | Class) and holder.node is not None:
                self._facts.attributes.setdefault((holder.node, target.attr), value)

    def fixture(self, name: str, asker: FunctionNode, scope: Scope) -> Value | None:
        """What pytest passes to an unannotated parameter: the file's fixture, or wsclient's ``ws_client``."""
        asks = isinstance(asker, ast.FunctionDef | ast.AsyncFunctionDef) and asker.name.startswith("test")
        if not asks and "fixture" not in decorators(asker):
            return None
        found = scope.module().lookup(name)
        if isinstance(found, Function) and "fixture" in decorators(found.node):
            return self._facts.result(found.node)
        is_ours = name == "ws_client" and name not in scope.module().names
        return Returns(Instance("wsclient.TestClient")) if is_ours else None


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None
