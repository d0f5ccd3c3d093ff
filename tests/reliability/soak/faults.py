"""What goes wrong, at random by seed: the network, through the proxy, and the server itself."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator

from reliability.proxy import FaultProxy
from reliability.script import Fault, Step
from reliability.servers import VerifyingServer

__all__ = ["Faults", "cuts_in_frames"]

_GAP_SECONDS = (0.3, 2.5)
_LASTING_SECONDS = (0.1, 2.5)  # shorter and longer than a keepalive takes to notice
_DELAY_SECONDS = 0.02
_SLOW_BYTES = 20_000  # a second
_CUT_BYTES = (2_000_000, 20_000_000)  # between two cuts in the middle of a frame
_FAULTS = (*(fault for fault in Fault if fault is not Fault.MID_FRAME), "kill", "pause")


def cuts_in_frames(seed: int) -> Iterator[Step]:
    """A script for the proxy: a cut now and then, by the bytes that have passed; it never ends."""
    chance, after = random.Random(seed), 0
    while True:
        after += chance.randint(*_CUT_BYTES)
        yield Step(Fault.MID_FRAME, after)


class Faults:
    """Owned by one thread, and the server with it; ``count`` may be read by others."""

    def __init__(self, proxy: FaultProxy, server: VerifyingServer, seed: int) -> None:
        self._proxy = proxy
        self._server = server
        self._chance = random.Random(seed)
        self.signals = Counter[str]()  # kills and pauses of the server

    @property
    def count(self) -> int:
        """How many so far."""
        return sum(self.signals.values()) + sum(self._proxy.injected.values())

    def run(self, stop: threading.Event) -> None:
        """One after the other, until ``stop``; then none lasts any more."""
        while not stop.wait(self._chance.uniform(*_GAP_SECONDS)):
            self._inject(self._chance.choice(_FAULTS), self._chance.uniform(*_LASTING_SECONDS), stop)
        self._proxy.heal()

    def _inject(self, fault: Fault | str, lasting: float, stop: threading.Event) -> None:
        if isinstance(fault, Fault):
            amount = {Fault.DELAY: _DELAY_SECONDS, Fault.THROTTLE: _SLOW_BYTES}.get(fault, 0.0)
            self._proxy.inject(fault, lasting=lasting, amount=amount)
            return
        self.signals[fault] += 1
        if fault == "kill":
            self._server.kill()
            self._server.start()
        else:
            self._server.pause()
            stop.wait(lasting)
            self._server.resume()
