"""The classroom's server: ``python -m examples.classroom.hub`` prints its URL and serves until told to stop.

``/ws?user_id=...&role=...&session_id=...`` is the classroom, ``/stats`` says in JSON who is there and what
was counted. README.md describes the messages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from examples.classroom.protocol import Refused, Visitor, parse_visitor
from examples.classroom.room import Limits, Session

__all__ = ["Hub", "main"]


class Hub:
    """All sessions behind one port."""

    def __init__(self, session_ids: Sequence[str], limits: Limits) -> None:
        self._limits = limits
        self._sessions = {session_id: Session(session_id, limits) for session_id in session_ids}

    async def start(self, host: str, port: int) -> Server:
        """Listen; port 0 takes a free one."""
        return await serve(
            self._attend,
            host,
            port,
            process_request=self._receive_visitor,
            max_size=self._limits.max_frame,
            compression=None,
            close_timeout=self._limits.patience,
        )

    def _receive_visitor(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is no visit to the classroom; ``None`` lets the upgrade go on."""
        path, query = urlsplit(request.path).path, urlsplit(request.path).query
        if path == "/stats":
            return connection.respond(HTTPStatus.OK, json.dumps(self._describe()))
        if path != "/ws":
            return connection.respond(HTTPStatus.NOT_FOUND, "the classroom is at /ws\n")
        try:
            self._session_of(parse_visitor(query))
        except Refused as error:
            return connection.respond(HTTPStatus(error.status), f"{error}\n")
        return None

    def _describe(self) -> dict[str, object]:
        return {session_id: session.describe() for session_id, session in self._sessions.items()}

    def _session_of(self, visitor: Visitor) -> Session:
        session = self._sessions.get(visitor.session_id)
        if session is None:
            raise Refused("visitor", "unknown session", HTTPStatus.NOT_FOUND)
        return session

    async def _attend(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        visitor = parse_visitor(urlsplit(connection.request.path).query)
        session = self._session_of(visitor)
        member = session.admit(visitor, connection)
        writer = asyncio.create_task(member.write())
        try:
            with suppress(ConnectionClosed):
                async for raw in connection:
                    session.hear(member, raw)
        finally:
            session.leave(member)
            writer.cancel()
            await asyncio.wait([writer])
            await member.finish()
        if not writer.cancelled():
            writer.result()  # raises what it failed with


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the hub from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.classroom.hub", description="A classroom hub.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument(
        "--session", action="append", help="a session to hold; may be repeated (default: demo)"
    )
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    for limit in fields(Limits):
        assert isinstance(limit.default, int | float)
        name = "--" + limit.name.replace("_", "-")
        parser.add_argument(name, type=type(limit.default), default=limit.default, help="%(default)s")
    chosen = parser.parse_args(arguments)
    limits = Limits(**{limit.name: getattr(chosen, limit.name) for limit in fields(Limits)})
    hub = Hub(chosen.session or ["demo"], limits)
    asyncio.run(_run(hub, chosen.host, chosen.port, with_parent=chosen.with_parent))


async def _run(hub: Hub, host: str, port: int, *, with_parent: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: there, Ctrl-C interrupts the loop
            loop.add_signal_handler(number, stop.set)
    if with_parent:
        threading.Thread(target=_stop_at_end_of_input, args=(loop, stop), daemon=True).start()
    try:
        server = await hub.start(host, port)
    except OSError as error:  # the port is taken, or the address is not ours
        sys.exit(f"hub: {error.strerror or error}")
    async with server:
        address = next(iter(server.sockets)).getsockname()
        print(f"http://{address[0]}:{address[1]}", flush=True)
        await stop.wait()


def _stop_at_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # Not sys.stdin.read(): its lock, held by a daemon thread, would abort the interpreter at its end.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    with suppress(RuntimeError):  # the loop is closed: the hub has stopped by itself
        loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    main()
