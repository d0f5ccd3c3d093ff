"""The client against servers, and proxies in front of them, that share no code with it.

A peer that this machine cannot run is skipped, with the reason, unless the environment variable
``WSCLIENT_REQUIRE_PEERS`` names it (``node,nginx,haproxy``): then that is a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import pytest
from peers.launch import PEERS, REVERSE_PROXIES, Place, RunningPeer, Unavailable, start_peer
from peers.requirement import available
from peers.traffic import exchange

import wsclient
from wsclient import ClosedBy, Connection, ConnectionClosed, Deflate, HandshakeError, State

WAIT = 20.0  # seconds; bounds waits that take milliseconds
TEXT = "grüße, κόσμε, 🌍! "


@dataclass(frozen=True)
class Way:
    """How to connect to a peer.

    Attributes:
        name: of the peer.
        compression: option of each connection.
        deflate: what Node's ``ws`` is told in the query.
    """

    name: str
    compression: Deflate | None = None
    deflate: str = ""


ALWAYS = Deflate(threshold=0)
FRUGAL = Deflate(
    threshold=0,
    client_max_window_bits=9,
    server_max_window_bits=9,
    client_no_context_takeover=True,
    server_no_context_takeover=True,
)
COMPRESSED: Mapping[str, Way] = MappingProxyType(
    {
        "websockets, compressed": Way("websockets", ALWAYS),
        "websockets, compressed frugally": Way("websockets", FRUGAL),
        "node, compressed": Way("node", ALWAYS),
        "node, compressed frugally": Way("node", FRUGAL),
        "node, compressed as it says": Way("node", ALWAYS, "frugal"),
        "nginx-node, compressed": Way("nginx-node", ALWAYS),
    }
)
DECLINED: Mapping[str, Way] = MappingProxyType(
    {"picows, declined": Way("picows", ALWAYS), "node, declined": Way("node", ALWAYS, "off")}
)
WAYS: Mapping[str, Way] = MappingProxyType({name: Way(name) for name in PEERS} | {**COMPRESSED, **DECLINED})


@dataclass(frozen=True)
class Peer:
    """A running peer as the client sees it."""

    way: Way
    running: RunningPeer

    def connect(self, path: str, *, options: dict[str, Any] | None = None, **query: object) -> Connection:
        """Open a connection to one of its paths."""
        if self.way.deflate:
            query["deflate"] = self.way.deflate
        url = f"{self.running.url}{path}?{urlencode(query)}"
        own = {"ssl_context": self.running.ssl_context, "proxy": None, "compression": self.way.compression}
        return wsclient.connect(url, **(own | (options or {})))

    def end_of(self, connection_id: str) -> tuple[int, str]:
        """Code and reason of the end of a connection, as its server saw it."""
        with self.connect("/closed", of=connection_id) as conn:
            conn.send("how did it end?")
            code, reason = conn.recv_json(WAIT)
        return code, reason


@contextlib.contextmanager
def running(way: Way, request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with available(way.name, start_peer, request, factory) as peer:
        yield Peer(way, peer)


@pytest.fixture(scope="module", params=list(WAYS.values()), ids=list(WAYS))
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with running(request.param, request, tmp_path_factory) as found:
        yield found


@pytest.fixture(params=tuple(PEERS))
def mortal_peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A peer of this test alone, to be killed."""
    with running(Way(request.param), request, tmp_path_factory) as found:
        yield found


