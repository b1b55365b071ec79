"""The requests that the upstreams with conversations of their own are sent."""

import pytest

from gateway.core.codec import Target, UpstreamRequest
from gateway.core.conversation import Role
from gateway.core.events import Json, ToolCall
from gateway.core.turn import Message, Prompt
from gateway.upstreams import UPSTREAMS
from gateway.wire import json

STATEFUL = ("bookbag-v1", "bookbag-v2", "chatbase")

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


@pytest.mark.parametrize("kind", ["bookbag-v2", "chatbase"])
def test_user_and_whole_answer(kind: str) -> None:
    """The end user is named, and a whole answer is asked for where that is wanted."""
    prompt = Prompt(messages=(HELLO,), stream=False, user_id="user_1")

    assert body(kind, prompt) == {"message": "Hello", "stream": False, "userId": "user_1"}


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
        "tool: shipped\n"
        "assistant: It shipped.\n"
        "\n"
        "When?\nReally."
    )


@pytest.mark.parametrize("kind", STATEFUL)
def test_a_known_conversation_takes_the_new_message_only(kind: str) -> None:
    """A conversation that the upstream knows is not told to it again."""
    asked = json.mapping(body(kind, Prompt(messages=EARLIER, stream=True, conversation_id="456")))

    assert asked["message"] == "When?\nReally."
