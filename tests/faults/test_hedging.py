"""Two targets asked at once where the first one is slow: who speaks first answers."""

import asyncio

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import config, eventually
from tests.e2e.scripted import Hang, ScriptedUpstream, Wait, document, openai_text

ERROR: Json = {"error": {"message": "no", "type": "server_error"}}
SOON = 'hedge_after = "50ms"'
NEVER = 'hedge_after = "30s"'


async def test_the_second_answers_where_the_first_is_slow(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """And the first one sees its client leave."""
    upstream.answers([Hang])
    second.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, second=second.url, agent=SOON))

    assert (await gateway.chat_v2()).text == "Hello"
    await eventually(lambda: not upstream.open)
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
    """Nothing is asked twice that need not be."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, second=second.url, agent=NEVER))

    assert (await gateway.chat_v2()).text == "Hello"
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
