"""websocket-client's options, as they reach the server, the proxy and TLS; and what of them is refused."""

from __future__ import annotations

import socket
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest
import websocket
from compat_scenarios import leaking
from conftest import TLS

from wsclient import compat
from wsclient.compat.options import Plan
from wsclient.compat.tls import context_of
from wsclient.testing import FaultServer, Peer, accept_upgrade, echo, read_until_close, serve, step

URL = "ws://localhost:8080/chat"
PLAN = Plan((), {}, None)
UP = accept_upgrade()
HANDSHAKE = frozenset({"sec-websocket-key", "upgrade", "connection", "sec-websocket-version"})


def request_of(module: Any, **options: Any) -> dict[str, str]:
    """The headers that reach the server, without those of every request."""
    with leaking(), FaultServer(UP, read_until_close()) as server:
        module.create_connection(server.url, **options).close()
        headers = dict(server.connections[0].headers)
        authority = server.url.removeprefix("ws://").rstrip("/")
    return {
        name: value.replace(authority, "AUTHORITY")
        for name, value in headers.items()
        if name not in HANDSHAKE
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"header": ["X-One: 1", "X-Two:2"]},
        {"header": {"X-One": "1", "X-Two": None}},
        {"cookie": "a=b; c=d"},
        {"origin": "https://example.com"},
        {"suppress_origin": True},
        {"host": "example.com:81"},
        {"header": ["Cookie: a=b"]},
        {"header": {"User-Agent": "me"}, "cookie": "chocolate", "origin": "testing.com", "host": "there"},
    ],
    ids=str,
)
def test_the_same_request(options: dict[str, Any]) -> None:
    ours, theirs = request_of(compat, **options), request_of(websocket, **options)
    assert ours == theirs


def test_subprotocols_given_as_a_header() -> None:
    headers = {"Sec-WebSocket-Protocol": "chat, superchat"}
    assert request_of(compat, header=headers)["sec-websocket-protocol"].replace(" ", "") == "chat,superchat"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("ws://localhost:8080/x", "http://localhost:8080"),
        ("wss://Example.com/x", "https://example.com"),
        ("wss://example.com:8443/x", "https://example.com:8443"),
        ("ws://[::1]:81/", "http://[::1]:81"),
        ("ws://user:secret@example.com/", "http://example.com"),
        ("ws://bücher.example/", "http://xn--bcher-kva.example"),
    ],
)
def test_origin_unless_told(url: str, origin: str) -> None:
    assert PLAN.options(url, {})["origin"] == origin


def test_time_outs() -> None:
    assert PLAN.options(URL, {})["open_timeout"] == 60
    assert PLAN.options(URL, {"http_proxy_timeout": 90})["open_timeout"] == 90
    assert Plan((), {}, 5).options(URL, {"http_proxy_timeout": 90})["open_timeout"] == 5
    assert Plan((), {}, 1e9).options(URL, {})["open_timeout"] == 2_000_000


class TestProxies:
    def test_their_names_in_ours(self) -> None:
        given: dict[str, Any] = {"http_proxy_host": "proxy", "http_proxy_port": "3128"}
        assert PLAN.options(URL, given)["proxy"] == "http://proxy:3128"
        given |= {"http_proxy_auth": ("me", "p@ss/word"), "proxy_type": "socks5h"}
        assert PLAN.options(URL, given)["proxy"] == "socks5h://me:p%40ss%2Fword@proxy:3128"
        given |= {"http_proxy_host": "::1", "http_proxy_auth": None}
        assert PLAN.options(URL, given)["proxy"] == "socks5h://[::1]:3128"
        assert "proxy" not in PLAN.options(URL, {"http_proxy_host": None})

    def test_exceptions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = {"http_proxy_host": "proxy", "http_proxy_port": 3128}
        for exceptions in (["localhost"], ["*"], [".calhost"]):
            assert PLAN.options(URL, given | {"http_no_proxy": exceptions})["proxy"] is None
        assert PLAN.options(URL, given | {"http_no_proxy": ["elsewhere"]})["proxy"] is not None
        monkeypatch.setenv("no_proxy", "localhost")
        assert PLAN.options(URL, given)["proxy"] is None

    def test_a_port_is_needed(self) -> None:
        with pytest.raises(compat.WebSocketProxyException, match="http_proxy_port"):
            PLAN.options(URL, {"http_proxy_host": "proxy"})

    def test_through_one(self) -> None:
        with FaultServer(accept_tunnel(), UP, read_until_close()) as proxy:
            host, _, port = proxy.url.removeprefix("ws://").rstrip("/").partition(":")
            compat.create_connection("ws://there.test/", http_proxy_host=host, http_proxy_port=port).close()
            assert proxy.connections[0].headers["host"] == "there.test"

    def test_one_that_refuses(self) -> None:
        with FaultServer(refuse_tunnel()) as proxy:
            host, _, port = proxy.url.removeprefix("ws://").rstrip("/").partition(":")
            with pytest.raises(compat.WebSocketProxyException, match="407"):
                compat.create_connection("ws://there.test/", http_proxy_host=host, http_proxy_port=port)

    def test_one_that_is_not_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            compat.create_connection("ws://there.test/", http_proxy_host="127.0.0.1", http_proxy_port=port)


