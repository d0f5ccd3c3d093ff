"""Programs for ``WebSocketApp``, each run with websocket-client and with ``wsclient.compat``; what they note.

A program knows nothing of which of the two it is run with: it is given the module.
"""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from wsclient.testing import (
    FaultServer,
    Step,
    accept_upgrade,
    cut,
    http_response,
    read_frames,
    read_messages,
    read_until_close,
    reset,
    send_binary,
    send_close,
    send_continuation,
    send_ping,
    send_pong,
    send_raw,
    send_text,
)

__all__ = ["SCENARIOS", "Scenario", "leaking", "run"]

NAMES = (
    *("on_open", "on_reconnect", "on_message", "on_data", "on_error", "on_close"),
    *("on_ping", "on_pong", "on_cont_message"),
)
Note = tuple[Any, ...]
Action = Callable[[Any, "Program"], None]


def shown(value: Any) -> Any:
    """An argument as it is compared: of an error, what a program can tell it by."""
    if not isinstance(value, BaseException):
        return value
    names = {kind.__name__ for kind in type(value).__mro__}
    if "WebSocketBadStatusException" in names:
        return "bad status", value.status_code  # type: ignore[attr-defined]
    if hasattr(value, "status_code"):
        return "closed by server", value.status_code, value.reason  # type: ignore[attr-defined]
    # How a loss shows, as a reset or as an end, is a matter of luck.
    if names & {"ConnectionResetError", "WebSocketConnectionClosedException", "BrokenPipeError"}:
        return "lost"
    known = ("WebSocketTimeoutException", "WebSocketPayloadException", "WebSocketProtocolException")
    return next((name for name in known if name in names), type(value).__name__)


@dataclass(frozen=True)
class Scenario:
    """What the server does, and what the program does with its app.

    Attributes:
        scripts: the server's, one for each connection.
        actions: by callback, what it does once it has noted its arguments.
        wanted: the callbacks that are set; by default those that say how the connection goes.
        attributes: of the app.
        options: of ``run_forever``.
        differs: what is different on purpose, in the words of docs/migrating.md.
        notes: what compat notes then.
    """

    scripts: Sequence[Sequence[Step]]
    actions: Mapping[str, Action] = field(default_factory=dict)
    wanted: Sequence[str] = ("on_open", "on_message", "on_error", "on_close")
    attributes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    differs: str = ""
    notes: Sequence[Note] = ()


class Program:
    """One run of a scenario: notes each callback with its arguments."""

    def __init__(self, module: Any, scenario: Scenario, url: str) -> None:
        self.module = module
        self.notes: list[Note] = []  # the thread of run_forever
        self._actions = scenario.actions
        callbacks = {name: self._callback(name) for name in scenario.wanted}
        self.app = module.WebSocketApp(url, **callbacks, **scenario.attributes)
        self._options = scenario.options

    def _callback(self, name: str) -> Callable[..., None]:
        def call(app: Any, *args: Any) -> None:
            assert app is self.app
            assert threading.current_thread() is self._thread
            self.notes.append((name, *map(shown, args)))
            if name in self._actions:
                self._actions[name](app, self)

        return call

    def run(self) -> list[Note]:
        self._thread = threading.current_thread()
        try:
            self.notes.append(("returned", self.app.run_forever(**self._options)))
        except BaseException as error:
            self.notes.append(("raised", type(error).__name__))
        self.notes.append(("after", self.app.sock, self.app.keep_running, self.app.ready()))
        return self.notes

    def count(self, name: str) -> int:
        return sum(note[0] == name for note in self.notes)


def run(module: Any, scenario: Scenario) -> list[Note]:
    """What a program notes, run with ``module`` against a server of its own."""
    with FaultServer(scripts=scenario.scripts, limit=10) as server:
        return Program(module, scenario, server.url).run()


