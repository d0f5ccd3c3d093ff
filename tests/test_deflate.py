"""permessage-deflate by itself: what is agreed, what is compressed, what is inflated. zlib is the witness."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest
from deflating import TAIL, Server, in_pieces, stands_between_blocks
from hypothesis import given
from hypothesis import strategies as st

import wsclient
from wsclient.deflate import Agreement, Deflate, Deflater, Inflater
from wsclient.exceptions import ProtocolError
from wsclient.frames import Frame, Opcode, Outgoing

NAME = "permessage-deflate"
MIB = 1 << 20

# The parameters that change how data is compressed or inflated, in all their combinations that differ.
every_deflate = st.builds(
    Deflate,
    threshold=st.sampled_from([0, 1, 5, 100]),
    level=st.integers(0, 9),
    memory_level=st.integers(1, 9),
    client_max_window_bits=st.integers(8, 15),
    client_no_context_takeover=st.booleans(),
)


# ---------------------------------------------------------------------------------------------- negotiation


@pytest.mark.parametrize(
    ("deflate", "offer"),
    [
        (Deflate(), "permessage-deflate; client_max_window_bits=12"),
        (Deflate(client_max_window_bits=15), "permessage-deflate; client_max_window_bits"),
        (Deflate(client_max_window_bits=8), "permessage-deflate; client_max_window_bits=8"),
        (
            Deflate(server_max_window_bits=10),
            "permessage-deflate; client_max_window_bits=12; server_max_window_bits=10",
        ),
        (
            Deflate(client_no_context_takeover=True, server_no_context_takeover=True),
            "permessage-deflate; client_max_window_bits=12; client_no_context_takeover;"
            " server_no_context_takeover",
        ),
    ],
)
def test_offer(deflate: Deflate, offer: str) -> None:
    assert deflate.offer() == offer


def test_it_is_public() -> None:
    assert wsclient.Deflate is Deflate


def agreed(**changes: object) -> Agreement:
    values: dict[str, object] = {
        "client_max_window_bits": 12,
        "server_max_window_bits": 15,
        "client_no_context_takeover": False,
        "server_no_context_takeover": False,
        "threshold": 256,
        "level": 3,
        "memory_level": 5,
    }
    return Agreement(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("deflate", "response", "agreement"),
    [
        pytest.param(Deflate(), NAME, agreed(), id="no parameters"),
        pytest.param(
            Deflate(),
            f"{NAME}; client_max_window_bits=9; server_max_window_bits=11",
            agreed(client_max_window_bits=9, server_max_window_bits=11),
            id="smaller windows than offered",
        ),
        pytest.param(
            Deflate(), f"{NAME}; client_max_window_bits=15", agreed(), id="a larger window than our hint"
        ),
        pytest.param(
            Deflate(client_max_window_bits=15),
            f"{NAME}; client_max_window_bits=15",
            agreed(client_max_window_bits=15),
            id="a hint without a value",
        ),
        pytest.param(
            Deflate(),
            f"{NAME}; server_no_context_takeover; client_no_context_takeover",
            agreed(client_no_context_takeover=True, server_no_context_takeover=True),
            id="no context although not asked for",
        ),
        pytest.param(
            Deflate(client_no_context_takeover=True),
            NAME,
            agreed(client_no_context_takeover=True),
            id="our own context is ours to give up",
        ),
        pytest.param(
            Deflate(server_max_window_bits=10, server_no_context_takeover=True),
            f"{NAME}; server_max_window_bits=10; server_no_context_takeover",
            agreed(server_max_window_bits=10, server_no_context_takeover=True),
            id="what was asked for",
        ),
        pytest.param(
            Deflate(server_max_window_bits=10),
            f"{NAME}; server_max_window_bits=8",
            agreed(server_max_window_bits=8),
            id="better than asked for",
        ),
        pytest.param(
            Deflate(threshold=0, level=9, memory_level=1),
            NAME,
            agreed(threshold=0, level=9, memory_level=1),
            id="what the server is not told",
        ),
        pytest.param(
            Deflate(),
            f'{NAME};server_max_window_bits="10";client_max_window_bits="1\\0"',
            agreed(client_max_window_bits=10, server_max_window_bits=10),
            id="quoted values",
        ),
        pytest.param(
            Deflate(),
            f" {NAME} ;\tserver_max_window_bits = 10 ; client_no_context_takeover ",
            agreed(server_max_window_bits=10, client_no_context_takeover=True),
            id="white space",
        ),
        pytest.param(Deflate(), f", ,{NAME},,", agreed(), id="empty elements of the list"),
    ],
)
def test_agreement(deflate: Deflate, response: str, agreement: Agreement) -> None:
    assert deflate.agree(response) == agreement


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        ("", "names no extension"),
        (" , ,", "names no extension"),
        ("x-webkit-deflate-frame", "x-webkit-deflate-frame was not offered"),
        ("Permessage-Deflate", "Permessage-Deflate was not offered"),
        (f"bbf-usp-protocol, {NAME}", "bbf-usp-protocol was not offered"),
        (f"{NAME}, {NAME}", "more than one extension"),
        (f"{NAME}; server_max_window_bits=10 , , x", "more than one extension"),
        (f"{NAME}; unheard_of", "unknown parameter unheard_of"),
        (f"{NAME}; SERVER_MAX_WINDOW_BITS=10", "unknown parameter SERVER_MAX_WINDOW_BITS"),
        (
            f"{NAME}; server_no_context_takeover; server_no_context_takeover",
            "duplicate parameter server_no",
        ),
        (f"{NAME}; client_max_window_bits=9; client_max_window_bits=9", "duplicate parameter client_max"),
        (f"{NAME}; server_no_context_takeover=true", "server_no_context_takeover must have no value"),
        (f'{NAME}; client_no_context_takeover=""', "client_no_context_takeover must have no value"),
        (f"{NAME}; client_max_window_bits", "client_max_window_bits must have a value of 8 to 15"),
        (f"{NAME}; server_max_window_bits", "server_max_window_bits must have a value of 8 to 15"),
        (f"{NAME}; server_max_window_bits=7", "value of 8 to 15"),
        (f"{NAME}; server_max_window_bits=16", "value of 8 to 15"),
        (f"{NAME}; server_max_window_bits=08", "value of 8 to 15"),
        (f"{NAME}; server_max_window_bits=010", "value of 8 to 15"),
        (f"{NAME}; server_max_window_bits=+9", "value of 8 to 15"),
        (f"{NAME}; server_max_window_bits=1_0", "value of 8 to 15"),
        (f'{NAME}; server_max_window_bits=""', "value of 8 to 15"),
        (f'{NAME}; server_max_window_bits=" 9"', "value of 8 to 15"),
        (f"{NAME}; server_max_window_bits=\N{ARABIC-INDIC DIGIT NINE}", "malformed"),
        (f"{NAME}; server_max_window_bits=", "malformed"),
        (f'{NAME}; server_max_window_bits="10', "malformed"),
        (f'{NAME}; server_max_window_bits="10"x', "malformed"),
        (f"{NAME}; server_max_window_bits=10 11", "malformed"),
        (f"{NAME};", "malformed at character 18"),
        (f"{NAME};;client_no_context_takeover", "malformed"),
        (f"{NAME} client_no_context_takeover", "malformed"),
        (f"{NAME}\n", "malformed"),
        ("=", "malformed"),
    ],
)
def test_no_agreement(response: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        Deflate().agree(response)
    assert str(raised.value).startswith("Sec-WebSocket-Extensions: ")
    assert repr(response) in str(raised.value)


@pytest.mark.parametrize(
    ("deflate", "response", "problem"),
    [
        (Deflate(server_max_window_bits=10), NAME, "server_max_window_bits was requested and is not granted"),
        (
            Deflate(server_max_window_bits=10),
            f"{NAME}; server_max_window_bits=11",
            "server_max_window_bits is over the requested 10",
        ),
        (
            Deflate(server_no_context_takeover=True),
            NAME,
            "server_no_context_takeover was requested and is not granted",
        ),
    ],
)
def test_what_was_requested_must_be_granted(deflate: Deflate, response: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        deflate.agree(response)


def test_a_long_answer_is_shown_in_part() -> None:
    with pytest.raises(ValueError, match="unknown parameter") as raised:
        Deflate().agree(f"{NAME}; unknown=" + "x" * 10_000)
    assert len(str(raised.value)) < 400


@given(
    st.lists(
        st.one_of(
            st.sampled_from([NAME, ";", ",", "=", '"', "\\", " ", "\t", "8", "15", "16", "0"]),
            st.sampled_from([field.name for field in dataclasses.fields(Deflate)]),
            st.text(max_size=3),
        ),
        max_size=12,
    ).map("".join)
)
def test_any_answer_is_agreed_to_or_refused(response: str) -> None:
    problem = ""
    try:
        agreement = Deflate().agree(response)
    except ValueError as error:
        problem = str(error)
        agreement = agreed()
    assert problem.startswith("Sec-WebSocket-Extensions: " if problem else "")
    assert 8 <= agreement.server_max_window_bits <= 15
    assert 8 <= agreement.client_max_window_bits <= 12


@pytest.mark.parametrize(
    ("field", "value", "error", "problem"),
    [
        ("threshold", -1, ValueError, "0 or more, not -1"),
        ("threshold", 1.5, TypeError, "an int, not 1.5"),
        ("level", 10, ValueError, "0 to 9, not 10"),
        ("level", -1, ValueError, "0 to 9, not -1"),
        ("level", True, TypeError, "an int, not True"),
        ("memory_level", 0, ValueError, "1 to 9, not 0"),
        ("memory_level", None, TypeError, "an int, not None"),
        ("client_max_window_bits", 7, ValueError, "8 to 15, not 7"),
        ("client_max_window_bits", 16, ValueError, "8 to 15, not 16"),
        ("server_max_window_bits", "15", TypeError, "an int, not '15'"),
        ("client_no_context_takeover", 1, TypeError, "True or False, not 1"),
        ("server_no_context_takeover", None, TypeError, "True or False, not None"),
    ],
)
def test_impossible_wishes(field: str, value: object, error: type[Exception], problem: str) -> None:
    with pytest.raises(error, match=f"compression: {field}: must be {problem}"):
        Deflate(**{field: value})  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- compressing


def deflater(**wishes: object) -> Deflater:
    return Deflate(**wishes).agree(NAME).deflater()  # type: ignore[arg-type]


class Witness:
    """Inflates as RFC 7692, section 7.2.2, says it, by zlib alone."""

    def __init__(self, window_bits: int = 15, keeps_context: bool = True) -> None:
        self.window_bits = window_bits
        self.keeps_context = keeps_context
        self.zlib = zlib.decompressobj(-window_bits)

    def message(self, payload: bytes) -> bytes:
        data = self.zlib.decompress(payload + TAIL)
        assert not self.zlib.eof
        assert not self.zlib.unconsumed_tail
        if not self.keeps_context:
            self.zlib = zlib.decompressobj(-self.window_bits)
        return data

    def message_within_window(self, payload: bytes) -> bytes:
        """Inflate byte by byte: of what comes out at once, zlib lets references go back beyond the window."""
        rest, data = payload + TAIL, b""
        while rest:
            data += self.zlib.decompress(rest, 1)
            rest = self.zlib.unconsumed_tail
        while more := self.zlib.decompress(b"", 1):
            data += more
        return data


def compressed(frames: Sequence[Outgoing]) -> list[Frame]:
    found = []
    for frame in frames:
        assert isinstance(frame, Frame)
        found.append(frame)
    return found


def test_messages_become_frames_with_rsv1() -> None:
    text, data = compressed(deflater(threshold=0).compress(["grüße", b"\xff" * 100]))
    assert (text.opcode, text.fin, text.rsv1) == (Opcode.TEXT, True, True)
    assert (data.opcode, data.fin, data.rsv1) == (Opcode.BINARY, True, True)
    witness = Witness()
    assert witness.message(text.payload).decode() == "grüße"
    assert witness.message(data.payload) == b"\xff" * 100
    assert len(data.payload) < 10


@pytest.mark.parametrize(
    ("message", "size"),
    [("x" * 10, 10), ("é" * 5, 10), ("\N{SNOWMAN}" * 4, 12), (b"x" * 10, 10), (Frame(Opcode.TEXT, b"x"), 1)],
)
def test_threshold_is_in_bytes(message: Outgoing, size: int) -> None:
    (same,) = deflater(threshold=size + 1).compress([message])
    assert same is message
    (frame,) = compressed(deflater(threshold=size).compress([message]))
    assert frame.rsv1


def test_control_frames_pass() -> None:
    batch: list[Outgoing] = [Frame(Opcode.PING, b"p" * 100), Frame(Opcode.CLOSE, b"\x03\xe8"), "x"]
    ping, close, text = deflater(threshold=0).compress(batch)
    assert (ping, close) == (batch[0], batch[1])
    assert isinstance(text, Frame)


def test_nothing_to_compress() -> None:
    assert deflater().compress([]) == []


def test_context_is_kept_from_message_to_message() -> None:
    message = os.urandom(1000)
    first, second = compressed(deflater().compress([message, message]))
    assert len(first.payload) > 1000
    assert len(second.payload) < 100


def test_without_context_each_message_stands_alone() -> None:
    message = os.urandom(1000)
    first, second = compressed(deflater(client_no_context_takeover=True).compress([message, message]))
    assert first == second
    assert Witness().message(second.payload) == message


def test_fragments_are_one_compressed_message() -> None:
    batch: list[Outgoing] = [
        Frame(Opcode.TEXT, b"Hello, ", fin=False),
        Frame(Opcode.PING, b"p"),
        Frame(Opcode.CONTINUATION, b"Hello, " * 10, fin=False),
        Frame(Opcode.CONTINUATION, b"", fin=False),
        Frame(Opcode.CONTINUATION, b"world"),
        "Hello, world",
    ]
    out = compressed(deflater(threshold=5).compress(batch))
    assert out.pop(1) == batch[1]
    assert [(frame.opcode, frame.fin, frame.rsv1) for frame in out] == [
        (Opcode.TEXT, False, True),
        (Opcode.CONTINUATION, False, False),
        (Opcode.CONTINUATION, False, False),
        (Opcode.CONTINUATION, True, False),
        (Opcode.TEXT, True, True),
    ]
    witness = Witness()
    assert witness.message(b"".join(frame.payload for frame in out[:4])) == b"Hello, " * 11 + b"world"
    assert witness.message(out[4].payload) == b"Hello, world"


def test_a_fragmented_message_is_compressed_whatever_its_size() -> None:
    # How large it becomes is not known when its first fragment goes out.
    batch = [Frame(Opcode.BINARY, b"x", fin=False), Frame(Opcode.CONTINUATION, b"")]
    first, last = compressed(deflater(threshold=1000).compress(batch))
    assert first.rsv1
    assert Witness().message(first.payload + last.payload) == b"x"


def test_a_fragmented_message_may_come_in_several_batches() -> None:
    compressor = deflater()
    batches: list[list[Outgoing]] = [
        [Frame(Opcode.BINARY, b"a" * 300, fin=False)],
        [Frame(Opcode.CONTINUATION, b"b" * 300, fin=False)],
        [Frame(Opcode.CONTINUATION, b"c" * 300), b"d" * 300],
    ]
    out = [frame for batch in batches for frame in compressed(compressor.compress(batch))]
    witness = Witness()
    sent = witness.message(b"".join(frame.payload for frame in out[:3]))
    assert sent == b"a" * 300 + b"b" * 300 + b"c" * 300
    assert witness.message(out[3].payload) == b"d" * 300


@pytest.mark.parametrize("ended", [False, True])
def test_a_continuation_of_nothing_is_refused(ended: bool) -> None:
    compressor = deflater()
    if ended:
        compressor.compress([Frame(Opcode.TEXT, b"", fin=False), Frame(Opcode.CONTINUATION, b"")])
    with pytest.raises(ValueError, match="without a message"):
        compressor.compress([Frame(Opcode.CONTINUATION, b"x")])


@pytest.mark.parametrize("takeover", [False, True])
def test_empty_messages_can_be_expressed(takeover: bool) -> None:
    compressor = deflater(threshold=0, client_no_context_takeover=not takeover)
    empty_fragments: list[Outgoing] = [Frame(Opcode.TEXT, b"", fin=False), Frame(Opcode.CONTINUATION, b"")]
    batch: list[Outgoing] = ["", "", b"", *empty_fragments, "x", "", *empty_fragments, "y", "y", ""]
    witness, data, received = Witness(keeps_context=takeover), b"", []
    for frame in compressed(compressor.compress(batch)):
        data += frame.payload
        if frame.fin:
            assert data, "section 7.2.3.6: an empty message is not an empty payload"
            received.append(witness.message(data))
            data = b""
    assert received == [b"", b"", b"", b"", b"x", b"", b"", b"y", b"y", b""]


def inflatable_with(window_bits: int, frames: Sequence[Frame], expected: Sequence[bytes]) -> bool:
    witness = Witness(window_bits)
    try:
        return [witness.message_within_window(frame.payload) for frame in frames] == list(expected)
    except zlib.error:
        return False


def repeating_at(distance: int) -> bytes:
    """Bytes worth referring back to, just that far."""
    unit = random.Random(distance).randbytes(distance)
    return unit * (4000 // distance + 2)


@pytest.mark.parametrize("level", range(1, 10))
@pytest.mark.parametrize("memory_level", [1, 5, 9])
def test_a_window_of_8_bits_is_kept(level: int, memory_level: int) -> None:
    messages = [repeating_at(distance) for distance in (1, 200, 249, 250, 251, 255, 256, 257, 400, 511, 512)]
    wishes = {"level": level, "memory_level": memory_level, "threshold": 0}
    frames = compressed(deflater(client_max_window_bits=8, **wishes).compress(messages))
    assert inflatable_with(8, frames, messages)
    # It is no matter of course: in a larger window these messages do refer further back.
    frames = compressed(deflater(client_max_window_bits=10, **wishes).compress(messages))
    assert not inflatable_with(8, frames, messages)
    assert inflatable_with(10, frames, messages)


@pytest.mark.parametrize("bits", range(8, 16))
def test_every_window_is_kept(bits: int) -> None:
    messages = [repeating_at(distance) for distance in (100, 250, 500, 1000, 2000, 4000, 8000, 16_000)]
    frames = compressed(deflater(client_max_window_bits=bits, level=9, threshold=0).compress(messages))
    assert inflatable_with(bits, frames, messages)


whole_messages: st.SearchStrategy[list[Outgoing]] = st.one_of(
    st.text(max_size=140),
    st.binary(max_size=140),
    st.builds(lambda unit, count: unit * count, st.binary(max_size=20), st.integers(0, 200)),
    st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125)),
    st.builds(Frame, st.sampled_from([Opcode.TEXT, Opcode.BINARY]), st.binary(max_size=300)),
).map(lambda item: [item])
fragmented_messages: st.SearchStrategy[list[Outgoing]] = st.lists(
    st.binary(max_size=400), min_size=2, max_size=5
).map(
    lambda parts: [
        Frame(Opcode.CONTINUATION if index else Opcode.BINARY, part, fin=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]
)


def payload_of(item: Outgoing) -> bytes:
    if isinstance(item, str):
        return item.encode()
    return item if isinstance(item, bytes) else item.payload


@given(
    every_deflate,
    st.lists(st.one_of(whole_messages, fragmented_messages), max_size=12).map(
        lambda messages: [item for message in messages for item in message]
    ),
    st.data(),
)
def test_whatever_is_compressed_inflates_again(
    deflate: Deflate, batch: list[Outgoing], data: st.DataObject
) -> None:
    compressor = deflate.agree(NAME).deflater()
    cut = data.draw(st.integers(0, len(batch)))
    out = compressor.compress(batch[:cut]) + compressor.compress(batch[cut:])
    assert len(out) == len(batch)
    witness = Witness(deflate.client_max_window_bits, not deflate.client_no_context_takeover)
    collected: list[tuple[bytes, bytes]] = []  # of the message under way: what was sent, and as what
    for item, frame in zip(batch, out, strict=True):
        if not isinstance(frame, Frame) or frame.opcode >= Opcode.CLOSE or not (frame.rsv1 or collected):
            assert frame is item
            continue
        assert frame.rsv1 is not bool(collected), "RSV1 is for the first frame of a message only"
        collected.append((payload_of(item), frame.payload))
        if frame.fin:
            assert witness.message(b"".join(sent for _, sent in collected)) == b"".join(
                given for given, _ in collected
            )
            collected = []


def memory_of(make: Callable[[], object]) -> int:
    """Bytes that are allocated when ``make`` returns, zlib's own among them."""
    tracemalloc.start()
    try:
        kept = make()
        assert kept is not None
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_memory_of_a_compressor() -> None:
    def used(**wishes: object) -> Deflater:
        compressor = deflater(**wishes)
        compressor.compress([b"x" * 1000])
        return compressor

    assert memory_of(deflater) < 2_000, "none before the first message that needs it"
    assert memory_of(used) < 50_000
    assert memory_of(lambda: used(client_max_window_bits=15, memory_level=8)) > 250_000
    assert memory_of(lambda: used(client_no_context_takeover=True)) < 2_000


