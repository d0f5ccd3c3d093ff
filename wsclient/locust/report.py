"""What Locust is told: one ``request`` event for each thing that happened, with its time in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from locust.exception import RescheduleTask

__all__ = ["Kind", "Measured", "Report", "RequestFailed", "size_of"]

_MILLISECONDS = 1000.0


class Kind(str, Enum):
    """The column "Type" of Locust's tables; the letters are those of Locust's own Socket.IO user."""

    CONNECTION = "WS"  # connect, close, and what befalls a connection
    SEND = "WSS"
    REQUEST = "WSC"  # a message and its reply
    RECEIVE = "WSR"


class RequestFailed(RescheduleTask):
    """What a method of the client was to do failed, and Locust has been told; ``__cause__`` says why.

    A task that does not catch it ends here: the user waits its time, and goes on with the next task.
    """


@dataclass(slots=True)
class Measured:
    """What is filled in while it is measured: the size of what came or went, in bytes."""

    length: int = 0  # the measuring greenlet
    response: object = None  # the same


class Report:
    """Fires the ``request`` event of one user.

    Args:
        fire: that of Locust's ``events.request``.
        context: asked for the user's context at each event.
    """

    def __init__(self, fire: Callable[..., object], context: Callable[[], dict[str, Any]]) -> None:
        self._fire = fire
        self._context = context

    @contextmanager
    def measure(self, kind: Kind, name: str) -> Iterator[Measured]:
        """Time what is done within, and tell of it, failed or not.

        Raises:
            RequestFailed: instead of any ``Exception``. A user that is stopped meanwhile is told of nowhere.
        """
        measured = Measured()
        began, start = time.time(), time.perf_counter()
        try:
            yield measured
        except Exception as error:
            self.tell(kind, name, _elapsed(start), measured, error, began)
            raise RequestFailed(f"{kind.value} {name}: {error}") from error
        self.tell(kind, name, _elapsed(start), measured, None, began)

    def tell(
        self,
        kind: Kind,
        name: str,
        milliseconds: float | None = None,
        measured: Measured | None = None,
        error: Exception | None = None,
        began: float | None = None,
    ) -> None:
        """Fire one event. Without ``milliseconds`` it counts, and enters no percentile."""
        measured = measured or Measured()
        self._fire(
            request_type=kind.value,
            name=name,
            response_time=milliseconds,
            response_length=measured.length,
            response=measured.response,
            exception=error,
            context=self._context(),
            start_time=time.time() if began is None else began,
            url=None,
        )


def size_of(message: str | bytes) -> int:
    """Bytes of a message on the wire, uncompressed."""
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())


def _elapsed(start: float) -> float:
    return (time.perf_counter() - start) * _MILLISECONDS
