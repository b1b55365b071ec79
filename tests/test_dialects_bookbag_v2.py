"""Bookbag v2: requests, frames, whole answers and errors."""

import pytest

from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import (
    Citation,
    Citations,
    Event,
    Extension,
    Failure,
    Finish,
    FinishReason,
    Json,
    Metadata,
    ReasoningDelta,
    StepFinish,
    StepStart,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolOutput,
    Usage,
)
from gateway.core.turn import ChatRequest, Reply, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.bookbag_v2 import BOOKBAG_V2
from gateway.wire import json
from gateway.wire.sse import Parser

TURN = Turn(
    conversation_id="456", user_message_id="msg_788", message_id="msg_789", user_id="user_8821"
)
ASK = ChatRequest(agent="1", message="hi", stream=True)
NOBODY = Turn(conversation_id="456", user_message_id="msg_788", message_id="msg_789")

IDS = {"userMessageId": "msg_788", "conversationId": "456", "messageId": "msg_789"}

ERRORS: dict[tuple[int, str], set[ErrorCode]] = {
    (400, "VALIDATION_INVALID_BODY"): {
        ErrorCode.INVALID_BODY,
        ErrorCode.INVALID_JSON,
        ErrorCode.UPSTREAM_REJECTED,
    },
    (401, "AUTH_MISSING_API_KEY"): {ErrorCode.KEY_MISSING},
    (401, "AUTH_INVALID_API_KEY"): {ErrorCode.KEY_INVALID, ErrorCode.KEY_EXPIRED},
    (403, "AUTH_INSUFFICIENT_PERMISSIONS"): {ErrorCode.FORBIDDEN, ErrorCode.MODEL_NOT_ALLOWED},
    (404, "RESOURCE_NOT_FOUND"): {
        ErrorCode.AGENT_NOT_FOUND,
        ErrorCode.CONVERSATION_NOT_FOUND,
        ErrorCode.PATH_NOT_FOUND,
    },
    (404, "RESOURCE_MESSAGE_NOT_FOUND"): {ErrorCode.MESSAGE_NOT_FOUND},
    (400, "RESOURCE_MESSAGE_NOT_ASSISTANT"): {ErrorCode.MESSAGE_NOT_ASSISTANT},
    (404, "CHAT_RETRY_MESSAGE_NOT_FOUND"): {ErrorCode.RETRY_MESSAGE_NOT_FOUND},
    (400, "CHAT_RETRY_NO_USER_MESSAGE"): {ErrorCode.RETRY_NO_USER_MESSAGE},
    (404, "RESOURCE_TOOL_CALL_NOT_FOUND"): {ErrorCode.TOOL_CALL_NOT_FOUND},
    (405, "METHOD_NOT_ALLOWED"): {ErrorCode.METHOD_NOT_ALLOWED},
    (409, "CHAT_CONVERSATION_BUSY"): {ErrorCode.CONVERSATION_BUSY},
    (409, "CHAT_REQUEST_RUNNING"): {ErrorCode.REQUEST_RUNNING},
    (413, "VALIDATION_INVALID_BODY"): {ErrorCode.BODY_TOO_LARGE},
    (415, "VALIDATION_INVALID_BODY"): {ErrorCode.UNSUPPORTED_MEDIA_TYPE},
    (429, "RATE_LIMIT_TOO_MANY_REQUESTS"): {
        ErrorCode.RATE_LIMITED,
        ErrorCode.UPSTREAM_RATE_LIMITED,
    },
    (500, "INTERNAL_SERVER_ERROR"): {ErrorCode.INTERNAL},
    (502, "UPSTREAM_ERROR"): {
        ErrorCode.UPSTREAM_REFUSED,
        ErrorCode.UPSTREAM_FAILED,
        ErrorCode.UPSTREAM_MALFORMED,
        ErrorCode.UPSTREAM_OVERSIZED,
        ErrorCode.UPSTREAM_TRUNCATED,
    },
    (503, "UPSTREAM_CREDITS_EXHAUSTED"): {ErrorCode.UPSTREAM_CREDITS},
    (503, "SERVICE_UNAVAILABLE"): {
        ErrorCode.UPSTREAM_UNREACHABLE,
        ErrorCode.UPSTREAM_DOWN,
        ErrorCode.UPSTREAM_BUSY,
        ErrorCode.UNAVAILABLE,
        ErrorCode.RESTARTING,
    },
    (504, "UPSTREAM_TIMEOUT"): {
        ErrorCode.CONNECT_TIMEOUT,
        ErrorCode.FIRST_EVENT_TIMEOUT,
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.TOTAL_TIMEOUT,
    },
}