# -------------------------------------------------------------------------------------------- decompressing


def inflater(**agreement: object) -> Inflater:
    return agreed(**agreement).inflater()


def deflated(*messages: bytes, level: int = 6, strategy: int = 0) -> list[bytes]:
    """Payloads as a server sends them, one after the other."""
    return list(map(Server(level=level, strategy=strategy).payload, messages))


# Section 7.2.3 of RFC 7692; "Hello" unless said otherwise.
EXAMPLES = [
    pytest.param(bytes.fromhex("f248cdc9c90700"), b"Hello", id="7.2.3.1 one block"),
    pytest.param(bytes.fromhex("f200 1100 00"), b"Hello", id="7.2.3.2 sharing the window"),
    pytest.param(bytes.fromhex("000500faff48656c6c6f00"), b"Hello", id="7.2.3.3 no compression"),
    pytest.param(bytes.fromhex("f348cdc9c9070000"), b"Hello", id="7.2.3.4 a final block"),
    pytest.param(bytes.fromhex("f248050000 00ffff cac9c90700"), b"Hello", id="7.2.3.5 two blocks"),
    pytest.param(b"\x00", b"", id="7.2.3.6 empty"),
    pytest.param(b"", b"", id="empty, from a server that flushed twice"),
    pytest.param(bytes.fromhex("f348cdc9c90700"), b"Hello", id="a final block and no byte behind it"),
    pytest.param(bytes.fromhex("f348cdc9c90700") * 3, b"Hello" * 3, id="three final blocks"),
    pytest.param(bytes.fromhex("f348cdc9c90700f248cdc9c90700"), b"HelloHello", id="final, not final"),
    pytest.param(bytes.fromhex("010000ffff") * 2000 + b"\x00", b"", id="thousands of empty final blocks"),
]


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize(("payload", "expected"), EXAMPLES)
def test_examples(payload: bytes, expected: bytes, takeover: bool) -> None:
    shares = payload.startswith(bytes.fromhex("f20011"))
    first = bytes.fromhex("f248cdc9c90700")
    readers = [inflater(server_no_context_takeover=not takeover) for _ in range(4)]
    for reader in readers:
        assert reader.message(first, 100) == b"Hello"
    if shares and not takeover:
        with pytest.raises(ProtocolError, match="too far back"):
            readers[0].message(payload, 100)
        return
    assert readers[0].message(payload, 100) == expected
    assert in_pieces(readers[1], payload, 1, 1) == expected
    assert in_pieces(readers[2], payload, 10_000, 10_000) == expected
    assert in_pieces(readers[3], payload, 3, 2) == expected
    for reader in readers:  # and it goes on
        assert reader.message(first, 100) == b"Hello"


