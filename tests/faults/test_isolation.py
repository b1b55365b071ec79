"""What a client sends never reaches an upstream but as the text of its turn."""

import pytest

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, config
from tests.e2e.scripted import ScriptedUpstream, openai_text

OURS = {
    "host",
    "user-agent",
    "accept",
    "accept-encoding",
    "content-type",
    "content-length",
    "x-request-id",
}
CANARY = "canary-7f3a"


async def test_no_header_of_the_caller_passes(start: Start, upstream: ScriptedUpstream) -> None:
    """The upstream gets the gateway's own headers, exactly these."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    answer = await gateway.post(
        "/api/v2/agents/1/chat",
        {"message": "hi"},
        Cookie=f"session={CANARY}",
        Accept_Encoding="gzip, br",
        X_Forwarded_For=CANARY,
        X_Forwarded_Host=CANARY,
        Forwarded=f"for={CANARY}",
        Connection="keep-alive, X-Hop",
        X_Hop=CANARY,
        X_Api_Key=CANARY,
        Origin=f"https://{CANARY}.example",
        Referer=f"https://{CANARY}.example",
        User_Agent=CANARY,
        X_Request_Id="trace-1",
    )

    assert answer.text == "Hello"
    sent = upstream.requests[0]
    assert set(sent.headers) == OURS
    assert CANARY not in str(sent)
    assert KEY not in str(sent)
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.headers["x-request-id"] == "trace-1"
    assert sent.headers["host"] == upstream.url.removeprefix("http://")


async def test_the_upstreams_credential_is_the_only_one(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """It comes from the environment, and neither logs nor metrics nor answers show it."""
    upstream.answers(openai_text("Hello"))
    more = 'credential = { env = "UPSTREAM_KEY" }\nheaders = { X-Team = "support" }'
    gateway = await start(config(upstream.url, upstream=more), UPSTREAM_KEY=CANARY)
    answer = await gateway.chat_v2()

    headers = upstream.requests[0].headers
    assert set(headers) == OURS | {"authorization", "x-team"}
    assert headers["authorization"] == f"Bearer {CANARY}"
    shown = f"{answer} {gateway.log_lines()} {await gateway.metrics()}"
    assert CANARY not in shown
    assert KEY not in shown


FIELDS: dict[str, Json] = {
    name: "http://127.0.0.1:1/" + CANARY
    for name in ("api_base", "base_url", "url", "endpoint", "upstream", "proxy", "api_key")
}


@pytest.mark.parametrize("nested", [False, True])
async def test_no_field_changes_where_the_request_goes(
    nested: bool, start: Start, upstream: ScriptedUpstream
) -> None:
    """Fields that other gateways obey are unknown here, on top and inside of others."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url + "/v1"))
    extra: dict[str, Json] = {"extra_body": FIELDS, "metadata": FIELDS} if nested else FIELDS
    for path in ("/api/v2/agents/1/chat", f"/api/v2/agents/1/chat?api_base=http://{CANARY}"):
        await gateway.post(path, {"message": "hi", **extra}, Host=f"{CANARY}.example")

    for sent in upstream.requests:
        assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
        assert CANARY not in str(sent)


@pytest.mark.parametrize("agent", ["1%2F..%2F..%2Fadmin", "..%2f..%2f", "1%0d%0aX-Evil:%201"])
async def test_no_path_of_the_caller_reaches_the_upstream(
    agent: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """An agent's name is looked up, never written into a URL."""
    gateway = await start(config(upstream.url))
    async with gateway.raw(f"/api/v2/agents/{agent}/chat", {"message": "hi"}) as (reader, _):
        answer = await reader.readuntil(b"}}")

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert upstream.accepted == 0


@pytest.mark.parametrize("forged", ["a b", "x" * 129, "é", 'a"b', "a,b"])
async def test_a_request_id_that_could_forge_a_line_is_not_taken(
    forged: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """It gets one of ours instead."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    await gateway.post("/api/v2/agents/1/chat", {"message": "hi"}, X_Request_Id=forged)

    assert len(upstream.requests[0].headers["x-request-id"]) == 32
