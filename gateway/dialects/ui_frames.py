"""The frames of the AI SDK's "UI message stream", version 1, which Chatbase speaks as well.

Every client of it wants a delta inside of a part that was begun, and parts do not overlap here: a
step, a tool's call and its output end the text before them. What begins and ends a message is the
dialect's own.
"""

from collections.abc import Callable

from gateway.core.events import (
    Citation,
    Citations,
    Json,
    ReasoningDelta,
    StepFinish,
    StepStart,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolOutput,
)
from gateway.wire import json

DONE = b"data: [DONE]\n\n"

# RFC 2046, 4.5.1: what a document is of which no more is known.
_UNKNOWN_MEDIA = "application/octet-stream"

_WORDS: dict[type, str] = {TextDelta: "text", ReasoningDelta: "reasoning"}


def bare(_kind: str) -> bytes:
    """What stands before the JSON of a frame without a name."""
    return b"data: "


def named(kind: str) -> bytes:
    """What stands before the JSON of a frame whose name is its type."""
    return b"event: " + kind.encode() + b"\ndata: "


class UIFrames:
    """The frames of one message; `opening` is what stands before the JSON of each, by its type,
    and `source` what the ids of its sources begin with."""

    def __init__(self, opening: Callable[[str], bytes] = bare, *, source: str = "source") -> None:
        self._opening = opening
        self._source_id = source
        self._open: type | None = None
        self._delta = self._end = b""
        self._parts = self._sources = 0

    def chunk(self, kind: str, fields: dict[str, Json]) -> bytes:
        """One frame of any type."""
        return self._opening(kind) + json.dumps({"type": kind, **fields}) + b"\n\n"

    def close(self) -> bytes:
        """The end of the part that is open, if one is."""
        end, self._end, self._open = self._end, b"", None
        return end

    def failure(self, message: str) -> bytes:
        """The end of a message that failed."""
        return self.close() + self.chunk("error", {"errorText": message}) + DONE

    def _text(self, event: TextDelta | ReasoningDelta) -> bytes:
        begun = b"" if type(event) is self._open else self._begin(type(event))
        return begun + self._delta + json.dumps(event.text) + b"}\n\n"

    def _begin(self, kind: type) -> bytes:
        before = self.close()
        self._parts += 1
        word = _WORDS[kind]
        part: dict[str, Json] = {"id": f"{word}-{self._parts}"}
        head = json.dumps({"type": f"{word}-delta", **part})[:-1]
        self._open = kind
        self._delta = self._opening(f"{word}-delta") + head + b',"delta":'
        self._end = self.chunk(f"{word}-end", part)
        return before + self.chunk(f"{word}-start", part)

    def _input_start(self, event: ToolCallStart) -> bytes:
        call: dict[str, Json] = {"toolCallId": event.call_id, "toolName": event.name}
        return self.close() + self.chunk("tool-input-start", call)

    def _input_delta(self, event: ToolCallDelta) -> bytes:
        fragment: dict[str, Json] = {"toolCallId": event.call_id, "inputTextDelta": event.fragment}
        return self.chunk("tool-input-delta", fragment)

    def _input(self, event: ToolCall) -> bytes:
        call: dict[str, Json] = {"toolCallId": event.call_id, "toolName": event.name}
        return self.close() + self.chunk("tool-input-available", {**call, "input": event.arguments})

    def _output(self, event: ToolOutput) -> bytes:
        result: dict[str, Json] = {"toolCallId": event.call_id, "output": event.output}
        return self.close() + self.chunk("tool-output-available", result)

    def _citations(self, event: Citations) -> bytes:
        return b"".join(map(self._source, event.items))

    def _source(self, item: Citation) -> bytes:
        self._sources += 1
        said: dict[str, Json] = {"sourceId": f"{self._source_id}-{self._sources}"}
        if item.url is None:
            document: dict[str, Json] = {"mediaType": _UNKNOWN_MEDIA, "title": item.title or ""}
            return self.chunk("source-document", {**said, **document})
        # A field that is not known is absent: null is an error to the AI SDK.
        titled: dict[str, Json] = {} if item.title is None else {"title": item.title}
        return self.chunk("source-url", {**said, "url": item.url, **titled})


FRAMES: dict[type, Callable[..., bytes]] = {
    TextDelta: UIFrames._text,
    ReasoningDelta: UIFrames._text,
    ToolCallStart: UIFrames._input_start,
    ToolCallDelta: UIFrames._input_delta,
    ToolCall: UIFrames._input,
    ToolOutput: UIFrames._output,
    Citations: UIFrames._citations,
    StepStart: lambda frames, _: frames.close() + frames.chunk("start-step", {}),
    StepFinish: lambda frames, _: frames.close() + frames.chunk("finish-step", {}),
}
"""The events that are said alike by all who speak this, each with what writes it."""
