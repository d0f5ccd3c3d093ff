"""The server that all clients of a benchmark talk to: picows, C speed, in a process of its own.

``python -m benchmarks.server`` prints one line of JSON, ``{"port": ..., "tls_port": ...}``, and serves on
loopback until its standard input ends: so it dies with the process that started it, however that one ends.
The path chooses what a connection does:

=============================================  ==========================================================
``/sink``                                      counts messages; answers a message ``done`` with its count
``/tally``                                     counts text messages, the bytes of their frames, and those that
                                               are compressed; answers a binary message with these numbers
``/echo``                                      sends everything back
``/source?size=64&count=1000&binary=0``        answers a message ``go`` with a flood of messages
``/source?size=1024&count=1000&json=1``        the same with varied JSON; answers a binary message as
                                               ``/tally`` does, for the frames that the flood repeats
``/report?run=ID&threads=50&messages=20000``   opens a run; answers any message with its account, as JSON
``/verify?run=ID``                             checks every message of that run (see ``verifier.py``); with
                                               ``&pause=0.2&every=1000`` it stops reading for 0.2 s after
                                               every 1,000 messages
=============================================  ==========================================================

With ``deflate=1`` in the query a connection has permessage-deflate, or is refused if that was not offered.
The server inflates nothing, and what it sends is compressed beforehand: it is the client that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import ssl
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import cast
from urllib.parse import parse_qsl, urlsplit

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from benchmarks.limits import allow_many_files
from benchmarks.quotes import quotes
from benchmarks.verifier import Verifier

__all__ = ["main"]

_MAX_FRAME = 64 * 1024 * 1024
_DONE = b"done"
_TEXT = WSMsgType.TEXT
_RSV1 = 0x40  # set in the first byte of a frame whose payload is compressed (RFC 7692, section 6)
_DIFFERENT = 64  # messages of a flood of JSON, which then come again
_WINDOW_BITS = 12  # what most servers grant a client, to bound the memory that each connection costs them
_HELD = 256  # messages that are checked together
_EXTENSIONS = "Sec-WebSocket-Extensions"
_FLOOD_PIECE = 128 * 1024  # bytes written at once by /source: the socket, not this process, should be slow

Query = dict[str, str]


class Sink(WSListener):
    """Counts. The client that says ``done`` behind its last message is told how many came before it."""

    def __init__(self, query: Query) -> None:
        self._count = 0  # owned by the event loop

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.payload_size == len(_DONE) and frame.get_payload_as_bytes() == _DONE:
            transport.send(WSMsgType.TEXT, str(self._count))
        elif _close_received(transport) and frame.msg_type == WSMsgType.CLOSE:
            # The first question is cheaper than the second, but true for messages before the close, too.
            _answer_close(transport, frame)
        else:
            self._count += 1


class Tally(WSListener):
    """Counts what arrives, compressed or not. Any binary message asks for the numbers so far."""

    def __init__(self, query: Query) -> None:
        # Owned by the event loop.
        self._count = 0
        self._bytes = 0
        self._compressed = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == _TEXT:
            size = frame.payload_size
            self._count += 1
            self._bytes += size + (6 if size < 126 else 8 if size < 0x10000 else 14)
            self._compressed += frame.rsv1
        elif frame.msg_type == WSMsgType.CLOSE:
            _answer_close(transport, frame)
        elif frame.msg_type == WSMsgType.BINARY:
            transport.send(_TEXT, f"{self._count} {self._bytes} {self._compressed}")


class Echo(WSListener):
    """Sends every message back."""

    def __init__(self, query: Query) -> None:
        pass

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            _answer_close(transport, frame)
        elif frame.msg_type != WSMsgType.PONG:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


class Source(WSListener):
    """Floods. Frames are made once and written many at a time, as fast as the socket takes them."""

    def __init__(self, query: Query) -> None:
        self._frames = _quote_frames(query) if query.get("json") == "1" else [_plain_frame(query)]
        self._total = int(query.get("count", "1000"))
        # Owned by the event loop.
        self._pieces: Iterator[bytes] = iter(())
        self._transport: WSTransport | None = None
        self._paused = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            _answer_close(transport, frame)
        elif frame.msg_type == WSMsgType.BINARY:
            compressed = sum(bool(one[0] & _RSV1) for one in self._frames)
            transport.send(_TEXT, f"{len(self._frames)} {sum(map(len, self._frames))} {compressed}")
        elif frame.msg_type != WSMsgType.PONG:
            self._transport = transport
            self._pieces = _frames_in_pieces(self._frames, self._total)
            self._pump()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def _pump(self) -> None:
        assert self._transport is not None
        write = self._transport.underlying_transport.write
        while not self._paused:
            piece = next(self._pieces, None)
            if piece is None:
                return
            write(piece)


class Run:
    """One connection under the eyes of a :class:`~benchmarks.verifier.Verifier`."""

    def __init__(self, query: Query) -> None:
        self.verifier = Verifier(int(query["threads"]), int(query["messages"]))
        # Owned by the event loop.
        self.first_frame = 0.0
        self.last_frame = 0.0
        self.first_violation = 0.0
        self.ended = False
        self.close_code: int | None = None
        self.failure = ""
        self.server_error = ""

    def note_arrival(self) -> None:
        """Something has arrived just now."""
        self.last_frame = time.monotonic()
        self.first_frame = self.first_frame or self.last_frame

    def account(self) -> dict[str, object]:
        """What ``/report`` answers; times in seconds since the first message."""
        started = self.first_frame
        return {
            **self.verifier.summary().as_dict(),
            "seconds": self.last_frame - started,
            "violated_after_seconds": self.first_violation - started if self.first_violation else None,
            "ended": self.ended,
            "close_code": self.close_code,
            "failure": self.failure,
            "server_error": self.server_error,
        }


class Pauses:
    """Stops reading for ``seconds`` after every ``every`` messages, as a busy peer or a slow network does."""

    def __init__(self, seconds: float, every: int) -> None:
        self._seconds = seconds
        self._every = every
        self._left = every  # owned by the event loop

    def after(self, transport: WSTransport, messages: int) -> None:
        """Count some messages, and pause if it is time."""
        self._left -= messages
        if self._left > 0 or not self._seconds:
            return
        self._left = self._every
        stream = cast("asyncio.ReadTransport", transport.underlying_transport)
        stream.pause_reading()
        asyncio.get_running_loop().call_later(self._seconds, _resume_reading, stream)


class Verify(WSListener):
    """Checks every frame of one run: many at a time, so that the judge is not what limits the rate."""

    def __init__(self, run: Run, pauses: Pauses) -> None:
        self._run = run
        self._pauses = pauses
        # Owned by the event loop.
        self._held: list[bytes] = []
        self._clean = True  # nothing has been violated yet

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        held = self._held
        message = frame.msg_type == _TEXT and frame.fin and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        if message:
            held.append(frame.get_payload_as_bytes())
            if frame.tail_size and len(held) < _HELD:
                return
        try:
            self._check_held(transport)
            if not message:
                self._look_at(transport, frame)
        except Exception as error:
            # picows would close with 1011, which must not be taken for what the client has done.
            self._run.server_error = repr(error)
            raise

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        run = self._run
        self._check_held(transport)
        handshake = transport.close_handshake
        if handshake is not None and handshake.sent is not None and not handshake.recv_then_sent:
            run.failure = f"{handshake.sent.code.value} {_text(handshake.sent.reason)}".strip()
            run.verifier.garbled(run.failure)
        run.verifier.end()
        self._note_violation()
        run.ended = True

    def _check_held(self, transport: WSTransport) -> None:
        held, self._held = self._held, []
        if not held:
            return
        self._run.note_arrival()
        self._run.verifier.check_all(held)
        self._note_violation()
        self._pauses.after(transport, len(held))

    def _look_at(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame that is no text message in one piece."""
        if frame.msg_type == WSMsgType.CLOSE:
            self._run.close_code = _close_code(frame)
            _answer_close(transport, frame)
        elif frame.msg_type != WSMsgType.PONG:
            self._run.verifier.garbled(f"a frame that nobody sent: {frame}")
            self._note_violation()

    def _note_violation(self) -> None:
        if self._clean and self._run.verifier.violated:
            self._clean = False
            self._run.first_violation = time.monotonic()


