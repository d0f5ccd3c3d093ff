"""Messages that go and come piece by piece."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import wsclient
from wsclient.frames import Opcode
from wsclient.protocol import Fragment
from wsclient.receive_stream import Incoming
from wsclient.testing import (
    FaultServer,
    Peer,
    Record,
    accept_upgrade,
    cut,
    read_frames,
    read_messages,
    read_until_close,
    send_binary,
    send_close,
    send_continuation,
    send_ping,
    send_text,
    step,
    wait,
)

KIB = 1 << 10
MIB = 1 << 20


def record_of(server: FaultServer) -> Record:
    server.wait_closed(30)
    return server.connections[-1]


def is_accepted(stream: wsclient.SendStream, piece: bytes) -> bool:
    try:
        stream.write(piece, timeout=0.01)
    except wsclient.SendTimeout:
        return False
    return True


@step
def tell(peer: Peer, event: threading.Event) -> None:
    event.set()


def data_frames(record: Record) -> list[Any]:
    return [frame for frame in record.frames if frame.opcode < Opcode.CLOSE]


def messages_of(record: Record) -> list[tuple[int, bytes]]:
    """Opcode and payload of each message; asserts that none stands between the fragments of another."""
    messages: list[tuple[int, bytes]] = []
    under_way = False
    for frame in data_frames(record):
        assert under_way is (frame.opcode == Opcode.CONTINUATION)
        opcode, payload = messages.pop() if under_way else (frame.opcode, b"")
        messages.append((opcode, payload + frame.payload))
        under_way = not frame.fin
    assert not under_way
    return messages


class TestSendStream:
    def test_one_message(self, echo_server: str) -> None:
        with wsclient.connect(echo_server) as conn:
            with conn.send_stream() as stream:
                for piece in (b"one ", bytearray(b"two "), memoryview(b"three")):
                    stream.write(piece)
            assert conn.recv(timeout=10) == b"one two three"

    def test_text(self, echo_server: str) -> None:
        with wsclient.connect(echo_server) as conn:
            with conn.send_stream(text=True) as stream:
                stream.write("grüß ")
                stream.write("dich")
            assert conn.recv(timeout=10) == "grüß dich"
            assert conn.stats().messages_sent == 1

    @pytest.mark.parametrize("text", [True, False])
    def test_an_empty_one(self, echo_server: str, text: bool) -> None:
        with wsclient.connect(echo_server) as conn:
            with conn.send_stream(text) as stream:
                stream.write("" if text else b"")
            assert conn.recv(timeout=10) == ("" if text else b"")

    def test_it_is_not_held_in_memory(self) -> None:
        with FaultServer(accept_upgrade(), read_messages(1), read_until_close()) as server:
            piece = bytes(256 * KIB)
            with wsclient.connect(server.url) as conn:
                tracemalloc.start()
                try:
                    with conn.send_stream() as stream:
                        for _ in range(64):
                            stream.write(piece, timeout=30)
                    _, peak = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
            # The scripted server, in this process, joins what it has received: it takes that several times.
            record = record_of(server)
            assert [len(payload) for _, payload in messages_of(record)] == [16 * MIB]
            assert peak < 96 * MIB

    def test_a_large_piece_goes_in_several_fragments(self) -> None:
        with FaultServer(accept_upgrade(), read_messages(1), read_until_close()) as server:
            with wsclient.connect(server.url, fragment_size=100) as conn, conn.send_stream() as stream:
                stream.write(bytes(250))
            frames = data_frames(record_of(server))
            assert [len(frame.payload) for frame in frames] in ([100, 100, 50], [100, 100, 50, 0])
            assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]

    def test_beside_receipts_in_a_queue_of_few_messages(self, echo_server: str) -> None:
        """Where every message has room for more than a stream needs, a stream is still no plain message."""
        with wsclient.connect(echo_server, max_queued_messages=2) as conn:
            for number in range(20):
                receipt = conn.send_future(f"{number}")
                with conn.send_stream(text=True) as stream:
                    stream.write(f"stream {number}")
                receipt.result(timeout=10)
                assert [conn.recv(timeout=10) for _ in range(2)] == [f"{number}", f"stream {number}"]
            assert conn.stats().messages_sent == 40

    def test_one_piece_larger_than_all_the_room(self, echo_server: str) -> None:
        with wsclient.connect(echo_server) as conn:
            with conn.send_stream() as stream:
                stream.write(bytes(MIB))
            assert conn.recv(timeout=10) == bytes(MIB)

    def test_a_confirm_is_never_cut(self, echo_server: str) -> None:
        with wsclient.connect(echo_server, fragment_size=1) as conn:
            conn.send("abc")
            conn.confirm(timeout=10)
            assert conn.recv(timeout=10) == "abc"

    def test_they_take_room(self) -> None:
        with FaultServer(accept_upgrade(), wait(threading.Event()), receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, write_timeout=None, max_queued_bytes=1000, send_timeout=0.01)
            first = conn.send_stream()
            while is_accepted(first, bytes(1000)):
                pass
            second = conn.send_stream()
            with pytest.raises(wsclient.SendTimeout):
                conn.send_stream()
            conn.abort()
            second.abort()

    def test_what_came_before_one_that_is_aborted_is_written(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            conn = wsclient.connect(server.url)
            for number in range(5):
                conn.send(str(number))
            stream = conn.send_stream()
            stream.abort()
            conn.close()
            record = record_of(server)
            assert [payload for _, payload in messages_of(record)] == [b"0", b"1", b"2", b"3", b"4"]
            assert record.close_code == 1011
            assert conn.unsent == ()

    def test_an_abort_does_not_replace_a_close_frame(self) -> None:
        """The peer's close frame comes while a stream is under way: the reply has its code."""
        script = accept_upgrade(), read_frames(1), send_close(1001), read_until_close(reply=False)
        ended = threading.Event()
        with FaultServer(*script) as server:
            conn = wsclient.connect(server.url, on_close=lambda *_: ended.set())
            stream = conn.send_stream()
            stream.write(b"half")
            assert ended.wait(10)
            stream.abort()
            conn.close()
            assert record_of(server).close_code == 1001
            assert conn.close_code == 1001

    def test_closing_again_waits_again(self) -> None:
        with FaultServer(accept_upgrade(), wait(threading.Event()), receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, write_timeout=None)
            stream = conn.send_stream()
            while is_accepted(stream, bytes(200 * KIB)):
                pass
            with pytest.raises(wsclient.SendTimeout):
                stream.close(timeout=0.01)
            conn.abort()
            with pytest.raises(wsclient.ConnectionClosed):
                stream.close()

    def test_others_wait_for_its_end_and_control_frames_do_not(self) -> None:
        ponged = threading.Event()
        steps = accept_upgrade(), read_frames(1), send_ping(b"now"), read_frames(1), tell(ponged)
        with FaultServer(*steps, read_until_close()) as server:
            with wsclient.connect(server.url) as conn, conn.send_stream() as stream:
                conn.send("behind")
                stream.write(b"begun")
                assert ponged.wait(10)
                conn.ping().result(timeout=10)
                stream.write(b", done")
            record = record_of(server)
            assert messages_of(record) == [(Opcode.BINARY, b"begun, done"), (Opcode.TEXT, b"behind")]
            kinds = [frame.opcode for frame in record.frames]
            assert kinds.index(Opcode.PONG) < kinds.index(Opcode.CONTINUATION)
            assert kinds.index(Opcode.PING) < kinds.index(Opcode.CONTINUATION)

    def test_others_wait_with_their_own_timeout(self, echo_server: str) -> None:
        with wsclient.connect(echo_server, max_queued_messages=1) as conn:
            with conn.send_stream() as stream:
                stream.write(b"1")
                conn.send(b"2")
                with pytest.raises(wsclient.SendTimeout):
                    conn.send(b"3", timeout=0.01)
            assert [conn.recv(timeout=10) for _ in range(2)] == [b"1", b"2"]

    def test_many_threads_stream_and_send(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with wsclient.connect(server.url) as conn, ThreadPoolExecutor(8) as pool:

                def stream(name: int) -> None:
                    with conn.send_stream(text=True) as out:
                        for _ in range(50):
                            out.write(f"{name}", timeout=30)

                def send(name: int) -> None:
                    for _ in range(50):
                        conn.send(f"{name}")

                done = [pool.submit(stream, name) for name in range(4)] + [
                    pool.submit(send, name) for name in range(4, 8)
                ]
                for future in done:
                    future.result(timeout=30)
            payloads = sorted(payload.decode() for _, payload in messages_of(record_of(server)))
            assert payloads == sorted([str(n) * 50 for n in range(4)] + [str(n) for n in range(4, 8)] * 50)

    def test_a_full_stream_times_out_and_goes_on(self) -> None:
        go = threading.Event()
        steps = accept_upgrade(), wait(go), read_messages(1), read_until_close()
        with FaultServer(*steps, receive_buffer=4096) as server:
            with wsclient.connect(server.url, write_timeout=None) as conn, conn.send_stream() as stream:
                piece = bytes(200 * KIB)
                accepted = 0
                while is_accepted(stream, piece):
                    accepted += 1
                go.set()
                stream.write(b"end", timeout=30)
            ((_, payload),) = messages_of(record_of(server))
            assert payload == piece * accepted + b"end"

    def test_closing_lets_it_finish(self) -> None:
        closing = threading.Event()

        def on_message(conn: wsclient.Connection, _: object) -> None:
            conn.close()  # in a callback it does not wait
            closing.set()

        with FaultServer(accept_upgrade(), read_frames(1), send_text("x"), read_until_close()) as server:
            conn = wsclient.connect(server.url, on_message=on_message)
            with conn.send_stream() as stream:
                stream.write(b"begun")
                assert closing.wait(10)
                with pytest.raises(wsclient.ConnectionClosed):
                    conn.send("too late")
                with pytest.raises(wsclient.ConnectionClosed):
                    conn.send_stream()
                stream.write(b", done")
            conn.close()
            record = record_of(server)
            assert messages_of(record) == [(Opcode.BINARY, b"begun, done")]
            assert record.close_code == 1000

    def test_closing_does_not_wait_longer_than_its_timeout(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            conn = wsclient.connect(server.url)
            stream = conn.send_stream()
            stream.write(b"begun")
            conn.send("behind")
            conn.close(timeout=0.05)
            assert conn.unsent == ("behind",)
            with pytest.raises(wsclient.ConnectionClosed):
                stream.write(b"more")
            with pytest.raises(wsclient.ConnectionClosed):
                stream.close()


class TestUnfinishedStream:
    def test_an_exception_ends_the_connection(self) -> None:
        begun = threading.Event()
        with FaultServer(accept_upgrade(), read_frames(1), tell(begun), read_until_close()) as server:
            conn = wsclient.connect(server.url)

            def half() -> None:
                with conn.send_stream() as stream:
                    stream.write(b"half")
                    conn.send("behind")
                    assert begun.wait(10)
                    raise KeyError

            with pytest.raises(KeyError):
                half()
            with pytest.raises(wsclient.ConnectionClosed, match="a stream was not finished"):
                conn.send("after")
            conn.close()
            record = record_of(server)
            assert record.close_code == 1011
            assert [frame.opcode for frame in record.frames] == [Opcode.BINARY, Opcode.CLOSE]
            assert conn.close_code == 1011
            assert conn.unsent == ("behind",)

    def test_one_that_is_forgotten_ends_the_connection(self) -> None:
        closed = threading.Event()
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            conn = wsclient.connect(server.url, on_close=lambda *_: closed.set())
            stream = conn.send_stream()
            stream.write(b"half")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del stream
                gc.collect()
            assert [str(item.message)[:17] for item in caught] == ["unfinished stream"]
            assert closed.wait(10)
            conn.close()
            assert record_of(server).close_code == 1011

    def test_abort_twice_and_after_the_end(self, echo_server: str) -> None:
        with wsclient.connect(echo_server) as conn:
            stream = conn.send_stream()
            stream.close()
            stream.close()
            stream.abort()
            assert conn.recv(timeout=10) == b""
            assert conn.state is wsclient.State.OPEN

    def test_the_connection_is_lost_meanwhile(self) -> None:
        lost = threading.Event()
        with FaultServer(accept_upgrade(), read_frames(1), cut()) as server:
            conn = wsclient.connect(server.url, on_close=lambda *_: lost.set())
            stream = conn.send_stream()
            stream.write(b"half")
            assert lost.wait(10)
            with pytest.raises(wsclient.ConnectionClosed):
                stream.write(b"more")
            stream.abort()
            conn.close()

    def test_a_writer_that_waits_for_room_is_told(self) -> None:
        with FaultServer(accept_upgrade(), wait(threading.Event()), receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, write_timeout=None)
            stream = conn.send_stream()

            while is_accepted(stream, bytes(200 * KIB)):
                pass
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(stream.write, bytes(200 * KIB), timeout=30)
                conn.abort()
                with pytest.raises(wsclient.ConnectionClosed):
                    waiting.result(timeout=10)

    def test_before_it_has_begun(self) -> None:
        """It waits behind another stream when the connection ends."""
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            conn = wsclient.connect(server.url)
            first, second = conn.send_stream(), conn.send_stream()
            second.write(b"2")
            conn.abort()
            for stream in (first, second):
                with pytest.raises(wsclient.ConnectionClosed):
                    stream.close()


class TestMisuse:
    def test_wrong_kind_of_data(self, echo_server: str) -> None:
        with wsclient.connect(echo_server) as conn:
            with (
                conn.send_stream(text=True) as stream,
                pytest.raises(TypeError, match="takes str, not bytes"),
            ):
                stream.write(b"x")
            with conn.send_stream() as stream, pytest.raises(TypeError, match="text=True"):
                stream.write("x")
            with conn.send_stream() as stream, pytest.raises(TypeError, match="bytes-like, not int"):
                stream.write(3)  # type: ignore[arg-type]

    def test_writing_after_the_end(self, echo_server: str) -> None:
        with wsclient.connect(echo_server) as conn:
            with conn.send_stream() as stream:
                pass
            with pytest.raises(wsclient.WSClientError, match="the stream has ended"):
                stream.write(b"x")

    def test_before_open(self) -> None:
        with pytest.raises(wsclient.WSClientError, match="not open yet"):
            wsclient.Connection("ws://localhost").send_stream()

    def test_in_a_callback_of_a_future(self, echo_server: str) -> None:
        errors: list[BaseException] = []
        go = threading.Event()
        with FaultServer(accept_upgrade(), wait(go), read_until_close(), receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, write_timeout=None)

            def misuse(_: object) -> None:
                try:
                    conn.send_stream()
                except wsclient.WSClientError as error:
                    errors.append(error)

            conn.send_future(bytes(8 * MIB)).add_done_callback(misuse)
            go.set()
            conn.close()
        assert ["would wait for itself" in str(error) for error in errors] == [True]


class TestFragmentSize:
    def test_a_huge_message_lets_control_frames_through(self) -> None:
        go = threading.Event()
        steps = accept_upgrade(), wait(go), read_until_close()
        with FaultServer(*steps, receive_buffer=4096) as server:
            with wsclient.connect(server.url, fragment_size=64 * KIB, write_timeout=None) as conn:
                receipt = conn.send_future(bytes(8 * MIB))
                pong = conn.ping()
                conn.send("behind")
                go.set()
                pong.result(timeout=30)
                receipt.result(timeout=30)
                assert conn.stats().messages_sent <= 2
            record = record_of(server)
            assert [len(payload) for _, payload in messages_of(record)] == [8 * MIB, 6]
            kinds = [frame.opcode for frame in record.frames]
            assert kinds.index(Opcode.PING) < len(kinds) - 10
            assert max(len(frame.payload) for frame in data_frames(record)) == 64 * KIB

    def test_sizes(self) -> None:
        with FaultServer(accept_upgrade(), read_until_close()) as server:
            with wsclient.connect(server.url, fragment_size=10) as conn:
                for size in (9, 10, 11, 20, 21):
                    conn.send(bytes(size))
                conn.send("äöüäöü")
            frames = data_frames(record_of(server))
            sizes = [(len(frame.payload), frame.fin) for frame in frames]
            assert sizes == [
                (9, True),
                (10, True),
                *[(10, False), (1, True)],
                *[(10, False), (10, True)],
                *[(10, False), (10, False), (1, True)],
                *[(10, False), (2, True)],
            ]

    def test_half_written_is_unsent(self) -> None:
        with FaultServer(accept_upgrade(), wait(threading.Event()), receive_buffer=4096) as server:
            conn = wsclient.connect(server.url, fragment_size=64 * KIB, write_timeout=None)
            message = bytes(32 * MIB)
            conn.send(message)
            conn.send("behind")
            receipt = conn.send_future("last")
            conn.abort()
            assert [len(item) for item in conn.unsent] == [32 * MIB, 6, 4]
            with pytest.raises(wsclient.ConnectionClosed):
                receipt.result(timeout=10)


# -- receiving ------------------------------------------------------------------------------------


def fragmented(*pieces: bytes) -> list[Any]:
    first, *rest = pieces
    steps = [send_binary(first, fin=not rest)]
    return steps + [send_continuation(piece, fin=piece is rest[-1]) for piece in rest]


class TestRecvStream:
    def test_pieces_as_they_come(self) -> None:
        script = (
            accept_upgrade(),
            *fragmented(b"one", b"two", b"three"),
            send_text("next"),
            read_until_close(),
        )
        with FaultServer(*script) as server, wsclient.connect(server.url, assemble=False) as conn:
            with conn.recv_stream(timeout=10) as stream:
                assert not stream.text
                assert list(stream) == [b"one", b"two", b"three"]
                assert stream.read() == b""
            with conn.recv_stream(timeout=10) as stream:
                assert stream.text
                assert list(stream) == ["next"]
            assert conn.stats().messages_received == 2

    def test_a_huge_message_is_not_held(self) -> None:
        size = 64 * MIB
        script = accept_upgrade(), send_binary(bytes(size)), read_until_close()
        with FaultServer(*script) as server:
            options: Any = {"assemble": False, "max_message_size": None, "max_received_bytes": MIB}
            with wsclient.connect(server.url, **options) as conn, conn.recv_stream(timeout=10) as stream:
                received = largest = 0
                for piece in stream:
                    received += len(piece)
                    largest = max(largest, len(piece))
                    assert conn.stats().received_waiting <= 1024
            assert received == size
            assert largest <= MIB

    def test_text_is_never_cut_within_a_character(self) -> None:
        data = "aä€😀" * 1000
        raw = data.encode()
        cuts = [raw[start : start + 7] for start in range(0, len(raw), 7)]
        steps = [send_text(cuts[0], fin=False), *[send_continuation(cut, fin=False) for cut in cuts[1:-1]]]
        steps.append(send_continuation(cuts[-1]))
        with FaultServer(accept_upgrade(), *steps, read_until_close()) as server:
            conn = wsclient.connect(server.url, assemble=False)
            assert "".join(map(str, conn.recv_stream(timeout=10))) == data
            conn.close()

    def test_leaving_early_skips_the_rest(self) -> None:
        script = accept_upgrade(), *fragmented(b"1", b"2", b"3"), send_text("next"), read_until_close()
        with FaultServer(*script) as server, wsclient.connect(server.url, assemble=False) as conn:
            with conn.recv_stream(timeout=10) as stream:
                assert stream.read() == b"1"
            assert stream.read() == b""
            with conn.recv_stream(timeout=10) as stream:
                assert stream.read() == "next"

    def test_one_that_is_forgotten_is_passed_over(self) -> None:
        script = accept_upgrade(), *fragmented(b"1", b"2", b"3"), send_text("next"), read_until_close()
        with FaultServer(*script) as server, wsclient.connect(server.url, assemble=False) as conn:
            assert next(iter(conn.recv_stream(timeout=10))) == b"1"
            assert list(conn.recv_stream(timeout=10)) == ["next"]

    def test_it_keeps_the_connection(self) -> None:
        script = accept_upgrade(), *fragmented(b"1", b"2"), read_until_close()
        with FaultServer(*script) as server:

            def open_stream() -> wsclient.ReceiveStream:
                return wsclient.connect(server.url, assemble=False).recv_stream(timeout=10)

            stream = open_stream()
            gc.collect()
            assert list(stream) == [b"1", b"2"]
            with pytest.warns(ResourceWarning, match="unclosed"):
                del stream

    def test_a_piece_that_an_interrupted_call_took(self) -> None:
        pieces = [Fragment("a", False, 0), Fragment("c", True, 2), Fragment("next", True, 0)]
        incoming = Incoming(lambda timeout: pieces.pop(0))
        stream = incoming.begin(1, None)
        assert stream.read() == "a"
        with pytest.raises(wsclient.WSClientError, match="a piece of the message is missing"):
            stream.read()
        assert list(incoming.begin(1, None)) == ["next"]

    def test_the_last_piece_that_an_interrupted_call_took(self) -> None:
        pieces = [Fragment("a", False, 0), Fragment("next", True, 0)]
        incoming = Incoming(lambda timeout: pieces.pop(0))
        stream = incoming.begin(1, None)
        assert stream.read() == "a"
        with pytest.raises(wsclient.WSClientError, match="missing"):
            stream.read()
        assert list(incoming.begin(1, None)) == ["next"]

    def test_one_at_a_time(self) -> None:
        script = accept_upgrade(), *fragmented(b"1", b"2"), read_until_close()
        with FaultServer(*script) as server, wsclient.connect(server.url, assemble=False) as conn:
            stream = conn.recv_stream(timeout=10)
            with pytest.raises(wsclient.WSClientError, match="unfinished"):
                conn.recv_stream()
            assert list(stream) == [b"1", b"2"]
            with pytest.raises(TimeoutError):
                conn.recv_stream(timeout=0)

    def test_the_connection_ends_in_the_middle(self) -> None:
        script = accept_upgrade(), send_text("half", fin=False), send_close(1001), read_until_close()
        with FaultServer(*script) as server:
            conn = wsclient.connect(server.url, assemble=False)
            stream = conn.recv_stream(timeout=10)
            assert stream.read() == "half"
            with pytest.raises(wsclient.ConnectionClosed):
                stream.read()
            with pytest.raises(wsclient.ConnectionClosed):
                list(stream)
            conn.close()

    def test_a_piece_that_does_not_come(self) -> None:
        go = threading.Event()
        script = (
            accept_upgrade(),
            send_text("1", fin=False),
            wait(go),
            send_continuation(b"2"),
            read_until_close(),
        )
        with FaultServer(*script) as server, wsclient.connect(server.url, assemble=False) as conn:
            stream = conn.recv_stream(timeout=10)
            assert stream.read() == "1"
            with pytest.raises(TimeoutError):
                stream.read(timeout=0.01)
            go.set()
            assert stream.read(timeout=10) == "2"

    def test_the_wrong_way_to_receive(self, echo_server: str) -> None:
        with wsclient.connect(echo_server, assemble=False) as conn:
            with pytest.raises(wsclient.WSClientError, match="use recv_stream"):
                conn.recv()
            with pytest.raises(wsclient.WSClientError, match="use recv_stream"):
                next(iter(conn))
        with (
            wsclient.connect(echo_server) as conn,
            pytest.raises(wsclient.WSClientError, match="assemble=False"),
        ):
            conn.recv_stream()

    def test_a_limit_holds(self) -> None:
        script = accept_upgrade(), *fragmented(b"12345", b"67890", b"1"), read_until_close()
        with FaultServer(*script) as server:
            conn = wsclient.connect(server.url, assemble=False, max_message_size=10)
            with pytest.raises(wsclient.MessageTooBig):
                list(conn.recv_stream(timeout=10))
            conn.close()


class TestOnFragment:
    @pytest.mark.parametrize("executor", [False, True])
    def test_each_piece(self, executor: bool) -> None:
        got: list[tuple[str | bytes, bool]] = []
        script = accept_upgrade(), *fragmented(b"1", b"2"), send_text("x"), send_close(), read_until_close()
        closed = threading.Event()
        with ThreadPoolExecutor(2) as pool, FaultServer(*script) as server:
            conn = wsclient.connect(
                server.url,
                assemble=False,
                on_fragment=lambda _, data, final: got.append((data, final)),
                on_close=lambda *_: closed.set(),
                callback_executor=pool if executor else None,
            )
            assert closed.wait(10)
            conn.close()
        assert got == [(b"1", False), (b"2", True), ("x", True)]

    def test_its_errors_are_reported(self) -> None:
        errors: list[BaseException] = []
        script = accept_upgrade(), send_text("x"), send_close(), read_until_close()

        def raises(*_: object) -> None:
            raise KeyError("mine")

        with FaultServer(*script) as server:
            options: Any = {"assemble": False, "on_fragment": raises}
            conn = wsclient.connect(server.url, on_error=lambda _, error: errors.append(error), **options)
            conn.close()
            server.wait_closed()
        assert [type(error) for error in errors] == [KeyError]

    @pytest.mark.parametrize(
        ("options", "fault"),
        [
            ({"on_fragment": print}, "on_fragment: needs assemble=False"),
            ({"on_message": print, "assemble": False}, "on_message: needs assemble=True"),
        ],
    )
    def test_what_excludes_each_other(self, options: Any, fault: str) -> None:
        with pytest.raises(ValueError, match=fault):
            wsclient.Options(**options)

    def test_recv_stream_is_not_for_it(self, echo_server: str) -> None:
        options: Any = {"assemble": False, "on_fragment": lambda *_: None}
        with (
            wsclient.connect(echo_server, **options) as conn,
            pytest.raises(wsclient.WSClientError, match="on_fragment"),
        ):
            conn.recv_stream(timeout=0)
