"""Sonzai on both sides: its clients before any upstream, and its agents behind any client."""

from gateway.core.events import Json
from gateway.wire import json
from tests import sonzai_client
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, Answered, Running, config
from tests.e2e.scripted import (
    END,
    Hang,
    ScriptedUpstream,
    chunk,
    delta,
    document,
    event,
    finish,
    head,
    openai_text,
    said,
    sse,
)
from tests.sonzai_client import Kind

CHAT = "/sonzai/api/v1/agents/{agent}/chat"

HI: Json = {"role": "user", "content": "hi"}
STOP: Json = {"choices": [{"delta": {}, "finish_reason": "stop", "index": 0}]}

SONZAI = {"kind": "sonzai", "target": 'agent = "luna"'}

ORDER_STATUS = """
[[agents.tools]]
name = "order_status"
description = "Look an order up."
parameters = { type = "object" }
"""


def text(content: str) -> Json:
    return {"choices": [{"delta": {"content": content}, "index": 0}]}


async def chat(gateway: Running, *messages: Json, agent: str = "1", **body: Json) -> Answered:
    """One turn of a Sonzai client."""
    whole: Json = {"messages": list(messages or (HI,)), **body}
    return await gateway.post(CHAT.format(agent=agent), whole)


async def test_over_echo(start: Start) -> None:
    """A Sonzai client's first turn: no session named, so the gateway names one."""
    gateway = await start(config("", kind="echo", target=""))
    answer = await chat(gateway, {"role": "user", "content": "注文は 🚀 ready?"})

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-session-id"].isdigit()
    assert answer.headers["x-ratelimit-limit"]
    assert sonzai_client.text(sonzai_client.read(answer.body)) == "注文は 🚀 ready?"


async def test_agent_by_name_and_in_the_playground(start: Start) -> None:
    """An agent is found by its name or alias, at both paths."""
    alias = "550e8400-e29b-41d4-a716-446655440000"
    agent = f'aliases = ["{alias}", "Ann/Luna ü"]'
    gateway = await start(config("", kind="echo", target="", agent=agent))

    for named in ("Support", alias, "Ann%2FLuna%20%C3%BC"):
        answer = await chat(gateway, agent=named)
        assert sonzai_client.text(sonzai_client.read(answer.body)) == "hi"
    answer = await chat(gateway, agent="1/playground")
    assert sonzai_client.text(sonzai_client.read(answer.body)) == "hi"


