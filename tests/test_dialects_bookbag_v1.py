"""Bookbag v1: requests, frames and errors."""

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
from gateway.core.turn import ChatRequest, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.bookbag_v1 import BOOKBAG_V1
from gateway.wire import json
from gateway.wire.sse import Parser

TURN = Turn(conversation_id="456", user_message_id="msg_788", message_id="msg_789", user_id="u")
ASK = ChatRequest(agent="1", message="hi", stream=True)

DONE = {"conversationId": 456, "messageId": "msg_789", "finishReason": "stop"}

# The page of errors, each code with what it belongs to.
ERRORS: dict[tuple[int, str], set[ErrorCode]] = {
    (400, "validation_error"): {
        ErrorCode.INVALID_BODY,
        ErrorCode.INVALID_JSON,
        ErrorCode.MESSAGE_NOT_ASSISTANT,
        ErrorCode.RETRY_NO_USER_MESSAGE,
        ErrorCode.UPSTREAM_REJECTED,
    },
    (401, "unauthorized"): {
        ErrorCode.KEY_MISSING,
        ErrorCode.KEY_INVALID,
        ErrorCode.KEY_EXPIRED,
    },
    (403, "forbidden"): {ErrorCode.FORBIDDEN, ErrorCode.MODEL_NOT_ALLOWED},
    (404, "agent_not_found"): {ErrorCode.AGENT_NOT_FOUND},
    (404, "conversation_not_found"): {ErrorCode.CONVERSATION_NOT_FOUND},
    (404, "not_found"): {
        ErrorCode.PATH_NOT_FOUND,
        ErrorCode.MESSAGE_NOT_FOUND,
        ErrorCode.RETRY_MESSAGE_NOT_FOUND,
        ErrorCode.TOOL_CALL_NOT_FOUND,
    },
    (405, "method_not_allowed"): {ErrorCode.METHOD_NOT_ALLOWED},
    (409, "conversation_busy"): {ErrorCode.CONVERSATION_BUSY},
    (409, "request_running"): {ErrorCode.REQUEST_RUNNING},
    (413, "body_too_large"): {ErrorCode.BODY_TOO_LARGE},
    (415, "unsupported_media_type"): {ErrorCode.UNSUPPORTED_MEDIA_TYPE},
    (429, "rate_limited"): {ErrorCode.RATE_LIMITED, ErrorCode.UPSTREAM_RATE_LIMITED},
    (500, "internal_error"): {ErrorCode.INTERNAL},
    (502, "upstream_error"): {
        ErrorCode.UPSTREAM_REFUSED,
        ErrorCode.UPSTREAM_FAILED,
        ErrorCode.UPSTREAM_MALFORMED,
        ErrorCode.UPSTREAM_OVERSIZED,
        ErrorCode.UPSTREAM_TRUNCATED,
    },
    (503, "upstream_credits_exhausted"): {ErrorCode.UPSTREAM_CREDITS},
    (503, "unavailable"): {
        ErrorCode.UPSTREAM_UNREACHABLE,
        ErrorCode.UPSTREAM_DOWN,
        ErrorCode.UPSTREAM_BUSY,
        ErrorCode.UNAVAILABLE,
        ErrorCode.RESTARTING,
    },
    (504, "upstream_timeout"): {
        ErrorCode.CONNECT_TIMEOUT,
        ErrorCode.FIRST_EVENT_TIMEOUT,
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.TOTAL_TIMEOUT,
    },
}


def encoded(*events: Event) -> list[tuple[str, Json]]:
    """The frames of a turn, as a client reads them."""
    encoder = BOOKBAG_V1.encoder(TURN, ASK)
    found = Parser().feed(b"".join(encoder.encode(event) for event in events))
    return [(name, json.loads(data)) for name, data in found]


def error(refused: GatewayError) -> tuple[int, Json]:
    answer = BOOKBAG_V1.error(refused)
    assert answer.content_type == "application/json"
    return answer.status, json.loads(answer.body)


# Requests


