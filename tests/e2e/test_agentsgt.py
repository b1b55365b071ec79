"""AgentsGT's agents behind the gateway: what they are asked, and the forms of their answers."""

import asyncio

import pytest

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import Running, config
from tests.e2e.scripted import END, Close, ScriptedUpstream, Step, Wait, chunk, document, head, sse

_EVENTS: list[Json] = [
    {"type": "start", "messageId": "m1"},
    {"type": "start-step"},
    {"type": "text-start", "id": "t1"},
    {"type": "text-delta", "id": "t1", "delta": "We are "},
    {"type": "text-delta", "id": "t1", "delta": "open."},
    {"type": "text-end", "id": "t1"},
    {"type": "finish-step"},
    {"type": "finish"},
]
_LINES = [
    b'f:{"messageId":"m1"}\n',
    b'0:"We are "\n',
    b'0:"open."\nd:{"finishReason":"stop"}\n',
]
_FORMS: dict[str, list[Step]] = {
    "events": sse(*_EVENTS),
    "lines": [head(200, "text/plain"), *map(chunk, _LINES), END],
    "text": [head(200, "text/plain"), chunk(b"We are "), chunk(b"open."), END],
}


async def _gateway(start: Start, upstream: ScriptedUpstream, agent: str = "") -> Running:
    chosen = config(
        f"{upstream.url}/base",
        kind="agentsgt",
        target='agent = "550e", params = { locale = "fr" }',
        upstream='credential = { env = "PAIR" }',
        agent=agent,
    )
    return await start(chosen, PAIR="pk_a:sk_b")


@pytest.mark.parametrize("form", _FORMS)
async def test_each_form(start: Start, upstream: ScriptedUpstream, form: str) -> None:
    """Clients receive the same of each, streamed or whole."""
    upstream.answers(_FORMS[form])
    gateway = await _gateway(start, upstream)

    v1, v2 = await gateway.chat_v1(), await gateway.chat_v2()
    whole = await gateway.chat_v2(stream=False)

    assert v1.text == v2.text == "We are open."
    assert [name for name, _ in v1.frames][-1] == "done"
    assert v2.frames[-1] == ("message", "[DONE]")
    parts = json.mapping(whole.json["data"])["parts"]
    assert parts == [{"type": "text", "text": "We are open."}]


async def test_what_it_is_asked(start: Start, upstream: ScriptedUpstream) -> None:
    """Both keys as one credential, the end user in its header, and the whole conversation."""
    upstream.answers(_FORMS["text"])
    gateway = await _gateway(start, upstream, 'instructions = "Be brief."')

    first = await gateway.chat_v2("Open?", userId="user_1")
    metadata = json.mapping(json.mapping(first.frames[-2][1])["metadata"])
    again = int(json.text(metadata["conversationId"]))
    await gateway.chat_v2("And Sundays?", conversationId=again)

    one, two = upstream.requests
    assert (one.method, one.path) == ("POST", "/base/api/v1/agents/chat/550e")
    assert one.headers["authorization"] == "Bearer pk_a:sk_b"
    assert one.headers["x-agent-identifier"] == "user_1"
    brief: Json = {"role": "system", "content": "Be brief."}
    asked: Json = {"role": "user", "content": "Open?"}
    assert one.json == {"locale": "fr", "messages": [brief, asked]}
    assert two.json["messages"] == [
        brief,
        asked,
        {"role": "assistant", "content": "We are open."},
        {"role": "user", "content": "And Sundays?"},
    ]


async def test_a_tools_result_is_told_in_words(start: Start, upstream: ScriptedUpstream) -> None:
    """Its messages are text alone, so that is how it hears of a tool that the client ran."""
    call: Json = {
        "type": "tool-input-available",
        "toolCallId": "call_1",
        "toolName": "order_status",
        "input": {"order": 7},
    }
    upstream.answers(sse(call, {"type": "finish", "finishReason": "tool-calls"}), _FORMS["text"])
    gateway = await _gateway(start, upstream)

    called = await gateway.chat_v2("Where is 7?")
    metadata = json.mapping(json.mapping(called.frames[-2][1])["metadata"])
    conversation = json.text(metadata["conversationId"])
    result: Json = {"toolCallId": "call_1", "output": {"status": "shipped"}}
    path = f"/api/v2/agents/1/conversations/{conversation}/tool-result"
    assert (await gateway.post(path, result)).status == 200
    answer = await gateway.post("/api/v2/agents/1/chat", {"conversationId": int(conversation)})

    assert answer.text == "We are open."
    assert upstream.requests[-1].json["messages"] == [
        {"role": "user", "content": "Where is 7?"},
        {"role": "user", "content": 'tool order_status({"order":7}): {"status":"shipped"}'},
    ]


async def test_text_is_passed_on_as_it_comes(start: Start, upstream: ScriptedUpstream) -> None:
    """A read is a piece, and a character that two of them share waits for the second."""
    said, more = asyncio.Event(), "é open.".encode()
    upstream.answers(
        [head(200, "text/plain"), chunk(b"We ar" + more[:1]), Wait(said), chunk(more[1:]), END]
    )
    gateway = await _gateway(start, upstream)

    body = await gateway.stepwise("v2", (b'"We ar"}\n\n', said))

    assert '{"type":"text-delta","text":"é open."}'.encode() in body


@pytest.mark.parametrize(("form", "steps"), [("events", 5), ("lines", 3), ("text", 2)])
async def test_a_connection_that_breaks(
    start: Start, upstream: ScriptedUpstream, form: str, steps: int
) -> None:
    """What the network cuts off is no end of an answer, a text's as little as another's."""
    upstream.answers([*_FORMS[form][:steps], Close])
    gateway = await _gateway(start, upstream)

    answer = await gateway.chat_v2()

    assert answer.text == "We are "
    assert answer.frames[-2][1] == {
        "type": "error",
        "errorText": "the upstream closed the connection early",
    }


@pytest.mark.parametrize(
    ("status", "words", "ours"),
    [
        (401, b"Unauthorized", 502),
        (402, b"No credits remaining", 503),
        (404, b"Agent not found", 502),
        (500, b"Internal server error", 502),
    ],
)
async def test_errors_before_the_stream(
    start: Start, upstream: ScriptedUpstream, status: int, words: bytes, ours: int
) -> None:
    """They are the gateway's own to clients, with a status."""
    length = str(len(words))
    upstream.answers([head(status, "text/plain", Content_Length=length) + words])
    answer = await (await _gateway(start, upstream)).chat_v2()

    assert answer.status == ours
    assert words not in answer.body


async def test_an_error_that_comes_as_an_answer(start: Start, upstream: ScriptedUpstream) -> None:
    """A document with a status of 200 is not passed on for what the agent said."""
    upstream.answers(document({"error": "No credits remaining"}))
    answer = await (await _gateway(start, upstream)).chat_v2()

    assert (answer.status, answer.error["code"]) == (502, "UPSTREAM_ERROR")


async def test_a_credential_in_a_header_of_its_own(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """As Azure wants it: bare, and not as a bearer's; what no header can hold is never sent."""
    upstream.answers(sse({"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}))
    text = config(
        upstream.url,
        upstream='credential = { env = "AZURE" }\ncredential_header = "api-key"',
        target='model = "m"',
    )
    answer = await (await start(text, AZURE="azure-1")).chat_v2()

    assert answer.text == "Hi"
    (asked,) = upstream.requests
    assert asked.headers["api-key"] == "azure-1"
    assert "authorization" not in asked.headers
