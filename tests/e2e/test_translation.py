"""The upstreams that host conversations or are models, to Bookbag's clients: every frame by hand,
and what each upstream was asked. Every other pair is in `test_matrix`."""

import re
from pathlib import Path

import pytest

from gateway.core.errors import GatewayError
from gateway.core.events import CONTENT, Failure, Json
from gateway.core.turn import Reply
from gateway.dialects import DIALECTS
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import ONCE, Answered, Running, config
from tests.e2e.scripted import END, ScriptedUpstream, Step, chunk, document, head
from tests.e2e.stories import STORIES, UNTOLD, streamed, whole
from tests.golden_cases import ASK, TURN, Case, cases

# The configuration of each: `kind`, `target`, `upstream`.
_KINDS: dict[str, dict[str, str]] = {
    "openai": {"kind": "openai", "target": 'model = "m"'},
    "bookbag-v1": {"kind": "bookbag", "target": "agent = 77", "upstream": 'api = "v1"'},
    "bookbag-v2": {"kind": "bookbag", "target": "agent = 77"},
    "chatbase": {"kind": "chatbase", "target": 'agent = "5QHA"'},
}

_FORMS = ("openai", "bookbag-v1", "bookbag-v2", "chatbase-a", "chatbase-b", "chatbase-c")
_STREAMED = [(f, s) for f in _FORMS for s in STORIES if (f, s) not in UNTOLD]
_WHOLE = [
    (form, story)
    for form in ("openai", "bookbag-v2", "chatbase-c")
    for story in STORIES
    # A JSON answer comes in one piece.
    if story not in ("late-error", "truncated")
]
_ANSWERS = [(*pair, "streams") for pair in _STREAMED] + [(*pair, "answers") for pair in _WHOLE]

_CITED: Json = [{"title": "Shipping", "url": "https://acme.example/shipping"}]
_CALLED: Json = {
    "type": "tool-call",
    "toolCallId": "call_1",
    "toolName": "order_status",
    "input": {"order": 7},
}
_UNICODE = ("注文は\u2028", '👩‍🚀\u0085 "ü"\n')

_V1: dict[str, list[tuple[str, Json]]] = {
    "text": [("token", {"text": "Your "}), ("token", {"text": "order"})],
    "unicode": [("token", {"text": word}) for word in _UNICODE],
    "tool": [],
    "citations": [("token", {"text": "Two days."}), ("citations", {"citations": _CITED})],
    "reasoning": [("token", {"text": "Two days."})],
    "late-error": [("token", {"text": "Your "})],
    "truncated": [("token", {"text": "Your "})],
}
_V2: dict[str, list[Json]] = {
    "text": [{"type": "text-delta", "text": "Your "}, {"type": "text-delta", "text": "order"}],
    "unicode": [{"type": "text-delta", "text": word} for word in _UNICODE],
    "tool": [_CALLED],
    "citations": [
        {"type": "text-delta", "text": "Two days."},
        {"type": "citations", "citations": _CITED},
    ],
    "reasoning": [{"type": "text-delta", "text": "Two days."}],
    "late-error": [{"type": "text-delta", "text": "Your "}],
    "truncated": [{"type": "text-delta", "text": "Your "}],
}
_PARTS: dict[str, Json] = {
    "text": [{"type": "text", "text": "Your order"}],
    "unicode": [{"type": "text", "text": "".join(_UNICODE)}],
    "tool": [_CALLED],
    "citations": [
        {"type": "text", "text": "Two days."},
        {"type": "citations", "citations": _CITED},
    ],
    "reasoning": [{"type": "text", "text": "Two days."}],
}
_FAILURES = {
    "error": "the upstream failed",
    "late-error": "the upstream failed",
    "truncated": "the upstream ended the stream early",
}


def _script(form: str, story: str, way: str) -> list[Step]:
    if way == "answers":
        return document(whole(form, story))
    return [head(), *map(chunk, streamed(form, story)), END]


async def _gateway(start: Start, upstream: ScriptedUpstream, form: str) -> Running:
    # The last letter of `chatbase-a` is only the form of its stream.
    kind = "chatbase" if form.startswith("chatbase") else form
    return await start(config(upstream.url, **_KINDS[kind]))


