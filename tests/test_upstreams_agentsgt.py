"""What AgentsGT is asked, and how the form of its answer is told."""

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from gateway.core.codec import Target, UpstreamRequest
from gateway.core.conversation import Role
from gateway.core.errors import ErrorCode
from gateway.core.events import Event, Failure, Finish, FinishReason, Json, TextDelta, ToolCall
from gateway.core.turn import Message, Prompt
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.refusals import MESSAGES
from gateway.wire import json
from tests.golden_cases import decoded

KIND = UPSTREAMS["agentsgt"]
HELLO = Message(Role.USER, "Hello")


def ask(
    prompt: Prompt, agent: str = "a1", params: Mapping[str, Json] | None = None
) -> UpstreamRequest:
    assert KIND.request is not None
    return KIND.request(Target(upstream="x", agent=agent, params=params or {}), prompt)


def asked(*messages: Message) -> Json:
    """The messages that it is sent."""
    body = json.loads(ask(Prompt(messages=messages, stream=True)).body)
    return json.mapping(body)["messages"]


def test_the_request() -> None:
    """The whole conversation, with the agent in the path and the user in a header."""
    said = (Message(Role.SYSTEM, "Be brief."), HELLO, Message(Role.ASSISTANT, "Hi."), HELLO)
    request = ask(Prompt(messages=said, stream=True, user_id="u1"), "550e-1")

    assert (request.method, request.path) == ("POST", "/api/v1/agents/chat/550e-1")
    assert request.headers == {"X-Agent-Identifier": "u1"}
    assert json.loads(request.body) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "Hello"},
        ]
    }


def test_a_whole_answer_is_asked_for_in_the_same_way() -> None:
    """It knows only streams."""
    streamed, whole = (ask(Prompt(messages=(HELLO,), stream=stream)) for stream in (True, False))

    assert streamed == whole
    assert whole.headers == {}


def test_an_agent_is_one_segment_of_the_path() -> None:
    """Whatever its name holds."""
    path = ask(Prompt(messages=(HELLO,), stream=True), "a/../b?c").path

    assert path == "/api/v1/agents/chat/a%2F..%2Fb%3Fc"


def test_params() -> None:
    """The target's go along, and cannot change the messages; a client's own are for models."""
    prompt = Prompt(messages=(HELLO,), stream=True, params={"temperature": 0.1})
    body = json.mapping(json.loads(ask(prompt, params={"locale": "fr", "messages": []}).body))

    assert body.keys() == {"locale", "messages"}
    assert body["messages"] == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        ("user@acme.com", "user@acme.com"),
        ("Ann Lee", "Ann Lee"),
        (" a", "%20a"),
        ("a\r\nX-Admin: 1", "a%0D%0AX-Admin%3A%201"),
        ("Zoë", "Zo%C3%AB"),
        ("\ud800", "%3F"),
        (None, None),
        ("", None),
    ],
)
def test_users(user: str | None, sent: str | None) -> None:
    """A user is named as they are, or with percent signs where no header could hold the name."""
    request = ask(Prompt(messages=(HELLO,), stream=True, user_id=user))

    assert request.headers.get("X-Agent-Identifier") == sent


def test_an_openai_clients_user() -> None:
    """One whose name is no id here is named too, unless the key says who it is."""
    params: dict[str, Json] = {"user": "ann@acme.com"}
    prompt = Prompt(messages=(HELLO,), stream=True, params=params)

    assert ask(prompt).headers == {"X-Agent-Identifier": "ann@acme.com"}
    assert ask(replace(prompt, user_id="bob")).headers == {"X-Agent-Identifier": "bob"}


def test_tools_are_told_in_words() -> None:
    """Messages are text alone: results are the user's to tell, those of one round together."""
    calls = (ToolCall("c1", "status", {"order": 7}), ToolCall("c2", "status", {"order": 8}))
    results = (Message(Role.TOOL, "shipped", call_id="c1"), Message(Role.TOOL, "x", call_id="c2"))

    silent = asked(HELLO, Message(Role.ASSISTANT, "", tool_calls=calls), *results)
    spoken = asked(
        HELLO,
        Message(Role.ASSISTANT, "Let me look.", tool_calls=calls),
        *results,
        Message(Role.ASSISTANT, "It shipped."),
        HELLO,
        Message(Role.TOOL, "alone"),
    )

    told = {
        "role": "user",
        "content": 'tool status({"order":7}): shipped\ntool status({"order":8}): x',
    }
    hello = {"role": "user", "content": "Hello"}
    assert silent == [hello, told]
    assert spoken == [
        hello,
        {"role": "assistant", "content": "Let me look."},
        told,
        {"role": "assistant", "content": "It shipped."},
        hello,
        {"role": "user", "content": "tool: alone"},
    ]


# Which form an answer has.


