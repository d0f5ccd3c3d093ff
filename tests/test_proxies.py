"""Dialling through proxies: scripted ones, honest and not, and what the environment says about them."""

from __future__ import annotations

import base64
import errno
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

import pytest
from conftest import HOST, TLS
from hypothesis import given
from hypothesis import strategies as st
from peers.launch import RunningPeer, start_peer
from peers.requirement import available
from peers.traffic import exchange
from scripted import (
    BOUND,
    SECRET,
    SHORT,
    Peer,
    Script,
    SocksTunnel,
    answer,
    assert_cancelled,
    assert_timed_out,
    black_hole,
    dial,
    dial_and_close,
    dialling,
    failure,
    hang_up,
    header,
    headers,
    http_tunnel,
    needs_ipv6,
    redirect,
    serving,
    silent,
    silent_after_request,
    upgrade,
)

import wsclient
from wsclient.environment import environment_proxy, is_excepted
from wsclient.exceptions import ConnectFailed, HandshakeError, HandshakeTimeout
from wsclient.handshake import Dial, Step
from wsclient.options import Options, Proxy, parse_url

SOCKS = ("socks4", "socks4a", "socks5", "socks5h")


def honest(scheme: str, login: tuple[str, str] | None = None) -> Script:
    """What a proxy of that kind does for one connection."""
    return http_tunnel if scheme == "http" else SocksTunnel(login)


def saying(*answers: bytes) -> Script:
    """Read something and give the next answer, in turn; then wait for the client to leave."""

    def script(peer: Peer) -> None:
        for data in answers:
            peer.requests.append(repr(peer.sock.recv(65536)))
            with suppress(ConnectionError):
                peer.send(data)
        peer.wait_until_left()

    return script


def ending(*answers: bytes) -> Script:
    """The same, but end the connection when the client has spoken once more."""

    def script(peer: Peer) -> None:
        for data in answers:
            assert peer.sock.recv(65536)
            peer.send(data)
        assert peer.sock.recv(65536)

    return script


def ending_after(data: bytes) -> Script:
    """Say something whatever the client says, and end the connection."""

    def script(peer: Peer) -> None:
        with suppress(ConnectionError):
            peer.send(data)
            peer.sock.shutdown(socket.SHUT_WR)
        peer.wait_until_left()

    return script


