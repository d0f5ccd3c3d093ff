"""One transport, its two loops, and what either of them notes when it ends.

Whoever ends a link only *notes* that (``Lifecycle``), stops the queue, and shuts the transport down. That
wakes the reader thread, which alone finishes. Every wait in between has a deadline, which the writer's clock
enforces.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic

from wsclient.exceptions import ProtocolError
from wsclient.frames import Frame, Opcode, encode_close
from wsclient.handshake import Upgraded
from wsclient.items import Item
from wsclient.parts import Parts
from wsclient.protocol import Close, Event, Failure, Ping, Pong, Protocol
from wsclient.reader import Reader
from wsclient.transport import Transport
from wsclient.writer import Writer

__all__ = ["Link"]

_WRITER_GRACE = 5.0  # seconds for the writer to come back from a callback of a future
_LINGER = 1.0  # seconds for the peer to close TCP once the closing handshake is over (section 7.1.1)


class Link:
    """What exists only while there is a transport. Made by the reader thread once the upgrade is done."""

    def __init__(self, parts: Parts, upgraded: Upgraded) -> None:
        self.upgraded = upgraded
        self.transport: Transport = upgraded.transport
        self._parts = parts
        options, agreement = parts.options, upgraded.compression
        protocol = Protocol(
            options.max_message_size,
            inflater=agreement.inflater() if agreement else None,
            assemble=options.assemble,
        )
        self.reader: Reader = Reader(
            self.transport,
            protocol,
            parts.read,
            deliver=parts.runner.deliver,
            control=self._handle_control,
        )
        self.writer: Writer = Writer(
            parts.queue,
            self.transport,
            parts.keepalive,
            parts.written,
            write_timeout=options.write_timeout,
            end_by=lambda: parts.lifecycle.deadline,
            peer_silent=lambda: self.reader.waiting and not self.transport.has_input(),
            compress=agreement.deflater().compress if agreement else None,
            ledger=parts.ledger,
            on_expired=parts.callbacks.expired,
            on_final=self._final_written,
            on_failure=self._writer_failed,
        )
        self.thread: threading.Thread = threading.Thread(
            target=self._write, name=f"wsclient-writer-{parts.name}", daemon=True
        )
        self._is_last = [True, False]  # reader and writer, each takes one as it leaves

    def read(self) -> None:
        """Read until the stream ends, and note how it did. Reader thread."""
        try:
            self.reader.run()
        except BaseException as error:
            self._parts.lifecycle.lose(error)
        else:
            self._parts.lifecycle.lose(
                ConnectionResetError("the peer ended the stream without a close frame")
            )

    def _write(self) -> None:
        # Body of the writer thread.
        try:
            self.writer.run()
        finally:
            self.leave()

    def join_writer(self) -> bool:
        """Wait for the end of the writer; ``False`` when a callback of a future keeps it."""
        self.thread.join(_WRITER_GRACE)
        return not self.thread.is_alive()

    def account(self) -> tuple[list[Item], list[Item]]:
        """See ``Parts.account``. Once the writer has ended, or is beyond all patience."""
        return self._parts.account(self.writer.unsent(), self.writer.lane)

    def leave(self) -> None:
        """Reader and writer call this when they are done. The second frees the file descriptor."""
        if self._is_last.pop():
            self.transport.close()

    # -- events: reader thread ------------------------------------------------------------------------

    def _handle_control(self, event: Event) -> None:
        parts = self._parts
        if isinstance(event, Ping):
            parts.queue.control.put_pong(Frame(Opcode.PONG, event.payload))
            self._tell(parts.callbacks.pinged, event.payload)
        elif isinstance(event, Pong):
            parts.keepalive.acknowledge(event.payload, monotonic())
            self._tell(parts.callbacks.ponged, event.payload)
        elif isinstance(event, Close):
            self._peer_closed(event)
        elif isinstance(event, Failure):
            self._fail(event.error)

    def _tell(self, callback: Callable[[bytes], None], payload: bytes) -> None:
        if self._parts.callbacks.take_control:
            self._parts.runner.call_in_turn(partial(callback, payload))

    def _peer_closed(self, close: Close) -> None:
        parts = self._parts
        patience = _LINGER if parts.queue.is_silent() else parts.options.close_timeout
        parts.lifecycle.receive_close(close.code, close.reason, monotonic() + patience)
        payload = b"" if close.code == 1005 else encode_close(close.code)
        parts.stop_writing(Frame(Opcode.CLOSE, payload))
        parts.queue.rouse()

    def _fail(self, error: ProtocolError) -> None:
        parts = self._parts
        parts.log.warning("failing the connection: %s", error)
        parts.lifecycle.fail(error, monotonic() + _LINGER)
        parts.stop_writing(Frame(Opcode.CLOSE, encode_close(error.code, error.reason)))
        parts.queue.rouse()
        parts.runner.call(partial(parts.callbacks.failed, error))

    # -- events: writer thread ------------------------------------------------------------------------

    def _final_written(self) -> None:
        # The close frame is out: nothing else will be written.
        lifecycle = self._parts.lifecycle
        if lifecycle.failed:
            self.transport.shutdown_write()
        if lifecycle.failed or lifecycle.close_received:
            lifecycle.hasten(monotonic() + _LINGER)

    def _writer_failed(self, error: BaseException) -> None:
        # The writer has given up: end the link. The reader finishes it.
        parts = self._parts
        parts.lifecycle.lose(error)
        parts.stop_writing()
        if not isinstance(error, ConnectionError):
            self.transport.shutdown()
        if isinstance(error, ConnectionError) or parts.lifecycle.recovers:
            self._leave_to_reader()
        parts.stop_waiting()
        self.transport.shutdown()

    def _leave_to_reader(self) -> None:
        # Nothing goes out any more, but what had come in before is still to be read, and a close frame may be
        # behind it; messages may wait for room. The reader finds the end by itself; the writer, whose thread
        # this is, stays its clock.
        parts = self._parts
        parts.lifecycle.hasten(monotonic() + parts.options.close_timeout)
        while not self.writer.is_done() and (left := parts.lifecycle.deadline - monotonic()) > 0:
            parts.queue.wait(left)
