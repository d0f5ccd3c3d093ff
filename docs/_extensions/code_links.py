"""Names in the text, such as ``Connection.send`` or ``conn.send(...)``, lead to the reference."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from docutils import nodes
from sphinx.addnodes import desc, desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

NAME = re.compile(r"@?([A-Za-z_][\w.]*)(?:\(.*\))?")
PACKAGES = ("wsclient", "wsclient.testing", "wsclient.check", "wsclient.load", "wsclient.compat")
# What the pages call the objects of their examples.
OBJECTS: Mapping[str, str] = MappingProxyType(
    {"conn": "Connection", "server": "Server", "client": "TestClient", "reason": "Disconnect"}
)
PAGES = (
    *("index", "tutorial", "threads", "request-reply", "reconnecting", "connecting", "streaming", "delivery"),
    *("reference/client", "reference/options", "reference/exceptions"),
)
# Whose members a page means by a bare name. On pages about other libraries it may be anything.
MEANT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(PAGES, ("Connection", "Options")),
        **dict.fromkeys(("testing", "reference/testing"), ("TestClient", "Server")),
    }
)
# Words rather than names.
WORDS = frozenset(
    {"broadcast", "counter", "cut", "drip", "flood", "garbage", "repeat", "reset", "socket", "stall", "step"}
    | {"state", "wait", "origin"}
)


class LinkNames(SphinxPostTransform):
    """Put a reference around each literal that is the name of something public."""

    default_priority = 20

    def run(self, **kwargs: object) -> None:
        """Called by Sphinx, for each page."""
        for literal in list(self.document.findall(nodes.literal)):
            above = list(_above(literal))
            if not any(isinstance(node, (nodes.reference, pending_xref, nodes.title)) for node in above):
                self._link(literal, above)

    def _link(self, literal: nodes.literal, above: list[nodes.Element]) -> None:
        match = NAME.fullmatch(literal.astext())
        if match is None or match[1] in WORDS:
            return
        here = {signature["ids"][0] for node in above for signature in _signatures(node)}
        known = self.env.domains.python_domain.objects
        for name in self._names(match[1], here):
            entry = known.get(name)
            if entry is not None and entry.objtype != "module":
                if entry.node_id not in here:  # not to where it stands
                    page, builder = self.env.docname, self.app.builder
                    literal.replace_self(
                        make_refnode(builder, page, entry.docname, entry.node_id, literal.deepcopy(), name)
                    )
                return

    def _names(self, text: str, here: set[str]) -> Iterator[str]:
        """The full names that a text may stand for, the likeliest first."""
        owner, dot, rest = text.partition(".")
        name = f"{OBJECTS.get(owner, owner)}.{rest}" if dot else text
        yield from (f"{owner_here}.{name}" for owner_here in here)
        owners = () if dot else MEANT.get(self.env.docname, ())
        yield from (f"{package}.{owner}.{name}" for owner in owners for package in PACKAGES[:2])
        yield name
        yield from (f"{package}.{name}" for package in PACKAGES)


def _above(node: nodes.Node) -> Iterator[nodes.Element]:
    while node.parent is not None:
        yield node.parent
        node = node.parent


def _signatures(node: nodes.Element) -> Iterator[desc_signature]:
    if isinstance(node, desc):
        yield from (child for child in node.children if isinstance(child, desc_signature) and child["ids"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
