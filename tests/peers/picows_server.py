"""``picows`` as a peer: ``python -m peers.picows_server``."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from peers.paths import NO_ID, PATHS, Target, cut, wait_for_end_of_input

MAX_FRAME = 64 * 1024 * 1024
NO_CODE = 1005  # RFC 6455, section 7.4.1: the close frame had none


class Ends:
    """How connections ended, for those who ask, before or after. Owned by the event loop."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, str]] = {}
        self._asking: defaultdict[str, list[WSTransport]] = defaultdict(list)

    def note(self, connection_id: str, code: int, reason: str) -> None:
        self._known[connection_id] = (code, reason)
        for transport in self._asking.pop(connection_id, []):
            self.tell(connection_id, transport)

    def tell(self, connection_id: str, transport: WSTransport) -> None:
        if connection_id in self._known:
            transport.send(WSMsgType.TEXT, json.dumps(self._known[connection_id]).encode())
        else:
            self._asking[connection_id].append(transport)


class Peer(WSListener):
    """The paths of ``peers``, for one connection. Owned by the event loop."""

    def __init__(self, target: Target, ends: Ends) -> None:
        self._target = target
        self._ends = ends
        self._end = (1006, "")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self._close(transport, frame)
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.PONG:
            if self._target.path == "/ping":
                transport.send(WSMsgType.TEXT, b"pong " + frame.get_payload_as_bytes())
        else:
            assert frame.fin, "wsclient does not cut messages"
            self._answer(transport, frame.msg_type, frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._target.id != NO_ID:
            self._ends.note(self._target.id, *self._end)

    def _close(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        code = int.from_bytes(payload[:2], "big") if payload else NO_CODE
        self._end = (code, payload[2:].decode())
        if not transport.is_close_frame_sent:
            transport.send(WSMsgType.CLOSE, payload[:2])
        transport.disconnect()

    def _answer(self, transport: WSTransport, kind: WSMsgType, payload: bytes) -> None:
        if self._target.path == "/echo":
            transport.send(kind, payload)
        elif self._target.path == "/fragments":
            *first, last = cut(payload, self._target.pieces)
            for number, piece in enumerate(first):
                transport.send(WSMsgType.CONTINUATION if number else kind, piece, fin=False)
            transport.send(WSMsgType.CONTINUATION if first else kind, last)
        elif self._target.path == "/ping":
            transport.send_ping(payload)
        elif self._target.path == "/close":
            transport.send(WSMsgType.CLOSE, self._target.code.to_bytes(2, "big") + payload)
        elif self._target.path == "/drop":
            transport.disconnect(graceful=False)
        else:
            self._ends.tell(self._target.of, transport)


async def main() -> None:
    """Serve until standard input ends."""
    ends = Ends()

    def listen(request: WSUpgradeRequest) -> WSListener | None:
        target = Target.parse(request.path.decode())
        return Peer(target, ends) if target.path in PATHS else None

    server = await ws_create_server(listen, "127.0.0.1", 0, max_frame_size=MAX_FRAME)
    print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(wait_for_end_of_input)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
