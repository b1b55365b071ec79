"""The record of one request, filled in on its way and observed once, at its end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.core.events import Usage

COMPLETE = "complete"
CLIENT_GONE = "client_gone"
CLIENT_STALLED = "client_stalled"


class Operation(StrEnum):
    """What is asked for: a turn, or something about conversations that are kept."""

    CHAT = "chat"
    RETRY = "retry"
    TOOL_RESULT = "tool-result"
    FEEDBACK = "feedback"
    CONVERSATIONS = "conversations"
    USER_CONVERSATIONS = "user-conversations"
    CONVERSATION = "conversation"
    MESSAGES = "messages"
    EXPORT = "export"
    MODELS = "models"


@dataclass(slots=True)
class Exchange:
    """Ids, timings (seconds) and counts. No secret, and no text of a message, ever gets in."""

    request_id: str
    dialect: str
    started: float
    """By `time.monotonic`."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the response, whatever it turns out to be."""
    operation: str = ""
    """An `Operation`, unless nothing is known at this path."""
    agent: str = ""
    upstream: str = ""
    key_id: str = ""
    tier: str = ""
    conversation: str = ""
    stream: bool = False
    turn: bool = False
    """Whether it got as far as asking an upstream."""
    attempts: int = 0
    status: int = 0
    outcome: str = COMPLETE
    """`complete`, `client_gone`, `client_stalled`, `malformed_request`, or an error's code."""
    first_event: float | None = None
    """From the request's arrival to the upstream's first content."""
    duration: float = 0.0
    events: int = 0
    usage: Usage | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
