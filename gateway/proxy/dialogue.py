"""The conversation that a turn belongs to: kept by the gateway, or by the upstream."""

from collections.abc import Awaitable, Callable
from itertools import dropwhile
from typing import Protocol

from gateway.config.routes import Route, RouteTarget
from gateway.conversations.history import spoken, tokens, trimmed
from gateway.conversations.turns import Answer, Opened, Turns
from gateway.core.conversation import Role
from gateway.core.turn import ChatRequest, Message, Prompt, Reply, Turn


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
    def call_ids(self) -> frozenset[str]:
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

    async def commit(self, reply: Reply, target: RouteTarget, model: str | None) -> None:
        """Keep the turn. Raises `GatewayError`."""
        ...

    async def abandon(self) -> None:
        """Nothing, if it was kept."""
        ...


class Kept:
    """A conversation that the gateway keeps."""

    def __init__(self, turns: Turns, opened: Opened, route: Route) -> None:
        self.turn = opened.turn
        self._turns = turns
        self._opened = opened
        self._route = route

    def messages(self) -> tuple[Message, ...]:
        text = self._route.instructions
        instructions = [Message(Role.SYSTEM, text)] if text else []
        used = sum(map(tokens, instructions))
        # What was loaded may begin in the middle of a turn.
        whole = dropwhile(lambda said: said.role is not Role.USER, self._opened.messages)
        said = trimmed(spoken(whole), self._route.history, used)
        return (*instructions, *said)

    async def theirs(self, target: RouteTarget) -> tuple[str | None, str | None]:
        return self._theirs(target)

    def _theirs(self, target: RouteTarget) -> tuple[str | None, str | None]:
        known = self._opened.conversation.upstream_ids.get(state_key(target))
        retried = self._opened.retried
        if retried is None or known is None:
            return known, None
        if retried.upstream_conversation == known and retried.upstream_message:
            return known, retried.upstream_message
        return None, None  # it cannot be told which of its answers to replace

    @property
    def call_ids(self) -> frozenset[str]:
        return frozenset(call_id for said in self._opened.messages for call_id in said.calls)

    @property
    def affinity(self) -> str:
        return self.turn.conversation_id or ""

    @property
    def replaces(self) -> bool:
        return self._opened.retried is not None

    async def commit(self, reply: Reply, target: RouteTarget, model: str | None) -> None:
        answer = Answer(
            parts=tuple(reply.parts),
            finish=reply.finish,
            usage=reply.metadata.usage,
            model=reply.metadata.model or model or target.target.model,
            upstream=target.target.upstream,
            target=state_key(target),
            conversation=reply.metadata.conversation_id or self._theirs(target)[0],
            message=reply.metadata.message_id,
        )
        await self._turns.commit(self._opened, answer)

    async def abandon(self) -> None:
        await self._turns.abandon(self._opened)


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
        return (Message(Role.USER, text),) if text is not None else ()

    @property
    def affinity(self) -> str:
        return ""  # there is but one target

    async def theirs(self, target: RouteTarget) -> tuple[str | None, str | None]:
        return self._ask.conversation_id, self._ask.retry_of

    async def commit(self, reply: Reply, target: RouteTarget, model: str | None) -> None:
        pass

    async def abandon(self) -> None:
        pass


def state_key(target: RouteTarget) -> str:
    """Under which an upstream's own conversation id is kept: two agents of one upstream do not
    know each other's conversations."""
    return f"{target.target.upstream}/{target.target.agent or ''}"


PromptFor = Callable[[RouteTarget], Awaitable[Prompt]]


def prompts(dialogue: Dialogue, route: Route, ask: ChatRequest) -> PromptFor:
    """What each target is asked."""
    messages = dialogue.messages()

    async def prompt(target: RouteTarget) -> Prompt:
        conversation, retried = await dialogue.theirs(target)
        return Prompt(
            messages=messages,
            stream=ask.stream,
            tools=ask.tools or route.tools,
            model=ask.model,
            user_id=dialogue.turn.user_id,
            session_id=ask.session_id or dialogue.turn.conversation_id,
            params=ask.params,
            conversation_id=conversation,
            retry_of=retried,
        )

    return prompt
