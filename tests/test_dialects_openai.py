"""OpenAI: requests, chunks, whole answers, models and errors."""

import pytest
from msgspec.structs import replace

from gateway.core.codec import Target
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
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolOutput,
    Usage,
)
from gateway.core.turn import ChatRequest, Message, Reply, Tool, Turn
from gateway.dialects import openai_models
from gateway.dialects.openai import OPENAI
from gateway.upstreams import UPSTREAMS
from gateway.wire import json
from gateway.wire.sse import Parser

TURN = Turn(conversation_id="456", user_message_id="msg_788", message_id="msg_789", created=17)
TOOL = Tool("order_status", "Look an order up.", {"type": "object", "properties": {}})
ASK = ChatRequest(agent="Support", message="hi", stream=True, tools=(TOOL,))
QUIET = replace(ASK, include_usage=False)
STOP = Finish(FinishReason.STOP)

HELLO: Json = {"role": "user", "content": "hi"}

ERRORS: dict[tuple[int, str, str | None], set[ErrorCode]] = {
    (400, "invalid_request_error", None): {
        ErrorCode.INVALID_BODY,
        ErrorCode.INVALID_JSON,
        ErrorCode.MESSAGE_NOT_ASSISTANT,
        ErrorCode.RETRY_NO_USER_MESSAGE,
        ErrorCode.TOOL_CALL_NOT_FOUND,
        ErrorCode.UPSTREAM_REJECTED,
    },
    (401, "invalid_request_error", "missing_api_key"): {ErrorCode.KEY_MISSING},
    (401, "invalid_request_error", "invalid_api_key"): {
        ErrorCode.KEY_INVALID,
        ErrorCode.KEY_EXPIRED,
    },
    (403, "invalid_request_error", "permission_denied"): {
        ErrorCode.FORBIDDEN,
        ErrorCode.MODEL_NOT_ALLOWED,
    },
    (404, "invalid_request_error", "model_not_found"): {ErrorCode.AGENT_NOT_FOUND},
    (404, "invalid_request_error", None): {
        ErrorCode.CONVERSATION_NOT_FOUND,
        ErrorCode.MESSAGE_NOT_FOUND,
        ErrorCode.RETRY_MESSAGE_NOT_FOUND,
        ErrorCode.PATH_NOT_FOUND,
    },
    (405, "invalid_request_error", None): {ErrorCode.METHOD_NOT_ALLOWED},
    (409, "invalid_request_error", None): {
        ErrorCode.CONVERSATION_BUSY,
        ErrorCode.REQUEST_RUNNING,
    },
    (413, "invalid_request_error", None): {ErrorCode.BODY_TOO_LARGE},
    (415, "invalid_request_error", None): {ErrorCode.UNSUPPORTED_MEDIA_TYPE},
    (429, "rate_limit_exceeded", "rate_limit_exceeded"): {
        ErrorCode.RATE_LIMITED,
        ErrorCode.UPSTREAM_RATE_LIMITED,
    },
    (429, "insufficient_quota", "insufficient_quota"): {ErrorCode.UPSTREAM_CREDITS},
    (500, "server_error", None): {ErrorCode.INTERNAL},
    (502, "server_error", "upstream_error"): {
        ErrorCode.UPSTREAM_REFUSED,
        ErrorCode.UPSTREAM_FAILED,
        ErrorCode.UPSTREAM_MALFORMED,
        ErrorCode.UPSTREAM_OVERSIZED,
        ErrorCode.UPSTREAM_TRUNCATED,
    },
    (503, "server_error", "unavailable"): {
        ErrorCode.UPSTREAM_UNREACHABLE,
        ErrorCode.UPSTREAM_DOWN,
        ErrorCode.UPSTREAM_BUSY,
        ErrorCode.UNAVAILABLE,
        ErrorCode.RESTARTING,
    },
    (504, "server_error", "upstream_timeout"): {
        ErrorCode.CONNECT_TIMEOUT,
        ErrorCode.FIRST_EVENT_TIMEOUT,
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.TOTAL_TIMEOUT,
    },
}


