"""Chatbase v2: requests, frames of both variants, whole answers and errors."""

from collections.abc import Callable

import pytest

from gateway.config.clients import Mounts
from gateway.core.codec import Dialect, Target
from gateway.core.errors import ErrorCode, GatewayError
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
from gateway.core.turn import ChatRequest, Reply, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.bookbag_v2 import BOOKBAG_V2
from gateway.dialects.chatbase import CHATBASE, CHATBASE_SEED, VARIANTS
from gateway.http.paths import Paths
from gateway.upstreams import UPSTREAMS
from gateway.wire import json
from gateway.wire.sse import Parser
from tests.chatbase_clients import CLIENTS, Heard, Unreadable, by_the_page
from tests.golden_cases import ASK, TURN, Case, cases, decoded

NOBODY = Turn(conversation_id="456", user_message_id="msg_788", message_id="msg_789")
THEIRS = Turn(conversation_id=None, user_message_id=None, message_id=None)
IDS: dict[str, Json] = {
    "messageId": "msg_2",
    "userMessageId": "msg_1",
    "conversationId": "4503599627370001",
    "userId": "user_8821",
}
DONE = "[DONE]"

every_case = pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
both = pytest.mark.parametrize("dialect", VARIANTS.values(), ids=list(VARIANTS))


def bytes_of(events: list[Event], dialect: Dialect = CHATBASE, turn: Turn = TURN) -> bytes:
    encoder = dialect.encoder(turn, ASK)
    return b"".join(encoder.encode(event) for event in events)


def framed(*events: Event, dialect: Dialect = CHATBASE, turn: Turn = TURN) -> list[Json]:
    """The data of a turn's frames; `[DONE]` is the text it is."""
    found = Parser().feed(bytes_of(list(events), dialect, turn))
    return [DONE if data == b"[DONE]" else json.loads(data) for _, data in found]


def replied(*events: Event, dialect: Dialect = CHATBASE, turn: Turn = TURN) -> dict[str, Json]:
    """The whole answer to a client that asked for no stream."""
    reply = Reply()
    reply.extend(events)
    assert dialect.reply is not None
    return json.mapping(json.loads(dialect.reply(turn, ASK, reply.folded())))


def finish(reason: str = "stop", **further: Json) -> Json:
    metadata: dict[str, Json] = {**IDS, "finishReason": reason, **further}
    return {"type": "finish", "finishReason": reason, "messageMetadata": metadata}


START: Json = {"type": "start", "messageId": "msg_2"}
STOP = Finish(FinishReason.STOP)


# Requests


def test_the_least_request() -> None:
    """A message; it streams unless told not to. The agent is the path's."""
    assert CHATBASE.decode({"message": "hi"}, "5QHA6VB-DIAbBhxwqxfdi", {}) == ChatRequest(
        agent="5QHA6VB-DIAbBhxwqxfdi", message="hi", stream=True
    )


def test_a_whole_request() -> None:
    """What Chatbase does not know is ignored. A conversation's id is any text: which there are is
    for the store, or an upstream, to say."""
    body: Json = {
        "message": "hi",
        "conversationId": "conv-5QHA",
        "stream": False,
        "userId": "user_8821",
        "model": 5,
    }

    assert CHATBASE.decode(body, "1", {}) == ChatRequest(
        agent="1", message="hi", stream=False, conversation_id="conv-5QHA", user_id="user_8821"
    )


@pytest.mark.parametrize("body", [{}, {"message": None}])
def test_a_conversation_goes_on_without_a_message(body: dict[str, Json]) -> None:
    """After its tools' results; a new one needs a message."""
    assert CHATBASE.decode({**body, "conversationId": "456"}, "1", {}) == ChatRequest(
        agent="1", message=None, stream=True, conversation_id="456"
    )
    with pytest.raises(GatewayError, match="message is required"):
        CHATBASE.decode(body, "1", {})


