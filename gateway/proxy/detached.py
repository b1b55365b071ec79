"""A turn that may go on without its client: it runs in a task of its own, and the request's handler
reads from it.

Which do: those of agents whose `on_disconnect` says so, streams that their clients may come back
to, and those that may begin before their upstream does (`open_after`). All others run in their
handler and end with it, at no cost.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from gateway.config.routes import Route
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import ChatRequest, Turn
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED, COMPLETE
from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics
from gateway.proxy.admission import Caller, scope_of
from gateway.proxy.call import Call
from gateway.proxy.downstream import ClientStalled, ClientStream, client_stream
from gateway.proxy.feed import Feed, Reader
from gateway.proxy.opening import Opening
from gateway.proxy.relay import Relay
from gateway.proxy.streams import StreamName, Streams
from gateway.proxy.turn import FAILED

HEADER = "X-Resumable"

CUT = "cut"
"""How a turn ended that went on for too long after its client had left."""


def detaches(call: Call, route: Route, ask: ChatRequest) -> bool:
    """Whether a turn may have to go on when its client leaves, or to wait while its client is told
    to."""
    if route.on_disconnect != "cancel" or resumes(call, route, ask):
        return True
    return ask.stream and route.open_after is not None


def resumes(call: Call, route: Route, ask: ChatRequest) -> bool:
    """Whether the client may come back to the stream: the agent's are kept, or the client asks."""
    dialect = call.dialect
    if dialect.resuming is None or route.passthrough is not None:
        return False
    if not ask.stream or (dialect.stateless and ask.session_id is None):
        return False
    return route.on_disconnect == "keep" or (asks(call) and call.snapshot.server.resume.on_request)


def asks(call: Call) -> bool:
    """Whether the client says that it may come back."""
    return call.request.headers.get(HEADER, "").lower() == "true"