def _usage(form: str) -> Json:
    return {"inputTokens": 3, "outputTokens": 2} if form == "openai" else {"credits": 2}


def _reason(story: str) -> str:
    return "tool-calls" if story == "tool" else "stop"


@pytest.mark.parametrize(("form", "story", "way"), _ANSWERS)
async def test_to_v1(
    start: Start, upstream: ScriptedUpstream, form: str, story: str, way: str
) -> None:
    """v1's client receives the same of every upstream: `token`, `citations`, `done` or `error`."""
    upstream.answers(_script(form, story, way))
    answer = await (await _gateway(start, upstream, form)).chat_v1()
    check_v1(answer, form, story, way)


@pytest.mark.parametrize(("form", "story", "way"), _ANSWERS)
async def test_to_v2(
    start: Start, upstream: ScriptedUpstream, form: str, story: str, way: str
) -> None:
    """v2's client receives the same of every upstream: parts, `finish` or `error`, `[DONE]`."""
    upstream.answers(_script(form, story, way))
    answer = await (await _gateway(start, upstream, form)).chat_v2(userId="u1")
    check_v2(answer, form, story, way)


@pytest.mark.parametrize(("form", "story", "way"), _ANSWERS)
async def test_to_v2_whole(
    start: Start, upstream: ScriptedUpstream, form: str, story: str, way: str
) -> None:
    """`stream: false` gets one message of parts, or an error with a status, of every upstream."""
    upstream.answers(_script(form, story, way))
    answer = await (await _gateway(start, upstream, form)).chat_v2(userId="u1", stream=False)
    check_whole(answer, form, story)


@pytest.mark.parametrize(("form", "story"), _STREAMED)
async def test_replayed(start: Start, tmp_path: Path, form: str, story: str) -> None:
    """A recorded answer is answered to clients as the live one was."""
    kind = "chatbase" if form.startswith("chatbase") else form
    steps: list[Json] = [{"kind": kind}]
    steps += [{"after": 0.001, "data": data.decode()} for data in streamed(form, story)]
    (tmp_path / "recorded.jsonl").write_bytes(b"\n".join(map(json.dumps, steps)))
    text = config("", kind="replay", target="", upstream='file = "recorded.jsonl"')
    gateway = await start(text)
    check_v1(await gateway.chat_v1(), form, story, "streams")
    check_v2(await gateway.chat_v2(userId="u1"), form, story, "streams")
    check_whole(await gateway.chat_v2(userId="u1", stream=False), form, story)


def check_v1(answer: Answered, form: str, story: str, way: str) -> None:
    if story == "error":
        assert answer.status == 502
        failed: Json = {"code": "upstream_error", "message": _FAILURES[story]}
        assert answer.json == {"success": False, "error": failed}
        return
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    *frames, (name, last) = answer.frames
    assert _joined(frames, way) == _joined(_V1[story], way)
    if story in _FAILURES:
        failure: Json = {"code": "upstream_error", "message": _FAILURES[story]}
        assert (name, last) == ("error", failure)
        return
    assert name == "done"
    done = json.mapping(last)
    assert isinstance(done.pop("conversationId"), int)
    assert re.fullmatch("msg_[0-9]+", json.text(done.pop("messageId")))
    assert done == {"finishReason": _reason(story), "usage": _usage(form)}


def check_v2(answer: Answered, form: str, story: str, way: str) -> None:
    if story == "error":
        assert answer.status == 502
        assert answer.json == {"error": {"code": "UPSTREAM_ERROR", "message": _FAILURES[story]}}
        return
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    *frames, (_, last), done = answer.frames
    assert done == ("message", "[DONE]")
    told: list[tuple[str, Json]] = [("message", frame) for frame in _V2[story]]
    assert _joined(frames, way) == _joined(told, way)
    if story in _FAILURES:
        assert last == {"type": "error", "errorText": _FAILURES[story]}
        return
    finish = json.mapping(last)
    metadata = json.mapping(finish.pop("metadata"))
    assert finish == {"type": "finish", "finishReason": _reason(story)}
    assert isinstance(metadata.pop("conversationId"), str)
    assert metadata.pop("messageId") != metadata.pop("userMessageId")
    assert metadata == {"userId": "u1", "usage": _usage(form)}


