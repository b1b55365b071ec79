"""Sonzai as an upstream: what it is asked, its pieces and its errors. Its streams are in
`golden/sonzai/`."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.codec import Target, UpstreamRequest
from gateway.core.conversation import Role
from gateway.core.errors import ErrorCode
from gateway.core.events import Event, Failure, Finish, FinishReason, Json, TextDelta, ToolCall
from gateway.core.turn import Message, Prompt, Tool
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.refusals import MESSAGES
from gateway.upstreams.sonzai import SONZAI
from gateway.upstreams.sonzai_pieces import MAX_PIECES
from gateway.upstreams.tool_calls import MAX_CALLS
from gateway.wire import json
from gateway.wire.sse import frame
from tests.golden_cases import cut, decoded
from tests.test_golden import assert_well_formed

HELLO = Message(Role.USER, "Hello")
DONE = b"data: [DONE]\n\n"
STOP: Json = {"choices": [{"delta": {}, "finish_reason": "stop", "index": 0}]}

# Words that the reader knows, so that what is made of them reaches its depths.
KEYS = (
    "type choices delta index content finish_reason data side_effects error message code tool "
    "phase message_index full_content external_tool_calls externalToolCalls id name parameters "
    "arguments usage promptTokens prompt_tokens __chunk total error_message error_code"
)
WORDS = "context_ready message_boundary phase side_effects stop error tool_calls {} {"


def request(prompt: Prompt, target: Target | None = None) -> UpstreamRequest:
    assert SONZAI.request is not None
    return SONZAI.request(target or Target(upstream="s", agent="luna"), prompt)


def body(prompt: Prompt, target: Target | None = None) -> dict[str, Json]:
    return json.mapping(json.loads(request(prompt, target).body))


def messages(*said: Message) -> Json:
    return body(Prompt(messages=said, stream=True))["messages"]


def delta(text: str) -> Json:
    return {"choices": [{"delta": {"content": text}, "index": 0}]}


def sse(*data: Json) -> bytes:
    return b"".join(frame(json.dumps(value)) for value in data) + DONE


def events(*data: Json, max_event: int = 1 << 20) -> list[Event]:
    decoder = SONZAI.decoder(Target(upstream="s", max_event=max_event))
    return decoded(decoder, [sse(*data)])


def pieces(whole: bytes, count: int) -> list[Json]:
    """A chunk cut as a producer cuts it."""
    text = whole.decode()
    size = -(-len(text) // count)
    return [
        {
            "__chunk": {"index": index, "total": count},
            "data": text[index * size : (index + 1) * size],
        }
        for index in range(count)
    ]


# Requests


def test_the_least_request() -> None:
    """The agent is in the path, as one segment; there is no flag for a stream."""
    asked = request(Prompt(messages=(HELLO,), stream=True), Target(upstream="s", agent="Ann/Luna"))

    assert (asked.method, asked.path) == ("POST", "/api/v1/agents/Ann%2FLuna/chat")
    assert json.loads(asked.body) == {"messages": [{"role": "user", "content": "Hello"}]}
    assert request(Prompt(messages=(HELLO,), stream=False)).body == asked.body


@pytest.mark.parametrize("agent", [".", "..", "..."])
def test_an_agent_of_dots(agent: str) -> None:
    """A name of dots leads to no other path."""
    asked = request(Prompt(messages=(HELLO,), stream=True), Target(upstream="s", agent=agent))

    assert asked.path == f"/api/v1/agents/{'%2E' * len(agent)}/chat"


def test_everything() -> None:
    """User, session, model, tools and temperature are told in Sonzai's words."""
    prompt = Prompt(
        messages=(HELLO,),
        stream=True,
        user_id="u",
        session_id="s",
        model="big",
        tools=(Tool("look_up", "Looks up.", {"type": "object"}),),
        params={"temperature": 0, "response_format": {"type": "json_object"}, "max_tokens": 5},
    )

    assert body(prompt) == {
        "messages": [{"role": "user", "content": "Hello"}],
        "user_id": "u",
        "session_id": "s",
        "model": "big",
        "tool_definitions": [
            {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object"}}
        ],
        "temperature": 0,
    }


def test_an_openai_clients_user() -> None:
    """One whose name is no id here is named too, unless the key says who it is: what Sonzai
    remembers of one user is not for the next."""
    params: dict[str, Json] = {"user": "ann@acme.com"}
    prompt = Prompt(messages=(HELLO,), stream=True, params=params)

    assert json.mapping(body(prompt))["user_id"] == "ann@acme.com"
    assert json.mapping(body(replace(prompt, user_id="bob")))["user_id"] == "bob"


def test_the_targets_own() -> None:
    """A target's params hold against the client's, and cannot say what the gateway says."""
    target = Target(
        upstream="s",
        agent="luna",
        model="small",
        params={"temperature": 1, "language": "en", "messages": [], "session_id": "x"},
    )
    asked = body(Prompt(messages=(HELLO,), stream=True, params={"temperature": 0}), target)

    assert asked == {
        "messages": [{"role": "user", "content": "Hello"}],
        "model": "small",
        "temperature": 1,
        "language": "en",
    }


def test_roles() -> None:
    """Instructions and earlier turns keep their roles."""
    assert messages(
        Message(Role.SYSTEM, "Be brief."), HELLO, Message(Role.ASSISTANT, "Hi"), HELLO
    ) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Hello"},
    ]


