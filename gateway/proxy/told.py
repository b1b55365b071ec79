"""A conversation that the client tells anew with every request."""

import time
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import takewhile

from gateway.config.routes import Route, RouteTarget
from gateway.conversations.access import Scope
from gateway.conversations.history import fitting
from gateway.conversations.threads import Thread, Threads
from gateway.core.conversation import Role, message_name
from gateway.core.errors import GatewayError
from gateway.core.events import Json
from gateway.core.turn import ChatRequest, Message, Reply, Turn
from gateway.proxy.call import Call
from gateway.proxy.handing import hand_over

HandOver = Callable[[RouteTarget, str, str, Json], Awaitable[None]]
"""Gives a tool's result to a target: by its own ids of the conversation and of the call."""


class Told:
    """Nothing of it is kept, but what hosted agents call it."""

    replaces = False

    def __init__(
        self,
        ask: ChatRequest,
        route: Route,
        mint: Callable[[], int],
        hosted: "Hosted | None" = None,
    ) -> None:
        self.turn = Turn(
            ask.session_id or str(mint()),
            message_name(mint()),
            message_name(mint()),
            ask.user_id,
            int(time.time()),
        )
        self._ask = ask
        self._route = route
        self._hosted = hosted

    def messages(self) -> tuple[Message, ...]:
        said = list(self._ask.history)
        if self._ask.message is not None:
            said.append(Message(Role.USER, self._ask.message))
        theirs = tuple(takewhile(_is_system, said))
        return fitting((*self._route.system, *theirs), said[len(theirs) :], self._route.history)

    async def theirs(self, target: RouteTarget) -> tuple[str | None, str | None]:
        return (await self._hosted.known(target) if self._hosted else None), None

    @property
    def call_ids(self) -> frozenset[str]:
        return frozenset(call.call_id for said in self._ask.history for call in said.tool_calls)

    @property
    def affinity(self) -> str:
        if self._hosted is not None:
            return self._hosted.affinity
        return self.turn.conversation_id or ""

    async def commit(self, reply: Reply, target: RouteTarget, model: str | None) -> None:
        if self._hosted is not None:
            await self._hosted.keep(reply, target)

    async def abandon(self) -> None:
        if self._hosted is not None:
            await self._hosted.end()


class Hosted:
    """What hosted agents know of the conversation. Of an answer its client tells the parts of the
    types that are `replayed`."""

    def __init__(
        self, threads: Threads, thread: Thread, replayed: AbstractSet[type], hand_over: HandOver
    ) -> None:
        self._threads = threads
        self._thread = thread
        self._replayed = replayed
        self._hand_over = hand_over
        self._asked: dict[str, str | None] = {}
        """The targets that know it, with what they call the conversation that they are to go on
        with; None where they are told everything after all."""
        self._over = False

    @property
    def affinity(self) -> str:
        """The same for all turns of what is one conversation to hosted agents."""
        return str(self._thread.conversation.id)

    async def known(self, target: RouteTarget) -> str | None:
        """What the target calls it; the results of its tools are there first. None where it is to
        be told everything: it does not know the conversation, does not take the results, or has
        been asked already and may have heard the question."""
        key = target.state_key
        known = self._thread.conversation.upstream_ids.get(key)
        if known is None:
            return None
        first = key not in self._asked
        self._asked[key] = None
        if not first or (self._thread.results and target.kind.result is None):
            return None
        try:
            for call_id, output in self._thread.results.items():
                await self._hand_over(target, known, call_id, output)
        except GatewayError:
            return None
        self._asked[key] = known
        return known

    async def keep(self, reply: Reply, target: RouteTarget) -> None:
        """Remember who answered, if it keeps the conversation; what is incomplete leads nowhere."""
        key = target.state_key
        conversation = reply.metadata.conversation_id or self._asked.get(key)
        if reply.finish is None or conversation is None or not target.kind.stateful:
            return
        self._over = True
        await self._threads.keep(self._thread, reply, self._replayed, (key, conversation))

    async def end(self) -> None:
        """The turn is over. An upstream that went on without us cannot be gone on with."""
        forgets, self._over = bool(self._asked) and not self._over, True
        if forgets:
            await self._threads.forget(self._thread)
        await self._threads.release(self._thread)


async def told(call: Call, scope: Scope, route: Route, ask: ChatRequest, threads: Threads) -> Told:
    """The conversation of a stateless client's request; the store is asked only where a target of
    the agent keeps conversations."""
    if not any(target.kind.stateful for target in route.targets):
        return Told(ask, route, threads.mint)
    thread = await threads.find(scope.place, ask)
    over = partial(_hand_over, call)
    hosted = Hosted(threads, thread, call.dialect.replayed, over)
    return Told(ask, route, threads.mint, hosted)


async def _hand_over(
    call: Call, target: RouteTarget, conversation: str, call_id: str, output: Json
) -> None:
    request_id, trace = call.exchange.request_id, call.exchange.trace
    await hand_over(call.snapshot, target, conversation, call_id, output, request_id, trace)


def _is_system(message: Message) -> bool:
    return message.role is Role.SYSTEM
