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
        """Whether it has its name and all of its arguments, which are an object."""
        return (
            bool(self.name and self.fragments)
            and self.fragments[-1].rstrip().endswith("}")
            and isinstance(arguments(self.fragments), dict)
        )

    def add(self, name: str, fragment: str) -> list[Event]:
        """The events of one delta; arguments that come before the name wait for it."""
        events: list[Event] = []
        if name and not self.name:
            self.name = name
            events.append(ToolCallStart(self.call_id, name))
            fragment, self.fragments = "".join([*self.fragments, fragment]), []
        if fragment:
            self.fragments.append(fragment)
            if self.name:
                events.append(ToolCallDelta(self.call_id, fragment))
        return events


class ToolCalls:
    """The calls of one turn."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def __bool__(self) -> bool:
        return any(call.name for call in self._calls)

    def feed(self, deltas: Iterable[Json]) -> list[Event]:
        """The events of one `tool_calls` array."""
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, dict):
                events += self._feed(delta)
        return events

    def end(self) -> list[Event]:
        """Every call, complete; what never had a name was none."""
        return [
            ToolCall(call.call_id, call.name, arguments(call.fragments), call.echo)
            for call in self._calls
            if call.name
        ]

    def _feed(self, delta: dict[str, Json]) -> list[Event]:
        function = json.mapping(delta.get("function"))
        name = json.text(function.get("name"))
        call = self._find(json.identifier(delta.get("id")), delta.get("index"), name)
        if echo := delta.get("extra_content"):
            call.echo = echo
        return call.add(name, _fragment(function.get("arguments")))

    def _find(self, said_id: str | None, index: Json, name: str) -> _Call:
        for call in reversed(self._calls):
            same_index = call.index == index
            if said_id is not None and call.said_id is not None:
                same = call.said_id == said_id and (same_index or None in (index, call.index))
            elif index is not None:
                same = same_index
            else:
                same = not name and call is self._calls[-1]
            # A complete call does not begin again: what comes under its index with a name is the
            # next one.
            if same and not (name and call.complete()):
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


def arguments(fragments: Iterable[str]) -> Json:
    """The fragments' JSON; where the model wrote something else, their text as it stands."""
    text = "".join(fragments)
    try:
        value = json.loads(text.strip().encode() or b"{}")
    except json.InvalidJson:
        return text
    return text if value is None else value


def _fragment(said: Json) -> str:
    # Ollama by way of LiteLLM sends the arguments as an object.
    return json.dumps(said).decode() if isinstance(said, dict) else json.text(said)
