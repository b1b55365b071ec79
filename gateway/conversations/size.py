"""How much memory messages take: an estimate, so that a store can say when it is full."""

from collections.abc import Iterable
from sys import getsizeof

from gateway.core.events import Json, ToolCall
from gateway.core.turn import Message

_POINTER = 8


def size_of(messages: Iterable[Message]) -> int:
    """Bytes. What is shared between messages (small numbers, empty strings) counts for each."""
    return sum(map(_message, messages))


def _message(message: Message) -> int:
    own = getsizeof(message) + _POINTER + getsizeof(message.text) + getsizeof(message.call_id)
    if not message.tool_calls:
        return own
    return own + getsizeof(message.tool_calls) + sum(map(_call, message.tool_calls))


def _call(call: ToolCall) -> int:
    names = getsizeof(call) + getsizeof(call.call_id) + getsizeof(call.name)
    return names + _json(call.arguments) + _json(call.echo)


def _json(value: Json) -> int:
    # With a list of what is left, not by recursion: a model may nest its arguments deeply.
    total, left = 0, [value]
    while left:
        item = left.pop()
        total += getsizeof(item)
        if isinstance(item, dict):
            total += sum(map(getsizeof, item))
            left += item.values()
        elif isinstance(item, list):
            left += item
    return total