def test_context_is_kept_after_a_message_that_is_empty_in_every_way() -> None:
    first, second = deflated(b"Hello, world", b"Hello, world")
    reader = inflater()
    reader.message(first, 100)
    assert reader.message(b"", 100) == reader.message(b"\x00", 100) == in_pieces(reader, b"", 1, 1) == b""
    assert reader.message(second, 100) == b"Hello, world"


@pytest.mark.parametrize("takeover", [True, False])
def test_messages_and_pieces_may_alternate(takeover: bool) -> None:
    messages = [b"Hello, world %d" % (number // 2) for number in range(10)]
    payloads = deflated(*messages) if takeover else [deflated(message)[0] for message in messages]
    reader = inflater(server_no_context_takeover=not takeover)
    for number, (payload, message) in enumerate(zip(payloads, messages, strict=True)):
        if number % 2:
            assert reader.message(payload, 100) == message
        else:
            assert in_pieces(reader, payload, number + 1, 7) == message


@pytest.mark.parametrize("payload", [*deflated(b"x" * 100_000), bytes.fromhex("f348cdc9c90700") * 20_000])
def test_no_more_comes_out_than_one_byte_over_the_limit(payload: bytes) -> None:
    for limit in (0, 1, 50, 99_999):
        assert len(inflater().message(payload, limit)) == limit + 1
    assert len(inflater().message(payload, 100_000)) == 100_000


def kinds_of_payloads() -> Iterator[tuple[list[bytes], bytes]]:
    """Payloads of all kinds of blocks, each after the ones that its context needs."""
    chance = random.Random(7692)
    text = b'{"id": %d, "name": "alpha"}, '
    messages = [
        b"Hello",
        b"ab" * 400,
        chance.randbytes(400),
        b"".join(text % chance.randrange(10**6) for _ in range(30)),
    ]
    strategies = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)
    for message, level, strategy in itertools.product(messages, (0, 1, 6), strategies):
        before, after = deflated(message[:50], message, level=level, strategy=strategy)
        yield [], deflated(message, level=level, strategy=strategy)[0]
        yield [before], after


def test_a_message_that_ends_too_early_is_noticed() -> None:
    noticed = 0
    for earlier, payload in kinds_of_payloads():
        for end in range(1, len(payload) + 1):
            whole, piecewise = inflater(), inflater()
            for one in earlier:
                whole.message(one, MIB)
                piecewise.message(one, MIB)
            if stands_between_blocks(earlier, payload[:end]):
                assert in_pieces(piecewise, payload[:end], 100, MIB) == whole.message(payload[:end], MIB)
                continue
            noticed += 1
            attempts = [
                partial(whole.message, payload[:end], MIB),
                partial(in_pieces, piecewise, payload[:end], 100, MIB),
            ]
            for attempt in attempts:
                with pytest.raises(ProtocolError, match="ends within a block") as raised:
                    attempt()
                assert raised.value.code == 1007
    assert noticed > 10_000


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"\x07", "invalid block type"),
        (b"\x00\x05\x00\x00\x00", "invalid stored block lengths"),
        (b"\x02\x7e\xff", "damaged"),
        (bytes.fromhex("f348cdc9c90700") + b"\x07", "invalid block type"),
    ],
)
def test_damaged_data(payload: bytes, problem: str) -> None:
    attempts: list[Callable[[], bytes]] = [
        lambda: inflater().message(payload, 100),
        lambda: in_pieces(inflater(), payload, 1, 100),
        lambda: in_pieces(inflater(), payload, 100, 1),
    ]
    for attempt in attempts:
        with pytest.raises(ProtocolError, match=problem) as raised:
            attempt()
        assert raised.value.code == 1007
        assert "compressed message" in raised.value.reason
        assert len(raised.value.reason.encode()) <= 123, "it has to fit in a close frame"


