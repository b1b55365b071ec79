"""OpenAI chat completions as clients speak them: bare `data:` chunks, ended by `[DONE]`.

Clients break on much that SSE allows (an event without data, an `event:` name), on a tool call
without its index, and take a stream without a `finish_reason` for complete or for broken, each as
it likes: nothing of that is sent.
"""

from collections.abc import Callable, Iterable

from gateway.core.codec import Dialect
from gateway.core.events import (
    Citation,
    Citations,
    Event,
    Failure,
    Finish,
    FinishReason,
    Json,
    Metadata,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolOutput,
    Usage,
)
from gateway.core.turn import UNKNOWN, ChatRequest, Reply, Turn, merged
from gateway.dialects.drops import Drops
from gateway.dialects.openai_errors import answer, body
from gateway.dialects.openai_reading import decode
from gateway.wire import json
from gateway.wire.sse import frame

DONE = b"data: [DONE]\n\n"

_REASONS: dict[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: "stop",
}


class OpenAIEncoder:
    """Events to chunks.

    A client runs whatever call it is told of. One of a tool that it has not offered itself may be
    one that the upstream runs, and is held back until the end shows that nobody has run it.
    """

    def __init__(self, turn: Turn, ask: ChatRequest) -> None:
        self.dropped = Drops()
        self._offered = frozenset(tool.name for tool in ask.tools)
        self._metadata = UNKNOWN
        self._begun = False
        """The chunk with the role has been sent, or is not needed any more."""
        self._calls: dict[str, int] = {}
        """Those that the client has been told of: their indexes, by their ids."""
        self._unargued: set[str] = set()
        """Those of them of whose arguments nothing has been said."""
        self._held: dict[str, ToolCall] = {}
        self._cited = 0
        self._usage_asked = ask.include_usage
        self._head = _head(turn, ask, "chat.completion.chunk")
        self._tail = b',"usage":null}\n\n' if ask.include_usage else b"}\n\n"
        start, end = b"data: " + self._head + b',"choices":[{"index":0,"delta":{', b"}"
        end += b',"logprobs":null,"finish_reason":null}]' + self._tail
        self._start, self._end = start, end
        self._text_start = start + b'"content":'

    @property
    def around_text(self) -> tuple[bytes, bytes] | None:
        return (self._text_start, self._end) if self._begun else None

    def encode(self, event: Event) -> bytes:
        write = _TABLE.get(type(event))
        frames = write(self, event) if write else self.dropped.count(event)
        return frames if self._begun or not frames else self._begin() + frames

    def _begin(self) -> bytes:
        self._begun = True
        return self._start + b'"role":"assistant","content":"","refusal":null' + self._end

    def _delta(self, name: bytes, value: Json) -> bytes:
        return self._start + b'"%b":' % name + json.dumps(value) + self._end

    def _text(self, event: TextDelta) -> bytes:
        return self._text_start + json.dumps(event.text) + self._end

    def _reasoning(self, event: ReasoningDelta) -> bytes:
        # OpenAI has no word for it; this is DeepSeek's, which most clients that show it read.
        return self._delta(b"reasoning_content", event.text)

    def _citations(self, event: Citations) -> bytes:
        said = _annotations(event.items)
        if len(said) < len(event.items):
            self.dropped.count(event)
        # Python's stream helper joins lists by it, and throws at a second one without.
        for item in said:
            item["index"] = self._cited
            self._cited += 1
        return self._delta(b"annotations", [*said]) if said else b""

    # Tool calls.

    def _call_start(self, event: ToolCallStart) -> bytes:
        if event.name not in self._offered:
            return b""
        return self._opened(event.call_id, event.name)

    def _call_delta(self, event: ToolCallDelta) -> bytes:
        if event.call_id not in self._calls:
            return b""
        return self._argued(event.call_id, event.fragment)

    def _call(self, event: ToolCall) -> bytes:
        if event.call_id not in self._calls and event.name not in self._offered:
            self._held[event.call_id] = event
            return b""
        return self._completed(event)

    def _output(self, event: ToolOutput) -> bytes:
        if call := self._held.pop(event.call_id, None):
            self.dropped.count(call)
        return self.dropped.count(event)

    def _completed(self, call: ToolCall) -> bytes:
        frames = b""
        if call.call_id not in self._calls:
            frames = self._opened(call.call_id, call.name)
        if call.call_id in self._unargued:
            frames += self._argued(call.call_id, _written(call.arguments))
        if call.echo:
            frames += self._called(call.call_id, {"function": {}, "extra_content": call.echo})
        return frames

    def _opened(self, call_id: str, name: str) -> bytes:
        self._calls[call_id] = len(self._calls)
        self._unargued.add(call_id)
        function: Json = {"name": name, "arguments": ""}
        return self._called(call_id, {"id": call_id, "type": "function", "function": function})

    def _argued(self, call_id: str, fragment: str) -> bytes:
        self._unargued.discard(call_id)
        return self._called(call_id, {"function": {"arguments": fragment}})

    def _called(self, call_id: str, said: dict[str, Json]) -> bytes:
        return self._delta(b"tool_calls", [{"index": self._calls[call_id], **said}])

    # The end.

    def _remember(self, event: Metadata) -> bytes:
        self._metadata = merged(self._metadata, event)
        return b""

    def _finish(self, event: Finish) -> bytes:
        held = b"".join(map(self._completed, self._held.values()))
        reason = _reason(event.reason, calls=bool(self._calls))
        choice: Json = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}
        last = b"data: " + self._head + b',"choices":[' + json.dumps(choice) + b"]" + self._tail
        return held + last + self._cost() + DONE

    def _cost(self) -> bytes:
        """The usage has a chunk of its own, for a client that asked for it."""
        known = self._metadata.usage
        if not self._usage_asked or not known:
            return b""
        usage = _usage(known)
        if usage is None:
            return self.dropped.count(self._metadata)
        return frame(self._head + b',"choices":[],"usage":' + json.dumps(usage) + b"}")

    def _failure(self, event: Failure) -> bytes:
        self._begun = True
        return frame(body(event.code, event.message)) + DONE


