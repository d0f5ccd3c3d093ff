"""Dialling: real servers and proxies on loopback, most of them scripted to do what no honest one does."""

from __future__ import annotations

import base64
import errno
import logging
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import HOST, TLS
from scripted import (
    BOUND,
    HELLO_BACK,
    SECRET,
    SHORT,
    Peer,
    Script,
    ScriptedServer,
    answer,
    assert_cancelled,
    assert_echoes,
    assert_timed_out,
    black_hole,
    dial,
    dial_and_close,
    dialling,
    failure,
    header,
    headers,
    http_tunnel,
    needs_ipv6,
    read_exactly,
    redirect,
    serving,
    silent,
    silent_after_request,
    upgrade,
)
from websocket import WebSocketException, _handshake
from websockets.sync.server import Server, ServerConnection, serve

from wsclient import handshake as handshake_module
from wsclient.deflate import Deflate
from wsclient.exceptions import ConnectFailed, HandshakeError, HandshakeTimeout
from wsclient.handshake import Dial, Step, check_upgrade
from wsclient.http1 import Response, parse_response
from wsclient.options import Credentials, Options, parse_url
from wsclient.transport import DialStream


@contextmanager
def websockets_server(**options: Any) -> Iterator[Server]:
    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, HOST, 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever, name="websockets-server")
        thread.start()
        yield server
        server.shutdown()
        thread.join(BOUND)


def port_of(server: Server) -> int:
    return int(server.socket.getsockname()[1])


def test_an_honest_server(echo_server: str) -> None:
    upgraded = dial(echo_server)
    assert upgraded.headers["upgrade"].lower() == "websocket"
    assert upgraded.subprotocol is None
    assert upgraded.url == parse_url(echo_server)
    assert_echoes(upgraded)


def test_an_honest_server_over_tls(tls_echo_server: str, tls: TLS) -> None:
    assert_echoes(dial(tls_echo_server, ssl_context=tls.client))


def test_subprotocol_is_negotiated() -> None:
    with websockets_server(subprotocols=["v2", "v1"]) as server:
        upgraded = dial(f"ws://{HOST}:{port_of(server)}", subprotocols=["v1"])
        assert upgraded.subprotocol == "v1"
        assert_echoes(upgraded)


def test_server_may_select_no_subprotocol() -> None:
    with serving(upgrade()) as server:
        assert dial_and_close(server.url, subprotocols=["v1", "v2"]).subprotocol is None
    assert header(server.requests[0], "Sec-WebSocket-Protocol") == "v1, v2"


def test_frames_sent_with_the_response_are_kept() -> None:
    with serving(upgrade(behind=HELLO_BACK)) as server:
        upgraded = dial(server.url)
        assert read_exactly(upgraded.transport, len(HELLO_BACK)) == HELLO_BACK
        upgraded.transport.close()


def test_response_headers_are_given_in_lower_case_and_joined() -> None:
    with serving(upgrade("X-A: 1", "x-a:2 ", "Set-Cookie: a=1", "Set-Cookie: b=2")) as server:
        found = dial_and_close(server.url).headers
    assert (found["x-a"], found["set-cookie"]) == ("1, 2", "a=1, b=2")


