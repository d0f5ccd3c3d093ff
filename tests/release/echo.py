"""An echo server of another environment and another library; it prints its URL and ends when stdin does."""

from __future__ import annotations

import sys
import threading

from websockets.sync.server import ServerConnection, serve


def _echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


def main() -> None:
    """Serve until the parent closes the pipe, or is gone."""
    with serve(_echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, name="echo")
        thread.start()
        print(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/", flush=True)
        sys.stdin.read()
        server.shutdown()
        thread.join()


if __name__ == "__main__":
    main()
