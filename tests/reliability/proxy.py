"""A TCP proxy that does harm: by script, to the byte, or when told to.

It runs on an event loop in a thread of its own. Faults that last end by themselves, or by ``heal``.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

from reliability.ports import HOST, hold_port
from reliability.script import Fault, FrameEnds, Step

__all__ = ["FaultProxy"]

_CHUNK = 65536
_TICKS = 20  # chunks a second of a throttled direction
_PATIENCE = 10.0  # seconds for the event loop to do what it is told
_LINGER_ZERO = struct.pack("ii", 1, 0)  # close() sends RST
T = TypeVar("T")


class Direction(enum.Enum):
    """Of bytes."""

    UP = "from client to server"
    DOWN = "from server to client"


_STALLS = MappingProxyType(
    {
        Fault.STALL: (Direction.UP, Direction.DOWN),
        Fault.STALL_UP: (Direction.UP,),
        Fault.STALL_DOWN: (Direction.DOWN,),
    }
)


class _Cut(Exception):
    """This connection has just been cut; what is left of the chunk goes nowhere."""


class _Weather:
    """What the network is like at the moment. Owned by the event loop."""

    def __init__(self) -> None:
        self._clear = {direction: asyncio.Event() for direction in Direction}
        self.delay = 0.0
        self.rate = 0.0  # bytes a second; 0: no limit
        self.calm()

    def calm(self) -> None:
        """No stall, no delay, no limit."""
        self.delay = self.rate = 0.0
        for event in self._clear.values():
            event.set()

    def worsen(self, step: Step) -> None:
        """Begin a fault that lasts."""
        for direction in _STALLS.get(step.fault, ()):
            self._clear[direction].clear()
        if step.fault is Fault.DELAY:
            self.delay = step.amount
        elif step.fault is Fault.THROTTLE:
            self.rate = step.amount

    async def passable(self, direction: Direction) -> None:
        """Wait until bytes go in this direction."""
        await self._clear[direction].wait()

    async def carry(self, size: int) -> None:
        """Take the time that so many bytes take."""
        if self.delay or self.rate:
            await asyncio.sleep(self.delay + (size / self.rate if self.rate else 0.0))

    @property
    def chunk(self) -> int:
        """How much to read at once."""
        return min(_CHUNK, max(1, int(self.rate / _TICKS))) if self.rate else _CHUNK


class _Side:
    """One of the two TCP connections of a link. Owned by the event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def end(self) -> None:
        """FIN, behind what has been written."""
        with contextlib.suppress(OSError):
            if self.writer.can_write_eof() and not self.writer.is_closing():
                self.writer.write_eof()

    def close(self) -> None:
        """FIN, once everything is written, and the end of this side."""
        self.writer.close()

    def reset(self) -> None:
        """RST, now."""
        with contextlib.suppress(OSError):
            sock: socket.socket = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.writer.transport.abort()


class _Link:
    """One connection through the proxy. Owned by the event loop."""

    def __init__(self, client: _Side, server: _Side) -> None:
        self.client = client
        self.server = server
        self.ends = FrameEnds()
        self.is_cut = False  # both sides have got FIN; what they still send is thrown away

    def end(self) -> None:
        """FIN to both sides."""
        self.is_cut = True
        self.client.end()
        self.server.end()

    def close(self) -> None:
        """Both sides have said all that they had to say."""
        self.client.close()
        self.server.close()

    def reset(self) -> None:
        """RST to both sides."""
        self.is_cut = True
        self.client.reset()
        self.server.reset()


