"""What Bookbag v2 and Chatbase v2 have in common: one is the other's sibling.

Both keep conversations, take one message at a time at the same path, and give a whole answer as a
message of typed parts. Sources: both vendors' pages of `POST /agents/{agent}/chat`.
"""

from collections.abc import Callable
from typing import ClassVar
from urllib.parse import quote

from gateway.core.codec import Target, UpstreamRequest
from gateway.core.errors import ErrorCode
from gateway.core.events import (
    Event,
    Extension,
    Failure,
    Finish,
    FinishReason,
    Json,
    Metadata,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)
from gateway.core.turn import Prompt
from gateway.upstreams import folding
from gateway.upstreams.refusals import failed, failure
from gateway.upstreams.sources import Sources
from gateway.upstreams.tool_calls import MAX_CALLS
from gateway.wire import json

_FINISH_REASONS: dict[Json, FinishReason] = {reason.value: reason for reason in FinishReason}


def request(target: Target, prompt: Prompt, conversation: Json) -> UpstreamRequest:
    """The chat request; `conversation` is the upstream's own id, as it wants it written."""
    body: dict[str, Json] = {
        **target.params,
        "message": folding.message(prompt),
        "stream": prompt.stream,
    }
    if conversation is not None:
        body["conversationId"] = conversation
    if prompt.user_id is not None:
        body["userId"] = prompt.user_id
    agent = quote(target.agent or "", safe="")
    return UpstreamRequest(f"/api/v2/agents/{agent}/chat", json.dumps(body))


class Parts:
    """The parts of one answer, by their type; one of another type is the vendor's extension."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self._sources = Sources()
        self._called: set[str] = set()

    def read(self, part: dict[str, Json]) -> list[Event]:
        """The events of one part."""
        kind = json.text(part.get("type"))
        if read := self._readers.get(kind):
            return read(self, part)
        return [extension(self._vendor, kind, part)] if kind else []

    def _text(self, part: dict[str, Json]) -> list[Event]:
        text = json.text(part.get("text"))
        return [TextDelta(text)] if text else []

    def _reasoning(self, part: dict[str, Json]) -> list[Event]:
        text = json.text(part.get("text"))
        return [ReasoningDelta(text)] if text else []

    def _tool_call(self, part: dict[str, Json]) -> list[Event]:
        call_id, name = json.identifier(part.get("toolCallId")), json.text(part.get("toolName"))
        if call_id is None or call_id in self._called or not name:
            return []
        if len(self._called) >= MAX_CALLS:
            return [failed(ErrorCode.UPSTREAM_OVERSIZED)]
        self._called.add(call_id)
        return [ToolCall(call_id, name, part.get("input", {}))]

    def _tool_result(self, part: dict[str, Json]) -> list[Event]:
        call_id = json.identifier(part.get("toolCallId"))
        return [ToolOutput(call_id, part.get("output"))] if call_id else []

    def _citations(self, part: dict[str, Json]) -> list[Event]:
        return self._sources.read(part.get("citations"))

    _readers: ClassVar[dict[str, Callable[["Parts", dict[str, Json]], list[Event]]]] = {
        "text": _text,
        "text-delta": _text,
        "reasoning": _reasoning,
        "tool-call": _tool_call,
        "tool-result": _tool_result,
        "citations": _citations,
    }


def answer(body: Json, parts: Parts) -> list[Event]:
    """A whole answer: `{"data": {...}}`, or its fields without the envelope."""
    outer = json.mapping(body)
    if outer.get("error"):
        return [failure(outer)]
    data = json.mapping(outer.get("data")) or outer
    known = metadata({"messageId": data.get("id"), **data, **json.mapping(data.get("metadata"))})
    if not known and "parts" not in data:
        return [failed(ErrorCode.UPSTREAM_MALFORMED)]
    said: list[Json] = [{"type": "text", "text": data.get("text")}, *json.array(data.get("parts"))]
    events = [event for part in said for event in parts.read(json.mapping(part))]
    return [*events, *known, finish(finish_reason(data))]


def metadata(said: dict[str, Json]) -> list[Event]:
    """A `Metadata` of what these fields say, if they say any."""
    figures = json.mapping(said.get("usage"))
    usage = Usage(
        json.count(figures.get("inputTokens")),
        json.count(figures.get("outputTokens")),
        json.amount(figures.get("credits")),
    )
    known = Metadata(
        conversation_id=json.identifier(said.get("conversationId")),
        message_id=json.identifier(said.get("messageId")),
        user_message_id=json.identifier(said.get("userMessageId")),
        user_id=json.identifier(said.get("userId")),
        usage=usage or None,
    )
    return [known] if known != Metadata() else []


def finish_reason(said: dict[str, Json]) -> Json:
    """Why the answer ended: beside its metadata, or in it."""
    inside = (json.mapping(said.get(key)) for key in ("metadata", "messageMetadata"))
    words = [said.get("finishReason"), *(known.get("finishReason") for known in inside)]
    return next((word for word in words if word), None)


def finish(reason: Json) -> Finish | Failure:
    """The end, by the upstream's word for it; a `Failure` where the word is "error"."""
    if reason == "error":
        return failed(ErrorCode.UPSTREAM_FAILED)
    return Finish(_FINISH_REASONS.get(json.text(reason), FinishReason.OTHER))


def extension(vendor: str, kind: str, said: dict[str, Json]) -> Extension:
    """What only this family says, whole but for its type, which is its name."""
    return Extension(vendor, kind, {key: said[key] for key in said if key != "type"})
