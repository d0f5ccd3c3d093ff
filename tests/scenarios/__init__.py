"""Scenarios over a real network boundary: the hub of ``examples/classroom`` runs in another process."""

from __future__ import annotations
