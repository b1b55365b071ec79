"""What holds for the clients of every dialect, in front of one and the same upstream."""

import asyncio
from collections.abc import Mapping

import pytest
from msgspec import Struct
from msgspec.structs import replace

from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json
from gateway.dialects import DIALECTS, chatbase
from gateway.upstreams.refusals import MESSAGES
from tests.e2e.conftest import Start
from tests.e2e.running import Answered, Running, config, written
from tests.e2e.scripted import (
    END,
    PATIENCE,
    Close,
    Hang,
    Reset,
    Script,
    ScriptedUpstream,
    Step,
    Wait,
    at_once,
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
from tests.faults.wellformed import DONE, kinds

ERROR: Json = {"error": {"message": "GPU 7 is on fire", "type": "server_error"}}
HALF = chunk(event(delta("world"))[:25])
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Client(Struct, frozen=True):
    """A client of one dialect, and the frames of an answer of one word, by their types."""

    path: str
    body: dict[str, Json]
    before: tuple[str, ...]
    text: str
    after: tuple[str, ...]
    """Of an answer that is complete."""
    failed: tuple[str, ...]
    """Of one that is not."""
    unsaid: tuple[str, ...]
    """The whole of one that failed when nothing but reasoning had been said."""
    config: str = ""
    beats: bool = True
    """Whether it gets comments while there is silence."""
    asks: Mapping[str, Json] = {}
    """What it says to be told of the usage, which it is not unless it does."""


TURN: list[Json] = [{"role": "user", "content": "hi"}]
PARTS: list[Json] = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]
REASONED = ("reasoning-start", "reasoning-delta", "reasoning-end")

CHATBASE = Client(
    "/chatbase/api/v2/agents/1/chat",
    {"message": "hi", "stream": True},
    before=("start", "text-start"),
    text="text-delta",
    after=("text-end", "finish", DONE),
    failed=("text-end", "error", DONE),
    unsaid=("start", *REASONED, "error", DONE),
)

CLIENTS: dict[str, Client] = {
    "bookbag-v1": Client(
        "/api/v1/chat",
        {"agentId": 1, "message": "hi"},
        before=(),
        text="token",
        after=("done",),
        failed=("error",),
        unsaid=("error",),
    ),
    "bookbag-v2": Client(
        "/api/v2/agents/1/chat",
        {"message": "hi"},
        before=(),
        text="text-delta",
        after=("finish", DONE),
        failed=("error", DONE),
        unsaid=("error", DONE),
        beats=False,
    ),
    "chatbase": CHATBASE,
    "chatbase seed": replace(
        CHATBASE,
        config='[server.chatbase]\nvariant = "seed"',
        before=("message-start", "text-start"),
        after=("text-end", "finish", "message-metadata", DONE),
        unsaid=("message-start", *REASONED, "error", DONE),
    ),
    "agentsgt": Client(
        "/agentsgt/api/v1/agents/chat/1",
        {"messages": PARTS},
        before=("start", "start-step", "text-start"),
        text="text-delta",
        after=("text-end", "finish-step", "finish", DONE),
        failed=("text-end", "error", DONE),
        unsaid=("start", "start-step", *REASONED, "error", DONE),
    ),
    "openai": Client(
        "/v1/chat/completions",
        {"model": "1", "messages": TURN, "stream": True},
        before=("role",),
        text="content",
        after=("finish_reason", DONE),
        failed=("error", DONE),
        unsaid=("role", "reasoning_content", "error", DONE),
        asks={"stream_options": {"include_usage": True}},
    ),
    "sonzai": Client(
        "/sonzai/api/v1/agents/1/chat",
        {"messages": TURN},
        before=(),
        text="content",
        after=("finish_reason", DONE),
        failed=("error", DONE),
        unsaid=("error", DONE),
    ),
}

every_client = pytest.mark.parametrize("name", CLIENTS)


def chunks(response: bytes) -> list[bytes]:
    """What each chunk of a response holds: frames, in which there is no CR."""
    body = response.partition(b"\r\n\r\n")[2]
    return [part for part in body.split(b"\r\n")[1::2] if part]


def complete(client: Client, words: int = 1) -> tuple[str, ...]:
    return (*client.before, *[client.text] * words, *client.after)


