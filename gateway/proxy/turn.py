"""A turn whose answer has begun: sent to the client whole or as a stream, and kept."""

import time
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial

from aiohttp import web

from gateway.config.routes import Route, RouteTarget
from gateway.core.codec import Encoder
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Failure, Metadata, Usage
from gateway.core.turn import ChatRequest, Reply, Turn, merged
from gateway.dialects.drops import unsaid
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED, Answered
from gateway.observe.logs import Logger
from gateway.observe.metrics import Metrics
from gateway.proxy.call import Call
from gateway.proxy.dialogue import Dialogue
from gateway.proxy.document import whole
from gateway.proxy.downstream import ClientStalled, ClientStream, client_stream
from gateway.proxy.feed import Feed
from gateway.proxy.relay import Relay

FAILED = "the gateway failed to serve this turn"


class Answering:
    """One answer on its way."""

    def __init__(
        self,
        call: Call,
        dialogue: Dialogue,
        route: Route,
        ask: ChatRequest,
        relay: Relay,
        target: RouteTarget,
        *,
        keep_partial: bool,
    ) -> None:
        self._call = call
        self._dialogue = dialogue
        self._route = route
        self._ask = ask
        self._relay = relay
        self._target = target
        self._keep_partial = keep_partial
        self.committed = False
        """Whether it is kept, whole or as far as it came."""
        self._tried = False

    async def answer(
        self, metrics: Metrics, logger: Logger, feed: Feed | None
    ) -> web.StreamResponse:
        """The response; with a `feed`, a stream is sent by those who read from that. Raises
        `GatewayError` where nothing has been sent yet."""
        dialect, exchange = self._call.dialect, self._call.exchange
        if dialect.headers is not None:
            exchange.headers.update(dialect.headers(self._dialogue.turn, self._ask))
        if dialect.reply is not None and not self._ask.stream:
            reply = await self._commit(await self._relay.fold())
            exchange.in_hand = self._relay.ended
            return await whole_answer(self._call, self._ask, self._dialogue.turn, reply)
        if feed is not None:
            return await self._feed(feed, logger)
        encoder = dialect.encoder(self._dialogue.turn, self._ask)
        exchange.dropped = encoder.dropped
        stream = client_stream(self._call)
        metrics.stream_opened(exchange)
        try:
            await self._stream(stream, encoder, logger)
        finally:
            exchange.sent, exchange.written = stream.opened, stream.size
            stream.close()
            metrics.stream_closed(exchange)
        return stream.response

    async def _stream(self, stream: ClientStream, encoder: Encoder, logger: Logger) -> None:
        """Nothing is raised from here on but cancellation: the status is out."""
        exchange = self._call.exchange
        try:
            await stream.open(partial(self._relay.begin, encoder, stream))
            last = await self._end(encoder)
            await stream.finish(last)
        except ClientStalled:
            exchange.outcome = CLIENT_STALLED
            stream.abort()
        except ConnectionError:
            exchange.outcome = CLIENT_GONE
            stream.abort()
        except Exception:
            exchange.outcome = ErrorCode.INTERNAL
            logger.exception("internal_error", request_id=exchange.request_id)
            await _apologize(stream, encoder)

    async def _feed(self, feed: Feed, logger: Logger) -> web.StreamResponse:
        """The same for clients that come and go."""
        exchange, encoder = self._call.exchange, feed.encoder
        assert encoder is not None
        exchange.dropped = encoder.dropped
        exchange.headers.update(feed.headers)
        stream = feed.open(client_stream(self._call))
        try:
            if feed.deserted:
                self._relay.discard()
            elif first := self._relay.begin(encoder, feed):
                feed.write(first)
            feed.end(await self._end(encoder))
        except Exception:
            exchange.failed(ErrorCode.INTERNAL)
            logger.exception("internal_error", request_id=exchange.request_id)
            feed.fail(ErrorCode.INTERNAL, FAILED)
        return stream.response

    async def _end(self, encoder: Encoder) -> bytes:
        """Wait for the end of the stream; the frames that end it. The turn is committed or given up
        first, so that a client that has seen them can always go on."""
        terminal = await self._relay.pour()
        if isinstance(terminal, Failure):
            self._call.exchange.failed(terminal.code)
            await self.break_off()
            return encoder.encode(terminal)
        try:
            reply = await self._commit(self._relay.reply.folded())
        except GatewayError as exc:
            self._call.exchange.failed(exc.code)
            return encoder.encode(Failure(exc.code, exc.message))
        return encoder.encode(reply.metadata) + encoder.encode(terminal)

    async def _commit(self, reply: Reply) -> Reply:
        """Keep a finished turn; the reply with the usage that the agent's config adds."""
        cost, usage = self._route.credits_per_turn, reply.metadata.usage
        if cost is not None and (usage is None or usage.credits is None):
            reply.metadata = merged(reply.metadata, Metadata(usage=Usage(credits=cost)))
        self._tried = True
        await self._dialogue.commit(reply, self._target, self._ask.model)
        self.committed = True
        return reply

    async def break_off(self) -> None:
        """Keep what there is of a turn that was not kept, if that is wanted, and let go of the
        conversation."""
        reply = self._relay.reply.folded()
        if self._keep_partial and not self._tried and reply.parts and not self._dialogue.replaces:
            reply.finish = None
            self._tried = True
            with suppress(GatewayError):  # the store's failure is noted where it happened
                await self._dialogue.commit(reply, self._target, self._ask.model)
                self.committed = True
        await self._dialogue.abandon()

    def record(self) -> None:
        """Note what the upstream did."""
        exchange, relay = self._call.exchange, self._relay
        exchange.events = relay.events
        exchange.usage = relay.reply.metadata.usage
        times = relay.times
        if relay.first_content is None or times is None:
            return
        exchange.first_event = relay.first_content - exchange.started
        asked = self._target
        exchange.answered = Answered(asked.kind.family, asked.target.model or "", *times)
        if exchange.in_hand is None:
            exchange.in_hand = relay.first_content


def whole_answer(
    call: Call, ask: ChatRequest, turn: Turn, reply: Reply
) -> Coroutine[object, object, web.StreamResponse]:
    """To be awaited: the response to a client that asked for no stream."""
    dialect, exchange = call.dialect, call.exchange
    assert dialect.reply is not None
    exchange.dropped = unsaid(reply.parts, dialect.whole)
    body = dialect.reply(turn, ask, reply)
    exchange.sent = time.monotonic()
    return whole(call.request, exchange, body, call.snapshot.server.write_timeout)


async def _apologize(stream: ClientStream, encoder: Encoder) -> None:
    """A bug of ours in mid-stream: end as the dialect ends a failed turn."""
    try:
        await stream.finish(encoder.encode(Failure(ErrorCode.INTERNAL, FAILED)))
    except Exception:  # the client's side is broken as well
        stream.abort()
