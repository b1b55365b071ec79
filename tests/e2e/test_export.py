"""The export of an agent's conversations: whole, in pieces, and never half as if it were whole."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.conversations.store import Found, Span
from gateway.core.conversation import Place
from gateway.core.errors import ErrorCode, GatewayError
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.kept import (
    CONVERSATIONS,
    STORES,
    asked,
    conversation_of,
    echo,
    messages,
    pages,
    rate,
    said,
)
from tests.e2e.running import KEY, Running, eventually

EXPORT = f"{CONVERSATIONS}/export"
LONG = "x" * 50_000


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def filled(gateway: Running, count: int, text: str = LONG) -> list[str]:
    """Conversations that make the export long."""
    return [conversation_of(await said(gateway, text)) for _ in range(count)]


async def test_export(start: Start, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the lists say, at once; read page by page, however much it is."""
    gateway = await start(echo(store))
    long = conversation_of(await said(gateway, "t0", userId="u1"))
    for n in range(1, 125):
        await said(gateway, f"t{n}", conversationId=long)
    for n in range(250):
        await said(gateway, f"n{n}")
    (_, answer, *_) = await messages(gateway, long)
    await rate(gateway, long, answer["id"], "negative")
    read, load = [], gateway.gateway.store.load

    async def seen(place: Place, conversation: int, span: Span) -> Found | None:
        read.append(span.limit)
        return await load(place, conversation, span)

    monkeypatch.setattr(gateway.gateway.store, "load", seen)
    exported = await gateway.request("GET", EXPORT)
    monkeypatch.undo()

    assert exported.status == 200
    assert exported.headers["content-type"] == "application/json"
    assert exported.headers["transfer-encoding"] == "chunked"
    assert {"x-request-id", "x-ratelimit-remaining", "server"} <= exported.headers.keys()
    assert exported.json["pagination"] == {"cursor": None, "hasMore": False, "total": 251}
    assert max(read) == 100
    found = [json.mapping(each) for each in json.array(exported.json["data"])]
    listed = [each for page in await pages(gateway, f"{CONVERSATIONS}?limit=100") for each in page]
    (whole,) = [each for each in found if each["id"] == long]
    assert whole["messages"] == await messages(gateway, long)
    assert all(len(json.array(each["messages"])) == 2 for each in found if each is not whole)
    for each in found:
        del each["messages"]
    assert found == listed


@pytest.mark.parametrize("count", [100, 101])
async def test_a_conversation_of_a_page(start: Start, store: str, count: int) -> None:
    """Each of its messages once, where reading stops at the edge of a page and behind it."""
    gateway = await start(echo(store))
    cid = conversation_of(await said(gateway, "t0"))
    for n in range(1, count):
        await said(gateway, f"t{n}", conversationId=cid)
    (exported,) = json.array((await asked(gateway, EXPORT))["data"])
    assert json.mapping(exported)["messages"] == await messages(gateway, cid)


async def test_an_agents_own(start: Start, store: str) -> None:
    """Neither another agent's nor another workspace's."""
    other = """
[[agents]]
id = 2
workspace = "acme"
name = "Other"
targets = [ { upstream = "main" } ]
"""
    gateway = await start(echo(store, more=other))
    own = conversation_of(await said(gateway, "hi"))
    await gateway.chat_v2("hi", agent=2)
    (found,) = json.array((await asked(gateway, EXPORT))["data"])
    assert json.mapping(found)["id"] == own
    assert json.mapping((await asked(gateway, EXPORT))["pagination"])["total"] == 1


