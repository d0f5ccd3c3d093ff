"""Running the application's callbacks: in order, one at a time, and never letting their errors out.

No caller holds a lock. Where the callbacks run is a choice of two strategies with the same interface:
``Direct``, on the thread that calls (the reader), and ``Ordered``, on an executor.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Protocol, TypeAlias, cast

from wsclient.exceptions import Disconnected
from wsclient.inbox import Inbox
from wsclient.items import received_size
from wsclient.options import Options
from wsclient.protocol import Fragment
from wsclient.reconnect import Disconnect, should_retry

__all__ = ["Callbacks", "Direct", "Ordered", "Runner"]

Received: TypeAlias = "str | bytes | Fragment"
Call = Callable[[], None]


class Callbacks:
    """The four callbacks of one connection, each made safe.

    Args:
        options: where the application's functions are.
        log: where errors of callbacks are written, with their tracebacks.
    """

    def __init__(self, options: Options, log: logging.LoggerAdapter[logging.Logger]) -> None:
        self._log = log
        self._on_open = options.on_open
        self._on_message = options.on_message
        self._on_fragment = options.on_fragment
        self._on_close = options.on_close
        self._on_error = options.on_error
        self._on_disconnect = options.on_disconnect
        self._on_reconnect = options.on_reconnect
        self._on_ping = options.on_ping
        self._on_pong = options.on_pong
        self._on_dropped = options.on_dropped
        self.connection: Any = None  # set once, before the reader thread starts
        self.errors: int = 0  # the one thread that runs callbacks at the time

    @property
    def any(self) -> bool:
        """Whether there is any callback at all."""
        others = self._on_open, self._on_close, self._on_error, self._on_dropped
        return self.take_messages or any(
            (*others, self._on_disconnect, self._on_reconnect, *self._on_control)
        )

    @property
    def _on_control(self) -> tuple[Callable[..., object] | None, ...]:
        return self._on_ping, self._on_pong

    @property
    def take_control(self) -> bool:
        """Whether pings or pongs go to a callback."""
        return any(self._on_control)

    @property
    def take_messages(self) -> bool:
        """Whether received messages go to a callback."""
        return bool(self._on_message or self._on_fragment)

    def opened(self) -> None:
        self._run(self._on_open)

    def closed(self, code: int, reason: str) -> None:
        self._run(self._on_close, code, reason)

    def pinged(self, payload: bytes) -> None:
        self._run(self._on_ping, payload)

    def ponged(self, payload: bytes) -> None:
        self._run(self._on_pong, payload)

    def disconnected(self, reason: Disconnect) -> None:
        self._run(self._on_disconnect, reason)

    def reconnected(self, is_lost: Callable[[], bool]) -> None:
        """``is_lost`` tells whether that link is gone by now."""
        if self._on_reconnect is None:
            return
        try:
            self._on_reconnect(self.connection)
        except BaseException as error:
            if isinstance(error, Disconnected) and is_lost():
                self._log.info("on_reconnect: %s", error)  # no fault of its: the next one is greeted again
            else:
                self._report("on_reconnect", error)

    @property
    def follow_links(self) -> bool:
        """Whether the application wants to know of links that come and go."""
        return bool(self._on_disconnect or self._on_reconnect)

    @property
    def greets_again(self) -> bool:
        """Whether there is an ``on_reconnect``."""
        return self._on_reconnect is not None

    def wants_retry(self, retry: Callable[[Disconnect], bool], reason: Disconnect) -> bool:
        """Ask the application's ``retry``; when it fails, the default decides."""
        try:
            return bool(retry(reason))
        except BaseException as error:
            self._report("retry", error)
            return should_retry(reason)

    def failed(self, error: BaseException) -> None:
        """Hand an error that was not an error of a callback to ``on_error``."""
        self._run(self._on_error, error)

    def expired(self, message: str | bytes) -> None:
        """Runs on the writer thread."""
        self._run(self._on_dropped, message)

    def dropped(self, message: str | bytes) -> None:
        """Runs on the sending thread, whose Ctrl-C is not ours to keep."""
        if self._on_dropped is None:
            return
        try:
            self._on_dropped(self.connection, message)
        except Exception as error:
            self._report("on_dropped", error)

    def received(self, items: list[Received]) -> None:
        """Hand over messages, or pieces of messages, one by one."""
        if self._on_fragment is not None:
            self._fragments(cast("list[Fragment]", items))
        else:
            self._messages(cast("list[str | bytes]", items))

    def _messages(self, messages: list[str | bytes]) -> None:
        on_message = self._on_message
        connection = self.connection
        assert on_message is not None
        for message in messages:
            try:
                on_message(connection, message)
            except BaseException as error:
                self._report("on_message", error)

    def _fragments(self, fragments: list[Fragment]) -> None:
        for fragment in fragments:
            self._run(self._on_fragment, fragment.data, fragment.final)

    def _run(self, callback: Callable[..., object] | None, *args: object) -> None:
        if callback is None:
            return
        try:
            callback(self.connection, *args)
        except BaseException as error:  # SystemExit and the like, too: the thread is not theirs to end
            self._report(getattr(callback, "__name__", "callback"), error, callback is not self._on_error)

    def _report(self, name: str, error: BaseException, tell: bool = True) -> None:
        self.errors += 1
        self._log.error("%s raised %s", name, type(error).__name__, exc_info=error)
        if tell:
            self._run(self._on_error, error)


