"""What is sent, from websocket-client's frames to messages of ours."""

from __future__ import annotations

import os
import struct
from typing import Final, TypeAlias

from websocket import ABNF, WebSocketPayloadException

from wsclient.compat.errors import refuse

__all__ = [
    "Assembly",
    "Payload",
    "check_code",
    "close_parts",
    "frame_size",
    "message_of",
    "reason_text",
    "to_bytes",
]

Payload: TypeAlias = "str | bytes | bytearray | memoryview | None"  # None: an empty one, as there

_CODES: Final = 1 << 16


def frame_size(size: int) -> int:
    """Bytes on the wire of a frame with a payload of ``size`` bytes (RFC 6455, section 5.2)."""
    return size + 6 + (0 if size < 126 else 2 if size < 1 << 16 else 8)


def to_bytes(payload: Payload, opcode: int) -> bytes:
    """The bytes of a payload. As there, ``str`` is UTF-8 in a text frame, and Latin-1 in a binary one."""
    if isinstance(payload, str):
        return payload.encode("latin-1" if opcode == ABNF.OPCODE_BINARY else "utf-8")
    if isinstance(payload, int):  # bytes(5) would be five zeros
        raise TypeError(f"a payload must be str or bytes, not {type(payload).__name__}")
    return b"" if payload is None else bytes(payload)


def message_of(payload: Payload, opcode: int) -> str | bytes:
    """A message for ``Connection.send``."""
    if opcode == ABNF.OPCODE_BINARY:
        return to_bytes(payload, opcode)
    if isinstance(payload, str):
        return payload
    try:
        return to_bytes(payload, opcode).decode()
    except UnicodeDecodeError as error:
        raise WebSocketPayloadException("a text message must be UTF-8: send_bytes() sends bytes") from error


def reason_text(reason: str | bytes | None) -> str:
    """A close reason as ``str``."""
    return reason if isinstance(reason, str) else bytes(reason or b"").decode()


def close_parts(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame that is to be sent."""
    if len(payload) < 2:
        return 1000, ""
    return struct.unpack("!H", payload[:2])[0], payload[2:].decode()


def check_code(status: int) -> None:
    """Raise ``ValueError`` for what is no close code at all."""
    if not 0 <= status < _CODES:
        raise ValueError("code is invalid range")


class Assembly:
    """Frames of a fragmented message, until it is whole. For one thread at a time."""

    def __init__(self) -> None:
        self._opcode = 0  # the sending thread; 0 between messages
        self._parts: list[bytes] = []

    def add(self, frame: ABNF) -> str | bytes | None:
        """Take a data frame in; the whole message once it is the last one."""
        _check_frame(frame)
        if frame.opcode == ABNF.OPCODE_CONT and not self._opcode:
            raise ValueError("a continuation frame, and there is no message to continue")
        if frame.opcode != ABNF.OPCODE_CONT:
            if self._opcode:
                raise ValueError("a new message before the last frame of the one before")
            if frame.fin:
                return message_of(frame.data, frame.opcode)
            self._opcode = frame.opcode
        self._parts.append(to_bytes(frame.data, self._opcode))
        return self._finish() if frame.fin else None

    def _finish(self) -> str | bytes:
        message = message_of(b"".join(self._parts), self._opcode)
        self._opcode, self._parts = 0, []
        return message


def _check_frame(frame: ABNF) -> None:
    if frame.opcode not in ABNF.OPCODES:
        raise ValueError("Invalid OPCODE")
    if frame.rsv1 or frame.rsv2 or frame.rsv3:
        refuse("a frame with a reserved bit", "Connection(compression=...) has permessage-deflate")
    if not frame.mask_value or frame.get_mask_key is not os.urandom:
        refuse(
            "a frame with a mask of its own, or none",
            "keys are random, as RFC 6455, section 10.3, wants them",
        )
