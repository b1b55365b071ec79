"""Many clients at one conversation: its turns come one after another, or not at all."""

import asyncio
from pathlib import Path

import pytest

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import Running, config

CLIENTS = 50
STORES = ["memory", "sqlite", "postgres"]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """The `[store]` table of a config."""
    urls = {"memory": "memory://", "sqlite": "sqlite:///race.db"}
    url = urls.get(request.param) or request.getfixturevalue("database")
    return f'url = "{url}"'


async def opened(gateway: Running) -> int:
    """A conversation with one turn."""
    answer = await gateway.chat_v2("first", stream=False)
    metadata = json.mapping(json.mapping(answer.json["data"])["metadata"])
    return int(json.text(metadata["conversationId"]))


async def texts(gateway: Running, conversation: int) -> list[str]:
    """All that was said, in its order."""
    path = f"/api/v2/agents/1/conversations/{conversation}/messages?limit=100"
    answer = await gateway.request("GET", path)
    assert not json.mapping(answer.json["pagination"])["hasMore"]
    return [_text(json.mapping(message)) for message in json.array(answer.json["data"])]


def _text(message: dict[str, Json]) -> str:
    parts = map(json.mapping, json.array(message["parts"]))
    return "".join(json.text(part.get("text")) for part in parts)


def one_after_another(said: list[str], answered: list[str]) -> None:
    """Nothing but whole turns, and exactly those that clients were told of."""
    questions, answers = said[::2], said[1::2]
    assert questions == answers
    assert sorted(questions) == sorted(["first", *answered])


async def rushed(gateways: list[Running], conversation: int) -> list[str]:
    """What was answered of `CLIENTS` turns at once; the others are refused."""

    async def turn(number: int) -> str | None:
        gateway = gateways[number % len(gateways)]
        streamed = bool(number % 3)
        said = f"turn {number}"
        answer = await gateway.chat_v2(said, conversationId=conversation, stream=streamed)
        if answer.status == 409:
            assert answer.error["code"] == "CHAT_CONVERSATION_BUSY"
            return None
        assert answer.status == 200, answer.body
        assert b'"error"' not in answer.body
        return said

    outcomes = await asyncio.gather(*map(turn, range(CLIENTS)))
    return [said for said in outcomes if said is not None]


async def test_fifty_clients_in_one_conversation(start: Start, store: str) -> None:
    """One turn is answered at a time, the others are refused with a clear 409; none interleave."""
    gateway = await start(config("", kind="echo", target="", store=store))
    conversation = await opened(gateway)
    answered: list[str] = []
    for _ in range(3):
        answered += [f"{said}" for said in await rushed([gateway], conversation)]
    said = await texts(gateway, conversation)

    assert 3 <= len(answered) < 3 * CLIENTS
    one_after_another(said, answered)


@pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
async def test_two_gateways_on_one_store(start: Start, store: str, tmp_path: Path) -> None:
    """The same, where every other client speaks to another gateway."""
    gateways = [await start(config("", kind="echo", target="", store=store)) for _ in range(2)]
    conversation = await opened(gateways[0])
    answered: list[str] = []
    for _ in range(3):
        answered += await rushed(gateways, conversation)

    for gateway in gateways:
        one_after_another(await texts(gateway, conversation), answered)
