"""Conversations that are kept, from the client's side: retries, tools' results, feedback, lists;
every status and code of Bookbag's pages."""

import asyncio
import re
from dataclasses import dataclass

import pytest

from gateway.auth.mint import key_hash
from gateway.conversations.store import Change
from gateway.core.conversation import Conversation, Owner, Place, Role, StoredMessage
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import FinishReason, Json, TextDelta
from gateway.wire import json
from tests.auth.signers import changed, signer
from tests.e2e.conftest import Start
from tests.e2e.kept import (
    AGENT,
    CONVERSATIONS,
    STORES,
    asked,
    call_of,
    conversation_of,
    echo,
    identity,
    messages,
    pages,
    rate,
    result,
    retry,
    said,
    text,
    texts,
)
from tests.e2e.running import KEY, Answered, Running, config, eventually
from tests.e2e.scripted import (
    END,
    Script,
    ScriptedUpstream,
    Wait,
    chunk,
    delta,
    document,
    event,
    finish,
    head,
    openai_text,
    sse,
)

KEYS = {
    name: f"oc_test_{name}_0123456789abcdefghijklmnop"
    for name in ("scoped", "slow", "globex", "disabled")
}


def _key(name: str, more: str) -> str:
    return f'[[keys]]\nid = "{name}"\nhash = "{key_hash(KEYS[name])}"\n{more}\n'


def _agent(
    number: int, name: str, workspace: str = "acme", more: str = "", target: str = ""
) -> str:
    target = ", ".join(filter(None, ['upstream = "main"', target]))
    return f"""
[[agents]]
id = {number}
workspace = "{workspace}"
name = "{name}"
targets = [ {{ {target} }} ]
{more}
"""


MORE = (
    _agent(2, "Other")
    + _agent(3, "Old", more="archived = true")
    + _agent(4, "Theirs", "globex")
    + _key("scoped", 'workspace = "acme"\ntier = "standard"\nagents = [2]')
    + _key("slow", 'workspace = "acme"\ntier = "slow"')
    + _key("globex", 'workspace = "globex"\ntier = "standard"')
    + _key("disabled", 'workspace = "acme"\ntier = "standard"\ndisabled = true')
    + '[limits.tiers.slow]\nrequests = "1/1h"\n'
)

SIGNER = signer("EdDSA")
SIGNED = """
[[auth.signing_keys]]
id = "k1"
algorithm = "EdDSA"
public_key = { env = "PEM" }
workspaces = ["acme"]
"""


def key_for(user: str) -> str:
    """A signed key of one user's."""
    claims = changed({"user": user, "tier": "standard"})
    return "oc_live_" + SIGNER.sign(claims, {"kid": "k1"})


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def serve(start: Start, store: str) -> Running:
    return await start(echo(store, more=MORE, server='max_body = "64KiB"'))


async def scripted(start: Start, upstream: ScriptedUpstream, store: str, **more: str) -> Running:
    return await start(config(upstream.url, store=STORES[store], **more))


# What is refused.


@dataclass(frozen=True, slots=True)
class Kept:
    """Ids to ask with, of one conversation whose last message waits for a tool's result."""

    cid: str
    user: str
    answer: str
    call: str
    orphan: str
    """A conversation that its assistant began."""
    greeting: str
    other: str
    """Another agent's."""


async def kept(gateway: Running) -> Kept:
    first = await said(gateway, "hi")
    cid = conversation_of(first)
    calling = await said(gateway, '/tool status {"order":7}', conversationId=cid)
    other = await gateway.chat_v2("hi", agent=2)
    begun = await greeted(gateway)
    return Kept(
        cid=cid,
        user=json.text(json.mapping(first["metadata"])["userMessageId"]),
        answer=json.text(first["id"]),
        call=call_of(calling),
        orphan=str(begun),
        greeting="msg_11",
        other=json.text(identity(other)["conversationId"]),
    )


async def greeted(gateway: Running) -> int:
    """No client can begin a conversation so; an import might."""
    found = Conversation(
        id=4321,
        place=Place(Owner("acme"), 1),
        user_id=None,
        title=None,
        created=1,
        updated=1,
        length=1,
        version=1,
    )
    greeting = StoredMessage(
        id=11,
        position=0,
        role=Role.ASSISTANT,
        parts=(TextDelta("Welcome!"),),
        created=1,
        finish=FinishReason.STOP,
        model="gone",
        upstream="gone",
    )
    await gateway.gateway.store.save(Change(conversation=found, keep=0, messages=(greeting,)), ())
    return found.id


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is refused; the path begins behind the agent's, with ids by their names."""

    status: int
    code: str
    method: str
    path: str
    body: Json | bytes = None


BODY = "VALIDATION_INVALID_BODY"
RETRY = "POST", "/conversations/{cid}/retry"
RESULT = "POST", "/conversations/{cid}/tool-result"
RATE = "PATCH", "/conversations/{cid}/messages/{answer}/feedback"
GOOD: Json = {"feedback": "positive"}