class Report(WSListener):
    """Answers questions about a run, also after its connection has died."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            _answer_close(transport, frame)
        else:
            transport.send(WSMsgType.TEXT, json.dumps(self._run.account()))


class Router:
    """From the path of a request to what its connection does. Lives in the event loop."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._routes: dict[str, Callable[[Query], WSListener]] = {
            "/sink": Sink,
            "/tally": Tally,
            "/echo": Echo,
            "/source": Source,
            "/verify": self._verify,
            "/report": self._report,
        }

    def __call__(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        url = urlsplit(request.path.decode())
        query, route = dict(parse_qsl(url.query)), self._routes.get(url.path)
        if route is None:
            return None
        if query.get("deflate") != "1":
            return route(query)
        return _with_deflate(route(query), request.headers.get(_EXTENSIONS, ""))

    def _report(self, query: Query) -> WSListener:
        return Report(self._runs.setdefault(query["run"], Run(query)))

    def _verify(self, query: Query) -> WSListener:
        pauses = Pauses(float(query.get("pause", "0")), int(query.get("every", "1000")))
        return Verify(self._runs[query["run"]], pauses)


def _with_deflate(listener: WSListener, offer: str) -> WSUpgradeResponseWithListener:
    """Grant permessage-deflate (RFC 7692, section 7.1); an upgrade that does not offer it is refused."""
    parameters = {part.strip() for part in offer.split(";")}
    if "permessage-deflate" not in parameters:
        refusal = WSUpgradeResponse.create_error_response(400, b"permessage-deflate was not offered")
        return WSUpgradeResponseWithListener(refusal, None)
    answer = "permessage-deflate; server_no_context_takeover"
    if "client_max_window_bits" in parameters:  # a client that names a number keeps to that one by itself
        answer += f"; client_max_window_bits={_WINDOW_BITS}"
    response = WSUpgradeResponse.create_101_response({_EXTENSIONS: answer})
    return WSUpgradeResponseWithListener(response, listener)


def _answer_close(transport: WSTransport, frame: WSFrame) -> None:
    transport.send(WSMsgType.CLOSE, frame.get_payload_as_bytes())
    transport.disconnect()


def _close_received(transport: WSTransport) -> bool:
    return transport.close_handshake is not None


def _close_code(frame: WSFrame) -> int | None:
    payload = frame.get_payload_as_bytes()
    return int.from_bytes(payload[:2], "big") if payload else None


def _resume_reading(stream: asyncio.ReadTransport) -> None:
    if not stream.is_closing():
        stream.resume_reading()


def _plain_frame(query: Query) -> bytes:
    return _frame(2 if query.get("binary") == "1" else 1, b"x" * int(query.get("size", "64")))


def _quote_frames(query: Query) -> list[bytes]:
    payloads = [message.encode() for message in quotes(int(query.get("size", "1024")), _DIFFERENT, seed=0)]
    if query.get("deflate") != "1":
        return [_frame(1, payload) for payload in payloads]
    return [_frame(1 | _RSV1, _compressed_alone(payload)) for payload in payloads]


def _compressed_alone(payload: bytes) -> bytes:
    """Compress one message that refers to none before it (RFC 7692, section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _frames_in_pieces(frames: Sequence[bytes], count: int) -> Iterator[bytes]:
    """``count`` frames, these ones over and over, many in each piece."""
    all_of_them = b"".join(frames)
    repeats = max(1, _FLOOD_PIECE // len(all_of_them))
    pieces, rest = divmod(count, repeats * len(frames))
    yield from repeat(all_of_them * repeats, pieces)
    if rest:
        yield all_of_them * (rest // len(frames)) + b"".join(frames[: rest % len(frames)])


def _frame(first: int, payload: bytes) -> bytes:
    """An unmasked frame; ``first`` is its first byte without FIN."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | first, size) + payload
    if size < 0x10000:
        return struct.pack("!BBH", 0x80 | first, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | first, 127, size) + payload


def _text(reason: object) -> str:
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason or "")


async def _serve(certificate: str | None) -> None:
    route = Router()
    servers = [await _listen(route, None)]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        servers.append(await _listen(route, context))
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    print(json.dumps(dict(zip(("port", "tls_port"), ports, strict=False))), flush=True)
    await _end_of_input()


async def _listen(route: Router, context: ssl.SSLContext | None) -> asyncio.Server:
    return await ws_create_server(route, "127.0.0.1", 0, ssl=context, max_frame_size=_MAX_FRAME, backlog=4096)


async def _end_of_input() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            ended.set()

    loop.add_reader(sys.stdin.fileno(), read)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.server", description="The benchmarks' server."
    )
    parser.add_argument("--certificate", metavar="PEM", help="key and certificate chain: serve TLS as well")
    arguments = parser.parse_args()
    logging.getLogger("picows").setLevel(logging.CRITICAL)  # broken clients are the point here, not news
    allow_many_files()
    asyncio.run(_serve(arguments.certificate))


if __name__ == "__main__":
    main()
