"""The rest of a stream, for a client that lost it or one more that reads along."""

from collections.abc import Callable

from aiohttp import web

from gateway.config.routes import Route
from gateway.conversations.access import Access
from gateway.conversations.store import Span
from gateway.core.codec import Dialect
from gateway.core.conversation import number_in
from gateway.core.errors import ErrorCode, GatewayError
from gateway.limits.limiter import Limiter
from gateway.observe.exchange import Exchange
from gateway.observe.metrics import Metrics
from gateway.proxy.admission import Admission, Caller, check_agent, check_speaks_for, scope_of
from gateway.proxy.call import Call
from gateway.proxy.detached import follow
from gateway.proxy.downstream import client_stream
from gateway.proxy.feed import Feed
from gateway.proxy.open_turns import OpenTurns
from gateway.proxy.snapshot import Snapshot
from gateway.proxy.streams import StreamName, Streams

# As EventSource sends it, and as those of its replacements do that can set no headers.
HEADER, PARAMETER = "Last-Event-ID", "lastEventId"


class Resumption:
    """Serves these requests, in any dialect that has them."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        limiter: Limiter,
        access: Access,
        streams: Streams,
        open_turns: OpenTurns,
        metrics: Metrics,
    ) -> None:
        self._snapshot = snapshot
        self._admission = Admission(limiter)
        self._access = access
        self._streams = streams
        self._open_turns = open_turns
        self._metrics = metrics

    async def serve(
        self, request: web.Request, dialect: Dialect, exchange: Exchange
    ) -> web.StreamResponse:
        """What was missed and what comes; 204 where there is nothing to go on with. Raises
        `GatewayError` as long as nothing has been sent."""
        call = Call(request, dialect, exchange, self._snapshot())
        caller = self._admission.by_key(call)
        agent = request.match_info["agent"]
        route = call.snapshot.routes.find(agent, caller.owner.workspace)
        exchange.agent = str(route.id)
        check_agent(caller, route)
        with self._open_turns.turn():  # only so far: it ends as the turn does that it reads
            feed = await self._found(call, caller, route)
        at = _position(feed, _last_seen(request)) if feed is not None else None
        if feed is None or at is None:
            return web.Response(status=204)
        exchange.stream = True
        exchange.headers.update(feed.headers)
        reader = feed.join(at, ids=True)
        try:
            return await follow(call, reader, client_stream(call), self._metrics)
        finally:
            feed.leave(reader)

    async def _found(self, call: Call, caller: Caller, route: Route) -> Feed | None:
        """The newest turn of the conversation. Raises `GatewayError(CONVERSATION_NOT_FOUND)` for a
        conversation that the caller could not read."""
        conversation = call.request.match_info["conversation"]
        if route.passthrough is not None:
            return None
        scope, dialect = scope_of(caller, route), call.dialect.name
        if call.dialect.stateless:
            user = _user(call, caller)
            name = StreamName(scope.place, dialect, conversation, user)
            return await self._streams.find(name)
        number = str(number_in(conversation) or "")
        call.exchange.conversation = number
        feed = await self._streams.find(StreamName(scope.place, dialect, number))
        if feed is None:
            await self._access.load(scope, conversation, Span(limit=0))
        elif scope.user_id not in (None, feed.user):
            raise GatewayError(
                ErrorCode.CONVERSATION_NOT_FOUND, "no such conversation with this user"
            )
        return feed


def _user(call: Call, caller: Caller) -> str | None:
    """Whose chat of this name is meant. Raises `GatewayError`: `FORBIDDEN`, `INVALID_BODY`."""
    assert call.dialect.resuming is not None
    named = call.dialect.resuming.user
    said = named(call.request.headers) if named is not None else None
    if caller.user is None:
        return said
    check_speaks_for(caller, said or caller.user)
    return caller.user


def _last_seen(request: web.Request) -> str | None:
    """The last event that the client has seen; None if it says nothing of that."""
    return request.headers.get(HEADER) or request.query.get(PARAMETER) or None


def _position(feed: Feed, seen: str | None) -> int | None:
    """The number of the frame to go on with; None if there is none, or if it is gone."""
    log = feed.log
    if seen is None:
        # Who has not read a turn that is over reads it as a part of the conversation.
        return 1 if log.first == 1 and not feed.over else None
    at = log.after(seen)
    return None if feed.over and at == log.next else at
