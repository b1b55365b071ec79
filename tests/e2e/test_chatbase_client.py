"""Clients of Chatbase, through real sockets: in front of any upstream, and of Chatbase itself."""

import asyncio
from dataclasses import dataclass

import pytest

from gateway.auth.mint import key_hash
from gateway.core.events import Json
from gateway.wire import json
from tests.chatbase_clients import CLIENTS, Heard, Unreadable, by_the_page, command_line
from tests.e2e.conftest import Start
from tests.e2e.running import Answered, Running, config
from tests.e2e.scripted import (
    END,
    PATIENCE,
    Close,
    ScriptedUpstream,
    Step,
    Wait,
    chunk,
    delta,
    document,
    event,
    openai_text,
    said,
    sse,
)
from tests.e2e.talking import TOOLS, call, called, calling, found, histories, user

ROOT = "/chatbase/api/v2/agents/1"
SEED = '[server.chatbase]\nvariant = "seed"'
EXPIRED = "oc_test_expired_0123456789abcdefghijklmnop"


@dataclass(slots=True)
class Client:
    """A client in one conversation."""

    gateway: Running
    conversation: str = ""

    async def say(self, message: str | None, **more: Json) -> Heard:
        """A message, streamed; None goes on from the tools' results."""
        body: dict[str, Json] = {} if message is None else {"message": message}
        if self.conversation:
            body["conversationId"] = self.conversation
        return self._heard(await self.gateway.post(f"{ROOT}/chat", {**body, **more}))

    async def about(self, method: str, tail: str = "", body: Json = None) -> Answered:
        """A request about the conversation."""
        path = f"{ROOT}/conversations/{self.conversation}{tail}"
        return await self.gateway.request(method, path, body)

    async def hand_in(self, call_id: str, output: Json) -> Answered:
        return await self.about("POST", "/tool-result", {"toolCallId": call_id, "output": output})

    async def retry(self, message: Json) -> Heard:
        return self._heard(await self.about("POST", "/retry", {"messageId": message}))

    async def rate(self, message: Json, feedback: Json) -> Answered:
        return await self.about("PATCH", f"/messages/{message}/feedback", {"feedback": feedback})

    async def read(self, tail: str = "") -> dict[str, Json]:
        answer = await self.about("GET", tail)
        assert answer.status == 200, answer.body
        return answer.json

    def _heard(self, answer: Answered) -> Heard:
        assert answer.status == 200, answer.body
        heard = command_line(answer.body)
        for client in CLIENTS.values():
            assert client(answer.body) == heard
        self.conversation = json.text(heard.metadata["conversationId"])
        return heard


async def echoing(start: Start, **more: str) -> Running:
    return await start(config("", kind="echo", target="", **more))


def refusal(answer: Answered) -> tuple[int, Json]:
    """The status and code of an error, in Chatbase's envelope."""
    assert set(answer.json) == {"error"}
    assert set(answer.error) <= {"code", "message", "details"}
    return answer.status, answer.error["code"]


# Conversations.


async def test_a_conversation(start: Start) -> None:
    """It goes on by the id that the first answer ended with; whose it is stays as it was."""
    client = Client(await echoing(start))
    first = await client.say("one", userId="u1")
    second = await client.say("two", userId="u2")

    assert (first.text, first.reason) == ("one", "stop")
    assert (second.text, second.reason) == ("two", "stop")
    assert second.metadata["conversationId"] == first.metadata["conversationId"]
    assert [first.metadata["userId"], second.metadata["userId"]] == ["u1", "u1"]
    assert len({first.metadata["messageId"], second.metadata["messageId"]}) == 2


async def test_limits_and_ids_in_the_head(start: Start) -> None:
    """On streams, whole answers and errors alike."""
    gateway = await echoing(start)
    wanted = {f"x-ratelimit-{name}" for name in ("limit", "remaining", "reset")}
    bodies: list[Json] = [{"message": "hi"}, {"message": "hi", "stream": False}, {}]
    for body in bodies:
        answer = await gateway.post(f"{ROOT}/chat", body)
        assert answer.headers.keys() >= wanted | {"x-request-id"}


