"""Streamed tool calls, put together; the servers' own shapes are golden transcripts."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import Json, ToolCall, ToolCallDelta, ToolCallStart
from gateway.upstreams.tool_calls import ToolCalls, arguments


def delta(index: Json, said_id: Json = None, name: Json = None, said: Json = None) -> Json:
    return {"index": index, "id": said_id, "function": {"name": name, "arguments": said}}


def test_no_calls() -> None:
    """A turn without calls has none, and what is no object is none."""
    calls = ToolCalls()

    assert calls.feed([None, 7, "x", []]) == []
    assert not calls
    assert calls.end() == []


def test_made_up_ids_never_meet_the_upstreams() -> None:
    """A call without an id gets one that no other call of the turn has."""
    calls = ToolCalls()
    calls.feed([delta(0, "call_2", "a", "{}")])
    calls.feed([delta(1, None, "b", "{}")])
    calls.feed([delta(2, "call_2", "c", "{}")])
    calls.feed([delta(3, "call_2_2", "d", "{}")])

    ids = [event.call_id for event in calls.end() if isinstance(event, ToolCall)]

    assert len(set(ids)) == 4
    assert ids[0] == "call_2"


def test_arguments_before_the_name_wait_for_it() -> None:
    """No fragment precedes the start of its call."""
    calls = ToolCalls()

    assert calls.feed([delta(0, "call_1", None, '{"a"')]) == []
    assert not calls
    assert calls.feed([delta(0, None, "run", ":1")]) == [
        ToolCallStart("call_1", "run"),
        ToolCallDelta("call_1", '{"a":1'),
    ]
    assert calls.feed([delta(0, None, None, "}")]) == [ToolCallDelta("call_1", "}")]
    assert calls.end() == [ToolCall("call_1", "run", {"a": 1})]


def test_a_repeated_name_goes_on_until_the_arguments_are_whole() -> None:
    """A name on every fragment is the same call; after whole arguments it is the next one."""
    calls = ToolCalls()
    for fragment in ('{"a":{}', ',"b":2', "}", "{}"):
        calls.feed([delta(0, None, "run", fragment)])

    assert calls.end() == [
        ToolCall("call_1", "run", {"a": {}, "b": 2}),
        ToolCall("call_2", "run", {}),
    ]


def test_what_the_upstream_wants_back() -> None:
    """Extra content of any of a call's deltas goes with the call."""
    calls = ToolCalls()
    calls.feed([delta(0, "call_1", "run", "{}")])
    calls.feed([{"index": 0, "extra_content": {"google": {"thought_signature": "c2ln"}}}])

    assert calls.end() == [ToolCall("call_1", "run", {}, {"google": {"thought_signature": "c2ln"}})]


def test_arguments() -> None:
    """Whole JSON is parsed, nothing is an empty object, and the rest is kept as the model wrote."""
    assert arguments([]) == {}
    assert arguments([" ", "\n"]) == {}
    assert arguments(['{"a"', ":1}"]) == {"a": 1}
    assert arguments(["[1]"]) == [1]
    assert arguments(["null"]) == "null"
    assert arguments(['{"a":']) == '{"a":'
    assert arguments(["[" * 300 + "]" * 300]) == "[" * 300 + "]" * 300


@given(st.lists(st.tuples(st.none() | st.integers(0, 2), st.sampled_from([None, "", "a", "b"]))))
def test_ids_are_unique_whatever_comes(deltas: list[tuple[int | None, str | None]]) -> None:
    """Every call is given once, under an id of its own."""
    calls = ToolCalls()
    for index, said_id in deltas:
        calls.feed([delta(index, said_id, "run", "{}")])

    ids = [event.call_id for event in calls.end() if isinstance(event, ToolCall)]

    assert len(ids) == len(set(ids))
    assert bool(ids) == bool(deltas)