def test_interim_responses_are_skipped() -> None:
    def script(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        peer.accept_upgrade(behind=b"rest")

    with serving(script) as server:
        upgraded = dial(server.url)
        assert "link" not in upgraded.headers
        assert read_exactly(upgraded.transport, 4) == b"rest"
        upgraded.transport.close()


# -- the request --------------------------------------------------------------------------------------


def request_for(target: str = "/", **options: Any) -> tuple[str, ScriptedServer]:
    with serving(upgrade()) as server:
        dial_and_close(server.url + target, **options)
    return server.requests[0], server


def test_plain_request_is_what_the_rfc_asks_for_and_no_more() -> None:
    request, server = request_for("/chat;v=1/room;x?q=a;b&c")
    first, *lines = request.removesuffix("\r\n\r\n").split("\r\n")
    assert first == "GET /chat;v=1/room;x?q=a;b&c HTTP/1.1"
    found = dict(line.split(": ", 1) for line in lines)
    assert len(base64.b64decode(found.pop("Sec-WebSocket-Key"), validate=True)) == 16
    assert found == {
        "Host": server.authority,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
    }


def test_each_request_has_a_new_key() -> None:
    with serving(upgrade(), upgrade()) as server:
        dial_and_close(server.url)
        dial_and_close(server.url)
    assert len({header(request, "Sec-WebSocket-Key") for request in server.requests}) == 2


def test_request_carries_what_the_options_say() -> None:
    request, _ = request_for(
        "/p?x=1",
        headers=[("X-A", "1"), ("Host", "other.example"), ("x-a", "2"), ("Cookie", "c=3")],
        cookies={"a": "1", "b": "2"},
        origin="https://example.com",
        subprotocols=["v1"],
        credentials=Credentials("me", "a b", "s"),
    )
    assert request.startswith("GET /p?x=1&user_id=me&role=a%20b&session_id=s HTTP/1.1\r\n")
    assert headers(request, "X-A") == ["1, 2"]
    assert headers(request, "Host") == ["other.example"]
    assert headers(request, "Cookie") == ["c=3; a=1; b=2"]
    assert headers(request, "Origin") == ["https://example.com"]
    assert headers(request, "Sec-WebSocket-Protocol") == ["v1"]


def test_repeated_cookie_headers_are_one() -> None:
    request, _ = request_for(headers=[("Cookie", "a=1"), ("cookie", "b=2")])
    assert headers(request, "Cookie") == ["a=1; b=2"]


def test_user_info_becomes_basic_authorization() -> None:
    with serving(upgrade(), upgrade()) as server:
        url = f"ws://me:p%3Aw@{server.authority}/"
        dial_and_close(url)
        dial_and_close(url, headers={"authorization": "Bearer x"})
    assert headers(server.requests[0], "Authorization") == ["Basic " + base64.b64encode(b"me:p:w").decode()]
    assert headers(server.requests[1], "Authorization") == ["Bearer x"]
    assert "@" not in server.requests[0]


def test_headers_of_a_callable_are_fresh_at_each_connect() -> None:
    tokens = iter(["one", "two"])
    options = Options(headers=lambda: {"Authorization": next(tokens)}, proxy=None)
    with serving(upgrade(), upgrade()) as server:
        for _ in range(2):
            Dial(server.url, options).run(time.monotonic() + BOUND).transport.close()
    assert [header(request, "Authorization") for request in server.requests] == ["one", "two"]


def test_failing_callable_is_a_handshake_error() -> None:
    def source() -> dict[str, str]:
        raise KeyError(SECRET)

    error = failure("ws://localhost:1/", headers=source)
    assert str(error) == "ws://localhost:1/: the callable of headers= failed: KeyError"
    assert isinstance(error.__cause__, KeyError)
    error = failure("ws://localhost:1/", headers=lambda: {"X-A": f"{SECRET}\r\nEvil: 1"})
    assert "headers: value of X-A: contains CR, LF" in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"X-A": "1\r\nEvil: 1"}},
        {"headers": {"X\r\nEvil": "1"}},
        {"cookies": "a=1\r\nEvil: 1"},
        {"cookies": {"a": "1\nEvil: 1"}},
        {"origin": "https://x\r\nEvil: 1"},
        {"subprotocols": ["a\r\nEvil: 1"]},
        {"proxy": "http://x\r\nEvil: 1"},
    ],
)
def test_no_line_can_be_injected(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


def test_no_line_can_be_injected_by_the_url() -> None:
    for url in ("ws://h/\r\nEvil: 1", "ws://h\r\nEvil: 1/", "ws://h/?a=\nEvil: 1", "ws://u\r\n:p@h/"):
        with pytest.raises(ValueError, match="url: "):
            Dial(url, Options())
    request, _ = request_for("/%0d%0aEvil:%201", credentials=Credentials("\u2028", "%0d%0a", "s"))
    assert not headers(request, "Evil")


# -- cookies ------------------------------------------------------------------------------------------


def test_cookies_never_reach_another_connection() -> None:
    cookies = ("Set-Cookie: a=1; Domain=localhost", "Set-Cookie: b=2; Domain=.localhost", "Set-Cookie: c=3")
    refusal = answer("HTTP/1.1 403 Forbidden", *cookies, "Content-Length: 0")
    moved = answer("HTTP/1.1 302 Found", *cookies, "Location: /next")
    jar = dict(_handshake.CookieJar.jar)
    with serving(upgrade(*cookies), refusal, moved, upgrade(), upgrade()) as server:
        dial_and_close(server.url)
        failure(server.url)
        dial_and_close(server.url, follow_redirects=1)
        dial_and_close(server.url, cookies="own=1")
    assert [headers(request, "Cookie") for request in server.requests] == [[], [], [], [], ["own=1"]]
    assert _handshake.CookieJar.jar == jar, "nothing of a response stays in websocket-client"


def test_cookies_that_others_left_in_websocket_client_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    jar = type(_handshake.CookieJar)()
    for domain in ("localhost", "", ".", "host"):
        jar.add(f"stolen=1; Domain={domain}")
    assert "stolen" in jar.get("localhost")
    monkeypatch.setattr(_handshake, "CookieJar", jar)
    request, _ = request_for()
    assert "stolen" not in request


# -- answers that are no upgrade ----------------------------------------------------------------------


def test_refusal_carries_status_headers_and_body() -> None:
    lines = (
        "HTTP/1.1 401 Whatever the server says",
        'WWW-Authenticate: Basic realm="x"',
        "Content-Length: 7",
    )
    with serving(answer(*lines, body=b"log in!more than it said")) as server:
        error = failure(server.url)
    assert type(error) is HandshakeError
    assert (error.status, error.body) == (401, b"log in!")
    assert error.headers["www-authenticate"] == 'Basic realm="x"'
    assert str(error) == f"{server.url}/: no upgrade: the answer is 401 Unauthorized"


def test_unregistered_status_is_shown_as_a_number() -> None:
    with serving(answer("HTTP/1.1 799", "Content-Length: 0")) as server:
        assert str(failure(server.url)).endswith("the answer is 799")


BODY = b"x" * 100_000


@pytest.mark.parametrize(
    ("lines", "sent", "expected"),
    [
        (["Content-Length: 100000"], BODY, BODY[:65536]),
        (["Content-Length: 99999999999999999999"], b"abc", b"abc"),
        (["Content-Length: -5"], b"abc", b"abc"),
        (["Content-Length: 5"], b"abc", b"abc"),
        ([], b"abc", b"abc"),
        ([], BODY, BODY[:65536]),
        (["Transfer-Encoding: chunked"], b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde"),
        (["Transfer-Encoding: chunked"], b"3\r\nabc\r\nzz\r\nde", b"abc"),
        (["Transfer-Encoding: chunked", "Content-Length: 2"], b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ],
)
def test_body_of_a_refusal(lines: list[str], sent: bytes, expected: bytes) -> None:
    with serving(answer("HTTP/1.1 500 No", *lines, body=sent)) as server:
        assert failure(server.url).body == expected


@pytest.mark.parametrize("lines", [["Content-Length: 10"], [], ["Transfer-Encoding: chunked"]])
def test_body_that_does_not_end_costs_half_the_time_at_most(lines: list[str]) -> None:
    def script(peer: Peer) -> None:
        peer.answer("HTTP/1.1 500 No", *lines, body=b"3\r\nabc\r\n")
        peer.wait_until_left()

    with serving(script) as server:
        error = failure(server.url, 2 * SHORT)
    assert type(error) is HandshakeError
    assert b"abc" in error.body


def test_body_cut_by_a_reset_is_what_came() -> None:
    def script(peer: Peer) -> None:
        peer.answer("HTTP/1.1 500 No", "Content-Length: 10", body=b"abc")
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with serving(script) as server:
        error = failure(server.url)
    assert error.status in (500, None), "a reset may overtake what was sent before it"
    assert b"abc".startswith(error.body)


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "malformed response: not HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "malformed response: not HTTP"),
        (b"HTTP/2 101\r\n\r\n", "malformed response: bad status line"),
        (b"HTTP/1.1 abc\r\n\r\n", "malformed response: bad status line"),
        (b"HTTP/1.1 1010 x\r\n\r\n", "malformed response: bad status line"),
        (b"HTTP/1.1\r\n\r\n", "malformed response: bad status line"),
        (b"HTTP/1.1 101 x\r\nno colon\r\n\r\n", "malformed response: bad header line"),
        (b"HTTP/1.1 101 x\r\nX : y\r\n\r\n", "malformed response: bad header line"),
        (b"HTTP/1.1 101 x\r\nX: y\r\n folded\r\n\r\n", "malformed response: bad header line"),
        (b"HTTP/1.1 101 x\r\nX: a\0b\r\n\r\n", "malformed response: bad header line"),
        (b"HTTP/1.1 101 x\r\nX: a\rb\r\n\r\n", "malformed response: bad header line"),
        (b"HTTP/1.1 101 x\r\nX: " + b"a" * 65536 + b"\r\n\r\n", "response head over 64 KiB"),
        (b"HTTP/1.1 103 x\r\n\r\n" * 4000, "response head over 64 KiB"),
    ],
)
def test_malformed_response(sent: bytes, complaint: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        with suppress(ConnectionError):
            peer.send(sent)
        peer.wait_until_left()

    with serving(script) as server:
        error = failure(server.url)
    assert type(error) is HandshakeError
    assert complaint in str(error)


def test_headers_without_an_end_are_cut_off() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
        with suppress(ConnectionError):
            for number in range(10**6):
                peer.send(b"X-%d: %s\r\n" % (number, b"y" * 1000))
            raise AssertionError("the client read a gigabyte of headers")

    with serving(script) as server:
        assert "response head over 64 KiB" in str(failure(server.url))


def test_response_lines_may_end_in_bare_line_feeds() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 403 x\nContent-Length: 2\n\nno")

    with serving(script) as server:
        error = failure(server.url)
    assert (error.status, error.body) == (403, b"no")
    found = parse_response(b"HTTP/1.0 403\nA: b\nC:\td \nA:")
    assert (found.status, found.headers) == (403, {"a": "b, ", "c": "d"})


@pytest.mark.parametrize("sent", [b"", b"HTT", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs"])
def test_connection_that_ends_before_the_response(sent: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(sent)

    with serving(script) as server:
        error = failure(server.url)
    assert isinstance(error, ConnectFailed)
    assert "upgrade failed: the connection ended before the response was complete" in str(error)
    assert isinstance(error.__cause__, ConnectionResetError)


KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # with its answer, from RFC 6455, section 1.3
GOOD = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
}


@pytest.mark.parametrize(
    ("changed", "offered", "complaint"),
    [
        ({"upgrade": ""}, (), "lacks 'Upgrade: websocket'"),
        ({"upgrade": "h2c"}, (), "lacks 'Upgrade: websocket'"),
        ({"upgrade": "websocket, h2c"}, (), "lacks 'Upgrade: websocket'"),
        ({"connection": "close"}, (), "lacks 'Connection: Upgrade'"),
        ({"sec-websocket-accept": ""}, (), "wrong Sec-WebSocket-Accept"),
        ({"sec-websocket-accept": "S3PPLMBITXAQ9KYGZZHZRBK+XOO="}, (), "wrong Sec-WebSocket-Accept"),
        ({"sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\xff"}, (), "wrong Sec-WebSocket-Accept"),
        ({"sec-websocket-protocol": "v1"}, (), "subprotocol that was not offered"),
        ({"sec-websocket-protocol": "v3"}, ("v1", "v2"), "subprotocol that was not offered"),
        ({"sec-websocket-protocol": "V1"}, ("v1", "v2"), "subprotocol that was not offered"),
        ({"sec-websocket-protocol": "v1, v2"}, ("v1", "v2"), "subprotocol that was not offered"),
        ({"sec-websocket-protocol": ""}, ("v1",), "subprotocol that was not offered"),
    ],
)
def test_verdict_on_a_101_response(changed: dict[str, str], offered: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(HandshakeError, match=complaint) as caught:
        check_upgrade(Response(101, GOOD | changed, b""), KEY, offered)
    assert caught.value.status == 101
    assert caught.value.headers == GOOD | changed


def test_good_101_responses() -> None:
    assert check_upgrade(Response(101, GOOD, b""), KEY, ()) is None
    assert check_upgrade(Response(101, GOOD, b""), KEY, ("v1",)) is None
    several = GOOD | {"upgrade": "WebSocket", "connection": "keep-alive, upgrade"}
    chosen = several | {"sec-websocket-protocol": "v2"}
    assert check_upgrade(Response(101, chosen, b""), KEY, ("v1", "v2")) == "v2"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: wrong"],
            "wrong Sec-WebSocket-Accept",
        ),
        (["Connection: Upgrade"], "lacks 'Upgrade: websocket'"),
        ([], "lacks 'Upgrade: websocket'"),
    ],
)
def test_wrong_101_response(lines: list[str], complaint: str) -> None:
    with serving(answer("HTTP/1.1 101 Switching Protocols", *lines)) as server:
        error = failure(server.url)
    assert complaint in str(error)
    assert error.status == 101


def test_subprotocol_nobody_asked_for_over_the_wire() -> None:
    with serving(upgrade("Sec-WebSocket-Protocol: v9"), upgrade("Sec-WebSocket-Protocol: v9")) as server:
        assert "subprotocol that was not offered" in str(failure(server.url, subprotocols=["v1"]))
        assert "subprotocol that was not offered" in str(failure(server.url))


def test_what_websocket_client_refuses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _handshake.handshake

    def stricter(*args: Any, **options: Any) -> None:
        real(*args, **options)
        raise WebSocketException

    monkeypatch.setattr(handshake_module, "write_request_and_validate", stricter)
    with serving(upgrade()) as server:
        assert "response is no valid upgrade" in str(failure(server.url))


def test_time_out_of_the_system_is_a_failed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """ETIMEDOUT, which websocket-client would turn into an error of its own."""

    def receive(_: DialStream) -> bytes:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(DialStream, "receive", receive)
    with serving(silent) as server:
        error = failure(server.url)
    assert isinstance(error, ConnectFailed)
    assert not isinstance(error, HandshakeTimeout)
    assert "upgrade failed: Connection timed out" in str(error)


# -- compression --------------------------------------------------------------------------------------


def test_compression_is_offered_only_if_asked_for() -> None:
    request, _ = request_for()
    assert not headers(request, "Sec-WebSocket-Extensions")
    wish = Deflate(server_max_window_bits=10, client_no_context_takeover=True)
    request, _ = request_for(compression=wish)
    assert headers(request, "Sec-WebSocket-Extensions") == [wish.offer()]
    assert wish.offer().startswith("permessage-deflate; ")


@pytest.mark.parametrize("lines", [[], ["Sec-WebSocket-Extensions:"], ["Sec-WebSocket-Extensions: "]])
def test_server_may_select_no_compression(lines: list[str]) -> None:
    with serving(upgrade(*lines), upgrade(*lines)) as server:
        assert dial_and_close(server.url, compression="deflate").compression is None
        assert dial_and_close(server.url).compression is None


@pytest.mark.parametrize(
    "answer",
    ["permessage-deflate; client_max_window_bits=9", 'permessage-deflate;client_max_window_bits="9"'],
)
def test_compression_is_agreed_on(answer: str) -> None:
    with serving(upgrade(f"Sec-WebSocket-Extensions: {answer}")) as server:
        agreed = dial_and_close(server.url, compression=Deflate(threshold=7)).compression
    assert agreed is not None
    assert (agreed.client_max_window_bits, agreed.server_max_window_bits, agreed.threshold) == (9, 15, 7)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["x-webkit-deflate-frame"], "Sec-WebSocket-Extensions: .*x-webkit-deflate-frame"),
        (
            ["permessage-deflate; client_max_window_bits=7"],
            "Sec-WebSocket-Extensions: .*client_max_window_bits",
        ),
        (["permessage-deflate", "permessage-deflate"], "Sec-WebSocket-Extensions: "),
        (["permessage-deflate", "permessage-bzip2"], "Sec-WebSocket-Extensions: "),
        ([","], "Sec-WebSocket-Extensions: "),
    ],
)
def test_compression_that_was_not_offered(lines: list[str], complaint: str) -> None:
    script = upgrade(*[f"Sec-WebSocket-Extensions: {line}" for line in lines])
    with serving(script, script) as server:
        error = failure(server.url, compression="deflate")
        assert type(error) is HandshakeError
        assert re.search(complaint, str(error))
        assert (error.status, error.headers["sec-websocket-extensions"]) == (101, ", ".join(lines))
        assert "selects an extension that was not offered" in str(failure(server.url))


