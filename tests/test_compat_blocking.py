"""``compat.WebSocket`` and ``create_connection``: most tests run with websocket-client, too."""

from __future__ import annotations

import gc
import multiprocessing
import socket
import ssl
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import websocket
from compat_scenarios import leaking
from conftest import HOST

from wsclient import ConnectionClosed, SendTimeout, compat
from wsclient.testing import (
    FaultServer,
    Peer,
    Step,
    accept_upgrade,
    black_hole,
    cut,
    echo,
    http_response,
    no_close_reply,
    read_frames,
    read_messages,
    read_until_close,
    reset,
    send_binary,
    send_close,
    send_continuation,
    send_ping,
    send_pong,
    send_text,
    serve,
    stall,
    step,
    stop_reading,
)

BOUND = 10.0
SHORT = 0.05
UP = accept_upgrade()
BYE = (send_close(1000, "bye"), read_until_close(reply=False))
Module = Any


@pytest.fixture(params=[websocket, compat], ids=["websocket", "compat"])
def module(request: pytest.FixtureRequest) -> Iterator[Module]:
    """websocket-client, and what stands in for it."""
    with leaking():
        yield request.param


@step
def _read_once(peer: Peer, wanted: threading.Event) -> None:
    assert wanted.wait(BOUND)


def _use_in_child(ws: Any) -> None:
    for use in (lambda: ws.send("x"), ws.ping, ws.abort, ws.close):
        with pytest.raises(websocket.WebSocketException, match="belongs to the parent process"):
            use()


