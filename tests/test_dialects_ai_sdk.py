"""AgentsGT and the AI SDK: the chunks, by the rules of the strictest clients, and the errors."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.conversation import Role
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import (
    Citation,
    Citations,
    Event,
    Extension,
    Failure,
    Finish,
    FinishReason,
    Json,
    Metadata,
    ReasoningDelta,
    StepFinish,
    StepStart,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolOutput,
    Usage,
)
from gateway.core.turn import ChatRequest, Message, Turn
from gateway.dialects.ai_sdk import AI_SDK
from gateway.wire import json
from gateway.wire.sse import Parser

TURN = Turn(conversation_id="chat-1", user_message_id="msg_1", message_id="msg_2", user_id="u1")
ASK = ChatRequest(agent="1", message="hi", stream=True)
CONTINUED = replace(ASK, message=None, history=(Message(Role.TOOL, "shipped", call_id="c1"),))
NOBODY = Turn(conversation_id=None, user_message_id=None, message_id=None)

IDS = {
    "userMessageId": "msg_1",
    "conversationId": "chat-1",
    "messageId": "msg_2",
    "userId": "u1",
}
BEGUN = [{"type": "start", "messageId": "msg_2"}, {"type": "start-step"}]

# What `ai` 5.0.0 declares, where an unknown key ends the stream: required, and optional.
_TOOL = frozenset({"providerExecuted", "dynamic"})
CHUNKS: dict[str, tuple[set[str], frozenset[str]]] = {
    "start": (set(), frozenset({"messageId", "messageMetadata"})),
    "start-step": (set(), frozenset()),
    "finish-step": (set(), frozenset()),
    "text-start": ({"id"}, frozenset({"providerMetadata"})),
    "text-delta": ({"id", "delta"}, frozenset({"providerMetadata"})),
    "text-end": ({"id"}, frozenset({"providerMetadata"})),
    "reasoning-start": ({"id"}, frozenset({"providerMetadata"})),
    "reasoning-delta": ({"id", "delta"}, frozenset({"providerMetadata"})),
    "reasoning-end": ({"id"}, frozenset({"providerMetadata"})),
    "tool-input-start": ({"toolCallId", "toolName"}, _TOOL),
    "tool-input-delta": ({"toolCallId", "inputTextDelta"}, frozenset()),
    "tool-input-available": ({"toolCallId", "toolName", "input"}, _TOOL),
    "tool-output-available": ({"toolCallId", "output"}, _TOOL),
    "source-url": ({"sourceId", "url"}, frozenset({"title", "providerMetadata"})),
    "source-document": ({"sourceId", "mediaType", "title"}, frozenset({"filename"})),
    "file": ({"url", "mediaType"}, frozenset({"providerMetadata"})),
    "message-metadata": ({"messageMetadata"}, frozenset()),
    "finish": (set(), frozenset({"messageMetadata"})),
    "error": ({"errorText"}, frozenset()),
}
_ANYTHING = frozenset({"input", "output", "data", "messageMetadata"})


@dataclass
class Client:
    """The rules of the AI SDK's clients: what breaks one is an AssertionError here."""

    open: dict[str, str] = field(default_factory=dict)
    """Parts of text and reasoning by their ids, and of which kind."""
    streaming: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    sources: set[Json] = field(default_factory=set)
    in_step: bool = False
    kinds: list[str] = field(default_factory=list)

    def take(self, chunk: dict[str, Json]) -> None:
        kind = json.text(chunk["type"])
        self._check_keys(kind, chunk)
        self.kinds.append(kind)
        word, _, verb = kind.partition("-")
        if word in ("text", "reasoning"):
            assert self.in_step
            self._take_part(word, verb, json.text(chunk["id"]))
        elif word == "tool":
            assert self.in_step
            self._take_tool(verb, json.text(chunk["toolCallId"]))
        elif word == "source":
            assert chunk["sourceId"] not in self.sources
            self.sources.add(chunk["sourceId"])
        elif kind in ("start-step", "finish-step"):
            assert self.in_step is (kind == "finish-step")
            # `ai` 5 forgets its parts at the end of a step.
            assert not self.open
            self.in_step = kind == "start-step"

    def _check_keys(self, kind: str, chunk: dict[str, Json]) -> None:
        if kind.startswith("data-"):
            required, optional = {"data"}, frozenset({"id", "transient"})
        else:
            required, optional = CHUNKS[kind]
        assert required <= chunk.keys() <= required | optional | {"type"}
        assert [k for k, value in chunk.items() if value is None and k not in _ANYTHING] == []

    def _take_part(self, word: str, verb: str, part: str) -> None:
        if verb == "start":
            assert part not in self.open
            self.open[part] = word
        assert self.open[part] == word
        if verb == "end":
            del self.open[part]

    def _take_tool(self, verb: str, call_id: str) -> None:
        if verb == "input-start":
            self.streaming.add(call_id)
        if verb == "input-delta":
            assert call_id in self.streaming
        if verb == "input-available":
            self.streaming.discard(call_id)
        if verb == "output-available":
            assert call_id in self.calls
        self.calls.add(call_id)


