"""``python -m tests.reliability.reconnects --count 10000``: does anything grow from link to link?

One ``Connection`` is lost and opened again so many times, by a server in another process that ends its links
in turn with a close frame, without one, with a reset, and with an answer that is no upgrade. At marks on the
way, in ``on_reconnect`` on the reader thread, everything is counted that could grow: threads, open files,
stack frames, objects, resident memory. A second round looks at the memory of wsclient's own modules, by
``tracemalloc``, which would disturb the first.

Exit status: 0 when nothing grows, 1 when something does.
"""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import logging
import os
import socket
import struct
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from time import monotonic

import wsclient

from .processes import Child, python

__all__ = ["Sample", "growth", "main", "run"]

HOST = "127.0.0.1"
MARKS = 20  # how many times it looks; the first quarter is for warming up
RESIDENT_SLACK = 1 << 20  # bytes; over 10,000 links, what one object of a hundred bytes a link would take
TRACED_SLACK = 16 << 10  # bytes; a list that is a little longer at one mark than at another
OBJECTS_SLACK = 200  # a hundredth of what one object a link would leave
_GREETING = "g" * 1000
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LINGER_NOT = struct.pack("ii", 1, 0)  # close() sends a reset


@dataclass(frozen=True)
class Sample:
    """What there is after so many reconnects."""

    reconnects: int
    threads: int
    files: int
    frames: int  # of the reader's stack, seen from on_reconnect
    objects: int  # that the garbage collector knows
    resident: int  # bytes
    traced: int  # bytes that wsclient's modules hold; 0 when that is not traced


# -- the server, in its own process -----------------------------------------------------------------------


