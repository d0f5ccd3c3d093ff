"""A port that stays ours while nobody listens on it."""

from __future__ import annotations

import socket

__all__ = ["HOST", "hold_port"]

HOST = "127.0.0.1"


def hold_port() -> tuple[socket.socket, int]:
    """A socket that holds a port of 127.0.0.1, for the caller to close, and that port.

    It is bound and never listens. Another socket may be bound to the port too, and listen, if it also says
    SO_REUSEADDR; while none does, the system refuses connections, and gives the port to nobody else.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, 0))
    return holder, holder.getsockname()[1]