def test_a_round_of_tools_in_words() -> None:
    """Tools have no role here: results are told by the user, each with its call."""
    calls = (ToolCall("a", "look_up", {"n": 1}), ToolCall("b", "ping", {}))

    assert messages(
        HELLO,
        Message(Role.ASSISTANT, "", calls),
        Message(Role.TOOL, "shipped", call_id="a"),
        Message(Role.TOOL, "pong", call_id="b"),
    ) == [
        {"role": "user", "content": "Hello"},
        {"role": "user", "content": 'tool look_up({"n":1}): shipped\ntool ping({}): pong'},
    ]


# Pieces


def test_pieces_in_any_order() -> None:
    """A chunk in pieces is whole again, in whatever order they come."""
    cut_up = pieces(json.dumps(delta("注文は \u2028🚀")), 3)

    for order in permutations(cut_up):
        assert events(*order, STOP) == [TextDelta("注文は \u2028🚀"), Finish(FinishReason.STOP)]


def test_one_chunk_after_another() -> None:
    """Several chunks may come in pieces, one after the other."""
    first, second = (pieces(json.dumps(delta(text)), 4) for text in ("one ", "two"))

    assert events(*first, *second, STOP)[:2] == [TextDelta("one "), TextDelta("two")]


def test_a_chunk_that_was_given_up() -> None:
    """A chunk that is begun again, or followed by another, was given up: what it had is lost."""
    first, second = (pieces(json.dumps(delta(text)), 4) for text in ("one", "two"))
    other = pieces(json.dumps(delta("three")), 5)

    assert events(*first[:3], *second, STOP)[0] == TextDelta("two")
    assert events(*first[:3], *other, STOP)[0] == TextDelta("three")


def test_a_large_chunk_in_pieces() -> None:
    """Together the pieces may be as large as an event may be, and not larger."""
    whole = json.dumps(delta("x" * 900))
    cut_up = pieces(whole, 6)

    assert events(*cut_up, STOP, max_event=len(whole))[0] == TextDelta("x" * 900)
    [failure] = events(*cut_up, STOP, max_event=len(whole) - 1)
    oversized = ErrorCode.UPSTREAM_OVERSIZED
    assert failure == Failure(oversized, MESSAGES[oversized])


def test_empty_pieces_are_bounded() -> None:
    """A chunk of very many pieces is refused with the first: empty ones take room too."""
    first: Json = {"__chunk": {"index": 0, "total": MAX_PIECES + 1}, "data": ""}

    [failure] = events(first)
    assert isinstance(failure, Failure)
    assert failure.code is ErrorCode.UPSTREAM_OVERSIZED