# -- redirects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_followed_only_if_asked_for(status: int) -> None:
    with serving(redirect("/next", status), redirect("/next", status), upgrade()) as server:
        error = failure(server.url)
        assert error.status == status
        assert "no upgrade: the answer is" in str(error)
        assert error.headers["location"] == "/next"
        upgraded = dial_and_close(server.url, follow_redirects=1)
        assert str(upgraded.url) == f"{server.url}/next"
    assert server.requests[2].startswith("GET /next HTTP/1.1\r\n")


def test_too_many_redirects() -> None:
    with serving(*[redirect("/again")] * 3) as server:
        error = failure(server.url, follow_redirects=2)
    assert "more than 2 redirects: the answer is 302 Found" in str(error)


@pytest.mark.parametrize("lines", [["HTTP/1.1 302 Found"], ["HTTP/1.1 300 Choices", "Location: /x"]])
def test_answer_that_leads_nowhere_is_no_redirect(lines: list[str]) -> None:
    with serving(answer(*lines, "Content-Length: 0")) as server:
        assert "no upgrade" in str(failure(server.url, follow_redirects=5))


def test_unusable_location() -> None:
    with serving(redirect("gopher://x/"), redirect("http://h:99999/")) as server:
        for _ in range(2):
            error = failure(server.url, follow_redirects=1)
            assert "redirect to an unusable Location: url: " in str(error)
            assert error.status == 302


