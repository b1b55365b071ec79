"""One enumeration of what can go wrong, and the exception that carries it.

Each dialect maps every code to its own status and words. A message here is ours and fit for a
client: it never holds exception text, an upstream's internals, a key or a credential.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """What went wrong; the values are labels of metrics and fields of the log."""

    # The request's own fault.
    INVALID_BODY = "invalid_body"
    INVALID_JSON = "invalid_json"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    KEY_MISSING = "key_missing"
    KEY_INVALID = "key_invalid"
    KEY_EXPIRED = "key_expired"
    FORBIDDEN = "forbidden"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    AGENT_NOT_FOUND = "agent_not_found"
    CONVERSATION_NOT_FOUND = "conversation_not_found"
    CONVERSATION_BUSY = "conversation_busy"
    MESSAGE_NOT_FOUND = "message_not_found"
    MESSAGE_NOT_ASSISTANT = "message_not_assistant"
    RETRY_MESSAGE_NOT_FOUND = "retry_message_not_found"
    RETRY_NO_USER_MESSAGE = "retry_no_user_message"
    TOOL_CALL_NOT_FOUND = "tool_call_not_found"
    REQUEST_RUNNING = "request_running"
    """Another request with the same Idempotency-Key has not been answered yet."""
    PATH_NOT_FOUND = "path_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    RATE_LIMITED = "rate_limited"

    # The upstream's.
    UPSTREAM_REJECTED = "upstream_rejected"
    """It calls the request invalid: the one case in which its own message may pass."""
    UPSTREAM_REFUSED = "upstream_refused"
    """It refuses our credential: never the client's fault."""
    UPSTREAM_CREDITS = "upstream_credits"
    UPSTREAM_RATE_LIMITED = "upstream_rate_limited"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_MALFORMED = "upstream_malformed"
    UPSTREAM_OVERSIZED = "upstream_oversized"
    UPSTREAM_TRUNCATED = "upstream_truncated"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_EVENT_TIMEOUT = "first_event_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"

    # Ours.
    UPSTREAM_DOWN = "upstream_down"
    """All targets are left alone for now, as they failed again and again."""
    UPSTREAM_BUSY = "upstream_busy"
    """All streams that the targets may have are taken, and the queue is full or slow."""
    UNAVAILABLE = "unavailable"
    RESTARTING = "restarting"
    """A stop ends what is still open after its window, and what comes too late for it."""
    INTERNAL = "internal"


class GatewayError(Exception):
    """A turn or request that cannot be served.

    `retry_after` is in seconds; `details` maps the path of a field to what is wrong with it;
    `allow` are the methods that a path has (405); `upstream_status` is what an upstream answered
    with, if it did.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        retry_after: float | None = None,
        details: dict[str, str] | None = None,
        allow: tuple[str, ...] = (),
        upstream_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.details = details
        self.allow = allow
        self.upstream_status = upstream_status
