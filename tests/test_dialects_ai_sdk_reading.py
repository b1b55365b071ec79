"""What AgentsGT's and the AI SDK's clients post: whole conversations, in each of their shapes."""

import pytest
from multidict import CIMultiDict

from gateway.core.conversation import Role
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json, ToolCall
from gateway.core.turn import ChatRequest, Message
from gateway.dialects.ai_sdk import AI_SDK
from gateway.wire import json

USER: Json = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Where is 7?"}]}
ASKED = Message(Role.USER, "Where is 7?")
CALL = ToolCall("c1", "order_status", {"order": 7})
CALLED = Message(Role.ASSISTANT, "", (CALL,))
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def decode(*messages: Json, **body: Json) -> ChatRequest:
    return AI_SDK.decode({"messages": list(messages), **body}, "1", {})


def problems(body: Json, headers: dict[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(GatewayError) as raised:
        AI_SDK.decode(body, "1", headers or {})
    assert raised.value.code is ErrorCode.INVALID_BODY
    return raised.value.details or {}


def assistant(*parts: Json) -> Json:
    return {"id": "m2", "role": "assistant", "parts": list(parts)}


def tool(state: str, **fields: Json) -> Json:
    """A UI message's part of the call `CALL`."""
    part: dict[str, Json] = {"type": "tool-order_status", "toolCallId": "c1", "state": state}
    return {**part, "input": {"order": 7}, **fields}


def answered(text: str) -> tuple[Message, ...]:
    return ASKED, CALLED, Message(Role.TOOL, text, call_id="c1")


# The request


def test_the_page_of_agentsgt() -> None:
    """A message is a role and a content, and nothing else is needed; the answer is a stream."""
    request = decode({"role": "user", "content": "What are your business hours?"})

    hours = "What are your business hours?"
    assert request == ChatRequest(agent="1", message=hours, stream=True)


def test_what_use_chat_posts() -> None:
    """The chat's id names the conversation; what else `useChat` and an app send says nothing."""
    request = decode(USER, id="chat-1", trigger="regenerate-message", messageId="m1", model="x")

    assert (request.message, request.session_id, request.model) == ("Where is 7?", "chat-1", None)


def test_the_identifier_is_the_user() -> None:
    """`X-Agent-Identifier`, however it is spelled, says whose the conversation is."""
    headers = CIMultiDict({"x-agent-identifier": "user-123"})

    assert AI_SDK.decode({"messages": [USER]}, "1", headers).user_id == "user-123"
    assert problems({"messages": [USER]}, {"X-Agent-Identifier": "a b"}) == {
        "X-Agent-Identifier": "must match ^[a-zA-Z0-9._-]{1,128}$"
    }


def test_a_history() -> None:
    """What was said before the last message is the history, instructions included."""
    request = decode(
        {"role": "system", "content": "Be brief."},
        USER,
        assistant({"type": "text", "text": "It has "}, {"type": "text", "text": "shipped."}),
        assistant({"type": "text", "text": ""}),
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    )

    system, shipped = Message(Role.SYSTEM, "Be brief."), Message(Role.ASSISTANT, "It has shipped.")
    assert request.history == (system, ASKED, shipped)
    assert request.message == "a\nb"


# Tools


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (tool("output-available", output={"a": 1}), '{"a":1}'),
        (tool("output-available", output="It's on its way", providerExecuted=True), None),
        (tool("output-available", output=None), "null"),
        (tool("output-error", errorText="no such order"), "no such order"),
        (tool("output-error", errorText=""), "the tool failed"),
        (tool("output-denied", approval={"id": "a", "approved": False}), '{"approved":false}'),
        (
            tool("approval-responded", approval={"id": "a", "approved": False, "reason": "no"}),
            '{"approved":false,"reason":"no"}',
        ),
        (tool("approval-responded", approval={"approved": True}), '{"approved":true}'),
    ],
)
def test_a_result(part: Json, told: str | None) -> None:
    """Each end of a call is a result to the model, and without a message the turn goes on."""
    request = decode(USER, assistant({"type": "step-start"}, part))

    assert request.message is None
    assert request.history == answered("It's on its way" if told is None else told)


def test_a_dynamic_tool() -> None:
    """A tool that the app's types do not know names itself."""
    part = {**json.mapping(tool("output-available", output=1)), "type": "dynamic-tool"}

    assert decode(USER, assistant({**part, "toolName": "order_status"})).history == answered("1")


