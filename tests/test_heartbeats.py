"""``on_ping``, ``on_pong`` and ``send_control``; and ``socket_options``, which keep-alives of TCP need."""

from __future__ import annotations

import socket
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import HOST
from test_reconnect_regressions import stall_writer

import wsclient
from wsclient.control_lane import MAX_PENDING_PINGS, ControlLane
from wsclient.doorbell import Doorbell
from wsclient.frames import Frame, Opcode
from wsclient.items import Entry
from wsclient.testing import (
    FaultServer,
    accept_upgrade,
    echo,
    read_frames,
    read_until_close,
    send_close,
    send_ping,
    send_pong,
    send_text,
    serve,
    stall,
)

UP = accept_upgrade()
BYE = (send_close(1000), read_until_close(reply=False))


@pytest.mark.parametrize("threads", [0, 2], ids=["reader thread", "executor"])
def test_pings_and_pongs_come_in_order_with_the_messages(threads: int) -> None:
    notes: deque[Any] = deque()
    executor = ThreadPoolExecutor(threads) if threads else None
    script = UP, send_text("1"), send_ping(b"p"), send_text("2"), send_pong(b"unasked"), send_text("3"), *BYE
    with FaultServer(*script) as server:
        conn = wsclient.connect(
            server.url,
            callback_executor=executor,
            on_message=lambda conn, message: notes.append(message),
            on_ping=lambda conn, payload: notes.append(("ping", payload)),
            on_pong=lambda conn, payload: notes.append(("pong", payload)),
        )
        server.wait_closed()
        conn.close()
        assert [frame.payload for frame in server.connections[0].frames][:1] == [b"p"]
    if executor:
        executor.shutdown()
    assert list(notes) == ["1", ("ping", b"p"), "2", ("pong", b"unasked"), "3"]


def test_they_do_without_on_message() -> None:
    pongs: deque[bytes] = deque()
    options: dict[str, Any] = {"on_pong": lambda conn, payload: pongs.append(payload)}
    with serve(echo) as server, wsclient.connect(server.url, **options) as conn:
        conn.ping(b"mine").result(10)
        conn.send("x")
        assert conn.recv(10) == "x"
    assert list(pongs) == [b"mine"]


def test_an_error_in_on_ping_is_told() -> None:
    errors: deque[BaseException] = deque()

    def fail(conn: wsclient.Connection, payload: bytes) -> None:
        raise ValueError(payload)

    with FaultServer(UP, send_ping(b"p"), *BYE) as server:
        conn = wsclient.connect(server.url, on_ping=fail, on_error=lambda conn, error: errors.append(error))
        server.wait_closed()
        conn.close()
    assert [str(error) for error in errors] == ["b'p'"]


def test_control_frames_that_nobody_waits_for() -> None:
    with FaultServer(UP, read_frames(3), *BYE) as server:
        conn = wsclient.connect(server.url)
        conn.send_control(9, "again")
        conn.send_control(9, "again")
        conn.send_control(10)
        server.wait_closed()
        conn.close()
        frames = [(frame.opcode, frame.payload) for frame in server.connections[0].frames[:3]]
    assert frames == [(9, b"again"), (9, b"again"), (10, b"")]


def test_control_frames_are_checked() -> None:
    with serve(echo) as server:
        conn = wsclient.connect(server.url)
        with pytest.raises(ValueError, match="opcode"):
            conn.send_control(8)
        with pytest.raises(ValueError, match="125"):
            conn.send_control(9, b"x" * 126)
        conn.close()
        with pytest.raises(wsclient.ConnectionClosed):
            conn.send_control(9)


def test_socket_options_are_set_before_it_connects() -> None:
    with (
        serve(echo) as server,
        wsclient.connect(server.url, socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)]) as conn,
    ):
        conn.send("x")
        assert conn.recv(10) == "x"
    with pytest.raises(wsclient.ConnectFailed):
        wsclient.connect(f"ws://{HOST}:1/", socket_options=[(socket.IPPROTO_TCP, 9999, 1)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"socket_options": "keepalive"}, "must be a sequence"),
        ({"socket_options": [(1, 2)]}, r"\(level, name, value\)"),
        ({"socket_options": [("a", 2, 3)]}, "level and name must be int"),
        ({"socket_options": [(1, 2, 3)], "unix_path": "/x"}, "unix_path"),
        ({"on_ping": "no"}, "on_ping"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        wsclient.Options(**options)


def test_control_frames_that_nobody_writes_are_refused() -> None:
    control = ControlLane(threading.Lock(), Doorbell(threading.Lock()))
    while not control.is_full():
        control.put_ping(Entry(Frame(Opcode.PING, b"")))
    assert len(control.take()) == MAX_PENDING_PINGS
    assert not control.is_full()


def test_send_control_has_a_bound() -> None:
    with FaultServer(UP, stall(), receive_buffer=4096) as server:
        conn = wsclient.connect(server.url, ping_interval=None)
        conn.send(b"x" * 10_000_000)
        stall_writer(conn)

        def flood() -> None:
            for _ in range(3 * MAX_PENDING_PINGS):
                conn.send_control(10, b"heartbeat")

        with pytest.raises(wsclient.QueueFull, match="already wait"):
            flood()
        conn.abort()
