"""What must hold for any input. A target raises ``AssertionError``, or anything else, when it does not."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from types import MappingProxyType

from deflating import TAIL, assembled, in_pieces, kind_of, stands_between_blocks

from wsclient.deflate import Agreement, Deflate, Inflater
from wsclient.exceptions import ProtocolError
from wsclient.frames import encode_close
from wsclient.protocol import Close, Event, Failure, Fragment, Ping, Pong, Protocol

__all__ = ["TARGETS", "Target", "decoder_input", "inflater_input"]

Target = Callable[[bytes], None]

LIMITS = (0, 125, 1000, 70_000, 1 << 20)  # values of max_message_size, bytes
AGREEMENTS = (
    None,
    Deflate().agree("permessage-deflate"),
    Deflate().agree("permessage-deflate; server_no_context_takeover"),
)
WAYS = ((True, False), (True, True), (False, False), (False, True))  # assembled? a byte at a time?
READ_AT_ONCE = 1 << 18  # bytes, at most
INFLATED_AT_ONCE = 1 << 20  # bytes; one message may go over it


# ---------------------------------------------------------------------------------------------- the decoder


def decoder_input(
    stream: bytes, *, agreement: int = 0, way: int = 0, limit: int = 2, cuts: Sequence[int] = ()
) -> bytes:
    """An input for ``decode``: indexes into ``AGREEMENTS``, ``WAYS``, ``LIMITS``, and where to cut."""
    where = b"".join(cut.to_bytes(2, "big") for cut in cuts)
    return bytes([agreement + len(AGREEMENTS) * way, limit, len(cuts)]) + where + stream


def decode(data: bytes) -> None:
    """Decode a stream at once, and then cut in one of some ways: the same must come out, a bit at a time."""
    if len(data) < 3:
        return
    way, index = divmod(data[0], len(AGREEMENTS))
    agreement, limit = AGREEMENTS[index], LIMITS[data[1] % len(LIMITS)]
    count = data[2] % 8
    stream = data[3 + 2 * count :]
    cuts = [int.from_bytes(data[3 + 2 * index : 5 + 2 * index], "big") for index in range(count)]
    cuts = sorted(cut % (len(stream) + 1) for cut in cuts)
    assemble, bytewise = WAYS[way % len(WAYS)]
    whole = _decoded(agreement, limit, True, stream, [])
    other = _decoded(agreement, limit, assemble, stream, range(len(stream)) if bytewise else cuts)
    rest = other[len(whole) :]
    assert other[: len(whole)] == whole, (stream, cuts, whole, other)
    # What is not assembled is checked as it comes, text that is not compressed otherwise with its frame.
    assert not rest or (not assemble and rest == ["bad message"]), (stream, cuts, whole, other)


def _decoded(
    agreement: Agreement | None, limit: int, assemble: bool, stream: bytes, cuts: Sequence[int]
) -> list[object]:
    protocol = Protocol(limit, inflater=agreement.inflater() if agreement else None, assemble=assemble)
    events: list[Event] = []
    for start, stop in pairwise([0, *cuts, len(stream)]):
        for portion in _read(protocol, stream[start:stop]):
            _check_portion(portion, limit)
            events += portion
    _check_end(protocol, events)
    return list(map(kind_of, assembled(events)))


def _read(protocol: Protocol, data: bytes) -> Iterator[list[Event]]:
    while data:
        with protocol.get_buffer() as room:
            assert 0 < len(room) <= max(READ_AT_ONCE, INFLATED_AT_ONCE)
            count = min(len(room), len(data))
            room[:count] = data[:count]
        yield protocol.buffer_updated(count)
        while protocol.has_more:
            yield protocol.buffer_updated(0)
        data = data[count:]


def _check_portion(events: Sequence[Event], limit: int) -> None:
    sizes = [_size_of(event) for event in events]
    assert max(sizes, default=0) <= limit, "a message over max_message_size"
    assert sum(sizes) <= READ_AT_ONCE + INFLATED_AT_ONCE + limit, "too much at once"


def _size_of(event: Event) -> int:
    data = event.data if isinstance(event, Fragment) else event
    if isinstance(data, str):
        return len(data.encode())
    return len(data) if isinstance(data, bytes) else 0


def _check_end(protocol: Protocol, events: Sequence[Event]) -> None:
    for event in events[:-1]:
        assert not isinstance(event, Close | Failure), "something came after the end"
    for event in events:
        if isinstance(event, Ping | Pong):
            assert len(event.payload) <= 125
    last = events[-1] if events else None
    if isinstance(last, Failure):
        assert last.error.code in (1002, 1007, 1009)
        encode_close(last.error.code, last.error.reason)
    if isinstance(last, Close) and last.code != 1005:
        encode_close(last.code, last.reason)
    if isinstance(last, Close | Failure):
        assert protocol.receive_data(b"\x81\x00\x89\x00") == []


# --------------------------------------------------------------------------------------------- the inflater


def inflater_input(
    *payloads: bytes, agreement: int = 1, limit: int = 2, size: int = 7, room: int = 50
) -> bytes:
    """An input for ``inflate``: two messages, and by how many bytes they go in and come out."""
    first, *rest = payloads
    return bytes([agreement, limit, size, room]) + len(first).to_bytes(2, "big") + first + b"".join(rest)


def inflate(data: bytes) -> None:
    """Inflate two messages, whole and in pieces: the same must come out, and zlib must think so, too."""
    if len(data) < 6:
        return
    agreement = AGREEMENTS[1 + data[0] % 2]
    assert agreement is not None
    limit, size, room = LIMITS[data[1] % len(LIMITS)], data[2] + 1, data[3] + 1
    cut = 6 + int.from_bytes(data[4:6], "big")
    payloads = [data[6:cut], data[cut:]]
    whole = _inflated(agreement, payloads, limit, lambda one, payload: one.message(payload, limit))
    pieces = _inflated(agreement, payloads, limit, lambda one, payload: in_pieces(one, payload, size, room))
    if any(len(message) > limit for message in whole):
        message = whole[-1]
        assert len(message) == limit + 1, "more came out than allowed"
        assert len(pieces) < len(whole) or pieces[-1][: limit + 1] == message, "damaged behind the limit?"
    else:
        assert whole == pieces, (whole, pieces)
        _ask_zlib(payloads if data[0] % 2 == 0 else payloads[:1], whole)


def _inflated(
    agreement: Agreement,
    payloads: Sequence[bytes],
    limit: int,
    attempt: Callable[[Inflater, bytes], bytes],
) -> list[bytes]:
    reader = agreement.inflater()
    messages: list[bytes] = []
    with suppress(ProtocolError):
        while len(messages) < len(payloads) and max(map(len, messages), default=0) <= limit:
            messages.append(attempt(reader, payloads[len(messages)]))
    return messages


def _ask_zlib(payloads: Sequence[bytes], messages: Sequence[bytes]) -> None:
    if not all(payloads) or _has_final_block(payloads):
        return  # of those, zlib alone makes nothing
    accepted = 0
    while accepted < len(payloads) and stands_between_blocks(payloads[:accepted], payloads[accepted]):
        accepted += 1
    assert len(messages[: len(payloads)]) == accepted, (payloads, messages, accepted)
    assert b"".join(messages[:accepted]) == _all_of(payloads[:accepted])


def _has_final_block(payloads: Sequence[bytes]) -> bool:
    witness = zlib.decompressobj(-15)
    with suppress(zlib.error):
        for payload in payloads:
            witness.decompress(payload + TAIL)
    return witness.eof


def _all_of(payloads: Sequence[bytes]) -> bytes:
    return zlib.decompressobj(-15).decompress(b"".join(payload + TAIL for payload in payloads))


# -------------------------------------------------------------------------------------- the response's header


def negotiate(data: bytes) -> None:
    """Agree to a header's value or refuse it; what is agreed on can be said in the plain way."""
    agreement, problem = _agreed(data.decode("latin-1"))
    assert problem.isprintable(), "it goes into a log"
    assert len(problem) < 1500
    if agreement is None:
        return
    parts = ["permessage-deflate", f"client_max_window_bits={agreement.client_max_window_bits}"]
    parts += [f"server_max_window_bits={agreement.server_max_window_bits}"]
    parts += ["client_no_context_takeover"] * agreement.client_no_context_takeover
    parts += ["server_no_context_takeover"] * agreement.server_no_context_takeover
    assert _agreed("; ".join(parts)) == (agreement, "")


def _agreed(response: str) -> tuple[Agreement | None, str]:
    try:
        return Deflate(client_max_window_bits=15).agree(response), ""
    except ValueError as error:
        return None, str(error)


TARGETS: Mapping[str, Target] = MappingProxyType(
    {"decoder": decode, "inflater": inflate, "negotiation": negotiate}
)
