"""What the admin listener says of a running gateway, and to whom."""

import asyncio
from pathlib import Path

import pytest

from gateway.config.problems import ConfigError
from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.reloading import following
from tests.e2e.running import KEY, KEY_HASH, ONCE, Running, config, eventually
from tests.e2e.scripted import Hang, ScriptedUpstream, document, openai_text, said

V2 = "/api/v2/agents/1/chat"
TOKEN = "canary-token-of-the-operators"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRETS = ("canary", KEY, KEY_HASH.removeprefix("sha256:"))

Document = dict[str, Json]


async def ask(gateway: Running, path: str, token: str | None = None) -> tuple[int, Document]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = gateway.gateway.admin.url + path
    async with gateway.session.get(url, headers=headers) as response:
        assert response.content_type == "application/json"
        body = await response.read()
        for secret in SECRETS:
            assert secret.encode() not in body
        return response.status, json.mapping(json.loads(body))


async def status(gateway: Running) -> Document:
    code, document = await ask(gateway, "/status")
    assert code == 200
    return document


def only(value: Json) -> Document:
    (one,) = json.array(value)
    return json.mapping(one)


def part(document: Document, *path: str) -> Document:
    for name in path:
        document = json.mapping(document[name])
    return document


async def test_a_gateway_that_has_just_begun(start: Start, upstream: ScriptedUpstream) -> None:
    """What it is, and what its file says."""
    gateway = await start(config(upstream.url, upstream="max_streams = 7"))
    found = await status(gateway)

    assert found["draining"] is False
    assert part(found, "config")["number"] == 1
    assert part(found, "config")["last_reload"] is None
    assert only(found["agents"]) == {
        "id": 1,
        "name": "Support",
        "workspace": "acme",
        "targets": [{"target": "main/m"}],
        "open_turns": 0,
        "turns": 0,
        "failed": 0,
        "outcomes": {},
    }
    assert only(found["targets"]) == {
        "target": "main/m",
        "upstream": "main",
        "breaker": "closed",
        "opened": 0,
        "streams": 0,
        "max_streams": 7,
        "queue": 0,
    }
    assert only(found["upstreams"]) == {
        "upstream": "main",
        "kind": "openai",
        "healthy": None,
        "connections": {"active": 0, "idle": 0},
    }
    assert found["requests"] == {"open": 0, "oldest": []}
    assert found["limits"] == {"buckets": 0, "with_open_turns": 0}
    assert found["recent_errors"] == []


async def test_a_stream_that_is_open(start: Start, upstream: ScriptedUpstream) -> None:
    """Whose it is, where it is, and how far."""
    upstream.answers([*said("canary ", "canary", "!"), Hang])
    gateway = await start(config(upstream.url))
    sent: Json = {"message": "a canary question"}
    async with gateway.raw(V2, sent, X_Request_Id="r-1") as (reader, _):
        await reader.readuntil(b"!")
        found = await status(gateway)
        one = only(part(found, "requests")["oldest"])
        age = one.pop("age")
        assert one == {
            "request_id": "r-1",
            "dialect": "bookbag-v2",
            "operation": "chat",
            "agent": "1",
            "target": "main/m",
            "stream": True,
            "doing": "answering",
            "events": 3,
        }
        assert isinstance(age, float)
        assert 0 < age < 60
        assert only(found["agents"])["open_turns"] == 1
        assert only(found["targets"])["streams"] == 1
        assert only(found["upstreams"])["connections"] == {"active": 1, "idle": 0}
        assert part(found, "limits") == {"buckets": 1, "with_open_turns": 1}
        code, by_id = await ask(gateway, "/status/requests/r-1")
        assert (code, only(by_id["open"])["events"], by_id["failed"]) == (200, 3, [])
    await gateway.settled()
    assert part(await status(gateway), "requests")["open"] == 0


