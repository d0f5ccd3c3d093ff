"""What a load run has found, for people and programs: HTML, JSON, CSV, JUnit; functions of a ``Result``.

Nothing secret is in any of them: of URLs, also of those in error texts, user info and values of the query are
masked. Texts of a server are data: escaped, with control characters shown.
"""

from __future__ import annotations

from wsclient.load.report.junit import to_junit
from wsclient.load.report.page import render_html
from wsclient.load.report.tables import JSON_VERSION, to_csv, to_json

__all__ = ["JSON_VERSION", "render_html", "to_csv", "to_json", "to_junit"]
