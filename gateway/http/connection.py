"""A client's connection: aiohttp's, with a clock on every head and nothing of a client's repeated.

aiohttp answers what it cannot parse past every middleware: it logs the line, which may hold a key,
and repeats it to the client. The one place to change that is a `RequestHandler` of our own, and the
one way to have it made is a runner's `_make_server`. tests/test_http_connection.py holds aiohttp to
what is relied on here.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from gateway.http.middleware import Outermost

OUTERMOST: Final = web.AppKey("outermost", Outermost)
"""Who answers for an application what never becomes a request of it."""

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# What is kept of a head's beginning, to tell whose words a refusal of it is in.
_BEGINNING = 256
_REQUEST_LINE = re.compile(rb"[!-~]+ (/[^\s?#]*)")


class Connection(web.RequestHandler):
    """One connection of a client.

    `head_timeout` is in seconds: a connection that sends nothing at first, or no more of a head
    that it has begun, is closed. `options` are those of `web.RequestHandler`.
    """

    __slots__ = ("_beginning", "_clock", "_head_timeout", "_outermost")

    def __init__(
        self,
        server: web.Server,
        outermost: Outermost | None,
        head_timeout: float,
        **options: Any,  # aiohttp's own word for them
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._outermost = outermost
        self._head_timeout = head_timeout
        self._clock: asyncio.TimerHandle | None = None
        self._beginning = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Set while aiohttp waits for the next request, done once it has one: all else is a body.
        waiter = self._waiter
        in_head = bool(data) and waiter is not None and not waiter.done()
        if in_head and (self._clock is None or not self._beginning):
            self._beginning = data[:_BEGINNING]
        parsed = self._request_count
        super().data_received(data)
        if self._request_count != parsed:
            self._stop_clock()
            self._break_body()
        elif in_head and self._clock is None:
            self._start_clock()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what no middleware has seen: a head that does not parse, or a bug."""
        if isinstance(exc, ConnectionError):
            raise exc  # of a `100 Continue` to a client that has left
        response = self._refusal(request, status, exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response had begun")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        exc = kw.get("exc_info")
        if isinstance(exc, web.RequestPayloadError):
            return  # the request has its line, and the client its answer
        if self._outermost is None:
            super().log_exception(*args, **kw)
        else:
            self._outermost.failed(exc)

    def _refusal(
        self, request: web.BaseRequest, status: int, exc: BaseException | None
    ) -> web.Response:
        unparsed = isinstance(exc, HttpProcessingError)
        if self._outermost is not None:
            path = _path(self._beginning) if unparsed else request.path
            return self._outermost.refuse(path, status, None if unparsed else exc)
        if not unparsed:
            super().log_exception("a handler failed", exc_info=exc)
        return web.Response(status=status, text=HTTPStatus(status).phrase)

    def _break_body(self) -> None:
        """Wake a handler that reads a body which turned out to be broken: aiohttp's parser lets go
        of it. What is parsed within a body can only be such an error."""
        request = self._current_request
        if request is not None and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError())

    def _start_clock(self) -> None:
        self._clock = self._loop.call_later(self._head_timeout, self._run_out)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _run_out(self) -> None:
        self._clock = None
        self.force_close()


class Runner(web.AppRunner):
    """Serves an application on our connections."""

    def __init__(
        self,
        app: web.Application,
        *,
        shutdown_timeout: float,
        head_timeout: float,
        **options: Any,  # of web.RequestHandler
    ) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._head_timeout = head_timeout
        self._options = options

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        outermost = self.app.get(OUTERMOST)
        if outermost is not None:
            made.request_handler = _ignoring_expectations(made.request_handler, outermost)
        return _Server(
            made,
            lambda server: Connection(server, outermost, self._head_timeout, **self._options),
        )


class _Server(web.Server):
    def __init__(
        self, made: web.Server, connect: Callable[[web.Server], web.RequestHandler]
    ) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            # Off by default in aiohttp: without it a handler whose client has gone goes on, and
            # the upstream with it, until the upstream speaks.
            handler_cancellation=True,
        )
        self._connect = connect

    def __call__(self) -> web.RequestHandler:
        return self._connect(self)


def _ignoring_expectations(handle: _Handler, outermost: Outermost) -> _Handler:
    """RFC 9110, section 10.1.1: an expectation other than `100-continue` may be ignored. aiohttp
    refuses it past our middleware, in a text that fails for what is not UTF-8; and only known paths
    can be told not to."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handle(request)
        except (web.HTTPExpectationFailed, UnicodeEncodeError):
            assert isinstance(request, web.Request)
            return await outermost(request, request.match_info.handler)

    return handler


def _path(beginning: bytes) -> str:
    """The path that a head which does not parse was for, as far as that can be told."""
    line = _REQUEST_LINE.match(beginning)
    return line[1].decode("latin-1") if line else ""