async def test_a_whole_answer(start: Start) -> None:
    """Without a stream: a message in an envelope."""
    gateway = await echoing(start)
    answer = await gateway.post(f"{ROOT}/chat", {"message": "hi", "stream": False})
    data = json.mapping(answer.json["data"])

    assert json.array(data["parts"])[0] == {"type": "text", "text": "hi"}
    assert set(json.mapping(data["metadata"])) >= {"userMessageId", "conversationId", "userId"}
    assert json.mapping(data["metadata"])["finishReason"] == "stop"


async def test_a_tool_loop(start: Start, upstream: ScriptedUpstream) -> None:
    """A call, its result, and a chat without a message that goes on from there."""
    made = call("call_abc", '{"order":7}')
    upstream.answers(calling(made), openai_text("It has shipped"))
    client = Client(await start(config(upstream.url, agent=TOOLS)))
    asked = await client.say("Where is 7?")
    assert (asked.calls, asked.reason) == ({"call_abc": {"order": 7}}, "tool-calls")

    taken = await client.hand_in("call_abc", {"status": "shipped"})
    assert (taken.status, taken.json) == (200, {"data": {"success": True}})
    answer = await client.say(None)
    assert (answer.text, answer.reason) == ("It has shipped", "stop")
    assert answer.metadata["userMessageId"] == asked.metadata["userMessageId"]
    assert histories(upstream)[1] == [
        user("Where is 7?"),
        called(made),
        found("call_abc", '{"status":"shipped"}'),
    ]


async def test_tools_results_that_are_refused(start: Start, upstream: ScriptedUpstream) -> None:
    """More than 20 KB, and one for a call that nobody made."""
    upstream.answers(calling(call("call_abc")))
    client = Client(await start(config(upstream.url, agent=TOOLS)))
    await client.say("Where?")

    large = await client.hand_in("call_abc", "x" * (20 << 10))
    assert refusal(large) == (400, "VALIDATION_INVALID_BODY")
    unknown = await client.hand_in("call_x", 1)
    assert refusal(unknown) == (404, "RESOURCE_TOOL_CALL_NOT_FOUND")
    early = await client.gateway.post(f"{ROOT}/chat", {"conversationId": client.conversation})
    assert refusal(early) == (400, "VALIDATION_INVALID_BODY")
    assert (await client.hand_in("call_abc", 1)).status == 200


async def test_retry(start: Start, upstream: ScriptedUpstream) -> None:
    """The turn is run again, and its answer takes the place of the other."""
    upstream.answers(openai_text("One"), openai_text("Other"))
    client = Client(await start(config(upstream.url)))
    first = await client.say("hi")
    again = await client.retry(first.metadata["messageId"])

    assert again.text == "Other"
    kept = json.array((await client.read("/messages"))["data"])
    assert [json.mapping(message)["id"] for message in kept] == [
        again.metadata["userMessageId"],
        again.metadata["messageId"],
    ]
    gone = await client.about("POST", "/retry", {"messageId": first.metadata["messageId"]})
    assert refusal(gone) == (404, "CHAT_RETRY_MESSAGE_NOT_FOUND")


async def test_feedback(start: Start) -> None:
    """Only an answer takes it: what a user said is a 422 here."""
    client = Client(await echoing(start))
    ids = (await client.say("hi")).metadata
    rated = await client.rate(ids["messageId"], "positive")

    assert (rated.status, json.mapping(rated.json["data"])["feedback"]) == (200, "positive")
    users = await client.rate(ids["userMessageId"], "positive")
    assert refusal(users) == (422, "RESOURCE_MESSAGE_NOT_ASSISTANT")
    unknown = await client.rate("msg_1", "positive")
    assert refusal(unknown) == (404, "RESOURCE_MESSAGE_NOT_FOUND")


async def test_reads(start: Start) -> None:
    """Lists, one conversation and its messages; every id is a string."""
    client = Client(await echoing(start))
    ids = (await client.say("one", userId="u1")).metadata
    for path in (f"{ROOT}/conversations", f"{ROOT}/users/u1/conversations"):
        listed = (await client.gateway.request("GET", path)).json
        assert [json.mapping(each)["id"] for each in json.array(listed["data"])] == [
            client.conversation
        ]
        assert listed["pagination"] == {"cursor": None, "hasMore": False, "total": 1}
    one = json.mapping((await client.read())["data"])
    messages = json.array((await client.read("/messages"))["data"])

    assert (one["id"], one["userId"], one["status"]) == (client.conversation, "u1", "ongoing")
    assert one["messages"] == messages
    assert [json.mapping(each)["id"] for each in messages] == [
        ids["userMessageId"],
        ids["messageId"],
    ]


