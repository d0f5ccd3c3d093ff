"""Sends messages until all of them are confirmed, or it is certain which may not have arrived."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain

from wsclient import Connection, ConnectionClosed, Disconnect, Disconnected
from wsclient.cli.display import Message, counted
from wsclient.cli.exits import NORMAL_CODES, ExitCode, Failure
from wsclient.cli.opening import patiently
from wsclient.cli.splitting import Splitter, decode
from wsclient.cli.trace import Trace

__all__ = ["Doubts", "Sender", "messages_of"]

_AT_ONCE = 1024 * 1024  # bytes of a whole input that go out in one frame; larger ones are streamed


class Doubts:
    """Counts what lost links have left in doubt; for ``on_disconnect``, on the reader thread."""

    def __init__(self) -> None:
        self.count: int = 0  # written by the reader thread only

    def note(self, connection: Connection, reason: Disconnect) -> None:
        """Add what a lost link leaves in doubt."""
        self.count += len(reason.in_doubt) + reason.forgotten


class Sender:
    """Sends over one connection. For one thread.

    Args:
        connection: an open one.
        trace: told of each message.
        timeout: seconds without any progress after which it gives up.
        doubts: what ``on_disconnect`` has counted.
    """

    def __init__(self, connection: Connection, trace: Trace, timeout: float, doubts: Doubts) -> None:
        self._connection = connection
        self._trace = trace
        self._timeout = timeout
        self._doubts = doubts
        self.accepted: int = 0  # messages; the owner's thread

    def send(self, message: Message) -> None:
        """Send one message, waiting while the queue is full. Raises ``WSClientError``."""
        patiently(self._connection, partial(self._connection.send, message, timeout=self._timeout))
        self.accepted += 1
        self._trace.sent(message)

    def send_whole(self, chunks: Iterable[bytes], binary: bool) -> None:
        """Send everything as one message; what is large goes out in fragments, never held whole.

        Raises:
            ValueError: text that is not UTF-8. Of a large message half has been sent then, and the
                connection is ended: half a message cannot be taken back.
            WSClientError: it could not be sent.
        """
        source = iter(chunks)
        head = _first(source, _AT_ONCE)
        if len(head) < _AT_ONCE:
            self.send(head if binary else decode(head, 1))
            return
        with self._connection.send_stream(text=not binary) as stream:
            for piece in _pieces(chain([head], source), binary):
                patiently(self._connection, partial(stream.write, piece, timeout=self._timeout))
            patiently(self._connection, partial(stream.close, self._timeout))
        self.accepted += 1
        self._trace.happened("sent one message in fragments")

    def confirm(self) -> float:
        """Wait until the server has processed everything. The last round trip in seconds.

        Raises:
            Failure: something may not have arrived; it says how much is certain.
        """
        try:
            patiently(self._connection, partial(self._connection.flush, self._timeout))
            seconds = self._confirmed()
        except (ConnectionClosed, TimeoutError) as error:
            raise self.failure(error) from error
        if self._doubts.count:
            lost = f"{self._doubts.count} of {counted(self.accepted, 'message')}"
            raise Failure(f"{lost} may not have arrived: the connection was lost in between")
        return seconds

    def _confirmed(self) -> float:
        while True:
            try:
                return self._connection.confirm(self._timeout)
            except Disconnected:
                continue  # its messages are in doubt, and counted; those behind them can still be confirmed

    def failure(self, error: BaseException) -> Failure:
        """The account of messages at the end of a connection, or of the user's patience."""
        unsent = len(self._connection.unsent) or self._connection.queued_messages
        in_doubt = len(self._connection.in_doubt) + self._doubts.count
        account = f"{counted(self.accepted, 'message')} accepted, {unsent} of them not sent"
        account += f", {in_doubt} in doubt" if in_doubt else ", not all of the others confirmed"
        if isinstance(error, ConnectionClosed):
            reason = f" ({error.reason})" if error.reason else ""
            code = ExitCode.FAILED if error.code in NORMAL_CODES else ExitCode.LOST
            return Failure(f"connection closed with code {error.code}{reason}: {account}", code)
        return Failure(f"{error}: {account}")


def messages_of(chunks: Iterable[bytes], splitter: Splitter, binary: bool) -> Iterator[Message]:
    """The messages of a stream. Raises ``ValueError`` for one that is too large, or no text."""
    found = chain.from_iterable(splitter.feed(chunk) for chunk in chunks)
    # Only asked for its end once the chunks have ended.
    behind = chain.from_iterable(splitter.end() for _ in range(1))
    for number, raw in enumerate(chain(found, behind), 1):
        yield raw if binary else decode(raw, number)


def _first(source: Iterator[bytes], most: int) -> bytes:
    pieces, size = [], 0
    while size < most and (piece := next(source, None)) is not None:
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _pieces(chunks: Iterable[bytes], binary: bool) -> Iterator[Message]:
    if binary:
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in chunks:
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise ValueError("the message is not UTF-8") from None
