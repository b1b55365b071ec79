"""Clients that tell the whole conversation with every request, in front of upstreams that keep
conversations themselves and take one message at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import Answered, Running, config
from tests.e2e.scripted import (
    END,
    ScriptedUpstream,
    Step,
    Wait,
    chunk,
    document,
    event,
    head,
    openai_text,
    sse,
)
from tests.e2e.test_hosted import BOOKBAG, CHATBASE, DOWN, TAKEN, Hosted, both

OTHER = "conv_2"


@dataclass(slots=True)
class Telling:
    """A client of OpenAI's: it keeps the conversation, and says all of it each time."""

    gateway: Running
    messages: list[Json] = field(default_factory=list)

    async def say(self, text: str, **more: Json) -> str:
        """A message; the text of the answer, which is taken into the history."""
        self.messages.append({"role": "user", "content": text})
        return json.text((await self.go_on(**more)).get("content"))

    async def go_on(self, **more: Json) -> dict[str, Json]:
        """The whole as it is; the answer, taken into it."""
        answer = await self.post(**more)
        assert answer.status == 200, answer.body
        choice = json.mapping(json.array(answer.json["choices"])[0])
        said = json.mapping(choice["message"])
        self.messages.append(said)
        return said

    async def post(self, **more: Json) -> Answered:
        body: Json = {"model": "1", "messages": self.messages, **more}
        return await self.gateway.post("/v1/chat/completions", body)

    def hand_in(self, call: Json, text: str) -> None:
        """A tool's result, for the next request."""
        name = json.mapping(call)["id"]
        self.messages.append({"role": "tool", "tool_call_id": name, "content": text})


async def serve(start: Start, upstream: ScriptedUpstream, hosted: Hosted, **more: str) -> Telling:
    return Telling(
        await start(config(upstream.url, kind=hosted.kind, target=hosted.target, **more))
    )


def asked(upstream: ScriptedUpstream) -> list[tuple[str, Json]]:
    """What the upstream was asked: the end of the path, and the body but for `stream`."""
    return [
        (r.path.rpartition("/")[2], {k: v for k, v in r.json.items() if k != "stream"})
        for r in upstream.requests
    ]


def new(message: str) -> tuple[str, Json]:
    """A question that opens a conversation."""
    return "chat", {"message": message}


def more(hosted: Hosted, message: str) -> tuple[str, Json]:
    """One that goes on with the known one."""
    return "chat", {"message": message, "conversationId": hosted.named}


def folded(*lines: str) -> str:
    """All that was said before, and the new message."""
    *earlier, last = lines
    return "\n".join(["The conversation so far:", *earlier, "", last])