def encoded(*events: Event, turn: Turn = TURN, ask: ChatRequest = ASK) -> list[Json]:
    """The chunks of a turn, which the strictest client has read; `[DONE]` is the text it is."""
    encoder = AI_SDK.encoder(turn, ask)
    body = b"".join(encoder.encode(event) for event in events)
    parser = Parser()
    found = parser.feed(body)
    assert parser.eof() == []
    assert {name for name, _ in found} <= {"message"}
    chunks: list[Json] = ["[DONE]" if d == b"[DONE]" else json.loads(d) for _, d in found]
    client = Client()
    for chunk in chunks:
        if chunk != "[DONE]":
            client.take(json.mapping(chunk))
    return chunks


def finished(reason: str = "stop", **further: Json) -> list[Json]:
    metadata: dict[str, Json] = {**IDS, **further, "finishReason": reason}
    return [{"type": "finish", "messageMetadata": metadata}, "[DONE]"]


# Any sequence of events, those that no upstream sends included.

_ids = st.sampled_from(["a", "b"])
_text = st.sampled_from(["Hi", "\u2028", "注🚀", '"}\n\n'])
_json: st.SearchStrategy[Json] = st.sampled_from([None, {"a": 1}, [], "text", 0])
_name = st.sampled_from(
    ["data-chart", "data-", "file", "message-metadata", "tool-approval-request", "custom"]
)
_fields: dict[str, st.SearchStrategy[Json]] = {
    "id": st.sampled_from(["d1", None, 7]),
    "data": _json,
    "transient": st.sampled_from([True, None, "yes"]),
    "url": st.sampled_from(["https://a.example/x", "javascript:alert(1)", None]),
    "mediaType": st.sampled_from(["image/png", None]),
    "messageMetadata": _json,
}
_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, _text),
    st.builds(ReasoningDelta, _text),
    st.builds(StepStart),
    st.builds(StepFinish),
    st.builds(ToolCallStart, _ids, st.just("order_status")),
    st.builds(ToolCallDelta, _ids, _text),
    st.builds(ToolCall, _ids, st.just("order_status"), _json),
    st.builds(ToolOutput, _ids, _json),
    st.builds(
        Citations,
        st.lists(
            st.builds(
                Citation,
                st.sampled_from([None, "https://a.example"]),
                st.sampled_from([None, "A"]),
                st.sampled_from([None, "It says"]),
            ),
            min_size=1,
            max_size=3,
        ),
    ),
    st.builds(
        Extension,
        st.sampled_from(["ai-sdk", "sonzai"]),
        _name,
        st.fixed_dictionaries({}, optional=_fields),
    ),
    st.builds(Metadata, message_id=st.just("up_1"), usage=st.just(Usage(1, None, 0.5))),
)
_ends: st.SearchStrategy[Event] = st.one_of(
    st.builds(Finish, st.sampled_from(FinishReason)),
    st.just(Failure(ErrorCode.UPSTREAM_FAILED, "the upstream failed")),
)


@given(
    said=st.lists(_events, max_size=30),
    end=_ends,
    turn=st.sampled_from([TURN, NOBODY]),
    ask=st.sampled_from([ASK, CONTINUED]),
)
def test_any_stream_is_legal(said: list[Event], end: Event, turn: Turn, ask: ChatRequest) -> None:
    """Whatever is said and wherever it ends, the strictest client reads it, to one end."""
    chunks = encoded(*said, end, turn=turn, ask=ask)

    kinds = [json.mapping(chunk).get("type") for chunk in chunks]
    word = "finish" if isinstance(end, Finish) else "error"
    assert chunks[-1] == "[DONE]"
    assert kinds[-2] == word
    assert kinds.count("finish") + kinds.count("error") == 1
    assert kinds.count("start") <= 1
    assert kinds.count("start-step") - kinds.count("finish-step") in (0, int(word == "error"))
    assert kinds[0] == "start" or chunks[0] == {"type": "error", "errorText": "the upstream failed"}
    ended = [kind for kind in kinds if kind in ("text-start", "reasoning-start")]
    assert len(ended) == sum(kind in ("text-end", "reasoning-end") for kind in kinds)


