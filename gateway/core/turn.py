"""One exchange with an agent: what the client asked, what the upstream is asked, and the reply."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from msgspec import Struct

from gateway.core.conversation import Part, Role
from gateway.core.events import (
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


class ChatRequest(Struct, frozen=True):
    """What a client asked for, in any dialect. Ids are text, whatever the dialect writes."""

    agent: str
    """Its id, name or an alias."""
    message: str | None
    """None: the conversation goes on with the results of its tool calls, or a turn is run again."""
    stream: bool
    conversation_id: str | None = None
    retry_of: str | None = None
    """The assistant's message that is to be replaced by a new one, as the client calls it."""
    user_id: str | None = None
    user_hash: str | None = None
    """Widget identity: hex HMAC-SHA256 of the user id under the agent's secret."""
    model: str | None = None
    history: tuple["Message", ...] = ()
    """What a stateless client says was said before `message`, its own instructions included;
    without a message it ends with the results of tools."""
    session_id: str | None = None
    """What a stateless client calls the conversation."""
    tools: tuple["Tool", ...] = ()
    """Offered by the client itself; then the agent's are not."""
    params: Mapping[str, Json] = {}
    """Further fields of an OpenAI-compatible request (temperature, response_format)."""
    include_usage: bool = True
    """Whether a stream is to tell what the turn cost."""


class ToolAnswer(Struct, frozen=True):
    """The result of a client-side tool, as the client hands it in."""

    call_id: str
    output: Json


class Message(Struct, frozen=True):
    """One message of a conversation; `call_id` names the call that a tool's message answers."""

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    content: Json = None
    """What an OpenAI-compatible client wrote, where that is more than text (images, audio)."""


class Budget(Struct, frozen=True):
    """How much of a conversation a stateless upstream is sent."""

    max_messages: int
    max_tokens: int | None = None
    """By estimate, instructions included; None: however many."""


class Tool(Struct, frozen=True):
    """A client-side tool offered to the model; `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Json]
    strict: bool | None = None
    """Whether arguments must fit the schema; None: as the upstream has it."""


class Prompt(Struct, frozen=True):
    """What an upstream is asked.

    `messages` is the whole conversation, instructions first; last is the user's new message, or the
    results of the tool calls in the message before. A stateful upstream that knows the conversation
    (`conversation_id`, its own id) takes only the last one; the results it has been given already.
    """

    messages: tuple[Message, ...]
    stream: bool
    tools: tuple[Tool, ...] = ()
    model: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    """What the gateway or its client calls the conversation, for upstreams that take any name."""
    params: Mapping[str, Json] = {}
    """The client's own; what the target's config says holds against them."""
    conversation_id: str | None = None
    retry_of: str | None = None
    """With `conversation_id`: the message, by the upstream's own id, that it is to answer anew."""


class Turn(Struct, frozen=True):
    """The ids that clients see of one turn; where one is None, they see the upstream's own."""

    conversation_id: str | None
    user_message_id: str | None
    message_id: str | None
    user_id: str | None = None
    created: int = 0
    """Unix seconds, where the conversation is told by the client: only such dialects say it."""


UNKNOWN = Metadata()

_text: Callable[[Event], str] = attrgetter("text")


class Reply(Struct):
    """A turn's events, folded: the non-streaming answer and the record of the conversation."""

    parts: list[Part] = []
    """In their order; complete once `folded`."""
    metadata: Metadata = UNKNOWN
    finish: FinishReason | None = None
    failure: Failure | None = None
    _run: list[str] = []
    _run_type: type[TextDelta] | type[ReasoningDelta] = TextDelta

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(part.text for part in self.parts if type(part) is TextDelta)

    @property
    def tool_calls(self) -> list[ToolCall]:
        return [part for part in self.parts if type(part) is ToolCall]

    def extend(self, events: Sequence[Event]) -> None:
        """Take up more events, in order."""
        if len(events) == 1:  # as in most reads
            (event,) = events
            if type(event) is self._run_type:
                self._run.append(event.text)
            else:
                self._add(event)
            return
        for kind, run in groupby(events, type):
            if kind is TextDelta or kind is ReasoningDelta:
                self._say(kind, map(_text, run))
            else:
                for event in run:
                    self._add(event)

    def folded(self) -> "Reply":
        """This reply with its text joined: once per run of deltas, for a join per event is
        quadratic."""
        if self._run:
            self.parts.append(self._run_type("".join(self._run)))
            self._run = []
        return self

    def _say(self, kind: type[TextDelta] | type[ReasoningDelta], texts: Iterable[str]) -> None:
        if kind is not self._run_type:
            self.folded()
            self._run_type = kind
        self._run += texts

    def _add(self, event: Event) -> None:
        if type(event) is Metadata:
            self.metadata = merged(self.metadata, event)
        elif type(event) is Finish:
            self.finish = event.reason
        elif type(event) is TextDelta or type(event) is ReasoningDelta:
            self._say(type(event), (event.text,))
        elif type(event) is ToolCall or type(event) is ToolOutput or type(event) is Citations:
            self.folded().parts.append(event)
        elif type(event) is Failure:
            self.failure = event
        # A start, a fragment or a step adds nothing to the whole.


def merged(earlier: Metadata, later: Metadata) -> Metadata:
    """Both, the later one's known fields winning; usage figure by figure."""
    if earlier is UNKNOWN:
        return later
    usage = later.usage or earlier.usage
    if earlier.usage and later.usage:
        usage = earlier.usage.updated(later.usage)
    return Metadata(
        later.conversation_id or earlier.conversation_id,
        later.message_id or earlier.message_id,
        later.user_message_id or earlier.user_message_id,
        later.user_id or earlier.user_id,
        later.model or earlier.model,
        usage,
    )
