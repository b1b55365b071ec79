"""What models are told of a conversation: whole rounds, the newest that fit."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversations import history
from gateway.conversations.history import spoken, tokens, trimmed
from gateway.core.conversation import Part, Role
from gateway.core.events import (
    Citation,
    Citations,
    FinishReason,
    Json,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
)
from gateway.core.turn import Budget, Message
from tests.conversations.records import answer, question

ONE, TWO = ToolCall("call_1", "look_up", {"order": 7}), ToolCall("call_2", "look_up", {"order": 8})


def said(*parts: Part) -> list[Message]:
    return spoken([answer(1, *parts)])


def user(text: str) -> Message:
    return Message(Role.USER, text)


def assistant(text: str = "", *calls: ToolCall) -> Message:
    return Message(Role.ASSISTANT, text, calls)


def tool(text: str, call_id: str) -> Message:
    return Message(Role.TOOL, text, call_id=call_id)


# Spoken


def test_nothing_said_is_nothing() -> None:
    """An empty conversation has no messages."""
    assert spoken([]) == []


def test_users_and_assistants_speak_in_turn() -> None:
    """One message for each, its text joined; thoughts and sources are not told again."""
    parts = (
        ReasoningDelta("Hm."),
        TextDelta("Two "),
        Citations([Citation("https://a.example")]),
        TextDelta("days."),
    )

    assert spoken([question(0, "When?"), answer(1, *parts), question(2, "Sure?")]) == [
        user("When?"),
        assistant("Two days."),
        user("Sure?"),
    ]


def test_a_result_is_a_message_after_its_call() -> None:
    """Several in the order of the calls, whenever they came."""
    parts = (TextDelta("Let me see."), ONE, TWO, ToolOutput("call_2", "b"), ToolOutput("call_1", 1))

    assert said(*parts) == [
        assistant("Let me see.", ONE, TWO),
        tool("1", "call_1"),
        tool("b", "call_2"),
    ]


def test_an_agents_steps_are_messages_of_their_own() -> None:
    """Each up to the results of the tools that it ran itself."""
    parts = (
        TextDelta("First."),
        ONE,
        ToolOutput("call_1", "a"),
        ReasoningDelta("Hm."),
        TextDelta("Second."),
        TWO,
        ToolOutput("call_2", "b"),
        TextDelta("Done."),
    )

    assert said(*parts) == [
        assistant("First.", ONE),
        tool("a", "call_1"),
        assistant("Second.", TWO),
        tool("b", "call_2"),
        assistant("Done."),
    ]


def test_calls_without_a_result_are_not_told() -> None:
    """Models refuse a history with one; what was said beside it stays."""
    assert said(TextDelta("Let me see."), ONE, TWO, ToolOutput("call_2", "b")) == [
        assistant("Let me see.", TWO),
        tool("b", "call_2"),
    ]
    assert said(TextDelta("Let me see."), ONE) == [assistant("Let me see.")]


def test_a_result_without_a_call_is_not_told() -> None:
    """Models refuse that as well."""
    assert said(ToolOutput("call_9", "x"), TextDelta("Done.")) == [
        assistant(),
        assistant("Done."),
    ]


def test_upstreams_are_given_back_their_own_ids() -> None:
    """With call and result; and what else they want back with the call."""
    call = ToolCall("call_1_2", "f", {}, {"thought": "x"}, "call_1")

    assert said(call, ToolOutput("call_1_2", "a")) == [
        assistant("", ToolCall("call_1", "f", {}, {"thought": "x"})),
        tool("a", "call_1"),
    ]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (None, "null"),
        (7, "7"),
        ({"a": ["ü", True]}, '{"a":["ü",true]}'),
    ],
)
def test_results_are_text(output: Json, text: str) -> None:
    """A string as it stands, anything else as JSON."""
    assert said(ONE, ToolOutput("call_1", output))[1] == tool(text, "call_1")


def test_an_incomplete_answer_is_told_as_far_as_it_came() -> None:
    """It is what the user has seen."""
    assert spoken([answer(1, TextDelta("I th"), finish=None)]) == [assistant("I th")]
    assert spoken([answer(1, ONE, finish=FinishReason.TOOL_CALLS)]) == [assistant()]


# Trimmed

ROUNDS = (
    user("1"),
    assistant("one"),
    user("2"),
    assistant("", ONE),
    tool("x", "call_1"),
    assistant("two"),
    user("3"),
)


@pytest.mark.parametrize(
    ("most", "left"),
    [(100, 7), (7, 7), (6, 5), (5, 5), (4, 1), (3, 1), (2, 1), (1, 1), (0, 1)],
)
def test_only_so_many_messages_are_told(most: int, left: int) -> None:
    """The newest, cut before a user's only, and the newest question in any case."""
    assert trimmed(ROUNDS, Budget(most)) == list(ROUNDS[len(ROUNDS) - left :])


