"""OpenAI chat completions, as OpenAI and the many servers that are compatible with it speak it.

Sources: openai-python's types, and the servers' own documentation and issues for what they do
differently; each difference is a transcript in `tests/golden/openai/`.
"""

from collections.abc import Callable
from typing import ClassVar

from gateway.core.codec import UpstreamKind
from gateway.core.errors import ErrorCode
from gateway.core.events import (
    Citation,
    Event,
    Finish,
    FinishReason,
    Json,
    Metadata,
    ReasoningDelta,
    TextDelta,
    Usage,
)
from gateway.upstreams.openai_request import request
from gateway.upstreams.refusals import failed, failure, failure_of, refusal
from gateway.upstreams.sources import Sources
from gateway.upstreams.stencil import MAX_CUTS, Stencil, cut, hole
from gateway.upstreams.stream import decoder, fields
from gateway.upstreams.think import ThinkSplitter
from gateway.upstreams.tool_calls import ToolCalls
from gateway.wire import json

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}

_OTHER = FinishReason.OTHER
_FINISHES = {reason: Finish(reason) for reason in FinishReason}

# OpenRouter's and DeepSeek's words for an answer that broke off.
_BROKEN_OFF = frozenset({"error", "insufficient_system_resource"})

# What a chunk may hold beside its choices and usage.
_BESIDE = frozenset({"x_groq", "search_results", "citations", "error", "error_type", "type"})

_HOLE = hole("content")


