"""The six protocols as clients speak them: how each asks, and what it was told."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.core.codec import Target
from gateway.core.events import (
    TERMINAL,
    Citations,
    Event,
    Finish,
    FinishReason,
    Json,
    Metadata,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from gateway.upstreams import UPSTREAMS
from gateway.wire import json
from tests.e2e.running import Answered, Running

USER = "u1"

_TOOL: dict[str, Json] = {
    "name": "order_status",
    "description": "Look an order up.",
    "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}},
}

Request = tuple[str, dict[str, Json]]
"""A path and a body."""


# Asking, by dialect: an agent, a message, and whether the answer is to be streamed.


def _bookbag_v1(agent: str, message: str, _stream: bool) -> Request:
    return "/api/v1/chat", {"agentId": agent, "message": message, "user_id": USER}


def _bookbag_v2(agent: str, message: str, stream: bool) -> Request:
    body: dict[str, Json] = {"message": message, "stream": stream, "userId": USER}
    return f"/api/v2/agents/{agent}/chat", body


def _chatbase(agent: str, message: str, stream: bool) -> Request:
    path, body = _bookbag_v2(agent, message, stream)
    return f"/chatbase{path}", body


def _openai(agent: str, message: str, stream: bool) -> Request:
    body: dict[str, Json] = {
        "model": agent,
        "messages": [{"role": "user", "content": message}],
        "tools": [{"type": "function", "function": _TOOL}],
        "user": USER,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return "/v1/chat/completions", body


def _agentsgt(agent: str, message: str, _stream: bool) -> Request:
    said: Json = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": message}]}
    return f"/agentsgt/api/v1/agents/chat/{agent}", {"messages": [said]}


def _sonzai(agent: str, message: str, _stream: bool) -> Request:
    body: dict[str, Json] = {"messages": [{"role": "user", "content": message}], "user_id": USER}
    return f"/sonzai/api/v1/agents/{agent}/chat", {**body, "tool_definitions": [_TOOL]}


ASK = {
    "bookbag-v1": _bookbag_v1,
    "bookbag-v2": _bookbag_v2,
    "chatbase": _chatbase,
    "openai": _openai,
    "agentsgt": _agentsgt,
    "sonzai": _sonzai,
}


# Handing a tool's result in, and asking for the answer: after a question and what was said to it.


async def _kept(
    gateway: Running, asked: Request, told: list[Event], call: ToolCall, output: Json
) -> Answered:
    """To who keeps the conversation, in a request of its own."""
    path, body = asked
    conversation = Said.of(told).conversation
    assert conversation is not None
    result: Json = {"toolCallId": call.call_id, "output": output}
    where = f"{path.removesuffix('chat')}conversations/{conversation}/tool-result"
    taken = await gateway.post(where, result)
    assert (taken.status, taken.json) == (200, {"data": {"success": True}})
    number = int(conversation) if path.startswith("/api") else conversation
    return await gateway.post(path, {"stream": body["stream"], "conversationId": number})


async def _by_openai(
    gateway: Running, asked: Request, _told: list[Event], call: ToolCall, output: Json
) -> Answered:
    path, body = asked
    function: Json = {"name": call.name, "arguments": json.dumps(call.arguments).decode()}
    made: Json = {"id": call.call_id, "type": "function", "function": function}
    result: Json = {"role": "tool", "tool_call_id": call.call_id, "content": json.text(output)}
    answer: Json = {"role": "assistant", "content": None, "tool_calls": [made]}
    messages = [*json.array(body["messages"]), answer, result]
    return await gateway.post(path, {**body, "messages": messages})


async def _by_use_chat(
    gateway: Running, asked: Request, _told: list[Event], call: ToolCall, output: Json
) -> Answered:
    path, body = asked
    part: Json = {
        "type": f"tool-{call.name}",
        "toolCallId": call.call_id,
        "state": "output-available",
        "input": call.arguments,
        "output": output,
    }
    answer: Json = {"id": "m2", "role": "assistant", "parts": [{"type": "step-start"}, part]}
    return await gateway.post(path, {"messages": [*json.array(body["messages"]), answer]})


HAND_IN = {
    "bookbag-v2": _kept,
    "chatbase": _kept,
    "openai": _by_openai,
    "agentsgt": _by_use_chat,
}


# What a client was told.


def read(dialect: str, body: bytes) -> list[Event]:
    """An answer in the dialect's words, streamed or whole."""
    decoder = UPSTREAMS[dialect].decoder(Target(upstream="client"))
    return [*decoder.feed(body), *decoder.eof()]


