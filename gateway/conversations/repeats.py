"""Requests with an `Idempotency-Key`: one that was answered is answered again, not run again."""

from hashlib import sha256

from msgspec import Struct
from msgspec.structs import replace

from gateway.conversations.store import Answered, Store
from gateway.core.conversation import Conversation, Role, StoredMessage, message_name
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import FinishReason, ToolOutput
from gateway.core.turn import Turn

# Conversations claim their ids, which are below 2^53; keys claim what is above.
_NAMES = 1 << 53


class Asked(Struct, frozen=True, kw_only=True):
    """A request with a key. `subject` is whose; `fingerprint` tells one request from another."""

    subject: str
    key: str
    fingerprint: str

    @property
    def name(self) -> int:
        """What it claims while it runs: two keys meet once in 2^53."""
        digest = sha256(f"{self.subject}\0{self.key}".encode()).digest()
        return _NAMES + (int.from_bytes(digest[:7]) >> 3)

    def answered(self, conversation: int, message: int, expires: int) -> Answered:
        """The record of its answer."""
        return Answered(
            subject=self.subject,
            key=self.key,
            fingerprint=self.fingerprint,
            conversation=conversation,
            message=message,
            expires=expires,
        )


class Repeated(Struct, frozen=True):
    """The answer that the request was given before."""

    turn: Turn
    message: StoredMessage


async def answered(store: Store, asked: Asked, now: int) -> Answered | None:
    """What it was answered, if it was. Raises `GatewayError(INVALID_BODY)` if the key was used for
    another request."""
    known = await store.answered(asked.subject, asked.key, now)
    if known is not None and known.fingerprint != asked.fingerprint:
        raise GatewayError(
            ErrorCode.INVALID_BODY,
            "this Idempotency-Key belongs to another request: use a new one for each",
        )
    return known


def repeated(found: Conversation, messages: tuple[StoredMessage, ...]) -> Repeated:
    """The answer among a conversation's messages: it is the last of them. Raises
    `GatewayError(MESSAGE_NOT_FOUND)` if it is no longer there."""
    if not messages:
        raise GatewayError(
            ErrorCode.MESSAGE_NOT_FOUND,
            "the answer to this Idempotency-Key is no longer kept: use a new one",
        )
    question = next((said for said in reversed(messages) if said.role is Role.USER), None)
    turn = Turn(
        conversation_id=str(found.id),
        user_message_id=message_name(question.id) if question else None,
        message_id=message_name(messages[-1].id),
        user_id=found.user_id,
    )
    return Repeated(turn, _as_given(messages[-1]))


def _as_given(message: StoredMessage) -> StoredMessage:
    """Without the results of its calls, which were handed in since."""
    parts = message.parts
    while message.finish is FinishReason.TOOL_CALLS and parts and type(parts[-1]) is ToolOutput:
        parts = parts[:-1]
    return replace(message, parts=parts)
