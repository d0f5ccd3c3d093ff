"""What ``make docs`` refuses: public names without an entry, and pages that load from elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

logger = getLogger(__name__)

# What a browser fetches by itself when it shows a page; a link is fetched by its reader only.
TAG = re.compile(r"<(?:script|img|iframe|source|video|audio|object|embed|link)\b[^>]*>")
SOURCE = re.compile(r"""\b(?:src|srcset|data|href)=["']((?:https?:)?//[^"']+)""")
STYLE = re.compile(r"""(?:@import\s+|url\()\s*["']?((?:https?:)?//[^"')\s]+)""")
NOT_FETCHED = re.compile(r"""\brel=["'](?:canonical|next|prev|index|search|author)["']""")


def exported(source: str) -> list[str]:
    """The ``__all__`` of a module; read, not imported: some packages need others that are not there."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError("no __all__")


def undocumented(public: Mapping[str, Collection[str]], documented: Collection[str]) -> list[str]:
    """The names, with their module, that modules export and no page explains."""
    return sorted(
        f"{module}.{name}"
        for module, names in public.items()
        for name in names
        if f"{module}.{name}" not in documented
    )


def loaded_from_elsewhere(text: str) -> list[str]:
    """The URLs that a page or a style sheet makes a browser fetch from another machine."""
    tags = [tag for tag in TAG.findall(text) if not NOT_FETCHED.search(tag)]
    return [url for tag in tags for url in SOURCE.findall(tag)] + STYLE.findall(text)


def _complaints(app: Sphinx) -> Iterator[str]:
    top = Path(app.srcdir).parent
    public = {
        name: exported((top / name.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
        for name in app.config.public_modules
    }
    documented = app.env.domains.python_domain.objects
    yield from (f"{name}: public, and not in the reference" for name in undocumented(public, documented))
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css"):
            urls = loaded_from_elsewhere(path.read_text(encoding="utf-8"))
            yield from (f"{path.relative_to(app.outdir)}: loads {url}" for url in urls)


def _check(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        for complaint in _complaints(app):
            logger.warning(complaint)  # an error, as every warning of `make docs`


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_config_value("public_modules", [], "env", types=[list])
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
