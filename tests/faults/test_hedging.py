"""Two targets asked at once where the first one is slow: who speaks first answers."""

import asyncio
from typing import Any

import pytest

from gateway.core.events import Json
from gateway.proxy import attempts, opening
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, config, eventually
from tests.e2e.scripted import PATIENCE, Hang, ScriptedUpstream, Wait, document, openai_text, said

ERROR: Json = {"error": {"message": "no", "type": "server_error"}}
SOON = 'hedge_after = "50ms"'
NEVER = 'hedge_after = "30s"'


async def test_the_second_answers_where_the_first_is_slow(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """And the first one sees its client leave."""
    go_on = asyncio.Event()
    text = openai_text("Hello", " world")
    upstream.answers([Hang])
    second.answers([*text[:2], Wait(go_on), *text[2:]])
    gateway = await start(config(upstream.url, second=second.url, agent=SOON))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: bool(second.requests) and not upstream.open)
    go_on.set()

    assert (await turn).text == "Hello world"
    assert (len(upstream.requests), len(second.requests)) == (1, 1)
    assert await gateway.counted("oc_gateway_hedges_total", "winner") == {"second": 1}
    assert await gateway.counted("oc_gateway_turns_total", "upstream") == {"second": 1}
    await gateway.settled()


async def test_the_first_answers_after_all(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The second one is let go."""
    go_on = asyncio.Event()
    upstream.answers([Wait(go_on), *openai_text("Hello")])
    second.answers([Hang])
    gateway = await start(config(upstream.url, second=second.url, agent=SOON))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: len(second.requests) == 1)
    go_on.set()

    assert (await turn).text == "Hello"
    await eventually(lambda: not second.open)
    assert await gateway.counted("oc_gateway_hedges_total", "winner") == {"first": 1}
    await gateway.settled()


async def test_a_fast_target_is_asked_alone(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Nothing is asked twice that need not be, and nobody is let go who answers."""
    go_on = asyncio.Event()
    text = openai_text("Hello", " world")
    upstream.answers([*text[:2], Wait(go_on), *text[2:]])
    gateway = await start(config(upstream.url, second=second.url, agent=NEVER))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: bool(upstream.requests))
    asyncio.get_running_loop().call_later(0.1, go_on.set)

    assert (await turn).text == "Hello world"
    assert not second.requests


async def test_a_target_that_fails_is_followed_at_once(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A failure waits for no clock."""
    upstream.answers(document(ERROR, 500))
    second.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, second=second.url, agent=NEVER))

    assert (await gateway.chat_v2()).text == "Hello"
    assert await gateway.counted("oc_gateway_hedges_total", "winner") == {}


async def test_both_fail(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The client has one answer, of the one that failed last."""
    go_on = asyncio.Event()
    upstream.answers([Wait(go_on), *document(ERROR, 500)])
    second.answers(document(ERROR, 500))
    gateway = await start(config(upstream.url, second=second.url, agent=SOON))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: len(second.requests) == 1)
    go_on.set()

    assert (await turn).status == 502
    await gateway.settled()


async def test_a_request_that_is_to_blame_itself_ends_both(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The other one would say the same, later."""
    upstream.answers([Hang])
    second.answers(document(ERROR, 400))
    gateway = await start(config(upstream.url, second=second.url, agent=SOON))

    assert (await gateway.chat_v2()).status == 400
    await eventually(lambda: not upstream.open)
    await gateway.settled()


async def test_a_client_that_leaves_both(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Neither is asked for nobody."""
    upstream.answers([Hang])
    second.answers([Hang])
    gateway = await start(config(upstream.url, second=second.url, agent=SOON))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: len(second.requests) == 1)
    turn.cancel()
    await asyncio.wait([turn])

    await eventually(lambda: not upstream.open and not second.open)
    await gateway.settled()


async def test_nobody_is_left_to_ask(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A turn that is at its last target already is not asked twice, and not counted as if."""
    go_on = asyncio.Event()
    upstream.answers(document(ERROR, 500))
    second.answers([Wait(go_on), *openai_text("Hello")])
    agent = 'hedge_after = "1s"'  # far longer than the first one needs to fail
    gateway = await start(config(upstream.url, second=second.url, agent=agent))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await second.until_requests(1)
    asyncio.get_running_loop().call_later(1.5, go_on.set)

    assert (await turn).text == "Hello"
    assert len(second.requests) == 1
    assert await gateway.counted("oc_gateway_hedges_total", "winner") == {}


async def test_a_target_without_room_does_not_hide_why_the_other_failed(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """As without a hedge: who was never asked has the last word, but nothing to say."""
    fail = asyncio.Event()
    upstream.answers(document(ERROR, 500), [Wait(fail), *document(ERROR, 500)])
    second.answers([*said("Hello"), Hang])
    one = 'retries = 0\nmax_streams = 1\nqueue = { size = 1, timeout = "1500ms" }'
    gateway = await start(config(upstream.url, second=second.url, agent=SOON, upstream=one))
    async with gateway.raw(*CHATS["v2"]) as (reader, _):
        await reader.readuntil(b"Hello")
        turn = asyncio.ensure_future(gateway.chat_v2())
        await upstream.until_requests(2)
        await eventually(lambda: sum(s.slots.waiting for s in gateway.gateway.states) == 1)
        fail.set()
        answer = await turn

    assert (answer.status, answer.error["code"]) == (502, "UPSTREAM_ERROR")


async def test_a_client_that_leaves_as_the_other_is_let_go(
    start: Start,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer that is there already is closed as well, however long the other one takes."""
    letting_go, gone = asyncio.Event(), asyncio.Event()
    open_at = opening.open_at

    async def slow_to_close(*args: Any) -> Any:
        try:
            return await open_at(*args)
        except asyncio.CancelledError:
            letting_go.set()
            await gone.wait()
            raise

    monkeypatch.setattr(attempts, "open_at", slow_to_close)
    upstream.answers([Hang])
    second.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url, second=second.url, agent=SOON))
    async with gateway.raw(*CHATS["v2"]):
        await asyncio.wait_for(letting_go.wait(), PATIENCE)
    await eventually(lambda: not gateway.gateway.limiter.busy)
    gone.set()

    await eventually(lambda: not upstream.open and not second.open)
    await eventually(lambda: not any(state.slots.taken for state in gateway.gateway.states))
    await gateway.settled()
