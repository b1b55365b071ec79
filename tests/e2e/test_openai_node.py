"""OpenAI's own client for JavaScript, and the AI SDK's for servers that are like OpenAI's."""

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.javascript import run
from tests.e2e.running import KEY, Running, config
from tests.e2e.scripted import (
    END,
    ScriptedUpstream,
    chunk,
    delta,
    document,
    event,
    finish,
    head,
    openai_text,
    sse,
)

ECHO = config("", kind="echo", target="")
BROKEN = [head(), chunk(event(delta("Hi"))), END]


async def streamed(gateway: Running, content: str = "hi", **more: Json) -> dict[str, Json]:
    """One stream to openai-node."""
    body: dict[str, Json] = {"model": "Support", "messages": [{"role": "user", "content": content}]}
    given: Json = {"url": f"{gateway.url}/v1", "key": KEY, "body": {**body, **more}}
    return json.mapping(await run("openai.mjs", given))


async def compatible(gateway: Running, prompt: str = "hi") -> dict[str, Json]:
    """One stream to @ai-sdk/openai-compatible."""
    given: Json = {"url": f"{gateway.url}/v1", "key": KEY, "model": "Support", "prompt": prompt}
    return json.mapping(await run("compatible.mjs", given))


async def test_openai_node_streams(start: Start) -> None:
    """Text, and what it cost where the client asks for it."""
    came = await streamed(await start(ECHO), "Hello there", stream_options={"include_usage": True})

    assert came["error"] is None
    choice = json.mapping(came["message"])
    assert choice["finish_reason"] == "stop"
    assert json.mapping(choice["message"])["content"] == "Hello there"
    last = json.mapping(json.array(came["chunks"])[-1])
    assert json.mapping(last["usage"])["total_tokens"] == 4


async def test_openai_node_joins_a_call(start: Start) -> None:
    """The pieces of a call's arguments, joined by the client's own helper."""
    parameters: Json = {"type": "object", "properties": {"order": {"type": "integer"}}}
    function: Json = {"name": "order_status", "parameters": parameters}
    tools: Json = [{"type": "function", "function": function}]
    came = await streamed(await start(ECHO), '/tool order_status {"order": 7}', tools=tools)

    choice = json.mapping(came["message"])
    assert choice["finish_reason"] == "tool_calls"
    [call] = json.array(json.mapping(choice["message"])["tool_calls"])
    made = json.mapping(json.mapping(call)["function"])
    assert (made["name"], json.loads(json.text(made["arguments"]).encode())) == (
        "order_status",
        {"order": 7},
    )


async def test_openai_node_is_told_of_failures(start: Start, upstream: ScriptedUpstream) -> None:
    """An error before the stream has its status and code; one in it, and an upstream that just
    stops, raise where the client reads."""
    failing = sse(delta("Hi"), {"error": {"message": "gpu-17 is on fire"}})
    upstream.answers(document({"error": {"message": "no"}}, 500), failing, BROKEN)
    gateway = await start(config(upstream.url))
    before, during, truncated = [json.mapping((await streamed(gateway))["error"]) for _ in range(3)]

    assert (before["status"], before["code"]) == (502, "upstream_error")
    assert "the upstream failed" in json.text(during["message"])
    assert "the upstream ended the stream early" in json.text(truncated["message"])


async def test_openai_compatible_streams(start: Start, upstream: ScriptedUpstream) -> None:
    """Text, the reason and the usage, by a client that is strict on streams that just end."""
    upstream.answers(openai_text("Hi ", "there"))
    came = await compatible(await start(config(upstream.url)))

    assert (came["text"], came["errors"], came["finish"]) == ("Hi there", [], "stop")
    usage = json.mapping(came["usage"])
    assert (usage["inputTokens"], usage["outputTokens"]) == (3, 2)


async def test_openai_compatible_is_told_of_failures(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A stream that broke off is an error, beside the text that came, and one that says why it
    ended is not."""
    upstream.answers(BROKEN, sse(delta("Hi"), finish("length")))
    gateway = await start(config(upstream.url))
    truncated, cut = await compatible(gateway), await compatible(gateway)

    assert truncated["text"] == "Hi"
    [error] = json.array(truncated["errors"])
    assert "the upstream ended the stream early" in json.text(error)
    assert (cut["errors"], cut["finish"]) == ([], "length")
