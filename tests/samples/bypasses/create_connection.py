# mypy: ignore-errors
"""create_connection, by any name."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import Executor
from typing import Any

import websocket  # finds: raw-import
from websocket import create_connection as dial  # finds: raw-import

URL = "ws://localhost/"
library = websocket
make = websocket.create_connection


class Client:
    def __init__(self) -> None:
        self.library = websocket
        self.make = dial

    def open(self) -> None:
        self.library.create_connection(URL)  # finds: create-connection
        self.make(URL)  # finds: create-connection


def direct(pool: Executor) -> list[Any]:
    reopen = functools.partial(websocket.create_connection, URL)  # finds: create-connection
    threading.Thread(target=dial, args=(URL,))  # finds: create-connection
    return [
        websocket.create_connection(URL),  # finds: create-connection
        dial(URL),  # finds: create-connection
        library.create_connection(URL),  # finds: create-connection
        make(URL),  # finds: create-connection
        getattr(websocket, "create_connection")(URL),  # noqa: B009  # finds: create-connection
        pool.submit(dial, URL),  # finds: create-connection
        reopen(),
    ]
