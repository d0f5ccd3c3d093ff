"""``Plan``: what a load run is told, checked once and never changed again. Every refusal names the field.

A plan can be pickled, for the processes that share the work: what cannot, such as an ``ssl.SSLContext``, is
described (``TLS``) and made where it is needed.
"""

from __future__ import annotations

import enum
import math
import pickle
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from wsclient import Connection

__all__ = ["ID_SIZE", "TLS", "Expect", "Plan"]

ID_SIZE: Final = 20  # bytes at the beginning of a generated message that tell it from all others
_DEFAULT_SIZE: Final = 64
_MOST: Final = 65_536  # connections, and workers of each: four hexadecimal digits of a message's identity
_OWN_OPTIONS: Final = ("on_open", "on_message", "on_close", "on_error", "on_disconnect", "on_reconnect")
_IMPOSSIBLE: Final = ("socket", "ssl_context", "callback_executor", "assemble", "on_fragment", "on_dropped")


class Expect(str, enum.Enum):
    """What the server does with a message."""

    NONE = "none"  # it takes it; what it sends is counted and not looked at
    ECHO = "echo"  # it sends the same back, to the same connection
    REPLY = "reply"  # it answers each message with one of its own, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """How ``wss`` servers are verified: ``ssl.create_default_context`` with these.

    Attributes:
        ca_file: PEM file of authorities to trust instead of the system's.
        cert_file, key_file: PEM files of a client certificate.
        insecure: verify nothing: whoever is in between can read and change everything.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """A context of that kind.

        Raises:
            ValueError: a file cannot be read or is no PEM file, naming it.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(filter(None, (self.ca_file, self.cert_file, self.key_file)))
            raise ValueError(f"tls: cannot use {names}: {error}") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A load run. Times are seconds, sizes bytes. ``run(plan)`` runs it.

    Open loop, with ``rate`` or ``rate_per_connection``: messages are due at fixed times, sent then whether or
    not earlier ones were answered, and their latency counts from when they were due. Closed loop, without:
    each worker sends its next message once the one before is answered (or, with ``expect="none"``, accepted).

    Attributes:
        url: ``ws`` or ``wss`` URL, or several, which the connections take in turn. ``{connection}`` in it
            becomes the connection's number, from 0.
        connections: how many, over all processes.
        workers: threads that send, for each connection.
        rate: messages a second, over all connections.
        rate_per_connection: the same for each; not both.
        duration: seconds of sending. It, or ``messages``, or both: then whichever ends first.
        messages: how many, over all connections; of a scenario, calls.
        ramp: seconds over which connections are opened one by one; the rate grows with them, in a line.
        size: of each message; 64 unless given; with an answer expected at least 20, for its identity.
        binary: binary messages, not text.
        payload_file: a file whose lines are sent in turn instead. With ``expect="echo"``, ``{id}`` in a line
            becomes the message's identity; equal lines without one are matched in the order they were sent.
        scenario: path of a Python file with ``def scenario(client)``; see ``wsclient.load.scenario``.
        expect: ``"echo"``, ``"reply"`` or ``"none"``.
        reply_timeout: after which a message without an answer is lost.
        processes: that share the connections, each on a core of its own.
        max_in_flight: most messages of one connection without an answer; beyond it an open loop is late,
            which its latencies show.
        tls: for ``wss``.
        options: more options of ``wsclient.Connection``, such as ``headers``, ``proxy``, ``reconnect``,
            ``compression``, ``credentials`` or ``open_timeout``; no callbacks.

    Raises:
        TypeError, ValueError: naming the field and its fault; no secrets.
    """

    url: str | Sequence[str]
    connections: int = 1
    workers: int = 1
    rate: float | None = None
    rate_per_connection: float | None = None
    duration: float | None = None
    messages: int | None = None
    ramp: float = 0.0
    size: int | None = None
    binary: bool = False
    payload_file: str | None = None
    scenario: str | None = None
    expect: Expect | Literal["echo", "reply", "none"] = Expect.ECHO
    reply_timeout: float = 10.0
    processes: int = 1
    max_in_flight: int = 10_000
    tls: TLS | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_times()
        self._check_messages()
        self._check_connection()

    @property
    def urls(self) -> tuple[str, ...]:
        """All URLs. They may hold secrets; ``shown_urls`` does not."""
        return (self.url,) if isinstance(self.url, str) else tuple(self.url)

    @property
    def shown_urls(self) -> tuple[str, ...]:
        """All URLs without user info and without values of query parameters."""
        return tuple(Connection(url.replace("{connection}", "0")).url for url in self.urls)

    @property
    def total_rate(self) -> float | None:
        """Messages a second over all connections; ``None`` in a closed loop."""
        if self.rate_per_connection is not None:
            return self.rate_per_connection * self.connections
        return self.rate

    @property
    def message_size(self) -> int:
        """Bytes of each generated message."""
        return _DEFAULT_SIZE if self.size is None else self.size

    @property
    def answers(self) -> bool:
        """Whether each message has an answer that is matched with it."""
        return self.scenario is None and self.expect is not Expect.NONE

    def url_of(self, connection: int) -> str:
        """Where one connection goes."""
        return self.urls[connection % len(self.urls)].replace("{connection}", str(connection))

    # -- checks, while it is made ---------------------------------------------------------------------

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_counts(self) -> None:
        for name in ("connections", "workers", "processes", "max_in_flight"):
            _check_count(name, getattr(self, name), 1)
        for name in ("connections", "workers"):
            if getattr(self, name) > _MOST:
                raise ValueError(f"{name}: must be at most {_MOST:,}, not {getattr(self, name):,}")
        if self.processes > self.connections:
            raise ValueError(
                f"processes: must be at most connections ({self.connections}), for each has a connection,"
                f" not {self.processes}"
            )
        if self.messages is not None:
            _check_count("messages", self.messages, 1)

    def _check_times(self) -> None:
        if self.rate is not None and self.rate_per_connection is not None:
            raise ValueError("rate: can't be combined with rate_per_connection")
        for name in ("rate", "rate_per_connection", "duration", "reply_timeout"):
            if getattr(self, name) is not None:
                self._set(name, _number(name, getattr(self, name), over=True))
        self._set("ramp", _number("ramp", self.ramp, over=False))
        if self.duration is None and self.messages is None:
            raise ValueError("duration: give it, or messages, or both: otherwise the run would not end")
        if self.duration is not None and self.ramp > self.duration:
            raise ValueError(f"ramp: must be at most duration ({self.duration:g} s), not {self.ramp:g} s")

    def _check_messages(self) -> None:
        try:
            self._set("expect", Expect(self.expect))
        except ValueError:
            known = ", ".join(repr(kind.value) for kind in Expect)
            raise ValueError(f"expect: must be one of {known}, not {self.expect!r}") from None
        given = [name for name in ("size", "payload_file", "scenario") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]}: can't be combined with {given[1]}")
        least = ID_SIZE if self.expect is Expect.ECHO else 0
        if self.size is not None:
            _check_count("size", self.size, least)
        for name in ("payload_file", "scenario"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"{name}: there is no file {str(path)!r}")

    def _check_connection(self) -> None:
        for name in (*_OWN_OPTIONS, *_IMPOSSIBLE):
            if name in self.options:
                hint = "; give tls" if name == "ssl_context" else ""
                raise TypeError(f"options: {name!r} can't be set for a load run{hint}")
        if not self.urls:
            raise ValueError("url: there is none")
        for url in self.urls:
            if not isinstance(url, str):
                raise TypeError(f"url: must be str, not {type(url).__name__}")
            Connection(url.replace("{connection}", "0"), **self.options)  # it checks both; nothing is opened
        if self.tls is not None:
            self.tls.context()
        if self.expect is Expect.REPLY and self.options.get("delivery") == "at_least_once":
            raise ValueError(
                "expect: 'reply' goes by the order of messages, which delivery 'at_least_once' changes"
            )
        self._set("options", dict(self.options))
        if self.processes > 1:
            self._check_picklable()

    def _check_picklable(self) -> None:
        for name, value in self.options.items():
            try:
                pickle.dumps(value)
            except Exception as error:  # whatever the value's own pickling raises
                raise ValueError(
                    f"options: {name!r} can't be given to other processes: {type(error).__name__}"
                ) from None


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: must be int, not {type(value).__name__}")
    if value < least:
        why = ", for the identity of a message that is sent back" if name == "size" else ""
        raise ValueError(f"{name}: must be at least {least}{why}, not {value}")


def _number(name: str, value: object, *, over: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: must be a number, not {type(value).__name__}")
    if not (value > 0 if over else value >= 0) or not value <= 1e9 or not math.isfinite(value):
        raise ValueError(f"{name}: must be {'over 0' if over else 'at least 0'}, not {value}")
    return float(value)
