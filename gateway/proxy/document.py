"""The client's side of an answer that is no stream: a JSON document."""

import asyncio
from collections.abc import Mapping

from aiohttp import ClientConnectionResetError, web
from aiohttp.abc import AbstractStreamWriter

from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED, Exchange
from gateway.proxy.head import head, persists

# Of a long document, what a client has to take in time: a slow one takes all of it in the end.
_SLICE = 64 << 10


class Document(web.StreamResponse):
    """A short document with status 200, written at once with its head. `fields` are the head's
    further lines, as they are when it is sent."""

    # All that it has is in its head: the middleware has nothing to add.
    prepared = True

    def __init__(self, body: bytes, fields: Mapping[str, str]) -> None:
        # Not aiohttp's own: that prepares what is not used here.
        self._status, self._reason = 200, "OK"
        self._document = body
        self._fields = fields

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it. Raises `ConnectionError` if the client has gone."""
        protocol, writer = request.protocol, request.writer
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the client has gone")
        self._keep_alive = keep_alive = persists(request)
        own = f"Content-Type: application/json\r\nContent-Length: {len(self._document)}\r\n"
        data = head(request, own, self._fields, keep_alive=keep_alive) + self._document
        writer.output_size += len(data)
        transport.write(data)
        # aiohttp keeps the response for as long as the connection is idle, and orjson's shortest
        # text takes four kilobytes.
        self._document, self._fields = b"", {}
        if protocol.writing_paused:
            await writer.drain()
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Done with the head."""


async def whole(
    request: web.Request, exchange: Exchange, body: bytes, stalled: float
) -> web.StreamResponse:
    """The response with a JSON document. aiohttp puts no clock on a body: who asks for a long one
    and leaves it unread would have it kept here for ever, and is cut."""
    exchange.written = len(body)
    if len(body) <= _SLICE:
        return Document(body, exchange.headers)
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


async def write(response: web.StreamResponse, data: bytes, stalled: float) -> None:
    """Write a part of a document, however long it is. Raises `TimeoutError` if the client leaves it
    unread for `stalled` seconds."""
    for start in range(0, len(data), _SLICE):
        async with asyncio.timeout(stalled):
            await response.write(data[start : start + _SLICE])
