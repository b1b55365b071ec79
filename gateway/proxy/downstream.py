"""The client's side of a stream: frames go to the transport as bytes, one write per batch."""

import asyncio
import time
from collections.abc import Callable

from aiohttp import ClientConnectionResetError, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from gateway.proxy.call import Call
from gateway.proxy.head import head, persists

# no-transform: a proxy that compresses would buffer, as nginx would without being told not to.
_HEAD = (
    "Content-Type: text/event-stream\r\n"
    "Cache-Control: no-cache, no-transform\r\n"
    "X-Accel-Buffering: no\r\n"
)
_CHUNKED = f"{_HEAD}Transfer-Encoding: chunked\r\n"
_KEPT = f"{_CHUNKED}Connection: keep-alive\r\n"

_BEAT = b": ping\n\n"
_END = b"0\r\n\r\n"


class ClientStalled(Exception):
    """The client left its stream unread for too long, and was cut."""


class StreamedResponse(EventSourceResponse):
    """What aiohttp is told of a `ClientStream`. aiohttp-sse's own head, its frames and its pings,
    with a task for each stream that waits for the next, took a third of what a short one costs."""

    # All that it has is in its head: the middleware has nothing to add.
    prepared = True

    def __init__(self) -> None:
        # Not aiohttp-sse's own: that prepares what is not used here.
        self._status, self._reason = 200, "OK"

    def opened(self, *, keep_alive: bool) -> None:
        self._keep_alive = keep_alive

    def finished(self) -> None:
        self._eof_sent = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """The handler is done. Raises `ConnectionError` if the client was not sent all of it."""
        if not self._eof_sent:
            raise ClientConnectionResetError("the stream was broken off")
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """It is there."""


class ClientStream:
    """One streamed response to one client."""

    __slots__ = (
        "_beating",
        "_chunked",
        "_fields",
        "_heartbeat",
        "_protocol",
        "_request",
        "_timeout",
        "_transport",
        "opened",
        "response",
        "size",
    )

    _transport: asyncio.Transport

    def __init__(
        self,
        request: web.Request,
        *,
        headers: dict[str, str],
        heartbeat: float | None,
        write_timeout: float,
    ) -> None:
        """`headers` are cleared once they are sent: a stream may last for an hour. `heartbeat`:
        every so many seconds a comment, where the dialect's clients bear them."""
        self.response = StreamedResponse()
        self.size = 0
        """Bytes of frames."""
        self.opened: float | None = None
        """When the first frames were written, by `time.monotonic`."""
        self._request = request
        self._fields = headers
        self._heartbeat = heartbeat
        self._beating: asyncio.TimerHandle | None = None
        self._timeout = write_timeout
        self._chunked = request.version >= HttpVersion11

    async def open(self, first: Callable[[], bytes]) -> None:
        """Send the head together with the first frames.

        `first` is asked for them when nothing can come between them and what is written after.
        Raises `ConnectionError` if the client has gone.
        """
        request = self._request
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the client has gone")
        keep_alive = self._chunked and persists(request)
        self.response.opened(keep_alive=keep_alive)
        own = _KEPT if keep_alive else _CHUNKED if self._chunked else _HEAD
        begun = head(request, own, self._fields, keep_alive=keep_alive)
        self._fields.clear()
        # Not before there is a head: nothing goes out without one.
        self._transport, self._protocol = transport, request.protocol
        request.writer.output_size += len(begun)
        try:
            frames = first()
        except Exception:
            transport.write(begun)  # for what the client is told of it
            raise
        self.size += len(frames)
        transport.write(begun + self._framed(frames) if frames else begun)
        self.opened = time.monotonic()
        if self._heartbeat is not None:
            self._wait_to_beat()
        if self._protocol.writing_paused:
            await self.drain()

    def write(self, data: bytes) -> bool:
        """Send frames now; whether the client is behind and the upstream should wait."""
        # Its handler is still to hear that it left; meanwhile uvloop's transport would raise.
        if self._transport.is_closing():
            return False
        self.size += len(data)
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return self._protocol.writing_paused

    async def drain(self) -> None:
        """Wait until the client has caught up. Raises `ClientStalled`, and `ConnectionError` if it
        has gone."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._request.writer.drain()
        except TimeoutError as exc:
            raise ClientStalled from exc

    async def finish(self, last: bytes) -> None:
        """Send the last frames and the end of the response in one write. Raises as `drain` does."""
        self.close()
        if self._transport.is_closing():
            raise ClientConnectionResetError("the client has gone")
        self.size += len(last)
        data = self._framed(last) if last else b""
        if self._chunked:
            data += _END
        if data:
            self._transport.write(data)
        self.response.finished()
        if self._protocol.writing_paused:
            await self.drain()

    def close(self) -> None:
        """Stop the heartbeat."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def abort(self) -> None:
        """Stop at once: nothing more reaches the client."""
        self.close()
        if self._request.transport is not None:
            self._request.transport.abort()

    # Inside.

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _wait_to_beat(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._heartbeat is not None
        self._beating = loop.call_later(self._heartbeat, self._beat)

    def _beat(self) -> None:
        # Who is behind has enough to read.
        if not self._transport.is_closing() and not self._protocol.writing_paused:
            self._transport.write(self._framed(_BEAT))
        self._wait_to_beat()


def client_stream(call: Call) -> ClientStream:
    """The client's side of a stream that is about to open."""
    return ClientStream(
        call.request,
        headers=call.exchange.headers,
        heartbeat=call.dialect.heartbeat,
        write_timeout=call.snapshot.server.write_timeout,
    )