@contextmanager
def resolving(monkeypatch: pytest.MonkeyPatch, name: str, *addresses: str) -> Iterator[None]:
    """A resolver that finds these addresses for one name."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> Any:
        hosts = addresses if host == name else (host,)
        return [found for host in hosts for found in real(host, port, *args, **options)]

    with monkeypatch.context() as context:
        context.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


# -- every kind ---------------------------------------------------------------------------------------

ASKED = {
    "http": "CONNECT localhost:{port} HTTP/1.1",
    "socks4": "IPv4 127.0.0.1 {port}",
    "socks4a": "name localhost {port}",
    "socks5": "IPv4 127.0.0.1 {port}",
    "socks5h": "name localhost {port}",
}
every_kind = pytest.mark.parametrize("scheme", ASKED)
ws_and_wss = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


@every_kind
@ws_and_wss
def test_tunnel(scheme: str, secure: bool, tls: TLS, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        resolving(monkeypatch, "localhost", HOST),
        serving(upgrade(), tls=tls.server if secure else None) as server,
        serving(honest(scheme)) as proxy,
    ):
        dial_and_close(server.url, proxy=f"{scheme}://{proxy.authority}", ssl_context=tls.client)
    assert proxy.requests[0].split("\r\n")[0] == ASKED[scheme].format(port=server.port)
    assert header(server.requests[0], "Host") == server.authority


@every_kind
def test_messages_of_many_threads(scheme: str, echo_server: str) -> None:
    with (
        serving(honest(scheme), honest(scheme)) as proxy,  # localhost may have two addresses
        wsclient.connect(echo_server, proxy=f"{scheme}://{proxy.authority}") as conn,
    ):
        exchange(conn)


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_messages_of_many_threads_over_tls(scheme: str, tls_echo_server: str, tls: TLS) -> None:
    with (
        serving(honest(scheme)) as proxy,
        wsclient.connect(
            tls_echo_server, proxy=f"{scheme}://{proxy.authority}", ssl_context=tls.client
        ) as conn,
    ):
        exchange(conn)


@pytest.fixture(scope="module")
def compressing_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPeer]:
    with available("websockets", start_peer, request, tmp_path_factory) as found:
        yield found


@every_kind
def test_compressed_messages_of_many_threads(scheme: str, compressing_server: RunningPeer) -> None:
    options: dict[str, Any] = {"compression": wsclient.Deflate(threshold=0)}
    with (
        serving(honest(scheme)) as proxy,
        wsclient.connect(
            f"{compressing_server.url}/echo", proxy=f"{scheme}://{proxy.authority}", **options
        ) as conn,
    ):
        exchange(conn)
        assert conn.response_headers["sec-websocket-extensions"].startswith("permessage-deflate")


@needs_ipv6
@pytest.mark.parametrize(
    ("scheme", "asked"),
    [
        ("http", "CONNECT [::1]:{port} HTTP/1.1"),
        ("socks4a", "name ::1 {port}"),  # as it has no other way to say it
        ("socks5", "IPv6 ::1 {port}"),
        ("socks5h", "IPv6 ::1 {port}"),
    ],
)
@ws_and_wss
def test_ipv6_server_and_proxy(scheme: str, asked: str, secure: bool, tls: TLS) -> None:
    with (
        serving(upgrade(), tls=tls.server if secure else None, host="::1") as server,
        serving(honest(scheme), host="::1") as proxy,
    ):
        dial_and_close(server.url, proxy=f"{scheme}://{proxy.authority}", ssl_context=tls.client)
    assert proxy.requests[0].split("\r\n")[0] == asked.format(port=server.port)


@pytest.mark.parametrize(
    ("scheme", "asked"),
    [
        ("http", "CONNECT [fe80::1]:7 HTTP/1.1"),
        ("socks4a", "name fe80::1 7"),
        ("socks5", "IPv6 fe80::1 7"),
        ("socks5h", "IPv6 fe80::1 7"),
    ],
)
def test_zone_of_an_address_stays_here(scheme: str, asked: str) -> None:
    refusing = answer("HTTP/1.1 502 x") if scheme == "http" else SocksTunnel(blocked=True)
    with serving(refusing) as proxy:
        failure("ws://[fe80::1%25lo]:7/", proxy=f"{scheme}://{proxy.authority}")
    assert proxy.requests[0].split("\r\n")[0] == asked


@every_kind
def test_redirect_gets_a_tunnel_of_its_own(scheme: str) -> None:
    with (
        serving(upgrade()) as second,
        serving(redirect(f"http://{HOST}:{second.port}/next")) as first,
        serving(honest(scheme), honest(scheme)) as proxy,
    ):
        url = f"ws://me:{SECRET}@{HOST}:{first.port}/"
        upgraded = dial_and_close(url, proxy=f"{scheme}://{proxy.authority}", follow_redirects=1)
    assert str(upgraded.url) == f"ws://{HOST}:{second.port}/next"
    for port, request in zip((first.port, second.port), proxy.requests, strict=True):
        assert f"{port}" in request
    assert headers(first.requests[0], "Authorization")
    assert not headers(second.requests[0], "Authorization")


def test_redirect_past_the_proxy(environment: pytest.MonkeyPatch) -> None:
    """Where the next server is excepted, the proxy has no part in it, nor in what goes wrong there."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        url = f"http://{HOST}:{sock.getsockname()[1]}/"
        with serving(redirect(url)) as server, serving(http_tunnel) as proxy:
            environment.setenv("http_proxy", f"http://{proxy.authority}")
            environment.setenv("no_proxy", HOST)
            with pytest.raises(ConnectFailed, match=r": TCP connect failed: Connection refused$"):
                Dial(server.url, Options(follow_redirects=1)).run(time.monotonic() + BOUND)
    assert len(proxy.requests) == len(server.requests) == 1


@every_kind
def test_fault_of_the_way_to_the_proxy_names_it(scheme: str) -> None:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        proxy = f"{scheme}://{HOST}:{sock.getsockname()[1]}"
        error = failure(f"ws://{HOST}:1/", proxy=proxy.replace("//", f"//me{':x' * ('4' not in scheme)}@"))
    assert isinstance(error, ConnectFailed)
    assert str(error) == f"ws://{HOST}:1/: TCP connect of proxy {proxy} failed: Connection refused"
    error = failure(f"ws://{HOST}:1/", proxy=f"{scheme}://does-not-exist.invalid:9")
    assert f": DNS of proxy {scheme}://does-not-exist.invalid:9 failed: " in str(error)


@every_kind
def test_proxy_that_never_accepts(scheme: str) -> None:
    with black_hole() as url:
        proxy = url.replace("ws://", f"{scheme}://").rstrip("/")
        error = failure(f"ws://{HOST}:1/", SHORT, proxy=proxy)
    assert_timed_out(error, Step.TCP)
    assert str(error).endswith(f"during TCP connect of proxy {proxy}")


