"""Requests with an Idempotency-Key: one that was answered is answered again, not run again."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.auth.mint import key_hash
from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.kept import (
    AGENT,
    CONVERSATIONS,
    STORES,
    asked,
    identity,
    messages,
    rate,
    texts,
)
from tests.e2e.running import KEY, Answered, Running, config, eventually
from tests.e2e.scripted import (
    END,
    Hang,
    Script,
    ScriptedUpstream,
    Wait,
    chunk,
    delta,
    document,
    event,
    finish,
    head,
    openai_text,
    sse,
)

CHAT = f"{AGENT}/chat"
OTHER = "oc_test_other_0123456789abcdefghijklmnop"
MORE = f"""
[[keys]]
id = "other"
hash = "{key_hash(OTHER)}"
workspace = "acme"
tier = "standard"
"""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def serve(start: Start, upstream: ScriptedUpstream, store: str, table: str = "") -> Running:
    return await start(config(upstream.url, more=MORE, store=STORES[store] + table))


async def ask(
    gateway: Running, idempotency: str, path: str = CHAT, key: str = KEY, **body: Json
) -> Answered:
    sent: dict[str, Json] = {"message": "hi", **body}
    return await gateway.post(path, sent, key, Idempotency_Key=idempotency)


def whole(text: str) -> Script:
    usage: Json = {"prompt_tokens": 3, "completion_tokens": 1}
    message: Json = {"role": "assistant", "content": text}
    return document({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})


async def test_a_whole_answer(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """Byte for byte; the upstream hears of it once, and the conversation has it once."""
    upstream.answers(whole("one"), whole("two"))
    gateway = await serve(start, upstream, store)
    first = await ask(gateway, "k1", stream=False)
    again = await ask(gateway, "k1", stream=False)
    assert first.status == again.status == 200
    assert again.body == first.body
    assert len(upstream.requests) == 1
    (only,) = json.array((await asked(gateway, CONVERSATIONS))["data"])
    assert await texts(gateway, json.text(json.mapping(only)["id"])) == ["hi", "one"]
    other = await ask(gateway, "k2", stream=False)
    assert json.mapping(other.json["data"])["parts"] == [{"type": "text", "text": "two"}]


async def test_a_stream(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """Again as a stream: the same text, calls and ids, if not in the same pieces."""
    calls: Json = [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}]
    upstream.answers(
        sse(
            delta("Let me "),
            delta("see"),
            {"choices": [{"delta": {"tool_calls": calls}}]},
            finish("tool_calls"),
            {"choices": [], "usage": {"prompt_tokens": 3}},
        )
    )
    gateway = await serve(start, upstream, store)
    first, again = await ask(gateway, "k1"), await ask(gateway, "k1")
    assert first.text == again.text == "Let me see"
    assert again.frames[-3:] == first.frames[-3:]
    assert len(again.frames) == 4
    assert again.headers["content-type"] == first.headers["content-type"] == "text/event-stream"
    assert len(upstream.requests) == 1


async def test_a_client_that_does_not_read(
    start: Start, upstream: ScriptedUpstream, stalled: Callable[[], str]
) -> None:
    """An answer given again is cut after `write_timeout`, as one that is given first."""
    upstream.answers(openai_text(*["x" * 60_000] * 150))
    text = config(upstream.url, server='write_timeout = "2s"', upstream='max_answer = "1GiB"')
    gateway = await start(text)
    assert len((await ask(gateway, "k1")).text) == 9_000_000
    async with gateway.raw(CHAT, {"message": "hi"}, Idempotency_Key="k1"):
        await eventually(lambda: len(gateway.log_lines()) > 1)
    assert gateway.log_lines()[-1]["outcome"] == stalled()


async def test_another_request(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """A key is for one request: another body or path is refused, and not run."""
    upstream.answers(openai_text("one"))
    gateway = await serve(start, upstream, store)
    first = identity(await ask(gateway, "k1"))
    path = f"{CONVERSATIONS}/{first['conversationId']}/retry"
    for refused in (
        await ask(gateway, "k1", message="ho"),
        await ask(gateway, "k1", stream=False),
        await gateway.post(path, {"messageId": first["messageId"]}, Idempotency_Key="k1"),
    ):
        assert (refused.status, refused.error["code"]) == (400, "VALIDATION_INVALID_BODY")
    assert len(upstream.requests) == 1


async def test_still_running(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """A 409, also for a new conversation; then the answer."""
    gate = asyncio.Event()
    upstream.answers(
        [head(), chunk(event(delta("Hm"))), Wait(gate), chunk(b"data: [DONE]\n\n"), END]
    )
    gateway = await serve(start, upstream, store)
    running = asyncio.ensure_future(ask(gateway, "k1"))
    await upstream.until_requests(1)
    early = await ask(gateway, "k1")
    assert (early.status, early.error["code"]) == (409, "CHAT_REQUEST_RUNNING")
    gate.set()
    first = await running
    assert identity(await ask(gateway, "k1")) == identity(first)
    assert len(upstream.requests) == 1


async def test_whose_key(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """Two clients may choose the same one; neither hears the other's answer."""
    upstream.answers(openai_text("one"), openai_text("two"))
    gateway = await serve(start, upstream, store)
    assert (await ask(gateway, "k1")).text == "one"
    assert (await ask(gateway, "k1", key=OTHER)).text == "two"
    assert (await ask(gateway, "k1")).text == "one"


