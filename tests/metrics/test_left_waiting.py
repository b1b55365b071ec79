"""Clients that leave before there is anything to read, and how long they have waited."""

import asyncio

import pytest

from tests.e2e.conftest import Start
from tests.e2e.running import config, eventually
from tests.e2e.scripted import Hang, ScriptedUpstream, Wait, document, openai_text, said
from tests.metrics.reading import scraped

V2 = "/api/v2/agents/1/chat"

# Seconds that a client waits in these tests.
LONG = 0.8


async def test_how_long_a_client_waited_in_vain(start: Start, upstream: ScriptedUpstream) -> None:
    """One that leaves before there is anything to read is not among those that waited for a first
    event: an upstream that is too slow for all would look like one that nobody asks."""
    upstream.answers([Hang], openai_text("Hello"), [*said("Hello"), Hang])
    gateway = await start(config(upstream.url))
    async with gateway.raw(V2, {"message": "hi"}):
        await upstream.until_requests(1)
        await asyncio.sleep(LONG)
    await gateway.settled()
    assert (await gateway.chat_v2()).status == 200
    async with gateway.raw(V2, {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hello")
    await gateway.settled()
    total, where = await scraped(gateway), {"agent": "1", "upstream": "main"}
    assert total("oc_gateway_left_waiting_seconds_count", **where) == 1
    assert total("oc_gateway_left_waiting_seconds_count") == 1
    assert total("oc_gateway_left_waiting_seconds_bucket", le="0.5") == 0
    assert total("oc_gateway_left_waiting_seconds_sum") >= LONG
    assert total("oc_gateway_first_event_seconds_count") == 2


async def test_a_client_that_leaves_the_queue(start: Start, upstream: ScriptedUpstream) -> None:
    """It waited for us as well as for the upstream."""
    go_on = asyncio.Event()
    text = openai_text("Hello")
    upstream.answers([text[0], Wait(go_on), *text[1:]])
    gateway = await start(config(upstream.url, upstream="max_streams = 1"))
    first = asyncio.ensure_future(gateway.chat_v2())
    await upstream.until_requests(1)
    async with gateway.raw(V2, {"message": "hi"}):
        await eventually(lambda: any(state.slots.waiting for state in gateway.gateway.states))
    await eventually(lambda: len(gateway.gateway.ledger.open) == 1)
    go_on.set()
    await first
    total = await scraped(gateway)
    assert total("oc_gateway_left_waiting_seconds_count", agent="1") == 1


@pytest.mark.parametrize("on_disconnect", ["drain", "keep"])
async def test_a_turn_that_outlives_its_client(
    on_disconnect: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """When it ends says nothing of how long the client waited."""
    go_on = asyncio.Event()
    upstream.answers([Wait(go_on), *document({"error": {"message": "overloaded"}}, 503)])
    gateway = await start(config(upstream.url, agent=f'on_disconnect = "{on_disconnect}"'))
    async with gateway.raw(V2, {"message": "hi"}):
        await upstream.until_requests(1)
    go_on.set()
    await eventually(lambda: bool(gateway.log_lines()))
    total = await scraped(gateway)
    assert total("oc_gateway_turns_total", outcome="client_gone") == 1
    assert total("oc_gateway_left_waiting_seconds_count") == 0
