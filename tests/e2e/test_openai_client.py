"""OpenAI's own Python client against the gateway, over upstreams of several families."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e import talking
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, Running, config
from tests.e2e.scripted import (
    Close,
    ScriptedUpstream,
    document,
    finish,
    openai_text,
    said,
    sse,
)

Connect = Callable[..., openai.AsyncOpenAI]

HI: ChatCompletionMessageParam = {"role": "user", "content": "Where is 7?"}
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "order_status",
        "description": "Look an order up.",
        "parameters": {
            "type": "object",
            "properties": {"order": {"type": "integer"}},
            "required": ["order"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
ECHO = config("", kind="echo", target="")
HOSTED: dict[str, str] = {"kind": "bookbag", "target": "agent = 77"}


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes clients of a gateway; they are closed with the test."""
    made: list[openai.AsyncOpenAI] = []

    def connect(gateway: Running, key: str = KEY, mount: str = "") -> openai.AsyncOpenAI:
        url = f"{gateway.url}{mount}/v1"
        made.append(openai.AsyncOpenAI(api_key=key, base_url=url, max_retries=0))
        return made[-1]

    yield connect
    for client in made:
        await client.close()


def asked(upstream: ScriptedUpstream) -> dict[str, Json]:
    """What the upstream was asked last."""
    return upstream.requests[-1].json


# Answers


async def test_echo(start: Start, connect: Connect) -> None:
    """A whole answer and a stream of the built-in agent say the same, with usage and sources."""
    client = connect(await start(ECHO))
    message = "注文 👩‍🚀\u2028 three"
    whole = await client.chat.completions.create(
        model="Support", messages=[{"role": "user", "content": message}]
    )
    (choice,) = whole.choices
    assert (choice.message.content, choice.finish_reason) == (message, "stop")
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert choice.message.annotations is not None
    assert choice.message.annotations[0].url_citation.url == "https://example.com/echo"
    stream = await client.chat.completions.create(
        model="Support", messages=[{"role": "user", "content": message}], stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == message
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].created > 1_700_000_000
    assert whole.id != chunks[0].id


@pytest.mark.parametrize("name", ["1", "Support", "help"])
async def test_an_agent_by_any_name(start: Start, connect: Connect, name: str) -> None:
    """`model` is an agent's id, name or alias, and comes back as it was said."""
    gateway = await start(config("", kind="echo", target="", agent='aliases = ["help"]'))
    answer = await connect(gateway).chat.completions.create(model=name, messages=[HI])
    assert answer.model == name


async def test_usage_in_a_stream(
    start: Start, connect: Connect, upstream: ScriptedUpstream
) -> None:
    """It has a chunk of its own, if it is asked for."""
    upstream.answers(openai_text("Your ", "order"))
    client = connect(await start(config(upstream.url)))
    stream = await client.chat.completions.create(
        model="1", messages=[HI], stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert {chunk.usage for chunk in chunks} == {None}
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 2)
    stream = await client.chat.completions.create(model="1", messages=[HI], stream=True)
    assert [chunk.usage async for chunk in stream if not chunk.choices] == []


async def test_a_hosted_agent(start: Start, connect: Connect, upstream: ScriptedUpstream) -> None:
    """An upstream that takes one message is told the history in it; no usage is made up."""
    finished: Json = {"type": "finish", "finishReason": "stop", "metadata": {"usage": {}}}
    upstream.answers(sse({"type": "text-delta", "text": "Here"}, finished))
    client = connect(await start(config(upstream.url, **HOSTED)))
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
        HI,
    ]
    answer = await client.chat.completions.create(model="1", messages=messages, temperature=0.1)
    assert (answer.choices[0].message.content, answer.usage) == ("Here", None)
    assert asked(upstream) == {
        "message": "The conversation so far:\nuser: Hello\nassistant: Hello!\n\nWhere is 7?",
        "stream": False,
    }


