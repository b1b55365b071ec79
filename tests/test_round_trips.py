"""What a dialect's encoder writes, its family's decoder reads: the same events, but for what the
dialect has no words for.

`WAYS` is the table of that: what survives in which form, and what is lost on purpose, with why.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.codec import Dialect, Target
from gateway.core.errors import ErrorCode
from gateway.core.events import (
    Citation,
    Citations,
    Event,
    Extension,
    Failure,
    Finish,
    FinishReason,
    Json,
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
from gateway.core.turn import ChatRequest, Reply, Tool, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.chatbase import VARIANTS
from gateway.dialects.runs import encode_all
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.refusals import MESSAGES
from gateway.wire import json
from tests.golden_cases import TURN, cut, decoded

TARGET = Target(upstream="any")

# The turn of a client that sees the upstream's own ids.
PASSED = Turn(conversation_id=None, user_message_id=None, message_id=None)

SILENT = {"StepStart", "StepFinish", "ToolCallStart", "ToolCallDelta"}
"""What is lost without loss: whole calls follow, and steps only divide the work."""

CODES = (
    *MESSAGES,
    ErrorCode.IDLE_TIMEOUT,
    ErrorCode.TOTAL_TIMEOUT,
    ErrorCode.UNAVAILABLE,
    ErrorCode.RESTARTING,
    ErrorCode.INTERNAL,
)
"""What can go wrong in the middle of a turn."""

OF_CALLS = (ToolCallStart, ToolCallDelta, ToolCall)


# The grammar: what a decoder may say in one turn.

NAMES = ("look_up", "refund")

texts = st.text(min_size=1, max_size=9)
values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.floats(0, 9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
arguments: st.SearchStrategy[Json] = st.dictionaries(texts, values, max_size=2) | st.sampled_from(
    ['{"order": ', "seven"]
)
echoes: st.SearchStrategy[Json] = st.sampled_from(
    [None, None, {"google": {"thought_signature": "x"}}]
)
words = st.lists(texts, min_size=1, max_size=3)
texts_run: st.SearchStrategy[list[Event]] = st.builds(
    lambda said: [TextDelta(text) for text in said], words
)
reasoning_run: st.SearchStrategy[list[Event]] = st.builds(
    lambda said: [ReasoningDelta(text) for text in said], words
)
extensions: st.SearchStrategy[Event] = st.sampled_from(
    [
        Extension("sonzai", "context_ready", {"build_duration_ms": 3, "used_fast_path": True}),
        Extension("sonzai", "", {"side_effects": {"emotion": "joy"}}),
        Extension("ai-sdk", "data-chart", {"data": [1, {"b": None}], "id": "chart"}),
        Extension("ai-sdk", "file", {"url": "https://a.example/1.png", "mediaType": "image/png"}),
        Extension("bookbag", "typing", {"on": True}),
    ]
)
figures = st.none() | st.integers(0, (1 << 53) - 1)
usages = st.builds(Usage, figures, figures, st.none() | st.sampled_from([0, 0.5, 12]))
ids = st.sampled_from([None, "4503599627370001", "conv_1", "\u00e9-1"])
known = st.builds(
    Metadata,
    conversation_id=ids,
    message_id=ids,
    user_message_id=ids,
    user_id=ids,
    model=ids,
    usage=usages.map(lambda usage: usage or None),
)
ends = st.builds(Finish, st.sampled_from(FinishReason))
failures = st.builds(
    lambda code: Failure(code, MESSAGES.get(code, "the gateway failed")),
    st.sampled_from(CODES),
)


@st.composite
def calls(draw: st.DrawFn, numbers: Iterator[int]) -> list[Event]:
    """One call or several at a time; their arguments come in any order, or not in fragments."""
    begun: list[Event] = []
    fragments: list[list[Event]] = []
    whole: list[Event] = []
    for _ in range(draw(st.integers(1, 2))):
        call_id = f"call_{next(numbers)}"
        call = ToolCall(call_id, draw(st.sampled_from(NAMES)), draw(arguments), echo=draw(echoes))
        whole.append(call)
        if draw(st.booleans()):
            begun.append(ToolCallStart(call_id, call.name))
            fragments.append(draw(_fragments(call)))
    order = draw(st.permutations([place for place, those in enumerate(fragments) for _ in those]))
    return [*begun, *(fragments[place].pop(0) for place in order), *whole]


@st.composite
def _fragments(draw: st.DrawFn, call: ToolCall) -> list[Event]:
    text = _written(call.arguments)
    places = draw(st.lists(st.integers(0, len(text)), max_size=3, unique=True))
    bounds = sorted({0, *places, len(text)})
    if draw(st.integers(0, 4)) == 0:
        return []  # AI SDK upstreams may announce a call and then only complete it
    pieces = (text[start:end] for start, end in pairwise(bounds))
    return [ToolCallDelta(call.call_id, piece) for piece in pieces]


@st.composite
def sources(draw: st.DrawFn, numbers: Iterator[int]) -> list[Event]:
    """Pages and documents, each of them new."""
    items = []
    for _ in range(draw(st.integers(1, 2))):
        page, title = f"https://a.example/{next(numbers)}?q=\u6ce8", f"Page {next(numbers)}"
        snippet = draw(st.none() | texts)
        given = [Citation(page, title, snippet), Citation(page, None, snippet)]
        items.append(draw(st.sampled_from([*given, Citation(None, title, snippet)])))
    return [Citations(items)]


@st.composite
def turns(draw: st.DrawFn) -> list[Event]:
    """A whole turn. Whatever fails may do so after any of its events."""
    numbers = count(1)
    events: list[Event] = [draw(known)] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 3))):
        events += draw(_block(numbers))
    if draw(st.booleans()):
        events.append(draw(known))
    if draw(st.integers(0, 3)):
        return [*events, draw(ends)]
    return [*events[: draw(st.integers(0, len(events)))], draw(failures)]


@st.composite
def _block(draw: st.DrawFn, numbers: Iterator[int]) -> list[Event]:
    """What is said in a step, or outside of any."""
    said: list[Event] = []
    waiting: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        alone = extensions.map(lambda extension: [extension])
        kinds = (texts_run, reasoning_run, calls(numbers), sources(numbers), alone)
        new = draw(st.one_of(*kinds))
        said += new
        waiting += [event.call_id for event in new if isinstance(event, ToolCall)]
        if draw(st.booleans()) and waiting:
            said.append(ToolOutput(waiting.pop(), draw(values)))
    return [StepStart(), *said, StepFinish()] if draw(st.booleans()) else said


# What is left of it.

Kept = Callable[[Event], Event | None]


def as_it_is(event: Event) -> Event | None:
    return event


def without_echo(event: Event) -> Event | None:
    assert isinstance(event, ToolCall)
    return replace(event, echo=None)


def without_snippets(event: Event) -> Event | None:
    assert isinstance(event, Citations)
    return Citations([replace(item, snippet=None) for item in event.items])


def pages(event: Event) -> Event | None:
    assert isinstance(event, Citations)
    found = [item for item in event.items if item.url is not None]
    return Citations(found) if found else None


def of(vendor: str) -> Kept:
    """The extensions of one family."""
    return lambda event: event if isinstance(event, Extension) and event.vendor == vendor else None


def as_failed(*codes: ErrorCode) -> Kept:
    """A failure: these codes are told apart, all others are one."""

    def kept(event: Event) -> Event | None:
        assert isinstance(event, Failure)
        code = event.code if event.code in codes else ErrorCode.UPSTREAM_FAILED
        return Failure(code, MESSAGES[code])

    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A dialect, the upstream that reads it, and what of a turn passes from one to the other."""

    dialect: Dialect
    kind: str
    keeps: Mapping[type, Kept]
    lost: Mapping[type, str] = field(default_factory=dict)
    """The events that it has no word for, and why."""
    shaped: Callable[[list[Event], ChatRequest], list[Event]] = lambda events, _: events
    """The order in which the dialect says things."""
    reasons: Mapping[FinishReason, FinishReason] = field(default_factory=dict)
    calls_finish: bool = False
    """An answer with calls ends for them, whatever the upstream says."""
    knows: Callable[[Metadata, Turn, ChatRequest], Metadata]
    """What of the ids and the usage stands in the last frame."""

    def expected(self, events: list[Event], ask: ChatRequest) -> list[Event]:
        shaped = self.shaped(events, ask)
        kept = [self.keeps[type(event)](event) for event in shaped if type(event) in self.keeps]
        said = [event for event in kept if event is not None]
        return [self._ended(event, said) for event in normal(said)]

    def _ended(self, event: Event, said: list[Event]) -> Event:
        if not isinstance(event, Finish):
            return event
        reason = self.reasons.get(event.reason, event.reason)
        if self.calls_finish and any(isinstance(each, ToolCall) for each in said):
            stopped = reason in (FinishReason.STOP, FinishReason.OTHER)
            reason = FinishReason.TOOL_CALLS if stopped else reason
        return Finish(reason)


