"""An upstream that fails after its first words: one error frame, the end, and never a `finish`."""

import pytest

from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, ONCE, Answered, config
from tests.e2e.scripted import (
    END,
    Close,
    Hang,
    Reset,
    Script,
    ScriptedUpstream,
    at_once,
    chunk,
    delta,
    event,
    finish,
    openai_text,
    said,
)

HELLO = said("Hello")
HALF = chunk(event(delta("world"))[:25])

# What follows the first words, and what the turn's outcome is.
FAULTS: dict[str, tuple[Script, str]] = {
    "closed": ([Close], "upstream_truncated"),
    "reset": ([Reset], "upstream_truncated"),
    "closed in an event": ([HALF, Close], "upstream_truncated"),
    "reset in an event": ([HALF, Reset], "upstream_truncated"),
    "ended in an event": ([HALF, END], "upstream_truncated"),
    "ended without an end": ([END], "upstream_truncated"),
    "ended in a letter": (
        [chunk(b'data: {"x":"\xf0\x9f'), END],
        "upstream_truncated",
    ),
    "a bad chunk": ([b"zz\r\n", Hang], "upstream_malformed"),
    "not JSON": ([chunk(b"data: oops\n\n"), Hang], "upstream_malformed"),
    "an error frame": ([chunk(event({"error": {"message": "GPU 7"}})), Hang], "upstream_failed"),
    "silence": ([Hang], "idle_timeout"),
    "silence in an event": ([HALF, Hang], "idle_timeout"),
}


def patience(fault: str) -> str:
    """The clock that ends silence; whatever else an upstream does may take its time."""
    return 'idle = "120ms"' if fault.startswith("silence") else ""


@pytest.mark.parametrize("fault", FAULTS)
async def test_exactly_one_error_ends_the_stream(
    fault: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """In each dialect's words; half an event of the upstream leaves no trace."""
    script, outcome = FAULTS[fault]
    upstream.answers([*HELLO, *script])
    gateway = await start(config(upstream.url, upstream=ONCE, clocks=patience(fault)))

    v1 = await gateway.chat_v1()
    assert v1.status == 200
    assert [name for name, _ in v1.frames] == ["token", "error"]
    v2 = await gateway.chat_v2()
    kinds = [data["type"] if isinstance(data, dict) else data for _, data in v2.frames]
    assert kinds == ["text-delta", "error", "[DONE]"]
    assert b"GPU" not in v1.body + v2.body
    whole = await gateway.chat_v2(stream=False)
    assert whole.status == (504 if outcome == "idle_timeout" else 502)

    assert await gateway.outcomes() == {outcome: 3}
    assert await gateway.upstream_errors() == {outcome: 3}
    await gateway.settled()


async def test_a_failed_turn_is_not_remembered(start: Start, upstream: ScriptedUpstream) -> None:
    """The conversation is as it was before it."""
    upstream.answers(openai_text("One"), [*said("Tw"), Close], openai_text("Three"))
    gateway = await start(config(upstream.url))
    conversation = _metadata(await gateway.chat_v2("first"))["conversationId"]
    await gateway.chat_v2("second", conversationId=conversation)
    await gateway.chat_v2("third", conversationId=conversation)

    messages = upstream.requests[-1].json["messages"]
    assert messages == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "One"},
        {"role": "user", "content": "third"},
    ]