def check_whole(answer: Answered, form: str, story: str) -> None:
    assert answer.headers["content-type"].startswith("application/json")
    if story in _FAILURES:
        assert answer.status == 502
        assert answer.json == {"error": {"code": "UPSTREAM_ERROR", "message": _FAILURES[story]}}
        return
    assert answer.status == 200
    data = json.mapping(answer.json["data"])
    assert data["role"] == "assistant"
    assert data["parts"] == _PARTS[story]
    metadata = json.mapping(data["metadata"])
    assert metadata["finishReason"] == _reason(story)
    assert metadata["usage"] == _usage(form)
    assert metadata["userId"] == "u1"


def _joined(frames: list[tuple[str, Json]], way: str) -> list[tuple[str, Json]]:
    """The frames; of an upstream that answers JSON, with neighbouring texts as one."""
    if way == "streams":
        return frames
    texts = [json.text(json.mapping(data).get("text")) for _, data in frames]
    return [
        ("text", "".join(texts)),
        *(f for f, text in zip(frames, texts, strict=True) if not text),
    ]


# What upstreams are asked.

_MESSAGES: Json = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where?"},
]
_ASKED: dict[str, tuple[str, dict[str, Json]]] = {
    "openai": (
        "/base/chat/completions",
        {
            "model": "m",
            "messages": _MESSAGES,
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": "u1",
            "temperature": 0.5,
        },
    ),
    "bookbag-v1": ("/base/api/v1/chat", {"agentId": 77, "message": "Where?", "temperature": 0.5}),
    "bookbag-v2": (
        "/base/api/v2/agents/77/chat",
        {"message": "Where?", "stream": True, "userId": "u1", "temperature": 0.5},
    ),
    "chatbase": (
        "/base/api/v2/agents/5QHA/chat",
        {"message": "Where?", "stream": True, "userId": "u1", "temperature": 0.5},
    ),
}


@pytest.mark.parametrize("kind", _ASKED)
async def test_what_upstreams_are_asked(
    start: Start, upstream: ScriptedUpstream, kind: str
) -> None:
    """An upstream gets the config's credential and headers, the target's parameters, its own path,
    and nothing of the caller's."""
    form = "chatbase-c" if kind == "chatbase" else kind
    upstream.answers(_script(form, "text", "streams"))
    chosen = dict(_KINDS[kind])
    chosen["target"] += ", params = { temperature = 0.5 }"
    chosen["upstream"] = (
        chosen.get("upstream", "")
        + '\ncredential = { env = "UPSTREAM_KEY" }\nheaders = { X-Team = "blue" }'
    )
    text = config(f"{upstream.url}/base/", **chosen, agent='instructions = "Be brief."')
    gateway = await start(text, UPSTREAM_KEY="sk-upstream")
    answer = await gateway.post(
        "/api/v2/agents/1/chat?debug=1",
        {"message": "Where?", "userId": "u1", "temperature": 2},
        Cookie="session=1",
        X_Forwarded_For="198.51.100.7",
        X_Api_Key="theirs",
        Accept_Language="tlh",
        X_Request_Id="trace-1",
    )
    assert answer.status == 200

    path, body = _ASKED[kind]
    (asked,) = upstream.requests
    assert (asked.method, asked.path) == ("POST", path)
    assert asked.json == body
    assert asked.headers["authorization"] == "Bearer sk-upstream"
    assert asked.headers["x-team"] == "blue"
    assert asked.headers["x-request-id"] == "trace-1"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["host"] == upstream.url.removeprefix("http://")
    strange = {"cookie", "x-forwarded-for", "x-api-key", "accept-language", "origin", "referer"}
    assert not strange & asked.headers.keys()


@pytest.mark.parametrize("kind", _ASKED)
async def test_a_whole_answer_is_asked_for_whole(
    start: Start, upstream: ScriptedUpstream, kind: str
) -> None:
    """`stream: false` is passed on to upstreams that know it; v1 knows only streams."""
    form = "chatbase-c" if kind == "chatbase" else kind
    upstream.answers(_script(form, "text", "streams"))
    answer = await (await _gateway(start, upstream, form)).chat_v2(stream=False)
    assert answer.status == 200
    asked = upstream.requests[0].json
    assert asked.get("stream") is (None if kind == "bookbag-v1" else False)
    assert "stream_options" not in asked


