"""What a collector is told of requests: which spans, beneath which, and what they say."""

import asyncio
from itertools import pairwise

import pytest

from gateway.core.errors import ErrorCode
from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import eventually
from tests.e2e.scripted import (
    Close,
    Hang,
    Script,
    ScriptedUpstream,
    Wait,
    delta,
    document,
    finish,
    openai_text,
    said,
    sse,
)
from tests.tracing.asking import SPAN, TRACE, ask, beneath, names, parent, told, traced
from tests.tracing.collector import Collector

CHAT = "/api/v2/agents/{agent}/chat"
DOWN = document({"error": {"message": "GPU 7 is on fire", "type": "server_error"}}, 503)


async def test_a_turn(start: Start, upstream: ScriptedUpstream, collector: Collector) -> None:
    """The request, its key, the attempt with its first event; each with what is known of it."""
    first: Json = {
        "model": "m-2026-01-01",
        "choices": [{"index": 0, "delta": {"role": "assistant"}}],
    }
    usage: Json = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    upstream.answers(sse(first, delta("Hello"), delta(" world"), finish(), usage))
    gateway = await start(traced(upstream.url, collector))
    answer = await gateway.chat_v2(X_Request_Id="r1")
    turn, auth, attempt = await collector.until(3)

    assert answer.text == "Hello world"
    assert (turn.name, turn.kind, turn.parent) == (f"POST {CHAT}", "server", "")
    assert (auth.name, auth.kind, auth.attributes) == ("auth", "internal", {})
    assert (attempt.name, attempt.kind, attempt.events) == ("chat m", "client", ("first_event",))
    assert beneath([auth, attempt], turn)
    assert not any(span.failed or span.said for span in (turn, auth, attempt))
    [line] = gateway.log_lines()
    assert line["trace_id"] == turn.trace
    assert turn.attributes == {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "oc_gateway.request_id": line["request_id"],
        "oc_gateway.dialect": "bookbag-v2",
        "oc_gateway.operation": "chat",
        "oc_gateway.outcome": "complete",
        "oc_gateway.upstream": "main",
        "oc_gateway.attempts": 1,
        "oc_gateway.events": line["events"],
        "gen_ai.agent.id": "1",
        "gen_ai.conversation.id": line["conversation"],
    }
    waited = attempt.attributes.pop("gen_ai.response.time_to_first_chunk")
    assert isinstance(waited, float)
    assert 0 < waited <= (attempt.ended - attempt.began) / 1e9
    assert attempt.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": line["conversation"],
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "m-2026-01-01",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "oc_gateway.upstream": "main",
        "server.address": "127.0.0.1",
        "server.port": int(upstream.url.rpartition(":")[2]),
    }
    *ids, flags = parent(upstream)
    assert ids == ["00", turn.trace, attempt.id]
    assert int(flags, 16) & 1
    assert told(upstream)[1] is None


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter"])
async def test_a_whole_answer(
    reason: str, start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """The same; its attempt ends when all of it is here."""
    usage: Json = {"prompt_tokens": 3, "completion_tokens": 2}
    message: Json = {"role": "assistant", "content": "Hi"}
    choice: Json = {"index": 0, "message": message, "finish_reason": reason}
    upstream.answers(document({"choices": [choice], "usage": usage}))
    gateway = await start(traced(upstream.url, collector))
    assert (await gateway.chat_v2(stream=False)).status == 200
    turn, auth, attempt = await collector.until(3)

    assert beneath([auth, attempt], turn)
    assert attempt["gen_ai.response.finish_reasons"] == (reason,)
    assert attempt["gen_ai.usage.output_tokens"] == 2
    assert attempt["gen_ai.request.stream"] is None
    assert attempt["gen_ai.response.time_to_first_chunk"] is None


@pytest.mark.parametrize("sampled", [True, False])
async def test_a_trace_of_the_clients_goes_on(
    sampled: bool, start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Recorded if the client's part is; its ids and its state reach the upstream in any case."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    await ask(gateway, f"00-{TRACE}-{SPAN}-0{int(sampled)}", "a=1,b=2")
    await gateway.gateway.stop()

    version, trace, span, flags = parent(upstream)
    assert (version, trace, int(flags, 16) & 1) == ("00", TRACE, sampled)
    assert span != SPAN
    assert told(upstream)[1] == "a=1,b=2"
    assert [line["trace_id"] for line in gateway.log_lines()] == [TRACE]
    assert len(collector.spans) == 3 * sampled
    if sampled:
        turn, auth, attempt = await collector.until(3)
        assert (turn.trace, turn.parent, turn.state) == (TRACE, SPAN, "a=1,b=2")
        assert beneath([auth, attempt], turn)
        assert attempt.id == span


@pytest.mark.parametrize("sent", ["", "00-x", f"00-{'0' * 32}-{SPAN}-01", f"{TRACE}-{SPAN}"])
async def test_what_is_no_trace_begins_another(
    sent: str, start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """A malformed header is as good as none."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    await ask(gateway, sent, "a=1")
    turn, *_ = await collector.until(3)

    assert turn.parent == turn.state == ""
    assert parent(upstream)[1] == turn.trace
    assert told(upstream)[1] is None


async def test_nothing_of_clients(
    start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Where the file says so, a client does not choose what is recorded."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector, "from_clients = false"))
    await ask(gateway, f"00-{TRACE}-{SPAN}-00", "a=1")
    turn, *_ = await collector.until(3)

    assert turn.trace == parent(upstream)[1] != TRACE
    assert turn.parent == ""
    assert told(upstream)[1] is None


async def test_one_trace_for_each_request(
    start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Also on one connection, one after the other."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    for _ in range(3):
        await gateway.chat_v2()
    spans = await collector.until(9)

    assert [len({span.trace for span in spans[n : n + 3]}) for n in (0, 3, 6)] == [1, 1, 1]
    assert len({span.trace for span in spans}) == 3
    assert len({span.id for span in spans}) == 9


async def test_figures_of_a_turn_name_its_trace(
    start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """As exemplars, where it is recorded."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    await ask(gateway, f"00-{TRACE}-{SPAN}-00")
    accept = {"Accept": "application/openmetrics-text"}
    url = gateway.gateway.admin.url + "/metrics"
    async with gateway.session.get(url, headers=accept) as response:
        assert "trace_id" not in await response.text()
    await ask(gateway, f"00-{TRACE}-{SPAN}-01")
    async with gateway.session.get(url, headers=accept) as response:
        assert f'# {{trace_id="{TRACE}"}}' in await response.text()


# Attempts.


async def test_retries_and_fallbacks_are_siblings(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream, collector: Collector
) -> None:
    """Each with what became of it; the turn is well if one of them is."""
    upstream.answers(DOWN)
    second.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector, second=second.url))
    assert (await gateway.chat_v2()).text == "Hi"
    turn, _, *attempts = await collector.until(5)

    assert beneath(attempts, turn)
    assert all(one.ended <= other.began for one, other in pairwise(attempts))
    assert [span["oc_gateway.upstream"] for span in attempts] == ["main", "main", "second"]
    assert [span.failed for span in attempts] == [True, True, False]
    assert [span["error.type"] for span in attempts] == ["upstream_failed"] * 2 + [None]
    assert [span["http.response.status_code"] for span in attempts] == [503, 503, None]
    assert [span.events for span in attempts] == [(), (), ("first_event",)]
    assert (turn.failed, turn["error.type"], turn["oc_gateway.attempts"]) == (False, None, 3)
    sent = [parent(upstream, 0), parent(upstream, 1), parent(second)]
    assert [value[2] for value in sent] == [span.id for span in attempts]


async def test_the_slower_of_two_is_abandoned(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream, collector: Collector
) -> None:
    """Which is no error of its own."""
    upstream.answers([Hang])
    second.answers(openai_text("Hi"))
    options = {"second": second.url, "agent": 'hedge_after = "20ms"'}
    gateway = await start(traced(upstream.url, collector, **options))
    assert (await gateway.chat_v2()).text == "Hi"
    turn, _, slow, fast = await collector.until(4)

    assert beneath([fast], turn)
    # It is let go in its own time, perhaps when the turn is over.
    assert (slow.trace, slow.parent) == (turn.trace, turn.id)
    assert (slow["oc_gateway.abandoned"], slow.failed, slow.events) == (True, False, ())
    assert (fast["oc_gateway.abandoned"], fast.failed) == (None, False)
    assert slow.began < fast.began < slow.ended


# Before the stream, in it, and for a client that has left.
FAILURES: dict[str, tuple[Script, int, ErrorCode]] = {
    "refused": (DOWN, 502, ErrorCode.UPSTREAM_FAILED),
    "cut off": ([Close], 502, ErrorCode.UPSTREAM_TRUNCATED),
    "in mid-stream": ([*said("Hel"), Close], 200, ErrorCode.UPSTREAM_TRUNCATED),
    "no JSON": (sse(b"data: {\n\n"), 502, ErrorCode.UPSTREAM_MALFORMED),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_turn_that_fails(
    failure: str, start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """By the error's code, and none of its words."""
    script, status, code = FAILURES[failure]
    upstream.answers(script)
    gateway = await start(traced(upstream.url, collector, upstream="retries = 0"))
    assert (await gateway.chat_v2()).status == status
    turn, auth, attempt = await collector.until(3)

    assert beneath([auth, attempt], turn)
    assert (turn.failed, attempt.failed, auth.failed) == (True, True, False)
    assert turn["error.type"] == turn["oc_gateway.outcome"] == attempt["error.type"] == code
    assert turn["http.response.status_code"] == status
    assert turn.said == attempt.said == ""
    assert attempt.events == (("first_event",) if status == 200 else ())


async def test_what_is_the_clients_fault(
    start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Is named, and is no error of the gateway's."""
    gateway = await start(traced(upstream.url, collector))
    assert (await gateway.post("/api/v2/agents/1/chat", {}, "oc_test_wrong")).status == 401
    turn, auth = await collector.until(2)
    collector.spans.clear()
    assert (await gateway.post("/api/v2/agents/1/chat", b"{")).status == 400
    bad, _ = await collector.until(2)

    assert (turn.failed, turn["error.type"]) == (False, "key_invalid")
    assert (auth.failed, auth["error.type"]) == (True, "key_invalid")
    assert turn["http.response.status_code"] == 401
    assert (bad.failed, bad["error.type"]) == (False, "invalid_json")
    assert "oc_gateway.attempts" not in bad.attributes


async def test_a_client_that_leaves(
    start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Nothing has failed, and nothing is left open."""
    upstream.answers([*said("Hel"), Hang])
    gateway = await start(traced(upstream.url, collector))
    async with gateway.raw("/api/v2/agents/1/chat", {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hel")
    turn, _, attempt = await collector.until(3)

    assert (turn.failed, turn["oc_gateway.outcome"]) == (False, "client_gone")
    assert (attempt.failed, attempt["oc_gateway.abandoned"]) == (False, True)
    assert attempt.events == ("first_event",)


@pytest.mark.parametrize("complete", [True, False])
async def test_a_turn_that_goes_on_alone(
    complete: bool, start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Its spans end when it does, also those of the store."""
    go_on = asyncio.Event()
    text = openai_text("Hel", "lo")
    upstream.answers([*text[:2], Wait(go_on), *(text[2:] if complete else [Close])])
    options = {"agent": 'on_disconnect = "drain"', "store": 'url = "sqlite:///traced.db"'}
    gateway = await start(traced(upstream.url, collector, **options))
    async with gateway.raw("/api/v2/agents/1/chat", {"message": "hi"}) as (reader, _):
        await reader.readuntil(b"Hel")
    server = gateway.gateway.public._runner.server
    await eventually(lambda: server is not None and not server.connections)
    go_on.set()
    spans = await collector.until(3 + complete)
    turn = spans[0]

    assert names(spans[1:]) == ["auth", "chat m", "store save"][: 2 + complete]
    assert beneath(spans[1:], turn)
    assert turn["oc_gateway.outcome"] == "client_gone"
    assert turn["oc_gateway.drained"] == ("complete" if complete else "upstream_truncated")
    assert turn["error.type"] == (None if complete else "upstream_truncated")
    assert turn.failed is not complete


# The store.


async def test_the_store(start: Start, upstream: ScriptedUpstream, collector: Collector) -> None:
    """Each operation of a request beneath it; what the gateway does for itself is in no trace."""
    upstream.answers(openai_text("Hi"))
    store = 'url = "sqlite:///traced.db"'
    gateway = await start(traced(upstream.url, collector, store=store))
    answer = await gateway.chat_v2(stream=False)
    metadata = json.mapping(json.mapping(answer.json["data"])["metadata"])
    conversation = json.text(metadata["conversationId"])
    await gateway.session.get(gateway.gateway.admin.url + "/readyz")
    first = await collector.until(4)
    collector.spans.clear()
    await gateway.chat_v2(conversationId=conversation)
    second = await collector.until(6)
    collector.spans.clear()
    await gateway.request("GET", f"/api/v2/agents/1/conversations/{conversation}")
    read = await collector.until(3)

    assert names(first[1:]) == ["auth", "chat m", "store save"]
    assert names(second[1:]) == ["auth", "store claim", "store load", "chat m", "store save"]
    assert names(read) == [
        "GET /api/v2/agents/{agent}/conversations/{conversation}",
        "auth",
        "store load",
    ]
    for spans in (first, second, read):
        assert beneath(spans[1:], spans[0])
    assert read[0]["gen_ai.conversation.id"] == conversation


async def test_requests_that_are_no_ones(
    start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Health checks, preflights, and what nothing is found for."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    asked = [
        ("GET", "/api/v2/health"),
        ("GET", "/wp-login.php"),
        ("DELETE", "/api/v1/chat"),
        ("OPTIONS", "/api/v1/chat"),
    ]
    headers = {"Origin": "https://a.example", "Access_Control_Request_Method": "POST"}
    answers = [await gateway.request(method, path, **headers) for method, path in asked]
    assert [answer.status for answer in answers] == [200, 404, 405, 204]
    await gateway.chat_v2()
    spans = await collector.until(3)

    assert names(spans) == [f"POST {CHAT}", "auth", "chat m"]
