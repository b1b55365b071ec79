"""Who may ask what: keys, signed keys, public agents and their origins, and the limits of each."""

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web

from gateway.auth.mint import key_hash
from gateway.core.events import Json
from gateway.proxy.admission import network
from gateway.wire import json
from tests.auth.signers import changed, key_set, signer
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, Answered, Running, config
from tests.e2e.scripted import PATIENCE, Hang, ScriptedUpstream, openai_text

V1, V2 = "/api/v1/chat", "/api/v2/agents/1/chat"
SITE, OTHER_SITE = "https://www.acme.example", "https://evil.example"

TIERS = """
[limits.tiers.widget]
requests = "3/1h"
concurrency = 1
[limits.tiers.small]
requests = "5/1h"
[limits.tiers.one]
requests = "100/1s"
concurrency = 2
"""
AGENTS = """
[[agents]]
id = 2
workspace = "acme"
name = "Second"
targets = [ { upstream = "main", model = "m" } ]
public = { origins = ["https://www.acme.example"], tier = "widget" }
[[agents]]
id = 3
workspace = "acme"
name = "Open"
identity_secret = { env = "IDENTITY" }
targets = [ { upstream = "main", model = "m" } ]
public = { origins = ["*"], tier = "standard" }
"""


def key_entry(key: str, more: str, tier: str = "standard") -> str:
    """One entry of the config."""
    hashed = key_hash(key)
    return (
        f'[[keys]]\nid = "shared"\nhash = "{hashed}"\nworkspace = "acme"\ntier = "{tier}"\n{more}\n'
    )


@pytest.fixture
async def answering(upstream: ScriptedUpstream) -> ScriptedUpstream:
    upstream.answers(openai_text("Hi"))
    return upstream


async def serve(start: Start, upstream: ScriptedUpstream, more: str = "") -> Running:
    text = config(upstream.url, more=TIERS + AGENTS + more)
    return await start(text, IDENTITY="identity-secret")


# Keys.


async def test_scope(start: Start, answering: ScriptedUpstream) -> None:
    """A key for some agents is for those; any agent of another workspace does not exist for it."""
    key = "oc_live_scoped_0123456789"
    gateway = await serve(start, answering, key_entry(key, "agents = [2]"))
    body: Json = {"message": "hi"}
    statuses = [
        (await gateway.post(f"/api/v2/agents/{agent}/chat", body, key)).status
        for agent in ("2", "Second", "1", "9")
    ]
    assert statuses == [200, 200, 403, 404]


async def test_rotation(start: Start, answering: ScriptedUpstream) -> None:
    """Old and new key of one id are both good while both stand there, and share one bucket."""
    old, new = "oc_live_old_0123456789", "oc_live_new_0123456789"
    entries = key_entry(old, "", "small") + key_entry(new, "", "small")
    gateway = await serve(start, answering, entries)
    left = [
        (await gateway.post(V2, {"message": "hi"}, key)).headers["x-ratelimit-remaining"]
        for key in (old, new, old, new)
    ]
    assert left == ["4", "3", "2", "1"]


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ('expires = "2001-01-01T00:00:00Z"', 401),
        ('expires = "2901-01-01T00:00:00+02:00"', 200),
        ("disabled = true", 401),
        ("disabled = false", 200),
    ],
)
async def test_key_that_ended(
    start: Start, answering: ScriptedUpstream, entry: str, status: int
) -> None:
    """An expired or disabled key is refused; the log names neither it nor its hash."""
    key = "oc_live_ended_0123456789"
    gateway = await serve(start, answering, key_entry(key, entry))
    assert (await gateway.post(V2, {"message": "hi"}, key)).status == status
    assert b"ended_0123" not in gateway.log.getvalue()
    assert key_hash(key).encode() not in gateway.log.getvalue()


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic b2M6b2M=",
        "Bearer",
        "Bearer  ",
        KEY,
        f"Bearer {KEY} x",
        f"Bearer {KEY},",
        f"Token {KEY}",
        "Bearer " + "oc_test_" + "x" * 5000,
    ],
)
async def test_authorization_of_another_form(
    start: Start, answering: ScriptedUpstream, authorization: str
) -> None:
    """What is no Bearer key is a 401, in v1 as well: a wrong key is not a missing one."""
    gateway = await serve(start, answering)
    body: Json = {"agentId": 3, "message": "hi"}
    for path in (V1, V2):
        answer = await gateway.post(path, body, None, Authorization=authorization, Origin=SITE)
        assert answer.status == 401
    assert not answering.requests


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
async def test_scheme_in_any_case(start: Start, answering: ScriptedUpstream, scheme: str) -> None:
    """RFC 9110: the name of a scheme has no case."""
    gateway = await serve(start, answering)
    answer = await gateway.post(V2, {"message": "hi"}, None, Authorization=f"{scheme} {KEY}")
    assert answer.status == 200


