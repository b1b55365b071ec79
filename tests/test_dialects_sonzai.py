"""Sonzai's dialect: requests, chunks and errors."""

import pytest

from gateway.core.codec import ErrorAnswer, Target
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
from gateway.core.turn import ChatRequest, Message, Tool, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.sonzai import SONZAI
from gateway.upstreams import UPSTREAMS
from gateway.wire import json
from tests import sonzai_client
from tests.golden_cases import Case, cases, decoded, encoded
from tests.sonzai_client import Kind

TURN = Turn(conversation_id="sess_1", user_message_id="msg_1", message_id="msg_2", user_id="u")
ASK = ChatRequest(agent="luna", message="hi", stream=True)

HI: Json = {"role": "user", "content": "hi"}
STOP = Finish(FinishReason.STOP)

# All line ends of `str.splitlines`, which httpx splits a stream at.
LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\u0085\u2028\u2029"

STATUSES: dict[int, set[ErrorCode]] = {
    400: {
        ErrorCode.INVALID_BODY,
        ErrorCode.INVALID_JSON,
        ErrorCode.MESSAGE_NOT_ASSISTANT,
        ErrorCode.RETRY_NO_USER_MESSAGE,
        ErrorCode.UPSTREAM_REJECTED,
    },
    401: {ErrorCode.KEY_MISSING, ErrorCode.KEY_INVALID, ErrorCode.KEY_EXPIRED},
    402: {ErrorCode.UPSTREAM_CREDITS},
    403: {ErrorCode.FORBIDDEN, ErrorCode.MODEL_NOT_ALLOWED},
    404: {
        ErrorCode.AGENT_NOT_FOUND,
        ErrorCode.CONVERSATION_NOT_FOUND,
        ErrorCode.MESSAGE_NOT_FOUND,
        ErrorCode.RETRY_MESSAGE_NOT_FOUND,
        ErrorCode.TOOL_CALL_NOT_FOUND,
        ErrorCode.PATH_NOT_FOUND,
    },
    405: {ErrorCode.METHOD_NOT_ALLOWED},
    409: {ErrorCode.CONVERSATION_BUSY, ErrorCode.REQUEST_RUNNING},
    413: {ErrorCode.BODY_TOO_LARGE},
    415: {ErrorCode.UNSUPPORTED_MEDIA_TYPE},
    429: {ErrorCode.RATE_LIMITED, ErrorCode.UPSTREAM_RATE_LIMITED},
    500: {ErrorCode.INTERNAL},
    502: {
        ErrorCode.UPSTREAM_REFUSED,
        ErrorCode.UPSTREAM_FAILED,
        ErrorCode.UPSTREAM_MALFORMED,
        ErrorCode.UPSTREAM_OVERSIZED,
        ErrorCode.UPSTREAM_TRUNCATED,
    },
    503: {
        ErrorCode.UPSTREAM_UNREACHABLE,
        ErrorCode.UPSTREAM_DOWN,
        ErrorCode.UPSTREAM_BUSY,
        ErrorCode.UNAVAILABLE,
        ErrorCode.RESTARTING,
    },
    504: {
        ErrorCode.CONNECT_TIMEOUT,
        ErrorCode.FIRST_EVENT_TIMEOUT,
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.TOTAL_TIMEOUT,
    },
}


def ask(body: Json, agent: str | None = "luna") -> ChatRequest:
    return SONZAI.decode(body, agent, {})


def asked(**further: Json) -> ChatRequest:
    return ask({"messages": [HI], **further})


def complaints(body: Json) -> dict[str, str]:
    """What is wrong with a request, by field."""
    with pytest.raises(GatewayError) as caught:
        ask(body)
    assert caught.value.code is ErrorCode.INVALID_BODY
    return caught.value.details or {}


def chunks(*events: Event) -> list[dict[str, Json]]:
    """A turn as Sonzai's client reads it."""
    return [chunk.said for chunk in sonzai_client.read(stream(*events))]


def stream(*events: Event) -> bytes:
    encoder = SONZAI.encoder(TURN, ASK)
    return b"".join(encoder.encode(event) for event in events)


def dropped(*events: Event) -> dict[str, int]:
    encoder = SONZAI.encoder(TURN, ASK)
    for event in events:
        encoder.encode(event)
    return dict(encoder.dropped)


