"""A program as a user with strict type checkers writes it: mypy and pyright check it, a test runs it.

``assert_type`` holds for the checkers what they must find without help.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import wsclient
from wsclient import Connection, Disconnect, Reconnect, compat
from wsclient.load import Plan, Progress, Result, Verdict, judge, parse_threshold, run
from wsclient.testing import Server, ServerConnection, TestClient, echo, serve

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type

SECONDS = 10.0


def blocking(url: str) -> None:
    with wsclient.connect(url, open_timeout=SECONDS, headers={"X-Caller": "typed"}) as conn:
        assert_type(conn, Connection)
        conn.send("text")
        conn.send(memoryview(b"binary"), timeout=SECONDS)
        conn.send_json({"type": "subscribe"})
        assert_type(conn.send_future("receipt"), Future[None])
        assert_type(conn.ping(), Future[float])
        assert_type(conn.recv(timeout=SECONDS), str | bytes)
        assert_type(conn.recv(timeout=SECONDS), str | bytes)
        assert_type(conn.recv_json(timeout=SECONDS), Any)
        assert_type(conn.confirm(timeout=SECONDS), float)
        conn.flush(SECONDS)
        look_at(conn)
    for message in conn:
        assert_type(message, str | bytes)
    try:
        conn.send("too late")
    except wsclient.ConnectionClosed as closed:
        assert_type(closed.code, int)
        assert_type(closed.unsent, tuple[str | bytes, ...])


def look_at(conn: Connection) -> None:
    assert_type(conn.url, str)
    assert_type(conn.state, wsclient.State)
    assert_type(conn.stats(), wsclient.Stats)
    assert_type(conn.stats().messages_sent, int)
    assert_type(conn.latency, float | None)
    assert_type(conn.subprotocol, str | None)
    assert_type(conn.response_headers, Mapping[str, str])
    assert_type(conn.unsent, tuple[str | bytes, ...])
    assert_type(conn.in_doubt, tuple[str | bytes, ...])
    assert_type(conn.close_code, int | None)
    assert_type(conn.closed_by, wsclient.ClosedBy | None)
    assert_type(conn.credentials, wsclient.Credentials | None)


class Feed:
    """Callbacks as methods; what they hear goes into a queue."""

    def __init__(self, url: str) -> None:
        self.heard: SimpleQueue[str | bytes] = SimpleQueue()
        self.closed: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self.connection = Connection(
            url,
            on_open=self.on_open,
            on_message=self.on_message,
            on_close=self.on_close,
            on_error=self.on_error,
            on_disconnect=self.on_disconnect,
            reconnect=Reconnect(max_attempts=3, retry=self.is_worth_it),
            delivery=wsclient.Delivery.AT_LEAST_ONCE,
            compression=wsclient.Deflate(),
        )

    def on_open(self, conn: Connection) -> None:
        conn.send("open")

    def on_message(self, conn: Connection, message: str | bytes) -> None:
        self.heard.put(message)

    def on_close(self, conn: Connection, code: int, reason: str) -> None:
        self.closed.put((code, reason))

    def on_error(self, conn: Connection, error: BaseException) -> None:
        raise error

    def on_disconnect(self, conn: Connection, disconnect: Disconnect) -> None:
        assert_type(disconnect.code, int | None)
        assert_type(disconnect.in_doubt, tuple[str | bytes, ...])

    def is_worth_it(self, disconnect: Disconnect) -> bool:
        return disconnect.kind is not wsclient.DisconnectKind.PROTOCOL_ERROR and not disconnect.permanent


def calling_back(url: str) -> None:
    feed = Feed(url)
    feed.connection.open(SECONDS)
    assert feed.heard.get(timeout=SECONDS) == "open"
    feed.connection.close(1000, "done")
    assert feed.closed.get(timeout=SECONDS) == (1000, "done")


def streaming(url: str) -> None:
    with wsclient.connect(url, assemble=False) as conn:
        with conn.send_stream(text=True) as out:
            assert_type(out, wsclient.SendStream)
            out.write("in ")
            out.write("pieces")
        with conn.recv_stream(timeout=SECONDS) as pieces:
            assert_type(pieces, wsclient.ReceiveStream)
            for piece in pieces:
                assert_type(piece, str | bytes)


def shout(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message.upper())


def tested() -> None:
    with serve(shout) as server, TestClient("u1", "teacher", "s1", server.url) as client:
        assert_type(server, Server)
        assert_type(client, TestClient)
        client.send_json({"type": "hello"})
        assert_type(client.wait_for(where=lambda message: "TYPE" in message, timeout=SECONDS), Any)
        assert_type(client.received, list[Any])
        assert_type(server.received, list[str | bytes])
        assert_type(client.ping(), float)


def loaded(url: str) -> None:
    seen: list[Progress] = []
    result = run(Plan(url=url, connections=2, messages=20, expect="echo"), on_progress=seen.append)
    assert_type(result, Result)
    assert_type(result.account.answered, int)
    verdicts = judge([parse_threshold("errors>0")], result)
    assert_type(verdicts, tuple[Verdict, ...])
    assert all(verdict.passed for verdict in verdicts)
    assert result.account.answered == 20


def moved_in(url: str) -> None:
    def on_message(app: compat.WebSocketApp, message: str) -> None:
        app.close()

    def on_open(app: compat.WebSocketApp) -> None:
        app.send("as before")

    app = compat.WebSocketApp(url, on_open=on_open, on_message=on_message)
    assert_type(app.run_forever(), bool)
    old = compat.create_connection(url, timeout=SECONDS)
    assert_type(old, compat.WebSocket)
    old.send("text")
    assert_type(old.recv(), str | bytes)
    old.close()


def main() -> None:
    with serve(echo) as server:
        for use in (blocking, calling_back, streaming, loaded, moved_in):
            use(server.url)
    tested()


if __name__ == "__main__":
    main()