@pytest.mark.parametrize("name", ["call", "result", "invocation"])
def test_a_tool_with_the_name_of_a_part(name: str) -> None:
    """A tool that is called as parts of other shapes are is a tool all the same."""
    part = {**json.mapping(tool("output-available", output=1)), "type": f"tool-{name}"}
    calls = decode(USER, assistant(part)).history[1].tool_calls

    assert calls == (ToolCall("c1", name, {"order": 7}),)


@pytest.mark.parametrize(
    "part",
    [
        tool("input-streaming"),
        tool("input-available"),
        tool("approval-requested", approval={"id": "a"}),
        tool("output-available", output="half", preliminary=True),
    ],
)
def test_a_call_that_waits(part: Json) -> None:
    """A call without a result is not told of: models refuse it. Where that is all of an answer, the
    question is asked again."""
    text: Json = {"type": "text", "text": "Let me look."}
    request = decode(USER, assistant(text, part), {"role": "user", "content": "And?"})

    assert request.history == (ASKED, Message(Role.ASSISTANT, "Let me look."))
    assert decode(USER, assistant(part)) == decode(USER)


def test_steps() -> None:
    """An answer of several steps is several messages, the results behind the calls."""
    second = {**json.mapping(tool("output-available", output=2)), "toolCallId": "c2"}
    parts: list[Json] = [
        {"type": "step-start"},
        {"type": "reasoning", "text": "Hm."},
        {"type": "text", "text": "Let me look."},
        tool("output-available", output=1),
        second,
        {"type": "step-start"},
        {"type": "text", "text": "It has shipped."},
        {"type": "source-url", "sourceId": "s1", "url": "https://a.example"},
        {"type": "data-chart", "data": 1},
    ]
    request = decode(USER, assistant(*parts), {"role": "user", "content": "Thanks"})

    calls = (CALL, ToolCall("c2", "order_status", {"order": 7}))
    assert request.history == (
        ASKED,
        Message(Role.ASSISTANT, "Let me look.", calls),
        Message(Role.TOOL, "1", call_id="c1"),
        Message(Role.TOOL, "2", call_id="c2"),
        Message(Role.ASSISTANT, "It has shipped."),
    )


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ({"type": "text", "value": "shipped"}, "shipped"),
        ({"type": "json", "value": {"a": 1}}, '{"a":1}'),
        ({"type": "error-text", "value": "no such order"}, "no such order"),
        ({"type": "execution-denied", "reason": "no"}, '{"approved":false,"reason":"no"}'),
        ("as it was in ai 4", "as it was in ai 4"),
        ({"type": "parcel"}, '{"type":"parcel"}'),
    ],
)
def test_model_messages(output: Json, told: str) -> None:
    """Calls and results as `streamText` takes them: in messages of their own."""
    call: dict[str, Json] = {"toolCallId": "c1", "toolName": "order_status"}
    made: Json = {"type": "tool-call", **call, "input": {"order": 7}}
    result: Json = {"type": "tool-result", **call, "output": output}
    request = decode(
        USER,
        {"role": "assistant", "content": [made]},
        {"role": "tool", "content": [result]},
    )

    assert request.history == answered(told)


def test_what_ai_4_posts() -> None:
    """A content, with the calls and the files beside it."""
    call: dict[str, Json] = {"toolCallId": "c1", "toolName": "order_status", "args": {"order": 7}}
    waits: Json = {**call, "toolCallId": "c2", "state": "call"}
    done: Json = {**call, "state": "result", "result": "shipped"}
    image: Json = {"name": "a.png", "contentType": "image/png", "url": PIXEL}
    request = decode(
        USER,
        {"role": "assistant", "content": "It has.", "toolInvocations": [done, waits]},
        {"role": "user", "content": "And this?", "experimental_attachments": [image]},
    )

    said = Message(Role.ASSISTANT, "It has.")
    assert request.history[:-1] == (*answered("shipped"), said)
    assert request.history[-1].content == [
        {"type": "text", "text": "And this?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]


# Files


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (
            {"type": "file", "mediaType": "image/png", "url": PIXEL},
            {"type": "image_url", "image_url": {"url": PIXEL}},
        ),
        (
            {"type": "image", "image": "https://a.example/a.png"},
            {"type": "image_url", "image_url": {"url": "https://a.example/a.png"}},
        ),
        (
            {"type": "image", "image": "iVBORw0KGgo="},
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,iVBORw0KGgo="}},
        ),
        (
            {"type": "file", "mediaType": "audio/wav", "data": "UklGRg=="},
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        ),
        (
            {"type": "file", "url": "data:application/pdf;base64,JVBE", "filename": "a.pdf"},
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
            },
        ),
    ],
)
def test_a_file(part: Json, content: Json) -> None:
    """A message of more than text is the last of the history, in OpenAI's form."""
    request = decode({"role": "user", "parts": [{"type": "text", "text": "This?"}, part]})

    assert request.message is None
    parts: Json = [{"type": "text", "text": "This?"}, content]
    assert request.history == (Message(Role.USER, "This?", content=parts),)


