"""An upstream's JSON handed on to a client as it is: a short answer whole, a long one in pieces."""

import asyncio

from aiohttp import web

from gateway.core.errors import ErrorCode, GatewayError
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED
from gateway.proxy.call import Call
from gateway.proxy.document import write
from gateway.proxy.relay import MESSAGES
from gateway.proxy.remote import RemoteAnswer
from gateway.upstreams import refusals
from gateway.wire import json

# An answer of at most so many bytes is looked at as a whole before any of it goes out.
MAX_WHOLE = 1 << 20

# What may wait here for a slow client before the upstream has to wait as well.
_HIGH_WATER = 256 << 10


class Arriving:
    """An answer's body on its way (it is the `Sink`). `idle` is how many seconds the upstream may
    be silent."""

    def __init__(self, answer: RemoteAnswer, idle: float) -> None:
        self._answer = answer
        self._idle = idle
        self._pieces: list[bytes] = []
        self._size = 0
        self._over = False
        self._error: GatewayError | None = None
        self._wake = asyncio.Event()
        answer.relay(self)

    async def more(self) -> bytes:
        """What has come since the last call, nothing at the end. Raises `GatewayError`."""
        if not self._pieces and not self._over:
            clock = asyncio.get_running_loop().call_later(self._idle, self._silent)
            try:
                await self._wake.wait()
            finally:
                clock.cancel()
        if not self._pieces and self._error is not None:
            raise self._error
        return self._taken()

    def data(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _HIGH_WATER:
            self._answer.pause()
        self._wake.set()

    def eof(self, error: GatewayError | None) -> None:
        self._over, self._error = True, error
        self._wake.set()

    def _taken(self) -> bytes:
        data = b"".join(self._pieces)
        waited, self._pieces, self._size = self._size >= _HIGH_WATER, [], 0
        if not self._over:
            self._wake.clear()
        if waited:
            self._answer.resume()
        return data

    def _silent(self) -> None:
        self._answer.fail(GatewayError(ErrorCode.IDLE_TIMEOUT, MESSAGES[ErrorCode.IDLE_TIMEOUT]))


async def hand_on(call: Call, status: int, arriving: Arriving) -> web.StreamResponse:
    """The response. Raises `GatewayError` as long as nothing has been sent; what fails from then on
    is in the exchange's outcome, and cuts the connection: half an answer must not look whole."""
    begun = bytearray()
    while len(begun) <= MAX_WHOLE:
        piece = await arriving.more()
        if not piece:
            return web.Response(
                status=status, body=_checked(bytes(begun)), content_type="application/json"
            )
        begun += piece
    if not begun.lstrip(b" \t\r\n").startswith((b"{", b"[")):
        raise _malformed()
    return await _stream(call, status, bytes(begun), arriving)


async def _stream(call: Call, status: int, begun: bytes, arriving: Arriving) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=call.exchange.headers)
    response.content_type = "application/json"
    timeout = call.snapshot.server.write_timeout
    try:
        await response.prepare(call.request)
        piece = begun
        while piece:
            await write(response, piece, timeout)
            piece = await arriving.more()
        await response.write_eof()
    except (GatewayError, TimeoutError, ConnectionError) as exc:
        call.exchange.outcome = _outcome(exc)
        if call.request.transport is not None:
            call.request.transport.abort()
    return response


def _outcome(exc: Exception) -> str:
    if isinstance(exc, GatewayError):
        return exc.code
    return CLIENT_STALLED if isinstance(exc, TimeoutError) else CLIENT_GONE


def _checked(body: bytes) -> bytes:
    try:
        json.loads(body)
    except json.InvalidJson:
        raise _malformed() from None
    return body


def _malformed() -> GatewayError:
    code = ErrorCode.UPSTREAM_MALFORMED
    return GatewayError(code, refusals.MESSAGES[code])
