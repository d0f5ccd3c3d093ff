"""Reads one syntax tree in the order in which Python would run it, and has each part of it judged.

Like Python, it reads the body of a function after the code around it: names bound below a function are known
in it. The tree is read again while there is something new to learn about its functions and classes.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from wsclient.check.checks import Checks
from wsclient.check.evaluator import Evaluator
from wsclient.check.rules import Finding
from wsclient.check.scopes import Facts, FunctionNode, Scope, is_method_of_class, is_static
from wsclient.check.values import (
    APP,
    CONNECTIONS,
    OWN_KINDS,
    RAW,
    Class,
    Function,
    Instance,
    Many,
    Named,
    Value,
    canonical,
    made_by,
)

__all__ = ["find"]

_MOST_READINGS = 6
_CALLING_BACK = OWN_KINDS | {APP, "wsclient.connect"}


def find(tree: ast.Module, path: str, *, raw_is_local: bool = False) -> list[Finding]:
    """The findings of every rule in one file, in its order.

    Args:
        tree: the parsed file.
        path: what to call it.
        raw_is_local: ``websocket`` is a module of the project, not websocket-client.
    """
    facts, findings, known = Facts(), list[Finding](), -1
    for _ in range(_MOST_READINGS):
        if facts.size() == known:
            break
        known = facts.size()
        evaluator = Evaluator(facts)
        checks = Checks(path, evaluator, facts)
        Reader(evaluator, checks, facts, raw_is_local=raw_is_local).read(tree)
        findings = checks.findings
    return findings


class Reader(ast.NodeVisitor):
    """Walks through the tree, binds names, and shows ``Checks`` what it meets."""

    def __init__(self, evaluator: Evaluator, checks: Checks, facts: Facts, *, raw_is_local: bool) -> None:
        self._evaluator = evaluator
        self._checks = checks
        self._facts = facts
        self._raw_is_local = raw_is_local
        self._scope = Scope()  # the thread that checks, as the next
        self._bodies: deque[tuple[ast.FunctionDef | ast.AsyncFunctionDef, Scope]] = deque()  # yet to be read

    def read(self, tree: ast.Module) -> None:
        """Read the module, then the bodies of its functions, then those of the functions in them."""
        self._visit_all(tree.body)
        for name, value in self._facts.globals.items():
            if self._scope.names.get(name) is None:
                self._scope.bind(name, value)
        while self._bodies:
            node, scope = self._bodies.popleft()
            with self._inside(self._scope_of(node, scope)):
                self._visit_all(node.body)

    def _visit_all(self, nodes: Sequence[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    @contextmanager
    def _inside(self, scope: Scope) -> Iterator[None]:
        outer, self._scope = self._scope, scope
        yield
        self._scope = outer

    def _value(self, node: ast.expr | None) -> Value | None:
        return self._evaluator.value(node, self._scope)

    def _bind(self, target: ast.expr, value: Value | None) -> None:
        self._evaluator.bind(target, value, self._scope)
        if value is None or not isinstance(target, ast.Name):
            return
        if self._scope.elsewhere.get(target.id) is self._scope.module():
            self._facts.globals.setdefault(target.id, value)

    # -- imports --------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.partition(".")[0]
            if root == RAW and self._raw_is_local:
                self._scope.bind(alias.asname or root, None)
                continue
            self._checks.imported(node, alias.name)
            self._scope.bind(alias.asname or root, Named(alias.name if alias.asname else root))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        is_local = bool(node.level) or (self._raw_is_local and module.partition(".")[0] == RAW)
        for alias in node.names:
            if not is_local:
                self._checks.imported(alias if module == "wsclient" else node, module, alias.name)
            value = None if is_local else Named(canonical(f"{module}.{alias.name}"))
            self._scope.bind(alias.asname or alias.name, value)
        if not is_local and node.names[0].name == "*":
            self._bind_star(module)

    def _bind_star(self, module: str) -> None:
        for full in CONNECTIONS:
            library, _, name = full.partition(".")
            if module.partition(".")[0] == library:
                self._scope.bind(name, Named(full))

    # -- functions and classes ------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all([*node.decorator_list, node.args, node.returns])
        result = self._evaluator.annotation(node.returns, self._scope)
        if result is not None:
            self._facts.results.setdefault(node, result)
        self._scope.bind(node.name, Function(node))
        self._bodies.append((node, self._scope))

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 (the name that ast.NodeVisitor looks for)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        with self._inside(self._scope_of(node, self._scope)):
            self.visit(node.body)
            self._learn_result(self._value(node.body))

    def _scope_of(self, node: FunctionNode, outer: Scope) -> Scope:
        scope = Scope(outer, node)
        arguments = node.args
        for position, parameter in enumerate([*arguments.posonlyargs, *arguments.args]):
            scope.bind(parameter.arg, self._parameter(node, position, parameter, outer))
        for parameter in arguments.kwonlyargs:
            scope.bind(parameter.arg, self._parameter(node, -1, parameter, outer))
        if arguments.vararg:
            each = self._evaluator.annotation(arguments.vararg.annotation, outer)
            scope.bind(arguments.vararg.arg, None if each is None else Many(each))
        if arguments.kwarg:
            scope.bind(arguments.kwarg.arg, None)
        return scope

    def _parameter(self, node: FunctionNode, position: int, parameter: ast.arg, outer: Scope) -> Value | None:
        owner = outer.owner
        if position == 0 and isinstance(owner, ast.ClassDef) and not is_static(node):
            kind = self._evaluator.kind(owner, outer.parent or outer)
            return Class(owner, kind) if is_method_of_class(node) else Instance(kind, owner)
        if parameter.annotation is not None:
            annotated = self._evaluator.annotation(parameter.annotation, outer)
            return annotated or self._facts.parameters.get((node, position))
        learnt = self._facts.parameters.get((node, position))
        return learnt or self._evaluator.fixture(parameter.arg, node, outer)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all([*node.decorator_list, *node.bases, *node.keywords])
        for base in node.bases:
            self._checks.inherited(base, self._scope)
        kind = self._evaluator.kind(node, self._scope)
        bases = [self._value(base) for base in node.bases]
        self._facts.bases.setdefault(node, tuple(base for base in bases if isinstance(base, Class)))
        body = Scope(self._scope, node)
        with self._inside(body):
            self._visit_all(node.body)
        for name, value in body.names.items():
            if value is not None and not isinstance(value, Function):
                self._facts.attributes.setdefault((node, name), value)
        self._scope.bind(node.name, Class(node, kind))

    def visit_Return(self, node: ast.Return) -> None:
        self.generic_visit(node)
        self._learn_result(self._value(node.value))

    def visit_Yield(self, node: ast.Yield) -> None:
        self.generic_visit(node)
        value = self._value(node.value)
        self._learn_result(None if value is None else Many(value))

    def _learn_result(self, value: Value | None) -> None:
        function = self._scope.function()
        if function is not None and value is not None:
            self._facts.results.setdefault(function, value)

    def visit_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self._scope.elsewhere[name] = self._scope.module()

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        for name in node.names:
            scope = self._scope.parent
            while scope is not None and name not in scope.names:
                scope = scope.parent
            self._scope.elsewhere[name] = scope or self._scope

    # -- bindings -------------------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self._visit_all([node.value, *node.targets])
        for target in node.targets:
            self._assign(target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            for part, given in zip(target.elts, value.elts, strict=False):
                self._assign(part, given)
            return
        is_none = isinstance(value, ast.Constant) and value.value is None
        # "ws = None" says that there is none yet, or none any more: what it is when there is one stays known.
        if not (is_none and isinstance(target, ast.Name) and target.id in self._scope.names):
            self._bind(target, self._value(value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_all([node.annotation, node.value, node.target])
        annotated = self._evaluator.annotation(node.annotation, self._scope)
        self._bind(node.target, annotated or self._value(node.value))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target, self._value(node.value))

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._visit_all([node.iter, node.target])
        self._bind(node.target, self._evaluator.one_of(self._value(node.iter)))
        self._visit_all([*node.body, *node.orelse])

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self._visit_all([item.context_expr, item.optional_vars])
            if item.optional_vars is not None:
                self._bind(item.optional_vars, self._value(item.context_expr))
        self._visit_all(node.body)

    visit_AsyncWith = visit_With  # noqa: N815

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._scope.bind(node.name, None)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self._scope.bind(node.name, None)
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        with self._inside(self._evaluator.inside(node.generators, self._scope)):
            self.generic_visit(node)

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp  # noqa: N815

    # -- what the rules are about ---------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        self._checks.called(node, self._scope)
        self._learn_callbacks(node)
        self.generic_visit(node)

    def _learn_callbacks(self, node: ast.Call) -> None:
        called = self._value(node.func)
        made = made_by(called.name) if isinstance(called, Named) and called.name in _CALLING_BACK else None
        for keyword in node.keywords if made is not None else []:
            callback = self._value(keyword.value)
            if (keyword.arg or "").startswith("on_") and isinstance(callback, Function) and made is not None:
                self._facts.parameters.setdefault((callback.node, int(callback.bound)), made)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._checks.attribute(node, self._scope)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._checks.subscript(node, self._scope)
        self.generic_visit(node)
