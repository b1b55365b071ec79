"""Tools and retries with upstreams that keep conversations themselves, and with agents that fall
back from one kind of upstream to the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import config
from tests.e2e.scripted import ScriptedUpstream, Step, document, openai_text, sse
from tests.e2e.talking import (
    TOOLS,
    Client,
    call,
    called,
    calling,
    calls_of,
    found,
    histories,
    message_of,
    metadata,
    said,
    user,
)

TAKEN = document({"data": {"success": True}})
DOWN = document({"error": {"message": "down"}}, 500)


@dataclass(frozen=True, slots=True)
class Hosted:
    """How one of them speaks."""

    kind: str
    target: str
    conversation: str

    @property
    def agent(self) -> str:
        """The path of its agent."""
        return f"/api/v2/agents/{self.target.split()[-1].strip(chr(34))}"

    @property
    def named(self) -> Json:
        """The conversation in a request's body."""
        return int(self.conversation) if self.kind == "bookbag" else self.conversation

    def text(self, text: str, message: str, conversation: str = "") -> list[Step]:
        """An answer in words."""
        key = "text" if self.kind == "bookbag" else "delta"
        return self._ends("stop", message, conversation, {"type": "text-delta", key: text})

    def call(self, call_id: str, order: int, message: str) -> list[Step]:
        """One that calls a tool."""
        kind = "tool-call" if self.kind == "bookbag" else "tool-input-available"
        about: dict[str, Json] = {"toolCallId": call_id, "toolName": "order_status"}
        return self._ends("tool-calls", message, "", {"type": kind, **about, "input": {"n": order}})

    def _ends(
        self, reason: str, message: str, conversation: str, *events: dict[str, Json]
    ) -> list[Step]:
        known: Json = {
            "messageId": message,
            "conversationId": conversation or self.conversation,
        }
        key = "metadata" if self.kind == "bookbag" else "messageMetadata"
        return sse(*events, {"type": "finish", "finishReason": reason, key: known})


BOOKBAG = Hosted("bookbag", "agent = 77", "456")
CHATBASE = Hosted("chatbase", 'agent = "5QHA"', "conv_1")

both = pytest.mark.parametrize("hosted", [BOOKBAG, CHATBASE], ids=lambda hosted: hosted.kind)


async def serve_hosted(start: Start, upstream: ScriptedUpstream, hosted: Hosted) -> Client:
    text = config(upstream.url, kind=hosted.kind, target=hosted.target, agent=TOOLS)
    return Client(await start(text))


