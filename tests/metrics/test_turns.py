"""What is counted of turns: their times, whose share of them is ours, and who asked."""

import asyncio

import jwt
import pytest

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, Running, config, eventually, written
from tests.e2e.scripted import (
    END,
    PATIENCE,
    Hang,
    ScriptedUpstream,
    Wait,
    chunk,
    delta,
    event,
    finish,
    head,
    openai_text,
    said,
)
from tests.metrics.reading import Total, labels_of, scraped

V1, V2 = "/api/v1/chat", "/api/v2/agents/1/chat"

# Seconds that somebody else takes in these tests.
LONG = 0.8


def overhead(total: Total, dialect: str = "bookbag-v2") -> tuple[float, float]:
    """How many times it was observed, and the seconds in all."""
    name = "oc_gateway_overhead_seconds"
    return total(f"{name}_count", dialect=dialect), total(f"{name}_sum", dialect=dialect)


def all_but(total: Total, seconds: float) -> float:
    """What requests took beside so many seconds of somebody else's. Our own share is no more than
    that, however slow the machine; the clock of uvloop knows milliseconds only."""
    return total("oc_gateway_request_duration_seconds_sum") - seconds + 0.01


async def after(seconds: float, then: asyncio.Event) -> None:
    await asyncio.sleep(seconds)
    then.set()


@pytest.mark.parametrize("stream", [True, False])
async def test_the_upstreams_time_is_not_ours(
    stream: bool, start: Start, upstream: ScriptedUpstream
) -> None:
    """However long it thinks, before its first content and between."""
    first, second = asyncio.Event(), asyncio.Event()
    text = openai_text("Hello", " you")
    upstream.answers([text[0], Wait(first), text[1], Wait(second), *text[2:]])
    gateway = await start(config(upstream.url))
    turn = asyncio.ensure_future(gateway.chat_v2(stream=stream))
    await eventually(lambda: bool(upstream.requests))
    await after(LONG / 2, first)
    await after(LONG / 2, second)
    assert (await turn).status == 200
    count, seconds = overhead(total := await scraped(gateway))
    assert count == 1
    assert 0 < seconds <= all_but(total, LONG)
    where = {"agent": "1", "upstream": "main"}
    assert total("oc_gateway_first_event_seconds_sum", **where) >= LONG / 2
    assert total("oc_gateway_request_duration_seconds_sum") >= LONG


async def test_a_slow_clients_time_is_not_ours(start: Start, upstream: ScriptedUpstream) -> None:
    """It sends its body when it likes to."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    request = written(V2, {"message": "hi", "stream": True})
    port = int(gateway.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request[:-5])
    await eventually(lambda: len(gateway.gateway.ledger.open) == 1)
    await asyncio.sleep(LONG)
    writer.write(request[-5:])
    await reader.readuntil(b"[DONE]")
    writer.close()
    await gateway.settled()
    count, seconds = overhead(total := await scraped(gateway))
    assert count == 1
    assert 0 < seconds <= all_but(total, LONG)


async def test_a_queues_time_is_not_ours(start: Start, upstream: ScriptedUpstream) -> None:
    """The second turn waits for the first."""
    go_on = asyncio.Event()
    text = openai_text("Hello")
    upstream.answers([text[0], Wait(go_on), *text[1:]], text)
    gateway = await start(config(upstream.url, upstream="max_streams = 1"))
    turns = [asyncio.ensure_future(gateway.chat_v2()) for _ in range(2)]
    await eventually(lambda: any(state.slots.waiting for state in gateway.gateway.states))
    await upstream.until_requests(1)
    await after(LONG, go_on)
    await asyncio.gather(*turns)
    count, seconds = overhead(total := await scraped(gateway))
    assert count == 2
    assert 0 < seconds <= all_but(total, 2 * LONG)


async def test_a_stream_that_may_be_resumed(start: Start, upstream: ScriptedUpstream) -> None:
    """It takes another way to its client, and is measured all the same."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, agent='on_disconnect = "keep"'))
    assert (await gateway.chat_v2()).text == "Hello"
    await eventually(lambda: bool(gateway.log_lines()))
    count, seconds = overhead(total := await scraped(gateway))
    assert count == 1
    assert 0 < seconds <= all_but(total, 0)


