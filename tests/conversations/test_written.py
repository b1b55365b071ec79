"""Records as JSON: what is read is what was written, whatever it was."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.conversations.written import (
    is_whole,
    read_ids,
    read_message,
    read_parts,
    read_whole,
    write_about,
    write_ids,
    write_parts,
    write_whole,
)
from gateway.core.conversation import Feedback, Part, Role, StoredMessage
from gateway.core.events import (
    Citation,
    Citations,
    FinishReason,
    Json,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)

TEXTS = st.text(max_size=40)
NUMBERS = st.integers(0, (1 << 53) - 1)
VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
CITATIONS = st.builds(Citation, st.none() | TEXTS, st.none() | TEXTS, st.none() | TEXTS)
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(TextDelta, TEXTS),
    st.builds(ReasoningDelta, TEXTS),
    st.builds(ToolCall, TEXTS, TEXTS, VALUES, VALUES, st.none() | TEXTS),
    st.builds(ToolOutput, TEXTS, VALUES),
    st.builds(Citations, st.lists(CITATIONS, max_size=3)),
)
USAGES = st.builds(
    Usage, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | st.floats(0, 1e12)
).filter(bool)
MESSAGES = st.builds(
    StoredMessage,
    id=NUMBERS,
    position=NUMBERS,
    role=st.just(Role.ASSISTANT),
    parts=st.lists(PARTS, max_size=5).map(tuple),
    created=NUMBERS,
    finish=st.none() | st.sampled_from(FinishReason),
    usage=st.none() | USAGES,
    model=st.none() | TEXTS,
    upstream=st.none() | TEXTS,
    upstream_conversation=st.none() | TEXTS,
    upstream_message=st.none() | TEXTS,
    feedback=st.none() | st.sampled_from(Feedback),
)


@given(st.lists(PARTS, max_size=8).map(tuple))
def test_parts_come_back(parts: tuple[Part, ...]) -> None:
    """Every kind, every field, every value; as one line that any database can hold."""
    written = write_parts(parts)

    assert read_parts(written) == parts
    assert "\0" not in written
    assert "\n" not in written


@given(MESSAGES)
def test_messages_come_back(message: StoredMessage) -> None:
    """From their columns."""
    read = read_message(
        message.position,
        message.id,
        message.role,
        message.created,
        write_parts(message.parts),
        write_about(message),
        message.feedback,
    )

    assert read == message


@given(MESSAGES)
def test_whole_messages_come_back(message: StoredMessage) -> None:
    """Without columns; and which one it is can be seen from outside."""
    written = write_whole(message)

    assert read_whole([written]) == (message,)
    assert is_whole(written, message.id)
    others = {message.id + 1, message.id * 10, message.id // 10} - {message.id}
    assert not any(is_whole(written, other) for other in others)


@given(TEXTS)
def test_a_users_message_has_only_its_text(text: str) -> None:
    """Nothing about it is written, and nothing read."""
    message = StoredMessage(id=1, position=0, role=Role.USER, parts=(TextDelta(text),), created=2)
    assert write_about(message) is None

    assert read_message(0, 1, "user", 2, write_parts(message.parts), None, None) == message
    assert read_whole([write_whole(message)] * 2) == (message, message)


def test_figures_that_are_all_unknown_are_no_usage() -> None:
    """Nothing known is nothing kept."""
    message = StoredMessage(
        id=1, position=0, role=Role.ASSISTANT, parts=(), created=2, usage=Usage()
    )

    assert read_message(0, 1, "assistant", 2, "[]", write_about(message), None).usage is None


@given(st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_upstreams_ids_come_back(ids: dict[str, str]) -> None:
    """Under their targets."""
    assert read_ids(write_ids(ids)) == ids


def test_what_a_newer_gateway_has_written_is_left_out() -> None:
    """A part of a kind that this one does not know; the others are read."""
    text = '[{"text":"a","since":2},{"image":"b"},{"thought":"c"},7,null]'

    assert read_parts(text) == (TextDelta("a"), ReasoningDelta("c"))


def test_deep_arguments_come_back() -> None:
    """As deep as any that a client or a model may send."""
    value: Json = []
    for _ in range(199):
        value = [value]
    parts = (ToolCall("call_1", "f", value, value), ToolOutput("call_1", value))

    assert read_parts(write_parts(parts)) == parts
