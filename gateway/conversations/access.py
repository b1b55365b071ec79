"""The way to a store: within what a caller may see, and one at a time."""

import os
import struct
import time
from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from gateway.conversations.store import Change, Conflict, Found, Span, Store
from gateway.core.conversation import (
    Conversation,
    Feedback,
    Place,
    Role,
    StoredMessage,
    message_number,
    number_in,
)
from gateway.core.errors import ErrorCode, GatewayError

# What is drawn at once, for so many ids: it is asking the kernel that takes time.
_BLOCK = struct.Struct("512Q")


def random_ids() -> Iterator[int]:
    """Ids that say nothing of each other: 1 to `MAX_ID`. A process that forks needs others in its
    child, or both go on with the same."""
    while True:
        for drawn in _BLOCK.unpack(os.urandom(_BLOCK.size)):
            if number := drawn >> 11:
                yield number


def milliseconds() -> int:
    """Now, as records have it."""
    return time.time_ns() // 1_000_000


class Scope(Struct, frozen=True):
    """What a caller may see: a place, or of it only one user's conversations."""

    place: Place
    user_id: str | None = None


class Access:
    """A store's conversations, as one caller may see and change them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def load(self, scope: Scope, conversation: str | int, span: Span) -> Found:
        """A conversation with some of its messages. Raises `GatewayError(CONVERSATION_NOT_FOUND)`,
        also for one that is somewhere else."""
        number = number_in(conversation) if isinstance(conversation, str) else conversation
        found = await self.store.load(scope.place, number, span) if number else None
        if found is None or scope.user_id not in (None, found[0].user_id):
            raise _no_conversation()
        return found

    async def mark(
        self, scope: Scope, conversation: str, message: str, feedback: Feedback | None
    ) -> StoredMessage:
        """Set or clear the feedback on an assistant's message; the message as it is now. Raises
        `GatewayError`: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND, MESSAGE_NOT_ASSISTANT."""
        number = message_number(message)
        found, messages = await self.load(scope, conversation, Span(limit=1, upto=number or 0))
        if not messages:
            raise GatewayError(ErrorCode.MESSAGE_NOT_FOUND, "this conversation has no such message")
        if messages[0].role is not Role.ASSISTANT:
            raise GatewayError(
                ErrorCode.MESSAGE_NOT_ASSISTANT, "only an assistant's message takes feedback"
            )
        await self.store.mark(found.id, messages[0].id, feedback)
        return replace(messages[0], feedback=feedback)

    async def claim(self, scope: Scope, conversation: str, claims: list[int]) -> int:
        """Have a conversation to oneself: its id is added to the claims that are held. Raises
        `GatewayError`: CONVERSATION_BUSY, or CONVERSATION_NOT_FOUND."""
        number = number_in(conversation)
        if number is None:
            raise _no_conversation()
        if not await self.store.claim(number):
            await self.load(scope, number, Span(limit=0))  # whose it is must not be told by a 409
            raise GatewayError(
                ErrorCode.CONVERSATION_BUSY,
                "another turn of this conversation is running: wait for it to end",
            )
        claims.append(number)
        return number

    async def release(self, claims: list[int]) -> None:
        """Give all of them back, also if the caller is cancelled meanwhile."""
        try:
            while claims:
                await self.store.release(claims.pop())
        finally:
            if claims:
                await self.release(claims)

    async def save(self, change: Change, claims: list[int]) -> None:
        """Write, and give the claims back in any case. Raises `GatewayError(CONVERSATION_BUSY)` if
        the conversation was changed from outside."""
        held = tuple(claims)
        claims.clear()
        try:
            await self.store.save(change, held)
        except Conflict:
            raise GatewayError(
                ErrorCode.CONVERSATION_BUSY,
                "the conversation was changed meanwhile, so this was not kept: try again",
            ) from None


def changed(
    found: Conversation, updated: int, length: int, upstream_ids: Mapping[str, str]
) -> Conversation:
    """The row after one more change."""
    return replace(
        found,
        updated=updated,
        length=length,
        version=found.version + 1,
        upstream_ids=upstream_ids,
    )


def _no_conversation() -> GatewayError:
    return GatewayError(
        ErrorCode.CONVERSATION_NOT_FOUND,
        "no such conversation with this agent: leave out its id to begin a new one",
    )
