"""The results of client-side tools: a call of the last message waits for its result, until it
expires or the conversation goes on."""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from gateway.conversations.access import Access, Scope, changed, milliseconds
from gateway.conversations.store import Change, Span
from gateway.core.conversation import Conversation, Feedback, StoredMessage
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import FinishReason, ToolCall, ToolOutput
from gateway.core.turn import ToolAnswer


class Pending(Struct, kw_only=True):
    """A tool's result that is being taken."""

    conversation: Conversation
    message: StoredMessage
    """That called the tool."""
    call: ToolCall
    result: ToolOutput
    repeated: bool
    """It was taken before."""
    claims: list[int]


class ToolResults:
    """Takes results. `tool_call_ttl` is how long a call waits, in milliseconds."""

    def __init__(
        self,
        access: Access,
        *,
        tool_call_ttl: int,
        clock: Callable[[], int] = milliseconds,
    ) -> None:
        self._access = access
        self._ttl = tool_call_ttl
        self._clock = clock

    async def pending(self, scope: Scope, conversation_id: str, given: ToolAnswer) -> Pending:
        """The call of the conversation's last message that this is the result of; then `settle` or
        `abandon` it. The same result may be given twice. Raises `GatewayError`:
        CONVERSATION_NOT_FOUND, CONVERSATION_BUSY, TOOL_CALL_NOT_FOUND, also for one that has
        expired or has another result already."""
        claims: list[int] = []
        try:
            number = await self._access.claim(scope, conversation_id, claims)
            conversation, messages = await self._access.load(scope, number, Span(limit=1))
            message, call = self._waiting(messages, given.call_id)
            result = ToolOutput(call.call_id, given.output)
            before = message.outputs.get(call.call_id)
            if before is not None and before != result:
                raise _no_call()
        except BaseException:
            await self._access.release(claims)
            raise
        return Pending(
            conversation=conversation,
            message=message,
            call=call,
            result=result,
            repeated=before is not None,
            claims=claims,
        )

    async def settle(self, pending: Pending) -> None:
        """Keep the result."""
        if pending.repeated:
            await self._access.release(pending.claims)
            return
        message, found = pending.message, pending.conversation
        parts, feedback = (*message.parts, pending.result), await self._feedback(pending)
        change = Change(
            conversation=changed(found, found.updated, found.length, found.upstream_ids),
            keep=message.position,
            messages=(replace(message, parts=parts, feedback=feedback),),
        )
        await self._access.save(change, pending.claims)

    async def _feedback(self, pending: Pending) -> Feedback | None:
        """The message's as it is now: it needs no claim, and an upstream may have been asked since
        the message was read."""
        found = pending.conversation
        now = await self._access.store.load(found.place, found.id, Span(limit=1))
        return next((said.feedback for said in now[1]), None) if now else None

    def _waiting(
        self, messages: tuple[StoredMessage, ...], call_id: str
    ) -> tuple[StoredMessage, ToolCall]:
        message = messages[-1] if messages else None
        call = message.calls.get(call_id) if message else None
        if (
            message is None
            or call is None
            or message.finish is not FinishReason.TOOL_CALLS
            or expired(message, self._ttl, self._clock())
        ):
            raise _no_call()
        return message, call

    async def abandon(self, pending: Pending) -> None:
        """Leave the call as it was; nothing if it was settled."""
        await self._access.release(pending.claims)


def expired(message: StoredMessage, ttl: int, now: int) -> bool:
    """Whether its calls wait no longer."""
    return now - message.created > ttl


def _no_call() -> GatewayError:
    return GatewayError(
        ErrorCode.TOOL_CALL_NOT_FOUND, "no such tool call waits for its result here"
    )