@both
async def test_a_hosted_agents_calls(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """Their results go to the endpoint that it has for them, under its own ids, also where it uses
    one again; then it is asked to go on, without a message."""
    upstream.answers(
        hosted.call("call_0", 1, "msg_5"),
        TAKEN,
        hosted.call("call_0", 2, "msg_6"),
        TAKEN,
        hosted.text("Both shipped", "msg_7"),
        hosted.text("Bye", "msg_8"),
    )
    client = await serve_hosted(start, upstream, hosted)
    ((first, arguments),) = calls_of(await client.say("Where are they?")).items()
    assert arguments == {"n": 1}
    assert (await client.hand_in(first, {"status": "shipped"})).status == 200
    ((second, arguments),) = calls_of(await client.say(None)).items()
    assert arguments == {"n": 2}
    assert second != first
    assert (await client.hand_in(second, None)).status == 200
    assert (await client.say(None)).text == "Both shipped"
    assert (await client.say("Thanks")).text == "Bye"

    chat, results = f"{hosted.agent}/chat", f"{hosted.agent}/conversations/{hosted.conversation}"
    go_on: Json = {"conversationId": hosted.named, "stream": True}
    assert [(request.path, request.json) for request in upstream.requests] == [
        (chat, {"message": "Where are they?", "stream": True}),
        (f"{results}/tool-result", {"toolCallId": "call_0", "output": {"status": "shipped"}}),
        (chat, go_on),
        (f"{results}/tool-result", {"toolCallId": "call_0", "output": None}),
        (chat, go_on),
        (chat, {"message": "Thanks", "stream": True, "conversationId": hosted.named}),
    ]


@both
async def test_a_result_given_twice(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """A client that is not sure may say it again: the upstream hears it once."""
    upstream.answers(hosted.call("call_0", 1, "msg_5"), TAKEN, hosted.text("Fine", "msg_6"))
    client = await serve_hosted(start, upstream, hosted)
    await client.say("Where?")
    assert (await client.hand_in("call_0", "there")).status == 200
    assert (await client.hand_in("call_0", "there")).status == 200
    assert (await client.hand_in("call_0", "elsewhere")).status == 404
    assert (await client.say(None)).text == "Fine"
    assert len(upstream.requests) == 3


@both
async def test_a_call_that_has_expired_there(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """It waits here no longer, either; the conversation can go on with a message."""
    gone: Json = {"error": {"code": "RESOURCE_TOOL_CALL_NOT_FOUND", "message": "expired 7"}}
    upstream.answers(
        hosted.call("call_0", 1, "msg_5"), document(gone, 404), hosted.text("Well", "msg_6")
    )
    client = await serve_hosted(start, upstream, hosted)
    await client.say("Where?")
    late = await client.hand_in("call_0", "there")
    assert (late.status, late.error["code"]) == (404, "RESOURCE_TOOL_CALL_NOT_FOUND")
    assert b"expired 7" not in late.body
    assert (await client.say(None)).status == 400
    assert (await client.say("Never mind")).text == "Well"


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[ScriptedUpstream]:
    """An upstream at an address where there was one before."""
    async with ScriptedUpstream(port=urlsplit(url).port or 0) as upstream:
        yield upstream


@both
async def test_an_upstream_that_is_down(start: Start, hosted: Hosted) -> None:
    """The result is not taken, and the call still waits for it."""
    async with ScriptedUpstream([hosted.call("call_0", 1, "msg_5")]) as before:
        url = before.url
        client = await serve_hosted(start, before, hosted)
        await client.say("Where?")
    down = await client.hand_in("call_0", "there")
    assert (down.status, down.error["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert (await client.say(None)).status == 400
    async with listening(url) as again:
        again.answers(TAKEN, hosted.text("Fine", "msg_6"))
        assert (await client.hand_in("call_0", "there")).status == 200
        assert (await client.say(None)).text == "Fine"
        assert again.requests[0].json == {"toolCallId": "call_0", "output": "there"}


@both
async def test_an_upstream_that_fails_is_counted(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """As in a turn, and it is in the log."""
    upstream.answers(hosted.call("call_0", 1, "msg_5"), DOWN)
    client = await serve_hosted(start, upstream, hosted)
    await client.say("Where?")
    assert (await client.hand_in("call_0", "there")).status == 502
    assert await client.gateway.upstream_errors() == {"upstream_failed": 1}
    assert client.gateway.log_lines()[-1]["upstream"] == "main"


# From one kind of upstream to the other.


@asynccontextmanager
async def falling_back(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> AsyncIterator[tuple[Client, ScriptedUpstream]]:
    """A model first, a hosted agent where it fails."""
    async with ScriptedUpstream() as second:
        text = config(
            upstream.url,
            target=f'model = "m" }}, {{ upstream = "second", {hosted.target}',
            agent=TOOLS,
            more=f'\n[upstreams.second]\nkind = "{hosted.kind}"\nbase_url = "{second.url}"\n',
        )
        yield Client(await start(text)), second


@both
async def test_tools_across_a_fallback(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """A hosted agent that takes over hears of the tools in words; a model that takes over has the
    agent's calls in its history; and an agent that missed a turn is told everything again."""
    made = call("call_0", '{"order":7}')
    upstream.answers(calling(made), openai_text("Shipped"), DOWN, openai_text("Two"), DOWN)
    async with falling_back(start, upstream, hosted) as (client, second):
        second.answers(
            hosted.call("call_0", 8, "msg_5"),
            TAKEN,
            hosted.text("Bye", "msg_9", hosted.conversation),
        )
        await client.say("Where is 7?")
        await client.hand_in("call_0", "shipped")
        await client.say(None)
        ((call_id, _),) = calls_of(await client.say("And 8?")).items()
        assert call_id != "call_0"
        await client.hand_in(call_id, "lost")
        assert (await client.say(None)).text == "Two"
        assert (await client.say("Thanks")).text == "Bye"
        folded, result, again = (request.json for request in second.requests)

    known = [user("Where is 7?"), called(made), found("call_0", "shipped"), said("Shipped")]
    theirs = called(call("call_0", '{"n":8}'))
    whole = [*known, user("And 8?"), theirs, found("call_0", "lost")]
    assert histories(upstream)[2:4] == [[*known, user("And 8?")], whole]
    assert histories(upstream)[4] == [*whole, said("Two"), user("Thanks")]
    heard = (
        "The conversation so far:\nuser: Where is 7?\n"
        'tool order_status({"order":7}): shipped\nassistant: Shipped\n'
    )
    assert folded == {"message": f"{heard}\nAnd 8?", "stream": True}
    assert result == {"toolCallId": "call_0", "output": "lost"}
    assert again == {
        "message": f'{heard}user: And 8?\ntool order_status({{"n":8}}): lost\n'
        "assistant: Two\n\nThanks",
        "stream": True,
    }


@both
async def test_results_for_an_agent_that_takes_over(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """It is told of a model's call and of what it found, and asked for the rest of the answer."""
    upstream.answers(calling(call("call_0", '{"order":7}')), DOWN)
    async with falling_back(start, upstream, hosted) as (client, second):
        second.answers(hosted.text("Shipped", "msg_5"))
        await client.say("Where is 7?")
        assert (await client.hand_in("call_0", "shipped")).status == 200
        assert second.requests == []
        assert (await client.say(None)).text == "Shipped"
        assert second.requests[0].json == {
            "message": "The conversation so far:\nuser: Where is 7?\n\n"
            'tool order_status({"order":7}): shipped',
            "stream": True,
        }


# Answers asked for anew.


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_retry_at_a_hosted_agent(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted, stream: bool
) -> None:
    """It is asked to replace its own message, by its own names, and goes on from the new one."""
    upstream.answers(
        hosted.text("One", "msg_5"),
        hosted.text("Two", "msg_7"),
        hosted.text("Other", "msg_9"),
        hosted.text("Again", "msg_11"),
        hosted.text("Three", "msg_13"),
    )
    client = await serve_hosted(start, upstream, hosted)
    await client.say("one")
    answer = await client.say("two")
    other = await client.retry(message_of(answer), stream=stream)
    assert metadata(other)["userMessageId"] == metadata(answer)["userMessageId"]
    assert message_of(other) != message_of(answer)
    again = await client.retry(message_of(other))
    assert again.text == "Again"
    assert (await client.retry(message_of(answer))).status == 404
    await client.say("three")

    retry = f"{hosted.agent}/conversations/{hosted.conversation}/retry"
    assert [(request.path, request.json) for request in upstream.requests[2:]] == [
        (retry, {"messageId": "msg_7", "stream": stream}),
        (retry, {"messageId": "msg_9", "stream": True}),
        (
            f"{hosted.agent}/chat",
            {"message": "three", "stream": True, "conversationId": hosted.named},
        ),
    ]


@both
async def test_retry_after_tools(start: Start, upstream: ScriptedUpstream, hosted: Hosted) -> None:
    """The whole turn is answered anew, from the user's message on: its calls are gone, and their
    ids are free."""
    upstream.answers(
        hosted.call("call_0", 1, "msg_5"),
        TAKEN,
        hosted.text("Shipped", "msg_6"),
        hosted.call("call_0", 2, "msg_8"),
        TAKEN,
        hosted.text("Lost", "msg_9"),
    )
    client = await serve_hosted(start, upstream, hosted)
    await client.say("Where?")
    await client.hand_in("call_0", "there")
    answer = await client.say(None)
    assert calls_of(await client.retry(message_of(answer))) == {"call_0": {"n": 2}}
    assert (await client.hand_in("call_0", "nowhere")).status == 200
    assert (await client.say(None)).text == "Lost"

    assert upstream.requests[3].json == {"messageId": "msg_6", "stream": True}
    assert upstream.requests[4].json == {"toolCallId": "call_0", "output": "nowhere"}


@both
async def test_retry_at_an_agent_that_missed_a_turn(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """It has no message to replace: what was said before the question is told with it, in a
    conversation of its own, which then goes on."""
    upstream.answers(DOWN, openai_text("Two"), DOWN)
    async with falling_back(start, upstream, hosted) as (client, second):
        second.answers(
            hosted.text("One", "msg_5"),
            hosted.text("Other", "msg_7", "9"),
            hosted.text("Hm", "msg_9", "9"),
        )
        first = await client.say("one")
        answer = await client.say("two")
        other = await client.retry(message_of(answer))
        assert (answer.text, other.text) == ("Two", "Other")
        # Nor has it the answer to the first question in the conversation that it knows by now.
        assert (await client.retry(message_of(first))).text == "Hm"
        asked = [(request.path, request.json) for request in second.requests]

    chat = f"{hosted.agent}/chat"
    told = "The conversation so far:\nuser: one\nassistant: One\n\ntwo"
    assert asked == [
        (chat, {"message": "one", "stream": True}),
        (chat, {"message": told, "stream": True}),
        (chat, {"message": "one", "stream": True}),
    ]


@both
async def test_a_conversation_that_was_forgotten(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """An agent that no longer knows the conversation is told all of it in a new one, which then
    goes on."""
    gone = document({"error": {"code": "RESOURCE_NOT_FOUND", "message": "not found"}}, 404)
    upstream.answers(
        hosted.text("One", "msg_5"),
        gone,
        hosted.text("Two", "msg_7", "9"),
        hosted.text("Three", "msg_9", "9"),
    )
    client = await serve_hosted(start, upstream, hosted)
    for question, answer in (("one", "One"), ("two", "Two"), ("three", "Three")):
        assert (await client.say(question)).text == answer

    told = "The conversation so far:\nuser: one\nassistant: One\n\ntwo"
    asked = [request.json for request in upstream.requests[1:]]
    assert [(said["message"], said.get("conversationId")) for said in asked] == [
        ("two", hosted.named),
        (told, None),
        ("three", 9 if hosted.kind == "bookbag" else "9"),
    ]


@both
async def test_an_agent_that_is_not_there(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """A 404 that is not the conversation's fault stays the upstream's failure."""
    gone = document({"error": {"code": "RESOURCE_NOT_FOUND", "message": "not found"}}, 404)
    upstream.answers(hosted.text("One", "msg_5"), gone, gone)
    client = await serve_hosted(start, upstream, hosted)
    await client.say("one")
    answer = await client.say("two")

    assert answer.status == 502
    assert answer.error["code"] == "UPSTREAM_ERROR"
    assert len(upstream.requests) == 3
