"""Whose fault it is that a request did not end well: where an operator looks first."""

from enum import StrEnum

from gateway.core.errors import ErrorCode as Code
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED, MALFORMED


class Fault(StrEnum):
    """The values are labels of metrics."""

    CLIENT = "client"
    """It asked for what is not there, not its own or too much, or did not wait for the answer."""
    GATEWAY = "gateway"
    """Or of whoever runs it: its limits, its store, its restarts."""
    UPSTREAM = "upstream"


# A refused credential and an empty account are our own, and settled with the upstream all the same.
_BY_FAULT: dict[Fault, tuple[str, ...]] = {
    Fault.CLIENT: (
        MALFORMED,
        CLIENT_GONE,
        CLIENT_STALLED,
        Code.INVALID_BODY,
        Code.INVALID_JSON,
        Code.BODY_TOO_LARGE,
        Code.UNSUPPORTED_MEDIA_TYPE,
        Code.KEY_MISSING,
        Code.KEY_INVALID,
        Code.KEY_EXPIRED,
        Code.FORBIDDEN,
        Code.MODEL_NOT_ALLOWED,
        Code.AGENT_NOT_FOUND,
        Code.CONVERSATION_NOT_FOUND,
        Code.CONVERSATION_BUSY,
        Code.MESSAGE_NOT_FOUND,
        Code.MESSAGE_NOT_ASSISTANT,
        Code.RETRY_MESSAGE_NOT_FOUND,
        Code.RETRY_NO_USER_MESSAGE,
        Code.TOOL_CALL_NOT_FOUND,
        Code.REQUEST_RUNNING,
        Code.PATH_NOT_FOUND,
        Code.METHOD_NOT_ALLOWED,
        Code.RATE_LIMITED,
        Code.UPSTREAM_REJECTED,
    ),
    Fault.GATEWAY: (Code.UPSTREAM_BUSY, Code.UNAVAILABLE, Code.RESTARTING, Code.INTERNAL),
    Fault.UPSTREAM: (
        Code.UPSTREAM_REFUSED,
        Code.UPSTREAM_CREDITS,
        Code.UPSTREAM_RATE_LIMITED,
        Code.UPSTREAM_FAILED,
        Code.UPSTREAM_MALFORMED,
        Code.UPSTREAM_OVERSIZED,
        Code.UPSTREAM_TRUNCATED,
        Code.UPSTREAM_UNREACHABLE,
        Code.UPSTREAM_DOWN,
        Code.CONNECT_TIMEOUT,
        Code.FIRST_EVENT_TIMEOUT,
        Code.IDLE_TIMEOUT,
        Code.TOTAL_TIMEOUT,
    ),
}
FAULTS: dict[str, Fault] = {
    outcome: fault for fault, outcomes in _BY_FAULT.items() for outcome in outcomes
}
"""By outcome. One that is not here would be a bug of ours: it is complete, or it is an error."""
