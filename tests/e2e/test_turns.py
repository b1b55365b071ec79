"""Whole turns, over real sockets, in both dialects."""

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import config
from tests.e2e.scripted import ScriptedUpstream, document, openai_text, sse


async def test_v2_streams_an_openai_answer(start: Start, upstream: ScriptedUpstream) -> None:
    """Each delta of the upstream becomes one `text-delta`, and the end says what it cost."""
    upstream.answers(openai_text("Your ", "order"))
    gateway = await start(config(upstream.url))
    answer = await gateway.chat_v2("Where is my order?", userId="u1")

    assert answer.status == 200
    *deltas, finish, done = (data for _, data in answer.frames)
    assert deltas == [
        {"type": "text-delta", "text": "Your "},
        {"type": "text-delta", "text": "order"},
    ]
    assert isinstance(finish, dict)
    assert finish["type"] == "finish"
    assert done == "[DONE]"


async def test_v2_answers_whole(start: Start, upstream: ScriptedUpstream) -> None:
    """`stream: false` gets one JSON body."""
    message: Json = {"role": "assistant", "content": "Hello"}
    upstream.answers(document({"choices": [{"message": message, "finish_reason": "stop"}]}))
    gateway = await start(config(upstream.url))
    answer = await gateway.chat_v2(stream=False)

    assert answer.status == 200
    data = answer.json["data"]
    assert isinstance(data, dict)
    assert data["parts"] == [{"type": "text", "text": "Hello"}]


async def test_v1_streams_named_events(start: Start, upstream: ScriptedUpstream) -> None:
    """v1: `token` frames, then `done`."""
    upstream.answers(openai_text("Hi ", "there"))
    gateway = await start(config(upstream.url))
    answer = await gateway.chat_v1()

    assert [name for name, _ in answer.frames] == ["token", "token", "done"]
    assert answer.text == "Hi there"


async def test_failure_in_mid_stream(start: Start, upstream: ScriptedUpstream) -> None:
    """An error frame of the upstream becomes the dialect's own, and its text stays here."""
    upstream.answers(
        sse({"choices": [{"delta": {"content": "Hi"}}]}, {"error": {"message": "GPU 7"}})
    )
    gateway = await start(config(upstream.url))
    answer = await gateway.chat_v2()

    assert answer.frames[1:] == [
        ("message", {"type": "error", "errorText": "the upstream failed"}),
        ("message", "[DONE]"),
    ]
