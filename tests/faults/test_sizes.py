"""Events of any size, up to the limit: beyond it there is an error, and no memory."""

import tracemalloc

import pytest

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import config
from tests.e2e.scripted import Hang, ScriptedUpstream, chunk, delta, event, openai_text, said


@pytest.mark.parametrize("size", [1 << 20, 8 << 20])
async def test_a_large_event_passes_where_it_may(
    size: int, start: Start, upstream: ScriptedUpstream
) -> None:
    """No line or chunk limit of some library is in the way."""
    upstream.answers(openai_text("x" * size))
    gateway = await start(config(upstream.url, upstream='max_event = "16MiB"'))
    answer = await gateway.chat_v2()

    assert len(answer.text) == size
    assert answer.frames[-1] == ("message", "[DONE]")


async def test_an_event_over_the_limit_is_an_error(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """In the dialect's words, never a `finish`, and the upstream is left."""
    upstream.answers([*said("Hello"), chunk(event(delta("x" * (1 << 20)))), Hang])
    gateway = await start(config(upstream.url))

    assert [name for name, _ in (await gateway.chat_v1()).frames] == ["token", "error"]
    assert [f for _, f in (await gateway.chat_v2()).frames][1:] == [
        {"type": "error", "errorText": "the upstream sent an event that is too large"},
        "[DONE]",
    ]
    await upstream.until_open(0)
    assert await gateway.outcomes() == {"upstream_oversized": 2}


async def test_an_event_that_never_ends_takes_no_memory(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """100 MB without a line end: it is over at the limit."""
    flood = chunk(b"x" * 65536)
    upstream.answers([*said("Hello"), chunk(b"data: "), *[flood] * 1600])
    gateway = await start(config(upstream.url, upstream='max_event = "128KiB"'))
    await gateway.metrics()
    tracemalloc.start()
    try:
        answer = await gateway.chat_v1()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [name for name, _ in answer.frames] == ["token", "error"]
    assert peak < 4 << 20
    await upstream.until_open(0)
    assert upstream.sent < 100_000_000


async def test_a_long_question_is_kept_once(start: Start, upstream: ScriptedUpstream) -> None:
    """While it is answered, there is its text and neither the body that it was in nor the one that
    the upstream was sent."""
    size = 512 << 10
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url))
    question: dict[str, Json] = {"message": "x" * size, "stream": True}
    tracemalloc.start()
    try:
        async with gateway.raw("/api/v2/agents/Support/chat", question) as (reader, _):
            await reader.readuntil(b"Hello")
            kept = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()

    ours = kept.filter_traces([tracemalloc.Filter(True, "*/gateway/*")]).statistics("filename")
    assert size <= sum(each.size for each in ours) < 1.5 * size


async def test_an_answer_over_the_limit_is_an_error(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Each event is small, and there is no end of them."""
    upstream.answers([*said(*["x" * 900] * 100), Hang])
    gateway = await start(config(upstream.url, upstream='max_answer = "64KiB"'))
    answer = await gateway.chat_v2()

    assert answer.frames[-2:] == [
        ("message", {"type": "error", "errorText": "the upstream's answer is too large"}),
        ("message", "[DONE]"),
    ]
    await upstream.until_open(0)
