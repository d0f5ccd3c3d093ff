# mypy: ignore-errors
"""The inside of a Connection or a TestClient, reached in many ways."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest

import wsclient
from wsclient import Connection
from wsclient import connect as dial
from wsclient.testing import TestClient

URL = "ws://localhost/"
shared: Connection | None = None


def open_shared() -> None:
    global shared
    shared = dial(URL)


def use_shared() -> object:
    return shared._session  # finds: private-attribute


def named() -> None:
    conn = wsclient.connect(URL)
    conn._session.queue.close()  # finds: private-attribute
    put = conn._put  # finds: private-attribute
    put("message", True, 1)
    conn._put = print  # finds: private-attribute
    del conn._options  # finds: private-attribute
    dial(URL)._session.drop()  # finds: private-attribute
    Connection(URL)._session.drop()  # finds: private-attribute


def managed(url: str = URL) -> None:
    with wsclient.connect(url) as conn, Connection(url) as other:
        conn._session.drop()  # finds: private-attribute
        other._session.drop()  # finds: private-attribute
    if (late := dial(url)) is not None:
        late._session.drop()  # finds: private-attribute


def annotated(conn: Connection, maybe: wsclient.Connection | None, client: "TestClient") -> None:  # noqa: UP037
    conn._session.drop()  # finds: private-attribute
    maybe._session.drop()  # finds: private-attribute
    client._connection.send("x")  # finds: private-attribute
    client.connection._session.drop()  # finds: private-attribute


def by_name(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    getattr(conn, "_session").drop()  # noqa: B009  # finds: private-attribute
    setattr(conn, "_put", print)  # noqa: B010  # finds: private-attribute
    object.__getattribute__(conn, "_session")  # finds: private-attribute
    monkeypatch.setattr(conn, "_put", print)  # finds: private-attribute
    with patch.object(Connection, "_put", create=True):  # finds: private-attribute
        pass
    vars(conn)["_session"].drop()  # finds: private-attribute
    conn.__dict__["_session"].drop()  # finds: private-attribute
    operator.attrgetter("url")(conn)


def many(several: list[Connection]) -> None:
    for conn in several:
        conn._session.drop()  # finds: private-attribute
    several[0]._session.drop()  # finds: private-attribute
    for conn in [dial(URL) for _ in range(3)]:
        conn._session.drop()  # finds: private-attribute
    [each._session.drop() for each in several]  # finds: private-attribute


def on_message(conn: Any, message: object) -> None:
    conn._put(message)  # finds: private-attribute


def called_back() -> None:
    Connection(URL, on_message=on_message, on_open=lambda conn: conn._put("x"))  # finds: private-attribute


class Client:
    def __init__(self, make: Callable[[], Connection]) -> None:
        self.conn = dial(URL)
        self.make = make

    def send(self) -> None:
        self.conn._put("x")  # finds: private-attribute
        self.make()._session.drop()  # finds: private-attribute


class Faster(Connection):
    def send_now(self, message: str) -> None:
        self._put(message, True, 0)  # finds: private-attribute
        super()._put(message, True, 0)  # finds: private-attribute


@pytest.fixture
def conn() -> Iterator[Connection]:
    with dial(URL) as connection:
        yield connection


def test_with_a_fixture(conn, ws_client):
    conn._session.drop()  # finds: private-attribute
    client = ws_client(URL)
    client._connection.send("x")  # finds: private-attribute
