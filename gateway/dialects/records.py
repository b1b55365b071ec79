"""Conversations that are kept, as Bookbag v2 and Chatbase speak of them.

Bookbag's pages leave some shapes open; these are those of Chatbase, whose API it follows. Times are
Unix seconds.
"""

from collections.abc import Mapping

from gateway.core.codec import Around, Records
from gateway.core.conversation import Conversation, Feedback, Role, StoredMessage, message_name
from gateway.core.events import FinishReason, Json
from gateway.core.turn import ChatRequest, ToolAnswer
from gateway.dialects.bookbag import usage
from gateway.dialects.fields import fields
from gateway.dialects.parts import written
from gateway.wire import json

# Of a tool's result, as JSON: Chatbase's limit.
MAX_OUTPUT = 20 << 10

_ACCEPTED = json.dumps({"data": {"success": True}})


def records(reasons: Mapping[FinishReason, str]) -> Records:
    """The words of a dialect that calls the finish reasons so."""

    def message(stored: StoredMessage) -> bytes:
        return json.dumps({**_message(stored), "metadata": _metadata(stored, reasons)})

    return Records(
        retry=_retry,
        tool_result=_tool_result,
        feedback=_feedback,
        accepted=_ACCEPTED,
        rated=lambda stored: json.dumps({"data": _message(stored)}),
        message=message,
        conversation=lambda found: json.dumps(_conversation(found)),
        whole=_whole,
        page=_page,
    )


def _retry(body: Json, agent: str, conversation: str) -> ChatRequest:
    read = fields(body)
    request = ChatRequest(
        agent=agent,
        message=None,
        stream=read.flag("stream", default=True),
        conversation_id=conversation,
        retry_of=read.identifier("messageId"),
    )
    read.check()
    return request


def _tool_result(body: Json) -> ToolAnswer:
    read = fields(body)
    given = ToolAnswer(read.identifier("toolCallId"), read.payload("output", largest=MAX_OUTPUT))
    read.check()
    return given


def _feedback(body: Json) -> Feedback | None:
    read = fields(body)
    word = read.one_of("feedback", (*Feedback, None))
    read.check()
    return Feedback(word) if word is not None else None


def _message(stored: StoredMessage) -> dict[str, Json]:
    return {
        "id": message_name(stored.id),
        "role": stored.role,
        "parts": written(stored.parts),
        "createdAt": stored.created // 1000,
        "feedback": stored.feedback,
    }


def _metadata(stored: StoredMessage, reasons: Mapping[FinishReason, str]) -> dict[str, Json]:
    """Of an answer: how it ended, null where it broke off, and what it cost."""
    if stored.role is Role.USER:
        return {}
    known: dict[str, Json] = {"finishReason": reasons[stored.finish] if stored.finish else None}
    return {**known, "usage": usage(stored.usage)} if stored.usage else known


def _conversation(found: Conversation) -> dict[str, Json]:
    return {
        "id": str(found.id),
        "title": found.title,
        "createdAt": found.created // 1000,
        "updatedAt": found.updated // 1000,
        "userId": found.user_id,
        "status": found.status,
    }


def _whole(found: Conversation) -> Around:
    return json.dumps(_conversation(found))[:-1] + b',"messages":[', b"]}"


def _page(cursor: str | None, total: int) -> Around:
    pagination: Json = {"cursor": cursor, "hasMore": cursor is not None, "total": total}
    return b'{"data":', b',"pagination":' + json.dumps(pagination) + b"}"
