"""permessage-deflate on whole connections: order, contexts, threads, accounts, bombs (RFC 7692)."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import wsclient
from wsclient import Deflate
from wsclient.frames import Opcode
from wsclient.testing import (
    FaultServer,
    Peer,
    Step,
    accept_upgrade,
    echo,
    read_until_close,
    recorder,
    send_frame,
    send_text,
    serve,
    step,
)

KIB = 1 << 10
MIB = 1 << 20
AGREED = {"Sec-WebSocket-Extensions": "permessage-deflate"}

EVERY_SETTING = [
    Deflate(threshold=0),
    Deflate(client_no_context_takeover=True),
    Deflate(server_no_context_takeover=True),
    Deflate(client_no_context_takeover=True, server_no_context_takeover=True, threshold=0),
    Deflate(client_max_window_bits=15, memory_level=9, level=9),
    Deflate(client_max_window_bits=9, server_max_window_bits=9, level=1, threshold=0),
    Deflate(threshold=1 * MIB),
]


def prices(count: int, seed: int = 1) -> list[str]:
    random_of = random.Random(seed)
    return [
        f'{{"symbol": "S{seed}", "bid": {random_of.random():.5f}, "time": {number}}}'
        for number in range(count)
    ]


def deflated(*payloads: bytes) -> list[bytes]:
    """What a server with context takeover sends for these messages."""
    context = zlib.compressobj(wbits=-15)
    return [(context.compress(data) + context.flush(zlib.Z_SYNC_FLUSH))[:-4] for data in payloads]


def send_all(conn: wsclient.Connection, messages: list[str]) -> None:
    for message in messages:
        conn.send(message)


def compressed(opcode: Opcode, payload: bytes) -> tuple[Step, Step, Step]:
    """The script of a server that sends one compressed message."""
    return accept_upgrade(headers=AGREED), send_frame(opcode, payload, rsv=4), read_until_close()


@pytest.mark.parametrize("deflate", EVERY_SETTING)
def test_messages_of_all_kinds_come_back_whole(deflate: Deflate) -> None:
    texts = prices(200)
    others: list[str | bytes] = ["", b"", "ä" * 1000, random.Random(2).randbytes(100_000), bytes(MIB), "end"]
    with serve(echo, compression=True) as server, wsclient.connect(server.url, compression=deflate) as conn:
        assert "permessage-deflate" in conn.response_headers["sec-websocket-extensions"]
        for message in [*texts, *others]:
            conn.send(message)
        assert [conn.recv(timeout=30) for _ in [*texts, *others]] == [*texts, *others]


def test_it_saves_bytes_both_ways() -> None:
    messages = prices(1000)
    raw = sum(map(len, messages))
    with (
        serve(echo, compression=True) as server,
        wsclient.connect(server.url, compression=Deflate(threshold=0)) as conn,
    ):
        for message in messages:
            conn.send(message)
        assert [conn.recv(timeout=30) for _ in messages] == messages
        stats = conn.stats()
    assert stats.bytes_sent < raw * 0.6
    assert stats.bytes_received < raw * 0.6


def test_a_server_that_declines() -> None:
    with serve(echo) as server, wsclient.connect(server.url, compression="deflate") as conn:
        assert "sec-websocket-extensions" not in conn.response_headers
        conn.send("x" * 1000)
        assert conn.recv(timeout=10) == "x" * 1000


def test_many_threads_share_one_context() -> None:
    with (
        serve(recorder, compression=True) as server,
        wsclient.connect(server.url, compression=Deflate(threshold=0)) as conn,
        ThreadPoolExecutor(8) as pool,
    ):
        texts = [prices(500, seed) for seed in range(8)]
        for sent in [pool.submit(send_all, conn, mine) for mine in texts]:
            sent.result(timeout=30)
        received = server.wait_for_messages(8 * 500, timeout=30)
    for mine in texts:
        own = set(mine)
        assert [message for message in received if message in own] == mine


@pytest.mark.parametrize("fragment_size", [None, 100, 64 * KIB])
def test_streams_and_pieces_are_compressed(fragment_size: int | None) -> None:
    text = "".join(prices(5000))
    with (
        serve(echo, compression=True) as server,
        wsclient.connect(server.url, compression="deflate", fragment_size=fragment_size) as conn,
    ):
        with conn.send_stream(text=True) as stream:
            for start in range(0, len(text), 1000):
                stream.write(text[start : start + 1000])
        conn.send(text)
        assert [conn.recv(timeout=30) for _ in range(2)] == [text, text]
        assert conn.stats().bytes_sent < len(text)


def test_over_tls() -> None:
    messages = prices(500)
    with (
        serve(echo, compression=True, tls=True) as server,
        wsclient.connect(server.url, compression="deflate", ssl_context=server.ssl_context) as conn,
    ):
        for message in messages:
            conn.send(message)
        assert [conn.recv(timeout=30) for _ in messages] == messages


@step
def read_some(peer: Peer, size: int) -> None:
    peer.read_bytes(size)


def test_what_was_not_written_whole_is_unsent() -> None:
    """Sizes on the wire are not those of the messages: the account counts what went out."""
    messages = [random.Random(number).randbytes(300 * KIB) for number in range(64)]
    script = accept_upgrade(headers=AGREED), read_some(1 * MIB)
    with FaultServer(*script, receive_buffer=4096) as server:
        conn = wsclient.connect(server.url, compression=Deflate(threshold=0), write_timeout=None)
        receipts = [conn.send_future(message) for message in messages[:40]]
        server.wait_closed()
        conn.close(timeout=0)
        unsent = conn.unsent
        assert 0 < len(unsent) < 40
        assert list(unsent) == messages[40 - len(unsent) : 40]
        failed = [bool(receipt.exception(timeout=10)) for receipt in receipts]
        assert failed == [False] * (40 - len(unsent)) + [True] * len(unsent)


class TestReceiving:
    def test_context_and_control_frames_between_fragments(self) -> None:
        first, second = deflated(b"hello hello hello", b"hello again")
        script = (
            accept_upgrade(headers=AGREED),
            send_frame(Opcode.TEXT, first[:3], fin=False, rsv=4),
            send_frame(Opcode.PING, b"between"),
            send_frame(Opcode.CONTINUATION, first[3:]),
            send_text("plain"),
            send_frame(Opcode.BINARY, second, rsv=4),
            read_until_close(),
        )
        with FaultServer(*script) as server, wsclient.connect(server.url, compression="deflate") as conn:
            assert [conn.recv(timeout=10) for _ in range(3)] == ["hello hello hello", "plain", b"hello again"]

    def test_a_bomb_costs_no_memory(self) -> None:
        (bomb,) = deflated(bytes(256 * MIB))
        script = (
            accept_upgrade(headers=AGREED),
            send_frame(Opcode.BINARY, bomb, rsv=4),
            read_until_close(),
        )
        with FaultServer(*script) as server:
            tracemalloc.start()
            try:
                conn = wsclient.connect(server.url, compression="deflate", max_message_size=4 * MIB)
                with pytest.raises(wsclient.MessageTooBig):
                    conn.recv(timeout=30)
                conn.close()
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            server.wait_closed()
            assert server.close_code == 1009
            assert peak < 24 * MIB

    def test_small_bombs_meet_back_pressure(self) -> None:
        """A thousand messages of 1 MiB in one read: what nobody takes waits compressed."""
        count = 256
        payloads = deflated(*[bytes(MIB)] * count)
        frames = [send_frame(Opcode.BINARY, payload, rsv=4) for payload in payloads]
        script = accept_upgrade(headers=AGREED), *frames, read_until_close()
        with FaultServer(*script) as server:
            options: dict[str, Any] = {"compression": "deflate", "max_received_bytes": 4 * MIB}
            tracemalloc.start()
            try:
                conn = wsclient.connect(server.url, **options)
                for _ in range(count):
                    assert conn.recv(timeout=30) == bytes(MIB)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            conn.close()
            assert peak < 32 * MIB

    def test_pieces_of_an_inflated_message(self) -> None:
        (payload,) = deflated(("ä" * MIB).encode())
        script = (
            accept_upgrade(headers=AGREED),
            send_frame(Opcode.TEXT, payload, rsv=4),
            read_until_close(),
        )
        options: dict[str, Any] = {"compression": "deflate", "assemble": False}
        with FaultServer(*script) as server, wsclient.connect(server.url, **options) as conn:
            pieces = list(conn.recv_stream(timeout=10))
            assert len(pieces) > 1
            assert "".join(map(str, pieces)) == "ä" * MIB

    @pytest.mark.parametrize(
        ("payload", "fault"),
        [(b"\xff\xff\xff", "compressed"), (b"\x0a\x0b\x0c\x0d", "compressed")],
    )
    def test_damaged_data(self, payload: bytes, fault: str) -> None:
        script = (
            accept_upgrade(headers=AGREED),
            send_frame(Opcode.TEXT, payload, rsv=4),
            read_until_close(),
        )
        with FaultServer(*script) as server:
            conn = wsclient.connect(server.url, compression="deflate")
            with pytest.raises(wsclient.ProtocolError, match=fault):
                conn.recv(timeout=10)
            conn.close()
            server.wait_closed()
            assert server.close_code == 1007

    def test_rsv1_without_an_agreement(self) -> None:
        script = accept_upgrade(), send_frame(Opcode.TEXT, b"\xf2H\x05\x00", rsv=4), read_until_close()
        with FaultServer(*script) as server:
            conn = wsclient.connect(server.url, compression="deflate")
            with pytest.raises(wsclient.ProtocolError, match="reserved bits"):
                conn.recv(timeout=10)
            conn.close()
            server.wait_closed()
            assert server.close_code == 1002


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"compression": "gzip"}, "compression: must be None, 'deflate' or Deflate"),
        ({"compression": True}, "compression: must be"),
        ({"compression": "deflate", "max_message_size": None}, "compression: needs a max_message_size"),
    ],
)
def test_bad_options(options: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        wsclient.Options(**options)
