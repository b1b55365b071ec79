"""One exchange with an agent: what the client asked, what the upstream is asked, and the reply."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.core.events import (
    Citation,
    Citations,
    Event,
    Failure,
    Finish,
    FinishReason,
    Json,
    Metadata,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a client asked for, in any dialect. Ids are text, whatever the dialect writes."""

    agent: str
    """Its id, name or an alias."""
    message: str
    stream: bool
    conversation_id: str | None = None
    user_id: str | None = None
    user_hash: str | None = None
    """Widget identity: hex HMAC-SHA256 of the user id under the agent's secret."""
    model: str | None = None


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `call_id` names the call that a tool's message answers."""

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A client-side tool offered to the model; `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What an upstream is asked.

    `messages` is the whole conversation, instructions first, the user's new message last. A
    stateful upstream that knows the conversation (`conversation_id`, its own id) takes only the
    last one.
    """

    messages: tuple[Message, ...]
    stream: bool
    tools: tuple[Tool, ...] = ()
    model: str | None = None
    user_id: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The ids that clients see of one turn."""

    conversation_id: str
    user_message_id: str
    message_id: str
    user_id: str | None = None


@dataclass(slots=True)
class Reply:
    """A turn's events, folded: the non-streaming answer and the record of the conversation."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool_outputs: list[ToolOutput] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    metadata: Metadata = field(default_factory=Metadata)
    finish: FinishReason | None = None
    failure: Failure | None = None
    _texts: list[str] = field(default_factory=list, repr=False)
    _reasonings: list[str] = field(default_factory=list, repr=False)

    def extend(self, events: Iterable[Event]) -> None:
        """Take up more events, in order."""
        for event in events:
            if type(event) is TextDelta:
                self._texts.append(event.text)
            else:
                self._add(event)

    def folded(self) -> "Reply":
        """This reply with its text joined: once per turn, for a join per event is quadratic."""
        self.text, self.reasoning = "".join(self._texts), "".join(self._reasonings)
        return self

    def _add(self, event: Event) -> None:
        match event:
            case ReasoningDelta(text):
                self._reasonings.append(text)
            case ToolCall():
                self.tool_calls.append(event)
            case ToolOutput():
                self.tool_outputs.append(event)
            case Citations(items):
                self.citations += items
            case Metadata():
                self.metadata = merged(self.metadata, event)
            case Finish(reason):
                self.finish = reason
            case Failure():
                self.failure = event
            case _:
                pass  # a start, a fragment or a step adds nothing to the whole


def merged(earlier: Metadata, later: Metadata) -> Metadata:
    """Both, the later one's known fields winning; usage figure by figure."""
    usage = later.usage or earlier.usage
    if earlier.usage and later.usage:
        usage = earlier.usage.updated(later.usage)
    return Metadata(
        conversation_id=later.conversation_id or earlier.conversation_id,
        message_id=later.message_id or earlier.message_id,
        user_message_id=later.user_message_id or earlier.user_message_id,
        user_id=later.user_id or earlier.user_id,
        model=later.model or earlier.model,
        usage=usage,
    )