def test_location_in_utf_8_is_followed() -> None:
    with serving(redirect("/ü"), upgrade()) as server:
        dial_and_close(server.url, follow_redirects=1)
    assert server.requests[1].startswith("GET /%C3%BC HTTP/1.1\r\n")


SECRETS: dict[str, Any] = {
    "headers": {"Authorization": SECRET, "Proxy-Authorization": SECRET, "cookie": SECRET, "X-A": "1"},
    "cookies": {"a": SECRET},
    "credentials": Credentials("u", "r", SECRET),
    "follow_redirects": 5,
}


def test_secrets_go_along_within_an_origin() -> None:
    def again(peer: Peer) -> None:
        redirect(f"http://eve:x@LOCALHOST:{server.port}/again")(peer)

    with serving(redirect("/next?x=1"), again, upgrade()) as server:
        dial_and_close(server.url, **SECRETS)
    assert len(server.requests) == 3
    for request in server.requests:
        assert f"session_id={SECRET}" in request.split("\r\n")[0]
        assert headers(request, "Authorization") == [SECRET]
        assert headers(request, "Cookie") == [f"{SECRET}; a={SECRET}"]


def test_secrets_go_to_no_other_origin_and_not_back_again() -> None:
    def away(peer: Peer) -> None:
        redirect(f"http://{second.authority}/second")(peer)

    def back(peer: Peer) -> None:
        redirect(f"http://{first.authority}/third")(peer)

    with serving(away, upgrade()) as first, serving(back) as second:
        upgraded = dial_and_close(first.url.replace("//", "//me:pw@") + "/first", **SECRETS)
    assert upgraded.url.userinfo is None
    assert SECRET in first.requests[0]
    for request in (*second.requests, first.requests[1]):
        assert SECRET not in request
        assert not headers(request, "Authorization")
        assert not headers(request, "Cookie")
        assert headers(request, "X-A") == ["1"]
    assert header(second.requests[0], "Host") == second.authority


