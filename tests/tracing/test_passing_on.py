"""Tracing is off: what a client says of its trace reaches the upstream as it came."""

import subprocess
import sys

import pytest

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import config
from tests.e2e.scripted import ScriptedUpstream, document, openai_text, sse
from tests.e2e.speaking import ASK
from tests.tracing.asking import SPAN, TRACE, ask, told

PARENT = f"00-{TRACE}-{SPAN}-01"
STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
OFF = "[tracing]\nfrom_clients = false\n"


@pytest.mark.parametrize("parent", [PARENT, f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-03"])
@pytest.mark.parametrize("state", ["", STATE])
async def test_as_it_came(
    parent: str, state: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """To the last character; and the log names the trace."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(config(upstream.url))
    assert (await ask(gateway, parent, state)).text == "Hi"

    assert told(upstream) == (parent, state or None)
    [line] = gateway.log_lines()
    assert line["trace_id"] == TRACE


@pytest.mark.parametrize("dialect", ASK)
async def test_in_every_dialect(dialect: str, start: Start, upstream: ScriptedUpstream) -> None:
    """Whatever else a client's headers say stays here."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(config(upstream.url))
    path, body = ASK[dialect]("1", "hi", False)
    headers = {"traceparent": PARENT, "tracestate": STATE, "baggage": "user=1", "X-Trace": "1"}
    assert (await gateway.post(path, body, **headers)).status == 200

    assert told(upstream) == (PARENT, STATE)
    assert not {"baggage", "x-trace"} & upstream.requests[0].headers.keys()


@pytest.mark.parametrize(
    "parent", ["", "x", PARENT.upper(), f"{PARENT}-more", f"00-{TRACE}-{SPAN}"]
)
async def test_what_is_malformed_goes_nowhere(
    parent: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Nor does its state, and no trace is begun in its place."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(config(upstream.url))
    assert (await ask(gateway, parent, STATE)).text == "Hi"

    assert told(upstream) == (None, None)
    [line] = gateway.log_lines()
    assert "trace_id" not in line


async def test_without_one(start: Start, upstream: ScriptedUpstream) -> None:
    """None is made up."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(config(upstream.url))
    await gateway.chat_v2()

    assert told(upstream) == (None, None)
    assert "trace_id" not in gateway.log_lines()[0]


async def test_nothing_of_clients(start: Start, upstream: ScriptedUpstream) -> None:
    """Where the file says so, upstreams do not hear of them."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(config(upstream.url, more=OFF))
    await ask(gateway, PARENT, STATE)

    assert told(upstream) == (None, None)
    assert "trace_id" not in gateway.log_lines()[0]


async def test_every_attempt_is_told(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The retry and the fallback as well."""
    upstream.answers(document({"error": {}}, 503))
    second.answers(openai_text("Hi"))
    gateway = await start(config(upstream.url, second=second.url))
    assert (await ask(gateway, PARENT, STATE)).text == "Hi"

    assert len(upstream.requests) == 2
    assert {told(upstream, 0), told(upstream, 1), told(second)} == {(PARENT, STATE)}


async def test_requests_about_conversations(start: Start, upstream: ScriptedUpstream) -> None:
    """Those that are passed through are told of it, too."""
    page: Json = {"data": [], "pagination": {"cursor": None}}
    upstream.answers(document(page))
    passing = 'conversations = "passthrough"'
    options = {"kind": "bookbag", "target": "agent = 77", "agent": passing}
    gateway = await start(config(upstream.url, **options))
    path = "/api/v2/agents/1/conversations"
    answer = await gateway.request("GET", path, traceparent=PARENT, tracestate=STATE)

    assert answer.json == page
    assert told(upstream) == (PARENT, STATE)


async def test_tools_results(start: Start, upstream: ScriptedUpstream) -> None:
    """So is the agent that is handed one."""
    call: Json = {"type": "tool-call", "toolCallId": "c1", "toolName": "t", "input": {}}
    ids: Json = {"conversationId": "456", "messageId": "msg_1"}
    end: Json = {"type": "finish", "finishReason": "tool-calls", "metadata": ids}
    upstream.answers(sse(call, end), document({"data": {"success": True}}))
    gateway = await start(config(upstream.url, kind="bookbag", target="agent = 77"))
    asked = await gateway.chat_v2()
    ours = json.mapping(json.mapping(asked.frames[-2][1])["metadata"])["conversationId"]
    path = f"/api/v2/agents/1/conversations/{ours}/tool-result"
    result: Json = {"toolCallId": "c1", "output": "done"}
    handed = await gateway.post(path, result, traceparent=PARENT, tracestate=STATE)

    assert handed.status == 200, handed.body
    assert told(upstream, 0) == (None, None)
    assert told(upstream, 1) == (PARENT, STATE)


def test_opentelemetry_is_not_loaded() -> None:
    """Nothing of it, by a gateway without tracing."""
    code = (
        "import sys, gateway.app, gateway.cli.run, gateway.cli.check\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
