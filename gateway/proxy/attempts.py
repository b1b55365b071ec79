"""Asking an agent's targets, in order, until one has begun to answer.

All of this is before the client's first byte: until a target's first content is in hand, any
failure that is not the request's own fault passes on to the next target. After it, nothing is
tried again.
"""

import asyncio
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from gateway.config.routes import Route, RouteTarget
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.turn import Prompt
from gateway.observe.exchange import Exchange
from gateway.observe.metrics import Metrics
from gateway.proxy.answer import Answer
from gateway.proxy.asking import Refusal, ask
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
            turn = _Turn(snapshot, target, call_ids, exchange.request_id, route.passthrough is None)
            try:
                return await self._at(turn, await prompt(target)), target
            except GatewayError as exc:
                self._metrics.upstream_failed(target.target.upstream, exc.code)
                failure = exc
                if exc.code in _OWN_FAULT:
                    break
        assert failure is not None, "the config gives every agent a target"
        raise failure

    async def _at(self, turn: "_Turn", prompt: Prompt) -> Relay:
        """At one target; one that has forgotten the conversation is told all of it."""
        try:
            return await _open(turn, prompt)
        except GatewayError as exc:
            if not turn.kept or exc.code is not ErrorCode.CONVERSATION_NOT_FOUND:
                raise
            self._metrics.upstream_failed(turn.target.target.upstream, exc.code)
        return await _open(turn, replace(prompt, conversation_id=None, retry_of=None))


@dataclass(frozen=True, slots=True)
class _Turn:
    """One turn at one target."""

    snapshot: Snapshot
    target: RouteTarget
    call_ids: AbstractSet[str]
    request_id: str
    kept: bool
    """Whether the gateway keeps the conversation, and so could tell all of it."""

    def refusal(self, prompt: Prompt) -> Refusal:
        """What an error of the upstream means."""
        said = self.target.kind.error
        assert said is not None
        if not self.kept or prompt.conversation_id is None:
            return said

        def refusal(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
            error = said(status, headers, body)
            if status == 404:
                error.code = ErrorCode.CONVERSATION_NOT_FOUND
            return error

        return refusal


async def _open(turn: _Turn, prompt: Prompt) -> Relay:
    target = turn.target
    started = asyncio.get_running_loop().time()
    timeouts = target.upstream.timeouts
    clocks = Clocks(timeouts.first_event, timeouts.idle, timeouts.total)
    answer = await _ask(turn, prompt, started + clocks.first_event)
    decoder = distinct(target.kind.decoder(target.target), turn.call_ids)
    relay = Relay(answer, decoder, clocks, started)
    try:
        await relay.opened()
    except BaseException:
        relay.close()
        raise
    return relay


async def _ask(turn: _Turn, prompt: Prompt, deadline: float) -> Answer:
    """An answer with a 2xx head."""
    target, kind = turn.target.target, turn.target.kind
    if kind.script is not None:
        return EmbeddedAnswer(kind.script(target, prompt))
    assert kind.request is not None
    request = kind.request(target, prompt)
    client = turn.snapshot.clients[target.upstream]
    return await ask(client, request, turn.refusal(prompt), turn.request_id, deadline)
