"""Faults, injected for real, and an account of every message.

``python -m tests.reliability SCENARIO`` runs one scenario: threads send messages that prove themselves
through one ``Connection`` to a server in another process, faults happen meanwhile, and in the end each
message that was accepted is received, in doubt, or unsent. Any other is lost, and there must be none.

The server writes down what it receives before it answers anything, so that what it knows outlives its
SIGKILL (``journal``, ``server``). Faults come from a proxy (``proxy``), from signals to the server
(``servers``), from network namespaces (``namespaces``) and from limits of a process (``limits``).
"""

from __future__ import annotations
