"""A gateway under a mixed load: every dialect, and a bit of everything that can go wrong."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from socket import socket

from gateway.auth.mint import key_hash
from gateway.core.events import Json
from gateway.observe.exchange import Exchange
from tests.e2e import kept
from tests.e2e.reloading import Following, following
from tests.e2e.running import config, eventually
from tests.e2e.scripted import (
    Close,
    Hang,
    Script,
    ScriptedUpstream,
    Slowly,
    chunk,
    delta,
    document,
    finish,
    head,
    openai_text,
    said,
    scripted,
    sse,
)
from tests.e2e.speaking import ASK
from tests.operate.crew import Crewed

# What upstreams do.

_REASONING: Json = {"choices": [{"index": 0, "delta": {"reasoning_content": "Let me see."}}]}
_USAGE: Json = {"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 12}}

_WELL = sse(_REASONING, delta("Hello"), delta(" wanderer"), finish(), _USAGE)
_OVERLOADED = document({"error": {"message": "overloaded"}}, 503)
# A second and a half, so that a scrape sees what is open meanwhile.
_SLOWLY = Slowly(chunk(b": so slow\n\n"), 0.1)

# One after the other, the last one again and again.
SCRIPTS: dict[str, list[Script]] = {
    "well": [_WELL],
    "failing": [_OVERLOADED],
    "flaky": [_OVERLOADED, _WELL] * 100,
    "silent": [[Hang]],
    "slow": [[*said("Well,"), _SLOWLY, *openai_text("yes")[1:]]],
    "narrow": [[head(), _SLOWLY, *openai_text("yes")[1:]]],
    "cutting": [[*said("Hel"), Close]],
    "limiting": [document({"error": {"message": "slow down"}}, 429, Retry_After="30")],
}

UPSTREAM = """
[upstreams.{name}]
kind = "openai"
base_url = "{url}"
{more}
"""
MORE = {
    "well": 'health = { path = "/models", interval = "1s" }',
    "failing": 'breaker = { failures = 5, open_for = "2s" }',
    "silent": 'breaker = { enabled = false }\ntimeouts = { first_event = "5s" }',
    "narrow": 'max_streams = 1\nqueue = { size = 1, timeout = "5s" }',
    "cutting": 'breaker = { failures = 3, open_for = "1s" }',
    "sick": 'health = { path = "/models", interval = "1s", failures = 1 }',
}

AGENT = """
[[agents]]
id = {id}
workspace = "acme"
name = "Agent {id}"
targets = [{targets}]
{more}
"""
AGENTS: dict[int, tuple[tuple[str, ...], str]] = {
    2: (("failing", "well"), ""),
    3: (("silent", "well"), 'hedge_after = "50ms"'),
    4: (("narrow",), ""),
    5: (("cutting",), ""),
    6: (("sick",), ""),
    7: (("well",), 'public = { origins = ["https://a.example"], tier = "standard" }'),
    8: (("slow",), 'on_disconnect = "drain"'),
    9: (("limiting",), ""),
    10: (("flaky",), ""),
    11: (("silent",), ""),
}

TINY, SINGLE = "oc_test_tiny_0123456789abcdef", "oc_test_single_0123456789abcdef"
CALLERS = f"""
[limits.tiers.tiny]
requests = "1/1h"
[limits.tiers.single]
requests = "1000/1s"
concurrency = 1
[[keys]]
id = "tiny"
hash = "{key_hash(TINY)}"
workspace = "acme"
tier = "tiny"
[[keys]]
id = "single"
hash = "{key_hash(SINGLE)}"
workspace = "acme"
tier = "single"
"""

DAY = 86400.0


def _text(urls: dict[str, str]) -> str:
    upstreams = (
        UPSTREAM.format(name=name, url=url, more=MORE.get(name, "")) for name, url in urls.items()
    )
    agents = (
        AGENT.format(
            id=number,
            targets=", ".join(f'{{ upstream = "{name}", model = "m" }}' for name in targets),
            more=more,
        )
        for number, (targets, more) in AGENTS.items()
    )
    return config(
        urls["well"],
        agent="credits_per_turn = 2",
        store='url = "sqlite:///kept.db"\ntimeout = "1s"',
        more="".join([*upstreams, *agents, CALLERS]),
    )


@contextmanager
def _refusing() -> Iterator[str]:
    """The address of a port where nobody listens."""
    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Following]:
    """The gateway, in front of all of them."""
    async with AsyncExitStack() as stack:
        upstreams: dict[str, ScriptedUpstream] = {
            name: await stack.enter_async_context(scripted(*scripts))
            for name, scripts in SCRIPTS.items()
        }
        urls = {name: upstream.url for name, upstream in upstreams.items()}
        urls["sick"] = stack.enter_context(_refusing())
        gateway = await stack.enter_async_context(following(folder / "gateway.toml", _text(urls)))
        # TLS is not on here; it is told as if it were.
        gateway.gateway.metrics.certificate_expires(time.time() + DAY)
        yield gateway


# What clients do.


async def _all_dialects(gateway: Following) -> None:
    for ask in ASK.values():
        for stream in (True, False):
            await gateway.post(*ask("1", "hi", stream))


async def _kept_streams(gateway: Following) -> None:
    await gateway.request("POST", f"{kept.AGENT}/chat", {"message": "hi"}, X_Resumable="true")


async def _feedback(gateway: Following) -> None:
    data = await kept.said(gateway, "hi")
    conversation = kept.conversation_of(data)
    for thumb in ("positive", "negative"):
        await kept.rate(gateway, conversation, data["id"], thumb)


async def _faults_of_upstreams(gateway: Following) -> None:
    await asyncio.gather(*(gateway.chat_v2(agent=agent) for agent in (2, 3, 5, 6, 9, 10)))


async def _limits(gateway: Following) -> None:
    for _ in range(8):
        await gateway.post("/api/v2/agents/8/chat", {"message": "hi"}, TINY)


async def _mistakes(gateway: Following) -> None:
    chat = "/api/v2/agents/1/chat"
    widget: Json = {"agentId": 7, "message": "hi"}
    for _ in range(3):
        await gateway.post(chat, {"message": "hi"}, "oc_test_nobodys_key")
    await gateway.post(chat, {"message": "hi"}, None)
    await gateway.post(chat, b"{")
    await gateway.post("/api/v2/nothing", {})
    await gateway.post("/api/v1/chat", widget, None, Origin="https://a.example")
    await gateway.post("/api/v1/chat", widget, None, Origin="https://evil.example")


async def _leaving(gateway: Following) -> None:
    """In the middle of an answer, which goes on for the record or does not; and before it."""
    for agent, word in ((8, b"Well,"), (3, b"HTTP/1.1 200")):
        async with gateway.raw(f"/api/v2/agents/{agent}/chat", {"message": "hi"}) as (reader, _):
            await reader.readuntil(word)
    async with gateway.raw("/api/v2/agents/11/chat", {"message": "hi"}):
        await eventually(lambda: any(each.agent == "11" for each in _asking(gateway)))


def _asking(gateway: Following) -> list[Exchange]:
    """Requests whose upstream has been asked."""
    return [each for each in gateway.gateway.ledger.open if each.asked is not None]


DOINGS: list[Callable[[Following], Awaitable[None]]] = [
    _all_dialects,
    _kept_streams,
    _feedback,
    _faults_of_upstreams,
    _limits,
    _mistakes,
    _leaving,
]


async def _rounds(gateway: Following, count: int) -> None:
    """Each takes a second or more, so that it is in a scrape of its own."""
    for _ in range(count):
        await asyncio.gather(asyncio.sleep(1), *(doing(gateway) for doing in DOINGS))


async def _crowds(gateway: Following, over: asyncio.Event) -> None:
    """More turns at once than a target, and a key, may have: streams are open and turns wait."""
    slow = "/api/v2/agents/8/chat"
    while not over.is_set():
        await asyncio.gather(
            asyncio.sleep(1),  # also where they are refused at once
            *(gateway.chat_v2(agent=4) for _ in range(4)),
            *(gateway.post(slow, {"message": "hi"}, SINGLE) for _ in range(3)),
        )


async def _store_down(gateway: Following) -> None:
    """Another program keeps the database from being written, for a few seconds."""
    connection = sqlite3.connect(gateway.path.with_name("kept.db"), isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(8):
            await gateway.chat_v2()
            async with gateway.session.get(gateway.gateway.admin.url + "/readyz"):
                await asyncio.sleep(0.2)
    finally:
        connection.close()
    async with asyncio.timeout(60):
        while (await gateway.chat_v2(stream=False)).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _reloads(gateway: Following) -> None:
    """The last one is refused, and stays so."""
    text = gateway.path.read_text()
    for changed in (text + "# another line\n", text + "[nonsense]\n"):
        gateway.path.write_text(changed)
        await gateway.reload()
        await asyncio.sleep(1.2)


async def mixed(gateway: Following, crew: Crewed) -> tuple[float, float]:
    """All of it, and a worker of another gateway that ends; when it began and when it ended, in
    Unix seconds."""
    began, over = time.time(), asyncio.Event()
    async with asyncio.TaskGroup() as load:
        load.create_task(_crowds(gateway, over))
        await _rounds(gateway, 3)
        await crew.loses_one()
        await _store_down(gateway)
        await _rounds(gateway, 3)
        await _reloads(gateway)
        await _rounds(gateway, 3)
        over.set()
    return began, time.time()
