"""The prompt of ``connect``: tasks of one event loop for what is typed and for what comes.

Messages are fetched with ``recv``, so that a terminal slower than the server pushes back on it. What has come
meanwhile is shown at once above the prompt, which is drawn again below.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from wsclient import ClosedBy, Connection, ConnectionClosed, WSClientError
from wsclient.cli.console import Console
from wsclient.cli.display import Message, describe, hex_dump, pretty
from wsclient.cli.exits import NORMAL_CODES, ExitCode, failure_of
from wsclient.cli.history import history_path, prepared
from wsclient.cli.opening import opened
from wsclient.cli.output import wants_colour
from wsclient.cli.sending import Doubts, Sender
from wsclient.cli.settings import Settings
from wsclient.cli.trace import Trace
from wsclient.cli.typed import COMMANDS

__all__ = ["converse"]

T = TypeVar("T")

_BATCH = 200  # messages shown between two drawings of the prompt, at most
_BATCH_SIZE = 256 * 1024  # characters or bytes of them
_REST = 0.05  # seconds between two drawings: else the prompt would be erased most of the time
_LONGEST = 64 * 1024  # characters of one message that are shown
_DONE, _GOING_AWAY = 1000, 1001  # RFC 6455, section 7.4.1


def converse(settings: Settings, timeout: float) -> ExitCode:
    """Run the prompt until the server or the user ends the connection.

    Raises:
        Failure: no connection, or its abnormal end.
        KeyboardInterrupt: Ctrl-C.
    """
    screen, doubts = Screen(), Doubts()
    trace = Trace(settings.verbose, screen.tell)
    callbacks: dict[str, Any] = {"on_disconnect": doubts.note} if settings.reconnect else {}
    with opened(settings, trace, tell=screen.tell, **callbacks) as connection:
        sender = Sender(connection, trace, timeout, doubts)
        screen.tell(f"connected to {connection.url}; /help says what can be typed, Ctrl-D leaves")
        shell = Shell(connection, Console(connection, sender, timeout), screen)
        asyncio.run(shell.run())
    return ExitCode.OK


class Screen:
    """What is shown above the prompt, or plainly where there is none. ``tell`` is thread-safe."""

    def __init__(self) -> None:
        self._colour = wants_colour()
        self._prompt: tuple[asyncio.AbstractEventLoop, Application[str]] | None = None  # the main thread

    @contextlib.contextmanager
    def around(self, loop: asyncio.AbstractEventLoop, app: Application[str]) -> Iterator[None]:
        """Show things above the prompt of ``app``, by ``loop``, for as long as a ``with`` block lasts."""
        self._prompt = loop, app
        try:
            yield
        finally:
            self._prompt = None

    def tell(self, text: str) -> None:
        """Show a remark."""
        line = self._painted(text, "2")
        prompt = self._prompt
        if prompt is None:
            self._show(line)
        else:
            prompt[0].call_soon_threadsafe(self._show, line)

    def show(self, messages: Iterable[Message]) -> None:
        """Show messages that came. On the thread of the loop only."""
        mark = self._painted("<", "32;1")
        self._show("\n".join(f"{mark} {self._form(message)}" for message in messages))

    def _show(self, text: str) -> None:
        # One step of the loop, and the terminal stays in its raw mode: what is typed meanwhile just waits.
        app = self._prompt[1] if self._prompt is not None else None
        if app is not None and not app.is_running:
            app = None
        if app is not None:
            app.renderer.erase()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        if app is not None:
            app.renderer.request_absolute_cursor_position()  # how much room menus have below
            app.invalidate()

    def _form(self, message: Message) -> str:
        if isinstance(message, bytes):
            return f"{self._painted(describe(message), '2')}\n{hex_dump(message)}"
        if len(message) > _LONGEST:
            rest = self._painted(f"... {len(message) - _LONGEST} characters more", "2")
            return f"{pretty(message[:_LONGEST], False)}\n{rest}"
        return pretty(message, self._colour)

    def _painted(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour else text


class Shell:
    """The two tasks. For the main thread; what waits runs in the loop's executor."""

    def __init__(self, connection: Connection, console: Console, screen: Screen) -> None:
        self._connection = connection
        self._console = console
        self._screen = screen
        self._session: PromptSession[str] = PromptSession(
            history=_history(),
            completer=Commands(),
            complete_while_typing=Condition(lambda: get_app().current_buffer.text.startswith("/")),
            enable_suspend=True,
        )
        self._interrupted = False  # by Ctrl-C at an empty prompt

    async def run(self) -> None:
        """Prompt until it is over, then close. Raises ``Failure`` and ``KeyboardInterrupt``."""
        with self._screen.around(asyncio.get_running_loop(), self._session.app):
            showing = asyncio.create_task(self._show_all())
            code = _GOING_AWAY  # if something goes wrong
            try:
                await self._prompt_all(showing)
                code = _GOING_AWAY if self._interrupted else _DONE
            finally:
                await _in_thread(partial(self._connection.close, code))
                ended = await showing
                await _all_told()
        if self._interrupted:
            raise KeyboardInterrupt
        self._judge(ended)

    def _judge(self, error: WSClientError) -> None:
        if not isinstance(error, ConnectionClosed) or (
            error.code not in NORMAL_CODES and self._connection.closed_by is not ClosedBy.LOCAL
        ):
            raise failure_of(error) from error
        by = "the server" if self._connection.closed_by is ClosedBy.PEER else "you"
        reason = f" ({error.reason})" if error.reason else ""
        self._screen.tell(f"closed by {by} with code {error.code}{reason}")

    async def _prompt_all(self, showing: asyncio.Task[WSClientError]) -> None:
        while not (showing.done() or self._console.closed):
            typing = asyncio.create_task(self._ask())
            await asyncio.wait((typing, showing), return_when=asyncio.FIRST_COMPLETED)
            if not typing.done():
                self._end_prompt(typing)
            await asyncio.wait((typing,))
            line = None if typing.cancelled() else typing.result()
            if line is None:
                return
            if line.strip():
                await self._carry_out(line)

    async def _ask(self) -> str | None:
        # One line; None where there will be no more. A KeyboardInterrupt that leaves a task stops the loop.
        try:
            return await self._session.prompt_async("> ")
        except EOFError:
            return None
        except KeyboardInterrupt:  # as in other shells, it throws away what was typed
            self._interrupted = not self._session.default_buffer.text
            return None if self._interrupted else ""

    def _end_prompt(self, typing: asyncio.Task[str | None]) -> None:
        # Before its first step the task has not begun to prompt, and never will.
        if self._session.app.is_running:
            self._session.app.exit(exception=EOFError())
        else:
            typing.cancel()

    async def _carry_out(self, line: str) -> None:
        try:
            told = await _in_thread(partial(self._console.carry_out, line))
        except ConnectionClosed:
            return  # the other task has its end, and says so
        except (ValueError, OSError, WSClientError) as error:
            told = str(error)
        if told:
            self._screen.tell(told)
            await _all_told()

    async def _show_all(self) -> WSClientError:
        # Returns the error that ended the connection.
        while True:
            messages, error = await _in_thread(self._take)
            if messages:
                self._screen.show(messages)
            if error is not None:
                return error
            await asyncio.sleep(_REST)

    def _take(self) -> tuple[list[Message], WSClientError | None]:
        messages: list[Message] = []
        size = 0
        try:
            while len(messages) < _BATCH and size < _BATCH_SIZE:
                messages.append(self._connection.recv(0 if messages else None))
                size += len(messages[-1])
        except TimeoutError:
            pass
        except WSClientError as error:
            return messages, error
        return messages, None


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def _all_told() -> None:
    # Back in the loop's queue, behind every remark that other threads have put there.
    await asyncio.sleep(0)


def _history() -> History:
    path = history_path(os.environ, Path.home())
    return FileHistory(str(path)) if path is not None and prepared(path) else InMemoryHistory()


class Commands(Completer):
    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        text = document.text_before_cursor
        if text.startswith("/send-file "):
            path = Document(text.removeprefix("/send-file ").removeprefix("--binary "))
            yield from self._paths.get_completions(path, complete_event)
        elif text.startswith("/"):
            yield from (Completion(name, -len(text)) for name in COMMANDS if name.startswith(text))
