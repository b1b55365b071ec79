"""A client's connection: aiohttp's, with a clock on every head and nothing of a client's repeated.

aiohttp answers what it cannot parse past every middleware: it logs the line, which may hold a key,
and repeats it to the client. The one place to change that is a `RequestHandler` of our own, and the
one way to have it made is a runner's `_make_server`. tests/test_http_connection.py holds aiohttp to
what is relied on here.
"""

import asyncio
import re
import select
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.http import HttpProcessingError

from gateway.core.errors import GatewayError
from gateway.http.middleware import Outermost
from gateway.http.one_by_one import OneByOne

OUTERMOST: Final = web.AppKey("outermost", Outermost)
"""Who answers for an application what never becomes a request of it."""

# What is kept of a head's beginning, to tell whose words a refusal of it is in.
_BEGINNING = 256
_REQUEST_LINE = re.compile(rb"[!-~]+ (/[^\s?#]*)")

# What may wait for a client before its turn does, in bytes: as without TLS, whose own transports
# would take eight times as much.
_HIGH_WATER = 64 << 10

# How long the last words on an idle connection take to leave the process.
_GOODBYE = 0.05


class Connection(OneByOne):
    """One connection of a client.

    `parting` tells whether the gateway is about to leave. `head_timeout` is in seconds: a
    connection that sends nothing at first, or no more of a head that it has begun, is closed.
    `options` are those of `web.RequestHandler`.
    """

    __slots__ = (
        "__weakref__",
        "_beginning",
        "_clock",
        "_head_timeout",
        "_outermost",
        "_parting",
        "_secured",
        "accepted",
    )

    def __init__(
        self,
        server: web.Server,
        outermost: Outermost | None,
        parting: Callable[[], bool],
        head_timeout: float,
        **options: Any,  # aiohttp's own word for them
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._outermost = outermost
        self._parting = parting
        self._head_timeout = head_timeout
        self._clock: asyncio.TimerHandle | None = None
        self._beginning = b""
        self._secured: asyncio.Transport | None = None
        """The transport, if it is TLS's, until the end: aiohttp forgets one that it has closed."""
        self.accepted = self._loop.time()
        """By the loop's clock; over TLS, its handshake began then."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.ssl_context is not None:
            self._secured = cast("asyncio.Transport", transport)
            self._secured.set_write_buffer_limits(_HIGH_WATER)
        self._start_clock()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_clock()
        self._secured = None
        super().connection_lost(exc)

    @property
    def idle_since(self) -> float:
        """By the loop's clock, if it is."""
        return self._next_keepalive_close_time - self._keepalive_timeout

    @property
    def last_answer(self) -> bool:
        """Whether the next answer is the last one: the gateway is about to leave, and the client
        has not sent further requests already."""
        return self._parting() and not self._messages

    def leave(self, when: float, now: float) -> None:
        """Close it if it is idle and the time has come. Raises nothing."""
        if now >= when and self._is_idle() and not self._has_unread():
            self.force_close()
            if self._secured is not None:
                self._loop.call_later(_GOODBYE, self.hang_up)

    def end(self, error: GatewayError) -> None:
        """Have a request whose body is still arriving fail with this; close it if there is none."""
        if (body := self._arriving()) is not None:
            body.set_exception(error)
        self.leave(0.0, 0.0)

    def force_close(self) -> None:
        # A second close would have asyncio's TLS forget what it is to abort.
        if self.transport is not None and self.transport.is_closing():
            self.transport = None
        super().force_close()

    def hang_up(self) -> None:
        """Once it is closed, do not wait for the client's goodbye, which TLS expects and a client
        that is idle does not read of. What was sent and is still on its way is not cut."""
        wire, self._secured = self._secured, None
        if wire is not None and wire.is_closing() and _is_ready(wire, select.POLLOUT):
            wire.abort()

    def _is_idle(self) -> bool:
        waiter = self._waiter
        in_head = self._clock is not None and bool(self._beginning)
        return waiter is not None and not waiter.done() and not in_head

    def _has_unread(self) -> bool:
        """Whether something has arrived that the loop has not handed over yet."""
        return self.transport is not None and _is_ready(self.transport, select.POLLIN)

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp asks for it with every read of a body, and would parse what is not there.
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        # Set while aiohttp waits for the next request, done once it has one: all else is a body.
        waiter = self._waiter
        in_head = bool(data) and waiter is not None and not waiter.done()
        if in_head and (self._clock is None or not self._beginning):
            self._beginning = data[:_BEGINNING]
        parsed = self._request_count
        body = self._arriving()
        super().data_received(data)
        if body is not None and body.is_eof() and self._parser is not None:
            # aiohttp counts a request that waits once its body is there: this one has been taken
            # before, and held the place of one that is in the parser.
            self._parser.message_consumed()
            if self._request_count != parsed and not self._upgraded:
                super().data_received(b"")
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
        if isinstance(exc, web.RequestPayloadError | GatewayError):
            return  # of its body: the request has its line, and the client its answer
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
        if (body := self._arriving()) is not None:
            body.set_exception(web.RequestPayloadError())

    def _arriving(self) -> StreamReader | None:
        """The body of the request that is being served, as long as it is not there."""
        request = self._current_request
        return None if request is None or request.content.is_eof() else request.content

    def _start_clock(self) -> None:
        self._clock = self._loop.call_later(self._head_timeout, self._run_out)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _run_out(self) -> None:
        self._clock = None
        self.force_close()


def _is_ready(transport: asyncio.BaseTransport, what: int) -> bool:
    wire = transport.get_extra_info("socket")
    if wire is None:
        return False  # it is gone
    poll = select.poll()
    poll.register(wire.fileno(), what)
    return bool(poll.poll(0))


def _path(beginning: bytes) -> str:
    """The path that a head which does not parse was for, as far as that can be told."""
    line = _REQUEST_LINE.match(beginning)
    return line[1].decode("latin-1") if line else ""