def test_user_info_and_host_stay_behind_too() -> None:
    with serving(upgrade()) as second, serving(redirect(f"ws://eve:x@{second.authority}/")) as first:
        url = first.url.replace("//", "//me:pw@")
        dial_and_close(url, headers={"Host": "virtual.example"}, follow_redirects=1)
    assert header(first.requests[0], "Authorization").startswith("Basic ")
    assert header(first.requests[0], "Host") == "virtual.example"
    assert not headers(second.requests[0], "Authorization")
    assert header(second.requests[0], "Host") == second.authority


def test_redirect_from_http_to_tls_is_followed_and_back_is_refused(tls: TLS) -> None:
    with serving(upgrade(), redirect("http://localhost:1/"), tls=tls.server) as secure:
        with serving(redirect(f"https://{secure.authority}/")) as plain:
            upgraded = dial_and_close(plain.url, ssl_context=tls.client, follow_redirects=1)
            assert upgraded.url.secure
        error = failure(secure.url, ssl_context=tls.client, follow_redirects=1)
    assert "redirect from wss to ws refused" in str(error)
    assert error.status == 302


# -- TCP, Unix sockets, given sockets -----------------------------------------------------------------


def test_refused_port() -> None:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
        error = failure(f"ws://{HOST}:{port}/?token={SECRET}")
    assert isinstance(error, ConnectFailed)
    assert str(error) == f"ws://{HOST}:{port}/?token=...: TCP connect failed: Connection refused"
    assert isinstance(error.__cause__, ConnectionRefusedError)


