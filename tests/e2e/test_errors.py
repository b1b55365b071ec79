"""Every error that a chat request can meet, provoked for real, in both dialects' words."""

import asyncio
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from gateway.auth.mint import key_hash
from gateway.core.codec import UpstreamRequest
from gateway.core.events import Json
from gateway.upstreams import UPSTREAMS
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, KEY_HASH, Answered, Running, config, eventually
from tests.e2e.scripted import (
    PATIENCE,
    Hang,
    ScriptedUpstream,
    Step,
    document,
    head,
    openai_text,
)

V1, V2 = "/api/v1/chat", "/api/v2/agents/1/chat"
PATHS = [V1, V2]

SECRET = "sk-upstream-canary"
INTERNALS = "pod llm-7 of org-123"
KEYS = {
    "expired": "oc_test_expired_0123456789abcdefghijkl",
    "disabled": "oc_test_disabled_0123456789abcdefghijk",
    "scoped": "oc_test_scoped_0123456789abcdefghijklm",
    "slow": "oc_test_slow_0123456789abcdefghijklmno",
}


def _key(name: str, more: str) -> str:
    return f"""
[[keys]]
id = "{name}"
hash = "{key_hash(KEYS[name])}"
workspace = "acme"
{more}
"""


MORE = (
    _key("expired", 'tier = "standard"\nexpires = "2020-01-01T00:00:00Z"')
    + _key("disabled", 'tier = "standard"\ndisabled = true')
    + _key("scoped", 'tier = "standard"\nagents = [2]')
    + _key("slow", 'tier = "slow"')
    + """
[limits.tiers.slow]
requests = "1/1h"
[limits.tiers.widget]
requests = "100/1s"
[[agents]]
id = 2
workspace = "acme"
name = "Other"
targets = [ { upstream = "main", model = "m" } ]
[[agents]]
id = 3
workspace = "acme"
name = "Old"
archived = true
targets = [ { upstream = "main", model = "m" } ]
[[agents]]
id = 4
workspace = "globex"
name = "Theirs"
targets = [ { upstream = "main", model = "m" } ]
[[agents]]
id = 5
workspace = "acme"
name = "Identified"
identity_secret = { env = "IDENTITY" }
targets = [ { upstream = "main", model = "m" } ]
"""
)


async def serve(
    start: Start, upstream: ScriptedUpstream, clocks: str = "", body_timeout: str = "1m"
) -> Running:
    text = config(
        upstream.url,
        upstream='credential = { env = "UPSTREAM_KEY" }',
        clocks=clocks,
        more=MORE,
        tier='requests = "1000/1s"\nconcurrency = 50',
    )
    server = f'port = 0\nmax_body = "16KiB"\nbody_timeout = "{body_timeout}"'
    text = text.replace("port = 0", server, 1)
    return await start(text, UPSTREAM_KEY=SECRET, IDENTITY="identity-secret-canary")


def body_for(path: str, agent: Json = 1, **more: Json) -> Json:
    return {"agentId": agent, "message": "hi", **more} if path == V1 else {"message": "hi", **more}


def path_for(path: str, agent: Json) -> str:
    return path if path == V1 else f"/api/v2/agents/{agent}/chat"


def check(answer: Answered, path: str, status: int, code: str, *, authenticated: bool) -> None:
    """What holds of every error: envelope, ids, limits, and nothing of anybody's secrets."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.error
    assert error["code"] == code
    assert json.text(error["message"])
    assert set(error) <= {"code", "message", "details"}
    assert set(answer.json) == ({"success", "error"} if path == V1 else {"error"})
    assert answer.json.get("success", False) is False
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert _limited(answer) == authenticated
    for secret in (SECRET, INTERNALS, KEY, *KEYS.values(), "Traceback", "Error(", "canary"):
        assert secret.encode() not in answer.body


def _limited(answer: Answered) -> bool:
    names = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
    names |= {"ratelimit", "ratelimit-policy"}
    there = names & answer.headers.keys()
    assert there in (set(), names)
    return bool(there)


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that the gateway itself refuses."""

    status: int
    v1: str
    v2: str
    key: str | None = KEY
    agent: Json = 1
    body: tuple[tuple[str, Json], ...] = ()
    only: str | None = None
    authenticated: bool = True


