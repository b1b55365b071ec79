"""What every kind of remote upstream is asked: as large as the conversation, and as quickly."""

import time

import pytest

from gateway.core.codec import Target, UpstreamKind
from gateway.core.conversation import Role
from gateway.core.events import ToolCall
from gateway.core.turn import Message, Prompt
from gateway.upstreams import UPSTREAMS

LONG = "x" * 20_000
QUESTION = Message(Role.USER, "Where are they?")

remote = pytest.mark.parametrize(
    "kind", [kind for kind in UPSTREAMS.values() if kind.request], ids=lambda kind: kind.name
)


def size(kind: UpstreamKind, *messages: Message) -> int:
    assert kind.request is not None
    target = Target(upstream="u", agent="1", model="m")
    return len(kind.request(target, Prompt(messages=(QUESTION, *messages), stream=True)).body)


@remote
def test_one_call_with_many_results(kind: UpstreamKind) -> None:
    """Long arguments are told once, however often a client answers the call."""
    call = Message(Role.ASSISTANT, "", (ToolCall("a", "f", {"x": LONG}),))
    results = [Message(Role.TOOL, "1", call_id="a")] * 100

    assert len(LONG) < size(kind, call, *results) < 2 * len(LONG)


@remote
def test_one_result_of_many_calls(kind: UpstreamKind) -> None:
    """A long result is told once, however many calls have its id."""
    calls = Message(Role.ASSISTANT, "", (ToolCall("a", "f", {}),) * 100)
    result = Message(Role.TOOL, LONG, call_id="a")

    assert len(LONG) < size(kind, calls, result) < 2 * len(LONG)


@remote
def test_time_is_linear(kind: UpstreamKind) -> None:
    """Many results in a row cost no more than their bytes."""
    count = 100_000
    calls = tuple(ToolCall(f"c{number}", "f", {}) for number in range(count))
    results = [Message(Role.TOOL, "x" * 20, call_id=call.call_id) for call in calls]
    started = time.process_time()

    assert size(kind, Message(Role.ASSISTANT, "", calls), *results) > count
    assert time.process_time() - started < 3