class TestMessages:
    def test_text_comes_back(self, peer: Peer) -> None:
        with peer.connect("/echo") as conn:
            for text in ("hello", "", TEXT, TEXT * 1000):
                conn.send(text)
            assert [conn.recv(WAIT) for _ in range(4)] == ["hello", "", TEXT, TEXT * 1000]

    def test_binary_comes_back(self, peer: Peer) -> None:
        sizes = (0, 1, 125, 126, 127, 65535, 65536, 65537)
        payloads = [os.urandom(size) for size in sizes]
        with peer.connect("/echo") as conn:
            for payload in payloads:
                conn.send(payload)
            assert [conn.recv(WAIT) for _ in sizes] == payloads

    def test_large_messages_come_back(self, peer: Peer) -> None:
        payload = os.urandom(8 * 1024 * 1024)
        text = TEXT * 100_000
        with peer.connect("/echo") as conn:
            conn.send(payload)
            conn.send(text)
            # Not in the assertion: pytest would compare megabytes to explain a failure.
            whole = conn.recv(WAIT) == payload and conn.recv(WAIT) == text
        assert whole

    @pytest.mark.parametrize("pieces", [2, 7, 1000])
    def test_messages_in_fragments_are_put_together(self, peer: Peer, pieces: int) -> None:
        payload = os.urandom(100_000)
        with peer.connect("/fragments", pieces=pieces) as conn:
            for message in (TEXT * 100, payload, "x"):
                conn.send(message)
            assert [conn.recv(WAIT) for _ in range(3)] == [TEXT * 100, payload, "x"]

    def test_over_max_message_size_the_client_closes_with_1009(self, peer: Peer) -> None:
        mark = uuid.uuid4().hex
        with peer.connect("/echo", id=mark, options={"max_message_size": 1000}) as conn:
            conn.send("x" * 1000)
            assert conn.recv(WAIT) == "x" * 1000
            conn.send("x" * 1001)
            with pytest.raises(wsclient.MessageTooBig):
                conn.recv(WAIT)
        assert peer.end_of(mark)[0] == 1009

    def test_many_threads_share_a_connection(self, peer: Peer) -> None:
        threads, each = 16, 100
        with peer.connect("/echo") as conn:

            def send(sender: int) -> None:
                for number in range(each):
                    conn.send_json([sender, number, "x" * (number * 7 % 300)])

            workers = [threading.Thread(target=send, args=(sender,)) for sender in range(threads)]
            for worker in workers:
                worker.start()
            echoes = [conn.recv_json(WAIT) for _ in range(threads * each)]
            for worker in workers:
                worker.join(WAIT)
            conn.flush(WAIT)  # the last echo may be here before the writer has counted
            stats = conn.stats()
        order = defaultdict(list)
        for sender, number, filling in echoes:
            assert filling == "x" * (number * 7 % 300)
            order[sender].append(number)
        assert order == {sender: list(range(each)) for sender in range(threads)}
        assert (stats.messages_sent, stats.messages_received) == (threads * each, threads * each)


class TestCompression:
    """What the tests of every peer do not show: that compression is in use, or is not."""

    @pytest.mark.parametrize("peer", list(COMPRESSED.values()), ids=list(COMPRESSED), indirect=True)
    def test_it_is_agreed_on_and_saves_bytes(self, peer: Peer) -> None:
        text = TEXT * 1000
        with peer.connect("/echo") as conn:
            conn.send(text)
            assert conn.recv(WAIT) == text
            stats = conn.stats()
            assert conn.response_headers["sec-websocket-extensions"].startswith("permessage-deflate")
        assert max(stats.bytes_sent, stats.bytes_received) < len(text.encode()) / 10

    @pytest.mark.parametrize("peer", list(COMPRESSED.values()), ids=list(COMPRESSED), indirect=True)
    def test_texts_and_binary_messages_of_many_threads(self, peer: Peer) -> None:
        with peer.connect("/echo") as conn:
            exchange(conn)

    @pytest.mark.parametrize(
        ("peer", "kept"),
        [
            pytest.param(COMPRESSED["node, compressed"], True, id="kept"),
            pytest.param(COMPRESSED["node, compressed frugally"], False, id="not kept"),
            pytest.param(COMPRESSED["node, compressed as it says"], False, id="not kept as the server says"),
        ],
        indirect=["peer"],
    )
    def test_the_context_is_kept_or_not(self, peer: Peer, kept: bool) -> None:
        message = os.urandom(200)  # nothing to compress, until it comes again
        with peer.connect("/echo") as conn:
            sizes = []
            for _ in range(2):
                conn.send(message)
                assert conn.recv(WAIT) == message
                conn.flush(WAIT)
                sizes.append((conn.stats().bytes_sent, conn.stats().bytes_received))
        first, both = sizes
        for before, after in zip(first, both, strict=True):
            assert before > len(message)
            assert (after - before < len(message) / 4) is kept

    @pytest.mark.parametrize("peer", list(DECLINED.values()), ids=list(DECLINED), indirect=True)
    def test_it_may_be_declined(self, peer: Peer) -> None:
        with peer.connect("/echo") as conn:
            conn.send(TEXT * 100)
            assert conn.recv(WAIT) == TEXT * 100
            assert "sec-websocket-extensions" not in conn.response_headers
            conn.flush(WAIT)  # the echo may be here before the writer has counted
            assert conn.stats().bytes_sent > len((TEXT * 100).encode())


class TestPings:
    def test_the_clients_ping_is_answered(self, peer: Peer) -> None:
        with peer.connect("/echo") as conn:
            assert 0 < conn.ping().result(WAIT) < WAIT
            assert 0 < conn.ping(b"\x00payload\xff").result(WAIT) < WAIT
            assert conn.stats().pongs_received == 2

    def test_the_peers_ping_is_answered_with_its_payload(self, peer: Peer) -> None:
        with peer.connect("/ping") as conn:
            for payload in ("a", "b" * 125):
                conn.send(payload)
                assert conn.recv(WAIT) == f"pong {payload}"

    def test_a_ping_behind_messages_confirms_them(self, peer: Peer) -> None:
        with peer.connect("/echo") as conn:
            for number in range(200):
                conn.send(str(number))
            assert 0 < conn.confirm(WAIT) < WAIT
            assert [conn.recv(WAIT) for _ in range(200)] == [str(number) for number in range(200)]