async def test_over_openai(start: Start, upstream: ScriptedUpstream) -> None:
    """The whole conversation goes to the model behind the agent's instructions, with what the
    client asked for; the session is the client's."""
    upstream.answers(openai_text("Your ", "order"))
    gateway = await start(config(upstream.url, agent='instructions = "Be brief."'))
    answer = await chat(
        gateway,
        {"role": "system", "content": "It is Monday."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"},
        HI,
        user_id="ann@acme.example",
        session_id="sess 1",
        temperature=0,
        language="en",
    )

    assert answer.headers["x-session-id"] == "sess 1"
    read = sonzai_client.read(answer.body)
    assert [part.content for part in read] == ["Your ", "order", ""]
    assert upstream.requests[0].json == {
        "temperature": 0,
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "system", "content": "It is Monday."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi!"},
            {"role": "user", "content": "hi"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "ann@acme.example",
    }


async def test_tools_over_openai(start: Start, upstream: ScriptedUpstream) -> None:
    """The client's own tools are offered, and a call comes with the last chunk."""
    function: Json = {"name": "look_up", "arguments": '{"n":1}'}
    called: Json = {"tool_calls": [{"index": 0, "id": "call_1", "function": function}]}
    upstream.answers(
        sse({"choices": [{"index": 0, "delta": called}]}, finish("tool_calls")),
    )
    gateway = await start(config(upstream.url, agent=ORDER_STATUS))
    answer = await chat(gateway, tool_definitions=[{"name": "look_up", "description": "Looks up."}])

    [last] = sonzai_client.read(answer.body)
    assert last.said["choices"][0]["finish_reason"] == "tool_calls"
    [call] = last.said["side_effects"]["externalToolCalls"]
    assert call["parameters"] == {"n": 1}
    offered = json.array(upstream.requests[0].json["tools"])
    names = [json.mapping(json.mapping(tool)["function"])["name"] for tool in offered]
    assert names == ["look_up"]


async def test_same_family(start: Start, upstream: ScriptedUpstream) -> None:
    """Between Sonzai and Sonzai, phases, boundaries, context and side effects stay what they were;
    so do the request's session and user."""
    chunks: list[Json] = [
        {"type": "context_ready", "build_duration_ms": 42, "enriched_context": {"mood": 0.4}},
        {"type": "phase", "phase": "tool_call", "tool": "sonzai_inventory"},
        {"type": "message_boundary", "message_index": 0},
        text("Two left."),
        {"type": "message_boundary", "message_index": 1},
        text("More?"),
        {"type": "side_effects", "data": {"facts": ["likes tea"]}},
        {**json.mapping(STOP), "side_effects": {"goals": ["tea"]}},
    ]
    upstream.answers(sse(*chunks))
    gateway = await start(config(upstream.url, **SONZAI))
    answer = await chat(gateway, session_id="sess_1", user_id="ann")

    assert [part.said for part in sonzai_client.read(answer.body)] == chunks
    received = upstream.requests[0]
    assert received.path == "/api/v1/agents/luna/chat"
    assert received.json == {"messages": [HI], "session_id": "sess_1", "user_id": "ann"}


async def test_same_family_in_pieces(start: Start, upstream: ScriptedUpstream) -> None:
    """A large context comes in pieces, and goes out whole."""
    context: Json = {"type": "context_ready", "enriched_context": {"facts": ["tea" * 200_000]}}
    whole = json.dumps(context).decode()
    size = 256 << 10
    parts = [whole[at : at + size] for at in range(0, len(whole), size)]
    pieces: list[Json] = [
        {"__chunk": {"index": index, "total": len(parts)}, "data": part}
        for index, part in enumerate(parts)
    ]
    upstream.answers(sse(*pieces, text("Hi"), STOP))
    gateway = await start(config(upstream.url, **SONZAI))
    answer = await chat(gateway)

    assert [part.said for part in sonzai_client.read(answer.body)] == [context, text("Hi"), STOP]


async def test_v2_over_sonzai(start: Start, upstream: ScriptedUpstream) -> None:
    """A v2 client in front of a Sonzai agent: text and calls come through, what only Sonzai says
    is counted; the next turn tells all that was said, in the same session."""
    call: Json = {"id": "tc_1", "name": "order_status", "parameters": {"n": 7}}
    calling: Json = {**json.mapping(STOP), "external_tool_calls": [call]}
    upstream.answers(
        sse({"type": "phase", "phase": "planning"}, text("Let me look."), calling),
        sse(text("Shipped."), STOP),
    )
    gateway = await start(config(upstream.url, **SONZAI, agent=ORDER_STATUS))
    first = await gateway.chat_v2("Where is 7?", userId="u1")

    assert first.text == "Let me look."
    ended = json.mapping(first.frames[-2][1])
    assert ended["finishReason"] == "tool-calls"
    conversation = json.mapping(ended["metadata"])["conversationId"]
    given = await gateway.post(
        f"/api/v2/agents/1/conversations/{conversation}/tool-result",
        {"toolCallId": "tc_1", "output": "shipped"},
    )
    assert given.status == 200
    path = "/api/v2/agents/1/chat"
    second = await gateway.post(path, {"conversationId": conversation, "stream": False})

    data = json.mapping(second.json["data"])
    assert data["parts"] == [{"type": "text", "text": "Shipped."}]
    one, two = (request.json for request in upstream.requests)
    assert one["session_id"] == two["session_id"] == conversation
    assert [json.mapping(tool)["name"] for tool in json.array(one["tool_definitions"])] == [
        "order_status"
    ]
    assert two["messages"] == [
        {"role": "user", "content": "Where is 7?"},
        {"role": "assistant", "content": "Let me look."},
        {"role": "user", "content": 'tool order_status({"n":7}): shipped'},
    ]
    assert await gateway.counted("oc_gateway_dropped_parts_total", "part") == {"Extension": 1}


async def test_errors_before_the_stream(start: Start, upstream: ScriptedUpstream) -> None:
    """Every error before the stream is a problem document, the upstream's too."""
    upstream.answers(document({"title": "Unavailable", "detail": "gpu-17 is down"}, 503))
    gateway = await start(config(upstream.url, **SONZAI))
    failed = await chat(gateway)
    unknown = await chat(gateway, agent="nobody")
    keyless = await gateway.post(CHAT.format(agent="1"), {"messages": [HI]}, key=None)
    wrong = await chat(gateway, {"role": "user", "content": ""}, session_id="a\r\nb: c")
    nowhere = await gateway.post("/sonzai/api/v1/agents/1/memory", {})

    answers = (failed, unknown, keyless, wrong, nowhere)
    assert [answer.status for answer in answers] == [502, 404, 401, 400, 404]
    for answer in answers:
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.json["status"] == answer.status
        assert answer.json["message"] == answer.json["detail"] == answer.json["error"]
    assert failed.json["message"] == "the upstream failed"
    fields = [json.mapping(item)["field"] for item in json.array(wrong.json["errors"])]
    assert fields == ["messages", "session_id"]


async def test_error_in_mid_stream(start: Start, upstream: ScriptedUpstream) -> None:
    """An error after the first words, and a stream that just ends, are error chunks."""
    upstream.answers(
        sse(delta("Hi"), {"error": {"message": "gpu-17"}}),
        [head(), chunk(event(delta("Hi"))), END],
    )
    gateway = await start(config(upstream.url))
    answers = [await chat(gateway) for _ in range(2)]

    for answer, message in zip(
        answers, ("the upstream failed", "the upstream ended the stream early"), strict=True
    ):
        first, last = sonzai_client.read(answer.body)
        assert first.content == "Hi"
        assert last.kind is Kind.ERROR
        assert last.said == {"error": {"message": message}}


async def test_a_client_that_leaves(start: Start, upstream: ScriptedUpstream) -> None:
    """When its client leaves, the upstream's connection is closed."""
    upstream.answers([*said("Hi"), Hang])
    gateway = await start(config(upstream.url))
    path = CHAT.format(agent="1")

    async with gateway.raw(path, {"messages": [HI]}, KEY) as (reader, _):
        await reader.readuntil(b'"Hi"')
    await upstream.until_open(0)
    await gateway.settled()
