"""Conversations that the upstream keeps: who may name one, and the requests that are handed on.

The gateway stores nothing of them. Which there are, and whose, only the upstream knows, and to it
all clients are one: the gateway's credential.
"""

import asyncio
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from gateway.config.routes import Route, RouteTarget
from gateway.core.codec import Dialect, UpstreamRequest
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import ChatRequest
from gateway.observe.metrics import Metrics
from gateway.proxy import asking
from gateway.proxy.admission import Caller
from gateway.proxy.call import Call
from gateway.proxy.passage import Arriving, hand_on
from gateway.proxy.relay import MESSAGES

_PAGING = frozenset({"limit", "cursor"})


class Passing:
    """Hands on what is asked of a conversation beside chatting."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def forward(
        self, call: Call, caller: Caller, route: Route, method: str, tail: str, body: bytes
    ) -> web.StreamResponse:
        """The upstream's own answer to a request whose path goes on behind the agent's with `tail`,
        query included, both as they came.

        Raises `GatewayError` as long as nothing has been sent.
        """
        check_family(call.dialect, route)
        target, exchange = route.targets[0], call.exchange
        passage = target.kind.passage
        if passage is None:
            raise _no_such_request()
        request = passage(target.target, method, _allowed(caller, tail), body)
        exchange.upstream, exchange.target = target.target.upstream, target.name
        exchange.attempts += 1
        try:
            response = await _passed(call, target, request)
        except GatewayError as exc:
            self._metrics.upstream_failed(exchange.upstream, exc.code)
            raise
        if isinstance(exchange.outcome, ErrorCode):
            self._metrics.upstream_failed(exchange.upstream, exchange.outcome)
        return response


async def _passed(call: Call, target: RouteTarget, request: UpstreamRequest) -> web.StreamResponse:
    assert target.kind.error is not None
    loop, timeouts = asyncio.get_running_loop(), target.clocks
    started = loop.time()
    answer = await asking.ask(
        call.snapshot.clients[target.target.upstream],
        asking.traced(request, call.exchange.trace.headers),
        target.kind.error,
        call.exchange.request_id,
        started + timeouts.first_event,
    )
    clock = loop.call_at(started + timeouts.total, answer.fail, _too_long())
    try:
        return await hand_on(call, answer.status, Arriving(answer, timeouts.idle))
    finally:
        clock.cancel()
        answer.close()


def check_turn(dialect: Dialect, caller: Caller, route: Route, ask: ChatRequest) -> None:
    """A chat or a retry with an agent whose upstream keeps the conversations. Raises
    `GatewayError`: `AGENT_NOT_FOUND`, `FORBIDDEN`, `PATH_NOT_FOUND`, `INVALID_BODY`."""
    check_family(dialect, route)
    if ask.conversation_id is not None and _bound(caller):
        raise _not_theirs()
    if route.targets[0].kind.passage is not None:
        return
    if ask.retry_of is not None:
        raise _no_such_request()
    if ask.message is None:
        message = "is required and must be a non-empty string"
        raise GatewayError(
            ErrorCode.INVALID_BODY, f"message {message}", details={"message": message}
        )


def check_family(dialect: Dialect, route: Route) -> None:
    """An agent whose conversations are the upstream's own is for clients of the same protocol.
    Raises `GatewayError(AGENT_NOT_FOUND)`."""
    if dialect.family != route.passthrough:
        raise GatewayError(
            ErrorCode.AGENT_NOT_FOUND,
            f"this agent keeps {route.passthrough} conversations: it is not served here",
        )


def _bound(caller: Caller) -> bool:
    """Whether they speak for one user only, or for nobody that is known."""
    return caller.principal is None or caller.user is not None


def _allowed(caller: Caller, tail: str) -> str:
    """What may be asked for: all, but for a caller who is bound. Raises `GatewayError(FORBIDDEN)`.

    Nor may such a caller's query say more than how a list is read: who knows what else the upstream
    would hear in it.
    """
    if not _bound(caller):
        return tail
    path, _, query = tail.partition("?")
    if caller.user is None or path != f"/users/{caller.user}/conversations":
        raise _not_theirs()
    paging = [field for field in parse_qsl(query) if field[0] in _PAGING]
    return f"{path}?{urlencode(paging, errors='replace')}" if paging else path


def _not_theirs() -> GatewayError:
    return GatewayError(
        ErrorCode.FORBIDDEN,
        "a key for one user begins conversations with this agent and lists that user's: whose any"
        " other is cannot be told here",
    )


def _no_such_request() -> GatewayError:
    return GatewayError(ErrorCode.PATH_NOT_FOUND, "this agent's upstream has no such request")


def _too_long() -> GatewayError:
    return GatewayError(ErrorCode.TOTAL_TIMEOUT, MESSAGES[ErrorCode.TOTAL_TIMEOUT])