def test_the_agreed_window_is_what_we_can_look_back() -> None:
    (payload,) = deflated(repeating_at(1000))
    assert inflater(server_max_window_bits=10).message(payload, MIB) == repeating_at(1000)
    with pytest.raises(ProtocolError, match="too far back"):
        in_pieces(inflater(server_max_window_bits=8), payload, 1, 100)


@given(st.binary(max_size=200), st.integers(0, 1000), st.integers(1, 50), st.integers(1, 300), st.booleans())
def test_a_message_and_its_pieces_give_the_same(
    payload: bytes, limit: int, size: int, room: int, takeover: bool
) -> None:
    outcomes: list[bytes | int] = []
    attempts: list[Callable[[Inflater], bytes]] = [
        lambda reader: reader.message(payload, limit),
        lambda reader: in_pieces(reader, payload, size, room),
    ]
    for attempt in attempts:
        try:
            outcomes.append(attempt(inflater(server_no_context_takeover=not takeover))[: limit + 1])
        except ProtocolError as error:
            outcomes.append(error.code)
    whole, piecewise = outcomes
    if isinstance(whole, bytes) and len(whole) > limit:
        assert isinstance(piecewise, int) or piecewise == whole  # what is wrong comes behind the limit
    else:
        assert whole == piecewise


def test_memory_of_a_decompressor() -> None:
    (payload,) = deflated(repeating_at(30_000))

    def used(**agreement: object) -> Inflater:
        reader = inflater(**agreement)
        reader.message(payload, MIB)
        return reader

    assert memory_of(inflater) < 2_000, "none before the first message that is compressed"
    assert memory_of(used) > 32_768
    assert memory_of(lambda: used(server_no_context_takeover=True)) < 2_000