async def test_no_first_byte_no_share_of_it(start: Start, upstream: ScriptedUpstream) -> None:
    """A turn that failed, and a request that was none."""
    upstream.answers([head(), chunk(b"data: nonsense\n\n"), END])
    gateway = await start(config(upstream.url))
    assert (await gateway.chat_v2()).status == 502
    assert (await gateway.chat_v2(agent=9)).status == 404
    assert overhead(await scraped(gateway)) == (0, 0)


async def test_the_time_between_events(start: Start, upstream: ScriptedUpstream) -> None:
    """Their mean, once for each turn, also by OpenTelemetry's name."""
    events = [asyncio.Event() for _ in range(3)]
    steps = [step for e in events for step in (Wait(e), chunk(event(delta("more"))))]
    upstream.answers([*said("Hello"), *steps, chunk(event(finish()) + b"data: [DONE]\n\n"), END])
    gateway = await start(config(upstream.url))
    async with gateway.raw(V2, {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hello")
        for each in events:
            await after(0.1, each)
        await reader.readuntil(b"[DONE]")
    await gateway.settled()
    total = await scraped(gateway)
    # Five events, the end among them; and the clock of uvloop knows milliseconds only.
    for name in (
        "oc_gateway_event_interval_seconds",
        "gen_ai_client_operation_time_per_output_chunk_seconds",
    ):
        assert total(f"{name}_count") == 1
        assert 0.29 / 4 <= total(f"{name}_sum") <= PATIENCE


async def test_an_answer_in_one_piece_has_nothing_between(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A server that does not stream says nothing of how fast it would."""
    upstream.answers([head(), chunk(event(delta("Hello")) + event(finish())), END])
    gateway = await start(config(upstream.url))
    assert (await gateway.chat_v2()).text == "Hello"
    total = await scraped(gateway)
    assert total("oc_gateway_events_total") == 2
    assert total("oc_gateway_event_interval_seconds_count") == 0
    assert total("gen_ai_client_operation_duration_seconds_count") == 1


async def test_the_names_of_opentelemetry(start: Start, upstream: ScriptedUpstream) -> None:
    """The model is the file's, also where a client may name another."""
    go_on, text = asyncio.Event(), openai_text("Hello", " you")
    upstream.answers([*text[:2], Wait(go_on), *text[2:]])
    gateway = await start(config(upstream.url, agent='allowed_models = ["canary"]'))
    body: Json = {"agentId": 1, "message": "hi", "model": "canary"}
    async with gateway.raw(V1, body) as (reader, _):
        assert b"200 OK" in await reader.readuntil(b"Hello")
        await after(0.1, go_on)
        await reader.readuntil(b"event: done")
    await gateway.settled()
    counted = [
        (name.partition("{")[0], labels_of(name), value)
        for name, value in (await gateway.metrics()).items()
        if name.startswith("gen_ai_") and "_count" in name
    ]
    target = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "m",
    }
    usage = "gen_ai_client_token_usage_count"
    operation = "gen_ai_client_operation"
    assert sorted(counted, key=str) == [
        (f"{operation}_duration_seconds_count", target, 1),
        (f"{operation}_time_per_output_chunk_seconds_count", target, 1),
        (f"{operation}_time_to_first_chunk_seconds_count", target, 1),
        (usage, target | {"gen_ai_token_type": "input"}, 1),
        (usage, target | {"gen_ai_token_type": "output"}, 1),
    ]
    total = await scraped(gateway)
    assert total("gen_ai_client_token_usage_sum", gen_ai_token_type="input") == 3
    assert total("gen_ai_client_token_usage_sum", gen_ai_token_type="output") == 2


async def test_what_a_client_that_left_has_cost(start: Start, upstream: ScriptedUpstream) -> None:
    """Its turn counts like any other, with what has come of it so far."""
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url))
    async with gateway.raw(V2, {"message": "hi", "stream": True}) as (reader, _):
        await reader.readuntil(b"Hello")
    await gateway.settled()
    total = await scraped(gateway)
    assert total("oc_gateway_failures_total", outcome="client_gone", fault="client") == 1
    assert total("oc_gateway_turns_total", outcome="client_gone") == 1
    assert total("oc_gateway_events_total") == 1
    assert total("gen_ai_client_operation_duration_seconds_count") == 1
    assert overhead(total)[0] == 1


