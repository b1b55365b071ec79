"""The frames of a UI message stream: parts that are begun, filled and ended in order."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import (
    Citation,
    Citations,
    Event,
    Json,
    ReasoningDelta,
    StepFinish,
    StepStart,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolOutput,
)
from gateway.dialects.ui_frames import DONE, FRAMES, UIFrames, bare, named
from gateway.wire import json
from gateway.wire.sse import Parser

openings = pytest.mark.parametrize("opening", [bare, named])

# Also the shapes of an upstream that does as it likes.
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, st.text(min_size=1)),
    st.builds(ReasoningDelta, st.text(min_size=1)),
    st.sampled_from([ToolCallStart("c1", "f"), ToolCallStart("c2", "g")]),
    st.builds(ToolCallDelta, st.just("c1"), st.text(min_size=1)),
    st.sampled_from([ToolCall("c1", "f", {}), ToolCall("c2", "g", "no JSON"), StepStart()]),
    st.sampled_from([ToolOutput("c1", None), StepFinish()]),
    st.builds(
        lambda text: Citations([Citation(title=text), Citation("https://a", text)]), st.text()
    ),
)


@openings
@given(events=st.lists(EVENTS, max_size=12), fails=st.booleans())
def test_parts_are_whole(opening: Callable[[str], bytes], events: list[Event], fails: bool) -> None:
    """Every delta is in the part that is open, every part is ended, no id comes twice, and all the
    text is there."""
    frames = UIFrames(opening)
    body = b"".join(FRAMES[type(event)](frames, event) for event in events)
    body += frames.failure("failed") if fails else frames.close() + DONE
    open_part, ids, said = None, [], {"text": "", "reasoning": ""}
    *chunks, last = Parser().feed(body)
    assert last == ("message", b"[DONE]")
    for name, data in chunks:
        chunk = json.mapping(json.loads(data))
        kind = json.text(chunk["type"])
        assert name == (kind if opening is named else "message")
        assert None not in [value for key, value in chunk.items() if key not in ("input", "output")]
        part, _, step = kind.partition("-")
        if part not in said:
            assert open_part is None or part in ("source", "tool")
            assert open_part is None or kind not in ("tool-input-start", "tool-input-available")
            continue
        if step == "start":
            assert open_part is None
            open_part = (part, chunk["id"])
            ids.append(chunk["id"])
        assert open_part == (part, chunk["id"])
        if step == "delta":
            said[part] += json.text(chunk["delta"])
        if step == "end":
            open_part = None

    assert open_part is None
    assert len(set(map(str, ids))) == len(ids)
    assert said["text"] == _joined(events, TextDelta)
    assert said["reasoning"] == _joined(events, ReasoningDelta)


def _joined(events: list[Event], kind: type[TextDelta | ReasoningDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


def test_a_source_without_anything_that_is_known() -> None:
    """A document must have a title, and a media type."""
    said = FRAMES[Citations](UIFrames(), Citations([Citation(snippet="...")]))

    ((_, data),) = Parser().feed(said)
    document: Json = {
        "type": "source-document",
        "sourceId": "source-1",
        "mediaType": "application/octet-stream",
        "title": "",
    }
    assert json.loads(data) == document
