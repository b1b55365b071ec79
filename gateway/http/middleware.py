"""The one middleware: ids, errors in the caller's dialect, CORS, and the record of each request."""

import asyncio
import random
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Container
from typing import Final

from aiohttp import hdrs, web

from gateway.core.codec import Dialect
from gateway.core.errors import ErrorCode, GatewayError
from gateway.http.cors import VARY, cors_headers, is_preflight, preflight
from gateway.http.paths import Paths
from gateway.limits.headers import retry_after
from gateway.observe.exchange import CLIENT_GONE, MALFORMED, Exchange
from gateway.observe.ledger import Ledger
from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics
from gateway.observe.tracing import Tracer

EXCHANGE: Final = web.RequestKey("exchange", Exchange)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Callable[[web.Request, Exchange], Awaitable[web.StreamResponse]]

# A caller's own id is kept, so that one id runs through all logs; never one that could forge a
# line of them.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)

_MALFORMED = GatewayError(
    ErrorCode.INVALID_BODY,
    "the request is not well-formed HTTP, or has a line or a header that is too long",
)

_FAILED = GatewayError(ErrorCode.INTERNAL, "the gateway failed to serve this request")

_CHALLENGES: dict[ErrorCode, str] = {
    ErrorCode.KEY_MISSING: 'Bearer realm="oc-gateway"',
    ErrorCode.KEY_INVALID: 'Bearer realm="oc-gateway", error="invalid_token"',
    ErrorCode.KEY_EXPIRED: (
        'Bearer realm="oc-gateway", error="invalid_token", error_description="expired"'
    ),
}


def _peer(request: web.BaseRequest) -> str:
    return request.remote or ""


