"""Every clock has its own error: a status before the stream, a frame in it, a label of metrics."""

import asyncio

import pytest

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, config
from tests.e2e.scripted import (
    PATIENCE,
    Hang,
    Script,
    ScriptedUpstream,
    Step,
    Wait,
    chunk,
    delta,
    finish,
    head,
    openai_text,
    said,
    sse,
)

TICK = chunk(b": tick\n\n")

CLOCKS: dict[str, tuple[str, Script, int]] = {
    "first_event_timeout": ('first_event = "60ms"', [Hang], 504),
    "first_event_timeout after the head": ('first_event = "60ms"', [head(), TICK, Hang], 504),
    "idle_timeout": ('idle = "60ms"', [*said("Hello"), Hang], 200),
    # Its first words have to come before it runs out: they are given more than they need.
    "total_timeout": ('total = "2s"', [*said("Hello"), Hang], 200),
    "total_timeout before the first event": ('total = "60ms"', [head(), Hang], 504),
    "total_timeout at the same time": (
        'total = "60ms", first_event = "60ms"',
        [head(), Hang],
        504,
    ),
}


@pytest.mark.parametrize("clock", CLOCKS)
async def test_each_clock_has_its_error(
    clock: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """What ran out is in the metrics; the upstream is left."""
    timeouts, script, status = CLOCKS[clock]
    code = clock.split(" ")[0]
    upstream.answers(script)
    gateway = await start(config(upstream.url, clocks=timeouts))

    async with asyncio.timeout(PATIENCE):
        turns = (gateway.chat_v2(), gateway.chat_v2(stream=False))
        answer, whole = await asyncio.gather(*turns)
    assert (answer.status, whole.status) == (status, 504)
    assert await gateway.upstream_errors() == {code: 2}
    assert await gateway.outcomes() == {code: 2}
    await gateway.settled()
    await upstream.until_open(0)


async def test_an_upstream_that_speaks_is_not_idle(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The idle clock runs from the last read, a comment included; the total one runs on."""
    script: list[Step] = [*said("Hello")]
    ticks = [asyncio.Event() for _ in range(6)]
    for tick in ticks:
        script += [Wait(tick), TICK]
    upstream.answers([*script, *sse(delta("!"), finish())[1:]])
    gateway = await start(config(upstream.url, upstream='timeouts = { idle = "150ms" }'))
    loop = asyncio.get_running_loop()
    for number, tick in enumerate(ticks):
        loop.call_later(0.04 * (number + 1), tick.set)

    assert (await gateway.chat_v2()).text == "Hello!"


async def test_a_request_body_has_its_time(start: Start, upstream: ScriptedUpstream) -> None:
    """A client that sends half its body is refused, and keeps no slot."""
    upstream.answers(openai_text("no"))
    gateway = await start(config(upstream.url, server='body_timeout = "60ms"'))
    body: Json = {"message": "hi"}
    async with gateway.raw("/api/v2/agents/1/chat", body) as (reader, writer):
        writer.write(
            b"POST /api/v2/agents/1/chat HTTP/1.1\r\nHost: test\r\nContent-Length: 50\r\n"
            b"Authorization: Bearer " + KEY.encode() + b'\r\n\r\n{"message"'
        )
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            refused = await reader.readuntil(b"}}")
    assert refused.startswith(b"HTTP/1.1 400 ")
    assert b"did not arrive in time" in refused
    await gateway.settled()
