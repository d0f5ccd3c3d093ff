"""What is measured: the registry of scenarios. Each runs in a client process of its own (``worker.py``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, repeat
from statistics import quantiles
from typing import Protocol

from benchmarks.adapters import Adapter, Connection, PreparedConnection
from benchmarks.limits import allow_many_files, resident_bytes
from benchmarks.names import AT_LEAST_ONCE, OURS, RECONNECT
from benchmarks.quotes import quotes

__all__ = ["SCENARIOS", "Measured", "Metric", "Scenario"]

Measured = dict[str, float]
_PEERS = ("wsclient", "websocket-client", "websockets")
_RECONNECTING = (OURS + RECONNECT, OURS + AT_LEAST_ONCE)
_RECEIVERS = (*_PEERS, *_RECONNECTING)
_SENDERS = ("wsclient", "wsclient-no-numpy", "websocket-client", "websockets", "sendall", *_RECONNECTING)
_COMPRESSING = ("wsclient", "wsclient-deflate", "websockets", "websockets-deflate")
_KIB, _MIB = 1024, 1024 * 1024
_PREPARED_BYTES = (
    256 * _KIB
)  # what the prepared sender gives to the kernel at once, as wsclient's writer does


@dataclass(frozen=True)
class Metric:
    """One number of a scenario.

    Attributes:
        key: its name in the results.
        unit: for the reader.
        more_is_better: a rate; otherwise a time or a size.
        scale: the measured number times this is in ``unit``.
    """

    key: str
    unit: str
    more_is_better: bool
    scale: float = 1.0


_RATE = (Metric("rate", "messages/s", True),)
_COMPRESSED = (*_RATE, Metric("wire", "bytes each", False))
_ROUND_TRIP = (Metric("p50", "us", False, 1e6), Metric("p99", "us", False, 1e6))
_FLOODED = (Metric("p50", "ms", False, 1e3), Metric("p99", "ms", False, 1e3))
_FOOTPRINT = (
    Metric("memory", "KiB each", False, 1 / _KIB),
    Metric("threads", "threads each", False),
)
_SCALE = (*_FOOTPRINT, Metric("setup", "ms each", False, 1e3), *_FLOODED)


class Scenario(Protocol):
    """One thing to measure."""

    @property
    def name(self) -> str:
        """Short name, for ``--only``."""

    @property
    def title(self) -> str:
        """What the reader is told."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters that take part."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The numbers that ``run`` returns."""

    def run(self, adapter: Adapter, server: str, quick: bool) -> Measured:
        """Measure one adapter once, against the server at this URL."""


@dataclass(frozen=True)
class Send:
    """Many threads send through one connection, until the server says that it has received everything.

    Measured is a connection that has warmed up: lazy imports and growing buffers are paid for before.
    """

    name: str
    title: str
    size: int
    threads: int = 1
    binary: bool = False
    adapters: tuple[str, ...] = _SENDERS
    metrics: tuple[Metric, ...] = _RATE
    seconds: float = 1.5
    warm_up: float = 0.3

    def run(self, adapter: Adapter, server: str, quick: bool) -> Measured:
        connection = adapter.connect(f"{server}/sink")
        message = b"x" * self.size if self.binary else "x" * self.size
        bursts, count = self._bursts(connection, message)
        warm = _flood(bursts, self.warm_up) * count
        if _received(connection) != warm:
            raise RuntimeError(f"not all of the {warm} messages of the warm-up arrived")
        started = time.perf_counter()
        sent = _flood(bursts, 0.2 if quick else self.seconds) * count
        received = _received(connection)
        elapsed = time.perf_counter() - started
        connection.close()
        if received != warm + sent:
            raise RuntimeError(f"sent {warm + sent} messages, the server received {received}")
        return {"rate": sent / elapsed}

    def _bursts(
        self, connection: Connection, message: str | bytes
    ) -> tuple[Sequence[Callable[[], None]], int]:
        """For each thread a function that sends some messages; and how many."""
        if isinstance(connection, PreparedConnection):
            count = max(1, _PREPARED_BYTES // self.size)
            return [partial(connection.sendall, connection.frame(message) * count)], count
        count = max(1, min(100, 64 * _KIB // self.size))
        return [partial(_send_many, connection.send, message, count)] * self.threads, count


@dataclass(frozen=True)
class SendJson:
    """Many threads send JSON, each its own, compressed or not: the rate, and the size on the wire."""

    name: str
    title: str
    size: int
    threads: int
    adapters: tuple[str, ...] = _COMPRESSING
    metrics: tuple[Metric, ...] = _COMPRESSED
    seconds: float = 1.5
    warm_up: float = 0.3
    different: int = 64

    def run(self, adapter: Adapter, server: str, quick: bool) -> Measured:
        connection = adapter.connect(f"{server}/tally?deflate={int(adapter.compresses)}")
        # Of its own for each thread: two threads that send the same would be easier to compress than life is.
        loads = [quotes(self.size, self.different, seed) for seed in range(self.threads)]
        bursts = [partial(_send_all, connection.send, load) for load in loads]
        warm = _flood(bursts, self.warm_up) * self.different
        before = _tally(connection, adapter.compresses)
        started = time.perf_counter()
        sent = _flood(bursts, 0.2 if quick else self.seconds) * self.different
        after = _tally(connection, adapter.compresses)
        elapsed = time.perf_counter() - started
        connection.close()
        if after.messages != warm + sent:
            raise RuntimeError(f"sent {warm + sent} messages, the server received {after.messages}")
        return {"rate": sent / elapsed, "wire": (after.bytes - before.bytes) / sent}


@dataclass(frozen=True)
class Receive:
    """The server floods; the client receives as fast as its library can."""

    name: str
    title: str
    size: int
    binary: bool = False
    adapters: tuple[str, ...] = _RECEIVERS
    metrics: tuple[Metric, ...] = _RATE
    seconds: float = 1.5

    def run(self, adapter: Adapter, server: str, quick: bool) -> Measured:
        trial = max(10, 8 * _MIB // max(self.size, _KIB))
        rate = self._rate(adapter, server, trial)
        if not quick:
            rate = self._rate(adapter, server, max(trial, int(rate * self.seconds)))
        return {"rate": rate}

    def _rate(self, adapter: Adapter, server: str, count: int) -> float:
        url = f"{server}/source?size={self.size}&count={count}&binary={int(self.binary)}"
        return count / adapter.receive(url, count)


@dataclass(frozen=True)
class ReceiveJson:
    """The server floods with varied JSON, compressed beforehand, each message by itself, or not."""

    name: str
    title: str
    size: int
    adapters: tuple[str, ...] = _COMPRESSING
    metrics: tuple[Metric, ...] = _COMPRESSED
    seconds: float = 1.5
    trial: int = 8192

    def run(self, adapter: Adapter, server: str, quick: bool) -> Measured:
        url = f"{server}/source?json=1&size={self.size}&deflate={int(adapter.compresses)}"
        connection = adapter.connect(url)
        flood = _tally(connection, adapter.compresses)
        connection.close()
        rate = self._rate(adapter, url, self.trial)
        if not quick:
            rate = self._rate(adapter, url, max(self.trial, int(rate * self.seconds)))
        return {"rate": rate, "wire": flood.bytes / flood.messages}

    def _rate(self, adapter: Adapter, url: str, count: int) -> float:
        return count / adapter.receive(f"{url}&count={count}", count)


@dataclass(frozen=True)
class RoundTrip:
    """One message there and back at a time, on an idle connection."""

    name: str
    title: str
    size: int
    adapters: tuple[str, ...] = _PEERS
    metrics: tuple[Metric, ...] = _ROUND_TRIP
    count: int = 5000

    def run(self, adapter: Adapter, server: str, quick: bool) -> Measured:
        connection = adapter.connect(f"{server}/echo")
        exchange = partial(_echo, connection, "x" * self.size)
        _times(exchange, 100)
        measured = _percentiles(_times(exchange, 300 if quick else self.count))
        connection.close()
        return measured


@dataclass(frozen=True)
class FloodedPing:
    """A ping on a connection that many threads keep flooding."""

    name: str
    title: str
    size: int
    threads: int
    adapters: tuple[str, ...] = _PEERS
    metrics: tuple[Metric, ...] = _FLOODED
    count: int = 200
    seconds: float = 2.0

    def run(self, adapter: Adapter, server: str, quick: bool) -> Measured:
        connection = adapter.connect(f"{server}/sink")
        stop = threading.Event()
        with ThreadPoolExecutor(self.threads) as pool:
            flood = partial(_send_many, connection.send, "x" * self.size, 20)
            floods = [pool.submit(_while_not, stop, flood) for _ in range(self.threads)]
            try:
                # The first pings see the flood swell: they are sent, not counted.
                _times(connection.ping, 5, self.seconds)
                times = _times(connection.ping, 20 if quick else self.count, self.seconds)
            finally:
                stop.set()
        for sent in floods:
            sent.result()
        connection.close()
        return _percentiles(times)


@dataclass(frozen=True)
class Footprint:
    """Many open, idle connections in one process."""

    name: str
    title: str
    connections: int
    adapters: tuple[str, ...] = _PEERS
    metrics: tuple[Metric, ...] = _FOOTPRINT

    def run(self, adapter: Adapter, server: str, quick: bool) -> Measured:
        allow_many_files()
        count = 50 if quick else self.connections
        # The first ones pay for imports and caches, which every program has once.
        connections = [adapter.connect(f"{server}/echo") for _ in range(5)]
        memory, threads = resident_bytes(), threading.active_count()
        connections += [adapter.connect(f"{server}/echo") for _ in range(count)]
        for connection in connections[-5:]:
            _echo(connection, "still there")
        return {
            "memory": (resident_bytes() - memory) / count,
            "threads": (threading.active_count() - threads) / count,
        }


@dataclass(frozen=True)
class Scale:
    """Many open connections in one process, all of them kept alive: what they cost, and how fast they answer.

    Keepalive is as it comes, the same in both libraries: a ping every 20 s, some 50 a second here. What
    is timed is an echo, on one connection after the other, for so long that each one pings meanwhile.
    """

    name: str
    title: str
    connections: int
    adapters: tuple[str, ...] = ("wsclient", "websockets")
    metrics: tuple[Metric, ...] = _SCALE
    seconds: float = 25.0

    def run(self, adapter: Adapter, server: str, quick: bool) -> Measured:
        allow_many_files()
        count = 50 if quick else self.connections
        # The first ones pay for imports and caches, which every program has once.
        first = [adapter.connect(f"{server}/echo") for _ in range(5)]
        memory, threads, started = resident_bytes(), threading.active_count(), time.perf_counter()
        connections = [adapter.connect(f"{server}/echo") for _ in range(count)]
        setup = time.perf_counter() - started
        for connection in connections:
            _echo(connection, "x" * 64)
        memory, threads = resident_bytes() - memory, threading.active_count() - threads
        turns = cycle(connections)
        times = _times(lambda: _echo(next(turns), "x" * 64), 1_000_000, 0.5 if quick else self.seconds)
        for connection in first:
            connection.close()
        cost = {"memory": memory / count, "threads": threads / count, "setup": setup / count}
        return cost | _percentiles(times)


@dataclass(frozen=True)
class Tally:
    """What the server says of messages: how many, the bytes of their frames, how many are compressed."""

    messages: int
    bytes: int
    compressed: int


def _tally(connection: Connection, compresses: bool) -> Tally:
    """Ask behind everything sent so far; it must be compressed if it is to be, and otherwise not."""
    connection.send(b"?")
    tally = Tally(*map(int, connection.recv().split()))
    if tally.compressed != (tally.messages if compresses else 0):
        raise RuntimeError(f"{tally.compressed} of {tally.messages} messages are compressed")
    return tally


def _flood(bursts: Sequence[Callable[[], None]], seconds: float) -> int:
    """Let a thread for each burst call it for some time; how often they did, all together."""
    deadline = time.perf_counter() + seconds
    with ThreadPoolExecutor(len(bursts)) as pool:
        return sum(pool.map(_until, repeat(deadline), bursts))


def _received(connection: Connection) -> int:
    """Messages that the server has received on this connection, everything sent so far among them."""
    connection.send("done")
    return int(connection.recv())


def _send_many(send: Callable[[str | bytes], None], message: str | bytes, count: int) -> None:
    for _ in repeat(None, count):
        send(message)


def _send_all(send: Callable[[str], None], messages: Sequence[str]) -> None:
    for message in messages:
        send(message)


def _until(deadline: float, action: Callable[[], None]) -> int:
    for count in range(1, 1_000_000_000):
        action()
        if time.perf_counter() >= deadline:
            return count
    raise AssertionError("a billion actions before the deadline")


def _while_not(stop: threading.Event, action: Callable[[], None]) -> None:
    while not stop.is_set():
        action()


def _echo(connection: Connection, message: str) -> None:
    connection.send(message)
    if connection.recv() != message:
        raise RuntimeError("the echo was not what was sent")


def _times(action: Callable[[], object], count: int, seconds: float = 60.0) -> list[float]:
    """Durations of ``count`` calls, or of those that begin within ``seconds``: at least two."""
    times: list[float] = []
    first = time.perf_counter()
    while len(times) < 2 or (len(times) < count and time.perf_counter() - first < seconds):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return times


def _percentiles(times: Sequence[float]) -> Measured:
    cuts = quantiles(times, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}


_ALL: tuple[Scenario, ...] = (
    Send("send-64-1", "send 64 B text, 1 thread", 64, threads=1),
    Send("send-64-8", "send 64 B text, 8 threads", 64, threads=8, adapters=(*_SENDERS, "naive-writer")),
    Send("send-64-50", "send 64 B text, 50 threads", 64, threads=50),
    Send("send-4k-8", "send 4 KiB text, 8 threads", 4 * _KIB, threads=8),
    Send("send-1m", "send 1 MiB binary", _MIB, binary=True),
    Receive("receive-64", "receive 64 B text", 64),
    Receive("receive-1m", "receive 1 MiB binary", _MIB, binary=True),
    SendJson("send-json", "send 1 KiB JSON, 8 threads", _KIB, threads=8),
    ReceiveJson("receive-json", "receive 1 KiB JSON", _KIB),
    RoundTrip("round-trip", "round trip 64 B, idle", 64),
    FloodedPing("round-trip-flooded", "ping while 50 threads flood", 64, threads=50),
    Footprint("connections", "1,000 open connections", 1000),
    Scale("scale", "1,000 connections, kept alive", 1000),
)
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
