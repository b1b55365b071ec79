"""OpenAI's chat completion requests.

What is documented and can be honoured is read, or handed on to OpenAI-compatible upstreams as it
stands; every other field is ignored. A complaint names the field as OpenAI does: its `param`.
"""

from collections.abc import Mapping

from msgspec import Struct

from gateway.core.conversation import Role
from gateway.core.events import Json, ToolCall
from gateway.core.turn import ChatRequest, Message, Tool
from gateway.dialects.fields import USER_ID, Fields, fields
from gateway.wire import json

# What a request may further say, and an upstream of the family be told. Not among them is what
# comes back in no event (logprobs, audio): an upstream would be paid for what nobody gets.
PARAMS = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "response_format",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
    "prediction",
    "web_search_options",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
)

_ROLES: dict[str, Role] = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}

# Part types that are text, and the field it stands in.
_TEXTS = {"text": "text", "refusal": "refusal"}


def decode(body: Json, _agent: str | None, _headers: Mapping[str, str]) -> ChatRequest:
    """The request. Raises `GatewayError(INVALID_BODY)`."""
    read = fields(body)
    message, history = _asked(read)
    user, params = _user(read)
    if read.body.get("n") not in (None, 1):
        read.problems["n"] = "must be 1: there is one answer to a request"
    request = ChatRequest(
        agent=read.identifier("model"),
        message=message,
        stream=read.flag("stream", default=False),
        history=history,
        user_id=user,
        tools=_tools(read),
        params=params,
        include_usage=json.mapping(read.body.get("stream_options")).get("include_usage") is True,
    )
    read.check()
    return request


class _At(Struct, frozen=True):
    """Where in the body something stands."""

    read: Fields
    path: str

    def wrong(self, name: str, problem: str) -> None:
        self.read.problems[f"{self.path}.{name}"] = problem


def _asked(read: Fields) -> tuple[str | None, tuple[Message, ...]]:
    """The user's new message, where that is last and nothing but text, and what was said before."""
    said = _messages(read)
    roles = {message.role for message in said}
    if roles and Role.USER not in roles and roles != {Role.SYSTEM}:
        read.problems.setdefault("messages", "must hold a message with the role user")
    if not said or said[-1].content is not None:
        return None, tuple(said)
    # Instructions alone are what is asked: a hosted agent would be told nothing else.
    if said[-1].role is Role.USER or roles == {Role.SYSTEM}:
        return said[-1].text, tuple(said[:-1])
    return None, tuple(said)


def _messages(read: Fields) -> list[Message]:
    given = read.body.get("messages")
    if not isinstance(given, list) or not given:
        read.problems["messages"] = "is required and must be a non-empty array"
        return []
    messages = []
    for number, value in enumerate(given):
        messages.append(_message(_At(read, f"messages[{number}]"), json.mapping(value)))
        if read.problems:  # the first that is wrong is enough: there may be thousands
            return []
    return messages


def _message(at: _At, said: dict[str, Json]) -> Message:
    role = _ROLES.get(json.text(said.get("role")))
    if role is None:
        at.wrong("role", f"must be one of {', '.join(_ROLES)}")
        return Message(Role.USER, "")
    text, content = _content(at, said, role)
    calls = _calls(at, said) if role is Role.ASSISTANT else ()
    call_id = json.identifier(said.get("tool_call_id")) if role is Role.TOOL else None
    if role is Role.TOOL and call_id is None:
        at.wrong("tool_call_id", "is required and must be a non-empty string")
    return Message(role, text, calls, call_id, content)


def _content(at: _At, said: dict[str, Json], role: Role) -> tuple[str, Json]:
    """Its text; and the whole, where that is more."""
    content = said.get("content")
    if isinstance(content, str):
        return content, None
    if isinstance(content, list) and content:
        return _parts(at, content)
    if role is Role.ASSISTANT and content in (None, []):
        return json.text(said.get("refusal")), None
    at.wrong("content", "is required and must be a string or a non-empty array of parts")
    return "", None


def _parts(at: _At, parts: list[Json]) -> tuple[str, Json]:
    texts = []
    for number, value in enumerate(parts):
        part = json.mapping(value)
        kind = json.text(part.get("type"))
        text = part.get(_TEXTS.get(kind, ""))
        if isinstance(text, str):
            texts.append(text)
        elif not kind or kind in _TEXTS:
            at.wrong(f"content[{number}]", "must be a part with its type")
            break
    return "\n".join(texts), None if len(texts) == len(parts) else parts


def _calls(at: _At, said: dict[str, Json]) -> tuple[ToolCall, ...]:
    given = said.get("tool_calls")
    if given is None:
        return ()
    calls = [call for value in json.array(given) if (call := _call(json.mapping(value)))]
    if not isinstance(given, list) or len(calls) < len(given):
        at.wrong("tool_calls", "must be an array of function calls, each with its id and name")
    return tuple(calls)


def _call(said: dict[str, Json]) -> ToolCall | None:
    function = json.mapping(said.get("function"))
    call_id, name = json.identifier(said.get("id")), json.text(function.get("name"))
    if call_id is None or not name:
        return None
    arguments = _arguments(function.get("arguments"))
    return ToolCall(call_id, name, arguments, echo=said.get("extra_content"))


def _arguments(said: Json) -> Json:
    """The object that the text is; whatever else a model wrote stays as it stands."""
    if not isinstance(said, str):
        return said or {}
    try:
        value = json.loads(said.encode(errors="replace"))
    except json.InvalidJson:
        return said
    return value if isinstance(value, dict) else said


def _tools(read: Fields) -> tuple[Tool, ...]:
    given = read.body.get("tools")
    if given is None:
        return ()
    tools = [tool for value in json.array(given) if (tool := _tool(json.mapping(value)))]
    if not isinstance(given, list) or len(tools) < len(given):
        read.problems["tools"] = "must be an array of function tools, each with its name"
    return tuple(tools)


def _tool(said: dict[str, Json]) -> Tool | None:
    function = json.mapping(said.get("function"))
    name, strict = json.identifier(function.get("name")), function.get("strict")
    if name is None:
        return None
    return Tool(
        name,
        json.text(function.get("description")),
        json.mapping(function.get("parameters")) or {"type": "object", "properties": {}},
        strict if isinstance(strict, bool) else None,
    )


def _user(read: Fields) -> tuple[str | None, dict[str, Json]]:
    """The end user, and the parameters: OpenAI's `user` is any text, and what can be no id of a
    user here is only handed on."""
    params = {name: read.body[name] for name in PARAMS if read.has(name)}
    user = read.body.get("user")
    if user is None:
        return None, params
    if not isinstance(user, str):
        read.problems["user"] = "must be a string"
    elif USER_ID.fullmatch(user):
        return user, params
    return None, {**params, "user": user}
