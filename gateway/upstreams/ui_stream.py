"""The AI SDK's "UI message stream", version 1, read liberally: the frames of several upstreams.

Source: `ai` 5, 6 and 7, `src/ui-message-stream/ui-message-chunks.ts`. Chatbase's older forms say
`message-start` for `start`, and name the type by `event:`.
"""

from collections.abc import Callable
from typing import ClassVar

from msgspec import Struct

from gateway.core.errors import ErrorCode
from gateway.core.events import (
    TERMINAL,
    Citation,
    Event,
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
from gateway.upstreams.hosted import extension, finish, finish_reason
from gateway.upstreams.refusals import failed, failure, failure_of
from gateway.upstreams.sources import Sources
from gateway.upstreams.stencil import Stencil
from gateway.upstreams.stream import fields
from gateway.upstreams.tool_calls import MAX_CALLS, arguments
from gateway.wire import json

_VENDOR = "ai-sdk"

# What they enclose says all there is to say.
_SILENT = frozenset(
    {"text-start", "text-end", "reasoning-start", "reasoning-end", "reasoning-part-finish"}
)

# The text of a tool's error may name what the upstream runs on: it stays there.
_TOOL_FAILED: Json = {"error": "the tool failed"}
_TOOL_DENIED: Json = {"error": "the tool was not allowed to run"}


class _Call(Struct):
    name: str
    fragments: list[str] = []
    complete: bool = False


class UIStreamReader:
    """One stream.

    `metadata` reads the vendor's own fields, from wherever a frame holds them; `document` a whole
    answer. The finish is held until `[DONE]` or the end of the body, for metadata may follow it.
    """

    stencil: Stencil | None = None

    def __init__(
        self,
        *,
        metadata: Callable[[dict[str, Json]], list[Event]],
        document: Callable[[Json], list[Event]],
    ) -> None:
        self._read_metadata = metadata
        self._read_document = document
        self._sources = Sources()
        self._calls: dict[str, _Call] = {}
        self._finished = False
        self._reason: Json = None

    def frame(self, name: str, data: bytes) -> list[Event]:
        if data == b"[DONE]":
            return self._finish()
        if name == "error":
            return [failure_of(data)]
        said = fields(data)
        kind = json.text(said.get("type"))
        if said.get("error") and not kind:
            return [failure(said)]
        return self.chunk(kind or name, said)

    def chunk(self, kind: str, said: dict[str, Json]) -> list[Event]:
        """The events of one chunk of this type."""
        if read := self._chunks.get(kind):
            return read(self, said)
        return [] if kind in _SILENT else [extension(_VENDOR, kind, said)]

    def document(self, body: Json) -> list[Event]:
        return self._read_document(body)

    def end(self) -> list[Event]:
        return self._finish() if self._finished else []

    def _finish(self) -> list[Event]:
        events: list[Event] = [
            ToolCall(call_id, call.name, arguments(call.fragments))
            for call_id, call in self._calls.items()
            if not call.complete
        ]
        return [*events, finish(self._reason)]

    # The chunks, each read by the function under its type in `_chunks`.

    def _metadata(self, said: dict[str, Json]) -> list[Event]:
        inside = [json.mapping(said.get(key)) for key in ("metadata", "messageMetadata")]
        return self._read_metadata({**said, **inside[0], **inside[1]})

    def _finish_chunk(self, said: dict[str, Json]) -> list[Event]:
        self._finished = True
        self._reason = finish_reason(said)
        return self._metadata(said)

    def _error(self, said: dict[str, Json]) -> list[Event]:
        return [failure(said)]

    def _abort(self, _said: dict[str, Json]) -> list[Event]:
        return [failed(ErrorCode.UPSTREAM_TRUNCATED)]

    def _text(self, said: dict[str, Json]) -> list[Event]:
        text = json.text(said.get("delta"))
        return [TextDelta(text)] if text else []

    def _reasoning(self, said: dict[str, Json]) -> list[Event]:
        text = json.text(said.get("delta")) or json.text(said.get("text"))
        return [ReasoningDelta(text)] if text else []

    def _step_start(self, _said: dict[str, Json]) -> list[Event]:
        return [StepStart()]

    def _step_finish(self, _said: dict[str, Json]) -> list[Event]:
        return [StepFinish()]

    def _source(self, said: dict[str, Json]) -> list[Event]:
        url = json.text(said.get("url"))
        title = json.text(said.get("title")) or json.text(said.get("filename"))
        return self._sources.new([Citation(url or None, title or None)])

    def _input_start(self, said: dict[str, Json]) -> list[Event]:
        call_id, name = json.identifier(said.get("toolCallId")), json.text(said.get("toolName"))
        if call_id is None or call_id in self._calls or not name:
            return []
        if len(self._calls) >= MAX_CALLS:
            return [failed(ErrorCode.UPSTREAM_OVERSIZED)]
        self._calls[call_id] = _Call(name)
        return [ToolCallStart(call_id, name)]

    def _input_delta(self, said: dict[str, Json]) -> list[Event]:
        call_id = json.identifier(said.get("toolCallId")) or ""
        call, fragment = self._calls.get(call_id), json.text(said.get("inputTextDelta"))
        if call is None or call.complete or not fragment:
            return []
        call.fragments.append(fragment)
        return [ToolCallDelta(call_id, fragment)]

    def _input(self, said: dict[str, Json]) -> list[Event]:
        call_id = json.identifier(said.get("toolCallId"))
        call = self._calls.get(call_id or "") or _Call(json.text(said.get("toolName")))
        if call_id is None or call.complete or not call.name:
            return []
        if len(self._calls) >= MAX_CALLS and call_id not in self._calls:
            return [failed(ErrorCode.UPSTREAM_OVERSIZED)]
        self._calls[call_id] = call
        call.complete = True
        return [ToolCall(call_id, call.name, said.get("input", {}))]

    def _input_error(self, said: dict[str, Json]) -> list[Event]:
        events = self._input(said)
        if events and type(events[-1]) in TERMINAL:
            return events
        return events + _output(said, _TOOL_FAILED)

    def _output(self, said: dict[str, Json]) -> list[Event]:
        # A preliminary output is followed by the final one.
        return [] if said.get("preliminary") else _output(said, said.get("output"))

    def _output_error(self, said: dict[str, Json]) -> list[Event]:
        return _output(said, _TOOL_FAILED)

    def _output_denied(self, said: dict[str, Json]) -> list[Event]:
        return _output(said, _TOOL_DENIED)

    _chunks: ClassVar[dict[str, Callable[["UIStreamReader", dict[str, Json]], list[Event]]]] = {
        "start": _metadata,
        "message-start": _metadata,
        "message-metadata": _metadata,
        "finish": _finish_chunk,
        "error": _error,
        "abort": _abort,
        "text-delta": _text,
        "reasoning-delta": _reasoning,
        "reasoning": _reasoning,  # only ai 5.0.0
        "start-step": _step_start,
        "finish-step": _step_finish,
        "source-url": _source,
        "source-document": _source,
        "tool-input-start": _input_start,
        "tool-input-delta": _input_delta,
        "tool-input-available": _input,
        "tool-input-error": _input_error,
        "tool-output-available": _output,
        "tool-output-error": _output_error,
        "tool-output-denied": _output_denied,
    }


def _output(said: dict[str, Json], output: Json) -> list[Event]:
    call_id = json.identifier(said.get("toolCallId"))
    return [ToolOutput(call_id, output)] if call_id else []