def normal(events: Iterable[Event]) -> list[Event]:
    """What follows each other and belongs together as one; without the metadata."""
    whole: list[Event] = []
    for event in events:
        if isinstance(event, Metadata):
            continue
        both = _joined(whole[-1], event) if whole else None
        if both is None:
            whole.append(event)
        else:
            whole[-1] = both
    return whole


def _joined(one: Event, other: Event) -> Event | None:
    match one, other:
        case TextDelta(a), TextDelta(b):
            return TextDelta(a + b)
        case ReasoningDelta(a), ReasoningDelta(b):
            return ReasoningDelta(a + b)
        case Citations(some), Citations(more):
            return Citations([*some, *more])
        case ToolCallDelta(a_call, a), ToolCallDelta(b_call, b) if a_call == b_call:
            return ToolCallDelta(a_call, a + b)
    return None


def metadata(events: Iterable[Event]) -> Metadata:
    """All that is said of it."""
    reply = Reply()
    reply.extend([event for event in events if isinstance(event, Metadata)])
    return reply.metadata


# Metadata, by dialect.


def all_ids(said: Metadata, turn: Turn, _ask: ChatRequest) -> Metadata:
    """The gateway's ids, or the upstream's where clients see those; the model is the gateway's
    business."""
    if turn.message_id is None:
        return replace(said, model=None)
    return Metadata(
        conversation_id=turn.conversation_id,
        message_id=turn.message_id,
        user_message_id=turn.user_message_id,
        user_id=turn.user_id,
        usage=said.usage,
    )