def test_every_complaint_at_once() -> None:
    """One for each field."""
    wrong: dict[str, Json] = {
        "message": "",
        "userId": "x" * 129,
        "conversationId": 456,
        "stream": "yes",
    }

    with pytest.raises(GatewayError) as caught:
        CHATBASE.decode(wrong, "1", {})

    assert caught.value.code is ErrorCode.INVALID_BODY
    assert set(caught.value.details or {}) == set(wrong)


# Frames


def test_text_byte_for_byte() -> None:
    """A part around the deltas; each is one frame, with the space that the command line needs."""
    encoder = CHATBASE.encoder(TURN, ASK)

    assert encoder.encode(TextDelta('a "b"')) == (
        b'data: {"type":"start","messageId":"msg_2"}\n\n'
        b'data: {"type":"text-start","id":"text-1"}\n\n'
        b'data: {"type":"text-delta","id":"text-1","delta":"a \\"b\\""}\n\n'
    )
    assert encoder.encode(TextDelta("c")) == (
        b'data: {"type":"text-delta","id":"text-1","delta":"c"}\n\n'
    )


def test_text_of_the_seed_byte_for_byte() -> None:
    """The same with the types as names, and its own first frame."""
    encoder = CHATBASE_SEED.encoder(TURN, ASK)

    assert encoder.encode(TextDelta("a")) == (
        b'event: message-start\ndata: {"type":"message-start","messageId":"msg_2"}\n\n'
        b'event: text-start\ndata: {"type":"text-start","id":"text-1"}\n\n'
        b'event: text-delta\ndata: {"type":"text-delta","id":"text-1","delta":"a"}\n\n'
    )
    assert encoder.encode(TextDelta("b")) == (
        b'event: text-delta\ndata: {"type":"text-delta","id":"text-1","delta":"b"}\n\n'
    )


@both
def test_parts_do_not_overlap(dialect: Dialect) -> None:
    """Reasoning, steps and calls end the text before them; text after them is another part."""
    said = framed(
        StepStart(),
        ReasoningDelta("r"),
        TextDelta("a"),
        ToolCallStart("c", "f"),
        ToolCallDelta("c", "{}"),
        ToolCall("c", "f", {}),
        ToolOutput("c", None),
        TextDelta("b"),
        StepFinish(),
        dialect=dialect,
    )

    assert said[1:] == [
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "reasoning-1"},
        {"type": "reasoning-delta", "id": "reasoning-1", "delta": "r"},
        {"type": "reasoning-end", "id": "reasoning-1"},
        {"type": "text-start", "id": "text-2"},
        {"type": "text-delta", "id": "text-2", "delta": "a"},
        {"type": "text-end", "id": "text-2"},
        {"type": "tool-input-start", "toolCallId": "c", "toolName": "f"},
        {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": "{}"},
        {"type": "tool-input-available", "toolCallId": "c", "toolName": "f", "input": {}},
        {"type": "tool-output-available", "toolCallId": "c", "output": None},
        {"type": "text-start", "id": "text-3"},
        {"type": "text-delta", "id": "text-3", "delta": "b"},
        {"type": "text-end", "id": "text-3"},
        {"type": "finish-step"},
    ]


def test_sources_do_not_end_the_text() -> None:
    """Each is one frame with an id of its own; what is not known is absent."""
    cited = [Citation(url="https://a.example"), Citation("https://b.example", "B", "...")]
    said = framed(
        TextDelta("a"), Citations(cited), Citations([Citation(title="C")]), TextDelta("b")
    )

    assert said[3:] == [
        {"type": "source-url", "sourceId": "source-1", "url": "https://a.example"},
        {"type": "source-url", "sourceId": "source-2", "url": "https://b.example", "title": "B"},
        {
            "type": "source-document",
            "sourceId": "source-3",
            "mediaType": "application/octet-stream",
            "title": "C",
        },
        {"type": "text-delta", "id": "text-1", "delta": "b"},
    ]