REFUSED = {
    "no message": Refused(
        400, "validation_error", "VALIDATION_INVALID_BODY", body=(("message", " "),)
    ),
    "message of a wrong type": Refused(
        400, "validation_error", "VALIDATION_INVALID_BODY", body=(("message", ["hi"]),)
    ),
    "conversation of a wrong type": Refused(
        400, "validation_error", "VALIDATION_INVALID_BODY", body=(("conversationId", "x"),)
    ),
    "agent of a wrong type": Refused(
        400, "validation_error", "VALIDATION_INVALID_BODY", agent=0, only=V1
    ),
    "message too long": Refused(
        400, "validation_error", "", body=(("message", "x" * 8001),), only=V1
    ),
    "user of wrong characters": Refused(
        400, "", "VALIDATION_INVALID_BODY", body=(("userId", "a b"),), only=V2
    ),
    "stream of a wrong type": Refused(
        400, "", "VALIDATION_INVALID_BODY", body=(("stream", "no"),), only=V2
    ),
    "no key": Refused(401, "unauthorized", "AUTH_MISSING_API_KEY", key=None, authenticated=False),
    "unknown key": Refused(
        401, "unauthorized", "AUTH_INVALID_API_KEY", key="oc_test_nobody", authenticated=False
    ),
    "malformed key": Refused(
        401, "unauthorized", "AUTH_INVALID_API_KEY", key="sk-nobody", authenticated=False
    ),
    "disabled key": Refused(
        401, "unauthorized", "AUTH_INVALID_API_KEY", key=KEYS["disabled"], authenticated=False
    ),
    "expired key": Refused(
        401, "unauthorized", "AUTH_INVALID_API_KEY", key=KEYS["expired"], authenticated=False
    ),
    "key of another agent": Refused(
        403, "forbidden", "AUTH_INSUFFICIENT_PERMISSIONS", key=KEYS["scoped"]
    ),
    "model not allowed": Refused(403, "forbidden", "", body=(("model", "gpt-9"),), only=V1),
    "user without a hash": Refused(
        403, "forbidden", "", agent=5, body=(("user_id", "u1"),), only=V1
    ),
    "unknown agent": Refused(404, "agent_not_found", "RESOURCE_NOT_FOUND", agent=99),
    "archived agent": Refused(404, "agent_not_found", "RESOURCE_NOT_FOUND", agent=3),
    "agent of another workspace": Refused(404, "agent_not_found", "RESOURCE_NOT_FOUND", agent=4),
    "unknown conversation": Refused(
        404, "conversation_not_found", "RESOURCE_NOT_FOUND", body=(("conversationId", 12345),)
    ),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", REFUSED)
async def test_refused(start: Start, upstream: ScriptedUpstream, case: str, path: str) -> None:
    """What the gateway itself refuses, no upstream hears of."""
    refused = REFUSED[case]
    if refused.only not in (None, path):
        return
    gateway = await serve(start, upstream)
    answer = await gateway.post(
        path_for(path, refused.agent),
        body_for(path, refused.agent, **dict(refused.body)),
        refused.key,
    )
    code = refused.v1 if path == V1 else refused.v2
    check(answer, path, refused.status, code, authenticated=refused.authenticated)
    assert ("www-authenticate" in answer.headers) == (refused.status == 401)
    if refused.status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert not upstream.requests


@pytest.mark.parametrize("path", PATHS)
async def test_every_complaint_at_once(start: Start, upstream: ScriptedUpstream, path: str) -> None:
    """A 400 names each field that is wrong, in `details` and in the message."""
    gateway = await serve(start, upstream)
    answer = await gateway.post(path, body_for(path, message="", conversationId=-1))
    details = json.mapping(answer.error["details"])
    assert details.keys() == {"message", "conversationId"}
    assert all(name in json.text(answer.error["message"]) for name in details)


Script = Callable[[], list[Step]]

# What an upstream does, and what of it a client hears: status, v1's code, v2's, Retry-After.
UPSTREAM: dict[str, tuple[Script, int, str, str, str | None]] = {
    "400": (
        lambda: document({"error": {"message": "too many tokens"}}, 400),
        *(400, "validation_error", "VALIDATION_INVALID_BODY", None),
    ),
    "401": (
        lambda: document({"error": {"message": INTERNALS}}, 401),
        *(502, "upstream_error", "UPSTREAM_ERROR", None),
    ),
    "402": (
        lambda: document({"error": {"message": INTERNALS}}, 402),
        *(503, "upstream_credits_exhausted", "UPSTREAM_CREDITS_EXHAUSTED", None),
    ),
    "403": (
        lambda: document({"error": {"message": INTERNALS}}, 403),
        *(502, "upstream_error", "UPSTREAM_ERROR", None),
    ),
    "404": (
        lambda: document({"error": {"message": INTERNALS}}, 404),
        *(502, "upstream_error", "UPSTREAM_ERROR", None),
    ),
    "422": (
        lambda: document({"error": {"message": INTERNALS}}, 422),
        *(400, "validation_error", "VALIDATION_INVALID_BODY", None),
    ),
    "429": (
        lambda: document({"error": {"message": INTERNALS}}, 429),
        *(429, "rate_limited", "RATE_LIMIT_TOO_MANY_REQUESTS", None),
    ),
    "429 with Retry-After": (
        lambda: document({"error": {"message": INTERNALS}}, 429, Retry_After="17"),
        *(429, "rate_limited", "RATE_LIMIT_TOO_MANY_REQUESTS", "17"),
    ),
    "429 for want of credits": (
        lambda: document({"error": {"code": "insufficient_quota", "message": INTERNALS}}, 429),
        *(503, "upstream_credits_exhausted", "UPSTREAM_CREDITS_EXHAUSTED", None),
    ),
    "500": (
        lambda: document({"error": INTERNALS}, 500),
        *(502, "upstream_error", "UPSTREAM_ERROR", None),
    ),
    "503 in HTML": (
        lambda: [head(503, "text/html", Content_Length="6") + b"<html>"],
        *(502, "upstream_error", "UPSTREAM_ERROR", None),
    ),
    "a redirect": (
        lambda: [head(302, Content_Length="0", Location="https://other.example/")],
        *(502, "upstream_error", "UPSTREAM_ERROR", None),
    ),
    "HTML with 200": (
        lambda: [head(200, "text/html", Content_Length="6") + b"<html>"],
        *(502, "upstream_error", "UPSTREAM_ERROR", None),
    ),
    "nothing": (
        lambda: [head(200, Content_Length="0")],
        *(502, "upstream_error", "UPSTREAM_ERROR", None),
    ),
    "silence": (lambda: [Hang], 504, "upstream_timeout", "UPSTREAM_TIMEOUT", None),
    "silence after its head": (
        lambda: [head(), Hang],
        *(504, "upstream_timeout", "UPSTREAM_TIMEOUT", None),
    ),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", UPSTREAM)
async def test_upstream_fails(
    start: Start, upstream: ScriptedUpstream, case: str, path: str
) -> None:
    """What an upstream does wrong becomes one error of ours, and its texts stay here."""
    script, status, v1, v2, retry_after = UPSTREAM[case]
    upstream.answers(script())
    clocks = 'first_event = "200ms"' if case.startswith("silence") else ""
    gateway = await serve(start, upstream, clocks)
    answer = await gateway.post(path, body_for(path))
    check(answer, path, status, v1 if path == V1 else v2, authenticated=True)
    assert answer.headers.get("retry-after") == retry_after
    assert "www-authenticate" not in answer.headers
    if case == "400":
        assert answer.error["message"] == "too many tokens"


@pytest.mark.parametrize("path", PATHS)
async def test_upstream_is_not_there(start: Start, path: str) -> None:
    """A refused connection is a 503."""
    async with ScriptedUpstream() as gone:
        pass
    gateway = await serve(start, _At("http://127.0.0.1:9"))
    assert gone.accepted == 0
    answer = await gateway.post(path, body_for(path))
    code = "unavailable" if path == V1 else "SERVICE_UNAVAILABLE"
    check(answer, path, 503, code, authenticated=True)


class _At(ScriptedUpstream):
    """An address where nobody listens."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    @property
    def url(self) -> str:
        return self._url


@pytest.mark.parametrize("path", PATHS)
async def test_rate_limited(start: Start, upstream: ScriptedUpstream, path: str) -> None:
    """A bucket that is empty: 429, with a Retry-After that says when it is not."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream)
    first = await gateway.post(path, body_for(path), KEYS["slow"])
    assert (first.status, first.headers["x-ratelimit-remaining"]) == (200, "0")
    answer = await gateway.post(path, body_for(path), KEYS["slow"])
    code = "rate_limited" if path == V1 else "RATE_LIMIT_TOO_MANY_REQUESTS"
    check(answer, path, 429, code, authenticated=True)
    assert 3590 <= int(answer.headers["retry-after"]) <= 3600
    assert answer.headers["x-ratelimit-limit"] == "1"
    assert answer.headers["ratelimit-policy"] == '"slow";q=1;w=3600'
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_conversation_is_busy(start: Start, upstream: ScriptedUpstream, path: str) -> None:
    """A second turn in a conversation whose turn still runs: 409."""
    upstream.answers(openai_text("Hi"), [Hang])
    gateway = await serve(start, upstream)
    conversation = conversation_of(await gateway.chat_v2())
    async with gateway.raw(path, body_for(path, conversationId=conversation)):
        await upstream.until_requests(2)
        answer = await gateway.post(path, body_for(path, conversationId=conversation))
    code = "conversation_busy" if path == V1 else "CHAT_CONVERSATION_BUSY"
    check(answer, path, 409, code, authenticated=True)


def conversation_of(answer: Answered) -> int:
    """The id that a v2 stream ends with, as a request wants it."""
    finish = json.mapping(answer.frames[-2][1])
    return int(json.text(json.mapping(finish["metadata"])["conversationId"]))


@pytest.mark.parametrize("path", PATHS)
async def test_a_bug_of_ours(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """An exception in a codec is a 500 that says nothing of it; the log knows where it was."""

    def broken(*_: object) -> UpstreamRequest:
        raise RuntimeError(f"canary {SECRET}")

    monkeypatch.setitem(UPSTREAMS, "openai", replace(UPSTREAMS["openai"], request=broken))
    gateway = await serve(start, upstream)
    answer = await gateway.post(path, body_for(path))
    code = "internal_error" if path == V1 else "INTERNAL_SERVER_ERROR"
    check(answer, path, 500, code, authenticated=True)
    (line,) = [line for line in gateway.log_lines() if line["event"] == "internal_error"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert "test_errors.py" in json.text(line["exception"])
    assert "RuntimeError" in json.text(line["exception"])
    assert SECRET.encode() not in gateway.log.getvalue()


# Requests that are not what they should be.


@pytest.mark.parametrize("path", PATHS)
async def test_wrong_content_type(start: Start, upstream: ScriptedUpstream, path: str) -> None:
    """415, whatever the body would be."""
    gateway = await serve(start, upstream)
    answer = await gateway.post(path, b"message=hi", Content_Type="text/plain")
    code = "unsupported_media_type" if path == V1 else "VALIDATION_INVALID_BODY"
    check(answer, path, 415, code, authenticated=True)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"message": "hi"',
        b"\xff\xfe\x00",
        b"[" * 5000,
        b'{"message":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b"null",
        b"[]",
        b'"hi"',
        b"1e999",
        b"NaN",
    ],
    ids=lambda body: body[:14].decode("latin-1") or "empty",
)
async def test_not_a_json_object(
    start: Start, upstream: ScriptedUpstream, path: str, body: bytes
) -> None:
    """What is not a JSON object, or nested beyond reason, is a 400."""
    gateway = await serve(start, upstream)
    answer = await gateway.post(path, body)
    code = "validation_error" if path == V1 else "VALIDATION_INVALID_BODY"
    check(answer, path, 400, code, authenticated=True)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "identity, gzip"])
