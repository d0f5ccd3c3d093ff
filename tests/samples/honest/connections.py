# mypy: ignore-errors
"""Honest use of wsclient, beside private attributes of everything else."""

from __future__ import annotations

import sqlite3
from typing import Any
from unittest.mock import patch

import pytest

import wsclient
import wsclient.testing
from wsclient import Connection, ConnectionClosed, Options, connect
from wsclient.exceptions import WSClientError
from wsclient.testing import FaultServer, TestClient
from wsclient.testing.faults import accept_upgrade

URL = "ws://localhost/"


class Account:
    """Holds a connection, and private things of its own."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._session = object()
        self._put = conn.send

    def send(self, text: str) -> None:
        self._put(text)
        self._conn.send(f"{self._session} {text}")


class Named(Connection):
    """A subclass may have private attributes that it made itself."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url)
        self._name = name

    def greet(self) -> None:
        self.send(self._greeting())

    def _greeting(self) -> str:
        return f"hello from {self._name}"


class Database:
    def __init__(self) -> None:
        self.conn = sqlite3.connect(":memory:")

    def use(self) -> Any:
        conn: Any = self.conn
        return conn._session, self.conn.__class__


def unknown(conn: Any, client: Any, session: Any) -> Any:
    """Nothing says what these are."""
    session._session = conn._session
    return conn.sock, client._put, getattr(conn, "_transport", None)


def rebound(other: Any) -> Any:
    conn: Any = connect(URL)
    conn.close()
    conn = other
    return conn._session


def used(conn: Connection) -> None:
    conn.send("x")
    account = Account(conn)
    account._conn.flush()
    for name in ("url", "state"):
        getattr(conn, name)
    print(getattr(conn, "url"), conn.__class__, conn.__doc__, hasattr(conn, "_x"))  # noqa: B009
    with patch.object(conn, "send"), pytest.raises((ConnectionClosed, WSClientError)):
        wsclient.connect(URL)


class FakeTestClient:
    """What a web framework calls its test client."""

    def __init__(self) -> None:
        self._transport = URL


@pytest.fixture
def ws_client() -> FakeTestClient:
    return FakeTestClient()


def test_with_an_own_fixture(ws_client, conn):
    assert ws_client._transport
    assert conn._session


def served(client: TestClient, server: FaultServer, options: Options) -> object:
    client.send_json({"type": "x"})
    return (
        client.connection.url,
        server._thread,
        accept_upgrade,
        options,
        wsclient.testing,
        wsclient.__version__,
    )
