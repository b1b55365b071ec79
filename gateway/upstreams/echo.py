"""A model inside the gateway that says what it was told: for a first try, demos and tests.

It speaks OpenAI's protocol. `/tool NAME {json}` makes it call that tool.
"""

import re
from collections.abc import Iterator

from gateway.core.codec import Pause, Target, UpstreamKind
from gateway.core.conversation import Role
from gateway.core.events import Json
from gateway.core.turn import Prompt
from gateway.upstreams.openai import OPENAI
from gateway.wire import json
from gateway.wire.sse import frame

# Between two words, in seconds: as fast as a brisk model.
PAUSE = 0.02

_DONE = b"data: [DONE]\n\n"

# With the space that belongs to it, so that the words joined are the text.
_WORD = re.compile(r"\S+\s*|\s+")
_TOOL = re.compile(r"/tool ([A-Za-z0-9_-]{1,64}) (\{.*\})\s*", re.DOTALL)

_SOURCE: Json = {
    "type": "url_citation",
    "url_citation": {"title": "What you said", "url": "https://example.com/echo"},
}


def _script(target: Target, prompt: Prompt) -> Iterator[bytes | Pause]:
    pause = [Pause(PAUSE)] if prompt.stream else []
    model = target.model or "echo"
    for delta in _deltas(prompt):
        yield _chunk(model, {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        yield from pause
    reason = "tool_calls" if _tool(prompt) else "stop"
    yield _chunk(model, {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    yield _chunk(model, {"choices": [], "usage": _usage(prompt)})
    yield _DONE


def _deltas(prompt: Prompt) -> Iterator[Json]:
    yield {"role": "assistant", "content": ""}
    if call := _tool(prompt):
        yield from _call(f"call_{len(prompt.messages)}", *call)
        return
    for word in _WORD.findall(_answer(prompt)):
        yield {"content": word}
    yield {"annotations": [_SOURCE]}


def _answer(prompt: Prompt) -> str:
    last = prompt.messages[-1]
    return f"The tool answered: {last.text}" if last.role is Role.TOOL else last.text


def _tool(prompt: Prompt) -> tuple[str, str] | None:
    """The name and the arguments of the call that is asked for."""
    last = prompt.messages[-1]
    found = _TOOL.fullmatch(last.text) if last.role is Role.USER else None
    if found is None:
        return None
    try:
        json.loads(found[2].encode())
    except json.InvalidJson:
        return None
    return found[1], found[2]


def _call(call_id: str, name: str, arguments: str) -> Iterator[Json]:
    half = len(arguments) // 2
    first: Json = {"name": name, "arguments": arguments[:half]}
    yield {"tool_calls": [{"index": 0, "id": call_id, "type": "function", "function": first}]}
    yield {"tool_calls": [{"index": 0, "function": {"arguments": arguments[half:]}}]}


def _usage(prompt: Prompt) -> Json:
    """Words for tokens: an estimate."""
    asked = sum(len(message.text.split()) for message in prompt.messages)
    said = len((" ".join(_tool(prompt) or ()) or _answer(prompt)).split())
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _chunk(model: str, fields: dict[str, Json]) -> bytes:
    chunk = {"id": "chatcmpl-echo", "object": "chat.completion.chunk", "model": model, **fields}
    return frame(json.dumps(chunk))


ECHO = UpstreamKind(name="echo", family="echo", decoder=OPENAI.decoder, script=_script)
