"""What threads share: attributes that tell when they are used, and what is known of each."""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any

__all__ = ["Location", "Locations", "codes_of", "watched_attributes"]

OnAttribute = Callable[["Location", bool], None]
"""Called before each use of an attribute; whether it is set."""

_STORES = frozenset({"STORE_ATTR", "DELETE_ATTR"})


class Location:
    """Something that threads share, and how they have been seen to use it, over all schedules so far.

    It is racy once two threads have used it, at least one to change it, with no lock in common. A location
    that is not needs no scheduling point: the points before the lock's ``acquire`` and ``release`` and before
    the racy operations in between give the same orders.
    """

    __slots__ = ("_locks", "_threads", "_written", "name", "racy")

    def __init__(self, name: str) -> None:
        self.name = name
        # All of these belong to the running thread.
        self._threads = 0  # one bit for each that has used it
        self._written = False
        self._locks = -1  # one bit for each lock that was held at every use
        self.racy = False

    def used(self, thread: int, locks: int, writes: bool) -> None:
        """Note one use."""
        self._threads |= 1 << thread
        self._locks &= locks
        if writes:
            self._written = True
        if not self._locks and self._written and self._threads & (self._threads - 1):
            self.racy = True


class Locations:
    """Locations by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Location] = {}  # the thread that sets a run up

    def named(self, name: str) -> Location:
        """Return the one of this name."""
        if name not in self._by_name:
            self._by_name[name] = Location(name)
        return self._by_name[name]

    def racy(self) -> tuple[str, ...]:
        """Names of the racy ones."""
        return tuple(sorted(name for name, location in self._by_name.items() if location.racy))


class _SlotAttribute:
    """In place of the descriptor of a slot."""

    def __init__(self, location: Location, member: MemberDescriptorType, on_use: OnAttribute) -> None:
        self._location = location
        self._member = member
        self._on_use = on_use

    def __get__(self, owner: object, kind: type) -> Any:
        self._on_use(self._location, False)
        return self._member.__get__(owner, kind)

    def __set__(self, owner: object, value: object) -> None:
        self._on_use(self._location, True)
        self._member.__set__(owner, value)

    def __delete__(self, owner: object) -> None:
        self._on_use(self._location, True)
        self._member.__delete__(owner)


class _DictAttribute:
    """In front of an attribute that is kept in the object's ``__dict__``."""

    def __init__(self, location: Location, name: str, on_use: OnAttribute) -> None:
        self._location = location
        self._name = name
        self._on_use = on_use

    def __get__(self, owner: object, kind: type) -> Any:
        self._on_use(self._location, False)
        try:
            return owner.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, owner: object, value: object) -> None:
        self._on_use(self._location, True)
        owner.__dict__[self._name] = value

    def __delete__(self, owner: object) -> None:
        self._on_use(self._location, True)
        del owner.__dict__[self._name]


@contextmanager
def watched_attributes(
    modules: Iterable[ModuleType], locations: Locations, on_use: OnAttribute
) -> Iterator[None]:
    """Have the classes of ``modules`` tell of each use of an attribute that changes.

    An attribute is taken to change when the modules set it anywhere but in an ``__init__``. All others keep
    the value that they got before the threads started, so that nobody can tell when they are read.
    """
    modules = tuple(modules)
    codes = [code for module in modules for code in codes_of(module) if code.co_name != "__init__"]
    changing = frozenset(name for code in codes for name in _stored(code))
    changed: list[tuple[type, str, object]] = []
    try:
        for kind in (kind for module in modules for kind in _classes_of(module)):
            for name in sorted(changing & _attributes_of(kind)):
                member = vars(kind).get(name)
                changed.append((kind, name, member))
                location = locations.named(f"{kind.__name__}.{name}")
                if isinstance(member, MemberDescriptorType):
                    setattr(kind, name, _SlotAttribute(location, member, on_use))
                else:
                    setattr(kind, name, _DictAttribute(location, name, on_use))
        yield
    finally:
        for kind, name, member in changed:
            if member is None:
                delattr(kind, name)
            else:
                setattr(kind, name, member)


def codes_of(module: ModuleType) -> Iterator[CodeType]:
    """All code that a module defines."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) == module.__name__:
            yield from _codes_in(value)


def _classes_of(module: ModuleType) -> Iterator[type]:
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield value


def _attributes_of(kind: type) -> set[str]:
    # Those that its own methods set, in __init__ too, and for which no class attribute is the default.
    own = {name for code in _codes_in(kind) for name in _stored(code)}
    return {name for name in own if isinstance(vars(kind).get(name), MemberDescriptorType | None)}


def _codes_in(value: object) -> Iterator[CodeType]:
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)  # static and class methods
    if isinstance(value, FunctionType):
        yield from _with_nested(value.__code__)
    elif isinstance(value, type):
        for member in vars(value).values():
            if not isinstance(member, type):
                yield from _codes_in(member)


def _with_nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_nested(constant)


def _stored(code: CodeType) -> Iterator[str]:
    yield from (i.argval for i in dis.get_instructions(code) if i.opname in _STORES)