@pytest.mark.parametrize("reason", FinishReason)
def test_finish(reason: FinishReason) -> None:
    """The reason in both places; then `[DONE]`."""
    assert framed(TextDelta("a"), Finish(reason))[3:] == [
        {"type": "text-end", "id": "text-1"},
        finish(reason.value),
        DONE,
    ]


def test_finish_of_the_seed() -> None:
    """It says nothing; the metadata follows, flat, with the fields of the page."""
    usage = Metadata(usage=Usage(credits=2))
    said = framed(TextDelta("a"), usage, Finish(FinishReason.TOOL_CALLS), dialect=CHATBASE_SEED)

    assert said[4:] == [
        {"type": "finish"},
        {"type": "message-metadata", **IDS, "usage": {"credits": 2}},
        DONE,
    ]


@both
def test_an_empty_answer_begins_as_well(dialect: Dialect) -> None:
    """Chatbase's clients want a start before a finish."""
    types = [json.mapping(said)["type"] for said in framed(STOP, dialect=dialect)[:-1]]

    assert types[:2] in (["start", "finish"], ["message-start", "finish"])


@both
@pytest.mark.parametrize("before", [[], [TextDelta("a")], [ReasoningDelta("a")]])
def test_a_failure_is_an_error_and_done(dialect: Dialect, before: list[Event]) -> None:
    """What is open is closed; there is no finish, so nobody takes it for an answer."""
    said = framed(*before, Failure(ErrorCode.UPSTREAM_TRUNCATED, "cut short"), dialect=dialect)

    assert said[-2:] == [{"type": "error", "errorText": "cut short"}, DONE]
    types = [str(json.mapping(each).get("type")) for each in said[:-2]]
    assert [kind.partition("-")[2] for kind in types[1:]] == (
        ["start", "delta", "end"] if before else []
    )


@pytest.mark.parametrize(
    ("known", "figures"),
    [
        (Usage(1, 2, 0.5), {"inputTokens": 1, "outputTokens": 2, "credits": 0.5}),
        (Usage(output_tokens=0), {"outputTokens": 0}),
    ],
)
def test_usage_is_what_is_known(known: Usage, figures: Json) -> None:
    """Each figure under its own name, in every form of answer; no figure, no usage."""
    events: list[Event] = [Metadata(usage=known), STOP]

    assert framed(*events)[1] == finish(usage=figures)
    assert json.mapping(framed(*events, dialect=CHATBASE_SEED)[2])["usage"] == figures
    whole = json.mapping(replied(*events)["data"])
    assert json.mapping(whole["metadata"])["usage"] == figures
    assert replied(*events, dialect=CHATBASE_SEED)["usage"] == figures
    assert framed(STOP)[1] == finish()
    assert "usage" not in replied(STOP, dialect=CHATBASE_SEED)


@both
def test_nobody_s_user_is_null(dialect: Dialect) -> None:
    """As the page has it: a string or null, and always there."""
    last = json.mapping(framed(STOP, dialect=dialect, turn=NOBODY)[-2])
    metadata = json.mapping(last.get("messageMetadata")) or last

    assert metadata["userId"] is None
    assert [name for name, value in metadata.items() if value is None] == ["userId"]


@both
def test_the_upstreams_ids_are_not_ours(dialect: Dialect) -> None:
    """A client gets the ids of this gateway, whatever the upstream calls the turn."""
    theirs = Metadata("conv-9", "msg-9", "umsg-9", "someone")

    said = bytes_of([theirs, TextDelta("a"), STOP], dialect)
    assert b"-9" not in said
    assert b"someone" not in said


def test_the_upstreams_ids_where_clients_see_those() -> None:
    """The first frame waits for what names the message, which is before its content."""
    theirs = Metadata("conv-9", "msg-9", "umsg-9", "someone")
    said = framed(theirs, TextDelta("a"), STOP, turn=THEIRS)

    assert said[0] == {"type": "start", "messageId": "msg-9"}
    assert json.mapping(said[-2])["messageMetadata"] == {
        "messageId": "msg-9",
        "userMessageId": "umsg-9",
        "conversationId": "conv-9",
        "userId": "someone",
        "finishReason": "stop",
    }
    assert framed(TextDelta("a"), turn=THEIRS)[0] == {"type": "start"}


