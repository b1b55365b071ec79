"""A chat request in Sonzai's words, read.

What has no meaning for any target (language, timezone, game_context and the like) is ignored, as
any unknown field; so is `compiled_system_prompt`, for an agent's instructions are the config's.
"""

import re
from collections.abc import Mapping

from gateway.core.conversation import Role
from gateway.core.events import Json
from gateway.core.turn import ChatRequest, Message, Tool
from gateway.dialects.fields import Fields, fields
from gateway.wire import json

_ROLES = {role.value: role for role in (Role.SYSTEM, Role.USER, Role.ASSISTANT)}

# The answer names the session in a header: what cannot be in one would end there.
_SESSION = re.compile(r"[!-~]([ -~]{0,510}[!-~])?", re.ASCII)

_NO_PARAMETERS: dict[str, Json] = {"type": "object", "properties": {}}


def decode(body: Json, agent: str | None, _headers: Mapping[str, str]) -> ChatRequest:
    """The whole conversation, its last message the user's. Raises `GatewayError(INVALID_BODY)`."""
    read = fields(body)
    said = _messages(read)
    request = ChatRequest(
        agent=agent or "",
        message=said[-1].text if said else None,
        stream=True,
        history=tuple(said[:-1]),
        user_id=_optional(read, "user_id"),
        session_id=_session(read),
        model=_optional(read, "model"),
        tools=_tools(read),
        params=_params(read),
    )
    read.check()
    return request


def _messages(read: Fields) -> list[Message]:
    """Up to the first that is wrong: there may be very many."""
    value = read.body.get("messages")
    if not isinstance(value, list) or not value:
        read.problems["messages"] = "is required and must be a non-empty array"
        return []
    said: list[Message] = []
    for place, item in enumerate(value):
        message = _message(read, f"messages[{place}]", json.mapping(item))
        if message is None:
            return said
        said.append(message)
    if said[-1].role is not Role.USER or not said[-1].text.strip():
        read.problems["messages"] = "must end with a message of the user, with content"
    return said


def _message(read: Fields, path: str, item: dict[str, Json]) -> Message | None:
    role, content = _ROLES.get(json.text(item.get("role"))), item.get("content")
    if role is None:
        read.problems[f"{path}.role"] = 'must be "user", "assistant" or "system"'
    if not isinstance(content, str):
        read.problems[f"{path}.content"] = "is required and must be a string"
    if role is None or not isinstance(content, str):
        return None
    return Message(role, content)


def _optional(read: Fields, name: str) -> str | None:
    """A text; the service takes an empty one for none."""
    if read.body.get(name) == "":
        return None
    return read.string(name, longest=json.MAX_IDENTIFIER)


def _session(read: Fields) -> str | None:
    said = _optional(read, "session_id")
    if said is not None and not _SESSION.fullmatch(said):
        read.problems["session_id"] = "must be 1 to 512 printable ASCII characters"
    return said


def _params(read: Fields) -> dict[str, Json]:
    value = read.body.get("temperature")
    if value is None:
        return {}
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        read.problems["temperature"] = "must be a number"
    return {"temperature": value}


def _tools(read: Fields) -> tuple[Tool, ...]:
    """Up to the first that is wrong."""
    value = read.body.get("tool_definitions")
    if value is not None and not isinstance(value, list):
        read.problems["tool_definitions"] = "must be an array"
    tools: list[Tool] = []
    for place, item in enumerate(json.array(value)):
        tool = _tool(json.mapping(item))
        if tool is None:
            problem = "must have a name, and as parameters, if any, an object"
            read.problems[f"tool_definitions[{place}]"] = problem
            break
        tools.append(tool)
    return tuple(tools)


def _tool(item: dict[str, Json]) -> Tool | None:
    """`{"name","description","parameters"}`, or that as OpenAI's function."""
    item = json.mapping(item.get("function")) or item
    name, parameters = json.text(item.get("name")), item.get("parameters")
    if not 0 < len(name) <= json.MAX_IDENTIFIER:
        return None
    if parameters is not None and not isinstance(parameters, dict):
        return None
    return Tool(name, json.text(item.get("description")), parameters or _NO_PARAMETERS)
