"""docs/migrating-from-websockets.md: a name that is there has a row, and behaviour differs as it says."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync import client
from websockets.sync.client import ClientConnection, connect

import wsclient
from wsclient import Options
from wsclient.testing import (
    FaultServer,
    accept_upgrade,
    echo,
    http_response,
    read_until_close,
    recorder,
    send_binary,
    serve,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "migrating-from-websockets.md"
MEMBERS = (
    *("close", "close_code", "close_reason", "latency", "local_address", "ping", "pong", "recv"),
    *("recv_streaming", "remote_address", "request", "response", "send", "state", "subprotocol"),
)


def _column(number: int) -> str:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.split("|")[number] for line in lines if "|" in line)


def _their_names() -> list[str]:
    parameters = inspect.signature(connect).parameters.values()
    options = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    return sorted((options - {"legacy"}) | {name for name in MEMBERS if hasattr(ClientConnection, name)})


@pytest.mark.parametrize("name", _their_names())
def test_each_name_of_websockets_has_a_row(name: str) -> None:
    assert re.search(rf"`{name}\b", _column(1)), f"{name} is not in the first column"


def test_what_it_becomes_exists() -> None:
    named = set(re.findall(r"`(\w+)=", _column(2)))
    assert named - set(dir(Options)) == set()
    assert {"headers", "ssl_context", "max_message_size"} <= named


def test_compression_is_theirs_by_default_and_not_ours() -> None:
    with FaultServer(accept_upgrade(), read_until_close()) as server:
        with connect(server.url, proxy=None):
            pass
        with wsclient.connect(server.url, proxy=None):
            pass
        offers = ["sec-websocket-extensions" in record.headers for record in server.connections]
    assert offers == [True, False]


def test_the_largest_message_is_1_mib_there_and_16_here() -> None:
    with FaultServer(accept_upgrade(), send_binary(bytes(1024**2 + 1)), read_until_close()) as server:
        with (
            connect(server.url, proxy=None, compression=None) as theirs,
            pytest.raises(ConnectionClosedError, match="1009"),
        ):
            theirs.recv(timeout=10)
        with wsclient.connect(server.url, proxy=None) as ours:
            assert len(ours.recv(timeout=10)) == 1024**2 + 1


def test_redirects_are_not_followed_here() -> None:
    with serve(echo) as target, FaultServer(http_response(302, {"Location": target.url})) as server:
        with pytest.raises(wsclient.HandshakeError) as caught:
            wsclient.connect(server.url, proxy=None)
        assert caught.value.status == 302
        with wsclient.connect(server.url, proxy=None, follow_redirects=5) as ours:
            ours.send("there")
            assert ours.recv(timeout=10) == "there"


@pytest.mark.skipif(not hasattr(client, "reconnect"), reason="needs websockets 17")
def test_recent_versions_follow_them_there() -> None:
    with (
        serve(echo) as target,
        FaultServer(http_response(302, {"Location": target.url})) as server,
        connect(server.url, proxy=None) as theirs,
    ):
        theirs.send("there")
        assert theirs.recv(timeout=10) == "there"


def test_leaving_by_an_exception_is_1011_in_both() -> None:
    with serve(recorder) as server:
        with suppress(KeyError), connect(server.url, proxy=None):
            raise KeyError
        with suppress(KeyError), wsclient.connect(server.url, proxy=None):
            raise KeyError
        server.wait_for_connections(2)
        server.wait_closed()
        assert [record.close_code for record in server.connections] == [1011, 1011]