def _read_head(peer: Peer) -> None:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += peer._recv(65536)


@step
def refuse_tunnel(peer: Peer) -> None:
    """Answer CONNECT with 407."""
    _read_head(peer)
    peer.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")


@step
def accept_tunnel(peer: Peer) -> None:
    """Answer CONNECT, and be the server behind it."""
    _read_head(peer)
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")


class TestTLS:
    def test_verified_by_default(self) -> None:
        assert context_of({}) is None
        context = context_of({"ciphers": "ECDHE+AESGCM"})
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)

    def test_without_verification(self) -> None:
        context = context_of({"cert_reqs": ssl.CERT_NONE})
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
        with serve(echo, tls=True) as server:
            ws = compat.create_connection(server.url, sslopt={"cert_reqs": ssl.CERT_NONE})
            assert ws.is_ssl() is True
            ws.close()

    def test_without_host_name(self) -> None:
        context = context_of({"check_hostname": False})
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)

    def test_authorities(self, tls: TLS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "ca.pem"
        tls.authority.cert_pem.write_to_path(str(file))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.authority.issue_cert("there.test").configure_cert(server)
        named = {"ca_certs": str(file), "server_hostname": "there.test"}
        with FaultServer(UP, read_until_close(), ssl_context=server) as peer:
            compat.create_connection(peer.url, sslopt=named).close()
        monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(file))
        with FaultServer(UP, read_until_close(), ssl_context=server) as peer:
            compat.create_connection(peer.url, sslopt={"server_hostname": "there.test"}).close()
        monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(tmp_path))
        assert context_of({}) is not None

    def test_certificate_of_ones_own(self, tls: TLS, tmp_path: Path) -> None:
        file = tmp_path / "me.pem"
        tls.authority.issue_cert("me@example.com").private_key_and_cert_chain_pem.write_to_path(str(file))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.authority.issue_cert("127.0.0.1").configure_cert(server)
        server.verify_mode = ssl.CERT_REQUIRED
        tls.authority.configure_trust(server)
        for mine in ({"certfile": str(file)}, {"cert_chain": (str(file), None, None)}):
            with FaultServer(UP, read_until_close(), ssl_context=server) as peer:
                compat.create_connection(peer.url, sslopt={"cert_reqs": ssl.CERT_NONE, **mine}).close()

    def test_context_of_ones_own(self, tls: TLS) -> None:
        assert context_of({"context": tls.client, "server_hostname": "x"}) is tls.client
        with pytest.raises(compat.NotSupported, match="ciphers"):
            context_of({"context": tls.client, "ciphers": "ALL"})

    def test_key_log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        context = context_of({"cert_reqs": ssl.CERT_NONE, "ecdh_curve": "prime256v1"})
        assert context is not None
        assert context.keylog_filename == str(tmp_path / "keys")

    def test_protocol_version(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert context_of({"ssl_version": ssl.PROTOCOL_TLSv1_2}) is not None

    @pytest.mark.parametrize(
        "sslopt",
        [
            {"ca_certs": "/nowhere"},
            {"certfile": "/nowhere"},
            {"cert_chain": "file"},
            {"ciphers": "none such"},
            {"cert_reqs": ssl.CERT_NONE, "check_hostname": True},
        ],
        ids=str,
    )
    def test_what_is_wrong(self, sslopt: dict[str, Any]) -> None:
        for module in (websocket, compat):
            with leaking(), serve(echo, tls=True) as server:
                errors = (module.WebSocketException, ValueError)
                with pytest.raises(errors):
                    module.create_connection(server.url, sslopt=sslopt)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"header": "X: 1"}, "header: must be a list"),
            ({"header": ["no colon"]}, "Name: value"),
            ({"header": ["X: 1\r\nY: 2"]}, "CR, LF"),
            ({"header": {"Sec-WebSocket-Key": "mine"}}, "Sec-WebSocket-Key"),
            ({"colour": "red"}, "colour"),
            ({"sockopt": [(1, 2)]}, "socket_options"),
        ],
    )
    def test_bad_options(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises((TypeError, ValueError), match=words):
            compat.create_connection(URL, **options)

    def test_socket_options_reach_the_socket(self) -> None:
        with pytest.raises(OSError, match="Protocol not available"):
            compat.create_connection("ws://127.0.0.1:1/", sockopt=[(socket.IPPROTO_TCP, 9999, 1)])
