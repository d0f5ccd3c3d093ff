"""One connection from its opening to its account, and the threads of its workers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic, sleep
from typing import Final

from wsclient import State
from wsclient.load.control import Control
from wsclient.load.ends import End, is_alive
from wsclient.load.plan import Plan
from wsclient.load.recorder import Recorder
from wsclient.load.result import Account
from wsclient.load.schedule import schedule_of

__all__ = ["Line"]

_HURRY: Final = (
    1.0  # seconds for the last answers, and for the last confirmation, when the run is ended early
)
_CLOSE: Final = 5.0  # seconds for the closing handshake
_LOOK: Final = 0.01  # seconds between two looks at what is still under way


class Line:
    """One connection. ``drive`` is the body of its thread, which is its first worker's too.

    Args:
        plan: the run.
        number: of the connection, over all processes.
        make_end: makes our end; may raise what options of a connection raise.
        dialling: bounds how many open at the same time.
        control: starts and stops it.
        recorder: takes its times and errors.
        on_opened: called once it is open, or failed, or is to be opened later.
    """

    def __init__(
        self,
        plan: Plan,
        number: int,
        make_end: Callable[[], End],
        dialling: AbstractContextManager[object],
        control: Control,
        recorder: Recorder,
        on_opened: Callable[[], None],
    ) -> None:
        self._plan, self._dialling = plan, dialling
        self.number: int = number
        self._control, self._recorder, self._on_opened = control, recorder, on_opened
        self._begin = schedule_of(plan, number, 0).begin
        self.end: End = make_end()
        # Held while it is asked for confirmations: older ones must not come after newer ones.
        self._looking = threading.Lock()
        self._closing = False  # _looking
        # The thread that drives it.
        self.attempted: bool = False
        self.opened: bool = False
        self.stopped_at: float | None = None  # when its last worker ended
        self._is_done = False  # with the connection open to the end
        self.account: Account | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection is open now, or was when it was done: a fall shows those that were lost."""
        return self._is_done or self.end.connection.state is State.OPEN

    def look_after(self, patience: float) -> None:
        """Have what was sent confirmed, in ``patience`` seconds, and give up answers that are overdue.

        For a thread that does so now and then. Not once it is being closed: then its own thread does.
        """
        with self._looking:
            if self.opened and not self._closing and is_alive(self.end.connection):
                self.end.confirm(patience)
                self.end.expire()

    def running(self) -> Account:
        """How its account stands, or is."""
        return self.account or self.end.running()

    def abort(self) -> None:
        """Drop the connection now."""
        if self.opened:
            self.end.connection.abort()

    def drive(self) -> None:
        """Open, work, wait for the last answers, close, settle."""
        if self._begin == 0:
            self._open()
        self._on_opened()
        started = self._control.wait_started()
        if self._begin > 0 and started and self._control.sleep_until(self._control.start_time + self._begin):
            self._open()
        if self.opened:
            self._work()
        self._close()

    def _open(self) -> None:
        with self._dialling:
            if self._control.stopping:
                return
            self.attempted = True
            began = monotonic()
            try:
                self.end.open()
            except Exception as error:  # a callable option, such as headers, raises what it likes
                self._recorder.exception(error)
                return
        self.opened = True
        self._recorder.setups.append(monotonic() - began)

    def _work(self) -> None:
        if self._step(self.end.begin) and self._wait_for_start():
            first, *others = self.end.runs(self._control)
            threads = [
                threading.Thread(target=self._run, args=(run,), name="wsclient-load-worker", daemon=True)
                for run in others
            ]
            for thread in threads:
                thread.start()
            self._run(first)
            for thread in threads:
                thread.join()
        self.stopped_at = monotonic()
        self._wait_for_answers()
        self._step(self.end.finish)

    def _wait_for_start(self) -> bool:
        return self._control.wait_started() and self._control.sleep_until(self._control.start_time)

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:  # ours: it must be seen, and not end a thread in silence
            self._recorder.exception(error)

    def _step(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except (Exception, SystemExit) as error:  # a scenario's setup or teardown
            self._recorder.exception(error)
            return False
        return True

    def _patience(self) -> float:
        return min(self._plan.reply_timeout, _HURRY) if self._control.stopping else self._plan.reply_timeout

    def _wait_for_answers(self) -> None:
        began = monotonic()
        while self.end.in_flight and is_alive(self.end.connection) and monotonic() < began + self._patience():
            sleep(_LOOK)

    def _close(self) -> None:
        with self._looking:
            self._closing = True
        if self.opened:
            if is_alive(self.end.connection):
                self.end.confirm(max(self._patience(), _HURRY))
            self._is_done = self.is_open
            self.end.connection.close(timeout=_CLOSE)
        self.account = self.end.settle()
