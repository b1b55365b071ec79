"""Turns over a store, with time standing still and ids that count."""

from collections.abc import Iterator
from itertools import count

from gateway.conversations.access import Access, Scope
from gateway.conversations.repeats import Asked, Repeated
from gateway.conversations.results import ToolResults
from gateway.conversations.store import Store
from gateway.conversations.turns import Answer, Opened, Turns
from gateway.core.conversation import Conversation, Part, StoredMessage
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import FinishReason, Json, TextDelta, ToolCall
from gateway.core.turn import ChatRequest, ToolAnswer
from tests.conversations.records import ACME, EVERYTHING, NOW

TOOL_CALL_TTL = 60_000
REPEAT_TTL = 600_000
ANYBODY = Scope(ACME)


class Desk:
    """What the pipeline has of the conversations, and its shortest ways through them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = NOW
        self.ids: Iterator[int] = count(1)
        self.access = Access(store)
        self.turns = Turns(
            self.access,
            tool_call_ttl=TOOL_CALL_TTL,
            repeat_ttl=REPEAT_TTL,
            mint=lambda: next(self.ids),
            clock=lambda: self.now,
        )
        self.results = ToolResults(self.access, tool_call_ttl=TOOL_CALL_TTL, clock=lambda: self.now)

    async def begin(
        self, ask: ChatRequest, scope: Scope = ANYBODY, asked: Asked | None = None
    ) -> Opened:
        opened = await self.turns.begin(scope, ask, limit=100, asked=asked)
        assert isinstance(opened, Opened)
        return opened

    async def say(self, ask: ChatRequest, *parts: Part, asked: Asked | None = None) -> Opened:
        """A whole turn."""
        opened = await self.begin(ask, asked=asked)
        await self.turns.commit(opened, answer(*parts))
        return opened

    async def repeat(self, ask: ChatRequest, asked: Asked) -> Repeated:
        """A request whose answer must be known already."""
        repeated = await self.turns.begin(ANYBODY, ask, limit=100, asked=asked)
        assert isinstance(repeated, Repeated)
        return repeated

    async def give(self, opened: Opened, call_id: str, output: Json = None) -> None:
        """The result of a tool call."""
        given = ToolAnswer(call_id, output)
        pending = await self.results.pending(ANYBODY, opened.turn.conversation_id or "", given)
        await self.results.settle(pending)

    async def kept(self, opened: Opened) -> tuple[StoredMessage, ...]:
        """The messages of the turn's conversation."""
        _, messages = await self.access.load(ANYBODY, opened.conversation.id, EVERYTHING)
        return messages

    async def row(self, opened: Opened) -> Conversation:
        found, _ = await self.access.load(ANYBODY, opened.conversation.id, EVERYTHING)
        return found

    async def texts(self, opened: Opened) -> list[str]:
        return [said.text for said in await self.kept(opened)]


def ask(
    message: str | None = "q",
    after: Opened | None = None,
    *,
    retry_of: str | None = None,
    user_id: str | None = None,
) -> ChatRequest:
    """A request of the conversation of an earlier turn, or of a new one."""
    return ChatRequest(
        agent="123",
        message=message,
        stream=True,
        conversation_id=after.turn.conversation_id if after else None,
        retry_of=retry_of,
        user_id=user_id,
    )


def retry(turn: Opened, of: Opened | None = None) -> ChatRequest:
    """A request to answer a turn anew."""
    return ask(None, turn, retry_of=(of or turn).turn.message_id)


def answer(
    *parts: Part,
    finish: FinishReason | None = FinishReason.STOP,
    upstream: str = "main",
    conversation: str | None = None,
) -> Answer:
    """What an upstream said; with a tool call at its end, it waits for the result."""
    if finish and parts and type(parts[-1]) is ToolCall:
        finish = FinishReason.TOOL_CALLS
    return Answer(
        parts=parts or (TextDelta("a"),),
        finish=finish,
        usage=None,
        model="m",
        upstream=upstream,
        target=f"{upstream}/",
        conversation=conversation,
        message=None,
    )


def code(error: BaseException) -> ErrorCode:
    assert isinstance(error, GatewayError)
    return error.code
