"""Conversations over several turns: what is remembered, for whom, and what upstreams are told."""

import asyncio

import pytest

from gateway.auth.mint import key_hash
from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, Answered, Running, config, eventually
from tests.e2e.scripted import (
    Close,
    Hang,
    ScriptedUpstream,
    Step,
    Wait,
    chunk,
    delta,
    document,
    finish,
    head,
    openai_text,
    sse,
)

OTHER_KEY = "oc_test_other_0123456789abcdefghijklmno"
OTHER = """
[limits.tiers.widget]
requests = "100/1s"
[[agents]]
id = 2
workspace = "acme"
name = "Second"
targets = [ { upstream = "main", model = "m" } ]
[[agents]]
id = 3
workspace = "globex"
name = "Theirs"
aliases = ["Support"]
targets = [ { upstream = "main", model = "m" } ]
[[agents]]
id = 4
workspace = "acme"
name = "Widget"
targets = [ { upstream = "main", model = "m" } ]
public = { origins = ["https://a.example", "https://b.example"], tier = "widget" }
[[keys]]
id = "other"
hash = "HASH"
workspace = "globex"
tier = "standard"
"""

V1, V2 = "/api/v1/chat", "/api/v2/agents/1/chat"


def _user(text: str) -> Json:
    return {"role": "user", "content": text}


def _said(text: str) -> Json:
    return {"role": "assistant", "content": text}


def conversation_of(answer: Answered) -> int:
    """The id that a turn ended with."""
    assert answer.status == 200, answer.body
    if answer.frames[-1][0] == "done":
        known = json.mapping(answer.frames[-1][1])
    else:
        known = json.mapping(json.mapping(answer.frames[-2][1])["metadata"])
    return int(json.identifier(known["conversationId"]) or "")


async def serve(start: Start, upstream: ScriptedUpstream, agent: str = "") -> Running:
    more = OTHER.replace("HASH", key_hash(OTHER_KEY))
    return await start(config(upstream.url, agent=agent, more=more))


