"""Encoding: every batch, masked in any way, is read back by a decoder written from RFC 6455 alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient import frames
from wsclient.exceptions import ProtocolError
from wsclient.frames import (
    Frame,
    IntMasking,
    Masking,
    NumpyMasking,
    Opcode,
    Outgoing,
    decode_close,
    decode_header,
    default_masking,
    encode_batch,
    encode_close,
    fully_written,
    wire_size,
)

MASKINGS: list[Masking | None] = [None, IntMasking(), NumpyMasking()]
any_masking = pytest.mark.parametrize("masking", MASKINGS, ids=["default", "int", "numpy"])

# Both sides of every length at which a header or a way to mask changes.
LENGTHS = [0, 1, 3, 4, 125, 126, 127, 511, 512, 8191, 8192, 8193, 65_535, 65_536, 65_543]


@dataclass(frozen=True)
class ReceivedFrame:
    """One frame as a server sees it; ``key`` is left out when frames are compared."""

    first: int
    payload: bytes


def read_frames(wire: bytes) -> list[tuple[ReceivedFrame, bytes]]:
    """Frames and their masking keys, straight from the figure in RFC 6455, section 5.2."""
    found = []
    while wire:
        first, second = wire[0], wire[1]
        assert second & 0x80, "a client frame must be masked"
        extended = {126: 2, 127: 8}.get(second & 0x7F, 0)
        length = int.from_bytes(wire[2 : 2 + extended], "big") if extended else second & 0x7F
        assert length >= {0: 0, 2: 126, 8: 65_536}[extended], "a length must have its shortest form"
        key = wire[2 + extended : 6 + extended]
        masked = wire[6 + extended : 6 + extended + length]
        assert len(masked) == length, "the last frame is cut off"
        unmasked = bytes(byte ^ key[index % 4] for index, byte in enumerate(masked))
        found.append((ReceivedFrame(first, unmasked), key))
        wire = wire[6 + extended + length :]
    return found


def as_received(item: Outgoing) -> ReceivedFrame:
    if isinstance(item, str):
        return ReceivedFrame(0x81, item.encode())
    if isinstance(item, bytes):
        return ReceivedFrame(0x82, item)
    return ReceivedFrame(item.opcode + 0x80 * item.fin + 0x40 * item.rsv1, item.payload)


def assert_encodes(batch: Sequence[Outgoing], masking: Masking | None) -> None:
    wire = encode_batch(batch, masking)
    assert [frame for frame, _ in read_frames(bytes(wire))] == [as_received(item) for item in batch]
    assert sum(map(wire_size, batch)) == len(wire)


def keys_of(wire: bytes | bytearray) -> list[bytes]:
    return [key for _, key in read_frames(bytes(wire))]


# ------------------------------------------------------------------------------------------- whole batches


@any_masking
@pytest.mark.parametrize("length", LENGTHS)
def test_one_message_of_any_length(masking: Masking | None, length: int) -> None:
    assert_encodes(["t" * length], masking)
    assert_encodes([bytes(index % 251 for index in range(length))], masking)


@any_masking
@pytest.mark.parametrize("count", [2, 63, 64, 65, 767, 768, 769, 1537])
def test_batches_of_any_size(masking: Masking | None, count: int) -> None:
    assert_encodes([f"message {index} " + "x" * (index % 100) for index in range(count)], masking)
    assert_encodes([b"%d" % index * (index % 25) for index in range(count)], masking)


@any_masking
def test_equal_lengths(masking: Masking | None) -> None:
    assert_encodes(["=" * 64] * 500, masking)


@any_masking
def test_text_that_is_not_ascii(masking: Masking | None) -> None:
    assert_encodes([f"{index} ünïcödé \N{SNOWMAN} \N{GRINNING FACE}" for index in range(200)], masking)
    assert_encodes(["ascii", "é" * 62, "é" * 63, "\N{GRINNING FACE}" * 31, "\N{GRINNING FACE}" * 32], masking)


@any_masking
def test_texts_and_binaries_and_frames_in_one_batch(masking: Masking | None) -> None:
    assert_encodes(
        [
            "text",
            b"binary",
            Frame(Opcode.PING, b"ping"),
            Frame(Opcode.TEXT, b"first ", fin=False),
            Frame(Opcode.CONTINUATION, b"last"),
            Frame(Opcode.BINARY, b"compressed", rsv1=True),
            Frame(Opcode.BINARY, b"both", fin=False, rsv1=True),
            Frame(Opcode.CLOSE, encode_close(1000, "bye")),
        ],
        masking,
    )


@any_masking
def test_all_lengths_in_one_batch(masking: Masking | None) -> None:
    messages = ["t" * length for length in LENGTHS] + [b"b" * length for length in LENGTHS]
    assert_encodes(messages, masking)
    assert_encodes(sorted(messages, key=len), masking)
    assert_encodes([bytes([index]) * 4096 for index in range(40)], masking)


@any_masking
def test_large_frame_keeps_its_bits(masking: Masking | None) -> None:
    assert_encodes([Frame(Opcode.CONTINUATION, b"c" * 70_000, fin=False, rsv1=True)], masking)


def test_empty_batch() -> None:
    assert encode_batch([]) == b""


@given(
    st.lists(
        st.one_of(
            st.text(max_size=200),
            st.binary(max_size=600),
            st.builds(Frame, st.sampled_from(Opcode), st.binary(max_size=130), st.booleans(), st.booleans()),
        ),
        max_size=40,
    ),
    st.sampled_from(MASKINGS),
)
def test_any_batch(batch: list[Outgoing], masking: Masking | None) -> None:
    assert_encodes(batch, masking)


def test_lone_surrogate_is_an_error() -> None:
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        encode_batch(["fine", "\ud800"])
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        encode_batch(["\ud800"])


# -------------------------------------------------------------------------------------------- masking keys


@any_masking
def test_every_frame_has_its_own_key(masking: Masking | None) -> None:
    # Two of 100 random keys are equal once in a million runs.
    batches: list[list[Outgoing]] = [
        ["same"] * 100,
        [b"x" * 600] * 100,
        [b"x" * 9000] * 100,
        ["a", b"b"] * 50,
    ]
    for batch in batches:
        keys = keys_of(encode_batch(batch, masking))
        assert len(set(keys)) == 100


@any_masking
@pytest.mark.parametrize("batch", [["one"], ["one", "two"], [b"x" * 100_000], ["x"] * 1000])
def test_encoding_again_gives_other_keys(masking: Masking | None, batch: list[Outgoing]) -> None:
    first, second = encode_batch(batch, masking), encode_batch(batch, masking)
    assert keys_of(first) != keys_of(second)
    assert first != second


@any_masking
def test_all_of_a_key_is_random(masking: Masking | None) -> None:
    # A byte that takes fewer than 150 of 256 values in 1,000 draws is not random (about 251 are expected).
    keys = keys_of(encode_batch(["x" * (index % 7) for index in range(1000)], masking))
    for position in range(4):
        assert len({key[position] for key in keys}) > 150


@pytest.mark.parametrize("masking", [IntMasking(), NumpyMasking()], ids=["int", "numpy"])
@pytest.mark.parametrize("length", [*range(20), 4095, 4096, 4097, 20_000])
def test_masking_into_a_buffer(masking: Masking, length: int) -> None:
    payload = bytes(index % 251 for index in range(length))
    key = b"\x01\x23\x45\x67"
    out = bytearray(b"<" * 3 + b"?" * length + b">" * 3)
    masking.mask_into(out, 3, payload, key)
    masked = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
    assert out == b"<<<" + masked + b">>>"


# ---------------------------------------------------------------------------------- the choice of a masking


@pytest.fixture
def fresh_choice() -> Iterator[None]:
    frames._numpy_masking.cache_clear()
    yield
    frames._numpy_masking.cache_clear()


@pytest.mark.usefixtures("fresh_choice")
def test_numpy_masks_large_batches_only() -> None:
    assert isinstance(default_masking(), NumpyMasking)
    assert isinstance(default_masking(100_000), NumpyMasking)
    assert isinstance(default_masking(1_000), IntMasking)
    assert default_masking() is default_masking()


@pytest.mark.usefixtures("fresh_choice")
def test_without_numpy_everything_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)  # importing it is an ImportError now
    with pytest.raises(ImportError):
        NumpyMasking()
    assert isinstance(default_masking(), IntMasking)
    assert_encodes(["t" * length for length in LENGTHS], None)
    assert_encodes(["x" * 64] * 1000, None)


def test_importing_does_not_import_numpy() -> None:
    program = "import sys, wsclient.frames, wsclient.protocol; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


# ------------------------------------------------------------------------------------------ sizes and frames


@given(st.lists(st.one_of(st.text(max_size=150), st.binary(max_size=150)), max_size=6), st.data())
def test_fully_written(batch: list[Outgoing], data: st.DataObject) -> None:
    sizes = [len(encode_batch([item])) for item in batch]
    nbytes = data.draw(st.integers(0, sum(sizes) + 1))
    expected = max(count for count in range(len(batch) + 1) if sum(sizes[:count]) <= nbytes)
    assert fully_written(batch, nbytes) == expected


def test_fully_written_needs_the_last_byte() -> None:
    batch: list[Outgoing] = ["0123456789", Frame(Opcode.PING, b""), "é"]
    assert [fully_written(batch, nbytes) for nbytes in (0, 15, 16, 21, 22, 29, 30)] == [0, 0, 1, 1, 2, 2, 3]


def test_frame_is_immutable_and_has_the_length_of_its_payload() -> None:
    frame = Frame(Opcode.PING, b"abc")
    assert len(frame) == 3
    with pytest.raises(FrozenInstanceError):
        frame.payload = b""  # type: ignore[misc]


# -------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("8100", (0x81, 0, 2)),
        ("027d", (0x02, 125, 2)),
        ("827e007e", (0x82, 126, 4)),
        ("807effff", (0x80, 65_535, 4)),
        ("827f0000000000010000", (0x82, 65_536, 10)),
        ("827f7fffffffffffffff", (0x82, 2**63 - 1, 10)),
        ("8a7d", (0x8A, 125, 2)),
    ],
)
def test_decode_header(header: str, expected: tuple[int, int, int]) -> None:
    data = bytes.fromhex(header)
    assert decode_header(data, 0, len(data)) == expected
    first, length, start = expected
    assert decode_header(b"??" + data + b"!!", 2, 4 + len(data)) == (first, length, start + 2)
    for end in range(len(data)):
        assert decode_header(data, 0, end) is None


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("c100", "reserved bits"),
        ("a100", "reserved bits"),
        ("9100", "reserved bits"),
        ("8300", "reserved opcode 0x3"),
        ("8700", "reserved opcode 0x7"),
        ("8b00", "reserved opcode 0xb"),
        ("8f00", "reserved opcode 0xf"),
        ("8180", "masked"),
        ("0800", "fragmented control"),
        ("0900", "fragmented control"),
        ("897e", "extended length"),
        ("887f", "extended length"),
        ("817e007d", "length 125 not in its shortest form"),
        ("817f000000000000ffff", "length 65535 not in its shortest form"),
        ("817f8000000000000000", "highest bit"),
    ],
)
def test_decode_header_refuses(header: str, reason: str) -> None:
    data = bytes.fromhex(header)
    with pytest.raises(ProtocolError, match=reason) as caught:
        decode_header(data, 0, len(data))
    assert caught.value.code == 1002


# -------------------------------------------------------------------------------------------- close payloads

SENDABLE = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
NOT_SENDABLE = [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535, 65_536]


@pytest.mark.parametrize("code", SENDABLE)
def test_close_payload_there_and_back(code: int) -> None:
    assert decode_close(encode_close(code)) == (code, "")
    assert decode_close(encode_close(code, "going, grüße")) == (code, "going, grüße")


@pytest.mark.parametrize("code", NOT_SENDABLE)
def test_close_code_that_must_not_be_sent(code: int) -> None:
    with pytest.raises(ValueError, match=f"close code {code} must not be sent"):
        encode_close(code)


def test_close_reason_has_at_most_123_bytes() -> None:
    assert len(encode_close(1000, "r" * 123)) == 125
    assert len(encode_close(1000, "é" * 61)) == 124
    with pytest.raises(ValueError, match="close reason takes 124 bytes"):
        encode_close(1000, "é" * 62)


def test_received_close_without_a_code() -> None:
    assert decode_close(b"") == (1005, "")


@pytest.mark.parametrize("code", [code for code in NOT_SENDABLE if 0 <= code < 65_536])
def test_received_close_code_that_must_not_be_sent(code: int) -> None:
    with pytest.raises(ProtocolError, match=f"close frame with code {code}") as caught:
        decode_close(code.to_bytes(2, "big"))
    assert caught.value.code == 1002


def test_received_close_with_half_a_code() -> None:
    with pytest.raises(ProtocolError, match="half a code") as caught:
        decode_close(b"\x03")
    assert caught.value.code == 1002


def test_received_close_reason_that_is_not_utf8() -> None:
    with pytest.raises(ProtocolError, match="not UTF-8") as caught:
        decode_close(b"\x03\xe8\xff")
    assert caught.value.code == 1007


@pytest.mark.parametrize(("code", "reason"), [("bye", ""), (1000, b"bye"), (None, "")])
def test_a_close_code_or_reason_of_another_type_is_named(code: Any, reason: Any) -> None:
    with pytest.raises(TypeError, match="close code must be an int, and the reason a str"):
        encode_close(code, reason)
