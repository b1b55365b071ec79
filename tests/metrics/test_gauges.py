"""What is so now, as a scrape finds it."""

import asyncio

from prometheus_client import CollectorRegistry

from gateway.admin.gauges import StateCollector
from gateway.core.errors import ErrorCode
from gateway.limits.local import LocalLimiter
from gateway.proxy.open_turns import OpenTurns
from gateway.targets.lease import Lease
from gateway.targets.states import States
from tests.e2e.conftest import Start
from tests.e2e.running import Running, config, eventually
from tests.e2e.scripted import Hang, ScriptedUpstream, Wait, document, openai_text, said
from tests.metrics.reading import scraped
from tests.targets.making import rules, target

MAIN = {"target": "main/m", "upstream": "main"}
AT = {f"oc_gateway_{name}": MAIN for name in ("target_streams", "target_queue")}

V2 = "/api/v2/agents/1/chat"


async def test_streams_queue_and_connections(start: Start, upstream: ScriptedUpstream) -> None:
    """One turn runs, one waits: then there is an idle connection, and nobody."""
    go_on = asyncio.Event()
    text = openai_text("Hello")
    upstream.answers([text[0], Wait(go_on), *text[1:]], text)
    gateway = await start(config(upstream.url, upstream="max_streams = 1"))
    turns = [asyncio.ensure_future(gateway.chat_v2()) for _ in range(2)]
    states = gateway.gateway.states
    await eventually(lambda: [state.slots.waiting for state in states] == [1])
    await eventually(lambda: len(upstream.requests) == 1)

    total = await scraped(gateway)
    assert {name: total(name, **labels) for name, labels in AT.items()} == dict.fromkeys(AT, 1)
    assert total("oc_gateway_target_max_streams", **MAIN) == 1
    assert total("oc_gateway_open_turns") == 2
    assert total("oc_gateway_upstream_connections", upstream="main", state="active") == 1
    assert total("oc_gateway_limiter_subjects") == 1

    go_on.set()
    assert [(await turn).status for turn in turns] == [200, 200]
    await gateway.settled()
    total = await scraped(gateway)
    assert {name: total(name, **labels) for name, labels in AT.items()} == dict.fromkeys(AT, 0)
    assert total("oc_gateway_open_turns") == 0
    assert total("oc_gateway_upstream_connections", state="active") == 0
    assert total("oc_gateway_upstream_connections", state="idle") == 1


async def states_of(gateway: Running) -> dict[str, float]:
    total = await scraped(gateway)
    at = {state: total("oc_gateway_breaker_state", state=state, **MAIN) for state in STATES}
    return at | {"opened": total("oc_gateway_breaker_opened_total", **MAIN)}


STATES = ("closed", "half_open", "open")


async def test_breakers(start: Start, upstream: ScriptedUpstream) -> None:
    """From closed to open, to half open once its time is up, and back."""
    upstream.answers(document({"error": {"message": "no"}}, 500))
    rules = 'breaker = { failures = 2, open_for = "200ms" }\nretries = 0'
    gateway = await start(config(upstream.url, upstream=rules))
    assert await states_of(gateway) == {"closed": 1, "half_open": 0, "open": 0, "opened": 0}
    for _ in range(2):
        await gateway.chat_v2()
    breaker = next(iter(gateway.gateway.states)).breaker
    breaker._open_until += 60  # it would be over before it is seen, on a slow machine
    assert await states_of(gateway) == {"closed": 0, "half_open": 0, "open": 1, "opened": 1}
    breaker._open_until = 0.0
    assert await states_of(gateway) == {"closed": 0, "half_open": 1, "open": 0, "opened": 1}
    await gateway.chat_v2()
    assert (await states_of(gateway))["opened"] == 2
    breaker._open_until = 0.0
    upstream.answers(openai_text("Hello"))
    assert (await gateway.chat_v2()).status == 200
    assert await states_of(gateway) == {"closed": 1, "half_open": 0, "open": 0, "opened": 2}


SHARED = """
[[agents]]
id = 2
workspace = "acme"
name = "Other"
targets = [
  { upstream = "main", model = "m", max_streams = 5 },
  { upstream = "main", model = "n" },
]
"""


async def test_agents_share_a_target(start: Start, upstream: ScriptedUpstream) -> None:
    """It is told of once, with the limit that is met first, if there is one."""
    upstream.answers([*said("Hello"), Hang])
    text = config(upstream.url, target='model = "m", max_streams = 3', more=SHARED)
    gateway = await start(text)
    async with gateway.raw(V2, {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hello")
        total = await scraped(gateway)
    series = [name for name in await gateway.metrics() if name.startswith("oc_gateway_target_")]
    assert sorted(series) == [
        'oc_gateway_target_max_streams{target="main/m",upstream="main"}',
        'oc_gateway_target_queue{target="main/m",upstream="main"}',
        'oc_gateway_target_queue{target="main/n",upstream="main"}',
        'oc_gateway_target_streams{target="main/m",upstream="main"}',
        'oc_gateway_target_streams{target="main/n",upstream="main"}',
    ]
    assert total("oc_gateway_target_max_streams") == 3
    assert total("oc_gateway_target_streams") == total("oc_gateway_target_streams", **MAIN) == 1


async def test_health_where_it_is_checked(start: Start, upstream: ScriptedUpstream) -> None:
    """An upstream without checks is neither well nor ill."""
    plain = f'[upstreams.plain]\nkind = "openai"\nbase_url = "{upstream.url}"\n'
    upstream.answers(document({}))
    text = config(
        upstream.url,
        upstream='health = { path = "/models", interval = "1h" }',
        more=plain + SHARED.replace('"main", model = "n"', '"plain", model = "n"'),
    )
    gateway, states = await start(text), States()
    states.track([target for route in gateway.gateway.snapshot.routes for target in route.targets])
    registry = registered(gateway, states)
    main, other = ({"upstream": name} for name in ("main", "plain"))
    assert registry.get_sample_value("oc_gateway_upstream_healthy", main) == 1
    states.checked("main").down = True
    assert registry.get_sample_value("oc_gateway_upstream_healthy", main) == 0
    assert registry.get_sample_value("oc_gateway_upstream_healthy", other) is None


def registered(gateway: Running, states: States) -> CollectorRegistry:
    """Another collector, with these states, and two streams that are kept."""
    registry = CollectorRegistry()
    registry.register(
        StateCollector(
            snapshot=lambda: gateway.gateway.snapshot,
            states=states,
            open_turns=OpenTurns(),
            limiter=LocalLimiter(),
            streams=["one", "two"],
        )
    )
    return registry


async def test_what_nobody_has_asked_about(start: Start, upstream: ScriptedUpstream) -> None:
    """In the moment of a reload, a target that the config names may have no state yet."""
    value = registered(await start(config(upstream.url)), States()).get_sample_value
    assert value("oc_gateway_resumable_streams") == 2
    assert value("oc_gateway_target_streams", MAIN) is None


def test_a_failed_turn_is_told_to_the_breaker_once() -> None:
    """However many turns fail while it is open, it opened once."""
    states, used = States(), target(breaker=rules(failures=1))
    leases = [Lease(states.of(used), used) for _ in range(3)]
    for lease in leases:
        states.of(used).slots.take()
        lease.ask()
    for lease in leases:
        lease.failed(ErrorCode.UPSTREAM_FAILED)
        lease.end()
    assert states.of(used).breaker.opened == 1