def v1_ids(said: Metadata, turn: Turn, ask: ChatRequest) -> Metadata:
    """Of v1's page: the conversation, the message and the usage."""
    return replace(all_ids(said, turn, ask), user_message_id=None, user_id=None)


def tokens(said: Metadata, _turn: Turn, ask: ChatRequest) -> Metadata:
    """Clients count on both figures, if they asked; ids are the vendor's, credits nobody reads. The
    model is what the client called the agent."""
    usage = said.usage or Usage()
    if not ask.include_usage or usage.input_tokens is None or usage.output_tokens is None:
        return Metadata(model=ask.agent)
    return Metadata(model=ask.agent, usage=replace(usage, credits=None))


def nothing(_said: Metadata, _turn: Turn, _ask: ChatRequest) -> Metadata:
    return Metadata()


# Order, by dialect.


def in_steps(events: list[Event], _ask: ChatRequest) -> list[Event]:
    """All that is said is within a step: clients throw at what is outside."""
    shaped: list[Event] = []
    open_step = False
    for event in events:
        before: list[Event] = []
        match event:
            case StepStart():
                open_step = True
            case StepFinish():
                open_step = False
            case Finish():
                before = [StepFinish()] if open_step else []
            case Failure() | Metadata() | Extension():
                pass
            case _:
                before = [] if open_step else [StepStart()]
                open_step = True
        shaped += [*_closed(shaped, event), *before, event]
    return shaped