class OpenAIReader:
    """What one chunk means.

    The finish is held until `[DONE]` or the end of the body: the usage comes in a chunk of its
    own after the one with `finish_reason`.
    """

    __slots__ = (
        "_calls",
        "_cuts",
        "_failed",
        "_model",
        "_reason",
        "_sources",
        "_think",
        "_usage",
        "stencil",
    )

    def __init__(self) -> None:
        self._think = ThinkSplitter()
        self._calls: ToolCalls | None = None
        self._sources: Sources | None = None
        self._model: Json = None
        self._usage: Usage | None = None
        self.stencil: Stencil | None = None
        self._cuts = 0
        self._reason: FinishReason | None = None
        self._failed: ErrorCode | None = None

    def frame(self, name: str, data: bytes) -> list[Event]:
        if data == b"[DONE]":
            return self._finish(self._reason or _OTHER)
        if name == "error":
            return [failure_of(data)]
        if self.stencil is not None and (text := self.stencil.text(data)):
            return [TextDelta(text)]
        chunk = fields(data)
        if text := _only_text(chunk):
            return self._text(data, text)
        if chunk.get("error") or chunk.get("error_type"):
            return [failure(chunk)]
        events = self._chunk(chunk, "delta")
        if not self._failed and chunk.get("type") == "end_of_stream":  # Perplexity's last chunk
            events += self._finish(self._reason or _OTHER)
        return events

    def _text(self, data: bytes, text: str) -> list[Event]:
        """A chunk of text alone: the chunks that follow are most likely like it."""
        events = self._think.split(text)
        if self._think.outside:
            self._cuts += 1
            self.stencil = cut(data, text, _HOLE, _only_text) if self._cuts <= MAX_CUTS else None
        return events

    def document(self, body: Json) -> list[Event]:
        answer = json.mapping(body)
        if answer.get("error"):
            return [failure(answer)]
        if not json.array(answer.get("choices")):
            return [failed(ErrorCode.UPSTREAM_MALFORMED)]
        events = self._chunk(answer, "message")
        if not self._failed:
            events += self._finish(self._reason or _OTHER)
        return events

    def end(self) -> list[Event]:
        return self._finish(self._reason) if self._reason else []

    def _chunk(self, chunk: dict[str, Json], part: str) -> list[Event]:
        events: list[Event] = []
        for choice in json.array(chunk.get("choices")):
            if type(choice) is dict and not choice.get("index"):
                events += self._choice(choice, part)
        if (usage := chunk.get("usage")) is not None:
            self._count(usage)
        if not self._model:  # Azure's first chunk, of its filters, names none
            self._model = chunk.get("model")
        if not _BESIDE.isdisjoint(chunk):
            events += self._beside(chunk)
        if self._failed:
            events.append(failed(self._failed))
        return events

    def _beside(self, chunk: dict[str, Json]) -> list[Event]:
        """What some servers put beside the choices."""
        if chunk.get("usage") is None:
            self._count(json.mapping(chunk.get("x_groq")).get("usage"))
        # Perplexity's stand in every chunk again; the results have titles.
        events: list[Event] = []
        for key in ("search_results", "citations"):
            events += self._cited.read(chunk.get(key))
        return events

    def _choice(self, choice: dict[str, Json], part: str) -> list[Event]:
        delta = choice.get(part)
        if type(delta) is not dict:
            delta = json.mapping(choice.get("message"))
        events: list[Event] = []
        for key, read in self._parts:
            if delta.get(key):
                events += read(self, delta)
        reason = choice.get("finish_reason")
        if reason and isinstance(reason, str):
            if reason in _BROKEN_OFF:
                self._failed = self._failed or ErrorCode.UPSTREAM_FAILED
            self._reason = _FINISH_REASONS.get(reason, _OTHER)
        return events

    # The parts of a delta, each read by the function beside its key in `_parts` where that says
    # something, and in that order: a whole message may hold its text before its reasoning.

    def _content(self, delta: dict[str, Json]) -> list[Event]:
        content = delta["content"]
        if type(content) is str:
            return self._think.split(content)
        return [
            event for part in json.array(content) for event in self._mistral(json.mapping(part))
        ]

    def _mistral(self, part: dict[str, Json]) -> list[Event]:
        """One part of a content array: text, or `thinking` with texts of its own."""
        if part.get("type") == "thinking":
            return _reasonings(part.get("thinking"))
        text = json.text(part.get("text"))
        return self._think.split(text) if text else []

    def _reasoning_content(self, delta: dict[str, Json]) -> list[Event]:
        text = json.text(delta["reasoning_content"])
        return [ReasoningDelta(text)] if text else []

    def _reasoning(self, delta: dict[str, Json]) -> list[Event]:
        if delta.get("reasoning_content"):
            return []  # vLLM sends both names while it renames the one to the other
        text = json.text(delta["reasoning"])
        return [ReasoningDelta(text)] if text else []

    def _reasoning_details(self, delta: dict[str, Json]) -> list[Event]:
        if delta.get("reasoning") or delta.get("reasoning_content"):
            return []  # OpenRouter's details repeat its `reasoning`
        return _reasonings(delta["reasoning_details"])

    def _refusal(self, delta: dict[str, Json]) -> list[Event]:
        text = json.text(delta["refusal"])
        return [TextDelta(text)] if text else []

    def _tool_calls(self, delta: dict[str, Json]) -> list[Event]:
        return self._called(json.array(delta["tool_calls"]))

    def _function_call(self, delta: dict[str, Json]) -> list[Event]:
        return self._called([{"index": 0, "function": delta["function_call"]}])

    def _called(self, deltas: list[Json]) -> list[Event]:
        if self._calls is None:
            self._calls = ToolCalls()
        events = self._calls.feed(deltas)
        if self._calls.oversized:
            self._failed = ErrorCode.UPSTREAM_OVERSIZED
        return events

    def _annotations(self, delta: dict[str, Json]) -> list[Event]:
        annotations = json.array(delta["annotations"])
        return self._cited.new(_annotation(json.mapping(said)) for said in annotations)

    @property
    def _cited(self) -> Sources:
        if self._sources is None:
            self._sources = Sources()
        return self._sources

    _Read = Callable[["OpenAIReader", dict[str, Json]], list[Event]]
    _parts: ClassVar[tuple[tuple[str, _Read], ...]] = (
        ("reasoning_content", _reasoning_content),
        ("reasoning", _reasoning),
        ("reasoning_details", _reasoning_details),
        ("content", _content),
        ("refusal", _refusal),
        ("tool_calls", _tool_calls),
        ("function_call", _function_call),
        ("annotations", _annotations),
    )

    def _count(self, usage: Json) -> None:
        # Some count anew in every chunk (xAI), some only in the last: the latest figures hold.
        figures = json.mapping(usage)
        asked, said = figures.get("prompt_tokens"), figures.get("completion_tokens")
        known = Usage(json.count(asked), json.count(said))
        self._usage = known if self._usage is None else self._usage.updated(known)

    def _finish(self, reason: FinishReason) -> list[Event]:
        events = self._think.end()
        if self._calls is not None and (calls := self._calls.end()):
            events += calls
            if reason in (FinishReason.STOP, _OTHER):
                reason = FinishReason.TOOL_CALLS  # Gemini and Ollama say "stop" for a tool call
        usage = self._usage or None
        if usage is not None or self._model:
            model = self._model if type(self._model) is str else None
            events.append(Metadata(None, None, None, None, model, usage))
        events.append(_FINISHES[reason])
        return events


def _only_text(chunk: Json) -> str | None:
    """The text of a chunk that says nothing else, as nearly every one: they are read once per
    token, so it pays to see at once that there is no more in one."""
    if type(chunk) is not dict:
        return None
    choices = chunk.get("choices")
    if type(choices) is not list or len(choices) != 1 or not _BESIDE.isdisjoint(chunk):
        return None
    choice = choices[0]
    if type(choice) is not dict or choice.get("finish_reason") or choice.get("index"):
        return None
    delta = choice.get("delta")
    if type(delta) is not dict or len(delta) != 1 or chunk.get("usage") is not None:
        return None
    content = delta.get("content")
    return content if type(content) is str else None


def _reasonings(parts: Json) -> list[Event]:
    texts = (json.text(json.mapping(part).get("text")) for part in json.array(parts))
    return [ReasoningDelta(text) for text in texts if text]


def _annotation(annotation: dict[str, Json]) -> Citation:
    kind = json.text(annotation.get("type"))
    source = json.mapping(annotation.get(kind))
    title = json.text(source.get("title")) or json.text(source.get("name"))
    return Citation(
        json.text(source.get("url")) or None,
        title or None,
        json.text(source.get("content")) or None,
    )


OPENAI = UpstreamKind(
    name="openai", family="openai", decoder=decoder(OpenAIReader), request=request, error=refusal
)