class Outermost:
    """Wraps every handler of the public listener."""

    def __init__(
        self,
        paths: Paths,
        metrics: Metrics,
        logger: Logger,
        tracer: Tracer,
        ledger: Ledger,
        origins: Callable[[], Container[str]],
        client: Callable[[web.BaseRequest], str] = _peer,
    ) -> None:
        """`client` tells the address that a request is from."""
        self._paths = paths
        self._metrics = metrics
        self._logger = logger
        self._line = logger.bind().request
        self._tracer = tracer
        self._ledger = ledger
        self._origins = origins
        self._client = client
        # So that the kernel need not be asked for each.
        self._draw = random.Random(secrets.randbits(128)).getrandbits  # noqa: S311 - no secret

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        def answer(request: web.Request, exchange: Exchange) -> Awaitable[web.StreamResponse]:
            request[EXCHANGE] = exchange
            return _handled(request, handler)

        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else ""
        return await self.serve(request, answer, self._paths.dialect_of(request.path), path)

    async def serve(
        self, request: web.Request, answer: Answer, dialect: Dialect, path: str
    ) -> web.StreamResponse:
        """The answer to a request, or an error's in the words of the dialect. `path` is that of the
        route, empty where there is none."""
        exchange = Exchange(self._request_id(request), dialect.name, time.monotonic())
        exchange.client = self._client(request)
        exchange.headers = self._headers(exchange, request.headers.get(hdrs.ORIGIN))
        # Health checks and what nothing is found for would be noise.
        if path and path != self._paths.health:
            self._trace(request, exchange, path)
        self._ledger.begin(exchange)
        try:
            try:
                response = await answer(request, exchange)
            except Exception as exc:
                response = self._refused(request, dialect, exchange, exc)
            if not response.prepared:
                response.headers.update(exchange.headers)
            exchange.status = response.status
        except asyncio.CancelledError:
            exchange.outcome = CLIENT_GONE
            exchange.status = exchange.status or 499  # nginx's word for it
            raise
        finally:
            if exchange.ends is None or exchange.ends.done():
                self._record(exchange)
            else:
                exchange.ends.add_done_callback(lambda _: self._record(exchange))
        return response

    def refuse(self, path: str, status: int, exc: BaseException | None) -> web.Response:
        """The answer to what never becomes a request: what does not parse, or, with `exc`, what a
        bug keeps from us. Nothing that the client sent is in it, or in the log."""
        dialect = self._paths.dialect_of(path)
        exchange = Exchange(self._new_id(), dialect.name, time.monotonic())
        error = _MALFORMED
        exchange.outcome = MALFORMED
        if exc is not None:
            self.failed(exc, exchange.request_id)
            error = _FAILED
            exchange.outcome = error.code
        response = _error_response(dialect, error)
        response.set_status(status)
        response.headers.update(self._headers(exchange, None))
        exchange.status = status
        self._record(exchange)
        return response

    def failed(self, exc: BaseException | None, request_id: str | None = None) -> None:
        """Log a bug on a connection."""
        self._logger.error("internal_error", request_id=request_id, exc_info=exc)

    def _request_id(self, request: web.Request) -> str:
        given = request.headers.get("X-Request-Id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return self._new_id()

    def _new_id(self) -> str:
        return self._draw(128).to_bytes(16).hex()

    def _headers(self, exchange: Exchange, origin: str | None) -> dict[str, str]:
        ours = {"Server": "oc-gateway", "X-Request-Id": exchange.request_id, **VARY}
        return ours if origin is None else ours | cors_headers(origin, self._origins())

    def _trace(self, request: web.Request, exchange: Exchange, path: str) -> None:
        exchange.trace = trace = self._tracer.begin(request.method, path, request.headers)
        if trace.recorded:
            exchange.exemplar = {"trace_id": trace.id}

    def _record(self, exchange: Exchange) -> None:
        exchange.ends = None  # it keeps the response, and so the request, which keeps this record
        exchange.duration = time.monotonic() - exchange.started
        exchange.trace.end(exchange)
        self._metrics.observe(exchange)
        self._ledger.end(exchange)
        self._line(exchange)

    def _refused(
        self, request: web.Request, dialect: Dialect, exchange: Exchange, exc: Exception
    ) -> web.Response:
        error = self._as_error(exc, request, exchange)
        # Its frames hold the request, and the request (of a path that is not there) the error.
        exc.__traceback__ = None
        exchange.outcome = error.code
        if request.writer.output_size > 0 and request.transport is not None:
            request.transport.abort()  # an answer has begun: it can only be cut
        return _error_response(dialect, error)

    def _as_error(self, exc: Exception, request: web.Request, exchange: Exchange) -> GatewayError:
        match exc:
            case GatewayError():
                return exc
            case web.HTTPMethodNotAllowed():
                allowed = tuple(sorted(exc.allowed_methods))
                message = f"this path allows {', '.join(allowed)}"
                return GatewayError(ErrorCode.METHOD_NOT_ALLOWED, message, allow=allowed)
            case web.HTTPNotFound():
                message = f"there is nothing here; chats are at {' and '.join(self._paths.chats)}"
                return GatewayError(ErrorCode.PATH_NOT_FOUND, message)
            case _:
                self._logger.error(
                    "internal_error",
                    request_id=exchange.request_id,
                    method=request.method,
                    exc_info=exc,
                )
                return _FAILED


def _handled(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    # No path has the method OPTIONS; one that is not there at all has no preflight either.
    if is_preflight(request) and isinstance(
        missed := request.match_info.http_exception, web.HTTPMethodNotAllowed
    ):
        return _preflight(", ".join(sorted(missed.allowed_methods)))
    return handler(request)


async def _preflight(methods: str) -> web.StreamResponse:
    return preflight(methods)


def _error_response(dialect: Dialect, error: GatewayError) -> web.Response:
    answer = dialect.error(error)
    headers = {}
    if error.retry_after is not None:
        headers[hdrs.RETRY_AFTER] = retry_after(error.retry_after)
    if error.code in _CHALLENGES:
        headers[hdrs.WWW_AUTHENTICATE] = _CHALLENGES[error.code]
    if error.allow:
        headers[hdrs.ALLOW] = ", ".join(error.allow)
    return web.Response(
        status=answer.status, body=answer.body, content_type=answer.content_type, headers=headers
    )