@every_kind
def test_proxy_that_never_answers(scheme: str) -> None:
    with serving(silent) as proxy:
        url = f"{scheme}://{proxy.authority}"
        error = failure(f"ws://{HOST}:1/", SHORT, proxy=url)
    assert_timed_out(error, Step.PROXY)
    assert str(error).endswith(f"during proxy {url}")


@every_kind
def test_proxy_that_ends_at_once(scheme: str) -> None:
    with serving(hang_up) as proxy:
        error = failure(f"ws://{HOST}:1/", proxy=f"{scheme}://{proxy.authority}")
    assert isinstance(error, ConnectFailed)
    assert f": proxy {scheme}://{proxy.authority} failed: " in str(error)


GRANTED = {
    "http": [b"HTTP/1.1 200 x\r\n\r\n"],
    "socks4": [b"\0\x5a" + bytes(6)],
    "socks4a": [b"\0\x5a" + bytes(6)],
    "socks5": [b"\x05\0", b"\x05\0\0\x01" + bytes(6)],
    "socks5h": [b"\x05\0", b"\x05\0\0\x03\x02hi" + bytes(2)],
}


@every_kind
def test_data_ahead_of_the_server(scheme: str) -> None:
    *first, last = GRANTED[scheme]
    with serving(saying(*first, last + b"HTTP/1.1 101 x")) as proxy:
        error = failure(f"ws://{HOST}:1/", proxy=f"{scheme}://{proxy.authority}")
    assert type(error) is HandshakeError
    assert str(error).endswith(f"proxy {scheme}://{proxy.authority} sent data ahead of the server")


@every_kind
def test_proxy_that_answers_in_another_language(scheme: str) -> None:
    words = b"HTTP/1.1 400 Bad Request\r\n\r\n" if scheme != "http" else b"\x05\xff"
    with serving(saying(words)) as proxy:
        error = failure(f"ws://{HOST}:1/", proxy=f"{scheme}://{proxy.authority}")
    assert type(error) is HandshakeError
    assert f"proxy {scheme}://{proxy.authority} gave a" in str(error)


@every_kind
def test_answer_dripped_for_ever(scheme: str) -> None:
    *first, last = GRANTED[scheme]
    endless = {"http": b"HTTP/1.1 200 " + b"x" * 1000, "socks5": b"\x05\0\0\x03\xff" + bytes(300)}
    last = endless.get(scheme.rstrip("h"), last)

    def script(peer: Peer) -> None:
        for data in first:
            assert peer.sock.recv(65536)
            peer.send(data)
        peer.sock.recv(65536)
        peer.sock.settimeout(SHORT / 5)
        with suppress(OSError):
            for number in range(len(last)):
                peer.send(last[number : number + 1])
                with suppress(TimeoutError):
                    assert not peer.sock.recv(1)
                    return

    with serving(script) as proxy:
        error = failure(f"ws://{HOST}:1/", SHORT, proxy=f"{scheme}://{proxy.authority}")
    assert_timed_out(error, Step.PROXY)


@pytest.mark.parametrize(
    ("scheme", "answers"),
    [
        ("http", []),
        ("socks4", []),
        ("socks4a", [b"\0"]),
        ("socks5", []),
        ("socks5h", [b"\x05\x02"]),
        ("socks5h", [b"\x05\x02", b"\x01\0"]),
        ("socks5h", [b"\x05\0", b"\x05\0\0\x01"]),
    ],
)
def test_cancel_while_the_proxy_is_silent(scheme: str, answers: list[bytes]) -> None:
    heard = threading.Event()

    def script(peer: Peer) -> None:
        for data in answers:
            assert peer.sock.recv(65536)
            peer.send(data)
        if scheme != "socks4a" and answers[1:] != [b"\x05\0\0\x01"]:  # otherwise it has nothing more to say
            assert peer.sock.recv(65536)
        heard.set()
        peer.wait_until_left()

    login = "me" if scheme.startswith("socks4") else "me:x"
    with serving(script) as proxy:
        url = f"{scheme}://{login}@{proxy.authority}"
        with dialling(f"ws://{HOST}:1/", proxy=url) as (attempt, result):
            assert heard.wait(BOUND)
            attempt.cancel()
            assert_cancelled(result, Step.PROXY)


# -- HTTP ---------------------------------------------------------------------------------------------


