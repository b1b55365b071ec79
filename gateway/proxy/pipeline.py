"""One turn, read straight down: who asks, what, of whom; the upstream; the answer."""

import asyncio
from collections.abc import Callable

from aiohttp import hdrs, web

from gateway.config.model import Server
from gateway.config.routes import Route
from gateway.conversations.store import Opened, Store
from gateway.core.codec import Dialect, Encoder
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Failure, Json, Metadata, Usage
from gateway.core.turn import ChatRequest, Message, Prompt, Reply, Role
from gateway.limits.limiter import Limiter
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED, Exchange
from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics
from gateway.proxy.admission import Admission, authorized, check_user, network
from gateway.proxy.attempts import Attempts, state_key
from gateway.proxy.downstream import ClientStalled, ClientStream
from gateway.proxy.open_turns import OpenTurns
from gateway.proxy.relay import Relay
from gateway.proxy.snapshot import Snapshot
from gateway.wire import json


class Pipeline:
    """Serves chat requests in any dialect."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        limiter: Limiter,
        store: Store,
        metrics: Metrics,
        logger: Logger,
    ) -> None:
        self._snapshot = snapshot
        self._limiter = limiter
        self._admission = Admission(limiter)
        self._store = store
        self._attempts = Attempts(metrics)
        self.open_turns = OpenTurns()
        self._metrics = metrics
        self._logger = logger

    async def chat(
        self, request: web.Request, dialect: Dialect, agent: str | None, exchange: Exchange
    ) -> web.StreamResponse:
        """Answer one chat request; `agent` is the one that the path names, if it does.

        Raises `GatewayError` as long as nothing has been sent; from then on a failure is the
        dialect's own last frame.
        """
        snapshot = self._snapshot()
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        caller = None
        if authorization is not None or not dialect.public:
            caller = self._admission.by_key(snapshot, authorization, exchange)
        ask = dialect.decode(await _read(request, snapshot.server), agent)
        exchange.stream = ask.stream
        route = snapshot.routes.find(ask.agent, caller.owner.workspace if caller else None)
        exchange.agent = str(route.id)
        if caller is None:
            origin = request.headers.get(hdrs.ORIGIN)
            caller = self._admission.by_origin(
                snapshot, route, origin, network(request.remote or ""), exchange
            )
        ask = authorized(caller, route, ask, dialect)
        with (
            self.open_turns,
            self._limiter.slot(caller.subject, caller.tier.concurrency),
        ):
            opened = await self._store.begin(
                caller.owner, route.id, ask.conversation_id, ask.user_id
            )
            try:
                check_user(caller, route, ask, opened.turn, dialect)
                return await self._turn(request, dialect, snapshot, route, ask, opened, exchange)
            finally:
                await self._store.abandon(opened)

    async def _turn(
        self,
        request: web.Request,
        dialect: Dialect,
        snapshot: Snapshot,
        route: Route,
        ask: ChatRequest,
        opened: Opened,
        exchange: Exchange,
    ) -> web.StreamResponse:
        exchange.turn = True
        exchange.conversation = opened.turn.conversation_id
        question = Message(Role.USER, ask.message)
        prompt = _prompt(route, opened, ask, question)
        relay = await self._attempts.open(snapshot, route, prompt, opened, exchange)
        turn = _OpenTurn(self._store, route, opened, question, relay, exchange)
        self.open_turns.add(relay)
        try:
            if dialect.reply is not None and not ask.stream:
                reply = await turn.commit(await relay.fold())
                return web.Response(
                    body=dialect.reply(opened.turn, reply), content_type="application/json"
                )
            encoder = dialect.encoder(opened.turn)
            exchange.dropped = encoder.dropped
            stream = ClientStream(
                request,
                headers=exchange.headers,
                heartbeat=dialect.heartbeat,
                write_timeout=snapshot.server.write_timeout,
            )
            return await self._stream(stream, encoder, turn, exchange)
        finally:
            self.open_turns.discard(relay)
            relay.close()
            turn.record()
            if isinstance(relay.terminal, Failure):
                self._metrics.upstream_failed(exchange.upstream, relay.terminal.code)

    async def _stream(
        self, stream: ClientStream, encoder: Encoder, turn: "_OpenTurn", exchange: Exchange
    ) -> web.StreamResponse:
        """Nothing is raised from here on but cancellation: the status is out."""
        self._metrics.stream_opened(exchange)
        try:
            await stream.open(lambda: turn.relay.begin(encoder.encode, stream))
            last = await turn.end(encoder)
            await stream.finish(last)
        except ClientStalled:
            exchange.outcome = CLIENT_STALLED
            stream.abort()
        except ConnectionError:
            exchange.outcome = CLIENT_GONE
            stream.abort()
        except Exception:
            exchange.outcome = ErrorCode.INTERNAL
            self._logger.exception("internal_error", request_id=exchange.request_id)
            await _apologize(stream, encoder)
        finally:
            stream.close()
            self._metrics.stream_closed(exchange)
        return stream.response


class _OpenTurn:
    """A turn whose answer has begun."""

    def __init__(
        self,
        store: Store,
        route: Route,
        opened: Opened,
        question: Message,
        relay: Relay,
        exchange: Exchange,
    ) -> None:
        self.relay = relay
        self._store = store
        self._route = route
        self._opened = opened
        self._question = question
        self._exchange = exchange

    async def end(self, encoder: Encoder) -> bytes:
        """Wait for the end of the stream; the frames that end it. The turn is committed first, so
        that a client that has seen them can always go on."""
        terminal = await self.relay.pour()
        if isinstance(terminal, Failure):
            self._exchange.outcome = terminal.code
            return encoder.encode(terminal)
        try:
            reply = await self.commit(self.relay.reply.folded())
        except GatewayError as exc:
            self._exchange.outcome = exc.code
            return encoder.encode(Failure(exc.code, exc.message))
        return encoder.encode(reply.metadata) + encoder.encode(terminal)

    async def commit(self, reply: Reply) -> Reply:
        """Record a finished turn; the reply with the usage that the agent's config adds."""
        usage = reply.metadata.usage or Usage()
        if usage.credits is None and self._route.credits_per_turn is not None:
            usage = usage.updated(Usage(credits=self._route.credits_per_turn))
            reply.metadata = _with_usage(reply.metadata, usage)
        await self._store.commit(
            self._opened,
            self._question,
            [Message(Role.ASSISTANT, reply.text, tuple(reply.tool_calls))],
            self._target_key(),
            reply.metadata.conversation_id,
        )
        return reply

    def record(self) -> None:
        """What the upstream did, for metrics and the log."""
        exchange, relay = self._exchange, self.relay
        exchange.events = relay.events
        exchange.usage = relay.reply.metadata.usage
        if relay.first_content is not None:
            exchange.first_event = relay.first_content - exchange.started

    def _target_key(self) -> str:
        target = self._route.targets[self._exchange.attempts - 1]
        return state_key(target)