def serve() -> None:
    """Accept links one after the other and end each in its turn, until standard input ends."""
    with socket.create_server((HOST, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=_serve_links, args=(listener,), daemon=True).start()
        sys.stdin.read()


def _serve_links(listener: socket.socket) -> None:
    number = 0
    while True:
        link, _ = listener.accept()
        with link, suppress(ConnectionError):
            _ENDS[number % len(_ENDS)](link)
        number += 1


def _upgrade(link: socket.socket) -> None:
    head = _read_head(link)
    key = next(line.split(b":")[1].strip() for line in head.split(b"\r\n") if b"Sec-WebSocket-Key" in line)
    proof = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    link.sendall(b"\r\n".join([*lines, b"Sec-WebSocket-Accept: " + proof, b"", b"\x81\x05hello"]))
    link.recv(65536)  # the client is at work: its greeting has come


def _read_head(link: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and (more := link.recv(65536)):
        head += more
    return head


def _close_frame(link: socket.socket) -> None:
    _upgrade(link)
    link.sendall(b"\x88\x02\x03\xe9")
    link.shutdown(socket.SHUT_WR)
    while link.recv(65536):
        pass


def _end_of_stream(link: socket.socket) -> None:
    _upgrade(link)


def _reset(link: socket.socket) -> None:
    _upgrade(link)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def _reject(link: socket.socket) -> None:
    _read_head(link)
    link.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")


_ENDS: tuple[Callable[[socket.socket], None], ...] = (_close_frame, _end_of_stream, _reset, _reject)


# -- the client -------------------------------------------------------------------------------------------


class Observer:
    """The callbacks of the connection, which count what there is.

    Args:
        count: reconnects until it is done.
        greets: whether to send something each time. What was sent once and is sent again is enough otherwise.
        traced: whether to look at the memory of wsclient's modules.
    """

    def __init__(self, count: int, *, greets: bool, traced: bool) -> None:
        self._count = count
        self._greets = greets
        self._traced = traced
        self._step = max(count // MARKS, 1)
        self._seen = 0  # reader thread
        self.samples: list[Sample] = []  # reader thread, until `done`
        self.done = threading.Event()

    def on_reconnect(self, conn: wsclient.Connection) -> None:
        """Count, and greet."""
        self._seen += 1
        if self._seen <= self._count and self._seen % self._step == 0:
            self.samples.append(_take_sample(self._seen, self._traced))
        if self._seen == self._count:
            self.done.set()
        if self._greets:
            conn.send(_GREETING)


def _take_sample(reconnects: int, traced: bool) -> Sample:
    frames = _count_frames()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    gc.collect()
    return Sample(
        reconnects,
        threading.active_count(),
        len(os.listdir("/proc/self/fd")),
        frames,
        len(gc.get_objects()),
        resident,
        _traced_bytes() if traced else 0,
    )


def _count_frames() -> int:
    frame, count = sys._getframe(), 0
    while frame.f_back is not None:
        frame, count = frame.f_back, count + 1
    return count


def _traced_bytes() -> int:
    own = tracemalloc.Filter(True, str(Path(wsclient.__file__).parent / "*"))
    statistics = tracemalloc.take_snapshot().filter_traces([own]).statistics("filename")
    return sum(statistic.size for statistic in statistics)


def run(count: int, delivery: str, traced: bool, patience: float) -> tuple[list[Sample], float]:
    """Reconnect ``count`` times; returns the samples, and the seconds that it took.

    Raises:
        TimeoutError: that took longer than ``patience`` seconds.
    """
    observer = Observer(count, greets=delivery == "at_most_once", traced=traced)
    policy = wsclient.Reconnect(initial_delay=0, jitter="none")
    with tempfile.TemporaryDirectory() as folder:
        server = Child(python("reliability.reconnects", "--serve"), Path(folder) / "errors", lambda _: None)
        try:
            conn = wsclient.Connection(
                f"ws://{HOST}:{server.first_line()}/",
                proxy=None,
                reconnect=policy,
                delivery=wsclient.Delivery(delivery),
                on_open=lambda conn: conn.send(_GREETING),
                on_message=lambda conn, message: None,
                on_reconnect=observer.on_reconnect,
            )
            begin = monotonic()
            if traced:
                tracemalloc.start()
            _hold_open(conn, observer.done, patience)
            return observer.samples, monotonic() - begin
        finally:
            tracemalloc.stop()
            server.stop()


def _hold_open(conn: wsclient.Connection, done: threading.Event, patience: float) -> None:
    conn.open()
    try:
        if not done.wait(patience):
            raise TimeoutError(f"{conn.stats().reconnects} reconnects in {patience} s")
    finally:
        conn.abort()


def growth(samples: Sequence[Sample]) -> list[str]:
    """Say what grows once it is warm: from the mark at a quarter of the way to the end."""
    warm = samples[max(len(samples) // 4 - 1, 0) :]
    found = []
    for name, slack in (
        ("threads", 0),
        ("files", 0),
        ("frames", 0),
        ("objects", OBJECTS_SLACK),
        ("resident", RESIDENT_SLACK),
        ("traced", TRACED_SLACK),
    ):
        first, last = getattr(warm[0], name), getattr(warm[-1], name)
        if last - first > slack:
            found.append(f"{name} grew from {first:,} to {last:,}")
    return found


def _table(samples: Sequence[Sample]) -> str:
    names = [field.name for field in fields(Sample)]
    rows = [names, *([f"{value:,}" for value in astuple(sample)] for sample in samples)]
    return "\n".join("  ".join(f"{cell:>12}" for cell in row) for row in rows)


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.reconnects", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--delivery", choices=["at_most_once", "at_least_once"], default="at_most_once")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds for each of the two rounds")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve()
        return 0
    logging.getLogger("wsclient").setLevel(logging.CRITICAL)  # a line for each connection that is lost
    found: list[str] = []
    for traced in (False, True):
        samples, seconds = run(options.count, options.delivery, traced, options.patience)
        print(_table(samples))
        print(f"{options.count:,} reconnects, {options.delivery}, in {seconds:.1f} s", flush=True)
        found += growth(samples)
    print("\n".join(found) or "nothing grows")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
