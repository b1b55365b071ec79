"""Reasoning that is written into the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import Event, ReasoningDelta, TextDelta
from gateway.upstreams.think import MAX_BLANK, ThinkSplitter
from tests.golden_cases import cut


def split(*deltas: str) -> tuple[str, str]:
    """The reasoning and the text."""
    splitter = ThinkSplitter()
    events = [event for delta in deltas for event in splitter.split(delta)] + splitter.end()
    return joined(events, ReasoningDelta), joined(events, TextDelta)


def joined(events: list[Event], kind: type[ReasoningDelta] | type[TextDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


CASES = [
    ("plain text", "", "plain text"),
    ("<think>why</think>\n\nanswer", "why", "answer"),
    (" \n<think>why</think>answer", "why", "answer"),
    ("<think></think>answer", "", "answer"),
    ("<think>never closed", "never closed", ""),
    ("<think>half </thi", "half </thi", ""),
    ("<think>a < b </ c</think>d", "a < b </ c", "d"),
    ("<think>why</think>", "why", ""),
    ("<think>why</think> a <think>word</think>", "why", "a <think>word</think>"),
    ("say <think> later", "", "say <think> later"),
    ("</think>odd", "", "</think>odd"),
    ("<thin", "", "<thin"),
    ("<thing>", "", "<thing>"),
    ("  ", "", "  "),
    ("  indented", "", "  indented"),
]


@pytest.mark.parametrize(("text", "reasoning", "answer"), CASES)
def test_split(text: str, reasoning: str, answer: str) -> None:
    """Only tags at the very start are tags, in one delta or in one per character."""
    assert split(text) == (reasoning, answer)
    assert split(*text) == (reasoning, answer)


@given(st.sampled_from(CASES), st.lists(st.integers(0, 50), max_size=4))
def test_cut_anywhere(case: tuple[str, str, str], places: list[int]) -> None:
    """Where the deltas are cut changes nothing."""
    text, reasoning, answer = case

    deltas = [piece.decode() for piece in cut(text.encode(), places)]

    assert split(*deltas) == (reasoning, answer)


def test_blanks_are_held_back_only_so_far() -> None:
    """An answer of nothing but blanks is passed on, and is no longer looked through each time."""
    splitter = ThinkSplitter()
    events = [splitter.split(" ") for _ in range(3 * MAX_BLANK)]

    assert [len(said) for said in events] == [0] * MAX_BLANK + [1] * (2 * MAX_BLANK)
    assert splitter.end() == []
    assert split(" " * MAX_BLANK, "<think>why</think>answer") == ("why", "answer")


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", " ", "a", "\n"])))
def test_no_event_is_empty(deltas: list[str]) -> None:
    """Whatever comes, no delta is empty and text that is no reasoning is not lost."""
    splitter = ThinkSplitter()
    events = [event for delta in deltas for event in splitter.split(delta)] + splitter.end()

    assert all(event.text for event in events if isinstance(event, (TextDelta, ReasoningDelta)))
    if not "".join(deltas).lstrip().startswith("<think>"):
        assert joined(events, TextDelta) == "".join(deltas)
