"""What Bookbag v2 and Chatbase v2 have in common: one is the other's sibling.

Both keep conversations, take one message at a time at the same path, and give a whole answer as a
message of typed parts. Sources: both vendors' pages of `POST /agents/{agent}/chat`.
"""

import re
from collections.abc import Callable
from typing import ClassVar
from urllib.parse import quote, unquote

from gateway.core.codec import Target, UpstreamRequest
from gateway.core.errors import ErrorCode, GatewayError
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

# Printable ASCII but what ends a path or a query: percent signs are the client's own.
_IN_PATH = "/%!$&'()*+,;=:@-._~"
_IN_QUERY = _IN_PATH + "?"
_ENCODED_TWICE = "%25"  # no id has a percent sign

_USER_ID = re.compile(r"[a-zA-Z0-9._-]{1,128}", re.ASCII)

_FINISH_REASONS: dict[Json, FinishReason] = {reason.value: reason for reason in FinishReason}


# What the gateway itself says in a chat: a target's params cannot say it instead.
_OWN = frozenset({"message", "conversationId", "messageId", "stream"})


def chat(target: Target, prompt: Prompt, conversation: Json) -> UpstreamRequest:
    """The chat request; `conversation` is the upstream's own id, as it wants it written. To answer
    a message anew there is a request of its own."""
    body = {name: value for name, value in target.params.items() if name not in _OWN}
    body["stream"] = prompt.stream
    if prompt.retry_of is not None and prompt.conversation_id is not None:
        body["messageId"] = prompt.retry_of
        return _post(target, ("conversations", prompt.conversation_id, "retry"), body)
    if (message := folding.message(prompt)) is not None:
        body["message"] = message
    if conversation is not None:
        body["conversationId"] = conversation
    # One of another form, as Sonzai's clients may have, would have every message refused.
    if prompt.user_id is not None and _USER_ID.fullmatch(prompt.user_id):
        body["userId"] = prompt.user_id
    return _post(target, ("chat",), body)


def result(target: Target, conversation: str, call_id: str, output: Json) -> UpstreamRequest:
    """Hands in a tool's result, by the upstream's own ids."""
    body: dict[str, Json] = {"toolCallId": call_id, "output": output}
    return _post(target, ("conversations", conversation, "tool-result"), body)


def passage(target: Target, method: str, tail: str, body: bytes) -> UpstreamRequest:
    """A client's own request, with this target's agent in the place of the one it named. Raises
    `GatewayError(PATH_NOT_FOUND)` for a path that leads out of the agent."""
    path, mark, query = tail.removeprefix("/").partition("?")
    # Servers differ in whether they decode a path before they look for its dots, and those behind
    # a proxy may decode it once more.
    if _ENCODED_TWICE in path or _is_dotted(unquote(path)):
        raise GatewayError(ErrorCode.PATH_NOT_FOUND, "no such path")
    tail = quote(path, safe=_IN_PATH, errors="replace") + mark
    tail += quote(query, safe=_IN_QUERY, errors="replace")
    return UpstreamRequest(f"{_agent(target)}/{tail}", body, method)


def _post(target: Target, path: tuple[str, ...], body: Json) -> UpstreamRequest:
    """Each part of the path is one segment, whatever is in it. Raises
    `GatewayError(CONVERSATION_NOT_FOUND)` for what cannot be one."""
    if any(map(_is_dotted, path)):
        raise GatewayError(ErrorCode.CONVERSATION_NOT_FOUND, "no such conversation")
    segments = "/".join(quote(part, safe="", errors="replace") for part in path)
    return UpstreamRequest(f"{_agent(target)}/{segments}", json.dumps(body))


def _agent(target: Target) -> str:
    return f"/api/v2/agents/{quote(target.agent or '', safe='')}"


def _is_dotted(path: str) -> bool:
    """Whether a server may take it for a way up."""
    segments = path.replace("\\", "/").split("/")
    # Servlets look at a segment without what follows its semicolon.
    return any(segment.partition(";")[0] in (".", "..") for segment in segments)


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
