"""Clients in Python at the gateway, over each kind of upstream: openai-python 1.x, from its helpers
on, and httpx-sse. And JavaScript's parser on each dialect's stream."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from gateway.core.events import Json
from gateway.dialects import DIALECTS
from gateway.wire import json
from gateway.wire.sse import Parser
from tests.e2e.conftest import Start
from tests.e2e.javascript import CLIENTS, run
from tests.e2e.running import KEY, Running, config
from tests.e2e.scripted import (
    END,
    ScriptedUpstream,
    chunk,
    delta,
    document,
    event,
    head,
    openai_text,
    sse,
)
from tests.golden_cases import GOLDEN, Case

# Of openai-python: the first with `.stream()`, and the last. tests/install names the folders so.
RELEASES = {"openai-1.40": "1.40.0", "openai-1": "1."}

# What is said to the agents. Each character of it has ended a line in some client.
SAID = "注文 👩‍🚀\u2028 \u0085 \x1c three"
HI: Json = {"role": "user", "content": SAID}
ECHO = config("", kind="echo", target="")
TRUNCATED = [head(), chunk(event(delta("Hi"))), END]

# What a kind of upstream answers, by its transcript, and its part of the config. The agent that is
# built in says what it is told.
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "echo": ("", {"kind": "echo", "target": ""}),
    "openai": ("openai/unicode.sse", {}),
    "bookbag-v1": (
        "bookbag-v1/unicode.sse",
        {"kind": "bookbag", "target": "agent = 77", "upstream": 'api = "v1"'},
    ),
    "bookbag-v2": ("bookbag-v2/unicode.sse", {"kind": "bookbag", "target": "agent = 77"}),
    "chatbase": ("chatbase/unicode.sse", {"kind": "chatbase", "target": 'agent = "a"'}),
    "sonzai": ("sonzai/unicode.sse", {"kind": "sonzai", "target": 'agent = "a"'}),
    "agentsgt-events": ("agentsgt/ui-unicode.sse", {"kind": "agentsgt", "target": 'agent = "a"'}),
    "agentsgt-lines": ("agentsgt/data-unicode.sse", {"kind": "agentsgt", "target": 'agent = "a"'}),
    "agentsgt-text": ("agentsgt/text-unicode.txt", {"kind": "agentsgt", "target": 'agent = "a"'}),
}
# Of these, in the body of a text.
PLAIN = ("agentsgt-lines", "agentsgt-text")

every_kind = pytest.mark.parametrize("kind", KINDS)
every_release = pytest.mark.parametrize("release", RELEASES)
every_dialect = pytest.mark.parametrize("dialect", sorted(DIALECTS))


async def serving(start: Start, upstream: ScriptedUpstream, kind: str) -> tuple[Running, str]:
    """A gateway over an upstream of the kind, and the text that it answers with."""
    name, given = KINDS[kind]
    if not name:
        return await start(ECHO), SAID
    case = Case(GOLDEN / name)
    content_type = "text/plain" if kind in PLAIN else "text/event-stream"
    upstream.answers([head(content_type=content_type), chunk(case.data), END])
    events = json.array(json.loads(case.beside(".events.json").read_bytes()))
    said = [json.mapping(each) for each in events]
    words = [json.text(each["text"]) for each in said if each["event"] == "TextDelta"]
    assert words
    return await start(config(upstream.url, **given)), "".join(words)


# openai-python


async def asked(
    release: str, gateway: Running, *requests: tuple[str, Json], key: str = KEY
) -> list[dict[str, Json]]:
    """How each of these went: the way to ask, as openai_1.py names it, and what for."""
    given: Json = {"url": f"{gateway.url}/v1", "key": key, "requests": [list(r) for r in requests]}
    folder = CLIENTS / ".python" / release
    assert folder.is_dir(), "tests/install brings it"
    # -S: of the tests' own environment nothing but the standard library.
    command = [sys.executable, "-S", str(CLIENTS / "openai_1.py"), json.dumps(given).decode()]
    done = await asyncio.to_thread(
        subprocess.run, command, env={"PYTHONPATH": str(folder)}, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    came = json.mapping(json.loads(done.stdout))
    assert json.text(came["release"]).startswith(RELEASES[release])
    return [json.mapping(each) for each in json.array(came["came"])]


def chat(*messages: Json, model: str = "Support", **more: Json) -> dict[str, Json]:
    return {"model": model, "messages": list(messages or (HI,)), **more}


def choice(completion: Json) -> dict[str, Json]:
    """The one of an answer or a chunk."""
    [only] = json.array(json.mapping(completion)["choices"])
    return json.mapping(only)


def message(came: dict[str, Json]) -> dict[str, Json]:
    assert came["error"] is None
    return json.mapping(choice(came["answer"])["message"])


@every_release
@every_kind
async def test_openai_over_every_kind(
    start: Start, upstream: ScriptedUpstream, release: str, kind: str
) -> None:
    """A whole answer, a stream and the stream's helper say the same, and that it is over."""
    gateway, text = await serving(start, upstream, kind)
    ways: list[tuple[str, Json]] = [(way, chat()) for way in ("whole", "streamed", "helped")]
    whole, streamed, helped = await asked(release, gateway, *ways)

    assert message(whole)["content"] == message(helped)["content"] == text
    assert streamed["error"] is None
    choices = [choice(each) for each in json.array(streamed["chunks"])]
    deltas = [json.mapping(each["delta"])["content"] for each in choices]
    assert "".join(json.text(content) for content in deltas if content) == text
    ends = [choices[-1], choice(whole["answer"]), choice(helped["answer"])]
    assert [end["finish_reason"] for end in ends] == ["stop"] * 3
    assert json.array(helped["chunks"])[-1] == "content.done"


