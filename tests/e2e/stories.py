"""A few turns, told by every kind of upstream: each event in each protocol's own frames.

What clients must receive of them stands in `test_matrix`, and of some by hand in
`test_translation`.
"""

from collections.abc import Callable

from gateway.core.errors import ErrorCode
from gateway.core.events import (
    Citation,
    Citations,
    Event,
    Failure,
    Finish,
    FinishReason,
    Json,
    ReasoningDelta,
    TextDelta,
    ToolCall,
)
from gateway.wire import json

_STOP = Finish(FinishReason.STOP)
_SOURCE = Citation(url="https://acme.example/shipping", title="Shipping")
_FAILURE = Failure(ErrorCode.UPSTREAM_FAILED, "pod 7 burns, key sk-canary")

STORIES: dict[str, list[Event]] = {
    "text": [TextDelta("Your "), TextDelta("order"), _STOP],
    "unicode": [TextDelta("注文は\u2028"), TextDelta('👩‍🚀\u0085 "ü"\n'), _STOP],
    "tool": [
        ToolCall("call_1", "order_status", {"order": 7}),
        Finish(FinishReason.TOOL_CALLS),
    ],
    "citations": [TextDelta("Two days."), Citations([_SOURCE]), _STOP],
    "reasoning": [ReasoningDelta("Let me see."), TextDelta("Two days."), _STOP],
    "error": [_FAILURE],
    "late-error": [TextDelta("Your "), _FAILURE],
    "truncated": [TextDelta("Your ")],
}

Frame = tuple[str | None, Json]
"""The event's name, where there is one, and its data."""

_METADATA: dict[str, Json] = {
    "messageId": "msg_789",
    "userMessageId": "msg_788",
    "userId": "u1",
    "usage": {"credits": 2},
}


def _plain(*data: Json) -> list[Frame]:
    return [(None, value) for value in data]


def _halves(arguments: Json) -> tuple[str, str]:
    """A call's arguments as they come."""
    text = json.dumps(arguments).decode()
    return text[:4], text[4:]


# OpenAI


def _chunk(delta: Json, reason: str | None = None) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _openai(event: Event) -> list[Frame]:
    match event:
        case TextDelta(text):
            return _plain(_chunk({"content": text}))
        case ReasoningDelta(text):
            return _plain(_chunk({"reasoning_content": text}))
        case ToolCall(call_id, name, arguments):
            first: Json = {"name": name, "arguments": ""}
            begun: dict[str, Json] = {"index": 0, "id": call_id, "function": first}
            calls: list[dict[str, Json]] = [begun]
            calls += [{"index": 0, "function": {"arguments": h}} for h in _halves(arguments)]
            return _plain(*(_chunk({"tool_calls": [call]}) for call in calls))
        case Citations(items):
            return _plain(_chunk({"annotations": [_annotation(item) for item in items]}))
        case Finish(reason):
            usage: Json = {"prompt_tokens": 3, "completion_tokens": 2}
            last = _chunk({}, reason.value.replace("-", "_"))
            return _plain(last, {"choices": [], "usage": usage}, "[DONE]")
        case Failure(_, message):
            return _plain({"error": {"message": message, "type": "server_error"}})
        case _:
            raise AssertionError(event)


def _annotation(item: Citation) -> Json:
    return {"type": "url_citation", "url_citation": {"url": item.url, "title": item.title}}


# Bookbag


def _bookbag_v1(event: Event) -> list[Frame]:
    match event:
        case TextDelta(text):
            return [("token", {"text": text})]
        case Citations(items):
            return [("citations", {"citations": [_citation(item) for item in items]})]
        case Finish(reason):
            known: dict[str, Json] = {"conversationId": 456, "finishReason": reason.value}
            return [("done", {**_METADATA, **known})]
        case Failure(_, message):
            return [("error", {"code": "internal_error", "message": message})]
        case _:
            raise AssertionError(event)


def _bookbag_v2(event: Event) -> list[Frame]:
    match event:
        case TextDelta(text):
            return _plain({"type": "text-delta", "text": text})
        case Citations(items):
            cited: list[Json] = [_citation(item) for item in items]
            return _plain({"type": "citations", "citations": cited})
        case Finish(reason):
            known: Json = {**_METADATA, "conversationId": "456"}
            finish: dict[str, Json] = {"type": "finish", "finishReason": reason.value}
            return _plain({**finish, "metadata": known}, "[DONE]")
        case Failure(_, message):
            return _plain({"type": "error", "errorText": message}, "[DONE]")
        case _:
            return _plain(_part(event))


def _citation(item: Citation) -> dict[str, Json]:
    return {"url": item.url, "title": item.title}


def _part(event: Event) -> Json:
    """As Bookbag and Chatbase write the parts of a whole message."""
    match event:
        case TextDelta(text):
            return {"type": "text", "text": text}
        case ReasoningDelta(text):
            return {"type": "reasoning", "text": text}
        case ToolCall(call_id, name, arguments):
            called: dict[str, Json] = {"toolCallId": call_id, "toolName": name}
            return {"type": "tool-call", **called, "input": arguments}
        case Citations(items):
            return {"type": "citations", "citations": [_citation(item) for item in items]}
        case _:
            raise AssertionError(event)