async def test_a_hosted_agent_is_found_again(
    start: Start, connect: Connect, upstream: ScriptedUpstream
) -> None:
    """The next request of the conversation goes on where the upstream's own one is."""
    finished: Json = {"type": "finish", "metadata": {"conversationId": "42"}}
    upstream.answers(sse({"type": "text-delta", "text": "Here"}, finished))
    client = connect(await start(config(upstream.url, **HOSTED)))
    await client.chat.completions.create(model="1", messages=[HI])
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        HI,
        {"role": "assistant", "content": [{"type": "text", "text": "Here"}]},
        {"role": "user", "content": [{"type": "text", "text": "Thanks"}]},
    ]
    await client.chat.completions.create(model="1", messages=messages)
    assert asked(upstream) == {"message": "Thanks", "conversationId": 42, "stream": False}


async def test_reasoning(start: Start, connect: Connect, upstream: ScriptedUpstream) -> None:
    """Clients that know the field see what the model thought."""
    thought: Json = {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]}
    upstream.answers(sse(thought, finish()))
    client = connect(await start(config(upstream.url)))
    stream = await client.chat.completions.create(model="1", messages=[HI], stream=True)
    deltas = [chunk.choices[0].delta async for chunk in stream]
    assert [getattr(delta, "reasoning_content", None) for delta in deltas] == [None, "Hm.", None]


# Requests


async def test_what_an_upstream_is_asked(
    start: Start, connect: Connect, upstream: ScriptedUpstream
) -> None:
    """The client's own messages, tools and parameters, but for what the config says."""
    upstream.answers(openai_text("{}"))
    target = 'model = "m", params = { temperature = 0.5 }'
    agent = 'instructions = "Be Acme."' + talking.TOOLS
    client = connect(await start(config(upstream.url, target=target, agent=agent)))
    image: Json = {"type": "image_url", "image_url": {"url": "https://acme.example/7.png"}}
    schema: Json = {"name": "s", "schema": {"type": "object"}, "strict": True}
    seen: Json = [{"type": "text", "text": "What is this?"}, image]
    messages: Json = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": seen},
    ]
    wanted: dict[str, Json] = {
        "top_p": 0.3,
        "seed": 7,
        "stop": ["\n"],
        "max_completion_tokens": 99,
        "response_format": {"type": "json_schema", "json_schema": schema},
        "tool_choice": {"type": "function", "function": {"name": "order_status"}},
        "parallel_tool_calls": False,
        "user": "u1",
    }
    body: dict[str, Json] = {
        **wanted,
        "messages": messages,
        "temperature": 2,
        "logprobs": True,
        "tools": [json.loads(json.dumps(TOOL))],
    }
    await client.chat.completions.create(model="1", messages=[HI], extra_body=body)
    told: list[Json] = [
        {"role": "system", "content": "Be Acme."},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": seen},
    ]
    assert asked(upstream) == {
        **wanted,
        "model": "m",
        "temperature": 0.5,
        "stream": False,
        "tools": body["tools"],
        "messages": told,
    }


class Order(BaseModel):
    number: int


async def test_a_parsed_answer(start: Start, connect: Connect, upstream: ScriptedUpstream) -> None:
    """`.parse()` sends the model's schema on, and makes one of the answer."""
    upstream.answers(openai_text('{"number"', ": 7}"))
    client = connect(await start(config(upstream.url)))
    answer = await client.chat.completions.parse(model="1", messages=[HI], response_format=Order)
    assert answer.choices[0].message.parsed == Order(number=7)
    schema = json.mapping(json.mapping(asked(upstream)["response_format"])["json_schema"])
    assert (schema["name"], schema["strict"]) == ("Order", True)


async def test_the_agents_own_tools(
    start: Start, connect: Connect, upstream: ScriptedUpstream
) -> None:
    """They are offered where the client offers none, and their calls reach the client."""
    upstream.answers(talking.calling(talking.call("call_1", '{"order":7}')))
    client = connect(await start(config(upstream.url, agent=talking.TOOLS)))
    stream = await client.chat.completions.create(model="1", messages=[HI], stream=True)
    chunks = [chunk async for chunk in stream]
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    names = [call.function.name for call in calls if call.function]
    fragments = [call.function.arguments or "" for call in calls if call.function]
    assert (names[0], "".join(fragments)) == ("order_status", '{"order":7}')
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert len(json.array(asked(upstream)["tools"])) == 2


