"""What operators see: metrics, health, logs, and that no secret is in any of them."""

import asyncio
import re
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.auth.mint import key_hash
from gateway.core.codec import UpstreamRequest
from gateway.core.events import Json
from gateway.upstreams import UPSTREAMS
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, KEY_HASH, Running, config, eventually
from tests.e2e.scripted import (
    END,
    Close,
    Hang,
    ScriptedUpstream,
    Wait,
    chunk,
    delta,
    document,
    finish,
    head,
    openai_text,
    sse,
)

V1, V2 = "/api/v1/chat", "/api/v2/agents/1/chat"

MORE = """
[limits.tiers.tiny]
requests = "1/1h"
[[agents]]
id = 2
workspace = "acme"
name = "Public"
identity_secret = { env = "IDENTITY" }
targets = [ { upstream = "main", model = "m" } ]
public = { origins = ["https://a.example"], tier = "standard" }
[upstreams.silent]
kind = "openai"
base_url = "URL"
timeouts = { first_event = "200ms" }
breaker = { enabled = false }
[[agents]]
id = 3
workspace = "acme"
name = "Silent"
targets = [ { upstream = "silent", model = "m" } ]
[[keys]]
id = "tiny"
hash = "TINY"
workspace = "acme"
tier = "tiny"
"""
TINY = "oc_live_tiny_canary_0123456789"


async def serve(start: Start, upstream: ScriptedUpstream) -> Running:
    text = config(
        upstream.url,
        upstream='credential = { env = "UPSTREAM_KEY" }\nbreaker = { enabled = false }',
        more=MORE.replace("TINY", key_hash(TINY)).replace("URL", upstream.url),
    )
    return await start(text, UPSTREAM_KEY="sk-canary-upstream", IDENTITY="canary-identity")


async def scrape(gateway: Running) -> list[Metric]:
    async with gateway.session.get(gateway.gateway.admin.url + "/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text = await response.text()
    return list(text_string_to_metric_families(text))


def ours(families: list[Metric]) -> Iterator[Metric]:
    return (family for family in families if family.name.startswith("oc_gateway_"))


async def mixed_load(gateway: Running, upstream: ScriptedUpstream) -> list[bytes]:
    """One of everything, with "canary" in every text, key and credential; the bodies of errors."""
    upstream.answers(
        openai_text("the canary ", "answer"),
        openai_text("the canary ", "answer"),
        document({"error": {"message": "canary pod"}}, 500),
        sse(delta("canary"), {"error": {"message": "canary pod"}}),
        [head(), chunk(b'data: {"choices":[{"delta":{"content":"canary"}}]}\n\n'), Close],
        [Hang],
        [head(), chunk(b"data: canary no json\n\n"), END],
        document({"error": {"message": "canary", "code": "x"}}, 429, Retry_After="3"),
        openai_text("the canary ", "answer"),
    )
    asked = "my canary question"
    await gateway.chat_v2(asked, userId="u-1")
    await gateway.chat_v1(asked, user_id="u-1")
    failed = [
        await gateway.chat_v2(asked),
        await gateway.chat_v2(asked, stream=False),
        await gateway.chat_v1(asked),
        await gateway.chat_v2(asked, agent=3),
        await gateway.chat_v2(asked),
        await gateway.chat_v2(asked),
        await gateway.post(V2, {"message": asked}, "oc_live_canary_unknown"),
        await gateway.post(V2, {"message": asked}, None, Cookie="canary=1"),
        await gateway.post(V2, b'{"canary": nonsense'),
        await gateway.chat_v2(asked, agent="canary-agent"),
        await gateway.chat_v1(asked, model="canary-model"),
        await gateway.chat_v1(asked, conversationId="canary"),
        await gateway.chat_v1(asked, agent=2, user_id="u-1", user_hash="canary" * 10),
        await gateway.post(V1, {"agentId": 2, "message": asked}, None, Origin="https://canary.x"),
        await gateway.request("GET", "/canary?key=canary"),
        await gateway.request("DELETE", "/api/v1/chat?canary=1"),
    ]
    assert all(answer.status >= 400 or b"error" in answer.body for answer in failed)
    await gateway.post(V2, {"message": asked}, TINY)
    failed.append(await gateway.post(V2, {"message": asked}, TINY))
    upstream.answers(
        [head(), chunk(b'data: {"choices":[{"delta":{"content":"canary"}}]}\n\n'), Hang]
    )
    async with gateway.raw(V2, {"message": asked}) as (reader, _):
        await reader.readuntil(b"canary")
    upstream.answers([Hang])
    async with gateway.raw(V2, {"message": asked}):
        await upstream.until_requests(len(upstream.requests) + 1)
    return [answer.body for answer in failed if answer.status >= 400]


async def test_metrics_after_a_mixed_load(start: Start, upstream: ScriptedUpstream) -> None:
    """Every family of the README is there, and counts what happened."""
    gateway = await serve(start, upstream)
    await mixed_load(gateway, upstream)
    await eventually(lambda: gateway.gateway.limiter.busy == 0)
    values = await gateway.metrics()

    def total(name: str, **labels: str) -> float:
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for key, value in values.items()
            if key.partition("{")[0] == name and all(text in key for text in wanted)
        )

    requests = "oc_gateway_requests_total"
    assert total(requests, dialect="bookbag-v2", status="502") == 3
    assert total(requests, dialect="bookbag-v1", status="403") == 3
    assert total(requests, status="401") == 2
    assert total(requests, status="404") == 2
    assert total(requests, status="405") == 1
    assert total(requests, status="504") == 1
    assert total("oc_gateway_turns_total", outcome="complete") == 3
    assert total("oc_gateway_turns_total", outcome="client_gone") == 2
    assert total("oc_gateway_turns_total", outcome="upstream_failed") == 2
    assert total("oc_gateway_turns_total", outcome="upstream_truncated") == 1
    assert total("oc_gateway_upstream_errors_total", code="first_event_timeout") == 1
    assert total("oc_gateway_upstream_errors_total", code="upstream_failed") == 2
    assert total("oc_gateway_upstream_errors_total", code="upstream_rate_limited") == 1
    assert total("oc_gateway_rate_limit_rejections_total", tier="tiny", limit="requests") == 1
    assert total("oc_gateway_failures_total", fault="upstream") == 6
    assert total("oc_gateway_failures_total", fault="client") == 13
    assert total("oc_gateway_failures_total", fault="gateway") == 0
    assert total("oc_gateway_auth_failures_total", reason="key_missing") == 1
    assert total("oc_gateway_auth_failures_total", reason="key_invalid") == 1
    assert total("oc_gateway_tokens_total", kind="input") >= 9
    assert total("oc_gateway_request_duration_seconds_count") == total(requests)
    assert total("oc_gateway_first_event_seconds_count") >= 3
    assert total("oc_gateway_left_waiting_seconds_count") == 1
    assert total("oc_gateway_events_total") > 0
    assert total("oc_gateway_active_streams") == 0


