"""A bad cable between two TUN devices: ``python -m reliability.wire FD FD SEED``.

Where the kernel has no ``tc netem``, this loses and delays IP packets in its place. It reads lines from its
standard input, ``LOSS DELAY``: the part of the packets to lose and the seconds to hold each; it answers each
line with one of its own, and ends when there are no more.
"""

from __future__ import annotations

import errno
import heapq
import os
import random
import selectors
import sys
import time

__all__ = ["Wire"]

_PACKET = 65536
_NOT_NOW = (errno.EAGAIN, errno.EIO, errno.ENOBUFS, errno.EINVAL)  # EIO: the interface is down


class Wire:
    """What becomes of each packet. Looks at no clock."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._under_way: list[tuple[float, int, int, bytes]] = []  # due, order, where to, packet
        self._count = 0
        self.loss = 0.0
        self.delay = 0.0

    def take(self, packet: bytes, sink: int, now: float) -> None:
        """A packet enters."""
        if self._chance.random() >= self.loss:
            self._count += 1
            heapq.heappush(self._under_way, (now + self.delay, self._count, sink, packet))

    def due(self, now: float) -> list[tuple[int, bytes]]:
        """The packets that leave, and where."""
        leaving = []
        while self._under_way and self._under_way[0][0] <= now:
            _, _, sink, packet = heapq.heappop(self._under_way)
            leaving.append((sink, packet))
        return leaving

    def patience(self, now: float) -> float | None:
        """Seconds until the next packet leaves; ``None`` if none is under way."""
        return max(0.0, self._under_way[0][0] - now) if self._under_way else None


def _read(fd: int) -> list[bytes]:
    packets: list[bytes] = []
    while len(packets) < 64:
        try:
            packets.append(os.read(fd, _PACKET))
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise
            break
    return packets


def _write(fd: int, packet: bytes) -> None:
    try:
        os.write(fd, packet)
    except OSError as error:  # that one is lost, as in any full or broken cable
        if error.errno not in _NOT_NOW:
            raise


def run(ends: tuple[int, int], wire: Wire) -> None:
    """Carry packets until standard input ends."""
    orders = sys.stdin.fileno()
    with selectors.DefaultSelector() as selector:
        for fd in (*ends, orders):
            selector.register(fd, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select(wire.patience(time.monotonic()))}
            if orders in ready and not _obey(wire, os.read(orders, 100)):
                return
            for source, sink in (ends, ends[::-1]):
                for packet in _read(source) if source in ready else ():
                    wire.take(packet, sink, time.monotonic())
            for sink, packet in wire.due(time.monotonic()):
                _write(sink, packet)


def _obey(wire: Wire, line: bytes) -> bool:
    # ``False`` when there are no more orders.
    if line:
        wire.loss, wire.delay = map(float, line.split())
        print("done", flush=True)
    return bool(line)


def main() -> None:
    """Read the arguments, and carry."""
    near, far, seed = map(int, sys.argv[1:])
    print("ready", flush=True)
    run((near, far), Wire(seed))


if __name__ == "__main__":
    main()