async def test_what_failed_runs_again(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """There was no answer: before the stream, in it, or because the client left."""
    upstream.answers(
        document({"error": {"message": "no"}}, 500),
        sse(delta("Hm"), {"error": {"message": "no"}}),
        [head(), chunk(event(delta("Hm"))), Hang],
        openai_text("one"),
    )
    gateway = await serve(start, upstream, store)
    assert (await ask(gateway, "k1")).status == 502
    assert json.mapping((await ask(gateway, "k1")).frames[-2][1])["type"] == "error"
    async with gateway.raw(CHAT, {"message": "hi"}, Idempotency_Key="k1") as (reader, _):
        await reader.readuntil(b"Hm")
    await eventually(lambda: gateway.log_lines()[-1].get("outcome") == "client_gone")
    assert (await ask(gateway, "k1")).text == "one"


async def test_a_retry(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """Its message is gone after the first time, and it is answered all the same."""
    upstream.answers(openai_text("one"), openai_text("two"), whole("three"))
    gateway = await serve(start, upstream, store)
    first = identity(await gateway.chat_v2("hi"))
    path = f"{CONVERSATIONS}/{first['conversationId']}/retry"
    body: Json = {"messageId": first["messageId"]}
    second = await gateway.post(path, body, Idempotency_Key="k1")
    again = await gateway.post(path, body, Idempotency_Key="k1")
    assert second.text == again.text == "two"
    assert identity(second) == identity(again)
    assert len(upstream.requests) == 2
    assert (await gateway.post(path, body, Idempotency_Key="k2")).status == 404
    whole_body: Json = {"messageId": identity(second)["messageId"], "stream": False}
    third = await gateway.post(path, whole_body, Idempotency_Key="k3")
    assert (await gateway.post(path, whole_body, Idempotency_Key="k3")).body == third.body


async def test_an_answer_that_is_gone(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """Retried since: the request is not run behind everybody's back."""
    upstream.answers(openai_text("one"), openai_text("two"))
    gateway = await serve(start, upstream, store)
    first = identity(await ask(gateway, "k1"))
    path = f"{CONVERSATIONS}/{first['conversationId']}/retry"
    assert (await gateway.post(path, {"messageId": first["messageId"]})).text == "two"
    gone = await ask(gateway, "k1")
    assert (gone.status, gone.error["code"]) == (404, "RESOURCE_MESSAGE_NOT_FOUND")
    assert len(upstream.requests) == 2


async def test_for_a_while(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """`repeat_ttl`; then it is a new request."""
    upstream.answers(openai_text("one"), openai_text("two"))
    gateway = await serve(start, upstream, store, '\nrepeat_ttl = "1ms"')
    assert (await ask(gateway, "k1")).text == "one"
    await asyncio.sleep(0.01)
    assert (await ask(gateway, "k1")).text == "two"


@pytest.mark.parametrize("word", ["x" * 256, "a b", "ü"])
async def test_no_key(start: Start, upstream: ScriptedUpstream, word: str) -> None:
    """It is 1 to 255 printable characters."""
    gateway = await serve(start, upstream, "memory")
    refused = await ask(gateway, word)
    assert (refused.status, refused.error["code"]) == (400, "VALIDATION_INVALID_BODY")
    assert not upstream.requests


async def test_only_turns_are_repeated(
    start: Start, upstream: ScriptedUpstream, store: str
) -> None:
    """Feedback that is given twice is given twice, with whatever key."""
    upstream.answers(openai_text("one"))
    gateway = await serve(start, upstream, store)
    first = identity(await ask(gateway, "k1"))
    cid, message = str(first["conversationId"]), str(first["messageId"])
    path = f"{CONVERSATIONS}/{cid}/messages/{message}/feedback"
    for word in ("positive", "negative"):
        rated = await gateway.request("PATCH", path, {"feedback": word}, Idempotency_Key="k1")
        assert rated.status == 200
    assert (await messages(gateway, cid))[1]["feedback"] == "negative"
    assert (await rate(gateway, cid, message, None)).status == 200
