"""The requests that the upstreams with conversations of their own are sent."""

import pytest

from gateway.core.codec import Target, UpstreamRequest
from gateway.core.conversation import Role
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json, Metadata, ToolCall
from gateway.core.turn import Message, Prompt, Reply
from gateway.upstreams import UPSTREAMS
from gateway.wire import json

STATEFUL = ("bookbag-v1", "bookbag-v2", "chatbase")
HOSTED = ("bookbag-v2", "chatbase")

INSTRUCTIONS = Message(Role.SYSTEM, "Be brief.")
HELLO = Message(Role.USER, "Hello")


def ask(kind: str, prompt: Prompt, target: Target) -> UpstreamRequest:
    request = UPSTREAMS[kind].request
    assert request is not None
    return request(target, prompt)


def body(kind: str, prompt: Prompt, *, agent: str = "123", model: str | None = None) -> Json:
    target = Target(upstream="hosted", agent=agent, model=model)
    return json.loads(ask(kind, prompt, target).body)


def test_which_kinds_keep_conversations() -> None:
    """Bookbag and Chatbase keep conversations; the others take the whole history."""
    assert {name for name, kind in UPSTREAMS.items() if kind.stateful} == set(STATEFUL)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bookbag-v1", {"agentId": 123, "message": "Hello"}),
        ("bookbag-v2", {"message": "Hello", "stream": True}),
        ("chatbase", {"message": "Hello", "stream": True}),
    ],
)
def test_first_message(kind: str, expected: Json) -> None:
    """A new conversation is the message alone: the agent has its own instructions."""
    assert body(kind, Prompt(messages=(INSTRUCTIONS, HELLO), stream=True)) == expected


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        ("bookbag-v1", "456", 456),
        ("bookbag-v2", "456", 456),
        ("bookbag-v2", "conv_9", "conv_9"),
        ("bookbag-v2", "9" * 5000, "9" * 5000),
        ("bookbag-v2", "²", "²"),
        ("chatbase", "456", "456"),
    ],
)
def test_conversation_ids(kind: str, said: str, expected: Json) -> None:
    """Bookbag wants its conversation ids as integers, Chatbase as strings."""
    prompt = Prompt(messages=(HELLO,), stream=True, conversation_id=said)

    assert json.mapping(body(kind, prompt))["conversationId"] == expected


@pytest.mark.parametrize("kind", HOSTED)
def test_user_and_whole_answer(kind: str) -> None:
    """The end user is named, and a whole answer is asked for where that is wanted."""
    prompt = Prompt(messages=(HELLO,), stream=False, user_id="user_1")

    assert body(kind, prompt) == {"message": "Hello", "stream": False, "userId": "user_1"}


@pytest.mark.parametrize("kind", HOSTED)
@pytest.mark.parametrize("user", ["ann@acme.com", "x" * 129, "\0", ""])
def test_users_that_they_do_not_take(kind: str, user: str) -> None:
    """They are not named: the message would be refused for it."""
    prompt = Prompt(messages=(HELLO,), stream=True, user_id=user)

    assert body(kind, prompt) == {"message": "Hello", "stream": True}


def test_v1_model() -> None:
    """v1 takes a model: the client's, or else the target's."""
    prompt = Prompt(messages=(HELLO,), stream=True)
    named = Prompt(messages=(HELLO,), stream=True, model="big")

    assert json.mapping(body("bookbag-v1", prompt, model="small"))["model"] == "small"
    assert json.mapping(body("bookbag-v1", named, model="small"))["model"] == "big"


def test_v1_agent_by_name() -> None:
    """An agent that is no number is named as it stands."""
    named = body("bookbag-v1", Prompt(messages=(HELLO,), stream=True), agent="support")

    assert json.mapping(named)["agentId"] == "support"


