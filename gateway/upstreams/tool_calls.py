"""Streamed tool calls of OpenAI-compatible upstreams, put together.

Which call a fragment belongs to is told by its index and its id, and servers get either wrong:
no index (Gemini), index 0 for every parallel call (Ollama, LiteLLM), no id, the id or the name
repeated or blank on every fragment (LM Studio). So neither is trusted alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.core.events import Event, Json, ToolCall, ToolCallDelta, ToolCallStart
from gateway.wire import json


@dataclass(slots=True)
class _Call:
    call_id: str
    said_id: str | None
    """The upstream's own; None where it gave none, and we made one up."""
    index: Json
    name: str = ""
    echo: Json = None
    fragments: list[str] = field(default_factory=list)

    def complete(self) -> bool:
        return self.arguments() is not None

    def arguments(self) -> Json:
        """The parsed arguments; None as long as they are no JSON."""
        try:
            return json.loads("".join(self.fragments).encode() or b"{}")
        except json.InvalidJson:
            return None

    def event(self) -> ToolCall:
        arguments = self.arguments()
        if arguments is None:
            arguments = "".join(self.fragments)
        return ToolCall(self.call_id, self.name, arguments, self.echo)


class ToolCalls:
    """The calls of one turn."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    def feed(self, deltas: Iterable[Json]) -> list[Event]:
        """The events of one `tool_calls` array."""
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, dict):
                events += self._feed(delta)
        return events

    def end(self) -> list[Event]:
        """Every call, complete."""
        return [call.event() for call in self._calls if call.name]

    def _feed(self, delta: dict[str, Json]) -> list[Event]:
        function = json.mapping(delta.get("function"))
        name = json.text(function.get("name"))
        call = self._find(json.identifier(delta.get("id")), delta.get("index"), name)
        events: list[Event] = []
        if name and not call.name:
            call.name = name
            events.append(ToolCallStart(call.call_id, name))
        if echo := delta.get("extra_content"):
            call.echo = echo
        if fragment := _fragment(function.get("arguments")):
            call.fragments.append(fragment)
            events.append(ToolCallDelta(call.call_id, fragment))
        return events

    def _find(self, said_id: str | None, index: Json, name: str) -> _Call:
        for call in reversed(self._calls):
            if said_id is not None and call.said_id is not None:
                same = call.said_id == said_id and call.index == index
            elif index is not None:
                same = call.index == index
            else:
                same = not name and call is self._calls[-1]
            # A call that has its name and all its arguments does not begin again: what comes
            # under its index with a name is the next one.
            if same and not (name and call.name and call.fragments and call.complete()):
                return call
        return self._open(said_id, index)

    def _open(self, said_id: str | None, index: Json) -> _Call:
        call_id = said_id or f"call_{len(self._calls) + 1}"
        taken = {call.call_id for call in self._calls}
        while call_id in taken:
            call_id = f"{call_id}_{len(self._calls) + 1}"
        call = _Call(call_id, said_id, index)
        self._calls.append(call)
        return call


def _fragment(arguments: Json) -> str:
    # Ollama by way of LiteLLM sends the arguments as an object.
    if isinstance(arguments, dict):
        return json.dumps(arguments).decode()
    return json.text(arguments)