async def ask(gateway: Running, client: Client, **more: Json) -> Answered:
    return await gateway.post(client.path, {**client.body, **more})


def test_every_dialect_is_here() -> None:
    """A new dialect has to show all of this."""
    assert {name.split(" ")[0] for name in CLIENTS} == set(DIALECTS)


@every_client
async def test_nothing_is_buffered_on_the_way(
    name: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Proxies are told so by every stream's head, and the gateway itself holds no event back."""
    client = CLIENTS[name]
    heard = [asyncio.Event() for _ in range(5)]
    script: list[Step] = [head()]
    for number, event_ in enumerate(heard):
        script += [chunk(event(delta(f"word{number}"))), Wait(event_)]
    upstream.answers([*script, chunk(event(finish()) + b"data: [DONE]\n\n"), END])
    gateway = await start(config(upstream.url, more=client.config))

    async with asyncio.timeout(PATIENCE), gateway.raw(client.path, client.body) as (reader, _):
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        for number, event_ in enumerate(heard):
            await reader.readuntil(b"word%d" % number)
            event_.set()
        await reader.readuntil(LAST_CHUNK)
    assert answered.startswith(b"http/1.1 200 ok\r\n")
    assert b"\r\ncontent-type: text/event-stream" in answered
    assert b"\r\ncache-control: no-cache, no-transform\r\n" in answered
    assert b"\r\nx-accel-buffering: no\r\n" in answered
    assert b"\r\ncontent-encoding:" not in answered
    assert b"\r\ncontent-length:" not in answered


@every_client
async def test_heartbeats(
    name: str, start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silence is filled between events, also while the upstream is in the middle of one; not
    where clients cannot bear it."""
    client = CLIENTS[name]
    assert (DIALECTS[name.split(" ")[0]].heartbeat is not None) is client.beats
    if not client.beats:
        return
    for table in (DIALECTS, chatbase.VARIANTS):
        for key, dialect in table.items():
            monkeypatch.setitem(table, key, replace(dialect, heartbeat=0.01))
    pinged = asyncio.Event()
    half = event(delta("world"))
    rest = chunk(event(finish()) + b"data: [DONE]\n\n")
    upstream.answers([*said("Hello"), chunk(half[:20]), Wait(pinged), chunk(half[20:]), rest, END])
    gateway = await start(config(upstream.url, more=client.config))

    async with asyncio.timeout(PATIENCE), gateway.raw(client.path, client.body) as (reader, _):
        answer = await reader.readuntil(b": ping\n\n")
        pinged.set()
        answer += await reader.readuntil(LAST_CHUNK)
    blocks = chunks(answer)
    assert all(block.endswith(b"\n\n") for block in blocks)
    assert kinds(b"".join(blocks)) == complete(client, words=2)


# What follows the first word, and what it is counted as.
FAULTS: dict[str, tuple[Script, str]] = {
    "closed": ([Close], "upstream_truncated"),
    "reset in an event": ([HALF, Reset], "upstream_truncated"),
    "ended in an event": ([HALF, END], "upstream_truncated"),
    "[DONE] in half": ([chunk(b"data: [DO"), END], "upstream_truncated"),
    "an error frame": ([chunk(event(ERROR)), Hang], "upstream_failed"),
    "silence": ([Hang], "idle_timeout"),
}


@every_client
@pytest.mark.parametrize("fault", FAULTS)
async def test_one_error_and_no_finish_after_a_fault(
    name: str, fault: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """What is open is closed, and half an event of the upstream leaves no trace. The connection is
    good for another request."""
    client = CLIENTS[name]
    script, outcome = FAULTS[fault]
    upstream.answers([*said("Hello"), *script], [at_once(openai_text("Hello"))])
    clocks = 'idle = "150ms"' if fault == "silence" else ""
    gateway = await start(config(upstream.url, clocks=clocks, more=client.config))
    async with asyncio.timeout(PATIENCE), gateway.raw(client.path, client.body) as (reader, writer):
        failed = await reader.readuntil(LAST_CHUNK)
        writer.write(written(client.path, client.body))
        again = await reader.readuntil(LAST_CHUNK)

    assert failed.startswith(b"HTTP/1.1 200 ")
    assert kinds(b"".join(chunks(failed))) == (*client.before, client.text, *client.failed)
    assert b"GPU" not in failed
    assert b"world" not in failed
    assert kinds(b"".join(chunks(again))) == complete(client)
    assert await gateway.outcomes() == {outcome: 1, "complete": 1}
    await gateway.settled()


@every_client
async def test_an_error_before_the_first_word_is_a_status(
    name: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Nothing of a stream has begun: the answer is the dialect's error."""
    client = CLIENTS[name]
    upstream.answers(sse(ERROR), [head(), END], document(ERROR, 500))
    gateway = await start(config(upstream.url, more=client.config))
    dialect = DIALECTS[name.split(" ")[0]]

    for code in (
        ErrorCode.UPSTREAM_FAILED,
        ErrorCode.UPSTREAM_TRUNCATED,
        ErrorCode.UPSTREAM_FAILED,
    ):
        answer = await ask(gateway, client)
        wanted = dialect.error(GatewayError(code, MESSAGES[code]))
        assert (answer.status, answer.body) == (wanted.status, wanted.body)
        assert answer.headers["content-type"].split(";")[0] == wanted.content_type


@every_client
async def test_an_error_before_the_first_text_is_legal(
    name: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """The model had only reasoned, which not every dialect has words for."""
    client = CLIENTS[name]
    reasoned: Json = {"choices": [{"index": 0, "delta": {"reasoning_content": "Well"}}]}
    upstream.answers([head(), chunk(event(reasoned)), Close])
    gateway = await start(config(upstream.url, more=client.config))
    answer = await ask(gateway, client)

    assert (answer.status, kinds(answer.body)) == (200, client.unsaid)


@every_client
async def test_usage_is_never_made_up(name: str, start: Start, upstream: ScriptedUpstream) -> None:
    """An upstream that does not count leaves nothing to say, also to those who ask."""
    client = CLIENTS[name]
    upstream.answers(sse(delta("Hello"), finish()))
    gateway = await start(config(upstream.url, more=client.config))
    answer = await ask(gateway, client, **client.asks)

    assert kinds(answer.body) == complete(client)
    assert b"usage" not in answer.body.replace(b'"usage":null', b"")


@every_client
async def test_usage_is_for_those_who_ask(
    name: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """OpenAI's clients take a chunk that they have not asked for as one with choices; in the other
    dialects it is a field of the end, or has no place."""
    client = CLIENTS[name]
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, more=client.config))
    plain = await ask(gateway, client)

    assert kinds(plain.body) == complete(client)
    assert (b"usage" in plain.body) is (not client.asks and name != "sonzai")
    if client.asks:
        asked = await ask(gateway, client, **client.asks)
        assert kinds(asked.body) == (*complete(client)[:-1], "usage", DONE)


@every_client
async def test_another_target_before_the_first_word(
    name: str, start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The client sees nothing of the first one, whatever the way it failed."""
    client = CLIENTS[name]
    upstream.answers(document(ERROR, 429, Retry_After="7"), sse(ERROR), [head(), Close], [Hang])
    second.answers(openai_text("Hello"))
    clocks = 'first_event = "150ms"'
    gateway = await start(
        config(upstream.url, second=second.url, clocks=clocks, more=client.config)
    )

    for _ in range(4):
        answer = await ask(gateway, client)
        assert (answer.status, kinds(answer.body)) == (200, complete(client))
    assert (len(upstream.requests), len(second.requests)) == (4, 4)


@every_client
async def test_nothing_is_tried_again_after_the_first_word(
    name: str, start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A second answer would repeat the first one's text."""
    client = CLIENTS[name]
    upstream.answers([*said("Hello"), Close])
    second.answers(openai_text("no"))
    gateway = await start(config(upstream.url, second=second.url, more=client.config))
    answer = await ask(gateway, client)

    assert kinds(answer.body)[-len(client.failed) :] == client.failed
    assert (len(upstream.requests), second.accepted) == (1, 0)


@every_client
async def test_a_rate_limit_says_when_to_come_back(
    name: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """The upstream's status is known before the stream begins."""
    client = CLIENTS[name]
    upstream.answers(document(ERROR, 429, Retry_After="7"))
    gateway = await start(config(upstream.url, more=client.config))
    answer = await ask(gateway, client)

    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.body
    assert b"fire" not in answer.body
