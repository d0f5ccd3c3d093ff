"""How ``make docs`` builds the pages: from what is here, and nothing from the network."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "_extensions")]

from wsclient import __version__  # noqa: E402 - of this tree, wherever Sphinx was started

project = "wsclient"
author = project_copyright = "wsclient contributors"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "myst_parser",
    "sphinx_copybutton",
    "docstrings",
    "code_links",
    "build_checks",
]
# These go with packages that a tree may not have.
PACKAGES = ("compat", "load", "locust")
OPTIONAL_PAGES = ("cli", "load", "locust", "migrating", *(f"reference/{name}" for name in PACKAGES))
PRESENT = [name for name in PACKAGES if (ROOT / "wsclient" / name).is_dir()]
exclude_patterns = ["_extensions", *(f"reference/{name}.md" for name in PACKAGES if name not in PRESENT)]
# Every name in their `__all__` needs an entry in the reference. Those of `compat` have rows in migrating.md.
public_modules = [
    "wsclient",
    "wsclient.testing",
    "wsclient.check",
    *(f"wsclient.{name}" for name in PRESENT if name != "compat"),
]

if "locust" in PRESENT:
    # The real ones would patch the standard library under Sphinx, and the package looks whether they did.
    autodoc_mock_imports = ["gevent", "locust"]
    monkey = SimpleNamespace(is_module_patched=lambda name: True)
    sys.modules["gevent"] = gevent = ModuleType("gevent")
    vars(gevent).update(__path__=[], monkey=monkey, GreenletExit=type("GreenletExit", (BaseException,), {}))

# What the type annotations name of the standard library has no page here; everything of ours must have one.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!wsclient\b).*"),
    ("py:class", r"wsclient\.[\w.]+\.[A-Z]"),  # type variables
]
nitpick_ignore = [("py:class", "wsclient.testing.factories.HasURL")]  # anything with a `url`

myst_heading_anchors = 4
highlight_language = "none"  # blocks of other kinds, such as what programs print, are shown as they are
copybutton_prompt_text = "$ "

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"wsclient {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
# A page that was opened as a file cannot fetch others; the results of a search come without their summaries.
html_show_search_summary = False
html_theme_options = {"navigation_with_keys": True}


def _adapt(app: Sphinx, name: str, source: list[str]) -> None:
    # On the web page of the repository the front page is its README; here it is the index.
    source[0] = re.sub(r"\]\(\.\./README\.md", "](index.md", source[0])
    if name == "index":
        for page in set(OPTIONAL_PAGES) - app.env.found_docs:
            source[0] = source[0].replace(f"\n{page}\n", "\n")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _adapt)