# The chunks


def test_text_and_reasoning_are_parts() -> None:
    """Deltas are in parts, one after the other, each with an id of its own."""
    said: list[Event] = [
        ReasoningDelta("Hm. "),
        TextDelta("Your "),
        TextDelta("order"),
        ReasoningDelta("So"),
    ]

    assert encoded(*said, Finish(FinishReason.STOP)) == [
        *BEGUN,
        {"type": "reasoning-start", "id": "reasoning-1"},
        {"type": "reasoning-delta", "id": "reasoning-1", "delta": "Hm. "},
        {"type": "reasoning-end", "id": "reasoning-1"},
        {"type": "text-start", "id": "text-2"},
        {"type": "text-delta", "id": "text-2", "delta": "Your "},
        {"type": "text-delta", "id": "text-2", "delta": "order"},
        {"type": "text-end", "id": "text-2"},
        {"type": "reasoning-start", "id": "reasoning-3"},
        {"type": "reasoning-delta", "id": "reasoning-3", "delta": "So"},
        {"type": "reasoning-end", "id": "reasoning-3"},
        {"type": "finish-step"},
        *finished(),
    ]


def test_a_call_streamed() -> None:
    """A call's arguments come as they are written, then whole; a result of the upstream's own is
    marked, so that no client asks again by itself."""
    said: list[Event] = [
        ToolCallStart("c1", "order_status"),
        ToolCallDelta("c1", '{"order":'),
        ToolCallDelta("c1", "7}"),
        ToolCall("c1", "order_status", {"order": 7}),
        ToolOutput("c1", {"status": "shipped"}),
    ]
    call: dict[str, Json] = {"toolCallId": "c1", "toolName": "order_status"}
    result: dict[str, Json] = {"toolCallId": "c1", "output": {"status": "shipped"}}

    assert encoded(*said, Finish(FinishReason.TOOL_CALLS)) == [
        *BEGUN,
        {"type": "tool-input-start", **call},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"order":'},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": "7}"},
        {"type": "tool-input-available", **call, "input": {"order": 7}},
        {"type": "tool-output-available", **result, "providerExecuted": True},
        {"type": "finish-step"},
        *finished("tool-calls"),
    ]


def test_a_result_of_nothing_is_dropped() -> None:
    """Clients throw at the result of a call they have not seen: it is left out, and counted."""
    encoder = AI_SDK.encoder(TURN, ASK)

    assert encoder.encode(ToolOutput("c1", 1)) == b""
    assert encoder.dropped == {"ToolOutput": 1}


def test_steps_are_the_upstreams() -> None:
    """An upstream's steps are kept; where it has none, there is one."""
    said: list[Event] = [
        StepStart(),
        TextDelta("a"),
        StepFinish(),
        StepStart(),
        TextDelta("b"),
        StepFinish(),
    ]
    chunks = encoded(*said, Finish(FinishReason.STOP))

    kinds = [json.mapping(chunk).get("type") for chunk in chunks]
    step = ["start-step", "text-start", "text-delta", "text-end", "finish-step"]
    assert kinds == ["start", *step, *step, "finish", None]


def test_sources() -> None:
    """A page by its URL, a document by its title; their ids are those of this turn alone."""
    items = [
        Citation("https://a.example", "A", None),
        Citation("https://b.example"),
        Citation(None, "Terms"),
    ]
    document = {"mediaType": "application/octet-stream", "title": "Terms"}

    assert encoded(Citations(items))[2:] == [
        {"type": "source-url", "sourceId": "msg_2-1", "url": "https://a.example", "title": "A"},
        {"type": "source-url", "sourceId": "msg_2-2", "url": "https://b.example"},
        {"type": "source-document", "sourceId": "msg_2-3", **document},
    ]


