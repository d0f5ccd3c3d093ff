"""Who is at the other end of TLS: certificates good and bad, of servers and of clients, and their names.

The bad ones are presented by a server of our own and by nginx; nginx is skipped where it is not installed,
unless ``WSCLIENT_REQUIRE_PEERS`` names it.
"""

from __future__ import annotations

import datetime
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import trustme
from conftest import HOST, TLS
from peers.launch import Place, RunningPeer, nginx, start_peer
from peers.requirement import available
from scripted import (
    BOUND,
    Peer,
    Script,
    ScriptedServer,
    SocksTunnel,
    dial_and_close,
    failure,
    header,
    http_tunnel,
    redirect,
    serving,
    upgrade,
)

import wsclient
from wsclient.exceptions import ConnectFailed, HandshakeError

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.timezone.utc)

Presenter = Callable[[bytes], AbstractContextManager[int]]
"""Runs a server that has this key and chain (PEM); its port."""


def server_context(pem: bytes, folder: Path) -> ssl.SSLContext:
    path = folder / "server.pem"
    path.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


# -- bad certificates ---------------------------------------------------------------------------------


def _issued(authority: trustme.CA, *names: str, **validity: Any) -> bytes:
    return authority.issue_cert(*names, **validity).private_key_and_cert_chain_pem.bytes()


def _self_signed() -> bytes:
    authority = trustme.CA()
    return authority.private_key_pem.bytes() + authority.cert_pem.bytes()


def _with_its_unknown_root() -> bytes:
    authority = trustme.CA()
    return _issued(authority, "localhost") + authority.cert_pem.bytes()


@dataclass(frozen=True)
class Bad:
    """A certificate that a client must refuse.

    Attributes:
        make: key and chain, given the authority that the client trusts.
        complaint: what the error has to say.
        host: in the URL.
    """

    make: Callable[[trustme.CA], bytes]
    complaint: str
    host: str = "localhost"


BAD: Mapping[str, Bad] = MappingProxyType(
    {
        "expired": Bad(
            lambda trusted: _issued(trusted, "localhost", not_before=NOW - 2 * DAY, not_after=NOW - DAY),
            "certificate has expired",
        ),
        "not yet valid": Bad(
            lambda trusted: _issued(trusted, "localhost", not_before=NOW + DAY),
            "certificate is not yet valid",
        ),
        "of another host": Bad(
            lambda trusted: _issued(trusted, "other.example"), "certificate is for another host"
        ),
        "of a host below": Bad(
            lambda trusted: _issued(trusted, "*.localhost"), "certificate is for another host"
        ),
        "of a host, for an address": Bad(
            lambda trusted: _issued(trusted, "localhost"), "certificate is for another IP address", HOST
        ),
        "of another address": Bad(
            lambda trusted: _issued(trusted, "127.0.0.2"), "certificate is for another IP address", HOST
        ),
        "of an unknown CA": Bad(
            lambda _: _issued(trustme.CA(), "localhost"), "certificate is from an unknown CA"
        ),
        "of an unknown CA, root included": Bad(
            lambda _: _with_its_unknown_root(), "certificate chain is self-signed by an unknown CA"
        ),
        "self-signed": Bad(lambda _: _self_signed(), "certificate is self-signed"),
    }
)
every_bad_one = pytest.mark.parametrize("bad", list(BAD.values()), ids=list(BAD))


@pytest.fixture(scope="module")
def upstream(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPeer]:
    with available("websockets", start_peer, request, tmp_path_factory) as found:
        yield found


@pytest.fixture(params=["own", "nginx"])
def present(request: pytest.FixtureRequest, tmp_path: Path) -> Presenter:
    if request.param == "own":
        return lambda pem: own_server(pem, tmp_path)
    server = request.getfixturevalue("upstream")
    factory = request.getfixturevalue("tmp_path_factory")

    @contextmanager
    def present_by_nginx(pem: bytes) -> Iterator[int]:
        def start(_: str, place: Place) -> AbstractContextManager[Any]:
            return nginx(place, server, pem)

        with available("nginx", start, request, factory) as (_, port):
            yield port

    return present_by_nginx