def _closed(shaped: list[Event], event: Event) -> list[Event]:
    """A step that we began ends where the upstream's own begins."""
    steps = [each for each in shaped if isinstance(each, (StepStart, StepFinish))]
    still_open = bool(steps) and isinstance(steps[-1], StepStart)
    return [StepFinish()] if still_open and isinstance(event, StepStart) else []


def effects_last(events: list[Event], _ask: ChatRequest) -> list[Event]:
    """Calls and side effects are in the last chunk, which a failure has not."""
    late = [event for event in events if isinstance(event, ToolCall)]
    effects = [event for event in events if isinstance(event, Extension) and not event.name]
    rest = [event for event in events if event not in late and event not in effects]
    if isinstance(events[-1], Failure):
        return rest
    return [*rest[:-1], *effects[-1:], *late, rest[-1]]


def by_index(events: list[Event], ask: ChatRequest) -> list[Event]:
    """Calls of tools that the client offered are streamed, also those that came whole; others are
    told of at the end, unless the upstream ran them. A reader has them all at the end."""
    offered = {tool.name for tool in ask.tools}
    names = {e.call_id: e.name for e in events if isinstance(e, (ToolCallStart, ToolCall))}
    ran = {event.call_id for event in events if isinstance(event, ToolOutput)}
    fits = [e for e in events if not isinstance(e, OF_CALLS) or names[e.call_id] in offered]
    others = [e for e in events if isinstance(e, ToolCall) and e not in fits]
    *said, end = fits
    if isinstance(end, Finish):
        said += [call for call in others if call.call_id not in ran]
    streamed = _streamed(said)
    begun = [event.call_id for event in streamed if isinstance(event, ToolCallStart)]
    calls = [event for event in said if isinstance(event, ToolCall)]
    calls.sort(key=lambda call: begun.index(call.call_id))
    return [*streamed, *(calls if isinstance(end, Finish) else []), end]


def _streamed(events: list[Event]) -> list[Event]:
    """Each call as fragments, of which there may be one."""
    started = {event.call_id for event in events if isinstance(event, ToolCallStart)}
    argued = {event.call_id for event in events if isinstance(event, ToolCallDelta)}
    shaped: list[Event] = []
    for event in events:
        if not isinstance(event, ToolCall):
            shaped.append(event)
            continue
        if event.call_id not in started:
            shaped.append(ToolCallStart(event.call_id, event.name))
        if event.call_id not in argued:
            shaped.append(ToolCallDelta(event.call_id, _written(event.arguments)))
    return shaped


def _written(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value).decode()


NO_STEPS = "steps are only how an upstream divides its work"
NO_FRAGMENTS = "the whole call follows"
NO_REASONING = "the page has no frame for it, and it is no part of the answer"
NO_OUTPUTS = "the upstream ran the tool: nothing is asked of the client"
NO_EXTENSION = "another family's"

COMMON: dict[type, Kept] = {
    TextDelta: as_it_is,
    Finish: as_it_is,
    Failure: as_failed(),
}
UI: dict[type, Kept] = {
    **COMMON,
    ReasoningDelta: as_it_is,
    ToolCallStart: as_it_is,
    ToolCallDelta: as_it_is,
    ToolCall: without_echo,
    ToolOutput: as_it_is,
    Citations: without_snippets,
    StepStart: as_it_is,
    StepFinish: as_it_is,
    Extension: of("ai-sdk"),
}
IN_BOOKBAG: dict[FinishReason, FinishReason] = {FinishReason.OTHER: FinishReason.STOP}
UNSTREAMED: dict[type, str] = {
    StepStart: NO_STEPS,
    StepFinish: NO_STEPS,
    ToolCallStart: NO_FRAGMENTS,
    ToolCallDelta: NO_FRAGMENTS,
    ReasoningDelta: NO_REASONING,
    ToolOutput: NO_OUTPUTS,
}