async def test_active_streams(start: Start, upstream: ScriptedUpstream) -> None:
    """A stream is counted while it is open, and no longer."""
    opening = chunk(b'data: {"choices":[{"delta":{"content":"Hm"}}]}\n\n')
    upstream.answers([head(), opening, Hang])
    gateway = await serve(start, upstream)
    name = 'oc_gateway_active_streams{agent="1",dialect="bookbag-v2"}'
    async with gateway.raw(V2, {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hm")
        assert (await gateway.metrics())[name] == 1
    await eventually(lambda: gateway.gateway.limiter.busy == 0)
    assert (await gateway.metrics())[name] == 0


_UNITS = re.compile(r"_(milliseconds|ms|minutes|hours|kilobytes|kb|megabytes|percent)(_|$)")


async def test_metrics_by_the_conventions(start: Start, upstream: ScriptedUpstream) -> None:
    """What `promtool check metrics` looks at: HELP, `_total` on counters and nothing else, base
    units, no type in a name, no label that belongs to Prometheus."""
    gateway = await serve(start, upstream)
    await mixed_load(gateway, upstream)
    families = list(ours(await scrape(gateway)))
    assert len(families) >= 12
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert not _UNITS.search(family.name), family.name
        assert not re.search("counter|gauge|histogram|summary", family.name), family.name
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert names <= {family.name + "_total"}
        elif family.type == "histogram":
            assert family.name.endswith("_seconds"), family.name
        else:
            assert not any(name.endswith(("_total", "_count", "_bucket")) for name in names)
        for sample in family.samples:
            assert re.fullmatch("[a-z][a-z0-9_]*", sample.name)
            assert not sample.labels.keys() & {"job", "instance", "quantile"}


# Health.


async def test_health(start: Start, upstream: ScriptedUpstream) -> None:
    """The process answers, and wants traffic; neither is on the public listener."""
    gateway = await serve(start, upstream)
    for path, text in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
        async with gateway.session.get(gateway.gateway.admin.url + path) as response:
            assert (response.status, await response.text()) == (200, text)
        assert (await gateway.request("GET", path)).status == 404
    assert (await gateway.request("GET", "/metrics")).status == 404


async def test_not_ready_while_it_stops(start: Start, upstream: ScriptedUpstream) -> None:
    """While open streams finish, `/readyz` says no, so that no balancer sends more, and `/healthz`
    yes, so that nobody kills it."""
    finished = asyncio.Event()
    opening = chunk(b'data: {"choices":[{"delta":{"content":"Hm"}}]}\n\n')
    upstream.answers([head(), opening, Wait(finished), chunk(b"data: [DONE]\n\n"), END])
    gateway = await serve(start, upstream)
    async with gateway.raw(V2, {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hm")
        stopping = asyncio.ensure_future(gateway.gateway.stop())
        await asyncio.sleep(0)
        answers = {}
        for path in ("/readyz", "/healthz"):
            async with gateway.session.get(gateway.gateway.admin.url + path) as response:
                answers[path] = response.status
        assert answers == {"/readyz": 503, "/healthz": 200}
        finished.set()
        assert b"[DONE]" in await reader.read()
    await stopping


# Logs.

_ALWAYS = {
    "timestamp",
    "level",
    "event",
    "request_id",
    "dialect",
    "stream",
    "status",
    "outcome",
    "client",
    "received_bytes",
    "sent_bytes",
}
_ALWAYS |= {"attempts", "duration_ms", "events"}


async def test_one_line_per_request(start: Start, upstream: ScriptedUpstream) -> None:
    """A line says who asked what of whom, how it ended, how long it took and what it cost."""
    upstream.answers(openai_text("Hi"))
    gateway = await serve(start, upstream)
    answer = await gateway.chat_v2()
    await gateway.request("GET", "/nothing")
    await gateway.request("GET", "/api/v2/health")
    turn, missing, health = gateway.log_lines()

    more = {"operation", "agent", "upstream", "target", "key", "workspace", "conversation"}
    more |= {"first_event_ms", "input_tokens", "output_tokens"}
    assert turn.keys() == _ALWAYS | more
    assert turn["request_id"] == answer.headers["x-request-id"]
    known = ("event", "level", "operation", "agent", "upstream", "key", "status", "outcome")
    assert [turn[name] for name in known] == (
        ["request", "info", "chat", "1", "main", "e2e", 200, "complete"]
    )
    assert turn["stream"] is True
    assert (turn["input_tokens"], turn["output_tokens"], turn["attempts"]) == (3, 1, 1)
    first, whole = turn["first_event_ms"], turn["duration_ms"]
    assert isinstance(first, float)
    assert isinstance(whole, float)
    assert 0 < first <= whole < 5000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", json.text(turn["timestamp"]))
    assert missing.keys() == health.keys() == _ALWAYS
    assert (missing["status"], missing["outcome"]) == (404, "path_not_found")
    assert (health["status"], health["outcome"]) == (200, "complete")


async def test_attempts_that_failed(start: Start, upstream: ScriptedUpstream) -> None:
    """Where, and of what, is in the line of the turn, also where another one answered."""
    upstream.answers(document({"error": {"message": "no"}}, 503), openai_text("Hi"))
    gateway = await start(config(upstream.url, upstream="retries = 1"))
    assert (await gateway.chat_v2()).text == "Hi"
    (line,) = gateway.log_lines()
    assert (line["outcome"], line["attempts"]) == ("complete", 2)
    assert line["failed"] == ["main/m: upstream_failed"]


async def test_a_turn_that_waited(start: Start, upstream: ScriptedUpstream) -> None:
    """In a queue, or in vain: for what, and how long."""
    go_on = asyncio.Event()
    upstream.answers([head(), Wait(go_on), *openai_text("Hi")[1:]])
    narrow = 'max_streams = 1\nqueue = { size = 1, timeout = "1h" }'
    gateway = await start(config(upstream.url, upstream=narrow))
    async with asyncio.TaskGroup() as turns:
        for number in range(3):
            turns.create_task(gateway.chat_v2())
            if number == 0:
                await upstream.until_requests(1)
        await eventually(lambda: len(gateway.log_lines()) == 1)
        go_on.set()
    full, first, second = gateway.log_lines()

    assert (full["outcome"], full["target"], full["attempts"]) == ("upstream_busy", "main/m", 0)
    assert full["failed"] == ["main/m: upstream_busy"]
    assert "waited_ms" not in first
    waited, whole = second["waited_ms"], second["duration_ms"]
    assert isinstance(waited, float)
    assert isinstance(whole, float)
    assert 0 < waited < whole
    total = await gateway.counted("oc_gateway_turns_total", "upstream")
    assert total == {"main": 3}


async def test_a_target_that_is_left_alone(start: Start, upstream: ScriptedUpstream) -> None:
    """It was not asked, and is named all the same: that is where to look."""
    upstream.answers(document({"error": {"message": "no"}}, 500))
    breaker = 'retries = 0\nbreaker = { failures = 1, open_for = "1h" }'
    gateway = await start(config(upstream.url, upstream=breaker))
    for _ in range(2):
        assert (await gateway.chat_v2()).status in (502, 503)
    opened, _, left_alone = gateway.log_lines()
    assert (opened["event"], opened["target"]) == ("breaker_opened", "main/m")
    known = ("outcome", "upstream", "target", "attempts")
    assert [left_alone[name] for name in known] == ["upstream_down", "main", "main/m", 0]
    assert await gateway.counted("oc_gateway_turns_total", "upstream") == {"main": 2}


async def test_lines_of_what_went_wrong(start: Start, upstream: ScriptedUpstream) -> None:
    """Each outcome has its own word."""
    gateway = await serve(start, upstream)
    await mixed_load(gateway, upstream)
    await eventually(lambda: gateway.gateway.limiter.busy == 0)
    outcomes = {line["outcome"] for line in gateway.log_lines() if line["event"] == "request"}
    assert outcomes == {
        "complete",
        "client_gone",
        "upstream_failed",
        "upstream_truncated",
        "upstream_malformed",
        "upstream_rate_limited",
        "first_event_timeout",
        "key_missing",
        "key_invalid",
        "invalid_json",
        "invalid_body",
        "agent_not_found",
        "model_not_allowed",
        "forbidden",
        "path_not_found",
        "method_not_allowed",
        "rate_limited",
    }


async def test_no_secret_gets_out(
    start: Start,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No key, hash, credential or message text is in a log line at debug level, a metric, or the
    body of an error, a bug of ours included."""
    gateway = await serve(start, upstream)
    bodies = await mixed_load(gateway, upstream)

    def broken(_target: object, prompt: object) -> UpstreamRequest:
        raise KeyError(repr(prompt))

    monkeypatch.setitem(UPSTREAMS, "openai", replace(UPSTREAMS["openai"], request=broken))
    other = await serve(start, upstream)
    bodies.append((await other.chat_v2("canary")).body)

    async with gateway.session.get(gateway.gateway.admin.url + "/metrics") as response:
        metrics = await response.read()
    out, err = capfd.readouterr()
    places = {
        "log": gateway.log.getvalue() + other.log.getvalue(),
        "metrics": metrics,
        "stdio": (out + err + caplog.text).encode(),
        "errors": b"\n".join(bodies),
    }
    assert b"internal_error" in places["log"]
    for secret in ("canary", KEY, KEY_HASH.removeprefix("sha256:"), TINY):
        for place, text in places.items():
            assert secret.encode() not in text, place


async def test_objects_keep_their_secrets(start: Start, upstream: ScriptedUpstream) -> None:
    """A repr of what a gateway is built of, as a debugger or a traceback shows it, has none."""
    gateway = await serve(start, upstream)
    shown = repr(gateway.gateway.snapshot) + repr(gateway.gateway.config)
    assert "canary" not in shown
    assert KEY not in shown


async def test_tools_and_calls_stay_out_of_logs(start: Start, upstream: ScriptedUpstream) -> None:
    """What a model calls is a message too; that v1 has no words for it is counted."""
    call: Json = {"index": 0, "id": "c1", "function": {"name": "canary", "arguments": "{}"}}
    upstream.answers(sse({"choices": [{"delta": {"tool_calls": [call]}}]}, finish("tool_calls")))
    gateway = await serve(start, upstream)
    await gateway.chat_v1()
    assert b"canary" not in gateway.log.getvalue()
    dropped = 'oc_gateway_dropped_parts_total{dialect="bookbag-v1",part="ToolCall"}'
    assert (await gateway.metrics())[dropped] == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_line_says_how_much_went_in_and_out(
    stream: bool, start: Start, upstream: ScriptedUpstream
) -> None:
    """The bytes of both bodies, as the client counts them."""
    upstream.answers(openai_text("Hello", " world"))
    gateway = await start(config(upstream.url))
    body = json.dumps({"message": "hi", "stream": stream})
    answer = await gateway.post("/api/v2/agents/1/chat", body)
    line = next(line for line in gateway.log_lines() if line["event"] == "request")

    assert line["received_bytes"] == len(body)
    assert line["sent_bytes"] == len(answer.body)
