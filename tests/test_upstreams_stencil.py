"""Chunks that differ from the one before in their text alone are read by that alone."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import Event, Finish, FinishReason, Json, TextDelta
from gateway.upstreams import openai
from gateway.upstreams.openai import OpenAIReader
from gateway.upstreams.stencil import MAX_CUTS, Stencil, cut, hole
from gateway.upstreams.stream import StreamDecoder
from gateway.wire import json
from gateway.wire.sse import Parser, frame
from tests.golden_cases import decoded

HOLE = hole("content")


def content(chunk: Json) -> str | None:
    """What is read of a chunk here: its content, whatever else it says."""
    said = json.mapping(chunk)
    return json.text(json.mapping(said.get("delta", said)).get("content")) or None


def stencil_of(data: bytes, text: str) -> Stencil:
    made = cut(data, text, HOLE, content)
    assert made is not None
    return made


SPACED = stencil_of(b'{"id": 1, "content": "a", "more": {}}', "a")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('"b"', "b"),
        ('""', ""),
        (r'"\"}, \\"', '"}, \\'),
        (r'"\ud83d\ude00 \u00e9"', "\U0001f600 é"),
        (r'"half \ud83d"', "half �"),
    ],
)
def test_the_text(written: str, text: str) -> None:
    """However it is written, it is what the whole chunk says."""
    data = b'{"id": 1, "content": %b, "more": {}}' % written.encode()

    assert SPACED.text(data) == text == json.mapping(json.loads(data))["content"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"id": 2, "content": "b", "more": {}}',
        b'{"id": 1, "content": "b", "more": {"x": 1}}',
        b'{"id": 1, "content": null, "more": {}}',
        b'{"id": 1, "content": "b", "error": "c", "more": {}}',
        b'{"id": 1, "content": , "more": {}}',
        b'{"id": 1, "content": "b, "more": {}}',
        b'{"id": 1, "content": "more": {}}',
        b'{"id": 1, "content":  "b" , "more": {}}',
        b"",
    ],
)
def test_what_says_more(data: bytes) -> None:
    """What differs in anything else, or is no JSON, has to be read whole."""
    assert SPACED.text(data) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"x": {"content": "b"}, "content": "a"}', "a"),
        (b'{"content" : "a"}', "a"),
        (rb'{"con\u0074ent":"a"}', "a"),
        (rb'{"my\"content":"a","con\u0074ent":"a"}', "a"),
        (b'{"content":"a","content":"b"}', "b"),
    ],
)
def test_no_stencil(data: bytes, text: str) -> None:
    """Where the text is not where it seems to be, there is none."""
    assert content(json.loads(data)) == text
    assert cut(data, text, HOLE, content) is None


def test_padding() -> None:
    """OpenAI pads its chunks, each in its own way; what else may stand there is no padding."""
    padded = b'{"delta":{"content":"%b"},"obfuscation":"%b"}'
    made = stencil_of(padded % (b"a", b"x7Q"), "a")

    assert made.text(padded % (b"bcd", b"Z")) == "bcd"
    assert made.text(b'{"delta":{"content":"b"}}') == "b"
    assert made.text(padded % (b"b", rb"\"")) is None
    assert made.text(b'{"delta":{"content":"b"},"obfuscation":"x","error":"y"}') is None
    assert made.text(b'{"delta":{"content":"b,"obfuscation":"x"}') is None


def test_more_padding_than_one() -> None:
    """However much there is of it, only one is left out."""
    made = stencil_of(b'{"delta":{"content":"a"}}', "a")
    assert made.text(b'{"delta":{"content":"b"}%b}' % (b',"obfuscation":"x"' * 5000)) is None


# The reader of OpenAI's chunks, which cuts stencils.


def chunk(delta: Json, **beside: Json) -> bytes:
    choice: Json = {"index": 0, "delta": delta, "finish_reason": None}
    return json.dumps({"id": "x", "choices": [choice], **beside})


DELTAS = st.fixed_dictionaries(
    {"content": st.text(max_size=4)},
    optional={"role": st.just("assistant"), "reasoning": st.text(max_size=2)},
)
BESIDE = st.fixed_dictionaries(
    {},
    optional={
        "created": st.integers(0, 2),
        "usage": st.just({"prompt_tokens": 1}),
        "error": st.sampled_from([None, "broken"]),
        "obfuscation": st.sampled_from(["", "x7Q", '"']),
    },
)
CHUNKS = st.lists(st.builds(lambda delta, said: chunk(delta, **said), DELTAS, BESIDE), max_size=20)


def read(chunks: list[bytes]) -> Iterator[Event]:
    reader = OpenAIReader()
    for data in chunks:
        yield from reader.frame("message", data)
    yield from reader.frame("message", b"[DONE]")


@given(CHUNKS)
def test_the_same_as_read_whole(chunks: list[bytes]) -> None:
    """A stencil changes nothing but how long the reading takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai, "MAX_CUTS", 0)
        whole = list(read(chunks))

    assert list(read(chunks)) == whole