def encoded(*events: Event, turn: Turn = TURN) -> list[Json]:
    """The frames of a turn; v2's have no names. `[DONE]` is the text it is."""
    encoder = BOOKBAG_V2.encoder(turn, ASK)
    found = Parser().feed(b"".join(encoder.encode(event) for event in events))
    assert {name for name, _ in found} <= {"message"}
    return ["[DONE]" if data == b"[DONE]" else json.loads(data) for _, data in found]


def written(reply: Reply, turn: Turn = TURN) -> bytes:
    assert BOOKBAG_V2.reply is not None
    return BOOKBAG_V2.reply(turn, ASK, reply)


def replied(*events: Event, turn: Turn = TURN) -> Json:
    """The whole answer to a client that asked for no stream."""
    reply = Reply()
    reply.extend(events)
    body = json.mapping(json.loads(written(reply.folded(), turn)))
    assert set(body) == {"data"}
    return body["data"]


def finished(**further: Json) -> dict[str, Json]:
    return {
        "type": "finish",
        "finishReason": "stop",
        "metadata": {**IDS, "userId": "user_8821", **further},
    }


# Requests


def test_the_least_request() -> None:
    """A message; it streams unless told not to. The agent is the path's."""
    assert BOOKBAG_V2.decode({"message": "hi"}, "123", {}) == ChatRequest(
        agent="123", message="hi", stream=True
    )


def test_a_whole_request() -> None:
    """What v2 does not know is ignored, v1's fields among it."""
    body: Json = {
        "message": "hi",
        "userId": "user_8821",
        "conversationId": 456,
        "stream": False,
        "model": "gpt-4o",
        "user_hash": 5,
        "agentId": 9,
    }

    assert BOOKBAG_V2.decode(body, "123", {}) == ChatRequest(
        agent="123",
        message="hi",
        stream=False,
        conversation_id="456",
        user_id="user_8821",
    )


def test_a_message_may_be_long() -> None:
    """The page gives it no length; the size of a body is bounded elsewhere."""
    assert BOOKBAG_V2.decode({"message": "x" * 100_000}, "1", {}).message == "x" * 100_000


@pytest.mark.parametrize("body", [{}, {"message": None}])
def test_a_conversation_goes_on_without_a_message(body: dict[str, Json]) -> None:
    """After its tools' results; a new one needs a message."""
    assert BOOKBAG_V2.decode({**body, "conversationId": 456}, "1", {}) == ChatRequest(
        agent="1", message=None, stream=True, conversation_id="456"
    )
    with pytest.raises(GatewayError, match="message is required"):
        BOOKBAG_V2.decode({**body, "conversationId": None}, "1", {})


@pytest.mark.parametrize("message", ["", "  ", 5, False])
def test_a_message_that_says_nothing_is_none_to_go_on_with(message: Json) -> None:
    """A client that means to go on leaves it out."""
    with pytest.raises(GatewayError, match="message is required"):
        BOOKBAG_V2.decode({"message": message, "conversationId": 456}, "1", {})


def test_its_own_conversation_id_comes_back() -> None:
    """A client may send the string that `finish` gave it."""
    assert BOOKBAG_V2.decode(
        {"message": "a", "conversationId": "456"}, "1", {}
    ).conversation_id == ("456")


def test_every_complaint_at_once() -> None:
    """One for each field."""
    wrong: dict[str, Json] = {
        "message": "  ",
        "userId": "a b",
        "conversationId": -1,
        "stream": "yes",
    }

    with pytest.raises(GatewayError) as caught:
        BOOKBAG_V2.decode(wrong, "1", {})

    assert caught.value.code is ErrorCode.INVALID_BODY
    assert set(caught.value.details or {}) == set(wrong)


# Frames