def test_unknown_host() -> None:
    error = failure("ws://does-not-exist.invalid/")
    assert isinstance(error, ConnectFailed)
    assert "DNS failed: " in str(error)
    assert isinstance(error.__cause__, socket.gaierror)


@needs_ipv6
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_ipv6(secure: bool, tls: TLS) -> None:
    with serving(upgrade(), tls=tls.server if secure else None, host="::1") as server:
        upgraded = dial_and_close(server.url, ssl_context=tls.client)
    assert str(upgraded.url) == f"{server.url}/"
    assert header(server.requests[0], "Host") == f"[::1]:{server.port}"


def noting(callers: list[tuple[str, int]], script: Script) -> Script:
    """The same script, but the address that it is called from is noted first."""

    def noting_script(peer: Peer) -> None:
        callers.append(peer.sock.getpeername()[:2])
        script(peer)

    return noting_script


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, 127.0.0.2 has to be set up first")
def test_local_address() -> None:
    callers: list[tuple[str, int]] = []
    with serving(noting(callers, upgrade())) as server:
        dial_and_close(server.url, local_address="127.0.0.2")  # whatever other addresses localhost has
    with serving(upgrade()) as server, serving(noting(callers, http_tunnel)) as proxy:
        dial_and_close(server.url, proxy=f"http://{HOST}:{proxy.port}", local_address="127.0.0.3")
    assert [host for host, _ in callers] == ["127.0.0.2", "127.0.0.3"]


@needs_ipv6
def test_local_address_of_version_6() -> None:
    callers: list[tuple[str, int]] = []
    with serving(noting(callers, upgrade()), host="::1") as server:
        dial_and_close(server.url, local_address="::1")
    assert callers[0][0] == "::1"
    error = failure(server.url, local_address=HOST)
    assert isinstance(error, ConnectFailed)
    assert "TCP connect failed: the host has no address of the kind that local_address is" in str(error)