@every_release
async def test_openai_runs_a_tool(start: Start, release: str) -> None:
    """The helper joins the call of a strict tool and parses its arguments; what the client keeps of
    it goes back with the result."""
    parameters: Json = {
        "type": "object",
        "properties": {"order": {"type": "integer"}},
        "required": ["order"],
        "additionalProperties": False,
    }
    function: Json = {"name": "order_status", "parameters": parameters, "strict": True}
    tools: Json = [{"type": "function", "function": function}]
    question: Json = {"role": "user", "content": '/tool order_status {"order": 7}'}
    gateway = await start(ECHO)
    [first] = await asked(release, gateway, ("helped", chat(question, tools=tools)))
    called = message(first)
    [call] = map(json.mapping, json.array(called["tool_calls"]))

    assert choice(first["answer"])["finish_reason"] == "tool_calls"
    made = json.mapping(call["function"])
    assert (made["name"], made["parsed_arguments"]) == ("order_status", {"order": 7})

    result: Json = {"role": "tool", "tool_call_id": call["id"], "content": "shipped"}
    history = chat(question, called, result, tools=tools)
    [second] = await asked(release, gateway, ("whole", history))
    assert message(second)["content"] == "The tool answered: shipped"


@every_release
async def test_openai_is_told_the_cost(
    start: Start, upstream: ScriptedUpstream, release: str
) -> None:
    """Of a stream in a chunk of its own, where it is asked for."""
    upstream.answers(openai_text("Hi ", "there"))
    gateway = await start(config(upstream.url))
    body = chat(stream_options={"include_usage": True})
    streamed, whole = await asked(release, gateway, ("streamed", body), ("whole", chat()))

    last = json.mapping(json.array(streamed["chunks"])[-1])
    assert last["choices"] == []
    for said in (last, json.mapping(whole["answer"])):
        assert json.mapping(said["usage"])["total_tokens"] == 5


@every_release
async def test_openai_lists_the_agents(start: Start, release: str) -> None:
    """As the models there are, under the names that `model` takes."""
    gateway = await start(ECHO)
    [came] = await asked(release, gateway, ("models", {}))
    first = json.text(json.array(came["answer"])[0])
    [answered] = await asked(release, gateway, ("whole", chat(model=first)))

    assert message(answered)["content"] == SAID


@every_release
async def test_openai_is_refused(start: Start, release: str) -> None:
    """A key or a model that is unknown is the client's own exception, with OpenAI's code."""
    gateway = await start(ECHO)
    stranger = chat(model="gpt-4o")
    unknown = await asked(release, gateway, ("whole", stranger), ("streamed", stranger))
    unheard = await asked(release, gateway, ("whole", chat()), ("models", {}), key=KEY + "x")

    assert [_error(came, "name", "status", "code") for came in (*unknown, *unheard)] == [
        *[("NotFoundError", 404, "model_not_found")] * 2,
        *[("AuthenticationError", 401, "invalid_api_key")] * 2,
    ]


@every_release
async def test_openai_is_told_of_failures(
    start: Start, upstream: ScriptedUpstream, release: str
) -> None:
    """Before the stream by the status; in it, and of a stream that just ends, where the client
    reads, after the text that came."""
    failing = sse(delta("Hi"), {"error": {"message": "gpu-17 is on fire"}})
    upstream.answers(document({"error": {"message": "no"}}, 500), failing, TRUNCATED)
    ways: list[tuple[str, Json]] = [("streamed", chat())] * 3
    gateway = await start(config(upstream.url))
    before, during, truncated = await asked(release, gateway, *ways)

    assert _error(before, "name", "status", "code") == (
        "InternalServerError",
        502,
        "upstream_error",
    )
    failed = ("APIError", "the upstream failed")
    assert _error(during, "name", "message") == failed
    assert _error(truncated, "name", "message") == (
        failed[0],
        "the upstream ended the stream early",
    )
    for came in (during, truncated):
        said = [
            json.mapping(choice(each)["delta"])["content"] for each in json.array(came["chunks"])
        ]
        assert "Hi" in said


def _error(came: dict[str, Json], *names: str) -> tuple[Json, ...]:
    error = json.mapping(came["error"])
    return tuple(error[name] for name in names)


# httpx-sse


