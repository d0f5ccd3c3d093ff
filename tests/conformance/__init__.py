"""The Autobahn Testsuite against wsclient, and against others for comparison.

``python -m conformance``, with ``tests`` on the path, is what ``make conformance`` runs, and what makes
docs/conformance.md. The suite's server is a program for Python 2.7, in a process of its own; the clients run
in this one.
"""

from __future__ import annotations