def test_only_so_many_tokens_are_told() -> None:
    """Those that are spent already count, and the newest question stays in any case."""
    newest = tokens(ROUNDS[6])
    round_two = sum(map(tokens, ROUNDS[2:6]))
    everything = sum(map(tokens, ROUNDS))
    for budget, used, left in [
        (everything, 0, 7),
        (everything - 1, 0, 5),
        (everything, 1, 5),
        (newest + round_two, 0, 5),
        (newest + round_two - 1, 0, 1),
        (newest + round_two + 10, 11, 1),
        (0, 0, 1),
        (1, 10_000, 1),
    ]:
        assert trimmed(ROUNDS, Budget(100, budget), used) == list(ROUNDS[7 - left :])


def test_the_round_that_is_going_on_stays() -> None:
    """However long it is: its question, its calls and their results."""
    going = (*ROUNDS[:2], user("2"), assistant("", ONE), tool("x" * 10_000, "call_1"))

    assert trimmed(going, Budget(2, 10)) == list(going[2:])


def test_what_begins_with_a_greeting_is_told_whole() -> None:
    """Nothing is cut where all of it fits; where it does not, the greeting goes first."""
    greeted = [assistant("Hello!"), user("1"), assistant("one"), user("2")]

    assert trimmed([], Budget(10)) == []
    assert trimmed(greeted, Budget(4)) == greeted
    assert trimmed(greeted, Budget(3)) == greeted[1:]


def test_each_message_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long history costs in proportion to its length."""
    measured: list[Message] = []

    def counting(message: Message) -> int:
        measured.append(message)
        return tokens(message)

    monkeypatch.setattr(history, "tokens", counting)
    long = [user("q"), assistant("a")] * 5000
    assert trimmed(long, Budget(100_000, 10_000_000)) == long

    assert len(measured) == len(long)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Any that a conversation can be: turns of a question and at least one answer."""
    messages: list[Message] = []
    for n in range(draw(st.integers(1, 6))):
        messages.append(user("q" * draw(st.integers(0, 50))))
        for _ in range(draw(st.integers(0, 3))):
            messages += [assistant("", ONE), tool("x" * n, "call_1")]
        messages += [assistant("a" * draw(st.integers(0, 50)))]
    return messages[: draw(st.sampled_from([len(messages), len(messages) - 1]))]


@given(conversations(), st.integers(0, 30), st.none() | st.integers(0, 200), st.integers(0, 50))
def test_what_is_told_is_an_end_that_fits(
    messages: list[Message], most: int, size: int | None, used: int
) -> None:
    """As long as can be: one more round would not fit, or there is none."""
    told = trimmed(messages, Budget(most, size), used)

    starts = [n for n, message in enumerate(messages) if message.role is Role.USER]
    fitting = [n for n in starts if fits(messages[n:], most, size, used)]
    assert told == messages[min([*fitting, starts[-1]]) :]


def fits(messages: Sequence[Message], most: int, size: int | None, used: int) -> bool:
    return len(messages) <= most and (size is None or used + sum(map(tokens, messages)) <= size)


# Tokens


def test_tokens_are_about_what_models_count() -> None:
    """By bytes, for a letter of the world's larger scripts takes more of both."""
    assert tokens(user("")) == 4
    assert tokens(user("x" * 400)) == 104
    assert tokens(user("x" * 401)) == 105
    assert tokens(user("語" * 400)) == 304


def test_calls_take_tokens() -> None:
    """Their names and arguments, as the JSON that models read."""
    call = ToolCall("call_1", "look_up", {"order": "x" * 400})

    assert tokens(assistant("", call)) == 4 + (len("look_up") + len('{"order":""}') + 400 + 3) // 4