def test_the_least_request() -> None:
    """An agent and a message; v1 always streams."""
    assert BOOKBAG_V1.decode({"agentId": 123, "message": "hi"}, None, {}) == ChatRequest(
        agent="123", message="hi", stream=True
    )


def test_a_whole_request() -> None:
    """The page's fields and the widget's."""
    body: Json = {
        "agentId": 123,
        "message": "hi",
        "conversationId": 456,
        "model": "gpt-4o",
        "user_id": "user_1",
        "user_hash": "ab" * 32,
        "user_metadata": {"plan": "pro"},
        "stream": False,
    }

    assert BOOKBAG_V1.decode(body, None, {}) == ChatRequest(
        agent="123",
        message="hi",
        stream=True,
        conversation_id="456",
        user_id="user_1",
        user_hash="ab" * 32,
        model="gpt-4o",
    )


@pytest.mark.parametrize(
    ("field", "longest"), [("message", 8000), ("model", 120), ("user_hash", 128), ("user_id", 128)]
)
def test_lengths(field: str, longest: int) -> None:
    """The longest passes, one character more does not."""
    body: dict[str, Json] = {"agentId": 1, "message": "hi", field: "x" * longest}
    BOOKBAG_V1.decode(body, None, {})

    with pytest.raises(GatewayError) as caught:
        BOOKBAG_V1.decode({**body, field: "x" * (longest + 1)}, None, {})
    assert set(caught.value.details or {}) == {field}


def test_every_complaint_at_once() -> None:
    """A developer who gets six things wrong reads of six."""
    wrong: Json = {
        "agentId": 0,
        "message": " ",
        "conversationId": "x",
        "model": 1,
        "user_id": "a b",
        "user_hash": "",
    }

    with pytest.raises(GatewayError) as caught:
        BOOKBAG_V1.decode(wrong, None, {})

    assert caught.value.code is ErrorCode.INVALID_BODY
    assert isinstance(wrong, dict)
    assert set(caught.value.details or {}) == set(wrong)


# Frames


def test_text_is_token_frames() -> None:
    """One per event, byte for byte."""
    encoder = BOOKBAG_V1.encoder(TURN, ASK)

    assert (
        encoder.encode(TextDelta('a "b"\n')) == b'event: token\ndata: {"text":"a \\"b\\"\\n"}\n\n'
    )


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085"])
def test_line_ends_are_escaped(character: str) -> None:
    """Clients that split lines as Python does would cut the frame in two."""
    for event in (
        TextDelta(character),
        Citations([Citation(title=character)]),
        Failure(ErrorCode.INTERNAL, character),
    ):
        frame = BOOKBAG_V1.encoder(TURN, ASK).encode(event)
        assert character.encode() not in frame
        assert len(frame.decode().splitlines()) == 3


