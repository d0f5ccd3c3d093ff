"""The inputs to begin with: what good servers send, and what bad ones do, for each target."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from deflating import TAIL, Server, server_frame, server_header

from fuzz.targets import decoder_input, inflater_input

__all__ = ["crashes", "seeds", "words", "write"]

CRASHES = Path(__file__).with_name("crashes")

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
JSON = b'{"type": "message", "text": "gr\xc3\xbc\xc3\x9fe \xe2\x98\x83", "numbers": [1, 2, 3]}'
NAME = "permessage-deflate"
PARAMETERS = (
    "client_max_window_bits",
    "client_no_context_takeover",
    "server_max_window_bits",
    "server_no_context_takeover",
)


def seeds(target: str) -> list[bytes]:
    """The seeds of a target."""
    return list({"decoder": _decoder, "inflater": _inflater, "negotiation": _negotiation}[target]())


def crashes(target: str) -> list[bytes]:
    """Inputs that broke a target once."""
    return [path.read_bytes() for path in sorted((CRASHES / target).glob("*"))]


def words(target: str) -> list[bytes]:
    """What an input of a target may be made of."""
    if target == "negotiation":
        return [word.encode() for word in (NAME, *PARAMETERS, "; ", ", ", "=", '="', "\\", "15", "08")]
    return [TAIL, TAIL[::-1], b"\x01" + TAIL, b"\xff" * 4]


def write(target: str, corpus: Path, dictionary: Path) -> None:
    """Write seeds and crashes of a target as files, and its words in libFuzzer's notation."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(target) + crashes(target)):
        (corpus / f"seed-{number:03}").write_bytes(data)
    lines = ["".join(f"\\x{byte:02x}" for byte in word) for word in words(target)]
    dictionary.write_text("".join(f'"{line}"\n' for line in lines), encoding="ascii")


def _decoder() -> Iterator[bytes]:
    for stream in _plain_streams():
        yield decoder_input(stream, way=1)
        yield decoder_input(stream, agreement=1, way=2, limit=1, cuts=[3, 10])
    for stream in _compressed_streams():
        yield decoder_input(stream, agreement=1, way=1)
        yield decoder_input(stream, agreement=1, way=2, limit=4, cuts=[10])
        yield decoder_input(stream, agreement=2, way=3, limit=3)


def _plain_streams() -> Iterator[bytes]:
    yield server_frame(TEXT, JSON) + server_frame(BINARY, bytes(range(200))) + server_frame(TEXT)
    yield (
        server_frame(TEXT, JSON[:35], fin=False)
        + server_frame(PING, b"ping")
        + server_frame(CONTINUATION, fin=False)
        + server_frame(PONG)
        + server_frame(CONTINUATION, JSON[35:])
    )
    yield server_frame(BINARY, b"x", fin=False) + server_frame(CLOSE, b"\x03\xe8bye")
    yield server_header(BINARY, 1 << 16) + b"x" * 500
    yield server_header(BINARY, 1 << 40)
    yield server_frame(CLOSE)
    for first, second in product((0x01, 0x80, 0x83, 0x91, 0xC1, 0xC9), (0x00, 0x80, 0x7E)):
        yield bytes([first, second]) + bytes(10)


def _compressed_streams() -> Iterator[bytes]:
    server = Server()
    yield server.frame(TEXT, JSON) + server.frame(BINARY, JSON) + server_frame(TEXT, b"plain")
    yield server_frame(PING, b"p").join(Server().fragments(TEXT, JSON * 2, 3, 20, 20))
    yield Server(level=0).frame(BINARY, JSON)
    yield Server().frame(BINARY, bytes(131_200)) * 2  # the last bytes come out when all is in
    yield Server().frame(TEXT, JSON[:-1] + b"\xff")
    yield server_frame(0x41, bytes.fromhex("f348cdc9c9070000")) * 2
    yield server_frame(0x41) + server_frame(0x41, b"\x00") + server_frame(0x41, b"\x07")


def _inflater() -> Iterator[bytes]:
    for level, strategy, agreement in product((0, 1, 9), (0, 2, 3, 4), (1, 2)):
        server = Server(level=level, strategy=strategy, keeps_context=agreement == 1)
        yield inflater_input(server.payload(JSON), server.payload(JSON + b"!"), agreement=agreement - 1)
        yield inflater_input(server.payload(JSON)[:-9], server.payload(JSON), agreement=agreement - 1)
    yield inflater_input(Server().payload(bytes(5000)), b"\x00")
    yield inflater_input(bytes.fromhex("f348cdc9c9070000"), b"", size=0, room=0)


def _negotiation() -> Iterator[bytes]:
    for text in (
        NAME,
        f"{NAME}; client_max_window_bits=10; server_max_window_bits=8",
        f'{NAME};server_max_window_bits="1\\0" ; client_no_context_takeover',
        f" , {NAME} ;\tserver_no_context_takeover ,",
        f"{NAME}; client_max_window_bits, {NAME}",
        f"{NAME}; server_max_window_bits=010; unknown=x",
    ):
        yield text.encode()
