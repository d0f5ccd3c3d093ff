"""A load generator of the usual kind, on asyncio and ``websockets``: what wsclient's is compared with."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

__all__ = ["generate"]


async def generate(
    mode: str, url: str, connections: int, seconds: float, rate: float, size: int
) -> dict[str, float | None]:
    """Run one mode over all connections; what came of it, times in seconds."""
    text, latencies = "x" * size, list[float]()
    options = {"compression": None, "proxy": None, "max_queue": None}
    opened = [await connect(url, **options) for _ in range(connections)]  # type: ignore[arg-type]
    start = monotonic()
    end = start + seconds
    if mode == "flood":
        counts = await asyncio.gather(*(_flood(one, text, end) for one in opened))
    elif mode == "closed":
        counts = await asyncio.gather(*(_closed(one, text, end, latencies) for one in opened))
    else:
        every = connections / rate
        counts = await asyncio.gather(
            *(
                _open(one, text, start + number / rate, every, end, latencies)
                for number, one in enumerate(opened)
            )
        )
    elapsed = monotonic() - start
    await asyncio.gather(*(one.close() for one in opened))
    latencies.sort()
    return {
        "messages": sum(counts),
        "elapsed": elapsed,
        "p50": _at(latencies, 0.5),
        "p99": _at(latencies, 0.99),
    }


def _at(ordered: list[float], share: float) -> float | None:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


async def _flood(connection: ClientConnection, text: str, end: float) -> int:
    count = 0
    while monotonic() < end:
        await connection.send(text)
        count += 1
        if count % 100 == 0:  # its send need not give way to the other connections
            await asyncio.sleep(0)
    await (await connection.ping())
    return count


async def _closed(connection: ClientConnection, text: str, end: float, latencies: list[float]) -> int:
    count = 0
    while (began := monotonic()) < end:
        await connection.send(text)
        await connection.recv()
        latencies.append(monotonic() - began)
        count += 1
    return count


async def _open(
    connection: ClientConnection, text: str, due: float, every: float, end: float, latencies: list[float]
) -> int:
    waiting: asyncio.Queue[float] = asyncio.Queue()
    reader = asyncio.create_task(_read(connection, waiting, latencies))
    count = 0
    while due < end:
        await asyncio.sleep(max(due - monotonic(), 0))
        waiting.put_nowait(due)
        await connection.send(text)
        due += every
        count += 1
    await asyncio.wait_for(waiting.join(), 10)
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader
    return count


async def _read(connection: ClientConnection, waiting: asyncio.Queue[float], latencies: list[float]) -> None:
    with suppress(ConnectionClosed):
        async for _ in connection:
            latencies.append(monotonic() - waiting.get_nowait())
            waiting.task_done()
