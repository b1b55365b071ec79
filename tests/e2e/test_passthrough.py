"""Conversations that the upstream keeps: clients see its own ids, and the gateway keeps nothing."""

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.core.events import Json
from gateway.wire import json
from tests.auth.signers import changed, signer
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, Answered, Running, config, eventually
from tests.e2e.scripted import (
    END,
    Close,
    Hang,
    ScriptedUpstream,
    Step,
    chunk,
    document,
    head,
    openai_text,
    sse,
)

V1, V2 = "/api/v1/chat", "/api/v2/agents/1/chat"
AGENT = 'conversations = "passthrough"'
CONVERSATIONS = "/api/v2/agents/1/conversations"

# As Bookbag's pages show them.
TEXT = b'data: {"type":"text-delta","text":"Your "}\n\n'
TOOL_CALL = (
    b'data: {"type":"tool-call","toolCallId":"call_abc","toolName":"order_status",'
    b'"input":{"order":7}}\n\n'
)
FINISH = (
    b'data: {"type":"finish","finishReason":"stop","metadata":{"userMessageId":"msg_788",'
    b'"conversationId":"456","userId":"user_8821","messageId":"msg_789","usage":{"credits":1}}}\n\n'
)
DONE = b"data: [DONE]\n\n"
IDS: dict[str, Json] = {
    "userMessageId": "msg_788",
    "conversationId": "456",
    "userId": "user_8821",
    "usage": {"credits": 1},
}
WHOLE: Json = {
    "data": {
        "id": "msg_789",
        "role": "assistant",
        "parts": [{"type": "text", "text": "Hi"}],
        "metadata": {**IDS, "finishReason": "stop"},
    }
}
LISTED = b'{ "data": [{"id": "456", "title": "\xc3\x9c"}],\n "pagination": {"cursor": null} }'
V1_STREAM = (
    b'event: token\ndata: {"text":"Hi"}\n\n'
    b'event: done\ndata: {"conversationId":456,"messageId":"msg_789","finishReason":"stop"}\n\n'
)


def stream(*frames: bytes) -> list[Step]:
    return [head(), *map(chunk, frames), END]


def answered(body: bytes, status: int = 200, content_type: str = "application/json") -> list[Step]:
    return [head(status, content_type, Content_Length=str(len(body))) + body]


async def serve(
    start: Start, upstream: ScriptedUpstream, api: str = "v2", more: str = "", **named: str
) -> Running:
    options = {"agent": AGENT, "upstream": f'api = "{api}"\n{named.pop("slow", "")}', **named}
    text = config(
        upstream.url,
        kind="bookbag",
        target="agent = 77",
        more=more,
        tier='requests = "1000/1h"',
        **options,
    )
    return await start(text, **({"PEM": SIGNER.public} if more == SIGNED else {}))


async def stored(gateway: Running) -> tuple[int, int]:
    figures = await gateway.gateway.store.figures()
    return figures.conversations, figures.messages


def finish_of(answer: Answered) -> dict[str, Json]:
    assert answer.status == 200, answer.body
    return json.mapping(json.mapping(answer.frames[-2][1])["metadata"])


# Turns.