WAYS: dict[str, Way] = {
    "bookbag-v1": Way(
        dialect=DIALECTS["bookbag-v1"],
        kind="bookbag-v1",
        keeps={
            **COMMON,
            Citations: as_it_is,
            Failure: as_failed(ErrorCode.UPSTREAM_RATE_LIMITED),
        },
        lost={
            **UNSTREAMED,
            ToolCall: "a widget has no tools",
            Extension: NO_EXTENSION,
        },
        reasons=IN_BOOKBAG,
        knows=v1_ids,
    ),
    "bookbag-v2": Way(
        dialect=DIALECTS["bookbag-v2"],
        kind="bookbag-v2",
        keeps={**COMMON, ToolCall: without_echo, Citations: as_it_is},
        lost={**UNSTREAMED, Extension: NO_EXTENSION},
        reasons=IN_BOOKBAG,
        knows=all_ids,
    ),
    "chatbase": Way(dialect=VARIANTS["current"], kind="chatbase", keeps=UI, knows=all_ids),
    "chatbase seed": Way(
        # Its page has no field for why the answer ended.
        dialect=VARIANTS["seed"],
        kind="chatbase",
        keeps=UI,
        reasons=dict.fromkeys(FinishReason, FinishReason.OTHER),
        knows=all_ids,
    ),
    "agentsgt": Way(
        dialect=DIALECTS["agentsgt"],
        kind="agentsgt",
        keeps=UI,
        shaped=in_steps,
        knows=all_ids,
    ),
    "openai": Way(
        dialect=DIALECTS["openai"],
        kind="openai",
        keeps={
            **COMMON,
            ReasoningDelta: as_it_is,
            ToolCallStart: as_it_is,
            ToolCallDelta: as_it_is,
            ToolCall: as_it_is,
            Citations: pages,
            Failure: as_failed(
                ErrorCode.UPSTREAM_CREDITS,
                ErrorCode.UPSTREAM_RATE_LIMITED,
                ErrorCode.UPSTREAM_REJECTED,
            ),
        },
        lost={
            StepStart: NO_STEPS,
            StepFinish: NO_STEPS,
            ToolOutput: NO_OUTPUTS,
            Extension: NO_EXTENSION,
        },
        shaped=by_index,
        reasons=IN_BOOKBAG,
        calls_finish=True,
        knows=tokens,
    ),
    "sonzai": Way(
        dialect=DIALECTS["sonzai"],
        kind="sonzai",
        keeps={**COMMON, ToolCall: without_echo, Extension: of("sonzai")},
        lost={**UNSTREAMED, Citations: "the chunk's schema has no place for them"},
        shaped=effects_last,
        reasons=IN_BOOKBAG,
        calls_finish=True,
        knows=nothing,
    ),
}

every_way = pytest.mark.parametrize("name", WAYS)

tools = st.sets(st.sampled_from(NAMES)).map(
    lambda names: tuple(Tool(name, "", {"type": "object"}) for name in sorted(names))
)
asks = st.builds(
    lambda offered, usage: ChatRequest(
        agent="1", message="hi", stream=True, tools=offered, include_usage=usage
    ),
    tools,
    st.booleans(),
)
places = st.lists(st.integers(0, 4000), max_size=8)


@given(events=turns())
def test_a_reply_is_the_same_however_its_events_came(events: list[Event]) -> None:
    """Many in one read, or each in its own."""
    together, apart = Reply(), Reply()
    together.extend(events)
    for event in events:
        apart.extend([event])

    assert together.folded() == apart.folded()


