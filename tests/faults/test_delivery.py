"""Each event reaches the client when it was sent; silence is filled where it may be."""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.dialects import DIALECTS
from gateway.dialects.bookbag_v1 import BOOKBAG_V1
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, config
from tests.e2e.scripted import (
    END,
    Hang,
    ScriptedUpstream,
    Step,
    Wait,
    chunk,
    delta,
    event,
    finish,
    head,
    openai_text,
    said,
)

DONE = chunk(event(finish()) + b"data: [DONE]\n\n") + END


@pytest.mark.parametrize("dialect", ["v1", "v2"])
async def test_nothing_is_held_back(dialect: str, start: Start, upstream: ScriptedUpstream) -> None:
    """The upstream sends its next event only when the client has the one before."""
    steps = [(b"word%02d" % number, asyncio.Event()) for number in range(20)]
    script: list[Step] = [head()]
    for word, seen in steps:
        script += [chunk(event(delta(word.decode()))), Wait(seen)]
    upstream.answers([*script, DONE])
    gateway = await start(config(upstream.url))

    await gateway.stepwise(dialect, *steps)
    assert await gateway.outcomes() == {"complete": 1}


@pytest.mark.parametrize("dialect", ["v1", "v2"])
async def test_proxies_on_the_way_are_told_not_to_buffer(
    dialect: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """The head of every stream, HTTP/1.0 included."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    for version in ("1.0", "1.1"):
        async with gateway.raw(*CHATS[dialect], version=version) as (reader, _):
            answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answered.startswith(b"http/%b 200 ok\r\n" % version.encode())
        assert b"\r\ncontent-type: text/event-stream\r\n" in answered
        assert b"\r\ncache-control: no-cache, no-transform\r\n" in answered
        assert b"\r\nx-accel-buffering: no\r\n" in answered
        assert b"\r\nx-request-id: " in answered
        assert (b"transfer-encoding: chunked" in answered) == (version == "1.1")


async def test_an_old_client_gets_the_stream_as_it_is(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """HTTP/1.0 knows no chunks: the body ends with the connection."""
    upstream.answers(openai_text("Hello", " world"))
    gateway = await start(config(upstream.url))
    async with gateway.raw(*CHATS["v2"], version="1.0") as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()
    assert body.startswith(b'data: {"type":"text-delta","text":"Hello"}\n\ndata: ')
    assert body.endswith(b"data: [DONE]\n\n")


async def test_heartbeats_stand_between_events(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v1 gets comments while the upstream is silent, also in the middle of an event."""
    beating = replace(BOOKBAG_V1, heartbeat=0.01)
    monkeypatch.setitem(DIALECTS, "bookbag-v1", beating)
    pinged = asyncio.Event()
    half = event(delta("world"))
    upstream.answers([*said("Hello"), chunk(half[:20]), Wait(pinged), chunk(half[20:]), DONE])
    gateway = await start(config(upstream.url))
    answer = await gateway.stepwise("v1", (b"Hello", asyncio.Event()), (b": ping\n\n", pinged))

    blocks = answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]
    assert b": ping\n\n" in blocks
    assert all(block.endswith(b"\n\n") for block in blocks if block)
    assert [block for block in blocks if block and block != b": ping\n\n"][:2] == [
        b'event: token\ndata: {"text":"Hello"}\n\n',
        b'event: token\ndata: {"text":"world"}\n\n',
    ]


async def test_v2_gets_no_heartbeats() -> None:
    """Its clients parse every line as JSON."""
    assert DIALECTS["bookbag-v2"].heartbeat is None


@pytest.mark.parametrize("dialect", ["v1", "v2"])
async def test_comments_are_no_answer(
    dialect: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """An upstream that only keeps the connection alive is as late as one that is silent."""
    comment = chunk(b": OPENROUTER PROCESSING\n\n")
    upstream.answers([head(), *[comment] * 50, Hang])
    gateway = await start(config(upstream.url, upstream='timeouts = { first_event = "60ms" }'))
    answer = await gateway.post(*CHATS[dialect])

    assert answer.status == 504
    assert await gateway.upstream_errors() == {"first_event_timeout": 1}
