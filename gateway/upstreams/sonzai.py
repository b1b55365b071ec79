"""Sonzai's agents: a stream of chunks, also for an answer that nobody wants streamed.

Sources: the schema `ChatSSEChunk` of its OpenAPI document, and for what servers send beyond it the
chat events of its Python SDK 1.8.
"""

from collections.abc import Mapping

from gateway.core.codec import Target, UpstreamKind
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import (
    TERMINAL,
    Event,
    Extension,
    Finish,
    FinishReason,
    Json,
    Metadata,
    StepFinish,
    StepStart,
    TextDelta,
    ToolCall,
    Usage,
)
from gateway.upstreams.refusals import failed, failure, failure_of, refusal
from gateway.upstreams.sonzai_pieces import KEY, Pieces
from gateway.upstreams.sonzai_request import request
from gateway.upstreams.stencil import Stencil
from gateway.upstreams.stream import StreamDecoder, fields
from gateway.upstreams.tool_calls import MAX_CALLS, arguments
from gateway.wire import json

_VENDOR = "sonzai"

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}

_CALLS = ("externalToolCalls", "external_tool_calls")
_CALLS_IN = ("data", "side_effects")

_ERRORS = ("error", "error_message", "error_code")

# What a chunk says in other events, or to the SDK alone; the rest of a typed one is its extension.
_READ = frozenset({"type", "choices", "usage", "finish_reason", "full_content", "$schema"})


