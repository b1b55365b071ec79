"""What turns that have ended leave in memory: nothing, whatever became of them.

What is in a reference cycle stays until Python looks for such. Of some hundred streams at a time
that would be tens of megabytes, which the process does not give back.
"""

import asyncio
import gc
from collections import Counter
from dataclasses import dataclass
from types import FrameType, FunctionType, MethodType

import pytest
from aiohttp import web

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, ONCE, Running, config
from tests.e2e.scripted import (
    Close,
    Hang,
    Script,
    ScriptedUpstream,
    Wait,
    document,
    head,
    openai_text,
    said,
)
from tests.e2e.speaking import ASK

_TURNS = 3

# Whose objects turns are made of: their clients and upstreams are in the same process here.
_OURS = ("gateway.", "aiohttp.web", "aiohttp_sse", "httptools")

_PAUSE = b""
"""Where an upstream waits for the test."""

_ERROR: Json = {"error": {"message": "no", "type": "server_error"}}
_TEXT: Script = openai_text("Hello", " world")
_HANGS: Script = [Hang]
_STALLS: Script = [*said("Hello"), Hang]
_BREAKS: Script = [*said("Hello"), Close]
_PAUSES: Script = [*_TEXT[:2], _PAUSE, *_TEXT[2:]]
_FAILS, _BUSY, _REFUSES = (document(_ERROR, status) for status in (500, 503, 400))

_EARLY, _HEDGED = 'open_after = "20ms"', 'hedge_after = "20ms"'
_DRAINED, _KEPT = 'on_disconnect = "drain"', 'on_disconnect = "keep"'


@dataclass(frozen=True)
class Kind:
    """What becomes of a turn."""

    first: tuple[Script, ...] = (_TEXT,)
    second: Script | None = None
    """Of the target that is fallen back to."""
    agent: str = ""
    upstream: str = ONCE
    clocks: str = ""
    ask: tuple[str, Json] = CHATS["v2"]
    reads: bytes = b""
    """What the client waits for, before it leaves or the upstream goes on."""
    leaves: bool = False


_KINDS = {
    **{f"streamed, {name}": Kind(ask=ask("1", "hi", True)) for name, ask in ASK.items()},
    "whole": Kind(ask=CHATS["whole"]),
    "left": Kind((_STALLS,), reads=b"Hello", leaves=True),
    "left before the answer": Kind((_HANGS,), leaves=True),
    "broken off": Kind((_BREAKS,)),
    "broken off, whole": Kind((_BREAKS,), ask=CHATS["whole"]),
    "fell silent": Kind((_STALLS,), clocks='idle = "50ms"'),
    "never began": Kind((_HANGS,), clocks='first_event = "50ms"'),
    "failed": Kind((_FAILS,)),
    "refused": Kind((_REFUSES,)),
    "no HTTP": Kind(([b"HTTP/9 what?\r\n\r\n", Close],)),
    "retried": Kind((_BUSY, _TEXT), upstream="breaker = { enabled = false }"),
    "fell back": Kind((_FAILS,), _TEXT),
    "fell back from a closed connection": Kind(([Close],), _TEXT),
    "fell back from an empty answer": Kind(([head(), Close],), _TEXT),
    "fell back from silence": Kind((_HANGS,), _TEXT, clocks='first_event = "50ms"'),
    "all failed": Kind((_FAILS,), _FAILS),
    "hedged": Kind((_HANGS,), _TEXT, _HEDGED),
    "hedged, all failed": Kind(([_PAUSE, *_FAILS],), _FAILS, _HEDGED),
    "hedged, refused": Kind((_HANGS,), _REFUSES, _HEDGED),
    "hedged, left": Kind((_HANGS,), _HANGS, _HEDGED, leaves=True),
    "drained": Kind(agent=_DRAINED),
    "drained, left": Kind((_PAUSES,), agent=_DRAINED, reads=b"Hello", leaves=True),
    "drained, cut": Kind(
        (_STALLS,), agent=f'{_DRAINED}\ndrain_max = "50ms"', reads=b"Hello", leaves=True
    ),
    "drained, failed": Kind((_FAILS,), agent=_DRAINED),
    "drained, left and failed": Kind(([_PAUSE, *_FAILS],), agent=_DRAINED, leaves=True),
    "kept": Kind(agent=_KEPT),
    "kept, left": Kind((_PAUSES,), agent=_KEPT, reads=b"Hello", leaves=True),
    "kept, broken off": Kind((_BREAKS,), agent=_KEPT),
    "opened early": Kind(([_PAUSE, *_TEXT],), agent=_EARLY, reads=b"\r\n\r\n"),
    "opened early, failed": Kind(([_PAUSE, *_FAILS],), agent=_EARLY, reads=b"\r\n\r\n"),
}