# Who asked.

SECRET = "not-a-secret-but-long-enough-for-it"
WHO = """
[[auth.signing_keys]]
id = "k1"
algorithm = "HS256"
secret = { env = "SIGNING" }
workspaces = ["acme"]
[[agents]]
id = 2
workspace = "acme"
name = "Public"
targets = [ { upstream = "main", model = "m" } ]
public = { origins = ["https://a.example"], tier = "standard" }
"""


def signed(subject: str) -> str:
    claims = {"sub": subject, "workspace": "acme", "tier": "standard", "exp": 4_000_000_000}
    return "oc_live_" + jwt.encode(claims, SECRET, "HS256", {"kid": "k1"})


async def test_requests_and_tokens_by_key(start: Start, upstream: ScriptedUpstream) -> None:
    """By the id that the file has for it; whom a signer or a page names has none of its own."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, more=WHO), SIGNING=SECRET)
    await gateway.chat_v2()
    await gateway.chat_v2(agent=9)
    for subject in ("canary-1", "canary-2", "e2e"):
        assert (await gateway.post(V2, {"message": "hi"}, signed(subject))).status == 200
    body: Json = {"agentId": 2, "message": "hi"}
    assert (await gateway.post(V1, body, None, Origin="https://a.example")).status == 200
    await gateway.post(V2, {"message": "hi"}, "oc_live_canary")

    total = await scraped(gateway)
    counts = {
        key: (
            total("oc_gateway_key_requests_total", workspace="acme", key=key),
            total("oc_gateway_key_tokens_total", workspace="acme", key=key, kind="input"),
        )
        for key in ("e2e", "(signed)", "(public)")
    }
    assert counts == {"e2e": (2, 3), "(signed)": (3, 9), "(public)": (1, 3)}
    assert total("oc_gateway_key_requests_total") == 6
    assert "canary" not in str(await gateway.metrics())


async def refusals(gateway: Running) -> dict[str, float]:
    return await gateway.counted("oc_gateway_rate_limit_rejections_total", "limit")


async def test_which_limit_it_was(start: Start, upstream: ScriptedUpstream) -> None:
    """Too many at once is not too many in a while."""
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url, tier='requests = "3/1h"\nconcurrency = 1'))
    async with gateway.raw(V2, {"message": "hi", "stream": True}) as (reader, _):
        await reader.readuntil(b"Hello")
        assert (await gateway.chat_v2()).status == 429
        assert await refusals(gateway) == {"concurrency": 1}
        await gateway.chat_v2()
        assert (await gateway.chat_v2()).status == 429
    assert await refusals(gateway) == {"concurrency": 2, "requests": 1}
    total = await scraped(gateway)
    assert total("oc_gateway_failures_total", outcome="rate_limited", fault="client") == 3
    whose = {"tier": "standard", "workspace": "acme", "key": "e2e"}
    assert total("oc_gateway_rate_limit_rejections_total", **whose) == 3


async def test_a_store_that_takes_its_time(start: Start, upstream: ScriptedUpstream) -> None:
    """Every operation is measured."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, store='url = "sqlite:///kept.db"'))
    assert (await gateway.post(V2, {"message": "hi"}, KEY)).status == 200
    await gateway.settled()
    counted = await gateway.counted("oc_gateway_store_duration_seconds_count", "operation")
    assert counted == {"save": 1}
    sums = await gateway.counted("oc_gateway_store_duration_seconds_sum", "operation")
    assert 0 < sums["save"] < PATIENCE


async def test_the_loop_is_watched(start: Start, upstream: ScriptedUpstream) -> None:
    """From the start on."""
    gateway = await start(config(upstream.url))
    name = "oc_gateway_event_loop_lag_seconds_count"
    value = gateway.gateway.metrics.registry.get_sample_value
    await eventually(lambda: (value(name) or 0) >= 2)
