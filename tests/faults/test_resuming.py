"""Streams that clients come back to: what was missed, and what comes, to any number of them."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from gateway.core.events import Json
from gateway.proxy.feed import Feed
from gateway.wire import json
from tests.auth.signers import changed, signer
from tests.e2e.conftest import Start
from tests.e2e.kept import identity
from tests.e2e.reading import AGENTSGT, ASKING, CHATS, STREAMS, Readers, reading
from tests.e2e.running import Running, config, eventually
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
    openai_text,
    said,
)

KEEP = 'on_disconnect = "keep"'


@dataclass
class Story:
    """An upstream that says one word after the other, each when it is told to."""

    words: list[str]
    steps: list[asyncio.Event] = field(default_factory=list)

    @property
    def script(self) -> Script:
        self.steps = [asyncio.Event() for _ in self.words]
        script: list[object] = [*said()]
        for step, word in zip(self.steps, self.words, strict=True):
            script += [Wait(step), chunk(event(delta(word)))]
        return [*script, chunk(event(finish()) + b"data: [DONE]\n\n"), END]  # type: ignore[list-item]

    def tell(self, count: int | None = None) -> None:
        """As far as the word of this number, or all."""
        for step in self.steps[:count]:
            step.set()


def frames(body: bytes | bytearray) -> list[bytes]:
    assert body.endswith(b"\n\n")
    return bytes(body).removesuffix(b"\n\n").split(b"\n\n")


def numbers(body: bytes | bytearray) -> list[int]:
    """The numbers of its frames; every frame has one."""
    found = [re.match(rb"id: msg_\d+:(\d+)\n", frame) for frame in frames(body)]
    return [int(match[1]) for match in found if match]


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    async with reading() as clients:
        yield clients


# Who comes back


@pytest.mark.parametrize("dialect", CHATS)
async def test_the_rest_of_a_stream(
    dialect: str, start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """A client leaves in mid-stream, misses some, and goes on after the last that it saw: together
    that is the whole stream."""
    story = Story(["One ", "Two ", "Three"])
    upstream.answers(story.script)
    gateway = await start(config(upstream.url))
    client = await readers.ask(gateway, dialect)
    story.tell(1)
    await client.begin()
    await client.until(b"One ")
    assert client.header("X-Resumable") == "true"
    conversation = client.header("X-Conversation-Id")
    assert (conversation is None) is (dialect == "agentsgt")
    client.leave()
    await gateway.noticed()
    story.tell(2)

    again = await readers.resume(gateway, dialect, conversation, client.last_id)
    assert (again.status, again.header("X-Resumable")) == (200, "true")
    await again.until(b"Two ")
    story.tell()
    whole = client.body + await again.rest()

    count = len(frames(whole))
    assert numbers(whole) == list(range(1, count + 1))
    assert b"[DONE]" in frames(whole)[-1]
    assert b"One " not in again.body
    await gateway.settled()
    assert upstream.accepted == 1
    assert await gateway.outcomes() == {"client_gone": 1}
    lines = {line["operation"]: line for line in gateway.log_lines() if line["event"] == "request"}
    assert lines["resume"]["outcome"] == "complete"
    assert lines["resume"]["status"] == 200


@pytest.mark.parametrize("dialect", CHATS)
async def test_all_of_a_stream(
    dialect: str, start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Without an id it comes from the beginning, to a second client as to the first."""
    story = Story(["One ", "Two"])
    upstream.answers(story.script)
    gateway = await start(config(upstream.url))
    first = await readers.ask(gateway, dialect)
    story.tell(1)
    await first.begin()
    second = await readers.resume(gateway, dialect, first.header("X-Conversation-Id"))
    third = await readers.resume(gateway, dialect, first.header("X-Conversation-Id"))
    await second.until(b"One ")
    assert (await gateway.counted("oc_gateway_active_streams", "agent")) == {"1": 3}
    story.tell()
    bodies = await asyncio.gather(first.rest(), second.rest(), third.rest())

    assert bodies[0] == bodies[1] == bodies[2]
    await gateway.settled()
    assert await gateway.outcomes() == {"complete": 1}


