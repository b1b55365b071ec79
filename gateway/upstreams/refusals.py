"""What an upstream's errors mean: a status, an error object or a word of its own, as one of ours.

An upstream's text stays out of our answers: it may name its internals, its provider or our
account. The exception is the message of a 400, which tells the caller what to change.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Failure, Json
from gateway.wire import json

MAX_PASSED_MESSAGE = 500

# A day, in seconds: no rate limit lasts longer, and clients hand the wait to timers of 32 bits.
MAX_RETRY_AFTER = 86400.0

MESSAGES: dict[ErrorCode, str] = {
    ErrorCode.UPSTREAM_REJECTED: "the upstream rejected the request",
    ErrorCode.UPSTREAM_REFUSED: "the upstream refused the gateway's credential",
    ErrorCode.UPSTREAM_CREDITS: "the upstream account has no credits left",
    ErrorCode.UPSTREAM_RATE_LIMITED: "the upstream is rate limited, try again later",
    ErrorCode.UPSTREAM_FAILED: "the upstream failed",
    ErrorCode.UPSTREAM_MALFORMED: "the upstream sent an answer that cannot be read",
    ErrorCode.UPSTREAM_OVERSIZED: "the upstream sent an event that is too large",
    ErrorCode.UPSTREAM_TRUNCATED: "the upstream ended the stream early",
}

# Bounded: Python refuses to read a number of thousands of digits.
_STATUS = re.compile(r"[1-5][0-9]{2}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)

_STATUSES: dict[int, ErrorCode] = {
    400: ErrorCode.UPSTREAM_REJECTED,
    401: ErrorCode.UPSTREAM_REFUSED,
    402: ErrorCode.UPSTREAM_CREDITS,
    403: ErrorCode.UPSTREAM_REFUSED,
    413: ErrorCode.UPSTREAM_REJECTED,
    422: ErrorCode.UPSTREAM_REJECTED,
    429: ErrorCode.UPSTREAM_RATE_LIMITED,
}

# Codes and types of error objects, as OpenAI, OpenRouter, vLLM, llama.cpp, Bookbag and Chatbase
# write them.
_WORDS: dict[str, ErrorCode] = {
    "insufficient_quota": ErrorCode.UPSTREAM_CREDITS,
    "chat_credits_exhausted": ErrorCode.UPSTREAM_CREDITS,
    "chat_agent_credits_exhausted": ErrorCode.UPSTREAM_CREDITS,
    "rate_limit_exceeded": ErrorCode.UPSTREAM_RATE_LIMITED,
    "rate_limit_error": ErrorCode.UPSTREAM_RATE_LIMITED,
    "rate_limit_too_many_requests": ErrorCode.UPSTREAM_RATE_LIMITED,
    "rate_limited": ErrorCode.UPSTREAM_RATE_LIMITED,
    "invalid_api_key": ErrorCode.UPSTREAM_REFUSED,
    "authentication_error": ErrorCode.UPSTREAM_REFUSED,
    "invalid_request_error": ErrorCode.UPSTREAM_REJECTED,
    "context_length_exceeded": ErrorCode.UPSTREAM_REJECTED,
    "exceed_context_size_error": ErrorCode.UPSTREAM_REJECTED,
}

# What Bookbag (v1 and v2) and Chatbase say of the conversations that they keep.
_CONVERSATIONS: dict[str, ErrorCode] = {
    "agent_not_found": ErrorCode.AGENT_NOT_FOUND,
    "chat_conversation_busy": ErrorCode.CONVERSATION_BUSY,
    "chat_conversation_mismatch": ErrorCode.CONVERSATION_NOT_FOUND,
    "chat_retry_message_not_found": ErrorCode.RETRY_MESSAGE_NOT_FOUND,
    "chat_retry_no_user_message": ErrorCode.RETRY_NO_USER_MESSAGE,
    "conversation_busy": ErrorCode.CONVERSATION_BUSY,
    "conversation_not_found": ErrorCode.CONVERSATION_NOT_FOUND,
    "resource_message_not_assistant": ErrorCode.MESSAGE_NOT_ASSISTANT,
    "resource_message_not_found": ErrorCode.MESSAGE_NOT_FOUND,
    "resource_not_found": ErrorCode.CONVERSATION_NOT_FOUND,
    "resource_tool_call_not_found": ErrorCode.TOOL_CALL_NOT_FOUND,
}
_OF_CONVERSATIONS: dict[ErrorCode, str] = {
    ErrorCode.AGENT_NOT_FOUND: "agent not found",
    ErrorCode.CONVERSATION_BUSY: "another turn of this conversation is running",
    # Bookbag has one word for both.
    ErrorCode.CONVERSATION_NOT_FOUND: "agent or conversation not found",
    ErrorCode.MESSAGE_NOT_ASSISTANT: "only an assistant's message takes feedback",
    ErrorCode.MESSAGE_NOT_FOUND: "this conversation has no such message",
    ErrorCode.RETRY_MESSAGE_NOT_FOUND: "this conversation has no such message to retry",
    ErrorCode.RETRY_NO_USER_MESSAGE: "no user's message comes before this one",
    ErrorCode.TOOL_CALL_NOT_FOUND: "no such tool call waits for a result",
}


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """A status other than 2xx. `body` may be cut short, and need not be JSON."""
    answer = _read(body)
    code = _STATUSES.get(status, ErrorCode.UPSTREAM_FAILED)
    if status == 429 and _named(_error_of(answer)) is ErrorCode.UPSTREAM_CREDITS:
        code = ErrorCode.UPSTREAM_CREDITS  # OpenAI's insufficient_quota: waiting will not help
    message = passed_message(answer) if status == 400 else ""
    return GatewayError(
        code,
        message or MESSAGES[code],
        retry_after=_retry_after(headers) if _says_when(status, code) else None,
    )


def passed_refusal(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """The same for clients who see the upstream's own ids: a conversation that it does not know is
    then theirs to know, and no failure of ours."""
    error = json.mapping(_error_of(_read(body)))
    code = _CONVERSATIONS.get(json.text(error.get("code")).lower())
    if status == 404 and code is None and error.keys() & {"code", "message"}:
        code = ErrorCode.CONVERSATION_NOT_FOUND
    if code is None or status not in (400, 404, 409, 422):
        return refusal(status, headers, body)
    return GatewayError(code, _OF_CONVERSATIONS[code])


def failure(answer: Json) -> Failure:
    """An error inside a stream or a 200: an error object, a string, or a frame that holds one."""
    code = _named(_error_of(answer)) or ErrorCode.UPSTREAM_FAILED
    message = passed_message(answer) if code is ErrorCode.UPSTREAM_REJECTED else ""
    return Failure(code, message or MESSAGES[code])


def failure_of(data: bytes) -> Failure:
    """The same for the data of a frame that is named an error: it need not be JSON."""
    return failure(_read(data))


def failed(code: ErrorCode) -> Failure:
    """A failure in our own words."""
    return Failure(code, MESSAGES[code])


def passed_message(answer: Json) -> str:
    """What an error says was wrong with the request, trimmed; `""` where it does not say."""
    error = _error_of(answer)
    said = error if isinstance(error, str) else json.text(json.mapping(error).get("message"))
    return " ".join(said.split())[:MAX_PASSED_MESSAGE]


def _read(data: bytes) -> Json:
    try:
        return json.loads(data)
    except json.InvalidJson:
        return None


def _error_of(answer: Json) -> Json:
    """The innermost error: `{"error": {...}}`, `{"error": "..."}`, a flat object, or a string."""
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]  # Gemini wraps its error bodies in an array
    if isinstance(answer, dict) and answer.get("error"):
        return answer["error"]
    return answer


def _named(error: Json) -> ErrorCode | None:
    # OpenRouter's code is an HTTP status as a number or as a string, or a word; the last is TGI's.
    fields = json.mapping(error)
    for key in ("code", "type", "status", "http_status_code"):
        word = json.identifier(fields.get(key))
        if word is None:
            continue
        code = _STATUSES.get(int(word)) if _STATUS.fullmatch(word) else _WORDS.get(word.lower())
        if code is not None:
            return code
    return None


def _says_when(status: int, code: ErrorCode) -> bool:
    """Whether a Retry-After is about the request, and not about an account or a move."""
    return code is ErrorCode.UPSTREAM_RATE_LIMITED or status in (503, 529)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, at most `MAX_RETRY_AFTER`. A date is counted from the answer's own `Date`, for this
    module has no clock."""
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER)
    then, now = _date(value), _date(headers.get("date", ""))
    if then is None or now is None:
        return None
    return min(max(0.0, (then - now).total_seconds()), MAX_RETRY_AFTER)


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # A date in "-0000" has no zone, and HTTP knows none but UTC.
    return date if date.tzinfo else date.replace(tzinfo=UTC)