async def test_one_that_goes_meanwhile(
    start: Start, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversation that was pruned since it was listed is left out, and not counted."""
    gateway = await start(echo(store))
    first, second, third = await filled(gateway, 3, "hi")
    load = gateway.gateway.store.load

    async def gone(place: Place, conversation: int, span: Span) -> Found | None:
        return None if str(conversation) == second else await load(place, conversation, span)

    monkeypatch.setattr(gateway.gateway.store, "load", gone)
    exported = await asked(gateway, EXPORT)
    assert {json.mapping(each)["id"] for each in json.array(exported["data"])} == {first, third}
    assert json.mapping(exported["pagination"])["total"] == 2


def failing_after(gateway: Running, count: int, fault: Exception) -> object:
    """A `load` that works so many times."""
    load, left = gateway.gateway.store.load, count

    async def failing(place: Place, conversation: int, span: Span) -> Found | None:
        nonlocal left
        left -= 1
        if left < 0:
            raise fault
        return await load(place, conversation, span)

    return failing


FAULTS: dict[str, tuple[Exception, int, str]] = {
    "down": (GatewayError(ErrorCode.UNAVAILABLE, "down"), 503, "unavailable"),
    "bug": (RuntimeError("canary"), 500, "internal"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_store_that_fails_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """While nothing has been sent it is an error like any other."""
    gateway = await start(echo("memory"))
    await filled(gateway, 2, "hi")
    exc, status, outcome = FAULTS[fault]
    monkeypatch.setattr(gateway.gateway.store, "load", failing_after(gateway, 1, exc))
    answer = await gateway.request("GET", EXPORT)
    assert answer.status == status
    assert answer.error.keys() == {"code", "message"}
    assert gateway.log_lines()[-1]["outcome"] == outcome


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_store_that_fails_in_the_middle(
    start: Start, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Then the connection is cut: no client takes what there is for everything."""
    gateway = await start(echo("memory"))
    await filled(gateway, 5)
    exc, _, outcome = FAULTS[fault]
    monkeypatch.setattr(gateway.gateway.store, "load", failing_after(gateway, 4, exc))
    with pytest.raises(aiohttp.ClientError):
        await gateway.request("GET", EXPORT)
    line = gateway.log_lines()[-1]
    assert (line["event"], line["outcome"], line["status"]) == ("request", outcome, 200)
    assert b"canary" not in gateway.log.getvalue()


def head(version: str, path: str) -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()


@asynccontextmanager
async def client(
    gateway: Running, version: str, limit: int = 1 << 10, path: str = EXPORT
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """One that has asked, and takes little more than it reads."""
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=limit)
    writer.write(head(version, path))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_http_1_0(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no chunks, and the body ends with the connection: what is cut off is no JSON."""
    gateway = await start(echo("memory"))
    await filled(gateway, 5)
    async with client(gateway, "1.0") as (reader, _):
        headers, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"chunked" not in headers.lower()
    assert len(json.array(json.mapping(json.loads(body))["data"])) == 5

    fault, _, _ = FAULTS["down"]
    monkeypatch.setattr(gateway.gateway.store, "load", failing_after(gateway, 4, fault))
    async with client(gateway, "1.0") as (reader, _):
        headers, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.0 200 OK")
    with pytest.raises(json.InvalidJson):
        json.loads(body)


async def test_a_client_that_leaves(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its export ends with it."""
    gateway = await start(echo("memory"))
    await filled(gateway, 5)
    reached = asyncio.Event()
    load = gateway.gateway.store.load

    async def stuck(place: Place, conversation: int, span: Span) -> Found | None:
        if reached.is_set():
            await asyncio.Event().wait()
        reached.set()
        return await load(place, conversation, span)

    monkeypatch.setattr(gateway.gateway.store, "load", stuck)
    async with client(gateway, "1.1"):
        await reached.wait()
    await eventually(lambda: gateway.log_lines()[-1].get("outcome") == "client_gone")


async def test_a_client_that_does_not_read(start: Start, stalled: Callable[[], str]) -> None:
    """It is cut after `write_timeout`."""
    gateway = await start(echo("memory", server='write_timeout = "100ms"'))
    await filled(gateway, 400)
    async with client(gateway, "1.1"):
        await eventually(lambda: gateway.log_lines()[-1].get("outcome") == stalled())


async def test_a_client_that_does_not_read_a_page(start: Start, stalled: Callable[[], str]) -> None:
    """It is cut as well, for a page may be as long; who reads gets it with its length."""
    gateway = await start(echo("memory", server='write_timeout = "2s"'))
    conversation = conversation_of(await said(gateway, "x"))
    for _ in range(8):
        await said(gateway, "x" * 900_000, conversationId=conversation)
    path = f"{CONVERSATIONS}/{conversation}/messages"
    read = await gateway.request("GET", path)
    assert len(json.array(read.json["data"])) == 18
    assert read.headers["content-length"] == str(len(read.body))
    assert {"x-request-id", "x-ratelimit-remaining"} <= read.headers.keys()
    async with client(gateway, "1.1", path=path):
        await eventually(lambda: gateway.log_lines()[-1].get("outcome") == stalled())


async def test_a_slow_client(start: Start) -> None:
    """Who goes on reading gets all of it, also where that takes longer than `write_timeout`."""
    gateway = await start(echo("memory", server='write_timeout = "1s"'))
    conversation = conversation_of(await said(gateway, "x"))
    for _ in range(8):
        await said(gateway, "x" * 900_000, conversationId=conversation)
    began = time.monotonic()
    async with client(gateway, "1.0", 64 << 10) as (reader, _):
        body = await reader.readuntil(b"\r\n\r\n")
        while piece := await reader.read(64 << 10):
            body += piece
            await asyncio.sleep(0.007)
    assert time.monotonic() - began > 1
    [whole] = json.array(json.mapping(json.loads(body.partition(b"\r\n\r\n")[2]))["data"])

    assert len(json.array(json.mapping(whole)["messages"])) == 18
    assert gateway.log_lines()[-1]["outcome"] == "complete"


async def test_others_have_their_turn(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in memory never waits, nor does a socket that takes everything: everybody else must
    not wait for them."""
    gateway = await start(echo("memory"))
    await filled(gateway, 5)
    turns, seen, load = 0, [], gateway.gateway.store.load

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def noted(place: Place, conversation: int, span: Span) -> Found | None:
        seen.append(turns)
        return await load(place, conversation, span)

    monkeypatch.setattr(gateway.gateway.store, "load", noted)
    ticking = asyncio.ensure_future(tick())
    await asked(gateway, EXPORT)
    ticking.cancel()
    assert len(set(seen)) == 5