@contextmanager
def own_server(pem: bytes, folder: Path) -> Iterator[int]:
    """Serves one connection, unless its certificate is refused: then its side of the handshake fails too."""
    context = server_context(pem, folder)

    def script(peer: Peer) -> None:
        with suppress(OSError), context.wrap_socket(peer.sock, server_side=True) as secure:
            Peer(secure, peer.requests).accept_upgrade()

    with serving(script) as server:
        yield server.port


def test_good_certificate_is_accepted(present: Presenter, tls: TLS) -> None:
    with present(_issued(tls.authority, "localhost")) as port:
        dial_and_close(f"wss://localhost:{port}/echo", ssl_context=tls.client)
    with present(_issued(tls.authority, HOST)) as port:
        dial_and_close(f"wss://{HOST}:{port}/echo", ssl_context=tls.client)


@every_bad_one
def test_bad_certificate_is_refused_and_said_why(bad: Bad, present: Presenter, tls: TLS) -> None:
    with present(bad.make(tls.authority)) as port:
        url = f"wss://{bad.host}:{port}/echo"
        with pytest.raises(ConnectFailed) as caught:
            wsclient.connect(url, ssl_context=tls.client, proxy=None)
    assert str(caught.value).startswith(f"{url}: TLS failed: {bad.complaint} (")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_nothing_bad_passes_through_a_tunnel(scheme: str, tls: TLS, tmp_path: Path) -> None:
    bad = BAD["of another host"]
    with (
        own_server(bad.make(tls.authority), tmp_path) as port,
        serving(http_tunnel if scheme == "http" else SocksTunnel()) as proxy,
    ):
        proxy_url = f"{scheme}://{proxy.authority}"
        error = failure(f"wss://localhost:{port}/", proxy=proxy_url, ssl_context=tls.client)
    assert f": TLS failed: {bad.complaint} (" in str(error)


def test_redirect_to_a_bad_certificate(tls: TLS, tmp_path: Path) -> None:
    bad = BAD["of an unknown CA"]
    with (
        own_server(bad.make(tls.authority), tmp_path) as port,
        serving(redirect(f"https://localhost:{port}/")) as server,
    ):
        error = failure(server.url, ssl_context=tls.client, follow_redirects=1)
    assert f"TLS failed: {bad.complaint}" in str(error)


# -- authorities of one's own -------------------------------------------------------------------------


