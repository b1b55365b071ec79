"""Tool calls told apart over a whole conversation.

Servers give the calls of every answer the same ids (`call_0` at Ollama, the function's name at
Gemini), and clients know a call of a conversation by its id alone. So an id that an earlier turn
had gets another one, and the call remembers what its upstream calls it.
"""

from collections.abc import Set as AbstractSet

from msgspec.structs import replace

from gateway.core.codec import Decoder
from gateway.core.events import Event, ToolCall, ToolCallDelta, ToolCallStart, ToolOutput
from gateway.wire.json import MAX_IDENTIFIER

# What is left of an upstream's id beside our suffix: clients are to send the whole back.
_MAX_STEM = MAX_IDENTIFIER - 16


def distinct(decoder: Decoder, taken: AbstractSet[str]) -> Decoder:
    """The decoder, with no tool call named by an id that is `taken`."""
    return _Distinct(decoder, taken) if taken else decoder


class _Distinct:
    def __init__(self, decoder: Decoder, taken: AbstractSet[str]) -> None:
        self._decoder = decoder
        self._taken = taken
        self._names: dict[str, str] = {}
        self._used: set[str] = set()

    def feed(self, data: bytes) -> list[Event]:
        return [self._named(event) for event in self._decoder.feed(data)]

    def eof(self) -> list[Event]:
        return [self._named(event) for event in self._decoder.eof()]

    def lost(self) -> list[Event]:
        return [self._named(event) for event in self._decoder.lost()]

    def _named(self, event: Event) -> Event:
        if not isinstance(event, (ToolCallStart, ToolCallDelta, ToolCall, ToolOutput)):
            return event
        said_id = event.call_id
        call_id = self._names.get(said_id)
        if call_id is None:
            if isinstance(event, ToolOutput):
                return event  # of an earlier turn's call: that has its name
            call_id = self._name(said_id)
        if call_id == said_id:
            return event
        if isinstance(event, ToolCall):
            return replace(event, call_id=call_id, said_id=said_id)
        return replace(event, call_id=call_id)

    def _name(self, said_id: str) -> str:
        """One that nobody else has, also if the upstream's own ids look like ours."""
        name, number = said_id, 1
        while name in self._taken or name in self._used:
            number += 1
            name = f"{said_id[:_MAX_STEM]}_{number}"
        self._names[said_id] = name
        self._used.add(name)
        return name
