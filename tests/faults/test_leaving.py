"""What becomes of a turn whose client leaves: as its agent's `on_disconnect` says."""

import asyncio
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from gateway.conversations.memory import MemoryStore
from gateway.core.events import Json
from gateway.dialects import DIALECTS
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.kept import CONVERSATIONS, asked
from tests.e2e.running import CHATS, Answered, Running, config, eventually
from tests.e2e.scripted import (
    END,
    PATIENCE,
    Hang,
    Script,
    ScriptedUpstream,
    Wait,
    chunk,
    delta,
    document,
    event,
    finish,
    head,
    openai_text,
    said,
)

HISTORY: Json = [{"role": "user", "content": "hi"}]
ASKS: dict[str, tuple[str, Json]] = {
    **CHATS,
    "chatbase": ("/chatbase/api/v2/agents/1/chat", {"message": "hi"}),
    "agentsgt": ("/agentsgt/api/v1/agents/chat/1", {"messages": HISTORY}),
    "sonzai": ("/sonzai/api/v1/agents/1/chat", {"messages": HISTORY}),
    "openai": ("/v1/chat/completions", {"model": "1", "messages": HISTORY, "stream": True}),
}
KEEPING = ("v1", "v2", "whole", "chatbase")
"""Those whose conversations are stored."""

USAGE: Json = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


class Paused:
    """An answer that stops at a place until it may go on."""

    def __init__(self, *steps: bytes) -> None:
        self.go_on = asyncio.Event()
        last = chunk(b"".join(map(event, (delta(" world"), finish(), USAGE))))
        self.script: Script = [*steps, Wait(self.go_on), *_rest(steps, last)]


def _rest(steps: tuple[bytes, ...], last: bytes) -> list[bytes]:
    begun = [] if steps else [head(), chunk(event(delta("Hello")))]
    return [*begun, last, chunk(b"data: [DONE]\n\n"), END]


def paused(place: str) -> Paused:
    """Before it begins, or in the middle."""
    return Paused() if place == "before" else Paused(head(), chunk(event(delta("Hello"))))


async def leave(gateway: Running, upstream: ScriptedUpstream, ask: str, place: str) -> None:
    """Ask, and be gone when the upstream is at its pause."""
    count = len(upstream.requests)
    async with gateway.raw(*ASKS[ask]) as (reader, _):
        await upstream.until_requests(count + 1)
        if place == "middle" and ask != "whole":
            await reader.readuntil(b"Hello")
        elif place == "middle":
            await gateway.until_answering(1)


async def turn_line(gateway: Running) -> dict[str, Json]:
    """The one line of the turn that was left, when it is there."""

    def lines() -> list[dict[str, Json]]:
        return [line for line in gateway.log_lines() if line["event"] == "request"]

    await eventually(lambda: bool(lines()))
    [line] = lines()
    return line


async def drained(gateway: Running) -> dict[str, float]:
    return await gateway.counted("oc_gateway_drained_turns_total", "ending")


async def kept(gateway: Running) -> list[list[Json]]:
    """What each conversation's messages say."""
    found = []
    for item in json.array((await asked(gateway, CONVERSATIONS))["data"]):
        path = f"{CONVERSATIONS}/{json.mapping(item)['id']}/messages"
        messages = map(json.mapping, json.array((await asked(gateway, path))["data"]))
        parts = [json.mapping(json.array(message["parts"])[0]) for message in messages]
        found.append([part["text"] for part in parts])
    return found


