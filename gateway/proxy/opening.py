"""One turn put to one target, up to the first content of its answer."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from collections.abc import Set as AbstractSet

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.routes import Route, RouteTarget
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Failure, Finish
from gateway.core.turn import Prompt
from gateway.observe.exchange import Exchange
from gateway.observe.metrics import Metrics
from gateway.observe.trace import Attempt
from gateway.proxy.answer import Answer
from gateway.proxy.asking import Refusal, ask, traced
from gateway.proxy.dialogue import PromptFor
from gateway.proxy.embedded import EmbeddedAnswer
from gateway.proxy.relay import Relay
from gateway.proxy.snapshot import Snapshot
from gateway.targets.lease import Lease
from gateway.upstreams.call_ids import distinct


class Opening(Struct, kw_only=True):
    """A turn that looks for a target to answer it."""

    snapshot: Snapshot
    route: Route
    prompt: PromptFor
    call_ids: AbstractSet[str]
    """Those taken by earlier tool calls."""
    affinity: Callable[[], str]
    """What turns of one conversation have in common: where targets have weights, it meets the same
    one again."""
    exchange: Exchange
    committed: bool = False
    """Whether the client's stream has begun: then it is this target or none."""


class Opened(Struct, frozen=True):
    """An answer whose first content is here, and who gives it."""

    relay: Relay
    target: RouteTarget
    lease: Lease
    attempt: Attempt

    def end(self) -> None:
        """The turn is over: the upstream's connection and the slot are given back, and the breaker
        hears of it."""
        self.relay.close()
        terminal = self.relay.terminal
        self.attempt.ended(self.relay.reply, terminal)
        if isinstance(terminal, Finish):
            self.lease.finished()
        elif isinstance(terminal, Failure):
            self.lease.failed(terminal.code)
        self.lease.end()

    def close(self) -> None:
        """Another target was faster."""
        self.relay.close()
        self.attempt.ended(self.relay.reply, None)
        self.lease.end()


async def open_at(opening: Opening, target: RouteTarget, metrics: Metrics) -> tuple[Relay, Attempt]:
    """Ask once; a target that has forgotten the conversation is told all of it, and asked again.
    Raises `GatewayError`."""
    prompt = await opening.prompt(target)
    try:
        return await _open(opening, target, prompt)
    except GatewayError as exc:
        if not _kept(opening) or exc.code is not ErrorCode.CONVERSATION_NOT_FOUND:
            raise
        metrics.upstream_failed(target.target.upstream, exc.code)
    return await _open(opening, target, replace(prompt, conversation_id=None, retry_of=None))


async def _open(opening: Opening, target: RouteTarget, prompt: Prompt) -> tuple[Relay, Attempt]:
    exchange, clocks = opening.exchange, target.clocks
    attempt = exchange.trace.attempt(
        target, prompt.model, exchange.conversation, stream=prompt.stream
    )
    started = asyncio.get_running_loop().time()
    relay = None
    try:
        answer: Answer
        if target.kind.script is not None:
            exchange.asks()
            answer = EmbeddedAnswer(target.kind.script(target.target, prompt))
        else:
            deadline = started + clocks.first_event
            answer = await _asked(opening, target, prompt, attempt, deadline)
        decoder = distinct(target.kind.decoder(target.target), opening.call_ids)
        relay = Relay(answer, decoder, clocks, started)
        await relay.opened()
    except BaseException as exc:
        if relay is not None:
            relay.close()
        attempt.failed(exc)
        raise
    attempt.answered()
    return relay, attempt


def _asked(
    opening: Opening, target: RouteTarget, prompt: Prompt, attempt: Attempt, deadline: float
) -> Coroutine[object, object, Answer]:
    """To be awaited: an answer with a 2xx head."""
    kind = target.kind
    assert kind.request is not None
    request = kind.request(target.target, prompt)
    if attempt.headers:
        request = traced(request, attempt.headers)
    opening.exchange.asks()
    return ask(
        opening.snapshot.clients[target.target.upstream],
        request,
        _refusal(opening, target, prompt),
        opening.exchange.request_id,
        deadline,
        target.clocks.connect,
    )


def _refusal(opening: Opening, target: RouteTarget, prompt: Prompt) -> Refusal:
    """What an error of the upstream means."""
    said = target.kind.error
    assert said is not None
    if not _kept(opening) or prompt.conversation_id is None:
        return said

    def refusal(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        error = said(status, headers, body)
        if status == 404:
            error.code = ErrorCode.CONVERSATION_NOT_FOUND
        return error

    return refusal


def _kept(opening: Opening) -> bool:
    """Whether the gateway keeps the conversation, and so could tell all of it."""
    return opening.route.passthrough is None