@both
def test_what_only_the_family_says(dialect: Dialect) -> None:
    """Further types of the AI SDK are handed on, as long as they can be the name of an event."""
    chart: Json = {"id": "d1", "data": [1]}
    encoder = dialect.encoder(TURN, ASK)
    said = encoder.encode(Extension("ai-sdk", "data-chart", chart))

    ((name, data),) = Parser().feed(said)[1:]
    assert json.loads(data) == {"type": "data-chart", "id": "d1", "data": [1]}
    assert name == ("message" if dialect is CHATBASE else "data-chart")
    assert not encoder.dropped


def test_what_chatbase_cannot_say_is_counted() -> None:
    """Also a type that would be more than one line, and what had no type at all."""
    encoder = CHATBASE.encoder(TURN, ASK)
    lost = [Extension("sonzai", "phase", {}), Extension("ai-sdk", "message", {})]
    lost += [Extension("ai-sdk", "a\nid: 5", {}), Extension("ai-sdk", "", {})]

    # The first event that is no metadata begins the message.
    assert encoder.encode(TextDelta("a"))
    assert {encoder.encode(event) for event in lost} == {b""}
    assert encoder.dropped == {"Extension": 4}


@both
@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085"])
def test_line_ends_are_escaped(dialect: Dialect, character: str) -> None:
    """Android's parser splits lines as Java does, which sees more line ends than there are."""
    events: list[Event] = [
        TextDelta(character),
        ToolCallDelta("c", character),
        Citations([Citation(title=character)]),
        STOP,
    ]
    assert character.encode() not in bytes_of(events, dialect)


# Whole answers


def test_a_whole_answer() -> None:
    """The id is the answer's own, so the metadata does not repeat it."""
    assert replied(TextDelta("Your "), TextDelta("order"), STOP) == {
        "data": {
            "id": "msg_2",
            "role": "assistant",
            "parts": [{"type": "text", "text": "Your order"}],
            "metadata": {
                "userMessageId": "msg_1",
                "conversationId": "4503599627370001",
                "userId": "user_8821",
                "finishReason": "stop",
            },
        }
    }


def test_the_flat_answer_of_the_seed() -> None:
    """The page's fields, without an envelope; what was said, which it leaves out, is in `parts`."""
    said = replied(
        TextDelta("a"),
        ToolCall("call_1", "f", {}),
        Metadata(usage=Usage(credits=2)),
        STOP,
        dialect=CHATBASE_SEED,
    )

    assert said.pop("parts") == [
        {"type": "text", "text": "a"},
        {"type": "tool-call", "toolCallId": "call_1", "toolName": "f", "input": {}},
    ]
    assert said == {**IDS, "usage": {"credits": 2}}


# Errors

OWN: dict[ErrorCode, tuple[int, str]] = {
    ErrorCode.INVALID_JSON: (400, "VALIDATION_INVALID_JSON"),
    ErrorCode.KEY_EXPIRED: (401, "AUTH_EXPIRED_API_KEY"),
    ErrorCode.MODEL_NOT_ALLOWED: (403, "CHAT_MODEL_NOT_ALLOWED"),
    ErrorCode.AGENT_NOT_FOUND: (404, "AGENT_NOT_FOUND"),
    ErrorCode.MESSAGE_NOT_ASSISTANT: (422, "RESOURCE_MESSAGE_NOT_ASSISTANT"),
    ErrorCode.UPSTREAM_CREDITS: (402, "CHAT_CREDITS_EXHAUSTED"),
}