# Echo


async def test_echo_says_what_it_is_told(start: Start) -> None:
    """The built-in upstream says the words of the message, each in a frame, and cites itself."""
    gateway = await start(config("", kind="echo", target=""))
    message = "注文 👩‍🚀\u2028 three"
    v1, v2 = await gateway.chat_v1(message), await gateway.chat_v2(message)
    assert v1.text == v2.text == message
    names = [name for name, _ in v1.frames]
    assert names == ["token", "token", "token", "citations", "done"]
    whole = json.mapping((await gateway.chat_v2(message, stream=False)).json["data"])
    assert json.array(whole["parts"])[0] == {"type": "text", "text": message}


async def test_echo_calls_a_tool(start: Start) -> None:
    """`/tool NAME {json}` is a tool call in v2, and none of v1's words."""
    gateway = await start(config("", kind="echo", target=""))
    v2 = await gateway.chat_v2('/tool order_status {"order": 7}')
    (_, call), (_, finish), _ = v2.frames
    assert {**json.mapping(call), "toolCallId": "call_1"} == _CALLED
    assert json.mapping(finish)["finishReason"] == "tool-calls"
    v1 = await gateway.chat_v1('/tool order_status {"order": 7}')
    ((name, done),) = v1.frames
    assert (name, json.mapping(done)["finishReason"]) == ("done", "tool-calls")


# The transcripts: what the codecs make of them is pinned there; here, that nothing between the
# sockets changes it.


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("dialect", ["bookbag-v1", "bookbag-v2", "whole"])
async def test_transcripts(
    start: Start, upstream: ScriptedUpstream, kind: str, dialect: str
) -> None:
    """Each transcript reaches the client byte for byte as its codecs wrote it."""
    once = "\n".join([_KINDS[kind].get("upstream", ""), ONCE])
    gateway = await start(config(upstream.url, **{**_KINDS[kind], "upstream": once}))
    recorded = [case for case in cases() if case.kind == kind and "no-blank-lines" not in case.name]
    assert recorded
    for case in recorded:
        upstream.answers(_played(case))
        answer = await _asked(gateway, dialect)
        assert (answer.status, _made_equal(answer.body)) == _expected(case, dialect), case.name


def _played(case: Case) -> list[Step]:
    kind = "text/event-stream" if case.streamed else "application/json"
    # In pieces that no event respects.
    pieces = [case.data[i : i + 100] for i in range(0, len(case.data), 100)]
    return [head(content_type=kind), *map(chunk, pieces), END]


async def _asked(gateway: Running, dialect: str) -> Answered:
    if dialect == "bookbag-v1":
        return await gateway.chat_v1(user_id=TURN.user_id)
    return await gateway.chat_v2(userId=TURN.user_id, stream=dialect != "whole")


def _expected(case: Case, dialect: str) -> tuple[int, bytes]:
    events = case.decoded([case.data])
    spoken = DIALECTS["bookbag-v2" if dialect == "whole" else dialect]
    last = events[-1]
    begun = any(type(event) in CONTENT for event in events[:-1])
    if isinstance(last, Failure) and (dialect == "whole" or not begun):
        error = spoken.error(GatewayError(last.code, last.message, retry_after=last.retry_after))
        return error.status, error.body
    if dialect != "whole":
        return 200, case.beside(f".{dialect}.sse").read_bytes()
    reply = Reply()
    reply.extend(events)
    assert spoken.reply is not None
    return 200, spoken.reply(TURN, ASK, reply.folded())


def _made_equal(body: bytes) -> bytes:
    """With the ids that the transcripts have."""
    for pattern, ours in (
        (rb'("userMessageId":)"msg_\d+"', rb'\1"msg_1"'),
        (rb'("(?:messageId|id)":)"msg_\d+"', rb'\1"msg_2"'),
        (rb'("conversationId":"?)\d+', rb"\g<1>" + (TURN.conversation_id or "").encode()),
    ):
        body = re.sub(pattern, ours, body)
    return body