# Tools


async def test_a_round_of_tools(start: Start, connect: Connect, upstream: ScriptedUpstream) -> None:
    """What the client's library keeps of a call goes back as it came, with the result."""
    made = talking.call("call_abc", '{"order":7}')
    upstream.answers(talking.calling(made), openai_text("It has shipped"))
    client = connect(await start(config(upstream.url)))
    first = await client.chat.completions.create(model="1", messages=[HI], tools=[TOOL])
    message = first.choices[0].message
    assert (first.choices[0].finish_reason, message.content) == ("tool_calls", None)
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.arguments) == ("call_abc", '{"order":7}')
    kept = json.mapping(json.loads(message.model_dump_json(exclude_none=True).encode()))
    result: Json = {"role": "tool", "tool_call_id": call.id, "content": "shipped"}
    history: list[Json] = [{"role": "user", "content": "Where is 7?"}, kept, result]
    second = await client.chat.completions.create(
        model="1", messages=[HI], tools=[TOOL], extra_body={"messages": history}
    )
    assert second.choices[0].message.content == "It has shipped"
    assert asked(upstream)["messages"] == [
        talking.user("Where is 7?"),
        talking.called(made),
        talking.found("call_abc", "shipped"),
    ]


async def test_the_stream_helper(
    start: Start, connect: Connect, upstream: ScriptedUpstream
) -> None:
    """`.stream()` puts parallel calls together, and parses the arguments of strict tools."""
    upstream.answers(
        sse(
            talking.delta(talking.call("call_1", "", 0)),
            talking.delta({"index": 0, "function": {"arguments": '{"order"'}}),
            talking.delta({"index": 0, "function": {"arguments": ": 7}"}}),
            talking.delta(talking.call("call_2", '{"order": 8}', 1)),
            finish("tool_calls"),
        )
    )
    client = connect(await start(config(upstream.url)))
    async with client.chat.completions.stream(model="1", messages=[HI], tools=[TOOL]) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.id, call.function.parsed_arguments) for call in calls] == [
        ("call_1", {"order": 7}),
        ("call_2", {"order": 8}),
    ]
    assert kinds.count("tool_calls.function.arguments.delta") >= 3
    assert final.choices[0].finish_reason == "tool_calls"


async def test_the_stream_helper_on_text(start: Start, connect: Connect) -> None:
    """`.stream()` ends with the whole text and its usage."""
    client = connect(await start(ECHO))
    async with client.chat.completions.stream(
        model="1", messages=[HI], stream_options={"include_usage": True}
    ) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == "Where is 7?"
    assert final.usage is not None


async def test_the_stream_helper_on_sources(
    start: Start, connect: Connect, upstream: ScriptedUpstream
) -> None:
    """`.stream()` puts the sources of several chunks together."""
    urls = [f"https://acme.example/{number}" for number in range(3)]
    cited: list[Json] = [{"type": "url_citation", "url_citation": {"url": url}} for url in urls]
    chunks: list[Json] = [
        {"choices": [{"index": 0, "delta": {"annotations": said}}]}
        for said in (cited[:1], cited[1:])
    ]
    upstream.answers(sse(*chunks, finish()))
    client = connect(await start(config(upstream.url)))
    async with client.chat.completions.stream(model="1", messages=[HI]) as stream:
        final = await stream.get_final_completion()
    annotations = final.choices[0].message.annotations
    assert annotations is not None
    assert [each.url_citation.url for each in annotations] == urls


# Errors


async def chat(client: openai.AsyncOpenAI, model: str = "1", stream: bool = False) -> object:
    return await client.chat.completions.create(model=model, messages=[HI], stream=stream)


Refusal = tuple[type[openai.APIStatusError], str | None, str]


