"""What the application holds of a message that it writes piece by piece."""

from __future__ import annotations

import warnings
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType

from wsclient.exceptions import SendTimeout, WSClientError
from wsclient.fragments import Outcome
from wsclient.frames import Opcode
from wsclient.lifecycle import State
from wsclient.options import check_timeout
from wsclient.outbox import BytesLike
from wsclient.session import Session, from_anywhere

__all__ = ["SendStream"]


class SendStream:
    """One message on its way out in fragments (RFC 6455, section 5.4), never held whole in memory.

    A context manager: leaving it ends the message and returns once all of it is written. Leaving it by an
    exception, ``abort``, or forgetting it ends the connection with code 1011, for half a message cannot be
    taken back. Until the end other threads' messages wait; pings, pongs and a close frame do not.

    Thread-safe; the chunks of several threads go out in the order in which they were accepted. What it was
    given is not in ``Connection.unsent``, which lists whole messages: unless it ended without an exception,
    the message did not arrive.
    """

    def __init__(self, session: Session, text: bool, owner: object) -> None:
        session.parts.check_not_forked()
        session.threads.refuse_on_writer("send_stream")
        self._session = session
        self._owner = owner  # keeps the Connection alive, whose end would be the end of this
        self._text = text
        self._source = session.parts.queue.put_stream(Opcode.TEXT if text else Opcode.BINARY)
        self._settled = False  # any thread, once: there is nothing to abort any more

    def write(self, data: str | BytesLike, *, timeout: float | None = None) -> None:
        """Accept one piece: ``str`` in a text stream, bytes-like otherwise. Several may share a fragment.

        Args:
            data: the piece; other bytes-like objects than ``bytes`` are copied.
            timeout: seconds to wait while 256 KiB or more wait to be written, whatever ``overflow`` says; by
                default ``send_timeout``.

        Raises:
            SendTimeout: they stayed; the piece was not accepted. The stream may go on.
            ConnectionClosed: the connection is closed, or ends without this message.
            TypeError: not the kind of data that the stream was opened for.
            WSClientError: the stream has ended.
        """
        chunk = self._to_chunk(data)
        limit = self._limit(timeout)
        self._session.parts.check_not_forked()
        self._session.threads.refuse_on_writer("write")
        if chunk:
            self._judge(self._source.put(chunk, limit), limit)

    def close(self, timeout: float | None = None) -> None:
        """End the message, and return once its last fragment is written. Again: does nothing.

        Args:
            timeout: seconds; by default ``send_timeout``.

        Raises:
            SendTimeout: it was not written in time. It still may be: ``flush`` waits for it.
            ConnectionClosed: the connection ended first.
        """
        if self._settled:
            return
        self._session.parts.check_not_forked()
        self._session.threads.refuse_on_writer("close")
        limit = self._limit(timeout)
        self._settled = True
        self._judge(self._source.end(), limit)
        try:
            self._source.receipt.result(limit)
        except FutureTimeout:
            if not self._source.receipt.done():
                raise SendTimeout(f"the end of the stream was not written within {limit} s") from None
            self._source.receipt.result()

    def abort(self) -> None:
        """Give the message up and end the connection with code 1011, once what is under way is written."""
        if not self._settled:
            self._settled = True
            if not self._source.is_stopped:
                self._session.abandon_stream()

    def __enter__(self) -> SendStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session.parts.is_forked:
            return
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is None or session.parts.is_forked or getattr(self, "_settled", True):
            return
        if session.parts.lifecycle.state is not State.OPEN:
            return
        from_anywhere(session.abandon_stream)  # first, for the warning may be an error
        warnings.warn(f"unfinished stream on {self._owner!r}", ResourceWarning, source=self, stacklevel=2)

    def _limit(self, timeout: float | None) -> float:
        return self._session.parts.options.send_timeout if timeout is None else check_timeout(timeout)

    def _to_chunk(self, data: object) -> bytes:
        if self._text:
            if not isinstance(data, str):
                raise TypeError(f"a text stream takes str, not {type(data).__name__}")
            return data.encode()
        if isinstance(data, bytes):
            return data
        try:
            return bytes(memoryview(data))  # type: ignore[arg-type]
        except TypeError:
            hint = "; open it with text=True for str" if isinstance(data, str) else ""
            raise TypeError(f"a binary stream takes bytes-like, not {type(data).__name__}{hint}") from None

    def _judge(self, outcome: Outcome, limit: float) -> None:
        if outcome is Outcome.NO_ROOM:
            raise SendTimeout(f"the stream took nothing for {limit} s; this piece was not accepted")
        if outcome is Outcome.ENDED:
            raise WSClientError("the stream has ended: open another one for another message")
        if outcome is Outcome.STOPPED:
            if self._source.receipt.done():
                self._source.receipt.result()
            self._session.parts.refuse()
