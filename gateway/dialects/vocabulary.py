"""What a dialect's streams have words for: its encoder is asked, with a sample of each event."""

from collections.abc import Iterator

from msgspec import Struct

from gateway.core.codec import Dialect
from gateway.core.errors import ErrorCode
from gateway.core.events import (
    Citation,
    Citations,
    Event,
    Extension,
    Failure,
    Finish,
    FinishReason,
    Metadata,
    ReasoningDelta,
    StepFinish,
    StepStart,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolOutput,
    Usage,
)
from gateway.core.turn import ChatRequest, Tool, Turn


class Sample(Struct, frozen=True):
    """One thing to be said, in the middle of a turn that may say it."""

    name: str
    event: Event
    before: tuple[Event, ...] = ()
    after: tuple[Event, ...] = ()


_TEXT = TextDelta("Hello")
_START, _FRAGMENT = ToolCallStart("call_1", "look_up"), ToolCallDelta("call_1", "{}")
_CALL = ToolCall("call_1", "look_up", {})
_FAILURE = Failure(ErrorCode.UPSTREAM_FAILED, "the upstream failed")
_DOCUMENT = Citations([Citation(title="Handbook", snippet="Page 7")])
_PAGE = Citations([Citation("https://www.acme.com/", "Acme")])
_EFFECTS = Extension("sonzai", "phase", {"phase": "done", "side_effects": {"emotion": "joy"}})
_DATA = Extension("ai-sdk", "data-chart", {"data": [1, 2]})

SAMPLES: tuple[Sample, ...] = (
    Sample("text", _TEXT),
    Sample("reasoning", ReasoningDelta("Well")),
    Sample("tool call", _CALL),
    Sample("tool call, its arguments as they come", _FRAGMENT, (_START,), (_CALL,)),
    Sample("result of a tool that the upstream ran", ToolOutput("call_1", {}), (_CALL,)),
    Sample("citation of a web page", _PAGE, (_TEXT,)),
    Sample("citation of a document without a URL", _DOCUMENT, (_TEXT,)),
    Sample("beginning of a step", StepStart(), (), (_TEXT,)),
    Sample("end of a step", StepFinish(), (StepStart(), _TEXT)),
    Sample("usage in tokens", Metadata(usage=Usage(3, 4)), (_TEXT,)),
    Sample("usage in credits", Metadata(usage=Usage(credits=1)), (_TEXT,)),
    Sample("Sonzai's side effects", _EFFECTS, (_TEXT,)),
    Sample("the AI SDK's data parts", _DATA, (_TEXT,)),
    Sample("end", Finish(FinishReason.STOP), (_TEXT,)),
    Sample("failure in mid-stream", _FAILURE, (_TEXT,)),
)

_TURN = Turn(conversation_id="1", user_message_id="msg_1", message_id="msg_2")
_TOOL = Tool("look_up", "Looks it up.", {"type": "object", "properties": {}})
_ASK = ChatRequest(agent="1", message="Hi", stream=True, tools=(_TOOL,))


def says(dialect: Dialect, sample: Sample) -> bool:
    """Whether a client can tell from its stream that this was said."""
    encoder = dialect.encoder(_TURN, _ASK)
    said = [encoder.encode(event) for event in sample.before]
    known = sum(encoder.dropped.values())
    here = encoder.encode(sample.event)
    if sum(encoder.dropped.values()) > known:
        return False
    rest = b"".join(map(encoder.encode, _rest(sample)))
    # What is kept for the last frame says nothing where it comes.
    return bool(here) or b"".join(said) + rest != _without(dialect, sample)


def _rest(sample: Sample) -> Iterator[Event]:
    yield from sample.after
    if not isinstance(sample.event, (Finish, Failure)):
        yield Finish(FinishReason.STOP)


def _without(dialect: Dialect, sample: Sample) -> bytes:
    encoder = dialect.encoder(_TURN, _ASK)
    return b"".join(map(encoder.encode, (*sample.before, *_rest(sample))))
