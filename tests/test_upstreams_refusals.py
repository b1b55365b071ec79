"""What an upstream's errors become."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ErrorCode
from gateway.core.events import Json
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.refusals import (
    MAX_PASSED_MESSAGE,
    MAX_RETRY_AFTER,
    MESSAGES,
    failed,
    failure,
    failure_of,
    refusal,
)

NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ErrorCode.UPSTREAM_REJECTED),
        (401, ErrorCode.UPSTREAM_REFUSED),
        (402, ErrorCode.UPSTREAM_CREDITS),
        (403, ErrorCode.UPSTREAM_REFUSED),
        (404, ErrorCode.UPSTREAM_FAILED),
        (408, ErrorCode.UPSTREAM_FAILED),
        (413, ErrorCode.UPSTREAM_REJECTED),
        (422, ErrorCode.UPSTREAM_REJECTED),
        (429, ErrorCode.UPSTREAM_RATE_LIMITED),
        (500, ErrorCode.UPSTREAM_FAILED),
        (503, ErrorCode.UPSTREAM_FAILED),
        (301, ErrorCode.UPSTREAM_FAILED),
    ],
)
def test_statuses(status: int, code: ErrorCode) -> None:
    """Every status has its code, and our own words where the upstream's may not pass."""
    error = refusal(status, {}, b"")

    assert (error.code, error.message) == (code, MESSAGES[code])


def test_every_remote_kind_reads_refusals_alike() -> None:
    """One mapping serves all kinds that are reached over the network, but for the one whose error
    objects have other fields."""
    remote = [kind for kind in UPSTREAMS.values() if kind.request is not None]

    assert {kind.name for kind in remote if kind.error is not refusal} == {"sonzai"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"max_tokens is too large"}}', "max_tokens is too large"),
        (b'{"error":"max_tokens is too large"}', "max_tokens is too large"),
        (b'{"message":"two\\n lines"}', "two lines"),
        (b'[{"error":{"message":"from Gemini"}}]', "from Gemini"),
        (
            b'{"error":{"code":"VALIDATION_INVALID_BODY","message":"message is required"}}',
            "message is required",
        ),
        (b'{"error":{"message":{"no":"text"}}}', MESSAGES[ErrorCode.UPSTREAM_REJECTED]),
        (b"<html>Bad Request</html>", MESSAGES[ErrorCode.UPSTREAM_REJECTED]),
        (b'{"error":{"message":"cut sho', MESSAGES[ErrorCode.UPSTREAM_REJECTED]),
        (b'["a","b"]', MESSAGES[ErrorCode.UPSTREAM_REJECTED]),
    ],
)
def test_the_message_of_a_400_passes(body: bytes, message: str) -> None:
    """Only a 400 says what the caller has to change."""
    assert refusal(400, {}, body).message == message


def test_a_long_message_is_trimmed() -> None:
    """Not more of it passes than a person would read."""
    error = refusal(400, {}, b'{"error":{"message":"' + b"x" * 5000 + b'"}}')

    assert error.message == "x" * MAX_PASSED_MESSAGE == "x" * 500


@pytest.mark.parametrize("status", [401, 402, 403, 404, 413, 422, 429, 500, 502])
def test_no_other_message_passes(status: int) -> None:
    """Whatever else an upstream says of itself stays with us."""
    error = refusal(status, {}, b'{"error":{"message":"key sk-123 of org-9","type":"x"}}')

    assert error.message == MESSAGES[error.code]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30"}, 30),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": NOW}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 -0000", "date": NOW}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": NOW}, 0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "today"}, None),
        ({"retry-after": "Wed, 21 Oct 99999999999999999999 07:28:30 GMT", "date": NOW}, None),
        ({"retry-after": "86401"}, MAX_RETRY_AFTER),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": NOW}, MAX_RETRY_AFTER),
        ({"retry-after": "-3", "date": NOW}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """The wait comes in seconds or as a date, which the answer's own clock measures."""
    assert refusal(429, headers, b"").retry_after == seconds


@given(st.text(), st.text())
def test_no_header_breaks_it(after: str, date: str) -> None:
    """A wait that cannot be read is none, and one that can is not negative."""
    seconds = refusal(429, {"retry-after": after, "date": date}, b"").retry_after

    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


def test_only_who_is_busy_has_a_wait() -> None:
    """Where waiting does not help, none is asked for."""
    assert refusal(500, {"retry-after": "30"}, b"").retry_after is None
    assert refusal(503, {"retry-after": "30"}, b"").retry_after == 30


def test_a_used_up_quota_is_no_rate_limit() -> None:
    """OpenAI says 429 for an empty account too: waiting will not help."""
    error = refusal(429, {"retry-after": "30"}, b'{"error":{"code":"insufficient_quota"}}')

    assert (error.code, error.retry_after) == (ErrorCode.UPSTREAM_CREDITS, None)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"error": {"code": "insufficient_quota"}}, ErrorCode.UPSTREAM_CREDITS),
        ({"error": {"code": "CHAT_AGENT_CREDITS_EXHAUSTED"}}, ErrorCode.UPSTREAM_CREDITS),
        ({"error": {"code": 402}}, ErrorCode.UPSTREAM_CREDITS),
        ({"error": {"code": "429"}}, ErrorCode.UPSTREAM_RATE_LIMITED),
        ({"error": {"code": None, "type": "rate_limit_error"}}, ErrorCode.UPSTREAM_RATE_LIMITED),
        ({"error": {"code": "odd", "status": 401}}, ErrorCode.UPSTREAM_REFUSED),
        ({"error": {"code": 500}}, ErrorCode.UPSTREAM_FAILED),
        ({"error": {"code": "4" * 5000}}, ErrorCode.UPSTREAM_FAILED),
        ({"error": {"code": "٤٢٩"}}, ErrorCode.UPSTREAM_FAILED),
        ({"error": "boom"}, ErrorCode.UPSTREAM_FAILED),
        ({"type": "error", "errorText": "boom"}, ErrorCode.UPSTREAM_FAILED),
        ("boom", ErrorCode.UPSTREAM_FAILED),
        (None, ErrorCode.UPSTREAM_FAILED),
    ],
)
def test_errors_inside_an_answer(answer: Json, code: ErrorCode) -> None:
    """An error object names its code in many words; its text stays with us."""
    assert failure(answer) == failed(code)


def test_a_rejection_inside_an_answer_says_why() -> None:
    """A 400 that comes in the stream passes its message, as it would before the stream."""
    said = failure({"error": {"code": 400, "message": "too many tokens"}})

    assert (said.code, said.message) == (ErrorCode.UPSTREAM_REJECTED, "too many tokens")


@pytest.mark.parametrize("data", [b"", b"boom", b"{", b"null", b'"boom"', b"[]"])
def test_an_error_frame_need_not_be_json(data: bytes) -> None:
    """Whatever an error frame holds, it is an error."""
    assert failure_of(data) == failed(ErrorCode.UPSTREAM_FAILED)
