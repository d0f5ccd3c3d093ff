"""The traffic: slots, each with one connection after the other, every one of another kind."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import wsclient
from benchmarks.messages import Garbled, parse
from reliability.account import Identity
from reliability.client import identities
from reliability.soak.judge import Record
from reliability.soak.names import GREETING, STREAMS, Name, compose, identity

__all__ = ["Kind", "Session", "Slot", "Totals"]

_DRAIN_SECONDS = 20.0
_CLOSE_SECONDS = 5.0
_CALLBACK_SECONDS = 10.0  # for on_close, which an executor may run after close() has returned
_RAISE_EVERY = 3  # calls of on_message
_HELD_BYTES = 1024 * 1024  # small, so that queues fill up, and that memory does not swing with them
_RAISES = (wsclient.ConnectionClosed, wsclient.Disconnected, wsclient.Timeout)


class Deliberate(Exception):
    """Raised by callbacks, to be survived."""


@dataclass(frozen=True)
class Kind:
    """What a connection is like, and what it does. Sizes in bytes."""

    delivery: str
    compression: str | None
    fragment_size: int | None
    receives: str  # "callback", "executor" or "pull"
    messages: int  # of each of the threads that send
    max_size: int
    rests: bool  # now and then
    ends: str  # "confirm", "close" or "abort"

    @classmethod
    def draw(cls, chance: random.Random) -> Kind:
        """Any kind."""
        return cls(
            delivery=chance.choice(("plain", "at_most_once", "at_least_once")),
            compression=chance.choice((None, None, "deflate")),
            fragment_size=chance.choice((None, 1000)),
            receives=chance.choice(("callback", "callback", "executor", "pull")),
            messages=chance.choice((5, 50, 500, 1500)),
            max_size=chance.choice((64, 64, 20_000)),
            rests=chance.random() < 0.5,
            ends=chance.choice(("confirm", "confirm", "close", "abort")),
        )

    def options(self, executor: Executor) -> dict[str, Any]:
        """For ``Connection``, but for the callbacks."""
        options: dict[str, Any] = {"compression": self.compression, "fragment_size": self.fragment_size}
        options |= {"proxy": None, "ping_interval": 1.0, "ping_timeout": 1.0, "write_timeout": 3.0}
        options |= {"open_timeout": 3.0, "send_timeout": 2.0, "close_timeout": _CLOSE_SECONDS}
        options["max_queued_bytes"] = _HELD_BYTES
        if self.receives == "executor":
            options["callback_executor"] = executor
        if self.delivery != "plain":
            options["reconnect"] = wsclient.Reconnect(initial_delay=0.05, max_delay=0.5)
            options["delivery"] = self.delivery
            options["max_in_doubt_bytes"] = _HELD_BYTES
        return options


@dataclass
class Seen:
    """What the callbacks have seen. Owned by the thread that runs them, until on_close has run."""

    calls: int = 0
    raised: int = 0
    errors: int = 0
    closes: int = 0
    links: int = 1
    garbled: int = 0
    in_doubt: list[str | bytes] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def callbacks(self, receives: str, reconnects: bool) -> dict[str, Any]:
        """As options."""
        found: dict[str, Any] = {"on_close": self._closed, "on_error": self._failed}
        if receives != "pull":
            found["on_message"] = self._message
        if reconnects:
            found |= {"on_disconnect": self._disconnected, "on_reconnect": self._reconnected}
        return found

    def check(self, message: str | bytes) -> None:
        """Whatever comes must be what somebody sent."""
        try:
            parse(message.encode() if isinstance(message, str) else message)
        except Garbled:
            self.garbled += 1

    def _message(self, conn: wsclient.Connection, message: str | bytes) -> None:
        self.check(message)
        self.calls += 1
        if self.calls % _RAISE_EVERY == 0:
            self._raise()

    def _disconnected(self, conn: wsclient.Connection, reason: wsclient.Disconnect) -> None:
        self.in_doubt.extend(reason.in_doubt)
        self._raise()

    def _reconnected(self, conn: wsclient.Connection) -> None:
        self.links += 1
        with contextlib.suppress(*_RAISES):
            conn.send(GREETING)
        self._raise()

    def _closed(self, conn: wsclient.Connection, code: int, reason: str) -> None:
        self.closes += 1
        self.closed.set()

    def _failed(self, conn: wsclient.Connection, error: Exception) -> None:
        self.errors += isinstance(error, Deliberate)

    def _raise(self) -> None:
        self.raised += 1
        raise Deliberate


class Session:
    """One connection. Its methods belong to one thread; it has another one that sends, too."""

    def __init__(self, name: Name, url: str, seed: str, executor: Executor, stop: threading.Event) -> None:
        self._name = name
        self._seed = seed
        self._stop = stop
        self.kind = Kind.draw(random.Random(seed))
        self._seen = Seen()
        callbacks = self._seen.callbacks(self.kind.receives, self.kind.delivery != "plain")
        self.conn = wsclient.Connection(url, **self.kind.options(executor), **callbacks)
        self._accepted = [0] * STREAMS  # each by the thread of that lane
        self._receipts: list[Future[None]] = []  # lane 0's thread
        self._streams = 0  # the same
        self._ended: list[int] = []  # the same

    def run(self, pool: ThreadPoolExecutor, count: Callable[[], None]) -> Record:
        """Use it from opening to closing. Raises `wsclient.WSClientError` when it could not be opened."""
        self.conn.open()
        try:
            other = pool.submit(self._send_all, 1, count)
            try:
                self._send_all(0, count)
            finally:
                other.result(_DRAIN_SECONDS)
            self._end()
        finally:
            self.conn.abort()
        return self._record()

    def _send_all(self, lane: int, count: Callable[[], None]) -> None:
        chance = random.Random(f"{self._seed}-{lane}")
        with contextlib.suppress(wsclient.ConnectionClosed):
            while self._accepted[lane] < self.kind.messages and not self._stop.is_set():
                with contextlib.suppress(wsclient.SendTimeout):
                    self._send(lane, chance)
                    count()
                if self._accepted[lane] % 100 == 0:
                    self._rest(chance)

    def _send(self, lane: int, chance: random.Random) -> None:
        size = int(chance.triangular(28, self.kind.max_size, 28))
        message = compose(identity(self._name, lane, self._accepted[lane]), size)
        way = chance.random()
        if lane == 0 and way < 0.02:
            self._stream(size * 4)
        if lane == 0 and way < 0.2:
            self._receipts.append(self.conn.send_future(message))
        else:
            self.conn.send(message if way < 0.6 else message.encode())
        self._accepted[lane] += 1

    def _stream(self, size: int) -> None:
        number, self._streams = self._streams, self._streams + 1
        message = compose(identity(self._name, STREAMS, number), size).encode()
        with contextlib.suppress(wsclient.Disconnected):
            with self.conn.send_stream() as stream:
                for start in range(0, len(message), 5000):
                    stream.write(message[start : start + 5000])
            self._ended.append(number)

    def _rest(self, chance: random.Random) -> None:
        if self.kind.receives == "pull":
            with contextlib.suppress(*_RAISES):
                self._seen.check(self.conn.recv(timeout=0.01))
        if self.kind.rests:
            self._stop.wait(chance.uniform(0, 0.2))

    def _end(self) -> None:
        if self.kind.ends == "confirm":
            self._drain()
        if self.kind.ends != "abort":
            self.conn.close(timeout=_CLOSE_SECONDS)

    def _drain(self) -> None:
        until = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < until:
            try:
                self.conn.confirm(2.0)
                return
            except wsclient.ConnectionClosed:
                return
            except (wsclient.Timeout, wsclient.Disconnected):
                self._stop.wait(0.05)

    def _record(self) -> Record:
        seen, conn = self._seen, self.conn
        called = seen.closed.wait(_CALLBACK_SECONDS)
        return Record(
            name=self._name,
            delivery=self.kind.delivery,
            accepted=tuple(self._accepted),
            streams=self._streams,
            ended=tuple(self._ended),
            unsent=_named(conn.unsent),
            in_doubt=_named((*seen.in_doubt, *conn.in_doubt)),
            forgotten=conn.stats().forgotten_messages,
            is_clean=conn.close_code == 1000 and seen.links == 1,
            links=seen.links,
            raised=seen.raised,
            complaints=tuple(self._complaints(called)),
        )

    def _complaints(self, called: bool) -> list[str]:
        seen = self._seen
        wrong = {
            f"it is {self.conn.state.name}": self.conn.state is not wsclient.State.CLOSED,
            "on_close was not called in time": not called,
            f"on_close was called {seen.closes} times": called and seen.closes != 1,
            f"callbacks raised {seen.raised} times, and on_error heard of {seen.errors}": called
            and seen.raised != seen.errors,
            f"{seen.garbled} messages received were sent by nobody": bool(seen.garbled),
            "a receipt was never settled": not all(one.done() for one in self._receipts),
        }
        return [text for text, is_wrong in wrong.items() if is_wrong]


def _named(messages: tuple[str | bytes, ...]) -> tuple[Identity, ...]:
    return tuple(identities(one for one in messages if one != GREETING))


class Totals:
    """Sums over all connections, read by whoever samples."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.messages = 0  # _mutex
        self.closed = 0  # _mutex
        self.open = 0  # _mutex
        self.refused = 0  # _mutex: connections that could not be opened

    def add(self, name: str, amount: int = 1) -> None:
        """From any thread."""
        with self._mutex:
            setattr(self, name, getattr(self, name) + amount)


