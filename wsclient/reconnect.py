"""Whether and when a lost connection is opened again, and what the application is told about it. Pure."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final

from wsclient.exceptions import ConnectFailed, HandshakeError, HandshakeTimeout

__all__ = ["Delivery", "Disconnect", "DisconnectKind", "Reconnect", "failed_attempt", "should_retry"]

# RFC 9110 and RFC 6585: what may be different the next time.
_TRANSIENT: Final = frozenset({408, 425, 429})
_MAX_SECONDS: Final = 86_400.0


class DisconnectKind(enum.Enum):
    """Why there is no connection."""

    LOST = "lost"  # reset, end of stream without a close frame, a write that failed
    CLOSED_BY_SERVER = "closed by server"  # the server's close frame; `code` and `text` are its
    KEEPALIVE = "keepalive"  # no pong in time, or a write without progress for write_timeout
    PROTOCOL_ERROR = "protocol error"  # the server broke RFC 6455; `code` is what we closed with
    CONNECT_FAILED = "connect failed"  # an attempt: DNS, TCP, the proxy, TLS, or open_timeout
    HANDSHAKE_REJECTED = "handshake rejected"  # ... the server's answer, see `status`, or a callable failed


class Delivery(str, enum.Enum):
    """What becomes of messages that were written to a connection that is lost."""

    AT_MOST_ONCE = "at_most_once"  # they are handed back: Disconnect.in_doubt
    AT_LEAST_ONCE = "at_least_once"  # they are sent again, first, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """Why a connection was lost, or an attempt to open it again failed: for ``retry`` and ``on_disconnect``.

    Its ``repr``, which may end up in a log, does not show messages.

    Attributes:
        kind: why.
        code: close code (RFC 6455, section 7.4); 1006 without a close frame, ``None`` for an attempt.
        text: close reason, or what went wrong.
        status: HTTP status of a rejected attempt.
        retry_after: seconds that the server asked to wait (RFC 9110, section 10.2.3).
        permanent: the server's certificate was refused: trying again cannot help.
        attempt: attempts that have failed since the connection was lost.
        error: the exception behind it.
        in_doubt: what was written and may not have arrived, in order, with ``delivery="at_most_once"``.
        forgotten: how many more there were, for which ``max_in_doubt_bytes`` had no room.
        unsent: messages of ``on_reconnect`` that were not written; the next ``on_reconnect`` sends its own.
    """

    kind: DisconnectKind
    code: int | None = None
    text: str = ""
    status: int | None = None
    retry_after: float | None = None
    permanent: bool = False
    attempt: int = 0
    error: BaseException | None = None
    in_doubt: tuple[str | bytes, ...] = field(default=(), repr=False)
    forgotten: int = 0
    unsent: tuple[str | bytes, ...] = field(default=(), repr=False)


def should_retry(reason: Disconnect) -> bool:
    """The default of ``Reconnect.retry``: yes, but for refused certificates and lasting 4xx answers."""
    if reason.permanent:
        return False
    return reason.status is None or not 400 <= reason.status < 500 or reason.status in _TRANSIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """How a lost connection is opened again: after delays that grow, until it is open or ``retry`` says no.

    Attributes:
        initial_delay: seconds before the first attempt.
        max_delay: seconds before any attempt, at most, but for what ``Retry-After`` asks.
        multiplier: how much longer each delay is than the one before.
        jitter: ``"full"``: each delay is drawn between 0 and its length, so that clients do not come back all
            at once; ``"none"``: as it is.
        max_attempts: failed attempts in a row before it is given up; ``None``: no limit.
        retry: decides, given a ``Disconnect``, whether to try (again). Runs on the reader thread. By default
            always, but for refused certificates and for 4xx answers other than 408, 425 and 429.

    Raises:
        TypeError, ValueError: naming the field that is wrong.
    """

    initial_delay: float = 0.5
    max_delay: float = 30.0
    multiplier: float = 2.0
    jitter: str = "full"
    max_attempts: int | None = None
    retry: Callable[[Disconnect], bool] = should_retry

    def __post_init__(self) -> None:
        _check_number("initial_delay", self.initial_delay, 0.0)
        _check_number("max_delay", self.max_delay, 0.0)
        _check_number("multiplier", self.multiplier, 1.0)
        if self.jitter not in ("full", "none"):
            raise ValueError(f"reconnect: jitter: must be 'full' or 'none', not {self.jitter!r}")
        most = self.max_attempts
        if most is not None and (isinstance(most, bool) or not isinstance(most, int)):
            raise TypeError(f"reconnect: max_attempts: must be int or None, not {type(most).__name__}")
        if most is not None and most < 1:
            raise ValueError(f"reconnect: max_attempts: must be at least 1, not {most}")
        if not callable(self.retry):
            raise TypeError(f"reconnect: retry: must be callable, not {type(self.retry).__name__}")

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds before the attempt that comes after ``attempt`` failed ones."""
        try:
            whole = min(self.initial_delay * float(self.multiplier) ** attempt, self.max_delay)
        except OverflowError:
            whole = self.max_delay if self.initial_delay else 0.0
        drawn = random.uniform(0.0, whole) if self.jitter == "full" else whole
        return max(drawn, retry_after or 0.0)


def _check_number(name: str, value: object, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"reconnect: {name}: must be a number, not {type(value).__name__}")
    if not least <= value <= _MAX_SECONDS:  # refuses NaN too
        raise ValueError(f"reconnect: {name}: must be {least:g} to {_MAX_SECONDS:,.0f}, not {value}")


def failed_attempt(error: BaseException, attempt: int, permanent: bool) -> Disconnect:
    """Tell about an attempt that ended with ``error``."""
    rejected = isinstance(error, HandshakeError) and not isinstance(error, (ConnectFailed, HandshakeTimeout))
    headers = error.headers if isinstance(error, HandshakeError) else {}
    return Disconnect(
        kind=DisconnectKind.HANDSHAKE_REJECTED if rejected else DisconnectKind.CONNECT_FAILED,
        text=str(error) or type(error).__name__,
        status=error.status if isinstance(error, HandshakeError) else None,
        retry_after=_retry_after(headers.get("retry-after"), headers.get("date")),
        permanent=permanent,
        attempt=attempt,
        error=error,
    )


def _retry_after(value: str | None, date: str | None) -> float | None:
    """Seconds, or a date, which is understood by the server's own clock: ours may be wrong."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _MAX_SECONDS)
    try:
        seconds = (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds()
    except (ArithmeticError, LookupError, TypeError, ValueError):  # whatever a server may write there
        return None
    return min(max(seconds, 0.0), _MAX_SECONDS)
