"""Tool calls keep apart over a whole conversation, whatever ids an upstream gives them."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.codec import Decoder, Target
from gateway.core.events import (
    Event,
    Finish,
    FinishReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolOutput,
)
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.call_ids import distinct
from gateway.wire import json
from gateway.wire.json import MAX_IDENTIFIER


class Script:
    """A decoder that says one event for each byte, and the rest at the end."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = list(events)

    def feed(self, data: bytes) -> list[Event]:
        taken, self._events = self._events[: len(data)], self._events[len(data) :]
        return taken

    def eof(self) -> list[Event]:
        return self.feed(b" " * len(self._events))

    def lost(self) -> list[Event]:
        return self.eof()


def named(events: Iterable[Event], *taken: str) -> list[Event]:
    decoder = distinct(Script(events), set(taken))
    return [*decoder.feed(b" "), *decoder.eof()]


def calls(ids: Iterable[str], taken: Iterable[str]) -> list[ToolCall]:
    made = named([ToolCall(call_id, "run", {}) for call_id in ids], *taken)
    return [event for event in made if isinstance(event, ToolCall)]


def test_an_id_that_is_free_stays() -> None:
    """And then the call has no other."""
    assert named([ToolCall("call_1", "run", {})], "call_0") == [ToolCall("call_1", "run", {})]


def test_a_call_has_one_name() -> None:
    """Its start, its fragments, the call itself and its result; all else is as it was."""
    events: list[Event] = [
        TextDelta("call_0"),
        ToolCallStart("call_0", "run"),
        ToolCallDelta("call_0", "{}"),
        ToolCall("call_0", "run", {}, echo={"sig": "x"}),
        ToolOutput("call_0", "done"),
        Finish(FinishReason.TOOL_CALLS),
    ]

    assert named(events, "call_0") == [
        TextDelta("call_0"),
        ToolCallStart("call_0_2", "run"),
        ToolCallDelta("call_0_2", "{}"),
        ToolCall("call_0_2", "run", {}, echo={"sig": "x"}, said_id="call_0"),
        ToolOutput("call_0_2", "done"),
        Finish(FinishReason.TOOL_CALLS),
    ]


def test_the_result_of_an_earlier_call_is_still_its() -> None:
    """An upstream may repeat what it was given before it goes on."""
    assert named([ToolOutput("call_0", "done")], "call_0") == [ToolOutput("call_0", "done")]


def test_nothing_is_in_between_where_nothing_is_taken() -> None:
    """Nearly every turn is in a conversation without tools."""
    decoder = Script([])

    assert distinct(decoder, frozenset()) is decoder


@pytest.mark.parametrize(
    ("ids", "taken"),
    [
        (["call_0", "call_0_2"], ["call_0"]),
        (["call_0_2", "call_0"], ["call_0"]),
        (["call_0", "call_0_2", "call_0_2_2"], ["call_0", "call_0_2"]),
        (["a_2", "a", "a_2_2", "a_3"], ["a", "a_2", "a_2_2"]),
        (["run"], ["run", "run_2", "run_3"]),
    ],
)
def test_ids_that_look_like_ours(ids: list[str], taken: list[str]) -> None:
    """No two calls meet, also where an upstream's own ids end as the ones that we give."""
    made = [call.call_id for call in calls(ids, taken)]

    assert len({*made, *taken}) == len(ids) + len(taken)


def test_long_ids_stay_in_bounds() -> None:
    """A client that sends one back is not refused for its length."""
    longest = ["x" * 511 + end for end in "ab"]
    made = [call.call_id for call in calls(longest, longest)]

    assert len({*made, *longest}) == 4
    assert all(len(call_id) <= MAX_IDENTIFIER for call_id in made)


_IDS = st.lists(st.sampled_from(["a", "a_2", "a_2_2", "a_3", "a_2_3", "b"]), unique=True)


@given(st.lists(_IDS, max_size=6))
def test_every_call_is_found_again(turns: list[list[str]]) -> None:
    """Over any turns: no two calls of a conversation have the same id, and each leads back to what
    its upstream calls it."""
    taken: list[str] = []
    for ids in turns:
        made = calls(ids, taken)
        assert [call.said_id or call.call_id for call in made] == ids
        assert all(call.said_id != call.call_id for call in made)
        taken += [call.call_id for call in made]
        assert len(set(taken)) == len(taken)


# The shapes of calls that servers stream: each is two calls of one answer.


def delta(**fields: object) -> object:
    function = {key: fields.pop(key) for key in ("name", "arguments") if key in fields}
    return {**fields, "function": function}


A, B = {"name": "run", "arguments": '{"n":1}'}, {"name": "run", "arguments": '{"n":2}'}

SHAPES: dict[str, list[object]] = {
    "as documented": [delta(index=0, id="x", **A), delta(index=1, id="y", **B)],
    "all at index 0": [delta(index=0, id="x", **A), delta(index=0, id="y", **B)],
    "from index 1": [delta(index=1, id="x", **A), delta(index=2, id="y", **B)],
    "no index": [delta(id="x", **A), delta(id="y", **B)],
    "no id": [delta(index=0, **A), delta(index=1, **B)],
    "blank id": [delta(index=0, id="", **A), delta(index=1, id="", **B)],
    "one id for both": [delta(index=0, id="x", **A), delta(index=1, id="x", **B)],
    "the id repeated": [
        delta(index=0, id="x", name="run", arguments='{"n"'),
        delta(index=0, id="x", arguments=":1}"),
        delta(index=1, id="y", name="run", arguments='{"n"'),
        delta(index=1, id="y", arguments=":2}"),
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_two_rounds_of_any_shape(shape: str) -> None:
    """The same answer twice in one conversation is four calls of four ids, each with its own
    arguments; the upstream's ids are those of its first answer."""
    first = _answer(SHAPES[shape], frozenset())
    second = _answer(SHAPES[shape], frozenset(call.call_id for call in first))

    assert [call.arguments for call in (*first, *second)] == [{"n": 1}, {"n": 2}] * 2
    assert len({call.call_id for call in (*first, *second)}) == 4
    assert [call.said_id for call in second] == [call.call_id for call in first]


def _answer(deltas: list[object], taken: frozenset[str]) -> list[ToolCall]:
    decoder: Decoder = distinct(UPSTREAMS["openai"].decoder(Target(upstream="llm")), taken)
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [each]}}]} for each in deltas]
    stream = b"".join(b"data: " + json.dumps(chunk) + b"\n\n" for chunk in chunks)
    events = [*decoder.feed(stream + b"data: [DONE]\n\n"), *decoder.eof()]
    assert events[-1] == Finish(FinishReason.TOOL_CALLS)
    return [event for event in events if isinstance(event, ToolCall)]