def _conversations(word: str) -> dict[str, Refused]:
    """Every request about a conversation, for one that is not there."""
    there = f"/conversations/{word}"
    return {
        f"{word}: retry": Refused(
            404, "RESOURCE_NOT_FOUND", "POST", f"{there}/retry", {"messageId": "msg_1"}
        ),
        f"{word}: result": Refused(
            404, "RESOURCE_NOT_FOUND", "POST", f"{there}/tool-result", {"toolCallId": "call_1"}
        ),
        f"{word}: feedback": Refused(
            404, "RESOURCE_NOT_FOUND", "PATCH", f"{there}/messages/msg_1/feedback", GOOD
        ),
        f"{word}: read": Refused(404, "RESOURCE_NOT_FOUND", "GET", there),
        f"{word}: messages": Refused(404, "RESOURCE_NOT_FOUND", "GET", f"{there}/messages"),
    }


def _rated(message: str, status: int, code: str) -> Refused:
    """Feedback on a message of the conversation that is there."""
    path = f"/conversations/{{cid}}/messages/{message}/feedback"
    return Refused(status, code, "PATCH", path, GOOD)


REFUSED: dict[str, Refused] = {
    **_conversations("12345"),
    **_conversations("{other}"),
    **_conversations("abc"),
    **_conversations("0"),
    **_conversations("9007199254740993"),
    **_conversations("%D9%A1%00"),
    "retry without a message": Refused(400, BODY, *RETRY, {}),
    "retry of a number": Refused(400, BODY, *RETRY, {"messageId": 789}),
    "retry: stream of a wrong type": Refused(
        400, BODY, *RETRY, {"messageId": "msg_1", "stream": "no"}
    ),
    "retry of no JSON": Refused(400, BODY, *RETRY, b"{"),
    "retry of no object": Refused(400, BODY, *RETRY, []),
    "retry of nothing": Refused(404, "CHAT_RETRY_MESSAGE_NOT_FOUND", *RETRY, {"messageId": "x"}),
    "retry of an unknown message": Refused(
        404, "CHAT_RETRY_MESSAGE_NOT_FOUND", *RETRY, {"messageId": "msg_1"}
    ),
    "retry of a user's": Refused(
        404, "CHAT_RETRY_MESSAGE_NOT_FOUND", *RETRY, {"messageId": "{user}"}
    ),
    "retry of another conversation's": Refused(
        404, "CHAT_RETRY_MESSAGE_NOT_FOUND", *RETRY, {"messageId": "{greeting}"}
    ),
    "retry of a greeting": Refused(
        400,
        "CHAT_RETRY_NO_USER_MESSAGE",
        "POST",
        "/conversations/{orphan}/retry",
        {"messageId": "{greeting}"},
    ),
    "result without its call": Refused(400, BODY, *RESULT, {"output": 1}),
    "result of a number": Refused(400, BODY, *RESULT, {"toolCallId": 1}),
    "result too large": Refused(
        400, BODY, *RESULT, {"toolCallId": "{call}", "output": "x" * 20_479}
    ),
    "result of no JSON": Refused(400, BODY, *RESULT, b"nope"),
    "result of an unknown call": Refused(
        404, "RESOURCE_TOOL_CALL_NOT_FOUND", *RESULT, {"toolCallId": "call_x"}
    ),
    "feedback without any": Refused(400, BODY, *RATE, {}),
    "feedback of its own": Refused(400, BODY, *RATE, {"feedback": "great"}),
    "feedback of no JSON": Refused(400, BODY, *RATE, b""),
    "feedback on a user's": _rated("{user}", 400, "RESOURCE_MESSAGE_NOT_ASSISTANT"),
    "feedback on an unknown message": _rated("msg_1", 404, "RESOURCE_MESSAGE_NOT_FOUND"),
    "feedback on nothing": _rated("first", 404, "RESOURCE_MESSAGE_NOT_FOUND"),
    "feedback on another conversation's": _rated("{greeting}", 404, "RESOURCE_MESSAGE_NOT_FOUND"),
    "limit of 0": Refused(400, BODY, "GET", "/conversations?limit=0"),
    "limit of 101": Refused(400, BODY, "GET", "/conversations/{cid}/messages?limit=101"),
    "limit in words": Refused(400, BODY, "GET", "/users/u1/conversations?limit=ten"),
    "cursor of nobody": Refused(400, BODY, "GET", "/conversations?cursor=abc"),
    "cursor of no text": Refused(400, BODY, "GET", "/conversations/{cid}?cursor=%ff"),
    "user of wrong characters": Refused(400, BODY, "GET", "/users/a%20b/conversations"),
    "chat without anything": Refused(400, BODY, "POST", "/chat", {}),
    "chat with another agent's": Refused(
        404, "RESOURCE_NOT_FOUND", "POST", "/chat", {"conversationId": "{other}"}
    ),
    "chat before the result": Refused(400, BODY, "POST", "/chat", {"conversationId": "{cid}"}),
    "chat of blanks": Refused(
        400, BODY, "POST", "/chat", {"conversationId": "{cid}", "message": " "}
    ),
}


