"""What an OpenAI-compatible upstream is asked."""

from collections.abc import Iterable, Iterator

from gateway.core.codec import Target, UpstreamRequest
from gateway.core.conversation import Role
from gateway.core.events import Json, ToolCall
from gateway.core.turn import Message, Prompt, Tool
from gateway.upstreams.tool_calls import arguments_text
from gateway.wire import json


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


def _messages(messages: Iterable[Message]) -> list[Json]:
    """Servers refuse a history with a call that is not answered by the messages right behind it,
    or with an answer to no call, and many one with an answer that says nothing: none of these is
    sent, or the conversation would be stuck for ever."""
    return [written for said, results in _rounds(messages) for written in _round(said, results)]


def _rounds(messages: Iterable[Message]) -> Iterator[tuple[Message, list[Message]]]:
    """Each message with the tools' results that follow it directly."""
    said: Message | None = None
    results: list[Message] = []
    for message in messages:
        if message.role is Role.TOOL:
            results.append(message)
            continue
        if said is not None:
            yield said, results
        said, results = message, []
    if said is not None:
        yield said, results


def _round(said: Message, results: list[Message]) -> Iterator[Json]:
    # Not by a set of all ids: servers use the ids of one answer again in the next.
    answers = {result.call_id: result.text for result in results}
    # An id counts once: a long result would be sent again for each call that has it.
    named = {call.call_id: call for call in said.tool_calls if call.call_id in answers}
    calls = list(named.values())
    if calls:
        made: list[Json] = [_call(call) for call in calls]
        yield {"role": said.role.value, "content": _content(said) or None, "tool_calls": made}
    elif said.role is not Role.ASSISTANT or said.text.strip():
        yield {"role": said.role.value, "content": _content(said)}
    for call in calls:
        yield {"role": "tool", "content": answers[call.call_id], "tool_call_id": call.call_id}


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
