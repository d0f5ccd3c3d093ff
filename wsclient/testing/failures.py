"""The errors of the test kit. Each is an ``AssertionError``: a test that meets one has failed.

::

    AssertionError
    ├── WaitFailed                              what was awaited did not come
    │   ├── WaitTimeout (wsclient.Timeout)      ... in time
    │   └── ClosedWhileWaiting (wsclient.ConnectionClosed)
    └── HandlerFailed                           a handler of ``serve`` raised, or did not end
"""

from __future__ import annotations

from collections.abc import Sequence

from wsclient import ConnectionClosed, Timeout

__all__ = ["ClosedWhileWaiting", "HandlerFailed", "UnparsedMessage", "WaitFailed", "WaitTimeout"]


class WaitFailed(AssertionError):
    """What a test waited for did not come. The text says what, and shows the transcript."""


class WaitTimeout(WaitFailed, Timeout):
    """It did not come in time. Also a ``wsclient.Timeout``, hence a ``TimeoutError``."""


class ClosedWhileWaiting(WaitFailed, ConnectionClosed):
    """The connection ended first. Also a ``wsclient.ConnectionClosed``, with its attributes."""

    def __init__(self, text: str, code: int, reason: str, unsent: Sequence[str | bytes] = ()) -> None:
        ConnectionClosed.__init__(
            self, code, reason, unsent
        )  # super() is an AssertionError, which knows none of it
        self.text = text

    def __str__(self) -> str:
        return self.text


class HandlerFailed(AssertionError):
    """A handler of ``serve`` raised, or did not end. The text has its traceback."""


class UnparsedMessage(ValueError):
    """A message that is no JSON.

    Attributes:
        message: as it came, ``str`` or ``bytes``.
    """

    def __init__(self, message: str | bytes, error: Exception) -> None:
        super().__init__(f"not JSON ({error}): {message!r}")
        self.message = message
