"""However many names callers make up, there are as many series as before."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import count, islice
from random import Random

import pytest

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import Answered, Running, config
from tests.e2e.scripted import ScriptedUpstream, openai_text
from tests.e2e.speaking import ASK
from tests.metrics.test_turns import SECRET, WHO, signed


@pytest.fixture(autouse=True)
def silent() -> None:
    """Nobody listens: what is said here are ids of requests as well, which are in the log."""


# In full, and otherwise.
MANY, SOME = 10_000, 1_000
# So many are open at once.
AT_ONCE = 20

V1, V2 = "/api/v1/chat", "/api/v2/agents/1/chat"

METHODS = ("GET", "PUT", "PATCH", "DELETE", "PROPFIND", "M-SEARCH", "TRACE", "OPTIONS")

TIER = 'requests = "1000000/1s"'

Made = Callable[[Running, str], Coroutine[None, None, Answered]]


def _conversation(word: str) -> Json:
    return {"message": word, "conversationId": word}


def _by_page(gateway: Running, word: str) -> Coroutine[None, None, Answered]:
    body: Json = {"agentId": 2, "message": word, "user_id": word}
    return gateway.post(V1, body, None, Origin=f"https://{word}.example")


def _preflight(gateway: Running, word: str) -> Coroutine[None, None, Answered]:
    headers = {"Origin": f"https://{word}.example", "Access_Control_Request_Method": "POST"}
    return gateway.request("OPTIONS", V1, key=None, **headers)


def _in(dialect: str) -> Made:
    """A chat of this dialect with an agent of that name."""

    def made(gateway: Running, word: str) -> Coroutine[None, None, Answered]:
        path, body = ASK[dialect](word, word, True)
        return gateway.post(path, body)

    return made


# Each makes up something else, and is answered in one way, whatever the word.
MADE_UP: list[Made] = [
    *map(_in, ASK),
    *(lambda gateway, word, m=m: gateway.request(m, f"/x/{word}") for m in METHODS),
    *(lambda gateway, word, m=m: gateway.request(m, f"{V2}/{word}") for m in METHODS),
    lambda gateway, word: gateway.request(f"X{word}".upper(), V2),
    lambda gateway, word: gateway.request("GET", f"/api/v2/agents/1/conversations/{word}"),
    lambda gateway, word: gateway.request("GET", f"/v1/models/{word}"),
    lambda gateway, word: gateway.chat_v1(model=word),
    lambda gateway, word: gateway.chat_v2(word, userId=word),
    lambda gateway, word: gateway.post(V2, {"message": word}, X_Request_Id=word, User_Agent=word),
    lambda gateway, word: gateway.post(V2, _conversation(word)),
    lambda gateway, word: gateway.post(V2, {"message": word}, f"oc_live_{word}"),
    lambda gateway, word: gateway.post(V2, {"message": word}, signed(word)),
    _by_page,
    _preflight,
]


# Some are refused for what they have in them, some for what they are.
ODD = ("", "-", ".", "%20", "%C3%A9", "%00")


def words() -> Iterator[str]:
    """No two the same."""
    chance = Random(7)
    for number in count():
        yield f"w{number:x}{chance.choice(ODD)}z"


async def series(gateway: Running) -> set[str]:
    return set(await gateway.metrics())


async def ask(gateway: Running, asked: Iterator[tuple[Made, str]]) -> None:
    for made, word in asked:
        await made(gateway, word)


async def test_no_caller_makes_a_series(
    start: Start, upstream: ScriptedUpstream, full: bool
) -> None:
    """Thousands of requests with paths, methods, agents, models, users, keys, conversations,
    origins and ids that nobody has heard of."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(config(upstream.url, tier=TIER, more=WHO), SIGNING=SECRET)
    first = [(made, f"first{odd}") for made in MADE_UP for odd in ODD]
    await ask(gateway, iter(first))
    before = await series(gateway)
    many, word = MANY if full else SOME, words()
    asked = islice(((made, next(word)) for _ in count() for made in MADE_UP), many)
    await asyncio.gather(*(ask(gateway, asked) for _ in range(AT_ONCE)))
    await gateway.settled(30)

    counted = await gateway.counted("oc_gateway_requests_total", "dialect")
    assert sum(counted.values()) == many + len(first)
    assert await series(gateway) == before
