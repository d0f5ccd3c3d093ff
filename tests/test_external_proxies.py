"""The client through proxies of other people's making, to servers of other people's making.

A proxy that this machine cannot run is skipped, with the reason, unless the environment variable
``WSCLIENT_REQUIRE_PEERS`` names it (``tinyproxy,squid,microsocks,dante,openssh``): then that is a failure.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from conftest import HOST
from peers.launch import RunningPeer, start_peer
from peers.proxies import FORBIDDEN, PROXIES, RunningProxy, start_proxy
from peers.requirement import available
from peers.traffic import exchange
from scripted import needs_ipv6, serving, upgrade

import wsclient
from wsclient import ConnectFailed, ConnectionClosed, Deflate, HandshakeError

WAIT = 20.0  # seconds; bounds waits that take milliseconds
ALWAYS = Deflate(threshold=0)


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    with available(request.param, start_proxy, request, tmp_path_factory) as found:
        yield found


@pytest.fixture
def mortal_proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """A proxy of this test alone, to be killed."""
    with available(request.param, start_proxy, request, tmp_path_factory) as found:
        yield found


@pytest.fixture(scope="module", params=["node", "nginx-node"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    """Node's ``ws``, by itself and behind nginx with TLS."""
    with available(request.param, start_peer, request, tmp_path_factory) as found:
        yield found


def connect(server: RunningPeer, proxy: RunningProxy, scheme: str, **options: Any) -> wsclient.Connection:
    url = proxy.url(scheme, proxy.login)
    return wsclient.connect(f"{server.url}/echo", proxy=url, ssl_context=server.ssl_context, **options)


def failure(url: str, proxy: str) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        wsclient.connect(url, proxy=proxy)
    assert "pass-word" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("compression", [None, ALWAYS], ids=["plain", "compressed"])
def test_texts_and_binary_messages_of_many_threads(
    server: RunningPeer, proxy: RunningProxy, compression: Deflate | None
) -> None:
    for scheme in proxy.schemes:
        with connect(server, proxy, scheme, compression=compression) as conn:
            exchange(conn)
            assert ("sec-websocket-extensions" in conn.response_headers) is (compression is not None)


def test_large_messages(server: RunningPeer, proxy: RunningProxy) -> None:
    text, data = "grüße, κόσμε, 🌍! " * 100_000, bytes(range(256)) * 10_000
    for scheme in proxy.schemes:
        with connect(server, proxy, scheme) as conn:
            conn.send(text)
            conn.send(data)
            # Not in the assertion: pytest would compare megabytes to explain a failure.
            whole = conn.recv(WAIT) == text and conn.recv(WAIT) == data
            assert whole


def test_closing_comes_through(server: RunningPeer, proxy: RunningProxy) -> None:
    for scheme in proxy.schemes:
        conn = connect(server, proxy, scheme)
        assert 0 < conn.ping().result(WAIT) < WAIT
        conn.close(3001, "schön", timeout=WAIT)
        assert (conn.close_code, conn.closed_by) == (3001, wsclient.ClosedBy.LOCAL)


@needs_ipv6
def test_ipv6_server(proxy: RunningProxy) -> None:
    for scheme in proxy.schemes:
        with serving(upgrade(), host="::1") as server:
            if scheme == "socks4":
                assert "IPv4 addresses only" in str(failure(server.url, proxy.url(scheme, proxy.login)))
                continue
            proxy_url = proxy.url(scheme, proxy.login)
            wsclient.connect(server.url, proxy=proxy_url, close_timeout=0.1).abort()


@pytest.mark.parametrize("proxy", ["tinyproxy", "squid", "microsocks"], indirect=True)
def test_login(proxy: RunningProxy, echo_server: str) -> None:
    assert proxy.login is not None
    user, password = proxy.login
    for scheme in proxy.schemes:
        for wrong in [(user, "wrong"), ("nobody", password), (user, "x" * 200)]:
            error = failure(echo_server, proxy.url(scheme, wrong))
            assert type(error) is HandshakeError
            assert "authentication failed: it did not accept the user name and password" in str(error)
        error = failure(echo_server, proxy.url(scheme, None))
        assert type(error) is HandshakeError
        assert "authentication needed: a user name and a password in its URL" in str(error)


def test_nobody_listens_behind_the_proxy(proxy: RunningProxy) -> None:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        url = f"ws://{HOST}:{sock.getsockname()[1]}/"
        for scheme in proxy.schemes:
            error = failure(url, proxy.url(scheme, proxy.login))
            if scheme == "http":
                assert error.status in (500, 502, 503)
            else:
                assert isinstance(error, ConnectFailed)
                assert f"proxy {proxy.url(scheme, None)} failed: " in str(error)


@pytest.mark.parametrize("proxy", ["dante"], indirect=True)
def test_rules_of_a_proxy(proxy: RunningProxy) -> None:
    error = failure(f"ws://{FORBIDDEN}:9/", proxy.url("socks5", None))
    assert type(error) is HandshakeError
    assert str(error).endswith("refused the connection: its rules do not allow it")
    error = failure(f"ws://{FORBIDDEN}:9/", proxy.url("socks4", None))
    assert str(error).endswith("failed: it rejected the connection, or could not make it")


@pytest.mark.parametrize("mortal_proxy", PROXIES, indirect=True)
def test_the_proxy_dies(mortal_proxy: RunningProxy, echo_server: str) -> None:
    proxy_url = mortal_proxy.url(mortal_proxy.schemes[0], mortal_proxy.login)
    with wsclient.connect(echo_server, proxy=proxy_url) as conn:
        conn.send("alive?")
        assert conn.recv(WAIT) == "alive?"
        mortal_proxy.process.kill()
        with pytest.raises(ConnectionClosed) as caught:
            conn.recv(WAIT)
    assert caught.value.code == 1006


def test_many_connections_at_once(server: RunningPeer, proxy: RunningProxy) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            conns = [stack.enter_context(connect(server, proxy, scheme)) for scheme in proxy.schemes]
            for number, conn in enumerate(conns):
                conn.send(str(number))
            assert [conn.recv(WAIT) for conn in conns] == [str(number) for number in range(len(conns))]
