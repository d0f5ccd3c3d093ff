"""``TestClient``: what it sends, how it reads, what it says when a wait fails. Real servers throughout."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import wsclient
from wsclient import ConnectionClosed, Credentials, HandshakeError, WSClientError
from wsclient.testing import (
    ClosedWhileWaiting,
    FaultServer,
    Server,
    ServerConnection,
    TestClient,
    UnparsedMessage,
    WaitFailed,
    WaitTimeout,
    accept_upgrade,
    cut,
    echo,
    http_response,
    read_messages,
    read_until_close,
    recorder,
    send_binary,
    send_close,
    send_frame,
    send_text,
    serve,
    stall,
    stop_reading,
)
from wsclient.testing.client import websocket_url
from wsclient.testing.mailbox import Mailbox
from wsclient.testing.transcript import Direction, Transcript, shortened

pytestmark = pytest.mark.timeout(30)

SOON = 0.05  # seconds to wait for what does not come


@pytest.fixture
def server(no_leaks: None) -> Iterator[Server]:
    with serve(echo) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[TestClient]:
    with client_of(server.url) as connected:
        yield connected


def client_of(url: str, **options: Any) -> TestClient:
    return TestClient("ada", "student", "class-1", url, **options)


def scripted(*steps: Callable[..., None]) -> FaultServer:
    return FaultServer(accept_upgrade(), *steps)


def test_pytest_does_not_collect_it() -> None:
    assert TestClient.__test__ is False


class TestConnecting:
    @pytest.mark.parametrize(
        ("given", "used"),
        [
            ("http://host", "ws://host/ws"),
            ("https://host:444", "wss://host:444/ws"),
            ("ws://host/", "ws://host/ws"),
            ("wss://host/chat", "wss://host/chat"),
            ("http://host/a/b?room=1", "ws://host/a/b?room=1"),
            ("http://[::1]:80?room=1", "ws://[::1]:80/ws?room=1"),
        ],
    )
    def test_the_url_is_completed(self, given: str, used: str) -> None:
        assert websocket_url(given) == used

    def test_the_server_is_told_who_it_is(self, server: Server) -> None:
        with client_of(server.url.replace("ws://", "http://")) as client:
            assert client.is_connected
            assert client.connection.credentials == Credentials("ada", "student", "class-1")
        (seen,) = server.connections
        assert seen.path == "/ws"
        assert seen.query == {"user_id": "ada", "role": "student", "session_id": "class-1"}

    def test_https_means_tls(self, no_leaks: None) -> None:
        with serve(echo, tls=True) as server:
            url = server.url.replace("wss://", "https://") + "/live"
            with client_of(url, ssl_context=server.ssl_context) as client:
                client.send_json([1])
                assert client.receive() == [1]
            assert server.connections[0].path == "/live"

    def test_a_refusal_is_passed_on(self) -> None:
        with FaultServer(http_response(403)) as server:
            client = client_of(server.url)
            with pytest.raises(HandshakeError) as caught:
                client.connect(timeout=10)
            assert caught.value.status == 403
            assert "connect failed" in str(client.transcript)
            with pytest.raises(ClosedWhileWaiting):
                client.receive()

    def test_a_wait_before_connecting_is_refused(self, server: Server) -> None:
        client = client_of(server.url)
        waits: list[Callable[[], object]] = [client.receive, client.wait_for, client.wait_closed, client.ping]
        waits.append(lambda: client.expect_silence(SOON))
        for wait in waits:
            with pytest.raises(WSClientError, match=r"call connect\(\) first"):
                wait()

    @pytest.mark.parametrize("name", ["on_message", "on_close", "on_error", "credentials"])
    def test_its_own_options_are_refused(self, name: str) -> None:
        with pytest.raises(TypeError, match=f"{name!r} is the TestClient's own"):
            client_of("ws://host", **{name: None})

    def test_an_unknown_option_is_refused(self) -> None:
        with pytest.raises(TypeError, match="'open_timeouts'"):
            client_of("ws://host", open_timeouts=1)

    def test_leaving_with_an_error_says_so_to_the_server(self, server: Server) -> None:
        with pytest.raises(ZeroDivisionError), client_of(server.url) as client:
            raise ZeroDivisionError
        server.wait_closed()
        assert server.connections[0].close_code == 1011
        assert not client.is_connected

    def test_entering_a_connected_one_changes_nothing(self, server: Server) -> None:
        with client_of(server.url).connect() as client:
            assert client.is_connected
        assert len(server.connections) == 1


class TestSending:
    def test_messages_have_the_shape_that_servers_expect(self, server: Server, client: TestClient) -> None:
        client.send_message("request")
        client.send_message("answer", "exercise", {"line": 3}, to_user="bob")
        client.send_quick_message("note", "hi")
        client.send_direct_message("whisper", "psst", "bob")
        client.send_json({"any": "thing"})
        client.send_raw("raw")
        client.send_raw(b"\x00")
        server.assert_received(
            [
                {"type": "request", "context": "general", "content": None},
                {"type": "answer", "context": "exercise", "content": {"line": 3}, "to_user": "bob"},
                {"type": "note", "context": "general", "content": {"text": "hi"}},
                {"type": "whisper", "context": "general", "content": {"text": "psst"}, "to_user": "bob"},
                {"any": "thing"},
                "raw",
                b"\x00",
            ]
        )
        client.send_json("last")
        assert client.receive_many(6)[-1] == "last"
        assert [type(error) for error in client.errors] == [UnparsedMessage, UnparsedMessage]

    def test_a_refused_message_is_in_the_transcript(self, client: TestClient) -> None:
        client.close()
        with pytest.raises(ConnectionClosed):
            client.send_raw("too late")
        assert "not accepted" in str(client.transcript)

    def test_many_threads_share_one(self, server: Server, client: TestClient) -> None:
        threads, count = 8, 50

        def send_all(name: int) -> None:
            for number in range(count):
                client.send_json([name, number])

        with ThreadPoolExecutor(threads) as pool:
            for job in [pool.submit(send_all, name) for name in range(threads)]:
                job.result(20)
        messages = client.receive_many(threads * count)
        for name in range(threads):
            assert [number for sender, number in messages if sender == name] == list(range(count))


class TestReading:
    def test_messages_come_in_order(self, client: TestClient) -> None:
        for number in range(3):
            client.send_json(number)
        assert client.receive() == 0
        assert client.receive_many(2) == [1, 2]
        assert client.received == [0, 1, 2]
        assert client.drain() == []

    def test_drain_takes_what_is_there(self, client: TestClient) -> None:
        client.send_json(1)
        client.send_json(2)
        client.wait_for(where=lambda message: message == 2)
        assert client.drain() == [1]
        assert client.drain() == []

    def test_too_few_stay_unread(self, client: TestClient) -> None:
        client.send_json(1)
        client.wait_for(where=lambda message: message == 1)
        client.send_json(2)
        with pytest.raises(WaitTimeout, match="2 messages"):
            client.receive_many(2, timeout=SOON)
        assert client.receive() == 2

    def test_wait_for_leaves_what_it_skipped(self, client: TestClient) -> None:
        sent = [
            "text",
            {"type": "ack"},
            {"type": "answer", "from_user": "bob", "n": 1},
            {"type": "answer", "from_user": "eve", "n": 2},
            {"type": "answer", "from_user": "eve", "n": 3},
        ]
        for message in sent:
            client.send_json(message)
        assert client.wait_for(type="answer", from_user="eve") == sent[3]
        assert client.wait_for(where=lambda message: "n" in message and message["n"] > 1) == sent[4]
        assert client.wait_for(from_user="bob") == sent[2]
        assert client.wait_for() == "text"
        assert client.receive() == {"type": "ack"}

    def test_what_a_condition_raises_is_passed_on(self, client: TestClient) -> None:
        client.send_json([])
        with pytest.raises(IndexError):
            client.wait_for(where=lambda message: bool(message[0]))
        assert client.receive() == []

    def test_two_threads_never_get_the_same_message(self, client: TestClient) -> None:
        with ThreadPoolExecutor(4) as pool:
            waits = [pool.submit(client.wait_for, type="job") for _ in range(40)]
            for number in range(40):
                client.send_json({"type": "job", "n": number})
            got = [wait.result(20)["n"] for wait in waits]
        assert sorted(got) == list(range(40))

    def test_a_message_taken_meanwhile_is_passed_over(self) -> None:
        mailbox = Mailbox()
        for message in ("a", "b"):
            mailbox.add(message)

        def matches(message: str) -> bool:
            if message == "a":
                assert mailbox.take(1, 0) == ["a"]  # as another thread might, between look and claim
            return True

        assert mailbox.take_match(matches, 0) == ("b",)

    def test_what_is_no_json_is_kept(self) -> None:
        with (
            scripted(send_text("{"), send_binary(b"\xff"), send_text("[7]"), read_until_close()) as server,
            client_of(server.url) as client,
        ):
            assert client.receive() == [7]
            first, second = client.errors
            assert isinstance(first, UnparsedMessage)
            assert isinstance(second, UnparsedMessage)
            assert (first.message, second.message) == ("{", b"\xff")
            assert client.received == [[7]]

    def test_the_parser_is_the_connections(self, server: Server) -> None:
        def tagged(text: str | bytes) -> str:
            return f"<{text!r}>"

        with client_of(server.url, json_loads=tagged) as client:
            client.send_raw("x")
            assert client.receive() == "<'x'>"

    def test_errors_of_the_connection_are_kept(self) -> None:
        with scripted(send_frame(3, b""), read_until_close()) as server, client_of(server.url) as client:
            assert client.wait_closed() == 1002
            assert [type(error) for error in client.errors] == [wsclient.ProtocolError]


class TestSilence:
    def test_silence_is_silent(self, client: TestClient) -> None:
        client.expect_silence(SOON)

    def test_an_unread_message_breaks_it(self, client: TestClient) -> None:
        client.send_json({"type": "noise"})
        with pytest.raises(WaitFailed, match=r"20 s of silence, but there was \{'type': 'noise'") as caught:
            client.expect_silence(20)
        assert not isinstance(caught.value, TimeoutError)

    def test_what_is_no_json_breaks_it(self) -> None:
        with (
            scripted(read_messages(1), send_text("?"), read_until_close()) as server,
            client_of(server.url) as client,
        ):
            client.send_raw("go")
            with pytest.raises(WaitFailed, match="something came that is no JSON"):
                client.expect_silence(20)
            assert len(client.errors) == 1

    def test_a_dead_connection_is_no_silence(self, client: TestClient) -> None:
        client.close()
        with pytest.raises(WaitFailed, match=r"the connection is closed \(code 1000\)"):
            client.expect_silence(SOON)


class TestEnding:
    def test_the_servers_code_is_returned(self) -> None:
        with (
            scripted(send_close(4001, "go"), read_until_close(reply=False)) as server,
            client_of(server.url) as client,
        ):
            assert client.wait_closed() == 4001
            assert not client.is_connected

    def test_a_wait_ends_with_the_connection(self) -> None:
        with scripted(read_messages(1), cut()) as server, client_of(server.url) as client:
            client.send_raw("bye")
            with pytest.raises(ClosedWhileWaiting, match="closed with code 1006") as caught:
                client.receive(timeout=20)
        error = caught.value
        assert isinstance(error, AssertionError)
        assert isinstance(error, ConnectionClosed)
        assert (error.code, error.unsent) == (1006, ())

    def test_what_came_before_the_end_can_still_be_read(self) -> None:
        with (
            scripted(send_text("[1]"), send_text("[2]"), send_close(), read_until_close()) as server,
            client_of(server.url) as client,
        ):
            client.wait_closed()
            assert client.wait_for(where=lambda message: message == [2]) == [2]
            assert client.receive() == [1]

    def test_what_was_not_sent_is_complained_about_until_it_is_looked_at(self) -> None:
        with scripted(stop_reading()) as server, client_of(server.url) as client:
            client.send_raw(b"x" * 8_000_000)
            client.send_raw("after")
            client.abort()
            (complaint,) = client.complaints()
            assert "accepted message(s) lost" in complaint
            assert client.unsent[-1] == "after"
            assert client.complaints() == []

    def test_errors_are_complained_about_until_they_are_looked_at(self, client: TestClient) -> None:
        client.send_raw("no json")
        client.send_json(1)
        client.receive()
        (complaint,) = client.complaints()
        assert "error not read: not JSON" in complaint
        assert len(client.errors) == 1
        assert client.complaints() == []

    def test_ping_is_a_round_trip(self, client: TestClient) -> None:
        assert client.ping() > 0
        client.close()
        with pytest.raises(ConnectionClosed):
            client.ping()


class TestFailedWaits:
    def test_it_says_what_was_awaited_and_what_happened(self, client: TestClient) -> None:
        for name in ("question", "other", "last"):
            client.send_json({"type": name})
        client.wait_for(type="question")
        client.wait_for(type="last")
        with pytest.raises(WaitTimeout) as caught:
            client.wait_for(type="answer", from_user="bob", where=bool, timeout=SOON)
        error, text = caught.value, str(caught.value)
        assert isinstance(error, wsclient.Timeout)
        assert isinstance(error, TimeoutError)
        assert isinstance(error, AssertionError)
        assert f"waited {SOON:g} s for a message with type='answer', from_user='bob', where=bool" in text
        assert "unread: {'type': 'other'}" in text
        assert "->  {'type': 'question'}" in text
        assert """<-  '{"type": "question"}'""" in text
        assert "--  connected to ws://127.0.0.1" in text
        assert "deadlock" not in text

    def test_unread_errors_are_named(self, client: TestClient) -> None:
        client.send_raw("no json")
        client.send_json(1)
        client.receive()
        with pytest.raises(WaitTimeout, match="a message that did not come") as caught:
            client.wait_for(timeout=SOON)
        assert "error: not JSON" in str(caught.value)
        assert len(client.errors) == 1

    def test_the_default_timeout_is_the_clients(self, server: Server) -> None:
        with client_of(server.url, timeout=SOON) as client:
            for wait in (client.receive, client.wait_for, client.wait_closed):
                with pytest.raises(WaitTimeout, match=f"waited {SOON:g} s"):
                    wait()

    def test_a_peer_without_a_pong_looks_like_a_deadlock(self) -> None:
        with scripted(stall()) as server:
            client = client_of(server.url).connect()
            with pytest.raises(WaitTimeout, match="answered no ping") as caught:
                client.ping(timeout=SOON)
            client.abort()
        text = str(caught.value)
        assert "this looks like a deadlock" in text
        assert "wsclient-writer" in text
        assert "thread 'MainThread'" in text
        assert text.count('File "') > 3

    def test_a_handler_that_waits_for_the_test_looks_like_a_deadlock(self, no_leaks: None) -> None:
        go_on = threading.Event()

        def handler(connection: ServerConnection) -> None:
            connection.recv()
            go_on.wait(20)
            connection.send("[1]")

        with serve(handler) as server, client_of(server.url) as client:
            client.send_raw("first")
            server.wait_for_messages(1)
            with pytest.raises(WaitTimeout, match="wsclient-testing-handler-0 waits, but not for its client"):
                client.receive(timeout=SOON)
            go_on.set()
            assert client.receive() == [1]

    def test_a_handler_that_waits_for_its_client_does_not(self, no_leaks: None) -> None:
        def handler(connection: ServerConnection) -> None:
            for message in connection:
                connection.send(message)

        with serve(handler) as server, client_of(server.url) as client:
            client.send_json(1)
            client.receive()
            with pytest.raises(WaitTimeout) as caught:
                client.receive(timeout=SOON)
        assert "deadlock" not in str(caught.value)

    def test_a_connection_that_ends_during_the_inquiry_is_no_deadlock(self, no_leaks: None) -> None:
        with serve(recorder) as server, client_of(server.url) as client:
            client.abort()
            with pytest.raises(ClosedWhileWaiting) as caught:
                client.receive()
        assert "deadlock" not in str(caught.value)

    def test_many_unread_messages_are_counted(self, client: TestClient) -> None:
        for number in range(12):
            client.send_json(number)
        client.wait_for(where=lambda message: message == 11)
        with pytest.raises(WaitTimeout, match=r"unread: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1 more"):
            client.receive_many(12, timeout=SOON)


class TestTranscript:
    def test_it_keeps_the_end(self) -> None:
        transcript = Transcript()
        for number in range(250):
            transcript.note(Direction.NOTE, f"event {number};")
        text = str(transcript)
        assert "(50 earlier lines left out)" in text
        assert "event 49;" not in text
        assert "event 50;" in text
        assert "event 249;" in text

    def test_it_may_be_empty(self) -> None:
        assert "nothing happened" in str(Transcript())

    def test_long_messages_are_shortened(self) -> None:
        assert shortened("a" * 1000).endswith("(1000 characters)")
        assert shortened(b"a" * 1000).endswith("(1000 bytes)")
        assert shortened("short") == "'short'"
        assert len(shortened("a" * 100_000)) < 200
