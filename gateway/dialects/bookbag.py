"""What Bookbag's two versions have in common, and Chatbase with them."""

from math import ceil

from gateway.core.conversation import number_in
from gateway.core.errors import GatewayError
from gateway.core.events import Citation, FinishReason, Json, Metadata, Usage
from gateway.core.turn import Turn

FINISH_REASONS: dict[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.TOOL_CALLS: "tool-calls",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content-filter",
    FinishReason.OTHER: "stop",
}


def citation(item: Citation) -> dict[str, Json]:
    """`{"title","url","snippet"}`, without what is not known."""
    known = {"title": item.title, "url": item.url, "snippet": item.snippet}
    return {name: value for name, value in known.items() if value is not None}


def number(conversation: str | None) -> Json:
    """A conversation's id as v1 writes it: an integer, unless it is something else."""
    if conversation is None or number_in(conversation) is None:
        return conversation
    return int(conversation)


def own_ids(known: Metadata) -> dict[str, Json]:
    """The upstream's own ids and usage, those that it has named, in the order of v2's page."""
    ids: dict[str, Json] = {
        "userMessageId": known.user_message_id,
        "conversationId": known.conversation_id,
        "userId": known.user_id,
        "messageId": known.message_id,
        "usage": usage(known.usage) if known.usage else None,
    }
    return {name: value for name, value in ids.items() if value is not None}


def identity(turn: Turn, known: Metadata) -> dict[str, Json]:
    """The ids of a turn and its usage: ours, or the upstream's own where clients see those."""
    if turn.message_id is None:
        return own_ids(known)
    metadata: dict[str, Json] = {
        "userMessageId": turn.user_message_id or known.user_message_id,
        "conversationId": turn.conversation_id or known.conversation_id,
        "messageId": turn.message_id,
    }
    if turn.user_id is not None:
        metadata["userId"] = turn.user_id
    if known.usage is not None and (figures := usage(known.usage)):
        metadata["usage"] = figures
    return metadata


def usage(known: Usage) -> dict[str, Json]:
    """Tokens under their own names, credits under theirs; nothing that is not known."""
    figures: dict[str, Json] = {}
    if known.input_tokens is not None:
        figures["inputTokens"] = known.input_tokens
    if known.output_tokens is not None:
        figures["outputTokens"] = known.output_tokens
    if known.credits is not None:
        figures["credits"] = known.credits
    return figures


def complaint(error: GatewayError, code: str) -> dict[str, Json]:
    """`{"code","message","details"?}`. When to come back is said here too, for headers get lost on
    the way to whoever decides."""
    said: dict[str, Json] = {"code": code, "message": error.message}
    details: dict[str, Json] = {**(error.details or {})}
    if error.retry_after is not None:
        details["retryAfter"] = max(1, ceil(error.retry_after))  # as the header says it
    return {**said, "details": details} if details else said
