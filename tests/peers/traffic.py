"""Traffic in both directions at once, checked to the byte."""

from __future__ import annotations

import threading
from collections import defaultdict

from wsclient import Connection

__all__ = ["exchange"]

_WAIT = 20.0  # seconds; bounds waits that take milliseconds
_THREADS = 8
_EACH = 40


def _text(sender: int, number: int) -> str:
    return f"{sender} {number} " + "grüße, κόσμε, 🌍! " * (number * 3)


def _binary(sender: int, number: int) -> bytes:
    return f"{sender} {number} ".encode() + bytes(range(256)) * (number * 2)


def exchange(conn: Connection) -> None:
    """Send texts and binary messages from many threads, and check what the server sends back.

    Each must come back whole, and each thread's in its order. The last ones are some 20 KiB long.
    """

    def send(sender: int) -> None:
        for number in range(_EACH):
            conn.send(_text(sender, number) if number % 2 else _binary(sender, number))

    workers = [threading.Thread(target=send, args=(sender,)) for sender in range(_THREADS)]
    for worker in workers:
        worker.start()
    echoes = [conn.recv(_WAIT) for _ in range(_THREADS * _EACH)]
    for worker in workers:
        worker.join(_WAIT)
    order = defaultdict(list)
    for echo in echoes:
        raw = echo.encode() if isinstance(echo, str) else echo
        sender, number = (int(part) for part in raw.split(b" ", 2)[:2])
        # Not in the assertion: pytest would compare kilobytes to explain a failure.
        whole = echo == (_text(sender, number) if number % 2 else _binary(sender, number))
        assert whole, f"message {number} of thread {sender} did not come back as it was"
        order[sender].append(number)
    assert order == {sender: list(range(_EACH)) for sender in range(_THREADS)}