async def refused(asking: Awaitable[object]) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await asking
    assert caught.value.request_id
    return caught.value


@pytest.mark.parametrize("stream", [False, True])
async def test_who_may_not(start: Start, connect: Connect, stream: bool) -> None:
    """Keys and agents that are unknown are the client's own exceptions, with OpenAI's codes."""
    gateway = await start(ECHO)
    wrong = await refused(chat(connect(gateway, "oc_test_wrong"), stream=stream))
    assert (type(wrong), wrong.code) == (openai.AuthenticationError, "invalid_api_key")
    assert wrong.type == "invalid_request_error"
    unknown = await refused(chat(connect(gateway), "gpt-4o", stream))
    assert (type(unknown), unknown.code) == (openai.NotFoundError, "model_not_found")


async def test_no_key(start: Start) -> None:
    """A request without a key says so in OpenAI's words."""
    body: Json = {"model": "1", "messages": [{"role": "user", "content": "hi"}]}
    answer = await (await start(ECHO)).post("/v1/chat/completions", body, key=None)
    assert (answer.status, answer.error["code"]) == (401, "missing_api_key")


async def test_a_bad_request(start: Start, connect: Connect) -> None:
    """The exception names the field."""
    client = connect(await start(ECHO))
    bad = await refused(client.chat.completions.create(model="1", messages=[]))
    assert (type(bad), bad.param) == (openai.BadRequestError, "messages")
    bad = await refused(client.chat.completions.create(model="1", messages=[HI], n=2))
    assert (type(bad), bad.param) == (openai.BadRequestError, "n")


async def test_too_many(start: Start, connect: Connect) -> None:
    """The client is told when to come back."""
    client = connect(await start(config("", kind="echo", target="", tier='requests = "1/60s"')))
    await chat(client)
    limited = await refused(chat(client))
    assert (type(limited), limited.code) == (openai.RateLimitError, "rate_limit_exceeded")
    assert 0 < int(limited.response.headers["retry-after"]) <= 60
    assert limited.response.headers["x-ratelimit-remaining"] == "0"


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (400, (openai.BadRequestError, None, "Unsupported value")),
        (401, (openai.InternalServerError, "upstream_error", "")),
        (402, (openai.RateLimitError, "insufficient_quota", "")),
        (429, (openai.RateLimitError, "rate_limit_exceeded", "")),
        (500, (openai.InternalServerError, "upstream_error", "")),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_an_upstream_refuses(
    start: Start,
    connect: Connect,
    upstream: ScriptedUpstream,
    status: int,
    refusal: Refusal,
    stream: bool,
) -> None:
    """Each refusal is one of the client's exceptions; only a 400's text is the upstream's."""
    told: Json = {"error": {"message": "Unsupported value", "type": "t", "code": "c"}}
    upstream.answers(document(told, status))
    client = connect(await start(config(upstream.url)))
    exception, code, text = refusal
    error = await refused(chat(client, stream=stream))
    assert (type(error), error.code) == (exception, code)
    assert ("Unsupported value" in error.message) is bool(text)


@pytest.mark.parametrize("broken", ["error", "truncated"])
async def test_a_stream_that_fails(
    start: Start, connect: Connect, upstream: ScriptedUpstream, broken: str
) -> None:
    """The client raises after what it has got; an early end does not look like a whole answer."""
    fault: Json = {"error": {"message": "pod 7 burns", "type": "server_error"}}
    failing = sse({"choices": [{"index": 0, "delta": {"content": "Your "}}]}, fault)
    upstream.answers(failing if broken == "error" else [*said("Your "), Close])
    client = connect(await start(config(upstream.url)))
    stream = await client.chat.completions.create(model="1", messages=[HI], stream=True)
    got: list[str | None] = []

    async def read() -> None:
        async for chunk in stream:
            got.append(chunk.choices[0].delta.content)  # noqa: PERF401 - what came before the end

    with pytest.raises(openai.APIError) as caught:
        await read()
    assert got == ["", "Your "]
    assert (caught.value.code, caught.value.type) == ("upstream_error", "server_error")
    assert "pod 7" not in caught.value.message