@both
@pytest.mark.parametrize("code", ErrorCode)
def test_errors(dialect: Dialect, code: ErrorCode) -> None:
    """Bookbag's words, which follow Chatbase's, but for those that Chatbase alone has."""
    error = GatewayError(code, "what is wrong", details={"message": "is required"})
    answer = dialect.error(error)

    if code not in OWN:
        assert answer == BOOKBAG_V2.error(error)
        return
    assert (answer.status, answer.content_type) == (OWN[code][0], "application/json")
    assert json.loads(answer.body) == {
        "error": {
            "code": OWN[code][1],
            "message": "what is wrong",
            "details": {"message": "is required"},
        }
    }


# Its own clients


@every_case
@pytest.mark.parametrize("client", CLIENTS.values(), ids=list(CLIENTS))
def test_chatbase_s_own_clients_read_every_answer(
    case: Case, client: Callable[[bytes], Heard]
) -> None:
    """All the text, the calls, the ids and why it ended; a failure is one to each of them."""
    events = case.decoded([case.data])
    body = bytes_of(events)
    if isinstance(events[-1], Finish):
        heard = client(body)
        assert (heard.text, heard.calls) == told(events)
        assert heard.reason == events[-1].reason
        assert {name: heard.metadata[name] for name in IDS} == IDS
    else:
        assert failed(client, body)


@every_case
def test_a_client_of_the_page_reads_every_answer(case: Case) -> None:
    """The seed's variant is what the reference page has, event by event."""
    events = case.decoded([case.data])
    heard = by_the_page(bytes_of(events, CHATBASE_SEED))

    assert (heard.text, heard.calls) == told(events)
    if isinstance(events[-1], Finish):
        assert {name: heard.metadata[name] for name in IDS} == IDS
        assert set(heard.metadata) <= {*IDS, "usage"}
    else:
        assert heard.error == events[-1].message  # type: ignore[union-attr]


@every_case
def test_what_we_write_we_read(case: Case) -> None:
    """Our own upstream of Chatbase understands the same of it, but for the ids, and what the
    sources have no word for."""
    events = case.decoded([case.data])
    again = decoded(UPSTREAMS["chatbase"].decoder(Target(upstream="golden")), [bytes_of(events)])

    assert told(again) == told(events)
    assert type(again[-1]) is type(events[-1])


@pytest.mark.parametrize("client", CLIENTS.values(), ids=list(CLIENTS))
def test_its_own_clients_bear_comments(client: Callable[[bytes], Heard]) -> None:
    """A heartbeat between any two frames changes nothing."""
    body = bytes_of([TextDelta("a"), ToolCall("c", "f", {}), STOP])
    assert client(body.replace(b"\n\n", b"\n\n: ping\n\n")) == client(body)


def told(events: list[Event]) -> tuple[str, dict[str, Json]]:
    text = "".join(event.text for event in events if type(event) is TextDelta)
    return text, {e.call_id: e.arguments for e in events if type(e) is ToolCall}


def failed(client: Callable[[bytes], Heard], body: bytes) -> bool:
    try:
        return bool(client(body).error)
    except Unreadable:
        return True


# The dialect


def test_it_keeps_silent_streams_alive() -> None:
    """The command line gives up after a minute without a byte."""
    assert DIALECTS["chatbase"] is CHATBASE is VARIANTS["current"]
    assert CHATBASE.heartbeat is not None
    assert CHATBASE.heartbeat < 60
    assert not CHATBASE.public


def test_a_variant_is_spoken_at_the_same_paths() -> None:
    """In the place of the other one, errors and requests about conversations included."""
    paths = Paths(Mounts().model_dump(), (CHATBASE_SEED,))
    root = "/chatbase/api/v2/agents/{agent}"

    assert paths.chats[f"{root}/chat"] is CHATBASE_SEED
    assert paths.roots[root] is CHATBASE_SEED
    assert paths.dialect_of("/chatbase/api/v2/agents/1/chat") is CHATBASE_SEED
    assert Paths(Mounts().model_dump()).chats[f"{root}/chat"] is CHATBASE