def test_http_proxy_gets_its_login_and_the_server_does_not() -> None:
    with serving(upgrade()) as server, serving(http_tunnel) as proxy:
        dial_and_close(server.url, proxy=f"http://us%20er:pw@{proxy.authority}")
    assert header(proxy.requests[0], "Host") == server.authority
    expected = "Basic " + base64.b64encode(b"us er:pw").decode()
    assert header(proxy.requests[0], "Proxy-Authorization") == expected
    assert "Proxy-Authorization" not in server.requests[0]


def test_http_proxy_gets_none_of_the_servers_secrets() -> None:
    secrets: dict[str, Any] = {"headers": {"Authorization": SECRET}, "cookies": {"a": SECRET}}
    with serving(upgrade()) as server, serving(http_tunnel) as proxy:
        url = f"ws://me:{SECRET}@{server.authority}/?{SECRET}"
        dial_and_close(url, proxy=f"http://{proxy.authority}", **secrets)
    assert proxy.requests[0].split("\r\n")[1:] == [f"Host: {server.authority}", "", ""]


@pytest.mark.parametrize(
    ("login", "complaint"),
    [
        (f"me:{SECRET}@", "authentication failed: it did not accept the user name and password of its URL"),
        ("", "authentication needed: a user name and a password in its URL"),
    ],
)
def test_http_proxy_that_wants_to_know_who_asks(login: str, complaint: str) -> None:
    with serving(answer("HTTP/1.1 407 x", "Proxy-Authenticate: Basic", "Content-Length: 0")) as proxy:
        error = failure("ws://example.com/", proxy=f"http://{login}{proxy.authority}")
    assert str(error) == (
        f"ws://example.com/: proxy http://{proxy.authority} refused CONNECT: "
        f"the answer is 407 Proxy Authentication Required: {complaint}"
    )
    assert (error.status, error.headers["proxy-authenticate"]) == (407, "Basic")


def test_http_proxy_that_refuses() -> None:
    with serving(answer("HTTP/1.1 502 No", "Content-Length: 2", body=b"no")) as proxy:
        error = failure("ws://[::1]:7/", proxy=f"http://{proxy.authority}")
    assert (error.status, error.body) == (502, b"no")
    assert str(error).endswith("refused CONNECT: the answer is 502 Bad Gateway")


def test_http_proxy_that_skips_the_tunnel() -> None:
    """A server, that is: what it says is not what the server behind a proxy would say."""
    with serving(answer("HTTP/1.1 101 x", "Upgrade: websocket", "Connection: Upgrade")) as proxy:
        error = failure("ws://[::1]:7/", proxy=f"http://{proxy.authority}")
    assert str(error).endswith("refused CONNECT: the answer is 101 Switching Protocols")


def test_http_proxy_with_headers_without_an_end() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        with suppress(ConnectionError):
            for number in range(10**6):
                peer.send(b"HTTP/1.1 200 x\r\n" * (not number) + b"X-%d: %s\r\n" % (number, b"y" * 1000))
            raise AssertionError("the client read a gigabyte of headers")

    with serving(script) as proxy:
        error = failure("ws://h/", proxy=f"http://{proxy.authority}")
    assert f"proxy http://{proxy.authority} gave a response head over 64 KiB" in str(error)


# -- SOCKS --------------------------------------------------------------------------------------------


def test_socks5_login() -> None:
    login = ("me, ü", "p:w@" + "x" * 250)
    with serving(upgrade()) as server, serving(SocksTunnel(login)) as proxy:
        url = f"socks5h://me%2C%20%C3%BC:p%3Aw%40{'x' * 250}@{proxy.authority}"
        dial_and_close(server.url, proxy=url)
    assert proxy.requests == [f"name localhost {server.port}"]


def test_socks5_login_that_nobody_asks_for() -> None:
    with serving(upgrade()) as server, serving(SocksTunnel()) as proxy:
        dial_and_close(server.url, proxy=f"socks5h://me:{SECRET}@{proxy.authority}")


@pytest.mark.parametrize(("user", "login"), [("", None), ("me@", ("me", "")), ("m%C3%BC@", ("mü", ""))])
@pytest.mark.parametrize("scheme", ["socks4", "socks4a"])
def test_socks4_user_id(scheme: str, user: str, login: tuple[str, str] | None) -> None:
    with serving(upgrade()) as server, serving(SocksTunnel(login)) as proxy:
        dial_and_close(f"ws://{HOST}:{server.port}", proxy=f"{scheme}://{user}{proxy.authority}")
    assert proxy.requests == [f"IPv4 {HOST} {server.port}"]


NEEDED = "authentication needed: a user name and a password in its URL"
FAILED = "authentication failed: it did not accept the user name and password of its URL"


