"""Streamed tool calls of OpenAI-compatible upstreams, put together.

Which call a fragment belongs to is told by its index and its id, and servers get either wrong:
no index (Gemini), index 0 for every parallel call (Ollama, LiteLLM), no id, the id or the name
repeated or blank on every fragment (LM Studio). So neither is trusted alone.

All of it takes time in proportion to what the upstream sends, whatever it sends.
"""

import re
from collections.abc import Iterable

from msgspec import Struct, field

from gateway.core.events import Event, Json, ToolCall, ToolCallDelta, ToolCallStart
from gateway.wire import json

# Each call costs some hundred times the bytes that begin one. A model makes a few in a turn, and
# OpenAI takes at most 128 tools.
MAX_CALLS = 1000

# What matters to where an object ends, and the characters that are escaped in its strings.
_OUTSIDE = re.compile(r'["{}]')
_INSIDE = re.compile(r'["\\]')


class _Extent:
    """Where a JSON object ends that comes in fragments; each character is looked at once."""

    def __init__(self) -> None:
        self.closed = False
        """Its last brace has come."""
        self.exceeded = False
        """So has something behind it, which makes the whole no JSON."""
        self._depth = 0
        self._quoted = False
        self._skip = 0

    def add(self, fragment: str) -> None:
        at, self._skip = self._skip, 0
        while not self.closed:
            found = (_INSIDE if self._quoted else _OUTSIDE).search(fragment, at)
            if found is None:
                self._skip = max(0, at - len(fragment))  # the fragment ended with a backslash
                return
            at = found.end()
            at += self._take(found[0])
        self.exceeded = self.exceeded or bool(fragment[at:].strip())

    def _take(self, character: str) -> int:
        """Note one character; how many are to be skipped behind it."""
        if character == "\\":
            return 1
        if character == '"':
            self._quoted = not self._quoted
        else:
            self._depth += 1 if character == "{" else -1
            self.closed = self._depth <= 0
        return 0


class _Call(Struct):
    call_id: str
    said_id: str | None
    """The upstream's own; None where it gave none, and we made one up."""
    number: int
    name: str = ""
    echo: Json = None
    fragments: list[str] = []
    _extent: _Extent = field(default_factory=_Extent)
    _looked_at: int = 0
    _whole: bool | None = None

    def complete(self) -> bool:
        """Whether it has its name and all of its arguments, which are an object."""
        if not self.name:
            return False
        # Only a call whose name is repeated is asked, so nothing is looked at before.
        for fragment in self.fragments[self._looked_at :]:
            self._extent.add(fragment)
        self._looked_at = len(self.fragments)
        if self._extent.closed and self._whole is None:
            # An object that is closed and no JSON becomes none by what follows.
            self._whole = isinstance(arguments(self.fragments), dict)
        return bool(self._whole) and not self._extent.exceeded

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


# The key of the newest call under an index whatever its id, or of an id whatever its index. No
# JSON is an object of this type.
_ANY = object()


class ToolCalls:
    """The calls of one turn, at most `MAX_CALLS`."""

    def __init__(self) -> None:
        self.oversized = False
        """There were more: what follows is lost."""
        self._calls: list[_Call] = []
        self._ids: set[str] = set()
        self._newest: dict[tuple[object, object], _Call] = {}
        """By the id and the index that it was opened with."""

    def __bool__(self) -> bool:
        return any(call.name for call in self._calls)

    def feed(self, deltas: Iterable[Json]) -> list[Event]:
        """The events of one `tool_calls` array."""
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, dict):
                events += self._feed(delta)
            if self.oversized:
                break
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
        said_id, index = json.identifier(delta.get("id")), _index(delta.get("index"))
        call = self._find(said_id, index, name) or self._open(said_id, index)
        if call is None:
            return []
        if echo := delta.get("extra_content"):
            call.echo = echo
        return call.add(name, _fragment(function.get("arguments")))

    def _find(self, said_id: str | None, index: object, name: str) -> _Call | None:
        """The newest call that this may be a part of.

        A complete call does not begin again: what comes under its index with a name is the next.
        """
        found = [
            call
            for call in self._possible(said_id, index, name)
            if call is not None and not (name and call.complete())
        ]
        return max(found, key=lambda call: call.number, default=None)

    def _possible(self, said_id: str | None, index: object, name: str) -> list[_Call | None]:
        newest = self._newest.get
        if index is None:
            last = self._calls[-1] if self._calls and not name else None
            if said_id is None:
                return [last]
            return [newest((said_id, _ANY)), last if last and last.said_id is None else None]
        if said_id is None:
            return [newest((_ANY, index))]
        return [newest((said_id, index)), newest((said_id, None)), newest((None, index))]

    def _open(self, said_id: str | None, index: object) -> _Call | None:
        number = len(self._calls) + 1
        if number > MAX_CALLS:
            self.oversized = True
            return None
        call_id = said_id or f"call_{number}"
        while call_id in self._ids:
            call_id = f"{call_id}_{number}"
        call = _Call(call_id, said_id, number)
        self._calls.append(call)
        self._ids.add(call_id)
        for key in ((said_id, index), (said_id, _ANY), (_ANY, index)):
            self._newest[key] = call
        return call


def _index(said: Json) -> object:
    """What can be a key; an array or an object is no index."""
    return None if isinstance(said, (list, dict)) else said


def arguments(fragments: Iterable[str]) -> Json:
    """The fragments' JSON; where the model wrote something else, their text as it stands."""
    text = "".join(fragments)
    try:
        value = json.loads(text.strip().encode() or b"{}")
    except json.InvalidJson:
        return text
    return text if value is None else value


def arguments_text(value: Json) -> str:
    """The reverse: what a model wrote that is no JSON goes back as it stands."""
    return value if isinstance(value, str) else json.dumps(value).decode()


def _fragment(said: Json) -> str:
    # Ollama by way of LiteLLM sends the arguments as an object.
    return json.dumps(said).decode() if isinstance(said, dict) else json.text(said)
