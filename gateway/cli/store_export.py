"""`oc-gateway store export`: conversations as lines of JSON, for evaluation.

The names are those of Bookbag's API where it has one, but nothing is left out for want of one.
"""

from collections.abc import Callable
from typing import BinaryIO

from msgspec import Struct

from gateway.conversations.store import Found, Span, Store, walk
from gateway.conversations.threads import is_thread
from gateway.core.conversation import (
    MAX_ID,
    Conversation,
    Feedback,
    Part,
    Role,
    StoredMessage,
    message_name,
)
from gateway.core.events import (
    Citations,
    Json,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
)
from gateway.wire import json

# All of a conversation's messages: read at once, they are of one moment.
_ALL = Span(limit=MAX_ID)


class Chosen(Struct, frozen=True, kw_only=True):
    """Which conversations; None and nothing for any."""

    agents: frozenset[int]
    workspace: str | None
    user: str | None
    feedback: Feedback | None
    since: int | None
    """Unix milliseconds."""

    def has(self, conversation: Conversation) -> bool:
        """Whether it may be one of them, for all that can be told without its messages."""
        place = conversation.place
        return (
            not is_thread(place)
            and (not self.agents or place.agent in self.agents)
            and self.workspace in (None, place.owner.workspace)
            and self.user in (None, conversation.user_id)
            and (self.since is None or conversation.updated >= self.since)
        )

    def has_all(self, found: Found) -> bool:
        conversation, messages = found
        return self.has(conversation) and (
            self.feedback is None or any(said.feedback is self.feedback for said in messages)
        )


async def export(store: Store, chosen: Chosen, sink: BinaryIO) -> None:
    """Write those that are chosen; at any time no more than one of them is in memory."""
    async for each in walk(store):
        found = await store.load(each.place, each.id, _ALL) if chosen.has(each) else None
        if found is not None and chosen.has_all(found):
            sink.write(_line(found))
            sink.flush()


def _line(found: Found) -> bytes:
    conversation, messages = found
    owner = conversation.place.owner
    record: dict[str, Json] = {
        "id": str(conversation.id),
        "workspace": owner.workspace,
        "origin": owner.origin,
        "agent": conversation.place.agent,
        "userId": conversation.user_id,
        "title": conversation.title,
        "status": conversation.status,
        "createdAt": _seconds(conversation.created),
        "updatedAt": _seconds(conversation.updated),
        "messages": list(map(_message, messages)),
    }
    return json.dumps(record) + b"\n"


def _message(said: StoredMessage) -> Json:
    record: dict[str, Json] = {
        "id": message_name(said.id),
        "role": said.role,
        "createdAt": _seconds(said.created),
        "parts": [_part(part) for part in said.parts],
    }
    return record if said.role is Role.USER else record | _answer(said)


def _answer(said: StoredMessage) -> dict[str, Json]:
    usage = said.usage
    return {
        "finishReason": said.finish,
        "usage": {
            "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens,
            "credits": usage.credits,
        }
        if usage
        else None,
        "model": said.model,
        "upstream": said.upstream,
        "feedback": said.feedback,
    }


def _part(part: Part) -> Json:
    return _PARTS[type(part)](part)


def _citations(part: Citations) -> Json:
    items: list[Json] = [
        {"title": item.title, "url": item.url, "snippet": item.snippet} for item in part.items
    ]
    return {"type": "citations", "citations": items}


_PARTS: dict[type, Callable[..., Json]] = {
    TextDelta: lambda part: {"type": "text", "text": part.text},
    ReasoningDelta: lambda part: {"type": "reasoning", "text": part.text},
    ToolCall: lambda part: {
        "type": "tool-call",
        "toolCallId": part.call_id,
        "toolName": part.name,
        "input": part.arguments,
    },
    ToolOutput: lambda part: {
        "type": "tool-result",
        "toolCallId": part.call_id,
        "output": part.output,
    },
    Citations: _citations,
}


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000
