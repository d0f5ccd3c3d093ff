"""The client process of the main job: many threads, one connection.

``python -m benchmarks.sender SPECIFICATION`` (JSON: :class:`Specification`) sends, closes the connection and
prints an :class:`Outcome` as JSON. The server judges what arrived.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Protocol

from benchmarks.messages import Workload

__all__ = ["Outcome", "Specification", "main"]

_PREPARED_BYTES = 256 * 1024 * 1024  # up to this size all messages are made before the clock starts
_CLOSE_TIMEOUT = 30.0  # seconds
_JOIN_TIMEOUT = 2.0  # seconds, for threads that a broken connection may hold


@dataclass(frozen=True)
class Specification:
    """What to send, how and where.

    Attributes:
        way: a key of ``WAYS``.
        url: where to.
        ca_file: certificate authority to trust, for ``wss``.
        threads, messages, size: see :class:`~benchmarks.messages.Workload`.
        seconds: stop sending after this time.
        switch_interval: ``sys.setswitchinterval``, in seconds; ``None`` leaves it.
    """

    way: str
    url: str
    ca_file: str | None
    threads: int
    messages: int
    size: int
    seconds: float
    switch_interval: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What the sending side saw.

    Attributes:
        sent: calls of ``send`` that returned.
        errors: how many threads ended with which error.
        frames_per_write: frames that one write to the socket carried on average, where the library tells.
    """

    sent: int
    errors: dict[str, int]
    frames_per_write: float | None


class Sender(Protocol):
    """One connection that many threads use."""

    def send(self, message: str) -> None:
        """Send one text message; called from many threads at once."""

    def close(self) -> None:
        """Close in an orderly way."""

    def frames_per_write(self) -> float | None:
        """Average over this connection."""


class OneWriter:
    """wsclient: one Connection, as it comes."""

    def __init__(self, url: str, context: ssl.SSLContext | None) -> None:
        import wsclient

        self._connection = wsclient.connect(url, ssl_context=context)

    def send(self, message: str) -> None:
        self._connection.send(message)

    def close(self) -> None:
        self._connection.close(timeout=_CLOSE_TIMEOUT)

    def frames_per_write(self) -> float | None:
        return self._connection.stats().frames_per_write


class SharedWebSocket:
    """websocket-client: one WebSocket, with the lock it has by default, or without."""

    def __init__(self, url: str, context: ssl.SSLContext | None, locked: bool) -> None:
        import websocket

        self._socket = websocket.create_connection(
            url, enable_multithread=locked, sslopt={"context": context}
        )

    def send(self, message: str) -> None:
        self._socket.send(message)

    def close(self) -> None:
        self._socket.close(timeout=int(_CLOSE_TIMEOUT))

    def frames_per_write(self) -> float | None:
        return None


WAYS: dict[str, Callable[[str, ssl.SSLContext | None], Sender]] = {
    "wsclient": OneWriter,
    "locked": lambda url, context: SharedWebSocket(url, context, locked=True),
    "unlocked": lambda url, context: SharedWebSocket(url, context, locked=False),
}


class Herd:
    """The sending threads: all start at once, all stop at the first error or when the time is up."""

    def __init__(self, workload: Workload, send: Callable[[str], None], seconds: float) -> None:
        self._workload = workload
        self._send = send
        self._seconds = seconds
        self._start = threading.Barrier(workload.threads + 1)
        self._stop = threading.Event()
        # Each thread writes its own entry; read after the threads have ended.
        self._sent = [0] * workload.threads
        self._errors: Counter[str] = Counter()
        self._error_lock = threading.Lock()  # owns _errors

    def run(self) -> tuple[int, dict[str, int]]:
        """Send everything; messages sent, and how many threads ended with which error."""
        threads = [
            threading.Thread(target=self._send_all, args=(number, messages), daemon=True)
            for number, messages in enumerate(self._messages())
        ]
        for thread in threads:
            thread.start()
        self._start.wait()
        self._wait_for(threads)
        with self._error_lock:
            return sum(self._sent), dict(self._errors)

    def _messages(self) -> list[Iterable[str]]:
        load = self._workload
        streams = [load.of_thread(number) for number in range(load.threads)]
        if load.total * load.size > _PREPARED_BYTES:
            return list(streams)
        return [list(stream) for stream in streams]

    def _send_all(self, number: int, messages: Iterable[str]) -> None:
        send, stopped = self._send, self._stop.is_set
        self._start.wait()
        try:
            for count, message in enumerate(messages, 1):
                send(message)
                self._sent[number] = count
                if stopped():
                    return
        except Exception as error:  # whatever a broken connection makes of it is the result
            self._stop.set()
            self._note(error)

    def _note(self, error: Exception) -> None:
        with self._error_lock:
            self._errors[f"{type(error).__name__}: {str(error)[:200]}"] += 1

    def _wait_for(self, threads: list[threading.Thread]) -> None:
        _join(threads, self._seconds, until=self._stop)
        self._stop.set()
        _join(threads, _JOIN_TIMEOUT, until=None)
        stuck = sum(thread.is_alive() for thread in threads)
        if stuck:
            with self._error_lock:
                self._errors["still in send()"] += stuck


def _join(threads: list[threading.Thread], seconds: float, until: threading.Event | None) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        while (
            thread.is_alive() and time.monotonic() < deadline and not (until is not None and until.is_set())
        ):
            thread.join(0.05)


def _trust(ca_file: str | None) -> ssl.SSLContext | None:
    return None if ca_file is None else ssl.create_default_context(cafile=ca_file)


def _run(specification: Specification) -> Outcome:
    if specification.switch_interval is not None:
        sys.setswitchinterval(specification.switch_interval)
    sender = WAYS[specification.way](specification.url, _trust(specification.ca_file))
    workload = Workload(specification.threads, specification.messages, specification.size)
    sent, errors = Herd(workload, sender.send, specification.seconds).run()
    try:
        sender.close()
    except Exception as error:  # a connection that is broken already may say so again
        text = f"close: {type(error).__name__}: {str(error)[:200]}"
        errors[text] = errors.get(text, 0) + 1
    return Outcome(sent, errors, sender.frames_per_write())


def main() -> None:
    """Run one specification, given as JSON in the first argument."""
    outcome = _run(Specification(**json.loads(sys.argv[1])))
    print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
