"""Client-side tools with models that are told the whole conversation."""

import pytest

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import config
from tests.e2e.scripted import ScriptedUpstream, finish, openai_text, sse
from tests.e2e.talking import (
    TOOLS,
    Client,
    call,
    called,
    calling,
    calls_of,
    delta,
    found,
    histories,
    message_of,
    metadata,
    said,
    user,
)


async def serve(start: Start, upstream: ScriptedUpstream) -> Client:
    return Client(await start(config(upstream.url, agent=TOOLS)))


async def test_the_agents_tools_are_offered(start: Start, upstream: ScriptedUpstream) -> None:
    """Each as the config has it, schema and all, with every request."""
    upstream.answers(openai_text("Hi"))
    client = await serve(start, upstream)
    await client.say("one")
    await client.say("two", stream=False)

    schema: Json = {
        "type": "object",
        "properties": {"order": {"type": "integer"}},
        "required": ["order"],
        "additionalProperties": False,
    }
    status: Json = {
        "name": "order_status",
        "description": "Look an order up.",
        "parameters": schema,
    }
    refund: Json = {
        "name": "refund",
        "description": "Give money back.",
        "parameters": {"type": "object", "properties": {}},
    }
    tools: Json = [{"type": "function", "function": tool} for tool in (status, refund)]
    assert [request.json["tools"] for request in upstream.requests] == [tools, tools]


async def test_one_call(start: Start, upstream: ScriptedUpstream) -> None:
    """The call reaches the client, its result the model, and the model's answer the client."""
    made = call("call_abc", '{"order":7}')
    upstream.answers(calling(made), openai_text("It has shipped"), openai_text("Bye"))
    client = await serve(start, upstream)
    asked = await client.say("Where is 7?")
    assert calls_of(asked) == {"call_abc": {"order": 7}}
    taken = await client.hand_in("call_abc", {"status": "shipped"})
    assert (taken.status, taken.json) == (200, {"data": {"success": True}})
    assert len(upstream.requests) == 1
    answer = await client.say(None)
    assert (answer.text, calls_of(answer)) == ("It has shipped", {})
    assert metadata(answer)["userMessageId"] == metadata(asked)["userMessageId"]
    assert message_of(answer) != message_of(asked)
    await client.say("Thanks")

    first = [user("Where is 7?")]
    second = [*first, called(made), found("call_abc", '{"status":"shipped"}')]
    third = [*second, said("It has shipped"), user("Thanks")]
    assert histories(upstream) == [first, second, third]


async def test_an_answer_that_also_speaks(start: Start, upstream: ScriptedUpstream) -> None:
    """What a model says before it calls a tool is told back with the call."""
    made = call("call_abc")
    text: Json = {"choices": [{"index": 0, "delta": {"content": "Let me look."}}]}
    upstream.answers(sse(text, delta(made), finish("tool_calls")), openai_text("Here"))
    client = await serve(start, upstream)
    assert (await client.say("Where?")).text == "Let me look."
    await client.hand_in("call_abc", "there")
    await client.say(None)

    assert histories(upstream)[1] == [
        user("Where?"),
        called(made, text="Let me look."),
        found("call_abc", "there"),
    ]


async def test_several_calls_in_one_answer(start: Start, upstream: ScriptedUpstream) -> None:
    """Each has its own result, in whatever order they come; the answer waits for all of them."""
    calls = [call(f"call_{n}", f'{{"order":{n}}}', n) for n in range(3)]
    upstream.answers(calling(*calls), openai_text("All there"))
    client = await serve(start, upstream)
    asked = calls_of(await client.say("Where are they?"))
    assert asked == {f"call_{n}": {"order": n} for n in range(3)}
    for n in (2, 0):
        assert (await client.hand_in(f"call_{n}", f"at {n}")).status == 200
    early = await client.say(None)
    assert (early.status, early.error["code"]) == (400, "VALIDATION_INVALID_BODY")
    assert "call_1" in json.text(early.error["message"])
    assert (await client.hand_in("call_1", "at 1")).status == 200
    assert (await client.say(None)).text == "All there"

    results = [found(f"call_{n}", f"at {n}") for n in range(3)]
    assert histories(upstream)[1:] == [[user("Where are they?"), called(*calls), *results]]


