"""The conversation that a turn belongs to: kept by the gateway, or by the upstream."""

from collections.abc import Awaitable, Callable, Coroutine
from collections.abc import Set as AbstractSet
from itertools import dropwhile
from typing import Protocol

from gateway.config.routes import Route, RouteTarget
from gateway.conversations.history import fitting, spoken
from gateway.conversations.turns import Answer, Opened, Turns
from gateway.core.conversation import Role
from gateway.core.events import ToolCall
from gateway.core.turn import ChatRequest, Message, Prompt, Reply, Turn

# To find a member in its enumeration takes as long as a call.
_USER = Role.USER


class Dialogue(Protocol):
    """One turn's conversation."""

    @property
    def turn(self) -> Turn: ...

    def messages(self) -> tuple[Message, ...]:
        """What has been said, the newest of it that fits, the question included."""
        ...

    async def theirs(self, target: RouteTarget) -> tuple[str | None, str | None]:
        """What this target, which is asked next, calls the conversation, and the message that it is
        to answer anew."""
        ...

    @property
    def call_ids(self) -> AbstractSet[str]:
        """The tool calls that clients know from earlier turns."""
        ...

    @property
    def affinity(self) -> str:
        """What all turns of the conversation have in common."""
        ...

    @property
    def replaces(self) -> bool:
        """Whether an answer that is there already goes with the commit."""
        ...

    def commit(
        self, reply: Reply, target: RouteTarget, model: str | None
    ) -> Coroutine[object, object, None]:
        """To be awaited: keep the turn. Raises `GatewayError`."""
        ...

    def abandon(self) -> Coroutine[object, object, None]:
        """To be awaited: nothing, if it was kept."""
        ...


class Kept:
    """A conversation that the gateway keeps."""

    def __init__(self, turns: Turns, opened: Opened, route: Route) -> None:
        self.turn = opened.turn
        self._turns = turns
        self._opened = opened
        self._route = route

    def messages(self) -> tuple[Message, ...]:
        stored = self._opened.messages
        if stored[0].role is not _USER:  # what was loaded begins in the middle of a turn
            stored = tuple(dropwhile(lambda said: said.role is not _USER, stored))
        return fitting(self._route.system, spoken(stored), self._route.history)

    async def theirs(self, target: RouteTarget) -> tuple[str | None, str | None]:
        return self._theirs(target)

    def _theirs(self, target: RouteTarget) -> tuple[str | None, str | None]:
        known = self._opened.conversation.upstream_ids.get(target.state_key)
        retried = self._opened.retried
        if retried is None or known is None:
            return known, None
        if retried.upstream_conversation == known and retried.upstream_message:
            return known, retried.upstream_message
        return None, None  # it cannot be told which of its answers to replace

    @property
    def call_ids(self) -> AbstractSet[str]:
        found: set[str] = set()
        for said in self._opened.messages:
            for part in said.parts:
                if type(part) is ToolCall:
                    found.add(part.call_id)
        return found

    @property
    def affinity(self) -> str:
        return self.turn.conversation_id or ""

    @property
    def replaces(self) -> bool:
        return self._opened.retried is not None

    def commit(
        self, reply: Reply, target: RouteTarget, model: str | None
    ) -> Coroutine[object, object, None]:
        said, asked = reply.metadata, target.target
        answer = Answer(
            tuple(reply.parts),
            reply.finish,
            said.usage,
            model or asked.model or said.model,
            asked.upstream,
            target.state_key,
            said.conversation_id or self._theirs(target)[0],
            said.message_id,
        )
        return self._turns.commit(self._opened, answer)

    def abandon(self) -> Coroutine[object, object, None]:
        return self._turns.abandon(self._opened)


class Passed:
    """A conversation that the upstream keeps, and whose ids clients see as they are."""

    call_ids: frozenset[str] = frozenset()
    replaces = False

    def __init__(self, ask: ChatRequest) -> None:
        self.turn = Turn(
            conversation_id=None, user_message_id=None, message_id=None, user_id=ask.user_id
        )
        self._ask = ask

    def messages(self) -> tuple[Message, ...]:
        text = self._ask.message
        return (Message(_USER, text),) if text is not None else ()

    @property
    def affinity(self) -> str:
        return ""  # there is but one target

    async def theirs(self, target: RouteTarget) -> tuple[str | None, str | None]:
        return self._ask.conversation_id, self._ask.retry_of

    async def commit(self, reply: Reply, target: RouteTarget, model: str | None) -> None:
        pass

    async def abandon(self) -> None:
        pass


PromptFor = Callable[[RouteTarget], Awaitable[Prompt]]


def prompts(dialogue: Dialogue, route: Route, ask: ChatRequest) -> PromptFor:
    """What each target is asked."""
    messages, turn = dialogue.messages(), dialogue.turn

    async def prompt(target: RouteTarget) -> Prompt:
        conversation, retried = await dialogue.theirs(target)
        return Prompt(
            messages,
            ask.stream,
            ask.tools or route.tools,
            ask.model,
            turn.user_id,
            ask.session_id or turn.conversation_id,
            ask.params,
            conversation,
            retried,
        )

    return prompt