# Signed keys.

SIGNER = signer("EdDSA")


def token(**claims: Json) -> str:
    claims = {"tier": "standard", "exp": int(time.time()) + 600, **claims}
    return "oc_live_" + SIGNER.sign(changed(claims), {"kid": "k1"})


async def test_signed_key(start: Start, answering: ScriptedUpstream) -> None:
    """A token that the configured key verifies is a key; expired or altered it is none."""
    auth = """
[[auth.signing_keys]]
id = "k1"
algorithm = "EdDSA"
public_key = { env = "PEM" }
workspaces = ["acme"]
"""
    text = config(answering.url, more=TIERS + auth)
    gateway = await start(text, PEM=SIGNER.public)

    async def status(key: str) -> tuple[int, str]:
        answer = await gateway.post(V2, {"message": "hi"}, key)
        return answer.status, str(answer.error["code"]) if answer.status != 200 else ""

    good = token()
    invalid = (401, "AUTH_INVALID_API_KEY")
    assert await status(good) == (200, "")
    assert await status(good[:-4] + "AAAA") == invalid
    assert await status(token(exp=int(time.time()) - 1)) == invalid
    assert await status(token(workspace="globex")) == invalid
    assert await status(token(agents=[2])) == (403, "AUTH_INSUFFICIENT_PERMISSIONS")
    assert await status(token(agents=[1])) == (200, "")
    assert good.encode() not in gateway.log.getvalue()


async def test_user_of_a_signed_key(start: Start, answering: ScriptedUpstream) -> None:
    """A token for one user speaks for that user, and for no other."""
    auth = """
[[auth.signing_keys]]
id = "k1"
algorithm = "EdDSA"
public_key = { env = "PEM" }
workspaces = ["acme"]
"""
    gateway = await start(config(answering.url, more=auth), PEM=SIGNER.public)
    key = token(user="u1")
    quiet = await gateway.post(V2, {"message": "hi"}, key)
    named = await gateway.post(V2, {"message": "hi", "userId": "u1"}, key)
    for answer in (quiet, named):
        finish = json.mapping(answer.frames[-2][1])
        assert json.mapping(finish["metadata"])["userId"] == "u1"
    other = await gateway.post(V2, {"message": "hi", "userId": "u2"}, key)
    assert (other.status, other.error["code"]) == (403, "AUTH_INSUFFICIENT_PERMISSIONS")


async def test_a_signed_key_for_one_user_sees_no_other_users_conversations(
    start: Start, answering: ScriptedUpstream
) -> None:
    """Another user's conversation does not exist for it; its own goes on."""
    gateway = await start(
        config(
            answering.url,
            more="""
[[auth.signing_keys]]
id = "k1"
algorithm = "EdDSA"
public_key = { env = "PEM" }
workspaces = ["acme"]
""",
        ),
        PEM=SIGNER.public,
    )

    async def conversation_of(user: str) -> Json:
        answer = await gateway.post(V2, {"message": "hi", "userId": user}, KEY)
        return json.mapping(json.mapping(answer.frames[-2][1])["metadata"])["conversationId"]

    async def status(conversation: Json) -> int:
        body: Json = {"message": "hi", "conversationId": conversation}
        return (await gateway.post(V2, body, token(user="alice"))).status

    assert await status(await conversation_of("alice")) == 200
    assert await status(await conversation_of("bob")) == 404


class KeyServer:
    """Publishes a key set, as an identity provider does."""

    def __init__(self) -> None:
        self.body = key_set(SIGNER.published())
        self.asked = 0
        self.url = ""

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self.body, content_type="application/json")


