"""The transcripts of every upstream kind, replayed in every way that a network may deliver them."""

import json
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.core.events import (
    TERMINAL,
    Event,
    Failure,
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
)
from gateway.dialects import DIALECTS
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.refusals import MESSAGES
from tests.conftest import Golden
from tests.golden_cases import TURN, Case, cases, cut, decoded, encoded, written

CASES = cases()

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_stream = pytest.mark.parametrize(
    "case", [case for case in CASES if case.streamed], ids=lambda case: case.name
)
line_ends = pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])

# What the transcripts' errors say of the upstreams' insides.
SECRETS = (b"gpu-17", b"org-123", b"acme-prod", b"991", b"nginx", b"pod ", b"10.0.0.3", b"ws 9")


def test_every_kind_has_transcripts() -> None:
    """No kind is without its cases, and every folder of them is that of a kind."""
    assert {case.kind for case in CASES} == set(UPSTREAMS)


@every_case
def test_events(case: Case, golden: Golden) -> None:
    """A transcript means the events that its golden file names."""
    golden(case.beside(".events.json"), written(case.decoded([case.data])))


@every_case
@pytest.mark.parametrize("dialect", DIALECTS)
def test_frames(case: Case, dialect: str, golden: Golden) -> None:
    """A client of each dialect receives the frames of the golden file."""
    golden(case.beside(f".{dialect}.sse"), encoded(dialect, case.decoded([case.data])))


@every_stream
@line_ends
def test_byte_by_byte_with_any_line_end(case: Case, end: bytes) -> None:
    """Neither the line end nor the arrival of single bytes changes the events."""
    data = case.data.replace(b"\n", end)

    assert case.decoded([data]) == case.decoded([case.data])
    assert case.decoded(cut(data, range(len(data)))) == case.decoded([case.data])


@every_case
@settings(max_examples=15, deadline=None)
@given(draw=st.data())
def test_cut_anywhere(case: Case, draw: st.DataObject) -> None:
    """Where the network cuts the body never changes the events."""
    data = case.data
    places = draw.draw(st.lists(st.integers(0, len(data)), max_size=8))

    assert case.decoded(cut(data, places)) == case.decoded([data])


@every_case
@settings(max_examples=10, deadline=None)
@given(draw=st.data())
def test_broken_off_anywhere(case: Case, draw: st.DataObject) -> None:
    """A body that ends early says no more than the whole, and what failed never looks complete."""
    data = case.data
    whole = case.decoded([data])
    end = draw.draw(st.integers(0, len(data)))
    # What breaks off within the words that tell AgentsGT's forms apart may be a text of its own.
    assume(case.kind != "agentsgt" or not case.framed or not 0 < end < 16)

    events = case.decoded([data[:end]])

    assert_well_formed(events)
    assert said(events) == said(whole)[: len(said(events))]
    assert isinstance(events[-1], Failure) or isinstance(whole[-1], Finish)


@every_case
def test_well_formed(case: Case) -> None:
    """Every turn ends exactly once, and what it says on the way is in order."""
    assert_well_formed(case.decoded([case.data]))


@every_case
def test_nothing_after_the_end(case: Case) -> None:
    """A decoder that gave its terminal event is silent, whatever follows."""
    decoder = case.decoder()
    decoded(decoder, [case.data])

    assert decoder.feed(case.data) == []
    assert decoder.eof() == []


@every_case
@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_internals_pass(case: Case, dialect: str) -> None:
    """An upstream's error text stays with us."""
    frames = encoded(dialect, case.decoded([case.data]))

    assert [secret for secret in SECRETS if secret in frames] == []


@every_case
def test_the_guides_own_parser_reads_v2(case: Case) -> None:
    """A client written from Bookbag's guide alone reads every answer, to its end."""
    events = case.decoded([case.data])
    text = encoded("bookbag-v2", events).decode()

    frames, ended = parse_as_the_guide_says(text)

    assert ended
    assert text.endswith("data: [DONE]\n\n")
    assert all(block.startswith("data: ") for block in text.split("\n\n")[:-1])
    kinds = [frame["type"] for frame in frames]
    assert Counter(kinds)["finish"] + Counter(kinds)["error"] == 1
    assert kinds[-1] in ("finish", "error")
    deltas = [str(frame["text"]) for frame in frames if frame["type"] == "text-delta"]
    assert "".join(deltas) == said(events)


