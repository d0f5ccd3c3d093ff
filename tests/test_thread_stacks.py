"""The stacks of the threads: docs/performance.md tells how to make them smaller, for many connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from conftest import TLS

import wsclient

SMALL = 256 * 1024
DEPTH = 500  # calls, about half of what Python allows


@pytest.fixture
def small_stacks() -> Iterator[None]:
    """For threads that are started from here on, but not for those of servers that run already."""
    before = threading.stack_size(SMALL)
    yield
    threading.stack_size(before)


def deep(calls: int) -> int:
    return 0 if calls == 0 else 1 + deep(calls - 1)


@pytest.mark.parametrize("compression", [None, wsclient.Deflate()])
def test_a_connection_works_with_small_stacks(
    echo_server: str, small_stacks: None, compression: wsclient.Deflate | None
) -> None:
    done = threading.Event()
    depths: list[int] = []

    def on_message(conn: wsclient.Connection, message: str | bytes) -> None:
        depths.append(deep(DEPTH))
        done.set()

    with wsclient.connect(
        echo_server, on_message=on_message, compression=compression, reconnect=True, proxy=None
    ) as conn:
        conn.send_json({"numbers": list(range(10_000))})
        assert done.wait(10)
        conn.confirm(10)
    assert depths == [DEPTH]


def test_a_handshake_over_tls_works_with_small_stacks(
    tls_echo_server: str, small_stacks: None, tls: TLS
) -> None:
    with wsclient.connect(tls_echo_server, ssl_context=tls.client, proxy=None) as conn:
        conn.send(b"x" * 1_000_000)
        assert len(conn.recv(timeout=10)) == 1_000_000
