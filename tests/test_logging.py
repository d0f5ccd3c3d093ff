"""What a connection writes to its log: enough to follow it, and nothing that is secret."""

from __future__ import annotations

import base64
import logging
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

import wsclient
from wsclient import Connection, Credentials
from wsclient.options import Options
from wsclient.testing import (
    FaultServer,
    Step,
    accept_upgrade,
    cut,
    http_response,
    read_messages,
    read_until_close,
    reset,
    send_close,
    send_raw,
    send_text,
    stop_reading,
)

pytestmark = pytest.mark.timeout(30)

BOUND = 10.0  # seconds; what is waited for comes much sooner, or never

SECRETS = (
    "s3cret-user",
    "s3cret-password",
    "s3cret-query",
    "s3cret-authorization",
    "s3cret-cookie",
    "s3cret-jar",
    "s3cret-session",
    "s3cret-proxy",
    "s3cret-set-cookie",
    "s3cret-message",
    base64.b64encode(b"s3cret-user:s3cret-password").decode(),
    base64.b64encode(b"s3cret-proxy:s3cret-proxy").decode(),
)


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    """Every record of every logger, websocket-client's too."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "wsclient")
    caplog.set_level(logging.DEBUG, "websocket")


def secret_options(**more: Any) -> dict[str, Any]:
    return {
        "proxy": None,
        "ping_interval": None,
        "headers": {"Authorization": "Bearer s3cret-authorization", "Cookie": "a=s3cret-cookie"},
        "cookies": {"b": "s3cret-jar"},
        "credentials": Credentials("user", "role", "s3cret-session"),
        **more,
    }


def secret_url(server: FaultServer) -> str:
    return f"ws://s3cret-user:s3cret-password@127.0.0.1:{server.port}/path?token=s3cret-query"


def mine(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "wsclient"]


def in_full(record: logging.LogRecord) -> str:
    """All that any formatter could show of it."""
    trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    return f"{record.getMessage()} {record.args!r} {trace}"


def assert_no_secret(*texts: str) -> None:
    for text in texts:
        assert [secret for secret in SECRETS if secret in text] == []


def all_records(caplog: pytest.LogCaptureFixture) -> list[str]:
    # The scripted server's records are the test's own.
    return [in_full(record) for record in caplog.records if not record.name.startswith("wsclient.testing")]


SET_COOKIE = {"Set-Cookie": "c=s3cret-set-cookie", "X-Token": "s3cret-set-cookie"}

LIVES: list[tuple[str, Sequence[Step]]] = [
    ("closed here", [accept_upgrade(SET_COOKIE), send_text("s3cret-message"), read_until_close()]),
    ("closed there", [accept_upgrade(SET_COOKIE), send_close(1000), read_until_close()]),
    ("reset", [accept_upgrade(SET_COOKIE), reset()]),
    ("cut", [accept_upgrade(SET_COOKIE), cut()]),
    ("protocol error", [accept_upgrade(SET_COOKIE), send_text(b"s3cret-message\xff"), read_until_close()]),
]


class TestNothingSecret:
    @pytest.mark.parametrize("script", [steps for _, steps in LIVES], ids=[name for name, _ in LIVES])
    def test_in_the_life_of_a_connection(
        self, script: Sequence[Step], caplog: pytest.LogCaptureFixture
    ) -> None:
        closed = threading.Event()
        with FaultServer(*script) as server:
            more = secret_options(on_close=lambda *_: closed.set())
            conn = wsclient.connect(secret_url(server), **more)
            shown = [repr(conn), str(conn), conn.url, repr(conn.credentials)]
            request = server.connections[0]
            assert "s3cret-query" in request.target
            assert "s3cret-session" in request.target
            assert request.headers["authorization"] == "Bearer s3cret-authorization"
            assert {"a=s3cret-cookie", "b=s3cret-jar"} == set(request.headers["cookie"].split("; "))
            conn.close(timeout=BOUND)
            assert closed.wait(BOUND)
            with pytest.raises(wsclient.ConnectionClosed) as caught:
                conn.send("s3cret-message")
            error = caught.value
        assert len(mine(caplog)) >= 2
        assert_no_secret(
            *all_records(caplog), *shown, repr(conn), repr(conn.stats()), str(error), repr(error)
        )

    @pytest.mark.parametrize(
        "script",
        [
            [http_response(401, SET_COOKIE, body=b"s3cret-message")],
            [http_response(302, {"Location": "/?token=s3cret-query", **SET_COOKIE})],
            [send_raw(b"HTTP/1.1 s3cret-message\r\n\r\n")],
            [accept_upgrade(SET_COOKIE, wrong_key=True)],
            [reset()],
        ],
        ids=["401", "302", "garbage", "wrong key", "reset"],
    )
    def test_in_a_refusal(self, script: Sequence[Step], caplog: pytest.LogCaptureFixture) -> None:
        with FaultServer(*script) as server:
            conn = Connection(secret_url(server), **secret_options(open_timeout=2))
            with pytest.raises(wsclient.HandshakeError) as caught:
                conn.open()
        shown = "".join(traceback.format_exception(caught.value))
        assert "token=..." in str(caught.value)
        assert_no_secret(*all_records(caplog), repr(conn), str(caught.value), repr(caught.value), shown)

    def test_in_a_redirect(self, caplog: pytest.LogCaptureFixture) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as target:
            location = f"ws://127.0.0.1:{target.port}/there?token=s3cret-query"
            with FaultServer(http_response(302, {"Location": location})) as server:
                conn = wsclient.connect(secret_url(server), **secret_options(follow_redirects=1))
                conn.close(timeout=BOUND)
        assert conn.url.endswith("/there?token=...")
        assert any("redirected" in record.getMessage() for record in mine(caplog))
        assert_no_secret(*all_records(caplog), repr(conn), conn.url)

    def test_of_a_proxy(self, caplog: pytest.LogCaptureFixture) -> None:
        refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        with FaultServer(send_raw(refusal), stop_reading()) as server:
            proxy = f"http://s3cret-proxy:s3cret-proxy@127.0.0.1:{server.port}"
            conn = Connection("ws://127.0.0.1:1/?token=s3cret-query", **secret_options(proxy=proxy))
            with pytest.raises(wsclient.HandshakeError) as caught:
                conn.open(timeout=BOUND)
            assert caught.value.status == 407
        assert_no_secret(*all_records(caplog), repr(conn), str(caught.value), repr(caught.value))

    def test_in_what_was_not_sent(self, caplog: pytest.LogCaptureFixture) -> None:
        with FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096) as server:
            conn = wsclient.connect(secret_url(server), **secret_options(max_queued_bytes=64 << 20))
            for _ in range(20):
                conn.send("s3cret-message" * 70_000)
            conn.abort()
            with pytest.raises(wsclient.ConnectionClosed) as caught:
                conn.recv()
        assert conn.unsent
        assert any("unsent" in record.getMessage() for record in mine(caplog))
        assert_no_secret(*all_records(caplog), repr(conn), str(caught.value), repr(caught.value))

    def test_in_options(self) -> None:
        assert_no_secret(
            repr(Options.from_kwargs(secret_options(proxy="http://s3cret-proxy:s3cret-proxy@host")))
        )

    @pytest.mark.parametrize(
        "bad",
        [
            {"headers": {"Authorization": "s3cret-authorization\r\n"}},
            {"cookies": "a=s3cret-cookie\n"},
            {"cookies": {"a": "s3cret-cookie;"}},
            {"proxy": "http://s3cret-proxy:s3cret-proxy@host:port"},
            {"proxy": "socks6://s3cret-proxy:s3cret-proxy@host"},
            {"proxy": f"socks5://s3cret-proxy:{'s3cret-proxy' * 30}@host"},
            {"proxy": "socks4://s3cret-proxy:s3cret-proxy@host"},
        ],
        ids=["header", "cookie line", "cookie", "proxy port", "proxy scheme", "proxy login", "proxy user id"],
    )
    def test_in_the_error_for_a_bad_option(self, bad: dict[str, Any]) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011  every option has its own text
            Connection("ws://127.0.0.1/", **bad)
        assert next(iter(bad)) in str(caught.value)
        assert_no_secret(str(caught.value))

    @pytest.mark.parametrize(
        "url",
        [
            "ws://s3cret-user:s3cret-password@host:port/",
            "http://s3cret-user:s3cret-password@host/?token=s3cret-query",
            "ws://host/?token=s3cret-query#fragment",
            "ws://host/?token=s3cret-query\n",
        ],
    )
    def test_in_the_error_for_a_bad_url(self, url: str) -> None:
        with pytest.raises(ValueError, match="url") as caught:
            Connection(url)
        assert_no_secret(str(caught.value))


class TestRecords:
    def test_each_says_which_connection_it_is_about(self, caplog: pytest.LogCaptureFixture) -> None:
        names = []
        for _ in range(2):
            with FaultServer(accept_upgrade(), read_until_close()) as server:
                conn = wsclient.connect(server.url, proxy=None)
                names.append(repr(conn).split()[1])
                conn.close(timeout=BOUND)
        assert names[0] != names[1]
        assert {getattr(record, "connection_id", None) for record in mine(caplog)} == set(names)

    def test_also_where_it_was_redirected_or_refused(self, caplog: pytest.LogCaptureFixture) -> None:
        with FaultServer(
            scripts=[[http_response(302, {"Location": "/again"})], [http_response(503)]]
        ) as server:
            conn = Connection(server.url, proxy=None, follow_redirects=1)
            with pytest.raises(wsclient.HandshakeError):
                conn.open(timeout=BOUND)
        ids = {getattr(record, "connection_id", None) for record in mine(caplog)}
        assert ids == {repr(conn).split()[1]}

    def test_an_ordinary_life_is_worth_no_attention(self, caplog: pytest.LogCaptureFixture) -> None:
        with FaultServer(accept_upgrade(), read_messages(1), read_until_close()) as server:
            conn = wsclient.connect(server.url, proxy=None)
            conn.send("hello")
            conn.close(timeout=BOUND)
        assert {record.levelno for record in mine(caplog)} == {logging.DEBUG}

    def test_an_exception_in_a_callback_comes_with_its_traceback(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        told: Future[tuple[Connection, BaseException]] = Future()

        def on_message(conn: Connection, message: str | bytes) -> None:
            raise LookupError("raised in on_message")

        more: dict[str, Any] = {
            "on_message": on_message,
            "on_error": lambda *arguments: told.set_result(arguments),
        }
        with (
            FaultServer(accept_upgrade(), send_text("go"), read_until_close()) as server,
            wsclient.connect(server.url, proxy=None, **more) as conn,
        ):
            told_about, error = told.result(BOUND)
            assert told_about is conn
            assert isinstance(error, LookupError)
        records = [record for record in mine(caplog) if record.levelno == logging.ERROR]
        assert len(records) == 1
        assert "on_message" in records[0].getMessage()
        assert "raised in on_message" in in_full(records[0])
        assert __file__ in in_full(records[0]), "where it was raised"

    def test_an_exception_in_on_error_is_the_end_of_it(self, caplog: pytest.LogCaptureFixture) -> None:
        told = threading.Event()

        def fail(_: Connection, cause: object) -> None:
            if isinstance(cause, Exception):
                told.set()
            raise LookupError(f"about {cause}")

        with (
            FaultServer(accept_upgrade(), send_text("go"), read_until_close()) as server,
            wsclient.connect(server.url, proxy=None, on_message=fail, on_error=fail) as conn,
        ):
            assert told.wait(BOUND)
            conn.confirm(BOUND)
            assert conn.stats().callback_errors == 2
        assert sum(record.levelno == logging.ERROR for record in mine(caplog)) == 2

    @pytest.mark.parametrize("kind", [SystemExit, LookupError])
    def test_an_exception_in_a_callback_of_a_future(
        self, kind: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        called = threading.Event()

        def fail(_: object) -> None:
            called.set()
            raise kind("in a callback of a future")

        server = FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096)
        with server:
            conn = wsclient.connect(server.url, proxy=None)
            conn.ping().add_done_callback(fail)
            conn.abort()
            assert called.is_set()
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1
        assert "in a callback of a future" in in_full(errors[0])
        assert all(hasattr(record, "connection_id") for record in mine(caplog))