# Models

SALES_KEY = "oc_test_sales_0123456789abcdefghijklmnopqrstuvwxyz"
MORE = f"""
[upstreams.hosted]
kind = "bookbag"
base_url = "http://127.0.0.1:9"
[[agents]]
id = 5
workspace = "acme"
name = "Passed"
conversations = "passthrough"
targets = [ {{ upstream = "hosted", agent = 7 }} ]
[[agents]]
id = 2
workspace = "acme"
name = "Sales"
aliases = ["a/b"]
targets = [ {{ upstream = "main" }} ]
[[agents]]
id = 3
workspace = "acme"
name = "Old"
archived = true
targets = [ {{ upstream = "main" }} ]
[[agents]]
id = 4
workspace = "other"
name = "Theirs"
targets = [ {{ upstream = "main" }} ]
[[keys]]
id = "sales"
hash = "sha256:{hashlib.sha256(SALES_KEY.encode()).hexdigest()}"
workspace = "acme"
agents = [2]
tier = "standard"
"""


async def test_models(start: Start, connect: Connect) -> None:
    """Agents of the key's workspace are models, found by any of their names."""
    client = connect(await start(config("", kind="echo", target="", more=MORE)))
    models = [model async for model in client.models.list()]
    assert [(model.id, model.owned_by) for model in models] == [
        ("Support", "acme"),
        ("Sales", "acme"),
    ]
    assert (await client.models.retrieve("2")).id == "Sales"
    assert (await client.models.retrieve("a/b")).id == "Sales"
    for name in ("Old", "Theirs", "Passed", "gpt-4o"):
        error = await refused(client.models.retrieve(name))
        assert (type(error), error.code) == (openai.NotFoundError, "model_not_found")


async def test_models_of_a_key_for_some_agents(start: Start, connect: Connect) -> None:
    """Only they are listed; another one is forbidden."""
    gateway = await start(config("", kind="echo", target="", more=MORE))
    client = connect(gateway, SALES_KEY)
    assert [model.id async for model in client.models.list()] == ["Sales"]
    error = await refused(client.models.retrieve("Support"))
    assert (type(error), error.code) == (openai.PermissionDeniedError, "permission_denied")


async def test_models_are_counted_and_guarded(start: Start, connect: Connect) -> None:
    """They need a key, and take one from its bucket."""
    gateway = await start(config("", kind="echo", target="", tier='requests = "2/60s"'))
    error = await refused(connect(gateway, "oc_test_wrong").models.retrieve("1"))
    assert type(error) is openai.AuthenticationError
    client = connect(gateway)
    await client.models.retrieve("1")
    listed = await gateway.request("GET", "/v1/models")
    assert listed.headers["x-ratelimit-remaining"] == "0"
    assert listed.headers["x-request-id"]
    error = await refused(client.models.retrieve("1"))
    assert type(error) is openai.RateLimitError
    assert [line["operation"] for line in gateway.log_lines() if "operation" in line][
        -1
    ] == "models"


async def test_behind_a_mount(start: Start, connect: Connect) -> None:
    """All paths of the family move, and nothing stays at the old ones."""
    gateway = await start(
        config("", kind="echo", target="", server='[server.mounts]\nopenai = "/openai"')
    )
    client = connect(gateway, mount="/openai")
    assert (await client.models.retrieve("1")).id == "Support"
    assert await chat(client)
    error = await refused(chat(connect(gateway)))
    assert type(error) is openai.NotFoundError


@pytest.mark.parametrize(("method", "path", "status"), [("PUT", "", 405), ("GET", "/x", 404)])
async def test_what_is_not_there(start: Start, method: str, path: str, status: int) -> None:
    """Paths and methods that are not there are told in OpenAI's words."""
    answer = await (await start(ECHO)).request(method, f"/v1/chat/completions{path}")
    assert (answer.status, answer.error["type"]) == (status, "invalid_request_error")
