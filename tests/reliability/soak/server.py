"""The verifying server, for messages in fragments and compressed ones, too. It sends some of them back.

A message is in the journal before the next frame is looked at, as in ``reliability.server``.
"""

from __future__ import annotations

import zlib

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from reliability.server import Receiver, main
from reliability.soak.names import ECHO_EVERY, GREETING

__all__ = ["MixedReceiver"]

_EXTENSIONS = "Sec-WebSocket-Extensions"
_DATA = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION)
_TAIL = b"\x00\x00\xff\xff"  # what RFC 7692, section 7.2.1 has the sender leave out


class MixedReceiver(Receiver):
    """One connection. Owned by the event loop."""

    # Owned by the event loop; made with the first frame, since most connections have no use for them.
    _parts: tuple[bytes, ...] = ()
    _is_compressed = False
    _count = 0
    _inflate: zlib._Decompress | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type not in _DATA:
            super().on_ws_frame(transport, frame)
        elif (message := self._assemble(frame)) is not None and message != GREETING:
            self._receive(message, whole=True)
            self._count += 1
            if self._count % ECHO_EVERY == 0:
                transport.send(WSMsgType.TEXT, message)

    def _assemble(self, frame: WSFrame) -> bytes | None:
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._parts, self._is_compressed = (), bool(frame.rsv1)
        self._parts += (frame.get_payload_as_bytes(),)
        if not frame.fin:
            return None
        whole, self._parts = b"".join(self._parts), ()
        return self._inflated(whole) if self._is_compressed else whole

    def _inflated(self, data: bytes) -> bytes:
        if self._inflate is None:
            self._inflate = zlib.decompressobj(-15)
        return self._inflate.decompress(data + _TAIL)


def accept(request: WSUpgradeRequest, receiver: Receiver) -> WSListener | WSUpgradeResponseWithListener:
    """Agree to permessage-deflate where it is offered; nothing that this server sends is compressed."""
    if "permessage-deflate" not in request.headers.get(_EXTENSIONS, ""):
        return receiver
    response = WSUpgradeResponse.create_101_response({_EXTENSIONS: "permessage-deflate"})
    return WSUpgradeResponseWithListener(response, receiver)


if __name__ == "__main__":
    main(accept, MixedReceiver)