# Chatbase's three forms, see the vendor's pages.


def _chatbase_a(event: Event) -> list[Frame]:
    match event:
        case TextDelta(text):
            return _plain({"type": "text-delta", "delta": text})
        case Finish(reason):
            known: Json = {"conversationId": "conv_1", "usage": {"credits": 2}}
            finish: Json = {"type": "finish", "finishReason": reason.value, "metadata": known}
            return _plain(finish, "[DONE]")
        case _:
            return _chatbase(event)


def _chatbase_b(event: Event) -> list[Frame]:
    match event:
        case TextDelta(text):
            frames: list[dict[str, Json]] = [
                {"type": "text-start", "id": "t1"},
                {"type": "text-delta", "id": "t1", "delta": text},
                {"type": "text-end", "id": "t1"},
            ]
        case Finish(reason):
            known = {**_METADATA, "conversationId": "conv_1"}
            finish: dict[str, Json] = {"type": "finish", "finishReason": reason.value}
            frames = [finish, {"type": "message-metadata", **known}]
        case _:
            frames = [json.mapping(data) for _, data in _chatbase(event)]
    return [(json.text(frame["type"]), frame) for frame in frames if frame]


def _chatbase_c(event: Event) -> list[Frame]:
    match event:
        case TextDelta(text):
            return _plain({"type": "text-delta", "id": "t1", "delta": text})
        case Finish(reason):
            known: Json = {
                **_METADATA,
                "conversationId": "conv_1",
                "finishReason": reason.value,
            }
            finish: dict[str, Json] = {"type": "finish", "finishReason": reason.value}
            return _plain({**finish, "messageMetadata": known}, "[DONE]")
        case _:
            return _chatbase(event)


def _chatbase(event: Event) -> list[Frame]:
    match event:
        case ReasoningDelta(text):
            return _plain({"type": "reasoning-delta", "id": "r1", "delta": text})
        case ToolCall(call_id, name, arguments):
            called: dict[str, Json] = {"toolCallId": call_id}
            return _plain(
                {"type": "tool-input-start", **called, "toolName": name},
                *(
                    {"type": "tool-input-delta", **called, "inputTextDelta": half}
                    for half in _halves(arguments)
                ),
                {"type": "tool-input-available", **called, "toolName": name, "input": arguments},
            )
        case Citations(items):
            return [(None, {"type": "source-url", "sourceId": "s1", **_citation(i)}) for i in items]
        case Failure(_, message):
            return _plain({"type": "error", "errorText": message})
        case _:
            raise AssertionError(event)


# Sonzai


def _sonzai(event: Event) -> list[Frame]:
    match event:
        case TextDelta(text):
            return _plain({"choices": [{"delta": {"content": text}, "index": 0}]})
        case ToolCall(call_id, name, arguments):
            made: Json = {"id": call_id, "name": name, "parameters": arguments}
            return _plain({"type": "side_effects", "data": {"externalToolCalls": [made]}})
        case Finish(reason):
            word = reason.value.replace("-", "_")
            last: Json = {"delta": {}, "finish_reason": word, "index": 0}
            usage: Json = {"promptTokens": 3, "completionTokens": 2, "totalTokens": 5}
            return _plain({"choices": [last], "usage": usage}, "[DONE]")
        case Failure(_, message):
            return _plain({"error": {"message": message}}, "[DONE]")
        case _:
            raise AssertionError(event)


# AgentsGT's three forms, which are the AI SDK's.


def _agentsgt(event: Event) -> list[Frame]:
    match event:
        case TextDelta(text):
            return _plain(
                {"type": "text-start", "id": "t1"},
                {"type": "text-delta", "id": "t1", "delta": text},
                {"type": "text-end", "id": "t1"},
            )
        case Finish(reason):
            known: Json = {"usage": {"inputTokens": 3, "outputTokens": 2}}
            finish: dict[str, Json] = {"type": "finish", "finishReason": reason.value}
            end: Json = {"type": "finish-step"}
            return _plain(end, {**finish, "messageMetadata": known}, "[DONE]")
        case _:
            return _chatbase(event)


def _agentsgt_data(event: Event) -> list[Frame]:
    """Lines, each with its code as the name."""
    match event:
        case TextDelta(text):
            return [("0", text)]
        case ReasoningDelta(text):
            return [("g", text)]
        case ToolCall(call_id, name, arguments):
            return [("9", {"toolCallId": call_id, "toolName": name, "args": arguments})]
        case Citations(items):
            source: dict[str, Json] = {"sourceType": "url", "id": "s1"}
            return [("h", {**source, **_citation(item)}) for item in items]
        case Finish(reason):
            known: Json = {
                "finishReason": reason.value,
                "usage": {"promptTokens": 3, "completionTokens": 2},
            }
            return [("e", known), ("d", known)]
        case Failure(_, message):
            return [("3", message)]
        case _:
            raise AssertionError(event)