async def test_who_may_come_back(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """With `keep` all may; else who asks, unless the file says no. Only who asks is sent ids: not
    all clients bear them."""
    upstream.answers(openai_text("Hello"))
    keep = await start(config(upstream.url, agent=KEEP))
    plain = await start(config(upstream.url))
    strict = await start(config(upstream.url, server="resume = { on_request = false }"))

    async def had(gateway: Running, asked: str) -> tuple[bool, bool]:
        answer = await gateway.post(*CHATS["v2"], X_Resumable=asked)
        assert b"Hello" in answer.body
        return answer.headers.get("x-resumable") == "true", answer.body.startswith(b"id: ")

    assert [await had(keep, said) for said in ("True", "false")] == [(True, True), (True, False)]
    assert [await had(plain, said) for said in ("true", "no")] == [(True, True), (False, False)]
    assert [await had(strict, said) for said in ("true", "")] == [(False, False)] * 2


async def test_ids_for_who_comes_back(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """One who did not ask reads the stream as ever; the rest has its ids."""
    upstream.answers(openai_text("One ", "Two"))
    gateway = await start(config(upstream.url, agent=KEEP))
    answer = await gateway.post(*CHATS["v2"])
    metadata = identity(answer)
    turn, known = metadata["messageId"], json.text(metadata["conversationId"])
    assert answer.headers["x-conversation-id"] == known
    again = await readers.resume(gateway, "v2", known, f"{turn}:0")
    assert answer.body == re.sub(rb"(?m)^id: .*\n", b"", await again.rest())
    assert numbers(again.body) == [1, 2, 3, 4]


@pytest.mark.parametrize("body", [{"message": "hi", "stream": False}, {"messages": ASKING}])
async def test_what_nobody_can_come_back_to(
    body: Json, start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """A whole answer, and a chat that its client gives no id; the other dialects know no way."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, agent=KEEP))
    path = AGENTSGT if "messages" in json.mapping(body) else CHATS["v2"][0]
    answer = await gateway.post(path, body, X_Resumable="true")
    v1 = await gateway.post("/api/v1/chat", {"agentId": 1, "message": "hi"}, X_Resumable="true")
    for given in (answer, v1):
        assert given.status == 200
        assert "x-resumable" not in given.headers
        assert b"id: " not in given.body
    assert not len(gateway.gateway.streams)


# Before, and after


@pytest.mark.parametrize("dialect", ["v2", "agentsgt"])
async def test_a_client_that_left_before_the_first_word(
    dialect: str, start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Where it knows what the conversation is called, it finds it; the stream begins when there is
    something to read."""
    story = Story(["One"])
    upstream.answers(openai_text("Zero"), story.script)
    gateway = await start(config(upstream.url, agent=KEEP))
    first = await gateway.post(*CHATS[dialect])
    known = None if dialect == "agentsgt" else json.text(identity(first)["conversationId"])
    more: dict[str, Json] = {} if known is None else {"conversationId": known}
    client = await readers.ask(gateway, dialect, **more)
    await upstream.until_requests(2)
    client.leave()
    await eventually(lambda: len(gateway.gateway._pipeline.detached) == 1)

    again = await readers.resume(gateway, dialect, known)
    assert again.status == 200
    story.tell()
    assert b"One" in await again.rest()
    assert numbers(again.body)[0] == 1


async def test_a_failure_before_the_stream(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Who asked gets the error with its status; who reads along, as the end of the stream."""
    fail = asyncio.Event()
    upstream.answers([Wait(fail), *document({}, 401)])
    gateway = await start(config(upstream.url))
    client = await readers.ask(gateway, "agentsgt")
    await upstream.until_requests(1)
    along = await readers.resume(gateway, "agentsgt")
    fail.set()
    await client.begin()

    assert (client.status, client.header("X-Resumable")) == (502, None)
    assert b'"type":"error"' in await along.rest()
    assert along.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("dialect", CHATS)
async def test_when_all_is_over(
    dialect: str, start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """What is over is replayed to who began to read it, and to nobody else."""
    upstream.answers(openai_text("One ", "Two"))
    gateway = await start(config(upstream.url))
    client = await (await readers.ask(gateway, dialect)).begin()
    whole = await client.rest()
    known, last = client.header("X-Conversation-Id"), client.last_id
    turn = client.turn

    rest = await readers.resume(gateway, dialect, known, f"{turn}:1")
    assert rest.status == 200
    assert frames(await rest.rest()) == frames(whole)[1:]
    for seen in (None, last, "msg_1:1", "nonsense", f"{turn}:{len(frames(whole)) + 1}"):
        nothing = await readers.resume(gateway, dialect, known, seen)
        assert nothing.status == 204, seen
        assert nothing.header("X-RateLimit-Limit") == "1000"


async def test_the_id_as_a_parameter(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """For those that cannot set a header."""
    upstream.answers(openai_text("One ", "Two"))
    gateway = await start(config(upstream.url))
    client = await (await readers.ask(gateway, "v2")).begin()
    await client.rest()
    path = STREAMS["v2"].format(client.header("X-Conversation-Id"))
    turn = client.turn.encode()
    first = f"{client.turn}:1"
    answer = await gateway.request("GET", f"{path}?lastEventId={first}")
    assert answer.status == 200
    assert answer.body.startswith(b'id: %b:2\ndata: {"type":"text-delta","text":"Two"}' % turn)


async def test_the_next_turn_takes_its_place(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """An id of the turn before it leads nowhere."""
    upstream.answers(openai_text("One ", "Two"))
    gateway = await start(config(upstream.url, agent=KEEP))
    client = await (await readers.ask(gateway, "v2")).begin()
    await client.rest()
    known = client.header("X-Conversation-Id")
    await (await (await readers.ask(gateway, "v2", conversationId=known)).begin()).rest()
    turn = client.turn
    assert (await readers.resume(gateway, "v2", known, f"{turn}:1")).status == 204


async def test_it_is_kept_for_a_while(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """After its `ttl` there is nothing any more."""
    upstream.answers(openai_text("One ", "Two"))
    gateway = await start(config(upstream.url, server='resume = { ttl = "20ms" }'))
    client = await (await readers.ask(gateway, "v2")).begin()
    await client.rest()
    await eventually(lambda: not len(gateway.gateway.streams))
    turn = client.turn
    again = await readers.resume(gateway, "v2", client.header("X-Conversation-Id"), f"{turn}:1")
    assert again.status == 204


async def test_only_so_many_are_kept(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """One more than that is a stream as any other, and is not said to be more."""
    story = Story(["One"])
    upstream.answers(story.script, openai_text("Two"))
    gateway = await start(config(upstream.url, server="resume = { max_streams = 1 }"))
    client = await readers.ask(gateway, "v2")
    await upstream.until_requests(1)
    second = await (await readers.ask(gateway, "v2")).begin()
    assert second.header("X-Resumable") is None
    assert b"id: " not in await second.rest()
    story.tell()
    await client.begin()
    assert client.header("X-Resumable") == "true"
    assert b"id: " in await client.rest()


async def test_one_too_many_ends_with_its_client(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Nobody could come back to it: then it is as the agent's `on_disconnect` has it."""
    story = Story(["One"])
    upstream.answers(story.script, [*said("Two"), Hang])
    gateway = await start(config(upstream.url, server="resume = { max_streams = 1 }"))
    await readers.ask(gateway, "v2")
    await upstream.until_requests(1)
    second = await (await readers.ask(gateway, "v2")).begin()
    await second.until(b"Two")
    second.leave()
    await upstream.until_open(1)
    assert await gateway.counted("oc_gateway_drained_turns_total", "ending") == {"cut": 1}


# Whose it is

USERS = """
[[keys]]
id = "other"
hash = "sha256:{hash}"
workspace = "other"
tier = "standard"
"""


async def test_other_workspaces_find_nothing(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Neither the agent nor its conversation is there for them; nor one that never was."""
    other = "oc_test_other_0123456789abcdefghijklmnopq"
    more = USERS.format(hash=sha256(other.encode()).hexdigest())
    upstream.answers([*said("One"), Hang])
    gateway = await start(config(upstream.url, more=more))
    client = await (await readers.ask(gateway, "v2")).begin()
    known = client.header("X-Conversation-Id")

    assert (await readers.resume(gateway, "v2", known, key=other)).status == 404
    assert (await readers.resume(gateway, "v2", known, key="oc_test_x")).status == 401
    for name in ("1", "nonsense", "0" * 30):
        refused = await gateway.request("GET", STREAMS["v2"].format(name))
        assert (refused.status, refused.error["code"]) == (404, "RESOURCE_NOT_FOUND")
    assert (await gateway.request("GET", STREAMS["agentsgt"])).status == 204


async def test_one_user_does_not_find_anothers(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Chats that two users call the same are two."""
    upstream.answers([*said("One"), Hang])
    gateway = await start(config(upstream.url))
    path, body = CHATS["agentsgt"]
    headers = {"X_Agent_Identifier": "ann", "X_Resumable": "true"}
    async with gateway.raw(path, body, **headers) as (reader, _):
        await reader.readuntil(b"One")
        assert (await readers.resume(gateway, "agentsgt")).status == 204
        assert (await readers.resume(gateway, "agentsgt", X_Agent_Identifier="bob")).status == 204
        assert (await readers.resume(gateway, "agentsgt", X_Agent_Identifier="no no")).status == 400
        hers = await readers.resume(gateway, "agentsgt", X_Agent_Identifier="ann")
        assert hers.status == 200
        await hers.until(b"One")


SIGNER = signer("EdDSA")
SIGNED = """
[[auth.signing_keys]]
id = "k1"
algorithm = "EdDSA"
public_key = { env = "PEM" }
workspaces = ["acme"]
"""


def token(user: str) -> str:
    claims = changed({"tier": "standard", "exp": int(time.time()) + 600, "user": user})
    return "oc_live_" + SIGNER.sign(claims, {"kid": "k1"})


async def test_keys_for_one_user(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Find that user's streams: others' are not there for them, while they run and after."""
    story = Story(["One ", "Two"])
    upstream.answers(story.script)
    gateway = await start(config(upstream.url, more=SIGNED), PEM=SIGNER.public)
    client = await readers.ask(gateway, "v2", userId="ann")
    story.tell(1)
    await client.begin()
    known = client.header("X-Conversation-Id")
    assert (await readers.resume(gateway, "v2", known, key=token("bob"))).status == 404
    hers = await readers.resume(gateway, "v2", known, key=token("ann"))
    assert hers.status == 200
    story.tell()
    assert await client.rest() == await hers.rest()
    missed = f"{client.turn}:1"
    assert (await readers.resume(gateway, "v2", known, missed, token("bob"))).status == 404
    assert (await readers.resume(gateway, "v2", known, missed, token("ann"))).status == 200


async def test_a_key_for_one_user_and_chats_of_its_own(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """The key says whose they are, and a header may not say otherwise."""
    upstream.answers([*said("One"), Hang])
    gateway = await start(config(upstream.url, more=SIGNED), PEM=SIGNER.public)
    path, body = CHATS["agentsgt"]
    async with gateway.raw(path, body, token("ann"), X_Resumable="true") as (reader, _):
        await reader.readuntil(b"One")
        for user, named, status in (("ann", "ann", 200), ("bob", "bob", 204), ("bob", "ann", 403)):
            key = token(user)
            came = await readers.resume(gateway, "agentsgt", key=key, X_Agent_Identifier=named)
            assert came.status == status
        assert (await readers.resume(gateway, "agentsgt", key=token("ann"))).status == 200
        assert (await readers.resume(gateway, "agentsgt")).status == 204


@pytest.mark.parametrize(("asked", "other"), [("v2", "chatbase"), ("chatbase", "v2")])
async def test_a_stream_is_told_in_one_dialect(
    asked: str, other: str, start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Dialects may share a conversation; who asks in the other one would not understand it."""
    upstream.answers(openai_text("One"), [*said("Two"), Hang])
    gateway = await start(config(upstream.url))
    client = await (await readers.ask(gateway, asked)).begin()
    await client.rest()
    known = client.header("X-Conversation-Id")
    client = await (await readers.ask(gateway, asked, conversationId=known)).begin()
    await client.until(b"Two")
    assert (await readers.resume(gateway, other, known)).status == 204
    assert (await readers.resume(gateway, other, known, client.last_id)).status == 204
    assert (await readers.resume(gateway, asked, known)).status == 200


async def test_a_chat_of_the_name_of_a_conversation(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Its client has chosen it, and does not come between the conversation and its readers."""
    upstream.answers([*said("One"), Hang])
    gateway = await start(config(upstream.url))
    client = await (await readers.ask(gateway, "v2")).begin()
    known = client.header("X-Conversation-Id")
    await client.until(b"One")
    await (await readers.ask(gateway, "agentsgt", id=known)).begin()
    along = await readers.resume(gateway, "v2", known)
    assert along.status == 200
    assert (await along.until(b"One")).turn == client.turn


async def test_conversations_that_pass_through(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """The gateway knows nothing of them, and keeps nothing."""
    upstream.answers([Hang])
    agent = 'conversations = "passthrough"'
    gateway = await start(config(upstream.url, kind="bookbag", target="agent = 7", agent=agent))
    assert (await readers.resume(gateway, "v2", "1", "msg_1:1")).status == 204
    assert not upstream.requests


async def test_an_answer_anew(start: Start, upstream: ScriptedUpstream, readers: Readers) -> None:
    """A retry is a turn as any other."""
    upstream.answers(openai_text("One"), openai_text("Two ", "Three"))
    gateway = await start(config(upstream.url, agent=KEEP))
    metadata = identity(await gateway.chat_v2())
    known = json.text(metadata["conversationId"])
    path = f"/api/v2/agents/1/conversations/{known}/retry"
    answer = await gateway.post(path, {"messageId": metadata["messageId"]})
    again = await readers.resume(gateway, "v2", known, f"{identity(answer)['messageId']}:1")
    assert (await again.rest()).count(b"text-delta") == 1


async def test_it_counts_as_a_request(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """With the others."""
    upstream.answers(openai_text("One"))
    gateway = await start(config(upstream.url, tier='requests = "3/1h"'))
    client = await (await readers.ask(gateway, "v2")).begin()
    await client.rest()
    known = client.header("X-Conversation-Id")
    said = [(await readers.resume(gateway, "v2", known)).status for _ in range(3)]
    assert said == [204, 204, 429]


async def test_the_conversation_is_busy_while_it_runs(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Whether its client is there or not."""
    upstream.answers(openai_text("One"), [*said("Two"), Hang])
    gateway = await start(config(upstream.url, agent=KEEP))
    known = identity(await gateway.chat_v2())["conversationId"]
    client = await (await readers.ask(gateway, "v2", conversationId=known)).begin()
    await client.until(b"Two")
    client.leave()
    await gateway.noticed(left=1)  # that of the other client, kept alive
    refused = await gateway.chat_v2(conversationId=known)
    assert (refused.status, refused.error["code"]) == (409, "CHAT_CONVERSATION_BUSY")


# Who is slow

END_OF_PIECE = b'xxx"}'
PIECE = chunk(event(delta("x" * 30_000)))
LAST = chunk(event(finish()) + b"data: [DONE]\n\n")


class Flood:
    """An upstream that says more than sockets hold, when it is told to, and ends when it is."""

    def __init__(self, count: int) -> None:
        self.begin, self.end = asyncio.Event(), asyncio.Event()
        pieces = [PIECE] * count
        self.script: Script = [*said("One "), Wait(self.begin), *pieces, Wait(self.end), LAST, END]


async def test_a_slow_client_does_not_hold_up_the_others(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """It catches up from the log, to the last byte."""
    flood = Flood(400)
    upstream.answers(flood.script)
    gateway = await start(config(upstream.url, server='resume = { max_log = "64MiB" }'))
    fast = await (await readers.ask(gateway, "v2")).begin()
    slow = await readers.resume(gateway, "v2", fast.header("X-Conversation-Id"))
    await slow.until(b"One ")
    slow.pause()
    flood.begin.set()
    await fast.until_count(END_OF_PIECE, 400)
    assert any(reader.behind for reader in _feed(gateway)._readers)
    slow.pause(paused=False)
    flood.end.set()
    assert await fast.rest() == await slow.rest()


async def test_a_client_that_is_too_slow_is_cut(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """When the log has lost what it needs; the others and the turn go on."""
    flood = Flood(400)
    upstream.answers(flood.script)
    gateway = await start(config(upstream.url, server='resume = { max_log = "100KiB" }'))
    fast = await (await readers.ask(gateway, "v2")).begin()
    slow = await readers.resume(gateway, "v2", fast.header("X-Conversation-Id"))
    await slow.until(b"One ")
    slow.pause()
    flood.begin.set()
    await fast.until_count(END_OF_PIECE, 400)
    slow.pause(paused=False)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
        await slow.rest()
    flood.end.set()
    assert (await fast.rest()).endswith(b"[DONE]\n\n")
    await gateway.settled()
    lines = {line["operation"]: line for line in gateway.log_lines() if line["event"] == "request"}
    assert lines["resume"]["outcome"] == "client_stalled"
    assert lines["chat"]["outcome"] == "complete"


async def test_a_client_that_stalls_is_cut(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """After `write_timeout`; that the log has all that it needs does not help it."""
    flood = Flood(400)
    upstream.answers(flood.script)
    server = 'resume = { max_log = "64MiB" }\nwrite_timeout = "2s"'
    gateway = await start(config(upstream.url, server=server))
    fast = await (await readers.ask(gateway, "v2")).begin()
    slow = await readers.resume(gateway, "v2", fast.header("X-Conversation-Id"))
    slow.pause()
    flood.begin.set()
    await fast.until_count(END_OF_PIECE, 400)
    await eventually(lambda: len(_feed(gateway)._readers) == 1)
    flood.end.set()
    assert (await fast.rest()).endswith(b"[DONE]\n\n")


async def test_all_are_slow(start: Start, upstream: ScriptedUpstream, readers: Readers) -> None:
    """Then the upstream waits, whatever the log holds, and nothing is lost."""
    flood = Flood(1000)
    upstream.answers(flood.script)
    gateway = await start(config(upstream.url, server='resume = { max_log = "100KiB" }'))
    one = await (await readers.ask(gateway, "v2")).begin()
    other = await readers.resume(gateway, "v2", one.header("X-Conversation-Id"))
    for client in (one, other):
        await client.until(b"One ")
        client.pause()
    flood.begin.set()
    feed = _feed(gateway)
    await eventually(lambda: all(reader.behind for reader in feed._readers))
    one.pause(paused=False)
    flood.end.set()
    await one.rest()
    assert one.body.count(END_OF_PIECE) == 1000
    assert upstream.accepted == 1


def _feed(gateway: Running) -> Feed:
    """Of the one turn that is running."""
    [feed] = gateway.gateway.streams._feeds.values()
    return feed


async def test_an_id_that_fell_out_of_the_log(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """204: what was missed is not there any more; nor is the beginning."""
    read_on = asyncio.Event()
    upstream.answers([*said("One "), *[PIECE] * 20, Wait(read_on), LAST, END])
    gateway = await start(config(upstream.url, server='resume = { max_log = "100KiB" }'))
    client = await (await readers.ask(gateway, "v2")).begin()
    await client.until_count(END_OF_PIECE, 20)
    known, turn = client.header("X-Conversation-Id"), client.turn

    assert (await readers.resume(gateway, "v2", known, f"{turn}:1")).status == 204
    assert (await readers.resume(gateway, "v2", known)).status == 204
    last = await readers.resume(gateway, "v2", known, client.last_id)
    assert last.status == 200
    read_on.set()
    assert (await last.rest()).endswith(b"[DONE]\n\n")
    await client.rest()


async def test_without_readers_the_upstream_does_not_wait(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """A turn that is kept goes on at its own pace, in the memory of its log."""
    begun = asyncio.Event()
    upstream.answers([*said("One "), Wait(begun), *[PIECE] * 2000, LAST, END])
    gateway = await start(config(upstream.url, server='resume = { max_log = "100KiB" }'))
    client = await (await readers.ask(gateway, "v2")).begin()
    await client.until(b"One ")
    client.leave()
    await gateway.noticed()
    begun.set()
    await gateway.settled(timeout=60)
    assert await gateway.counted("oc_gateway_drained_turns_total", "ending") == {"complete": 1}
    assert _feed(gateway).log.size <= 100 << 10


# The end of the gateway


async def test_a_stop_tells_all_who_read(
    start: Start, upstream: ScriptedUpstream, readers: Readers
) -> None:
    """Each stream ends in the dialect's words."""
    upstream.answers([*said("One"), Hang])
    gateway = await start(config(upstream.url, server='drain_timeout = "50ms"'))
    first = await (await readers.ask(gateway, "v2")).begin()
    second = await readers.resume(gateway, "v2", first.header("X-Conversation-Id"))
    await asyncio.wait_for(gateway.gateway.stop(), PATIENCE)
    for client in (first, second):
        assert b"the gateway is restarting" in await client.rest()
        assert client.body.endswith(b"data: [DONE]\n\n")
