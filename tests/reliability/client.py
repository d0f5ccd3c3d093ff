"""The side under test: one ``Connection``, the threads that send through it, and what they saw."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import wsclient
from benchmarks.messages import Workload, parse
from reliability.account import Identity
from reliability.plan import Delivery, Plan

__all__ = ["Client", "Sender", "Stopwatch", "identities"]

_CONFIRM_SECONDS = 5.0
_CLOSE_SECONDS = 10.0
P = ParamSpec("P")
T = TypeVar("T")
Message = str | bytes


class Stopwatch:
    """Keeps the longest wait of each call. For one thread."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}

    def time(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call, and note how long that took, however it ended."""
        began = time.monotonic()
        try:
            return call(*args, **kwargs)
        finally:
            waited = time.monotonic() - began
            name = call.__name__
            self.longest[name] = max(waited, self.longest.get(name, 0.0))


def longest(waits: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The longest of each call among these."""
    found: dict[str, float] = {}
    for each in waits:
        for name, seconds in each.items():
            found[name] = max(seconds, found.get(name, 0.0))
    return found


def identities(messages: Iterable[Message]) -> list[Identity]:
    """Which messages these are."""
    return [parse(one.encode() if isinstance(one, str) else one) for one in messages]


def _without(load: Workload, thread: int, first: int) -> Iterable[str]:
    return islice(load.of_thread(thread), first, None)


@dataclass
class Sender:
    """One sending thread. Owned by it until it has ended.

    Attributes:
        messages: makes them all, but for so many first ones.
        accepted: how many messages were accepted: its first ones, for it goes on only with the next.
        refused: how many sends ended with an error and were made again.
    """

    conn: wsclient.Connection
    messages: Callable[[int], Iterable[str]]
    pace: int
    until: float
    retry: tuple[type[Exception], ...]
    accepted: int = 0
    refused: int = 0
    watch: Stopwatch = field(default_factory=Stopwatch)

    def run(self) -> None:
        """Send all messages, or as many as can be sent."""
        while time.monotonic() < self.until:
            try:
                return self._send_from(self.accepted)
            except self.retry:  # making messages needs memory, too
                self.refused += 1

    def _send_from(self, number: int) -> None:
        for message in self.messages(number):
            if not self._send(message):
                return
            self.accepted += 1
            if self.pace and self.accepted % self.pace == 0:
                self._confirm()

    def _confirm(self) -> None:
        # Whether it comes is not the point: what has arrived is the server's to say.
        with contextlib.suppress(
            wsclient.Timeout, wsclient.Disconnected, wsclient.ConnectionClosed, *self.retry
        ):
            self.watch.time(self.conn.confirm, _CONFIRM_SECONDS)

    def _send(self, message: str) -> bool:
        while time.monotonic() < self.until:
            try:
                self.watch.time(self.conn.send, message)
            except self.retry:
                self.refused += 1
            except wsclient.ConnectionClosed:
                return False
            else:
                return True
        return False


class Client:
    """One connection to be disturbed. Its methods belong to one thread.

    Args:
        retry: errors of ``send`` upon which the same message is sent again, beside ``SendTimeout``.
        options: more options of ``connect``, or others than usual.
    """

    def __init__(self, url: str, plan: Plan, retry: tuple[type[Exception], ...], **options: Any) -> None:
        self._plan = plan
        self._retry: tuple[type[Exception], ...] = (wsclient.SendTimeout, *retry)
        self._until = time.monotonic() + plan.patience
        self._watch = Stopwatch()
        self._senders: list[Sender] = []
        self._losses: list[wsclient.Disconnect] = []  # appended by the callbacks' thread; read after the end
        self._connected = threading.Event()  # cleared while it is being connected again
        self._connected.set()
        self._options = {"proxy": None, **self._reconnecting(), **options}
        self.conn = wsclient.Connection(url, **self._options)

    def _reconnecting(self) -> dict[str, Any]:
        if self._plan.delivery is Delivery.PLAIN:
            return {}
        return {
            "reconnect": wsclient.Reconnect(initial_delay=0.05, max_delay=0.5),
            "delivery": self._plan.delivery.value,
            "on_disconnect": self._disconnected,
            "on_reconnect": lambda _: self._connected.set(),
        }

    def _disconnected(self, conn: wsclient.Connection, reason: wsclient.Disconnect) -> None:
        self._losses.append(reason)  # and no more: there may be no memory left but for that
        self._connected.clear()

    # -- the run --------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect."""
        self._watch.time(self.conn.open)

    def send_all(self) -> None:
        """Send from all threads; returns when the last one is through, or can't go on."""
        load = self._plan.load
        self._senders = [
            Sender(self.conn, partial(_without, load, number), self._plan.pace, self._until, self._retry)
            for number in range(load.threads)
        ]
        start = threading.Barrier(load.threads)

        def run(sender: Sender) -> None:
            start.wait(self._plan.patience)
            sender.run()

        with ThreadPoolExecutor(load.threads) as pool:
            for future in [pool.submit(run, sender) for sender in self._senders]:
                future.result(self._plan.patience + _CONFIRM_SECONDS)

    def drain(self) -> None:
        """Wait until the server has confirmed everything, or the connection is over."""
        while (left := self._until - time.monotonic()) > 0:
            try:
                self._watch.time(self.conn.confirm, min(left, _CONFIRM_SECONDS))
                return
            except wsclient.Timeout:
                continue
            except (wsclient.ConnectionClosed, wsclient.Disconnected):
                if self.conn.state in (wsclient.State.CLOSING, wsclient.State.CLOSED):
                    return
                self._connected.wait(left)

    def close(self) -> None:
        """Close, which may take up to 10 s, and make sure that it is closed."""
        self._watch.time(self.conn.close, timeout=_CLOSE_SECONDS)
        assert self.conn.state is wsclient.State.CLOSED

    # -- what came of it ------------------------------------------------------------------------------

    @property
    def accepted(self) -> list[int]:
        """Of each thread, how many of its messages were accepted."""
        return [sender.accepted for sender in self._senders]

    @property
    def refused(self) -> int:
        """How many sends were refused, and made again."""
        return sum(sender.refused for sender in self._senders)

    @property
    def waits(self) -> dict[str, float]:
        """The longest wait of each call, in seconds."""
        return longest([self._watch.longest, *(sender.watch.longest for sender in self._senders)])

    @property
    def in_doubt(self) -> list[Identity]:
        """What the connection has handed back as written, and not known to have arrived."""
        handed_back = [message for loss in self._losses for message in loss.in_doubt]
        return identities([*handed_back, *self.conn.in_doubt])

    @property
    def unsent(self) -> list[Identity]:
        """What the connection has handed back as never written."""
        return identities(self.conn.unsent)

    @property
    def reasons(self) -> dict[str, int]:
        """Why it was disconnected, and how often."""
        if self._plan.delivery is Delivery.PLAIN and self.conn.close_code != 1000:
            return {f"code {self.conn.close_code}": 1}
        return dict(Counter(loss.kind.name for loss in self._losses))