class FaultProxy:
    """A proxy on a port of 127.0.0.1 in front of another port there. Its methods may be called by any thread.

    Args:
        upstream: the port of the server.
        script: steps, in order of ``after``; each is asked for when the one before it has been taken.
    """

    def __init__(self, upstream: int, script: Iterable[Step] = ()) -> None:
        self._upstream = upstream
        self._holder, self._port = hold_port()
        self._thread = threading.Thread(target=self._run, name="fault-proxy")
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop  # set by the thread before _ready
        # Owned by the event loop from here; the numbers are read by anyone.
        self._weather: _Weather
        self._stop: asyncio.Event
        self._opening: asyncio.Lock
        self._listener: asyncio.Server | None = None
        self._script = iter(script)
        self._step = next(self._script, None)  # the one that is due next
        self._links: set[_Link] = set()
        self._passed = 0
        self._injected: Counter[Fault] = Counter()
        self._connections = 0
        self._unexpected: list[BaseException] = []
        self._under_way = 0  # faults that end by themselves and have not yet
        self._calming: asyncio.Task[None]  # kept, or it could be collected before it has run

    # -- for tests ------------------------------------------------------------------------------------

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        assert self._ready.wait(_PATIENCE), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_PATIENCE)
        self._holder.close()
        assert not self._thread.is_alive(), "the proxy did not stop"
        assert not self._unexpected, f"the proxy has a bug: {self._unexpected!r}"

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"ws://{HOST}:{self._port}/"

    @property
    def injected(self) -> Counter[Fault]:
        """What it has done so far, and how often."""
        return Counter(self._injected)

    @property
    def connections(self) -> int:
        """How many clients have connected so far."""
        return self._connections

    @property
    def passed(self) -> int:
        """Bytes forwarded from clients to the server so far."""
        return self._passed

    def inject(self, fault: Fault, *, lasting: float = 0.0, amount: float = 0.0) -> None:
        """Do harm now, between two bytes; returns when it is done. ``MID_FRAME`` is for scripts only."""
        assert fault is not Fault.MID_FRAME, "only a script can tell where a frame is"

        async def begin() -> None:
            self._begin(Step(fault, lasting=lasting, amount=amount))

        self._do(begin())

    def heal(self) -> None:
        """End what lasts: stalls, delays, throttles, refusals."""

        async def calm() -> None:
            await self._calm()

        self._do(calm())

    # -- the event loop -------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    def _run(self) -> None:
        # Body of the thread.
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop, self._opening = asyncio.get_running_loop(), asyncio.Event(), asyncio.Lock()
        self._weather = _Weather()
        await self._listen()
        self._ready.set()
        await self._stop.wait()
        self._refuse()
        await self._end_links()

    async def _end_links(self) -> None:
        self._weather.calm()
        while self._links:
            for link in self._links:
                link.reset()
            await asyncio.sleep(0)  # one turn of the loop, in which their tasks end

    async def _listen(self) -> None:
        async with self._opening:  # two may want it
            if self._listener is None:
                self._listener = await asyncio.start_server(
                    self._accept, HOST, self._port, reuse_address=True
                )

    def _refuse(self) -> None:
        if self._listener is not None:
            # Closed a turn of the loop later: what was accepted in this one still asks for its server.
            for sock in self._listener.sockets:
                self._loop.remove_reader(sock.fileno())
            self._loop.call_soon(self._listener.close)
            self._listener = None

    async def _calm(self) -> None:
        self._weather.calm()
        await self._listen()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        client = _Side(reader, writer)
        try:
            link = _Link(client, _Side(*await asyncio.open_connection(HOST, self._upstream)))
        except BaseException as error:  # as a network in front of a dead server; or the loop is ending
            client.reset()
            if isinstance(error, OSError):
                return
            raise
        self._links.add(link)
        try:
            await self._carry(link)
        finally:
            self._links.remove(link)

    async def _carry(self, link: _Link) -> None:
        up = self._loop.create_task(self._pump(link, link.client, link.server, Direction.UP))
        down = self._loop.create_task(self._pump(link, link.server, link.client, Direction.DOWN))
        pending = {up, down}
        try:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            errors = [error for task in done if (error := task.exception())]
            self._unexpected += [error for error in errors if not isinstance(error, OSError)]
            if not errors:
                link.close()
                return
        finally:
            for task in pending:
                task.cancel()
        link.reset()

    async def _pump(self, link: _Link, source: _Side, sink: _Side, direction: Direction) -> None:
        forward = self._forward_up if direction is Direction.UP else self._forward
        while data := await self._read(link, source, direction):
            if not link.is_cut:
                with contextlib.suppress(_Cut):
                    await forward(link, sink, data)
        sink.end()

    async def _read(self, link: _Link, source: _Side, direction: Direction) -> bytes:
        if not link.is_cut:
            await self._weather.passable(direction)
        data = await source.reader.read(self._weather.chunk)
        if not link.is_cut:
            await self._weather.carry(len(data))
            await self._weather.passable(direction)  # it may have been stalled while this one was on its way
        return data

    async def _forward(self, link: _Link, sink: _Side, data: bytes) -> None:
        sink.writer.write(data)
        await sink.writer.drain()

    async def _forward_up(self, link: _Link, sink: _Side, data: bytes) -> None:
        ends, base, at = link.ends.feed(data), self._passed, 0
        while (step := self._step) and (found := step.position(base, ends, at, len(data))) is not None:
            self._step = next(self._script, None)
            await self._send_up(link, sink, data[at:found])
            at = found
            self._begin(step)
            if link.is_cut:
                raise _Cut
            await self._weather.passable(Direction.UP)
        await self._send_up(link, sink, data[at:])

    async def _send_up(self, link: _Link, sink: _Side, data: bytes) -> None:
        self._passed += len(data)
        await self._forward(link, sink, data)

    # -- faults ---------------------------------------------------------------------------------------

    def _begin(self, step: Step) -> None:
        self._injected[step.fault] += 1
        if step.fault is Fault.REFUSE:
            self._refuse()
        if step.fault in (Fault.FIN, Fault.MID_FRAME):
            self._for_each_link(_Link.end)
        elif step.fault in (Fault.RST, Fault.REFUSE):
            self._for_each_link(_Link.reset)
        self._weather.worsen(step)
        if step.lasting:
            self._under_way += 1
            self._loop.call_later(step.lasting, self._over)

    def _for_each_link(self, action: Callable[[_Link], None]) -> None:
        for link in self._links:
            action(link)

    def _over(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._calming = self._loop.create_task(self._calm())
