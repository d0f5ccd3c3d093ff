"""A connection for one command: opened with its settings, closed at its end, errors as exit statuses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wsclient import Connection, ConnectionClosed, Disconnect, HandshakeError, WSClientError
from wsclient.cli.exits import failure_of, option_fault
from wsclient.cli.output import note
from wsclient.cli.settings import INSECURE, Settings
from wsclient.cli.trace import Trace

__all__ = ["opened", "patiently", "silence_the_log"]

_DONE, _GOING_AWAY = 1000, 1001  # RFC 6455, section 7.4.1
_HASTE = 2.0  # seconds for a close after a failure or Ctrl-C
_BODY = 300  # bytes of a refusal that are shown


@contextmanager
def opened(
    settings: Settings, trace: Trace, tell: Callable[[str], object] = note, **callbacks: Any
) -> Iterator[Connection]:
    """Open a connection for a ``with`` block, whose end closes it; Ctrl-C while it closes drops it.

    Args:
        settings: the common options.
        trace: told what happens, for those who want to know.
        tell: shows the user what everybody should know.
        callbacks: options of the library.

    Raises:
        Failure: an option is wrong, or no connection.
    """
    connection = _made(settings, trace, tell, callbacks)
    if settings.insecure:
        tell(INSECURE)
    trace.opening(settings, connection)
    try:
        connection.open()
    except WSClientError as error:
        if isinstance(error, HandshakeError) and error.body:
            trace.happened(f"the answer: {error.body[:_BODY].decode(errors='replace')}")
        raise failure_of(error) from error
    except BaseException:  # Ctrl-C
        connection.abort()
        raise
    try:
        trace.opened(connection)
        yield connection
    except BaseException:
        _leave(connection, trace, _GOING_AWAY, _HASTE)
        raise
    _leave(connection, trace, _DONE, None)


def _made(
    settings: Settings, trace: Trace, tell: Callable[[str], object], callbacks: dict[str, Any]
) -> Connection:
    try:
        options = {**settings.library_options(), **callbacks}
        if settings.reconnect:
            told = options.get("on_disconnect")
            options["on_disconnect"] = _on_disconnect(trace, tell, told)
            options["on_reconnect"] = _on_reconnect(trace, tell)
        return Connection(settings.url, **options)
    except (TypeError, ValueError) as error:
        raise option_fault(error) from error


def _on_disconnect(
    trace: Trace,
    tell: Callable[[str], object],
    counted: Callable[[Connection, Disconnect], object] | None,
) -> Callable[[Connection, Disconnect], None]:
    def on_disconnect(connection: Connection, reason: Disconnect) -> None:
        text = f": {reason.text}" if reason.text else ""
        tell(f"connection lost ({reason.kind.value}{text}); opening it again")
        trace.disconnected(reason)
        if counted is not None:
            counted(connection, reason)

    return on_disconnect


def _on_reconnect(trace: Trace, tell: Callable[[str], object]) -> Callable[[Connection], None]:
    def on_reconnect(connection: Connection) -> None:
        tell("connection open again")
        trace.opened(connection)

    return on_reconnect


def _leave(connection: Connection, trace: Trace, code: int, timeout: float | None) -> None:
    try:
        connection.close(code, timeout=timeout)
    except BaseException:
        connection.abort()
        raise
    finally:
        trace.closed(connection)


def patiently(connection: Connection, attempt: Callable[[], object]) -> None:
    """Repeat ``attempt`` while it runs into time-outs and the connection makes progress, or is opened again.

    Raises what ``attempt`` raises; a time-out only when nothing was written meanwhile.
    """
    while True:
        written = connection.stats().bytes_sent
        try:
            attempt()
        except ConnectionClosed:
            raise
        except TimeoutError:
            is_lost = connection.state.value == "reconnecting"
            if not is_lost and connection.stats().bytes_sent == written:
                raise
        else:
            return


def silence_the_log() -> None:
    """Keep the library's log off standard error: every command says by itself what went wrong."""
    log = logging.getLogger("wsclient")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