async def test_turns_that_wait(start: Start, upstream: ScriptedUpstream) -> None:
    """For an upstream that is silent, and for a place at it: they are told apart from those that
    send their bodies still."""
    upstream.answers([Hang])
    gateway = await start(config(upstream.url, upstream="max_streams = 1"))
    async with gateway.raw(V2, {"message": "hi"}), gateway.raw(V2, {"message": "hi"}):
        await upstream.until_requests(1)
        (target,) = gateway.gateway.states
        await eventually(lambda: target.slots.waiting == 1)
        found = await status(gateway)
        oldest = [json.mapping(one) for one in json.array(part(found, "requests")["oldest"])]
        assert [(one["doing"], one["target"]) for one in oldest] == [
            ("asking", "main/m"),
            ("asking", ""),
        ]
        assert only(found["targets"])["queue"] == 1
        _, writer = await asyncio.open_connection(*gateway.gateway.public.url[7:].split(":"))
        head = f"POST {V2} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        writer.write(f"{head}Content-Length: 9\r\n\r\n{{".encode())
        await eventually(lambda: len(gateway.gateway.ledger.open) == 3)
        newest = json.array(part(await status(gateway), "requests")["oldest"])[-1]
        assert json.mapping(newest)["doing"] == "reading"
        writer.transport.abort()
    await gateway.settled()


async def test_no_more_than_the_oldest(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many requests are open, those that came first are shown, and all are counted."""
    monkeypatch.setattr("gateway.admin.status._OLDEST", 2)
    upstream.answers([Hang])
    gateway = await start(config(upstream.url))
    turns = []
    for number in range(4):
        turns.append(asyncio.ensure_future(gateway.chat_v2()))
        await upstream.until_requests(number + 1)
    requests = part(await status(gateway), "requests")
    shown = [json.mapping(one) for one in json.array(requests["oldest"])]
    assert requests["open"] == 4
    assert len(shown) == 2
    ages = [json.amount(one["age"]) or 0 for one in shown]
    assert ages == sorted(ages, reverse=True)
    for turn in turns:
        turn.cancel()
    await asyncio.wait(turns)


async def test_errors_are_found_by_their_request(start: Start, upstream: ScriptedUpstream) -> None:
    """What failed, where and by whose fault, and no word of what was said."""
    upstream.answers(document({"error": {"message": "canary pod"}}, 500), openai_text("Hi"))
    gateway = await start(config(upstream.url, upstream=ONCE))
    await gateway.post(V2, {"message": "canary"}, X_Request_Id="r-failed")
    await gateway.post(V2, {"message": "canary"}, X_Request_Id="r-fine")
    trace = {"Traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    await gateway.post(V2, {"message": 1}, X_Request_Id="r-refused", **trace)
    found = await status(gateway)

    one = only(found["recent_errors"])
    assert json.text(one.pop("at")).endswith("Z")
    assert isinstance(one.pop("duration"), float)
    assert one == {
        "request_id": "r-failed",
        "dialect": "bookbag-v2",
        "operation": "chat",
        "agent": "1",
        "upstream": "main",
        "target": "main/m",
        "outcome": "upstream_failed",
        "fault": "upstream",
        "status": 502,
        "attempts": 1,
    }
    agent = only(found["agents"])
    assert (agent["turns"], agent["failed"]) == (2, 1)
    assert agent["outcomes"] == {"upstream_failed": 1, "complete": 1}
    code, by_id = await ask(gateway, "/status/requests/r-refused")
    assert (code, only(by_id["failed"])["outcome"]) == (200, "invalid_body")
    assert only(by_id["failed"])["trace_id"] == TRACE
    for unknown in ("r-fine", "nothing"):
        assert (await ask(gateway, f"/status/requests/{unknown}"))[0] == 404


async def test_a_client_that_has_left(start: Start, upstream: ScriptedUpstream) -> None:
    """The turn that goes on without it is open still, and says so; it is no failure."""
    upstream.answers([*said("Hi"), Hang])
    gateway = await start(config(upstream.url, agent='on_disconnect = "drain"\ndrain_max = "60s"'))
    async with gateway.raw(V2, {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hi")
    await eventually(lambda: gateway.gateway.ledger.open[0].outcome == "client_gone")
    one = only(part(await status(gateway), "requests")["oldest"])
    assert (one["client"], one["doing"]) == ("gone", "answering")
    assert only((await status(gateway))["agents"])["open_turns"] == 1


async def test_a_breaker_that_is_open(start: Start, upstream: ScriptedUpstream) -> None:
    """For how long it will be."""
    upstream.answers(document({}, 500))
    breaker = 'retries = 0\nbreaker = { failures = 1, open_for = "30s" }'
    gateway = await start(config(upstream.url, upstream=breaker))
    await gateway.chat_v2()
    target = only((await status(gateway))["targets"])
    left = json.amount(target["half_open_in"])
    assert (target["breaker"], target["opened"]) == ("open", 1)
    assert left is not None
    assert 0 < left <= 30


OTHER = """
[[agents]]
id = 2
workspace = "acme"
name = "Other"
targets = [ { upstream = "main", model = "m", max_streams = 3, weight = 2 } ]
"""


async def test_agents_that_share_a_target(start: Start, upstream: ScriptedUpstream) -> None:
    """It is listed once, with the limit that is met first."""
    gateway = await start(config(upstream.url, upstream="max_streams = 5", more=OTHER))
    found = await status(gateway)
    assert only(found["targets"])["max_streams"] == 3
    _, second = (json.mapping(agent) for agent in json.array(found["agents"]))
    assert second["targets"] == [{"target": "main/m", "weight": 2}]


async def test_health_where_it_is_checked(start: Start, upstream: ScriptedUpstream) -> None:
    """As the last checks found it."""
    checks = 'health = { path = "/models", interval = "10ms", failures = 1 }'
    gateway = await start(config(upstream.url, upstream=checks))
    checked = gateway.gateway.states.checked("main")
    upstream.answers(document({}, 503))
    await eventually(lambda: checked.down)
    assert only((await status(gateway))["upstreams"])["healthy"] is False
    upstream.answers(document({}, 200))
    await eventually(lambda: not checked.down)
    assert only((await status(gateway))["upstreams"])["healthy"] is True


async def test_what_a_key_has_left(start: Start, upstream: ScriptedUpstream) -> None:
    """Its bucket and its open turns; entries that share an id share them."""
    upstream.answers(openai_text("Hi"), [*said("Hi"), Hang])
    twin = f"""
[[keys]]
id = "e2e"
hash = "sha256:{"0" * 64}"
workspace = "acme"
tier = "standard"
disabled = true
"""
    tier = 'requests = "5/1h"\nconcurrency = 2'
    gateway = await start(config(upstream.url, tier=tier, more=twin))
    await gateway.chat_v2()
    async with gateway.raw(V2, {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hi")
        await ask(gateway, "/status/keys/e2e")  # to ask is not to take
        code, found = await ask(gateway, "/status/keys/e2e")
        first, second = (json.mapping(one) for one in json.array(found["entries"]))
    assert (code, found["key"]) == (200, "e2e")
    assert first["turns"] == {"open": 1, "limit": 2}
    assert (first["disabled"], second["disabled"]) == (False, True)
    assert first["requests"] == second["requests"]
    requests = part(first, "requests")
    assert (requests["limit"], requests["remaining"], requests["period"]) == (5, 3, 3600.0)
    assert 1400 < (json.amount(requests["full_in"]) or 0) <= 1440
    assert (await ask(gateway, "/status/keys/nobody"))[0] == 404


async def test_reloads_are_told(tmp_path: Path) -> None:
    """Which config is in force, and what came of the last reading."""
    text = config("", kind="echo", target="")
    async with following(tmp_path / "gateway.toml", text) as gateway:
        first = part(await status(gateway), "config")
        gateway.path.write_text(text.replace('"Support"', '"Desk"').replace("port = 0", "port = 1"))
        await gateway.reload()
        second = part(await status(gateway), "config")
        gateway.path.write_text(text.replace('name = "Support"', ""))
        await gateway.reload()
        found = await status(gateway)
    third = part(found, "config")
    numbers = [json.count(each["number"]) or 0 for each in (first, second, third)]
    assert 1 == numbers[0] < numbers[1] <= numbers[2]  # the file is watched as well
    assert first["digest"] != second["digest"] == third["digest"]
    last = part(second, "last_reload")
    assert (last["ok"], last["needs_restart"]) == (True, ["server.port", "admin.port"])
    last = part(third, "last_reload")
    assert last["ok"] is False
    assert only(last["problems"])["where"] == "agents[0].name (agent 1)"
    assert only(found["agents"])["name"] == "Desk"


async def test_tasks(start: Start, upstream: ScriptedUpstream) -> None:
    """Where the turns wait."""
    upstream.answers([Hang])
    gateway = await start(config(upstream.url))
    async with gateway.raw(V2, {"message": "a canary question"}):
        await upstream.until_requests(1)
        code, found = await ask(gateway, "/debug/tasks")
    groups = [json.mapping(one) for one in json.array(found["groups"])]
    places = [" ".join(map(str, json.array(group["stack"]))) for group in groups]
    assert code == 200
    assert any("gateway.proxy.pipeline" in place for place in places)


# Who is answered.


def with_token(text: str, secret: str = '{ env = "ADMIN" }') -> str:
    return text.replace("[admin]\n", f"[admin]\ntoken = {secret}\n")


async def test_a_token(start: Start, upstream: ScriptedUpstream) -> None:
    """Where the file names one, all but metrics and health needs it."""
    gateway = await start(with_token(config(upstream.url)), ADMIN=TOKEN)
    for path in ("/status", "/status/keys/e2e", "/status/requests/r", "/debug/tasks"):
        assert (await ask(gateway, path))[0] == 401
        assert (await ask(gateway, path, TOKEN[:-1]))[0] == 401
        assert (await ask(gateway, path, TOKEN))[0] in (200, 404)
    async with gateway.session.post(gateway.gateway.admin.url + "/reload") as response:
        assert response.status == 401
    assert await gateway.metrics()
    assert TOKEN not in repr(gateway.gateway.snapshot)
    assert TOKEN.encode() not in gateway.log.getvalue()


async def test_an_address_that_others_reach(start: Start, upstream: ScriptedUpstream) -> None:
    """Without a token only metrics and health are answered there; the log says so at the start."""
    text = config(upstream.url).replace("[admin]\n", '[admin]\nhost = "0.0.0.0"\n')
    gateway = await start(text)
    for path in ("/status", "/debug/tasks"):
        assert (await ask(gateway, path))[0] == 403
    assert await gateway.metrics()
    (line,) = (line for line in gateway.log_lines() if line["event"] == "admin_without_token")
    assert (line["host"], line["level"]) == ("0.0.0.0", "warning")
    assert line["answered"] == ["/metrics", "/healthz", "/readyz"]
    other = await start(with_token(text), ADMIN=TOKEN)
    assert (await ask(other, "/status", TOKEN))[0] == 200
    assert not [line for line in other.log_lines() if line["event"] == "admin_without_token"]


async def test_a_token_that_is_changed(tmp_path: Path) -> None:
    """A reload takes up the new one, also of a file that is only named."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    text = with_token(config("", kind="echo", target=""), '{ file = "token" }')
    async with following(tmp_path / "gateway.toml", text) as gateway:
        assert (await ask(gateway, "/status", TOKEN))[0] == 200
        (tmp_path / "token").write_text(f"another {TOKEN}\n")
        await gateway.until_reloads(1)
        assert (await ask(gateway, "/status", TOKEN))[0] == 401
        assert (await ask(gateway, "/status", f"another {TOKEN}"))[0] == 200


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("canary", "admin.token: expected at least 16 characters"),
        ("canary" * 3 + "\n", "line break"),
        ("", "not set or empty"),
    ],
)
async def test_a_token_that_is_no_use(start: Start, value: str, said: str) -> None:
    """It is refused at the start, and the message has nothing of it."""
    with pytest.raises(ValueError, match=said) as caught:
        await start(with_token(config("", kind="echo", target="")), ADMIN=value)
    assert "canary" not in str(caught.value)
    assert isinstance(caught.value, ConfigError) is (value != "canary")
