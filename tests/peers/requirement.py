"""Peers as fixtures: what this machine cannot run is skipped, unless it is required.

The environment variable ``WSCLIENT_REQUIRE_PEERS`` names those that must not be skipped
(``node,nginx,tinyproxy``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from peers.launch import Place, Unavailable

__all__ = ["available"]

T = TypeVar("T")


def _cache_folder(config: pytest.Config, fallback: Path) -> Path:
    """Where installed packages outlive the run; pytest can be told to have no cache."""
    cache: pytest.Cache | None = getattr(config, "cache", None)
    return cache.mkdir("wsclient-peers") if cache is not None else fallback


@contextmanager
def available(
    name: str,
    start: Callable[[str, Place], AbstractContextManager[T]],
    request: pytest.FixtureRequest,
    factory: pytest.TempPathFactory,
) -> Iterator[T]:
    """Run ``start(name, place)`` until the end of the block; skip the test when the machine cannot."""
    place = Place(factory.mktemp(name), _cache_folder(request.config, factory.getbasetemp()))
    with ExitStack() as stack:
        try:
            peer = stack.enter_context(start(name, place))
        except Unavailable as error:
            required = name in os.environ.get("WSCLIENT_REQUIRE_PEERS", "").split(",")
            (pytest.fail if required else pytest.skip)(f"{name}: {error}")
        yield peer
