"""A publisher of measurements that survives restarts of its server: each arrives, some of them twice.

::

    python examples/telemetry.py
    python examples/telemetry.py --url wss://telemetry.example.com/

Without ``--url`` it starts a server of its own, and kills it three times (SIGKILL) while measurements flow.
The server writes down what came before it answers the next ping, so that nothing is missing. Needs
``websockets`` for that server (``wsclient[testing]`` brings it), and nothing but wsclient with ``--url``.
"""

from __future__ import annotations

import argparse
import json
import math
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import wsclient

COUNT = 2000
KILLS = 3


def publish(url: str, measurements: Iterable[dict[str, object]]) -> wsclient.Stats:
    """Send all measurements, and return once the server has processed the last of them."""
    with wsclient.connect(
        url,
        reconnect=wsclient.Reconnect(initial_delay=0.05, max_delay=5),
        # What was written and may not have arrived is sent again. So some may come twice: hence the "id".
        delivery="at_least_once",
        send_timeout=30,  # while the server is away the queue fills, and then `send` waits
        on_disconnect=lambda conn, reason: print(f"{reason.kind.value}: connecting again"),
    ) as conn:
        for measurement in measurements:
            conn.send_json(measurement)
        conn.confirm(timeout=30)
        return conn.stats()


def measure(count: int) -> Iterator[dict[str, object]]:
    """Stands for your sensors."""
    for number in range(count):
        time.sleep(0.0005)
        yield {"id": number, "sensor": "boiler", "celsius": round(60 + 5 * math.sin(number / 50), 2)}


# -- the demonstration: a server in a process of its own, which is killed ------------------------------------


class Archive:
    """The server's process. It keeps its port, and its file, when it is started again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Until `sabotage` has the archive the main thread owns these, then that.
        self._port = 0  # any free one, at first
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start, and wait until it listens."""
        command = [sys.executable, __file__, "--archive", str(self._path), str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._port = int(self.read_line())

    def read_line(self) -> str:
        """Wait for the next line of its output: its port, then one line for each measurement."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def kill(self) -> None:
        """Kill it in the middle of whatever it does."""
        assert self._process is not None
        with self._process:  # closes the pipe, and waits
            self._process.kill()

    def received(self) -> Counter[int]:
        """How often each measurement came."""
        return Counter(json.loads(line)["id"] for line in self._path.read_text().splitlines())


def sabotage(archive: Archive) -> None:
    """Kill the archive whenever it has written down another few hundred measurements, three times."""
    for _ in range(KILLS):
        for _ in range(COUNT // (KILLS + 2)):
            archive.read_line()
        archive.kill()
        archive.start()


def run_archive(path: str, port: int) -> None:
    """Body of the server's process: a pong goes out when all that came before its ping is written down."""
    # Most servers answer pings on their own, ahead of the application: a pong then says only that the message
    # has reached the server, and a kill may take what the application had not looked at yet.
    from websockets.frames import Frame, Opcode
    from websockets.http11 import Request
    from websockets.server import ServerProtocol

    class Attendant(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            protocol = ServerProtocol()
            with open(path, "a", encoding="utf-8") as file:
                while data := self.request.recv(65536):
                    protocol.receive_data(data)
                    for event in protocol.events_received():
                        if isinstance(event, Request):
                            protocol.send_response(protocol.accept(event))
                        elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                            print(bytes(event.data).decode(), file=file, flush=True)
                            print("one more", flush=True)
                    for answer in protocol.data_to_send():
                        self.request.sendall(answer)

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Attendant) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


def demonstrate() -> None:
    """Publish to an archive that is killed, and compare both sides."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder, "archive.jsonl"))
        archive.start()
        saboteur = threading.Thread(target=sabotage, args=(archive,), name="saboteur")
        saboteur.start()
        stats = publish(archive.url, measure(COUNT))
        saboteur.join()
        archive.kill()
        received = archive.received()
    print(f"sent {COUNT}; server killed {KILLS} times, connection opened again {stats.reconnects} times")
    twice = sum(count > 1 for count in received.values())
    print(f"archived {len(received)}, of which {twice} came more than once; missing: {COUNT - len(received)}")


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description="Publish measurements; none is lost when the server dies.")
    parser.add_argument("--url", help="a server to use; by default one is started here, and killed")
    parser.add_argument("--archive", nargs=2, metavar=("FILE", "PORT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.archive:
        run_archive(chosen.archive[0], int(chosen.archive[1]))
    elif chosen.url:
        try:
            print(publish(chosen.url, measure(COUNT)))
        except wsclient.HandshakeError as error:
            sys.exit(f"cannot connect: {error}")
    else:
        demonstrate()


if __name__ == "__main__":
    main()