def test_citations() -> None:
    """Without what is not known."""
    items = [Citation(url="https://a.example", title="A", snippet="..."), Citation(title="B")]

    assert encoded(Citations(items)) == [
        (
            "citations",
            {
                "citations": [
                    {"title": "A", "url": "https://a.example", "snippet": "..."},
                    {"title": "B"},
                ]
            },
        )
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
def test_done(reason: FinishReason, word: str) -> None:
    """The ids are ours, the conversation's an integer; nothing is null."""
    assert encoded(Finish(reason)) == [("done", {**DONE, "finishReason": word})]


@pytest.mark.parametrize(
    ("known", "written"),
    [
        (Usage(input_tokens=3, output_tokens=5), {"inputTokens": 3, "outputTokens": 5}),
        (Usage(input_tokens=0), {"inputTokens": 0}),
        (Usage(output_tokens=5, credits=1), {"outputTokens": 5, "credits": 1}),
        (Usage(credits=0.5), {"credits": 0.5}),
    ],
)
def test_usage_is_what_is_known(known: Usage, written: Json) -> None:
    """A figure of 0 that the upstream gave is one; one that it did not give is not written."""
    found = encoded(Metadata(usage=known), Finish(FinishReason.STOP))

    assert found == [("done", {**DONE, "usage": written})]


@pytest.mark.parametrize(
    "said", [[], [Metadata()], [Metadata(usage=Usage())], [Metadata(model="m", message_id="x")]]
)
def test_usage_is_never_invented(said: list[Event]) -> None:
    """Nothing known: no usage, least of all zeros."""
    assert encoded(*said, Finish(FinishReason.STOP)) == [("done", DONE)]


def test_later_usage_overrides_figure_by_figure() -> None:
    """Upstreams tell it in parts."""
    found = encoded(
        Metadata(usage=Usage(input_tokens=3, output_tokens=1)),
        Metadata(usage=Usage(output_tokens=9)),
        Finish(FinishReason.STOP),
    )

    assert found == [("done", {**DONE, "usage": {"inputTokens": 3, "outputTokens": 9}})]


def test_the_upstreams_ids_are_not_ours() -> None:
    """A client gets the ids of this gateway, whatever the upstream calls the turn."""
    theirs = Metadata(conversation_id="9", message_id="m9", user_message_id="u9", user_id="x")

    assert encoded(theirs, Finish(FinishReason.STOP)) == [("done", DONE)]


def test_a_failure_is_an_error_frame() -> None:
    """With the word that the error has before the stream, and our message."""
    found = encoded(TextDelta("a"), Failure(ErrorCode.IDLE_TIMEOUT, "the upstream fell silent", 3))

    assert found[1:] == [
        ("error", {"code": "upstream_timeout", "message": "the upstream fell silent"})
    ]


def test_what_v1_cannot_say_is_counted() -> None:
    """By type; what says nothing that is lost is not."""
    call = ToolCall("c", "f", {})
    encoder = BOOKBAG_V1.encoder(TURN, ASK)
    silent: list[Event] = [StepStart(), StepFinish(), ToolCallStart("c", "f")]
    silent += [ToolCallDelta("c", "{"), Metadata(), TextDelta("a")]
    lost: list[Event] = [ReasoningDelta("r"), call, call, ToolOutput("c", 1)]
    lost += [Extension("sonzai", "phase", {})]
    written = [encoder.encode(event) for event in [*silent, *lost]]

    assert [frame for frame in written if frame] == [b'event: token\ndata: {"text":"a"}\n\n']
    assert encoder.dropped == {"ReasoningDelta": 1, "ToolCall": 2, "ToolOutput": 1, "Extension": 1}


# Errors


def test_every_error_has_its_words() -> None:
    """All of them, as the page has it."""
    found = {code: BOOKBAG_V1.error(GatewayError(code, "m")).status for code in ErrorCode}
    assert found == {code: status for (status, _), codes in ERRORS.items() for code in codes}


@pytest.mark.parametrize("words", ERRORS)
def test_errors_before_the_stream(words: tuple[int, str]) -> None:
    """v1's envelope; a failure in the stream has the same code."""
    status, word = words
    for code in ERRORS[words]:
        assert error(GatewayError(code, "what is wrong")) == (
            status,
            {"success": False, "error": {"code": word, "message": "what is wrong"}},
        )
        ((_, said),) = encoded(Failure(code, "what is wrong"))
        assert said == {"code": word, "message": "what is wrong"}


def test_details() -> None:
    """The fields that are wrong, and when to come back."""
    wrong = GatewayError(ErrorCode.INVALID_BODY, "m", details={"message": "is required"})
    later = GatewayError(ErrorCode.RATE_LIMITED, "m", retry_after=3.0)

    assert json.mapping(error(wrong)[1])["error"] == {
        "code": "validation_error",
        "message": "m",
        "details": {"message": "is required"},
    }
    assert json.mapping(json.mapping(error(later)[1])["error"])["details"] == {"retryAfter": 3}


# The dialect


def test_it_is_the_widgets() -> None:
    """Public agents speak it without a key, it is pinged, and it has no whole answers."""
    assert DIALECTS["bookbag-v1"] is BOOKBAG_V1
    assert BOOKBAG_V1.public
    assert BOOKBAG_V1.heartbeat == 15
    assert BOOKBAG_V1.reply is None
