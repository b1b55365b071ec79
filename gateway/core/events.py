"""The canonical events: what every upstream's stream is decoded into, and every dialect encodes.

A turn is a sequence of these that ends with exactly one `Finish` or `Failure`. What only some
protocols have (text-start, `[DONE]`, pings, frame ids) is no event: the encoder that needs it
makes it.

Do not subclass these and do not change one once it is made: dispatch is by exact type.
"""

from enum import StrEnum

from msgspec import Struct

from gateway.core.errors import ErrorCode

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class FinishReason(StrEnum):
    """Why a model stopped. `OTHER` is also the reason of an upstream that names none."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool-calls"
    CONTENT_FILTER = "content-filter"
    OTHER = "other"


class StepStart(Struct, frozen=True):
    """One step of a multi-step agent run begins."""


class StepFinish(Struct, frozen=True):
    """The step ends; another may follow."""


class TextDelta(Struct, frozen=True):
    """A piece of the answer, never empty."""

    text: str


class ReasoningDelta(Struct, frozen=True):
    """A piece of the model's reasoning, never empty."""

    text: str


class ToolCallStart(Struct, frozen=True):
    """The model begins a call whose arguments are streamed; `ToolCall` follows when complete."""

    call_id: str
    name: str


class ToolCallDelta(Struct, frozen=True):
    """A fragment of the JSON text of the arguments; only valid once joined."""

    call_id: str
    fragment: str


class ToolCall(Struct, frozen=True):
    """A complete call: exactly one per call, whether its arguments were streamed or not.

    `arguments` is the parsed JSON; where the model wrote something else, its text as it stands.
    `echo` is what the upstream wants back with the call in the next request (Gemini's
    `extra_content`, without which it refuses the tool's result). `said_id` is what the upstream
    calls it, where that is the id of an earlier call of the conversation too.
    """

    call_id: str
    name: str
    arguments: Json
    echo: Json = None
    said_id: str | None = None


class ToolOutput(Struct, frozen=True):
    """The result of a call that the upstream ran itself."""

    call_id: str
    output: Json


class Citation(Struct, frozen=True):
    """A source of the answer: a web page, or a document where `url` is unknown."""

    url: str | None = None
    title: str | None = None
    snippet: str | None = None


class Citations(Struct, frozen=True):
    """Sources not named before in this turn, at least one."""

    items: list[Citation]


class Extension(Struct, frozen=True):
    """What only one family of protocols can say: kept for that family, dropped for the others."""

    vendor: str
    name: str
    data: Json


class Usage(Struct, frozen=True):
    """What a turn cost. Each figure is the upstream's own; None is unknown, and never 0."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    credits: float | None = None

    def __bool__(self) -> bool:
        return (
            self.input_tokens is not None
            or self.output_tokens is not None
            or self.credits is not None
        )

    def updated(self, later: "Usage") -> "Usage":
        """These figures, overridden by those that `later` knows."""
        return Usage(
            self.input_tokens if later.input_tokens is None else later.input_tokens,
            self.output_tokens if later.output_tokens is None else later.output_tokens,
            self.credits if later.credits is None else later.credits,
        )


class Metadata(Struct, frozen=True):
    """What the upstream calls this turn. Each field is known or None; a later one wins."""

    conversation_id: str | None = None
    message_id: str | None = None
    user_message_id: str | None = None
    user_id: str | None = None
    model: str | None = None
    usage: Usage | None = None


class Finish(Struct, frozen=True):
    """The turn is complete. Last."""

    reason: FinishReason


class Failure(Struct, frozen=True):
    """The turn failed. Last. `message` is ours and fit for a client's eyes.

    `retry_after` (seconds) is the upstream's, where it gave one.
    """

    code: ErrorCode
    message: str
    retry_after: float | None = None


Event = (
    StepStart
    | StepFinish
    | TextDelta
    | ReasoningDelta
    | ToolCallStart
    | ToolCallDelta
    | ToolCall
    | ToolOutput
    | Citations
    | Extension
    | Metadata
    | Finish
    | Failure
)

TERMINAL: frozenset[type] = frozenset({Finish, Failure})

# The clock of the first event runs until one of these: a preamble such as `start`, `context_ready`
# or a bare conversation id is no sign that the model has begun to answer.
CONTENT: frozenset[type] = TERMINAL | {
    TextDelta,
    ReasoningDelta,
    ToolCallStart,
    ToolCallDelta,
    ToolCall,
    ToolOutput,
    Citations,
}
