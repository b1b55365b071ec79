"""The echo: what it says to what it is told."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.codec import Pause, Target
from gateway.core.conversation import Role
from gateway.core.events import Event, Finish, FinishReason, TextDelta, ToolCall
from gateway.core.turn import Message, Prompt
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.echo import PAUSE
from gateway.wire import json
from tests.conftest import Golden
from tests.golden_cases import GOLDEN, decoded

ECHO = UPSTREAMS["echo"]
TARGET = Target(upstream="echo")


def played(message: Message, *, stream: bool = True) -> list[bytes | Pause]:
    prompt = Prompt(messages=(Message(Role.SYSTEM, "Be brief."), message), stream=stream)
    assert ECHO.script is not None
    return list(ECHO.script(TARGET, prompt))


def sent(message: Message) -> list[bytes]:
    return [step for step in played(message) if isinstance(step, bytes)]


def events(text: str) -> list[Event]:
    return decoded(ECHO.decoder(TARGET), sent(Message(Role.USER, text)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", Message(Role.USER, "  Hello there,\n\techo  👋 ")),
        ("tool", Message(Role.USER, '/tool order_status {"order": 123}')),
        ("tool-answer", Message(Role.TOOL, '{"status": "shipped"}', call_id="call_1")),
    ],
)
def test_transcripts(name: str, message: Message, golden: Golden) -> None:
    """The golden transcripts are what the echo sends."""
    golden(GOLDEN / "echo" / Path(f"{name}.sse"), b"".join(sent(message)))


@given(st.text(min_size=1).filter(lambda text: "<think>" not in text and text[0] != "/"))
def test_says_every_character(text: str) -> None:
    """White space and all scripts come back exactly as they were."""
    said = "".join(event.text for event in events(text) if isinstance(event, TextDelta))

    assert said == text


def test_pauses_between_words() -> None:
    """A stream pauses after every word, so that it looks like one."""
    steps = played(Message(Role.USER, "one two three"))

    assert steps.count(Pause(PAUSE)) == len([s for s in steps if isinstance(s, bytes)]) - 3


def test_no_pauses_in_a_whole_answer() -> None:
    """Nobody watches a whole answer come: it comes at once."""
    assert all(isinstance(s, bytes) for s in played(Message(Role.USER, "a b"), stream=False))


@pytest.mark.parametrize("arguments", ["{}", '{"a": {"b": [1, "é"]}}', '{"a":\n1}'])
def test_calls_the_tool(arguments: str) -> None:
    """`/tool NAME {json}` is a call of that tool with those arguments, in two fragments."""
    got = events(f"/tool order_status {arguments}")

    expected = json.loads(arguments.encode())
    assert [e.arguments for e in got if isinstance(e, ToolCall)] == [expected]
    assert got[-1] == Finish(FinishReason.TOOL_CALLS)


@pytest.mark.parametrize(
    "text", ["/tool", "/tool x", "/tool x {oops}", "/tool x [1]", "say /tool x {}", "/tool a.b {}"]
)
def test_says_what_is_no_call(text: str) -> None:
    """What only looks like a call is said back."""
    got = events(text)

    assert "".join(e.text for e in got if isinstance(e, TextDelta)) == text
    assert got[-1] == Finish(FinishReason.STOP)


def test_a_tools_answer_is_no_command() -> None:
    """A tool's result that looks like a command calls nothing."""
    message = Message(Role.TOOL, "/tool x {}", call_id="call_1")

    got = decoded(ECHO.decoder(TARGET), sent(message))

    assert got[-1] == Finish(FinishReason.STOP)