class Runner(Protocol):
    """Where callbacks run. Called by the reader thread only."""

    deliver: Callable[[list[Received]], None]  # hands over messages; may block while there is no room

    def call(self, function: Call) -> None:
        """Run one callback, after everything that was delivered before. Never blocks."""

    def call_in_turn(self, function: Call) -> None:
        """The same for those of which the peer may cause any number: waits for room, as ``deliver``."""

    def stop_waiting(self) -> None:
        """Do not block in ``deliver`` any more: what finds no room is dropped. Any thread."""

    def wait_again(self) -> None:
        """Block in ``deliver`` again, from now on. Reader thread."""

    def is_calling(self) -> bool:
        """Whether the calling thread is in a callback that this runs elsewhere than on the reader thread."""

    @property
    def dropped(self) -> int:
        """How much was delivered and found no room after ``stop_waiting``."""


class Direct:
    """Callbacks run on the thread that delivers."""

    def __init__(self, deliver: Callable[[list[Received]], None]) -> None:
        self.deliver = deliver

    def call(self, function: Call) -> None:
        function()

    def call_in_turn(self, function: Call) -> None:
        function()

    def stop_waiting(self) -> None:
        """Nothing waits here."""

    def wait_again(self) -> None:
        """Nothing waits here."""

    def is_calling(self) -> bool:
        return False

    @property
    def dropped(self) -> int:
        return 0


class Ordered:
    """Callbacks run on an executor, one after the other, at most one at a time.

    Args:
        executor: the application's; other work may share it.
        callbacks: what to run.
        max_messages, max_bytes: bounds of what waits; then ``deliver`` blocks, and reading pauses.
    """

    _SHARE = 256  # items handled before the executor's other users get a turn

    def __init__(self, executor: Executor, callbacks: Callbacks, max_messages: int, max_bytes: int) -> None:
        self._executor = executor
        self._callbacks = callbacks
        self.deliver: Callable[[list[Received]], None] = self._deliver
        self.inbox: Inbox[Received | Call] = Inbox(
            max_messages, max_bytes, size=_size_of, notify=self._schedule
        )
        self._mutex = threading.Lock()
        self._active = False  # _mutex: a turn is under way or submitted
        self._caller: int | None = None  # the thread whose turn it is; read by any

    def _deliver(self, messages: list[Received]) -> None:
        self.inbox.put_all([*messages])

    def call(self, function: Call) -> None:
        self.inbox.put_last(function)

    def call_in_turn(self, function: Call) -> None:
        self.inbox.put_all([function])

    def stop_waiting(self) -> None:
        self.inbox.stop_waiting()

    def wait_again(self) -> None:
        self.inbox.wait_again()

    def is_calling(self) -> bool:
        return self._caller == threading.get_ident()

    @property
    def dropped(self) -> int:
        return self.inbox.dropped

    def _schedule(self) -> None:
        with self._mutex:
            if self._active:
                return
            self._active = True
        self._submit(otherwise=self._drain)

    def _submit(self, otherwise: Call) -> None:
        try:
            turn = self._executor.submit(self._turn)
        except Exception:  # shut down, full or broken: what has come must not be lost
            otherwise()
        else:
            turn.add_done_callback(self._note_not_run)

    def _note_not_run(self, turn: Future[None]) -> None:
        # Cancelled by a shutdown, or failed by a broken pool. Its lock may be held: no callback may run here.
        if turn.cancelled() or turn.exception() is not None:
            self._hand_over()

    def _turn(self) -> None:
        for _ in range(self._SHARE):
            if not self._handle_one():
                return
        # A thread of the executor's has to end now that it is shut down: an exit may be waiting for that.
        self._submit(otherwise=self._hand_over)

    def _hand_over(self) -> None:
        try:
            threading.Thread(target=self._drain, name="wsclient-callbacks", daemon=True).start()
        except RuntimeError:  # no threads any more, at interpreter exit: the next that comes finds the rest
            with self._mutex:
                self._active = False

    def _drain(self) -> None:
        while self._handle_one():
            pass

    def _handle_one(self) -> bool:
        with self._mutex:
            try:
                item = self.inbox.get(0)
            except TimeoutError:
                self._active = False
                return False
        self._caller = threading.get_ident()
        if callable(item):
            item()
        else:
            self._callbacks.received([item])
        self._caller = None
        return True


def _size_of(item: Received | Call) -> int:
    return 0 if callable(item) else received_size(item)