def decode(**body: Json) -> ChatRequest:
    return OPENAI.decode({"model": "Support", "messages": [HELLO], **body}, None, {})


def told(*messages: Json) -> ChatRequest:
    return decode(messages=list(messages))


def refused(**body: Json) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        decode(**body)
    assert caught.value.code is ErrorCode.INVALID_BODY
    return caught.value


def stream(*events: Event, ask: ChatRequest = ASK) -> bytes:
    encoder = OPENAI.encoder(TURN, ask)
    return b"".join(map(encoder.encode, events))


def chunks(*events: Event, ask: ChatRequest = ASK) -> list[dict[str, Json]]:
    """The chunks of a stream, which ends with `[DONE]`."""
    parser = Parser(max_event=1 << 20)
    *frames, (_, done) = parser.feed(stream(*events, ask=ask))
    assert done == b"[DONE]"
    assert {name for name, _ in frames} == {"message"}
    return [json.mapping(json.loads(data)) for _, data in frames]


def choice(chunk: dict[str, Json]) -> dict[str, Json]:
    (found,) = json.array(chunk["choices"])
    return json.mapping(found)


def deltas(*events: Event, ask: ChatRequest = QUIET) -> list[Json]:
    """What the chunks say between the one with the role and the one with the reason."""
    said = [choice(chunk)["delta"] for chunk in chunks(*events, ask=ask)]
    assert said[0] == {"role": "assistant", "content": "", "refusal": None}
    assert said[-1] == {}
    return said[1:-1]


def whole(*events: Event, ask: ChatRequest = ASK) -> dict[str, Json]:
    reply = Reply()
    reply.extend(events)
    assert OPENAI.reply is not None
    return json.mapping(json.loads(OPENAI.reply(TURN, ask, reply.folded())))


def called(**more: Json) -> Json:
    function: Json = {"name": "order_status", "arguments": '{"order": 7}'}
    made: Json = [{"id": "call_1", "type": "function", "function": function, **more}]
    return {"role": "assistant", "content": None, "tool_calls": made}


# Requests


def test_the_least_request() -> None:
    """A model and a message are enough; no stream, and no usage in one, unless asked for."""
    assert decode() == ChatRequest(
        agent="Support", message="hi", stream=False, include_usage=False, params={}
    )


def test_history() -> None:
    """What stands before the last message of the user's is history, whatever its roles."""
    ask = told(
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Where is 7?"},
        called(),
        {"role": "tool", "tool_call_id": "call_1", "content": "shipped"},
        {"role": "assistant", "content": "It shipped."},
        HELLO,
    )
    assert ask.message == "hi"
    assert ask.history == (
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.SYSTEM, "Be kind."),
        Message(Role.USER, "Where is 7?"),
        Message(Role.ASSISTANT, "", (ToolCall("call_1", "order_status", {"order": 7}),)),
        Message(Role.TOOL, "shipped", call_id="call_1"),
        Message(Role.ASSISTANT, "It shipped."),
    )


def test_a_tools_result_is_last() -> None:
    """Then there is no new message: the history says all."""
    result: Json = {"role": "tool", "tool_call_id": "call_1", "content": "shipped"}
    ask = told(HELLO, called(), result)
    assert ask.message is None
    assert [message.role for message in ask.history] == [Role.USER, Role.ASSISTANT, Role.TOOL]


def test_parts() -> None:
    """Parts that are all text are text, a line each; anything else keeps the parts as they came."""
    text: list[Json] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    image: Json = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    assert told({"role": "user", "content": text}).message == "a\nb"
    ask = told({"role": "user", "content": [*text, image]})
    assert ask.message is None
    assert ask.history == (Message(Role.USER, "a\nb", content=[*text, image]),)


@pytest.mark.parametrize(
    "said",
    [
        {"role": "assistant", "content": None, "refusal": "I cannot."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]},
        {"role": "assistant", "refusal": "I cannot."},
    ],
)
def test_a_refusal_is_what_the_assistant_said(said: Json) -> None:
    """Whichever way a client writes it."""
    assert told(said, HELLO).history == (Message(Role.ASSISTANT, "I cannot."),)


