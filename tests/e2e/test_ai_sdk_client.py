"""The AI SDK's own clients, of three major releases and the strictest of each, at the gateway."""

import asyncio

import pytest

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.javascript import run
from tests.e2e.running import KEY, ONCE, Running, config, eventually
from tests.e2e.scripted import (
    END,
    ScriptedUpstream,
    Step,
    Wait,
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
from tests.golden_cases import GOLDEN

RELEASES = ("ai5", "ai5-first", "ai6", "ai6-first", "ai7", "ai7-first")

every_release = pytest.mark.parametrize("release", RELEASES)
every_chat = pytest.mark.parametrize("release", ["ai5", "ai6", "ai7"])

HEADERS: Json = {"Authorization": f"Bearer pk_public:{KEY}", "X-Agent-Identifier": "user-123"}
PATH = "/agentsgt/api/v1/agents/chat/1"
ECHO = config("", kind="echo", target="")


def asking(text: str) -> list[Json]:
    part: Json = {"type": "text", "text": text}
    return [{"id": "m1", "role": "user", "parts": [part]}]


async def reading(gateway: Running, release: str, *texts: str) -> list[dict[str, Json]]:
    """How each of these chats went."""
    chats: list[Json] = [asking(text) for text in texts]
    given: Json = {"release": release, "url": gateway.url + PATH, "headers": HEADERS}
    came = await run("read.mjs", {**json.mapping(given), "chats": chats})
    return [json.mapping(each) for each in json.array(came)]


def parts(message: Json) -> list[dict[str, Json]]:
    return [json.mapping(part) for part in json.array(json.mapping(message).get("parts"))]


def kinds(message: Json) -> list[Json]:
    return [part["type"] for part in parts(message)]


def text(message: Json) -> str:
    return "".join(json.text(part["text"]) for part in parts(message) if part["type"] == "text")


def rich() -> list[Step]:
    """All that a model may say in one answer."""
    function: Json = {"name": "order_status", "arguments": '{"order":'}
    first: Json = {"index": 0, "id": "call_1", "type": "function", "function": function}
    rest: Json = {"index": 0, "function": {"arguments": "7}"}}
    source: Json = {"url": "https://acme.example/faq", "title": "FAQ"}
    deltas: list[Json] = [
        {"reasoning_content": "Hm. "},
        {"content": "Your\u2028 注🚀"},
        {"annotations": [{"type": "url_citation", "url_citation": source}]},
        {"tool_calls": [first]},
        {"tool_calls": [rest]},
    ]
    chunks: list[Json] = [{"choices": [{"index": 0, "delta": said}]} for said in deltas]
    usage: Json = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
    return sse(*chunks, finish("tool_calls"), usage)


@every_release
async def test_every_kind_of_part(start: Start, upstream: ScriptedUpstream, release: str) -> None:
    """The strictest client reads reasoning, text, a source, a call and the metadata."""
    upstream.answers(rich())
    [came] = await reading(await start(config(upstream.url)), release, "Where is my order?")

    assert (came["refused"], came["errors"]) == (None, [])
    message = json.mapping(came["message"])
    assert kinds(message) == ["step-start", "reasoning", "text", "source-url", "tool-order_status"]
    assert text(message) == "Your\u2028 注🚀"
    tool = parts(message)[-1]
    assert (tool["state"], tool["input"]) == ("input-available", {"order": 7})
    metadata = json.mapping(message["metadata"])
    assert metadata["usage"] == {"inputTokens": 3, "outputTokens": 5}
    assert (metadata["finishReason"], metadata["conversationId"]) == ("tool-calls", "chat-1")
    assert upstream.requests[0].json["user"] == "user-123"


@every_release
async def test_failures(start: Start, upstream: ScriptedUpstream, release: str) -> None:
    """An error before the stream is the body's text; one in it, and an upstream that just stops, an
    error beside the text that came."""
    broken = [head(), chunk(event(delta("Hi"))), END]
    upstream.answers(
        document({"error": {"message": "no such key: sk-991"}}, 401),
        sse(delta("Hi"), {"error": {"message": "gpu-17 is on fire"}}),
        broken,
        openai_text("Hi"),
    )
    gateway = await start(config(upstream.url, upstream=ONCE))
    before, during, truncated, fine = await reading(gateway, release, "a", "b", "c", "d")

    assert (before["refused"], before["message"]) == ("Upstream error", None)
    assert during["errors"] == ["the upstream failed"]
    assert truncated["errors"] == ["the upstream ended the stream early"]
    assert [text(came["message"]) for came in (during, truncated, fine)] == ["Hi"] * 3
    assert fine["errors"] == []
    for came in (during, truncated):
        assert json.array(came["chunks"])[-2:] == ["text-end", "error"]


@every_chat
async def test_a_whole_tool_round(start: Start, release: str) -> None:
    """A Chat answers the call itself, asks again by itself, and shows one message of two steps."""
    gateway = await start(ECHO)
    given: Json = {
        "release": release,
        "url": gateway.url + PATH,
        "headers": HEADERS,
        "text": '/tool order_status {"order": 7}',
        "output": {"status": "shipped"},
    }
    came = json.mapping(await run("chat.mjs", given))

    assert (came["status"], came["error"]) == ("ready", None)
    asked, answered = map(json.mapping, json.array(came["messages"]))
    assert (asked["role"], answered["role"]) == ("user", "assistant")
    step = ["step-start", "tool-order_status", "step-start", "text"]
    assert [kind for kind in kinds(answered) if kind != "source-url"] == step
    assert text(answered) == 'The tool answered: {"status":"shipped"}'
    assert len(json.array(came["ends"])) == 2


@every_chat
async def test_a_chat_that_fails(start: Start, upstream: ScriptedUpstream, release: str) -> None:
    """A truncated answer is an error to a Chat, which without it would look complete."""
    upstream.answers([head(), chunk(event(delta("Hi"))), END])
    gateway = await start(config(upstream.url))
    given: Json = {"release": release, "url": gateway.url + PATH, "headers": HEADERS}
    came = json.mapping(await run("chat.mjs", {**json.mapping(given), "text": "hi"}))

    assert (came["status"], came["error"]) == ("error", "the upstream ended the stream early")
    assert text(json.array(came["messages"])[-1]) == "Hi"


@every_release
async def test_resuming(start: Start, upstream: ScriptedUpstream, release: str) -> None:
    """A chat that was left in mid-stream is the whole message to `reconnectToStream`; before and
    after it there is nothing to resume, which is no error."""
    go_on = asyncio.Event()
    upstream.answers([*said("Where"), Wait(go_on), *openai_text("?")[1:]])
    gateway = await start(config(upstream.url, agent='on_disconnect = "keep"'))
    given: Json = {
        "release": release,
        "url": gateway.url + PATH,
        "headers": HEADERS,
        "chatId": "chat-1",
        "messages": asking("hi"),
    }
    running = asyncio.ensure_future(run("resume.mjs", given))
    # Of the two that read, it is the one that comes back that is sent ids.
    feeds = gateway.gateway.streams._feeds
    await eventually(lambda: any(r._ids for feed in feeds.values() for r in feed._readers), 60)
    go_on.set()
    came = json.mapping(await running)

    assert (came["before"], came["after"], came["errors"]) == (None, None, [])
    assert json.array(came["seen"])[-1] == "text-delta"
    assert text(came["message"]) == "Where?"
    assert kinds(came["message"]) == ["step-start", "text"]
    await gateway.settled()
    assert await gateway.outcomes() == {"client_gone": 1}


async def test_eventsource_parser(start: Start, upstream: ScriptedUpstream) -> None:
    """The parser beneath the AI SDK reads the same frames as ours, and finds no fault in them."""
    upstream.answers(rich())
    gateway = await start(config(upstream.url))
    answer = await gateway.post(PATH, {"messages": asking("hi")})
    came = json.mapping(await run("frames.mjs", stdin=answer.body))

    assert came["errors"] == []
    events = [[name, "[DONE]" if data == "[DONE]" else data] for name, data in answer.frames]
    read = [json.array(each) for each in json.array(came["events"])]
    assert read[-1] == ["message", "[DONE]"]
    loaded = [[name, json.loads(json.text(data).encode())] for name, data in read[:-1]]
    assert loaded == events[:-1]


# What a client needs that is no stream


async def test_the_head_of_an_answer(start: Start) -> None:
    """A stream says which protocol it is in, is not kept by proxies on the way, and has an id."""
    answer = await (await start(ECHO)).post(PATH, {"messages": asking("hi")})

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "x-request-id" in answer.headers
    assert "x-ratelimit-remaining" in answer.headers


async def test_either_form_of_the_key(start: Start) -> None:
    """A pair with the key as its secret, or the key alone; nothing else, and never the other way
    around."""
    gateway = await start(ECHO)
    body: Json = {"messages": asking("hi")}
    keys = (KEY, f"pk_1:{KEY}", f"{KEY}:sk_1", "pk_1:sk_1", f"pk_1:{KEY}x")
    statuses = [(await gateway.post(PATH, body, key)).status for key in keys]

    assert statuses == [200, 200, 401, 401, 401]


@pytest.mark.parametrize(
    ("method", "path", "body", "key", "status", "words"),
    [
        ("POST", PATH, {"messages": []}, KEY, 400, "Bad request"),
        ("POST", PATH, b"{", KEY, 400, "Bad request"),
        ("POST", PATH, {"messages": asking("hi")}, None, 401, "Unauthorized"),
        ("POST", PATH[:-1] + "7", {"messages": asking("hi")}, KEY, 404, "Agent not found"),
        ("GET", PATH, None, KEY, 405, "Method not allowed"),
        ("GET", PATH + "/stream", None, KEY, 404, "Not found"),
    ],
)
async def test_refusals_are_plain_text(
    start: Start, method: str, path: str, body: Json, key: str | None, status: int, words: str
) -> None:
    """Each by its status and its words alone."""
    answer = await (await start(ECHO)).request(method, path, body, key)

    assert (answer.status, answer.body.decode()) == (status, words)
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_picture_reaches_the_model(start: Start, upstream: ScriptedUpstream) -> None:
    """A file of the user's is what an OpenAI-compatible upstream is sent."""
    upstream.answers(openai_text("A cat"))
    gateway = await start(config(upstream.url, agent='instructions = "Be brief."'))
    image: Json = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,iVBO"}
    said: Json = {"role": "user", "parts": [{"type": "text", "text": "What is it?"}, image]}
    answer = await gateway.post(PATH, {"messages": [said]})

    assert answer.status == 200
    content: Json = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
    ]
    assert upstream.requests[0].json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": content},
    ]


KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "openai": ("openai/text", {}),
    "bookbag-v1": ("bookbag-v1/text", {"target": "agent = 77", "upstream": 'api = "v1"'}),
    "bookbag-v2": ("bookbag-v2/text", {"target": "agent = 77"}),
    "chatbase": ("chatbase/tool-outputs", {"target": 'agent = "a"'}),
    "sonzai": ("sonzai/text", {"target": 'agent = "a"'}),
    "agentsgt": ("agentsgt/ui-text", {"target": 'agent = "a"'}),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_upstream(start: Start, upstream: ScriptedUpstream, kind: str) -> None:
    """What an upstream of any kind says is text to the strictest client, to its end."""
    case, given = KINDS[kind]
    upstream.answers([head(), chunk((GOLDEN / f"{case}.sse").read_bytes()), END])
    gateway = await start(config(upstream.url, kind=kind.partition("-v")[0], **given))
    [came] = await reading(gateway, "ai5-first", "hi")

    assert (came["refused"], came["errors"]) == (None, [])
    assert text(came["message"])
    assert json.array(came["chunks"])[-2:] == ["finish-step", "finish"]
