"""The client's side of a stream: aiohttp-sse opens it, keeps it alive and ends it; frames go to
the transport as bytes, one write per batch."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED, Exchange
from gateway.proxy.call import Call

# For dialects whose clients do not bear comments: aiohttp-sse has no way to say "never".
_NEVER = 10 * 365 * 86400.0


# Of a long document, what a client has to take in time: a slow one takes all of it in the end.
_SLICE = 64 << 10


class ClientStalled(Exception):
    """The client left its stream unread for too long, and was cut."""


class ClientStream:
    """One streamed response to one client."""

    _writer: AbstractStreamWriter
    _transport: asyncio.Transport

    def __init__(
        self,
        request: web.Request,
        *,
        headers: Mapping[str, str],
        heartbeat: float | None,
        write_timeout: float,
    ) -> None:
        self.size = 0
        """Bytes of frames."""
        self.opened: float | None = None
        """When the first frames were written, by `time.monotonic`."""
        self._request = request
        self._timeout = write_timeout
        self._chunked = request.version >= HttpVersion11
        self.response = EventSourceResponse(
            headers=headers,
            sep="\n",
            allow_all_methods=True,
            ping_interval=heartbeat or _NEVER,
            send_timeout=write_timeout,
        )
        # no-transform: a proxy that compresses would buffer.
        self.response.headers["Cache-Control"] = "no-cache, no-transform"
        if not self._chunked:
            self.response.headers["Connection"] = "close"
            self.response.force_close()

    async def open(self, first: Callable[[], bytes]) -> None:
        """Send the head together with the first frames.

        `first` is asked for them when nothing can come between them and what is written after.
        Raises `ConnectionError` if the client has gone.
        """
        if self._request.transport is None:
            raise ConnectionResetError("the client has gone")
        writer = await self.response.prepare(self._request)
        transport = self._request.transport
        if writer is None or transport is None:
            raise ConnectionResetError("the client has gone")
        self._writer, self._transport = writer, transport
        self._protocol = self._request.protocol
        frames = first()
        self.size += len(frames)
        if frames:
            # aiohttp holds the head back to send it with this, before anything suspends.
            await self._in_time(writer.write(frames))
        else:
            writer.send_headers()
        self.opened = time.monotonic()

    def write(self, data: bytes) -> bool:
        """Send frames now; whether the client is behind and the upstream should wait."""
        # Its handler is still to hear that it left; meanwhile uvloop's transport would raise.
        if self._transport.is_closing():
            return False
        self.size += len(data)
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return self._protocol.writing_paused

    async def drain(self) -> None:
        """Wait until the client has caught up. Raises `ClientStalled`."""
        await self._in_time(self._writer.drain())

    async def finish(self, last: bytes) -> None:
        """Send the last frames and the end of the response in one write."""
        self.close()
        self.size += len(last)
        await self._in_time(self.response.write_eof(last))

    def close(self) -> None:
        """Stop the heartbeat."""
        if self.response.is_connected():
            self.response.stop_streaming()
            # It would keep the heartbeat's task, and that its frame, with what cancelled it.
            self.response._ping_task = None

    def abort(self) -> None:
        """Stop at once: nothing more reaches the client."""
        self.close()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _in_time(self, writing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await writing
        except TimeoutError as exc:
            raise ClientStalled from exc


def client_stream(call: Call) -> ClientStream:
    """The client's side of a stream that is about to open."""
    return ClientStream(
        call.request,
        headers=call.exchange.headers,
        heartbeat=call.dialect.heartbeat,
        write_timeout=call.snapshot.server.write_timeout,
    )


async def write(response: web.StreamResponse, data: bytes, stalled: float) -> None:
    """Write a part of a document, however long it is. Raises `TimeoutError` if the client leaves it
    unread for `stalled` seconds."""
    for start in range(0, len(data), _SLICE):
        async with asyncio.timeout(stalled):
            await response.write(data[start : start + _SLICE])


async def whole(
    request: web.Request, exchange: Exchange, body: bytes, stalled: float
) -> web.StreamResponse:
    """The response with a JSON document. aiohttp puts no clock on a body: who asks for a long one
    and leaves it unread would have it kept here for ever, and is cut."""
    exchange.written = len(body)
    if len(body) <= _SLICE:
        return web.Response(body=body, content_type="application/json")
    response = web.StreamResponse(headers=exchange.headers)
    response.content_type = "application/json"
    response.content_length = len(body)
    try:
        await response.prepare(request)
        await write(response, body, stalled)
    except (TimeoutError, ConnectionError) as exc:
        exchange.outcome = CLIENT_STALLED if isinstance(exc, TimeoutError) else CLIENT_GONE
        if request.transport is not None:
            request.transport.abort()
    return response
