"""One turn, read straight down: who asks, what, of whom; the upstream; the answer."""

import asyncio
from collections.abc import Callable, Coroutine

from aiohttp import hdrs, web

from gateway.config.routes import Route
from gateway.conversations.repeats import Asked, Repeated
from gateway.conversations.threads import Threads
from gateway.conversations.turns import Turns
from gateway.core.codec import Dialect
from gateway.core.events import Failure
from gateway.core.turn import ChatRequest
from gateway.limits.limiter import Limiter
from gateway.observe.exchange import Exchange
from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics
from gateway.proxy.admission import Admission, Caller, authorized, check_user, scope_of
from gateway.proxy.attempts import Attempts
from gateway.proxy.call import Call, parsed, read
from gateway.proxy.detached import Detached, detaches
from gateway.proxy.dialogue import Dialogue, Kept, Passed, prompts
from gateway.proxy.open_turns import OpenTurn, OpenTurns
from gateway.proxy.opening import Opening
from gateway.proxy.passing import check_turn
from gateway.proxy.repeat import again, asked
from gateway.proxy.snapshot import Snapshot
from gateway.proxy.streams import Streams
from gateway.proxy.told import told
from gateway.proxy.turn import Answering
from gateway.targets.states import States


class Pipeline:
    """Serves turns in any dialect."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        limiter: Limiter,
        states: States,
        turns: Turns,
        threads: Threads,
        streams: Streams,
        keep_partial: bool,
        metrics: Metrics,
        logger: Logger,
    ) -> None:
        self._snapshot = snapshot
        self._limiter = limiter
        self._admission = Admission(limiter)
        self._turns = turns
        self._threads = threads
        self._streams = streams
        self._keep_partial = keep_partial
        self._attempts = Attempts(states, metrics)
        self.open_turns = OpenTurns()
        self.detached: set[asyncio.Task[web.StreamResponse]] = set()
        """The turns that may go on without their clients."""
        self._metrics = metrics
        self._logger = logger

    async def chat(
        self, request: web.Request, dialect: Dialect, agent: str | None, exchange: Exchange
    ) -> web.StreamResponse:
        """Answer one chat request; `agent` is the one that the path names, if it does.

        Raises `GatewayError` as long as nothing has been sent; from then on a failure is the
        dialect's own last frame.
        """
        call = Call(request, dialect, exchange, self._snapshot())
        caller = None
        if hdrs.AUTHORIZATION in request.headers or not dialect.public:
            caller = self._admission.by_key(call)
        body = await read(call)
        ask = dialect.decode(parsed(body), agent, request.headers)
        turn = self._serve(call, caller, ask, body)
        del body  # a history may be long, and the answer slow
        return await turn

    async def retry(
        self,
        request: web.Request,
        dialect: Dialect,
        agent: str,
        conversation: str,
        exchange: Exchange,
    ) -> web.StreamResponse:
        """Answer a turn of a conversation anew, in the way of `chat`."""
        assert dialect.records is not None
        call = Call(request, dialect, exchange, self._snapshot())
        caller = self._admission.by_key(call)
        body = await read(call)
        ask = dialect.records.retry(parsed(body), agent, conversation)
        return await self._serve(call, caller, ask, body)

    def _serve(
        self, call: Call, caller: Caller | None, ask: ChatRequest, body: bytes
    ) -> Coroutine[object, object, web.StreamResponse]:
        """To be awaited."""
        call.exchange.stream = ask.stream
        route = call.snapshot.routes.find(ask.agent, caller.owner.workspace if caller else None)
        call.exchange.agent = str(route.id)
        if caller is None:
            caller = self._admission.by_origin(call, route)
        ask = authorized(caller, route, ask, call.dialect)
        if not detaches(call, route, ask):
            return self._held(call, caller, route, ask, body)
        detached = Detached(
            call,
            caller,
            route,
            streams=self._streams,
            tasks=self.detached,
            metrics=self._metrics,
            logger=self._logger,
        )
        return detached.serve(self._held(call, caller, route, ask, body, detached))

    async def _held(
        self,
        call: Call,
        caller: Caller,
        route: Route,
        ask: ChatRequest,
        body: bytes,
        detached: Detached | None = None,
    ) -> web.StreamResponse:
        """The turn, from the slots that it takes to their return."""
        call.exchange.limit = "concurrency"
        with (
            self.open_turns.turn() as open_turn,
            self._limiter.slot(caller.subject, caller.concurrency),
        ):
            begun = await self._begin(call, caller, route, ask, asked(call, caller, body))
            del body
            if isinstance(begun, Repeated):
                call.exchange.conversation = begun.turn.conversation_id or ""
                return await again(call, ask, begun)
            try:
                check_user(caller, route, ask, begun.turn, call.dialect)
                return await self._turn(call, route, ask, begun, open_turn, detached)
            finally:
                await begun.abandon()

    async def _begin(
        self, call: Call, caller: Caller, route: Route, ask: ChatRequest, asked: Asked | None
    ) -> Dialogue | Repeated:
        if route.passthrough is not None:
            check_turn(call.dialect, caller, route, ask)
            return Passed(ask)
        if call.dialect.stateless:
            return await told(call, scope_of(caller, route), route, ask, self._threads)
        scope, limit = scope_of(caller, route), route.history.max_messages
        begun = await self._turns.begin(scope, ask, limit=limit, asked=asked)
        return begun if isinstance(begun, Repeated) else Kept(self._turns, begun, route)

    async def _turn(
        self,
        call: Call,
        route: Route,
        ask: ChatRequest,
        dialogue: Dialogue,
        open_turn: OpenTurn,
        detached: Detached | None,
    ) -> web.StreamResponse:
        exchange = call.exchange
        exchange.turn = True
        exchange.conversation = dialogue.turn.conversation_id or ""
        opening = Opening(
            snapshot=call.snapshot,
            route=route,
            prompt=prompts(dialogue, route, ask),
            call_ids=dialogue.call_ids,
            affinity=lambda: dialogue.affinity,
            exchange=exchange,
        )
        if detached is not None:
            detached.begin(dialogue.turn, ask, opening)
        opened = await self._attempts.open(opening)
        del opening  # with what was asked, which may be long, as the answer may be slow
        relay, target = opened.relay, opened.target
        exchange.answering = relay
        turn = Answering(call, dialogue, route, ask, relay, target, keep_partial=self._keep_partial)
        open_turn.relay = relay
        feed = detached.answered(relay) if detached is not None else None
        try:
            return await turn.answer(self._metrics, self._logger, feed)
        finally:
            opened.end()
            if isinstance(relay.terminal, Failure):
                self._metrics.upstream_failed(exchange.upstream, relay.terminal.code)
            if not turn.committed:
                await turn.break_off()
            turn.record()
            exchange.answering = None  # the relay leads to the request, and that to its record
