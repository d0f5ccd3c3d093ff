"""Requests and replies over one connection: any number of threads ask, and each gets its own answer.

::

    python examples/request_reply.py
    python examples/request_reply.py --url wss://api.example.com/rpc

Without ``--url`` it starts a server of its own, which answers out of order, refuses one request, and leaves
one without an answer. Needs ``wsclient[testing]`` for that server, and nothing but wsclient with ``--url``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import nullcontext
from types import TracebackType
from typing import Any

import wsclient
from wsclient.testing import ServerConnection, serve


class Refused(Exception):
    """The server answered with an error."""


class Requests:
    """A client that asks. Every method may be called from any thread, but for callbacks."""

    def __init__(self, url: str, **options: Any) -> None:
        self._numbers = itertools.count(1)  # next() is atomic
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}  # under _lock
        self._connection = wsclient.connect(url, on_message=self._receive, on_close=self._fail_all, **options)

    def ask(self, method: str, *arguments: Any, timeout: float = 10.0) -> Any:
        """Ask, and return the answer.

        Raises:
            TimeoutError: none came within ``timeout`` seconds; one that comes later is passed over.
            Refused: the server says that it cannot.
            wsclient.ConnectionClosed: the connection was closed before the answer came.
        """
        number, answer = self.start(method, *arguments)
        try:
            return answer.result(timeout)
        except FutureTimeout:
            raise TimeoutError(f"{method}: no answer within {timeout:g} s") from None
        finally:
            self._forget(number)

    def start(self, method: str, *arguments: Any) -> tuple[int, Future[Any]]:
        """Ask, and return the number of the request and the future of its answer at once."""
        number, answer = next(self._numbers), Future[Any]()
        with self._lock:  # first: the answer may be quick
            self._waiting[number] = answer
        try:
            self._connection.send_json({"id": number, "method": method, "params": arguments})
        except BaseException:
            self._forget(number)
            raise
        return number, answer

    def _forget(self, number: int) -> Future[Any] | None:
        with self._lock:
            return self._waiting.pop(number, None)

    def _receive(self, conn: wsclient.Connection, message: str | bytes) -> None:
        # Reader thread. Whatever is done with an answer happens in the thread that waits for it.
        reply = json.loads(message)
        answer = self._forget(reply["id"])
        if answer is None:
            return  # too late
        if "error" in reply:
            answer.set_exception(Refused(reply["error"]))
        else:
            answer.set_result(reply["result"])

    def _fail_all(self, conn: wsclient.Connection, code: int, reason: str) -> None:
        with self._lock:
            answers, self._waiting = list(self._waiting.values()), {}
        for answer in answers:
            answer.set_exception(wsclient.ConnectionClosed(code, reason))

    def close(self) -> None:
        """Close the connection; whoever still waits gets ``ConnectionClosed``."""
        self._connection.close()

    def __enter__(self) -> Requests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- the server of the demonstration -----------------------------------------------------------------------


def calculate(connection: ServerConnection) -> None:
    """Add numbers. Every second answer is held back until after the next one."""
    held: list[dict[str, Any]] = []
    for message in connection:
        request = json.loads(message)
        if request["method"] == "sleep":
            continue  # it never answers
        if request["method"] != "add":
            connection.send_json({"id": request["id"], "error": f"no method {request['method']!r}"})
            continue
        held.insert(0, {"id": request["id"], "result": sum(request["params"])})
        if len(held) == 2:
            while held:
                connection.send_json(held.pop(0))


def demonstrate(url: str) -> None:
    """Ask from eight threads."""
    with Requests(url) as requests, ThreadPoolExecutor(8) as pool:
        sums = pool.map(lambda number: requests.ask("add", number, number), range(100))
        assert list(sums) == [2 * number for number in range(100)]
        print("100 requests of 8 threads: each got its own answer")
        for method, timeout in (("multiply", 10), ("sleep", 0.2)):
            try:
                requests.ask(method, timeout=timeout)
            except (Refused, TimeoutError) as error:
                print(f"{type(error).__name__}: {error}")
        _, answer = requests.start("sleep")
        requests.close()
        print(f"{type(answer.exception(timeout=5)).__name__}: {answer.exception()}")


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description="Ask over one connection from many threads.")
    parser.add_argument("--url", help="a server to use; by default one is started here")
    chosen = parser.parse_args()
    with serve(calculate) if not chosen.url else nullcontext() as server:
        try:
            demonstrate(server.url if server else chosen.url)
        except wsclient.HandshakeError as error:
            sys.exit(f"cannot connect: {error}")


if __name__ == "__main__":
    main()