def error(error: GatewayError) -> tuple[ErrorAnswer, dict[str, Json]]:
    answer = SONZAI.error(error)
    return answer, json.mapping(json.loads(answer.body))


# Requests


def test_the_least_request() -> None:
    """The agent comes with the path; one message of the user is enough."""
    assert ask({"messages": [HI]}) == ChatRequest(agent="luna", message="hi", stream=True)


def test_the_whole_conversation() -> None:
    """The last message is the question, those before are the history, in their order and roles."""
    request = ask(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": ""},
                HI,
            ]
        }
    )

    assert request.message == "hi"
    assert request.history == (
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, "Hello"),
        Message(Role.ASSISTANT, ""),
    )


def test_ids_and_model() -> None:
    """User, session and model are the client's; a user may be called anything."""
    request = asked(user_id="ann@acme.example", session_id="sess 1", model="gpt-4o")

    assert request.user_id == "ann@acme.example"
    assert (request.session_id, request.model) == ("sess 1", "gpt-4o")


def test_empty_means_none() -> None:
    """Sonzai takes an empty id for none, and so do we."""
    assert asked(user_id="", session_id="", model="") == asked()
    assert asked(user_id=None, session_id=None, model=None, temperature=None) == asked()


@pytest.mark.parametrize("temperature", [0, 0.0, 1.5])
def test_temperature(temperature: float) -> None:
    """The temperature goes to the target, also 0."""
    assert asked(temperature=temperature).params == {"temperature": temperature}


def test_what_targets_do_not_know() -> None:
    """Fields that only Sonzai's service knows are not handed to others."""
    request = asked(
        language="en",
        timezone="UTC",
        compiled_system_prompt="You are a pirate.",
        game_context={"level": 3},
        max_turns=2,
        stream=False,
        provider="gemini",
    )

    assert request == asked()


@pytest.mark.parametrize(
    "definition",
    [
        {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object"}},
        {
            "type": "function",
            "function": {
                "name": "look_up",
                "description": "Looks up.",
                "parameters": {"type": "object"},
            },
        },
    ],
    ids=["as Sonzai", "as OpenAI"],
)
def test_tools(definition: Json) -> None:
    """Tools may be defined in Sonzai's form, or in OpenAI's."""
    tools = asked(tool_definitions=[definition]).tools

    assert tools == (Tool("look_up", "Looks up.", {"type": "object"}),)


def test_the_least_tool() -> None:
    """A tool is a name; without parameters it takes an empty object."""
    tools = asked(tool_definitions=[{"name": "ping"}]).tools

    assert tools == (Tool("ping", "", {"type": "object", "properties": {}}),)
    assert asked(tool_definitions=None).tools == asked(tool_definitions=[]).tools == ()


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [HI, {"role": "tool", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [HI, {"role": "assistant", "content": "Hello"}]}, "messages"),
        ({"messages": [HI], "user_id": 7}, "user_id"),
        ({"messages": [HI], "user_id": "u" * 513}, "user_id"),
        ({"messages": [HI], "session_id": "a\r\nSet-Cookie: b"}, "session_id"),
        ({"messages": [HI], "session_id": "注文"}, "session_id"),
        ({"messages": [HI], "session_id": " a"}, "session_id"),
        ({"messages": [HI], "session_id": "s" * 513}, "session_id"),
        ({"messages": [HI], "session_id": 7}, "session_id"),
        ({"messages": [HI], "temperature": "hot"}, "temperature"),
        ({"messages": [HI], "temperature": True}, "temperature"),
        ({"messages": [HI], "tool_definitions": {}}, "tool_definitions"),
        ({"messages": [HI], "tool_definitions": [{"name": ""}]}, "tool_definitions[0]"),
        (
            {"messages": [HI], "tool_definitions": [{"name": "a", "parameters": []}]},
            "tool_definitions[0]",
        ),
    ],
)
def test_wrong_requests(body: Json, where: str) -> None:
    """What is wrong is named by its place in the body."""
    assert list(complaints(body)) == [where]


def test_every_complaint_at_once() -> None:
    """Fields are complained of together, but of a list only the first item that is wrong: there
    may be thousands."""
    wrong: Json = {"messages": [{}] * 1000, "user_id": 7, "temperature": "hot"}

    assert set(complaints(wrong)) == {
        "messages[0].role",
        "messages[0].content",
        "user_id",
        "temperature",
    }


