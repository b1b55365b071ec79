"""A target with so many streams and no more: who waits, who is turned away, and how soon."""

import asyncio
import time
from functools import partial

from tests.e2e.conftest import Start
from tests.e2e.running import Running, config, eventually
from tests.e2e.scripted import PATIENCE, Hang, Script, ScriptedUpstream, Wait, document, openai_text

ONE = 'max_streams = 1\nqueue = { timeout = "1m" }'
SHORT = 'max_streams = 1\nqueue = { size = 1, timeout = "100ms" }'


def held(event: asyncio.Event) -> Script:
    text = openai_text("Hello")
    return [text[0], Wait(event), *text[1:]]


def slots(gateway: Running, target: str = "main/m") -> tuple[int, int]:
    """Taken, and waiting."""
    found = next(state.slots for state in gateway.gateway.states if state.name == target)
    return found.taken, found.waiting


async def test_who_comes_second_waits(start: Start, upstream: ScriptedUpstream) -> None:
    """First come, first served, one at a time."""
    go_on = asyncio.Event()
    upstream.answers(held(go_on), openai_text("Hello"), openai_text("Hello"))
    gateway = await start(config(upstream.url, upstream=ONE))
    turns = [asyncio.ensure_future(gateway.chat_v2()) for _ in range(3)]
    await eventually(lambda: slots(gateway) == (1, 2) and len(upstream.requests) == 1)
    go_on.set()

    assert [(await turn).text for turn in turns] == ["Hello"] * 3
    assert slots(gateway) == (0, 0)
    await gateway.settled()


async def test_a_full_queue_says_so_at_once(start: Start, upstream: ScriptedUpstream) -> None:
    """With a Retry-After, and nothing that grows."""
    go_on = asyncio.Event()
    upstream.answers(held(go_on), openai_text("Hello"))
    queue = 'max_streams = 1\nqueue = { size = 1, timeout = "30s" }'
    gateway = await start(config(upstream.url, upstream=queue))
    turns = [asyncio.ensure_future(gateway.chat_v2()) for _ in range(2)]
    await eventually(lambda: slots(gateway) == (1, 1))
    answer = await gateway.chat_v2()

    assert answer.status == 503
    assert answer.headers["retry-after"] == "30"
    assert (await gateway.outcomes()) == {"upstream_busy": 1}
    go_on.set()
    assert {(await turn).status for turn in turns} == {200}


async def test_the_wait_has_an_end(start: Start, upstream: ScriptedUpstream) -> None:
    """And the turn that is open goes on."""
    go_on = asyncio.Event()
    upstream.answers(held(go_on))
    gateway = await start(config(upstream.url, upstream=SHORT))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: slots(gateway) == (1, 0))
    began = time.monotonic()

    assert (await gateway.chat_v2()).status == 503
    assert 0.1 <= time.monotonic() - began < PATIENCE
    go_on.set()
    assert (await turn).status == 200


async def test_who_leaves_the_queue_leaves_no_trace(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The one behind moves up."""
    go_on = asyncio.Event()
    upstream.answers(held(go_on), openai_text("Hello"))
    gateway = await start(config(upstream.url, upstream=ONE))
    turns = []
    for number in range(3):
        turns.append(asyncio.ensure_future(gateway.chat_v2()))
        await eventually(partial(_has, gateway, (1, number)))
    turns[1].cancel()
    await eventually(lambda: slots(gateway) == (1, 1))
    go_on.set()

    assert (await turns[2]).text == "Hello"
    await gateway.settled()
    assert len(upstream.requests) == 2


async def test_another_target_with_room_answers_first(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Nobody waits where somebody else is free."""
    go_on = asyncio.Event()
    upstream.answers(held(go_on))
    second.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, second=second.url, upstream=ONE))
    first = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: slots(gateway) == (1, 0))

    assert (await gateway.chat_v2()).text == "Hello"
    assert len(second.requests) == 1
    go_on.set()
    assert (await first).text == "Hello"


async def test_slots_come_back_whatever_happens(start: Start, upstream: ScriptedUpstream) -> None:
    """Complete, failed, left: a limit of one is enough for all of them, one after the other."""
    gateway = await start(config(upstream.url, upstream=ONE))
    for number in range(1, 11):
        upstream.answers(openai_text("Hello"), document({}, 500), [Hang])
        assert (await gateway.chat_v2()).status == 200
        assert (await gateway.chat_v2()).status == 502
        turn = asyncio.ensure_future(gateway.chat_v2())
        await eventually(partial(_asked, upstream, 3 * number))
        turn.cancel()
        await gateway.settled()

    assert slots(gateway) == (0, 0)


def _asked(upstream: ScriptedUpstream, times: int) -> bool:
    return len(upstream.requests) == times


def _has(gateway: Running, expected: tuple[int, int]) -> bool:
    return slots(gateway) == expected