def test_extensions_that_all_releases_know() -> None:
    """Data and files pass, with the fields that all releases know; the rest is counted."""
    chart: Json = {"id": "d1", "data": {"points": [1]}, "transient": True, "title": "new in 9"}
    said = [
        Extension("ai-sdk", "data-chart", chart),
        Extension("ai-sdk", "data-null", {}),
        Extension("ai-sdk", "file", {"url": "https://a.example/a", "mediaType": "image/png"}),
    ]

    assert encoded(*said)[1:] == [
        {"type": "data-chart", "data": {"points": [1]}, "id": "d1", "transient": True},
        {"type": "data-null", "data": None},
        {"type": "file", "url": "https://a.example/a", "mediaType": "image/png"},
    ]


@pytest.mark.parametrize(
    "event",
    [
        Extension("ai-sdk", "tool-approval-request", {"approvalId": "a", "toolCallId": "c"}),
        Extension("ai-sdk", "reset-step", {}),
        Extension("ai-sdk", "message-metadata", {}),
        Extension("ai-sdk", "message-metadata", {"messageMetadata": "calm"}),
        Extension("ai-sdk", "file", {"mediaType": "image/png"}),
        Extension("ai-sdk", "file", {"url": "javascript:alert(1)", "mediaType": "image/png"}),
        Extension("ai-sdk", "file", {"url": "data:text/html,<script>", "mediaType": "text/html"}),
        Extension("ai-sdk", "file", {"url": "data:image/svg+xml,<svg>", "mediaType": "image/png"}),
        Extension("sonzai", "data-chart", {"data": 1}),
    ],
)
def test_extensions_that_would_break_clients(event: Extension) -> None:
    """What only later releases know ends the stream of the others, and a page may run some URLs."""
    encoder = AI_SDK.encoder(TURN, ASK)

    assert encoder.encode(event) == b""
    assert encoder.dropped == {"Extension": 1}


def test_the_upstreams_own_metadata() -> None:
    """What an application has of its own in a message's metadata passes."""
    mood: Json = {"messageMetadata": {"mood": "calm"}}

    assert encoded(Extension("ai-sdk", "message-metadata", mood))[1:] == [
        {"type": "message-metadata", "messageMetadata": {"mood": "calm"}}
    ]


def test_an_extension_does_not_cut_the_text() -> None:
    """Data that comes in the middle of a word stands beside its text."""
    said: list[Event] = [TextDelta("or"), Extension("ai-sdk", "data-x", {}), TextDelta("der")]

    assert encoded(*said)[3:] == [
        {"type": "text-delta", "id": "text-1", "delta": "or"},
        {"type": "data-x", "data": None},
        {"type": "text-delta", "id": "text-1", "delta": "der"},
    ]


def test_usage() -> None:
    """What the turn cost is in the message's metadata, each figure under its own name."""
    usage = Metadata(message_id="up_1", usage=Usage(input_tokens=3, credits=1))

    assert encoded(usage, Finish(FinishReason.LENGTH)) == [
        {"type": "start", "messageId": "msg_2"},
        *finished("length", usage={"inputTokens": 3, "credits": 1}),
    ]


def test_the_upstreams_own_ids() -> None:
    """A turn that only passes through is told of by the upstream's ids, where it names them."""
    known = Metadata(conversation_id="9", message_id="up_1")
    identity: Json = {"conversationId": "9", "messageId": "up_1", "finishReason": "other"}

    chunks = encoded(known, Finish(FinishReason.OTHER), turn=NOBODY)
    assert chunks[0] == {"type": "start", "messageId": "up_1"}
    assert chunks[1] == {"type": "finish", "messageMetadata": identity}
    assert encoded(Finish(FinishReason.OTHER), turn=NOBODY)[0] == {"type": "start"}


def test_a_continued_message_keeps_its_id() -> None:
    """What follows the results of tools continues the client's message: another id doubles it."""
    assert encoded(TextDelta("Hi"), ask=CONTINUED)[0] == {"type": "start"}


def test_a_failure_closes_what_is_open() -> None:
    """The text that came is complete, and the error is the last that is said."""
    failure = Failure(ErrorCode.UPSTREAM_TRUNCATED, "the upstream ended the stream early")

    assert encoded(TextDelta("Hi"), failure)[2:] == [
        {"type": "text-start", "id": "text-1"},
        {"type": "text-delta", "id": "text-1", "delta": "Hi"},
        {"type": "text-end", "id": "text-1"},
        {"type": "error", "errorText": "the upstream ended the stream early"},
        "[DONE]",
    ]


# Beside the stream