@pytest.mark.parametrize("fault", ["closed", "reset", "ended without an end", "silence"])
async def test_a_finish_that_was_announced_holds(
    fault: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """The upstream named its finish, and then only failed to hang up: the turn is complete."""
    upstream.answers([at_once([*HELLO, chunk(event(finish("length")))]), *FAULTS[fault][0]])
    gateway = await start(config(upstream.url, upstream=ONCE, clocks=patience(fault)))
    answer = await gateway.chat_v2()

    assert _finish(answer)["finishReason"] == "length"
    assert await gateway.outcomes() == {"complete": 1}
    assert not await gateway.upstream_errors()
    await gateway.settled()


@pytest.mark.parametrize("dialect", ["v1", "v2"])
@pytest.mark.parametrize("way", [Close, Reset])
async def test_a_stream_may_break_at_any_byte(
    way: type[Close] | type[Reset], dialect: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """The client gets a status, or a stream that is well-formed and ends once."""
    stream = b"".join(step for step in openai_text("Hé") if isinstance(step, bytes))
    end = stream.index(b"data: [DONE]") + len(b"data: [DONE]\n\n")
    gateway = await start(config(upstream.url, upstream="breaker = { enabled = false }"))
    statuses = set()
    for position in range(0, len(stream), 3):
        upstream.answers([stream[:position], way])
        answer = await gateway.post(*CHATS[dialect])
        statuses.add(answer.status)
        if answer.status == 200:
            names = [_name(name, data) for name, data in answer.frames]
            assert len([n for n in names if n in ("done", "finish", "error")]) == 1
            assert position < end or "error" not in names
        else:
            assert answer.error["message"]
    assert statuses == {200, 502}
    await gateway.settled()


async def test_a_bug_of_ours_ends_the_stream_as_well(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in the hot path fails its turn, not the transport, and is logged."""
    upstream.answers([*HELLO, Hang])
    gateway = await start(config(upstream.url, upstream=ONCE))
    monkeypatch.setattr("gateway.upstreams.openai.OpenAIReader.frame", _broken)
    answers = [await gateway.chat_v1(), await gateway.chat_v2(stream=False)]

    assert [answer.status for answer in answers] == [500, 500]
    assert await gateway.outcomes() == {"internal": 2}
    assert any("secret" in str(line.get("exception")) for line in gateway.log_lines())
    assert b"secret" not in answers[0].body
    await gateway.settled()


async def test_a_bug_in_an_encoder_ends_the_stream(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head may be out by then: the error is the stream's own."""
    upstream.answers([*HELLO, chunk(event(delta("world"))), Hang])
    gateway = await start(config(upstream.url))
    encoder = "gateway.dialects.bookbag_v1.BookbagV1Encoder"
    monkeypatch.setattr(f"{encoder}.encode", _broken_for_text)
    monkeypatch.setattr(f"{encoder}.around_text", None)
    answer = await gateway.chat_v1()

    assert answer.status == 200
    assert [name for name, _ in answer.frames] == ["error"]
    assert await gateway.outcomes() == {"internal": 1}
    await gateway.settled()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_turn_that_cannot_be_kept_is_no_success(
    stream: bool, start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store says no at the very end: an error instead of the `finish`."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    monkeypatch.setattr(gateway.gateway.store, "save", _full)
    answer = await gateway.chat_v2(stream=stream)

    if stream:
        assert [data for _, data in answer.frames][-2:] == [
            {"type": "error", "errorText": "the store is full"},
            "[DONE]",
        ]
    else:
        assert answer.status == 503
    assert await gateway.outcomes() == {"unavailable": 1}
    await gateway.settled()


async def _full(*_: object) -> None:
    raise GatewayError(ErrorCode.UNAVAILABLE, "the store is full")


def _broken(*_: object) -> object:
    raise RuntimeError("a secret of ours")


def _broken_for_text(_self: object, failure: object) -> bytes:
    if type(failure).__name__ == "Failure":
        return b'event: error\ndata: {"code":"internal_error"}\n\n'
    raise RuntimeError("a secret of ours")


def _name(name: str, data: Json) -> Json:
    return data["type"] if name == "message" and isinstance(data, dict) else name


def _finish(answer: Answered) -> dict[str, Json]:
    _, data = answer.frames[-2]
    assert isinstance(data, dict)
    return data


def _metadata(answer: Answered) -> dict[str, Json]:
    data = _finish(answer)["metadata"]
    assert isinstance(data, dict)
    return data