@pytest.mark.parametrize("own", ["call_0", "order_status", "D681PevKs", "call_0_2"])
async def test_several_rounds_of_one_id(start: Start, upstream: ScriptedUpstream, own: str) -> None:
    """A server that calls the calls of every answer alike hears its own ids again; the client can
    tell them apart, also a round later."""
    rounds = [call(own, f'{{"order":{n}}}') for n in range(3)]
    upstream.answers(*map(calling, rounds), openai_text("Done"), openai_text("Bye"))
    client = await serve(start, upstream)
    answer, ids = await client.say("Go"), []
    for n in range(3):
        ((call_id, arguments),) = calls_of(answer).items()
        assert arguments == {"order": n}
        ids.append(call_id)
        assert (await client.hand_in(call_id, f"at {n}")).status == 200
        answer = await client.say(None)
    assert answer.text == "Done"
    assert (len(set(ids)), ids[0]) == (3, own)
    assert (await client.hand_in(ids[2], "again")).status == 404
    await client.say("Bye")

    history = [user("Go")]
    for n, made in enumerate(rounds):
        history += [called(made), found(own, f"at {n}")]
    assert histories(upstream)[3] == history
    assert histories(upstream)[4] == [*history, said("Done"), user("Bye")]


async def test_arguments_in_fragments(start: Start, upstream: ScriptedUpstream) -> None:
    """The client gets each call once, whole; what goes back is what the model wrote."""
    pieces = ['{"or', 'der"', ": 7,", ' "why": "é\\"}"', "}"]
    parts = [delta({"index": 0, "function": {"arguments": piece}}) for piece in pieces]
    upstream.answers(
        sse(delta(call("call_abc", "")), *parts, finish("tool_calls")), openai_text("Here")
    )
    client = await serve(start, upstream)
    assert calls_of(await client.say("Where?")) == {"call_abc": {"order": 7, "why": 'é"}'}}
    await client.hand_in("call_abc", "there")
    await client.say(None)

    _, back, _ = json.array(histories(upstream)[1])
    (made,) = json.array(json.mapping(back)["tool_calls"])
    written = json.text(json.mapping(json.mapping(made)["function"])["arguments"])
    assert json.loads(written.encode()) == {"order": 7, "why": 'é"}'}


async def test_what_an_upstream_wants_echoed(start: Start, upstream: ScriptedUpstream) -> None:
    """Gemini refuses a result whose call comes back without its signature."""
    signature: Json = {"google": {"thought_signature": "c2lnbmF0dXJl"}}
    made = call("function-call-1", '{"order":7}', extra_content=signature)
    upstream.answers(calling(made), openai_text("Here"))
    client = await serve(start, upstream)
    answer = await client.say("Where?")
    assert b"c2lnbmF0dXJl" not in answer.body
    await client.hand_in("function-call-1", "there")
    await client.say(None)

    assert histories(upstream)[1] == [
        user("Where?"),
        called(made),
        found("function-call-1", "there"),
    ]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("it shipped", "it shipped"),
        ("", ""),
        ({"status": "schon da – „ja“"}, '{"status":"schon da – „ja“"}'),
        ([1, None], "[1,null]"),
        (None, "null"),
        (False, "false"),
    ],
)
async def test_results_of_any_kind(
    start: Start, upstream: ScriptedUpstream, output: Json, text: str
) -> None:
    """Text goes to the model as it stands, anything else as JSON."""
    upstream.answers(calling(call("call_abc")), openai_text("Here"))
    client = await serve(start, upstream)
    await client.say("Where?")
    assert (await client.hand_in("call_abc", output)).status == 200
    assert (await client.say(None)).text == "Here"

    assert json.array(histories(upstream)[1])[-1] == found("call_abc", text)


async def test_calls_that_are_never_answered(start: Start, upstream: ScriptedUpstream) -> None:
    """A client may go on with a message: models refuse a history with such a call, so it is not
    told of, and takes no result any more."""
    one, two = call("call_0", '{"order":1}'), call("call_1", '{"order":2}', 1)
    upstream.answers(calling(one, two), openai_text("Well"))
    client = await serve(start, upstream)
    await client.say("Where are they?")
    await client.hand_in("call_1", "there")
    assert (await client.say("Never mind")).text == "Well"
    assert (await client.hand_in("call_0", "here")).status == 404

    assert histories(upstream)[1] == [
        user("Where are they?"),
        called(two),
        found("call_1", "there"),
        user("Never mind"),
    ]


async def test_retry_at_a_model(start: Start, upstream: ScriptedUpstream) -> None:
    """It is asked what it was asked, and is told nothing of the answer that was not wanted."""
    upstream.answers(
        openai_text("One"),
        calling(call("call_0")),
        openai_text("Two"),
        openai_text("Other"),
        openai_text("Three"),
    )
    client = await serve(start, upstream)
    await client.say("one")
    await client.say("two")
    await client.hand_in("call_0", "there")
    answer = await client.say(None)
    assert (await client.retry(message_of(answer))).text == "Other"
    await client.say("three")

    asked = [user("one"), said("One"), user("two")]
    assert histories(upstream)[1] == asked
    assert histories(upstream)[3:] == [asked, [*asked, said("Other"), user("three")]]
