"""The record of one request, filled in on its way and observed once, at its end."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct

from gateway.core.events import Usage
from gateway.observe.trace import UNTRACED, Trace

COMPLETE = "complete"
CLIENT_GONE = "client_gone"
CLIENT_STALLED = "client_stalled"
MALFORMED = "malformed_request"
"""What does not parse as HTTP."""


class Progress(Protocol):
    """An answer on its way."""

    events: int
    """That have come so far."""


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
    RESUME = "resume"
    MODELS = "models"


class Answered(Struct, frozen=True):
    """Who answered a turn, and when (seconds)."""

    provider: str
    """Whose protocol it speaks: the family of its kind."""
    model: str
    """The target's in the config; empty where it has none."""
    first_event: float
    """From the start of its attempt to its first content."""
    streaming: float
    """From there to the last that was read of it."""


class Exchange(Struct, eq=False):
    """Ids, timings (seconds) and counts. No secret, and no text of a message, ever gets in.

    In slots: Python finds an attribute that only the class has, or that is one of many in a
    dictionary, ten times as slowly, and a request has forty and a hundred looks at them.
    """

    request_id: str
    dialect: str
    started: float
    """By `time.monotonic`."""
    headers: dict[str, str] = {}
    """Of the response, whatever it turns out to be."""
    client: str = ""
    """The address that it is from: the peer's, or what trusted proxies say."""
    trace: Trace = UNTRACED
    operation: str = ""
    """An `Operation`, unless nothing is known at this path."""
    agent: str = ""
    upstream: str = ""
    target: str = ""
    """The upstream's, and the model or agent there; the last that was asked. Where none could be,
    the one that was full or left alone."""
    key_id: str = ""
    workspace: str = ""
    """Of the key, or of the public agent; empty as long as nobody is known."""
    counted_as: str = ""
    """What its key is called in metrics, once it is known: its id in the config, `(signed)` or
    `(public)`. Never what a client or a signer chooses."""
    tier: str = ""
    limit: str = "requests"
    """Which of the tier's limits it met last: `requests` or `concurrency`."""
    conversation: str = ""
    stream: bool = False
    turn: bool = False
    """Whether it got as far as asking an upstream."""
    attempts: int = 0
    tried: tuple[str, ...] = ()
    """Of each target that did not begin to answer, in order, its name and the error's code."""
    status: int = 0
    outcome: str = COMPLETE
    """`complete`, `client_gone`, `client_stalled`, `malformed_request`, or an error's code."""
    failure: str = ""
    """Why the turn failed, also where its client had left: an error's code."""
    drained: str = ""
    """How a turn ended that went on without its client: `complete`, `cut`, or an error's code."""
    ends: asyncio.Future[Any] | None = None
    """What the record has to wait for: the turn may go on without its client."""
    first_event: float | None = None
    """From the request's arrival to the upstream's first content."""
    duration: float = 0.0
    waited: float = 0.0
    """Before an upstream was asked: for the client's body, and in a target's queue."""
    asked: float | None = None
    """When the first upstream was asked, by `time.monotonic`, as the next two."""
    in_hand: float | None = None
    """When what the client was to be sent first was here: of a stream the first content, else the
    whole answer."""
    sent: float | None = None
    """When that was written."""
    answered: Answered | None = None
    """Unless no upstream began to answer."""
    answering: Progress | None = None
    """What the client is being sent, once an upstream has begun to answer."""
    received: int = 0
    """Bytes of the request's body."""
    written: int = 0
    """Bytes of a turn's answer, without heads and framing."""
    events: int = 0
    usage: Usage | None = None
    dropped: Mapping[str, int] = {}
    exemplar: dict[str, str] | None = None
    """Of a request whose trace is recorded, `{"trace_id": ...}`: shown beside its figures."""

    def failed(self, code: str) -> None:
        """The turn failed; to a client that had left before, that is what happened."""
        self.failure = code
        if self.outcome == COMPLETE:
            self.outcome = code

    @contextmanager
    def waits(self) -> Iterator[None]:
        """The block waits for somebody else."""
        began = time.monotonic()
        try:
            yield
        finally:
            if self.asked is None:
                self.waited += time.monotonic() - began

    def asks(self) -> None:
        """An upstream is about to be asked, perhaps another one."""
        if self.asked is None:
            self.asked = time.monotonic()

    @property
    def overhead(self) -> float | None:
        """The gateway's own share of the time to the first byte; None if there was none."""
        if self.asked is None or self.in_hand is None or self.sent is None:
            return None
        asking, sending = self.asked - self.started - self.waited, self.sent - self.in_hand
        # A stream may have been opened before there was anything to send.
        return (asking if asking > 0 else 0.0) + (sending if sending > 0 else 0.0)

    @property
    def event_interval(self) -> float | None:
        """The mean time between two events of the turn; None if they all came at once."""
        if self.answered is None or self.events < 2 or not self.answered.streaming:
            return None
        return self.answered.streaming / (self.events - 1)