def _filled(value: Json, ids: Kept) -> Json:
    if not isinstance(value, str):
        return value
    return re.sub(r"\{(\w+)\}", lambda found: str(getattr(ids, found[1])), value)


def filled(value: Json | bytes, ids: Kept) -> Json | bytes:
    """With ids in the place of their names."""
    if isinstance(value, dict):
        return {name: _filled(each, ids) for name, each in value.items()}
    return value


def check(answer: Answered, status: int, code: str, *, authenticated: bool = True) -> None:
    """What holds of every error."""
    assert (answer.status, answer.error.get("code")) == (status, code), answer.body
    assert answer.headers["content-type"].startswith("application/json")
    assert set(answer.json) == {"error"}
    assert set(answer.error) <= {"code", "message", "details"}
    assert json.text(answer.error["message"])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    limits = {f"x-ratelimit-{name}" for name in ("limit", "remaining", "reset")}
    assert answer.headers.keys() & limits == (limits if authenticated else set())


async def test_refused(start: Start, store: str) -> None:
    """Each with its own status and code; the conversation is as it was after all of them."""
    gateway = await serve(start, store)
    ids = await kept(gateway)
    before = await asked(gateway, f"{CONVERSATIONS}/{ids.cid}")
    for name, case in REFUSED.items():
        path = AGENT + str(_filled(case.path, ids))
        answer = await gateway.request(case.method, path, filled(case.body, ids))
        try:
            check(answer, case.status, case.code)
        except AssertionError as exc:
            raise AssertionError(name) from exc
        if case.code == BODY and isinstance(case.body, dict):
            assert answer.error["details"], name
    assert await asked(gateway, f"{CONVERSATIONS}/{ids.cid}") == before
    assert (await result(gateway, ids.cid, ids.call)).status == 200


def requests(ids: Kept, agent: object) -> list[tuple[str, str, Json]]:
    """One that would be served of each kind."""
    root = f"/api/v2/agents/{agent}"
    conversation = f"{root}/conversations/{ids.cid}"
    return [
        ("GET", f"{root}/conversations", None),
        ("GET", f"{root}/conversations/export", None),
        ("GET", f"{root}/users/u1/conversations", None),
        ("GET", conversation, None),
        ("GET", f"{conversation}/messages", None),
        ("POST", f"{conversation}/tool-result", {"toolCallId": ids.call}),
        ("PATCH", f"{conversation}/messages/{ids.answer}/feedback", {"feedback": None}),
        ("POST", f"{conversation}/retry", {"messageId": ids.answer, "stream": False}),
    ]


# Whose key, which agent; what that is answered.
STRANGERS: list[tuple[str | None, object, int, str, bool]] = [
    (None, 1, 401, "AUTH_MISSING_API_KEY", False),
    ("oc_test_nobody", 1, 401, "AUTH_INVALID_API_KEY", False),
    (KEYS["disabled"], 1, 401, "AUTH_INVALID_API_KEY", False),
    (KEYS["scoped"], 1, 403, "AUTH_INSUFFICIENT_PERMISSIONS", True),
    (KEYS["globex"], 1, 404, "RESOURCE_NOT_FOUND", True),
    (KEY, 3, 404, "RESOURCE_NOT_FOUND", True),
    (KEY, 4, 404, "RESOURCE_NOT_FOUND", True),
    (KEY, 99, 404, "RESOURCE_NOT_FOUND", True),
    (KEY, "nobody", 404, "RESOURCE_NOT_FOUND", True),
]


@pytest.mark.parametrize(("key", "agent", "status", "code", "authenticated"), STRANGERS)
async def test_strangers(
    start: Start, key: str | None, agent: object, status: int, code: str, authenticated: bool
) -> None:
    """Every request asks who it is from, and whose agent that is, in the same way."""
    gateway = await serve(start, "memory")
    ids = await kept(gateway)
    for method, path, body in requests(ids, agent):
        answer = await gateway.request(method, path, body, key)
        check(answer, status, code, authenticated=authenticated)
        assert ("www-authenticate" in answer.headers) == (status == 401)
    assert len(await messages(gateway, ids.cid)) == 4


async def test_every_request_is_counted(start: Start, store: str) -> None:
    """Each takes one from the key's bucket, and says how many are left."""
    gateway = await start(echo(store, tier='requests = "100/24h"', more=MORE))
    ids = await kept(gateway)
    left = []
    for method, path, body in requests(ids, "Support"):
        answer = await gateway.request(method, path, body)
        assert answer.status == 200, answer.body
        left.append(int(answer.headers["x-ratelimit-remaining"]))
    assert left == list(range(left[0], left[0] - 8, -1))


async def test_rate_limited(start: Start) -> None:
    """429, with a Retry-After."""
    gateway = await serve(start, "memory")
    ids = await kept(gateway)
    await gateway.request("GET", CONVERSATIONS, key=KEYS["slow"])
    for method, path, body in requests(ids, 1):
        answer = await gateway.request(method, path, body, KEYS["slow"])
        check(answer, 429, "RATE_LIMIT_TOO_MANY_REQUESTS")
        assert int(answer.headers["retry-after"]) > 0