def test_text_is_bare_data() -> None:
    """One frame per event, byte for byte; the field is `text`."""
    encoder = BOOKBAG_V2.encoder(TURN, ASK)

    assert encoder.encode(TextDelta('a "b"')) == (
        b'data: {"type":"text-delta","text":"a \\"b\\""}\n\n'
    )


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085"])
def test_line_ends_are_escaped(character: str) -> None:
    """Clients that split lines as Python does would cut the frame in two."""
    for event in (
        TextDelta(character),
        ToolCall("c", "f", {character: character}),
        Citations([Citation(title=character)]),
    ):
        frame = BOOKBAG_V2.encoder(TURN, ASK).encode(event)
        assert character.encode() not in frame
        assert len(frame.decode().splitlines()) == 2
    assert character.encode() not in written(Reply(parts=[TextDelta(character)]))


def test_a_tool_call() -> None:
    """Once, complete, in the shape of a message part; its echo is between us and the upstream."""
    found = encoded(
        ToolCallStart("call_1", "status"),
        ToolCallDelta("call_1", '{"order":7}'),
        ToolCall("call_1", "status", {"order": 7}, echo={"thought": "x"}),
    )

    assert found == [
        {
            "type": "tool-call",
            "toolCallId": "call_1",
            "toolName": "status",
            "input": {"order": 7},
        }
    ]


def test_citations() -> None:
    """Without what is not known."""
    items = [Citation(url="https://a.example"), Citation(title="B", snippet="...")]

    assert encoded(Citations(items)) == [
        {
            "type": "citations",
            "citations": [{"url": "https://a.example"}, {"title": "B", "snippet": "..."}],
        }
    ]


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (FinishReason.STOP, "stop"),
        (FinishReason.LENGTH, "length"),
        (FinishReason.TOOL_CALLS, "tool-calls"),
        (FinishReason.CONTENT_FILTER, "content-filter"),
        (FinishReason.OTHER, "stop"),
    ],
)
def test_finish(reason: FinishReason, word: str) -> None:
    """Then `[DONE]`; the ids are ours, the conversation's a string."""
    assert encoded(Finish(reason)) == [{**finished(), "finishReason": word}, "[DONE]"]


def test_without_a_user_there_is_no_user_id() -> None:
    """Nothing is null."""
    finish, _ = encoded(Finish(FinishReason.STOP), turn=NOBODY)

    assert json.mapping(finish)["metadata"] == IDS


@pytest.mark.parametrize(
    ("known", "figures"),
    [
        (Usage(input_tokens=3, output_tokens=5), {"inputTokens": 3, "outputTokens": 5}),
        (Usage(output_tokens=0), {"outputTokens": 0}),
        (Usage(credits=1), {"credits": 1}),
        (Usage(1, 2, 0.5), {"inputTokens": 1, "outputTokens": 2, "credits": 0.5}),
    ],
)
def test_usage_is_what_is_known(known: Usage, figures: Json) -> None:
    """In the stream and in a whole answer; a figure of 0 that the upstream gave is one."""
    events: list[Event] = [TextDelta("a"), Metadata(usage=known), Finish(FinishReason.STOP)]

    assert encoded(*events)[1:] == [finished(usage=figures), "[DONE]"]
    metadata = json.mapping(json.mapping(replied(*events))["metadata"])
    assert metadata["usage"] == figures


@pytest.mark.parametrize(
    "said", [[], [Metadata()], [Metadata(usage=Usage())], [Metadata(model="m", message_id="x")]]
)
def test_usage_is_never_invented(said: list[Event]) -> None:
    """Nothing known: no usage, least of all zeros."""
    events = [*said, Finish(FinishReason.STOP)]

    assert encoded(*events) == [finished(), "[DONE]"]
    assert "usage" not in json.mapping(json.mapping(replied(*events))["metadata"])


def test_the_upstreams_ids_are_not_ours() -> None:
    """A client gets the ids of this gateway, whatever the upstream calls the turn."""
    theirs = Metadata(conversation_id="9", message_id="m9", user_message_id="u9", user_id="x")

    assert encoded(theirs, Finish(FinishReason.STOP)) == [finished(), "[DONE]"]


def test_a_failure_is_an_error_and_done() -> None:
    """No `finish` after it; the text is ours."""
    found = encoded(TextDelta("a"), Failure(ErrorCode.UPSTREAM_TRUNCATED, "cut short"))

    assert found[1:] == [{"type": "error", "errorText": "cut short"}, "[DONE]"]