@pytest.mark.parametrize("body", [None, [], "hi", 7])
def test_no_object(body: Json) -> None:
    """A body that is no object is refused."""
    assert complaints(body) == {}


# Chunks


def test_a_turn() -> None:
    """Deltas, a last chunk with the reason, `[DONE]`."""
    assert stream(TextDelta("Hi "), TextDelta("there"), STOP) == (
        b'data: {"choices":[{"delta":{"content":"Hi "},"index":0}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"there"},"index":0}]}\n\n'
        b'data: {"choices":[{"delta":{},"finish_reason":"stop","index":0}]}\n\n'
        b"data: [DONE]\n\n"
    )


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (FinishReason.STOP, "stop"),
        (FinishReason.LENGTH, "length"),
        (FinishReason.TOOL_CALLS, "tool_calls"),
        (FinishReason.CONTENT_FILTER, "content_filter"),
        (FinishReason.OTHER, "stop"),
    ],
)
def test_reasons(reason: FinishReason, word: str) -> None:
    """A reason is never empty: by that clients know the last chunk."""
    [chunk] = chunks(Finish(reason))

    assert chunk["choices"] == [{"delta": {}, "finish_reason": word, "index": 0}]


def test_every_line_end_is_escaped() -> None:
    """Clients split a stream at line ends that SSE does not know: none of them is in a frame."""
    text = f"a{'b'.join(LINE_ENDS)}c"
    effects = Extension("sonzai", "side_effects", {"data": {text: text}})
    call = ToolCall(text, text, {text: text})
    body = stream(TextDelta(text), effects, call, STOP)

    assert body.decode().splitlines() == body.decode().split("\n")[:-1]
    read = sonzai_client.read(body)
    assert sonzai_client.text(read) == text
    assert read[1].said["data"] == {text: text}
    [said] = read[2].said["side_effects"]["externalToolCalls"]
    assert said["name"] == text


def test_a_failure() -> None:
    """An error chunk, and `[DONE]` all the same."""
    failure = Failure(ErrorCode.UPSTREAM_FAILED, "the upstream failed")

    assert stream(TextDelta("Hi"), failure).endswith(
        b'data: {"error":{"message":"the upstream failed"}}\n\ndata: [DONE]\n\n'
    )
    [_, read] = sonzai_client.read(stream(TextDelta("Hi"), failure))
    assert read.kind is Kind.ERROR


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("context_ready", {"build_duration_ms": 4, "used_fast_path": True}, Kind.CONTEXT),
        ("context_ready", {"enriched_context": {"facts": [1]}}, Kind.CONTEXT),
        ("phase", {"phase": "tool_call", "tool": "sonzai_inventory"}, Kind.PHASE),
        ("message_boundary", {"message_index": 1}, Kind.BOUNDARY),
        ("side_effects", {"data": {"facts": []}}, Kind.SIDE_EFFECTS),
        ("side_effects", {"data": None}, Kind.SIDE_EFFECTS),
        ("brand_new", {"data": [1]}, Kind.DELTA),
    ],
)
def test_sonzais_own(name: str, data: dict[str, Json], kind: Kind) -> None:
    """What only Sonzai says comes out as it came in."""
    first, _ = sonzai_client.read(stream(Extension("sonzai", name, data), STOP))

    assert first.said == {"type": name, **data}
    assert first.kind is kind


@pytest.mark.parametrize(
    "data",
    [
        {"phase": None},
        {"phase": 7},
        {"build_duration_ms": 1.5},
        {"message_index": True},
        {"used_fast_path": 1},
        {"replacement": True, "choices": [], "error": {}, "usage": {}},
        "no object",
    ],
)
def test_what_the_sdk_would_refuse(data: Json) -> None:
    """Fields that the schema does not know, or of another type than its, stay out."""
    [first, _] = chunks(Extension("sonzai", "phase", data), STOP)

    assert first == {"type": "phase"}


def test_side_effects_of_the_last_chunk() -> None:
    """They come with it, whenever they were said; the latest hold."""
    said = [Extension("sonzai", "", {"side_effects": {"facts": n}}) for n in (1, 2)]
    [_, last] = chunks(said[0], TextDelta("Hi"), said[1], STOP)

    assert last["side_effects"] == {"facts": 2}