@pytest.mark.parametrize(
    ("login", "answers", "complaint"),
    [
        ("", [b"\x05\xff"], f"refused the connection: {NEEDED}"),
        ("", [b"\x05\x02"], f"refused the connection: {NEEDED}"),  # though that was not offered
        (f"me:{SECRET}@", [b"\x05\xff"], f"refused the connection: {FAILED}"),
        (f"me:{SECRET}@", [b"\x05\x02", b"\x01\x01"], f"refused the connection: {FAILED}"),
        (f"me:{SECRET}@", [b"\x05\x02", b"\x05\xff"], f"refused the connection: {FAILED}"),
        ("", [b"\x05\x01"], "gave an answer that is not SOCKS5"),  # GSSAPI
        ("", [b"\x05\x80"], "gave an answer that is not SOCKS5"),
        ("", [b"\x04\0"], "gave an answer that is not SOCKS5"),
        ("", [b"\x05\0", b"\x04\0\0\x01" + bytes(6)], "gave an answer that is not SOCKS5"),
        ("", [b"\x05\0", b"\x05\0\0\x02" + bytes(6)], "gave an answer that is not SOCKS5"),
    ],
)
def test_socks5_refusal(login: str, answers: list[bytes], complaint: str) -> None:
    with serving(saying(*answers)) as proxy:
        error = failure("ws://h/", proxy=f"socks5h://{login}{proxy.authority}")
    assert type(error) is HandshakeError
    assert str(error) == f"ws://h/: proxy socks5h://{proxy.authority} {complaint}"


@pytest.mark.parametrize(
    ("code", "number", "complaint"),
    [
        (1, errno.ECONNABORTED, "it had a general failure"),
        (3, errno.ENETUNREACH, "it found the server's network unreachable"),
        (4, errno.EHOSTUNREACH, "it found the server unreachable"),
        (5, errno.ECONNREFUSED, "the server refused its connection"),
        (6, errno.EHOSTUNREACH, "the server is too far away (TTL expired)"),
        (8, errno.EAFNOSUPPORT, "it does not support this type of address"),
        (2, None, "its rules do not allow it"),
        (7, None, "it does not support CONNECT"),
        (9, None, "its code is 9, which has no meaning"),
        (255, None, "its code is 255, which has no meaning"),
    ],
)
@pytest.mark.parametrize("rest", [b"\0\x01" + bytes(6), b""], ids=["whole", "cut short"])
def test_socks5_code(code: int, number: int | None, complaint: str, rest: bytes) -> None:
    with serving(saying(b"\x05\0", bytes([5, code]) + rest)) as proxy:
        error = failure("ws://h/", proxy=f"socks5h://{proxy.authority}")
    assert_told(error, f"socks5h://{proxy.authority}", number, complaint)


@pytest.mark.parametrize(
    ("code", "number", "complaint"),
    [
        (0x5B, errno.ECONNABORTED, "it rejected the connection, or could not make it"),
        (0x5C, None, "authentication failed: it found no identd to ask"),
        (0x5D, None, "authentication failed: identd names another user id"),
        (0, None, "its code is 0, which has no meaning"),
    ],
)
@pytest.mark.parametrize("rest", [bytes(6), b""], ids=["whole", "cut short"])
def test_socks4_code(code: int, number: int | None, complaint: str, rest: bytes) -> None:
    with serving(saying(bytes([0, code]) + rest)) as proxy:
        error = failure("ws://h/", proxy=f"socks4a://me@{proxy.authority}")
    assert_told(error, f"socks4a://{proxy.authority}", number, complaint)


def assert_told(error: HandshakeError, proxy: str, number: int | None, complaint: str) -> None:
    """A failed attempt of the proxy's is an ``OSError``, as one of our own would be; a refusal is not."""
    if number is None:
        assert type(error) is HandshakeError
        assert str(error) == f"ws://h/: proxy {proxy} refused the connection: {complaint}"
        return
    assert type(error) is ConnectFailed
    assert str(error) == f"ws://h/: proxy {proxy} failed: {complaint}"
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == number


@pytest.mark.parametrize(
    ("scheme", "answers"),
    [
        ("socks4", []),
        ("socks5h", []),
        ("socks5h", [b"\x05\0"]),
        ("socks5h", [b"\x05\x02"]),
        ("socks5h", [b"\x05\x02", b"\x01\0"]),
    ],
)
def test_socks_proxy_that_ends_in_between(scheme: str, answers: list[bytes]) -> None:
    login = "me" if scheme == "socks4" else "me:x"
    with serving(ending(*answers)) as proxy:
        error = failure(f"ws://{HOST}/", proxy=f"{scheme}://{login}@{proxy.authority}")
    assert type(error) is ConnectFailed
    assert str(error).endswith(
        f"proxy {scheme}://{proxy.authority} failed: the connection ended before it had answered"
    )