async def test_documented_frames_are_the_same_bytes(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A client sees what it would have seen of Bookbag itself, to the byte."""
    upstream.answers(stream(TEXT, TOOL_CALL, FINISH, DONE))
    gateway = await serve(start, upstream)
    answer = await gateway.chat_v2("Where is my order?", userId="user_8821")

    assert answer.body == TEXT + TOOL_CALL + FINISH + DONE
    [asked] = upstream.requests
    assert asked.path == "/api/v2/agents/77/chat"
    assert asked.json == {"message": "Where is my order?", "stream": True, "userId": "user_8821"}
    assert await stored(gateway) == (0, 0)


async def test_ids_of_a_whole_answer(start: Start, upstream: ScriptedUpstream) -> None:
    """The same as JSON."""
    upstream.answers(document(WHOLE))
    gateway = await serve(start, upstream)
    answer = await gateway.chat_v2(stream=False)

    assert answer.json == WHOLE
    assert await stored(gateway) == (0, 0)


async def test_ids_that_the_upstream_does_not_name(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """None is made up in their place, nor taken from the request."""
    nothing: Json = {"data": {"parts": [{"type": "text", "text": "Hi"}], "metadata": {}}}
    finished: Json = {"type": "finish", "finishReason": "stop"}
    upstream.answers(sse(finished), document(nothing), sse(finished))
    gateway = await serve(start, upstream)

    assert finish_of(await gateway.chat_v2(userId="u1")) == {}
    whole = json.mapping((await gateway.chat_v2(userId="u1", stream=False)).json["data"])
    assert whole["id"] is None
    assert whole["metadata"] == {"userId": None, "finishReason": "stop"}
    assert (await gateway.chat_v1()).frames == [("done", {"finishReason": "stop"})]


async def test_a_conversation_goes_on_by_the_upstream_s_id(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """It is named as the client names it, and is whose the upstream says it is."""
    upstream.answers(stream(TEXT, FINISH, DONE))
    gateway = await serve(start, upstream)
    answer = await gateway.chat_v2("more", conversationId=456, userId="someone-else")

    assert finish_of(answer)["userId"] == "user_8821"
    assert upstream.requests[0].json["conversationId"] == 456
    assert upstream.requests[0].json["message"] == "more"


async def test_a_conversation_goes_on_without_a_message(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """After a tool's result there is no message, here or there."""
    upstream.answers(stream(TEXT, FINISH, DONE))
    gateway = await serve(start, upstream)
    answer = await gateway.post(V2, {"conversationId": 456})

    assert answer.body == TEXT + FINISH + DONE
    assert upstream.requests[0].json == {"conversationId": 456, "stream": True}


@pytest.mark.parametrize("whole", [True, False])
async def test_retry(start: Start, upstream: ScriptedUpstream, whole: bool) -> None:
    """The upstream runs the turn again, by its own ids."""
    upstream.answers(document(WHOLE) if whole else stream(TEXT, FINISH, DONE))
    gateway = await serve(start, upstream)
    body: Json = {"messageId": "789", "stream": not whole}
    answer = await gateway.post(f"{CONVERSATIONS}/456/retry", body)

    assert answer.status == 200
    assert answer.json == WHOLE if whole else answer.body == TEXT + FINISH + DONE
    [asked] = upstream.requests
    assert (asked.method, asked.path) == ("POST", "/api/v2/agents/77/conversations/456/retry")
    assert asked.json == body
    assert await stored(gateway) == (0, 0)


async def test_the_dialects_share_a_family(start: Start, upstream: ScriptedUpstream) -> None:
    """v1's clients and v2's see one upstream's ids, each as its protocol writes them."""
    upstream.answers(stream(TEXT, FINISH, DONE))
    gateway = await serve(start, upstream)
    done = json.mapping((await gateway.chat_v1(conversationId=456)).frames[-1][1])

    assert (done["conversationId"], done["messageId"]) == (456, "msg_789")
    assert upstream.requests[0].json["conversationId"] == 456


async def test_an_upstream_of_v1(start: Start, upstream: ScriptedUpstream) -> None:
    """It chats with clients of both versions, with their ids."""
    upstream.answers(stream(V1_STREAM))
    gateway = await serve(start, upstream, "v1")

    assert (await gateway.chat_v1("hi", conversationId=456)).body == V1_STREAM
    assert finish_of(await gateway.chat_v2("hi", conversationId=456)) == {
        "conversationId": "456",
        "messageId": "msg_789",
    }
    assert [asked.json for asked in upstream.requests] == (
        [{"agentId": 77, "message": "hi", "conversationId": 456}] * 2
    )
    assert await stored(gateway) == (0, 0)


async def test_what_an_upstream_of_v1_has_not(start: Start, upstream: ScriptedUpstream) -> None:
    """v1 has chats and nothing else: the rest does not exist, and is not asked for."""
    gateway = await serve(start, upstream, "v1")
    gone = [
        await gateway.request("GET", CONVERSATIONS),
        await gateway.request("GET", f"{CONVERSATIONS}/456"),
        await gateway.post(f"{CONVERSATIONS}/456/retry", {"messageId": "msg_789"}),
        await gateway.post(f"{CONVERSATIONS}/456/tool-result", {"toolCallId": "c"}),
    ]
    assert [(a.status, a.error["code"]) for a in gone] == [(404, "RESOURCE_NOT_FOUND")] * 4
    silent = await gateway.post(V2, {"conversationId": 456})
    assert (silent.status, silent.error["code"]) == (400, "VALIDATION_INVALID_BODY")
    assert not upstream.requests


async def test_an_idempotency_key_is_not_known_again(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Nothing is stored, so the same request runs again: as it would at the upstream."""
    upstream.answers(stream(TEXT, FINISH, DONE))
    gateway = await serve(start, upstream)
    for _ in range(2):
        answer = await gateway.post(V2, {"message": "hi"}, Idempotency_Key="k1")
        assert answer.body == TEXT + FINISH + DONE

    assert len(upstream.requests) == 2
    assert "idempotency-key" not in upstream.requests[0].headers


# Everything else that is asked of conversations.

ASKED: dict[str, tuple[str, str, Json]] = {
    "list": ("GET", "/conversations?limit=2&cursor=a%2Bb%3D", None),
    "one": ("GET", "/conversations/456", None),
    "messages": ("GET", "/conversations/456/messages?limit=100", None),
    "of-a-user": ("GET", "/users/user_8821/conversations", None),
    "export": ("GET", "/conversations/export", None),
    "tool-result": (
        "POST",
        "/conversations/456/tool-result",
        {"toolCallId": "call_abc", "output": {"status": "shipped"}, "further": [None]},
    ),
    "feedback": ("PATCH", "/conversations/456/messages/msg_789/feedback", {"feedback": None}),
}


@pytest.mark.parametrize("name", ASKED)
async def test_handed_on(start: Start, upstream: ScriptedUpstream, name: str) -> None:
    """The request reaches the same endpoint of the upstream's agent, and its JSON comes back as it
    is, with the gateway's own headers."""
    method, tail, body = ASKED[name]
    upstream.answers(answered(LISTED, content_type="application/json; charset=utf-8"))
    gateway = await serve(start, upstream)
    answer = await gateway.request(method, f"/api/v2/agents/Support{tail}", body)

    assert (answer.status, answer.body) == (200, LISTED)
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-ratelimit-remaining"] == "999"
    [asked] = upstream.requests
    assert (asked.method, asked.path) == (method, f"/api/v2/agents/77{tail}")
    assert asked.body == (json.dumps(body) if body is not None else b"")
    assert asked.headers["x-request-id"] == answer.headers["x-request-id"]
    assert "authorization" not in asked.headers, "a client's key is the gateway's affair"
    assert await stored(gateway) == (0, 0)
    assert gateway.log_lines()[-1]["upstream"] == "main"


async def test_a_status_of_success_is_kept(start: Start, upstream: ScriptedUpstream) -> None:
    """A 201 is one here as well."""
    upstream.answers(answered(LISTED, 201))
    gateway = await serve(start, upstream)
    answer = await gateway.post(f"{CONVERSATIONS}/456/tool-result", {"toolCallId": "c"})

    assert (answer.status, answer.body) == (201, LISTED)


@pytest.mark.parametrize("path", ["users/../conversations", "users/%2e%2e/conversations"])
async def test_no_path_leads_out_of_the_agent(
    start: Start, upstream: ScriptedUpstream, path: str
) -> None:
    """What a server may take for "one up" is not sent to it: the credential is good for more than
    this agent."""
    upstream.answers(answered(LISTED))
    gateway = await serve(start, upstream)
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    line = f"GET /api/v2/agents/1/{path} HTTP/1.1\r\n"
    writer.write(f"{line}Host: t\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
    status = await asyncio.wait_for(reader.readline(), 5)
    writer.close()

    assert b" 404 " in status
    assert not upstream.requests


# Long answers.

LONG = b'{"data":[' + b",".join([b'{"id":"456","title":"' + b"x" * 970 + b'"}'] * 3000) + b"]}"


async def test_a_long_answer(start: Start, upstream: ScriptedUpstream) -> None:
    """It comes as it is, however it is cut on the way."""
    pieces = [LONG[i : i + 70_000] for i in range(0, len(LONG), 70_000)]
    upstream.answers([head(200, "application/json"), *map(chunk, pieces), END])
    gateway = await serve(start, upstream)
    answer = await gateway.request("GET", f"{CONVERSATIONS}/export")

    assert (answer.status, answer.body == LONG) == (200, True)
    assert answer.headers["x-ratelimit-remaining"] == "999"
    await gateway.settled()
    again = await gateway.request("GET", f"{CONVERSATIONS}/export")
    assert again.body == LONG
    assert upstream.accepted == 1, "the connection serves again"


async def test_a_long_answer_that_breaks_off(start: Start, upstream: ScriptedUpstream) -> None:
    """It ends with the connection, and not as if it were whole."""
    upstream.answers([head(200, "application/json"), chunk(LONG[:-1000]), Close])
    gateway = await serve(start, upstream)
    with pytest.raises(aiohttp.ClientPayloadError):
        await gateway.request("GET", f"{CONVERSATIONS}/export")

    await eventually(lambda: len(gateway.log_lines()) == 1)
    assert gateway.log_lines()[0]["outcome"] == "upstream_truncated"
    assert await gateway.upstream_errors() == {"upstream_truncated": 1}


async def test_a_client_that_does_not_read(
    start: Start, upstream: ScriptedUpstream, stalled: Callable[[], str]
) -> None:
    """The upstream has to wait for it, and it is cut in the end."""
    endless = [head(200, "application/json"), chunk(b"[" + b"0," * 500_000)]
    endless += [chunk(b"0," * 500_000)] * 200
    upstream.answers(endless)
    gateway = await serve(start, upstream, server='write_timeout = "300ms"')
    parts = urlsplit(gateway.url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 10)
    line = f"GET {CONVERSATIONS}/export HTTP/1.1\r\n"
    writer.write(f"{line}Host: t\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
    await upstream.until_requests(1)
    await eventually(lambda: bool(gateway.log_lines()))
    writer.close()

    assert gateway.log_lines()[0]["outcome"] == stalled()
    assert upstream.sent < 50_000_000
    await gateway.settled()


async def test_a_client_that_leaves(start: Start, upstream: ScriptedUpstream) -> None:
    """The upstream sees it leave."""
    upstream.answers([head(200, "application/json"), chunk(b"["), Hang])
    gateway = await serve(start, upstream)
    parts = urlsplit(gateway.url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    line = f"GET {CONVERSATIONS} HTTP/1.1\r\n"
    writer.write(f"{line}Host: t\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
    await upstream.until_requests(1)
    writer.close()

    await upstream.until_open(0)
    await gateway.settled()


BROKEN: dict[str, tuple[list[Step], str]] = {
    "no JSON": (answered(b"<html>", content_type="text/html"), "upstream_malformed"),
    "half": (answered(LISTED[:-1]), "upstream_malformed"),
    "nothing": (answered(b""), "upstream_malformed"),
    "long and no JSON": (answered(b"<html>" + b" " * (2 << 20)), "upstream_malformed"),
    "cut": ([head(200, "application/json"), chunk(LISTED), Close], "upstream_truncated"),
    "too large": ([head(200, "application/json"), chunk(b"[" * (5 << 20))], "upstream_oversized"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_an_answer_that_is_none(start: Start, upstream: ScriptedUpstream, name: str) -> None:
    """What is no JSON document is the upstream's failure, in the client's words."""
    script, code = BROKEN[name]
    upstream.answers(script)
    limit = 'max_answer = "1KiB"' if name == "too large" else ""
    gateway = await serve(start, upstream, slow=limit)
    answer = await gateway.request("GET", CONVERSATIONS)

    assert (answer.status, answer.error["code"]) == (502, "UPSTREAM_ERROR")
    assert await gateway.upstream_errors() == {code: 1}
    await gateway.settled()


@pytest.mark.parametrize(
    ("script", "clock", "code"),
    [
        ([Hang], "first_event", "first_event_timeout"),
        ([head(200, "application/json"), chunk(b"["), Hang], "idle", "idle_timeout"),
        ([head(200, "application/json"), chunk(b"["), Hang], "total", "total_timeout"),
    ],
)
async def test_an_upstream_that_is_slow(
    start: Start, upstream: ScriptedUpstream, script: list[Step], clock: str, code: str
) -> None:
    """Each of its clocks holds here as well."""
    upstream.answers(script)
    gateway = await serve(start, upstream, slow=f'timeouts = {{ {clock} = "50ms" }}')
    answer = await gateway.request("GET", CONVERSATIONS)

    assert (answer.status, answer.error["code"]) == (504, "UPSTREAM_TIMEOUT")
    assert await gateway.upstream_errors() == {code: 1}
    await upstream.until_open(0)


async def test_an_upstream_that_is_down(start: Start, upstream: ScriptedUpstream) -> None:
    """A 503, as for a chat."""
    text = config("http://127.0.0.1:1", kind="bookbag", target="agent = 77", agent=AGENT)
    gateway = await start(text)
    answer = await gateway.request("GET", CONVERSATIONS)

    assert (answer.status, answer.error["code"]) == (503, "SERVICE_UNAVAILABLE")


# Errors.

# The upstream's status and code, and what the client of the same protocol gets.
REFUSED: list[tuple[int, str, int, str]] = [
    (404, "RESOURCE_NOT_FOUND", 404, "RESOURCE_NOT_FOUND"),
    (404, "RESOURCE_MESSAGE_NOT_FOUND", 404, "RESOURCE_MESSAGE_NOT_FOUND"),
    (404, "RESOURCE_TOOL_CALL_NOT_FOUND", 404, "RESOURCE_TOOL_CALL_NOT_FOUND"),
    (404, "CHAT_RETRY_MESSAGE_NOT_FOUND", 404, "CHAT_RETRY_MESSAGE_NOT_FOUND"),
    (404, "SOMETHING_NEW", 404, "RESOURCE_NOT_FOUND"),
    (400, "RESOURCE_MESSAGE_NOT_ASSISTANT", 400, "RESOURCE_MESSAGE_NOT_ASSISTANT"),
    (400, "CHAT_RETRY_NO_USER_MESSAGE", 400, "CHAT_RETRY_NO_USER_MESSAGE"),
    (400, "VALIDATION_INVALID_BODY", 400, "VALIDATION_INVALID_BODY"),
    (409, "CHAT_CONVERSATION_BUSY", 409, "CHAT_CONVERSATION_BUSY"),
    (401, "AUTH_INVALID_API_KEY", 502, "UPSTREAM_ERROR"),
    (403, "AUTH_INSUFFICIENT_PERMISSIONS", 502, "UPSTREAM_ERROR"),
    (402, "CHAT_CREDITS_EXHAUSTED", 503, "UPSTREAM_CREDITS_EXHAUSTED"),
    (429, "RATE_LIMIT_TOO_MANY_REQUESTS", 429, "RATE_LIMIT_TOO_MANY_REQUESTS"),
    (500, "INTERNAL_SERVER_ERROR", 502, "UPSTREAM_ERROR"),
    (500, "RESOURCE_NOT_FOUND", 502, "UPSTREAM_ERROR"),
]


@pytest.mark.parametrize(("status", "code", "expected", "word"), REFUSED)
@pytest.mark.parametrize("asked", ["read", "chat", "retry"])
async def test_refusals(
    start: Start,
    upstream: ScriptedUpstream,
    asked: str,
    status: int,
    code: str,
    expected: int,
    word: str,
) -> None:
    """What the upstream says of a conversation keeps its meaning; what it says of the gateway's
    own account is no fault of the client's. Its text stays here, but for a 400's."""
    refused: Json = {"error": {"code": code, "message": "account 17"}}
    upstream.answers(document(refused, status, Retry_After="7"))
    gateway = await serve(start, upstream)
    if asked == "read":
        answer = await gateway.request("GET", f"{CONVERSATIONS}/456")
    elif asked == "chat":
        answer = await gateway.chat_v2(conversationId=456)
    else:
        answer = await gateway.post(f"{CONVERSATIONS}/456/retry", {"messageId": "msg_789"})

    assert (answer.status, answer.error["code"]) == (expected, word)
    assert (b"account 17" in answer.body) == (code == "VALIDATION_INVALID_BODY")
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("page", [b"<html>not found</html>", b'{"detail":"Not Found"}'])
async def test_a_404_of_no_api(start: Start, upstream: ScriptedUpstream, page: bytes) -> None:
    """A wrong address is not a conversation that is gone."""
    upstream.answers(answered(page, 404, "text/html"))
    gateway = await serve(start, upstream)
    answer = await gateway.request("GET", f"{CONVERSATIONS}/456")

    assert (answer.status, answer.error["code"]) == (502, "UPSTREAM_ERROR")


async def test_an_upstream_that_moved(start: Start, upstream: ScriptedUpstream) -> None:
    """It is not followed: the credential is for the address in the config."""
    upstream.answers([head(302, Location="http://127.0.0.1:1/", Content_Length="0")])
    gateway = await serve(start, upstream)
    answer = await gateway.request("GET", CONVERSATIONS)

    assert (answer.status, answer.error["code"]) == (502, "UPSTREAM_ERROR")


async def test_an_unknown_conversation_in_v1(start: Start, upstream: ScriptedUpstream) -> None:
    """v1 has words of its own for the same."""
    refused: Json = {"success": False, "error": {"code": "conversation_not_found", "message": "m"}}
    upstream.answers(document(refused, 404))
    gateway = await serve(start, upstream, "v1")
    answer = await gateway.chat_v1(conversationId=456)

    assert (answer.status, answer.error["code"]) == (404, "conversation_not_found")


async def test_a_kept_conversation_is_no_affair_of_the_upstream_s(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Where the gateway keeps conversations, the client never named what the upstream misses."""
    refused: Json = {"error": {"code": "RESOURCE_NOT_FOUND", "message": "m"}}
    upstream.answers(document(refused, 404))
    gateway = await serve(start, upstream, agent="")
    answer = await gateway.chat_v2()

    assert (answer.status, answer.error["code"]) == (502, "UPSTREAM_ERROR")


# Whose.

SIGNER = signer("EdDSA")
SIGNED = """
[[auth.signing_keys]]
id = "k1"
algorithm = "EdDSA"
public_key = { env = "PEM" }
workspaces = ["acme"]
"""


def token(**claims: Json) -> str:
    claims = {"tier": "standard", "exp": int(time.time()) + 600, **claims}
    return "oc_live_" + SIGNER.sign(changed(claims), {"kid": "k1"})


async def test_a_key_for_one_user_begins_conversations(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """They are that user's; it cannot go on with one, for nobody here knows whose that is."""
    upstream.answers(stream(TEXT, FINISH, DONE))
    gateway = await serve(start, upstream, more=SIGNED)
    key = token(user="u1")
    begun = await gateway.post(V2, {"message": "hi"}, key)
    refused = [
        await gateway.post(V2, {"message": "hi", "userId": "u2"}, key),
        await gateway.post(V2, {"message": "hi", "conversationId": 456}, key),
        await gateway.post(V2, {"conversationId": 456}, key),
        await gateway.post(V1, {"agentId": 1, "message": "hi", "conversationId": 456}, key),
        await gateway.post(f"{CONVERSATIONS}/456/retry", {"messageId": "msg_789"}, key),
    ]

    assert begun.status == 200
    assert [answer.status for answer in refused] == [403] * 5
    assert [asked.json["userId"] for asked in upstream.requests] == ["u1"]


@pytest.mark.parametrize("name", ASKED)
async def test_a_key_for_one_user_names_no_conversation(
    start: Start, upstream: ScriptedUpstream, name: str
) -> None:
    """Not even its own: their ids may be numbers that follow each other."""
    method, tail, body = ASKED[name]
    upstream.answers(answered(LISTED))
    gateway = await serve(start, upstream, more=SIGNED)
    answer = await gateway.request(method, f"/api/v2/agents/1{tail}", body, token(user="u1"))

    assert (answer.status, answer.error["code"]) == (403, "AUTH_INSUFFICIENT_PERMISSIONS")
    assert not upstream.requests
    unbound = await gateway.request(method, f"/api/v2/agents/1{tail}", body, token())
    assert unbound.status == 200


async def test_a_key_for_one_user_lists_that_user_s(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The upstream knows which those are; the query cannot ask it for others."""
    upstream.answers(answered(LISTED))
    gateway = await serve(start, upstream, more=SIGNED)
    path = "/users/user_8821/conversations"
    asked = f"/api/v2/agents/1{path}?limit=5&userId=u2&cursor=a%2Bb&agentId=78"
    answer = await gateway.request("GET", asked, None, token(user="user_8821"))

    assert (answer.status, answer.body) == (200, LISTED)
    assert upstream.requests[0].path == f"/api/v2/agents/77{path}?limit=5&cursor=a%2Bb"


async def test_who_is_let_in(start: Start, upstream: ScriptedUpstream) -> None:
    """A key has to be there, and to be for this agent: as everywhere."""
    gateway = await serve(start, upstream, more=SIGNED)
    foreign = await gateway.request("GET", CONVERSATIONS, None, token(agents=[2]))
    unknown = await gateway.request("GET", "/api/v2/agents/2/conversations")
    keyless = await gateway.request("GET", CONVERSATIONS, None, None)

    assert [a.status for a in (foreign, unknown, keyless)] == [403, 404, 401]
    assert not upstream.requests


async def test_other_agents_of_the_same_gateway_keep_theirs(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Passing one agent's conversations on says nothing about another's."""
    upstream.answers(openai_text("Hi"))
    more = f"""
[upstreams.llm]
kind = "openai"
base_url = "{upstream.url}"
[[agents]]
id = 2
workspace = "acme"
name = "Kept"
targets = [{{ upstream = "llm", model = "m" }}]
"""
    gateway = await serve(start, upstream, more=more)
    assert (await gateway.chat_v2(agent=2)).text == "Hi"

    assert await stored(gateway) == (1, 2)
