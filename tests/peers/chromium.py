"""A real browser, without a window, that opens one page at a time: Chromium, led by its DevTools protocol.

The protocol is JSON over a WebSocket, so a ``Connection`` speaks it: one more peer without shared code.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wsclient
from peers.launch import Place, Process, Unavailable, find_program, launched
from wsclient import Connection, WSClientError

__all__ = ["Page", "start_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_WAIT = 20.0  # seconds; bounds what takes milliseconds
_CLOSE_SECONDS = 10.0
# Its own sandbox needs rights that containers don't give; it opens pages of these tests only.
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
_QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-extensions")
# It says where it listens among other things on standard error, which has to be read to its end.
_ANNOUNCED = '"$@" 2>&1 | tee /dev/stderr | sed -u -n "s/^DevTools listening on //p"'


class Page:
    """A page of the browser. Not for several threads."""

    def __init__(self, connection: Connection, session: str) -> None:
        self._connection = connection
        self._session = session
        self._calls = 0  # the thread of the test
        self.events: list[dict[str, Any]] = []  # the thread of the test; since the last ``open``

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Show a file, as a phone does when it is narrow, and wait until it is loaded."""
        self.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])
        self.call("Page.navigate", url=path.as_uri())
        while not self.happened("Page.loadEventFired"):
            self.events.append(self._connection.recv_json(_WAIT))

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the protocol, and what came of it.

        Raises:
            RuntimeError: the browser refused it.
        """
        self._calls += 1
        command = {"id": self._calls, "method": method, "params": parameters, "sessionId": self._session}
        self._connection.send_json(command)
        while True:
            message = self._connection.recv_json(_WAIT)
            if message.get("id") != self._calls:
                self.events.append(message)
            elif "result" in message:
                result: dict[str, Any] = message["result"]
                return result
            else:
                raise RuntimeError(f"{method}: {message['error']}")

    def happened(self, method: str) -> list[dict[str, Any]]:
        """The parameters of each event of that name since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, by way of JSON.

        Raises:
            RuntimeError: it threw.
        """
        found = self.call("Runtime.evaluate", expression=f"JSON.stringify({expression}) ?? null")
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        text = found["result"].get("value")
        return None if text is None else json.loads(text)

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG, not only what fits into the window."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def start_chromium(name: str, place: Place) -> Iterator[Page]:
    """Run the browser until the end of the block; `Unavailable` if there is none."""
    program = _find_browser()
    profile = f"--user-data-dir={place.folder / 'profile'}"
    command = [program, *_OPTIONS, *_QUIET, profile, "--remote-debugging-port=0", "about:blank"]
    shell = ["sh", "-c", _ANNOUNCED, name, *command]
    with (
        launched(shell, place.folder, cwd=place.folder) as process,
        _ended(process),
        wsclient.connect(process.first_line(), proxy=None, ping_interval=None) as connection,
    ):
        yield Page(connection, _new_page(connection))
        with contextlib.suppress(WSClientError):
            connection.send_json({"id": 0, "method": "Browser.close"})


def _find_browser() -> str:
    for name in _NAMES:
        with contextlib.suppress(Unavailable):
            return find_program(name)
    raise Unavailable(f"none of {', '.join(_NAMES)} is installed")


@contextmanager
def _ended(process: Process) -> Iterator[None]:
    """It closes in its own time when it was told to; what does not is killed, its children too."""
    try:
        yield
    finally:
        if not process.ended_within(_CLOSE_SECONDS):
            process.kill()


def _new_page(connection: Connection) -> str:
    target = _answer(connection, "Target.createTarget", {"url": "about:blank"})["targetId"]
    attached = _answer(connection, "Target.attachToTarget", {"targetId": target, "flatten": True})
    return str(attached["sessionId"])


def _answer(connection: Connection, method: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    connection.send_json({"id": 0, "method": method, "params": parameters})
    while True:
        message = connection.recv_json(_WAIT)
        if message.get("id") == 0:
            result: dict[str, Any] = message["result"]
            return result
