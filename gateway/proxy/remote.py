"""An answer that is arriving on a connection to an upstream."""

import asyncio
from collections.abc import Iterator
from typing import Protocol

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.answer import Sink
from gateway.proxy.encoding import Decompressor, decompressor

# An upstream that never ends its head would otherwise be read for ever (nginx allows 32 KiB).
MAX_HEAD = 64 << 10

# What says where a body ends.
_FRAMED = ("content-length", "transfer-encoding")

# Pieces of an unpacked body that are handed on in one turn of the loop. A small read may unpack to
# a long answer, which would keep every other turn waiting, and grow a slow client's buffer.
_BURST = 4

# After a turn's last event there is only the end of the HTTP message to come. It is worth waiting
# for a moment: then the connection can serve again.
RELEASE_GRACE = 1.0


class _Connection(Protocol):
    """What it arrives on."""

    transport: asyncio.Transport
    pieces: list[bytes]
    """Of a body, as the parser finds them."""

    def free(self, *, reusable: bool) -> None:
        """The exchange is over."""
        ...


class RemoteAnswer:
    """One answer."""

    def __init__(self, connection: _Connection, max_answer: int) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._until_closed = False
        """The body's end is the connection's."""
        self.head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection: _Connection | None = connection
        self._left = max_answer
        self._in_head = True
        self._head_left = MAX_HEAD
        self._fields_left = MAX_HEAD
        self._paused = False
        self._whole = 0
        """How many pieces are the answer's, once it is complete."""
        self.pieces = connection.pieces
        """Of the body, that are still to be handed over; nothing of ours without a connection."""
        self._sink: Sink | None = None
        self._straight: Sink | None = None
        """The same, if a read can go there as it comes: the body is plain, and all is well."""
        self._decompressor: Decompressor | None = None
        self._pieces: Iterator[bytes] | None = None
        self._next_burst: asyncio.Handle | None = None
        self.completed = False
        self._reusable = False
        self._spoilt = False
        self._error: GatewayError | None = None
        self._grace: asyncio.TimerHandle | None = None

    # The answer, as the relay uses it.

    def relay(self, sink: Sink) -> None:
        self._sink = sink
        if self._decompressor is None and self._error is None:
            self._straight = sink
        self._flush()

    def pause(self) -> None:
        self._paused = True
        if self._connection is not None:
            self._connection.transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        if self._is_packed():
            self._later()
        elif self._connection is not None:
            self._connection.transport.resume_reading()

    def release(self) -> None:
        self._drop()
        if self._connection is None:
            return
        if self.completed or self._error:
            self._free()
        else:
            self.resume()
            self._grace = asyncio.get_running_loop().call_later(RELEASE_GRACE, self.close)

    def close(self) -> None:
        self._drop()
        self._free()

    def fail(self, error: GatewayError) -> None:
        """End it with this error, unless it has ended."""
        self._note(error)
        self._flush()

    # The connection's calls.

    def broken(self) -> None:
        """What comes is no HTTP."""
        self._note(
            GatewayError(ErrorCode.UPSTREAM_MALFORMED, "the upstream broke the rules of HTTP")
        )

    def received(self, size: int) -> None:
        """A read of so many bytes has been parsed."""
        self._left -= size
        if self._spoilt:
            del self.pieces[self._whole :]
        sink = self._straight
        if sink is not None and self._left >= 0:
            pieces = self.pieces
            if pieces:
                sink.data(pieces.pop() if len(pieces) == 1 else self._taken())
            if self.completed:
                self._flush()
            return
        if self._in_head:
            self._check_head(size)
        if self._left < 0:
            self._note(
                GatewayError(ErrorCode.UPSTREAM_OVERSIZED, "the upstream's answer is too large")
            )
        self._flush()

    def disconnected(self, *, clean: bool) -> None:
        """The connection is gone; `clean`: the other side closed it, and did not reset it."""
        if not self.completed and not self._error:
            if clean and self.head.done() and self._until_closed:
                self.completed = True
            else:
                self._note(
                    GatewayError(
                        ErrorCode.UPSTREAM_TRUNCATED, "the upstream closed the connection early"
                    )
                )
        self._reusable = False
        self._flush()

    # The parser's.

    def field(self, name: bytes, value: bytes) -> None:
        if self.head.done():
            return  # of the trailer, or of an answer to nothing
        self._fields_left = left = self._fields_left - len(name) - len(value) - 4  # with ": "
        if left < 0:  # however few reads it came in
            self._note(
                GatewayError(ErrorCode.UPSTREAM_MALFORMED, "the upstream's headers are too large")
            )
        else:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def begin(self, status: int) -> None:
        if self.completed:
            return
        self.status = status
        if self.status < 200:
            self.headers.clear()  # an interim answer: the real one follows
            return
        headers = self.headers
        self._until_closed = headers.keys().isdisjoint(_FRAMED)
        self._decompressor = decompressor(headers.get("content-encoding", ""))
        if self._decompressor is not None:
            self._straight = None
        if not self.head.done():
            self.head.set_result(None)

    def complete(self, keep_alive: bool) -> None:
        if self.status >= 200:
            self._reusable = not self.completed and keep_alive
            if not self.completed:
                self._whole, self.completed = len(self.pieces), True

    def message(self) -> None:
        """One begins. A second one on the connection would be an answer to nothing, also if it has
        only begun."""
        self._spoilt = self.completed

    # Inside.

    def _drop(self) -> None:
        """Nobody wants the rest."""
        self._sink = self._straight = self._pieces = None
        if self._connection is not None:
            self._clear()

    def _check_head(self, size: int) -> None:
        self._in_head = not self.head.done()
        self._head_left -= size
        if self._in_head and self._head_left < 0:
            self._note(
                GatewayError(ErrorCode.UPSTREAM_MALFORMED, "the upstream's headers do not end")
            )

    def _note(self, error: GatewayError) -> None:
        self._reusable = False
        if self._error is None and not self.completed:
            self._error, self._straight = error, None
        if not self.head.done():
            self.head.set_exception(error)

    def _flush(self) -> None:
        """Hand over what has arrived: one call of the sink per read."""
        sink = self._sink
        if sink is None:
            self._end_release()
            return
        if self._decompressor is not None:
            self._unpack(sink, self._decompressor)
        elif self.pieces:
            sink.data(self._taken())
        if (self.completed or self._error) and self._sink is sink and not self._is_packed():
            self._sink = self._straight = None
            sink.eof(self._error)

    def _taken(self) -> bytes:
        data = b"".join(self.pieces)
        self._clear()
        return data

    def _clear(self) -> None:
        self.pieces.clear()
        self._whole = 0

    def _unpack(self, sink: Sink, inflate: Decompressor) -> None:
        """A burst of pieces of bounded size; the rest in another turn of the loop, or once the
        client has caught up."""
        for _ in range(_BURST):
            if self._paused or not self._is_packed():
                return
            self._hand_on(sink, inflate)
        if self._is_packed():
            self._later()

    def _is_packed(self) -> bool:
        """Whether some of what has come is still to be unpacked."""
        return self._pieces is not None or (self._decompressor is not None and bool(self.pieces))

    def _hand_on(self, sink: Sink, inflate: Decompressor) -> None:
        try:
            self._pieces = self._pieces or inflate(self._taken())
            piece = next(self._pieces, None)
            if piece is None:
                self._pieces = None
                return
            self._left -= len(piece)
            if self._left < 0:
                raise GatewayError(
                    ErrorCode.UPSTREAM_OVERSIZED, "the upstream's answer is too large"
                )
        except GatewayError as exc:
            self._error, self._straight, self.completed = exc, None, False
            self._pieces = None
            self._clear()
            return
        sink.data(piece)

    def _later(self) -> None:
        """Go on with what is unpacked before anything more is read."""
        if self._connection is not None and self._next_burst is None:
            self._connection.transport.pause_reading()
            self._next_burst = asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._next_burst = None
        if not self._paused:
            self._flush()
        if self._connection is not None and not self._paused and not self._is_packed():
            self._connection.transport.resume_reading()

    def _end_release(self) -> None:
        if self._grace is not None and (self.completed or self._error):
            self._free()
        elif self._grace is not None:
            self._clear()

    def _free(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.free(reusable=self._reusable and not self._spoilt)