def said(data: bytes) -> tuple[str, Event]:
    """Its text and its end, which are the same byte by byte."""
    events = decoded(KIND.decoder(Target(upstream="x")), [data])
    single = [data[i : i + 1] for i in range(len(data))]
    again = decoded(KIND.decoder(Target(upstream="x")), single)
    assert _text(again) == _text(events)
    assert again[-1] == events[-1]
    return _text(events), events[-1]


def _text(events: list[Event]) -> str:
    return "".join(event.text for event in events if type(event) is TextDelta)


OTHER = Finish(FinishReason.OTHER)
DONE = b'data: {"type":"text-delta","id":"1","delta":"Hi"}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b": ping\n\n",
        b":\n",
        b"id: 7\n",
        b"retry: 10\n",
        b"event: x\n",
        b"\xef\xbb\xbf",
        b"\n ",
    ],
)
def test_events(before: bytes) -> None:
    """A field of Server-Sent Events, or a comment, begins a stream of them."""
    assert said(before + DONE) == ("Hi", OTHER)


@pytest.mark.parametrize("first", ["0:", '3:"', "f:{}", "8:[]", "2:[1]", 'g:"x"', "b:{}", "j:{}"])
@pytest.mark.parametrize("before", ["", "\n", "\ufeff", " \r\n"])
def test_lines(first: str, before: str) -> None:
    """A code and the JSON that it takes begin an older stream."""
    data = f'{before}{first}\n0:"Hi"\nd:{{"finishReason":"stop"}}\n'.encode()
    text, end = said(data)

    if first == "0:":  # with no text that could be one
        assert (text, end) == (data.decode().strip("\ufeff \r\n") + "\n", OTHER)
    elif first == '3:"':
        assert (text, type(end)) == ("", Failure)
    else:
        assert (text, end) == ("Hi", Finish(FinishReason.STOP))


@pytest.mark.parametrize(
    "text",
    [
        *("3", "a", "d", "data", "i", "0:", "a: yes", "1:30 pm", "idle", "retry", "{", "{}", "<"),
        *("<b>!</b>", "[1] is it", "Data: none", "event horizon", "！", "\ufffe", "l:{}", "1:{}"),
        "\ufeff",
    ],
)
def test_text(text: str) -> None:
    """Whatever begins with neither is text, however short it is; a mark alone is none."""
    expected = text.strip("\ufeff")

    assert said(text.encode())[0] == expected
    assert isinstance(said(text.encode())[1], Finish if expected else Failure)


@pytest.mark.parametrize(
    ("data", "text", "done"),
    [
        (b"", "", False),
        (b"3", "", False),
        (b"dat", "", False),
        (b"We are", "We are", False),
        (b'0:"We"\n', "We", False),
        (b'0:"We"\nd:{}\n', "We", True),
        (DONE, "Hi", True),
        (DONE[:-14], "Hi", False),
    ],
)
def test_a_body_that_broke_off(data: bytes, text: str, done: bool) -> None:
    """It is done if the upstream said so; of a text only a proper end of the body does."""
    decoder = KIND.decoder(Target(upstream="x"))
    events = [*decoder.feed(data), *decoder.lost()]

    assert _text(events) == text
    assert isinstance(events[-1], Finish if done else Failure)
    assert decoder.lost() == decoder.eof() == []


def test_text_is_not_held_back() -> None:
    """The first read that can be nothing else is said at once."""
    decoder = KIND.decoder(Target(upstream="x"))

    assert decoder.feed(b"d") == []
    assert decoder.feed(b"a") == []
    assert decoder.feed(b"y") == [TextDelta("day")]
    assert decoder.feed(b":") == [TextDelta(":")]


def test_blanks_are_not_kept() -> None:
    """An upstream may send as many as it likes before its first word."""
    decoder = KIND.decoder(Target(upstream="x"))
    for _ in range(1000):
        assert decoder.feed(b" \n" * 1000) == []

    assert decoder.feed(b"Hi") == [TextDelta("Hi")]


def test_the_targets_bound_holds_for_each_form() -> None:
    """No event is larger than the target allows."""
    for data in (b"data: " + b"x" * 100, b'0:"' + b"x" * 100):
        events = decoded(KIND.decoder(Target(upstream="x", max_event=50)), [data])
        (failure,) = events
        assert isinstance(failure, Failure)
        assert failure.code is ErrorCode.UPSTREAM_OVERSIZED


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, b"Bad org-123", ErrorCode.UPSTREAM_REJECTED),
        (401, b"Unauthorized", ErrorCode.UPSTREAM_REFUSED),
        (402, b"No credits remaining", ErrorCode.UPSTREAM_CREDITS),
        (404, b"Agent not found", ErrorCode.UPSTREAM_FAILED),
        (500, b"Internal server error", ErrorCode.UPSTREAM_FAILED),
    ],
)
def test_errors_are_text(status: int, body: bytes, code: ErrorCode) -> None:
    """Their status says all; their words stay with us."""
    assert KIND.error is not None
    error = KIND.error(status, {}, body)

    assert (error.code, error.message) == (code, MESSAGES[code])
