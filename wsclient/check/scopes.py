"""Where names get their values, and what is learnt about functions and classes on the way."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field

from wsclient.check.values import (
    DECORATED_AS_ONE,
    SPECIAL_BUILTINS,
    Class,
    Function,
    Instance,
    Many,
    Named,
    Value,
)

__all__ = ["Facts", "FunctionNode", "Scope", "decorators", "is_method_of_class", "is_static"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass
class Scope:
    """The names of a module, class, function or comprehension. All fields: the thread that checks."""

    parent: Scope | None = None
    owner: ast.AST | None = None
    names: dict[str, Value | None] = field(default_factory=dict)  # filled as the statements are read
    elsewhere: dict[str, Scope] = field(default_factory=dict)  # names declared global or nonlocal

    def bind(self, name: str, value: Value | None) -> None:
        """Give a name its value from here on; ``None`` hides what it was."""
        self.elsewhere.get(name, self).names[name] = value

    def lookup(self, name: str) -> Value | None:
        """The value of a name as seen from this scope; the names of an enclosing class are not seen."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names and (scope is self or not isinstance(scope.owner, ast.ClassDef)):
                return scope.names[name]
            scope = scope.parent
        return Named(f"builtins.{name}") if name in SPECIAL_BUILTINS else None

    def module(self) -> Scope:
        """The outermost scope."""
        return self if self.parent is None else self.parent.module()

    def function(self) -> FunctionNode | None:
        """The function that a ``return`` here belongs to."""
        if isinstance(self.owner, FunctionNode):
            return self.owner
        return self.parent.function() if self.parent and not isinstance(self.owner, ast.ClassDef) else None

    def enclosing_class(self) -> ast.ClassDef | None:
        """The class that this code is in the body, or in a method, of."""
        if isinstance(self.owner, ast.ClassDef):
            return self.owner
        return self.parent.enclosing_class() if self.parent else None


@dataclass
class Facts:
    """What holds wherever it is learnt, so that a second reading of the file knows more.

    A fact is never taken back: the readings come to an end. All fields: the thread that checks.
    """

    attributes: dict[tuple[ast.ClassDef, str], Value] = field(default_factory=dict)  # self.x = value
    results: dict[FunctionNode, Value] = field(default_factory=dict)  # returned, or Many(yielded)
    parameters: dict[tuple[FunctionNode, int], Value] = field(default_factory=dict)  # of callbacks
    globals: dict[str, Value] = field(default_factory=dict)  # bound in a function that declared them
    bases: dict[ast.ClassDef, tuple[Class, ...]] = field(default_factory=dict)  # those of the same file

    def size(self) -> int:
        """How much is known."""
        learnt = (self.attributes, self.results, self.parameters, self.globals, self.bases)
        return sum(len(facts) for facts in learnt)

    def result(self, node: FunctionNode) -> Value | None:
        """What a call of this function gives."""
        value = self.results.get(node)
        return value.of if isinstance(value, Many) and decorators(node) & DECORATED_AS_ONE else value

    def attribute(self, node: ast.ClassDef, name: str, depth: int = 8) -> Value | None:
        """What an object of this class has under this name, inherited or its own."""
        if (node, name) in self.attributes:
            return self.attributes[node, name]
        method = _method(node, name)
        if method is not None:
            is_property = decorators(method) & {"property", "cached_property"}
            return self.result(method) if is_property else Function(method, bound=not is_static(method))
        bases = self.bases.get(node, ()) if depth else ()
        return next((value for base in bases if (value := self.attribute(base.node, name, depth - 1))), None)

    def owns(self, instance: Instance, name: str, depth: int = 8) -> bool:
        """Whether a class of the file defines this name itself, rather than the watched class above it."""
        if instance.node is None or not depth:
            return False
        if name in _own_names(instance.node):
            return True
        bases = self.bases.get(instance.node, ())
        return any(self.owns(Instance(base.kind, base.node), name, depth - 1) for base in bases)


def decorators(node: FunctionNode) -> frozenset[str]:
    """The last names of a function's decorators: ``fixture`` for ``@pytest.fixture(...)``."""
    if isinstance(node, ast.Lambda):
        return frozenset()
    plain = [item.func if isinstance(item, ast.Call) else item for item in node.decorator_list]
    names = [item.attr if isinstance(item, ast.Attribute) else getattr(item, "id", "") for item in plain]
    return frozenset(names)


def is_static(node: FunctionNode) -> bool:
    """Whether no object is passed to this function of a class."""
    return "staticmethod" in decorators(node)


def is_method_of_class(node: FunctionNode) -> bool:
    """Whether the class itself is what is passed."""
    return "classmethod" in decorators(node)


def _method(node: ast.ClassDef, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    functions = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
    return next((item for item in functions if item.name == name), None)


def _own_names(node: ast.ClassDef) -> frozenset[str]:
    return frozenset(name for item in node.body for name in _bound_in(item))


def _bound_in(item: ast.stmt) -> Sequence[str]:
    if isinstance(item, ast.ClassDef):
        return [item.name]
    if not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
        names = [found for found in ast.walk(item) if isinstance(found, ast.Name)]
        return [name.id for name in names if isinstance(name.ctx, ast.Store)]
    arguments = [*item.args.posonlyargs, *item.args.args]
    first = arguments[0].arg if arguments else ""
    attributes = [found for found in ast.walk(item) if isinstance(found, ast.Attribute)]
    own = [found for found in attributes if isinstance(found.value, ast.Name) and found.value.id == first]
    return [item.name, *(found.attr for found in own if isinstance(found.ctx, ast.Store))]
