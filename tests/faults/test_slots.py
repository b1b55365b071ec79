"""Whatever way a turn ends, its slot is free again, and every refusal says when to come back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import ONCE, Answered, Running, config
from tests.e2e.scripted import (
    END,
    Close,
    Hang,
    Script,
    ScriptedUpstream,
    Wait,
    chunk,
    document,
    event,
    finish,
    openai_text,
    said,
)

V2 = "/api/v2/agents/1/chat"
HI: Json = {"message": "hi"}
MESSAGE: Json = {"role": "assistant", "content": "Hello"}
WHOLE: Json = {"choices": [{"message": MESSAGE, "finish_reason": "stop"}]}

Ask = Callable[[Running], Awaitable[Answered]]


async def _streamed(gateway: Running) -> Answered:
    return await gateway.chat_v2()


async def _left(gateway: Running) -> Answered:
    async with gateway.raw(V2, HI) as (reader, _):
        await reader.readuntil(b"Hello")
    return Answered(499, {}, b"")


async def _busy(gateway: Running) -> Answered:
    """Two turns at once in one conversation; the first is left."""
    first = await gateway.chat_v2()
    metadata = json.mapping(json.mapping(first.frames[-2][1])["metadata"])
    again: Json = {"message": "hi", "conversationId": metadata["conversationId"]}
    async with gateway.raw(V2, again) as (reader, _):
        await reader.readuntil(b"Hello")
        return await gateway.post(V2, again)


TURNS: dict[str, tuple[int, Script, Ask]] = {
    "plain": (200, document(WHOLE), lambda g: g.chat_v2(stream=False)),
    "streamed": (200, openai_text("Hello"), _streamed),
    "left in mid-stream": (499, [*said("Hello"), Hang], _left),
    "upstream 502": (502, document({}, 502), _streamed),
    "upstream silent": (504, [Hang], _streamed),
    "upstream truncated": (200, [*said("Hello"), Close], _streamed),
    "bad JSON": (400, [Hang], lambda g: g.post(V2, b"{")),
    "bad body": (400, [Hang], lambda g: g.post(V2, {})),
    "bad key": (401, [Hang], lambda g: g.post(V2, HI, key="oc_test_wrong")),
    "forbidden": (403, [Hang], lambda g: g.chat_v1(model="other")),
    "no such agent": (404, [Hang], lambda g: g.chat_v2(agent=9)),
    "no such conversation": (404, [Hang], lambda g: g.chat_v2(conversationId="77")),
    "too large": (413, [Hang], lambda g: g.post(V2, {"message": "x" * 3000})),
    "not JSON": (415, [Hang], lambda g: g.post(V2, b"hi", Content_Type="text/plain")),
}


@pytest.mark.parametrize("turn", TURNS)
async def test_no_slot_is_lost(turn: str, start: Start, upstream: ScriptedUpstream) -> None:
    """With two slots, a turn of this kind can be had again and again, two at a time."""
    status, script, ask = TURNS[turn]
    upstream.answers(script)
    gateway = await start(
        config(
            upstream.url,
            tier='requests = "1000/1s"\nconcurrency = 2',
            upstream=f'{ONCE}\ntimeouts = {{ first_event = "50ms" }}' if script == [Hang] else ONCE,
            server='max_body = "2KiB"',
        )
    )
    for _ in range(3):
        answers = await asyncio.gather(ask(gateway), ask(gateway))
        assert [answer.status for answer in answers] == [status, status]
        await gateway.settled()


async def test_a_busy_conversation_loses_no_slot(start: Start, upstream: ScriptedUpstream) -> None:
    """A 409 gives its slot back, and so does the turn that was in its way."""
    gateway = await start(config(upstream.url, tier='requests = "1000/1s"\nconcurrency = 2'))
    for _ in range(3):
        upstream.answers(openai_text("One"), [*said("Hello"), Hang])
        assert (await _busy(gateway)).status == 409
        await gateway.settled()


@pytest.mark.parametrize("stream", [True, False])
async def test_the_next_turn_may_follow_at_once(
    stream: bool, start: Start, upstream: ScriptedUpstream
) -> None:
    """With one slot, it is free when the client has the last byte: also for another connection."""
    upstream.answers(openai_text("Hello") if stream else document(WHOLE))
    gateway = await start(config(upstream.url, tier='requests = "1000/1s"\nconcurrency = 1'))
    end = b"[DONE]\n\n\r\n0\r\n\r\n" if stream else b'"}}}'

    for _ in range(30):
        assert (await gateway.chat_v2(stream=stream)).status == 200
        async with gateway.raw(V2, {"message": "hi", "stream": stream}) as (reader, _writer):
            answer = await reader.readuntil(end)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_the_slot_is_free_while_the_upstream_dawdles(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The client has its end: that the HTTP message of the upstream goes on is not its concern."""
    hang_up = asyncio.Event()
    done = [*said("Hello"), chunk(event(finish()) + b"data: [DONE]\n\n")]
    upstream.answers([*done, Wait(hang_up), END])
    gateway = await start(config(upstream.url, tier='requests = "1000/1s"\nconcurrency = 1'))

    for _ in range(5):
        assert (await gateway.chat_v2()).text == "Hello"
    hang_up.set()
    await gateway.settled()