async def test_bodies(start: Start) -> None:
    """JSON, of a size; a read has none, and does not mind one."""
    gateway = await serve(start, "memory")
    ids = await kept(gateway)
    for method, path, body in requests(ids, 1):
        plain = await gateway.request(method, path, body, Content_Type="text/plain")
        large = await gateway.request(method, path, b'{"x":"' + b"x" * (64 << 10) + b'"}')
        if method == "GET":
            assert (plain.status, large.status) == (200, 200)
        else:
            check(plain, 415, BODY)
            check(large, 413, BODY)


async def test_methods(start: Start) -> None:
    """What a path does not know is refused before anything else is asked; CORS is told the same."""
    gateway = await serve(start, "memory")
    ids = await kept(gateway)
    for allowed, path, _ in requests(ids, 1):
        for method in ("GET", "PUT", "DELETE", "HEAD"):
            if method == allowed:
                continue
            answer = await gateway.request(method, path)
            assert (answer.status, answer.headers["allow"]) == (405, allowed)
            if method != "HEAD":
                check(answer, 405, "METHOD_NOT_ALLOWED", authenticated=False)
        asking = {"Origin": "https://a.example", "Access_Control_Request_Method": allowed}
        preflight = await gateway.request("OPTIONS", path, key=None, **asking)
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-methods"] == allowed
        assert "Idempotency-Key" in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "path",
    ["/conversations/", "/conversations/1/", "/conversations/1/retry/x", "/users/u1", "/users/"],
)
async def test_paths_of_nobody(start: Start, path: str) -> None:
    """Beside those that are there."""
    gateway = await serve(start, "memory")
    answer = await gateway.request("GET", AGENT + path)
    check(answer, 404, "RESOURCE_NOT_FOUND", authenticated=False)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (RuntimeError("canary"), 500, "INTERNAL_SERVER_ERROR"),
        (GatewayError(ErrorCode.UNAVAILABLE, "down", retry_after=1), 503, "SERVICE_UNAVAILABLE"),
    ],
)
async def test_a_store_that_fails(
    start: Start, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int, code: str
) -> None:
    """A 503 where it is down, a 500 where it is a bug of ours; nothing is said of why."""
    gateway = await serve(start, "memory")
    ids = await kept(gateway)

    async def failing(*_: object) -> None:
        raise fault

    for name in ("load", "listed", "claim"):
        monkeypatch.setattr(gateway.gateway.store, name, failing)
    for method, path, body in requests(ids, 1):
        answer = await gateway.request(method, path, body)
        check(answer, status, code)
        assert b"canary" not in answer.body
    assert b"canary" not in gateway.log.getvalue()


# Lists and reads.


async def test_a_conversation_and_its_messages(start: Start, store: str) -> None:
    """In all reads alike: ids as strings, times in seconds, what was said in its parts."""
    gateway = await serve(start, store)
    first = await said(gateway, "Where is  my\norder?", userId="u1")
    cid = conversation_of(first)
    one = await asked(gateway, f"{CONVERSATIONS}/{cid}")
    data = json.mapping(one["data"])
    shown = [json.mapping(message) for message in json.array(data.pop("messages"))]

    assert data.keys() == {"id", "title", "createdAt", "updatedAt", "userId", "status"}
    assert (data["id"], data["title"]) == (cid, "Where is my order?")
    assert (data["userId"], data["status"]) == ("u1", "ongoing")
    assert type(data["createdAt"]) is type(data["updatedAt"]) is int
    assert 1_700_000_000 < int(str(data["createdAt"])) <= int(str(data["updatedAt"])) < 1 << 33
    assert one["pagination"] == {"cursor": None, "hasMore": False, "total": 2}
    assert (await asked(gateway, CONVERSATIONS))["data"] == [data]
    assert (await asked(gateway, f"{AGENT}/users/u1/conversations"))["data"] == [data]
    assert (await asked(gateway, f"{CONVERSATIONS}/{cid}/messages"))["data"] == shown
    question, answer = shown
    assert question["id"] == json.mapping(first["metadata"])["userMessageId"]
    assert question["parts"] == [{"type": "text", "text": "Where is  my\norder?"}]
    assert (question["role"], answer["role"]) == ("user", "assistant")
    assert (answer["id"], answer["parts"]) == (first["id"], first["parts"])
    assert answer["metadata"] == {
        "finishReason": "stop",
        "usage": {"inputTokens": 4, "outputTokens": 4},
    }


async def test_nothing_yet(start: Start, store: str) -> None:
    """Lists of nothing; a user that nobody has heard of has nothing either."""
    gateway = await serve(start, store)
    nothing: Json = {
        "data": [],
        "pagination": {"cursor": None, "hasMore": False, "total": 0},
    }
    for path in (CONVERSATIONS, f"{AGENT}/users/u1/conversations", f"{CONVERSATIONS}/export"):
        assert await asked(gateway, path) == nothing


