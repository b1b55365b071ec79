"""One request on its way through the gateway, and its body."""

import asyncio

from aiohttp import hdrs, web
from msgspec import Struct

from gateway.config.model import Server
from gateway.core.codec import Dialect
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json
from gateway.observe.exchange import Exchange
from gateway.proxy.snapshot import Snapshot
from gateway.wire import json

_JSON = "application/json"


class Call(Struct, frozen=True):
    """A client's request, in what dialect it speaks, and what serves it."""

    request: web.Request
    dialect: Dialect
    exchange: Exchange
    snapshot: Snapshot


async def read(call: Call) -> bytes:
    """The request's body. Raises `GatewayError`: `UNSUPPORTED_MEDIA_TYPE`, `BODY_TOO_LARGE`
    (without reading on), `INVALID_BODY`, `RESTARTING` if the gateway stops before it is there."""
    request, server = call.request, call.snapshot.server
    headers = request.headers
    if headers.get(hdrs.CONTENT_TYPE, _JSON) != _JSON and request.content_type != _JSON:
        raise GatewayError(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the request as Content-Type: application/json"
        )
    if headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise GatewayError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body uncompressed")
    if (request.content_length or 0) > server.max_body:
        raise _too_large(server)
    try:
        # Nearly every body has come with its head: only what is still to come needs a clock.
        if request.content.is_eof():
            return _taken(call, request.content.read_nowait())
        with call.exchange.waits():
            async with asyncio.timeout(server.body_timeout):
                return await _all(call)
    except TimeoutError:
        raise GatewayError(
            ErrorCode.INVALID_BODY, "the request body did not arrive in time"
        ) from None
    except web.RequestPayloadError:
        raise GatewayError(ErrorCode.INVALID_BODY, "the request body cannot be read") from None


async def _all(call: Call) -> bytes:
    pieces = []
    while piece := await call.request.content.readany():
        pieces.append(_taken(call, piece))
    return b"".join(pieces)


def _taken(call: Call, piece: bytes) -> bytes:
    call.exchange.received += len(piece)
    if call.exchange.received > call.snapshot.server.max_body:
        raise _too_large(call.snapshot.server)
    return piece


def parsed(body: bytes) -> Json:
    """Its JSON. Raises `GatewayError(INVALID_JSON)`."""
    try:
        return json.loads(body)
    except json.InvalidJson:
        raise GatewayError(ErrorCode.INVALID_JSON, "the request body is not valid JSON") from None


def _too_large(server: Server) -> GatewayError:
    return GatewayError(
        ErrorCode.BODY_TOO_LARGE, f"the request body may have at most {server.max_body} bytes"
    )
