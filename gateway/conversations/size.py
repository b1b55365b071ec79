"""How much memory messages take: an estimate, so that a store can say when it is full."""

from collections.abc import Iterable
from sys import getsizeof

from gateway.core.conversation import Part, StoredMessage
from gateway.core.events import Citations, Json, TextDelta, ToolCall, ToolOutput, Usage

_NUMBER = 32
# A text of ASCII, as nearly all are, beside its letters: not to ask Python is a third of the way.
_ASCII = getsizeof("")
# A message with its place in a tuple, its three numbers, and the tuple of its parts.
_MESSAGE = getsizeof(object.__new__(StoredMessage)) + 8 + 3 * _NUMBER + getsizeof(())
_PART = 8 + getsizeof(TextDelta(""))
_USAGE = getsizeof(Usage()) + 3 * _NUMBER


def size_of(messages: Iterable[StoredMessage]) -> int:
    """Bytes. Names of upstreams are the config's; what else is shared between messages (small
    numbers, empty strings) counts for each."""
    total = 0
    for said in messages:
        total += _MESSAGE
        for part in said.parts:
            if type(part) is TextDelta and part.text.isascii():
                total += _PART + _ASCII + len(part.text)
            else:
                total += 8 + _part(part)
        if said.usage is not None:
            total += _USAGE
        for name in (said.model, said.upstream_conversation, said.upstream_message):
            if name is not None:
                total += _ASCII + len(name)
    return total


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
