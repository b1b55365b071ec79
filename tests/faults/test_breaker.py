"""A target that fails again and again is left alone: its callers are told so at once."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, Running, config, eventually
from tests.e2e.scripted import (
    Close,
    Hang,
    ScriptedUpstream,
    Wait,
    document,
    head,
    openai_text,
    said,
)

ERROR: Json = {"error": {"message": "GPU 7 is on fire", "type": "server_error"}}
FIVE = 5
ONCE = "retries = 0"
SOON = f'{ONCE}\nbreaker = {{ open_for = "100ms" }}'


def breakers(gateway: Running) -> dict[str, str]:
    now = time.monotonic()
    return {state.name: state.breaker.state(now) for state in gateway.gateway.states}


async def open_breaker(gateway: Running, upstream: ScriptedUpstream) -> None:
    """Five failures in a row."""
    upstream.answers(*[document(ERROR, 500)] * FIVE)
    for _ in range(FIVE):
        assert (await gateway.chat_v2()).status == 502
    assert opened(gateway) == 1


def opened(gateway: Running) -> int:
    """How often it has. Whether it still is, would be the clock's to say."""
    return next(iter(gateway.gateway.states)).breaker.opened


def told(gateway: Running) -> list[tuple[object, object]]:
    """What the log has said of the target."""
    mine = [line for line in gateway.log_lines() if "breaker" in json.text(line["event"])]
    assert {line["target"] for line in mine} == {"main/m"}
    return [(line["level"], line["event"]) for line in mine]


@pytest.mark.parametrize("dialect", CHATS)
async def test_a_single_target_that_is_down_is_not_asked(
    dialect: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """An outage costs its callers no time: they are told when to come back."""
    gateway = await start(config(upstream.url, upstream=ONCE))
    await open_breaker(gateway, upstream)
    answer = await gateway.post(*CHATS[dialect])

    assert answer.status == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert len(upstream.requests) == FIVE
    assert (await gateway.outcomes())["upstream_down"] == 1
    await gateway.settled()


async def test_one_turn_tries_and_closes_it(start: Start, upstream: ScriptedUpstream) -> None:
    """Half open, it lets a single turn through; those beside it are told to wait."""
    gateway = await start(config(upstream.url, upstream=SOON))
    await open_breaker(gateway, upstream)
    await eventually(lambda: breakers(gateway)["main/m"] == "half_open")
    go_on = asyncio.Event()
    upstream.answers([head(), Wait(go_on), *openai_text("Hello")[1:]], openai_text("Hello"))
    trying = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: len(upstream.requests) == FIVE + 1)

    assert (await gateway.chat_v2()).status == 503
    go_on.set()
    assert (await trying).text == "Hello"
    assert breakers(gateway)["main/m"] == "closed"
    assert (await gateway.chat_v2()).text == "Hello"
    assert len(upstream.requests) == FIVE + 2
    assert told(gateway) == [("warning", "breaker_opened"), ("info", "breaker_closed")]


async def test_a_try_that_fails_opens_it_again(start: Start, upstream: ScriptedUpstream) -> None:
    """For as long as before."""
    gateway = await start(config(upstream.url, upstream=SOON))
    await open_breaker(gateway, upstream)
    await eventually(lambda: breakers(gateway)["main/m"] == "half_open")
    upstream.answers(document(ERROR, 500))

    assert (await gateway.chat_v2()).status == 502
    assert opened(gateway) == 2
    assert told(gateway) == [("warning", "breaker_opened")] * 2


