"""What Sonzai is asked: the whole conversation, in its three roles. Tools have none: their results
are told in words."""

from urllib.parse import quote

from gateway.core.codec import Target, UpstreamRequest
from gateway.core.events import Json
from gateway.core.turn import Prompt, Tool
from gateway.upstreams import folding
from gateway.wire import json

# What the gateway itself says in a chat: a target's params cannot say it instead.
_OWN = frozenset({"messages", "user_id", "session_id", "tool_definitions"})

# The client's own params that Sonzai knows.
_KNOWN = frozenset({"temperature"})


def request(target: Target, prompt: Prompt) -> UpstreamRequest:
    """A chat; there is no other answer than a stream."""
    body: dict[str, Json] = {
        **{name: value for name, value in prompt.params.items() if name in _KNOWN},
        **{name: value for name, value in target.params.items() if name not in _OWN},
        "messages": [
            {"role": role.value, "content": text} for role, text in folding.plain(prompt.messages)
        ],
    }
    named = {
        # Without one, all would be one user, and share what it remembers of them.
        "user_id": prompt.user_id or json.identifier(prompt.params.get("user")),
        "session_id": prompt.session_id,
        "model": prompt.model or target.model,
    }
    body |= {name: value for name, value in named.items() if value is not None}
    if prompt.tools:
        body["tool_definitions"] = [_tool(tool) for tool in prompt.tools]
    return UpstreamRequest(f"/api/v1/agents/{_segment(target.agent)}/chat", json.dumps(body))


def _segment(agent: str | None) -> str:
    # An agent may have any name, and dots alone would be a way up.
    named = agent or ""
    return quote(named, safe="") if named.strip(".") else named.replace(".", "%2E")


def _tool(tool: Tool) -> Json:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