_TABLE: dict[type, Callable[..., bytes]] = {
    TextDelta: OpenAIEncoder._text,
    ReasoningDelta: OpenAIEncoder._reasoning,
    ToolCallStart: OpenAIEncoder._call_start,
    ToolCallDelta: OpenAIEncoder._call_delta,
    ToolCall: OpenAIEncoder._call,
    ToolOutput: OpenAIEncoder._output,
    Citations: OpenAIEncoder._citations,
    Metadata: OpenAIEncoder._remember,
    Finish: OpenAIEncoder._finish,
    Failure: OpenAIEncoder._failure,
}


def _head(turn: Turn, ask: ChatRequest, kind: str) -> bytes:
    """What every chunk, and the whole answer, begins with; the object is left open."""
    number = (turn.message_id or "").removeprefix("msg_")
    head: Json = {
        "id": f"chatcmpl-{number}",
        "object": kind,
        "created": turn.created,
        "model": ask.agent,
    }
    return json.dumps(head)[:-1]


def _reason(reason: FinishReason, *, calls: bool) -> str:
    """Clients run the calls of an answer that says so, and only few of one that "stops"."""
    if calls and reason in (FinishReason.STOP, FinishReason.OTHER):
        reason = FinishReason.TOOL_CALLS
    return _REASONS[reason]


def _annotations(items: Iterable[Citation]) -> list[dict[str, Json]]:
    """Of web pages only. Clients want a title and a span, also where nobody knows one."""
    return [
        {"type": "url_citation", "url_citation": _source(item, item.url)}
        for item in items
        if item.url is not None
    ]


def _source(item: Citation, url: str) -> Json:
    source: dict[str, Json] = {
        "url": url,
        "title": item.title or "",
        "start_index": 0,
        "end_index": 0,
    }
    # OpenRouter's word for the text of the page.
    return {**source, "content": item.snippet} if item.snippet else source


def _usage(known: Usage) -> Json:
    """None unless both counts are known: clients read them without looking."""
    if known.input_tokens is None or known.output_tokens is None:
        return None
    usage: dict[str, Json] = {
        "prompt_tokens": known.input_tokens,
        "completion_tokens": known.output_tokens,
        "total_tokens": known.input_tokens + known.output_tokens,
    }
    return usage if known.credits is None else {**usage, "credits": known.credits}


def _written(arguments: Json) -> str:
    """As a text; what a model wrote that is no JSON is one."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments).decode()


def _reply(turn: Turn, ask: ChatRequest, reply: Reply) -> bytes:
    message = _message(reply)
    choice: Json = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _reason(reply.finish or FinishReason.OTHER, calls="tool_calls" in message),
    }
    rest: dict[str, Json] = {"choices": [choice]}
    known = reply.metadata.usage
    if known and (usage := _usage(known)):
        rest["usage"] = usage
    return _head(turn, ask, "chat.completion") + b"," + json.dumps(rest)[1:]


def _message(reply: Reply) -> dict[str, Json]:
    outputs = {part.call_id for part in reply.parts if type(part) is ToolOutput}
    reasoning = "".join(part.text for part in reply.parts if type(part) is ReasoningDelta)
    cited = [item for part in reply.parts if type(part) is Citations for item in part.items]
    more: dict[str, Json] = {
        "reasoning_content": reasoning,
        "tool_calls": [_whole(call) for call in reply.tool_calls if call.call_id not in outputs],
        "annotations": [*_annotations(cited)],
    }
    said = {name: value for name, value in more.items() if value}
    content = reply.text or (None if "tool_calls" in said else "")
    return {"role": "assistant", "content": content, "refusal": None, **said}


def _whole(call: ToolCall) -> Json:
    function: Json = {"name": call.name, "arguments": _written(call.arguments)}
    said: dict[str, Json] = {"id": call.call_id, "type": "function", "function": function}
    return {**said, "extra_content": call.echo} if call.echo else said


OPENAI = Dialect(
    name="openai",
    family="openai",
    beginning="/v1/",
    chats=("/v1/chat/completions",),
    decode=decode,
    encoder=OpenAIEncoder,
    reply=_reply,
    whole=frozenset({TextDelta, ReasoningDelta, ToolCall, Citations}),
    error=answer,
    heartbeat=15,
    stateless=True,
)