@every_way
@settings(max_examples=100, deadline=None)
@given(
    events=turns(),
    turn=st.sampled_from([TURN, PASSED]),
    ask=asks,
    at=places,
    bytewise=st.booleans(),
)
def test_round_trip(
    name: str, events: list[Event], turn: Turn, ask: ChatRequest, at: list[int], bytewise: bool
) -> None:
    """A stream means to its reader what it meant to its writer, however the network cuts it."""
    way = WAYS[name]
    assume(way.kind != "openai" or not _may_think(events))
    encoder = way.dialect.encoder(turn, ask)
    body = b"".join(encoder.encode(event) for event in events)
    assert encode_all(way.dialect.encoder(turn, ask), events) == body
    read = decoded(UPSTREAMS[way.kind].decoder(TARGET), [body])
    pieces = cut(body, range(len(body)) if bytewise else at)
    assert decoded(UPSTREAMS[way.kind].decoder(TARGET), pieces) == read

    assert normal(read) == way.expected(events, ask)
    told = way.knows(metadata(events), turn, ask)
    if isinstance(events[-1], Finish):
        assert metadata(read) == told
    else:
        # Only streams that begin with a frame of their own have named the message by then.
        named = metadata(read).message_id
        assert metadata(read) == Metadata(message_id=named)
        assert named in (None, *(each.message_id for each in _stages(events, way, turn, ask)))


def _stages(events: list[Event], way: Way, turn: Turn, ask: ChatRequest) -> Iterator[Metadata]:
    """What was known at each point of the turn."""
    for place in range(len(events)):
        yield way.knows(metadata(events[:place]), turn, ask)


def _may_think(events: list[Event]) -> bool:
    """Text that begins as local models write their reasoning is read as that."""
    first = next((event.text for event in events if isinstance(event, TextDelta)), "x").lstrip()
    return "<think>".startswith(first[:7])


@every_way
@settings(max_examples=60, deadline=None)
@given(events=turns())
def test_what_is_lost_is_counted(name: str, events: list[Event]) -> None:
    """No event that a client might miss goes unnoticed."""
    way = WAYS[name]
    encoder = way.dialect.encoder(TURN, ChatRequest(agent="1", message="hi", stream=True))
    for event in events:
        encoder.encode(event)

    missed = {
        type(event).__name__
        for event in events
        if type(event) in way.lost
        or (type(event) in way.keeps and way.keeps[type(event)](event) is None)
    }
    assert missed - SILENT <= set(encoder.dropped)


@every_way
def test_every_end(name: str) -> None:
    """Why an answer ended or failed, as far as it can be told; with a call and without."""
    way = WAYS[name]
    ask = ChatRequest(agent="1", message="hi", stream=True)
    said: list[Event] = [TextDelta("Hello"), ToolCall("call_1", "look_up", {})]
    ends: list[Event] = [Finish(reason) for reason in FinishReason]
    ends += [Failure(code, MESSAGES.get(code, "the gateway failed")) for code in CODES]
    for events in ([*before, end] for before in (said[:1], said) for end in ends):
        encoder = way.dialect.encoder(TURN, ask)
        body = b"".join(encoder.encode(event) for event in events)
        read = decoded(UPSTREAMS[way.kind].decoder(TARGET), [body])
        assert normal(read)[-1] == way.expected(events, ask)[-1]


@every_way
def test_every_event_is_accounted_for(name: str) -> None:
    """Each one survives or is lost for a reason, and not both; metadata has a column of its own."""
    way = WAYS[name]
    assert set(way.keeps) | set(way.lost) | {Metadata} == set(Event.__args__)
    assert not set(way.keeps) & set(way.lost)


def test_every_dialect_has_its_way() -> None:
    """A new dialect has to say what of a turn it can say."""
    assert {way.dialect.name for way in WAYS.values()} == set(DIALECTS)
