"""Every public name of the installed websocket-client, read off the package itself."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import websocket

__all__ = ["parameters", "public_names"]

_ROOT = Path(websocket.__path__[0])
_OPTION = re.compile(r"""\boptions(?:\.(?:get|pop)\(|\[)"(\w+)"|"(\w+)" in options\b""")
_SSLOPT = re.compile(r"""\bsslopt(?:\.get\(|\[)"(\w+)"|"(\w+)" in sslopt\b""")
_INSTANCES = (websocket.WebSocket(), websocket.WebSocketApp("ws://localhost/"), websocket.ABNF())


def public_names() -> set[str]:
    """Names as the guide writes them: ``ABNF.mask``, ``WebSocket.send(opcode)``, ``sslopt["ciphers"]``."""
    names = set(_of_package())
    names |= {f"websocket.{module.name}" for module in pkgutil.iter_modules(websocket.__path__)}
    for instance in _INSTANCES:
        kind = type(instance).__name__
        names |= {f"{kind}.{name}" for name in vars(instance) if not name.startswith("_")}
    handshake, http = ((_ROOT / file).read_text(encoding="utf-8") for file in ("_handshake.py", "_http.py"))
    connect = inspect.getsource(websocket.WebSocket.connect)
    create = inspect.getsource(websocket.create_connection)
    names |= {f"WebSocket.connect({name})" for name in _named(_OPTION, connect + handshake + http)}
    names |= {f"create_connection({name})" for name in _named(_OPTION, create)}
    names |= {f'sslopt["{name}"]' for name in _named(_SSLOPT, http)}
    return names


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Named parameters of a function, without ``self``."""
    found = inspect.signature(function).parameters
    named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    return {name: item for name, item in found.items() if item.kind in named and name != "self"}


def _of_package() -> Iterator[str]:
    for name, value in vars(websocket).items():
        if name.startswith("_") or inspect.ismodule(value) or getattr(value, "__module__", "") == "typing":
            continue
        yield name
        if inspect.isclass(value):
            yield from _of_class(name, value)
        elif inspect.isfunction(value):
            yield from (f"{name}({parameter})" for parameter in parameters(value))


def _of_class(name: str, kind: type) -> Iterator[str]:
    if "__init__" in vars(kind):
        yield from (f"{name}({parameter})" for parameter in parameters(kind.__init__))  # type: ignore[misc]
    for member, value in vars(kind).items():
        if member.startswith("_") and member not in ("__iter__", "__next__"):
            continue
        yield f"{name}.{member}"
        if callable(value) or isinstance(value, staticmethod):
            yield from (f"{name}.{member}({parameter})" for parameter in parameters(getattr(kind, member)))


def _named(pattern: re.Pattern[str], source: str) -> set[str]:
    return {first or second for first, second in pattern.findall(source)}
