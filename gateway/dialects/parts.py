"""A message and its parts, as Bookbag v2 and Chatbase write them."""

from collections.abc import Callable, Mapping, Sequence

from gateway.core.conversation import Part
from gateway.core.events import Citations, FinishReason, Json, TextDelta, ToolCall, ToolOutput
from gateway.core.turn import Reply, Turn
from gateway.dialects.bookbag import citation, identity
from gateway.wire import json


def whole(turn: Turn, reply: Reply, reasons: Mapping[FinishReason, str]) -> bytes:
    """A whole answer, by a dialect that calls the finish reasons so."""
    metadata = identity(turn, reply.metadata)
    message_id = metadata.pop("messageId", None)
    metadata.setdefault("userId", None)
    metadata["finishReason"] = reasons[reply.finish or FinishReason.STOP]
    data: dict[str, Json] = {
        "id": message_id,
        "role": "assistant",
        "parts": written(reply.parts),
        "metadata": metadata,
    }
    return json.dumps({"data": data})


def written(parts: Sequence[Part]) -> list[Json]:
    """What a message says, as far as there are words for it; never nothing."""
    if len(parts) == 1 and type(text := parts[0]) is TextDelta:  # as nearly every answer
        return [_text(text)]
    names = {part.call_id: part.name for part in parts if type(part) is ToolCall}
    said = [write(part, names) for part in parts if (write := _PARTS.get(type(part)))]
    return said or [_text(TextDelta(""))]


def _text(part: TextDelta, _names: object = None) -> Json:
    return {"type": "text", "text": part.text}


def tool_part(call: ToolCall) -> dict[str, Json]:
    """A call, whole."""
    return {
        "type": "tool-call",
        "toolCallId": call.call_id,
        "toolName": call.name,
        "input": call.arguments,
    }


def _result(part: ToolOutput, names: Mapping[str, str]) -> Json:
    result: dict[str, Json] = {"type": "tool-result", "toolCallId": part.call_id}
    if part.call_id in names:
        result["toolName"] = names[part.call_id]
    return {**result, "output": part.output}


# Each with the names of the tools that the message calls, by the calls' ids.
_PARTS: dict[type, Callable[..., Json]] = {
    TextDelta: _text,
    ToolCall: lambda part, _: tool_part(part),
    ToolOutput: _result,
    Citations: lambda part, _: {"type": "citations", "citations": list(map(citation, part.items))},
}

PARTS = frozenset(_PARTS)
"""What there are words for."""