@contextmanager
def leaking() -> Iterator[None]:
    """What websocket-client leaves to the garbage collector, when a server closes, is collected here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


# -- actions ------------------------------------------------------------------------------------------


def close(app: Any, program: Program) -> None:
    app.close()


def close_with_code(app: Any, program: Program) -> None:
    app.close(status=4001, reason=b"enough")


def stop(app: Any, program: Program) -> None:
    app.keep_running = False


def send_and_close(app: Any, program: Program) -> None:
    app.send("hello")
    app.send_text("text")
    app.send_bytes(b"bytes")
    app.send(b"binary", 2)
    app.close()


def send_hello(app: Any, program: Program) -> None:
    app.send("hello")


def fail(app: Any, program: Program) -> None:
    raise ValueError("of the callback")


def interrupt(app: Any, program: Program) -> None:
    raise KeyboardInterrupt


def leave(app: Any, program: Program) -> None:
    raise SystemExit(3)


def close_elsewhere(app: Any, program: Program) -> None:
    thread = threading.Thread(target=app.close)
    thread.start()
    thread.join(10)


def close_the_second(app: Any, program: Program) -> None:
    if program.count("on_open") + program.count("on_reconnect") > 1:
        app.close()


def send_when_closed(app: Any, program: Program) -> None:
    try:
        app.send("too late")
    except program.module.WebSocketConnectionClosedException:
        program.notes.append(("refused",))


def ping_and_pong(app: Any, program: Program) -> None:
    app.sock.ping("question")
    app.sock.pong("unasked")


# -- scenarios ----------------------------------------------------------------------------------------

UP = accept_upgrade()
BYE = (send_close(1000, "bye"), read_until_close(reply=False))
ALL = NAMES
SOON = 0.01
AFTER: Note = ("after", None, False, None)

# What is different on purpose, as docs/migrating.md says it.
CODE = "`on_close` gets the code and reason of the server's close frame whenever one came"
IN_ON_OPEN = "`close()` in `on_open` is no error"
OPCODE = "`on_data` gets the opcode of the message"

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "messages, closed by the server": Scenario([[UP, send_text("é1"), send_text("2"), *BYE]]),
        "all callbacks": Scenario(
            [[UP, send_text("t"), send_binary(b"b"), send_ping(b"p"), send_pong(b"q"), send_text("u"), *BYE]],
            wanted=tuple(name for name in NAMES if name != "on_cont_message"),
        ),
        "closed without a code": Scenario([[UP, send_close(None), read_until_close(reply=False)]]),
        "closed with a code of the application": Scenario(
            [[UP, send_text("last"), send_close(4001, "no é"), read_until_close(reply=False)]]
        ),
        "cut without a close frame": Scenario([[UP, send_text("last"), cut()]]),
        "cut within a frame": Scenario([[UP, send_raw(b"\x81\x0aab"), cut()]]),
        "reset": Scenario([[UP, read_messages(1), reset()]], actions={"on_open": send_hello}),
        "refused by HTTP": Scenario([[http_response(404, body=b"no")]]),
        "unauthorized": Scenario([[http_response(401)]]),
        "wrong accept key": Scenario([[accept_upgrade(wrong_key=True)]]),
        "no upgrade header": Scenario([[accept_upgrade(without=["Upgrade"])]]),
        "no answer": Scenario([[cut()]]),
        "on_open fails": Scenario([[UP, send_text("1"), *BYE]], actions={"on_open": fail}),
        "on_message fails": Scenario(
            [[UP, send_text("1"), send_text("2"), *BYE]], actions={"on_message": fail}
        ),
        "on_message fails, no on_error": Scenario(
            [[UP, send_text("1"), send_text("2"), *BYE]],
            actions={"on_message": fail},
            wanted=("on_message", "on_close"),
        ),
        "on_error fails, too": Scenario(
            [[UP, send_text("1"), read_until_close()]],
            actions={"on_message": fail, "on_error": fail},
            differs=CODE,
            notes=[
                ("on_open",),
                ("on_message", "1"),
                ("on_error", "ValueError"),
                ("on_error", "ValueError"),
                ("on_close", 1000, None),
                ("returned", True),
                AFTER,
            ],
        ),
        "on_close fails": Scenario([[UP, *BYE]], actions={"on_close": fail}),
        "closed in on_open": Scenario(
            [[UP, read_until_close()]],
            actions={"on_open": close},
            differs=IN_ON_OPEN,
            notes=[("on_open",), ("on_close", 1000, None), ("returned", False), AFTER],
        ),
        "closed in on_message": Scenario(
            [[UP, send_text("1"), read_until_close()]], actions={"on_message": close}
        ),
        "closed with a code in on_message": Scenario(
            [[UP, send_text("1"), read_until_close()]], actions={"on_message": close_with_code}
        ),
        "closed in on_error": Scenario([[UP, cut()]], actions={"on_error": close}),
        "closed in on_message by another thread": Scenario(
            [[UP, send_text("1"), read_until_close()]], actions={"on_message": close_elsewhere}
        ),
        "keep_running is set to False": Scenario(
            [[UP, send_text("1"), read_until_close()]],
            actions={"on_message": stop},
            differs=CODE,
            notes=[("on_open",), ("on_message", "1"), ("on_close", 1000, None), ("returned", False), AFTER],
        ),
        "sends, then closes": Scenario(
            [[UP, read_messages(4), read_until_close()]],
            actions={"on_open": send_and_close},
            differs=IN_ON_OPEN,
            notes=[("on_open",), ("on_close", 1000, None), ("returned", False), AFTER],
        ),
        "send in on_close": Scenario([[UP, *BYE]], actions={"on_close": send_when_closed}),
        "ping and pong": Scenario(
            [[UP, read_frames(2), *BYE]],
            actions={"on_open": ping_and_pong},
            wanted=("on_open", "on_pong", "on_error", "on_close"),
        ),
        "fragmented, assembled": Scenario(
            [[UP, send_text("a", fin=False), send_continuation(b"b"), *BYE]],
            wanted=("on_message", "on_data"),
            differs=OPCODE,
            notes=[("on_data", "ab", 1, True), ("on_message", "ab"), ("returned", False), AFTER],
        ),
        "fragmented, in pieces": Scenario(
            [
                [
                    UP,
                    send_text("a", fin=False),
                    send_continuation(b"b", fin=False),
                    send_continuation(b"c"),
                    *BYE,
                ]
            ],
            wanted=("on_message", "on_data", "on_cont_message"),
        ),
        "fragmented binary, in pieces": Scenario(
            [[UP, send_binary(b"a", fin=False), send_continuation(b"b"), send_text("whole"), *BYE]],
            wanted=("on_message", "on_data", "on_cont_message"),
        ),
        "text as bytes": Scenario(
            [[UP, send_text("é"), *BYE]],
            options={"skip_utf8_validation": True},
            wanted=("on_message", "on_data"),
        ),
        "text that is not UTF-8": Scenario([[UP, send_text(b"\xff"), read_until_close()]]),
        "reserved bit": Scenario([[UP, send_text("x", rsv=4), read_until_close()]]),
        "Ctrl-C in on_message": Scenario(
            [[UP, send_text("1"), read_until_close()]],
            actions={"on_message": interrupt},
            differs=CODE,
            notes=[
                ("on_open",),
                ("on_message", "1"),
                ("on_error", "KeyboardInterrupt"),
                ("on_close", 1000, None),
                ("returned", True),
                AFTER,
            ],
        ),
        "SystemExit in on_message": Scenario(
            [[UP, send_text("1"), read_until_close()]],
            actions={"on_message": leave},
            differs=CODE,
            notes=[
                ("on_open",),
                ("on_message", "1"),
                ("on_error", "SystemExit"),
                ("on_close", 1000, None),
                ("raised", "SystemExit"),
                AFTER,
            ],
        ),
        "reconnects after a close": Scenario(
            [[UP, *BYE], [UP, read_until_close()]],
            actions={"on_open": close_the_second},
            options={"reconnect": SOON},
            differs=IN_ON_OPEN,
            notes=[("on_open",), ("on_open",), ("on_close", 1000, None), ("returned", False), AFTER],
        ),
        "reconnects after a cut, on_reconnect": Scenario(
            [[UP, cut()], [UP, read_until_close()]],
            actions={"on_reconnect": close_the_second},
            wanted=(*NAMES[:2], "on_error", "on_close"),
            options={"reconnect": SOON},
        ),
        "reconnects after a refusal": Scenario(
            [[http_response(503)], [http_response(503)], [UP, send_text("1"), read_until_close()]],
            actions={"on_message": close},
            options={"reconnect": SOON},
        ),
        "pings are answered": Scenario(
            [[UP, read_frames(2), *BYE]],
            options={"ping_interval": 0.05, "ping_payload": "beat"},
            wanted=("on_pong", "on_error", "on_close"),
        ),
        "bad ping options": Scenario([[cut()]], options={"ping_interval": 1, "ping_timeout": 2}),
        "header list": Scenario(
            [[UP, *BYE]], attributes={"header": ["X-One: 1", "X-Two: 2"], "cookie": "a=b"}
        ),
    }
)
