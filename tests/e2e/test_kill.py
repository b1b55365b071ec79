"""The gateway killed (SIGKILL) in the middle of turns: what a client was told is there is there."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from gateway.core.events import Json
from gateway.wire import json
from gateway.wire.sse import Parser
from tests.e2e.running import KEY, KEY_HASH
from tests.serving import Served, served

CONFIG = """
[server]
port = 0
[admin]
port = 0
[store]
url = "{url}"
[limits.tiers.standard]
requests = "100000/1s"
[upstreams.echo]
kind = "echo"
[[agents]]
id = 1
workspace = "acme"
name = "Echo"
targets = [ {{ upstream = "echo" }} ]
[[keys]]
id = "kill"
hash = "{hash}"
workspace = "acme"
tier = "standard"
"""

# Turns in progress at the moment of a kill: each is at a point of its own.
CLIENTS = 8
AGENT = "/api/v2/agents/1"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


@dataclass
class Known:
    """What one client knows of its conversation."""

    conversation: str | None = None
    told: list[str] = field(default_factory=list)
    """The messages whose answer it saw end."""
    asked: str | None = None
    """The one it asked last, while it has not seen the end of the answer."""


class Client:
    """Goes on with one conversation for as long as it can."""

    def __init__(self, number: int) -> None:
        self.known = Known()
        self.number = number
        self.turns = 0

    async def talk(self, session: aiohttp.ClientSession, url: str) -> None:
        """Turn after turn, until the gateway is gone."""
        with suppress(aiohttp.ClientError, ConnectionError):
            while await self._turn(session, url):
                pass

    async def _turn(self, session: aiohttp.ClientSession, url: str) -> bool:
        self.turns += 1
        known = self.known
        known.asked = f"turn {self.turns} of client {self.number}"
        body: dict[str, Json] = {"message": known.asked}
        if known.conversation is not None:
            body["conversationId"] = int(known.conversation)
        chat = session.post(f"{url}{AGENT}/chat", data=json.dumps(body), headers=HEADERS)
        async with chat as response:
            if response.status == 409:  # a claim of the gateway that was killed
                self.known = Known()
                return True
            assert response.status == 200, await response.text()
            frames = Parser(max_event=1 << 20).feed(await response.read())
        return self._ended(frames)

    def _ended(self, frames: list[tuple[str, bytes]]) -> bool:
        last = json.mapping(json.loads(frames[-2][1]))
        assert last["type"] == "finish", last
        self.known.conversation = json.text(json.mapping(last["metadata"])["conversationId"])
        assert self.known.asked is not None
        self.known.told.append(self.known.asked)
        self.known.asked = None
        return True


async def stored(session: aiohttp.ClientSession, url: str, conversation: str) -> list[str]:
    """All texts of a conversation, in their order."""
    texts: list[str] = []
    cursor = ""
    while True:
        path = f"{url}{AGENT}/conversations/{conversation}/messages?limit=100{cursor}"
        async with session.get(path, headers=HEADERS) as response:
            assert response.status == 200, await response.text()
            page = json.mapping(json.loads(await response.read()))
        parts = (json.array(json.mapping(m)["parts"]) for m in json.array(page["data"]))
        texts = ["".join(json.text(json.mapping(p).get("text")) for p in m) for m in parts] + texts
        paging = json.mapping(page["pagination"])
        if not paging["hasMore"]:
            return texts
        cursor = f"&cursor={paging['cursor']}"


async def whole(session: aiohttp.ClientSession, url: str, known: Known) -> None:
    """Every turn that was told is there; at most the one in progress is there besides, and each is
    a question with its answer."""
    if known.conversation is None:
        return
    texts = await stored(session, url, known.conversation)
    asked, answers = texts[::2], texts[1::2]

    assert asked == answers, "a turn is there in part, or another one's answer"
    assert asked[: len(known.told)] == known.told
    assert asked[len(known.told) :] in ([], [known.asked])
    known.told, known.asked = asked, None


async def all_whole(session: aiohttp.ClientSession, url: str, clients: list[Client]) -> None:
    await asyncio.gather(*(whole(session, url, client.known) for client in clients))


@asynccontextmanager
async def started(config: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, Served]]:
    """A gateway of its own, and a session to speak to it."""
    with served(["--config", str(config), "--log-level", "error"]) as running:
        async with aiohttp.ClientSession() as session:
            yield session, running


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.timeout(900)
async def test_no_turn_that_was_told_is_lost(
    kind: str, tmp_path: Path, full: bool, request: pytest.FixtureRequest
) -> None:
    """Killed at random points of eight turns at once, and started again: every conversation is
    whole, and every turn whose end a client saw is there."""
    url = "sqlite:///kill.db"
    if kind == "postgres":
        url = request.getfixturevalue("database")
    config = tmp_path / "kill.toml"
    config.write_text(CONFIG.format(url=url, hash=KEY_HASH))

    clients = [Client(number) for number in range(CLIENTS)]
    chance = random.Random(1)
    for _ in range(200 if full else 5):
        async with started(config) as (session, running):
            await all_whole(session, running.url, clients)
            talks = [asyncio.ensure_future(client.talk(session, running.url)) for client in clients]
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            running.process.kill()
            await asyncio.gather(*talks)
            running.process.communicate()
    async with started(config) as (session, running):
        await all_whole(session, running.url, clients)

    assert sum(client.turns for client in clients) > CLIENTS