@dataclass(frozen=True, slots=True)
class Spoken:
    """How one dialect's stream is asked for and read."""

    path: str
    body: dict[str, Json]
    text: Callable[[ServerSentEvent], str]
    """What an event adds to the answer."""
    failure: Callable[[Any], Json]
    """What the last event's JSON says went wrong."""
    marked: bool = True
    """Whether the stream ends with `[DONE]`."""


def _frame(name: str) -> Callable[[ServerSentEvent], str]:
    """The text of Bookbag v2's frames and the AI SDK's, whose text has different names."""

    def text(event: ServerSentEvent) -> str:
        said = event.json()
        return str(said[name]) if said["type"] == "text-delta" else ""

    return text


def _delta(event: ServerSentEvent) -> str:
    """The text of an OpenAI chunk, and of a Sonzai one."""
    [choice] = event.json().get("choices") or [{"delta": {}}]
    return choice["delta"].get("content") or ""


def _token(event: ServerSentEvent) -> str:
    return str(event.json()["text"]) if event.event == "token" else ""


_MESSAGES: dict[str, Json] = {"messages": [HI]}
_PARTS: Json = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": SAID}]}

SPOKEN: dict[str, Spoken] = {
    "agentsgt": Spoken(
        "/agentsgt/api/v1/agents/chat/1",
        {"messages": [_PARTS]},
        _frame("delta"),
        lambda said: said["errorText"],
    ),
    "bookbag-v1": Spoken(
        "/api/v1/chat",
        {"agentId": 1, "message": SAID},
        _token,
        lambda said: said["message"],
        marked=False,
    ),
    "bookbag-v2": Spoken(
        "/api/v2/agents/1/chat",
        {"message": SAID},
        _frame("text"),
        lambda said: said["errorText"],
    ),
    "chatbase": Spoken(
        "/chatbase/api/v2/agents/1/chat",
        {"message": SAID, "stream": True},
        _frame("delta"),
        lambda said: said["errorText"],
    ),
    "openai": Spoken(
        "/v1/chat/completions",
        {**_MESSAGES, "model": "1", "stream": True},
        _delta,
        lambda said: said["error"]["message"],
    ),
    "sonzai": Spoken(
        "/sonzai/api/v1/agents/1/chat",
        _MESSAGES,
        _delta,
        lambda said: said["error"]["message"],
    ),
}


async def events(gateway: Running, spoken: Spoken) -> list[ServerSentEvent]:
    """Those that httpx-sse sees, but for the mark of the end."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False) as client,
        aconnect_sse(client, "POST", spoken.path, json=spoken.body) as source,
    ):
        source.response.raise_for_status()
        came = [event async for event in source.aiter_sse()]
    if spoken.marked:
        assert came.pop().data == "[DONE]"
    return came


@every_dialect
@every_kind
async def test_httpx_sse_over_every_kind(
    start: Start, upstream: ScriptedUpstream, dialect: str, kind: str
) -> None:
    """Each event is one, is JSON, and together they are the answer."""
    gateway, text = await serving(start, upstream, kind)
    came = await events(gateway, SPOKEN[dialect])

    assert all(isinstance(event.json(), dict) for event in came)
    assert "".join(map(SPOKEN[dialect].text, came)) == text


@every_dialect
async def test_httpx_sse_is_told_of_a_failure(
    start: Start, upstream: ScriptedUpstream, dialect: str
) -> None:
    """An answer that breaks off ends with an event that says so, in each dialect's words."""
    upstream.answers(TRUNCATED)
    *told, last = await events(await start(config(upstream.url)), SPOKEN[dialect])

    assert "".join(map(SPOKEN[dialect].text, told)) == "Hi"
    assert SPOKEN[dialect].failure(last.json()) == "the upstream ended the stream early"


# eventsource-parser


async def parsed(body: bytes) -> list[tuple[Json, Json]]:
    """The names and data that eventsource-parser reads, which has found no fault."""
    came = json.mapping(await run("frames.mjs", stdin=body))
    assert came["errors"] == []
    pairs = [json.array(each) for each in json.array(came["events"])]
    return [(name, data) for name, data in pairs]


@every_dialect
async def test_eventsource_parser_on_a_stream(start: Start, dialect: str) -> None:
    """What comes over the socket is to JavaScript's parser what it is to ours."""
    answer = await (await start(ECHO)).post(SPOKEN[dialect].path, dict(SPOKEN[dialect].body))
    read = await parsed(answer.body)

    assert answer.status == 200
    if SPOKEN[dialect].marked:
        assert read[-1] == ("message", "[DONE]")
    assert [(name, _loaded(data)) for name, data in read] == answer.frames


def _loaded(data: Json) -> Json:
    return data if data == "[DONE]" else json.loads(json.text(data).encode())


@every_dialect
async def test_eventsource_parser_on_every_transcript(dialect: str) -> None:
    """All that the dialect's clients are ever told, one stream after the other."""
    body = b"".join(path.read_bytes() for path in sorted(GOLDEN.glob(f"*/*.{dialect}.sse")))
    ours = Parser(max_event=1 << 30).feed(body)

    assert len(ours) > 300
    assert await parsed(body) == [(name, data.decode()) for name, data in ours]
