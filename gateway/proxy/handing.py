"""The result of a tool, handed on to the upstream that called the tool and waits for it."""

import asyncio
from collections.abc import Mapping

from gateway.config.routes import Route, RouteTarget
from gateway.conversations.results import Pending
from gateway.core.codec import UpstreamKind
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json
from gateway.observe.trace import UNTRACED, Trace
from gateway.proxy.asking import Refusal, ask, traced
from gateway.proxy.snapshot import Snapshot


async def hand_on(
    snapshot: Snapshot,
    route: Route,
    pending: Pending,
    request_id: str,
    trace: Trace = UNTRACED,
) -> None:
    """Give it to the upstream, if it is one that keeps conversations and still is a target of the
    agent. A result that was taken before has been handed on before.

    Raises `GatewayError`: TOOL_CALL_NOT_FOUND if the call waits no longer there either, or what
    asking an upstream raises; the call may then be answered once more.
    """
    target, conversation = _caller(route, pending), pending.message.upstream_conversation
    if target is None or conversation is None or pending.repeated:
        return
    if target.kind.result is None:
        return
    call_id = pending.call.said_id or pending.call.call_id
    output = pending.result.output
    await hand_over(snapshot, target, conversation, call_id, output, request_id, trace)


async def hand_over(
    snapshot: Snapshot,
    target: RouteTarget,
    conversation: str,
    call_id: str,
    output: Json,
    request_id: str,
    trace: Trace = UNTRACED,
) -> None:
    """The same for one target that takes results, by its own ids of the conversation and the call.
    Raises `GatewayError` in the way of `hand_on`."""
    kind = target.kind
    assert kind.result is not None
    request = traced(kind.result(target.target, conversation, call_id, output), trace.headers)
    client = snapshot.clients[target.target.upstream]
    deadline = asyncio.get_running_loop().time() + target.clocks.first_event
    with trace.step("hand over a tool's result"):
        answer = await ask(client, request, _refusal(kind), request_id, deadline)
    answer.release()


def _caller(route: Route, pending: Pending) -> RouteTarget | None:
    """The target that called the tool: it is the one that answered last, so what it calls the
    conversation is known. One upstream may be several targets, of different agents."""
    known, said = pending.conversation.upstream_ids, pending.message.upstream_conversation
    for target in route.targets:
        if said is not None and known.get(target.state_key) == said:
            return target
    return None


def _refusal(kind: UpstreamKind) -> Refusal:
    def refusal(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        if status == 404:
            return GatewayError(
                ErrorCode.TOOL_CALL_NOT_FOUND, "no such tool call waits for its result here"
            )
        assert kind.error is not None
        return kind.error(status, headers, body)

    return refusal
