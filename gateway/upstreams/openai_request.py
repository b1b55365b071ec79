"""What an OpenAI-compatible upstream is asked."""

from collections.abc import Mapping, Sequence

from gateway.core.codec import Target, UpstreamRequest
from gateway.core.conversation import Role
from gateway.core.events import Json, ToolCall
from gateway.core.turn import Message, Prompt, Tool
from gateway.upstreams.tool_calls import arguments_text
from gateway.wire import json

_ROLES = {role: role.value for role in Role}
_ASSISTANT, _TOOL = Role.ASSISTANT, Role.TOOL


def request(target: Target, prompt: Prompt) -> UpstreamRequest:
    """A chat completion, streamed or whole."""
    body: dict[str, Json] = {
        **prompt.params,
        **target.params,
        "model": prompt.model or target.model,
        "messages": _messages(prompt.messages),
        "stream": prompt.stream,
    }
    if prompt.stream:
        body["stream_options"] = {"include_usage": True}
    else:
        body.pop("stream_options", None)
    if prompt.tools:
        body["tools"] = [_tool(tool) for tool in prompt.tools]
    if prompt.user_id:
        body["user"] = prompt.user_id
    return UpstreamRequest("/chat/completions", json.dumps(body))


def _messages(messages: Sequence[Message]) -> list[Json]:
    """Servers refuse a history with a call that is not answered by the messages right behind it,
    or with an answer to no call, and many one with an answer that says nothing: none of these is
    sent, or the conversation would be stuck for ever."""
    written: list[Json] = []
    for place, said in enumerate(messages):
        if said.role is _TOOL:
            continue  # it goes with its call
        if said.tool_calls and (called := _round(said, _results(messages, place + 1))):
            written += called
        elif said.role is not _ASSISTANT or said.text.strip():
            written.append({"role": _ROLES[said.role], "content": _content(said)})
    return written


def _results(messages: Sequence[Message], place: int) -> dict[str | None, str]:
    """What the tools' messages from this place on say, by the ids of their calls."""
    # Not by a set of all ids: servers use the ids of one answer again in the next.
    results = {}
    while place < len(messages) and (said := messages[place]).role is _TOOL:
        results[said.call_id] = said.text
        place += 1
    return results


def _round(said: Message, results: Mapping[str | None, str]) -> list[Json]:
    """A message with its calls, and their results; nothing if none is answered."""
    # An id counts once: a long result would be sent again for each call that has it.
    calls = {call.call_id: call for call in said.tool_calls if call.call_id in results}
    if not calls:
        return []
    made: list[Json] = [_call(call) for call in calls.values()]
    asked: Json = {"role": _ROLES[said.role], "content": _content(said) or None, "tool_calls": made}
    told: list[Json] = [
        {"role": "tool", "content": results[name], "tool_call_id": name} for name in calls
    ]
    return [asked, *told]


def _content(said: Message) -> Json:
    return said.text if said.content is None else said.content


def _call(call: ToolCall) -> Json:
    written: dict[str, Json] = {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments_text(call.arguments)},
    }
    return {**written, "extra_content": call.echo} if call.echo else written


def _tool(tool: Tool) -> Json:
    function: dict[str, Json] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}
