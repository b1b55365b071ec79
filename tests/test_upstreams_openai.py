"""The requests that OpenAI-compatible upstreams are sent."""

import pytest

from gateway.core.codec import Target
from gateway.core.conversation import Role
from gateway.core.events import Json, ToolCall
from gateway.core.turn import Message, Prompt, Tool
from gateway.upstreams import UPSTREAMS
from gateway.wire import json

HELLO = Message(Role.USER, "Hello")


def body(prompt: Prompt, *, model: str | None = None) -> dict[str, Json]:
    request = UPSTREAMS["openai"].request
    assert request is not None
    asked = request(Target(upstream="llm", model=model), prompt)
    assert asked.path == "/chat/completions"
    return json.mapping(json.loads(asked.body))


def test_streamed_request() -> None:
    """A streamed request asks for the usage, which comes in no other way."""
    prompt = Prompt(messages=(Message(Role.SYSTEM, "Be brief."), HELLO), stream=True)

    assert body(prompt, model="gpt-4o-mini") == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_whole_request() -> None:
    """A request for a whole answer has no options of streams, which some servers refuse."""
    asked = body(Prompt(messages=(HELLO,), stream=False), model="m")

    assert asked["stream"] is False
    assert "stream_options" not in asked


def test_the_clients_model_wins() -> None:
    """A model that the client may name takes the place of the target's."""
    assert (
        body(Prompt(messages=(HELLO,), stream=True, model="big"), model="small")["model"] == "big"
    )


def test_params_stand_beside_what_the_gateway_says() -> None:
    """A target's params go along, and cannot change what the gateway itself decides."""
    request = UPSTREAMS["openai"].request
    assert request is not None
    target = Target(upstream="llm", model="m", params={"temperature": 0.2, "stream": False})

    asked = json.mapping(json.loads(request(target, Prompt(messages=(HELLO,), stream=True)).body))

    assert asked["temperature"] == 0.2
    assert asked["stream"] is True


def test_user_and_tools() -> None:
    """The end user and the tools are passed on in OpenAI's words."""
    tool = Tool("order_status", "Look an order up.", {"type": "object"})

    asked = body(Prompt(messages=(HELLO,), stream=True, tools=(tool,), user_id="user_1"))

    assert asked["user"] == "user_1"
    assert asked["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "order_status",
                "description": "Look an order up.",
                "parameters": {"type": "object"},
            },
        }
    ]


def test_tool_calls_and_their_results_go_back() -> None:
    """A call goes back as it came: its arguments as text, and what the upstream wants echoed."""
    calls = (
        ToolCall("call_1", "order_status", {"order": 1}, echo={"google": {"sig": "x"}}),
        ToolCall("call_2", "run", "not JSON"),
    )
    messages = (
        HELLO,
        Message(Role.ASSISTANT, "", tool_calls=calls),
        Message(Role.TOOL, "shipped", call_id="call_1"),
        Message(Role.TOOL, "done", call_id="call_2"),
    )

    assert body(Prompt(messages=messages, stream=True))["messages"] == [
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "order_status", "arguments": '{"order":1}'},
                    "extra_content": {"google": {"sig": "x"}},
                },
                {
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "run", "arguments": "not JSON"},
                },
            ],
        },
        {"role": "tool", "content": "shipped", "tool_call_id": "call_1"},
        {"role": "tool", "content": "done", "tool_call_id": "call_2"},
    ]


def test_a_call_without_an_answer_is_left_out() -> None:
    """Servers refuse a history with a call that nobody answered, and so would every later turn."""
    messages = (
        HELLO,
        Message(Role.ASSISTANT, "One moment.", tool_calls=(ToolCall("call_1", "run", {}),)),
        HELLO,
    )

    assert body(Prompt(messages=messages, stream=True))["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "One moment."},
        {"role": "user", "content": "Hello"},
    ]


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_answer_that_says_nothing_is_left_out(text: str) -> None:
    """Many servers refuse one: after a call that nobody answered, and after no text at all."""
    calls = (ToolCall("call_1", "run", {}),)
    messages = (
        HELLO,
        Message(Role.ASSISTANT, text, tool_calls=calls),
        HELLO,
        Message(Role.ASSISTANT, text),
        Message(Role.USER, ""),
    )

    assert body(Prompt(messages=messages, stream=True))["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "user", "content": "Hello"},
        {"role": "user", "content": ""},
    ]


def test_ids_used_again_belong_to_the_round_they_are_in() -> None:
    """Ollama calls the first call of every answer alike. One that was never answered is left out,
    although another of its name was."""
    messages = (
        HELLO,
        Message(Role.ASSISTANT, "", tool_calls=(ToolCall("call_0", "run", {"n": 1}),)),
        Message(Role.TOOL, "one", call_id="call_0"),
        Message(Role.ASSISTANT, "", tool_calls=(ToolCall("call_0", "run", {"n": 2}),)),
        Message(Role.TOOL, "two", call_id="call_0"),
        Message(Role.ASSISTANT, "Hm", tool_calls=(ToolCall("call_0", "run", {"n": 3}),)),
        HELLO,
    )

    said = [
        json.mapping(m)
        for m in json.array(body(Prompt(messages=messages, stream=True))["messages"])
    ]

    assert [message["role"] for message in said] == (
        ["user", "assistant", "tool", "assistant", "tool", "assistant", "user"]
    )
    assert [m["content"] for m in said] == ["Hello", None, "one", None, "two", "Hm", "Hello"]
    assert "tool_calls" not in said[5]


def test_a_result_without_its_call_is_left_out() -> None:
    """Servers refuse a tool's message that answers nothing in the message before."""
    messages = (
        HELLO,
        Message(Role.ASSISTANT, "Hm", tool_calls=(ToolCall("call_1", "run", {}),)),
        HELLO,
        Message(Role.TOOL, "late", call_id="call_1"),
        Message(Role.TOOL, "nobody's", call_id="call_2"),
    )

    said = json.array(body(Prompt(messages=messages, stream=True))["messages"])

    assert [json.mapping(message)["content"] for message in said] == ["Hello", "Hm", "Hello"]


def test_how_tools_are_chosen() -> None:
    """What a target says of tools beside the tools themselves goes along."""
    request = UPSTREAMS["openai"].request
    assert request is not None
    params: dict[str, Json] = {"tool_choice": "required", "parallel_tool_calls": False}
    tool = Tool("run", "Run it.", {})
    prompt = Prompt(messages=(HELLO,), stream=True, tools=(tool,))

    asked = json.loads(request(Target(upstream="llm", params=params), prompt).body)

    assert params.items() <= json.mapping(asked).items()