@pytest.mark.parametrize(
    ("kind", "agent", "path"),
    [
        ("bookbag-v1", "a/b", "/api/v1/chat"),
        ("bookbag-v2", "123", "/api/v2/agents/123/chat"),
        ("bookbag-v2", "a/../b?c#d e", "/api/v2/agents/a%2F..%2Fb%3Fc%23d%20e/chat"),
        ("chatbase", "5QHA6VB-DIAbBhxwqxfdi", "/api/v2/agents/5QHA6VB-DIAbBhxwqxfdi/chat"),
        ("chatbase", "é%", "/api/v2/agents/%C3%A9%25/chat"),
    ],
)
def test_paths(kind: str, agent: str, path: str) -> None:
    """An agent's name is one segment of the path, whatever is in it."""
    target = Target(upstream="hosted", agent=agent)

    assert ask(kind, Prompt(messages=(HELLO,), stream=True), target).path == path


@pytest.mark.parametrize("kind", STATEFUL)
def test_params(kind: str) -> None:
    """A target's params go along, and cannot change the message."""
    target = Target(upstream="h", agent="1", params={"timezone": "UTC", "message": "no"})

    asked = json.mapping(json.loads(ask(kind, Prompt(messages=(HELLO,), stream=True), target).body))

    assert asked["timezone"] == "UTC"
    assert asked["message"] == "Hello"


EARLIER = (
    INSTRUCTIONS,
    Message(Role.USER, "Where is my order?"),
    Message(Role.ASSISTANT, "", tool_calls=(ToolCall("call_1", "order_status", {}),)),
    Message(Role.TOOL, "shipped", call_id="call_1"),
    Message(Role.ASSISTANT, "It shipped."),
    Message(Role.USER, "When?\nReally."),
)


@pytest.mark.parametrize("kind", STATEFUL)
def test_earlier_turns_open_an_unknown_conversation(kind: str) -> None:
    """A conversation that the upstream does not know begins with what was said before."""
    asked = json.mapping(body(kind, Prompt(messages=EARLIER, stream=True)))

    assert asked["message"] == (
        "The conversation so far:\n"
        "user: Where is my order?\n"
        "tool order_status({}): shipped\n"
        "assistant: It shipped.\n"
        "\n"
        "When?\nReally."
    )


@pytest.mark.parametrize("kind", STATEFUL)
def test_a_known_conversation_takes_the_new_message_only(kind: str) -> None:
    """A conversation that the upstream knows is not told to it again."""
    asked = json.mapping(body(kind, Prompt(messages=EARLIER, stream=True, conversation_id="456")))

    assert asked["message"] == "When?\nReally."


# Tools and retries.

CALLED = (
    INSTRUCTIONS,
    Message(Role.USER, "Where are my orders?"),
    Message(
        Role.ASSISTANT,
        "Let me look.",
        tool_calls=(
            ToolCall("call_0", "order_status", {"order": 7}),
            ToolCall("call_1", "order_status", "order 8"),
        ),
    ),
    Message(Role.TOOL, '{"status":"shipped"}', call_id="call_0"),
    Message(Role.TOOL, "lost", call_id="call_1"),
)


@pytest.mark.parametrize("kind", HOSTED)
def test_a_known_conversation_goes_on_without_a_message(kind: str) -> None:
    """The results were handed in before: what is left is to ask for the rest of the answer."""
    target = Target(upstream="h", agent="1", params={"message": "no"})
    prompt = Prompt(messages=CALLED, stream=True, conversation_id="456")

    asked = json.mapping(json.loads(ask(kind, prompt, target).body))

    assert asked.keys() == {"conversationId", "stream"}


@pytest.mark.parametrize("kind", HOSTED)
def test_a_passed_conversation_goes_on_without_a_message(kind: str) -> None:
    """So it does where the gateway itself knows nothing of what was said."""
    asked = json.mapping(body(kind, Prompt(messages=(), stream=False, conversation_id="456")))

    assert asked.keys() == {"conversationId", "stream"}


@pytest.mark.parametrize("kind", STATEFUL)
def test_results_open_an_unknown_conversation(kind: str) -> None:
    """One that missed the turn is told of the tools in words; what they found comes last."""
    asked = json.mapping(body(kind, Prompt(messages=CALLED, stream=True)))

    assert asked["message"] == (
        "The conversation so far:\n"
        "user: Where are my orders?\n"
        "assistant: Let me look.\n"
        "\n"
        'tool order_status({"order":7}): {"status":"shipped"}\n'
        "tool order_status(order 8): lost"
    )


