"""Streamed tool calls, put together; the servers' own shapes are golden transcripts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.codec import Target
from gateway.core.errors import ErrorCode
from gateway.core.events import (
    TERMINAL,
    Event,
    Finish,
    Json,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
)
from gateway.upstreams import UPSTREAMS, tool_calls
from gateway.upstreams.refusals import failed
from gateway.upstreams.tool_calls import MAX_CALLS, ToolCalls, arguments
from gateway.wire import json
from tests.golden_cases import cut, decoded


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


def test_the_calls_of_a_turn_are_bounded() -> None:
    """One more than a thousand is not begun, and neither is what follows it."""
    calls = ToolCalls()
    deltas = [delta(number, f"id_{number}", "run", "{}") for number in range(MAX_CALLS)]
    calls.feed(deltas)
    assert not calls.oversized

    assert calls.feed([delta(7, "other", "run", "{}"), deltas[0]]) == []
    assert calls.oversized
    assert len(calls.end()) == MAX_CALLS


class Counting:
    """The JSON reader of the calls, and how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        self._loads = json.loads
        monkeypatch.setattr(json, "loads", self._count)

    def _count(self, data: bytes) -> Json:
        self.read += 1
        return self._loads(data)


@pytest.mark.parametrize("fragment", ['{"a":{}', "{}", '"}"', "}", "x}"])
def test_a_repeated_name_does_not_read_the_arguments_anew(
    fragment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a fragment may be the last: a call is read when it closes, and at the end."""
    count = Counting(monkeypatch)
    calls = ToolCalls()
    for said in ("{", *[fragment] * 200):
        calls.feed([delta(0, "call_1", "run", said)])
    made = len(calls.end())

    assert count.read <= 2 * made


def test_a_repeated_name_looks_at_each_fragment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an object that stays open for as long as it likes."""
    looked_at: list[str] = []
    monkeypatch.setattr(tool_calls._Extent, "add", lambda _, said: looked_at.append(said))
    calls = ToolCalls()
    fragments = ["{", *(f'"{number}":{{}},' for number in range(200))]
    for said in fragments:
        calls.feed([delta(0, "call_1", "run", said)])

    assert looked_at == fragments[:-1]


def pieces(text: str, where: list[int]) -> list[str]:
    return [piece.decode("utf-32-le") for piece in cut(text.encode("utf-32-le"), where)]


objects = st.dictionaries(
    st.text(), st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner)), max_size=3
)


@given(objects, objects, st.lists(st.integers(0, 60).map(lambda n: 4 * n)))
def test_the_end_of_an_object_is_found(
    first: dict[str, Json], second: dict[str, Json], where: list[int]
) -> None:
    """Wherever the arguments are cut, what is named after them is the next call."""
    calls = ToolCalls()
    for said in (first, second):
        for piece in pieces(json.dumps(said).decode(), where):
            calls.feed([delta(0, None, "run", piece)])

    assert [call.arguments for call in calls.end() if isinstance(call, ToolCall)] == [first, second]


@pytest.mark.parametrize(
    "fragments", [["{}", "x"], ["{a}"], ["}"], ["[{}", "]"], ['{"', '}"'], ["{", "}}"]]
)
def test_what_is_no_object_is_not_complete(fragments: list[str]) -> None:
    """Something follows the object, or it never was one: the next fragment belongs to it."""
    calls = ToolCalls()
    calls.feed([delta(0, None, "run", fragments[0])])
    calls.feed([delta(0, None, None, fragment) for fragment in fragments[1:]])
    calls.feed([delta(0, None, "run", "!")])

    assert calls.end() == [ToolCall("call_1", "run", "".join(fragments) + "!")]


@pytest.mark.parametrize("index", [[], {}, [1], {"a": 1}])
def test_an_index_that_is_no_index(index: Json) -> None:
    """It counts as left out."""
    calls = ToolCalls()
    calls.feed([delta(index, "a", "run", "{"), delta(index, None, None, "}")])

    assert calls.end() == [ToolCall("a", "run", {})]


def said_by(kind: str, chunks: list[bytes]) -> list[Event]:
    return decoded(UPSTREAMS[kind].decoder(Target(upstream="any")), chunks)


MANY = range(MAX_CALLS + 1)


@pytest.mark.parametrize("part", ["delta", "message"])
def test_too_many_calls_fail_the_turn(part: str) -> None:
    """Streamed, or in one document."""
    deltas = [delta(number, f"id_{number}", "run", "{}") for number in MANY]
    chunk = json.dumps({"choices": [{part: {"tool_calls": deltas}, "finish_reason": "stop"}]})
    data = chunk if part == "message" else b"data: " + chunk + b"\n\ndata: [DONE]\n\n"

    events = said_by("openai", [data])

    assert events[-1] == failed(ErrorCode.UPSTREAM_OVERSIZED)
    assert sum(type(event) is ToolCallStart for event in events) == MAX_CALLS
    assert sum(type(event) in TERMINAL for event in events) == 1


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        ("bookbag-v2", "tool-call"),
        ("chatbase", "tool-input-start"),
        ("chatbase", "tool-input-available"),
        ("chatbase", "tool-input-error"),
    ],
)
def test_too_many_calls_of_an_agent_fail_the_turn(kind: str, frame: str) -> None:
    """A thousand calls pass; so does what belongs to one of them."""
    frames = [
        b"data: " + json.dumps({"type": frame, "toolCallId": f"id_{n}", "toolName": "run"})
        for n in MANY
    ]
    last = b'data: {"type":"finish"}\n\n'

    good = said_by(kind, [b"\n\n".join([*frames[:-1], frames[0], last])])
    events = said_by(kind, [b"\n\n".join([*frames, last])])

    assert isinstance(good[-1], Finish)
    assert events[-1] == failed(ErrorCode.UPSTREAM_OVERSIZED)
    assert sum(type(event) in TERMINAL for event in events) == 1


@pytest.mark.parametrize("kind", ["bookbag-v2", "chatbase"])
def test_too_many_calls_in_a_document_fail_the_turn(kind: str) -> None:
    """Nothing follows the failure."""
    parts: Json = [{"type": "tool-call", "toolCallId": n, "toolName": "run"} for n in MANY]

    events = said_by(kind, [json.dumps({"data": {"id": "1", "parts": parts}})])

    assert events[-1] == failed(ErrorCode.UPSTREAM_OVERSIZED)
    assert sum(type(event) in TERMINAL for event in events) == 1