async def test_pages_of_conversations(start: Start, store: str) -> None:
    """250 of them: each once, the newest activity first, and all pages say how many there are."""
    gateway = await serve(start, store)
    ids = [conversation_of(await said(gateway, f"n{n}", userId=f"u{n % 2}")) for n in range(250)]
    await asyncio.sleep(0.002)  # within one millisecond there is no telling which was later
    await said(gateway, "again", conversationId=ids[7])

    for limit, sizes in ((None, [20] * 12 + [10]), (100, [100, 100, 50]), (50, [50] * 5)):
        path = CONVERSATIONS + (f"?limit={limit}" if limit else "")
        found = await pages(gateway, path)
        assert [len(page) for page in found] == sizes
        every = [each for page in found for each in page]
        assert every[0]["id"] == ids[7]
        assert {each["id"] for each in every} == set(ids)
        times = [int(str(each["updatedAt"])) for each in every]
        assert times == sorted(times, reverse=True)
    total = json.mapping((await asked(gateway, f"{CONVERSATIONS}?limit=1"))["pagination"])["total"]
    assert total == 250
    of_user = await pages(gateway, f"{AGENT}/users/u1/conversations?limit=100")
    assert [len(page) for page in of_user] == [100, 25]
    assert {each["userId"] for page in of_user for each in page} == {"u1"}


async def test_pages_of_messages(start: Start, store: str) -> None:
    """250 of them: the newest page first, each page in the order in which it was said. One
    conversation's first page leads into the same list."""
    gateway = await serve(start, store)
    cid = conversation_of(await said(gateway, "t0"))
    for n in range(1, 125):
        await said(gateway, f"t{n}", conversationId=cid)
    expected = [f"t{n}" for n in range(125) for _ in "qa"]

    path = f"{CONVERSATIONS}/{cid}/messages"
    for limit, sizes in ((100, [100, 100, 50]), (50, [50] * 5), (99, [99, 99, 52])):
        found = await pages(gateway, f"{path}?limit={limit}")
        assert [len(page) for page in found] == sizes
        assert [text(m) for page in reversed(found) for m in page] == expected
    assert [text(m) for m in (await pages(gateway, path))[0]] == expected[-20:]

    one = await asked(gateway, f"{CONVERSATIONS}/{cid}")
    shown = [json.mapping(m) for m in json.array(json.mapping(one["data"])["messages"])]
    assert [text(message) for message in shown] == expected[-20:]
    pagination = json.mapping(one["pagination"])
    assert (pagination["hasMore"], pagination["total"]) == (True, 250)
    older = await asked(gateway, f"{path}?cursor={pagination['cursor']}&limit=10")
    assert [text(json.mapping(m)) for m in json.array(older["data"])] == expected[-30:-20]


# Retries.