def test_ids_that_servers_use_again_are_told_apart() -> None:
    """A result belongs to the latest call of its id."""
    again = (
        Message(Role.ASSISTANT, "", tool_calls=(ToolCall("call_0", "refund", {}),)),
        Message(Role.TOOL, "done", call_id="call_0"),
    )
    asked = json.mapping(body("chatbase", Prompt(messages=(*CALLED, *again), stream=True)))

    assert json.text(asked["message"]).splitlines()[3:] == [
        'tool order_status({"order":7}): {"status":"shipped"}',
        "tool order_status(order 8): lost",
        "",
        "tool refund({}): done",
    ]


def test_a_result_without_its_call_is_told_all_the_same() -> None:
    """The call may have been trimmed away."""
    alone = Message(Role.TOOL, "shipped", call_id="call_9")
    asked = json.mapping(body("chatbase", Prompt(messages=(HELLO, alone), stream=True)))

    assert asked["message"] == "The conversation so far:\nuser: Hello\n\ntool: shipped"


def test_what_says_nothing_needs_no_heading() -> None:
    """An earlier message without text is not told of."""
    silent = Message(Role.ASSISTANT, "")
    asked = json.mapping(body("chatbase", Prompt(messages=(silent, HELLO), stream=True)))

    assert asked["message"] == "Hello"


@pytest.mark.parametrize(
    ("kind", "conversation", "path"),
    [
        ("bookbag-v2", "456", "/api/v2/agents/1/conversations/456/retry"),
        ("chatbase", "conv/1", "/api/v2/agents/1/conversations/conv%2F1/retry"),
    ],
)
def test_retry(kind: str, conversation: str, path: str) -> None:
    """An answer that the upstream knows is asked for anew by its own id of it."""
    target = Target(upstream="h", agent="1", params={"timezone": "UTC", "messageId": "no"})
    prompt = Prompt(
        messages=(HELLO,),
        stream=False,
        user_id="u",
        conversation_id=conversation,
        retry_of="msg_9",
    )

    asked = ask(kind, prompt, target)

    assert (asked.method, asked.path) == ("POST", path)
    assert json.loads(asked.body) == {"messageId": "msg_9", "stream": False, "timezone": "UTC"}


@pytest.mark.parametrize("messages", [(HELLO,), CALLED])
@pytest.mark.parametrize("retry_of", ["msg_9", None])
def test_v1_is_told_again_what_it_cannot_be_asked(
    messages: tuple[Message, ...], retry_of: str | None
) -> None:
    """v1 has no retry and no tools: such a turn opens a conversation of its own, in words."""
    prompt = Prompt(messages=messages, stream=True, conversation_id="456", retry_of=retry_of)
    known = messages == (HELLO,) and retry_of is None

    asked = json.mapping(body("bookbag-v1", prompt))

    assert asked.get("conversationId") == (456 if known else None)
    assert json.text(asked["message"]).startswith("Hello" if len(messages) == 1 else "The conv")


@pytest.mark.parametrize("kind", HOSTED)
@pytest.mark.parametrize("output", [None, "shipped", {"status": ["shipped"]}, 0, False])
def test_results(kind: str, output: Json) -> None:
    """A tool's result goes to the conversation's own path, with whatever it is."""
    result = UPSTREAMS[kind].result
    assert result is not None

    asked = result(Target(upstream="h", agent="a/b"), "4/5", "call_0", output)

    assert (asked.method, asked.path) == (
        "POST",
        "/api/v2/agents/a%2Fb/conversations/4%2F5/tool-result",
    )
    assert json.loads(asked.body) == {"toolCallId": "call_0", "output": output}


def test_who_takes_results_and_requests() -> None:
    """Those with endpoints for it; v1 only chats."""
    assert {name for name, kind in UPSTREAMS.items() if kind.result} == set(HOSTED)
    assert {name for name, kind in UPSTREAMS.items() if kind.passage} == set(HOSTED)


def pass_on(tail: str, method: str = "GET", data: bytes = b"") -> UpstreamRequest:
    passage = UPSTREAMS["chatbase"].passage
    assert passage is not None
    return passage(Target(upstream="h", agent="theirs"), method, tail, data)