class TestClosing:
    @pytest.mark.parametrize(
        ("code", "reason"), [(1000, ""), (1001, "away"), (3001, "schön"), (4999, "x" * 123)]
    )
    def test_by_the_client(self, peer: Peer, code: int, reason: str) -> None:
        mark = uuid.uuid4().hex
        conn = peer.connect("/echo", id=mark)
        conn.close(code, reason, timeout=WAIT)
        assert (conn.state, conn.close_code, conn.closed_by) == (State.CLOSED, code, ClosedBy.LOCAL)
        assert peer.end_of(mark) == (code, reason)

    def test_by_the_client_after_all_it_sent(self, peer: Peer) -> None:
        conn = peer.connect("/echo")
        for number in range(500):
            conn.send(str(number))
        conn.close(timeout=WAIT)
        assert conn.unsent == ()
        assert conn.stats().messages_sent == 500

    @pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (1011, "broken"), (4000, "schön")])
    def test_by_the_peer(self, peer: Peer, code: int, reason: str) -> None:
        mark = uuid.uuid4().hex
        with peer.connect("/close", code=code, id=mark) as conn:
            conn.send(reason)
            with pytest.raises(ConnectionClosed) as caught:
                conn.recv(WAIT)
            assert (caught.value.code, caught.value.reason) == (code, reason)
            assert conn.closed_by is ClosedBy.PEER
        # The client has answered the close frame with the same code (RFC 6455, section 5.5.1).
        assert peer.end_of(mark)[0] == code

    def test_an_abort_needs_no_handshake(self, peer: Peer) -> None:
        mark = uuid.uuid4().hex
        conn = peer.connect("/echo", id=mark)
        conn.abort()
        assert (conn.state, conn.close_code) == (State.CLOSED, 1006)
        assert peer.end_of(mark)[0] == 1006

    def test_a_cut_is_reported_as_1006(self, peer: Peer) -> None:
        with peer.connect("/drop") as conn:
            conn.send("go")
            with pytest.raises(ConnectionClosed) as caught:
                conn.recv(WAIT)
            assert (caught.value.code, conn.closed_by) == (1006, ClosedBy.NETWORK)

    def test_one_on_close_after_the_last_message(self, peer: Peer) -> None:
        events: list[object] = []
        closed = threading.Event()

        def on_close(conn: Connection, code: int, reason: str) -> None:
            events.append((code, reason))
            closed.set()

        options = {"on_message": lambda conn, message: events.append(message), "on_close": on_close}
        with peer.connect("/close", code=1000, options=options) as conn:
            conn.send("bye")
            assert closed.wait(WAIT)
        assert events == [(1000, "bye")]

    def test_the_server_dies(self, mortal_peer: Peer) -> None:
        with mortal_peer.connect("/echo") as conn:
            conn.send("alive?")
            assert conn.recv(WAIT) == "alive?"
            mortal_peer.running.processes[0].kill()
            with pytest.raises(ConnectionClosed) as caught:
                conn.recv(WAIT)
            assert caught.value.code == 1006


@pytest.mark.parametrize("mortal_peer", REVERSE_PROXIES, indirect=True)
def test_the_proxy_dies(mortal_peer: Peer) -> None:
    with mortal_peer.connect("/echo") as conn:
        conn.send("alive?")
        assert conn.recv(WAIT) == "alive?"
        mortal_peer.running.processes[-1].kill()
        with pytest.raises(ConnectionClosed) as caught:
            conn.recv(WAIT)
        assert caught.value.code == 1006


@pytest.mark.parametrize("mortal_peer", REVERSE_PROXIES, indirect=True)
def test_nothing_behind_the_proxy(mortal_peer: Peer) -> None:
    mortal_peer.running.processes[0].kill()
    with pytest.raises(HandshakeError) as caught:
        mortal_peer.connect("/echo")
    assert caught.value.status in (502, 503)


class TestHandshake:
    def test_an_unknown_path_is_refused(self, peer: Peer) -> None:
        with pytest.raises(HandshakeError) as caught:
            peer.connect("/nowhere")
        assert caught.value.status == 404

    def test_many_connections_at_once(self, peer: Peer) -> None:
        with contextlib.ExitStack() as stack:
            conns = [stack.enter_context(peer.connect("/echo")) for _ in range(20)]
            for number, conn in enumerate(conns):
                conn.send(json.dumps(number))
            assert [conn.recv_json(WAIT) for conn in conns] == list(range(20))


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(Unavailable, match="node is not installed"),
        start_peer("node", Place(tmp_path, tmp_path)),
    ):
        pass


def test_the_lock_file_names_no_host() -> None:
    lock = json.loads((Path(__file__).parent / "peers/node/package-lock.json").read_text())
    packages = [package for name, package in lock["packages"].items() if name]
    assert packages
    assert all("integrity" in package and "resolved" not in package for package in packages)