@pytest.fixture
async def key_server() -> AsyncIterator[KeyServer]:
    server = KeyServer()
    app = web.Application()
    app.router.add_get("/jwks.json", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
    yield server
    await runner.cleanup()


async def test_key_set_at_a_url(
    start: Start, answering: ScriptedUpstream, key_server: KeyServer
) -> None:
    """The keys of a set are fetched at the start, and verify without asking again."""
    auth = f"""
[[auth.jwks]]
url = "{key_server.url}"
algorithms = ["EdDSA"]
workspaces = ["acme"]
"""
    gateway = await start(config(answering.url, more=auth))
    async with asyncio.timeout(PATIENCE):
        while (answer := await gateway.post(V2, {"message": "hi"}, token())).status != 200:
            assert answer.status == 401
            await asyncio.sleep(0.01)
    for _ in range(5):
        assert (await gateway.post(V2, {"message": "hi"}, token())).status == 200
    stranger = "oc_live_" + signer("EdDSA", 1).token(exp=int(time.time()) + 60)
    assert (await gateway.post(V2, {"message": "hi"}, stranger)).status == 401
    assert key_server.asked == 1


async def test_key_set_in_a_file(start: Start, answering: ScriptedUpstream, tmp_path: Path) -> None:
    """A set may stand in a file beside the config."""
    (tmp_path / "keys.json").write_bytes(key_set(SIGNER.published()))
    auth = '[[auth.jwks]]\nfile = "keys.json"\nalgorithms = ["EdDSA"]\nworkspaces = ["acme"]\n'
    gateway = await start(config(answering.url, more=auth))
    assert (await gateway.post(V2, {"message": "hi"}, token())).status == 200


# Public agents.


async def say(gateway: Running, agent: int = 2, origin: str | None = SITE) -> Answered:
    headers = {"Origin": origin} if origin else {}
    return await gateway.post(V1, {"agentId": agent, "message": "hi"}, None, **headers)


async def test_origins(start: Start, answering: ScriptedUpstream) -> None:
    """Without a key v1 answers pages of the agent's origins, and nobody else."""
    gateway = await serve(start, answering)
    assert (await say(gateway)).text == "Hi"
    for origin in (OTHER_SITE, None, "null", SITE + ".evil.example", SITE.upper(), SITE + ":8443"):
        answer = await say(gateway, origin=origin)
        assert (answer.status, answer.error["code"]) == (403, "forbidden"), origin
    closed = await say(gateway, agent=1)
    assert (closed.status, closed.error["code"]) == (401, "unauthorized")
    unknown = await say(gateway, agent=99)
    assert (unknown.status, unknown.error["code"]) == (404, "agent_not_found")
    keyless_v2 = await gateway.post("/api/v2/agents/2/chat", {"message": "hi"}, None, Origin=SITE)
    assert keyless_v2.status == 401
    assert len(answering.requests) == 1


async def test_any_origin(start: Start, answering: ScriptedUpstream) -> None:
    """ "*" admits every page, and what is none."""
    gateway = await serve(start, answering)
    for origin in (OTHER_SITE, "null", None):
        assert (await say(gateway, agent=3, origin=origin)).status == 200


async def test_key_from_any_page(start: Start, answering: ScriptedUpstream) -> None:
    """A key is good whatever page it comes from: a key is not bound to origins."""
    gateway = await serve(start, answering)
    answer = await gateway.post(V1, {"agentId": 2, "message": "hi"}, Origin=OTHER_SITE)
    assert answer.status == 200


def _restricted() -> str:
    """`AGENTS` without the one that admits every page."""
    return AGENTS.partition("[[agents]]\nid = 3")[0]


async def _restrictive(start: Start, upstream: ScriptedUpstream) -> Running:
    return await start(config(upstream.url, more=TIERS + _restricted()))


@pytest.mark.parametrize("path", [V1, V2])
async def test_preflight(start: Start, answering: ScriptedUpstream, path: str) -> None:
    """What a browser asks before it sends JSON to another origin."""
    gateway = await _restrictive(start, answering)
    asked = {
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Headers": "content-type,authorization",
    }
    answer = await gateway.request("OPTIONS", path, key=None, Origin=SITE, **asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == SITE
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert {"content-type", "authorization"} <= set(allowed.split(", "))
    assert int(answer.headers["access-control-max-age"]) > 60
    assert "origin" in answer.headers["vary"].lower()
    assert answer.headers["x-request-id"]
    assert "access-control-allow-credentials" not in answer.headers

    refused = await gateway.request("OPTIONS", path, key=None, Origin=OTHER_SITE, **asked)
    assert "access-control-allow-origin" not in refused.headers
    assert "origin" in refused.headers["vary"].lower()


async def test_cors_headers(start: Start, answering: ScriptedUpstream) -> None:
    """A page may read answers, errors included, and the headers that a widget needs; every answer
    says that it differs by origin."""
    gateway = await _restrictive(start, answering)
    body: Json = {"agentId": 2, "message": "hi"}
    answers = [
        (await gateway.post(V1, body, None, Origin=SITE), 200),
        (await gateway.post(V1, {}, None, Origin=SITE), 400),
        (await gateway.post(V1, body, "oc_test_wrong", Origin=SITE), 401),
        (await gateway.post("/api/v1/nothing", body, None, Origin=SITE), 404),
        (await gateway.post(V1, body, None, Origin=SITE, Content_Type="text/plain"), 415),
    ]
    for answer, status in answers:
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == SITE
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {"x-request-id", "retry-after", "x-ratelimit-reset"} <= set(exposed.split(", "))
        assert "origin" in answer.headers["vary"].lower()
    for origin in ({"Origin": OTHER_SITE}, {}):
        answer = await gateway.post(V1, body, None, **origin)
        assert "access-control-allow-origin" not in answer.headers
        assert "origin" in answer.headers["vary"].lower()


async def test_limit_per_address(start: Start, answering: ScriptedUpstream) -> None:
    """A visitor's address has the tier to itself, whatever origin, for each agent."""
    gateway = await serve(start, answering)
    answers = [await say(gateway) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [a.headers["x-ratelimit-remaining"] for a in answers] == ["2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.error["code"] == "rate_limited"
    assert int(refused.headers["retry-after"]) <= 1200
    assert refused.headers["access-control-allow-origin"] == SITE
    assert (await say(gateway, agent=3)).status == 200
    assert (await gateway.post(V1, {"agentId": 2, "message": "hi"})).status == 200


async def test_an_address_is_not_a_header(start: Start, answering: ScriptedUpstream) -> None:
    """Nobody gets another bucket by claiming another address."""
    gateway = await serve(start, answering)
    statuses = []
    for number in range(4):
        forged = f"198.51.100.{number}"
        answer = await gateway.post(
            V1,
            {"agentId": 2, "message": "hi"},
            None,
            Origin=SITE,
            X_Forwarded_For=forged,
            X_Real_IP=forged,
            Forwarded=f"for={forged}",
        )
        statuses.append(answer.status)
    assert statuses == [200, 200, 200, 429]


def test_ipv6_is_limited_by_network() -> None:
    """One visitor has 2^64 addresses of IPv6 and counts as one; another network is another."""
    first = {network(f"2001:db8:1:2::{n:x}") for n in (1, 2, 0xFFFF)} | {
        network("2001:db8:1:2:ffff:ffff:ffff:ffff"),
        network("2001:db8:1:2::1%eth0"),
    }
    assert first == {"2001:db8:1:2::/64"}
    assert network("2001:db8:1:3::1") != first.pop()
    assert network("198.51.100.7") == "198.51.100.7"
    assert network("") == ""


async def test_ipv6(start: Start, answering: ScriptedUpstream) -> None:
    """An IPv6 listener serves, prints an address that clients take, and limits by network."""
    text = config(answering.url, more=TIERS + AGENTS)
    text = text.replace("[server]", '[server]\nhost = "::1"')
    gateway = await start(text, IDENTITY="identity-secret")
    assert gateway.url.startswith("http://[::1]:")
    assert [(await say(gateway)).status for _ in range(4)] == [200, 200, 200, 429]


# Widget identity.


@pytest.mark.parametrize("key", [None, KEY])
async def test_identity(start: Start, answering: ScriptedUpstream, key: str | None) -> None:
    """Where the agent has a secret, v1's `user_id` needs its HMAC, with a key or without."""
    gateway = await serve(start, answering)
    good = hmac.new(b"identity-secret", b"u1", sha256).hexdigest()

    async def status(**who: Json) -> int:
        body: Json = {"agentId": 3, "message": "hi", **who}
        return (await gateway.post(V1, body, key, Origin=SITE)).status

    assert await status() == 200
    assert await status(user_id="u1", user_hash=good) == 200
    assert await status(user_id="u1", user_hash=good.upper()) == 200
    assert await status(user_id="u1") == 403
    assert await status(user_id="u2", user_hash=good) == 403
    assert await status(user_id="u1", user_hash="0" * 64) == 403
    assert await status(user_id="u1", user_hash="") == 400
    assert await status(user_id="u1", user_hash=good, user_metadata={"plan": "pro"}) == 200


async def test_an_identified_users_conversation_needs_the_identity(
    start: Start, answering: ScriptedUpstream
) -> None:
    """Who knows its id only, and not the user's hash, does not get on with it."""
    gateway = await serve(start, answering)
    good = hmac.new(b"identity-secret", b"u1", sha256).hexdigest()
    who: dict[str, Json] = {"user_id": "u1", "user_hash": good}
    body: dict[str, Json] = {"agentId": 3, "message": "hi"}
    first = await gateway.post(V1, {**body, **who}, None, Origin=SITE)
    body["conversationId"] = json.mapping(first.frames[-1][1])["conversationId"]

    assert (await gateway.post(V1, {**body, **who}, None, Origin=SITE)).status == 200
    assert (await gateway.post(V1, body, None, Origin=SITE)).status == 404


# Limits.


async def test_burst(start: Start, answering: ScriptedUpstream) -> None:
    """Of capacity + 5 requests at once, capacity are served."""
    key = "oc_live_burst_0123456789"
    gateway = await serve(start, answering, key_entry(key, "", "small"))
    answers = await asyncio.gather(*(gateway.post(V2, {"message": "hi"}, key) for _ in range(10)))
    assert Counter(answer.status for answer in answers) == {200: 5, 429: 5}
    left = [int(a.headers["x-ratelimit-remaining"]) for a in answers if a.status == 200]
    assert sorted(left) == [0, 1, 2, 3, 4]
    now = time.time()
    for answer in answers:
        assert answer.headers["x-ratelimit-limit"] == "5"
        assert now < int(answer.headers["x-ratelimit-reset"]) <= now + 3602
    refused = [a for a in answers if a.status == 429]
    assert all(0 < int(a.headers["retry-after"]) <= 720 for a in refused)
    assert len(answering.requests) == 5


async def test_refused_requests_count_too(start: Start, answering: ScriptedUpstream) -> None:
    """A 400 takes a token like a 200: nobody tries things out for nothing."""
    key = "oc_live_burst_0123456789"
    gateway = await serve(start, answering, key_entry(key, "", "small"))
    statuses = [(await gateway.post(V2, b"{", key)).status for _ in range(6)]
    assert statuses == [400] * 5 + [429]


async def test_concurrency(start: Start, upstream: ScriptedUpstream) -> None:
    """No more than so many turns are open at once; one that ends makes room."""
    upstream.answers([Hang], [Hang], openai_text("Hi"))
    key = "oc_live_slots_0123456789"
    gateway = await serve(start, upstream, key_entry(key, "", "one"))
    async with gateway.raw(V2, {"message": "hi"}, key):
        async with gateway.raw(V2, {"message": "hi"}, key):
            await upstream.until_requests(2)
            refused = await gateway.post(V2, {"message": "hi"}, key)
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert refused.error["code"] == "RATE_LIMIT_TOO_MANY_REQUESTS"
        await upstream.until_open(1)
        assert (await gateway.post(V2, {"message": "hi"}, key)).status == 200


async def test_limits_are_each_key_s_own(start: Start, answering: ScriptedUpstream) -> None:
    """One key's flood costs another nothing."""
    key = "oc_live_burst_0123456789"
    gateway = await serve(start, answering, key_entry(key, "", "small"))
    for _ in range(6):
        await gateway.post(V2, {"message": "hi"}, key)
    assert (await gateway.chat_v2()).status == 200
