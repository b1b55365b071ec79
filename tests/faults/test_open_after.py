"""A stream that begins before its upstream does, for proxies that do not bear a long silence."""

import asyncio
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.events import Json
from gateway.dialects import DIALECTS
from gateway.proxy import attempts
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, config, eventually
from tests.e2e.scripted import Close, Hang, Script, ScriptedUpstream, Wait, document, openai_text

ERROR: Json = {"error": {"message": "GPU 7 is on fire", "type": "server_error"}}
EARLY = 'open_after = "60ms"'
LATE = 'open_after = "30s"'
STREAMS = ("v1", "v2")


@pytest.mark.parametrize("dialect", STREAMS)
async def test_the_head_comes_before_the_first_event(
    dialect: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """And the answer after it, as ever."""
    go_on = asyncio.Event()
    upstream.answers([Wait(go_on), *openai_text("Hello")])
    gateway = await start(config(upstream.url, agent=EARLY))

    body = await gateway.stepwise(dialect, (b"\r\n\r\n", go_on))
    assert body.startswith(b"HTTP/1.1 200")
    assert b"Hello" in body
    assert await gateway.outcomes() == {"complete": 1}
    await gateway.settled()


@pytest.mark.parametrize("dialect", STREAMS)
@pytest.mark.parametrize(
    ("failure", "code"),
    [(document(ERROR, 500), "upstream_failed"), ([Close], "upstream_truncated")],
)
async def test_a_failure_is_told_in_the_stream(
    failure: Script,
    code: str,
    dialect: str,
    start: Start,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
) -> None:
    """And no other target is asked any more, nor the same one again."""
    go_on = asyncio.Event()
    upstream.answers([Wait(go_on), *failure])
    gateway = await start(
        config(upstream.url, second=second.url, agent=EARLY, upstream="retry_after_send = true")
    )

    body = await gateway.stepwise(dialect, (b"\r\n\r\n", go_on))
    assert body.startswith(b"HTTP/1.1 200")
    assert b"error" in body
    assert b"fire" not in body
    assert not second.requests
    assert len(upstream.requests) == 1
    assert await gateway.outcomes() == {code: 1}
    await gateway.settled()


async def test_a_bug_is_told_in_the_stream(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody above hears of it any more: it is logged and counted all the same, once."""
    go_on = asyncio.Event()

    async def broken(*_: Any) -> None:
        await go_on.wait()
        raise RuntimeError("a bug")

    monkeypatch.setattr(attempts, "open_at", broken)
    gateway = await start(config(upstream.url, agent=EARLY))
    body = await gateway.stepwise("v2", (b"\r\n\r\n", go_on))
    assert b"failed to serve" in body
    await gateway.settled()
    assert await gateway.outcomes() == {"internal": 1}
    assert [line["event"] for line in gateway.log_lines()].count("internal_error") == 1


async def test_a_turn_without_its_client_asks_every_target(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Nobody is kept waiting, so there is nothing to begin early, and nothing to be bound to."""
    fail = asyncio.Event()
    upstream.answers([Wait(fail), *document(ERROR, 500)])
    second.answers(openai_text("Hello"))
    agent = 'on_disconnect = "keep"\nopen_after = "1s"'
    gateway = await start(config(upstream.url, second=second.url, agent=agent))
    async with gateway.raw(*CHATS["v2"]):
        await upstream.until_requests(1)
    await gateway.noticed()
    asyncio.get_running_loop().call_later(1.5, fail.set)  # when it would have been early
    await gateway.settled()
    assert len(second.requests) == 1
    assert await gateway.counted("oc_gateway_drained_turns_total", "ending") == {"complete": 1}


async def test_heartbeats_keep_it_alive(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the dialect's clients bear comments."""
    monkeypatch.setitem(DIALECTS, "bookbag-v1", replace(DIALECTS["bookbag-v1"], heartbeat=0.02))
    go_on = asyncio.Event()
    upstream.answers([Wait(go_on), *openai_text("Hello")])
    gateway = await start(config(upstream.url, agent=EARLY))

    body = await gateway.stepwise("v1", (b": ping", go_on))
    assert body.index(b": ping") < body.index(b"Hello")


@pytest.mark.parametrize("failure", [document(ERROR, 500), [Hang]])
async def test_until_then_a_failure_has_its_status(
    failure: Script, start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """And the next target answers."""
    upstream.answers(failure)
    second.answers(openai_text("Hello"))
    clocks = 'first_event = "200ms"' if failure == [Hang] else ""
    gateway = await start(
        config(upstream.url, second=second.url, agent=LATE, upstream="retries = 0", clocks=clocks)
    )

    assert (await gateway.chat_v2()).text == "Hello"
    second.answers(document(ERROR, 500))
    upstream.answers(document(ERROR, 500))
    assert (await gateway.chat_v2()).status == 502


async def test_a_whole_answer_waits(start: Start, upstream: ScriptedUpstream) -> None:
    """Nothing could be said of it early."""
    go_on = asyncio.Event()
    upstream.answers([Wait(go_on), *document(ERROR, 500)])
    gateway = await start(config(upstream.url, agent=EARLY))
    turn = asyncio.ensure_future(gateway.post(*CHATS["whole"]))
    await upstream.until_requests(1)
    asyncio.get_running_loop().call_later(0.2, go_on.set)

    assert (await turn).status == 502


async def test_a_client_that_leaves_ends_it(start: Start, upstream: ScriptedUpstream) -> None:
    """Before the head and after it: the upstream is not asked for nobody."""
    upstream.answers([Hang], [Hang])
    gateway = await start(config(upstream.url, agent=EARLY))
    for asked in (1, 2):
        async with gateway.raw(*CHATS["v1"]) as (reader, writer):
            await eventually(partial(_asked, upstream, asked))
            if asked == 2:
                await reader.readuntil(b"\r\n\r\n")
            writer.close()
        await eventually(lambda: not upstream.open)
        await gateway.settled()

    assert await gateway.outcomes() == {"client_gone": 2}


def _asked(upstream: ScriptedUpstream, times: int) -> bool:
    return len(upstream.requests) == times
