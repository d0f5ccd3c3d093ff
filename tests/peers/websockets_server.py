"""The ``websockets`` asyncio server as a peer: ``python -m peers.websockets_server``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from peers.paths import NO_ID, PATHS, Target, cut, wait_for_end_of_input

End = tuple[int, str]


class Peer:
    """The paths of ``peers``, for one server."""

    def __init__(self) -> None:
        # Owned by the event loop.
        self._ends: defaultdict[str, asyncio.Future[End]] = defaultdict(
            lambda: asyncio.get_running_loop().create_future()
        )

    def check_path(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse an unknown path."""
        known = Target.parse(request.path).path in PATHS
        return None if known else connection.respond(HTTPStatus.NOT_FOUND, "no such path\n")

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one connection until it ends, then note how it ended."""
        assert connection.request is not None
        target = Target.parse(connection.request.path)
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await self._answer(connection, target, message)
        await connection.close()  # reads on, where a handler that stopped early left messages unread
        if target.id != NO_ID:
            code = connection.close_code
            self._ends[target.id].set_result((1006 if code is None else code, connection.close_reason or ""))

    async def _answer(self, connection: ServerConnection, target: Target, message: str | bytes) -> None:
        if target.path == "/echo":
            await connection.send(message)
        elif target.path == "/fragments":
            text = isinstance(message, str)
            raw = message.encode() if isinstance(message, str) else message
            await connection.send(cut(raw, target.pieces), text=text)
        elif target.path == "/ping":
            await (await connection.ping(message))
            await connection.send(f"pong {message if isinstance(message, str) else message.decode()}")
        elif target.path == "/close":
            await connection.close(target.code, str(message))
        elif target.path == "/drop":
            connection.transport.abort()
        else:
            await connection.send(json.dumps(await self._ends[target.of]))


async def main() -> None:
    """Serve until standard input ends."""
    peer = Peer()
    options: dict[str, Any] = {"max_size": None, "close_timeout": 2}
    async with serve(peer.handle, "127.0.0.1", 0, process_request=peer.check_path, **options) as server:
        print(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await asyncio.to_thread(wait_for_end_of_input)


if __name__ == "__main__":
    asyncio.run(main())