@pytest.mark.parametrize(
    ("tail", "path"),
    [
        ("/conversations?limit=3&cursor=a%2Bb", "conversations?limit=3&cursor=a%2Bb"),
        ("conversations/export", "conversations/export"),
        ("/conversations/%E2%82%AC/messages", "conversations/%E2%82%AC/messages"),
        ("/conversations/€ 1\r\nX: y", "conversations/%E2%82%AC%201%0D%0AX:%20y"),
        ("/users/a..b?x=../..", "users/a..b?x=../.."),
        ("/users/a#b?c#d\ud800", "users/a%23b?c%23d?"),
    ],
)
def test_passage(tail: str, path: str) -> None:
    """A client's request goes to the same place of the target's agent, and is one line whatever is
    in it."""
    assert pass_on(tail).path == f"/api/v2/agents/theirs/{path}"


def test_passage_of_a_body() -> None:
    """Method and body are the client's."""
    asked = pass_on("/conversations/4/messages/5/feedback", "PATCH", b'{"feedback":null}')

    assert (asked.method, asked.body) == ("PATCH", b'{"feedback":null}')


@pytest.mark.parametrize(
    "tail",
    [
        "/..",
        "/../78/conversations",
        "/conversations/./5",
        "/conversations/%2e%2E/x",
        "/conversations/..%2F..%2F78",
        "/conversations/..\\..",
        "/conversations/..?a=b",
        "/conversations/..;/messages",
        "/conversations/..;a=b%2F..%3B%2F78",
        "/conversations/%252e%252e%252f78",
        "/conversations/%25252e%25252e",
    ],
)
def test_no_passage_out_of_the_agent(tail: str) -> None:
    """A path with dots would reach what the key is not for, with the gateway's own credential."""
    with pytest.raises(GatewayError) as raised:
        pass_on(tail)

    assert raised.value.code is ErrorCode.PATH_NOT_FOUND


@pytest.mark.parametrize("conversation", ["..", ".", "../../78", "a\\..\\b"])
def test_no_conversation_is_a_way_out_either(conversation: str) -> None:
    """Its id may be a client's own."""
    prompt = Prompt(messages=(), stream=True, conversation_id=conversation, retry_of="msg_1")
    with pytest.raises(GatewayError) as raised:
        body("chatbase", prompt)

    assert raised.value.code is ErrorCode.CONVERSATION_NOT_FOUND


# What names the answer, so that it can be asked for anew.

NAMED: dict[str, tuple[str, list[Json]]] = {
    "v1": (
        "bookbag-v1",
        [{"type": "done", "conversationId": 4, "messageId": "msg_9"}],
    ),
    "v2": (
        "bookbag-v2",
        [{"type": "finish", "metadata": {"conversationId": "4", "messageId": "msg_9"}}],
    ),
    "v2 whole": (
        "bookbag-v2",
        [{"data": {"id": "msg_9", "parts": [], "metadata": {"conversationId": "4"}}}],
    ),
    "A": (
        "chatbase",
        [
            {"type": "start", "messageId": "msg_9"},
            {"type": "finish", "metadata": {"conversationId": "4"}},
        ],
    ),
    "B": (
        "chatbase",
        [
            {"type": "message-start", "messageId": "msg_9"},
            {"type": "finish"},
            {"type": "message-metadata", "conversationId": "4"},
        ],
    ),
    "C": (
        "chatbase",
        [{"type": "finish", "messageMetadata": {"conversationId": "4", "messageId": "msg_9"}}],
    ),
    "flat": ("chatbase", [{"messageId": "msg_9", "conversationId": "4"}]),
}


@pytest.mark.parametrize("form", NAMED)
def test_answers_keep_their_names(form: str) -> None:
    """In every form that an upstream's answer has, its own ids are found."""
    kind, said = NAMED[form]
    decoder = UPSTREAMS[kind].decoder(Target(upstream="h"))
    whole = form in ("v2 whole", "flat")
    data = json.dumps(said[0]) if whole else b"".join(map(_frame, said))

    reply = Reply()
    reply.extend([*decoder.feed(data), *decoder.eof()])

    assert reply.metadata == Metadata(conversation_id="4", message_id="msg_9")


def _frame(said: Json) -> bytes:
    return b"data: " + json.dumps(said) + b"\n\n"
