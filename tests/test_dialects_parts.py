"""Parts of messages, as Bookbag v2 and Chatbase write them."""

from gateway.core.events import (
    Citation,
    Citations,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
)
from gateway.dialects.parts import written


def test_each_in_its_place() -> None:
    """In the order in which they were said; there are no words for reasoning."""
    found = written(
        [
            ReasoningDelta("hm"),
            TextDelta("I look it up."),
            ToolCall("call_1", "status", {"order": 7}, echo="x", said_id="c"),
            ToolOutput("call_1", ["shipped"]),
            Citations([Citation(title="B")]),
        ]
    )

    assert found == [
        {"type": "text", "text": "I look it up."},
        {"type": "tool-call", "toolCallId": "call_1", "toolName": "status", "input": {"order": 7}},
        {
            "type": "tool-result",
            "toolCallId": "call_1",
            "toolName": "status",
            "output": ["shipped"],
        },
        {"type": "citations", "citations": [{"title": "B"}]},
    ]


def test_a_result_without_its_call() -> None:
    """Its tool has no name, and null is none."""
    assert written([ToolOutput("call_1", None)]) == [
        {"type": "tool-result", "toolCallId": "call_1", "output": None}
    ]


def test_never_nothing() -> None:
    """Clients show the first part."""
    assert written([]) == written([ReasoningDelta("hm")]) == [{"type": "text", "text": ""}]
