"""How much memory messages take: an estimate, so that a store can say when it is full."""

from collections.abc import Iterable
from sys import getsizeof

from gateway.core.conversation import Part, StoredMessage
from gateway.core.events import Citations, Json, ToolCall, ToolOutput, Usage

# A place in a tuple, and the three numbers of every message.
_OF_EACH = 8 + 3 * 32


def size_of(messages: Iterable[StoredMessage]) -> int:
    """Bytes. What is shared between messages (small numbers, empty strings) counts for each."""
    return sum(map(_message, messages))


def _message(message: StoredMessage) -> int:
    theirs = message.upstream_conversation, message.upstream_message
    names = filter(None, (message.model, message.upstream, *theirs))
    own = getsizeof(message) + _OF_EACH + getsizeof(message.parts) + _usage(message.usage)
    return own + sum(map(getsizeof, names)) + sum(map(_part, message.parts))


def _usage(usage: Usage | None) -> int:
    if usage is None:
        return 0
    figures = usage.input_tokens, usage.output_tokens, usage.credits
    return getsizeof(usage) + sum(map(getsizeof, figures))


def _part(part: Part) -> int:
    own = getsizeof(part)
    match part:
        case ToolCall():
            names = getsizeof(part.call_id) + getsizeof(part.name) + getsizeof(part.said_id)
            return own + names + _json(part.arguments) + _json(part.echo)
        case ToolOutput():
            return own + getsizeof(part.call_id) + _json(part.output)
        case Citations(items):
            known = (text for item in items for text in (item.url, item.title, item.snippet))
            return own + getsizeof(items) + sum(map(getsizeof, items)) + sum(map(getsizeof, known))
        case _:
            return own + getsizeof(part.text)


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