@every_case
def test_v1_frames_are_named_and_end_once(case: Case) -> None:
    """Every v1 frame is one `event:` and one `data:` line, and `done` or `error` is the last."""
    blocks = encoded("bookbag-v1", case.decoded([case.data])).decode().split("\n\n")
    assert blocks.pop() == ""

    names = []
    for block in blocks:
        event, data = block.split("\n")
        assert event.startswith("event: ")
        assert data.startswith("data: ")
        assert isinstance(json.loads(data.removeprefix("data: ")), dict)
        names.append(event.removeprefix("event: "))

    assert [name for name in names if name in ("done", "error")] == names[-1:]
    assert set(names) <= {"token", "citations", "done", "error"}


@pytest.mark.parametrize("kind", ["openai", "bookbag-v1", "bookbag-v2", "chatbase", "agentsgt"])
@pytest.mark.parametrize("size", [150_000, 1_000_000])
def test_huge_event(kind: str, size: int) -> None:
    """An event of nearly a megabyte is an event like any other, in one piece or in many."""
    frames = {
        "openai": '{"choices":[{"delta":{"content":"%s"},"finish_reason":"stop"}]}\n\n',
        "bookbag-v1": '{"type":"token","text":"%s"}\n\ndata: {"type":"done"}\n\n',
        "bookbag-v2": '{"type":"text-delta","text":"%s"}\n\ndata: {"type":"finish"}\n\n',
        "chatbase": '{"type":"text-delta","delta":"%s"}\n\ndata: {"type":"finish"}\n\n',
        "agentsgt": '{"type":"text-delta","delta":"%s"}\n\ndata: {"type":"finish"}\n\n',
    }
    text = "注🚀" * (size // 7)
    data = ("data: " + frames[kind] % text).encode()
    case = next(case for case in CASES if case.kind == kind and case.streamed)

    events = case.decoded(data[start : start + 1460] for start in range(0, len(data), 1460))

    assert said(events) == text
    assert isinstance(events[-1], Finish)
    assert case.decoded([data]) == events


def assert_well_formed(events: list[Event]) -> None:
    assert [type(event) in TERMINAL for event in events] == [False] * (len(events) - 1) + [True]
    begun: dict[str, str] = {}
    called: set[str] = set()
    for event in events:
        match event:
            case TextDelta(text) | ReasoningDelta(text):
                assert text
            case ToolCallStart(call_id, name):
                assert name
                assert call_id not in begun
                begun[call_id] = ""
            case ToolCallDelta(call_id, fragment):
                assert fragment
                assert call_id not in called
                begun[call_id] += fragment
            case ToolCall(call_id, name):
                assert name
                assert call_id not in called
                called.add(call_id)
            case Failure(code, message):
                assert message == MESSAGES[code] or code == "upstream_rejected"
            case _:
                pass
    assert isinstance(events[-1], Failure) or begun.keys() <= called


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if type(event) is TextDelta)


def parse_as_the_guide_says(text: str) -> tuple[list[dict[str, object]], bool]:
    """Split on newlines, strip `data: `, stop at `[DONE]`, JSON-parse everything else."""
    frames: list[dict[str, object]] = []
    for line in text.split("\n"):
        if not line:
            continue
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            return frames, True
        frames.append(json.loads(data))
    return frames, False


def test_the_turns_ids_are_the_gateways() -> None:
    """Clients see the gateway's ids, not those of the upstream."""
    case = next(case for case in CASES if case.name == "bookbag-v2/text")

    frames = encoded("bookbag-v2", case.decoded([case.data]))

    assert TURN.conversation_id is not None
    assert TURN.conversation_id.encode() in frames
    assert b"msg_789" not in frames