def test_a_file_alone() -> None:
    """A user may say nothing but a picture."""
    request = decode({"role": "user", "parts": [{"type": "file", "url": PIXEL}]})

    assert [said.text for said in request.history] == [""]


def test_a_models_file_is_not_told_it() -> None:
    """What a model drew is not among what it is told."""
    drawn: Json = {"type": "file", "mediaType": "image/png", "url": PIXEL}
    request = decode(USER, assistant(drawn), USER)

    assert request.history == (ASKED,)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "mediaType": "application/pdf", "url": "https://a.example/a.pdf"},
        {"type": "file", "mediaType": "image/png", "url": "file:///etc/passwd"},
        {"type": "file", "mediaType": "image/png"},
        {"type": "file", "url": "data:,text"},
    ],
)
def test_a_file_that_no_model_takes(part: Json) -> None:
    """It is refused: a model that has not seen it would answer all the same."""
    found = problems({"messages": [{"role": "user", "parts": [part]}]})

    assert list(found) == ["messages[0].parts[0]"]


# Complaints


@pytest.mark.parametrize(
    ("messages", "where"),
    [
        (None, "messages"),
        ([], "messages"),
        ("hi", "messages"),
        (["hi"], "messages[0].role"),
        ([{"role": "robot", "content": "hi"}], "messages[0].role"),
        ([{"role": ["user"], "content": "hi"}], "messages[0].role"),
        ([{"role": "user", "content": " "}], "messages"),
        ([{"role": "user", "content": 7}], "messages[0].parts[0].text"),
        ([{"role": "user", "parts": ["hi"]}], "messages[0].parts[0]"),
        ([{"role": "user", "parts": [{"type": "text"}]}], "messages[0].parts[0].text"),
        ([{"role": "tool", "content": "hi"}], "messages[0].parts[0]"),
        ([{"role": "user", "parts": [tool("output-available")]}], "messages[0].parts[0]"),
        ([USER, {"role": "assistant", "content": "Hi"}], "messages"),
        ([assistant(tool("output-available", output=1))], "messages"),
        (
            [USER, assistant(tool("output-available", output=1, toolCallId=""))],
            "messages[1].parts[0].toolCallId",
        ),
        (
            [USER, assistant({"type": "tool-call", "toolCallId": "c"})],
            "messages[1].parts[0].toolName",
        ),
        (
            [USER, {"role": "tool", "content": [{"type": "tool-result", "output": 1}]}],
            "messages[1].parts[0].toolCallId",
        ),
        (
            [USER, assistant({"type": "dynamic-tool", "state": "output-error", "toolCallId": "c"})],
            "messages[1].parts[0].toolName",
        ),
    ],
)
def test_what_is_wrong_is_named(messages: Json, where: str) -> None:
    """A field that is wrong is named, and nothing else is."""
    assert list(problems({"messages": messages})) == [where]


def test_everything_wrong_is_named_at_once() -> None:
    """Each complaint in one answer."""
    found = problems({"id": 7, "messages": [{"role": "robot"}]}, {"X-Agent-Identifier": "a b"})

    assert list(found) == ["messages[0].role", "id", "X-Agent-Identifier"]


@pytest.mark.parametrize("wrong", [{}, {"role": "user", "parts": [{}] * 1000}])
def test_the_first_message_that_is_wrong_is_enough(wrong: Json) -> None:
    """There may be as many as a body holds: to name each would keep everybody else waiting."""
    assert len(problems({"messages": [wrong] * 1000})) == 1


def test_the_body_is_an_object() -> None:
    """A list of messages alone is no request."""
    assert problems([USER]) == {}
