"""Results of tools on their way to the upstream that called the tool."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.routes import Route
from gateway.conversations.results import Pending
from gateway.core.conversation import Conversation, Owner, Place, Role, StoredMessage
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import FinishReason, Json, ToolCall, ToolOutput
from gateway.proxy.handing import hand_on
from gateway.proxy.snapshot import Snapshot
from gateway.reload.build import build_snapshot
from tests.e2e.running import config, eventually
from tests.e2e.scripted import (
    PATIENCE,
    Close,
    Hang,
    Reset,
    ScriptedUpstream,
    Step,
    document,
)

CALL = ToolCall("call_0", "order_status", {"order": 7})
TAKEN = document({"data": {"success": True}})


def pending(
    *,
    call: ToolCall = CALL,
    conversation: str | None = "456",
    known: Mapping[str, str] | None = None,
    repeated: bool = False,
    output: Json = "shipped",
) -> Pending:
    """A result of a call that the agent 77 of the upstream "main" made."""
    message = StoredMessage(
        id=2,
        position=1,
        role=Role.ASSISTANT,
        parts=(call,),
        created=0,
        finish=FinishReason.TOOL_CALLS,
        upstream="main",
        upstream_conversation=conversation,
    )
    found = Conversation(
        id=1,
        place=Place(Owner("acme"), 1),
        user_id=None,
        title=None,
        created=0,
        updated=0,
        upstream_ids={"main/77": "456"} if known is None else known,
    )
    return Pending(
        conversation=found,
        message=message,
        call=call,
        result=ToolOutput(call.call_id, output),
        repeated=repeated,
        claims=[],
    )


@asynccontextmanager
async def serving(
    folder: Path, url: str, kind: str = "bookbag", target: str = "agent = 77", clocks: str = ""
) -> AsyncIterator[tuple[Snapshot, Route]]:
    """An agent in front of the upstream of this URL."""
    path = folder / "gateway.toml"
    path.write_text(config(url, kind=kind, target=target, clocks=clocks))
    snapshot = build_snapshot(load(path), folder, {})
    yield snapshot, snapshot.routes.find("1", "acme")
    for client in snapshot.clients.values():
        client.close()


@pytest.mark.parametrize("kind", ["bookbag", "chatbase"])
async def test_the_result_reaches_the_upstream(kind: str, tmp_path: Path) -> None:
    """By its own ids of the agent, the conversation and the call."""
    renamed = ToolCall("call_0_2", "order_status", {}, said_id="call_0")
    async with (
        ScriptedUpstream([TAKEN]) as upstream,
        serving(tmp_path, upstream.url, kind) as (snapshot, route),
    ):
        await hand_on(snapshot, route, pending(), "req_1")
        await hand_on(snapshot, route, pending(call=renamed, output=None), "req_2")
        first, second = upstream.requests

    assert first.method == "POST"
    assert first.path == "/api/v2/agents/77/conversations/456/tool-result"
    assert first.headers["x-request-id"] == "req_1"
    assert first.json == {"toolCallId": "call_0", "output": "shipped"}
    assert second.json == {"toolCallId": "call_0", "output": None}
    assert upstream.accepted == 1


async def test_the_agent_that_called_is_told(tmp_path: Path) -> None:
    """Two agents of one upstream do not know each other's conversations."""
    target = 'agent = 76 }, { upstream = "main", agent = 77'
    async with (
        ScriptedUpstream([TAKEN]) as upstream,
        serving(tmp_path, upstream.url, target=target) as (snapshot, route),
    ):
        await hand_on(snapshot, route, pending(), "req_1")

    assert [r.path for r in upstream.requests] == (
        ["/api/v2/agents/77/conversations/456/tool-result"]
    )


NOBODYS: dict[str, Pending] = {
    "no conversation there": pending(conversation=None, known={}),
    "no target any more": pending(known={"main/78": "456"}),
    "another conversation by now": pending(known={"main/77": "457"}),
    "taken before": pending(repeated=True),
}


@pytest.mark.parametrize("case", NOBODYS)
async def test_nobody_to_tell(case: str, tmp_path: Path) -> None:
    """Then the result is the gateway's alone to keep."""
    async with (
        ScriptedUpstream([TAKEN]) as upstream,
        serving(tmp_path, upstream.url) as (snapshot, route),
    ):
        await hand_on(snapshot, route, NOBODYS[case], "req_1")

    assert upstream.requests == []


@pytest.mark.parametrize(
    ("kind", "target", "known"),
    [("openai", 'model = "m"', "main/"), ("bookbag", "agent = 77", "main/77")],
)
async def test_upstreams_without_such_a_request(
    kind: str, target: str, known: str, tmp_path: Path
) -> None:
    """Stateless ones are told with the next turn; Bookbag's v1 calls no tools."""
    async with ScriptedUpstream([TAKEN]) as upstream:
        path = tmp_path / "gateway.toml"
        api = 'api = "v1"' if kind == "bookbag" else ""
        path.write_text(config(upstream.url, kind=kind, target=target, upstream=api))
        snapshot = build_snapshot(load(path), tmp_path, {})
        route = snapshot.routes.find("1", "acme")
        await hand_on(snapshot, route, pending(known={known: "456"}), "req_1")

    assert upstream.requests == []


REFUSED: dict[str, tuple[list[Step], ErrorCode]] = {
    "expired there": (
        document({"error": {"code": "RESOURCE_TOOL_CALL_NOT_FOUND", "message": "no"}}, 404),
        ErrorCode.TOOL_CALL_NOT_FOUND,
    ),
    "rejected": (
        document({"error": {"message": "output is too odd"}}, 400),
        ErrorCode.UPSTREAM_REJECTED,
    ),
    "credential": (document({}, 401), ErrorCode.UPSTREAM_REFUSED),
    "limited": (document({}, 429, Retry_After="3"), ErrorCode.UPSTREAM_RATE_LIMITED),
    "failed": (document({}, 500), ErrorCode.UPSTREAM_FAILED),
    "gone": ([Close], ErrorCode.UPSTREAM_TRUNCATED),
    "reset": ([Reset], ErrorCode.UPSTREAM_TRUNCATED),
    "silent": ([Hang], ErrorCode.FIRST_EVENT_TIMEOUT),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refusals(case: str, tmp_path: Path) -> None:
    """What the upstream answers is told as it is for a chat, but that a call which waits no longer
    there does not wait here."""
    script, code = REFUSED[case]
    clocks = 'first_event = "200ms"' if case == "silent" else ""
    async with (
        ScriptedUpstream([script]) as upstream,
        serving(tmp_path, upstream.url, clocks=clocks) as (snapshot, route),
    ):
        with pytest.raises(GatewayError) as raised:
            async with asyncio.timeout(PATIENCE):
                await hand_on(snapshot, route, pending(), "req_1")
        client = snapshot.clients["main"]
        await eventually(lambda: client.open_connections == client.idle_connections)

    assert raised.value.code is code
    assert ("too odd" in raised.value.message) is (case == "rejected")
    assert raised.value.retry_after == (3.0 if case == "limited" else None)


async def test_an_upstream_that_is_down(tmp_path: Path) -> None:
    """Nobody listens there."""
    async with ScriptedUpstream([TAKEN]) as upstream:
        url = upstream.url
    async with serving(tmp_path, url) as (snapshot, route):
        with pytest.raises(GatewayError) as raised:
            await hand_on(snapshot, route, pending(), "req_1")

    assert raised.value.code is ErrorCode.UPSTREAM_UNREACHABLE
