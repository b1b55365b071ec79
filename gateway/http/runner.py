"""aiohttp's runner and server, with our connections in the place of theirs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, cast
from weakref import WeakSet

from aiohttp import hdrs, web

from gateway.http.connection import OUTERMOST, Connection
from gateway.http.front import FRONT
from gateway.http.middleware import Outermost
from gateway.http.request import Request

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


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
        app.on_response_prepare.append(self._part)

    def part(self) -> None:
        """From now on, each answer is the last on its connection."""
        if self.server is not None:
            cast("_Server", self.server).parting = True

    @property
    def connections(self) -> list[Connection]:
        """Those that are open."""
        found = self.server.connections if self.server is not None else []
        return [connection for connection in found if isinstance(connection, Connection)]

    def arriving(self, since: float) -> bool:
        """Whether somebody who was accepted after `since`, by the loop's clock, is in a handshake.
        When one fails, nobody hears of it."""
        server = cast("_Server | None", self.server)
        return server is not None and any(each.accepted > since for each in server.arriving)

    def listening(self) -> Iterator[int]:
        """The file descriptors of the sockets that accept."""
        for site in self.sites:
            server = cast("asyncio.Server", site._server)  # uvloop's is none by inheritance
            yield from (sock.fileno() for sock in server.sockets)

    async def _part(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say in an answer that it is the last one, unless the client has asked for more."""
        connection = request.protocol
        assert isinstance(connection, Connection)
        if connection.last_answer:
            response.headers[hdrs.CONNECTION] = "close"
            response.force_close()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        made.request_factory = partial(self.app._make_request, _cls=Request)
        outermost, front = self.app.get(OUTERMOST), self.app.get(FRONT)
        if outermost is not None:
            made.request_handler = _ignoring_expectations(made.request_handler, outermost)
        if front is not None:
            made.request_handler = front.before(made.request_handler)
        return _Server(
            made,
            lambda server: Connection(
                server,
                outermost,
                server.is_parting,
                self._head_timeout,
                **self._options,
            ),
        )


class _Server(web.Server):
    def __init__(self, made: web.Server, connect: Callable[["_Server"], Connection]) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            # Off by default in aiohttp: without it a handler whose client has gone goes on, and
            # the upstream with it, until the upstream speaks.
            handler_cancellation=True,
        )
        self._connect = connect
        self.parting = False
        # One function for all connections, where each would have a method of its own.
        self.is_parting = lambda: self.parting
        self.arriving: WeakSet[Connection] = WeakSet()
        """Accepted, and not yet a connection."""

    def __call__(self) -> web.RequestHandler:
        connection = self._connect(self)
        self.arriving.add(connection)
        return connection

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        assert isinstance(handler, Connection)
        self.arriving.discard(handler)
        super().connection_made(handler, transport)


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