@pytest.mark.parametrize("place", ["before", "middle"])
@pytest.mark.parametrize("policy", ["drain", "keep"])
@pytest.mark.parametrize("ask", ASKS)
async def test_the_turn_goes_on_for_the_record(
    ask: str, policy: str, place: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """The upstream is read to its end, the conversation is kept, usage and all is counted, once."""
    answer = paused(place)
    upstream.answers(answer.script)
    gateway = await start(config(upstream.url, agent=f'on_disconnect = "{policy}"'))
    await leave(gateway, upstream, ask, place)
    await gateway.noticed()
    assert gateway.gateway.limiter.busy
    assert not [line for line in gateway.log_lines() if line["event"] == "request"]
    answer.go_on.set()
    await gateway.settled()

    line = await turn_line(gateway)
    assert (line["outcome"], line["drained"], line["status"]) == ("client_gone", "complete", 499)
    assert (line["input_tokens"], line["output_tokens"]) == (3, 2)
    assert await drained(gateway) == {"complete": 1}
    assert await gateway.outcomes() == {"client_gone": 1}
    assert sum((await gateway.counted("oc_gateway_tokens_total", "kind")).values()) == 5
    assert await kept(gateway) == ([["hi", "Hello world"]] if ask in KEEPING else [])
    assert upstream.accepted == 1
    assert not gateway.gateway._pipeline.detached


@pytest.mark.parametrize("place", ["before", "middle"])
@pytest.mark.parametrize("ask", ["v1", "v2", "whole", "openai"])
async def test_a_drain_has_its_time(
    ask: str, place: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """What takes longer than `drain_max` is left after all, and counted as cut."""
    upstream.answers(paused(place).script)
    agent = 'on_disconnect = "drain"\ndrain_max = "100ms"'
    store = 'url = "memory://"\nkeep_partial = true'
    gateway = await start(config(upstream.url, agent=agent, store=store))
    await leave(gateway, upstream, ask, place)
    await upstream.until_open(0)
    await gateway.settled()

    line = await turn_line(gateway)
    assert (line["outcome"], line["drained"]) == ("client_gone", "cut")
    assert await drained(gateway) == {"cut": 1}
    partial = place == "middle" and ask != "openai"
    assert await kept(gateway) == ([["hi", "Hello"]] if partial else [])


@pytest.mark.parametrize("policy", ["drain", "keep"])
async def test_it_may_fail_without_its_client(
    policy: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """The client has left, and the turn has failed: both are counted, each as what it is."""
    go_on = asyncio.Event()
    upstream.answers([*said("Hello"), Wait(go_on), END])
    gateway = await start(config(upstream.url, agent=f'on_disconnect = "{policy}"'))
    await leave(gateway, upstream, "v2", "middle")
    await gateway.noticed()
    go_on.set()
    await gateway.settled()

    line = await turn_line(gateway)
    assert (line["outcome"], line["drained"]) == ("client_gone", "upstream_truncated")
    assert await gateway.upstream_errors() == {"upstream_truncated": 1}
    assert await kept(gateway) == []


async def test_it_may_be_refused_without_its_client(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Nobody hears of the error, and the log says it."""
    go_on = asyncio.Event()
    upstream.answers([Wait(go_on), *document({}, 401)])
    gateway = await start(config(upstream.url, agent='on_disconnect = "drain"'))
    await leave(gateway, upstream, "v2", "before")
    await gateway.noticed()
    go_on.set()
    await gateway.settled()

    line = await turn_line(gateway)
    assert (line["outcome"], line["drained"]) == ("client_gone", "upstream_refused")


class SlowStore(MemoryStore):
    """Writes when it may."""

    def __init__(self, max_size: int) -> None:
        super().__init__(max_size)
        self.writing = asyncio.Event()
        self.go_on = asyncio.Event()

    async def save(self, *args: Any) -> None:
        self.writing.set()
        await self.go_on.wait()
        await super().save(*args)


@pytest.fixture
def slow_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[], SlowStore]:
    """The store of the gateways that start from here on; call it for that of the last one."""
    made: list[SlowStore] = []

    def build(*_: object) -> SlowStore:
        made.append(SlowStore(1 << 20))
        return made[-1]

    monkeypatch.setattr("gateway.app.build_store", build)
    return lambda: made[-1]


@pytest.mark.parametrize("policy", ["cancel", "drain", "keep"])
@pytest.mark.parametrize("ask", KEEPING)
async def test_leaving_while_the_turn_is_written(
    ask: str,
    policy: str,
    slow_store: Callable[[], SlowStore],
    start: Start,
    upstream: ScriptedUpstream,
) -> None:
    """What the turn has cost is counted in any case, and it is written if it may outlive its
    client; no claim, slot or gauge is left."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, agent=f'on_disconnect = "{policy}"'))
    store = slow_store()
    async with gateway.raw(*ASKS[ask]):
        await asyncio.wait_for(store.writing.wait(), PATIENCE)
    await gateway.noticed()
    store.go_on.set()
    await gateway.settled()

    line = await turn_line(gateway)
    assert line["outcome"] == "client_gone"
    assert line.get("drained") == (None if policy == "cancel" else "complete")
    assert (line["input_tokens"], line["output_tokens"], line["events"]) == (3, 1, 3)
    assert sum((await gateway.counted("oc_gateway_tokens_total", "kind")).values()) == 4
    assert await kept(gateway) == ([] if policy == "cancel" else [["hi", "Hello"]])


@pytest.mark.parametrize("policy", ["drain", "keep"])
async def test_a_client_that_stalls_is_as_one_that_left(
    policy: str, start: Start, upstream: ScriptedUpstream, stalled: Callable[[], str]
) -> None:
    """It is cut, and the turn goes on without it."""
    piece = chunk(event(delta("x" * 30_000)))
    last = chunk(event(finish()) + b"data: [DONE]\n\n")
    upstream.answers([*said("Hello"), *[piece] * 1000, last, END])
    server = 'write_timeout = "200ms"'
    gateway = await start(config(upstream.url, server=server, agent=f'on_disconnect = "{policy}"'))
    async with gateway.raw(*ASKS["v1"]) as (_, writer):
        reading = writer.transport.pause_reading  # type: ignore[attr-defined]
        reading()
        await eventually(lambda: bool(gateway.log_lines()), timeout=60)
    await gateway.settled()

    line = await turn_line(gateway)
    assert (line["outcome"], line["drained"]) == (stalled(), "complete")
    [[_, answer]] = await kept(gateway)
    assert len(json.text(answer)) == 5 + 30_000_000


@pytest.mark.parametrize("policy", ["drain", "keep"])
async def test_a_client_that_stays_notices_nothing(
    policy: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Its answer is byte by byte the one that it gets from other agents."""
    answers: list[dict[str, Answered]] = []
    for agent in ("", f'on_disconnect = "{policy}"'):
        upstream.answers(openai_text("Hello", " world"))
        gateway = await start(config(upstream.url, agent=agent))
        answers.append({name: await gateway.post(*ASKS[name]) for name in ASKS})
        assert await gateway.outcomes() == {"complete": len(ASKS)}
        assert not await drained(gateway)
        assert not gateway.gateway._pipeline.detached
    for name in ASKS:
        without, with_it = (_without_ids(said[name].body) for said in answers)
        assert with_it == without, name


def _without_ids(body: bytes) -> bytes:
    """What no two answers have in common: ids, and the second they were made in."""
    return re.sub(rb'("(?:id|\w*Id)":"?|"created\w*":|msg_|chatcmpl-)[\w-]+', rb"\1", body)


async def test_what_is_refused_was_no_turn(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client had left before the refusal: it is not counted among those that went on."""
    looking, go_on = asyncio.Event(), asyncio.Event()
    load = MemoryStore.load

    async def slow(*args: Any) -> Any:
        looking.set()
        await go_on.wait()
        return await load(*args)

    monkeypatch.setattr(MemoryStore, "load", slow)
    gateway = await start(config(upstream.url, agent='on_disconnect = "keep"'))
    path, _ = ASKS["v2"]
    async with gateway.raw(path, {"message": "hi", "conversationId": "77"}):
        await asyncio.wait_for(looking.wait(), PATIENCE)
    await gateway.noticed()
    go_on.set()
    await gateway.settled()

    line = await turn_line(gateway)
    assert (line["outcome"], "drained" in line) == ("client_gone", False)
    assert await drained(gateway) == {}


async def test_a_word_that_comes_as_the_client_leaves(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is closed, and its handler has not heard of it: the turn goes on."""
    answer = paused("middle")
    upstream.answers(answer.script)
    gateway = await start(config(upstream.url, agent='on_disconnect = "keep"'))
    lost = web.RequestHandler.connection_lost
    turns = gateway.gateway._pipeline.open_turns

    def a_word() -> None:
        for turn in turns._turns:
            assert turn.relay is not None
            turn.relay.data(event(delta(" cruel")))

    def connection_lost(handler: web.RequestHandler, exc: BaseException | None) -> None:
        asyncio.get_running_loop().call_soon(a_word)
        lost(handler, exc)

    monkeypatch.setattr(web.RequestHandler, "connection_lost", connection_lost)
    await leave(gateway, upstream, "v2", "middle")
    await gateway.noticed()
    monkeypatch.undo()
    answer.go_on.set()
    await gateway.settled()

    assert await drained(gateway) == {"complete": 1}
    assert await kept(gateway) == [["hi", "Hello cruel world"]]


async def test_a_bug_that_no_words_are_left_for(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a failure can be said: who reads is not kept waiting all the same."""

    class Broken:
        dropped: Mapping[str, int] = MappingProxyType({})

        def encode(self, _event: object) -> bytes:
            raise RuntimeError("a bug")

    def broken(*_: object) -> Any:
        return Broken()

    monkeypatch.setitem(DIALECTS, "bookbag-v2", replace(DIALECTS["bookbag-v2"], encoder=broken))
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, agent='on_disconnect = "keep"'))
    async with asyncio.timeout(PATIENCE):
        answer = await gateway.post(*ASKS["v2"])
    await gateway.settled()
    assert (answer.status, answer.body) == (200, b"")
    assert "internal_error" in [line["event"] for line in gateway.log_lines()]
    assert await gateway.outcomes() == {"internal": 1}


async def test_errors_before_the_stream_are_the_dialects_own(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """With the right status, also where the turn runs in a task of its own."""
    upstream.answers(document({}, 402))
    breaker = "breaker = { enabled = false }"
    gateway = await start(config(upstream.url, upstream=breaker, agent='on_disconnect = "keep"'))
    statuses = {name: (await gateway.post(*ASKS[name])).status for name in ASKS}
    assert statuses == {
        "v1": 503,
        "v2": 503,
        "whole": 503,
        "chatbase": 402,
        "agentsgt": 402,
        "sonzai": 402,
        "openai": 429,
    }
    await gateway.settled()


async def test_a_stop_waits_for_turns_without_clients(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """They are turns as all others are: what is done in time is kept."""
    answer = paused("middle")
    upstream.answers(answer.script)
    gateway = await start(config(upstream.url, agent='on_disconnect = "drain"'))
    await leave(gateway, upstream, "v2", "middle")
    stopping = asyncio.ensure_future(gateway.gateway.stop())
    await asyncio.sleep(0.05)
    assert not stopping.done()
    answer.go_on.set()
    await asyncio.wait_for(stopping, PATIENCE)

    line = await turn_line(gateway)
    assert (line["outcome"], line["drained"]) == ("client_gone", "complete")


@pytest.mark.parametrize("place", ["before", "middle"])
async def test_a_stop_ends_turns_without_clients(
    place: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """When its window is over, wherever they are; no task is left."""
    upstream.answers([Hang] if place == "before" else [*said("Hello"), Hang])
    server = 'drain_timeout = "50ms"'
    gateway = await start(config(upstream.url, server=server, agent='on_disconnect = "keep"'))
    await leave(gateway, upstream, "v2", place)
    await gateway.noticed()
    await asyncio.wait_for(gateway.gateway.stop(), PATIENCE)

    line = await turn_line(gateway)
    assert (line["outcome"], line["drained"]) == ("client_gone", "restarting")
    assert not gateway.gateway._pipeline.detached
    await upstream.until_open(0)