async def test_compressed_body(
    start: Start, upstream: ScriptedUpstream, coding: str, path: str
) -> None:
    """A compressed request is not unpacked."""
    gateway = await serve(start, upstream)
    answer = await gateway.post(
        path, gzip.compress(json.dumps(body_for(path))), Content_Encoding=coding
    )
    code = "unsupported_media_type" if path == V1 else "VALIDATION_INVALID_BODY"
    check(answer, path, 415, code, authenticated=True)
    assert answer.error["message"] == "send the body uncompressed"


async def exchange(gateway: Running, request: bytes) -> Answered:
    """One request as these bytes; the answer, read from the bare socket."""
    host, port = gateway.url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(": ") for line in lines[1:] if line)
            headers = {name.lower(): value for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Answered(int(lines[0].split(" ")[1]), headers, body)
    finally:
        writer.transport.abort()


def request_head(path: str, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Authorization: Bearer {KEY}", *fields]
    return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode()


@pytest.mark.parametrize("path", PATHS)
async def test_too_large_by_its_own_word(
    start: Start, upstream: ScriptedUpstream, path: str
) -> None:
    """A Content-Length beyond the limit is refused with none of the body sent."""
    gateway = await serve(start, upstream)
    answer = await exchange(gateway, request_head(path, "Content-Length: 16385"))
    code = "body_too_large" if path == V1 else "VALIDATION_INVALID_BODY"
    check(answer, path, 413, code, authenticated=True)


@pytest.mark.parametrize("path", PATHS)
async def test_too_large_without_a_word(
    start: Start, upstream: ScriptedUpstream, path: str
) -> None:
    """A chunked body beyond the limit is refused before its end."""
    gateway = await serve(start, upstream)
    chunked = request_head(path, "Transfer-Encoding: chunked") + b"5000\r\n" + b" " * 0x5000
    answer = await exchange(gateway, chunked + b"\r\n")
    code = "body_too_large" if path == V1 else "VALIDATION_INVALID_BODY"
    check(answer, path, 413, code, authenticated=True)


@pytest.mark.parametrize("path", PATHS)
async def test_body_that_stops_half_way(
    start: Start, upstream: ScriptedUpstream, path: str
) -> None:
    """A client that does not go on is told so after `body_timeout`."""
    gateway = await serve(start, upstream, body_timeout="300ms")
    answer = await exchange(gateway, request_head(path, "Content-Length: 100") + b'{"mess')
    code = "validation_error" if path == V1 else "VALIDATION_INVALID_BODY"
    check(answer, path, 400, code, authenticated=True)


async def test_client_that_leaves_half_way(start: Start, upstream: ScriptedUpstream) -> None:
    """A client that hangs up within its own request is in the log as one that has gone."""
    gateway = await serve(start, upstream)
    host, port = gateway.url.removeprefix("http://").rsplit(":", 1)
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_head(V2, "Content-Length: 100") + b'{"mess')
    await writer.drain()
    await eventually(lambda: gateway.gateway.limiter.subjects == 1)
    writer.transport.abort()
    await eventually(lambda: bool(gateway.log_lines()))
    (line,) = gateway.log_lines()
    assert line["outcome"] == "client_gone"


# Paths and methods.


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/nothing", "not_found"),
        ("/api/v1/chat/", "not_found"),
        ("/api/v2/nothing", "RESOURCE_NOT_FOUND"),
        ("/api/v2/agents//chat", "RESOURCE_NOT_FOUND"),
        ("/", "RESOURCE_NOT_FOUND"),
        ("/metrics", "RESOURCE_NOT_FOUND"),
        ("/healthz", "RESOURCE_NOT_FOUND"),
        ("/../etc/passwd", "RESOURCE_NOT_FOUND"),
        ("/%00%ff", "RESOURCE_NOT_FOUND"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_path(
    start: Start, upstream: ScriptedUpstream, method: str, path: str, code: str
) -> None:
    """404, in v1's words under /api/v1/ and in v2's elsewhere; the admin's paths are not here."""
    gateway = await serve(start, upstream)
    answer = await gateway.request(method, path)
    like = V1 if path.startswith("/api/v1/") else V2
    check(answer, like, 404, code, authenticated=False)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
async def test_wrong_method(
    start: Start, upstream: ScriptedUpstream, method: str, path: str
) -> None:
    """405, with the methods that there are."""
    gateway = await serve(start, upstream)
    answer = await gateway.request(method, path)
    code = "method_not_allowed" if path == V1 else "METHOD_NOT_ALLOWED"
    check(answer, path, 405, code, authenticated=False)
    assert answer.headers["allow"] == "POST"


async def test_head(start: Start, upstream: ScriptedUpstream) -> None:
    """HEAD is answered as GET is, without a body."""
    gateway = await serve(start, upstream)
    for path, status in ((V2, 405), ("/nothing", 404), ("/api/v2/health", 200)):
        answer = await gateway.request("HEAD", path)
        assert (answer.status, answer.body) == (status, b"")
        assert answer.headers["x-request-id"]


async def test_health(start: Start, upstream: ScriptedUpstream) -> None:
    """v2's own health path needs no key, and takes part in nothing."""
    gateway = await serve(start, upstream)
    answer = await gateway.request("GET", "/api/v2/health", key=None)
    assert answer.status == 200
    assert answer.json["status"] == "ok"
    assert isinstance(answer.json["timestamp"], int)
    assert answer.headers["x-request-id"]


async def test_unknown_expectation(start: Start, upstream: ScriptedUpstream) -> None:
    """An `Expect` that nobody knows is ignored."""
    gateway = await serve(start, upstream)
    answer = await exchange(
        gateway, request_head(V2, "Expect: miracles", "Content-Length: 2") + b"{}"
    )
    check(answer, V2, 400, "VALIDATION_INVALID_BODY", authenticated=True)


async def test_expect_continue(start: Start, upstream: ScriptedUpstream) -> None:
    """curl asks before it sends a large body: it is told to go on."""
    gateway = await serve(start, upstream)
    answer = await exchange(gateway, request_head(V2, "Expect: 100-continue", "Content-Length: 2"))
    assert answer.status == 100


# Request ids.


@pytest.mark.parametrize("given", ["trace-1", "a.b:c_D-9", "x" * 128])
async def test_request_id_is_kept(start: Start, upstream: ScriptedUpstream, given: str) -> None:
    """A caller's own id is on the answer, in the log, and at the upstream."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream)
    for answer in (
        await gateway.post(V2, body_for(V2), X_Request_Id=given),
        await gateway.request("GET", "/nothing", X_Request_Id=given),
    ):
        assert answer.headers["x-request-id"] == given
    assert upstream.requests[0].headers["x-request-id"] == given
    assert [line["request_id"] for line in gateway.log_lines()] == [given, given]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, '"quoted"', "é", "a\tb"])
async def test_request_id_that_could_forge(
    start: Start, upstream: ScriptedUpstream, given: str
) -> None:
    """An id that is not well-formed is replaced."""
    gateway = await serve(start, upstream)
    answer = await gateway.request("GET", "/nothing", X_Request_Id=given)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_keys_differ() -> None:
    """The keys above are not one another's, or the tests would pass by accident."""
    assert len({KEY, *KEYS.values()}) == 5
    assert KEY_HASH not in MORE