class TestBoth:
    def test_echo(self, module: Module) -> None:
        with serve(echo) as server:
            ws = module.create_connection(server.url, timeout=BOUND)
            assert ws.connected is True
            sizes = ws.send("hello"), ws.send_text("é"), ws.send_binary(b"1"), ws.send_bytes(b"x" * 200)
            assert sizes == (11, 8, 7, 208)
            assert [ws.recv() for _ in range(4)] == ["hello", "é", b"1", b"x" * 200]
            assert ws.send("binary", module.ABNF.OPCODE_BINARY) == 12
            assert ws.send(b"text") == 10
            assert [ws.recv_data(), ws.recv_data()] == [(2, b"binary"), (1, b"text")]
            ws.close()
            assert ws.connected is False

    def test_payloads_of_other_types(self, module: Module) -> None:
        with serve(echo) as server, closing(module.create_connection(server.url, timeout=BOUND)) as ws:
            for payload in (5, 0, True, 1.5, {"a": 1}):
                for send in (ws.send, ws.send_binary, ws.ping):
                    with pytest.raises(TypeError):
                        send(payload)
            ws.ping(None)
            assert [ws.send(None), ws.send([104, 105])] == [6, 8]
            assert [ws.recv(), ws.recv()] == ["", "hi"]

    def test_a_time_out_of_0_is_non_blocking(self, module: Module) -> None:
        with serve(echo) as server, closing(module.create_connection(server.url, timeout=BOUND)) as ws:
            ws.settimeout(0)
            with pytest.raises(BlockingIOError):
                ws.recv()
            ws.settimeout(BOUND)
            ws.send("still there")
            assert ws.recv() == "still there"

    def test_what_the_server_answered(self, module: Module) -> None:
        with FaultServer(accept_upgrade({"X-More": "1", "Sec-WebSocket-Protocol": "b"}), *BYE) as server:
            ws = module.WebSocket()
            assert (ws.getstatus(), ws.getheaders(), ws.getsubprotocol(), ws.is_ssl()) == (
                None,
                None,
                None,
                False,
            )
            ws.connect(server.url, subprotocols=["a", "b"])
            assert (ws.status, ws.getstatus()) == (101, 101)
            assert ws.headers["x-more"] == ws.getheaders()["x-more"] == "1"
            assert (ws.subprotocol, ws.getsubprotocol(), ws.is_ssl()) == ("b", "b", False)
            assert ws.handshake_response.status == 101
            ws.close()

    def test_the_end_by_the_server(self, module: Module) -> None:
        with FaultServer(UP, send_text("last"), *BYE) as server:
            ws = module.create_connection(server.url)
            assert ws.recv() == "last"
            assert ws.recv() == ""
            assert ws.connected is False
            with pytest.raises(module.WebSocketConnectionClosedException):
                ws.recv()

    def test_the_close_frame(self, module: Module) -> None:
        with FaultServer(UP, *BYE) as server:
            ws = module.create_connection(server.url)
            assert ws.recv_data() == (8, b"\x03\xe8bye")

    def test_the_end_without_a_close_frame(self, module: Module) -> None:
        with FaultServer(UP, send_text("last"), cut()) as server:
            ws = module.create_connection(server.url)
            assert ws.recv() == "last"
            with pytest.raises(module.WebSocketConnectionClosedException):
                ws.recv()
            assert ws.connected is False

    def test_iteration(self, module: Module) -> None:
        with FaultServer(UP, send_text("1"), send_binary(b"2"), send_text("3"), *BYE) as server:
            ws = module.create_connection(server.url)
            assert (next(ws), ws.next()) == ("1", b"2")
            messages = iter(ws)
            assert [next(messages), next(messages)] == ["3", ""]
            with pytest.raises(module.WebSocketConnectionClosedException):
                next(messages)

    def test_control_frames(self, module: Module) -> None:
        with FaultServer(
            UP, send_ping(b"p"), send_pong(b"q"), send_text("t"), read_frames(3), *BYE
        ) as server:
            ws = module.create_connection(server.url)
            assert ws.recv_data(control_frame=True) == (9, b"p")
            opcode, frame = ws.recv_data_frame(True)
            assert (opcode, frame.opcode, frame.data, frame.fin) == (10, 10, b"q", 1)
            assert ws.recv_data(True) == (1, b"t")
            ws.ping("mine")
            ws.pong(b"unasked")
            assert ws.recv_data() == (8, b"\x03\xe8bye")
            frames = [(frame.opcode, frame.payload) for frame in server.connections[0].frames[:3]]
            assert frames == [(10, b"p"), (9, b"mine"), (10, b"unasked")]

    def test_time_out_of_recv(self, module: Module) -> None:
        with FaultServer(UP, read_messages(1), send_text("late"), *BYE) as server:
            ws = module.create_connection(server.url, timeout=BOUND)
            assert ws.gettimeout() == ws.timeout == BOUND
            ws.settimeout(SHORT)
            with pytest.raises(module.WebSocketTimeoutException):
                ws.recv()
            ws.timeout = None
            assert ws.gettimeout() is None
            ws.send("now")
            assert ws.recv() == "late"
            ws.close()

    def test_default_time_out(self, module: Module) -> None:
        module.setdefaulttimeout(0.4)
        try:
            assert module.getdefaulttimeout() == 0.4
            with FaultServer(UP, read_until_close()) as server:
                ws = module.create_connection(server.url)
                with pytest.raises(module.WebSocketTimeoutException):
                    ws.recv()
                ws.close()
        finally:
            module.setdefaulttimeout(None)

    def test_time_out_of_connect(self, module: Module) -> None:
        with FaultServer(black_hole()) as server, pytest.raises(module.WebSocketTimeoutException):
            module.create_connection(server.url, timeout=SHORT)

    def test_fragments(self, module: Module) -> None:
        script = (
            UP,
            send_text("a", fin=False),
            send_continuation(b"b", fin=False),
            send_continuation(b"c"),
            *BYE,
        )
        with FaultServer(*script) as server:
            ws = module.create_connection(server.url)
            assert ws.recv() == "abc"
            ws.close()
        with FaultServer(*script) as server:
            ws = module.create_connection(server.url, fire_cont_frame=True)
            assert [ws.recv_data() for _ in range(3)] == [(1, b"a"), (0, b"b"), (0, b"c")]
            ws.close()

    def test_frames(self, module: Module) -> None:
        frame_of = module.ABNF.create_frame
        with serve(echo) as server:
            ws = module.create_connection(server.url)
            sizes = [
                ws.send_frame(frame_of("My name is ", module.ABNF.OPCODE_TEXT, 0)),
                ws.send_frame(frame_of(b"Foo ", module.ABNF.OPCODE_CONT, 0)),
                ws.send_frame(frame_of(b"Bar", module.ABNF.OPCODE_CONT, 1)),
            ]
            assert sizes == [17, 10, 9]
            assert ws.recv() == "My name is Foo Bar"
            ws.close()

    def test_close_with_code(self, module: Module) -> None:
        with FaultServer(UP, read_until_close()) as server:
            ws = module.create_connection(server.url)
            ws.close(status=4001, reason=b"enough", timeout=BOUND)
            server.wait_closed()
            assert server.connections[0].frames[-1].payload == b"\x0f\xa1enough"
            assert ws.close_frame.data == b"\x0f\xa1enough"
            ws.close()
            for call in (ws.recv, lambda: ws.send("x"), ws.ping):
                with pytest.raises(module.WebSocketConnectionClosedException):
                    call()

    def test_send_close_goes_on_reading(self, module: Module) -> None:
        with FaultServer(UP, read_until_close(reply=False), send_text("last"), send_close(1000)) as server:
            ws = module.create_connection(server.url)
            ws.send_close(1000, b"done")
            assert ws.recv() == "last"
            ws.shutdown()

    def test_bad_codes(self, module: Module) -> None:
        with FaultServer(UP, read_until_close()) as server:
            ws = module.create_connection(server.url)
            for call in (ws.close, ws.send_close):
                with pytest.raises(ValueError, match="invalid range"):
                    call(70000)
            ws.close()

    def test_abort_wakes_who_waits(self, module: Module) -> None:
        errors: deque[BaseException] = deque()
        with FaultServer(UP, stall()) as server:
            ws = module.create_connection(server.url)

            def receive() -> None:
                try:
                    ws.recv()
                except module.WebSocketException as error:
                    errors.append(error)

            thread = threading.Thread(target=receive, daemon=True)
            thread.start()
            ws.abort()
            thread.join(BOUND)
            ws.shutdown()
        assert isinstance(errors[0], module.WebSocketConnectionClosedException)

    def test_shutdown_after_send(self, module: Module) -> None:
        with FaultServer(UP, read_messages(1)) as server:
            ws = module.create_connection(server.url)
            ws.send("not lost")
            ws.shutdown()
            assert server.wait_for_messages(1) == ["not lost"]
            assert ws.connected is False

    def test_connects_again(self, module: Module) -> None:
        with serve(echo) as server:
            ws = module.WebSocket()
            for _ in range(2):
                ws.connect(server.url)
                ws.send("x")
                assert ws.recv() == "x"
                ws.close()

    def test_before_connect(self, module: Module) -> None:
        ws = module.WebSocket()
        assert ws.connected is False
        assert ws.sock is None
        ws.close()
        ws.abort()
        ws.shutdown()
        for call in (ws.recv, ws.ping, lambda: ws.send("x")):
            with pytest.raises(module.WebSocketConnectionClosedException):
                call()
        with pytest.raises(module.WebSocketException):
            ws.fileno()

    def test_refusals(self, module: Module) -> None:
        with FaultServer(http_response(403, {"X-Why": "1"}, b"no entry")) as server:
            with pytest.raises(
                module.WebSocketBadStatusException, match="Handshake status 403 Forbidden"
            ) as caught:
                module.create_connection(server.url)
            assert (caught.value.status_code, caught.value.status_message) == (403, "Forbidden")
            assert (caught.value.resp_headers["x-why"], caught.value.resp_body) == ("1", b"no entry")

    @pytest.mark.parametrize(
        "answer", [accept_upgrade(wrong_key=True), UP], ids=["wrong key", "no subprotocol"]
    )
    def test_bad_answers(self, module: Module, answer: Step) -> None:
        invalid = pytest.raises(module.WebSocketException, match="Invalid WebSocket Header")
        with FaultServer(answer) as server, invalid:
            module.create_connection(server.url, subprotocols=["chat"])

    def test_failed_dials(self, module: Module) -> None:
        with socket.create_server((HOST, 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            module.create_connection(f"ws://{HOST}:{port}/")
        with pytest.raises(module.WebSocketAddressException):
            module.create_connection("ws://nowhere.invalid/")
        with pytest.raises(ValueError, match="scheme"):
            module.create_connection("http://localhost/")

    def test_an_untrusted_certificate(self, module: Module) -> None:
        with serve(echo, tls=True) as server, pytest.raises(ssl.SSLCertVerificationError):
            module.create_connection(server.url)

    def test_redirects(self, module: Module) -> None:
        with serve(echo) as server, FaultServer(http_response(302, {"Location": server.url + "/"})) as first:
            ws = module.create_connection(first.url)
            ws.send("x")
            assert ws.recv() == "x"
            ws.close()

    def test_broken_frames(self, module: Module) -> None:
        with FaultServer(UP, send_text(b"\xff"), read_until_close()) as server:
            ws = module.create_connection(server.url)
            with pytest.raises(module.WebSocketPayloadException):
                ws.recv()
            ws.close()
        with FaultServer(UP, send_text("x", rsv=4), read_until_close()) as server:
            ws = module.create_connection(server.url)
            with pytest.raises(module.WebSocketProtocolException):
                ws.recv()
            ws.close()

    def test_class_of_ones_own(self, module: Module) -> None:
        class Mine(module.WebSocket):  # type: ignore[misc]
            def recv_upper(self) -> Any:
                return self.recv().upper()

        with serve(echo) as server, closing(module.create_connection(server.url, class_=Mine)) as ws:
            ws.send("x")
            assert ws.recv_upper() == "X"

    def test_trace(self, module: Module, capsys: pytest.CaptureFixture[str]) -> None:
        with serve(echo) as server:
            module.enableTrace(True)
            try:
                with closing(module.create_connection(server.url)) as ws:
                    ws.send("traced")
                    assert ws.recv() == "traced"
            finally:
                module.enableTrace(False)
        assert capsys.readouterr().err.count("traced") >= 2

    def test_unix_socket(self, module: Module, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as listener, serve(echo) as server:
            listener.bind(str(path))
            listener.listen()
            thread = threading.Thread(target=_relay, args=(listener, server.url), daemon=True)
            thread.start()
            mine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            mine.connect(str(path))
            keepalive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            ws = module.create_connection("ws://localhost/", socket=mine, sockopt=(keepalive,))
            ws.send("through a file")
            assert ws.recv() == "through a file"
            ws.close()
            thread.join(BOUND)


def _relay(listener: socket.socket, url: str) -> None:
    host, _, port = url.removeprefix("ws://").rstrip("/").partition(":")
    client, _ = listener.accept()
    with client, socket.create_connection((host, int(port)), BOUND) as server:
        client.settimeout(BOUND)
        other = threading.Thread(target=_copy, args=(server, client), daemon=True)
        other.start()
        _copy(client, server)
        other.join(BOUND)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one end has left


def _recv_until_error(ws: Any) -> None:
    with pytest.raises(compat.WebSocketException):
        ws.recv()


def _send_for_ever(ws: Any) -> None:
    while True:
        ws.send_binary(bytes(1 << 20))


@step
def read_slowly(peer: Peer, size: int) -> None:
    """Read a little at a time."""
    while size > 0:
        size -= peer.read_bytes(1 << 18)
        peer.pause(0.01)


class TestOurs:
    def test_with(self) -> None:
        with serve(echo) as server, compat.create_connection(server.url) as ws:
            ws.send("x")
            assert ws.recv() == "x"
        assert ws.connected is False

    def test_the_connection_below(self) -> None:
        with serve(echo) as server, compat.create_connection(server.url) as ws:
            ws.send("x")
            assert ws.recv() == "x"
            assert ws.connection is not None
            assert ws.connection.stats().messages_received == 1

    def test_recv_frame_is_a_whole_message(self) -> None:
        with FaultServer(UP, send_ping(b"p"), send_text("t"), *BYE) as server:
            ws = compat.create_connection(server.url)
            for expected in ((9, b"p"), (1, b"t"), (8, b"\x03\xe8bye")):
                frame = ws.recv_frame()
                assert (frame.opcode, frame.data) == expected

    def test_two_threads_may_read(self) -> None:
        received: deque[Any] = deque()
        with FaultServer(UP, send_text("1"), send_text("2"), *BYE) as server:
            ws = compat.create_connection(server.url)

            def receive() -> None:
                try:
                    while message := ws.recv():
                        received.append(message)
                except compat.WebSocketConnectionClosedException:
                    pass  # the other thread was told of the close

            threads = [threading.Thread(target=receive, daemon=True) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(BOUND)
                assert not thread.is_alive()
        assert sorted(received) == ["1", "2"]

    def test_time_out_while_another_thread_reads(self) -> None:
        with FaultServer(UP, no_close_reply()) as server:
            ws = compat.create_connection(server.url)
            reader = threading.Thread(target=_recv_until_error, args=(ws,), daemon=True)
            reader.start()
            ws.settimeout(SHORT)
            with pytest.raises(compat.WebSocketTimeoutException):
                ws.recv()
            ws.abort()
            reader.join(BOUND)
            ws.shutdown()

    def test_a_peer_that_does_not_read_is_a_time_out(self) -> None:
        with FaultServer(UP, stop_reading(), receive_buffer=4096) as server:
            ws = compat.create_connection(server.url, timeout=SHORT)
            with pytest.raises(compat.WebSocketTimeoutException) as caught:
                _send_for_ever(ws)
            assert isinstance(caught.value.__cause__, SendTimeout)
            ws.shutdown()

    def test_what_was_accepted_is_written_before_the_close(self) -> None:
        """Although that takes longer than the time-out, for the peer reads slowly."""
        count, piece = 8, bytes(1 << 20)
        with FaultServer(UP, read_slowly(count * len(piece)), stall()) as server:
            ws = compat.create_connection(server.url)
            for _ in range(count):
                ws.send(piece)
            ws.close(timeout=0.1)
            assert server.wait_for_messages(count) == [piece.decode()] * count

    def test_close_without_an_answer(self) -> None:
        with FaultServer(UP, no_close_reply()) as server:
            ws = compat.create_connection(server.url)
            ws.close(timeout=SHORT)
            assert (ws.connected, ws.close_frame) == (False, None)

    def test_ours_are_the_cause(self) -> None:
        with FaultServer(UP, read_messages(1), reset()) as server:
            ws = compat.create_connection(server.url)
            ws.send("x")
            with pytest.raises(ConnectionResetError) as caught:
                ws.recv()
            assert isinstance(caught.value, compat.WebSocketConnectionClosedException)
            assert isinstance(caught.value.__cause__, ConnectionClosed)

    def test_a_second_close_waits_for_the_first(self) -> None:
        """What was accepted before the first is not lost because another thread closes, too."""
        writing, count = threading.Event(), 200
        with FaultServer(UP, _read_once(writing), read_messages(count), read_until_close()) as server:
            ws = compat.create_connection(server.url)
            for _ in range(count):
                ws.send_binary(bytes(50_000))
            first = threading.Thread(target=ws.close)
            first.start()
            while ws.connected:
                first.join(SHORT)
            second = threading.Thread(target=ws.close)
            second.start()
            second.join(SHORT)
            writing.set()
            first.join(BOUND)
            second.join(BOUND)
            assert not first.is_alive()
            assert not second.is_alive()
            assert ws.connection is not None
            assert list(ws.connection.unsent) == []
            assert ws.connection.close_code == 1000

    def test_a_forked_child_is_told_so(self) -> None:
        with serve(echo) as server, closing(compat.create_connection(server.url, timeout=BOUND)) as ws:
            child = multiprocessing.get_context("fork").Process(target=_use_in_child, args=(ws,))
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # of fork() beside threads: it is tried here
                child.start()
            child.join(BOUND)
            assert child.exitcode == 0
            ws.send("the parent's")
            assert ws.recv() == "the parent's"

    def test_nobody_closed_it(self) -> None:
        with FaultServer(UP, no_close_reply()) as server:
            ws = compat.create_connection(server.url)
            with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031
                del ws
                gc.collect()
            server.wait_closed()

    def test_messages_that_nobody_takes_do_not_hold_up_a_close(self) -> None:
        with FaultServer(
            UP, *(send_text(str(number)) for number in range(3000)), read_until_close()
        ) as server:
            ws = compat.create_connection(server.url)
            assert ws.recv() == "0"
            ws.close(timeout=BOUND)
            assert ws.close_frame is not None
            server.wait_closed()

    def test_a_close_frame_without_a_code(self) -> None:
        with FaultServer(UP, read_until_close()) as server:
            ws = compat.create_connection(server.url)
            assert ws.send_frame(compat.ABNF.create_frame(b"", compat.ABNF.OPCODE_CLOSE)) == 6
            with pytest.raises(compat.WebSocketConnectionClosedException):
                ws.recv()

    def test_an_unknown_status(self) -> None:
        refused = pytest.raises(compat.WebSocketBadStatusException, match=r"Handshake status 599$")
        with FaultServer(http_response(599)) as server, refused:
            compat.create_connection(server.url)

    def test_what_is_refused(self) -> None:
        refused = pytest.raises(compat.NotSupported, match=r"docs/migrating\.md")
        with serve(echo) as server, compat.create_connection(server.url) as ws:
            for name in ("sock", "lock", "readlock", "frame_buffer", "cont_frame", "sock_opt"):
                with refused:
                    getattr(ws, name)
            with refused:
                ws.fileno()
            with refused:
                ws.set_mask_key(lambda size: b"1234")
            unmasked = compat.ABNF(1, 0, 0, 0, compat.ABNF.OPCODE_TEXT, 0, b"x")
            reserved = compat.ABNF(1, 1, 0, 0, compat.ABNF.OPCODE_TEXT, 1, b"x")
            for frame in (unmasked, reserved):
                with refused:
                    ws.send_frame(frame)
            assert not hasattr(ws, "nothing")
        with refused:
            compat.WebSocket(get_mask_key=lambda size: b"1234")
        with refused:
            compat.WebSocket(dispatcher=object())
        with pytest.raises(TypeError, match="colour"):
            compat.WebSocket(colour="red")

    def test_bad_arguments(self) -> None:
        with serve(echo) as server, compat.create_connection(server.url) as ws:
            with pytest.raises(compat.WebSocketPayloadException):
                ws.send(b"\xff")
            with pytest.raises(ValueError, match="125"):
                ws.ping("x" * 126)
            with pytest.raises(ValueError, match="out of range"):
                ws.settimeout(-1)
            with pytest.raises(ValueError, match="continue"):
                ws.send_frame(compat.ABNF.create_frame(b"x", compat.ABNF.OPCODE_CONT))
            with pytest.raises(ValueError, match="1005"):
                ws.close(1005)
            with pytest.raises(ValueError, match="OPCODE"):
                ws.send_frame(compat.ABNF.create_frame(b"x", 7))
            ws.send_frame(compat.ABNF.create_frame(b"x", compat.ABNF.OPCODE_TEXT, 0))
            with pytest.raises(ValueError, match="last frame"):
                ws.send_frame(compat.ABNF.create_frame("y", compat.ABNF.OPCODE_TEXT))
