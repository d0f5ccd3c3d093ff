"""What the proxy does, and after how many bytes: by seed, to the byte. Pure."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Fault", "FrameEnds", "Step", "marks", "script"]

_EXTENDED = {126: 2, 127: 8}  # bytes of the extended payload length (RFC 6455, section 5.2)
_JITTER = 0.3  # of the distance between two faults
_PART = 0.75  # of the traffic: the last fault finds some, though what is in doubt may never be sent again


class Fault(enum.Enum):
    """What can go wrong between two machines."""

    FIN = "both sides get FIN, between two frames of the client"
    RST = "both sides get RST, between two frames of the client"
    MID_FRAME = "both sides get FIN, the server in the middle of a frame"
    STALL = "nothing goes in either direction"
    STALL_UP = "nothing goes from the client to the server"
    STALL_DOWN = "nothing goes from the server to the client"
    DELAY = "every chunk waits"
    THROTTLE = "few bytes a second go in each direction"
    REFUSE = "RST, and new connections are refused"


@dataclass(frozen=True)
class Step:
    """One fault.

    Attributes:
        fault: which.
        after: bytes that clients have sent to the server, over all connections, since the proxy started.
        lasting: seconds until it is over by itself; 0: until ``heal``. Cuts are over at once.
        amount: ``DELAY``: seconds for each chunk; ``THROTTLE``: bytes a second.
    """

    fault: Fault
    after: int = 0
    lasting: float = 0.0
    amount: float = 0.0

    def position(self, passed: int, ends: Sequence[int], start: int, size: int) -> int | None:
        """Where in a chunk this step happens, or ``None`` if it is not in there.

        Args:
            passed: bytes before this chunk.
            ends: offsets in the chunk at which a frame ends.
            start: offset in the chunk from which on it has not been forwarded.
            size: of the chunk.
        """
        due = max(self.after - passed, start)
        if self.fault in (Fault.FIN, Fault.RST):
            return next((end for end in ends if end >= due), None)
        if self.fault is Fault.MID_FRAME and due in ends:
            due += 1
        return due if due < size else None


class FrameEnds:
    """Finds where frames end in what a client sends (RFC 6455, section 5.2), behind its request."""

    def __init__(self) -> None:
        self._head = b""  # of the request, or of the frame that is under way
        self._is_open = False  # the request is over
        self._payload = 0  # bytes of the frame under way that are still to come

    def feed(self, data: bytes) -> list[int]:
        """The offsets in ``data`` that are between two frames, or right behind the request."""
        found = [0] if self._is_between() else []
        at = 0
        while at < len(data):
            at = self._skip(data, at)
            if self._is_between():
                found.append(at)
        return found

    def _is_between(self) -> bool:
        return self._is_open and not self._head and not self._payload

    def _skip(self, data: bytes, at: int) -> int:
        # Over what is left of the payload, or one byte of a head.
        if self._payload:
            step = min(self._payload, len(data) - at)
            self._payload -= step
            return at + step
        self._head += data[at : at + 1]
        self._end_head()
        return at + 1

    def _end_head(self) -> None:
        if not self._is_open:
            if self._head.endswith(b"\r\n\r\n"):
                self._head, self._is_open = b"", True
            return
        if len(self._head) < 2:
            return
        short, masked = self._head[1] & 0x7F, self._head[1] & 0x80
        extended = _EXTENDED.get(short, 0)
        if len(self._head) == 2 + extended + (4 if masked else 0):
            self._payload = int.from_bytes(self._head[2 : 2 + extended], "big") if extended else short
            self._head = b""


def marks(total: int, count: int, seed: int) -> tuple[int, ...]:
    """``count`` rising numbers in the first part of ``total``, about evenly spread, by seed."""
    chance = random.Random(seed)
    part = _PART * total / (count + 1)
    return tuple(
        max(1, round(part * (number + 1 + chance.uniform(-_JITTER, _JITTER)))) for number in range(count)
    )


def script(
    faults: Sequence[Fault],
    count: int,
    total: int,
    seed: int,
    *,
    lasting: tuple[float, float] = (0.0, 0.0),
    amount: float = 0.0,
) -> tuple[Step, ...]:
    """``count`` steps within ``total`` bytes, their faults and times (between two limits) drawn by seed."""
    chance = random.Random(seed)
    return tuple(
        Step(chance.choice(faults), after, chance.uniform(*lasting), amount)
        for after in marks(total, count, seed)
    )