async def test_retry_is_asked_anew(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """The conversation is cut at the user's message, in what the model is told and in what is kept;
    streamed unless told not to, and the prefix of the id may be left out."""
    upstream.answers(*map(openai_text, ("one", "two", "three", "four")))
    gateway = await scripted(start, upstream, store)
    first = await gateway.chat_v2("a")
    cid = json.text(identity(first)["conversationId"])
    second = await gateway.chat_v2("b", conversationId=cid)
    streamed = await retry(gateway, cid, identity(first)["messageId"])

    assert streamed.text == "three"
    assert upstream.requests[-1].json["messages"] == [{"role": "user", "content": "a"}]
    assert identity(streamed)["userMessageId"] == identity(first)["userMessageId"]
    assert identity(streamed)["messageId"] != identity(first)["messageId"]
    assert await texts(gateway, cid) == ["a", "three"]
    number = json.text(identity(streamed)["messageId"]).removeprefix("msg_")
    upstream.answers(document({"choices": [{"message": {"content": "four"}}]}))
    whole = await retry(gateway, cid, number, stream=False)
    assert json.mapping(whole.json["data"])["parts"] == [{"type": "text", "text": "four"}]
    assert await texts(gateway, cid) == ["a", "four"]
    # What was cut off is gone.
    for answer in (first, second, streamed):
        gone = await retry(gateway, cid, identity(answer)["messageId"])
        check(gone, 404, "CHAT_RETRY_MESSAGE_NOT_FOUND")


async def test_retry_over_echo(start: Start, store: str) -> None:
    """Of the last turn: the one before stays; it is no conversation's second beginning."""
    gateway = await serve(start, store)
    cid = conversation_of(await said(gateway, "a"))
    last = await said(gateway, "b", conversationId=cid)
    assert (await retry(gateway, cid, last["id"])).text == "b"
    assert await texts(gateway, cid) == ["a", "a", "b", "b"]
    assert len(json.array((await asked(gateway, CONVERSATIONS))["data"])) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_retry_that_fails(
    start: Start, upstream: ScriptedUpstream, store: str, stream: bool
) -> None:
    """The old branch is gone only when the new answer is there."""
    upstream.answers(
        openai_text("one"),
        openai_text("two"),
        document({"error": {"message": "no"}}, 500),
        sse(delta("Hm"), {"error": {"message": "no"}}),
    )
    gateway = await scripted(start, upstream, store)
    first = await gateway.chat_v2("a")
    cid = json.text(identity(first)["conversationId"])
    await gateway.chat_v2("b", conversationId=cid)
    before = await messages(gateway, cid)
    refused = await retry(gateway, cid, identity(first)["messageId"], stream=stream)
    check(refused, 502, "UPSTREAM_ERROR")
    cut = await retry(gateway, cid, identity(first)["messageId"], stream=stream)
    assert (cut.status == 200) is stream
    assert await messages(gateway, cid) == before


async def test_busy(start: Start, upstream: ScriptedUpstream, store: str) -> None:
    """While a turn runs nothing else changes the conversation; it can be read and rated."""
    gate = asyncio.Event()
    slow: Script = [head(), chunk(event(delta("Hm"))), Wait(gate), chunk(b"data: [DONE]\n\n"), END]
    upstream.answers(openai_text("one"), slow)
    gateway = await scripted(start, upstream, store, more=_agent(2, "Other", target='model = "m"'))
    first = await gateway.chat_v2("a")
    cid, message = identity(first)["conversationId"], identity(first)["messageId"]
    running = asyncio.ensure_future(gateway.chat_v2("b", conversationId=cid))
    await upstream.until_requests(2)

    for refused in (await retry(gateway, str(cid), message), await result(gateway, str(cid), "c")):
        check(refused, 409, "CHAT_CONVERSATION_BUSY")
    # Whose it is must not be told by a 409.
    path = f"/api/v2/agents/2/conversations/{cid}/retry"
    check(await gateway.post(path, {"messageId": message}), 404, "RESOURCE_NOT_FOUND")
    assert await texts(gateway, str(cid)) == ["a", "one"]
    assert (await rate(gateway, str(cid), message, "positive")).status == 200
    gate.set()
    assert (await running).status == 200
    shown = await messages(gateway, str(cid))
    assert [text(each) for each in shown] == ["a", "one", "b", "Hm"]
    assert shown[1]["feedback"] == "positive"


# Tools.


@pytest.mark.parametrize("stream", [True, False])
async def test_a_tools_result(start: Start, store: str, stream: bool) -> None:
    """It is taken once, and the run goes on from it without a message."""
    gateway = await serve(start, store)
    calling = await gateway.chat_v2('/tool status {"order":7}')
    cid = json.text(identity(calling)["conversationId"])
    part = json.mapping(calling.frames[0][1])
    call = part["toolCallId"]
    assert (part["type"], part["input"]) == ("tool-call", {"order": 7})

    taken = await result(gateway, cid, call, output={"status": "shipped"})
    assert (taken.status, taken.json) == (200, {"data": {"success": True}})
    repeated = await result(gateway, cid, call, output={"status": "shipped"})
    assert repeated.json == taken.json
    changed_mind = await result(gateway, cid, call, output="lost")
    check(changed_mind, 404, "RESOURCE_TOOL_CALL_NOT_FOUND")

    went_on = await gateway.post(f"{AGENT}/chat", {"conversationId": cid, "stream": stream})
    told = 'The tool answered: {"status":"shipped"}'
    shown = await messages(gateway, cid)
    assert [text(each) for each in shown] == ['/tool status {"order":7}', "", told]
    assert (went_on.text if stream else text(json.mapping(went_on.json["data"]))) == told
    assert json.array(shown[1]["parts"])[-1] == {
        "type": "tool-result",
        "toolCallId": call,
        "toolName": "status",
        "output": {"status": "shipped"},
    }
    # The conversation has gone on: there is nothing to answer, or to go on from, any more.
    late = await result(gateway, cid, call, output={"status": "shipped"})
    check(late, 404, "RESOURCE_TOOL_CALL_NOT_FOUND")
    check(await gateway.post(f"{AGENT}/chat", {"conversationId": cid}), 400, BODY)


@pytest.mark.parametrize("output", [None, "", [], 0, False, "x" * 20_478])
async def test_any_result(start: Start, store: str, output: Json) -> None:
    """Of up to 20 KB."""
    gateway = await serve(start, store)
    calling = await said(gateway, "/tool f {}")
    cid = conversation_of(calling)
    assert (await result(gateway, cid, call_of(calling), output=output)).status == 200
    part = json.mapping(json.array((await messages(gateway, cid))[1]["parts"])[-1])
    assert part["output"] == output
    await said(gateway, None, conversationId=cid)


async def test_a_call_that_expired(start: Start, store: str) -> None:
    """It waits no longer, also for the run to go on; a message still may."""
    table = STORES[store] + '\ntool_call_ttl = "1ms"'
    gateway = await start(echo(store).replace(STORES[store], table))
    calling = await said(gateway, "/tool f {}")
    await asyncio.sleep(0.01)
    cid = conversation_of(calling)
    late = await result(gateway, cid, call_of(calling))
    check(late, 404, "RESOURCE_TOOL_CALL_NOT_FOUND")
    check(await gateway.post(f"{AGENT}/chat", {"conversationId": cid}), 400, BODY)
    assert text(await said(gateway, "hello", conversationId=cid)) == "hello"


async def test_every_call_needs_its_result(
    start: Start, upstream: ScriptedUpstream, store: str
) -> None:
    """Of several calls at once: which are missing is told."""
    calls: list[Json] = [
        {"index": n, "id": f"call_{n}", "function": {"name": "f", "arguments": "{}"}}
        for n in range(2)
    ]
    upstream.answers(
        sse({"choices": [{"delta": {"tool_calls": calls}}]}, finish("tool_calls")),
        openai_text("done"),
    )
    gateway = await scripted(start, upstream, store)
    cid = json.text(identity(await gateway.chat_v2("go"))["conversationId"])
    assert (await result(gateway, cid, "call_1", output=1)).status == 200
    early = await gateway.post(f"{AGENT}/chat", {"conversationId": cid})
    check(early, 400, BODY)
    assert "call_0" in json.text(early.error["message"])
    assert (await result(gateway, cid, "call_0", output=0)).status == 200
    assert (await gateway.post(f"{AGENT}/chat", {"conversationId": cid})).text == "done"


# Feedback.


async def test_feedback(start: Start, store: str) -> None:
    """It stays with the message until it is cleared, and changes nothing else."""
    gateway = await serve(start, store)
    answer = await said(gateway, "hi")
    cid, number = conversation_of(answer), json.text(answer["id"]).removeprefix("msg_")
    before = json.mapping((await asked(gateway, f"{CONVERSATIONS}/{cid}"))["data"])
    for feedback in ("positive", "negative", "negative", None, "positive"):
        rated = await rate(gateway, cid, number, feedback)
        (_, shown) = await messages(gateway, cid)
        assert shown["feedback"] == feedback
        del shown["metadata"]
        assert rated.json == {"data": shown}
    after = json.mapping((await asked(gateway, f"{CONVERSATIONS}/{cid}"))["data"])
    assert after["updatedAt"] == before["updatedAt"]
    # And it outlives the next turn.
    await said(gateway, "more", conversationId=cid)
    assert (await messages(gateway, cid))[1]["feedback"] == "positive"


async def test_feedback_is_counted(start: Start, upstream: ScriptedUpstream) -> None:
    """By agent, upstream and model, as far as the agent's config names them still: the model that
    was asked, whatever the upstream calls it."""
    end: Json = {**json.mapping(finish()), "model": "m-2026-01-01"}
    upstream.answers(sse(delta("x"), end))
    gateway = await start(config(upstream.url, agent='allowed_models = ["large"]'))
    first = identity(await gateway.chat_v2())
    done = json.mapping((await gateway.chat_v1(model="large")).frames[-1][1])
    old: dict[str, Json] = {"conversationId": await greeted(gateway), "messageId": "msg_11"}
    for answer, word in (
        (first, "positive"),
        (first, "positive"),
        (done, "negative"),
        (first, None),
        (old, "positive"),
    ):
        path = str(answer["conversationId"])
        assert (await rate(gateway, path, answer["messageId"], word)).status == 200
        assert (await rate(gateway, path, "msg_1", word)).status == 404
    counted = {
        series.partition("{")[2]: value
        for series, value in (await gateway.metrics()).items()
        if series.startswith("oc_gateway_feedback_total{")
    }
    assert counted == {
        'agent="1",feedback="positive",model="m",upstream="main"}': 2,
        'agent="1",feedback="negative",model="large",upstream="main"}': 1,
        'agent="1",feedback="cleared",model="m",upstream="main"}': 1,
        'agent="1",feedback="positive",model="other",upstream="other"}': 1,
    }


# Whose they are.


async def test_a_key_for_one_user(start: Start, store: str) -> None:
    """It sees that user's conversations with this agent and nothing else: others do not exist."""
    text = echo(store, more=SIGNED)
    gateway = await start(text, PEM=SIGNER.public)
    alice = key_for("alice")
    theirs = await said(gateway, "/tool f {}", userId="bob")
    nobodys = await said(gateway, "hi")
    own = await said(gateway, "/tool f {}", alice)
    mine = conversation_of(own)

    for path in (CONVERSATIONS, f"{CONVERSATIONS}/export", f"{AGENT}/users/alice/conversations"):
        (found,) = json.array((await asked(gateway, path, alice))["data"])
        assert json.mapping(found)["id"] == mine
    assert len(await messages(gateway, mine, alice)) == 2
    of_bob = await gateway.request("GET", f"{AGENT}/users/bob/conversations", key=alice)
    check(of_bob, 403, "AUTH_INSUFFICIENT_PERMISSIONS")
    for data in (theirs, nobodys):
        cid = conversation_of(data)
        refusing: list[tuple[str, str, Json]] = [
            ("GET", f"{CONVERSATIONS}/{cid}", None),
            ("GET", f"{CONVERSATIONS}/{cid}/messages", None),
            ("POST", f"{CONVERSATIONS}/{cid}/tool-result", {"toolCallId": call_of(theirs)}),
            ("POST", f"{CONVERSATIONS}/{cid}/retry", {"messageId": data["id"]}),
            ("PATCH", f"{CONVERSATIONS}/{cid}/messages/{data['id']}/feedback", GOOD),
            ("POST", f"{AGENT}/chat", {"conversationId": cid}),
            ("POST", f"{AGENT}/chat", {"conversationId": cid, "message": "hi"}),
        ]
        for method, path, body in refusing:
            refused = await gateway.request(method, path, body, alice)
            check(refused, 404, "RESOURCE_NOT_FOUND")
    everything = json.array((await asked(gateway, CONVERSATIONS))["data"])
    assert len(everything) == 3
    path = f"{CONVERSATIONS}/{mine}/tool-result"
    assert (await gateway.post(path, {"toolCallId": call_of(own)}, alice)).status == 200


async def test_a_key_for_one_agent(start: Start, store: str) -> None:
    """It has that agent's conversations, whoever began them, and no other's."""
    gateway = await serve(start, store)
    ids = await kept(gateway)
    listed = await asked(gateway, "/api/v2/agents/2/conversations", KEYS["scoped"])
    assert [json.mapping(each)["id"] for each in json.array(listed["data"])] == [ids.other]
    found = await asked(gateway, f"/api/v2/agents/2/conversations/{ids.other}", KEYS["scoped"])
    assert json.mapping(found["data"])["id"] == ids.other


async def test_v1_shares_its_conversations(start: Start, store: str) -> None:
    """What one version of the API began, the other one lists; a visitor's without a key is only the
    visitor's."""
    public = 'public = { origins = ["https://a.example"], tier = "standard" }'
    gateway = await start(echo(store, agent=public))
    done = json.mapping((await gateway.chat_v1("hi")).frames[-1][1])
    body: Json = {"agentId": 1, "message": "hi"}
    visitor = await gateway.post("/api/v1/chat", body, None, Origin="https://a.example")
    theirs = json.mapping(visitor.frames[-1][1])["conversationId"]
    (listed,) = json.array((await asked(gateway, CONVERSATIONS))["data"])
    assert json.mapping(listed)["id"] == str(done["conversationId"])
    assert (await gateway.request("GET", f"{CONVERSATIONS}/{theirs}")).status == 404


# What operators see.


async def test_one_line_per_request(start: Start) -> None:
    """It says what was asked, of which agent and conversation; and nothing that was said."""
    gateway = await serve(start, "memory")
    ids = await kept(gateway)
    written = len(gateway.log_lines())
    await gateway.request("GET", f"{CONVERSATIONS}/canary%0a")
    for method, path, body in requests(ids, 1):
        assert (await gateway.request(method, path, body)).status == 200
    missing, *lines = gateway.log_lines()[written:]
    assert "conversation" not in missing
    assert [line["operation"] for line in lines] == [
        *("conversations", "export", "user-conversations", "conversation", "messages"),
        *("tool-result", "feedback", "retry"),
    ]
    assert {line["agent"] for line in lines} == {"1"}
    assert [line.get("conversation") for line in lines] == [None] * 3 + [ids.cid] * 5
    assert b"canary" not in gateway.log.getvalue()


async def test_a_stop_waits_for_what_is_asked(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool's result that is being taken is taken: what a listener that stops cuts has had its
    time before."""
    monkeypatch.setattr("gateway.http.server._SHUTDOWN", 0.01)
    gateway = await serve(start, "memory")
    ids = await kept(gateway)
    reached, go_on = asyncio.Event(), asyncio.Event()
    save = gateway.gateway.store.save

    async def slow(change: Change, claims: tuple[int, ...]) -> None:
        reached.set()
        await go_on.wait()
        await save(change, claims)

    monkeypatch.setattr(gateway.gateway.store, "save", slow)
    taken = asyncio.ensure_future(result(gateway, ids.cid, ids.call))
    await reached.wait()
    stopping = asyncio.ensure_future(gateway.gateway.stop())
    assert not (await asyncio.wait([stopping, taken], timeout=0.05))[0]
    go_on.set()
    assert (await taken).status == 200
    await stopping


async def test_a_client_that_leaves_frees_the_conversation(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tool's result was not taken, and can be given again."""
    gateway = await serve(start, "memory")
    ids = await kept(gateway)
    reached = asyncio.Event()

    async def stuck(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr("gateway.proxy.records.hand_on", stuck)
        async with gateway.raw(f"{CONVERSATIONS}/{ids.cid}/tool-result", {"toolCallId": ids.call}):
            await reached.wait()
        await eventually(lambda: gateway.log_lines()[-1].get("outcome") == "client_gone")
    assert (await result(gateway, ids.cid, ids.call)).status == 200
