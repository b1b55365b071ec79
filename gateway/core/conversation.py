"""What is kept of a conversation: the records that stores keep and dialects show.

A message is the events of its turn, with the deltas of one kind that follow each other joined: a
part is one of these events. Times are Unix milliseconds, ids integers from 1 to `MAX_ID`.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from gateway.core.events import (
    Citations,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)

# JavaScript holds no integer beyond this one exactly, and clients read ids as numbers.
MAX_ID = (1 << 53) - 1

Part = TextDelta | ReasoningDelta | ToolCall | ToolOutput | Citations


class Role(StrEnum):
    """Whose a message is. Only a user's and an assistant's are stored."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Feedback(StrEnum):
    """A user's thumb."""

    POSITIVE = "positive"
    NEGATIVE = "negative"


class Status(StrEnum):
    """Whether a conversation can be continued."""

    ONGOING = "ongoing"


class Owner(Struct, frozen=True):
    """Whose a conversation is: a workspace's, or without a key the agent's and one web origin's.

    With a workspace, the origin says nothing: a key may be used from anywhere.
    """

    workspace: str | None
    origin: str | None = None

    def __post_init__(self) -> None:
        if self.workspace is not None and self.origin is not None:
            object.__setattr__(self, "origin", None)


class Place(Struct, frozen=True):
    """Where conversations are looked for: those of one owner with one agent. What is elsewhere does
    not exist."""

    owner: Owner
    agent: int


class StoredMessage(Struct, frozen=True):
    """One message of a user or an assistant; what only an assistant's has is None in a user's."""

    id: int
    position: int
    """From 0, without gaps."""
    role: Role
    parts: tuple[Part, ...]
    created: int
    finish: FinishReason | None = None
    """None in an assistant's: it is incomplete, its turn was cut or failed."""
    usage: Usage | None = None
    model: str | None = None
    upstream: str | None = None
    """Its name in the config."""
    upstream_conversation: str | None = None
    upstream_message: str | None = None
    """What that upstream calls the conversation and this message, where it keeps them itself."""
    feedback: Feedback | None = None

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join([part.text for part in self.parts if type(part) is TextDelta])

    @property
    def calls(self) -> dict[str, ToolCall]:
        """Its tool calls by their ids."""
        return {part.call_id: part for part in self.parts if type(part) is ToolCall}

    @property
    def outputs(self) -> dict[str, ToolOutput]:
        """The results of its calls, by the calls' ids."""
        return {part.call_id: part for part in self.parts if type(part) is ToolOutput}


class Conversation(Struct, frozen=True):
    """One conversation, without its messages."""

    id: int
    place: Place
    user_id: str | None
    title: str | None
    created: int
    updated: int
    """When its last message was written."""
    length: int = 0
    """How many messages it has."""
    version: int = 0
    """Counts its changes, but for feedback; 0: it is not stored yet."""
    upstream_ids: Mapping[str, str] = {}
    """What the upstream that answered last calls it, by the target's key."""
    status: Status = Status.ONGOING


def message_name(number: int) -> str:
    """A message's id as clients see it."""
    return f"msg_{number}"


def message_number(name: str) -> int | None:
    """The id of the message that a client calls so; None for what can be none. Bookbag v2 makes the
    prefix optional."""
    return number_in(name.removeprefix("msg_"))


def number_in(digits: str) -> int | None:
    """The id that a client writes so; None for what can be none."""
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > len(str(MAX_ID)):
        return None
    number = int(digits)
    return number if 0 < number <= MAX_ID else None
