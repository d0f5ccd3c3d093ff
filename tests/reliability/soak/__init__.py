"""Everything at once, for as long as you like: ``python -m reliability.soak``, or ``make soak``.

Connections of all kinds are opened and closed, send all kinds of messages, and have callbacks that raise,
while faults come at random by seed. After each round all are closed, and what is left is counted (``judge``):
threads, open files and memory must not grow, and the account of every connection must be balanced.
"""

from __future__ import annotations