def test_local_port_may_be_used_again_at_once() -> None:
    """The client ends first, so its port has a minute to wait before it calls the same server."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        local = sock.getsockname()
    callers: list[tuple[str, int]] = []
    script = noting(callers, upgrade())
    with serving(script) as first, serving(script) as second:
        for server in (first, second):
            dial_and_close(f"ws://{HOST}:{server.port}", local_address=local)
    assert callers == [local, local]


def test_local_address_that_is_somebody_elses() -> None:
    error = failure(f"ws://{HOST}:1/", local_address="192.0.2.1")
    assert isinstance(error, ConnectFailed)
    assert "TCP connect failed: can't connect from local_address 192.0.2.1, port any: Cannot" in str(error)
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        error = failure(f"ws://{HOST}:1/", local_address=(HOST, port))
    assert f"can't connect from local_address {HOST}, port {port}: Address already in use" in str(error)
    error = failure(f"ws://{HOST}:1/", local_address="fe80::1%nosuchinterface")
    assert "TCP connect failed: local_address fe80::1%nosuchinterface: " in str(error)


def unix_server(path: Path, *scripts: Script, tls: ssl.SSLContext | None = None) -> ScriptedServer:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(BOUND)
    return ScriptedServer(scripts, listener, tls)


def test_unix_socket(tmp_path: Path, tls: TLS) -> None:
    with unix_server(tmp_path / "plain", upgrade()) as server:
        dial_and_close("ws://example.com/x", unix_path=tmp_path / "plain")
    assert header(server.requests[0], "Host") == "example.com"
    with unix_server(tmp_path / "tls", upgrade(), tls=tls.server):
        dial_and_close("wss://localhost/x", unix_path=tmp_path / "tls", ssl_context=tls.client)
    assert isinstance(failure("ws://h/", unix_path=tmp_path / "none"), ConnectFailed)


def test_redirect_on_a_unix_socket_stays_there(tmp_path: Path) -> None:
    scripts = (redirect("/next"), upgrade(), redirect("http://other/"))
    with unix_server(tmp_path / "socket", *scripts) as server:
        dial_and_close("ws://h/", unix_path=tmp_path / "socket", follow_redirects=1)
        error = failure("ws://h/", unix_path=tmp_path / "socket", follow_redirects=1)
    assert len(server.requests) == 3
    assert "from a Unix socket to another origin refused" in str(error)


def test_given_socket(tls: TLS) -> None:
    with serving(upgrade()) as server:
        sock = socket.create_connection((HOST, server.port))
        dial_and_close("ws://example.com/", socket=sock)
    assert header(server.requests[0], "Host") == "example.com"
    with serving(upgrade(), tls=tls.server) as server:
        sock = socket.create_connection((HOST, server.port))
        dial_and_close("wss://localhost/", socket=sock, ssl_context=tls.client)
        assert isinstance(failure("ws://h/", socket=sock), ConnectFailed), "it was closed"


def test_given_socket_is_closed_on_failure() -> None:
    with serving(answer("HTTP/1.1 403 No", "Content-Length: 0")) as server:
        sock = socket.create_connection((HOST, server.port))
        failure("ws://h/", socket=sock)
        assert sock.fileno() == -1


# -- deadlines ----------------------------------------------------------------------------------------


def test_upgrade_never_answered() -> None:
    with serving(silent_after_request) as server:
        assert_timed_out(failure(server.url, SHORT), Step.UPGRADE)


def test_upgrade_dripped_byte_by_byte() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        with suppress(OSError):
            peer.send(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
            peer.sock.settimeout(SHORT / 50)
            for _ in range(10_000):
                peer.send(b"x")
                with suppress(TimeoutError):
                    assert not peer.sock.recv(1)
                    return

    with serving(script) as server:
        assert_timed_out(failure(server.url, SHORT), Step.UPGRADE)


def test_tls_never_answered(tls: TLS) -> None:
    with serving(silent) as server:
        assert_timed_out(failure(f"wss://{server.authority}/", SHORT, ssl_context=tls.client), Step.TLS)


def test_proxy_that_never_answers() -> None:
    with serving(silent_after_request) as proxy:
        assert_timed_out(failure("ws://h/", SHORT, proxy=f"http://{proxy.authority}"), Step.PROXY)


def test_connect_never_answered() -> None:
    with black_hole() as url:
        assert_timed_out(failure(url, SHORT), Step.TCP)


@contextmanager
def slow_dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """A resolver that can't be interrupted, like the real one. Events: it was asked, it may answer."""
    asked, answered = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(*args: Any, **options: Any) -> Any:
        asked.set()
        assert answered.wait(BOUND)
        return real(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        yield asked, answered
    finally:
        answered.set()


def test_slow_name_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    with slow_dns(monkeypatch) as (_, answered):
        answered.set()
        error = failure("ws://localhost:1/", -1)
    assert isinstance(error, HandshakeTimeout)
    assert "during DNS" in str(error)


def test_what_the_one_who_waits_for_a_dial_can_say() -> None:
    waiting = Dial(f"ws://h/?t={SECRET}", Options())
    assert waiting.step is Step.DNS
    assert str(waiting.timed_out(10.0)) == "ws://h/?t=...: not open within 10 s: during DNS"
    assert waiting.url == parse_url(f"ws://h/?t={SECRET}")


# -- cancelling ---------------------------------------------------------------------------------------


def test_cancel_before_dialling() -> None:
    attempt = Dial("ws://localhost:1/", Options(proxy=None))
    attempt.cancel()
    attempt.cancel()
    with pytest.raises(ConnectFailed, match="cancelled during DNS"):
        attempt.run(time.monotonic() + BOUND)


def test_cancel_during_name_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    with slow_dns(monkeypatch) as (asked, answered), dialling("ws://localhost:1/") as (attempt, result):
        assert asked.wait(BOUND)
        attempt.cancel()
        answered.set()
        assert_cancelled(result, Step.DNS)


def test_cancel_during_connect() -> None:
    with black_hole() as url, dialling(url) as (attempt, result):
        until = time.monotonic() + BOUND
        while attempt.step is not Step.TCP:
            assert time.monotonic() < until
        attempt.cancel()
        assert_cancelled(result, Step.TCP)


@pytest.mark.parametrize("step", [Step.PROXY, Step.TLS, Step.UPGRADE])
def test_cancel_while_the_peer_is_silent(step: Step) -> None:
    heard = threading.Event()

    def script(peer: Peer) -> None:
        assert peer.sock.recv(1)
        heard.set()
        peer.wait_until_left()

    with serving(script) as server:
        proxy = f"http://{server.authority}" if step is Step.PROXY else None
        url = f"{'wss' if step is Step.TLS else 'ws'}://{server.authority}/"
        with dialling(url, proxy=proxy) as (attempt, result):
            assert heard.wait(BOUND)
            attempt.cancel()
            assert_cancelled(result, step)


def test_cancel_while_reading_a_body() -> None:
    answered = threading.Event()

    def script(peer: Peer) -> None:
        peer.answer("HTTP/1.1 500 x", "Content-Length: 5")
        answered.set()
        peer.wait_until_left()

    with serving(script) as server, dialling(server.url) as (attempt, result):
        assert answered.wait(BOUND)
        attempt.cancel()
        assert_cancelled(result, Step.UPGRADE)


def test_cancel_at_the_deadline_is_a_time_out() -> None:
    """Who waits for the dial cancels it when the time is up, and may be the first to notice."""
    with serving(silent_after_request) as server, dialling(server.url, SHORT) as (attempt, result):
        deadline = time.monotonic() + SHORT
        while time.monotonic() < deadline:
            pass
        attempt.cancel()
        with pytest.raises(HandshakeTimeout, match="during upgrade"):
            result.result(BOUND)


def test_cancel_after_the_dial_is_harmless() -> None:
    with serving(upgrade(behind=b"x")) as server:
        attempt = Dial(server.url, Options(proxy=None))
        upgraded = attempt.run(time.monotonic() + BOUND)
        attempt.cancel()
        assert read_exactly(upgraded.transport, 1) == b"x"
        upgraded.transport.close()


# -- secrets ------------------------------------------------------------------------------------------


def test_nothing_secret_in_errors_logs_or_representations(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refusal = answer("HTTP/1.1 401 No", "Content-Length: 0")
    moved = redirect(f"/next?token={SECRET}&{SECRET}")
    with serving(refusal, moved, upgrade(), answer("HTTP/1.1 101 x"), lambda peer: None) as server:
        url = f"ws://me:{SECRET}@{server.authority}/?token={SECRET}"
        shown = [failure(url, **SECRETS | {"follow_redirects": 0})]
        upgraded = dial_and_close(url, **SECRETS)
        shown += [failure(url, **SECRETS) for _ in range(2)]
    shown.append(failure(f"ws://me:{SECRET}@does-not-exist.invalid/?{SECRET}", **SECRETS))
    shown.append(failure("ws://h/", SHORT, proxy=f"http://me:{SECRET}@{HOST}:1"))
    texts = [text for error in shown for text in (str(error), repr(error), str(error.__cause__))]
    texts += [caplog.text, repr(upgraded), repr(Dial(url, Options(**SECRETS)))]
    assert "redirected to" in caplog.text
    assert [text for text in texts if SECRET in text] == []