@both
async def test_each_message_is_told_once(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """The upstream's conversation is found again by the history, and only the new message sent."""
    texts = [hosted.text(text, f"msg_{text}") for text in ("One", "Two", "Three")]
    upstream.answers(*texts)
    client = await serve(start, upstream, hosted)
    said = [await client.say(text) for text in ("1", "2", "3")]

    assert said == ["One", "Two", "Three"]
    assert asked(upstream) == [new("1"), more(hosted, "2"), more(hosted, "3")]


async def test_a_stream_is_remembered_before_its_end(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A client that has seen the end can go on at once; its own instructions make no difference,
    nor how it lays an answer out."""
    upstream.answers(BOOKBAG.text("One\n two", "msg_5"), BOOKBAG.text("Three", "msg_6"))
    client = await serve(start, upstream, BOOKBAG)
    client.messages = [{"role": "system", "content": "It is 12:01."}]
    client.messages.append({"role": "user", "content": "1"})
    stream = await client.post(stream=True)
    assert stream.body.endswith(b"data: [DONE]\n\n")
    parts: list[Json] = [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]
    client.messages[0] = {"role": "system", "content": "It is 12:02."}
    client.messages.append({"role": "assistant", "content": parts})
    await client.say("2")

    assert asked(upstream) == [new("1"), more(BOOKBAG, "2")]


@both
async def test_an_unknown_history_is_folded(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """Into the first message of a new conversation, with which it then goes on."""
    upstream.answers(hosted.text("Three", "msg_5"), hosted.text("Four", "msg_6"))
    client = await serve(start, upstream, hosted)
    client.messages = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "Two"},
    ]
    await client.say("3")
    await client.say("4")

    known = folded("user: 1", "assistant: Two", "3")
    assert asked(upstream) == [new(known), more(hosted, "4")]


async def test_an_answer_anew_opens_another_conversation(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The upstream's has moved on; what follows goes on with the new one."""
    upstream.answers(
        CHATBASE.text("One", "msg_1"),
        CHATBASE.text("Two", "msg_2"),
        CHATBASE.text("Two, better", "msg_3", OTHER),
        CHATBASE.text("Three", "msg_4", OTHER),
    )
    client = await serve(start, upstream, CHATBASE)
    await client.say("1")
    await client.say("2")
    client.messages.pop()
    await client.go_on()
    await client.say("3")

    assert asked(upstream) == [
        new("1"),
        more(CHATBASE, "2"),
        new(folded("user: 1", "assistant: One", "2")),
        ("chat", {"message": "3", "conversationId": OTHER}),
    ]


@both
async def test_tools(start: Start, upstream: ScriptedUpstream, hosted: Hosted) -> None:
    """Results go to the upstream's own endpoint, under its own ids also where it uses one again;
    then it is asked to go on, without a message."""
    upstream.answers(
        hosted.call("call_0", 1, "msg_5"),
        TAKEN,
        hosted.call("call_0", 2, "msg_6"),
        TAKEN,
        hosted.text("Both shipped", "msg_7"),
        hosted.text("Bye", "msg_8"),
    )
    client = await serve(start, upstream, hosted)
    client.messages.append({"role": "user", "content": "Where?"})
    (first,) = json.array((await client.go_on())["tool_calls"])
    client.hand_in(first, '{"status": "shipped"}')
    (second,) = json.array((await client.go_on())["tool_calls"])
    assert json.mapping(second)["id"] != json.mapping(first)["id"]
    client.hand_in(second, "shipped, too")
    assert (await client.go_on())["content"] == "Both shipped"
    assert await client.say("Thanks") == "Bye"

    go_on = ("chat", {"conversationId": hosted.named})
    assert asked(upstream) == [
        new("Where?"),
        ("tool-result", {"toolCallId": "call_0", "output": {"status": "shipped"}}),
        go_on,
        ("tool-result", {"toolCallId": "call_0", "output": "shipped, too"}),
        go_on,
        more(hosted, "Thanks"),
    ]


REFUSED = document({"error": {"code": "RESOURCE_TOOL_CALL_NOT_FOUND", "message": "expired"}}, 404)


@both
async def test_a_result_that_the_upstream_does_not_take(
    start: Start, upstream: ScriptedUpstream, hosted: Hosted
) -> None:
    """It is told with all the rest, in a new conversation."""
    upstream.answers(hosted.call("call_0", 1, "msg_5"), REFUSED, hosted.text("Shipped", "msg_6"))
    client = await serve(start, upstream, hosted)
    client.messages.append({"role": "user", "content": "Where?"})
    (call,) = json.array((await client.go_on())["tool_calls"])
    client.hand_in(call, "shipped")
    assert (await client.go_on())["content"] == "Shipped"

    all_of_it = folded("user: Where?", 'tool order_status({"n":1}): shipped')
    assert asked(upstream)[2] == new(all_of_it)


async def test_a_conversation_that_the_upstream_forgot(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """It is told all of it again."""
    gone = document({"error": {"code": "RESOURCE_NOT_FOUND", "message": "gone"}}, 404)
    upstream.answers(CHATBASE.text("One", "msg_1"), gone, CHATBASE.text("Two", "msg_2", OTHER))
    client = await serve(start, upstream, CHATBASE)
    await client.say("1")
    assert await client.say("2") == "Two"
    await client.say("3")

    assert asked(upstream)[2:] == [
        new(folded("user: 1", "assistant: One", "2")),
        ("chat", {"message": "3", "conversationId": OTHER}),
    ]


async def test_a_turn_that_failed(start: Start, upstream: ScriptedUpstream) -> None:
    """The upstream may have heard the question: asked again, it is told all in a new one."""
    upstream.answers(CHATBASE.text("One", "msg_1"), DOWN, CHATBASE.text("Two", "msg_2", OTHER))
    client = await serve(start, upstream, CHATBASE)
    await client.say("1")
    client.messages.append({"role": "user", "content": "2"})
    assert (await client.post()).status == 502
    await client.go_on()

    question = "2"
    assert asked(upstream) == [
        new("1"),
        more(CHATBASE, question),
        new(folded("user: 1", "assistant: One", question)),
    ]


async def test_two_at_once(start: Start, upstream: ScriptedUpstream) -> None:
    """Of two requests with one history, one goes on with the conversation; the other opens its
    own, with which its own history then goes on."""
    released = asyncio.Event()
    slow: Sequence[Step] = [
        head(),
        chunk(event({"type": "text-delta", "delta": "Two"})),
        Wait(released),
        chunk(event({"type": "finish", "finishReason": "stop", "messageMetadata": {
            "messageId": "msg_2", "conversationId": CHATBASE.conversation,
        }})),
        END,
    ]  # fmt: skip
    upstream.answers(
        CHATBASE.text("One", "msg_1"),
        slow,
        CHATBASE.text("Zwei", "msg_3", OTHER),
        CHATBASE.text("Fine", "msg_4"),
    )
    first = await serve(start, upstream, CHATBASE)
    await first.say("1")
    second = Telling(first.gateway, list(first.messages))
    async with asyncio.TaskGroup() as group:
        going = group.create_task(first.say("2"))
        await upstream.until_requests(2)
        assert await second.say("2") == "Zwei"
        released.set()
    assert going.result() == "Two"
    await first.say("3")
    await second.say("3")

    assert asked(upstream)[1:] == [
        more(CHATBASE, "2"),
        new(folded("user: 1", "assistant: One", "2")),
        more(CHATBASE, "3"),
        ("chat", {"message": "3", "conversationId": OTHER}),
    ]


async def test_users_are_kept_apart(start: Start, upstream: ScriptedUpstream) -> None:
    """The same words of another user are another conversation."""
    upstream.answers(CHATBASE.text("One", "msg_1"), CHATBASE.text("Two", "msg_2", OTHER))
    client = await serve(start, upstream, CHATBASE)
    await client.say("1", user="ann")
    await client.say("2", user="bob")

    told = folded("user: 1", "assistant: One", "2")
    assert asked(upstream)[1] == ("chat", {"message": told, "userId": "bob"})


async def test_a_new_conversation_without_a_name(start: Start, upstream: ScriptedUpstream) -> None:
    """What an upstream was told from the start is not taken for the conversation before it."""
    unnamed = sse(
        {"type": "text-delta", "delta": "Shipped"}, {"type": "finish", "finishReason": "stop"}
    )
    upstream.answers(
        CHATBASE.call("call_0", 1, "msg_5"), REFUSED, unnamed, CHATBASE.text("Bye", "msg_7", OTHER)
    )
    client = await serve(start, upstream, CHATBASE)
    client.messages.append({"role": "user", "content": "Where?"})
    (call,) = json.array((await client.go_on())["tool_calls"])
    client.hand_in(call, "shipped")
    await client.go_on()
    await client.say("Thanks")

    last = json.mapping(asked(upstream)[-1][1])
    assert "conversationId" not in last
    assert json.text(last["message"]).endswith("assistant: Shipped\n\nThanks")


async def test_a_model_answers_in_between(start: Start, upstream: ScriptedUpstream) -> None:
    """Of what a stateless upstream answers nothing is kept, and the hosted agent, which has missed
    it, is told all of it afterwards."""
    async with ScriptedUpstream() as second:
        upstream.answers(DOWN, openai_text("Two"), DOWN)
        second.answers(CHATBASE.text("One", "msg_1"), CHATBASE.text("Three", "msg_2", OTHER))
        text = config(
            upstream.url,
            target=f'model = "m" }}, {{ upstream = "second", {CHATBASE.target}',
            more=f'\n[upstreams.second]\nkind = "chatbase"\nbase_url = "{second.url}"\n',
        )
        client = Telling(await start(text))
        said = [await client.say(text) for text in ("1", "2", "3")]
        kept = await client.gateway.gateway.store.figures()

        assert said == ["One", "Two", "Three"]
        assert asked(second) == [
            new("1"),
            new(folded("user: 1", "assistant: One", "user: 2", "assistant: Two", "3")),
        ]
        assert kept.conversations == 2


async def test_nothing_is_kept_for_models(start: Start, upstream: ScriptedUpstream) -> None:
    """Where no target keeps conversations, the store is not asked."""
    upstream.answers(openai_text("One"), openai_text("Two"))
    client = Telling(await start(config(upstream.url)))
    await client.say("1")
    await client.say("2")

    assert (await client.gateway.gateway.store.figures()).conversations == 0


def written(folder: Path) -> bytes:
    """All that a store has written there."""
    return b"".join(path.read_bytes() for path in folder.glob("threads.db*"))


async def test_threads_are_nobodys_conversations(
    start: Start, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """No client reads them, and their texts are not there to be read; they last as long as the
    store does."""
    store = f'url = "sqlite:///{tmp_path}/threads.db"'
    upstream.answers(CHATBASE.text("Sesame", "msg_1"), CHATBASE.text("Two", "msg_2"))
    client = await serve(start, upstream, CHATBASE, store=store)
    await client.say("Open")
    listed = await client.gateway.request("GET", "/api/v2/agents/1/conversations")
    assert listed.json["data"] == []
    await client.gateway.gateway.stop()
    kept = written(tmp_path)
    assert b"conv_1" in kept
    assert b"Sesame" not in kept
    assert b"Open" not in kept

    again = await serve(start, upstream, CHATBASE, store=store)
    again.messages = client.messages
    await again.say("2")
    assert asked(upstream)[1] == more(CHATBASE, "2")


async def test_a_client_that_left(start: Start, upstream: ScriptedUpstream) -> None:
    """The upstream went on without it: the question, asked again, is told in a new one."""
    hang: Sequence[Step] = [
        head(),
        chunk(event({"type": "text-delta", "delta": "Tw"})),
        Wait(asyncio.Event()),
    ]
    upstream.answers(CHATBASE.text("One", "msg_1"), hang, CHATBASE.text("Two", "msg_2", OTHER))
    client = await serve(start, upstream, CHATBASE)
    await client.say("1")
    client.messages.append({"role": "user", "content": "2"})
    body: Json = {"model": "1", "messages": client.messages, "stream": True}
    async with client.gateway.raw("/v1/chat/completions", body) as (reader, _):
        await reader.readuntil(b"Tw")
    await client.gateway.settled()
    await client.go_on()

    assert asked(upstream)[2] == new(folded("user: 1", "assistant: One", "2"))


def part(text: str) -> Json:
    return {"type": "text", "text": text}


@both
async def test_use_chat(start: Start, upstream: ScriptedUpstream, hosted: Hosted) -> None:
    """The AI SDK tells one answer of several requests as one message, in steps."""
    upstream.answers(
        hosted.call("call_0", 1, "msg_5"),
        TAKEN,
        hosted.text("Shipped", "msg_6"),
        hosted.text("Bye", "msg_7"),
    )
    gateway = (await serve(start, upstream, hosted)).gateway
    step: Json = {"type": "step-start"}
    tool: Json = {
        "type": "tool-order_status",
        "toolCallId": "call_0",
        "state": "output-available",
        "input": {"n": 1},
        "output": {"status": "shipped"},
    }
    for parts in ([], [step, tool], [step, tool, step, part("Shipped")]):
        messages: list[Json] = [{"id": "1", "role": "user", "parts": [part("Where?")]}]
        if parts:
            messages.append({"id": "2", "role": "assistant", "parts": parts})
        if len(parts) == 4:
            messages.append({"id": "3", "role": "user", "parts": [part("Thanks")]})
        body: Json = {"id": "chat", "trigger": "submit-message", "messages": messages}
        answer = await gateway.post("/agentsgt/api/v1/agents/chat/1", body)
        assert answer.body.endswith(b"data: [DONE]\n\n"), answer.body

    assert asked(upstream) == [
        new("Where?"),
        ("tool-result", {"toolCallId": "call_0", "output": {"status": "shipped"}}),
        ("chat", {"conversationId": hosted.named}),
        more(hosted, "Thanks"),
    ]


@both
async def test_sonzai(start: Start, upstream: ScriptedUpstream, hosted: Hosted) -> None:
    """Its clients tell texts only, also of an answer that called a tool."""
    upstream.answers(hosted.call("call_0", 1, "msg_5"), hosted.text("Bye", "msg_6"))
    gateway = (await serve(start, upstream, hosted)).gateway
    messages: list[Json] = [{"role": "user", "content": "Where?"}]
    for text in ("", "Bye"):
        answer = await gateway.post("/sonzai/api/v1/agents/1/chat", {"messages": messages})
        assert answer.body.endswith(b"data: [DONE]\n\n"), answer.body
        messages.append({"role": "assistant", "content": text})
        messages.append({"role": "user", "content": "Never mind"})

    assert asked(upstream) == [new("Where?"), more(hosted, "Never mind")]