class SonzaiReader:
    """What one chunk means.

    The finish is held until `[DONE]` or the end of the body: an agent that has finished one message
    may go on with another. What only Sonzai says is an extension by the chunk's type, and by `""`
    the side effects of the last chunk, which has none.
    """

    stencil: Stencil | None = None

    def __init__(self, max_event: int) -> None:
        self._pieces = Pieces(max_event)
        self._called: set[str] = set()
        self._usage = Usage()
        self._reason: FinishReason | None = None
        self._broken: ErrorCode | None = None
        self._spoke = False
        self._stepping = False

    def frame(self, name: str, data: bytes) -> list[Event]:
        if data == b"[DONE]":
            return self._done()
        if name == "error":
            return [failure_of(data)]
        said = fields(data)
        if KEY in said:
            whole = self._pieces.add(said)
            if self._pieces.oversized:
                return [failed(ErrorCode.UPSTREAM_OVERSIZED)]
            if whole is None:
                return []
            said = fields(whole)
        return self._chunk(said)

    def document(self, body: Json) -> list[Event]:
        events = self._chunk(json.mapping(body))
        if events and type(events[-1]) in TERMINAL:
            return events
        if self._reason is None:
            return [failed(ErrorCode.UPSTREAM_MALFORMED)]
        return events + self._finish(self._reason)

    def end(self) -> list[Event]:
        return self._finish(self._reason) if self._reason else []

    def _done(self) -> list[Event]:
        if self._reason is None and self._pieces.incomplete:
            return [failed(ErrorCode.UPSTREAM_TRUNCATED)]
        return self._finish(self._reason or FinishReason.OTHER)

    def _chunk(self, said: dict[str, Json]) -> list[Event]:
        events = self._choices(said.get("choices"))
        if len(said) == 1 and events and not self._broken:
            return events  # a piece of text, as nearly every chunk
        if any(said.get(key) for key in _ERRORS):
            return [_failure(said)]
        calls = self._calls(said)
        events += self._whole(said)
        events += self._typed(said)
        events += calls
        self._count(json.mapping(said.get("usage")))
        if self._broken:
            events.append(failed(self._broken))
        return events

    def _choices(self, choices: Json) -> list[Event]:
        events: list[Event] = []
        for choice in json.array(choices):
            if isinstance(choice, dict) and not choice.get("index"):
                text = json.text(json.mapping(choice.get("delta")).get("content"))
                if text:
                    self._spoke = True
                    events.append(TextDelta(text))
                self._end_with(json.text(choice.get("finish_reason")))
        return events

    def _end_with(self, word: str) -> None:
        if word == "error":
            self._broken = ErrorCode.UPSTREAM_FAILED
        elif word:
            self._reason = _FINISH_REASONS.get(word, FinishReason.OTHER)

    def _whole(self, said: dict[str, Json]) -> list[Event]:
        """A last chunk may hold all of the text again, or all there is."""
        self._end_with(json.text(said.get("finish_reason")))
        text = json.text(said.get("full_content"))
        if text:
            self._reason = self._reason or FinishReason.OTHER
        if self._spoke or not text:
            return []
        self._spoke = True
        return [TextDelta(text)]

    def _typed(self, said: dict[str, Json]) -> list[Event]:
        kind = json.text(said.get("type"))
        rest = {name: value for name, value in said.items() if name not in _READ}
        if not kind:
            effects = rest.get("side_effects")
            return [] if effects is None else [Extension(_VENDOR, "", {"side_effects": effects})]
        if kind == "side_effects" and not rest:
            return []  # there were only calls
        steps = self._next_step() if kind == "message_boundary" else []
        return [*steps, Extension(_VENDOR, kind, rest)]

    def _next_step(self) -> list[Event]:
        ended: list[Event] = [StepFinish()] if self._stepping else []
        self._stepping = True
        return [*ended, StepStart()]

    def _calls(self, said: dict[str, Json]) -> list[Event]:
        """The calls, which are taken out of the chunk: a Sonzai client is told of them in the
        dialect's own words."""
        events = self._taken(said)
        for key in _CALLS_IN:
            inside = said.get(key)
            if isinstance(inside, dict) and inside:
                events += self._taken(inside)
                if not inside:
                    del said[key]
        return events

    def _taken(self, holder: dict[str, Json]) -> list[Event]:
        items = [item for key in _CALLS for item in json.array(holder.pop(key, None))]
        return [call for item in items for call in self._call(json.mapping(item))]

    def _call(self, item: dict[str, Json]) -> list[Event]:
        name = json.text(item.get("name"))
        call_id = json.identifier(item.get("id")) or f"call_{len(self._called) + 1}"
        if not name or call_id in self._called:
            return []
        if len(self._called) >= MAX_CALLS:
            self._broken = ErrorCode.UPSTREAM_OVERSIZED
            return []
        self._called.add(call_id)
        said = item.get("parameters", item.get("arguments"))
        if isinstance(said, str):
            said = arguments([said])
        return [ToolCall(call_id, name, {} if said is None else said)]

    def _count(self, figures: dict[str, Json]) -> None:
        keys = (("promptTokens", "prompt_tokens"), ("completionTokens", "completion_tokens"))
        counts = (json.count(figures.get(camel, figures.get(snake))) for camel, snake in keys)
        self._usage = self._usage.updated(Usage(*counts))

    def _finish(self, reason: FinishReason) -> list[Event]:
        events: list[Event] = [StepFinish()] if self._stepping else []
        if self._called and reason in (FinishReason.STOP, FinishReason.OTHER):
            reason = FinishReason.TOOL_CALLS
        if self._usage:
            events.append(Metadata(usage=self._usage))
        return [*events, Finish(reason)]


def _failure(said: dict[str, Json]) -> Event:
    """An error may be an object, a string, or told beside a mere `true`."""
    error = said.get("error")
    told = json.text(error) or json.text(said.get("error_message"))
    return failure({"code": said.get("error_code"), "message": told, **json.mapping(error)})


def _refused(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """Its errors are problem documents (RFC 9457), whose words are in `detail`."""
    try:
        said = json.mapping(json.loads(body))
    except json.InvalidJson:
        said = {}
    if isinstance(said.get("detail"), str) and not said.keys() & {"message", "error"}:
        body = json.dumps({"message": said["detail"]})
    return refusal(status, headers, body)


def _decoder(target: Target) -> StreamDecoder:
    reader = SonzaiReader(target.max_event)
    return StreamDecoder(reader, max_event=target.max_event, blank_lines=target.blank_lines)


SONZAI = UpstreamKind(
    name="sonzai",
    family="sonzai",
    decoder=_decoder,
    request=request,
    error=_refused,
)
