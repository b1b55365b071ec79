"""Conversations that are kept, in the words of Bookbag v2: what is asked of them, and told."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from gateway.core.conversation import Conversation, Feedback, Owner, Place, Role, StoredMessage
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import FinishReason, Json, TextDelta, Usage
from gateway.core.turn import ChatRequest, ToolAnswer
from gateway.dialects.bookbag import FINISH_REASONS
from gateway.dialects.bookbag_v2 import BOOKBAG_V2
from gateway.dialects.records import MAX_OUTPUT, records
from gateway.wire import json

WORDS = records(FINISH_REASONS)

ASKED = StoredMessage(
    id=788, position=0, role=Role.USER, parts=(TextDelta("Hi"),), created=1_700_000_000_999
)
SAID = StoredMessage(
    id=789,
    position=1,
    role=Role.ASSISTANT,
    parts=(TextDelta("Hello"),),
    created=1_700_000_001_000,
    finish=FinishReason.LENGTH,
    usage=Usage(credits=2),
    model="m",
    upstream="main",
    upstream_conversation="theirs",
    upstream_message="theirs",
    feedback=Feedback.NEGATIVE,
)
FOUND = Conversation(
    id=456,
    place=Place(Owner("acme"), 1),
    user_id=None,
    title="Hi",
    created=1_700_000_000_999,
    updated=1_700_000_001_000,
    length=2,
    version=1,
    upstream_ids={"main/": "theirs"},
)
TOLD: Json = {
    "id": "456",
    "title": "Hi",
    "createdAt": 1_700_000_000,
    "updatedAt": 1_700_000_001,
    "userId": None,
    "status": "ongoing",
}


def refused(read: Callable[[Json], object], body: Json) -> dict[str, str]:
    with pytest.raises(GatewayError) as caught:
        read(body)
    assert caught.value.code is ErrorCode.INVALID_BODY
    return caught.value.details or {}


def retried(body: Json) -> ChatRequest:
    return WORDS.retry(body, "123", "456")


# Requests


def test_v2_has_these_words() -> None:
    """As far as they are not functions, they can be compared."""
    assert BOOKBAG_V2.records is not None
    assert BOOKBAG_V2.records.accepted == WORDS.accepted == b'{"data":{"success":true}}'


def test_a_retry() -> None:
    """It streams unless told not to; the ids are the path's and the client's."""
    asked = retried({"messageId": "msg_789"})

    assert asked == ChatRequest(
        agent="123", message=None, stream=True, conversation_id="456", retry_of="msg_789"
    )
    assert retried({"messageId": "789", "stream": False}) == replace(
        asked, stream=False, retry_of="789"
    )


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, {"messageId"}),
        ({"messageId": 789}, {"messageId"}),
        ({"messageId": ""}, {"messageId"}),
        ({"messageId": "x" * 513, "stream": "no"}, {"messageId", "stream"}),
    ],
)
def test_no_retry(body: Json, wrong: set[str]) -> None:
    """A message's id is a string; every complaint at once."""
    assert refused(retried, body).keys() == wrong


@pytest.mark.parametrize("read", [retried, WORDS.tool_result, WORDS.feedback])
@pytest.mark.parametrize("body", [None, [], "text", 1])
def test_a_body_is_an_object(read: Callable[[Json], object], body: Json) -> None:
    """Of every request."""
    assert refused(read, body) == {}


@pytest.mark.parametrize("output", [None, "shipped", 7, False, [], {"status": ["shipped"]}])
def test_a_tools_result(output: Json) -> None:
    """Any JSON."""
    given = WORDS.tool_result({"toolCallId": "call_1", "output": output})

    assert given == ToolAnswer("call_1", output)


def test_a_tool_without_a_result() -> None:
    """Nothing is null."""
    assert WORDS.tool_result({"toolCallId": "call_1"}) == ToolAnswer("call_1", None)


def test_a_result_of_20_kilobytes() -> None:
    """As JSON, in UTF-8; one byte more is too much."""
    fits = "ü" * (MAX_OUTPUT // 2 - 1)
    assert WORDS.tool_result({"toolCallId": "c", "output": fits}).output == fits

    assert refused(WORDS.tool_result, {"toolCallId": "c", "output": fits + "x"}) == {
        "output": "must have at most 20480 bytes as JSON"
    }


@pytest.mark.parametrize("call", [None, 1, "", "x" * 513, ["c"]])
def test_no_result_without_its_call(call: Json) -> None:
    """Its id is a string."""
    assert refused(WORDS.tool_result, {"toolCallId": call, "output": 1}).keys() == {"toolCallId"}


@pytest.mark.parametrize(
    ("word", "feedback"),
    [("positive", Feedback.POSITIVE), ("negative", Feedback.NEGATIVE), (None, None)],
)
def test_feedback(word: Json, feedback: Feedback | None) -> None:
    """Null clears it."""
    assert WORDS.feedback({"feedback": word}) is feedback


@pytest.mark.parametrize(
    "body", [{}, {"feedback": ""}, {"feedback": "good"}, {"feedback": True}, {"feedback": []}]
)
def test_no_feedback(body: Json) -> None:
    """It has to be said, also that it is to be cleared."""
    assert refused(WORDS.feedback, body) == {
        "feedback": 'is required and must be "positive", "negative" or null'
    }


# Answers


def test_a_users_message() -> None:
    """Times are whole seconds; nobody rates a question."""
    assert json.loads(WORDS.message(ASKED)) == {
        "id": "msg_788",
        "role": "user",
        "parts": [{"type": "text", "text": "Hi"}],
        "createdAt": 1_700_000_000,
        "feedback": None,
        "metadata": {},
    }


def test_an_assistants_message() -> None:
    """How it ended and what it cost; nothing of what it is to the upstream."""
    assert json.loads(WORDS.message(SAID)) == {
        "id": "msg_789",
        "role": "assistant",
        "parts": [{"type": "text", "text": "Hello"}],
        "createdAt": 1_700_000_001,
        "feedback": "negative",
        "metadata": {"finishReason": "length", "usage": {"credits": 2}},
    }


def test_a_message_that_broke_off() -> None:
    """It did not finish, and its cost is unknown."""
    said = json.mapping(json.loads(WORDS.message(replace(SAID, finish=None, usage=None))))

    assert said["metadata"] == {"finishReason": None}


def test_a_message_that_was_rated() -> None:
    """As the page has it."""
    assert json.loads(WORDS.rated(SAID)) == {
        "data": {
            "id": "msg_789",
            "role": "assistant",
            "parts": [{"type": "text", "text": "Hello"}],
            "createdAt": 1_700_000_001,
            "feedback": "negative",
        }
    }


def test_a_conversation() -> None:
    """Its id is a string; nobody is null."""
    assert json.loads(WORDS.conversation(FOUND)) == TOLD


@pytest.mark.parametrize("messages", [[], [1], [1, 2]])
def test_a_conversation_around_its_messages(messages: list[Json]) -> None:
    """However many."""
    opening, closing = WORDS.whole(FOUND)
    body = opening + b",".join(map(json.dumps, messages)) + closing

    assert json.loads(body) == {**json.mapping(TOLD), "messages": messages}


@pytest.mark.parametrize("cursor", ["bTE", None])
def test_a_page(cursor: str | None) -> None:
    """There is more where there is a cursor."""
    opening, closing = WORDS.page(cursor, 7)

    assert json.loads(opening + b"[]" + closing) == {
        "data": [],
        "pagination": {"cursor": cursor, "hasMore": cursor is not None, "total": 7},
    }
