"""What the application holds of a message that it writes piece by piece."""

from __future__ import annotations

import warnings
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from types import TracebackType

from wsclient.exceptions import Disconnected, SendTimeout, WSClientError
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
    given is not in ``Connection.unsent``, which lists whole messages: that the message was written, only an
    end without an exception says.
    """

    def __init__(self, session: Session, text: bool, owner: object) -> None:
        if not isinstance(text, bool):
            raise TypeError(f"text: must be bool, not {type(text).__name__}")
        self._session = session
        self._owner = owner  # keeps the Connection alive, whose end would be the end of this
        self._text = text
        self._check_caller("send_stream")
        self._source = session.parts.queue.fragments.new_stream(Opcode.TEXT if text else Opcode.BINARY)
        try:
            session.parts.outbox.put_entry(self._source.item, session.parts.options.send_timeout)
        except BaseException:  # Ctrl-C, too, which may come just after the stream was accepted
            session.abandon_stream(self._source)
            self._source.withdraw()
            raise

    def write(self, data: str | BytesLike, *, timeout: float | None = None) -> None:
        """Accept one piece: ``str`` in a text stream, bytes-like otherwise. Several may share a fragment.

        Args:
            data: the piece; other bytes-like objects than ``bytes`` are copied. One of any size is accepted
                when nothing waits.
            timeout: seconds to wait while there is no room for it within 256 KiB, whatever ``overflow`` says;
                by default ``send_timeout``.

        Raises:
            SendTimeout: there was none; the piece was not accepted. The stream may go on.
            ConnectionClosed: the connection is closed, or ends without this message.
            Disconnected: with ``reconnect``: it was lost in the middle of the message.
            TypeError: not the kind of data that the stream was opened for.
            UnicodeEncodeError: text that UTF-8 cannot express.
            WSClientError: the stream has ended.
        """
        chunk = self._to_chunk(data)
        limit = self._limit(timeout)
        self._check_caller("write")
        if chunk or not self._source.is_open():
            outcome = self._source.put(chunk, limit)
            if outcome is Outcome.NO_ROOM:
                raise SendTimeout(f"the stream had no room for {limit} s; this piece was not accepted")
            self._judge(outcome)

    def close(self, timeout: float | None = None) -> None:
        """End the message, and return once its last fragment is written. Again: waits for that.

        Args:
            timeout: seconds; by default ``send_timeout``.

        Raises:
            SendTimeout: it was not written in time. It may still be, and arrive.
            ConnectionClosed: the connection ended first.
            Disconnected: with ``reconnect``: it was lost in the middle of the message.
        """
        self._check_caller("close")
        limit = self._limit(timeout)
        if self._source.end() is Outcome.STOPPED:
            self._judge(Outcome.STOPPED)
        try:
            self._source.receipt.result(limit)
        except FutureTimeout:
            if not self._source.receipt.done():
                raise SendTimeout(f"the end of the stream was not written within {limit} s") from None
        except Disconnected:
            self._judge(Outcome.STOPPED)

    def abort(self) -> None:
        """Give the message up, and end the connection with code 1011.

        What was accepted before the stream is still written; what stands behind it is unsent. After the end
        of the stream it does nothing.
        """
        self._session.parts.check_not_forked()
        self._session.abandon_stream(self._source)

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
        source = getattr(self, "_source", None)
        if source is None or self._session.parts.is_forked or not source.is_open():
            return
        from_anywhere(partial(self._session.abandon_stream, source))  # first: the warning may be an error
        warnings.warn(f"unfinished stream on {self._owner!r}", ResourceWarning, source=self, stacklevel=2)

    def _check_caller(self, what: str) -> None:
        self._session.parts.check_not_forked()
        self._session.threads.refuse_on_writer(what)

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

    def _judge(self, outcome: Outcome) -> None:
        if outcome is Outcome.ENDED:
            raise WSClientError("the stream has ended: open another one for another message")
        if outcome is Outcome.STOPPED:
            if self._session.parts.lifecycle.state in (State.OPEN, State.RECONNECTING):
                self._source.receipt.result(0)
            self._session.parts.refuse()