def _with_usage(metadata: Metadata, usage: Usage) -> Metadata:
    return Metadata(conversation_id=metadata.conversation_id, model=metadata.model, usage=usage)


async def _apologize(stream: ClientStream, encoder: Encoder) -> None:
    """A bug of ours in mid-stream: end as the dialect ends a failed turn."""
    try:
        await stream.finish(
            encoder.encode(Failure(ErrorCode.INTERNAL, "the gateway failed to serve this turn"))
        )
    except Exception:  # the client's side is broken as well
        stream.abort()


def _prompt(route: Route, opened: Opened, ask: ChatRequest, question: Message) -> Prompt:
    instructions = (Message(Role.SYSTEM, route.instructions),) if route.instructions else ()
    return Prompt(
        messages=(*instructions, *opened.history, question),
        stream=ask.stream,
        tools=route.tools,
        model=ask.model,
        user_id=opened.turn.user_id,
    )


def _too_large(server: Server) -> GatewayError:
    return GatewayError(
        ErrorCode.BODY_TOO_LARGE, f"the request body may have at most {server.max_body} bytes"
    )


async def _read(request: web.Request, server: Server) -> Json:
    """The request's JSON body. Raises `GatewayError`: `UNSUPPORTED_MEDIA_TYPE`, `BODY_TOO_LARGE`
    (without reading on), `INVALID_JSON`, `INVALID_BODY`."""
    if hdrs.CONTENT_TYPE in request.headers and request.content_type != "application/json":
        raise GatewayError(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the request as Content-Type: application/json"
        )
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise GatewayError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body uncompressed")
    if (request.content_length or 0) > server.max_body:
        raise _too_large(server)
    try:
        # Nearly every body has come with its head: only what is still to come needs a clock.
        if request.content.is_eof():
            body = await request.read()
        else:
            async with asyncio.timeout(server.body_timeout):
                body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(server) from None
    except TimeoutError:
        raise GatewayError(
            ErrorCode.INVALID_BODY, "the request body did not arrive in time"
        ) from None
    except web.RequestPayloadError:
        raise GatewayError(ErrorCode.INVALID_BODY, "the request body cannot be read") from None
    try:
        return json.loads(body)
    except json.InvalidJson:
        raise GatewayError(ErrorCode.INVALID_JSON, "the request body is not valid JSON") from None