@pytest.mark.parametrize("scheme", SOCKS)
def test_socks_answers_byte_by_byte(scheme: str) -> None:
    login = ("me", "") if "4" in scheme else ("me", "x")
    with serving(upgrade()) as server, serving(SocksTunnel(login, drip=True)) as proxy:
        user = ":".join(filter(None, login))
        dial_and_close(f"ws://{HOST}:{server.port}", proxy=f"{scheme}://{user}@{proxy.authority}")


@pytest.mark.parametrize(
    "bound", [b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\0", b"\x03\xff" + bytes(255)]
)
def test_socks5_answer_may_hold_any_type_of_address(bound: bytes) -> None:
    with serving(upgrade(behind=b"\x81\0")) as server, serving(SocksTunnel(bound=bound)) as proxy:
        dial_and_close(server.url, proxy=f"socks5h://{proxy.authority}")


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
def test_next_address_is_tried(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolved here, so the proxy can't do it: each address costs a connection to the proxy."""
    with (
        serving(upgrade()) as server,
        serving(*[SocksTunnel()] * 3) as proxy,
        resolving(monkeypatch, "many.example", "127.0.0.2", "::1", HOST),
    ):
        dial_and_close(f"ws://many.example:{server.port}", proxy=f"{scheme}://{proxy.authority}")
    told = [request.split()[1] for request in proxy.requests]
    assert told == (["127.0.0.2", HOST] if scheme == "socks4" else ["127.0.0.2", "::1", HOST])


def test_error_of_the_last_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = [saying(b"\x05\0", bytes([5, code])) for code in (3, 5)]
    with serving(*scripts) as proxy, resolving(monkeypatch, "two.example", "127.0.0.2", HOST):
        error = failure("ws://two.example/", proxy=f"socks5://{proxy.authority}")
    assert "the server refused its connection" in str(error)


def test_refusal_is_final_whatever_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        serving(saying(b"\x05\0", b"\x05\x02")) as proxy,
        resolving(monkeypatch, "two.example", "127.0.0.2", HOST),
    ):
        error = failure("ws://two.example/", proxy=f"socks5://{proxy.authority}")
    assert "its rules do not allow it" in str(error)


def test_silence_about_an_address_uses_up_its_share_of_the_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        serving(upgrade()) as server,
        serving(silent, SocksTunnel()) as proxy,
        resolving(monkeypatch, "two.example", "127.0.0.2", HOST),
    ):
        url = f"ws://two.example:{server.port}/"
        dial(url, 7 * SHORT, proxy=f"socks5://{proxy.authority}").transport.close()
    assert proxy.requests == [f"IPv4 {HOST} {server.port}"]


def test_after_an_addresss_share_of_the_time_comes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 10 * SHORT

    def slow(peer: Peer) -> None:
        threading.Event().wait(seconds * 0.3)  # the first of four addresses gets a quarter
        peer.accept_upgrade()

    with (
        serving(slow) as server,
        serving(SocksTunnel()) as proxy,
        resolving(monkeypatch, "many.example", HOST, *["127.0.0.2"] * 3),
    ):
        url = f"ws://many.example:{server.port}/"
        dial(url, seconds, proxy=f"socks5://{proxy.authority}").transport.close()


def test_silence_about_every_address_is_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(silent, silent) as proxy, resolving(monkeypatch, "two.example", "127.0.0.2", HOST):
        error = failure("ws://two.example/", SHORT, proxy=f"socks5://{proxy.authority}")
    assert_timed_out(error, Step.PROXY)


def test_socks4_needs_an_ipv4_address() -> None:
    error = failure("ws://[::1]:7/", proxy="socks4://localhost:1")
    assert isinstance(error, ConnectFailed)
    assert str(error).endswith("DNS failed: SOCKS4 knows IPv4 addresses only, and the host has none")


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
def test_name_that_the_client_has_to_resolve(scheme: str) -> None:
    error = failure("ws://does-not-exist.invalid/", proxy=f"{scheme}://localhost:1")
    assert str(error).startswith("ws://does-not-exist.invalid/: DNS failed: ")