ERRORS: dict[tuple[int, str], set[ErrorCode]] = {
    (400, "Bad request"): {
        ErrorCode.INVALID_BODY,
        ErrorCode.INVALID_JSON,
        ErrorCode.MESSAGE_NOT_ASSISTANT,
        ErrorCode.RETRY_NO_USER_MESSAGE,
        ErrorCode.UPSTREAM_REJECTED,
    },
    (401, "Unauthorized"): {
        ErrorCode.KEY_MISSING,
        ErrorCode.KEY_INVALID,
        ErrorCode.KEY_EXPIRED,
    },
    (402, "No credits remaining"): {ErrorCode.UPSTREAM_CREDITS},
    (403, "Forbidden"): {ErrorCode.FORBIDDEN, ErrorCode.MODEL_NOT_ALLOWED},
    (404, "Agent not found"): {ErrorCode.AGENT_NOT_FOUND},
    (404, "Tool call not found"): {ErrorCode.TOOL_CALL_NOT_FOUND},
    (404, "Not found"): {
        ErrorCode.CONVERSATION_NOT_FOUND,
        ErrorCode.MESSAGE_NOT_FOUND,
        ErrorCode.PATH_NOT_FOUND,
        ErrorCode.RETRY_MESSAGE_NOT_FOUND,
    },
    (405, "Method not allowed"): {ErrorCode.METHOD_NOT_ALLOWED},
    (409, "Conversation busy"): {ErrorCode.CONVERSATION_BUSY, ErrorCode.REQUEST_RUNNING},
    (413, "Body too large"): {ErrorCode.BODY_TOO_LARGE},
    (415, "Unsupported media type"): {ErrorCode.UNSUPPORTED_MEDIA_TYPE},
    (429, "Too many requests"): {ErrorCode.RATE_LIMITED, ErrorCode.UPSTREAM_RATE_LIMITED},
    (500, "Internal server error"): {ErrorCode.INTERNAL},
    (502, "Upstream error"): {
        ErrorCode.UPSTREAM_REFUSED,
        ErrorCode.UPSTREAM_FAILED,
        ErrorCode.UPSTREAM_MALFORMED,
        ErrorCode.UPSTREAM_OVERSIZED,
        ErrorCode.UPSTREAM_TRUNCATED,
    },
    (503, "Service unavailable"): {
        ErrorCode.UPSTREAM_UNREACHABLE,
        ErrorCode.UPSTREAM_DOWN,
        ErrorCode.UPSTREAM_BUSY,
        ErrorCode.UNAVAILABLE,
        ErrorCode.RESTARTING,
    },
    (504, "Upstream timeout"): {
        ErrorCode.CONNECT_TIMEOUT,
        ErrorCode.FIRST_EVENT_TIMEOUT,
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.TOTAL_TIMEOUT,
    },
}


@pytest.mark.parametrize("code", ErrorCode)
def test_errors_are_plain_text(code: ErrorCode) -> None:
    """Every code has its status and its words, which are the body."""
    answer = AI_SDK.error(GatewayError(code, "the order must be a number"))

    words = answer.body.decode()
    assert code in ERRORS[answer.status, words]
    assert answer.content_type == "text/plain"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("Bearer pk_1:oc_live_k", "Bearer oc_live_k"),
        ("bearer  anything at all:oc_test_k", "bearer oc_test_k"),
        ("Bearer :oc_live_k", "Bearer oc_live_k"),
        ("Bearer oc_live_k", "Bearer oc_live_k"),
        ("Bearer oc_live_a:oc_live_b", "Bearer oc_live_b"),
        ("Bearer oc_live_a:b", "Bearer oc_live_a:b"),
        ("Bearer pk_1:sk_1", "Bearer pk_1:sk_1"),
        ("Bearer pk_1:", "Bearer pk_1:"),
        ("Basic pk_1:oc_live_k", "Basic pk_1:oc_live_k"),
        ("", ""),
    ],
)
def test_the_key_is_the_secret_of_a_pair(sent: str, meant: str) -> None:
    """`pk_...:oc_...` is the key behind the colon; what is no such pair stays as it is."""
    assert AI_SDK.credential is not None
    assert AI_SDK.credential(sent) == meant


def test_headers() -> None:
    """The answer says which protocol it is in."""
    assert AI_SDK.headers is not None
    assert AI_SDK.headers(TURN, ASK) == {"x-vercel-ai-ui-message-stream": "v1"}