async def test_both_families_see_one_conversation(start: Start) -> None:
    """It is the agent's, whatever protocol it was begun in."""
    client = Client(await echoing(start))
    await client.say("one")
    answer = await client.gateway.chat_v2("two", conversationId=int(client.conversation))

    assert (answer.status, answer.text) == (200, "two")
    assert json.mapping((await client.read("/messages"))["pagination"])["total"] == 4


# Errors.


async def test_refused(start: Start) -> None:
    """Each with its own status and code."""
    expired = f'id = "old"\nhash = "{key_hash(EXPIRED)}"\nworkspace = "acme"\ntier = "standard"'
    gateway = await echoing(start, more=f"[[keys]]\n{expired}\nexpires = 2020-01-01T00:00:00Z")
    chat, nobody = f"{ROOT}/chat", "/chatbase/api/v2/agents/5QHA6VB-DIAbBhxwqxfdi/chat"
    hi: Json = {"message": "hi"}
    cases: list[tuple[Answered, int, str]] = [
        (await gateway.post(chat, hi, None), 401, "AUTH_MISSING_API_KEY"),
        (await gateway.post(chat, hi, "sk-1"), 401, "AUTH_INVALID_API_KEY"),
        (await gateway.post(chat, hi, EXPIRED), 401, "AUTH_EXPIRED_API_KEY"),
        (await gateway.post(chat, b"{"), 400, "VALIDATION_INVALID_JSON"),
        (await gateway.post(chat, {}), 400, "VALIDATION_INVALID_BODY"),
        (await gateway.post(nobody, hi), 404, "AGENT_NOT_FOUND"),
        (
            await gateway.post(chat, {"conversationId": "conv-1", "message": "hi"}),
            404,
            "RESOURCE_NOT_FOUND",
        ),
        (await gateway.request("GET", chat), 405, "METHOD_NOT_ALLOWED"),
        (await gateway.request("GET", "/chatbase/api/v2/nothing"), 404, "RESOURCE_NOT_FOUND"),
    ]
    for answer, status, code in cases:
        assert refusal(answer) == (status, code)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (402, (402, "CHAT_CREDITS_EXHAUSTED")),
        (429, (429, "RATE_LIMIT_TOO_MANY_REQUESTS")),
        (401, (502, "UPSTREAM_ERROR")),
        (500, (502, "UPSTREAM_ERROR")),
    ],
)
async def test_errors_of_the_upstream(
    start: Start, upstream: ScriptedUpstream, status: int, expected: tuple[int, str]
) -> None:
    """Before the stream, with a status; its text stays with us."""
    upstream.answers(document({"error": {"message": "gpu-17 says no"}}, status))
    gateway = await start(config(upstream.url))
    answer = await gateway.post(f"{ROOT}/chat", {"message": "hi"})

    assert refusal(answer) == expected
    assert b"gpu-17" not in answer.body


@pytest.mark.parametrize("variant", ["current", "seed"])
@pytest.mark.parametrize("end", [Close, event({"error": {"message": "gpu-17"}})])
async def test_errors_in_mid_stream(
    start: Start, upstream: ScriptedUpstream, variant: str, end: bytes | type[Close]
) -> None:
    """The text so far, an error and `[DONE]`; the turn is not kept."""
    last = [chunk(end), END] if isinstance(end, bytes) else [end]
    reached = asyncio.Event()
    upstream.answers([*said("Your "), Wait(reached), *last])
    server = SEED if variant == "seed" else ""
    gateway = await start(config(upstream.url, server=server))
    async with gateway.raw(f"{ROOT}/chat", {"message": "hi"}) as (reader, _):
        async with asyncio.timeout(PATIENCE):
            got = await reader.readuntil(b'"Your "}\n\n')
            reached.set()
            got += await reader.readuntil(b"\r\n0\r\n\r\n")

    assert b" 200 " in got.split(b"\r\n")[0]
    assert b'"type":"text-end"' in got
    assert b'"type":"error","errorText":"the upstream ' in got
    assert b'"type":"finish"' not in got
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b"gpu-17" not in got
    assert (await gateway.gateway.store.figures()).messages == 0


