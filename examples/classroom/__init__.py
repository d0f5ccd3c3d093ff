"""A small classroom over WebSockets: the hub that the scenario tests talk to. See README.md."""

from __future__ import annotations
