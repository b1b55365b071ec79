"""Asking an agent's targets, in order, until one has begun to answer.

All of this is before the client's first byte: until a target's first content is in hand, any
failure that is not the request's own fault passes on to the next target. After it, nothing is
tried again.
"""

import asyncio
from collections.abc import Set as AbstractSet

from gateway.config.routes import Route, RouteTarget
from gateway.core.codec import Decoder
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import Prompt
from gateway.observe.exchange import Exchange
from gateway.observe.metrics import Metrics
from gateway.proxy.answer import Answer
from gateway.proxy.asking import ask
from gateway.proxy.dialogue import PromptFor
from gateway.proxy.embedded import EmbeddedAnswer
from gateway.proxy.relay import Clocks, Relay
from gateway.proxy.snapshot import Snapshot
from gateway.upstreams.call_ids import distinct

# What the next target would say as well.
_OWN_FAULT = frozenset({ErrorCode.UPSTREAM_REJECTED})


class Attempts:
    """Opens one turn at one of an agent's targets."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def open(
        self,
        snapshot: Snapshot,
        route: Route,
        prompt: PromptFor,
        call_ids: AbstractSet[str],
        exchange: Exchange,
    ) -> tuple[Relay, RouteTarget]:
        """A relay whose first content is here, and the target that answers. `call_ids` are taken by
        earlier tool calls. Raises the last target's `GatewayError`."""
        failure: GatewayError | None = None
        for target in route.targets:
            exchange.upstream = target.target.upstream
            exchange.attempts += 1
            decoder = distinct(target.kind.decoder(target.target), call_ids)
            try:
                return await self._open(
                    snapshot, target, prompt(target), decoder, exchange.request_id
                ), target
            except GatewayError as exc:
                self._metrics.upstream_failed(target.target.upstream, exc.code)
                failure = exc
                if exc.code in _OWN_FAULT:
                    break
        assert failure is not None, "the config gives every agent a target"
        raise failure

    async def _open(
        self,
        snapshot: Snapshot,
        target: RouteTarget,
        prompt: Prompt,
        decoder: Decoder,
        request_id: str,
    ) -> Relay:
        started = asyncio.get_running_loop().time()
        timeouts = target.upstream.timeouts
        clocks = Clocks(timeouts.first_event, timeouts.idle, timeouts.total)
        answer = await self._ask(snapshot, target, prompt, request_id, started + clocks.first_event)
        relay = Relay(answer, decoder, clocks, started)
        try:
            await relay.opened()
        except BaseException:
            relay.close()
            raise
        return relay

    async def _ask(
        self,
        snapshot: Snapshot,
        target: RouteTarget,
        prompt: Prompt,
        request_id: str,
        deadline: float,
    ) -> Answer:
        """An answer with a 2xx head."""
        kind = target.kind
        if kind.script is not None:
            return EmbeddedAnswer(kind.script(target.target, prompt))
        assert kind.request is not None
        assert kind.error is not None
        request = kind.request(target.target, prompt)
        client = snapshot.clients[target.target.upstream]
        return await ask(client, request, kind.error, request_id, deadline)