def test_instructions_alone_are_asked() -> None:
    """Hosted agents get no instructions of others, and would be asked nothing."""
    ask = told({"role": "system", "content": "Be brief."}, {"role": "system", "content": "Joke."})
    assert (ask.message, ask.history) == ("Joke.", (Message(Role.SYSTEM, "Be brief."),))


@pytest.mark.parametrize("arguments", ["", "{oops", '"text"', "[1]", "null"])
def test_arguments_that_are_no_object(arguments: str) -> None:
    """They stay the text that the model wrote."""
    made = told(HELLO, called(function={"name": "f", "arguments": arguments}), HELLO)
    assert made.history[1].tool_calls == (ToolCall("call_1", "f", arguments),)


@pytest.mark.parametrize(("said", "meant"), [({"order": 7}, {"order": 7}), (None, {})])
def test_arguments_that_are_no_text(said: Json, meant: Json) -> None:
    """Some libraries keep them as an object, or not at all."""
    made = told(HELLO, called(function={"name": "f", "arguments": said}), HELLO)
    assert made.history[1].tool_calls == (ToolCall("call_1", "f", meant),)


def test_what_an_upstream_wants_back() -> None:
    """Gemini's signature goes through the client and back."""
    extra: Json = {"google": {"thought_signature": "c2ln"}}
    (call,) = told(HELLO, called(extra_content=extra), HELLO).history[1].tool_calls
    assert call.echo == extra


def test_tools() -> None:
    """The client's own, with what is not said left to the upstream."""
    function: Json = {"name": "f", "description": "Does f.", "parameters": {"a": 1}, "strict": True}
    tools: Json = [
        {"type": "function", "function": function},
        {"type": "function", "function": {"name": "g"}},
    ]
    assert decode(tools=tools).tools == (
        Tool("f", "Does f.", {"a": 1}, strict=True),
        Tool("g", "", {"type": "object", "properties": {}}),
    )
    assert decode(tools=[]).tools == ()


def test_parameters() -> None:
    """What is documented and can be honoured goes on as it stands, and nothing else."""
    wanted: dict[str, Json] = {
        "temperature": 0,
        "response_format": {"type": "json_object"},
        "tool_choice": "none",
        "stop": ["\n"],
    }
    ignored: dict[str, Json] = {
        "seed": None,
        "logprobs": True,
        "modalities": ["audio"],
        "api_key": "sk-1",
        "conversation_id": "7",
        "n": 1,
    }
    assert decode(**wanted, **ignored).params == wanted


def test_the_user() -> None:
    """An id of a user where it can be one here, else no more than a parameter."""
    assert (decode(user="u_1").user_id, decode(user="u_1").params) == ("u_1", {})
    odd = decode(user="Ann <ann@example.com>")
    assert (odd.user_id, odd.params) == (None, {"user": "Ann <ann@example.com>"})


def test_options() -> None:
    """A stream tells the usage to those who ask for it."""
    ask = decode(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
    assert (ask.stream, ask.include_usage) == (True, True)
    assert not decode(stream=True, stream_options={}).include_usage


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [HELLO, "hi"]}, "messages[1].role"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [HELLO, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        (
            {"messages": [HELLO, {"role": "assistant", "tool_calls": [{"id": "x"}]}]},
            "messages[1].tool_calls",
        ),
        (
            {"messages": [HELLO, {"role": "assistant", "tool_calls": {}}]},
            "messages[1].tool_calls",
        ),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"user": 7}, "user"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
    ],
)
def test_what_is_refused(body: dict[str, Json], param: str) -> None:
    """The error names the field, in its text and as its `param`."""
    error = refused(**body)
    answer = OPENAI.error(error)
    said = json.mapping(json.mapping(json.loads(answer.body))["error"])
    assert (answer.status, said["param"], said["code"]) == (400, param, None)
    assert json.text(said["message"]).startswith(param)


def test_a_thousand_bad_messages_are_one_complaint() -> None:
    """The answer to a bad request is small, whatever its size."""
    assert refused(messages=[{}] * 1000).details is not None
    assert len(refused(messages=[{}] * 1000).message) < 200