async def test_history_reaches_a_stateless_upstream(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The second turn is asked with the instructions first, then the first turn, then itself; the
    dialects share conversations."""
    upstream.answers(openai_text("Hello ", "there"), openai_text("Fine"), openai_text("Bye"))
    gateway = await serve(start, upstream, 'instructions = "Be brief."')
    conversation = conversation_of(await gateway.chat_v2("Hi"))
    again = await gateway.chat_v2("How are you?", conversationId=conversation)
    assert conversation_of(again) == conversation
    await gateway.chat_v1("Bye", conversationId=conversation)

    system: Json = {"role": "system", "content": "Be brief."}
    first = [system, _user("Hi")]
    second = [*first, _said("Hello there"), _user("How are you?")]
    asked = [request.json["messages"] for request in upstream.requests]
    assert asked == [first, second, [*second, _said("Fine"), _user("Bye")]]


@pytest.mark.parametrize("written", [int, str])
async def test_ids_as_numbers_and_as_strings(
    start: Start, upstream: ScriptedUpstream, written: type[int] | type[str]
) -> None:
    """A conversation is found by its id as v2 writes it, a string, and as requests do, a number."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream)
    conversation = conversation_of(await gateway.chat_v2())
    for chat in (gateway.chat_v2, gateway.chat_v1):
        again = await chat("more", conversationId=written(conversation))
        assert conversation_of(again) == conversation


async def test_v1_ids_are_numbers(start: Start, upstream: ScriptedUpstream) -> None:
    """v1 writes ids that JavaScript can hold as a number."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream)
    done = json.mapping((await gateway.chat_v1()).frames[-1][1])
    assert type(done["conversationId"]) is int
    assert 0 < done["conversationId"] < 1 << 53


async def test_whose_conversation(start: Start, upstream: ScriptedUpstream) -> None:
    """A conversation is not found under another agent, another workspace, or without the key."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream)
    conversation = conversation_of(await gateway.chat_v2("secret"))
    body: dict[str, Json] = {"message": "more", "conversationId": conversation}

    answers = [
        await gateway.post("/api/v2/agents/2/chat", body),
        await gateway.post("/api/v2/agents/Support/chat", body, OTHER_KEY),
        await gateway.post("/api/v2/agents/3/chat", body, OTHER_KEY),
        await gateway.post(V2, {**body, "conversationId": conversation + 1}),
        await gateway.post(V2, {**body, "conversationId": 2**53 - 1}),
    ]
    assert [answer.status for answer in answers] == [404] * 5
    assert {str(answer.error["code"]) for answer in answers} == {"RESOURCE_NOT_FOUND"}
    assert len(upstream.requests) == 1


async def test_conversation_of_an_origin(start: Start, upstream: ScriptedUpstream) -> None:
    """One that was begun without a key is its page's: neither another page nor a key finds it."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream)
    body: dict[str, Json] = {"agentId": 4, "message": "hi"}
    begun = await gateway.post(V1, body, None, Origin="https://a.example")
    body["conversationId"] = conversation_of(begun)

    assert (await gateway.post(V1, body, None, Origin="https://a.example")).status == 200
    elsewhere = await gateway.post(V1, body, None, Origin="https://b.example")
    by_key = await gateway.post(V1, body, KEY)
    assert [a.error["code"] for a in (elsewhere, by_key)] == ["conversation_not_found"] * 2
    # And a key's is no page's.
    body["conversationId"] = conversation_of(await gateway.chat_v1(agent=4))
    theirs = await gateway.post(V1, body, None, Origin="https://a.example")
    assert theirs.status == 404


async def test_busy(start: Start, upstream: ScriptedUpstream) -> None:
    """While a turn runs a second one is refused; after it the conversation goes on."""
    gate = asyncio.Event()
    slow: list[Step] = [
        head(),
        chunk(b'data: {"choices":[{"delta":{"content":"Hm"}}]}\n\n'),
        Wait(gate),
    ]
    upstream.answers(
        openai_text("Hi"),
        [*slow, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"],
        openai_text("Bye"),
    )
    gateway = await serve(start, upstream)
    conversation = conversation_of(await gateway.chat_v2("one"))
    running = asyncio.ensure_future(gateway.chat_v2("two", conversationId=conversation))
    await upstream.until_requests(2)
    busy = await gateway.chat_v2("three", conversationId=conversation)
    assert (busy.status, busy.error["code"]) == (409, "CHAT_CONVERSATION_BUSY")
    gate.set()
    assert (await running).text == "Hm"
    assert (await gateway.chat_v2("four", conversationId=conversation)).status == 200
    asked = json.array(upstream.requests[-1].json["messages"])
    assert [json.mapping(message)["content"] for message in asked] == (
        ["one", "Hi", "two", "Hm", "four"]
    )


FAILED: dict[str, list[Step]] = {
    "before": document({"error": {"message": "no"}}, 500),
    "mid-stream": sse(delta("Hm"), {"error": {"message": "no"}}),
    "truncated": [head(), chunk(b'data: {"choices":[{"delta":{"content":"Hm"}}]}\n\n'), Close],
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failed", FAILED)
async def test_failed_turn_leaves_no_trace(
    start: Start, upstream: ScriptedUpstream, failed: str, stream: bool
) -> None:
    """After a turn that failed the conversation is as it was, and free."""
    upstream.answers(openai_text("Hi"), FAILED[failed], openai_text("Bye"))
    gateway = await serve(start, upstream)
    conversation = conversation_of(await gateway.chat_v2("one"))
    await gateway.chat_v2("lost", conversationId=conversation, stream=stream)
    assert (await gateway.chat_v2("two", conversationId=conversation)).text == "Bye"
    assert upstream.requests[-1].json["messages"] == [_user("one"), _said("Hi"), _user("two")]


async def test_abandoned_turn_leaves_no_trace(start: Start, upstream: ScriptedUpstream) -> None:
    """A client that leaves takes its turn with it: nothing of it is kept."""
    begun: list[Step] = [head(), chunk(b'data: {"choices":[{"delta":{"content":"Hm"}}]}\n\n'), Hang]
    upstream.answers(openai_text("Hi"), begun, openai_text("Bye"))
    gateway = await serve(start, upstream)
    conversation = conversation_of(await gateway.chat_v2("one"))
    async with gateway.raw(V2, {"message": "lost", "conversationId": conversation}) as (reader, _):
        await reader.readuntil(b"Hm")
    await eventually(lambda: gateway.gateway.limiter.busy == 0)
    assert (await gateway.chat_v2("two", conversationId=conversation)).text == "Bye"
    assert upstream.requests[-1].json["messages"] == [_user("one"), _said("Hi"), _user("two")]


async def test_first_turn_that_failed(start: Start, upstream: ScriptedUpstream) -> None:
    """A conversation whose first turn failed never was: it is in no list and takes no memory."""
    upstream.answers(FAILED["mid-stream"])
    gateway = await serve(start, upstream)
    await gateway.chat_v2("lost")
    (line,) = gateway.log_lines()
    answer = await gateway.chat_v2("two", conversationId=line["conversation"])
    assert answer.status == 404


async def test_how_much_of_it_is_sent(start: Start, upstream: ScriptedUpstream) -> None:
    """An agent's `history` bounds what a model is sent, and not what is kept; it begins with a
    user's message."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream, "history = { max_messages = 4 }")
    conversation = conversation_of(await gateway.chat_v2("one"))
    for text in ("two", "three"):
        await gateway.chat_v2(text, conversationId=conversation)

    two_turns = [_user("two"), _said("Hi"), _user("three")]
    assert upstream.requests[-1].json["messages"] == two_turns
    assert (await gateway.gateway.store.figures()).messages == 6


async def test_a_partial_answer_may_be_kept(start: Start, upstream: ScriptedUpstream) -> None:
    """With `keep_partial` what a client had seen of an answer that broke off is part of the
    conversation; one that failed before it said anything is not."""
    upstream.answers(openai_text("Hi"), FAILED["mid-stream"], FAILED["before"], openai_text("Bye"))
    text = config(upstream.url, store='url = "memory://"\nkeep_partial = true')
    gateway = await start(text)
    conversation = conversation_of(await gateway.chat_v2("one"))
    for lost in ("cut", "refused"):
        await gateway.chat_v2(lost, conversationId=conversation)
    assert (await gateway.chat_v2("two", conversationId=conversation)).text == "Bye"

    history = [_user("one"), _said("Hi"), _user("cut"), _said("Hm"), _user("two")]
    assert upstream.requests[-1].json["messages"] == history


async def test_user_is_whose_it_began_as(start: Start, upstream: ScriptedUpstream) -> None:
    """`userId` names the user when the conversation begins, and is ignored from then on."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream)
    first = await gateway.chat_v2(userId="u1")
    conversation = conversation_of(first)
    second = await gateway.chat_v2(conversationId=conversation, userId="u2")
    third = await gateway.chat_v2(conversationId=conversation)
    for answer in (first, second, third):
        metadata = json.mapping(json.mapping(answer.frames[-2][1])["metadata"])
        assert metadata["userId"] == "u1"
    assert [request.json.get("user") for request in upstream.requests] == ["u1"] * 3
    nobody = await gateway.chat_v2()
    assert "userId" not in json.mapping(json.mapping(nobody.frames[-2][1])["metadata"])


# Upstreams that keep conversations themselves.


def _bookbag(text: str, conversation: str) -> list[Json | bytes]:
    metadata: Json = {"conversationId": conversation, "messageId": "msg_5"}
    return [
        {"type": "text-delta", "text": text},
        {"type": "finish", "finishReason": "stop", "metadata": metadata},
    ]


async def test_stateful_upstream_keeps_its_own_id(start: Start, upstream: ScriptedUpstream) -> None:
    """It is asked with the id it gave, which clients never see, and gets one message at a time."""
    upstream.answers(sse(*_bookbag("Hi", "456")), sse(*_bookbag("Fine", "456")))
    text = config(
        upstream.url, kind="bookbag", target="agent = 77", agent='instructions = "Be brief."'
    )
    gateway = await start(text)
    conversation = conversation_of(await gateway.chat_v2("one"))
    assert conversation != 456
    await gateway.chat_v1("two", conversationId=conversation)
    await gateway.chat_v1("three")
    assert [request.json for request in upstream.requests] == [
        {"message": "one", "stream": True},
        {"message": "two", "stream": True, "conversationId": 456},
        {"message": "three", "stream": True},
    ]


async def test_chatbase_ids_stay_text(start: Start, upstream: ScriptedUpstream) -> None:
    """Chatbase's conversation ids are strings, and go back as such."""
    known: Json = {"conversationId": "conv_1"}
    upstream.answers(
        sse(
            {"type": "text-delta", "delta": "Hi"},
            {"type": "finish", "finishReason": "stop", "messageMetadata": known},
        )
    )
    gateway = await start(config(upstream.url, kind="chatbase", target='agent = "5QHA"'))
    conversation = conversation_of(await gateway.chat_v2("one"))
    await gateway.chat_v2("two", conversationId=conversation)
    assert upstream.requests[1].json["conversationId"] == "conv_1"


async def test_fallback_folds_the_history(start: Start, upstream: ScriptedUpstream) -> None:
    """A target that does not know the conversation gets its turns within the first message, and
    is found again by its own id."""
    async with ScriptedUpstream() as second:
        upstream.answers(
            openai_text("Hello"), document({"error": "down"}, 500), document({"error": "down"}, 500)
        )
        second.answers(sse(*_bookbag("Fine", "456")), sse(*_bookbag("Bye", "456")))
        more = f"""
[upstreams.second]
kind = "bookbag"
base_url = "{second.url}"
"""
        text = config(
            upstream.url,
            target='model = "m" }, { upstream = "second", agent = 77',
            agent='instructions = "Be brief."',
            more=more,
        )
        gateway = await start(text)
        conversation = conversation_of(await gateway.chat_v2("one"))
        again = await gateway.chat_v2("two", conversationId=conversation)
        assert (again.text, conversation_of(again)) == ("Fine", conversation)
        await gateway.chat_v2("three", conversationId=conversation)
        folded, short = (request.json for request in second.requests)
    assert folded["message"] == ("The conversation so far:\nuser: one\nassistant: Hello\n\ntwo")
    assert "conversationId" not in folded
    assert (short["message"], short["conversationId"]) == ("three", 456)


# What an agent's configuration adds.


@pytest.mark.parametrize("stream", [True, False])
async def test_credits_per_turn(start: Start, upstream: ScriptedUpstream, stream: bool) -> None:
    """Credits of the config are reported beside the upstream's tokens."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream, "credits_per_turn = 3")
    answer = await gateway.chat_v2(stream=stream)
    said = answer.json["data"] if not stream else answer.frames[-2][1]
    usage = json.mapping(json.mapping(said)["metadata"])["usage"]
    assert usage == {"inputTokens": 3, "outputTokens": 1, "credits": 3}


async def test_credits_of_the_upstream_win(start: Start, upstream: ScriptedUpstream) -> None:
    """What the upstream says a turn cost is what it cost."""
    metadata: Json = {"conversationId": "4", "usage": {"credits": 7}}
    upstream.answers(sse({"type": "finish", "finishReason": "stop", "metadata": metadata}))
    text = config(upstream.url, kind="bookbag", target="agent = 7", agent="credits_per_turn = 3")
    gateway = await start(text)
    done = json.mapping((await gateway.chat_v1()).frames[-1][1])
    assert done["usage"] == {"credits": 7}


TOOL = """
[[agents.tools]]
name = "order_status"
description = "Look an order up."
parameters = { type = "object", properties = { order = { type = "integer" } } }
"""


async def test_tools_of_the_config(start: Start, upstream: ScriptedUpstream) -> None:
    """The model is offered the agent's tools, and its call reaches the client. Models refuse a
    history with a call that nobody answered, so the next turn's has none."""
    call: Json = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "order_status", "arguments": '{"order":7}'},
    }
    called: Json = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
    upstream.answers(sse(called, finish("tool_calls")), openai_text("Well"))
    gateway = await serve(start, upstream, TOOL)
    answer = await gateway.chat_v2("Where is 7?")
    assert answer.frames[0][1] == {
        "type": "tool-call",
        "toolCallId": "call_1",
        "toolName": "order_status",
        "input": {"order": 7},
    }
    await gateway.chat_v2("And?", conversationId=conversation_of(answer))

    schema: Json = {"type": "object", "properties": {"order": {"type": "integer"}}}
    offered: Json = {
        "name": "order_status",
        "description": "Look an order up.",
        "parameters": schema,
    }
    assert upstream.requests[0].json["tools"] == [{"type": "function", "function": offered}]
    history = json.array(upstream.requests[1].json["messages"])
    assert history == [_user("Where is 7?"), _user("And?")]


async def test_model_of_the_request(start: Start, upstream: ScriptedUpstream) -> None:
    """v1's `model` is used if the agent allows it; v2 has no such field, and ignores it."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream, 'allowed_models = ["large"]')
    assert (await gateway.chat_v1(model="large")).status == 200
    assert (await gateway.chat_v2(model="huge")).status == 200
    refused = await gateway.chat_v1(model="huge")
    assert (refused.status, refused.error["code"]) == (403, "forbidden")
    assert (await gateway.chat_v1(model="m")).status == 403
    assert [request.json["model"] for request in upstream.requests] == ["large", "m"]


@pytest.mark.parametrize("name", ["1", "Support", "help desk", "サポート"])
async def test_agents_by_any_name(start: Start, upstream: ScriptedUpstream, name: str) -> None:
    """An agent is found by its id, its name or an alias, in both dialects."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream, 'aliases = ["help desk", "サポート"]')
    assert (await gateway.chat_v2(agent=name)).status == 200
    assert (await gateway.chat_v1(agent=name)).status == 200