class Slot:
    """One connection after the other. Its records go to a file: memory is what is watched."""

    def __init__(self, number: int, url: str, seed: int, folder: Path, totals: Totals) -> None:
        self._number = number
        self._url = url
        self._seed = seed
        self._file = folder / f"records-{number}"
        self._totals = totals
        self._connections = 0  # the thread that is in run()

    def run(self, executor: Executor, stop: threading.Event) -> None:
        """Until ``stop``; the last connection is ended in order. Then it may be called again."""
        with ThreadPoolExecutor(1) as pool, self._file.open("a") as file:
            while not stop.is_set():
                record = self._one((self._number, self._connections), pool, executor, stop)
                self._connections += 1
                if record is not None:
                    file.write(json.dumps(asdict(record)) + "\n")

    def records(self) -> list[Record]:
        """What its connections had to say."""
        return [Record.from_dict(json.loads(line)) for line in self._file.read_text().splitlines()]

    def _one(
        self, name: Name, pool: ThreadPoolExecutor, executor: Executor, stop: threading.Event
    ) -> Record | None:
        session = Session(name, self._url, f"{self._seed}-{name}", executor, stop)
        self._totals.add("open")
        try:
            return session.run(pool, lambda: self._totals.add("messages"))
        except wsclient.HandshakeError:
            self._totals.add("refused")
            stop.wait(0.1)
            return None
        finally:
            self._totals.add("open", -1)
            self._totals.add("closed")
