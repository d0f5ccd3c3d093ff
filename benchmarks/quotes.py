"""JSON as a price feed sends it: names that repeat, numbers that don't. The same for the same seed. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from string import ascii_uppercase, hexdigits

__all__ = ["MIN_SIZE", "quotes"]

MIN_SIZE = 64  # bytes: a message without any quote
_SYMBOLS = 40


def quotes(size: int, count: int, seed: int) -> list[str]:
    """Make ``count`` different ASCII messages of exactly ``size`` bytes.

    Raises:
        ValueError: ``size`` is under ``MIN_SIZE``.
    """
    if size < MIN_SIZE:
        raise ValueError(f"size must be at least {MIN_SIZE}, not {size}")
    chance = random.Random(seed)
    feed = _feed(chance)
    return [_message(number, feed, size, chance) for number in range(count)]


def _message(number: int, feed: Iterator[str], size: int, chance: random.Random) -> str:
    head, foot = f'{{"type":"quotes","n":{number},"data":[', '],"id":"%s"}'
    room = size - len(head) - len(foot % "")
    body = ""
    while len(longer := f"{body},{next(feed)}" if body else next(feed)) <= room:
        body = longer
    # What is left is an identifier: random digits, which do not help the compressor as spaces would.
    return head + body + foot % "".join(chance.choices(hexdigits[:16], k=room - len(body)))


def _feed(chance: random.Random) -> Iterator[str]:
    """Quotes without end: the price of each symbol walks, and so does the time."""
    symbols = ["".join(chance.choices(ascii_uppercase, k=chance.randint(3, 5))) for _ in range(_SYMBOLS)]
    prices = {symbol: chance.randint(100, 90_000) for symbol in symbols}  # cents
    now = 1_700_000_000_000  # ms
    while True:
        symbol = chance.choice(symbols)
        prices[symbol] = max(100, prices[symbol] + chance.randint(-25, 25))
        now += chance.randint(0, 40)
        quote = {
            "symbol": symbol,
            "bid": prices[symbol] / 100,
            "ask": (prices[symbol] + chance.randint(1, 9)) / 100,
            "volume": chance.randint(1, 50_000),
            "time": now,
        }
        yield json.dumps(quote, separators=(",", ":"))
