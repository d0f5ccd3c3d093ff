"""Lists and deques that tell when they are used.

Each method is one operation, as it is in C under the GIL. That includes ``iter``, which works on a copy: the
code under test iterates over what threads share by ``list(...)``, which is one operation too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import BuiltinMethodType
from typing import Any

__all__ = ["OnUse", "adopt"]

OnUse = Callable[[bool, str], None]
"""Called before each use: whether it changes the container, and the name of the method."""

_READS = ("__len__", "__contains__", "__getitem__", "count", "index")
_WRITES = (
    *("append", "clear", "extend", "insert", "pop", "remove", "reverse"),
    *("__setitem__", "__delitem__", "__iadd__", "__imul__"),
)
_DEQUE_WRITES = ("appendleft", "extendleft", "popleft", "rotate")


class _Tracked:
    """What both have in common; the methods are added below."""

    on_use: OnUse


class TrackedList(_Tracked, list[Any]):
    """A list that tells when it is used."""

    def __iter__(self) -> Iterator[Any]:
        self.on_use(False, "iter")
        return list.__iter__(list.copy(self))


class TrackedDeque(_Tracked, deque[Any]):
    """A deque that tells when it is used."""

    def __iter__(self) -> Iterator[Any]:
        self.on_use(False, "iter")
        return deque.__iter__(deque(deque.__iter__(self)))


def _method(base: type, name: str, writes: bool) -> Callable[..., Any]:
    original = getattr(base, name)
    text = name.strip("_")

    def method(self: _Tracked, *args: Any) -> Any:
        self.on_use(writes, text)
        return original(self, *args)

    return method


def _add_methods(tracked: type, base: type, names: tuple[str, ...], writes: bool) -> None:
    for name in names:
        if hasattr(base, name):
            setattr(tracked, name, _method(base, name, writes))


for _tracked, _base in ((TrackedList, list), (TrackedDeque, deque)):
    _add_methods(_tracked, _base, _READS, writes=False)
    _add_methods(_tracked, _base, _WRITES + _DEQUE_WRITES, writes=True)


def adopt(root: object, modules: frozenset[str], on_use: Callable[[str], OnUse]) -> None:
    """Exchange the lists and deques that ``root`` reaches through objects of classes of ``modules``.

    Bound methods that such an object keeps of one of them are exchanged as well. ``on_use`` gives the
    callback for the container of a given name, which is that of its class and attribute.
    """
    new: dict[int, _Tracked] = {}
    owners = list(_owners(root, modules, {}))
    for owner in owners:
        for name, value in _attributes(owner):
            if type(value) in (list, deque):
                if id(value) not in new:
                    new[id(value)] = _track(value, on_use(f"{type(owner).__name__}.{name}"))
                setattr(owner, name, new[id(value)])
    for owner in owners:
        for name, value in _attributes(owner):
            if isinstance(value, BuiltinMethodType) and id(value.__self__) in new:
                setattr(owner, name, getattr(new[id(value.__self__)], value.__name__))


def _owners(root: object, modules: frozenset[str], seen: dict[int, object]) -> Iterator[object]:
    if type(root).__module__ in modules and id(root) not in seen:
        seen[id(root)] = root
        yield root
        for _, value in _attributes(root):
            yield from _owners(value, modules, seen)


def _attributes(owner: object) -> list[tuple[str, Any]]:
    slots = [name for cls in type(owner).__mro__ for name in getattr(cls, "__slots__", ())]
    found = [(name, getattr(owner, name)) for name in slots if hasattr(owner, name)]
    return found + list(getattr(owner, "__dict__", {}).items())


def _track(value: Any, on_use: OnUse) -> _Tracked:
    tracked = TrackedList(value) if isinstance(value, list) else TrackedDeque(value, value.maxlen)
    tracked.on_use = on_use
    return tracked