@pytest.mark.asyncio(loop_factories=["uvloop"])  # asyncio's own transports are cycles
@pytest.mark.parametrize("name", _KINDS)
async def test_a_turn_leaves_no_garbage(
    name: str, start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """It is in no reference cycle, and nothing that it was made of is."""
    kind = _KINDS[name]
    gateway = await start(
        config(
            upstream.url,
            second=None if kind.second is None else second.url,
            agent=kind.agent,
            upstream=kind.upstream,
            clocks=kind.clocks,
        )
    )
    await _turn(kind, gateway, upstream, second)  # the first one has more to set up
    gc.collect()
    gc.disable()
    try:
        for _ in range(_TURNS):
            await _turn(kind, gateway, upstream, second)
        found = _garbage()
    finally:
        gc.enable()

    assert not found, f"in {_TURNS} turns: {found}"


@pytest.mark.parametrize("name", ["kept", "kept, left", "kept, broken off"])
async def test_a_kept_stream_keeps_no_client(
    name: str, start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """What clients may come back to is what was said, and not the request of the one who asked."""
    kind = _KINDS[name]
    gateway = await start(config(upstream.url, agent=kind.agent, upstream=kind.upstream))
    before = _asking()
    for _ in range(_TURNS):
        await _turn(kind, gateway, upstream, second)

    assert len(gateway.gateway.streams) == _TURNS
    assert _asking() <= before


@pytest.mark.parametrize("name", ["v2", "whole"])
async def test_an_idle_connection_keeps_no_request(
    name: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Nor its answer: most connections are idle most of the time."""
    upstream.answers(_TEXT)
    gateway = await start(config(upstream.url))
    before = _asking()
    path, body = CHATS[name]
    async with gateway.raw(path, body) as (reader, _):
        await reader.readuntil(b"0\r\n\r\n" if name == "v2" else b"}")
        await gateway.settled()
        assert _asking() <= before


async def _turn(
    kind: Kind, gateway: Running, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """One turn, until all of it is over."""
    go_on = asyncio.Event()
    upstream.answers(*(_paused(script, go_on) for script in kind.first))
    second.answers(kind.second or _TEXT)
    count = len(second.requests)
    path, body = kind.ask
    async with gateway.raw(path, body, Connection="close") as (reader, _):
        await upstream.until_requests(len(upstream.requests) + 1)
        if kind.agent == _HEDGED:
            await second.until_requests(count + 1)
        if kind.reads:
            await reader.readuntil(kind.reads)
        if not kind.leaves:
            go_on.set()
            assert await reader.read()
    await gateway.noticed()
    go_on.set()
    await gateway.settled()


def _paused(script: Script, go_on: asyncio.Event) -> Script:
    return [Wait(go_on) if step == _PAUSE else step for step in script]


def _garbage() -> Counter[str]:
    """What is found of ours."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(word for word in map(_word, gc.garbage) if word.startswith(_OURS))
    gc.garbage.clear()
    return found


def _word(found: object) -> str:
    """Where it comes from."""
    match found:
        case FrameType():
            return f"{found.f_globals['__name__']}.{found.f_code.co_qualname}"
        case FunctionType() | MethodType():
            return f"{found.__module__}.{found.__qualname__}"
        case _:
            return f"{type(found).__module__}.{type(found).__qualname__}"


def _asking() -> int:
    """How many requests for turns are there."""
    gc.collect()
    requests = [each for each in gc.get_objects() if issubclass(type(each), web.Request)]
    return sum(each.method == "POST" for each in requests)
