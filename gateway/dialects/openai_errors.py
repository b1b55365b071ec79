"""OpenAI's words for what can go wrong: clients make exceptions of the status and show the rest."""

from gateway.core.codec import ErrorAnswer
from gateway.core.errors import ErrorCode, GatewayError
from gateway.wire import json

_INVALID, _SERVER = "invalid_request_error", "server_error"
_RATE, _QUOTA = "rate_limit_exceeded", "insufficient_quota"

# Status, type and code.
_WORDS: dict[ErrorCode, tuple[int, str, str | None]] = {
    ErrorCode.INVALID_BODY: (400, _INVALID, None),
    ErrorCode.INVALID_JSON: (400, _INVALID, None),
    ErrorCode.BODY_TOO_LARGE: (413, _INVALID, None),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, _INVALID, None),
    ErrorCode.KEY_MISSING: (401, _INVALID, "missing_api_key"),
    ErrorCode.KEY_INVALID: (401, _INVALID, "invalid_api_key"),
    ErrorCode.KEY_EXPIRED: (401, _INVALID, "invalid_api_key"),
    ErrorCode.FORBIDDEN: (403, _INVALID, "permission_denied"),
    ErrorCode.MODEL_NOT_ALLOWED: (403, _INVALID, "permission_denied"),
    ErrorCode.AGENT_NOT_FOUND: (404, _INVALID, "model_not_found"),
    ErrorCode.CONVERSATION_NOT_FOUND: (404, _INVALID, None),
    ErrorCode.CONVERSATION_BUSY: (409, _INVALID, None),
    ErrorCode.MESSAGE_NOT_FOUND: (404, _INVALID, None),
    ErrorCode.MESSAGE_NOT_ASSISTANT: (400, _INVALID, None),
    ErrorCode.RETRY_MESSAGE_NOT_FOUND: (404, _INVALID, None),
    ErrorCode.RETRY_NO_USER_MESSAGE: (400, _INVALID, None),
    ErrorCode.TOOL_CALL_NOT_FOUND: (400, _INVALID, None),
    ErrorCode.REQUEST_RUNNING: (409, _INVALID, None),
    ErrorCode.PATH_NOT_FOUND: (404, _INVALID, None),
    ErrorCode.METHOD_NOT_ALLOWED: (405, _INVALID, None),
    ErrorCode.RATE_LIMITED: (429, _RATE, _RATE),
    ErrorCode.UPSTREAM_REJECTED: (400, _INVALID, None),
    ErrorCode.UPSTREAM_REFUSED: (502, _SERVER, "upstream_error"),
    ErrorCode.UPSTREAM_CREDITS: (429, _QUOTA, _QUOTA),
    ErrorCode.UPSTREAM_RATE_LIMITED: (429, _RATE, _RATE),
    ErrorCode.UPSTREAM_FAILED: (502, _SERVER, "upstream_error"),
    ErrorCode.UPSTREAM_MALFORMED: (502, _SERVER, "upstream_error"),
    ErrorCode.UPSTREAM_OVERSIZED: (502, _SERVER, "upstream_error"),
    ErrorCode.UPSTREAM_TRUNCATED: (502, _SERVER, "upstream_error"),
    ErrorCode.UPSTREAM_UNREACHABLE: (503, _SERVER, "unavailable"),
    ErrorCode.CONNECT_TIMEOUT: (504, _SERVER, "upstream_timeout"),
    ErrorCode.FIRST_EVENT_TIMEOUT: (504, _SERVER, "upstream_timeout"),
    ErrorCode.IDLE_TIMEOUT: (504, _SERVER, "upstream_timeout"),
    ErrorCode.TOTAL_TIMEOUT: (504, _SERVER, "upstream_timeout"),
    ErrorCode.UPSTREAM_DOWN: (503, _SERVER, "unavailable"),
    ErrorCode.UPSTREAM_BUSY: (503, _SERVER, "unavailable"),
    ErrorCode.UNAVAILABLE: (503, _SERVER, "unavailable"),
    ErrorCode.RESTARTING: (503, _SERVER, "unavailable"),
    ErrorCode.INTERNAL: (500, _SERVER, None),
}


def answer(error: GatewayError) -> ErrorAnswer:
    """An error before the stream; `param` is the first field that is wrong."""
    param = next(iter(error.details or {}), None)
    return ErrorAnswer(_WORDS[error.code][0], body(error.code, error.message, param))


def body(error: ErrorCode, message: str, param: str | None = None) -> bytes:
    """The error's object, before the stream and in it."""
    _, kind, code = _WORDS[error]
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})
