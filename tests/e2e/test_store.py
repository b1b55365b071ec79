"""Conversations that outlive a gateway, and a gateway that outlives its store."""

import asyncio
import os
import resource
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.conversations.access import milliseconds
from gateway.conversations.store import Change, Span
from gateway.core.conversation import Conversation, Owner, Place, Role
from gateway.core.events import Json
from gateway.http.server import CannotListen
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, Answered, Running, config, eventually
from tests.e2e.scripted import (
    END,
    PATIENCE,
    Close,
    Hang,
    ScriptedUpstream,
    Wait,
    chunk,
    event,
    finish,
    openai_text,
    said,
)
from tests.e2e.talking import message_of
from tests.e2e.test_conversations import conversation_of
from tests.postgres import PASSWORD, Postgres
from tests.serving import served

HERE = Place(Owner("acme"), 1)
UNAVAILABLE = "conversations cannot be read or written just now, try again"


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    """The `[store]` table of a config, of a store that is empty."""
    url = "sqlite:///kept.db"
    if request.param == "postgres":
        url = request.getfixturevalue("database")
    return f'url = "{url}"'


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def assistant(text: str) -> Json:
    return {"role": "assistant", "content": text}


def spoken(upstream: ScriptedUpstream) -> Json:
    """What the upstream was sent last."""
    return upstream.requests[-1].json["messages"]


async def kept(gateway: Running, conversation: int) -> list[tuple[str, str, bool]]:
    """Its messages: whose, what, and whether they are whole."""
    found = await gateway.gateway.store.load(HERE, conversation, Span(limit=100))
    assert found is not None
    return [
        (each.role, each.text, each.role is Role.USER or each.finish is not None)
        for each in found[1]
    ]


async def ready(gateway: Running) -> tuple[int, str]:
    async with gateway.session.get(gateway.gateway.admin.url + "/readyz") as response:
        return response.status, await response.text()


async def healthy(gateway: Running) -> bool:
    async with gateway.session.get(gateway.gateway.admin.url + "/healthz") as response:
        return response.status == 200


# It outlives a gateway.


