"""What a server of the test kit saw: events come from its loop, or its process; a test waits and compares."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from wsclient.testing.failures import HandlerFailed, WaitTimeout
from wsclient.testing.transcript import Direction, Transcript, shortened

__all__ = ["Closed", "ConnectionRecord", "Event", "Failed", "Journal", "Opened", "Received"]

Message: TypeAlias = "str | bytes"


@dataclass(frozen=True)
class Opened:
    """A client has connected."""

    number: int
    target: str
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Received:
    """The handler has read a message."""

    number: int
    message: Message


@dataclass(frozen=True)
class Closed:
    """A connection is over."""

    number: int
    code: int
    reason: str


@dataclass(frozen=True)
class Failed:
    """A handler raised, or did not end."""

    text: str


Event: TypeAlias = "Opened | Received | Closed | Failed"


@dataclass(frozen=True)
class ConnectionRecord:
    """What the client of one connection did, as of the moment it was asked for.

    Attributes:
        target: path and query of the upgrade request.
        headers: its headers, names in lower case, repeated ones joined with ``", "``.
        received: the messages that the handler has read, in order.
        close_code, close_reason: from the client's close frame, 1006 if it left without one; ``None`` and
            ``""`` before.
    """

    target: str
    headers: Mapping[str, str]
    received: tuple[Message, ...] = ()
    close_code: int | None = None
    close_reason: str = ""

    @property
    def path(self) -> str:
        """The path of the request."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query parameters of the request."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


class Journal:
    """Everything that was reported so far. Thread-safe."""

    def __init__(self) -> None:
        self.transcript: Transcript = Transcript()
        self._changed = threading.Condition()
        self._received: list[tuple[int, Message]] = []  # _changed
        self._opened: dict[int, Opened] = {}  # _changed, in order
        self._closed: dict[int, Closed] = {}  # _changed
        self._errors: list[HandlerFailed] = []  # _changed

    def note(self, event: Event) -> None:
        """Take in what has happened. Any thread."""
        self.transcript.note(*_line(event))
        with self._changed:
            if isinstance(event, Received):
                self._received.append((event.number, event.message))
            elif isinstance(event, Opened):
                self._opened[event.number] = event
            elif isinstance(event, Closed):
                self._closed[event.number] = event
            else:
                self._errors.append(HandlerFailed(event.text))
            self._changed.notify_all()

    @property
    def received(self) -> list[Message]:
        """Every message, over all clients, in the order in which they were read."""
        with self._changed:
            return [message for _, message in self._received]

    @property
    def connections(self) -> tuple[ConnectionRecord, ...]:
        """One record for each connection, in order."""
        with self._changed:
            return tuple(self._record(number) for number in self._opened)

    @property
    def errors(self) -> tuple[HandlerFailed, ...]:
        """What handlers raised."""
        with self._changed:
            return tuple(self._errors)

    def take_errors(self) -> tuple[HandlerFailed, ...]:
        """The same, which is then forgotten."""
        with self._changed:
            errors, self._errors = tuple(self._errors), []
            return errors

    def wait_for_messages(self, count: int, timeout: float) -> list[Message]:
        """Wait until so many messages have been read, and return all that have."""
        self._wait(lambda: len(self._received) >= count, f"{count} messages", timeout)
        return self.received

    def wait_for_connections(self, count: int, timeout: float) -> None:
        """Wait until there were so many connections."""
        self._wait(lambda: len(self._opened) >= count, f"{count} connections", timeout)

    def wait_closed(self, timeout: float) -> None:
        """Wait until the connection of every client so far, at least one, is over."""
        self._wait(
            lambda: bool(self._opened) and len(self._closed) == len(self._opened),
            "the end of every connection",
            timeout,
        )

    def assert_received(self, expected: Sequence[Any], timeout: float) -> None:
        """Wait for as many messages as expected, and compare."""
        self._wait(lambda: len(self._received) >= len(expected), f"{len(expected)} messages", timeout)
        for number, (got, wanted) in enumerate(
            itertools.zip_longest(self.received, expected, fillvalue=_NONE)
        ):
            if not _equal(got, wanted):
                text = f"message {number} is {shortened(got)}, expected {shortened(wanted)}"
                raise AssertionError(f"{text}\n{self.transcript}")

    def raise_error(self) -> None:
        """Raise the first error of a handler, if there is any."""
        errors = self.errors
        if errors:
            raise errors[0]

    def _record(self, number: int) -> ConnectionRecord:
        opened, closed = self._opened[number], self._closed.get(number)
        headers: dict[str, str] = {}
        for name, value in opened.headers:
            known = headers.get(name.lower())
            headers[name.lower()] = value if known is None else f"{known}, {value}"
        received = tuple(message for sender, message in self._received if sender == number)
        if closed is None:
            return ConnectionRecord(opened.target, headers, received)
        return ConnectionRecord(opened.target, headers, received, closed.code, closed.reason)

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        with self._changed:
            met = self._changed.wait_for(lambda: self._errors or condition(), timeout)
        self.raise_error()
        if not met:
            raise WaitTimeout(
                f"the server waited {timeout:g} s for {what} that did not come\n{self.transcript}"
            )


class _None:
    def __repr__(self) -> str:
        return "none"


_NONE = _None()


def _line(event: Event) -> tuple[Direction, str]:
    if isinstance(event, Received):
        return Direction.RECEIVED, f"client {event.number}: {shortened(event.message)}"
    if isinstance(event, Opened):
        return Direction.NOTE, f"client {event.number} connected: {event.target}"
    if isinstance(event, Closed):
        return Direction.NOTE, f"client {event.number} closed with code {event.code} {event.reason}".rstrip()
    return Direction.NOTE, f"failed: {event.text.splitlines()[-1]}"


def _equal(got: object, wanted: object) -> bool:
    # Text and bytes are compared as they are; anything else with what the message says in JSON.
    if isinstance(wanted, (str, bytes)) or not isinstance(got, (str, bytes)):
        return type(got) is type(wanted) and got == wanted
    try:
        return bool(json.loads(got) == wanted)
    except ValueError:
        return False