async def test_a_client_that_leaves_a_try_makes_room_for_the_next(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Nobody knows yet how the target is."""
    gateway = await start(config(upstream.url, upstream=SOON))
    await open_breaker(gateway, upstream)
    await eventually(lambda: breakers(gateway)["main/m"] == "half_open")
    upstream.answers([Hang], openai_text("Hello"))
    trying = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: len(upstream.requests) == FIVE + 1)
    trying.cancel()
    await asyncio.wait([trying])
    await gateway.settled()

    assert (await gateway.chat_v2()).text == "Hello"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_opens_it_at_once(
    status: int, start: Start, upstream: ScriptedUpstream
) -> None:
    """The next turn would be refused as well."""
    upstream.answers(document(ERROR, status))
    gateway = await start(config(upstream.url))

    assert (await gateway.chat_v2()).status == 502
    assert (await gateway.chat_v2()).status == 503
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", [400, 413, 422, 429])
async def test_what_is_no_fault_of_the_target_leaves_it_closed(
    status: int, start: Start, upstream: ScriptedUpstream
) -> None:
    """It lives, and says no to this request."""
    upstream.answers(*[document(ERROR, status)] * (2 * FIVE))
    gateway = await start(config(upstream.url, upstream=ONCE))
    for _ in range(2 * FIVE):
        assert (await gateway.chat_v2()).status != 503

    assert breakers(gateway) == {"main/m": "closed"}


async def test_answers_that_break_off_count(start: Start, upstream: ScriptedUpstream) -> None:
    """A target that begins every answer and ends none is down as well."""
    upstream.answers(*[[*said("Hel"), Close]] * FIVE)
    gateway = await start(config(upstream.url))
    for _ in range(FIVE):
        assert (await gateway.chat_v2()).status == 200

    assert breakers(gateway) == {"main/m": "open"}


async def test_a_share_of_failures_opens_it(start: Start, upstream: ScriptedUpstream) -> None:
    """Every other turn fails: no five in a row ever do."""
    rules = f"{ONCE}\nbreaker = {{ failure_rate = 0.5, min_turns = 8 }}"
    upstream.answers(*[openai_text("Hello"), document(ERROR, 500)] * 4)
    gateway = await start(config(upstream.url, upstream=rules))
    statuses = [(await gateway.chat_v2()).status for _ in range(9)]

    assert statuses == [200, 502] * 4 + [503]


async def test_the_next_target_answers_without_delay(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The one that is down is not even asked."""
    upstream.answers(*[document(ERROR, 500)] * FIVE)
    second.answers(*[openai_text("Hello")] * (FIVE + 1))
    gateway = await start(config(upstream.url, second=second.url, upstream=ONCE))
    for _ in range(FIVE + 1):
        assert (await gateway.chat_v2()).text == "Hello"

    assert (len(upstream.requests), len(second.requests)) == (FIVE, FIVE + 1)
    fallbacks = await gateway.counted("oc_gateway_fallbacks_total", "upstream")
    assert fallbacks == {"second": FIVE + 1}


async def test_all_open_and_asked_anyway(start: Start, upstream: ScriptedUpstream) -> None:
    """`when_all_open = "try_anyway"`: better a slow answer than a certain no."""
    agent = 'when_all_open = "try_anyway"'
    gateway = await start(config(upstream.url, upstream=ONCE, agent=agent))
    await open_breaker(gateway, upstream)
    upstream.answers(openai_text("Hello"))

    assert (await gateway.chat_v2()).text == "Hello"


async def test_a_breaker_that_is_switched_off(start: Start, upstream: ScriptedUpstream) -> None:
    """The target is asked whatever it does."""
    upstream.answers(*[document(ERROR, 500)] * (2 * FIVE))
    off = f"{ONCE}\nbreaker = {{ enabled = false }}"
    gateway = await start(config(upstream.url, upstream=off))
    for _ in range(2 * FIVE):
        assert (await gateway.chat_v2()).status == 502


async def test_agents_share_what_is_known_of_a_target(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The same model of the same upstream; another model is another target."""
    more = "".join(_agents())
    gateway = await start(config(upstream.url, upstream=ONCE, more=more))
    await open_breaker(gateway, upstream)
    upstream.answers(openai_text("Hello"))

    assert (await gateway.chat_v2(agent=2)).status == 503
    assert (await gateway.chat_v2(agent=3)).status == 200


def _agents() -> Iterator[str]:
    for number, model in ((2, "m"), (3, "n")):
        yield f"""
[[agents]]
id = {number}
workspace = "acme"
name = "Agent {number}"
targets = [{{ upstream = "main", model = "{model}" }}]
"""