class Detached:
    """One such turn. `tasks` holds its task while it runs."""

    def __init__(
        self,
        call: Call,
        caller: Caller,
        route: Route,
        *,
        streams: Streams,
        tasks: set[asyncio.Task[web.StreamResponse]],
        metrics: Metrics,
        logger: Logger,
    ) -> None:
        self.feed = Feed()
        self._relay: Relay | None = None
        self._call = call
        self._caller = caller
        self._route = route
        self._streams = streams
        self._tasks = tasks
        self._metrics = metrics
        self._logger = logger
        self._name: StreamName | None = None
        # No client of these protocols expects ids, and not every one bears them.
        self._reader = self.feed.join(1, ids=asks(call))
        self._served = self._left = False
        limits = {"cancel": 0.0, "drain": route.drain_max, "keep": None}
        self._limit = limits[route.on_disconnect]
        """How many seconds it may go on alone; None: to its end."""
        self._clock: asyncio.TimerHandle | None = None
        self._opener: asyncio.TimerHandle | None = None

    # The handler's side.

    async def serve(self, turn: Coroutine[Any, Any, web.StreamResponse]) -> web.StreamResponse:
        """Run the turn; the response to the client who asked. Raises `GatewayError` where nothing
        has been sent yet."""
        self._task = asyncio.create_task(self._run(turn))
        self._tasks.add(self._task)
        self._task.add_done_callback(self._done)
        self._call.exchange.ends = self._task
        try:
            waits: set[asyncio.Future[Any]] = {self._task, self.feed.opened}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not self.feed.opened.done():
                return await self._task
            assert self.feed.stream is not None
            return await follow(self._call, self._reader, self.feed.stream, self._metrics)
        finally:
            self._leave()

    def _leave(self) -> None:
        self.feed.leave(self._reader)
        self._served = True
        if self._task.done():
            self.feed.settle()
        if self._task.done() or self.feed.over:
            return
        self._left = True
        if self._opener is not None:
            self._opener.cancel()  # nobody is kept waiting: every target may still be asked
        if self._limit is not None:
            self._clock = asyncio.get_running_loop().call_later(self._limit, self._cut)
        if self._relay is not None and self.feed.deserted:
            self._relay.discard()

    def _cut(self) -> None:
        """It has had its time; an answer that is complete is kept all the same."""
        if self._relay is None or self._relay.terminal is None:
            self._task.cancel()

    # The turn's side.

    def begin(self, turn: Turn, ask: ChatRequest, opening: Opening) -> None:
        """It is known what the turn is called, and no upstream has been asked."""
        feed, call = self.feed, self._call
        feed.encoder, feed.user = call.dialect.encoder(turn, ask), turn.user_id
        feed.headers = call.dialect.headers(turn, ask) if call.dialect.headers else {}
        if resumes(call, self._route, ask):
            self._remember(turn, ask)
        if ask.stream and self._route.open_after is not None and not self._left:
            loop = asyncio.get_running_loop()
            self._opener = loop.call_later(self._route.open_after, self._open_early, opening)

    def _open_early(self, opening: Opening) -> None:
        """Proxies on the way would not bear the silence for much longer."""
        opening.committed = True
        self._call.exchange.headers.update(self.feed.headers)
        self.feed.open(client_stream(self._call))

    def _remember(self, turn: Turn, ask: ChatRequest) -> None:
        feed, call = self.feed, self._call
        assert turn.conversation_id is not None
        assert turn.message_id is not None
        own = turn.user_id if call.dialect.stateless else None
        place = scope_of(self._caller, self._route).place
        name = StreamName(place, call.dialect.name, turn.conversation_id, own)
        settings = call.snapshot.server.resume
        if not self._streams.keep(name, feed, settings):
            return
        self._name, self._limit = name, None
        feed.remember(turn.message_id, settings.max_log)
        feed.headers = {**feed.headers, **_headers(call, turn)}
        if self._clock is not None:
            self._clock.cancel()

    def answered(self, relay: Relay) -> Feed:
        """An upstream has begun to answer; where the answer goes."""
        self._relay = relay
        return self.feed

    async def _run(self, turn: Coroutine[Any, Any, web.StreamResponse]) -> web.StreamResponse:
        try:
            return await turn
        except GatewayError as exc:
            self._call.exchange.failed(exc.code)
            self.feed.fail(exc.code, exc.message)
            raise
        except asyncio.CancelledError:
            self.feed.fail(ErrorCode.RESTARTING, "the gateway is restarting, try again")
            raise
        except Exception:
            # Here, as the handler may not wait for it any more: it has left, or reads the feed.
            request_id = self._call.exchange.request_id
            self._logger.exception("internal_error", request_id=request_id)
            error = GatewayError(ErrorCode.INTERNAL, FAILED)
            self._call.exchange.failed(error.code)
            self.feed.fail(error.code, error.message)
            raise error from None

    def _done(self, task: asyncio.Task[web.StreamResponse]) -> None:
        self._tasks.discard(task)
        for timer in (self._clock, self._opener):
            if timer is not None:
                timer.cancel()
        if self._name is not None:
            self._streams.ended(self._name, self.feed, self._call.snapshot.server.resume)
        if not self.feed.over:
            self.feed.end(b"")  # whoever reads waits for nothing any more, whatever went wrong
        if self._served:
            self.feed.settle()
        _forget_why(task)
        exchange = self._call.exchange
        if self._left and exchange.turn:
            exchange.drained = CUT if task.cancelled() else exchange.failure or COMPLETE


def _forget_why(task: asyncio.Task[web.StreamResponse]) -> None:
    """Why it failed was noted where it happened. The task keeps what was raised, whose frames keep
    the turn and this task: a cycle for each turn that fails alone."""
    try:
        task.result()  # with `exception` it would keep the frames as well
    except BaseException as exc:
        exc.__traceback__ = None


async def follow(
    call: Call, reader: Reader, stream: ClientStream, metrics: Metrics
) -> web.StreamResponse:
    """One client's response, once it has been sent. Raises nothing but cancellation."""
    exchange = call.exchange
    metrics.stream_opened(exchange)
    try:
        await reader.follow(stream)
    except ClientStalled:
        exchange.outcome = CLIENT_STALLED
        stream.abort()
    except ConnectionError:
        exchange.outcome = CLIENT_GONE
        stream.abort()
    finally:
        exchange.sent, exchange.written = stream.opened, stream.size
        stream.close()
        metrics.stream_closed(exchange)
    return stream.response


def _headers(call: Call, turn: Turn) -> dict[str, str]:
    headers = {HEADER: "true"}
    if not call.dialect.stateless and turn.conversation_id is not None:
        # Of a new conversation, clients would read it only in the last frame.
        headers["X-Conversation-Id"] = turn.conversation_id
    return headers