def _agentsgt_text(event: Event) -> list[Frame]:
    """No frames: the end of the body is the end of the answer."""
    return [(None, event.text)] if isinstance(event, TextDelta) else []


FORMS: dict[str, Callable[[Event], list[Frame]]] = {
    "openai": _openai,
    "bookbag-v1": _bookbag_v1,
    "bookbag-v2": _bookbag_v2,
    "chatbase-a": _chatbase_a,
    "chatbase-b": _chatbase_b,
    "chatbase-c": _chatbase_c,
    "sonzai": _sonzai,
    "agentsgt": _agentsgt,
    "agentsgt-data": _agentsgt_data,
    "agentsgt-text": _agentsgt_text,
}

_BEGINNINGS: dict[str, list[Frame]] = {
    "chatbase-a": [(None, {"type": "start", "messageId": "m1"})],
    "chatbase-b": [("message-start", {"type": "message-start", "messageId": "m1"})],
    "chatbase-c": [(None, {"type": "start", "messageId": "m1"})],
    "sonzai": [(None, {"type": "context_ready", "build_duration_ms": 7})],
    "agentsgt": _plain({"type": "start", "messageId": "m1"}, {"type": "start-step"}),
    "agentsgt-data": [("f", {"messageId": "m1"})],
}

_V1 = "v1's frames are text, citations, the end and errors"
_SONZAI = "a chunk holds text, calls as side effects, the end and errors"
_TEXT = "a text without frames says nothing but itself"

UNTOLD: dict[tuple[str, str], str] = {
    ("bookbag-v1", "tool"): _V1,
    ("bookbag-v1", "reasoning"): _V1,
    ("sonzai", "citations"): _SONZAI,
    ("sonzai", "reasoning"): _SONZAI,
    ("agentsgt-text", "tool"): _TEXT,
    ("agentsgt-text", "citations"): _TEXT,
    ("agentsgt-text", "reasoning"): _TEXT,
    ("agentsgt-text", "error"): _TEXT,
    ("agentsgt-text", "late-error"): _TEXT,
}
"""The stories that a form has no words for, and why."""


def streamed(form: str, story: str) -> list[bytes]:
    """The story's events as the upstream streams them."""
    told = [frame for event in STORIES[story] for frame in FORMS[form](event)]
    write = _WRITERS.get(form, _written)
    return [write(*frame) for frame in _BEGINNINGS.get(form, []) + told]


def whole(form: str, story: str) -> Json:
    """The story as one JSON answer."""
    return _DOCUMENTS.get(form, _hosted_document)(STORIES[story])


def _written(name: str | None, data: Json) -> bytes:
    text = b"[DONE]" if data == "[DONE]" else json.dumps(data)
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + text + b"\n\n"


def _line(code: str | None, data: Json) -> bytes:
    return f"{code}:".encode() + json.dumps(data) + b"\n"


def _bare(_name: str | None, data: Json) -> bytes:
    return json.text(data).encode()


_WRITERS = {"agentsgt-data": _line, "agentsgt-text": _bare}


def _openai_document(events: list[Event]) -> Json:
    message: dict[str, Json] = {"role": "assistant", "content": None}
    reason = ""
    for event in events:
        match event:
            case TextDelta(text):
                message["content"] = json.text(message["content"]) + text
            case ReasoningDelta(text):
                message["reasoning_content"] = text
            case ToolCall(call_id, name, arguments):
                function: Json = {"name": name, "arguments": json.dumps(arguments).decode()}
                message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
            case Citations(items):
                message["annotations"] = [_annotation(item) for item in items]
            case Finish(why):
                reason = why.value.replace("-", "_")
            case Failure(_, words):
                return {"error": {"message": words}}
            case _:
                raise AssertionError(event)
    usage: Json = {"prompt_tokens": 3, "completion_tokens": 2}
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage}


def _hosted_document(events: list[Event]) -> Json:
    *said, last = events
    if isinstance(last, Failure):
        return {"error": {"code": "INTERNAL_SERVER_ERROR", "message": last.message}}
    assert isinstance(last, Finish)
    metadata: Json = {
        "userMessageId": "msg_788",
        "conversationId": "456",
        "finishReason": last.reason.value,
        "usage": {"credits": 2},
    }
    parts: list[Json] = [_part(event) for event in said]
    message: Json = {"id": "msg_789", "role": "assistant", "parts": parts, "metadata": metadata}
    return {"data": message}


def _agentsgt_document(events: list[Event]) -> Json:
    *said, last = events
    if isinstance(last, Failure):
        return {"error": last.message}
    text = "".join(event.text for event in said if isinstance(event, TextDelta))
    return {"success": True, "response": text}


_DOCUMENTS: dict[str, Callable[[list[Event]], Json]] = {
    "openai": _openai_document,
    "agentsgt": _agentsgt_document,
}