# What an upstream may put between two quotes, right or wrong.
HOLES = st.text('a",[]{}\\ :\r\n\u2028', max_size=8).map(str.encode)
SAID = st.one_of(
    st.builds(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n'.__mod__, HOLES),
    st.builds(lambda data: b"data: %b\n\n" % data, st.builds(chunk, DELTAS)),
    st.sampled_from([b": ping\n\n", b"data: [DONE]\n\n", b"\n", b"\r\n", b"id: 7\n"]),
)


@given(st.lists(SAID, max_size=12).map(b"".join), st.lists(st.integers(0, 800), max_size=6))
def test_reads_the_same_as_frames(stream: bytes, cuts: list[int]) -> None:
    """Nor does it what several frames in one read say, or parts of them."""
    places = [0, *sorted(cuts), len(stream)]
    reads = [stream[start:end] for start, end in pairwise(places)]
    alike = decoded(StreamDecoder(OpenAIReader()), reads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai, "MAX_CUTS", 0)
        assert decoded(StreamDecoder(OpenAIReader()), reads) == alike


@pytest.mark.parametrize("said", [["two"], ["two", " three ", '"four"\n']])
def test_whole_frames_are_not_taken_apart(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One or several in a read, once the first of their kind has been seen."""
    decoder = StreamDecoder(OpenAIReader())
    decoder.feed(frame(chunk({"content": "one"})))
    monkeypatch.setattr(Parser, "feed", None)

    read = b"".join(frame(chunk({"content": text})) for text in said)
    assert decoder.feed(read) == [TextDelta(text) for text in said]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is read as JSON, from now on; of strings what is between their quotes."""
    loads, string, seen = json.loads, json.string, list[bytes]()

    def watched(data: bytes | bytearray) -> Json:
        seen.append(bytes(data))
        return loads(data)

    def watched_string(data: bytes) -> str | None:
        seen.append(data)
        return string(data)

    monkeypatch.setattr(json, "loads", watched)
    monkeypatch.setattr(json, "string", watched_string)
    return seen


def test_only_the_text_is_read(parsed: list[bytes]) -> None:
    """From the second chunk on, also after one that says something else."""
    reader = OpenAIReader()
    reader.frame("message", chunk({"content": "one"}))
    reader.frame("message", chunk({}, usage={"prompt_tokens": 1}))
    parsed.clear()

    assert reader.frame("message", chunk({"content": "two"})) == [TextDelta("two")]
    assert parsed == [b"two"]


def test_a_name_is_heeded() -> None:
    """An error is one by its name also if it is written as text is."""
    reader = OpenAIReader()
    data = chunk({"content": "one"})
    reader.frame("message", data)

    (event,) = reader.frame("error", data)
    assert not isinstance(event, TextDelta)


def test_reasoning_has_to_be_over(parsed: list[bytes]) -> None:
    """As long as a text may be reasoning there is no stencil, for it would be text."""
    reader = OpenAIReader()
    for said in ("<think>", "why", "</think>"):
        reader.frame("message", chunk({"content": said}))
    reader.frame("message", chunk({"content": "answer"}))
    parsed.clear()

    assert reader.frame("message", chunk({"content": "<think>"})) == [TextDelta("<think>")]
    assert parsed == [b"<think>"]


def test_chunks_that_always_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the end nothing is cut any more: it would cost more than it saves."""
    cuts = []

    def counted(data: bytes, text: str, *how: object) -> None:
        cuts.append(text)

    monkeypatch.setattr(openai, "cut", counted)
    chunks = [chunk({"content": "x"}, created=number) for number in range(3 * MAX_CUTS)]

    events = list(read(chunks))
    assert events[:-1] == [TextDelta("x")] * len(chunks)
    assert events[-1] == Finish(FinishReason.OTHER)
    assert len(cuts) == MAX_CUTS
