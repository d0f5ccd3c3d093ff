"""What one process generates in closed loop: plain threads, greenlets, and users of Locust.

``python -m benchmarks.locust_users``: for each way and number of users a process of its own, all against the
same server in another one; each user has a connection, sends 64 bytes, waits for their echo, and so on.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

from benchmarks.processes import Server, finish, start_module
from wsclient import Connection

__all__ = ["Found", "main"]

WAYS = ("threads", "greenlets", "Locust")
MESSAGE = "x" * 64
OPEN_TIMEOUT = 60.0  # seconds
END_TIMEOUT = 30.0


@dataclass(frozen=True)
class Found:
    """What one process found. Times are seconds, sizes bytes.

    Attributes:
        rate: round trips per second, over all users.
        cpu: processor time of the process for each, with interpreter, Locust and kernel.
        median, p99: of the round trip, as measured by the users.
        memory: resident, for each user, beyond that of the process without any.
    """

    rate: float
    cpu: float
    median: float
    p99: float
    memory: float


def _found(times: Sequence[float], elapsed: float, cpu: float, users: int, memory: int) -> Found:
    ordered = statistics.quantiles(times, n=100)
    return Found(len(times) / elapsed, cpu / len(times), ordered[49], ordered[98], memory / users)


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _run_connections(url: str, users: int, seconds: float) -> Found:
    # Under gevent, threads are greenlets and all of this stays as it is.
    times: list[float] = []
    go, stop = threading.Event(), threading.Event()
    ready = threading.Barrier(users + 1)

    def use() -> None:
        with Connection(url, open_timeout=OPEN_TIMEOUT, proxy=None) as connection:
            ready.wait()
            go.wait()
            while not stop.is_set():
                start = time.perf_counter()
                connection.send(MESSAGE)
                connection.recv(END_TIMEOUT)
                times.append(time.perf_counter() - start)

    before = _resident()
    threads = [threading.Thread(target=use) for _ in range(users)]
    for thread in threads:
        thread.start()
    ready.wait()
    memory = _resident() - before
    start, cpu = time.perf_counter(), time.process_time()
    go.set()
    stop.wait(seconds)
    elapsed, cpu, done = time.perf_counter() - start, time.process_time() - cpu, times.copy()
    stop.set()
    for thread in threads:
        thread.join()
    return _found(done, elapsed, cpu, users, memory)


def _run_greenlets(url: str, users: int, seconds: float) -> Found:
    from gevent import monkey

    monkey.patch_all()
    return _run_connections(url, users, seconds)


def _run_locust(url: str, users: int, seconds: float) -> Found:
    from locust import task
    from locust.env import Environment
    from locust.event import Events

    from wsclient.locust import WebSocketUser

    times: list[float] = []

    class Asker(WebSocketUser):
        host = url.removesuffix("/echo")
        path = "/echo"
        options = MappingProxyType({"proxy": None, "open_timeout": OPEN_TIMEOUT})

        @task
        def ask(self) -> None:
            start = time.perf_counter()
            self.client.request(MESSAGE)
            times.append(time.perf_counter() - start)

    environment = Environment(user_classes=[Asker], events=Events())  # type: ignore[no-untyped-call]
    runner = environment.create_local_runner()
    before = _resident()
    runner.start(users, spawn_rate=min(users, 100))
    while environment.stats.get("connect", "WS").num_requests < users:
        time.sleep(0.1)
    memory = _resident() - before
    start, cpu, first = time.perf_counter(), time.process_time(), len(times)
    time.sleep(seconds)
    elapsed, cpu, done = time.perf_counter() - start, time.process_time() - cpu, times[first:]
    runner.quit()
    return _found(done, elapsed, cpu, users, memory)


RUNS: Mapping[str, Callable[[str, int, float], Found]] = MappingProxyType(
    dict(zip(WAYS, (_run_connections, _run_greenlets, _run_locust), strict=True))
)


def _measure(way: str, url: str, users: int, seconds: float) -> Found:
    process = start_module("benchmarks.locust_users", "--way", way, url, str(users), str(seconds))
    assert process.stdout is not None
    try:
        return Found(**json.loads(process.stdout.read()))
    finally:
        finish(process, END_TIMEOUT)


def main(arguments: Sequence[str]) -> None:
    """Measure and print a table; with ``--way`` be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 50, 500, 1000])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", nargs=4, metavar=("WAY", "URL", "USERS", "SECONDS"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.way:
        way, url, users, seconds = given.way
        print(json.dumps(asdict(RUNS[way](url, int(users), float(seconds)))))
        return
    with Server() as server:
        print("| users | way | round trips/s | CPU each | p50 | p99 | memory a user |")
        print("|---|---|---|---|---|---|---|")
        for users in given.users:
            rounds = [
                [_measure(way, server.url("/echo"), users, given.seconds) for way in WAYS]
                for _ in range(given.rounds)
            ]
            for way, found in zip(WAYS, zip(*rounds, strict=True), strict=True):
                print(_line(users, way, found), flush=True)


def _line(users: int, way: str, rounds: Sequence[Found]) -> str:
    rate, cpu, median, p99, memory = (
        statistics.median(getattr(found, name) for found in rounds)
        for name in ("rate", "cpu", "median", "p99", "memory")
    )
    times = f"{cpu * 1e6:.0f} us | {median * 1e3:.1f} ms | {p99 * 1e3:.1f} ms"
    return f"| {users} | {way} | {rate:,.0f} | {times} | {memory / 1024:.0f} KiB |"


if __name__ == "__main__":
    main(sys.argv[1:])
