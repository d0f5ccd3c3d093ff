"""The server that keeps the account: ``python -m reliability.server``.

It prints its port, then a line for each mark: a number of messages that it has received. With ``--hold`` it
does nothing more at a mark until ``go`` comes on its standard input: it is killed or stopped *there*. Upon
``cut`` it drops its connections. It ends when its standard input does.

A message is in the journal before the next one is looked at, and so before any pong or close frame that
confirms it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from benchmarks.messages import Garbled, parse
from reliability.journal import Journal, Kind

_MESSAGES = (WSMsgType.TEXT, WSMsgType.BINARY)


class Marks:
    """Says when so many messages have come. Owned by the event loop, but for ``go``."""

    def __init__(self, marks: list[int], *, hold: bool) -> None:
        self._left = sorted(marks, reverse=True)
        self._received = 0
        self._hold = hold
        self.go = threading.Semaphore(0)  # released by the thread that reads standard input

    def count(self) -> None:
        """Another message has come."""
        self._received += 1
        if self._left and self._received == self._left[-1]:
            print(self._left.pop(), flush=True)
            if self._hold:
                self.go.acquire()  # blocks the event loop, and that is what it is for


class Receiver(WSListener):
    """One connection. Owned by the event loop."""

    def __init__(self, number: int, journal: Journal, marks: Marks, open_now: set[WSTransport]) -> None:
        self._number = number
        self._journal = journal
        self._marks = marks
        self._open_now = open_now

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._open_now.add(transport)
        self._journal.add(Kind.OPENED, self._number)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in _MESSAGES:
            self._receive(frame.get_payload_as_bytes(), whole=frame.fin)
        elif frame.msg_type == WSMsgType.CONTINUATION:
            self._journal.add(Kind.GARBLED, self._number)
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send(WSMsgType.CLOSE, frame.get_payload_as_bytes()[:2])
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._open_now.discard(transport)
        self._journal.add(Kind.ENDED, self._number)

    def _receive(self, payload: bytes, *, whole: bool) -> None:
        try:
            if not whole:
                raise Garbled("a fragment")
            thread, number = parse(payload)
        except Garbled:
            self._journal.add(Kind.GARBLED, self._number)
            return
        self._journal.add(Kind.MESSAGE, self._number, thread, number)
        self._marks.count()


def _cut(open_now: set[WSTransport]) -> None:
    for transport in list(open_now):
        transport.disconnect(graceful=False)


def _obey(marks: Marks, cut: Callable[[], object], end: Callable[[], object]) -> None:
    # Body of a thread: the event loop may be held.
    for line in sys.stdin:
        if line == "cut\n":
            cut()
        else:
            marks.go.release()
    marks.go.release(1_000_000)  # whoever started this server is gone, or has had enough: hold no more
    end()


Answer = Callable[[WSUpgradeRequest, Receiver], WSListener | WSUpgradeResponseWithListener]


def accept(request: WSUpgradeRequest, receiver: Receiver) -> WSListener:
    """Agree to nothing but the upgrade."""
    return receiver


async def serve(
    options: argparse.Namespace, answer: Answer = accept, make: type[Receiver] = Receiver
) -> None:
    """Serve until standard input ends."""
    journal, marks = Journal(options.journal), Marks(options.marks, hold=options.hold)
    numbers, ended, open_now = itertools.count(), asyncio.Event(), set[WSTransport]()
    soon = asyncio.get_running_loop().call_soon_threadsafe
    orders = (marks, partial(soon, _cut, open_now), partial(soon, ended.set))

    def listen(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        return answer(request, make(next(numbers), journal, marks, open_now))

    server = await ws_create_server(listen, options.host, options.port, enable_auto_pong=False)
    threading.Thread(target=_obey, args=orders, daemon=True).start()
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    server.close()


def _marks(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main(answer: Answer = accept, make: type[Receiver] = Receiver) -> None:
    """Read the arguments, and serve.

    Args:
        answer: answers an upgrade, given what is to receive.
        make: makes what receives on one connection.
    """
    logging.disable(logging.WARNING)  # that a client has gone is no news here
    parser = argparse.ArgumentParser(prog="python -m reliability.server")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--marks", type=_marks, default=[], metavar="N,N,...")
    parser.add_argument("--hold", action="store_true")
    asyncio.run(serve(parser.parse_args(), answer, make))


if __name__ == "__main__":
    main()
