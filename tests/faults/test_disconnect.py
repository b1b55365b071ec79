"""A client that leaves takes everything of its turn along."""

import asyncio

import pytest

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, Running, config, eventually, written
from tests.e2e.scripted import (
    SECOND,
    Hang,
    Script,
    ScriptedUpstream,
    document,
    head,
    openai_text,
    said,
)

pytestmark = pytest.mark.parametrize("start", ["plain", "tls"], indirect=True)

V2 = "/api/v2/agents/1/chat"

# What the upstream has said when the client leaves.
STAGES: dict[str, Script] = {
    "nothing": [Hang],
    "its head": [head(), Hang],
    "half its head": [head()[:40], Hang],
    "its first words": [*said("Hello"), Hang],
    "an error's head": [head(503, "application/json"), Hang],
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("ask", CHATS)
async def test_the_upstream_is_left_within_a_second(
    ask: str, stage: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Whatever the turn was waiting for, it ends when its client leaves."""
    upstream.answers(STAGES[stage])
    gateway = await start(config(upstream.url))

    async with gateway.raw(*CHATS[ask]) as (reader, _):
        await upstream.until_requests(1)
        if ask != "whole" and stage == "its first words":
            await reader.readuntil(b"Hello")
    await upstream.until_open(0, timeout=SECOND)

    await gateway.settled()
    assert await gateway.outcomes() == {"client_gone": 1}
    requests = [line for line in gateway.log_lines() if line["event"] == "request"]
    assert [line["outcome"] for line in requests] == ["client_gone"]


async def test_eight_clients_leave_at_once(start: Start, upstream: ScriptedUpstream) -> None:
    """Each has its own upstream connection, and all of them close."""
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url))
    path, body = CHATS["v2"]

    async with asyncio.TaskGroup() as clients:
        for _ in range(8):
            clients.create_task(_leave_at(gateway, path, body, b"Hello"))
    await upstream.until_open(0, timeout=SECOND)

    assert upstream.accepted == 8
    await gateway.settled()


async def test_nobody_else_is_asked_for_a_client_that_left(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The client leaves while the first target is slow: the second never hears of it."""
    upstream.answers([Hang])
    second.answers(openai_text("no"))
    gateway = await start(config(upstream.url, second=second.url))

    async with gateway.raw(*CHATS["v2"]):
        await upstream.until_requests(1)
    await upstream.until_open(0, timeout=SECOND)

    await gateway.settled()
    assert second.accepted == 0


async def test_a_thousand_aborts_leave_nothing(start: Start, upstream: ScriptedUpstream) -> None:
    """Connections, slots, tasks (also those of the heartbeats) and gauges are as before."""
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url, tier='requests = "100000/1s"\nconcurrency = 50'))
    await gateway.metrics()
    tasks = len(asyncio.all_tasks())

    for number in range(20):
        path, body = CHATS["v1" if number % 2 else "v2"]
        async with asyncio.TaskGroup() as clients:
            for _ in range(50):
                clients.create_task(_leave_at(gateway, path, body, b"Hello"))
        await gateway.settled()

    await upstream.until_open(0, timeout=SECOND)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
    assert gateway.gateway.snapshot.clients["main"].open_connections == 0
    assert await gateway.outcomes() == {"client_gone": 1000}


async def test_aborts_while_connecting_are_counted_right(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A client may leave at any step of the way to the upstream."""
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url, tier='requests = "100000/1s"'))
    path, body = CHATS["v2"]

    for steps in range(40):
        async with gateway.raw(path, body):
            for _ in range(steps):
                await asyncio.sleep(0)
    await gateway.settled()

    await upstream.until_open(0, timeout=SECOND)
    assert gateway.gateway.snapshot.clients["main"].open_connections == 0


async def test_the_conversation_goes_on_after_an_abort(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A turn that was left is not part of the conversation, and does not keep it busy."""
    upstream.answers(openai_text("One"), [*said("Two"), Hang], openai_text("Three"))
    gateway = await start(config(upstream.url))
    first = await gateway.chat_v2("first")
    conversation = json.mapping(json.mapping(first.frames[-2][1])["metadata"])["conversationId"]

    body: Json = {"message": "second", "conversationId": conversation}
    await _leave_at(gateway, V2, body, b"Two")
    await gateway.settled()
    third = await gateway.chat_v2("third", conversationId=conversation)

    assert third.text == "Three"
    messages = json.array(upstream.requests[-1].json["messages"])
    assert [json.mapping(m)["content"] for m in messages] == ["first", "One", "third"]


async def test_an_abort_while_reading_the_request_is_no_turn(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A client that leaves in the middle of its own request never reaches the upstream."""
    gateway = await start(config(upstream.url))
    async with gateway.connected() as (_, writer):
        writer.write(written(V2, {"message": "hi"})[:-3])
        await writer.drain()
        writer.close()
    await eventually(lambda: any(line["event"] == "request" for line in gateway.log_lines()))

    assert upstream.accepted == 0
    assert not await gateway.outcomes()
    await gateway.settled()


async def test_a_client_that_leaves_after_the_end_is_complete(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The end was sent: what the client does then changes nothing."""
    message: Json = {"role": "assistant", "content": "Hello"}
    upstream.answers(document({"choices": [{"message": message, "finish_reason": "stop"}]}))
    gateway = await start(config(upstream.url))
    async with gateway.raw(*CHATS["v2"]) as (reader, _):
        await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")

    await gateway.settled()
    assert await gateway.outcomes() == {"complete": 1}


async def _leave_at(gateway: Running, path: str, body: Json, word: bytes) -> None:
    async with gateway.raw(path, body) as (reader, _):
        await reader.readuntil(word)
