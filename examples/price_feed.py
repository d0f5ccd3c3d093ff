"""A consumer of prices: subscribed again after every loss, and always at the newest value.

::

    python examples/price_feed.py
    python examples/price_feed.py --url wss://feed.example.com/prices

Without ``--url`` it starts a server of its own, which restarts twice while prices flow. Needs
``wsclient[testing]`` for that server, and nothing but wsclient with ``--url``.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext

import wsclient
from wsclient.testing import ServerConnection, serve

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY")


class Board:
    """The newest price of each symbol. One thread writes; any thread may wait for what is new to it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Under _changed, all of it.
        self._prices: dict[str, float] = {}
        self._updates = 0
        self._is_over = False

    def put(self, symbol: str, price: float) -> None:
        """Replace a price."""
        with self._changed:
            self._prices[symbol] = price
            self._updates += 1
            self._changed.notify_all()

    def finish(self) -> None:
        """No price will come any more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def take(self, seen: int, timeout: float) -> tuple[int, dict[str, float]] | None:
        """Wait for a newer state than number ``seen``; ``None`` at the end, or after ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._updates > seen or self._is_over, timeout)
            return (self._updates, dict(self._prices)) if self._updates > seen else None


class Feed:
    """One connection to the server, kept open, which subscribes whenever it is open."""

    def __init__(self, url: str, symbols: Sequence[str]) -> None:
        self._symbols = list(symbols)
        self.connection = wsclient.Connection(
            url,
            reconnect=wsclient.Reconnect(initial_delay=0.1, max_delay=30),
            on_open=self._subscribe,
            on_reconnect=self._subscribe,
            on_disconnect=self._say_why,
            # What waits for `run` is bounded: when it is slow, TCP slows the server down.
            max_received_messages=256,
        )

    def run(self, board: Board, count: int) -> None:
        """Put ``count`` prices on the board, then close."""
        try:
            with self.connection as conn:
                for _ in range(count):
                    quote = conn.recv_json(timeout=60)  # over losses, too
                    board.put(quote["symbol"], quote["bid"])
        finally:
            board.finish()

    def _subscribe(self, conn: wsclient.Connection) -> None:
        # The server has forgotten us, so this goes first.
        conn.send_json({"type": "subscribe", "symbols": self._symbols})
        print("subscribed to", *self._symbols)

    def _say_why(self, conn: wsclient.Connection, reason: wsclient.Disconnect) -> None:
        print(f"{reason.kind.value} ({reason.code} {reason.text}): connecting again")


def decide(board: Board) -> None:
    """Stands for what your program does with prices: slower than they come, so some it never sees."""
    seen, looks = 0, 0
    while (news := board.take(seen, timeout=60)) is not None:
        seen, prices = news
        looks += 1
        time.sleep(0.01)  # thinking
    print(f"decided {looks} times, each time with the newest of {seen} prices:")
    for symbol, price in sorted(prices.items() if seen else ()):
        print(f"  {symbol} {price}")


# -- the server of the demonstration -----------------------------------------------------------------------


class Market:
    """Sends prices to whoever has subscribed, and says that it restarts after every 400."""

    def __init__(self) -> None:
        self._numbers = iter(range(1_000_000))  # one client at a time, so one thread

    def attend(self, connection: ServerConnection) -> None:
        """Serve one connection."""
        symbols = json.loads(connection.recv())["symbols"]
        for _ in range(400):
            number = next(self._numbers)
            quote = {"symbol": symbols[number % len(symbols)], "bid": round(1 + number / 10_000, 4)}
            connection.send_json(quote)
        connection.close(1012, "service restart")


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description="Consume a price feed, at the newest value, over losses.")
    parser.add_argument("--url", help="a server to use; by default one is started here")
    parser.add_argument("--count", type=int, default=1000, help="prices to take before leaving (%(default)s)")
    chosen = parser.parse_args()
    with serve(Market().attend) if not chosen.url else nullcontext() as server:
        try:
            consume(server.url if server else chosen.url, chosen.count)
        except wsclient.HandshakeError as error:
            sys.exit(f"cannot connect: {error}")


def consume(url: str, count: int) -> None:
    """Take prices in this thread, decide in another."""
    board = Board()
    decider = threading.Thread(target=decide, args=(board,), name="decider")
    decider.start()
    feed = Feed(url, SYMBOLS)
    try:
        feed.run(board, count)
    finally:
        decider.join()
    print("the connection was opened again", feed.connection.stats().reconnects, "times")


if __name__ == "__main__":
    main()
