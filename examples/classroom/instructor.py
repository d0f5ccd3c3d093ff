"""An instructor who answers every question: ``python -m examples.classroom.instructor URL``.

The URL is the hub's, as it prints it. Once in the classroom the instructor says so, and stays until told to
stop, or until the hub is gone.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress

from wsclient import Connection, Credentials, WSClientError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the instructor from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.classroom.instructor", description="Answers every question in a classroom."
    )
    parser.add_argument("url", help="of the hub, as it prints it")
    parser.add_argument("--session", default="demo", help="which session to join (default: demo)")
    parser.add_argument("--name", default="instructor", help="the user id (default: instructor)")
    chosen = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    connection = Connection(
        f"ws{chosen.url.removeprefix('http')}/ws",
        on_message=_answer,
        on_close=lambda *_: stop.set(),
        credentials=Credentials(chosen.name, "instructor", chosen.session),
    )
    try:
        connection.open()
    except WSClientError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(f"{chosen.name} is in {chosen.session}", flush=True)
    stop.wait()
    connection.close()


def _answer(connection: Connection, message: str | bytes) -> None:
    said = json.loads(message)
    if said["type"] == "instructor_inbox":
        answer = {"type": "inbox_response", "context": said["context"], "content": {"text": "Because."}}
        with suppress(WSClientError):  # on_close is told
            connection.send_json({**answer, "to_user": said["from_user"]})


if __name__ == "__main__":
    main()