def test_what_v2_cannot_say_is_counted() -> None:
    """By type; what says nothing that is lost is not."""
    encoder = BOOKBAG_V2.encoder(TURN, ASK)
    silent: list[Event] = [StepStart(), StepFinish(), ToolCallStart("c", "f")]
    silent += [ToolCallDelta("c", "{"), Metadata()]
    lost: list[Event] = [ReasoningDelta("r"), ReasoningDelta("r"), ToolOutput("c", 1)]
    lost += [Extension("sonzai", "phase", {})]

    assert {encoder.encode(event) for event in [*silent, *lost]} == {b""}
    assert encoder.dropped == {"ReasoningDelta": 2, "ToolOutput": 1, "Extension": 1}


# Whole answers


def test_a_whole_answer() -> None:
    """The id is the answer's own, so the metadata does not repeat it."""
    found = replied(TextDelta("Your "), TextDelta("order"), Finish(FinishReason.STOP))

    assert found == {
        "id": "msg_789",
        "role": "assistant",
        "parts": [{"type": "text", "text": "Your order"}],
        "metadata": {
            "userMessageId": "msg_788",
            "conversationId": "456",
            "userId": "user_8821",
            "finishReason": "stop",
        },
    }


def test_a_whole_answer_to_nobody() -> None:
    """Here the page has `userId` as null, and so have we."""
    metadata = json.mapping(json.mapping(replied(turn=NOBODY))["metadata"])

    assert metadata["userId"] is None
    assert [name for name, value in metadata.items() if value is None] == ["userId"]


def test_the_parts_of_a_whole_answer() -> None:
    """The text, its sources, and the calls that wait for a result, in the order they came."""
    found = json.mapping(
        replied(
            TextDelta("a"),
            ToolCall("call_1", "status", {"order": 7}),
            Citations([Citation(title="B")]),
            Finish(FinishReason.TOOL_CALLS),
        )
    )

    assert found["parts"] == [
        {"type": "text", "text": "a"},
        {"type": "tool-call", "toolCallId": "call_1", "toolName": "status", "input": {"order": 7}},
        {"type": "citations", "citations": [{"title": "B"}]},
    ]
    assert json.mapping(found["metadata"])["finishReason"] == "tool-calls"


def test_calls_need_no_text() -> None:
    """An empty text part stands only where there would be no part at all."""
    calling = json.mapping(replied(ToolCall("call_1", "f", {}), Finish(FinishReason.TOOL_CALLS)))
    silent = json.mapping(replied(Finish(FinishReason.STOP)))

    assert [json.mapping(p)["type"] for p in json.array(calling["parts"])] == ["tool-call"]
    assert silent["parts"] == [{"type": "text", "text": ""}]


# Errors


def test_every_error_has_its_words() -> None:
    """All of them, as the page has it."""
    found = {code: BOOKBAG_V2.error(GatewayError(code, "m")).status for code in ErrorCode}
    assert found == {code: status for (status, _), codes in ERRORS.items() for code in codes}


@pytest.mark.parametrize("words", ERRORS)
def test_errors_before_the_stream(words: tuple[int, str]) -> None:
    """v2's envelope."""
    status, word = words
    for code in ERRORS[words]:
        answer = BOOKBAG_V2.error(GatewayError(code, "what is wrong"))
        assert (answer.status, answer.content_type) == (status, "application/json")
        assert json.loads(answer.body) == {"error": {"code": word, "message": "what is wrong"}}


def test_details() -> None:
    """The fields that are wrong, and when to come back."""
    refused = GatewayError(
        ErrorCode.INVALID_BODY, "m", details={"message": "is required"}, retry_after=2
    )

    assert json.loads(BOOKBAG_V2.error(refused).body) == {
        "error": {
            "code": "VALIDATION_INVALID_BODY",
            "message": "m",
            "details": {"message": "is required", "retryAfter": 2},
        }
    }


# The dialect


def test_it_takes_a_key_and_no_comments() -> None:
    """Its guide has clients JSON-parse every line, so there are no pings."""
    assert DIALECTS["bookbag-v2"] is BOOKBAG_V2
    assert not BOOKBAG_V2.public
    assert BOOKBAG_V2.heartbeat is None