def test_tool_calls() -> None:
    """Calls are side effects of the last chunk, with their arguments under both their names."""
    effects = Extension("sonzai", "", {"side_effects": {"facts": [1]}})
    calls = [ToolCall("call_1", "look_up", {"n": 1}), ToolCall("call_2", "ping", {})]
    [last] = chunks(*calls, effects, Finish(FinishReason.TOOL_CALLS))

    assert last["side_effects"] == {
        "facts": [1],
        "externalToolCalls": [
            {"id": "call_1", "name": "look_up", "parameters": {"n": 1}, "arguments": {"n": 1}},
            {"id": "call_2", "name": "ping", "parameters": {}, "arguments": {}},
        ],
    }


def test_side_effects_that_are_no_object() -> None:
    """They are kept as they are, unless there are calls to tell of."""
    effects = Extension("sonzai", "", {"side_effects": ["facts"]})

    assert chunks(effects, STOP)[0]["side_effects"] == ["facts"]
    [last] = chunks(effects, ToolCall("call_1", "ping", {}), STOP)
    assert list(json.mapping(last["side_effects"])) == ["externalToolCalls"]


def test_what_has_no_words() -> None:
    """What the schema has no place for is counted, usage among it, once in a turn."""
    usage = Metadata(usage=Usage(3, 4))

    assert dropped(
        StepStart(),
        ReasoningDelta("Well"),
        Citations([Citation("https://acme.example")]),
        ToolCallStart("call_1", "ping"),
        ToolCallDelta("call_1", "{}"),
        ToolCall("call_1", "ping", {}),
        ToolOutput("call_1", 7),
        Extension("ai-sdk", "data-chart", {}),
        StepFinish(),
        Metadata(conversation_id="c"),
        usage,
        usage,
        STOP,
    ) == {"ReasoningDelta": 1, "Citations": 1, "ToolOutput": 1, "Extension": 1, "Metadata": 1}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_its_client_reads_every_answer(case: Case) -> None:
    """Whatever an upstream sends, Sonzai's client reads it to its end, and all of the text."""
    events = case.decoded([case.data])
    read = sonzai_client.read(encoded("sonzai", events))

    said = "".join(event.text for event in events if type(event) is TextDelta)
    assert sonzai_client.text(read) == said
    assert (read[-1].kind is Kind.ERROR) == (type(events[-1]) is Failure)


def test_there_and_back() -> None:
    """What the dialect says, the upstream of the same family reads as what it was."""
    events: list[Event] = [
        Extension("sonzai", "context_ready", {"build_duration_ms": 4}),
        StepStart(),
        Extension("sonzai", "message_boundary", {"message_index": 0}),
        TextDelta("Hi"),
        Extension("sonzai", "side_effects", {"data": {"facts": [1]}}),
        Extension("sonzai", "", {"side_effects": {"goals": []}}),
        ToolCall("call_1", "look_up", {"n": 1}),
        StepFinish(),
        Finish(FinishReason.TOOL_CALLS),
    ]

    assert decoded(UPSTREAMS["sonzai"].decoder(Target(upstream="t")), [stream(*events)]) == events


# Answers around the stream


def test_session_header() -> None:
    """The answer names its session."""
    assert SONZAI.headers is not None
    assert SONZAI.headers(TURN, ASK) == {"X-Session-ID": "sess_1"}
    nameless = Turn(conversation_id=None, user_message_id=None, message_id=None)
    assert SONZAI.headers(nameless, ASK) == {}


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error(code: ErrorCode) -> None:
    """Each error has its status, and is a problem document that says it again in the words that
    the SDKs read."""
    answer, body = error(GatewayError(code, "no good"))

    assert code in STATUSES[answer.status]
    assert answer.content_type == "application/problem+json"
    assert (body["type"], body["status"]) == ("about:blank", answer.status)
    assert body["title"]
    assert body["detail"] == body["message"] == body["error"] == "no good"
    assert "errors" not in body


def test_complaints_by_field() -> None:
    """A wrong request is told by field, in the form of the vendor and in that of its SDK, which
    takes the body for nothing where `field` is missing."""
    wrong = GatewayError(ErrorCode.INVALID_BODY, "bad", details={"messages": "is required"})
    _, body = error(wrong)

    assert body["errors"] == [
        {"location": "body.messages", "message": "is required", "field": "messages"}
    ]


def test_registered() -> None:
    """The dialect is served, to stateless clients, as streams only."""
    assert DIALECTS["sonzai"] is SONZAI
    assert SONZAI.stateless
    assert SONZAI.reply is None
