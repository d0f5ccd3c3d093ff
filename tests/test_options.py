"""URL, credentials and options: what is accepted, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.options import (
    URL,
    Credentials,
    Options,
    Overflow,
    Proxy,
    ProxySource,
    parse_proxy,
    parse_url,
)

SECRET = "s3cr3t"


# -- URL ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ws://example.com", URL(False, "example.com", 80, "/")),
        ("wss://example.com", URL(True, "example.com", 443, "/")),
        ("WSS://EXAMPLE.com:8443/Feed", URL(True, "example.com", 8443, "/Feed")),
        ("ws://example.com:/x", URL(False, "example.com", 80, "/x")),
        ("ws://example.com?a=1", URL(False, "example.com", 80, "/?a=1")),
        ("ws://example.com/a;p=1/b;q;r?x=;y", URL(False, "example.com", 80, "/a;p=1/b;q;r?x=;y")),
        ("ws://h/a?next=http://other/?b", URL(False, "h", 80, "/a?next=http://other/?b")),
        ("ws://h/a@b:c", URL(False, "h", 80, "/a@b:c")),
        ("ws://h/a b/ü?ä=€", URL(False, "h", 80, "/a%20b/%C3%BC?%C3%A4=%E2%82%AC")),
        ('ws://h/%2F%zz{}|\\^`"<>', URL(False, "h", 80, '/%2F%zz{}|\\^`"<>')),
        ("ws://127.0.0.1:9000/", URL(False, "127.0.0.1", 9000, "/")),
        ("ws://[::1]:9000/", URL(False, "::1", 9000, "/")),
        ("ws://[2001:DB8:0:0::1]", URL(False, "2001:db8::1", 80, "/")),
        ("ws://[fe80::1%25eth0]:81/", URL(False, "fe80::1%eth0", 81, "/")),
        ("ws://under_score.local./", URL(False, "under_score.local.", 80, "/")),
        ("wss://bücher.example/", URL(True, "xn--bcher-kva.example", 443, "/")),
        ("ws://user:pa%3Ass%20w@h/", URL(False, "h", 80, "/", ("user", "pa:ss w"))),
        ("ws://user@h/", URL(False, "h", 80, "/", ("user", ""))),
        ("ws://a@b:c@h/", URL(False, "h", 80, "/", ("a@b", "c"))),
    ],
)
def test_url_in_parts(text: str, expected: URL) -> None:
    assert parse_url(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must begin with ws:// or wss://"),
        ("example.com", "must begin with ws:// or wss://"),
        ("ws:/example.com", "must begin with ws:// or wss://"),
        ("http://example.com", "scheme is http; use ws"),
        ("https://example.com", "scheme is https; use wss"),
        ("ftp://example.com", "not ftp://"),
        ("s3cr3t!://h", "must begin with ws:// or wss://$"),
        ("ws://", "no host"),
        ("ws://:80", "no host"),
        ("ws:///path", "no host"),
        ("ws://user@", "no host"),
        ("ws://h/#part", "fragment"),
        ("ws://h#part", "fragment"),
        ("ws://h:0/", "port must be 1 to 65535"),
        ("ws://h:65536/", "port must be 1 to 65535"),
        ("ws://h:123456789/", "port must be 1 to 65535"),
        ("ws://h:x/", "bad host or port"),
        ("ws://h:-1/", "bad host or port"),
        ("ws://h:\u0661/", "bad host or port"),
        ("ws://::1/", "bad host or port"),
        ("ws://[::1/", "bad host or port"),
        ("ws://[::1]x/", "bad host or port"),
        ("ws://[::g]/", "bad IPv6 address"),
        ("ws://[127.0.0.1]/", "bad IPv6 address"),
        ("ws://[fe80::1%25]/", "bad zone"),
        ("ws://[fe80::1%25a%0d]/", "bad zone"),
        ("ws://exa mple/", "bad host name"),
        ("ws://exa%20mple/", "bad host name"),
        ("ws://-example/", "bad host name"),
        ("ws://a..b/", "bad host name"),
        ("ws://h\\@evil/", "bad host or port"),
        (f"ws://{'a' * 64}/", "bad host name"),
        (f"ws://{'a.' * 200}/", "bad host name"),
        ("ws://ü..ä/", "no valid international domain name"),
        (" ws://h/", "white space"),
        ("ws://h/ ", "white space"),
        ("ws://h/\tx", "white space"),
        ("ws://h/\r\nEvil: 1", "CR, LF, NUL"),
        ("ws://h/\0", "CR, LF, NUL"),
        ("ws://h\n/", "CR, LF, NUL"),
        ("ws://h/\x7f", "CR, LF, NUL"),
        ("ws://h/\ud800", "surrogate"),
        ("ws://us%3Aer:x@h/", "colon in the user name"),
    ],
)
def test_bad_url_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_url(text)
    assert str(caught.value).startswith("url: ")


def test_url_must_be_text() -> None:
    with pytest.raises(TypeError, match="url: must be str, not bytes"):
        parse_url(b"ws://h/")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        f"ws://{SECRET}:{SECRET}@h:99999/",
        f"ws://{SECRET}:{SECRET}@/",
        f"http://h/?token={SECRET}",
        f"ws://h/?token={SECRET}#x",
        f"{SECRET}",
        f"ws://h:{SECRET}@x:y/",
        f"ws://a%3A{SECRET}:b@h",
    ],
)
def test_complaint_about_a_url_shows_no_secret(text: str) -> None:
    with pytest.raises(ValueError, match="url: ") as caught:
        parse_url(text)
    assert SECRET not in str(caught.value)


def test_url_shows_no_user_info_and_no_query_values() -> None:
    url = parse_url(f"wss://me:{SECRET}@h:8443/path?token={SECRET}&{SECRET}&empty=&&x={SECRET}={SECRET}")
    assert str(url) == "wss://h:8443/path?token=...&...&empty=...&&x=..."
    assert repr(url) == f"URL({str(url)!r})"
    assert str(parse_url("ws://h/p?")) == "ws://h/p?"


@pytest.mark.parametrize(
    ("text", "authority", "host_port"),
    [
        ("ws://h/", "h", "h:80"),
        ("wss://h/", "h", "h:443"),
        ("ws://h:443/", "h:443", "h:443"),
        ("ws://[::1]/", "[::1]", "[::1]:80"),
        ("ws://[fe80::1%25eth0]:8/", "[fe80::1]:8", "[fe80::1]:8"),
    ],
)
def test_host_header(text: str, authority: str, host_port: str) -> None:
    url = parse_url(text)
    assert (url.authority, url.host_port) == (authority, host_port)


@pytest.mark.parametrize(
    ("base", "location", "expected"),
    [
        ("ws://h/a/b", "/c;d?e", "ws://h/c;d?e=..."),
        ("ws://h/a/b", "c", "ws://h/a/c"),
        ("ws://h/a/b?x", "?y=1", "ws://h/a/b?y=..."),
        ("ws://h/a", "http://h:80/b#part", "ws://h/b"),
        ("ws://h/a", "https://h/b", "wss://h/b"),
        ("ws://h/a", "wss://h:1/b", "wss://h:1/b"),
        ("wss://h/a", "//other/b", "wss://other/b"),
        ("ws://[::1]:8/a", "/b", "ws://[::1]:8/b"),
        ("ws://h/a", "/ü", "ws://h/%C3%BC"),
    ],
)
def test_location_is_resolved(base: str, location: str, expected: str) -> None:
    found = parse_url(base).join(location)
    assert str(found) == expected.replace("?e=...", "?...")


def test_location_keeps_user_info_within_the_origin_only() -> None:
    url = parse_url("wss://me:pw@h/a")
    assert url.join("/b").userinfo == ("me", "pw")
    assert url.join("https://h/b").userinfo == ("me", "pw")
    assert url.join("https://evil:x@h/b").userinfo == ("me", "pw")
    assert url.join("https://h:444/b").userinfo is None
    assert url.join("ws://h/b").userinfo is None
    assert url.join("wss://evil:x@other/b").userinfo is None


def test_location_keeps_the_zone_of_a_link_local_address() -> None:
    url = parse_url("ws://me@[fe80::1%25eth0]:8/a")
    assert url.join("/b") == URL(False, "fe80::1%eth0", 8, "/b", ("me", ""))


@pytest.mark.parametrize("location", ["ftp://h/", "javascript:alert(1)", "http://h:99999/", "http://a b/"])
def test_unusable_location_is_refused(location: str) -> None:
    with pytest.raises(ValueError, match="url: "):
        parse_url("ws://h/").join(location)


@given(st.text())
def test_no_text_makes_parsing_fail_otherwise_than_by_value_error(text: str) -> None:
    for candidate in (text, f"ws://{text}", f"wss://h/{text}", f"ws://h:{text}", f"ws://{text}@h"):
        try:
            url = parse_url(candidate)
        except ValueError:
            continue
        assert url.resource.isascii()
        assert url.resource.startswith("/")
        assert not any(char.isspace() or not char.isprintable() for char in url.resource + url.host)


# -- credentials --------------------------------------------------------------------------------------


def test_credentials_become_query_parameters() -> None:
    credentials = Credentials("a b&c", "instructor", "ü/?")
    expected = "user_id=a%20b%26c&role=instructor&session_id=%C3%BC%2F%3F"
    assert parse_url("ws://h").with_credentials(credentials).resource == f"/?{expected}"
    assert parse_url("ws://h/p?x=1").with_credentials(credentials).resource == f"/p?x=1&{expected}"
    assert parse_url("ws://h/p?").with_credentials(credentials).resource == f"/p?{expected}"


def test_credentials_already_in_the_query_are_not_doubled() -> None:
    url = parse_url("ws://h/p?role=x").with_credentials(Credentials("u", "r", "s"))
    assert url.resource == "/p?role=x&user_id=u&session_id=s"
    assert url.with_credentials(Credentials("u", "r", "s")) == url


def test_credentials_show_no_session() -> None:
    credentials = Credentials("u", "r", SECRET)
    assert SECRET not in repr(credentials)
    assert "'u'" in repr(credentials)
    assert credentials == Credentials("u", "r", SECRET)


@pytest.mark.parametrize(
    ("values", "kind", "complaint"),
    [
        (("", "r", "s"), ValueError, "credentials: user_id: must not be empty"),
        (("u", "r", ""), ValueError, "credentials: session_id: must not be empty"),
        (("u", 1, "s"), TypeError, "credentials: role: must be str, not int"),
        (("u", "r", "s\r\n"), ValueError, "credentials: session_id: contains CR, LF"),
    ],
)
def test_bad_credentials_are_refused(values: tuple[Any, ...], kind: type[Exception], complaint: str) -> None:
    with pytest.raises(kind, match=complaint):
        Credentials(*values)


# -- proxy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy", Proxy("http", "proxy", 80)),
        ("HTTP://Proxy:3128/", Proxy("http", "proxy", 3128)),
        ("http://u:p%40@[::1]:3128", Proxy("http", "::1", 3128, ("u", "p@"))),
        ("socks4://proxy", Proxy("socks4", "proxy", 1080)),
        ("socks4a://me@proxy:9/", Proxy("socks4a", "proxy", 9, ("me", ""))),
        ("SOCKS5://proxy", Proxy("socks5", "proxy", 1080)),
        (f"socks5h://u:{'%C3%BC' * 127}@[::1]:9", Proxy("socks5h", "::1", 9, ("u", "ü" * 127))),
        ("socks5h://u@proxy", Proxy("socks5h", "proxy", 1080, ("u", ""))),
    ],
)
def test_proxy_in_parts(text: str, expected: Proxy) -> None:
    assert parse_proxy(text) == expected


def test_proxy_shows_no_user_info() -> None:
    proxy = parse_proxy(f"http://u:{SECRET}@[::1]:3128")
    assert repr(proxy) == "Proxy('http://[::1]:3128')"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "https://h",
            "must begin with http://, socks4://, socks4a://, socks5:// or socks5h://, not https://",
        ),
        ("socks://h", "or socks5h://, not socks://"),
        ("h:3128", "must begin with http://, .* or socks5h://$"),
        ("socks4://me:x@h", "SOCKS4 has a user id without NUL, and no password"),
        ("socks4a://m%00e@h", "SOCKS4 has a user id without NUL"),
        ("socks5://:x@h", "SOCKS5 has a user name of 1 to 255 bytes"),
        (f"socks5h://{'u' * 256}@h", "SOCKS5 has a user name of 1 to 255 bytes"),
        (f"socks5://u:{'%C3%BC' * 128}@h", "and a password of up to 255"),
        ("socks5://", "no host"),
        ("socks5://h:65536", "port must be"),
        ("", "must be non-empty"),
        ("http://h /", "without spaces"),
        ("http://h\r\n", "CR, LF"),
        ("http://", "no host"),
        ("http://h:0", "port must be"),
        ("http://h/path", "host and port only"),
        ("http://h?x", "host and port only"),
    ],
)
def test_bad_proxy_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        Options(proxy=text)
    assert str(caught.value).startswith("proxy: ")


# -- options ------------------------------------------------------------------------------------------


def test_defaults() -> None:
    options = Options()
    assert options.proxy is ProxySource.ENVIRONMENT
    assert (options.open_timeout, options.close_timeout) == (10, 10)
    assert (options.send_timeout, options.write_timeout) == (5, 10)
    assert (options.ping_interval, options.ping_timeout) == (20, 20)
    assert options.follow_redirects == 0
    assert options.max_message_size == options.max_queued_bytes == options.max_received_bytes == 16 * 2**20
    assert (options.max_queued_messages, options.max_received_messages) == (4096, 1024)
    assert options.overflow is Overflow.BLOCK
    assert (options.json_dumps, options.json_loads) == (json.dumps, json.loads)
    unset = (options.headers, options.cookies, options.origin, options.credentials, options.ssl_context)
    assert unset == (None,) * 5
    assert (options.compression, options.reconnect, options.callback_executor) == (None,) * 3
    assert (options.socket, options.unix_path, options.subprotocols) == (None, None, ())
    assert options.request_headers() == ()


def test_options_are_frozen_keyword_only_and_without_other_attributes() -> None:
    options = Options()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.open_timeout = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        Options({})  # type: ignore[call-arg]
    assert not hasattr(options, "__dict__")


def test_unknown_option_is_refused_by_name_with_the_nearest_known() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'ping_intervall'; did you mean 'ping_interval'\?"):
        Options.from_kwargs({"ping_intervall": 1})
    with pytest.raises(TypeError, match=r"unknown option 'zzz'$"):
        Options.from_kwargs({"zzz": SECRET})
    assert Options.from_kwargs({"ping_interval": 1}).ping_interval == 1.0


def _callback(*_: object) -> None:
    return None


def _header_generator() -> Iterator[tuple[str, str]]:
    yield "X-A", "1"
    yield "X-A", "2"


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("headers", {"X-A": "1"}, (("X-A", "1"),)),
        ("headers", [("X-A", "1"), ["X-A", "2"]], (("X-A", "1"), ("X-A", "2"))),
        ("headers", _header_generator(), (("X-A", "1"), ("X-A", "2"))),
        ("headers", {"Host": "other:81", "Origin": "null"}, (("Host", "other:81"), ("Origin", "null"))),
        ("headers", {"X-A": "tab\tand ünicode"}, (("X-A", "tab\tand ünicode"),)),
        ("headers", {}, ()),
        ("cookies", {"a": "1", "b": "x y"}, "a=1; b=x y"),
        ("cookies", "a=1; b=2", "a=1; b=2"),
        ("origin", "https://example.com", "https://example.com"),
        ("subprotocols", ["chat", "chat.v2"], ("chat", "chat.v2")),
        ("proxy", None, None),
        ("proxy", True, ProxySource.ENVIRONMENT),
        ("proxy", ProxySource.ENVIRONMENT, ProxySource.ENVIRONMENT),
        ("proxy", "http://h", Proxy("http", "h", 80)),
        ("server_hostname", "Example.COM.", "example.com"),
        ("server_hostname", "bücher.example", "xn--bcher-kva.example"),
        ("server_hostname", "127.0.0.1", "127.0.0.1"),
        ("server_hostname", "0:0::1", "::1"),
        ("server_hostname", "[::1]", "::1"),
        ("local_address", "127.0.0.1", ("127.0.0.1", 0)),
        ("local_address", ("::1", 0), ("::1", 0)),
        ("local_address", ("fe80::1%eth0", 65535), ("fe80::1%eth0", 65535)),
        ("unix_path", "/run/x", "/run/x"),
        ("unix_path", b"\0abstract", b"\0abstract"),
        ("unix_path", pathlib.PurePosixPath("/run/x"), "/run/x"),
        ("open_timeout", 3, 3.0),
        ("write_timeout", None, None),
        ("ping_interval", None, None),
        ("ping_timeout", None, None),
        ("ping_interval", 0.001, 0.001),
        ("follow_redirects", 5, 5),
        ("max_message_size", 1, 1),
        ("overflow", "raise", Overflow.RAISE),
        ("overflow", Overflow.DROP_OLDEST, Overflow.DROP_OLDEST),
        ("reconnect", False, None),
        ("on_message", _callback, _callback),
        ("json_dumps", _callback, _callback),
    ],
)
def test_accepted(name: str, value: object, stored: object) -> None:
    options = Options.from_kwargs({name: value})
    assert getattr(options, name) == stored
    assert type(getattr(options, name)) is type(stored)
    assert getattr(dataclasses.replace(options), name) == stored, "a checked value is valid once more"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("headers", "X-A: 1", "mapping or .* pairs, not str"),
        ("headers", 3, "mapping or .* pairs, not int"),
        ("headers", ["ab"], "pairs, not str"),
        ("headers", [("a", "b", "c")], "pairs, not tuple"),
        ("headers", {b"X": "1"}, "name: must be str, not bytes"),
        ("headers", {"X-A": 1}, "value of X-A: must be str, not int"),
        ("cookies", ["a"], "mapping or str, not list"),
        ("cookies", {"a": 1}, "value of a: must be str, not int"),
        ("origin", 1, "must be str"),
        ("subprotocols", "chat", "sequence of str, not str"),
        ("subprotocols", 1, "sequence of str, not int"),
        ("subprotocols", [1], "must be str, not int"),
        ("credentials", ("u", "r", "s"), "must be Credentials, or a callable that returns them, not tuple"),
        ("ssl_context", True, "must be ssl.SSLContext, not bool"),
        ("proxy", False, "must be str, not bool"),
        ("proxy", 8080, "must be str, not int"),
        ("server_hostname", b"h", "must be str, not bytes"),
        ("server_hostname", 7, "must be str, not int"),
        ("local_address", 7, "must be str, not int"),
        ("local_address", ("127.0.0.1",), "must be str, not tuple"),
        ("local_address", (b"127.0.0.1", 0), "must be str, not bytes"),
        ("local_address", ("127.0.0.1", "80"), "port must be int, not str"),
        ("local_address", ("127.0.0.1", True), "port must be int, not bool"),
        ("open_timeout", None, "must be a number of seconds, not NoneType"),
        ("open_timeout", True, "must be a number of seconds, not bool"),
        ("ping_timeout", "20", "must be a number of seconds, not str"),
        ("follow_redirects", True, "must be int, not bool"),
        ("follow_redirects", 1.0, "must be int, not float"),
        ("max_queued_bytes", 1.5, "must be int, not float"),
        ("socket", 7, "must be a connected socket.socket, not int"),
        ("unix_path", 7, "must be a path, not int"),
        ("callback_executor", 7, "must be an Executor, not int"),
        ("on_open", 7, "must be callable, not int"),
        ("on_dropped", "x", "must be callable, not str"),
        ("json_dumps", None, "must be callable, not NoneType"),
    ],
)
def test_wrong_type(name: str, value: object, complaint: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}: .*{complaint}"):
        Options.from_kwargs({name: value})


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("headers", {"": "1"}, "name: not a token"),
        ("headers", {"X A": "1"}, "name: not a token"),
        ("headers", {"X-A:": "1"}, "name: not a token"),
        ("headers", {"X\r\nEvil": "1"}, "name: not a token"),
        ("headers", {"Ü": "1"}, "name: not a token"),
        ("headers", {"X-A": f"{SECRET}\r\nEvil: 1"}, "value of X-A: contains CR, LF, NUL"),
        ("headers", {"X-A": f"{SECRET}\n"}, "value of X-A: contains CR, LF, NUL"),
        ("headers", {"X-A": f"{SECRET}\0"}, "value of X-A: contains CR, LF, NUL"),
        ("headers", {"X-A": f"{SECRET}\udc80"}, "value of X-A: contains a lone surrogate"),
        ("headers", {"upgrade": "h2c"}, "upgrade belongs to the opening handshake"),
        ("headers", {"Connection": "close"}, "Connection belongs"),
        ("headers", {"SEC-WebSocket-Key": "x"}, "SEC-WebSocket-Key belongs"),
        ("headers", {"Sec-WebSocket-Extensions": "x"}, "Sec-WebSocket-Extensions belongs"),
        ("headers", {"Content-Length": "5"}, "Content-Length belongs"),
        ("headers", {"Transfer-Encoding": "chunked"}, "Transfer-Encoding belongs"),
        ("headers", {"Host": "a b"}, "value of Host: must be non-empty ASCII without spaces"),
        ("headers", [("Host", "a"), ("host", "b")], "Host must not be given twice"),
        ("cookies", f"a={SECRET}\r\nEvil: 1", "contains CR, LF, NUL"),
        ("cookies", f"a={SECRET}ü", "must be ASCII"),
        ("cookies", {"a b": SECRET}, "name: not a token"),
        ("cookies", {"a": f"{SECRET}; b=2"}, "value of a: contains a semicolon"),
        ("cookies", {"a": f"{SECRET}\n"}, "value of a: contains CR, LF, NUL"),
        ("origin", "", "non-empty ASCII"),
        ("origin", "https://a\r\nb", "contains CR, LF"),
        ("origin", "https://a b", "without spaces"),
        ("origin", "https://a\tb", "without spaces"),
        ("origin", "https://ü", "must be non-empty ASCII"),
        ("subprotocols", ["a\r\nb"], "not a token"),
        ("subprotocols", ["a,b"], "not a token"),
        ("subprotocols", ["a", ""], "not a token"),
        ("subprotocols", ["a", "a"], "must not repeat a name"),
        ("open_timeout", 0, "over 0"),
        ("close_timeout", -1, "over 0"),
        ("send_timeout", math.nan, "over 0"),
        ("write_timeout", math.inf, "at most 2,000,000 seconds"),
        ("ping_interval", 0, "over 0"),
        ("ping_timeout", -0.1, "over 0"),
        ("follow_redirects", -1, "at least 0"),
        ("max_message_size", 0, "at least 1"),
        ("max_queued_messages", 0, "at least 1"),
        ("max_queued_bytes", -1, "at least 1"),
        ("max_received_messages", 0, "at least 1"),
        ("max_received_bytes", 0, "at least 1"),
        ("overflow", "drop", "must be one of 'block', 'raise', 'drop_oldest', not 'drop'"),
        ("overflow", None, "must be one of"),
        ("compression", "gzip", "must be None, 'deflate' or Deflate"),
        ("fragment_size", 0, "at least 1"),
        ("on_reconnect", print, "needs reconnect"),
        ("delivery", "twice", "must be one of 'at_most_once', 'at_least_once'"),
        ("server_hostname", "", "no host"),
        ("server_hostname", "a b", "bad host name"),
        ("server_hostname", "a\r\nb", "contains CR, LF"),
        ("server_hostname", ".", "bad host name"),
        ("server_hostname", "-a", "bad host name"),
        ("server_hostname", "*.example.com", "bad host name"),
        ("server_hostname", "wss://h/", "a host name or an IP address, without port or zone"),
        ("server_hostname", "h:443", "a host name or an IP address, without port or zone"),
        ("server_hostname", "[::1]:443", "a host name or an IP address, without port or zone"),
        ("server_hostname", "fe80::1%eth0", "a host name or an IP address, without port or zone"),
        ("local_address", "", "must be an IP address of this machine"),
        ("local_address", "localhost", "must be an IP address of this machine"),
        ("local_address", "[::1]", "must be an IP address of this machine"),
        ("local_address", "127.0.0.1:80", "must be an IP address of this machine"),
        ("local_address", ("127.0.0.1", -1), "port must be 0 \\(any\\) to 65535"),
        ("local_address", ("127.0.0.1", 65536), "port must be 0"),
        ("unix_path", "", "must be non-empty"),
        ("unix_path", "/run/a\0b", "without NUL"),
    ],
)
def test_impossible_value(name: str, value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: .*{complaint}") as caught:
        Options.from_kwargs({name: value})
    assert SECRET not in str(caught.value)


def test_ssl_context_and_executor_are_accepted() -> None:
    context = ssl.create_default_context()
    with ThreadPoolExecutor(1) as executor:
        options = Options(ssl_context=context, callback_executor=executor)
    assert (options.ssl_context, options.callback_executor) == (context, executor)


def test_ways_to_the_server_exclude_each_other() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert Options(socket=left).socket is left
        with pytest.raises(ValueError, match="socket: can't be combined with unix_path"):
            Options(socket=left, unix_path="/x")
        with pytest.raises(ValueError, match="socket: can't be combined with proxy"):
            Options(socket=left, proxy="http://h")
        with pytest.raises(ValueError, match="socket: can't be combined with follow_redirects"):
            Options(socket=left, follow_redirects=1)
        with pytest.raises(ValueError, match="local_address: can't be combined with socket"):
            Options(socket=left, local_address="127.0.0.1")
    with pytest.raises(ValueError, match="unix_path: can't be combined with proxy"):
        Options(unix_path="/x", proxy="http://h")
    with pytest.raises(ValueError, match="local_address: can't be combined with unix_path"):
        Options(unix_path="/x", local_address="::1")
    assert Options(proxy="http://h", local_address="::1").local_address == ("::1", 0)


def test_socket_must_not_be_wrapped_in_tls() -> None:
    left, right = socket.socketpair()
    with (
        right,
        ssl.create_default_context().wrap_socket(
            left, server_hostname="h", do_handshake_on_connect=False
        ) as wrapped,
        pytest.raises(TypeError, match="socket: must not be wrapped in TLS"),
    ):
        Options(socket=wrapped)


def test_headers_from_a_callable_are_made_and_checked_at_each_use() -> None:
    tokens = iter(["one", "two"])
    options = Options(headers=lambda: {"Authorization": next(tokens)})
    assert options.request_headers() == (("Authorization", "one"),)
    assert options.request_headers() == (("Authorization", "two"),)
    bad: list[Callable[[], Any]] = [lambda: {"X-A": "a\nb"}, lambda: 3, lambda: {"Upgrade": "x"}]
    for source in bad:
        with pytest.raises((TypeError, ValueError), match="headers: "):
            Options(headers=source).request_headers()


def test_repr_shows_what_was_set_and_no_secret() -> None:
    options = Options(
        headers={"Authorization": SECRET, "X-A": SECRET},
        cookies={"a": SECRET},
        credentials=Credentials("me", "student", SECRET),
        proxy=f"http://user:{SECRET}@proxy:3128",
        open_timeout=3,
    )
    assert repr(options) == (
        "Options(headers={'Authorization': ..., 'X-A': ...}, cookies=..., "
        "credentials=Credentials(user_id='me', role='student', session_id=...), "
        "proxy=Proxy('http://proxy:3128'), open_timeout=3.0)"
    )
    assert repr(Options()) == "Options()"
    assert repr(Options(headers=lambda: {})) == "Options(headers=...)"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("timeout", "open_timeout"),
        ("sslopt", "ssl_context"),
        ("additional_headers", "headers"),
        ("source_address", "local_address"),
    ],
)
def test_names_of_other_clients_get_a_hint(name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"unknown option '{name}'; did you mean '{meant}'"):
        Options.from_kwargs({name: 1})
