"""HTML and SVG, escaped by construction: only ``element`` makes markup and escapes the rest. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

from wsclient.load.report.text import visible

__all__ = ["Child", "Markup", "element", "join", "verbatim"]

# What HTML calls void: they have no end tag.
_VOID = frozenset({"br", "link", "meta"})


class Markup(str):
    """Text that is HTML already. Made in this module only."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"


def element(name: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element with its attributes and what it holds, escaped.

    Args:
        name: of the element.
        children: text, numbers, markup, and iterables of these; ``None`` is left out.
        attributes: ``class_="a"`` is ``class="a"``, ``stroke_width=2`` is ``stroke-width="2"``; ``True`` is
            an attribute without a value, ``None`` and ``False`` leave it out.
    """
    start = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(start if name in _VOID else f"{start}{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """What an element holds, escaped unless it is markup."""
    return Markup("".join(map(_child, children)))


def verbatim(text: str) -> Markup:
    """Declare a text of this package, its style sheet, to be markup. Never for what comes from outside."""
    return Markup(text)


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        return html.escape(visible(child), quote=False)
    return f"{child}" if isinstance(child, int) else join(child)


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = value if isinstance(value, str) else f"{value:.6g}"
    return f' {name}="{html.escape(visible(text))}"'
