"""Whatever an upstream sends, its decoder does not raise, and ends the turn once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.codec import Target, Transcript
from gateway.core.events import Json
from gateway.dialects import DIALECTS
from gateway.upstreams import UPSTREAMS
from gateway.wire import json
from tests.golden_cases import cases, cut, decoded, encoded, joined
from tests.test_golden import assert_well_formed

every_kind = pytest.mark.parametrize("kind", UPSTREAMS)

TARGET = Target(upstream="any", transcript=Transcript("chatbase", ()), max_event=4096)

# Words that the decoders know, so that what is made of them reaches their depths.
KEYS = (
    "type index id delta text token content message messages choices finish_reason finishReason "
    "error error_type code status usage x_groq prompt_tokens completion_tokens credits "
    "inputTokens citations search_results annotations url title url_citation tool_calls function "
    "function_call name arguments extra_content reasoning reasoning_content reasoning_details "
    "refusal thinking data parts metadata messageMetadata messageId conversationId toolCallId "
    "toolName input output inputTextDelta errorText preliminary args result argsTextDelta usage"
)
WORDS = (
    "text-delta finish error start message-start message-metadata tool-call tool-result citations "
    "tool-input-start tool-input-delta tool-input-available tool-input-error tool-output-available "
    "tool-output-error tool-output-denied source-url source-document reasoning-delta abort "
    "start-step text reasoning thinking url_citation token done end_of_stream stop length "
    "tool_calls tool-calls <think> </think> {} { } a"
)

# Numbers as text: Python refuses to read one of thousands of digits.
odd = st.sampled_from(["", "429", "9" * 5000, "²", "\u2028"])
leaves = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(0, 1) | odd
values: st.SearchStrategy[Json] = st.recursive(
    leaves | st.sampled_from(WORDS.split()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)
frames = st.builds(
    lambda name, value: name + b"data: " + json.dumps(value) + b"\n\n",
    st.sampled_from([b"", b"", b"event: token\n", b"event: error\n", b"event: done\n"]),
    st.dictionaries(st.sampled_from(KEYS.split()), values, max_size=5) | values,
)
# Most of what upstreams send is a choice with a delta, which chance seldom makes.
choices = st.builds(
    lambda delta, rest: b"data: " + json.dumps({"choices": [{"delta": delta, **rest}]}) + b"\n\n",
    st.dictionaries(st.sampled_from(KEYS.split()), values, max_size=4),
    st.dictionaries(st.just("finish_reason"), st.sampled_from(WORDS.split()), max_size=1),
)
pieces = st.sampled_from([b"data: [DONE]\n\n", b"error: x\n", b"\r", b"\n", b"[", b"\xef\xbb\xbf"])
# The lines of the AI SDK's older streams.
lines = st.builds(
    lambda code, value: code.encode() + b":" + json.dumps(value) + b"\n",
    st.sampled_from("0239abcdefghijk"),
    st.dictionaries(st.sampled_from(KEYS.split()), values, max_size=5) | values,
)
bodies = st.lists(frames | lines | choices | pieces | st.binary(max_size=9), max_size=8).map(
    b"".join
)
places = st.lists(st.integers(0, 300), max_size=4)


def assert_one_end(kind: str, chunks: list[bytes]) -> None:
    events = decoded(UPSTREAMS[kind].decoder(TARGET), chunks)
    assert_well_formed(events)
    whole = decoded(UPSTREAMS[kind].decoder(TARGET), [b"".join(chunks)])
    # AgentsGT's may be a text without frames.
    assert joined(whole) == joined(events) if kind == "agentsgt" else whole == events
    for dialect in DIALECTS:
        encoded(dialect, events)


@every_kind
@settings(max_examples=150, deadline=None)
@given(data=bodies, where=places)
def test_frames_of_known_words(kind: str, data: bytes, where: list[int]) -> None:
    """Known words in any order and of any type are read, and can be written in every dialect."""
    assert_one_end(kind, cut(data, where))


@every_kind
@settings(max_examples=60, deadline=None)
@given(body=values, where=places)
def test_documents_of_known_words(kind: str, body: Json, where: list[int]) -> None:
    """So are whole answers."""
    assert_one_end(kind, cut(json.dumps(body), where))


@every_kind
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), where=places)
def test_any_bytes(kind: str, data: bytes, where: list[int]) -> None:
    """So is any noise."""
    assert_one_end(kind, cut(data, where))


@every_kind
@settings(max_examples=100, deadline=None)
@given(draw=st.data())
def test_damaged_transcripts(kind: str, draw: st.DataObject) -> None:
    """So is a transcript with a piece cut out and noise put in its place."""
    data = draw.draw(st.sampled_from([case.data for case in cases() if case.kind == kind]))
    start, length = draw.draw(st.integers(0, len(data))), draw.draw(st.integers(0, 30))
    noise = draw.draw(st.binary(max_size=6))

    damaged = data[:start] + noise + data[start + length :]

    assert_one_end(kind, cut(damaged, draw.draw(places)))


@every_kind
@pytest.mark.parametrize("depth", [100, 201, 500, 2000])
def test_deep_nesting(kind: str, depth: int) -> None:
    """JSON nested deeper than it could be written again is no answer."""
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    call = b'[{"index":0,"function":{"name":"x","arguments":%b}}]' % deep
    for body in (
        b'data: {"type":"data-x","data":%b}\n\n' % deep,
        b'event: x\ndata: {"a":%b}\n\n' % deep,
        b'data: {"type":"tool-call","toolCallId":"1","toolName":"x","input":%b}\n\n' % deep,
        b'data: {"choices":[{"delta":{"tool_calls":%b}}]}\n\ndata: [DONE]\n\n' % call,
        deep,
    ):
        target = Target(upstream="any", transcript=TARGET.transcript)
        events = decoded(UPSTREAMS[kind].decoder(target), [body])
        assert_well_formed(events)
        for dialect in DIALECTS:
            encoded(dialect, events)