async def test_a_restart(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """A conversation goes on where it was, by the next gateway."""
    upstream.answers(openai_text("One"), openai_text("Two"))
    gateway = await start(config(upstream.url, store=store))
    conversation = conversation_of(await gateway.chat_v2("first"))
    await gateway.gateway.stop()

    gateway = await start(config(upstream.url, store=store))
    answer = await gateway.chat_v2("second", conversationId=conversation)
    assert answer.text == "Two"
    assert spoken(upstream) == [user("first"), assistant("One"), user("second")]


async def test_two_gateways(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """What one has answered, the other knows, turn by turn."""
    upstream.answers(openai_text("One"), openai_text("Two"), openai_text("Three"))
    one, two = [await start(config(upstream.url, store=store)) for _ in range(2)]
    conversation = conversation_of(await one.chat_v2("first"))
    await two.chat_v2("second", conversationId=conversation)
    await one.chat_v2("third", conversationId=conversation)
    assert spoken(upstream) == [
        user("first"),
        assistant("One"),
        user("second"),
        assistant("Two"),
        user("third"),
    ]


async def test_what_finishes_in_the_window_is_kept(
    start: Start, upstream: ScriptedUpstream, store: str
) -> None:
    """A turn that ends while the gateway stops is committed before the store is closed."""
    go_on = asyncio.Event()
    done = chunk(b"data: [DONE]\n\n")
    upstream.answers([*said("One"), Wait(go_on), chunk(event(finish())), done, END])
    gateway = await start(config(upstream.url, store=store))
    turn = asyncio.ensure_future(gateway.chat_v2("first"))
    await upstream.until_requests(1)
    stopping = asyncio.ensure_future(gateway.gateway.stop())
    await asyncio.sleep(0)
    go_on.set()
    conversation = conversation_of(await turn)
    await stopping

    gateway = await start(config(upstream.url, store=store))
    assert await kept(gateway, conversation) == [
        ("user", "first", True),
        ("assistant", "One", True),
    ]


async def test_what_is_cut_by_a_stop_is_kept_in_part(
    start: Start, upstream: ScriptedUpstream, store: str
) -> None:
    """Where that is wanted, also a turn that is ended at the end of the window."""
    upstream.answers(openai_text("One"), [*said("Tw"), Hang])
    text = config(
        upstream.url, store=f"{store}\nkeep_partial = true", server='drain_timeout = "50ms"'
    )
    gateway = await start(text)
    conversation = conversation_of(await gateway.chat_v2("first"))
    turn = asyncio.ensure_future(gateway.chat_v2("second", conversationId=conversation))
    await gateway.until_answering(1)
    await gateway.gateway.stop()
    assert (await turn).frames[-1] == ("message", "[DONE]")

    gateway = await start(text)
    assert (await kept(gateway, conversation))[2:] == [
        ("user", "second", True),
        ("assistant", "Tw", False),
    ]


# What is kept of a turn that breaks off.


BREAKS = pytest.mark.parametrize("left", [False, True], ids=["upstream fails", "client leaves"])


async def broken_off(
    gateway: Running, upstream: ScriptedUpstream, conversation: int, left: bool
) -> None:
    """A second turn, that ends after its first word."""
    upstream.answers([*said("Tw"), Hang if left else Close], openai_text("Three"))
    body: Json = {"message": "second", "conversationId": conversation}
    async with gateway.raw("/api/v2/agents/1/chat", body) as (reader, _):
        await reader.readuntil(b"Tw")
        if not left:
            assert b'"type":"error"' in await reader.readuntil(b"[DONE]")
    await gateway.settled()


@BREAKS
async def test_what_broke_off_is_kept(
    start: Start, upstream: ScriptedUpstream, store: str, left: bool
) -> None:
    """With `keep_partial`, marked as incomplete; the next turn goes on from it."""
    upstream.answers(openai_text("One"))
    gateway = await start(config(upstream.url, store=f"{store}\nkeep_partial = true"))
    conversation = conversation_of(await gateway.chat_v2("first"))
    await broken_off(gateway, upstream, conversation, left)
    assert (await kept(gateway, conversation))[2:] == [
        ("user", "second", True),
        ("assistant", "Tw", False),
    ]
    answer = await gateway.chat_v2("third", conversationId=conversation)
    assert answer.text == "Three"
    assert spoken(upstream) == [
        user("first"),
        assistant("One"),
        user("second"),
        assistant("Tw"),
        user("third"),
    ]


async def test_what_broke_off_is_kept_before_the_end_is_told(
    start: Start, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """However long the disk takes: a client that has seen the error can go on from what is kept."""
    upstream.answers(openai_text("One"), [*said("Tw"), Close], openai_text("Three"))
    text = config(upstream.url, store='url = "sqlite:///kept.db"\nkeep_partial = true')
    gateway = await start(text)
    conversation = conversation_of(await gateway.chat_v2("first"))
    async with locked(tmp_path / "kept.db"):
        turn = asyncio.ensure_future(gateway.chat_v2("second", conversationId=conversation))
        await asyncio.wait([turn], timeout=0.3)
        assert not turn.done()
    assert (await turn).frames[-1] == ("message", "[DONE]")
    assert (await kept(gateway, conversation))[-1] == ("assistant", "Tw", False)
    assert (await gateway.chat_v2("third", conversationId=conversation)).text == "Three"


@BREAKS
async def test_a_retry_that_broke_off_replaces_nothing(
    start: Start, upstream: ScriptedUpstream, store: str, left: bool
) -> None:
    """Also with `keep_partial`: the old answer goes only when the new one is complete."""
    upstream.answers(openai_text("One"), [*said("Tw"), Hang if left else Close])
    gateway = await start(config(upstream.url, store=f"{store}\nkeep_partial = true"))
    answer = await gateway.chat_v2("first")
    conversation = conversation_of(answer)
    before = await kept(gateway, conversation)
    path = f"/api/v2/agents/1/conversations/{conversation}/retry"
    body: Json = {"messageId": message_of(answer)}
    async with gateway.raw(path, body) as (reader, _):
        await reader.readuntil(b"Tw")
        if not left:
            await reader.readuntil(b"[DONE]")
    await gateway.settled()

    assert await kept(gateway, conversation) == before


@BREAKS
async def test_what_broke_off_leaves_no_trace(
    start: Start, upstream: ScriptedUpstream, store: str, left: bool
) -> None:
    """By default: the next turn goes on from the one before."""
    upstream.answers(openai_text("One"))
    gateway = await start(config(upstream.url, store=store))
    conversation = conversation_of(await gateway.chat_v2("first"))
    await broken_off(gateway, upstream, conversation, left)
    assert len(await kept(gateway, conversation)) == 2
    await gateway.chat_v2("third", conversationId=conversation)
    assert spoken(upstream) == [user("first"), assistant("One"), user("third")]


# What is forgotten.


async def test_old_conversations_go(start: Start, store: str) -> None:
    """A gateway that runs forgets what is older than `ttl`, and nothing else."""
    gateway = await start(config("", kind="echo", target="", store=store))
    now = milliseconds()
    for number, updated in ((1, now - 7_200_000), (2, now)):
        conversation = Conversation(
            id=number,
            place=HERE,
            user_id=None,
            title=None,
            created=updated,
            updated=updated,
            version=1,
        )
        change = Change(conversation=conversation, keep=0, messages=())
        await gateway.gateway.store.save(change, ())
    await gateway.gateway.stop()

    gateway = await start(config("", kind="echo", target="", store=f'{store}\nttl = "1h"'))
    await _until(gateway, lambda ids: ids == [2])


async def _until(gateway: Running, check: Callable[[list[int]], bool]) -> None:
    """Wait until what is kept is as it should be."""
    async with asyncio.timeout(PATIENCE):
        while not check([c.id for c in await gateway.gateway.store.everything(None, 10)]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# How it starts, if it does.


async def test_what_cannot_start_leaves_nothing_open(start: Start, store: str) -> None:
    """An address that is taken: the store is let go again, and its threads end."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = _held()
        port = f"port = {taken.getsockname()[1]}"
        text = config("", kind="echo", target="", store=store)
        for listener in (text.replace("port = 0", port, 1), port.join(text.rsplit("port = 0", 1))):
            with pytest.raises(CannotListen):
                await start(listener)
        await eventually(lambda: _held() == before)


def _held() -> list[str]:
    """The threads of this process's databases, and the files and sockets that are open."""
    threads = [thread.name for thread in threading.enumerate() if thread.name == "sqlite"]
    files = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return sorted(threads + [_kind(file) for file in files if not file.startswith("/proc")])


def _kind(file: str) -> str:
    return file.partition(":")[0]


# It outlives its store. What is known to be down is tried again after a second, by one request.

TIMEOUT = 'timeout = "2s"'
AGAIN = 1.0


async def tried(gateway: Running) -> tuple[float, float]:
    """How often the store was asked for something, and for how many seconds in all."""
    name = "oc_gateway_store_duration_seconds"
    count = await gateway.counted(f"{name}_count", "operation")
    seconds = await gateway.counted(f"{name}_sum", "operation")
    return sum(count.values()), sum(seconds.values())


def refused(answer: Answered, dialect: str) -> None:
    """A 503, in the dialect's words."""
    code = {"v1": "unavailable", "v2": "SERVICE_UNAVAILABLE"}[dialect]
    assert (answer.status, answer.error["code"]) == (503, code), answer.body
    assert answer.error["message"] == UNAVAILABLE
    assert answer.headers["retry-after"] == "1"


def broke(answer: Answered) -> None:
    """A stream of v2 that ended with an error, as it should."""
    assert answer.status == 200
    assert answer.frames[-2:] == [
        ("message", {"type": "error", "errorText": UNAVAILABLE}),
        ("message", "[DONE]"),
    ]


@asynccontextmanager
async def locked(file: Path) -> AsyncIterator[None]:
    """Another program that keeps the database from being written."""
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


async def test_a_file_that_cannot_be_written(
    start: Start, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """An answer that cannot be kept ends as an error; then turns are refused before an upstream is
    asked, and served again as soon as the file can be written."""
    upstream.answers(openai_text("One"))
    text = config(upstream.url, store=f'url = "sqlite:///kept.db"\n{TIMEOUT}')
    gateway = await start(text)
    conversation = conversation_of(await gateway.chat_v2("first"))
    async with locked(tmp_path / "kept.db"):
        broke(await gateway.chat_v2("second", conversationId=conversation))
        refused(await gateway.chat_v2("third"), "v2")
        refused(await gateway.chat_v1("third"), "v1")
        assert len(upstream.requests) == 2
        assert await healthy(gateway)
    await recovered(gateway)


async def recovered(gateway: Running) -> None:
    """Wait until turns are served again, by themselves."""
    async with asyncio.timeout(60):
        while (await gateway.chat_v2("again", stream=False)).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await ready(gateway) == (200, "ready\n")


@pytest.mark.skipif(sys.platform != "linux", reason="it limits another process")
async def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """Turns end as errors while it is, and are kept again when there is room. (To the gateway, a
    limit on the size of its files is the same.)"""
    path = tmp_path / "full.toml"
    path.write_text(config("", kind="echo", target="", store='url = "sqlite:///kept.db"'))
    with served(["--config", str(path)]) as process:
        async with aiohttp.ClientSession() as session:

            async def chat() -> tuple[int, bytes]:
                body = json.dumps({"message": "canary " * 10_000, "stream": False})
                headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
                url = f"{process.url}/api/v2/agents/1/chat"
                async with session.post(url, data=body, headers=headers) as answer:
                    return answer.status, await answer.read()

            assert (await chat())[0] == 200
            most = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (100_000, most[1]))
            status, body = await chat()
            assert (status, UNAVAILABLE in body.decode()) == (503, True)
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, most)
            async with asyncio.timeout(60):
                while (await chat())[0] != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        code, _, err = process.stop()
    assert (code, "canary" in err) == (0, False)
    assert '"operation":"save"' in err


@pytest.fixture
def fails_fast(database: str) -> str:
    return f'url = "{database}"\n{TIMEOUT}'


async def out_of_service(gateway: Running, upstream: ScriptedUpstream, conversation: int) -> None:
    """The first request finds out within the timeout, all others are refused without asking it, and
    none asks an upstream; the process is well, and wants no traffic."""
    asked = len(upstream.requests)
    _, before = await tried(gateway)
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        refused(await gateway.chat_v2("second", conversationId=conversation), "v2")
        first, _ = await tried(gateway)
        refused(await gateway.chat_v2("second", conversationId=conversation), "v2")
        refused(await gateway.chat_v2("third", stream=False), "v2")
        refused(await gateway.chat_v1("third"), "v1")
    count, seconds = await tried(gateway)
    # Not even one of them, unless the machine is so slow that it was time to try again.
    assert (count - first) * AGAIN <= time.monotonic() - began - (seconds - before)
    async with asyncio.timeout(PATIENCE):
        assert await ready(gateway) == (503, f"no: {UNAVAILABLE}\n")
    assert await healthy(gateway)
    assert len(upstream.requests) == asked


async def same_again(gateway: Running, upstream: ScriptedUpstream, conversation: int) -> None:
    """It is back by itself, and the conversation goes on from what was answered."""
    await recovered(gateway)
    upstream.answers(openai_text("Two"))
    answer = await gateway.chat_v2("fourth", conversationId=conversation)
    assert answer.status == 200, answer.body
    assert spoken(upstream) == [user("first"), assistant("One"), user("fourth")]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_server_that_is_gone(
    how: str, start: Start, upstream: ScriptedUpstream, postgres: Postgres, fails_fast: str
) -> None:
    """Shut down or dead: out of service while it is away, and the same again when it is back."""
    upstream.answers(openai_text("One"))
    gateway = await start(config(upstream.url, store=fails_fast))
    conversation = conversation_of(await gateway.chat_v2("first"))
    await asyncio.to_thread(getattr(postgres, how))
    await out_of_service(gateway, upstream, conversation)
    postgres.start()
    await same_again(gateway, upstream, conversation)


async def test_a_server_that_hangs(
    start: Start, upstream: ScriptedUpstream, postgres: Postgres, fails_fast: str
) -> None:
    """It takes what it is sent and says nothing: the same."""
    upstream.answers(openai_text("One"))
    gateway = await start(config(upstream.url, store=fails_fast))
    conversation = conversation_of(await gateway.chat_v2("first"))
    with postgres.hung():
        await out_of_service(gateway, upstream, conversation)
    await same_again(gateway, upstream, conversation)


async def test_streams_that_are_open(
    start: Start, upstream: ScriptedUpstream, postgres: Postgres, fails_fast: str
) -> None:
    """A turn that began before the server went away ends with an error, as it cannot be kept."""
    go_on = asyncio.Event()
    done = chunk(b"data: [DONE]\n\n")
    upstream.answers([*said("One"), Wait(go_on), chunk(event(finish())), done, END])
    gateway = await start(config(upstream.url, store=fails_fast))
    streamed, whole = (
        asyncio.ensure_future(gateway.chat_v2("first", stream=stream)) for stream in (True, False)
    )
    await upstream.until_requests(2)
    await eventually(lambda: gateway.in_use == 2)
    with postgres.hung():
        go_on.set()
        broke(await streamed)
        refused(await whole, "v2")
    upstream.answers(openai_text("Two"))
    await recovered(gateway)


async def test_what_operators_see(
    start: Start,
    upstream: ScriptedUpstream,
    postgres: Postgres,
    database: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each failure is counted and logged with its operation; no password and no text is in it."""
    upstream.answers(openai_text("canary answer"))
    url = database.replace("gateway@", "guarded@")
    store = f'url = "{url}"\n{TIMEOUT}\npassword = {{ env = "PASSWORD" }}'
    gateway = await start(config(upstream.url, store=store), PASSWORD=PASSWORD)
    conversation = conversation_of(await gateway.chat_v2("canary question", userId="u-canary"))
    postgres.sql("ALTER TABLE messages ADD CHECK (parts NOT LIKE '%canary%') NOT VALID",
                 database.rpartition("/")[2])  # fmt: skip
    broke(await gateway.chat_v2("canary question", conversationId=conversation))
    upstream.answers(openai_text("One"))
    await recovered(gateway)
    await asyncio.to_thread(postgres.stop)
    refused(await gateway.chat_v2("canary question", conversationId=conversation), "v2")
    counted = await gateway.counted("oc_gateway_store_errors_total", "operation")
    assert counted == {"save": 1, "claim": 1}

    out, err = capfd.readouterr()
    log = gateway.log.getvalue().decode() + out + err + caplog.text
    assert "canary" not in log
    assert PASSWORD not in log
    failures = [line for line in gateway.log_lines() if line["event"] == "store_failed"]
    assert [line["operation"] for line in failures] == ["save", "claim"]
    assert all("StoreError" in json.text(line["exception"]) for line in failures)