async def test_a_stream_that_failed_is_none_to_ios(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """It ignores errors, and so must find no finish; the others show our text."""
    upstream.answers([*said("Your "), Close])
    gateway = await start(config(upstream.url))
    answer = await gateway.post(f"{ROOT}/chat", {"message": "hi"})
    assert answer.status == 200

    with pytest.raises(Unreadable):
        CLIENTS["ios"](answer.body)
    for name in ("android", "command line"):
        heard = CLIENTS[name](answer.body)
        assert (heard.text, heard.error) == ("Your ", "the upstream closed the connection early")


# The seed's variant.


async def test_the_seed_s_stream(start: Start) -> None:
    """Every event has the name of its type, and the metadata is an event of its own; retries are
    answered in the same way."""
    gateway = await echoing(start, server=SEED)
    answer = await gateway.post(f"{ROOT}/chat", {"message": "hi", "userId": "u1"})
    heard = by_the_page(answer.body)

    assert heard.text == "hi"
    assert heard.metadata["userId"] == "u1"
    conversation = json.text(heard.metadata["conversationId"])
    again = await gateway.post(
        f"{ROOT}/conversations/{conversation}/retry", {"messageId": heard.metadata["messageId"]}
    )
    assert by_the_page(again.body).text == "hi"


async def test_the_seed_s_whole_answer(start: Start) -> None:
    """Flat, as the page has it; what is wrong is said as in the other variant."""
    gateway = await echoing(start, server=SEED)
    answer = await gateway.post(f"{ROOT}/chat", {"message": "hi", "stream": False})

    assert set(answer.json) >= {"messageId", "userMessageId", "conversationId", "userId"}
    assert json.array(answer.json["parts"])[0] == {"type": "text", "text": "hi"}
    assert refusal(await gateway.post(f"{ROOT}/chat", b"{")) == (400, "VALIDATION_INVALID_JSON")


# Conversations that a Chatbase upstream keeps.

THEIRS: dict[str, Json] = {
    "messageId": "msg-abc",
    "userMessageId": "umsg-abc",
    "conversationId": "conv-5QHA",
    "userId": "user_8821",
}
STREAM = (
    b'data: {"type":"start","messageId":"msg-abc"}\n\n'
    b'data: {"type":"text-start","id":"text-1"}\n\n'
    b'data: {"type":"text-delta","id":"text-1","delta":"Hi"}\n\n'
    b'data: {"type":"text-end","id":"text-1"}\n\n'
    b'data: {"type":"finish","finishReason":"stop","messageMetadata":{"messageId":"msg-abc",'
    b'"userMessageId":"umsg-abc","conversationId":"conv-5QHA","userId":"user_8821",'
    b'"finishReason":"stop","usage":{"credits":2}}}\n\n'
    b"data: [DONE]\n\n"
)
WHOLE: Json = {
    "data": {
        "id": "msg-abc",
        "role": "assistant",
        "parts": [{"type": "text", "text": "Hi"}],
        "metadata": {
            "userMessageId": "umsg-abc",
            "conversationId": "conv-5QHA",
            "userId": "user_8821",
            "usage": {"credits": 2},
            "finishReason": "stop",
        },
    }
}
AGENT = "/api/v2/agents/5QHA6VB-DIAbBhxwqxfdi"


def streaming() -> list[Step]:
    return sse(STREAM, done=False)


async def passing(start: Start, upstream: ScriptedUpstream, server: str = "") -> Client:
    text = config(
        upstream.url,
        kind="chatbase",
        target='agent = "5QHA6VB-DIAbBhxwqxfdi"',
        agent='conversations = "passthrough"',
        server=server,
    )
    return Client(await start(text), "conv-5QHA")


async def test_documented_frames_are_the_same_bytes(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A client sees what it would have seen of Chatbase itself, its ids included."""
    upstream.answers(streaming())
    client = await passing(start, upstream)
    answer = await client.gateway.post(f"{ROOT}/chat", {"message": "hi", "userId": "user_8821"})

    assert answer.body == STREAM
    (asked,) = upstream.requests
    assert asked.path == f"{AGENT}/chat"
    assert asked.json == {"message": "hi", "stream": True, "userId": "user_8821"}
    assert (await client.gateway.gateway.store.figures()).conversations == 0


async def test_a_whole_answer_of_theirs(start: Start, upstream: ScriptedUpstream) -> None:
    """The same as JSON."""
    upstream.answers(document(WHOLE))
    client = await passing(start, upstream)
    body: Json = {"message": "hi", "stream": False}

    assert (await client.gateway.post(f"{ROOT}/chat", body)).json == WHOLE


async def test_their_conversation_goes_on(start: Start, upstream: ScriptedUpstream) -> None:
    """By ids that are no numbers: a message, a tool's result, and an answer anew."""
    upstream.answers(streaming(), streaming(), document({"data": {"success": True}}), streaming())
    client = await passing(start, upstream)
    assert (await client.say("more")).metadata == {
        **THEIRS,
        "finishReason": "stop",
        "usage": {"credits": 2},
    }
    assert (await client.say(None)).text == "Hi"
    taken = await client.hand_in("call_abc", {"a": 1})
    assert (taken.status, taken.json) == (200, {"data": {"success": True}})
    assert (await client.retry("msg-abc")).text == "Hi"

    about = f"{AGENT}/conversations/conv-5QHA"
    assert [(asked.path, asked.json) for asked in upstream.requests] == [
        (f"{AGENT}/chat", {"stream": True, "message": "more", "conversationId": "conv-5QHA"}),
        (f"{AGENT}/chat", {"stream": True, "conversationId": "conv-5QHA"}),
        (f"{about}/tool-result", {"toolCallId": "call_abc", "output": {"a": 1}}),
        (f"{about}/retry", {"stream": True, "messageId": "msg-abc"}),
    ]


async def test_their_reads_are_handed_on(start: Start, upstream: ScriptedUpstream) -> None:
    """Path, query and answer as they are, below this gateway's prefix or not."""
    upstream.answers(document({"data": [{"id": "conv-5QHA"}]}))
    client = await passing(start, upstream)

    assert await client.read("/messages?limit=5") == {"data": [{"id": "conv-5QHA"}]}
    assert (await client.rate("msg-abc", None)).status == 200
    about = f"{AGENT}/conversations/conv-5QHA/messages"
    assert [(asked.method, asked.path) for asked in upstream.requests] == [
        ("GET", f"{about}?limit=5"),
        ("PATCH", f"{about}/msg-abc/feedback"),
    ]


async def test_their_conversations_are_not_bookbag_s(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A client of another family knows other ids: for it the agent does not exist."""
    client = await passing(start, upstream)

    assert refusal(await client.gateway.chat_v2("hi")) == (404, "RESOURCE_NOT_FOUND")
    assert not upstream.requests


async def test_their_stream_in_the_seed_s_variant(start: Start, upstream: ScriptedUpstream) -> None:
    """Whichever form the upstream speaks, clients get the one that is configured."""
    upstream.answers(streaming())
    client = await passing(start, upstream, SEED)
    answer = await client.gateway.post(f"{ROOT}/chat", {"message": "hi"})

    heard = by_the_page(answer.body)
    assert (heard.text, heard.metadata) == ("Hi", {**THEIRS, "usage": {"credits": 2}})


async def test_what_only_chatbase_says(start: Start, upstream: ScriptedUpstream) -> None:
    """Reasoning, sources and data of the AI SDK come through a Chatbase upstream as they were."""
    frames: list[Json] = [
        {"type": "start", "messageId": "msg-abc"},
        {"type": "start-step"},
        {"type": "source-url", "sourceId": "source-1", "url": "https://a.example", "title": "A"},
        {"type": "data-chart", "id": "d1", "data": {"points": [1]}},
        {"type": "reasoning-start", "id": "reasoning-1"},
        {"type": "reasoning-delta", "id": "reasoning-1", "delta": "hm"},
        {"type": "reasoning-end", "id": "reasoning-1"},
        {"type": "finish-step"},
        {
            "type": "finish",
            "finishReason": "stop",
            "messageMetadata": {**THEIRS, "finishReason": "stop"},
        },
    ]
    upstream.answers(sse(*frames))
    client = await passing(start, upstream)
    answer = await client.gateway.post(f"{ROOT}/chat", {"message": "hi"})

    blocks = answer.body.split(b"\n\n")
    assert [json.loads(block.removeprefix(b"data: ")) for block in blocks[:-2]] == frames


async def test_a_text_of_many_deltas(start: Start, upstream: ScriptedUpstream) -> None:
    """Every client reads all of it, however it came."""
    words = [f"{n} – „ja“ 🚀 " for n in range(200)]
    upstream.answers(sse(*(delta(word) for word in words), {"choices": []}))
    client = Client(await start(config(upstream.url)))

    assert (await client.say("hi")).text == "".join(words)