# How each writes what its clients look for, to the letter: `read` is liberal.

_SOURCE = b'{"title":"Shipping","url":"https://acme.example/shipping"}'
_UI_SOURCE = b'"url":"https://acme.example/shipping","title":"Shipping"}'
_CALL = b'"toolCallId":"call_1","toolName":"order_status","input":{"order":7}}'

_BOOKBAG: dict[str, bytes] = {
    "stop": b'"finishReason":"stop"',
    "tool-calls": b'"finishReason":"tool-calls"',
    "sources": _SOURCE,
    "calls": b'{"type":"tool-call",' + _CALL,
}
_UI_STREAM: dict[str, bytes] = {
    "stop": b'"finishReason":"stop"',
    "tool-calls": b'"finishReason":"tool-calls"',
    "other": b'"finishReason":"other"',
    "sources": _UI_SOURCE,
    "reasoning": b'{"type":"reasoning-delta","id":"reasoning-1","delta":"Let me see."}',
    "calls": b'data: {"type":"tool-input-available",' + _CALL,
}
_OPENAI: dict[str, bytes] = {
    "stop": b'"finish_reason":"stop"',
    "tool-calls": b'"finish_reason":"tool_calls"',
    "sources": b'{"type":"url_citation","url_citation":{"url":"https://acme.example/shipping",'
    b'"title":"Shipping",',
    "reasoning": b'"reasoning_content":"Let me see."',
    "calls": b'"id":"call_1","type":"function","function":{"name":"order_status","arguments":"',
}
SPELLED: dict[tuple[str, str], dict[str, bytes]] = {
    ("bookbag-v1", "stream"): _BOOKBAG,
    ("bookbag-v2", "stream"): _BOOKBAG,
    ("bookbag-v2", "whole"): _BOOKBAG,
    ("chatbase", "stream"): _UI_STREAM,
    ("chatbase", "whole"): {**_BOOKBAG, "other": _UI_STREAM["other"]},
    ("openai", "stream"): _OPENAI,
    ("openai", "whole"): _OPENAI,
    ("agentsgt", "stream"): _UI_STREAM,
    ("sonzai", "stream"): {
        "stop": b'"finish_reason":"stop"',
        "tool-calls": b'"finish_reason":"tool_calls"',
        "calls": b'{"id":"call_1","name":"order_status","parameters":{"order":7}',
    },
}


@dataclass(slots=True, kw_only=True)
class Said:
    """An answer, whatever pieces it came in."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, Json]] = field(default_factory=list)
    """Id, name and arguments."""
    sources: list[tuple[str | None, str | None]] = field(default_factory=list)
    """URL and title."""
    reason: FinishReason | None = None
    usage: Usage | None = None
    conversation: str | None = field(default=None, compare=False)

    @staticmethod
    def of(events: Iterable[Event]) -> "Said":
        said = Said()
        for event in events:
            said.take(event)
        return said

    def take(self, event: Event) -> None:
        assert self.reason is None, "nothing follows the end"
        match event:
            case TextDelta(text):
                self.text += text
            case ReasoningDelta(text):
                self.reasoning += text
            case ToolCall(call_id, name, arguments):
                self.calls.append((call_id, name, arguments))
            case Citations(items):
                self.sources += [(item.url, item.title) for item in items]
            case Metadata(conversation_id=conversation, usage=usage):
                self.conversation = conversation or self.conversation
                self.usage = usage or self.usage
            case Finish(reason):
                self.reason = reason
            case _:
                pass


def parted(events: list[Event]) -> tuple[list[Event], Event]:
    """What was said, and how it ended: once, and last."""
    *said, last = events
    assert type(last) in TERMINAL
    assert not [event for event in said if type(event) in TERMINAL]
    return said, last


def texts(events: Iterable[Event]) -> list[str]:
    """The pieces of the text."""
    return [event.text for event in events if isinstance(event, TextDelta)]


def fragments(events: Iterable[Event]) -> list[str]:
    """The pieces of the arguments of calls."""
    return [event.fragment for event in events if isinstance(event, ToolCallDelta)]