def test_authority_of_ones_own(tls: TLS, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    tls.authority.cert_pem.write_to_path(str(path))
    pem = _issued(tls.authority, "localhost")
    with own_server(pem, tmp_path) as port:
        error = failure(f"wss://localhost:{port}/")
        assert "TLS failed: certificate is from an unknown CA" in str(error)
    with own_server(pem, tmp_path) as port:
        dial_and_close(f"wss://localhost:{port}/", ssl_context=ssl.create_default_context(cafile=path))


def test_verification_may_be_turned_off(tmp_path: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with own_server(_self_signed(), tmp_path) as port:
        dial_and_close(f"wss://localhost:{port}/", ssl_context=context)


def test_server_without_tls() -> None:
    with serving(lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        error = failure(f"wss://{server.authority}/")
    assert isinstance(error, ConnectFailed)
    assert str(error).endswith("TLS failed: the server's answer is not TLS (WRONG_VERSION_NUMBER)")


def test_server_that_hangs_up_during_tls() -> None:
    def script(peer: Peer) -> None:
        assert peer.sock.recv(1)

    with serving(script) as server:
        error = failure(f"wss://{server.authority}/")
    assert isinstance(error, ConnectFailed)
    assert re.search(r": TLS failed: \w+", str(error))


# -- names --------------------------------------------------------------------------------------------


@contextmanager
def naming(tls: TLS, name: str, *scripts: Script) -> Iterator[tuple[ScriptedServer, list[str | None]]]:
    """A server with a certificate for this name, and the names by which it was called (SNI)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert(name).configure_cert(context)
    called: list[str | None] = []
    context.sni_callback = lambda _, name, __: called.append(name)
    with serving(*(scripts or [upgrade()]), tls=context) as server:
        yield server, called


def test_server_is_called_by_the_host_of_the_url(tls: TLS) -> None:
    with naming(tls, "localhost") as (server, called):
        sock = socket.create_connection((HOST, server.port))  # not every resolver knows the name
        dial_and_close(f"wss://localhost.:{server.port}/", socket=sock, ssl_context=tls.client)
    assert called == ["localhost"], "names in TLS have no dot at the end (RFC 6066, section 3)"
    assert header(server.requests[0], "Host") == f"localhost.:{server.port}"


def test_address_is_no_name(tls: TLS) -> None:
    with naming(tls, HOST) as (server, called):
        dial_and_close(f"wss://{HOST}:{server.port}/", ssl_context=tls.client)
    assert called == [None]


@pytest.mark.parametrize("name", ["backend.example", "xn--bcher-kva.example"])
def test_server_hostname_is_sent_and_verified(tls: TLS, name: str) -> None:
    given = {"xn--bcher-kva.example": "BÜCHER.example"}.get(name, name)
    with naming(tls, name) as (server, called):
        upgraded = dial_and_close(
            f"wss://{HOST}:{server.port}/", ssl_context=tls.client, server_hostname=given
        )
    assert called == [name]
    assert header(server.requests[0], "Host") == f"{HOST}:{server.port}"
    assert upgraded.url.host == HOST


@pytest.mark.parametrize(("address", "given"), [("127.0.0.9", "127.0.0.9"), ("::9", "[0::9]")])
def test_server_hostname_may_be_an_address(tls: TLS, address: str, given: str) -> None:
    with naming(tls, address) as (server, called):
        dial_and_close(server.url, ssl_context=tls.client, server_hostname=given)
    assert called == [None]


def test_server_hostname_replaces_the_host_in_the_verdict(tls: TLS, tmp_path: Path) -> None:
    with own_server(_issued(tls.authority, "localhost"), tmp_path) as port:
        error = failure(f"wss://localhost:{port}/", ssl_context=tls.client, server_hostname="backend.example")
    assert "TLS failed: certificate is for another host (" in str(error)
    assert "backend.example" in str(error)
    with own_server(_issued(tls.authority, HOST), tmp_path) as port:
        error = failure(f"wss://{HOST}:{port}/", ssl_context=tls.client, server_hostname="127.0.0.9")
    assert "TLS failed: certificate is for another IP address (" in str(error)


def test_host_header_and_server_hostname_have_nothing_to_do_with_each_other(tls: TLS) -> None:
    with naming(tls, "localhost") as (server, called):
        dial_and_close(server.url, ssl_context=tls.client, headers={"Host": "virtual.example"})
    assert (called, header(server.requests[0], "Host")) == (["localhost"], "virtual.example")
    with naming(tls, "backend.example") as (server, called):
        options: dict[str, Any] = {
            "server_hostname": "backend.example",
            "headers": {"Host": "virtual.example:8"},
        }
        dial_and_close(server.url, ssl_context=tls.client, **options)
    assert (called, header(server.requests[0], "Host")) == (["backend.example"], "virtual.example:8")


@pytest.mark.parametrize("scheme", ["http", "socks4a", "socks5h"])
def test_server_hostname_through_a_proxy(scheme: str, tls: TLS) -> None:
    with (
        naming(tls, "backend.example") as (server, called),
        serving(http_tunnel if scheme == "http" else SocksTunnel()) as proxy,
    ):
        options = {"proxy": f"{scheme}://{proxy.authority}", "server_hostname": "backend.example"}
        dial_and_close(server.url, ssl_context=tls.client, **options)
    assert called == ["backend.example"]
    assert f"localhost{':' if scheme == 'http' else ' '}{server.port}" in proxy.requests[0]


def test_server_hostname_on_a_socket_that_is_given(tls: TLS) -> None:
    with naming(tls, "backend.example") as (server, called):
        sock = socket.create_connection((HOST, server.port))
        dial_and_close("wss://h/", socket=sock, ssl_context=tls.client, server_hostname="backend.example")
    assert called == ["backend.example"]


def test_server_hostname_holds_within_the_origin_only(tls: TLS) -> None:
    """Another server is verified by its own name, as it gets none of the other secrets."""
    with naming(tls, "localhost") as (last, called_last):
        away = redirect(f"https://{last.authority}/")
        with naming(tls, "backend.example", redirect("/next"), away) as (first, called_first):
            options: dict[str, Any] = {"server_hostname": "backend.example", "follow_redirects": 2}
            dial_and_close(first.url, ssl_context=tls.client, **options)
    assert (called_first, called_last) == (["backend.example"] * 2, ["localhost"])


def test_server_hostname_is_for_tls() -> None:
    with pytest.raises(ValueError, match=r"^server_hostname: only a wss:// URL has a use for it$"):
        wsclient.Connection("ws://localhost/", server_hostname="h")


# -- certificates of clients --------------------------------------------------------------------------

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


def client_context(tls: TLS, signer: trustme.CA | None, **validity: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    tls.authority.configure_trust(context)
    if signer is not None:
        signer.issue_cert("client@example.com", **validity).configure_cert(context)
    return context


@contextmanager
def asking_server(tls: TLS, version: ssl.TLSVersion) -> Iterator[tuple[str, list[Any]]]:
    """A server that serves one client, if that has a certificate of the authority; the URL, and who came."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert("localhost").configure_cert(context)
    tls.authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    came: list[Any] = []

    def script(peer: Peer) -> None:
        with context.wrap_socket(peer.sock, server_side=True, do_handshake_on_connect=False) as secure:
            try:
                secure.do_handshake()
            except ssl.SSLError:
                # Whoever closes with something unread resets the connection, and may overtake the alert.
                while socket.socket.recv(secure, 65536):
                    pass
                return
            certificate = secure.getpeercert()
            assert certificate
            came.append(certificate["subjectAltName"])
            Peer(secure, peer.requests).accept_upgrade()

    with serving(script) as server:
        yield f"wss://{server.authority}/", came


@pytest.mark.parametrize("version", list(VERSIONS.values()), ids=list(VERSIONS))
def test_client_certificate_is_presented(tls: TLS, version: ssl.TLSVersion) -> None:
    with asking_server(tls, version) as (url, came):
        dial_and_close(url, ssl_context=client_context(tls, tls.authority))
    assert came == [(("email", "client@example.com"),)]


@pytest.mark.parametrize(
    ("version", "signed", "validity", "complaint"),
    [
        ("TLS 1.2", None, {}, "TLS failed: the server refused; it may want a client certificate"),
        ("TLS 1.3", None, {}, "upgrade failed: the server wants a client certificate"),
        (
            "TLS 1.2",
            False,
            {},
            "TLS failed: the server refused the client certificate: it is from an unknown CA",
        ),
        (
            "TLS 1.3",
            False,
            {},
            "upgrade failed: the server refused the client certificate: it is from an unknown CA",
        ),
        (
            "TLS 1.3",
            True,
            {"not_before": NOW - 2 * DAY, "not_after": NOW - DAY},
            "upgrade failed: the server refused the client certificate: it has expired",
        ),
    ],
)
def test_server_refuses_the_client(
    tls: TLS, version: str, signed: bool | None, validity: dict[str, Any], complaint: str
) -> None:
    signer = {None: None, False: trustme.CA(), True: tls.authority}[signed]
    with asking_server(tls, VERSIONS[version]) as (url, came):
        error = failure(url, ssl_context=client_context(tls, signer, **validity))
    assert isinstance(error, ConnectFailed)
    assert f"{url}: {complaint} (" in str(error)
    assert came == []


def test_nginx_asks_for_a_client_certificate(
    tls: TLS,
    upstream: RunningPeer,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def start(_: str, place: Place) -> AbstractContextManager[Any]:
        return nginx(place, upstream, _issued(tls.authority, "localhost"), tls.authority.cert_pem.bytes())

    with available("nginx", start, request, tmp_path_factory) as (_, port):
        url = f"wss://localhost:{port}/echo"
        options: dict[str, Any] = {"ssl_context": client_context(tls, tls.authority), "proxy": None}
        with wsclient.connect(url, **options) as conn:
            conn.send("who am I?")
            assert conn.recv(BOUND) == "who am I?"
        for signer, body in (
            (None, b"No required SSL certificate was sent"),
            (trustme.CA(), b"certificate error"),
        ):
            error = failure(url, ssl_context=client_context(tls, signer))
            assert type(error) is HandshakeError
            assert error.status == 400
            assert body in error.body
