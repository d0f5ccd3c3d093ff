"""What starts and stops the workers of one process, and how they wait for a moment."""

from __future__ import annotations

import math
import threading
from time import monotonic, sleep
from typing import Final

__all__ = ["PATIENCE", "Control"]

PATIENCE: Final = 0.1  # seconds after which a sleeping worker looks whether it is to stop


class Control:
    """One for all workers of a process. Thread-safe."""

    def __init__(self) -> None:
        self._started = threading.Event()
        self._start = math.inf  # set once, before _started
        self.stopping: bool = False  # any thread sets it, once
        self.stopped_at: float | None = None  # the same; monotonic clock

    @property
    def start_time(self) -> float:
        """When the run starts, on the monotonic clock; infinite until that is known."""
        return self._start

    def start(self, at: float) -> None:
        """Let everybody know when it starts."""
        self._start = at
        self._started.set()

    def stop(self) -> None:
        """End early: nothing new is sent."""
        if not self.stopping:
            self.stopped_at = monotonic()
            self.stopping = True
        self._started.set()

    def wait_started(self) -> bool:
        """Wait for the start; ``False`` if it was stopped first."""
        self._started.wait()
        return not self.stopping

    def sleep_until(self, moment: float) -> bool:
        """Sleep until a moment of the monotonic clock; ``False`` as soon as it is to stop."""
        while not self.stopping:
            left = moment - monotonic()
            if left <= 0:
                return True
            sleep(min(left, PATIENCE))
        return False