@pytest.mark.parametrize(
    "piece",
    [
        {"__chunk": None, "data": "{}"},
        {"__chunk": {"index": 0}, "data": "{}"},
        {"__chunk": {"index": -1, "total": 1}, "data": "{}"},
        {"__chunk": {"index": 1, "total": 1}, "data": "{}"},
        {"__chunk": {"index": 0, "total": 1}, "data": {}},
        {"__chunk": {"index": 0, "total": 1}, "data": "[]"},
        {"__chunk": {"index": 0, "total": 1}, "data": "{"},
    ],
)
def test_no_pieces(piece: Json) -> None:
    """What is no piece, or makes no chunk, cannot be read."""
    [failure] = events(piece, STOP)

    assert isinstance(failure, Failure)
    assert failure.code is ErrorCode.UPSTREAM_MALFORMED


# Streams


def test_an_error_beside_text() -> None:
    """A finish for an error fails the turn, whatever is said with it."""
    choice: Json = {"delta": {"content": "Hel"}, "index": 0, "finish_reason": "error"}
    *said, last = events({"choices": [choice]})

    assert said == [TextDelta("Hel")]
    assert last == Failure(ErrorCode.UPSTREAM_FAILED, MESSAGES[ErrorCode.UPSTREAM_FAILED])


def test_the_whole_text_twice() -> None:
    """Whoever says all of it with two chunks has said it once."""
    whole: Json = {"full_content": "Hello", "finish_reason": "stop"}

    assert events(whole, whole) == [TextDelta("Hello"), Finish(FinishReason.STOP)]


def test_calls_are_bounded() -> None:
    """An upstream that calls tools without end is cut off."""
    calls: list[Json] = [{"id": str(n), "name": "ping"} for n in range(MAX_CALLS + 1)]
    *called, failure = events({"external_tool_calls": calls}, STOP)

    assert len(called) == MAX_CALLS
    assert isinstance(failure, Failure)
    assert failure.code is ErrorCode.UPSTREAM_OVERSIZED


leaves = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(WORDS.split())
values: st.SearchStrategy[Json] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)
chunks = st.dictionaries(st.sampled_from(KEYS.split()), values, max_size=5)


@settings(max_examples=300, deadline=None)
@given(said=st.lists(chunks, max_size=6), where=st.lists(st.integers(0, 300), max_size=4))
def test_known_words_of_any_type(said: list[Json], where: list[int]) -> None:
    """Whatever the type of what it knows, the reader does not raise, and ends the turn once."""
    body = sse(*said)
    read = decoded(SONZAI.decoder(Target(upstream="s")), cut(body, where))

    assert_well_formed(read)
    assert read == events(*said)


# Errors


@pytest.mark.parametrize(
    ("status", "document", "code", "message"),
    [
        (400, {"title": "Bad Request", "detail": "foo is\nmissing"}, "rejected", "foo is missing"),
        (400, {"detail": "no", "message": "too long"}, "rejected", "too long"),
        (400, {"error": "bad role"}, "rejected", "bad role"),
        (400, {"detail": 7}, "rejected", None),
        (400, [], "rejected", None),
        (422, {"detail": "gpu-17"}, "rejected", None),
        (401, {"detail": "key sk_1 is unknown"}, "refused", None),
        (402, {"detail": "acme-prod is broke"}, "credits", None),
        (404, {"detail": "no agent luna"}, "failed", None),
        (429, {"detail": "slow down"}, "rate_limited", None),
        (503, {"detail": "gpu-17"}, "failed", None),
    ],
)
def test_problems(status: int, document: Json, code: str, message: str | None) -> None:
    """Of a problem document, what a 400 says was wrong may pass, and nothing else."""
    assert SONZAI.error is not None
    error = SONZAI.error(status, {"retry-after": "7"}, json.dumps(document))

    assert error.code == f"upstream_{code}"
    assert error.message == (message or MESSAGES[error.code])
    assert error.retry_after == (7 if status in (429, 503) else None)


def test_an_error_that_is_no_json() -> None:
    """A page of a server in between says nothing but its status."""
    assert SONZAI.error is not None
    error = SONZAI.error(502, {}, b"<html>")

    assert (error.code, error.message) == (ErrorCode.UPSTREAM_FAILED, "the upstream failed")


def test_registered() -> None:
    """The kind is known; it is told the whole conversation every time."""
    assert UPSTREAMS["sonzai"] is SONZAI
    assert not SONZAI.stateful