async def test_remaining_only_falls_within_a_burst(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Ten tokens that hardly refill: ten turns, then 429s that say when to come back."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, tier='requests = "10/1h"'))

    answers = [await gateway.chat_v2() for _ in range(12)]
    remaining = [int(answer.headers["x-ratelimit-remaining"]) for answer in answers]
    assert remaining == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert [answer.status for answer in answers] == [200] * 10 + [429] * 2
    assert len(upstream.requests) == 10
    _holds_a_refusal(answers[-1], "RATE_LIMIT_TOO_MANY_REQUESTS")


async def test_a_parallel_burst_is_admitted_exactly(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Fifty at once, ten tokens: ten turns."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, tier='requests = "10/1h"'))

    answers = await asyncio.gather(*(gateway.chat_v1() for _ in range(50)))
    assert sorted(answer.status for answer in answers) == [200] * 10 + [429] * 40
    refused = next(answer for answer in answers if answer.status == 429)
    _holds_a_refusal(refused, "rate_limited")
    assert await gateway.counted("oc_gateway_rate_limit_rejections_total", "tier") == {
        "standard": 40
    }


async def test_a_refusal_for_a_slot_says_when(start: Start, upstream: ScriptedUpstream) -> None:
    """All slots taken is a 429 as well, with all that belongs to it."""
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url, tier='requests = "10/1s"\nconcurrency = 1'))
    async with gateway.raw(V2, HI) as (reader, _):
        await reader.readuntil(b"Hello")
        refused = await gateway.chat_v2()
    assert refused.status == 429
    _holds_a_refusal(refused, "RATE_LIMIT_TOO_MANY_REQUESTS")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "30"}, "30"),
        ({"Retry_After": "0"}, "1"),
        (
            {
                "Date": "Sat, 21 Nov 2026 07:00:00 GMT",
                "Retry_After": "Sat, 21 Nov 2026 07:01:30 GMT",
            },
            "90",
        ),
        ({}, None),
        ({"Retry_After": "soon"}, None),
    ],
)
async def test_an_upstreams_retry_after_is_passed_on(
    headers: dict[str, str], seconds: str | None, start: Start, upstream: ScriptedUpstream
) -> None:
    """Seconds as they are, a date as the seconds until then."""
    upstream.answers(document({"error": {"message": "org-123 is over its limit"}}, 429, **headers))
    gateway = await start(config(upstream.url))
    answer = await gateway.chat_v2()

    assert answer.status == 429
    assert answer.headers.get("retry-after") == seconds
    assert answer.error["code"] == "RATE_LIMIT_TOO_MANY_REQUESTS"
    assert b"org-123" not in answer.body


def _holds_a_refusal(answer: Answered, code: str) -> None:
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.error["code"] == code
    assert json.mapping(answer.error["details"])["retryAfter"]