# Streams


def test_a_stream() -> None:
    """The role first, then what is said, then the reason, the usage, and the end."""
    usage = Metadata(usage=Usage(3, 2))
    said = chunks(Metadata(message_id="x"), TextDelta("Your "), usage, STOP)
    assert {(c["id"], c["object"], c["created"], c["model"]) for c in said} == {
        ("chatcmpl-789", "chat.completion.chunk", 17, "Support")
    }
    reasons = [choice(chunk)["finish_reason"] for chunk in said[:-1]]
    assert reasons == [None, None, "stop"]
    assert [choice(chunk)["index"] for chunk in said[:-1]] == [0, 0, 0]
    assert choice(said[0])["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert choice(said[1])["delta"] == {"content": "Your "}
    assert choice(said[2])["delta"] == {}
    assert [chunk["usage"] for chunk in said[:-1]] == [None] * 3
    assert said[-1]["choices"] == []
    assert said[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_usage_that_was_not_asked_for() -> None:
    """No chunk speaks of usage."""
    said = chunks(TextDelta("a"), Metadata(usage=Usage(3, 2)), STOP, ask=QUIET)
    assert len(said) == 3
    assert not any("usage" in chunk for chunk in said)


@pytest.mark.parametrize("usage", [None, Usage(credits=2), Usage(input_tokens=3)])
def test_usage_is_never_invented(usage: Usage | None) -> None:
    """Without both counts there is none: clients read them without looking."""
    encoder = OPENAI.encoder(TURN, ASK)
    events: list[Event] = [TextDelta("a"), Metadata(usage=usage), STOP]
    frames = b"".join(map(encoder.encode, events))
    assert b"_tokens" not in frames
    assert encoder.dropped == ({"Metadata": 1} if usage else {})
    assert "usage" not in whole(TextDelta("a"), Metadata(usage=usage), STOP)


def test_credits_stand_beside_the_tokens() -> None:
    """Under their own name."""
    said = chunks(Metadata(usage=Usage(3, 2, 1.5)), STOP)
    assert json.mapping(said[-1]["usage"])["credits"] == 1.5


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
    """Every reason has one of OpenAI's words, streamed or whole."""
    assert choice(chunks(TextDelta("a"), Finish(reason))[-1])["finish_reason"] == word
    assert choice(whole(TextDelta("a"), Finish(reason)))["finish_reason"] == word


def test_reasoning() -> None:
    """In DeepSeek's field."""
    assert deltas(ReasoningDelta("Hm."), TextDelta("a"), STOP) == [
        {"reasoning_content": "Hm."},
        {"content": "a"},
    ]


def test_streamed_arguments() -> None:
    """A call of a tool that the client offers is told as it comes, fragments by its index."""
    made = ToolCall("call_2", "order_status", {"a": 1})
    said = deltas(
        ToolCallStart("call_1", "order_status"),
        ToolCallDelta("call_1", '{"a"'),
        ToolCallStart("call_2", "order_status"),
        ToolCallDelta("call_2", '{"a":1}'),
        ToolCallDelta("call_1", ":0}"),
        ToolCall("call_1", "order_status", {"a": 0}),
        made,
        Finish(FinishReason.TOOL_CALLS),
    )
    assert [json.array(json.mapping(each)["tool_calls"]) for each in said] == [
        [_opened(0, "call_1")],
        [{"index": 0, "function": {"arguments": '{"a"'}}],
        [_opened(1, "call_2")],
        [{"index": 1, "function": {"arguments": '{"a":1}'}}],
        [{"index": 0, "function": {"arguments": ":0}"}}],
    ]


def _opened(index: int, call_id: str) -> Json:
    function: Json = {"name": "order_status", "arguments": ""}
    return {"index": index, "id": call_id, "type": "function", "function": function}


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("ask", [QUIET, replace(QUIET, tools=())])
def test_a_call_without_fragments(started: bool, ask: ChatRequest) -> None:
    """Its arguments are said whole: what a client has of a call is always JSON."""
    start = [ToolCallStart("call_1", "order_status")] if started else []
    said = deltas(*start, ToolCall("call_1", "order_status", {}), STOP, ask=ask)
    assert said == [
        {"tool_calls": [_opened(0, "call_1")]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
    ]


def test_arguments_that_are_no_json_are_said_as_they_are() -> None:
    """The client sees what the model wrote."""
    said = deltas(ToolCall("call_1", "order_status", "{oops"), STOP)
    assert said[1] == {"tool_calls": [{"index": 0, "function": {"arguments": "{oops"}}]}


def test_what_an_upstream_wants_back_is_told() -> None:
    """Streamed or whole, or the client could not give it back."""
    extra: Json = {"google": {"thought_signature": "c2ln"}}
    call = ToolCall("call_1", "order_status", {}, echo=extra)
    last = json.mapping(deltas(call, STOP)[-1])
    assert last["tool_calls"] == [{"index": 0, "function": {}, "extra_content": extra}]
    (made,) = json.array(json.mapping(choice(whole(call, STOP))["message"])["tool_calls"])
    assert json.mapping(made)["extra_content"] == extra


def test_a_call_that_the_upstream_ran() -> None:
    """The client is not told of it, or would run it again."""
    encoder = OPENAI.encoder(TURN, QUIET)
    run: list[Event] = [
        ToolCallStart("call_1", "search"),
        ToolCallDelta("call_1", "{}"),
        ToolCall("call_1", "search", {}),
        ToolOutput("call_1", "found"),
    ]
    assert b"".join(map(encoder.encode, run)) == b""
    assert encoder.dropped == {"ToolCall": 1, "ToolOutput": 1}
    assert deltas(*run, TextDelta("a"), STOP) == [{"content": "a"}]
    message = json.mapping(choice(whole(*run, TextDelta("a"), STOP))["message"])
    assert message == {"role": "assistant", "content": "a", "refusal": None}


def test_a_result_of_an_earlier_call() -> None:
    """It is dropped and counted, and takes nothing with it."""
    encoder = OPENAI.encoder(TURN, QUIET)
    assert encoder.encode(ToolOutput("call_0", "found")) == b""
    assert encoder.dropped == {"ToolOutput": 1}


def test_a_call_that_nobody_ran() -> None:
    """One of a tool of the agent's own comes before the reason, which says that there are calls."""
    said = chunks(ToolCall("call_1", "refund", {}), TextDelta("a"), STOP, ask=QUIET)
    kinds = [list(json.mapping(choice(chunk)["delta"])) for chunk in said]
    assert kinds[1:] == [["content"], ["tool_calls"], ["tool_calls"], []]
    assert choice(said[-1])["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("reason", [FinishReason.STOP, FinishReason.OTHER])
def test_an_answer_with_calls_says_so(reason: FinishReason) -> None:
    """Clients run no call of an answer that "stops"."""
    call = ToolCall("call_1", "order_status", {})
    assert choice(chunks(call, Finish(reason))[-1])["finish_reason"] == "tool_calls"
    assert choice(whole(call, Finish(reason)))["finish_reason"] == "tool_calls"
    cut = Finish(FinishReason.LENGTH)
    assert choice(chunks(call, cut)[-1])["finish_reason"] == "length"


def test_citations() -> None:
    """Web pages are annotations, documents are not and are counted."""
    page = Citation("https://acme.example/a", "A", "Two days.")
    bare = Citation("https://acme.example/b")
    encoder = OPENAI.encoder(TURN, QUIET)
    assert encoder.encode(Citations([page, Citation(title="Manual"), bare]))
    assert encoder.dropped == {"Citations": 1}
    assert OPENAI.encoder(TURN, QUIET).encode(Citations([Citation(title="Manual")])) == b""
    span: dict[str, Json] = {"start_index": 0, "end_index": 0}
    first: Json = {"url": page.url, "title": "A", "content": "Two days.", **span}
    second: Json = {"url": bare.url, "title": "", **span}
    wanted: list[Json] = [
        {"type": "url_citation", "url_citation": first},
        {"type": "url_citation", "url_citation": second},
    ]
    document = Citation(title="Manual")
    numbered: Json = [{**json.mapping(each), "index": number} for number, each in enumerate(wanted)]
    assert deltas(Citations([page, document, bare]), STOP) == [{"annotations": numbered}]
    message = json.mapping(choice(whole(Citations([page, bare]), STOP))["message"])
    assert message["annotations"] == wanted


def test_what_only_others_say() -> None:
    """It is dropped and counted."""
    encoder = OPENAI.encoder(TURN, ASK)
    assert encoder.encode(Extension("sonzai", "phase", {})) == b""
    assert encoder.dropped == {"Extension": 1}


def test_a_failure_in_mid_stream() -> None:
    """An error object as every client knows it, then the end."""
    failure = Failure(ErrorCode.UPSTREAM_FAILED, "the upstream failed")
    said = chunks(TextDelta("a"), failure)
    assert said[-1] == {
        "error": {
            "message": "the upstream failed",
            "type": "server_error",
            "param": None,
            "code": "upstream_error",
        }
    }
    assert not any("finish_reason" in chunk for chunk in said[:-1])


@pytest.mark.parametrize("ask", [ASK, QUIET])
def test_the_familys_decoder_reads_it(ask: ChatRequest) -> None:
    """What the encoder writes means the same events again."""
    events: list[Event] = [
        ReasoningDelta("Hm."),
        TextDelta('注文 👩‍🚀\u2028 "\n'),
        Citations([Citation("https://acme.example/a", "A", "Two days."), Citation("https://b.c")]),
        ToolCallStart("call_1", "order_status"),
        ToolCallDelta("call_1", '{"order":'),
        ToolCallDelta("call_1", "7}"),
        ToolCall("call_1", "order_status", {"order": 7}, echo={"g": 1}),
    ]
    usage = Usage(3, 2) if ask.include_usage else None
    # Every chunk names a model: the agent's.
    known, finish = Metadata(model="Support", usage=usage), Finish(FinishReason.TOOL_CALLS)
    decoder = UPSTREAMS["openai"].decoder(Target(upstream="t"))
    written = stream(*events, Metadata(usage=usage), finish, ask=ask)

    assert decoder.feed(written) + decoder.eof() == [*events, known, finish]


# Whole answers


def test_a_whole_answer() -> None:
    """One completion, the usage with it whether asked for or not."""
    events = (ReasoningDelta("Hm."), TextDelta("Your "), TextDelta("order"))
    assert whole(*events, Metadata(usage=Usage(3, 2)), STOP, ask=QUIET) == {
        "id": "chatcmpl-789",
        "object": "chat.completion",
        "created": 17,
        "model": "Support",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Your order",
                    "refusal": None,
                    "reasoning_content": "Hm.",
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_a_whole_answer_of_calls() -> None:
    """Then the content is null; of nothing at all it is empty."""
    message = json.mapping(choice(whole(ToolCall("call_1", "f", {"a": 1}), STOP))["message"])
    function: Json = {"name": "f", "arguments": '{"a":1}'}
    assert message["content"] is None
    assert message["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert json.mapping(choice(whole(STOP))["message"])["content"] == ""


# Errors and models


@pytest.mark.parametrize("code", ErrorCode)
def test_errors(code: ErrorCode) -> None:
    """Every code has its status, type and code; the stream's words are the same."""
    answer = OPENAI.error(GatewayError(code, "it went wrong"))
    said = json.mapping(json.mapping(json.loads(answer.body))["error"])
    words = (answer.status, json.text(said["type"]), said["code"])
    assert [known for known, codes in ERRORS.items() if code in codes] == [words]
    assert (said["message"], said["param"]) == ("it went wrong", None)
    assert stream(Failure(code, "it went wrong")).startswith(b"data: " + answer.body)


def test_models() -> None:
    """Agents are models of their workspace."""
    one: Json = {"id": "Support", "object": "model", "created": 0, "owned_by": "acme"}
    assert json.loads(openai_models.one("Support", "acme")) == one
    assert json.loads(openai_models.page(["Support"], "acme")) == {"object": "list", "data": [one]}