@pytest.mark.parametrize("scheme", SOCKS)
def test_without_the_extra_its_name_is_told(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.delitem(sys.modules, "wsclient.socks", raising=False)
    error = failure("ws://h/", proxy=f"{scheme}://p:1")
    assert isinstance(error, ConnectFailed)
    expected = "SOCKS needs the package socksio: pip install 'wsclient[socks]'"
    assert str(error) == f"ws://h/: proxy {scheme}://p:1: {expected}"
    assert isinstance(error.__cause__, ImportError)


@pytest.mark.parametrize("scheme", ["http", *SOCKS])
def test_any_answer_is_a_tunnel_or_an_error_of_ours(scheme: str) -> None:
    """Answers at random, and likelier ones: nothing else comes out, and nothing hangs."""
    random = Random(scheme)
    starts = [
        b"\x05\0",
        b"\x05\x02\x01\0",
        b"\x05\0\x05\0\0",
        b"\0\x5a",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 407 x\r\n",
        b"",
    ]
    answers = [random.choice(starts) + random.randbytes(random.randrange(40)) for _ in range(200)]
    with serving(*[ending_after(data) for data in answers]) as proxy:
        for _ in answers:
            error = failure(f"ws://{HOST}:1/", proxy=f"{scheme}://me@{proxy.authority}")
            assert f"proxy {scheme}://{proxy.authority} " in str(error) or "upgrade failed" in str(error)


# -- the environment ----------------------------------------------------------------------------------

PROXY_VARIABLES = [f"{name}_proxy" for name in ("ws", "wss", "http", "https", "all", "no")]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no proxy."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({}, "ws://h/", None),
        ({"http_proxy": "http://p:1"}, "ws://h/", Proxy("http", "p", 1)),
        ({"http_proxy": "http://p:1"}, "wss://h/", None),
        ({"HTTPS_PROXY": "p:2"}, "wss://h/", Proxy("http", "p", 2)),
        ({"all_proxy": "http://p"}, "wss://h/", Proxy("http", "p", 80)),
        ({"ALL_PROXY": "socks5h://u:x@p"}, "ws://h/", Proxy("socks5h", "p", 1080, ("u", "x"))),
        ({"https_proxy": "socks4a://p:9", "all_proxy": "http://q"}, "wss://h/", Proxy("socks4a", "p", 9)),
        ({"wss_proxy": "http://w:3", "https_proxy": "http://p:2"}, "wss://h/", Proxy("http", "w", 3)),
        ({"ws_proxy": "http://w:3", "http_proxy": "http://p:2"}, "ws://h/", Proxy("http", "w", 3)),
        ({"WS_PROXY": "socks5://w", "HTTP_PROXY": "http://p:2"}, "ws://h/", Proxy("socks5", "w", 1080)),
        ({"http_proxy": "http://p:1", "no_proxy": "h"}, "ws://h/", None),
        ({"http_proxy": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "ws://10.1.2.3/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "other"}, "ws://h/", Proxy("http", "p", 1)),
        ({"http_proxy": "http://p:1", "no_proxy": ""}, "ws://h/", Proxy("http", "p", 1)),
        ({"no_proxy": "h"}, "ws://h/", None),
    ],
)
def test_proxy_of_the_environment(
    environment: pytest.MonkeyPatch, variables: dict[str, str], url: str, expected: Proxy | None
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert environment_proxy(parse_url(url)) == expected


@pytest.mark.parametrize(
    ("exceptions", "excepted", "others"),
    [
        ("*", ["ws://h/", "ws://[::1]/"], []),
        ("", [], ["ws://h/"]),
        (" , ,", [], ["ws://h/"]),
        (
            "example.com",
            ["ws://example.com/", "ws://EXAMPLE.com:81/", "ws://a.b.example.com/"],
            ["ws://notexample.com/"],
        ),
        (".example.com", ["ws://example.com/", "ws://a.example.com/"], ["ws://notexample.com/"]),
        ("*.Example.com", ["ws://example.com/", "ws://a.example.com/"], ["ws://com/"]),
        ("example.com.", ["ws://example.com/", "ws://example.com./"], ["ws://com./"]),
        ("a.com,b.com", ["ws://a.com/", "ws://b.com/"], ["ws://c.com/"]),
        (" a.com , b.com\tc.com", ["ws://a.com/", "ws://b.com/", "ws://c.com/"], ["ws://d.com/"]),
        ("h:80", ["ws://h/", "ws://h:80/"], ["ws://h:81/", "wss://h/"]),
        ("h:443", ["wss://h/", "wss://x.h/"], ["ws://h/"]),
        ("*:80", [], ["ws://h/"]),
        ("127.0.0.1", ["ws://127.0.0.1:9/"], ["ws://127.0.0.2/", "ws://localhost/"]),
        ("127.0.0.1:9", ["ws://127.0.0.1:9/"], ["ws://127.0.0.1:8/"]),
        ("0.0.1", [], ["ws://127.0.0.1/"]),
        ("::1", ["ws://[::1]/", "ws://[0:0::1]:9/"], ["ws://[::2]/"]),
        ("[::1]", ["ws://[::1]/"], ["ws://[::2]/"]),
        ("[0:0::1]:9", ["ws://[::1]:9/"], ["ws://[::1]:8/"]),
        ("fe80::1", ["ws://[fe80::1%25eth0]/"], []),
        ("10.0.0.0/8", ["ws://10.255.0.1/"], ["ws://11.0.0.1/", "ws://ten.example/", "ws://[::1]/"]),
        ("10.1.2.3/8", ["ws://10.0.0.1/"], ["ws://11.0.0.1/"]),
        ("fd00::/8", ["ws://[fd12::1]/"], ["ws://[fe80::1]/", "ws://10.0.0.1/"]),
        ("10.0.0.0/33, h/8, /, [::1, a:b:c, h:99999", [], ["ws://10.0.0.1/", "ws://h/"]),
    ],
)
def test_no_proxy(exceptions: str, excepted: list[str], others: list[str]) -> None:
    assert [url for url in excepted if not is_excepted(parse_url(url), exceptions)] == []
    assert [url for url in others if is_excepted(parse_url(url), exceptions)] == []


@given(st.text(alphabet=st.sampled_from("a1.:*[]/%, 0\t-fF₁é")), st.sampled_from(["h", "1.0.0.1", "[::1]"]))
def test_no_proxy_may_hold_anything(exceptions: str, host: str) -> None:
    assert is_excepted(parse_url(f"ws://{host}/"), exceptions) in (True, False)
    assert is_excepted(parse_url(f"ws://{host}/"), f"{exceptions},{host}")


def test_exceptions_of_the_system_hold_where_the_environment_names_none(
    environment: pytest.MonkeyPatch,
) -> None:
    """As macOS and Windows keep them; asked by the host alone."""
    import urllib.request

    asked: list[str] = []

    def bypass(host: str) -> bool:
        asked.append(host)
        return True

    environment.setenv("http_proxy", "http://p:1")
    environment.setattr(urllib.request, "proxy_bypass", bypass)
    assert environment_proxy(parse_url("ws://[fe80::1%25eth0]:81/")) is None
    assert asked == ["fe80::1"]
    environment.setenv("no_proxy", "other")
    assert environment_proxy(parse_url("ws://h/")) == Proxy("http", "p", 1)
    assert len(asked) == 1


@every_kind
def test_proxy_of_the_environment_is_used_by_default(scheme: str, environment: pytest.MonkeyPatch) -> None:
    with serving(upgrade(), upgrade(), upgrade()) as server, serving(honest(scheme)) as proxy:
        environment.setenv("all_proxy", f"{scheme}://{proxy.authority}")
        url = f"ws://{HOST}:{server.port}/"
        Dial(url, Options()).run(time.monotonic() + BOUND).transport.close()
        Dial(url, Options(proxy=None)).run(time.monotonic() + BOUND).transport.close()
        environment.setenv("no_proxy", "127.0.0.0/8")
        Dial(url, Options()).run(time.monotonic() + BOUND).transport.close()
    assert (len(proxy.requests), len(server.requests)) == (1, 3)


def test_unusable_proxy_of_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("all_proxy", f"socks://me:{SECRET}@p:1080")
    with pytest.raises(ConnectFailed, match=r"not socks:// \(from the environment; proxy=None") as caught:
        Dial("ws://h/", Options()).run(time.monotonic() + BOUND)
    assert SECRET not in str(caught.value)


# -- secrets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
def test_no_error_shows_the_login(scheme: str) -> None:
    refusals = {"http": [b"HTTP/1.1 407 x\r\n\r\n"]}.get(scheme, [b"\x05\x02", b"\x01\x01"])
    scripts = [
        hang_up,
        saying(b"nonsense"),
        saying(*refusals),
        silent_after_request if scheme == "http" else silent,
    ]
    with serving(*scripts) as proxy:
        url = f"{scheme}://{SECRET}:{SECRET}@{proxy.authority}"
        errors = [failure(f"ws://{HOST}:1/", SHORT, proxy=url) for _ in scripts]
    assert isinstance(errors[-1], HandshakeTimeout)
    texts = [text for error in errors for text in (str(error), repr(error), str(error.__cause__))]
    assert [text for text in texts if SECRET in text] == []
